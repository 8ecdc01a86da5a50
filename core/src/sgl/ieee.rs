//! IEEE elements with 64-bit addresses: SCSI IO from MPI 2.5 on.
//!
//! Nothing marks the element in front of a chain: the chain element stands where `ChainOffset`
//! points, in the last slot of its frame, and says of itself what it is. Linux mpt3sas, FreeBSD mpr
//! and OpenBSD mpii agree.

use zerocopy::little_endian::U64;
use zerocopy::transmute;

use super::Segment;
use super::place::{Element, Place};
use crate::platform::BusAddr;
use crate::wire::sge::{IeeeChain64, IeeeSgeFlags, IeeeSimple64};

pub(super) fn simple_flags(place: Place) -> IeeeSgeFlags {
    match place {
        Place::Middle | Place::BeforeChain => IeeeSgeFlags::empty(),
        Place::End => IeeeSgeFlags::END_OF_LIST,
    }
}

#[inline]
fn element(segment: &Segment, flags: IeeeSgeFlags) -> IeeeSimple64 {
    IeeeSimple64 {
        address: segment.address.0.into(),
        length: segment.length.into(),
        reserved: [0; 3],
        flags: flags.bits(),
    }
}

pub(super) fn simple(segment: &Segment, flags: IeeeSgeFlags) -> Element {
    transmute!(element(segment, flags))
}

/// The whole list of a command with one segment.
#[inline]
pub(super) fn single(segment: &Segment) -> [u64; 2] {
    let words: [U64; 2] = transmute!(element(segment, IeeeSgeFlags::END_OF_LIST));
    words.map(U64::get)
}

pub(super) fn chain(frame: BusAddr, length: u16, next_chain_offset: u8) -> Element {
    transmute!(IeeeChain64 {
        address: frame.0.into(),
        length: u32::from(length).into(),
        reserved: 0.into(),
        next_chain_offset,
        flags: IeeeSgeFlags::CHAIN.bits(),
    })
}
