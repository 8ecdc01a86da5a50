//! Register accesses for each I/O on an MPI2 controller, by the driver's own counts.
//!
//! Queue depth 32, 4 KiB reads: each request is one post, each drained batch one host index write,
//! and nothing is read. MPI1 needs a controller with FIFOs of its own: the benchmark of the same
//! name in `platform-mock` counts on QEMU's.

#[path = "common/null_device.rs"]
#[allow(dead_code, reason = "MPI2 alone is counted here")]
mod null_device;
#[path = "common/workload.rs"]
#[allow(dead_code, reason = "one round is enough")]
mod workload;

use fusion_mpt::generation::Mpi2;
use null_device::{Kind, Rig};

const DEPTH: usize = 32;
const BATCHES: u64 = 1_000;

fn main() {
    if std::env::args().any(|argument| argument == "--scenario") {
        return;
    }
    let mut rig = Rig::<Mpi2>::new(Kind::Mpi2);
    let (reads, writes) = rig.controller.register_accesses();
    for batch in 0..BATCHES {
        workload::batch_mpi2(&mut rig, DEPTH, batch * DEPTH as u64);
    }
    let (reads_after, writes_after) = rig.controller.register_accesses();
    let commands = BATCHES * DEPTH as u64;
    let (reads, writes) = (reads_after - reads, writes_after - writes);
    println!("figure mmio.mpi2.reads_per_io {:.4}", reads as f64 / commands as f64);
    println!("figure mmio.mpi2.writes_per_io {:.4}", writes as f64 / commands as f64);
    let for_batches = (writes - commands) as f64 / BATCHES as f64;
    println!("figure mmio.mpi2.writes_per_batch {for_batches:.4}");
}
