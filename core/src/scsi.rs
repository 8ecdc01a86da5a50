//! SCSI itself: status and opcodes here; logical units, commands and sense data below.

// See wire.rs: zerocopy's hidden marker types have no Debug.
#![allow(missing_debug_implementations)]

pub mod additional_sense;
pub mod cdb;
pub mod lun;
pub mod sense;

pub use cdb::Cdb;
pub use lun::Lun;
pub use sense::{Sense, SenseKey};

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

codes! {
    /// Operation code: byte 0 of a CDB (SPC-4 annex D.3, SBC-3).
    pub struct Opcode(u8) {
        TEST_UNIT_READY = 0x00, "TEST UNIT READY";
        REQUEST_SENSE = 0x03, "REQUEST SENSE";
        FORMAT_UNIT = 0x04, "FORMAT UNIT";
        READ_6 = 0x08, "READ (6)";
        WRITE_6 = 0x0a, "WRITE (6)";
        INQUIRY = 0x12, "INQUIRY";
        MODE_SELECT_6 = 0x15, "MODE SELECT (6)";
        MODE_SENSE_6 = 0x1a, "MODE SENSE (6)";
        START_STOP_UNIT = 0x1b, "START STOP UNIT";
        SEND_DIAGNOSTIC = 0x1d, "SEND DIAGNOSTIC";
        READ_CAPACITY_10 = 0x25, "READ CAPACITY (10)";
        READ_10 = 0x28, "READ (10)";
        WRITE_10 = 0x2a, "WRITE (10)";
        VERIFY_10 = 0x2f, "VERIFY (10)";
        SYNCHRONIZE_CACHE_10 = 0x35, "SYNCHRONIZE CACHE (10)";
        WRITE_BUFFER = 0x3b, "WRITE BUFFER";
        WRITE_SAME_10 = 0x41, "WRITE SAME (10)";
        UNMAP = 0x42, "UNMAP";
        LOG_SENSE = 0x4d, "LOG SENSE";
        MODE_SELECT_10 = 0x55, "MODE SELECT (10)";
        MODE_SENSE_10 = 0x5a, "MODE SENSE (10)";
        PERSISTENT_RESERVE_IN = 0x5e, "PERSISTENT RESERVE IN";
        PERSISTENT_RESERVE_OUT = 0x5f, "PERSISTENT RESERVE OUT";
        VARIABLE_LENGTH = 0x7f, "variable length command";
        ATA_PASS_THROUGH_16 = 0x85, "ATA PASS-THROUGH (16)";
        READ_16 = 0x88, "READ (16)";
        COMPARE_AND_WRITE = 0x89, "COMPARE AND WRITE";
        WRITE_16 = 0x8a, "WRITE (16)";
        VERIFY_16 = 0x8f, "VERIFY (16)";
        SYNCHRONIZE_CACHE_16 = 0x91, "SYNCHRONIZE CACHE (16)";
        WRITE_SAME_16 = 0x93, "WRITE SAME (16)";
        SERVICE_ACTION_IN_16 = 0x9e, "SERVICE ACTION IN (16)";
        REPORT_LUNS = 0xa0, "REPORT LUNS";
        ATA_PASS_THROUGH_12 = 0xa1, "ATA PASS-THROUGH (12)";
        MAINTENANCE_IN = 0xa3, "MAINTENANCE IN";
        READ_12 = 0xa8, "READ (12)";
        WRITE_12 = 0xaa, "WRITE (12)";
    }
}

impl Opcode {
    /// The length in bytes of a CDB with this operation code, by its group (SPC-4 4.2.5).
    ///
    /// `None` where the code does not tell: variable length (0x7E, 0x7F: byte 7 tells), reserved
    /// and vendor specific codes.
    #[must_use]
    pub const fn cdb_length(self) -> Option<u8> {
        match self.0 {
            0x00..=0x1f => Some(6),
            0x20..=0x5f => Some(10),
            0x80..=0x9f => Some(16),
            0xa0..=0xbf => Some(12),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_an_opcode_tells_its_length() {
        assert_eq!(Opcode::INQUIRY.cdb_length(), Some(6));
        assert_eq!(Opcode::MODE_SENSE_10.cdb_length(), Some(10));
        assert_eq!(Opcode::READ_16.cdb_length(), Some(16));
        assert_eq!(Opcode::REPORT_LUNS.cdb_length(), Some(12));
        for code in [0x60, 0x7e, 0x7f, 0xc0, 0xff] {
            assert_eq!(Opcode(code).cdb_length(), None, "{code:#x}");
        }
    }
}
