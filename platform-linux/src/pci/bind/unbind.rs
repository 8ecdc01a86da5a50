//! The way back to the kernel.

use serde::Serialize;

use super::{refusal, steps};
use crate::error::Error;
use crate::pci::address::PciAddress;
use crate::pci::system::{System, text};
use crate::pci::user_driver::UserDriver;

/// What became of a controller that was given back.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Unbound {
    /// Where it is.
    pub address: PciAddress,
    /// The chip's name.
    pub chip: &'static str,
    /// The driver that lent it, if one did.
    pub former: Option<String>,
    /// The driver that has it now; `None` when the kernel has none for it.
    pub driver: Option<String>,
    /// What the user should know besides.
    pub notes: Vec<String>,
}

/// Gives a controller back to the kernel's own driver, and waits until that has it.
///
/// # Errors
///
/// [`Error::Failed`] when a process has it open (`force` insists), or when the kernel refuses; it is then
/// as it was before.
pub fn unbind(system: &System, address: PciAddress, force: bool) -> Result<Unbound, Error> {
    let _turn = steps::take_turn(system, address)?;
    let controller = system.controller(address)?;
    let mut unbound = Unbound {
        address,
        chip: controller.chip,
        former: controller.driver.clone(),
        driver: None,
        notes: Vec::new(),
    };
    let lent = controller.driver.as_deref().and_then(UserDriver::of);
    if let (Some(driver), None) = (&controller.driver, lent) {
        unbound.driver = Some(driver.clone());
        let kept_for = controller.driver_override.as_deref().and_then(UserDriver::of);
        unbound.notes.push(match kept_for {
            None => format!("{driver} has it already; nothing was done"),
            // Somebody was stopped on the way: it would be gone at the next look for a driver.
            Some(other) => {
                steps::set_override(system, address, None)?;
                format!("{driver} has it already; that it was set apart for {other} is undone")
            }
        });
        return Ok(unbound);
    }
    refusal::if_open(system, &controller, force)?;
    let before = steps::Before::of(&controller);
    let given = (|| {
        steps::set_override(system, address, None)?;
        steps::release(system, address)?;
        steps::probe(system, address)
    })();
    if let Err(error) = given {
        return Err(steps::undone(system, &before, &error));
    }
    unbound.driver = system.driver(address).or_else(|| load_and_wait(system, address));
    if unbound.driver.is_none() {
        unbound.notes.push(format!(
            "this kernel has no driver that takes it (pci id {:04x}:{:04x}); `dmesg | grep {address}` \
             says whether one tried",
            controller.vendor, controller.device
        ));
    }
    if system.path(format!("etc/driverctl.d/{address}")).exists() {
        unbound.notes.push(format!(
            "driverctl gives it away again at the next boot; `driverctl unset-override {address}` \
             ends that"
        ));
    }
    Ok(unbound)
}

/// Loads the module that names this device and lets the kernel look again: where the device was set
/// apart since boot, nobody has needed that module.
fn load_and_wait(system: &System, address: PciAddress) -> Option<String> {
    if let Some(alias) = text(&system.device(address).join("modalias")) {
        // That there is none is what the caller finds out.
        let _ = system.kernel().load_module(&alias);
        if system.driver(address).is_none() {
            let _ = steps::probe(system, address);
        }
    }
    steps::wait_for_a_driver(system, address)
}
