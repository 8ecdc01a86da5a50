//! Replies with a frame: errors, statuses, residuals, answers to the driver, events.

use super::{Other, Queue, TakesOther};
use crate::generation::{Generation, ReplyHeader};
use crate::log_info::LogInfo;
use crate::outcome::{Failure, Outcome, judge};
use crate::platform::{DmaRegion, Registers};
use crate::scsi::ScsiStatus;
use crate::slots::Finished;
use crate::throttle::Complaint;
use crate::trace::TraceKind;
use crate::wire::Function;

/// Bytes of a reply frame that are copied out and looked at; no reply this driver reads is longer.
const REPLY_BYTES: usize = 128;
/// The longest sense a SCSI I/O message can ask for.
const SENSE_BYTES: usize = 252;

/// What a reply frame turned out to be; what it says is in the queue's [`Copies`].
pub(super) enum Verdict {
    /// A lie, counted.
    Nothing,
    /// The end of a command.
    Command(Ended),
    /// The answer to a request of the driver's own.
    Reply { smid: u16, header: ReplyHeader },
    /// An event.
    Event { header: ReplyHeader },
}

/// The end of a command by a reply frame; its sense data is in the queue's [`Copies`].
pub(super) struct Ended {
    pub(super) cookie: u64,
    pub(super) outcome: Outcome,
    pub(super) log_info: LogInfo,
}

/// Where a reply frame and sense data are copied to, out of the device's reach, before they are
/// looked at.
#[derive(Debug)]
pub(super) struct Copies {
    frame: [u8; REPLY_BYTES],
    sense: [u8; SENSE_BYTES],
}

impl Copies {
    pub(super) const fn new() -> Self {
        Self { frame: [0; REPLY_BYTES], sense: [0; SENSE_BYTES] }
    }

    /// The reply, as long as it says it is: what lies beyond is left over from an earlier one.
    pub(super) fn frame(&self, header: &ReplyHeader) -> &[u8] {
        self.frame.get(..usize::from(header.length)).unwrap_or(&self.frame)
    }

    /// The sense data of a command that ended so.
    pub(super) fn sense(&self, outcome: &Outcome) -> &[u8] {
        self.sense.get(..outcome.sense_length()).unwrap_or_default()
    }
}

impl<G: Generation, R: Registers, D: DmaRegion> Queue<'_, G, R, D> {
    /// A reply with a frame: what ended a command comes back, an answer to the driver or an event
    /// goes to `other`, a lie is counted.
    #[cold]
    #[inline(never)]
    pub(super) fn take_frame<T: TakesOther>(
        &mut self,
        word: u64,
        smid: Option<u16>,
        address: u32,
        other: &mut T,
    ) -> Option<Ended> {
        let other_reply = match self.reply_frame(word, smid, address) {
            Verdict::Nothing => return None,
            Verdict::Command(ended) => return Some(ended),
            Verdict::Reply { smid, header } => {
                Other::Reply { smid, header, frame: self.copies.frame(&header) }
            }
            Verdict::Event { header } => Other::Event { frame: self.copies.frame(&header) },
        };
        other.take::<G, D>(&self.memory, &other_reply);
        None
    }

    /// What a reply with a frame is.
    #[inline(never)]
    fn reply_frame(&mut self, word: u64, smid: Option<u16>, address: u32) -> Verdict {
        let offset = address.wrapping_sub(self.memory.bus(self.layout.replies as usize).low());
        let index = offset.checked_div(self.layout.reply_bytes).unwrap_or(u32::MAX);
        let is_frame = index < u32::from(self.replies.count())
            && index.wrapping_mul(self.layout.reply_bytes) == offset;
        if !is_frame || !self.replies.take(index as u16) {
            self.counters.bad_frame_addresses += 1;
            self.trace_word(TraceKind::Lie, word);
            warning!("a reply frame address that the device does not have: {}", address);
            return Verdict::Nothing;
        }
        // Copied once, then the frame goes back: from here on only the copy counts.
        let at = (self.layout.replies + offset) as usize;
        let copy = &mut self.copies.frame;
        match copy.get_mut(..self.layout.reply_bytes as usize) {
            Some(part) => self.memory.copy_out(at, part),
            None => self.memory.copy_out(at, copy),
        }
        let (bus, memory, layout) = (&self.bus, &self.memory, &self.layout);
        self.replies.give(index as u16, |host_index| {
            G::give_reply_frame(bus, memory, layout, at, host_index)
        });

        let Some(header) = G::reply_header(&self.copies.frame) else {
            self.counters.bad_replies += 1;
            return Verdict::Nothing;
        };
        if let Some(trace) = self.trace.as_deref_mut() {
            trace.record(self.now_ms, TraceKind::ReplyFrame, word, self.copies.frame(&header));
        }
        let smid = match smid {
            Some(smid) => smid,
            None => G::smid(&self.port, header.context).unwrap_or(0),
        };
        if self.slots.finish_internal(smid) {
            self.own_outstanding = self.own_outstanding.saturating_sub(1);
            let slot = usize::from(smid.wrapping_sub(1));
            if self.own_functions.get(slot).is_some_and(|asked| *asked != header.function) {
                self.counters.bad_replies += 1;
            }
            return Verdict::Reply { smid, header };
        }
        if header.function == Function::EVENT_NOTIFICATION {
            self.counters.events += 1;
            if let Some(log) = self.event_log.as_deref_mut() {
                log.record(self.now_ms, TraceKind::ReplyFrame, word, self.copies.frame(&header));
            }
            return Verdict::Event { header };
        }
        let late = self.slots.is_late(smid);
        let Some(finished) = self.slots.finish(smid) else {
            self.stray(word);
            return Verdict::Nothing;
        };
        Verdict::Command(self.finish_command(smid, finished, &header, late))
    }

    /// A command that ended with a reply frame.
    fn finish_command(
        &mut self,
        smid: u16,
        finished: Finished,
        header: &ReplyHeader,
        late: bool,
    ) -> Ended {
        self.counters.completed += 1;
        self.counters.with_reply_frame += 1;
        let is_scsi_io = header.function == Function::SCSI_IO
            || header.function == Function::RAID_SCSI_IO_PASSTHROUGH;
        let capacity = self.layout.sense_bytes.min(SENSE_BYTES as u32) as u8;
        let facts = if is_scsi_io {
            G::scsi_reply(self.copies.frame(header), finished.requested, capacity)
        } else {
            None
        };
        let outcome = match facts {
            // What ended a late command is its deadline.
            Some(facts) => match judge(&facts) {
                Outcome::Failed(
                    Failure::TaskTerminated
                    | Failure::IocTerminated
                    | Failure::ExtTerminated
                    | Failure::Terminated,
                ) if late => Outcome::Failed(Failure::TimedOut),
                outcome => outcome,
            },
            None => {
                self.counters.bad_replies += 1;
                Outcome::Failed(Failure::BadReply)
            }
        };
        if let Outcome::Complete { sense_length: 1.., .. } = outcome {
            let at = self.layout.sense.wrapping_add(self.place(smid).sense);
            let length = outcome.sense_length();
            if let Some(part) = self.copies.sense.get_mut(..length) {
                self.memory.copy_out(at as usize, part);
            }
            // A reply that claims sense for the slot's next command and writes none gets none.
            self.memory.fill(at as usize, length, 0);
        }
        self.note_end(smid, finished.device);
        let complaint = match outcome {
            Outcome::Complete { status: ScsiStatus::TASK_SET_FULL, .. } => Some(Complaint::Full),
            Outcome::Complete { status: ScsiStatus::BUSY, .. } => Some(Complaint::Busy),
            _ => None,
        };
        if let Some(complaint) = complaint {
            let device = finished.device;
            let outstanding = self.slots.outstanding_on(device);
            self.throttles.complain(device, complaint, outstanding, self.now_ms);
            self.counters.throttled += 1;
            self.pay_attention();
        }
        Ended { cookie: finished.cookie, outcome, log_info: header.log_info }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn stray(&mut self, word: u64) {
        if self.halted.is_some() {
            // Its command has completed with the queue; the answer is late and no lie.
            return;
        }
        self.counters.stray_replies += 1;
        self.trace_word(TraceKind::Lie, word);
        warning!("a reply for nothing outstanding: {}", word);
    }
}
