//! Scatter/gather lists, judged by decoders that know nothing but bytes.
//!
//! The decoders walk a list as a controller does: the MPI one as QEMU's mptsas1068 does, the IEEE
//! one as mpi2.h describes the elements. They share no constant with the encoders.

mod common;

use common::TestRegion;
use fusion_mpt::mem::Memory;
use fusion_mpt::platform::BusAddr;
use fusion_mpt::sgl::{
    Direction, ElementLimit, Encoded, Segment, SglError, SglFormat, SglSpace, elements_capacity,
    encode,
};
use proptest::prelude::*;

const FILL: u8 = 0xa5;

/// What the controller makes of a list.
#[derive(Debug, PartialEq)]
struct Decoded {
    ranges: Vec<(u64, u64)>,
    to_controller: bool,
    chains: u32,
}

/// Host memory as the controller finds it.
struct Host<'a> {
    bytes: &'a [u8],
    bus: u64,
}

impl Host<'_> {
    fn le(&self, address: u64, width: usize) -> Result<u64, String> {
        let start = address.checked_sub(self.bus).ok_or("below the region")? as usize;
        let bytes = self.bytes.get(start..start + width).ok_or("above the region")?;
        Ok(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// `frame` is the message's bus address, `chain_offset` the field of its header.
    fn decode_mpi(
        &self,
        wide: bool,
        frame: u64,
        header: u64,
        chain_offset: u8,
        data_length: u32,
    ) -> Result<Decoded, String> {
        let size = if wide { 12 } else { 8 };
        let mut decoded = Decoded { ranges: vec![], to_controller: false, chains: 0 };
        let mut directions = vec![];
        let (mut start, mut at) = (frame, frame + header);
        let mut next_chain = u64::from(chain_offset) * 4;
        let mut chain_length = None;
        let mut left = u64::from(data_length);
        loop {
            let word = self.le(at, 4)?;
            let (flags, length) = (word >> 24, word & 0xff_ffff);
            if flags & 0x30 != 0x10 {
                return Err(format!("{word:#x} where a simple element should be"));
            }
            if (flags & 0x02 != 0) != wide || flags & 0x08 != 0 {
                return Err(format!("wrong kind of address in {word:#x}"));
            }
            if length == 0 && data_length != 0 || length > left {
                return Err(format!("length of {word:#x}, {left} bytes to go"));
            }
            let address = self.le(at + 4, size - 4)?;
            directions.push(flags & 0x04 != 0);
            if length != 0 {
                decoded.ranges.push((address, length));
            }
            left -= length;
            at += size as u64;
            let ends = flags & 0xc1;
            if ends == 0xc1 {
                if chain_length.is_some_and(|length| length != at - start) || next_chain != 0 {
                    return Err("the last buffer is not as long as announced".into());
                }
                break;
            }
            if ends == 0x80 {
                if next_chain == 0 || at != start + next_chain {
                    return Err("the last element of a buffer is not in front of a chain".into());
                }
                let announced = self.le(at, 2)?;
                let next = self.le(at + 2, 1)?;
                let kind = self.le(at + 3, 1)?;
                if kind != if wide { 0x32 } else { 0x30 } {
                    return Err(format!("{kind:#x} where a chain element should be"));
                }
                if chain_length.is_some_and(|length| length != at + size as u64 - start) {
                    return Err("a chain frame is not as long as announced".into());
                }
                start = self.le(at + 4, size - 4)?;
                at = start;
                next_chain = next * 4;
                chain_length = Some(announced);
                decoded.chains += 1;
            } else if ends != 0 {
                return Err(format!("half an end in {word:#x}"));
            }
        }
        decoded.to_controller = directions[0];
        if left != 0 || directions.iter().any(|&way| way != decoded.to_controller) {
            return Err(format!("{left} bytes missing, or directions differ: {directions:?}"));
        }
        Ok(decoded)
    }

    fn decode_ieee(&self, frame: u64, header: u64, chain_offset: u8) -> Result<Decoded, String> {
        let mut decoded = Decoded { ranges: vec![], to_controller: false, chains: 0 };
        let (mut start, mut at) = (frame, frame + header);
        let mut next_chain = u64::from(chain_offset) * 16;
        let mut chain_length = None;
        loop {
            let address = self.le(at, 8)?;
            let length = self.le(at + 8, 4)?;
            let reserved = self.le(at + 12, 2)?;
            let next = self.le(at + 14, 1)?;
            let flags = self.le(at + 15, 1)?;
            let expects_chain = next_chain != 0 && at == start + next_chain;
            at += 16;
            if reserved != 0 {
                return Err(format!("reserved {reserved:#x}"));
            }
            if expects_chain != (flags == 0x80) {
                return Err(format!("flags {flags:#x}, chain expected: {expects_chain}"));
            }
            if flags & 0xc0 != 0 && chain_length.is_some_and(|length| length != at - start) {
                return Err("a chain frame is not as long as announced".into());
            }
            match flags {
                0x80 => {
                    (start, at) = (address, address);
                    next_chain = next * 16;
                    chain_length = Some(length);
                    decoded.chains += 1;
                    continue;
                }
                0x00 | 0x40 if next == 0 => {}
                _ => return Err(format!("flags {flags:#x}, offset {next}")),
            }
            if length != 0 {
                decoded.ranges.push((address, length));
            }
            if flags == 0x40 {
                return Ok(decoded);
            }
        }
    }
}

/// Adjacent ranges made one, empty ones left out.
fn merged(ranges: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut merged: Vec<(u64, u64)> = vec![];
    for (address, length) in ranges.into_iter().filter(|range| range.1 != 0) {
        match merged.last_mut() {
            Some(last) if last.0 + last.1 == address => last.1 += length,
            _ => merged.push((address, length)),
        }
    }
    merged
}

/// A frame and its chains with guards all around, and where they lie.
#[derive(Clone, Debug)]
struct Arena {
    format: SglFormat,
    space: SglSpace,
    bytes: usize,
    bus: u64,
}

impl Arena {
    fn new(
        format: SglFormat,
        header: usize,
        frame_sgl: usize,
        chain_bytes: usize,
        chain_count: usize,
    ) -> Self {
        let sgl_offset = 64 + header;
        let chain_offset = (sgl_offset + frame_sgl + 64).next_multiple_of(16);
        let space = SglSpace {
            sgl_offset,
            header_bytes: header,
            frame_sgl_bytes: frame_sgl,
            chain_offset,
            chain_bytes,
            chain_count,
        };
        let bytes = chain_offset + chain_bytes * chain_count + 64;
        let bus = if format == SglFormat::Mpi32 { 0x8000_0000 } else { 0x12_3456_8000 };
        Self { format, space, bytes, bus }
    }

    /// What `encode` says, and what the region holds then.
    fn encode(
        &self,
        segments: &[Segment],
        direction: Direction,
        data_length: u32,
        limit: ElementLimit,
    ) -> (Result<Encoded, SglError>, Vec<u8>) {
        let region = TestRegion::new(self.bytes, BusAddr(self.bus), FILL);
        let memory = Memory::new(&region);
        let (space, format) = (&self.space, self.format);
        let encoded = encode(format, &memory, space, segments, direction, data_length, limit);
        (encoded, region.bytes())
    }

    fn decode(&self, bytes: &[u8], encoded: &Encoded, data_length: u32) -> Result<Decoded, String> {
        let host = Host { bytes, bus: self.bus };
        let (frame, header) = (self.bus + 64, self.space.header_bytes as u64);
        match self.format {
            SglFormat::Ieee64 => host.decode_ieee(frame, header, encoded.chain_offset),
            mpi => {
                let wide = mpi == SglFormat::Mpi64;
                host.decode_mpi(wide, frame, header, encoded.chain_offset, data_length)
            }
        }
    }

    /// Whether everything but the list's room in the frame and `chains` chain frames is as it was.
    fn guards_hold(&self, bytes: &[u8], chains: u32) -> bool {
        let space = &self.space;
        let frame = space.sgl_offset..space.sgl_offset + space.frame_sgl_bytes;
        let used = space.chain_bytes * chains as usize;
        let chains = space.chain_offset..space.chain_offset + used;
        bytes
            .iter()
            .enumerate()
            .all(|(at, &byte)| byte == FILL || frame.contains(&at) || chains.contains(&at))
    }
}

fn formats() -> impl Strategy<Value = SglFormat> {
    prop_oneof![Just(SglFormat::Mpi32), Just(SglFormat::Mpi64), Just(SglFormat::Ieee64)]
}

fn arenas() -> impl Strategy<Value = Arena> {
    let chains = prop_oneof![9 => 0..40_usize, 1 => 60..320_usize];
    let frames = prop_oneof![9 => 4..60_usize, 1 => 200..1200_usize];
    (formats(), any::<bool>(), frames, chains, 0..5_usize).prop_map(
        |(format, old, frame, chain, count)| match format {
            SglFormat::Ieee64 => Arena::new(format, 0x60, frame * 4 + 12, chain * 16, count),
            _ => Arena::new(format, if old { 0x30 } else { 0x60 }, frame * 4, chain * 8, count),
        },
    )
}

fn lengths() -> impl Strategy<Value = u32> {
    prop_oneof![
        2 => Just(0),
        2 => Just(1),
        8 => 2..70_000_u32,
        8 => Just(4096),
        1 => Just(0x00ff_ffff),
        1 => Just(0x0100_0000),
        1 => 0x0100_0001..0x0400_0000_u32,
    ]
}

prop_compose! {
    /// An arena and a list that may just fit, or just not.
    fn jobs()(arena in arenas())(
        count in prop_oneof![
            0..3_usize,
            0..=arena.space.capacity(arena.format) + 2,
            arena.space.capacity(arena.format)..=arena.space.capacity(arena.format) + 1,
        ],
        plain in any::<bool>(),
        seeds in prop::collection::vec((any::<u64>(), lengths()), 1..40),
        arena in Just(arena),
    ) -> (Arena, Vec<Segment>) {
        let segments = seeds.iter().cycle().take(count).enumerate().map(|(index, &(seed, length))| {
            // Half the lists have nothing that is split or skipped, to meet the limits exactly.
            let length = if plain { length.clamp(1, 4096) } else { length };
            let seed = seed.wrapping_add((index as u64) << 13);
            let address = match arena.format {
                SglFormat::Mpi32 => seed % ((1 << 32) - u64::from(length) + 1),
                _ => seed % ((1 << 63) - u64::from(length) + 1),
            };
            Segment { address: BusAddr(address), length }
        });
        (arena.clone(), segments.collect())
    }
}

/// Elements that a segment takes, counted one boundary after another.
fn elements_of(segment: &Segment, limit: u64) -> u64 {
    let (mut at, end) = (segment.address.0, segment.address.0 + u64::from(segment.length));
    let mut elements = 0;
    while at < end {
        at = if end - at <= limit { end } else { (at + limit) / 4096 * 4096 };
        elements += 1;
    }
    elements
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn the_controller_reads_back_the_same_bytes_in_the_same_order(
        (arena, segments) in jobs(),
        write in any::<bool>(),
        limit in prop_oneof![Just(u32::MAX), Just(0x1_0000), 0..0x2_0000_u32],
    ) {
        let total: u64 = segments.iter().map(|segment| u64::from(segment.length)).sum();
        prop_assume!(total <= u64::from(u32::MAX));
        let data_length = total as u32;
        let direction = if write { Direction::Write } else { Direction::Read };
        let limit = ElementLimit::new(limit);
        let room = arena.space.capacity(arena.format) as u64;
        let needed: u64 = segments
            .iter()
            .map(|segment| elements_of(segment, u64::from(limit.get())))
            .sum();

        let (result, bytes) = arena.encode(&segments, direction, data_length, limit);
        if room == 0 {
            prop_assert_eq!(result, Err(SglError::SpaceUnusable));
            prop_assert!(bytes.iter().all(|&byte| byte == FILL));
            return Ok(());
        }
        if needed > room {
            let (needed, room) = (needed as u32, room as u32);
            prop_assert_eq!(result, Err(SglError::TooManySegments { needed, room }));
            prop_assert!(bytes.iter().all(|&byte| byte == FILL));
            return Ok(());
        }
        let encoded = result.unwrap();
        let decoded = arena.decode(&bytes, &encoded, data_length);
        prop_assert!(decoded.is_ok(), "{:?}", decoded);
        let decoded = decoded.unwrap();
        prop_assert_eq!(u64::from(encoded.elements), needed.max(1));
        prop_assert_eq!(decoded.ranges.len() as u64, needed);
        prop_assert_eq!(decoded.chains, encoded.chains_used);
        prop_assert!(decoded.ranges.iter().all(|range| range.1 <= u64::from(limit.get())));
        if arena.format != SglFormat::Ieee64 {
            prop_assert_eq!(decoded.to_controller, write && data_length != 0);
        }
        let given = segments.iter().map(|segment| (segment.address.0, u64::from(segment.length)));
        prop_assert_eq!(merged(decoded.ranges), merged(given));
        prop_assert!(arena.guards_hold(&bytes, encoded.chains_used));
    }

    #[test]
    fn a_length_that_the_segments_do_not_add_up_to_writes_nothing(
        (arena, segments) in jobs(),
        wrong in any::<u32>(),
    ) {
        let listed: u64 = segments.iter().map(|segment| u64::from(segment.length)).sum();
        prop_assume!(listed != u64::from(wrong) && arena.space.capacity(arena.format) > 0);
        let (result, bytes) = arena.encode(&segments, Direction::Read, wrong, ElementLimit::MAX);
        prop_assert_eq!(result, Err(SglError::LengthMismatch { declared: wrong, listed }));
        prop_assert!(bytes.iter().all(|&byte| byte == FILL));
    }
}

fn segment(address: u64, length: u32) -> Segment {
    Segment { address: BusAddr(address), length }
}

/// The bytes of the list in the frame.
fn in_frame<'a>(arena: &Arena, bytes: &'a [u8], count: usize) -> &'a [u8] {
    &bytes[arena.space.sgl_offset..][..count]
}

#[test]
fn one_segment_is_one_element_byte_for_byte() {
    let one = [segment(0x0011_2233, 0x0004_5678)];
    let cases: [(SglFormat, Direction, &[u8]); 4] = [
        (SglFormat::Mpi32, Direction::Read, &[0x78, 0x56, 0x04, 0xd1, 0x33, 0x22, 0x11, 0]),
        (
            SglFormat::Mpi64,
            Direction::Read,
            &[0x78, 0x56, 4, 0xd3, 0x33, 0x22, 0x11, 0, 0, 0, 0, 0],
        ),
        (
            SglFormat::Mpi64,
            Direction::Write,
            &[0x78, 0x56, 4, 0xd7, 0x33, 0x22, 0x11, 0, 0, 0, 0, 0],
        ),
        (
            SglFormat::Ieee64,
            Direction::Write,
            &[0x33, 0x22, 0x11, 0, 0, 0, 0, 0, 0x78, 0x56, 4, 0, 0, 0, 0, 0x40],
        ),
    ];
    for (format, direction, expected) in cases {
        let arena = Arena::new(format, 0x60, 32, 128, 1);
        let (result, bytes) = arena.encode(&one, direction, 0x0004_5678, ElementLimit::MAX);
        assert_eq!(result, Ok(Encoded { chain_offset: 0, chains_used: 0, elements: 1 }));
        assert_eq!(in_frame(&arena, &bytes, expected.len()), expected, "{format:?} {direction:?}");
    }
}

#[test]
fn a_command_without_data_still_has_one_empty_element() {
    let cases: [(SglFormat, &[u8]); 3] = [
        (SglFormat::Mpi32, &[0, 0, 0, 0xd1, 0, 0, 0, 0]),
        (SglFormat::Mpi64, &[0, 0, 0, 0xd3, 0, 0, 0, 0, 0, 0, 0, 0]),
        (SglFormat::Ieee64, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40]),
    ];
    for (format, expected) in cases {
        let arena = Arena::new(format, 0x60, 16, 0, 0);
        for segments in [&[][..], &[segment(0x1000, 0)]] {
            let (result, bytes) = arena.encode(segments, Direction::Write, 0, ElementLimit::MAX);
            assert_eq!(result, Ok(Encoded { chain_offset: 0, chains_used: 0, elements: 1 }));
            assert_eq!(in_frame(&arena, &bytes, expected.len()), expected, "{format:?}");
        }
    }
}

#[test]
fn an_mpi_chain_is_announced_in_dwords_and_counts_its_own_chain_element() {
    // Two slots in the frame, three in a chain frame: 1 + 2 + 3 elements.
    let arena = Arena::new(SglFormat::Mpi64, 0x60, 32, 40, 2);
    let segments: Vec<_> = (1..=6).map(|n| segment(n << 16, 0x200)).collect();
    let (result, bytes) = arena.encode(&segments, Direction::Read, 6 * 0x200, ElementLimit::MAX);
    let chain_offset = (0x60 + 12) / 4;
    assert_eq!(result, Ok(Encoded { chain_offset, chains_used: 2, elements: 6 }));
    let first = arena.bus + arena.space.chain_offset as u64;
    let mut frame = vec![0, 2, 0, 0x92, 0, 0, 1, 0, 0, 0, 0, 0];
    frame.extend([36, 0, 24 / 4, 0x32]);
    frame.extend(first.to_le_bytes());
    assert_eq!(in_frame(&arena, &bytes, 24), frame);
    let second = &bytes[arena.space.chain_offset + 24..][..12];
    assert_eq!(second[..4], [36, 0, 0, 0x32]);
    assert_eq!(second[4..], (first + 40).to_le_bytes());
}

#[test]
fn an_ieee_chain_is_announced_in_units_of_16_bytes() {
    let arena = Arena::new(SglFormat::Ieee64, 0x60, 32, 48, 2);
    let segments: Vec<_> = (1..=6).map(|n| segment(n << 16, 0x200)).collect();
    let (result, bytes) = arena.encode(&segments, Direction::Read, 6 * 0x200, ElementLimit::MAX);
    assert_eq!(result, Ok(Encoded { chain_offset: 7, chains_used: 2, elements: 6 }));
    let first = arena.bus + arena.space.chain_offset as u64;
    let chain = &in_frame(&arena, &bytes, 32)[16..];
    assert_eq!(chain[..8], first.to_le_bytes());
    assert_eq!(chain[8..], [48, 0, 0, 0, 0, 0, 2, 0x80]);
    let chain = &bytes[arena.space.chain_offset + 32..][..16];
    assert_eq!(chain[..8], (first + 48).to_le_bytes());
    assert_eq!(chain[8..], [48, 0, 0, 0, 0, 0, 0, 0x80]);
}

#[test]
fn a_segment_above_the_limit_is_split_on_page_boundaries() {
    for format in [SglFormat::Mpi64, SglFormat::Ieee64] {
        let arena = Arena::new(format, 0x60, 64, 0, 0);
        let segments = [segment(0x1_0000_0200, 0x0180_0000)];
        let (result, bytes) =
            arena.encode(&segments, Direction::Read, 0x0180_0000, ElementLimit::MAX);
        let ranges = arena.decode(&bytes, &result.unwrap(), 0x0180_0000).unwrap().ranges;
        assert_eq!(ranges, [(0x1_0000_0200, 0xff_fe00), (0x1_0100_0000, 0x80_0200)]);
        // One byte below the field's end is still one element.
        let segments = [segment(0x1_0000_0200, 0x00ff_ffff)];
        let (result, _) = arena.encode(&segments, Direction::Read, 0x00ff_ffff, ElementLimit::MAX);
        assert_eq!(result.unwrap().elements, 1);
    }
}

#[test]
fn addresses_out_of_the_formats_reach_are_refused_and_nothing_is_written() {
    let at = |address| SglError::AddressAbove4GiB { address: BusAddr(address) };
    let high = |address| SglError::AddressTooHigh { address: BusAddr(address) };
    let cases = [
        (SglFormat::Mpi32, 0xffff_f000, 4096, Ok(())),
        (SglFormat::Mpi32, 0xffff_f000, 4097, Err(at(0xffff_f000))),
        (SglFormat::Mpi32, 1 << 32, 1, Err(at(1 << 32))),
        (SglFormat::Mpi32, u64::MAX, 2, Err(at(u64::MAX))),
        (SglFormat::Mpi64, (1 << 63) - 512, 512, Ok(())),
        (SglFormat::Mpi64, (1 << 63) - 512, 513, Err(high((1 << 63) - 512))),
        (SglFormat::Ieee64, (1 << 63) - 512, 512, Ok(())),
        (SglFormat::Ieee64, 1 << 63, 1, Err(high(1 << 63))),
        (SglFormat::Ieee64, u64::MAX, 1, Err(high(u64::MAX))),
        (SglFormat::Ieee64, u64::MAX, 2, Err(high(u64::MAX))),
    ];
    for (format, address, length, expected) in cases {
        let arena = Arena::new(format, 0x60, 32, 128, 1);
        for extra in [0, 1] {
            let segments = [segment(address, length), segment(0x1000, extra)];
            let segments = &segments[..1 + extra as usize];
            let (result, bytes) =
                arena.encode(segments, Direction::Read, length + extra, ElementLimit::MAX);
            assert_eq!(result.map(drop), expected, "{format:?} {address:#x}+{length:#x}");
            assert!(result.is_ok() || bytes.iter().all(|&byte| byte == FILL));
        }
    }
}

#[test]
fn a_chain_frame_above_4_gib_is_refused_where_addresses_are_32_bits() {
    let mut arena = Arena::new(SglFormat::Mpi32, 0x30, 16, 128, 1);
    arena.bus = (1 << 32) - arena.space.chain_offset as u64 - 64;
    let segments = [segment(0x1000, 1), segment(0x3000, 1), segment(0x5000, 1)];
    let (result, bytes) = arena.encode(&segments, Direction::Read, 3, ElementLimit::MAX);
    assert_eq!(result, Err(SglError::AddressAbove4GiB { address: BusAddr((1 << 32) - 64) }));
    assert!(bytes.iter().all(|&byte| byte == FILL));
    // Without a chain its address does not matter.
    assert!(arena.encode(&segments[..2], Direction::Read, 2, ElementLimit::MAX).0.is_ok());
}

#[test]
fn a_space_that_breaks_its_promises_is_refused_and_nothing_is_written() {
    let sound = Arena::new(SglFormat::Ieee64, 0x60, 32, 128, 2);
    let space = sound.space;
    assert_eq!(space.check(SglFormat::Ieee64, sound.bytes), Ok(()));
    let broken = [
        SglSpace { sgl_offset: space.sgl_offset + 4, ..space },
        SglSpace { sgl_offset: usize::MAX & !15, ..space },
        SglSpace { header_bytes: 0x58, ..space },
        SglSpace { frame_sgl_bytes: 15, ..space },
        SglSpace { chain_offset: space.chain_offset + 8, ..space },
        SglSpace { chain_bytes: 120, ..space },
        SglSpace { chain_count: 3, ..space },
        SglSpace { chain_count: usize::MAX, ..space },
    ];
    let segments = [segment(0x1000, 1), segment(0x3000, 1)];
    for space in broken {
        let arena = Arena { space, ..sound.clone() };
        let (result, bytes) = arena.encode(&segments, Direction::Read, 2, ElementLimit::MAX);
        assert_eq!(result, Err(SglError::SpaceUnusable), "{space:?}");
        assert!(bytes.iter().all(|&byte| byte == FILL));
    }
    // The short way for one segment minds what it depends on.
    for sgl_offset in [space.sgl_offset + 4, sound.bytes - 8, sound.bytes, usize::MAX & !15] {
        let arena = Arena { space: SglSpace { sgl_offset, ..space }, ..sound.clone() };
        let (result, _) = arena.encode(&segments[..1], Direction::Read, 1, ElementLimit::MAX);
        assert_eq!(result, Err(SglError::SpaceUnusable), "{sgl_offset:#x}");
    }
}

#[test]
fn capacities_are_those_of_known_controllers() {
    // SAS2008: 128-byte frames, chains of the same size.
    assert_eq!(elements_capacity(SglFormat::Mpi64, 0x60, 32, 128, 0), 2);
    assert_eq!(elements_capacity(SglFormat::Mpi64, 0x60, 32, 128, 1), 1 + 10);
    assert_eq!(elements_capacity(SglFormat::Mpi64, 0x60, 32, 128, 3), 1 + 9 + 9 + 10);
    // SAS3008: the same with IEEE elements, eight to a frame.
    assert_eq!(elements_capacity(SglFormat::Ieee64, 0x60, 32, 128, 2), 1 + 7 + 8);
    // QEMU's SAS1068: 512-byte frames.
    assert_eq!(elements_capacity(SglFormat::Mpi64, 0x30, 464, 512, 1), 37 + 42);
    assert_eq!(elements_capacity(SglFormat::Mpi32, 0x30, 464, 512, 1), 57 + 64);
    // One slot cannot chain: the chain element must follow a simple one.
    assert_eq!(elements_capacity(SglFormat::Mpi64, 0x60, 16, 128, 4), 1);
    assert_eq!(elements_capacity(SglFormat::Ieee64, 0x60, 8, 128, 4), 0);
    // The offset byte reaches 255 units: slot 255 of 16 bytes, slot 85 of 12.
    assert_eq!(elements_capacity(SglFormat::Ieee64, 0x60, 32, 8192, 1), 1 + 256);
    assert_eq!(elements_capacity(SglFormat::Mpi64, 0x60, 32, 8192, 1), 1 + 86);
}

#[test]
fn errors_say_what_to_do_next() {
    let text = SglError::TooManySegments { needed: 40, room: 20 }.to_string();
    assert!(text.contains("40") && text.contains("20") && text.contains("smaller"));
    let text = SglError::AddressAbove4GiB { address: BusAddr(0x1_0000_0000) }.to_string();
    assert!(text.contains("0x100000000") && text.contains("map it lower"));
}
