//! Instructions per I/O, counted by valgrind's callgrind and so the same on every machine.
//!
//! A benchmark program is run for a scenario with N and with 2N iterations; what the second run
//! takes more is N iterations' worth, and starting up, bringing up and tearing down cancel out.

use std::path::Path;
use std::process::Command;

use crate::run::{Runner, STEP_LIMIT, Stdout};

/// N: enough that a rare path counts in proportion, and a second or so under valgrind.
const ITERATIONS: u64 = 20_000;

/// Counts the instructions of one iteration of `scenario` of the benchmark program `executable`.
pub(crate) fn instructions_per_iteration(
    runner: &Runner,
    executable: &Path,
    scenario: &str,
) -> Result<f64, String> {
    let once = count(runner, executable, scenario, ITERATIONS)?;
    let twice = count(runner, executable, scenario, 2 * ITERATIONS)?;
    per_iteration(once, twice, ITERATIONS)
        .ok_or_else(|| format!("{scenario}: {once} instructions for N, {twice} for 2N iterations"))
}

fn count(
    runner: &Runner,
    executable: &Path,
    scenario: &str,
    iterations: u64,
) -> Result<u64, String> {
    let what = format!("callgrind {scenario} {iterations}");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(executable).args([
        "--scenario",
        scenario,
        "--iterations",
        &iterations.to_string(),
    ]);
    let done = runner.run(&what, &mut command, Stdout::Apart, STEP_LIMIT)?;
    done.expect(&what)?;
    collected(&done.log).ok_or_else(|| format!("{what} counted nothing:\n{}", done.log))
}

/// The total from the line "==1234== Collected : 4567".
fn collected(log: &str) -> Option<u64> {
    let line = log.lines().find_map(|line| line.split_once("Collected : "))?;
    line.1.trim().parse().ok()
}

/// `None` unless more iterations took more instructions.
fn per_iteration(once: u64, twice: u64, iterations: u64) -> Option<f64> {
    let more = twice.checked_sub(once).filter(|more| *more > 0)?;
    Some(more as f64 / iterations as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_and_end_cancel_out() {
        // 5000 to start, 120 for each of 1000.
        assert_eq!(per_iteration(125_000, 245_000, 1000), Some(120.0));
    }

    #[test]
    fn a_program_that_ignores_the_iterations_is_found_out() {
        assert_eq!(per_iteration(5000, 5000, 1000), None);
        assert_eq!(per_iteration(5000, 4000, 1000), None);
    }

    #[test]
    fn the_total_is_read_from_callgrinds_summary() {
        let log = "==77== Callgrind, a call-graph generating cache profiler\n\
                   ==77== Events    : Ir\n==77== Collected : 165127\n==77==\n\
                   ==77== I   refs:      165,127\n";
        assert_eq!(collected(log), Some(165_127));
        assert_eq!(collected("==77== nothing\n"), None);
    }
}
