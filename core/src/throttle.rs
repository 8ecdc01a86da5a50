//! Devices that take fewer commands than they are given.
//!
//! A device that answers TASK SET FULL or BUSY has its depth lowered and is tried with more as
//! time passes (illumos's mpt_sas does so; controllers.md 1a). Which commands a device has is not
//! counted while nobody complains, so that the hot path pays nothing; when a device does, its
//! commands are counted once, and from then on as they come and go, until it takes as many again
//! as it had.

use heapless::Vec;

/// Devices that can be throttled at once in a queue. One more than that goes unthrottled, and gets
/// its TASK SET FULLs, as with a driver that does not throttle.
const MOST_DEVICES: usize = 16;
/// How long a device is left alone between two raises of its depth.
const RAISE_INTERVAL_MS: u64 = 250;

/// A device that takes no more than `limit` commands at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Throttle {
    device: u16,
    limit: u16,
    outstanding: u16,
    /// The most it had when it complained first: back there, it is throttled no longer.
    peak: u16,
    /// Its depth is raised when the time is past this.
    quiet_until_ms: u64,
}

/// The throttled devices of one queue.
#[derive(Debug, Default)]
pub(crate) struct Throttles(Vec<Throttle, MOST_DEVICES>);

/// How a device says that it has too much to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Complaint {
    /// TASK SET FULL: it has room for what it has, and no more.
    Full,
    /// BUSY: it wants to be left alone.
    Busy,
}

impl Throttles {
    /// That of this device, if it is throttled.
    #[inline(never)]
    fn of(&mut self, device: u16) -> Option<&mut Throttle> {
        self.0.iter_mut().find(|throttle| throttle.device == device)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A device has complained while it had `outstanding` commands, the one that it refused not
    /// among them. It keeps at least one, so that it can be heard from again.
    pub(crate) fn complain(
        &mut self,
        device: u16,
        complaint: Complaint,
        outstanding: u16,
        now_ms: u64,
    ) {
        let limit = match complaint {
            Complaint::Full => outstanding.saturating_sub(2).max(1),
            Complaint::Busy => (outstanding / 2).max(1),
        };
        let quiet_until_ms = now_ms.saturating_add(RAISE_INTERVAL_MS);
        match self.of(device) {
            Some(throttle) => {
                throttle.limit = throttle.limit.min(limit);
                throttle.quiet_until_ms = quiet_until_ms;
            }
            None => {
                let peak = outstanding.saturating_add(1);
                let throttle = Throttle { device, limit, outstanding, peak, quiet_until_ms };
                let _ = self.0.push(throttle);
            }
        }
    }

    /// Whether a device may be given a command.
    pub(crate) fn has_room(&mut self, device: u16) -> bool {
        self.of(device).is_none_or(|throttle| throttle.outstanding < throttle.limit)
    }

    /// A device was given a command.
    #[inline(never)]
    pub(crate) fn given(&mut self, device: u16) {
        if let Some(throttle) = self.of(device) {
            throttle.outstanding = throttle.outstanding.saturating_add(1);
        }
    }

    /// A command of this device has ended.
    #[inline(never)]
    pub(crate) fn ended(&mut self, device: u16) {
        if let Some(throttle) = self.of(device) {
            throttle.outstanding = throttle.outstanding.saturating_sub(1);
        }
    }

    /// Time passes: devices that have been quiet take an eighth more, at least one; those that are
    /// back where they were are throttled no longer.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        for throttle in &mut self.0 {
            if now_ms >= throttle.quiet_until_ms {
                let more = (throttle.limit / 8).max(1);
                throttle.limit = throttle.limit.saturating_add(more);
                throttle.quiet_until_ms = now_ms.saturating_add(RAISE_INTERVAL_MS);
            }
        }
        self.0.retain(|throttle| throttle.limit < throttle.peak);
    }

    /// Forgets all, as after a reset.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Throttles {
        fn limit(&self, device: u16) -> Option<u16> {
            let throttle = self.0.iter().find(|throttle| throttle.device == device)?;
            Some(throttle.limit)
        }

        fn admit(&mut self, device: u16) -> bool {
            let room = self.has_room(device);
            if room {
                self.given(device);
            }
            room
        }
    }

    #[test]
    fn a_full_device_keeps_two_less_than_it_had_and_recovers_step_by_step() {
        let mut throttles = Throttles::default();
        throttles.complain(9, Complaint::Full, 31, 0);
        assert_eq!(throttles.limit(9), Some(29));
        assert!(!throttles.admit(9), "it still has 31");
        assert!(throttles.admit(8), "another device");
        for _ in 0..3 {
            throttles.ended(9);
        }
        assert!(throttles.admit(9));
        assert!(!throttles.admit(9), "29 again");
        throttles.tick(249);
        assert_eq!(throttles.limit(9), Some(29), "not yet");
        throttles.tick(250);
        assert_eq!(throttles.limit(9), None, "29 and an eighth is what it had");
    }

    #[test]
    fn a_busy_device_keeps_half_and_never_nothing() {
        let mut throttles = Throttles::default();
        throttles.complain(9, Complaint::Busy, 40, 0);
        assert_eq!(throttles.limit(9), Some(20));
        throttles.complain(9, Complaint::Busy, 1, 100);
        assert_eq!(throttles.limit(9), Some(1));
        throttles.complain(9, Complaint::Busy, 0, 100);
        assert_eq!(throttles.limit(9), Some(1), "one may always be out");
        throttles.tick(300);
        assert_eq!(throttles.limit(9), Some(1), "its last complaint was at 100");
        let mut now = 350;
        let mut ticks = 0;
        while throttles.limit(9).is_some() {
            throttles.tick(now);
            now += 250;
            ticks += 1;
            assert!(ticks < 60, "it recovers in bounded time");
        }
    }

    #[test]
    fn more_devices_than_there_is_room_for_go_unthrottled() {
        let mut throttles = Throttles::default();
        for device in 0..20 {
            throttles.complain(device, Complaint::Full, 10, 0);
        }
        assert_eq!(throttles.limit(15), Some(8));
        assert_eq!(throttles.limit(16), None);
        assert!(throttles.admit(16));
    }
}
