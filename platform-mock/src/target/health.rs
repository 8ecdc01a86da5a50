//! How a disk does: self-tests, a predicted failure, and what an ATA disk says of both (ACS-3 7.48
//! and annex B of older editions, where the structures of SMART still are).
//!
//! It has nothing that wears out, so its figures are those of its counters, and its self-tests find
//! what cannot be read. The words are the disk's own: whoever reads them is not told more than a
//! drive would tell.

use super::Target;
use super::sense::{SenseData, SenseKey};

/// Bytes of each structure of SMART.
pub(super) const STRUCTURE_BYTES: usize = 512;
/// Attributes that a structure has room for, and the bytes of each.
const ATTRIBUTES: usize = 30;
const ATTRIBUTE_BYTES: usize = 12;
/// Entries of the self-test log of an ATA disk, and the bytes of each.
const LOGGED: usize = 21;
const LOGGED_BYTES: usize = 24;
/// The signature of SMART in LBA mid and high, and what RETURN STATUS puts there when a threshold
/// is exceeded.
pub(super) const SIGNATURE: u64 = 0x00C2_4F00;
pub(super) const EXCEEDED: u64 = 0x002C_F400;
/// An attribute whose threshold tells of failure, that is updated all the time; one that only ages.
const PRE_FAILURE: u16 = 0x0003;
const AGING: u16 = 0x0032;

/// A failure that the disk predicts, as an additional sense code and its qualifier (SPC-4 annex F:
/// 5D/xx failure prediction, 0B/xx warnings).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
}

/// A self-test that was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SelfTest {
    /// SELF-TEST CODE of SEND DIAGNOSTIC: 0 default, 1 and 5 short, 2 and 6 extended.
    code: u8,
    /// The first block that could not be read.
    unreadable: Option<u64>,
}

/// What became of the disk's health so far.
#[derive(Debug, Default)]
pub(super) struct Health {
    exception: Option<Exception>,
    /// The newest first.
    tests: Vec<SelfTest>,
    smart_off: bool,
}

/// One attribute of SMART.
struct Attribute {
    id: u8,
    flags: u16,
    value: u8,
    threshold: u8,
    raw: u64,
}

impl Target {
    /// Has the disk predict its failure, or no longer.
    pub fn predict_failure(&mut self, exception: Option<Exception>) {
        self.health.exception = exception;
    }

    /// What it predicts, as the sense data that REQUEST SENSE returns for it (MRIE 6: on request
    /// only).
    pub(super) fn exception_sense(&self) -> Option<SenseData> {
        let exception = self.health.exception?;
        Some(SenseData::new(SenseKey::NoSense, exception.asc, exception.ascq))
    }

    pub(super) fn exception(&self) -> Option<Exception> {
        self.health.exception
    }

    /// Runs a self-test to its end: reads everything, as far as what cannot be read goes. `Err` when
    /// one that was waited for has failed.
    pub(super) fn self_test(&mut self, code: u8) -> Result<(), SenseData> {
        let blocks = self.blocks();
        let unreadable = self.unreadable.iter().map(|range| range.start).min();
        let unreadable = unreadable.filter(|lba| *lba < blocks);
        self.health.tests.insert(0, SelfTest { code, unreadable });
        self.health.tests.truncate(LOGGED);
        match (code, unreadable) {
            // LOGICAL UNIT FAILED SELF-TEST, in the foreground.
            (0 | 5 | 6, Some(_)) => Err(SenseData::new(SenseKey::HardwareError, 0x3E, 0x03)),
            _ => Ok(()),
        }
    }

    /// The twenty parameters of the self-test results log page (SPC-4 7.3.21), without their heads.
    pub(super) fn self_test_results(&self) -> Vec<[u8; 16]> {
        let mut results: Vec<[u8; 16]> = self.health.tests.iter().take(20).map(result).collect();
        results.resize(20, [0; 16]);
        results
    }

    pub(super) fn smart_is_on(&self) -> bool {
        !self.health.smart_off
    }

    pub(super) fn turn_smart(&mut self, on: bool) {
        self.health.smart_off = !on;
    }

    /// What SMART RETURN STATUS leaves in the LBA.
    pub(super) fn smart_status(&self) -> u64 {
        if self.attributes().iter().any(Attribute::fails) { EXCEEDED } else { SIGNATURE }
    }

    fn attributes(&self) -> Vec<Attribute> {
        let counters = &self.counters;
        let errors = counters.read.errors + counters.written.errors + counters.verified.errors;
        let pending: u64 =
            self.unreadable.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        let block = u64::from(self.config.block_size);
        let reallocated = if self.health.exception.is_some() { 1 } else { 100 };
        let temperature = self.config.temperature;
        let attribute =
            |id, flags, value, threshold, raw| Attribute { id, flags, value, threshold, raw };
        vec![
            attribute(1, PRE_FAILURE, 100, 6, errors),
            attribute(4, AGING, 100, 20, self.start_stop_cycles.into()),
            attribute(5, PRE_FAILURE, reallocated, 10, 0),
            attribute(9, AGING, 100, 0, 0),
            attribute(12, AGING, 100, 20, 1),
            attribute(187, AGING, 100u8.saturating_sub(errors.min(99) as u8), 0, errors),
            attribute(194, 0x0022, 100u8.saturating_sub(temperature), 0, temperature.into()),
            attribute(197, AGING, 100, 0, pending),
            attribute(199, AGING, 200, 0, 0),
            attribute(241, AGING, 100, 0, counters.written.bytes / block),
            attribute(242, AGING, 100, 0, counters.read.bytes / block),
        ]
    }

    /// The device SMART data structure.
    pub(super) fn smart_data(&self) -> [u8; STRUCTURE_BYTES] {
        let mut data = [0; STRUCTURE_BYTES];
        data[0] = 0x10;
        let room = data[2..2 + ATTRIBUTES * ATTRIBUTE_BYTES].chunks_exact_mut(ATTRIBUTE_BYTES);
        for (entry, attribute) in room.zip(self.attributes()) {
            entry[0] = attribute.id;
            entry[1..3].copy_from_slice(&attribute.flags.to_le_bytes());
            // Its worst value so far is the present one.
            [entry[3], entry[4]] = [attribute.value; 2];
            entry[5..11].copy_from_slice(&attribute.raw.to_le_bytes()[..6]);
        }
        // No off-line collection was begun; how the last self-test ended, by its high nibble.
        data[363] = self.health.tests.first().map_or(0, SelfTest::ata_status);
        // Seconds for an off-line collection, of which it has none but for self-tests.
        data[364] = 1;
        data[367] = 0x51;
        // Saves attributes before it sleeps, and by itself.
        data[368] = 0x03;
        data[370] = 0x01;
        // Minutes of a short and of an extended self-test.
        [data[372], data[373]] = [1, 1];
        check(&mut data);
        data
    }

    /// The thresholds.
    pub(super) fn smart_thresholds(&self) -> [u8; STRUCTURE_BYTES] {
        let mut data = [0; STRUCTURE_BYTES];
        data[0] = 0x10;
        let room = data[2..2 + ATTRIBUTES * ATTRIBUTE_BYTES].chunks_exact_mut(ATTRIBUTE_BYTES);
        for (entry, attribute) in room.zip(self.attributes()) {
            [entry[0], entry[1]] = [attribute.id, attribute.threshold];
        }
        check(&mut data);
        data
    }

    /// The log at this address: the directory, the summary of errors, of which there are none, and
    /// the self-tests.
    pub(super) fn smart_log(&self, address: u8) -> Option<[u8; STRUCTURE_BYTES]> {
        let mut data = [0; STRUCTURE_BYTES];
        match address {
            0x00 => {
                data[0] = 1;
                [data[2], data[12]] = [1, 1];
            }
            0x01 => {
                data[0] = 1;
                check(&mut data);
            }
            0x06 => {
                data[0] = 1;
                // The ring is filled from its first entry on: the newest is the last one written.
                let count = self.health.tests.len().min(LOGGED);
                let room = data[2..2 + LOGGED * LOGGED_BYTES].chunks_exact_mut(LOGGED_BYTES);
                for (entry, test) in room.zip(self.health.tests.iter().take(count).rev()) {
                    entry[0] = match test.code {
                        2 | 6 => 2,
                        _ => 1,
                    };
                    entry[1] = test.ata_status();
                    let lba = test.unreadable.map_or(0, |lba| lba.min(0x0FFF_FFFF) as u32);
                    entry[5..9].copy_from_slice(&lba.to_le_bytes());
                }
                data[508] = count as u8;
                check(&mut data);
            }
            _ => return None,
        }
        Some(data)
    }
}

impl SelfTest {
    /// Self-test execution status: completed, or with a read element failing.
    fn ata_status(&self) -> u8 {
        if self.unreadable.is_some() { 0x70 } else { 0x00 }
    }
}

impl Attribute {
    fn fails(&self) -> bool {
        self.flags & 1 != 0 && self.value <= self.threshold
    }
}

/// A self-test's parameter: its code and result, where it failed, and why.
fn result(test: &SelfTest) -> [u8; 16] {
    let mut parameter = [0; 16];
    // Hours of power-on: it keeps no clock.
    match test.unreadable {
        None => {
            parameter[0] = test.code << 5;
            parameter[4..12].fill(0xFF);
        }
        Some(lba) => {
            // 7: another segment failed; the medium could not be read.
            parameter[0] = test.code << 5 | 0x07;
            parameter[4..12].copy_from_slice(&lba.to_be_bytes());
            [parameter[12], parameter[13], parameter[14]] = [0x03, 0x11, 0x00];
        }
    }
    parameter
}

/// Makes the bytes of a structure add up to zero.
fn check(data: &mut [u8; STRUCTURE_BYTES]) {
    data[STRUCTURE_BYTES - 1] = 0;
    let sum = data.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    data[STRUCTURE_BYTES - 1] = sum.wrapping_neg();
}
