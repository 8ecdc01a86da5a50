//! Inputs to begin with: honest runs, and one lie at a time.

mod recorder;

use std::fs;
use std::io;
use std::path::Path;

use fusion_mpt::generation::{Mpi1, Mpi2};
use fusion_mpt_mock::model::Chip;

/// Writes the seeds of each target into a folder of its name; how many there were.
///
/// # Errors
///
/// What making a folder or a file failed with.
pub fn write(folder: &Path) -> io::Result<usize> {
    let mut count = 0;
    for (target, seeds) in [
        ("hostile_controller", hostile_controller()),
        ("arbitrary_driver", arbitrary_driver()),
        ("targets_scsi", targets_scsi()),
        ("vfio_user_messages", vfio_user_messages()),
    ] {
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:04}")), seed)?;
        }
        count += seeds.len();
    }
    Ok(count)
}

/// What the driver does in a seed, in the input's bytes. See `hostile_controller.rs`.
mod script {
    /// Makes ready; starts and waits for the disks.
    pub(super) const START: &[u8] = &[16, 16];
    /// Makes ready by force; begins, with a trace.
    pub(super) const RESTART: &[u8] = &[17, 19];
    /// Reads a block of disk 0, twice; one in pieces of disk 1; unit ready; polls.
    pub(super) const WORK: &[u8] = &[
        16, 0x01, 5, 0, 16, 0x01, 9, 0, 16, 0x21, 7, 30, 1, 16, 0x0c, 0, 0, 13, 40, 22, 13, 40, 22,
        26, 9,
    ];
    /// A write, a command by its tag, one to nobody; time passes; polls.
    pub(super) const MORE: &[u8] = &[
        16, 0x09, 5, 0, 16, 0x81, 3, 2, 0, 16, 0x01, 3, 200, 99, 0, 13, 40, 22, 25, 12, 22, 26, 9,
    ];
    /// Abort task, logical unit reset, target reset, query task, with waiting and without; by queue
    /// and by doorbell.
    pub(super) const TASKS: &[u8] = &[
        16, 0x01, 5, 0, 29, 0x01, 0, 0, 13, 40, 22, 30, 16, 0x01, 5, 0, 31, 0x05, 0, 0, 31, 0x03,
        0, 0, 31, 0x87, 0, 0, 31, 0xc1, 0, 0, 31, 0xc2, 0, 0, 22,
    ];
    /// Pages, with waiting and without; a scan.
    pub(super) const PAGES: &[u8] = &[
        34, 1, 0, 0, 0, 0, 0, 60, 34, 0x12, 0, 255, 255, 0, 0, 60, 32, 0x10, 0, 0, 0, 0, 0, 13, 40,
        22, 33, 60, 35, 13, 40, 22, 26, 9,
    ];
    /// A queue of its own, with commands.
    pub(super) const QUEUES: &[u8] =
        &[36, 36, 37, 0x01, 5, 0, 0, 37, 0x09, 5, 1, 0, 13, 40, 38, 0, 38, 1];
    /// Commands that the device keeps.
    pub(super) const HELD: &[u8] = &[7, 1, 16, 0x01, 5, 0, 16, 0x01, 6, 0, 13, 40, 22];
    /// Commands that are late, and what becomes of them; a reset, and work after it.
    pub(super) const LATE: &[u8] = &[
        42, 0x14, 4, 9, 9, 9, 9, 9, 9, 9, 7, 1, 16, 0x01, 5, 0, 16, 0x01, 6, 0, 13, 40, 22, 44, 9,
        26, 9, 44, 30, 26, 9, 7, 0, 13, 40, 22, 41, 13, 40, 22, 44, 9, 26, 9,
    ];
    /// Commands that a reset hands back, after a queue was taken.
    pub(super) const HAND_BACK: &[u8] = &[
        42, 0x17, 40, 9, 9, 9, 9, 9, 9, 9, 36, 37, 0x01, 5, 0, 0, 16, 0x01, 5, 0, 41, 38, 0, 41,
        13, 90, 22, 44, 9, 26, 9, 40, 0, 37, 0x01, 5, 0, 0, 13, 40, 40, 0,
    ];
    /// Ends.
    pub(super) const END: &[u8] = &[39];
    /// Takes every slot, and again after they have come back, and after a reset.
    pub(super) const FULL: &[u8] = &[
        46, 9, 13, 250, 22, 22, 22, 46, 9, 13, 250, 22, 22, 22, 7, 1, 46, 9, 41, 13, 90, 22, 44, 5,
        7, 0, 46, 9, 13, 250, 22,
    ];
    /// Stops in order.
    pub(super) const STOP: &[u8] = &[43];
}

fn hostile_controller() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for chip in 0..4 {
        // Two disks, an expander, an eager firmware; tags and two queues.
        let header = |shape: u8, patience: u8| vec![chip, shape, patience, 20, 4, 1, 12, 96];
        let parts = [
            script::WORK,
            script::MORE,
            script::TASKS,
            script::PAGES,
            script::QUEUES,
            script::LATE,
            script::HAND_BACK,
            script::FULL,
        ];
        for part in parts {
            for shape in [2, 7, 18, 26] {
                let start = [script::START, part, script::END].concat();
                let again = [script::RESTART, script::WORK, script::STOP].concat();
                seeds.push([header(shape, 0x45), start, again].concat());
            }
        }
        // One lie, before the start and after it, at the first occasion and later.
        for occasion in 0..10 {
            for twist in 0..8 {
                for (skip, word) in [(0, 0xff), (2, 0x10), (9, 0x80), (31, 1)] {
                    let lie = [0, occasion << 4 | twist, skip, 1, 40, 0, word, 1, 0, 0, 0, 0, 0, 0];
                    let early = [&lie[..], script::START, script::WORK, script::END].concat();
                    seeds.push([header(18, 0x43), early].concat());
                    let part = parts[usize::from(skip) % parts.len()];
                    let late = [script::START, &lie[..], part, script::WORK, script::END].concat();
                    seeds.push([header(18, 0x43), late].concat());
                }
            }
        }
        // What the device does by itself, with commands out.
        let deeds: [&[u8]; 16] = [
            &[2, 0x1c, 0, 0x40, 1, 0, 2, 0, 9, 0, 4, 0, 4, 9, 0, 0x0a, 2],
            &[2, 0x0f, 0, 0x41, 0, 5, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0x16, 0, 0x11, 0, 1, 0, 0, 0, 0, 0, 0],
            &[2, 0x20, 0, 0x31, 1, 0, 0, 0, 1, 2, 0, 0, 9, 0, 0, 0],
            &[3, 0, 6, 0, 6, 0, 0, 0, 0, 0],
            &[3, 0, 1, 0, 6, 0, 0, 0x10, 0, 0],
            &[4, 0, 6, 0, 32, 0, 0, 9, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0x4b, 0],
            &[5, 1, 0x26, 25, 20],
            &[6, 1, 0x26, 100, 0, 25, 20],
            &[8, 2],
            &[9, 2],
            &[10, 200, 25, 20],
            &[11, 1, 25, 255, 25, 255],
            &[12, 0, 13, 90, 22, 26, 9, 12, 0, 13, 90, 22, 26, 9],
            &[15, 0x10, 0x27, 25, 250, 25, 250, 25, 250],
            &[14, 0xff, 0, 8, 0, 32, 0, 32, 64, 0, 1, 8, 0, 1, 0, 0, 0, 0],
        ];
        for deed in deeds {
            let after = [script::WORK, &[44, 40, 41, 44, 5, 26, 9], script::WORK].concat();
            let busy = [script::START, script::HELD, deed, &after, script::STOP].concat();
            seeds.push([header(18, 0x44), busy, script::START.to_vec()].concat());
            let before = [deed, script::START, script::WORK, script::END].concat();
            seeds.push([header(2, 0x44), before].concat());
        }
    }
    seeds
}

fn arbitrary_driver() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (index, chip) in Chip::ALL.into_iter().enumerate() {
        // Disks in memory and in a file, of 4096-byte blocks, SATA; an expander; both copies.
        for shape in [0x02, 0x06, 0x0a, 0x0e, 0x22, 0x12] {
            let tapes = if chip.is_mpi1() {
                recorder::tapes::<Mpi1>(chip, shape)
            } else {
                recorder::tapes::<Mpi2>(chip, shape)
            };
            for tape in tapes {
                seeds.push([vec![index as u8, shape], tape].concat());
            }
        }
    }
    seeds
}

fn targets_scsi() -> Vec<Vec<u8>> {
    let lengths = [6, 10, 10, 32, 16, 12, 12, 12];
    let seed = |opcode: u8| {
        let length = lengths[usize::from(opcode >> 5)];
        let mut seed = vec![opcode & 0x0f];
        // Every service action: what the disk does not know costs nothing.
        for action in 0..32 {
            let mut cdb = vec![0; length];
            (cdb[0], cdb[1], cdb[length - 2]) = (opcode, action, 1);
            if length == 32 {
                (cdb[1], cdb[7], cdb[9]) = (0, 24, action);
            }
            seed.push(0x80);
            seed.extend(cdb);
            seed.extend([4, 0, 0, 0, 0]);
        }
        seed
    };
    (0..=0xff).map(seed).collect()
}

fn vfio_user_messages() -> Vec<Vec<u8>> {
    use crate::vfio_user_messages::operation::{
        INTERRUPTS, MAP, MESSAGE, RAW, READ, RESET, UNMAP, WRITE,
    };
    let mut seeds = Vec::new();
    // A bus master, memory below 4 GiB that cannot shrink and above it that can, interrupts.
    let set_up: &[u8] = &[
        WRITE, 7, 4, 0, 2, 6, 4, MAP, 1, 0, 1, 0, 0, 64, 0, MAP, 2, 0, 0, 0x10, 0, 32, 8,
        INTERRUPTS, 4, 2, 0x24, 0, 1,
    ];
    for (index, chip) in Chip::ALL.into_iter().enumerate() {
        let index = index as u8;
        let asks: Vec<u8> = (4..16)
            .flat_map(|command| [MESSAGE, command, 0, 12, 16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0])
            .collect();
        seeds.push([&[index, 1], set_up, &asks].concat());
        // All of the configuration space and a part of each BAR, then changed and read again.
        let mut space = Vec::new();
        for offset in (0..=0xfc).step_by(4) {
            space.extend([READ, 7, offset, 0, 4]);
        }
        seeds.push([&[index, 1], &space[..]].concat());
        let mut space = Vec::new();
        for offset in (0..=0xfc).step_by(4) {
            space.extend([WRITE, 7, offset, 0, 4, 0xff, 0xff, 0xff, 0xff]);
        }
        seeds.push([&[index, 1], &space[..]].concat());
        for kind in 0..6 {
            for flags in [0x21, 0x22, 0x24, 0x09, 0x0a, 0x0c, 0x11, 0x12, 0x14] {
                let set = [INTERRUPTS, 4, kind, flags, 0, 1, INTERRUPTS, 0, kind, 0x21, 0, 0];
                seeds.push([&[index, 1], set_up, &set].concat());
            }
        }
        let ends = [UNMAP, 0, 1, 0, 0, 64, 0, RESET, UNMAP, 0, 0, 0, 0, 0, 2, RAW, 4, 1, 2, 3, 4];
        seeds.push([&[index, 0], set_up, &ends].concat());
        let tapes = if chip.is_mpi1() {
            recorder::tapes::<Mpi1>(chip, 0x42)
        } else {
            recorder::tapes::<Mpi2>(chip, 0x42)
        };
        // The registers are behind the second BAR, but for the newest chip's.
        let region = if index == 3 { 0 } else { 1 };
        for tape in &tapes[..2] {
            let messages = recorder::as_messages(tape, region);
            seeds.push([&[index, 1], set_up, &messages].concat());
        }
    }
    seeds
}
