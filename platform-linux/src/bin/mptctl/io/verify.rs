//! `verify`.

use fusion_mpt::sgl::Direction;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::interrupt;
use fusion_mpt_linux::pattern::first_difference;
use serde::Serialize;

use super::disk;
use super::source::Source;
use crate::cli::{Global, Verify};
use crate::progress::Progress;
use crate::recovered::Recovered;
use crate::{open_unit, output};

#[derive(Serialize)]
struct Done {
    bus: String,
    target: u16,
    lba: u64,
    blocks: u64,
    block_bytes: u32,
    same: bool,
    recovery: Recovered,
}

/// Compares blocks with what they should hold.
pub(crate) fn run(global: &Global, arguments: &Verify) -> Result<(), Error> {
    let mut source = Source::open(&arguments.source)?;
    let done = open_unit(global, &arguments.unit, 0, |host| {
        let (disk, buffer) = disk(host, &arguments.unit)?;
        let total = source.blocks(&disk)?;
        disk.check_range(arguments.lba, total)?;
        let mut progress =
            Progress::new(!global.quiet && !global.json, "comparing", total, "blocks");
        let mut at = 0;
        while at < total {
            interrupt::check()?;
            let blocks = (total - at).min(u64::from(disk.blocks_per_command())) as u32;
            let lba = arguments.lba + at;
            let block_bytes = disk.block_bytes as usize;
            let mut expected = vec![0; blocks as usize * block_bytes];
            let mut found = expected.clone();
            source.fill(at * block_bytes as u64, lba, block_bytes, &mut expected)?;
            disk.transfer(host, Direction::Read, lba, blocks, &buffer, 0)?;
            buffer.read(0, &mut found);
            if let Some(byte) = first_difference(&expected, &found) {
                return Err(Error::failed(format!(
                    "target {} differs at block {}, byte {}: it holds {:#04x}, expected was {:#04x}; the blocks before are as expected",
                    disk.target.0,
                    lba + (byte / block_bytes) as u64,
                    byte % block_bytes,
                    found.get(byte).copied().unwrap_or_default(),
                    expected.get(byte).copied().unwrap_or_default()
                )));
            }
            at += u64::from(blocks);
            progress.at(at, String::new);
        }
        progress.end();
        Ok(Done {
            bus: global.bus.to_string(),
            target: arguments.unit.target,
            lba: arguments.lba,
            blocks: total,
            block_bytes: disk.block_bytes,
            same: true,
            recovery: Recovered::of(host),
        })
    })?;
    output::print(global.json, "verify", &done, || {
        let recovery = done.recovery.text();
        format!("{} blocks from {} on are as expected\n{recovery}", done.blocks, done.lba)
    })
}
