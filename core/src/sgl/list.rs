//! Lists of any length: check everything, then fill the frame and its chain frames in one pass.

use super::elements::{chain, simple};
use super::place::{Element, Place};
use super::{
    Direction, ElementLimit, Encoded, SPLIT_ALIGNMENT, Segment, SglError, SglFormat, SglSpace,
};
use crate::mem::Memory;
use crate::platform::{BusAddr, DmaRegion};

/// What [`super::encode`] does when there is more to it than one element.
#[cold]
#[inline(never)]
pub(crate) fn encode_any<D: DmaRegion>(
    format: SglFormat,
    memory: &Memory<D>,
    space: &SglSpace,
    segments: &[Segment],
    direction: Direction,
    data_length: u32,
    limit: ElementLimit,
) -> Result<Encoded, SglError> {
    let job = Job { format, memory, space, segments, direction, limit };
    let needed = job.survey(data_length)?;
    if needed == 0 {
        let nowhere = Segment { address: BusAddr(0), length: 0 };
        job.put(space.sgl_offset, simple(format, &nowhere, Direction::None, Place::End));
        return Ok(Encoded { chain_offset: 0, chains_used: 0, elements: 1 });
    }
    Ok(job.write(needed))
}

struct Job<'a, D> {
    format: SglFormat,
    memory: &'a Memory<D>,
    space: &'a SglSpace,
    segments: &'a [Segment],
    direction: Direction,
    limit: ElementLimit,
}

impl<D: DmaRegion> Job<'_, D> {
    /// Checks everything that can go wrong, and counts the elements.
    fn survey(&self, data_length: u32) -> Result<usize, SglError> {
        let format = self.format;
        self.space.check(format, self.memory.len())?;
        let mut listed = 0_u64;
        for segment in self.segments {
            reachable(format, segment.address, u64::from(segment.length))?;
            listed = listed.saturating_add(u64::from(segment.length));
        }
        if listed != u64::from(data_length) {
            return Err(SglError::LengthMismatch { declared: data_length, listed });
        }
        let needed = self.split().count();
        let room = self.space.capacity(format);
        if needed > room {
            let [needed, room] = [needed, room].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
            return Err(SglError::TooManySegments { needed, room });
        }
        if needed > format.slots(self.space.header_bytes, self.space.frame_sgl_bytes) {
            let chains = self.space.chain_bytes.saturating_mul(self.space.chain_count);
            reachable(format, self.memory.bus(self.space.chain_offset), chains as u64)?;
        }
        Ok(needed)
    }

    /// Writes `needed` elements, which fit.
    fn write(&self, needed: usize) -> Encoded {
        let Self { format, space, .. } = *self;
        let size = format.element_bytes();
        let frame_slots = format.slots(space.header_bytes, space.frame_sgl_bytes);
        let chain_slots = format.slots(0, space.chain_bytes);
        let mut encoded = Encoded { chain_offset: 0, chains_used: 0, elements: needed as u32 };
        let mut offset = space.sgl_offset;
        let mut next_chain = space.chain_offset;
        let mut left = needed;
        // Simple elements still to go into the buffer at hand.
        let mut here = simple_slots(left, frame_slots);
        if here < left {
            encoded.chain_offset = format.in_units(space.header_bytes + here * size);
        }
        for segment in self.split() {
            left = left.saturating_sub(1);
            here = here.saturating_sub(1);
            let place = match (left, here) {
                (0, _) => Place::End,
                (_, 0) => Place::BeforeChain,
                _ => Place::Middle,
            };
            self.put(offset, simple(format, &segment, self.direction, place));
            offset += size;
            if place == Place::BeforeChain {
                here = simple_slots(left, chain_slots);
                let (elements, next) = if here < left { (here + 1, here) } else { (here, 0) };
                // `slots` keeps the offset within its byte, and so the length within 16 bits.
                let (length, next) = ((elements * size) as u16, format.in_units(next * size));
                self.put(offset, chain(format, self.memory.bus(next_chain), length, next));
                offset = next_chain;
                next_chain += space.chain_bytes;
                encoded.chains_used += 1;
            }
        }
        encoded
    }

    /// Writes an element: by dwords, since those of 12 bytes leave every other one off a multiple
    /// of 8.
    #[inline(never)]
    fn put(&self, offset: usize, element: Element) {
        let dwords = element.iter().take(self.format.element_bytes() / 4);
        for (index, dword) in dwords.enumerate() {
            self.memory.write_u32(offset + index * 4, dword.get());
        }
    }

    /// The segments as elements will describe them: none empty, none longer than the limit.
    fn split(&self) -> Split<'_> {
        let rest = Segment { address: BusAddr(0), length: 0 };
        Split { segments: self.segments.iter(), rest, limit: self.limit }
    }
}

struct Split<'s> {
    segments: core::slice::Iter<'s, Segment>,
    /// Of the segment at hand.
    rest: Segment,
    limit: ElementLimit,
}

impl Iterator for Split<'_> {
    type Item = Segment;

    #[inline(never)]
    fn next(&mut self) -> Option<Segment> {
        while self.rest.length == 0 {
            self.rest = *self.segments.next()?;
        }
        let Segment { address, length } = self.rest;
        let limit = self.limit.get();
        let part = if length <= limit {
            length
        } else {
            // The limit is at least 4096, so the last boundary in reach lies ahead.
            let reach = (address.0 as u32 & (SPLIT_ALIGNMENT - 1)).wrapping_add(limit);
            limit - (reach & (SPLIT_ALIGNMENT - 1))
        };
        self.rest = Segment {
            address: address.offset(u64::from(part)),
            length: length.saturating_sub(part),
        };
        Some(Segment { address, length: part })
    }
}

/// How many of `left` simple elements go into a buffer of `slots`: all, or all slots but the last,
/// which the chain element takes.
const fn simple_slots(left: usize, slots: usize) -> usize {
    if left <= slots { left } else { slots.saturating_sub(1) }
}

/// Whether elements of `format` may describe the `length` bytes from `address` on.
#[inline(never)]
fn reachable(format: SglFormat, address: BusAddr, length: u64) -> Result<(), SglError> {
    let end = address.0.saturating_add(length);
    if length == 0 || end <= 1 << 32 {
        Ok(())
    } else if format == SglFormat::Mpi32 {
        Err(SglError::AddressAbove4GiB { address })
    } else if end <= 1 << 63 {
        Ok(())
    } else {
        Err(SglError::AddressTooHigh { address })
    }
}
