//! Register writes on their way to a firmware that runs on a thread of its own.
//!
//! A host's write does not wait for the firmware: it is noted, and the firmware takes what was
//! noted between two pieces of its work. It is woken only if it sleeps. Who posts is told how many
//! wait, so that a host that writes without end can be made to.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::Ioc;

/// A write of a register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write {
    pub(crate) offset: u32,
    pub(crate) value: u64,
    /// 64 bits in one go, or 32.
    pub(crate) wide: bool,
}

impl Write {
    /// Does it.
    pub(crate) fn apply(self, ioc: &mut impl Ioc) {
        if self.wide {
            ioc.write64(self.offset, self.value);
        } else {
            ioc.write32(self.offset, self.value as u32);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    writes: Vec<Write>,
    /// The firmware is to look around, whatever was written.
    called: bool,
    parked: bool,
}

/// The writes that the firmware has not seen yet, and its bed.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    /// Something was written.
    ring: AtomicBool,
    wake: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a write; returns how many wait.
    pub(crate) fn post(&self, write: Write) -> usize {
        let mut state = self.lock();
        state.writes.push(write);
        let waiting = state.writes.len();
        self.ring.store(true, Ordering::Release);
        self.wake_up(state);
        waiting
    }

    /// Has the firmware look around: something was turned that is no register.
    pub(crate) fn call(&self) {
        let mut state = self.lock();
        state.called = true;
        self.wake_up(state);
    }

    fn wake_up(&self, mut state: MutexGuard<'_, State>) {
        let parked = mem::take(&mut state.parked);
        drop(state);
        if parked {
            self.wake.notify_one();
        }
    }

    /// Whether something was written since [`Inbox::take`].
    pub(crate) fn rings(&self) -> bool {
        self.ring.load(Ordering::Relaxed)
    }

    /// Does all writes in their order. Only who has the controller locked may call it, so that
    /// nobody overtakes.
    pub(crate) fn take(&self, ioc: &mut impl Ioc) {
        if !self.ring.swap(false, Ordering::Acquire) {
            return;
        }
        let mut writes = mem::take(&mut self.lock().writes);
        for write in writes.drain(..) {
            write.apply(ioc);
        }
        // Its room is used again, unless there is new post in another already.
        let mut state = self.lock();
        if state.writes.capacity() == 0 {
            state.writes = writes;
        }
    }

    /// Sleeps until something is written, somebody calls, or the time is up.
    pub(crate) fn park(&self, limit: Duration) {
        let mut state = self.lock();
        if state.writes.is_empty() && !state.called {
            state.parked = true;
            let woken = self.wake.wait_timeout(state, limit);
            (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
        state.parked = false;
        state.called = false;
    }
}
