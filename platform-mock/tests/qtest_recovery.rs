//! Recovery on QEMU's controller, a stranger's: what the driver asks of it when a command is late,
//! and resets in place, with commands out.

mod common;

use std::time::{Duration, Instant};

use common::qemu::Machine;
use common::{Data, Rig, Sleep, command};
use fusion_mpt::controller::{Action, Health};
use fusion_mpt::generation::{Device, Mpi1};
use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::recovery::{InFlight, Policy};
use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Direction;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::qtest::{Backend, Qtest};

const MIB: u64 = 1 << 20;
/// Longer than this nothing takes here, on the slowest machine.
const LIMIT: Duration = Duration::from_secs(30);

type QemuRig = Rig<Qtest, Mpi1>;
type QemuData = Data<<Qtest as Bus>::Dma>;

fn read(rig: &mut QemuRig, device: Device, block: u64, data: &QemuData) -> u64 {
    let cdb = Cdb::read(block, 1);
    let segments = [data.segment(block as usize % 64 * 512, 512)];
    rig.submit(device, &command(&cdb, Direction::Read, &segments))
}

/// Ticks from `from_ms` on, a millisecond for each that passes, until all have completed.
fn tick_until_done(rig: &mut QemuRig, from_ms: u64, cookies: &[u64]) {
    let started = Instant::now();
    while !cookies.iter().all(|cookie| rig.is_done(*cookie)) {
        assert!(started.elapsed() < LIMIT, "{:?}", rig.controller.recovery_counters());
        rig.tick(from_ms + started.elapsed().as_millis() as u64);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_late_command_is_aborted_through_the_doorbell_and_the_others_go_on() {
    let mut machine = Machine::new();
    machine.add(0, Backend::Slow { bytes: MIB, latency: Duration::from_millis(300) });
    machine.add_disk(1, MIB);
    let mut rig = QemuRig::new(machine.start());
    rig.clear_attentions();
    rig.actions.clear();
    let data = rig.data(64 * 512);
    let (slow, quick) = (rig.device(0), rig.device(1));
    rig.tick(1_000);
    let late = read(&mut rig, slow, 0, &data);
    rig.tick(29_000);
    assert_eq!(rig.controller.recovery_counters().late, 0);
    rig.tick(31_500);
    assert_eq!(rig.controller.recovery_counters().late, 1);
    let others: Vec<_> = (1..20).map(|block| read(&mut rig, quick, block, &data)).collect();
    tick_until_done(&mut rig, 31_500, &others);
    tick_until_done(&mut rig, 32_000, &[late]);
    assert_eq!(rig.take(late).outcome, Outcome::Failed(Failure::TimedOut));
    for cookie in others {
        rig.take(cookie).assert_good(512);
    }
    let counters = rig.controller.recovery_counters();
    assert_eq!((counters.aborts, counters.unit_resets), (1, 0), "{counters:?}");
    rig.tick(40_000);
    assert_eq!(rig.controller.health(), Health::Running);
    assert_eq!(rig.actions, []);
    rig.run_in(slow, &Cdb::read(0, 1), &data, 512).assert_good(512);
    assert_eq!(rig.controller.counters().lies(), 0);
}

#[test]
fn a_full_queue_that_is_late_comes_back_each_command_once() {
    let mut machine = Machine::new();
    machine.add_throttled(0, MIB, 1);
    machine.add_disk(1, MIB);
    let mut rig = QemuRig::new(machine.start());
    rig.clear_attentions();
    rig.actions.clear();
    let data = rig.data(64 * 512);
    let device = rig.device(0);
    rig.tick(1_000);
    let out: Vec<_> = (0..rig.controller.depth())
        .map(|block| read(&mut rig, device, block.into(), &data))
        .collect();
    // A few seconds at a time: the rungs are climbed as QEMU answers, the waits cost nothing.
    let started = Instant::now();
    let mut now_ms = 31_500;
    while !out.iter().all(|cookie| rig.is_done(*cookie)) {
        assert!(started.elapsed() < LIMIT, "{:?}", rig.controller.recovery_counters());
        rig.tick(now_ms);
        now_ms += 100;
        std::thread::sleep(Duration::from_millis(2));
        if let Some(Action::ResetNeeded(_)) = rig.actions.last() {
            rig.reset();
        }
    }
    for cookie in out {
        let done = rig.take(cookie);
        assert!(done.outcome.is_good() || matches!(done.outcome, Outcome::Failed(_)), "{done:?}");
    }
    assert_eq!(rig.controller.outstanding(), 0);
    assert_eq!(rig.controller.counters().lies(), 0);
    println!(
        "a queue of {} late commands: {:?}",
        rig.controller.depth(),
        rig.controller.recovery_counters()
    );
}

#[test]
fn twenty_resets_in_place_lose_no_command_and_no_target() {
    let mut machine = Machine::new();
    machine.add_throttled(0, MIB, 1);
    machine.add_disk(1, MIB);
    let mut rig = QemuRig::new(machine.start());
    rig.clear_attentions();
    let data = rig.data(64 * 512);
    let targets: Vec<_> = rig.controller.targets().map(|target| target.id).collect();
    for round in 0..20 {
        let in_flight = if round % 2 == 0 { InFlight::Fail } else { InFlight::HandBack };
        rig.controller.set_policy(Policy { in_flight, ..Policy::default() });
        rig.actions.clear();
        let device = rig.device(0);
        let out: Vec<_> = (0..16).map(|block| read(&mut rig, device, block, &data)).collect();
        rig.reset();
        rig.settle_reset();
        let mut ended = 0;
        for cookie in out {
            match rig.take(cookie).outcome {
                Outcome::Failed(Failure::ControllerReset) if round % 2 == 0 => ended += 1,
                Outcome::Failed(Failure::HandedBack) if round % 2 == 1 => ended += 1,
                // Answered before the reset, the first of them with a unit attention.
                outcome => assert!(matches!(outcome, Outcome::Complete { .. }), "{outcome:?}"),
            }
        }
        assert!(ended >= 10, "one operation a second: {ended} were out");
        assert_eq!(rig.actions, [Action::ControllerReady], "round {round}");
        let now: Vec<_> = rig.controller.targets().map(|target| target.id).collect();
        assert_eq!(now, targets);
        rig.clear_attention(rig.device(1));
        rig.run_in(rig.device(1), &Cdb::read(0, 1), &data, 512).assert_good(512);
    }
    assert_eq!(rig.controller.recovery_counters().resets, 20);
    assert_eq!(rig.controller.counters().lies(), 0);
}

#[test]
fn a_stop_leaves_everything_on_the_medium() {
    let machine = Machine::with_disks(2, MIB);
    let mut rig = QemuRig::new(machine.start());
    rig.clear_attentions();
    let data = rig.data(64 * 512);
    data.fill(0xa7);
    let device = rig.device(1);
    for block in 0..32 {
        let segments = [data.segment(0, 512)];
        rig.submit(device, &command(&Cdb::write(block, 1), Direction::Write, &segments));
    }
    let Rig { controller, bus, .. } = rig;
    let mut completed = 0;
    let (parts, stopped, result) = controller.stop(0, &mut Sleep, |completion| {
        assert!(completion.outcome.is_good(), "{:?}", completion.outcome);
        completed += 1;
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(completed, 32);
    assert_eq!((stopped.undrained, stopped.flushed, stopped.unflushed), (0, 2, 0));
    // As a power cut: QEMU has no chance to write anything more.
    bus.kill();
    assert_eq!(machine.read_image(1, 0, 32 * 512), vec![0xa7; 32 * 512]);
    drop((parts, bus));
}
