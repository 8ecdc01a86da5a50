//! MPI elements: MPI 1.x and 2.0 SCSI IO, and configuration messages of every generation.
//!
//! The last simple element in front of a chain element carries LAST_ELEMENT: Linux mptsas and
//! mpt3sas set it, and QEMU's mptsas1068 looks for the chain element only then and otherwise
//! refuses the list.

use zerocopy::little_endian::U32;
use zerocopy::transmute;

use super::place::{Element, Place};
use super::{Direction, Segment};
use crate::platform::BusAddr;
use crate::wire::sge::{
    MpiChain32, MpiChain64, MpiSgeFlags, MpiSimple32, MpiSimple64, flags_length,
};

const LAST: MpiSgeFlags =
    MpiSgeFlags::LAST_ELEMENT.union(MpiSgeFlags::END_OF_BUFFER).union(MpiSgeFlags::END_OF_LIST);

const NOTHING: U32 = U32::ZERO;

#[inline]
pub(super) fn simple_flags(direction: Direction, place: Place) -> MpiSgeFlags {
    let way = match direction {
        Direction::None | Direction::Read => MpiSgeFlags::empty(),
        Direction::Write => MpiSgeFlags::HOST_TO_IOC,
    };
    let end = match place {
        Place::Middle => MpiSgeFlags::empty(),
        Place::BeforeChain => MpiSgeFlags::LAST_ELEMENT,
        Place::End => LAST,
    };
    MpiSgeFlags::SIMPLE.union(way).union(end)
}

/// With a 32-bit address, 8 bytes.
#[inline]
pub(super) fn simple_32(segment: &Segment, flags: MpiSgeFlags) -> Element {
    let [first, second]: [U32; 2] = transmute!(MpiSimple32 {
        flags_length: flags_length(flags, segment.length).into(),
        address: segment.address.low().into(),
    });
    [first, second, NOTHING, NOTHING]
}

/// With a 64-bit address, 12 bytes.
#[inline]
pub(super) fn simple_64(segment: &Segment, flags: MpiSgeFlags) -> Element {
    let flags = flags.union(MpiSgeFlags::ADDRESS_64);
    let [first, second, third]: [U32; 3] = transmute!(MpiSimple64 {
        flags_length: flags_length(flags, segment.length).into(),
        address: segment.address.0.into(),
    });
    [first, second, third, NOTHING]
}

pub(super) fn chain_32(frame: BusAddr, length: u16, next_chain_offset: u8) -> Element {
    let [first, second]: [U32; 2] = transmute!(MpiChain32 {
        length: length.into(),
        next_chain_offset,
        flags: MpiSgeFlags::CHAIN.bits(),
        address: frame.low().into(),
    });
    [first, second, NOTHING, NOTHING]
}

pub(super) fn chain_64(frame: BusAddr, length: u16, next_chain_offset: u8) -> Element {
    let [first, second, third]: [U32; 3] = transmute!(MpiChain64 {
        length: length.into(),
        next_chain_offset,
        flags: MpiSgeFlags::CHAIN.union(MpiSgeFlags::ADDRESS_64).bits(),
        address: frame.0.into(),
    });
    [first, second, third, NOTHING]
}

/// An element's 16 bytes as two little-endian words.
#[inline]
fn words([first, second, third, fourth]: Element) -> [u64; 2] {
    let word = |low: U32, high: U32| u64::from(low.get()) | u64::from(high.get()) << 32;
    [word(first, second), word(third, fourth)]
}

/// The whole list of a command with one segment: the element's 8 bytes and 8 of zero.
#[inline]
pub(super) fn single_32(segment: &Segment, direction: Direction) -> [u64; 2] {
    words(simple_32(segment, simple_flags(direction, Place::End)))
}

/// The whole list of a command with one segment: the element's 12 bytes and 4 of zero.
#[inline]
pub(super) fn single_64(segment: &Segment, direction: Direction) -> [u64; 2] {
    words(simple_64(segment, simple_flags(direction, Place::End)))
}
