//! Requests of the driver's own, and what is seen of any request that somebody looks at.

use super::Queue;
use crate::generation::{Generation, Message, Post};
use crate::mem::WORD;
use crate::platform::{DmaRegion, Registers};
use crate::scsi::Lun;
use crate::trace::{TRACED_BYTES, TraceKind};
use crate::wire::Function;

impl<G: Generation, R: Registers, D: DmaRegion> Queue<'_, G, R, D> {
    /// The logical unit that the command in frame `smid` is for. Read from the frame that the
    /// device has read too: if it was tampered with, its author gets his own unit back.
    pub(crate) fn lun_of(&self, smid: u16) -> Lun {
        let mut lun = [0; 8];
        self.memory.copy_out(self.place(smid).frame_word * WORD + G::LUN_AT, &mut lun);
        Lun(lun)
    }

    /// Posts a request of the driver's own in internal slot `slot`. `None` if that slot is taken or
    /// the queue is halted.
    pub(crate) fn post_own(
        &mut self,
        slot: u16,
        post: Post,
        build: impl FnOnce(&G::Port, u32) -> Message,
    ) -> Option<u16> {
        self.post_message_of(slot, post, |port, context| Some(build(port, context)))
    }

    /// Whether the device takes requests of the driver's own.
    pub(crate) const fn is_live(&self) -> bool {
        self.live
    }

    /// As [`Queue::post_own`], for a request that this generation may not have: then `None` too.
    pub(crate) fn post_message_of(
        &mut self,
        slot: u16,
        post: Post,
        build: impl FnOnce(&G::Port, u32) -> Option<Message>,
    ) -> Option<u16> {
        if !self.live {
            return None;
        }
        let smid = self.slots.take_internal(slot)?;
        let Some(message) = build(&self.port, G::context(&self.port, smid)) else {
            self.slots.finish_internal(smid);
            return None;
        };
        self.note_own(slot, message.function());
        self.post_message(smid, post, &message);
        Some(smid)
    }

    #[inline(never)]
    fn post_message(&mut self, smid: u16, post: Post, message: &Message) {
        let frame = self.place(smid).frame_word * WORD;
        self.memory.fill(frame, self.layout.frame_bytes as usize, 0);
        self.memory.copy_in(frame, message.bytes());
        self.own_outstanding += 1;
        let word = G::word(&self.port, smid, post);
        self.post_attended(smid, word, post);
    }

    /// Posts a request where somebody looks on, or where nobody is there to take it: a gone
    /// controller's requests complete when its owner has noticed.
    #[cold]
    pub(super) fn post_attended(&mut self, smid: u16, word: u64, post: Post) {
        self.trace_request(smid, word);
        if let Post::ScsiIo(device) = post {
            self.throttles.given(device.address);
        }
        if !self.bus.is_gone() {
            G::post(&self.port, &self.bus, word, post);
        }
    }

    /// Takes internal slot `slot` for a request that goes another way than the queue.
    pub(crate) fn take_own(&mut self, slot: u16, function: Function) -> Option<u16> {
        if !self.live {
            return None;
        }
        let smid = self.slots.take_internal(slot)?;
        self.note_own(slot, function);
        self.own_outstanding += 1;
        Some(smid)
    }

    fn note_own(&mut self, slot: u16, function: Function) {
        if let Some(asked) = self.own_functions.get_mut(usize::from(slot)) {
            *asked = function;
        }
    }

    /// Gives such a slot back unanswered.
    pub(crate) fn give_up_own(&mut self, smid: u16) {
        if self.slots.finish_internal(smid) {
            self.own_outstanding = self.own_outstanding.saturating_sub(1);
        }
    }

    /// Takes a command of the driver's own back that was not answered, so that its end is not told
    /// to the caller, who never gave it.
    pub(crate) fn give_up_command(&mut self, smid: u16) {
        if self.slots.abandon(smid) {
            self.counters.completed += 1;
        }
    }

    #[cold]
    fn trace_request(&mut self, smid: u16, word: u64) {
        if self.trace.is_none() {
            return;
        }
        let mut frame = [0u8; TRACED_BYTES];
        let length = (self.layout.frame_bytes as usize).min(TRACED_BYTES);
        if let Some(part) = frame.get_mut(..length) {
            self.memory.copy_out(self.place(smid).frame_word * WORD, part);
            if let Some(trace) = self.trace.as_deref_mut() {
                trace.record(self.now_ms, TraceKind::Request, word, part);
            }
        }
    }

    #[cold]
    pub(super) fn trace_word(&mut self, kind: TraceKind, word: u64) {
        if let Some(trace) = self.trace.as_deref_mut() {
            trace.record(self.now_ms, kind, word, &[]);
        }
    }
}
