//! The kernel's drivers that lend a PCI device to user space, and the nodes they lend it by.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

use super::address::PciAddress;
use super::controller::Controller;
use super::processes::{OpenFiles, Process};
use super::system::{System, names, text};

/// A driver that lends a PCI device to user space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum UserDriver {
    /// `vfio-pci`: DMA goes through the IOMMU, and a normal user may be let in.
    #[serde(rename = "vfio-pci")]
    Vfio,
    /// `uio_pci_generic`: DMA goes by physical addresses, for root only.
    #[serde(rename = "uio_pci_generic")]
    Uio,
}

impl UserDriver {
    /// The driver's name in sysfs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vfio => "vfio-pci",
            Self::Uio => "uio_pci_generic",
        }
    }

    /// The driver of this name, if it is one of them.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Vfio, Self::Uio].into_iter().find(|driver| driver.name() == name)
    }
}

impl fmt::Display for UserDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for UserDriver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "vfio" | "vfio-pci" => Ok(Self::Vfio),
            "uio" | "uio_pci_generic" => Ok(Self::Uio),
            _ => Err(format!("{text:?} is neither vfio nor uio")),
        }
    }
}

/// A device node that lends a controller.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Lent {
    /// By which driver.
    pub driver: UserDriver,
    /// The node: `/dev/vfio/5`, `/dev/uio0`.
    pub node: PathBuf,
    /// Whether this user may open it.
    pub accessible: bool,
    /// The processes that have it open.
    pub users: Vec<Process>,
    /// Whether there may be further ones, of other users.
    pub users_hidden: bool,
}

impl System {
    /// The node by which a controller is lent; `None` when a kernel driver has it, or none.
    pub(crate) fn lent(&self, controller: &Controller, open: &OpenFiles) -> Option<Lent> {
        let driver = UserDriver::of(controller.driver.as_deref()?)?;
        // The group of a machine without an IOMMU comes with the driver, so it is read afresh.
        let name = self.lending_node(controller.address, driver)?;
        let node = self.node(&name);
        // VFIO's container has a node of its own, which udev opens to everybody.
        let container = driver == UserDriver::Uio || self.accessible("vfio/vfio");
        let mut users = open.of(&name).to_vec();
        // The device has a node of its own beside its group's, for programs that use iommufd.
        for device in names(&self.device(controller.address).join("vfio-dev")) {
            users.extend_from_slice(open.of(&format!("vfio/devices/{device}")));
        }
        Some(Lent {
            driver,
            accessible: container && self.accessible(&name),
            users,
            users_hidden: open.hidden,
            node,
        })
    }

    fn accessible(&self, node: &str) -> bool {
        self.kernel().accessible(&self.node(node))
    }

    /// The name below /dev of the node by which `driver` lends a device that it has.
    pub(crate) fn lending_node(&self, address: PciAddress, driver: UserDriver) -> Option<String> {
        let folder = self.device(address);
        match driver {
            UserDriver::Uio => names(&folder.join("uio")).into_iter().next(),
            UserDriver::Vfio => {
                let group = super::system::link_name(&folder.join("iommu_group"))?;
                let kind = text(&folder.join("iommu_group/name"));
                // A group that VFIO made up because it was told to do without an IOMMU.
                let without = kind.as_deref() == Some("vfio-noiommu");
                Some(format!("vfio/{}{group}", if without { "noiommu-" } else { "" }))
            }
        }
    }
}
