//! What happened to a controller on the way, in words.

use std::fmt;
use std::time::Duration;

use fusion_mpt::controller::Stopped;
use fusion_mpt::recovery::{RecoveryCounters, ResetReason};
use fusion_mpt::targets::TargetId;

/// Happenings that are kept.
const MOST: usize = 10_000;

/// Something that happened to a controller or its targets, or was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// When, in the bus's time.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A command was late.
    Late,
    /// It was to be aborted.
    Abort,
    /// Its logical unit was to be reset.
    UnitReset,
    /// Its target was to be reset.
    TargetReset,
    /// Task management was not answered.
    TaskLost,
    /// A device that had gone was removed from the controller's tables.
    Removal,
    /// A device was full or busy, and is given less at once.
    Throttled,
    /// The controller was reset.
    Reset {
        /// Why.
        why: ResetReason,
        /// What it took.
        took: Duration,
        /// Attempts that failed before.
        failed: u64,
    },
    /// After a reset, the controller works and knows its disks.
    Ready {
        /// Commands that came back to be sent again.
        handed_back: u64,
    },
    /// A target no longer answers.
    TargetGone(TargetId),
    /// A target answers.
    TargetAppeared(TargetId),
    /// The controller could not be reset and was cut off.
    Offline {
        /// What the last attempt met with.
        why: String,
    },
    /// The controller is gone.
    Gone,
}

impl What {
    /// One word for programs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Abort => "abort-task",
            Self::UnitReset => "logical-unit-reset",
            Self::TargetReset => "target-reset",
            Self::TaskLost => "task-management-lost",
            Self::Removal => "device-removed",
            Self::Throttled => "throttled",
            Self::Reset { .. } => "controller-reset",
            Self::Ready { .. } => "controller-ready",
            Self::TargetGone(_) => "target-gone",
            Self::TargetAppeared(_) => "target-appeared",
            Self::Offline { .. } => "controller-offline",
            Self::Gone => "controller-gone",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("a command is late"),
            Self::Abort => f.write_str("ABORT TASK"),
            Self::UnitReset => f.write_str("LOGICAL UNIT RESET"),
            Self::TargetReset => f.write_str("TARGET RESET"),
            Self::TaskLost => f.write_str("task management was not answered"),
            Self::Removal => f.write_str("a device that went was removed"),
            Self::Throttled => f.write_str("the device is given less at once"),
            Self::Reset { why, took, failed: 0 } => {
                write!(f, "controller reset in {} ms: {why}", took.as_millis())
            }
            Self::Reset { why, took, failed } => write!(
                f,
                "controller reset in {} ms, at attempt {}: {why}",
                took.as_millis(),
                failed + 1
            ),
            Self::Ready { handed_back } => {
                write!(f, "controller ready, {} handed back", commands(*handed_back))
            }
            Self::TargetGone(target) => write!(f, "target {} is gone", target.0),
            Self::TargetAppeared(target) => write!(f, "target {} is there", target.0),
            Self::Offline { why } => write!(f, "controller offline: {why}"),
            Self::Gone => f.write_str("the controller is gone"),
        }
    }
}

/// `1 command`, `2 commands`.
fn commands(count: u64) -> String {
    if count == 1 { "1 command".to_owned() } else { format!("{count} commands") }
}

/// What happened, and how far recovery had counted then.
#[derive(Debug, Default)]
pub(crate) struct Record {
    happenings: Vec<Happening>,
    counters: RecoveryCounters,
    throttled: u64,
}

impl Record {
    pub(crate) fn all(&self) -> &[Happening] {
        &self.happenings
    }

    pub(crate) fn note(&mut self, at: Duration, what: What) {
        if self.happenings.len() < MOST {
            self.happenings.push(Happening { at, what });
        }
    }

    /// Notes what recovery has counted since the last time; whether that was anything.
    pub(crate) fn follow(
        &mut self,
        at: Duration,
        counters: &RecoveryCounters,
        throttled: u64,
    ) -> bool {
        if *counters == self.counters && throttled == self.throttled {
            return false;
        }
        let before = std::mem::replace(&mut self.counters, *counters);
        let steps = [
            (before.late, counters.late, What::Late),
            (before.lost_tasks, counters.lost_tasks, What::TaskLost),
            (before.aborts, counters.aborts, What::Abort),
            (before.unit_resets, counters.unit_resets, What::UnitReset),
            (before.target_resets, counters.target_resets, What::TargetReset),
            (before.removals, counters.removals, What::Removal),
            (std::mem::replace(&mut self.throttled, throttled), throttled, What::Throttled),
        ];
        for (before, now, what) in steps {
            for _ in before..now {
                self.note(at, what.clone());
            }
        }
        true
    }
}

/// What an orderly stop left undone, as a sentence.
#[must_use]
pub fn left_undone(stopped: &Stopped) -> Option<String> {
    let mut undone = Vec::new();
    if stopped.undrained > 0 {
        let which = commands(stopped.undrained.into());
        undone.push(format!("{which} did not come back and ended with the reset"));
    }
    if stopped.unflushed > 0 {
        let which = match (stopped.first_unflushed, stopped.unflushed) {
            (Some(target), 1) => format!("target {}", target.0),
            (Some(target), more) => format!("target {} and {} more", target.0, more - 1),
            (None, 1) => "a target".to_owned(),
            (None, more) => format!("{more} targets"),
        };
        undone.push(format!(
            "{which} did not flush at the end: what was written last may be lost, compare it"
        ));
    }
    (!undone.is_empty()).then(|| undone.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_that_recovery_counts_becomes_a_happening_once() {
        let mut record = Record::default();
        let at = Duration::from_millis(5);
        let mut counters = RecoveryCounters::default();
        (counters.late, counters.aborts) = (1, 1);
        assert!(record.follow(at, &counters, 0));
        assert!(!record.follow(at, &counters, 0));
        assert!(record.follow(at, &counters, 2));
        let names: Vec<&str> = record.all().iter().map(|happened| happened.what.name()).collect();
        assert_eq!(names, ["late", "abort-task", "throttled", "throttled"]);
    }

    #[test]
    fn what_a_stop_left_undone_is_said_and_nothing_else() {
        let mut stopped = Stopped { flushed: 2, ..Stopped::default() };
        assert_eq!(left_undone(&stopped), None);
        stopped.undrained = 1;
        stopped.unflushed = 3;
        stopped.first_unflushed = Some(TargetId(4));
        let sentence = left_undone(&stopped).expect("something was");
        assert!(sentence.contains("1 command did not come back"), "{sentence}");
        assert!(sentence.contains("target 4 and 2 more did not flush"), "{sentence}");
    }
}
