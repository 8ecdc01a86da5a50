//! Copies between memory of ours and memory that somebody else may write at the same time.

use std::ptr::NonNull;

/// Copies by volatile accesses, by 64-bit words where both sides are aligned alike.
///
/// # Safety
///
/// `bytes` bytes must be readable at `from` and writable at `to`, without overlap.
pub(crate) unsafe fn copy(from: NonNull<u8>, to: NonNull<u8>, bytes: usize) {
    let mut done = 0;
    if from.addr().get() % 8 == to.addr().get() % 8 {
        let head = from.align_offset(8).min(bytes);
        while done < head {
            // SAFETY: `done < bytes`.
            unsafe { copy_one::<u8>(from, to, done) };
            done += 1;
        }
        while bytes - done >= 8 {
            // SAFETY: 8 bytes are left, and both pointers are aligned past the head.
            unsafe { copy_one::<u64>(from, to, done) };
            done += 8;
        }
    }
    while done < bytes {
        // SAFETY: `done < bytes`.
        unsafe { copy_one::<u8>(from, to, done) };
        done += 1;
    }
}

/// Copies one `T` at byte `offset`.
///
/// # Safety
///
/// A `T` must be readable at `from + offset` and writable at `to + offset`, aligned.
#[inline(always)]
unsafe fn copy_one<T: Copy>(from: NonNull<u8>, to: NonNull<u8>, offset: usize) {
    // SAFETY: the caller promises that it lies inside.
    let from = unsafe { from.add(offset) }.cast::<T>();
    // SAFETY: as above.
    let to = unsafe { to.add(offset) }.cast::<T>();
    // SAFETY: readable and aligned, the caller promises.
    let value = unsafe { from.read_volatile() };
    // SAFETY: writable and aligned, the caller promises.
    unsafe { to.write_volatile(value) };
}
