//! The driver on every software controller, step by step and with a bouncing bus.

mod chips;
mod driver;

use chips::on_every_chip;
use driver::{Rig, segments};
use std::time::Duration;

use fusion_mpt::controller::Action;
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Direction;
use fusion_mpt::targets::TargetId;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::in_process::{MockBus, Options};
use fusion_mpt_mock::model::{Chip, disk, disks};

const DISK: u64 = 16 << 20;

on_every_chip! {
    discovery_finds_every_disk_with_its_name_and_slot = discovery;
    what_is_written_through_chains_is_read_back = round_trip;
    a_disk_that_is_pulled_swapped_and_put_back_is_reported = hot_plug;
    an_event_that_wants_it_is_acknowledged = acknowledgement;
    a_second_start_on_a_running_controller_finds_the_disks_again = restart;
    addresses_below_4_gib_serve_too = low_addresses;
    disks_behind_an_expander_are_found_used_and_swapped = expander;
}

fn rig<G: Generation>(chip: Chip, count: u16) -> Rig<G> {
    Rig::new(Options::stepped(chip, disks(count, DISK)))
}

fn discovery<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip, chip.phys.into());
    let found: Vec<_> = rig.driver.targets().collect();
    assert_eq!(found.len(), usize::from(chip.phys));
    for target in &found {
        let slot = target.page.slot;
        assert_eq!(target.page.sas_address, 0x5000_c500_a1b2_0001 + u64::from(slot) * 4);
        assert!(target.present && target.page.is_target());
    }
    let appeared: Vec<_> = found.iter().map(|target| Action::TargetAppeared(target.id)).collect();
    assert_eq!(rig.actions(), appeared);
    assert_eq!(rig.complaints(), [""; 0]);
}

fn round_trip<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip, 2);
    let target = TargetId(1);
    rig.clear_attention(target);
    const COUNT: usize = 60;
    const LENGTH: usize = 1024;
    const GAP: usize = 24;
    let dma = rig.bus.allocate(COUNT * (LENGTH + GAP), 4096).expect("room");
    let pieces = segments(&dma, COUNT, LENGTH, GAP);
    let blocks = (COUNT * LENGTH / 512) as u32;
    let bytes: Vec<u8> = (0..COUNT * (LENGTH + GAP)).map(|n| (n * 7 + n / 251) as u8).collect();
    dma.write(0, &bytes);
    let (outcome, _) = rig.run(target, &Cdb::write(100, blocks), Direction::Write, &pieces);
    assert!(outcome.is_good() && outcome.transferred() == blocks * 512, "{outcome:?}");
    dma.write(0, &vec![0xee; bytes.len()]);
    let (outcome, _) = rig.run(target, &Cdb::read(100, blocks), Direction::Read, &pieces);
    assert!(outcome.is_good() && outcome.transferred() == blocks * 512, "{outcome:?}");
    let mut seen = vec![0; bytes.len()];
    dma.read(0, &mut seen);
    for (index, (seen, written)) in
        seen.chunks(LENGTH + GAP).zip(bytes.chunks(LENGTH + GAP)).enumerate()
    {
        assert_eq!(seen[..LENGTH], written[..LENGTH], "segment {index}");
        assert_eq!(seen[LENGTH..], [0xee; GAP], "what follows segment {index}");
    }
    let dirty = rig.bus.with_model(|model| model.device(1).map(|d| d.target.disk().dirty_bytes()));
    assert_eq!(dirty, Some(u64::from(blocks) * 512));
    let (outcome, _) = rig.run(target, &Cdb::synchronize_cache_10(0, 0), Direction::None, &[]);
    assert!(outcome.is_good());
    let dirty = rig.bus.with_model(|model| model.device(1).map(|d| d.target.disk().dirty_bytes()));
    assert_eq!(dirty, Some(0));
    assert_eq!(rig.complaints(), [""; 0]);
    assert_eq!(rig.driver.counters().lies(), 0);
}

fn hot_plug<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip, 3);
    rig.actions();
    let pulled = rig.bus.with_model(|model| model.remove_disk(1)).expect("there is one");
    rig.settle();
    assert_eq!(rig.actions(), [Action::TargetGone(TargetId(1))]);
    let handle = rig.bus.with_model(|model| model.add_disk(5, pulled)).expect("slot 5 is empty");
    // A SAS1068 lets its host walk through the pages before it has more news.
    rig.bus.advance(Duration::from_secs(2));
    rig.settle();
    assert_eq!(rig.actions(), [Action::TargetAppeared(TargetId(1))], "the same disk, elsewhere");
    let target = rig.driver.target(TargetId(1)).expect("known");
    assert_eq!((target.page.slot, target.page.handle), (5, handle));
    rig.bus.with_model(|model| model.swap_disk(2, disk(40, DISK))).expect("there is one");
    rig.settle();
    // And it takes longer to bring up the link of a slot that was just emptied.
    rig.bus.advance(Duration::from_secs(3));
    rig.settle();
    assert_eq!(
        rig.actions(),
        [Action::TargetGone(TargetId(2)), Action::TargetAppeared(TargetId(3))]
    );
    assert_eq!(rig.complaints(), [""; 0]);
}

fn acknowledgement<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip, 1);
    // Log entry added.
    rig.bus.with_model(|model| model.raise_event(0x21, vec![1, 2, 3, 4], true));
    rig.bus.step(1);
    assert_eq!(rig.bus.with_model(|model| model.unacknowledged()), 1);
    rig.settle();
    assert_eq!(rig.bus.with_model(|model| model.unacknowledged()), 0);
    assert_eq!(rig.complaints(), [""; 0]);
}

fn restart<G: Generation>(chip: Chip) {
    let rig = rig::<G>(chip, 2);
    let Rig { bus, driver } = rig;
    drop(driver);
    let mut driver = driver::bring_up::<G>(&bus, &Wants::default()).expect("a second bring-up");
    assert_eq!(driver.targets().count(), 2);
    assert!(driver.next_action().is_some());
    assert_eq!(bus.with_model(|model| model.complaints().to_vec()), [""; 0]);
}

fn low_addresses<G: Generation>(chip: Chip) {
    let options = Options::stepped(chip, disks(1, DISK)).at(0x1000_0000);
    let wants = Wants { addresses_below_4gib: true, ..Wants::default() };
    let mut rig = Rig::<G>::with(options, &wants);
    rig.clear_attention(TargetId(0));
    let dma = rig.bus.allocate(1 << 16, 4096).expect("room");
    let pieces = segments(&dma, 40, 512, 512);
    let (outcome, _) = rig.run(TargetId(0), &Cdb::read(0, 40), Direction::Read, &pieces);
    assert!(outcome.is_good(), "{outcome:?}");
    assert_eq!(rig.complaints(), [""; 0]);
}

fn expander<G: Generation>(chip: Chip) {
    let bus = MockBus::new(Options::stepped(chip, disks(2, DISK)));
    let first = chip.phys;
    bus.with_model(|model| {
        model.attach_expander(24).expect("nothing is on the last phys");
        model.add_disk(first, disk(20, DISK)).expect("room");
        model.add_disk(first + 23, disk(21, DISK)).expect("room");
        assert!(model.add_disk(first - 1, disk(22, DISK)).is_err(), "the wide port takes no disk");
    });
    let driver = driver::bring_up::<G>(&bus, &Wants::default()).expect("bring-up");
    let mut rig = Rig { bus, driver };
    rig.settle();
    assert_eq!(rig.driver.targets().count(), 4, "and not the expander");
    rig.actions();
    for target in 0..4 {
        rig.clear_attention(TargetId(target));
    }
    rig.bus.with_model(|model| model.swap_disk(first + 23, disk(40, DISK))).expect("there is one");
    rig.bus.advance(Duration::from_secs(3));
    rig.settle();
    assert_eq!(
        rig.actions(),
        [Action::TargetGone(TargetId(3)), Action::TargetAppeared(TargetId(4))]
    );
    rig.clear_attention(TargetId(4));
    assert_eq!(rig.complaints(), [""; 0]);
}
