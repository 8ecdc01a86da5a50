//! Which commands are late, without a look at each.
//!
//! A wheel of counts: each bucket stands for 256 ms and says how many of the commands outstanding
//! are due in it. A command costs one count up when it is taken and one down when it ends; a tick
//! looks at the buckets that have passed since the last one, and finds nothing in them unless
//! something is late. Only then are the slots searched (`slots.rs`).

/// A bucket is 2^8 ms wide.
const BUCKET_SHIFT: u32 = 8;
/// Buckets of the wheel: it reaches 32 s ahead. What is due later waits in the last bucket and is
/// put further on when that has come.
const BUCKETS: u8 = 128;
/// The longest limit that reaches into the wheel wherever in a bucket it begins.
pub(crate) const LONGEST_MS: u32 = 32_000;
/// Where late commands are counted: behind the wheel.
pub(crate) const LATE: u8 = BUCKETS;

/// 24 days: half of what the low half of a time in milliseconds can tell apart.
const LONGEST_TIMEOUT_MS: u32 = i32::MAX as u32;
/// The most that is taken off a caller's own deadline.
const MOST_MARGIN_MS: u32 = 10_000;

/// When to call a command late whose caller gives up after `timeout_ms`: early enough that it can
/// be aborted and completed before (trap T11). A third is taken off, at most 10 s.
#[must_use]
pub(crate) const fn with_margin(timeout_ms: u32) -> u32 {
    let timeout_ms = if timeout_ms > LONGEST_TIMEOUT_MS { LONGEST_TIMEOUT_MS } else { timeout_ms };
    let third = timeout_ms / 3;
    let margin = if third < MOST_MARGIN_MS { third } else { MOST_MARGIN_MS };
    timeout_ms - margin
}

/// The wheel of one queue.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// As many as a `u8` can name, so that none is out of bounds.
    counts: [u16; 256],
    /// The bucket of a command that names no limit of its own, as of the last tick.
    usual: u8,
    /// Milliseconds that such a command has.
    limit_ms: u32,
    /// The last tick's time in buckets.
    now: u64,
}

impl Wheel {
    pub(crate) const fn new() -> Self {
        Self { counts: [0; 256], usual: 0, limit_ms: LONGEST_MS, now: 0 }
    }

    /// The bucket that has passed when `deadline_ms` has, if the wheel reaches so far; else the
    /// last that it reaches, and `false`.
    pub(crate) fn bucket(&self, deadline_ms: u64) -> (u8, bool) {
        let number = (deadline_ms >> BUCKET_SHIFT).saturating_add(1);
        let furthest = self.now.saturating_add(u64::from(BUCKETS) - 1);
        let bucket = (number.min(furthest) % u64::from(BUCKETS)) as u8;
        (bucket, number <= furthest)
    }

    /// Sets the limit of commands that name none: at most [`LONGEST_MS`].
    pub(crate) fn set_limit(&mut self, limit_ms: u32, now_ms: u64) {
        self.limit_ms = limit_ms.min(LONGEST_MS);
        self.set_usual(now_ms);
    }

    fn set_usual(&mut self, now_ms: u64) {
        self.usual = self.bucket(now_ms.saturating_add(u64::from(self.limit_ms))).0;
    }

    /// Begins to count time, with nothing outstanding.
    pub(crate) fn start(&mut self, now_ms: u64) {
        self.now = now_ms >> BUCKET_SHIFT;
        self.set_usual(now_ms);
    }

    /// Counts a command that names no limit of its own and returns its bucket.
    #[inline]
    pub(crate) fn count_usual(&mut self) -> u8 {
        self.count(self.usual);
        self.usual
    }

    /// Counts a command that is due in `bucket`.
    #[inline]
    pub(crate) fn count(&mut self, bucket: u8) {
        let count = &mut self.counts[bucket as usize];
        *count = count.wrapping_add(1);
    }

    /// A command that was counted in `bucket` has ended.
    #[inline]
    pub(crate) fn uncount(&mut self, bucket: u8) {
        let count = &mut self.counts[bucket as usize];
        *count = count.wrapping_sub(1);
    }

    /// Late commands that have not ended.
    pub(crate) const fn late(&self) -> u16 {
        self.counts[LATE as usize]
    }

    /// Time passes: each bucket that has passed since the last time and is not empty goes to
    /// `due`, which may count its commands anew.
    pub(crate) fn advance(&mut self, now_ms: u64, mut due: impl FnMut(&mut Self, u8)) {
        let now = now_ms >> BUCKET_SHIFT;
        let passed = now.saturating_sub(self.now).min(u64::from(BUCKETS)) as u8;
        self.now = self.now.max(now);
        for back in (0..passed).rev() {
            let bucket = (now.wrapping_sub(u64::from(back)) % u64::from(BUCKETS)) as u8;
            if self.counts[bucket as usize] > 0 {
                due(self, bucket);
            }
        }
        self.set_usual(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn due(wheel: &mut Wheel, now_ms: u64) -> Vec<u8> {
        let mut found = Vec::new();
        wheel.advance(now_ms, |wheel, bucket| {
            found.push(bucket);
            wheel.counts[bucket as usize] = 0;
        });
        found
    }

    #[test]
    fn our_deadline_is_always_before_the_callers() {
        for timeout in [3, 1_000, 20_000, 30_000, 60_000, u32::MAX] {
            let ours = with_margin(timeout);
            let known = timeout.min(LONGEST_TIMEOUT_MS);
            assert!(ours < timeout && known - ours <= MOST_MARGIN_MS, "{timeout}: {ours}");
        }
    }

    #[test]
    fn a_bucket_is_due_when_its_deadline_has_passed_and_not_before() {
        for start in [0, 1, 255, 256, 1_700_000_000_123] {
            for limit in [0, 1, 255, 256, 1_000, 30_000, u64::from(LONGEST_MS)] {
                let mut wheel = Wheel::new();
                wheel.start(start);
                let (bucket, fits) = wheel.bucket(start + limit);
                assert!(fits, "{start} {limit}");
                wheel.count(bucket);
                let mut now = start;
                let fired = loop {
                    now += 50;
                    if !due(&mut wheel, now).is_empty() {
                        break now;
                    }
                };
                assert!(fired >= start + limit, "{start} {limit}: {fired}");
                assert!(fired <= start + limit + 256 + 50, "{start} {limit}: {fired}");
            }
        }
    }

    #[test]
    fn a_deadline_beyond_the_wheel_waits_in_its_last_bucket() {
        let mut wheel = Wheel::new();
        wheel.start(5_000);
        let (bucket, fits) = wheel.bucket(5_000 + 40_000);
        assert!(!fits);
        wheel.count(bucket);
        assert_eq!(due(&mut wheel, 5_000 + 32_000), []);
        assert_eq!(due(&mut wheel, 5_000 + 33_000), [bucket]);
    }

    #[test]
    fn a_long_sleep_finds_everything_once() {
        let mut wheel = Wheel::new();
        wheel.start(0);
        for deadline in [100, 5_000, 30_000] {
            let (bucket, _) = wheel.bucket(deadline);
            wheel.count(bucket);
        }
        assert_eq!(due(&mut wheel, 3_600_000).len(), 3);
        assert_eq!(due(&mut wheel, 7_200_000), []);
    }

    #[test]
    fn time_that_runs_backwards_finds_nothing_and_breaks_nothing() {
        let mut wheel = Wheel::new();
        wheel.start(10_000);
        wheel.count(wheel.bucket(12_000).0);
        assert_eq!(due(&mut wheel, 1_000), []);
        assert_eq!(due(&mut wheel, 12_600).len(), 1);
    }
}
