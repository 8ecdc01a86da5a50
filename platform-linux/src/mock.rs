//! The software controllers as buses: one with a thread of its own, and one in virtual time.

use std::time::Duration;

use fusion_mpt_mock::bus::{Bus, BusError};
use fusion_mpt_mock::disk::Disk;
use fusion_mpt_mock::faults::{FaultEvent, Plan};
use fusion_mpt_mock::in_process::{MockBus, MockDelay, MockDma, MockRegisters, Options};
use fusion_mpt_mock::model::Chip;
use fusion_mpt_mock::target::{Exception, Target, TargetConfig};

use crate::bus_name::MockChip;
use crate::error::Error;
use crate::image::{Image, Images};
use crate::link::{Link, RealDelay, real_time};

/// How far a disk's port name is from its own name.
const PORT_NAME_OFFSET: u64 = 0x100;
/// What a disk of a stepped bus takes for a command, in nanoseconds: about an SSD's time.
const DISK_NS: u64 = 100_000;
/// Pieces of the firmware's work that are done at once on a stepped bus, so that the driver meets
/// a controller with some commands done and others not.
const STEPS: usize = 16;
/// The time of day on a stepped bus: one run is to be as the next.
const SOME_TIME_MS: u64 = 1_000_000_000_000;

/// Puts a software controller on a bus, with a thread of its own and with `images` as its disks.
pub(crate) fn open(chip: MockChip, images: &Images) -> Result<MockBus, Error> {
    Ok(MockBus::new(Options::threaded(model(chip), disks(images)?)))
}

/// The same on a bus in virtual time, which the driver's own waiting moves on: every run with the
/// same faults is the same, and what takes minutes takes no time.
pub(crate) fn open_stepped(chip: MockChip, images: &Images) -> Result<SteppedBus, Error> {
    let options = Options::stepped(model(chip), disks(images)?);
    let bus = MockBus::new(Options { bytes: 256 << 20, ..options });
    bus.with_model(|model| model.slow_down(None, DISK_NS));
    Ok(SteppedBus(bus))
}

fn model(chip: MockChip) -> Chip {
    match chip {
        MockChip::Sas1068 => Chip::SAS1068,
        MockChip::Sas2008 => Chip::SAS2008,
        MockChip::Sas3008 => Chip::SAS3008,
        MockChip::Sas3816 => Chip::SAS3816,
    }
}

fn disks(images: &Images) -> Result<Vec<Target>, Error> {
    images.all().iter().map(target).collect()
}

fn target(image: &Image) -> Result<Target, Error> {
    let disk = Disk::open(&image.path)
        .map_err(|error| Error::file("open the disk", &image.path, &error))?;
    let config = TargetConfig {
        wwn: image.wwn,
        sas_address: image.wwn + PORT_NAME_OFFSET,
        serial: image.serial.clone(),
        block_size: image.block_bytes,
        sata: image.kind.sata,
        ..TargetConfig::default()
    };
    let mut target = Target::new(config, disk);
    if image.kind.failing {
        // FAILURE PREDICTION THRESHOLD EXCEEDED.
        target.predict_failure(Some(Exception { asc: 0x5d, ascq: 0x00 }));
    }
    Ok(target)
}

impl Link for MockBus {
    type Delay = RealDelay;

    fn delay(&self) -> RealDelay {
        RealDelay
    }

    fn now(&self) -> Duration {
        real_time()
    }

    // The controller has a thread of its own, which on one CPU must have its turn.
    fn pause(&self, _idle: u32) {
        std::thread::yield_now();
    }
}

/// A software controller on a bus in virtual time.
#[derive(Debug)]
pub(crate) struct SteppedBus(MockBus);

impl Bus for SteppedBus {
    type Registers = MockRegisters;
    type Dma = MockDma;

    fn registers(&self) -> MockRegisters {
        self.0.registers()
    }

    fn allocate(&self, bytes: usize, alignment: usize) -> Result<MockDma, BusError> {
        self.0.allocate(bytes, alignment)
    }

    fn pci_id(&self) -> (u16, u16) {
        self.0.pci_id()
    }
}

impl Link for SteppedBus {
    type Delay = MockDelay;

    fn delay(&self) -> MockDelay {
        self.0.delay()
    }

    fn now(&self) -> Duration {
        self.0.now()
    }

    fn time_of_day_ms(&self) -> u64 {
        SOME_TIME_MS
    }

    fn pause(&self, idle: u32) {
        if self.0.step(STEPS) < STEPS {
            // From 20 µs to 5 ms: precise while something happens, quick while nothing does.
            let growth = (idle / 4).min(8);
            self.0.advance(Duration::from_micros((20 << growth).min(5_000)));
        }
    }

    fn set_faults(&self, plan: Option<&Plan>) -> bool {
        match plan {
            Some(plan) => self.0.set_faults(plan),
            None => self.0.clear_faults(),
        }
        true
    }

    fn fault_log(&self) -> Vec<FaultEvent> {
        self.0.fault_log()
    }

    const POLLS_BETWEEN_LOOKS: u32 = 1;
}
