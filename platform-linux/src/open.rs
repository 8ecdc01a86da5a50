//! Opening a bus by its name.

use fusion_mpt_mock::qtest::{Backend, Qtest, QtestDisk, QtestOptions};

use crate::bus_name::BusName;
use crate::error::Error;
use crate::host::{FurtherQueue, Host};
use crate::image::{DiskKind, Images};
use crate::pci::PciAddress;
use crate::session::{Options, Work, drive};

/// Opens the bus, brings its controller up, lends it to `work`, and leaves both in order:
/// commands drained, disks flushed, the controller reset to READY, QEMU stopped.
///
/// # Errors
///
/// [`Error::Usage`] when faults are wanted of a bus that has none to offer. What opening, bring-up or `work` failed with; and, if all of these went well, what went wrong
/// while everything was put in order.
pub fn with_host<T>(
    options: Options,
    mut work: impl FnMut(&mut dyn Host) -> Result<T, Error>,
) -> Result<T, Error> {
    with_queues(options, |host, _| work(host))
}

/// The same with the further queues that the options ask for and the controller has. They are to be
/// dropped by the end of `work`.
///
/// # Errors
///
/// As [`with_host`].
pub fn with_queues<T>(
    mut options: Options,
    mut work: impl FnMut(&mut dyn Host, Vec<FurtherQueue<'_>>) -> Result<T, Error>,
) -> Result<T, Error> {
    if options.faults.is_some() && options.bus == BusName::Qtest {
        return Err(Error::usage(
            "faults are laid around a software controller, and qtest is QEMU's; choose --bus mock:sas1068, mock:sas2008, mock:sas3008 or mock:sas3816",
        ));
    }
    if options.bus.is_real() && !options.disks.is_empty() {
        return Err(Error::usage(format!(
            "--disk puts an image behind a software controller, and {} has disks of its own; leave --disk out",
            options.bus
        )));
    }
    let images =
        if options.bus.is_real() { Images::none() } else { Images::prepare(&options.disks)? };
    match options.bus {
        BusName::Mock(chip) if options.faults.is_some() => {
            let bus = crate::mock::open_stepped(chip, &images)?;
            drive(&bus, &images, &mut options, &mut work)
        }
        BusName::Mock(chip) => {
            let bus = crate::mock::open(chip, &images)?;
            drive(&bus, &images, &mut options, &mut work)
        }
        BusName::Qtest => {
            let bus = start_qemu(&images)?;
            drive(&bus, &images, &mut options, &mut work)
        }
        BusName::Pci(address) => drive_card(address, &images, &mut options, &mut work),
    }
}

/// Drives a controller by the user-space driver that it is bound to.
#[cfg(target_os = "linux")]
fn drive_card<T>(
    address: PciAddress,
    images: &Images,
    options: &mut Options,
    work: &mut Work<'_, T>,
) -> Result<T, Error> {
    if options.faults.is_some() {
        return Err(Error::usage(format!(
            "faults are laid around a software controller, and {address} is none; choose --bus mock:sas1068, mock:sas2008, mock:sas3008 or mock:sas3816",
        )));
    }
    // What it is comes first: there is no use in binding what is no controller.
    let controller = crate::pci::System::real().controller(address)?;
    if let Some(why) = controller.not_driven {
        return Err(Error::failed(format!(
            "{address} is a {}, which this driver does not drive: {why}",
            controller.chip
        )));
    }
    match controller.driver.as_deref() {
        Some("vfio-pci") => {
            let bus = crate::vfio::VfioBus::open(address, options.waiting, options.queues)?;
            drive(&bus, images, options, work)
        }
        Some("uio_pci_generic") => {
            let bus = crate::uio::UioBus::open(address, options.waiting)?;
            drive(&bus, images, options, work)
        }
        other => Err(Error::failed(format!(
            "{address} is bound to {}; give it to user space with `mptctl bind {address}`",
            other.unwrap_or("no driver")
        ))),
    }
}

#[cfg(not(target_os = "linux"))]
fn drive_card<T>(
    address: PciAddress,
    _: &Images,
    _: &mut Options,
    _: &mut Work<'_, T>,
) -> Result<T, Error> {
    Err(Error::failed(format!("{address} can only be opened on Linux, by VFIO or UIO")))
}

fn start_qemu(images: &Images) -> Result<Qtest, Error> {
    if images.all().iter().any(|image| image.kind != DiskKind::default()) {
        return Err(Error::usage(
            "QEMU's disks are SAS disks in good health; choose --bus mock:sas1068, mock:sas2008, mock:sas3008 or mock:sas3816 for others",
        ));
    }
    let disks = images.all().iter().enumerate().map(|(index, image)| QtestDisk {
        wwn: image.wwn,
        read_only: image.read_only,
        block_size: image.block_bytes,
        serial: Some(image.serial.clone()),
        ..QtestDisk::new(index as u8, Backend::File(image.path.clone()))
    });
    let options = QtestOptions { disks: disks.collect(), ..QtestOptions::default() };
    Ok(Qtest::start(&options)?)
}
