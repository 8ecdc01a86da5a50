//! Books on every command: accepted, completed, once; and when.

use std::collections::BTreeMap;
use std::time::Duration;

use fusion_mpt_linux::ended::Ended;
use serde::Serialize;

/// What became of every command of a run.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Commands that the driver has taken, each time anew.
    accepted: u64,
    /// Those that came back.
    completed: u64,
    /// Completions of commands that were not out: of one that had completed, or of none at all.
    uncalled_for: u64,
    /// How they came back, with their numbers.
    outcomes: BTreeMap<String, u64>,
    /// Commands that are out: by number, what each is for.
    out: BTreeMap<u64, usize>,
    /// When each job was first given to the driver, and when it was done.
    spans: Vec<(Duration, Duration)>,
}

/// The sums, for a program to add up.
#[derive(Debug, Serialize)]
pub(crate) struct Sums {
    pub(crate) accepted: u64,
    pub(crate) completed: u64,
    /// Accepted and never completed.
    pub(crate) missing: u64,
    pub(crate) uncalled_for: u64,
    /// Completions by how they ended.
    pub(crate) outcomes: BTreeMap<String, u64>,
}

impl Books {
    /// The number of the next command: no two have the same.
    pub(crate) const fn next(&self) -> u64 {
        self.accepted
    }

    /// The driver has taken that command, for this job.
    pub(crate) fn accept(&mut self, job: usize) {
        self.out.insert(self.accepted, job);
        self.accepted += 1;
    }

    /// The command with this number has come back: its job, if it was out.
    pub(crate) fn complete(&mut self, number: u64, ended: &Ended) -> Option<usize> {
        let job = self.out.remove(&number);
        if job.is_none() {
            self.uncalled_for += 1;
            return None;
        }
        self.completed += 1;
        *self.outcomes.entry(ended.describe()).or_default() += 1;
        job
    }

    /// A job that was first given to the driver at `first` is done.
    pub(crate) fn done(&mut self, first: Duration, done: Duration) {
        self.spans.push((first, done));
    }

    /// How long after `at` every job that was under way then was done.
    pub(crate) fn recovered_after(&self, at: Duration) -> Duration {
        let under_way = self.spans.iter().filter(|(first, done)| *first <= at && *done > at);
        under_way.map(|(_, done)| *done - at).max().unwrap_or_default()
    }

    /// Commands that are out.
    pub(crate) fn outstanding(&self) -> usize {
        self.out.len()
    }

    /// Whether every command that was accepted has completed once, and no other.
    pub(crate) fn balance(&self) -> bool {
        self.out.is_empty() && self.uncalled_for == 0 && self.accepted == self.completed
    }

    pub(crate) fn sums(&self) -> Sums {
        Sums {
            accepted: self.accepted,
            completed: self.completed,
            missing: self.out.len() as u64,
            uncalled_for: self.uncalled_for,
            outcomes: self.outcomes.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fusion_mpt::outcome::{Failure, Outcome};

    fn ended(outcome: Outcome) -> Ended {
        Ended { outcome, sense: Vec::new() }
    }

    #[test]
    fn a_completion_that_comes_twice_or_never_unbalances_the_books() {
        let mut books = Books::default();
        let good = ended(Outcome::success(512));
        assert!(books.balance());
        let first = books.next();
        books.accept(7);
        assert!(!books.balance());
        assert_eq!(books.complete(first, &good), Some(7));
        assert!(books.balance());
        assert_eq!(books.complete(first, &good), None);
        assert!(!books.balance());
        assert_eq!((books.sums().completed, books.sums().uncalled_for), (1, 1));
    }

    #[test]
    fn recovery_is_over_when_all_that_was_under_way_is_done() {
        let mut books = Books::default();
        let at = Duration::from_millis;
        books.done(at(1), at(5));
        books.done(at(9), at(40));
        books.done(at(11), at(90));
        assert_eq!(books.recovered_after(at(10)), at(30));
        assert_eq!(books.recovered_after(at(7)), at(0));
    }

    #[test]
    fn outcomes_add_up_to_what_completed() {
        let mut books = Books::default();
        for failure in [Failure::HandedBack, Failure::HandedBack, Failure::TimedOut] {
            let number = books.next();
            books.accept(0);
            books.complete(number, &ended(Outcome::Failed(failure)));
        }
        let sums = books.sums();
        assert_eq!(sums.outcomes.values().sum::<u64>(), sums.completed);
        assert_eq!(sums.outcomes.len(), 2);
    }
}
