//! Each command against bytes written by hand from the standards.

mod ata;
mod blocks;
mod describe;
mod durability;
mod health;
mod mode_and_log;
mod provisioning;
mod reservations;
mod state;
mod table;

use super::*;

const TB: u64 = 1_000_000_000_000;
const INITIATOR: u64 = 0x5525_4000_0000_0001;

fn config() -> TargetConfig {
    TargetConfig { power_on_attention: false, ..TargetConfig::default() }
}

/// A ready target of `blocks` blocks of 512 bytes.
fn target(blocks: u64) -> Target {
    Target::new(config(), Disk::memory(blocks * 512))
}

/// A ready target of `blocks` blocks of 4096 bytes.
fn target_4k(blocks: u64) -> Target {
    let config = TargetConfig { block_size: 4096, physical_block_exponent: 0, ..config() };
    Target::new(config, Disk::memory(blocks * 4096))
}

fn send(target: &mut Target, cdb: &[u8], data: &mut dyn DataBuffer) -> Response {
    let command = Command { lun: [0; 8], cdb, initiator: INITIATOR };
    target.execute(&command, data)
}

/// A command with no data.
fn none(target: &mut Target, cdb: &[u8]) -> Response {
    send(target, cdb, &mut Vec::new())
}

/// A command that must succeed, with room for `room` bytes: gives what was moved.
fn receive(target: &mut Target, cdb: &[u8], room: usize) -> Vec<u8> {
    let mut data = vec![0xEE; room];
    let response = send(target, cdb, &mut data);
    assert_eq!(response.status, status::GOOD, "{:x?}", response.sense);
    assert!(data[response.transferred as usize..].iter().all(|byte| *byte == 0xEE));
    data.truncate(response.transferred as usize);
    data
}

/// A command with data out.
fn give(target: &mut Target, cdb: &[u8], bytes: &[u8]) -> Response {
    send(target, cdb, &mut bytes.to_vec())
}

#[track_caller]
fn assert_good(response: Response, transferred: u64) {
    let expected = Response { status: status::GOOD, sense: None, transferred };
    assert_eq!(response, expected);
}

/// Sense key, additional sense code and qualifier of a CHECK CONDITION.
#[track_caller]
fn assert_sense(response: Response, key: u8, asc: u8, ascq: u8) {
    assert_eq!(response.status, status::CHECK_CONDITION);
    let bytes = response.sense.unwrap().to_bytes();
    assert_eq!([bytes[2], bytes[12], bytes[13]], [key, asc, ascq]);
}

/// INVALID FIELD IN CDB whose field pointer is `pointer` (bytes 15 to 17).
#[track_caller]
fn assert_invalid_field(response: Response, pointer: [u8; 3]) {
    assert_sense(response, 0x05, 0x24, 0x00);
    assert_eq!(response.sense.unwrap().to_bytes()[15..18], pointer);
}

fn information(response: Response) -> Option<u64> {
    response.sense.unwrap().information
}
