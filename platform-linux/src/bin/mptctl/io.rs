//! `read`, `write`, `flush`, `verify`: a disk's blocks.

pub(crate) mod read;
pub(crate) mod source;
pub(crate) mod verify;
pub(crate) mod write;

use fusion_mpt_linux::disk::{Disk, find_target};
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::{Buffer, Host};
use serde::Serialize;

use crate::cli::{Global, Unit};
use crate::recovered::Recovered;
use crate::{open_unit, output};

/// The disk of the command line, and a buffer for its data.
pub(crate) fn disk(host: &mut dyn Host, unit: &Unit) -> Result<(Disk, Buffer), Error> {
    let target = find_target(host, unit.target)?;
    let buffer = host.allocate(fusion_mpt_linux::disk::MOST_BYTES as usize)?;
    let disk = Disk::identify(host, &buffer, target.id, unit.lun)?;
    Ok((disk, buffer))
}

#[derive(Serialize)]
struct Flushed {
    bus: String,
    target: u16,
    flushed: bool,
    recovery: Recovered,
}

/// Flushes a disk.
pub(crate) fn flush(global: &Global, unit: &Unit) -> Result<(), Error> {
    let recovery = open_unit(global, unit, 0, |host| {
        let (disk, _) = disk(host, unit)?;
        disk.flush(host)?;
        Ok(Recovered::of(host))
    })?;
    let bus = global.bus.to_string();
    let flushed = Flushed { bus, target: unit.target, flushed: true, recovery };
    output::print(global.json, "flush", &flushed, || {
        format!("target {} has put its cache on the medium\n{}", unit.target, recovery.text())
    })
}
