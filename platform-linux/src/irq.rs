//! Interrupts as file descriptors.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::waiting::InterruptLine;

/// The descriptor that an interrupt arrives at.
#[derive(Debug)]
pub(crate) struct Signal {
    fd: OwnedFd,
    /// What one read takes: 8 bytes of an event descriptor, 4 of a UIO device.
    width: usize,
}

impl Signal {
    /// An event descriptor, which does not block.
    pub(crate) const fn event(fd: OwnedFd) -> Self {
        Self { fd, width: 8 }
    }

    /// A UIO device, opened so that it does not block.
    pub(crate) const fn uio(fd: OwnedFd) -> Self {
        Self { fd, width: 4 }
    }

    /// Takes what has arrived; whether there was something.
    pub(crate) fn take(&self) -> bool {
        let mut count = [0; 8];
        rustix::io::read(&self.fd, &mut count[..self.width]).is_ok()
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An interrupt that the kernel holds back once it has told of it, until it is asked for again: a
/// line that other devices may share.
pub(crate) struct HeldBack<S, F> {
    signal: S,
    again: F,
}

impl<S, F> HeldBack<S, F> {
    /// `again` lets the next one come.
    pub(crate) const fn new(signal: S, again: F) -> Self {
        Self { signal, again }
    }
}

impl<S, F> fmt::Debug for HeldBack<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeldBack")
    }
}

impl InterruptLine for Signal {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn take(&self) -> bool {
        Self::take(self)
    }
}

impl<S: std::ops::Deref<Target = Signal> + Send + Sync, F: Fn() + Send + Sync> InterruptLine
    for HeldBack<S, F>
{
    fn fd(&self) -> BorrowedFd<'_> {
        self.signal.fd.as_fd()
    }

    fn take(&self) -> bool {
        let came = self.signal.take();
        if came {
            (self.again)();
        }
        came
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::waiting::Interrupt;

    fn signal() -> Signal {
        Signal::event(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap())
    }

    fn raise(signal: &Signal) {
        rustix::io::write(&signal.fd, &1_u64.to_ne_bytes()).unwrap();
    }

    #[test]
    fn an_interrupt_is_taken_once_however_often_it_came() {
        let signal = signal();
        raise(&signal);
        raise(&signal);
        assert!(signal.take());
        assert!(!signal.take());
    }

    #[test]
    fn a_line_is_asked_for_again_only_when_it_was_held_back() {
        let signal = Arc::new(signal());
        let asked = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&asked);
        let again = move || {
            counter.fetch_add(1, Ordering::SeqCst);
        };
        let interrupt = Interrupt::new(HeldBack::new(Arc::clone(&signal), again));
        assert!(!interrupt.take());
        raise(&signal);
        interrupt.sleep(Duration::from_secs(10));
        assert!(interrupt.take());
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
