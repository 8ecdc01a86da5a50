//! The driver on controllers that fault, vanish, lie, or hold commands back.

mod chips;
mod driver;

use chips::on_every_chip;
use driver::{Rig, bring_up};
use fusion_mpt::controller::{Action, TaskRoute};
use fusion_mpt::error::Error;
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::recovery::ResetReason;
use fusion_mpt::request::TaskRequest;
use fusion_mpt::scsi::{Cdb, Lun};
use fusion_mpt::sgl::Direction;
use fusion_mpt::targets::TargetId;
use fusion_mpt::wire::task::TaskType;
use fusion_mpt_mock::in_process::{MockBus, Options};
use fusion_mpt_mock::model::{Chip, FactsOverride, State, disks};

const DISK: TargetId = TargetId(0);

on_every_chip! {
    a_faulted_controller_is_reset_and_comes_up = faulted_before;
    a_fault_completes_everything_outstanding = faulted;
    a_removed_controller_completes_everything_and_is_left_alone = removed;
    a_pulled_disk_ends_what_it_held = pulled;
    an_abort_ends_a_held_command_exactly_once = aborted;
    an_adapter_that_never_gets_ready_is_given_up = never_ready;
    a_silent_firmware_is_given_up = silent;
    facts_without_room_for_a_command_are_refused = no_credits;
    answers_to_nothing_are_counted_and_ignored = lies;
    answers_that_are_held_up_come_in_the_end = held;
}

fn rig<G: Generation>(chip: Chip) -> Rig<G> {
    let mut rig = Rig::new(Options::stepped(chip, disks(2, 1 << 20)));
    rig.clear_attention(DISK);
    rig.actions();
    rig
}

/// A rig with `count` commands that the controller holds.
fn holding<G: Generation>(chip: Chip, count: u64) -> Rig<G> {
    let mut rig = rig::<G>(chip);
    rig.bus.with_model(|model| model.hold_commands(true));
    for cookie in 0..count {
        rig.submit(DISK, &Cdb::test_unit_ready(), Direction::None, &[], cookie);
    }
    rig.bus.run_until_idle();
    assert_eq!(rig.bus.with_model(|model| model.held()), count as usize);
    rig
}

/// What completed, in order of cookies; each once.
fn sorted(mut completions: Vec<(u64, Outcome)>) -> Vec<(u64, Outcome)> {
    completions.sort_by_key(|(cookie, _)| *cookie);
    completions
}

fn bus(chip: Chip) -> MockBus {
    MockBus::new(Options::stepped(chip, disks(1, 1 << 20)))
}

fn faulted_before<G: Generation>(chip: Chip) {
    let bus = bus(chip);
    bus.with_model(|model| model.fault(0x1234));
    let driver = bring_up::<G>(&bus, &Wants::default()).expect("a diagnostic reset helps");
    assert_eq!(driver.targets().count(), 1);
    assert_eq!(bus.with_model(|model| model.complaints().to_vec()), [""; 0]);
}

fn faulted<G: Generation>(chip: Chip) {
    let mut rig = holding::<G>(chip, 5);
    rig.bus.with_model(|model| model.fault(0x2622));
    rig.driver.watch(|_| panic!("the device may still write their memory"));
    assert!(rig.actions().contains(&Action::ResetNeeded(ResetReason::Fault(0x2622))));
    let mut ended = Vec::new();
    let (now_ms, mut delay) = (rig.bus.now_ms(), rig.bus.delay());
    let reset = rig.driver.reset(now_ms, &mut delay, |completion| {
        ended.push((completion.cookie, completion.outcome));
    });
    reset.unwrap_or_else(|error| panic!("{error}"));
    let fault = Outcome::Failed(Failure::ControllerFault(0x2622));
    assert_eq!(sorted(ended), (0..5).map(|cookie| (cookie, fault)).collect::<Vec<_>>());
}

fn removed<G: Generation>(chip: Chip) {
    let mut rig = holding::<G>(chip, 5);
    rig.bus.with_model(|model| model.all_ones(true));
    let mut ended = Vec::new();
    rig.driver.watch(|completion| ended.push((completion.cookie, completion.outcome)));
    let gone = Outcome::Failed(Failure::ControllerGone);
    assert_eq!(sorted(ended), (0..5).map(|cookie| (cookie, gone)).collect::<Vec<_>>());
    let accesses = rig.driver.register_accesses();
    rig.driver.poll(|_| panic!("nothing is left to complete"));
    rig.driver.watch(|_| panic!("nothing is left to complete"));
    assert_eq!(rig.driver.register_accesses(), accesses);
    assert_eq!(rig.actions()[0], Action::ControllerGone);
}

fn pulled<G: Generation>(chip: Chip) {
    let mut rig = holding::<G>(chip, 3);
    rig.bus.with_model(|model| model.remove_disk(0)).expect("there is one");
    let mut ended = Vec::new();
    for _ in 0..20 {
        rig.bus.run_until_idle();
        rig.driver.poll(|completion| ended.push((completion.cookie, completion.outcome)));
    }
    let ended = sorted(ended);
    assert_eq!(ended.iter().map(|(cookie, _)| *cookie).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(ended.iter().all(|(_, outcome)| matches!(outcome, Outcome::Failed(_))), "{ended:?}");
    assert_eq!(rig.actions(), [Action::TargetGone(DISK)]);
}

fn aborted<G: Generation>(chip: Chip) {
    let mut rig = holding::<G>(chip, 3);
    let request = TaskRequest {
        kind: TaskType::ABORT_TASK,
        device: rig.driver.device(DISK).expect("present"),
        lun: Lun::peripheral(0),
        smid: rig.driver.find_command(1).expect("outstanding"),
    };
    let mut ended = Vec::new();
    let mut delay = rig.bus.delay();
    let reply = rig
        .driver
        .task_management(&mut delay, &request, TaskRoute::Preferred, |completion| {
            ended.push((completion.cookie, completion.outcome));
        })
        .expect("an answer");
    assert_eq!(reply.terminated, 1);
    rig.bus.with_model(|model| model.hold_commands(false));
    rig.bus.run_until_idle();
    rig.driver.poll(|completion| ended.push((completion.cookie, completion.outcome)));
    let ended = sorted(ended);
    assert_eq!(ended.len(), 3);
    assert_eq!(ended[1], (1, Outcome::Failed(Failure::TaskTerminated)));
    assert!(ended[0].1.is_good() && ended[2].1.is_good());
    assert_eq!(rig.complaints(), [""; 0]);
}

fn never_ready<G: Generation>(chip: Chip) {
    let bus = bus(chip);
    bus.with_model(|model| model.never_ready());
    let error = bring_up::<G>(&bus, &Wants::default()).err();
    assert!(matches!(error, Some(Error::Timeout(_))), "{error:?}");
}

fn silent<G: Generation>(chip: Chip) {
    let bus = bus(chip);
    bus.with_model(|model| model.stop_answering(true));
    let error = bring_up::<G>(&bus, &Wants::default()).err();
    assert!(matches!(error, Some(Error::Timeout(_) | Error::DoorbellBusy)), "{error:?}");
}

fn no_credits<G: Generation>(chip: Chip) {
    for facts in [
        FactsOverride { credits: Some(0), ..FactsOverride::default() },
        FactsOverride { request_frame_words: Some(0), ..FactsOverride::default() },
        FactsOverride { reply_depth: Some(0), ..FactsOverride::default() },
    ] {
        let bus = bus(chip);
        bus.with_model(|model| model.override_facts(facts));
        let error = bring_up::<G>(&bus, &Wants::default()).err();
        assert!(matches!(error, Some(Error::BadFacts { .. })), "{facts:?}: {error:?}");
    }
}

fn lies<G: Generation>(chip: Chip) {
    let mut rig = rig::<G>(chip);
    let before = rig.driver.counters().lies();
    rig.bus.with_model(|model| {
        if chip.is_mpi1() {
            // A context that nothing is outstanding on, one of a target's, frames elsewhere.
            for word in [9, 0x2000_0009, 0xffff_fff0, 0x8000_0000] {
                model.post_word(word);
            }
        } else {
            // A success for nothing, a type that there is not, frames elsewhere.
            for word in [0x9 << 16, 0x9 << 16 | 4, 0xffff_fff0_0009_0001, 1] {
                model.post_descriptor(0, word);
            }
        }
    });
    rig.bus.run_until_idle();
    // On MPI1 a poll with nothing outstanding saves the read that would say "empty".
    for _ in 0..4 {
        rig.driver.poll(|_| panic!("nothing is outstanding"));
    }
    assert_eq!(rig.driver.counters().lies() - before, 4);
    let (outcome, _) = rig.run(DISK, &Cdb::test_unit_ready(), Direction::None, &[]);
    assert!(outcome.is_good(), "life goes on: {outcome:?}");
}

fn held<G: Generation>(chip: Chip) {
    let mut rig = holding::<G>(chip, 7);
    rig.bus.with_model(|model| model.hold_commands(false));
    rig.bus.run_until_idle();
    let mut ended = Vec::new();
    rig.driver.poll(|completion| ended.push(completion.cookie));
    assert_eq!(ended, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(rig.bus.with_model(|model| model.state()), State::Operational);
}

#[test]
fn registers_that_read_as_zero_now_and_then_do_not_confuse_the_driver() {
    let bus = bus(Chip::SAS3816);
    bus.with_model(|model| model.zero_reads(20));
    let driver = bring_up::<Mpi2>(&bus, &Wants::default()).expect("read again");
    assert_eq!(driver.targets().count(), 1);
}

#[test]
fn a_reply_that_is_lost_leaves_its_command_outstanding_until_a_reset() {
    let mut rig = rig::<Mpi2>(Chip::SAS3008);
    rig.bus.with_model(|model| model.drop_replies(1));
    for cookie in 0..2 {
        rig.submit(DISK, &Cdb::test_unit_ready(), Direction::None, &[], cookie);
    }
    rig.bus.run_until_idle();
    assert!(rig.bus.interrupt_pending() || rig.driver.interrupt_cause().reply());
    let mut ended = Vec::new();
    rig.driver.poll(|completion| ended.push((completion.cookie, completion.outcome.is_good())));
    assert_eq!(ended, [(1, true)]);
    assert!(!rig.driver.interrupt_cause().reply(), "the host index has caught up");
    assert_eq!(rig.driver.outstanding(), 1);
    let mut delay = rig.bus.delay();
    let (_, reset) = rig.driver.into_reset(&mut delay, |completion| {
        assert_eq!(completion.outcome, Outcome::Failed(Failure::ControllerReset));
        ended.push((completion.cookie, false));
    });
    assert_eq!((ended, reset), (vec![(1, true), (0, false)], Ok(())));
    assert_eq!(rig.bus.with_model(|model| model.complaints().to_vec()), [""; 0]);
}
