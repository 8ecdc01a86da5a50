//! Opening a bus by its name.

use fusion_mpt_mock::qtest::{Backend, Qtest, QtestDisk, QtestOptions};

use crate::bus_name::BusName;
use crate::error::Error;
use crate::host::Host;
use crate::image::Images;
use crate::session::{Options, drive};

/// Opens the bus, brings its controller up, lends it to `work`, and leaves both in order:
/// commands drained, disks flushed, the controller reset to READY, QEMU stopped.
///
/// # Errors
///
/// What opening, bring-up or `work` failed with; and, if all of these went well, what went wrong
/// while everything was put in order.
pub fn with_host<T>(
    mut options: Options,
    mut work: impl FnMut(&mut dyn Host) -> Result<T, Error>,
) -> Result<T, Error> {
    let images = Images::prepare(&options.disks)?;
    match options.bus {
        BusName::Mock(chip) => {
            let bus = crate::mock::open(chip, &images)?;
            drive(&bus, &images, &mut options, &mut work)
        }
        BusName::Qtest => {
            let bus = start_qemu(&images)?;
            drive(&bus, &images, &mut options, &mut work)
        }
    }
}

fn start_qemu(images: &Images) -> Result<Qtest, Error> {
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
