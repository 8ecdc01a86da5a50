//! What a test turns: faults, lies, hot-plug, and disks to begin with.

use std::collections::VecDeque;

use crate::disk::Disk;
use crate::target::{Target, TargetConfig};

use super::devices::Device;
use super::events::{self, Change};
use super::message::Message;
use super::queues::{Answer, Reply};
use super::scsi::{self, Ending, ScsiIo, ioc_status};
use super::{Chip, Later, Model, State, pages};

/// IOCLogInfo of commands that ended with their device: PL, device missing.
const LOG_INFO_DEVICE_MISSING: u32 = 0x3117_0000;

/// Facts that are not the chip's own. `None` leaves a field as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FactsOverride {
    /// `RequestCredit` (MPI2), `GlobalCredits` (MPI1).
    pub credits: Option<u16>,
    /// `IOCRequestFrameSize`, `RequestFrameSize`, in 32-bit words.
    pub request_frame_words: Option<u16>,
    /// `ReplyFrameSize` in 32-bit words (MPI2).
    pub reply_frame_words: Option<u8>,
    /// `MaxReplyDescriptorPostQueueDepth` (MPI2), `ReplyQueueDepth` (MPI1).
    pub reply_depth: Option<u16>,
    /// `MaxChainDepth`.
    pub max_chain_depth: Option<u8>,
    /// `IOCMaxChainSegmentSize` in units of 16 bytes (MPI2).
    pub chain_units: Option<u16>,
    /// `MaxMSIxVectors` (MPI2).
    pub vectors: Option<u8>,
    /// `IOCCapabilities`.
    pub capabilities: Option<u32>,
    /// `IOCStatus` of the reply.
    pub ioc_status: Option<u16>,
    /// `MsgLength` of the reply, in 32-bit words; the handshake goes on for as long as before.
    pub message_words: Option<u8>,
    /// `Function` of the reply.
    pub function: Option<u8>,
}

impl FactsOverride {
    pub(super) fn apply(&self, facts: Message, mpi1: bool) -> Message {
        let mut facts = facts;
        let mut put = |at: Option<usize>, bytes: Option<&[u8]>| {
            if let (Some(at), Some(bytes)) = (at, bytes) {
                facts.put(at, bytes);
            }
        };
        let place = |one: usize, two: usize| Some(if mpi1 { one } else { two });
        let mpi2 = |at: usize| (!mpi1).then_some(at);
        put(place(0x24, 0x18), self.credits.map(u16::to_le_bytes).as_ref().map(|b| &b[..]));
        put(
            place(0x1a, 0x24),
            self.request_frame_words.map(u16::to_le_bytes).as_ref().map(|b| &b[..]),
        );
        put(mpi2(0x36), self.reply_frame_words.as_ref().map(std::slice::from_ref));
        put(place(0x18, 0x34), self.reply_depth.map(u16::to_le_bytes).as_ref().map(|b| &b[..]));
        put(Some(0x14), self.max_chain_depth.as_ref().map(std::slice::from_ref));
        put(mpi2(0x26), self.chain_units.map(u16::to_le_bytes).as_ref().map(|b| &b[..]));
        put(mpi2(0x17), self.vectors.as_ref().map(std::slice::from_ref));
        put(place(0x34, 0x1c), self.capabilities.map(u32::to_le_bytes).as_ref().map(|b| &b[..]));
        put(Some(0x0e), self.ioc_status.map(u16::to_le_bytes).as_ref().map(|b| &b[..]));
        put(Some(0x02), self.message_words.as_ref().map(std::slice::from_ref));
        put(Some(0x03), self.function.as_ref().map(std::slice::from_ref));
        facts
    }
}

/// What a configuration page is to be instead: told the extended page's type (or the type), the
/// request's page address and what the page is, if there is one, it returns the page as the host
/// shall see it, its header included.
pub type PageLie = fn(kind: u8, address: u32, page: Option<Vec<u8>>) -> Option<Vec<u8>>;

/// The knobs' positions.
#[derive(Debug, Default)]
pub(super) struct Knobs {
    pub(super) stopped: bool,
    pub(super) all_ones: bool,
    pub(super) hold: bool,
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

    /// The device in a slot.
    pub fn device(&mut self, slot: u8) -> Option<&mut Device> {
        self.devices.at_slot(slot)
    }

    /// Plugs a disk into a slot, of which there is one for each phy, and tells the host.
    ///
    /// # Errors
    ///
    /// The disk, if the slot is taken or there is none.
    pub fn add_disk(&mut self, slot: u8, target: Target) -> Result<u16, Box<Target>> {
        let handle = self.devices.add(slot, target)?;
        self.tell(slot, Change::Added);
        Ok(handle)
    }

    /// Pulls the disk out of a slot: what the device has ends, and the host is told.
    pub fn remove_disk(&mut self, slot: u8) -> Option<Target> {
        self.tell(slot, Change::Gone);
        let rules = self.rules();
        let device = self.devices.remove(slot)?;
        let address = if rules.mpi1 { u16::from(slot) } else { device.handle };
        let mpi1 = rules.mpi1;
        let ending = Ending::terminated(ioc_status::IOC_TERMINATED, LOG_INFO_DEVICE_MISSING);
        let (now, later) = (self.now, &mut self.later);
        self.held.retain(|held| {
            let ends = ScsiIo::parse(held, &rules).address == address;
            if ends {
                later.push_front((now, Later::Reply(scsi::reply(held, mpi1, &ending))));
            }
            !ends
        });
        Some(device.target)
    }

    /// Pulls the disk out of a slot and plugs another in.
    pub fn swap_disk(&mut self, slot: u8, target: Target) -> Option<Target> {
        let old = self.remove_disk(slot)?;
        // The slot was just emptied.
        let _ = self.add_disk(slot, target);
        Some(old)
    }

    /// Tells the host of a change, once it knows of devices at all.
    fn tell(&mut self, slot: u8, change: Change) {
        if !self.port_enabled {
            return;
        }
        let (mpi1, phys, rate) = (self.chip.is_mpi1(), self.chip.phys, pages::rate(&self.chip));
        if let Some(device) = self.devices.slot(slot) {
            let (code, data) = events::device(mpi1, phys, rate, device, change);
            self.raise_event(code, data, false);
        }
    }

    /// Sends an event, if the host has asked for it; `acknowledge` asks for its acknowledgement.
    pub fn raise_event(&mut self, code: u16, data: Vec<u8>, acknowledge: bool) {
        self.later.push_back((self.now, Later::Event { code, data, acknowledge }));
    }

    /// Stops the IOC with a fault.
    pub fn fault(&mut self, code: u16) {
        self.front.fault(code);
    }

    /// Stops or resumes the firmware: registers answer, nothing else happens.
    pub fn stop_answering(&mut self, stopped: bool) {
        self.knobs.stopped = stopped;
    }

    /// Yanks the card, or puts it back: every register reads as all ones.
    pub fn all_ones(&mut self, gone: bool) {
        self.knobs.all_ones = gone;
    }

    /// Keeps the IOC in RESET for ever.
    pub fn never_ready(&mut self) {
        self.front.never_ready();
    }

    /// Replaces facts that the IOC states; what it does stays the chip's own.
    pub fn override_facts(&mut self, facts: FactsOverride) {
        self.knobs.facts = facts;
    }

    /// Holds SCSI commands back from now on, or carries out those held and goes on.
    pub fn hold_commands(&mut self, hold: bool) {
        self.knobs.hold = hold;
    }

    /// Commands held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
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

/// A disk of `bytes` bytes in memory, with names of its own made from `number`.
#[must_use]
pub fn disk(number: u16, bytes: u64) -> Target {
    // Names of a port are its device's plus one, as on most disks.
    let wwn = 0x5000_c500_a1b2_0000 + u64::from(number) * 4;
    let config = TargetConfig {
        wwn,
        sas_address: wwn + 1,
        serial: format!("FM{number:014}"),
        ..TargetConfig::default()
    };
    Target::new(config, Disk::memory(bytes))
}

/// `count` such disks.
#[must_use]
pub fn disks(count: u16, bytes: u64) -> Vec<Target> {
    (0..count).map(|number| disk(number, bytes)).collect()
}
