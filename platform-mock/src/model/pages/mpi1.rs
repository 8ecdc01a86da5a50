//! Configuration pages of MPI 1.x (mpi_cnfg.h): each page that QEMU's device has, of the same length
//! and version; those that no driver reads hold zeros.
//!
//! Where QEMU's device says what no card says, and mptsas would not find a disk that is plugged in
//! later, these are a card's: each phy of the controller is a device of its own, with a handle from
//! 1 on, which the phy's pages name as their owner and the disks name as their parent; QEMU's names
//! the disk as the owner of the phy that it hangs from. And there are an enclosure and, behind
//! expanders, what mptsas asks of them, of which QEMU's knows nothing.

use super::{CONTROLLER_SAS_ADDRESS, DEVICE_FLAGS, DEVICE_INFO, NO_LINK, NoPage, Page, kind, rate};
use crate::model::chip::Chip;
use crate::model::devices::{Device, Devices, ENCLOSURE_HANDLE};

/// `DeviceInfo` of the controller's own phys: an end device, initiator of SSP, STP and SMP.
const CONTROLLER_INFO: u32 = 0x0071;
/// `DeviceInfo` of a SATA disk on one of the controller's phys.
const SATA_INFO: u32 = 0x0881;
/// `Flags` of a SAS device: it is there.
const FLAG_PRESENT: u16 = 0x0001;
/// `Flags` of a SATA disk: FUA, NCQ, SMART, 48-bit addresses.
const SATA_FLAGS: u16 = 0x00f0;
/// `Flags` of an enclosure: managed by the controller's own firmware, through SGPIO.
const ENCLOSURE_SGPIO: u16 = 0x0002;

/// `DeviceInfo` of a disk.
pub(crate) fn device_info(device: &Device) -> u32 {
    if device.target.config().sata { SATA_INFO } else { DEVICE_INFO }
}

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
        (kind::SAS_IO_UNIT, 0) => sas_io_unit_0(chip, devices, page(4)),
        (kind::SAS_IO_UNIT, 1) => sas_io_unit_1(chip, devices, page(7)),
        (kind::SAS_DEVICE, 0) if own_phy(chip, address).is_some() => {
            controller_phy(own_phy(chip, address).unwrap_or(0), page(5))
        }
        (kind::SAS_DEVICE, 0..=2) => {
            let device = device_at(devices, address).ok_or(NoPage::Number)?;
            match number {
                0 => sas_device_0(device, page(5)),
                1 => sas_device_1(device, page(0)),
                _ => page(1).u64(device.target.config().sas_address).u32(0),
            }
        }
        (kind::SAS_PHY, 0) => sas_phy_0(chip, devices, address, page(1))?,
        (kind::SAS_PHY, 1) => {
            super::phy_at(chip, address).ok_or(NoPage::Number)?;
            page(1).zeros_to(28)
        }
        (kind::ENCLOSURE, 0) => enclosure_0(chip, address, page(1))?,
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
        (kind::IOC, 2) => (4, 12),
        (kind::IOC, 3 | 4) => (0, 8),
        (kind::IOC, 5) => (0, 12),
        (kind::IOC, 6) => (1, 60),
        (kind::SAS_IO_UNIT, 2) => (6, 20),
        (kind::SAS_IO_UNIT, 3) => (6, 44),
        (kind::MANUFACTURING | kind::IO_UNIT | kind::IOC, _) => return Err(NoPage::Number),
        (kind::SAS_IO_UNIT | kind::SAS_DEVICE | kind::SAS_PHY, _) => return Err(NoPage::Number),
        (kind::SAS_EXPANDER, 0 | 1) | (kind::ENCLOSURE, _) => return Err(NoPage::Number),
        _ => return Err(NoPage::Type),
    };
    Ok(found)
}

fn sas_io_unit_0(chip: &Chip, devices: &Devices, page: Page) -> Page {
    let mut page = page.u32(0).u8(chip.phys).zeros_to(0x10);
    for phy in 0..chip.phys {
        let device = devices.slot(phy);
        let handle = device.map_or(0, |device| device.handle);
        let link = if device.is_some() { rate(chip) } else { NO_LINK };
        let info = device.map_or(0, device_info);
        let owner = u16::from(phy) + 1;
        page = page.u8(phy).u8(0).u8(0).u8(link).u32(info).u16(handle).u16(owner).u32(0);
    }
    page
}

fn sas_io_unit_1(chip: &Chip, devices: &Devices, page: Page) -> Page {
    let mut page = page.u64(0).u8(chip.phys).zeros_to(20);
    for phy in 0..chip.phys {
        let attached = devices.slot(phy).map_or(0, device_info);
        page = page.u8(phy).u8(0).u8(0).u8(rate(chip) << 4 | 0x08).u32(attached).u32(0);
    }
    page
}

/// The device that a SAS device page's address names.
fn device_at(devices: &Devices, address: u32) -> Option<&Device> {
    let value = address as u16;
    match address >> 28 {
        0 => devices.after(value),
        1 if value >> 8 == 0 => devices.slot(value as u8),
        2 => devices.iter().find(|device| device.handle == value),
        _ => None,
    }
}

fn sas_device_0(device: &Device, page: Page) -> Page {
    page.u16(device.slot.into())
        .u16(ENCLOSURE_HANDLE)
        .u64(device.target.config().sas_address)
        .u16(u16::from(device.slot) + 1)
        .u8(device.slot)
        .u8(0)
        .u16(device.handle)
        .u8(device.slot)
        .u8(0)
        .u32(device_info(device))
        .u16(DEVICE_FLAGS | if device.target.config().sata { SATA_FLAGS } else { 0 })
        .u8(device.slot)
        .u8(0)
}

/// What a SATA disk said of itself when its link came up: the register FIS that it sends then
/// (SATA 3 10.5.6), with the signature of an ATA device and without an error.
fn sas_device_1(device: &Device, page: Page) -> Page {
    let page = page
        .zeros_to(0x0c)
        .u64(device.target.config().sas_address)
        .u32(0)
        .u16(device.handle)
        .u8(device.slot)
        .u8(0);
    if !device.target.config().sata {
        return page.zeros_to(48);
    }
    page.bytes(&[0x34, 0, 0x50, 0x01, 0x01, 0, 0, 0, 0, 0, 0, 0, 0x01]).zeros_to(48)
}

/// The controller's phy that a SAS device page's address names: only by its handle, because the
/// walk from handle to handle begins behind the phys.
fn own_phy(chip: &Chip, address: u32) -> Option<u8> {
    let phy = (address as u16).checked_sub(1)?;
    if address >> 28 != 2 {
        return None;
    }
    u8::try_from(phy).ok().filter(|phy| *phy < chip.phys)
}

/// SAS device page 0 of one of the controller's phys: an initiator, without bus or target id.
fn controller_phy(phy: u8, page: Page) -> Page {
    page.u16(0)
        .u16(ENCLOSURE_HANDLE)
        .u64(CONTROLLER_SAS_ADDRESS)
        .u16(0)
        .u8(phy)
        .u8(0)
        .u16(u16::from(phy) + 1)
        .u8(0)
        .u8(0)
        .u32(CONTROLLER_INFO)
        .u16(FLAG_PRESENT)
        .u8(phy)
        .u8(0)
}

fn enclosure_0(chip: &Chip, address: u32, page: Page) -> Result<Page, NoPage> {
    let handle = address as u16;
    let found = match address >> 28 {
        0 => handle == 0xffff || handle < ENCLOSURE_HANDLE,
        1 => handle == ENCLOSURE_HANDLE,
        _ => false,
    };
    if !found {
        return Err(NoPage::Number);
    }
    Ok(page
        .u32(0)
        .u64(CONTROLLER_SAS_ADDRESS)
        .u16(ENCLOSURE_SGPIO)
        .u16(ENCLOSURE_HANDLE)
        .u16(chip.phys.into())
        .zeros_to(0x28))
}

fn sas_phy_0(chip: &Chip, devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let phy = super::phy_at(chip, address).ok_or(NoPage::Number)?;
    let device = devices.slot(phy);
    let handle = device.map_or(0, |device| device.handle);
    let rates = rate(chip) << 4 | 0x08;
    Ok(page
        .u16(u16::from(phy) + 1)
        .u16(0)
        .u64(CONTROLLER_SAS_ADDRESS)
        .u16(handle)
        .u8(phy)
        .u8(0)
        .u32(u32::from(device.is_some()))
        .u8(rates)
        .u8(rates)
        .u16(0)
        .u32(0))
}
