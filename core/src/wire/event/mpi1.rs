//! Event data of MPI 1.x (mpi_ioc.h).

use super::super::{U16, U32, U64, layout};

layout! {
    /// Data of [`EventCode::SAS_DEVICE_STATUS_CHANGE`](super::EventCode::SAS_DEVICE_STATUS_CHANGE)
    /// (EVENT_DATA_SAS_DEVICE_STATUS_CHANGE): how MPI 1.x tells of devices that come and go.
    pub struct SasDeviceStatusChange: 0x24 {
        0x00 target_id: u8 = "target id",
        0x01 bus: u8 = "bus",
        0x02 reason_code: u8 = "see [`DeviceStatusReason`](super::DeviceStatusReason)",
        0x03 reserved_03: u8 = "reserved",
        0x04 asc: u8 = "additional sense code, if failure is predicted",
        0x05 ascq: u8 = "its qualifier",
        0x06 dev_handle: U16 = "device handle",
        0x08 device_info: U32 = "see [`DeviceInfo`](crate::wire::config::pages::DeviceInfo)",
        0x0c parent_dev_handle: U16 = "handle of the device before it",
        0x0e phy_num: u8 = "phy of the parent",
        0x0f reserved_0f: u8 = "reserved",
        0x10 sas_address: U64 = "SAS address",
        0x18 lun: [u8; 8] = "logical unit",
        0x20 task_tag: U16 = "task tag",
        0x22 reserved_22: U16 = "reserved",
    }

    /// Data of [`EventCode::SAS_PHY_LINK_STATUS`](super::EventCode::SAS_PHY_LINK_STATUS).
    pub struct SasPhyLinkStatus: 0x0c {
        0x00 phy_num: u8 = "phy",
        0x01 link_rates: u8 = "rate now in 7:4, before in 3:0",
        0x02 dev_handle: U16 = "handle of the device the phy is part of",
        0x04 sas_address: U64 = "SAS address",
    }

    /// Data of [`EventCode::SAS_DISCOVERY`](super::EventCode::SAS_DISCOVERY).
    pub struct SasDiscovery: 0x08 {
        0x00 discovery_status: U32 = "bit 0: in progress; 31:16: phys concerned",
        0x04 reserved_04: U32 = "reserved",
    }

    /// Data of [`EventCode::SAS_DISCOVERY_ERROR`](super::EventCode::SAS_DISCOVERY_ERROR).
    pub struct SasDiscoveryError: 0x08 {
        0x00 discovery_status: U32 = "what went wrong",
        0x04 port: u8 = "port",
        0x05 reserved_05: [u8; 3] = "reserved",
    }

    /// Data of [`EventCode::QUEUE_FULL`](super::EventCode::QUEUE_FULL).
    pub struct QueueFull: 0x04 {
        0x00 target_id: u8 = "target id",
        0x01 bus: u8 = "bus",
        0x02 current_depth: U16 = "commands the device holds",
    }

    /// Data of [`EventCode::SAS_BROADCAST_PRIMITIVE`](super::EventCode::SAS_BROADCAST_PRIMITIVE).
    pub struct SasBroadcastPrimitive: 0x04 {
        0x00 phy_num: u8 = "phy it came in on",
        0x01 port: u8 = "port",
        0x02 port_width: u8 = "phys of the port",
        0x03 primitive: u8 = "1 change, 3 expander, 4 asynchronous event",
    }

    /// Data of [`EventCode::LOG_ENTRY_ADDED`](super::EventCode::LOG_ENTRY_ADDED).
    pub struct LogEntryAdded: 0x30 {
        0x00 log_sequence: U16 = "number of the entry",
        0x02 reserved_02: U16 = "reserved",
        0x04 reserved_04: U32 = "reserved",
        0x08 time_stamp: U32 = "time",
        0x0c reserved_0c: U32 = "reserved",
        0x10 entry_sequence: U16 = "number of the entry, again",
        0x12 entry_qualifier: U16 = "kind of entry",
        0x14 log_data: [u8; 0x1c] = "the entry",
    }
}

impl SasDiscovery {
    /// Whether discovery still runs; otherwise it is complete.
    #[must_use]
    pub const fn is_in_progress(&self) -> bool {
        self.discovery_status.get() & 1 != 0
    }
}
