//! Which hugepages lie next to each other in physical memory.

use crate::dma::HUGEPAGE;
use crate::dma::free_list::WINDOW;

/// Hugepages next to each other: where they begin, and which of the file's they are, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Neighbours {
    /// Physical address of the first.
    pub(super) at: u64,
    /// Indices of the pages in the file.
    pub(super) pages: Vec<usize>,
}

impl Neighbours {
    /// Bytes of all of them.
    pub(super) const fn bytes(&self) -> usize {
        self.pages.len() * HUGEPAGE
    }
}

/// Sorts pages, given by their physical addresses in the order in which they are in the file, into
/// neighbours. None cross a boundary of 4 GiB, which the controller cannot.
pub(super) fn sort(addresses: &[u64]) -> Vec<Neighbours> {
    let mut order: Vec<usize> = (0..addresses.len()).collect();
    order.sort_by_key(|page| addresses[*page]);
    let mut runs: Vec<Neighbours> = Vec::new();
    for page in order {
        let at = addresses[page];
        match runs.last_mut() {
            Some(run) if run.at + run.bytes() as u64 == at && !at.is_multiple_of(WINDOW) => {
                run.pages.push(page);
            }
            _ => runs.push(Neighbours { at, pages: vec![page] }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = HUGEPAGE as u64;

    #[test]
    fn neighbours_are_joined_in_whatever_order_they_came() {
        let runs = sort(&[12 * PAGE, 3 * PAGE, 11 * PAGE, 13 * PAGE]);
        assert_eq!(
            runs,
            [
                Neighbours { at: 3 * PAGE, pages: vec![1] },
                Neighbours { at: 11 * PAGE, pages: vec![2, 0, 3] },
            ]
        );
    }

    #[test]
    fn neighbours_across_4_gib_stay_apart() {
        let runs = sort(&[WINDOW - PAGE, WINDOW]);
        assert_eq!(runs.len(), 2);
        assert_eq!(sort(&[]), []);
    }

    proptest! {
        #[test]
        fn every_page_is_in_one_run_at_its_own_address(
            pages in prop::collection::hash_set(0_u64..5000, 0..60),
        ) {
            let addresses: Vec<u64> = pages.into_iter().map(|page| page * PAGE).collect();
            let runs = sort(&addresses);
            let mut seen = vec![0; addresses.len()];
            for run in &runs {
                for (index, page) in run.pages.iter().enumerate() {
                    prop_assert_eq!(addresses[*page], run.at + index as u64 * PAGE);
                    seen[*page] += 1;
                }
                prop_assert_eq!(run.at / WINDOW, (run.at + run.bytes() as u64 - 1) / WINDOW);
            }
            prop_assert!(seen.iter().all(|times| *times == 1));
            for pair in runs.windows(2) {
                let end = pair[0].at + pair[0].bytes() as u64;
                prop_assert!(end < pair[1].at || (end == pair[1].at && end.is_multiple_of(WINDOW)));
            }
        }
    }
}
