//! `trace`: what passes, in words, while disks are found, asked, read and flushed.

use std::cell::RefCell;
use std::rc::Rc;

use fusion_mpt::sgl::Direction;
use fusion_mpt_linux::disk::Disk;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::Host;
use fusion_mpt_linux::open::with_host;
use fusion_mpt_linux::session::{Options, TraceSink};
use serde::Serialize;

use crate::cli::{Global, Trace};
use crate::{COMMANDS, options, output};

#[derive(Serialize)]
struct Traced {
    bus: String,
    lines: Vec<String>,
}

/// Shows what passes.
pub(crate) fn run(global: &Global, arguments: &Trace) -> Result<(), Error> {
    let kept = Rc::new(RefCell::new(Vec::new()));
    let sink: TraceSink = if global.json {
        let kept = Rc::clone(&kept);
        Box::new(move |line| kept.borrow_mut().push(line.to_owned()))
    } else {
        // A reader that has gone away ends the output, not the controller's orderly end.
        Box::new(|line| drop(output::raw(format!("{line}\n").as_bytes())))
    };
    let options = Options { trace: Some(sink), ..options(global, COMMANDS) };
    with_host(options, |host| scenario(host, arguments.blocks))?;
    let traced = Traced { bus: global.bus.to_string(), lines: kept.take() };
    if global.json { output::print(true, "trace", &traced, String::new) } else { Ok(()) }
}

fn scenario(host: &mut dyn Host, blocks: u32) -> Result<(), Error> {
    let buffer = host.allocate(fusion_mpt_linux::disk::MOST_BYTES as usize)?;
    for target in host.targets() {
        fusion_mpt_linux::interrupt::check()?;
        let disk = Disk::identify(host, &buffer, target.id, 0)?;
        if disk.blocks == 0 {
            continue;
        }
        let blocks = blocks.min(disk.blocks_per_command());
        let blocks = u64::from(blocks).min(disk.blocks) as u32;
        disk.transfer(host, Direction::Read, 0, blocks, &buffer, 0)?;
        disk.flush(host)?;
    }
    Ok(())
}
