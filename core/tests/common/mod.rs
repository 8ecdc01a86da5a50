//! What several integration tests share.

// Each test program compiles this file for itself, and few use all of it.
#![allow(dead_code)]

use std::ptr::NonNull;

use fusion_mpt::platform::{BusAddr, DmaRegion};

/// A DMA region in ordinary memory, with a bus address of the test's choosing.
///
/// Wrap `&region` in `Memory`, and look at [`TestRegion::bytes`] meanwhile.
#[derive(Debug)]
pub(crate) struct TestRegion {
    words: NonNull<u64>,
    count: usize,
    bus: BusAddr,
}

impl TestRegion {
    /// A region of `bytes`, rounded up to a multiple of 8, each byte set to `fill`.
    pub(crate) fn new(bytes: usize, bus: BusAddr, fill: u8) -> Self {
        let words = vec![u64::from_ne_bytes([fill; 8]); bytes.div_ceil(8)].into_boxed_slice();
        let count = words.len();
        let words = NonNull::new(Box::into_raw(words).cast()).expect("a box is never null");
        Self { words, count, bus }
    }

    /// A copy of what the region holds now.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        (0..self.count)
            .flat_map(|index| {
                // SAFETY: `index < count`, the number of words behind the pointer.
                let word = unsafe { self.words.add(index) };
                // SAFETY: in bounds, aligned, and initialised by `new`.
                unsafe { word.read_volatile() }.to_ne_bytes()
            })
            .collect()
    }
}

impl Drop for TestRegion {
    fn drop(&mut self) {
        let words = std::ptr::slice_from_raw_parts_mut(self.words.as_ptr(), self.count);
        // SAFETY: `new` took the pointer from a box of that length, and nobody else frees it.
        drop(unsafe { Box::from_raw(words) });
    }
}

// SAFETY: the words live as long as the value, are 8-byte aligned, and are only ever reached
// through raw pointers. There is no device, so the bus address finds whatever the test says.
unsafe impl DmaRegion for TestRegion {
    fn cpu(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.words.cast(), self.count * 8)
    }

    fn bus(&self) -> BusAddr {
        self.bus
    }
}
