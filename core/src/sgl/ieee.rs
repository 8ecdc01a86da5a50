//! IEEE elements with 64-bit addresses: SCSI IO from MPI 2.5 on.
//!
//! Nothing marks the element in front of a chain: the chain element stands where `ChainOffset`
//! points, in the last slot of its frame, and says of itself what it is. Linux mpt3sas, FreeBSD mpr
//! and OpenBSD mpii agree.

use zerocopy::little_endian::U64;
use zerocopy::transmute;

use super::elements::{Elements, Place};
use super::{Direction, Segment, SglFormat};
use crate::mem::Memory;
use crate::platform::{BusAddr, DmaRegion};
use crate::wire::sge::{IeeeChain64, IeeeSgeFlags, IeeeSimple64};

/// With 64-bit addresses.
pub(super) struct Ieee64;

#[inline]
fn write_element<D: DmaRegion>(memory: &Memory<D>, offset: usize, element: [U64; 2]) {
    memory.write_words(offset, &element.map(U64::get));
}

#[inline]
fn simple(segment: &Segment, flags: IeeeSgeFlags) -> [U64; 2] {
    transmute!(IeeeSimple64 {
        address: segment.address.0.into(),
        length: segment.length.into(),
        reserved: [0; 3],
        flags: flags.bits(),
    })
}

/// The whole list of a command with one segment.
#[inline]
pub(super) fn single(segment: &Segment) -> [u64; 2] {
    simple(segment, IeeeSgeFlags::END_OF_LIST).map(U64::get)
}

impl Elements for Ieee64 {
    const FORMAT: SglFormat = SglFormat::Ieee64;

    fn write_simple<D: DmaRegion>(
        memory: &Memory<D>,
        offset: usize,
        segment: Segment,
        _direction: Direction,
        place: Place,
    ) {
        let flags = match place {
            Place::Middle | Place::BeforeChain => IeeeSgeFlags::empty(),
            Place::End => IeeeSgeFlags::END_OF_LIST,
        };
        write_element(memory, offset, simple(&segment, flags));
    }

    fn write_chain<D: DmaRegion>(
        memory: &Memory<D>,
        offset: usize,
        chain: BusAddr,
        length: u16,
        next_chain_offset: u8,
    ) {
        let element: [U64; 2] = transmute!(IeeeChain64 {
            address: chain.0.into(),
            length: u32::from(length).into(),
            reserved: 0.into(),
            next_chain_offset,
            flags: IeeeSgeFlags::CHAIN.bits(),
        });
        write_element(memory, offset, element);
    }
}
