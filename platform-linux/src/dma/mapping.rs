//! Mapped memory that is unmapped when it is no longer held.

use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use super::HUGEPAGE;

/// A range of mapped memory.
#[derive(Debug)]
pub(crate) struct Mapping {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping is the process's and belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; nothing changes through a shared reference.
unsafe impl Sync for Mapping {}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

impl Mapping {
    /// Where it begins.
    pub(crate) const fn at(&self) -> NonNull<u8> {
        self.at
    }

    /// Its length.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory of this process's own, in hugepages that the system has set aside. `bytes` is a
    /// multiple of [`HUGEPAGE`].
    ///
    /// # Errors
    ///
    /// `ENOMEM` where there are not as many.
    pub(crate) fn hugepages(bytes: usize) -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
        Self::own(bytes, flags)
    }

    /// Memory of this process's own, in plain pages, at a multiple of [`HUGEPAGE`], so that the
    /// system can make hugepages of it where it does so by itself.
    ///
    /// # Errors
    ///
    /// What mapping it fails with.
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        let all = Self::own(bytes.saturating_add(HUGEPAGE), MapFlags::PRIVATE)?;
        let mapping = all.aligned(bytes)?;
        // Only advice: systems without transparent hugepages refuse it.
        // SAFETY: it changes how the range is backed, not what is in it.
        let _ = unsafe { madvise(mapping.at.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
        Ok(mapping)
    }

    /// Address space that nothing is in yet, at a multiple of [`HUGEPAGE`], to map files into.
    ///
    /// # Errors
    ///
    /// What mapping it fails with.
    pub(crate) fn reserved(bytes: usize) -> io::Result<Self> {
        let all = bytes.saturating_add(HUGEPAGE);
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choosing replaces nothing.
        let at = unsafe { mmap_anonymous(std::ptr::null_mut(), all, ProtFlags::empty(), flags) }?;
        Self::of(at, all)?.aligned(bytes)
    }

    /// A file's bytes from `offset` on, shared.
    ///
    /// # Errors
    ///
    /// What mapping it fails with.
    pub(crate) fn of_file(file: impl AsFd, offset: u64, bytes: usize) -> io::Result<Self> {
        let flags = MapFlags::SHARED;
        // SAFETY: a new mapping at an address of the kernel's choosing replaces nothing.
        let at = unsafe { mmap(std::ptr::null_mut(), bytes, READ_WRITE, flags, file, offset) }?;
        Self::of(at, bytes)
    }

    /// Maps a file's bytes from `offset` on over `bytes` bytes of this mapping from `inside` on.
    ///
    /// # Errors
    ///
    /// What mapping it fails with.
    ///
    /// # Panics
    ///
    /// If that is not inside.
    ///
    /// # Safety
    ///
    /// Nobody uses what was there.
    pub(crate) unsafe fn put_file(
        &mut self,
        inside: usize,
        file: impl AsFd,
        offset: u64,
        bytes: usize,
    ) -> io::Result<()> {
        assert!(inside.checked_add(bytes).is_some_and(|end| end <= self.bytes));
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        let at = self.at.as_ptr().wrapping_add(inside).cast();
        // SAFETY: the place lies inside a mapping of ours that the caller says nobody uses.
        unsafe { mmap(at, bytes, READ_WRITE, flags, file, offset) }?;
        Ok(())
    }

    fn own(bytes: usize, flags: MapFlags) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choosing replaces nothing.
        let at = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, READ_WRITE, flags) }?;
        Self::of(at, bytes)
    }

    fn of(at: *mut std::ffi::c_void, bytes: usize) -> io::Result<Self> {
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { at, bytes })
    }

    /// Keeps `bytes` bytes, whole pages, from the first multiple of [`HUGEPAGE`] on and unmaps the
    /// rest, which is [`HUGEPAGE`] in all.
    fn aligned(self, bytes: usize) -> io::Result<Self> {
        let head = self.at.align_offset(HUGEPAGE);
        let whole = std::mem::ManuallyDrop::new(self);
        let start = whole.at.as_ptr();
        if head > 0 {
            // SAFETY: the head is ours, and nobody has been told of it.
            unsafe { munmap(start.cast(), head) }?;
        }
        let tail = whole.bytes - head - bytes;
        if tail > 0 {
            // SAFETY: as for the head.
            unsafe { munmap(start.wrapping_add(head + bytes).cast(), tail) }?;
        }
        Self::of(start.wrapping_add(head).cast(), bytes)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and whoever holds pieces of it holds this.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_memory_starts_where_a_hugepage_could() {
        let mapping = Mapping::anonymous(3 * HUGEPAGE).unwrap();
        assert_eq!(mapping.bytes(), 3 * HUGEPAGE);
        assert!(mapping.at().addr().get().is_multiple_of(HUGEPAGE));
        // SAFETY: the last byte lies inside.
        unsafe { mapping.at().as_ptr().wrapping_add(3 * HUGEPAGE - 1).write(1) };
    }

    #[test]
    fn pages_of_a_file_can_be_laid_out_in_another_order() {
        let page = rustix::param::page_size();
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1], 0).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[2], page as u64).unwrap();
        file.set_len(2 * page as u64).unwrap();
        let mut mapping = Mapping::reserved(2 * page).unwrap();
        assert!(mapping.at().addr().get().is_multiple_of(HUGEPAGE));
        // SAFETY: nobody has used the reservation.
        unsafe { mapping.put_file(0, &file, page as u64, page) }.unwrap();
        // SAFETY: as above.
        unsafe { mapping.put_file(page, &file, 0, page) }.unwrap();
        // SAFETY: both pages are mapped now.
        let first = unsafe { mapping.at().read() };
        // SAFETY: as above.
        let second = unsafe { mapping.at().as_ptr().wrapping_add(page).read() };
        assert_eq!((first, second), (2, 1));
    }
}
