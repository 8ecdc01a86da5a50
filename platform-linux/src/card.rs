//! What VFIO and UIO have in common: a PCI function's command register, and its registers as the
//! core wants them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use fusion_mpt::platform::{MmioBlock, Registers, before_register_write};
use fusion_mpt::regs::mpi2::Block;

use crate::dma::mapping::Mapping;
use crate::error::Error;
use crate::pci::address::PciAddress;

/// Offset of the command register in configuration space (PCI Local Bus Specification 3.0, 6.2.2).
const COMMAND: u64 = 0x04;
/// It answers accesses to its memory BARs.
const MEMORY_SPACE: u16 = 1 << 1;
/// It may read and write memory, and send message signalled interrupts.
const BUS_MASTER: u16 = 1 << 2;
/// It does not assert its interrupt line.
const INTX_DISABLE: u16 = 1 << 10;

/// A PCI function in user space: what the kernel gives access to by calls.
pub(crate) trait Function: Send + Sync + 'static {
    /// Reads 16 bits of configuration space; all ones when the function is gone.
    fn read_config(&self, at: u64) -> u16;

    /// Writes 16 bits of configuration space.
    fn write_config(&self, at: u64, value: u16);

    /// Reads a register where the BAR cannot be mapped; all ones when the function is gone.
    fn read_register(&self, _offset: u16) -> u32 {
        u32::MAX
    }

    /// Writes registers where the BAR cannot be mapped, 4 or 8 bytes.
    fn write_register(&self, _offset: u16, _bytes: &[u8]) {}
}

/// A PCI function and whether it may reach memory. Dropped, it may not.
pub(crate) struct Card<F: Function> {
    function: F,
    mastering: Mutex<Mastering>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mastering {
    Off,
    On,
    /// Off for good.
    CutOff,
}

impl<F: Function> fmt::Debug for Card<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Card")
    }
}

impl<F: Function> Card<F> {
    /// Lets the function answer on its memory BARs, and reach no memory yet.
    ///
    /// Whoever had it before may have been killed, and then its firmware still knows the addresses
    /// of its queues: in this process's IOMMU mapping those are somebody else's, and under UIO they
    /// are anybody's. So it may reach memory only when it has been reset, for which it needs none:
    /// when memory is first asked for ([`Card::let_master`]).
    pub(crate) fn new(function: F) -> Self {
        let card = Self { function, mastering: Mutex::new(Mastering::Off) };
        card.change_command(MEMORY_SPACE, BUS_MASTER);
        card
    }

    /// The same, for one that answers.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when its configuration space reads all ones.
    pub(crate) fn open(function: F, address: PciAddress) -> Result<Arc<Self>, Error> {
        let card = Self::new(function);
        if !card.is_there() {
            return Err(Error::failed(format!(
                "the controller {address} does not answer: its configuration space reads all ones; check its seating and power, then restart the machine or rescan the bus"
            )));
        }
        Ok(Arc::new(card))
    }

    /// What the kernel gives access to.
    pub(crate) const fn function(&self) -> &F {
        &self.function
    }

    /// Whether the function is there.
    pub(crate) fn is_there(&self) -> bool {
        self.function.read_config(0) != u16::MAX
    }

    /// Says that the function is gone, if it is.
    pub(crate) fn failure(&self, address: PciAddress) -> Option<String> {
        (!self.is_there()).then(|| {
            format!(
                "the controller {address} no longer answers: it was taken out, or has lost its power or its link; look at the kernel's log, then rescan the bus with `echo 1 > /sys/bus/pci/rescan`"
            )
        })
    }

    /// Lets the function reach memory, unless it was cut off.
    pub(crate) fn let_master(&self) {
        let mut mastering = self.mastering.lock().unwrap_or_else(PoisonError::into_inner);
        if *mastering == Mastering::Off {
            *mastering = Mastering::On;
            self.change_command(MEMORY_SPACE | BUS_MASTER, 0);
        }
    }

    /// Lets the function no longer reach memory, for good.
    pub(crate) fn cut_off(&self) {
        let mut mastering = self.mastering.lock().unwrap_or_else(PoisonError::into_inner);
        if *mastering != Mastering::CutOff {
            *mastering = Mastering::CutOff;
            self.change_command(0, BUS_MASTER);
        }
    }

    /// Lets the function assert its interrupt line again.
    pub(crate) fn rearm_line(&self) {
        let _held = self.mastering.lock().unwrap_or_else(PoisonError::into_inner);
        self.change_command(0, INTX_DISABLE);
    }

    fn change_command(&self, set: u16, clear: u16) {
        let now = self.function.read_config(COMMAND);
        // One that is gone may be back in a moment: then it must not find every bit set.
        let now = if now == u16::MAX { MEMORY_SPACE } else { now };
        let wanted = (now | set) & !clear;
        self.function.write_config(COMMAND, wanted);
    }
}

impl<F: Function> Drop for Card<F> {
    fn drop(&mut self) {
        self.cut_off();
    }
}

/// How the registers are reached.
enum Window {
    /// By loads and stores. The mapping is held for the block's life.
    Mapped(MmioBlock<Block>, #[expect(dead_code, reason = "held, not looked at")] Mapping),
    /// By a system call each.
    Calls,
}

/// A card's registers; clones share them.
pub(crate) struct CardRegisters<F: Function>(Arc<Shared<F>>);

struct Shared<F: Function> {
    window: Window,
    card: Arc<Card<F>>,
}

impl<F: Function> Clone for CardRegisters<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: Function> fmt::Debug for CardRegisters<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.0.window {
            Window::Mapped(..) => "mapped",
            Window::Calls => "by system calls",
        };
        write!(f, "CardRegisters({how})")
    }
}

/// Bytes of the BAR that are mapped: a page holds every register that the driver knows.
pub(crate) fn window_bytes() -> usize {
    rustix::param::page_size()
}

const _: () = assert!(size_of::<Block>() <= 4096);
const _: () = assert!(size_of::<fusion_mpt::regs::mpi1::Block>() <= size_of::<Block>());

impl<F: Function> CardRegisters<F> {
    /// Takes the mapped beginning of the memory BAR, of [`window_bytes`], or `None` where there is no
    /// mapping it.
    pub(crate) fn new(card: &Arc<Card<F>>, mapping: Option<Mapping>) -> Self {
        let window = match mapping {
            Some(mapping) if mapping.bytes() >= size_of::<Block>() => {
                // SAFETY: the mapping is of the BAR, long enough, page-aligned and held beside it;
                // the kernel maps BARs uncached.
                let block = unsafe { MmioBlock::new(mapping.at().cast()) };
                Window::Mapped(block, mapping)
            }
            _ => Window::Calls,
        };
        Self(Arc::new(Shared { window, card: Arc::clone(card) }))
    }
}

impl<F: Function> Registers for CardRegisters<F> {
    #[inline]
    fn read32(&self, offset: u16) -> u32 {
        match &self.0.window {
            Window::Mapped(block, _) => block.read32(offset),
            Window::Calls => self.0.card.function.read_register(offset),
        }
    }

    #[inline]
    fn write32(&self, offset: u16, value: u32) {
        match &self.0.window {
            Window::Mapped(block, _) => block.write32(offset, value),
            Window::Calls => {
                before_register_write();
                self.0.card.function.write_register(offset, &value.to_le_bytes());
            }
        }
    }

    #[inline]
    fn write64(&self, offset: u16, value: u64) {
        match &self.0.window {
            Window::Mapped(block, _) => block.write64(offset, value),
            Window::Calls => {
                before_register_write();
                self.0.card.function.write_register(offset, &value.to_le_bytes());
            }
        }
    }

    fn cut_off(&self) {
        self.0.card.cut_off();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;

    /// A command register that outlives its card.
    struct Fake(Arc<AtomicU16>);

    impl Function for Fake {
        fn read_config(&self, at: u64) -> u16 {
            if at == COMMAND { self.0.load(Ordering::SeqCst) } else { 0x1000 }
        }

        fn write_config(&self, at: u64, value: u16) {
            assert_eq!(at, COMMAND);
            self.0.store(value, Ordering::SeqCst);
        }
    }

    fn card(command: u16) -> (Card<Fake>, Arc<AtomicU16>) {
        let register = Arc::new(AtomicU16::new(command));
        (Card::new(Fake(Arc::clone(&register))), register)
    }

    #[test]
    fn a_card_reaches_no_memory_before_memory_is_asked_for() {
        // As a killed process may leave it.
        let (card, command) = card(BUS_MASTER | 1);
        assert_eq!(command.load(Ordering::SeqCst), MEMORY_SPACE | 1);
        card.let_master();
        assert_eq!(command.load(Ordering::SeqCst), MEMORY_SPACE | BUS_MASTER | 1);
        drop(card);
        assert_eq!(command.load(Ordering::SeqCst), MEMORY_SPACE | 1);
    }

    #[test]
    fn what_was_cut_off_stays_so() {
        let (card, command) = card(0);
        card.let_master();
        let card = Arc::new(card);
        CardRegisters::new(&card, None).cut_off();
        assert_eq!(command.load(Ordering::SeqCst), MEMORY_SPACE);
        card.let_master();
        assert_eq!(command.load(Ordering::SeqCst), MEMORY_SPACE);
    }

    #[test]
    fn a_card_that_is_gone_is_not_written_all_ones() {
        let (card, command) = card(0);
        card.let_master();
        command.store(u16::MAX, Ordering::SeqCst);
        card.cut_off();
        assert_eq!(command.load(Ordering::SeqCst), MEMORY_SPACE);
    }
}
