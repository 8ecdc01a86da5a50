//! Several reply queues, each in a thread of its own, sharing nothing but the reply frames of
//! commands that fail.

mod hostile;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use fusion_mpt::controller::Action;
use fusion_mpt::error::SubmitError;
use fusion_mpt::generation::Mpi2;
use fusion_mpt::io_queue::Queue;
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::platform::DmaRegion;
use fusion_mpt::request::{Command, Device, TaskAttribute};
use fusion_mpt::scsi::{Cdb, Lun, ScsiStatus, Sense, SenseKey};
use fusion_mpt::sgl::{Direction, Segment};
use fusion_mpt::targets::TargetId;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::in_process::{MockBus, MockDma, Options};
use fusion_mpt_mock::model::{Chip, FactsOverride, disks};
use hostile::{DISK, Probe, Rig, core_chip, start};

type IoQueue = Queue<'static, Mpi2, Probe, MockDma>;

const QUEUES: u8 = 4;
const ROUNDS: usize = 340;
const DEPTH: usize = 16;
/// Blocks of each command.
const BLOCKS: u32 = 4;
const BYTES: usize = BLOCKS as usize * 512;
/// A block of each disk that cannot be read.
const DEFECT: u64 = 30_000;

/// What the worker of a queue has seen.
struct Report {
    smids: HashSet<u16>,
    verified: usize,
    failed: usize,
}

/// What stands in the block at `lba` of a queue's disk after its round `round`.
fn pattern(queue: u8, lba: u64, round: usize) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (index, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = lba << 40 ^ (round as u64) << 16 ^ (index as u64) << 8 ^ u64::from(queue);
        chunk.copy_from_slice(&word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    bytes
}

/// Where a round's command of this slot goes: each slot has an area of its own.
fn place(round: usize, slot: usize) -> u64 {
    (slot * 400 + round * 7 % 300) as u64 * u64::from(BLOCKS)
}

/// What a worker drives: a queue of its own.
trait Ends {
    fn submit(&mut self, command: &Command<'_>) -> Result<u16, SubmitError>;
    /// Cookie, outcome and sense key of what has completed.
    fn poll(&mut self, note: &mut dyn FnMut(u64, Outcome, Option<SenseKey>));
}

impl Ends for (&mut IoQueue, Device) {
    fn submit(&mut self, command: &Command<'_>) -> Result<u16, SubmitError> {
        self.0.submit(self.1, command)
    }
    fn poll(&mut self, note: &mut dyn FnMut(u64, Outcome, Option<SenseKey>)) {
        self.0.poll(|done| {
            note(done.cookie, done.outcome, Sense::parse(done.sense).map(|sense| sense.key));
        });
    }
}

impl Ends for (&mut hostile::Driver<Mpi2>, Device) {
    fn submit(&mut self, command: &Command<'_>) -> Result<u16, SubmitError> {
        self.0.submit_to_device(self.1, command)
    }
    fn poll(&mut self, note: &mut dyn FnMut(u64, Outcome, Option<SenseKey>)) {
        self.0.poll(|done| {
            note(done.cookie, done.outcome, Sense::parse(done.sense).map(|sense| sense.key));
        });
    }
}

/// One command and the SMID that it got.
fn send(
    ends: &mut impl Ends,
    cdb: &Cdb,
    direction: Direction,
    segments: &[Segment],
    cookie: u64,
) -> u16 {
    let command = Command {
        lun: Lun::peripheral(0),
        cdb,
        direction,
        data_length: segments.iter().map(|segment| segment.length).sum(),
        segments,
        attribute: TaskAttribute::Simple,
        tag: None,
        timeout_ms: 0,
        cookie,
    };
    ends.submit(&command).unwrap_or_else(|error| panic!("{error}"))
}

/// Waits for `out` commands and returns how each ended.
fn collect(ends: &mut impl Ends, out: &HashSet<u64>) -> HashMap<u64, (Outcome, Option<SenseKey>)> {
    let started = Instant::now();
    let mut done = HashMap::new();
    while done.len() < out.len() {
        ends.poll(&mut |cookie, outcome, key| {
            assert!(out.contains(&cookie), "command {cookie:#x} came back to another queue");
            assert!(done.insert(cookie, (outcome, key)).is_none(), "command {cookie:#x}, twice");
        });
        assert!(started.elapsed() < Duration::from_secs(20), "{} of {}", done.len(), out.len());
        std::thread::yield_now();
    }
    done
}

/// Writes patterns and reads them back, with failures in between.
fn work(mut ends: impl Ends, queue: u8, data: &MockDma, rounds: usize) -> Report {
    let mut report = Report { smids: HashSet::new(), verified: 0, failed: 0 };
    // The unit attention, if it is this queue that meets it.
    for cookie in 0..3 {
        let cookie = u64::from(queue) << 32 | 0xffff_0000 | cookie;
        send(&mut ends, &Cdb::test_unit_ready(), Direction::None, &[], cookie);
        collect(&mut ends, &HashSet::from([cookie]));
    }
    let piece = |slot: usize| Segment {
        address: data.bus().offset((slot * BYTES) as u64),
        length: BYTES as u32,
    };
    for round in 0..rounds {
        for direction in [Direction::Write, Direction::Read] {
            let mut out = HashSet::new();
            for slot in 0..DEPTH {
                let lba = place(round, slot);
                let cookie = u64::from(queue) << 32 | (round * DEPTH + slot) as u64;
                let reading = direction == Direction::Read;
                if reading {
                    data.write(slot * BYTES, &[0xee; BYTES]);
                } else {
                    data.write(slot * BYTES, &pattern(queue, lba, round));
                }
                // One in sixteen is a read of the defect.
                let cdb = match (reading, slot) {
                    (true, 3) => Cdb::read(DEFECT, BLOCKS),
                    (true, _) => Cdb::read(lba, BLOCKS),
                    (false, _) => Cdb::write(lba, BLOCKS),
                };
                report.smids.insert(send(&mut ends, &cdb, direction, &[piece(slot)], cookie));
                out.insert(cookie);
            }
            let done = collect(&mut ends, &out);
            for slot in 0..DEPTH {
                let lba = place(round, slot);
                let cookie = u64::from(queue) << 32 | (round * DEPTH + slot) as u64;
                let (outcome, key) = done[&cookie];
                if direction == Direction::Read && slot == 3 {
                    assert!(
                        matches!(
                            outcome,
                            Outcome::Complete { status: ScsiStatus::CHECK_CONDITION, .. }
                        ),
                        "{outcome:?}"
                    );
                    assert_eq!(key, Some(SenseKey::MEDIUM_ERROR));
                    report.failed += 1;
                    continue;
                }
                assert_eq!(outcome, Outcome::success(BYTES as u32));
                if direction == Direction::Read {
                    let mut seen = [0; BYTES];
                    data.read(slot * BYTES, &mut seen);
                    assert!(seen == pattern(queue, lba, round), "queue {queue}, round {round}");
                    report.verified += 1;
                }
            }
        }
    }
    report
}

/// Four queues, four threads, four disks.
fn in_four_threads(chip: Chip, array: bool) {
    let bus = MockBus::new(Options::threaded(chip, disks(QUEUES.into(), DISK)));
    if !array {
        let capabilities = Some(chip.capabilities & !0x4_0000);
        bus.with_model(|model| {
            model.override_facts(FactsOverride { capabilities, ..FactsOverride::default() });
        });
    }
    bus.with_model(|model| {
        for slot in 0..QUEUES {
            let target = &mut model.device(slot).expect("a disk").target;
            target.inject_medium_error(DEFECT, u64::from(BLOCKS));
        }
    });
    let wants = Wants { commands: 4 * 64, queues: QUEUES, ..Wants::default() };
    let (wire, started) = start::<Mpi2>(&bus, &wants, core_chip(&bus), u64::MAX);
    let mut driver = started.unwrap_or_else(|error| panic!("{error}")).driver;
    assert_eq!(driver.plan().queues, QUEUES);
    assert_eq!(driver.facts().queue_array, array);
    while driver.next_action().is_some() {}
    let mut queues: Vec<IoQueue> = std::iter::from_fn(|| driver.take_queue()).collect();
    assert_eq!(queues.len(), usize::from(QUEUES) - 1);
    let devices: Vec<_> =
        (0..QUEUES.into()).map(|id| driver.device(TargetId(id)).expect("present")).collect();
    let data: Vec<_> =
        devices.iter().map(|_| bus.allocate(DEPTH * BYTES, 4096).expect("room")).collect();
    let reports: Vec<Report> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, queue) in queues.iter_mut().enumerate() {
            let (index, device) = (index + 1, devices[index + 1]);
            let data = &data[index];
            threads.push(scope.spawn(move || {
                let ends: (&mut IoQueue, Device) = (queue, device);
                work(ends, index as u8, data, ROUNDS)
            }));
        }
        let own = work((&mut driver, devices[0]), 0, &data[0], ROUNDS);
        let mut reports = vec![own];
        reports.extend(threads.into_iter().map(|thread| thread.join().expect("a worker")));
        reports
    });

    let mut all = HashSet::new();
    for report in &reports {
        assert_eq!(report.verified, ROUNDS * (DEPTH - 1));
        assert_eq!(report.failed, ROUNDS);
        assert!(report.smids.len() >= DEPTH);
        for smid in &report.smids {
            assert!(all.insert(*smid), "SMID {smid} belongs to two queues");
        }
    }
    assert!(reports.iter().map(|report| report.verified).sum::<usize>() >= 20_000);
    for counters in queues.iter().map(Queue::counters).chain([driver.counters()]) {
        assert_eq!(counters.lies(), 0, "{counters:?}");
        assert_eq!(counters.submitted, counters.completed);
        assert!(counters.with_reply_frame >= ROUNDS as u64);
    }
    assert_eq!(driver.outstanding(), 0);
    assert!(queues.iter().all(|queue| queue.outstanding() == 0));
    assert_eq!(bus.with_model(|model| model.complaints().to_vec()), [""; 0]);
    assert!(wire.host_indices[0].load(Relaxed) > 0, "supplemental host indices");
    assert_eq!(wire.host_indices[1].load(Relaxed), 0, "and no others");
}

#[test]
fn four_queues_in_four_threads_on_a_sas3008() {
    in_four_threads(Chip::SAS3008, true);
}

#[test]
fn four_queues_in_four_threads_on_a_sas3816() {
    in_four_threads(Chip::SAS3816, true);
}

#[test]
fn four_queues_without_an_array_of_their_addresses() {
    in_four_threads(Chip::SAS3008, false);
}

/// A rig with as many queues as asked for, and the queues beyond the first.
fn stepped(chip: Chip, queues: u8, commands: u16) -> (Rig<Mpi2>, Vec<IoQueue>) {
    let mut options = Options::stepped(chip, disks(2, DISK));
    options.bytes = 16 << 20;
    let wants = Wants { commands, queues, ..Wants::default() };
    let mut rig = Rig::<Mpi2>::with(options, &wants);
    rig.clear_attention(TargetId(0));
    rig.actions();
    let queues = std::iter::from_fn(|| rig.driver.take_queue()).collect();
    (rig, queues)
}

fn command<'c>(cdb: &'c Cdb, segments: &'c [Segment], cookie: u64) -> Command<'c> {
    Command {
        lun: Lun::peripheral(0),
        cdb,
        direction: Direction::Read,
        data_length: segments.iter().map(|segment| segment.length).sum(),
        segments,
        attribute: TaskAttribute::Simple,
        tag: None,
        timeout_ms: 0,
        cookie,
    }
}

/// Every slot of every queue is used, on so many queues; each answer comes where it was asked.
fn all_slots_of(chip: Chip, count: u8, commands: u16) {
    let (mut rig, mut queues) = stepped(chip, count, commands);
    assert_eq!(queues.len() + 1, usize::from(count));
    let device = rig.driver.device(TargetId(0)).expect("present");
    let cdb = Cdb::read(9, 1);
    let piece = [rig.segment(0, 512)];
    for _ in 0..3 {
        let mut smids = HashSet::new();
        for (index, queue) in queues.iter_mut().enumerate() {
            for at in 0..queue.depth() {
                let cookie = (index as u64) << 32 | u64::from(at);
                let smid = queue.submit(device, &command(&cdb, &piece, cookie)).expect("room");
                assert!(smids.insert(smid));
            }
            let over = queue.submit(device, &command(&cdb, &piece, 0));
            assert_eq!(over, Err(SubmitError::Full));
        }
        rig.bus.run_until_idle();
        rig.driver.poll(|_| panic!("nothing was asked on queue 0"));
        for (index, queue) in queues.iter_mut().enumerate() {
            let mut seen = HashSet::new();
            while queue.outstanding() > 0 {
                let found = queue.poll(|done| {
                    assert_eq!(done.cookie >> 32, index as u64);
                    assert!(done.outcome.is_good() && seen.insert(done.cookie));
                });
                // A drain is bounded, and the ring may have been full.
                assert!(found + rig.bus.run_until_idle() as u32 > 0, "queue {index} stands still");
            }
            assert_eq!(seen.len(), usize::from(queue.depth()));
            assert_eq!(queue.counters().lies(), 0);
        }
    }
    assert_eq!(rig.complaints(), [""; 0]);
}

#[test]
fn each_of_few_queues_answers_where_it_was_asked() {
    all_slots_of(Chip::SAS3008, 2, 600);
}

#[test]
fn each_of_more_than_eight_queues_answers_where_it_was_asked() {
    all_slots_of(Chip::SAS3008, 20, 200);
    all_slots_of(Chip::SAS3816, 128, 256);
}

#[test]
fn a_chip_with_eight_vectors_has_no_supplemental_registers() {
    let chip = Chip { vectors: 8, ..Chip::SAS3008 };
    let (rig, mut queues) = stepped(chip, 8, 64);
    let device = rig.driver.device(TargetId(0)).expect("present");
    let cdb = Cdb::read(9, 1);
    let piece = [rig.segment(0, 512)];
    for queue in &mut queues {
        for _ in 0..100 {
            queue.submit(device, &command(&cdb, &piece, 1)).expect("room");
            rig.bus.run_until_idle();
            assert_eq!(queue.poll(|done| assert!(done.outcome.is_good())), 1);
        }
    }
    assert_eq!(rig.wire.host_indices[0].load(Relaxed), 0);
    assert!(rig.wire.host_indices[1].load(Relaxed) > 700);
    assert_eq!(rig.complaints(), [""; 0]);
}

#[test]
fn a_chip_with_one_vector_gives_one_queue() {
    let (rig, queues) = stepped(Chip::SAS2008, 4, 64);
    assert_eq!(queues.len(), 0);
    assert_eq!(rig.driver.plan().queues, 1);
    assert_eq!(rig.driver.plan().commands, 64);
}

#[test]
fn a_queue_does_not_take_what_belongs_to_another() {
    let (mut rig, mut queues) = stepped(Chip::SAS3008, 3, 96);
    let device = rig.driver.device(TargetId(0)).expect("present");
    let cdb = Cdb::read(9, 1);
    let piece = [rig.segment(0, 512)];
    rig.bus.with_model(|model| model.hold_commands(true));
    let smid = queues[0].submit(device, &command(&cdb, &piece, 7)).expect("room");
    rig.bus.run_until_idle();
    // Its answer on the other queues, as success, and as a frame; and an event where none belongs.
    for queue in [0, 2] {
        rig.bus.with_model(|model| {
            model.post_descriptor(queue, u64::from(smid) << 16);
            let mut frame = [0; 0x34];
            (frame[2], frame[3]) = (13, 0);
            model.post_frame(queue, smid, &frame);
        });
    }
    rig.bus.with_model(|model| {
        let mut event = [0; 0x20];
        (event[2], event[3]) = (8, 7);
        model.post_frame(1, 0, &event);
    });
    rig.bus.run_until_idle();
    rig.driver.poll(|_| panic!("none of queue 0's"));
    for queue in &mut queues {
        queue.poll(|_| panic!("not answered yet"));
    }
    assert_eq!(rig.driver.counters().lies(), 2);
    assert_eq!(queues[0].counters().lies(), 1);
    assert_eq!(queues[1].counters().lies(), 2);
    rig.bus.with_model(|model| model.hold_commands(false));
    rig.bus.run_until_idle();
    let mut done = 0;
    queues[0].poll(|completion| {
        assert!(completion.cookie == 7 && completion.outcome.is_good());
        done += 1;
    });
    assert_eq!(done, 1);
}

#[test]
fn a_halted_queue_completes_everything_once_and_leaves_a_card_that_is_gone_alone() {
    let (mut rig, mut queues) = stepped(Chip::SAS3816, 4, 128);
    let device = rig.driver.device(TargetId(0)).expect("present");
    let cdb = Cdb::read(9, 1);
    let piece = [rig.segment(0, 512)];
    rig.bus.with_model(|model| model.hold_commands(true));
    for (index, queue) in queues.iter_mut().enumerate() {
        for cookie in 0..20 {
            queue.submit(device, &command(&cdb, &piece, cookie)).expect("room");
        }
        assert_eq!(queue.outstanding(), 20, "queue {index}");
    }
    rig.bus.run_until_idle();
    // Answers that are in the rings when the card goes.
    rig.bus.with_model(|model| model.hold_commands(false));
    rig.bus.run_until_idle();
    rig.wire.die();
    rig.tick();
    assert_eq!(rig.actions()[0], Action::ControllerGone);
    let noticed = rig.wire.afterwards.load(Relaxed);
    for queue in &mut queues {
        let mut done = HashSet::new();
        queue.halt(Failure::ControllerGone, |completion| {
            assert_eq!(completion.outcome, Outcome::Failed(Failure::ControllerGone));
            assert!(done.insert(completion.cookie));
        });
        assert_eq!((done.len(), queue.outstanding()), (20, 0));
        assert_eq!(queue.halted(), Some(Failure::ControllerGone));
        queue.poll(|_| panic!("completed already"));
        let refused = queue.submit(device, &command(&cdb, &piece, 1));
        assert_eq!(refused, Err(SubmitError::Gone));
        assert_eq!(queue.counters().lies(), 0, "late answers are no lies");
    }
    assert_eq!(rig.wire.afterwards.load(Relaxed), noticed, "accesses to a card that is gone");
}
