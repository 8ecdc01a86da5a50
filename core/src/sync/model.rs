//! What the models stand on: a critical section and memory that loom knows of.

use core::ops::Range;
use core::ptr::NonNull;
use std::boxed::Box;
use std::cell::RefCell;
use std::vec;

use critical_section::RawRestoreState;
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex, MutexGuard};

use crate::mem::WORD;
use crate::platform::{BusAddr, DmaRegion};

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

/// Runs `body` in every order of its threads in which one is interrupted at most `preemptions` times
/// in all: bugs need few, and there are too many orders otherwise.
pub(crate) fn explore(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

/// DMA memory, all ones. Each access to it is a read of `ring`: whoever lays the memory out anew
/// while it is in use sets that, and fails the test.
#[derive(Debug)]
pub(crate) struct Region {
    ring: Arc<Unguarded>,
    words: NonNull<[u64]>,
}

impl Region {
    pub(crate) fn new(bytes: usize, ring: Arc<Unguarded>) -> Self {
        let words = vec![u64::MAX; bytes.div_ceil(WORD)].into_boxed_slice();
        let words = NonNull::new(Box::into_raw(words)).expect("a box's address");
        Self { ring, words }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: it was made by `Box::into_raw`, and nobody has it after its owner.
        drop(unsafe { Box::from_raw(self.words.as_ptr()) });
    }
}

// SAFETY: the words are in a box of their own, to which there is no reference while it is taken
// apart into this pointer.
unsafe impl DmaRegion for Region {
    fn cpu(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.words.cast(), self.words.len() * WORD)
    }

    fn bus(&self) -> BusAddr {
        BusAddr(0)
    }

    fn to_device(&self, _range: Range<usize>) {
        self.ring.get();
    }

    fn to_cpu(&self, _range: Range<usize>) {
        self.ring.get();
    }
}
