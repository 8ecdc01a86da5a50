//! A client that sends whatever bytes it likes.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::LIMIT;

pub const VERSION: u16 = 1;
pub const DMA_MAP: u16 = 2;
pub const DMA_UNMAP: u16 = 3;
pub const GET_INFO: u16 = 4;
pub const GET_REGION_INFO: u16 = 5;
pub const GET_IRQ_INFO: u16 = 7;
pub const SET_IRQS: u16 = 8;
pub const REGION_READ: u16 = 9;
pub const REGION_WRITE: u16 = 10;
pub const RESET: u16 = 13;

pub const NO_REPLY: u32 = 1 << 4;

/// A header.
pub fn header(command: u16, size: u32, flags: u32) -> Vec<u8> {
    let mut bytes = vec![0x34, 0x12];
    bytes.extend(command.to_le_bytes());
    bytes.extend(size.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// A message whose size does not lie.
pub fn message(command: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = header(command, 16 + body.len() as u32, 0);
    bytes.extend(body);
    bytes
}

pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The body of a version.
pub fn version() -> Vec<u8> {
    b"\x00\x00\x01\x00{\"capabilities\":{}}\x00".to_vec()
}

/// The body of a region access without its data.
pub fn access(offset: u64, region: u32, count: u32) -> Vec<u8> {
    let mut body = offset.to_le_bytes().to_vec();
    body.extend(words(&[region, count]));
    body
}

/// The body of a map.
pub fn map(offset: u64, at: u64, bytes: u64) -> Vec<u8> {
    let mut body = words(&[32, 3]);
    for word in [offset, at, bytes] {
        body.extend(word.to_le_bytes());
    }
    body
}

/// The body of an unmap.
pub fn unmap(at: u64, bytes: u64, flags: u32) -> Vec<u8> {
    let mut body = words(&[24, flags]);
    for word in [at, bytes] {
        body.extend(word.to_le_bytes());
    }
    body
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub command: u16,
    /// 0 if it was not refused.
    pub error: u32,
    pub body: Vec<u8>,
}

pub struct Raw(pub UnixStream);

impl Raw {
    /// Connects and says nothing.
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("a server");
        stream.set_read_timeout(Some(LIMIT)).expect("set");
        stream.set_write_timeout(Some(LIMIT)).expect("set");
        Self(stream)
    }

    /// Connects and agrees on a version.
    pub fn greet(path: &Path) -> Self {
        let mut raw = Self::connect(path);
        let answer = raw.ask(VERSION, &version());
        assert_eq!((answer.command, answer.error), (VERSION, 0));
        raw
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("sent");
    }

    /// Sends, whether or not anybody is there any more.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    pub fn send_with(&mut self, bytes: &[u8], files: &[&File]) {
        let fds: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let sent = sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::empty());
        assert_eq!(sent.expect("sent"), bytes.len());
    }

    /// The next answer; `None` if the server has hung up.
    pub fn answer(&mut self) -> Option<Answer> {
        let mut header = [0; 16];
        match self.0.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "no answer at all");
                return None;
            }
        }
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let [id, command] = [word(0) as u16, (word(0) >> 16) as u16];
        assert_eq!(id, 0x1234);
        let (size, flags, error) = (word(4), word(8), word(12));
        assert_eq!(flags & 0xf, 1, "a reply");
        assert_eq!(flags & 1 << 5 != 0, error != 0, "an error has a number");
        let mut body = vec![0; size as usize - 16];
        self.0.read_exact(&mut body).expect("the whole answer");
        Some(Answer { command, error, body })
    }

    pub fn ask(&mut self, command: u16, body: &[u8]) -> Answer {
        self.send(&message(command, body));
        self.answer().expect("an answer")
    }

    pub fn ask_with(&mut self, command: u16, body: &[u8], files: &[&File]) -> Answer {
        self.send_with(&message(command, body), files);
        self.answer().expect("an answer")
    }

    /// Whether the card answers, in step: it says what it is.
    #[track_caller]
    pub fn assert_in_step(&mut self) {
        let answer = self.ask(REGION_READ, &access(0, 7, 2));
        assert_eq!((answer.error, answer.body.get(16..)), (0, Some(&[0x00, 0x10][..])));
    }
}
