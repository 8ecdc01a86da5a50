//! SCSI IO: the request whose scatter-gather list follows it, and the reply of those that did not
//! simply succeed (mpi_init.h, mpi2_init.h).
//!
//! A success without residue has no reply frame at all: a turbo context on MPI 1.x, a SCSI IO
//! success descriptor on MPI 2.x.

use super::layout;

/// Bits of the Control dword, the same in both generations unless a line says otherwise.
pub mod control {
    /// Data goes to the device.
    pub const WRITE: u32 = 0x0100_0000;
    /// Data comes from the device.
    pub const READ: u32 = 0x0200_0000;
    /// Both (MPI 2.x).
    pub const BIDIRECTIONAL: u32 = 0x0300_0000;
    /// The bits that say which way data goes; zero is none.
    pub const DIRECTION_MASK: u32 = 0x0300_0000;
    /// Task attribute: simple.
    pub const SIMPLE_QUEUE: u32 = 0x000;
    /// Task attribute: head of queue.
    pub const HEAD_OF_QUEUE: u32 = 0x100;
    /// Task attribute: ordered.
    pub const ORDERED_QUEUE: u32 = 0x200;
    /// Task attribute: ACA.
    pub const ACA_QUEUE: u32 = 0x400;
    /// Task attribute: untagged (MPI 1.x, parallel SCSI).
    pub const UNTAGGED: u32 = 0x500;
    /// The task attribute's bits.
    pub const TASK_ATTRIBUTE_MASK: u32 = 0x700;
    /// Transport layer retries on (MPI 2.x, tape drives).
    pub const TLR_ON: u32 = 0x40;
    /// Transport layer retries off (MPI 2.x).
    pub const TLR_OFF: u32 = 0x80;
    /// Where the command priority starts (MPI 2.x), 4 bits.
    pub const COMMAND_PRIORITY_SHIFT: u32 = 11;
    /// Where the additional CDB length, in dwords past 16 bytes, starts.
    pub const ADDITIONAL_CDB_LENGTH_SHIFT: u32 = 26;

    /// The additional CDB length bits for a CDB of `bytes`: the dwords past the first 16 bytes.
    #[must_use]
    pub const fn additional_cdb_length(bytes: u8) -> u32 {
        (bytes.saturating_sub(16) as u32).div_ceil(4) << ADDITIONAL_CDB_LENGTH_SHIFT
    }
}

bitflags::bitflags! {
    /// SCSIState of a SCSI IO reply: how far SCSIStatus and the sense buffer can be believed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ScsiState: u8 {
        /// The sense buffer holds sense data.
        const AUTOSENSE_VALID = 0x01;
        /// The device has sense data that could not be fetched.
        const AUTOSENSE_FAILED = 0x02;
        /// The device gave no status: SCSIStatus means nothing.
        const NO_SCSI_STATUS = 0x04;
        /// The command was terminated before it ended.
        const TERMINATED = 0x08;
        /// ResponseInfo holds the response code of the transport.
        const RESPONSE_INFO_VALID = 0x10;
        /// The device refused the queue tag (MPI 1.x).
        const QUEUE_TAG_REJECTED = 0x20;
    }
}

/// TaskTag of a reply whose tag is not known (MPI_SCSI_TASKTAG_UNKNOWN).
pub const TASK_TAG_UNKNOWN: u16 = 0xffff;

/// SCSI IO of MPI 1.x.
pub mod mpi1 {
    use super::super::{Function, U16, U32};
    use super::layout;
    use crate::scsi::ScsiStatus;

    layout! {
        /// SCSI IO request (MSG_SCSI_IO_REQUEST) up to its scatter-gather list at 0x30.
        pub struct ScsiIoRequest: 0x30 {
            0x00 target_id: u8 = "target id on the bus",
            0x01 bus: u8 = "bus",
            0x02 chain_offset: u8 = "dwords from the frame's start to the chain element; 0 without",
            0x03 function: Function = "[`Function::SCSI_IO`] or the RAID passthrough",
            0x04 cdb_length: u8 = "bytes of the CDB, at most 16",
            0x05 sense_buffer_length: u8 = "bytes of the sense buffer",
            0x06 reserved_06: u8 = "reserved",
            0x07 msg_flags: u8 = "see [`MSG_FLAGS_SENSE_WIDTH_64`]",
            0x08 msg_context: U32 = "the host's token",
            0x0c lun: [u8; 8] = "logical unit number, SAM format",
            0x14 control: U32 = "direction and task attribute, see [`control`](super::control)",
            0x18 cdb: [u8; 16] = "command descriptor block",
            0x28 data_length: U32 = "bytes of data",
            0x2c sense_buffer_low_address: U32 = "lower half of the sense buffer's bus address",
        }

        /// SCSI IO reply (MSG_SCSI_IO_REPLY).
        pub struct ScsiIoReply: 0x24 {
            0x00 target_id: u8 = "target id on the bus",
            0x01 bus: u8 = "bus",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "as in the request",
            0x04 cdb_length: u8 = "as in the request",
            0x05 sense_buffer_length: u8 = "as in the request",
            0x06 reserved_06: u8 = "reserved",
            0x07 msg_flags: u8 = "as in the request",
            0x08 msg_context: U32 = "the request's token",
            0x0c scsi_status: ScsiStatus = "SCSI status, if SCSIState does not say there is none",
            0x0d scsi_state: u8 = "see [`ScsiState`](super::ScsiState)",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
            0x14 transfer_count: U32 = "bytes of data transferred",
            0x18 sense_count: U32 = "bytes of sense data in the sense buffer",
            0x1c response_info: U32 = "transport response, if SCSIState says so",
            0x20 task_tag: U16 = "task tag",
            0x22 reserved_22: U16 = "reserved",
        }
    }

    /// MsgFlags: the sense buffer holds 64 bytes at least, otherwise 32.
    pub const MSG_FLAGS_SENSE_WIDTH_64: u8 = 0x01;
    /// MsgFlags: sense data stays in the IOC.
    pub const MSG_FLAGS_SENSE_IN_IOC: u8 = 0x02;
    /// MsgFlags: the command, not Control, tells the data's direction.
    pub const MSG_FLAGS_COMMAND_DETERMINES_DIRECTION: u8 = 0x04;
}

/// SCSI IO of MPI 2.0, 2.5 and 2.6.
pub mod mpi2 {
    use super::super::{Function, U16, U32};
    use super::layout;
    use crate::scsi::ScsiStatus;

    layout! {
        /// SCSI IO request up to its scatter-gather list at 0x60 (MPI2_SCSI_IO_REQUEST and
        /// MPI25_SCSI_IO_REQUEST, which differ at 0x10 and 0x28 only).
        pub struct ScsiIoRequest: 0x60 {
            0x00 dev_handle: U16 = "device handle",
            0x02 chain_offset: u8 = "to the chain element: dwords (MPI SGL), 16-byte units (IEEE SGL)",
            0x03 function: Function = "[`Function::SCSI_IO`] or the RAID passthrough",
            0x04 reserved_04: [u8; 3] = "reserved",
            0x07 msg_flags: u8 = "where the sense buffer lies: 0, host memory",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c sense_buffer_low_address: U32 = "lower half of the sense buffer's bus address",
            0x10 sgl_or_dma_flags: U16 = "2.0: SGLFlags, four nibbles; 2.5: DMAFlags in the low byte",
            0x12 sense_buffer_length: u8 = "bytes of the sense buffer",
            0x13 reserved_13: u8 = "reserved",
            0x14 sgl_offset_0: u8 = "dwords from the frame's start to the data SGL: [`SGL_OFFSET_0`]",
            0x15 sgl_offset_1: u8 = "second SGL, 0 without",
            0x16 sgl_offset_2: u8 = "third SGL, 0 without",
            0x17 sgl_offset_3: u8 = "fourth SGL, 0 without",
            0x18 skip_count: U32 = "bytes of the SGL to skip",
            0x1c data_length: U32 = "bytes of data",
            0x20 bidirectional_data_length: U32 = "bytes of data of the other direction",
            0x24 io_flags: U16 = "CDB length and [`IO_FLAGS_FAST_PATH`]",
            0x26 eedp_flags: U16 = "end-to-end data protection; 0 is off",
            0x28 eedp_block_size: U32 = "protection interval in bytes; 2.5 uses the low 16 bits",
            0x2c secondary_reference_tag: U32 = "protection",
            0x30 secondary_application_tag: U16 = "protection",
            0x32 application_tag_translation_mask: U16 = "protection",
            0x34 lun: [u8; 8] = "logical unit number, SAM format",
            0x3c control: U32 = "direction and task attribute, see [`control`](super::control)",
            0x40 cdb: [u8; 32] = "command descriptor block",
        }

        /// SCSI IO reply (MPI2_SCSI_IO_REPLY); 2.0 firmware stops at 0x28 or before.
        pub struct ScsiIoReply: 0x34 {
            0x00 dev_handle: U16 = "device handle",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "as in the request",
            0x04 reserved_04: [u8; 3] = "reserved",
            0x07 msg_flags: u8 = "2.6: which protection values were observed",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c scsi_status: ScsiStatus = "SCSI status, if SCSIState does not say there is none",
            0x0d scsi_state: u8 = "see [`ScsiState`](super::ScsiState)",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
            0x14 transfer_count: U32 = "bytes of data transferred",
            0x18 sense_count: U32 = "bytes of sense data in the sense buffer",
            0x1c response_info: U32 = "transport response, if SCSIState says so",
            0x20 task_tag: U16 = "task tag",
            0x22 scsi_status_qualifier: U16 = "status qualifier (SAM-5)",
            0x24 bidirectional_transfer_count: U32 = "bytes transferred the other way",
            0x28 eedp_error_offset: U32 = "2.5: where the protection error is",
            0x2c eedp_observed_app_tag: U16 = "2.5: application tag seen",
            0x2e eedp_observed_guard: U16 = "2.5: guard seen",
            0x30 eedp_observed_ref_tag: U32 = "2.5: reference tag seen",
        }
    }

    /// SGLOffset0 of a request without vendor region: 0x60 bytes are 24 dwords.
    pub const SGL_OFFSET_0: u8 = 24;
    /// SGLFlags (2.0): host memory, MPI elements.
    pub const SGL_FLAGS_MPI: u16 = 0x0000;
    /// SGLFlags (2.0): host memory, IEEE 64-bit elements.
    pub const SGL_FLAGS_IEEE64: u16 = 0x0002;
    /// DMAFlags (2.5 on): all SGLs carry data.
    pub const DMA_FLAGS_DATA: u16 = 0x0000;
    /// IoFlags: the CDB's length in bytes.
    pub const IO_FLAGS_CDB_LENGTH_MASK: u16 = 0x01ff;
    /// IoFlags: the CDB is longer than 32 bytes and lies in host memory.
    pub const IO_FLAGS_LARGE_CDB: u16 = 0x1000;
    /// IoFlags (2.5): past the firmware.
    pub const IO_FLAGS_FAST_PATH: u16 = 0x4000;

    impl ScsiIoRequest {
        /// The CDB's length in bytes, as IoFlags gives it.
        #[must_use]
        pub const fn cdb_length(&self) -> u16 {
            self.io_flags.get() & IO_FLAGS_CDB_LENGTH_MASK
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_additional_cdb_length_counts_dwords_past_sixteen_bytes() {
        assert_eq!(control::additional_cdb_length(10), 0);
        assert_eq!(control::additional_cdb_length(16), 0);
        assert_eq!(control::additional_cdb_length(32), 4 << 26);
    }

    #[test]
    fn a_short_reply_reads_its_missing_fields_as_zero() {
        let mut frame = [0xff_u8; 0x80];
        frame[2] = 9;
        let reply: mpi2::ScsiIoReply = super::super::read_reply(&frame);
        assert_eq!(reply.task_tag.get(), 0xffff);
        assert_eq!(reply.bidirectional_transfer_count.get(), 0);
        assert_eq!(reply.eedp_observed_ref_tag.get(), 0);
    }
}
