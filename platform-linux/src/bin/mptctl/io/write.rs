//! `write`.

use fusion_mpt::sgl::Direction;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::interrupt;
use serde::Serialize;

use super::disk;
use super::source::Source;
use crate::cli::{Global, Write};
use crate::progress::Progress;
use crate::recovered::Recovered;
use crate::{ask_before_writing, open_unit, output};

#[derive(Serialize)]
struct Done {
    bus: String,
    target: u16,
    lba: u64,
    blocks: u64,
    block_bytes: u32,
    flushed: bool,
    recovery: Recovered,
}

/// Writes blocks and flushes them.
pub(crate) fn run(global: &Global, arguments: &Write) -> Result<(), Error> {
    let mut source = Source::open(&arguments.source)?;
    let done = open_unit(global, &arguments.unit, 0, |host| {
        let (disk, buffer) = disk(host, &arguments.unit)?;
        let total = source.blocks(&disk)?;
        disk.check_range(arguments.lba, total)?;
        let image = host.images().iter().find(|image| image.serial == disk.serial);
        let whose = image.map_or_else(String::new, |image| format!(" ({})", image.path.display()));
        ask_before_writing(
            global,
            arguments.yes,
            &format!(
                "blocks {} to {} of target {}{whose} would be overwritten",
                arguments.lba,
                arguments.lba + total - 1,
                disk.target.0
            ),
        )?;
        let mut progress = Progress::new(!global.quiet && !global.json, "writing", total, "blocks");
        let mut at = 0;
        while at < total {
            interrupt::check()?;
            let blocks = (total - at).min(u64::from(disk.blocks_per_command())) as u32;
            let lba = arguments.lba + at;
            let block_bytes = disk.block_bytes as usize;
            let mut data = vec![0; blocks as usize * block_bytes];
            source.fill(at * block_bytes as u64, lba, block_bytes, &mut data)?;
            buffer.write(0, &data);
            disk.transfer(host, Direction::Write, lba, blocks, &buffer, 0)?;
            at += u64::from(blocks);
            progress.at(at, String::new);
        }
        disk.flush(host)?;
        progress.end();
        Ok(Done {
            bus: global.bus.to_string(),
            target: arguments.unit.target,
            lba: arguments.lba,
            blocks: total,
            block_bytes: disk.block_bytes,
            flushed: true,
            recovery: Recovered::of(host),
        })
    })?;
    output::print(global.json, "write", &done, || {
        let gone = if global.disks.is_empty() && !global.bus.is_real() {
            "; the disk was a temporary one and is gone now, name your own with --disk FILE"
        } else {
            ""
        };
        let recovery = done.recovery.text();
        format!(
            "{} blocks written from {} on, and flushed{gone}\n{recovery}",
            done.blocks, done.lba
        )
    })
}
