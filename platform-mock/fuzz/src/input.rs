//! The engine's bytes, taken from the front.

use std::cell::Cell;

/// Bytes that several hands take from, in the order in which they ask.
#[derive(Debug)]
pub struct Input<'i> {
    bytes: &'i [u8],
    /// How many have been taken.
    taken: Cell<usize>,
}

impl<'i> Input<'i> {
    /// All of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'i [u8]) -> Self {
        Self { bytes, taken: Cell::new(0) }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken.get() == self.bytes.len()
    }

    /// The next `count` bytes, or as many as are left.
    #[must_use]
    pub fn bytes(&self, count: usize) -> &'i [u8] {
        let from = self.taken.get();
        let to = self.bytes.len().min(from + count);
        self.taken.set(to);
        &self.bytes[from..to]
    }

    fn array<const N: usize>(&self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    /// The next byte.
    #[must_use]
    pub fn u8(&self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next 16 bits, little endian.
    #[must_use]
    pub fn u16(&self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next 32 bits, little endian.
    #[must_use]
    pub fn u32(&self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// The next 64 bits, little endian.
    #[must_use]
    pub fn u64(&self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number of things: mostly small, sometimes up to 65535.
    #[must_use]
    pub fn count(&self) -> u16 {
        match self.u8() {
            0xff => self.u16(),
            small => small.into(),
        }
    }
}
