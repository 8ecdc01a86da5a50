//! One thread's ring: requests of every device come out of it, results go back into it, and it is
//! what the thread sleeps on.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::abi::{IO_COMMIT_AND_FETCH, IO_FETCH, IoDescriptor, RESULT_ABORT, io_command};
use super::control::no_ring;
use super::descriptors::Descriptors;
use crate::error::Error;
use crate::export::block::Errno;
use crate::export::engine::{DeviceIndex, Front};

/// Results and fetches that are handed to the kernel at once, at most.
const ENTRIES: u32 = 256;
/// Requests that may come out at once: tags of all queues of a thread. Beyond, the kernel keeps them.
const COMPLETIONS: u32 = 8192;

/// What comes out of the ring: the kind in the top byte, the rest below.
const KIND: u64 = 0xff << 56;
const KIND_IO: u64 = 1 << 56;
const KIND_INBOX: u64 = 2 << 56;
const KIND_INTERRUPT: u64 = 3 << 56;

/// `POLLIN` of `poll(2)`.
const POLL_IN: u32 = 1;

/// Something that came out of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request.
    Request {
        /// For this queue of a device.
        device: DeviceIndex,
        /// Under this tag.
        tag: u16,
        /// What it is.
        descriptor: IoDescriptor,
    },
    /// No request will come for this queue of a device any more.
    Ended {
        /// The queue of a device.
        device: DeviceIndex,
        /// What the kernel said, if not simply that the device was stopped.
        error: Option<i32>,
    },
    /// The inbox has something.
    Inbox {
        /// And is not watched any more: watch it again.
        unwatched: bool,
    },
    /// The controller's interrupt has come.
    Interrupt,
}

/// A queue of a device.
#[derive(Debug)]
struct Served {
    queue: u16,
    /// Commands go to it. It is not registered with the ring: kernels before 6.13 let go of
    /// registered files in order only, so one device could not be deleted while another is served.
    file: Arc<File>,
    descriptors: Descriptors,
    /// Of each tag's buffer.
    addresses: Vec<u64>,
    /// Tags under which a request may yet come.
    open: u16,
    error: Option<i32>,
}

/// The ring, and the queues that are served by it.
pub struct Ring {
    ring: IoUring<squeue::Entry, cqueue::Entry>,
    served: Vec<Option<Served>>,
    /// The interrupt's descriptor is being watched.
    watching: bool,
    /// A push failed for a reason that cannot be.
    broken: Option<io::Error>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({:?})", self.served)
    }
}

impl Ring {
    /// A ring for this thread, which alone may use it.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when there can be none.
    pub fn new() -> Result<Self, Error> {
        // What is new in the kernel saves interrupts between processors; where it is missing, the
        // next best is taken.
        let attempts: [fn(&mut io_uring::Builder); 3] = [
            |builder| {
                builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
            },
            |builder| {
                builder.setup_coop_taskrun().setup_taskrun_flag();
            },
            |_| {},
        ];
        let mut refused = None;
        for attempt in attempts {
            let mut builder = IoUring::builder();
            attempt(builder.setup_cqsize(COMPLETIONS).setup_clamp());
            match builder.build(ENTRIES) {
                Ok(ring) => {
                    return Ok(Self { ring, served: Vec::new(), watching: false, broken: None });
                }
                Err(error) if error.raw_os_error() == Some(22) => refused = Some(error),
                Err(error) => return Err(no_ring(&error)),
            }
        }
        Err(no_ring(&refused.unwrap_or_else(|| io::Error::other("refused"))))
    }

    /// Watches the inbox's descriptor until it is said to be unwatched.
    pub fn watch_inbox(&mut self, fd: RawFd) {
        let poll = opcode::PollAdd::new(types::Fd(fd), POLL_IN).multi(true);
        self.push(&poll.build().user_data(KIND_INBOX));
    }

    /// Watches the interrupt's descriptor until it comes, if that is not being done.
    pub fn watch_interrupt(&mut self, fd: RawFd) {
        if !self.watching {
            self.watching = true;
            let poll = opcode::PollAdd::new(types::Fd(fd), POLL_IN);
            self.push(&poll.build().user_data(KIND_INTERRUPT));
        }
    }

    /// Serves queue `queue` of the device of `file` from now on, with these buffers' addresses.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the kernel does not let it.
    pub fn serve(
        &mut self,
        device: DeviceIndex,
        queue: u16,
        file: Arc<File>,
        addresses: Vec<u64>,
    ) -> Result<(), Error> {
        let tags = addresses.len() as u16;
        let descriptors = Descriptors::map(&file, queue, tags)?;
        let index = usize::from(device.0);
        if self.served.len() <= index {
            self.served.resize_with(index + 1, || None);
        }
        let served = Served { queue, file, descriptors, addresses, open: tags, error: None };
        let file = types::Fd(served.file.as_raw_fd());
        for (address, tag) in served.addresses.iter().zip(0..tags) {
            let command = io_command(queue, tag, -1, *address);
            push(&mut self.ring, &mut self.broken, &entry(file, device, tag, IO_FETCH, command));
        }
        if let Some(place) = self.served.get_mut(index) {
            *place = Some(served);
        }
        self.submit()
    }

    /// Lets go of a queue that has ended.
    pub fn release(&mut self, device: DeviceIndex) {
        if let Some(place) = self.served.get_mut(usize::from(device.0)) {
            *place = None;
        }
    }

    /// Takes out what has come.
    #[inline]
    pub fn reap(&mut self, take: &mut dyn FnMut(Event)) {
        let Self { ring, served, watching, .. } = self;
        for entry in ring.completion() {
            let data = entry.user_data();
            match data & KIND {
                KIND_IO => {
                    let (device, tag) = (DeviceIndex((data >> 16) as u16), data as u16);
                    let Some(Some(queue)) = served.get_mut(usize::from(device.0)) else { continue };
                    match (entry.result(), queue.descriptors.read(tag)) {
                        (0, Some(descriptor)) => take(Event::Request { device, tag, descriptor }),
                        (result, _) => {
                            queue.open = queue.open.saturating_sub(1);
                            if result != RESULT_ABORT {
                                queue.error = Some(result);
                            }
                            if queue.open == 0 {
                                take(Event::Ended { device, error: queue.error });
                            }
                        }
                    }
                }
                KIND_INBOX => {
                    take(Event::Inbox { unwatched: !cqueue::more(entry.flags()) });
                }
                KIND_INTERRUPT => {
                    *watching = false;
                    take(Event::Interrupt);
                }
                _ => {}
            }
        }
    }

    /// Whether the interrupt's descriptor is being watched.
    #[must_use]
    pub const fn watches_interrupt(&self) -> bool {
        self.watching
    }

    /// Whether any fetch of this queue has been refused.
    #[must_use]
    pub fn refused(&self, device: DeviceIndex) -> Option<i32> {
        self.served.get(usize::from(device.0))?.as_ref()?.error
    }

    /// Hands over what has been pushed, and has the kernel bring what it holds back until it is
    /// asked. `false` when there was neither, and so no system call.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the ring does not work any more.
    pub fn flush(&mut self) -> Result<bool, Error> {
        let queue = self.ring.submission();
        if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
            return Ok(false);
        }
        drop(queue);
        self.submit()?;
        Ok(true)
    }

    /// Sleeps until something comes out, for at most `limit`; hands over what has been pushed.
    ///
    /// # Errors
    ///
    /// As [`Ring::flush`].
    pub fn sleep(&mut self, limit: Duration) -> Result<(), Error> {
        let limit = types::Timespec::from(limit);
        let arguments = types::SubmitArgs::new().timespec(&limit);
        passing(self.ring.submitter().submit_with_args(1, &arguments))
    }

    fn submit(&mut self) -> Result<(), Error> {
        if let Some(error) = self.broken.take() {
            return Err(broken(&error));
        }
        passing(self.ring.submit())
    }

    fn push(&mut self, entry: &squeue::Entry) {
        push(&mut self.ring, &mut self.broken, entry);
    }
}

impl Front for Ring {
    #[inline]
    fn complete(&mut self, device: DeviceIndex, tag: u16, result: Result<u32, Errno>) {
        let Some(Some(served)) = self.served.get(usize::from(device.0)) else { return };
        let Some(address) = served.addresses.get(usize::from(tag)) else { return };
        let result = match result {
            Ok(bytes) => bytes.min(i32::MAX as u32) as i32,
            Err(errno) => errno.negative(),
        };
        let command = io_command(served.queue, tag, result, *address);
        let file = types::Fd(served.file.as_raw_fd());
        let entry = entry(file, device, tag, IO_COMMIT_AND_FETCH, command);
        push(&mut self.ring, &mut self.broken, &entry);
    }
}

fn entry(
    file: types::Fd,
    device: DeviceIndex,
    tag: u16,
    operation: u32,
    command: [u8; 16],
) -> squeue::Entry {
    let data = KIND_IO | u64::from(device.0) << 16 | u64::from(tag);
    opcode::UringCmd16::new(file, operation).cmd(command).build().user_data(data)
}

fn push(
    ring: &mut IoUring<squeue::Entry, cqueue::Entry>,
    broken: &mut Option<io::Error>,
    entry: &squeue::Entry,
) {
    for _ in 0..2 {
        // SAFETY: the buffers whose addresses are in it belong to the engine, which lets go of them
        // only when the kernel has said that no request of the queue will come any more.
        if unsafe { ring.submission().push(entry) }.is_ok() {
            return;
        }
        // It is full: this empties it.
        if let Err(error) = ring.submit() {
            *broken = Some(error);
        }
    }
}

/// What passes by itself is no error: time is up, a signal came, the kernel wants its results taken
/// out first.
fn passing(result: io::Result<usize>) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            // ETIME, EINTR, EBUSY, EAGAIN.
            Some(62 | 4 | 16 | 11) => Ok(()),
            _ => Err(broken(&error)),
        },
    }
}

fn broken(error: &io::Error) -> Error {
    Error::failed(format!(
        "the io_uring of the block devices does not work any more: {error}; see `dmesg`, and start the export again"
    ))
}
