//! The boundary: everything the core needs from the world it runs in.
//!
//! A platform supplies two things that live as long as the controller does, [`Registers`] and a
//! [`DmaRegion`], one thing for bring-up and resets, [`embedded_hal::delay::DelayNs`], and the
//! time, as a plain argument to `tick`. Nothing here allocates, blocks or calls back.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use volatile_register::RW;

/// An address as the controller sees it on the bus: an IOVA, never a CPU pointer (trap T28).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BusAddr(pub u64);

impl BusAddr {
    /// The low 32 bits.
    #[must_use]
    #[inline]
    pub const fn low(self) -> u32 {
        self.0 as u32
    }

    /// The high 32 bits: the number of the 4 GiB window that the address lies in.
    #[must_use]
    #[inline]
    pub const fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The address `bytes` further on; wraps at 2^64, which no plan allows to happen.
    #[must_use]
    #[inline]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl fmt::Debug for BusAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BusAddr({:#x})", self.0)
    }
}

impl fmt::Display for BusAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Access to the controller's register window.
///
/// Offsets are bytes from the start of the memory BAR and always a multiple of 4. Accesses
/// cannot fail: a device that is gone reads as all ones, and the core knows what that means.
/// `&self` because a register window is shared by nature: each queue holds its own handle.
///
/// An implementation must make every store the CPU did to DMA memory before a register write
/// visible to the device before the write itself (trap T47).
pub trait Registers {
    /// Reads the 32-bit register at `offset`.
    fn read32(&self, offset: u16) -> u32;

    /// Writes the 32-bit register at `offset`.
    fn write32(&self, offset: u16, value: u32);

    /// Cuts the device's access to memory, as far as the platform can: bus mastering off, an IOMMU
    /// mapping removed. Called once when a controller cannot be reset, or reads as all ones, before
    /// its commands complete and their memory is used for something else (trap T41): a card whose
    /// link was down for a moment is back and goes on. It may be there or not, and no register of
    /// it may be touched. The default does nothing.
    fn cut_off(&self) {}

    /// Writes 64 bits at `offset` as one bus write where the bus can.
    ///
    /// The default writes the low half, then the high half, which commits. It is only right while
    /// nothing else posts in between; `queue::ring` takes a critical section around it when the
    /// controller's quirks ask for split posts.
    fn write64(&self, offset: u16, value: u64) {
        self.write32(offset, value as u32);
        self.write32(offset.wrapping_add(4), (value >> 32) as u32);
    }
}

impl<T: Registers + ?Sized> Registers for &T {
    #[inline]
    fn read32(&self, offset: u16) -> u32 {
        (**self).read32(offset)
    }
    #[inline]
    fn write32(&self, offset: u16, value: u32) {
        (**self).write32(offset, value);
    }
    #[inline]
    fn write64(&self, offset: u16, value: u64) {
        (**self).write64(offset, value);
    }
    fn cut_off(&self) {
        (**self).cut_off();
    }
}

/// A pinned range of memory that both the CPU and the controller can reach.
///
/// The core never allocates: the platform supplies one region that satisfies a
/// [`MemoryPlan`](crate::memory_plan::MemoryPlan).
///
/// # Safety
///
/// For the life of the value, `cpu()` must return the same range, valid for reads and writes and
/// at least 8-byte aligned, to which no Rust reference exists anywhere (the device writes it at
/// any time); and `bus()` must be the address at which the device finds its first byte.
pub unsafe trait DmaRegion {
    /// Where the CPU finds the region, and its length in bytes.
    fn cpu(&self) -> NonNull<[u8]>;

    /// Where the controller finds its first byte.
    fn bus(&self) -> BusAddr;

    /// Called after the CPU wrote `range` and before the device is told. Nothing to do on a
    /// coherent host.
    #[inline]
    fn to_device(&self, range: Range<usize>) {
        let _ = range;
    }

    /// Called before the CPU reads `range` that the device may have written. Nothing to do on a
    /// coherent host.
    #[inline]
    fn to_cpu(&self, range: Range<usize>) {
        let _ = range;
    }
}

// SAFETY: a shared reference forwards to the same region, whose promises hold for its life.
unsafe impl<T: DmaRegion + ?Sized> DmaRegion for &T {
    #[inline]
    fn cpu(&self) -> NonNull<[u8]> {
        (**self).cpu()
    }
    #[inline]
    fn bus(&self) -> BusAddr {
        (**self).bus()
    }
    #[inline]
    fn to_device(&self, range: Range<usize>) {
        (**self).to_device(range);
    }
    #[inline]
    fn to_cpu(&self, range: Range<usize>) {
        (**self).to_cpu(range);
    }
}

/// Orders every earlier store to DMA memory before the next register write.
#[inline]
pub fn before_register_write() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier has no operands and no effect but order; PCIe sits in the outer shareable
    // domain, which the inner-shareable barrier of `fence` need not cover.
    unsafe {
        core::arch::asm!("dmb oshst", options(nostack, preserves_flags));
    }
    fence(Ordering::Release);
}

/// A register window that the CPU reaches by plain loads and stores: a mapped BAR.
///
/// `B` is the `volatile-register` block of the controller's generation (`regs::mpi1::Block`,
/// `regs::mpi2::Block`); it gives the window its size. Offsets outside the window read as all
/// ones and ignore writes, as an unclaimed bus cycle does (trap T35).
pub struct MmioBlock<B> {
    base: NonNull<u32>,
    block: PhantomData<fn() -> B>,
}

// SAFETY: the window is device memory; each access is one volatile instruction, which any thread
// may issue, and the device orders them.
unsafe impl<B> Send for MmioBlock<B> {}
// SAFETY: as for `Send`; there is no state beside the pointer.
unsafe impl<B> Sync for MmioBlock<B> {}

impl<B> fmt::Debug for MmioBlock<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MmioBlock({:p})", self.base)
    }
}

impl<B> MmioBlock<B> {
    /// Takes a mapped BAR.
    ///
    /// # Safety
    ///
    /// `base` must be the start of a mapping of the controller's memory BAR, at least
    /// `size_of::<B>()` bytes long, 8-byte aligned, uncached, and valid as long as the value lives.
    #[must_use]
    pub const unsafe fn new(base: NonNull<B>) -> Self {
        Self { base: base.cast(), block: PhantomData }
    }

    fn register(&self, offset: u16, width: usize) -> Option<NonNull<u32>> {
        let offset = usize::from(offset);
        if !offset.is_multiple_of(4) || offset + width > size_of::<B>() {
            return None;
        }
        // SAFETY: `offset` was just checked to lie within the mapping that `new` was promised.
        Some(unsafe { self.base.byte_add(offset) })
    }
}

impl<B> Registers for MmioBlock<B> {
    #[inline]
    fn read32(&self, offset: u16) -> u32 {
        match self.register(offset, 4) {
            // SAFETY: within the mapping; `RW<u32>` is an `UnsafeCell`, so the reference claims
            // nothing about a value that the device changes.
            Some(at) => unsafe { at.cast::<RW<u32>>().as_ref() }.read(),
            None => u32::MAX,
        }
    }

    #[inline]
    fn write32(&self, offset: u16, value: u32) {
        before_register_write();
        if let Some(at) = self.register(offset, 4) {
            // SAFETY: within the mapping, as above.
            let register = unsafe { at.cast::<RW<u32>>().as_ref() };
            // SAFETY: what a register write does to the device is the caller's business; it has
            // no effect on this program's memory but through DMA that `DmaRegion` vouches for.
            unsafe { register.write(value) };
        }
    }

    #[cfg(target_pointer_width = "64")]
    #[inline]
    fn write64(&self, offset: u16, value: u64) {
        before_register_write();
        if !offset.is_multiple_of(8) {
            self.write32(offset, value as u32);
            self.write32(offset.wrapping_add(4), (value >> 32) as u32);
        } else if let Some(at) = self.register(offset, 8) {
            // SAFETY: within the mapping and 8-byte aligned, as the base is.
            let register = unsafe { at.cast::<RW<u64>>().as_ref() };
            // SAFETY: as for `write32`.
            unsafe { register.write(value) };
        }
    }
}
