//! The host memory of an in-process bus: pages at bus addresses, one copy of them or two.
//!
//! With two copies the CPU's and the device's bytes differ until somebody carries them over, as
//! behind a bounce buffer; a driver that forgets to is then caught.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use fusion_mpt::platform::{BusAddr, DmaRegion};

use crate::memory::direct::{self, Mapped};
use crate::memory::volatile::copy;
use crate::memory::{DeviceMemory, DmaFault, Segment, TransferCause, TransferError};

/// Bytes of a page: what is set aside at least, and the alignment of every piece.
const PAGE: usize = 4096;
/// No piece of memory crosses a multiple of this on the bus.
const WINDOW: u64 = 1 << 32;

/// Zeroed memory that is accessed only by copying, word by word, from both sides.
struct Pages {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the pointer is to memory that the value owns; every access through it is volatile and
// forms no reference, whichever thread makes it, as with memory that a device shares.
unsafe impl Send for Pages {}
// SAFETY: as for `Send`.
unsafe impl Sync for Pages {}

impl Pages {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes.max(PAGE), PAGE)
            .expect("an arena's size is rounded to pages and far below isize::MAX");
        // SAFETY: the layout's size is at least a page, so not zero.
        let base = unsafe { alloc_zeroed(layout) };
        match NonNull::new(base) {
            Some(base) => Self { base, layout },
            None => handle_alloc_error(layout),
        }
    }

    /// The address of the byte at `offset`, after which `bytes` more must lie inside.
    fn at(&self, offset: usize, bytes: usize) -> NonNull<u8> {
        assert!(bytes <= self.layout.size() && offset <= self.layout.size() - bytes);
        // SAFETY: just checked to lie inside the allocation.
        unsafe { self.base.add(offset) }
    }

    fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        let from = self.at(offset, bytes.len());
        // SAFETY: `bytes.len()` bytes from `from` on lie inside; `bytes` is the caller's own.
        unsafe { copy(from, NonNull::from(&mut *bytes).cast(), bytes.len()) };
    }

    fn copy_in(&self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        // SAFETY: `bytes.len()` bytes from `to` on lie inside, and `bytes` is only read.
        unsafe { copy(NonNull::from(bytes).cast(), to, bytes.len()) };
    }

    fn store(&self, offset: usize, value: u64) {
        assert!(offset.is_multiple_of(8));
        let to = self.at(offset, 8).cast::<u64>();
        // SAFETY: inside, and aligned as the base is to a page.
        unsafe { to.write_volatile(value.to_le()) };
    }

    fn clear(&self, range: Range<usize>) {
        let at = self.at(range.start, range.len());
        // SAFETY: the range was just checked to lie inside, and nobody else has it.
        unsafe { at.write_bytes(0, range.len()) };
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout by `new`, and dropped once.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// A range of bus addresses with memory behind the parts that are set aside.
pub(crate) struct Arena {
    base: u64,
    cpu: Pages,
    /// The device's own copy, in bouncing mode.
    device: Option<Pages>,
    /// For each page, whether it is set aside.
    taken: Vec<AtomicBool>,
    /// Held while pages are looked for.
    search: Mutex<()>,
    /// The device has no access at present.
    cut_off: AtomicBool,
    /// Accesses that it tried meanwhile.
    refused: AtomicU64,
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({} pages at {:#x})", self.taken.len(), self.base)
    }
}

impl Arena {
    /// Memory for `bytes` bytes from bus address `base` on, both rounded to pages.
    pub(crate) fn new(base: u64, bytes: usize, bouncing: bool) -> Arc<Self> {
        let pages = bytes.div_ceil(PAGE).max(1);
        let bytes = pages * PAGE;
        Arc::new(Self {
            base: base & !(PAGE as u64 - 1),
            cpu: Pages::new(bytes),
            device: bouncing.then(|| Pages::new(bytes)),
            taken: (0..pages).map(|_| AtomicBool::new(false)).collect(),
            search: Mutex::new(()),
            cut_off: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        })
    }

    /// Sets `bytes` zeroed bytes aside at a multiple of `alignment`; `None` if there is no room.
    pub(crate) fn allocate(self: &Arc<Self>, bytes: usize, alignment: usize) -> Option<Region> {
        let pages = bytes.div_ceil(PAGE).max(1);
        let alignment = (alignment.max(PAGE)) as u64;
        let _alone = self.search.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first = 0;
        while first + pages <= self.taken.len() {
            let at = self.base + (first * PAGE) as u64;
            let crosses = at / WINDOW != (at + (pages * PAGE) as u64 - 1) / WINDOW;
            if !at.is_multiple_of(alignment) || crosses {
                first += 1;
                continue;
            }
            let range = first..first + pages;
            match self.taken[range.clone()].iter().rposition(|page| page.load(Ordering::Relaxed)) {
                Some(last_taken) => first += last_taken + 1,
                None => {
                    let offset = first * PAGE;
                    self.cpu.clear(offset..offset + pages * PAGE);
                    if let Some(device) = &self.device {
                        device.clear(offset..offset + pages * PAGE);
                    }
                    for page in &self.taken[range] {
                        page.store(true, Ordering::Release);
                    }
                    let arena = Arc::clone(self);
                    return Some(Region { arena, offset, bytes: pages * PAGE });
                }
            }
        }
        None
    }

    /// Pages set aside at present.
    pub(crate) fn pages_taken(&self) -> usize {
        self.taken.iter().filter(|page| page.load(Ordering::Relaxed)).count()
    }

    /// Takes the device's access away, or gives it back.
    pub(crate) fn cut_off(&self, off: bool) {
        self.cut_off.store(off, Ordering::Release);
    }

    /// Whether the device has no access.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Acquire)
    }

    /// Accesses of the device that were refused since it first had none.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn device(&self) -> &Pages {
        self.device.as_ref().unwrap_or(&self.cpu)
    }

    /// The offset of a device's access, if all of it lies in pages set aside.
    fn check(&self, at: u64, bytes: usize) -> Result<usize, DmaFault> {
        let fault = DmaFault { at, bytes };
        if self.cut_off.load(Ordering::Acquire) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(fault);
        }
        let offset = at.checked_sub(self.base).ok_or(fault)?;
        let offset = usize::try_from(offset).map_err(|_| fault)?;
        let last = offset.checked_add(bytes.max(1) - 1).ok_or(fault)?;
        let pages = self.taken.get(offset / PAGE..=last / PAGE).ok_or(fault)?;
        match pages.iter().all(|page| page.load(Ordering::Acquire)) {
            true => Ok(offset),
            false => Err(fault),
        }
    }
}

impl Arena {
    /// Where the segments are in this process, if all of them lie in pages set aside.
    fn mapped(&self, segments: &[Segment]) -> Result<Vec<Mapped>, TransferError> {
        let outside = TransferError { moved: 0, cause: TransferCause::Memory };
        let piece = |segment: &Segment| {
            let bytes = segment.bytes as usize;
            let offset = self.check(segment.at, bytes).ok()?;
            Some(Mapped { at: self.device().at(offset, bytes), bytes })
        };
        segments.iter().map(piece).collect::<Option<_>>().ok_or(outside)
    }
}

impl DeviceMemory for Arena {
    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), DmaFault> {
        let offset = self.check(at, bytes.len())?;
        self.device().copy_out(offset, bytes);
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        let offset = self.check(at, bytes.len())?;
        self.device().copy_in(offset, bytes);
        Ok(())
    }

    fn publish(&self, at: u64, value: u64) -> Result<(), DmaFault> {
        if !at.is_multiple_of(8) {
            return self.write(at, &value.to_le_bytes());
        }
        let offset = self.check(at, 8)?;
        fence(Ordering::Release);
        self.device().store(offset, value);
        Ok(())
    }

    fn fill_from_file(
        &self,
        segments: &[Segment],
        file: &File,
        offset: u64,
    ) -> Result<(), TransferError> {
        let pieces = self.mapped(segments)?;
        // SAFETY: the pieces were just checked to lie inside memory that `self` owns, to which
        // nobody forms a reference.
        unsafe { direct::fill_from_file(&pieces, file, offset) }
    }

    fn store_to_file(
        &self,
        segments: &[Segment],
        file: &File,
        offset: u64,
    ) -> Result<(), TransferError> {
        let pieces = self.mapped(segments)?;
        // SAFETY: as in `fill_from_file`.
        unsafe { direct::store_to_file(&pieces, file, offset) }
    }
}

/// Pages set aside, freed when dropped.
#[derive(Debug)]
pub(crate) struct Region {
    arena: Arc<Arena>,
    offset: usize,
    bytes: usize,
}

impl Drop for Region {
    fn drop(&mut self) {
        for page in &self.arena.taken[self.offset / PAGE..(self.offset + self.bytes) / PAGE] {
            page.store(false, Ordering::Release);
        }
    }
}

/// A piece of host memory that the software controller reaches: a [`DmaRegion`].
///
/// Clones share it; the last one to go frees it, after which the controller's accesses fault.
#[derive(Debug, Clone)]
pub struct MockDma(Arc<Region>, usize);

impl MockDma {
    pub(crate) fn new(region: Region, bytes: usize) -> Self {
        let bytes = bytes.min(region.bytes);
        Self(Arc::new(region), bytes)
    }

    /// Copies bytes out of the CPU's side, as an application would read its buffer.
    ///
    /// # Panics
    ///
    /// If they do not lie inside.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset + bytes.len() <= self.1, "{} bytes at {offset} of {}", bytes.len(), self.1);
        self.to_cpu(offset..offset + bytes.len());
        self.0.arena.cpu.copy_out(self.0.offset + offset, bytes);
    }

    /// Copies bytes into the CPU's side, as an application would fill its buffer, and hands them
    /// over to the device.
    ///
    /// # Panics
    ///
    /// If they do not lie inside.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.1, "{} bytes at {offset} of {}", bytes.len(), self.1);
        self.0.arena.cpu.copy_in(self.0.offset + offset, bytes);
        self.to_device(offset..offset + bytes.len());
    }

    /// The part of `range` that lies inside, as offsets into the arena.
    fn inside(&self, range: Range<usize>) -> Option<Range<usize>> {
        let end = range.end.min(self.1);
        (range.start < end).then(|| self.0.offset + range.start..self.0.offset + end)
    }
}

// SAFETY: the pages stay allocated while a clone of the value lives, at one address, aligned to
// a page; every access to them, here and by the device, copies without forming a reference; and
// `bus` is where `Arena::check` finds them.
unsafe impl DmaRegion for MockDma {
    fn cpu(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.0.arena.cpu.at(self.0.offset, self.1), self.1)
    }

    fn bus(&self) -> BusAddr {
        BusAddr(self.0.arena.base + self.0.offset as u64)
    }

    fn to_device(&self, range: Range<usize>) {
        if let (Some(device), Some(range)) = (&self.0.arena.device, self.inside(range)) {
            carry(&self.0.arena.cpu, device, range);
        }
    }

    fn to_cpu(&self, range: Range<usize>) {
        if let (Some(device), Some(range)) = (&self.0.arena.device, self.inside(range)) {
            carry(device, &self.0.arena.cpu, range);
        }
    }
}

/// Carries a range over from one side to the other.
fn carry(from: &Pages, to: &Pages, range: Range<usize>) {
    let source = from.at(range.start, range.len());
    let target = to.at(range.start, range.len());
    // SAFETY: both were just checked to hold the range, and they are two allocations.
    unsafe { copy(source, target, range.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cpu_wrote_reaches_the_device_only_once_it_is_handed_over() {
        let arena = Arena::new(1 << 32, 1 << 20, true);
        let dma = MockDma::new(arena.allocate(100, 8).expect("room"), 100);
        arena.cpu.copy_in(dma.0.offset, &[7]);
        assert_eq!(arena.read_u32(dma.bus().0), Ok(0));
        dma.to_device(0..1);
        assert_eq!(arena.read_u32(dma.bus().0), Ok(7));
        arena.write(dma.bus().0 + 4, &[9]).expect("inside");
        let mut seen = [0xff; 8];
        arena.cpu.copy_out(dma.0.offset, &mut seen);
        assert_eq!(seen, [7, 0, 0, 0, 0, 0, 0, 0]);
        dma.read(0, &mut seen);
        assert_eq!(seen, [7, 0, 0, 0, 9, 0, 0, 0]);
    }

    #[test]
    fn memory_that_was_freed_faults_and_comes_back_zeroed() {
        let arena = Arena::new(1 << 32, 1 << 16, false);
        let dma = MockDma::new(arena.allocate(4096, 4096).expect("room"), 4096);
        let at = dma.bus().0;
        let other = dma.clone();
        drop(dma);
        arena.write(at + 4090, &[1; 6]).expect("a clone lives");
        assert_eq!(arena.write(at + 4090, &[1; 7]), Err(DmaFault { at: at + 4090, bytes: 7 }));
        drop(other);
        assert!(arena.read_u32(at).is_err());
        assert_eq!(arena.pages_taken(), 0);
        let again = MockDma::new(arena.allocate(4096, 4096).expect("room"), 4096);
        assert_eq!(again.bus().0, at);
        assert_eq!(arena.read_u32(at + 4092), Ok(0));
    }

    #[test]
    fn a_file_moves_straight_in_and_out_of_the_devices_side() {
        use std::os::unix::fs::FileExt;
        for bouncing in [false, true] {
            let arena = Arena::new(1 << 32, 1 << 20, bouncing);
            let dma = MockDma::new(arena.allocate(8192, 8).expect("room"), 8192);
            let at = dma.bus().0;
            let file = tempfile::tempfile().expect("a file");
            file.write_all_at(b"..Hello, world", 0).expect("room on the disk");
            let segments = [Segment { at: at + 4090, bytes: 5 }, Segment { at, bytes: 7 }];
            arena.fill_from_file(&segments, &file, 2).expect("inside");
            let mut seen = [0; 7];
            dma.read(4090, &mut seen[..5]);
            assert_eq!(seen[..5], *b"Hello");
            dma.read(0, &mut seen);
            assert_eq!(seen, *b", world");
            arena.store_to_file(&segments, &file, 100).expect("inside");
            let mut stored = [0; 12];
            file.read_exact_at(&mut stored, 100).expect("stored");
            assert_eq!(stored, *b"Hello, world");

            let outside = [Segment { at, bytes: 4 }, Segment { at: at + 8190, bytes: 4 }];
            let error = arena.fill_from_file(&outside, &file, 2).expect_err("outside");
            assert!(matches!(error, TransferError { moved: 0, cause: TransferCause::Memory }));
            assert_eq!(arena.read_u32(at), Ok(u32::from_le_bytes(*b", wo")), "nothing was moved");
        }
    }

    #[test]
    fn no_piece_crosses_a_window_and_alignment_is_honoured() {
        let arena = Arena::new((2 << 32) - 0x3000, 1 << 20, false);
        let low = arena.allocate(0x2000, 1).expect("room below");
        assert_eq!(low.offset, 0);
        let high = arena.allocate(0x2000, 1).expect("room above");
        assert_eq!(arena.base + high.offset as u64, 2 << 32);
        let aligned = arena.allocate(1, 0x10000).expect("room");
        assert_eq!((arena.base + aligned.offset as u64) % 0x10000, 0);
        assert!(arena.allocate(1 << 20, 1).is_none());
    }

    #[test]
    fn a_copy_carries_every_byte_whatever_the_alignment() {
        let arena = Arena::new(1 << 32, 1 << 16, false);
        let dma = MockDma::new(arena.allocate(4096, 1).expect("room"), 4096);
        let bytes: Vec<u8> = (0..200).map(|n| n as u8).collect();
        for offset in 0..9 {
            for length in [0, 1, 7, 8, 9, 63, 200] {
                dma.write(offset, &bytes[..length]);
                let mut seen = vec![0; length];
                arena.read(dma.bus().0 + offset as u64, &mut seen).expect("inside");
                assert_eq!(seen, bytes[..length]);
            }
        }
    }
}
