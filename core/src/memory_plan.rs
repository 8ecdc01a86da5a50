//! How much DMA memory a controller needs, and what lies where in it.
//!
//! The platform supplies one region. One region, because every structure in it must lie in a
//! single 4 GiB window anyway: the IOC is told the high half of the sense buffers', the reply
//! frames' and, on MPI1, the request frames' addresses once, and adds 32-bit offsets to the
//! rest (controllers.md 2.5). The order within the region:
//!
//! ```text
//! request frames | chain frames | sense buffers | reply frames | reply post queues
//!                                      | reply free queue | queue array | page buffer
//! ```
//!
//! Only the request frames of commands have chain frames and a sense buffer; SMID 0 has a frame
//! that is never used, because the IOC computes a frame's address as base + SMID x size.

use crate::error::{Error, MemoryProblem};
use crate::facts::Facts;
use crate::platform::BusAddr;
use crate::sgl::{SglFormat, elements_capacity};

/// Every structure starts at a multiple of this, so that none shares a cache line.
const STRUCTURE_ALIGNMENT: u32 = 128;
/// The region starts at a multiple of this: a page, which every platform can give.
const REGION_ALIGNMENT: u32 = 4096;
/// Bytes of the buffer that configuration pages are read into. The longest that this driver reads,
/// SAS IO unit page 0 of a controller with 128 phys, is 2,064 bytes.
const PAGE_BYTES: u32 = 4096;
/// Reply frames beyond one for each request: events come unasked.
const EVENT_FRAMES: u16 = 16;
/// Requests of the driver's own: pages and acknowledgements (two, used in turn), port enable, event
/// notification.
pub(crate) const INTERNAL_SLOTS: u16 = 4;
/// Slots for task management: the caller's, the ladder's, and one for each rung of it that was not
/// answered.
pub(crate) const TASK_SLOTS: u16 = 4;
/// More commands than any of these controllers takes.
const MOST_COMMANDS: u16 = 30_000;

/// What the caller wants; the plan gives as much of it as the controller can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wants {
    /// Commands outstanding at once, over all queues.
    pub commands: u16,
    /// How many of each queue's commands are addressed by the caller's tag; the rest is its pool.
    pub tags: u16,
    /// Reply queues, each with its share of the commands.
    pub queues: u8,
    /// The most segments that a command's data may have.
    pub segments: u16,
    /// Bytes of sense kept for each command: at most 252.
    pub sense_bytes: u8,
    /// Every address the controller will see is below 4 GiB, so shorter elements serve (MPI1 only).
    pub addresses_below_4gib: bool,
}

impl Default for Wants {
    fn default() -> Self {
        Self {
            commands: 256,
            tags: 0,
            queues: 1,
            segments: 66,
            sense_bytes: 96,
            addresses_below_4gib: false,
        }
    }
}

/// The memory and the tables that a controller needs, and how many commands it will then take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryPlan {
    /// Bytes of DMA memory.
    pub bytes: usize,
    /// The region's bus address must be a multiple of this.
    pub alignment: usize,
    /// The region must lie below 2^this.
    pub address_bits: u8,
    /// Entries of the slot table.
    pub slots: u16,
    /// Entries of the reply frame table.
    pub reply_frames: u16,
    /// Commands outstanding at once, over all queues.
    pub commands: u16,
    /// Commands of each queue by the caller's tag.
    pub tags: u16,
    /// Reply queues.
    pub queues: u8,
    /// The most segments that a command may have.
    pub segments: u16,
    /// How data is described to the controller.
    pub sgl: SglFormat,
    pub(crate) layout: Layout,
}

/// Where each structure begins and how big its entries are, in bytes from the region's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    pub(crate) frame_bytes: u32,
    /// The same in 64-bit words.
    pub(crate) frame_words: u32,
    pub(crate) chains: u32,
    pub(crate) chain_bytes: u32,
    pub(crate) chains_per_command: u32,
    pub(crate) sense: u32,
    pub(crate) sense_bytes: u32,
    pub(crate) replies: u32,
    pub(crate) reply_bytes: u32,
    pub(crate) reply_post: u32,
    pub(crate) reply_post_depth: u32,
    pub(crate) reply_free: u32,
    pub(crate) reply_free_depth: u32,
    pub(crate) queue_array: u32,
    pub(crate) page: u32,
    pub(crate) page_bytes: u32,
}

/// What a generation fixes about its messages.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of the SCSI I/O message before its SGL.
    pub(crate) scsi_io_header: u32,
    /// The longest request frame worth having.
    pub(crate) frame_limit: u32,
    pub(crate) sgl: SglFormat,
    pub(crate) address_bits: u8,
    /// Reply descriptors in memory (MPI2), or a FIFO in the chip (MPI1).
    pub(crate) reply_rings: bool,
}

/// Adds up a layout, noticing overflow.
struct Builder {
    at: u32,
    overflow: bool,
}

impl Builder {
    #[inline(never)]
    fn place(&mut self, count: u32, each: u32) -> u32 {
        let start = self.at.checked_next_multiple_of(STRUCTURE_ALIGNMENT);
        let end = count
            .checked_mul(each)
            .and_then(|bytes| start.and_then(|start| start.checked_add(bytes)));
        match (start, end) {
            (Some(start), Some(end)) => {
                self.at = end;
                start
            }
            _ => {
                self.overflow = true;
                0
            }
        }
    }
}

impl MemoryPlan {
    /// Plans for a controller with these facts.
    ///
    /// # Errors
    ///
    /// [`Error::BadFacts`] if the facts leave no room for a single command.
    #[cold]
    #[inline(never)]
    pub(crate) fn new(facts: &Facts, wants: &Wants, shape: Shape) -> Result<Self, Error> {
        let bad = |field, value| Err(Error::BadFacts { field, value });
        // Frames begin at whole words, elements in them at their own size.
        let frame_bytes = facts.request_frame_bytes.min(shape.frame_limit) & !15;
        if frame_bytes < shape.scsi_io_header + 32 {
            return bad("RequestFrameSize", facts.request_frame_bytes / 4);
        }
        if facts.reply_frame_bytes < 64 || facts.reply_frame_bytes > 4096 {
            return bad("ReplyFrameSize", facts.reply_frame_bytes / 4);
        }
        let own = INTERNAL_SLOTS + TASK_SLOTS;
        // The IOC's own limits. Reply frames bound the commands too: an IOC that runs out of them
        // faults (QEMU's does at once), so there is one for each request and some for events.
        let mut most = facts.credits.min(MOST_COMMANDS).saturating_sub(own);
        if !shape.reply_rings {
            most = most.min(facts.reply_queue_depth.saturating_sub(own + EVENT_FRAMES));
        }
        if most == 0 {
            let (field, value) = if facts.credits <= own {
                ("RequestCredit", facts.credits)
            } else {
                ("ReplyQueueDepth", facts.reply_queue_depth)
            };
            return bad(field, u32::from(value));
        }
        let queues = if shape.reply_rings { wants.queues.clamp(1, facts.queues.max(1)) } else { 1 };
        let queues = u16::from(queues).min(most) as u8;
        let per_queue = per_queue(wants.commands.clamp(1, most), most, queues);
        let commands = per_queue * u16::from(queues);
        let slots = commands + own;
        // As many as the reply free queue has entries, so that each entry always names a frame:
        // right whether the IOC takes the host index for the last valid entry or for the one after.
        let least = slots + EVENT_FRAMES;
        let reply_frames = if shape.reply_rings { (least + 1).next_multiple_of(16) } else { least };

        let sgl =
            if wants.addresses_below_4gib && shape.sgl == SglFormat::Mpi64 && !shape.reply_rings {
                SglFormat::Mpi32
            } else {
                shape.sgl
            };
        let room = (frame_bytes - shape.scsi_io_header) as usize;
        let (chain_bytes, chains, segments) =
            chains(facts, wants, sgl, shape.scsi_io_header as usize, room);

        // All rings have one depth, so it is that of the first queue, which also answers the
        // driver's own requests and carries the events. At most three quarters are ever in use.
        let answers = u32::from(per_queue) + u32::from(own) + u32::from(EVENT_FRAMES);
        let reply_post_depth = (answers + answers / 4 + 16).next_multiple_of(16);
        if shape.reply_rings && reply_post_depth > u32::from(facts.reply_queue_depth) {
            return bad("MaxReplyDescriptorPostQueueDepth", u32::from(facts.reply_queue_depth));
        }
        let reply_free_depth = u32::from(reply_frames);

        let mut place = Builder { at: 0, overflow: false };
        let _frames = place.place(u32::from(slots) + 1, frame_bytes);
        let sense_bytes = u32::from(wants.sense_bytes.clamp(18, 252)).next_multiple_of(16);
        let rings = u32::from(shape.reply_rings);
        let layout = Layout {
            frame_bytes,
            frame_words: frame_bytes / 8,
            chains: place.place(u32::from(commands) * chains, chain_bytes),
            chain_bytes,
            chains_per_command: chains,
            sense: place.place(u32::from(commands), sense_bytes),
            sense_bytes,
            replies: place.place(u32::from(reply_frames), facts.reply_frame_bytes),
            reply_bytes: facts.reply_frame_bytes,
            reply_post: place.place(rings * u32::from(queues) * reply_post_depth, 8),
            reply_post_depth,
            reply_free: place.place(rings * reply_free_depth, 4),
            reply_free_depth,
            queue_array: place.place(rings * u32::from(queues), 16),
            page: place.place(1, PAGE_BYTES),
            page_bytes: PAGE_BYTES,
        };
        if place.overflow {
            return bad("RequestCredit", u32::from(facts.credits));
        }
        Ok(Self {
            bytes: place.at.next_multiple_of(REGION_ALIGNMENT) as usize,
            alignment: REGION_ALIGNMENT as usize,
            address_bits: shape.address_bits,
            slots,
            reply_frames,
            commands,
            tags: wants.tags.min(per_queue),
            queues,
            segments,
            sgl,
            layout,
        })
    }

    /// Commands of each queue.
    #[must_use]
    pub const fn commands_per_queue(&self) -> u16 {
        match self.commands.checked_div(self.queues as u16) {
            Some(share) => share,
            None => 0,
        }
    }

    /// Whether a region of `bytes` at `bus` satisfies the plan.
    ///
    /// # Errors
    ///
    /// [`Error::BadMemory`] with what is wrong about it.
    pub fn check(&self, bus: BusAddr, bytes: usize) -> Result<(), Error> {
        let problem = if bytes < self.bytes {
            MemoryProblem::TooSmall { needed: self.bytes, supplied: bytes }
        } else if !bus.0.is_multiple_of(u64::from(REGION_ALIGNMENT)) {
            MemoryProblem::Misaligned { at: bus, alignment: self.alignment }
        } else if bus.high() != bus.offset(self.bytes as u64 - 1).high() {
            MemoryProblem::CrossesWindow { at: bus, bytes: self.bytes }
        } else if self.address_bits < 64
            && bus.offset(self.bytes as u64 - 1).0 >> self.address_bits != 0
        {
            MemoryProblem::AboveLimit { at: bus, bits: self.address_bits }
        } else {
            return Ok(());
        };
        Err(Error::BadMemory(problem))
    }
}

/// Each queue's share: what was asked for, rounded up to a whole share while the IOC allows.
fn per_queue(commands: u16, most: u16, queues: u8) -> u16 {
    let queues = u16::from(queues.max(1));
    let share = commands.checked_div(queues).unwrap_or(commands);
    let rounded_up = if share.saturating_mul(queues) < commands { share + 1 } else { share.max(1) };
    if u32::from(rounded_up) * u32::from(queues) <= u32::from(most) {
        rounded_up
    } else {
        share.max(1)
    }
}

/// How many chain frames, of how many bytes, give room for the segments wanted, and how many
/// segments there is room for then.
#[cold]
fn chains(
    facts: &Facts,
    wants: &Wants,
    sgl: SglFormat,
    header: usize,
    room: usize,
) -> (u32, u32, u16) {
    let limit = facts.chain_bytes.clamp(64, 4096);
    let wanted = usize::from(wants.segments.max(1));
    let most_chains = u32::from(facts.max_chain_depth).min(64);
    let capacity = |bytes: u32, count: u32| {
        elements_capacity(sgl, header, room, bytes as usize, count as usize)
    };
    let (mut bytes, mut count) = (0, 0);
    loop {
        let room = capacity(bytes, count);
        if room >= wanted || (count == most_chains && (count == 0 || bytes == limit)) {
            return (bytes, count, room.min(usize::from(u16::MAX)) as u16);
        }
        // One short chain where one is enough.
        if count == 0 {
            (bytes, count) = (64, 1);
        } else if bytes < limit {
            bytes = (bytes * 2).min(limit);
        } else {
            count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::ioc::Version;

    const MPI2: Shape = Shape {
        scsi_io_header: 0x60,
        frame_limit: 256,
        sgl: SglFormat::Ieee64,
        address_bits: 63,
        reply_rings: true,
    };
    const MPI1: Shape = Shape {
        scsi_io_header: 0x30,
        frame_limit: 128,
        sgl: SglFormat::Mpi64,
        address_bits: 64,
        reply_rings: false,
    };

    fn facts() -> Facts {
        Facts {
            message_version: 0x0205,
            firmware_version: Version::from_word(0),
            product_id: 0x2221,
            capabilities: 0,
            event_replay: true,
            credits: 9000,
            high_priority_credits: 128,
            request_frame_bytes: 128,
            reply_frame_bytes: 128,
            chain_bytes: 1024,
            max_chain_depth: 128,
            reply_queue_depth: 65504,
            queues: 16,
            queue_array: true,
            atomic_descriptors: false,
            high_priority_queue: true,
            ports: 1,
            max_devices: 1024,
        }
    }

    fn bad_field(facts: &Facts, shape: Shape) -> Option<&'static str> {
        match MemoryPlan::new(facts, &Wants::default(), shape) {
            Err(Error::BadFacts { field, .. }) => Some(field),
            Err(other) => panic!("{other}"),
            Ok(_) => None,
        }
    }

    #[test]
    fn facts_that_cannot_be_worked_with_are_named() {
        assert_eq!(bad_field(&facts(), MPI2), None);
        assert_eq!(bad_field(&Facts { credits: 0, ..facts() }, MPI2), Some("RequestCredit"));
        let frame = Facts { request_frame_bytes: 0, ..facts() };
        assert_eq!(bad_field(&frame, MPI2), Some("RequestFrameSize"));
        let reply = Facts { reply_frame_bytes: 0, ..facts() };
        assert_eq!(bad_field(&reply, MPI2), Some("ReplyFrameSize"));
        let ring = Facts { reply_queue_depth: 16, ..facts() };
        assert_eq!(bad_field(&ring, MPI2), Some("MaxReplyDescriptorPostQueueDepth"));
        let fifo = Facts { reply_queue_depth: 16, ..facts() };
        assert_eq!(bad_field(&fifo, MPI1), Some("ReplyQueueDepth"));
    }

    #[test]
    fn a_small_controller_gets_as_much_as_it_can_do() {
        let small = Facts { credits: 128, reply_queue_depth: 128, ..facts() };
        let wants = Wants { commands: 4096, ..Wants::default() };
        let plan = MemoryPlan::new(&small, &wants, MPI1).unwrap();
        assert_eq!(plan.commands, 128 - INTERNAL_SLOTS - TASK_SLOTS - 16);
        assert!(u32::from(plan.reply_frames) <= u32::from(small.reply_queue_depth));
    }

    #[test]
    fn a_region_that_misses_the_plan_is_refused() {
        let plan = MemoryPlan::new(&facts(), &Wants::default(), MPI2).unwrap();
        let problem = |bus, bytes| match plan.check(BusAddr(bus), bytes) {
            Err(Error::BadMemory(problem)) => Some(problem),
            Err(other) => panic!("{other}"),
            Ok(()) => None,
        };
        assert_eq!(problem(0x1_0000_0000, plan.bytes), None);
        assert!(matches!(problem(0, plan.bytes - 1), Some(MemoryProblem::TooSmall { .. })));
        assert!(matches!(problem(0x800, plan.bytes), Some(MemoryProblem::Misaligned { .. })));
        assert!(matches!(
            problem(0xffff_f000, plan.bytes),
            Some(MemoryProblem::CrossesWindow { .. })
        ));
        assert!(matches!(problem(1 << 63, plan.bytes), Some(MemoryProblem::AboveLimit { .. })));
    }

    proptest! {
        #[test]
        fn structures_never_overlap_and_never_leave_the_region(
            credits in 0u16..,
            reply_queue_depth in 0u16..,
            request_frame in 0u32..2048,
            reply_frame in 0u32..2048,
            chain_bytes in 0u32..100_000,
            max_chain_depth in 0u8..,
            queues in 0u8..,
            commands in 0u16..,
            wanted_queues in 0u8..,
            tags in 0u16..,
            segments in 0u16..,
            sense_bytes in 0u8..,
            rings: bool,
        ) {
            let facts = Facts {
                credits,
                reply_queue_depth,
                request_frame_bytes: request_frame * 4,
                reply_frame_bytes: reply_frame * 4,
                chain_bytes,
                max_chain_depth,
                queues,
                ..facts()
            };
            let wants = Wants {
                commands,
                tags,
                queues: wanted_queues,
                segments,
                sense_bytes,
                addresses_below_4gib: false,
            };
            let shape = if rings { MPI2 } else { MPI1 };
            let Ok(plan) = MemoryPlan::new(&facts, &wants, shape) else { return Ok(()) };
            let at = &plan.layout;
            let all = u32::from(plan.commands);
            let queues = if rings { u32::from(plan.queues) } else { 0 };
            let free = if rings { at.reply_free_depth } else { 0 };
            let mut parts: Vec<(u64, u64)> = [
                (0, u64::from(plan.slots + 1) * u64::from(at.frame_bytes)),
                (at.chains, u64::from(all * at.chains_per_command) * u64::from(at.chain_bytes)),
                (at.sense, u64::from(all) * u64::from(at.sense_bytes)),
                (at.replies, u64::from(plan.reply_frames) * u64::from(at.reply_bytes)),
                (at.reply_post, u64::from(queues * at.reply_post_depth) * 8),
                (at.reply_free, u64::from(free) * 4),
                (at.queue_array, u64::from(queues) * 16),
                (at.page, u64::from(at.page_bytes)),
            ]
            .map(|(start, bytes)| (u64::from(start), u64::from(start) + bytes))
            .into();
            parts.sort_unstable();
            for pair in parts.windows(2) {
                prop_assert!(pair[0].1 <= pair[1].0, "{pair:?} in {plan:?}");
            }
            prop_assert!(parts.iter().all(|part| part.1 <= plan.bytes as u64));
            prop_assert!(plan.commands >= 1 && plan.commands + 5 <= credits);
            prop_assert!(plan.tags <= plan.commands_per_queue());
            prop_assert!(plan.commands == plan.commands_per_queue() * u16::from(plan.queues));
            prop_assert!(plan.segments >= 1);
            if rings {
                // Every reply that can be outstanding fits a ring, with room to spare.
                prop_assert!(at.reply_post_depth > u32::from(plan.commands_per_queue()) + 5 + 16);
                prop_assert!(at.reply_post_depth.is_multiple_of(16));
                prop_assert!(at.reply_free_depth == u32::from(plan.reply_frames));
                prop_assert!(at.reply_free_depth.is_multiple_of(16));
                // One entry may be out of use, and still every request and event has a frame.
                prop_assert!(plan.reply_frames > plan.slots + 16);
            } else {
                prop_assert!(plan.reply_frames <= reply_queue_depth);
            }
        }
    }
}
