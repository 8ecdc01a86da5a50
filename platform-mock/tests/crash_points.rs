//! The crash-point sweep: the power is cut after every single step that the firmware takes over a
//! workload of writes and flushes, a new driver starts, and whatever an acknowledged flush covered
//! is there.

mod fault_rig;
mod hostile;

use fault_rig::Platform;
use fault_rig::seed;
use fault_rig::workload::{Flushing, Run, read_back};
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt_mock::model::Chip;

/// Which blocks of the drives' caches the drives had written by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survivors {
    None,
    All,
    Some,
}

/// Cuts the power after `steps` steps; whether the workload was not over by then, and what a new
/// driver finds that must not be.
fn crash<G: Generation>(
    chip: Chip,
    steps: usize,
    survivors: Survivors,
    flushing: Flushing,
) -> (bool, Vec<String>) {
    let seed = seed::of_run();
    let mut run = Run::<G>::new(chip, steps, flushing);
    let cut_short = run.workload(&mut seed::chance(seed, "workload")).is_none();
    let wants = run.platform.wants;
    let (bus, mut books) = run.platform.kill();
    let mut chance = seed::chance(seed ^ steps as u64, "survivors");
    bus.with_model(|model| {
        let mut survives = |_, _| match survivors {
            Survivors::None => false,
            Survivors::All => true,
            Survivors::Some => chance.below(2) == 0,
        };
        model.power_cut(&mut survives).expect("disks in memory");
    });
    books.shadow.power_cut();
    let mut next = Platform::<G>::second(bus, books, wants);
    let wrong = fault_rig::wrong_blocks(&next.bus, &mut next.books);
    if flushing == Flushing::Honest && wrong.is_empty() {
        read_back(&mut next);
    }
    next.books.buffers.assert_all_untouched();
    (cut_short, wrong)
}

/// Every crash point in turn; how many there were, and every loss.
fn sweep<G: Generation>(
    chip: Chip,
    survivors: Survivors,
    flushing: Flushing,
) -> (usize, Vec<String>) {
    let mut losses = Vec::new();
    for steps in 0.. {
        let (cut_short, wrong) = crash::<G>(chip, steps, survivors, flushing);
        let at = |wrong| {
            format!("{survivors:?} of the cache survived a cut after {steps} steps: {wrong}")
        };
        losses.extend(wrong.into_iter().map(at));
        if !cut_short {
            return (steps, losses);
        }
    }
    unreachable!("every workload ends")
}

/// What was flushed survives, wherever the power is cut.
fn survives<G: Generation>(chip: Chip, survivors: Survivors) {
    let (points, losses) = sweep::<G>(chip, survivors, Flushing::Honest);
    assert!(points > 50, "only {points} crash points");
    println!("{}: {points} crash points, {survivors:?} of the cache survives", chip.name);
    assert!(
        losses.is_empty(),
        "{} losses on a {} (FAULT_SEED={}): {losses:#?}",
        losses.len(),
        chip.name,
        seed::of_run()
    );
}

macro_rules! sweeps {
    ($($chip:ident: $generation:ty = $model:expr;)*) => {$(
        mod $chip {
            use super::*;

            #[test]
            fn what_was_flushed_survives_a_cut_that_loses_the_whole_cache() {
                survives::<$generation>($model, Survivors::None);
            }

            #[test]
            fn what_was_flushed_survives_a_cut_that_loses_nothing() {
                survives::<$generation>($model, Survivors::All);
            }

            #[test]
            fn what_was_flushed_survives_a_cut_that_loses_some_blocks() {
                survives::<$generation>($model, Survivors::Some);
            }

            #[test]
            fn the_sweep_finds_a_flush_that_was_left_out() {
                let (_, losses) = sweep::<$generation>($model, Survivors::None, Flushing::LeftOut);
                assert!(losses.len() > 10, "{losses:?}");
            }

            #[test]
            fn the_sweep_finds_a_disk_that_lies_about_its_flush() {
                let (_, losses) = sweep::<$generation>($model, Survivors::None, Flushing::Lied);
                assert!(losses.len() > 10, "{losses:?}");
            }
        }
    )*};
}

sweeps! {
    sas1068: Mpi1 = Chip::SAS1068;
    sas3008: Mpi2 = Chip::SAS3008;
}
