//! Messages of vfio-user on a stream: each comes whole, with its descriptors, or the client is
//! out of step and has to go.
//!
//! A message is a header of 16 bytes (message id, command, size of the whole message, flags,
//! error number, little endian) and a body (vfio-user specification, "Header").

use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

/// Bytes of a header.
pub(crate) const HEADER: usize = 16;
/// The most bytes that a region access may carry; clients are told.
pub(crate) const MOST_DATA: u32 = 1 << 20;
/// The most bytes of a message: that much data behind a header and the access's own 16 bytes.
const MOST_BYTES: usize = MOST_DATA as usize + HEADER + 16;
/// The most descriptors of a message; the kernel closes those beyond.
const MOST_FILES: usize = 16;
/// How soon a server that waits on its client notices that it is to stop.
const PATIENCE: Duration = Duration::from_millis(50);

const TYPE: u32 = 0xf;
const TYPE_REPLY: u32 = 1;
const NO_REPLY: u32 = 1 << 4;
const ERROR: u32 = 1 << 5;

/// A command of the client's.
#[derive(Debug)]
pub(crate) struct Message {
    id: u16,
    /// What is wanted, by its number.
    pub(crate) command: u16,
    /// The client waits for an answer.
    pub(crate) wants_reply: bool,
    /// What follows the header.
    pub(crate) body: Vec<u8>,
    /// The descriptors that came with it.
    pub(crate) files: Vec<File>,
    /// There were more of them than could be taken.
    pub(crate) files_lost: bool,
}

impl Message {
    /// `N` bytes of the body from `at` on, if it is that long.
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.body.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    /// The 32-bit word at `at` in the body.
    pub(crate) fn u32(&self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    /// The 64-bit word at `at` in the body.
    pub(crate) fn u64(&self, at: usize) -> Option<u64> {
        self.bytes(at).map(u64::from_le_bytes)
    }
}

/// Why there is no further message.
#[derive(Debug)]
pub(crate) enum End {
    /// The client has left, between two messages.
    Left,
    /// The server is to stop.
    Stopped,
    /// The client cannot be understood any more; a sentence about it.
    Lost(String),
}

impl End {
    fn io(what: &str, error: &io::Error) -> Self {
        End::Lost(format!("{what} it failed: {error}"))
    }
}

/// A stream of messages.
pub(crate) struct Stream<'s> {
    socket: UnixStream,
    stop: &'s dyn Fn() -> bool,
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl<'s> Stream<'s> {
    /// Takes a client's socket; whoever waits on it looks at `stop` now and then.
    pub(crate) fn new(socket: UnixStream, stop: &'s dyn Fn() -> bool) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket, stop })
    }

    /// Waits for the next message.
    pub(crate) fn next(&mut self) -> Result<Message, End> {
        let mut header = [0; HEADER];
        let (mut files, mut files_lost) = (Vec::new(), false);
        let mut filled = 0;
        while let Some(place) = header.get_mut(filled..).filter(|place| !place.is_empty()) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let place = &mut [IoSliceMut::new(place)];
            let received = match recvmsg(&self.socket, place, &mut control, flags) {
                Ok(received) => received,
                Err(error) => {
                    let error = io::Error::from(error);
                    self.go_on(&error)?;
                    continue;
                }
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    files.extend(received.map(File::from));
                }
            }
            files_lost |= received.flags.contains(ReturnFlags::CTRUNC);
            match received.bytes {
                0 if filled == 0 => return Err(End::Left),
                0 => return Err(End::Lost("it left in the middle of a message's header".into())),
                bytes => filled += bytes,
            }
        }
        let [i0, i1, c0, c1, s0, s1, s2, s3, f0, f1, f2, f3, ..] = header;
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);
        let command = u16::from_le_bytes([c0, c1]);
        let size = u32::from_le_bytes([s0, s1, s2, s3]);
        let bytes = (size as usize).checked_sub(HEADER).filter(|_| size as usize <= MOST_BYTES);
        let Some(bytes) = bytes else {
            return Err(End::Lost(format!(
                "it sent a message of {size} bytes, where {HEADER} to {MOST_BYTES} can be"
            )));
        };
        if flags & TYPE != 0 {
            let kind = if flags & TYPE == TYPE_REPLY { "a reply" } else { "no message" };
            return Err(End::Lost(format!(
                "it sent {kind} (flags {flags:#x}) where a command can be"
            )));
        }
        let mut body = vec![0; bytes];
        self.fill(&mut body)?;
        Ok(Message {
            id: u16::from_le_bytes([i0, i1]),
            command,
            wants_reply: flags & NO_REPLY == 0,
            body,
            files,
            files_lost,
        })
    }

    /// Answers a message.
    pub(crate) fn reply(&mut self, to: &Message, body: &[u8]) -> Result<(), End> {
        self.send(to, TYPE_REPLY, 0, body)
    }

    /// Refuses a message, with an error number of the system's.
    pub(crate) fn refuse(&mut self, to: &Message, error: i32) -> Result<(), End> {
        self.send(to, TYPE_REPLY | ERROR, error.unsigned_abs(), &[])
    }

    fn send(&mut self, to: &Message, flags: u32, error: u32, body: &[u8]) -> Result<(), End> {
        if !to.wants_reply {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend(to.id.to_le_bytes());
        bytes.extend(to.command.to_le_bytes());
        bytes.extend(((HEADER + body.len()) as u32).to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(error.to_le_bytes());
        bytes.extend(body);
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            match self.socket.write(left) {
                Ok(sent) => left = left.get(sent..).unwrap_or_default(),
                Err(error) => self.go_on(&error)?,
            }
        }
        Ok(())
    }

    fn fill(&mut self, mut place: &mut [u8]) -> Result<(), End> {
        while !place.is_empty() {
            match self.socket.read(place) {
                Ok(0) => return Err(End::Lost("it left in the middle of a message".into())),
                Ok(bytes) => place = place.get_mut(bytes..).unwrap_or_default(),
                Err(error) => self.go_on(&error)?,
            }
        }
        Ok(())
    }

    /// Whether to wait on after this error.
    fn go_on(&self, error: &io::Error) -> Result<(), End> {
        if !is_for_later(error) {
            return Err(End::io("speaking with", error));
        }
        if (self.stop)() { Err(End::Stopped) } else { Ok(()) }
    }
}
