use super::*;

fn sata() -> Target {
    let config = TargetConfig { sata: true, ..config() };
    Target::new(config, Disk::memory(5 << 40))
}

/// ATA PASS-THROUGH(16): protocol, flags, features, count, LBA (24 bits), command.
fn pass(protocol: u8, flags: u8, features: u8, count: u8, lba: u32, command: u8) -> [u8; 16] {
    let [_, high, middle, low] = lba.to_be_bytes();
    let mut cdb = [0; 16];
    cdb[..3].copy_from_slice(&[0x85, protocol << 1, flags]);
    (cdb[4], cdb[6], cdb[8], cdb[10], cdb[12]) = (features, count, low, middle, high);
    cdb[14] = command;
    cdb
}

const IDENTIFY: [u8; 12] = [0xA1, 4 << 1, 0x0E, 0, 1, 0, 0, 0, 0, 0xEC, 0, 0];

fn word(data: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([data[2 * at], data[2 * at + 1]])
}

/// The text in words `first..first + words`.
fn text(data: &[u8], first: usize, words: usize) -> String {
    let swapped =
        data[2 * first..2 * (first + words)].chunks(2).flat_map(|pair| [pair[1], pair[0]]);
    String::from_utf8(swapped.collect()).unwrap()
}

#[test]
fn a_sata_disk_names_ata_as_its_vendor_and_its_translator_in_a_page() {
    let mut target = sata();
    let inquiry = receive(&mut target, &[0x12, 0, 0, 0, 96, 0], 96);
    assert_eq!(inquiry[8..16], *b"ATA     ");
    assert_eq!(inquiry[66..68], [0x1E, 0xE0]);
    let pages = receive(&mut target, &[0x12, 1, 0, 0, 64, 0], 64);
    assert_eq!(pages[4..], [0x00, 0x80, 0x83, 0x86, 0x87, 0x89, 0xB0, 0xB1, 0xB2]);
    let page = receive(&mut target, &[0x12, 1, 0x89, 4, 0, 0], 1024);
    assert_eq!(page.len(), 572);
    assert_eq!(page[..4], [0, 0x89, 0x02, 0x38]);
    assert_eq!(page[8..36], *b"LSI     LSI SATL        0008");
    assert_eq!(page[36..41], [0x34, 0, 0x50, 1, 1]);
    assert_eq!(page[48], 1);
    assert_eq!(page[56], 0xEC);
    assert_eq!(page[60..], receive(&mut target, &IDENTIFY, 512));
}

#[test]
fn identify_device_says_what_the_disk_is() {
    let mut target = sata();
    let data = receive(&mut target, &IDENTIFY, 512);
    assert_eq!(data.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    assert_eq!(data[510], 0xA5);
    assert_eq!(text(&data, 10, 10), "FM00000000000010    ");
    assert_eq!(text(&data, 23, 4), "0001    ");
    assert_eq!(text(&data, 27, 20), format!("{:40}", "SOFTWARE DISK"));
    let blocks = (0..4).fold(0_u64, |sum, at| sum | u64::from(word(&data, 100 + at)) << (16 * at));
    assert_eq!(blocks, (5 << 40) / 512);
    assert_eq!([word(&data, 60), word(&data, 61)], [0xFFFF, 0x0FFF]);
    assert_eq!(word(&data, 106), 0x6003);
    assert_eq!(word(&data, 217), 1);
    let wwn = (108..112).fold(0_u64, |sum, at| sum << 16 | u64::from(word(&data, at)));
    assert_eq!(wwn, target.config().wwn);
    assert_eq!(word(&data, 85) & 0x20, 0x20);
    target.disk_mut().set_write_cache(false).unwrap();
    let data = receive(&mut target, &IDENTIFY, 512);
    assert_eq!(word(&data, 85) & 0x20, 0);
    let mut long = pass(4, 0x0E, 0, 1, 0, 0xEC);
    assert_eq!(receive(&mut target, &long, 512), data);
    long[1] |= 1;
    assert_eq!(receive(&mut target, &long, 512), data, "EXTEND changes nothing");
}

#[test]
fn identify_device_of_4_kib_blocks() {
    let config =
        TargetConfig { sata: true, block_size: 4096, physical_block_exponent: 0, ..config() };
    let mut target = Target::new(config, Disk::memory(1 << 30));
    let data = receive(&mut target, &IDENTIFY, 512);
    assert_eq!(word(&data, 106), 0x5000);
    assert_eq!([word(&data, 117), word(&data, 118)], [2048, 0]);
}

/// The ATA return descriptor of a CHECK CONDITION, behind key, code and qualifier.
fn returned(response: Response) -> Vec<u8> {
    let bytes = response.sense.unwrap().to_bytes();
    assert_eq!(bytes[0], 0x72);
    assert_eq!(bytes[7..10], [14, 0x09, 0x0C]);
    [&bytes[1..4], &bytes[10..]].concat()
}

#[test]
fn registers_come_back_when_they_are_asked_for() {
    let mut target = sata();
    assert_good(none(&mut target, &pass(3, 0, 0, 0, 0, 0xE5)), 0);
    let power = none(&mut target, &pass(3, 0x20, 0, 0, 0, 0xE5));
    assert_eq!(returned(power), [1, 0, 0x1D, 0, 0, 0, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0x50]);
    assert_good(none(&mut target, &[0x1B, 0, 0, 0, 0, 0]), 0);
    let standby = none(&mut target, &pass(3, 0x20, 0, 0, 0, 0xE5));
    assert_eq!(returned(standby)[6], 0);
    let smart = none(&mut target, &pass(3, 0x20, 0xDA, 0, 0xC2_4F00, 0xB0));
    assert_eq!(returned(smart)[7..13], [0, 0, 0, 0x4F, 0, 0xC2]);
    let identify = give(&mut target, &pass(4, 0x2E, 0, 1, 0, 0xEC), &[0; 512]);
    assert_eq!(identify.transferred, 512);
    assert_eq!(returned(identify)[..3], [1, 0, 0x1D]);
}

#[test]
fn an_ata_flush_is_a_flush_and_set_features_turns_the_cache() {
    let mut target = sata();
    give(&mut target, &[0x0A, 0, 0, 0, 1, 0], &[1; 512]);
    assert_good(none(&mut target, &pass(3, 0, 0, 0, 0, 0xEA)), 0);
    assert_eq!(target.disk().dirty_bytes(), 0);
    assert_good(none(&mut target, &pass(3, 0, 0x82, 0, 0, 0xEF)), 0);
    assert!(!target.disk().write_cache());
    assert_good(none(&mut target, &pass(3, 0, 0x02, 0, 0, 0xEF)), 0);
    assert!(target.disk().write_cache());
}

#[test]
fn other_ata_commands_are_aborted_as_a_disk_aborts_them() {
    let mut target = sata();
    for cdb in [
        pass(4, 0x0E, 0, 1, 0, 0xA1), // IDENTIFY PACKET DEVICE
        pass(3, 0, 0, 0, 0, 0xEC),    // IDENTIFY DEVICE without data
        pass(3, 0, 0xDA, 0, 0, 0xB0), // SMART without its signature
        pass(3, 0, 0x10, 0, 0, 0xEF), // a feature that there is not
        pass(6, 0x06, 0, 1, 0, 0x06), // DATA SET MANAGEMENT
        pass(15, 0, 0, 0, 0, 0xFF),
    ] {
        let refused = give(&mut target, &cdb, &[0; 512]);
        let returned = returned(refused);
        assert_eq!(returned[..3], [0x0B, 0, 0], "{cdb:x?}");
        assert_eq!([returned[4], returned[14]], [0x04, 0x51]);
    }
}

#[test]
fn a_sata_disk_has_no_persistent_reservations_and_a_sas_one_no_pass_through() {
    let mut target = sata();
    let keys = [0x5E, 0, 0, 0, 0, 0, 0, 0, 8, 0];
    assert_sense(none(&mut target, &keys), 0x05, 0x20, 0x00);
    let mut sas = super::target(100);
    assert_sense(none(&mut sas, &IDENTIFY), 0x05, 0x20, 0x00);
}
