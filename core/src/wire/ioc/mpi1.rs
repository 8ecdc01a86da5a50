//! IOC messages of MPI 1.x (mpi_ioc.h).

use super::super::{Function, U16, U32, layout};
use super::{PortType, Version, WhoInit};

layout! {
    /// IOC facts request (MSG_IOC_FACTS); goes through the doorbell.
    pub struct IocFactsRequest: 0x0c {
        0x00 reserved_00: [u8; 2] = "reserved",
        0x02 chain_offset: u8 = "0",
        0x03 function: Function = "[`Function::IOC_FACTS`]",
        0x04 reserved_04: [u8; 3] = "reserved",
        0x07 msg_flags: u8 = "0",
        0x08 msg_context: U32 = "the host's token",
    }

    /// IOC facts reply (MSG_IOC_FACTS_REPLY). Firmware before MPI 1.5 stops at 0x3C.
    pub struct IocFactsReply: 0x50 {
        0x00 msg_version: U16 = "message version, see [`MsgVersion`](super::MsgVersion)",
        0x02 msg_length: u8 = "length in dwords",
        0x03 function: Function = "[`Function::IOC_FACTS`]",
        0x04 header_version: U16 = "header version",
        0x06 ioc_number: u8 = "number of this IOC on its chip",
        0x07 msg_flags: u8 = "0",
        0x08 msg_context: U32 = "the request's token",
        0x0c ioc_exceptions: U16 = "what is wrong with the board: [`Exceptions`]",
        0x0e ioc_status: U16 = "IOCStatus",
        0x10 ioc_log_info: U32 = "IOCLogInfo",
        0x14 max_chain_depth: u8 = "most chain buffers per request",
        0x15 who_init: WhoInit = "who initialised the IOC",
        0x16 block_size: u8 = "log2 of the unit in which the FIFO's prefetch counts frames, bytes",
        0x17 flags: u8 = "flags: 0x01 firmware must be downloaded to boot",
        0x18 reply_queue_depth: U16 = "depth of the reply FIFOs",
        0x1a request_frame_size: U16 = "request frame size in dwords",
        0x1c reserved_1c: U16 = "reserved (16-bit firmware version of MPI 1.1)",
        0x1e product_id: U16 = "see [`ProductId`](super::ProductId)",
        0x20 current_host_mfa_high: U32 = "upper half of frame addresses now in force",
        0x24 global_credits: U16 = "most requests outstanding at once",
        0x26 number_of_ports: u8 = "number of ports",
        0x27 event_state: u8 = "1: event notification is on",
        0x28 current_sense_buffer_high: U32 = "upper half of sense addresses now in force",
        0x2c current_reply_frame_size: U16 = "reply frame size now in force, bytes",
        0x2e max_devices: u8 = "most devices per bus; 0 means 256",
        0x2f max_buses: u8 = "most buses",
        0x30 firmware_image_size: U32 = "bytes of firmware to download, 0 without",
        0x34 ioc_capabilities: U32 = "see [`Capabilities`]",
        0x38 firmware_version: Version = "firmware version",
        0x3c high_priority_queue_depth: U16 = "depth of the high-priority FIFO",
        0x3e reserved_3e: U16 = "reserved",
        0x40 host_page_buffer_sge: [u8; 12] = "where the host keeps pages for the IOC, one 64-bit SGE",
        0x4c reply_fifo_host_signaling_address: U32 = "reply FIFO host signalling address",
    }

    /// IOC init request (MSG_IOC_INIT); goes through the doorbell.
    pub struct IocInitRequest: 0x2c {
        0x00 who_init: WhoInit = "[`WhoInit::HOST_DRIVER`]",
        0x01 reserved_01: u8 = "reserved",
        0x02 chain_offset: u8 = "0",
        0x03 function: Function = "[`Function::IOC_INIT`]",
        0x04 flags: u8 = "1: discard the downloaded firmware image",
        0x05 max_devices: u8 = "devices per bus the host wants; 0 means 256",
        0x06 max_buses: u8 = "buses the host wants",
        0x07 msg_flags: u8 = "0",
        0x08 msg_context: U32 = "the host's token",
        0x0c reply_frame_size: U16 = "reply frame size in bytes",
        0x0e reserved_0e: [u8; 2] = "reserved",
        0x10 host_mfa_high_address: U32 = "upper half of all request and reply frame addresses",
        0x14 sense_buffer_high_address: U32 = "upper half of all sense buffer addresses",
        0x18 reply_fifo_host_signaling_address: U32 = "reply FIFO host signalling address",
        0x1c host_page_buffer_sge: [u8; 12] = "where the host keeps pages for the IOC, one 64-bit SGE",
        0x28 msg_version: U16 = "message version the host speaks",
        0x2a header_version: U16 = "header version the host was built to",
    }

    /// IOC init reply (MSG_IOC_INIT_REPLY).
    pub struct IocInitReply: 0x14 {
        0x00 who_init: WhoInit = "as in the request",
        0x01 reserved_01: u8 = "reserved",
        0x02 msg_length: u8 = "length in dwords",
        0x03 function: Function = "[`Function::IOC_INIT`]",
        0x04 flags: u8 = "as in the request",
        0x05 max_devices: u8 = "as in the request",
        0x06 max_buses: u8 = "as in the request",
        0x07 msg_flags: u8 = "0",
        0x08 msg_context: U32 = "the request's token",
        0x0c reserved_0c: U16 = "reserved",
        0x0e ioc_status: U16 = "IOCStatus",
        0x10 ioc_log_info: U32 = "IOCLogInfo",
    }

    /// Port facts request (MSG_PORT_FACTS); goes through the doorbell.
    pub struct PortFactsRequest: 0x0c {
        0x00 reserved_00: [u8; 2] = "reserved",
        0x02 chain_offset: u8 = "0",
        0x03 function: Function = "[`Function::PORT_FACTS`]",
        0x04 reserved_04: [u8; 2] = "reserved",
        0x06 port_number: u8 = "port asked about",
        0x07 msg_flags: u8 = "0",
        0x08 msg_context: U32 = "the host's token",
    }

    /// Port facts reply (MSG_PORT_FACTS_REPLY).
    pub struct PortFactsReply: 0x28 {
        0x00 reserved_00: U16 = "reserved",
        0x02 msg_length: u8 = "length in dwords",
        0x03 function: Function = "[`Function::PORT_FACTS`]",
        0x04 reserved_04: U16 = "reserved",
        0x06 port_number: u8 = "port asked about",
        0x07 msg_flags: u8 = "0",
        0x08 msg_context: U32 = "the request's token",
        0x0c reserved_0c: U16 = "reserved",
        0x0e ioc_status: U16 = "IOCStatus",
        0x10 ioc_log_info: U32 = "IOCLogInfo",
        0x14 reserved_14: u8 = "reserved",
        0x15 port_type: PortType = "port type",
        0x16 max_devices: U16 = "most devices on this port",
        0x18 port_scsi_id: U16 = "the initiator's own id on the port",
        0x1a protocol_flags: U16 = "see [`ProtocolFlags`]",
        0x1c max_posted_command_buffers: U16 = "target mode: most command buffers",
        0x1e max_persistent_ids: U16 = "most persistent target mappings",
        0x20 max_lan_buckets: U16 = "LAN: most buckets",
        0x22 max_initiators: u8 = "target mode: most initiators",
        0x23 reserved_23: u8 = "reserved",
        0x24 reserved_24: U32 = "reserved",
    }

    /// Port enable request (MSG_PORT_ENABLE).
    pub struct PortEnableRequest: 0x0c {
        0x00 reserved_00: [u8; 2] = "reserved",
        0x02 chain_offset: u8 = "0",
        0x03 function: Function = "[`Function::PORT_ENABLE`]",
        0x04 reserved_04: [u8; 2] = "reserved",
        0x06 port_number: u8 = "port to enable",
        0x07 msg_flags: u8 = "0",
        0x08 msg_context: U32 = "the host's token",
    }

    /// Port enable reply (MSG_PORT_ENABLE_REPLY).
    pub struct PortEnableReply: 0x14 {
        0x00 reserved_00: [u8; 2] = "reserved",
        0x02 msg_length: u8 = "length in dwords",
        0x03 function: Function = "[`Function::PORT_ENABLE`]",
        0x04 reserved_04: [u8; 2] = "reserved",
        0x06 port_number: u8 = "port enabled",
        0x07 msg_flags: u8 = "0",
        0x08 msg_context: U32 = "the request's token",
        0x0c reserved_0c: U16 = "reserved",
        0x0e ioc_status: U16 = "IOCStatus",
        0x10 ioc_log_info: U32 = "IOCLogInfo",
    }

    /// Event notification request (MSG_EVENT_NOTIFY).
    pub struct EventNotificationRequest: 0x0c {
        0x00 switch: u8 = "1: on, 0: off",
        0x01 reserved_01: u8 = "reserved",
        0x02 chain_offset: u8 = "0",
        0x03 function: Function = "[`Function::EVENT_NOTIFICATION`]",
        0x04 reserved_04: [u8; 3] = "reserved",
        0x07 msg_flags: u8 = "0",
        0x08 msg_context: U32 = "the host's token, returned with every event",
    }

    /// Head of an event notification reply (MSG_EVENT_NOTIFY_REPLY); the event's data follows.
    pub struct EventNotificationReply: 0x1c {
        0x00 event_data_length: U16 = "length of the data, in dwords",
        0x02 msg_length: u8 = "length in dwords, data included",
        0x03 function: Function = "[`Function::EVENT_NOTIFICATION`]",
        0x04 reserved_04: [u8; 2] = "reserved",
        0x06 ack_required: u8 = "1: the IOC waits for an event ack",
        0x07 msg_flags: u8 = "0x80 on all but the last reply to the request",
        0x08 msg_context: U32 = "the request's token",
        0x0c reserved_0c: [u8; 2] = "reserved",
        0x0e ioc_status: U16 = "IOCStatus",
        0x10 ioc_log_info: U32 = "IOCLogInfo",
        0x14 event: U32 = "see [`EventCode`](crate::wire::event::EventCode)",
        0x18 event_context: U32 = "to be returned in the event ack",
    }

    /// Event ack request (MSG_EVENT_ACK).
    pub struct EventAckRequest: 0x14 {
        0x00 reserved_00: [u8; 2] = "reserved",
        0x02 chain_offset: u8 = "0",
        0x03 function: Function = "[`Function::EVENT_ACK`]",
        0x04 reserved_04: [u8; 3] = "reserved",
        0x07 msg_flags: u8 = "0",
        0x08 msg_context: U32 = "the host's token",
        0x0c event: U32 = "from the event",
        0x10 event_context: U32 = "from the event",
    }

    /// Event ack reply (MSG_EVENT_ACK_REPLY).
    pub struct EventAckReply: 0x14 {
        0x00 reserved_00: [u8; 2] = "reserved",
        0x02 msg_length: u8 = "length in dwords",
        0x03 function: Function = "[`Function::EVENT_ACK`]",
        0x04 reserved_04: [u8; 3] = "reserved",
        0x07 msg_flags: u8 = "0",
        0x08 msg_context: U32 = "the request's token",
        0x0c reserved_0c: U16 = "reserved",
        0x0e ioc_status: U16 = "IOCStatus",
        0x10 ioc_log_info: U32 = "IOCLogInfo",
    }
}

bitflags::bitflags! {
    /// IOCCapabilities of the IOC facts reply.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Capabilities: u32 {
        /// A high-priority request FIFO at 0x48 (task management need not use the doorbell).
        const HIGH_PRIORITY_QUEUE = 0x001;
        /// The IOC signals the reply FIFO in host memory.
        const REPLY_HOST_SIGNAL = 0x002;
        /// The IOC retries QUEUE FULL itself.
        const QUEUE_FULL_HANDLING = 0x004;
        /// Trace diagnostic buffer.
        const DIAG_TRACE_BUFFER = 0x008;
        /// Snapshot diagnostic buffer.
        const SNAPSHOT_BUFFER = 0x010;
        /// Extended diagnostic buffer.
        const EXTENDED_BUFFER = 0x020;
        /// End-to-end data protection.
        const EEDP = 0x040;
        /// Bidirectional commands.
        const BIDIRECTIONAL = 0x080;
        /// Multicast.
        const MULTICAST = 0x100;
        /// SCSI IO 32 requests.
        const SCSI_IO_32 = 0x200;
        /// No plain SCSI IO requests.
        const NO_SCSI_IO_16 = 0x400;
        /// Transport layer retries.
        const TLR = 0x800;
    }

    /// IOCExceptions of the IOC facts reply: what is wrong with the board.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Exceptions: u16 {
        /// The configuration's checksum is wrong.
        const CONFIG_CHECKSUM = 0x01;
        /// The RAID configuration is invalid.
        const RAID_CONFIG_INVALID = 0x02;
        /// The firmware's checksum is wrong.
        const FIRMWARE_CHECKSUM = 0x04;
        /// The table of persistent mappings is full.
        const PERSISTENT_TABLE_FULL = 0x08;
        /// Disks carry RAID metadata that the firmware does not support.
        const METADATA_UNSUPPORTED = 0x10;
    }

    /// ProtocolFlags of the port facts reply.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ProtocolFlags: u16 {
        /// The port maps devices to logical bus and target ids.
        const LOGICAL_BUS_ADDRESS = 0x01;
        /// LAN.
        const LAN = 0x02;
        /// SCSI target.
        const TARGET = 0x04;
        /// SCSI initiator.
        const INITIATOR = 0x08;
    }
}

impl IocFactsReply {
    /// IOCCapabilities, unknown bits kept.
    #[must_use]
    pub const fn capabilities(&self) -> Capabilities {
        Capabilities::from_bits_retain(self.ioc_capabilities.get())
    }

    /// Bytes of one request frame.
    #[must_use]
    pub const fn request_frame_bytes(&self) -> usize {
        self.request_frame_size.get() as usize * 4
    }

    /// Most devices per bus: the field, where 0 stands for 256.
    #[must_use]
    pub const fn devices_per_bus(&self) -> u16 {
        if self.max_devices == 0 { 256 } else { self.max_devices as u16 }
    }
}
