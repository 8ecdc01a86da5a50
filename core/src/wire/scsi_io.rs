//! SCSI I/O requests and replies (mpi_init.h, mpi2_init.h).

use super::{Function, U16, U32, layout};

/// `Control`, data direction: to the host (`MPI2_SCSIIO_CONTROL_READ`; the same on MPI1).
pub const CONTROL_READ: u32 = 0x0200_0000;
/// `Control`, data direction: to the device.
pub const CONTROL_WRITE: u32 = 0x0100_0000;
/// `Control`, the bits of the data direction.
pub const CONTROL_DIRECTION_MASK: u32 = 0x0300_0000;
/// `Control`, task attribute: simple.
pub const CONTROL_SIMPLE_QUEUE: u32 = 0x0000;
/// `Control`, task attribute: head of queue.
pub const CONTROL_HEAD_OF_QUEUE: u32 = 0x0100;
/// `Control`, task attribute: ordered.
pub const CONTROL_ORDERED_QUEUE: u32 = 0x0200;
/// `Control`, task attribute: ACA.
pub const CONTROL_ACA_QUEUE: u32 = 0x0400;
/// `Control`, the bits of the task attribute.
pub const CONTROL_ATTRIBUTE_MASK: u32 = 0x0700;
/// `Control`, MPI2: how many 32-bit words the CDB has beyond 16 bytes stands from this bit on.
pub const CONTROL_ADDITIONAL_CDB_SHIFT: u32 = 26;

bitflags::bitflags! {
    /// `SCSIState` of a reply (`MPI2_SCSI_STATE_*`; the same on MPI1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ScsiState: u8 {
        /// The sense buffer holds sense data.
        const AUTOSENSE_VALID = 0x01;
        /// There was sense data, and it is lost.
        const AUTOSENSE_FAILED = 0x02;
        /// `SCSIStatus` means nothing.
        const NO_SCSI_STATUS = 0x04;
        /// The command was ended before its time.
        const TERMINATED = 0x08;
        /// `ResponseInfo` holds the device's response.
        const RESPONSE_INFO_VALID = 0x10;
    }
}

/// MPI 1.x.
pub mod mpi1 {
    use super::{Function, U16, U32, layout};

    /// `MsgFlags` bit 0: sense buffer addresses are 64 bits wide, the high half as IOC init said.
    pub const MSG_FLAGS_SENSE_WIDTH_64: u8 = 0x01;

    layout! {
        /// SCSI IO request (MSG_SCSI_IO_REQUEST) up to its scatter/gather list.
        pub struct ScsiIoRequest: 0x30 {
            0x00 target_id: u8 = "target id",
            0x01 bus: u8 = "bus",
            0x02 chain_offset: u8 = "dwords to the chain element; 0 without one",
            0x03 function: Function = "[`Function::SCSI_IO`]",
            0x04 cdb_length: u8 = "bytes of the CDB",
            0x05 sense_buffer_length: u8 = "bytes of the sense buffer",
            0x06 reserved_06: u8 = "reserved",
            0x07 msg_flags: u8 = "see [`MSG_FLAGS_SENSE_WIDTH_64`]",
            0x08 msg_context: U32 = "the host's token",
            0x0c lun: [u8; 8] = "logical unit number",
            0x14 control: U32 = "direction and attribute",
            0x18 cdb: [u8; 16] = "command descriptor block",
            0x28 data_length: U32 = "bytes to move",
            0x2c sense_buffer_low_address: U32 = "lower half of the sense buffer's address",
        }

        /// SCSI IO reply (MSG_SCSI_IO_REPLY).
        pub struct ScsiIoReply: 0x24 {
            0x00 target_id: u8 = "target id",
            0x01 bus: u8 = "bus",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "[`Function::SCSI_IO`]",
            0x04 cdb_length: u8 = "as in the request",
            0x05 sense_buffer_length: u8 = "as in the request",
            0x06 reserved_06: u8 = "reserved",
            0x07 msg_flags: u8 = "0",
            0x08 msg_context: U32 = "the request's token",
            0x0c scsi_status: u8 = "SCSI status",
            0x0d scsi_state: u8 = "see [`ScsiState`](super::ScsiState)",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
            0x14 transfer_count: U32 = "bytes moved",
            0x18 sense_count: U32 = "bytes of sense data",
            0x1c response_info: U32 = "the device's response",
            0x20 task_tag: U16 = "the tag on the link",
            0x22 reserved_22: U16 = "reserved",
        }
    }
}

/// MPI 2.x.
pub mod mpi2 {
    use super::{Function, U16, U32, layout};

    layout! {
        /// SCSI IO request (MPI2_SCSI_IO_REQUEST, MPI25_SCSI_IO_REQUEST) up to its scatter/gather
        /// list.
        pub struct ScsiIoRequest: 0x60 {
            0x00 dev_handle: U16 = "DevHandle",
            0x02 chain_offset: u8 = "to the chain element: dwords, from 2.5 on 16-byte units",
            0x03 function: Function = "[`Function::SCSI_IO`]",
            0x04 reserved_04: [u8; 3] = "reserved",
            0x07 msg_flags: u8 = "where the sense buffer is: 0, in the host's memory",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c sense_buffer_low_address: U32 = "lower half of the sense buffer's address",
            0x10 sgl_flags: u8 = "2.0: SGLFlags, low byte; from 2.5 on DMAFlags",
            0x11 sgl_flags_high: u8 = "2.0: SGLFlags, high byte; from 2.5 on reserved",
            0x12 sense_buffer_length: u8 = "bytes of the sense buffer",
            0x13 reserved_13: u8 = "reserved",
            0x14 sgl_offset0: u8 = "dwords from the frame's start to the list",
            0x15 sgl_offset1: u8 = "0",
            0x16 sgl_offset2: u8 = "0",
            0x17 sgl_offset3: u8 = "0",
            0x18 skip_count: U32 = "0",
            0x1c data_length: U32 = "bytes to move",
            0x20 bidirectional_data_length: U32 = "0",
            0x24 io_flags: U16 = "bits 4:0 and 5: bytes of the CDB; 0x4000: fast path (2.5)",
            0x26 eedp_flags: U16 = "protection information: 0, none",
            0x28 eedp_block_size: U32 = "protection information: block size (2.5: 16 bits)",
            0x2c secondary_reference_tag: U32 = "protection information",
            0x30 secondary_application_tag: U16 = "protection information",
            0x32 application_tag_translation_mask: U16 = "protection information",
            0x34 lun: [u8; 8] = "logical unit number",
            0x3c control: U32 = "direction, attribute, additional CDB length",
            0x40 cdb: [u8; 32] = "command descriptor block",
        }

        /// SCSI IO reply (MPI2_SCSI_IO_REPLY); MPI 2.0 sends the first 0x28 bytes.
        pub struct ScsiIoReply: 0x34 {
            0x00 dev_handle: U16 = "DevHandle",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "[`Function::SCSI_IO`]",
            0x04 reserved_04: [u8; 3] = "reserved",
            0x07 msg_flags: u8 = "0",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c scsi_status: u8 = "SCSI status",
            0x0d scsi_state: u8 = "see [`ScsiState`](super::ScsiState)",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
            0x14 transfer_count: U32 = "bytes moved",
            0x18 sense_count: U32 = "bytes of sense data",
            0x1c response_info: U32 = "the device's response",
            0x20 task_tag: U16 = "the tag on the link",
            0x22 scsi_status_qualifier: U16 = "status qualifier",
            0x24 bidirectional_transfer_count: U32 = "0",
            0x28 eedp_error_offset: U32 = "2.5: where protection information failed",
            0x2c eedp_observed_app_tag: U16 = "2.5: application tag observed",
            0x2e eedp_observed_guard: U16 = "2.5: guard observed",
            0x30 eedp_observed_ref_tag: U32 = "2.5: reference tag observed",
        }
    }
}
