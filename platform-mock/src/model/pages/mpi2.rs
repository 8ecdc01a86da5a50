//! Configuration pages of MPI 2.x (mpi2_cnfg.h): the controller's own. Those of what is behind it
//! stand in `mpi2/fabric.rs`, of RAID volumes in `mpi2/raid.rs`.

mod fabric;
mod raid;

use super::{
    CONTROLLER_INFO, CONTROLLER_SAS_ADDRESS, DEVICE_FLAGS, NO_LINK, NoPage, Page, Settings,
    device_info, device_rate, enclosure_0, kind, rate,
};
use crate::model::chip::{Chip, Family};
use crate::model::coalescing;
use crate::model::devices::Devices;

/// NVDATA's version, and the option ROM's.
const NVDATA: u32 = 0x1400_0601;
const OPTION_ROM: u32 = 0x0727_0000;

/// Builds page `number` of type `page_kind` at `address`.
pub(super) fn build(
    chip: &Chip,
    devices: &Devices,
    settings: &Settings,
    page_kind: u8,
    number: u8,
    address: u32,
) -> Result<Page, NoPage> {
    let page = |version| Page::new(page_kind, number, version);
    let newest = chip.family == Family::Mpi26;
    let built = match (page_kind, number) {
        (kind::MANUFACTURING, 1) => page(0).zeros_to(0x104),
        (kind::MANUFACTURING, 2 | 3) => {
            page(0).u16(chip.device_id).u8(chip.revision).zeros_to(0x0c)
        }
        (kind::MANUFACTURING, 4) => page(0x0a).zeros_to(0x69).u8(10).u8(14).u8(2),
        (kind::MANUFACTURING, 5) => manufacturing_5(chip, page(3)),
        (kind::MANUFACTURING, 6 | 8 | 9) => page(0).u32(0),
        (kind::MANUFACTURING, 7) => manufacturing_7(chip, page(1)),
        (kind::MANUFACTURING, 10) => page(0).zeros_to(0x68),
        (kind::MANUFACTURING, 11) => manufacturing_11(newest, page(0)),
        (kind::IO_UNIT, 0) => page(2).u64(CONTROLLER_SAS_ADDRESS).u32(NVDATA).u32(NVDATA),
        // RAID disabled, where there are no volumes.
        (kind::IO_UNIT, 1) => page(4).u32(if devices.volumes().is_empty() { 0x40 } else { 0 }),
        (kind::IO_UNIT, 3) => page(1).u8(36).zeros_to(0x50),
        (kind::IO_UNIT, 7) => io_unit_7(chip, page(5)),
        // One sensor with four thresholds, two of them on.
        (kind::IO_UNIT, 8) => page(0)
            .zeros_to(0x0c)
            .u8(1)
            .u8(1)
            .u16(0)
            .u16(0x000c)
            .u16(0)
            .u16(0)
            .u16(0)
            .u16(90)
            .u16(105)
            .zeros_to(0x28),
        (kind::IO_UNIT, 9) => {
            page(0).zeros_to(0x0c).u8(1).zeros_to(0x10).u16(52).u16(0).u8(1).zeros_to(0x20)
        }
        (kind::IO_UNIT, 10) => page(1).u8(1).zeros_to(0x10).u8(100).zeros_to(0x14),
        (kind::IOC, 0) => page(2)
            .zeros_to(0x0c)
            .u16(0x1000)
            .u16(chip.device_id)
            .u32(chip.revision.into())
            .u32(0x0107_0000)
            .u16(0x1000)
            .u16(chip.subsystem_id),
        // Bus, slot and segment of the controller are not known to it.
        (kind::IOC, 1) => page(5)
            .u32(coalescing::DEFAULT_FLAGS)
            .u32(coalescing::DEFAULT_TIMEOUT)
            .u8(coalescing::DEFAULT_DEPTH)
            .u8(0xff)
            .u8(0xff)
            .u8(0xff)
            .zeros_to(0x18),
        (kind::IOC, 6) => raid::ioc_6(page(5)),
        (kind::IOC, 7) => page(2).zeros_to(0x20),
        (kind::IOC, 8) => page(0).u8(chip.phys).zeros_to(8).u16(128).u16(112).zeros_to(0x18),
        (kind::BIOS, 1) => page(7).zeros_to(0x20),
        (kind::BIOS, 2) => page(4).zeros_to(0x70),
        (kind::BIOS, 3) => page(1).u32(0).u32(OPTION_ROM).zeros_to(0x60),
        (kind::BIOS, 4) => page(1).u8(chip.phys).zeros_to(8 + 16 * usize::from(chip.phys)),
        (kind::RAID_VOLUME, 0) => raid::volume_0(devices, address, page(0x0a))?,
        (kind::RAID_VOLUME, 1) => raid::volume_1(devices, address, page(3))?,
        (kind::RAID_PHYSICAL_DISK, 0) => raid::physical_disk_0(devices, address, page(5))?,
        (kind::RAID_PHYSICAL_DISK, 1) => raid::physical_disk_1(devices, address, page(2))?,
        (kind::RAID_CONFIGURATION, 0) => raid::configuration_0(devices, address, page(0))?,
        (kind::SAS_IO_UNIT, 0) => sas_io_unit_0(chip, devices, settings, page(5)),
        (kind::SAS_IO_UNIT, 1) => sas_io_unit_1(chip, devices, page(9)),
        (kind::SAS_IO_UNIT, 8) => page(0).zeros_to(0x14),
        (kind::SAS_EXPANDER, 0) => fabric::expander_0(devices, address, page(6))?,
        (kind::SAS_EXPANDER, 1) => fabric::expander_1(chip, devices, address, page(2))?,
        (kind::SAS_DEVICE, 0) => fabric::device_0(chip, devices, address, page(9))?,
        (kind::SAS_DEVICE, 1) => fabric::device_1(devices, address, page(1))?,
        (kind::SAS_PHY, 0) => fabric::phy_0(chip, devices, settings, address, page(3))?,
        (kind::SAS_PHY, 1) => {
            super::phy_at(chip, address).ok_or(NoPage::Number)?;
            page(1).zeros_to(0x1c)
        }
        (kind::ENCLOSURE, 0) => enclosure_0(devices, address, page(4))?,
        (kind::LOG, 0) => page(2).zeros_to(0x14),
        (kind::PCIE_IO_UNIT, 0) if newest => page(0).zeros_to(0x10),
        // No lane is an NVMe device's; the depth is what one would get.
        (kind::PCIE_IO_UNIT, 1) if newest => page(0).zeros_to(0x0e).u16(128).zeros_to(0x14),
        (kind::DRIVER_TRIGGER, 0) if newest => page(1).zeros_to(0x100),
        (kind::DRIVER_TRIGGER, 1) if newest => page(1).zeros_to(0x10),
        (kind::DRIVER_TRIGGER, 2 | 3) if newest => page(1).zeros_to(0x5c),
        (kind::DRIVER_TRIGGER, 4) if newest => page(1).zeros_to(0xac),
        _ => return Err(missing(newest, page_kind)),
    };
    Ok(built)
}

/// An empty page of a kind of which there may be several or none.
pub(super) fn template(chip: &Chip, devices: &Devices, page_kind: u8, number: u8) -> Option<Page> {
    let newest = chip.family == Family::Mpi26;
    let (version, bytes) = match (page_kind, number) {
        (kind::RAID_VOLUME, 0) => (0x0a, raid::volume_0_bytes(devices)),
        (kind::RAID_VOLUME, 1) => (3, 0x40),
        (kind::RAID_PHYSICAL_DISK, 0) => (5, 0x78),
        (kind::RAID_PHYSICAL_DISK, 1) => (2, 0x24),
        (kind::RAID_CONFIGURATION, 0) => (0, raid::configuration_0_bytes(devices)),
        (kind::SAS_EXPANDER, 0) => (6, 0x3c),
        (kind::SAS_EXPANDER, 1) => (2, 0x2c),
        (kind::SAS_DEVICE, 0) => (9, 0x38),
        (kind::SAS_DEVICE, 1) => (1, 0x30),
        (kind::SAS_PHY, 0) => (3, 0x20),
        (kind::SAS_PHY, 1) => (1, 0x1c),
        (kind::ENCLOSURE, 0) => (4, 0x28),
        (kind::PCIE_DEVICE, 0) if newest => (1, 0x38),
        (kind::PCIE_DEVICE, 2) if newest => (1, 0x24),
        (kind::PCIE_SWITCH, 0) if newest => (0, 0x20),
        (kind::PCIE_SWITCH, 1) if newest => (0, 0x1c),
        _ => return None,
    };
    Some(Page::new(page_kind, number, version).zeros_to(bytes))
}

fn missing(newest: bool, page_kind: u8) -> NoPage {
    match page_kind {
        kind::MANUFACTURING
        | kind::IO_UNIT
        | kind::IOC
        | kind::BIOS
        | kind::RAID_VOLUME
        | kind::RAID_PHYSICAL_DISK
        | kind::SAS_IO_UNIT..=kind::SAS_PORT
        | kind::EXTENDED_MANUFACTURING => NoPage::Number,
        kind::PCIE_IO_UNIT..=kind::PCIE_LINK | kind::DRIVER_TRIGGER if newest => NoPage::Number,
        _ => NoPage::Type,
    }
}

fn manufacturing_5(chip: &Chip, page: Page) -> Page {
    let mut page = page.u8(chip.phys).zeros_to(0x10);
    for _ in 0..chip.phys {
        page = page.u64(CONTROLLER_SAS_ADDRESS).u64(CONTROLLER_SAS_ADDRESS);
    }
    page
}

/// Connectors of four phys each.
fn manufacturing_7(chip: &Chip, page: Page) -> Page {
    let mut page = page.zeros_to(0x10).text("", 16).u8(chip.phys).zeros_to(0x24);
    for phy in 0..chip.phys {
        // SFF-8087 on SAS 2, SFF-8643 on SAS 3, internal.
        let plug = if chip.ieee() { 0x06 } else { 0x05 };
        page = page
            .u32(u32::from(phy % 4) << 8 | plug)
            .text(&format!("C{}", phy / 4), 16)
            .u8(0x02)
            .u8(0)
            .u16(phy.into())
            .u16(0xffff)
            .u16(0xffff);
    }
    page
}

/// The driver's page: T10 protection's tag mode, timeouts, how often it shall set the clock.
fn manufacturing_11(newest: bool, page: Page) -> Page {
    let page = page.zeros_to(0x09).u8(1).zeros_to(0x4c);
    if !newest {
        return page.zeros_to(0x5c);
    }
    // NVMe aborts 6 s, core dump 15 s, the clock once an hour.
    page.u8(6).zeros_to(0x54).u8(15).u8(0x81).zeros_to(0x5c)
}

/// The link to the host, and temperatures in degrees Celsius.
fn io_unit_7(chip: &Chip, page: Page) -> Page {
    let generation = match chip.family {
        Family::Mpi26 => 3,
        Family::Mpi25 => 2,
        _ => 1,
    };
    page.u8(0x02)
        .u8(0)
        .u8(8)
        .u8(generation)
        .u32(0)
        .u32(0)
        .u16(52)
        .u8(2)
        .u8(1)
        .u16(38)
        .u8(2)
        .u8(0)
        .zeros_to(0x28)
}

fn sas_io_unit_0(chip: &Chip, devices: &Devices, settings: &Settings, page: Page) -> Page {
    let mut page = page.u32(0).u8(chip.phys).zeros_to(0x10);
    for phy in 0..chip.phys {
        let disabled = settings.phy_disabled(phy);
        let link = fabric::link(chip, devices, settings, phy);
        let handle = if disabled { 0 } else { devices.neighbour(phy).handle() };
        page = page
            .u8(devices.port(phy))
            // The ports are made of what is found.
            .u8(0x01)
            .u8(if disabled { 0x08 } else { 0 })
            .u8(link)
            .u32(CONTROLLER_INFO)
            .u16(handle)
            .u16(devices.controller_handle(phy))
            .u32(0)
            .u32(0);
    }
    page
}

fn sas_io_unit_1(chip: &Chip, devices: &Devices, page: Page) -> Page {
    let mut page = page.u16(0).u16(0xfe).u16(0).u16(0xfe).u8(chip.phys).u8(32).u8(0).u8(0);
    for phy in 0..chip.phys {
        page = page
            .u8(devices.port(phy))
            .u8(0x01)
            .u8(0)
            .u8(rate(chip) << 4 | 0x08)
            .u32(CONTROLLER_INFO)
            .u32(0);
    }
    page
}
