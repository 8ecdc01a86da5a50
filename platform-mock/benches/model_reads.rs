//! How many 4 KiB reads a second the driver gets from each model with a thread of its own:
//! `cargo bench -p fusion-mpt-mock`. Two processors to itself are assumed.

#[allow(unreachable_pub, dead_code, reason = "shared with the tests")]
#[path = "../tests/driver/mod.rs"]
mod driver;

use std::time::Instant;

use driver::{BLOCK, Rig, stream};
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::targets::TargetId;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::in_process::Options;
use fusion_mpt_mock::model::{Chip, disks};

const READS: u64 = 500_000;

fn reads_per_second<G: Generation>(chip: Chip, depth: u64) {
    let mut rig = Rig::<G>::new(Options::threaded(chip, disks(1, 16 << 20)));
    rig.clear_attention(TargetId(0));
    let dma = rig.bus.allocate(depth as usize * BLOCK, 4096).expect("room");
    stream(&mut rig, depth, depth, false, &dma);
    let started = Instant::now();
    stream(&mut rig, READS, depth, true, &dma);
    let rate = READS as f64 / started.elapsed().as_secs_f64();
    println!("model.{}.reads_per_second {rate:.0}", chip.name);
}

fn main() {
    reads_per_second::<Mpi1>(Chip::SAS1068, 64);
    for chip in [Chip::SAS2008, Chip::SAS3008, Chip::SAS3816] {
        reads_per_second::<Mpi2>(chip, 128);
    }
}
