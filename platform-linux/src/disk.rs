//! A disk behind a controller: what it is, and its blocks.

use std::time::Duration;

use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Direction;
use fusion_mpt::targets::{Target, TargetId};

use crate::cdb;
use crate::ended::Ended;
use crate::error::Error;
use crate::host::{Buffer, Host, KEPT_COOKIE, OWN_COOKIE, Request};
use crate::interrupt;
use crate::silence::{self, Silence};
use crate::tries::Tries;

/// How long a command may take before a request to stop no longer waits for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most data that one command of ours moves.
pub const MOST_BYTES: u32 = 1 << 20;

/// Runs one command to its end, once, whatever it is.
///
/// # Errors
///
/// [`Error::Failed`] when it cannot be sent, when the controller fails, and when no answer comes;
/// [`Error::Interrupted`] when the user will not wait for it.
pub fn run_once(host: &mut dyn Host, request: &Request<'_>) -> Result<Ended, Error> {
    let mut silence = Silence::begin(host);
    let patient = host.now() + PATIENCE;
    let late = || {
        Error::failed(format!(
            "target {} has not answered {} within {} s; the controller is reset now, try again and look at the disk if it happens twice",
            request.target.0,
            cdb::describe(request.cdb),
            silence::LIMIT.as_secs()
        ))
    };
    while !host.submit(request)? {
        if poll_once(host, None)?.0 == 0 {
            host.pause();
        }
        if silence.is_too_long(host) {
            return Err(late());
        }
    }
    loop {
        let (found, ended) = poll_once(host, Some(request.cookie))?;
        if let Some(ended) = ended {
            return Ok(ended);
        }
        if found == 0 {
            host.pause();
            if silence.is_too_long(host) {
                return Err(late());
            }
            if host.now() > patient && interrupt::asked() {
                return Err(Error::Interrupted);
            }
        }
    }
}

/// Polls once: how many replies came, and how the command with that cookie ended, if it did. What is
/// somebody else's is kept for them.
fn poll_once(host: &mut dyn Host, cookie: Option<u64>) -> Result<(u32, Option<Ended>), Error> {
    let (mut ended, mut others) = (None, Vec::new());
    let found = host.poll(&mut |completion| {
        let sense = completion.sense.to_vec();
        let this = Ended { outcome: completion.outcome, sense };
        if Some(completion.cookie) == cookie {
            ended = Some(this);
        } else if (KEPT_COOKIE..OWN_COOKIE).contains(&completion.cookie) {
            others.push((completion.cookie, this));
        }
    });
    others.into_iter().for_each(|(cookie, ended)| host.keep(cookie, ended));
    Ok((found?, ended))
}

/// Runs one command to its end, again where the device asks for patience and where recovery has ended
/// it. Only for commands that may run twice.
///
/// # Errors
///
/// As [`run_once`]; [`Error::Failed`] with the status and sense when the device did not answer GOOD.
pub fn run(host: &mut dyn Host, request: &Request<'_>) -> Result<Ended, Error> {
    let ended = try_run(host, request)?;
    match ended.outcome.is_good() {
        true => Ok(ended),
        false => Err(refused(request.target, request.cdb, &ended)),
    }
}

/// The same, where the caller looks at how it ended, good or not.
fn try_run(host: &mut dyn Host, request: &Request<'_>) -> Result<Ended, Error> {
    let mut tries = Tries::new();
    loop {
        let ended = run_once(host, request)?;
        if ended.outcome.is_good() {
            return Ok(ended);
        }
        let by_recovery = ended.was_ended_by_recovery();
        if !tries.again(&ended) {
            return Ok(ended);
        }
        if by_recovery {
            host.note_sent_again(1);
        }
        wait(host, Duration::from_millis(1 << (tries.count() + 1).min(5)))?;
    }
}

/// Lets time pass on the bus.
///
/// # Errors
///
/// As [`poll`](crate::host::CommandQueue::poll).
pub fn wait(host: &mut dyn Host, time: Duration) -> Result<(), Error> {
    let until = host.now() + time;
    while host.now() < until {
        if poll_once(host, None)?.0 == 0 {
            host.pause();
        }
    }
    Ok(())
}

/// Takes the unit attentions that a logical unit has for a new initiator.
///
/// # Errors
///
/// As [`run_once`]; what the device answers is no error here.
pub fn settle(host: &mut dyn Host, unit: (TargetId, u8)) -> Result<(), Error> {
    let cdb = Cdb::test_unit_ready();
    let request = Request::without_data(unit, cdb.as_bytes());
    let mut tries = Tries::new();
    while tries.again(&run_once(host, &request)?) {}
    Ok(())
}

/// The sentence for a command that did not end well.
#[must_use]
pub fn refused(target: TargetId, cdb: &[u8], ended: &Ended) -> Error {
    Error::failed(format!(
        "target {} refused {}: {}",
        target.0,
        cdb::describe(cdb),
        ended.describe()
    ))
}

/// Runs a command that answers with data, and returns as much of it as came.
///
/// # Errors
///
/// As [`run`].
pub fn ask(
    host: &mut dyn Host,
    buffer: &Buffer,
    unit: (TargetId, u8),
    cdb: Cdb,
    bytes: u32,
) -> Result<Vec<u8>, Error> {
    try_ask(host, buffer, unit, cdb, bytes)?
        .map_err(|ended| refused(unit.0, cdb.as_bytes(), &ended))
}

/// The same for a caller to whom it matters why there is no answer: how the command ended, then.
///
/// # Errors
///
/// As [`run_once`].
pub(crate) fn try_ask(
    host: &mut dyn Host,
    buffer: &Buffer,
    (target, lun): (TargetId, u8),
    cdb: Cdb,
    bytes: u32,
) -> Result<Result<Vec<u8>, Ended>, Error> {
    let request = Request {
        target,
        lun,
        cdb: cdb.as_bytes(),
        direction: Direction::Read,
        buffer: Some(buffer),
        offset: 0,
        bytes,
        cookie: 0,
    };
    let ended = try_run(host, &request)?;
    if !ended.outcome.is_good() {
        return Ok(Err(ended));
    }
    let mut data = vec![0; (ended.transferred() as usize).min(buffer.bytes())];
    buffer.read(0, &mut data);
    Ok(Ok(data))
}

/// What a disk says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its target id.
    pub target: TargetId,
    /// Its logical unit.
    pub lun: u8,
    /// T10 vendor identification.
    pub vendor: String,
    /// Product identification.
    pub product: String,
    /// Product revision level.
    pub revision: String,
    /// Unit serial number, empty if it gives none.
    pub serial: String,
    /// Peripheral device type: 0 is a disk.
    pub device_type: u8,
    /// Blocks.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Whether its volatile write cache is on; `None` if it does not say.
    pub write_cache: Option<bool>,
}

impl Disk {
    /// Asks the device what it is.
    ///
    /// # Errors
    ///
    /// What the commands met with; [`Error::Failed`] for a capacity that cannot be.
    pub fn identify(
        host: &mut dyn Host,
        buffer: &Buffer,
        target: TargetId,
        lun: u8,
    ) -> Result<Self, Error> {
        let unit = (target, lun);
        let inquiry = ask(host, buffer, unit, Cdb::inquiry(96), 96)?;
        let device_type = inquiry.first().map_or(0x1f, |byte| byte & 0x1f);
        if inquiry.first().is_none_or(|byte| byte >> 5 != 0) {
            return Err(Error::failed(format!(
                "target {} has no logical unit {lun}; `mptctl scsi luns --target {}` lists them",
                target.0, target.0
            )));
        }
        let (blocks, block_bytes) = match device_type {
            0 | 0x14 => capacity(host, buffer, unit)?,
            _ => (0, 0),
        };
        let serial = ask(host, buffer, unit, Cdb::inquiry_vpd(0x80, 252), 252)
            .map(|page| text(page.get(4..).unwrap_or_default()))
            .unwrap_or_default();
        // Devices without a caching page refuse it, and then nothing is known.
        let write_cache = ask(host, buffer, unit, Cdb::mode_sense_6(8, 64), 64)
            .ok()
            .and_then(|page| caching_page(&page));
        Ok(Self {
            target,
            lun,
            vendor: text(inquiry.get(8..16).unwrap_or_default()),
            product: text(inquiry.get(16..32).unwrap_or_default()),
            revision: text(inquiry.get(32..36).unwrap_or_default()),
            serial,
            device_type,
            blocks,
            block_bytes,
            write_cache,
        })
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_bytes as u64)
    }

    /// The device type's name.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self.device_type {
            0x00 => "disk",
            0x01 => "tape",
            0x05 => "cd/dvd",
            0x08 => "changer",
            0x0d => "enclosure",
            0x14 => "zoned disk",
            _ => "other",
        }
    }

    /// Refuses a range that is not on the disk, before anything is sent.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with where the disk ends.
    pub fn check_range(&self, lba: u64, blocks: u64) -> Result<(), Error> {
        if self.blocks == 0 {
            return Err(Error::failed(format!(
                "target {} is a {} and has no blocks to read or write",
                self.target.0,
                self.type_name()
            )));
        }
        match lba.checked_add(blocks) {
            Some(end) if end <= self.blocks => Ok(()),
            _ => Err(Error::failed(format!(
                "blocks {lba} to {} are not on target {}: it has {} blocks of {} bytes, the last one is {}",
                u128::from(lba) + u128::from(blocks.max(1)) - 1,
                self.target.0,
                self.blocks,
                self.block_bytes,
                self.blocks - 1
            ))),
        }
    }

    /// The most blocks that one command of ours moves.
    #[must_use]
    pub fn blocks_per_command(&self) -> u32 {
        MOST_BYTES.checked_div(self.block_bytes).unwrap_or(1).max(1)
    }

    /// Reads or writes `blocks` blocks at `lba`, to or from the buffer's `offset` on. At most
    /// [`Disk::blocks_per_command`].
    ///
    /// # Errors
    ///
    /// As [`run`]; [`Error::Failed`] also when less was transferred than asked for.
    pub fn transfer(
        &self,
        host: &mut dyn Host,
        direction: Direction,
        lba: u64,
        blocks: u32,
        buffer: &Buffer,
        offset: usize,
    ) -> Result<(), Error> {
        let cdb = match direction {
            Direction::Write => Cdb::write(lba, blocks),
            _ => Cdb::read(lba, blocks),
        };
        let request = Request {
            target: self.target,
            lun: self.lun,
            cdb: cdb.as_bytes(),
            direction,
            buffer: Some(buffer),
            offset,
            bytes: blocks.saturating_mul(self.block_bytes),
            cookie: 0,
        };
        let ended = run(host, &request)?;
        if ended.transferred() != request.bytes {
            return Err(Error::failed(format!(
                "target {} transferred {} of {} bytes for {}; the data is not to be trusted",
                self.target.0,
                ended.transferred(),
                request.bytes,
                cdb::describe(request.cdb)
            )));
        }
        Ok(())
    }

    /// Has the disk put its write cache on the medium.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub fn flush(&self, host: &mut dyn Host) -> Result<(), Error> {
        flush(host, (self.target, self.lun))
    }
}

/// Has a logical unit put its write cache on the medium.
///
/// # Errors
///
/// As [`run`].
pub fn flush(host: &mut dyn Host, unit: (TargetId, u8)) -> Result<(), Error> {
    let cdb = Cdb::synchronize_cache_10(0, 0);
    let request = Request::without_data(unit, cdb.as_bytes());
    run(host, &request).map(|_| ())
}

/// The present target with this number.
///
/// # Errors
///
/// [`Error::Failed`] with the targets that there are.
pub fn find_target(host: &dyn Host, number: u16) -> Result<Target, Error> {
    let targets = host.targets();
    if let Some(target) = targets.iter().find(|target| target.id.0 == number) {
        return Ok(*target);
    }
    let bus = host.bring_up().bus;
    let numbers: Vec<String> = targets.iter().map(|target| target.id.0.to_string()).collect();
    Err(Error::failed(match numbers.len() {
        0 => format!("there is no target {number} on {bus}, nor any other"),
        _ => format!("there is no target {number} on {bus}; there are {}", numbers.join(", ")),
    }))
}

pub(crate) fn capacity(
    host: &mut dyn Host,
    buffer: &Buffer,
    unit: (TargetId, u8),
) -> Result<(u64, u32), Error> {
    let odd = |bytes: &[u8]| {
        Error::failed(format!(
            "target {} answered READ CAPACITY with {} bytes that cannot be a capacity; the disk or its firmware is at fault",
            unit.0.0,
            bytes.len()
        ))
    };
    let short = ask(host, buffer, unit, Cdb::read_capacity_10(), 8)?;
    let (last, block_bytes) = match short.as_slice() {
        [a, b, c, d, e, f, g, h] => {
            (u64::from(u32::from_be_bytes([*a, *b, *c, *d])), u32::from_be_bytes([*e, *f, *g, *h]))
        }
        other => return Err(odd(other)),
    };
    if last != u64::from(u32::MAX) {
        return if block_bytes == 0 { Err(odd(&short)) } else { Ok((last + 1, block_bytes)) };
    }
    let long = ask(host, buffer, unit, Cdb::read_capacity_16(32), 32)?;
    match long.get(..12) {
        Some([a, b, c, d, e, f, g, h, i, j, k, l]) => {
            let last = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            let block_bytes = u32::from_be_bytes([*i, *j, *k, *l]);
            match last.checked_add(1) {
                Some(blocks) if block_bytes != 0 => Ok((blocks, block_bytes)),
                _ => Err(odd(&long)),
            }
        }
        _ => Err(odd(&long)),
    }
}

/// WCE of the caching page, in the answer to MODE SENSE (6).
fn caching_page(answer: &[u8]) -> Option<bool> {
    let descriptors = usize::from(*answer.get(3)?);
    let page = answer.get(4 + descriptors..)?;
    (page.first()? & 0x3f == 8).then_some(())?;
    Some(page.get(2)? & 4 != 0)
}

/// Printable ASCII without the padding.
fn text(bytes: &[u8]) -> String {
    let printable = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' };
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text: String = bytes.iter().take(end).map(printable).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        Disk {
            target: TargetId(3),
            lun: 0,
            vendor: String::new(),
            product: String::new(),
            revision: String::new(),
            serial: String::new(),
            device_type: 0,
            blocks: 1000,
            block_bytes: 512,
            write_cache: None,
        }
    }

    #[test]
    fn a_range_past_the_end_is_refused_with_where_the_end_is() {
        assert_eq!(disk().check_range(999, 1), Ok(()));
        for (lba, blocks) in [(999, 2), (1000, 1), (u64::MAX, 1), (1, u64::MAX), (1001, 0)] {
            let refusal = disk().check_range(lba, blocks).expect_err("past the end").to_string();
            assert!(refusal.contains("the last one is 999"), "{refusal}");
        }
    }

    #[test]
    fn the_caching_page_is_found_behind_block_descriptors() {
        assert_eq!(caching_page(&[0, 0, 0, 0, 8, 18, 4]), Some(true));
        assert_eq!(caching_page(&[0, 0, 0, 2, 9, 9, 0x88, 18, 0]), Some(false));
        assert_eq!(caching_page(&[0, 0, 0, 200, 8, 18, 4]), None);
        assert_eq!(caching_page(&[0, 0, 0, 0, 0x0a, 18, 4]), None);
        assert_eq!(caching_page(&[]), None);
    }

    #[test]
    fn names_are_printable_whatever_the_disk_sends() {
        assert_eq!(text(b"QEMU    "), "QEMU");
        assert_eq!(text(b"A\x1b[2JB\0junk"), "A?[2JB");
    }
}
