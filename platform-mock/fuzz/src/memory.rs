//! Host memory that driver and controller share: pieces at bus addresses, each an allocation of its
//! exact size, so that the sanitizer sees the first byte past its end.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};
use std::rc::Rc;

use fusion_mpt::platform::{BusAddr, DmaRegion};
use fusion_mpt_mock::memory::{DeviceMemory, DmaFault};

/// Bus addresses between two pieces: none crosses a 4 GiB boundary, and none touches another.
const STRIDE: u64 = 1 << 32;

/// Memory at a bus address. Accessed only by copying, from both sides.
#[derive(Debug)]
struct Piece {
    at: u64,
    base: NonNull<u8>,
    layout: Layout,
}

impl Piece {
    fn new(at: u64, bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes.max(8), 4096).expect("pieces are small");
        // SAFETY: the size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        match NonNull::new(base) {
            Some(base) => Self { at, base, layout },
            None => handle_alloc_error(layout),
        }
    }

    fn len(&self) -> usize {
        self.layout.size()
    }

    /// Where the `bytes` bytes at bus address `at` are, if they all lie inside.
    fn find(&self, at: u64, bytes: usize) -> Option<NonNull<u8>> {
        let offset = usize::try_from(at.checked_sub(self.at)?).ok()?;
        let inside = offset <= self.len() && bytes <= self.len() - offset;
        // SAFETY: just checked to lie inside the allocation.
        inside.then(|| unsafe { self.base.add(offset) })
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout by `new`, and dropped once.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// A piece as the driver has it.
#[derive(Debug, Clone)]
pub struct Region(Rc<Piece>);

// SAFETY: the allocation lives as long as any clone, at one address, aligned to a page; no
// reference to its bytes is ever formed, and `HostMemory` finds them at this bus address.
unsafe impl DmaRegion for Region {
    fn cpu(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.0.base, self.0.len())
    }

    fn bus(&self) -> BusAddr {
        BusAddr(self.0.at)
    }
}

/// All the memory that the device reaches.
#[derive(Debug, Default)]
pub struct HostMemory {
    pieces: RefCell<Vec<Rc<Piece>>>,
    /// Pieces that there have ever been.
    count: Cell<u64>,
    /// Accesses of the device so far.
    accesses: Cell<u64>,
}

impl HostMemory {
    /// Sets `bytes` zeroed bytes aside, at a bus address of their own.
    #[must_use]
    pub fn allocate(&self, bytes: usize) -> Region {
        // The first lies below 4 GiB, but not at zero, which is no address.
        let at = STRIDE * self.count.get() + 0x10_0000;
        self.count.set(self.count.get() + 1);
        let piece = Rc::new(Piece::new(at, bytes));
        self.pieces.borrow_mut().push(Rc::clone(&piece));
        Region(piece)
    }

    /// Takes memory away from the device; a region that the driver still has stays the driver's.
    pub fn revoke(&self, region: &Region) {
        self.pieces.borrow_mut().retain(|piece| !Rc::ptr_eq(piece, &region.0));
    }

    /// Takes all memory away from the device but for the first piece.
    pub fn cut_off(&self) {
        self.pieces.borrow_mut().truncate(1);
    }

    /// Writes as a device that has run wild: `offset` bytes into the newest piece, and from its start
    /// again where that lies beyond its end.
    pub fn scribble(&self, offset: u32, bytes: &[u8]) {
        let pieces = self.pieces.borrow();
        let Some(piece) = pieces.last() else { return };
        let room = piece.len().saturating_sub(bytes.len());
        let offset = offset as usize % (room + 1);
        // Inside, but for a piece that is shorter than the bytes, which is then left alone.
        let _ = self.write(piece.at + offset as u64, bytes);
    }

    /// Accesses of the device so far.
    #[must_use]
    pub fn accesses(&self) -> u64 {
        self.accesses.get()
    }

    fn find(&self, at: u64, bytes: usize) -> Result<NonNull<u8>, DmaFault> {
        self.accesses.set(self.accesses.get() + 1);
        let pieces = self.pieces.borrow();
        pieces.iter().find_map(|piece| piece.find(at, bytes)).ok_or(DmaFault { at, bytes })
    }
}

impl DeviceMemory for HostMemory {
    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), DmaFault> {
        let from = self.find(at, bytes.len())?;
        // SAFETY: as many bytes lie inside the piece, and `bytes` is the caller's own.
        unsafe { ptr::copy(from.as_ptr(), bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        let to = self.find(at, bytes.len())?;
        // SAFETY: as many bytes lie inside the piece, to which nobody has a reference.
        unsafe { ptr::copy(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        Ok(())
    }
}
