//! Recovery while the controller works: the ladder for what is late, devices that went, requests
//! of the driver's own that were not answered, and the end of a reset.
//!
//! All of it goes on from tick to tick and waits for nothing.

use super::management::Task;
use super::{Action, Controller, DISCOVERY_LIMIT_MS, State};
use crate::doorbell::Sending;
use crate::error::Error;
use crate::generation::{Device, Generation, Message};
use crate::io_queue::Completion;
use crate::outcome::Failure;
use crate::platform::{DmaRegion, Registers};
use crate::recovery::{
    Climb, Policy, RecoveryCounters, ResetReason, Step, Subject, TaskReply, TaskRequest, TaskType,
};
use crate::scsi::Lun;
use crate::slots::LateCommand;
use crate::startup::PORT_ENABLE_LIMIT_MS;

/// How long discovery may take after a reset.
pub(super) const REDISCOVERY_LIMIT_MS: u64 =
    PORT_ENABLE_LIMIT_MS as u64 + DISCOVERY_LIMIT_MS as u64;
/// Looks at the doorbell while a request is on its way, each a register read or two.
const LOOKS: u32 = 500;
/// Steps of one tick: a climb that ends and the next that begins.
const STEPS: u32 = 8;

/// A device that went: the IOC is to forget it.
#[derive(Debug)]
struct Removal {
    device: Device,
    until_ms: u64,
}

/// What recovery is doing.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) policy: Policy,
    pub(super) counters: RecoveryCounters,
    /// Resets since the start.
    pub(super) epoch: u32,
    /// Resets that have failed, one after the other.
    pub(super) failed_in_a_row: u8,
    climb: Option<Climb>,
    removal: Option<Removal>,
    /// Task management of our own on its way through the doorbell.
    sending: Option<(Sending, Message)>,
    /// When the reply ring was found torn last.
    torn_at_ms: Option<u64>,
    /// Resets in a row that were refused because a queue is held elsewhere.
    pub(super) queues_held: u8,
    /// No tick has come since the IOC was set going: how long that took is not known yet.
    pub(super) untimed: bool,
}

impl Recovery {
    pub(super) fn new() -> Self {
        Self {
            policy: Policy::default(),
            counters: RecoveryCounters::default(),
            epoch: 0,
            failed_in_a_row: 0,
            climb: None,
            removal: None,
            sending: None,
            torn_at_ms: None,
            queues_held: 0,
            untimed: true,
        }
    }

    pub(super) const fn is_climbing(&self) -> bool {
        self.climb.is_some()
    }

    /// The controller is reset or gone: nothing that was under way matters any more.
    pub(super) fn give_up(&mut self) {
        self.climb = None;
        self.removal = None;
        self.sending = None;
        self.torn_at_ms = None;
    }
}

impl<G: Generation, R: Registers, D: DmaRegion> Controller<'_, G, R, D> {
    /// The controller must be reset. Nothing is asked of it until it is; what it has it keeps.
    #[cold]
    #[inline(never)]
    pub(super) fn need_reset(&mut self, reason: ResetReason) {
        if matches!(self.state, State::Rediscovering { .. }) {
            // The last reset did not get so far as to count as one that worked.
            self.recovery.failed_in_a_row = self.recovery.failed_in_a_row.saturating_add(1);
            self.recovery.counters.failed_resets += 1;
        }
        self.ask_for_reset(reason);
    }

    /// The same, without blame for the last reset.
    pub(super) fn ask_for_reset(&mut self, reason: ResetReason) {
        self.state = State::NeedsReset(reason);
        self.news = Some(Action::ResetNeeded(reason));
        self.give_up(reason.error());
        self.replies.standing().halt();
        self.queue.close(Failure::ControllerReset);
    }

    /// Whether a tick has more to look at than the time.
    pub(super) fn has_work(&self) -> bool {
        let recovery = &self.recovery;
        recovery.climb.is_some()
            || recovery.removal.is_some()
            || self.queue.slots.has_late()
            || self.replies.standing().has_late()
            || self.desk.targets.has_removal()
            || matches!(self.state, State::Rediscovering { .. })
            || !self.desk.admin.is_quiet()
    }

    /// Does what is due.
    #[cold]
    pub(super) fn recover(&mut self, complete: &mut dyn FnMut(Completion<'_>)) {
        if let State::Rediscovering { until_ms, hands_back } = self.state {
            self.look_for_the_end(until_ms, hands_back, complete);
        }
        let limit_ms = self.recovery.policy.own_request_limit_ms;
        if let Some(function) = self.desk.admin.overdue(self.now_ms, limit_ms) {
            return self.need_reset(ResetReason::OwnRequestLost(function));
        }
        self.step_on();
    }

    /// The first tick after a start or a reset, which may have taken minutes, in which nobody could
    /// answer anything.
    #[cold]
    pub(super) fn first_tick(&mut self) {
        self.queue.rebase(self.now_ms);
        self.desk.admin.asked_at(self.now_ms);
        if let State::Rediscovering { until_ms, .. } = &mut self.state {
            *until_ms = self.now_ms.saturating_add(REDISCOVERY_LIMIT_MS);
        }
    }

    /// Goes on with the ladder or a removal, as far as the answers go that have come: with each
    /// that comes, and with each tick.
    #[inline(never)]
    pub(super) fn step_on(&mut self) {
        self.send_on();
        for _ in 0..STEPS {
            if !self.state.works() || !self.step() {
                return;
            }
        }
    }

    /// Whether discovery after a reset has ended.
    #[inline(never)]
    fn look_for_the_end(
        &mut self,
        until_ms: u64,
        hands_back: bool,
        complete: &mut dyn FnMut(Completion<'_>),
    ) {
        if !self.desk.admin.settled() && self.now_ms < until_ms {
            return;
        }
        if let Some(Err(_)) = self.desk.admin.port_enabled() {
            return self.need_reset(ResetReason::PortEnableFailed);
        }
        self.state = State::Running;
        self.recovery.failed_in_a_row = 0;
        self.desk.targets.rediscovered();
        if hands_back {
            self.recovery.counters.ended_by_reset += u64::from(self.queue.outstanding());
            self.queue.end_all(Failure::HandedBack, complete);
            self.replies.standing().work(true);
        }
        self.queue.open();
        self.news = Some(Action::ControllerReady);
    }

    /// One step on the ladder, or of a removal; `false` if there is none at present.
    fn step(&mut self) -> bool {
        if self.recovery.climb.is_none() && self.recovery.removal.is_none() {
            return self.begin_climb() || self.begin_removal();
        }
        let reply = self.desk.own_task.as_ref().and_then(|task| task.reply.as_ref());
        let reply = reply.map(|reply| reply.ok());
        if reply.is_some() {
            self.desk.own_task = None;
        }
        match (&self.recovery.climb, reply) {
            (Some(climb), reply) => {
                let smid = climb.subject().smid;
                self.climb_on(smid, reply)
            }
            (None, Some(_)) => self.end_removal(),
            (None, None) => {
                let overdue = self.recovery.removal.as_ref().map(|removal| removal.until_ms);
                if overdue.is_none_or(|until| self.now_ms < until) {
                    return false;
                }
                if self.desk.own_task.is_some() {
                    self.recovery.counters.lost_tasks += 1;
                    self.abandon_task();
                }
                self.end_removal()
            }
        }
    }

    /// Goes on for the late command `smid`; `reply` if its task management was answered.
    #[inline(never)]
    fn climb_on(&mut self, smid: u16, reply: Option<Option<TaskReply>>) -> bool {
        let now_ms = self.now_ms;
        let outstanding = reply.is_some() || self.is_outstanding(smid);
        let Recovery { policy, climb: Some(climb), .. } = &mut self.recovery else { return false };
        let step = match &reply {
            Some(reply) => climb.answered(now_ms, policy, reply.as_ref()),
            None => climb.step(now_ms, outstanding),
        };
        match step {
            Step::Wait => return reply.is_some(),
            Step::Ask(request) => match self.ask(&request) {
                Ok(()) => {
                    let Recovery { policy, counters, climb, .. } = &mut self.recovery;
                    if let Some(climb) = climb {
                        climb.asked(now_ms, policy, counters);
                    }
                }
                Err(_) => self.need_reset(ResetReason::LadderExhausted),
            },
            Step::Abandon => {
                self.recovery.counters.lost_tasks += 1;
                self.abandon_task();
            }
            Step::Done => {
                self.recovery.climb = None;
                self.replies.standing().watch(0);
                self.queue.hold(None, 0);
            }
            Step::Reset(reason) => self.need_reset(reason),
        }
        true
    }

    /// Takes a late command and holds its device.
    #[inline(never)]
    fn begin_climb(&mut self) -> bool {
        let of_another = |(smid, device)| LateCommand { smid, device };
        let late = self.queue.slots.late();
        let late = late.or_else(|| self.replies.standing().take_late().map(of_another));
        let Some(LateCommand { smid, device }) = late else { return false };
        if G::is_torn(&self.queue.port, &self.queue.memory) {
            // The answers to the ladder's questions would stand behind it. It may be half a reply
            // that is just being written: another look, at another time, says.
            if self.recovery.torn_at_ms.replace(self.now_ms).is_some_and(|at| at != self.now_ms) {
                self.need_reset(ResetReason::ReplyTorn);
            }
            return false;
        }
        self.recovery.torn_at_ms = None;
        let device = Device { address: device };
        let lun = self.queue.lun_of(smid);
        self.recovery.counters.late += 1;
        self.recovery.climb = Some(Climb::new(Subject { smid, device, lun }));
        self.replies.standing().watch(smid);
        self.queue.hold(Some(device), smid);
        true
    }

    /// Whether a late command still is. Another queue says when it has ended.
    fn is_outstanding(&self, smid: u16) -> bool {
        if self.queue.slots.owns(smid) {
            self.queue.slots.is_late(smid)
        } else {
            self.replies.standing().is_watched(smid)
        }
    }

    /// Takes a device that went and resets it, so that the IOC ends what it holds for it.
    #[inline(never)]
    fn begin_removal(&mut self) -> bool {
        let Some(device) = self.desk.targets.next_removal() else { return false };
        let until_ms =
            self.now_ms.saturating_add(u64::from(self.recovery.policy.target_reset_limit_ms));
        let request =
            TaskRequest { kind: TaskType::TARGET_RESET, device, lun: Lun::peripheral(0), smid: 0 };
        self.recovery.removal = Some(Removal { device, until_ms });
        match self.ask(&request) {
            Ok(()) => self.recovery.counters.target_resets += 1,
            Err(_) => return self.end_removal(),
        }
        true
    }

    /// The device was reset, as far as it could be: now it is removed.
    #[inline(never)]
    fn end_removal(&mut self) -> bool {
        if let Some(removal) = &mut self.recovery.removal {
            if !self.desk.admin.remove_device(removal.device.address) {
                // No room to remember it at present: again at the next tick.
                removal.until_ms = 0;
                return false;
            }
            self.recovery.removal = None;
            self.recovery.counters.removals += 1;
            self.desk.admin.go_on(&mut self.queue, &mut self.desk.targets);
        }
        true
    }

    /// Asks for task management, by the queue or the doorbell.
    #[inline(never)]
    fn ask(&mut self, request: &TaskRequest) -> Result<(), Error> {
        let smid = if self.prefers_doorbell() {
            let (smid, message) = self.doorbell_task(request).ok_or(Error::Busy)?;
            self.recovery.sending = Some((Sending::new(), message));
            smid
        } else {
            self.post_task(request).ok_or(Error::Busy)?
        };
        self.desk.own_task = Some(Task { smid, reply: None });
        self.send_on();
        Ok(())
    }

    /// Moves a request through the doorbell as far as the IOC is ready for.
    fn send_on(&mut self) {
        if !G::TASKS_BY_DOORBELL {
            return;
        }
        let Some((sending, message)) = &mut self.recovery.sending else { return };
        let bus = &self.queue.bus;
        // A live IOC takes a word within microseconds; ticks may be a second apart.
        let mut sent = sending.advance(bus, message.bytes());
        for _ in 0..LOOKS {
            if sent != Ok(false) {
                break;
            }
            sent = sending.advance(bus, message.bytes());
        }
        match sent {
            Ok(false) => {}
            Ok(true) => self.recovery.sending = None,
            // Somebody's handshake is under way, or ours was dropped: this rung is not answered.
            Err(error) => {
                self.recovery.sending = None;
                if let Some(task) = &mut self.desk.own_task {
                    self.queue.give_up_own(task.smid);
                    task.reply = Some(Err(error));
                }
            }
        }
    }

    /// Task management of our own was not answered: whatever comes yet is nothing to us.
    fn abandon_task(&mut self) {
        self.desk.own_task = None;
        self.recovery.sending = None;
    }
}
