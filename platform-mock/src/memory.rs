//! Memory as a controller sees it: bus addresses, bounds, and nothing to trust on the other side.

pub mod direct;
pub(crate) mod volatile;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

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

/// A piece of host memory, as an element of a scatter/gather list names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The bus address of its first byte.
    pub at: u64,
    /// Its length in bytes.
    pub bytes: u32,
}

/// A transfer between host memory and a disk that stopped before its end.
#[derive(Debug)]
pub struct TransferError {
    /// Bytes that were moved before; what lies behind them is as it was, or partly moved.
    pub moved: u64,
    /// Which side stopped it.
    pub cause: TransferCause,
}

/// Which side of a transfer failed.
#[derive(Debug)]
pub enum TransferCause {
    /// The host's memory could not be reached.
    Memory,
    /// The disk's file could not be read or written. A file that ends too early gives
    /// [`io::ErrorKind::UnexpectedEof`].
    Disk(io::Error),
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            TransferCause::Memory => write!(
                f,
                "the host's memory could not be reached {} bytes into a transfer; look at the command's scatter/gather list",
                self.moved
            ),
            TransferCause::Disk(error) => {
                write!(f, "the disk failed {} bytes into a transfer: {error}", self.moved)
            }
        }
    }
}

impl std::error::Error for TransferError {}

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

    /// Reads the file's bytes from `offset` on into the segments, in order, until all are full.
    ///
    /// Memory that is mapped into this process should override it by [`direct::fill_from_file`], so
    /// that the system copies straight from its page cache; here the bytes are held in between.
    ///
    /// # Errors
    ///
    /// [`TransferError`]: memory that the device was not given, a file that ends too early, or what
    /// reading it failed with.
    fn fill_from_file(
        &self,
        segments: &[Segment],
        file: &File,
        offset: u64,
    ) -> Result<(), TransferError> {
        fill_piecewise(self, segments, file, offset)
    }

    /// Writes the segments' bytes, in order, to the file from `offset` on.
    ///
    /// Overridden by [`direct::store_to_file`] as [`DeviceMemory::fill_from_file`] is.
    ///
    /// # Errors
    ///
    /// As [`DeviceMemory::fill_from_file`].
    fn store_to_file(
        &self,
        segments: &[Segment],
        file: &File,
        offset: u64,
    ) -> Result<(), TransferError> {
        store_piecewise(self, segments, file, offset)
    }
}

/// [`DeviceMemory::fill_from_file`] of memory that the system cannot copy to directly.
pub(crate) fn fill_piecewise<M: DeviceMemory + ?Sized>(
    memory: &M,
    segments: &[Segment],
    file: &File,
    offset: u64,
) -> Result<(), TransferError> {
    bounce_segments(segments, offset, |at, offset, piece| {
        file.read_exact_at(piece, offset).map_err(TransferCause::Disk)?;
        memory.write(at, piece).map_err(|_| TransferCause::Memory)
    })
}

/// [`DeviceMemory::store_to_file`] of memory that the system cannot copy from directly.
pub(crate) fn store_piecewise<M: DeviceMemory + ?Sized>(
    memory: &M,
    segments: &[Segment],
    file: &File,
    offset: u64,
) -> Result<(), TransferError> {
    bounce_segments(segments, offset, |at, offset, piece| {
        memory.read(at, piece).map_err(|_| TransferCause::Memory)?;
        file.write_all_at(piece, offset).map_err(TransferCause::Disk)
    })
}

/// Bytes that are held between a file and memory at a time.
pub(crate) const PIECE: usize = 16 * 1024;

/// Calls `carry` with the offset of, and in `buffer` room for, piece after piece of `bytes` bytes.
pub(crate) fn bounce(
    buffer: &mut [u8; PIECE],
    bytes: u64,
    mut carry: impl FnMut(u64, &mut [u8]) -> Result<(), TransferCause>,
) -> Result<(), TransferError> {
    let mut moved = 0;
    while moved < bytes {
        let length = usize::try_from(bytes - moved).unwrap_or(PIECE).min(PIECE);
        carry(moved, &mut buffer[..length]).map_err(|cause| TransferError { moved, cause })?;
        moved += length as u64;
    }
    Ok(())
}

/// The same over segments: `carry` is told the bus address and the file offset.
fn bounce_segments(
    segments: &[Segment],
    offset: u64,
    mut carry: impl FnMut(u64, u64, &mut [u8]) -> Result<(), TransferCause>,
) -> Result<(), TransferError> {
    let mut buffer = [0; PIECE];
    let mut before = 0;
    for segment in segments {
        let bytes = u64::from(segment.bytes);
        bounce(&mut buffer, bytes, |inside, piece| {
            carry(segment.at.wrapping_add(inside), offset + before + inside, piece)
        })
        .map_err(|error| TransferError { moved: before + error.moved, ..error })?;
        before += bytes;
    }
    Ok(())
}
