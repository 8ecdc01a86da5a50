//! Log pages of SCSI disks (SPC-5 7.3, SBC-4 6.4), by LOG SENSE.

use fusion_mpt::scsi::{Cdb, Sense};
use fusion_mpt::targets::TargetId;
use serde::Serialize;

use super::log_page::{number, numbered, page, parameters, told};
use super::{Report, Verdict, self_test, unless_fatal};
use crate::disk::ask;
use crate::error::Error;
use crate::host::{Buffer, Host};

/// The pages that are read.
const SUPPORTED: u8 = 0x00;
const WRITE_ERRORS: u8 = 0x02;
const READ_ERRORS: u8 = 0x03;
const VERIFY_ERRORS: u8 = 0x05;
const NON_MEDIUM_ERRORS: u8 = 0x06;
const TEMPERATURE: u8 = 0x0d;
const START_STOP: u8 = 0x0e;
const APPLICATION_CLIENT: u8 = 0x0f;
const SELF_TESTS: u8 = 0x10;
const SOLID_STATE: u8 = 0x11;
const BACKGROUND_SCAN: u8 = 0x15;
const EXCEPTIONS: u8 = 0x2f;

/// What the log pages of a disk say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SasHealth {
    /// Pages that it has.
    pub pages: Vec<u8>,
    /// The additional sense code that it reports as an informational exception, if it is one.
    pub exception: Option<String>,
    /// Errors of writes (page 0x02).
    pub writes: Option<ErrorCounters>,
    /// Errors of reads (page 0x03).
    pub reads: Option<ErrorCounters>,
    /// Errors of verifies (page 0x05).
    pub verifies: Option<ErrorCounters>,
    /// Errors that are not the medium's (page 0x06).
    pub non_medium_errors: Option<u64>,
    /// When it was made: year and week (page 0x0e).
    pub made: Option<String>,
    /// Starts and stops so far, and those that it is made for (page 0x0e).
    pub start_stops: Option<u64>,
    /// See `start_stops`.
    pub start_stop_limit: Option<u64>,
    /// Loads and unloads of its heads so far, and those that it is made for (page 0x0e).
    pub loads: Option<u64>,
    /// See `loads`.
    pub load_limit: Option<u64>,
    /// Bytes that application clients have stored in it (page 0x0f).
    pub application_client_bytes: Option<u64>,
    /// Scans of the medium in the background so far (page 0x15).
    pub background_scans: Option<u64>,
}

/// An error counter page (SPC-5 7.3.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErrorCounters {
    /// Corrected without substantial delay.
    pub corrected_fast: Option<u64>,
    /// Corrected with possible delays.
    pub corrected_slow: Option<u64>,
    /// Reads or writes done again.
    pub repeated: Option<u64>,
    /// Errors corrected in all.
    pub corrected: Option<u64>,
    /// Times that a correction algorithm ran.
    pub corrections: Option<u64>,
    /// Bytes processed.
    pub bytes: Option<u64>,
    /// Errors that could not be corrected.
    pub uncorrected: Option<u64>,
}

/// Temperature and reference temperature in degrees Celsius (page 0x0d); 0xFF is none.
pub(super) fn temperatures(page: &[u8]) -> (Option<i32>, Option<i32>) {
    let of = |code: u16| {
        let value = parameters(page).find(|(found, _)| *found == code)?.1;
        // A byte of two's complement since SPC-5; never below zero before.
        value.get(1).filter(|byte| **byte != 0xff).map(|byte| i32::from(*byte as i8))
    };
    (of(0), of(1))
}

fn error_counters(page: &[u8]) -> ErrorCounters {
    let of = |code| numbered(page, code);
    ErrorCounters {
        corrected_fast: of(0),
        corrected_slow: of(1),
        repeated: of(2),
        corrected: of(3),
        corrections: of(4),
        bytes: of(5),
        uncorrected: of(6),
    }
}

/// The year and the week of making, four and two ASCII digits (page 0x0e, parameter 1).
fn made(page: &[u8]) -> Option<String> {
    let value = parameters(page).find(|(code, _)| *code == 1)?.1;
    let digits = value.get(..6)?;
    let text = std::str::from_utf8(digits).ok()?;
    let (year, week) = text.split_at_checked(4)?;
    digits.iter().all(u8::is_ascii_digit).then(|| format!("{year} week {week}"))
}

/// A code that tells of trouble to come: 5D/xx predicts failure, 0B/xx warns (SPC-5 annex F). Others
/// are none of this.
fn exception(asc: u8, ascq: u8) -> Option<(Verdict, String)> {
    let verdict = match asc {
        0x5d => Verdict::Failing,
        0x0b => Verdict::Warning,
        _ => return None,
    };
    let sense = [0x70, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0];
    let text = Sense::parse(&sense).and_then(|sense| sense.text());
    let text = text.unwrap_or(if asc == 0x5d { "failure predicted" } else { "warning" });
    Some((verdict, format!("{text} ({asc:02x}/{ascq:02x})")))
}

/// Asks for every page that is there, and judges.
pub(super) fn examine(
    host: &mut dyn Host,
    buffer: &Buffer,
    unit: (TargetId, u8),
    report: &mut Report,
) -> Result<(), Error> {
    let mut health = SasHealth::default();
    if let Some(list) = page(host, buffer, unit, SUPPORTED)? {
        let length = match list.as_slice() {
            [_, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => 0,
        };
        let pages = list.get(4..).unwrap_or_default();
        health.pages = pages.get(..length).unwrap_or(pages).to_vec();
    }
    let mut told_of_exceptions = false;
    for code in health.pages.clone() {
        crate::interrupt::check()?;
        let wanted = [
            WRITE_ERRORS,
            READ_ERRORS,
            VERIFY_ERRORS,
            NON_MEDIUM_ERRORS,
            TEMPERATURE,
            START_STOP,
            APPLICATION_CLIENT,
            SELF_TESTS,
            SOLID_STATE,
            BACKGROUND_SCAN,
            EXCEPTIONS,
        ];
        if !wanted.contains(&code) {
            continue;
        }
        let Some(page) = page(host, buffer, unit, code)? else { continue };
        told_of_exceptions |= code == EXCEPTIONS && parameters(&page).next().is_some();
        take(code, &page, &mut health, report);
    }
    if !told_of_exceptions && let Some(sense) = super::request_sense(host, buffer, unit)? {
        // A disk that has no informational exceptions is not well for having reported none.
        let reports = exception(sense.asc, sense.ascq).is_some();
        if reports || has_exceptions(host, buffer, unit)? {
            judge(sense.asc, sense.ascq, &mut health, report);
        }
    }
    report.sas = Some(health);
    Ok(())
}

/// Whether the disk has the informational exceptions control mode page (SPC-5 7.5.14).
fn has_exceptions(
    host: &mut dyn Host,
    buffer: &Buffer,
    unit: (TargetId, u8),
) -> Result<bool, Error> {
    let asked = ask(host, buffer, unit, Cdb::mode_sense_6(0x1c, 64), 64);
    let Some(answer) = unless_fatal(host, asked)? else { return Ok(false) };
    let descriptors = usize::from(answer.get(3).copied().unwrap_or(0));
    Ok(answer.get(4 + descriptors).is_some_and(|code| code & 0x3f == 0x1c))
}

/// Notes what an additional sense code says of the disk's health.
fn judge(asc: u8, ascq: u8, health: &mut SasHealth, report: &mut Report) {
    match exception(asc, ascq) {
        Some((verdict, text)) => {
            health.exception = Some(text.clone());
            report.because(verdict, text);
        }
        None if report.health == Verdict::Unknown => report.health = Verdict::Passed,
        None => {}
    }
}

/// Takes what a page says.
fn take(code: u8, page: &[u8], health: &mut SasHealth, report: &mut Report) {
    match code {
        WRITE_ERRORS => health.writes = Some(error_counters(page)),
        READ_ERRORS => health.reads = Some(error_counters(page)),
        VERIFY_ERRORS => health.verifies = Some(error_counters(page)),
        NON_MEDIUM_ERRORS => health.non_medium_errors = numbered(page, 0),
        TEMPERATURE => (report.temperature, report.reference_temperature) = temperatures(page),
        START_STOP => {
            health.made = made(page);
            health.start_stop_limit = told(page, 3);
            health.start_stops = told(page, 4);
            health.load_limit = told(page, 5);
            health.loads = told(page, 6);
        }
        APPLICATION_CLIENT => {
            let bytes = parameters(page).map(|(_, value)| value.len() as u64).sum();
            health.application_client_bytes = Some(bytes);
        }
        SELF_TESTS => report.self_tests = self_test::results(page),
        SOLID_STATE => {
            let value = parameters(page).find(|(code, _)| *code == 1).map(|(_, value)| value);
            report.endurance_used = value.and_then(|value| value.get(3).copied());
            if let Some(used) = report.endurance_used.filter(|used| *used >= 100) {
                report.because(Verdict::Warning, format!("{used} % of its endurance is used"));
            }
        }
        BACKGROUND_SCAN => {
            let value = parameters(page).find(|(code, _)| *code == 0).map(|(_, value)| value);
            let minutes = value.and_then(|value| number(value.get(..4)?));
            report.power_on_hours = report.power_on_hours.or(minutes.map(|minutes| minutes / 60));
            health.background_scans = value.and_then(|value| number(value.get(6..8)?));
        }
        EXCEPTIONS => {
            if let Some((_, [asc, ascq, rest @ ..])) = parameters(page).next() {
                let celsius = rest.first().filter(|byte| !matches!(byte, 0 | 0xff));
                report.temperature = report.temperature.or(celsius.map(|byte| i32::from(*byte)));
                judge(*asc, *ascq, health, report);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn temperatures_are_told_where_they_are_kept() {
        let page = [0x0d, 0, 0, 12, 0, 0, 3, 2, 0, 41, 0, 1, 3, 2, 0, 0xff];
        assert_eq!(temperatures(&page), (Some(41), None));
        assert_eq!(temperatures(&page[..9]), (None, None));
    }

    #[test]
    fn error_counters_may_have_any_width() {
        let page = [
            0x03, 0, 0, 22, 0, 0, 2, 4, 0, 0, 1, 0, 0, 5, 2, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 6, 2, 1,
            9,
        ];
        let counters = error_counters(&page);
        assert_eq!((counters.corrected_fast, counters.bytes), (Some(256), Some(1 << 32)));
        // The page says that it ends before the last parameter does.
        assert_eq!((counters.uncorrected, counters.corrected_slow), (None, None));
    }

    #[test]
    fn the_date_of_making_is_digits_or_nothing() {
        let mut page = vec![0x0e, 0, 0, 10, 0, 1, 1, 6];
        page.extend(b"202431");
        assert_eq!(made(&page).as_deref(), Some("2024 week 31"));
        page[8] = 0xc3;
        assert_eq!(made(&page), None);
    }

    #[test]
    fn only_warnings_and_predictions_are_exceptions() {
        assert_eq!(exception(0, 0), None);
        assert_eq!(exception(0x29, 0), None);
        assert!(
            matches!(exception(0x0b, 1), Some((Verdict::Warning, text)) if text.contains("temperature"))
        );
        assert!(
            matches!(exception(0x5d, 0x77), Some((Verdict::Failing, text)) if text.contains("5d/77"))
        );
    }

    #[test]
    fn flash_that_is_worn_out_is_a_warning_and_a_prediction_stays_one() {
        let (mut health, mut report) = (SasHealth::default(), Report::of(0, "SAS"));
        take(EXCEPTIONS, &[0x2f, 0, 0, 8, 0, 0, 3, 4, 0x5d, 0, 30, 0], &mut health, &mut report);
        take(SOLID_STATE, &[0x11, 0, 0, 8, 0, 1, 3, 4, 0, 0, 0, 120], &mut health, &mut report);
        assert_eq!((report.health, report.reasons.len()), (Verdict::Failing, 2));
        assert_eq!((report.endurance_used, report.temperature), (Some(120), Some(30)));
    }

    proptest! {
        #[test]
        fn pages_of_any_bytes_are_read(page in proptest::collection::vec(any::<u8>(), 0..128), code in 0u8..0x40) {
            let mut report = Report::of(0, "SAS");
            take(code, &page, &mut SasHealth::default(), &mut report);
        }
    }
}
