//! Configuration requests and replies, and the pages that this driver reads (mpi_cnfg.h,
//! mpi2_cnfg.h).

use super::{Function, U16, U32, U64, layout};
use crate::codes::codes;

codes! {
    /// Action of a configuration request (`MPI2_CONFIG_ACTION_*`; the same on MPI1).
    #[derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::KnownLayout,
        zerocopy::Immutable,
        zerocopy::Unaligned,
    )]
    pub struct Action(u8) {
        PAGE_HEADER = 0x00, "header";
        PAGE_READ_CURRENT = 0x01, "read current";
        PAGE_WRITE_CURRENT = 0x02, "write current";
        PAGE_DEFAULT = 0x03, "default";
        PAGE_WRITE_NVRAM = 0x04, "write NVRAM";
        PAGE_READ_DEFAULT = 0x05, "read default";
        PAGE_READ_NVRAM = 0x06, "read NVRAM";
    }
}

layout! {
    /// The header of a page (CONFIG_PAGE_HEADER, MPI2_CONFIG_PAGE_HEADER).
    pub struct PageHeader: 0x04 {
        0x00 page_version: u8 = "version",
        0x01 page_length: u8 = "length in dwords, 0 for an extended page",
        0x02 page_number: u8 = "number",
        0x03 page_type: u8 = "type, bits 3:0; attributes, bits 7:4",
    }

    /// The header of an extended page (CONFIG_EXTENDED_PAGE_HEADER).
    pub struct ExtendedPageHeader: 0x08 {
        0x00 page_version: u8 = "version",
        0x01 reserved_01: u8 = "0",
        0x02 page_number: u8 = "number",
        0x03 page_type: u8 = "0x0F: extended",
        0x04 ext_page_length: U16 = "length in dwords",
        0x06 ext_page_type: u8 = "extended type",
        0x07 reserved_07: u8 = "reserved",
    }

    /// Manufacturing page 0; the same on both generations.
    pub struct ManufacturingPage0: 0x4c {
        0x00 header: PageHeader = "header",
        0x04 chip_name: [u8; 16] = "chip",
        0x14 chip_revision: [u8; 8] = "its revision",
        0x1c board_name: [u8; 16] = "board",
        0x2c board_assembly: [u8; 16] = "its assembly",
        0x3c board_tracer_number: [u8; 16] = "its serial number",
    }

    /// IOC page 0; MPI1's first two words are sizes of NVRAM.
    pub struct IocPage0: 0x1c {
        0x00 header: PageHeader = "header",
        0x04 total_nv_store: U32 = "MPI1: bytes of NVRAM; MPI2: reserved",
        0x08 free_nv_store: U32 = "MPI1: bytes of it free; MPI2: reserved",
        0x0c vendor_id: U16 = "PCI vendor",
        0x0e device_id: U16 = "PCI device",
        0x10 revision_id: u8 = "PCI revision",
        0x11 reserved_11: [u8; 3] = "reserved",
        0x14 class_code: U32 = "PCI class",
        0x18 subsystem_vendor_id: U16 = "PCI subsystem vendor",
        0x1a subsystem_id: U16 = "PCI subsystem",
    }

    /// The front of SAS enclosure page 0; the same on both generations.
    pub struct SasEnclosurePage0: 0x20 {
        0x00 header: ExtendedPageHeader = "header",
        0x08 reserved_08: U32 = "reserved",
        0x0c enclosure_logical_id: U64 = "logical id (WWN)",
        0x14 flags: U16 = "how it is managed",
        0x16 enclosure_handle: U16 = "handle",
        0x18 num_slots: U16 = "slots",
        0x1a start_slot: U16 = "first slot",
        0x1c chassis_slot: u8 = "MPI2: chassis slot",
        0x1d enclosure_level: u8 = "MPI2: level",
        0x1e sep_dev_handle: U16 = "MPI2: DevHandle of its processor",
    }
}

/// MPI 1.x.
pub mod mpi1 {
    use super::{Action, ExtendedPageHeader, Function, PageHeader, U16, U32, U64, layout};

    layout! {
        /// Configuration request (MSG_CONFIG) with one 64-bit element.
        pub struct ConfigRequest: 0x28 {
            0x00 action: Action = "what to do",
            0x01 reserved_01: u8 = "reserved",
            0x02 chain_offset: u8 = "0",
            0x03 function: Function = "[`Function::CONFIG`]",
            0x04 ext_page_length: U16 = "length of an extended page in dwords",
            0x06 ext_page_type: u8 = "type of an extended page",
            0x07 msg_flags: u8 = "0",
            0x08 msg_context: U32 = "the host's token",
            0x0c reserved_0c: [u8; 8] = "reserved",
            0x14 header: PageHeader = "the page",
            0x18 page_address: U32 = "which of several",
            0x1c sge_flags_length: U32 = "page buffer: flags and length",
            0x20 sge_address: U64 = "page buffer: address",
        }

        /// Configuration reply (MSG_CONFIG_REPLY).
        pub struct ConfigReply: 0x18 {
            0x00 action: Action = "as in the request",
            0x01 reserved_01: u8 = "reserved",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "[`Function::CONFIG`]",
            0x04 ext_page_length: U16 = "length of an extended page in dwords",
            0x06 ext_page_type: u8 = "type of an extended page",
            0x07 msg_flags: u8 = "0",
            0x08 msg_context: U32 = "the request's token",
            0x0c reserved_0c: [u8; 2] = "reserved",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
            0x14 header: PageHeader = "the page",
        }

        /// SAS device page 0 (CONFIG_PAGE_SAS_DEVICE_0).
        pub struct SasDevicePage0: 0x24 {
            0x00 header: ExtendedPageHeader = "header",
            0x08 slot: U16 = "slot in the enclosure",
            0x0a enclosure_handle: U16 = "enclosure",
            0x0c sas_address: U64 = "SAS address (WWN)",
            0x14 parent_dev_handle: U16 = "what it hangs on",
            0x16 phy_num: u8 = "phy of the parent",
            0x17 access_status: u8 = "0: no errors",
            0x18 dev_handle: U16 = "DevHandle",
            0x1a target_id: u8 = "target id",
            0x1b bus: u8 = "bus",
            0x1c device_info: U32 = "what kind of device",
            0x20 flags: U16 = "0x0001: present",
            0x22 physical_port: u8 = "port of the controller",
            0x23 reserved_23: u8 = "reserved",
        }

        /// The front of SAS IO unit page 0 (CONFIG_PAGE_SAS_IO_UNIT_0); its phys follow.
        pub struct SasIoUnitPage0: 0x10 {
            0x00 header: ExtendedPageHeader = "header",
            0x08 nvdata_version_default: U16 = "NVDATA version, default",
            0x0a nvdata_version_persistent: U16 = "NVDATA version, stored",
            0x0c num_phys: u8 = "phys",
            0x0d reserved_0d: u8 = "reserved",
            0x0e reserved_0e: U16 = "reserved",
        }

        /// One phy of it (MPI_SAS_IO_UNIT0_PHY_DATA).
        pub struct SasIoUnit0Phy: 0x10 {
            0x00 port: u8 = "port",
            0x01 port_flags: u8 = "port flags",
            0x02 phy_flags: u8 = "phy flags",
            0x03 negotiated_link_rate: u8 = "8: 1.5, 9: 3.0 Gb/s; 2: failed",
            0x04 controller_phy_device_info: U32 = "what the phy does",
            0x08 attached_device_handle: U16 = "what is attached",
            0x0a controller_dev_handle: U16 = "the controller's own handle",
            0x0c discovery_status: U32 = "discovery",
        }
    }
}

/// MPI 2.x.
pub mod mpi2 {
    use super::{Action, ExtendedPageHeader, Function, PageHeader, U16, U32, U64, layout};

    layout! {
        /// Configuration request (MPI2_CONFIG_REQUEST) with one MPI 64-bit element, on 2.5 too.
        pub struct ConfigRequest: 0x28 {
            0x00 action: Action = "what to do",
            0x01 sgl_flags: u8 = "0: MPI elements, system addresses",
            0x02 chain_offset: u8 = "0",
            0x03 function: Function = "[`Function::CONFIG`]",
            0x04 ext_page_length: U16 = "length of an extended page in dwords",
            0x06 ext_page_type: u8 = "type of an extended page",
            0x07 msg_flags: u8 = "0",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c reserved_0c: u8 = "reserved",
            0x0d proxy_vf_id: u8 = "0",
            0x0e reserved_0e: U16 = "reserved",
            0x10 reserved_10: U32 = "reserved",
            0x14 header: PageHeader = "the page",
            0x18 page_address: U32 = "which of several",
            0x1c sge_flags_length: U32 = "page buffer: flags and length",
            0x20 sge_address: U64 = "page buffer: address",
        }

        /// Configuration reply (MPI2_CONFIG_REPLY).
        pub struct ConfigReply: 0x18 {
            0x00 action: Action = "as in the request",
            0x01 sgl_flags: u8 = "as in the request",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "[`Function::CONFIG`]",
            0x04 ext_page_length: U16 = "length of an extended page in dwords",
            0x06 ext_page_type: u8 = "type of an extended page",
            0x07 msg_flags: u8 = "0",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c reserved_0c: U16 = "reserved",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
            0x14 header: PageHeader = "the page",
        }

        /// The front of SAS device page 0 (MPI2_CONFIG_PAGE_SAS_DEV_0).
        pub struct SasDevicePage0: 0x24 {
            0x00 header: ExtendedPageHeader = "header",
            0x08 slot: U16 = "slot in the enclosure",
            0x0a enclosure_handle: U16 = "enclosure",
            0x0c sas_address: U64 = "SAS address (WWN)",
            0x14 parent_dev_handle: U16 = "what it hangs on",
            0x16 phy_num: u8 = "phy of the parent",
            0x17 access_status: u8 = "0: no errors",
            0x18 dev_handle: U16 = "DevHandle",
            0x1a attached_phy_identifier: u8 = "phy of the device",
            0x1b zone_group: u8 = "zone",
            0x1c device_info: U32 = "what kind of device",
            0x20 flags: U16 = "0x0001: present",
            0x22 physical_port: u8 = "port of the controller",
            0x23 max_port_connections: u8 = "connections",
        }

        /// The front of SAS IO unit page 0 (MPI2_CONFIG_PAGE_SASIOUNIT_0); its phys follow.
        pub struct SasIoUnitPage0: 0x10 {
            0x00 header: ExtendedPageHeader = "header",
            0x08 reserved_08: U32 = "reserved",
            0x0c num_phys: u8 = "phys",
            0x0d reserved_0d: u8 = "reserved",
            0x0e reserved_0e: U16 = "reserved",
        }

        /// One phy of it (MPI2_SAS_IO_UNIT0_PHY_DATA).
        pub struct SasIoUnit0Phy: 0x14 {
            0x00 port: u8 = "port",
            0x01 port_flags: u8 = "port flags",
            0x02 phy_flags: u8 = "phy flags",
            0x03 negotiated_link_rate: u8 = "8: 1.5, 9: 3, A: 6, B: 12 Gb/s",
            0x04 controller_phy_device_info: U32 = "what the phy does",
            0x08 attached_dev_handle: U16 = "what is attached",
            0x0a controller_dev_handle: U16 = "the controller's own handle",
            0x0c discovery_status: U32 = "discovery",
            0x10 reserved_10: U32 = "reserved",
        }
    }
}
