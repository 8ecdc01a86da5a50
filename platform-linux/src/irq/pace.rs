//! When to look for replies, when to let them gather, and when to sleep until an interrupt comes.
//!
//! Two things cost: a look on MPI 1.x is a register read, and an interrupt is a trip through the kernel.
//! With much outstanding nothing is lost by waiting until several replies have come, since the controller
//! has enough to do: half of what it has is waited for, at most [`BATCH`]. How long that takes is learned
//! from how many came the last times.

use std::time::Duration;

use super::InterruptMode;

/// Replies that are worth an interrupt, under load.
const BATCH: u32 = 8;
/// Less than twice this outstanding, and every reply is waited for by itself.
const LEAST_GATHERED: u32 = 3;
/// The longest that replies may gather.
const LONGEST_GATHERING: Duration = Duration::from_millis(1);
/// What going to sleep and waking up takes: looking for longer than this never pays.
const WORTH_LOOKING: Duration = Duration::from_micros(50);

/// What to do when a look has found nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Look again at once.
    Look,
    /// Do not look for so long.
    Gather(Duration),
    /// Sleep until an interrupt comes.
    Sleep,
}

/// The pace of one queue.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    mode: InterruptMode,
    /// How long replies have taken to come of late, from the first look in vain on.
    wait: Duration,
    /// When the looks began to be in vain.
    since: Option<Duration>,
    /// How long replies gather.
    gathering: Duration,
    /// This wait's gathering is over, or there is none.
    gathered: bool,
}

impl Pace {
    /// Nothing is known yet.
    pub(crate) const fn new(mode: InterruptMode) -> Self {
        Self {
            mode,
            wait: Duration::ZERO,
            since: None,
            gathering: Duration::ZERO,
            gathered: false,
        }
    }

    /// A look at `now` has found `replies`, at least one.
    pub(crate) fn found(&mut self, now: Duration, replies: u32, outstanding: u32) {
        let Some(since) = self.since.take() else { return };
        let waited = now.saturating_sub(since);
        // An average over about the last four.
        self.wait = (self.wait * 3 + waited) / 4;
        let wanted = wanted(outstanding + replies);
        if wanted < LEAST_GATHERED {
            self.gathering = Duration::ZERO;
        } else if replies < wanted {
            let longer = self.gathering + self.gathering / 4 + Duration::from_micros(2);
            self.gathering = longer.min(LONGEST_GATHERING);
        } else {
            self.gathering = self.gathering * 7 / 8;
        }
    }

    /// What to do at `now` after a look in vain, with so much outstanding.
    pub(crate) fn next(&mut self, now: Duration, outstanding: u32) -> Next {
        if self.mode == InterruptMode::Poll {
            return Next::Look;
        }
        let first = self.since.is_none();
        let since = *self.since.get_or_insert(now);
        if first {
            self.gathered = false;
        }
        let waited = now.saturating_sub(since);
        if self.mode == InterruptMode::Adaptive {
            // Looking for twice as long as usual catches most; if that is too long, none is caught.
            let usual = self.wait * 2;
            return if outstanding > 0 && usual <= WORTH_LOOKING && waited < WORTH_LOOKING.min(usual + WORTH_LOOKING / 8)
            {
                Next::Look
            } else {
                Next::Sleep
            };
        }
        if !self.gathered && wanted(outstanding) >= LEAST_GATHERED {
            self.gathered = true;
            if waited < self.gathering {
                return Next::Gather(self.gathering - waited);
            }
        }
        Next::Sleep
    }
}

/// How many replies are worth an interrupt with so much outstanding.
fn wanted(outstanding: u32) -> u32 {
    (outstanding / 2).min(BATCH)
}
