#![no_std]
#![no_main]
#![deny(missing_docs)]
//! A program without an operating system, an allocator or `std` that links the core.
//!
//! It is linked and read, never run (`cargo xtask test host`):
//!
//! - that it links proves that the core needs no allocator;
//! - no symbol of `core::panicking` may be left in it, nor be reachable from [`probe_submit`] or
//!   [`probe_poll`];
//! - its executable and read-only sections are the figures `size.text_bytes.<target>.*`.
//!
//! So everything a driver calls must be called from here, with values that the optimiser cannot
//! know ([`black_box`]).

use core::cell::UnsafeCell;
use core::hint::black_box;
use core::panic::PanicInfo;
use core::ptr::NonNull;

use fusion_mpt::mem::Memory;
use fusion_mpt::platform::{BusAddr, DmaRegion, Registers};

/// Bytes of DMA memory: enough to link with, not to run with.
const DMA_BYTES: usize = 64 * 1024;

/// Must exist, must never be referenced.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    panicked()
}

/// Where every panic ends. Never inlined, and with an effect: however the optimiser folds the way
/// here, this symbol is in the image if and only if something can panic.
#[inline(never)]
fn panicked() -> ! {
    loop {
        black_box(&DMA_MEMORY);
    }
}

#[repr(C, align(4096))]
struct DmaBytes(UnsafeCell<[u8; DMA_BYTES]>);

// SAFETY: reached only through the volatile accesses of `Memory`.
unsafe impl Sync for DmaBytes {}

static DMA_MEMORY: DmaBytes = DmaBytes(UnsafeCell::new([0; DMA_BYTES]));

/// The static DMA memory, at a bus address that the linker does not know.
struct StaticDma {
    bus: BusAddr,
}

// SAFETY: the static lives for ever, is page aligned, and nothing else refers to it.
unsafe impl DmaRegion for StaticDma {
    fn cpu(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(NonNull::from(&DMA_MEMORY).cast(), DMA_BYTES)
    }

    fn bus(&self) -> BusAddr {
        self.bus
    }
}

/// A register block somewhere in memory. The cheapest back end there is, so that the text size is
/// the core's own.
struct Window {
    base: NonNull<u8>,
}

impl Registers for Window {
    fn read32(&self, offset: u16) -> u32 {
        // SAFETY: this program is never run.
        let at = unsafe { self.base.byte_add(usize::from(offset)) };
        // SAFETY: as above.
        unsafe { at.cast::<u32>().read_volatile() }
    }

    fn write32(&self, offset: u16, value: u32) {
        // SAFETY: this program is never run.
        let at = unsafe { self.base.byte_add(usize::from(offset)) };
        // SAFETY: as above.
        unsafe { at.cast::<u32>().write_volatile(value) };
    }
}

/// What the probes work on.
pub struct Driver {
    registers: Window,
    memory: Memory<StaticDma>,
}

/// Everything that submitting a command calls; kept whole so that its call graph can be walked.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn probe_submit(driver: &mut Driver, at: usize, frame: &[u64; 16]) {
    #[cfg(feature = "planted-panic")]
    black_box(frame[at]);
    driver.memory.write_words(at, frame);
    driver.registers.write64(0xc0, at as u64);
}

/// Everything that polling for replies calls; kept whole so that its call graph can be walked.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn probe_poll(driver: &mut Driver, at: usize, sense: &mut [u8; 256]) -> u64 {
    let descriptor = driver.memory.read_u64(at);
    driver.memory.copy_out(at, sense);
    driver.registers.write32(0x6c, at as u32);
    descriptor
}

/// Where the linker starts: everything that is to be linked hangs from here.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    let mut driver = Driver {
        registers: Window {
            base: black_box(NonNull::dangling()),
        },
        memory: Memory::new(StaticDma {
            bus: black_box(BusAddr(0)),
        }),
    };
    loop {
        probe_submit(&mut driver, black_box(0), black_box(&[0; 16]));
        black_box(probe_poll(
            &mut driver,
            black_box(0),
            black_box(&mut [0; 256]),
        ));
    }
}
