//! RAID actions (mpi2_raid.h).

use super::{Function, U16, U32, layout};
use crate::codes::codes;

codes! {
    /// Action of a RAID action request.
    #[derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::KnownLayout,
        zerocopy::Immutable,
        zerocopy::Unaligned,
    )]
    pub struct RaidAction(u8) {
        CHANGE_VOLUME_WRITE_CACHE = 0x17, "change a volume's write cache";
        SYSTEM_SHUTDOWN_INITIATED = 0x20, "the system is shutting down";
    }
}

layout! {
    /// RAID action request (MPI2_RAID_ACTION_REQUEST).
    pub struct RaidActionRequest: 0x20 {
        0x00 action: RaidAction = "what to do",
        0x01 reserved_01: u8 = "reserved",
        0x02 chain_offset: u8 = "0",
        0x03 function: Function = "[`Function::RAID_ACTION`]",
        0x04 volume_dev_handle: U16 = "volume",
        0x06 phys_disk_num: u8 = "disk",
        0x07 msg_flags: u8 = "0",
        0x08 vp_id: u8 = "virtual port",
        0x09 vf_id: u8 = "virtual function",
        0x0a reserved_0a: U16 = "reserved",
        0x0c reserved_0c: U32 = "reserved",
        0x10 action_data: U32 = "what the action wants to know",
        0x14 sge: [U32; 3] = "buffer of the action's data; empty here",
    }
}
