//! Lists of any length: check everything, then fill the frame and its chain frames in one pass.

use super::elements::{Elements, Place};
use super::ieee::Ieee64;
use super::mpi::{Mpi32, Mpi64};
use super::{
    Direction, ElementLimit, Encoded, SPLIT_ALIGNMENT, Segment, SglError, SglFormat, SglSpace,
};
use crate::mem::Memory;
use crate::platform::{BusAddr, DmaRegion};

/// What [`super::encode`] does when there is more to it than one element.
#[cold]
#[inline(never)]
pub(super) fn encode_any<D: DmaRegion>(
    format: SglFormat,
    memory: &Memory<D>,
    (frame, chains): ([usize; 3], [usize; 3]),
    segments: &[Segment],
    direction: Direction,
    data_length: u32,
    limit: ElementLimit,
) -> Result<Encoded, SglError> {
    let [sgl_offset, header_bytes, frame_sgl_bytes] = frame;
    let [chain_offset, chain_bytes, chain_count] = chains;
    let space = SglSpace {
        sgl_offset,
        header_bytes,
        frame_sgl_bytes,
        chain_offset,
        chain_bytes,
        chain_count,
    };
    let job = Job { memory, space, segments, direction, data_length, limit };
    match format {
        SglFormat::Mpi32 => job.encode::<Mpi32>(),
        SglFormat::Mpi64 => job.encode::<Mpi64>(),
        SglFormat::Ieee64 => job.encode::<Ieee64>(),
    }
}

struct Job<'a, D> {
    memory: &'a Memory<D>,
    space: SglSpace,
    segments: &'a [Segment],
    direction: Direction,
    data_length: u32,
    limit: ElementLimit,
}

impl<D: DmaRegion> Job<'_, D> {
    fn encode<E: Elements>(&self) -> Result<Encoded, SglError> {
        let needed = self.survey(E::FORMAT)?;
        if needed == 0 {
            let (nowhere, end) = (Segment { address: BusAddr(0), length: 0 }, Place::End);
            E::write_simple(self.memory, self.space.sgl_offset, nowhere, Direction::None, end);
            return Ok(Encoded { chain_offset: 0, chains_used: 0, elements: 1 });
        }
        Ok(self.write::<E>(needed))
    }

    /// Checks everything that can go wrong, and counts the elements.
    fn survey(&self, format: SglFormat) -> Result<usize, SglError> {
        self.space.check(format, self.memory.len())?;
        let mut listed = 0_u64;
        for segment in self.segments {
            reachable(format, segment.address, u64::from(segment.length))?;
            listed = listed.saturating_add(u64::from(segment.length));
        }
        if listed != u64::from(self.data_length) {
            return Err(SglError::LengthMismatch { declared: self.data_length, listed });
        }
        let needed = split(self.segments, self.limit).count();
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
    fn write<E: Elements>(&self, needed: usize) -> Encoded {
        let (size, unit) = (const { E::FORMAT.element_bytes() }, const { E::FORMAT.offset_unit() });
        let space = &self.space;
        let frame_slots = E::FORMAT.slots(space.header_bytes, space.frame_sgl_bytes);
        let chain_slots = E::FORMAT.slots(0, space.chain_bytes);
        let mut encoded = Encoded { chain_offset: 0, chains_used: 0, elements: needed as u32 };
        let mut offset = space.sgl_offset;
        let mut next_chain = space.chain_offset;
        let mut left = needed;
        // Simple elements still to go into the buffer at hand.
        let mut here = simple_slots(left, frame_slots);
        if here < left {
            encoded.chain_offset = ((space.header_bytes + here * size) / unit) as u8;
        }
        for segment in split(self.segments, self.limit) {
            left = left.saturating_sub(1);
            here = here.saturating_sub(1);
            let place = match (left, here) {
                (0, _) => Place::End,
                (_, 0) => Place::BeforeChain,
                _ => Place::Middle,
            };
            E::write_simple(self.memory, offset, segment, self.direction, place);
            offset += size;
            if place == Place::BeforeChain {
                here = simple_slots(left, chain_slots);
                let (elements, next) = if here < left { (here + 1, here) } else { (here, 0) };
                // `slots` keeps the offset within its byte, and so the length within 16 bits.
                let (length, next) = ((elements * size) as u16, (next * size / unit) as u8);
                E::write_chain(self.memory, offset, self.memory.bus(next_chain), length, next);
                offset = next_chain;
                next_chain += space.chain_bytes;
                encoded.chains_used += 1;
            }
        }
        encoded
    }
}

/// How many of `left` simple elements go into a buffer of `slots`: all, or all slots but the last,
/// which the chain element takes.
const fn simple_slots(left: usize, slots: usize) -> usize {
    if left <= slots { left } else { slots.saturating_sub(1) }
}

/// Whether elements of `format` may describe the `length` bytes from `address` on.
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

/// The segments as elements will describe them: none empty, none longer than `limit`.
fn split(segments: &[Segment], limit: ElementLimit) -> impl Iterator<Item = Segment> {
    segments.iter().flat_map(move |&segment| {
        let mut rest = segment;
        core::iter::from_fn(move || {
            let address = rest.address;
            let length = match rest.length {
                0 => return None,
                short if short <= limit.get() => short,
                // The limit is at least 4096, so the last boundary in reach lies ahead.
                _ => {
                    let reach =
                        (address.0 as u32 & (SPLIT_ALIGNMENT - 1)).wrapping_add(limit.get());
                    limit.get() - (reach & (SPLIT_ALIGNMENT - 1))
                }
            };
            rest = Segment {
                address: address.offset(u64::from(length)),
                length: rest.length.saturating_sub(length),
            };
            Some(Segment { address, length })
        })
    })
}
