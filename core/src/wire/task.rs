//! Task management requests and replies (mpi_init.h, mpi2_init.h).

use super::{Function, U16, U32, layout};
use crate::codes::codes;

codes! {
    /// TaskType (`MPI2_SCSITASKMGMT_TASKTYPE_*`; MPI1 has the first seven and its own reset bus).
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
        RESET_BUS = 0x04, "reset bus (MPI 1.x)";
        LOGICAL_UNIT_RESET = 0x05, "logical unit reset";
        CLEAR_TASK_SET = 0x06, "clear task set";
        QUERY_TASK = 0x07, "query task";
        CLEAR_ACA = 0x08, "clear ACA";
        QUERY_TASK_SET = 0x09, "query task set";
        QUERY_ASYNC_EVENT = 0x0a, "query asynchronous event";
    }
}

codes! {
    /// ResponseCode of a task management reply (`MPI2_SCSITASKMGMT_RSP_*`).
    #[derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::KnownLayout,
        zerocopy::Immutable,
        zerocopy::Unaligned,
    )]
    pub struct TaskResponse(u8) {
        COMPLETE = 0x00, "complete";
        INVALID_FRAME = 0x02, "invalid frame";
        NOT_SUPPORTED = 0x04, "not supported";
        FAILED = 0x05, "failed";
        SUCCEEDED = 0x08, "succeeded";
        INVALID_LUN = 0x09, "invalid LUN";
        OVERLAPPED_TAG = 0x0a, "overlapped tag";
        IO_QUEUED_ON_IOC = 0x80, "the command is still queued on the IOC";
    }
}

/// MPI 1.x.
pub mod mpi1 {
    use super::{Function, TaskResponse, TaskType, U16, U32, layout};

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
            0x07 msg_flags: u8 = "how to reset",
            0x08 msg_context: U32 = "the host's token",
            0x0c lun: [u8; 8] = "logical unit number",
            0x14 reserved_14: [U32; 7] = "reserved",
            0x30 task_msg_context: U32 = "the token of the command, for abort and query task",
        }

        /// Task management reply (MSG_SCSI_TASK_MGMT_REPLY).
        pub struct TaskManagementReply: 0x18 {
            0x00 target_id: u8 = "target id",
            0x01 bus: u8 = "bus",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "[`Function::SCSI_TASK_MANAGEMENT`]",
            0x04 response_code: TaskResponse = "the target's answer",
            0x05 task_type: TaskType = "as in the request",
            0x06 reserved_06: u8 = "reserved",
            0x07 msg_flags: u8 = "0",
            0x08 msg_context: U32 = "the request's token",
            0x0c reserved_0c: [u8; 2] = "reserved",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
            0x14 termination_count: U32 = "commands ended",
        }
    }
}

/// MPI 2.x.
pub mod mpi2 {
    use super::{Function, TaskResponse, TaskType, U16, U32, layout};

    layout! {
        /// Task management request (MPI2_SCSI_TASK_MANAGE_REQUEST).
        pub struct TaskManagementRequest: 0x34 {
            0x00 dev_handle: U16 = "DevHandle",
            0x02 chain_offset: u8 = "0",
            0x03 function: Function = "[`Function::SCSI_TASK_MANAGEMENT`]",
            0x04 reserved_04: u8 = "reserved",
            0x05 task_type: TaskType = "what to do",
            0x06 reserved_06: u8 = "reserved",
            0x07 msg_flags: u8 = "how to reset",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c lun: [u8; 8] = "logical unit number",
            0x14 reserved_14: [U32; 7] = "reserved",
            0x30 task_mid: U16 = "the SMID of the command, for abort and query task",
            0x32 reserved_32: U16 = "reserved",
        }

        /// Task management reply (MPI2_SCSI_TASK_MANAGE_REPLY).
        pub struct TaskManagementReply: 0x1c {
            0x00 dev_handle: U16 = "DevHandle",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "[`Function::SCSI_TASK_MANAGEMENT`]",
            0x04 response_code: TaskResponse = "the target's answer",
            0x05 task_type: TaskType = "as in the request",
            0x06 reserved_06: u8 = "reserved",
            0x07 msg_flags: u8 = "0",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c reserved_0c: U16 = "reserved",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
            0x14 termination_count: U32 = "commands ended",
            0x18 response_info: U32 = "the device's response",
        }
    }
}
