//! Pages of the fabric: the controller's phys, SAS devices, the expander, enclosures.

use super::super::{
    CONTROLLER_INFO, CONTROLLER_SAS_ADDRESS, DEVICE_FLAGS, EXPANDER_INFO, NO_LINK, NoPage, Page,
    device_info, expander_at, expander_neighbour, expander_phy_at, phy_at, rate,
};
use crate::model::chip::Chip;
use crate::model::devices::{
    Device, Devices, ENCLOSURE_HANDLE, EXPANDER_ENCLOSURE_HANDLE, Expander, Neighbour,
};

/// `Flags` of a SAS device: it is there.
const FLAG_PRESENT: u16 = 0x0001;
/// `Flags` of a SATA disk: FUA, NCQ, SMART, 48-bit addresses.
const SATA_FLAGS: u16 = 0x00f0;

/// Who a SAS device page can be of.
enum Found<'d> {
    Controller(u8),
    Expander(Expander),
    Disk(&'d Device),
}

/// Who a SAS device page's address names: the next handle, a bus and target id, or a handle. The
/// walk from handle to handle begins behind the controller's phys.
fn device_at(devices: &Devices, address: u32) -> Result<Found<'_>, NoPage> {
    let value = address as u16;
    let found = match address >> 28 {
        0 => {
            let after = |handle: u16| value == 0xffff || handle > value;
            let disk = devices.after(value);
            match devices.expander().filter(|expander| after(expander.handle)) {
                Some(expander) if disk.is_none_or(|disk| disk.handle > expander.handle) => {
                    Some(Found::Expander(expander))
                }
                _ => disk.map(Found::Disk),
            }
        }
        1 if value >> 8 == 0 => devices.slot(value as u8).map(Found::Disk),
        2 => {
            let phy = (0..devices.phys()).find(|phy| devices.controller_handle(*phy) == value);
            let expander = devices.expander().filter(|expander| expander.handle == value);
            let disk = || devices.iter().find(|device| device.handle == value);
            phy.map(Found::Controller)
                .or_else(|| expander.map(Found::Expander))
                .or_else(|| disk().map(Found::Disk))
        }
        _ => None,
    };
    found.ok_or(NoPage::Number)
}

/// The disk that a SAS device page's address names: pages 1 and 2 are of disks only.
fn disk_at(devices: &Devices, address: u32) -> Result<&Device, NoPage> {
    match device_at(devices, address)? {
        Found::Disk(device) => Ok(device),
        Found::Controller(_) | Found::Expander(_) => Err(NoPage::Number),
    }
}

/// SAS IO unit page 0: who hangs from each phy.
pub(super) fn sas_io_unit_0(chip: &Chip, devices: &Devices, page: Page) -> Page {
    let mut page = page.u32(0).u8(chip.phys).zeros_to(0x10);
    for phy in 0..chip.phys {
        let neighbour = devices.neighbour(phy);
        let (link, info) = match &neighbour {
            Neighbour::Nobody => (NO_LINK, 0),
            // QEMU's device says here what the disk is; what the controller's phy is by the name.
            Neighbour::Disk(device) => (rate(chip), device_info(device)),
            Neighbour::Expander(..) => (rate(chip), CONTROLLER_INFO),
        };
        page = page
            .u8(if devices.is_wide_port(phy) { devices.port(phy) } else { phy })
            .u8(0)
            .u8(0)
            .u8(link)
            .u32(info)
            .u16(neighbour.handle())
            .u16(devices.controller_handle(phy))
            .u32(0);
    }
    page
}

/// SAS device page 0.
pub(super) fn sas_device_0(devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let (place, sas_address, handle, info, flags, target) = match device_at(devices, address)? {
        // An initiator, without parent, bus or target id.
        Found::Controller(phy) => {
            let own = devices.controller_handle(phy);
            let place = (0, ENCLOSURE_HANDLE, 0, phy, devices.port(phy));
            (place, CONTROLLER_SAS_ADDRESS, own, CONTROLLER_INFO, FLAG_PRESENT, 0)
        }
        Found::Expander(expander) => {
            let port = devices.wide_port();
            let place = (0, EXPANDER_ENCLOSURE_HANDLE, devices.controller_handle(port), port, port);
            (place, expander.sas_address(), expander.handle, EXPANDER_INFO, FLAG_PRESENT, 0)
        }
        Found::Disk(device) => {
            let place = devices.place(device.slot);
            let sata = if device.target.config().sata { SATA_FLAGS } else { 0 };
            (
                (place.bay, place.enclosure, place.parent, place.phy, place.port),
                devices.sas_address(device),
                device.handle,
                device_info(device),
                DEVICE_FLAGS | sata,
                device.slot,
            )
        }
    };
    let (bay, enclosure, parent, phy, port) = place;
    Ok(page
        .u16(bay)
        .u16(enclosure)
        .u64(sas_address)
        .u16(parent)
        .u8(phy)
        .u8(0)
        .u16(handle)
        .u8(target)
        .u8(0)
        .u32(info)
        .u16(flags)
        .u8(port)
        .u8(0))
}

/// SAS device page 1: what a SATA disk said of itself when its link came up, the register FIS that
/// it sends then (SATA 3 10.5.6), with the signature of an ATA device and without an error.
pub(super) fn sas_device_1(devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let device = disk_at(devices, address)?;
    let page = page
        .zeros_to(0x0c)
        .u64(devices.sas_address(device))
        .u32(0)
        .u16(device.handle)
        .u8(device.slot)
        .u8(0);
    Ok(match device.target.config().sata {
        true => page.bytes(&[0x34, 0, 0x50, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1]).zeros_to(48),
        false => page.zeros_to(48),
    })
}

/// SAS device page 2: by which name the device's place is kept.
pub(super) fn sas_device_2(devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let device = disk_at(devices, address)?;
    Ok(page.u64(devices.sas_address(device)).u32(0))
}

/// SAS phy page 0, of one of the controller's phys.
pub(super) fn sas_phy_0(
    chip: &Chip,
    devices: &Devices,
    address: u32,
    page: Page,
) -> Result<Page, NoPage> {
    let phy = phy_at(chip, address).ok_or(NoPage::Number)?;
    let neighbour = devices.neighbour(phy);
    let (its_phy, info) = match neighbour {
        // As QEMU's device: the disk's phy by the controller's number, and of what it is only that
        // it is an end device.
        Neighbour::Nobody => (phy, 0),
        Neighbour::Disk(_) => (phy, 1),
        Neighbour::Expander(_, its) => (its, EXPANDER_INFO),
    };
    let rates = rate(chip) << 4 | 0x08;
    Ok(page
        .u16(devices.controller_handle(phy))
        .u16(0)
        .u64(CONTROLLER_SAS_ADDRESS)
        .u16(neighbour.handle())
        .u8(its_phy)
        .u8(0)
        .u32(info)
        .u8(rates)
        .u8(rates)
        .u16(0)
        .u32(0))
}

/// SAS expander page 0.
pub(super) fn expander_0(devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let expander = expander_at(devices, address)?;
    if address >> 28 == 1 {
        return Err(NoPage::Number);
    }
    Ok(page
        .u8(devices.wide_port())
        .u8(0)
        .u16(EXPANDER_ENCLOSURE_HANDLE)
        .u64(expander.sas_address())
        .u32(0)
        .u16(expander.handle)
        .u16(devices.controller_handle(devices.wide_port()))
        // Change count, route indexes.
        .u16(1)
        .u16(0)
        .u8(expander.phys())
        .u8(1)
        .u16(0))
}

/// SAS expander page 1: one of its phys.
pub(super) fn expander_1(
    chip: &Chip,
    devices: &Devices,
    address: u32,
    page: Page,
) -> Result<Page, NoPage> {
    let (expander, phy) = expander_phy_at(devices, address)?;
    let neighbour = expander_neighbour(devices, &expander, phy);
    let link = if neighbour.handle == 0 { 0 } else { rate(chip) };
    let rates = rate(chip) << 4 | 0x08;
    Ok(page
        .u8(devices.wide_port())
        .zeros_to(0x0c)
        .u8(expander.phys())
        .u8(phy)
        .u16(0)
        .u8(rates)
        .u8(rates)
        .u16(neighbour.handle)
        .u32(neighbour.routing)
        .u32(neighbour.info)
        .u16(expander.handle)
        .u8(0)
        .u8(link)
        .u8(phy)
        .u8(neighbour.phy)
        .zeros_to(0x28))
}
