//! Whether a queue takes commands: devices held or throttled, the controller reset, offline or gone.

use super::{Completion, Queue};
use crate::error::SubmitError;
use crate::generation::{Device, Generation};
use crate::log_info::LogInfo;
use crate::outcome::{Failure, Outcome};
use crate::platform::{DmaRegion, Registers};
use crate::standing::{Stand, Standing};

/// How a queue that was handed out stands to its controller (`standing.rs`). It leaves when it is
/// dropped, so that a controller does not wait for a thread that has ended.
#[derive(Debug)]
pub(super) struct Presence<'a> {
    pub(super) standing: &'a Standing,
    /// The standing that the queue has acted upon.
    pub(super) seen: u32,
    pub(super) inside: bool,
}

impl<'a> Presence<'a> {
    /// Outside.
    pub(super) fn new(standing: &'a Standing) -> Self {
        Self { standing, seen: standing.raw(), inside: false }
    }

    fn leave(&mut self) {
        if core::mem::take(&mut self.inside) {
            self.standing.leave();
        }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<G: Generation, R: Registers, D: DmaRegion> Queue<'_, G, R, D> {
    /// Begins to count time. A command that names no timeout of its own has `limit_ms`
    /// milliseconds.
    pub(crate) fn start_clock(&mut self, now_ms: u64, limit_ms: u32) {
        self.now_ms = now_ms;
        self.slots.start_clock(now_ms, limit_ms);
    }

    /// Sets what a command has that names no timeout of its own, in milliseconds.
    pub(crate) fn set_limit(&mut self, limit_ms: u32) {
        self.slots.set_limit(limit_ms, self.now_ms);
    }

    /// Lets a queue that is to be handed out in.
    pub(crate) fn enter(&mut self) {
        let standing = self.presence.standing;
        self.presence.seen = standing.raw();
        self.presence.inside = match Stand::of(self.presence.seen) {
            Stand::Works { epoch } => standing.enter(epoch),
            Stand::Halting | Stand::Lost(_) => false,
        };
        if !self.presence.inside {
            self.close(Failure::ControllerReset);
        }
    }

    /// Does what the controller's standing asks of a queue that was handed out.
    #[cold]
    pub(super) fn follow(&mut self, complete: &mut dyn FnMut(Completion<'_>)) {
        let standing = self.presence.standing;
        // Seen and acted upon is one reading: what comes after it is seen at the next poll.
        self.presence.seen = standing.raw();
        match Stand::of(self.presence.seen) {
            Stand::Halting => {
                self.close(Failure::ControllerReset);
                self.presence.leave();
            }
            Stand::Works { epoch } => {
                // Whatever the queue still holds was ended by a reset, seen or not.
                self.presence.leave();
                self.end_all(standing.ended_as(), complete);
                self.renew(epoch);
                self.presence.inside = standing.enter(epoch);
                if self.presence.inside {
                    self.open();
                }
            }
            Stand::Lost(reason) => {
                self.presence.leave();
                self.halt_to(reason, complete);
            }
        }
    }

    /// Whether a command may be given to this device, on a queue that somebody looks at.
    #[cold]
    #[inline(never)]
    pub(super) fn admit(&mut self, device: Device) -> Result<(), SubmitError> {
        if self.bus.is_gone() {
            return Err(SubmitError::Gone);
        }
        match self.halted {
            Some(Failure::ControllerGone) => return Err(SubmitError::Gone),
            Some(Failure::ControllerReset) => return Err(SubmitError::Held),
            Some(Failure::ControllerOffline) => return Err(SubmitError::Offline),
            Some(_) => return Err(SubmitError::NotOperational),
            None => {}
        }
        if self.held == Some(device.address) {
            return Err(SubmitError::Held);
        }
        if !self.throttles.has_room(device.address) {
            return Err(SubmitError::Throttled);
        }
        Ok(())
    }

    /// Decides whether submissions and completions must be looked at.
    pub(super) fn pay_attention(&self) {
        let needed = self.halted.is_some()
            || self.trace.is_some()
            || self.held.is_some()
            || self.watched != 0
            || !self.throttles.is_empty();
        self.bus.attend(needed);
    }

    /// Gives this device nothing while something is done about its command `smid`; `None` lets go.
    pub(crate) fn hold(&mut self, device: Option<Device>, smid: u16) {
        self.held = device.map(|device| device.address);
        self.watched = smid;
        self.pay_attention();
    }

    /// A command has ended, on a queue that somebody looks at.
    #[cold]
    #[inline(never)]
    pub(super) fn note_end(&mut self, smid: u16, device: u16) {
        self.throttles.ended(device);
        if smid == self.watched {
            // Task management may be on its way that names this SMID: the next to have it would be
            // the one to suffer.
            self.slots.demote(smid);
            if self.presence.inside {
                self.watched = 0;
                self.presence.standing.ended(smid, device);
                self.pay_attention();
            }
        }
    }

    /// Accepts nothing any more and completes everything outstanding with `reason`.
    ///
    /// A queue that is polled needs no such call: it learns from its controller when that is
    /// reset, offline or gone.
    pub fn halt(&mut self, reason: Failure, mut complete: impl FnMut(Completion<'_>)) {
        self.halt_to(reason, &mut complete);
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn halt_to(&mut self, reason: Failure, complete: &mut dyn FnMut(Completion<'_>)) {
        self.close(reason);
        self.end_all(reason, complete);
    }

    /// Accepts nothing any more; what is outstanding stays so.
    #[cold]
    #[inline(never)]
    pub(crate) fn close(&mut self, reason: Failure) {
        self.note_peak();
        self.halted = Some(reason);
        self.live = false;
        if reason == Failure::ControllerGone {
            self.bus.close();
        }
        self.pay_attention();
    }

    /// Accepts commands again.
    pub(crate) fn open(&mut self) {
        self.halted = None;
        self.pay_attention();
    }

    /// Completes everything outstanding with `reason`: the device cannot answer it any more.
    #[cold]
    #[inline(never)]
    pub(crate) fn end_all(&mut self, reason: Failure, complete: &mut dyn FnMut(Completion<'_>)) {
        let mut from = 0;
        while let Some(finished) = self.slots.finish_any(&mut from) {
            self.counters.completed += 1;
            complete(Completion {
                cookie: finished.cookie,
                outcome: Outcome::Failed(reason),
                sense: &[],
                log_info: LogInfo(0),
            });
        }
        self.slots.order_free();
    }

    /// Makes the queue as it was at the start, after the reset that begins `epoch`. Commands that
    /// it still has are kept, out of the device's reach, until [`Queue::end_all`].
    pub(crate) fn renew(&mut self, epoch: u32) {
        self.own_outstanding = 0;
        self.slots.keep_all();
        self.throttles.clear();
        self.held = None;
        self.watched = 0;
        self.live = true;
        G::rearm(&mut self.port, epoch);
    }

    /// Gives every reply frame to the IOC.
    pub(crate) fn give_all_reply_frames(&self) {
        let (bus, memory, layout) = (&self.bus, &self.memory, &self.layout);
        for index in 0..self.replies.count() {
            let at = (layout.replies + u32::from(index).wrapping_mul(layout.reply_bytes)) as usize;
            self.replies
                .give(index, |host_index| G::give_reply_frame(bus, memory, layout, at, host_index));
        }
    }
}
