//! Logical units for whoever speaks NBD: the fallback where the kernel has no ublk, over a Unix
//! socket or the loopback interface.
//!
//! ```text
//! clients ── sockets ── connection ── haggling: options, until an export is chosen
//!                           │
//!                           └── request ── served: tags ── engine ── queue ── controller
//! ```
//!
//! One thread does it all, the one that polls the controller: [`Server::turn`] takes what clients
//! have sent, polls the engine, and sends what it answered; it never waits. Data goes between a
//! client's socket and the buffer of an engine's tag without a stop, but for what came along with a
//! header. A request larger than a buffer is spread over several tags and answered as one.
//!
//! The protocol is fixed newstyle with simple or structured replies (`doc/proto.md` of the project
//! NetworkBlockDevice/nbd). Clients are not trusted: every length is bounded, every wait has an end
//! ([`HANDSHAKE_LIMIT`], [`STALL_LIMIT`]), and there are [`MOST_CONNECTIONS`] at most.
//!
//! [`attach`] hands a connection to the kernel's own client, so that `/dev/nbdN` appears.

mod address;
pub mod attach;
mod connection;
mod exports;
mod haggling;
pub mod manager;
mod netlink;
mod request;
mod served;
mod server;
mod serving;
mod transfer;
mod wire;

use std::time::Duration;

pub use address::Address;
pub use server::Server;
pub use wire::TransmissionFlags;

use crate::export::unit::Unit;
use exports::Export;

/// Clients at once.
pub const MOST_CONNECTIONS: usize = 64;
/// How long a client may take to choose an export, from its first byte to its last.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);
/// How long a client may neither send the data it announced nor take the data it asked for.
pub const STALL_LIMIT: Duration = Duration::from_secs(30);
/// The most data of one request: what the protocol wants a server to take from clients that were
/// told of no limit.
const MOST_BYTES: u32 = 32 << 20;

/// What a unit is said to be able to do.
///
/// A flush is offered whatever the unit says of its cache: it costs little, and a unit that says
/// nothing may have one. FUA is the engine's promise, which it keeps by a flush where it must.
#[must_use]
pub fn flags_of(unit: &Unit) -> TransmissionFlags {
    use TransmissionFlags as Can;
    let mut flags = Can::HAS_FLAGS | Can::SEND_FLUSH | Can::SEND_FUA | Can::CAN_MULTI_CONN;
    flags.set(Can::READ_ONLY, unit.read_only);
    flags.set(Can::ROTATIONAL, unit.rotational);
    flags.set(Can::SEND_TRIM, unit.discard.is_some());
    flags.set(Can::SEND_WRITE_ZEROES | Can::SEND_FAST_ZERO, unit.write_zeroes.is_some());
    flags
}

/// The names a unit is exported under: its world wide name, if it has one, and `target0`, or
/// `target0.1` for logical unit 1.
#[must_use]
pub fn names_of(unit: &Unit) -> Vec<String> {
    let place = match unit.lun {
        0 => format!("target{}", unit.target.0),
        lun => format!("target{}.{lun}", unit.target.0),
    };
    unit.name.iter().map(|name| name.hex()).chain([place]).collect()
}

fn export_of(unit: &Unit, most_bytes: u32) -> Export {
    let preferred = unit.physical_block_bytes.max(4096);
    Export {
        names: names_of(unit),
        description: [&unit.vendor, &unit.product, &unit.serial]
            .map(|part| part.trim())
            .join(" ")
            .trim()
            .to_owned(),
        bytes: unit.bytes(),
        block_bytes: unit.block_bytes,
        preferred_bytes: preferred,
        most_bytes: most_bytes.max(preferred),
        flags: flags_of(unit),
    }
}
