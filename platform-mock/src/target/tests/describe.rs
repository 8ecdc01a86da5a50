use super::*;

#[test]
fn standard_inquiry_names_the_disk() {
    let mut target = target(100);
    let data = receive(&mut target, &[0x12, 0, 0, 0, 255, 0], 255);
    assert_eq!(data.len(), 96);
    assert_eq!(data[..8], [0x00, 0x00, 0x06, 0x12, 91, 0x00, 0x00, 0x02]);
    assert_eq!(data[8..36], *b"FUSION  SOFTWARE DISK   0001");
    assert_eq!(data[36..56], *b"FM00000000000010    ");
    assert_eq!(data[56..68], [0, 0, 0x00, 0xA0, 0x04, 0x60, 0x04, 0xC0, 0x20, 0xA0, 0, 0]);
}

#[test]
fn inquiry_moves_no_more_than_was_allocated_or_provided() {
    let mut target = target(100);
    assert_eq!(receive(&mut target, &[0x12, 0, 0, 0, 6, 0], 6).len(), 6);
    assert_eq!(receive(&mut target, &[0x12, 0, 0, 0, 36, 0], 255).len(), 36);
    assert_eq!(receive(&mut target, &[0x12, 0, 0, 0, 96, 0], 36).len(), 36);
    assert_eq!(receive(&mut target, &[0x12, 0, 0, 4, 0, 0], 1024).len(), 96);
    assert_eq!(receive(&mut target, &[0x12, 0, 0, 0, 0, 0], 8).len(), 0);
}

#[test]
fn names_are_cut_and_made_printable() {
    let config = TargetConfig {
        vendor: "a vendor too long".into(),
        product: "caf\u{e9}\n".into(),
        revision: String::new(),
        ..config()
    };
    let mut target = Target::new(config, Disk::memory(4096));
    let data = receive(&mut target, &[0x12, 0, 0, 0, 36, 0], 36);
    assert_eq!(data[8..36], *b"a vendorcaf??               ");
}

#[test]
fn inquiry_of_another_lun_says_that_nothing_is_there() {
    let mut target = target(100);
    for lun in [[0, 1, 0, 0, 0, 0, 0, 0], [0xC1, 1, 0, 0, 0, 0, 0, 0]] {
        let mut data = vec![0; 36];
        let mut send_to = |cdb: &[u8], data: &mut Vec<u8>| {
            let initiator = INITIATOR;
            target.execute(&Command { lun, cdb, initiator }, data)
        };
        assert_good(send_to(&[0x12, 0, 0, 0, 36, 0], &mut data), 36);
        assert_eq!(data[0], 0x7F);
        let refused = send_to(&[0x12, 1, 0, 0, 36, 0], &mut data);
        assert_sense(refused, 0x05, 0x25, 0x00);
        let refused = send_to(&[0x00, 0, 0, 0, 0, 0], &mut data);
        assert_sense(refused, 0x05, 0x25, 0x00);
        assert_good(send_to(&[0x03, 0, 0, 0, 18, 0], &mut data), 18);
        assert_eq!([data[2], data[12], data[13]], [0x05, 0x25, 0x00]);
    }
    let flat = [0x40, 0, 0, 0, 0, 0, 0, 0];
    let command = Command { lun: flat, cdb: &[0; 6], initiator: INITIATOR };
    assert_good(target.execute(&command, &mut Vec::new()), 0);
}

fn vpd(target: &mut Target, page: u8) -> Vec<u8> {
    receive(target, &[0x12, 1, page, 1, 0, 0], 256)
}

#[test]
fn vital_product_data_pages_are_listed_and_carry_the_identity() {
    let mut target = target(100);
    assert_eq!(
        vpd(&mut target, 0x00),
        [0, 0x00, 0, 8, 0x00, 0x80, 0x83, 0x86, 0x87, 0xB0, 0xB1, 0xB2]
    );
    let serial = vpd(&mut target, 0x80);
    assert_eq!(serial[..4], [0, 0x80, 0, 16]);
    assert_eq!(serial[4..], *b"FM00000000000010");
    assert_eq!(
        vpd(&mut target, 0x83),
        [
            0, 0x83, 0, 32, // header
            0x01, 0x03, 0, 8, 0x55, 0x25, 0x40, 0, 0, 0, 0, 0x10, // logical unit
            0x61, 0x93, 0, 8, 0x55, 0x25, 0x40, 0, 0, 0, 0, 0x11, // target port
            0x61, 0x94, 0, 4, 0, 0, 0, 1, // relative target port
        ]
    );
    let extended = vpd(&mut target, 0x86);
    assert_eq!(extended[..8], [0, 0x86, 0, 0x3C, 0, 7, 1, 0]);
    assert_eq!(extended[8..], [0; 56]);
    assert_eq!(vpd(&mut target, 0x87), [0, 0x87, 0, 4, 0x3F, 0xFF, 0, 0]);
    assert_invalid_field(none(&mut target, &[0x12, 1, 0x89, 2, 60, 0]), [0xC0, 0, 2]);
    let unknown = give(&mut target, &[0x12, 1, 0xC0, 0, 255, 0], &[0; 255]);
    assert_invalid_field(unknown, [0xC0, 0, 2]);
    let page_without_evpd = give(&mut target, &[0x12, 0, 0x80, 0, 255, 0], &[0; 255]);
    assert_invalid_field(page_without_evpd, [0xC0, 0, 2]);
    let obsolete_bit = give(&mut target, &[0x12, 2, 0, 0, 255, 0], &[0; 255]);
    assert_invalid_field(obsolete_bit, [0xC9, 0, 1]);
}

#[test]
fn block_limits_and_provisioning_of_a_thin_disk() {
    let mut target = target(100);
    let limits = vpd(&mut target, 0xB0);
    assert_eq!(limits.len(), 64);
    assert_eq!(limits[..8], [0, 0xB0, 0, 0x3C, 0, 0xFF, 0, 8]);
    assert_eq!(limits[8..20], [0; 12]);
    assert_eq!(limits[20..28], [0, 0x40, 0, 0, 0, 0, 1, 0]);
    assert_eq!(limits[28..36], [0, 0, 0, 8, 0x80, 0, 0, 0]);
    assert_eq!(limits[36..44], [0, 0, 0, 0, 0, 1, 0, 0]);
    let characteristics = vpd(&mut target, 0xB1);
    assert_eq!(characteristics.len(), 64);
    assert_eq!(characteristics[..8], [0, 0xB1, 0, 0x3C, 0, 1, 0, 3]);
    assert_eq!(vpd(&mut target, 0xB2), [0, 0xB2, 0, 4, 0, 0xE4, 2, 0]);
}

#[test]
fn a_disk_that_is_not_thin_says_so_everywhere() {
    let config = TargetConfig { thin: false, ..config() };
    let mut target = Target::new(config, Disk::memory(1 << 20));
    assert_eq!(vpd(&mut target, 0x00), [0, 0x00, 0, 7, 0x00, 0x80, 0x83, 0x86, 0x87, 0xB0, 0xB1]);
    assert_eq!(vpd(&mut target, 0xB0)[20..36], [0; 16]);
    assert_invalid_field(none(&mut target, &[0x12, 1, 0xB2, 0, 64, 0]), [0xC0, 0, 2]);
    let capacity = receive(&mut target, &read_capacity_16(), 32);
    assert_eq!(capacity[14], 0);
    let unmap = give(&mut target, &[0x42, 0, 0, 0, 0, 0, 0, 0, 8, 0], &[0; 8]);
    assert_sense(unmap, 0x05, 0x20, 0x00);
    let one_unmap = [0xA3, 0x0C, 1, 0x42, 0, 0, 0, 0, 0, 64, 0, 0];
    assert_eq!(receive(&mut target, &one_unmap, 64), [0, 1, 0, 0]);
    let mut write_same = [0_u8; 16];
    write_same[..2].copy_from_slice(&[0x93, 0x08]);
    write_same[13] = 1;
    assert_invalid_field(give(&mut target, &write_same, &[0; 512]), [0xCB, 0, 1]);
}

fn read_capacity_16() -> [u8; 16] {
    [0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]
}

const READ_CAPACITY_10: [u8; 10] = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn read_capacity_gives_the_last_lba_and_the_block_size() {
    let mut small = target(0x12_3456);
    assert_eq!(receive(&mut small, &READ_CAPACITY_10, 8), [0x00, 0x12, 0x34, 0x55, 0, 0, 2, 0]);
    let long = receive(&mut small, &read_capacity_16(), 32);
    assert_eq!(long.len(), 32);
    assert_eq!(long[..16], [0, 0, 0, 0, 0, 0x12, 0x34, 0x55, 0, 0, 2, 0, 0, 3, 0xC0, 0]);
    assert_eq!(long[16..], [0; 16]);
    let mut native = target_4k(256);
    assert_eq!(receive(&mut native, &READ_CAPACITY_10, 8), [0, 0, 0, 255, 0, 0, 0x10, 0]);
    assert_eq!(receive(&mut native, &read_capacity_16(), 32)[13], 0);
}

#[test]
fn a_disk_past_2_tib_sends_the_initiator_to_read_capacity_16() {
    let two_tib = 1 << 32;
    let mut just_fits = target(two_tib - 1);
    assert_eq!(receive(&mut just_fits, &READ_CAPACITY_10, 8)[..4], [0xFF, 0xFF, 0xFF, 0xFE]);
    let mut huge = target(66 * TB / 512);
    assert_eq!(receive(&mut huge, &READ_CAPACITY_10, 8), [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 2, 0]);
    let last = 66 * TB / 512 - 1;
    let long = receive(&mut huge, &read_capacity_16(), 32);
    assert_eq!(long[..8], last.to_be_bytes());
}

#[test]
fn a_disk_with_no_whole_block_has_no_medium() {
    let mut target = Target::new(config(), Disk::memory(511));
    assert_sense(none(&mut target, &[0; 6]), 0x02, 0x3A, 0x00);
    assert_sense(give(&mut target, &READ_CAPACITY_10, &[0; 8]), 0x02, 0x3A, 0x00);
}

#[test]
fn report_luns_lists_lun_0_only() {
    let mut target = target(100);
    let report = |select, length| [0xA0, 0, select, 0, 0, 0, 0, 0, 0, length, 0, 0];
    let one = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(receive(&mut target, &report(0, 255), 255), one);
    assert_eq!(receive(&mut target, &report(2, 16), 16), one);
    assert_eq!(receive(&mut target, &report(1, 16), 16), [0; 8]);
    assert_invalid_field(none(&mut target, &report(3, 16)), [0xC0, 0, 2]);
    assert_invalid_field(none(&mut target, &report(0, 8)), [0xC0, 0, 6]);
}
