//! An element in memory, and where in its list it stands.

use zerocopy::little_endian::U32;

/// Where an element stands, as far as its flags tell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Another simple element follows.
    Middle,
    /// A chain element follows.
    BeforeChain,
    /// Nothing follows.
    End,
}

/// An element as it stands in memory: the first [`SglFormat::element_bytes`] of it.
pub(super) type Element = [U32; 4];
