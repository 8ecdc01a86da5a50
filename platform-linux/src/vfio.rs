//! Controllers bound to vfio-pci: the IOMMU keeps them to memory of this process.
//!
//! By container and group, which every kernel since 3.6 has. A function reset is not relied on: most of
//! these cards have none, and the core resets the IOC itself. Where the card has one, the kernel makes it
//! when the device is opened and closed.

use std::sync::Arc;
use std::time::Duration;

use fusion_mpt::platform::Registers;
use fusion_mpt_mock::bus::{Bus, BusError};
use vfio_ioctls::{VfioContainer, VfioDevice};

use crate::card::{Card, CardRegisters};
use crate::dma::{Piece, Pool};
use crate::error::Error;
use crate::link::{Link, RealDelay, real_time};
use crate::pci::address::PciAddress;
use crate::pci_files::PciFiles;
use crate::waiting::{Interrupt, Waiting};

mod device;
mod explain;
mod iova;
mod memory;
mod vectors;

use device::Device;
use memory::MappedMemory;
use vectors::Vectors;

/// A controller by VFIO.
#[derive(Debug)]
pub(crate) struct VfioBus {
    address: PciAddress,
    id: (u16, u16),
    vectors: Option<Vectors>,
    registers: CardRegisters<Device>,
    pool: Arc<Pool>,
    card: Arc<Card<Device>>,
}

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
        let card = Arc::new(Card::new(Device::new(device, bar)));
        if !card.is_there() {
            return Err(Error::failed(format!(
                "the controller {address} does not answer: its configuration space reads all ones; check its seating and power, then restart the machine or rescan the bus"
            )));
        }
        let mapping = card.function().map_registers();
        let registers = CardRegisters::new(&card, mapping);
        let vectors = match waiting {
            Waiting::Poll => None,
            _ => Some(Vectors::open(&card, queues, address)?),
        };
        let memory = MappedMemory::new(container, Arc::clone(&card), &ranges, address)?;
        let pool = Arc::new(Pool::new(memory));
        Ok(Self { address, id, vectors, registers, pool, card })
    }
}

impl Bus for VfioBus {
    type Registers = CardRegisters<Device>;
    type Dma = Piece;

    fn registers(&self) -> CardRegisters<Device> {
        self.registers.clone()
    }

    fn allocate(&self, bytes: usize, alignment: usize) -> Result<Piece, BusError> {
        let piece = self.pool.allocate(bytes, alignment)?;
        self.card.let_master();
        Ok(piece)
    }

    fn pci_id(&self) -> (u16, u16) {
        self.id
    }
}

impl Drop for VfioBus {
    fn drop(&mut self) {
        // Whoever still holds registers or memory holds the card too: it ends here all the same.
        self.registers.cut_off();
    }
}

impl Link for VfioBus {
    type Delay = RealDelay;

    fn delay(&self) -> RealDelay {
        RealDelay
    }

    fn now(&self) -> Duration {
        real_time()
    }

    fn pause(&self, _idle: u32) {
        std::hint::spin_loop();
    }

    fn failure(&self) -> Option<String> {
        self.card.failure(self.address)
    }

    fn interrupt(&self, queue: u8) -> Option<Interrupt> {
        self.vectors.as_ref()?.interrupt(queue)
    }
}
