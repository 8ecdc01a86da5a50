//! The bytes on the wire: messages, descriptors, configuration pages and events. No I/O here.
//!
//! Every struct is `repr(C)`, little endian and without alignment, so it can be copied out of, or
//! into, device memory byte for byte. Sizes and offsets are asserted at compile time against the
//! vendor's headers (`lsi/mpi*.h` for MPI 1.x, `mpi2*.h` for MPI 2.x), the de-facto specification.
//! Codes are open: a value this crate does not know is kept and printed as a number.
//!
//! Driver and software controllers share these definitions, so strangers have to judge them: the
//! tests against QEMU's device and the stock Linux drivers do.

// zerocopy's derive makes a hidden marker type per field, without Debug; all of ours have it.
#![allow(missing_debug_implementations)]

pub mod config;
pub mod descriptor;
pub mod event;
pub mod ioc;
mod layout;
pub mod raid;
pub mod scsi_io;
pub mod sge;
pub mod task;

use zerocopy::{FromBytes, IntoBytes, KnownLayout};

pub use zerocopy::little_endian::{U16, U32, U64};

use crate::codes::codes;
use layout::layout;

codes! {
    /// The function of a message: byte 3 of every request and reply (mpi.h, mpi2.h).
    #[derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::KnownLayout,
        zerocopy::Immutable,
        zerocopy::Unaligned,
    )]
    pub struct Function(u8) {
        SCSI_IO = 0x00, "SCSI IO";
        SCSI_TASK_MANAGEMENT = 0x01, "SCSI task management";
        IOC_INIT = 0x02, "IOC init";
        IOC_FACTS = 0x03, "IOC facts";
        CONFIG = 0x04, "config";
        PORT_FACTS = 0x05, "port facts";
        PORT_ENABLE = 0x06, "port enable";
        EVENT_NOTIFICATION = 0x07, "event notification";
        EVENT_ACK = 0x08, "event ack";
        FIRMWARE_DOWNLOAD = 0x09, "firmware download";
        TARGET_ASSIST = 0x0b, "target assist";
        TARGET_STATUS_SEND = 0x0c, "target status send";
        TARGET_MODE_ABORT = 0x0d, "target mode abort";
        FIRMWARE_UPLOAD = 0x12, "firmware upload";
        RAID_ACTION = 0x15, "RAID action";
        RAID_SCSI_IO_PASSTHROUGH = 0x16, "RAID SCSI IO passthrough";
        TOOLBOX = 0x17, "toolbox";
        SCSI_ENCLOSURE_PROCESSOR = 0x18, "SCSI enclosure processor";
        SMP_PASSTHROUGH = 0x1a, "SMP passthrough";
        SAS_IO_UNIT_CONTROL = 0x1b, "SAS IO unit control";
        SATA_PASSTHROUGH = 0x1c, "SATA passthrough";
        DIAG_BUFFER_POST = 0x1d, "diagnostic buffer post";
        DIAG_RELEASE = 0x1e, "diagnostic buffer release";
        SCSI_IO_32 = 0x1f, "SCSI IO 32 (MPI 1.5)";
        RAID_ACCELERATOR = 0x2c, "RAID accelerator";
        POWER_MANAGEMENT_CONTROL = 0x30, "power management control";
        NVME_ENCAPSULATED = 0x33, "NVMe encapsulated";
        MESSAGE_UNIT_RESET = 0x40, "message unit reset (doorbell)";
        IO_UNIT_RESET = 0x41, "IO unit reset (doorbell, MPI 1.x)";
        HANDSHAKE = 0x42, "handshake (doorbell)";
        REPLY_FRAME_REMOVAL = 0x43, "reply frame removal (doorbell, MPI 1.x)";
    }
}

codes! {
    /// IOCStatus of a reply, at 0x0E (mpi.h, mpi2.h). Bit 15 only says that IOCLogInfo is valid.
    pub struct IocStatus(u16 & 0x7fff) {
        SUCCESS = 0x0000, "success";
        INVALID_FUNCTION = 0x0001, "invalid function";
        BUSY = 0x0002, "busy";
        INVALID_SGL = 0x0003, "invalid scatter-gather list";
        INTERNAL_ERROR = 0x0004, "internal error";
        INVALID_VPID = 0x0005, "invalid virtual port";
        INSUFFICIENT_RESOURCES = 0x0006, "insufficient resources";
        INVALID_FIELD = 0x0007, "invalid field";
        INVALID_STATE = 0x0008, "invalid state";
        OP_STATE_NOT_SUPPORTED = 0x0009, "operation not supported in this state";
        INSUFFICIENT_POWER = 0x000a, "insufficient power";
        FAILURE = 0x000f, "failure";
        CONFIG_INVALID_ACTION = 0x0020, "config: invalid action";
        CONFIG_INVALID_TYPE = 0x0021, "config: invalid page type";
        CONFIG_INVALID_PAGE = 0x0022, "config: no such page";
        CONFIG_INVALID_DATA = 0x0023, "config: invalid data";
        CONFIG_NO_DEFAULTS = 0x0024, "config: no defaults";
        CONFIG_CANT_COMMIT = 0x0025, "config: cannot commit";
        SCSI_RECOVERED_ERROR = 0x0040, "recovered error";
        SCSI_INVALID_BUS = 0x0041, "invalid bus";
        SCSI_INVALID_DEVHANDLE = 0x0042, "invalid device handle or target id";
        SCSI_DEVICE_NOT_THERE = 0x0043, "device not there";
        SCSI_DATA_OVERRUN = 0x0044, "data overrun";
        SCSI_DATA_UNDERRUN = 0x0045, "data underrun";
        SCSI_IO_DATA_ERROR = 0x0046, "IO data error";
        SCSI_PROTOCOL_ERROR = 0x0047, "protocol error";
        SCSI_TASK_TERMINATED = 0x0048, "task terminated";
        SCSI_RESIDUAL_MISMATCH = 0x0049, "residual mismatch";
        SCSI_TASK_MGMT_FAILED = 0x004a, "task management failed";
        SCSI_IOC_TERMINATED = 0x004b, "terminated by the IOC";
        SCSI_EXT_TERMINATED = 0x004c, "terminated from outside";
        EEDP_GUARD_ERROR = 0x004d, "protection guard error";
        EEDP_REF_TAG_ERROR = 0x004e, "protection reference tag error";
        EEDP_APP_TAG_ERROR = 0x004f, "protection application tag error";
        SAS_SMP_REQUEST_FAILED = 0x0090, "SMP request failed";
        SAS_SMP_DATA_OVERRUN = 0x0091, "SMP data overrun";
        DIAGNOSTIC_RELEASED = 0x00a0, "diagnostic buffer released";
        RAID_ACCEL_ERROR = 0x00b0, "RAID accelerator error";
    }
}

impl IocStatus {
    /// Bit 15: IOCLogInfo holds something.
    pub const LOG_INFO_AVAILABLE: u16 = 0x8000;

    /// The status proper, bits 14:0.
    #[must_use]
    pub const fn code(self) -> Self {
        Self(self.0 & 0x7fff)
    }

    /// Whether IOCLogInfo holds something; see [`LogInfo`](crate::log_info::LogInfo).
    #[must_use]
    pub const fn log_info_available(self) -> bool {
        self.0 & Self::LOG_INFO_AVAILABLE != 0
    }

    /// Whether the message succeeded, log info or not.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 & 0x7fff == 0
    }
}

impl From<U16> for IocStatus {
    fn from(field: U16) -> Self {
        Self(field.get())
    }
}

impl From<IocStatus> for U16 {
    fn from(status: IocStatus) -> Self {
        Self::new(status.0)
    }
}

/// MsgFlags bit 7 of a reply: more replies to the same request follow (mpi.h).
pub const MSG_FLAGS_CONTINUATION: u8 = 0x80;

/// Messages common to all functions, MPI 1.x (mpi.h).
pub mod mpi1 {
    use super::{Function, U16, U32, layout};

    layout! {
        /// The start of every request (MSG_REQUEST_HEADER).
        pub struct RequestHeader: 0x0c {
            0x00 function_dependent_00: [u8; 2] = "function dependent",
            0x02 chain_offset: u8 = "dwords from the frame's start to its chain element; 0 without one",
            0x03 function: Function = "function",
            0x04 function_dependent_04: [u8; 3] = "function dependent",
            0x07 msg_flags: u8 = "message flags, function dependent",
            0x08 msg_context: U32 = "the host's token, returned in the reply",
        }

        /// The start of every reply (MSG_DEFAULT_REPLY).
        pub struct ReplyHeader: 0x14 {
            0x00 function_dependent_00: [u8; 2] = "function dependent",
            0x02 msg_length: u8 = "the reply's length in dwords; bytes past it are stale",
            0x03 function: Function = "function",
            0x04 function_dependent_04: [u8; 3] = "function dependent",
            0x07 msg_flags: u8 = "message flags; 0x80: more replies follow",
            0x08 msg_context: U32 = "the token of the request",
            0x0c function_dependent_0c: [u8; 2] = "function dependent",
            0x0e ioc_status: U16 = "IOCStatus, see [`IocStatus`](crate::wire::IocStatus)",
            0x10 ioc_log_info: U32 = "IOCLogInfo, see [`LogInfo`](crate::log_info::LogInfo)",
        }
    }
}

/// Messages common to all functions, MPI 2.x (mpi2.h).
pub mod mpi2 {
    use super::{Function, U16, U32, layout};

    layout! {
        /// The start of every request (MPI2_REQUEST_HEADER). The SMID travels in the descriptor.
        pub struct RequestHeader: 0x0c {
            0x00 function_dependent_00: U16 = "function dependent",
            0x02 chain_offset: u8 = "dwords (MPI SGL) or 16-byte units (IEEE SGL) to the chain element",
            0x03 function: Function = "function",
            0x04 function_dependent_04: U16 = "function dependent",
            0x06 function_dependent_06: u8 = "function dependent",
            0x07 msg_flags: u8 = "message flags, function dependent",
            0x08 vp_id: u8 = "virtual port, 0 here",
            0x09 vf_id: u8 = "virtual function, 0 here",
            0x0a reserved_0a: U16 = "reserved",
        }

        /// The start of every reply (MPI2_DEFAULT_REPLY).
        pub struct ReplyHeader: 0x14 {
            0x00 function_dependent_00: U16 = "function dependent",
            0x02 msg_length: u8 = "the reply's length in dwords; bytes past it are stale",
            0x03 function: Function = "function",
            0x04 function_dependent_04: U16 = "function dependent",
            0x06 function_dependent_06: u8 = "function dependent",
            0x07 msg_flags: u8 = "message flags; 0x80: more replies follow",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c function_dependent_0c: U16 = "function dependent",
            0x0e ioc_status: U16 = "IOCStatus, see [`IocStatus`](crate::wire::IocStatus)",
            0x10 ioc_log_info: U32 = "IOCLogInfo, see [`LogInfo`](crate::log_info::LogInfo)",
        }
    }
}

/// Copies a struct out of the front of `bytes`; what `bytes` is too short for reads as zero.
///
/// Older firmware answers with shorter messages and pages than the newest header describes.
#[must_use]
pub fn read_padded<T: FromBytes + IntoBytes + KnownLayout>(bytes: &[u8]) -> T {
    let mut value = T::new_zeroed();
    for (to, from) in value.as_mut_bytes().iter_mut().zip(bytes) {
        *to = *from;
    }
    value
}

/// Copies a reply out of its frame, believing MsgLength only as far as the frame reaches.
///
/// Bytes past MsgLength read as zero: firmware (and QEMU's model) writes only that much, and what
/// lies beyond belongs to the frame's previous use.
#[must_use]
pub fn read_reply<T: FromBytes + IntoBytes + KnownLayout>(frame: &[u8]) -> T {
    read_padded(valid_part(frame))
}

/// The bytes of a reply frame that the IOC says it wrote: MsgLength dwords, at most the frame.
#[must_use]
pub fn valid_part(frame: &[u8]) -> &[u8] {
    let length = frame.get(2).map_or(0, |dwords| usize::from(*dwords) * 4);
    frame.get(..length).unwrap_or(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_with_log_info_is_named_by_its_code() {
        let status = IocStatus(0x8043);
        assert_eq!(status.code(), IocStatus::SCSI_DEVICE_NOT_THERE);
        assert!(status.log_info_available());
        assert_eq!(status.name(), "device not there");
        assert!(IocStatus(0x8000).is_success());
        assert!(!IocStatus(0x8001).is_success());
    }

    #[test]
    fn an_unknown_code_is_kept_and_printed() {
        assert_eq!(std::format!("{}", Function(0xf1)), "unknown (0xf1)");
        assert_eq!(std::format!("{}", Function::CONFIG), "config (0x04)");
    }

    #[test]
    fn bytes_past_the_message_length_are_not_believed() {
        let mut frame = [0xaa; 64];
        frame[2] = 4;
        let reply: mpi2::ReplyHeader = read_reply(&frame);
        assert_eq!(reply.ioc_status.get(), 0xaaaa);
        assert_eq!(reply.ioc_log_info.get(), 0, "lies past 4 dwords");
    }

    #[test]
    fn a_message_length_past_the_frame_stops_at_the_frame() {
        let mut frame = [0x11; 16];
        frame[2] = 0xff;
        assert_eq!(valid_part(&frame).len(), 16);
        let reply: mpi1::ReplyHeader = read_reply(&frame);
        assert_eq!(reply.ioc_status.get(), 0x1111);
        assert_eq!(reply.ioc_log_info.get(), 0);
        assert_eq!(read_reply::<mpi1::ReplyHeader>(&[]), mpi1::ReplyHeader::default());
    }
}
