//! What a command fails with: a sentence, and what the program should exit with.

use std::fmt;
use std::io;
use std::path::Path;

use fusion_mpt_mock::bus::BusError;

/// A command's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The request itself makes no sense; the sentence says what would.
    Usage(String),
    /// What was attempted, on what, what came back and what to do next.
    Failed(String),
    /// The user asked to stop, and everything was left in order.
    Interrupted,
    /// A failure that the command's own output has told already.
    Reported,
}

impl Error {
    /// A failure with this sentence.
    pub fn failed(sentence: impl Into<String>) -> Self {
        Self::Failed(sentence.into())
    }

    /// A refusal of what was asked for.
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::Usage(sentence.into())
    }

    /// A failure to do `what` ("read", "create", ...) with a file.
    #[must_use]
    pub fn file(what: &str, path: &Path, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::PermissionDenied => "check its permissions",
            io::ErrorKind::StorageFull => "make room first",
            _ => "choose another file",
        };
        Self::Failed(format!("cannot {what} {}: {error}; {hint}", path.display()))
    }

    /// What the program exits with: 1 for a failure, 2 for a request that makes no sense, 130 for
    /// an interrupt, as shells expect.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Reported => 1,
            Self::Usage(_) => 2,
            Self::Interrupted => 130,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(sentence) | Self::Failed(sentence) => f.write_str(sentence),
            Self::Reported => f.write_str("failed"),
            Self::Interrupted => f.write_str(
                "interrupted; what was under way was completed and flushed, and the controller reset",
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<BusError> for Error {
    fn from(error: BusError) -> Self {
        Self::Failed(error.0)
    }
}
