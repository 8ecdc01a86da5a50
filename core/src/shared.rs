//! What two contexts share.
//!
//! Two things need a critical section. A platform that submits in one context and completes in another (a DEXT's
//! default and interrupt queues, a bare-metal thread and its interrupt) wraps its controller in
//! [`Shared`]. And the reply frames: whichever queue a failed command is answered on, its frame
//! returns to the one reply free queue, so queues in several threads meet in [`ReplyFrames`], on
//! the error path only. Whether the controller works at all they read from a word of their own
//! (`standing.rs`).

use core::cell::{Cell, RefCell};

use critical_section::Mutex;

use crate::standing::Standing;
use crate::sync::{AtomicBool, Ordering, const_unless_loom};

#[cfg(all(test, loom))]
mod loom_tests;

/// A value that two contexts use in turn.
#[derive(Debug)]
pub struct Shared<T>(Mutex<RefCell<T>>);

impl<T> Shared<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(RefCell::new(value)))
    }

    /// Runs `work` on the value with every other context held off.
    ///
    /// `None` if the same context is inside already, which only a callback that calls back in can
    /// bring about: the value is then left alone.
    pub fn with<O>(&self, work: impl FnOnce(&mut T) -> O) -> Option<O> {
        critical_section::with(|section| {
            self.0.borrow(section).try_borrow_mut().ok().map(|mut value| work(&mut value))
        })
    }
}

/// The record of one reply frame: whether the device has it. One byte.
#[derive(Debug)]
pub struct ReplyRecord(AtomicBool);

impl ReplyRecord {
    const_unless_loom! {
        /// A frame that the device does not have.
        #[must_use]
        pub fn new() -> Self {
            Self(AtomicBool::new(false))
        }
    }
}

impl Default for ReplyRecord {
    fn default() -> Self {
        Self::new()
    }
}

/// Whose each reply frame is, and where the reply free queue stands. Shared by all queues of a
/// controller.
#[derive(Debug, Clone, Copy)]
pub struct ReplyFrames<'a> {
    records: &'a [ReplyRecord],
    shared: &'a SharedRecord,
}

/// What all queues of a controller share beside the reply frames' records: where the reply free
/// queue's host index stands, and whether the controller works (`standing.rs`). The platform
/// supplies one for each controller.
#[derive(Debug)]
pub struct SharedRecord {
    host_index: Mutex<Cell<u32>>,
    pub(crate) standing: Standing,
}

impl SharedRecord {
    const_unless_loom! {
        /// Before any frame was given.
        #[must_use]
        pub fn new() -> Self {
            Self { host_index: Mutex::new(Cell::new(0)), standing: Standing::new() }
        }
    }
}

impl Default for SharedRecord {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> ReplyFrames<'a> {
    /// Takes the records, none of them with the device.
    pub(crate) fn new(records: &'a [ReplyRecord], shared: &'a SharedRecord) -> Self {
        shared.standing.clear();
        let frames = Self { records, shared };
        frames.take_all();
        frames
    }

    /// Takes every frame from a device that was reset.
    #[inline(never)]
    pub(crate) fn take_all(&self) {
        for record in self.records {
            record.0.store(false, Ordering::Relaxed);
        }
        // The first frame given goes into entry 0.
        let before_first = (self.records.len() as u32).wrapping_sub(1);
        critical_section::with(|section| {
            self.shared.host_index.borrow(section).set(before_first);
        });
    }

    /// Whether the controller works.
    #[inline]
    pub(crate) const fn standing(&self) -> &'a Standing {
        &self.shared.standing
    }

    /// How many frames there are.
    pub(crate) const fn count(&self) -> u16 {
        self.records.len() as u16
    }

    /// Takes frame `index` from the device; `false` if the device does not have it, so that the
    /// address that it wrote is a lie.
    pub(crate) fn take(&self, index: u16) -> bool {
        self.records
            .get(usize::from(index))
            .is_some_and(|record| record.0.swap(false, Ordering::Acquire))
    }

    /// Gives frame `index` to the device: `hand_over` is told where the host index stands, writes
    /// the entry after it and returns where it stands then, with other queues held off meanwhile.
    pub(crate) fn give(&self, index: u16, hand_over: impl FnOnce(u32) -> u32) {
        let Some(record) = self.records.get(usize::from(index)) else { return };
        critical_section::with(|section| {
            record.0.store(true, Ordering::Release);
            let host_index = self.shared.host_index.borrow(section);
            host_index.set(hand_over(host_index.get()));
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_lent_twice() {
        let shared = Shared::new(1);
        let outcome = shared.with(|value| {
            *value += 1;
            shared.with(|_| ()).is_none()
        });
        assert_eq!(outcome, Some(true));
        assert_eq!(shared.with(|value| *value), Some(2));
    }

    #[test]
    fn a_frame_that_the_device_does_not_have_is_refused() {
        let records = [ReplyRecord::new(), ReplyRecord::new()];
        let shared = SharedRecord::new();
        let frames = ReplyFrames::new(&records, &shared);
        assert!(!frames.take(0));
        frames.give(0, |at| {
            assert_eq!(at, 1, "before the first of two");
            0
        });
        frames.give(1, |at| {
            assert_eq!(at, 0);
            1
        });
        assert!(frames.take(0));
        assert!(!frames.take(0), "taken once already");
        assert!(!frames.take(2), "there is no such frame");
        assert!(frames.take(1));
    }
}
