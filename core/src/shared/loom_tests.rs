//! Every interleaving of queues that share reply frames, and of contexts that share a value.

use std::vec::Vec;

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::sync::model::Unguarded;

impl<'a> ReplyFrames<'a> {
    /// Another queue's, of a controller that has started.
    pub(crate) fn of(records: &'a [ReplyRecord], shared: &'a SharedRecord) -> Self {
        Self { records, shared }
    }
}

/// Two contexts use a value in turn: neither sees half of what the other does, and nothing that
/// either did is lost.
#[test]
fn loom_a_shared_value_is_used_by_one_context_at_a_time() {
    loom::model(|| {
        let shared = Arc::new(Shared::new(Unguarded::default()));
        let add = |shared: &Shared<Unguarded>| {
            let done = shared.with(|value| {
                assert!(shared.with(|_| ()).is_none(), "a callback that calls back in");
                value.set(value.get() + 1);
            });
            assert_eq!(done, Some(()), "another context is waited for");
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || add(&shared))
        };
        add(&shared);
        other.join().expect("the other context");
        assert_eq!(shared.with(|value| value.get()), Some(2));
    });
}

/// Reply frames, and the reply free queue they are given to.
struct Frames<const N: usize> {
    records: [ReplyRecord; N],
    shared: SharedRecord,
    /// What stands in each entry of the ring: the frame, and one more.
    ring: [Unguarded; N],
    /// How often a frame was given.
    gives: Unguarded,
    /// What stands in each frame.
    contents: [Unguarded; N],
}

impl<const N: usize> Frames<N> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            records: core::array::from_fn(|_| ReplyRecord::new()),
            shared: SharedRecord::new(),
            ring: core::array::from_fn(|_| Unguarded::default()),
            gives: Unguarded::default(),
            contents: core::array::from_fn(|_| Unguarded::default()),
        })
    }

    fn frames(&self) -> ReplyFrames<'_> {
        ReplyFrames::of(&self.records, &self.shared)
    }

    fn give(&self, index: u16) {
        self.frames().give(index, |at| {
            self.gives.set(self.gives.get() + 1);
            let next = (at + 1) % N as u32;
            self.ring[next as usize].set(u32::from(index) + 1);
            next
        });
    }

    /// What a queue does with a reply at frame `index`: copies it out and gives the frame back.
    fn take_and_give(&self, index: u16) -> bool {
        if !self.frames().take(index) {
            return false;
        }
        // Whoever took it last has done with it.
        let read = &self.contents[usize::from(index)];
        read.set(read.get() + 1);
        self.give(index);
        true
    }

    fn entries(&self) -> Vec<u32> {
        self.ring.iter().map(Unguarded::get).collect()
    }
}

#[test]
fn loom_two_queues_give_frames_back_into_entries_of_their_own() {
    loom::model(|| {
        let frames = Frames::<3>::new();
        frames.frames().take_all();
        (0..3).for_each(|index| frames.give(index));
        assert_eq!(frames.entries(), [1, 2, 3]);
        let queues = [(frames.clone(), 2), (frames.clone(), 0)];
        let queues =
            queues.map(|(frames, index)| thread::spawn(move || frames.take_and_give(index)));
        for queue in queues {
            assert!(queue.join().expect("the queue"), "the device had it");
        }
        assert_eq!(frames.gives.get(), 5);
        let host_index =
            critical_section::with(|section| frames.shared.host_index.borrow(section).get());
        assert_eq!(host_index, 1, "three gives to entry 2, two more to entry 1");
        let entries = frames.entries();
        assert!(entries == [3, 1, 3] || entries == [1, 3, 3], "{entries:?}");
        for index in 0..3 {
            assert!(frames.frames().take(index), "the device has every frame");
        }
    });
}

/// A device that names the same frame to two queues lies to one of them, or answers the second
/// after the first has given it back.
#[test]
fn loom_a_frame_that_is_named_to_two_queues_is_never_with_both() {
    loom::model(|| {
        let frames = Frames::<1>::new();
        frames.frames().take_all();
        frames.give(0);
        let queue = {
            let frames = frames.clone();
            thread::spawn(move || frames.take_and_give(0))
        };
        let here = frames.take_and_give(0);
        let there = queue.join().expect("the queue");
        let taken = u32::from(here) + u32::from(there);
        assert!(taken >= 1, "the device had it");
        assert_eq!(frames.contents[0].get(), taken);
        assert_eq!(frames.gives.get(), 1 + taken);
    });
}

#[test]
fn loom_a_frame_that_is_not_given_back_is_taken_once() {
    loom::model(|| {
        let frames = Frames::<1>::new();
        frames.frames().take_all();
        frames.give(0);
        let queue = {
            let frames = frames.clone();
            thread::spawn(move || frames.frames().take(0))
        };
        let here = frames.frames().take(0);
        let there = queue.join().expect("the queue");
        assert!(here != there, "one of the two");
    });
}

/// A device answers with a frame as soon as it has been told of it, on another queue too.
#[test]
fn loom_a_frame_that_the_device_was_told_of_is_not_refused() {
    loom::model(|| {
        let frames = Frames::<1>::new();
        frames.frames().take_all();
        let host_index_register = Arc::new(AtomicBool::new(false));
        let queue = {
            let (frames, register) = (frames.clone(), host_index_register.clone());
            thread::spawn(move || {
                let was_told = register.load(Ordering::Acquire);
                let taken = frames.frames().take(0);
                assert!(taken || !was_told, "the device has it");
            })
        };
        frames.frames().give(0, |_| {
            host_index_register.store(true, Ordering::Release);
            0
        });
        queue.join().expect("the queue");
    });
}
