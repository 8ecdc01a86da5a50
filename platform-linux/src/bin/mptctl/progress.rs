//! Progress of long work: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a plain line is written.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// Progress of one piece of work, on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    what: String,
    total: u64,
    unit: &'static str,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Nothing,
    Bar(ProgressBar),
    Lines { last: Instant, written: bool },
}

impl Progress {
    /// Progress of `what`, which takes `total` of `unit`.
    pub(crate) fn new(show: bool, what: &str, total: u64, unit: &'static str) -> Self {
        let way = if !show {
            Way::Nothing
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(total);
            if let Ok(style) =
                ProgressStyle::with_template("{prefix:24} [{bar:30}] {percent:>3} % {msg}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(what.to_owned());
            Way::Bar(bar)
        } else {
            Way::Lines { last: Instant::now(), written: false }
        };
        Self { what: what.to_owned(), total, unit, way }
    }

    /// So much is done; `note` says more, and is only made when it is shown.
    pub(crate) fn at(&mut self, done: u64, note: impl FnOnce() -> String) {
        match &mut self.way {
            Way::Nothing => {}
            Way::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(note());
            }
            Way::Lines { last, written } => {
                if last.elapsed() >= LINE_INTERVAL {
                    *last = Instant::now();
                    *written = true;
                    let note = note();
                    let between = if note.is_empty() { "" } else { ", " };
                    eprintln!(
                        "{}: {done} of {} {}{between}{note}",
                        self.what, self.total, self.unit
                    );
                }
            }
        }
    }

    /// It is over.
    pub(crate) fn end(&mut self) {
        match &self.way {
            Way::Bar(bar) => bar.finish_and_clear(),
            Way::Lines { written: true, .. } => eprintln!("{}: done", self.what),
            _ => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Way::Bar(bar) = &self.way {
            bar.finish_and_clear();
        }
    }
}
