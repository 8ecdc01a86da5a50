//! One queue: its slots, its part of the DMA memory, its reply ring or FIFO.
//!
//! Queues share nothing. Each has its own SMIDs, frames, chains, sense buffers and reply ring, and
//! the descriptor that posts a command names the queue to answer on; so each can live in a thread
//! of its own without a lock. Queue 0 is inside the [`Controller`](crate::controller::Controller)
//! and also carries the driver's own requests and the IOC's events; the others are handed out by
//! [`Controller::take_queue`](crate::controller::Controller::take_queue). Only reply frames, which
//! come with errors, return to a pool that all share (`shared.rs`).

use crate::deadlines::with_margin;
use crate::error::SubmitError;
use crate::generation::sealed::Place;
use crate::generation::{Command, Device, Generation, Message, Post, Reply, ReplyHeader};
use crate::log_info::LogInfo;
use crate::mem::{Memory, WORD};
use crate::memory_plan::{INTERNAL_SLOTS, Layout, MemoryPlan, TASK_SLOTS};
use crate::outcome::{Failure, Outcome, judge};
use crate::platform::{DmaRegion, Registers};
use crate::regs::Bus;
use crate::scsi::{Cdb, Lun, ScsiStatus};
use crate::shared::ReplyFrames;
use crate::slots::{Finished, LateCommand, SlotRecord, Slots};
use crate::standing::{Stand, Standing};
use crate::throttle::{Complaint, Throttles};
use crate::trace::{Counters, TRACED_BYTES, Trace, TraceKind};
use crate::wire::Function;

#[cfg(all(test, loom))]
mod loom_tests;

/// Bytes of a reply frame that are copied out and looked at; no reply this driver reads is longer.
const REPLY_BYTES: usize = 128;
/// The longest sense a SCSI I/O message can ask for.
const SENSE_BYTES: usize = 252;
/// Drains of a quarter of the ring each before a command is called late: two rings full.
pub(crate) const DRAINS: u32 = 8;

/// The end of one command. Each accepted command has exactly one.
#[derive(Clone, Copy, Debug)]
pub struct Completion<'q> {
    /// The caller's own word, from [`Command::cookie`].
    pub cookie: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Sense data, empty unless the outcome has some.
    pub sense: &'q [u8],
    /// More from the firmware about what went wrong; zero if there is none.
    pub log_info: LogInfo,
}

/// Something in the reply queue that is no command's completion.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Other<'q> {
    /// The reply to a request of the driver's own; its slot is free again.
    Reply { smid: u16, header: ReplyHeader, frame: &'q [u8] },
    /// An event.
    Event { frame: &'q [u8] },
}

/// What a reply frame turned out to be; what it says is in the queue's [`Copies`].
enum Verdict {
    /// A lie, counted.
    Nothing,
    /// The end of a command.
    Command { cookie: u64, outcome: Outcome, log_info: LogInfo },
    /// The answer to a request of the driver's own.
    Reply { smid: u16, header: ReplyHeader },
    /// An event.
    Event { header: ReplyHeader },
}

/// Where a reply frame and sense data are copied to, out of the device's reach, before they are
/// looked at.
#[derive(Debug)]
struct Copies {
    frame: [u8; REPLY_BYTES],
    sense: [u8; SENSE_BYTES],
}

impl Copies {
    /// The reply, as long as it says it is: what lies beyond is left over from an earlier one.
    fn frame(&self, header: &ReplyHeader) -> &[u8] {
        self.frame.get(..usize::from(header.length)).unwrap_or(&self.frame)
    }

    /// The sense data of a command that ended so.
    fn sense(&self, outcome: &Outcome) -> &[u8] {
        self.sense.get(..outcome.sense_length()).unwrap_or_default()
    }
}

/// One queue of a controller. One owner at a time.
#[derive(Debug)]
pub struct Queue<'a, G: Generation, R, D> {
    pub(crate) bus: Bus<R>,
    pub(crate) memory: Memory<D>,
    pub(crate) layout: Layout,
    pub(crate) slots: Slots<'a>,
    pub(crate) port: G::Port,
    replies: ReplyFrames<'a>,
    counters: Counters,
    copies: Copies,
    /// Requests of the driver's own that the device has.
    own_outstanding: u16,
    /// What each of them asks, by slot.
    own_functions: [Function; (INTERNAL_SLOTS + TASK_SLOTS) as usize],
    /// Why no command is accepted, if so.
    halted: Option<Failure>,
    /// Whether the device takes requests of the driver's own.
    live: bool,
    throttles: Throttles,
    /// The device that is given nothing while it is being recovered.
    held: Option<u16>,
    presence: Presence<'a>,
    trace: Option<&'a mut Trace>,
    now_ms: u64,
}

/// How a queue that was handed out stands to its controller (`standing.rs`). It leaves when it is
/// dropped, so that a controller does not wait for a thread that has ended.
#[derive(Debug)]
struct Presence<'a> {
    standing: &'a Standing,
    /// The standing that the queue has acted upon.
    seen: u32,
    inside: bool,
}

impl Presence<'_> {
    fn leave(&mut self) {
        if core::mem::take(&mut self.inside) {
            self.standing.leave();
        }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<'a, G: Generation, R: Registers, D: DmaRegion> Queue<'a, G, R, D> {
    #[inline(never)]
    pub(crate) fn new(
        bus: Bus<R>,
        memory: Memory<D>,
        plan: &MemoryPlan,
        port: G::Port,
        index: u8,
        records: &'a mut [SlotRecord],
        replies: ReplyFrames<'a>,
    ) -> Self {
        let own = INTERNAL_SLOTS + TASK_SLOTS;
        let (first_smid, internal) = match index {
            0 => (1, own),
            _ => (1 + own + plan.commands_per_queue() * u16::from(index), 0),
        };
        Self {
            bus,
            memory,
            layout: plan.layout,
            slots: Slots::new(records, first_smid, internal, plan.tags),
            port,
            replies,
            counters: Counters::default(),
            copies: Copies { frame: [0; REPLY_BYTES], sense: [0; SENSE_BYTES] },
            own_outstanding: 0,
            own_functions: [Function(0); (INTERNAL_SLOTS + TASK_SLOTS) as usize],
            halted: None,
            live: true,
            throttles: Throttles::default(),
            held: None,
            presence: Presence {
                standing: replies.standing(),
                seen: replies.standing().raw(),
                inside: false,
            },
            trace: None,
            now_ms: 0,
        }
    }

    /// Begins to count time. A command that names no timeout of its own has `limit_ms`
    /// milliseconds.
    pub(crate) fn start_clock(&mut self, now_ms: u64, limit_ms: u32) {
        self.now_ms = now_ms;
        self.slots.start_clock(now_ms, limit_ms);
    }

    /// Sets what a command has that names no timeout of its own, in milliseconds.
    pub(crate) fn set_limit(&mut self, limit_ms: u32) {
        self.slots.set_limit(limit_ms, self.now_ms);
    }

    /// Lets a queue that is to be handed out in.
    pub(crate) fn enter(&mut self) {
        let standing = self.presence.standing;
        self.presence.seen = standing.raw();
        self.presence.inside = match Stand::of(self.presence.seen) {
            Stand::Works { epoch } => standing.enter(epoch),
            Stand::Halting | Stand::Lost(_) => false,
        };
        if !self.presence.inside {
            self.close(Failure::ControllerReset);
        }
    }

    /// Gives a command to the controller and returns its SMID.
    ///
    /// The data stays the device's until the completion comes. Commands for one logical unit are
    /// posted in the order they are submitted (trap T31).
    ///
    /// # Errors
    ///
    /// A [`SubmitError`]: nothing was posted and no completion will come.
    #[inline]
    pub fn submit(&mut self, device: Device, command: &Command<'_>) -> Result<u16, SubmitError> {
        if self.bus.needs_attention() {
            self.admit(device)?;
        }
        // Where every CDB fits there is nothing to compare.
        if G::LONGEST_CDB < Cdb::LONGEST && command.cdb.length() > G::LONGEST_CDB {
            return Err(SubmitError::CdbLength(command.cdb.length()));
        }
        let smid = self.slots.take(
            command.tag,
            Finished {
                cookie: command.cookie,
                requested: command.data_length,
                device: device.address,
            },
        )?;
        let place = self.place(smid);
        let written =
            G::write_scsi_io(&self.port, &self.memory, &self.layout, place, device, command);
        if let Err(error) = written {
            self.slots.put_back(smid);
            return Err(error);
        }
        if command.timeout_ms != 0 {
            let limit_ms = u64::from(with_margin(command.timeout_ms));
            self.slots.set_deadline(smid, self.now_ms.saturating_add(limit_ms));
        }
        let post = Post::ScsiIo(device);
        let word = G::word(&self.port, smid, post);
        // Asked again, not remembered: that costs less than a register.
        if self.bus.needs_attention() {
            self.post_attended(smid, word, post);
        } else {
            G::post(&self.port, &self.bus, word, post);
        }
        Ok(smid)
    }

    /// Takes what the controller has answered, at most a quarter of the ring, and hands each
    /// completion to `complete`. Returns how many replies there were.
    ///
    /// For a queue from `take_queue`; queue 0 is polled through its controller.
    pub fn poll(&mut self, mut complete: impl FnMut(Completion<'_>)) -> u32 {
        // Only commands are posted on a queue of its own, and events go to queue 0: whatever else
        // comes here was not asked for.
        let mut uncalled_for = 0;
        // A controller that is gone may not be touched, and one that was taken apart may be
        // another's by now.
        let standing = self.presence.standing;
        if standing.raw() != self.presence.seen && matches!(standing.read(), Stand::Lost(_)) {
            self.follow(&mut complete);
            return 0;
        }
        // Outside it may not touch the controller or its ring.
        let found = match self.presence.inside {
            true => self.drain(&mut complete, &mut |_, _| uncalled_for += 1),
            false => 0,
        };
        self.counters.bad_replies += uncalled_for;
        if self.presence.standing.raw() != self.presence.seen {
            self.follow(&mut complete);
        }
        found
    }

    /// Tells a queue from `take_queue` the time, in milliseconds from the controller's start: looks
    /// for answers, then reports to the controller what is late.
    pub fn tick(&mut self, now_ms: u64, mut complete: impl FnMut(Completion<'_>)) {
        for _ in 0..DRAINS {
            if self.look(&mut complete) == 0 {
                break;
            }
        }
        self.advance(now_ms);
        if let Some(LateCommand { smid, device }) = self.slots.late()
            && self.presence.inside
        {
            self.presence.standing.report_late(smid, device);
        }
    }

    /// [`Queue::poll`], once for all who are in no hurry.
    #[inline(never)]
    fn look(&mut self, complete: &mut dyn FnMut(Completion<'_>)) -> u32 {
        self.poll(complete)
    }

    /// Time passes.
    #[inline(never)]
    pub(crate) fn advance(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.slots.advance(now_ms);
        if !self.throttles.is_empty() {
            self.throttles.tick(now_ms);
            self.pay_attention();
        }
    }

    /// Does what the controller's standing asks of a queue that was handed out.
    #[cold]
    fn follow(&mut self, complete: &mut dyn FnMut(Completion<'_>)) {
        let standing = self.presence.standing;
        // Seen and acted upon is one reading: what comes after it is seen at the next poll.
        self.presence.seen = standing.raw();
        match Stand::of(self.presence.seen) {
            Stand::Halting => {
                self.close(Failure::ControllerReset);
                self.presence.leave();
            }
            Stand::Works { epoch } => {
                // Whatever the queue still holds was ended by a reset, seen or not.
                self.presence.leave();
                self.end_all(standing.ended_as(), complete);
                self.renew(epoch);
                self.presence.inside = standing.enter(epoch);
                if self.presence.inside {
                    self.open();
                }
            }
            Stand::Lost(reason) => {
                self.presence.leave();
                self.halt_to(reason, complete);
            }
        }
    }

    #[inline]
    pub(crate) fn drain(
        &mut self,
        complete: &mut impl FnMut(Completion<'_>),
        other: &mut impl FnMut(&Memory<D>, Other<'_>),
    ) -> u32 {
        self.note_peak();
        let limit = G::drain_limit(&self.port);
        let (mut found, mut other_kinds) = (0, 0);
        while found < limit {
            if G::EMPTY_READ_COSTS
                && self.slots.outstanding() == 0
                && found > 0
                && self.own_outstanding == 0
            {
                break;
            }
            let Some((word, reply)) = G::next(&mut self.port, &self.bus, &self.memory) else {
                break;
            };
            found += 1;
            match reply {
                Reply::Success { smid } => match self.slots.finish(smid) {
                    Some(finished) => {
                        if self.bus.needs_attention() {
                            self.trace_word(TraceKind::Reply, word);
                            self.throttles.ended(finished.device);
                        }
                        complete(Completion {
                            cookie: finished.cookie,
                            outcome: Outcome::success(finished.requested),
                            sense: &[],
                            log_info: LogInfo(0),
                        });
                    }
                    None => {
                        other_kinds += 1;
                        self.stray(word);
                    }
                },
                Reply::Frame { smid, address } => {
                    other_kinds += 1;
                    match self.reply_frame(word, smid, address) {
                        Verdict::Nothing => {}
                        Verdict::Command { cookie, outcome, log_info } => {
                            let sense = self.copies.sense(&outcome);
                            complete(Completion { cookie, outcome, sense, log_info });
                        }
                        Verdict::Reply { smid, header } => {
                            let frame = self.copies.frame(&header);
                            other(&self.memory, Other::Reply { smid, header, frame });
                        }
                        Verdict::Event { header } => {
                            let frame = self.copies.frame(&header);
                            other(&self.memory, Other::Event { frame });
                        }
                    }
                }
                Reply::Unknown => {
                    other_kinds += 1;
                    self.stray(word);
                }
            }
        }
        if found > 0 {
            G::drained(&mut self.port, &self.bus);
        }
        // What was no plain success has been counted where it was looked at.
        self.counters.completed += u64::from(found - other_kinds);
        self.counters.drained(found);
        found
    }

    /// Notes how many commands the device has, just before it has fewer: there lies the peak.
    #[inline]
    fn note_peak(&mut self) {
        let outstanding = self.slots.outstanding();
        if outstanding > self.counters.outstanding_peak {
            self.counters.outstanding_peak = outstanding;
        }
    }

    /// A reply with a frame: an error, a status, a residual, an answer to the driver, an event.
    #[cold]
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
            return Verdict::Event { header };
        }
        let late = self.slots.is_late(smid);
        let Some(finished) = self.slots.finish(smid) else {
            self.stray(word);
            return Verdict::Nothing;
        };
        self.finish_command(smid, finished, header, late)
    }

    /// A command that ended with a reply frame.
    fn finish_command(
        &mut self,
        smid: u16,
        finished: Finished,
        header: ReplyHeader,
        late: bool,
    ) -> Verdict {
        self.counters.completed += 1;
        self.counters.with_reply_frame += 1;
        let is_scsi_io = header.function == Function::SCSI_IO
            || header.function == Function::RAID_SCSI_IO_PASSTHROUGH;
        let capacity = self.layout.sense_bytes.min(SENSE_BYTES as u32) as u8;
        let facts = if is_scsi_io {
            G::scsi_reply(self.copies.frame(&header), finished.requested, capacity)
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
        }
        self.throttles.ended(finished.device);
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
        Verdict::Command { cookie: finished.cookie, outcome, log_info: header.log_info }
    }

    /// The time of the last tick.
    pub(crate) const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Whether a command may be given to this device, on a queue that somebody looks at.
    #[cold]
    #[inline(never)]
    fn admit(&mut self, device: Device) -> Result<(), SubmitError> {
        if self.bus.is_gone() {
            return Err(SubmitError::Gone);
        }
        match self.halted {
            Some(Failure::ControllerGone) => return Err(SubmitError::Gone),
            Some(Failure::ControllerReset) => return Err(SubmitError::Held),
            Some(_) => return Err(SubmitError::NotOperational),
            None => {}
        }
        if self.held == Some(device.address) {
            return Err(SubmitError::Held);
        }
        if !self.throttles.has_room(device.address) {
            return Err(SubmitError::Throttled);
        }
        Ok(())
    }

    /// Decides whether submissions and completions must be looked at.
    fn pay_attention(&self) {
        let needed = self.halted.is_some()
            || self.trace.is_some()
            || self.held.is_some()
            || !self.throttles.is_empty();
        self.bus.attend(needed);
    }

    /// Gives this device nothing until it is let go: `None` lets go.
    pub(crate) fn hold(&mut self, device: Option<Device>) {
        self.held = device.map(|device| device.address);
        self.pay_attention();
    }

    /// The logical unit that the command in frame `smid` is for. Read from the frame that the
    /// device has read too: if it was tampered with, its author gets his own unit back.
    pub(crate) fn lun_of(&self, smid: u16) -> Lun {
        let mut lun = [0; 8];
        self.memory.copy_out(self.place(smid).frame_word * WORD + G::LUN_AT, &mut lun);
        Lun(lun)
    }

    #[cold]
    fn stray(&mut self, word: u64) {
        if self.halted.is_some() {
            // Its command has completed with the queue; the answer is late and no lie.
            return;
        }
        self.counters.stray_replies += 1;
        self.trace_word(TraceKind::Lie, word);
        warning!("a reply for nothing outstanding: {}", word);
    }

    /// Where the frame, chains and sense buffer of `smid` lie.
    #[inline]
    fn place(&self, smid: u16) -> Place {
        let layout = &self.layout;
        let command = u32::from(smid.wrapping_sub(1 + INTERNAL_SLOTS + TASK_SLOTS));
        Place {
            smid,
            command,
            frame_word: u32::from(smid).wrapping_mul(layout.frame_words) as usize,
            sense: command.wrapping_mul(layout.sense_bytes),
        }
    }

    /// Posts a request of the driver's own in internal slot `slot`. `None` if that slot is taken or
    /// the queue is halted.
    pub(crate) fn post_own(
        &mut self,
        slot: u16,
        post: Post,
        build: impl FnOnce(&G::Port, u32) -> Message,
    ) -> Option<u16> {
        self.post_message_of(slot, post, |port, context| Some(build(port, context)))
    }

    /// As [`Queue::post_own`], for a request that this generation may not have: then `None` too.
    pub(crate) fn post_message_of(
        &mut self,
        slot: u16,
        post: Post,
        build: impl FnOnce(&G::Port, u32) -> Option<Message>,
    ) -> Option<u16> {
        if !self.live {
            return None;
        }
        let smid = self.slots.take_internal(slot)?;
        let Some(message) = build(&self.port, G::context(&self.port, smid)) else {
            self.slots.finish_internal(smid);
            return None;
        };
        self.note_own(slot, message.function());
        self.post_message(smid, post, &message);
        Some(smid)
    }

    #[inline(never)]
    fn post_message(&mut self, smid: u16, post: Post, message: &Message) {
        let frame = self.place(smid).frame_word * WORD;
        self.memory.fill(frame, self.layout.frame_bytes as usize, 0);
        self.memory.copy_in(frame, message.bytes());
        self.own_outstanding += 1;
        let word = G::word(&self.port, smid, post);
        self.post_attended(smid, word, post);
    }

    /// Posts a request where somebody looks on, or where nobody is there to take it: a gone
    /// controller's requests complete when its owner has noticed.
    #[cold]
    fn post_attended(&mut self, smid: u16, word: u64, post: Post) {
        self.trace_request(smid, word);
        if let Post::ScsiIo(device) = post {
            self.throttles.given(device.address);
        }
        if !self.bus.is_gone() {
            G::post(&self.port, &self.bus, word, post);
        }
    }

    /// Takes internal slot `slot` for a request that goes another way than the queue.
    pub(crate) fn take_own(&mut self, slot: u16, function: Function) -> Option<u16> {
        if !self.live {
            return None;
        }
        let smid = self.slots.take_internal(slot)?;
        self.note_own(slot, function);
        self.own_outstanding += 1;
        Some(smid)
    }

    fn note_own(&mut self, slot: u16, function: Function) {
        if let Some(asked) = self.own_functions.get_mut(usize::from(slot)) {
            *asked = function;
        }
    }

    /// Gives such a slot back unanswered.
    pub(crate) fn give_up_own(&mut self, smid: u16) {
        if self.slots.finish_internal(smid) {
            self.own_outstanding = self.own_outstanding.saturating_sub(1);
        }
    }

    /// Takes a command of the driver's own back that was not answered, so that its end is not told
    /// to the caller, who never gave it.
    pub(crate) fn give_up_command(&mut self, smid: u16) {
        if self.slots.abandon(smid) {
            self.counters.completed += 1;
        }
    }

    /// Accepts nothing any more and completes everything outstanding with `reason`.
    ///
    /// A queue that is polled needs no such call: it learns from its controller when that is
    /// reset, offline or gone.
    pub fn halt(&mut self, reason: Failure, mut complete: impl FnMut(Completion<'_>)) {
        self.halt_to(reason, &mut complete);
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn halt_to(&mut self, reason: Failure, complete: &mut dyn FnMut(Completion<'_>)) {
        self.close(reason);
        self.end_all(reason, complete);
    }

    /// Accepts nothing any more; what is outstanding stays so.
    #[cold]
    #[inline(never)]
    pub(crate) fn close(&mut self, reason: Failure) {
        self.note_peak();
        self.halted = Some(reason);
        self.live = false;
        if reason == Failure::ControllerGone {
            self.bus.close();
        }
        self.pay_attention();
    }

    /// Accepts commands again.
    pub(crate) fn open(&mut self) {
        self.halted = None;
        self.pay_attention();
    }

    /// Completes everything outstanding with `reason`: the device cannot answer it any more.
    #[cold]
    #[inline(never)]
    pub(crate) fn end_all(&mut self, reason: Failure, complete: &mut dyn FnMut(Completion<'_>)) {
        let mut from = 0;
        while let Some(finished) = self.slots.finish_any(&mut from) {
            self.counters.completed += 1;
            complete(Completion {
                cookie: finished.cookie,
                outcome: Outcome::Failed(reason),
                sense: &[],
                log_info: LogInfo(0),
            });
        }
        self.slots.order_free();
    }

    /// Makes the queue as it was at the start, after the reset that begins `epoch`. Commands that
    /// it still has are kept, out of the device's reach, until [`Queue::end_all`].
    pub(crate) fn renew(&mut self, epoch: u32) {
        self.own_outstanding = 0;
        self.slots.keep_all();
        self.throttles.clear();
        self.held = None;
        self.live = true;
        G::rearm(&mut self.port, epoch);
    }

    /// Gives every reply frame to the IOC.
    pub(crate) fn give_all_reply_frames(&self) {
        let (bus, memory, layout) = (&self.bus, &self.memory, &self.layout);
        for index in 0..self.replies.count() {
            let at = (layout.replies + u32::from(index).wrapping_mul(layout.reply_bytes)) as usize;
            self.replies
                .give(index, |host_index| G::give_reply_frame(bus, memory, layout, at, host_index));
        }
    }

    /// What this queue has done.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        // What was given is what came back and what is still out: one count less for each command.
        let submitted = self.counters.completed + self.slots.outstanding() as u64;
        Counters { submitted, ..self.counters }
    }

    /// Register reads and writes made through this queue.
    #[must_use]
    pub fn register_accesses(&self) -> (u64, u64) {
        self.bus.accesses()
    }

    /// Commands that the controller has.
    #[must_use]
    pub const fn outstanding(&self) -> u16 {
        self.slots.outstanding()
    }

    /// Commands that this queue takes at once.
    #[must_use]
    pub const fn depth(&self) -> u16 {
        self.slots.commands()
    }

    /// Why the queue accepts nothing any more, if so.
    #[must_use]
    pub const fn halted(&self) -> Option<Failure> {
        self.halted
    }

    /// Records what passes from now on.
    pub fn set_trace(&mut self, trace: &'a mut Trace) {
        self.trace = Some(trace);
        self.pay_attention();
    }

    /// The trace, if one was set.
    #[must_use]
    pub fn trace(&self) -> Option<&Trace> {
        self.trace.as_deref()
    }

    #[cold]
    fn trace_request(&mut self, smid: u16, word: u64) {
        if self.trace.is_none() {
            return;
        }
        let mut frame = [0u8; TRACED_BYTES];
        let length = (self.layout.frame_bytes as usize).min(TRACED_BYTES);
        if let Some(part) = frame.get_mut(..length) {
            self.memory.copy_out(self.place(smid).frame_word * WORD, part);
            if let Some(trace) = self.trace.as_deref_mut() {
                trace.record(self.now_ms, TraceKind::Request, word, part);
            }
        }
    }

    #[cold]
    fn trace_word(&mut self, kind: TraceKind, word: u64) {
        if let Some(trace) = self.trace.as_deref_mut() {
            trace.record(self.now_ms, kind, word, &[]);
        }
    }

    /// Takes the queue apart for a new start.
    pub(crate) fn into_parts(self) -> (Bus<R>, D) {
        (self.bus, self.memory.into_inner())
    }
}
