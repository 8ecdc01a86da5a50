//! Segments of data into scatter/gather lists, in the format the controller's generation reads.
//!
//! A list starts in the request frame, right behind the message header. When it does not fit, the
//! frame's last slot becomes a chain element that points to the first of the slot's chain frames,
//! and so on. Chain frames are set aside per slot when the memory is planned, so an encoder never
//! allocates and can only fail by the plan's own limits or by what the caller asks for; and when it
//! fails it has written nothing.
//!
//! One segment that fits one element is the common case (a DEXT gets its whole buffer as one, trap
//! T27): [`encode`] inlines it, and everything else is out of line.
//!
//! The layouts, and who says so:
//!
//! | | MPI ([`SglFormat::Mpi32`], [`SglFormat::Mpi64`]) | IEEE ([`SglFormat::Ieee64`]) |
//! |---|---|---|
//! | read by | MPI 1.x, 2.0 | MPI 2.5, 2.6 SCSI IO |
//! | header | mpi.h, mpi2.h: MPI Scatter Gather Elements | mpi2.h: IEEE Scatter Gather Elements |
//! | chain element | where `ChainOffset` says, behind one with LAST_ELEMENT | where `ChainOffset` says |
//! | `ChainOffset`, `NextChainOffset` | dwords from the frame's start | 16 bytes, the same |
//! | end of the list | LAST_ELEMENT, END_OF_BUFFER, END_OF_LIST | END_OF_LIST |
//! | direction | HOST_TO_IOC in each simple element | in the request only |
//! | drivers that agree | Linux mptsas, mpt3sas; QEMU's mptsas1068 | Linux mpt3sas, FreeBSD mpr, OpenBSD mpii |
//!
//! In both, the length in a chain element counts the bytes of the elements in the chain frame, that
//! frame's own chain element included (Linux mptsas and mpt3sas, FreeBSD mpr; OpenBSD mpii counts
//! everything still to come, QEMU does not look), and `NextChainOffset` 0 says that it has none.
//!
//! A command without data gets one empty element with every end flag and address 0, as OpenBSD has
//! it: Linux writes all ones there, the address that later firmware faults on.

mod elements;
mod ieee;
mod list;
mod mpi;
mod place;

use core::fmt;

use crate::mem::Memory;
use crate::platform::{BusAddr, DmaRegion};
use crate::wire::sge::MAX_ELEMENT_LENGTH;

pub(crate) use list::encode_any;

/// One contiguous stretch of the data, as the controller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts.
    pub address: BusAddr,
    /// How many bytes it has. Segments without any are skipped.
    pub length: u32,
}

/// Which way the data flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// There is no data. Elements are marked as for [`Direction::Read`].
    None,
    /// From the device to the host.
    Read,
    /// From the host to the device.
    Write,
}

/// The element format that a controller reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SglFormat {
    /// MPI elements with 32-bit addresses, 8 bytes each.
    Mpi32,
    /// MPI elements with 64-bit addresses, 12 bytes each.
    Mpi64,
    /// IEEE elements with 64-bit addresses, 16 bytes each.
    Ieee64,
}

impl SglFormat {
    /// The size of one element, simple or chain, in bytes.
    #[must_use]
    pub const fn element_bytes(self) -> usize {
        match self {
            Self::Mpi32 => 8,
            Self::Mpi64 => 12,
            Self::Ieee64 => 16,
        }
    }

    /// The bytes that one step of `ChainOffset` and `NextChainOffset` stands for.
    #[must_use]
    pub const fn offset_unit(self) -> usize {
        match self {
            Self::Mpi32 | Self::Mpi64 => 4,
            Self::Ieee64 => 16,
        }
    }

    /// `bytes`, a multiple of the unit and in reach, in units of [`SglFormat::offset_unit`].
    const fn in_units(self, bytes: usize) -> u8 {
        // Spelled out so that each division is by a constant.
        match self {
            Self::Mpi32 | Self::Mpi64 => (bytes / 4) as u8,
            Self::Ieee64 => (bytes / 16) as u8,
        }
    }

    /// How many elements `bytes` hold.
    const fn elements_in(self, bytes: usize) -> usize {
        // Spelled out so that each division is by a constant.
        match self {
            Self::Mpi32 => bytes / 8,
            Self::Mpi64 => bytes / 12,
            Self::Ieee64 => bytes / 16,
        }
    }

    /// How many elements of a buffer can be used, when the list starts `header_bytes` into it and
    /// has `bytes` of room: the offset of a chain element in the last slot must fit its byte.
    #[inline(never)]
    const fn slots(self, header_bytes: usize, bytes: usize) -> usize {
        let in_reach = match (255 * self.offset_unit()).checked_sub(header_bytes) {
            Some(reach) => self.elements_in(reach) + 1,
            None => 0,
        };
        let room = self.elements_in(bytes);
        if room < in_reach { room } else { in_reach }
    }
}

/// The most bytes that one element may describe, from 4096 to [`MAX_ELEMENT_LENGTH`].
///
/// Longer segments are split so that every element but the first starts on a 4 KiB boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementLimit(u32);

impl ElementLimit {
    /// What the element formats allow: 16 MiB − 1.
    pub const MAX: Self = Self(MAX_ELEMENT_LENGTH);

    /// A controller's own limit in bytes, brought into range.
    #[must_use]
    pub const fn new(bytes: u32) -> Self {
        match bytes {
            0..SPLIT_ALIGNMENT => Self(SPLIT_ALIGNMENT),
            SPLIT_ALIGNMENT..=MAX_ELEMENT_LENGTH => Self(bytes),
            _ => Self::MAX,
        }
    }

    /// The limit in bytes.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Where long segments are split: page boundaries keep every element's transfers aligned.
const SPLIT_ALIGNMENT: u32 = 4096;

/// Where a slot's list may go. Offsets and sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SglSpace {
    /// Where in the region the list starts: the request frame's offset plus `header_bytes`. A
    /// multiple of 8.
    pub sgl_offset: usize,
    /// The size of the message header in front of the list, from which `ChainOffset` counts: 0x30
    /// for MPI 1.x SCSI IO, 0x60 for MPI 2.x. A multiple of 4, for IEEE of 16.
    pub header_bytes: usize,
    /// The room for the list in the request frame: its size less `header_bytes`.
    pub frame_sgl_bytes: usize,
    /// Where in the region the slot's first chain frame starts. A multiple of 8, for IEEE of 16.
    pub chain_offset: usize,
    /// The size of each chain frame; the next follows right behind. A multiple of 8, for IEEE of
    /// 16.
    pub chain_bytes: usize,
    /// How many chain frames the slot has; none if 0.
    pub chain_count: usize,
}

impl SglSpace {
    /// How many elements fit: see [`elements_capacity`].
    #[must_use]
    pub const fn capacity(&self, format: SglFormat) -> usize {
        elements_capacity(
            format,
            self.header_bytes,
            self.frame_sgl_bytes,
            self.chain_bytes,
            self.chain_count,
        )
    }

    /// Checks what the fields promise, for a region of `region_bytes`.
    ///
    /// Fails with [`SglError::SpaceUnusable`] when an offset is not aligned, something lies outside
    /// the region, or not even one element fits.
    pub const fn check(&self, format: SglFormat, region_bytes: usize) -> Result<(), SglError> {
        let (align, unit) = match format {
            SglFormat::Mpi32 | SglFormat::Mpi64 => (8, 4),
            SglFormat::Ieee64 => (16, 16),
        };
        let frame_fits = match self.sgl_offset.checked_add(self.frame_sgl_bytes) {
            Some(end) => end <= region_bytes,
            None => false,
        };
        let chains_fit = match self.chain_bytes.checked_mul(self.chain_count) {
            Some(bytes) => match self.chain_offset.checked_add(bytes) {
                Some(end) => end <= region_bytes,
                None => false,
            },
            None => false,
        };
        let aligned = self.sgl_offset & 7 == 0
            && self.header_bytes & (unit - 1) == 0
            && (self.chain_count == 0 || (self.chain_offset | self.chain_bytes) & (align - 1) == 0);
        if frame_fits && chains_fit && aligned && self.capacity(format) > 0 {
            Ok(())
        } else {
            Err(SglError::SpaceUnusable)
        }
    }
}

/// How many elements that describe data fit in a request frame and `chain_count` chain frames of
/// `chain_bytes` each: the most segments a command may have, if none needs splitting.
///
/// `frame_sgl_bytes` is the room in the request frame behind `header_bytes` of message header. A
/// buffer with fewer than two slots cannot chain: the chain element must follow a simple one. Of a
/// buffer so large that the offset byte cannot reach its end, only the reachable part counts.
#[must_use]
#[inline(never)]
pub const fn elements_capacity(
    format: SglFormat,
    header_bytes: usize,
    frame_sgl_bytes: usize,
    chain_bytes: usize,
    chain_count: usize,
) -> usize {
    let frame = format.slots(header_bytes, frame_sgl_bytes);
    let chain = format.slots(0, chain_bytes);
    if frame < 2 || chain < 2 || chain_count == 0 {
        return frame;
    }
    // Every buffer but the last gives one slot to the chain element.
    chain_count.saturating_mul(chain - 1).saturating_add(frame)
}

/// What an encoder did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The value for the request's `ChainOffset`, in the format's unit; 0 without a chain.
    pub chain_offset: u8,
    /// How many of the slot's chain frames are in use.
    pub chains_used: u32,
    /// How many elements describe data; 1 for the empty element of a command without any.
    pub elements: u32,
}

/// Why a list cannot be built. Nothing was written, and nothing must be posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SglError {
    /// The data needs more elements than the slot has room for.
    TooManySegments {
        /// Elements the data needs.
        needed: u32,
        /// Elements the slot holds.
        room: u32,
    },
    /// A stretch of memory ends above 4 GiB, and the format has 32-bit addresses.
    AddressAbove4GiB {
        /// Where the stretch starts.
        address: BusAddr,
    },
    /// A stretch of memory ends above 2^63: an element that touches the top of the address space
    /// faults the firmware (Linux commit df9a606184bf).
    AddressTooHigh {
        /// Where the stretch starts.
        address: BusAddr,
    },
    /// The segments do not add up to the command's data length.
    LengthMismatch {
        /// The data length, in bytes.
        declared: u32,
        /// What the segments add up to, in bytes.
        listed: u64,
    },
    /// The space breaks what [`SglSpace`] asks of it.
    SpaceUnusable,
}

impl fmt::Display for SglError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManySegments { needed, room } => write!(
                f,
                "the data takes {needed} scatter/gather elements, a command has room for {room}; \
                 send it as smaller or less scattered commands"
            ),
            Self::AddressAbove4GiB { address } => write!(
                f,
                "the memory at {address} ends above 4 GiB, and this controller has 32-bit \
                 addresses; map it lower"
            ),
            Self::AddressTooHigh { address } => write!(
                f,
                "the memory at {address} ends above 2^63, which faults the firmware; map it lower"
            ),
            Self::LengthMismatch { declared, listed } => write!(
                f,
                "the command transfers {declared} bytes, but its segments add up to {listed}; \
                 make them agree"
            ),
            Self::SpaceUnusable => write!(
                f,
                "a command's scatter/gather space is misaligned, too small or outside the DMA \
                 region; plan the memory again"
            ),
        }
    }
}

impl core::error::Error for SglError {}

/// Writes the list that describes `segments` into `space`, and says what belongs into the request.
///
/// `data_length` is the length the request will declare, in bytes. Segments longer than `limit` are
/// split, segments without bytes are skipped, and a command without any data gets the one empty
/// element that the firmware still wants to find.
///
/// # Errors
///
/// Any [`SglError`]; nothing is written then.
#[inline]
pub fn encode<D: DmaRegion>(
    format: SglFormat,
    memory: &Memory<D>,
    space: &SglSpace,
    segments: &[Segment],
    direction: Direction,
    data_length: u32,
    limit: ElementLimit,
) -> Result<Encoded, SglError> {
    if let Some(element) = single_within(format, segments, direction, data_length, limit)
        && space.frame_sgl_bytes >= 16
        // What `Memory` asks as well, so it costs nothing, and no list gets lost in silence.
        && memory.len().checked_sub(16).is_some_and(|last| space.sgl_offset <= last)
        && space.sgl_offset.is_multiple_of(8)
    {
        match format {
            SglFormat::Mpi32 => memory.write_u64(space.sgl_offset, element[0]),
            SglFormat::Mpi64 | SglFormat::Ieee64 => memory.write_words(space.sgl_offset, &element),
        }
        return Ok(Encoded { chain_offset: 0, chains_used: 0, elements: 1 });
    }
    encode_any(format, memory, space, segments, direction, data_length, limit)
}

/// The whole list of a command whose data is one segment that fits one element, as the 16 bytes to
/// write behind its message header; `None` for everything else, which [`encode`] handles.
///
/// For a frame with at least 16 bytes of room, so that header and list go out in one write.
#[inline]
pub(crate) fn single(
    format: SglFormat,
    segments: &[Segment],
    direction: Direction,
    data_length: u32,
) -> Option<[u64; 2]> {
    single_within(format, segments, direction, data_length, ElementLimit::MAX)
}

#[inline]
fn single_within(
    format: SglFormat,
    segments: &[Segment],
    direction: Direction,
    data_length: u32,
    limit: ElementLimit,
) -> Option<[u64; 2]> {
    let [segment] = segments else { return None };
    // 1..=limit in one comparison: an empty segment wraps to the top.
    let is_one = segment.length == data_length && data_length.wrapping_sub(1) < limit.get();
    if !is_one || !is_plainly_reachable(format, segment) {
        return None;
    }
    Some(match format {
        SglFormat::Mpi32 => mpi::single_32(segment, direction),
        SglFormat::Mpi64 => mpi::single_64(segment, direction),
        SglFormat::Ieee64 => ieee::single(segment),
    })
}

/// A quick answer to whether the format reaches the segment; "no" means that `encode_any` looks.
#[inline]
const fn is_plainly_reachable(format: SglFormat, segment: &Segment) -> bool {
    match format {
        SglFormat::Mpi32 => segment.address.0.saturating_add(segment.length as u64) <= 1 << 32,
        // A quarter of the address space leaves no sum to check.
        SglFormat::Mpi64 | SglFormat::Ieee64 => segment.address.0 >> 62 == 0,
    }
}
