//! Interrupts as file descriptors.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{CreateFlags, EventData, EventFlags, add, create};

use crate::waiting::InterruptLine;

/// The descriptor that an interrupt arrives at.
#[derive(Debug)]
pub(crate) struct Signal {
    fd: OwnedFd,
    /// What is slept on in its place.
    watch: Option<OwnedFd>,
    /// What one read takes: 8 bytes of an event descriptor, 4 of a UIO device.
    width: usize,
}

impl Signal {
    /// An event descriptor, which does not block.
    pub(crate) const fn event(fd: OwnedFd) -> Self {
        Self { fd, watch: None, width: 8 }
    }

    /// A UIO device, opened so that it does not block.
    ///
    /// What is slept on is not the device but an epoll instance that watches it, which holds no file that
    /// it watches (epoll(7)). A ring of io_uring holds each file that it polls, and lets go of it in a
    /// thread of the kernel's some time after the process has ended: that would put off the device's
    /// release, and with it the end of bus mastering, until after memory is somebody else's
    /// (`uio/memory.rs`).
    ///
    /// # Errors
    ///
    /// What the system refuses another descriptor with.
    pub(crate) fn uio(fd: OwnedFd) -> rustix::io::Result<Self> {
        let watch = create(CreateFlags::CLOEXEC)?;
        add(&watch, &fd, EventData::new_u64(0), EventFlags::IN)?;
        Ok(Self { fd, watch: Some(watch), width: 4 })
    }

    /// Takes what has arrived; whether there was something.
    pub(crate) fn take(&self) -> bool {
        let mut count = [0; 8];
        rustix::io::read(&self.fd, &mut count[..self.width]).is_ok()
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_ref().unwrap_or(&self.fd).as_fd()
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
        self.as_fd()
    }

    fn take(&self) -> bool {
        Self::take(self)
    }
}

impl<S: std::ops::Deref<Target = Signal> + Send + Sync, F: Fn() + Send + Sync> InterruptLine
    for HeldBack<S, F>
{
    fn fd(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
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
    use std::io::Write;
    use std::os::fd::AsRawFd;
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

    /// As after the end of a process whose ring outlives it.
    #[test]
    fn a_ring_that_sleeps_on_a_uio_device_does_not_keep_it_open() {
        let (device, mut other_end) = std::io::pipe().unwrap();
        let device = OwnedFd::from(device);
        rustix::io::ioctl_fionbio(&device, true).unwrap();
        let signal = Signal::uio(device).unwrap();
        let mut ring = io_uring::IoUring::new(2).unwrap();
        let fd = io_uring::types::Fd(signal.as_fd().as_raw_fd());
        let poll = io_uring::opcode::PollAdd::new(fd, 1).build();
        // SAFETY: a poll has no memory that the kernel would have to find.
        unsafe { ring.submission().push(&poll) }.unwrap();
        ring.submit().unwrap();
        other_end.write_all(&[0; 4]).unwrap();
        ring.submit_and_wait(1).unwrap();
        assert!(ring.completion().next().is_some_and(|entry| entry.result() & 1 != 0));
        assert!(signal.take() && !signal.take());
        // SAFETY: as above.
        unsafe { ring.submission().push(&poll) }.unwrap();
        ring.submit().unwrap();
        assert!(ring.completion().is_empty());
        drop(signal);
        // Nobody has the end to read from any more, though the ring still sleeps.
        let refused = other_end.write(&[0; 4]).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
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
