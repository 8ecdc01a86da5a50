//! Between a socket and memory that a controller reads and writes too. The system copies; no Rust
//! reference to such memory is formed.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::host::Buffer;

/// Pieces that one call sends; the system takes 1024 (`IOV_MAX`).
pub(super) const MOST_PIECES: usize = 64;

/// What a call on a socket that is never waited for came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// That many bytes, at least one.
    Bytes(usize),
    /// Nothing now.
    NotNow,
    /// The other end is gone.
    Closed,
}

fn moved(result: Result<usize, Errno>) -> Option<Moved> {
    match result {
        Ok(0) => Some(Moved::Closed),
        Ok(bytes) => Some(Moved::Bytes(bytes)),
        Err(Errno::AGAIN) => Some(Moved::NotNow),
        Err(Errno::INTR) => None,
        Err(_) => Some(Moved::Closed),
    }
}

/// Receives into plain memory, which has room.
pub(super) fn receive(socket: impl AsFd, into: &mut [u8]) -> Moved {
    loop {
        let result = recv(&socket, &mut *into, RecvFlags::DONTWAIT).map(|(_, bytes)| bytes);
        if let Some(moved) = moved(result) {
            return moved;
        }
    }
}

/// Receives at most `bytes` bytes, at least one, into the buffer from `offset` on.
///
/// # Panics
///
/// If they are not within the buffer: the caller computed a wrong place.
pub(super) fn receive_into(
    socket: impl AsFd,
    buffer: &Buffer,
    offset: usize,
    bytes: usize,
) -> Moved {
    assert!(offset.checked_add(bytes).is_some_and(|end| end <= buffer.bytes()));
    // SAFETY: the offset is within the buffer, which is one piece of memory.
    let at = unsafe { buffer.pointer().add(offset) };
    loop {
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the buffer is mapped and writable up to the end that was checked, and others that
        // read or write it at the same time do so as the system does, by copies.
        let result = unsafe { libc::recv(fd, at.as_ptr().cast(), bytes, libc::MSG_DONTWAIT) };
        if let Some(moved) = moved(checked(result)) {
            return moved;
        }
    }
}

/// What is to be sent, in order.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    vectors: Vec<libc::iovec>,
}

impl Pieces {
    /// Forgets what was gathered.
    pub(super) fn clear(&mut self) {
        self.vectors.clear();
    }

    /// Whether no more fits in one call.
    pub(super) fn is_full(&self) -> bool {
        self.vectors.len() >= MOST_PIECES
    }

    /// Adds plain memory, which must stay in place until [`Pieces::send`] has returned.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let base = bytes.as_ptr().cast_mut().cast();
        self.vectors.push(libc::iovec { iov_base: base, iov_len: bytes.len() });
    }

    /// Adds `bytes` bytes of the buffer from `offset` on.
    ///
    /// # Panics
    ///
    /// If they are not within the buffer: the caller computed a wrong place.
    pub(super) fn add_buffer(&mut self, buffer: &Buffer, offset: usize, bytes: usize) {
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= buffer.bytes()));
        // SAFETY: the offset is within the buffer, which is one piece of memory.
        let at = unsafe { buffer.pointer().add(offset) };
        self.vectors.push(libc::iovec { iov_base: at.as_ptr().cast(), iov_len: bytes });
    }

    /// Sends them, as far as the socket takes them at once.
    ///
    /// # Safety
    ///
    /// What was added since the last [`Pieces::clear`] is still mapped.
    pub(super) unsafe fn send(&mut self, socket: impl AsFd) -> Moved {
        // SAFETY: a message of zeros is a valid one without an address or control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = self.vectors.as_mut_ptr();
        message.msg_iovlen = self.vectors.len() as _;
        loop {
            let fd = socket.as_fd().as_raw_fd();
            // SAFETY: the message names the vectors, and they memory that the caller promises is
            // readable.
            let result = unsafe {
                libc::sendmsg(fd, &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            };
            if let Some(moved) = moved(checked(result)) {
                return moved;
            }
        }
    }
}

fn checked(result: isize) -> Result<usize, Errno> {
    usize::try_from(result)
        .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}
