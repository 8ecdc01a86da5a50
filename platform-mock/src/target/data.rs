//! Where a command's data comes from or goes to.

use super::sense::SenseData;

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

    /// Moves bytes from the initiator, from `offset` of its buffer.
    ///
    /// # Errors
    ///
    /// As [`DataBuffer::write`].
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), DataError>;
}

/// The initiator's memory could not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataError;

impl std::fmt::Display for DataError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the command's memory could not be reached; check its scatter/gather list")
    }
}

impl std::error::Error for DataError {}

impl From<DataError> for SenseData {
    fn from(_: DataError) -> SenseData {
        SenseData::DATA_PHASE_ERROR
    }
}

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

/// A command being carried out.
pub(super) struct Task<'a> {
    pub(super) cdb: &'a [u8],
    pub(super) initiator: u64,
    pub(super) data: &'a mut dyn DataBuffer,
    pub(super) transferred: u64,
}

impl Task<'_> {
    /// Byte `at` of the CDB; the table has checked that the CDB is long enough for its command.
    pub(super) fn byte(&self, at: usize) -> u8 {
        self.cdb.get(at).copied().unwrap_or(0)
    }

    /// Sends `bytes`, cut to the allocation length and to the initiator's buffer.
    pub(super) fn reply(&mut self, bytes: &[u8], allocation: u64) -> Result<(), SenseData> {
        let length = allocation.min(self.data.len()).min(bytes.len() as u64) as usize;
        if length > 0 {
            self.data.write(0, &bytes[..length])?;
            self.transferred = length as u64;
        }
        Ok(())
    }

    /// Takes the whole parameter list.
    pub(super) fn parameters(&mut self, length: u64) -> Result<Vec<u8>, SenseData> {
        self.provides(length)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| DataError)?];
        if !bytes.is_empty() {
            self.data.read(0, &mut bytes)?;
            self.transferred = length;
        }
        Ok(bytes)
    }

    /// That the initiator's buffer holds all that the CDB says it does.
    pub(super) fn provides(&self, length: u64) -> Result<(), SenseData> {
        if self.data.len() < length {
            return Err(SenseData::DATA_PHASE_ERROR);
        }
        Ok(())
    }
}
