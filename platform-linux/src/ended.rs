//! How one command ended, sense included.

use fusion_mpt::outcome::{Outcome, Retry};
use fusion_mpt::scsi::{ScsiStatus, Sense, SenseKey};

use crate::sense;

/// How one command ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its outcome.
    pub outcome: Outcome,
    /// Its sense data, empty without.
    pub sense: Vec<u8>,
}

impl Ended {
    /// The outcome in words.
    #[must_use]
    pub fn describe(&self) -> String {
        sense::describe(&self.outcome, &self.sense)
    }

    /// Bytes of data that were transferred.
    #[must_use]
    pub const fn transferred(&self) -> u32 {
        match self.outcome {
            Outcome::Complete { transferred, .. } => transferred,
            Outcome::Failed(_) => 0,
        }
    }

    /// Whether the command was not run, and may be sent again at once or a little later.
    #[must_use]
    pub fn wants_another_try(&self) -> bool {
        match self.outcome {
            Outcome::Complete { status: ScsiStatus::BUSY | ScsiStatus::TASK_SET_FULL, .. } => true,
            Outcome::Complete { status: ScsiStatus::CHECK_CONDITION, .. } => {
                Sense::parse(&self.sense).is_some_and(|sense| sense.key == SenseKey::UNIT_ATTENTION)
            }
            _ => false,
        }
    }

    /// Whether the command was ended by recovery, or went wrong on its way, so that the device may
    /// or may not have run it: whoever loses nothing by running it twice may send it again.
    #[must_use]
    pub fn was_ended_by_recovery(&self) -> bool {
        match self.outcome {
            Outcome::Failed(failure) => failure.advice() != Retry::Never,
            Outcome::Complete { .. } => false,
        }
    }
}
