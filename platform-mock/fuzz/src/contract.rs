//! What a driver owes its callers: each command that it accepted completes once, as itself.

use std::collections::HashMap;

use fusion_mpt::io_queue::Completion;

/// The longest sense data there is.
const MOST_SENSE: usize = 252;

/// Commands of one queue that are out.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Bytes that each asked for, by cookie.
    out: HashMap<u64, u32>,
    next: u64,
}

impl Default for Ledger {
    /// Far up, but below the cookies that are the driver's own while it stops.
    fn default() -> Self {
        Self { out: HashMap::new(), next: u64::MAX - (1 << 20) }
    }
}

impl Ledger {
    /// The cookie of the next command.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// The next command was accepted.
    pub(crate) fn accept(&mut self, requested: u32) {
        self.out.insert(self.next, requested);
        self.next = self.next.wrapping_add(1);
    }

    /// Commands that are out.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// The cookie of a command that is out, chosen by `pick`.
    pub(crate) fn pick(&self, pick: u8) -> Option<u64> {
        let cookie = self.next.wrapping_sub(u64::from(pick) + 1);
        self.out.contains_key(&cookie).then_some(cookie)
    }

    /// A command came back.
    pub(crate) fn complete(&mut self, completion: &Completion<'_>) {
        let Completion { cookie, outcome, sense, .. } = completion;
        let Some(requested) = self.out.remove(cookie) else {
            panic!("a completion with cookie {cookie}, which is not out: {outcome:?}");
        };
        assert!(
            outcome.transferred() <= requested,
            "{} bytes transferred of {requested}",
            outcome.transferred()
        );
        assert!(sense.len() <= MOST_SENSE, "{} bytes of sense data", sense.len());
        assert_eq!(sense.len(), outcome.sense_length());
    }

    /// Nothing may be out any more.
    #[track_caller]
    pub(crate) fn assert_empty(&self, after: &str) {
        assert!(self.out.is_empty(), "after {after} these never completed: {:?}", self.out.keys());
    }
}
