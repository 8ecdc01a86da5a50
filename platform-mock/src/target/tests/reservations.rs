use super::*;

const A: u64 = 0x5000_0000_0000_000A;
const B: u64 = 0x5000_0000_0000_000B;
const C: u64 = 0x5000_0000_0000_000C;

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const REGISTER_AND_IGNORE: u8 = 6;

const WRITE_EXCLUSIVE: u8 = 1;
const EXCLUSIVE_ACCESS: u8 = 3;
const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 5;
const EXCLUSIVE_ACCESS_ALL: u8 = 8;

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const WRITE: [u8; 10] = [0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const UNMAP: [u8; 10] = [0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn from(target: &mut Target, initiator: u64, cdb: &[u8]) -> Response {
    let lun = [0; 8];
    target.execute(&Command { lun, cdb, initiator }, &mut vec![0; 512])
}

fn out(target: &mut Target, initiator: u64, action: u8, kind: u8, keys: [u64; 2]) -> Response {
    let cdb = [0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0];
    let mut list = [keys[0].to_be_bytes(), keys[1].to_be_bytes(), [0; 8]].concat();
    target.execute(&Command { lun: [0; 8], cdb: &cdb, initiator }, &mut list)
}

fn inward(target: &mut Target, action: u8) -> Vec<u8> {
    receive(target, &[0x5E, action, 0, 0, 0, 0, 0, 1, 0, 0], 256)
}

#[track_caller]
fn assert_conflict(response: Response) {
    assert_eq!((response.status, response.sense), (status::RESERVATION_CONFLICT, None));
}

/// A target on which A and B are registered with keys 0xA and 0xB, and C is not.
fn registered() -> Target {
    let mut target = target(1000);
    for (initiator, key) in [(A, 0xA), (B, 0xB)] {
        assert_good(out(&mut target, initiator, REGISTER, 0, [0, key]), 24);
    }
    assert_good(from(&mut target, C, &TEST_UNIT_READY), 0);
    target
}

#[test]
fn keys_are_registered_changed_and_removed() {
    let mut target = registered();
    let keys = [0, 0, 0, 2, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xA, 0, 0, 0, 0, 0, 0, 0, 0xB];
    assert_eq!(inward(&mut target, 0), keys);
    assert_conflict(out(&mut target, A, REGISTER, 0, [0xF, 0xC]));
    assert_conflict(out(&mut target, C, REGISTER, 0, [0xA, 0xC]));
    assert_good(out(&mut target, A, REGISTER, 0, [0xA, 0xC]), 24);
    assert_good(out(&mut target, B, REGISTER_AND_IGNORE, 0, [0xFF, 0]), 24);
    let keys = [0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0xC];
    assert_eq!(inward(&mut target, 0), keys);
    assert_eq!(inward(&mut target, 1), [0, 0, 0, 4, 0, 0, 0, 0]);
    assert_eq!(inward(&mut target, 2), [0, 8, 4, 0x80, 0xEA, 1, 0, 0]);
}

#[test]
fn bad_parameters_change_nothing() {
    let mut target = target(1000);
    let mut short = [0; 24];
    assert_sense(give(&mut target, &[0x5F, 0, 0, 0, 0, 0, 0, 0, 23, 0], &short), 0x05, 0x1A, 0x00);
    for flag in [0x01, 0x08] {
        short[20] = flag;
        let refused = give(&mut target, &[0x5F, 0, 0, 0, 0, 0, 0, 0, 24, 0], &short);
        assert_sense(refused, 0x05, 0x26, 0x00);
    }
    for kind in [0, 2, 4, 9, 0x11] {
        let refused = out(&mut target, A, RESERVE, kind, [0; 2]);
        assert_invalid_field(refused, [0xC0, 0, 2]);
    }
    assert_conflict(out(&mut target, A, RESERVE, WRITE_EXCLUSIVE, [0; 2]));
    assert_eq!(inward(&mut target, 0), [0; 8]);
}

#[test]
fn each_type_keeps_out_whom_it_says() {
    // (type, what B (registered) and C (not) may do: read, write)
    let rows = [
        (WRITE_EXCLUSIVE, [true, false], [true, false]),
        (EXCLUSIVE_ACCESS, [false, false], [false, false]),
        (WRITE_EXCLUSIVE_REGISTRANTS, [true, true], [true, false]),
        (6, [true, true], [false, false]),
        (7, [true, true], [true, false]),
        (EXCLUSIVE_ACCESS_ALL, [true, true], [false, false]),
    ];
    for (kind, by_b, by_c) in rows {
        let mut target = registered();
        assert_good(out(&mut target, A, RESERVE, kind, [0xA, 0]), 24);
        for (initiator, may) in [(A, [true, true]), (B, by_b), (C, by_c)] {
            for (cdb, may) in [(READ, may[0]), (WRITE, may[1]), (UNMAP, may[1])] {
                let status = from(&mut target, initiator, &cdb).status;
                let expected = if may { status::GOOD } else { status::RESERVATION_CONFLICT };
                assert_eq!(status, expected, "type {kind}, {initiator:x}, {cdb:x?}");
            }
            assert_good(from(&mut target, initiator, &TEST_UNIT_READY), 0);
            assert_good(from(&mut target, initiator, &[0x12, 0, 0, 0, 36, 0]), 36);
        }
        let key = if kind >= 7 { 0 } else { 0xA };
        let reservation = inward(&mut target, 1);
        assert_eq!(reservation[8..], [0, 0, 0, 0, 0, 0, 0, key, 0, 0, 0, 0, 0, kind, 0, 0]);
    }
}

#[test]
fn only_the_holder_releases_and_only_by_the_right_type() {
    let mut target = registered();
    assert_good(out(&mut target, A, RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, [0xA, 0]), 24);
    assert_good(out(&mut target, A, RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, [0xA, 0]), 24);
    assert_conflict(out(&mut target, A, RESERVE, WRITE_EXCLUSIVE, [0xA, 0]));
    assert_conflict(out(&mut target, B, RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, [0xB, 0]));
    assert_good(out(&mut target, B, RELEASE, WRITE_EXCLUSIVE_REGISTRANTS, [0xB, 0]), 24);
    assert_conflict(from(&mut target, C, &WRITE));
    let wrong = out(&mut target, A, RELEASE, WRITE_EXCLUSIVE, [0xA, 0]);
    assert_sense(wrong, 0x05, 0x26, 0x04);
    assert_good(out(&mut target, A, RELEASE, WRITE_EXCLUSIVE_REGISTRANTS, [0xA, 0]), 24);
    assert_good(from(&mut target, C, &WRITE), 512);
    assert_sense(from(&mut target, B, &TEST_UNIT_READY), 0x06, 0x2A, 0x04);
    assert_good(from(&mut target, B, &TEST_UNIT_READY), 0);
    assert_good(from(&mut target, A, &TEST_UNIT_READY), 0);
}

#[test]
fn a_holder_that_unregisters_releases_what_it_held() {
    let mut target = registered();
    assert_good(out(&mut target, A, RESERVE, EXCLUSIVE_ACCESS, [0xA, 0]), 24);
    assert_conflict(from(&mut target, B, &READ));
    assert_good(out(&mut target, A, REGISTER, 0, [0xA, 0]), 24);
    assert_good(from(&mut target, B, &READ), 512);
    // What all registrants hold stays until the last has gone.
    let mut target = registered();
    assert_good(out(&mut target, A, RESERVE, EXCLUSIVE_ACCESS_ALL, [0xA, 0]), 24);
    assert_good(out(&mut target, A, REGISTER, 0, [0xA, 0]), 24);
    assert_conflict(from(&mut target, A, &READ));
    assert_good(from(&mut target, B, &READ), 512);
    assert_good(out(&mut target, B, REGISTER, 0, [0xB, 0]), 24);
    assert_good(from(&mut target, A, &READ), 512);
}

#[test]
fn a_preempted_initiator_is_told_and_kept_out() {
    let mut target = registered();
    assert_good(out(&mut target, A, RESERVE, WRITE_EXCLUSIVE, [0xA, 0]), 24);
    assert_conflict(out(&mut target, C, PREEMPT, WRITE_EXCLUSIVE, [0, 0xA]));
    assert_conflict(out(&mut target, B, PREEMPT, WRITE_EXCLUSIVE, [0xB, 0xF]));
    let nobody = out(&mut target, B, PREEMPT, WRITE_EXCLUSIVE, [0xB, 0]);
    assert_sense(nobody, 0x05, 0x26, 0x00);
    assert_good(out(&mut target, B, PREEMPT, EXCLUSIVE_ACCESS, [0xB, 0xA]), 24);
    assert_sense(from(&mut target, A, &WRITE), 0x06, 0x2A, 0x05);
    assert_conflict(from(&mut target, A, &READ));
    assert_good(from(&mut target, B, &WRITE), 512);
    assert_eq!(inward(&mut target, 1)[8..22], [0, 0, 0, 0, 0, 0, 0, 0xB, 0, 0, 0, 0, 0, 3]);
    assert_conflict(out(&mut target, A, RELEASE, EXCLUSIVE_ACCESS, [0xA, 0]));
}

#[test]
fn clear_ends_everything_and_tells_the_others() {
    let mut target = registered();
    assert_good(out(&mut target, A, RESERVE, EXCLUSIVE_ACCESS, [0xA, 0]), 24);
    assert_good(out(&mut target, B, CLEAR, 0, [0xB, 0]), 24);
    assert_sense(from(&mut target, A, &READ), 0x06, 0x2A, 0x03);
    assert_good(from(&mut target, A, &READ), 512);
    assert_eq!(inward(&mut target, 0), [0, 0, 0, 3, 0, 0, 0, 0]);
}

#[test]
fn full_status_names_each_initiator_port() {
    let mut target = registered();
    assert_good(out(&mut target, B, RESERVE, EXCLUSIVE_ACCESS, [0xB, 0]), 24);
    let data = inward(&mut target, 3);
    assert_eq!(data[..8], [0, 0, 0, 2, 0, 0, 0, 96]);
    assert_eq!(
        data[8..32],
        [0, 0, 0, 0, 0, 0, 0, 0xA, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 24]
    );
    assert_eq!(data[32..36], [0x06, 0, 0, 0]);
    assert_eq!(data[36..44], A.to_be_bytes());
    assert_eq!(data[56 + 7..56 + 14], [0xB, 0, 0, 0, 0, 1, 3]);
    assert_eq!(data[84..92], B.to_be_bytes());
    assert_eq!(data.len(), 104);
}

#[test]
fn a_reset_leaves_persistent_reservations_and_a_power_cut_does_not() {
    let mut target = registered();
    assert_good(out(&mut target, A, RESERVE, EXCLUSIVE_ACCESS, [0xA, 0]), 24);
    target.reset().unwrap();
    for initiator in [A, B] {
        assert_sense(from(&mut target, initiator, &READ), 0x06, 0x29, 0x03);
    }
    assert_conflict(from(&mut target, B, &READ));
    target.power_cut(&mut |_| false).unwrap();
    assert_sense(from(&mut target, B, &READ), 0x06, 0x29, 0x00);
    assert_good(from(&mut target, B, &READ), 512);
}

#[test]
fn the_two_kinds_of_reservation_do_not_mix() {
    let mut target = registered();
    assert_conflict(from(&mut target, A, &[0x16, 0, 0, 0, 0, 0]));
    let mut target = super::target(1000);
    assert_good(from(&mut target, A, &[0x16, 0, 0, 0, 0, 0]), 0);
    assert_conflict(out(&mut target, B, REGISTER, 0, [0, 0xB]));
}
