//! Memory as a controller sees it: bus addresses, bounds, and nothing to trust on the other side.

pub(crate) mod volatile;

use std::fmt;

/// A DMA access that reached no memory the host has set aside for the device.
///
/// A real controller takes a master abort or an IOMMU fault for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaFault {
    /// The bus address at which the access began.
    pub at: u64,
    /// Its length in bytes.
    pub bytes: usize,
}

impl fmt::Display for DmaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the controller accessed {} bytes at bus address {:#x}, where the host has given it no memory; look at the address in the message that led there",
            self.bytes, self.at
        )
    }
}

impl std::error::Error for DmaFault {}

/// Host memory, reached by bus address.
///
/// The host may change it at any time, so bytes are copied and no reference to it is handed out.
/// An access that is in part outside does nothing.
pub trait DeviceMemory {
    /// Copies the bytes at bus address `at` out.
    ///
    /// # Errors
    ///
    /// [`DmaFault`] if they do not all lie in memory that the host has given to the device.
    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), DmaFault>;

    /// Copies `bytes` to bus address `at`.
    ///
    /// # Errors
    ///
    /// As [`DeviceMemory::read`].
    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), DmaFault>;

    /// Writes the 8 bytes at `at`, a multiple of 8, little endian, in one go and after everything
    /// that was written before: how a device publishes a reply descriptor.
    ///
    /// # Errors
    ///
    /// As [`DeviceMemory::read`].
    fn publish(&self, at: u64, value: u64) -> Result<(), DmaFault> {
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
        self.write(at, &value.to_le_bytes())
    }

    /// Reads the 4 bytes at `at`, little endian.
    ///
    /// # Errors
    ///
    /// As [`DeviceMemory::read`].
    fn read_u32(&self, at: u64) -> Result<u32, DmaFault> {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads the 8 bytes at `at`, little endian.
    ///
    /// # Errors
    ///
    /// As [`DeviceMemory::read`].
    fn read_u64(&self, at: u64) -> Result<u64, DmaFault> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}
