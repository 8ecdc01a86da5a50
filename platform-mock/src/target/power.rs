//! Commands about the logical unit's state: ready, started, and what it has to tell.

use super::Target;
use super::data::Task;
use super::operations::Operation;
use super::sense::{SenseData, SenseKey};

/// TEST UNIT READY (SPC-4 6.47): the medium was checked before.
pub(super) fn test_unit_ready(
    _: &mut Target,
    _: &mut Task<'_>,
    _: &Operation,
) -> Result<(), SenseData> {
    Ok(())
}

/// REQUEST SENSE (SPC-4 6.39): a pending unit attention, else why the medium cannot be accessed,
/// else what the disk predicts; in the format that DESC asks for.
pub(super) fn request_sense(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let mut sense = match target.attentions.take(task.initiator) {
        Some(attention) => attention,
        None => match target.check_ready() {
            Err(not_ready) => not_ready,
            Ok(()) => {
                let nothing = SenseData::new(SenseKey::NoSense, 0x00, 0x00);
                target.exception_sense().unwrap_or(nothing)
            }
        },
    };
    sense.descriptor = task.byte(1) & 0x01 != 0;
    task.reply(&sense.to_bytes(), operation.length(task.cdb))
}

/// START STOP UNIT (SBC-3 5.26): a stop flushes first, unless NO_FLUSH says not to.
pub(super) fn start_stop_unit(
    target: &mut Target,
    task: &mut Task<'_>,
    _: &Operation,
) -> Result<(), SenseData> {
    let start = task.byte(4) & 0x01 != 0;
    let no_flush = task.byte(4) & 0x04 != 0;
    if !start && !no_flush {
        target.disk.flush().map_err(|_| SenseData::WRITE_ERROR)?;
    }
    if start && !target.started {
        target.start_stop_cycles = target.start_stop_cycles.saturating_add(1);
    }
    target.started = start;
    Ok(())
}

/// SEND DIAGNOSTIC (SPC-4 6.42): the default self-test, or the one that SELF-TEST CODE names. Those
/// in the background have ended by the time that anybody can ask.
pub(super) fn send_diagnostic(
    target: &mut Target,
    task: &mut Task<'_>,
    _: &Operation,
) -> Result<(), SenseData> {
    let (code, default) = (task.byte(1) >> 5, task.byte(1) & 0x04 != 0);
    match (code, default) {
        (0, false) => Ok(()),
        (0, true) | (1 | 2 | 5 | 6, false) => {
            target.check_ready()?;
            target.self_test(code)
        }
        // None is under way that could be aborted.
        (4, false) => Ok(()),
        _ => Err(SenseData::invalid_field(1, Some(7))),
    }
}

/// PREVENT ALLOW MEDIUM REMOVAL (SPC-4 6.15): the medium cannot be removed anyway.
pub(super) fn prevent_allow(
    _: &mut Target,
    _: &mut Task<'_>,
    _: &Operation,
) -> Result<(), SenseData> {
    Ok(())
}
