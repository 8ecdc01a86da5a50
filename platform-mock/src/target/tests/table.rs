use proptest::prelude::*;

use super::super::operations::{OPERATIONS, Operation};
use super::*;

/// A target that has the command.
fn target_with(operation: &Operation) -> Target {
    let config = TargetConfig { sata: !operation.exists_on(&config()), ..config() };
    assert!(operation.exists_on(&config));
    Target::new(config, Disk::memory(100 * 512))
}

fn listed() -> usize {
    OPERATIONS.iter().filter(|operation| operation.exists_on(&config())).count()
}

#[test]
fn the_table_is_in_order_and_its_masks_are_well_formed() {
    for pair in OPERATIONS.windows(2) {
        let key = |at: usize| (pair[at].opcode, pair[at].service_action);
        assert!(key(0) < key(1), "{:x?}", key(1));
    }
    for operation in &OPERATIONS {
        let length = match operation.opcode >> 5 {
            0 => 6,
            1 | 2 => 10,
            3 => 32,
            4 => 16,
            _ => 12,
        };
        assert_eq!(operation.usage.len(), length, "{:x}", operation.opcode);
        let action = match operation.opcode {
            0x7F => u16::from_be_bytes([operation.usage[8], operation.usage[9]]),
            _ => u16::from(operation.usage[1]),
        };
        if let Some(expected) = operation.service_action {
            assert_eq!(action, expected);
        }
    }
}

#[test]
fn report_supported_operation_codes_lists_the_whole_table() {
    let mut target = target(100);
    let all = |options| [0xA3, 0x0C, options, 0, 0, 0, 0, 0, 0x10, 0, 0, 0];
    let data = receive(&mut target, &all(0), 4096);
    assert_eq!(data.len(), 4 + listed() * 8);
    assert_eq!(data[..4], (listed() as u32 * 8).to_be_bytes());
    let entries: Vec<&[u8]> = data[4..].chunks(8).collect();
    assert!(entries.contains(&[0x28, 0, 0, 0, 0, 0, 0, 10].as_slice()));
    assert!(entries.contains(&[0x9E, 0, 0, 0x10, 0, 1, 0, 16].as_slice()));
    assert!(entries.contains(&[0x7F, 0, 0, 0x0B, 0, 1, 0, 32].as_slice()));
    let timed = receive(&mut target, &all(0x80), 4096);
    assert_eq!(timed.len(), 4 + listed() * 20);
    assert_eq!(timed[4..24], [0, 0, 0, 0, 0, 2, 0, 6, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

fn one(option: u8, opcode: u8, action: u16) -> [u8; 12] {
    let [high, low] = action.to_be_bytes();
    [0xA3, 0x0C, option, opcode, high, low, 0, 0, 1, 0, 0, 0]
}

#[test]
fn report_supported_operation_codes_of_one_command_gives_its_usage() {
    let mut target = target(100);
    let read_10 = [0, 3, 0, 10, 0x28, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0x1F, 0xFF, 0xFF, 0];
    assert_eq!(receive(&mut target, &one(1, 0x28, 0), 256), read_10);
    assert_eq!(receive(&mut target, &one(3, 0x28, 0), 256), read_10);
    let timed = receive(&mut target, &one(0x81, 0x28, 0), 256);
    assert_eq!(timed[1], 0x83);
    assert_eq!(timed.len(), 14 + 12);
    let capacity = receive(&mut target, &one(2, 0x9E, 0x10), 256);
    assert_eq!(capacity[..6], [0, 3, 0, 16, 0x9E, 0x10]);
    assert_eq!(receive(&mut target, &one(3, 0x9E, 0x10), 256), capacity);
    // Not supported: an unknown opcode, an unknown service action, an action of a plain opcode.
    for cdb in [one(1, 0x5C, 0), one(2, 0x9E, 0x11), one(3, 0x9E, 0x11), one(1, 0xA1, 0)] {
        assert_eq!(receive(&mut target, &cdb, 256), [0, 1, 0, 0]);
    }
    assert_eq!(receive(&mut target, &one(3, 0x28, 1), 256), [0, 1, 0, 0]);
    // The wrong option for the opcode.
    for cdb in [one(1, 0x9E, 0), one(2, 0x28, 0), one(4, 0x28, 0)] {
        assert_invalid_field(none(&mut target, &cdb), [0xCA, 0, 2]);
    }
}

#[test]
fn report_supported_task_management_functions() {
    let mut target = target(100);
    let cdb = |extended| [0xA3, 0x0D, extended, 0, 0, 0, 0, 0, 0, 16, 0, 0];
    assert_eq!(receive(&mut target, &cdb(0), 16), [0xDC, 3, 0, 0]);
    let long = receive(&mut target, &cdb(0x80), 16);
    assert_eq!(long[..4], [0xDC, 3, 0, 12]);
    assert_eq!(long.len(), 16);
}

#[test]
fn unknown_operation_codes_and_service_actions_are_refused() {
    let mut target = target(100);
    for opcode in [0x05, 0x85, 0xA1, 0xA2, 0xFF] {
        let refused = none(&mut target, &[opcode; 16]);
        assert_sense(refused, 0x05, 0x20, 0x00);
        assert_eq!(target.data_phase(&[opcode; 16]), (Direction::None, 0));
    }
    assert_sense(none(&mut target, &[]), 0x05, 0x20, 0x00);
    let mut cdb = [0; 16];
    cdb[..2].copy_from_slice(&[0x9E, 0x11]);
    assert_invalid_field(none(&mut target, &cdb), [0xCC, 0, 1]);
    let mut cdb = [0; 32];
    cdb[0] = 0x7F;
    cdb[7..10].copy_from_slice(&[0x18, 0, 0x0A]);
    assert_invalid_field(none(&mut target, &cdb), [0xC0, 0, 8]);
    cdb[7..10].copy_from_slice(&[0x10, 0, 0x09]);
    assert_invalid_field(none(&mut target, &cdb), [0xC0, 0, 7]);
}

#[test]
fn a_cdb_cut_short_is_refused() {
    for operation in &OPERATIONS {
        let mut target = target_with(operation);
        let cut = &operation.usage[..operation.usage.len() - 1];
        assert_sense(none(&mut target, cut), 0x05, 0x24, 0x00);
    }
}

#[test]
fn every_bit_outside_a_commands_usage_is_refused_and_pointed_at() {
    for operation in &OPERATIONS {
        let mut cdb = operation.usage.to_vec();
        let keep = match operation.opcode {
            0x7F => 7..10,
            0x5E | 0x5F | 0x9E | 0xA3 => 1..2,
            _ => 0..0,
        };
        for (at, byte) in cdb.iter_mut().enumerate().skip(1) {
            if !keep.contains(&at) {
                *byte = 0;
            }
        }
        for at in (1..cdb.len()).filter(|at| !keep.contains(at)) {
            for bit in 0..8 {
                if operation.usage[at] & (1 << bit) != 0 {
                    continue;
                }
                let mut target = target_with(operation);
                let mut cdb = cdb.clone();
                cdb[at] |= 1 << bit;
                let refused = none(&mut target, &cdb);
                assert_invalid_field(refused, [0xC8 | bit, 0, at as u8]);
            }
        }
    }
}

#[test]
fn protection_information_is_refused() {
    let mut target = target(100);
    for opcode in [0x28, 0x2A, 0x2E, 0x2F, 0x41, 0x88, 0x8A, 0x93, 0xA8] {
        let mut cdb = [0; 16];
        cdb[..2].copy_from_slice(&[opcode, 0x20]);
        assert_invalid_field(none(&mut target, &cdb), [0xCD, 0, 1]);
    }
    let mut cdb = [0; 32];
    cdb[0] = 0x7F;
    cdb[7..11].copy_from_slice(&[0x18, 0, 0x09, 0x20]);
    assert_invalid_field(none(&mut target, &cdb), [0xCD, 0, 10]);
}

#[test]
fn the_data_phase_of_each_kind_of_command() {
    let target = target_4k(1000);
    let phase = |cdb: &[u8]| target.data_phase(cdb);
    let mut cdb = [0_u8; 32];
    assert_eq!(phase(&cdb), (Direction::None, 0));
    assert_eq!(phase(&[0x08, 0, 0, 0, 0, 0]), (Direction::In, 256 * 4096));
    assert_eq!(phase(&[0x0A, 0, 0, 0, 2, 0]), (Direction::Out, 8192));
    assert_eq!(phase(&[0x12, 0, 0, 1, 4, 0]), (Direction::In, 260));
    assert_eq!(phase(&[0x12, 0, 0, 0, 0, 0]), (Direction::None, 0));
    assert_eq!(phase(&[0x15, 0, 0, 0, 24, 0]), (Direction::Out, 24));
    assert_eq!(phase(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]), (Direction::In, 8));
    let ten = |opcode, flags, blocks| [opcode, flags, 0, 0, 0, 0, 0, 0, blocks, 0];
    assert_eq!(phase(&ten(0x28, 0, 3)), (Direction::In, 3 * 4096));
    assert_eq!(phase(&ten(0x28, 0, 0)), (Direction::None, 0));
    assert_eq!(phase(&ten(0x2F, 0, 3)), (Direction::None, 0));
    assert_eq!(phase(&ten(0x2F, 2, 3)), (Direction::Out, 3 * 4096));
    assert_eq!(phase(&ten(0x2F, 4, 3)), (Direction::None, 0));
    assert_eq!(phase(&ten(0x2F, 6, 3)), (Direction::Out, 4096));
    assert_eq!(phase(&ten(0x2F, 6, 0)), (Direction::None, 0));
    assert_eq!(phase(&[0x04, 0x08, 0, 0, 0, 0]), (Direction::None, 0));
    assert_eq!(phase(&[0x04, 0x10, 0, 0, 0, 0]), (Direction::Out, 4));
    assert_eq!(phase(&[0x04, 0x30, 0, 0, 0, 0]), (Direction::Out, 8));
    assert_eq!(phase(&ten(0x35, 0, 3)), (Direction::None, 0));
    assert_eq!(phase(&ten(0x41, 0, 3)), (Direction::Out, 4096));
    assert_eq!(phase(&ten(0x42, 0, 24)), (Direction::Out, 24));
    cdb[0] = 0x88;
    cdb[10..14].fill(0xFF);
    assert_eq!(phase(&cdb), (Direction::In, 0xFFFF_FFFF * 4096));
    cdb[..2].copy_from_slice(&[0x93, 1]);
    assert_eq!(phase(&cdb), (Direction::None, 0));
    cdb[..2].copy_from_slice(&[0x89, 0]);
    assert_eq!(phase(&cdb), (Direction::Out, 2 * 255 * 4096));
    let mut cdb = [0; 32];
    cdb[0] = 0x7F;
    cdb[9] = 0x0B;
    cdb[31] = 2;
    assert_eq!(phase(&cdb), (Direction::Out, 8192));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the CDB, LUN and buffer: an answer, no panic, and no more data than was asked for.
    #[test]
    fn any_command_is_answered(
        entry in 0..OPERATIONS.len(),
        noise in prop::array::uniform32(any::<u8>()),
        masked in any::<bool>(),
        room in 0..5000_usize,
        plain_opcode in prop::option::weighted(0.1, any::<u8>()),
        four_k in any::<bool>(),
        sata in any::<bool>(),
    ) {
        let usage = OPERATIONS[entry].usage;
        let mut cdb = noise;
        for (byte, used) in cdb.iter_mut().zip(usage) {
            if masked {
                *byte &= used;
            }
        }
        cdb[0] = usage[0];
        if let Some(opcode) = plain_opcode {
            cdb[0] = opcode;
        }
        if OPERATIONS[entry].service_action.is_some() {
            cdb[1] = usage[1];
            cdb[7..10].copy_from_slice(&[0x18, 0, usage.get(9).copied().unwrap_or(0)]);
        }
        let mut target = if four_k { target_4k(1 << 40) } else { target(1 << 20) };
        target.config.sata = sata;
        let (direction, bytes) = target.data_phase(&cdb);
        let mut data = noise.repeat(room.div_ceil(32));
        data.truncate(room);
        let before = data.clone();
        let response = send(&mut target, &cdb, &mut data);
        prop_assert!(response.transferred <= bytes);
        prop_assert!(response.transferred <= room as u64);
        if direction != Direction::In {
            prop_assert_eq!(&data, &before);
        }
        prop_assert_eq!(response.status == status::CHECK_CONDITION, response.sense.is_some());
    }
}
