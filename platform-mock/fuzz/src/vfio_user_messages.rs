//! A vfio-user server and its card against any client.
//!
//! The client sends everything that the input says, true messages and arbitrary bytes, with and
//! without file descriptors, and hangs up; the server then reads it, and the card, which has no
//! thread here, works between the messages. What is checked: nothing panics, no memory is touched
//! that is not the client's, and the server comes to its end.

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use fusion_mpt_mock::model::{Chip, Model, disks};
use fusion_mpt_mock::vfio_user::{Card, Stop, serve_connected};
use rustix::event::EventfdFlags;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::input::Input;

/// Bytes of each disk.
const DISK: u64 = 1 << 20;
/// Messages, at most: as many as a socket holds.
const MOST_MESSAGES: usize = 120;
/// Bytes of the client's memory.
pub(crate) const MEMORY: u64 = 256 << 10;

/// The operations, as an input has them.
pub(crate) mod operation {
    /// Length (8 bits) and the bytes, as they are.
    pub(crate) const RAW: u8 = 0;
    /// Command, files, length (8 bits each) and the body.
    pub(crate) const MESSAGE: u8 = 1;
    /// Region, offset (16 bits), length (8 bits).
    pub(crate) const READ: u8 = 2;
    /// Region, offset (16 bits), length (8 bits), the data.
    pub(crate) const WRITE: u8 = 3;
    /// Files, bus address in pages (32 bits), pages, pages into the file.
    pub(crate) const MAP: u8 = 4;
    /// Bus address in pages (32 bits), pages, flags.
    pub(crate) const UNMAP: u8 = 5;
    /// Files, kind, flags, start, count.
    pub(crate) const INTERRUPTS: u8 = 6;
    /// Nothing.
    pub(crate) const RESET: u8 = 7;
    /// Offset in words of 4 bytes (16 bits), length (8 bits), the bytes: into the client's memory.
    pub(crate) const STORE: u8 = 8;
}

/// The client.
struct Client {
    stream: UnixStream,
    /// Memory that cannot shrink, memory that can, and something to be told of interrupts by.
    files: [OwnedFd; 3],
}

impl Client {
    fn new(stream: UnixStream) -> rustix::io::Result<Self> {
        let sealed = memory(MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::fcntl_add_seals(&sealed, SealFlags::SHRINK)?;
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { stream, files: [sealed, memory(MemfdFlags::empty())?, event] })
    }

    /// Sends bytes with the files that the bits of `which` name. What has no room is not sent.
    fn send(&self, bytes: &[u8], which: u8) {
        let named = self.files.iter().enumerate().filter(|(index, _)| which >> index & 1 != 0);
        let files: Vec<BorrowedFd<'_>> = named.map(|(_, file)| file.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&files));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = sendmsg(&self.stream, &[IoSlice::new(bytes)], &mut control, flags);
    }

    fn message(&self, command: u8, which: u8, body: &[u8]) {
        let mut bytes = vec![0x34, 0x12, command & 0x1f, 0];
        bytes.extend((16 + body.len() as u32).to_le_bytes());
        // Its upper bit says that no reply is wanted.
        bytes.extend((u32::from(command >> 7) << 4).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        self.send(&bytes, which);
    }
}

fn memory(flags: MemfdFlags) -> rustix::io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("fuzz", flags | MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&file, MEMORY)?;
    Ok(file)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Does what `data` says.
pub fn run(data: &[u8]) {
    let input = Input::new(data);
    let chip = Chip::ALL[usize::from(input.u8()) % Chip::ALL.len()];
    let shape = input.u8();
    let (ours, theirs) = UnixStream::pair().expect("two ends of a socket");
    let client = Client::new(ours).expect("memory files and an event");
    if shape & 4 == 0 {
        client.message(1, 0, b"\x00\x00\x01\x00{\"capabilities\":{}}\x00");
    }
    for _ in 0..MOST_MESSAGES {
        if input.is_empty() {
            break;
        }
        send(&client, &input);
    }
    // Whoever waits for more hears that there is none.
    let _ = client.stream.shutdown(Shutdown::Write);
    let mut model = Model::new(chip);
    for (slot, disk) in disks(u16::from(shape & 3), DISK).into_iter().enumerate() {
        // Every chip has that many slots, and they are empty.
        let _ = model.add_disk(slot as u8, disk);
    }
    let stop = Stop::default();
    // A client that reads nothing is not waited for.
    stop.stop();
    let card = Card::still(model);
    serve_connected(&card, theirs, &stop, &mut |_| {});
}

fn send(client: &Client, input: &Input<'_>) {
    match input.u8() {
        operation::RAW => {
            let length = input.u8();
            client.send(input.bytes(length.into()), 0);
        }
        operation::MESSAGE => {
            let (command, which, length) = (input.u8(), input.u8(), input.u8());
            client.message(command, which, input.bytes(length.into()));
        }
        operation::READ => {
            let (region, offset, length) = (input.u8(), input.u16(), input.u8());
            let access = [u32::from(offset), 0, region.into(), length.into()];
            client.message(9, 0, &words(&access));
        }
        operation::WRITE => {
            let (region, offset, length) = (input.u8(), input.u16(), input.u8());
            let mut body = words(&[u32::from(offset), 0, region.into(), length.into()]);
            body.extend(input.bytes(length.into()));
            body.resize(16 + usize::from(length), 0);
            client.message(10, 0, &body);
        }
        operation::MAP => {
            let (which, page, pages, skip) = (input.u8(), input.u32(), input.u8(), input.u8());
            let mut body = words(&[32, 3]);
            for value in [u64::from(skip) << 12, u64::from(page) << 12, u64::from(pages) << 12] {
                body.extend(value.to_le_bytes());
            }
            client.message(2, which, &body);
        }
        operation::UNMAP => {
            let (page, pages, flags) = (input.u32(), input.u8(), input.u8());
            let mut body = words(&[24, flags.into()]);
            for value in [u64::from(page) << 12, u64::from(pages) << 12] {
                body.extend(value.to_le_bytes());
            }
            client.message(3, 0, &body);
        }
        operation::INTERRUPTS => {
            let (which, kind, flags) = (input.u8(), input.u8(), input.u8());
            let (start, count) = (input.u8(), input.u8());
            let body = [20, flags.into(), kind.into(), start.into(), count.into()];
            client.message(8, which, &words(&body));
        }
        operation::RESET => client.message(13, 0, &[]),
        _ => {
            let (word, length) = (input.u16(), input.u8());
            let bytes = input.bytes(length.into());
            for file in &client.files[..2] {
                let file = File::from(file.try_clone().expect("another descriptor"));
                let offset = (u64::from(word) * 4).min(MEMORY - u64::from(length));
                file.write_all_at(bytes, offset).expect("memory takes it");
            }
        }
    }
}
