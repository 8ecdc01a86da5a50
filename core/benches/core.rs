//! The software cost of one I/O: submit a 4 KiB read, let it complete, hand out its completion.
//!
//! Against the floor: the least that any driver of MPI 2.x must do for it, as straight-line code
//! with no checks, no counters, no generations and no errors. It takes a frame from a free list,
//! remembers the cookie, writes the same 112 bytes of message and element, posts the same
//! descriptor, takes the answer from the same kind of ring, and gives the frame back.
//!
//! Both run on the same device with the same I/Os, in turns, so that neither has the quieter
//! machine; the best of many rounds counts. Nothing of the driver is switched off: it is the
//! controller as bring-up made it, counters on, every check of what the device says included.

#[path = "common/null_device.rs"]
mod null_device;
#[path = "common/workload.rs"]
mod workload;

use std::hint::black_box;
use std::time::{Duration, Instant};

use fusion_mpt::generation::{Mpi1, Mpi2};
use fusion_mpt::platform::{DmaRegion, Registers, before_register_write};
use fusion_mpt::wire::descriptor::RequestDescriptor;
use null_device::{Kind, NullDevice, Pages, Rig};

/// Rounds of each: with this many one of them was not disturbed.
const ROUNDS: usize = 60;
/// I/Os in a round: long enough for the clock, short enough not to be interrupted every time.
const ROUND: usize = 64 * 1024;

const FRAME_BYTES: usize = 128;
const FRAMES: usize = 256;
const RING: usize = 384;
/// The words of a SCSI I/O message with its one element.
const WORDS: usize = 14;

/// The bare loop.
struct Floor {
    device: &'static NullDevice,
    memory: Pages,
    frames: *mut [u64; FRAME_BYTES / 8],
    ring: *mut u64,
    free: heapless::Vec<u16, FRAMES>,
    cookies: Box<[u64; FRAMES]>,
    next: usize,
}

impl Floor {
    fn new() -> Self {
        let memory = Pages::new(FRAMES * FRAME_BYTES + RING * 8);
        let device: &'static NullDevice = Box::leak(Box::new(NullDevice::new(Kind::Mpi2)));
        device.set_memory(memory);
        device.be_null();
        let ring_at = FRAMES * FRAME_BYTES;
        device.ring_to(memory.bus().0 + ring_at as u64, RING as u64, 0);
        let start = memory.cpu().cast::<u8>().as_ptr();
        let ring = start.wrapping_add(ring_at).cast::<u64>();
        for index in 0..RING {
            // SAFETY: the ring has `RING` entries, behind the frames.
            unsafe { ring.wrapping_add(index).write_volatile(u64::MAX) };
        }
        Self {
            device,
            memory,
            frames: start.cast(),
            ring,
            free: (1..FRAMES as u16).collect(),
            cookies: Box::new([0; FRAMES]),
            next: 0,
        }
    }

    #[inline]
    fn submit(&mut self, cookie: u64, lba: u32, address: u64) {
        let smid = self.free.pop().expect("a frame is free");
        let index = usize::from(smid) % FRAMES;
        self.cookies[index] = cookie;
        let [lba0, lba1, lba2, lba3] = lba.to_be_bytes();
        let words: [u64; WORDS] = [
            9,
            0,
            96 << 16 | 24 << 32,
            u64::from(workload::BYTES) << 32,
            10 << 32,
            0,
            0,
            0x0200_0000 << 32,
            u64::from_le_bytes([0x28, 0, lba0, lba1, lba2, lba3, 0, 0]),
            u64::from(workload::BLOCKS),
            0,
            0,
            address,
            u64::from(workload::BYTES) | 0x80 << 56,
        ];
        let frame = self.frames.wrapping_add(index).cast::<u64>();
        for (at, word) in words.into_iter().enumerate() {
            // SAFETY: a frame has more words than a message, and `index` is below `FRAMES`.
            unsafe { frame.wrapping_add(at).write_volatile(word) };
        }
        before_register_write();
        self.device.write64(0xc0, RequestDescriptor::scsi_io(smid, 0, 9).0);
    }

    #[inline]
    fn poll(&mut self, mut complete: impl FnMut(u64)) -> usize {
        let mut found = 0;
        loop {
            let entry = self.ring.wrapping_add(self.next);
            // SAFETY: `next` is below `RING`.
            let word = unsafe { entry.read_volatile() };
            if word == u64::MAX {
                break;
            }
            // SAFETY: as above.
            unsafe { entry.write_volatile(u64::MAX) };
            self.next = if self.next + 1 == RING { 0 } else { self.next + 1 };
            let smid = (word >> 16) as u16;
            let index = usize::from(smid) % FRAMES;
            let _ = self.free.push(smid);
            complete(self.cookies[index]);
            found += 1;
        }
        if found > 0 {
            before_register_write();
            self.device.write32(0x6c, self.next as u32);
        }
        found
    }

    #[inline(never)]
    fn batch(&mut self, depth: usize, first: u64) -> u64 {
        for number in first..first + depth as u64 {
            let (lba, address) = workload::place(number);
            self.submit(number, lba, address);
        }
        self.device.complete_mpi2(self.memory);
        let (mut sum, mut completed) = (0u64, 0);
        while completed < depth {
            completed += self.poll(|cookie| sum = sum.wrapping_add(cookie));
        }
        sum
    }
}

/// How long a round takes.
fn round(depth: usize, mut batch: impl FnMut(usize, u64) -> u64) -> Duration {
    let started = Instant::now();
    let mut sum = 0u64;
    for first in (0..ROUND as u64).step_by(depth) {
        sum = sum.wrapping_add(batch(depth, black_box(first)));
    }
    let taken = started.elapsed();
    let all = ROUND as u64 * (ROUND as u64 - 1) / 2;
    assert_eq!(sum, all, "every I/O completes once");
    taken
}

#[inline(never)]
fn floor_round(floor: &mut Floor, depth: usize) -> Duration {
    round(depth, |depth, first| floor.batch(depth, first))
}

#[inline(never)]
fn mpi1_round(rig: &mut Rig<Mpi1>, depth: usize) -> Duration {
    round(depth, |depth, first| workload::batch_mpi1(rig, depth, first))
}

#[inline(never)]
fn mpi2_round(rig: &mut Rig<Mpi2>, depth: usize) -> Duration {
    round(depth, |depth, first| workload::batch_mpi2(rig, depth, first))
}

fn measure() {
    let mut floor = Floor::new();
    let mut mpi1 = Rig::<Mpi1>::new(Kind::Mpi1);
    let mut mpi2 = Rig::<Mpi2>::new(Kind::Mpi2);
    for depth in [1, 64] {
        let mut best = [Duration::MAX; 3];
        for _ in 0..ROUNDS {
            best[0] = best[0].min(floor_round(&mut floor, depth));
            best[1] = best[1].min(mpi2_round(&mut mpi2, depth));
            best[2] = best[2].min(mpi1_round(&mut mpi1, depth));
        }
        let [floor, mpi2, mpi1] = best.map(|best| best.as_nanos() as f64 / ROUND as f64);
        println!("figure core.floor.ns_per_io.qd{depth} {floor:.3}");
        println!("figure core.mpi1.ns_per_io.qd{depth} {mpi1:.3}");
        println!("figure core.mpi2.ns_per_io.qd{depth} {mpi2:.3}");
        println!("figure core.mpi2.floor_ratio.qd{depth} {:.4}", mpi2 / floor);
    }
}

/// Runs batches of `depth` until `iterations` are done; part of its caller, so that at depth 1 no
/// call is counted for each.
#[inline(always)]
fn batches(iterations: u64, depth: usize, mut batch: impl FnMut(usize, u64) -> u64) {
    let mut sum = 0u64;
    for first in (0..iterations).step_by(depth) {
        let rest = depth.min((iterations - first) as usize);
        sum = sum.wrapping_add(batch(rest, first));
    }
    black_box(sum);
}

/// Runs `iterations` I/Os of a scenario, for its instructions to be counted. `harness` is what the
/// others do beside the driver.
fn run(scenario: &str, iterations: u64) {
    let (what, depth) = match scenario.split_once(".qd") {
        Some((what, depth)) => (what, depth.parse().expect("a queue depth")),
        None => (scenario, 1),
    };
    match what {
        "floor" => {
            let mut floor = Floor::new();
            batches(iterations, depth, |depth, first| floor.batch(depth, first));
        }
        "harness" => {
            let rig = Rig::<Mpi2>::new(Kind::Mpi2);
            batches(iterations, depth, |depth, first| {
                workload::batch_without_driver(&rig, depth, first)
            });
        }
        "mpi1" => {
            let mut rig = Rig::<Mpi1>::new(Kind::Mpi1);
            batches(iterations, depth, |depth, first| workload::batch_mpi1(&mut rig, depth, first));
        }
        "mpi2" => {
            let mut rig = Rig::<Mpi2>::new(Kind::Mpi2);
            batches(iterations, depth, |depth, first| workload::batch_mpi2(&mut rig, depth, first));
        }
        other => panic!("no scenario {other:?}; there are floor, harness, mpi1 and mpi2"),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    match (value("--scenario"), value("--iterations")) {
        (Some(scenario), Some(iterations)) => {
            run(scenario, iterations.parse().expect("--iterations takes a number"));
        }
        _ => measure(),
    }
}
