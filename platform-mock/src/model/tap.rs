//! Where somebody else looks at a model's traffic, and lets it go on or not: `faults` does.
//!
//! A model with a tap fetches its requests and makes up its answers as ever; then they lie in the
//! tap, in order, and go nowhere by themselves. Whoever steps the model takes them out after each
//! step and hands back what is to go on. Without a tap nothing of this costs anything.

use std::collections::VecDeque;

use crate::memory::DeviceMemory;
use crate::target::Target;

pub(crate) use super::message::Message;
pub(crate) use super::queues::{Answer, Reply, Request};
pub(crate) use super::scsi::ScsiIo;
use super::scsi::{self, Ending, ioc_status};
use super::{Model, State, Transport};

/// `ResponseCode` of task management that failed (`MPI2_SCSITASKMGMT_RSP_TM_FAILED`, and MPI1's of
/// the same value).
const RESPONSE_FAILED: u8 = 0x05;

/// The way by which a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Through the doorbell, by handshake.
    Doorbell,
    /// Through a queue.
    Queue,
}

/// What came by.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a few at a time, for as long as one step")]
pub(crate) enum Tapped {
    /// A request that was fetched and is not carried out yet.
    Request(Request, Door),
    /// A SCSI command that was just carried out, on the disk too; its answer follows.
    Executed(Request),
    /// An answer that is not posted yet.
    Reply(Reply),
    /// A reset: everything of before is forgotten.
    Reset,
}

/// What came by since it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    queue: VecDeque<Tapped>,
    resets: u64,
}

/// How far a reset has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResetPhase {
    /// There is none.
    None,
    /// The adapter is being reset, by its bus or a diagnostic reset.
    Adapter,
    /// The firmware boots, READY comes next.
    Booting,
}

impl Model {
    /// Attaches a tap, or takes it away; what lies in it then is lost.
    pub(crate) fn set_tap(&mut self, tapped: bool) {
        self.tap = tapped.then(Box::default);
    }

    /// Notes what comes by; gives it back if nobody looks.
    pub(super) fn tap(&mut self, tapped: Tapped) -> Option<Tapped> {
        let Some(tap) = &mut self.tap else { return Some(tapped) };
        if matches!(tapped, Tapped::Reset) {
            tap.queue.clear();
            tap.resets += 1;
        }
        tap.queue.push_back(tapped);
        None
    }

    /// The next of what came by.
    pub(crate) fn next_tapped(&mut self) -> Option<Tapped> {
        self.tap.as_mut()?.queue.pop_front()
    }

    /// Resets that came by.
    pub(crate) fn resets_tapped(&self) -> u64 {
        self.tap.as_ref().map_or(0, |tap| tap.resets)
    }

    /// Carries out a request that came by.
    pub(crate) fn go_on(&mut self, memory: &dyn DeviceMemory, request: &Request, door: Door) {
        match door {
            Door::Doorbell => self.handshake(memory, request),
            Door::Queue => self.carry_out(memory, request),
        }
    }

    /// Posts an answer, now if the host has room and nothing waits before it; whether it waits.
    pub(crate) fn let_out(&mut self, memory: &dyn DeviceMemory, reply: Reply) -> bool {
        let waits = !self.outbox.is_empty() || !self.post(memory, &reply);
        if waits {
            self.outbox.push_back(reply);
        }
        waits
    }

    /// Posts an answer with the next step.
    pub(crate) fn post_later(&mut self, reply: Reply) {
        self.outbox.push_back(reply);
    }

    /// The last word of the reply FIFO that the host has not read (MPI1).
    pub(crate) fn last_word(&mut self) -> Option<&mut u32> {
        match &mut self.transport {
            Transport::Mpi1(fifos) => fifos.last_reply(),
            Transport::Mpi2(_) => None,
        }
    }

    /// Nanoseconds of the time that the firmware was last told.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// How far a reset has got.
    pub(crate) fn reset_phase(&self) -> ResetPhase {
        self.front.reset_phase()
    }

    /// Whether requests are taken and answered: operational, and not yanked.
    pub(crate) fn is_up(&self) -> bool {
        self.front.state == State::Operational && !self.knobs.all_ones
    }

    /// Whether the host has asked for events, and devices have been looked for.
    pub(crate) fn tells_events(&self) -> bool {
        self.is_up() && self.events.on && self.port_enabled
    }

    /// What a SCSI I/O request says.
    pub(crate) fn parse(&self, request: &Request) -> ScsiIo {
        ScsiIo::parse(request, &self.rules())
    }

    /// The reply frame of a command that succeeded, which plain success does without.
    pub(crate) fn success_frame(&self, request: &Request) -> Reply {
        let transferred = self.parse(request).data_bytes();
        scsi::reply(request, self.chip.is_mpi1(), &Ending::heard(0, 0, transferred))
    }

    /// The reply to a command that the target answers with `status` and does nothing for.
    pub(crate) fn status_reply(&self, request: &Request, status: u8) -> Reply {
        let mpi1 = self.chip.is_mpi1();
        let underrun = mpi1 || self.parse(request).data_bytes() > 0;
        let ioc_status = if underrun { ioc_status::DATA_UNDERRUN } else { ioc_status::SUCCESS };
        scsi::reply(request, mpi1, &Ending::heard(ioc_status, status, 0))
    }

    /// The reply to a task management request that failed; ends the handshake by which it may have
    /// come.
    pub(crate) fn refuse_task_management(&mut self, request: &Request, door: Door) -> Reply {
        if door == Door::Doorbell {
            self.front.reply_elsewhere();
        }
        let (frame, mpi1) = (&request.frame, self.chip.is_mpi1());
        let message = Message::new(if mpi1 { 0x18 } else { 0x1c }, frame[3])
            .with(0, &frame[0..2])
            .with8(4, RESPONSE_FAILED)
            .with8(5, frame[5])
            .with(8, if mpi1 { &frame[8..12] } else { &frame[8..10] });
        Reply { key: request.key, queue: request.queue, answer: Answer::Frame(message) }
    }

    /// Has the disk in a slot replaced by another that takes its DevHandle too, which firmware must
    /// not give out again before the host has let go of it. The host is told of both. `None`, and
    /// the new disk is lost, if the slot is empty.
    pub(crate) fn reuse_handle(&mut self, slot: u8, target: Target) -> Option<Target> {
        let handle = self.devices.slot(slot)?.handle;
        let old = self.remove_disk(slot)?;
        self.devices.give_back(handle);
        // The slot was just emptied, and nobody has the handle.
        let _ = self.add_disk_as(slot, target, Some(handle));
        Some(old)
    }
}
