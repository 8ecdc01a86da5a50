//! MPI elements: MPI 1.x and 2.0 SCSI IO, and configuration messages of every generation.
//!
//! The last simple element in front of a chain element carries LAST_ELEMENT: Linux mptsas and
//! mpt3sas set it, and QEMU's mptsas1068 looks for the chain element only then and otherwise
//! refuses the list.

use zerocopy::little_endian::U32;
use zerocopy::transmute;

use super::elements::{Elements, Place};
use super::{Direction, Segment, SglFormat};
use crate::mem::Memory;
use crate::platform::{BusAddr, DmaRegion};
use crate::wire::sge::{
    MpiChain32, MpiChain64, MpiSgeFlags, MpiSimple32, MpiSimple64, flags_length,
};

const LAST: MpiSgeFlags =
    MpiSgeFlags::LAST_ELEMENT.union(MpiSgeFlags::END_OF_BUFFER).union(MpiSgeFlags::END_OF_LIST);

/// With 32-bit addresses.
pub(super) struct Mpi32;

/// With 64-bit addresses.
pub(super) struct Mpi64;

#[inline]
fn simple_flags(direction: Direction, place: Place) -> MpiSgeFlags {
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

#[inline]
fn simple_32(segment: &Segment, flags: MpiSgeFlags) -> [U32; 2] {
    transmute!(MpiSimple32 {
        flags_length: flags_length(flags, segment.length).into(),
        address: segment.address.low().into(),
    })
}

#[inline]
fn simple_64(segment: &Segment, flags: MpiSgeFlags) -> [U32; 3] {
    let flags = flags.union(MpiSgeFlags::ADDRESS_64);
    transmute!(MpiSimple64 {
        flags_length: flags_length(flags, segment.length).into(),
        address: segment.address.0.into(),
    })
}

/// Two dwords as one little-endian 64-bit word.
#[inline]
fn word(first: U32, second: U32) -> u64 {
    u64::from(first.get()) | u64::from(second.get()) << 32
}

/// The whole list of a command with one segment: the element's 8 bytes and 8 of zero.
#[inline]
pub(super) fn single_32(segment: &Segment, direction: Direction) -> [u64; 2] {
    let [first, second] = simple_32(segment, simple_flags(direction, Place::End));
    [word(first, second), 0]
}

/// The whole list of a command with one segment: the element's 12 bytes and 4 of zero.
#[inline]
pub(super) fn single_64(segment: &Segment, direction: Direction) -> [u64; 2] {
    let [first, second, third] = simple_64(segment, simple_flags(direction, Place::End));
    [word(first, second), u64::from(third.get())]
}

/// Elements of 12 bytes leave every other one off a multiple of 8: go by dwords.
fn write_dwords<D: DmaRegion, const N: usize>(memory: &Memory<D>, offset: usize, dwords: [U32; N]) {
    for (index, dword) in dwords.into_iter().enumerate() {
        memory.write_u32(offset + index * 4, dword.get());
    }
}

impl Elements for Mpi32 {
    const FORMAT: SglFormat = SglFormat::Mpi32;

    fn write_simple<D: DmaRegion>(
        memory: &Memory<D>,
        offset: usize,
        segment: Segment,
        direction: Direction,
        place: Place,
    ) {
        write_dwords(memory, offset, simple_32(&segment, simple_flags(direction, place)));
    }

    fn write_chain<D: DmaRegion>(
        memory: &Memory<D>,
        offset: usize,
        chain: BusAddr,
        length: u16,
        next_chain_offset: u8,
    ) {
        let element: [U32; 2] = transmute!(MpiChain32 {
            length: length.into(),
            next_chain_offset,
            flags: MpiSgeFlags::CHAIN.bits(),
            address: chain.low().into(),
        });
        write_dwords(memory, offset, element);
    }
}

impl Elements for Mpi64 {
    const FORMAT: SglFormat = SglFormat::Mpi64;

    fn write_simple<D: DmaRegion>(
        memory: &Memory<D>,
        offset: usize,
        segment: Segment,
        direction: Direction,
        place: Place,
    ) {
        write_dwords(memory, offset, simple_64(&segment, simple_flags(direction, place)));
    }

    fn write_chain<D: DmaRegion>(
        memory: &Memory<D>,
        offset: usize,
        chain: BusAddr,
        length: u16,
        next_chain_offset: u8,
    ) {
        let element: [U32; 3] = transmute!(MpiChain64 {
            length: length.into(),
            next_chain_offset,
            flags: MpiSgeFlags::CHAIN.union(MpiSgeFlags::ADDRESS_64).bits(),
            address: chain.0.into(),
        });
        write_dwords(memory, offset, element);
    }
}
