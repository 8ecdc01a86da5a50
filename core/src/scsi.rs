//! SCSI itself: status here; logical units, commands and sense data in the modules below.

// See wire.rs: zerocopy's hidden marker types have no Debug.
#![allow(missing_debug_implementations)]

use crate::codes::codes;

codes! {
    /// SCSI status (SAM-5 5.3).
    #[derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::KnownLayout,
        zerocopy::Immutable,
        zerocopy::Unaligned,
    )]
    pub struct ScsiStatus(u8) {
        GOOD = 0x00, "GOOD";
        CHECK_CONDITION = 0x02, "CHECK CONDITION";
        CONDITION_MET = 0x04, "CONDITION MET";
        BUSY = 0x08, "BUSY";
        INTERMEDIATE = 0x10, "INTERMEDIATE";
        INTERMEDIATE_CONDITION_MET = 0x14, "INTERMEDIATE-CONDITION MET";
        RESERVATION_CONFLICT = 0x18, "RESERVATION CONFLICT";
        COMMAND_TERMINATED = 0x22, "COMMAND TERMINATED";
        TASK_SET_FULL = 0x28, "TASK SET FULL";
        ACA_ACTIVE = 0x30, "ACA ACTIVE";
        TASK_ABORTED = 0x40, "TASK ABORTED";
    }
}
