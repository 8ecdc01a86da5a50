//! What a guest's kernel says, judged: a controller of ours is good only if a stock driver has
//! nothing to complain of.

/// Signs that the kernel itself is broken, on the console.
const TROUBLE: &[&str] = &[
    "Kernel panic",
    "BUG: ",
    "Oops",
    "general protection fault",
    "WARNING: CPU",
    "soft lockup",
    "hard LOCKUP",
    "detected stall",
    "self-detected stall",
    "blocked for more than",
    "no port for the agent",
];

/// What looks like such a sign and is a driver's own habit: mptsas takes disks away in a queue that
/// Linux 6.12 wants kept for the reclaim of memory, and warns, once in a boot, if the
/// disk's power management is still at work then. No answer of a controller leads there.
const HABIT: &str = "check_flush_dependency";

/// Levels of the kernel's log from which on a line is a complaint: 4 is a warning.
const WARNING: u32 = 4;

/// Complaints that drivers print at the level of news.
const COMPLAINTS: &[&str] = &[
    "abort",
    "corrupt",
    "error",
    "expander_event_id",
    "fail",
    "fault state",
    "fault_state",
    "invalid",
    "log_info(",
    "loginfo",
    "mismatch",
    "not found",
    "not responding",
    "offline",
    "reset",
    "timed out",
    "timeout",
    "unable",
    "unexpected",
    "unknown",
    "unsupported",
];

/// A complaint that is none of the controller's fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    /// A part of the line.
    pub(crate) text: &'static str,
    /// Why a real card would bring it about too, or who else does.
    #[allow(dead_code, reason = "the list is read by people, who must find a reason in it")]
    pub(crate) reason: &'static str,
}

/// What every guest may say, whatever controller it has.
pub(crate) const ALWAYS_ALLOWED: &[Allowed] = &[
    Allowed {
        text: "Power-on or device reset occurred",
        reason: "SCSI: the first command after power-on is answered so",
    },
    Allowed {
        text: "RAS: Correctable Errors collector initialized",
        reason: "news of the kernel, not of a device",
    },
    Allowed { text: "hrtimer: interrupt took", reason: "the host had something else to do" },
    Allowed { text: "loading out-of-tree module", reason: "news of the kernel, not of a device" },
];

/// Whether a line of the console says that the kernel is broken.
pub(crate) fn is_trouble(line: &str) -> bool {
    TROUBLE.iter().any(|sign| line.contains(sign)) && !line.contains(HABIT)
}

/// The complaints in a log of lines that start with their level as `<N>`, but for those that are
/// allowed.
pub(crate) fn complaints<'a>(log: &'a str, allowed: &[Allowed]) -> Vec<&'a str> {
    log.lines()
        .filter(|line| {
            let (level, text) = level(line);
            let lower = text.to_lowercase();
            let complains = level.is_some_and(|level| level <= WARNING)
                || COMPLAINTS.iter().any(|complaint| lower.contains(complaint));
            let mut all = ALWAYS_ALLOWED.iter().chain(allowed);
            complains && !all.any(|allowed| text.contains(allowed.text))
        })
        .collect()
}

/// The level of a line and the rest of it. The number holds the facility in its higher bits.
fn level(line: &str) -> (Option<u32>, &str) {
    let parsed = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    match parsed.and_then(|(number, text)| Some((number.parse::<u32>().ok()? & 7, text))) {
        Some((level, text)) => (Some(level), text),
        None => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
<6>[    2.6] mptbase: ioc0: Initiating bringup
<4>[    2.7] mpt: something is odd
<6>[    2.8] mptbase: ioc0: LogInfo(0x31120000): Originator={PL}
<5>[    2.9] scsi 0:0:0:0: Power-on or device reset occurred
<6>[    2.9] mpt3sas_cm0: CurrentHostPageSize is 0: Setting default host page size to 4k
<14>[    3.0] a program's own news
<12>[    3.1] a program's own warning
";

    #[test]
    fn warnings_and_complaints_are_found_and_news_is_not() {
        let found = complaints(LOG, &[]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("something is odd"));
        assert!(found[1].contains("LogInfo"));
        assert!(found[2].contains("own warning"));
    }

    #[test]
    fn a_complaint_can_be_allowed() {
        let allowed = [Allowed { text: "is odd", reason: "" }, Allowed { text: "own", reason: "" }];
        let found = complaints(LOG, &allowed);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_broken_kernel_is_seen_on_the_console() {
        assert!(is_trouble("[    9.1] BUG: kernel NULL pointer dereference, address: 0"));
        assert!(is_trouble("[    9.1] Kernel panic - not syncing: Attempted to kill init!"));
        assert!(!is_trouble("[    0.1] DEBUG_PAGEALLOC is off"));
        assert!(is_trouble("[   57.5] WARNING: CPU: 0 PID: 10 at fs/inode.c:1 drop_nlink+0x3/0x4"));
        assert!(!is_trouble(
            "[   57.5] WARNING: CPU: 0 PID: 10 at kernel/workqueue.c:3765 check_flush_dependency+0x1"
        ));
    }
}
