//! Resets that do not end, end badly, bring back what is past, or that nobody here asked for.

use crate::memory::DeviceMemory;
use crate::model::State;
use crate::model::tap::{Answer, Reply, Request, ResetPhase};

use super::{Decorator, Hand, Passing};

/// A reset stands still: `reset-never-ends` while its bit is set, `never-ready` before READY.
#[derive(Debug)]
pub(super) struct Unending {
    phase: ResetPhase,
    /// This reset has been looked at, and whether it stands still.
    stands: Option<bool>,
    /// The host has set the reset bit again: another reset.
    again: bool,
}

impl Unending {
    pub(super) fn adapter() -> Self {
        Self { phase: ResetPhase::Adapter, stands: None, again: false }
    }

    pub(super) fn boot() -> Self {
        Self { phase: ResetPhase::Booting, stands: None, again: false }
    }
}

impl Decorator for Unending {
    fn write(&mut self, offset: u32, value: u64, _hand: &mut Hand<'_>) -> bool {
        self.again |= offset == 0x08 && value & 1 << 2 != 0;
        true
    }

    fn stops(&mut self, hand: &mut Hand<'_>) -> bool {
        if hand.model.reset_phase() != self.phase || std::mem::take(&mut self.again) {
            self.stands = None;
        }
        if hand.model.reset_phase() != self.phase {
            return false;
        }
        if let Some(stands) = self.stands {
            return stands;
        }
        let stands = hand.fires();
        self.stands = Some(stands);
        if stands {
            hand.note(match self.phase {
                ResetPhase::Adapter => "a diagnostic reset has begun and does not end",
                _ => "the IOC is in RESET and does not become READY",
            });
        }
        stands
    }
}

/// `reset-fails`.
#[derive(Debug)]
pub(super) struct Fails {
    code: u16,
    /// The firmware boots.
    booting: bool,
}

impl Fails {
    pub(super) fn new(code: u16) -> Self {
        Self { code, booting: false }
    }
}

impl Decorator for Fails {
    fn stepped(&mut self, _worked: bool, hand: &mut Hand<'_>) {
        let was_booting =
            std::mem::replace(&mut self.booting, hand.model.reset_phase() == ResetPhase::Booting);
        if was_booting && hand.model.state() == State::Ready && hand.fires() {
            hand.model.fault(self.code);
            hand.note(format!("a reset ended in FAULT {:#06x}", self.code));
        }
    }
}

/// `stale-reply-after-reset`.
#[derive(Debug, Default)]
pub(super) struct Stale {
    /// The last command that was answered.
    answered: Option<Reply>,
    /// What is to be answered once the IOC takes requests again.
    stale: Option<Reply>,
}

impl Decorator for Stale {
    fn reply(
        &mut self,
        reply: Passing,
        _memory: &dyn DeviceMemory,
        hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        if reply.is_command() && reply.request.is_some() {
            self.answered = Some(success(reply.reply.key, reply.reply.queue));
        }
        out.push(reply);
        if let Some(stale) = self.stale.take() {
            hand.note(format!("the success of command {:#x} of before the reset came", stale.key));
            out.push(Passing::new(stale, None));
        }
    }

    fn was_reset(&mut self, unanswered: &[Request], hand: &mut Hand<'_>) {
        let commands: Vec<&Request> = unanswered.iter().filter(|request| is_io(request)).collect();
        let chosen = hand.random.pick(&commands).map(|request| success(request.key, request.queue));
        if let Some(stale) = chosen.or(self.answered.take())
            && self.stale.is_none()
            && hand.fires()
        {
            self.stale = Some(stale);
        }
    }
}

fn is_io(request: &Request) -> bool {
    request.frame[3] == 0x00
}

fn success(key: u32, queue: u8) -> Reply {
    Reply { key, queue, answer: Answer::Success { fast_path: false } }
}

/// `silent-bus-reset`.
#[derive(Debug)]
pub(super) struct Silent;

impl Decorator for Silent {
    fn moment(&mut self, hand: &mut Hand<'_>) {
        // Nobody could tell of a reset among others, or before there was anything to forget.
        if hand.model.is_up() && hand.fires() {
            hand.model.bus_reset();
            hand.note("somebody reset the IOC, which is in READY and knows of nothing");
        }
    }
}
