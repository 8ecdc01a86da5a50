//! Outcomes in words.

use fusion_mpt::outcome::Outcome;
use fusion_mpt::scsi::Sense;

/// How a command ended: its status and sense, or why there are none.
#[must_use]
pub fn describe(outcome: &Outcome, sense: &[u8]) -> String {
    match outcome {
        Outcome::Complete { status, .. } => match Sense::parse(sense) {
            Some(sense) => format!("{}, {sense}", status.name()),
            None => status.name().to_owned(),
        },
        Outcome::Failed(failure) => failure.to_string(),
    }
}
