//! Bytes in memory: pages in a tree of fixed depth, as a processor's page tables are.
//!
//! Every node fans out 512 ways, so that a byte's page is found with four dependent loads and no
//! search, and a random write into a huge disk costs two pages, not a big extent.

use super::{PAGE, Page};

const FAN: usize = 512;
const FAN_BITS: u32 = 9;
const PAGE_BITS: u32 = 12;
/// Pages below one entry of the root: 512 GiB.
const ROOT_BITS: u32 = 3 * FAN_BITS;

static ZEROS: Page = [0; PAGE];

#[derive(Debug)]
struct Node<T>([Option<Box<T>>; FAN]);

impl<T> Default for Node<T> {
    fn default() -> Self {
        Node([const { None }; FAN])
    }
}

type Table = Node<Page>;
type Directory = Node<Table>;
type Root = Node<Directory>;

/// A sparse array of pages; a page that is not there is zeros.
#[derive(Debug, Default)]
pub(super) struct MemoryMedium {
    /// Grows to the highest entry written.
    roots: Vec<Option<Box<Root>>>,
}

/// The 9 bits of a page's number that choose an entry, `level` levels above the page.
fn entry(page: u64, level: u32) -> usize {
    (page >> (level * FAN_BITS)) as usize & (FAN - 1)
}

impl MemoryMedium {
    fn page(&self, page: u64) -> Option<&Page> {
        let root = self.roots.get((page >> ROOT_BITS) as usize)?.as_deref()?;
        let directory = root.0[entry(page, 2)].as_deref()?;
        let table = directory.0[entry(page, 1)].as_deref()?;
        table.0[entry(page, 0)].as_deref()
    }

    fn page_mut(&mut self, page: u64) -> &mut Page {
        let top = (page >> ROOT_BITS) as usize;
        if self.roots.len() <= top {
            self.roots.resize_with(top + 1, || None);
        }
        let root = self.roots[top].get_or_insert_default();
        let directory = root.0[entry(page, 2)].get_or_insert_default();
        let table = directory.0[entry(page, 1)].get_or_insert_default();
        table.0[entry(page, 0)].get_or_insert_with(|| Box::new([0; PAGE]))
    }

    fn drop_page(&mut self, page: u64) {
        if let Some(Some(root)) = self.roots.get_mut((page >> ROOT_BITS) as usize)
            && let Some(directory) = &mut root.0[entry(page, 2)]
            && let Some(table) = &mut directory.0[entry(page, 1)]
        {
            table.0[entry(page, 0)] = None;
        }
    }

    /// Hands out the bytes at `offset`, page by page, until `sink` fails; it is given how many
    /// bytes came before.
    pub(super) fn read_with<E>(
        &self,
        offset: u64,
        length: u64,
        mut sink: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut moved = 0;
        for (page, within) in pages(offset, length) {
            let bytes = within.len() as u64;
            sink(moved, &self.page(page).unwrap_or(&ZEROS)[within])?;
            moved += bytes;
        }
        Ok(())
    }

    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) {
        let mut rest = bytes;
        for (page, within) in pages(offset, rest.len() as u64) {
            let (piece, after) = rest.split_at_mut(within.len());
            match self.page(page) {
                Some(data) => piece.copy_from_slice(&data[within]),
                None => piece.fill(0),
            }
            rest = after;
        }
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut rest = bytes;
        for (page, within) in pages(offset, bytes.len() as u64) {
            let (piece, after) = rest.split_at(within.len());
            self.page_mut(page)[within].copy_from_slice(piece);
            rest = after;
        }
    }

    /// Has `fill` write the bytes at `offset`, page by page, into the pages themselves. It is given
    /// how many bytes came before.
    pub(super) fn write_with<E>(
        &mut self,
        offset: u64,
        length: u64,
        mut fill: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut moved = 0;
        for (page, within) in pages(offset, length) {
            let bytes = within.len() as u64;
            fill(moved, &mut self.page_mut(page)[within])?;
            moved += bytes;
        }
        Ok(())
    }

    /// Frees the whole pages of the range and zeroes the parts at its ends.
    pub(super) fn clear(&mut self, offset: u64, length: u64) {
        let end = offset + length;
        let mut at = offset;
        while let Some((start, stop)) = self.next_data(at, end) {
            for (page, within) in pages(start, stop - start) {
                if within.len() == PAGE {
                    self.drop_page(page);
                } else {
                    self.page_mut(page)[within].fill(0);
                }
            }
            at = stop;
        }
    }

    /// The part of the first page at or after `offset` that is allocated and starts below `end`.
    pub(super) fn next_data(&self, offset: u64, end: u64) -> Option<(u64, u64)> {
        if offset >= end {
            return None;
        }
        let mut page = offset >> PAGE_BITS;
        let last = (end - 1) >> PAGE_BITS;
        while page <= last {
            // A missing node stands for so many absent pages: go on behind all of them.
            let level = match self.missing_level(page)? {
                0 => {
                    let start = page << PAGE_BITS;
                    return Some((start.max(offset), end.min(start.saturating_add(PAGE as u64))));
                }
                level => level - 1,
            };
            let step = level * FAN_BITS;
            page = ((page >> step) + 1) << step;
        }
        None
    }

    /// 0 when the page is there, else 1 + the level of the entry that is missing; `None` when
    /// nothing is allocated at or after the page's root.
    fn missing_level(&self, page: u64) -> Option<u32> {
        let level = match self.roots.get((page >> ROOT_BITS) as usize)? {
            None => 4,
            Some(root) => match &root.0[entry(page, 2)] {
                None => 3,
                Some(directory) => match &directory.0[entry(page, 1)] {
                    None => 2,
                    Some(table) => match &table.0[entry(page, 0)] {
                        None => 1,
                        Some(_) => 0,
                    },
                },
            },
        };
        Some(level)
    }
}

/// The pages that a range touches, each with the part of it that the range covers.
pub(super) fn pages(
    offset: u64,
    length: u64,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    // A page part may reach past the last byte that an offset can name.
    let end = offset.saturating_add(length);
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let within = at as usize & (PAGE - 1);
        let taken = (PAGE - within).min(usize::try_from(end - at).unwrap_or(PAGE));
        let page = at >> PAGE_BITS;
        at += taken as u64;
        Some((page, within..within + taken))
    })
}
