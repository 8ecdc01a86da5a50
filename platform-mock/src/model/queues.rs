//! What the two kinds of queues have in common: requests that come, answers that go.

use super::message::Message;

/// Bytes of a request that a model looks at; lists are read from the host's memory.
pub(crate) const REQUEST_BYTES: usize = 128;

/// A request that the IOC has fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// SMID (MPI2) or `MsgContext` (MPI1).
    pub(crate) key: u32,
    /// The reply queue to answer on.
    pub(crate) queue: u8,
    /// It came by a fast path descriptor, and success is answered so.
    pub(crate) fast_path: bool,
    /// It came with priority.
    pub(crate) high_priority: bool,
    /// When it is carried out, if it was put off: nanoseconds.
    pub(crate) due: u64,
    /// Bus address of its frame.
    pub(crate) at: u64,
    /// Its first bytes; zeros where the frame is shorter.
    pub(crate) frame: [u8; REQUEST_BYTES],
}

/// What an answer says.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::large_enum_variant, reason = "kept in a queue only while the host has no room")]
pub(crate) enum Answer {
    /// Success, with no frame.
    Success {
        /// In the fast path's own descriptor.
        fast_path: bool,
    },
    /// A reply frame.
    Frame(Message),
    /// A descriptor or FIFO word as it stands: what a lying controller posts.
    Raw(u64),
}

/// An answer on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply {
    /// SMID, 0 for an event (MPI2); `MsgContext` (MPI1).
    pub(crate) key: u32,
    /// The reply queue.
    pub(crate) queue: u8,
    pub(crate) answer: Answer,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Posted {
    Yes,
    /// The host has left no room: later.
    Full,
    /// The IOC stops, with this code.
    Fault(u16),
}

/// FAULT code after an access to memory that is not the host's. The number is ours; firmware has
/// many for it, none documented.
pub(crate) const FAULT_BAD_ADDRESS: u16 = 0x2651;
