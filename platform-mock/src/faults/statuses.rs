//! Disks that have no room for a command at present.

use crate::model::tap::{Door, Request};
use crate::target::status;

use super::{Decorator, Hand, Verdict};

/// `task-set-full`, `busy-status`.
#[derive(Debug)]
pub(super) struct Status {
    status: u8,
    name: &'static str,
}

impl Status {
    pub(super) fn task_set_full() -> Self {
        Self { status: status::TASK_SET_FULL, name: "TASK SET FULL" }
    }

    pub(super) fn busy() -> Self {
        Self { status: status::BUSY, name: "BUSY" }
    }
}

impl Decorator for Status {
    fn request(&mut self, request: &Request, door: Door, hand: &mut Hand<'_>) -> Verdict {
        let is_command = request.frame[3] == 0x00 && door == Door::Queue;
        if !is_command || !hand.fires() {
            return Verdict::CarryOut;
        }
        hand.note(format!("command {:#x} ended with {}", request.key, self.name));
        Verdict::Answer(hand.model.status_reply(request, self.status))
    }
}
