//! Interrupts as file descriptors, and when to sleep on them.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;
use std::time::Duration;

pub(crate) mod pace;

/// How a program learns of replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum InterruptMode {
    /// It looks all the time: the shortest delay, for a CPU of its own.
    Poll,
    /// It sleeps until an interrupt comes. Under load it lets several replies gather before that.
    Interrupt,
    /// It looks for as long as replies usually take to come, if that is shorter than sleeping and
    /// waking, and then sleeps.
    #[default]
    Adaptive,
}

impl InterruptMode {
    /// Each, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Poll, Self::Interrupt, Self::Adaptive];

    /// Its name as it is typed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Interrupt => "interrupt",
            Self::Adaptive => "adaptive",
        }
    }
}

impl fmt::Display for InterruptMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for InterruptMode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name).ok_or_else(|| {
            format!("{name:?} is no way to learn of replies; use poll, interrupt or adaptive")
        })
    }
}

/// The descriptor that one interrupt vector arrives at.
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

    /// Forgets what has arrived.
    pub(crate) fn clear(&self) {
        let mut count = [0; 8];
        // Nothing has arrived, or it is forgotten now: both are what was wanted.
        let _ = rustix::io::read(&self.fd, &mut count[..self.width]);
    }

    /// Sleeps until something arrives, and forgets it; `false` after `limit` without.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let timeout = Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        // A signal to the process ends the sleep early, which is as well: it may ask to stop.
        let came = poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0);
        if came {
            self.clear();
        }
        came
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    fn signal() -> Signal {
        Signal::event(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap())
    }

    fn raise(signal: &Signal) {
        rustix::io::write(&signal.fd, &1_u64.to_ne_bytes()).unwrap();
    }

    #[test]
    fn an_interrupt_wakes_once_however_often_it_came() {
        let signal = signal();
        raise(&signal);
        raise(&signal);
        assert!(signal.wait(Duration::from_secs(5)));
        assert!(!signal.wait(Duration::ZERO));
    }

    #[test]
    fn what_came_before_can_be_forgotten() {
        let signal = signal();
        signal.clear();
        raise(&signal);
        signal.clear();
        assert!(!signal.wait(Duration::ZERO));
    }

    #[test]
    fn every_mode_is_read_back() {
        for mode in InterruptMode::ALL {
            assert_eq!(mode.as_str().parse(), Ok(mode));
        }
        assert!("often".parse::<InterruptMode>().unwrap_err().contains("adaptive"));
    }
}
