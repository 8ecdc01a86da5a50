//! Commands that write without moving each block: WRITE SAME, UNMAP, COMPARE AND WRITE.

use super::Target;
use super::data::Task;
use super::operations::Operation;
use super::sense::SenseData;

/// WRITE SAME(10) and (16) (SBC-3 5.43): zero blocks reach to the last block (WSNZ is 0).
pub(super) fn write_same(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let (lba, named) = target.extent(task, operation)?;
    let blocks = match named {
        0 => target.blocks() - lba,
        named => named,
    };
    if blocks > target.config.maximum_write_same_blocks {
        return Err(operation.invalid_block_count());
    }
    let unmap = task.byte(1) & 0x08 != 0;
    if unmap && !target.config.thin {
        return Err(SenseData::invalid_field(1, Some(3)));
    }
    // NDOB exists in WRITE SAME(16) only, and the table refuses it elsewhere.
    let no_data = task.byte(1) & 0x01 != 0;
    let block = target.config.block_size as usize;
    let data = if no_data { vec![0; block] } else { task.parameters(block as u64)? };
    let (offset, bytes) = (lba * block as u64, blocks * block as u64);
    let zeros = data.iter().all(|byte| *byte == 0);
    let written = match (zeros, unmap) {
        (true, true) => target.disk.discard(offset, bytes),
        (true, false) => target.disk.write_zeroes(offset, bytes),
        // Unmapped blocks read as zeros, so other data has to be written.
        (false, _) => target.fill(offset, bytes, &data),
    };
    written.map_err(|error| target.write_failure(&error, lba))?;
    target.counters.written.add(bytes);
    target.now_readable(lba, blocks);
    Ok(())
}

/// UNMAP (SBC-3 5.28): all descriptors are checked before any is carried out.
pub(super) fn unmap(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    const HEADER: usize = 8;
    const DESCRIPTOR: usize = 16;
    let list = task.parameters(operation.length(task.cdb))?;
    if list.is_empty() {
        return Ok(());
    }
    if list.len() < HEADER {
        return Err(SenseData::PARAMETER_LIST_LENGTH_ERROR);
    }
    // A descriptor that is not whole is ignored, and so is what the list was cut short of.
    let described = usize::from(u16::from_be_bytes([list[2], list[3]]));
    let descriptors: Vec<(u64, u64)> = list[HEADER..]
        .chunks_exact(DESCRIPTOR)
        .take(described / DESCRIPTOR)
        .map(|descriptor| (big_endian(&descriptor[..8]), big_endian(&descriptor[8..12])))
        .collect();
    if descriptors.len() as u64 > u64::from(target.config.maximum_unmap_descriptors) {
        return Err(SenseData::invalid_parameter(2));
    }
    let mut total = 0_u64;
    for (at, (lba, blocks)) in descriptors.iter().enumerate() {
        target.check_range(*lba, *blocks)?;
        total += blocks;
        if total > u64::from(target.config.maximum_unmap_blocks) {
            return Err(SenseData::invalid_parameter(HEADER + at * DESCRIPTOR + 8));
        }
    }
    let block = u64::from(target.config.block_size);
    for (lba, blocks) in descriptors {
        let discarded = target.disk.discard(lba * block, blocks * block);
        discarded.map_err(|error| target.write_failure(&error, lba))?;
        target.now_readable(lba, blocks);
    }
    Ok(())
}

/// COMPARE AND WRITE (SBC-3 5.2): the first half of the data out is compared, the second written.
pub(super) fn compare_and_write(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let (lba, blocks) = target.extent(task, operation)?;
    let bytes = blocks * u64::from(target.config.block_size);
    task.provides(2 * bytes)?;
    if let Some(bad) = target.first_unreadable(lba, blocks) {
        return Err(SenseData::unrecovered_read(bad));
    }
    target.compare_blocks(task, lba, blocks)?;
    let through = task.byte(1) & 0x08 != 0;
    target.write_blocks(task, bytes, lba, blocks, through)
}

/// Descriptors in the answer to one GET LBA STATUS, at most.
const MOST_DESCRIPTORS: u64 = 64;
/// Runs of data that are looked at for it, at most: a memory disk has one for each page.
const MOST_RUNS: usize = 1 << 16;

/// GET LBA STATUS (SBC-3 5.4): which blocks are mapped from an LBA on.
pub(super) fn get_lba_status(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let lba = big_endian(&task.cdb[2..10]);
    if lba >= target.blocks() {
        return Err(SenseData::LBA_OUT_OF_RANGE);
    }
    let allocation = operation.length(task.cdb);
    if allocation < 24 {
        return Err(SenseData::invalid_field(10, None));
    }
    let most = ((allocation - 8) / 16).min(MOST_DESCRIPTORS) as usize;
    let extents = target.extents(lba, most).map_err(|_| SenseData::unrecovered_read(lba))?;
    let mut data = vec![0; 8];
    for (lba, blocks, mapped) in extents {
        data.extend_from_slice(&lba.to_be_bytes());
        data.extend_from_slice(&blocks.to_be_bytes());
        data.extend_from_slice(&[if mapped { 0 } else { 1 }, 0, 0, 0]);
    }
    let length = data.len() as u32 - 4;
    data[..4].copy_from_slice(&length.to_be_bytes());
    task.reply(&data, allocation)
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl Target {
    /// At most `most` runs of blocks from `lba` on, each with its first LBA, its length and whether
    /// it is mapped, which a block is that has data anywhere in it.
    fn extents(&self, lba: u64, most: usize) -> std::io::Result<Vec<(u64, u32, bool)>> {
        let block = u64::from(self.config.block_size);
        let end = self.blocks();
        let mut extents: Vec<(u64, u32, bool)> = Vec::new();
        let mut at = lba;
        // Makes a run up to `until`, or makes the last one longer by it.
        let mut extend = |from: u64, until: u64, mapped: bool| {
            let (first, joined) = match extents.last() {
                Some((first, _, same)) if *same == mapped => (*first, true),
                _ => (from, false),
            };
            if !joined && extents.len() == most {
                return false;
            }
            let Ok(blocks) = u32::try_from(until - first) else {
                if !joined {
                    extents.push((first, u32::MAX, mapped));
                }
                return false;
            };
            if joined {
                extents.pop();
            }
            extents.push((first, blocks, mapped));
            true
        };
        for _ in 0..MOST_RUNS {
            if at == end {
                break;
            }
            let (start, stop) = match self.disk.next_data(at * block, end * block)? {
                Some((start, stop)) => (start / block, stop.div_ceil(block).min(end)),
                None => (end, end),
            };
            if start > at && !extend(at, start, false) || stop > start && !extend(start, stop, true)
            {
                break;
            }
            at = stop;
        }
        Ok(extents)
    }

    /// Writes one block over and over.
    fn fill(&mut self, offset: u64, bytes: u64, block: &[u8]) -> std::io::Result<()> {
        const BLOCKS: usize = 64;
        let pattern = block.repeat(BLOCKS);
        let end = offset + bytes;
        let mut at = offset;
        while at < end {
            let length = pattern.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            self.disk.write(at, &pattern[..length])?;
            at += length as u64;
        }
        Ok(())
    }
}
