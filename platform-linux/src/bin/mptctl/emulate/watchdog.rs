//! Ends the program when the controller does not let go of what it is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::interrupt;

use crate::output;

/// How long the controller may go on with a command after it was told to stop.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon a signal is noticed.
const TICK: Duration = Duration::from_millis(50);
/// How long the last sentence may take, as nobody may be reading.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Bounds the time from a signal, or from [`Watchdog::end`], to [`Watchdog::call_off`].
pub(super) struct Watchdog(Arc<Flags>);

#[derive(Default)]
struct Flags {
    ending: AtomicBool,
    called_off: AtomicBool,
}

impl Watchdog {
    /// `files` says what a flush would have been for.
    pub(super) fn start(json: bool, files: String) -> Result<Self, Error> {
        Self::watch(PATIENCE, move || give_up(json, &files))
    }

    fn watch(patience: Duration, give_up: impl FnOnce() + Send + 'static) -> Result<Self, Error> {
        let flags = Arc::new(Flags::default());
        let seen = Arc::clone(&flags);
        let watching = thread::Builder::new().name("watchdog".into()).spawn(move || {
            let mut since = None;
            while !seen.called_off.load(Ordering::Acquire) {
                if interrupt::asked() || seen.ending.load(Ordering::Acquire) {
                    let since = *since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= patience {
                        return give_up();
                    }
                }
                thread::sleep(TICK);
            }
        });
        watching.map_err(|error| {
            Error::failed(format!("cannot start a thread: {error}; end other programs first"))
        })?;
        Ok(Self(flags))
    }

    /// The program is about to end without a signal.
    pub(super) fn end(&self) {
        self.0.ending.store(true, Ordering::Release);
    }

    /// The controller has stopped.
    pub(super) fn call_off(&self) {
        self.0.called_off.store(true, Ordering::Release);
    }
}

fn give_up(json: bool, files: &str) {
    let error = Error::failed(format!(
        "cannot flush the disks: the emulator was told to end {} s ago and is still busy with a command, or nobody reads what it says; the files have what the guest wrote last, but it may not be on their medium: run sync for {files}",
        PATIENCE.as_secs()
    ));
    let exit_code = error.exit_code();
    // On a thread, as whoever holds standard output or error may be the one that hangs.
    let said = thread::spawn(move || output::failure(json, &error));
    let began = Instant::now();
    while !said.is_finished() && began.elapsed() < LAST_WORDS {
        thread::sleep(Duration::from_millis(10));
    }
    std::process::exit(exit_code.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_controller_that_does_not_stop_is_given_up_and_one_that_does_is_not() {
        let (tell, told) = mpsc::channel();
        let patience = Duration::from_millis(100);
        let hanging = Watchdog::watch(patience, move || tell.send(()).expect("heard"));
        let hanging = hanging.expect("a thread");
        assert!(told.recv_timeout(3 * patience).is_err(), "nobody has asked it to end");
        hanging.end();
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(()));

        let (tell, told) = mpsc::channel();
        let ending = Watchdog::watch(Duration::from_secs(10), move || {
            tell.send(()).expect("heard");
        });
        let ending = ending.expect("a thread");
        ending.end();
        ending.call_off();
        let gone = Err(mpsc::RecvTimeoutError::Disconnected);
        assert_eq!(told.recv_timeout(Duration::from_secs(5)), gone);
    }
}
