//! When to give up on a controller that neither answers nor is recovered. The driver ends every
//! command in time, with the controller if it must; this is for when it does not.

use std::time::Duration;

use crate::host::Host;

/// How long nothing may come, and nothing be done about it: longer than a diagnostic reset may take.
pub const LIMIT: Duration = Duration::from_secs(600);

/// How long nothing has come.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    since: Duration,
    /// What had happened by then.
    happenings: usize,
}

impl Silence {
    /// It begins.
    #[must_use]
    pub fn begin(host: &dyn Host) -> Self {
        Self { since: host.now(), happenings: host.happenings().len() }
    }

    /// Something has come.
    pub fn end(&mut self, host: &dyn Host) {
        *self = Self::begin(host);
    }

    /// Whether it has lasted too long. What recovery does ends it too: that takes its time.
    pub fn is_too_long(&mut self, host: &dyn Host) -> bool {
        if host.happenings().len() != self.happenings {
            self.end(host);
        }
        host.now().saturating_sub(self.since) > LIMIT
    }
}
