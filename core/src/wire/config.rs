//! Configuration requests: how pages are named, read and written (mpi_cnfg.h, mpi2_cnfg.h).
//!
//! A page is read in two steps: [`Action::PAGE_HEADER`] asks for its version and length, then
//! [`Action::PAGE_READ_CURRENT`] fetches it into the buffer of the one SGE at 0x1C. The pages
//! themselves are in [`pages`].

pub mod pages;

use super::layout;
use crate::codes::codes;

codes! {
    /// Action of a config request.
    #[derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::KnownLayout,
        zerocopy::Immutable,
        zerocopy::Unaligned,
    )]
    pub struct Action(u8) {
        PAGE_HEADER = 0x00, "page header";
        PAGE_READ_CURRENT = 0x01, "read current page";
        PAGE_WRITE_CURRENT = 0x02, "write current page";
        PAGE_DEFAULT = 0x03, "restore default page";
        PAGE_WRITE_NVRAM = 0x04, "write page to NVRAM";
        PAGE_READ_DEFAULT = 0x05, "read default page";
        PAGE_READ_NVRAM = 0x06, "read page from NVRAM";
        PAGE_GET_CHANGEABLE = 0x07, "read changeable mask (MPI 2.x)";
    }
}

codes! {
    /// PageType of a page header, low nibble; the high one holds the page's attribute.
    pub struct PageType(u8 & 0x0f) {
        IO_UNIT = 0x00, "IO unit";
        IOC = 0x01, "IOC";
        BIOS = 0x02, "BIOS";
        SCSI_PORT = 0x03, "SCSI port";
        SCSI_DEVICE = 0x04, "SCSI device";
        FC_PORT = 0x05, "FC port";
        FC_DEVICE = 0x06, "FC device";
        LAN = 0x07, "LAN";
        RAID_VOLUME = 0x08, "RAID volume";
        MANUFACTURING = 0x09, "manufacturing";
        RAID_PHYS_DISK = 0x0a, "RAID physical disk";
        EXTENDED = 0x0f, "extended";
    }
}

codes! {
    /// ExtPageType of an extended page.
    pub struct ExtPageType(u8) {
        SAS_IO_UNIT = 0x10, "SAS IO unit";
        SAS_EXPANDER = 0x11, "SAS expander";
        SAS_DEVICE = 0x12, "SAS device";
        SAS_PHY = 0x13, "SAS phy";
        LOG = 0x14, "log";
        ENCLOSURE = 0x15, "enclosure";
        RAID_CONFIG = 0x16, "RAID configuration";
        DRIVER_MAPPING = 0x17, "driver mapping";
        SAS_PORT = 0x18, "SAS port";
        ETHERNET = 0x19, "Ethernet";
        EXT_MANUFACTURING = 0x1a, "extended manufacturing";
        PCIE_IO_UNIT = 0x1b, "PCIe IO unit";
        PCIE_SWITCH = 0x1c, "PCIe switch";
        PCIE_DEVICE = 0x1d, "PCIe device";
        PCIE_LINK = 0x1e, "PCIe link";
    }
}

layout! {
    /// Header of a page and part of every config message (MPI2_CONFIG_PAGE_HEADER).
    pub struct PageHeader: 0x04 {
        0x00 page_version: u8 = "version of the page's layout",
        0x01 page_length: u8 = "length in dwords, header included; reserved in extended pages",
        0x02 page_number: u8 = "page number",
        0x03 page_type: u8 = "[`PageType`] in the low nibble, attribute in the high one",
    }

    /// Header of an extended page (MPI2_CONFIG_EXTENDED_PAGE_HEADER).
    pub struct ExtPageHeader: 0x08 {
        0x00 page_version: u8 = "version of the page's layout",
        0x01 reserved_01: u8 = "reserved",
        0x02 page_number: u8 = "page number",
        0x03 page_type: u8 = "[`PageType::EXTENDED`] and the attribute",
        0x04 ext_page_length: super::U16 = "length in dwords, header included",
        0x06 ext_page_type: u8 = "see [`ExtPageType`]",
        0x07 reserved_07: u8 = "reserved",
    }
}

/// Attribute in a page type's high nibble: the host may change the page until the next reset.
pub const PAGE_ATTRIBUTE_CHANGEABLE: u8 = 0x10;
/// Attribute in a page type's high nibble: changes outlive a reset.
pub const PAGE_ATTRIBUTE_PERSISTENT: u8 = 0x20;

/// Which page: what a config request has to be told besides its action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageId {
    /// The type; [`PageType::EXTENDED`] if `ext_page_type` counts.
    pub page_type: PageType,
    /// The extended type, 0 for a plain page.
    pub ext_page_type: ExtPageType,
    /// The page number within the type.
    pub number: u8,
}

impl PageId {
    /// A plain page.
    #[must_use]
    pub const fn plain(page_type: PageType, number: u8) -> Self {
        Self { page_type, ext_page_type: ExtPageType(0), number }
    }

    /// An extended page.
    #[must_use]
    pub const fn extended(ext_page_type: ExtPageType, number: u8) -> Self {
        Self { page_type: PageType::EXTENDED, ext_page_type, number }
    }

    /// Whether the page has an extended header.
    #[must_use]
    pub const fn is_extended(self) -> bool {
        self.page_type.0 & 0x0f == PageType::EXTENDED.0
    }

    /// The kind of page in words: the extended type's name if it is an extended page.
    #[must_use]
    pub const fn name(self) -> &'static str {
        if self.is_extended() { self.ext_page_type.name() } else { self.page_type.name() }
    }
}

impl core::fmt::Display for PageId {
    /// For example `SAS device page 0`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} page {}", self.name(), self.number)
    }
}

/// PageAddress forms: which of several instances of a page is meant.
///
/// The form is in bits 31:28. A walk starts at handle 0xFFFF and ends with
/// [`CONFIG_INVALID_PAGE`](super::IocStatus::CONFIG_INVALID_PAGE), which is no error.
pub mod page_address {
    /// The handle from which a walk starts.
    pub const FIRST: u16 = 0xffff;

    /// SAS device, enclosure or expander: the one with the next handle after `handle`.
    #[must_use]
    pub const fn next_handle(handle: u16) -> u32 {
        handle as u32
    }

    /// SAS device with this handle.
    #[must_use]
    pub const fn sas_device(handle: u16) -> u32 {
        0x2000_0000 | handle as u32
    }

    /// SAS device at this bus and target id (MPI 1.x only).
    #[must_use]
    pub const fn sas_device_at(bus: u8, target_id: u8) -> u32 {
        0x1000_0000 | (bus as u32) << 8 | target_id as u32
    }

    /// SAS phy by its number on the controller.
    #[must_use]
    pub const fn sas_phy(number: u8) -> u32 {
        number as u32
    }

    /// SAS phy by its place in the IOC's table.
    #[must_use]
    pub const fn sas_phy_index(index: u16) -> u32 {
        0x1000_0000 | index as u32
    }

    /// Enclosure with this handle.
    #[must_use]
    pub const fn enclosure(handle: u16) -> u32 {
        0x1000_0000 | handle as u32
    }

    /// Expander with this handle.
    #[must_use]
    pub const fn expander(handle: u16) -> u32 {
        0x2000_0000 | handle as u32
    }

    /// One phy of the expander with this handle (expander page 1).
    #[must_use]
    pub const fn expander_phy(handle: u16, phy: u8) -> u32 {
        0x1000_0000 | (phy as u32) << 16 | handle as u32
    }

    /// RAID volume with this handle (MPI 2.x).
    #[must_use]
    pub const fn raid_volume(handle: u16) -> u32 {
        0x1000_0000 | handle as u32
    }

    /// RAID volume at this bus and target id (MPI 1.x).
    #[must_use]
    pub const fn raid_volume_at(bus: u8, target_id: u8) -> u32 {
        (bus as u32) << 8 | target_id as u32
    }

    /// RAID physical disk by its number (MPI 2.x form 1; MPI 1.x takes the number alone).
    #[must_use]
    pub const fn raid_phys_disk(number: u8) -> u32 {
        0x1000_0000 | number as u32
    }
}

/// Config messages of MPI 1.x.
pub mod mpi1 {
    use super::super::{Function, U16, U32};
    use super::{Action, PageHeader, layout};

    layout! {
        /// Config request (MSG_CONFIG) up to its one SGE at 0x1C.
        pub struct ConfigRequest: 0x1c {
            0x00 action: Action = "what to do",
            0x01 reserved_01: u8 = "reserved",
            0x02 chain_offset: u8 = "0",
            0x03 function: Function = "[`Function::CONFIG`]",
            0x04 ext_page_length: U16 = "extended page: length in dwords",
            0x06 ext_page_type: u8 = "extended page: [`ExtPageType`](super::ExtPageType)",
            0x07 msg_flags: u8 = "0",
            0x08 msg_context: U32 = "the host's token",
            0x0c reserved_0c: [u8; 8] = "reserved",
            0x14 header: PageHeader = "the page; all of it as last read, but for the header action",
            0x18 page_address: U32 = "which instance, see [`page_address`](super::page_address)",
        }

        /// Config reply (MSG_CONFIG_REPLY).
        pub struct ConfigReply: 0x18 {
            0x00 action: Action = "as in the request",
            0x01 reserved_01: u8 = "reserved",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "[`Function::CONFIG`]",
            0x04 ext_page_length: U16 = "extended page: length in dwords",
            0x06 ext_page_type: u8 = "extended page: its type",
            0x07 msg_flags: u8 = "0",
            0x08 msg_context: U32 = "the request's token",
            0x0c reserved_0c: [u8; 2] = "reserved",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
            0x14 header: PageHeader = "the page's header",
        }
    }
}

/// Config messages of MPI 2.x.
pub mod mpi2 {
    use super::super::{Function, U16, U32};
    use super::{Action, PageHeader, layout};

    layout! {
        /// Config request (MPI2_CONFIG_REQUEST) up to its one SGE at 0x1C: an MPI element, also
        /// on 2.5 and 2.6.
        pub struct ConfigRequest: 0x1c {
            0x00 action: Action = "what to do",
            0x01 sgl_flags: u8 = "SGL type; 0: MPI element in host memory",
            0x02 chain_offset: u8 = "0",
            0x03 function: Function = "[`Function::CONFIG`]",
            0x04 ext_page_length: U16 = "extended page: length in dwords",
            0x06 ext_page_type: u8 = "extended page: [`ExtPageType`](super::ExtPageType)",
            0x07 msg_flags: u8 = "0",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c reserved_0c: u8 = "reserved",
            0x0d proxy_vf_id: u8 = "virtual function asked for, 0",
            0x0e reserved_0e: U16 = "reserved",
            0x10 reserved_10: U32 = "reserved",
            0x14 header: PageHeader = "the page; all of it as last read, but for the header action",
            0x18 page_address: U32 = "which instance, see [`page_address`](super::page_address)",
        }

        /// Config reply (MPI2_CONFIG_REPLY).
        pub struct ConfigReply: 0x18 {
            0x00 action: Action = "as in the request",
            0x01 sgl_flags: u8 = "as in the request",
            0x02 msg_length: u8 = "length in dwords",
            0x03 function: Function = "[`Function::CONFIG`]",
            0x04 ext_page_length: U16 = "extended page: length in dwords",
            0x06 ext_page_type: u8 = "extended page: its type",
            0x07 msg_flags: u8 = "0",
            0x08 vp_id: u8 = "virtual port",
            0x09 vf_id: u8 = "virtual function",
            0x0a reserved_0a: U16 = "reserved",
            0x0c reserved_0c: U16 = "reserved",
            0x0e ioc_status: U16 = "IOCStatus",
            0x10 ioc_log_info: U32 = "IOCLogInfo",
            0x14 header: PageHeader = "the page's header",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_addresses_have_their_form_in_the_top_nibble() {
        assert_eq!(page_address::next_handle(page_address::FIRST), 0x0000_ffff);
        assert_eq!(page_address::sas_device(9), 0x2000_0009);
        assert_eq!(page_address::sas_device_at(1, 2), 0x1000_0102);
        assert_eq!(page_address::expander_phy(0x0a, 3), 0x1003_000a);
        assert_eq!(page_address::enclosure(1), 0x1000_0001);
    }

    #[test]
    fn pages_are_named_for_people() {
        assert_eq!(
            std::format!("{}", PageId::extended(ExtPageType::SAS_DEVICE, 0)),
            "SAS device page 0"
        );
        assert_eq!(std::format!("{}", PageId::plain(PageType(0x21), 8)), "IOC page 8");
    }
}
