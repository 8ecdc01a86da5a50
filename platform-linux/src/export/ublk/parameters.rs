//! A unit as the kernel's block layer is told of it.

use super::abi::{Attributes, PARAMETERS_BASIC, PARAMETERS_DISCARD, Parameters};
use crate::export::unit::Unit;

/// Bytes of a sector of the block layer.
const SECTOR_BYTES: u64 = 512;

/// What the kernel is told of a unit whose requests go through buffers of `buffer_bytes`. Nothing is
/// promised that the unit does not keep.
#[must_use]
pub fn parameters(unit: &Unit, buffer_bytes: u32) -> Parameters {
    let block = unit.block_bytes;
    let shift = |bytes: u32| bytes.trailing_zeros() as u8;
    let sectors = |blocks: u32| {
        let sectors = u64::from(blocks) * u64::from(block) / SECTOR_BYTES;
        // Whole blocks, as many as 32 bits of sectors can say.
        let most = u64::from(u32::MAX / 4096 * 4096);
        sectors.min(most) as u32
    };
    let most = unit.max_transfer_blocks.map_or(u32::MAX, sectors);
    // What is no power of two cannot be told.
    let optimal = unit.optimal_blocks.and_then(|blocks| blocks.checked_mul(block));
    let optimal = optimal.filter(|bytes| {
        bytes.is_power_of_two() && (unit.physical_block_bytes..=buffer_bytes).contains(bytes)
    });
    let mut attributes = Attributes::empty();
    attributes.set(Attributes::READ_ONLY, unit.read_only);
    attributes.set(Attributes::ROTATIONAL, unit.rotational);
    attributes.set(Attributes::VOLATILE_CACHE, unit.write_cache);
    attributes.set(Attributes::FUA, unit.fua && unit.write_cache);
    let mut parameters = Parameters {
        length: size_of::<Parameters>() as u32,
        kinds: PARAMETERS_BASIC,
        attributes: attributes.bits(),
        logical_block_shift: shift(block),
        physical_block_shift: shift(unit.physical_block_bytes),
        // 1 byte is less than a block, and so is not said.
        optimal_shift: optimal.map_or(0, shift),
        minimal_shift: shift(unit.physical_block_bytes),
        max_sectors: most.min(buffer_bytes / SECTOR_BYTES as u32),
        device_sectors: unit.bytes() / SECTOR_BYTES,
        ..Parameters::default()
    };
    if unit.read_only {
        return parameters;
    }
    if unit.discard.is_some() || unit.write_zeroes.is_some() {
        parameters.kinds |= PARAMETERS_DISCARD;
        // It must be said, discards or none.
        parameters.discard_granularity = block;
    }
    if let Some(discard) = unit.discard {
        parameters.discard_granularity = discard.granularity.saturating_mul(block).max(block);
        parameters.discard_alignment = discard.alignment.saturating_mul(block);
        parameters.max_discard_sectors = sectors(discard.max_blocks);
        parameters.max_discard_segments = 1;
    }
    if let Some(zeroes) = unit.write_zeroes {
        let reaches = zeroes.sixteen || unit.blocks <= 1 << 32;
        parameters.max_write_zeroes_sectors = if reaches { sectors(zeroes.max_blocks) } else { 0 };
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::block::tests::unit;

    #[test]
    fn a_unit_is_told_of_in_sectors_whatever_its_blocks_are() {
        let unit = Unit { block_bytes: 4096, max_transfer_blocks: None, ..unit(1000) };
        let told = parameters(&unit, 256 << 10);
        assert_eq!((told.device_sectors, told.max_sectors), (8000, 512));
        assert_eq!((told.logical_block_shift, told.physical_block_shift), (12, 12));
        assert_eq!((told.max_discard_sectors, told.discard_granularity), (8000, 32768));
        assert_eq!(told.max_write_zeroes_sectors, 800);
        assert_eq!(told.attributes, 0b1100);
    }

    #[test]
    fn what_the_unit_does_not_do_is_not_promised() {
        let plain = Unit {
            discard: None,
            write_zeroes: None,
            write_cache: false,
            rotational: true,
            max_transfer_blocks: Some(64),
            optimal_blocks: Some(24),
            ..unit(1000)
        };
        let told = parameters(&plain, 256 << 10);
        assert_eq!((told.kinds, told.max_discard_sectors), (PARAMETERS_BASIC, 0));
        assert_eq!((told.max_sectors, told.optimal_shift), (64, 0));
        assert_eq!(
            told.attributes,
            Attributes::ROTATIONAL.bits(),
            "FUA is of no use without cache"
        );
        let protected = parameters(&Unit { read_only: true, ..unit(1000) }, 4096);
        assert_eq!((protected.kinds, protected.attributes & 1), (PARAMETERS_BASIC, 1));
    }
}
