//! What can be in the way of opening a device by VFIO, as sentences with the remedy.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use vfio_ioctls::VfioError;

use crate::error::Error;
use crate::pci_files::PciFiles;

/// The IOMMU group of a device that VFIO could open.
pub(super) fn check(files: &PciFiles) -> Result<u32, Error> {
    let address = files.address();
    match files.driver().as_deref() {
        Some("vfio-pci") => {}
        Some(other) => {
            return Err(Error::failed(format!(
                "{address} is bound to {other}; give it to user space with `mptctl bind {address}`"
            )));
        }
        None => {
            return Err(Error::failed(format!(
                "{address} is bound to no driver; give it to user space with `mptctl bind {address}`"
            )));
        }
    }
    let no_iommu = || {
        Error::failed(format!(
            "{address} is in no IOMMU group, so VFIO cannot keep it to its own memory: switch the IOMMU on in the machine's firmware and with intel_iommu=on (AMD's is on by itself) on the kernel's command line; without one, `mptctl bind --driver uio {address}` works as root"
        ))
    };
    let group = files.iommu_group().ok_or_else(no_iommu)?;
    if Path::new(&format!("/dev/vfio/noiommu-{group}")).exists() {
        return Err(Error::failed(format!(
            "{address} is in VFIO's unsafe mode without an IOMMU, in which no memory can be mapped for it: switch the IOMMU on (intel_iommu=on), or use `mptctl bind --driver uio {address}`, which needs root"
        )));
    }
    Ok(group)
}

/// What opening met with.
pub(super) fn opening(files: &PciFiles, group: u32, error: &VfioError) -> Error {
    let address = files.address();
    let remedy = match error {
        VfioError::OpenContainer(error) => container(error),
        VfioError::OpenGroup(error, _) => self::group(group, error),
        VfioError::VfioExtension | VfioError::VfioInvalidType => {
            "the module vfio_iommu_type1 is missing: `modprobe vfio_iommu_type1`".to_owned()
        }
        VfioError::GroupViable => not_viable(files, group),
        VfioError::GroupSetContainer => format!(
            "group {group} is in use by another program, or is one without an IOMMU: stop the other program"
        ),
        VfioError::ContainerSetIOMMU(error) => match Errno::from_raw_os_error(error.errno()) {
            Errno::PERM => "this machine's IOMMU cannot remap interrupts, so a card could forge them: switch interrupt remapping on in the firmware, or, on a machine whose cards you trust, load vfio_iommu_type1 with allow_unsafe_interrupts=1".to_owned(),
            Errno::BUSY => "its IOMMU domain is in use by another program: stop that first".to_owned(),
            _ => "look at the kernel's log for what the IOMMU says".to_owned(),
        },
        VfioError::GroupGetDeviceFD(error) => match Errno::from_raw_os_error(error.errno()) {
            Errno::BUSY => "another program has it open: stop that first".to_owned(),
            Errno::NODEV | Errno::NOENT => format!("it has just gone, or lost its driver: `mptctl status` tells, `mptctl bind {address}` binds it again"),
            _ => "look at the kernel's log for what the card did".to_owned(),
        },
        _ => "look at the kernel's log".to_owned(),
    };
    Error::failed(format!("cannot open {address} by VFIO: {error}; {remedy}"))
}

fn container(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "the module vfio is not loaded: `modprobe vfio-pci`".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "make /dev/vfio/vfio accessible for you: `chmod 0666 /dev/vfio/vfio`, which gives access to no device by itself".to_owned()
        }
        _ => "the module vfio may be missing: `modprobe vfio-pci`".to_owned(),
    }
}

fn group(group: u32, error: &io::Error) -> String {
    if Errno::from_io_error(error) == Some(Errno::BUSY) {
        return format!(
            "another program has the group open; `fuser -v /dev/vfio/{group}` says which, stop it first"
        );
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "run as root, or make the group yours: `chown $USER /dev/vfio/{group}`, and for good by a udev rule"
        ),
        io::ErrorKind::NotFound => format!(
            "/dev/vfio/{group} is not there: the device may just have been bound, or udev is not running; try again"
        ),
        _ => "look at the kernel's log".to_owned(),
    }
}

/// Says which of the group's devices the kernel still has.
fn not_viable(files: &PciFiles, group: u32) -> String {
    let folder = format!("/sys/kernel/iommu_groups/{group}/devices");
    let mut others = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let driver = fs::read_link(entry.path().join("driver")).ok();
        let driver = driver.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        if let Some(driver) = driver
            && !matches!(driver, "vfio-pci" | "pcieport" | "pci-stub")
            && name != files.address().to_string()
        {
            others.push(format!("{name} ({driver})"));
        }
    }
    if others.is_empty() {
        return format!(
            "something else in IOMMU group {group} is in use: `ls /sys/kernel/iommu_groups/{group}/devices`"
        );
    }
    format!(
        "the IOMMU cannot tell it from its neighbours of group {group}, which the kernel's drivers still have: {}; bind those to vfio-pci too, or put the card into another slot",
        others.join(", ")
    )
}
