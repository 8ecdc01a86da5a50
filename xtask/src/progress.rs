//! What a person sees while something runs: a line per finished step, and on a terminal a line
//! that shows what runs now and for how long.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time between two redraws of the live line.
const REDRAW: Duration = Duration::from_millis(100);

/// Prints to standard output: plain lines unless that is a terminal.
pub(crate) struct Progress {
    started: Instant,
    live: bool,
    drawn: Cell<Option<Instant>>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let live = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { started: Instant::now(), live, drawn: Cell::new(None) }
    }

    fn stamp(&self) -> String {
        format!("[{:>7.1} s]", self.started.elapsed().as_secs_f64())
    }

    /// Prints one line, with the time since the start.
    pub(crate) fn line(&self, text: &str) {
        self.erase();
        println!("{} {text}", self.stamp());
    }

    /// Shows that `what` has been running for `since`; on a terminal only.
    pub(crate) fn running(&self, what: &str, since: Instant) {
        if !self.live || self.drawn.get().is_some_and(|at| at.elapsed() < REDRAW) {
            return;
        }
        self.drawn.set(Some(Instant::now()));
        let text = format!("{} {what} ... {:.0} s", self.stamp(), since.elapsed().as_secs_f64());
        let mut out = std::io::stdout().lock();
        // A terminal that is gone is no reason to fail a test run.
        let _ = write!(out, "\r\x1b[2K{text}").and_then(|()| out.flush());
    }

    /// Removes the live line, so that something else can be printed.
    pub(crate) fn erase(&self) {
        if self.drawn.take().is_some() {
            print!("\r\x1b[2K");
        }
    }
}
