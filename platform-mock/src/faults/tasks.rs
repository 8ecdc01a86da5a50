//! Task management that does not do what it says, or says so too early.

use crate::memory::DeviceMemory;
use crate::model::tap::{Answer, Door, Request};

use super::{Decorator, Hand, Passing, Verdict};

const FUNCTION_TASK_MANAGEMENT: u8 = 0x01;
/// `MPI2_IOCSTATUS_SCSI_TASK_TERMINATED`, and MPI1's of the same value.
const TASK_TERMINATED: u16 = 0x48;

/// `task-management-refused`.
#[derive(Debug)]
pub(super) struct Refused;

impl Decorator for Refused {
    fn request(&mut self, request: &Request, door: Door, hand: &mut Hand<'_>) -> Verdict {
        if request.frame[3] != FUNCTION_TASK_MANAGEMENT || !hand.fires() {
            return Verdict::CarryOut;
        }
        hand.note(format!("task management {:#x} failed, and did nothing", request.frame[5]));
        Verdict::Answer(hand.model.refuse_task_management(request, door))
    }
}

/// `task-management-reply-early`.
#[derive(Debug)]
pub(super) struct Early {
    us: u32,
    /// Replies of commands that were ended and are kept back.
    kept: u32,
}

impl Early {
    pub(super) fn new(us: u32) -> Self {
        Self { us, kept: 0 }
    }
}

impl Decorator for Early {
    fn reply(
        &mut self,
        mut reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        if was_ended(&reply) && hand.is_armed() {
            reply.due = reply.due.max(hand.now()).saturating_add(u64::from(self.us) * 1_000);
            self.kept += 1;
        } else if reply.function() == FUNCTION_TASK_MANAGEMENT && self.kept > 0 && hand.fires() {
            let kept = std::mem::take(&mut self.kept);
            hand.note(format!("{} came before those of the {kept} it ended", reply.in_words()));
        }
        out.push(reply);
    }

    fn was_reset(&mut self, _unanswered: &[Request], _hand: &mut Hand<'_>) {
        self.kept = 0;
    }
}

/// Whether it says that task management ended its command.
fn was_ended(reply: &Passing) -> bool {
    match &reply.reply.answer {
        Answer::Frame(message) if reply.is_command() => {
            message.bytes().get(0x0e..0x10) == Some(&TASK_TERMINATED.to_le_bytes()[..])
        }
        _ => false,
    }
}
