//! What a session asks of a bus beside memory and registers: how to wait on it.

use std::time::Duration;

use embedded_hal::delay::DelayNs;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::qtest::Qtest;

/// A bus that a session can wait on.
pub(crate) trait Link: Bus<Dma: 'static> {
    /// Whether looking for replies is worth it. `true` where looking costs nothing.
    fn may_have_replied(&self) -> bool {
        true
    }

    /// Lets the controller get on with it.
    fn pause(&self);

    /// Why the bus itself no longer works, as a sentence.
    fn failure(&self) -> Option<String> {
        None
    }

    /// Whether reply interrupts should pass, because somebody looks at them.
    const INTERRUPTS: bool = false;
}

impl Link for Qtest {
    // A look at the reply FIFO is a message to QEMU and back; its interrupt line comes unasked.
    fn may_have_replied(&self) -> bool {
        self.interrupt_pending()
    }

    fn pause(&self) {
        std::thread::sleep(Duration::from_micros(20));
    }

    fn failure(&self) -> Option<String> {
        Qtest::failure(self).map(|error| error.0)
    }

    const INTERRUPTS: bool = true;
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
