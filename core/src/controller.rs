//! The controller: submit, poll, tick, actions.
//!
//! Passive: it has no thread, no clock and no callbacks of its own. The platform submits commands,
//! polls when an interrupt or its own patience says so, calls `tick` with the time now and then,
//! and takes actions out of [`Controller::next_action`].

use embedded_hal::delay::DelayNs;

use crate::admin::Admin;
use crate::error::{Error, SubmitError};
use crate::generation::chips::Chip;
use crate::generation::{Command, Device, Facts, Generation, PortFacts};
use crate::io_queue::{Completion, Other, Queue};
use crate::mem::Memory;
use crate::memory_plan::{INTERNAL_SLOTS, MemoryPlan, TASK_SLOTS};
use crate::outcome::Failure;
use crate::platform::{DmaRegion, Registers};
use crate::recovery;
use crate::regs::{
    Bus, DOORBELL, Doorbell, HOST_INTERRUPT_MASK, HOST_INTERRUPT_STATUS, HostInterruptMask,
    HostInterruptStatus, IocState,
};
use crate::shared::ReplyFrames;
use crate::slots::SlotRecord;
use crate::targets::{Target, TargetChange, TargetId, TargetRecord, Targets};
use crate::trace::{Counters, Trace};
use crate::wire::Function;

mod management;

use management::Task;
pub use management::TaskRoute;

/// How often the doorbell is looked at (Linux: every second).
const WATCH_INTERVAL_MS: u64 = 1_000;
/// How long discovery may take beyond port enable before something is wrong.
const DISCOVERY_LIMIT_MS: u32 = 60_000;
/// How long port enable may take: firmware waits for slow disks (Linux: 300 s).
pub(crate) const PORT_ENABLE_LIMIT_MS: u32 = 300_000;

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
    /// The IOC is in FAULT with this code; every command has been completed. Take the controller
    /// apart with [`Controller::into_reset`] and start again.
    ControllerFault(u16),
    /// Somebody else has reset the IOC; every command has been completed. As for a fault.
    ControllerReset,
}

/// What the controller is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Running,
    Gone,
    Fault(u16),
    /// No longer operational, and not by our doing.
    Reset,
}

/// Where everything in the reply queue goes that is no command's completion.
#[derive(Debug)]
struct Desk<'a> {
    targets: Targets<'a>,
    admin: Admin,
    task: Option<Task>,
    /// Where the page buffer lies.
    page_at: usize,
    /// Something came in that may let the next request go.
    has_news: bool,
}

impl Desk<'_> {
    #[cold]
    fn take_in<G: Generation, D: DmaRegion>(&mut self, memory: &Memory<D>, other: &Other<'_>) {
        self.has_news = true;
        match (other, self.task.as_mut()) {
            (Other::Reply { smid, header, frame }, Some(task)) if task.smid == *smid => {
                let function = Function::SCSI_TASK_MANAGEMENT;
                let (claimed, bytes) = (header.function, header.length);
                let reply = G::task_reply(frame).filter(|_| claimed == function);
                task.reply = Some(reply.ok_or(Error::BadReply { function, claimed, bytes }));
            }
            // The late answer to task management that was given up is nothing to it.
            (other, _) => self.admin.take_in::<G>(other, &mut self.targets, |into| {
                memory.copy_out(self.page_at, into);
                into.len()
            }),
        }
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
    state_reported: bool,
    watched_at_ms: u64,
    now_ms: u64,
}

impl<'a, G: Generation, R: Registers, D: DmaRegion> Controller<'a, G, R, D> {
    #[allow(clippy::too_many_arguments, reason = "one call, from bring-up")]
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
        let port = G::port(plan, &facts, chip, memory.bus(0), 0);
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
                page_at: plan.layout.page as usize,
                has_news: false,
            },
            plan: *plan,
            chip,
            facts,
            port_facts,
            state: State::Running,
            state_reported: true,
            watched_at_ms: 0,
            now_ms: 0,
        }
    }

    /// Primes the queues and sets discovery going.
    pub(crate) fn begin(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.watched_at_ms = now_ms;
        G::start_queues(&self.queue.bus, &self.plan, &self.queue.port);
        self.queue.give_all_reply_frames();
        self.desk.targets.lose_all();
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
            None => Err(SubmitError::NoTarget),
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
        let Self { queue, desk, .. } = self;
        let found =
            queue.drain(&mut complete, &mut |memory, other| desk.take_in::<G, D>(memory, &other));
        if desk.has_news {
            desk.has_news = false;
            desk.admin.go_on(queue, &mut desk.targets);
        }
        found
    }

    /// Tells the controller the time, in milliseconds from any start. Once a second it looks at
    /// the doorbell: if the IOC has faulted or gone, everything outstanding is completed.
    pub fn tick(&mut self, now_ms: u64, mut complete: impl FnMut(Completion<'_>)) {
        self.now_ms = now_ms;
        self.queue.set_now(now_ms);
        if now_ms.saturating_sub(self.watched_at_ms) >= WATCH_INTERVAL_MS {
            self.watched_at_ms = now_ms;
            self.watch_state(&mut complete);
        }
    }

    /// Looks at the doorbell now; one register read.
    pub fn watch(&mut self, mut complete: impl FnMut(Completion<'_>)) {
        self.watch_state(&mut complete);
    }

    #[inline(never)]
    fn watch_state(&mut self, complete: &mut dyn FnMut(Completion<'_>)) {
        if self.state != State::Running {
            return;
        }
        let (state, reason, error) = match self.queue.bus.status::<_, Doorbell>(DOORBELL) {
            Ok(doorbell) => match doorbell.state() {
                IocState::Operational => return,
                IocState::Fault | IocState::Coredump => {
                    let code = doorbell.data();
                    (State::Fault(code), Failure::ControllerFault(code), Error::Fault(code))
                }
                // Somebody else has reset it.
                _ => (State::Reset, Failure::ControllerReset, Error::NotOperational),
            },
            Err(_) => (State::Gone, Failure::ControllerGone, Error::Gone),
        };
        self.state = state;
        self.state_reported = false;
        if state == State::Gone {
            self.desk.targets.lose_all();
        }
        self.desk.admin.give_up(error);
        self.desk.task = None;
        self.queue.halt_to(reason, complete);
    }

    /// The next thing for the platform to act on. Call until `None` after each poll and tick.
    pub fn next_action(&mut self) -> Option<Action> {
        if !self.state_reported {
            self.state_reported = true;
            match self.state {
                State::Running => {}
                State::Gone => return Some(Action::ControllerGone),
                State::Fault(code) => return Some(Action::ControllerFault(code)),
                State::Reset => return Some(Action::ControllerReset),
            }
        }
        self.desk.targets.next_change().map(|change| match change {
            TargetChange::Appeared(id) => Action::TargetAppeared(id),
            TargetChange::Gone(id) => Action::TargetGone(id),
        })
    }

    /// Whether port enable has been answered and discovery has nothing left to do.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.desk.admin.settled()
    }

    /// Waits until the controller knows its disks.
    ///
    /// # Errors
    ///
    /// What port enable met with; [`Error::Timeout`], [`Error::Fault`] or [`Error::Gone`].
    pub fn wait_until_settled(&mut self, delay: &mut impl DelayNs) -> Result<(), Error> {
        let limit = PORT_ENABLE_LIMIT_MS;
        self.wait(
            delay,
            "port enable",
            limit,
            |controller| controller.desk.admin.port_enabled(),
            |_| {},
        )??;
        self.wait(
            delay,
            "discovery to find every disk",
            DISCOVERY_LIMIT_MS,
            |controller| controller.settled().then_some(()),
            |_| {},
        )?;
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

    /// Lets reply interrupts pass, or holds every interrupt back.
    pub fn interrupts(&mut self, pass: bool) {
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

    /// Takes the controller apart: what [`Controller::into_reset`] does, but for the types.
    pub(crate) fn take_apart(
        mut self,
        delay: &mut impl DelayNs,
        complete: impl FnMut(Completion<'_>),
    ) -> (Bus<R>, &'static Chip, D, Result<(), Error>) {
        let reason = match self.state {
            State::Gone => Failure::ControllerGone,
            _ => Failure::ControllerReset,
        };
        self.queue.bus.put(HOST_INTERRUPT_MASK, HostInterruptMask::ALL);
        let result = match self.state {
            State::Gone => Ok(()),
            State::Fault(_) => recovery::diagnostic_reset(&self.queue.bus, delay),
            // The capability rule: without event replay a message unit reset loses discovery.
            State::Running | State::Reset if self.chip.is_mpi1() || self.facts.event_replay => {
                match recovery::message_unit_reset(&self.queue.bus, delay) {
                    Err(error) if error != Error::Gone => {
                        recovery::diagnostic_reset(&self.queue.bus, delay)
                    }
                    result => result,
                }
            }
            State::Running | State::Reset => recovery::diagnostic_reset(&self.queue.bus, delay),
        };
        self.queue.halt(reason, complete);
        let (bus, region) = self.queue.into_parts();
        (bus, self.chip, region, result)
    }
}

impl<'a, G: Generation, R: Registers + Clone, D: DmaRegion + Clone> Controller<'a, G, R, D> {
    /// Hands out the next queue of the plan for a thread of its own; `None` when all are out.
    ///
    /// Commands on it need a [`Device`], which [`Controller::device`] gives. When the controller
    /// reports a fault, a reset or its end, the queue's owner calls [`Queue::halt`].
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
        let port = G::port(&self.plan, &self.facts, self.chip, memory.bus(0), index);
        let bus = self.queue.bus.another();
        Some(Queue::new(bus, memory, &self.plan, port, index, records, self.replies))
    }
}
