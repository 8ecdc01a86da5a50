//! Running another program: its output in a log file, its time bounded, its end put in words.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::progress::Progress;

/// Long enough for any one step on two slow cores; a step that takes longer hangs.
pub(crate) const STEP_LIMIT: Duration = Duration::from_secs(20 * 60);

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Runs programs for one invocation of xtask.
pub(crate) struct Runner {
    logs: PathBuf,
    next: Cell<u32>,
    pub(crate) progress: Progress,
}

/// A program that has ended, or was ended.
pub(crate) struct Finished {
    status: Option<ExitStatus>,
    /// Standard output alone.
    pub(crate) stdout: String,
    /// Standard error alone, or both in order, as asked for.
    pub(crate) log: String,
    pub(crate) elapsed: Duration,
}

/// Where standard output goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// Into the log, in order with standard error.
    Logged,
    /// Into [`Finished::stdout`].
    Apart,
}

impl Runner {
    /// Logs go to `logs`, which is emptied first.
    pub(crate) fn new(logs: PathBuf) -> Result<Self, String> {
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs).map_err(|error| format!("making {}: {error}", logs.display()))?;
        Ok(Self { logs, next: Cell::new(1), progress: Progress::new() })
    }

    /// Runs `command` to its end, or ends it after `limit`. An error means that it did not start.
    pub(crate) fn run(
        &self,
        what: &str,
        command: &mut Command,
        stdout: Stdout,
        limit: Duration,
    ) -> Result<Finished, String> {
        let path = self.log_path(what);
        let log = create(&path)?;
        let apart = path.with_extension("out");
        command.stdin(Stdio::null()).stderr(clone(&log, &path)?);
        match stdout {
            Stdout::Logged => command.stdout(log),
            Stdout::Apart => command.stdout(create(&apart)?),
        };
        let started = Instant::now();
        let mut child = command.spawn().map_err(|error| {
            format!("starting {}: {error}", command.get_program().to_string_lossy())
        })?;
        let status = self.wait(what, &mut child, started, limit)?;
        Ok(Finished {
            status,
            stdout: if stdout == Stdout::Apart { read(&apart) } else { String::new() },
            log: read(&path),
            elapsed: started.elapsed(),
        })
    }

    /// As [`Runner::run`], with all output in the log and the usual limit.
    pub(crate) fn logged(&self, what: &str, command: &mut Command) -> Result<Finished, String> {
        self.run(what, command, Stdout::Logged, STEP_LIMIT)
    }

    fn wait(
        &self,
        what: &str,
        child: &mut Child,
        started: Instant,
        limit: Duration,
    ) -> Result<Option<ExitStatus>, String> {
        let failed = |error| format!("waiting for {what}: {error}");
        loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                return Ok(Some(status));
            }
            if started.elapsed() > limit {
                // It may end by itself between the look and the kill.
                let _ = child.kill();
                child.wait().map_err(failed)?;
                return Ok(None);
            }
            self.progress.running(what, started);
            std::thread::sleep(POLL);
        }
    }

    /// A folder for logs that something keeps by itself; whoever writes there makes it.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.logs.join(name)
    }

    fn log_path(&self, what: &str) -> PathBuf {
        let number = self.next.replace(self.next.get() + 1);
        let name: String =
            what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        self.logs.join(format!("{number:03}-{name}.log"))
    }
}

impl Finished {
    pub(crate) fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// How it ended, as the end of a sentence: "ended with exit status: 1".
    pub(crate) fn ending(&self) -> String {
        match self.status {
            Some(status) => format!("ended with {status}"),
            None => format!("was stopped after {:.0} s without an end", self.elapsed.as_secs_f64()),
        }
    }

    /// Standard output, or why there is none to rely on.
    pub(crate) fn expect(&self, what: &str) -> Result<(), String> {
        if self.success() {
            return Ok(());
        }
        Err(format!("{what} {}\n{}", self.ending(), self.log.trim_end()))
    }
}

fn create(path: &Path) -> Result<File, String> {
    File::create(path).map_err(|error| format!("creating {}: {error}", path.display()))
}

fn clone(file: &File, path: &Path) -> Result<File, String> {
    file.try_clone().map_err(|error| format!("opening {} twice: {error}", path.display()))
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(name: &str) -> Runner {
        let logs = std::env::temp_dir().join(format!("xtask-run-{}-{name}", std::process::id()));
        Runner::new(logs).expect("a log folder")
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_are_logged_in_order() {
        let runner = runner("order");
        let done =
            runner.logged("order", &mut shell("echo one; echo two >&2; echo three")).unwrap();
        assert!(done.success());
        assert_eq!(done.log, "one\ntwo\nthree\n");
        let _ = fs::remove_dir_all(&runner.logs);
    }

    #[test]
    fn standard_output_can_be_kept_apart() {
        let runner = runner("apart");
        let mut command = shell("echo one; echo two >&2; exit 3");
        let done = runner.run("apart", &mut command, Stdout::Apart, STEP_LIMIT).unwrap();
        assert_eq!((done.stdout.as_str(), done.log.as_str()), ("one\n", "two\n"));
        assert_eq!(done.ending(), "ended with exit status: 3");
        assert!(done.expect("the script").unwrap_err().contains("two"));
        let _ = fs::remove_dir_all(&runner.logs);
    }

    #[test]
    fn a_program_that_hangs_is_stopped() {
        let runner = runner("hang");
        let mut command = Command::new("sleep");
        let limit = Duration::from_millis(50);
        let done = runner.run("hang", command.arg("60"), Stdout::Logged, limit).unwrap();
        assert!(!done.success());
        assert!(done.elapsed < Duration::from_secs(30));
        assert!(done.ending().starts_with("was stopped"));
        let _ = fs::remove_dir_all(&runner.logs);
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error_in_words() {
        let runner = runner("missing");
        let error = runner.logged("missing", &mut Command::new("/no/such/program")).err().unwrap();
        assert!(error.starts_with("starting /no/such/program: "), "{error}");
        let _ = fs::remove_dir_all(&runner.logs);
    }
}
