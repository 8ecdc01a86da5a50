//! Bytes of messages, taken and put by offset.
//!
//! The models take messages apart on their own, by the offsets of the vendor's headers, and not
//! through the driver's wire structs: a mistake there would otherwise cancel itself out.

/// The longest message a model builds: the reply frame of all chips.
pub(crate) const LONGEST: usize = 128;

/// The byte at `at`; 0 beyond the end.
pub(crate) fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The `N` bytes at `at`; zeros beyond the end.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    for (to, from) in array.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    array
}

/// The little-endian 16 bits at `at`; zeros beyond the end.
pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

/// The little-endian 32 bits at `at`.
pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

/// The little-endian 64 bits at `at`.
pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// A reply or an event under construction. Its length in words stands in byte 2 (`MsgLength`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Message {
    /// A message of `length` zero bytes, a multiple of 4, that answers `function`.
    pub(crate) fn new(length: usize, function: u8) -> Self {
        let length = length.next_multiple_of(4).min(LONGEST);
        Self { bytes: [0; LONGEST], length }.with8(2, (length / 4) as u8).with8(3, function)
    }

    /// A message of these bytes as they stand, cut to the longest.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        let mut message = Self { bytes: [0; LONGEST], length: bytes.len().min(LONGEST) };
        message.put(0, bytes);
        message
    }

    /// Puts bytes; what does not fit is left out.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().take(self.length).skip(at).zip(bytes) {
            *to = *from;
        }
    }

    pub(crate) fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.put(at, bytes);
        self
    }

    pub(crate) fn with8(self, at: usize, value: u8) -> Self {
        self.with(at, &[value])
    }

    pub(crate) fn with16(self, at: usize, value: u16) -> Self {
        self.with(at, &value.to_le_bytes())
    }

    pub(crate) fn with32(self, at: usize, value: u32) -> Self {
        self.with(at, &value.to_le_bytes())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
