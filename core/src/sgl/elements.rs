//! What every element format must be able to write.

use super::{Direction, Segment, SglFormat};
use crate::mem::Memory;
use crate::platform::{BusAddr, DmaRegion};

/// Where an element stands, as far as its flags tell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Another simple element follows.
    Middle,
    /// A chain element follows.
    BeforeChain,
    /// Nothing follows.
    End,
}

/// How one format writes its elements. Offsets are bytes from the start of the region.
pub(super) trait Elements {
    const FORMAT: SglFormat;

    /// The element that describes `segment`, at most the limit long.
    fn write_simple<D: DmaRegion>(
        memory: &Memory<D>,
        offset: usize,
        segment: Segment,
        direction: Direction,
        place: Place,
    );

    /// The element that points to a chain frame with `length` bytes of elements, whose own chain
    /// element stands `next_chain_offset` units into it.
    fn write_chain<D: DmaRegion>(
        memory: &Memory<D>,
        offset: usize,
        chain: BusAddr,
        length: u16,
        next_chain_offset: u8,
    );
}
