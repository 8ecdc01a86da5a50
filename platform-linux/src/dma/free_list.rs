//! Which parts of a range are free: first fit, whole cache lines, neighbours joined.

use std::collections::BTreeMap;
use std::ops::Range;

/// Everything is handed out in multiples of this many bytes, so that no two pieces share a cache
/// line, and a piece starts at a multiple of it.
pub(crate) const GRAIN: u64 = 64;

/// The high half of most addresses is told to the controller once: nothing may cross a boundary of
/// this many bytes (controllers.md 2.5).
pub(crate) const WINDOW: u64 = 1 << 32;

/// The free parts of a range of bus addresses.
#[derive(Clone, Debug)]
pub(crate) struct FreeList {
    /// Start to length, no two touching.
    parts: BTreeMap<u64, u64>,
}

impl FreeList {
    /// All of `range`, which starts and ends at multiples of [`GRAIN`], is free.
    pub(crate) fn new(range: Range<u64>) -> Self {
        let bytes = range.end.saturating_sub(range.start);
        let parts =
            if bytes > 0 { BTreeMap::from([(range.start, bytes)]) } else { BTreeMap::new() };
        Self { parts }
    }

    /// The lowest place for `bytes` bytes, at a multiple of `alignment` (a power of two), that
    /// crosses no boundary of a [`WINDOW`].
    pub(crate) fn find(&self, bytes: u64, alignment: u64) -> Option<u64> {
        let bytes = bytes.max(1).checked_next_multiple_of(GRAIN)?;
        let alignment = alignment.max(GRAIN);
        self.parts.iter().find_map(|(start, free)| {
            let end = start + free;
            let mut at = start.checked_next_multiple_of(alignment)?;
            let last = at.checked_add(bytes - 1)?;
            if at / WINDOW != last / WINDOW {
                at = (last / WINDOW * WINDOW).checked_next_multiple_of(alignment)?;
                let last = at.checked_add(bytes - 1)?;
                if at / WINDOW != last / WINDOW {
                    return None;
                }
            }
            (at.checked_add(bytes)? <= end).then_some(at)
        })
    }

    /// Takes `bytes` bytes at `at`, a place that [`FreeList::find`] has just named.
    pub(crate) fn take(&mut self, at: u64, bytes: u64) {
        let bytes = bytes.max(1).next_multiple_of(GRAIN);
        let Some((&start, &free)) = self.parts.range(..=at).next_back() else { return };
        if at + bytes > start + free {
            return;
        }
        self.parts.remove(&start);
        if at > start {
            self.parts.insert(start, at - start);
        }
        if start + free > at + bytes {
            self.parts.insert(at + bytes, start + free - (at + bytes));
        }
    }

    /// Takes back what was taken.
    pub(crate) fn give_back(&mut self, at: u64, bytes: u64) {
        let mut start = at;
        let mut bytes = bytes.max(1).next_multiple_of(GRAIN);
        if let Some((&before, &free)) = self.parts.range(..at).next_back()
            && before + free == at
        {
            self.parts.remove(&before);
            start = before;
            bytes += free;
        }
        if let Some(behind) = self.parts.remove(&(start + bytes)) {
            bytes += behind;
        }
        self.parts.insert(start, bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = WINDOW - 0x8000;
    const END: u64 = WINDOW + 0x2_0000;

    #[test]
    fn a_piece_that_would_cross_4_gib_starts_behind_it() {
        let list = FreeList::new(START..END);
        assert_eq!(list.find(0x8000, 64), Some(START));
        assert_eq!(list.find(0x8001, 64), Some(WINDOW));
        assert_eq!(list.find(0x2_0001, 64), None);
    }

    #[test]
    fn what_is_too_long_for_any_window_is_not_found() {
        let list = FreeList::new(0..4 * WINDOW);
        assert_eq!(list.find(WINDOW, 64), Some(0));
        assert_eq!(list.find(WINDOW + 1, 64), None);
        assert_eq!(list.find(u64::MAX, 64), None);
    }

    proptest! {
        /// Whatever is asked for in whatever order: pieces are aligned, inside, cross no boundary,
        /// overlap nobody, and when all is given back the range is whole again.
        #[test]
        fn pieces_never_overlap_and_the_whole_comes_back(
            steps in prop::collection::vec((1_u64..0x6000, 6_u32..14, any::<bool>(), any::<prop::sample::Index>()), 1..60),
        ) {
            let mut list = FreeList::new(START..END);
            let mut held: Vec<(u64, u64)> = Vec::new();
            for (bytes, shift, give_back, which) in steps {
                if give_back && !held.is_empty() {
                    let (at, bytes) = held.swap_remove(which.index(held.len()));
                    list.give_back(at, bytes);
                    continue;
                }
                let alignment = 1 << shift;
                let Some(at) = list.find(bytes, alignment) else { continue };
                list.take(at, bytes);
                prop_assert!(at.is_multiple_of(alignment));
                prop_assert!(at >= START && at + bytes <= END);
                prop_assert_eq!(at / WINDOW, (at + bytes - 1) / WINDOW);
                for (other, length) in &held {
                    prop_assert!(at + bytes <= *other || other + length <= at);
                }
                held.push((at, bytes));
            }
            for (at, bytes) in held {
                list.give_back(at, bytes);
            }
            prop_assert_eq!(list.parts, BTreeMap::from([(START, END - START)]));
        }
    }
}
