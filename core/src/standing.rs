//! Whether the controller works, as the queues in other threads learn it.
//!
//! A controller that has to be reset may not be posted to meanwhile, and its rings are laid out
//! anew; but the queues that were handed out live in threads of their own. They meet in one word:
//!
//! ```text
//! controller                                queue, at each poll
//! halt()      "halting"              ──▶    sees it, accepts nothing more, leaves
//! is_quiet()  nobody is inside       ◀──
//!   ... reset, rings cleared, IOC init ...
//! work()      "works", next epoch    ──▶    completes what the reset ended, enters, accepts again
//! lose()      "gone", "offline"...   ──▶    completes everything, stays closed
//! ```
//!
//! A queue enters by counting itself and then looking at the word again, the controller halts by
//! writing the word and then looking at the count, itself by a change: whichever comes second sees
//! the other.

use crate::outcome::Failure;
use crate::sync::{AtomicBool, AtomicU32, Ordering, const_unless_loom};

#[cfg(all(test, loom))]
mod loom_tests;

/// What the word says; its upper bits are the epoch, which counts resets.
const WORKS: u32 = 0;
const HALTING: u32 = 1;
const GONE: u32 = 2;
const OFFLINE: u32 = 3;
const STOPPED: u32 = 4;
const EPOCH: u32 = 8;

/// What a queue reads of the controller's standing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stand {
    /// It works, since so many resets.
    Works {
        /// How many resets there have been.
        epoch: u32,
    },
    /// It is about to be reset, or is being reset.
    Halting,
    /// It will not work again, for this reason.
    Lost(Failure),
}

impl Stand {
    /// What the word `raw` says.
    pub(crate) fn of(raw: u32) -> Self {
        match raw % EPOCH {
            WORKS => Self::Works { epoch: raw / EPOCH },
            HALTING => Self::Halting,
            GONE => Self::Lost(Failure::ControllerGone),
            OFFLINE => Self::Lost(Failure::ControllerOffline),
            _ => Self::Lost(Failure::ControllerReset),
        }
    }
}

/// The word, and who is inside.
#[derive(Debug)]
pub(crate) struct Standing {
    word: AtomicU32,
    inside: AtomicU32,
    /// A late command of a queue: SMID, and device in the upper half; 0 for none.
    late: AtomicU32,
    /// The SMID of another queue's command that the ladder is climbed for, until it has ended; 0
    /// for none.
    watched: AtomicU32,
    /// Whether commands that the last reset ended are handed back.
    hands_back: AtomicBool,
}

impl Standing {
    const_unless_loom! {
        pub(crate) fn new() -> Self {
            Self {
                word: AtomicU32::new(WORKS),
                inside: AtomicU32::new(0),
                late: AtomicU32::new(0),
                watched: AtomicU32::new(0),
                hands_back: AtomicBool::new(false),
            }
        }
    }

    /// As new, for a controller that starts.
    pub(crate) fn clear(&self) {
        self.watched.store(0, Ordering::SeqCst);
        self.word.store(WORKS, Ordering::SeqCst);
        self.inside.store(0, Ordering::SeqCst);
        self.late.store(0, Ordering::SeqCst);
    }

    /// The word itself, to be compared with one read earlier.
    #[inline]
    pub(crate) fn raw(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    /// What it says.
    pub(crate) fn read(&self) -> Stand {
        Stand::of(self.word.load(Ordering::SeqCst))
    }

    /// A queue counts itself in, if the controller still works in `epoch`.
    pub(crate) fn enter(&self, epoch: u32) -> bool {
        self.inside.fetch_add(1, Ordering::SeqCst);
        if self.read() == (Stand::Works { epoch }) {
            return true;
        }
        self.leave();
        false
    }

    /// A queue counts itself out: it will not touch the controller or its rings any more.
    pub(crate) fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    /// Tells the queues to leave.
    pub(crate) fn halt(&self) {
        let epoch = self.word.load(Ordering::SeqCst) / EPOCH;
        self.word.store(epoch * EPOCH + HALTING, Ordering::SeqCst);
    }

    /// Whether every queue has left.
    pub(crate) fn is_quiet(&self) -> bool {
        // A change, if only by nothing, so that it comes before or after each queue's own: one that
        // counts itself later sees the word that was written before this.
        self.inside.fetch_add(0, Ordering::SeqCst) == 0
    }

    /// What commands complete as that the last reset ended.
    pub(crate) fn ended_as(&self) -> Failure {
        match self.hands_back.load(Ordering::SeqCst) {
            true => Failure::HandedBack,
            false => Failure::ControllerReset,
        }
    }

    /// Lets the queues in again, after a reset; what it ended is handed back or not.
    pub(crate) fn work(&self, hands_back: bool) {
        let epoch = self.word.load(Ordering::SeqCst) / EPOCH;
        self.hands_back.store(hands_back, Ordering::SeqCst);
        self.late.store(0, Ordering::SeqCst);
        self.watched.store(0, Ordering::SeqCst);
        self.word.store(epoch.wrapping_add(1).wrapping_mul(EPOCH), Ordering::SeqCst);
    }

    /// Tells the queues that the controller will not work again.
    pub(crate) fn lose(&self, reason: Failure) {
        let epoch = self.word.load(Ordering::SeqCst) / EPOCH;
        let why = match reason {
            Failure::ControllerGone => GONE,
            Failure::ControllerOffline => OFFLINE,
            _ => STOPPED,
        };
        self.word.store(epoch * EPOCH + why, Ordering::SeqCst);
    }

    /// A queue reports a late command, unless another waits to be seen to.
    pub(crate) fn report_late(&self, smid: u16, device: u16) {
        let late = u32::from(device) << 16 | u32::from(smid);
        let _ = self.late.compare_exchange(0, late, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The controller climbs the ladder for the command with this SMID: 0 for none any more.
    pub(crate) fn watch(&self, smid: u16) {
        self.watched.store(smid.into(), Ordering::SeqCst);
    }

    /// Whether that command has not ended.
    pub(crate) fn is_watched(&self, smid: u16) -> bool {
        self.watched.load(Ordering::SeqCst) == u32::from(smid)
    }

    /// A queue's command has ended that it may have reported: nothing is to be done about it.
    pub(crate) fn ended(&self, smid: u16, device: u16) {
        let late = u32::from(device) << 16 | u32::from(smid);
        let _ = self.late.compare_exchange(late, 0, Ordering::SeqCst, Ordering::SeqCst);
        let smid = u32::from(smid);
        let _ = self.watched.compare_exchange(smid, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Whether a report waits. A read costs nothing while nothing is late; a swap would.
    pub(crate) fn has_late(&self) -> bool {
        self.late.load(Ordering::Relaxed) != 0
    }

    /// The controller takes a report: SMID and device.
    pub(crate) fn take_late(&self) -> Option<(u16, u16)> {
        let late = self.late.swap(0, Ordering::SeqCst);
        (late != 0).then_some((late as u16, (late >> 16) as u16))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_queue_enters_the_epoch_it_has_seen_and_no_other() {
        let standing = Standing::new();
        assert!(standing.enter(0));
        assert!(!standing.is_quiet());
        standing.halt();
        assert!(!standing.enter(0), "it is halting");
        assert!(!standing.is_quiet(), "the first is still inside");
        standing.leave();
        assert!(standing.is_quiet());
        standing.work(false);
        assert_eq!(standing.read(), Stand::Works { epoch: 1 });
        assert!(!standing.enter(0), "that epoch is over");
        assert!(standing.enter(1));
        standing.lose(Failure::ControllerGone);
        assert_eq!(standing.read(), Stand::Lost(Failure::ControllerGone));
    }

    #[test]
    fn one_report_at_a_time_waits_to_be_seen_to() {
        let standing = Standing::new();
        assert_eq!(standing.take_late(), None);
        standing.report_late(7, 9);
        standing.report_late(8, 9);
        assert_eq!(standing.take_late(), Some((7, 9)));
        assert_eq!(standing.take_late(), None);
    }
}
