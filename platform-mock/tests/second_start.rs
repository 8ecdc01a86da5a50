//! A driver that is killed at any moment: the controller is told nothing, and the next driver on
//! the same bus finds everything as it was acknowledged.

mod fault_rig;
mod hostile;

use std::sync::atomic::Ordering::Relaxed;

use fault_rig::buffers::Buffers;
use fault_rig::seed;
use fault_rig::workload::{COMMANDS, DISKS, Flushing, Run, read_back};
use fault_rig::{Ask, Books, Platform};
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt_mock::in_process::MockBus;
use fusion_mpt_mock::model::Chip;
use hostile::{core_chip, start};

/// What happens between the kill and the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    /// Nothing: the next driver is there at once.
    Nothing,
    /// The controller goes on, with memory that is no longer there.
    FirmwareGoesOn,
}

/// The next driver works: everything that was written is read back, a full queue is taken, and
/// nobody wrote memory that is not his.
#[track_caller]
fn assert_second_start_works<G: Generation>(bus: MockBus, books: Books) {
    let wants = Wants { commands: COMMANDS, ..Wants::default() };
    let mut next = Platform::<G>::second(bus, books, wants);
    next.assert_disks_whole();
    read_back(&mut next);
    let depth = next.driver.depth();
    for lba in 0..u64::from(depth) {
        next.submit(0, Ask::Read { lba, blocks: 1 }).expect("every slot is free");
    }
    next.settle();
    next.books.assert_nothing_out();
    next.books.buffers.assert_all_untouched();
    assert_eq!(next.driver.counters().lies(), 0);
}

/// Killed after every single step that the firmware takes over a workload.
fn killed_at_every_step<G: Generation>(chip: Chip, meanwhile: Meanwhile) {
    let seed = seed::of_run();
    for steps in 0.. {
        let mut run = Run::<G>::new(chip, steps, Flushing::Honest);
        let over = run.workload(&mut seed::chance(seed, "killed")).is_some();
        let (bus, books) = run.platform.kill();
        if meanwhile == Meanwhile::FirmwareGoesOn {
            bus.run_until_idle();
        }
        assert_second_start_works::<G>(bus, books);
        if over {
            assert!(steps > 50, "only {steps} moments");
            return;
        }
    }
}

/// Killed at register accesses all over bring-up: to the controller, a driver that goes silent.
fn killed_during_bring_up<G: Generation>(chip: Chip) {
    let mut accesses = 1;
    loop {
        let bus = fault_rig::bus(chip, DISKS);
        let books = Books::new(Buffers::new(&bus, usize::from(COMMANDS) * 2 + 8));
        let wants = Wants { commands: COMMANDS, ..Wants::default() };
        let (wire, started) = start::<G>(&bus, &wants, core_chip(&bus), accesses);
        let over = wire.accesses.load(Relaxed) < accesses;
        drop(started);
        assert_second_start_works::<G>(bus, books);
        if over {
            assert!(accesses > 150, "only {accesses} accesses");
            return;
        }
        accesses += 3;
    }
}

/// Killed with a full queue out that the disks hold.
fn killed_with_a_full_queue<G: Generation>(chip: Chip) {
    for goes_on in [false, true] {
        let mut platform = Platform::<G>::new(chip, DISKS, COMMANDS);
        (0..DISKS).for_each(|target| platform.clear_attention(target));
        platform.bus.with_model(|model| model.hold_commands(true));
        let depth = platform.driver.depth();
        for at in 0..u64::from(depth) {
            let lba = fault_rig::content::WRITTEN.start + at * 4;
            let ask = match at % 2 {
                0 => Ask::Write { lba, blocks: 4 },
                _ => Ask::Read { lba, blocks: 4 },
            };
            platform.submit((at % 2) as u16, ask).expect("accepted");
        }
        platform.settle();
        let (bus, books) = platform.kill();
        if goes_on {
            // The disks answer a driver that is no longer there.
            bus.with_model(|model| model.hold_commands(false));
            bus.run_until_idle();
        }
        bus.with_model(|model| model.hold_commands(false));
        assert_second_start_works::<G>(bus, books);
    }
}

/// Killed, and the next one too, and the next.
fn killed_over_and_over<G: Generation>(chip: Chip) {
    let mut chance = seed::chance(seed::of_run(), "over and over");
    let mut platform = Platform::<G>::new(chip, DISKS, COMMANDS);
    for _ in 0..20 {
        for at in 0..chance.below(u64::from(COMMANDS)) {
            let lba = fault_rig::content::WRITTEN.start + at * 4;
            // A unit attention may end any of these: the books do not mind.
            platform.submit(0, Ask::Write { lba, blocks: 3 }).expect("accepted");
        }
        platform.bus.step(chance.below(40) as usize);
        platform.poll();
        platform = platform.start_again();
        platform.assert_disks_whole();
    }
    let (bus, books) = platform.kill();
    assert_second_start_works::<G>(bus, books);
}

macro_rules! second_starts {
    ($($chip:ident: $generation:ty = $model:expr;)*) => {$(
        mod $chip {
            use super::*;

            #[test]
            fn a_kill_at_any_step_leaves_a_disk_that_the_next_driver_finds_whole() {
                killed_at_every_step::<$generation>($model, Meanwhile::Nothing);
            }

            #[test]
            fn a_controller_that_goes_on_after_a_kill_harms_nobody() {
                killed_at_every_step::<$generation>($model, Meanwhile::FirmwareGoesOn);
            }

            #[test]
            fn a_kill_at_any_access_of_bring_up_leaves_a_controller_that_starts() {
                killed_during_bring_up::<$generation>($model);
            }

            #[test]
            fn a_kill_with_a_full_queue_out_leaves_a_controller_that_starts() {
                killed_with_a_full_queue::<$generation>($model);
            }

            #[test]
            fn one_kill_after_the_other_is_survived() {
                killed_over_and_over::<$generation>($model);
            }
        }
    )*};
}

second_starts! {
    sas1068: Mpi1 = Chip::SAS1068;
    sas3008: Mpi2 = Chip::SAS3008;
    sas3816: Mpi2 = Chip::SAS3816;
}
