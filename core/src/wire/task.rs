//! Task management and SAS IO unit control (mpi_init.h, mpi2_init.h, mpi_sas.h, mpi2_sas.h).
//!
//! A task management reply may overtake the replies of the commands it ended: look at all queues
//! before judging what is still outstanding.

use super::layout;
use crate::codes::codes;

codes! {
    /// TaskType of a task management request.
    #[derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::KnownLayout,
        zerocopy::Immutable,
        zerocopy::Unaligned,
    )]
    pub struct TaskType(u8) {
        ABORT_TASK = 0x01, "abort task";
        ABORT_TASK_SET = 0x02, "abort task set";
        TARGET_RESET = 0x03, "target reset";
        RESET_BUS = 0x04, "bus reset (MPI 1.x)";
        LOGICAL_UNIT_RESET = 0x05, "logical unit reset";
        CLEAR_TASK_SET = 0x06, "clear task set";
        QUERY_TASK = 0x07, "query task";
        CLEAR_ACA = 0x08, "clear ACA";
        QUERY_TASK_SET = 0x09, "query task set (MPI 2.x)";
        QUERY_ASYNC_EVENT = 0x0a, "query asynchronous event (MPI 2.x)";
    }
}

codes! {
    /// ResponseCode of a task management reply.
    #[derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::KnownLayout,
        zerocopy::Immutable,
        zerocopy::Unaligned,
    )]
    pub struct ResponseCode(u8) {
        COMPLETE = 0x00, "function complete";
        INVALID_FRAME = 0x02, "invalid frame";
        NOT_SUPPORTED = 0x04, "function not supported";
        FAILED = 0x05, "function failed";
        SUCCEEDED = 0x08, "function succeeded";
        INVALID_LUN = 0x09, "invalid logical unit";
        OVERLAPPED_TAG = 0x0a, "overlapped tag";
        IO_QUEUED_ON_IOC = 0x80, "command still queued in the IOC";
    }
}

impl ResponseCode {
    /// Whether the function took effect: complete, or, for queries, succeeded.
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(self, Self::COMPLETE | Self::SUCCEEDED)
    }
}

codes! {
    /// Operation of a SAS IO unit control request.
    #[derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::KnownLayout,
        zerocopy::Immutable,
        zerocopy::Unaligned,
    )]
    pub struct SasOperation(u8) {
        CLEAR_NOT_PRESENT = 0x01, "clear mappings of absent devices (MPI 1.x)";
        CLEAR_ALL_PERSISTENT = 0x02, "clear all persistent mappings";
        PHY_LINK_RESET = 0x06, "phy link reset";
        PHY_HARD_RESET = 0x07, "phy hard reset";
        PHY_CLEAR_ERROR_LOG = 0x08, "clear phy error log";
        SEND_PRIMITIVE = 0x0a, "send primitive";
        FORCE_FULL_DISCOVERY = 0x0b, "force full discovery";
        REMOVE_DEVICE = 0x0d, "remove device";
        SET_IOC_PARAMETER = 0x0f, "set IOC parameter (MPI 2.x)";
        SHUTDOWN = 0x16, "shutdown (MPI 2.6)";
    }
}

/// IOCParameter of [`SasOperation::SET_IOC_PARAMETER`]: the host's time, milliseconds since 1970.
pub const IOC_PARAMETER_TIMESTAMP: u8 = 0x81;

/// Messages of MPI 1.x.
pub mod mpi1 {
    use super::super::{Function, U16, U32, U64};
    use super::{ResponseCode, SasOperation, TaskType, layout};

    layout! {
        /// Task management request (MSG_SCSI_TASK_MGMT).
        pub struct TaskManagementRequest: 0x34 {
            0x00 target_id: u8 = "target id",
            0x01 bus: u8 = "bus",
            0x02 chain_offset: u8 = "0",
            0x03 function: Function = "[`Function::SCSI_TASK_MANAGEMENT`]",
            0x04 reserved_04: u8 = "reserved",
            0x05 task_type: TaskType = "what to do",
            0x06 reserved_06: u8 = "reserved",
            0x07 msg_flags: u8 = "reset method, Fibre Channel and parallel SCSI only",
            0x08 msg_context: U32 = "the host's token",
            0x0c lun: [u8; 8] = "logical unit, SAM format",
            0x14 reserved_14: [U32; 7] = "reserved",
            0x30 task_msg_context: U32 = "token of the command to abort or query",
        }

        /// Task management reply (MSG_SCSI_TASK_MGMT_REPLY).
        pub struct TaskManagementReply: 0x18 {
            0x00 target_id: u8 = "target id",
            0x01 bus: u8 = "bus",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "[`Function::SCSI_TASK_MANAGEMENT`]",
            0x04 response_code: ResponseCode = "what the device answered",
            0x05 task_type: TaskType = "as in the request",
            0x06 reserved_06: u8 = "reserved",
            0x07 msg_flags: u8 = "as in the request",
            0x08 msg_context: U32 = "the request's token",
            0x0c reserved_0c: [u8; 2] = "reserved",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
            0x14 termination_count: U32 = "commands ended",
        }

        /// SAS IO unit control request (MSG_SAS_IOUNIT_CONTROL_REQUEST).
        pub struct SasIoUnitControlRequest: 0x20 {
            0x00 operation: SasOperation = "what to do",
            0x01 reserved_01: u8 = "reserved",
            0x02 chain_offset: u8 = "0",
            0x03 function: Function = "[`Function::SAS_IO_UNIT_CONTROL`]",
            0x04 dev_handle: U16 = "device",
            0x06 ioc_parameter: u8 = "which parameter to set",
            0x07 msg_flags: u8 = "0",
            0x08 msg_context: U32 = "the host's token",
            0x0c target_id: u8 = "target id",
            0x0d bus: u8 = "bus",
            0x0e phy_num: u8 = "phy",
            0x0f prim_flags: u8 = "how often to send the primitive",
            0x10 primitive: U32 = "primitive to send",
            0x14 sas_address: U64 = "SAS address",
            0x1c ioc_parameter_value: U32 = "value of the parameter",
        }

        /// SAS IO unit control reply (MSG_SAS_IOUNIT_CONTROL_REPLY).
        pub struct SasIoUnitControlReply: 0x14 {
            0x00 operation: SasOperation = "as in the request",
            0x01 reserved_01: u8 = "reserved",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "[`Function::SAS_IO_UNIT_CONTROL`]",
            0x04 dev_handle: U16 = "device",
            0x06 ioc_parameter: u8 = "as in the request",
            0x07 msg_flags: u8 = "0",
            0x08 msg_context: U32 = "the request's token",
            0x0c reserved_0c: U16 = "reserved",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
        }
    }
}

/// Messages of MPI 2.x.
pub mod mpi2 {
    use super::super::{Function, U16, U32, U64};
    use super::{ResponseCode, SasOperation, TaskType, layout};

    layout! {
        /// Task management request (MPI2_SCSI_TASK_MANAGE_REQUEST); high-priority descriptor.
        pub struct TaskManagementRequest: 0x34 {
            0x00 dev_handle: U16 = "device handle",
            0x02 chain_offset: u8 = "0",
            0x03 function: Function = "[`Function::SCSI_TASK_MANAGEMENT`]",
            0x04 reserved_04: u8 = "reserved",
            0x05 task_type: TaskType = "what to do",
            0x06 reserved_06: u8 = "reserved",
            0x07 msg_flags: u8 = "reset method, see [`RESET_LINK`]",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c lun: [u8; 8] = "logical unit, SAM format",
            0x14 reserved_14: [U32; 7] = "reserved",
            0x30 task_mid: U16 = "SMID of the command to abort or query",
            0x32 reserved_32: U16 = "reserved",
        }

        /// Task management reply (MPI2_SCSI_TASK_MANAGE_REPLY).
        pub struct TaskManagementReply: 0x1c {
            0x00 dev_handle: U16 = "device handle",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "[`Function::SCSI_TASK_MANAGEMENT`]",
            0x04 response_code: ResponseCode = "what the device answered",
            0x05 task_type: TaskType = "as in the request",
            0x06 reserved_06: u8 = "reserved",
            0x07 msg_flags: u8 = "as in the request",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c reserved_0c: U16 = "reserved",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
            0x14 termination_count: U32 = "commands ended",
            0x18 response_info: U32 = "additional response information",
        }

        /// SAS IO unit control request (MPI2_SAS_IOUNIT_CONTROL_REQUEST).
        pub struct SasIoUnitControlRequest: 0x2c {
            0x00 operation: SasOperation = "what to do",
            0x01 reserved_01: u8 = "reserved",
            0x02 chain_offset: u8 = "0",
            0x03 function: Function = "[`Function::SAS_IO_UNIT_CONTROL`]",
            0x04 dev_handle: U16 = "device",
            0x06 ioc_parameter: u8 = "which parameter to set",
            0x07 msg_flags: u8 = "0",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c reserved_0c: U16 = "reserved",
            0x0e phy_num: u8 = "phy",
            0x0f prim_flags: u8 = "how often to send the primitive",
            0x10 primitive: U32 = "primitive to send",
            0x14 lookup_method: u8 = "what the lookup address is",
            0x15 reserved_15: u8 = "reserved",
            0x16 slot_number: U16 = "slot to look up",
            0x18 lookup_address: U64 = "address to look up",
            0x20 ioc_parameter_value: U32 = "value of the parameter, low half of a 64-bit one",
            0x24 ioc_parameter_value_2: U32 = "reserved, or the value's high half",
            0x28 reserved_28: U32 = "reserved",
        }

        /// SAS IO unit control reply (MPI2_SAS_IOUNIT_CONTROL_REPLY).
        pub struct SasIoUnitControlReply: 0x14 {
            0x00 operation: SasOperation = "as in the request",
            0x01 reserved_01: u8 = "reserved",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "[`Function::SAS_IO_UNIT_CONTROL`]",
            0x04 dev_handle: U16 = "device",
            0x06 ioc_parameter: u8 = "as in the request",
            0x07 msg_flags: u8 = "0",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c reserved_0c: U16 = "reserved",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
        }
    }

    /// MsgFlags of a target reset: reset the link.
    pub const RESET_LINK: u8 = 0x00;
    /// MsgFlags of a target reset: nexus reset, or SRST to a SATA device.
    pub const RESET_NEXUS: u8 = 0x08;
    /// MsgFlags of a target reset: hard reset of the SAS link.
    pub const RESET_HARD_LINK: u8 = 0x10;
    /// MsgFlags of a target reset: NVMe protocol level reset (2.6).
    pub const RESET_PCIE_PROTOCOL: u8 = 0x18;
    /// MsgFlags: end the commands in the IOC, send nothing to the device.
    pub const DO_NOT_SEND_TASK_IU: u8 = 0x01;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_and_succeeded_mean_done() {
        assert!(ResponseCode::COMPLETE.is_done());
        assert!(ResponseCode::SUCCEEDED.is_done());
        for code in [0x02, 0x04, 0x05, 0x09, 0x0a, 0x80, 0x7f] {
            assert!(!ResponseCode(code).is_done(), "{}", ResponseCode(code));
        }
    }
}
