//! The ladder: what is done about a command that is late, one rung after the other.
//!
//! ```text
//! ABORT TASK ──▶ LOGICAL UNIT RESET ──▶ TARGET RESET ──▶ the controller
//! ```
//!
//! A rung is asked for, answered, and then the late command has a while to be answered too, since
//! the reply to task management may overtake it (controllers.md 2.6). What is refused, not
//! answered in time or of no effect leads to the next rung. Pure state: whoever climbs is told
//! what to ask for and says what came of it.

use super::policy::{Policy, RecoveryCounters, ResetReason};
use crate::reply::TaskReply;
use crate::request::{Device, TaskRequest};
use crate::scsi::Lun;
use crate::wire::IocStatus;
use crate::wire::task::{ResponseCode, TaskType};

/// The command that the ladder is climbed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Subject {
    pub(crate) smid: u16,
    pub(crate) device: Device,
    pub(crate) lun: Lun,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rung {
    Abort,
    UnitReset,
    TargetReset,
}

/// Where on a rung.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Foot {
    /// The request is to be made.
    Ask,
    /// It has been made.
    Asked,
    /// It has been answered; the commands it ended may yet be.
    Answered,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Wait.
    Wait,
    /// Ask for this.
    Ask(TaskRequest),
    /// The request was not answered: forget it.
    Abandon,
    /// The command has ended: off the ladder.
    Done,
    /// Reset the controller.
    Reset(ResetReason),
}

/// A climb.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Climb {
    subject: Subject,
    rung: Rung,
    foot: Foot,
    until_ms: u64,
    /// The answer said that there is no such command, or that it has ended.
    ended: bool,
}

impl Climb {
    pub(crate) const fn new(subject: Subject) -> Self {
        Self { subject, rung: Rung::Abort, foot: Foot::Ask, until_ms: 0, ended: false }
    }

    pub(crate) const fn subject(&self) -> Subject {
        self.subject
    }

    /// The next step, at `now_ms`: `outstanding` says whether the late command still is.
    pub(crate) fn step(&mut self, now_ms: u64, outstanding: bool) -> Step {
        match self.foot {
            Foot::Ask if !outstanding => Step::Done,
            Foot::Ask => Step::Ask(self.request()),
            // The task management slot is free again only when it is answered.
            Foot::Asked if now_ms < self.until_ms => Step::Wait,
            Foot::Asked => {
                self.foot = Foot::Ask;
                match self.next_rung() {
                    _ if !outstanding => Step::Abandon,
                    true => Step::Abandon,
                    false => Step::Reset(ResetReason::LadderExhausted),
                }
            }
            Foot::Answered if !outstanding => Step::Done,
            Foot::Answered if now_ms < self.until_ms => Step::Wait,
            // The device does not have it, and its reply has not come: nothing below a reset of
            // the controller can bring it, and more resets of the device only hurt others.
            Foot::Answered if self.ended => Step::Reset(ResetReason::ReplyLost),
            Foot::Answered => self.climb(),
        }
    }

    /// The request was made.
    pub(crate) fn asked(&mut self, now_ms: u64, policy: &Policy, counters: &mut RecoveryCounters) {
        let (count, limit_ms) = match self.rung {
            Rung::Abort => (&mut counters.aborts, policy.abort_limit_ms),
            Rung::UnitReset => (&mut counters.unit_resets, policy.unit_reset_limit_ms),
            Rung::TargetReset => (&mut counters.target_resets, policy.target_reset_limit_ms),
        };
        *count += 1;
        self.foot = Foot::Asked;
        self.until_ms = now_ms.saturating_add(u64::from(limit_ms));
    }

    /// It was answered; `None` if by something that is no answer.
    pub(crate) fn answered(
        &mut self,
        now_ms: u64,
        policy: &Policy,
        reply: Option<&TaskReply>,
    ) -> Step {
        let done = reply.is_some_and(|reply| {
            reply.status.code() == IocStatus::SUCCESS && reply.response == ResponseCode::COMPLETE
        });
        if !done {
            return self.climb();
        }
        self.ended = true;
        self.foot = Foot::Answered;
        self.until_ms = now_ms.saturating_add(u64::from(policy.answer_limit_ms));
        Step::Wait
    }

    fn climb(&mut self) -> Step {
        self.foot = Foot::Ask;
        if self.next_rung() { Step::Wait } else { Step::Reset(ResetReason::LadderExhausted) }
    }

    fn next_rung(&mut self) -> bool {
        self.rung = match self.rung {
            Rung::Abort => Rung::UnitReset,
            Rung::UnitReset => Rung::TargetReset,
            Rung::TargetReset => return false,
        };
        true
    }

    fn request(&self) -> TaskRequest {
        let Subject { smid, device, lun } = self.subject;
        let (kind, lun, smid) = match self.rung {
            Rung::Abort => (TaskType::ABORT_TASK, lun, smid),
            Rung::UnitReset => (TaskType::LOGICAL_UNIT_RESET, lun, 0),
            Rung::TargetReset => (TaskType::TARGET_RESET, Lun::peripheral(0), 0),
        };
        TaskRequest { kind, device, lun, smid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_info::LogInfo;

    const SUBJECT: Subject =
        Subject { smid: 17, device: Device::from_handle(9), lun: Lun::peripheral(3) };

    fn reply(response: ResponseCode, status: IocStatus) -> TaskReply {
        TaskReply { response, terminated: 1, status, log_info: LogInfo(0) }
    }

    const DONE: fn() -> TaskReply = || reply(ResponseCode::COMPLETE, IocStatus::SUCCESS);

    struct Climber {
        climb: Climb,
        policy: Policy,
        counters: RecoveryCounters,
        now: u64,
    }

    impl Climber {
        fn new() -> Self {
            let (policy, counters) = (Policy::default(), RecoveryCounters::default());
            Self { climb: Climb::new(SUBJECT), policy, counters, now: 1_000 }
        }

        #[track_caller]
        fn ask(&mut self) -> TaskRequest {
            let Step::Ask(request) = self.climb.step(self.now, true) else {
                panic!("{:?}", self.climb);
            };
            self.climb.asked(self.now, &self.policy, &mut self.counters);
            assert_eq!(self.climb.step(self.now, true), Step::Wait);
            request
        }

        fn answer(&mut self, reply: TaskReply) -> Step {
            self.climb.answered(self.now, &self.policy, Some(&reply))
        }
    }

    #[test]
    fn an_abort_that_works_is_all_there_is() {
        let mut climber = Climber::new();
        let request = climber.ask();
        assert_eq!((request.kind, request.smid), (TaskType::ABORT_TASK, 17));
        assert_eq!(climber.answer(DONE()), Step::Wait);
        // Its own reply comes after task management's.
        climber.now += 1_999;
        assert_eq!(climber.climb.step(climber.now, true), Step::Wait);
        assert_eq!(climber.climb.step(climber.now, false), Step::Done);
    }

    #[test]
    fn what_is_refused_leads_to_the_next_rung_and_at_last_to_the_controller() {
        let mut climber = Climber::new();
        let refused = || reply(ResponseCode::FAILED, IocStatus::SUCCESS);
        climber.ask();
        assert_eq!(climber.answer(refused()), Step::Wait);
        let request = climber.ask();
        assert_eq!((request.kind, request.smid), (TaskType::LOGICAL_UNIT_RESET, 0));
        assert_eq!(request.lun, Lun::peripheral(3));
        assert_eq!(
            climber.answer(reply(ResponseCode::COMPLETE, IocStatus::SCSI_TASK_MGMT_FAILED)),
            Step::Wait
        );
        assert_eq!(climber.ask().kind, TaskType::TARGET_RESET);
        assert_eq!(climber.answer(refused()), Step::Reset(ResetReason::LadderExhausted));
        let RecoveryCounters { aborts, unit_resets, target_resets, .. } = climber.counters;
        assert_eq!((aborts, unit_resets, target_resets), (1, 1, 1));
    }

    #[test]
    fn task_management_that_is_never_answered_is_given_up_rung_by_rung() {
        let mut climber = Climber::new();
        for limit in [5_000, 10_000] {
            climber.ask();
            climber.now += limit;
            assert_eq!(climber.climb.step(climber.now, true), Step::Abandon);
        }
        climber.ask();
        climber.now += 10_000;
        assert_eq!(
            climber.climb.step(climber.now, true),
            Step::Reset(ResetReason::LadderExhausted)
        );
    }

    #[test]
    fn a_command_that_ended_by_itself_meanwhile_ends_the_climb_with_its_task() {
        let mut climber = Climber::new();
        assert_eq!(climber.climb.step(climber.now, false), Step::Done, "before anything was asked");
        climber.ask();
        assert_eq!(climber.climb.step(climber.now, false), Step::Wait, "the task is still out");
        assert_eq!(climber.answer(DONE()), Step::Wait);
        assert_eq!(climber.climb.step(climber.now, false), Step::Done);
    }

    #[test]
    fn a_lost_reply_goes_straight_to_the_controller() {
        let mut climber = Climber::new();
        climber.ask();
        climber.answer(DONE());
        climber.now += 2_000;
        assert_eq!(climber.climb.step(climber.now, true), Step::Reset(ResetReason::ReplyLost));
    }
}
