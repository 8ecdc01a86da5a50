//! Event data of MPI 2.x (mpi2_ioc.h).

use super::super::config::pages::{Entries, entries};
use super::super::{U16, U32, U64, layout, read_padded};
use crate::codes::codes;

layout! {
    /// Fixed part of the data of
    /// [`EventCode::SAS_TOPOLOGY_CHANGE_LIST`](super::EventCode::SAS_TOPOLOGY_CHANGE_LIST);
    /// [`SasTopologyPhy`] entries follow. Use [`SasTopology`] to read both.
    pub struct SasTopologyChangeList: 0x0c {
        0x00 enclosure_handle: U16 = "enclosure of the expander or controller",
        0x02 expander_dev_handle: U16 = "expander, 0: the controller's own phys",
        0x04 num_phys: u8 = "phys it has",
        0x05 reserved_05: u8 = "reserved",
        0x06 reserved_06: U16 = "reserved",
        0x08 num_entries: u8 = "entries that follow",
        0x09 start_phy_num: u8 = "phy of the first entry",
        0x0a exp_status: u8 = "see [`ExpanderStatus`]",
        0x0b physical_port: u8 = "port of the controller",
    }

    /// What happened on one phy; the entries are for successive phys.
    pub struct SasTopologyPhy: 0x04 {
        0x00 attached_dev_handle: U16 = "the device on the phy",
        0x02 link_rate: u8 = "rate now in 7:4, before in 3:0",
        0x03 phy_status: u8 = "[`TopologyReason`] in 3:0; 0x80: no phy here",
    }

    /// Data of [`EventCode::SAS_DEVICE_STATUS_CHANGE`](super::EventCode::SAS_DEVICE_STATUS_CHANGE).
    pub struct SasDeviceStatusChange: 0x1c {
        0x00 task_tag: U16 = "task tag",
        0x02 reason_code: u8 = "see [`DeviceStatusReason`](super::DeviceStatusReason)",
        0x03 physical_port: u8 = "port of the controller",
        0x04 asc: u8 = "additional sense code, if failure is predicted",
        0x05 ascq: u8 = "its qualifier",
        0x06 dev_handle: U16 = "device handle",
        0x08 reserved_08: U32 = "reserved",
        0x0c sas_address: U64 = "SAS address",
        0x14 lun: [u8; 8] = "logical unit",
    }

    /// Data of [`EventCode::SAS_DISCOVERY`](super::EventCode::SAS_DISCOVERY).
    pub struct SasDiscovery: 0x08 {
        0x00 flags: u8 = "1: in progress, 2: devices changed",
        0x01 reason_code: u8 = "1: started, 2: completed",
        0x02 physical_port: u8 = "port of the controller",
        0x03 reserved_03: u8 = "reserved",
        0x04 discovery_status: U32 = "what went wrong",
    }

    /// Data of [`EventCode::ENCLOSURE_DEVICE_STATUS_CHANGE`](super::EventCode::ENCLOSURE_DEVICE_STATUS_CHANGE).
    pub struct EnclosureDeviceStatusChange: 0x14 {
        0x00 enclosure_handle: U16 = "handle",
        0x02 reason_code: u8 = "1: added, 2: not responding",
        0x03 physical_port: u8 = "port of the controller",
        0x04 enclosure_logical_id: U64 = "identity",
        0x0c num_slots: U16 = "number of slots",
        0x0e start_slot: U16 = "first slot",
        0x10 phy_bits: U32 = "phys of the controller it is attached to",
    }

    /// Data of [`EventCode::SAS_BROADCAST_PRIMITIVE`](super::EventCode::SAS_BROADCAST_PRIMITIVE).
    pub struct SasBroadcastPrimitive: 0x04 {
        0x00 phy_num: u8 = "phy it came in on",
        0x01 port: u8 = "port",
        0x02 port_width: u8 = "phys of the port",
        0x03 primitive: u8 = "1 change, 2 SES, 3 expander, 4 asynchronous event",
    }

    /// Data of [`EventCode::LOG_ENTRY_ADDED`](super::EventCode::LOG_ENTRY_ADDED).
    pub struct LogEntryAdded: 0x30 {
        0x00 time_stamp: U64 = "time",
        0x08 reserved_08: U32 = "reserved",
        0x0c log_sequence: U16 = "number of the entry",
        0x0e log_entry_qualifier: U16 = "kind of entry",
        0x10 vp_id: u8 = "virtual port",
        0x11 vf_id: u8 = "virtual function",
        0x12 reserved_12: U16 = "reserved",
        0x14 log_data: [u8; 0x1c] = "the entry",
    }

    /// Data of [`EventCode::TEMPERATURE_THRESHOLD`](super::EventCode::TEMPERATURE_THRESHOLD).
    pub struct TemperatureThreshold: 0x10 {
        0x00 status: U16 = "one bit per threshold exceeded",
        0x02 sensor_num: u8 = "sensor",
        0x03 reserved_03: u8 = "reserved",
        0x04 current_temperature: U16 = "degrees Celsius",
        0x06 reserved_06: U16 = "reserved",
        0x08 reserved_08: U32 = "reserved",
        0x0c reserved_0c: U32 = "reserved",
    }

    /// Data of [`EventCode::SAS_DEVICE_DISCOVERY_ERROR`](super::EventCode::SAS_DEVICE_DISCOVERY_ERROR).
    pub struct SasDeviceDiscoveryError: 0x1c {
        0x00 dev_handle: U16 = "device handle",
        0x02 reason_code: u8 = "1: SMP failed, 2: SMP timed out",
        0x03 physical_port: u8 = "port of the controller",
        0x04 reserved_04: [U32; 2] = "reserved",
        0x0c sas_address: U64 = "SAS address",
        0x14 reserved_14: [U32; 2] = "reserved",
    }
}

codes! {
    /// ExpStatus of a topology change list: what became of the expander itself.
    pub struct ExpanderStatus(u8) {
        NO_EXPANDER = 0x00, "the controller's own phys";
        ADDED = 0x01, "added";
        NOT_RESPONDING = 0x02, "not responding";
        RESPONDING = 0x03, "responding";
        DELAY_NOT_RESPONDING = 0x04, "not responding, waiting for it";
    }
}

codes! {
    /// Reason of a topology entry, PhyStatus 3:0.
    pub struct TopologyReason(u8 & 0x0f) {
        TARGET_ADDED = 0x01, "target added";
        TARGET_NOT_RESPONDING = 0x02, "target not responding";
        PHY_CHANGED = 0x03, "phy changed";
        NO_CHANGE = 0x04, "no change";
        DELAY_NOT_RESPONDING = 0x05, "target not responding, waiting for it";
    }
}

impl SasTopologyPhy {
    /// Why the entry is there; the flags of the high nibble are cut off.
    #[must_use]
    pub const fn reason(&self) -> TopologyReason {
        TopologyReason(self.phy_status & 0x0f)
    }

    /// Whether the expander has no such phy, so that the entry means nothing.
    #[must_use]
    pub const fn is_vacant(&self) -> bool {
        self.phy_status & 0x80 != 0
    }
}

/// A topology change list as read from the event's data.
#[derive(Clone, Copy, Debug)]
pub struct SasTopology<'a> {
    /// The fixed part.
    pub head: SasTopologyChangeList,
    data: &'a [u8],
}

impl<'a> SasTopology<'a> {
    /// Reads the list; `None` if `data` is too short for the fixed part.
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let head = data.get(..size_of::<SasTopologyChangeList>()).map(read_padded)?;
        Some(Self { head, data })
    }

    /// The entries with their phy numbers, never past the data.
    pub fn entries(&self) -> impl Iterator<Item = (u8, SasTopologyPhy)> + use<'a> {
        let phys: Entries<'a, SasTopologyPhy> =
            entries(self.data, size_of::<SasTopologyChangeList>(), self.head.num_entries);
        let first = self.head.start_phy_num;
        phys.zip(0_u8..).map(move |(phy, index)| (first.wrapping_add(index), phy))
    }
}

impl SasDiscovery {
    /// Whether discovery has started (`true`) or is complete.
    #[must_use]
    pub const fn is_started(&self) -> bool {
        self.reason_code == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topology_entries_carry_their_phy_numbers_and_reasons() {
        let mut data = [0_u8; 12 + 8];
        data[0x08] = 2;
        data[0x09] = 4;
        data[12..16].copy_from_slice(&[9, 0, 0xa0, 0x01]);
        data[16..20].copy_from_slice(&[10, 0, 0x0a, 0x92]);
        let list = SasTopology::parse(&data).expect("long enough");
        let mut entries = list.entries();
        let (phy, entry) = entries.next().expect("first");
        assert_eq!((phy, entry.attached_dev_handle.get()), (4, 9));
        assert_eq!(entry.reason(), TopologyReason::TARGET_ADDED);
        let (phy, entry) = entries.next().expect("second");
        assert_eq!((phy, entry.is_vacant()), (5, true));
        assert_eq!(entry.reason(), TopologyReason::TARGET_NOT_RESPONDING);
        assert!(entries.next().is_none());
    }

    #[test]
    fn a_list_that_claims_more_entries_than_it_has_ends_with_the_data() {
        let mut data = [0_u8; 12 + 4 + 3];
        data[0x08] = 255;
        assert_eq!(SasTopology::parse(&data).expect("long enough").entries().count(), 1);
        assert!(SasTopology::parse(&data[..11]).is_none());
    }
}
