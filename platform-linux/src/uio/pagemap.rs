//! Where a page of this process lies in physical memory: `/proc/self/pagemap` (the kernel's
//! Documentation/admin-guide/mm/pagemap.rst), 8 bytes for each page.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The page is in memory.
const PRESENT: u64 = 1 << 63;
/// The page frame's number; zero for those who may not know.
const FRAME: u64 = (1 << 55) - 1;

/// What an entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// Its physical address.
    At(u64),
    /// It is in memory, but this process may not know where.
    Hidden,
    /// It is not in memory.
    Absent,
}

/// What `entry` says of a page of `page_bytes`.
pub(super) const fn decode(entry: u64, page_bytes: u64) -> Entry {
    match entry & FRAME {
        _ if entry & PRESENT == 0 => Entry::Absent,
        0 => Entry::Hidden,
        frame => Entry::At(frame * page_bytes),
    }
}

/// Asks where the pages of this process lie.
#[derive(Debug)]
pub(super) struct Pagemap {
    file: File,
    page_bytes: u64,
}

impl Pagemap {
    /// Opens the map of this process.
    pub(super) fn open() -> io::Result<Self> {
        let page_bytes = rustix::param::page_size() as u64;
        Ok(Self { file: File::open("/proc/self/pagemap")?, page_bytes })
    }

    /// Where the page at `address` lies.
    pub(super) fn look_up(&self, address: usize) -> io::Result<Entry> {
        let mut entry = [0; 8];
        self.file.read_exact_at(&mut entry, address as u64 / self.page_bytes * 8)?;
        Ok(decode(u64::from_ne_bytes(entry), self.page_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_taken_apart() {
        assert_eq!(decode(PRESENT | 0x1234, 4096), Entry::At(0x123_4000));
        // Soft-dirty and exclusive bits lie between.
        assert_eq!(decode(PRESENT | 3 << 55 | 0x1234, 4096), Entry::At(0x123_4000));
        assert_eq!(decode(PRESENT, 4096), Entry::Hidden);
        assert_eq!(decode(0x1234, 4096), Entry::Absent);
        assert_eq!(decode(1 << 62 | 0x1234, 4096), Entry::Absent);
    }

    #[test]
    fn a_page_that_was_touched_is_in_memory() {
        let page = rustix::param::page_size();
        let mapping = crate::dma::mapping::Mapping::anonymous(crate::dma::HUGEPAGE).unwrap();
        let pagemap = Pagemap::open().unwrap();
        let at = mapping.at().addr().get();
        assert_eq!(pagemap.look_up(at + 5 * page).unwrap(), Entry::Absent);
        // SAFETY: the page lies inside.
        unsafe { mapping.at().as_ptr().wrapping_add(5 * page).write(1) };
        assert_ne!(pagemap.look_up(at + 5 * page + 17).unwrap(), Entry::Absent);
    }
}
