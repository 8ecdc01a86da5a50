//! What a session asks of a bus beside memory and registers: how to wait on it, and what time it
//! is there.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use embedded_hal::delay::DelayNs;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::faults::{FaultEvent, Plan};
use fusion_mpt_mock::qtest::Qtest;

use crate::waiting::Interrupt;

/// A bus that a session can wait on.
pub(crate) trait Link: Bus<Dma: 'static> {
    /// What waits on this bus, in its own time.
    type Delay: DelayNs;

    /// Something to wait with.
    fn delay(&self) -> Self::Delay;

    /// Time on the bus, from any start.
    fn now(&self) -> Duration;

    /// The time of day in milliseconds since 1970, for the IOC's own log.
    fn time_of_day_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
    }

    /// Whether looking for replies is worth it. `true` where looking costs nothing.
    fn may_have_replied(&self) -> bool {
        true
    }

    /// The interrupt of a queue, as something to sleep on; `None` where only looking helps.
    fn interrupt(&self, _queue: u8) -> Option<Interrupt> {
        None
    }

    /// Lets the controller get on with it; `idle` says how many times in a row nothing has come.
    fn pause(&self, idle: u32);

    /// Why the bus itself no longer works, as a sentence.
    fn failure(&self) -> Option<String> {
        None
    }

    /// Lays faults around the controller, or takes them away; `false` where there can be none.
    fn set_faults(&self, _plan: Option<&Plan>) -> bool {
        false
    }

    /// What faults have done, the oldest first.
    fn fault_log(&self) -> Vec<FaultEvent> {
        Vec::new()
    }

    /// Whether reply interrupts should pass all the time, because somebody looks at them.
    const INTERRUPTS: bool = false;

    /// Polls that may be left out before one is made anyway, and between looks at the clock.
    const POLLS_BETWEEN_LOOKS: u32 = 64;
}

impl Link for Qtest {
    type Delay = RealDelay;

    fn delay(&self) -> RealDelay {
        RealDelay
    }

    fn now(&self) -> Duration {
        real_time()
    }

    // A look at the reply FIFO is a message to QEMU and back; its interrupt line comes unasked.
    fn may_have_replied(&self) -> bool {
        self.interrupt_pending()
    }

    fn pause(&self, _idle: u32) {
        std::thread::sleep(Duration::from_micros(20));
    }

    fn failure(&self) -> Option<String> {
        Qtest::failure(self).map(|error| error.0)
    }

    const INTERRUPTS: bool = true;
}

/// Real time since this was first asked.
pub(crate) fn real_time() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// Real time, for bring-up and resets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RealDelay;

impl DelayNs for RealDelay {
    fn delay_ns(&mut self, ns: u32) {
        std::thread::sleep(Duration::from_nanos(u64::from(ns)));
    }

    fn delay_us(&mut self, us: u32) {
        std::thread::sleep(Duration::from_micros(u64::from(us)));
    }

    fn delay_ms(&mut self, ms: u32) {
        std::thread::sleep(Duration::from_millis(u64::from(ms)));
    }
}
