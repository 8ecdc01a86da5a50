//! Where a SCSI command's data comes from or goes to.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::memory::{PIECE, TransferCause, TransferError, bounce};

/// The memory of a command, as the initiator described it.
pub trait DataBuffer {
    /// Bytes that the initiator provided.
    fn len(&self) -> u64;

    /// Whether the initiator provided none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves bytes to the initiator at `offset` of its buffer. The target never asks for bytes
    /// past [`DataBuffer::len`].
    ///
    /// # Errors
    ///
    /// [`DataError`] when the memory could not be reached; the command ends as ABORTED COMMAND.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DataError>;

    /// Moves bytes from the initiator, from `offset` of its buffer. Where `bytes` is no longer than
    /// 4096 it is either filled or, with the error, left as it was, as it may be a page of a disk.
    ///
    /// # Errors
    ///
    /// As [`DataBuffer::write`].
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), DataError>;

    /// Moves `bytes` bytes of a file, from `position` on, to the initiator at `offset` of its
    /// buffer. A buffer to which the system can copy directly overrides it.
    ///
    /// # Errors
    ///
    /// [`TransferError`], which says which side failed.
    fn fill_from_file(
        &mut self,
        offset: u64,
        bytes: u64,
        file: &File,
        position: u64,
    ) -> Result<(), TransferError> {
        bounce(&mut [0; PIECE], bytes, |moved, piece| {
            file.read_exact_at(piece, position + moved).map_err(TransferCause::Disk)?;
            self.write(offset + moved, piece).map_err(|DataError| TransferCause::Memory)
        })
    }

    /// Moves `bytes` bytes from the initiator, from `offset` of its buffer, to a file from
    /// `position` on. Overridden as [`DataBuffer::fill_from_file`] is.
    ///
    /// # Errors
    ///
    /// As [`DataBuffer::fill_from_file`].
    fn store_to_file(
        &mut self,
        offset: u64,
        bytes: u64,
        file: &File,
        position: u64,
    ) -> Result<(), TransferError> {
        bounce(&mut [0; PIECE], bytes, |moved, piece| {
            self.read(offset + moved, piece).map_err(|DataError| TransferCause::Memory)?;
            file.write_all_at(piece, position + moved).map_err(TransferCause::Disk)
        })
    }
}

/// The initiator's memory could not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataError;

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the command's memory could not be reached; check its scatter/gather list")
    }
}

impl std::error::Error for DataError {}

/// A buffer of the vector's length; it does not grow.
impl DataBuffer for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DataError> {
        let start = usize::try_from(offset).map_err(|_| DataError)?;
        let end = start.checked_add(bytes.len()).ok_or(DataError)?;
        self.get_mut(start..end).ok_or(DataError)?.copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), DataError> {
        let start = usize::try_from(offset).map_err(|_| DataError)?;
        let end = start.checked_add(bytes.len()).ok_or(DataError)?;
        bytes.copy_from_slice(self.get(start..end).ok_or(DataError)?);
        Ok(())
    }
}
