use super::*;

fn filled(blocks: u32) -> Target {
    let mut target = target(1_000_000);
    let mut write = vec![0x8A, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    write.extend_from_slice(&blocks.to_be_bytes());
    write.extend_from_slice(&[0, 0]);
    let response = give(&mut target, &write, &vec![5; blocks as usize * 512]);
    assert_good(response, u64::from(blocks) * 512);
    target
}

/// Byte 0 of each of the first `blocks` blocks.
fn first_bytes(target: &mut Target, blocks: u8) -> Vec<u8> {
    let data = receive(target, &[0x28, 0, 0, 0, 0, 0, 0, 0, blocks, 0], usize::from(blocks) * 512);
    data.chunks(512)
        .map(|block| {
            assert!(block.iter().all(|byte| *byte == block[0]));
            block[0]
        })
        .collect()
}

fn write_same(flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
    let mut cdb = vec![0x93, flags];
    cdb.extend_from_slice(&lba.to_be_bytes());
    cdb.extend_from_slice(&blocks.to_be_bytes());
    cdb.extend_from_slice(&[0, 0]);
    cdb
}

#[test]
fn write_same_repeats_its_block() {
    let mut target = filled(8);
    assert_good(give(&mut target, &write_same(0, 2, 3), &[7; 512]), 512);
    assert_eq!(first_bytes(&mut target, 8), [5, 5, 7, 7, 7, 5, 5, 5]);
    let ten = [0x41, 0, 0, 0, 0, 6, 0, 0, 2, 0];
    assert_good(give(&mut target, &ten, &[8; 512]), 512);
    assert_eq!(first_bytes(&mut target, 8), [5, 5, 7, 7, 7, 5, 8, 8]);
    assert_good(give(&mut target, &write_same(0, 0, 2), &[0; 512]), 512);
    assert_good(none(&mut target, &write_same(1, 3, 1)), 0);
    assert_eq!(first_bytes(&mut target, 8), [0, 0, 7, 0, 7, 5, 8, 8]);
    let big = give(&mut target, &write_same(0, 100, 1000), &[9; 512]);
    assert_good(big, 512);
    let data = receive(&mut target, &[0x28, 0, 0, 0, 4, 0x4B, 0, 0, 2, 0], 1024);
    assert_eq!((data[0], data[512]), (9, 0), "LBA 1099 and 1100");
}

#[test]
fn write_same_with_unmap_writes_data_that_is_not_zero() {
    let mut target = filled(4);
    assert_good(give(&mut target, &write_same(8, 0, 2), &[7; 512]), 512);
    assert_good(give(&mut target, &write_same(8, 2, 1), &[0; 512]), 512);
    assert_good(none(&mut target, &write_same(9, 3, 1)), 0);
    assert_eq!(first_bytes(&mut target, 4), [7, 7, 0, 0]);
}

#[test]
fn write_same_of_zero_blocks_reaches_the_end_within_the_maximum() {
    let mut target = filled(4);
    let maximum = 1 << 16;
    let from_the_end = |count: u64| 1_000_000 - count;
    assert_good(give(&mut target, &write_same(0, from_the_end(maximum), 0), &[7; 512]), 512);
    let last = [0x28, 0, 0, 0x0F, 0x42, 0x3F, 0, 0, 1, 0];
    assert_eq!(receive(&mut target, &last, 512), [7; 512]);
    for (lba, blocks) in [(from_the_end(maximum + 1), 0), (0, 0), (0, (1 << 16) + 1)] {
        let refused = give(&mut target, &write_same(0, lba, blocks), &[7; 512]);
        assert_invalid_field(refused, [0xC0, 0, 10]);
    }
    let ten = give(&mut target, &[0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[7; 512]);
    assert_invalid_field(ten, [0xC0, 0, 7]);
}

#[test]
fn write_same_10_has_no_ndob() {
    let mut target = filled(1);
    let refused = none(&mut target, &[0x41, 1, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_invalid_field(refused, [0xC8, 0, 1]);
}

fn unmap_list(descriptors: &[(u64, u32)]) -> Vec<u8> {
    let bytes = descriptors.len() as u16 * 16;
    let mut list = (bytes + 6).to_be_bytes().to_vec();
    list.extend_from_slice(&bytes.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for (lba, blocks) in descriptors {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

fn unmap(target: &mut Target, list: &[u8]) -> Response {
    let [high, low] = (list.len() as u16).to_be_bytes();
    give(target, &[0x42, 0, 0, 0, 0, 0, 0, high, low, 0], list)
}

#[test]
fn unmapped_blocks_read_as_zeros() {
    let mut target = filled(8);
    let list = unmap_list(&[(1, 2), (5, 1), (7, 0)]);
    assert_good(unmap(&mut target, &list), 56);
    assert_eq!(first_bytes(&mut target, 8), [5, 0, 0, 5, 5, 0, 5, 5]);
    target.power_cut(&mut |_| false).unwrap();
}

#[test]
fn unmapping_a_huge_disk_takes_no_time() {
    let config = TargetConfig { maximum_unmap_blocks: u32::MAX, ..config() };
    let mut target = Target::new(config, Disk::memory(66 * TB));
    let list = unmap_list(&[(0, 0xF000_0000)]);
    assert_good(unmap(&mut target, &list), 24);
}

#[test]
fn unmap_checks_every_descriptor_before_it_unmaps_one() {
    let mut target = filled(8);
    let past = unmap_list(&[(0, 8), (999_999, 2)]);
    assert_sense(unmap(&mut target, &past), 0x05, 0x21, 0x00);
    let overflow = unmap_list(&[(0, 8), (u64::MAX, 2)]);
    assert_sense(unmap(&mut target, &overflow), 0x05, 0x21, 0x00);
    let many = unmap_list(&[(0, 1); 257]);
    assert_sense(unmap(&mut target, &many), 0x05, 0x26, 0x00);
    assert_eq!(first_bytes(&mut target, 8), [5; 8]);
    let config = TargetConfig { maximum_unmap_blocks: 10, ..config() };
    let mut small = Target::new(config, Disk::memory(1 << 20));
    assert_good(unmap(&mut small, &unmap_list(&[(0, 5), (5, 5)])), 40);
    let too_much = unmap(&mut small, &unmap_list(&[(0, 5), (5, 6)]));
    assert_sense(too_much, 0x05, 0x26, 0x00);
    assert_eq!(too_much.sense.unwrap().specific, Some([0x80, 0, 32]));
}

#[test]
fn unmap_takes_short_lists_as_the_standard_says() {
    let mut target = filled(8);
    assert_good(unmap(&mut target, &[]), 0);
    assert_sense(unmap(&mut target, &[0; 7]), 0x05, 0x1A, 0x00);
    assert_good(unmap(&mut target, &[0; 8]), 8);
    let list = unmap_list(&[(0, 1), (1, 1)]);
    assert_good(unmap(&mut target, &list[..30]), 30);
    assert_eq!(first_bytes(&mut target, 2), [0, 5], "the second was cut");
    let mut told_less = list.clone();
    told_less[3] = 16;
    give(&mut target, &[0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[6; 512]);
    assert_good(unmap(&mut target, &told_less), 40);
    assert_eq!(first_bytes(&mut target, 2), [0, 5]);
    let anchored = give(&mut target, &[0x42, 1, 0, 0, 0, 0, 0, 0, 40, 0], &list);
    assert_invalid_field(anchored, [0xC8, 0, 1]);
}

fn compare_and_write(flags: u8, blocks: u8) -> [u8; 16] {
    [0x89, flags, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, blocks, 0, 0]
}

#[test]
fn compare_and_write_writes_only_what_compared_equal() {
    let mut target = filled(4);
    let mut data = vec![5; 1024];
    data.extend_from_slice(&[6; 1024]);
    assert_good(give(&mut target, &compare_and_write(0, 2), &data), 2048);
    assert_eq!(first_bytes(&mut target, 4), [5, 6, 6, 5]);
    let refused = give(&mut target, &compare_and_write(0, 2), &data);
    assert_sense(refused, 0x0E, 0x1D, 0x00);
    assert_eq!(information(refused), Some(0));
    data[..1024].fill(6);
    data[1023] = 0;
    let refused = give(&mut target, &compare_and_write(0, 2), &data);
    assert_eq!(information(refused), Some(1023));
    assert_eq!(refused.sense.unwrap().to_bytes()[..3], [0xF0, 0, 0x0E]);
    assert_eq!(first_bytes(&mut target, 4), [5, 6, 6, 5]);
    assert_good(none(&mut target, &compare_and_write(0, 0)), 0);
    let short = give(&mut target, &compare_and_write(0, 2), &[6; 2047]);
    assert_sense(short, 0x0B, 0x4B, 0x00);
}

#[test]
fn compare_and_write_with_fua_is_stable() {
    let mut target = target(100);
    let mut data = vec![0; 512];
    data.extend_from_slice(&[6; 512]);
    assert_good(give(&mut target, &compare_and_write(8, 1), &data), 1024);
    assert_eq!(target.disk().dirty_bytes(), 0);
    assert_eq!(first_bytes(&mut target, 2), [0, 6]);
}

#[test]
fn write_protection_refuses_every_command_that_writes() {
    let mut target = filled(8);
    target.disk_mut().set_write_protected(true);
    for opcode in [0x0A, 0x2A, 0x2E, 0x41, 0x42, 0x89, 0x8A, 0x8E, 0x93, 0xAA, 0xAE] {
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        assert_sense(none(&mut target, &cdb), 0x07, 0x27, 0x00);
    }
    let mut cdb = [0; 32];
    cdb[0] = 0x7F;
    cdb[7..10].copy_from_slice(&[0x18, 0, 0x0B]);
    assert_sense(none(&mut target, &cdb), 0x07, 0x27, 0x00);
    assert_eq!(first_bytes(&mut target, 8), [5; 8]);
    assert_good(none(&mut target, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0);
}

/// The runs that GET LBA STATUS reports: LBA, blocks, and 0 for mapped or 1 for deallocated.
fn lba_status(target: &mut Target, lba: u64, room: u32) -> Vec<(u64, u32, u8)> {
    let mut cdb = vec![0x9E, 0x12];
    cdb.extend_from_slice(&lba.to_be_bytes());
    cdb.extend_from_slice(&room.to_be_bytes());
    cdb.extend_from_slice(&[0, 0]);
    let data = receive(target, &cdb, room as usize);
    assert_eq!(data[..4], (data.len() as u32 - 4).to_be_bytes());
    assert_eq!(data[4..8], [0; 4]);
    let number = |bytes: &[u8]| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let descriptor = |bytes: &[u8]| {
        assert_eq!(bytes[13..], [0; 3]);
        (number(&bytes[..8]), number(&bytes[8..12]) as u32, bytes[12])
    };
    data[8..].chunks(16).map(descriptor).collect()
}

#[test]
fn get_lba_status_tells_data_from_holes() {
    let mut target = target(1 << 40);
    let one_hole = u32::MAX;
    assert_eq!(lba_status(&mut target, 5, 4096), [(5, one_hole, 1)]);
    give(&mut target, &[0x2A, 0, 0, 0, 0, 80, 0, 0, 24, 0], &[1; 24 * 512]);
    give(&mut target, &[0x2A, 0, 0, 0, 1, 0, 0, 0, 8, 0], &[1; 8 * 512]);
    assert_eq!(
        lba_status(&mut target, 0, 4096),
        [(0, 80, 1), (80, 24, 0), (104, 152, 1), (256, 8, 0), (264, one_hole, 1)]
    );
    assert_eq!(lba_status(&mut target, 90, 40), [(90, 14, 0), (104, 152, 1)]);
    assert_eq!(lba_status(&mut target, 90, 24), [(90, 14, 0)]);
    assert_eq!(lba_status(&mut target, (1 << 40) - 1, 24), [((1 << 40) - 1, 1, 1)]);
    let mut past = vec![0x9E, 0x12];
    past.extend_from_slice(&(1_u64 << 40).to_be_bytes());
    past.extend_from_slice(&[0, 0, 0, 24, 0, 0]);
    assert_sense(none(&mut target, &past), 0x05, 0x21, 0x00);
    past[2..10].fill(0);
    past[13] = 23;
    assert_invalid_field(none(&mut target, &past), [0xC0, 0, 10]);
}

#[test]
fn format_unit_leaves_zeros_that_a_power_cut_does_not_take_back() {
    let mut target = filled(8);
    target.inject_medium_error(3, 2);
    assert_good(none(&mut target, &[0x04, 0, 0, 0, 0, 0]), 0);
    assert!(target.disk().write_cache());
    target.power_cut(&mut |_| false).unwrap();
    assert_sense(none(&mut target, &[0; 6]), 0x06, 0x29, 0x00);
    assert_eq!(first_bytes(&mut target, 8), [0; 8]);
    // IMMED, as sg_format sends it.
    assert_good(give(&mut target, &[0x04, 0x10, 0, 0, 0, 0], &[0, 0x02, 0, 0]), 4);
    assert_good(give(&mut target, &[0x04, 0x38, 0, 0, 0, 0], &[0; 8]), 8);
    let protected = give(&mut target, &[0x04, 0x10, 0, 0, 0, 0], &[1, 0, 0, 0]);
    assert_sense(protected, 0x05, 0x26, 0x00);
    let defects = give(&mut target, &[0x04, 0x10, 0, 0, 0, 0], &[0, 0, 0, 8]);
    assert_sense(defects, 0x05, 0x26, 0x00);
    assert_invalid_field(none(&mut target, &[0x04, 0x80, 0, 0, 0, 0]), [0xCF, 0, 1]);
}
