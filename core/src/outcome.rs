//! What became of a command: one value, from one table.
//!
//! A reply says it three times: IOCStatus for the controller, SCSIState for how far to believe the
//! rest, SCSIStatus for the device. Every driver weighs them differently (controllers.md 2.8
//! compares four); [`judge`] is how this one does, and every row has a test.
//!
//! The rule behind the rows: a command is [`Outcome::Complete`] only if the device itself gave a
//! status that the controller vouches for. All else is [`Outcome::Failed`], with the reason.

use core::fmt;

use crate::log_info::LogInfo;
use crate::scsi::ScsiStatus;
use crate::wire::IocStatus;
use crate::wire::scsi_io::{ScsiState, mpi1, mpi2};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Outcome {
    /// The device answered.
    Complete {
        /// Its status, good or not.
        status: ScsiStatus,
        /// Bytes of data transferred, at most those requested.
        transferred: u32,
        /// Bytes of sense data in the slot's sense buffer; 0 without.
        sense_length: u8,
    },
    /// The device did not answer, or its answer was lost.
    Failed(Failure),
}

const _: () = assert!(size_of::<Outcome>() <= 16);

impl Outcome {
    /// The outcome of a success without reply frame: GOOD, all `requested` bytes transferred.
    #[must_use]
    #[inline]
    pub const fn success(requested: u32) -> Self {
        Self::Complete { status: ScsiStatus::GOOD, transferred: requested, sense_length: 0 }
    }

    /// Whether the device answered GOOD. The transfer may still be short.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Complete { status: ScsiStatus::GOOD, .. })
    }

    /// Bytes of sense data that came with it.
    #[must_use]
    pub const fn sense_length(&self) -> usize {
        match self {
            Self::Complete { sense_length, .. } => *sense_length as usize,
            Self::Failed(_) => 0,
        }
    }

    /// Bytes of data transferred; 0 of a failed command, whose data is not to be used.
    #[must_use]
    pub const fn transferred(&self) -> u32 {
        match self {
            Self::Complete { transferred, .. } => *transferred,
            Self::Failed(_) => 0,
        }
    }
}

/// Why a command has no status of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Failure {
    /// SCSIState TERMINATED: the command was ended before the device did.
    Terminated,
    /// SCSIState NO_SCSI_STATUS: the device gave none.
    NoStatus,
    /// CHECK CONDITION, but the sense data that explains it was lost (trap T21).
    SenseLost,
    /// The device had more data than was asked for, and gave no status.
    DataOverrun,
    /// Controller and device disagree about how much data was transferred.
    ResidualMismatch,
    /// The controller has no room at the moment.
    ControllerBusy,
    /// There is no such device.
    NoDevice,
    /// Data was damaged on its way.
    DataError,
    /// The device broke the transport's protocol.
    ProtocolError,
    /// Ended by task management.
    TaskTerminated,
    /// Task management failed.
    TaskManagementFailed,
    /// Ended by the controller, for a reason of its own.
    IocTerminated,
    /// Flushed by the controller with all commands of a SATA disk, after another one's error.
    NcqFlushed,
    /// Ended from outside: another initiator, a link reset.
    ExtTerminated,
    /// End-to-end protection found an error.
    Protection(Protection),
    /// The controller refused the request as built or at this time.
    RequestRefused(IocStatus),
    /// An IOCStatus that has no meaning for a SCSI IO.
    UnknownStatus(IocStatus),
    /// The reply answers something else than this command asked, or is cut short.
    BadReply,
    /// The controller reads as all ones: it was removed or its link is down.
    ControllerGone,
    /// The controller's firmware stopped with this fault code (doorbell 15:0).
    ControllerFault(u16),
    /// The controller was reset; what it held is lost.
    ControllerReset,
    /// The controller was reset while it held the command, and works again: submit the command
    /// anew if it is still wanted ([`InFlight::HandBack`](crate::recovery::InFlight)).
    HandedBack,
    /// The controller could not be reset and is cut off.
    ControllerOffline,
    /// No answer before the deadline.
    TimedOut,
}

/// What end-to-end protection found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Protection {
    /// The guard (checksum).
    Guard,
    /// The application tag.
    Application,
    /// The reference tag (block address).
    Reference,
}

/// When it makes sense to send a failed command again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Retry {
    /// At once.
    Now,
    /// After some time; a counted retry, or it may never end.
    AfterDelay,
    /// When the controller or target has been recovered.
    AfterRecovery,
    /// Never: it would fail again.
    Never,
}

impl Failure {
    /// When to send the command again, if its owner may do so at all.
    #[must_use]
    pub const fn advice(self) -> Retry {
        match self {
            Self::SenseLost
            | Self::ResidualMismatch
            | Self::DataError
            | Self::ProtocolError
            | Self::HandedBack
            | Self::NcqFlushed => Retry::Now,
            Self::Terminated
            | Self::NoStatus
            | Self::ControllerBusy
            | Self::IocTerminated
            | Self::ExtTerminated
            | Self::BadReply
            | Self::UnknownStatus(_) => Retry::AfterDelay,
            Self::TaskTerminated
            | Self::TaskManagementFailed
            | Self::ControllerFault(_)
            | Self::ControllerReset
            | Self::TimedOut => Retry::AfterRecovery,
            Self::DataOverrun
            | Self::NoDevice
            | Self::Protection(_)
            | Self::RequestRefused(_)
            | Self::ControllerGone
            | Self::ControllerOffline => Retry::Never,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminated => "the command was terminated before the device answered",
            Self::NoStatus => "the device gave no SCSI status",
            Self::SenseLost => "the device reported CHECK CONDITION, but its sense data was lost",
            Self::DataOverrun => "the device had more data than was asked for",
            Self::ResidualMismatch => {
                "controller and device disagree about how much data was transferred"
            }
            Self::ControllerBusy => "the controller has no room for the command at the moment",
            Self::NoDevice => "there is no device at this address",
            Self::DataError => "data was damaged between controller and device",
            Self::ProtocolError => "the device broke the transport's protocol",
            Self::TaskTerminated => "the command was ended by task management",
            Self::TaskManagementFailed => "task management for the command failed",
            Self::IocTerminated => "the controller ended the command",
            Self::NcqFlushed => {
                "the SATA disk's queue was flushed after an error of another command"
            }
            Self::ExtTerminated => "the command was ended from outside this controller",
            Self::Protection(Protection::Guard) => "the protection guard does not match the data",
            Self::Protection(Protection::Application) => {
                "the protection application tag is not the expected one"
            }
            Self::Protection(Protection::Reference) => {
                "the protection reference tag is not the expected one"
            }
            Self::RequestRefused(status) => {
                return write!(f, "the controller refused the request: {status}");
            }
            Self::UnknownStatus(status) => {
                return write!(f, "the controller answered with an unexpected status: {status}");
            }
            Self::BadReply => "the controller's reply cannot be the reply to this command",
            Self::ControllerGone => "the controller does not answer any more: it reads as all ones",
            Self::ControllerFault(code) => {
                return write!(f, "the controller's firmware stopped with fault {code:#06x}");
            }
            Self::ControllerReset => "the controller was reset while it held the command",
            Self::HandedBack => {
                "the controller was reset while it held the command and works again: submit it anew"
            }
            Self::ControllerOffline => {
                "the controller could not be reset and has been cut off; power-cycle it"
            }
            Self::TimedOut => "the device did not answer before the deadline",
        })
    }
}

impl core::error::Error for Failure {}

/// What a SCSI IO reply frame says, of either generation, and what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyFacts {
    /// IOCStatus, with or without its log info bit.
    pub ioc_status: IocStatus,
    /// SCSIStatus.
    pub scsi_status: ScsiStatus,
    /// SCSIState, see [`ScsiState`].
    pub scsi_state: u8,
    /// TransferCount in bytes.
    pub transfer_count: u32,
    /// SenseCount in bytes.
    pub sense_count: u32,
    /// IOCLogInfo.
    pub log_info: u32,
    /// Bytes of data the command asked for.
    pub requested: u32,
    /// Bytes of the slot's sense buffer.
    pub sense_capacity: u8,
}

impl ReplyFacts {
    /// The facts of an MPI 1.x reply.
    #[must_use]
    pub fn from_mpi1(reply: &mpi1::ScsiIoReply, requested: u32, sense_capacity: u8) -> Self {
        Self {
            ioc_status: reply.ioc_status.into(),
            scsi_status: reply.scsi_status,
            scsi_state: reply.scsi_state,
            transfer_count: reply.transfer_count.get(),
            sense_count: reply.sense_count.get(),
            log_info: reply.ioc_log_info.get(),
            requested,
            sense_capacity,
        }
    }

    /// The facts of an MPI 2.x reply.
    #[must_use]
    pub fn from_mpi2(reply: &mpi2::ScsiIoReply, requested: u32, sense_capacity: u8) -> Self {
        Self {
            ioc_status: reply.ioc_status.into(),
            scsi_status: reply.scsi_status,
            scsi_state: reply.scsi_state,
            transfer_count: reply.transfer_count.get(),
            sense_count: reply.sense_count.get(),
            log_info: reply.ioc_log_info.get(),
            requested,
            sense_capacity,
        }
    }

    const fn state(&self) -> ScsiState {
        ScsiState::from_bits_retain(self.scsi_state)
    }

    /// The part of the sense buffer that holds sense data.
    fn sense_length(&self) -> u8 {
        if self.state().contains(ScsiState::AUTOSENSE_VALID) {
            u8::try_from(self.sense_count).unwrap_or(u8::MAX).min(self.sense_capacity)
        } else {
            0
        }
    }

    /// The device's status decides, provided there is one and, for CHECK CONDITION, its sense.
    fn by_scsi_status(&self, transferred: u32) -> Outcome {
        let (state, sense_length) = (self.state(), self.sense_length());
        if state.contains(ScsiState::TERMINATED) {
            return Outcome::Failed(Failure::Terminated);
        }
        if state.contains(ScsiState::NO_SCSI_STATUS) {
            return Outcome::Failed(Failure::NoStatus);
        }
        if self.scsi_status == ScsiStatus::CHECK_CONDITION
            && (state.contains(ScsiState::AUTOSENSE_FAILED) || sense_length == 0)
        {
            return Outcome::Failed(Failure::SenseLost);
        }
        Outcome::Complete {
            status: self.scsi_status,
            transferred: transferred.min(self.requested),
            sense_length,
        }
    }

    /// Whether SCSIStatus is the device's own word.
    const fn has_status(&self) -> bool {
        !self.state().intersects(ScsiState::NO_SCSI_STATUS.union(ScsiState::TERMINATED))
    }
}

/// The table: what a SCSI IO reply means.
#[must_use]
pub fn judge(facts: &ReplyFacts) -> Outcome {
    use IocStatus as Status;
    let status = facts.ioc_status.code();
    Outcome::Failed(match status {
        Status::SUCCESS | Status::SCSI_RECOVERED_ERROR | Status::SCSI_DATA_UNDERRUN => {
            return facts.by_scsi_status(facts.transfer_count);
        }
        // The device filled all that was asked for and had more; TransferCount may say either.
        Status::SCSI_DATA_OVERRUN if facts.has_status() => {
            return facts.by_scsi_status(facts.requested);
        }
        Status::SCSI_DATA_OVERRUN => Failure::DataOverrun,
        // A device that reports an error has told why data is missing; one that reports GOOD lies.
        Status::SCSI_RESIDUAL_MISMATCH
            if facts.has_status() && facts.scsi_status != ScsiStatus::GOOD =>
        {
            return facts.by_scsi_status(facts.transfer_count);
        }
        Status::SCSI_RESIDUAL_MISMATCH => Failure::ResidualMismatch,
        Status::BUSY | Status::INSUFFICIENT_RESOURCES => Failure::ControllerBusy,
        Status::SCSI_INVALID_BUS
        | Status::SCSI_INVALID_DEVHANDLE
        | Status::SCSI_DEVICE_NOT_THERE => Failure::NoDevice,
        Status::SCSI_IO_DATA_ERROR => Failure::DataError,
        Status::SCSI_PROTOCOL_ERROR => Failure::ProtocolError,
        Status::SCSI_TASK_TERMINATED => Failure::TaskTerminated,
        Status::SCSI_TASK_MGMT_FAILED => Failure::TaskManagementFailed,
        Status::SCSI_IOC_TERMINATED if facts.log_info == LogInfo::NCQ_FLUSH.0 => {
            Failure::NcqFlushed
        }
        Status::SCSI_IOC_TERMINATED => Failure::IocTerminated,
        Status::SCSI_EXT_TERMINATED => Failure::ExtTerminated,
        Status::EEDP_GUARD_ERROR => Failure::Protection(Protection::Guard),
        Status::EEDP_REF_TAG_ERROR => Failure::Protection(Protection::Reference),
        Status::EEDP_APP_TAG_ERROR => Failure::Protection(Protection::Application),
        Status::INVALID_FUNCTION
        | Status::INVALID_SGL
        | Status::INTERNAL_ERROR
        | Status::INVALID_VPID
        | Status::INVALID_FIELD
        | Status::INVALID_STATE
        | Status::OP_STATE_NOT_SUPPORTED => Failure::RequestRefused(status),
        _ => Failure::UnknownStatus(status),
    })
}

#[cfg(test)]
mod tests;
