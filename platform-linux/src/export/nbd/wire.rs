//! The protocol's numbers and messages, bytes only. Names are those of the NBD protocol document
//! (`doc/proto.md` of the project NetworkBlockDevice/nbd); every number is big-endian on the wire.

use bitflags::bitflags;

/// `NBDMAGIC`: the first word of a server's greeting.
pub(super) const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// `IHAVEOPT`: the greeting's second word, and the first of every option.
pub(super) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// The first word of every reply to an option.
pub(super) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// `NBD_REQUEST_MAGIC`.
pub(super) const REQUEST_MAGIC: u32 = 0x2560_9513;
/// `NBD_SIMPLE_REPLY_MAGIC`.
pub(super) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// `NBD_STRUCTURED_REPLY_MAGIC`.
pub(super) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Handshake flag `NBD_FLAG_FIXED_NEWSTYLE`, and the client's `NBD_FLAG_C_FIXED_NEWSTYLE`.
pub(super) const FIXED_NEWSTYLE: u16 = 1 << 0;
/// Handshake flag `NBD_FLAG_NO_ZEROES`, and the client's `NBD_FLAG_C_NO_ZEROES`.
pub(super) const NO_ZEROES: u16 = 1 << 1;

/// `NBD_OPT_*`.
pub(super) mod option {
    pub(in super::super) const EXPORT_NAME: u32 = 1;
    pub(in super::super) const ABORT: u32 = 2;
    pub(in super::super) const LIST: u32 = 3;
    pub(in super::super) const INFO: u32 = 6;
    pub(in super::super) const GO: u32 = 7;
    pub(in super::super) const STRUCTURED_REPLY: u32 = 8;
}

/// `NBD_REP_*`.
pub(super) mod reply {
    pub(in super::super) const ACK: u32 = 1;
    pub(in super::super) const SERVER: u32 = 2;
    pub(in super::super) const INFO: u32 = 3;
    pub(in super::super) const ERR_UNSUP: u32 = 1 << 31 | 1;
    pub(in super::super) const ERR_INVALID: u32 = 1 << 31 | 3;
    pub(in super::super) const ERR_UNKNOWN: u32 = 1 << 31 | 6;
    pub(in super::super) const ERR_SHUTDOWN: u32 = 1 << 31 | 7;
}

/// `NBD_INFO_*`.
pub(super) mod info {
    pub(in super::super) const EXPORT: u16 = 0;
    pub(in super::super) const NAME: u16 = 1;
    pub(in super::super) const DESCRIPTION: u16 = 2;
    pub(in super::super) const BLOCK_SIZE: u16 = 3;
}

/// `NBD_CMD_*`.
pub(super) mod command {
    pub(in super::super) const READ: u16 = 0;
    pub(in super::super) const WRITE: u16 = 1;
    pub(in super::super) const DISC: u16 = 2;
    pub(in super::super) const FLUSH: u16 = 3;
    pub(in super::super) const TRIM: u16 = 4;
    pub(in super::super) const WRITE_ZEROES: u16 = 6;
}

bitflags! {
    /// What an export can do: `NBD_FLAG_*`, 16 bits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TransmissionFlags: u16 {
        /// `NBD_FLAG_HAS_FLAGS`: always set.
        const HAS_FLAGS = 1 << 0;
        /// `NBD_FLAG_READ_ONLY`.
        const READ_ONLY = 1 << 1;
        /// `NBD_FLAG_SEND_FLUSH`.
        const SEND_FLUSH = 1 << 2;
        /// `NBD_FLAG_SEND_FUA`.
        const SEND_FUA = 1 << 3;
        /// `NBD_FLAG_ROTATIONAL`.
        const ROTATIONAL = 1 << 4;
        /// `NBD_FLAG_SEND_TRIM`.
        const SEND_TRIM = 1 << 5;
        /// `NBD_FLAG_SEND_WRITE_ZEROES`.
        const SEND_WRITE_ZEROES = 1 << 6;
        /// `NBD_FLAG_SEND_DF`: only where structured replies are agreed on.
        const SEND_DF = 1 << 7;
        /// `NBD_FLAG_CAN_MULTI_CONN`: a flush on one connection covers what was answered on all.
        const CAN_MULTI_CONN = 1 << 8;
        /// `NBD_FLAG_SEND_FAST_ZERO`.
        const SEND_FAST_ZERO = 1 << 11;
    }
}

bitflags! {
    /// `NBD_CMD_FLAG_*`, 16 bits. Unknown bits are kept, so that they can be refused.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct CommandFlags: u16 {
        const FUA = 1 << 0;
        const NO_HOLE = 1 << 1;
        const DF = 1 << 2;
        const FAST_ZERO = 1 << 4;
        const _ = !0;
    }
}

/// The error values that we answer with, of the few that the protocol knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum NbdError {
    NotPermitted = 1,
    InputOutput = 5,
    OutOfMemory = 12,
    Invalid = 22,
    NoSpace = 28,
    ShuttingDown = 108,
}

/// A request's fixed part, 28 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestHeader {
    pub(super) flags: CommandFlags,
    /// `NBD_CMD_*`, whatever it is.
    pub(super) command: u16,
    /// Comes back with the reply.
    pub(super) cookie: u64,
    /// In bytes.
    pub(super) offset: u64,
    /// In bytes.
    pub(super) length: u32,
}

impl RequestHeader {
    /// Its length on the wire.
    pub(super) const BYTES: usize = 28;

    /// Takes a request from the start of `bytes`: `None` while it is cut off.
    ///
    /// # Errors
    ///
    /// [`NotARequest`] when it does not begin as one, after which nothing of this stream is of use.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, NotARequest> {
        let mut reader = Reader(bytes);
        let Some(magic) = reader.u32() else { return Ok(None) };
        if magic != REQUEST_MAGIC {
            return Err(NotARequest);
        }
        let header = || {
            Some(Self {
                flags: CommandFlags::from_bits_retain(reader.u16()?),
                command: reader.u16()?,
                cookie: reader.u64()?,
                offset: reader.u64()?,
                length: reader.u32()?,
            })
        };
        Ok({ header }())
    }
}

/// What came does not begin as a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotARequest;

/// Takes numbers from the front of bytes that were not written by us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl<'b> Reader<'b> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

/// The fixed part of a reply in the transmission phase; a read's data follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplyHead {
    bytes: [u8; 32],
    length: u8,
}

impl ReplyHead {
    /// The end of a request, as the client agreed to be told.
    ///
    /// `data` is the place and length of what a read returns, in bytes, and `None` for all else.
    pub(super) fn new(
        structured: bool,
        cookie: u64,
        result: Result<Option<(u64, u32)>, NbdError>,
    ) -> Self {
        const DONE: u16 = 1;
        const NONE: u16 = 0;
        const OFFSET_DATA: u16 = 1;
        const ERROR: u16 = 1 << 15 | 1;
        let mut head = Self { bytes: [0; 32], length: 0 };
        if !structured {
            let error = result.err().map_or(0, |error| error as u32);
            head.put(&SIMPLE_REPLY_MAGIC.to_be_bytes());
            head.put(&error.to_be_bytes());
            head.put(&cookie.to_be_bytes());
            return head;
        }
        let (kind, length) = match result {
            Ok(None) => (NONE, 0),
            Ok(Some((_, bytes))) => (OFFSET_DATA, bytes.saturating_add(8)),
            Err(_) => (ERROR, 6),
        };
        head.put(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
        head.put(&DONE.to_be_bytes());
        head.put(&kind.to_be_bytes());
        head.put(&cookie.to_be_bytes());
        head.put(&length.to_be_bytes());
        match result {
            Ok(None) => {}
            Ok(Some((offset, _))) => head.put(&offset.to_be_bytes()),
            Err(error) => {
                head.put(&(error as u32).to_be_bytes());
                // No sentence: the client's user learns it from its own system.
                head.put(&0u16.to_be_bytes());
            }
        }
        head
    }

    fn put(&mut self, bytes: &[u8]) {
        let at = usize::from(self.length);
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
            self.length += bytes.len() as u8;
        }
    }

    /// What goes onto the wire.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_taken_whole_or_not_at_all() {
        let mut bytes = vec![0x25, 0x60, 0x95, 0x13, 0, 1, 0, 1];
        bytes.extend(0x1122_3344_5566_7788_u64.to_be_bytes());
        bytes.extend(4096_u64.to_be_bytes());
        bytes.extend(512_u32.to_be_bytes());
        for cut in 0..bytes.len() {
            assert_eq!(RequestHeader::parse(&bytes[..cut]), Ok(None));
        }
        let header = RequestHeader::parse(&bytes).expect("a request").expect("whole");
        assert_eq!(
            (header.flags, header.command, header.cookie, header.offset, header.length),
            (CommandFlags::FUA, command::WRITE, 0x1122_3344_5566_7788, 4096, 512)
        );
        bytes[0] = 0;
        assert_eq!(RequestHeader::parse(&bytes), Err(NotARequest));
    }

    #[test]
    fn replies_are_laid_out_as_the_protocol_says() {
        let simple = ReplyHead::new(false, 7, Err(NbdError::NoSpace));
        assert_eq!(
            simple.as_bytes(),
            [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 7]
        );
        let data = ReplyHead::new(true, 7, Ok(Some((0x200, 0x1000))));
        assert_eq!(data.as_bytes().len(), 28);
        assert_eq!(data.as_bytes()[4..8], [0, 1, 0, 1], "done, offset data");
        assert_eq!(data.as_bytes()[16..20], 0x1008_u32.to_be_bytes());
        assert_eq!(data.as_bytes()[20..28], 0x200_u64.to_be_bytes());
        let error = ReplyHead::new(true, 7, Err(NbdError::InputOutput));
        assert_eq!(error.as_bytes()[16..], [0, 0, 0, 6, 0, 0, 0, 5, 0, 0]);
        assert_eq!(ReplyHead::new(true, 7, Ok(None)).as_bytes().len(), 20);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some(_)) = RequestHeader::parse(&bytes) {
                prop_assert!(bytes.len() >= RequestHeader::BYTES);
            }
        }
    }
}
