//! What the kernel says of each tag's request: an array in its memory, which it lets be read.

use std::fs::File;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::abi::{IoDescriptor, MOST_TAGS};
use crate::error::Error;

/// The descriptors of one queue of a device.
#[derive(Debug)]
pub struct Descriptors {
    first: NonNull<IoDescriptor>,
    tags: u16,
    bytes: usize,
}

// SAFETY: the mapping is of no thread in particular, and nothing is written through it.
unsafe impl Send for Descriptors {}

impl Descriptors {
    /// Maps those of queue `queue`, which has `tags` tags.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the kernel does not let it.
    pub fn map(file: &File, queue: u16, tags: u16) -> Result<Self, Error> {
        let page = rustix::param::page_size();
        let bytes =
            (usize::from(tags) * size_of::<IoDescriptor>()).next_multiple_of(page).max(page);
        // Each queue's begin where those of a queue with the most tags would, in whole pages.
        let apart = (usize::from(MOST_TAGS) * size_of::<IoDescriptor>()).next_multiple_of(page);
        let offset = u64::from(queue) * apart as u64;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: no address is asked for, so nothing of this process is mapped over.
        let address = unsafe { mmap(ptr::null_mut(), bytes, ProtFlags::READ, flags, file, offset) };
        let address = address.map_err(|error| {
            Error::failed(format!(
                "cannot map the requests of queue {queue} of a block device: {error}; see `dmesg`"
            ))
        })?;
        match NonNull::new(address.cast()) {
            Some(first) => Ok(Self { first, tags, bytes }),
            None => Err(Error::failed("the kernel mapped a block device's requests at address 0")),
        }
    }

    /// The descriptor of a tag whose request the kernel has just given out.
    #[must_use]
    #[inline]
    pub fn read(&self, tag: u16) -> Option<IoDescriptor> {
        if tag >= self.tags {
            return None;
        }
        // SAFETY: the mapping holds `tags` descriptors.
        let place = unsafe { self.first.add(usize::from(tag)) };
        // SAFETY: it is mapped and aligned; the kernel may write it, so it is read once, and any
        // bytes make a descriptor.
        Some(unsafe { place.read_volatile() })
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, with this length, and nothing refers to it any more.
        let _ = unsafe { munmap(self.first.as_ptr().cast(), self.bytes) };
    }
}
