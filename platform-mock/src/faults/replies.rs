//! Answers that are lost, doubled, late, out of order, torn, or come without their interrupt.

use crate::memory::DeviceMemory;
use crate::model::tap::{Answer, Door, Request};

use super::release::Tear;
use super::{Decorator, Hand, Passing, Verdict};

const FUNCTION_TASK_MANAGEMENT: u8 = 0x01;
const FUNCTION_CONFIG: u8 = 0x04;
const FUNCTION_PORT_ENABLE: u8 = 0x06;

/// How long a group of replies that are to change places waits to be complete.
const REORDER_NS: u64 = 1_000_000;

/// `drop-reply`.
#[derive(Debug)]
pub(super) struct Drop;

impl Decorator for Drop {
    fn reply(
        &mut self,
        reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        if hand.fires() {
            hand.note(format!("{} was lost", reply.in_words()));
        } else {
            out.push(reply);
        }
    }
}

/// The replies of one function are lost: `config-reply-lost`, `port-enable-reply-lost`,
/// `task-management-reply-lost`.
#[derive(Debug)]
pub(super) struct DropFunction {
    function: u8,
}

impl DropFunction {
    pub(super) fn config() -> Self {
        Self { function: FUNCTION_CONFIG }
    }

    pub(super) fn port_enable() -> Self {
        Self { function: FUNCTION_PORT_ENABLE }
    }

    pub(super) fn task_management() -> Self {
        Self { function: FUNCTION_TASK_MANAGEMENT }
    }
}

impl Decorator for DropFunction {
    fn request(&mut self, request: &Request, door: Door, hand: &mut Hand<'_>) -> Verdict {
        // Its answer comes through the doorbell too, past everything here.
        let unseen = door == Door::Doorbell && request.frame[3] != FUNCTION_TASK_MANAGEMENT;
        if unseen && request.frame[3] == self.function && hand.fires() {
            hand.note("the handshake never goes on after the request");
            return Verdict::Lose;
        }
        Verdict::CarryOut
    }

    fn reply(
        &mut self,
        reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        if reply.function() == self.function && hand.fires() {
            hand.note(format!("{} was lost", reply.in_words()));
        } else {
            out.push(reply);
        }
    }
}

/// `duplicate-reply`.
#[derive(Debug)]
pub(super) struct Duplicate;

impl Decorator for Duplicate {
    fn reply(
        &mut self,
        mut reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        if !hand.fires() {
            out.push(reply);
            return;
        }
        // A frame can come twice, or one frame be told of twice.
        let same_word = hand.random.coin() || !matches!(reply.reply.answer, Answer::Frame(_));
        let how = if same_word { "as the same word" } else { "in two frames" };
        hand.note(format!("{} came twice, {how}", reply.in_words()));
        if same_word {
            reply.again = true;
        } else {
            out.push(reply.clone());
        }
        out.push(reply);
    }
}

/// `delay-reply`.
#[derive(Debug)]
pub(super) struct Delay {
    pub(super) ms: u32,
}

impl Decorator for Delay {
    fn reply(
        &mut self,
        mut reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        if hand.fires() {
            hand.note(format!("{} was kept back for {} ms", reply.in_words(), self.ms));
            reply.due = reply.due.max(hand.now()).saturating_add(u64::from(self.ms) * 1_000_000);
        }
        out.push(reply);
    }
}

/// `reorder-replies`.
#[derive(Debug)]
pub(super) struct Reorder {
    window: usize,
    group: Vec<Passing>,
    /// When the group is let go, complete or not.
    until: u64,
}

impl Reorder {
    pub(super) fn new(window: u8) -> Self {
        Self { window: usize::from(window.max(2)), group: Vec::new(), until: 0 }
    }
}

impl Decorator for Reorder {
    fn reply(
        &mut self,
        reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        if self.group.is_empty() {
            if !hand.fires() {
                out.push(reply);
                return;
            }
            self.until = hand.now().saturating_add(REORDER_NS);
        }
        self.group.push(reply);
        if self.group.len() == self.window {
            hand.note(format!("{} replies changed places", self.window));
            out.extend(self.group.drain(..).rev());
        }
    }

    fn was_reset(&mut self, _unanswered: &[Request], _hand: &mut Hand<'_>) {
        self.group.clear();
    }

    fn stepped(&mut self, _worked: bool, hand: &mut Hand<'_>) {
        if self.group.is_empty() || hand.now() < self.until {
            return;
        }
        hand.note(format!("{} replies changed places", self.group.len()));
        for mut reply in self.group.drain(..).rev() {
            reply.due = reply.due.max(self.until);
            hand.late.push(reply);
        }
    }

    fn deadline(&self) -> Option<u64> {
        (!self.group.is_empty()).then_some(self.until)
    }
}

/// `torn-descriptor`, `torn-forever`.
#[derive(Debug)]
pub(super) struct Torn {
    /// Microseconds until the other half.
    pub(super) us: Option<u32>,
}

impl Decorator for Torn {
    fn reply(
        &mut self,
        mut reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        let framed = framed(&reply, hand);
        if framed.is_some() && hand.fires() {
            let upper_first = hand.random.coin();
            let first = if upper_first { "upper" } else { "lower" };
            let rest = match self.us {
                Some(us) => format!("the other {us} us later"),
                None => "the other never".into(),
            };
            hand.note(format!("the {first} half of {} was written, {rest}", reply.in_words()));
            reply = framed.unwrap_or(reply);
            let rest_at = |us: u32| hand.now().saturating_add(u64::from(us) * 1_000);
            reply.tear = Some(Tear { upper_first, rest_at: self.us.map(rest_at) });
        }
        out.push(reply);
    }
}

/// The reply in a form that can be torn: MPI1 needs a frame for it. `None` if it has no such form.
fn framed(reply: &Passing, hand: &Hand<'_>) -> Option<Passing> {
    if !hand.model.chip().is_mpi1() {
        return Some(reply.clone());
    }
    with_frame(reply, hand)
}

/// The reply with a frame, which plain success does without. `None` where nothing is known of the
/// request.
pub(super) fn with_frame(reply: &Passing, hand: &Hand<'_>) -> Option<Passing> {
    match (&reply.reply.answer, &reply.request) {
        (Answer::Frame(_), _) => Some(reply.clone()),
        (Answer::Success { .. }, Some(request)) => {
            Some(Passing { reply: hand.model.success_frame(request), ..reply.clone() })
        }
        _ => None,
    }
}

/// `reply-frames-exhausted`.
#[derive(Debug)]
pub(super) struct Exhausted {
    ms: u32,
    /// Nothing goes out before.
    until: u64,
}

impl Exhausted {
    pub(super) fn new(ms: u32) -> Self {
        Self { ms, until: 0 }
    }
}

impl Decorator for Exhausted {
    fn reply(
        &mut self,
        mut reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        if hand.now() >= self.until && hand.fires() {
            self.until = hand.now().saturating_add(u64::from(self.ms) * 1_000_000);
            hand.note(format!("no reply goes out for {} ms", self.ms));
        }
        reply.due = reply.due.max(self.until);
        out.push(reply);
    }

    fn was_reset(&mut self, _unanswered: &[Request], _hand: &mut Hand<'_>) {
        self.until = 0;
    }
}

/// `lost-interrupt`.
#[derive(Debug, Default)]
pub(super) struct LostInterrupt {
    hidden: bool,
}

impl Decorator for LostInterrupt {
    fn reply(
        &mut self,
        reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        self.hidden = hand.fires();
        if self.hidden {
            hand.note(format!("{} came without an interrupt", reply.in_words()));
        }
        out.push(reply);
    }

    fn was_reset(&mut self, _unanswered: &[Request], _hand: &mut Hand<'_>) {
        self.hidden = false;
    }

    fn hides_interrupt(&self) -> bool {
        self.hidden
    }
}
