//! What other threads tell a server: messages, and something to wake it with.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::Error;

/// Messages for one thread, which may be asleep on [`Inbox::fd`].
#[derive(Debug)]
pub struct Inbox<M> {
    messages: Mutex<Vec<M>>,
    event: OwnedFd,
}

impl<M> Inbox<M> {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the system has no event descriptor left.
    pub fn new() -> Result<Self, Error> {
        let event =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| {
                Error::failed(format!(
                    "cannot make an event descriptor: {error}; raise ulimit -n, or close programs"
                ))
            })?;
        Ok(Self { messages: Mutex::new(Vec::new()), event })
    }

    /// Leaves a message and wakes the reader.
    pub fn send(&self, message: M) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        self.wake();
    }

    /// Wakes the reader without one.
    pub fn wake(&self) {
        // It can fail only when it has been woken 2^64 times.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// What becomes readable with each message.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Takes every message there is.
    pub fn take(&self) -> Vec<M> {
        let mut count = [0; 8];
        // There may be nothing to read.
        let _ = rustix::io::read(&self.event, &mut count);
        std::mem::take(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    #[test]
    fn a_message_makes_the_descriptor_readable_until_it_is_taken() {
        let inbox = Inbox::new().expect("a descriptor");
        let readable = |inbox: &Inbox<u8>| {
            let mut fds = [PollFd::from_borrowed_fd(inbox.fd(), PollFlags::IN)];
            poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("polls") == 1
        };
        assert!(!readable(&inbox));
        inbox.send(1);
        inbox.send(2);
        assert!(readable(&inbox));
        assert_eq!(inbox.take(), [1, 2]);
        assert!(!readable(&inbox) && inbox.take().is_empty());
    }
}
