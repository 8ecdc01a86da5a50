//! Commands by which the logical unit describes itself: capacity, logical units, commands.

use super::data::Task;
use super::operations::{self, OPERATIONS, Operation};
use super::sense::SenseData;
use super::{Target, TargetConfig};

/// READ CAPACITY(10) (SBC-3 5.15): all ones where the last LBA does not fit.
pub(super) fn read_capacity_10(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let last = u32::try_from(target.blocks() - 1).unwrap_or(u32::MAX);
    let mut data = [0; 8];
    data[..4].copy_from_slice(&last.to_be_bytes());
    data[4..].copy_from_slice(&target.config.block_size.to_be_bytes());
    task.reply(&data, operation.length(task.cdb))
}

/// READ CAPACITY(16) (SBC-3 5.16).
pub(super) fn read_capacity_16(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let mut data = [0; 32];
    data[..8].copy_from_slice(&(target.blocks() - 1).to_be_bytes());
    data[8..12].copy_from_slice(&target.config.block_size.to_be_bytes());
    data[13] = target.config.physical_block_exponent.min(15);
    if target.config.thin {
        data[14] = 0xC0; // LBPME, LBPRZ
    }
    task.reply(&data, operation.length(task.cdb))
}

/// REPORT LUNS (SPC-4 6.33): LUN 0, and no well-known logical unit.
pub(super) fn report_luns(
    _: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let allocation = operation.length(task.cdb);
    if allocation < 16 {
        return Err(SenseData::invalid_field(6, None));
    }
    let mut data = vec![0; 8];
    match task.byte(2) {
        0x00 | 0x02 => {
            data[3] = 8;
            data.extend_from_slice(&[0; 8]);
        }
        0x01 => {}
        _ => return Err(SenseData::invalid_field(2, None)),
    }
    task.reply(&data, allocation)
}

/// A command timeouts descriptor (SPC-4 6.35.4) that names no timeout.
const TIMEOUTS: [u8; 12] = [0x00, 0x0A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// REPORT SUPPORTED OPERATION CODES (SPC-4 6.35).
pub(super) fn report_operation_codes(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let timeouts = task.byte(2) & 0x80 != 0;
    let opcode = task.byte(3);
    let action = u16::from_be_bytes([task.byte(4), task.byte(5)]);
    let config = &target.config;
    let entries = operations::with_opcode(opcode);
    let has_actions = entries.iter().any(|entry| entry.service_action.is_some());
    let option = task.byte(2) & 0x07;
    let data = match option {
        0 => all_commands(config, timeouts),
        1 if has_actions => return Err(SenseData::invalid_field(2, Some(2))),
        2 if !entries.is_empty() && !has_actions => {
            return Err(SenseData::invalid_field(2, Some(2)));
        }
        1..=3 => {
            let wanted = match option {
                2 => Some(action),
                3 if has_actions => Some(action),
                3 if action != 0 => return one_command(None, timeouts, task, operation),
                _ => None,
            };
            let entry = entries
                .iter()
                .find(|entry| entry.service_action == wanted && entry.exists_on(config));
            return one_command(entry, timeouts, task, operation);
        }
        _ => return Err(SenseData::invalid_field(2, Some(2))),
    };
    task.reply(&data, operation.length(task.cdb))
}

fn all_commands(config: &TargetConfig, timeouts: bool) -> Vec<u8> {
    let mut list = vec![0; 4];
    for entry in OPERATIONS.iter().filter(|entry| entry.exists_on(config)) {
        let [action_high, action_low] = entry.service_action.unwrap_or(0).to_be_bytes();
        let flags = u8::from(timeouts) << 1 | u8::from(entry.service_action.is_some());
        let length = entry.usage.len() as u8;
        list.extend_from_slice(&[entry.opcode, 0, action_high, action_low, 0, flags, 0, length]);
        if timeouts {
            list.extend_from_slice(&TIMEOUTS);
        }
    }
    let length = list.len() as u32 - 4;
    list[..4].copy_from_slice(&length.to_be_bytes());
    list
}

fn one_command(
    entry: Option<&Operation>,
    timeouts: bool,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    const NOT_SUPPORTED: u8 = 0x01;
    const AS_THE_STANDARD_SAYS: u8 = 0x03;
    let data = match entry {
        None => vec![0, NOT_SUPPORTED, 0, 0],
        Some(entry) => {
            let support = u8::from(timeouts) << 7 | AS_THE_STANDARD_SAYS;
            let mut data = vec![0, support, 0, entry.usage.len() as u8];
            data.extend_from_slice(entry.usage);
            if timeouts {
                data.extend_from_slice(&TIMEOUTS);
            }
            data
        }
    };
    task.reply(&data, operation.length(task.cdb))
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4 6.36): ABORT TASK, ABORT TASK SET, CLEAR TASK
/// SET, LOGICAL UNIT RESET, QUERY TASK; QUERY TASK SET, I_T NEXUS RESET. The controller carries
/// them out.
pub(super) fn report_task_management(
    _: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let allocation = operation.length(task.cdb);
    if allocation < 4 {
        return Err(SenseData::invalid_field(6, None));
    }
    let mut data = vec![0xDC, 0x03, 0x00, 0x00];
    let extended = task.byte(2) & 0x80 != 0;
    if extended {
        data[3] = 0x0C;
        data.extend_from_slice(&[0; 12]);
    }
    task.reply(&data, allocation)
}
