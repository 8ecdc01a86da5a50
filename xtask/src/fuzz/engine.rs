//! One target's program, which is libFuzzer, and what it says.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::progress::Progress;
use crate::run::{Runner, Stdout};
use crate::sanitizer;
use crate::workspace::Workspace;

/// The longest input, in bytes: that of the longest seed, and as much again.
const LONGEST: u32 = 8192;
/// An input that takes longer hangs, whatever else the machine does.
const INPUT_LIMIT: Duration = Duration::from_secs(20);
/// How often a line tells how far a long run is.
const INTERVAL: Duration = Duration::from_secs(30);
/// Lines before the engine's last words that are worth showing.
const SHOWN: usize = 60;

/// One target.
pub(super) struct Engine<'w> {
    workspace: &'w Workspace,
    program: PathBuf,
    name: &'static str,
    /// Inputs that are kept with the sources.
    corpus: PathBuf,
    /// Those that were a bug once.
    regressions: PathBuf,
    /// Inputs that reached something new.
    found: PathBuf,
    /// Inputs that ended badly.
    crashes: PathBuf,
}

/// How a run ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    sound: bool,
    executions: u64,
    new_inputs: u64,
    /// Branches reached.
    coverage: u64,
    /// The input that ended badly.
    crash: Option<PathBuf>,
    /// What was said last.
    last: Vec<String>,
}

impl End {
    /// Takes a line of the engine's into account.
    fn note(&mut self, line: &str) {
        let number = |prefix: &str| line.strip_prefix(prefix).and_then(|n| n.trim().parse().ok());
        if let Some(executions) = number("stat::number_of_executed_units:") {
            self.executions = executions;
        } else if let Some(inputs) = number("stat::new_units_added:") {
            self.new_inputs = inputs;
        } else if let Some(progress) = parse_progress(line) {
            (self.executions, self.coverage) = progress;
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.crash = Some(path.trim().into());
        }
        if !line.starts_with('#') {
            self.last.push(line.to_owned());
        }
    }

    /// How it went.
    pub(super) fn sentence(&self) -> String {
        let Self { executions, new_inputs, coverage, .. } = self;
        let end = if self.sound { "nothing wrong" } else { "an input that ended badly" };
        format!("{executions} inputs run, {coverage} branches reached, {new_inputs} new, {end}")
    }
}

/// Inputs run and branches reached, of a line such as `#20321 NEW cov: 77 ft: 90 corp: 3/5b`.
fn parse_progress(line: &str) -> Option<(u64, u64)> {
    let mut words = line.strip_prefix('#')?.split_whitespace();
    let executions = words.next()?.parse().ok()?;
    words.find(|word| *word == "cov:")?;
    Some((executions, words.next()?.parse().ok()?))
}

impl<'w> Engine<'w> {
    pub(super) fn new(
        workspace: &'w Workspace,
        package: PathBuf,
        program: PathBuf,
        name: &'static str,
    ) -> Self {
        let scratch = workspace.scratch().join("fuzz");
        Self {
            workspace,
            program,
            name,
            corpus: package.join("corpus").join(name),
            regressions: package.join("regressions").join(name),
            found: scratch.join("found").join(name),
            crashes: scratch.join("crashes").join(name),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.workspace.root)
            .stdin(Stdio::null())
            .env("RUST_BACKTRACE", "1")
            .envs(sanitizer::ENVIRONMENT.iter().copied());
        command
    }

    /// Runs what is known, and then looks for more until the time is over or an input ends badly.
    pub(super) fn fuzz(&self, progress: &Progress, limit: Duration) -> Result<End, String> {
        for folder in [&self.corpus, &self.regressions, &self.found, &self.crashes] {
            fs::create_dir_all(folder)
                .map_err(|error| format!("making {}: {error}", folder.display()))?;
        }
        let mut command = self.command();
        command
            .arg(format!("-max_total_time={}", limit.as_secs()))
            .arg(format!("-max_len={LONGEST}"))
            .arg(format!("-timeout={}", INPUT_LIMIT.as_secs()))
            // Short inputs first, but not for long: what happens late in a run needs long ones.
            .arg("-len_control=20")
            .arg("-print_final_stats=1")
            // With its slash: it is a prefix, not a folder.
            .arg(format!("-artifact_prefix={}/", self.crashes.display()))
            .args([&self.found, &self.corpus, &self.regressions])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command
            .spawn()
            .map_err(|error| format!("starting {}: {error}", self.program.display()))?;
        let (lines, said) = mpsc::channel();
        let stderr = child.stderr.take();
        let reader = std::thread::spawn(move || {
            for line in stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines()) {
                // Whoever listens goes only after the last line.
                let (Ok(line), lines) = (line, &lines) else { return };
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let mut end = End::default();
        let what = format!("fuzz {}", self.name);
        let mut told = Instant::now();
        loop {
            match said.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => end.note(&line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if told.elapsed() >= INTERVAL {
                told = Instant::now();
                let (executions, coverage) = (end.executions, end.coverage);
                progress
                    .line(&format!("{what}: {executions} inputs run, {coverage} branches reached"));
            }
            progress.running(&what, started);
        }
        // It has said its last word.
        let _ = reader.join();
        let status = child.wait().map_err(|error| format!("waiting for {what}: {error}"))?;
        end.sound = status.success();
        Ok(end)
    }

    /// What there is to say about an input that ended badly, and the command that runs it again.
    pub(super) fn crash(&self, end: &End) -> Option<String> {
        if end.sound {
            return None;
        }
        // A panic's own words come first and the engine's stack after them.
        let last = end.last.len().saturating_sub(SHOWN);
        let from = end.last.iter().position(|line| line.contains("panicked at")).unwrap_or(last);
        let shown: Vec<&str> = end.last.iter().skip(from).take(SHOWN).map(String::as_str).collect();
        let replay = match &end.crash {
            Some(input) => format!(
                "run it again: cargo xtask fuzz {} --replay {}\nonce it is fixed, keep it: copy it to {}",
                self.name,
                self.relative(input).display(),
                self.relative(&self.regressions).display()
            ),
            None => "no input is to blame; the engine itself failed".to_owned(),
        };
        Some(format!("{}: an input ended badly\n{}\n{replay}", self.name, shown.join("\n")))
    }

    fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.workspace.root).unwrap_or(path)
    }

    /// Runs one input, with everything it says. True if it ended well.
    pub(super) fn replay(&self, file: &Path) -> Result<bool, String> {
        if !file.is_file() {
            return Err(format!("there is no file {} to run", file.display()));
        }
        let file = fs::canonicalize(file)
            .map_err(|error| format!("looking for {}: {error}", file.display()))?;
        let status = self
            .command()
            .arg(format!("-timeout={}", INPUT_LIMIT.as_secs()))
            .arg(file)
            .status()
            .map_err(|error| format!("starting {}: {error}", self.program.display()))?;
        println!(
            "{}: the input ended {}",
            self.name,
            if status.success() { "well" } else { "badly" }
        );
        Ok(status.success())
    }

    /// Makes the committed corpus the smallest that reaches what it, what was found and the seeds
    /// reach. A sentence on what became of it.
    pub(super) fn minimise(&self, runner: &Runner, seeds: &Path) -> Result<String, String> {
        let smaller = self.found.with_extension("smaller");
        let _ = fs::remove_dir_all(&smaller);
        for folder in [&self.corpus, &self.found, &smaller] {
            fs::create_dir_all(folder)
                .map_err(|error| format!("making {}: {error}", folder.display()))?;
        }
        let mut command = self.command();
        command
            // By branches alone: how often each was taken would keep ten times as many.
            .args(["-merge=1", "-set_cover_merge=1", "-use_counters=0"])
            .arg(format!("-max_len={LONGEST}"))
            .arg(format!("-timeout={}", INPUT_LIMIT.as_secs()))
            .args([&smaller, &self.corpus, &self.found])
            .arg(seeds);
        let what = format!("minimise {}", self.name);
        let limit = Duration::from_secs(30 * 60);
        runner.run(&what, &mut command, Stdout::Logged, limit)?.expect(&what)?;
        let failed = |error| format!("replacing {}: {error}", self.corpus.display());
        fs::remove_dir_all(&self.corpus).map_err(failed)?;
        fs::create_dir_all(&self.corpus).map_err(failed)?;
        let (mut count, mut bytes) = (0, 0);
        for entry in fs::read_dir(&smaller).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            bytes += fs::copy(entry.path(), self.corpus.join(entry.file_name())).map_err(failed)?;
            count += 1;
        }
        Ok(format!("the corpus has {count} inputs of {bytes} bytes together"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_says_is_understood() {
        let mut end = End::default();
        let said = [
            "#2\tINITED cov: 3 ft: 4 corp: 1/1b exec/s: 0 rss: 42Mb",
            "#20321\tNEW    cov: 776 ft: 900 corp: 3/5b lim: 277 exec/s: 10 rss: 42Mb L: 4/8",
            "thread '<unnamed>' panicked at src/lib.rs:1:2:",
            "artifact_prefix='/t/'; Test unit written to /t/crash-1",
            "stat::number_of_executed_units: 20400",
            "stat::new_units_added:          5",
        ];
        said.iter().for_each(|line| end.note(line));
        assert_eq!((end.executions, end.coverage, end.new_inputs), (20400, 776, 5));
        assert_eq!(end.crash.as_deref(), Some(Path::new("/t/crash-1")));
        assert!(end.last.iter().any(|line| line.contains("panicked")));
        assert!(end.sentence().contains("20400 inputs run, 776 branches reached, 5 new"));
    }

    #[test]
    fn a_crash_is_told_with_the_command_that_runs_it_again() {
        let workspace =
            Workspace { root: "/w".into(), target: "/w/target".into(), packages: Vec::new() };
        let engine = Engine::new(&workspace, "/w/fuzz".into(), "/t/p".into(), "target");
        let mut end = End::default();
        for number in 0..200 {
            end.note(&format!("line {number}"));
        }
        end.note("Test unit written to /w/target/xtask/fuzz/crashes/target/crash-1");
        let report = engine.crash(&end).expect("a crash");
        let replay = "cargo xtask fuzz target --replay target/xtask/fuzz/crashes/target/crash-1";
        assert!(report.contains(replay), "{report}");
        assert!(report.lines().count() < SHOWN + 10);
        assert_eq!(engine.crash(&End { sound: true, ..End::default() }), None);
    }
}
