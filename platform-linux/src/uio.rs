//! Controllers bound to uio_pci_generic: no IOMMU between the card and the memory of the machine.
//!
//! The kernel gives a file that tells of interrupts; registers and configuration space are files of
//! sysfs. Memory is hugepages at their physical addresses, which only root is told.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use crate::card::{Card, CardRegisters, window_bytes};
use crate::card_bus::CardBus;
use crate::dma::Pool;
use crate::dma::mapping::Mapping;
use crate::error::Error;
use crate::irq::{HeldBack, Signal};
use crate::pci::address::PciAddress;
use crate::pci_files::PciFiles;
use crate::waiting::{Interrupt, Waiting};

mod config;
mod hugepages;
mod memory;
mod pagemap;

use config::ConfigFile;
use memory::Hugepages;

/// A controller by UIO.
pub(crate) type UioBus = CardBus<ConfigFile>;

impl UioBus {
    /// Opens the controller, which reaches no memory until some is allocated.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what is in the way and how to remove it.
    pub(crate) fn open(address: PciAddress, waiting: Waiting) -> Result<Self, Error> {
        let files = PciFiles::find(address)?;
        check_driver(&files)?;
        let bar = files.register_bar()?;
        let id = files.id()?;
        if let Some(domain) = files.iommu_domain()
            && domain != "identity"
        {
            return Err(Error::failed(format!(
                "{address} is behind an IOMMU that translates addresses, and UIO knows physical ones only: bind it to vfio-pci by `mptctl bind {address}`, or boot with iommu=pt"
            )));
        }
        if bar.bytes < window_bytes() as u64 {
            return Err(Error::failed(format!(
                "the registers of {address} are {} bytes, less than a page, and UIO can only map pages; bind it to vfio-pci",
                bar.bytes
            )));
        }
        let config = open_config(&files)?;
        let first = memory::keep_open()?;
        let device = open_device(&files)?;
        let (memory, device) = Hugepages::around(first, device, address)?;
        let device = Signal::uio(device).map_err(|error| {
            Error::failed(format!(
                "cannot make descriptors for the interrupt of {address}: {error}; raise the limit on open files, `ulimit -n`"
            ))
        })?;
        let device = Arc::new(device);
        let card = Card::open(ConfigFile::new(config), address)?;
        let path = files.folder().join(format!("resource{}", bar.index));
        let window = read_write(&path).and_then(|file| Mapping::of_file(&file, 0, window_bytes()));
        let window = window.map_err(|error| {
            Error::failed(format!(
                "cannot map the registers of {address} through {}: {error}; run as root, and where the kernel is locked down (secure boot), bind it to vfio-pci",
                path.display()
            ))
        })?;
        let registers = CardRegisters::new(&card, Some(window));
        let memory = memory.behind(Arc::clone(&card), Arc::clone(&device));
        // The line is of the first queue, and MPI 2.x controllers without MSI-X have no other.
        let interrupts = match waiting {
            Waiting::Poll => Vec::new(),
            _ if !has_interrupt(&files) => {
                return Err(Error::failed(format!(
                    "{address} has no interrupt line, and UIO knows no other interrupts; use --waiting poll, or bind it to vfio-pci"
                )));
            }
            _ => vec![line(device, Arc::clone(&card))],
        };
        Ok(Self::new((address, id), interrupts, registers, Pool::new(memory), card))
    }
}

/// The interrupt line. The kernel disables it in the command register with each interrupt, and has
/// no call to enable it again: that is ours to write.
fn line(device: Arc<Signal>, card: Arc<Card<ConfigFile>>) -> Interrupt {
    card.rearm_line();
    Interrupt::new(HeldBack::new(device, move || card.rearm_line()))
}

/// Whether the driver is the right one.
fn check_driver(files: &PciFiles) -> Result<(), Error> {
    let address = files.address();
    let has = match files.driver() {
        Some(driver) if driver == "uio_pci_generic" => return Ok(()),
        Some(driver) => format!("bound to {driver}"),
        None => "bound to no driver".to_owned(),
    };
    Err(Error::failed(format!(
        "{address} is {has}; give it to user space with `mptctl bind --driver uio {address}`"
    )))
}

/// Whether the system has routed its interrupt line.
fn has_interrupt(files: &PciFiles) -> bool {
    let irq = fs::read_to_string(files.folder().join("irq")).unwrap_or_default();
    irq.trim().parse::<u32>().is_ok_and(|irq| irq != 0)
}

/// Opens configuration space, and makes sure that nobody else of ours has the device.
///
/// The kernel lets any number of programs open the device, and whoever closes it ends bus mastering for
/// all: even an open that is thought better of would stop the other program's card. So the lock is on
/// another file, and taken first.
fn open_config(files: &PciFiles) -> Result<File, Error> {
    let address = files.address();
    let path = files.folder().join("config");
    let config = read_write(&path).map_err(|error| needs_root(address, &path, &error))?;
    flock(&config, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error::failed(format!(
            "another program drives {address}; `fuser -v {}` says which, stop it first",
            path.display()
        ))
    })?;
    Ok(config)
}

/// Opens the device's file.
fn open_device(files: &PciFiles) -> Result<File, Error> {
    let address = files.address();
    let folder = files.folder().join("uio");
    let name = fs::read_dir(&folder).ok().and_then(|mut entries| entries.next()?.ok());
    let Some(name) = name else {
        return Err(Error::failed(format!(
            "{address} is bound to uio_pci_generic, but {} names no UIO device; `mptctl bind --driver uio {address}` binds it again",
            folder.display()
        )));
    };
    let path = Path::new("/dev").join(name.file_name());
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(&path)
        .map_err(|error| needs_root(address, &path, &error))
}

fn needs_root(address: PciAddress, path: &Path, error: &io::Error) -> Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return Error::file("open", path, error);
    }
    Error::failed(format!(
        "cannot open {} for {address}: {error}; UIO needs root, for the physical addresses of memory; VFIO does not, where there is an IOMMU",
        path.display()
    ))
}

fn read_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}
