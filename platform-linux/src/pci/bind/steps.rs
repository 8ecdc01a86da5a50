//! The writes to sysfs, in their order, and the way back.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::Error;
use crate::pci::address::PciAddress;
use crate::pci::controller::{Controller, driver_override};
use crate::pci::system::System;

/// What a controller was before it was touched.
#[derive(Clone, Debug)]
pub(super) struct Before {
    pub(super) address: PciAddress,
    pub(super) driver: Option<String>,
    pub(super) driver_override: Option<String>,
}

impl Before {
    pub(super) fn of(controller: &Controller) -> Self {
        Self {
            address: controller.address,
            driver: controller.driver.clone(),
            driver_override: controller.driver_override.clone(),
        }
    }
}

/// Keeps others of this program from giving the same controller away or back until it is dropped: each
/// would take what the other is half through for what was before, and put that back.
#[derive(Debug)]
pub(super) struct Turn {
    /// Held, not looked at. Whoever may not write here has nothing to wait for: the kernel refuses them.
    _file: Option<File>,
}

/// Waits for its turn at a controller.
///
/// # Errors
///
/// [`Error::Failed`] when another has not ended within the time that a driver may take.
pub(super) fn take_turn(system: &System, address: PciAddress) -> Result<Turn, Error> {
    let path = system.device(address).join("driver_override");
    let Ok(file) = File::options().write(true).open(path) else { return Ok(Turn { _file: None }) };
    let end = Instant::now() + system.patience();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::failed(format!(
                    "another mptctl is giving {address} away or back at this moment; see `mptctl \
                     status`, and try again when it has ended"
                )));
            }
            // Where files of sysfs could not be locked, there is nobody to wait for, either.
            _ => return Ok(Turn { _file: Some(file) }),
        }
    }
}

/// Sees that the kernel has a driver, loading its module if need be.
pub(super) fn load_driver(system: &System, name: &str) -> Result<(), Error> {
    let folder = system.path("sys/bus/pci/drivers").join(name);
    if folder.exists() {
        return Ok(());
    }
    let loaded = system.kernel().load_module(name);
    if folder.exists() {
        return Ok(());
    }
    let why = match loaded {
        Ok(()) => "modprobe loaded it, but no driver came of it".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Error::failed(format!(
        "the kernel has no driver {name}: {why}; run `modprobe {name}` as root, or install the \
         kernel's modules if it is not among them"
    )))
}

/// The module that maps memory for VFIO. It is a soft dependency of the driver's, which a minimal
/// modprobe passes over; where it is built in, or cannot be had, opening the controller tells.
const VFIO_MAPPING: &str = "vfio_iommu_type1";

/// Loads what maps memory for VFIO, if it is not there.
pub(super) fn load_mapping(system: &System) {
    if !system.path("sys/module").join(VFIO_MAPPING).exists() {
        let _ = system.kernel().load_module(VFIO_MAPPING);
    }
}

/// Moves a controller from whatever driver has it to `driver`.
pub(super) fn hand_over(
    system: &System,
    controller: &Controller,
    driver: &str,
) -> Result<(), Error> {
    let address = controller.address;
    set_override(system, address, Some(driver))?;
    release(system, address)?;
    probe(system, address)?;
    match wait_for_a_driver(system, address) {
        Some(found) if found == driver => Ok(()),
        Some(other) => Err(Error::failed(format!(
            "the kernel gave {address} to {other} and not to {driver}; something else binds devices \
             here (driverctl, a udev rule): stop that first"
        ))),
        None => Err(Error::failed(format!(
            "{driver} did not take {address}; `dmesg | grep {address}` says why"
        ))),
    }
}

/// Puts a controller back to what it was.
pub(super) fn put_back(system: &System, before: &Before) -> Result<(), Error> {
    let address = before.address;
    // Whoever may not write at all has changed nothing, either.
    if driver_override(&system.device(address)) != before.driver_override {
        set_override(system, address, before.driver_override.as_deref())?;
    }
    if system.driver(address) == before.driver {
        return Ok(());
    }
    release(system, address)?;
    let Some(driver) = &before.driver else { return Ok(()) };
    // By name first: the kernel's choice might be another one than it was.
    let by_name = write(system, &format!("sys/bus/pci/drivers/{driver}/bind"), address);
    if by_name.is_err() {
        probe(system, address)?;
    }
    match wait_for_a_driver(system, address) {
        Some(found) if found == *driver => Ok(()),
        Some(other) => Err(Error::failed(format!("{address} went to {other} and not to {driver}"))),
        None => Err(Error::failed(format!(
            "{driver} did not take {address} back; `dmesg | grep {address}` says why, and \
             `mptctl unbind {address}` tries again"
        ))),
    }
}

/// Puts a controller back after `error`, and says how that went.
pub(super) fn undone(system: &System, before: &Before, error: &Error) -> Error {
    let address = before.address;
    match put_back(system, before) {
        Ok(()) => {
            let now = before.driver.as_deref().map_or_else(
                || format!("{address} is without a driver, as before"),
                |driver| format!("{driver} has {address} as before"),
            );
            Error::failed(format!("{error} ({now})"))
        }
        Err(second) => Error::failed(format!("{error}; nor could it be undone: {second}")),
    }
}

/// Names the only driver that may have a device; without one, any may.
pub(super) fn set_override(
    system: &System,
    address: PciAddress,
    driver: Option<&str>,
) -> Result<(), Error> {
    let path = system.device(address).join("driver_override");
    // A line without text clears it.
    let text = driver.unwrap_or("\n");
    system.kernel().write(&path, text).map_err(|error| {
        let what = match driver {
            Some(driver) => format!("set {address} apart for {driver}"),
            None => format!("clear the driver_override of {address}"),
        };
        failed(&what, address, &error)
    })
}

/// Takes a device from its driver, if one has it. The driver may take its time: it flushes disks.
pub(super) fn release(system: &System, address: PciAddress) -> Result<(), Error> {
    let Some(driver) = system.driver(address) else { return Ok(()) };
    let path = format!("sys/bus/pci/drivers/{driver}/unbind");
    write(system, &path, address)
        .map_err(|error| failed(&format!("take {address} from {driver}"), address, &error))
}

/// Has the kernel look for a driver.
pub(super) fn probe(system: &System, address: PciAddress) -> Result<(), Error> {
    write(system, "sys/bus/pci/drivers_probe", address)
        .map_err(|error| failed(&format!("have {address} find a driver"), address, &error))
}

/// The driver that a device has, which may come a little after the kernel was asked.
pub(super) fn wait_for_a_driver(system: &System, address: PciAddress) -> Option<String> {
    let end = Instant::now() + system.patience();
    loop {
        let driver = system.driver(address);
        if driver.is_some() || Instant::now() >= end {
            return driver;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn write(system: &System, path: &str, address: PciAddress) -> io::Result<()> {
    system.kernel().write(&system.path(path), &address.to_string())
}

fn failed(what: &str, address: PciAddress, error: &io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "run as root",
        io::ErrorKind::NotFound => "is it still there? see `mptctl status`",
        _ => {
            return Error::failed(format!(
                "cannot {what}: {error}; `dmesg | grep {address}` may say why"
            ));
        }
    };
    Error::failed(format!("cannot {what}: {error}; {hint}"))
}
