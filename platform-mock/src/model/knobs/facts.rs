//! Facts that a controller states of itself, and that are not so.

use super::super::message::Message;

/// Facts that are not the chip's own. `None` leaves a field as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FactsOverride {
    /// `RequestCredit` (MPI2), `GlobalCredits` (MPI1).
    pub credits: Option<u16>,
    /// `IOCRequestFrameSize`, `RequestFrameSize`, in 32-bit words.
    pub request_frame_words: Option<u16>,
    /// `ReplyFrameSize` in 32-bit words (MPI2).
    pub reply_frame_words: Option<u8>,
    /// `MaxReplyDescriptorPostQueueDepth` (MPI2), `ReplyQueueDepth` (MPI1).
    pub reply_depth: Option<u16>,
    /// `MaxChainDepth`.
    pub max_chain_depth: Option<u8>,
    /// `IOCMaxChainSegmentSize` in units of 16 bytes (MPI2).
    pub chain_units: Option<u16>,
    /// `MaxMSIxVectors` (MPI2).
    pub vectors: Option<u8>,
    /// `IOCCapabilities`.
    pub capabilities: Option<u32>,
    /// `IOCStatus` of the reply.
    pub ioc_status: Option<u16>,
    /// `MsgLength` of the reply, in 32-bit words; the handshake goes on for as long as before.
    pub message_words: Option<u8>,
    /// `Function` of the reply.
    pub function: Option<u8>,
}

impl FactsOverride {
    pub(in crate::model) fn apply(&self, facts: Message, mpi1: bool) -> Message {
        let mut facts = facts;
        let mut put = |at: Option<usize>, bytes: Option<&[u8]>| {
            if let (Some(at), Some(bytes)) = (at, bytes) {
                facts.put(at, bytes);
            }
        };
        let place = |one: usize, two: usize| Some(if mpi1 { one } else { two });
        let mpi2 = |at: usize| (!mpi1).then_some(at);
        put(place(0x24, 0x18), self.credits.map(u16::to_le_bytes).as_ref().map(|b| &b[..]));
        put(
            place(0x1a, 0x24),
            self.request_frame_words.map(u16::to_le_bytes).as_ref().map(|b| &b[..]),
        );
        put(mpi2(0x36), self.reply_frame_words.as_ref().map(std::slice::from_ref));
        put(place(0x18, 0x34), self.reply_depth.map(u16::to_le_bytes).as_ref().map(|b| &b[..]));
        put(Some(0x14), self.max_chain_depth.as_ref().map(std::slice::from_ref));
        put(mpi2(0x26), self.chain_units.map(u16::to_le_bytes).as_ref().map(|b| &b[..]));
        put(mpi2(0x17), self.vectors.as_ref().map(std::slice::from_ref));
        put(place(0x34, 0x1c), self.capabilities.map(u32::to_le_bytes).as_ref().map(|b| &b[..]));
        put(Some(0x0e), self.ioc_status.map(u16::to_le_bytes).as_ref().map(|b| &b[..]));
        put(Some(0x02), self.message_words.as_ref().map(std::slice::from_ref));
        put(Some(0x03), self.function.as_ref().map(std::slice::from_ref));
        facts
    }
}
