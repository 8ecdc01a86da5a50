use super::*;

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const REQUEST_SENSE: [u8; 6] = [0x03, 0, 0, 0, 252, 0];
const READ_10: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];

fn from(target: &mut Target, initiator: u64, cdb: &[u8]) -> Response {
    let lun = [0; 8];
    target.execute(&Command { lun, cdb, initiator }, &mut vec![0; 512])
}

#[test]
fn a_target_can_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Target>();
}

#[test]
fn the_first_command_of_each_initiator_meets_power_on() {
    let mut target = Target::new(TargetConfig::default(), Disk::memory(1 << 20));
    for initiator in [1, 2] {
        assert_good(from(&mut target, initiator, &[0x12, 0, 0, 0, 36, 0]), 36);
        let luns = [0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0];
        assert_good(from(&mut target, initiator, &luns), 16);
        let first = from(&mut target, initiator, &TEST_UNIT_READY);
        assert_sense(first, 0x06, 0x29, 0x00);
        assert_eq!(
            first.sense.unwrap().to_bytes(),
            [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0]
        );
        assert_good(from(&mut target, initiator, &TEST_UNIT_READY), 0);
    }
}

#[test]
fn an_unknown_command_also_meets_a_unit_attention_first() {
    let mut target = Target::new(TargetConfig::default(), Disk::memory(1 << 20));
    assert_sense(none(&mut target, &[0xFF; 6]), 0x06, 0x29, 0x00);
    assert_sense(none(&mut target, &[0xFF; 6]), 0x05, 0x20, 0x00);
}

#[test]
fn request_sense_takes_a_unit_attention_as_data() {
    let mut target = Target::new(TargetConfig::default(), Disk::memory(1 << 20));
    assert_eq!(
        receive(&mut target, &REQUEST_SENSE, 252),
        [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        receive(&mut target, &REQUEST_SENSE, 252),
        [0x70, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_good(none(&mut target, &TEST_UNIT_READY), 0);
    target.set_ready(false);
    let descriptors = receive(&mut target, &[0x03, 1, 0, 0, 252, 0], 252);
    assert_eq!(descriptors, [0x72, 2, 4, 1, 0, 0, 0, 0]);
}

#[test]
fn a_reset_takes_the_place_of_older_unit_attentions() {
    let mut target = Target::new(config(), Disk::memory(1 << 20));
    assert_good(none(&mut target, &TEST_UNIT_READY), 0);
    target.grow(2 << 20).unwrap();
    target.reset().unwrap();
    assert_sense(none(&mut target, &TEST_UNIT_READY), 0x06, 0x29, 0x03);
    assert_good(none(&mut target, &TEST_UNIT_READY), 0);
}

#[test]
fn a_grown_disk_reports_its_new_capacity_once() {
    let mut target = Target::new(config(), Disk::memory(1 << 20));
    assert_good(none(&mut target, &TEST_UNIT_READY), 0);
    target.grow(2 << 20).unwrap();
    target.grow(4 << 20).unwrap();
    assert_sense(none(&mut target, &TEST_UNIT_READY), 0x06, 0x2A, 0x09);
    let capacity = receive(&mut target, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8);
    assert_eq!(capacity, [0, 0, 0x1F, 0xFF, 0, 0, 2, 0]);
    assert!(target.grow(1).is_err());
}

#[test]
fn a_stopped_unit_is_not_ready_until_it_is_started_and_a_stop_flushes() {
    let mut target = target(1000);
    give(&mut target, &[0x0A, 0, 0, 0, 1, 0], &[1; 512]);
    assert_good(none(&mut target, &[0x1B, 0, 0, 0, 0, 0]), 0);
    assert_eq!(target.disk().dirty_bytes(), 0);
    assert_sense(none(&mut target, &TEST_UNIT_READY), 0x02, 0x04, 0x02);
    assert_sense(none(&mut target, &READ_10), 0x02, 0x04, 0x02);
    let sense = receive(&mut target, &REQUEST_SENSE, 18);
    assert_eq!([sense[2], sense[12], sense[13]], [2, 4, 2]);
    assert_eq!(receive(&mut target, &[0x12, 0, 0, 0, 36, 0], 36).len(), 36);
    receive(&mut target, &[0x1A, 0, 0x3F, 0, 255, 0], 255);
    assert_good(none(&mut target, &[0x1B, 1, 0, 0, 1, 0]), 0);
    assert_good(none(&mut target, &TEST_UNIT_READY), 0);
    assert_eq!(receive(&mut target, &READ_10, 512), [1; 512]);
    let cycles = receive(&mut target, &[0x4D, 0, 0x4E, 0, 0, 0, 0, 0, 255, 0], 255);
    assert_eq!(cycles, [0x0E, 0, 0, 8, 0, 4, 3, 4, 0, 0, 0, 1]);
}

#[test]
fn a_stop_with_no_flush_leaves_the_cache_as_it_is() {
    let mut target = target(1000);
    give(&mut target, &[0x0A, 0, 0, 0, 1, 0], &[1; 512]);
    assert_good(none(&mut target, &[0x1B, 0, 0, 0, 4, 0]), 0);
    assert_eq!(target.disk().dirty_bytes(), 512);
    let eject = none(&mut target, &[0x1B, 0, 0, 0, 2, 0]);
    assert_invalid_field(eject, [0xC9, 0, 4]);
    let standby = none(&mut target, &[0x1B, 0, 0, 0, 0x30, 0]);
    assert_invalid_field(standby, [0xCD, 0, 4]);
}

#[test]
fn a_unit_that_is_not_ready_says_so() {
    let mut target = target(1000);
    target.set_ready(false);
    assert_sense(none(&mut target, &TEST_UNIT_READY), 0x02, 0x04, 0x01);
    assert_sense(none(&mut target, &READ_10), 0x02, 0x04, 0x01);
    assert_sense(none(&mut target, &[0x1D, 4, 0, 0, 0, 0]), 0x02, 0x04, 0x01);
    target.set_ready(true);
    assert_good(none(&mut target, &TEST_UNIT_READY), 0);
    assert_good(none(&mut target, &[0x1D, 4, 0, 0, 0, 0]), 0);
    // SELF-TEST CODE: 3 is reserved, and SELFTEST goes with 0 only.
    for odd in [0x60, 0x44] {
        let refused = none(&mut target, &[0x1D, odd, 0, 0, 0, 0]);
        assert_invalid_field(refused, [0xCF, 0, 1]);
    }
}

#[test]
fn a_reservation_keeps_other_initiators_out_until_released_or_reset() {
    let mut target = target(1000);
    let (holder, other) = (1, 2);
    assert_good(from(&mut target, other, &TEST_UNIT_READY), 0);
    assert_good(from(&mut target, holder, &[0x16, 0, 0, 0, 0, 0]), 0);
    for cdb in [&TEST_UNIT_READY[..], &READ_10, &[0x16, 0, 0, 0, 0, 0]] {
        let refused = from(&mut target, other, cdb);
        assert_eq!((refused.status, refused.sense), (status::RESERVATION_CONFLICT, None));
    }
    assert_good(from(&mut target, other, &[0x12, 0, 0, 0, 36, 0]), 36);
    assert_good(from(&mut target, other, &[0x17, 0, 0, 0, 0, 0]), 0);
    assert_good(from(&mut target, holder, &READ_10), 512);
    assert_eq!(from(&mut target, other, &READ_10).status, 0x18);
    assert_good(from(&mut target, holder, &[0x17, 0, 0, 0, 0, 0]), 0);
    assert_good(from(&mut target, other, &READ_10), 512);
    assert_good(from(&mut target, holder, &[0x16, 0, 0, 0, 0, 0]), 0);
    target.reset().unwrap();
    assert_sense(from(&mut target, other, &READ_10), 0x06, 0x29, 0x03);
    assert_good(from(&mut target, other, &READ_10), 512);
}

#[test]
fn prevent_allow_is_taken() {
    let mut target = target(1000);
    assert_good(none(&mut target, &[0x1E, 0, 0, 0, 1, 0]), 0);
    assert_good(none(&mut target, &[0x1E, 0, 0, 0, 0, 0]), 0);
}

#[test]
fn injected_answers_come_in_order_and_then_stop() {
    let mut target = target(1000);
    let sense = SenseData::new(SenseKey::HardwareError, 0x44, 0x00);
    target.set_status(status::BUSY, 1);
    target.inject_sense(sense, 2);
    target.set_status(status::TASK_SET_FULL, 1);
    target.inject_sense(sense, 0);
    let statuses: Vec<u8> = (0..5).map(|_| none(&mut target, &TEST_UNIT_READY).status).collect();
    assert_eq!(statuses, [0x08, 0x02, 0x02, 0x28, 0x00]);
    target.inject_sense(sense, 1);
    assert_sense(none(&mut target, &TEST_UNIT_READY), 0x04, 0x44, 0x00);
}

#[test]
fn a_power_cut_loses_cached_blocks_whole() {
    let mut target = target_4k(100);
    give(&mut target, &[0x0A, 0, 0, 0, 2, 0], &[1; 8192]);
    let mut asked = Vec::new();
    target
        .power_cut(&mut |offset| {
            asked.push(offset);
            offset == 4096
        })
        .unwrap();
    assert_eq!(asked, [0, 4096]);
    assert_sense(none(&mut target, &TEST_UNIT_READY), 0x06, 0x29, 0x00);
    let data = receive(&mut target, &[0x08, 0, 0, 0, 2, 0], 8192);
    assert_eq!(data[..4096], [0; 4096]);
    assert_eq!(data[4096..], [1; 4096]);
}

#[test]
#[should_panic(expected = "520-byte blocks")]
fn other_block_sizes_cannot_be_made() {
    let config = TargetConfig { block_size: 520, ..config() };
    Target::new(config, Disk::memory(1 << 20));
}

#[test]
fn a_disk_that_is_no_whole_number_of_blocks_is_named_before_it_is_used() {
    let four_k = TargetConfig { block_size: 4096, ..config() };
    assert_eq!(config().check(&Disk::memory(512)), Ok(()));
    assert_eq!(four_k.check(&Disk::memory(8192)), Ok(()));
    let refusal = four_k.check(&Disk::memory(4608)).unwrap_err();
    assert!(refusal.contains("enlarge it to 8192"), "{refusal}");
    assert!(config().check(&Disk::memory(0)).is_err());
    let odd = TargetConfig { block_size: 520, ..config() };
    assert!(odd.check(&Disk::memory(5200)).unwrap_err().contains("512 or 4096"));
}
