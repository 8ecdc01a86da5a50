//! Self-tests: beginning and ending them, and what became of them.

use fusion_mpt::scsi::Cdb;
use fusion_mpt::targets::Target;
use serde::Serialize;

use super::log_page::{number, parameters};
use crate::ata::{self, AtaCommand, SMART, SMART_SIGNATURE};
use crate::disk::{run, settle};
use crate::error::Error;
use crate::host::{Buffer, Host, Request};

/// A self-test that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfTestKind {
    /// In the background, about two minutes.
    Short,
    /// In the background, as long as reading the whole medium takes.
    Long,
    /// Ends the one that runs.
    Abort,
}

/// A self-test that was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SelfTest {
    /// Which: `short`, `long`, ...
    pub kind: &'static str,
    /// How it ended, or that it runs.
    pub result: &'static str,
    /// Whether it found the disk at fault.
    pub failed: bool,
    /// Hours that the disk had been on.
    pub hours: u64,
    /// The first block that could not be read.
    pub lba: Option<u64>,
    /// Sense key, additional sense code and qualifier, where a SAS disk gives them.
    pub sense: Option<String>,
}

/// Begins a self-test in the background, or ends it. The disk serves commands meanwhile.
///
/// # Errors
///
/// [`Error::Failed`] when the disk refuses it, and as [`run`].
pub fn start(
    host: &mut dyn Host,
    buffer: &Buffer,
    target: &Target,
    kind: SelfTestKind,
) -> Result<(), Error> {
    settle(host, (target.id, 0))?;
    if target.page.is_sata() {
        // SMART EXECUTE OFF-LINE IMMEDIATE (ACS-3 7.48.5).
        let which = match kind {
            SelfTestKind::Short => 0x01,
            SelfTestKind::Long => 0x02,
            SelfTestKind::Abort => 0x7f,
        };
        let command =
            AtaCommand { features: 0xd4, lba: SMART_SIGNATURE | which, ..AtaCommand::new(SMART) };
        let ended = ata::send(host, buffer, target.id, &command)?;
        if ended.is_good() {
            return Ok(());
        }
        return Err(Error::failed(format!(
            "target {} took no self-test: {}",
            target.id.0,
            ended.describe()
        )));
    }
    // SEND DIAGNOSTIC with a SELF-TEST CODE (SPC-5 6.42).
    let code = match kind {
        SelfTestKind::Short => 1,
        SelfTestKind::Long => 2,
        SelfTestKind::Abort => 4,
    };
    let bytes = [0x1d, code << 5, 0, 0, 0, 0];
    let Some(cdb) = Cdb::from_bytes(&bytes) else { return Ok(()) };
    let request = Request::without_data((target.id, 0), cdb.as_bytes());
    run(host, &request).map(|_| ()).map_err(|error| match error {
        Error::Failed(sentence) => {
            Error::failed(format!("{sentence}; it may have no self-tests, or one runs"))
        }
        other => other,
    })
}

/// The self-test results log page (SPC-5 7.3.21): up to twenty, the newest first; zeros are none.
pub(super) fn results(page: &[u8]) -> Vec<SelfTest> {
    parameters(page)
        .map(|(_, value)| value)
        .filter(|value| value.iter().any(|byte| *byte != 0))
        .filter_map(result)
        .collect()
}

fn result(value: &[u8]) -> Option<SelfTest> {
    let code = value.first()?;
    let outcome = code & 0x0f;
    let lba = number(value.get(4..12)?).filter(|lba| *lba != u64::MAX);
    let [key, asc, ascq] = [*value.get(12)? & 0x0f, *value.get(13)?, *value.get(14)?];
    Some(SelfTest {
        kind: match code >> 5 {
            1 => "short",
            2 => "long",
            5 => "short, in the foreground",
            6 => "long, in the foreground",
            _ => "default",
        },
        result: match outcome {
            0 => "passed",
            1 => "aborted by SEND DIAGNOSTIC",
            2 => "aborted otherwise",
            3 => "ended by an unknown error",
            4 => "failed, in an unknown segment",
            5 => "failed in its first segment",
            6 => "failed in its second segment",
            7 => "failed in another segment",
            15 => "under way",
            _ => "unknown",
        },
        failed: matches!(outcome, 3..=7),
        hours: number(value.get(2..4)?)?,
        lba,
        sense: (key != 0 || asc != 0).then(|| format!("{key:x}/{asc:02x}/{ascq:02x}")),
    })
}

/// The SMART self-test log of an ATA disk (ACS-3 A.15 of older editions): a ring of 21, and which of
/// them is the newest.
pub(super) fn ata_log(log: &[u8]) -> Vec<SelfTest> {
    const ENTRIES: usize = 21;
    let newest = match log.get(508) {
        Some(newest) if (1..=ENTRIES).contains(&usize::from(*newest)) => usize::from(*newest),
        _ => return Vec::new(),
    };
    let entries = (0..ENTRIES).map(|back| (newest - 1 + ENTRIES - back) % ENTRIES);
    entries
        .filter_map(|index| log.get(2 + 24 * index..26 + 24 * index))
        .filter(|entry| entry.iter().any(|byte| *byte != 0))
        .filter_map(ata_result)
        .collect()
}

fn ata_result(entry: &[u8]) -> Option<SelfTest> {
    let outcome = entry.get(1)? >> 4;
    let lba = u32::from_le_bytes(entry.get(5..9)?.try_into().ok()?);
    let failed = matches!(outcome, 3..=8);
    Some(SelfTest {
        kind: match entry.first()? & 0x7f {
            0 => "off-line",
            1 => "short",
            2 => "long",
            3 => "conveyance",
            4 => "selective",
            _ => "other",
        },
        result: match outcome {
            0 => "passed",
            1 => "aborted by the host",
            2 => "interrupted by a reset",
            3 => "ended by an unknown error",
            4 => "failed, unknown part",
            5 => "failed, electrical part",
            6 => "failed, servo part",
            7 => "failed, reading",
            8 => "failed, damage by handling suspected",
            15 => "under way",
            _ => "unknown",
        },
        failed,
        hours: u64::from(u16::from_le_bytes([*entry.get(2)?, *entry.get(3)?])),
        lba: (failed && lba != u32::MAX).then_some(lba.into()),
        sense: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_failed_self_test_is_told_with_its_block_and_sense() {
        let mut page = vec![0x10, 0, 0, 40];
        page.extend([0, 1, 3, 16, 0x47, 0, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 77, 3, 0x11, 0, 0]);
        page.extend([0, 2, 3, 16]);
        page.extend([0; 16]);
        let tests = results(&page);
        let [test] = tests.as_slice() else { panic!("{tests:?}") };
        assert_eq!(
            (test.kind, test.result, test.failed),
            ("long", "failed in another segment", true)
        );
        assert_eq!((test.hours, test.lba), (0x1234, Some(77)));
        assert_eq!(test.sense.as_deref(), Some("3/11/00"));
    }

    #[test]
    fn the_ring_of_an_ata_disk_is_read_from_the_newest_back() {
        let mut log = vec![0; 512];
        // Entry 21 is followed by entry 1, which is the newest.
        [log[2], log[3], log[4]] = [2, 0x00, 9];
        [log[2 + 24 * 20], log[3 + 24 * 20], log[4 + 24 * 20]] = [1, 0x70, 8];
        log[7 + 24 * 20] = 0x2c;
        log[508] = 1;
        let tests = ata_log(&log);
        let told: Vec<_> =
            tests.iter().map(|test| (test.kind, test.failed, test.hours, test.lba)).collect();
        assert_eq!(told, [("long", false, 9, None), ("short", true, 8, Some(0x2c))]);
        log[508] = 22;
        assert!(ata_log(&log).is_empty());
    }

    proptest! {
        #[test]
        fn logs_of_any_bytes_are_read(log in proptest::collection::vec(any::<u8>(), 0..520)) {
            prop_assert!(ata_log(&log).len() <= 21);
            let _ = results(&log);
        }
    }
}
