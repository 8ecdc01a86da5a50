//! Software controllers as PCI devices of a virtual machine, over vfio-user.
//!
//! A [`Card`] runs a [`Model`](crate::model::Model) on a thread of its own. A [`Server`] puts it
//! behind a Unix socket, where QEMU's `vfio-user-pci` device finds it: configuration space,
//! registers, DMA straight into the guest's memory, INTx, MSI and MSI-X. The guest's own driver
//! then drives it. A client that goes away leaves the card as after a reset, with its disks as
//! they were, and the next one is served.
//!
//! Neither the client nor the guest is trusted: messages are taken whole and within bounds before
//! they are looked at, register offsets, interrupt numbers and memory ranges are checked, and a
//! bus address outside the memory that the client has shared is a DMA fault, as behind an IOMMU.

mod backend;
mod card;
mod config_space;
mod guest_memory;
mod interrupts;
mod message;
mod protocol;

use std::fmt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE,
    VFIO_IRQ_INFO_NORESIZE, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
    vfio_region_info,
};
use vfio_user::IrqInfo;

pub use card::Card;

use crate::own_socket::OwnSocket;

use backend::Backend;
use config_space::ConfigSpace;
use message::{End, Stream};
use protocol::Device;

/// VFIO's region of the configuration space.
const CONFIG_REGION: u32 = 7;
/// Regions of a PCI device: six BARs, the ROM, the configuration space, VGA.
const REGIONS: u32 = 9;
/// Kinds of interrupts of a PCI device: INTx, MSI, MSI-X, errors, requests.
const INTERRUPT_KINDS: u32 = 5;
/// How soon [`Stop::stop`] is noticed between two clients, in milliseconds; it is as soon with one.
const STOP_POLL_MS: i64 = 50;

/// What happens on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client is there.
    Connected,
    /// It has gone; with what went wrong, if it did not just leave.
    Disconnected(Option<String>),
    /// The client has reset the device, as at the start of its guest.
    Reset,
    /// The client asked for something that cannot be, and got an error.
    Refused(String),
    /// Something that a person should know.
    Notice(String),
}

/// Why a server could not be set up, or ended, in a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError(String);

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerError {}

/// Ends a server.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks the server to hang up on its client, if it has one, and to end.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A card behind a socket.
pub struct Server {
    card: Arc<Card>,
    socket: OwnSocket,
    listener: UnixListener,
    device: Device,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({:?} at {})", self.card.chip().name, self.socket.path().display())
    }
}

impl Server {
    /// Binds a socket, for this user only. One that a server left behind without having been able
    /// to remove it, where nobody listens any more, is replaced.
    ///
    /// # Errors
    ///
    /// As [`OwnSocket::listen`].
    pub fn bind(path: &Path, card: Arc<Card>) -> Result<Server, ServerError> {
        let (listener, socket) =
            OwnSocket::listen(path).map_err(|error| ServerError(error.to_string()))?;
        let device = device(&card);
        Ok(Server { card, socket, listener, device })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.socket.path()
    }

    /// Serves one client after the other, until it is stopped, and tells of what happens.
    ///
    /// # Errors
    ///
    /// If the socket cannot be waited on. What goes wrong with one client ends only that client.
    pub fn serve(&self, stop: &Stop, tell: &mut dyn FnMut(Event)) -> Result<(), ServerError> {
        while !stop.is_asked() {
            if !self.wait()? || stop.is_asked() {
                continue;
            }
            match self.listener.accept() {
                Ok((client, _)) => serve_client(&self.card, &self.device, client, stop, tell),
                // It has gone again, or there is no descriptor left for it, which may change.
                Err(_) => thread::sleep(Duration::from_millis(STOP_POLL_MS as u64)),
            }
        }
        Ok(())
    }

    /// Waits a little for a client; whether there is one.
    fn wait(&self) -> Result<bool, ServerError> {
        let mut sockets = [PollFd::new(&self.listener, PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 0, tv_nsec: STOP_POLL_MS * 1_000_000 };
        match poll(&mut sockets, Some(&limit)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(ServerError(format!(
                "waiting for a client at {}: {error}; start the server again",
                self.path().display()
            ))),
        }
    }
}

/// Serves one client that is connected already, until it leaves. With a stop that was asked for
/// before, a client that has to be waited for is lost.
pub fn serve_connected(
    card: &Arc<Card>,
    client: UnixStream,
    stop: &Stop,
    tell: &mut dyn FnMut(Event),
) {
    serve_client(card, &device(card), client, stop, tell);
}

fn serve_client(
    card: &Arc<Card>,
    device: &Device,
    client: UnixStream,
    stop: &Stop,
    tell: &mut dyn FnMut(Event),
) {
    tell(Event::Connected);
    let mut backend = Backend::new(Arc::clone(card), &mut *tell);
    backend.power_on();
    let is_asked = || stop.is_asked();
    let end = match Stream::new(client, &is_asked) {
        Ok(mut stream) => protocol::serve(device, &mut stream, &mut backend),
        Err(error) => End::Lost(error.to_string()),
    };
    backend.leave();
    tell(Event::Disconnected(match end {
        End::Left => None,
        End::Stopped => Some("the server was stopped".into()),
        End::Lost(why) => Some(why),
    }));
}

fn device(card: &Card) -> Device {
    let space = ConfigSpace::new(card.chip());
    Device { regions: regions(&space), interrupts: interrupts(&space) }
}

fn regions(space: &ConfigSpace) -> Vec<vfio_region_info> {
    (0..REGIONS)
        .map(|index| {
            let bytes = match index {
                CONFIG_REGION => space.len() as u64,
                _ => space.bars().get(index as usize).map_or(0, |bar| bar.bytes.into()),
            };
            let flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
            vfio_region_info {
                argsz: size_of::<vfio_region_info>() as u32,
                flags: if bytes > 0 { flags } else { 0 },
                index,
                cap_offset: 0,
                size: bytes,
                offset: 0,
            }
        })
        .collect()
}

fn interrupts(space: &ConfigSpace) -> Vec<IrqInfo> {
    (0..INTERRUPT_KINDS)
        .map(|kind| {
            let (count, flags) = match kind {
                interrupts::index::INTX => (1, VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED),
                interrupts::index::MSI => (1, VFIO_IRQ_INFO_NORESIZE),
                interrupts::index::MSIX => (space.msix_vectors().into(), VFIO_IRQ_INFO_NORESIZE),
                // Bus errors, which never come, and of which QEMU wants to be told all the same.
                interrupts::index::ERRORS => (1, VFIO_IRQ_INFO_NORESIZE),
                _ => (0, 0),
            };
            let flags = if count > 0 { flags | VFIO_IRQ_INFO_EVENTFD } else { 0 };
            IrqInfo { index: kind, flags, count }
        })
        .collect()
}
