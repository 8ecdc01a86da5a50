//! IOC messages of MPI 2.0, 2.5 and 2.6 (mpi2_ioc.h).

use super::super::{Function, U16, U32, U64, layout};
use super::{PortType, Version, WhoInit};

layout! {
    /// IOC facts request (MPI2_IOC_FACTS_REQUEST); goes through the doorbell.
    pub struct IocFactsRequest: 0x0c {
        0x00 reserved_00: U16 = "reserved",
        0x02 chain_offset: u8 = "0",
        0x03 function: Function = "[`Function::IOC_FACTS`]",
        0x04 reserved_04: [u8; 3] = "reserved",
        0x07 msg_flags: u8 = "0",
        0x08 vp_id: u8 = "virtual port",
        0x09 vf_id: u8 = "virtual function",
        0x0a reserved_0a: U16 = "reserved",
    }

    /// IOC facts reply (MPI2_IOC_FACTS_REPLY). MPI 2.0 firmware stops at 0x40 or earlier.
    pub struct IocFactsReply: 0x44 {
        0x00 msg_version: U16 = "message version, see [`MsgVersion`](super::MsgVersion)",
        0x02 msg_length: u8 = "length in dwords",
        0x03 function: Function = "[`Function::IOC_FACTS`]",
        0x04 header_version: U16 = "header version",
        0x06 ioc_number: u8 = "number of this IOC on its chip",
        0x07 msg_flags: u8 = "0",
        0x08 vp_id: u8 = "virtual port",
        0x09 vf_id: u8 = "virtual function",
        0x0a reserved_0a: U16 = "reserved",
        0x0c ioc_exceptions: U16 = "what is wrong with the board: [`Exceptions`]",
        0x0e ioc_status: U16 = "IOCStatus",
        0x10 ioc_log_info: U32 = "IOCLogInfo",
        0x14 max_chain_depth: u8 = "most chain buffers per request",
        0x15 who_init: WhoInit = "who initialised the IOC",
        0x16 number_of_ports: u8 = "number of ports",
        0x17 max_msix_vectors: u8 = "MSI-X vectors, so reply post queues, at most",
        0x18 request_credit: U16 = "most requests outstanding, high priority ones excluded",
        0x1a product_id: U16 = "see [`ProductId`](super::ProductId)",
        0x1c ioc_capabilities: U32 = "see [`Capabilities`]",
        0x20 firmware_version: Version = "firmware version",
        0x24 ioc_request_frame_size: U16 = "request frame size in dwords",
        0x26 ioc_max_chain_segment_size: U16 = "chain size in 16-byte units (2.5 on); 0 means 128 bytes",
        0x28 max_initiators: U16 = "most initiators",
        0x2a max_targets: U16 = "most targets",
        0x2c max_sas_expanders: U16 = "most SAS expanders",
        0x2e max_enclosures: U16 = "most enclosures",
        0x30 protocol_flags: U16 = "see [`ProtocolFlags`]",
        0x32 high_priority_credit: U16 = "most high-priority requests outstanding",
        0x34 max_reply_descriptor_post_queue_depth: U16 = "most entries of a reply post queue",
        0x36 reply_frame_size: u8 = "reply frame size in dwords",
        0x37 max_volumes: u8 = "most RAID volumes",
        0x38 max_dev_handle: U16 = "greatest device handle",
        0x3a max_persistent_entries: U16 = "most persistent mappings",
        0x3c min_dev_handle: U16 = "least device handle",
        0x3e current_host_page_size: u8 = "log2 of the host page size in force (2.6, NVMe)",
        0x3f reserved_3f: u8 = "reserved",
        0x40 sge_modifier_mask: u8 = "2.6: mask of the NVMe SGE modifier",
        0x41 sge_modifier_value: u8 = "2.6: value of the NVMe SGE modifier",
        0x42 sge_modifier_shift: u8 = "2.6: shift of the NVMe SGE modifier",
        0x43 reserved_43: u8 = "reserved",
    }

    /// IOC init request (MPI2_IOC_INIT_REQUEST); goes through the doorbell.
    pub struct IocInitRequest: 0x48 {
        0x00 who_init: WhoInit = "[`WhoInit::HOST_DRIVER`]",
        0x01 reserved_01: u8 = "reserved",
        0x02 chain_offset: u8 = "0",
        0x03 function: Function = "[`Function::IOC_INIT`]",
        0x04 reserved_04: [u8; 3] = "reserved",
        0x07 msg_flags: u8 = "see [`IOC_INIT_RDPQ_ARRAY`]",
        0x08 vp_id: u8 = "virtual port",
        0x09 vf_id: u8 = "virtual function",
        0x0a reserved_0a: U16 = "reserved",
        0x0c msg_version: U16 = "message version the host speaks",
        0x0e header_version: U16 = "header version the host was built to",
        0x10 reserved_10: U32 = "reserved",
        0x14 configuration_flags: U16 = "2.6: 0x01 NVMe SGL format, 0x02 core dump",
        0x16 host_page_size: u8 = "log2 of the host page size in bytes (2.6); 12 is 4 KiB",
        0x17 host_msix_vectors: u8 = "reply post queues the host set up; 0 without MSI-X",
        0x18 reserved_18: U16 = "reserved",
        0x1a system_request_frame_size: U16 = "request frame size in dwords",
        0x1c reply_descriptor_post_queue_depth: U16 = "entries of each reply post queue, a multiple of 16",
        0x1e reply_free_queue_depth: U16 = "entries of the reply free queue, a multiple of 16",
        0x20 sense_buffer_address_high: U32 = "upper half of all sense buffer addresses",
        0x24 system_reply_address_high: U32 = "upper half of all reply frame addresses",
        0x28 system_request_frame_base_address: U64 = "bus address of SMID 0's frame",
        0x30 reply_descriptor_post_queue_address: U64 = "bus address of the queue, or of the RDPQ array",
        0x38 reply_free_queue_address: U64 = "bus address of the reply free queue",
        0x40 time_stamp: U64 = "milliseconds since 1970",
    }

    /// One entry of the RDPQ array: a reply post queue each (MPI2_IOC_INIT_RDPQ_ARRAY_ENTRY).
    pub struct RdpqArrayEntry: 0x10 {
        0x00 rdpq_base_address: U64 = "bus address of the queue",
        0x08 reserved_08: U32 = "reserved",
        0x0c reserved_0c: U32 = "reserved",
    }

    /// IOC init reply (MPI2_IOC_INIT_REPLY).
    pub struct IocInitReply: 0x14 {
        0x00 who_init: WhoInit = "as in the request",
        0x01 reserved_01: u8 = "reserved",
        0x02 msg_length: u8 = "length in dwords",
        0x03 function: Function = "[`Function::IOC_INIT`]",
        0x04 reserved_04: [u8; 3] = "reserved",
        0x07 msg_flags: u8 = "0",
        0x08 vp_id: u8 = "virtual port",
        0x09 vf_id: u8 = "virtual function",
        0x0a reserved_0a: U16 = "reserved",
        0x0c reserved_0c: U16 = "reserved",
        0x0e ioc_status: U16 = "IOCStatus",
        0x10 ioc_log_info: U32 = "IOCLogInfo",
    }

    /// Port facts request (MPI2_PORT_FACTS_REQUEST).
    pub struct PortFactsRequest: 0x0c {
        0x00 reserved_00: U16 = "reserved",
        0x02 chain_offset: u8 = "0",
        0x03 function: Function = "[`Function::PORT_FACTS`]",
        0x04 reserved_04: U16 = "reserved",
        0x06 port_number: u8 = "port asked about",
        0x07 msg_flags: u8 = "0",
        0x08 vp_id: u8 = "virtual port",
        0x09 vf_id: u8 = "virtual function",
        0x0a reserved_0a: U16 = "reserved",
    }

    /// Port facts reply (MPI2_PORT_FACTS_REPLY).
    pub struct PortFactsReply: 0x1c {
        0x00 reserved_00: U16 = "reserved",
        0x02 msg_length: u8 = "length in dwords",
        0x03 function: Function = "[`Function::PORT_FACTS`]",
        0x04 reserved_04: U16 = "reserved",
        0x06 port_number: u8 = "port asked about",
        0x07 msg_flags: u8 = "0",
        0x08 vp_id: u8 = "virtual port",
        0x09 vf_id: u8 = "virtual function",
        0x0a reserved_0a: U16 = "reserved",
        0x0c reserved_0c: U16 = "reserved",
        0x0e ioc_status: U16 = "IOCStatus",
        0x10 ioc_log_info: U32 = "IOCLogInfo",
        0x14 reserved_14: u8 = "reserved",
        0x15 port_type: PortType = "port type",
        0x16 reserved_16: U16 = "reserved",
        0x18 max_posted_command_buffers: U16 = "target mode: most command buffers",
        0x1a reserved_1a: U16 = "reserved",
    }

    /// Port enable request (MPI2_PORT_ENABLE_REQUEST).
    pub struct PortEnableRequest: 0x0c {
        0x00 reserved_00: U16 = "reserved",
        0x02 chain_offset: u8 = "0",
        0x03 function: Function = "[`Function::PORT_ENABLE`]",
        0x04 reserved_04: u8 = "reserved",
        0x05 port_flags: u8 = "port flags, 0",
        0x06 reserved_06: u8 = "reserved",
        0x07 msg_flags: u8 = "0",
        0x08 vp_id: u8 = "virtual port",
        0x09 vf_id: u8 = "virtual function",
        0x0a reserved_0a: U16 = "reserved",
    }

    /// Port enable reply (MPI2_PORT_ENABLE_REPLY).
    pub struct PortEnableReply: 0x14 {
        0x00 reserved_00: U16 = "reserved",
        0x02 msg_length: u8 = "length in dwords",
        0x03 function: Function = "[`Function::PORT_ENABLE`]",
        0x04 reserved_04: u8 = "reserved",
        0x05 port_flags: u8 = "port flags",
        0x06 reserved_06: u8 = "reserved",
        0x07 msg_flags: u8 = "0",
        0x08 vp_id: u8 = "virtual port",
        0x09 vf_id: u8 = "virtual function",
        0x0a reserved_0a: U16 = "reserved",
        0x0c reserved_0c: U16 = "reserved",
        0x0e ioc_status: U16 = "IOCStatus",
        0x10 ioc_log_info: U32 = "IOCLogInfo",
    }

    /// Event notification request (MPI2_EVENT_NOTIFICATION_REQUEST).
    pub struct EventNotificationRequest: 0x2c {
        0x00 reserved_00: U16 = "reserved",
        0x02 chain_offset: u8 = "0",
        0x03 function: Function = "[`Function::EVENT_NOTIFICATION`]",
        0x04 reserved_04: [u8; 3] = "reserved",
        0x07 msg_flags: u8 = "0",
        0x08 vp_id: u8 = "virtual port",
        0x09 vf_id: u8 = "virtual function",
        0x0a reserved_0a: U16 = "reserved",
        0x0c reserved_0c: U32 = "reserved",
        0x10 reserved_10: U32 = "reserved",
        0x14 event_masks: [U32; 4] = "one bit per event code, 1 = off; see [`EventMasks`]",
        0x24 sas_broadcast_primitive_masks: U16 = "one bit per broadcast primitive, 1 = off",
        0x26 sas_notify_primitive_masks: U16 = "one bit per notify primitive, 1 = off",
        0x28 reserved_28: U32 = "reserved",
    }

    /// Head of an event notification reply (MPI2_EVENT_NOTIFICATION_REPLY); the data follows.
    pub struct EventNotificationReply: 0x1c {
        0x00 event_data_length: U16 = "length of the data, in dwords",
        0x02 msg_length: u8 = "length in dwords, data included",
        0x03 function: Function = "[`Function::EVENT_NOTIFICATION`]",
        0x04 reserved_04: U16 = "reserved",
        0x06 ack_required: u8 = "1: the IOC waits for an event ack",
        0x07 msg_flags: u8 = "0x80 on all but the last reply to the request",
        0x08 vp_id: u8 = "virtual port",
        0x09 vf_id: u8 = "virtual function",
        0x0a reserved_0a: U16 = "reserved",
        0x0c reserved_0c: U16 = "reserved",
        0x0e ioc_status: U16 = "IOCStatus",
        0x10 ioc_log_info: U32 = "IOCLogInfo",
        0x14 event: U16 = "see [`EventCode`](crate::wire::event::EventCode)",
        0x16 reserved_16: U16 = "reserved",
        0x18 event_context: U32 = "to be returned in the event ack",
    }

    /// Event ack request (MPI2_EVENT_ACK_REQUEST).
    pub struct EventAckRequest: 0x14 {
        0x00 reserved_00: U16 = "reserved",
        0x02 chain_offset: u8 = "0",
        0x03 function: Function = "[`Function::EVENT_ACK`]",
        0x04 reserved_04: [u8; 3] = "reserved",
        0x07 msg_flags: u8 = "0",
        0x08 vp_id: u8 = "virtual port, from the event",
        0x09 vf_id: u8 = "virtual function, from the event",
        0x0a reserved_0a: U16 = "reserved",
        0x0c event: U16 = "from the event",
        0x0e reserved_0e: U16 = "reserved",
        0x10 event_context: U32 = "from the event",
    }

    /// Event ack reply (MPI2_EVENT_ACK_REPLY).
    pub struct EventAckReply: 0x14 {
        0x00 reserved_00: U16 = "reserved",
        0x02 msg_length: u8 = "length in dwords",
        0x03 function: Function = "[`Function::EVENT_ACK`]",
        0x04 reserved_04: [u8; 3] = "reserved",
        0x07 msg_flags: u8 = "0",
        0x08 vp_id: u8 = "virtual port",
        0x09 vf_id: u8 = "virtual function",
        0x0a reserved_0a: U16 = "reserved",
        0x0c reserved_0c: U16 = "reserved",
        0x0e ioc_status: U16 = "IOCStatus",
        0x10 ioc_log_info: U32 = "IOCLogInfo",
    }
}

/// MsgFlags of IOC init: the post queue address is that of an array of [`RdpqArrayEntry`].
pub const IOC_INIT_RDPQ_ARRAY: u8 = 0x01;

/// ConfigurationFlags of IOC init (2.6): NVMe SGLs in place of PRPs.
pub const IOC_INIT_NVME_SGL_FORMAT: u16 = 0x0001;

/// ConfigurationFlags of IOC init (2.6): the firmware may dump its core on a fault.
pub const IOC_INIT_COREDUMP_ENABLE: u16 = 0x0002;

/// Fewest entries of a reply post queue (MPI2_RDPQ_DEPTH_MIN).
pub const REPLY_POST_DEPTH_MIN: u16 = 16;

bitflags::bitflags! {
    /// IOCCapabilities of the IOC facts reply.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Capabilities: u32 {
        /// The IOC retries TASK SET FULL itself.
        const TASK_SET_FULL_HANDLING = 0x0000_0004;
        /// Trace diagnostic buffer.
        const DIAG_TRACE_BUFFER = 0x0000_0008;
        /// Snapshot diagnostic buffer.
        const SNAPSHOT_BUFFER = 0x0000_0010;
        /// Extended diagnostic buffer.
        const EXTENDED_BUFFER = 0x0000_0020;
        /// End-to-end data protection.
        const EEDP = 0x0000_0040;
        /// Bidirectional commands in target mode.
        const BIDIRECTIONAL_TARGET = 0x0000_0080;
        /// Multicast.
        const MULTICAST = 0x0000_0100;
        /// Transport layer retries.
        const TLR = 0x0000_0800;
        /// Integrated RAID.
        const INTEGRATED_RAID = 0x0000_1000;
        /// Events are replayed after a message unit reset, so that reset is usable.
        const EVENT_REPLAY = 0x0000_2000;
        /// RAID accelerator.
        const RAID_ACCELERATOR = 0x0000_4000;
        /// Requests may name the reply post queue to answer on.
        const MSI_X_INDEX = 0x0000_8000;
        /// Discovery by the host.
        const HOST_BASED_DISCOVERY = 0x0001_0000;
        /// Fast path SCSI IO (2.5).
        const FAST_PATH = 0x0002_0000;
        /// IOC init takes an array of reply post queues.
        const RDPQ_ARRAY = 0x0004_0000;
        /// 32-bit atomic request descriptors (2.6).
        const ATOMIC_REQUEST = 0x0008_0000;
        /// PCIe SR-IOV (2.6).
        const PCIE_SRIOV = 0x0010_0000;
        /// Core dump on fault (2.6).
        const COREDUMP = 0x0020_0000;
    }

    /// IOCExceptions of the IOC facts reply: what is wrong with the board.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Exceptions: u16 {
        /// The configuration's checksum is wrong.
        const CONFIG_CHECKSUM = 0x0001;
        /// The RAID configuration is invalid.
        const RAID_CONFIG_INVALID = 0x0002;
        /// The firmware's checksum is wrong.
        const FIRMWARE_CHECKSUM = 0x0004;
        /// The manufacturing pages' checksum is wrong.
        const MANUFACTURING_CHECKSUM = 0x0008;
        /// Disks carry RAID metadata that the firmware does not support.
        const METADATA_UNSUPPORTED = 0x0010;
        /// More foreign RAID configurations than the firmware can hold.
        const FOREIGN_CONFIG_MAX = 0x0100;
        /// A part of the controller's memory failed.
        const PARTIAL_MEMORY_FAILURE = 0x0200;
        /// The NVMe side is disabled.
        const PCIE_DISABLED = 0x0400;
    }

    /// ProtocolFlags of the IOC facts reply.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ProtocolFlags: u16 {
        /// SCSI target.
        const SCSI_TARGET = 0x0001;
        /// SCSI initiator.
        const SCSI_INITIATOR = 0x0002;
        /// NVMe devices (2.6).
        const NVME_DEVICES = 0x0008;
    }
}

/// Which events the IOC shall send: everything off until switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventMasks([u32; 4]);

impl EventMasks {
    /// All events off.
    pub const NONE: Self = Self([u32::MAX; 4]);

    /// Also sends `event`; codes above 127 have no mask bit and change nothing.
    #[must_use]
    pub fn with(mut self, event: crate::wire::event::EventCode) -> Self {
        if let Some(word) = self.0.get_mut(usize::from(event.0 / 32)) {
            *word &= !(1 << (event.0 % 32));
        }
        self
    }

    /// Whether `event` is sent.
    #[must_use]
    pub fn allows(self, event: crate::wire::event::EventCode) -> bool {
        self.0.get(usize::from(event.0 / 32)).is_some_and(|word| word & (1 << (event.0 % 32)) == 0)
    }

    /// The four dwords of the request.
    #[must_use]
    pub fn words(self) -> [U32; 4] {
        self.0.map(U32::new)
    }

    /// The masks of a request.
    #[must_use]
    pub fn from_words(words: [U32; 4]) -> Self {
        Self(words.map(U32::get))
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
        self.ioc_request_frame_size.get() as usize * 4
    }

    /// Bytes of one reply frame.
    #[must_use]
    pub const fn reply_frame_bytes(&self) -> usize {
        self.reply_frame_size as usize * 4
    }

    /// Bytes of one chain buffer: the field in 16-byte units, where 0 stands for 128 bytes.
    #[must_use]
    pub const fn chain_segment_bytes(&self) -> usize {
        match self.ioc_max_chain_segment_size.get() {
            0 => 128,
            units => units as usize * 16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::EventCode;

    #[test]
    fn event_masks_switch_single_events_on() {
        let masks = EventMasks::NONE
            .with(EventCode::SAS_TOPOLOGY_CHANGE_LIST)
            .with(EventCode::LOG_ENTRY_ADDED)
            .with(EventCode(0xffff));
        assert!(masks.allows(EventCode::SAS_TOPOLOGY_CHANGE_LIST));
        assert!(!masks.allows(EventCode::SAS_DISCOVERY));
        assert_eq!(masks.words()[0].get(), !(1 << 0x1c));
        assert_eq!(masks.words()[1].get(), !(1 << 1));
        assert_eq!(masks.words()[3].get(), u32::MAX);
        assert_eq!(EventMasks::from_words(masks.words()), masks);
    }

    #[test]
    fn a_chain_size_of_zero_means_128_bytes() {
        let mut facts = IocFactsReply::default();
        assert_eq!(facts.chain_segment_bytes(), 128);
        facts.ioc_max_chain_segment_size = U16::new(64);
        assert_eq!(facts.chain_segment_bytes(), 1024);
    }
}
