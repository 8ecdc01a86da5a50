//! What every log page of a SCSI disk has (SPC-5 7.3.2): how it is asked for, and its parameters.

use fusion_mpt::scsi::Cdb;
use fusion_mpt::targets::TargetId;

use super::unless_fatal;
use crate::disk::ask;
use crate::error::Error;
use crate::host::{Buffer, Host};

/// Bytes of a page that are asked for at most: LOG SENSE has 16 bits for them.
const PAGE_BYTES: u16 = 0xfffc;

/// Asks for a page; `None` if the disk does not have it.
pub(super) fn page(
    host: &mut dyn Host,
    buffer: &Buffer,
    unit: (TargetId, u8),
    page: u8,
) -> Result<Option<Vec<u8>>, Error> {
    let bytes = PAGE_BYTES.min(u16::try_from(buffer.bytes()).unwrap_or(u16::MAX));
    let [high, low] = bytes.to_be_bytes();
    // PC 01b: cumulative values.
    let cdb = [0x4d, 0, 0x40 | page & 0x3f, 0, 0, 0, 0, high, low, 0];
    let Some(cdb) = Cdb::from_bytes(&cdb) else { return Ok(None) };
    let asked = ask(host, buffer, unit, cdb, bytes.into());
    let answer = unless_fatal(host, asked)?;
    // Some answer for another page when they do not have the one.
    Ok(answer.filter(|answer| answer.first().is_some_and(|code| code & 0x3f == page)))
}

/// The parameters of a page: code and value of each, as far as the bytes reach.
pub(super) fn parameters(page: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let length = match page {
        [_, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    let mut rest = page.get(4..).unwrap_or_default();
    rest = rest.get(..length).unwrap_or(rest);
    std::iter::from_fn(move || {
        let [high, low, _control, bytes, after @ ..] = rest else { return None };
        let value = after.get(..usize::from(*bytes))?;
        rest = after.get(usize::from(*bytes)..).unwrap_or_default();
        Some((u16::from_be_bytes([*high, *low]), value))
    })
}

/// A value as a number; `None` if it is longer than a number can be, or has no bytes.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    (1..=8)
        .contains(&value.len())
        .then(|| value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The number of the parameter with this code.
pub(super) fn numbered(page: &[u8], code: u16) -> Option<u64> {
    parameters(page).find(|(found, _)| *found == code).and_then(|(_, value)| number(value))
}

/// The same, where all ones means that it is not kept.
pub(super) fn told(page: &[u8], code: u16) -> Option<u64> {
    numbered(page, code).filter(|number| *number != u64::from(u32::MAX))
}
