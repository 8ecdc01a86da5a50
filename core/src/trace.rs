//! Counters, always on, and a ring of what passed, when somebody asks.

use heapless::Deque;

/// Entries that a trace keeps.
const ENTRIES: usize = 128;
/// Bytes of a message that a trace keeps: a whole request frame of the usual size.
pub const TRACED_BYTES: usize = 128;

/// What one queue has done. Counts only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Commands given to the controller.
    pub submitted: u64,
    /// Commands completed, in whatever way.
    pub completed: u64,
    /// Of those, with a reply frame: with a status, a residual, sense or an error.
    pub with_reply_frame: u64,
    /// Drains of the reply queue.
    pub polls: u64,
    /// Drains that found nothing.
    pub idle_polls: u64,
    /// The most commands that the controller had at once.
    pub outstanding_peak: u16,
    /// Drains by how many replies they found: 1, 2–3, 4–7, 8–15, 16–31, 32–63, 64–127, 128 or more.
    pub batches: [u64; 8],
    /// Events that the IOC sent.
    pub events: u64,
    /// Replies for a slot that nothing is outstanding on, and descriptors of unknown kind.
    pub stray_replies: u64,
    /// Reply frame addresses that are not a frame the device has.
    pub bad_frame_addresses: u64,
    /// Reply frames that answer something else than the slot asked.
    pub bad_replies: u64,
    /// Times that a device answered BUSY or TASK SET FULL and was throttled.
    pub throttled: u64,
}

impl Counters {
    /// Counts a drain that found `replies`.
    #[inline]
    pub(crate) fn drained(&mut self, replies: u32) {
        self.polls += 1;
        match replies.checked_ilog2() {
            None => self.idle_polls += 1,
            Some(power) => {
                if let Some(batch) = self.batches.get_mut(power.min(7) as usize) {
                    *batch += 1;
                }
            }
        }
    }

    /// How often the controller said something that cannot be true.
    #[must_use]
    pub const fn lies(&self) -> u64 {
        self.stray_replies + self.bad_frame_addresses + self.bad_replies
    }
}

/// What kind of thing passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TraceKind {
    /// A request was posted; `word` is its descriptor (MPI2) or bus address (MPI1), the bytes are
    /// its frame.
    Request,
    /// A reply without a frame; `word` is the descriptor (MPI2) or context (MPI1).
    Reply,
    /// A reply with a frame; `word` as for `Reply`, the bytes are the frame.
    ReplyFrame,
    /// A reply that cannot be true; `word` as for `Reply`.
    Lie,
}

/// One thing that passed, 160 bytes.
#[derive(Clone, Copy, Debug)]
pub struct TraceEntry {
    /// Counts from 0; a gap means that entries were overwritten before they were read.
    pub sequence: u64,
    /// The time given to the last `tick`, in milliseconds.
    pub at_ms: u64,
    /// What passed.
    pub kind: TraceKind,
    /// Bytes of the message that count.
    pub length: u8,
    /// See [`TraceKind`].
    pub word: u64,
    /// The message's first bytes, as on the wire.
    pub bytes: [u8; TRACED_BYTES],
}

/// The last 128 things that passed, or the last 128 events. 20 KiB; supplied by whoever wants to
/// look.
#[derive(Debug, Default)]
pub struct Trace {
    ring: Deque<TraceEntry, ENTRIES>,
    sequence: u64,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub const fn new() -> Self {
        Self { ring: Deque::new(), sequence: 0 }
    }

    /// What passed since `sequence`, oldest first.
    pub fn since(&self, sequence: u64) -> impl Iterator<Item = &TraceEntry> {
        self.ring.iter().filter(move |entry| entry.sequence >= sequence)
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn record(&mut self, at_ms: u64, kind: TraceKind, word: u64, message: &[u8]) {
        let mut bytes = [0; TRACED_BYTES];
        let mut length = 0;
        for (to, from) in bytes.iter_mut().zip(message) {
            *to = *from;
            length += 1;
        }
        if self.ring.is_full() {
            self.ring.pop_front();
        }
        let entry = TraceEntry { sequence: self.sequence, at_ms, kind, length, word, bytes };
        // There is room: the oldest has just gone.
        let _ = self.ring.push_back(entry);
        self.sequence += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn batches_are_counted_by_powers_of_two() {
        let mut counters = Counters::default();
        for replies in [0, 1, 2, 3, 4, 31, 32, 127, 128, 5000] {
            counters.drained(replies);
        }
        assert_eq!(counters.polls, 10);
        assert_eq!(counters.idle_polls, 1);
        assert_eq!(counters.batches, [1, 2, 1, 0, 1, 1, 1, 2]);
    }

    #[test]
    fn a_trace_keeps_the_newest_and_numbers_them() {
        let mut trace = Trace::new();
        for word in 0..200 {
            trace.record(word, TraceKind::Request, word, &[1, 2, 3]);
        }
        let words: Vec<u64> = trace.since(0).map(|entry| entry.word).collect();
        assert_eq!(words.len(), ENTRIES);
        assert_eq!((words[0], words[127]), (72, 199));
        assert_eq!(trace.since(198).map(|entry| entry.length).collect::<Vec<_>>(), [3, 3]);
    }
}
