//! What the device does besides answering.

use fusion_mpt_mock::model::{FactsOverride, disk};

use super::DISK;
use crate::card::Card;
use crate::input::Input;
use crate::lies::Lie;

/// Operations below this one are the device's own.
const DRIVERS: u8 = 16;

/// Does what the device does until the driver's next operation, and returns that.
pub(super) fn next_operation(card: &Card<'_>, input: &Input<'_>) -> Option<u8> {
    while !input.is_empty() {
        let operation = input.u8();
        if operation >= DRIVERS {
            return Some(operation - DRIVERS);
        }
        device(card, input, operation);
    }
    None
}

fn device(card: &Card<'_>, input: &Input<'_>, operation: u8) {
    match operation {
        0 => card.lie(Lie::take(input)),
        1 => card.repent(),
        2 => {
            let (code, flags) = (input.u16(), input.u8());
            let data = input.bytes(usize::from(flags >> 1)).to_vec();
            card.with_model(|model| model.raise_event(code, data, flags & 1 != 0));
        }
        3 => {
            let (queue, descriptor) = (input.u8(), input.u64());
            card.with_model(|model| model.post_descriptor(queue, descriptor));
        }
        4 => {
            let (queue, smid, length) = (input.u8(), input.u16(), input.u8());
            let frame = input.bytes(length.into());
            card.with_model(|model| model.post_frame(queue, smid, frame));
        }
        5 => card.with_model(|model| model.fault(input.u16())),
        6 => {
            let (code, ms) = (input.u16(), input.u16());
            // MPI1 knows no such state, and the device then does nothing.
            let _ = card.with_model(|model| model.core_dump(code, u64::from(ms) * 1_000_000));
        }
        7 => card.with_model(|model| model.hold_commands(input.u8() & 1 != 0)),
        8 => card.with_model(|model| model.lose_scsi_replies(input.u8().into())),
        9 => card.with_model(|model| model.drop_replies(input.u8().into())),
        10 => card.with_model(|model| model.zero_reads(input.u8().into())),
        11 => card.with_model(|model| model.stop_answering(input.u8() & 1 != 0)),
        12 => {
            let slot = input.u8();
            card.with_model(|model| {
                if model.remove_disk(slot & 7).is_none() {
                    // The slot is free, or it is none.
                    let _ = model.add_disk(slot & 7, disk(slot.into(), DISK));
                }
            });
        }
        13 => card.work(input.count().into()),
        14 => {
            let facts = facts(input);
            card.with_model(|model| model.override_facts(facts));
        }
        _ => card.pass(u32::from(input.u16())),
    }
}

fn facts(input: &Input<'_>) -> FactsOverride {
    let which = input.u16();
    let has = |bit: u16| which & 1 << bit != 0;
    FactsOverride {
        credits: has(0).then(|| input.u16()),
        request_frame_words: has(1).then(|| input.u16()),
        reply_frame_words: has(2).then(|| input.u8()),
        reply_depth: has(3).then(|| input.u16()),
        max_chain_depth: has(4).then(|| input.u8()),
        chain_units: has(5).then(|| input.u16()),
        vectors: has(6).then(|| input.u8()),
        capabilities: has(7).then(|| input.u32()),
        ioc_status: has(8).then(|| input.u16()),
        message_words: has(9).then(|| input.u8()),
        function: has(10).then(|| input.u8()),
    }
}
