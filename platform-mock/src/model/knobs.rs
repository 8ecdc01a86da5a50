//! What a test turns: faults, lies, hot-plug, and disks to begin with.

mod commands;
mod disks;
mod facts;
mod faults;
mod log;

use std::collections::VecDeque;

pub use disks::{disk, disks};
pub use facts::FactsOverride;
pub use faults::NoCoreDump;
pub use log::LogEntry;

use super::message::Message;
use super::queues::{Answer, Reply};
use super::{Chip, Later, Model, State};

/// What a configuration page is to be instead: told the extended page's type (or the type), the
/// request's page address and what the page is, if there is one, it returns the page as the host
/// shall see it, its header included.
pub type PageLie = fn(kind: u8, address: u32, page: Option<Vec<u8>>) -> Option<Vec<u8>>;

/// The knobs' positions.
#[derive(Debug, Default)]
pub(super) struct Knobs {
    pub(super) stopped: bool,
    pub(super) all_ones: bool,
    /// SCSI commands are not carried out at once: they are held, or slowed down.
    pub(super) put_off: bool,
    pub(super) commands: commands::Knobs,
    log_sequence: u16,
    pub(super) facts: FactsOverride,
    pub(super) raw: VecDeque<Reply>,
    pub(super) page_lie: Option<PageLie>,
    drop_replies: u32,
    zero_reads: u32,
}

impl Knobs {
    /// Whether this reply is to be lost.
    pub(super) fn drops(&mut self, reply: &Reply) -> bool {
        if self.drop_replies == 0 || matches!(reply.answer, Answer::Raw(_)) {
            return false;
        }
        self.drop_replies -= 1;
        true
    }

    /// Whether this read of a status register answers zero.
    pub(super) fn zero_read(&mut self) -> bool {
        let zero = self.zero_reads > 0;
        self.zero_reads -= u32::from(zero);
        zero
    }
}

/// Events and replies that wait for their time; events beyond are lost.
const MOST_EVENTS: usize = 4096;

impl Model {
    /// The kind of chip.
    #[must_use]
    pub fn chip(&self) -> &Chip {
        &self.chip
    }

    /// What the IOC is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.front.state
    }

    /// What the driver did that a real chip would not forgive, in words; the first hundred things.
    #[must_use]
    pub fn complaints(&self) -> &[String] {
        &self.front.complaints
    }

    /// Forgets the complaints so far.
    pub fn clear_complaints(&mut self) {
        self.front.complaints.clear();
    }

    /// SCSI commands carried out since power-on.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// Events that wait for an acknowledgement.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.events.unacknowledged()
    }

    /// Sends an event, if the host has asked for it; `acknowledge` asks for its acknowledgement.
    pub fn raise_event(&mut self, code: u16, data: Vec<u8>, acknowledge: bool) {
        self.raise_event_at(self.now, code, data, acknowledge);
    }

    /// Sends an event when it is `at`, after everything that is due until then. Of a storm that
    /// no host listens to, only so much is kept as firmware has room for.
    pub(super) fn raise_event_at(&mut self, at: u64, code: u16, data: Vec<u8>, acknowledge: bool) {
        if self.later.len() >= MOST_EVENTS {
            return;
        }
        let place = self.later.partition_point(|(due, _)| *due <= at);
        self.later.insert(place, (at, Later::Event { code, data, acknowledge }));
    }

    /// Replaces facts that the IOC states; what it does stays the chip's own.
    pub fn override_facts(&mut self, facts: FactsOverride) {
        self.knobs.facts = facts;
    }

    /// Loses the next `count` replies, events included.
    pub fn drop_replies(&mut self, count: u32) {
        self.knobs.drop_replies = count;
    }

    /// Answers the next `count` reads of doorbell, diagnostic and interrupt registers with zero, as
    /// Aero and Sea may.
    pub fn zero_reads(&mut self, count: u32) {
        self.knobs.zero_reads = count;
    }

    /// Sends this reply frame in the next free one of the host's: on MPI2 for SMID `smid` on reply
    /// queue `queue`, on MPI1 for whatever its context says.
    pub fn post_frame(&mut self, queue: u8, smid: u16, frame: &[u8]) {
        let answer = Answer::Frame(Message::raw(frame));
        self.knobs.raw.push_back(Reply { key: smid.into(), queue, answer });
    }

    /// Replaces configuration pages from now on, or tells the truth again.
    pub fn lie_in_pages(&mut self, lie: Option<PageLie>) {
        self.knobs.page_lie = lie;
    }

    /// Posts a descriptor on a reply queue as it stands, true or not (MPI2).
    pub fn post_descriptor(&mut self, queue: u8, descriptor: u64) {
        self.knobs.raw.push_back(Reply { key: 0, queue, answer: Answer::Raw(descriptor) });
    }

    /// Posts a word on the reply FIFO as it stands, true or not (MPI1).
    pub fn post_word(&mut self, word: u32) {
        self.post_descriptor(0, word.into());
    }
}
