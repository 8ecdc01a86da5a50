//! The knobs that need nothing but the model.

use crate::model::{DeviceStatus, LogEntry, MemberState, Model};
use crate::target::{Exception, SenseData, SenseKey, Target};

use super::super::message::{Member, Request};
use super::{Answer, no_disk, ranges};

/// The most log entries at a time: the host is told of them one by one.
const MOST_LOG_ENTRIES: u16 = 10_000;
/// What fits into an event's reply frame.
const MOST_EVENT_BYTES: usize = 100;

/// Turns a knob of the controller, of a disk or of what stands between them.
pub(super) fn turn(model: &mut Model, request: &Request) -> Answer {
    match request {
        Request::Sense { .. }
        | Request::ScsiStatus { .. }
        | Request::MediumError { .. }
        | Request::Ready { .. } => turn_disk(model, request),
        Request::Member { .. } | Request::Smart { .. } => turn_fabric(model, request),
        _ => turn_controller(model, request),
    }
}

/// The disks' own knobs.
fn turn_disk(model: &mut Model, request: &Request) -> Answer {
    match *request {
        Request::Sense { slot, key, asc, ascq, count } => {
            let sense = SenseData::new(sense_key(key)?, asc, ascq);
            target(model, slot)?.inject_sense(sense, count as usize);
            Ok(format!(
                "the next {count} commands of slot {slot} end with sense {key:x}/{asc:02x}/{ascq:02x}"
            ))
        }
        Request::ScsiStatus { slot, status, count } => {
            if matches!(status, 0x00 | 0x02) {
                return Err(format!(
                    "status {status:#04x} is not for this knob: GOOD is no fault, and for CHECK CONDITION use the knob sense"
                ));
            }
            target(model, slot)?.set_status(status, count as usize);
            Ok(format!("the next {count} commands of slot {slot} end with status {status:#04x}"))
        }
        Request::MediumError { slot, lba, blocks } => {
            let target = target(model, slot)?;
            let end = target.blocks();
            if blocks == 0 || lba.checked_add(blocks).is_none_or(|after| after > end) {
                return Err(format!(
                    "{blocks} blocks from {lba} on are not on the disk in slot {slot}, which has {end}; choose others"
                ));
            }
            target.inject_medium_error(lba, blocks);
            Ok(format!(
                "{blocks} blocks from {lba} on of slot {slot} cannot be read until they are written"
            ))
        }
        Request::Ready { slot, ready } => {
            target(model, slot)?.set_ready(ready);
            let not = if ready { "" } else { "not " };
            Ok(format!("the disk in slot {slot} is {not}ready"))
        }
        _ => Err("this knob is not a disk's".into()),
    }
}

/// What stands between the controller and a disk.
fn turn_fabric(model: &mut Model, request: &Request) -> Answer {
    match *request {
        Request::Member { slot, state } => {
            let (new, word) = match state {
                Member::Optimal => (MemberState::Optimal, "optimal"),
                Member::Rebuilding => (MemberState::Rebuilding, "rebuilding"),
                Member::Failed => (MemberState::Failed, "failed"),
            };
            let before = model.set_member_state(slot, new);
            before.ok_or_else(|| format!("the disk in slot {slot} is no volume's member"))?;
            Ok(format!("the member in slot {slot} is {word}"))
        }
        Request::Smart { .. } if model.chip().is_mpi1() => {
            Err("this event is MPI 2's; raise one by its number with the knob event".into())
        }
        Request::Smart { slot, asc, ascq } => {
            if !model.raise_device_status(slot, DeviceStatus::Smart { asc, ascq }) {
                return Err(no_disk(slot));
            }
            // Whoever asks the disk is told the same; 00 takes it back.
            let exception = (asc != 0).then_some(Exception { asc, ascq });
            target(model, slot)?.predict_failure(exception);
            let does = if asc == 0 { "no longer predicts" } else { "predicts" };
            Ok(format!("the disk in slot {slot} {does} its failure"))
        }
        _ => Err("this knob is none between controller and disks".into()),
    }
}

/// The controller's own knobs.
fn turn_controller(model: &mut Model, request: &Request) -> Answer {
    let on_off = |on: bool, yes: &str, no: &str| Ok(if on { yes } else { no }.to_owned());
    match request {
        Request::SlowDown { slot, ns } => {
            if let Some(slot) = *slot
                && !model.slots().contains(&slot)
            {
                let slots = ranges(&model.slots());
                return Err(format!("there is no slot {slot}; choose one of {slots}"));
            }
            model.slow_down(*slot, *ns);
            let which = slot.map_or("every SCSI command".into(), |slot| {
                format!("every SCSI command of slot {slot}")
            });
            Ok(format!("{which} takes {ns} ns longer"))
        }
        Request::Hold { on } => {
            model.hold_commands(*on);
            on_off(*on, "SCSI commands are held", "SCSI commands go on")
        }
        Request::DropReplies { count, any: true } => {
            model.drop_replies(*count);
            Ok(format!("the next {count} replies of any kind will be lost"))
        }
        Request::DropReplies { count, any: false } => {
            model.lose_scsi_replies(*count);
            Ok(format!("the replies to the next {count} SCSI commands will be lost"))
        }
        Request::Fault { code } => {
            model.fault(*code);
            Ok(format!("the IOC is in FAULT with code {code:#06x}"))
        }
        Request::CoreDump { code, ms } => {
            model
                .core_dump(*code, ms.saturating_mul(1_000_000))
                .map_err(|error| error.to_string())?;
            Ok(format!("the IOC is in COREDUMP with code {code:#06x}, and in FAULT in {ms} ms"))
        }
        Request::StopAnswering { on } => {
            model.stop_answering(*on);
            on_off(*on, "the firmware is stopped", "the firmware goes on")
        }
        Request::Yank { on } => {
            model.all_ones(*on);
            on_off(*on, "the card is yanked", "the card is back")
        }
        Request::ZeroReads { count } => {
            model.zero_reads(*count);
            Ok(format!("the next {count} reads of doorbell and status registers answer zero"))
        }
        Request::FillLog { count, .. } if *count > MOST_LOG_ENTRIES => Err(format!(
            "{count} log entries are too many at a time; say {MOST_LOG_ENTRIES} at most"
        )),
        Request::FillLog { count, qualifier, acknowledge } => {
            let entry = LogEntry { qualifier: *qualifier, ..LogEntry::default() };
            model.fill_log(*count, &entry, *acknowledge);
            Ok(format!("{count} log entries are on their way to the host"))
        }
        Request::Event { data, .. } if data.len() > MOST_EVENT_BYTES => Err(format!(
            "{} bytes do not fit into an event; give {MOST_EVENT_BYTES} at most",
            data.len()
        )),
        Request::Event { code, data, acknowledge } => {
            model.raise_event(*code, data.clone(), *acknowledge);
            Ok(format!("event {code:#06x} is on its way, if the driver asked for it"))
        }
        _ => Err("this knob is not the controller's".into()),
    }
}

fn target(model: &mut Model, slot: u8) -> Result<&mut Target, String> {
    model.device(slot).map(|device| &mut device.target).ok_or_else(|| no_disk(slot))
}

fn sense_key(key: u8) -> Result<SenseKey, String> {
    Ok(match key {
        0x0 => SenseKey::NoSense,
        0x1 => SenseKey::RecoveredError,
        0x2 => SenseKey::NotReady,
        0x3 => SenseKey::MediumError,
        0x4 => SenseKey::HardwareError,
        0x5 => SenseKey::IllegalRequest,
        0x6 => SenseKey::UnitAttention,
        0x7 => SenseKey::DataProtect,
        0xb => SenseKey::AbortedCommand,
        0xe => SenseKey::Miscompare,
        _ => {
            return Err(format!(
                "sense key {key:#x} is none that a disk gives; choose 0 to 7, 0xb or 0xe"
            ));
        }
    })
}
