use super::*;

/// An opcode that reads, one that writes, and how to put an LBA and a count into its CDB.
#[derive(Debug, Clone, Copy)]
enum Form {
    Six,
    Ten,
    Twelve,
    Sixteen,
    ThirtyTwo,
}

const FORMS: [(Form, u8, u8); 5] = [
    (Form::Six, 0x08, 0x0A),
    (Form::Ten, 0x28, 0x2A),
    (Form::Twelve, 0xA8, 0xAA),
    (Form::Sixteen, 0x88, 0x8A),
    (Form::ThirtyTwo, 0x09, 0x0B),
];

fn cdb(form: Form, opcode: u8, flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
    let lba_4 = (lba as u32).to_be_bytes();
    match form {
        Form::Six => vec![opcode, lba_4[1], lba_4[2], lba_4[3], blocks as u8, 0],
        Form::Ten => {
            let mut cdb = vec![opcode, flags];
            cdb.extend_from_slice(&lba_4);
            cdb.push(0);
            cdb.extend_from_slice(&(blocks as u16).to_be_bytes());
            cdb.push(0);
            cdb
        }
        Form::Twelve => {
            let mut cdb = vec![opcode, flags];
            cdb.extend_from_slice(&lba_4);
            cdb.extend_from_slice(&blocks.to_be_bytes());
            cdb.extend_from_slice(&[0, 0]);
            cdb
        }
        Form::Sixteen => {
            let mut cdb = vec![opcode, flags];
            cdb.extend_from_slice(&lba.to_be_bytes());
            cdb.extend_from_slice(&blocks.to_be_bytes());
            cdb.extend_from_slice(&[0, 0]);
            cdb
        }
        Form::ThirtyTwo => {
            let mut cdb = vec![0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0, opcode, flags, 0];
            cdb.extend_from_slice(&lba.to_be_bytes());
            cdb.extend_from_slice(&[0; 8]);
            cdb.extend_from_slice(&blocks.to_be_bytes());
            cdb
        }
    }
}

fn ten(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
    cdb(Form::Ten, opcode, flags, lba, blocks)
}

fn sixteen(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
    cdb(Form::Sixteen, opcode, flags, lba, blocks)
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 7 + at / 512) as u8).collect()
}

#[test]
fn every_form_reads_what_every_form_wrote() {
    for (write_form, _, write) in FORMS {
        for (read_form, read, _) in FORMS {
            for mut target in [target(1000), target_4k(1000)] {
                let data = pattern(3 * target.config().block_size as usize);
                let size = data.len() as u64;
                let response = give(&mut target, &cdb(write_form, write, 0, 997, 3), &data);
                assert_good(response, size);
                let wanted = cdb(read_form, read, 0, 997, 3);
                assert_eq!(receive(&mut target, &wanted, data.len()), data);
            }
        }
    }
}

#[test]
fn transfers_longer_than_a_piece_arrive_whole() {
    let mut target = target(1000);
    let data = pattern(301 * 512);
    give(&mut target, &ten(0x2A, 0, 5, 301), &data);
    assert_eq!(receive(&mut target, &ten(0x28, 0, 5, 301), data.len()), data);
    assert_eq!(receive(&mut target, &ten(0x28, 0, 4, 1), 512), [0; 512]);
    assert_eq!(receive(&mut target, &ten(0x28, 0, 306, 1), 512), [0; 512]);
}

#[test]
fn a_length_of_zero_is_256_blocks_in_six_bytes_and_nothing_elsewhere() {
    let mut target = target(1000);
    assert_eq!(receive(&mut target, &[8, 0, 0, 1, 0, 0], 200_000).len(), 256 * 512);
    for (form, read, write) in &FORMS[1..] {
        assert_good(none(&mut target, &cdb(*form, *read, 0, 1000, 0)), 0);
        assert_good(none(&mut target, &cdb(*form, *write, 0, 1000, 0)), 0);
        let past = none(&mut target, &cdb(*form, *read, 0, 1001, 0));
        assert_sense(past, 0x05, 0x21, 0x00);
    }
}

#[test]
fn an_lba_past_the_end_is_refused_without_overflow_and_writes_nothing() {
    let mut target = target(1000);
    for (form, read, write) in FORMS {
        for (lba, blocks) in [(1000, 1), (999, 2), (0x1F_FFFF, 255)] {
            let data = vec![1; blocks as usize * 512];
            let refused = give(&mut target, &cdb(form, read, 0, lba, blocks), &data);
            assert_sense(refused, 0x05, 0x21, 0x00);
            assert_eq!(refused.transferred, 0);
            let refused = give(&mut target, &cdb(form, write, 0, lba, blocks), &data);
            assert_sense(refused, 0x05, 0x21, 0x00);
        }
    }
    for opcode in [0x88, 0x8A, 0x8E, 0x8F, 0x91, 0x93] {
        for lba in [u64::MAX, u64::MAX - 1, 1 << 63, 1000] {
            let refused = give(&mut target, &sixteen(opcode, 0, lba, 2), &[1; 1024]);
            assert_sense(refused, 0x05, 0x21, 0x00);
        }
    }
    assert_eq!(target.disk().dirty_bytes(), 0);
}

#[test]
fn the_last_block_of_66_tb_and_blocks_around_2_tib_are_distinct() {
    let last = 66 * TB / 512 - 1;
    let lbas = [0, 0xFFFF_FFFF, 0x1_0000_0000, last];
    let mut target = target(last + 1);
    for (at, lba) in lbas.iter().enumerate() {
        let response = give(&mut target, &sixteen(0x8A, 0, *lba, 1), &[at as u8 + 1; 512]);
        assert_good(response, 512);
    }
    for (at, lba) in lbas.iter().enumerate() {
        let data = receive(&mut target, &sixteen(0x88, 0, *lba, 1), 512);
        assert_eq!(data, [at as u8 + 1; 512]);
    }
    assert_eq!(receive(&mut target, &ten(0x28, 0, 0xFFFF_FFFF, 1), 512), [2; 512]);
}

#[test]
fn a_read_fills_no_more_than_the_initiators_buffer() {
    let mut target = target(1000);
    give(&mut target, &ten(0x2A, 0, 0, 2), &pattern(1024));
    assert_eq!(receive(&mut target, &ten(0x28, 0, 0, 2), 700), pattern(1024)[..700]);
}

#[test]
fn a_write_with_too_little_data_changes_nothing() {
    let mut target = target(1000);
    let refused = give(&mut target, &ten(0x2A, 0, 0, 2), &[1; 1023]);
    assert_sense(refused, 0x0B, 0x4B, 0x00);
    assert_eq!(receive(&mut target, &ten(0x28, 0, 0, 2), 1024), [0; 1024]);
}

/// Memory that cannot be reached past its first bytes.
struct Broken(u64);

impl DataBuffer for Broken {
    fn len(&self) -> u64 {
        1 << 20
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DataError> {
        (offset + bytes.len() as u64 <= self.0).then_some(()).ok_or(DataError)
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), DataError> {
        self.write(offset, bytes)
    }
}

#[test]
fn memory_that_cannot_be_reached_aborts_the_command() {
    let mut target = target(1000);
    let read = send(&mut target, &ten(0x28, 0, 0, 64), &mut Broken(8192));
    assert_sense(read, 0x0B, 0x4B, 0x00);
    assert_eq!(read.transferred, 8192);
    let write = send(&mut target, &ten(0x2A, 0, 0, 64), &mut Broken(0));
    assert_sense(write, 0x0B, 0x4B, 0x00);
    assert_eq!(write.transferred, 0);
    let inquiry = send(&mut target, &[0x12, 0, 0, 0, 36, 0], &mut Broken(0));
    assert_sense(inquiry, 0x0B, 0x4B, 0x00);
}

#[test]
fn fua_writes_are_stable_and_others_are_not_until_a_flush() {
    for (form, _, write) in &FORMS[1..] {
        let mut target = target(1000);
        assert_good(give(&mut target, &cdb(*form, *write, 0x00, 0, 1), &[1; 512]), 512);
        assert_eq!(target.disk().dirty_bytes(), 512);
        assert_good(give(&mut target, &cdb(*form, *write, 0x18, 1, 1), &[2; 512]), 512);
        assert_eq!(target.disk().dirty_bytes(), 512);
        target.disk_mut().power_cut(&mut |_| false).unwrap();
        let data = receive(&mut target, &ten(0x28, 0, 0, 2), 1024);
        assert_eq!((data[0], data[512]), (0, 2));
    }
}

#[test]
fn a_fua_read_puts_cached_data_onto_the_medium_first() {
    let mut target = target(1000);
    give(&mut target, &ten(0x2A, 0, 0, 1), &[1; 512]);
    receive(&mut target, &ten(0x28, 0x10, 0, 1), 512);
    assert_eq!(target.disk().dirty_bytes(), 512);
    assert_eq!(receive(&mut target, &ten(0x28, 0x08, 0, 1), 512), [1; 512]);
    assert_eq!(target.disk().dirty_bytes(), 0);
}

#[test]
fn synchronize_cache_makes_writes_stable() {
    let forms = [ten(0x35, 0, 0, 0), ten(0x35, 2, 0, 1), sixteen(0x91, 0, 0, 0)];
    for flush in forms {
        let mut target = target(1000);
        give(&mut target, &ten(0x2A, 0, 0, 1), &[1; 512]);
        assert_good(none(&mut target, &flush), 0);
        target.disk_mut().power_cut(&mut |_| false).unwrap();
        assert_eq!(receive(&mut target, &ten(0x28, 0, 0, 1), 512), [1; 512]);
        let past = none(&mut target, &ten(0x35, 0, 999, 2));
        assert_sense(past, 0x05, 0x21, 0x00);
    }
}

#[test]
fn verify_compares_when_bytchk_says_so() {
    let mut target = target(1000);
    let data = pattern(1024);
    give(&mut target, &ten(0x2A, 0, 10, 2), &data);
    let verifies =
        [ten(0x2F, 2, 10, 2), sixteen(0x8F, 2, 10, 2), cdb(Form::Twelve, 0xAF, 2, 10, 2)];
    for verify in verifies {
        assert_good(give(&mut target, &verify, &data), 1024);
        let mut other = data.clone();
        other[700] ^= 1;
        let refused = give(&mut target, &verify, &other);
        assert_sense(refused, 0x0E, 0x1D, 0x00);
        assert_eq!(information(refused), Some(700));
    }
    assert_good(none(&mut target, &ten(0x2F, 0, 10, 2)), 0);
    assert_good(none(&mut target, &ten(0x2F, 2, 10, 0)), 0);
    assert_invalid_field(none(&mut target, &ten(0x2F, 4, 10, 2)), [0xCA, 0, 1]);
}

#[test]
fn a_verify_of_more_than_32_mib_is_refused_and_takes_no_time() {
    let mut target = target(1 << 33);
    for protection in [0, 2, 6] {
        let verify = sixteen(0x8F, protection, 10, 0x7fff_ffff);
        assert_invalid_field(give(&mut target, &verify, &[7; 512]), [0xC0, 0, 10]);
    }
    assert_good(none(&mut target, &sixteen(0x8F, 0, 10, 1 << 16)), 0);
}

#[test]
fn verify_compares_one_block_with_each() {
    let mut target = target(1000);
    give(&mut target, &ten(0x2A, 0, 10, 3), &[7; 1536]);
    for verify in [ten(0x2F, 6, 10, 3), sixteen(0x8F, 6, 10, 3)] {
        assert_good(give(&mut target, &verify, &[7; 512]), 512);
        assert_sense(give(&mut target, &verify, &[7; 511]), 0x0B, 0x4B, 0x00);
    }
    assert_good(none(&mut target, &ten(0x2F, 6, 10, 0)), 0);
    let mut other = [7; 512];
    other[300] = 8;
    give(&mut target, &ten(0x2A, 0, 12, 1), &other);
    let refused = give(&mut target, &ten(0x2F, 6, 10, 3), &[7; 512]);
    assert_sense(refused, 0x0E, 0x1D, 0x00);
    assert_eq!(information(refused), Some(300));
}

#[test]
fn write_and_verify_goes_onto_the_medium() {
    let writes = [
        ten(0x2E, 0, 0, 1),
        ten(0x2E, 2, 0, 1),
        cdb(Form::Twelve, 0xAE, 2, 0, 1),
        sixteen(0x8E, 2, 0, 1),
    ];
    for write in writes {
        let mut target = target(1000);
        assert_good(give(&mut target, &write, &[9; 512]), 512);
        assert_eq!(target.disk().dirty_bytes(), 0);
        assert_eq!(receive(&mut target, &ten(0x28, 0, 0, 1), 512), [9; 512]);
    }
}

#[test]
fn a_medium_error_names_its_lba_until_it_is_written_over() {
    let mut target = target(1000);
    target.inject_medium_error(12, 4);
    let mut data = vec![0xEE; 8 * 512];
    let read = send(&mut target, &ten(0x28, 0, 10, 8), &mut data);
    assert_sense(read, 0x03, 0x11, 0x00);
    assert_eq!(information(read), Some(12));
    assert_eq!(read.transferred, 1024);
    assert_eq!(data[1023..1025], [0, 0xEE]);
    let verify = none(&mut target, &ten(0x2F, 0, 15, 1));
    assert_sense(verify, 0x03, 0x11, 0x00);
    give(&mut target, &ten(0x2A, 0, 13, 1), &[1; 512]);
    assert_eq!(receive(&mut target, &ten(0x28, 0, 13, 1), 512), [1; 512]);
    let read = none(&mut target, &ten(0x28, 0, 13, 2));
    assert_eq!(information(read), Some(14));
    let read = none(&mut target, &ten(0x28, 0, 11, 3));
    assert_eq!(information(read), Some(12));
    assert_good(give(&mut target, &ten(0x41, 8, 10, 8), &[0; 512]), 512);
    assert_eq!(receive(&mut target, &ten(0x28, 0, 10, 8), 4096), [0; 4096]);
}

#[test]
fn a_medium_error_past_32_bits_has_no_information_in_fixed_format() {
    let mut target = target(1 << 40);
    target.inject_medium_error(1 << 33, 1);
    let read = none(&mut target, &sixteen(0x88, 0, 1 << 33, 1));
    assert_sense(read, 0x03, 0x11, 0x00);
    let mut sense = read.sense.unwrap();
    assert_eq!(sense.to_bytes()[..8], [0x70, 0, 3, 0, 0, 0, 0, 10]);
    sense.descriptor = true;
    assert_eq!(
        sense.to_bytes(),
        [0x72, 3, 0x11, 0, 0, 0, 0, 12, 0, 0x0A, 0x80, 0, 0, 0, 0, 2, 0, 0, 0, 0]
    );
}

#[test]
fn a_file_that_fails_is_a_medium_error_at_its_lba() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let disk = Disk::create(&path, 1 << 20).unwrap();
    let mut target = Target::new(config(), disk);
    give(&mut target, &ten(0x2A, 0, 0, 64), &pattern(64 * 512));
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(32 * 512).unwrap();
    let read = give(&mut target, &ten(0x28, 0, 0, 64), &[0; 64 * 512]);
    assert_sense(read, 0x03, 0x11, 0x00);
    assert_eq!(information(read), Some(32));
    assert_eq!(read.transferred, 32 * 512);
    assert_sense(give(&mut target, &ten(0x2A, 0, 48, 1), &[1; 512]), 0x03, 0x0C, 0x00);
    assert_sense(none(&mut target, &ten(0x35, 0, 0, 0)), 0x03, 0x0C, 0x00);
    let verify = none(&mut target, &ten(0x2F, 0, 0, 64));
    assert_sense(verify, 0x03, 0x11, 0x00);
    assert_eq!(information(verify), Some(32));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(receive(&mut target, &ten(0x28, 0, 0, 1), 512), pattern(512), "unlinked, yet here");
}

#[test]
fn a_thin_disk_without_room_says_so_and_another_calls_it_a_write_error() {
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let thin = target(1000).write_failure(&full, 5).to_bytes();
    assert_eq!([thin[2], thin[12], thin[13], thin[6]], [0x07, 0x27, 0x07, 5]);
    let config = TargetConfig { thin: false, ..config() };
    let thick = Target::new(config, Disk::memory(4096)).write_failure(&full, 5).to_bytes();
    assert_eq!([thick[2], thick[12], thick[13], thick[6]], [0x03, 0x0C, 0x00, 5]);
}

#[test]
fn a_file_disk_behind_a_target_keeps_flushed_blocks_through_a_power_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let disk = Disk::create(&path, 1 << 20).unwrap();
    let mut target = Target::new(config(), disk);
    give(&mut target, &ten(0x2A, 0, 0, 8), &pattern(4096));
    none(&mut target, &ten(0x35, 0, 0, 0));
    give(&mut target, &ten(0x2A, 0, 4, 8), &[3; 4096]);
    target.power_cut(&mut |offset| offset == 5 * 512).unwrap();
    drop(target);
    let mut expected = pattern(4096);
    expected[5 * 512..6 * 512].fill(3);
    assert_eq!(std::fs::read(&path).unwrap()[..4096], expected);
}
