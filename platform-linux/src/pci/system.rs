//! The files that Linux tells about devices in, under a root that tests put elsewhere.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::address::PciAddress;
use crate::error::Error;

/// What is asked of the kernel by other means than reading a file.
pub(crate) trait Kernel: Send + Sync {
    /// Writes an attribute below sysfs, in one piece and without creating it.
    fn write(&self, path: &Path, text: &str) -> io::Result<()>;

    /// Has `modprobe` load a module by its name or by the alias of a device.
    fn load_module(&self, name: &str) -> io::Result<()>;

    /// Claims a block device, with its partitions, until the file that comes back is closed; `None` when
    /// somebody has it for themselves, whoever it is: file systems, swap, device mapper, MD, ZFS and
    /// targets all claim theirs.
    fn claim(&self, node: &Path) -> io::Result<Option<fs::File>>;

    /// Whether somebody has claimed the block device.
    fn claimed(&self, node: &Path) -> io::Result<bool> {
        self.claim(node).map(|claim| claim.is_none())
    }

    /// Has the kernel write what it caches of a block device, and flush the disk's own cache.
    fn flush(&self, node: &Path) -> io::Result<()>;

    /// Waits until udev has done with what it was told, where there is an udev: it would set the
    /// owner of a new device node after us.
    fn settle(&self);

    /// Gives a device node an owner.
    fn change_owner(&self, node: &Path, user: Option<u32>, group: Option<u32>) -> io::Result<()>;

    /// Whether this process may read and write a device node.
    fn accessible(&self, node: &Path) -> bool;
}

/// The running kernel.
struct Running;

impl Kernel for Running {
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        use std::io::Write;
        fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
    }

    fn load_module(&self, name: &str) -> io::Result<()> {
        // A user's PATH often lacks the folder of modprobe.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let output =
            Command::new("modprobe").arg(name).env("PATH", path).stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(said.trim().to_owned()))
    }

    fn claim(&self, node: &Path) -> io::Result<Option<fs::File>> {
        use std::os::unix::fs::OpenOptionsExt;
        // Without O_CREAT, O_EXCL asks for a block device nobody else has claimed (open(2)).
        let flags = rustix::fs::OFlags::EXCL | rustix::fs::OFlags::NONBLOCK;
        let opened = fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(node);
        match opened {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn flush(&self, node: &Path) -> io::Result<()> {
        fs::File::open(node)?.sync_all()
    }

    fn settle(&self) {
        let mut settle = Command::new("udevadm");
        settle.args(["settle", "--timeout=10"]);
        settle.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A machine without udev has nobody to wait for.
        let _ = settle.status();
    }

    fn change_owner(&self, node: &Path, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
        std::os::unix::fs::chown(node, user, group)
    }

    fn accessible(&self, node: &Path) -> bool {
        use rustix::fs::Access;
        rustix::fs::access(node, Access::READ_OK | Access::WRITE_OK).is_ok()
    }
}

/// A machine: its sysfs, procfs and device nodes.
#[derive(Clone)]
pub struct System {
    root: PathBuf,
    kernel: Arc<dyn Kernel>,
    /// How long a device may take to find its driver.
    patience: Duration,
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").field("root", &self.root).finish_non_exhaustive()
    }
}

impl System {
    /// The machine that this runs on.
    #[must_use]
    pub fn real() -> Self {
        Self {
            root: PathBuf::from("/"),
            kernel: Arc::new(Running),
            patience: Duration::from_secs(5),
        }
    }

    /// A machine in a folder, with a kernel that a test plays.
    #[cfg(test)]
    pub(crate) fn fake(root: &Path, kernel: Arc<dyn Kernel>) -> Self {
        Self { root: root.to_owned(), kernel, patience: Duration::from_millis(20) }
    }

    pub(crate) fn kernel(&self) -> &dyn Kernel {
        &*self.kernel
    }

    pub(crate) const fn patience(&self) -> Duration {
        self.patience
    }

    /// A path of the machine, given without its leading slash.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// The folder of a PCI device.
    pub(crate) fn device(&self, address: PciAddress) -> PathBuf {
        self.path(format!("sys/bus/pci/devices/{address}"))
    }

    /// The device node that the machine's users know by this name below /dev.
    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.path("dev").join(name)
    }

    /// The text of a file below the root, without the end of its line; `None` when there is none.
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        text(&self.path(path))
    }

    /// The driver that has a PCI device now.
    pub(crate) fn driver(&self, address: PciAddress) -> Option<String> {
        link_name(&self.device(address).join("driver"))
    }

    /// The addresses of all PCI devices, in their order.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when sysfs does not list any bus of PCI.
    pub fn addresses(&self) -> Result<Vec<PciAddress>, Error> {
        let folder = self.path("sys/bus/pci/devices");
        let entries = fs::read_dir(&folder).map_err(|error| {
            Error::failed(format!(
                "cannot list PCI devices in {}: {error}; is sysfs mounted, and has this machine \
                 PCI at all?",
                folder.display()
            ))
        })?;
        let mut addresses: Vec<PciAddress> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        addresses.sort();
        Ok(addresses)
    }
}

/// The text of a file, without the end of its line.
pub(crate) fn text(path: &Path) -> Option<String> {
    // What is no UTF-8 came from a disk's name, where a few question marks do no harm.
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// A number as sysfs writes them: 0x and hexadecimal digits, or decimal.
pub(crate) fn number(path: &Path) -> Option<u64> {
    let text = text(path)?;
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The last part of what a symbolic link points to.
pub(crate) fn link_name(link: &Path) -> Option<String> {
    Some(fs::read_link(link).ok()?.file_name()?.to_str()?.to_owned())
}

/// The names in a folder, sorted; none when it is not there.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
