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

    /// What a request of the driver's own in internal slot `slot` names itself by.
    pub(crate) fn own_context(&self, slot: u16) -> u32 {
        G::context(&self.port, self.slots.internal_smid(slot))
    }

    /// Whether the device takes requests of the driver's own.
    pub(crate) const fn is_live(&self) -> bool {
        self.live
    }

    /// Posts a request of the driver's own in internal slot `slot`. `None` if that slot is taken or
    /// the queue is halted.
    #[inline(never)]
    pub(crate) fn post_own(&mut self, slot: u16, post: Post, message: &Message) -> Option<u16> {
        let smid = self.take_own(slot, message.function())?;
        let frame = self.place(smid).frame_word * WORD;
        self.memory.fill(frame, self.layout.frame_bytes as usize, 0);
        self.memory.copy_in(frame, message.bytes());
        let word = G::word(&self.port, smid, post);
        self.post_attended(smid, word, post);
        Some(smid)
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
        if let Some(asked) = self.own_functions.get_mut(usize::from(slot)) {
            *asked = function;
        }
        self.own_outstanding += 1;
        Some(smid)
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

    /// A success that somebody looks at.
    #[cold]
    #[inline(never)]
    pub(super) fn attend_success(&mut self, word: u64, device: u16) {
        self.trace_word(TraceKind::Reply, word);
        // Out of the word again: kept at hand it would cost every command a register.
        self.note_end(G::success_smid(&self.port, word), device);
    }

    #[cold]
    pub(super) fn trace_word(&mut self, kind: TraceKind, word: u64) {
        if let Some(trace) = self.trace.as_deref_mut() {
            trace.record(self.now_ms, kind, word, &[]);
        }
    }
}
