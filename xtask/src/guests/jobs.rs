//! Groups of cases, several at once, each in a guest of its own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use crate::report::Outcome;
use crate::session::Session;

/// Guests that run at once. Each keeps a core busy, and its controller another now and then.
const JOBS: usize = 2;

/// How one case ended.
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) elapsed: Duration,
}

/// Which cases are asked for, by their full names.
pub(crate) type Wanted<'a> = &'a (dyn Fn(&str) -> bool + Sync);

/// Runs groups, [`JOBS`] at once, and records their cases as they end. `run` runs one: it reports
/// each case, and stops early when the flag is set.
pub(crate) fn run<Group: Sync>(
    session: &mut Session<'_>,
    groups: &[Group],
    run: impl Fn(&Group, Wanted<'_>, &AtomicBool, &Sender<Report>) + Sync,
) {
    let stop = AtomicBool::new(false);
    let waiting = Mutex::new(groups.iter());
    let (sender, reports) = mpsc::channel();
    let filter = session.filter().map(str::to_owned);
    let wanted = move |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter));
    std::thread::scope(|scope| {
        for _ in 0..JOBS.min(groups.len()) {
            let (sender, stop, waiting) = (sender.clone(), &stop, &waiting);
            let (wanted, run) = (&wanted, &run);
            scope.spawn(move || {
                loop {
                    let group = waiting.lock().expect("no group panics with the list").next();
                    let Some(group) = group else { return };
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    run(group, wanted, stop, &sender);
                }
            });
        }
        drop(sender);
        for report in reports {
            session.record(&report.name, report.outcome, report.elapsed);
            stop.store(session.stopped(), Ordering::Relaxed);
        }
    });
}

/// Both errors if there are two.
pub(crate) fn both(first: Result<(), String>, second: Result<(), String>) -> Result<(), String> {
    match (first, second) {
        (Err(first), Err(second)) if first != second => Err(format!("{first}\n{second}")),
        (first, second) => first.and(second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_errors_none_is_lost() {
        let error = |text: &str| Err::<(), _>(text.to_owned());
        assert_eq!(both(Ok(()), Ok(())), Ok(()));
        assert_eq!(both(error("a"), Ok(())), error("a"));
        assert_eq!(both(Ok(()), error("b")), error("b"));
        assert_eq!(both(error("a"), error("b")), error("a\nb"));
    }
}
