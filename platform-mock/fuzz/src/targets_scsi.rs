//! The SCSI disk against any command with any data.
//!
//! What is checked: nothing panics, no more is transferred than the initiator provided, the sense
//! data goes with its status, and the disk keeps its size.

use fusion_mpt_mock::disk::Disk;
use fusion_mpt_mock::target::{Command, Target, TargetConfig, status};

use crate::input::Input;

/// Bytes of the disk.
const DISK: u64 = 256 << 10;
/// Bytes of data that an initiator provides, at most.
const MOST_DATA: u64 = 128 << 10;
/// Commands, at most.
const MOST_COMMANDS: usize = 200;

/// Does what `data` says.
pub fn run(data: &[u8]) {
    let input = Input::new(data);
    let shape = input.u8();
    let config = TargetConfig {
        block_size: if shape & 1 == 0 { 512 } else { 4096 },
        sata: shape & 2 != 0,
        thin: shape & 4 != 0,
        power_on_attention: shape & 8 != 0,
        ..TargetConfig::default()
    };
    let mut target = Target::new(config, Disk::memory(DISK));
    for _ in 0..MOST_COMMANDS {
        if input.is_empty() {
            break;
        }
        match input.u8() {
            // Between commands, things happen to a disk.
            0xf0 => target.set_ready(input.u8() & 1 != 0),
            0xf1 => target.inject_medium_error(input.u8().into(), input.u8().into()),
            0xf2 => target.disk_mut().set_write_protected(input.u8() & 1 != 0),
            // A disk in memory does not fail.
            0xf3 => _ = target.reset(),
            0xf4 => {
                let keep = u64::from(input.u8());
                _ = target.power_cut(&mut |offset| offset / 512 % 3 == keep % 3);
            }
            flags => execute(&mut target, &input, flags),
        }
    }
    assert_eq!(target.disk().bytes(), DISK);
}

fn execute(target: &mut Target, input: &Input<'_>, flags: u8) {
    // As long as its opcode's group says, or as an initiator gets it wrong.
    let first = input.u8();
    let length = match (flags & 3, first >> 5) {
        (3, _) => usize::from(flags >> 4),
        (_, 0) => 6,
        (_, 1 | 2) => 10,
        (_, 3) => 32,
        (_, 4) => 16,
        _ => 12,
    };
    let mut cdb = vec![first];
    cdb.extend_from_slice(input.bytes(length.saturating_sub(1)));
    cdb.resize(length, 0);
    let (_, wanted) = target.data_phase(&cdb);
    let provided = match flags >> 2 & 3 {
        0 | 1 => wanted,
        2 => wanted / 2,
        _ => u64::from(input.u16()),
    };
    let mut data = vec![0; provided.min(MOST_DATA) as usize];
    let given = input.bytes(usize::from(input.u8()).min(data.len()));
    data[..given.len()].copy_from_slice(given);
    let command = Command {
        lun: [0, u8::from(flags == 0xef), 0, 0, 0, 0, 0, 0],
        cdb: &cdb,
        initiator: u64::from(flags >> 6),
    };
    let provided = data.len() as u64;
    let response = target.execute(&command, &mut data);
    assert!(response.transferred <= provided, "{response:?} of {provided} bytes");
    assert_eq!(response.sense.is_some(), response.status == status::CHECK_CONDITION);
}
