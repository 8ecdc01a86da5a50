//! What a power cut takes back: the stable bytes under everything written since the last flush.

use std::collections::{HashMap, VecDeque};
use std::io;

use super::memory::pages;
use super::{Medium, PAGE, Page};

/// The smallest piece that survives a power cut or does not.
const SECTOR: usize = 512;
const DEFAULT_CAPACITY: usize = 64 << 20;

/// One page with unflushed sectors.
#[derive(Debug)]
struct Undo {
    /// Bit n: sector n of the page is dirty and `old` holds its stable bytes.
    dirty: u8,
    old: Box<Page>,
}

/// The stable bytes under every dirty sector, page by page.
#[derive(Debug)]
pub(super) struct WriteCache {
    pages: HashMap<u64, Undo>,
    /// Pages in the order in which they became dirty; exactly the keys of `pages`.
    order: VecDeque<u64>,
    /// Page buffers to use again.
    spare: Vec<Box<Page>>,
    dirty_sectors: u64,
    capacity_pages: usize,
    atomic: usize,
}

impl Default for WriteCache {
    fn default() -> Self {
        WriteCache {
            pages: HashMap::new(),
            order: VecDeque::new(),
            spare: Vec::new(),
            dirty_sectors: 0,
            capacity_pages: DEFAULT_CAPACITY / PAGE,
            atomic: SECTOR,
        }
    }
}

impl WriteCache {
    /// Page buffers, in use and spare.
    #[cfg(test)]
    pub(super) fn held_pages(&self) -> usize {
        self.pages.len() + self.spare.len()
    }

    pub(super) fn dirty_bytes(&self) -> u64 {
        self.dirty_sectors * SECTOR as u64
    }

    pub(super) fn set_capacity(&mut self, bytes: usize) {
        self.capacity_pages = (bytes / PAGE).max(1);
        self.destage_to_capacity();
    }

    pub(super) fn set_atomic(&mut self, bytes: usize) {
        self.atomic = if bytes <= SECTOR { SECTOR } else { PAGE };
    }

    /// Keeps the stable bytes of every sector that a write to the range is about to make dirty.
    pub(super) fn preserve(&mut self, medium: &Medium, offset: u64, length: u64) -> io::Result<()> {
        for (page, within) in pages(offset, length) {
            let undo = match self.pages.entry(page) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(new) => {
                    self.order.push_back(page);
                    new.insert(Undo {
                        dirty: 0,
                        old: self.spare.pop().unwrap_or_else(|| Box::new([0; PAGE])),
                    })
                }
            };
            let first = within.start / SECTOR;
            let last = (within.end - 1) / SECTOR;
            let fresh = sectors(first, last) & !undo.dirty;
            if fresh == 0 {
                continue;
            }
            // The clean sectors of the range nearly always lie together.
            let first = fresh.trailing_zeros() as usize;
            let last = 7 - fresh.leading_zeros() as usize;
            if fresh == sectors(first, last) {
                let bytes = &mut undo.old[first * SECTOR..(last + 1) * SECTOR];
                medium.read_page_part(page * PAGE as u64 + (first * SECTOR) as u64, bytes)?;
            } else {
                for sector in (first..=last).filter(|sector| fresh & (1 << sector) != 0) {
                    let bytes = &mut undo.old[sector * SECTOR..(sector + 1) * SECTOR];
                    medium.read_page_part(page * PAGE as u64 + (sector * SECTOR) as u64, bytes)?;
                }
            }
            undo.dirty |= fresh;
            self.dirty_sectors += u64::from(fresh.count_ones());
            self.destage_to_capacity();
        }
        Ok(())
    }

    /// Notes that the range's bytes, as they are on `medium`, are stable.
    pub(super) fn make_stable(
        &mut self,
        medium: &Medium,
        offset: u64,
        length: u64,
    ) -> io::Result<()> {
        if self.dirty_sectors == 0 {
            return Ok(());
        }
        for (page, within) in pages(offset, length) {
            let Some(undo) = self.pages.get_mut(&page) else {
                continue;
            };
            medium.read(page * PAGE as u64 + within.start as u64, &mut undo.old[within.clone()])?;
            // A sector that was only written in part stays dirty around the part.
            let whole = within.start.div_ceil(SECTOR)..within.end / SECTOR;
            if !whole.is_empty() {
                let clean = undo.dirty & sectors(whole.start, whole.end - 1);
                undo.dirty &= !clean;
                self.dirty_sectors -= u64::from(clean.count_ones());
            }
        }
        Ok(())
    }

    /// Everything is stable now.
    pub(super) fn forget(&mut self) {
        self.dirty_sectors = 0;
        self.order.clear();
        self.spare.extend(self.pages.drain().map(|(_, undo)| undo.old));
    }

    /// Hands the stable bytes of every dirty block that did not survive to `restore`.
    pub(super) fn lose(
        &mut self,
        survivor: &mut dyn FnMut(u64) -> bool,
        restore: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let per_block = self.atomic / SECTOR;
        for page in &self.order {
            let Some(undo) = self.pages.get(page) else {
                continue;
            };
            for block in (0..PAGE / SECTOR).step_by(per_block) {
                let dirty = undo.dirty & sectors(block, block + per_block - 1);
                let base = page * PAGE as u64;
                if dirty == 0 || survivor(base + (block * SECTOR) as u64) {
                    continue;
                }
                for sector in (block..block + per_block).filter(|s| dirty & (1 << s) != 0) {
                    let old = &undo.old[sector * SECTOR..(sector + 1) * SECTOR];
                    restore(base + (sector * SECTOR) as u64, old)?;
                }
            }
        }
        self.forget();
        Ok(())
    }

    fn destage_to_capacity(&mut self) {
        while self.order.len() > self.capacity_pages
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(undo) = self.pages.remove(&oldest) {
                self.dirty_sectors -= u64::from(undo.dirty.count_ones());
                self.spare.push(undo.old);
            }
        }
    }
}

/// The bits of sectors `first..=last` of a page.
fn sectors(first: usize, last: usize) -> u8 {
    (0xFF << first) & (0xFF >> (7 - last))
}
