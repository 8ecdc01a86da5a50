//! A session on a software controller that a test has built, for tests of what needs a whole one.

use fusion_mpt_mock::disk::Disk;
use fusion_mpt_mock::in_process::{MockBus, Options as BusOptions};
use fusion_mpt_mock::model::{Chip, Model};
use fusion_mpt_mock::target::{Target, TargetConfig};

use crate::bus_name::{BusName, MockChip};
use crate::error::Error;
use crate::host::{FurtherQueue, Host};
use crate::image::Images;
use crate::session::{Options, drive};

/// Every chip that there is a model of.
pub(crate) const CHIPS: [Chip; 4] = [Chip::SAS1068, Chip::SAS2008, Chip::SAS3008, Chip::SAS3816];

/// Makes a disk of 4 MiB in memory, the `index`th.
pub(crate) fn disk(index: u8, sata: bool) -> Target {
    let wwn = 0x5000_c500_0000_2000 + u64::from(index);
    let config = TargetConfig {
        wwn,
        sas_address: wwn + 0x100,
        vendor: if sata { "ATA".into() } else { "FUSION".into() },
        serial: format!("TESTDISK{index}"),
        sata,
        ..TargetConfig::default()
    };
    Target::new(config, Disk::memory(4 << 20))
}

/// Builds a controller and what is behind it, and lends it to `work` with its bus.
pub(crate) fn on<T>(
    chip: Chip,
    build: impl FnOnce(&mut Model),
    mut work: impl FnMut(&mut dyn Host, &MockBus) -> Result<T, Error>,
) -> T {
    with_queues(chip, 1, build, |host, _, bus| work(host, bus))
}

/// The same with several queues.
pub(crate) fn with_queues<T>(
    chip: Chip,
    queues: u8,
    build: impl FnOnce(&mut Model),
    mut work: impl FnMut(&mut dyn Host, Vec<FurtherQueue<'_>>, &MockBus) -> Result<T, Error>,
) -> T {
    let bus = MockBus::new(BusOptions::threaded(chip, Vec::new()));
    bus.with_model(build);
    let images = Images::none();
    let mut options = Options { queues, ..Options::new(BusName::Mock(MockChip::Sas3008)) };
    drive(&bus, &images, &mut options, &mut |host, further| work(host, further, &bus))
        .expect("the session goes well")
}
