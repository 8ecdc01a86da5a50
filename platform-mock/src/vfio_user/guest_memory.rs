//! The guest's memory as the card reaches it: bus addresses, and the files behind them.
//!
//! The client sends a file descriptor for each piece of memory that it maps, many pieces of one
//! file among them: with an IOMMU in the guest, every page comes by itself. So each file is mapped
//! into this process once, whole, and a table says where the pieces are. Neighbours that follow
//! each other in the same file become one piece.

mod shared_file;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use rustix::fs::{OFlags, fcntl_getfl};

use crate::memory::direct::{self, Mapped};
use crate::memory::{self, DeviceMemory, DmaFault, Segment, TransferCause, TransferError};
use shared_file::{Identity, SharedFile, Window};

/// The most pieces of a guest's memory, so that no client makes the table as large as it likes:
/// more than the kernel's own VFIO allows by default (65535).
const MOST_PIECES: usize = 1 << 16;

/// Which accesses a piece of memory allows the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// A run of bus addresses with a run of a file behind it.
#[derive(Debug, Clone)]
struct Piece {
    bytes: u64,
    offset: u64,
    file: Arc<SharedFile>,
    rights: Rights,
}

impl Piece {
    /// What is left of it without the first `bytes` bytes.
    fn after(&self, bytes: u64) -> Piece {
        Piece { bytes: self.bytes - bytes, offset: self.offset + bytes, ..self.clone() }
    }

    /// Whether `next` goes on where it ends, in the file and with the same rights.
    fn goes_on_in(&self, next: &Piece) -> bool {
        Arc::ptr_eq(&self.file, &next.file)
            && self.rights == next.rights
            && self.offset.checked_add(self.bytes) == Some(next.offset)
    }
}

/// The table of the guest's memory.
#[derive(Debug, Default)]
pub(crate) struct GuestMemory {
    /// By the first bus address; pieces never overlap.
    pieces: BTreeMap<u64, Piece>,
    /// Whether the card may reach memory at all: the bus master bit of its command register.
    pub(crate) bus_master: bool,
}

impl GuestMemory {
    /// Puts `bytes` bytes of `file` from `offset` on at bus address `at`, instead of what was there.
    ///
    /// # Errors
    ///
    /// If the range is empty or wraps around, the file is too short for it, or the table is full.
    pub(crate) fn map(
        &mut self,
        at: u64,
        bytes: u64,
        file: File,
        offset: u64,
        rights: Rights,
    ) -> io::Result<()> {
        let bad = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let end = at.checked_add(bytes).filter(|end| *end > at);
        let file_end = offset.checked_add(bytes);
        let (Some(_), Some(file_end)) = (end, file_end) else {
            return Err(bad(format!(
                "mapping {bytes:#x} bytes at bus address {at:#x} is no range of addresses"
            )));
        };
        let metadata = file.metadata()?;
        if file_end > metadata.len() {
            return Err(bad(format!(
                "mapping {bytes:#x} bytes from offset {offset:#x} of a file at bus address {at:#x}: the file has only {:#x} bytes",
                metadata.len()
            )));
        }
        let mode = fcntl_getfl(&file)? & OFlags::RWMODE;
        let file = self.shared((metadata.dev(), metadata.ino(), mode), file, metadata.len());
        if file.is_out_of_reach() {
            return Err(bad(format!(
                "mapping {bytes:#x} bytes at bus address {at:#x}: huge pages that can be taken away are not touched; have QEMU seal them, as -object memory-backend-memfd,hugetlb=on does"
            )));
        }
        self.unmap(at, bytes)?;
        self.has_room(format_args!("mapping {bytes:#x} bytes at bus address {at:#x}"))?;
        self.insert(at, Piece { bytes, offset, file, rights });
        Ok(())
    }

    /// The file with this identity: the one that the table has, if it has it in this length.
    fn shared(&self, identity: Identity, file: File, length: u64) -> Arc<SharedFile> {
        let known = self.pieces.values().find(|piece| {
            let file = &piece.file;
            let whole = file.window.as_ref().is_none_or(|window| window.bytes as u64 == length);
            file.identity == identity && whole
        });
        match known {
            Some(piece) => Arc::clone(&piece.file),
            None => Arc::new(SharedFile { identity, window: Window::of(&file, length), file }),
        }
    }

    fn insert(&mut self, mut at: u64, mut piece: Piece) {
        if let Some((before, joined)) = self.pieces.range(..at).next_back()
            && before.checked_add(joined.bytes) == Some(at)
            && joined.goes_on_in(&piece)
        {
            at = *before;
            piece = Piece { bytes: joined.bytes + piece.bytes, ..joined.clone() };
        }
        if let Some(end) = at.checked_add(piece.bytes)
            && let Some(next) = self.pieces.get(&end)
            && piece.goes_on_in(next)
        {
            piece.bytes += next.bytes;
            self.pieces.remove(&end);
        }
        self.pieces.insert(at, piece);
    }

    fn has_room(&self, attempted: std::fmt::Arguments<'_>) -> io::Result<()> {
        if self.pieces.len() < MOST_PIECES {
            return Ok(());
        }
        let why = format!("{attempted}: there are {MOST_PIECES} pieces of memory already");
        Err(io::Error::new(io::ErrorKind::OutOfMemory, why))
    }

    /// Takes a range away, whatever of it is mapped.
    ///
    /// # Errors
    ///
    /// If that leaves two pieces of one and the table is full.
    pub(crate) fn unmap(&mut self, at: u64, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let end = at.saturating_add(bytes);
        let first = match self.pieces.range(..at).next_back() {
            Some((start, piece)) if start + piece.bytes > at => {
                if start + piece.bytes > end {
                    self.has_room(format_args!(
                        "taking {bytes:#x} bytes at bus address {at:#x} out of a piece"
                    ))?;
                }
                *start
            }
            _ => at,
        };
        let cut: Vec<u64> = self.pieces.range(first..end).map(|(start, _)| *start).collect();
        for start in cut {
            let Some(piece) = self.pieces.remove(&start) else { continue };
            if start < at {
                self.pieces.insert(start, Piece { bytes: at - start, ..piece.clone() });
            }
            if start + piece.bytes > end {
                self.pieces.insert(end, piece.after(end - start));
            }
        }
        Ok(())
    }

    /// Takes everything away.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
    }

    /// Whether no memory is mapped.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    fn piece(&self, at: u64) -> Option<(&Piece, u64)> {
        let (start, piece) = self.pieces.range(..=at).next_back()?;
        let inside = at - start;
        (inside < piece.bytes).then_some((piece, inside))
    }

    /// Calls `access` for each piece of the range, with the offset in its file and the part of the
    /// bytes: for none of them, unless all lie in memory with the right that is needed.
    fn pieces(
        &self,
        at: u64,
        bytes: usize,
        allowed: fn(Rights) -> bool,
        mut access: impl FnMut(&SharedFile, u64, Range<usize>) -> io::Result<()>,
    ) -> Result<(), DmaFault> {
        let fault = DmaFault { at, bytes };
        if !self.bus_master {
            return Err(fault);
        }
        let part = |done: usize| {
            let (piece, inside) = self.piece(at.checked_add(done as u64)?)?;
            let most = usize::try_from(piece.bytes - inside).unwrap_or(usize::MAX);
            allowed(piece.rights).then_some((piece, inside, most.min(bytes - done)))
        };
        let mut checked = 0;
        while checked < bytes {
            checked += part(checked).ok_or(fault)?.2;
        }
        let mut done = 0;
        while done < bytes {
            let (piece, inside, length) = part(done).ok_or(fault)?;
            access(&piece.file, piece.offset + inside, done..done + length).map_err(|_| fault)?;
            done += length;
        }
        Ok(())
    }
}

impl GuestMemory {
    /// Where the segments are in this process; `None` if a file of theirs is not mapped.
    fn mapped(
        &self,
        segments: &[Segment],
        allowed: fn(Rights) -> bool,
    ) -> Result<Option<Vec<Mapped>>, TransferError> {
        let mut found = Some(Vec::with_capacity(segments.len()));
        for segment in segments {
            let access = |file: &SharedFile, offset, part: Range<usize>| {
                let bytes = part.len();
                let at = file.window.as_ref().map(|window| window.at(offset, bytes));
                match (at, &mut found) {
                    (Some(Some(at)), Some(found)) => found.push(Mapped { at, bytes }),
                    (Some(None), _) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    _ => found = None,
                }
                Ok(())
            };
            self.pieces(segment.at, segment.bytes as usize, allowed, access)
                .map_err(|_| TransferError { moved: 0, cause: TransferCause::Memory })?;
        }
        Ok(found)
    }
}

impl DeviceMemory for GuestMemory {
    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), DmaFault> {
        self.pieces(
            at,
            bytes.len(),
            |rights| rights.read,
            |file, offset, part| file.read(offset, &mut bytes[part]),
        )
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        self.pieces(
            at,
            bytes.len(),
            |rights| rights.write,
            |file, offset, part| file.write(offset, &bytes[part]),
        )
    }

    fn publish(&self, at: u64, value: u64) -> Result<(), DmaFault> {
        if !at.is_multiple_of(8) {
            return self.write(at, &value.to_le_bytes());
        }
        // What the descriptor announces is in memory before the descriptor is.
        fence(Ordering::Release);
        self.pieces(
            at,
            8,
            |rights| rights.write,
            |file, offset, part| match part.len() {
                8 => file.store(offset, value),
                _ => file.write(offset, &value.to_le_bytes()[part]),
            },
        )
    }

    fn fill_from_file(
        &self,
        segments: &[Segment],
        file: &File,
        offset: u64,
    ) -> Result<(), TransferError> {
        match self.mapped(segments, |rights| rights.write)? {
            // SAFETY: just found to lie inside mappings that `self` keeps, writable ones, to whose
            // bytes nobody forms a reference.
            Some(pieces) => unsafe { direct::fill_from_file(&pieces, file, offset) },
            None => memory::fill_piecewise(self, segments, file, offset),
        }
    }

    fn store_to_file(
        &self,
        segments: &[Segment],
        file: &File,
        offset: u64,
    ) -> Result<(), TransferError> {
        match self.mapped(segments, |rights| rights.read)? {
            // SAFETY: as in `fill_from_file`.
            Some(pieces) => unsafe { direct::store_to_file(&pieces, file, offset) },
            None => memory::store_piecewise(self, segments, file, offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    const ALL: Rights = Rights { read: true, write: true };

    fn memfd(bytes: u64, sealed: bool) -> File {
        let file = File::from(memfd_create("guest", MemfdFlags::ALLOW_SEALING).unwrap());
        file.set_len(bytes).unwrap();
        if sealed {
            fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        }
        file
    }

    fn memory() -> GuestMemory {
        GuestMemory { bus_master: true, ..GuestMemory::default() }
    }

    #[test]
    fn what_the_card_writes_is_in_the_file_sealed_or_not() {
        for sealed in [true, false] {
            let file = memfd(0x4000, sealed);
            let mut memory = memory();
            memory.map(0x10_0000, 0x2000, file.try_clone().unwrap(), 0x1000, ALL).unwrap();
            memory.write(0x10_0ff9, b"over a page's end").unwrap();
            memory.publish(0x10_1ff8, 0x0102_0304_0506_0708).unwrap();
            let mut found = [0; 17];
            file.read_exact_at(&mut found, 0x1ff9).unwrap();
            assert_eq!(&found, b"over a page's end");
            assert_eq!(memory.read_u64(0x10_1ff8).unwrap(), 0x0102_0304_0506_0708);
            assert_eq!(memory.pieces.values().next().unwrap().file.window.is_some(), sealed);
        }
    }

    #[test]
    fn a_disks_file_moves_in_and_out_of_the_guests_memory() {
        let disk = memfd(0x4000, false);
        disk.write_all_at(b"a block of the disk", 0x1000).unwrap();
        for sealed in [true, false] {
            let file = memfd(0x4000, sealed);
            let mut memory = memory();
            memory.map(0x10_0000, 0x2000, file.try_clone().unwrap(), 0x1000, ALL).unwrap();
            let only = Rights { read: true, write: false };
            memory.map(0x20_0000, 0x1000, file.try_clone().unwrap(), 0x3000, only).unwrap();
            let segments =
                [Segment { at: 0x10_0ff0, bytes: 12 }, Segment { at: 0x10_0000, bytes: 7 }];
            memory.fill_from_file(&segments, &disk, 0x1000).unwrap();
            let mut found = [0; 12];
            file.read_exact_at(&mut found, 0x1ff0).unwrap();
            assert_eq!(&found, b"a block of t");
            file.read_exact_at(&mut found[..7], 0x1000).unwrap();
            assert_eq!(&found[..7], b"he disk");
            memory.store_to_file(&segments, &disk, 0x2000).unwrap();
            let mut stored = [0; 19];
            disk.read_exact_at(&mut stored, 0x2000).unwrap();
            assert_eq!(&stored, b"a block of the disk");
            for at in [0x10_1ff9, 0x30_0000, 0x20_0000] {
                let outside = memory.fill_from_file(&[Segment { at, bytes: 8 }], &disk, 0);
                let error = outside.unwrap_err();
                assert!(matches!(error, TransferError { moved: 0, cause: TransferCause::Memory }));
            }
            memory.store_to_file(&[Segment { at: 0x20_0000, bytes: 8 }], &disk, 0).unwrap();
        }
    }

    #[test]
    fn an_access_that_is_in_part_outside_does_nothing() {
        let file = memfd(0x2000, true);
        let mut memory = memory();
        memory.map(0x1000, 0x1000, file.try_clone().unwrap(), 0, ALL).unwrap();
        assert_eq!(memory.write(0x1ff0, &[0xff; 32]), Err(DmaFault { at: 0x1ff0, bytes: 32 }));
        let mut found = [0; 16];
        memory.read(0x1ff0, &mut found).unwrap();
        assert_eq!(found, [0; 16]);
        assert!(memory.read(u64::MAX, &mut found).is_err());
    }

    #[test]
    fn a_file_cut_short_by_its_owner_is_a_fault_and_no_death() {
        let file = memfd(0x2000, false);
        let mut memory = memory();
        memory.map(0, 0x2000, file.try_clone().unwrap(), 0, ALL).unwrap();
        file.set_len(0x1000).unwrap();
        assert!(memory.read(0x1800, &mut [0; 16]).is_err());
        assert!(memory.read(0x0800, &mut [0; 16]).is_ok());
    }

    #[test]
    fn memory_for_reading_only_is_not_written_and_none_without_bus_mastering() {
        let mut memory = memory();
        let only = Rights { read: true, write: false };
        memory.map(0, 0x1000, memfd(0x1000, true), 0, only).unwrap();
        assert!(memory.read(0, &mut [0; 8]).is_ok());
        assert!(memory.write(0, &[0; 8]).is_err());
        assert!(memory.publish(0, 1).is_err());
        memory.bus_master = false;
        assert!(memory.read(0, &mut [0; 8]).is_err());
    }

    #[test]
    fn a_map_past_its_files_end_or_around_the_address_space_is_refused() {
        let mut memory = memory();
        assert!(memory.map(0, 0x2000, memfd(0x1000, true), 0, ALL).is_err());
        assert!(memory.map(0, 0x1000, memfd(0x1000, true), u64::MAX, ALL).is_err());
        assert!(memory.map(u64::MAX - 0xfff, 0x2000, memfd(0x4000, true), 0, ALL).is_err());
        assert!(memory.map(0, 0, memfd(0x1000, true), 0, ALL).is_err());
        assert!(memory.is_empty());
    }

    #[test]
    fn pages_that_follow_each_other_become_one_piece_of_one_window() {
        let file = memfd(256 * 4096, true);
        let mut memory = memory();
        // Every second page first, so that the others join two pieces at a time.
        for page in (0..256).step_by(2).chain((1..256).step_by(2)) {
            let at = 0x4000_0000 + page * 4096;
            memory.map(at, 4096, file.try_clone().unwrap(), page * 4096, ALL).unwrap();
        }
        assert_eq!(memory.pieces.len(), 1);
        memory.unmap(0x4000_1000, 4096).unwrap();
        assert_eq!(memory.pieces.len(), 2);
        assert!(memory.read(0x4000_0fff, &mut [0; 2]).is_err());
        assert!(memory.read(0x4000_2000, &mut [0; 4096]).is_ok());
    }

    #[test]
    fn a_table_that_is_full_takes_no_more_and_is_not_split_further() {
        let file = memfd(4 * 4096, true);
        let mut memory = memory();
        // Backwards in the file, so that no two neighbours become one.
        for page in 0..MOST_PIECES as u64 - 1 {
            let offset = page % 2 * 4096;
            memory.map(page * 8192, 4096, file.try_clone().unwrap(), offset, ALL).unwrap();
        }
        memory.map(1 << 40, 4 * 4096, file.try_clone().unwrap(), 0, ALL).unwrap();
        assert!(memory.map(1 << 41, 4096, file.try_clone().unwrap(), 0, ALL).is_err());
        assert!(memory.unmap((1 << 40) + 4096, 4096).is_err());
        memory.unmap(1 << 40, 4096).unwrap();
        assert_eq!(memory.pieces.len(), MOST_PIECES);
        memory.unmap(0, 4096).unwrap();
        memory.map(1 << 41, 4096, file, 0, ALL).unwrap();
    }

    #[test]
    fn a_file_that_came_for_reading_only_is_read_and_not_written() {
        for sealed in [true, false] {
            let file = memfd(0x1000, sealed);
            file.write_all_at(b"precious", 0).unwrap();
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            let reader = File::open(path).unwrap();
            let mut memory = memory();
            memory.map(0, 0x1000, reader, 0, ALL).unwrap();
            assert_eq!(memory.read_u64(0).unwrap(), u64::from_le_bytes(*b"precious"));
            assert!(memory.write(0, &[0; 8]).is_err());
            assert!(memory.publish(8, 1).is_err());
            // The same file for writing too, elsewhere: that descriptor's rights count there.
            memory.map(0x1000, 0x1000, file, 0, ALL).unwrap();
            memory.write(0x1000, b"replaced").unwrap();
            assert!(memory.write(0, &[0; 8]).is_err());
            assert_eq!(memory.read_u64(0).unwrap(), u64::from_le_bytes(*b"replaced"));
        }
    }

    proptest! {
        /// Against a plain array of pages.
        #[test]
        fn maps_and_unmaps_leave_what_an_array_of_pages_would_have(
            steps in proptest::collection::vec((any::<bool>(), 0u64..24, 1u64..8, 0u64..24, 0usize..2), 1..60)
        ) {
            let files = [memfd(32 * 4096, true), memfd(32 * 4096, false)];
            for (number, file) in files.iter().enumerate() {
                for page in 0..32u64 {
                    let mark = (number as u64) << 32 | page;
                    file.write_all_at(&mark.to_le_bytes(), page * 4096).unwrap();
                }
            }
            let mut memory = memory();
            let mut expected = [None; 40];
            for (map, at, pages, offset, file) in steps {
                if map {
                    let clone = files[file].try_clone().unwrap();
                    memory.map(at * 4096, pages * 4096, clone, offset * 4096, ALL).unwrap();
                } else {
                    memory.unmap(at * 4096, pages * 4096).unwrap();
                }
                for page in 0..pages {
                    expected[(at + page) as usize] =
                        map.then_some((file as u64) << 32 | (offset + page));
                }
            }
            for (page, expected) in expected.iter().enumerate() {
                prop_assert_eq!(memory.read_u64(page as u64 * 4096).ok(), *expected);
            }
        }
    }
}
