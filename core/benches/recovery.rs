//! What recovery costs while nothing is wrong, and how fast a removal is over.
//!
//! A tick is measured where it has most to do without anything being late: every slot of a large
//! controller is taken, and each command's time runs out in another bucket of the wheel or beyond
//! it, so that all of them are looked at again as the wheel turns. The device answers nothing but
//! its doorbell, which is read once a second of virtual time.
//!
//! A removal is measured from the tick that reads all ones in the doorbell to the last completion.

#[path = "common/null_device.rs"]
#[allow(dead_code, reason = "nothing is answered here")]
mod null_device;

use std::time::{Duration, Instant};

use fusion_mpt::controller::{Action, Health};
use fusion_mpt::generation::{Command, Generation, Mpi1, Mpi2, TaskAttribute};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::scsi::{Cdb, Lun};
use fusion_mpt::sgl::Direction;
use null_device::{Kind, Rig};

/// Between two ticks, in milliseconds of virtual time.
const TICK_MS: u64 = 10;
/// A minute's ticks.
const TICKS: u64 = 60_000 / TICK_MS;
/// Minutes: with this many one of them was not disturbed.
const MINUTES: usize = 20;
/// What each command has, in milliseconds: more than all of it takes.
const TIMEOUT_MS: u32 = 24 * 3_600_000;
/// Commands are given over this time, in milliseconds: once around the wheel of 128 buckets of
/// 256 ms each, in whole ticks.
const FILL_MS: u64 = 32_770;

const REMOVALS: usize = 20;

/// Gives commands until `count` are outstanding, evenly over `fill_ms` milliseconds, with ticks.
/// Returns the time then.
fn fill<G: Generation>(rig: &mut Rig<G>, count: u64, fill_ms: u64) -> u64 {
    let cdb = Cdb::test_unit_ready();
    let mut given = 0;
    for now_ms in (0..=fill_ms).step_by(TICK_MS as usize) {
        tick(rig, now_ms);
        rig.device.be_null();
        while given < count && given * fill_ms <= now_ms * count {
            let command = Command {
                lun: Lun::ZERO,
                cdb: &cdb,
                direction: Direction::None,
                data_length: 0,
                segments: &[],
                attribute: TaskAttribute::Simple,
                tag: None,
                timeout_ms: TIMEOUT_MS,
                cookie: given,
            };
            rig.controller.submit(rig.target, &command).expect("a slot is free");
            given += 1;
        }
        rig.device.be_ioc();
    }
    assert_eq!(u64::from(rig.controller.outstanding()), count);
    fill_ms
}

fn tick<G: Generation>(rig: &mut Rig<G>, now_ms: u64) {
    rig.controller.tick(now_ms, |completion| panic!("nobody answered: {completion:?}"));
}

/// How long a minute's ticks take, from `now_ms` on.
#[inline(never)]
fn minute(rig: &mut Rig<Mpi2>, now_ms: &mut u64) -> Duration {
    let started = Instant::now();
    for _ in 0..TICKS {
        *now_ms += TICK_MS;
        tick(rig, *now_ms);
    }
    started.elapsed()
}

/// Microseconds for a tick with `commands` outstanding.
fn tick_us(commands: u16) -> f64 {
    let wants = Wants { commands, ..Wants::default() };
    let mut rig = Rig::<Mpi2>::with(Kind::Mpi2, &wants);
    rig.device.be_ioc();
    let mut now_ms = fill(&mut rig, commands.into(), FILL_MS);
    let best = (0..MINUTES).map(|_| minute(&mut rig, &mut now_ms)).min().expect("a minute");
    assert_eq!(rig.controller.health(), Health::Running);
    assert_eq!(rig.controller.recovery_counters().late, 0);
    assert_eq!(rig.controller.outstanding(), commands);
    best.as_secs_f64() * 1e6 / TICKS as f64
}

/// How long it takes to complete `commands` that are outstanding when the controller goes.
fn removal<G: Generation>(kind: Kind, commands: u16) -> Duration {
    let wants = Wants { commands, ..Wants::default() };
    let mut rig = Rig::<G>::with(kind, &wants);
    rig.device.be_ioc();
    let now_ms = fill(&mut rig, commands.into(), 0);
    let mut completions = vec![0u32; commands.into()];
    // Every register reads as all ones from here on.
    rig.device.be_null();
    let started = Instant::now();
    let mut last = started;
    rig.controller.tick(now_ms + 1_000, |completion| {
        assert_eq!(completion.outcome, Outcome::Failed(Failure::ControllerGone));
        completions[completion.cookie as usize] += 1;
        last = Instant::now();
    });
    assert!(completions.iter().all(|completions| *completions == 1), "each completes once");
    assert_eq!(rig.controller.next_action(), Some(Action::ControllerGone));
    last - started
}

fn main() {
    if std::env::args().any(|argument| argument == "--scenario") {
        return;
    }
    println!("figure recovery.tick_us.8192 {:.4}", tick_us(8192));
    let slowest = (0..REMOVALS)
        .flat_map(|_| [removal::<Mpi1>(Kind::Mpi1, 1024), removal::<Mpi2>(Kind::Mpi2, 1024)])
        .max()
        .expect("a removal");
    println!("figure recovery.removal_ms.1024 {:.4}", slowest.as_secs_f64() * 1e3);
}
