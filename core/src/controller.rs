//! The controller: submit, poll, tick, actions.
//!
//! Passive: it has no thread, no clock and no callbacks of its own. The platform submits commands,
//! polls when an interrupt or its own patience says so, calls `tick` with the time now and then,
//! and takes actions out of [`Controller::next_action`]. What waits takes a `DelayNs`: resets, stops,
//! and the calls that run a request to its end.

use embedded_hal::delay::DelayNs;

use crate::admin::Admin;
use crate::error::{Error, SubmitError, Waited};
use crate::generation::chips::Chip;
use crate::generation::{Command, Device, Facts, Generation, PortFacts};
use crate::io_queue::{Completion, DRAINS, Other, Queue, TakesOther};
use crate::mem::Memory;
use crate::memory_plan::{INTERNAL_SLOTS, MemoryPlan, TASK_SLOTS};
use crate::outcome::Failure;
use crate::platform::{DmaRegion, Registers};
use crate::recovery::{Policy, RecoveryCounters, ResetReason};
use crate::regs::{
    Bus, DOORBELL, Doorbell, HOST_INTERRUPT_MASK, HOST_INTERRUPT_STATUS, HostInterruptMask,
    HostInterruptStatus, IocState,
};
use crate::shared::ReplyFrames;
use crate::slots::SlotRecord;
use crate::startup::PORT_ENABLE_LIMIT_MS;
use crate::targets::{Target, TargetChange, TargetId, TargetRecord, Targets};
use crate::trace::{Counters, Trace};
use crate::wire::Function;

mod ending;
mod management;
mod recovering;
mod restart;

pub use ending::Stopped;
use management::Task;
pub use management::TaskRoute;
use recovering::Recovery;

/// How often the doorbell is looked at (Linux: every second).
const WATCH_INTERVAL_MS: u64 = 1_000;
/// How long discovery may take beyond port enable before something is wrong.
const DISCOVERY_LIMIT_MS: u32 = 60_000;

/// Something for the platform to act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Action {
    /// A target answers and takes commands.
    TargetAppeared(TargetId),
    /// A target no longer answers.
    TargetGone(TargetId),
    /// The controller is gone; every command has been completed.
    ControllerGone,
    /// The controller must be reset: call [`Controller::reset`]. Nothing is accepted until then,
    /// and what is outstanding has not completed, since the controller may still write its memory.
    ResetNeeded(ResetReason),
    /// The controller works again after a reset, and knows its disks.
    ControllerReady,
    /// The controller could not be reset and has been cut off; every command has been completed.
    ControllerOffline,
}

/// How a controller fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// All is well.
    Running,
    /// A command is late, and something is being done about it; the other devices run on.
    Recovering,
    /// It waits for [`Controller::reset`].
    ResetNeeded(ResetReason),
    /// It has been reset and looks for its disks.
    Rediscovering,
    /// It could not be reset.
    Offline,
    /// It is gone.
    Gone,
}

/// What the controller is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Running,
    NeedsReset(ResetReason),
    /// After a reset, until this time at most.
    Rediscovering {
        until_ms: u64,
        /// Commands that the reset ended are kept until then, by the policy at that time.
        hands_back: bool,
    },
    Offline,
    Gone,
}

impl State {
    /// Whether the IOC is believed to be operational.
    const fn works(self) -> bool {
        matches!(self, Self::Running | Self::Rediscovering { .. })
    }

    /// What commands complete as that end with the IOC.
    const fn ends_commands_as(self) -> Failure {
        match self {
            Self::NeedsReset(ResetReason::Fault(code) | ResetReason::CoreDump(code)) => {
                Failure::ControllerFault(code)
            }
            Self::Gone => Failure::ControllerGone,
            Self::Offline => Failure::ControllerOffline,
            _ => Failure::ControllerReset,
        }
    }

    /// Why a call that needs the IOC cannot be served, if so.
    const fn error(self) -> Option<Error> {
        match self {
            Self::Running | Self::Rediscovering { .. } => None,
            Self::NeedsReset(reason) => Some(reason.error()),
            Self::Offline => Some(Error::Offline),
            Self::Gone => Some(Error::Gone),
        }
    }
}

/// Where everything in the reply queue goes that is no command's completion.
#[derive(Debug)]
struct Desk<'a> {
    targets: Targets<'a>,
    admin: Admin,
    /// Task management that the caller asked for.
    task: Option<Task>,
    /// Task management of the driver's own.
    own_task: Option<Task>,
    /// Where the page buffer lies.
    page_at: usize,
    /// Something came in that may let the next request go.
    has_news: bool,
}

impl TakesOther for Desk<'_> {
    #[cold]
    #[inline(never)]
    fn take<G: Generation, D: DmaRegion>(&mut self, memory: &Memory<D>, other: &Other<'_>) {
        self.has_news = true;
        if let Other::Reply { smid, header, frame } = other {
            let mut tasks = self.task.iter_mut().chain(self.own_task.iter_mut());
            // One that was answered already may have lost its slot to the other.
            if let Some(task) = tasks.find(|task| task.smid == *smid && task.reply.is_none()) {
                let function = Function::SCSI_TASK_MANAGEMENT;
                let (claimed, bytes) = (header.function, header.length);
                let reply = G::task_reply(frame).filter(|_| claimed == function);
                task.reply = Some(reply.ok_or(Error::BadReply { function, claimed, bytes }));
                return;
            }
        }
        // The late answer to task management that was given up is nothing to it.
        self.admin.take_in::<G>(other, &mut self.targets, &|into| {
            memory.copy_out(self.page_at, into);
        });
    }
}

/// A controller in operation.
#[derive(Debug)]
pub struct Controller<'a, G: Generation, R, D> {
    queue: Queue<'a, G, R, D>,
    /// The slots of the queues not taken yet.
    spare_slots: &'a mut [SlotRecord],
    next_queue: u8,
    replies: ReplyFrames<'a>,
    desk: Desk<'a>,
    plan: MemoryPlan,
    chip: &'static Chip,
    facts: Facts,
    port_facts: PortFacts,
    state: State,
    /// What the platform has not been told of the state yet.
    news: Option<Action>,
    recovery: Recovery,
    interrupts_pass: bool,
    watched_at_ms: u64,
    now_ms: u64,
}

impl<'a, G: Generation, R: Registers, D: DmaRegion> Controller<'a, G, R, D> {
    #[allow(clippy::too_many_arguments, reason = "one call, from bring-up")]
    #[inline(never)]
    pub(crate) fn new(
        bus: Bus<R>,
        chip: &'static Chip,
        facts: Facts,
        port_facts: PortFacts,
        plan: &MemoryPlan,
        memory: Memory<D>,
        slots: &'a mut [SlotRecord],
        replies: ReplyFrames<'a>,
        targets: &'a mut [TargetRecord],
    ) -> Self {
        let own = usize::from(INTERNAL_SLOTS + TASK_SLOTS + plan.commands_per_queue());
        let (first, spare_slots) = match slots.split_at_mut_checked(own) {
            Some(split) => split,
            None => (&mut [][..], &mut [][..]),
        };
        let port = G::port(plan, &facts, chip, memory.bus(0), 0, 0);
        let queue = Queue::new(bus, memory, plan, port, 0, first, replies);
        Self {
            queue,
            spare_slots,
            next_queue: 1,
            replies,
            desk: Desk {
                targets: Targets::new(targets),
                admin: Admin::new(),
                task: None,
                own_task: None,
                page_at: plan.layout.page as usize,
                has_news: false,
            },
            plan: *plan,
            chip,
            facts,
            port_facts,
            state: State::Running,
            news: None,
            recovery: Recovery::new(),
            interrupts_pass: false,
            watched_at_ms: 0,
            now_ms: 0,
        }
    }

    /// Primes the queues of a controller that starts and sets discovery going.
    pub(crate) fn begin(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.watched_at_ms = now_ms;
        self.queue.start_clock(now_ms, self.recovery.policy.command_limit_ms);
        self.desk.targets.lose_all();
        self.set_going();
    }

    /// Primes the queues of an IOC that has just become operational and sets discovery going.
    fn set_going(&mut self) {
        G::start_queues(&self.queue.bus, &self.plan, &self.queue.port);
        self.queue.give_all_reply_frames();
        self.desk.admin.ask_for_events(&mut self.queue);
        if G::PORT_ENABLE_BY_DOORBELL {
            self.desk.admin.port_is_enabled();
        } else {
            self.desk.admin.enable_port(&mut self.queue);
        }
        self.desk.admin.go_on(&mut self.queue, &mut self.desk.targets);
    }

    /// Gives a command for `target` to the controller and returns its SMID.
    ///
    /// # Errors
    ///
    /// A [`SubmitError`]: nothing was posted and no completion will come.
    #[inline]
    pub fn submit(&mut self, target: TargetId, command: &Command<'_>) -> Result<u16, SubmitError> {
        match self.desk.targets.device(target) {
            Some(device) => self.queue.submit(device, command),
            None => Err(self.refusal(target)),
        }
    }

    /// Why a target that is not there takes no command.
    #[cold]
    #[inline(never)]
    fn refusal(&self, target: TargetId) -> SubmitError {
        match self.state {
            State::Gone => SubmitError::Gone,
            State::Offline => SubmitError::Offline,
            _ if self.desk.targets.may_return(target) => SubmitError::Held,
            _ => SubmitError::NoTarget,
        }
    }

    /// As [`Controller::submit`], to a device by the address that the controller knows it by,
    /// which may be one where nothing is.
    ///
    /// # Errors
    ///
    /// As [`Controller::submit`].
    #[inline]
    pub fn submit_to_device(
        &mut self,
        device: Device,
        command: &Command<'_>,
    ) -> Result<u16, SubmitError> {
        self.queue.submit(device, command)
    }

    /// Takes what the controller has answered, hands each completion to `complete`, and goes on
    /// with discovery. Returns how many replies there were.
    pub fn poll(&mut self, mut complete: impl FnMut(Completion<'_>)) -> u32 {
        self.poll_by(|queue, other| queue.drain(&mut complete, other))
    }

    #[inline]
    fn poll_by(
        &mut self,
        drain: impl FnOnce(&mut Queue<'a, G, R, D>, &mut Desk<'a>) -> u32,
    ) -> u32 {
        if self.state == State::Offline {
            // MPI1's replies stand in the chip, which is left alone.
            return 0;
        }
        let Self { queue, desk, .. } = self;
        let found = drain(queue, desk);
        if desk.has_news {
            self.take_news();
        }
        found
    }

    /// Goes on with what waited for an answer that has come.
    #[cold]
    #[inline(never)]
    fn take_news(&mut self) {
        self.desk.has_news = false;
        self.desk.admin.go_on(&mut self.queue, &mut self.desk.targets);
        if self.state.works() {
            self.step_on();
        }
    }

    /// Tells the controller the time, in milliseconds that never run backwards, from any start: at
    /// least once a second, since a command's time runs from the last tick before it was submitted.
    /// Takes what has been answered,
    /// looks at the doorbell once a second, and at commands that are late by now: see
    /// [`recovery`](crate::recovery).
    pub fn tick(&mut self, now_ms: u64, mut complete: impl FnMut(Completion<'_>)) {
        self.tick_once(now_ms, &mut complete);
    }

    /// [`Controller::poll`], once for all who are in no hurry.
    #[inline(never)]
    fn look(&mut self, complete: &mut dyn FnMut(Completion<'_>)) -> u32 {
        self.poll_by(|queue, other| queue.drain_unhurried(complete, other))
    }

    /// Takes every answer that there is, within bounds.
    fn take_all_answers(&mut self, complete: &mut dyn FnMut(Completion<'_>)) {
        for _ in 0..DRAINS {
            if self.look(complete) == 0 {
                break;
            }
        }
    }

    #[inline(never)]
    fn tick_once(&mut self, now_ms: u64, complete: &mut dyn FnMut(Completion<'_>)) {
        // What has been answered is not late.
        self.take_all_answers(complete);
        self.now_ms = now_ms;
        if core::mem::take(&mut self.recovery.untimed) {
            self.first_tick();
        }
        self.queue.advance(now_ms);
        if self.queue.bus.is_gone() && self.state != State::Gone {
            self.lose(complete);
        }
        if now_ms.saturating_sub(self.watched_at_ms) >= WATCH_INTERVAL_MS {
            self.watched_at_ms = now_ms;
            self.watch_state(complete);
        }
        if self.state.works() && self.has_work() {
            self.recover(complete);
        }
    }

    /// Looks at the doorbell now; one register read.
    pub fn watch(&mut self, mut complete: impl FnMut(Completion<'_>)) {
        self.watch_state(&mut complete);
    }

    #[inline(never)]
    fn watch_state(&mut self, complete: &mut dyn FnMut(Completion<'_>)) {
        if matches!(self.state, State::Gone | State::Offline) {
            return;
        }
        let doorbell = match self.queue.bus.status::<_, Doorbell>(DOORBELL) {
            Ok(doorbell) => doorbell,
            Err(_) => return self.lose(complete),
        };
        if self.state.works() {
            match doorbell.state() {
                IocState::Operational => {}
                IocState::Fault => self.need_reset(ResetReason::Fault(doorbell.data())),
                IocState::Coredump => self.need_reset(ResetReason::CoreDump(doorbell.data())),
                // Somebody else has reset it.
                _ => self.need_reset(ResetReason::NotOperational),
            }
        }
    }

    /// The controller is gone: everything outstanding completes, nothing is touched any more.
    #[cold]
    #[inline(never)]
    fn lose(&mut self, complete: &mut dyn FnMut(Completion<'_>)) {
        self.state = State::Gone;
        self.news = Some(Action::ControllerGone);
        // All ones may have been a link that was down for a moment: the card may be there again, and
        // write what is about to be somebody else's memory.
        self.queue.bus.cut_off();
        self.give_up(Error::Gone);
        self.desk.targets.rediscovered();
        self.desk.targets.lose_all();
        self.replies.standing().lose(Failure::ControllerGone);
        self.queue.halt_to(Failure::ControllerGone, complete);
    }

    /// Nothing more is asked of the IOC.
    #[inline(never)]
    fn give_up(&mut self, error: Error) {
        self.desk.admin.give_up(error);
        self.desk.task = None;
        self.desk.own_task = None;
        self.recovery.give_up();
    }

    /// The next thing for the platform to act on. Call until `None` after each poll and tick.
    #[inline(never)]
    pub fn next_action(&mut self) -> Option<Action> {
        if let Some(news) = self.news.take() {
            return Some(news);
        }
        self.desk.targets.next_change().map(|change| match change {
            TargetChange::Appeared(id) => Action::TargetAppeared(id),
            TargetChange::Gone(id) => Action::TargetGone(id),
        })
    }

    /// How the controller fares.
    #[must_use]
    pub const fn health(&self) -> Health {
        match self.state {
            State::Running if self.recovery.is_climbing() => Health::Recovering,
            State::Running => Health::Running,
            State::NeedsReset(reason) => Health::ResetNeeded(reason),
            State::Rediscovering { .. } => Health::Rediscovering,
            State::Offline => Health::Offline,
            State::Gone => Health::Gone,
        }
    }

    /// Sets the limits of recovery from now on; commands that are out keep theirs.
    #[inline(never)]
    pub fn set_policy(&mut self, policy: Policy) {
        self.recovery.policy = policy;
        self.queue.set_limit(policy.command_limit_ms);
    }

    /// The limits of recovery.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.recovery.policy
    }

    /// What recovery has done.
    #[must_use]
    pub const fn recovery_counters(&self) -> RecoveryCounters {
        self.recovery.counters
    }

    /// Whether port enable has been answered and discovery has nothing left to do.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.desk.admin.settled()
    }

    /// Waits until the controller knows its disks. Completions that come meanwhile go to `complete`.
    ///
    /// # Errors
    ///
    /// What port enable met with; [`Error::Timeout`], [`Error::Fault`] or [`Error::Gone`].
    pub fn wait_until_settled(
        &mut self,
        delay: &mut impl DelayNs,
        mut complete: impl FnMut(Completion<'_>),
    ) -> Result<(), Error> {
        self.settle(delay, &mut complete)
    }

    #[inline(never)]
    fn settle(
        &mut self,
        delay: &mut dyn DelayNs,
        complete: &mut dyn FnMut(Completion<'_>),
    ) -> Result<(), Error> {
        let waited = Waited { what: "port enable", limit_ms: PORT_ENABLE_LIMIT_MS, last: 0 };
        let is_enabled = |controller: &Self| controller.desk.admin.port_enabled().is_some();
        self.wait(delay, waited, &is_enabled, complete)?;
        if let Some(Err(error)) = self.desk.admin.port_enabled() {
            return Err(error);
        }
        let what = "discovery to find every disk";
        let waited = Waited { what, limit_ms: DISCOVERY_LIMIT_MS, last: 0 };
        self.wait(delay, waited, &Self::settled, complete)?;
        if !self.desk.admin.events_on() {
            warning!("the IOC did not agree to send events");
        }
        Ok(())
    }

    /// The SMID of the outstanding command with this cookie, as task management wants it.
    #[must_use]
    pub fn find_command(&self, cookie: u64) -> Option<u16> {
        self.queue.slots.find(cookie)
    }

    /// Lets reply interrupts pass, or holds every interrupt back; a reset leaves it so.
    pub fn interrupts(&mut self, pass: bool) {
        self.interrupts_pass = pass;
        let mask = if pass { HostInterruptMask::REPLIES_PASS } else { HostInterruptMask::ALL };
        self.queue.bus.put(HOST_INTERRUPT_MASK, mask);
    }

    /// Whether the controller says that a reply waits; one register read, needed only where an
    /// interrupt line is shared.
    #[must_use]
    pub fn interrupt_cause(&self) -> HostInterruptStatus {
        self.queue.bus.get(HOST_INTERRUPT_STATUS)
    }

    /// A target by its id, present or not.
    #[must_use]
    pub fn target(&self, id: TargetId) -> Option<Target> {
        self.desk.targets.get(id)
    }

    /// Where commands for a target go, while it is present: for a queue of its own.
    #[must_use]
    pub fn device(&self, id: TargetId) -> Option<Device> {
        self.desk.targets.device(id)
    }

    /// Every target ever seen.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        self.desk.targets.iter()
    }

    /// Looks for devices anew.
    pub fn scan(&mut self) {
        self.desk.admin.scan();
        self.desk.admin.go_on(&mut self.queue, &mut self.desk.targets);
    }

    /// What the IOC said about itself.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What it said about its first port.
    #[must_use]
    pub const fn port_facts(&self) -> &PortFacts {
        &self.port_facts
    }

    /// The chip.
    #[must_use]
    pub const fn chip(&self) -> &'static Chip {
        self.chip
    }

    /// The plan it was started with.
    #[must_use]
    pub const fn plan(&self) -> &MemoryPlan {
        &self.plan
    }

    /// What its first queue has done.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.queue.counters()
    }

    /// Register reads and writes made by the controller object.
    #[must_use]
    pub fn register_accesses(&self) -> (u64, u64) {
        self.queue.register_accesses()
    }

    /// Commands that the controller has from its first queue.
    #[must_use]
    pub const fn outstanding(&self) -> u16 {
        self.queue.outstanding()
    }

    /// Commands that its first queue takes at once.
    #[must_use]
    pub const fn depth(&self) -> u16 {
        self.queue.depth()
    }

    /// Records what passes the first queue from now on.
    pub fn set_trace(&mut self, trace: &'a mut Trace) {
        self.queue.set_trace(trace);
    }

    /// The trace, if one was set.
    #[must_use]
    pub fn trace(&self) -> Option<&Trace> {
        self.queue.trace()
    }

    /// Keeps the events that the IOC sends from now on, each as the reply frame that told of it,
    /// for a platform that wants to show them. The driver heeds them all the same.
    pub fn set_event_log(&mut self, log: &'a mut Trace) {
        self.queue.set_event_log(log);
    }

    /// The events that were kept, if they are.
    #[must_use]
    pub fn event_log(&self) -> Option<&Trace> {
        self.queue.event_log()
    }
}

impl<'a, G: Generation, R: Registers + Clone, D: DmaRegion + Clone> Controller<'a, G, R, D> {
    /// Hands out the next queue of the plan for a thread of its own; `None` when all are out.
    ///
    /// Commands on it need a [`Device`], which [`Controller::device`] gives. Its owner polls it and
    /// calls [`Queue::tick`]: so it learns when the controller is reset or gone. Once it works
    /// again, handles may have changed: ask [`Controller::device`] anew.
    #[inline(never)]
    pub fn take_queue(&mut self) -> Option<Queue<'a, G, R, D>> {
        if self.next_queue >= self.plan.queues {
            return None;
        }
        let share = usize::from(self.plan.commands_per_queue());
        let spare = core::mem::take(&mut self.spare_slots);
        let (records, rest) = spare.split_at_mut_checked(share)?;
        self.spare_slots = rest;
        let index = self.next_queue;
        self.next_queue += 1;
        let memory = self.queue.memory.clone();
        let epoch = self.recovery.epoch;
        let port = G::port(&self.plan, &self.facts, self.chip, memory.bus(0), index, epoch);
        let bus = self.queue.bus.another();
        let mut queue = Queue::new(bus, memory, &self.plan, port, index, records, self.replies);
        queue.start_clock(self.now_ms, self.recovery.policy.command_limit_ms);
        queue.enter();
        Some(queue)
    }
}
