//! Rings in memory: how MPI 2.x, and MegaRAID Fusion after it, posts requests and answers them.
//!
//! A request is posted by writing a 64-bit descriptor, which names the queue to answer on. The
//! answer is a 64-bit descriptor in that queue's ring; an entry that the device has not written
//! since we last read it is all ones. So the whole path costs one register write for a request and
//! one, the host index, for each drained batch, and no read.

use volatile_register::RW;

use crate::mem::Memory;
use crate::memory_plan::MemoryPlan;
use crate::platform::{DmaRegion, Registers};
use crate::regs::mpi2::{
    ATOMIC_REQUEST_DESCRIPTOR_POST, REQUEST_DESCRIPTOR_POST, REQUEST_DESCRIPTOR_POST_HIGH,
    ReplyPostHostIndex, host_index_of,
};
use crate::regs::{Bus, Reg};
use crate::reply::Reply;
use crate::request::Post;
use crate::sgl::SglFormat;
use crate::wire::descriptor::{ReplyDescriptor, ReplyKind, RequestDescriptor};

#[cfg(all(test, loom))]
mod loom_tests;

/// How a request descriptor reaches the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PostMethod {
    /// One 64-bit write.
    Whole,
    /// Low half, high half, with nothing in between (trap T47).
    Split,
    /// One 32-bit write of the low half, where the facts offer it.
    Atomic,
}

/// One queue's ring, and how it posts.
#[derive(Debug)]
pub struct Ring {
    /// 64-bit words from the region's start to the first entry, to the next one, and past the last.
    start: usize,
    next: usize,
    end: usize,
    /// At most a quarter of the ring is drained at a time.
    limit: u32,
    /// The queue's number where a request descriptor wants it.
    queue: RequestDescriptor,
    supplemental: bool,
    method: PostMethod,
    /// Word 2 of each SCSI I/O message: how long the sense buffer is, and where the SGL begins.
    pub(crate) sense_and_sgl: u64,
    /// The low half of the bus address of the first sense buffer.
    pub(crate) sense_low: u32,
    pub(crate) sgl: SglFormat,
    host_index: Reg<RW<u32>, ReplyPostHostIndex>,
    host_index_word: ReplyPostHostIndex,
}

impl Ring {
    #[inline(never)]
    pub(crate) fn new(
        plan: &MemoryPlan,
        queue: u8,
        method: PostMethod,
        supplemental: bool,
        sense_and_sgl: u64,
        sense_low: u32,
    ) -> Self {
        let layout = &plan.layout;
        let ring_bytes = layout.reply_post_depth.wrapping_mul(8);
        let (host_index, host_index_word) = host_index_of(queue, supplemental);
        let bytes = layout.reply_post.wrapping_add(ring_bytes.wrapping_mul(u32::from(queue)));
        let start = bytes as usize / size_of::<u64>();
        let end = start + layout.reply_post_depth as usize;
        Self {
            start,
            next: start,
            end,
            limit: layout.reply_post_depth / 4,
            queue: RequestDescriptor::on_queue(queue),
            supplemental,
            method,
            sense_and_sgl,
            sense_low,
            sgl: plan.sgl,
            host_index,
            host_index_word,
        }
    }

    /// Begins at the first entry again, as the device does after IOC init.
    pub(crate) fn rearm(&mut self) {
        self.next = self.start;
    }

    /// The descriptor that posts the request in frame `smid`, to be answered on this queue.
    #[inline]
    pub(crate) fn descriptor(&self, smid: u16, post: Post) -> u64 {
        match post {
            Post::ScsiIo(device) => self.queue.with_scsi_io(smid, device.address),
            Post::HighPriority => self.queue.with_high_priority(smid),
            Post::Default => self.queue.with_default_type(smid),
        }
        .0
    }

    /// Posts it.
    #[inline(always)]
    pub(crate) fn post<R: Registers>(&self, bus: &Bus<R>, descriptor: u64) {
        match self.method {
            PostMethod::Whole => bus.post64(REQUEST_DESCRIPTOR_POST, descriptor),
            PostMethod::Atomic => bus.post(ATOMIC_REQUEST_DESCRIPTOR_POST, descriptor as u32),
            PostMethod::Split => split(bus, descriptor),
        }
    }

    /// The next answer, if the device has written one; its entry is all ones again afterwards.
    #[inline]
    pub(crate) fn next<D: DmaRegion>(&mut self, memory: &Memory<D>) -> Option<(u64, Reply)> {
        let word = memory.take_written(self.next)?;
        let next = self.next + 1;
        self.next = if next == self.end { self.start } else { next };
        let descriptor = ReplyDescriptor(word);
        let smid = (word >> 16) as u16;
        let reply = match descriptor.kind() {
            ReplyKind::ScsiIoSuccess | ReplyKind::FastPathScsiIoSuccess => Reply::Success { smid },
            ReplyKind::AddressReply => {
                Reply::Frame { smid: Some(smid), address: descriptor.reply_frame_address() }
            }
            _ => Reply::Unknown,
        };
        Some((word, reply))
    }

    /// Whether the device has written one half of the next answer and not the other: nothing behind
    /// it can be read.
    pub(crate) fn is_torn<D: DmaRegion>(&self, memory: &Memory<D>) -> bool {
        let word = memory.read_u64(self.next * size_of::<u64>());
        (word as u32 == u32::MAX) != ((word >> 32) as u32 == u32::MAX)
    }

    /// Tells the device how far this queue has read.
    #[inline]
    pub(crate) fn drained<R: Registers>(&mut self, bus: &Bus<R>) {
        let mut word = self.host_index_word;
        word.0 |= (self.next - self.start) as u32;
        bus.put_inline(self.host_index, word);
    }

    /// At most a quarter of the ring, so that the device never finds it full while one drain lasts.
    #[inline]
    pub(crate) const fn drain_limit(&self) -> u32 {
        self.limit
    }

    /// Tells the device that no queue has been read yet; IOC init leaves the host indices undefined.
    pub(crate) fn start<R: Registers>(&self, bus: &Bus<R>, queues: u8) {
        for queue in 0..queues {
            let (register, word) = host_index_of(queue, self.supplemental);
            bus.put(register, word);
        }
    }

    /// The ring's entries, as they must be before the device may use it.
    pub(crate) fn clear<D: DmaRegion>(memory: &Memory<D>, plan: &MemoryPlan) {
        let bytes = plan.layout.reply_post_depth.wrapping_mul(8 * u32::from(plan.queues));
        memory.fill(plan.layout.reply_post as usize, bytes as usize, 0xff);
    }
}

#[cold]
fn split<R: Registers>(bus: &Bus<R>, descriptor: u64) {
    critical_section::with(|_| {
        bus.post(REQUEST_DESCRIPTOR_POST, descriptor as u32);
        bus.post(REQUEST_DESCRIPTOR_POST_HIGH, (descriptor >> 32) as u32);
    });
}
