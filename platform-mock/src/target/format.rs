//! FORMAT UNIT (SBC-3 5.3).

use super::Target;
use super::data::Task;
use super::operations::Operation;
use super::sense::SenseData;

/// Unmaps every block, which is over at once, so that IMMED changes nothing. Neither defect lists
/// nor protection information nor an initialization pattern are taken.
pub(super) fn format_unit(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let (_, length) = operation.data_phase(task.cdb, target.config.block_size);
    let header = task.parameters(length)?;
    // FOV, DPRY, DCRT, STPF and IMMED may be set in byte 1.
    let taken = [0x00, 0xF2, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00];
    for (at, (byte, taken)) in header.iter().zip(taken).enumerate() {
        if byte & !taken != 0 {
            return Err(SenseData::invalid_parameter(at));
        }
    }
    let failed = |_| SenseData::FORMAT_FAILED;
    // What a power cut would have to put back is the whole disk: it goes to the medium at once.
    let write_cache = target.disk.write_cache();
    target.disk.set_write_cache(false).map_err(failed)?;
    let cleared = target.disk.write_zeroes(0, target.disk.bytes());
    target.disk.set_write_cache(write_cache).map_err(failed)?;
    cleared.map_err(failed)?;
    target.unreadable.clear();
    Ok(())
}
