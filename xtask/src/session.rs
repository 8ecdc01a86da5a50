//! One test run: which cases are wanted, what has been run so far, and how it ended.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::report::{Case, Count, Outcome, Timing};
use crate::run::Runner;
use crate::workspace::Workspace;

/// What the person asked for.
pub(crate) struct Wanted {
    /// Only cases whose name contains this.
    pub(crate) filter: Option<String>,
    /// Name the cases instead of running them.
    pub(crate) list: bool,
    /// Start nothing more after the first failure.
    pub(crate) fail_fast: bool,
    /// A skip is a failure, as in CI.
    pub(crate) no_skips: bool,
}

/// The state of a test run.
pub(crate) struct Session<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) runner: Runner,
    wanted: Wanted,
    tier: &'static str,
    pub(crate) cases: Vec<Case>,
    pub(crate) timings: Vec<Timing>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(workspace: &'a Workspace, wanted: Wanted) -> Result<Self, String> {
        let runner = Runner::new(workspace.scratch().join("logs"))?;
        Ok(Self { workspace, runner, wanted, tier: "", cases: Vec::new(), timings: Vec::new() })
    }

    /// Runs one tier's cases and accounts for it. A tier in which nothing ran has failed, since
    /// nobody would notice otherwise, unless a filter explains it.
    pub(crate) fn tier(&mut self, name: &'static str, cases: impl FnOnce(&mut Self)) {
        if self.stopped() {
            return;
        }
        self.tier = name;
        let started = Instant::now();
        let before = self.cases.len();
        cases(self);
        if self.cases.len() == before && !self.wanted.list && self.wanted.filter.is_none() {
            let text =
                format!("the tier {name} has no test; a tier that tests nothing must not pass");
            self.record("at least one case", Outcome::Failed(text), Duration::ZERO);
        }
        if !self.wanted.list {
            self.timings.push((name, started.elapsed()));
        }
    }

    /// Whether `name` passes the filter.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wanted.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()))
    }

    /// What names of cases have to contain, if there is a choice.
    pub(crate) fn filter(&self) -> Option<&str> {
        self.wanted.filter.as_deref()
    }

    /// Whether cases are only to be named.
    pub(crate) const fn lists(&self) -> bool {
        self.wanted.list
    }

    /// Whether a failure has ended the run early.
    pub(crate) fn stopped(&self) -> bool {
        let failed = |case: &Case| matches!(case.outcome, Outcome::Failed(_));
        self.wanted.fail_fast && self.cases.iter().any(failed)
    }

    /// Names a case, when cases are only to be named.
    pub(crate) fn list(&self, name: &str) {
        if self.wants(name) {
            println!("{}: {name}", self.tier);
        }
    }

    /// Runs a case that is a function, if it is wanted.
    pub(crate) fn case(&mut self, name: &str, body: impl FnOnce(&Self) -> Outcome) {
        if self.wanted.list {
            self.list(name);
        } else if self.wants(name) && !self.stopped() {
            let started = Instant::now();
            let outcome = body(self);
            self.record(name, outcome, started.elapsed());
        }
    }

    /// Runs a case that is a command: it passes if the command succeeds.
    pub(crate) fn command(&mut self, name: &str, command: &mut Command) {
        self.case(name, |session| {
            let what = session.label(name);
            match session.runner.logged(&what, command).and_then(|done| done.expect(name)) {
                Ok(()) => Outcome::Passed,
                Err(text) => Outcome::Failed(text),
            }
        });
    }

    /// Takes a single case into the account and says how it ended.
    pub(crate) fn record(&mut self, name: &str, outcome: Outcome, elapsed: Duration) {
        let outcome = self.judge(outcome);
        let word = match &outcome {
            Outcome::Passed => "ok",
            Outcome::Failed(_) => "FAILED",
            Outcome::Skipped(_) => "skipped",
        };
        let seconds = elapsed.as_secs_f64();
        self.runner.progress.line(&format!("{}: {word} ({seconds:.1} s)", self.label(name)));
        self.cases.push(Case { tier: self.tier, name: name.to_owned(), outcome });
    }

    /// Takes many cases of one program into the account, with one line for all of them and one
    /// for each failure.
    pub(crate) fn record_all(
        &mut self,
        program: &str,
        outcomes: Vec<(String, Outcome)>,
        elapsed: Duration,
    ) {
        let outcomes: Vec<_> =
            outcomes.into_iter().map(|(name, outcome)| (name, self.judge(outcome))).collect();
        let count = Count::of(outcomes.iter().map(|(_, outcome)| outcome));
        let mut line = format!("{}: {} passed", self.label(program), count.passed);
        for (number, word) in [(count.failed, "FAILED"), (count.skipped, "skipped")] {
            if number > 0 {
                line.push_str(&format!(", {number} {word}"));
            }
        }
        self.runner.progress.line(&format!("{line} ({:.1} s)", elapsed.as_secs_f64()));
        for (name, outcome) in outcomes {
            if matches!(outcome, Outcome::Failed(_)) {
                self.runner.progress.line(&format!("    FAILED {name}"));
            }
            let name = format!("{program}: {name}");
            self.cases.push(Case { tier: self.tier, name, outcome });
        }
    }

    /// How a case or program is called while it runs.
    pub(crate) fn label(&self, name: &str) -> String {
        format!("{} · {name}", self.tier)
    }

    fn judge(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Skipped(reason) if self.wanted.no_skips => {
                Outcome::Failed(format!("skipped, which CI=true makes a failure: {reason}"))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(name: &str) -> Workspace {
        let target = std::env::temp_dir().join(format!("xtask-{}-{name}", std::process::id()));
        Workspace { root: target.clone(), target, packages: Vec::new() }
    }

    fn session<'a>(workspace: &'a Workspace, filter: Option<&str>, no_skips: bool) -> Session<'a> {
        let filter = filter.map(str::to_owned);
        let wanted = Wanted { filter, list: false, fail_fast: true, no_skips };
        Session::new(workspace, wanted).expect("a log folder")
    }

    #[test]
    fn a_tier_without_a_case_fails() {
        let workspace = workspace("empty");
        let mut session = session(&workspace, None, false);
        session.tier("qtest", |_| {});
        assert!(matches!(session.cases[0].outcome, Outcome::Failed(_)));
        let _ = std::fs::remove_dir_all(&workspace.target);
    }

    #[test]
    fn in_ci_a_skip_is_a_failure() {
        let workspace = workspace("skip");
        let skip = |_: &Session<'_>| Outcome::Skipped("no QEMU".to_owned());
        let mut lenient = session(&workspace, None, false);
        lenient.tier("host", |session| session.case("a", skip));
        assert_eq!(lenient.cases[0].outcome, Outcome::Skipped("no QEMU".to_owned()));
        let mut strict = session(&workspace, None, true);
        strict.tier("host", |session| session.case("a", skip));
        assert!(
            matches!(&strict.cases[0].outcome, Outcome::Failed(text) if text.contains("no QEMU"))
        );
        let _ = std::fs::remove_dir_all(&workspace.target);
    }

    #[test]
    fn nothing_starts_after_a_failure_when_failing_fast() {
        let workspace = workspace("fast");
        let mut session = session(&workspace, None, false);
        session.tier("host", |session| {
            session.case("a", |_| Outcome::Failed(String::new()));
            session.case("b", |_| unreachable!("the run has stopped"));
        });
        session.tier("qtest", |_| unreachable!("the run has stopped"));
        assert_eq!(session.cases.len(), 1);
        let _ = std::fs::remove_dir_all(&workspace.target);
    }

    #[test]
    fn the_filter_chooses_by_part_of_the_name() {
        let workspace = workspace("filter");
        let mut session = session(&workspace, Some("mpi2"), false);
        session.tier("host", |session| {
            session.case("features mpi1", |_| unreachable!("not wanted"));
            session.case("features mpi2", |_| Outcome::Passed);
        });
        assert_eq!(session.cases.len(), 1);
        let _ = std::fs::remove_dir_all(&workspace.target);
    }
}
