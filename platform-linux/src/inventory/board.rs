//! The board: chip, names, versions, PCI, temperatures.

use fusion_mpt::wire::config::pages::{DeviceInfo, Ioc0, Manufacturing0, mpi1, mpi2};
use fusion_mpt::wire::config::{ExtPageType, PageType, page_address};
use fusion_mpt::wire::ioc::{ProductId, Version};
use serde::Serialize;

use super::facts;
use super::links::Phy;
use super::page::{Page, Pages, name};
use crate::error::Error;

/// What the board says of itself. What it does not tell is `None`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Board {
    /// The chip (manufacturing page 0).
    pub chip: Option<String>,
    /// The chip's revision (manufacturing page 0).
    pub chip_revision: Option<String>,
    /// The board (manufacturing page 0).
    pub board: Option<String>,
    /// Its assembly number (manufacturing page 0).
    pub assembly: Option<String>,
    /// Its tracer, which is its serial number (manufacturing page 0).
    pub tracer: Option<String>,
    /// Version of the firmware (IOC facts).
    pub firmware: String,
    /// `IT`, or `IR` for firmware with integrated RAID (IOC facts, `ProductID`).
    pub firmware_kind: &'static str,
    /// The chip's family by its product id (IOC facts).
    pub family: &'static str,
    /// Version of the option ROM (IO unit page 2 on MPI 1.x, BIOS page 3 on MPI 2.x).
    pub bios: Option<String>,
    /// NVDATA that the firmware brings (SAS IO unit page 0 on MPI 1.x, IO unit page 0 on MPI 2.x).
    pub nvdata_default: Option<String>,
    /// NVDATA in use.
    pub nvdata: Option<String>,
    /// SAS address (SAS device page 0 of the controller itself; else manufacturing page 5, else IO
    /// unit page 0).
    pub sas_address: Option<String>,
    /// What it speaks: initiator, target.
    pub protocols: Vec<&'static str>,
    /// What it can do, by name.
    pub capabilities: Vec<&'static str>,
    /// What is wrong with it (`IOCExceptions`), empty if nothing is.
    pub exceptions: Vec<&'static str>,
    /// PCI vendor and device, as `1000:0072` (IOC page 0).
    pub pci_id: Option<String>,
    /// PCI revision (IOC page 0).
    pub pci_revision: Option<u8>,
    /// PCI subsystem vendor and device (IOC page 0).
    pub pci_subsystem: Option<String>,
    /// The link to the host (IO unit page 7, MPI 2.x).
    pub pci_link: Option<PciLink>,
    /// What its sensors measure (IO unit page 7, MPI 2.x).
    pub temperatures: Vec<Temperature>,
}

/// The link to the host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PciLink {
    /// Lanes.
    pub lanes: u8,
    /// Gigatransfers per second of each.
    pub gigatransfers: f32,
}

/// A sensor of the controller and what it measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Temperature {
    /// Where: `IOC` or `board`.
    pub sensor: &'static str,
    /// Degrees Celsius.
    pub celsius: i32,
}

pub(super) fn of(pages: &mut Pages<'_>, phys: Option<&[Phy]>) -> Result<Board, Error> {
    let bring_up = pages.host().bring_up().clone();
    let product = ProductId(bring_up.facts.product_id);
    let mut board = Board {
        firmware: bring_up.facts.firmware_version.to_string(),
        firmware_kind: if product.is_integrated_raid() { "IR" } else { "IT" },
        family: product.family_name(),
        ..Board::default()
    };
    if let Some(page) = pages.plain(PageType::MANUFACTURING, 0, 0)? {
        names(&mut board, &page);
    }
    if let Some(page) = pages.plain(PageType::IOC, 0, 0)? {
        pci(&mut board, &page);
    }
    let facts = &bring_up.facts;
    if pages.is_mpi1() {
        let reply: fusion_mpt::wire::ioc::mpi1::IocFactsReply =
            fusion_mpt::wire::read_padded(&bring_up.facts_reply);
        board.capabilities = facts::capabilities_of_mpi1(facts.capabilities);
        board.exceptions = facts::exceptions_of_mpi1(reply.ioc_exceptions.get());
        board.protocols = facts::protocols_of_mpi1(bring_up.port_facts.protocol_flags);
        let bios = pages.plain(PageType::IO_UNIT, 2, 0)?;
        board.bios = bios.and_then(|page| page.u32(8)).and_then(version);
        if let Some(page) = pages.extended(ExtPageType::SAS_IO_UNIT, 0, 0)? {
            let unit: mpi1::SasIoUnit0 = page.wire();
            board.nvdata_default = short_version(unit.nvdata_version_default.get());
            board.nvdata = short_version(unit.nvdata_version_persistent.get());
        }
    } else {
        let reply: fusion_mpt::wire::ioc::mpi2::IocFactsReply =
            fusion_mpt::wire::read_padded(&bring_up.facts_reply);
        board.capabilities = facts::capabilities_of_mpi2(facts.capabilities);
        board.exceptions = facts::exceptions_of_mpi2(reply.ioc_exceptions.get());
        board.protocols = facts::protocols_of_mpi2(reply.protocol_flags.get());
        let bios = pages.plain(PageType::BIOS, 3, 0)?;
        board.bios = bios.and_then(|page| page.u32(8)).and_then(version);
        if let Some(page) = pages.plain(PageType::IO_UNIT, 0, 0)? {
            board.nvdata_default = page.u32(0x0c).and_then(version);
            board.nvdata = page.u32(0x10).and_then(version);
        }
        if let Some(page) = pages.plain(PageType::IO_UNIT, 7, 0)? {
            board.pci_link = pci_link(&page);
            board.temperatures = sensors(&page);
        }
    }
    board.sas_address = sas_address(pages, phys)?;
    Ok(board)
}

/// What the controller's sensors measure.
pub(super) fn temperatures(pages: &mut Pages<'_>) -> Result<Vec<Temperature>, Error> {
    if pages.is_mpi1() {
        return Ok(Vec::new());
    }
    let page = pages.plain(PageType::IO_UNIT, 7, 0)?;
    Ok(page.map(|page| sensors(&page)).unwrap_or_default())
}

/// Manufacturing page 0.
fn names(board: &mut Board, page: &Page) {
    use core::mem::offset_of;
    board.chip = page.text(offset_of!(Manufacturing0, chip_name), 16);
    board.chip_revision = page.text(offset_of!(Manufacturing0, chip_revision), 8);
    board.board = page.text(offset_of!(Manufacturing0, board_name), 16);
    board.assembly = page.text(offset_of!(Manufacturing0, board_assembly), 16);
    board.tracer = page.text(offset_of!(Manufacturing0, board_tracer_number), 16);
}

/// IOC page 0.
fn pci(board: &mut Board, page: &Page) {
    if page.bytes().len() < size_of::<Ioc0>() {
        return;
    }
    let ioc: Ioc0 = page.wire();
    let pair =
        |vendor: u16, device: u16| (vendor != 0).then(|| format!("{vendor:04x}:{device:04x}"));
    board.pci_id = pair(ioc.vendor_id.get(), ioc.device_id.get());
    board.pci_revision = Some(ioc.revision_id);
    board.pci_subsystem = pair(ioc.subsystem_vendor_id.get(), ioc.subsystem_id.get());
}

/// IO unit page 7: `PCIeWidth` counts lanes, `PCIeSpeed` is a code (`MPI2_IOUNITPAGE7_PCIE_SPEED_*`).
fn pci_link(page: &Page) -> Option<PciLink> {
    let gigatransfers = match page.u8(7)? & 0x0f {
        0 => 2.5,
        1 => 5.0,
        2 => 8.0,
        3 => 16.0,
        _ => return None,
    };
    page.u8(6).filter(|lanes| *lanes > 0).map(|lanes| PciLink { lanes, gigatransfers })
}

/// IO unit page 7: a number and its unit (`MPI2_IOUNITPAGE7_IOC_TEMP_*`), twice.
fn sensors(page: &Page) -> Vec<Temperature> {
    let sensor = |sensor, at: usize| {
        let number = i32::from(page.u16(at)? as i16);
        match page.u8(at + 2)? {
            1 => Some(Temperature { sensor, celsius: (number - 32) * 5 / 9 }),
            2 => Some(Temperature { sensor, celsius: number }),
            _ => None,
        }
    };
    [sensor("IOC", 0x10), sensor("board", 0x14)].into_iter().flatten().collect()
}

/// The controller's own SAS address.
fn sas_address(pages: &mut Pages<'_>, phys: Option<&[Phy]>) -> Result<Option<String>, Error> {
    let own =
        phys.and_then(|phys| phys.iter().map(|phy| phy.controller_handle).find(|own| *own != 0));
    if let Some(handle) = own {
        let address = page_address::sas_device(handle);
        let page = pages.extended(ExtPageType::SAS_DEVICE, 0, address)?;
        if let Some(address) = page.as_ref().and_then(own_address) {
            return Ok(Some(address));
        }
    }
    let mpi1 = pages.is_mpi1();
    // The base name on MPI 1.x; the name of the first phy on MPI 2.x.
    let at = if mpi1 { 4 } else { 0x10 };
    let manufacturing = pages.plain(PageType::MANUFACTURING, 5, 0)?;
    if let Some(address) = manufacturing.and_then(|page| page.u64(at)).and_then(name) {
        return Ok(Some(address));
    }
    Ok(pages.plain(PageType::IO_UNIT, 0, 0)?.and_then(|page| page.u64(4)).and_then(name))
}

/// The address in a SAS device page 0 that is the controller's; QEMU's has a disk under its handle.
/// Address and device info stand at the same place in both generations.
fn own_address(page: &Page) -> Option<String> {
    use core::mem::offset_of;
    let info = page.u32(offset_of!(mpi2::SasDevice0, device_info))?;
    let is_disk = DeviceInfo::from_bits_retain(info).is_scsi_target();
    let address = page.u64(offset_of!(mpi2::SasDevice0, sas_address)).filter(|_| !is_disk);
    address.and_then(name)
}

/// A version of four parts; 0 is none.
fn version(word: u32) -> Option<String> {
    (word != 0).then(|| Version::from_word(word).to_string())
}

/// A version of two parts, in hex as the vendor prints it; 0 is none.
fn short_version(word: u16) -> Option<String> {
    (word != 0).then(|| format!("{:02x}.{:02x}", word >> 8, word & 0xff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sensor_that_is_not_there_is_left_out_and_fahrenheit_is_converted() {
        let mut page = vec![0; 0x28];
        page[0x10..0x13].copy_from_slice(&[212, 0, 1]);
        assert_eq!(sensors(&Page::new(page)), [Temperature { sensor: "IOC", celsius: 100 }]);
    }

    #[test]
    fn a_link_of_no_lanes_is_none() {
        assert_eq!(pci_link(&Page::new(vec![0; 0x28])), None);
        let page = vec![0, 0, 0, 0, 0, 0, 8, 2];
        assert_eq!(pci_link(&Page::new(page)), Some(PciLink { lanes: 8, gigatransfers: 8.0 }));
    }

    proptest! {
        #[test]
        fn pages_of_any_bytes_and_length_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let page = Page::new(bytes);
            let mut board = Board::default();
            names(&mut board, &page);
            pci(&mut board, &page);
            let _ = (pci_link(&page), sensors(&page));
        }
    }
}
