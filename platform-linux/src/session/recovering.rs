//! What a session does when its controller is in trouble: resets it, says so, and ends when there is
//! none left.

use std::time::Duration;

use fusion_mpt::controller::{Action, Health};
use fusion_mpt::error::Error as CoreError;
use fusion_mpt::generation::Generation;
use fusion_mpt::io_queue::Completion;
use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::recovery::ResetReason;

use super::Session;
use crate::error::Error;
use crate::link::Link;
use crate::recovery::What;

/// How long a device may take nothing though nothing is done about it: longer than the whole ladder.
const REFUSAL_LIMIT: Duration = Duration::from_secs(120);

/// A reset after which the controller has not said yet that it is ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastReset {
    why: ResetReason,
    took: Duration,
    /// Attempts that failed before the one that worked.
    failed: u64,
    until: Duration,
}

impl<G: Generation, B: Link> Session<'_, G, B> {
    /// Tells the controller the time, and does what it asks for.
    pub(super) fn tick(&mut self, complete: &mut dyn FnMut(Completion<'_>)) -> Result<(), Error> {
        let now_ms = self.now_ms();
        let mut handed_back = 0;
        self.controller.tick(now_ms, |completion| {
            handed_back += u64::from(completion.outcome == Outcome::Failed(Failure::HandedBack));
            complete(completion);
        });
        self.handed_back += handed_back;
        self.follow();
        while let Some(action) = self.controller.next_action() {
            self.refused_since = None;
            let publish = matches!(
                action,
                Action::TargetAppeared(_) | Action::TargetGone(_) | Action::ControllerReady
            );
            self.act(action, complete)?;
            if publish {
                self.publish_devices();
            }
        }
        Ok(())
    }

    /// Notes who is there, and tells further queues where commands go; not while that is being found
    /// out after a reset.
    pub(super) fn publish_devices(&mut self) {
        if self.is_looking_for_targets() {
            return;
        }
        let all = self.controller.targets();
        self.present = all.filter(|target| target.present).map(|target| target.id).collect();
        let present = self.present.iter();
        self.devices.publish(present.filter_map(|id| Some((*id, self.controller.device(*id)?))));
    }

    /// Whether a reset is due or not over, so that a target which is not known may yet be found again.
    pub(super) const fn is_looking_for_targets(&self) -> bool {
        matches!(self.controller.health(), Health::ResetNeeded(_) | Health::Rediscovering)
    }

    /// Notes what recovery has done since the last time.
    fn follow(&mut self) {
        let counters = self.controller.recovery_counters();
        let throttled = self.controller.counters().throttled;
        if self.record.follow(self.link.now(), &counters, throttled) {
            self.refused_since = None;
        }
    }

    fn act(
        &mut self,
        action: Action,
        complete: &mut dyn FnMut(Completion<'_>),
    ) -> Result<(), Error> {
        let at = self.link.now();
        match action {
            Action::TargetAppeared(target) => self.record.note(at, What::TargetAppeared(target)),
            Action::TargetGone(target) => self.record.note(at, What::TargetGone(target)),
            Action::ResetNeeded(reason) => return self.reset(reason, complete),
            Action::ControllerReady => self.ready(),
            Action::ControllerGone => {
                self.record.note(at, What::Gone);
                return Err(self.explain(CoreError::Gone));
            }
            Action::ControllerOffline => return Err(self.offline(&CoreError::Offline)),
            _ => {}
        }
        Ok(())
    }

    /// Resets the controller in place. What it held comes back when it is ready.
    fn reset(
        &mut self,
        why: ResetReason,
        complete: &mut dyn FnMut(Completion<'_>),
    ) -> Result<(), Error> {
        self.devices.forget();
        let began = self.link.now();
        let failed_before = self.controller.recovery_counters().failed_resets;
        let result = self.controller.reset(self.now_ms(), &mut self.link.delay(), complete);
        self.follow();
        let now = self.link.now();
        match result {
            Ok(()) => {
                let failed = self.controller.recovery_counters().failed_resets - failed_before;
                let took = now - began;
                self.record.note(now, What::Reset { why, took, failed });
                self.last_reset = Some(LastReset { why, took, failed, until: now });
                Ok(())
            }
            Err(CoreError::Gone) => {
                // Its action would say the same again.
                self.record.note(now, What::Gone);
                Err(self.explain(CoreError::Gone))
            }
            Err(error) => Err(self.offline(&error)),
        }
    }

    /// After a reset all is well again: now there is something to tell.
    fn ready(&mut self) {
        let now = self.link.now();
        let handed_back = std::mem::take(&mut self.handed_back);
        self.record.note(now, What::Ready { handed_back });
        let Some(LastReset { why, took, failed, until }) = self.last_reset.take() else { return };
        let attempt = match failed {
            0 => String::new(),
            failed => format!(" at attempt {}", failed + 1),
        };
        let back = match handed_back {
            0 => "nothing was under way".to_owned(),
            1 => "1 command that was under way is sent again".to_owned(),
            more => format!("{more} commands that were under way are sent again"),
        };
        self.say(&format!(
            "the controller on {} had to be reset: {why}; it was reset in {} ms{attempt} and knew its disks {} ms later; {back}",
            self.bring_up.bus,
            took.as_millis(),
            (now - until).as_millis()
        ));
    }

    /// No reset works: everything has completed, and the session ends.
    fn offline(&mut self, why: &CoreError) -> Error {
        self.record.note(self.link.now(), What::Offline { why: why.to_string() });
        let attempts = self.controller.policy().reset_attempts;
        self.explain(format!(
            "the controller could not be reset in {attempts} attempts ({why}) and was given up; every command has ended, power-cycle the controller and start again"
        ))
    }

    /// What was found at bring-up is no news; anything else is.
    pub(super) fn forget_appearances(&mut self) -> Result<(), Error> {
        while let Some(action) = self.controller.next_action() {
            if !matches!(action, Action::TargetAppeared(_) | Action::TargetGone(_)) {
                self.act(action, &mut |_| {})?;
            }
        }
        Ok(())
    }

    /// Notes that a command was refused, and gives up on a device that takes nothing for no reason.
    pub(super) fn was_refused(&mut self, target: u16) -> Result<(), Error> {
        let now = self.link.now();
        let since = *self.refused_since.get_or_insert(now);
        if now.saturating_sub(since) < REFUSAL_LIMIT {
            return Ok(());
        }
        Err(self.explain(format!(
            "target {target} has taken no command for {} s; look at the disk, and start again",
            REFUSAL_LIMIT.as_secs()
        )))
    }

    pub(super) fn say(&mut self, line: &str) {
        if let Some(report) = self.report.as_mut() {
            report(line);
        }
    }
}
