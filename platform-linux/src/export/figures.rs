//! What an export has done, thread by thread, where others can look at it while it goes on.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::export::engine::EngineCounters;
use crate::host::CommandQueue;
use crate::metrics::{Family, QueueMetrics};

/// What one thread has done.
#[derive(Clone, Debug)]
pub struct ThreadFigures {
    /// Its engine.
    pub engine: EngineCounters,
    /// Its queue of the controller.
    pub queue: QueueMetrics,
}

/// Where threads put it, a moment old.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Vec<Option<ThreadFigures>>>>);

impl Board {
    /// Puts up what thread `number` has done.
    pub fn put(&self, number: u16, engine: EngineCounters, queue: &dyn CommandQueue) {
        let figures = ThreadFigures { engine, queue: QueueMetrics::of(number, queue) };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::from(number);
        if all.len() <= index {
            all.resize(index + 1, None);
        }
        if let Some(place) = all.get_mut(index) {
            *place = Some(figures);
        }
    }

    /// What is there.
    #[must_use]
    pub fn all(&self) -> Vec<ThreadFigures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten().cloned().collect()
    }
}

/// What an export has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Devices that there were.
    pub devices: usize,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Discards and write-zeroes.
    pub trims: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Commands that were sent again.
    pub sent_again: u64,
}

impl Summary {
    /// Adds what one thread has done.
    pub fn add(&mut self, counters: &EngineCounters) {
        self.reads += counters.reads;
        self.writes += counters.writes;
        self.flushes += counters.flushes;
        self.trims += counters.trims;
        self.read_bytes += counters.read_bytes;
        self.written_bytes += counters.written_bytes;
        self.errors += counters.errors;
        self.sent_again += counters.sent_again;
    }

    /// The same for Prometheus.
    #[must_use]
    pub fn families(&self, bus: &str, devices: usize) -> Vec<Family> {
        let bus = ("bus", bus);
        let mut requests = Family::counter(
            "export_requests_total",
            "Requests of block devices that ended well, by what they were.",
        );
        for (kind, count) in [
            ("read", self.reads),
            ("write", self.writes),
            ("flush", self.flushes),
            ("trim", self.trims),
        ] {
            requests.push(&[bus, ("kind", kind)], count as f64);
        }
        let mut bytes = Family::counter("export_bytes_total", "Bytes of those requests.");
        bytes.push(&[bus, ("kind", "read")], self.read_bytes as f64);
        bytes.push(&[bus, ("kind", "write")], self.written_bytes as f64);
        vec![
            Family::gauge("export_devices", "Block devices that there are.")
                .with(&[bus], devices as f64),
            requests,
            bytes,
            Family::counter("export_errors_total", "Requests of block devices that failed.")
                .with(&[bus], self.errors as f64),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_have_done_adds_up() {
        let mut summary = Summary::default();
        let one = EngineCounters { reads: 2, read_bytes: 100, errors: 1, ..Default::default() };
        summary.add(&one);
        summary.add(&one);
        assert_eq!((summary.reads, summary.read_bytes, summary.errors), (4, 200, 2));
        let text = crate::metrics::families_as_text(&summary.families("qtest", 1));
        assert!(text.contains("export_requests_total{bus=\"qtest\",kind=\"read\"} 4"), "{text}");
    }
}
