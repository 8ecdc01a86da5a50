//! SMART of SATA disks (ACS-3 7.48), through the controller's translation layer.

use fusion_mpt::targets::TargetId;
use serde::Serialize;

use super::attributes::{self, Attribute, Failing};
use super::{Report, Verdict, self_test};
use crate::ata::{self, AtaCommand, SMART, SMART_SIGNATURE};
use crate::error::Error;
use crate::host::{Buffer, Host};

const IDENTIFY_DEVICE: u8 = 0xec;
/// Features of SMART.
const READ_DATA: u16 = 0xd0;
const READ_THRESHOLDS: u16 = 0xd1;
const READ_LOG: u16 = 0xd5;
const RETURN_STATUS: u16 = 0xda;
/// The self-test log's address.
const SELF_TEST_LOG: u64 = 0x06;
/// What RETURN STATUS leaves in LBA mid and high: all is well, or a threshold is exceeded.
const WELL: (u8, u8) = (0x4f, 0xc2);
const EXCEEDED: (u8, u8) = (0xf4, 0x2c);

/// What a SATA disk says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SataHealth {
    /// Model number (IDENTIFY DEVICE).
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware revision.
    pub firmware: String,
    /// World wide name.
    pub wwn: Option<String>,
    /// Rotations per minute, 1 for none that rotates, if it says.
    pub rotation: Option<u16>,
    /// Whether it has SMART.
    pub smart_supported: bool,
    /// Whether SMART is on.
    pub smart_enabled: bool,
    /// What SMART RETURN STATUS says: `true` if no threshold is exceeded.
    pub passed: Option<bool>,
    /// Minutes that a short self-test takes.
    pub short_test_minutes: Option<u8>,
    /// Minutes that a long one takes.
    pub long_test_minutes: Option<u16>,
    /// Attributes with their thresholds.
    pub attributes: Vec<Attribute>,
}

/// A word of IDENTIFY DEVICE data.
fn word(data: &[u8], at: usize) -> u16 {
    match data.get(2 * at..2 * at + 2) {
        Some([low, high]) => u16::from_le_bytes([*low, *high]),
        _ => 0,
    }
}

/// A text of IDENTIFY DEVICE data, whose characters are swapped in pairs.
fn text(data: &[u8], first: usize, words: usize) -> String {
    let bytes = (first..first + words).flat_map(|at| word(data, at).to_be_bytes());
    let printable =
        bytes.map(|byte| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { ' ' });
    printable.collect::<String>().trim().to_owned()
}

/// IDENTIFY DEVICE data (ACS-3 7.12.7).
fn identity(data: &[u8]) -> SataHealth {
    let valid = |at: usize| word(data, at) & 0xc000 == 0x4000;
    let wwn = (108..112).fold(0, |name, at| name << 16 | u64::from(word(data, at)));
    SataHealth {
        model: text(data, 27, 20),
        serial: text(data, 10, 10),
        firmware: text(data, 23, 4),
        wwn: (valid(87) && word(data, 87) & 0x0100 != 0).then(|| format!("{wwn:016x}")),
        rotation: Some(word(data, 217)).filter(|rate| !matches!(rate, 0 | 0xffff)),
        smart_supported: valid(83) && word(data, 82) & 1 != 0,
        smart_enabled: valid(87) && word(data, 85) & 1 != 0,
        ..SataHealth::default()
    }
}

/// Asks a SATA disk how it does. Leaves the report alone where the controller passes no ATA commands.
pub(super) fn examine(
    host: &mut dyn Host,
    buffer: &Buffer,
    target: TargetId,
    report: &mut Report,
) -> Result<(), Error> {
    let identify = AtaCommand::new(IDENTIFY_DEVICE).reading(1);
    let Some(data) = ata::read(host, buffer, target, &identify)? else { return Ok(()) };
    let mut health = identity(&data);
    if health.smart_supported && health.smart_enabled {
        smart(host, buffer, target, &mut health, report)?;
    }
    report.sata = Some(health);
    Ok(())
}

fn smart(
    host: &mut dyn Host,
    buffer: &Buffer,
    target: TargetId,
    health: &mut SataHealth,
    report: &mut Report,
) -> Result<(), Error> {
    let command = |features: u16, low: u64| AtaCommand {
        features,
        lba: SMART_SIGNATURE | low,
        ..AtaCommand::new(SMART)
    };
    let status = AtaCommand { check_condition: true, ..command(RETURN_STATUS, 0) };
    let ended = ata::send(host, buffer, target, &status)?;
    health.passed = match ended.registers.filter(|_| ended.is_good()) {
        Some(registers) if registers.mid_and_high() == WELL => Some(true),
        Some(registers) if registers.mid_and_high() == EXCEEDED => Some(false),
        _ => None,
    };
    let data = ata::read(host, buffer, target, &command(READ_DATA, 0).reading(1))?;
    let thresholds = ata::read(host, buffer, target, &command(READ_THRESHOLDS, 0).reading(1))?;
    let log = ata::read(host, buffer, target, &command(READ_LOG, SELF_TEST_LOG).reading(1))?;
    if let Some(log) = log {
        report.self_tests = self_test::ata_log(&log);
    }
    if let Some(data) = &data {
        health.attributes = attributes::parse(data, thresholds.as_deref().unwrap_or_default());
        (health.short_test_minutes, health.long_test_minutes) = test_minutes(data);
    }
    judge(health, report);
    Ok(())
}

/// Minutes of a short and of a long self-test: 0 is none; 0xFF says that a word has them.
fn test_minutes(data: &[u8]) -> (Option<u8>, Option<u16>) {
    let short = data.get(372).copied().filter(|minutes| *minutes != 0);
    let long = match data.get(373) {
        Some(0xff) => data
            .get(375..377)
            .map(|word| word.iter().rev().fold(0, |all, byte| all << 8 | u16::from(*byte))),
        minutes => minutes.map(|minutes| u16::from(*minutes)),
    };
    (short, long.filter(|minutes| *minutes != 0))
}

fn judge(health: &SataHealth, report: &mut Report) {
    if health.passed == Some(true) {
        report.health = Verdict::Passed;
    }
    if health.passed == Some(false) {
        report.because(Verdict::Failing, "SMART status: a threshold is exceeded".into());
    }
    for attribute in &health.attributes {
        let told = format!(
            "attribute {} {} is {}, its threshold {}",
            attribute.id,
            attribute.name,
            attribute.value,
            attribute.threshold.unwrap_or(0)
        );
        match (attribute.failing, attribute.pre_failure) {
            (Failing::Now, true) => report.because(Verdict::Failing, told),
            // It is old, which is no failure.
            (Failing::Now, false) => report.because(Verdict::Warning, told),
            (Failing::InThePast, true) => {
                report.because(Verdict::Warning, format!("{told}: it failed in the past"));
            }
            _ => {}
        }
    }
    // Where the status could not be asked for, the thresholds say as much.
    if report.health == Verdict::Unknown
        && health.attributes.iter().any(|attribute| attribute.threshold.is_some())
    {
        report.health = Verdict::Passed;
    }
    let raw = |id: u8| health.attributes.iter().find(|attribute| attribute.id == id);
    // The low byte: others hold the least and greatest so far.
    let celsius =
        raw(194).or_else(|| raw(190)).map(|attribute| i32::from(attribute.raw as u8 as i8));
    report.temperature = celsius.or(report.temperature);
    report.power_on_hours = raw(9).map(|attribute| attribute.raw & 0xffff_ffff);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_length_of_a_long_test_may_need_a_word() {
        let mut data = vec![0; 512];
        [data[372], data[373]] = [2, 0xff];
        [data[375], data[376]] = [0x2c, 0x01];
        assert_eq!(test_minutes(&data), (Some(2), Some(300)));
        data[373] = 90;
        assert_eq!(test_minutes(&data), (Some(2), Some(90)));
        assert_eq!(test_minutes(&[]), (None, None));
    }

    #[test]
    fn words_that_are_not_valid_say_nothing() {
        let data = vec![0xff; 512];
        let found = identity(&data);
        assert!(!found.smart_supported && !found.smart_enabled && found.wwn.is_none());
        assert_eq!((found.rotation, found.model.as_str()), (None, ""));
    }

    proptest! {
        #[test]
        fn identity_of_any_bytes_is_read(data in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = (identity(&data), test_minutes(&data));
        }
    }
}
