//! Commands that read, write, verify and flush blocks (SBC-3 5).

use std::io;

use super::Target;
use super::data::Task;
use super::operations::Operation;
use super::sense::SenseData;
use crate::buffer::DataError;
use crate::memory::{TransferCause, TransferError};

/// How much is moved between the initiator's memory and the disk at a time where it must be held
/// in between. A multiple of both block sizes.
const PIECE: usize = 64 * 1024;

/// FUA of every command that has it.
fn force_unit_access(task: &Task<'_>, operation: &Operation) -> bool {
    let flags = if operation.usage.len() == 32 { 10 } else { 1 };
    let fua = 0x08;
    operation.usage.get(flags).is_some_and(|used| used & fua != 0) && task.byte(flags) & fua != 0
}

/// READ(6), (10), (12), (16) and (32).
pub(super) fn read(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let (lba, blocks) = target.extent(task, operation)?;
    if force_unit_access(task, operation) && target.disk.dirty_bytes() > 0 {
        // What is newer in the cache is to be on the medium before it is read from there.
        target.disk.flush().map_err(|_| SenseData::write_error(lba))?;
    }
    let unreadable = target.first_unreadable(lba, blocks);
    let good_blocks = unreadable.map_or(blocks, |bad| bad - lba);
    let block = u64::from(target.config.block_size);
    let wanted = (good_blocks * block).min(task.data.len());
    let (moved, bad) = match target.disk.read_to(lba * block, wanted, task.data, 0) {
        Ok(()) => (wanted, unreadable),
        Err(TransferError { moved, cause: TransferCause::Memory }) => {
            task.transferred = moved;
            return Err(DataError.into());
        }
        Err(TransferError { moved, .. }) => (moved / block * block, Some(lba + moved / block)),
    };
    task.transferred = moved;
    target.counters.read.add(moved);
    let Some(bad) = bad else {
        return Ok(());
    };
    target.counters.read.fail();
    Err(SenseData::unrecovered_read(bad))
}

/// WRITE(6), (10), (12), (16) and (32).
pub(super) fn write(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let (lba, blocks) = target.extent(task, operation)?;
    let through = force_unit_access(task, operation);
    target.write_blocks(task, 0, lba, blocks, through)
}

/// WRITE AND VERIFY(10), (12) and (16): onto the medium, then as VERIFY.
pub(super) fn write_and_verify(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let (lba, blocks) = target.extent(task, operation)?;
    target.write_blocks(task, 0, lba, blocks, true)?;
    target.verify_blocks(task, lba, blocks)
}

/// The most blocks of one VERIFY: 32 MiB, or 256 MiB of large blocks.
const MOST_VERIFIED: u64 = 1 << 16;

/// VERIFY(10), (12) and (16): that the blocks can be read, and with BYTCHK that they equal the
/// data out, or with BYTCHK 11b that each equals the one block of it.
pub(super) fn verify(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    if task.byte(1) >> 1 & 0x03 == 2 {
        return Err(SenseData::invalid_field(1, Some(2)));
    }
    let (lba, blocks) = target.extent(task, operation)?;
    // A command is carried out at once and whole, so none may take minutes.
    if blocks > MOST_VERIFIED {
        return Err(operation.invalid_block_count());
    }
    target.verify_blocks(task, lba, blocks)
}

/// SYNCHRONIZE CACHE(10) and (16): the range is checked, and everything is flushed, which the
/// standard allows. IMMED changes nothing, as the flush is over at once.
pub(super) fn synchronize_cache(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    target.extent(task, operation)?;
    target.disk.flush().map_err(|_| SenseData::WRITE_ERROR)
}

impl Target {
    /// The first LBA and number of blocks of a CDB, which lie on the disk. With no blocks the LBA
    /// still has to.
    pub(super) fn extent(
        &self,
        task: &Task<'_>,
        operation: &Operation,
    ) -> Result<(u64, u64), SenseData> {
        let (lba, blocks) = operation.extent(task.cdb);
        self.check_range(lba, blocks)?;
        Ok((lba, blocks))
    }

    pub(super) fn check_range(&self, lba: u64, blocks: u64) -> Result<(), SenseData> {
        match lba.checked_add(blocks) {
            Some(end) if end <= self.blocks() => Ok(()),
            _ => Err(SenseData::LBA_OUT_OF_RANGE),
        }
    }

    /// Writes `blocks` blocks from `from` in the data out.
    pub(super) fn write_blocks(
        &mut self,
        task: &mut Task<'_>,
        from: u64,
        lba: u64,
        blocks: u64,
        through: bool,
    ) -> Result<(), SenseData> {
        let block = u64::from(self.config.block_size);
        let bytes = blocks * block;
        task.provides(from + bytes)?;
        let result = self.disk.write_from(lba * block, bytes, task.data, from, through);
        let moved = result.as_ref().map_or_else(|error| error.moved, |()| bytes);
        task.transferred += moved;
        self.counters.written.add(moved);
        if let Err(TransferError { cause, .. }) = result {
            let TransferCause::Disk(error) = cause else {
                return Err(DataError.into());
            };
            self.counters.written.fail();
            return Err(self.write_failure(&error, lba + moved / block));
        }
        self.now_readable(lba, blocks);
        Ok(())
    }

    /// Why blocks could not be written: no room is what a thin disk may run into (SBC-3 4.7.3.6),
    /// anything else is the medium's fault.
    pub(super) fn write_failure(&self, error: &io::Error, lba: u64) -> SenseData {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let full = matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge);
        if full && self.config.thin {
            return SenseData::SPACE_ALLOCATION_FAILED.with_information(lba);
        }
        SenseData::write_error(lba)
    }

    fn verify_blocks(
        &mut self,
        task: &mut Task<'_>,
        lba: u64,
        blocks: u64,
    ) -> Result<(), SenseData> {
        if let Some(bad) = self.first_unreadable(lba, blocks) {
            self.counters.verified.fail();
            return Err(SenseData::unrecovered_read(bad));
        }
        let block = u64::from(self.config.block_size);
        let bytes = blocks * block;
        let result = match task.byte(1) >> 1 & 0x03 {
            0 => self
                .disk
                .verify(lba * block, bytes)
                .map_err(|offset| SenseData::unrecovered_read(offset / block)),
            1 => {
                task.provides(bytes)?;
                self.compare_blocks(task, lba, blocks)
            }
            _ if blocks == 0 => Ok(()),
            _ => {
                task.provides(block)?;
                (lba..lba + blocks).try_for_each(|lba| self.compare_blocks(task, lba, 1))
            }
        };
        match result {
            Ok(()) => self.counters.verified.add(bytes),
            Err(_) => self.counters.verified.fail(),
        }
        result
    }

    /// Compares the blocks with as many at the start of the data out; a difference is MISCOMPARE
    /// with its offset in the data out.
    pub(super) fn compare_blocks(
        &mut self,
        task: &mut Task<'_>,
        lba: u64,
        blocks: u64,
    ) -> Result<(), SenseData> {
        let block = u64::from(self.config.block_size);
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(PIECE, 0);
        let mut compared = 0;
        let result: Result<(), SenseData> =
            pieces(blocks * block).try_for_each(|(done, length)| {
                let expected = &mut scratch[..length];
                task.data.read(done, expected)?;
                compared += length as u64;
                let mut at = 0;
                let mut difference = None;
                let read = self.disk.read_with(lba * block + done, length, &mut |medium| {
                    if difference.is_none() {
                        let wanted = &expected[at..at + medium.len()];
                        difference = wanted
                            .iter()
                            .zip(medium)
                            .position(|(wanted, found)| wanted != found)
                            .map(|within| done + (at + within) as u64);
                    }
                    at += medium.len();
                });
                if let Some(offset) = difference {
                    return Err(SenseData::miscompare(offset));
                }
                read.map_err(|_| SenseData::unrecovered_read(lba + (done + at as u64) / block))
            });
        self.scratch = scratch;
        task.transferred = task.transferred.max(compared);
        result
    }

    /// The first block of the range that was made unreadable.
    pub(super) fn first_unreadable(&self, lba: u64, blocks: u64) -> Option<u64> {
        self.unreadable
            .iter()
            .filter(|bad| bad.start < lba.saturating_add(blocks) && lba < bad.end)
            .map(|bad| bad.start.max(lba))
            .min()
    }

    /// The range was written, and what was bad in it is reassigned (AWRE).
    pub(super) fn now_readable(&mut self, lba: u64, blocks: u64) {
        if self.unreadable.is_empty() {
            return;
        }
        let end = lba.saturating_add(blocks);
        self.unreadable = self
            .unreadable
            .iter()
            .flat_map(|bad| [bad.start..bad.end.min(lba), bad.start.max(end)..bad.end])
            .filter(|bad| !bad.is_empty())
            .collect();
    }
}

/// Offsets and lengths that cut `bytes` bytes into pieces.
fn pieces(bytes: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..bytes)
        .step_by(PIECE)
        .map(move |done| (done, usize::try_from(bytes - done).unwrap_or(PIECE).min(PIECE)))
}
