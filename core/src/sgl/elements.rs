//! The elements of every format as dwords, so that one encoder writes them all.

use super::place::{Element, Place};
use super::{Direction, Segment, SglFormat, ieee, mpi};
use crate::platform::BusAddr;

/// The element that describes `segment`, at most the limit long.
#[inline(never)]
pub(super) fn simple(
    format: SglFormat,
    segment: &Segment,
    direction: Direction,
    place: Place,
) -> Element {
    match format {
        SglFormat::Mpi32 => mpi::simple_32(segment, mpi::simple_flags(direction, place)),
        SglFormat::Mpi64 => mpi::simple_64(segment, mpi::simple_flags(direction, place)),
        SglFormat::Ieee64 => ieee::simple(segment, ieee::simple_flags(place)),
    }
}

/// The element that points to a chain frame with `length` bytes of elements, whose own chain
/// element stands `next_chain_offset` units into it.
pub(super) fn chain(
    format: SglFormat,
    frame: BusAddr,
    length: u16,
    next_chain_offset: u8,
) -> Element {
    match format {
        SglFormat::Mpi32 => mpi::chain_32(frame, length, next_chain_offset),
        SglFormat::Mpi64 => mpi::chain_64(frame, length, next_chain_offset),
        SglFormat::Ieee64 => ieee::chain(frame, length, next_chain_offset),
    }
}
