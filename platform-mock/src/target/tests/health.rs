//! Self-tests, a predicted failure and SMART, against bytes written by hand from the standards.

use super::*;

fn sata() -> Target {
    Target::new(TargetConfig { sata: true, ..config() }, Disk::memory(1000 * 512))
}

fn log(target: &mut Target, page: u8) -> Vec<u8> {
    receive(target, &[0x4D, 0, 0x40 | page, 0, 0, 0, 0, 2, 0, 0], 512)
}

/// SMART by ATA PASS-THROUGH (16) with one block of data in.
fn smart_in(target: &mut Target, feature: u8, low: u8) -> Vec<u8> {
    let cdb = [0x85, 8, 0x0E, 0, feature, 0, 1, 0, low, 0, 0x4F, 0, 0xC2, 0, 0xB0, 0];
    let data = receive(target, &cdb, 512);
    assert_eq!(data.len(), 512);
    data
}

/// SMART without data, and the registers that it leaves: LBA mid and high.
fn smart(target: &mut Target, feature: u8, low: u8) -> Option<[u8; 2]> {
    let cdb = [0x85, 6, 0x20, 0, feature, 0, 0, 0, low, 0, 0x4F, 0, 0xC2, 0, 0xB0, 0];
    let sense = none(target, &cdb).sense.expect("registers were asked for").to_bytes();
    (sense[1..4] == [0x01, 0x00, 0x1D]).then(|| [sense[8 + 9], sense[8 + 11]])
}

fn adds_up(data: &[u8]) -> bool {
    data.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

/// Value, threshold and raw value of an attribute.
fn attribute(target: &mut Target, id: u8) -> (u8, u8, u64) {
    let (data, thresholds) = (smart_in(target, 0xD0, 0), smart_in(target, 0xD1, 0));
    let at = (2..362).step_by(12).find(|at| data[*at] == id).expect("there");
    assert_eq!(thresholds[at], id);
    let mut raw = [0; 8];
    raw[..6].copy_from_slice(&data[at + 5..at + 11]);
    (data[at + 3], thresholds[at + 1], u64::from_le_bytes(raw))
}

#[test]
fn a_healthy_disk_predicts_nothing() {
    let mut target = target(1000);
    assert_eq!(log(&mut target, 0x2F), [0x2F, 0, 0, 8, 0, 0, 3, 4, 0, 0, 30, 0xFF]);
    let sense = receive(&mut target, &[0x03, 0, 0, 0, 18, 0], 18);
    assert_eq!([sense[2], sense[12], sense[13]], [0, 0, 0]);
}

#[test]
fn a_predicted_failure_is_told_by_log_page_and_request_sense() {
    let mut target = target(1000);
    target.predict_failure(Some(Exception { asc: 0x5D, ascq: 0x10 }));
    assert_eq!(log(&mut target, 0x2F)[8..10], [0x5D, 0x10]);
    let sense = receive(&mut target, &[0x03, 0, 0, 0, 18, 0], 18);
    assert_eq!([sense[2], sense[12], sense[13]], [0, 0x5D, 0x10]);
    assert_good(none(&mut target, &[0; 6]), 0);
    target.predict_failure(None);
    assert_eq!(log(&mut target, 0x2F)[8..10], [0, 0]);
}

#[test]
fn self_tests_are_logged_the_newest_first() {
    let mut target = target(1000);
    assert!(log(&mut target, 0x10)[8..24].iter().all(|byte| *byte == 0));
    assert_good(none(&mut target, &[0x1D, 0x20, 0, 0, 0, 0]), 0);
    target.inject_medium_error(77, 1);
    assert_good(none(&mut target, &[0x1D, 0x40, 0, 0, 0, 0]), 0);
    let page = log(&mut target, 0x10);
    assert_eq!(page.len(), 4 + 20 * 20);
    assert_eq!(page[4..8], [0, 1, 3, 16]);
    assert_eq!(page[8..24], [0x47, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 77, 3, 0x11, 0, 0]);
    assert_eq!(page[28..44], [0x20, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]);
    let waited_for = none(&mut target, &[0x1D, 0xA0, 0, 0, 0, 0]);
    assert_sense(waited_for, 0x04, 0x3E, 0x03);
    assert_good(none(&mut target, &[0x1D, 0x80, 0, 0, 0, 0]), 0);
}

#[test]
fn smart_data_and_thresholds_name_the_same_attributes_and_add_up() {
    let mut target = sata();
    let (data, thresholds) = (smart_in(&mut target, 0xD0, 0), smart_in(&mut target, 0xD1, 0));
    assert!(adds_up(&data) && adds_up(&thresholds));
    for at in (2..362).step_by(12) {
        assert_eq!(data[at], thresholds[at]);
    }
    assert_eq!(attribute(&mut target, 194).2, 30);
    receive(&mut target, &[0x28, 0, 0, 0, 0, 0, 0, 0, 4, 0], 4 * 512);
    assert_eq!(attribute(&mut target, 242).2, 4);
}

#[test]
fn a_predicted_failure_is_below_its_threshold_and_in_the_status() {
    let mut target = sata();
    assert_eq!(smart(&mut target, 0xDA, 0), Some([0x4F, 0xC2]));
    target.predict_failure(Some(Exception { asc: 0x5D, ascq: 0 }));
    assert_eq!(smart(&mut target, 0xDA, 0), Some([0xF4, 0x2C]));
    let (value, threshold, _) = attribute(&mut target, 5);
    assert!(value <= threshold);
}

#[test]
fn an_ata_self_test_is_logged_with_the_block_that_it_could_not_read() {
    let mut target = sata();
    assert!(smart(&mut target, 0xD4, 1).is_some());
    target.inject_medium_error(0x1234, 1);
    target.inject_medium_error(300, 1);
    assert!(smart(&mut target, 0xD4, 2).is_some());
    assert_eq!(smart(&mut target, 0xD4, 0x81), None, "in captive mode it fails");
    let log = smart_in(&mut target, 0xD5, 0x06);
    assert!(adds_up(&log));
    assert_eq!((log[508], log[2], log[3]), (3, 1, 0));
    assert_eq!(log[26..28], [2, 0x70]);
    assert_eq!(log[31..35], 300_u32.to_le_bytes());
    assert_eq!(smart_in(&mut target, 0xD0, 0)[363], 0x70);
    assert!(adds_up(&smart_in(&mut target, 0xD5, 0x01)));
    assert_eq!(smart(&mut target, 0xD4, 3), None);
}

#[test]
fn smart_that_is_off_takes_nothing_but_to_be_turned_on() {
    let mut target = sata();
    let enabled = |target: &mut Target| {
        let cdb = [0x85, 8, 0x0E, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xEC, 0];
        receive(target, &cdb, 512)[170] & 1 != 0
    };
    assert!(enabled(&mut target));
    assert!(smart(&mut target, 0xD9, 0).is_some());
    assert!(!enabled(&mut target));
    assert_eq!(smart(&mut target, 0xDA, 0), None);
    assert!(smart(&mut target, 0xD8, 0).is_some());
    assert_eq!(smart(&mut target, 0xDA, 0), Some([0x4F, 0xC2]));
}
