//! What the core's hot path has come to cost over what it cost before there was recovery.

use std::path::Path;

use super::{PACKAGE, build};
use crate::callgrind;
use crate::debian;
use crate::figures::Figures;
use crate::run::Runner;
use crate::workspace::Workspace;

/// The program whose scenarios are counted.
const BENCH: &str = "core";
/// The scenario that does the same without the driver.
const WITHOUT: &str = "harness.qd64";

/// Scenarios, and the instructions for one I/O of the core before it had recovery: commit a29b3ed,
/// `core.mpi1.instructions_per_io` and `core.mpi2.instructions_per_io`, counted on x86-64 with
/// Rust 1.95.
const BASELINE: &[(&str, f64)] = &[("mpi1.qd64", 153.530), ("mpi2.qd64", 137.876)];

/// The figure.
const NAME: &str = "recovery.core_overhead_percent";

/// `recovery.core_overhead_percent`: the worse of the two generations; nothing on machines whose
/// instructions the baseline did not count.
pub(super) fn of_recovery(runner: &Runner, workspace: &Workspace) -> Result<Figures, String> {
    if !cfg!(target_arch = "x86_64") {
        runner.progress.line(&format!("bench recovery: {NAME} is left out, it is for x86-64"));
        return Ok(Figures::new());
    }
    let executable = build(runner, workspace, PACKAGE, BENCH)?;
    debian::provide(runner, &[debian::VALGRIND])?;
    let percent = worst(BASELINE, |scenario| count(runner, &executable, scenario))?;
    Ok(Figures::from([(NAME.to_owned(), percent)]))
}

fn count(runner: &Runner, executable: &Path, scenario: &str) -> Result<f64, String> {
    callgrind::instructions_per_iteration(runner, executable, scenario)
}

/// How many percent more than in the `baseline` is counted now, in the scenario where it is most.
fn worst(
    baseline: &[(&str, f64)],
    count: impl Fn(&str) -> Result<f64, String>,
) -> Result<f64, String> {
    let without = count(WITHOUT)?;
    let mut worst = f64::NEG_INFINITY;
    for (scenario, before) in baseline {
        let now = count(scenario)? - without;
        worst = worst.max((now - before) / before * 100.0);
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(scenario: &str) -> Result<f64, String> {
        match scenario {
            WITHOUT => Ok(20.0),
            "a" => Ok(123.0),
            "b" => Ok(218.0),
            other => Err(format!("{other} counted nothing")),
        }
    }

    #[test]
    fn the_worse_scenario_counts() {
        let worst = |baseline: &[(&str, f64)]| worst(baseline, counted).unwrap();
        assert_eq!(worst(&[("a", 100.0), ("b", 200.0)]), 3.0);
        assert_eq!(worst(&[("b", 200.0), ("a", 100.0)]), 3.0);
    }

    #[test]
    fn a_core_that_got_cheaper_costs_less_than_nothing() {
        assert_eq!(worst(&[("b", 200.0)], counted), Ok(-1.0));
    }

    #[test]
    fn a_scenario_that_cannot_be_counted_is_an_error() {
        let error = worst(&[("a", 100.0), ("c", 1.0)], counted).unwrap_err();
        assert_eq!(error, "c counted nothing");
    }
}
