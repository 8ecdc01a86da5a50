//! A file of the client's with the guest's memory in it.
//!
//! Nothing keeps a client from cutting its file short under us, and touching mapped memory past a
//! file's end kills a process. A file is therefore mapped only if it is sealed against shrinking,
//! as QEMU seals its memfds; any other is read and written by system calls, slower and safe. A file
//! on hugetlbfs can only be mapped, so it has to be sealed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use rustix::fs::{OFlags, SealFlags, fcntl_get_seals, fstatfs};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::memory::volatile::copy;

/// `f_type` of hugetlbfs (statfs(2)).
const HUGETLBFS: i64 = 0x958458f6;

/// Device, inode, and access mode: what makes two descriptors the same file with the same rights.
pub(super) type Identity = (u64, u64, OFlags);

/// A file of the client's.
#[derive(Debug)]
pub(super) struct SharedFile {
    pub(super) identity: Identity,
    pub(super) file: File,
    pub(super) window: Option<Window>,
}

/// A file's bytes in this process's memory.
#[derive(Debug)]
pub(super) struct Window {
    base: NonNull<u8>,
    pub(super) bytes: usize,
}

// SAFETY: the window is mapped for as long as the value lives, and its bytes are only copied, by
// volatile accesses, whichever thread does it.
unsafe impl Send for Window {}
// SAFETY: as for `Send`.
unsafe impl Sync for Window {}

impl Window {
    /// Maps a whole file that cannot shrink; `None` if it can, or if it cannot be mapped.
    pub(super) fn of(file: &File, bytes: u64) -> Option<Self> {
        let sealed = fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes > 0)?;
        if !sealed {
            return None;
        }
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the system's choosing touches no other memory.
        let base =
            unsafe { mmap(std::ptr::null_mut(), bytes, rights, MapFlags::SHARED, file, 0) }.ok()?;
        Some(Self { base: NonNull::new(base.cast())?, bytes })
    }

    /// Where `bytes` bytes from `offset` on are, if they are inside.
    pub(super) fn at(&self, offset: u64, bytes: usize) -> Option<NonNull<u8>> {
        let offset = usize::try_from(offset).ok()?;
        if offset.checked_add(bytes)? > self.bytes {
            return None;
        }
        // SAFETY: the offset was just checked to lie inside the mapping.
        Some(unsafe { self.base.add(offset) })
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: mapped by `of` with this length, and nobody has a pointer to it any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "a mapping of ours can be taken away");
    }
}

impl SharedFile {
    /// Whether it can be accessed neither by mapping it nor by system calls.
    pub(super) fn is_out_of_reach(&self) -> bool {
        let huge = fstatfs(&self.file).is_ok_and(|system| system.f_type == HUGETLBFS);
        huge && self.window.is_none()
    }

    /// Copies the bytes at `offset` out.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let Some(window) = &self.window else { return self.file.read_exact_at(bytes, offset) };
        let from = window.at(offset, bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        // SAFETY: readable, as just checked; `bytes` is ours and so does not overlap.
        unsafe { copy(from, NonNull::from(&mut *bytes).cast(), bytes.len()) };
        Ok(())
    }

    /// Copies `bytes` to `offset`.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Some(window) = &self.window else { return self.file.write_all_at(bytes, offset) };
        let to = window.at(offset, bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        // SAFETY: writable, as just checked; `bytes` is ours and so does not overlap.
        unsafe { copy(NonNull::from(bytes).cast(), to, bytes.len()) };
        Ok(())
    }

    /// Writes 8 bytes, little endian: in one go, if the file is mapped and they are aligned.
    pub(super) fn store(&self, offset: u64, value: u64) -> io::Result<()> {
        let Some(window) = &self.window else {
            return self.file.write_all_at(&value.to_le_bytes(), offset);
        };
        let to = window.at(offset, 8).ok_or(io::ErrorKind::UnexpectedEof)?.cast::<u64>();
        if !to.is_aligned() {
            return self.write(offset, &value.to_le_bytes());
        }
        // SAFETY: 8 bytes inside the mapping, aligned.
        unsafe { to.write_volatile(value.to_le()) };
        Ok(())
    }
}
