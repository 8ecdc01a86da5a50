//! The software controllers as buses.

use fusion_mpt_mock::disk::Disk;
use fusion_mpt_mock::in_process::{MockBus, Options};
use fusion_mpt_mock::model::Chip;
use fusion_mpt_mock::target::{Target, TargetConfig};

use crate::bus_name::MockChip;
use crate::error::Error;
use crate::image::{Image, Images};
use crate::link::Link;

/// How far a disk's port name is from its own name.
const PORT_NAME_OFFSET: u64 = 0x100;

/// Puts a software controller on a bus, with a thread of its own and with `images` as its disks.
pub(crate) fn open(chip: MockChip, images: &Images) -> Result<MockBus, Error> {
    let chip = match chip {
        MockChip::Sas1068 => Chip::SAS1068,
        MockChip::Sas2008 => Chip::SAS2008,
        MockChip::Sas3008 => Chip::SAS3008,
        MockChip::Sas3816 => Chip::SAS3816,
    };
    let disks: Result<Vec<Target>, Error> = images.all().iter().map(target).collect();
    Ok(MockBus::new(Options::threaded(chip, disks?)))
}

fn target(image: &Image) -> Result<Target, Error> {
    let disk = Disk::open(&image.path)
        .map_err(|error| Error::file("open the disk", &image.path, &error))?;
    let config = TargetConfig {
        wwn: image.wwn,
        sas_address: image.wwn + PORT_NAME_OFFSET,
        serial: image.serial.clone(),
        block_size: image.block_bytes,
        ..TargetConfig::default()
    };
    Ok(Target::new(config, disk))
}

impl Link for MockBus {
    // The controller has a thread of its own, which on one CPU must have its turn.
    fn pause(&self) {
        std::thread::yield_now();
    }
}
