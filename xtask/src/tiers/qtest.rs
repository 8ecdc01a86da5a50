//! The tier `qtest`: integration tests named `qtest*`, which start QEMU themselves.

use std::time::Duration;

use crate::cargo_test;
use crate::debian;
use crate::report::Outcome;
use crate::session::Session;

/// The tier's name, and what the names of its integration tests start with.
pub(super) const NAME: &str = "qtest";

pub(super) fn run(session: &mut Session<'_>) {
    if !session.lists()
        && let Err(reason) = debian::provide(&session.runner, &[debian::QEMU])
    {
        session.record("QEMU can be run", Outcome::Skipped(reason), Duration::ZERO);
        return;
    }
    cargo_test::integration_tests(session, NAME);
}
