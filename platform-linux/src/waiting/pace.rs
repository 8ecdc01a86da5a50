//! How long looking again and again pays, before it is better to sleep.

use std::time::Duration;

/// The longest that looking pays: sleep and waking up cost less than this on any machine. What takes
/// longer, such as a disk that turns, is slept for.
const LONGEST: Duration = Duration::from_micros(200);
/// Looking for no more than this is not worth giving up.
const SHORTEST: Duration = Duration::from_micros(2);
/// Of so many waits one is looked for all of [`LONGEST`], whatever was learned: sleep hides how soon
/// replies come.
const WAITS_PER_TRIAL: u32 = 16;

/// What replies have taken to come of late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// For how long looking has paid.
    pays: Duration,
    /// When the looks of this wait began to be in vain.
    since: Option<Duration>,
    /// It has come to sleep in this wait.
    given_up: bool,
    waits: u32,
}

impl Pace {
    /// Nothing is known yet, so that all is tried.
    pub(crate) const fn new() -> Self {
        Self { pays: LONGEST, since: None, given_up: false, waits: 0 }
    }

    /// Whether to look again at `now`, after a look in vain.
    pub(crate) fn look_again(&mut self, now: Duration) -> bool {
        let since = match self.since {
            Some(since) => since,
            None => {
                self.waits = self.waits.wrapping_add(1);
                self.given_up = false;
                *self.since.insert(now)
            }
        };
        if self.given_up {
            return false;
        }
        let trial = self.waits.is_multiple_of(WAITS_PER_TRIAL);
        let limit = if trial { LONGEST } else { self.pays };
        if now.saturating_sub(since) < limit {
            return true;
        }
        self.given_up = true;
        self.pays = (self.pays / 2).max(SHORTEST);
        false
    }

    /// A look has found something; `now` is only asked for if there was one in vain before.
    pub(crate) fn found(&mut self, now: impl FnOnce() -> Duration) {
        let Some(since) = self.since.take() else { return };
        if !self.given_up {
            let twice = now().saturating_sub(since) * 2;
            self.pays = self.pays.max(twice).min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// Waits for replies that take so long each, looking every microsecond; how many of `waits` came
    /// to sleep.
    fn sleeps(pace: &mut Pace, takes: Duration, waits: u32) -> u32 {
        let mut now = Duration::ZERO;
        let mut sleeps = 0;
        for _ in 0..waits {
            let comes = now + takes;
            while now < comes {
                if pace.look_again(now) {
                    now += US;
                } else {
                    sleeps += 1;
                    now = comes;
                }
            }
            pace.found(|| now);
        }
        sleeps
    }

    #[test]
    fn what_comes_soon_is_never_slept_for() {
        assert_eq!(sleeps(&mut Pace::new(), 90 * US, 1000), 0);
    }

    #[test]
    fn what_takes_long_is_soon_slept_for_at_once() {
        let mut pace = Pace::new();
        assert_eq!(sleeps(&mut pace, 5000 * US, 200), 200);
        assert_eq!(pace.pays, SHORTEST);
    }

    #[test]
    fn a_disk_that_becomes_quick_is_noticed() {
        let mut pace = Pace::new();
        sleeps(&mut pace, 5000 * US, 200);
        let sleeps = sleeps(&mut pace, 70 * US, 1000);
        assert!(sleeps <= WAITS_PER_TRIAL, "{sleeps}");
    }
}
