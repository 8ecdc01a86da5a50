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
use crate::generation::{Command, Device, Generation, Post, Reply, ReplyHeader};
use crate::log_info::LogInfo;
use crate::mem::Memory;
use crate::memory_plan::{INTERNAL_SLOTS, Layout, MemoryPlan, TASK_SLOTS};
use crate::outcome::{Failure, Outcome};
use crate::platform::{DmaRegion, Registers};
use crate::regs::Bus;
use crate::scsi::Cdb;
use crate::shared::ReplyFrames;
use crate::slots::{Finished, LateCommand, SlotRecord, Slots};
use crate::standing::Stand;
use crate::throttle::Throttles;
use crate::trace::{Counters, Trace};
use crate::wire::Function;

mod frames;
#[cfg(all(test, loom))]
mod loom_tests;
mod own;
mod standing;

use frames::{Copies, Ended};
use standing::Presence;

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

/// Who takes what is no command's completion. A trait, and not a closure behind a pointer, so that
/// everything that a poll calls can be followed in the linked program.
pub(crate) trait TakesOther {
    /// Takes it.
    fn take<G: Generation, D: DmaRegion>(&mut self, memory: &Memory<D>, other: &Other<'_>);
}

/// Counts what was not asked for.
struct Uncalled(u64);

impl TakesOther for Uncalled {
    fn take<G: Generation, D: DmaRegion>(&mut self, _memory: &Memory<D>, _other: &Other<'_>) {
        self.0 += 1;
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
    /// The late command that something is being done about, by its SMID; 0 for none.
    watched: u16,
    presence: Presence<'a>,
    trace: Option<&'a mut Trace>,
    event_log: Option<&'a mut Trace>,
    now_ms: u64,
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
            copies: Copies::new(),
            own_outstanding: 0,
            own_functions: [Function(0); (INTERNAL_SLOTS + TASK_SLOTS) as usize],
            halted: None,
            live: true,
            throttles: Throttles::default(),
            held: None,
            watched: 0,
            presence: Presence::new(replies.standing()),
            trace: None,
            event_log: None,
            now_ms: 0,
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
        self.poll_by(Self::drain, &mut complete)
    }

    #[inline]
    fn poll_by<C: FnMut(Completion<'_>)>(
        &mut self,
        drain: impl FnOnce(&mut Self, &mut C, &mut Uncalled) -> u32,
        complete: &mut C,
    ) -> u32 {
        // Only commands are posted on a queue of its own, and events go to queue 0: whatever else
        // comes here was not asked for.
        let mut uncalled_for = Uncalled(0);
        // A controller that is gone may not be touched, and one that was taken apart may be
        // another's by now.
        let standing = self.presence.standing;
        if standing.raw() != self.presence.seen && matches!(standing.read(), Stand::Lost(_)) {
            self.follow(complete);
            return 0;
        }
        // Outside it may not touch the controller or its ring.
        let found = match self.presence.inside {
            true => drain(self, complete, &mut uncalled_for),
            false => 0,
        };
        self.counters.bad_replies += uncalled_for.0;
        if self.presence.standing.raw() != self.presence.seen {
            self.follow(complete);
        }
        found
    }

    /// Tells a queue from `take_queue` the time, as [`Controller::tick`] is told, at least once a
    /// second: looks for answers, then reports to the controller what is late.
    ///
    /// [`Controller::tick`]: crate::controller::Controller::tick
    pub fn tick(&mut self, now_ms: u64, mut complete: impl FnMut(Completion<'_>)) {
        for _ in 0..DRAINS {
            if self.look(&mut complete) == 0 {
                break;
            }
        }
        self.advance(now_ms);
        if self.presence.inside && self.slots.has_late() {
            self.report_late();
        }
    }

    /// Reports a late command to the controller, the same until it has ended.
    #[cold]
    fn report_late(&mut self) {
        let again = (self.watched != 0).then(|| self.slots.late_as(self.watched)).flatten();
        let Some(LateCommand { smid, device }) = again.or_else(|| self.slots.late()) else {
            return;
        };
        self.watched = smid;
        self.pay_attention();
        if !self.presence.standing.is_watched(smid) {
            self.presence.standing.report_late(smid, device);
        }
    }

    /// [`Queue::poll`], once for all who are in no hurry.
    #[inline(never)]
    fn look(&mut self, mut complete: &mut dyn FnMut(Completion<'_>)) -> u32 {
        self.poll_by(|queue, complete, other| queue.drain_unhurried(complete, other), &mut complete)
    }

    /// Counts time from `now_ms` on, for what is outstanding too.
    pub(crate) fn rebase(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.slots.rebase(now_ms);
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

    /// [`Queue::drain`], once for all who are in no hurry.
    #[inline(never)]
    pub(crate) fn drain_unhurried(
        &mut self,
        mut complete: &mut dyn FnMut(Completion<'_>),
        other: &mut impl TakesOther,
    ) -> u32 {
        self.drain(&mut complete, other)
    }

    #[inline]
    pub(crate) fn drain(
        &mut self,
        complete: &mut impl FnMut(Completion<'_>),
        other: &mut impl TakesOther,
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
                            self.attend_success(word, finished.device);
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
                    let ended = self.take_frame(word, smid, address, other);
                    if let Some(Ended { cookie, outcome, log_info }) = ended {
                        let sense = self.copies.sense(&outcome);
                        complete(Completion { cookie, outcome, sense, log_info });
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

    /// The time of the last tick.
    pub(crate) const fn now_ms(&self) -> u64 {
        self.now_ms
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

    /// Keeps the events that come from now on, each as a reply frame. Unlike a trace this costs
    /// commands nothing.
    pub fn set_event_log(&mut self, log: &'a mut Trace) {
        self.event_log = Some(log);
    }

    /// The events that were kept, if they are.
    #[must_use]
    pub fn event_log(&self) -> Option<&Trace> {
        self.event_log.as_deref()
    }

    /// Takes the queue apart for a new start.
    pub(crate) fn into_parts(self) -> (Bus<R>, D) {
        (self.bus, self.memory.into_inner())
    }
}
