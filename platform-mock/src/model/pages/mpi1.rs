//! Configuration pages of MPI 1.x (mpi_cnfg.h): each page that QEMU's device has, of the same length
//! and version; those that no driver reads hold zeros.
//!
//! Where QEMU's device says what no card says, and mptsas would not find a disk that is plugged in
//! later, these are a card's: each phy of the controller is a device of its own, with a handle from
//! 1 on, which the phy's pages name as their owner and the disks name as their parent; QEMU's names
//! the disk as the owner of the phy that it hangs from. And there are enclosures and an expander, of
//! which QEMU's knows nothing.

mod fabric;

use super::{CONTROLLER_SAS_ADDRESS, NoPage, Page, device_info, enclosure_0, kind, rate};
use crate::model::chip::Chip;
use crate::model::devices::Devices;

/// Builds page `number` of type `page_kind` at `address`.
pub(super) fn build(
    chip: &Chip,
    devices: &Devices,
    page_kind: u8,
    number: u8,
    address: u32,
) -> Result<Page, NoPage> {
    let page = |version| Page::new(page_kind, number, version);
    let built = match (page_kind, number) {
        (kind::MANUFACTURING, 2 | 3) => page(0).u16(chip.device_id).zeros_to(12),
        (kind::MANUFACTURING, 5) => page(2).u64(CONTROLLER_SAS_ADDRESS).zeros_to(24),
        (kind::IO_UNIT, 0) => page(0).u64(CONTROLLER_SAS_ADDRESS),
        // Single function, RAID disabled.
        (kind::IO_UNIT, 1) => page(2).u32(0x41),
        // A BIOS of version 1, as QEMU's; no order of adapters.
        (kind::IO_UNIT, 2) => page(2).u32(0).u32(0x100).zeros_to(32),
        (kind::IOC, 0) => page(1)
            .zeros_to(0x0c)
            .u16(0x1000)
            .u16(chip.device_id)
            .u32(0)
            // The class, where QEMU's device has it: one byte below a card's.
            .u32(0x0100)
            .u16(0x1000)
            .u16(0x8000),
        (kind::IOC, 1) => page(3).zeros_to(16),
        (kind::SAS_IO_UNIT, 0) => fabric::sas_io_unit_0(chip, devices, page(4)),
        (kind::SAS_IO_UNIT, 1) => sas_io_unit_1(chip, devices, page(7)),
        (kind::SAS_DEVICE, 0) => fabric::sas_device_0(devices, address, page(5))?,
        (kind::SAS_DEVICE, 1) => fabric::sas_device_1(devices, address, page(0))?,
        (kind::SAS_DEVICE, 2) => fabric::sas_device_2(devices, address, page(1))?,
        (kind::SAS_PHY, 0) => fabric::sas_phy_0(chip, devices, address, page(1))?,
        (kind::SAS_PHY, 1) => {
            super::phy_at(chip, address).ok_or(NoPage::Number)?;
            page(1).zeros_to(28)
        }
        (kind::SAS_EXPANDER, 0) => fabric::expander_0(devices, address, page(3))?,
        (kind::SAS_EXPANDER, 1) => fabric::expander_1(chip, devices, address, page(1))?,
        (kind::ENCLOSURE, 0) => enclosure_0(devices, address, page(1))?,
        _ => {
            let (version, bytes) = zero_page(page_kind, number)?;
            page(version).zeros_to(bytes)
        }
    };
    Ok(built)
}

/// Version and length of the pages that hold zeros.
fn zero_page(page_kind: u8, number: u8) -> Result<(u8, usize), NoPage> {
    let found = match (page_kind, number) {
        (kind::MANUFACTURING, 1) => (0, 260),
        (kind::MANUFACTURING, 4) => (5, 112),
        (kind::MANUFACTURING, 6 | 8 | 9 | 10) => (0, 8),
        (kind::MANUFACTURING, 7) => (0, 36),
        (kind::IO_UNIT, 3) => (1, 12),
        (kind::IO_UNIT, 4) => (0, 20),
        // No RAID volumes and no physical disks of any.
        (kind::IOC, 2) => (4, 12),
        (kind::IOC, 3 | 4) => (0, 8),
        (kind::IOC, 5) => (0, 12),
        (kind::IOC, 6) => (1, 60),
        (kind::SAS_IO_UNIT, 2) => (6, 20),
        (kind::SAS_IO_UNIT, 3) => (6, 44),
        (kind::MANUFACTURING | kind::IO_UNIT | kind::IOC, _) => return Err(NoPage::Number),
        (kind::SAS_IO_UNIT | kind::SAS_DEVICE | kind::SAS_PHY, _) => return Err(NoPage::Number),
        (kind::SAS_EXPANDER | kind::ENCLOSURE, _) => return Err(NoPage::Number),
        _ => return Err(NoPage::Type),
    };
    Ok(found)
}

fn sas_io_unit_1(chip: &Chip, devices: &Devices, page: Page) -> Page {
    let mut page = page.u64(0).u8(chip.phys).zeros_to(20);
    for phy in 0..chip.phys {
        let attached = devices.slot(phy).map_or(0, device_info);
        let port = devices.port(phy);
        page = page.u8(port).u8(0).u8(0).u8(rate(chip) << 4 | 0x08).u32(attached).u32(0);
    }
    page
}
