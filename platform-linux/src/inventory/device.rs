//! Attached devices: where each is, what it says of itself, and whether it takes commands.

use fusion_mpt::outcome::Outcome;
use fusion_mpt::scsi::{Cdb, Sense, SenseKey};
use fusion_mpt::targets::Target;
use fusion_mpt::wire::config::pages::{AccessStatus, DeviceInfo};
use serde::Serialize;

use super::links::Phy;
use super::page::{is_mpi1, name};
use super::shelves::{Enclosure, Expander};
use crate::disk::{Disk, ask, run_once, settle};
use crate::error::Error;
use crate::host::{Buffer, Host, Request};
use crate::interrupt;

/// Bytes of the buffer for what a device says.
const ANSWER_BYTES: usize = 4096;

/// Whether a device can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It takes commands.
    Ready,
    /// It answers, and takes no commands for the medium: it starts, is stopped or has none.
    NotReady,
    /// It answered once, and no longer does.
    Missing,
    /// It answers with errors, or the controller cannot reach it.
    Failed,
}

impl State {
    /// The state in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NotReady => "not ready",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }
}

/// A target and everything about it.
#[derive(Clone, Debug, Serialize)]
pub struct Attached {
    /// Its target id.
    pub target: u16,
    /// DevHandle.
    pub handle: u16,
    /// SAS address of its port (SAS device page 0).
    pub sas_address: Option<String>,
    /// World wide name of the logical unit (vital product data page 0x83).
    pub wwn: Option<String>,
    /// Bus and target id that commands are sent to (MPI 1.x).
    pub bus_and_id: Option<String>,
    /// `SAS` or `SATA`.
    pub protocol: &'static str,
    /// What it is to SCSI: `disk`, `enclosure`, ...
    pub kind: &'static str,
    /// T10 vendor identification.
    pub vendor: String,
    /// Product identification.
    pub product: String,
    /// Product revision level.
    pub revision: String,
    /// Unit serial number, empty if it gives none.
    pub serial: String,
    /// Blocks.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Size in bytes.
    pub bytes: u64,
    /// Whether its write cache is on; `None` if it does not say.
    pub write_cache: Option<bool>,
    /// Handle of its enclosure.
    pub enclosure_handle: u16,
    /// Logical id of its enclosure.
    pub enclosure: Option<String>,
    /// Slot in it.
    pub slot: u16,
    /// DevHandle of the expander or controller before it.
    pub parent_handle: u16,
    /// Phy of the parent.
    pub phy: u8,
    /// Port of the controller.
    pub port: u8,
    /// The link to it in words.
    pub link: Option<&'static str>,
    /// Megabits per second of the link.
    pub megabits: Option<u32>,
    /// Whether it can be used.
    pub state: State,
    /// Why it cannot, empty if it can.
    pub trouble: String,
}

/// Asks each target what it is and how it does. What one answers or not changes nothing for the
/// others.
pub(super) fn all(
    host: &mut dyn Host,
    phys: Option<&[Phy]>,
    expanders: &[Expander],
    enclosures: &[Enclosure],
) -> Result<Vec<Attached>, Error> {
    let buffer = host.allocate(ANSWER_BYTES)?;
    let mut devices = Vec::new();
    for target in host.known_targets() {
        interrupt::check()?;
        let mut device = place(host, &target, phys, expanders, enclosures);
        if target.present {
            examine(host, &buffer, &target, &mut device)?;
        }
        devices.push(device);
    }
    Ok(devices)
}

/// What the controller knows of a target.
fn place(
    host: &dyn Host,
    target: &Target,
    phys: Option<&[Phy]>,
    expanders: &[Expander],
    enclosures: &[Enclosure],
) -> Attached {
    let page = &target.page;
    let own = phys.unwrap_or_default().iter();
    let all = own.chain(expanders.iter().flat_map(|expander| &expander.phys));
    let phy =
        all.into_iter().find(|phy| target.present && phy.attached_handle == Some(page.handle));
    let enclosure = enclosures.iter().find(|found| found.handle == page.enclosure_handle);
    let [bus, id] = page.address.to_be_bytes();
    Attached {
        target: target.id.0,
        handle: page.handle,
        sas_address: name(page.sas_address),
        wwn: None,
        bus_and_id: is_mpi1(host).then(|| format!("{bus}:{id}")),
        protocol: if page.is_sata() { "SATA" } else { "SAS" },
        kind: match DeviceInfo::from_bits_retain(page.device_info).contains(DeviceInfo::SEP) {
            true => "enclosure",
            false => "unknown",
        },
        vendor: String::new(),
        product: String::new(),
        revision: String::new(),
        serial: String::new(),
        blocks: 0,
        block_bytes: 0,
        bytes: 0,
        write_cache: None,
        enclosure_handle: page.enclosure_handle,
        enclosure: enclosure.and_then(|found| found.logical_id.clone()),
        slot: page.slot,
        parent_handle: page.parent_handle,
        phy: page.phy,
        port: page.port,
        link: phy.map(|phy| phy.link),
        megabits: phy.and_then(|phy| phy.megabits),
        state: State::Missing,
        trouble: "it no longer answers".into(),
    }
}

/// Asks a target that is there.
fn examine(
    host: &mut dyn Host,
    buffer: &Buffer,
    target: &Target,
    device: &mut Attached,
) -> Result<(), Error> {
    (device.state, device.trouble) = state(host, target)?;
    let disk = match Disk::identify(host, buffer, target.id, 0) {
        Ok(disk) => disk,
        Err(error) => {
            fatal(host, &error)?;
            if device.state == State::Ready {
                (device.state, device.trouble) = (State::Failed, error.to_string());
            }
            return Ok(());
        }
    };
    device.kind = disk.type_name();
    (device.blocks, device.block_bytes, device.bytes) =
        (disk.blocks, disk.block_bytes, disk.bytes());
    device.write_cache = disk.write_cache;
    device.vendor = disk.vendor;
    device.product = disk.product;
    device.revision = disk.revision;
    device.serial = disk.serial;
    match ask(host, buffer, (target.id, 0), Cdb::inquiry_vpd(0x83, 252), 252) {
        Ok(page) => device.wwn = unit_name(&page).and_then(name),
        Err(error) => fatal(host, &error)?,
    }
    Ok(())
}

/// What TEST UNIT READY says.
fn state(host: &mut dyn Host, target: &Target) -> Result<(State, String), Error> {
    let access = AccessStatus(target.page.access_status);
    if access != AccessStatus::NO_ERRORS {
        return Ok((State::Failed, access.name().to_owned()));
    }
    let unit = (target.id, 0);
    let ready = Cdb::test_unit_ready();
    let request = Request::without_data(unit, ready.as_bytes());
    let ended = match settle(host, unit).and_then(|()| run_once(host, &request)) {
        Ok(ended) => ended,
        Err(error) => {
            fatal(host, &error)?;
            return Ok((State::Failed, error.to_string()));
        }
    };
    let key = Sense::parse(&ended.sense).map(|sense| sense.key);
    let state = match &ended.outcome {
        outcome if outcome.is_good() => return Ok((State::Ready, String::new())),
        Outcome::Complete { .. } => match key {
            Some(SenseKey::HARDWARE_ERROR | SenseKey::MEDIUM_ERROR) => State::Failed,
            _ => State::NotReady,
        },
        Outcome::Failed(_) => State::Failed,
    };
    Ok((state, ended.describe()))
}

/// Lets an error pass that is the device's own; one that ends the session stays one.
fn fatal(host: &dyn Host, error: &Error) -> Result<(), Error> {
    use fusion_mpt::controller::Health;
    match (error, host.health()) {
        (Error::Interrupted, _) | (_, Health::Gone | Health::Offline) => Err(error.clone()),
        _ => Ok(()),
    }
}

/// The name of the logical unit in vital product data page 0x83: a designator of NAA format that is
/// associated with the unit (SPC-4 7.8.6.6).
fn unit_name(page: &[u8]) -> Option<u64> {
    let length = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    let mut rest = page.get(4..)?;
    rest = rest.get(..length).unwrap_or(rest);
    while let [_, kind, _, bytes, after @ ..] = rest {
        let designator = after.get(..usize::from(*bytes))?;
        if kind & 0x3f == 0x03 {
            let name: [u8; 8] = designator.get(..8)?.try_into().ok()?;
            return Some(u64::from_be_bytes(name));
        }
        rest = after.get(usize::from(*bytes)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_units_name_is_found_behind_other_designators_and_ports_are_left_alone() {
        let mut page = vec![0, 0x83, 0, 32];
        page.extend([0x02, 0x01, 0, 4, b'A', b'B', b'C', b'D']);
        page.extend([0x61, 0x93, 0, 8, 0x50, 0, 0, 0, 0, 0, 0, 1]);
        page.extend([0x01, 0x03, 0, 8, 0x50, 0, 0xc5, 0, 0, 0, 0x10, 0]);
        assert_eq!(unit_name(&page), Some(0x5000_c500_0000_1000));
        page.truncate(24);
        assert_eq!(unit_name(&page), None);
    }

    proptest! {
        #[test]
        fn product_data_of_any_bytes_is_read(page in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = unit_name(&page);
        }
    }
}
