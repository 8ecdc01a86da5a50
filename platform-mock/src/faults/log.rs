//! What the faults of a run have done, for a person to read and a test to compare.

use std::fmt;

use serde::Serialize;

use super::plan::Counts;

/// Entries that are kept: a fault without end would fill memory with them.
const MOST_EVENTS: usize = 10_000;

/// Something that a fault did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultEvent {
    /// When, in nanoseconds of the bus's time as the firmware had last heard it.
    pub ns: u64,
    /// How far the run had got.
    pub counts: Counts,
    /// The kind's name.
    pub fault: &'static str,
    /// What was done, and to what.
    pub what: String,
}

impl fmt::Display for FaultEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>10.3} ms, message {}, access {}: {}: {}",
            self.ns as f64 / 1e6,
            self.counts.messages,
            self.counts.accesses,
            self.fault,
            self.what
        )
    }
}

/// The entries, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Log {
    events: Vec<FaultEvent>,
}

impl Log {
    pub(crate) fn note(&mut self, event: FaultEvent) {
        if self.events.len() < MOST_EVENTS {
            self.events.push(event);
        }
    }

    pub(crate) fn events(&self) -> &[FaultEvent] {
        &self.events
    }

    pub(crate) fn into_events(self) -> Vec<FaultEvent> {
        self.events
    }
}
