//! The data of a command that is being carried out.

use super::sense::SenseData;
use crate::buffer::{DataBuffer, DataError};

impl From<DataError> for SenseData {
    fn from(_: DataError) -> SenseData {
        SenseData::DATA_PHASE_ERROR
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
