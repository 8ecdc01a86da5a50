//! What is asked of the kernel's NBD client, and the thread that asks (`linux/nbd-netlink.h`).

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender};

use rustix::io::Errno;

use super::super::netlink::{Attributes, Family, attribute};
use super::super::{TransmissionFlags, flags_of, names_of};
use super::{DEAD_CONNECTION_LIMIT, REQUEST_LIMIT};
use crate::error::Error;
use crate::export::engine::DeviceIndex;
use crate::export::unit::Unit;
use crate::pci::{By, System};

/// `NBD_CMD_*` of netlink.
const CONNECT: u8 = 1;
const DISCONNECT: u8 = 2;
const RECONFIGURE: u8 = 3;

/// `NBD_ATTR_*`.
mod attr {
    pub(super) const INDEX: u16 = 1;
    pub(super) const SIZE_BYTES: u16 = 2;
    pub(super) const BLOCK_SIZE_BYTES: u16 = 3;
    pub(super) const TIMEOUT: u16 = 4;
    pub(super) const SERVER_FLAGS: u16 = 5;
    pub(super) const SOCKETS: u16 = 7;
    pub(super) const DEAD_CONN_TIMEOUT: u16 = 8;
    pub(super) const BACKEND_IDENTIFIER: u16 = 10;
    /// `NBD_SOCK_ITEM` and, within, `NBD_SOCK_FD`.
    pub(super) const SOCK_ITEM: u16 = 1;
    pub(super) const SOCK_FD: u16 = 1;
}

/// What the kernel is told of a unit.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    bytes: u64,
    block_bytes: u32,
    flags: TransmissionFlags,
    /// Our name for it.
    pub(super) backend: String,
}

impl Settings {
    pub(super) fn of(unit: &Unit) -> Self {
        // The kernel's cache setting is the unit's: one that has no volatile cache wants no flushes.
        let mut flags = flags_of(unit) - TransmissionFlags::SEND_FAST_ZERO;
        if !unit.write_cache {
            flags -= TransmissionFlags::SEND_FLUSH | TransmissionFlags::SEND_FUA;
        }
        let identity = unit.identity().unwrap_or_else(|| names_of(unit).join("."));
        Self {
            bytes: unit.bytes(),
            block_bytes: unit.block_bytes,
            flags,
            backend: format!("mptctl:{identity}"),
        }
    }
}

/// What is to be asked of the kernel.
#[derive(Debug)]
pub(super) enum Job {
    Attach { device: DeviceIndex, settings: Settings, socket: OwnedFd },
    Resize { index: u32, settings: Settings },
    Detach { backend: String, sync: bool },
}

/// How an attachment went: which device it is, and whether it was ours before.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) device: DeviceIndex,
    pub(super) result: Result<(u32, bool), Error>,
}

/// The block device with that number.
pub(super) fn node(index: u32) -> PathBuf {
    format!("/dev/nbd{index}").into()
}

/// The name that whoever attached the device gave its other end; `None` for one that is free.
pub(super) fn backend_of(root: &Path, index: u32) -> Option<String> {
    let folder = root.join(format!("sys/block/nbd{index}"));
    fs::metadata(folder.join("pid")).ok()?;
    Some(fs::read_to_string(folder.join("backend")).ok()?.trim_end().to_owned())
}

/// The device that was attached under this name.
fn find(root: &Path, backend: &str) -> Option<u32> {
    let entries = fs::read_dir(root.join("sys/block")).ok()?;
    let indices = entries.filter_map(|entry| {
        entry.ok()?.file_name().to_str()?.strip_prefix("nbd")?.parse::<u32>().ok()
    });
    let mut found: Vec<_> =
        indices.filter(|index| backend_of(root, *index).as_deref() == Some(backend)).collect();
    found.sort_unstable();
    found.first().copied()
}

/// Has the kernel write back what it holds: of the file systems on the device, then of itself. Where
/// it cannot, the device's own end says more.
fn write_back(index: u32) {
    for holder in System::real().users_of(&format!("nbd{index}")) {
        let By::Mounted(points) = holder.by else { continue };
        for folder in points.iter().filter_map(|point| fs::File::open(point).ok()) {
            let _ = rustix::fs::syncfs(&folder);
        }
    }
    if let Ok(file) = fs::File::open(node(index)) {
        let _ = file.sync_all();
    }
}

/// The thread that asks the kernel.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) family: Family,
    pub(super) root: PathBuf,
    pub(super) tell: Sender<Told>,
}

impl Worker {
    pub(super) fn run(mut self, inbox: &Receiver<Job>) {
        while let Ok(job) = inbox.recv() {
            match job {
                Job::Attach { device, settings, socket } => {
                    let result = self.attach(&settings, &socket);
                    // Nobody listens any more when the program ends.
                    let _ = self.tell.send(Told { device, result });
                }
                Job::Resize { index, settings } => {
                    let sizes = Attributes::default()
                        .u32(attr::INDEX, index)
                        .u64(attr::SIZE_BYTES, settings.bytes)
                        .u64(attr::BLOCK_SIZE_BYTES, settings.block_bytes.into())
                        .text(attr::BACKEND_IDENTIFIER, &settings.backend);
                    // What could not be told is told with the next connection.
                    let _ = self.family.call(RECONFIGURE, &sizes);
                }
                Job::Detach { backend, sync } => {
                    // Found by its name: it may have been attached after it was to go.
                    let Some(index) = find(&self.root, &backend) else { continue };
                    if sync {
                        write_back(index);
                    }
                    let which = Attributes::default().u32(attr::INDEX, index);
                    let _ = self.family.call(DISCONNECT, &which);
                }
            }
        }
    }

    /// Gives the kernel a connection: which device has it, and whether it was ours before.
    fn attach(&mut self, settings: &Settings, socket: &OwnedFd) -> Result<(u32, bool), Error> {
        let fd = Attributes::default().u32(attr::SOCK_FD, socket.as_raw_fd() as u32);
        let sockets = Attributes::default().nested(attr::SOCK_ITEM, &fd);
        let common = |attributes: Attributes| {
            attributes
                .u64(attr::SIZE_BYTES, settings.bytes)
                .u64(attr::BLOCK_SIZE_BYTES, settings.block_bytes.into())
                .u64(attr::TIMEOUT, REQUEST_LIMIT.as_secs())
                .u64(attr::DEAD_CONN_TIMEOUT, DEAD_CONNECTION_LIMIT.as_secs())
                .text(attr::BACKEND_IDENTIFIER, &settings.backend)
                .nested(attr::SOCKETS, &sockets)
        };
        if let Some(index) = find(&self.root, &settings.backend) {
            let attributes = common(Attributes::default().u32(attr::INDEX, index));
            let called = self.family.call(RECONFIGURE, &attributes);
            called.map_err(|error| {
                Error::failed(format!(
                    "cannot reconnect {}: {error}; free it with `nbd-client -d {}` and start again",
                    node(index).display(),
                    node(index).display()
                ))
            })?;
            return Ok((index, true));
        }
        let flags = u64::from(settings.flags.bits());
        let attributes = common(Attributes::default()).u64(attr::SERVER_FLAGS, flags);
        let answer = self.family.call(CONNECT, &attributes).map_err(|error| match error {
            Errno::PERM => Error::failed(
                "only root may have the kernel attach NBD devices; run as root, or leave out --attach and see what the printed nbd-client line needs",
            ),
            error => Error::failed(format!(
                "the kernel attaches no NBD device: {error}; see what `dmesg | tail` says of nbd"
            )),
        })?;
        let index = attribute(&answer, attr::INDEX).and_then(<[u8]>::first_chunk);
        let index = index.copied().map(u32::from_ne_bytes).ok_or_else(|| {
            Error::failed("the kernel attached an NBD device and does not say which; see `lsblk`")
        })?;
        Ok((index, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_the_name_of_its_other_end_while_it_is_attached() {
        let root = tempfile::tempdir().expect("a folder");
        let device = |index: u32, backend: &str, attached: bool| {
            let folder = root.path().join(format!("sys/block/nbd{index}"));
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join("backend"), format!("{backend}\n")).expect("a file");
            if attached {
                fs::write(folder.join("pid"), "7\n").expect("a file");
            }
        };
        device(0, "mptctl:a", false);
        device(3, "mptctl:a", true);
        device(12, "mptctl:b", true);
        fs::create_dir_all(root.path().join("sys/block/nbd5")).expect("a folder");
        assert_eq!(find(root.path(), "mptctl:a"), Some(3), "nbd0 is free");
        assert_eq!(find(root.path(), "mptctl:b"), Some(12));
        assert_eq!(find(root.path(), "mptctl:c"), None);
    }

    #[test]
    fn flushes_are_asked_for_where_there_is_a_cache() {
        let mut unit = crate::export::block::tests::unit(100);
        unit.write_cache = true;
        assert!(Settings::of(&unit).flags.contains(TransmissionFlags::SEND_FLUSH));
        unit.write_cache = false;
        assert!(!Settings::of(&unit).flags.contains(TransmissionFlags::SEND_FLUSH));
        assert!(flags_of(&unit).contains(TransmissionFlags::SEND_FLUSH), "others may still");
    }
}
