//! Pages as MPI 2.x lays them out (mpi2_cnfg.h).

use super::super::super::{U16, U32, U64, layout};
use super::super::{ExtPageHeader, PageHeader};
use crate::wire::ioc::Version;

layout! {
    /// IO unit page 0.
    pub struct IoUnit0: 0x14 {
        0x00 header: PageHeader = "header",
        0x04 unique_value: U64 = "the controller's world-wide unique number",
        0x0c nvdata_version_default: Version = "default NVDATA version",
        0x10 nvdata_version_persistent: Version = "NVDATA version in use",
    }

    /// IOC page 1: interrupt coalescing.
    pub struct Ioc1: 0x18 {
        0x00 header: PageHeader = "header",
        0x04 flags: U32 = "see [`IOC1_REPLY_COALESCING`](super::IOC1_REPLY_COALESCING)",
        0x08 coalescing_timeout: U32 = "longest wait in microseconds",
        0x0c coalescing_depth: u8 = "most replies gathered",
        0x0d pci_slot_num: u8 = "PCI slot, 0xFF unknown",
        0x0e pci_bus_num: u8 = "PCI bus, 0xFF unknown",
        0x0f pci_domain_segment: u8 = "PCI segment, 0xFF unknown",
        0x10 reserved_10: U32 = "reserved",
        0x14 product_specific: U32 = "which reply queues coalesce (2.6)",
    }

    /// IOC page 8: how devices are mapped to ids.
    pub struct Ioc8: 0x18 {
        0x00 header: PageHeader = "header",
        0x04 num_devs_per_enclosure: u8 = "ids kept per enclosure",
        0x05 reserved_05: u8 = "reserved",
        0x06 reserved_06: U16 = "reserved",
        0x08 max_persistent_entries: U16 = "most persistent mappings",
        0x0a max_num_physical_mapped_ids: U16 = "most ids of physical devices",
        0x0c flags: U16 = "mapping mode",
        0x0e reserved_0e: U16 = "reserved",
        0x10 ir_volume_mapping_flags: U16 = "where volumes are mapped: 0 low ids, 1 high ids",
        0x12 reserved_12: U16 = "reserved",
        0x14 reserved_14: U32 = "reserved",
    }

    /// BIOS page 3 up to the BIOS version.
    pub struct Bios3: 0x0c {
        0x00 header: PageHeader = "header",
        0x04 global_flags: U32 = "flags",
        0x08 bios_version: Version = "version of the option ROM, 0 without",
    }

    /// SAS IO unit page 0, fixed part; [`SasIoUnit0Phy`] entries follow at 0x10.
    pub struct SasIoUnit0: 0x10 {
        0x00 header: ExtPageHeader = "header",
        0x08 reserved_08: U32 = "reserved",
        0x0c num_phys: u8 = "number of entries",
        0x0d reserved_0d: u8 = "reserved",
        0x0e reserved_0e: U16 = "reserved",
    }

    /// A phy of SAS IO unit page 0.
    pub struct SasIoUnit0Phy: 0x14 {
        0x00 port: u8 = "port the phy belongs to",
        0x01 port_flags: u8 = "0x08: discovery in progress",
        0x02 phy_flags: u8 = "0x08: disabled",
        0x03 negotiated_link_rate: u8 = "see [`LinkRate`](super::LinkRate)",
        0x04 controller_phy_device_info: U32 = "what the controller is here",
        0x08 attached_dev_handle: U16 = "handle of the neighbour, 0 without",
        0x0a controller_dev_handle: U16 = "handle of the controller",
        0x0c discovery_status: U32 = "what went wrong in discovery",
        0x10 reserved_10: U32 = "reserved",
    }

    /// SAS IO unit page 1, fixed part; [`SasIoUnit1Phy`] entries follow at 0x14.
    pub struct SasIoUnit1: 0x14 {
        0x00 header: ExtPageHeader = "header",
        0x08 control_flags: U16 = "control flags",
        0x0a sas_narrow_max_queue_depth: U16 = "queue depth of narrow SAS devices, 0: no limit",
        0x0c additional_control_flags: U16 = "more control flags",
        0x0e sas_wide_max_queue_depth: U16 = "queue depth of wide SAS devices, 0: no limit",
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
    pub struct SasPhy0: 0x20 {
        0x00 header: ExtPageHeader = "header",
        0x08 owner_dev_handle: U16 = "handle of the device the phy is part of",
        0x0a reserved_0a: U16 = "reserved",
        0x0c attached_dev_handle: U16 = "handle of the neighbour",
        0x0e attached_phy_identifier: u8 = "the neighbour's phy",
        0x0f reserved_0f: u8 = "reserved",
        0x10 attached_phy_info: U32 = "why the neighbour's link came up",
        0x14 programmed_link_rate: u8 = "greatest rate in 7:4, least in 3:0",
        0x15 hw_link_rate: u8 = "the hardware's greatest and least",
        0x16 change_count: u8 = "changes seen",
        0x17 flags: u8 = "flags",
        0x18 phy_info: U32 = "state and routing",
        0x1c negotiated_link_rate: u8 = "see [`LinkRate`](super::LinkRate)",
        0x1d reserved_1d: u8 = "reserved",
        0x1e reserved_1e: U16 = "reserved",
    }

    /// SAS device page 0. (mpi2_cnfg.h declares the connector name as four dwords, but its offsets
    /// count it as four bytes, and so do readers of it.)
    pub struct SasDevice0: 0x38 {
        0x00 header: ExtPageHeader = "header",
        0x08 slot: U16 = "slot in the enclosure",
        0x0a enclosure_handle: U16 = "handle of the enclosure",
        0x0c sas_address: U64 = "SAS address",
        0x14 parent_dev_handle: U16 = "handle of the expander or controller before it",
        0x16 phy_num: u8 = "phy of the parent",
        0x17 access_status: u8 = "see [`AccessStatus`](super::AccessStatus)",
        0x18 dev_handle: U16 = "the device's handle",
        0x1a attached_phy_identifier: u8 = "the device's own phy",
        0x1b zone_group: u8 = "zone group",
        0x1c device_info: U32 = "see [`DeviceInfo`](super::DeviceInfo)",
        0x20 flags: U16 = "see [`DeviceFlags`](super::DeviceFlags)",
        0x22 physical_port: u8 = "port of the controller",
        0x23 max_port_connections: u8 = "most connections at once",
        0x24 device_name: U64 = "world-wide device name",
        0x2c port_groups: u8 = "port groups",
        0x2d dma_group: u8 = "DMA group",
        0x2e control_group: u8 = "control group",
        0x2f enclosure_level: u8 = "enclosure level, if flag 0x0002 says so",
        0x30 connector_name: [u8; 4] = "connector, ASCII",
        0x34 reserved_34: U32 = "reserved",
    }

    /// Enclosure page 0.
    pub struct Enclosure0: 0x28 {
        0x00 header: ExtPageHeader = "header",
        0x08 reserved_08: U32 = "reserved",
        0x0c enclosure_logical_id: U64 = "identity",
        0x14 flags: U16 = "how it is managed; 0x0010: level valid; 0x0020: chassis slot valid",
        0x16 enclosure_handle: U16 = "handle",
        0x18 num_slots: U16 = "number of slots",
        0x1a start_slot: U16 = "first slot",
        0x1c chassis_slot: u8 = "slot of the enclosure in its chassis",
        0x1d enclosure_level: u8 = "level",
        0x1e sep_dev_handle: U16 = "handle of its processor, 0 without",
        0x20 oem_rd: u8 = "vendor's",
        0x21 reserved_21: u8 = "reserved",
        0x22 reserved_22: U16 = "reserved",
        0x24 reserved_24: U32 = "reserved",
    }

    /// SAS expander page 0.
    pub struct SasExpander0: 0x3c {
        0x00 header: ExtPageHeader = "header",
        0x08 physical_port: u8 = "port of the controller",
        0x09 report_gen_length: u8 = "length of its REPORT GENERAL answer",
        0x0a enclosure_handle: U16 = "handle of its enclosure",
        0x0c sas_address: U64 = "SAS address",
        0x14 discovery_status: U32 = "what went wrong in discovery",
        0x18 dev_handle: U16 = "handle",
        0x1a parent_dev_handle: U16 = "handle of the device before it",
        0x1c expander_change_count: U16 = "changes seen",
        0x1e expander_route_indexes: U16 = "route table size per phy",
        0x20 num_phys: u8 = "number of phys",
        0x21 sas_level: u8 = "distance from the controller",
        0x22 flags: U16 = "flags",
        0x24 stp_bus_inactivity_time_limit: U16 = "STP bus inactivity limit, 100 microseconds",
        0x26 stp_max_connect_time_limit: U16 = "STP connect time limit, 100 microseconds",
        0x28 stp_smp_nexus_loss_time: U16 = "STP and SMP nexus loss time, milliseconds",
        0x2a max_num_routed_sas_addresses: U16 = "most routed SAS addresses",
        0x2c active_zone_manager_sas_address: U64 = "SAS address of the active zone manager",
        0x34 zone_lock_inactivity_limit: U16 = "zone lock inactivity limit, 100 milliseconds",
        0x36 reserved_36: U16 = "reserved",
        0x38 time_to_reduced_func: u8 = "time to reduced functionality",
        0x39 initial_time_to_reduced_func: u8 = "initial time to reduced functionality",
        0x3a max_reduced_func_time: u8 = "longest reduced functionality",
        0x3b reserved_3b: u8 = "reserved",
    }
}
