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
/// The bits of a context above the SMID that say in which epoch it was given: a reply that stems
/// from before a reset names nothing any more. Bits 30:29 stay 0, for a SCSI initiator
/// (`MPI_CONTEXT_REPLY_TYPE_MASK`), and so does bit 28.
const EPOCH: u32 = 0x0fff;
const EPOCH_SHIFT: u32 = 16;

/// The FIFO pair, and how it posts.
#[derive(Debug)]
pub struct Fifo {
    frames: BusAddr,
    frame_bytes: u32,
    depth: u32,
    /// What every context of this epoch has above its SMID.
    epoch: u32,
    high_priority: bool,
    /// The low half of the bus address of the first sense buffer.
    pub(crate) sense_low: u32,
    pub(crate) sgl: SglFormat,
}

impl Fifo {
    pub(crate) fn new(plan: &MemoryPlan, bus: BusAddr, high_priority: bool, epoch: u32) -> Self {
        let mut fifo = Self {
            frames: bus,
            frame_bytes: plan.layout.frame_bytes,
            depth: u32::from(plan.reply_frames),
            epoch: 0,
            high_priority,
            sense_low: bus.offset(u64::from(plan.layout.sense)).low(),
            sgl: plan.sgl,
        };
        fifo.rearm(epoch);
        fifo
    }

    /// Begins an epoch.
    pub(crate) fn rearm(&mut self, epoch: u32) {
        self.epoch = (epoch & EPOCH) << EPOCH_SHIFT;
    }

    /// The context of the request in frame `smid`.
    #[inline]
    pub(crate) const fn context(&self, smid: u16) -> u32 {
        self.epoch | smid as u32
    }

    /// The SMID of a context, if it is of this epoch.
    #[inline]
    pub(crate) fn smid(&self, context: u32) -> Option<u16> {
        u16::try_from(context ^ self.epoch).ok()
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
        } else {
            match self.smid(word) {
                Some(smid) => Reply::Success { smid },
                None => Reply::Unknown,
            }
        };
        Some((u64::from(word), reply))
    }

    /// As many as there can be answers: a device that never says "empty" must not hold us.
    #[inline]
    pub(crate) const fn drain_limit(&self) -> u32 {
        self.depth
    }
}
