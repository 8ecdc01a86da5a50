//! Configuration page requests (mpi_cnfg.h, mpi2_cnfg.h, "Config message").

use crate::memory::DeviceMemory;

use super::chip::Chip;
use super::devices::Devices;
use super::knobs::PageLie;
use super::message::{Message, byte, le16, le32, le64};
use super::pages::{self, NoPage, Settings, page_type};
use super::queues::Request;

const INVALID_ACTION: u16 = 0x20;
const INVALID_TYPE: u16 = 0x21;
const INVALID_PAGE: u16 = 0x22;
const INVALID_DATA: u16 = 0x23;
const CANT_COMMIT: u16 = 0x25;
/// The page could not be written to where the host wants it.
const INVALID_SGL: u16 = 0x03;

const ACTION_HEADER: u8 = 0;
const ACTION_WRITE_CURRENT: u8 = 2;
const ACTION_DEFAULT: u8 = 3;
const ACTION_WRITE_NVRAM: u8 = 4;
const ACTION_READ_DEFAULT: u8 = 5;
const ACTION_READ_NVRAM: u8 = 6;
const LAST_ACTION: u8 = 6;

/// Whether a configuration page request may change what a page says.
pub(crate) fn may_change(frame: &[u8]) -> bool {
    matches!(byte(frame, 0), ACTION_WRITE_CURRENT | ACTION_DEFAULT | ACTION_WRITE_NVRAM)
}

/// Answers a configuration page request.
pub(crate) fn answer(
    memory: &dyn DeviceMemory,
    chip: &Chip,
    devices: &Devices,
    settings: &mut Settings,
    request: &Request,
    lie: Option<PageLie>,
) -> Message {
    let frame = &request.frame;
    let mpi1 = chip.is_mpi1();
    let reply = Message::new(0x18, frame[3]).with8(0, frame[0]).with(8, &frame[8..12]);
    // MPI1 gives back the header that it was asked with, and the length that it found.
    let reply = reply.with(0x14, &frame[0x14..0x18]);
    let basic = frame[0x17] & 0x0f;
    let extended = basic == page_type::EXTENDED;
    let kind = if extended { frame[6] } else { basic };
    if extended && kind <= page_type::EXTENDED {
        return reply.with16(0x0e, INVALID_TYPE);
    }
    let reply = if extended { reply.with8(6, kind) } else { reply };
    let action = frame[0];
    if action > LAST_ACTION {
        return reply.with16(0x0e, INVALID_ACTION);
    }
    let address = le32(frame, 0x18);
    let number = frame[0x16];
    let page = if action == ACTION_HEADER {
        pages::header(chip, devices, settings, kind, number, address)
    } else {
        pages::build(chip, devices, settings, kind, number, address)
    };
    let set = match action {
        ACTION_READ_DEFAULT => None,
        ACTION_READ_NVRAM => settings.read(kind, number, true),
        _ => settings.read(kind, number, false),
    };
    let page = page.map(|page| set.cloned().unwrap_or(page));
    let page = match lie {
        None => page,
        Some(lie) => lie(kind, address, page.ok()).ok_or(NoPage::Number),
    };
    let page = match page {
        Ok(page) => page,
        Err(NoPage::Type) => return reply.with16(0x0e, INVALID_TYPE),
        Err(NoPage::Number) => return reply.with16(0x0e, INVALID_PAGE),
    };
    let writes = matches!(action, ACTION_WRITE_CURRENT | ACTION_WRITE_NVRAM);
    if writes && !Settings::takes(chip, kind, number) {
        return reply.with16(0x0e, CANT_COMMIT);
    }
    if action == ACTION_DEFAULT {
        settings.forget(kind, number);
    }
    if !matches!(action, ACTION_HEADER | ACTION_DEFAULT) {
        // One MPI element, on all generations.
        let word = le32(frame, 0x1c);
        let wide = word >> 24 & 2 != 0;
        let at = if wide { le64(frame, 0x20) } else { le32(frame, 0x20).into() };
        let bytes = page.len().min((word & 0x00ff_ffff) as usize);
        if writes {
            let mut body = vec![0; bytes];
            if memory.read(at, &mut body).is_err() {
                return reply.with16(0x0e, INVALID_SGL);
            }
            // A page that says to be another is none.
            if body.len() < 4 || body[2] != number || body[3] & 0x0f != basic {
                return reply.with16(0x0e, INVALID_DATA);
            }
            settings.write(&page, &body, action == ACTION_WRITE_NVRAM);
        } else if bytes > 0 && memory.write(at, &page[..bytes]).is_err() {
            return reply.with16(0x0e, INVALID_SGL);
        }
    }
    match (mpi1, extended) {
        (true, true) => reply.with16(4, le16(&page, 4)),
        (true, false) => reply.with8(0x15, byte(&page, 1)),
        (false, true) => reply.with(0x14, &page[..4]).with16(4, le16(&page, 4)),
        (false, false) => reply.with(0x14, &page[..4]),
    }
}
