//! How often a command is sent that did not end well.

use crate::ended::Ended;

/// How often a command is tried that the device answers with BUSY, TASK SET FULL or a unit attention.
const ATTEMPTS: u32 = 6;
/// The same where commands are many and none waits: a full disk answers them very fast.
const ATTEMPTS_OF_MANY: u32 = 10_000;
/// How often a command is tried that recovery has ended.
const ATTEMPTS_AFTER_RECOVERY: u32 = 6;

/// How often one command has been tried, and whether it may be again. Only for commands that may
/// run twice: reads, flushes, and writes of the same data to the same blocks.
#[derive(Clone, Copy, Debug)]
pub struct Tries {
    refused: u32,
    refused_limit: u32,
    ended: u32,
}

impl Tries {
    /// Of a command that is waited for.
    #[must_use]
    pub const fn new() -> Self {
        Self { refused: 1, refused_limit: ATTEMPTS, ended: 1 }
    }

    /// Of one among many that are outstanding at once.
    #[must_use]
    pub const fn of_many() -> Self {
        Self { refused: 1, refused_limit: ATTEMPTS_OF_MANY, ended: 1 }
    }

    /// Whether to send the command again that ended so; it counts as a try.
    pub fn again(&mut self, ended: &Ended) -> bool {
        if ended.wants_another_try() {
            self.refused += 1;
            self.refused <= self.refused_limit
        } else if ended.was_ended_by_recovery() {
            self.ended += 1;
            self.ended <= ATTEMPTS_AFTER_RECOVERY
        } else {
            false
        }
    }

    /// How often the command has been sent.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.refused + self.ended - 1
    }

    /// How often the command was sent again because recovery had ended it.
    #[must_use]
    pub const fn after_recovery(&self) -> u32 {
        self.ended - 1
    }
}

impl Default for Tries {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fusion_mpt::outcome::{Failure, Outcome};
    use fusion_mpt::scsi::ScsiStatus;

    #[test]
    fn what_recovery_ended_is_tried_five_times_more_and_what_cannot_work_never() {
        let ended = |outcome| Ended { outcome, sense: Vec::new() };
        let lost = ended(Outcome::Failed(Failure::HandedBack));
        let mut tries = Tries::new();
        assert_eq!((0..20).filter(|_| tries.again(&lost)).count(), 5);
        for never in [Failure::ControllerGone, Failure::NoDevice] {
            assert!(!Tries::of_many().again(&ended(Outcome::Failed(never))), "{never}");
        }
        let busy = Outcome::Complete { status: ScsiStatus::BUSY, transferred: 0, sense_length: 0 };
        let mut tries = Tries::new();
        assert_eq!((0..20).filter(|_| tries.again(&ended(busy))).count(), 5);
        assert!(tries.again(&lost), "the two are counted apart");
        assert_eq!(tries.after_recovery(), 1);
    }
}
