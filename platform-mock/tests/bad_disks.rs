//! Disks that fail: what they say arrives byte for byte, and what they do not say has a name.

mod chips;
mod hostile;

use std::time::Duration;

use chips::on_every_chip;
use fusion_mpt::controller::Action;
use fusion_mpt::error::SubmitError;
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::{Failure, Outcome, Retry};
use fusion_mpt::request::TaskAttribute;
use fusion_mpt::scsi::{Cdb, ScsiStatus, Sense, SenseKey};
use fusion_mpt::sgl::{Direction, Segment};
use fusion_mpt::targets::TargetId;
use fusion_mpt_mock::in_process::Options;
use fusion_mpt_mock::model::{Chip, disk};
use fusion_mpt_mock::target::{SenseData, SenseKey as Key, Target, status};
use hostile::{DISK, Done, Rig};

on_every_chip! {
    every_sense_arrives_byte_for_byte_and_is_put_to_words = every_sense;
    statuses_without_sense_pass_through = statuses;
    a_defect_is_reported_where_it_is_and_nowhere_else = medium_error;
    a_disk_that_is_not_ready_or_write_protected_says_so = not_ready_and_protected;
    commands_past_the_end_are_refused_by_the_disk = past_the_end;
    commands_of_a_disk_that_is_pulled_end_and_it_is_reported_gone = pulled_in_flight;
    a_short_transfer_has_its_residual = residuals;
    a_wrong_direction_moves_nothing_beyond_its_buffer = wrong_direction;
    every_cdb_length_attribute_and_direction_works = every_form;
    addresses_beyond_32_bits_reach_the_right_blocks = far_blocks;
    errors_between_good_commands_disturb_none = errors_between;
}

const TARGET: TargetId = TargetId(0);

fn rig<G: Generation>(chip: Chip) -> Rig<G> {
    let mut rig = Rig::<G>::new(chip, 2);
    rig.actions();
    rig.clear_attention(TARGET);
    rig
}

/// Turns something at the first disk.
fn turn<G: Generation>(rig: &Rig<G>, work: impl FnOnce(&mut Target)) {
    rig.bus.with_model(|model| work(&mut model.device(0).expect("a disk").target));
}

fn read<G: Generation>(rig: &mut Rig<G>, lba: u64, blocks: u32) -> Done {
    rig.run(TARGET, &Cdb::read(lba, blocks), Direction::Read, blocks as usize * 512)
}

fn write<G: Generation>(rig: &mut Rig<G>, lba: u64, blocks: u32) -> Done {
    rig.run(TARGET, &Cdb::write(lba, blocks), Direction::Write, blocks as usize * 512)
}

#[track_caller]
fn assert_sense(done: &Done, key: SenseKey, asc: u8, ascq: u8) -> Sense {
    assert!(
        matches!(done.outcome, Outcome::Complete { status: ScsiStatus::CHECK_CONDITION, .. }),
        "{done:?}"
    );
    let sense = Sense::parse(&done.sense).expect("sense");
    assert_eq!((sense.key, sense.asc, sense.ascq), (key, asc, ascq), "{done:?}");
    sense
}

const KEYS: [Key; 10] = [
    Key::NoSense,
    Key::RecoveredError,
    Key::NotReady,
    Key::MediumError,
    Key::HardwareError,
    Key::IllegalRequest,
    Key::UnitAttention,
    Key::DataProtect,
    Key::AbortedCommand,
    Key::Miscompare,
];

/// Codes that the driver knows in words, and some that nobody does.
const CODES: [(u8, u8, bool); 16] = [
    (0x04, 0x01, true),
    (0x04, 0x02, true),
    (0x0c, 0x00, true),
    (0x11, 0x00, true),
    (0x20, 0x00, true),
    (0x21, 0x00, true),
    (0x24, 0x00, true),
    (0x25, 0x00, true),
    (0x27, 0x00, true),
    (0x29, 0x00, true),
    (0x2a, 0x09, true),
    (0x3a, 0x00, true),
    (0x5d, 0x00, true),
    (0x7f, 0x7f, false),
    (0x80, 0x01, false),
    (0xff, 0xff, false),
];

fn every_sense<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    for key in KEYS {
        for (asc, ascq, known) in CODES {
            let mut sense = SenseData::new(key, asc, ascq).with_information(0x1234_5678);
            if key == Key::IllegalRequest {
                sense.specific = Some([0xcf, 0, 2]);
            }
            turn(&rig, |target| target.inject_sense(sense, 1));
            let done = read(&mut rig, 7, 8);
            assert_eq!(done.sense, sense.to_bytes());
            let parsed = assert_sense(&done, SenseKey(key as u8), asc, ascq);
            assert_eq!(parsed.information, Some(0x1234_5678));
            assert_eq!(
                parsed.field.map(|field| (field.byte, field.in_cdb)),
                (key == Key::IllegalRequest).then_some((2, true))
            );
            let text = parsed.to_string();
            assert!(text.contains(SenseKey(key as u8).name()), "{text}");
            match parsed.text() {
                Some(words) => assert!(known && text.contains(words), "{text}"),
                None => assert!(!known, "{asc:#04x}/{ascq:#04x} has no words"),
            }
        }
    }
    assert!(read(&mut rig, 7, 8).outcome.is_good());
    assert_eq!(rig.driver.counters().lies(), 0);
    assert_eq!(rig.complaints(), [""; 0]);
}

fn statuses<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    for (status, expected) in [
        (status::BUSY, ScsiStatus::BUSY),
        (status::TASK_SET_FULL, ScsiStatus::TASK_SET_FULL),
        (status::RESERVATION_CONFLICT, ScsiStatus::RESERVATION_CONFLICT),
        // One that no standard has.
        (0x7e, ScsiStatus(0x7e)),
    ] {
        turn(&rig, |target| target.set_status(status, 2));
        for done in [read(&mut rig, 0, 1), write(&mut rig, 0, 1)] {
            assert_eq!(
                done.outcome,
                Outcome::Complete { status: expected, transferred: 0, sense_length: 0 }
            );
            assert_eq!(done.sense, [0; 0]);
        }
        assert!(read(&mut rig, 0, 1).outcome.is_good());
    }
}

fn medium_error<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    turn(&rig, |target| target.inject_medium_error(1000, 2));
    for (lba, blocks, bad) in
        [(998, 2, None), (998, 3, Some(1000)), (1001, 8, Some(1001)), (1002, 8, None)]
    {
        let done = read(&mut rig, lba, blocks);
        match bad {
            None => assert!(done.outcome.is_good(), "{done:?}"),
            Some(at) => {
                let sense = assert_sense(&done, SenseKey::MEDIUM_ERROR, 0x11, 0);
                assert_eq!(sense.information, Some(at));
                assert!(done.outcome.transferred() < blocks * 512);
            }
        }
    }
    assert!(write(&mut rig, 1000, 2).outcome.is_good());
    assert!(read(&mut rig, 998, 8).outcome.is_good());
}

fn not_ready_and_protected<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    turn(&rig, |target| target.set_ready(false));
    assert_sense(&read(&mut rig, 0, 1), SenseKey::NOT_READY, 0x04, 0x01);
    let done = rig.run(TARGET, &Cdb::test_unit_ready(), Direction::None, 0);
    assert_sense(&done, SenseKey::NOT_READY, 0x04, 0x01);
    // It says who it is all the same.
    let done = rig.run(TARGET, &Cdb::inquiry(36), Direction::Read, 36);
    assert!(done.outcome.is_good(), "{done:?}");
    turn(&rig, |target| target.set_ready(true));
    let done = rig.run(TARGET, &Cdb::start_stop_unit(false), Direction::None, 0);
    assert!(done.outcome.is_good(), "{done:?}");
    assert_sense(&read(&mut rig, 0, 1), SenseKey::NOT_READY, 0x04, 0x02);
    let done = rig.run(TARGET, &Cdb::start_stop_unit(true), Direction::None, 0);
    assert!(done.outcome.is_good(), "{done:?}");
    assert!(read(&mut rig, 0, 1).outcome.is_good());
    turn(&rig, |target| target.disk_mut().set_write_protected(true));
    assert_sense(&write(&mut rig, 0, 1), SenseKey::DATA_PROTECT, 0x27, 0);
    assert!(read(&mut rig, 0, 1).outcome.is_good());
}

fn past_the_end<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    let end = DISK / 512;
    assert!(read(&mut rig, end - 1, 1).outcome.is_good());
    for lba in [end - 1, end, u64::from(u32::MAX), 1 << 32, u64::MAX >> 1] {
        let done = read(&mut rig, lba, 2);
        assert_sense(&done, SenseKey::ILLEGAL_REQUEST, 0x21, 0);
        assert_eq!(done.outcome.transferred(), 0);
        assert_sense(&write(&mut rig, lba, 2), SenseKey::ILLEGAL_REQUEST, 0x21, 0);
    }
}

fn pulled_in_flight<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.hold_commands(true));
    let out = rig.submit_reads(20);
    let piece = [rig.segment(0, 512)];
    let other = rig.submit(TargetId(1), &Cdb::inquiry(36), Direction::Read, &[rig.segment(0, 36)]);
    rig.settle();
    let pulled = rig.bus.with_model(|model| model.remove_disk(0)).expect("a disk");
    // One more is sent before the driver hears of it.
    let late = rig.submit(TARGET, &Cdb::read(0, 1), Direction::Read, &piece);
    rig.settle();
    rig.bus.with_model(|model| model.hold_commands(false));
    rig.settle();
    for cookie in out {
        let done = rig.take(cookie);
        assert!(
            matches!(
                done.outcome,
                Outcome::Failed(failure @ (Failure::Terminated | Failure::IocTerminated | Failure::NoDevice))
                    if failure.to_string().len() > 20
            ),
            "{done:?}"
        );
    }
    let done = rig.take(late);
    assert_eq!(done.outcome, Outcome::Failed(Failure::NoDevice));
    assert_eq!(Failure::NoDevice.advice(), Retry::Never);
    assert!(rig.take(other).outcome.is_good(), "the other disk's is none of it");
    rig.assert_all_free();
    assert_eq!(rig.actions(), [Action::TargetGone(TARGET)]);
    let refused =
        rig.try_submit(TARGET, &Cdb::read(0, 1), Direction::Read, &piece, TaskAttribute::Simple);
    assert_eq!(refused, Err(SubmitError::NoTarget));
    // Put back, it is the same target.
    rig.bus.with_model(|model| model.add_disk(3, pulled)).expect("room");
    // A SAS1068 takes this long to bring up a link and to find what is behind it.
    rig.bus.advance(Duration::from_secs(3));
    rig.settle();
    assert_eq!(rig.actions(), [Action::TargetAppeared(TARGET)]);
    rig.clear_attention(TARGET);
    assert!(read(&mut rig, 0, 1).outcome.is_good());
    assert_eq!(rig.driver.counters().lies(), 0);
}

fn residuals<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    // More room than the disk has to say: the count is what it said.
    let done = rig.run(TARGET, &Cdb::inquiry(255), Direction::Read, 255);
    let said = done.outcome.transferred();
    assert!(done.outcome.is_good() && (36..255).contains(&said), "{done:?}");
    let done = rig.run(TARGET, &Cdb::read_capacity_16(32), Direction::Read, 4096);
    assert!(done.outcome.is_good() && done.outcome.transferred() == 32, "{done:?}");
    // Blocks of fewer bytes than the buffer has.
    let done = rig.run(TARGET, &Cdb::read(0, 2), Direction::Read, 8192);
    assert!(done.outcome.is_good() && done.outcome.transferred() == 1024, "{done:?}");
    // Of more bytes than the buffer has: never more than it holds, never as if all was well.
    rig.data.write(0, &[0xaa; 4096]);
    let done = rig.run(TARGET, &Cdb::read(0, 8), Direction::Read, 1024);
    assert!(done.outcome.transferred() <= 1024, "{done:?}");
    let mut after = [0; 1024];
    rig.data.read(1024, &mut after);
    assert_eq!(after, [0xaa; 1024], "bytes past the buffer");
    let done = rig.run(TARGET, &Cdb::write(0, 8), Direction::Write, 1024);
    assert!(!done.outcome.is_good(), "{done:?}");
    // Nothing at all, in each direction.
    for cdb in [Cdb::read(0, 0), Cdb::write(0, 0), Cdb::inquiry(0)] {
        let done = rig.run(TARGET, &cdb, Direction::None, 0);
        assert_eq!(done.outcome, Outcome::success(0));
    }
    assert_eq!(rig.driver.counters().lies(), 0);
}

fn wrong_direction<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.data.write(0, &[0x55; 4096]);
    let done = rig.run(TARGET, &Cdb::read(0, 8), Direction::Write, 4096);
    assert!(matches!(done.outcome, Outcome::Failed(_)), "{done:?}");
    let mut seen = [0; 4096];
    rig.data.read(0, &mut seen);
    assert_eq!(seen, [0x55; 4096]);
    let done = rig.run(TARGET, &Cdb::write(0, 8), Direction::Read, 4096);
    assert!(matches!(done.outcome, Outcome::Failed(_)), "{done:?}");
    let done = rig.run(TARGET, &Cdb::read(0, 8), Direction::None, 0);
    assert!(matches!(done.outcome, Outcome::Failed(_)), "{done:?}");
    assert!(read(&mut rig, 0, 8).outcome.is_good());
}

fn every_form<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    let forms: [(Cdb, Cdb); 5] = [
        (Cdb::write_6(11, 2).expect("fits"), Cdb::read_6(11, 2).expect("fits")),
        (Cdb::write_10(11, 2), Cdb::read_10(11, 2)),
        (Cdb::write_12(11, 2), Cdb::read_12(11, 2)),
        (Cdb::write_16(11, 2), Cdb::read_16(11, 2)),
        (Cdb::write_32(11, 2), Cdb::read_32(11, 2)),
    ];
    let attributes = [
        TaskAttribute::Simple,
        TaskAttribute::HeadOfQueue,
        TaskAttribute::Ordered,
        TaskAttribute::Aca,
    ];
    let piece = [rig.segment(512, 1024)];
    for (index, (write, read)) in forms.iter().enumerate() {
        if chip.is_mpi1() && write.length() > 16 {
            let refused = rig.try_submit(TARGET, write, Direction::Write, &piece, attributes[0]);
            assert_eq!(refused, Err(SubmitError::CdbLength(32)));
            continue;
        }
        for (turn, attribute) in attributes.into_iter().enumerate() {
            let pattern = [(index * 16 + turn) as u8 + 1; 1024];
            rig.data.write(512, &pattern);
            let cookie = rig
                .try_submit(TARGET, write, Direction::Write, &piece, attribute)
                .expect("accepted");
            rig.settle();
            let done = rig.take(cookie);
            assert_eq!(done.outcome, Outcome::success(1024), "{write:?}");
            rig.data.write(0, &[0xee; 2048]);
            let cookie =
                rig.try_submit(TARGET, read, Direction::Read, &piece, attribute).expect("accepted");
            rig.settle();
            assert_eq!(rig.take(cookie).outcome, Outcome::success(1024));
            let mut seen = [0; 2048];
            rig.data.read(0, &mut seen);
            assert_eq!(seen[512..1536], pattern);
            assert!(seen[..512].iter().chain(&seen[1536..]).all(|byte| *byte == 0xee));
        }
    }
    assert_eq!(rig.complaints(), [""; 0]);
}

fn far_blocks<G: Generation>(chip: Chip) {
    // 4 TiB of holes.
    let mut options = Options::stepped(chip, vec![disk(0, 4 << 40)]);
    options.bytes = 8 << 20;
    let mut rig = Rig::<G>::with(options, &Wants::default());
    rig.clear_attention(TARGET);
    let last = (4u64 << 40) / 512 - 1;
    let places = [0, u64::from(u32::MAX) - 1, 1 << 32, (1 << 32) + 5, last];
    for (index, lba) in places.into_iter().enumerate() {
        rig.data.write(0, &[index as u8 + 1; 512]);
        assert!(write(&mut rig, lba, 1).outcome.is_good());
    }
    for (index, lba) in places.into_iter().enumerate() {
        rig.data.write(0, &[0; 512]);
        assert!(read(&mut rig, lba, 1).outcome.is_good());
        let mut seen = [0; 512];
        rig.data.read(0, &mut seen);
        assert_eq!(seen, [index as u8 + 1; 512], "block {lba:#x}");
    }
    assert_sense(&read(&mut rig, last, 2), SenseKey::ILLEGAL_REQUEST, 0x21, 0);
}

fn errors_between<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    turn(&rig, |target| target.inject_medium_error(500, 1));
    let all: Vec<u8> = (0..100u8).flat_map(|block| [block; 512]).collect();
    rig.data.write(0, &all);
    assert!(write(&mut rig, 0, 100).outcome.is_good());
    rig.data.write(0, &[0; 51_200]);
    // Every seventh fails.
    let pieces: Vec<[Segment; 1]> = (0..100).map(|index| [rig.segment(index * 512, 512)]).collect();
    let out: Vec<_> = pieces
        .iter()
        .enumerate()
        .map(|(index, piece)| {
            let lba = if index % 7 == 0 { 500 } else { index as u64 };
            rig.submit(TARGET, &Cdb::read(lba, 1), Direction::Read, piece)
        })
        .collect();
    rig.settle();
    for (index, cookie) in out.into_iter().enumerate() {
        let done = rig.take(cookie);
        let mut seen = [0; 512];
        rig.data.read(index * 512, &mut seen);
        if index % 7 == 0 {
            assert_sense(&done, SenseKey::MEDIUM_ERROR, 0x11, 0);
        } else {
            assert_eq!(done.outcome, Outcome::success(512));
            assert_eq!(seen, [index as u8; 512]);
        }
    }
    rig.assert_all_free();
    let counters = rig.driver.counters();
    assert_eq!(counters.lies(), 0);
    assert!(counters.with_reply_frame >= 15);
}
