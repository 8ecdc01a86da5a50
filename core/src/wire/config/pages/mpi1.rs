//! Pages as MPI 1.x lays them out (mpi_cnfg.h).

use super::super::super::{U16, U32, U64, layout};
use super::super::{ExtPageHeader, PageHeader};

layout! {
    /// IO unit page 0.
    pub struct IoUnit0: 0x0c {
        0x00 header: PageHeader = "header",
        0x04 unique_value: U64 = "the controller's world-wide unique number",
    }

    /// IOC page 1: interrupt coalescing.
    pub struct Ioc1: 0x10 {
        0x00 header: PageHeader = "header",
        0x04 flags: U32 = "see [`IOC1_REPLY_COALESCING`](super::IOC1_REPLY_COALESCING)",
        0x08 coalescing_timeout: U32 = "longest wait in microseconds",
        0x0c coalescing_depth: u8 = "most replies gathered",
        0x0d pci_slot_num: u8 = "PCI slot, 0xFF unknown",
        0x0e reserved_0e: [u8; 2] = "reserved",
    }

    /// SAS IO unit page 0, fixed part; [`SasIoUnit0Phy`] entries follow at 0x10.
    pub struct SasIoUnit0: 0x10 {
        0x00 header: ExtPageHeader = "header",
        0x08 nvdata_version_default: U16 = "default NVDATA version",
        0x0a nvdata_version_persistent: U16 = "NVDATA version in use",
        0x0c num_phys: u8 = "number of entries",
        0x0d reserved_0d: u8 = "reserved",
        0x0e reserved_0e: U16 = "reserved",
    }

    /// A phy of SAS IO unit page 0.
    pub struct SasIoUnit0Phy: 0x10 {
        0x00 port: u8 = "port the phy belongs to",
        0x01 port_flags: u8 = "0x08: discovery in progress",
        0x02 phy_flags: u8 = "0x04: disabled",
        0x03 negotiated_link_rate: u8 = "see [`LinkRate`](super::LinkRate)",
        0x04 controller_phy_device_info: U32 = "what the controller is here",
        0x08 attached_dev_handle: U16 = "handle of the neighbour, 0 without",
        0x0a controller_dev_handle: U16 = "handle of the controller",
        0x0c discovery_status: U32 = "what went wrong in discovery",
    }

    /// SAS IO unit page 1, fixed part; [`SasIoUnit1Phy`] entries follow at 0x14.
    pub struct SasIoUnit1: 0x14 {
        0x00 header: ExtPageHeader = "header",
        0x08 control_flags: U16 = "control flags",
        0x0a max_num_sata_targets: U16 = "most SATA targets",
        0x0c additional_control_flags: U16 = "more control flags",
        0x0e reserved_0e: U16 = "reserved",
        0x10 num_phys: u8 = "number of entries",
        0x11 sata_max_queue_depth: u8 = "queue depth of SATA devices",
        0x12 report_device_missing_delay: u8 = "seconds (bit 7: times 16) before a loss is told",
        0x13 io_device_missing_delay: u8 = "seconds commands to a lost device are held",
    }

    /// A phy of SAS IO unit page 1.
    pub struct SasIoUnit1Phy: 0x0c {
        0x00 port: u8 = "port the phy shall belong to",
        0x01 port_flags: u8 = "port flags",
        0x02 phy_flags: u8 = "phy flags",
        0x03 max_min_link_rate: u8 = "greatest rate in 7:4, least in 3:0",
        0x04 controller_phy_device_info: U32 = "what the controller shall be here",
        0x08 max_target_port_connect_time: U16 = "longest connection, 100 microseconds",
        0x0a reserved_0a: U16 = "reserved",
    }

    /// SAS phy page 0.
    pub struct SasPhy0: 0x24 {
        0x00 header: ExtPageHeader = "header",
        0x08 owner_dev_handle: U16 = "handle of the device the phy is part of",
        0x0a reserved_0a: U16 = "reserved",
        0x0c sas_address: U64 = "SAS address of the neighbour",
        0x14 attached_dev_handle: U16 = "handle of the neighbour",
        0x16 attached_phy_identifier: u8 = "the neighbour's phy",
        0x17 reserved_17: u8 = "reserved",
        0x18 attached_device_info: U32 = "what the neighbour is",
        0x1c programmed_link_rate: u8 = "greatest rate in 7:4, least in 3:0",
        0x1d hw_link_rate: u8 = "the hardware's greatest and least",
        0x1e change_count: u8 = "changes seen",
        0x1f flags: u8 = "flags",
        0x20 phy_info: U32 = "state; negotiated rate in 3:0",
    }

    /// SAS device page 0.
    pub struct SasDevice0: 0x24 {
        0x00 header: ExtPageHeader = "header",
        0x08 slot: U16 = "slot in the enclosure",
        0x0a enclosure_handle: U16 = "handle of the enclosure",
        0x0c sas_address: U64 = "SAS address",
        0x14 parent_dev_handle: U16 = "handle of the expander or controller before it",
        0x16 phy_num: u8 = "phy of the parent",
        0x17 access_status: u8 = "see [`AccessStatus`](super::AccessStatus)",
        0x18 dev_handle: U16 = "the device's handle",
        0x1a target_id: u8 = "target id for SCSI IO",
        0x1b bus: u8 = "bus for SCSI IO",
        0x1c device_info: U32 = "see [`DeviceInfo`](super::DeviceInfo)",
        0x20 flags: U16 = "see [`DeviceFlags`](super::DeviceFlags); 0x0002: mapped",
        0x22 physical_port: u8 = "port of the controller",
        0x23 reserved_23: u8 = "reserved",
    }

    /// SAS enclosure page 0.
    pub struct SasEnclosure0: 0x28 {
        0x00 header: ExtPageHeader = "header",
        0x08 reserved_08: U32 = "reserved",
        0x0c enclosure_logical_id: U64 = "identity",
        0x14 flags: U16 = "how it is managed",
        0x16 enclosure_handle: U16 = "handle",
        0x18 num_slots: U16 = "number of slots",
        0x1a start_slot: U16 = "first slot",
        0x1c start_target_id: u8 = "first target id",
        0x1d start_bus: u8 = "first bus",
        0x1e sep_target_id: u8 = "target id of its processor",
        0x1f sep_bus: u8 = "bus of its processor",
        0x20 reserved_20: U32 = "reserved",
        0x24 reserved_24: U32 = "reserved",
    }

    /// SAS expander page 0.
    pub struct SasExpander0: 0x24 {
        0x00 header: ExtPageHeader = "header",
        0x08 physical_port: u8 = "port of the controller",
        0x09 reserved_09: u8 = "reserved",
        0x0a enclosure_handle: U16 = "handle of its enclosure",
        0x0c sas_address: U64 = "SAS address",
        0x14 discovery_status: U32 = "what went wrong in discovery",
        0x18 dev_handle: U16 = "handle",
        0x1a parent_dev_handle: U16 = "handle of the device before it",
        0x1c expander_change_count: U16 = "changes seen",
        0x1e expander_route_indexes: U16 = "route table size per phy",
        0x20 num_phys: u8 = "number of phys",
        0x21 sas_level: u8 = "distance from the controller",
        0x22 flags: u8 = "flags",
        0x23 reserved_23: u8 = "reserved",
    }
}
