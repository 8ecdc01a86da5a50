//! Controllers bound to vfio-pci: the IOMMU keeps them to memory of this process.
//!
//! By container and group, which every kernel since 3.6 has. A function reset is not relied on: most of
//! these cards have none, and the core resets the IOC itself. Where the card has one, the kernel makes it
//! when the device is opened and closed.

use std::sync::Arc;

use vfio_ioctls::{VfioContainer, VfioDevice};

use crate::card::{Card, CardRegisters};
use crate::card_bus::CardBus;
use crate::dma::Pool;
use crate::error::Error;
use crate::pci::address::PciAddress;
use crate::pci_files::PciFiles;
use crate::waiting::Waiting;

mod device;
mod explain;
mod iova;
mod memory;
mod vectors;

use device::Device;
use memory::MappedMemory;

/// A controller by VFIO.
pub(crate) type VfioBus = CardBus<Device>;

impl VfioBus {
    /// Opens the controller, with interrupts for so many reply queues, if it has as many and they
    /// are to be slept on. It reaches no memory until some is allocated.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what is in the way and how to remove it.
    pub(crate) fn open(address: PciAddress, waiting: Waiting, queues: u8) -> Result<Self, Error> {
        let files = PciFiles::find(address)?;
        let group = explain::check(&files)?;
        let bar = files.register_bar()?;
        let id = files.id()?;
        let explain = |error| explain::opening(&files, group, &error);
        let container = Arc::new(VfioContainer::new(None).map_err(explain)?);
        let device = VfioDevice::new(files.folder(), container.clone(), false).map_err(explain)?;
        let ranges = iova::valid_ranges(&container);
        let card = Card::open(Device::new(device, bar), address)?;
        let mapping = card.function().map_registers();
        let registers = CardRegisters::new(&card, mapping);
        let interrupts = match waiting {
            Waiting::Poll => Vec::new(),
            _ => vectors::open(&card, queues, address)?,
        };
        let memory = MappedMemory::new(container, Arc::clone(&card), &ranges, address)?;
        Ok(Self::new((address, id), interrupts, registers, Pool::new(memory), card))
    }
}
