//! What a caller asks of the driver.

use fusion_mpt::pages::PageRequest;
use fusion_mpt::platform::{BusAddr, DmaRegion};
use fusion_mpt::recovery::{InFlight, Policy};
use fusion_mpt::request::{Command, TaskAttribute};
use fusion_mpt::scsi::{Cdb, Lun};
use fusion_mpt::sgl::{Direction, Segment};
use fusion_mpt::wire::config::{ExtPageType, PageId, PageType};

use crate::input::Input;
use crate::memory::Region;

/// Limits of recovery: shorter than usual, so that much happens.
pub(super) fn policy(input: &Input<'_>) -> Policy {
    let how = input.u8();
    let limit_ms = || u32::from(input.u8()) * 50;
    Policy {
        command_limit_ms: limit_ms(),
        abort_limit_ms: limit_ms(),
        unit_reset_limit_ms: limit_ms(),
        target_reset_limit_ms: limit_ms(),
        answer_limit_ms: limit_ms(),
        own_request_limit_ms: limit_ms(),
        queue_limit_ms: u32::from(how >> 4) * 10,
        drain_limit_ms: limit_ms(),
        flush_limit_ms: limit_ms(),
        reset_attempts: how >> 1 & 7,
        in_flight: if how & 1 == 0 { InFlight::Fail } else { InFlight::HandBack },
    }
}

/// A page that is asked for.
pub(super) fn page(input: &Input<'_>) -> PageRequest {
    let (kind, number, address) = (input.u8(), input.u8(), input.u32());
    let page = match kind {
        0..=15 => PageId::plain(PageType(kind), number),
        _ => PageId::extended(ExtPageType(kind), number),
    };
    PageRequest::new(page, address)
}

/// A command that a caller asks for.
pub(super) struct Asked {
    cdb: Cdb,
    segments: Vec<Segment>,
    direction: Direction,
    data_length: u32,
    attribute: TaskAttribute,
    tag: Option<u16>,
    lun: Lun,
    timeout_ms: u32,
}

impl Asked {
    pub(super) fn take(input: &Input<'_>, data: &Region) -> Self {
        let (how, lba) = (input.u8(), input.u8());
        let blocks = u32::from(how & 3);
        let direction = match how >> 2 & 3 {
            0 | 1 => Direction::Read,
            2 => Direction::Write,
            _ => Direction::None,
        };
        let cdb = match direction {
            Direction::Read => Cdb::read(lba.into(), blocks),
            Direction::Write => Cdb::write(lba.into(), blocks),
            Direction::None => Cdb::test_unit_ready(),
        };
        let whole = Segment { address: data.bus(), length: blocks * 512 };
        let (cdb, segments) = match how >> 4 & 3 {
            // As callers ask.
            0 | 1 => (cdb, vec![whole]),
            // In pieces.
            2 => (cdb, (0..input.count()).map(|at| piece(data, u64::from(at) * 8, 8)).collect()),
            // Whatever.
            _ => {
                let length = [6, 10, 12, 16, 32][usize::from(lba) % 5];
                let mut bytes = [0; 32];
                let taken = input.bytes(length);
                bytes[..taken.len()].copy_from_slice(taken);
                let segments = (0..input.u8() & 15)
                    .map(|_| Segment { address: BusAddr(input.u64()), length: input.u32() })
                    .collect();
                (Cdb::from_bytes(&bytes[..length]).unwrap_or(cdb), segments)
            }
        };
        let sum = segments.iter().fold(0u32, |sum, segment| sum.wrapping_add(segment.length));
        let more = how & 0x40 != 0;
        Self {
            cdb,
            segments,
            direction,
            data_length: if more { input.u32() } else { sum },
            attribute: match how >> 7 {
                0 => TaskAttribute::Simple,
                _ => TaskAttribute::HeadOfQueue,
            },
            tag: (how & 0x80 != 0).then(|| u16::from(input.u8() & 31)),
            lun: Lun::peripheral(if more { lba } else { 0 }),
            timeout_ms: if more { input.u32() } else { 0 },
        }
    }

    pub(super) fn command(&self, cookie: u64) -> Command<'_> {
        Command {
            lun: self.lun,
            cdb: &self.cdb,
            direction: self.direction,
            data_length: self.data_length,
            segments: &self.segments,
            attribute: self.attribute,
            tag: self.tag,
            cookie,
            timeout_ms: self.timeout_ms,
        }
    }
}

fn piece(data: &Region, offset: u64, length: u32) -> Segment {
    Segment { address: data.bus().offset(offset), length }
}
