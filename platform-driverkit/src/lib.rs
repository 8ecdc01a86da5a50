//! The C ABI through which a macOS DriverKit extension (DEXT) reaches the driver core.
//!
//! What stands here today: how the shim's PCI access becomes the core's
//! [`Registers`], how its IODMACommand-prepared memory becomes a [`DmaRegion`], and the version of
//! the interface. The bundle, the life cycle, the limits and the extension itself are part 5 of
//! the project and not here: no function pretends to be one of them. It is an ordinary library until
//! then; part 5 links it into the static library that the extension takes.

#![no_std]
#![deny(missing_docs)]

use core::ffi::c_void;
use core::fmt;
use core::ptr::NonNull;

use fusion_mpt::platform::{BusAddr, DmaRegion, Registers};

/// The version of this interface; the shim refuses to run with another. Raised with every change
/// of a function's signature or a struct's layout.
pub const INTERFACE_VERSION: u32 = 1;

/// The version of this interface, for the shim to compare with its own header's.
#[unsafe(no_mangle)]
pub extern "C" fn fusion_mpt_interface_version() -> u32 {
    INTERFACE_VERSION
}

/// How the shim reaches the controller's memory BAR: thin calls of `IOPCIDevice::MemoryRead32`,
/// `MemoryWrite32` and `MemoryWrite64` with the memory index that `GetBARInfo` gave (trap T35).
/// 40 bytes on the 64-bit systems that DriverKit runs on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RegisterAccess {
    /// Handed to each function: the shim's own object.
    pub context: *mut c_void,
    /// Bytes of the BAR. An access beyond reads as all ones and is not made.
    pub bytes: u64,
    /// Reads 32 bits at an offset; all ones if the device is gone.
    pub read32: extern "C" fn(context: *mut c_void, offset: u64) -> u32,
    /// Writes 32 bits at an offset.
    pub write32: extern "C" fn(context: *mut c_void, offset: u64, value: u32),
    /// Writes 64 bits at an offset as one bus write (trap T47).
    pub write64: extern "C" fn(context: *mut c_void, offset: u64, value: u64),
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<RegisterAccess>() == 40);

// SAFETY: the shim promises that its functions may be called from any of its dispatch queues:
// PCIDriverKit's accessors are loads and stores on a mapping (style.md, finding 3).
unsafe impl Send for RegisterAccess {}

impl fmt::Debug for RegisterAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegisterAccess({} bytes)", self.bytes)
    }
}

impl RegisterAccess {
    fn holds(&self, offset: u16, width: u64) -> bool {
        u64::from(offset) + width <= self.bytes
    }
}

impl Registers for RegisterAccess {
    fn read32(&self, offset: u16) -> u32 {
        if self.holds(offset, 4) {
            (self.read32)(self.context, u64::from(offset))
        } else {
            u32::MAX
        }
    }

    fn write32(&self, offset: u16, value: u32) {
        if self.holds(offset, 4) {
            fusion_mpt::platform::before_register_write();
            (self.write32)(self.context, u64::from(offset), value);
        }
    }

    fn write64(&self, offset: u16, value: u64) {
        if self.holds(offset, 8) {
            fusion_mpt::platform::before_register_write();
            (self.write64)(self.context, u64::from(offset), value);
        }
    }
}

/// Memory that the shim allocated (`IOBufferMemoryDescriptor`), mapped and prepared for DMA in one
/// segment (`IODMACommand`). 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DmaMemory {
    /// Where the CPU finds it; at least 8-byte aligned.
    pub cpu: NonNull<u8>,
    /// Where the controller finds it.
    pub bus: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<DmaMemory>() == 24);

// SAFETY: plain memory, reached only by the core's volatile accesses.
unsafe impl Send for DmaMemory {}

// SAFETY: the shim promises that the range is mapped, prepared and referenced by nothing else
// until the controller object that was given it has been taken apart (traps T14, T41).
unsafe impl DmaRegion for DmaMemory {
    fn cpu(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.cpu, self.bytes as usize)
    }

    fn bus(&self) -> BusAddr {
        BusAddr(self.bus)
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    extern "C" fn read(context: *mut c_void, offset: u64) -> u32 {
        // SAFETY: the tests below pass a pointer to a cell that outlives the call.
        let cell = unsafe { &*context.cast::<Cell<u64>>() };
        (cell.get() >> (offset * 8)) as u32
    }
    extern "C" fn write(context: *mut c_void, _offset: u64, value: u32) {
        write_whole(context, 0, u64::from(value));
    }
    extern "C" fn write_whole(context: *mut c_void, _offset: u64, value: u64) {
        // SAFETY: as in `read`.
        unsafe { &*context.cast::<Cell<u64>>() }.set(value);
    }

    #[test]
    fn an_access_beyond_the_bar_is_not_made() {
        let cell = Cell::new(0x1122_3344_5566_7788u64);
        let context = (&raw const cell).cast_mut().cast();
        let access = RegisterAccess {
            context,
            bytes: 8,
            read32: read,
            write32: write,
            write64: write_whole,
        };
        assert_eq!(access.read32(4), 0x1122_3344);
        assert_eq!(access.read32(8), u32::MAX);
        access.write64(4, 1);
        assert_eq!(cell.get(), 0x1122_3344_5566_7788);
        access.write64(0, 1);
        assert_eq!(cell.get(), 1);
    }
}
