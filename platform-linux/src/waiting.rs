//! How a queue waits for its controller: by looking again, by sleeping until an interrupt comes, or
//! by the one and then the other.

use std::os::fd::BorrowedFd;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

mod pace;

pub(crate) use pace::Pace;

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

/// What a look for replies is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// A look at memory, where an interrupt may have come and gone before it (MPI 2.x).
    Memory,
    /// A register read, while the interrupt says whether there is something (MPI 1.x): let pass, it
    /// comes at once if a reply waits.
    Register,
}

/// Decides between looking and sleeping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    waiting: Waiting,
    look: Look,
    pace: Pace,
    armed: bool,
    /// The caller leaves it to [`Waiter::next`] when to look.
    is_asked: bool,
    /// Something has happened since the last look.
    due: bool,
}

impl Waiter {
    pub(crate) const fn new(waiting: Waiting, look: Look) -> Self {
        Self { waiting, look, pace: Pace::new(), armed: false, is_asked: false, due: true }
    }

    /// What to do after a look in vain, with so many commands outstanding.
    pub(crate) fn next(&mut self, outstanding: u16, now: impl FnOnce() -> Duration) -> Next {
        self.is_asked = true;
        match self.waiting {
            Waiting::Poll => Next::Look,
            _ if self.armed => Next::Sleep,
            Waiting::Adaptive if outstanding > 0 && self.pace.look_again(now()) => Next::Look,
            Waiting::Interrupt | Waiting::Adaptive => Next::Arm,
        }
    }

    /// Whether a look can find something that an interrupt has not told of. It may be left out then,
    /// if it costs; a caller that sleeps by itself may have reasons to look.
    pub(crate) fn is_due(&self) -> bool {
        let told = self.waiting == Waiting::Interrupt && self.look == Look::Register;
        self.due || !told || !self.is_asked
    }

    /// A look was made, and has found something or not. It may have stopped before there was nothing
    /// left, with nothing more outstanding (`early`): then a controller that only takes its interrupt back
    /// when it is found empty (QEMU's) would wake for nothing.
    pub(crate) fn looked(&mut self, found: bool, early: bool, now: impl FnOnce() -> Duration) {
        self.due = early;
        if found {
            self.pace.found(now);
        }
    }

    /// The caller sleeps by itself.
    pub(crate) const fn is_left_alone(&mut self) {
        self.is_asked = false;
    }

    /// Whether what came until interrupts were let pass still wakes.
    pub(crate) fn wakes_for_what_waits(&self) -> bool {
        self.look == Look::Register
    }

    /// Interrupts pass from now on, or no longer.
    pub(crate) const fn arm(&mut self, armed: bool) {
        self.armed = armed;
        self.due = true;
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

    fn next(waiter: &mut Waiter) -> Next {
        waiter.next(1, || Duration::ZERO)
    }

    #[test]
    fn interrupts_are_let_pass_and_looked_behind_before_sleep() {
        let mut waiter = Waiter::new(Waiting::Interrupt, Look::Memory);
        assert_eq!(next(&mut waiter), Next::Arm);
        waiter.arm(true);
        assert!(waiter.is_due() && !waiter.wakes_for_what_waits());
        assert_eq!(next(&mut waiter), Next::Sleep);
        let mut waiter = Waiter::new(Waiting::Adaptive, Look::Memory);
        assert_eq!(next(&mut waiter), Next::Look);
        assert_eq!(waiter.next(1, || Duration::from_secs(1)), Next::Arm);
        waiter.arm(true);
        assert_eq!(next(&mut waiter), Next::Sleep);
        assert_eq!(next(&mut Waiter::new(Waiting::Poll, Look::Memory)), Next::Look);
    }

    #[test]
    fn with_nothing_outstanding_there_is_nothing_to_look_for() {
        let mut waiter = Waiter::new(Waiting::Adaptive, Look::Memory);
        assert_eq!(waiter.next(0, || Duration::ZERO), Next::Arm);
    }

    #[test]
    fn a_look_that_costs_is_left_out_until_an_interrupt_came() {
        let now = || Duration::ZERO;
        let mut waiter = Waiter::new(Waiting::Interrupt, Look::Register);
        assert!(waiter.is_due());
        waiter.looked(false, false, now);
        assert_eq!(next(&mut waiter), Next::Arm);
        waiter.arm(true);
        // Woken.
        waiter.arm(false);
        assert!(waiter.is_due());
        waiter.looked(true, true, now);
        assert!(waiter.is_due());
        waiter.looked(true, false, now);
        assert!(!waiter.is_due());
        waiter.is_left_alone();
        assert!(waiter.is_due());
        for (waiting, look) in
            [(Waiting::Interrupt, Look::Memory), (Waiting::Adaptive, Look::Register)]
        {
            let mut waiter = Waiter::new(waiting, look);
            next(&mut waiter);
            waiter.looked(true, false, now);
            assert!(waiter.is_due());
        }
    }

    #[test]
    fn each_way_to_wait_has_a_name() {
        for (name, waiting) in Waiting::ALL {
            assert_eq!(name.parse(), Ok(waiting));
        }
        assert!("sleep".parse::<Waiting>().expect_err("no way").contains("adaptive"));
    }
}
