//! Scatter/gather elements: the bytes that tell a controller where the data lies.
//!
//! MPI elements serve MPI 1.x and 2.0 (mpi.h, "SGE field definition and masks"; mpi2.h, "Fusion-MPT
//! MPI Scatter Gather Elements"), and configuration messages on every generation. IEEE elements
//! serve SCSI IO from MPI 2.5 on and MegaRAID (mpi2.h, "Fusion-MPT IEEE Scatter Gather Elements").
//! Which element may stand where is the business of [`crate::sgl`].

use core::mem::offset_of;

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The longest stretch of memory, in bytes, that one element can describe: 16 MiB − 1.
///
/// For MPI elements it is the width of the field (`MPI_SGE_LENGTH_MASK`, `MPI2_SGE_LENGTH_MASK`).
/// IEEE elements have 32 bits for the length, but no peer driver is known to use more than 24:
/// illumos mpt_sas caps both formats at 0xFFFFFF, and so does this crate.
pub const MAX_ELEMENT_LENGTH: u32 = 0x00ff_ffff;

bitflags! {
    /// The flags byte of an MPI element (`MPI_SGE_FLAGS_*`, `MPI2_SGE_FLAGS_*`).
    ///
    /// Bits 5:4 are the element's type: 01 simple, 11 chain.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MpiSgeFlags: u8 {
        /// The last element of this frame or chain frame that is not itself a chain.
        const LAST_ELEMENT = 0x80;
        /// The last element of the data buffer.
        const END_OF_BUFFER = 0x40;
        /// A stretch of data (`SIMPLE_ELEMENT`).
        const SIMPLE = 0x10;
        /// A pointer to more elements (`CHAIN_ELEMENT`).
        const CHAIN = 0x30;
        /// The address is the controller's own (`LOCAL_ADDRESS`); never set for host memory.
        const LOCAL_ADDRESS = 0x08;
        /// Data flows to the controller: a write (`HOST_TO_IOC`).
        const HOST_TO_IOC = 0x04;
        /// The address is 64 bits wide (`64_BIT_ADDRESSING`), which makes the element 12 bytes.
        const ADDRESS_64 = 0x02;
        /// The last element of the whole list.
        const END_OF_LIST = 0x01;
    }

    /// The flags byte of an IEEE element (`MPI2_IEEE_SGE_FLAGS_*`, `MPI25_IEEE_SGE_FLAGS_*`).
    ///
    /// No bits at all means a stretch of host memory. The direction is in the request's Control.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct IeeeSgeFlags: u8 {
        /// A pointer to more elements (`CHAIN_ELEMENT`).
        const CHAIN = 0x80;
        /// The last element of the whole list (MPI 2.5 and later).
        const END_OF_LIST = 0x40;
    }
}

/// The `FlagsLength` word of an MPI simple element: flags in bits 31:24, bytes in bits 23:0.
///
/// A length above [`MAX_ELEMENT_LENGTH`] is cut to its low 24 bits, as the field would.
#[must_use]
#[inline]
pub const fn flags_length(flags: MpiSgeFlags, length: u32) -> u32 {
    (flags.bits() as u32) << 24 | (length & MAX_ELEMENT_LENGTH)
}

/// An MPI simple element with a 32-bit address, 8 bytes (`SGE_SIMPLE32`, `MPI2_SGE_SIMPLE32`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MpiSimple32 {
    /// `FlagsLength`: see [`flags_length`].
    pub flags_length: U32,
    /// `Address`: where the data lies, below 4 GiB.
    pub address: U32,
}

const _: () = {
    assert!(size_of::<MpiSimple32>() == 8);
    assert!(offset_of!(MpiSimple32, flags_length) == 0);
    assert!(offset_of!(MpiSimple32, address) == 4);
};

/// An MPI simple element with a 64-bit address, 12 bytes (`SGE_SIMPLE64`, `MPI2_SGE_SIMPLE64`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MpiSimple64 {
    /// `FlagsLength`: see [`flags_length`].
    pub flags_length: U32,
    /// `Address`: where the data lies.
    pub address: U64,
}

const _: () = {
    assert!(size_of::<MpiSimple64>() == 12);
    assert!(offset_of!(MpiSimple64, flags_length) == 0);
    assert!(offset_of!(MpiSimple64, address) == 4);
};

/// An MPI chain element with a 32-bit address, 8 bytes (`SGE_CHAIN32`, `MPI2_SGE_CHAIN32`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MpiChain32 {
    /// `Length`: bytes of elements in the chain frame, its own chain element included.
    pub length: U16,
    /// `NextChainOffset`: dwords from the start of the chain frame to its own chain element; 0 if
    /// it has none.
    pub next_chain_offset: u8,
    /// `Flags`: [`MpiSgeFlags::CHAIN`].
    pub flags: u8,
    /// `Address`: where the chain frame lies, below 4 GiB.
    pub address: U32,
}

const _: () = {
    assert!(size_of::<MpiChain32>() == 8);
    assert!(offset_of!(MpiChain32, length) == 0);
    assert!(offset_of!(MpiChain32, next_chain_offset) == 2);
    assert!(offset_of!(MpiChain32, flags) == 3);
    assert!(offset_of!(MpiChain32, address) == 4);
};

/// An MPI chain element with a 64-bit address, 12 bytes (`SGE_CHAIN64`, `MPI2_SGE_CHAIN64`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MpiChain64 {
    /// `Length`: bytes of elements in the chain frame, its own chain element included.
    pub length: U16,
    /// `NextChainOffset`: dwords from the start of the chain frame to its own chain element; 0 if
    /// it has none.
    pub next_chain_offset: u8,
    /// `Flags`: [`MpiSgeFlags::CHAIN`] and [`MpiSgeFlags::ADDRESS_64`].
    pub flags: u8,
    /// `Address`: where the chain frame lies.
    pub address: U64,
}

const _: () = {
    assert!(size_of::<MpiChain64>() == 12);
    assert!(offset_of!(MpiChain64, length) == 0);
    assert!(offset_of!(MpiChain64, next_chain_offset) == 2);
    assert!(offset_of!(MpiChain64, flags) == 3);
    assert!(offset_of!(MpiChain64, address) == 4);
};

/// An IEEE simple element with a 64-bit address, 16 bytes (`MPI2_IEEE_SGE_SIMPLE64`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IeeeSimple64 {
    /// `Address`: where the data lies.
    pub address: U64,
    /// `Length`: bytes of data, at most [`MAX_ELEMENT_LENGTH`].
    pub length: U32,
    /// `Reserved1` and `Reserved2`: zero.
    pub reserved: [u8; 3],
    /// `Flags`: empty, or [`IeeeSgeFlags::END_OF_LIST`].
    pub flags: u8,
}

const _: () = {
    assert!(size_of::<IeeeSimple64>() == 16);
    assert!(offset_of!(IeeeSimple64, address) == 0);
    assert!(offset_of!(IeeeSimple64, length) == 8);
    assert!(offset_of!(IeeeSimple64, reserved) == 12);
    assert!(offset_of!(IeeeSimple64, flags) == 15);
};

/// An IEEE chain element with a 64-bit address, 16 bytes (`MPI25_IEEE_SGE_CHAIN64`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IeeeChain64 {
    /// `Address`: where the chain frame lies.
    pub address: U64,
    /// `Length`: bytes of elements in the chain frame, its own chain element included.
    pub length: U32,
    /// `Reserved1`: zero.
    pub reserved: U16,
    /// `NextChainOffset`: units of 16 bytes from the start of the chain frame to its own chain
    /// element; 0 if it has none.
    pub next_chain_offset: u8,
    /// `Flags`: [`IeeeSgeFlags::CHAIN`].
    pub flags: u8,
}

const _: () = {
    assert!(size_of::<IeeeChain64>() == 16);
    assert!(offset_of!(IeeeChain64, address) == 0);
    assert!(offset_of!(IeeeChain64, length) == 8);
    assert!(offset_of!(IeeeChain64, reserved) == 12);
    assert!(offset_of!(IeeeChain64, next_chain_offset) == 14);
    assert!(offset_of!(IeeeChain64, flags) == 15);
};
