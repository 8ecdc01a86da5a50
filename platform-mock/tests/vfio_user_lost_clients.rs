//! Clients that vanish, wherever they were: the next one finds a card as after power-on, and the
//! disks with every byte that was acknowledged.

mod chips;
mod common;
mod vfio;

use std::time::{Duration, Instant};

use chips::on_each;
use common::{Random, Rig, command, ready};

use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::recovery::ResetKind;
use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Direction;
use fusion_mpt_mock::disk::Disk;
use fusion_mpt_mock::model::{Chip, State, disk, disks};
use fusion_mpt_mock::target::{Target, TargetConfig};
use fusion_mpt_mock::vfio_user::Event;
use vfio::guest::{CONFIG, Guest, INTX, MSIX};
use vfio::raw::{DMA_MAP, REGION_WRITE, Raw, VERSION, access, header, map, message, version};
use vfio::{LIMIT, Served, until};

const DISK: u64 = 16 << 20;
const BLOCK: usize = 512;

/// The next client: finds nothing of the one before it, and reads these bytes from block 0 on.
#[track_caller]
fn assert_as_after_power_on<G: Generation>(served: &Served, bytes: &[u8]) {
    let guest = Guest::connect(served);
    let mut command = [0; 2];
    guest.bus_master(false);
    guest.client().region_read(CONFIG, 4, &mut command).expect("read");
    assert_eq!(command, [2, 0]);
    guest.bus_master(true);
    assert_eq!(served.state(), State::Ready);
    let ready = ready::<_, G>(&guest);
    assert_eq!(ready.reset_kind(), ResetKind::None, "it was in READY");
    let mut rig = Rig::start(guest, ready, &Wants::default(), None);
    let device = rig.device(0);
    rig.clear_attention(device);
    let data = rig.data(bytes.len());
    let cdb = Cdb::read(0, (bytes.len() / BLOCK) as u32);
    rig.run_in(device, &cdb, &data, bytes.len()).assert_good(bytes.len() as u32);
    assert!(data.read(0, bytes.len()) == bytes, "not what was acknowledged");
    assert_eq!(rig.controller.counters().lies(), 0);
    drop(rig);
    served.farewell();
}

/// Writes random bytes from block 0 on, which are acknowledged; returns them.
fn write_some<G: Generation>(rig: &mut Rig<Guest, G>) -> Vec<u8> {
    let device = rig.device(0);
    rig.clear_attention(device);
    let data = rig.data(16 << 10);
    let bytes = Random::new(99).bytes(16 << 10);
    data.write(0, &bytes);
    rig.run_out(device, &Cdb::write(0, 32), &data, 16 << 10).assert_good(16 << 10);
    bytes
}

#[test]
fn clients_that_vanish_in_the_middle_of_a_message_are_nothing_to_the_next() {
    let served = Served::new(Chip::SAS3008, disks(1, DISK));
    let write = [access(0x34, 1, 4), vec![0; 4]].concat();
    let whole = [message(VERSION, &version()), message(REGION_WRITE, &write)].concat();
    for length in 0..whole.len() {
        let mut raw = Raw::connect(served.path());
        raw.send(&whole[..length]);
        drop(raw);
        served.farewell();
    }
    // With descriptors that were meant for a message that never ended.
    let file = vfio::guest::memory_file(4096);
    for length in 1..48 {
        let mut raw = Raw::greet(served.path());
        raw.send_with(&message(DMA_MAP, &map(0, 0, 4096))[..length], &[&file]);
        drop(raw);
        served.farewell();
    }
    assert_as_after_power_on::<Mpi2>(&served, &[0; 4096]);
}

#[test]
fn clients_that_vanish_with_commands_in_flight_leave_a_card_as_after_power_on() {
    fn check<G: Generation>(chip: Chip) {
        let served = Served::new(chip, disks(1, DISK));
        let mut rig = Rig::<_, G>::new(Guest::connect(&served));
        let bytes = write_some(&mut rig);
        let device = rig.device(0);
        served.card.with_model(|model| model.slow_down(None, 2_000_000));
        let data = rig.data(64 << 10);
        data.fill(0xdb);
        let segments = [data.segment(0, 64 << 10)];
        for number in 0..64 {
            // Where nobody reads afterwards.
            let (cdb, direction) = match number % 2 {
                0 => (Cdb::read(0, 128), Direction::Read),
                _ => (Cdb::write(16384, 128), Direction::Write),
            };
            rig.submit(device, &command(&cdb, direction, &segments));
        }
        until("a start", || served.card.with_model(|model| model.held()) > 0);
        drop(rig);
        let _ = served.farewell();
        assert_eq!(served.card.with_model(|model| model.held()), 0);
        served.card.with_model(|model| model.slow_down(None, 0));
        assert_eq!(served.complaints(), [""; 0]);
        assert_as_after_power_on::<G>(&served, &bytes);
    }
    on_each!(check);
}

#[test]
fn a_client_that_vanishes_holding_its_line_leaves_none_to_the_next() {
    fn check<G: Generation>(chip: Chip) {
        let served = Served::new(chip, disks(1, DISK));
        let guest = Guest::connect(&served);
        let line = guest.interrupt(INTX, 0);
        let mut rig = Rig::<_, G>::new(guest);
        let bytes = write_some(&mut rig);
        rig.controller.interrupts(true);
        let device = rig.device(0);
        rig.bus.unmask();
        while line.came_within(Duration::ZERO) {}
        rig.submit(device, &command(&Cdb::test_unit_ready(), Direction::None, &[]));
        assert!(line.came_within(LIMIT));
        // Neither polled nor unmasked: the line stays up.
        drop(rig);
        served.farewell();
        let next = Guest::connect(&served);
        let theirs = next.interrupt(INTX, 0);
        next.unmask();
        assert!(!theirs.came_within(Duration::from_millis(60)), "a line of the one before");
        assert!(!line.came_within(Duration::ZERO), "the one before hears of nothing");
        drop(next);
        served.farewell();
        assert_as_after_power_on::<G>(&served, &bytes);
    }
    on_each!(check);
}

#[test]
fn a_client_that_vanishes_with_messages_waiting_leaves_none_to_the_next() {
    let served = Served::new(Chip::SAS3816, disks(1, DISK));
    // No descriptor yet, so that vectors pile up.
    let mut rig = Rig::<_, Mpi2>::new(Guest::connect(&served));
    let bytes = write_some(&mut rig);
    drop(rig);
    served.farewell();
    let next = Guest::connect(&served);
    let theirs: Vec<_> = (0..4).map(|vector| next.interrupt(MSIX, vector)).collect();
    std::thread::sleep(Duration::from_millis(60));
    assert!(!theirs.iter().any(|interrupt| interrupt.came_within(Duration::ZERO)));
    drop(next);
    served.farewell();
    assert_as_after_power_on::<Mpi2>(&served, &bytes);
}

#[test]
fn clients_that_vanish_at_every_step_of_a_bring_up_are_nothing_to_the_next() {
    fn check<G: Generation>(chip: Chip) {
        let served = Served::new(chip, disks(1, DISK));
        // In the middle of a handshake through the doorbell, after each of its words.
        for written in 0..6 {
            let guest = Guest::connect(&served);
            let region = guest.region();
            for word in 0..written {
                // IOC init or facts, 12 words of it announced.
                let value = if word == 0 { 0x420c_0000u32 } else { 0x0200_0000 };
                let bytes = value.to_le_bytes();
                guest.client().region_write(region, 0, &bytes).expect("written");
            }
            drop(guest);
            served.farewell();
        }
        // Ready, and no further.
        drop(ready::<_, G>(&Guest::connect(&served)));
        served.farewell();
        assert_as_after_power_on::<G>(&served, &[0; 4096]);
    }
    on_each!(check);
}

#[test]
fn a_faulted_card_is_ready_for_the_next_client() {
    let served = Served::new(Chip::SAS3008, disks(1, DISK));
    let mut rig = Rig::<_, Mpi2>::new(Guest::connect(&served));
    let bytes = write_some(&mut rig);
    served.card.with_model(|model| model.fault(0x1234));
    drop(rig);
    served.farewell();
    assert_as_after_power_on::<Mpi2>(&served, &bytes);
}

#[test]
fn a_thousand_clients_in_a_row_leave_as_many_descriptors_as_there_were() {
    let served = Served::new(Chip::SAS2008, disks(1, DISK));
    let open = || std::fs::read_dir("/proc/self/fd").expect("there").count();
    let (before, started) = (open(), Instant::now());
    let file = vfio::guest::memory_file(4096);
    for number in 0..1000 {
        let mut raw = match number % 3 {
            0 => Raw::connect(served.path()),
            _ => Raw::greet(served.path()),
        };
        if number % 3 == 2 {
            assert_eq!(raw.ask_with(DMA_MAP, &map(0, 0, 4096), &[&file]).error, 0);
        }
    }
    let mut gone = 0;
    until("all are gone", || {
        let events = served.events();
        gone += events.iter().filter(|event| matches!(event, Event::Disconnected(_))).count();
        gone == 1000
    });
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // Other tests of this process open some too.
    assert!(open() < before + 200);
    assert_as_after_power_on::<Mpi2>(&served, &[0; 4096]);
}

#[test]
fn a_second_client_waits_until_the_first_has_gone() {
    let served = Served::new(Chip::SAS2008, disks(1, DISK));
    let first = Guest::connect(&served);
    let mut second = Raw::connect(served.path());
    second.send(&message(VERSION, &version()));
    second.0.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
    assert!(std::io::Read::read(&mut &second.0, &mut [0; 1]).is_err(), "nothing yet");
    second.0.set_read_timeout(Some(LIMIT)).expect("set");
    drop(first);
    assert_eq!(second.answer().map(|answer| answer.error), Some(0));
    second.assert_in_step();
    // It wrote half of a header and left: nobody waits for the rest.
    second.send(&header(REGION_WRITE, 100, 0)[..9]);
    drop(second);
    assert_as_after_power_on::<Mpi2>(&served, &[0; 4096]);
}

#[test]
fn a_disk_on_a_file_has_what_was_acknowledged_when_clients_come_and_vanish() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk");
    std::fs::File::create(&path).and_then(|file| file.set_len(DISK)).expect("made");
    let config = TargetConfig { ..disk(0, 1 << 20).config().clone() };
    let target = Target::new(config, Disk::open(&path).expect("opened"));
    let mut served = Served::new(Chip::SAS3008, vec![target]);
    let mut random = Random::new(5);
    let mut expected = vec![0; 64 * 4096];
    for round in 0..12 {
        let mut rig = Rig::<_, Mpi2>::new(Guest::connect(&served));
        let device = rig.device(0);
        rig.clear_attention(device);
        let data = rig.data(64 * 4096);
        let everything = rig.run_in(device, &Cdb::read(0, 512), &data, 64 * 4096);
        everything.assert_good(64 * 4096);
        let found = data.read(0, 64 * 4096);
        // What was in flight when the last one vanished is there whole or not at all.
        for (page, (found, expected)) in
            found.chunks(4096).zip(expected.chunks_mut(4096)).enumerate()
        {
            if found != expected {
                let in_flight = found[0] == 0xf1 && found.iter().all(|byte| *byte == 0xf1);
                assert!(in_flight, "round {round}, page {page}");
                expected.copy_from_slice(found);
            }
        }
        for _ in 0..8 {
            let page = random.below(64);
            let bytes = random.bytes(4096);
            data.write(0, &bytes);
            rig.run_out(device, &Cdb::write(page * 8, 8), &data, 4096).assert_good(4096);
            expected[page as usize * 4096..][..4096].copy_from_slice(&bytes);
        }
        data.fill(0xf1);
        for _ in 0..32 {
            let cdb = Cdb::write(random.below(64) * 8, 8);
            let segment = [data.segment(0, 4096)];
            rig.submit(device, &command(&cdb, Direction::Write, &segment));
        }
        drop(rig);
        served.farewell();
    }
    served.card.with_model(|model| model.flush_disks()).expect("flushed");
    served.end();
    let file = std::fs::read(&path).expect("there");
    assert_eq!(file.len() as u64, DISK);
    assert!(file[64 * 4096..].iter().all(|byte| *byte == 0), "written where nobody wrote");
}
