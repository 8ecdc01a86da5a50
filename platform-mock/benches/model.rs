//! How many 4 KiB reads a second the driver gets from each model with a thread of its own, on
//! `cargo xtask bench model`.
//!
//! The disk is 16 MiB of memory, written whole before, and each read takes a block of it at
//! random, so that every read copies a page of its own. `reads_per_second` is measured with the
//! bus's thread and the driver's bound to the same processor: one core does everything.
//! `reads_per_second_two_cores` lets them have a processor each. Both are the best of some runs, as
//! whatever else runs on the machine can only make it slower.

#[path = "../tests/driver/mod.rs"]
mod driver;

use std::thread;
use std::time::Instant;

use driver::{BLOCK, Rig, command};
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::platform::DmaRegion;
use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Segment;
use fusion_mpt::targets::TargetId;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::in_process::{MockDma, Options};
use fusion_mpt_mock::model::{Chip, disks};

const READS: u64 = 300_000;
const RUNS: usize = 3;
const DISK_BYTES: u64 = 16 << 20;
const DISK_PAGES: u64 = DISK_BYTES / BLOCK as u64;

/// Runs `count` commands, `depth` at a time; `page` says which 4 KiB of the disk is next.
fn stream<G: Generation>(
    rig: &mut Rig<G>,
    count: u64,
    read: bool,
    dma: &MockDma,
    free: &mut Vec<u64>,
    mut page: impl FnMut() -> u64,
) {
    let (mut submitted, mut done) = (0, 0);
    while done < count {
        while submitted < count
            && let Some(buffer) = free.pop()
        {
            let address = dma.bus().offset(buffer * BLOCK as u64);
            let segments = [Segment { address, length: BLOCK as u32 }];
            let lba = page() * (BLOCK as u64 / 512);
            let cdb = if read { Cdb::read(lba, 8) } else { Cdb::write(lba, 8) };
            rig.driver
                .submit(TargetId(0), &command(&cdb, &segments, read, buffer))
                .expect("a slot for each of the commands in flight");
            submitted += 1;
        }
        let found = rig.driver.poll(|completion| {
            assert!(completion.outcome.is_good(), "{:?}", completion.outcome);
            free.push(completion.cookie);
            done += 1;
        });
        if found == 0 {
            thread::yield_now();
        }
    }
}

fn reads_per_second<G: Generation>(chip: Chip, depth: u64) -> f64 {
    let mut rig = Rig::<G>::new(Options::threaded(chip, disks(1, DISK_BYTES)));
    rig.clear_attention(TargetId(0));
    let dma = rig.bus.allocate(depth as usize * BLOCK, 4096).expect("room for the buffers");
    let mut free: Vec<u64> = (0..depth).collect();
    let mut next = 0;
    stream(&mut rig, DISK_PAGES, false, &dma, &mut free, || {
        next += 1;
        next - 1
    });
    let mut random = 1_u64;
    let runs = (0..RUNS).map(|_| {
        let started = Instant::now();
        stream(&mut rig, READS, true, &dma, &mut free, || {
            random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (random >> 33) % DISK_PAGES
        });
        READS as f64 / started.elapsed().as_secs_f64()
    });
    runs.fold(0.0, f64::max)
}

/// Binds this thread, and so those that it starts, to one of the processors it may run on.
#[cfg(target_os = "linux")]
fn bind_to_one_processor() {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None).expect("the processors of this thread");
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu)).expect("a processor");
    let mut one = CpuSet::new();
    one.set(last);
    sched_setaffinity(None, &one).expect("a processor that this thread may run on");
}

fn measure<G: Generation>(chip: Chip, depth: u64) {
    let name = chip.name;
    println!(
        "figure model.{name}.reads_per_second_two_cores {:.0}",
        reads_per_second::<G>(chip, depth)
    );
    #[cfg(target_os = "linux")]
    {
        let one = thread::spawn(move || {
            bind_to_one_processor();
            reads_per_second::<G>(chip, depth)
        });
        let rate = one.join().expect("the measuring thread ends");
        println!("figure model.{name}.reads_per_second {rate:.0}");
    }
}

fn main() {
    measure::<Mpi1>(Chip::SAS1068, 64);
    for chip in [Chip::SAS2008, Chip::SAS3008, Chip::SAS3816] {
        measure::<Mpi2>(chip, 128);
    }
}
