//! Events (mpi_ioc.h, mpi2_ioc.h, "Event Notification").

use super::{U16, U32, U64, layout};
use crate::codes::codes;

codes! {
    /// Which event (`MPI2_EVENT_*`, `MPI_EVENT_*`; those of SAS have the same numbers on both).
    pub struct EventCode(u16) {
        LOG_DATA = 0x01, "log data";
        STATE_CHANGE = 0x02, "state change";
        HARD_RESET_RECEIVED = 0x05, "hard reset received";
        EVENT_CHANGE = 0x0a, "event change";
        TASK_SET_FULL = 0x0e, "task set full";
        SAS_DEVICE_STATUS_CHANGE = 0x0f, "SAS device status change";
        SAS_PHY_LINK_STATUS = 0x12, "SAS phy link status (MPI 1.x)";
        IR_OPERATION_STATUS = 0x14, "IR operation status";
        SAS_DISCOVERY = 0x16, "SAS discovery";
        SAS_BROADCAST_PRIMITIVE = 0x17, "SAS broadcast primitive";
        SAS_INIT_DEVICE_STATUS_CHANGE = 0x18, "SAS initiator device status change";
        SAS_INIT_TABLE_OVERFLOW = 0x19, "SAS initiator table overflow";
        SAS_TOPOLOGY_CHANGE_LIST = 0x1c, "SAS topology change list";
        SAS_ENCLOSURE_DEVICE_STATUS_CHANGE = 0x1d, "SAS enclosure device status change";
        IR_VOLUME = 0x1e, "IR volume";
        IR_PHYSICAL_DISK = 0x1f, "IR physical disk";
        IR_CONFIGURATION_CHANGE_LIST = 0x20, "IR configuration change list";
        LOG_ENTRY_ADDED = 0x21, "log entry added";
        SAS_QUIESCE = 0x25, "SAS quiesce";
        TEMPERATURE_THRESHOLD = 0x27, "temperature threshold";
        SAS_DISCOVERY_ERROR = 0x35, "SAS discovery error";
    }
}

/// MPI 1.x.
pub mod mpi1 {
    use super::{U16, U32, U64, layout};

    /// ReasonCode of a device status change: a device was added.
    pub const SAS_DEVICE_ADDED: u8 = 0x03;
    /// The device no longer responds.
    pub const SAS_DEVICE_NOT_RESPONDING: u8 = 0x04;
    /// A device was added and has no place in the persistent table.
    pub const SAS_DEVICE_ADDED_NOT_PERSISTENT: u8 = 0x06;

    layout! {
        /// Data of a device status change (EVENT_DATA_SAS_DEVICE_STATUS_CHANGE).
        pub struct SasDeviceStatusChange: 0x24 {
            0x00 target_id: u8 = "target id",
            0x01 bus: u8 = "bus",
            0x02 reason_code: u8 = "what happened",
            0x03 reserved_03: u8 = "reserved",
            0x04 asc: u8 = "additional sense code, for SMART data",
            0x05 ascq: u8 = "its qualifier",
            0x06 dev_handle: U16 = "DevHandle",
            0x08 device_info: U32 = "what kind of device",
            0x0c parent_dev_handle: U16 = "what it hangs on",
            0x0e phy_num: u8 = "phy of the parent",
            0x0f reserved_0f: u8 = "reserved",
            0x10 sas_address: U64 = "SAS address (WWN)",
            0x18 lun: [u8; 8] = "logical unit number",
            0x20 task_tag: U16 = "task",
            0x22 reserved_22: U16 = "reserved",
        }
    }
}

/// MPI 2.x.
pub mod mpi2 {
    use zerocopy::FromBytes;

    use super::{U16, U32, U64, layout};

    /// Reason of a topology change (`MPI2_EVENT_SAS_TOPO_RC_*`): a device answers.
    pub const TARGET_ADDED: u8 = 0x01;
    /// The device no longer answers.
    pub const TARGET_NOT_RESPONDING: u8 = 0x02;
    /// The phy changed, the device did not.
    pub const PHY_CHANGED: u8 = 0x03;
    /// Nothing changed.
    pub const NO_CHANGE: u8 = 0x04;
    /// The device does not answer, and the firmware still hopes.
    pub const DELAY_NOT_RESPONDING: u8 = 0x05;

    layout! {
        /// The front of a topology change list (MPI2_EVENT_DATA_SAS_TOPOLOGY_CHANGE_LIST); its
        /// phys follow.
        pub struct TopologyChangeListHeader: 0x0c {
            0x00 enclosure_handle: U16 = "enclosure",
            0x02 expander_dev_handle: U16 = "expander; 0: the controller itself",
            0x04 num_phys: u8 = "phys that it has",
            0x05 reserved_05: u8 = "reserved",
            0x06 reserved_06: U16 = "reserved",
            0x08 num_entries: u8 = "entries that follow",
            0x09 start_phy_num: u8 = "phy of the first entry",
            0x0a exp_status: u8 = "what happened to the expander",
            0x0b physical_port: u8 = "port of the controller",
        }

        /// One phy of it (MPI2_EVENT_SAS_TOPO_PHY_ENTRY).
        pub struct TopologyPhyEntry: 0x04 {
            0x00 attached_dev_handle: U16 = "DevHandle of what is attached",
            0x02 link_rate: u8 = "negotiated rate, now 7:4 and before 3:0",
            0x03 phy_status: u8 = "bits 3:0: the reason",
        }

        /// Data of a device status change (MPI2_EVENT_DATA_SAS_DEVICE_STATUS_CHANGE).
        pub struct SasDeviceStatusChange: 0x20 {
            0x00 task_tag: U16 = "task",
            0x02 reason_code: u8 = "what happened",
            0x03 physical_port: u8 = "port of the controller",
            0x04 asc: u8 = "additional sense code, for SMART data",
            0x05 ascq: u8 = "its qualifier",
            0x06 dev_handle: U16 = "DevHandle",
            0x08 reserved_08: U32 = "reserved",
            0x0c sas_address: U64 = "SAS address (WWN)",
            0x14 lun: [u8; 8] = "logical unit number",
            0x1c reserved_1c: U32 = "reserved",
        }
    }

    impl TopologyPhyEntry {
        /// The reason, one of the constants above.
        #[must_use]
        pub const fn reason(&self) -> u8 {
            self.phy_status & 0x0f
        }
    }

    /// A topology change list, as far as it came.
    #[derive(Clone, Copy, Debug)]
    pub struct TopologyChangeList<'e> {
        /// The front.
        pub header: TopologyChangeListHeader,
        entries: &'e [u8],
    }

    impl<'e> TopologyChangeList<'e> {
        /// Reads an event's data; `None` if not even the front is there.
        #[must_use]
        pub fn parse(data: &'e [u8]) -> Option<Self> {
            let (header, rest) = TopologyChangeListHeader::read_from_prefix(data).ok()?;
            let wanted = usize::from(header.num_entries) * size_of::<TopologyPhyEntry>();
            Some(Self { header, entries: rest.get(..wanted).unwrap_or(rest) })
        }

        /// Whether the list claims more entries than came.
        #[must_use]
        pub fn is_cut_off(&self) -> bool {
            self.entries().count() < usize::from(self.header.num_entries)
        }

        /// The entries that came.
        pub fn entries(&self) -> impl Iterator<Item = TopologyPhyEntry> + 'e {
            self.entries
                .chunks_exact(size_of::<TopologyPhyEntry>())
                .filter_map(|entry| TopologyPhyEntry::read_from_bytes(entry).ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::mpi2::*;

    #[test]
    fn a_topology_list_that_is_cut_off_says_so() {
        let header = TopologyChangeListHeader { num_entries: 3, ..Default::default() };
        let mut data = std::vec::Vec::from(header.as_bytes());
        data.extend_from_slice(&[9, 0, 0xa0, 0x01, 10, 0, 0xa0, 0x42, 11, 0]);
        let list = TopologyChangeList::parse(&data).unwrap();
        let found: std::vec::Vec<_> =
            list.entries().map(|entry| (entry.attached_dev_handle.get(), entry.reason())).collect();
        assert_eq!(found, [(9, TARGET_ADDED), (10, TARGET_NOT_RESPONDING)]);
        assert!(list.is_cut_off());
        assert!(TopologyChangeList::parse(&data[..11]).is_none());
    }
}
