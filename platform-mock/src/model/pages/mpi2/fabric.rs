//! Pages of the fabric: SAS devices, expanders, phys, enclosures.

use super::super::{
    CONTROLLER_INFO, EXPANDER_INFO, expander_at, expander_neighbour, expander_phy_at,
};
use super::{
    CONTROLLER_SAS_ADDRESS, DEVICE_FLAGS, NO_LINK, NoPage, Page, Settings, device_info,
    device_rate, rate,
};
use crate::model::chip::{Chip, Family};
use crate::model::devices::{
    Device, Devices, ENCLOSURE_HANDLE, EXPANDER_ENCLOSURE_HANDLE, Expander, Neighbour,
    WIDE_PORT_PHYS,
};

/// `PhyInfo`, `AttachedPhyInfo`: the link came up when power came on.
const POWER_ON: u32 = 0x0001_0000;
const ATTACHED_POWER_ON: u32 = 0x0000_0001;

/// A rate as the logical and the physical one.
fn both(rate: u8) -> u8 {
    rate << 4 | rate
}

/// `NegotiatedLinkRate` of a phy of the controller.
pub(super) fn link(chip: &Chip, devices: &Devices, settings: &Settings, phy: u8) -> u8 {
    match devices.neighbour(phy) {
        _ if settings.phy_disabled(phy) => 0x01,
        Neighbour::Nobody => NO_LINK,
        Neighbour::Disk(device) => both(device_rate(chip, device)),
        Neighbour::Expander(..) => both(rate(chip)),
    }
}

/// Who a SAS device page can be of.
enum Found<'d> {
    Controller(u8),
    Expander(Expander),
    Disk(&'d Device),
}

fn device_at(devices: &Devices, address: u32) -> Result<Found<'_>, NoPage> {
    let handle = address as u16;
    let disks = || devices.iter().filter(|device| !devices.is_off(device.slot));
    let found = match address >> 28 {
        0 => {
            // The list lacks the controller itself. Members of volumes are in it: hosts tell them by
            // the RAID pages, and mpt3sas lets go of a disk that it does not meet there after a reset.
            let comes = |other: u16| handle == 0xffff || other > handle;
            let expander = devices.expander().filter(|expander| comes(expander.handle));
            let disk =
                disks().filter(|device| comes(device.handle)).min_by_key(|device| device.handle);
            match (expander, disk) {
                (Some(expander), Some(disk)) if disk.handle < expander.handle => {
                    Some(Found::Disk(disk))
                }
                (Some(expander), _) => Some(Found::Expander(expander)),
                (None, disk) => disk.map(Found::Disk),
            }
        }
        2 => {
            let phy = (0..devices.phys()).find(|phy| devices.controller_handle(*phy) == handle);
            let expander = devices.expander().filter(|expander| expander.handle == handle);
            let disk = disks().find(|device| device.handle == handle);
            phy.map(Found::Controller).or(expander.map(Found::Expander)).or(disk.map(Found::Disk))
        }
        _ => None,
    };
    found.ok_or(NoPage::Number)
}

/// SAS device page 0, of 0x38 bytes.
pub(super) fn device_0(
    chip: &Chip,
    devices: &Devices,
    address: u32,
    page: Page,
) -> Result<Page, NoPage> {
    let page = match device_at(devices, address)? {
        Found::Controller(phy) => page
            .u16(0)
            .u16(ENCLOSURE_HANDLE)
            .u64(CONTROLLER_SAS_ADDRESS)
            .u16(0)
            .u8(phy)
            .u8(0)
            .u16(devices.controller_handle(phy))
            .u8(0)
            .u8(0)
            .u32(CONTROLLER_INFO)
            .u16(1)
            .u8(devices.port(phy))
            .u8(1)
            .u64(CONTROLLER_SAS_ADDRESS),
        Found::Expander(expander) => page
            .u16(0)
            .u16(EXPANDER_ENCLOSURE_HANDLE)
            .u64(expander.sas_address())
            .u16(devices.controller_handle(devices.wide_port()))
            .u8(devices.wide_port())
            .u8(0)
            .u16(expander.handle)
            .u8(expander.bays)
            .u8(0)
            .u32(EXPANDER_INFO)
            .u16(1)
            .u8(devices.wide_port())
            .u8(WIDE_PORT_PHYS)
            .u64(expander.sas_address()),
        Found::Disk(device) => {
            let place = devices.place(device.slot);
            let config = device.target.config();
            page.u16(place.bay)
                .u16(place.enclosure)
                .u64(devices.sas_address(device))
                .u16(place.parent)
                .u8(place.phy)
                .u8(0)
                .u16(device.handle)
                .u8(0)
                .u8(0)
                .u32(device_info(device))
                .u16(flags(chip, device))
                .u8(place.port)
                .u8(1)
                .u64(config.wwn)
        }
    };
    let page = page.zeros_to(0x2f);
    let page = match device_at(devices, address)? {
        Found::Disk(device) if chip.family == Family::Mpi26 => {
            let place = devices.place(device.slot);
            // The connector has four phys.
            page.u8(u8::from(place.enclosure != ENCLOSURE_HANDLE))
                .text(&format!("C{}", place.port / 4), 4)
        }
        _ => page,
    };
    Ok(page.zeros_to(0x38))
}

/// `Flags`: present, and what the disk can do.
fn flags(chip: &Chip, device: &Device) -> u16 {
    if device.target.config().sata {
        // 48-bit addresses, SMART, NCQ, FUA.
        return 0x00f1 | if chip.family == Family::Mpi26 { 0x0002 } else { 0 };
    }
    match chip.family {
        Family::Mpi1 => DEVICE_FLAGS,
        Family::Mpi20 => 0x0001,
        // The fast path is possible, and on.
        Family::Mpi25 => 0x6001,
        // So is the connector's name.
        Family::Mpi26 => 0x6003,
    }
}

/// SAS device page 1, of 0x30 bytes: the first register FIS of a SATA disk.
pub(super) fn device_1(devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let Found::Disk(device) = device_at(devices, address)? else { return Err(NoPage::Number) };
    let page = page.u32(0).u64(devices.sas_address(device)).u32(0).u16(device.handle).u16(0);
    let page = if device.target.config().sata {
        // Register, device to host: status 0x50, error 1, the signature of a disk.
        page.bytes(&[0x34, 0, 0x50, 0x01, 0x01, 0, 0, 0, 0, 0, 0, 0, 0x01])
    } else {
        page
    };
    Ok(page.zeros_to(0x30))
}

/// SAS phy page 0, of 0x20 bytes.
pub(super) fn phy_0(
    chip: &Chip,
    devices: &Devices,
    settings: &Settings,
    address: u32,
    page: Page,
) -> Result<Page, NoPage> {
    let phy = super::super::phy_at(chip, address).ok_or(NoPage::Number)?;
    let neighbour = match settings.phy_disabled(phy) {
        true => Neighbour::Nobody,
        false => devices.neighbour(phy),
    };
    let its_phy = match neighbour {
        Neighbour::Expander(_, phy) => phy,
        _ => 0,
    };
    let up = !matches!(neighbour, Neighbour::Nobody);
    let rates = rate(chip) << 4 | 0x08;
    Ok(page
        .u16(devices.controller_handle(phy))
        .u16(0)
        .u16(neighbour.handle())
        .u8(its_phy)
        .u8(0)
        .u32(if up { ATTACHED_POWER_ON } else { 0 })
        .u8(rates)
        .u8(rates)
        .u16(0)
        .u32(if up { POWER_ON } else { 0 })
        .u8(link(chip, devices, settings, phy))
        .zeros_to(0x20))
}

/// SAS expander page 0, of 0x3c bytes.
pub(super) fn expander_0(devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    if address >> 28 == 1 {
        return Err(NoPage::Number);
    }
    let expander = expander_at(devices, address)?;
    Ok(page
        .u8(devices.wide_port())
        .u8(7)
        .u16(EXPANDER_ENCLOSURE_HANDLE)
        .u64(expander.sas_address())
        .u32(0)
        .u16(expander.handle)
        .u16(devices.controller_handle(devices.wide_port()))
        .u16(1)
        .u16(0)
        .u8(expander.phys())
        .u8(1)
        // It keeps its route table itself.
        .u16(0)
        .u16(100)
        .u16(100)
        .u16(2000)
        .u16(1024)
        .zeros_to(0x3c))
}

/// SAS expander page 1, of 0x2c bytes: one phy.
pub(super) fn expander_1(
    chip: &Chip,
    devices: &Devices,
    address: u32,
    page: Page,
) -> Result<Page, NoPage> {
    let (expander, phy) = expander_phy_at(devices, address)?;
    let neighbour = expander_neighbour(devices, &expander, phy);
    let rates = rate(chip) << 4 | 0x08;
    let up = neighbour.handle != 0;
    let speed = match neighbour.disk {
        Some(disk) => both(device_rate(chip, disk)),
        None if up => both(rate(chip)),
        None => 0,
    };
    Ok(page
        .u8(devices.wide_port())
        .zeros_to(0x0c)
        .u8(expander.phys())
        .u8(phy)
        .u16(0)
        .u8(rates)
        .u8(rates)
        .u16(neighbour.handle)
        .u32(neighbour.routing | if up { POWER_ON } else { 0 })
        .u32(neighbour.info)
        .u16(expander.handle)
        .u8(0)
        .u8(speed)
        .u8(phy)
        .u8(neighbour.phy)
        .u16(0)
        .u32(if up { ATTACHED_POWER_ON } else { 0 })
        .zeros_to(0x2c))
}
