//! Recovery, rung by rung: what is done about a command that is late, a device that is full, a
//! device that goes, a controller that must be reset, and one that cannot be.

mod chips;
mod hostile;

use std::time::Duration;

use chips::{on_each, on_every_chip};
use fusion_mpt::controller::{Action, Health};
use fusion_mpt::error::{Error, SubmitError};
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::recovery::{InFlight, Policy, ResetReason};
use fusion_mpt::request::Command;
use fusion_mpt::scsi::{Cdb, Lun, ScsiStatus};
use fusion_mpt::sgl::{Direction, Segment};
use fusion_mpt::targets::TargetId;
use fusion_mpt_mock::in_process::{MockBus, Options};
use fusion_mpt_mock::model::{Chip, disks};
use fusion_mpt_mock::target::status;
use hostile::{DISK, Rig};

on_every_chip! {
    a_late_command_is_aborted_and_completes_once_as_timed_out = late;
    the_callers_own_deadline_is_met_with_a_margin = own_deadline;
    a_command_that_answers_before_its_deadline_is_left_alone = in_time;
    a_task_management_reply_that_is_lost_leads_to_the_next_rung = lost_task;
    a_command_whose_reply_is_lost_ends_with_a_reset_of_the_controller = lost_reply;
    a_firmware_that_answers_nothing_is_reset_when_the_ladder_ends = stopped;
    commands_are_handed_back_when_the_controller_works_again = handed_back;
    a_reset_brings_every_target_back_under_its_id = same_targets;
    a_reset_that_never_ends_takes_the_controller_offline = offline;
    a_controller_that_is_yanked_during_its_reset_is_gone = yanked_in_reset;
    a_device_that_is_full_gets_less_and_then_more_again = full;
    a_device_that_goes_is_removed_from_the_controllers_tables = removed;
    a_lost_reply_to_a_request_of_our_own_ends_with_a_reset = own_request;
    a_stop_drains_flushes_and_leaves_the_controller_ready = stop;
    a_stop_says_what_it_could_not_flush = stop_without_flush;
}

const DISK_0: TargetId = TargetId(0);
const DISK_1: TargetId = TargetId(1);

fn rig<G: Generation>(chip: Chip) -> Rig<G> {
    let mut rig = Rig::<G>::new(chip, 2);
    rig.settle();
    rig.actions();
    for target in [DISK_0, DISK_1] {
        rig.clear_attention(target);
    }
    rig
}

/// A read of what `piece` has room for.
fn reading<'c>(cdb: &'c Cdb, piece: &'c [Segment], cookie: u64, timeout_ms: u32) -> Command<'c> {
    Command {
        lun: Lun::peripheral(0),
        cdb,
        direction: Direction::Read,
        data_length: piece.iter().map(|piece| piece.length).sum(),
        segments: piece,
        attribute: Default::default(),
        tag: None,
        cookie,
        timeout_ms,
    }
}

/// Time passes in steps of 100 ms, with polls and ticks, as on a platform.
fn pass<G: Generation>(rig: &mut Rig<G>, milliseconds: u64) {
    for _ in 0..milliseconds / 100 {
        rig.bus.advance(Duration::from_millis(100));
        rig.poll();
        let now = rig.bus.now_ms();
        rig.driver.tick(now, |completion| rig.ledger.note(&completion));
        rig.bus.run_until_idle();
        rig.poll();
    }
}

fn read<G: Generation>(rig: &mut Rig<G>, target: TargetId) -> u64 {
    let piece = [rig.segment(0, 512)];
    rig.submit(target, &Cdb::read(5, 1), Direction::Read, &piece)
}

#[track_caller]
fn assert_works<G: Generation>(rig: &mut Rig<G>) {
    for target in [DISK_0, DISK_1] {
        rig.clear_attention(target);
        assert!(rig.run(target, &Cdb::read(0, 8), Direction::Read, 4096).outcome.is_good());
    }
    rig.assert_all_free();
    // As many commands are taken as at first.
    rig.bus.with_model(|model| model.hold_commands(true));
    let depth = rig.driver.depth();
    let out: Vec<_> = (0..depth).map(|_| read(rig, DISK_0)).collect();
    let piece = [rig.segment(0, 512)];
    let more =
        rig.try_submit(DISK_0, &Cdb::read(0, 1), Direction::Read, &piece, Default::default());
    assert_eq!(more, Err(SubmitError::Full));
    rig.bus.with_model(|model| model.hold_commands(false));
    rig.settle();
    for cookie in out {
        assert!(rig.take(cookie).outcome.is_good());
    }
    assert_eq!(rig.driver.health(), Health::Running);
}

const TIMED_OUT: Outcome = Outcome::Failed(Failure::TimedOut);

fn late<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.hold_commands(true));
    let cookie = read(&mut rig, DISK_0);
    pass(&mut rig, 29_500);
    assert!(rig.ledger.done.is_empty(), "it has 30 s");
    assert_eq!(rig.driver.health(), Health::Running);
    pass(&mut rig, 1_500);
    assert_eq!(rig.take(cookie).outcome, TIMED_OUT);
    let counters = rig.driver.recovery_counters();
    assert_eq!((counters.late, counters.aborts, counters.unit_resets), (1, 1, 0));
    rig.bus.with_model(|model| model.hold_commands(false));
    assert_works(&mut rig);
    assert_eq!(rig.actions(), [], "nobody had to do anything");
    assert_eq!(rig.driver.counters().lies(), 0);
}

fn own_deadline<G: Generation>(chip: Chip) {
    for timeout_ms in [1_000u32, 6_000, 45_000, 120_000] {
        let mut rig = rig::<G>(chip);
        rig.bus.with_model(|model| model.hold_commands(true));
        let piece = [rig.segment(0, 512)];
        let cdb = Cdb::read(5, 1);
        let command = reading(&cdb, &piece, 4711, timeout_ms);
        rig.driver.submit(DISK_0, &command).expect("accepted");
        rig.ledger.out.insert(4711);
        let started = rig.bus.now_ms();
        while !rig.ledger.done.contains_key(&4711) {
            pass(&mut rig, 100);
            assert!(rig.bus.now_ms() - started < u64::from(timeout_ms), "not within {timeout_ms}");
        }
        assert_eq!(rig.take(4711).outcome, TIMED_OUT);
        let took = rig.bus.now_ms() - started;
        assert!(took >= u64::from(timeout_ms) / 2, "{took} of {timeout_ms}");
    }
}

fn in_time<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.slow_down(None, 29_000_000_000));
    let out: Vec<_> = (0..20).map(|_| read(&mut rig, DISK_0)).collect();
    pass(&mut rig, 60_000);
    for cookie in out {
        assert!(rig.take(cookie).outcome.is_good());
    }
    assert_eq!(rig.driver.recovery_counters().late, 0);
}

fn lost_task<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.hold_commands(true));
    let out = [read(&mut rig, DISK_0), read(&mut rig, DISK_0)];
    let other = read(&mut rig, DISK_1);
    pass(&mut rig, 29_800);
    // The abort's reply, and that of the command which it ends.
    rig.bus.with_model(|model| model.drop_replies(2));
    pass(&mut rig, 1_000);
    let tur = Cdb::test_unit_ready();
    let refused = rig.try_submit(DISK_0, &tur, Direction::None, &[], Default::default());
    assert_eq!(refused, Err(SubmitError::Held));
    assert_eq!(rig.driver.health(), Health::Recovering);
    pass(&mut rig, 8_000);
    let counters = rig.driver.recovery_counters();
    assert_eq!((counters.aborts, counters.unit_resets, counters.lost_tasks), (1, 1, 1));
    // The reset of the unit ended the second; the first was answered to nobody.
    assert_eq!(rig.ledger.done.remove(&out[1]).expect("ended").outcome, TIMED_OUT);
    pass(&mut rig, 3_000);
    assert_eq!(rig.actions(), [Action::ResetNeeded(ResetReason::ReplyLost)]);
    rig.reset().unwrap_or_else(|error| panic!("{error}"));
    for cookie in [out[0], other] {
        assert_eq!(rig.take(cookie).outcome, Outcome::Failed(Failure::ControllerReset));
    }
    rig.bus.with_model(|model| model.hold_commands(false));
    pass(&mut rig, 2_000);
    assert_works(&mut rig);
}

fn lost_reply<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.drop_replies(1));
    let cookie = read(&mut rig, DISK_0);
    pass(&mut rig, 40_000);
    assert_eq!(rig.actions(), [Action::ResetNeeded(ResetReason::ReplyLost)]);
    assert!(rig.ledger.done.is_empty());
    rig.reset().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(rig.take(cookie).outcome, Outcome::Failed(Failure::ControllerReset));
    pass(&mut rig, 2_000);
    assert_eq!(rig.actions(), [Action::ControllerReady]);
    assert_works(&mut rig);
}

fn stopped<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.stop_answering(true));
    let out = [read(&mut rig, DISK_0), read(&mut rig, DISK_1)];
    pass(&mut rig, 60_000);
    assert_eq!(rig.actions(), [Action::ResetNeeded(ResetReason::LadderExhausted)]);
    let counters = rig.driver.recovery_counters();
    assert_eq!((counters.aborts, counters.unit_resets, counters.target_resets), (1, 1, 1));
    rig.bus.with_model(|model| model.stop_answering(false));
    rig.reset().unwrap_or_else(|error| panic!("{error}"));
    for cookie in out {
        assert_eq!(rig.take(cookie).outcome, Outcome::Failed(Failure::ControllerReset));
    }
    pass(&mut rig, 2_000);
    assert_works(&mut rig);
}

fn handed_back<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.driver.set_policy(Policy { in_flight: InFlight::HandBack, ..Policy::default() });
    rig.bus.with_model(|model| model.hold_commands(true));
    let out: Vec<_> = (0..40).map(|_| read(&mut rig, DISK_0)).collect();
    rig.settle();
    rig.bus.with_model(|model| {
        model.hold_commands(false);
        model.fault(0x1234);
    });
    rig.tick();
    assert_eq!(rig.actions(), [Action::ResetNeeded(ResetReason::Fault(0x1234))]);
    rig.reset().unwrap_or_else(|error| panic!("{error}"));
    assert!(rig.ledger.done.is_empty(), "its disks are not known yet");
    pass(&mut rig, 2_000);
    assert_eq!(rig.actions(), [Action::ControllerReady]);
    for cookie in out {
        assert_eq!(rig.take(cookie).outcome, Outcome::Failed(Failure::HandedBack));
    }
    assert_works(&mut rig);
}

fn same_targets<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    let before: Vec<_> =
        rig.driver.targets().map(|target| (target.id, target.page.sas_address)).collect();
    // One of two is away when the controller comes back.
    rig.bus.with_model(|model| model.remove_disk(1)).expect("there is one");
    rig.reset().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(rig.driver.health(), Health::Rediscovering);
    let piece = [rig.segment(0, 512)];
    let early =
        rig.try_submit(DISK_0, &Cdb::read(0, 1), Direction::Read, &piece, Default::default());
    assert_eq!(early, Err(SubmitError::Held));
    pass(&mut rig, 2_000);
    assert_eq!(rig.actions(), [Action::ControllerReady, Action::TargetGone(DISK_1)]);
    let after: Vec<_> =
        rig.driver.targets().map(|target| (target.id, target.page.sas_address)).collect();
    assert_eq!(before, after);
    rig.clear_attention(DISK_0);
    rig.assert_all_free();
}

fn offline<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.hold_commands(true));
    let out = [read(&mut rig, DISK_0), read(&mut rig, DISK_1)];
    rig.settle();
    rig.bus.with_model(|model| {
        model.fault(0x1234);
        model.never_ready();
    });
    rig.tick();
    rig.actions();
    let started = rig.bus.now_ms();
    let error = rig.reset().expect_err("it never becomes ready");
    assert!(matches!(error, Error::Timeout(_)), "{error}");
    let took = rig.bus.now_ms() - started;
    assert!(took < 3 * 60_000, "{took} ms");
    for cookie in out {
        assert_eq!(rig.take(cookie).outcome, Outcome::Failed(Failure::ControllerOffline));
    }
    rig.assert_all_free();
    assert_eq!(rig.driver.health(), Health::Offline);
    assert_eq!(rig.driver.recovery_counters().failed_resets, 3);
    let actions = rig.actions();
    assert_eq!(actions[0], Action::ControllerOffline);
    assert_eq!(actions.len(), 3, "and both targets: {actions:?}");
    let piece = [rig.segment(0, 512)];
    let refused =
        rig.try_submit(DISK_0, &Cdb::read(0, 1), Direction::Read, &piece, Default::default());
    assert_eq!(refused, Err(SubmitError::Offline));
    assert_eq!(rig.reset(), Err(Error::Offline));
    pass(&mut rig, 5_000);
    assert_eq!(rig.actions(), []);
}

fn yanked_in_reset<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.hold_commands(true));
    let cookie = read(&mut rig, DISK_0);
    rig.settle();
    rig.bus.with_model(|model| model.fault(0x1234));
    rig.tick();
    rig.actions();
    rig.wire.die();
    assert_eq!(rig.reset(), Err(Error::Gone));
    assert_eq!(rig.take(cookie).outcome, Outcome::Failed(Failure::ControllerGone));
    assert_eq!(rig.actions()[0], Action::ControllerGone);
    rig.assert_all_free();
}

fn full<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.hold_commands(true));
    let out: Vec<_> = (0..40).map(|_| read(&mut rig, DISK_0)).collect();
    rig.settle();
    rig.bus.with_model(|model| {
        let device = model.device(0).expect("there is one");
        device.target.set_status(status::TASK_SET_FULL, 1);
        model.hold_commands(false);
    });
    rig.bus.step(1);
    rig.poll();
    let refused = rig.ledger.done.remove(&out[0]).expect("it was the first");
    assert!(
        matches!(refused.outcome, Outcome::Complete { status: ScsiStatus::TASK_SET_FULL, .. }),
        "{refused:?}"
    );
    rig.bus.with_model(|model| model.hold_commands(true));
    let piece = [rig.segment(0, 512)];
    let mut taken = 0;
    let attempt = |rig: &mut Rig<G>, target| {
        rig.try_submit(target, &Cdb::read(0, 1), Direction::Read, &piece, Default::default())
    };
    if attempt(&mut rig, DISK_0).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 0, "it has 39 and may have 37");
    assert_eq!(attempt(&mut rig, DISK_0), Err(SubmitError::Throttled));
    assert!(attempt(&mut rig, DISK_1).is_ok(), "the other disk is not throttled");
    pass(&mut rig, 2_000);
    assert!(attempt(&mut rig, DISK_0).is_ok(), "it has been quiet");
    assert_eq!(rig.driver.counters().throttled, 1);
    rig.bus.with_model(|model| model.hold_commands(false));
    rig.settle();
    for cookie in &out[1..] {
        assert!(rig.take(*cookie).outcome.is_good());
    }
    assert_works(&mut rig);
}

fn removed<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.remove_disk(1)).expect("there is one");
    pass(&mut rig, 2_000);
    assert_eq!(rig.actions(), [Action::TargetGone(DISK_1)]);
    let counters = rig.driver.recovery_counters();
    assert_eq!((counters.target_resets, counters.removals), (1, 1));
    // It comes back and is the same target.
    rig.bus.with_model(|model| model.add_disk(1, disks(2, DISK).remove(1))).expect("room");
    pass(&mut rig, 2_000);
    assert_eq!(rig.actions(), [Action::TargetAppeared(DISK_1)]);
    assert_works(&mut rig);
    assert_eq!(rig.complaints(), [""; 0]);
}

fn own_request<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.drop_replies(1));
    rig.driver.scan();
    pass(&mut rig, 14_000);
    assert_eq!(rig.actions(), []);
    pass(&mut rig, 2_000);
    let function = fusion_mpt::wire::Function::CONFIG;
    assert_eq!(rig.actions(), [Action::ResetNeeded(ResetReason::OwnRequestLost(function))]);
    rig.reset().unwrap_or_else(|error| panic!("{error}"));
    pass(&mut rig, 2_000);
    assert_eq!(rig.actions(), [Action::ControllerReady]);
    assert_works(&mut rig);
}

fn stop<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    let data = [rig.segment(0, 4096)];
    rig.data.write(0, &[0x5a; 4096]);
    let out: Vec<_> = (0..8)
        .map(|block| rig.submit(DISK_0, &Cdb::write(block * 8, 8), Direction::Write, &data))
        .collect();
    let Rig { driver, bus, mut ledger, .. } = rig;
    let (parts, stopped, result) =
        driver.stop(bus.now_ms(), &mut bus.delay(), |completion| ledger.note(&completion));
    result.unwrap_or_else(|error| panic!("{error}"));
    for cookie in out {
        assert!(ledger.done.remove(&cookie).expect("drained").outcome.is_good());
    }
    assert!(ledger.done.is_empty() && ledger.out.is_empty());
    assert_eq!((stopped.undrained, stopped.flushed, stopped.unflushed), (0, 2, 0));
    // What was written is on the medium: the power may go.
    bus.with_model(|model| model.power_cut(&mut |_, _| false)).expect("it can be cut");
    let mut seen = [0; 4096];
    bus.with_model(|model| {
        let device = model.device(0).expect("there is one");
        for block in 0..8 {
            device.target.disk().read(block * 4096, &mut seen).expect("readable");
            assert_eq!(seen, [0x5a; 4096]);
        }
    });
    parts.reset.make_ready(&mut bus.delay()).unwrap_or_else(|error| panic!("{error}"));
}

fn stop_without_flush<G: Generation>(chip: Chip) {
    let rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.hold_commands(true));
    let Rig { driver, bus, .. } = rig;
    let started = bus.now_ms();
    let (_, stopped, result) = driver.stop(started, &mut bus.delay(), |_| {});
    result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((stopped.flushed, stopped.unflushed), (0, 2));
    assert_eq!(stopped.first_unflushed, Some(DISK_0));
    let took = bus.now_ms() - started;
    assert!(took < 120_000, "bounded: {took} ms");
}

/// Many late commands are seen to as fast as the IOC answers, not one for each tick.
#[test]
fn a_full_queue_of_late_commands_is_over_within_seconds() {
    on_each!(late_queue);
}

fn late_queue<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.hold_commands(true));
    let out: Vec<_> = (0..rig.driver.depth()).map(|_| read(&mut rig, DISK_0)).collect();
    pass(&mut rig, 30_500);
    // Time stands still: each answer leads to the next question.
    rig.settle();
    for cookie in out {
        assert_eq!(rig.take(cookie).outcome, TIMED_OUT);
    }
    let counters = rig.driver.recovery_counters();
    assert_eq!(counters.resets, 0, "{counters:?}");
    rig.bus.with_model(|model| model.hold_commands(false));
    assert_works(&mut rig);
}

#[test]
fn the_policy_at_the_reset_counts_whatever_it_is_set_to_meanwhile() {
    for (then, meanwhile) in
        [(InFlight::HandBack, InFlight::Fail), (InFlight::Fail, InFlight::HandBack)]
    {
        let mut rig = rig::<Mpi2>(Chip::SAS3008);
        rig.driver.set_policy(Policy { in_flight: then, ..Policy::default() });
        rig.bus.with_model(|model| model.hold_commands(true));
        let cookie = read(&mut rig, DISK_0);
        rig.settle();
        rig.reset().unwrap_or_else(|error| panic!("{error}"));
        rig.driver.set_policy(Policy { in_flight: meanwhile, ..Policy::default() });
        pass(&mut rig, 2_000);
        let ended = match then {
            InFlight::Fail => Failure::ControllerReset,
            InFlight::HandBack => Failure::HandedBack,
        };
        assert_eq!(rig.take(cookie).outcome, Outcome::Failed(ended));
        rig.bus.with_model(|model| model.hold_commands(false));
        assert_works(&mut rig);
    }
}

#[test]
fn a_scan_that_is_asked_for_before_the_reset_disturbs_nothing_after_it() {
    on_each!(scan_before_reset);
}

fn scan_before_reset<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.fault(0x99));
    rig.tick();
    rig.driver.scan();
    rig.actions();
    rig.reset().unwrap_or_else(|error| panic!("{error}"));
    pass(&mut rig, 2_000);
    assert_eq!(rig.actions(), [Action::ControllerReady]);
    assert_works(&mut rig);
}

#[test]
fn a_stop_while_disks_are_looked_for_waits_for_them_and_flushes() {
    on_each!(stop_in_rediscovery);
}

fn stop_in_rediscovery<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    rig.data.write(0, &[0x77; 4096]);
    assert!(rig.run(DISK_0, &Cdb::write(0, 8), Direction::Write, 4096).outcome.is_good());
    rig.reset().unwrap_or_else(|error| panic!("{error}"));
    let Rig { driver, bus, .. } = rig;
    let (_, stopped, result) = driver.stop(bus.now_ms(), &mut bus.delay(), |_| {});
    result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((stopped.flushed, stopped.unflushed, stopped.queues_held), (2, 0, false));
}

#[test]
fn a_stop_flushes_where_every_slot_is_a_tag() {
    let bus = MockBus::new(Options::stepped(Chip::SAS3008, disks(2, DISK)));
    let chip = hostile::core_chip(&bus);
    let wants = Wants { commands: 64, tags: 64, ..Wants::default() };
    let Rig { driver, bus, .. } = Rig::<Mpi2>::on(bus, &wants, chip);
    let (_, stopped, result) = driver.stop(bus.now_ms(), &mut bus.delay(), |_| {});
    result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((stopped.flushed, stopped.unflushed), (2, 0));
}

#[test]
fn sense_that_a_reply_claims_and_nobody_wrote_is_not_an_earlier_commands() {
    let mut rig = Rig::<Mpi2>::coherent(Chip::SAS3008, 1);
    rig.clear_attention(DISK_0);
    // The slot has held sense: that of the unit attention, or of this.
    let beyond = rig.run(DISK_0, &Cdb::read(u64::from(u32::MAX), 8), Direction::Read, 4096);
    assert!(!beyond.sense.is_empty());
    rig.bus.with_model(|model| model.hold_commands(true));
    let cookie = read(&mut rig, DISK_0);
    rig.settle();
    let smid = hostile::smid_of(&rig, cookie);
    let mut frame = hostile::frame(smid, 13, 0);
    frame[0x0c] = 2;
    frame[0x0d] = 1;
    frame[0x18] = 18;
    rig.bus.with_model(|model| model.post_frame(0, smid, &frame));
    rig.settle();
    let done = rig.take(cookie);
    assert!(done.sense.iter().all(|byte| *byte == 0), "{done:?}");
}

#[test]
fn half_a_reply_that_stays_one_leads_straight_to_a_reset() {
    let mut rig = rig::<Mpi2>(Chip::SAS2008);
    rig.bus.with_model(|model| model.hold_commands(true));
    let out = [read(&mut rig, DISK_0), read(&mut rig, DISK_1)];
    rig.settle();
    // The upper half is what an entry holds that nobody has written.
    rig.bus.with_model(|model| model.post_descriptor(0, 0xffff_ffff_0000_0000));
    rig.bus.with_model(|model| model.hold_commands(false));
    pass(&mut rig, 32_000);
    assert!(rig.ledger.done.is_empty());
    assert_eq!(rig.actions(), [Action::ResetNeeded(ResetReason::ReplyTorn)]);
    assert_eq!(rig.driver.recovery_counters().aborts, 0);
    rig.reset().unwrap_or_else(|error| panic!("{error}"));
    for cookie in out {
        assert_eq!(rig.take(cookie).outcome, Outcome::Failed(Failure::ControllerReset));
    }
    pass(&mut rig, 2_000);
    assert_works(&mut rig);
}

#[test]
fn interrupts_pass_after_a_reset_if_they_did_before() {
    for pass_them in [true, false] {
        let mut rig = rig::<Mpi2>(Chip::SAS3008);
        rig.driver.interrupts(pass_them);
        rig.reset().unwrap_or_else(|error| panic!("{error}"));
        pass(&mut rig, 2_000);
        rig.clear_attention(DISK_0);
        assert!(!rig.bus.interrupt_pending());
        read(&mut rig, DISK_0);
        rig.bus.advance(Duration::from_millis(1));
        assert_eq!(rig.bus.interrupt_pending(), pass_them);
    }
}

/// Queues in threads of their own learn of a reset from their polls.
#[test]
fn a_queue_that_was_handed_out_ends_its_commands_at_a_reset_and_goes_on() {
    let bus = MockBus::new(Options::stepped(Chip::SAS3008, disks(2, DISK)));
    let chip = hostile::core_chip(&bus);
    let wants = Wants { queues: 2, ..Wants::default() };
    let mut rig = Rig::<Mpi2>::on(bus, &wants, chip);
    rig.settle();
    rig.clear_attention(DISK_0);
    let mut queue = rig.driver.take_queue().expect("a second queue");
    rig.bus.with_model(|model| model.hold_commands(true));
    let piece = [rig.segment(0, 512)];
    let cdb = Cdb::read(5, 1);
    let command = |cookie| reading(&cdb, &piece, cookie, 0);
    let device = rig.driver.device(DISK_0).expect("present");
    for cookie in 0..10 {
        queue.submit(device, &command(cookie)).expect("accepted");
    }
    rig.settle();
    rig.bus.with_model(|model| model.fault(0x77));
    rig.tick();
    assert_eq!(rig.reset(), Err(Error::QueuesHeld), "its owner has not looked");
    queue.poll(|_| panic!("the device may still write their memory"));
    assert_eq!(queue.submit(device, &command(99)), Err(SubmitError::Held));
    rig.reset().unwrap_or_else(|error| panic!("{error}"));
    let mut ended = Vec::new();
    queue.poll(|completion| ended.push((completion.cookie, completion.outcome)));
    let reset = Outcome::Failed(Failure::ControllerReset);
    assert_eq!(ended, (0..10).map(|cookie| (cookie, reset)).collect::<Vec<_>>());
    rig.bus.with_model(|model| model.hold_commands(false));
    pass(&mut rig, 2_000);
    rig.clear_attention(DISK_0);
    let device = rig.driver.device(DISK_0).expect("present");
    for cookie in 0..u64::from(queue.depth()) {
        queue.submit(device, &command(cookie)).expect("accepted");
    }
    let mut good = 0;
    for _ in 0..1000 {
        rig.bus.run_until_idle();
        queue.poll(|completion| good += u16::from(completion.outcome.is_good()));
    }
    assert_eq!(good, queue.depth());
}

#[test]
fn a_late_command_of_another_queue_is_aborted_through_the_first() {
    let bus = MockBus::new(Options::stepped(Chip::SAS3008, disks(2, DISK)));
    let chip = hostile::core_chip(&bus);
    let wants = Wants { queues: 2, ..Wants::default() };
    let mut rig = Rig::<Mpi2>::on(bus, &wants, chip);
    rig.settle();
    rig.clear_attention(DISK_0);
    let mut queue = rig.driver.take_queue().expect("a second queue");
    rig.bus.with_model(|model| model.hold_commands(true));
    let piece = [rig.segment(0, 512)];
    let cdb = Cdb::read(5, 1);
    let command = reading(&cdb, &piece, 3, 9_000);
    let device = rig.driver.device(DISK_0).expect("present");
    queue.submit(device, &command).expect("accepted");
    let mut ended = Vec::new();
    for _ in 0..90 {
        pass(&mut rig, 100);
        queue.tick(rig.bus.now_ms(), |completion| {
            ended.push((completion.cookie, completion.outcome));
        });
    }
    assert_eq!(ended, [(3, TIMED_OUT)]);
    assert_eq!(rig.driver.recovery_counters().aborts, 1);
    assert_eq!(rig.actions().iter().filter(|a| !matches!(a, Action::TargetAppeared(_))).count(), 0);
    pass(&mut rig, 5_000);
    assert_eq!(rig.driver.health(), Health::Running);
}
