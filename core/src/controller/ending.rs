//! The ends of a controller: orderly, and at once.

use embedded_hal::delay::DelayNs;

use super::{Controller, State};
use crate::error::{Error, SubmitError};
use crate::generation::chips::Chip;
use crate::generation::{Command, Generation, TaskAttribute};
use crate::io_queue::Completion;
use crate::outcome::Failure;
use crate::platform::{DmaRegion, Registers};
use crate::recovery;
use crate::regs::{Bus, HOST_INTERRUPT_MASK, HostInterruptMask, Patience};
use crate::scsi::{Cdb, Lun};
use crate::sgl::Direction;
use crate::targets::TargetId;

/// How often a flush is tried: the first may be answered with a unit attention.
const FLUSH_ATTEMPTS: u32 = 3;
/// Between two ticks while stopping, in polls of growing length.
const TICK_INTERVAL_MS: u64 = 50;

/// What a stop achieved before the reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stopped {
    /// Commands that did not come back in time and completed as reset.
    pub undrained: u16,
    /// Targets whose write cache was flushed, or that have none.
    pub flushed: u16,
    /// Targets that did not flush: what they were given last may be lost.
    pub unflushed: u16,
    /// One of these.
    pub first_unflushed: Option<TargetId>,
    /// RAID firmware was told that the system goes down, and has answered.
    pub raid_told: bool,
    /// A queue that was handed out was neither dropped nor told to leave: what it held was not
    /// drained, and what it wrote may not be flushed.
    pub queues_held: bool,
}

impl<G: Generation, R: Registers, D: DmaRegion> Controller<'_, G, R, D> {
    /// Drains, flushes and tells RAID firmware, within the policy's limits: what
    /// [`Controller::stop`] does before it takes the controller apart.
    #[inline(never)]
    pub(crate) fn quiesce(
        &mut self,
        now_ms: u64,
        delay: &mut dyn DelayNs,
        complete: &mut dyn FnMut(Completion<'_>),
    ) -> Stopped {
        let queues_held = !self.replies.standing().is_quiet();
        let mut stopped = Stopped { queues_held, ..Stopped::default() };
        let mut now_ms = now_ms;
        let policy = self.recovery.policy;
        // Whom a reset has left unfound may have something to flush too.
        self.pass_time(&mut now_ms, delay, policy.drain_limit_ms, complete, &|controller| {
            !matches!(controller.state, State::Rediscovering { .. })
        });
        let expected = self.desk.targets.expected();
        self.pass_time(&mut now_ms, delay, policy.drain_limit_ms, complete, &|controller| {
            controller.queue.outstanding() == 0
        });
        stopped.undrained = self.queue.outstanding();
        let until_ms = now_ms.saturating_add(u64::from(policy.flush_limit_ms));
        for index in 0..self.desk.targets.room() {
            let id = TargetId(index);
            if self.desk.targets.device(id).is_none() {
                continue;
            }
            let left_ms = until_ms.saturating_sub(now_ms).min(u64::from(u32::MAX)) as u32;
            if self.flush(id, &mut now_ms, left_ms, delay, complete) {
                stopped.flushed += 1;
            } else {
                stopped.first_unflushed = stopped.first_unflushed.or(Some(id));
            }
        }
        // Those that went meanwhile, with the controller perhaps, did not flush either.
        stopped.unflushed = expected.saturating_sub(stopped.flushed);
        if self.state == State::Running
            && G::has_raid(&self.facts)
            && self.desk.admin.raid_shutdown()
        {
            self.desk.admin.go_on(&mut self.queue, &mut self.desk.targets);
            let limit_ms = policy.own_request_limit_ms;
            stopped.raid_told =
                self.pass_time(&mut now_ms, delay, limit_ms, complete, &|controller| {
                    controller.desk.admin.is_idle()
                });
        }
        stopped
    }

    /// Flushes the write cache of a target's first logical unit; SAS and SATA disks have no other.
    #[inline(never)]
    fn flush(
        &mut self,
        target: TargetId,
        now_ms: &mut u64,
        limit_ms: u32,
        delay: &mut dyn DelayNs,
        complete: &mut dyn FnMut(Completion<'_>),
    ) -> bool {
        let cdb = Cdb::synchronize_cache_10(0, 0);
        let mut left_ms = limit_ms;
        for _ in 0..FLUSH_ATTEMPTS {
            // A caller's command that did not come back may have any cookie.
            let mut cookie = u64::MAX;
            while self.find_command(cookie).is_some() {
                cookie -= 1;
            }
            let command = Command {
                lun: Lun::peripheral(0),
                cdb: &cdb,
                direction: Direction::None,
                data_length: 0,
                segments: &[],
                attribute: TaskAttribute::Simple,
                tag: None,
                cookie,
                timeout_ms: left_ms.max(1),
            };
            let started_ms = *now_ms;
            let Some(smid) = self.submit_flush(target, command, now_ms, left_ms, delay, complete)
            else {
                return false;
            };
            let mut outcome = None;
            let mut mine = |completion: Completion<'_>| {
                if completion.cookie == cookie && outcome.is_none() {
                    outcome = Some(completion.outcome);
                } else {
                    complete(completion);
                }
            };
            self.pass_time(now_ms, delay, left_ms, &mut mine, &|controller| {
                controller.queue.outstanding() == 0
            });
            match outcome {
                Some(outcome) if outcome.is_good() => return true,
                Some(_) => {}
                None => {
                    self.queue.give_up_command(smid);
                    return false;
                }
            }
            left_ms = left_ms.saturating_sub((*now_ms - started_ms) as u32);
        }
        false
    }

    /// Gives a flush to the controller, in a slot of the pool or of a tag that is free, when its
    /// target is not being recovered any more.
    fn submit_flush(
        &mut self,
        target: TargetId,
        mut command: Command<'_>,
        now_ms: &mut u64,
        limit_ms: u32,
        delay: &mut dyn DelayNs,
        complete: &mut dyn FnMut(Completion<'_>),
    ) -> Option<u16> {
        self.pass_time(now_ms, delay, limit_ms, complete, &|controller| {
            !controller.recovery.is_climbing()
        });
        let mut next_tag = 0;
        loop {
            match self.submit(target, &command) {
                Ok(smid) => return Some(smid),
                Err(SubmitError::Full | SubmitError::TagInUse(_)) if next_tag < self.plan.tags => {
                    command.tag = Some(next_tag);
                    next_tag += 1;
                }
                Err(_) => return None,
            }
        }
    }

    /// Polls and ticks until `done`, at most `limit_ms` milliseconds; whether it is.
    #[inline(never)]
    fn pass_time(
        &mut self,
        now_ms: &mut u64,
        delay: &mut dyn DelayNs,
        limit_ms: u32,
        complete: &mut dyn FnMut(Completion<'_>),
        done: &dyn Fn(&Self) -> bool,
    ) -> bool {
        let (mut patience, started_ms, mut ticked_ms) = (Patience::new(), *now_ms, *now_ms);
        loop {
            self.look(complete);
            if done(self) {
                return true;
            }
            if !self.state.works() || !patience.wait(delay, limit_ms) {
                return false;
            }
            *now_ms = started_ms.saturating_add(patience.waited_ms());
            if *now_ms - ticked_ms >= TICK_INTERVAL_MS {
                ticked_ms = *now_ms;
                self.tick_once(ticked_ms, complete);
            }
        }
    }

    /// Whether the controller is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Takes the controller apart: what [`Controller::into_reset`] does, but for the types.
    pub(crate) fn take_apart(
        mut self,
        delay: &mut dyn DelayNs,
        complete: &mut dyn FnMut(Completion<'_>),
    ) -> (Bus<R>, &'static Chip, D, Result<(), Error>) {
        let result = self.end(delay, complete);
        let (bus, region) = self.queue.into_parts();
        (bus, self.chip, region, result)
    }

    /// Resets the IOC, after which everything completes.
    #[inline(never)]
    fn end(
        &mut self,
        delay: &mut dyn DelayNs,
        complete: &mut dyn FnMut(Completion<'_>),
    ) -> Result<(), Error> {
        let reason = self.state.ends_commands_as();
        self.queue.bus.put(HOST_INTERRUPT_MASK, HostInterruptMask::ALL);
        if !matches!(self.state, State::Gone | State::Offline) {
            self.replies.standing().halt();
        }
        // A queue whose owner does not poll it does not post either.
        let _ = self.wait_for_queues(delay);
        let result = match self.state {
            State::Gone => Ok(()),
            // The capability rule: without event replay a message unit reset loses discovery.
            State::Running | State::Rediscovering { .. }
                if self.chip.is_mpi1() || self.facts.event_replay =>
            {
                match recovery::message_unit_reset(&self.queue.bus, delay) {
                    Err(error) if error != Error::Gone => {
                        recovery::diagnostic_reset(&self.queue.bus, delay)
                    }
                    result => result,
                }
            }
            _ => recovery::diagnostic_reset(&self.queue.bus, delay),
        };
        let reason = match result {
            Err(Error::Gone) => Failure::ControllerGone,
            _ => reason,
        };
        if result.is_err() {
            // It may write yet what is about to be somebody else's memory.
            self.queue.bus.cut_off();
        }
        self.replies.standing().lose(reason);
        self.queue.halt_to(reason, complete);
        result
    }
}
