//! Memory that a client shares wrongly: refused, or a DMA fault where the card meets it, and the
//! next driver's reset brings the card back.

mod chips;
mod common;
mod vfio;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use chips::on_each;
use common::{Rig, command};
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::platform::{BusAddr, DmaRegion};
use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::{Direction, Segment};
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::model::{Chip, State, disks};
use fusion_mpt_mock::vfio_user::Event;
use vfio::guest::{BASE, Guest, MEMORY, memory_file};
use vfio::raw::{DMA_MAP, DMA_UNMAP, REGION_WRITE, Raw, access, map, unmap};
use vfio::{Served, until};

const EINVAL: u32 = libc::EINVAL as u32;
const ENOTSUP: u32 = libc::ENOTSUP as u32;
const DISK: u64 = 16 << 20;

fn served(chip: Chip) -> Served {
    Served::new(chip, disks(1, DISK))
}

/// Commands for the first disk are read and written again by a driver that starts anew.
#[track_caller]
fn assert_next_driver_works<G: Generation>(guest: Guest) {
    Rig::<_, G>::new(guest).assert_keeps(0, 1, 8192);
}

#[test]
fn maps_that_cannot_be_are_refused() {
    let served = served(Chip::SAS3008);
    let mut raw = Raw::greet(served.path());
    let file = memory_file(0x10000);
    for (offset, at, bytes) in [
        (0, 0, 0),
        (0, 0x1000, 0x10001),
        (0xf000, 0x1000, 0x2000),
        (u64::MAX, 0x1000, 0x1000),
        (0x1000, 0x1000, u64::MAX),
        (0, u64::MAX - 0xfff, 0x2000),
        (0, u64::MAX, 1),
    ] {
        let answer = raw.ask_with(DMA_MAP, &map(offset, at, bytes), &[&file]);
        // The very last byte of the address space is one; a range that ends there has no end.
        assert_eq!(answer.error, EINVAL, "{offset:#x} {at:#x} {bytes:#x}");
    }
    let two = raw.ask_with(DMA_MAP, &map(0, 0, 0x1000), &[&file, &file]);
    assert_eq!(two.error, EINVAL);
    // What has no bytes that can be shared.
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    let pipe = File::from(reader.as_fd().try_clone_to_owned().expect("one more"));
    let socket = File::from(raw.0.as_fd().try_clone_to_owned().expect("one more"));
    for odd in [&pipe, &socket, &File::open("/dev/zero").expect("there")] {
        assert_eq!(raw.ask_with(DMA_MAP, &map(0, 0, 0x1000), &[odd]).error, EINVAL);
    }
    // Without a file there is memory that the card cannot reach, which is no mistake.
    assert_eq!(raw.ask(DMA_MAP, &map(0, 0xfffc_0000, 0x4_0000)).error, 0);
    assert_eq!(raw.ask(DMA_MAP, &map(0, 0, u64::MAX)).error, 0);
    raw.assert_in_step();
    // A person is told, when a driver starts all the same.
    served.events();
    for _ in 0..2 {
        let write = [access(0x34, 1, 4), vec![0; 4]].concat();
        assert_eq!(raw.ask(REGION_WRITE, &write).error, 0);
    }
    let told = served.events();
    assert!(matches!(&told[..], [Event::Notice(why)] if why.contains("share=on")), "{told:?}");
}

#[test]
fn unmaps_of_what_is_not_mapped_change_nothing() {
    let served = served(Chip::SAS3008);
    let mut raw = Raw::greet(served.path());
    for (at, bytes, flags, error) in [
        (0x1000, 0x1000, 0, 0),
        (u64::MAX, u64::MAX, 0, 0),
        (0, u64::MAX, 0, 0),
        (0x1000, 0, 0, 0),
        (0, 0, 4, 0),
        (0, 0x1000, 2, ENOTSUP),
        (0, 0x1000, 0xffff_ffff, ENOTSUP),
    ] {
        assert_eq!(raw.ask(DMA_UNMAP, &unmap(at, bytes, flags)).error, error, "{at:#x} {bytes:#x}");
    }
    raw.assert_in_step();
}

#[test]
fn ten_thousand_maps_of_a_page_are_made_and_taken_away_quickly() {
    let served = served(Chip::SAS3008);
    let started = Instant::now();
    let mut raw = Raw::greet(served.path());
    let file = memory_file(16 << 20);
    for page in 0..10_000u64 {
        // Backwards in the file, so that no two become one.
        let offset = (page * 7 % 4096) * 4096;
        let answer = raw.ask_with(DMA_MAP, &map(offset, BASE + page * 8192, 4096), &[&file]);
        assert_eq!(answer.error, 0, "{page}");
    }
    for page in (0..10_000u64).step_by(2) {
        assert_eq!(raw.ask(DMA_UNMAP, &unmap(BASE + page * 8192, 4096, 0)).error, 0);
    }
    raw.assert_in_step();
    drop(raw);
    assert_eq!(served.farewell(), None);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // The next client meets nothing of them.
    assert_next_driver_works::<Mpi2>(Guest::connect(&served));
}

#[test]
fn a_driver_works_in_memory_that_came_page_by_page_and_overlapping() {
    let served = served(Chip::SAS3008);
    let guest = Guest::connect(&served);
    let fd = guest.file.as_raw_fd();
    guest.client().dma_unmap(BASE, MEMORY as u64).expect("unmapped");
    for page in (0..MEMORY as u64 / 4096).rev() {
        // Each but the first twice, and every other as part of what comes later.
        let bytes = if page == 0 { 4096 } else { 8192 };
        let first = page * 4096 + 4096 - bytes;
        guest.client().dma_map(first, BASE + first, bytes, fd).expect("mapped");
    }
    assert_next_driver_works::<Mpi2>(guest);
    assert_eq!(served.complaints(), [""; 0]);
}

#[test]
fn memory_for_reading_only_is_written_to_the_disk_and_not_read_into() {
    for chip in [Chip::SAS2008, Chip::SAS3816] {
        let served = served(chip);
        let guest = Guest::connect(&served);
        let path = format!("/proc/self/fd/{}", guest.file.as_raw_fd());
        let reader = File::open(path).expect("opened for reading");
        let mut rig = Rig::<_, Mpi2>::new(guest);
        let device = rig.device(0);
        rig.clear_attention(device);
        let data = rig.data(4096);
        data.fill(0x77);
        let at = data.segment(0, 4096).address.0;
        let mapped = rig.bus.client().dma_map(at - BASE, at, 4096, reader.as_raw_fd());
        mapped.expect("mapped");
        rig.run_out(device, &Cdb::write(0, 8), &data, 4096).assert_good(4096);
        assert_eq!(served.complaints(), [""; 0]);
        data.fill(0x11);
        let done = rig.run_in(device, &Cdb::read(0, 8), &data, 4096);
        assert!(!done.outcome.is_good(), "{done:?}");
        assert_eq!(data.read(0, 4096), [0x11; 4096], "not a byte of it");
        assert_eq!(served.complaints().len(), 1);
        let Rig { controller, bus, .. } = rig;
        drop(controller);
        assert_next_driver_works::<Mpi2>(bus);
    }
}

/// Runs `spoil` on a driver that works, and expects the IOC to fault as at a master abort, and the
/// next driver on the same connection to bring it back.
fn faults_and_recovers<G: Generation>(
    chip: Chip,
    spoil: impl Fn(&mut Rig<Guest, G>),
    mend: impl Fn(&Guest),
) {
    let served = served(chip);
    let mut rig = Rig::<_, G>::new(Guest::connect(&served));
    let device = rig.device(0);
    rig.clear_attention(device);
    spoil(&mut rig);
    until("the fault", || matches!(served.state(), State::Fault(_)));
    let said = served.complaints();
    assert!(said.iter().any(|line| !line.is_empty()) || chip.is_mpi1(), "{said:?}");
    let Rig { controller, bus, .. } = rig;
    drop(controller);
    mend(&bus);
    assert_next_driver_works::<G>(bus);
}

/// Submits a command whose data is somewhere that need not be the guest's.
fn submit_at<G: Generation>(rig: &mut Rig<Guest, G>, at: u64, direction: Direction) -> u64 {
    let device = rig.device(0);
    let cdb = if direction == Direction::Read { Cdb::read(0, 8) } else { Cdb::write(0, 8) };
    let segment = Segment { address: BusAddr(at), length: 4096 };
    rig.submit(device, &command(&cdb, direction, &[segment]))
}

#[test]
fn data_outside_memory_fails_its_command_and_the_disk_is_as_it_was() {
    fn check<G: Generation>(chip: Chip) {
        let served = served(chip);
        let mut rig = Rig::<_, G>::new(Guest::connect(&served));
        let device = rig.device(0);
        rig.clear_attention(device);
        let data = rig.data(4096);
        data.fill(0x77);
        rig.run_out(device, &Cdb::write(0, 8), &data, 4096).assert_good(4096);
        for (number, (at, direction)) in [
            (0xdead_b000, Direction::Read),
            (0xdead_b000, Direction::Write),
            (BASE + MEMORY as u64 - 2048, Direction::Read),
            (BASE + MEMORY as u64 - 2048, Direction::Write),
            (i64::MAX as u64 - 4095, Direction::Write),
        ]
        .into_iter()
        .enumerate()
        {
            let cookie = submit_at(&mut rig, at, direction);
            let done = rig.wait(cookie);
            assert!(!done.outcome.is_good(), "{at:#x}: {done:?}");
            assert_eq!(served.complaints().len(), number + 1, "{at:#x}");
        }
        data.fill(0);
        rig.run_in(device, &Cdb::read(0, 8), &data, 4096).assert_good(4096);
        assert_eq!(data.read(0, 4096), [0x77; 4096]);
    }
    on_each!(check);
}

#[test]
fn bus_mastering_off_under_a_command_faults_and_the_next_driver_recovers() {
    fn check<G: Generation>(chip: Chip) {
        let spoil = |rig: &mut Rig<Guest, G>| {
            rig.bus.bus_master(false);
            submit_at(rig, BASE, Direction::Read);
        };
        faults_and_recovers::<G>(chip, spoil, |bus| bus.bus_master(true));
    }
    on_each!(check);
}

#[test]
fn memory_taken_away_under_running_commands_faults_and_the_next_driver_recovers() {
    fn check<G: Generation>(chip: Chip) {
        let served = served(chip);
        let mut rig = Rig::<_, G>::new(Guest::connect(&served));
        let device = rig.device(0);
        rig.clear_attention(device);
        served.card.with_model(|model| model.slow_down(None, 3_000_000));
        let data = rig.data(4096);
        let cdb = Cdb::write(0, 8);
        for _ in 0..32 {
            rig.submit(device, &command(&cdb, Direction::Write, &[data.segment(0, 4096)]));
        }
        rig.bus.client().dma_unmap(BASE, MEMORY as u64).expect("unmapped");
        until("the fault", || matches!(served.state(), State::Fault(_)));
        served.card.with_model(|model| model.slow_down(None, 0));
        let Rig { controller, bus, .. } = rig;
        drop(controller);
        let fd = bus.file.as_raw_fd();
        bus.client().dma_map(0, BASE, MEMORY as u64, fd).expect("mapped");
        assert_next_driver_works::<G>(bus);
    }
    on_each!(check);
}

#[test]
fn memory_that_its_owner_cuts_short_fails_a_command_and_kills_nobody() {
    let served = served(Chip::SAS3008);
    let guest = Guest::connect(&served);
    // Not sealed, so it can shrink under the card.
    let path = tempfile::NamedTempFile::new().expect("a file");
    path.as_file().set_len(1 << 20).expect("that long");
    const ELSEWHERE: u64 = 0x9_0000_0000;
    let fd = path.as_file().as_raw_fd();
    guest.client().dma_map(0, ELSEWHERE, 1 << 20, fd).expect("mapped");
    let mut rig = Rig::<_, Mpi2>::new(guest);
    rig.clear_attention(rig.device(0));
    let cookie = submit_at(&mut rig, ELSEWHERE, Direction::Write);
    rig.wait(cookie).assert_good(4096);
    path.as_file().set_len(0).expect("empty");
    let cookie = submit_at(&mut rig, ELSEWHERE, Direction::Write);
    assert!(!rig.wait(cookie).outcome.is_good());
    let Rig { controller, bus, .. } = rig;
    drop(controller);
    assert_next_driver_works::<Mpi2>(bus);
}

#[test]
fn a_driver_without_any_memory_faults_and_the_next_that_has_some_works() {
    let served = served(Chip::SAS3008);
    let guest = Guest::connect(&served);
    guest.client().dma_unmap(BASE, MEMORY as u64).expect("unmapped");
    let ready = common::ready::<_, Mpi2>(&guest);
    let plan = ready.plan(&fusion_mpt::memory_plan::Wants::default()).expect("a plan");
    let region = guest.allocate(plan.bytes, plan.alignment).expect("room");
    assert_ne!(region.bus().0, 0);
    let tables = common::tables(&plan, 16);
    assert!(ready.start(&plan, region, tables, 0, &mut common::Sleep).is_err());
    assert!(matches!(served.state(), State::Fault(_)), "{:?}", served.state());
    let fd = guest.file.as_raw_fd();
    guest.client().dma_map(0, BASE, MEMORY as u64, fd).expect("mapped");
    assert_next_driver_works::<Mpi2>(guest);
}
