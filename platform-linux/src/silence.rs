//! When to give up on a controller that neither answers nor is recovered. The driver ends every
//! command in time, with the controller if it must; this is for when it does not.

use std::time::Duration;

use crate::host::CommandQueue;

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
    pub fn begin(queue: &dyn CommandQueue) -> Self {
        Self { since: queue.now(), happenings: queue.happened() }
    }

    /// Something has come.
    pub fn end(&mut self, queue: &dyn CommandQueue) {
        *self = Self::begin(queue);
    }

    /// Whether it has lasted too long. What recovery does ends it too: that takes its time.
    pub fn is_too_long(&mut self, queue: &dyn CommandQueue) -> bool {
        if queue.happened() != self.happenings {
            self.end(queue);
        }
        queue.now().saturating_sub(self.since) > LIMIT
    }
}
