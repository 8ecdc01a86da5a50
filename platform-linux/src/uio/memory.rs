//! Hugepages as DMA memory, kept until the card has lost its access to memory, however we end.
//!
//! Nothing but its command register keeps a card from writing to memory that the kernel has given to
//! somebody else. When a process is killed, nobody is left to clear that register but the kernel: the
//! driver uio_pci_generic does so when its device's file is released (`release` in
//! drivers/uio/uio_pci_generic.c). But a process loses its memory first (kernel/exit.c: `exit_mm` before
//! `exit_files`), and plain memory would be somebody else's by then. Pages of a file are not: they are the
//! file's until its last open file description is released.
//!
//! So the pages are those of a file in memory, and that file must be released after the device. Which of two
//! files is released first is not promised: `close_files` (fs/file.c) goes through the descriptors from the
//! lowest to the highest, but `fput` (fs/file_table.c) only queues the release, and `task_work_run`
//! (kernel/task_work.c) takes the newest first, today. So the memory is opened twice, at a descriptor below
//! and at one above the device's: in either order one of the two is released after the device. Duplicates
//! of one descriptor would not do: they are one description, which is queued when its last descriptor is
//! closed.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use fusion_mpt_mock::bus::BusError;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::fcntl_dupfd_cloexec;

use super::config::ConfigFile;
use super::hugepages::{Neighbours, sort};
use super::pagemap::{Entry, Pagemap};
use crate::card::Card;
use crate::dma::mapping::Mapping;
use crate::dma::{HUGEPAGE, Run, Source};
use crate::error::Error;
use crate::irq::Signal;
use crate::pci::address::PciAddress;

/// Opens a file of hugepages, with none in it yet.
pub(super) fn keep_open() -> Result<OwnedFd, Error> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    memfd_create("fusion-mpt", flags).map_err(|error| {
        Error::failed(format!(
            "cannot make a file of 2 MiB hugepages: {error}; the kernel must have hugetlbfs, or use vfio-pci, which needs no hugepages"
        ))
    })
}

/// A file of hugepages, opened twice, around a device.
pub(super) struct Hugepages {
    below: OwnedFd,
    #[expect(dead_code, reason = "held, for the order in which files are released")]
    above: OwnedFd,
    /// Pages that the file has room for.
    pages: usize,
    address: PciAddress,
}

impl fmt::Debug for Hugepages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hugepages({})", self.pages)
    }
}

impl Hugepages {
    /// Moves `device` above `below`, and opens the same memory once more above both.
    pub(super) fn around(
        below: OwnedFd,
        device: File,
        address: PciAddress,
    ) -> Result<(Self, OwnedFd), Error> {
        let failed = |error: std::io::Error| {
            Error::failed(format!(
                "cannot open descriptors for {address}: {error}; raise the limit on open files, `ulimit -n`"
            ))
        };
        let device = above(device.into(), &below).map_err(failed)?;
        let again = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", below.as_raw_fd()))
            .map_err(failed)?;
        let above = above(again.into(), &device).map_err(failed)?;
        Ok((Self { below, above, pages: 0, address }, device))
    }

    /// With the card that is to be cut off before the memory goes.
    pub(super) const fn behind(
        self,
        card: Arc<Card<ConfigFile>>,
        device: Arc<Signal>,
    ) -> HugeMemory {
        HugeMemory { card, device, mappings: Vec::new(), pages: self }
    }

    /// Takes `count` more pages from the system, and says where they lie.
    fn take(&mut self, count: usize) -> Result<(Mapping, Vec<u64>), BusError> {
        let bytes = count * HUGEPAGE;
        let start = (self.pages * HUGEPAGE) as u64;
        rustix::fs::ftruncate(&self.below, start + bytes as u64)
            .map_err(|error| self.none_left(count, error.into()))?;
        // The system sets the pages aside here, or refuses.
        let mapping = Mapping::of_file(self.below.as_fd(), start, bytes)
            .map_err(|error| self.none_left(count, error))?;
        let pagemap = Pagemap::open().map_err(|error| self.hidden(&error))?;
        let mut addresses = Vec::with_capacity(count);
        for page in 0..count {
            // SAFETY: the page lies inside, and nobody has been told of it.
            let at = unsafe { mapping.at().add(page * HUGEPAGE) };
            // SAFETY: as above; the page is there from now on.
            unsafe { at.write_volatile(0) };
            match pagemap.look_up(at.addr().get()) {
                Ok(Entry::At(address)) => addresses.push(address),
                Ok(entry) => return Err(self.hidden(&format!("{entry:?}"))),
                Err(error) => return Err(self.hidden(&error)),
            }
        }
        Ok((mapping, addresses))
    }

    fn none_left(&self, count: usize, error: std::io::Error) -> BusError {
        BusError(format!(
            "cannot take {count} more hugepages of 2 MiB for {}: {error}; `grep HugePages_Free /proc/meminfo` says how many are free, set more aside with `echo {} > /proc/sys/vm/nr_hugepages`, or at boot with hugepages={}, or use vfio-pci, which needs none",
            self.address,
            (count * 2).max(64),
            (count * 2).max(64)
        ))
    }

    fn in_pieces(&self, bytes: usize, longest: usize, pages: usize) -> BusError {
        BusError(format!(
            "{} needs {} MiB in one piece, and of {pages} hugepages of 2 MiB at most {} MiB lie next to each other, with no more to be had; ask for less at a time (--depth, --block-size), set hugepages aside at boot with hugepages=64, or use vfio-pci, which needs none",
            self.address,
            bytes.div_ceil(1 << 20),
            longest >> 20
        ))
    }

    /// Gives pages back that were taken in vain.
    fn give_back(&self) {
        // If it fails, they are the system's again when the file is closed.
        let _ = rustix::fs::ftruncate(&self.below, (self.pages * HUGEPAGE) as u64);
    }

    fn hidden(&self, what: &dyn fmt::Display) -> BusError {
        BusError(format!(
            "cannot learn where memory for {} lies, from /proc/self/pagemap ({what}): run as root (CAP_SYS_ADMIN), or use vfio-pci, which needs no physical addresses",
            self.address
        ))
    }

    /// Maps pages of the file that begin at its page `first` in the order of `runs`, and makes sure
    /// that they lie where they did.
    fn lay_out(&self, first: usize, runs: &[Neighbours]) -> Result<Mapping, BusError> {
        let failed = |error: &dyn fmt::Display| {
            BusError(format!(
                "cannot map hugepages for {}: {error}; ask for fewer commands at a time",
                self.address
            ))
        };
        let bytes = runs.iter().map(Neighbours::bytes).sum();
        let mut mapping = Mapping::reserved(bytes).map_err(|error| failed(&error))?;
        let pagemap = Pagemap::open().map_err(|error| self.hidden(&error))?;
        let mut inside = 0;
        for run in runs {
            for (index, page) in run.pages.iter().enumerate() {
                let offset = ((first + page) * HUGEPAGE) as u64;
                // SAFETY: the reservation was just made.
                unsafe { mapping.put_file(inside, &self.below, offset, HUGEPAGE) }
                    .map_err(|error| failed(&error))?;
                // SAFETY: the page was just put inside.
                let at = unsafe { mapping.at().add(inside) };
                // SAFETY: as above; nobody has been told of it.
                unsafe { at.write_volatile(0) };
                let expected = Entry::At(run.at + (index * HUGEPAGE) as u64);
                let found = pagemap.look_up(at.addr().get()).map_err(|error| failed(&error))?;
                if found != expected {
                    return Err(failed(&"the system has moved one while it was mapped"));
                }
                inside += HUGEPAGE;
            }
        }
        Ok(mapping)
    }
}

/// `fd`, at a number above `other`.
fn above(fd: OwnedFd, other: &OwnedFd) -> std::io::Result<OwnedFd> {
    if fd.as_raw_fd() > other.as_raw_fd() {
        return Ok(fd);
    }
    Ok(fcntl_dupfd_cloexec(&fd, other.as_raw_fd() + 1)?)
}

/// Hugepages at their physical addresses. The fields are dropped in this order.
pub(super) struct HugeMemory {
    card: Arc<Card<ConfigFile>>,
    #[expect(dead_code, reason = "held, since closing it ends bus mastering")]
    device: Arc<Signal>,
    mappings: Vec<Mapping>,
    pages: Hugepages,
}

// SAFETY: mappings are kept until the source is dropped, and given out once.
unsafe impl Source for HugeMemory {
    fn grow(&mut self, bytes: usize) -> Result<Vec<Run>, BusError> {
        let grown = self.grow_by(bytes);
        if grown.is_err() {
            self.pages.give_back();
        }
        grown
    }
}

impl HugeMemory {
    fn grow_by(&mut self, bytes: usize) -> Result<Vec<Run>, BusError> {
        let wanted = bytes.div_ceil(HUGEPAGE).max(1);
        let first = self.pages.pages;
        let (mut count, mut longest) = (wanted, 0);
        loop {
            let (mapping, addresses) = match self.pages.take(count) {
                Ok(taken) => taken,
                Err(refusal) if longest == 0 => return Err(refusal),
                Err(_) => return Err(self.pages.in_pieces(bytes, longest, count)),
            };
            let runs = sort(&addresses);
            longest = runs.iter().map(Neighbours::bytes).max().unwrap_or(0);
            if longest < bytes {
                // Physical memory is in pieces: among more pages more are neighbours. Those taken so
                // far stay in the file, so that the system does not give the same again.
                count += wanted.max(4);
                continue;
            }
            // Laid out anew before the first mapping goes, so that the pages stay in use throughout.
            let ordered = self.pages.lay_out(first, &runs)?;
            drop(mapping);
            self.pages.pages += count;
            let mut at = ordered.at();
            let mut given = Vec::with_capacity(runs.len());
            for run in &runs {
                given.push(Run { cpu: at, bus: run.at, bytes: run.bytes() });
                // SAFETY: the runs follow each other in the mapping and fill it.
                at = unsafe { at.add(run.bytes()) };
            }
            self.mappings.push(ordered);
            return Ok(given);
        }
    }
}

impl Drop for HugeMemory {
    fn drop(&mut self) {
        self.card.cut_off();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_moved_above_another_and_no_further_than_needed() {
        let low: OwnedFd = tempfile::tempfile().unwrap().into();
        let high: OwnedFd = tempfile::tempfile().unwrap().into();
        let (low, high) =
            if low.as_raw_fd() < high.as_raw_fd() { (low, high) } else { (high, low) };
        let number = high.as_raw_fd();
        let high = above(high, &low).unwrap();
        assert_eq!(high.as_raw_fd(), number);
        let moved = above(low, &high).unwrap();
        assert!(moved.as_raw_fd() > high.as_raw_fd());
    }
}
