//! Giving a controller to user space, and back to the kernel.
//!
//! The kernel binds a device to the driver that its `driver_override` names, and to no other
//! (Documentation/ABI/testing/sysfs-bus-pci). So: say the name, take the device from the driver that
//! has it, have the kernel look for a driver again, and see that the named one got it. Whatever fails
//! on the way, everything is put back as it was.

mod refusal;
mod steps;
mod unbind;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Serialize;

use super::address::PciAddress;
use super::controller::Controller;
use super::owner::Owner;
use super::system::System;
use super::user_driver::UserDriver;
use crate::error::Error;

pub use unbind::{Unbound, unbind};

/// What [`bind`] is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The controller.
    pub address: PciAddress,
    /// The driver to give it to; VFIO if not said. UIO has to be asked for, since it protects nobody
    /// from wild DMA.
    pub driver: Option<UserDriver>,
    /// Whether to take it though its disks are held, or though this driver does not drive it.
    pub force: bool,
    /// Whom to give the device node to.
    pub owner: Option<Owner>,
    /// Devices that are bound with it, so that they are not in its way in their IOMMU group.
    pub together: Vec<PciAddress>,
}

impl Request {
    /// The plain request.
    #[must_use]
    pub const fn new(address: PciAddress) -> Self {
        Self { address, driver: None, force: false, owner: None, together: Vec::new() }
    }
}

/// A controller that is lent to user space, and what it was before.
#[derive(Clone, Debug, Serialize)]
pub struct Bound {
    #[serde(skip)]
    system: System,
    /// Where it is.
    pub address: PciAddress,
    /// The chip's name.
    pub chip: &'static str,
    /// The driver that lends it.
    pub driver: UserDriver,
    /// The driver that had it before; the same when nothing had to be done.
    pub former: Option<String>,
    #[serde(skip)]
    former_override: Option<String>,
    /// The device node by which it is lent.
    pub node: Option<PathBuf>,
    /// What the user should know besides.
    pub notes: Vec<String>,
}

impl Bound {
    /// The line that has the same done at every boot, by the program of the package driverctl.
    #[must_use]
    pub fn to_make_it_last(&self) -> String {
        format!("driverctl set-override {} {}", self.address, self.driver)
    }

    /// Gives the controller back to the driver that had it before, and waits until it has it. A
    /// controller that was lent before too, or had no driver, goes to the kernel's own. Says which driver has it
    /// then; `None` when none does.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the kernel refuses, or when a process has the controller open, be it this
    /// one: drop the bus first.
    pub fn restore(&self) -> Result<Option<String>, Error> {
        let lent_before = self.former.as_deref().and_then(UserDriver::of).is_some();
        if lent_before || self.former.is_none() {
            return unbind(&self.system, self.address, false).map(|unbound| unbound.driver);
        }
        self.undo()
    }

    /// Makes the controller what it was before, whatever that was: without a driver if it had none, lent
    /// if it was lent. Says which driver has it then; `None` when none does.
    ///
    /// # Errors
    ///
    /// As [`Bound::restore`].
    pub fn undo(&self) -> Result<Option<String>, Error> {
        let _turn = steps::take_turn(&self.system, self.address)?;
        refusal::if_open(&self.system, &self.system.controller(self.address)?, false)?;
        let before = steps::Before {
            address: self.address,
            driver: self.former.clone(),
            driver_override: self.former_override.clone(),
        };
        steps::put_back(&self.system, &before)?;
        Ok(self.system.driver(self.address))
    }
}

/// A controller that user space has already, to [`restore`](Bound::restore) it to the kernel's own
/// driver later. `None` when it is not lent.
///
/// # Errors
///
/// [`Error::Failed`] when there is no such controller.
pub fn already(system: &System, address: PciAddress) -> Result<Option<Bound>, Error> {
    let controller = system.controller(address)?;
    let driver = controller.driver.as_deref().and_then(UserDriver::of);
    Ok(driver.map(|driver| bound(system, &controller, driver)))
}

/// Gives a controller to user space.
///
/// # Errors
///
/// [`Error::Failed`] with a sentence when it is refused (held disks, no IOMMU, ...) or when the kernel
/// refuses; the controller is then as it was before.
pub fn bind(system: &System, request: &Request) -> Result<Bound, Error> {
    let _turn = steps::take_turn(system, request.address)?;
    let controller = system.controller(request.address)?;
    refusal::if_not_driven(&controller, request.force)?;
    let driver = request.driver.unwrap_or(UserDriver::Vfio);
    refusal::if_without_iommu(system, &controller, driver, request.force)?;
    if driver == UserDriver::Vfio {
        refusal::if_group_is_busy(&controller, &request.together, request.force)?;
    }
    if driver == UserDriver::Uio && request.owner.is_some() {
        return Err(Error::usage(
            "--owner is for VFIO: under UIO a driver needs physical addresses, which Linux tells to \
             root alone; leave --owner out and run as root",
        ));
    }
    if controller.driver.as_deref() == Some(driver.name()) {
        let bound = bound(system, &controller, driver);
        give_node(system, &bound, request.owner)?;
        load_mapping(system, driver);
        return Ok(bound);
    }
    steps::load_driver(system, driver.name())?;
    let mut notes = Vec::new();
    notes.extend(refusal::if_held(system, &controller, request.force)?);
    let claims = refusal::claim(system, &controller, request.force)?;
    refusal::if_open(system, &controller, request.force)?;
    refusal::if_unflushed(system, &controller, request.force)?;

    let before = steps::Before::of(&controller);
    let done = steps::hand_over(system, &controller, driver.name())
        .map(|()| bound(system, &controller, driver))
        .and_then(|bound| give_node(system, &bound, request.owner).map(|()| bound));
    drop(claims);
    match done {
        Ok(bound) => {
            load_mapping(system, driver);
            Ok(Bound { notes, former: before.driver, ..bound })
        }
        Err(error) => Err(steps::undone(system, &before, &error)),
    }
}

/// What VFIO needs besides. Where the controller was set apart at boot, nobody has loaded it, either.
fn load_mapping(system: &System, driver: UserDriver) {
    if driver == UserDriver::Vfio {
        steps::load_mapping(system);
    }
}

fn bound(system: &System, controller: &Controller, driver: UserDriver) -> Bound {
    let name = system.lending_node(controller.address, driver);
    Bound {
        system: system.clone(),
        address: controller.address,
        chip: controller.chip,
        driver,
        former: controller.driver.clone(),
        former_override: controller.driver_override.clone(),
        node: name.map(|name| system.node(&name)),
        notes: Vec::new(),
    }
}

/// Gives the device node to its owner. udev is waited for, since it would set root's ownership
/// afterwards.
fn give_node(system: &System, bound: &Bound, owner: Option<Owner>) -> Result<(), Error> {
    let Some(owner) = owner else { return Ok(()) };
    let Some(node) = &bound.node else {
        return Err(Error::failed(format!(
            "{} has {} but made no device node for it; see dmesg",
            bound.driver, bound.address
        )));
    };
    system.kernel().settle();
    system.kernel().change_owner(node, owner.user, owner.group).map_err(|error| {
        Error::failed(format!(
            "cannot change the owner of {}: {error}; run as root, or leave --owner out",
            node.display()
        ))
    })
}
