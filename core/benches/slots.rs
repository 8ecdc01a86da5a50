//! Taking and releasing slots from two threads.
//!
//! A driver with one pool for all its queues shares it between threads: a lock-free queue of free
//! slot numbers, as crossbeam's `ArrayQueue` is, is the usual good way. Here queues share nothing:
//! each thread has its own [`Slots`], so taking a slot is a plain load and store. That is a
//! difference of design, and the first figure measures it. The second is for honesty: the same
//! `ArrayQueue`, but a private one for each thread, so that what is left is the cost of its atomics.
//!
//! Ours does more for it: it keeps cookie, length and owner of each slot, and refuses a release
//! of what is not taken. The rivals hand out numbers only.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use fusion_mpt::slots::{Finished, SlotRecord, Slots};

const SLOTS: u16 = 256;
/// Slots taken at once before they are released.
const HELD: usize = 8;
const ROUNDS: usize = 15;
const TURNS: usize = 20_000;
const THREADS: usize = 2;

/// How long two threads take for `TURNS` turns each; the slower one counts.
fn together(work: impl Fn(usize) + Sync) -> Duration {
    let barrier = Barrier::new(THREADS);
    let (barrier, work) = (&barrier, &work);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    barrier.wait();
                    let started = Instant::now();
                    work(thread);
                    started.elapsed()
                })
            })
            .collect();
        let taken = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        taken.max().expect("two threads")
    })
}

fn ours(_thread: usize) {
    let mut records = vec![SlotRecord::NEW; usize::from(SLOTS)];
    let mut slots = Slots::new(&mut records, 1, 0, 0);
    let mut held = [0u16; HELD];
    for turn in 0..TURNS {
        for smid in &mut held {
            let command = Finished { cookie: black_box(turn as u64), requested: 4096, device: 9 };
            *smid = slots.take(None, command).expect("a slot is free");
        }
        for smid in &held {
            black_box(slots.finish(black_box(*smid)).expect("it is taken"));
        }
    }
}

fn theirs(queue: &ArrayQueue<u16>) {
    let mut held = [0u16; HELD];
    for _ in 0..TURNS {
        for smid in &mut held {
            *smid = queue.pop().expect("a slot is free");
        }
        for smid in &held {
            queue.push(black_box(*smid)).expect("there is room");
        }
    }
}

fn filled() -> ArrayQueue<u16> {
    let queue = ArrayQueue::new(usize::from(SLOTS));
    (1..=SLOTS).for_each(|smid| queue.push(smid).expect("there is room"));
    queue
}

fn main() {
    if std::env::args().any(|argument| argument == "--scenario") {
        return;
    }
    let shared = filled();
    let private = [filled(), filled()];
    let mut best = [Duration::MAX; 3];
    for _ in 0..ROUNDS {
        best[0] = best[0].min(together(ours));
        best[1] = best[1].min(together(|_| theirs(&shared)));
        best[2] = best[2].min(together(|thread| theirs(&private[thread])));
    }
    let [ours, shared, private] = best.map(|best| best.as_nanos() as f64 / (TURNS * HELD) as f64);
    println!("figure slots.ours.ns_per_slot {ours:.3}");
    println!("figure slots.shared_arrayqueue.ns_per_slot {shared:.3}");
    println!("figure slots.private_arrayqueue.ns_per_slot {private:.3}");
    println!("figure slots.two_threads_vs_arrayqueue {:.3}", shared / ours);
    println!("figure slots.two_threads_vs_private_arrayqueue {:.3}", private / ours);
}
