//! `cargo xtask test`: the tiers that exist, and running them.

mod guests;
mod host;
mod qtest;
mod vm;

use clap::Args;

use crate::report;
use crate::report::Outcome;
use crate::session::{Session, Wanted};
use crate::workspace::Workspace;

/// A group of cases with the same needs.
struct Tier {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Session<'_>),
}

/// Every tier there is, in the order in which they run.
const TIERS: &[Tier] = &[
    Tier {
        name: "host",
        about: "style, features, the link without an allocator, unit, property and documentation tests, a moment of fuzzing",
        run: host::run,
    },
    Tier {
        name: qtest::NAME,
        about: "the driver against QEMU's mptsas1068, without a guest",
        run: qtest::run,
    },
    Tier {
        name: vm::NAME,
        about: "our own driver in virtual machines with stock Linux kernels, beside the kernel's",
        run: vm::run,
    },
    Tier {
        name: guests::NAME,
        about: "stock Linux drivers on the controllers, in virtual machines",
        run: guests::run,
    },
];

/// Integration tests whose name starts with one of these need more than a host and belong to the
/// tier of that name.
const OTHER_TIERS_TESTS: &[&str] = &[qtest::NAME];

#[derive(Args)]
pub(crate) struct Arguments {
    /// Tiers to run [default: all]
    #[arg(value_name = "TIER")]
    tiers: Vec<String>,
    /// Run only the cases whose name contains TEXT
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Name the cases instead of running them (the tests are built for that)
    #[arg(long)]
    list: bool,
    /// Stop at the first failure instead of going on
    #[arg(long)]
    fail_fast: bool,
    /// Go on after a failure; this is the default
    #[arg(long, conflicts_with = "fail_fast")]
    keep_going: bool,
}

/// The tiers, for `--help`.
pub(crate) fn help() -> String {
    let lines: Vec<String> =
        TIERS.iter().map(|tier| format!("  {:<8}{}", tier.name, tier.about)).collect();
    format!("Tiers:\n{}", lines.join("\n"))
}

/// Runs the tiers asked for. True if nothing failed.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<bool, String> {
    let tiers = choose(&arguments.tiers)?;
    let wanted = Wanted {
        filter: arguments.filter.clone(),
        list: arguments.list,
        fail_fast: arguments.fail_fast,
        no_skips: std::env::var("CI").is_ok_and(|ci| ci == "true"),
    };
    let mut session = Session::new(workspace, wanted)?;
    for tier in tiers {
        session.tier(tier.name, tier.run);
    }
    if arguments.list {
        // Building the tests may have failed, and then the list is not whole.
        let failed = session.cases.iter().find_map(|case| match &case.outcome {
            Outcome::Failed(text) => Some(format!("{}: {text}", case.name)),
            _ => None,
        });
        return failed.map_or(Ok(true), Err);
    }
    if session.cases.is_empty() {
        let filter = arguments.filter.as_deref().unwrap_or_default();
        return Err(format!("no case has {filter:?} in its name; `--list` names them all"));
    }
    session.runner.progress.erase();
    print!("{}", report::render(&session.cases, &session.timings));
    Ok(!session.cases.iter().any(|case| matches!(case.outcome, Outcome::Failed(_))))
}

fn choose(names: &[String]) -> Result<Vec<&'static Tier>, String> {
    if let Some(unknown) = names.iter().find(|name| !TIERS.iter().any(|tier| tier.name == **name)) {
        let known: Vec<&str> = TIERS.iter().map(|tier| tier.name).collect();
        return Err(format!("there is no tier {unknown:?}; there are: {}", known.join(", ")));
    }
    let wanted = |tier: &&Tier| names.is_empty() || names.iter().any(|name| *name == tier.name);
    Ok(TIERS.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &[&str]) -> Result<Vec<&'static str>, String> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        choose(&wanted).map(|tiers| tiers.iter().map(|tier| tier.name).collect())
    }

    #[test]
    fn no_name_means_every_tier() {
        assert_eq!(names(&[]).unwrap(), ["host", "qtest", "vm", "guests"]);
    }

    #[test]
    fn a_tier_is_run_once_and_in_order() {
        assert_eq!(names(&["qtest", "host", "qtest"]).unwrap(), ["host", "qtest"]);
    }

    #[test]
    fn an_unknown_tier_is_refused_with_the_known_ones() {
        let error = names(&["host", "loopback"]).unwrap_err();
        assert_eq!(error, "there is no tier \"loopback\"; there are: host, qtest, vm, guests");
    }
}
