//! Configuration pages: what stands in them.
//!
//! Layouts are mpi_cnfg.h's and mpi2_cnfg.h's. On MPI1 there is each page that QEMU's device has,
//! of the same length and version; those that no driver of this project reads hold zeros.

use super::chip::Chip;
use super::devices::{CONTROLLER_SAS_ADDRESS, Device, Devices, ENCLOSURE_HANDLE};

/// Page types (`MPI2_CONFIG_PAGETYPE_*`, and from 0x10 on `MPI2_CONFIG_EXTPAGETYPE_*`).
pub(crate) mod page_type {
    pub(crate) const IO_UNIT: u8 = 0x00;
    pub(crate) const IOC: u8 = 0x01;
    pub(crate) const BIOS: u8 = 0x02;
    pub(crate) const MANUFACTURING: u8 = 0x09;
    pub(crate) const EXTENDED: u8 = 0x0f;
    pub(crate) const SAS_IO_UNIT: u8 = 0x10;
    pub(crate) const SAS_EXPANDER: u8 = 0x11;
    pub(crate) const SAS_DEVICE: u8 = 0x12;
    pub(crate) const SAS_PHY: u8 = 0x13;
    pub(crate) const ENCLOSURE: u8 = 0x15;
}
use page_type as kind;

/// `DeviceInfo` of a SAS disk: an end device, SSP target.
pub(crate) const DEVICE_INFO: u32 = 0x0401;
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

/// Builds page `number` of type `page_kind` at `address`.
pub(crate) fn build(
    chip: &Chip,
    devices: &Devices,
    page_kind: u8,
    number: u8,
    address: u32,
) -> Result<Vec<u8>, NoPage> {
    let page = |version| Page::new(page_kind, number, version);
    let mpi1 = chip.is_mpi1();
    let built = match (page_kind, number) {
        (kind::MANUFACTURING, 0) => page(0)
            .text(chip.chip_name, 16)
            .text("B2", 8)
            .text(chip.board_name, 16)
            .text("03-25445-02B", 16)
            .text("SP21012345", 16),
        (kind::MANUFACTURING, 2 | 3) if mpi1 => page(0).u16(chip.device_id).zeros_to(12),
        (kind::MANUFACTURING, 5) if mpi1 => page(2).u64(CONTROLLER_SAS_ADDRESS).zeros_to(24),
        (kind::IO_UNIT, 0) if mpi1 => page(0).u64(CONTROLLER_SAS_ADDRESS),
        (kind::IO_UNIT, 0) => page(2).u64(CONTROLLER_SAS_ADDRESS).u32(0x1400_0601).u32(0x1400_0601),
        // Single function, RAID disabled.
        (kind::IO_UNIT, 1) if mpi1 => page(2).u32(0x41),
        (kind::IO_UNIT, 1) => page(4).u32(0x42),
        (kind::IOC, 0) => page(if mpi1 { 1 } else { 2 })
            .zeros_to(0x0c)
            .u16(0x1000)
            .u16(chip.device_id)
            .u32(if mpi1 { 0 } else { 3 })
            .u32(if mpi1 { 0 } else { 0x0107_0000 })
            .u16(0x1000)
            .u16(if mpi1 { 0x8000 } else { 0x3020 }),
        (kind::IOC, 1) if mpi1 => page(3).zeros_to(16),
        (kind::IOC, 1) => page(5).zeros_to(0x18),
        (kind::IOC, 8) if !mpi1 => {
            page(0).u8(chip.phys).zeros_to(8).u16(128).u16(112).zeros_to(0x18)
        }
        (kind::BIOS, 2) if !mpi1 => page(4).zeros_to(0x70),
        (kind::BIOS, 3) if !mpi1 => page(1).u32(0).u32(0x0727_0000).zeros_to(0x40),
        (kind::SAS_IO_UNIT, 0) => sas_io_unit_0(chip, devices, page(if mpi1 { 4 } else { 5 })),
        (kind::SAS_IO_UNIT, 1) => sas_io_unit_1(chip, devices, page(if mpi1 { 7 } else { 9 })),
        (kind::SAS_DEVICE, 0..=2) => {
            let device = device_at(chip, devices, address).ok_or(NoPage::Number)?;
            match number {
                0 => sas_device_0(chip, device, page(if mpi1 { 5 } else { 9 })),
                1 if mpi1 => page(0)
                    .zeros_to(0x0c)
                    .u64(device.target.config().sas_address)
                    .u32(0)
                    .u16(device.handle)
                    .u8(device.slot)
                    .zeros_to(48),
                2 if mpi1 => page(1).u64(device.target.config().sas_address).u32(0),
                _ => return Err(NoPage::Number),
            }
        }
        (kind::SAS_PHY, 0) => sas_phy_0(chip, devices, address, page(if mpi1 { 1 } else { 3 }))?,
        (kind::SAS_PHY, 1) if mpi1 => {
            phy_at(chip, address).ok_or(NoPage::Number)?;
            page(1).zeros_to(28)
        }
        (kind::ENCLOSURE, 0) if !mpi1 => enclosure_0(chip, address, page(4))?,
        _ if mpi1 => {
            let (version, bytes) = zero_page(page_kind, number)?;
            page(version).zeros_to(bytes)
        }
        _ => return Err(missing_mpi2(page_kind)),
    };
    Ok(built.done())
}

fn missing_mpi2(page_kind: u8) -> NoPage {
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

/// Version and length of the pages of MPI1 that hold zeros.
fn zero_page(page_kind: u8, number: u8) -> Result<(u8, usize), NoPage> {
    let found = match (page_kind, number) {
        (kind::MANUFACTURING, 1) => (0, 260),
        (kind::MANUFACTURING, 4) => (5, 112),
        (kind::MANUFACTURING, 6 | 8 | 9 | 10) => (0, 8),
        (kind::MANUFACTURING, 7) => (0, 36),
        (kind::IO_UNIT, 2) => (2, 32),
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
        page = page.u8(phy).u8(0).u8(0).u8(link);
        page = if chip.is_mpi1() {
            page.u32(if device.is_some() { DEVICE_INFO } else { 0 }).u16(handle).u16(handle).u32(0)
        } else {
            // The controller's own phys: SSP, SMP and STP initiators.
            page.u32(0x0e).u16(handle).u16(u16::from(phy) + 1).u32(0).u32(0)
        };
    }
    page
}

fn sas_io_unit_1(chip: &Chip, devices: &Devices, page: Page) -> Page {
    let mut page = if chip.is_mpi1() {
        page.u64(0).u8(chip.phys).zeros_to(20)
    } else {
        page.u16(0).u16(0xfe).u16(0).u16(0xfe).u8(chip.phys).u8(32).u8(0).u8(0)
    };
    for phy in 0..chip.phys {
        let attached = if devices.slot(phy).is_some() { DEVICE_INFO } else { 0 };
        let info = if chip.is_mpi1() { attached } else { 0x0e };
        page = page.u8(phy).u8(0).u8(0).u8(rate(chip) << 4 | 0x08).u32(info).u32(0);
    }
    page
}

/// The device that a SAS device page's address names.
fn device_at<'d>(chip: &Chip, devices: &'d Devices, address: u32) -> Option<&'d Device> {
    let value = address as u16;
    match address >> 28 {
        0 => devices.after(value),
        1 if chip.is_mpi1() && value >> 8 == 0 => devices.slot(value as u8),
        2 => devices.iter().find(|device| device.handle == value),
        _ => None,
    }
}

fn sas_device_0(chip: &Chip, device: &Device, page: Page) -> Page {
    let config = device.target.config();
    let parent = if chip.is_mpi1() { u16::from(device.slot) + 1 } else { 1 };
    let page = page
        .u16(device.slot.into())
        .u16(ENCLOSURE_HANDLE)
        .u64(config.sas_address)
        .u16(parent)
        .u8(device.slot)
        .u8(0)
        .u16(device.handle);
    if chip.is_mpi1() {
        return page.u8(device.slot).u8(0).u32(DEVICE_INFO).u16(DEVICE_FLAGS).u8(device.slot).u8(0);
    }
    page.u8(0).u8(0).u32(DEVICE_INFO).u16(DEVICE_FLAGS).u8(0).u8(1).u64(config.wwn).zeros_to(0x38)
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

fn sas_phy_0(chip: &Chip, devices: &Devices, address: u32, page: Page) -> Result<Page, NoPage> {
    let phy = phy_at(chip, address).ok_or(NoPage::Number)?;
    let device = devices.slot(phy);
    let handle = device.map_or(0, |device| device.handle);
    let rates = rate(chip) << 4 | 0x08;
    if chip.is_mpi1() {
        return Ok(page
            .u16(handle)
            .u16(0)
            .u64(CONTROLLER_SAS_ADDRESS)
            .u16(handle)
            .u8(phy)
            .u8(0)
            .u32(u32::from(device.is_some()))
            .u8(rates)
            .u8(rates)
            .u16(0)
            .u32(0));
    }
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
