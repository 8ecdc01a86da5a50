//! How long is waited for what, and what becomes of commands that a reset ends.

use crate::error::Error;
use crate::wire::Function;

/// What becomes of commands that the controller holds when it is reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum InFlight {
    /// They complete as [`ControllerReset`](crate::outcome::Failure::ControllerReset), or
    /// [`ControllerFault`](crate::outcome::Failure::ControllerFault), as soon as the controller can
    /// no longer write their memory.
    #[default]
    Fail,
    /// They complete as [`HandedBack`](crate::outcome::Failure::HandedBack) when the controller
    /// works again and its disks have been found, so that each can be submitted anew at once.
    HandBack,
}

/// The limits of recovery, in milliseconds where nothing else is said. No step has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// What a command has that names no timeout of its own. At most 32,000.
    pub command_limit_ms: u32,
    /// What ABORT TASK has to be answered.
    pub abort_limit_ms: u32,
    /// What LOGICAL UNIT RESET has.
    pub unit_reset_limit_ms: u32,
    /// What TARGET RESET has.
    pub target_reset_limit_ms: u32,
    /// How long the commands that task management ended may be answered after its own reply, which
    /// may overtake theirs (controllers.md 2.6).
    pub answer_limit_ms: u32,
    /// What a request of the driver's own has: a configuration page, an acknowledgement, event
    /// notification, device removal (Linux: 15 s).
    pub own_request_limit_ms: u32,
    /// Resets that may fail, one after the other, before the controller is offline; 0 counts as 1.
    pub reset_attempts: u8,
    /// How long the queues that were handed out have to leave when the controller is to be reset.
    pub queue_limit_ms: u32,
    /// How long outstanding commands have to come back when the controller is stopped.
    pub drain_limit_ms: u32,
    /// How long all flushes together have when it is stopped.
    pub flush_limit_ms: u32,
    /// What becomes of commands that a reset ends.
    pub in_flight: InFlight,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            command_limit_ms: 30_000,
            abort_limit_ms: 5_000,
            unit_reset_limit_ms: 10_000,
            target_reset_limit_ms: 10_000,
            answer_limit_ms: 2_000,
            own_request_limit_ms: 15_000,
            reset_attempts: 3,
            queue_limit_ms: 5_000,
            drain_limit_ms: 10_000,
            flush_limit_ms: 60_000,
            in_flight: InFlight::Fail,
        }
    }
}

/// Why the controller must be reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ResetReason {
    /// The firmware has stopped with this fault code (doorbell 15:0).
    Fault(u16),
    /// The same, and it is writing down why: the state COREDUMP (MPI 2.6).
    CoreDump(u16),
    /// It is no longer operational, and not by our doing: somebody else has reset it.
    NotOperational,
    /// A command is late, and neither abort nor the resets of its logical unit and target helped.
    LadderExhausted,
    /// The controller says that it does not have a command, and has not answered it.
    ReplyLost,
    /// It has written half of a reply descriptor and not the other, and nothing behind it can be
    /// read (MPI 2.x).
    ReplyTorn,
    /// A request of the driver's own was not answered.
    OwnRequestLost(Function),
    /// It did not enable its ports after a reset.
    PortEnableFailed,
    /// The platform asked for it.
    Asked,
}

impl ResetReason {
    /// What a call says that is waiting for the controller meanwhile.
    pub(crate) const fn error(self) -> Error {
        match self {
            Self::Fault(code) | Self::CoreDump(code) => Error::Fault(code),
            _ => Error::NotOperational,
        }
    }
}

impl core::fmt::Display for ResetReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Fault(code) => write!(f, "its firmware stopped with fault {code:#06x}"),
            Self::CoreDump(code) => {
                write!(f, "its firmware stopped with fault {code:#06x} and is dumping its core")
            }
            Self::NotOperational => f.write_str("somebody else has reset it"),
            Self::LadderExhausted => f.write_str(
                "a command is late, and aborting it and resetting its unit and target did not help",
            ),
            Self::ReplyTorn => f.write_str("it has written only one half of a reply"),
            Self::ReplyLost => f.write_str("it has lost the reply to a command"),
            Self::OwnRequestLost(function) => {
                write!(f, "it did not answer the driver's own request, {function}")
            }
            Self::PortEnableFailed => f.write_str("it did not enable its ports"),
            Self::Asked => f.write_str("somebody asked for it"),
        }
    }
}

/// What recovery has done. Counts only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryCounters {
    /// Late commands that were climbed the ladder for.
    pub late: u64,
    /// ABORT TASKs sent.
    pub aborts: u64,
    /// LOGICAL UNIT RESETs sent.
    pub unit_resets: u64,
    /// TARGET RESETs sent, those of device removals included.
    pub target_resets: u64,
    /// Task management that was not answered in time.
    pub lost_tasks: u64,
    /// Devices that went and were reset, and on MPI 2.x removed from the IOC's tables.
    pub removals: u64,
    /// Resets of the controller that succeeded.
    pub resets: u64,
    /// Those that did not.
    pub failed_resets: u64,
    /// Commands of the first queue that a reset ended, handed back or not.
    pub ended_by_reset: u64,
}
