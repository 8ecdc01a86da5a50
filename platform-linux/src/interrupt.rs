//! Ctrl-C: a flag that every loop looks at, so that a command ends in order.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::error::Error;

static ASKED: AtomicU8 = AtomicU8::new(0);
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Takes over SIGINT and SIGTERM (SIGHUP too, where the platform has it). The first one asks the
/// command to stop; the third ends the program on the spot, for when the controller does not answer.
///
/// # Errors
///
/// [`Error::Failed`] when the handler cannot be installed.
pub fn install() -> Result<(), Error> {
    if INSTALLED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    ctrlc::set_handler(|| {
        if ASKED.fetch_add(1, Ordering::SeqCst) >= 2 {
            std::process::exit(130);
        }
    })
    .map_err(|error| Error::failed(format!("cannot watch for Ctrl-C: {error}; try again")))
}

/// Whether the user has asked to stop.
#[must_use]
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed) != 0
}

/// Ends a loop when the user has asked to stop.
///
/// # Errors
///
/// [`Error::Interrupted`] then.
pub fn check() -> Result<(), Error> {
    if asked() { Err(Error::Interrupted) } else { Ok(()) }
}
