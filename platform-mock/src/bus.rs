//! What a program needs of a bus beside registers: DMA memory and the controller's identity.

use std::fmt;

use fusion_mpt::platform::{DmaRegion, Registers};

/// A bus with one Fusion-MPT controller on it.
pub trait Bus {
    /// A handle to the register window; each queue holds its own.
    type Registers: Registers + Clone + Send;
    /// A piece of memory that the controller reaches; freed when dropped.
    type Dma: DmaRegion + Send + Sync;

    /// The controller's register window.
    fn registers(&self) -> Self::Registers;

    /// Allocates `bytes` of zeroed DMA memory at a bus address that is a multiple of `alignment`
    /// (a power of two) and does not cross a 4 GiB boundary.
    ///
    /// # Errors
    ///
    /// [`BusError`] when the bus has no such piece of memory left.
    fn allocate(&self, bytes: usize, alignment: usize) -> Result<Self::Dma, BusError>;

    /// The controller's PCI vendor and device id.
    fn pci_id(&self) -> (u16, u16);
}

/// Why a bus could not do what was asked: a sentence with what was attempted, on what, what came
/// back and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusError(pub String);

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BusError {}
