//! temporary
use crate::scsi::ScsiStatus;
use crate::wire::IocStatus;
/// x
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// x
    Complete {
        /// x
        status: ScsiStatus,
        /// x
        transferred: u32,
        /// x
        sense_length: u8,
    },
    /// x
    Failed(Failure),
}
impl Outcome {
    /// x
    #[must_use]
    pub const fn success(requested: u32) -> Self {
        Self::Complete { status: ScsiStatus::GOOD, transferred: requested, sense_length: 0 }
    }
}
/// x
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// x
    DeviceGone,
    /// x
    ControllerFault(u16),
    /// x
    ControllerReset,
    /// x
    BadReply,
    /// x
    Other(IocStatus),
}
/// x
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyFacts {
    /// x
    pub ioc_status: IocStatus,
    /// x
    pub scsi_status: ScsiStatus,
    /// x
    pub scsi_state: u8,
    /// x
    pub transfer_count: u32,
    /// x
    pub sense_count: u32,
    /// x
    pub log_info: u32,
    /// x
    pub requested: u32,
    /// x
    pub sense_capacity: u8,
}
/// x
#[must_use]
pub fn judge(f: &ReplyFacts) -> Outcome {
    if matches!(
        f.ioc_status.code(),
        IocStatus::SUCCESS | IocStatus::SCSI_DATA_UNDERRUN | IocStatus::SCSI_RECOVERED_ERROR
    ) {
        Outcome::Complete {
            status: f.scsi_status,
            transferred: f.transfer_count.min(f.requested),
            sense_length: if f.scsi_state & 1 != 0 {
                f.sense_count.min(f.sense_capacity as u32) as u8
            } else {
                0
            },
        }
    } else {
        Outcome::Failed(Failure::Other(f.ioc_status))
    }
}
