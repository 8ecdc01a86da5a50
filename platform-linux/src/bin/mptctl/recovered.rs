//! What a command survived on the way, for its summary and its document.

use fusion_mpt_linux::host::Host;
use serde::Serialize;

/// What was done about a controller or disk in trouble; all zeros when there was none.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Recovered {
    /// Commands that recovery ended, and that were sent again.
    pub(crate) sent_again: u64,
    pub(crate) late: u64,
    pub(crate) aborts: u64,
    pub(crate) unit_resets: u64,
    pub(crate) target_resets: u64,
    pub(crate) controller_resets: u64,
    pub(crate) failed_resets: u64,
}

impl Recovered {
    /// So far.
    pub(crate) fn of(host: &dyn Host) -> Self {
        let counters = host.recovery();
        Self {
            sent_again: host.sent_again(),
            late: counters.late,
            aborts: counters.aborts,
            unit_resets: counters.unit_resets,
            target_resets: counters.target_resets,
            controller_resets: counters.resets,
            failed_resets: counters.failed_resets,
        }
    }

    /// A line for people: nothing when nothing happened.
    pub(crate) fn text(&self) -> String {
        let parts = [
            (self.late, "late command", "late commands"),
            (self.aborts, "ABORT TASK", "ABORT TASKs"),
            (self.unit_resets, "logical unit reset", "logical unit resets"),
            (self.target_resets, "target reset", "target resets"),
            (self.controller_resets, "controller reset", "controller resets"),
            (self.failed_resets, "reset that failed", "resets that failed"),
            (self.sent_again, "command sent again", "commands sent again"),
        ];
        let some: Vec<String> = parts
            .iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, more)| format!("{count} {}", if *count == 1 { one } else { more }))
            .collect();
        if some.is_empty() { String::new() } else { format!("survived: {}\n", some.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_is_told() {
        assert_eq!(Recovered::default().text(), "");
        let recovered = Recovered { sent_again: 12, controller_resets: 1, ..Recovered::default() };
        assert_eq!(recovered.text(), "survived: 1 controller reset, 12 commands sent again\n");
    }
}
