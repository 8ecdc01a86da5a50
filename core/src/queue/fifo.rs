//! FIFOs in the chip: how MPI 1.x posts requests and answers them.
//!
//! A request is posted by writing its frame's bus address; answers are read from a register, one
//! read each, and one more that says "empty". A plain success is answered with the request's
//! context, everything else with the address of a reply frame, which goes back to the device by
//! being written to the same register.

use crate::memory_plan::MemoryPlan;
use crate::platform::{BusAddr, Registers};
use crate::regs::Bus;
use crate::regs::mpi1::{HIGH_PRIORITY_REQUEST_QUEUE, REPLY_QUEUE, REQUEST_QUEUE};
use crate::reply::Reply;
use crate::request::Post;
use crate::sgl::SglFormat;

/// What the reply FIFO reads as when it is empty.
const EMPTY: u32 = u32::MAX;
/// Set in an address reply (`MPI_ADDRESS_REPLY_A_BIT`); the rest is the address, halved.
const ADDRESS_REPLY: u32 = 1 << 31;
/// Bits 30:29 of a context reply: 0 is a SCSI initiator's (`MPI_CONTEXT_REPLY_TYPE_MASK`).
const CONTEXT_TYPE: u32 = 3 << 29;

/// The FIFO pair, and how it posts.
#[derive(Debug)]
pub struct Fifo {
    frames: BusAddr,
    frame_bytes: u32,
    depth: u32,
    high_priority: bool,
    pub(crate) sgl: SglFormat,
}

impl Fifo {
    pub(crate) fn new(plan: &MemoryPlan, bus: BusAddr, high_priority: bool) -> Self {
        Self {
            frames: bus,
            frame_bytes: plan.layout.frame_bytes,
            depth: u32::from(plan.reply_frames),
            high_priority,
            sgl: plan.sgl,
        }
    }

    /// What posts the request in frame `smid`: its bus address.
    #[inline]
    pub(crate) fn word(&self, smid: u16) -> u64 {
        let offset = u32::from(smid).wrapping_mul(self.frame_bytes);
        // Bits 1:0 ask the device to fetch further blocks of the frame ahead: it does so by itself.
        u64::from(self.frames.low().wrapping_add(offset))
    }

    /// Posts it.
    #[inline(always)]
    pub(crate) fn post<R: Registers>(&self, bus: &Bus<R>, word: u64, post: Post) {
        if post == Post::HighPriority && self.high_priority {
            bus.post(HIGH_PRIORITY_REQUEST_QUEUE, word as u32);
        } else {
            bus.post(REQUEST_QUEUE, word as u32);
        }
    }

    /// The next answer, if there is one.
    #[inline]
    pub(crate) fn next<R: Registers>(&mut self, bus: &Bus<R>) -> Option<(u64, Reply)> {
        let word: u32 = bus.get(REPLY_QUEUE);
        if word == EMPTY {
            return None;
        }
        let reply = if word & ADDRESS_REPLY != 0 {
            Reply::Frame { smid: None, address: word << 1 }
        } else if word & CONTEXT_TYPE == 0 && word <= u32::from(u16::MAX) {
            Reply::Success { smid: word as u16 }
        } else {
            Reply::Unknown
        };
        Some((u64::from(word), reply))
    }

    /// As many as there can be answers: a device that never says "empty" must not hold us.
    #[inline]
    pub(crate) const fn drain_limit(&self) -> u32 {
        self.depth
    }
}
