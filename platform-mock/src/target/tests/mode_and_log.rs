use super::*;

const CACHING: [u8; 20] = [0x88, 0x12, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn mode_sense_6_gives_the_caching_page_with_wce() {
    let mut target = target(0x1000);
    let data = receive(&mut target, &[0x1A, 0, 0x08, 0, 255, 0], 255);
    assert_eq!(data[..4], [31, 0, 0x10, 8]);
    assert_eq!(data[4..12], [0, 0, 0x10, 0, 0, 0, 2, 0]);
    assert_eq!(data[12..], CACHING);
    let no_descriptor = receive(&mut target, &[0x1A, 0x08, 0x08, 0, 255, 0], 255);
    assert_eq!(no_descriptor[..4], [23, 0, 0x10, 0]);
    assert_eq!(no_descriptor[4..], CACHING);
}

#[test]
fn mode_sense_is_cut_at_the_allocation_length() {
    let mut target = target(0x1000);
    let header = receive(&mut target, &[0x1A, 0, 0x3F, 0, 4, 0], 4);
    assert_eq!(header.len(), 4);
    let whole = receive(&mut target, &[0x1A, 0, 0x3F, 0, 255, 0], 255);
    assert_eq!(usize::from(header[0]) + 1, whole.len());
}

#[test]
fn mode_sense_10_gives_long_block_descriptors() {
    let mut target = target(66 * TB / 512);
    let long = receive(&mut target, &[0x5A, 0x10, 0x08, 0, 0, 0, 0, 1, 0, 0], 256);
    assert_eq!(long[..8], [0, 42, 0, 0x10, 1, 0, 0, 16]);
    assert_eq!(long[8..16], (66 * TB / 512).to_be_bytes());
    assert_eq!(long[16..24], [0, 0, 0, 0, 0, 0, 2, 0]);
    assert_eq!(long[24..], CACHING);
    let short = receive(&mut target, &[0x5A, 0, 0x08, 0, 0, 0, 0, 1, 0, 0], 256);
    assert_eq!(short[..8], [0, 34, 0, 0x10, 0, 0, 0, 8]);
    assert_eq!(short[8..16], [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 2, 0]);
}

#[test]
fn all_mode_pages_come_in_order() {
    let mut target = target(0x1000);
    for subpage in [0x00, 0xFF] {
        let data = receive(&mut target, &[0x1A, 0x08, 0x3F, subpage, 255, 0], 255);
        let mut codes = Vec::new();
        let mut rest = &data[4..];
        while let [code, length, ..] = rest {
            codes.push(code & 0x3F);
            rest = &rest[2 + usize::from(*length)..];
        }
        assert_eq!(codes, [0x01, 0x02, 0x07, 0x08, 0x0A, 0x18, 0x19, 0x1A, 0x1C]);
    }
}

#[test]
fn each_mode_page_has_the_bytes_of_its_standard() {
    let mut target = target(0x1000);
    let mut power = [0; 40];
    power[..2].copy_from_slice(&[0x1A, 0x26]);
    let pages: [&[u8]; 7] = [
        &[0x01, 0x0A, 0xC0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x02, 0x0E, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x07, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &power,
        &[0x18, 0x06, 0x06, 0, 0, 0, 0, 0],
        &[0x19, 0x06, 0x06, 0, 0x07, 0xD0, 0, 0],
        &[0x1C, 0x0A, 0x00, 0x06, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for page in pages {
        let current = receive(&mut target, &[0x1A, 0x08, page[0], 0, 255, 0], 255);
        assert_eq!(current[4..], *page);
        let changeable = receive(&mut target, &[0x1A, 0x08, 0x40 | page[0], 0, 255, 0], 255);
        assert_eq!(changeable[4..6], page[..2]);
        assert!(changeable[6..].iter().all(|byte| *byte == 0));
    }
    let control = receive(&mut target, &[0x1A, 0x08, 0x0A, 0, 255, 0], 255);
    assert_eq!(control[4..], [0x8A, 0x0A, 0x02, 0x10, 0, 0, 0, 0, 0, 0, 0, 0]);
    let changeable = receive(&mut target, &[0x1A, 0x08, 0x4A, 0, 255, 0], 255);
    assert_eq!(changeable[4..], [0x8A, 0x0A, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_invalid_field(none(&mut target, &[0x1A, 0, 0x03, 0, 9, 0]), [0xCD, 0, 2]);
    assert_invalid_field(none(&mut target, &[0x1A, 0, 0x08, 1, 9, 0]), [0xC0, 0, 3]);
}

#[test]
fn a_write_protected_disk_says_so() {
    let mut target = target(0x1000);
    target.disk_mut().set_write_protected(true);
    let data = receive(&mut target, &[0x1A, 0x08, 0x08, 0, 255, 0], 255);
    assert_eq!(data[2], 0x90);
    let write = give(&mut target, &[0x0A, 0, 0, 0, 1, 0], &[0; 512]);
    assert_sense(write, 0x07, 0x27, 0x00);
}

/// A parameter list of MODE SELECT(6) that sets WCE.
fn caching_list(write_cache: bool) -> Vec<u8> {
    let mut list = vec![0, 0, 0, 0];
    list.extend_from_slice(&CACHING);
    list[4] = 0x08;
    list[6] = u8::from(write_cache) << 2;
    list
}

fn wce(target: &mut Target, control: u8) -> bool {
    let data = receive(target, &[0x1A, 0x08, control << 6 | 0x08, 0, 255, 0], 255);
    data[6] & 0x04 != 0
}

const SELECT_24: [u8; 6] = [0x15, 0x10, 0, 0, 24, 0];
const SELECT_AND_SAVE_24: [u8; 6] = [0x15, 0x11, 0, 0, 24, 0];

#[test]
fn mode_select_turns_the_write_cache_off_and_flushes_it() {
    let mut target = target(0x1000);
    assert_good(give(&mut target, &[0x0A, 0, 0, 0, 1, 0], &[7; 512]), 512);
    assert_eq!(target.disk().dirty_bytes(), 512);
    assert_good(give(&mut target, &SELECT_24, &caching_list(false)), 24);
    assert_eq!(target.disk().dirty_bytes(), 0);
    assert_eq!(
        [0, 1, 2, 3].map(|control| wce(&mut target, control)),
        [false, true, true, true],
        "current, changeable, default, saved"
    );
    target.reset().unwrap();
    assert_sense(none(&mut target, &[0; 6]), 0x06, 0x29, 0x03);
    assert!(wce(&mut target, 0), "a reset restores what was saved");
}

#[test]
fn a_saved_write_cache_setting_survives_a_power_cut() {
    let mut target = target(0x1000);
    assert_good(give(&mut target, &SELECT_AND_SAVE_24, &caching_list(false)), 24);
    target.power_cut(&mut |_| false).unwrap();
    assert_sense(none(&mut target, &[0; 6]), 0x06, 0x29, 0x00);
    assert_eq!([0, 2, 3].map(|control| wce(&mut target, control)), [false, true, false]);
}

#[test]
fn mode_select_takes_back_what_mode_sense_gave() {
    let mut target = target(66 * TB / 512);
    let short = receive(&mut target, &[0x1A, 0, 0x3F, 0, 255, 0], 255);
    let mut select = SELECT_24;
    select[4] = short.len() as u8;
    assert_good(give(&mut target, &select, &short), short.len() as u64);
    let long = receive(&mut target, &[0x5A, 0x10, 0x3F, 0, 0, 0, 0, 1, 0, 0], 256);
    let select = [0x55, 0x10, 0, 0, 0, 0, 0, 0, long.len() as u8, 0];
    assert_good(give(&mut target, &select, &long), long.len() as u64);
}

#[test]
fn mode_select_refuses_what_cannot_be_changed_and_changes_nothing() {
    let mut target = target(0x1000);
    // (byte of the list, value, where the sense data points)
    for (byte, value, pointer) in [
        (1, 1, 1),    // medium type
        (3, 4, 3),    // a block descriptor of four bytes
        (4, 0x03, 4), // no such page
        (4, 0x48, 4), // subpage format
        (5, 0x11, 5), // page length
        (6, 0x01, 6), // RCD
        (23, 1, 23),
    ] {
        let mut list = caching_list(false);
        list[byte] = value;
        let refused = give(&mut target, &SELECT_24, &list);
        assert_sense(refused, 0x05, 0x26, 0x00);
        assert_eq!(refused.sense.unwrap().specific, Some([0x80, 0, pointer]));
        assert!(wce(&mut target, 0));
    }
    let mut resized = vec![0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0x10, 0];
    let select = [0x15, 0x10, 0, 0, 12, 0];
    assert_sense(give(&mut target, &select, &resized), 0x05, 0x26, 0x00);
    resized[10..].copy_from_slice(&[2, 0]);
    assert_good(give(&mut target, &select, &resized), 12);
    resized[7] = 1;
    assert_sense(give(&mut target, &select, &resized), 0x05, 0x26, 0x00);
}

#[test]
fn mode_select_refuses_a_list_that_is_cut_short() {
    let mut target = target(0x1000);
    for length in [1, 3, 5, 6, 23] {
        let select = [0x15, 0x10, 0, 0, length, 0];
        let list = &caching_list(false)[..usize::from(length)];
        assert_sense(give(&mut target, &select, list), 0x05, 0x1A, 0x00);
    }
    assert_good(none(&mut target, &[0x15, 0x10, 0, 0, 0, 0]), 0);
    assert_good(give(&mut target, &[0x15, 0x10, 0, 0, 4, 0], &[0; 4]), 4);
    let not_page_format = give(&mut target, &[0x15, 0, 0, 0, 24, 0], &caching_list(false));
    assert_invalid_field(not_page_format, [0xCC, 0, 1]);
    assert!(wce(&mut target, 0));
}

#[test]
fn other_initiators_are_told_of_changed_mode_parameters() {
    let mut target = target(0x1000);
    let other = |target: &mut Target| {
        let command = Command { lun: [0; 8], cdb: &[0; 6], initiator: 99 };
        target.execute(&command, &mut Vec::new())
    };
    assert_good(other(&mut target), 0);
    assert_good(give(&mut target, &SELECT_24, &caching_list(false)), 24);
    assert_good(none(&mut target, &[0; 6]), 0);
    assert_sense(other(&mut target), 0x06, 0x2A, 0x01);
    assert_good(other(&mut target), 0);
}

/// The control page in a parameter list of MODE SELECT(6).
fn control_list(descriptor_sense: bool) -> [u8; 16] {
    let flags = 0x02 | u8::from(descriptor_sense) << 2;
    [0, 0, 0, 0, 0x0A, 0x0A, flags, 0x10, 0, 0, 0, 0, 0, 0, 0, 0]
}

#[test]
fn sense_data_comes_in_descriptors_once_d_sense_is_set() {
    let mut target = target(0x1000);
    let select = [0x15, 0x10, 0, 0, 16, 0];
    assert_good(give(&mut target, &select, &control_list(true)), 16);
    let refused = none(&mut target, &[0x28, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(
        refused.sense.unwrap().to_bytes(),
        [0x72, 0x05, 0x24, 0x00, 0, 0, 0, 8, 0x02, 0x06, 0, 0, 0xC8, 0, 9, 0]
    );
    target.inject_medium_error(3, 1);
    let read = none(&mut target, &[0x28, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    assert_eq!(
        read.sense.unwrap().to_bytes(),
        [0x72, 0x03, 0x11, 0x00, 0, 0, 0, 12, 0, 0x0A, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    );
    // It was not saved.
    target.reset().unwrap();
    let reset = none(&mut target, &[0; 6]);
    assert_eq!(reset.sense.unwrap().to_bytes()[0], 0x70);
    let save = [0x15, 0x11, 0, 0, 16, 0];
    assert_good(give(&mut target, &save, &control_list(true)), 16);
    target.reset().unwrap();
    let reset = none(&mut target, &[0; 6]);
    assert_eq!(reset.sense.unwrap().to_bytes(), [0x72, 0x06, 0x29, 0x03, 0, 0, 0, 0]);
    assert!(wce(&mut target, 0), "and the cache setting is as it was");
}

#[test]
fn log_select_takes_the_counters_back() {
    let mut target = target(0x1000);
    give(&mut target, &[0x0A, 0, 0, 0, 3, 0], &[1; 1536]);
    assert_eq!(log(&mut target, 0x02)[74..76], [6, 0]);
    assert_good(none(&mut target, &[0x4C, 0, 0xC0, 0, 0, 0, 0, 0, 0, 0]), 0);
    assert_eq!(log(&mut target, 0x02)[74..76], [6, 0]);
    assert_good(none(&mut target, &[0x4C, 2, 0xC0, 0, 0, 0, 0, 0, 0, 0]), 0);
    assert_eq!(log(&mut target, 0x02)[74..76], [0, 0]);
    let list = give(&mut target, &[0x4C, 0, 0xC0, 0, 0, 0, 0, 0, 4, 0], &[0; 4]);
    assert_invalid_field(list, [0xC0, 0, 7]);
}

fn log(target: &mut Target, page: u8) -> Vec<u8> {
    receive(target, &[0x4D, 0, 0x40 | page, 0, 0, 0, 0, 4, 0, 0], 1024)
}

#[test]
fn log_pages_are_listed_and_every_listed_page_exists() {
    let mut target = target(0x1000);
    let list = log(&mut target, 0x00);
    assert_eq!(list, [0, 0, 0, 10, 0x00, 0x02, 0x03, 0x05, 0x06, 0x0D, 0x0E, 0x10, 0x11, 0x2F]);
    for page in &list[4..] {
        let data = log(&mut target, *page);
        assert_eq!(data[..2], [*page, 0]);
        assert_eq!(usize::from(data[2]) << 8 | usize::from(data[3]), data.len() - 4);
    }
    let sense = |page, subpage, pointer| [0x4D, 0, page, subpage, 0, 0, pointer, 0, 255, 0];
    assert_invalid_field(none(&mut target, &sense(0x15, 0, 0)), [0xCD, 0, 2]);
    let subpages = receive(&mut target, &sense(0x00, 0xFF, 0), 255);
    assert_eq!(subpages[..12], [0x40, 0xFF, 0, 22, 0, 0, 0, 0xFF, 2, 0, 3, 0]);
    assert_invalid_field(none(&mut target, &sense(0x0D, 1, 0)), [0xC0, 0, 3]);
    assert_invalid_field(none(&mut target, &sense(0x0D, 0, 2)), [0xC0, 0, 5]);
    assert_eq!(receive(&mut target, &sense(0x0D, 0, 1), 255), [0x0D, 0, 0, 6, 0, 1, 3, 2, 0, 0xFF]);
}

#[test]
fn log_pages_hold_temperature_counters_and_self_tests() {
    let mut target = target(0x1000);
    assert_eq!(log(&mut target, 0x0D), [0x0D, 0, 0, 12, 0, 0, 3, 2, 0, 30, 0, 1, 3, 2, 0, 0xFF]);
    assert_eq!(log(&mut target, 0x2F), [0x2F, 0, 0, 8, 0, 0, 3, 4, 0, 0, 30, 0xFF]);
    assert_eq!(log(&mut target, 0x10).len(), 4 + 0x190);
    give(&mut target, &[0x0A, 0, 0, 0, 3, 0], &[1; 1536]);
    let written = log(&mut target, 0x02);
    assert_eq!(written.len(), 4 + 7 * 12);
    assert_eq!(written[64..76], [0, 5, 2, 8, 0, 0, 0, 0, 0, 0, 6, 0]);
    receive(&mut target, &[0x08, 0, 0, 0, 1, 0], 512);
    assert_eq!(log(&mut target, 0x03)[74..76], [2, 0]);
    target.inject_medium_error(0, 1);
    none(&mut target, &[0x08, 0, 0, 0, 1, 0]);
    assert_eq!(log(&mut target, 0x03)[76..], [0, 6, 2, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
}
