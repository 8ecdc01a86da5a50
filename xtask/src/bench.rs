//! `cargo xtask bench`: runs the benchmarks that exist and shows their figures.
//!
//! A benchmark is a program `core/benches/NAME.rs` (`harness = false`) with this contract:
//!
//! - without arguments it measures and prints a line `figure NAME VALUE` for each figure; other
//!   lines are progress for people;
//! - with `--scenario NAME --iterations N` it only runs N iterations of that scenario, so that
//!   its instructions can be counted from outside;
//! - it ignores `--bench`, which `cargo bench` passes to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::callgrind;
use crate::debian;
use crate::figures::{self, Figures};
use crate::guests::speed;
use crate::guests::workshop::{self, Workshop};
use crate::link_check;
use crate::run::{Runner, STEP_LIMIT, Stdout};
use crate::rust_src;
use crate::workspace::{Workspace, cargo};

mod overhead;
mod peer;

/// The package whose benchmarks these are.
const PACKAGE: &str = "fusion-mpt";
/// The package whose programs measure on QEMU's controller, and what they start.
const MOCK: &str = "fusion-mpt-mock";
const QEMU: &str = "qemu-system-x86_64";

/// A measurement by xtask itself.
type Measure = fn(&Runner, &Workspace) -> Result<Figures, String>;

struct Bench {
    name: &'static str,
    about: &'static str,
    /// Scenarios whose instructions are counted: the scenario, one that does the same without the
    /// driver, and the figure that the difference gives.
    counted: &'static [(&'static str, &'static str, &'static str)],
    /// Measures what no program under `core/benches` can.
    outside: Option<Measure>,
}

/// Every benchmark, in the order in which they run.
const BENCHES: &[Bench] = &[
    Bench {
        name: "core",
        about: "submit and complete: instructions, time, ratio to the bare floor",
        counted: &[
            ("floor.qd1", "harness.qd1", "core.floor.instructions_per_io.qd1"),
            ("floor.qd64", "harness.qd64", "core.floor.instructions_per_io"),
            ("mpi1.qd1", "harness.qd1", "core.mpi1.instructions_per_io.qd1"),
            ("mpi1.qd64", "harness.qd64", "core.mpi1.instructions_per_io"),
            ("mpi2.qd1", "harness.qd1", "core.mpi2.instructions_per_io.qd1"),
            ("mpi2.qd64", "harness.qd64", "core.mpi2.instructions_per_io"),
        ],
        outside: None,
    },
    Bench {
        name: "recovery",
        about: "what recovery costs while nothing is wrong, and how fast a removal is over",
        counted: &[],
        outside: Some(overhead::of_recovery),
    },
    Bench {
        name: "slots",
        about: "taking and releasing slots, against a shared queue",
        counted: &[],
        outside: None,
    },
    Bench {
        name: "mmio",
        about: "register accesses per I/O, of MPI2 on a null device, of MPI1 on QEMU's SAS1068",
        counted: &[],
        outside: Some(accesses_on_qemu),
    },
    Bench {
        name: "size",
        about: "bytes of text per target, of DMA memory and of state per slot",
        counted: &[],
        outside: Some(text_sizes),
    },
    Bench {
        name: "model",
        about: "4 KiB reads a second that each software controller answers, on one core and on two",
        counted: &[],
        outside: Some(reads_of_models),
    },
    Bench {
        name: "guests",
        about: "reads a second that a stock driver gets from our sas3008 and from QEMU's sas1068",
        counted: &[],
        outside: Some(speeds_in_guests),
    },
    Bench {
        name: "peer",
        about: "our driver beside the kernel's own on one controller in one guest, raw and as a block device",
        counted: &[],
        outside: Some(peer::measure),
    },
];

impl Bench {
    fn has_program(&self, workspace: &Workspace) -> bool {
        let mut packages = workspace.packages.iter().filter(|package| package.name == PACKAGE);
        packages.any(|package| package.benches.iter().any(|bench| bench == self.name))
    }

    fn exists(&self, workspace: &Workspace) -> bool {
        self.outside.is_some() || self.has_program(workspace)
    }

    fn run(&self, runner: &Runner, workspace: &Workspace) -> Result<Figures, String> {
        let mut figures = Figures::new();
        if let Some(outside) = self.outside {
            figures.append(&mut outside(runner, workspace)?);
        }
        if !self.has_program(workspace) {
            return Ok(figures);
        }
        let executable = build(runner, workspace, PACKAGE, self.name)?;
        let what = format!("bench {}", self.name);
        let done = runner.run(&what, &mut Command::new(&executable), Stdout::Apart, STEP_LIMIT)?;
        done.expect(&what)?;
        figures.append(&mut figures::parse(&done.stdout)?);
        if !self.counted.is_empty() {
            debian::provide(runner, &[debian::VALGRIND])?;
        }
        for (scenario, without, figure) in self.counted {
            let count =
                |scenario| callgrind::instructions_per_iteration(runner, &executable, scenario);
            figures.insert((*figure).to_owned(), count(scenario)? - count(without)?);
        }
        Ok(figures)
    }
}

/// The benchmarks that exist, for `--help`.
pub(crate) fn help() -> String {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/benches");
    let exists = |bench: &&Bench| {
        bench.outside.is_some() || programs.join(format!("{}.rs", bench.name)).exists()
    };
    let lines: Vec<String> = BENCHES
        .iter()
        .filter(exists)
        .map(|bench| format!("  {:<8}{}", bench.name, bench.about))
        .collect();
    format!("Benchmarks:\n{}", lines.join("\n"))
}

/// Runs the benchmarks asked for. False if `check` is set and a bound was missed.
pub(crate) fn run(
    workspace: &Workspace,
    names: &[String],
    json: Option<&Path>,
    check: bool,
) -> Result<bool, String> {
    let benches = choose(workspace, names)?;
    let runner = Runner::new(workspace.scratch().join("logs"))?;
    let mut figures = Figures::new();
    for bench in benches {
        let started = std::time::Instant::now();
        let mut found = bench
            .run(&runner, workspace)
            .map_err(|error| format!("bench {}: {error}", bench.name))?;
        let (count, seconds) = (found.len(), started.elapsed().as_secs_f64());
        runner.progress.line(&format!("bench {}: {count} figures ({seconds:.1} s)", bench.name));
        if found.is_empty() {
            return Err(format!("bench {}: the program printed no figure", bench.name));
        }
        figures.append(&mut found);
    }
    runner.progress.erase();
    print!("\n{}", figures::table(&figures));
    if let Some(path) = json {
        std::fs::write(path, figures::json(&figures))
            .map_err(|error| format!("writing {}: {error}", path.display()))?;
    }
    let missed = figures::missed(&figures);
    if !missed.is_empty() {
        println!("\nmissed: {}", missed.join(", "));
    }
    Ok(missed.is_empty() || !check)
}

fn choose(workspace: &Workspace, names: &[String]) -> Result<Vec<&'static Bench>, String> {
    let existing: Vec<&Bench> = BENCHES.iter().filter(|bench| bench.exists(workspace)).collect();
    for name in names {
        if existing.iter().any(|bench| bench.name == name) {
            continue;
        }
        let known: Vec<&str> = existing.iter().map(|bench| bench.name).collect();
        return Err(format!("there is no benchmark {name:?}; there are: {}", known.join(", ")));
    }
    let wanted = |bench: &&Bench| names.is_empty() || names.iter().any(|name| *name == bench.name);
    Ok(existing.into_iter().filter(wanted).collect())
}

/// Builds a benchmark program and says where it is.
fn build(
    runner: &Runner,
    workspace: &Workspace,
    package: &str,
    name: &str,
) -> Result<PathBuf, String> {
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["bench", "--package", package, "--bench", name, "--no-run"])
        .args(["--message-format", "json-render-diagnostics"]);
    let what = format!("build of bench {name}");
    let done = runner.run(&what, &mut command, Stdout::Apart, STEP_LIMIT)?;
    done.expect(&what)?;
    executable(&done.stdout, name).ok_or_else(|| format!("{what} made no program"))
}

fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().find_map(|message| {
        let message: Value = serde_json::from_str(message).ok()?;
        let wanted = message["target"]["kind"][0] == "bench" && message["target"]["name"] == name;
        message["executable"].as_str().filter(|_| wanted).map(PathBuf::from)
    })
}

/// `mmio.mpi1.*`, by the program of the same name in `platform-mock`; nothing without QEMU.
fn accesses_on_qemu(runner: &Runner, workspace: &Workspace) -> Result<Figures, String> {
    if Command::new(QEMU).arg("--version").output().is_err() {
        runner.progress.line(&format!("bench mmio: MPI1 is left out, there is no {QEMU}"));
        return Ok(Figures::new());
    }
    program_of_mock(runner, workspace, "mmio")
}

/// `model.<chip>.*`, by the program of the same name in `platform-mock`.
fn reads_of_models(runner: &Runner, workspace: &Workspace) -> Result<Figures, String> {
    program_of_mock(runner, workspace, "model")
}

/// `guests.*`: what fio counts in guests with stock drivers.
fn speeds_in_guests(runner: &Runner, workspace: &Workspace) -> Result<Figures, String> {
    let mptctl = workshop::mptctl(runner, workspace)?;
    let workshop = Workshop::provide(runner, workspace, mptctl)?;
    let speeds = speed::measure(&workshop);
    workshop.remove_disks();
    let speeds = speeds?;
    Ok(Figures::from([
        ("guests.sas3008.reads_per_second".to_owned(), speeds.ours),
        ("guests.qemu_sas1068.reads_per_second".to_owned(), speeds.peer),
        ("guests.sas3008.reads_ratio".to_owned(), speeds.ratio()),
    ]))
}

/// The figures of a program in `platform-mock`.
fn program_of_mock(runner: &Runner, workspace: &Workspace, name: &str) -> Result<Figures, String> {
    let executable = build(runner, workspace, MOCK, name)?;
    let what = format!("bench {name} of {MOCK}");
    let done = runner.run(&what, &mut Command::new(&executable), Stdout::Apart, STEP_LIMIT)?;
    done.expect(&what)?;
    figures::parse(&done.stdout)
}

/// `size.text_bytes.<target>.<generation>`: executable and read-only sections of link-check.
fn text_sizes(runner: &Runner, workspace: &Workspace) -> Result<Figures, String> {
    let mut figures = Figures::new();
    for target in link_check::TARGETS {
        let std = rust_src::provide(runner, workspace, target)?;
        for generation in ["mpi1", "mpi2"] {
            let image = link_check::build(runner, workspace, &std, target, generation)?;
            let name = format!("size.text_bytes.{target}.{generation}");
            figures.insert(name, image.text_bytes as f64);
        }
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Package;

    fn workspace(benches: &[&str]) -> Workspace {
        let package = Package {
            name: PACKAGE.to_owned(),
            directory: "/w/core".into(),
            has_doctests: true,
            tests: Vec::new(),
            benches: benches.iter().map(|bench| (*bench).to_owned()).collect(),
            dependencies: Vec::new(),
        };
        Workspace { root: "/w".into(), target: "/t".into(), packages: vec![package] }
    }

    #[test]
    fn only_benchmarks_that_exist_are_run() {
        let names = |benches: &[&str]| {
            let chosen = choose(&workspace(benches), &[]).unwrap();
            chosen.iter().map(|bench| bench.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["recovery", "mmio", "size", "model", "guests", "peer"]);
        let all = ["recovery", "slots", "mmio", "size", "model", "guests", "peer"];
        assert_eq!(names(&["slots"]), all);
    }

    #[test]
    fn one_that_does_not_exist_is_refused_with_those_that_do() {
        let error = choose(&workspace(&["mmio"]), &["core".to_owned()]).err().unwrap();
        assert_eq!(
            error,
            "there is no benchmark \"core\"; there are: recovery, mmio, size, model, guests, peer"
        );
    }

    #[test]
    fn the_built_program_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"target":{"kind":["lib"],"name":"fusion_mpt"},"executable":null}"#,
            "\n",
            r#"{"target":{"kind":["bench"],"name":"slots"},"executable":"/t/slots-1"}"#,
            "\n",
        );
        assert_eq!(executable(messages, "slots"), Some("/t/slots-1".into()));
        assert_eq!(executable(messages, "core"), None);
    }
}
