//! Configuration pages: what stands in them.
//!
//! Here is what the generations share; their pages stand in `pages/mpi1.rs` and `pages/mpi2.rs`.

mod mpi1;
mod mpi2;
mod settings;

use super::chip::Chip;
use super::devices::{CONTROLLER_SAS_ADDRESS, Device, Devices, Expander};

pub(crate) use settings::Settings;

/// Page types (`MPI2_CONFIG_PAGETYPE_*`, and from 0x10 on `MPI2_CONFIG_EXTPAGETYPE_*`).
pub(crate) mod page_type {
    pub(crate) const IO_UNIT: u8 = 0x00;
    pub(crate) const IOC: u8 = 0x01;
    pub(crate) const BIOS: u8 = 0x02;
    pub(crate) const RAID_VOLUME: u8 = 0x08;
    pub(crate) const MANUFACTURING: u8 = 0x09;
    pub(crate) const RAID_PHYSICAL_DISK: u8 = 0x0a;
    pub(crate) const EXTENDED: u8 = 0x0f;
    pub(crate) const SAS_IO_UNIT: u8 = 0x10;
    pub(crate) const SAS_EXPANDER: u8 = 0x11;
    pub(crate) const SAS_DEVICE: u8 = 0x12;
    pub(crate) const SAS_PHY: u8 = 0x13;
    pub(crate) const LOG: u8 = 0x14;
    pub(crate) const ENCLOSURE: u8 = 0x15;
    pub(crate) const RAID_CONFIGURATION: u8 = 0x16;
    pub(crate) const SAS_PORT: u8 = 0x18;
    pub(crate) const EXTENDED_MANUFACTURING: u8 = 0x1a;
    pub(crate) const PCIE_IO_UNIT: u8 = 0x1b;
    pub(crate) const PCIE_SWITCH: u8 = 0x1c;
    pub(crate) const PCIE_DEVICE: u8 = 0x1d;
    pub(crate) const PCIE_LINK: u8 = 0x1e;
    /// Which faults a driver's trace shall stop at; the type is mpt3sas_trigger_pages.h's.
    pub(crate) const DRIVER_TRIGGER: u8 = 0xe0;
}
use page_type as kind;

/// `DeviceInfo` of the controller and its own phys: an end device; SSP, STP and SMP initiator.
const CONTROLLER_INFO: u32 = 0x0071;
/// `DeviceInfo` of an expander: edge expander, SMP target.
const EXPANDER_INFO: u32 = 0x0102;
/// `PhyInfo` of an expander's phy that leads back to the controller: subtractive routing.
const SUBTRACTIVE: u32 = 0x0010;
/// `DeviceInfo` of a SAS disk: an end device, SSP target.
pub(crate) const DEVICE_INFO: u32 = 0x0401;
/// `DeviceInfo` of a SATA disk: an end device, SATA device.
const SATA_DEVICE_INFO: u32 = 0x0081;
/// `Flags` of a SAS device: present, mapped, and the mapping is kept.
const DEVICE_FLAGS: u16 = 0x0007;
/// A phy without a link: negotiation failed.
const NO_LINK: u8 = 0x02;

/// The negotiated rate of a link to a disk (`MPI2_SAS_NEG_LINK_RATE_*`).
pub(crate) fn rate(chip: &Chip) -> u8 {
    if chip.is_mpi1() {
        0x09
    } else if chip.ieee() {
        0x0b
    } else {
        0x0a
    }
}

/// The rate of the link to a disk: SATA goes no faster than 6 Gbit/s.
pub(crate) fn device_rate(chip: &Chip, device: &Device) -> u8 {
    if device.target.config().sata { rate(chip).min(0x0a) } else { rate(chip) }
}

/// `DeviceInfo` of a disk.
pub(crate) fn device_info(device: &Device) -> u32 {
    if device.target.config().sata { SATA_DEVICE_INFO } else { DEVICE_INFO }
}

/// Why there is no such page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPage {
    Type,
    Number,
}

/// A page with its header; the header's lengths are filled in when it is done.
struct Page(Vec<u8>);

impl Page {
    fn new(page_kind: u8, number: u8, version: u8) -> Self {
        if page_kind < kind::SAS_IO_UNIT {
            Self(vec![version, 0, number, page_kind])
        } else {
            Self(vec![version, 0, number, kind::EXTENDED, 0, 0, page_kind, 0])
        }
    }

    fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }
    fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }
    fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }
    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// `text` in a field of `bytes` bytes.
    fn text(mut self, text: &str, bytes: usize) -> Self {
        let end = self.0.len() + bytes;
        self.0.extend(text.bytes().take(bytes));
        self.zeros_to(end)
    }

    /// `text` in a field of `bytes` bytes, filled up with spaces as INQUIRY has it.
    fn padded(self, text: &str, bytes: usize) -> Self {
        let mut field: Vec<u8> = text.bytes().take(bytes).collect();
        field.resize(bytes, b' ');
        self.bytes(&field)
    }

    /// Zeros up to `end` bytes of page.
    fn zeros_to(mut self, end: usize) -> Self {
        self.0.resize(end, 0);
        self
    }

    fn done(mut self) -> Vec<u8> {
        let words = self.0.len() / 4;
        if self.0[3] == kind::EXTENDED {
            self.0[4..6].copy_from_slice(&(words as u16).to_le_bytes());
        } else {
            self.0[1] = words as u8;
        }
        self.0
    }
}

/// Builds page `number` of type `page_kind` at `address`, as the chip has it by itself.
pub(crate) fn build(
    chip: &Chip,
    devices: &Devices,
    settings: &Settings,
    page_kind: u8,
    number: u8,
    address: u32,
) -> Result<Vec<u8>, NoPage> {
    let built = match (page_kind, number) {
        (kind::MANUFACTURING, 0) => manufacturing_0(chip),
        _ if chip.is_mpi1() => mpi1::build(chip, devices, page_kind, number, address)?,
        _ => mpi2::build(chip, devices, settings, page_kind, number, address)?,
    };
    Ok(built.done())
}

/// The header of a page, which a host may ask for without saying which of several it means: the
/// header of mpt3sas's requests comes without a page address.
pub(crate) fn header(
    chip: &Chip,
    devices: &Devices,
    settings: &Settings,
    page_kind: u8,
    number: u8,
    address: u32,
) -> Result<Vec<u8>, NoPage> {
    let built = build(chip, devices, settings, page_kind, number, address);
    if chip.is_mpi1() {
        return built;
    }
    built.or_else(|why| mpi2::template(chip, devices, page_kind, number).map(Page::done).ok_or(why))
}

/// What the board is called, the same on all generations.
fn manufacturing_0(chip: &Chip) -> Page {
    Page::new(kind::MANUFACTURING, 0, 0)
        .text(chip.chip_name, 16)
        .text("B2", 8)
        .text(chip.board_name, 16)
        .text("03-25445-02B", 16)
        .text("SP21012345", 16)
}

/// The phy that a SAS phy page's address names: by number, or by its place in the table.
fn phy_at(chip: &Chip, address: u32) -> Option<u8> {
    let number = match address >> 28 {
        0 => address & 0xff,
        1 => address & 0xffff,
        _ => return None,
    };
    u8::try_from(number).ok().filter(|phy| *phy < chip.phys)
}

/// The expander that an expander page's address names: the next handle, a handle and a
/// phy, or a handle.
fn expander_at(devices: &Devices, address: u32) -> Result<Expander, NoPage> {
    let handle = address as u16;
    let expander = devices.expander().ok_or(NoPage::Number)?;
    let found = match address >> 28 {
        0 => handle == 0xffff || expander.handle > handle,
        1 | 2 => expander.handle == handle,
        _ => false,
    };
    if found { Ok(expander) } else { Err(NoPage::Number) }
}

/// The expander and its phy that the address of an expander page 1 names.
fn expander_phy_at(devices: &Devices, address: u32) -> Result<(Expander, u8), NoPage> {
    let expander = expander_at(devices, address)?;
    let phy = (address >> 16) as u8;
    if address >> 28 == 1 && phy < expander.phys() {
        Ok((expander, phy))
    } else {
        Err(NoPage::Number)
    }
}

/// Who is at the other end of an expander's phy: nobody, if the handle is 0.
struct ExpanderNeighbour<'d> {
    handle: u16,
    info: u32,
    phy: u8,
    /// How frames are routed there, as `PhyInfo` has it.
    routing: u32,
    disk: Option<&'d Device>,
}

fn expander_neighbour<'d>(
    devices: &'d Devices,
    expander: &Expander,
    phy: u8,
) -> ExpanderNeighbour<'d> {
    if phy >= expander.bays {
        let own = devices.wide_port() + (phy - expander.bays);
        let handle = devices.controller_handle(own);
        return ExpanderNeighbour {
            handle,
            info: CONTROLLER_INFO,
            phy: own,
            routing: SUBTRACTIVE,
            disk: None,
        };
    }
    let disk = devices.slot(devices.phys() + phy);
    ExpanderNeighbour {
        handle: disk.map_or(0, |disk| disk.handle),
        info: disk.map_or(0, device_info),
        phy: 0,
        routing: 0,
        disk,
    }
}

/// Enclosure page 0, of 0x28 bytes on all generations.
fn enclosure_0(devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let handle = address as u16;
    let found = devices
        .enclosures()
        .find(|enclosure| match address >> 28 {
            0 => handle == 0xffff || enclosure.handle > handle,
            1 => enclosure.handle == handle,
            _ => false,
        })
        .ok_or(NoPage::Number)?;
    Ok(page
        .u32(0)
        .u64(found.logical_id)
        .u16(found.management)
        .u16(found.handle)
        .u16(found.slots)
        .zeros_to(0x28))
}
