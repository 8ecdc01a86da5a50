//! Configuration pages of MPI 2.x (mpi2_cnfg.h).

use super::{CONTROLLER_SAS_ADDRESS, DEVICE_FLAGS, DEVICE_INFO, NO_LINK, NoPage, Page, kind, rate};
use crate::model::chip::Chip;
use crate::model::devices::{Device, Devices, ENCLOSURE_HANDLE};

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
        (kind::IO_UNIT, 0) => page(2).u64(CONTROLLER_SAS_ADDRESS).u32(0x1400_0601).u32(0x1400_0601),
        // Single function, RAID disabled.
        (kind::IO_UNIT, 1) => page(4).u32(0x42),
        (kind::IOC, 0) => page(2)
            .zeros_to(0x0c)
            .u16(0x1000)
            .u16(chip.device_id)
            .u32(3)
            .u32(0x0107_0000)
            .u16(0x1000)
            .u16(0x3020),
        (kind::IOC, 1) => page(5).zeros_to(0x18),
        (kind::IOC, 8) => page(0).u8(chip.phys).zeros_to(8).u16(128).u16(112).zeros_to(0x18),
        (kind::BIOS, 2) => page(4).zeros_to(0x70),
        (kind::BIOS, 3) => page(1).u32(0).u32(0x0727_0000).zeros_to(0x40),
        (kind::SAS_IO_UNIT, 0) => sas_io_unit_0(chip, devices, page(5)),
        (kind::SAS_IO_UNIT, 1) => sas_io_unit_1(chip, page(9)),
        (kind::SAS_DEVICE, 0) => {
            let device = device_at(devices, address).ok_or(NoPage::Number)?;
            sas_device_0(device, page(9))
        }
        (kind::SAS_PHY, 0) => sas_phy_0(chip, devices, address, page(3))?,
        (kind::ENCLOSURE, 0) => enclosure_0(chip, address, page(4))?,
        _ => return Err(missing(page_kind)),
    };
    Ok(built)
}

fn missing(page_kind: u8) -> NoPage {
    match page_kind {
        kind::MANUFACTURING
        | kind::IO_UNIT
        | kind::IOC
        | kind::BIOS
        | kind::SAS_IO_UNIT
        | kind::SAS_EXPANDER
        | kind::SAS_DEVICE
        | kind::SAS_PHY
        | kind::ENCLOSURE => NoPage::Number,
        _ => NoPage::Type,
    }
}

fn sas_io_unit_0(chip: &Chip, devices: &Devices, page: Page) -> Page {
    let mut page = page.u32(0).u8(chip.phys).zeros_to(0x10);
    for phy in 0..chip.phys {
        let device = devices.slot(phy);
        let handle = device.map_or(0, |device| device.handle);
        let link = if device.is_some() { rate(chip) } else { NO_LINK };
        page = page.u8(phy).u8(0).u8(0).u8(link);
        // The controller's own phys: SSP, SMP and STP initiators.
        page = page.u32(0x0e).u16(handle).u16(u16::from(phy) + 1).u32(0).u32(0);
    }
    page
}

fn sas_io_unit_1(chip: &Chip, page: Page) -> Page {
    let mut page = page.u16(0).u16(0xfe).u16(0).u16(0xfe).u8(chip.phys).u8(32).u8(0).u8(0);
    for phy in 0..chip.phys {
        page = page.u8(phy).u8(0).u8(0).u8(rate(chip) << 4 | 0x08).u32(0x0e).u32(0);
    }
    page
}

/// The device that a SAS device page's address names.
fn device_at(devices: &Devices, address: u32) -> Option<&Device> {
    let value = address as u16;
    match address >> 28 {
        0 => devices.after(value),
        2 => devices.iter().find(|device| device.handle == value),
        _ => None,
    }
}

fn sas_device_0(device: &Device, page: Page) -> Page {
    let config = device.target.config();
    page.u16(device.slot.into())
        .u16(ENCLOSURE_HANDLE)
        .u64(config.sas_address)
        .u16(1)
        .u8(device.slot)
        .u8(0)
        .u16(device.handle)
        .u8(0)
        .u8(0)
        .u32(DEVICE_INFO)
        .u16(DEVICE_FLAGS)
        .u8(0)
        .u8(1)
        .u64(config.wwn)
        .zeros_to(0x38)
}

fn sas_phy_0(chip: &Chip, devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let phy = super::phy_at(chip, address).ok_or(NoPage::Number)?;
    let device = devices.slot(phy);
    let handle = device.map_or(0, |device| device.handle);
    let rates = rate(chip) << 4 | 0x08;
    let link = if device.is_some() { rate(chip) } else { NO_LINK };
    Ok(page
        .u16(u16::from(phy) + 1)
        .u16(0)
        .u16(handle)
        .u8(0)
        .u8(0)
        .u32(0)
        .u8(rates)
        .u8(rates)
        .u16(0)
        .u32(0)
        .u8(link)
        .zeros_to(0x20))
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
        // Managed by the controller's own firmware, through SGPIO.
        .u16(0x0002)
        .u16(ENCLOSURE_HANDLE)
        .u16(chip.phys.into())
        .zeros_to(0x28))
}
