//! A controller of this machine as a bus, whichever way the kernel gives access to it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fusion_mpt::platform::Registers;
use fusion_mpt_mock::bus::{Bus, BusError};

use crate::card::{Card, CardRegisters, Function};
use crate::dma::{Piece, Pool};
use crate::link::{Link, RealDelay, real_time};
use crate::pci::address::PciAddress;
use crate::waiting::Interrupt;

/// A controller of this machine. It reaches no memory until some is allocated, and none any more when
/// this is dropped.
pub(crate) struct CardBus<F: Function> {
    address: PciAddress,
    id: (u16, u16),
    /// Of the reply queues in their order; those beyond have none.
    interrupts: Vec<Interrupt>,
    registers: CardRegisters<F>,
    pool: Arc<Pool>,
    card: Arc<Card<F>>,
}

impl<F: Function> CardBus<F> {
    /// Puts together what VFIO or UIO has opened. `id` is the card's PCI vendor and device id.
    pub(crate) fn new(
        (address, id): (PciAddress, (u16, u16)),
        interrupts: Vec<Interrupt>,
        registers: CardRegisters<F>,
        pool: Pool,
        card: Arc<Card<F>>,
    ) -> Self {
        Self { address, id, interrupts, registers, pool: Arc::new(pool), card }
    }
}

impl<F: Function> fmt::Debug for CardBus<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CardBus({}, {:?}, {:?})", self.address, self.registers, self.interrupts)
    }
}

impl<F: Function> Bus for CardBus<F> {
    type Registers = CardRegisters<F>;
    type Dma = Piece;

    fn registers(&self) -> CardRegisters<F> {
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

impl<F: Function> Drop for CardBus<F> {
    fn drop(&mut self) {
        // Whoever still holds registers or memory holds the card too: it ends here all the same.
        self.registers.cut_off();
    }
}

impl<F: Function> Link for CardBus<F> {
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
        self.interrupts.get(usize::from(queue)).cloned()
    }
}
