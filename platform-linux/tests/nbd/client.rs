//! An NBD client, written from the protocol document alone: it shares nothing with the server.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub(crate) const READ: u16 = 0;
pub(crate) const WRITE: u16 = 1;
pub(crate) const DISC: u16 = 2;
pub(crate) const FLUSH: u16 = 3;
pub(crate) const TRIM: u16 = 4;
pub(crate) const WRITE_ZEROES: u16 = 6;

pub(crate) const FUA: u16 = 1;
pub(crate) const NO_HOLE: u16 = 2;
pub(crate) const FAST_ZERO: u16 = 16;

pub(crate) const EPERM: u32 = 1;
pub(crate) const EIO: u32 = 5;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const ENOSPC: u32 = 28;
pub(crate) const ESHUTDOWN: u32 = 108;

/// What a server says of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Export {
    pub(crate) size: u64,
    pub(crate) flags: u16,
    pub(crate) name: String,
    pub(crate) description: String,
    /// Minimum, preferred, maximum.
    pub(crate) block_sizes: Option<[u32; 3]>,
}

/// A reply to an option that is not the last: its type and data.
type OptionReply = (u32, Vec<u8>);

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) cookie: u64,
    pub(crate) error: u32,
    pub(crate) data: Vec<u8>,
}

pub(crate) struct Client<S = UnixStream> {
    pub(crate) stream: S,
    structured: bool,
    reads: HashMap<u64, usize>,
    next: u64,
    pub(crate) export: Export,
}

impl Client<UnixStream> {
    /// Connects and sends client flags; no export is chosen yet.
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("a server");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        Self::over(stream)
    }

    /// Connects and chooses.
    pub(crate) fn open(path: &Path, name: &str) -> Self {
        let mut client = Self::connect(path);
        client.go(name).expect("an export of this name");
        client
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(mut stream: S) -> Self {
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).expect("a greeting");
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        assert_eq!(greeting[16..], [0, 3], "fixed newstyle, no zeroes");
        stream.write_all(&[0, 0, 0, 3]).expect("to answer");
        let export = Export::default();
        Self { stream, structured: false, reads: HashMap::new(), next: 1, export }
    }

    /// Sends an option and takes its replies: each but the last, and the last one's type.
    pub(crate) fn option(
        &mut self,
        option: u32,
        data: &[u8],
    ) -> io::Result<(Vec<OptionReply>, u32)> {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        self.stream.write_all(&bytes)?;
        let mut replies = Vec::new();
        loop {
            let mut head = [0; 20];
            self.stream.read_exact(&mut head)?;
            assert_eq!(head[..8], [0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9]);
            assert_eq!(head[8..12], option.to_be_bytes());
            let kind = u32::from_be_bytes(head[12..16].try_into().expect("four"));
            let mut data =
                vec![0; u32::from_be_bytes(head[16..].try_into().expect("four")) as usize];
            self.stream.read_exact(&mut data)?;
            if kind == 1 || kind >> 31 == 1 {
                return Ok((replies, kind));
            }
            replies.push((kind, data));
        }
    }

    /// `NBD_OPT_LIST`: names and descriptions.
    pub(crate) fn list(&mut self) -> Vec<(String, String)> {
        let (replies, last) = self.option(3, &[]).expect("a list");
        assert_eq!(last, 1, "NBD_REP_ACK");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let entry = |(kind, data): OptionReply| {
            assert_eq!(kind, 2, "NBD_REP_SERVER");
            let end = 4 + u32::from_be_bytes(data[..4].try_into().expect("four")) as usize;
            (text(&data[4..end]), text(&data[end..]))
        };
        replies.into_iter().map(entry).collect()
    }

    /// `NBD_OPT_INFO` or `NBD_OPT_GO` with every information there is; the error's number if any.
    pub(crate) fn info(&mut self, option: u32, name: &str) -> Result<Export, u32> {
        let mut data = (name.len() as u32).to_be_bytes().to_vec();
        data.extend(name.as_bytes());
        data.extend([0, 4, 0, 0, 0, 1, 0, 2, 0, 3]);
        let (replies, last) = self.option(option, &data).expect("an answer");
        if last != 1 {
            return Err(last);
        }
        let mut export = Export::default();
        for (kind, data) in replies {
            assert_eq!(kind, 3, "NBD_REP_INFO");
            let text = || String::from_utf8(data[2..].to_vec()).expect("UTF-8");
            match data[..2] {
                [0, 0] => {
                    assert_eq!(data.len(), 12);
                    export.size = u64::from_be_bytes(data[2..10].try_into().expect("eight"));
                    export.flags = u16::from_be_bytes([data[10], data[11]]);
                }
                [0, 1] => export.name = text(),
                [0, 2] => export.description = text(),
                [0, 3] => {
                    assert_eq!(data.len(), 14);
                    let size =
                        |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().expect("four"));
                    export.block_sizes = Some([size(2), size(6), size(10)]);
                }
                _ => {}
            }
        }
        Ok(export)
    }

    pub(crate) fn go(&mut self, name: &str) -> Result<(), u32> {
        self.export = self.info(7, name)?;
        Ok(())
    }

    /// `NBD_OPT_STRUCTURED_REPLY`.
    pub(crate) fn structured(&mut self) {
        assert_eq!(self.option(8, &[]).expect("an answer").1, 1);
        self.structured = true;
    }

    /// Sends a request whose length is that of its payload, or as given; returns its cookie.
    pub(crate) fn send(
        &mut self,
        flags: u16,
        command: u16,
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> u64 {
        self.try_send(flags, command, offset, length, data).expect("to send")
    }

    pub(crate) fn try_send(
        &mut self,
        flags: u16,
        command: u16,
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> io::Result<u64> {
        let cookie = self.next | 0xabcd << 48;
        self.next += 1;
        let mut bytes = vec![0x25, 0x60, 0x95, 0x13];
        bytes.extend(flags.to_be_bytes());
        bytes.extend(command.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(data);
        if command == READ {
            self.reads.insert(cookie, length as usize);
        }
        self.stream.write_all(&bytes)?;
        Ok(cookie)
    }

    /// The next reply, whichever request it is to.
    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        if self.structured { self.structured_reply() } else { self.simple_reply() }
    }

    fn simple_reply(&mut self) -> io::Result<Reply> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        assert_eq!(head[..4], [0x67, 0x44, 0x66, 0x98]);
        let error = u32::from_be_bytes(head[4..8].try_into().expect("four"));
        let cookie = u64::from_be_bytes(head[8..].try_into().expect("eight"));
        let length = self.reads.remove(&cookie).filter(|_| error == 0).unwrap_or(0);
        let mut data = vec![0; length];
        self.stream.read_exact(&mut data)?;
        Ok(Reply { cookie, error, data })
    }

    fn structured_reply(&mut self) -> io::Result<Reply> {
        let mut head = [0; 20];
        self.stream.read_exact(&mut head)?;
        assert_eq!(head[..4], [0x66, 0x8e, 0x33, 0xef]);
        assert_eq!(head[4..6], [0, 1], "this server sends one chunk, so it is the last");
        let cookie = u64::from_be_bytes(head[8..16].try_into().expect("eight"));
        let mut payload =
            vec![0; u32::from_be_bytes(head[16..].try_into().expect("four")) as usize];
        self.stream.read_exact(&mut payload)?;
        let asked = self.reads.remove(&cookie);
        match u16::from_be_bytes([head[6], head[7]]) {
            0 => {
                assert_eq!((payload.len(), asked), (0, None), "a read wants data");
                Ok(Reply { cookie, error: 0, data: Vec::new() })
            }
            1 => {
                assert_eq!(asked, Some(payload.len() - 8));
                Ok(Reply { cookie, error: 0, data: payload.split_off(8) })
            }
            0x8001 => {
                let error = u32::from_be_bytes(payload[..4].try_into().expect("four"));
                let message = u16::from_be_bytes([payload[4], payload[5]]);
                assert_eq!(payload.len(), 6 + usize::from(message));
                Ok(Reply { cookie, error, data: Vec::new() })
            }
            other => panic!("a chunk of type {other:#x}"),
        }
    }

    /// Sends one request and waits for its reply.
    fn ask(&mut self, flags: u16, command: u16, offset: u64, length: u32, data: &[u8]) -> Reply {
        let cookie = self.send(flags, command, offset, length, data);
        let reply = self.reply().expect("a reply");
        assert_eq!(reply.cookie, cookie);
        reply
    }

    pub(crate) fn read(&mut self, offset: u64, length: u32) -> Result<Vec<u8>, u32> {
        let reply = self.ask(0, READ, offset, length, &[]);
        if reply.error == 0 { Ok(reply.data) } else { Err(reply.error) }
    }

    pub(crate) fn write(&mut self, flags: u16, offset: u64, data: &[u8]) -> u32 {
        self.ask(flags, WRITE, offset, data.len() as u32, data).error
    }

    pub(crate) fn command(&mut self, flags: u16, command: u16, offset: u64, length: u32) -> u32 {
        self.ask(flags, command, offset, length, &[]).error
    }
}
