//! Register accesses for each I/O on QEMU's SAS1068, by the driver's own counts.
//!
//! Queue depth 32, random 4 KiB reads, one target. Polled as an interrupt handler would be: when
//! the line is raised and a millisecond, the usual moderation, has passed. Each reply costs one
//! read; the read that would only say "empty" is saved where nothing is outstanding.

#[path = "../tests/common/mod.rs"]
mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::qemu::Machine;
use common::{Random, Rig, command};
use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Direction;

const DEPTH: usize = 32;
const READS: usize = 4_096;
const BYTES: usize = 4096;
const DISK_BYTES: u64 = 64 << 20;
const MODERATION: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(120);

fn main() {
    let qemu = Machine::with_disks(1, DISK_BYTES).start();
    let mut rig: Rig<_> = Rig::new(qemu);
    let device = rig.device(0);
    rig.clear_attention(device);
    let data = rig.data(DEPTH * BYTES);
    let mut random = Random::new(1);
    rig.controller.interrupts(true);

    let (reads_before, writes_before) = rig.controller.register_accesses();
    let frames_before = rig.controller.counters().with_reply_frame;
    let mut free: Vec<usize> = (0..DEPTH).collect();
    let (mut submitted, mut completed, mut batches) = (0, 0, 0u64);
    let started = Instant::now();
    while completed < READS {
        while submitted < READS
            && let Some(slot) = free.pop()
        {
            let blocks = DISK_BYTES / 512 - 8;
            let cdb = Cdb::read(random.below(blocks), 8);
            let segments = [data.segment(slot * BYTES, BYTES)];
            let command = fusion_mpt::generation::Command {
                cookie: slot as u64,
                ..command(&cdb, Direction::Read, &segments)
            };
            rig.controller.submit_to_device(device, &command).expect("a slot is free");
            submitted += 1;
        }
        while !rig.bus.interrupt_pending() {
            assert!(started.elapsed() < LIMIT, "{completed} of {READS} reads after {LIMIT:?}");
            thread::yield_now();
        }
        thread::sleep(MODERATION);
        rig.controller.poll(|completion| {
            assert!(completion.outcome.is_good(), "{:?}", completion.outcome);
            free.push(completion.cookie as usize);
            completed += 1;
        });
        batches += 1;
    }
    let (reads, writes) = rig.controller.register_accesses();
    let (reads, writes) = (reads - reads_before, writes - writes_before);
    let frames = rig.controller.counters().with_reply_frame - frames_before;
    println!("{READS} reads in {batches} batches, {frames} reply frames");
    println!("figure mmio.mpi1.reads_per_io {:.4}", reads as f64 / READS as f64);
    println!("figure mmio.mpi1.writes_per_io {:.4}", (writes - frames) as f64 / READS as f64);
    println!("figure mmio.mpi1.reply_frames_per_io {:.4}", frames as f64 / READS as f64);
}
