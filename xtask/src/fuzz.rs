//! `cargo xtask fuzz`: the fuzz targets of `platform-mock/fuzz`, under AddressSanitizer.
//!
//! The engine is libFuzzer, of the crate `libfuzzer-sys`; what cargo-fuzz would do is done here, so
//! that nobody has to install it and a stable toolchain serves.

mod engine;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::debian::{self, Tool};
use crate::report::Outcome;
use crate::run::{Runner, Stdout};
use crate::sanitizer;
use crate::session::Session;
use crate::workspace::{Workspace, cargo};
use engine::Engine;

/// A fuzz target.
struct Target {
    name: &'static str,
    about: &'static str,
}

/// Every fuzz target there is.
const TARGETS: &[Target] = &[
    Target {
        name: "hostile_controller",
        about: "the whole driver against a controller that lies in registers, rings, frames and pages",
    },
    Target {
        name: "arbitrary_driver",
        about: "the software controllers against a driver that does anything",
    },
    Target { name: "targets_scsi", about: "the SCSI disk against any command with any data" },
    Target { name: "vfio_user_messages", about: "the vfio-user server against any client" },
];

/// The program of the package that writes inputs to begin with.
const SEEDS: &str = "seeds";

/// What the engine wants to know of every branch and comparison.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// The engine is C++.
const COMPILER: Tool = Tool { program: "c++", package: "g++" };

/// How long the host tier fuzzes each target.
const SHORT: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Targets to fuzz, one after the other [default: all]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// For how long, each
    #[arg(long, value_name = "N", default_value_t = 600)]
    seconds: u64,
    /// Name the targets
    #[arg(long)]
    list: bool,
    /// Run the one input in FILE and say what happens, with a backtrace
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    replay: Option<PathBuf>,
    /// Fold what was found so far, and the seeds, into the committed corpus, and keep of it what
    /// reaches code that nothing else reaches
    #[arg(long, conflicts_with_all = ["list", "replay"])]
    minimise: bool,
}

/// The targets, for `--help`.
pub(crate) fn help() -> String {
    let lines: Vec<String> =
        TARGETS.iter().map(|target| format!("  {:<20}{}", target.name, target.about)).collect();
    format!("Targets:\n{}", lines.join("\n"))
}

/// The folder of the package.
pub(crate) fn directory(workspace: &Workspace) -> PathBuf {
    workspace.root.join("platform-mock/fuzz")
}

/// Fuzzes. True if nothing was found to be wrong.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<bool, String> {
    let targets = choose(&arguments.targets)?;
    if arguments.list {
        println!("{}", help());
        return Ok(true);
    }
    let runner = Runner::new(workspace.scratch().join("logs"))?;
    sanitizer::available(workspace)?;
    let folder = build(&runner, workspace)?;
    if let Some(file) = &arguments.replay {
        let [target] = targets[..] else {
            return Err("one input is of one target: name it, as in `cargo xtask fuzz \
                        hostile_controller --replay FILE`"
                .to_owned());
        };
        return engine(workspace, &folder, target).replay(file);
    }
    let mut sound = true;
    for target in targets {
        let engine = engine(workspace, &folder, target);
        if arguments.minimise {
            let seeds = seeds(&runner, workspace, &folder)?.join(target.name);
            let line = engine.minimise(&runner, &seeds)?;
            runner.progress.line(&format!("{}: {line}", target.name));
            continue;
        }
        let limit = Duration::from_secs(arguments.seconds);
        let end = engine.fuzz(&runner.progress, limit)?;
        runner.progress.line(&format!("{}: {}", target.name, end.sentence()));
        if let Some(report) = engine.crash(&end) {
            println!("{report}");
            sound = false;
        }
    }
    Ok(sound)
}

/// The host tier's cases: each target runs every input of its corpus and every one that once was a
/// bug, and then looks for more for a moment.
pub(crate) fn cases(session: &mut Session<'_>) {
    let mut built: Option<Result<PathBuf, Outcome>> = None;
    for target in TARGETS {
        session.case(&format!("fuzz {}", target.name), |session| {
            let folder = built.get_or_insert_with(|| {
                sanitizer::available(session.workspace).map_err(Outcome::Skipped)?;
                debian::provide(&session.runner, &[COMPILER]).map_err(Outcome::Skipped)?;
                build(&session.runner, session.workspace).map_err(Outcome::Failed)
            });
            let folder = match folder {
                Ok(folder) => folder,
                Err(outcome) => return outcome.clone(),
            };
            let engine = engine(session.workspace, folder, target);
            let end = match engine.fuzz(&session.runner.progress, SHORT) {
                Ok(end) => end,
                Err(text) => return Outcome::Failed(text),
            };
            match engine.crash(&end) {
                Some(report) => Outcome::Failed(report),
                None => Outcome::Passed,
            }
        });
    }
}

fn choose(names: &[String]) -> Result<Vec<&'static Target>, String> {
    if let Some(unknown) = names.iter().find(|name| TARGETS.iter().all(|t| t.name != **name)) {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        return Err(format!(
            "there is no fuzz target {unknown:?}; there are: {}",
            known.join(", ")
        ));
    }
    let wanted = |target: &&Target| names.is_empty() || names.iter().any(|n| *n == target.name);
    Ok(TARGETS.iter().filter(wanted).collect())
}

fn engine<'w>(workspace: &'w Workspace, folder: &Path, target: &'static Target) -> Engine<'w> {
    Engine::new(workspace, directory(workspace), folder.join(target.name), target.name)
}

/// Builds every target; the folder of the programs.
fn build(runner: &Runner, workspace: &Workspace) -> Result<PathBuf, String> {
    debian::provide(runner, &[COMPILER])?;
    let built = workspace.scratch().join("fuzz/target");
    let mut command = sanitizer::sanitizing_cargo("build", COVERAGE);
    command
        .current_dir(directory(workspace))
        .args(["--release", "--bins", "--target-dir"])
        .arg(&built);
    runner.logged("the fuzz targets build", &mut command)?.expect("building the fuzz targets")?;
    Ok(built.join(sanitizer::TARGET).join("release"))
}

/// Writes the inputs to begin with; a folder with one for each target.
fn seeds(runner: &Runner, workspace: &Workspace, programs: &Path) -> Result<PathBuf, String> {
    let folder = workspace.scratch().join("fuzz/seeds");
    let _ = fs::remove_dir_all(&folder);
    let mut command = Command::new(programs.join(SEEDS));
    command.arg(&folder).envs(sanitizer::ENVIRONMENT.iter().copied());
    let done = runner.run("seeds", &mut command, Stdout::Logged, Duration::from_secs(120))?;
    done.expect("writing the seeds")?;
    Ok(folder)
}

/// Checks of the package's style, as for the workspace.
pub(crate) fn style_cases(session: &mut Session<'_>) {
    let root = directory(session.workspace);
    session.command(
        "format of the fuzz targets",
        cargo().current_dir(&root).args(["fmt", "--check", "--", "--color=never"]),
    );
    if let Err(reason) = debian::provide(&session.runner, &[COMPILER]) {
        return session.case("clippy of the fuzz targets", |_| Outcome::Skipped(reason));
    }
    session.command(
        "clippy of the fuzz targets",
        cargo()
            .current_dir(&root)
            .args(["clippy", "--release", "--all-targets", "--target-dir"])
            .arg(session.workspace.scratch().join("fuzz/target"))
            .args(["--", "-D", "warnings"]),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_of_the_package_is_known_here() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../platform-mock/fuzz/targets");
        let mut programs: Vec<String> = fs::read_dir(folder)
            .expect("the folder of the targets")
            .map(|entry| entry.expect("an entry").path())
            .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
            .filter(|name| name != SEEDS)
            .collect();
        programs.sort();
        let mut known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        known.sort_unstable();
        assert_eq!(programs, known);
    }

    #[test]
    fn an_unknown_target_is_refused_with_the_known_ones() {
        let error = choose(&["nonsense".to_owned()]).err().expect("refused");
        assert!(error.contains("hostile_controller"), "{error}");
        assert_eq!(choose(&[]).expect("all").len(), TARGETS.len());
    }
}
