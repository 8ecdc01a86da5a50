//! Resetting a controller in place: its memory, its tables and the ids of its targets stay.

use embedded_hal::delay::DelayNs;

use super::recovering::REDISCOVERY_LIMIT_MS;
use super::{Action, Controller, State};
use crate::error::Error;
use crate::generation::{Facts, Generation};
use crate::io_queue::Completion;
use crate::outcome::Failure;
use crate::platform::{DmaRegion, Registers};
use crate::recovery::{self, InFlight, ResetReason};
use crate::regs::{DOORBELL, Doorbell, HOST_INTERRUPT_MASK, HostInterruptMask, IocState, Patience};
use crate::startup::{ask_facts, start_ioc};

/// Resets that are refused because a queue is held elsewhere before the controller is given up.
const QUEUE_ATTEMPTS: u8 = 10;
/// How long firmware may take to write its core down (mpt3sas: 15 s by default).
const CORE_DUMP_LIMIT_MS: u32 = 15_000;

impl<G: Generation, R: Registers, D: DmaRegion> Controller<'_, G, R, D> {
    /// Resets the controller and sets it going again, whether it asked for it
    /// ([`Action::ResetNeeded`]) or not. Takes from milliseconds to minutes, each wait bounded, and
    /// tries [`Policy::reset_attempts`](crate::recovery::Policy::reset_attempts) times: first by a
    /// message unit reset where that serves, then by diagnostic resets. Returns when the IOC is
    /// operational; discovery goes on by polls and ticks, and [`Action::ControllerReady`] says when
    /// it is done. `now_ms` as for `tick`.
    ///
    /// What was outstanding completes once the IOC can no longer write its memory (trap T41), by
    /// the policy at once or when the controller is ready.
    ///
    /// # Errors
    ///
    /// [`Error::QueuesHeld`]: nothing was done, call again; the tenth time in a row the controller is
    /// given up. [`Error::Gone`]: everything has completed. Any other: no attempt worked; the
    /// controller is offline, its access to memory has been cut off ([`Registers::cut_off`]) and
    /// everything has completed.
    pub fn reset(
        &mut self,
        now_ms: u64,
        delay: &mut impl DelayNs,
        mut complete: impl FnMut(Completion<'_>),
    ) -> Result<(), Error> {
        self.reset_now(now_ms, delay, &mut complete)
    }

    #[inline(never)]
    fn reset_now(
        &mut self,
        now_ms: u64,
        delay: &mut dyn DelayNs,
        complete: &mut dyn FnMut(Completion<'_>),
    ) -> Result<(), Error> {
        match self.state {
            State::Gone => return Err(Error::Gone),
            State::Offline => return Err(Error::Offline),
            State::NeedsReset(_) => {}
            State::Running | State::Rediscovering { .. } => {
                self.ask_for_reset(ResetReason::Asked);
            }
        }
        // Who resets it need not be told to.
        self.news = None;
        self.now_ms = self.now_ms.max(now_ms);
        self.queue.bus.put(HOST_INTERRUPT_MASK, HostInterruptMask::ALL);
        let attempts = self.recovery.policy.reset_attempts.max(1);
        if let Err(error) = self.wait_for_queues(delay) {
            self.recovery.queues_held = self.recovery.queues_held.saturating_add(1);
            if self.recovery.queues_held < QUEUE_ATTEMPTS {
                return Err(error);
            }
            // Whoever has them will not look any more; what he could still post goes nowhere.
            self.go_offline(complete);
            return Err(Error::Offline);
        }
        self.recovery.queues_held = 0;
        if self.recovery.failed_in_a_row >= attempts {
            self.go_offline(complete);
            return Err(Error::Offline);
        }
        // What has been answered is not ended by the reset.
        self.take_all_answers(complete);
        let reason = self.state.ends_commands_as();
        let mut gently = self.may_reset_gently();
        loop {
            let error = match self.restart(delay, gently, reason, complete) {
                Ok(()) => {
                    self.recovery.counters.resets += 1;
                    return Ok(());
                }
                Err(error) => error,
            };
            self.recovery.counters.failed_resets += 1;
            if error == Error::Gone {
                self.lose(complete);
                return Err(error);
            }
            self.recovery.failed_in_a_row = self.recovery.failed_in_a_row.saturating_add(1);
            if self.recovery.failed_in_a_row >= attempts {
                self.go_offline(complete);
                return Err(error);
            }
            // What a gentle reset did not mend, a hard one may.
            gently = false;
        }
    }

    /// One attempt.
    #[inline(never)]
    fn restart(
        &mut self,
        delay: &mut dyn DelayNs,
        gently: bool,
        reason: Failure,
        complete: &mut dyn FnMut(Completion<'_>),
    ) -> Result<(), Error> {
        let bus = &self.queue.bus;
        let doorbell: Doorbell = bus.status(DOORBELL)?;
        if doorbell.state() == IocState::Coredump {
            // Not waiting for it costs whoever has to find out why; waiting for ever costs more.
            let left = bus.wait_until(
                delay,
                DOORBELL,
                "the firmware to write its core down",
                CORE_DUMP_LIMIT_MS,
                |doorbell: Doorbell| doorbell.state() != IocState::Coredump,
            );
            if left == Err(Error::Gone) {
                return Err(Error::Gone);
            }
        }
        let mut is_ready = false;
        if gently && doorbell.state() == IocState::Operational {
            match recovery::message_unit_reset(bus, delay) {
                Ok(()) => is_ready = true,
                Err(Error::Gone) => return Err(Error::Gone),
                Err(_) => {}
            }
        }
        if !is_ready {
            recovery::diagnostic_reset(bus, delay)?;
        }
        let facts = ask_facts::<G, R>(bus, delay, self.chip)?;
        let port_facts = G::port_facts(bus, delay, 0)?;
        // It is READY and has no queues: it writes nothing any more.
        let hands_back = self.recovery.policy.in_flight == InFlight::HandBack;
        if hands_back {
            self.queue.slots.keep_all();
        } else {
            self.end_outstanding(reason, complete);
        }
        self.check_facts(&facts)?;
        (self.facts, self.port_facts) = (facts, port_facts);
        self.recovery.epoch = self.recovery.epoch.wrapping_add(1);
        self.replies.take_all();
        self.queue.renew(self.recovery.epoch);
        let (bus, memory) = (&self.queue.bus, &self.queue.memory);
        start_ioc::<G, R, D>(bus, delay, &self.facts, &self.plan, memory, self.now_ms)?;
        self.desk.targets.rediscover();
        self.set_going();
        self.interrupts(self.interrupts_pass);
        self.recovery.untimed = true;
        let until_ms = self.now_ms.saturating_add(REDISCOVERY_LIMIT_MS);
        self.state = State::Rediscovering { until_ms, hands_back };
        if !hands_back {
            self.queue.open();
            self.replies.standing().work(false);
        }
        Ok(())
    }

    #[inline(never)]
    fn end_outstanding(&mut self, reason: Failure, complete: &mut dyn FnMut(Completion<'_>)) {
        self.recovery.counters.ended_by_reset += u64::from(self.queue.outstanding());
        self.queue.end_all(reason, complete);
    }

    /// The capability rule: without event replay a message unit reset loses discovery's events. A
    /// controller that has lost its way gets a hard reset.
    fn may_reset_gently(&self) -> bool {
        matches!(
            self.state,
            State::NeedsReset(
                ResetReason::LadderExhausted
                    | ResetReason::ReplyLost
                    | ResetReason::ReplyTorn
                    | ResetReason::OwnRequestLost(_)
                    | ResetReason::NotOperational
                    | ResetReason::Asked
            )
        ) && self.recovery.failed_in_a_row == 0
            && (self.chip.is_mpi1() || self.facts.event_replay)
    }

    /// Waits until the queues that were handed out have left.
    #[inline(never)]
    pub(super) fn wait_for_queues(&mut self, delay: &mut dyn DelayNs) -> Result<(), Error> {
        let mut patience = Patience::new();
        while !self.replies.standing().is_quiet() {
            if !patience.wait(delay, self.recovery.policy.queue_limit_ms) {
                return Err(Error::QueuesHeld);
            }
        }
        Ok(())
    }

    /// The plan was made from facts; a controller that has others now, after a firmware update or a
    /// lie, is not started with it.
    fn check_facts(&self, facts: &Facts) -> Result<(), Error> {
        type Value = fn(&Facts) -> u32;
        const SAME: [(&str, Value); 3] = [
            ("RequestFrameSize", |facts| facts.request_frame_bytes),
            ("ReplyFrameSize", |facts| facts.reply_frame_bytes),
            ("MaxChainSegment", |facts| facts.chain_bytes),
        ];
        const AT_LEAST: [(&str, Value); 4] = [
            ("RequestCredit", |facts| facts.credits.into()),
            ("MaxReplyDescriptorPostQueueDepth", |facts| facts.reply_queue_depth.into()),
            ("MaxMSIxVectors", |facts| facts.queues.into()),
            ("MaxChainDepth", |facts| facts.max_chain_depth.into()),
        ];
        let all = SAME.iter().map(|fact| (fact, true));
        for ((field, value), same) in all.chain(AT_LEAST.iter().map(|fact| (fact, false))) {
            let (was, is) = (value(&self.facts), value(facts));
            if is < was || (same && is != was) {
                return Err(Error::FactsChanged { field, was, is });
            }
        }
        Ok(())
    }

    /// No reset works: the controller is cut off, and everything completes.
    #[cold]
    fn go_offline(&mut self, complete: &mut dyn FnMut(Completion<'_>)) {
        self.queue.bus.cut_off();
        self.state = State::Offline;
        self.news = Some(Action::ControllerOffline);
        self.give_up(Error::Offline);
        self.desk.targets.rediscovered();
        self.desk.targets.lose_all();
        self.replies.standing().lose(Failure::ControllerOffline);
        self.recovery.counters.ended_by_reset += u64::from(self.queue.outstanding());
        self.queue.halt_to(Failure::ControllerOffline, complete);
    }
}
