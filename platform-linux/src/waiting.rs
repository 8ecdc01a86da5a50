//! How a queue waits for its controller: by looking again, by sleeping until an interrupt comes, or
//! by the one and then the other.

use std::os::fd::BorrowedFd;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How a queue waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Waiting {
    /// Looks again and again: the least latency, and a processor of its own.
    Poll,
    /// Sleeps until an interrupt comes.
    Interrupt,
    /// Looks for as long as something is likely to come, then sleeps.
    #[default]
    Adaptive,
}

impl Waiting {
    /// Every way, by its name on a command line.
    pub const ALL: [(&'static str, Self); 3] =
        [("poll", Self::Poll), ("interrupt", Self::Interrupt), ("adaptive", Self::Adaptive)];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Interrupt => "interrupt",
            Self::Adaptive => "adaptive",
        }
    }
}

impl FromStr for Waiting {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, waiting)| waiting).ok_or_else(|| {
            format!("{name:?} is no way to wait; there are poll, interrupt and adaptive")
        })
    }
}

/// The interrupt line or vector of a queue.
pub trait InterruptLine: Send + Sync {
    /// What becomes readable when the interrupt comes.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Takes the interrupt that has come, and lets the next one come where the kernel held it back
    /// (INTx). Whether one had come.
    fn take(&self) -> bool;
}

/// The interrupt of a queue. Clones are the same.
#[derive(Clone)]
pub struct Interrupt(Arc<dyn InterruptLine>);

impl std::fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Interrupt({:?})", self.0.fd())
    }
}

impl Interrupt {
    /// Takes a line.
    pub fn new(line: impl InterruptLine + 'static) -> Self {
        Self(Arc::new(line))
    }

    /// What becomes readable when it comes.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    /// As [`InterruptLine::take`].
    pub fn take(&self) -> bool {
        self.0.take()
    }

    /// Sleeps until it comes, for at most `limit`.
    pub fn sleep(&self, limit: Duration) {
        let fd = self.0.fd();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        let limit =
            Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        // A signal ends the sleep early, which is as good as an interrupt.
        let _ = poll(&mut fds, Some(&limit));
    }
}

/// The longest sleep: the driver's clock must be told the time.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);
/// Looks that find nothing before sleep, where the way is [`Waiting::Adaptive`].
const LOOKS: u32 = 200;

/// What to do now that a look has found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Look again.
    Look,
    /// Let interrupts pass, then look again: what came until now wakes nobody.
    Arm,
    /// Sleep.
    Sleep,
}

/// Decides between looking and sleeping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    waiting: Waiting,
    armed: bool,
}

impl Waiter {
    pub(crate) const fn new(waiting: Waiting) -> Self {
        Self { waiting, armed: false }
    }

    /// What to do after `idle` looks in a row that found nothing.
    pub(crate) const fn next(&self, idle: u32) -> Next {
        match self.waiting {
            Waiting::Poll => Next::Look,
            _ if self.armed => Next::Sleep,
            Waiting::Interrupt => Next::Arm,
            Waiting::Adaptive if idle < LOOKS => Next::Look,
            Waiting::Adaptive => Next::Arm,
        }
    }

    /// Interrupts pass from now on, or no longer.
    pub(crate) const fn arm(&mut self, armed: bool) {
        self.armed = armed;
    }

    pub(crate) const fn is_armed(&self) -> bool {
        self.armed
    }

    /// Sleeps until the interrupt comes, which is still to be taken.
    pub(crate) fn sleep(&self, interrupt: &Interrupt) {
        interrupt.sleep(LONGEST_SLEEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_let_pass_and_looked_behind_before_sleep() {
        let mut waiter = Waiter::new(Waiting::Interrupt);
        assert_eq!(waiter.next(0), Next::Arm);
        waiter.arm(true);
        assert_eq!(waiter.next(0), Next::Sleep);
        let mut waiter = Waiter::new(Waiting::Adaptive);
        assert_eq!(waiter.next(0), Next::Look);
        assert_eq!(waiter.next(LOOKS), Next::Arm);
        waiter.arm(true);
        assert_eq!(waiter.next(0), Next::Sleep);
        assert_eq!(Waiter::new(Waiting::Poll).next(u32::MAX), Next::Look);
    }

    #[test]
    fn each_way_to_wait_has_a_name() {
        for (name, waiting) in Waiting::ALL {
            assert_eq!(name.parse(), Ok(waiting));
        }
        assert!("sleep".parse::<Waiting>().expect_err("no way").contains("adaptive"));
    }
}
