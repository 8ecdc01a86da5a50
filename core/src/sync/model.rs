//! What the models stand on: a critical section and a piece of memory that loom knows of.

use std::cell::RefCell;

use critical_section::RawRestoreState;
use loom::cell::UnsafeCell;
use loom::sync::{Mutex, MutexGuard};

loom::lazy_static! {
    static ref SECTION: Mutex<()> = Mutex::new(());
}

loom::thread_local! {
    /// The section's guard, while this thread is inside.
    static GUARD: RefCell<Option<MutexGuard<'static, ()>>> = RefCell::new(None);
}

struct Section;
critical_section::set_impl!(Section);

// SAFETY: only one thread at a time gets past `acquire`; one that is inside already gets past it
// again, and its inner `release` does nothing.
unsafe impl critical_section::Impl for Section {
    unsafe fn acquire() -> RawRestoreState {
        let is_nested = GUARD.with(|guard| guard.borrow().is_some());
        if !is_nested {
            let taken = SECTION.lock().expect("a test that has failed ends");
            GUARD.with(|guard| *guard.borrow_mut() = Some(taken));
        }
        is_nested
    }

    unsafe fn release(is_nested: RawRestoreState) {
        if !is_nested {
            let taken = GUARD.with(|guard| guard.borrow_mut().take());
            drop(taken);
        }
    }
}

/// Memory without a lock, such as a ring in DMA memory. A read that is not ordered after every
/// write, and a write that is not ordered after every access, fail the test.
#[derive(Debug, Default)]
pub(crate) struct Unguarded(UnsafeCell<u32>);

// SAFETY: loom stops the test at the first access that races.
unsafe impl Sync for Unguarded {}
// SAFETY: a number.
unsafe impl Send for Unguarded {}

impl Unguarded {
    pub(crate) fn get(&self) -> u32 {
        // SAFETY: the pointer is good within the closure, and loom sees to it that nobody writes.
        self.0.with(|number| unsafe { *number })
    }

    pub(crate) fn set(&self, number: u32) {
        // SAFETY: the pointer is good within the closure, and loom sees to it that nobody else is
        // there.
        self.0.with_mut(|at| unsafe { *at = number });
    }
}

/// Runs `body` in every order in which its threads can go on, with at most `preemptions` of them
/// being interrupted: bugs need few, and the orders are too many otherwise.
pub(crate) fn explore(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}
