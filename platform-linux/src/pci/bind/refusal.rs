//! Why a controller is not taken from those who have it.

use std::fs::File;
use std::io::ErrorKind;

use crate::error::Error;
use crate::pci::address::PciAddress;
use crate::pci::controller::{Controller, GroupMember};
use crate::pci::holders::{Holder, Holders};
use crate::pci::processes::OpenFiles;
use crate::pci::system::System;
use crate::pci::user_driver::UserDriver;

/// What insisting needs to be told.
const INSIST: &str = "--force takes it nevertheless";

/// Refuses a controller that this driver does not drive.
pub(super) fn if_not_driven(controller: &Controller, force: bool) -> Result<(), Error> {
    match controller.not_driven {
        Some(why) if !force => Err(Error::failed(format!(
            "{} is a {} ({}) and stays with the kernel: {why}; for another program's sake {INSIST}",
            controller.address, controller.chip, controller.generation
        ))),
        _ => Ok(()),
    }
}

/// Refuses VFIO without an IOMMU, and UIO behind one that would stop its DMA.
pub(super) fn if_without_iommu(
    system: &System,
    controller: &Controller,
    driver: UserDriver,
    force: bool,
) -> Result<(), Error> {
    let address = controller.address;
    match (driver, controller.iommu_group) {
        (UserDriver::Vfio, None) => {
            let unsafe_mode = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
            let without = matches!(system.text(unsafe_mode).as_deref(), Some("Y" | "1"));
            if without && force {
                return Ok(());
            }
            let but = if without {
                format!(
                    " (its unsafe mode, which is switched on, maps no memory for this driver; for \
                     another program's sake {INSIST})"
                )
            } else {
                String::new()
            };
            Err(Error::failed(format!(
                "{address} is behind no IOMMU, which VFIO needs{but}; boot with intel_iommu=on (Intel; \
                 AMD's is on by itself) and VT-d or AMD-Vi enabled in the firmware, or use --driver uio \
                 (uio_pci_generic), which runs as root and without protection from wild DMA"
            )))
        }
        (UserDriver::Uio, Some(group)) if !force => {
            let kind = system.text(format!("sys/kernel/iommu_groups/{group}/type"));
            match kind.as_deref() {
                None | Some("identity") => Ok(()),
                Some(kind) => Err(Error::failed(format!(
                    "{address} is behind an IOMMU that translates addresses (group {group} is of \
                     type {kind}), so it could not reach the memory of a driver on UIO; use --driver \
                     vfio, or boot with iommu=pt; {INSIST}"
                ))),
            }
        }
        _ => Ok(()),
    }
}

/// Refuses VFIO while the kernel has other devices of the IOMMU group.
pub(super) fn if_group_is_busy(
    controller: &Controller,
    together: &[PciAddress],
    force: bool,
) -> Result<(), Error> {
    let in_the_way: Vec<&GroupMember> = controller
        .group_members
        .iter()
        .filter(|member| member.in_the_way() && !together.contains(&member.address))
        .collect();
    if force || in_the_way.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = in_the_way
        .iter()
        .map(|member| {
            format!("{} ({})", member.address, member.driver.as_deref().unwrap_or("no driver"))
        })
        .collect();
    let addresses: Vec<String> =
        in_the_way.iter().map(|member| member.address.to_string()).collect();
    Err(Error::failed(format!(
        "{address} shares IOMMU group {group} with {}, which the kernel uses, and VFIO lends a group \
         as a whole; if these are controllers too, name them in the same command (mptctl bind \
         {address} {}), otherwise put {address} into another slot or use --driver uio; {INSIST}, and \
         nothing can open it until the others are free",
        named.join(", "),
        addresses.join(" "),
        address = controller.address,
        group = controller.iommu_group.unwrap_or_default(),
    )))
}

/// Refuses a controller whose disks are in use. What is not known for sure comes back as a note.
pub(super) fn if_held(
    system: &System,
    controller: &Controller,
    force: bool,
) -> Result<Option<String>, Error> {
    let mut holders = system.holders(controller);
    if force || holders.known.is_empty() {
        return Ok(holders.unknown);
    }
    let only_processes = |holders: &Holders| holders.known.iter().all(Holder::is_process);
    if only_processes(&holders) {
        // udev's own workers look into disks that have just come.
        system.kernel().settle();
        holders = system.holders(controller);
        if holders.known.is_empty() {
            return Ok(holders.unknown);
        }
    }
    let only_processes = only_processes(&holders);
    let hint = if only_processes { "end these programs" } else { "unmount or stop these" };
    Err(Error::failed(format!(
        "{} is in use and was left alone: {}; {hint} first; {INSIST}, and data may be lost",
        controller.address,
        holders.text()
    )))
}

/// Claims every disk, so that nobody mounts one between the look at it and its end. The claims are to be
/// held until the controller has changed hands.
pub(super) fn claim(
    system: &System,
    controller: &Controller,
    force: bool,
) -> Result<Vec<File>, Error> {
    let mut claims = Vec::new();
    for disk in &controller.disks {
        match system.kernel().claim(&system.node(&disk.name)) {
            Ok(Some(claim)) => claims.push(claim),
            Ok(None) if !force => {
                return Err(Error::failed(format!(
                    "{} was left alone: somebody has taken {} into use just now; see `mptctl status`, \
                     and unmount or stop it first; {INSIST}, and data may be lost",
                    controller.address, disk.name
                )));
            }
            // One without a medium cannot be claimed, nor used.
            _ => {}
        }
    }
    Ok(claims)
}

/// Refuses a controller that a process drives.
pub(super) fn if_open(system: &System, controller: &Controller, force: bool) -> Result<(), Error> {
    let Some(lent) = system.lent(controller, &OpenFiles::read(system)) else { return Ok(()) };
    if force || lent.users.is_empty() {
        return Ok(());
    }
    let users: Vec<String> = lent.users.iter().map(ToString::to_string).collect();
    Err(Error::failed(format!(
        "{} is in use and was left alone: {} is open in {}; end that first; {INSIST}{}",
        controller.address,
        lent.node.display(),
        users.join(", "),
        match lent.driver {
            UserDriver::Vfio => ", and the kernel waits until they have let go",
            UserDriver::Uio => ", in the middle of what they do",
        }
    )))
}

/// Has every disk written out before it is taken, and refuses when one cannot be: what the kernel
/// still caches of it would be lost.
pub(super) fn if_unflushed(
    system: &System,
    controller: &Controller,
    force: bool,
) -> Result<(), Error> {
    // Of a drive without a medium there is nothing to write.
    for disk in controller.disks.iter().filter(|disk| disk.bytes > 0) {
        match system.kernel().flush(&system.node(&disk.name)) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(Error::failed(format!(
                    "only root may take {} from the kernel; run as root: sudo mptctl bind {0}",
                    controller.address
                )));
            }
            Err(error) if !force => {
                return Err(Error::failed(format!(
                    "cannot flush {} before it is taken from the kernel: {error}; see dmesg for \
                     errors of the disk; {INSIST}",
                    disk.name
                )));
            }
            _ => {}
        }
    }
    Ok(())
}
