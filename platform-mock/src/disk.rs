//! A disk's bytes: in memory or in a file, thin, behind a volatile write cache that a power cut
//! empties.
//!
//! The store always holds the newest bytes, so reads never look at the cache. What the cache keeps
//! instead is what it would take to lose a write: the bytes that were stable before it. A flush
//! forgets them, a power cut puts them back, except where the caller says that the drive had
//! already written the new ones by itself.

mod file;
mod memory;
#[cfg(test)]
mod tests;
mod write_cache;

use std::convert::Infallible;
use std::io;
use std::path::Path;

use file::FileMedium;
use memory::MemoryMedium;
use write_cache::WriteCache;

use crate::buffer::{DataBuffer, DataError};
use crate::memory::{TransferCause, TransferError};

/// Bytes of a page: what the memory disk allocates, and what the write cache tracks at a time.
pub(crate) const PAGE: usize = 4096;
/// One page of bytes.
pub(crate) type Page = [u8; PAGE];

/// The bytes of a disk and its volatile write cache.
///
/// Offsets and lengths are bytes and need no alignment. All accesses fail with
/// [`io::ErrorKind::InvalidInput`] when they do not lie inside the disk.
#[derive(Debug)]
pub struct Disk {
    medium: Medium,
    bytes: u64,
    write_protected: bool,
    write_cache: bool,
    cache: WriteCache,
}

#[derive(Debug)]
enum Medium {
    Memory(MemoryMedium),
    File(FileMedium),
}

impl Disk {
    /// A disk of `bytes` zeros in memory, with its write cache on. Memory is taken page by page as
    /// it is written, so any size is cheap.
    pub fn memory(bytes: u64) -> Disk {
        Disk::new(Medium::Memory(MemoryMedium::default()), bytes, false)
    }

    /// Opens a file or block device as a disk of its size, with its write cache on. A file that may
    /// not be written gives a write-protected disk.
    ///
    /// # Errors
    ///
    /// What opening the file, or asking for its size, failed with;
    /// [`io::ErrorKind::InvalidInput`] for a size that is not a whole number of 512-byte blocks, or
    /// none.
    pub fn open(path: &Path) -> io::Result<Disk> {
        let (medium, bytes, write_protected) = FileMedium::open(path)?;
        Ok(Disk::new(Medium::File(medium), bytes, write_protected))
    }

    /// Creates a sparse file of `bytes` zeros and opens it as a disk with its write cache on.
    ///
    /// # Errors
    ///
    /// What creating or sizing the file failed with; an existing file is left alone and refused.
    pub fn create(path: &Path, bytes: u64) -> io::Result<Disk> {
        let medium = FileMedium::create(path, bytes)?;
        Ok(Disk::new(Medium::File(medium), bytes, false))
    }

    fn new(medium: Medium, bytes: u64, write_protected: bool) -> Disk {
        Disk { medium, bytes, write_protected, write_cache: true, cache: WriteCache::default() }
    }

    /// The size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether writes are refused.
    pub fn is_write_protected(&self) -> bool {
        self.write_protected
    }

    /// Sets whether writes are refused. A file that could only be opened for reading stays
    /// protected.
    pub fn set_write_protected(&mut self, protected: bool) {
        let forced = matches!(&self.medium, Medium::File(file) if file.is_read_only());
        self.write_protected = protected || forced;
    }

    /// Enlarges the disk with zeros to `bytes`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] when that would shrink it; for a file, what sizing it failed
    /// with.
    pub fn grow(&mut self, bytes: u64) -> io::Result<()> {
        if bytes < self.bytes {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "growing a disk of {} bytes to {bytes} bytes would shrink it; nothing was changed",
                    self.bytes
                ),
            ));
        }
        if let Medium::File(file) = &mut self.medium {
            file.grow(bytes)?;
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Hands the bytes at `offset` to `sink` in order, piece by piece. A memory disk hands out its
    /// own pages, without a copy, and zeros for holes.
    ///
    /// # Errors
    ///
    /// Outside the disk, or what reading the file failed with (pieces handed out before are good).
    pub fn read_with(
        &self,
        offset: u64,
        length: usize,
        sink: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        self.check("reading", offset, length as u64)?;
        match &self.medium {
            Medium::Memory(memory) => {
                let Ok(()) = memory.read_with(offset, length as u64, |_, piece| {
                    sink(piece);
                    Ok::<_, Infallible>(())
                });
                Ok(())
            }
            Medium::File(file) => file.read_with(offset, length, sink),
        }
    }

    /// Moves `length` bytes at `offset` to the command's memory, from `at` of its buffer on, with
    /// one copy: from the disk's own pages, or by the system from the file.
    ///
    /// # Errors
    ///
    /// [`TransferError`]: outside the disk, what reading the file failed with, or memory that could
    /// not be reached.
    pub fn read_to(
        &self,
        offset: u64,
        length: u64,
        to: &mut dyn DataBuffer,
        at: u64,
    ) -> Result<(), TransferError> {
        self.check("reading", offset, length).map_err(not_begun)?;
        match &self.medium {
            Medium::Memory(memory) => memory.read_with(offset, length, |moved, piece| {
                let written = to.write(at + moved, piece);
                written.map_err(|DataError| TransferError { moved, cause: TransferCause::Memory })
            }),
            Medium::File(file) => file.read_to(offset, length, to, at),
        }
    }

    /// Writes `length` bytes at `offset` from the command's memory, from `at` of its buffer on, with
    /// one copy; as [`Disk::write`], or as [`Disk::write_through`] if `through` is set.
    ///
    /// # Errors
    ///
    /// [`TransferError`], as of [`Disk::read_to`] and [`Disk::write`]. What was moved before is
    /// written.
    pub fn write_from(
        &mut self,
        offset: u64,
        length: u64,
        from: &mut dyn DataBuffer,
        at: u64,
        through: bool,
    ) -> Result<(), TransferError> {
        self.check_write("writing", offset, length).map_err(not_begun)?;
        let through = through || !self.write_cache;
        if !through {
            self.cache.preserve(&self.medium, offset, length).map_err(not_begun)?;
        }
        match &mut self.medium {
            Medium::Memory(memory) => memory.write_with(offset, length, |moved, piece| {
                let read = from.read(at + moved, piece);
                read.map_err(|DataError| TransferError { moved, cause: TransferCause::Memory })
            })?,
            Medium::File(file) => file.write_from(offset, length, from, at)?,
        }
        if through {
            self.made_stable(offset, length).map_err(not_begun)?;
        }
        Ok(())
    }

    /// Reads `bytes.len()` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// As [`Disk::read_with`].
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.check("reading", offset, bytes.len() as u64)?;
        self.medium.read(offset, bytes)
    }

    /// Reads `length` bytes at `offset` only to see that they can be read; holes always can.
    ///
    /// # Errors
    ///
    /// The offset at or after which a read failed.
    pub fn verify(&self, offset: u64, length: u64) -> Result<(), u64> {
        self.check("verifying", offset, length).map_err(|_| offset)?;
        let Medium::File(file) = &self.medium else {
            return Ok(());
        };
        let end = offset + length;
        file.check_end(end).map_err(|length| length.max(offset))?;
        let mut at = offset;
        while let Some((start, stop)) = file.next_data(at, end).map_err(|_| at)? {
            at = start;
            while at < stop {
                let piece = usize::try_from(stop - at).map_or(1 << 20, |rest| rest.min(1 << 20));
                let mut seen = 0;
                file.read_with(at, piece, &mut |bytes| seen += bytes.len() as u64)
                    .map_err(|_| at + seen)?;
                at += piece as u64;
            }
        }
        Ok(())
    }

    /// The first run of bytes in `offset..end` that may be other than a hole.
    pub(crate) fn next_data(&self, offset: u64, end: u64) -> io::Result<Option<(u64, u64)>> {
        self.medium.next_data(offset, end)
    }

    /// Writes `bytes` at `offset`: into the write cache when it is on, else onto the stable medium.
    ///
    /// # Errors
    ///
    /// Outside the disk, [`io::ErrorKind::PermissionDenied`] when write-protected, or what writing
    /// the file failed with.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.write_cache {
            return self.write_through(offset, bytes);
        }
        self.check_write("writing", offset, bytes.len() as u64)?;
        self.cache.preserve(&self.medium, offset, bytes.len() as u64)?;
        self.medium.write(offset, bytes)
    }

    /// Writes `bytes` at `offset` onto the stable medium, whatever the write cache says (FUA).
    ///
    /// # Errors
    ///
    /// As [`Disk::write`].
    pub fn write_through(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_write("writing", offset, bytes.len() as u64)?;
        self.medium.write(offset, bytes)?;
        self.made_stable(offset, bytes.len() as u64)
    }

    /// Puts what was just written onto the stable medium, and makes it what a power cut leaves.
    fn made_stable(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.medium.sync()?;
        self.cache.make_stable(&self.medium, offset, length)
    }

    /// Gives `length` bytes at `offset` back to the medium; they read as zeros afterwards. Subject
    /// to the write cache as a write is.
    ///
    /// # Errors
    ///
    /// As [`Disk::write`].
    pub fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.check_write("discarding", offset, length)?;
        self.clear(offset, length)
    }

    /// Makes `length` bytes at `offset` zeros, at a cost that depends on the data that is there and
    /// not on `length`. Subject to the write cache as a write is.
    ///
    /// # Errors
    ///
    /// As [`Disk::write`].
    pub fn write_zeroes(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.check_write("writing zeros to", offset, length)?;
        self.clear(offset, length)
    }

    fn clear(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset + length;
        // A hole is zeros already: only data can be lost, so only data is kept for a power cut.
        let mut at = offset;
        while self.write_cache
            && let Some((start, stop)) = self.medium.next_data(at, end)?
        {
            self.cache.preserve(&self.medium, start, stop - start)?;
            at = stop;
        }
        self.medium.clear(offset, length)?;
        if !self.write_cache {
            self.medium.sync()?;
        }
        Ok(())
    }

    /// Puts everything that was written onto the stable medium.
    ///
    /// # Errors
    ///
    /// What syncing the file failed with; everything is then still at risk.
    pub fn flush(&mut self) -> io::Result<()> {
        // Also with nothing dirty: pages that the cache destaged are in a file, but not yet synced.
        self.medium.sync()?;
        self.cache.forget();
        Ok(())
    }

    /// Turns the write cache on or off; turning it off flushes it first.
    ///
    /// # Errors
    ///
    /// As [`Disk::flush`]; the cache then stays on.
    pub fn set_write_cache(&mut self, on: bool) -> io::Result<()> {
        if !on && self.write_cache {
            self.flush()?;
        }
        self.write_cache = on;
        Ok(())
    }

    /// Whether the write cache is on.
    pub fn write_cache(&self) -> bool {
        self.write_cache
    }

    /// How many bytes a power cut puts at risk (whole 512-byte sectors).
    pub fn dirty_bytes(&self) -> u64 {
        self.cache.dirty_bytes()
    }

    /// Limits what the write cache holds, in bytes; beyond it the oldest page goes to the medium.
    /// 64 MiB unless set.
    pub fn set_write_cache_bytes(&mut self, bytes: usize) {
        self.cache.set_capacity(bytes);
    }

    /// Sets how many bytes survive a power cut together: the drive's logical block, 512 (as a new
    /// disk has it) or 4096. Any other value counts as the smaller of these that it fits in.
    pub fn set_atomic_bytes(&mut self, bytes: usize) {
        self.cache.set_atomic(bytes);
    }

    /// Cuts the power: everything not flushed is lost, except the blocks that `survivor` says the
    /// drive had written by itself. It is asked once for the byte offset of each dirty block, in no
    /// promised order, as a real cache destages in none.
    ///
    /// # Errors
    ///
    /// What putting the old bytes back into a file failed with; everything then stays dirty,
    /// and cutting again asks about all of it again.
    pub fn power_cut(&mut self, survivor: &mut dyn FnMut(u64) -> bool) -> io::Result<()> {
        let bytes = self.bytes;
        let medium = &mut self.medium;
        self.cache.lose(survivor, &mut |offset, old| {
            let inside = bytes.saturating_sub(offset).min(old.len() as u64) as usize;
            medium.write(offset, old.get(..inside).unwrap_or(old))
        })
    }

    fn check(&self, doing: &str, offset: u64, length: u64) -> io::Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.bytes => Ok(()),
            _ => Err(outside(doing, offset, length, self.bytes)),
        }
    }

    fn check_write(&self, doing: &str, offset: u64, length: u64) -> io::Result<()> {
        if self.write_protected {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{doing} {length} bytes at offset {offset} was refused: the disk is write-protected; make its file writable and open it again"
                ),
            ));
        }
        self.check(doing, offset, length)
    }
}

/// A transfer of which nothing counts as moved.
fn not_begun(error: io::Error) -> TransferError {
    TransferError { moved: 0, cause: TransferCause::Disk(error) }
}

/// Kept out of line: it is never on the path of a good read.
#[cold]
fn outside(doing: &str, offset: u64, length: u64, bytes: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "{doing} {length} bytes at offset {offset} was refused: the disk ends at {bytes}; check the range first"
        ),
    )
}

impl Medium {
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Medium::Memory(memory) => {
                memory.read(offset, bytes);
                Ok(())
            }
            Medium::File(file) => file.read(offset, bytes),
        }
    }

    /// As [`Medium::read`], but bytes past the end of the medium are left as they are: a page may
    /// reach over the end of a disk.
    fn read_page_part(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Medium::Memory(memory) => {
                memory.read(offset, bytes);
                Ok(())
            }
            Medium::File(file) => file.read_up_to(offset, bytes),
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Medium::Memory(memory) => {
                memory.write(offset, bytes);
                Ok(())
            }
            Medium::File(file) => file.write(offset, bytes),
        }
    }

    fn clear(&mut self, offset: u64, length: u64) -> io::Result<()> {
        match self {
            Medium::Memory(memory) => {
                memory.clear(offset, length);
                Ok(())
            }
            Medium::File(file) => file.clear(offset, length),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self {
            Medium::Memory(_) => Ok(()),
            Medium::File(file) => file.sync(),
        }
    }

    /// The first run of bytes in `offset..end` that may be other than a hole.
    fn next_data(&self, offset: u64, end: u64) -> io::Result<Option<(u64, u64)>> {
        match self {
            Medium::Memory(memory) => Ok(memory.next_data(offset, end)),
            Medium::File(file) => file.next_data(offset, end),
        }
    }
}
