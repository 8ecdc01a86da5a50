//! Which I/O virtual addresses are ours to use.

use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::ioctl::{Updater, ioctl, opcode};
use vfio_ioctls::VfioContainer;

use crate::dma::HUGEPAGE;

/// `VFIO_IOMMU_GET_INFO` (linux/vfio.h): type ';', number 100 + 12.
const GET_INFO: rustix::ioctl::Opcode = opcode::none(b';', 112);
/// Bytes of the answer that there is room for: its capabilities are a few dozen.
const ANSWER: usize = 4096;

/// Where answers and capabilities keep what (`struct vfio_iommu_type1_info` and
/// `vfio_iommu_type1_info_cap_iova_range`).
mod at {
    /// Set when capabilities follow.
    pub(super) const CAPABILITIES: u32 = 1 << 1;
    pub(super) const FLAGS: usize = 4;
    pub(super) const FIRST_CAPABILITY: usize = 16;
    /// Id of the list of ranges that are valid.
    pub(super) const IOVA_RANGES: u16 = 1;
    pub(super) const NEXT: usize = 4;
    pub(super) const COUNT: usize = 8;
    pub(super) const RANGES: usize = 16;
}

/// The interrupts of x86 are writes to this window; no memory can be mapped over it.
const INTERRUPT_WINDOW: Range<u64> = 0xfee0_0000..0xfef0_0000;
const FOUR_GIB: u64 = 1 << 32;
/// Nothing is put at the bottom, where an address of zero, which firmware may take for none, would be.
const LOWEST: u64 = 16 << 20;

/// The ranges that the kernel lets be mapped; what there was before kernel 5.4, which does not say,
/// is assumed to be everything beside the interrupts.
pub(super) fn valid_ranges(container: &VfioContainer) -> Vec<Range<u64>> {
    let mut answer = [0_u32; ANSWER / 4];
    answer[0] = ANSWER as u32;
    // SAFETY: the descriptor is the container's own and open.
    let fd = unsafe { BorrowedFd::borrow_raw(container.as_raw_fd()) };
    // SAFETY: the request writes no more than the length that the first word gives.
    let request = unsafe { Updater::<GET_INFO, _>::new(&mut answer) };
    // SAFETY: as above; the request takes a pointer to the answer.
    let asked = unsafe { ioctl(fd, request) };
    let bytes: Vec<u8> = answer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let told = asked.ok().and_then(|()| parse(&bytes)).unwrap_or_default();
    if told.is_empty() {
        vec![0..INTERRUPT_WINDOW.start, INTERRUPT_WINDOW.end..u64::MAX]
    } else {
        told
    }
}

/// The list of valid ranges in an answer.
fn parse(answer: &[u8]) -> Option<Vec<Range<u64>>> {
    let u16_at = |at: usize| Some(u16::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    let u32_at = |at: usize| Some(u32::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    if u32_at(at::FLAGS)? & at::CAPABILITIES == 0 {
        return None;
    }
    let mut capability = u32_at(at::FIRST_CAPABILITY)? as usize;
    // Each is at least its header of 8 bytes: a list that goes round ends.
    for _ in 0..answer.len() / 8 {
        if capability == 0 {
            return None;
        }
        if u16_at(capability)? == at::IOVA_RANGES {
            let count = u32_at(capability + at::COUNT)? as usize;
            let ranges = (0..count).map_while(|index| {
                let entry = capability + at::RANGES + index * 16;
                // The kernel names the last address, not the one behind.
                Some(u64_at(entry)?..u64_at(entry + 8)?.saturating_add(1))
            });
            return Some(ranges.collect());
        }
        capability = u32_at(capability + at::NEXT)? as usize;
    }
    None
}

/// The window that the pool's addresses come from: the longest part of the valid ranges below 4 GiB,
/// where every controller can look; if there is none, the longest in any window of 4 GiB.
pub(super) fn window(ranges: &[Range<u64>]) -> Option<Range<u64>> {
    let within = |limits: Range<u64>| {
        let parts = ranges.iter().filter_map(|range| {
            let start = range.start.max(limits.start).checked_next_multiple_of(HUGEPAGE as u64)?;
            let end = range.end.min(limits.end) & !(HUGEPAGE as u64 - 1);
            (start < end).then_some(start..end)
        });
        parts.max_by_key(|part| part.end - part.start)
    };
    within(LOWEST..INTERRUPT_WINDOW.start).or_else(|| {
        let windows = ranges.iter().filter_map(|range| {
            let first = range.start.max(FOUR_GIB) & !(FOUR_GIB - 1);
            within(first..first.checked_add(FOUR_GIB)?)
        });
        windows.max_by_key(|part| part.end - part.start)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer as the kernel gives it: another capability first, then the ranges.
    fn answer(ranges: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; 256];
        bytes[at::FLAGS..][..4].copy_from_slice(&3_u32.to_ne_bytes());
        bytes[at::FIRST_CAPABILITY..][..4].copy_from_slice(&32_u32.to_ne_bytes());
        bytes[32..34].copy_from_slice(&2_u16.to_ne_bytes());
        bytes[36..40].copy_from_slice(&64_u32.to_ne_bytes());
        bytes[64..66].copy_from_slice(&1_u16.to_ne_bytes());
        bytes[72..76].copy_from_slice(&(ranges.len() as u32).to_ne_bytes());
        for (index, (first, last)) in ranges.iter().enumerate() {
            bytes[80 + index * 16..][..8].copy_from_slice(&first.to_ne_bytes());
            bytes[88 + index * 16..][..8].copy_from_slice(&last.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn the_ranges_of_an_answer_are_found_behind_other_capabilities() {
        let answer = answer(&[(0, 0xfedf_ffff), (0xfef0_0000, u64::MAX)]);
        assert_eq!(parse(&answer), Some(vec![0..0xfee0_0000, 0xfef0_0000..u64::MAX]));
    }

    #[test]
    fn an_answer_without_capabilities_says_nothing() {
        assert_eq!(parse(&[0; 24]), None);
        assert_eq!(parse(&[]), None);
    }

    #[test]
    fn the_window_is_below_4_gib_and_clear_of_the_interrupts() {
        let usual = [0..0xfee0_0000, 0xfef0_0000..1 << 39];
        assert_eq!(window(&usual), Some(LOWEST..0xfee0_0000));
        let whole = 0..1 << 48;
        assert_eq!(window(std::slice::from_ref(&whole)), Some(LOWEST..0xfee0_0000));
        let hole = [0..0x200_0000, 0x8000_0000..0x9000_0000];
        assert_eq!(window(&hole), Some(0x8000_0000..0x9000_0000));
    }

    #[test]
    fn where_nothing_is_low_a_window_above_is_taken_whole() {
        let high = (5 << 32) + 4096..7 << 32;
        let found = window(std::slice::from_ref(&high)).unwrap();
        assert_eq!(found, (5 << 32) + (2 << 20)..6 << 32);
        assert_eq!(window(&[]), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_window_lies_in_a_valid_range_and_crosses_no_4_gib(
            ranges in prop::collection::vec((0_u64..1 << 40, 0_u64..1 << 36), 0..6),
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(start, bytes)| start..start + bytes).collect();
            if let Some(found) = window(&ranges) {
                prop_assert!(found.start < found.end);
                prop_assert!(ranges.iter().any(|range| range.start <= found.start && found.end <= range.end));
                prop_assert_eq!(found.start >> 32, (found.end - 1) >> 32);
            }
        }
    }
}
