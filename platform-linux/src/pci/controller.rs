//! One controller, as sysfs tells of it.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::address::PciAddress;
use super::chips::{self, Generation};
use super::disks::{self, Disk};
use super::system::{System, link_name, names, number, text};
use crate::error::Error;

/// A Fusion-MPT or MegaRAID controller.
#[derive(Clone, Debug, Serialize)]
pub struct Controller {
    /// Where it is.
    pub address: PciAddress,
    /// PCI vendor id, always 0x1000.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// Subsystem vendor and device id: whose board it is.
    pub subsystem: (u16, u16),
    /// PCI class code, 24 bits: 0x010700 is SAS, 0x010400 RAID, 0x010000 SCSI.
    pub class: u32,
    /// PCI revision id.
    pub revision: u8,
    /// The chip's name.
    pub chip: &'static str,
    /// Its host interface.
    pub generation: Generation,
    /// Why this driver does not drive it; `None` where it does.
    pub not_driven: Option<&'static str>,
    /// The driver that has it now.
    pub driver: Option<String>,
    /// The driver that it was set apart for, through `driver_override`.
    pub driver_override: Option<String>,
    /// The number of its IOMMU group, where there is an IOMMU.
    pub iommu_group: Option<u32>,
    /// The other PCI devices of its IOMMU group.
    pub group_members: Vec<GroupMember>,
    /// Its base address registers that are in use.
    pub bars: Vec<Bar>,
    /// The number of its INTx or MSI interrupt; `None` when it has none.
    pub irq: Option<u32>,
    /// The NUMA node that it is attached to, where there is more than one.
    pub numa_node: Option<u32>,
    /// The SCSI hosts that a kernel driver made of it: `host0`.
    pub hosts: Vec<String>,
    /// The block devices behind it that the kernel has.
    pub disks: Vec<Disk>,
}

/// Another device of a controller's IOMMU group: who drives one, drives all.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct GroupMember {
    /// Where it is.
    pub address: PciAddress,
    /// The driver that has it now.
    pub driver: Option<String>,
    /// Whether it is a bridge, which VFIO leaves to the kernel.
    pub bridge: bool,
}

impl GroupMember {
    /// Whether VFIO refuses the whole group because of this device (vfio.rst, "groups"): all of them
    /// must be without a driver, with one of VFIO's, or a bridge.
    #[must_use]
    pub fn in_the_way(&self) -> bool {
        let harmless = |driver: &str| driver.starts_with("vfio") || driver == "pci-stub";
        !self.bridge && self.driver.as_deref().is_some_and(|driver| !harmless(driver))
    }
}

/// A base address register.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
pub struct Bar {
    /// Which of the six.
    pub index: u8,
    /// Its bus address as the processor sees it.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
    /// I/O ports rather than memory.
    pub ports: bool,
}

impl System {
    /// Every Fusion-MPT and MegaRAID controller, in the order of their addresses.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when PCI devices cannot be listed.
    pub fn controllers(&self) -> Result<Vec<Controller>, Error> {
        let addresses = self.addresses()?;
        Ok(addresses.into_iter().filter_map(|address| read(self, address)).collect())
    }

    /// The controller at `address`.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when there is no device, or no controller of this kind.
    pub fn controller(&self, address: PciAddress) -> Result<Controller, Error> {
        if let Some(controller) = read(self, address) {
            return Ok(controller);
        }
        let folder = self.device(address);
        let what = if folder.exists() {
            let id = |name| number(&folder.join(name)).unwrap_or(0xffff);
            let (vendor, device) = (id("vendor"), id("device"));
            format!(
                "{address} is no Fusion-MPT controller: its PCI id is {vendor:04x}:{device:04x}, \
                 and theirs begin with 1000"
            )
        } else {
            format!("there is no PCI device {address}")
        };
        let found: Vec<String> = self
            .controllers()
            .unwrap_or_default()
            .iter()
            .map(|controller| format!("{} ({})", controller.address, controller.chip))
            .collect();
        let hint = if found.is_empty() {
            "this machine has no Fusion-MPT controller, says mptctl status".to_owned()
        } else {
            format!("mptctl status shows those that there are: {}", found.join(", "))
        };
        Err(Error::failed(format!("{what}; {hint}")))
    }
}

fn read(system: &System, address: PciAddress) -> Option<Controller> {
    let folder = system.device(address);
    let id = |name| number(&folder.join(name)).and_then(|id| u16::try_from(id).ok());
    let (vendor, device) = (id("vendor")?, id("device")?);
    let known = chips::find(vendor, device)?;
    let group = link_name(&folder.join("iommu_group")).and_then(|name| name.parse().ok());
    let decimal = |name| text(&folder.join(name))?.parse().ok();
    Some(Controller {
        address,
        vendor,
        device,
        subsystem: (
            id("subsystem_vendor").unwrap_or_default(),
            id("subsystem_device").unwrap_or_default(),
        ),
        class: number(&folder.join("class")).and_then(|class| class.try_into().ok()).unwrap_or(0),
        revision: id("revision").and_then(|revision| revision.try_into().ok()).unwrap_or(0),
        chip: known.chip,
        generation: known.generation,
        not_driven: known.not_driven,
        driver: system.driver(address),
        driver_override: driver_override(&folder),
        iommu_group: group,
        group_members: group.map_or_else(Vec::new, |group| members(system, group, address)),
        bars: bars(&folder),
        irq: decimal("irq").filter(|irq| *irq != 0),
        numa_node: decimal("numa_node"),
        hosts: disks::hosts(system, &folder),
        disks: disks::behind(system, &folder),
    })
}

/// The only driver that a device may have. What was never set reads as "(null)".
pub(crate) fn driver_override(folder: &Path) -> Option<String> {
    text(&folder.join("driver_override")).filter(|name| !name.is_empty() && name != "(null)")
}

/// The devices of an IOMMU group but for `address`.
fn members(system: &System, group: u32, address: PciAddress) -> Vec<GroupMember> {
    let folder = system.path(format!("sys/kernel/iommu_groups/{group}/devices"));
    let others = names(&folder).into_iter().filter_map(|name| name.parse().ok());
    others
        .filter(|other| *other != address)
        .map(|other| GroupMember {
            address: other,
            driver: system.driver(other),
            bridge: number(&system.device(other).join("class"))
                .is_some_and(|class| class >> 8 == 0x0604),
        })
        .collect()
}

/// The first six lines of `resource` are the BARs: start, end and flags each
/// (Documentation/PCI/sysfs-pci.rst). Bit 8 of the flags is I/O ports (`IORESOURCE_IO`).
fn bars(folder: &Path) -> Vec<Bar> {
    let text = fs::read_to_string(folder.join("resource")).unwrap_or_default();
    let bar = |(index, line): (u8, &str)| {
        let mut words = line
            .split_ascii_whitespace()
            .map(|word| u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok());
        let (start, end, flags) = (words.next()??, words.next()??, words.next()??);
        let bytes = end.checked_sub(start)?.checked_add(1)?;
        (flags != 0).then_some(Bar { index, address: start, bytes, ports: flags & 0x100 != 0 })
    };
    (0_u8..6).zip(text.lines()).filter_map(bar).collect()
}
