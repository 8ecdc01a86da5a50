//! What is done to the driver: 4 KiB reads with one segment, each built anew.

use fusion_mpt::generation::{Command, Mpi1, Mpi2, TaskAttribute};
use fusion_mpt::platform::{BusAddr, Registers};
use fusion_mpt::scsi::{Cdb, Lun};
use fusion_mpt::sgl::{Direction, Segment};

use crate::null_device::Rig;

/// Bytes of each read.
pub(crate) const BYTES: u32 = 4096;
/// 512-byte blocks of each read.
pub(crate) const BLOCKS: u16 = 8;

/// Where the data of I/O `number` goes, and from which block it comes: never twice the same.
#[inline]
pub(crate) fn place(number: u64) -> (u32, u64) {
    let lba = (number as u32).wrapping_mul(u32::from(BLOCKS));
    (lba, 0x10_0000_0000 + u64::from(number as u16) * u64::from(BYTES))
}

macro_rules! batch {
    ($name:ident, $generation:ty, $complete:ident) => {
        /// Submits `depth` commands, lets the device answer, and polls until all have completed.
        /// Returns the sum of their cookies.
        #[inline(never)]
        pub(crate) fn $name(rig: &mut Rig<$generation>, depth: usize, first: u64) -> u64 {
            for number in first..first + depth as u64 {
                let (lba, address) = place(number);
                let cdb = Cdb::read_10(lba, BLOCKS);
                let segments = [Segment { address: BusAddr(address), length: BYTES }];
                let command = Command {
                    lun: Lun::ZERO,
                    cdb: &cdb,
                    direction: Direction::Read,
                    data_length: BYTES,
                    segments: &segments,
                    attribute: TaskAttribute::Simple,
                    tag: None,
                    timeout_ms: 0,
                    cookie: number,
                };
                rig.controller.submit(rig.target, &command).expect("a slot is free");
            }
            rig.device.$complete(rig.memory);
            let (mut sum, mut completed) = (0u64, 0);
            while completed < depth {
                let found = rig.controller.poll(|completion| {
                    assert!(completion.outcome.is_good());
                    sum = sum.wrapping_add(completion.cookie);
                    completed += 1;
                });
                assert!(found > 0, "the device has answered");
            }
            sum
        }
    };
}

/// What the others do beside the driver, at the least: the device notes what is posted, answers it
/// and takes the host index. Even building the commands counts as the driver's.
#[allow(dead_code, reason = "only instructions are counted against it")]
#[inline(never)]
pub(crate) fn batch_without_driver(rig: &Rig<Mpi2>, depth: usize, first: u64) -> u64 {
    for number in first..first + depth as u64 {
        rig.device.write64(0xc0, number);
    }
    rig.device.complete_mpi2(rig.memory);
    rig.device.write32(0x6c, 0);
    first
}

batch!(batch_mpi1, Mpi1, complete_mpi1);
batch!(batch_mpi2, Mpi2, complete_mpi2);
