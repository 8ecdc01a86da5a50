//! Volatile, bounds-checked access to a [`DmaRegion`], by whole words.
//!
//! The device may write the region at any time, so no Rust reference to it is ever formed: data
//! is copied out once, into private memory, and only the copy is looked at (trap T13). An access
//! outside the region reads as all ones and ignores writes: the plan makes it impossible, and a
//! lying controller must not turn a mistake into undefined behaviour.

use core::fmt;
use core::ptr::NonNull;

use crate::platform::{BusAddr, DmaRegion};

/// A region with its bounds at hand. Offsets are bytes from its start.
#[derive(Clone)]
pub struct Memory<D> {
    region: D,
    base: NonNull<u8>,
    length: usize,
    /// Any access of at most [`SHORT`] words before this word lies within the region.
    short_until: usize,
    bus: BusAddr,
}

/// No message, element or descriptor has more 64-bit words than this.
const SHORT: usize = 32;
/// Bytes of a word.
pub(crate) const WORD: usize = size_of::<u64>();

// SAFETY: `base` points into the region that travels with it; the access is volatile, and the
// region's own `Send` says whether it may move.
unsafe impl<D: Send> Send for Memory<D> {}
// SAFETY: as for `Send`; whole words are copied in and out by volatile access, so that a second
// thread is to this one what the device is anyway.
unsafe impl<D: Sync> Sync for Memory<D> {}

impl<D> fmt::Debug for Memory<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes at {})", self.length, self.bus)
    }
}

/// Stores `words` one after the other, little endian.
///
/// # Safety
///
/// `at` must be aligned and valid for `N` volatile writes.
#[inline]
unsafe fn write_words_at<const N: usize>(at: NonNull<u64>, words: &[u64; N]) {
    for (index, word) in words.iter().enumerate() {
        // SAFETY: `index < N`.
        let to = unsafe { at.add(index) };
        // SAFETY: the caller's promise.
        unsafe { to.write_volatile(word.to_le()) };
    }
}

impl<D: DmaRegion> Memory<D> {
    /// Wraps `region`.
    pub fn new(region: D) -> Self {
        let (cpu, bus) = (region.cpu(), region.bus());
        let length = cpu.len();
        let short_until = (length / WORD).saturating_sub(SHORT);
        Self { region, base: cpu.cast(), length, short_until, bus }
    }

    /// The region's length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether the region has no bytes at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bus address of the byte at `offset`.
    #[must_use]
    #[inline]
    pub const fn bus(&self, offset: usize) -> BusAddr {
        self.bus.offset(offset as u64)
    }

    /// The region itself.
    #[must_use]
    pub const fn region(&self) -> &D {
        &self.region
    }

    /// Gives the region back.
    pub fn into_inner(self) -> D {
        self.region
    }

    #[inline]
    fn at(&self, offset: usize, width: usize, align: usize) -> Option<NonNull<u8>> {
        if !offset.is_multiple_of(align) {
            return None;
        }
        if !self.is_within(offset, width) {
            return None;
        }
        // SAFETY: `offset + width` was just checked to lie within the region.
        Some(unsafe { self.base.add(offset) })
    }

    /// Where `count` words begin, `word` words into the region. Words need no check of alignment:
    /// the region's start has it.
    #[inline]
    fn words_at(&self, word: usize, count: usize) -> Option<NonNull<u64>> {
        // One comparison for nearly every access; the exact check for the region's last words.
        let is_short = count <= SHORT && word < self.short_until;
        if !is_short && !self.is_within(word.saturating_mul(WORD), count * WORD) {
            return None;
        }
        // SAFETY: `count` words from there on were just checked to lie within the region.
        Some(unsafe { self.base.cast::<u64>().add(word) })
    }

    fn is_within(&self, offset: usize, width: usize) -> bool {
        self.length.checked_sub(width).is_some_and(|last| offset <= last)
    }

    /// Reads 32 bits, little endian on the wire, at a multiple of 4.
    #[must_use]
    #[inline]
    pub fn read_u32(&self, offset: usize) -> u32 {
        self.region.to_cpu(offset..offset + 4);
        match self.at(offset, 4, 4) {
            // SAFETY: in bounds and aligned; volatile, since the device may write it meanwhile.
            Some(at) => u32::from_le(unsafe { at.cast::<u32>().read_volatile() }),
            None => u32::MAX,
        }
    }

    /// Reads 64 bits, little endian on the wire, at a multiple of 8.
    #[must_use]
    #[inline]
    pub fn read_u64(&self, offset: usize) -> u64 {
        self.region.to_cpu(offset..offset + 8);
        match self.at(offset, 8, 8) {
            // SAFETY: in bounds and aligned; volatile, since the device may write it meanwhile.
            Some(at) => u64::from_le(unsafe { at.cast::<u64>().read_volatile() }),
            None => u64::MAX,
        }
    }

    /// Writes 64 bits, little endian on the wire, at a multiple of 8.
    #[inline(never)]
    pub fn write_u64(&self, offset: usize, value: u64) {
        self.write_words(offset, &[value]);
    }

    /// Writes 32 bits, little endian on the wire, at a multiple of 4.
    #[inline(never)]
    pub fn write_u32(&self, offset: usize, value: u32) {
        if let Some(at) = self.at(offset, 4, 4) {
            // SAFETY: in bounds and aligned.
            unsafe { at.cast::<u32>().write_volatile(value.to_le()) };
            self.region.to_device(offset..offset + 4);
        }
    }

    /// Writes `N` 64-bit words, little endian on the wire, from a multiple of 8 on.
    #[inline]
    pub fn write_words<const N: usize>(&self, offset: usize, words: &[u64; N]) {
        if offset.is_multiple_of(WORD) {
            self.write_message(offset / WORD, words, &[]);
        }
    }

    /// Writes a message in two parts, one right behind the other, `word` 64-bit words into the
    /// region, little endian on the wire: one check for both.
    #[inline]
    pub fn write_message<const N: usize, const M: usize>(
        &self,
        word: usize,
        head: &[u64; N],
        tail: &[u64; M],
    ) {
        if let Some(at) = self.words_at(word, N + M) {
            // SAFETY: `N + M` words were checked to lie within the region, aligned.
            unsafe { write_words_at(at, head) };
            // SAFETY: as above, and the tail begins after the `N` words of the head.
            let behind = unsafe { at.add(N) };
            // SAFETY: as above.
            unsafe { write_words_at(behind, tail) };
            self.region.to_device(word * WORD..(word + N + M) * WORD);
        }
    }

    /// Takes the word that lies `word` 64-bit words into the region, if the device has written it:
    /// if neither half of it is all ones. All ones stand there afterwards.
    ///
    /// Both halves, because a host that reads 64 bits in two can see one before the other.
    #[inline]
    pub fn take_written(&self, word: usize) -> Option<u64> {
        let at = self.words_at(word, 1)?;
        self.region.to_cpu(word * WORD..(word + 1) * WORD);
        // SAFETY: in bounds and aligned; volatile, since the device may write it meanwhile.
        let written = u64::from_le(unsafe { at.read_volatile() });
        if written as u32 == u32::MAX || (written >> 32) as u32 == u32::MAX {
            return None;
        }
        // SAFETY: as above.
        unsafe { at.write_volatile(u64::MAX) };
        self.region.to_device(word * WORD..(word + 1) * WORD);
        Some(written)
    }

    /// Copies `bytes` in, from `offset` on.
    #[inline(never)]
    pub fn copy_in(&self, offset: usize, bytes: &[u8]) {
        if let Some(at) = self.at(offset, bytes.len(), 1) {
            for (index, byte) in bytes.iter().enumerate() {
                // SAFETY: `index < bytes.len()`, which was checked to lie within the region.
                let to = unsafe { at.add(index) };
                // SAFETY: in bounds; bytes need no alignment.
                unsafe { to.write_volatile(*byte) };
            }
            self.region.to_device(offset..offset + bytes.len());
        }
    }

    /// Copies the bytes from `offset` on out into `bytes`; all ones where they lie outside.
    #[inline(never)]
    pub fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        self.region.to_cpu(offset..offset.saturating_add(bytes.len()));
        match self.at(offset, bytes.len(), 1) {
            Some(at) => {
                for (index, byte) in bytes.iter_mut().enumerate() {
                    // SAFETY: `index < bytes.len()`, which was checked to lie within the region.
                    let from = unsafe { at.add(index) };
                    // SAFETY: in bounds; volatile, since the device may write it meanwhile.
                    *byte = unsafe { from.read_volatile() };
                }
            }
            None => bytes.fill(0xff),
        }
    }

    /// Copies the `N` 64-bit words from `offset`, a multiple of 8, on out; all ones outside.
    #[inline]
    pub fn read_words<const N: usize>(&self, offset: usize) -> [u64; N] {
        let mut words = [u64::MAX; N];
        self.region.to_cpu(offset..offset.saturating_add(N * 8));
        if let Some(at) = self.at(offset, N * 8, 8) {
            let at = at.cast::<u64>();
            for (index, word) in words.iter_mut().enumerate() {
                // SAFETY: `index < N`, and `N` words were checked to lie within the region.
                let from = unsafe { at.add(index) };
                // SAFETY: in bounds and aligned; volatile, as above.
                *word = u64::from_le(unsafe { from.read_volatile() });
            }
        }
        words
    }

    /// Fills `length` bytes from `offset` on with `byte`.
    #[inline(never)]
    pub fn fill(&self, offset: usize, length: usize, byte: u8) {
        if let Some(at) = self.at(offset, length, 1) {
            for index in 0..length {
                // SAFETY: `index < length`, which was checked to lie within the region.
                let to = unsafe { at.add(index) };
                // SAFETY: in bounds; bytes need no alignment.
                unsafe { to.write_volatile(byte) };
            }
            self.region.to_device(offset..offset + length);
        }
    }
}
