//! SMART attributes: their structure (SFF-8035i, kept in annexes of ATA standards), their usual names,
//! and their thresholds.
//!
//! No standard says what an attribute means. The names here are those that most vendors have for a
//! number; a drive may mean something else by it.

use serde::Serialize;

/// Attributes that a structure has room for, the bytes of each, and where the first one is.
const ATTRIBUTES: usize = 30;
const ATTRIBUTE_BYTES: usize = 12;
const FIRST: usize = 2;

/// Whether an attribute is, or was, at its threshold or below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failing {
    /// Its value is at its threshold or below.
    Now,
    /// Its worst value was.
    InThePast,
    /// Never; or it has no threshold.
    Never,
}

/// One attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attribute {
    /// Its number, 1 to 255.
    pub id: u8,
    /// Its usual name.
    pub name: &'static str,
    /// Its flags: bit 0 pre-failure, 1 updated all the time, 2 a performance, 3 an error rate,
    /// 4 a count, 5 kept by itself.
    pub flags: u16,
    /// Whether a value below its threshold predicts failure; otherwise it tells of age.
    pub pre_failure: bool,
    /// Its value, from 1 (worst) to 253.
    pub value: u8,
    /// The worst value so far.
    pub worst: u8,
    /// Its threshold; `None` where there is none.
    pub threshold: Option<u8>,
    /// Its raw value, 48 bits.
    pub raw: u64,
    /// Whether it is or was at its threshold.
    pub failing: Failing,
}

/// Reads SMART data and thresholds, as far as they reach. Entries with number 0 are empty.
#[must_use]
pub fn parse(data: &[u8], thresholds: &[u8]) -> Vec<Attribute> {
    entries(data)
        .filter_map(|entry| {
            let [id, flags, flags_high, value, worst, raw @ ..] = entry else { return None };
            let limit = entries(thresholds).find(|limit| limit.first() == Some(id));
            // Every value is above 0, so that 0 is no threshold at all.
            let threshold = limit.and_then(|limit| limit.get(1).copied());
            let threshold = threshold.filter(|threshold| *threshold != 0);
            let below = |value: u8| threshold.is_some_and(|threshold| value <= threshold);
            let raw = raw.iter().take(6).rev().fold(0, |raw, byte| raw << 8 | u64::from(*byte));
            let flags = u16::from_le_bytes([*flags, *flags_high]);
            Some(Attribute {
                id: *id,
                name: name(*id),
                flags,
                pre_failure: flags & 1 != 0,
                value: *value,
                worst: *worst,
                threshold,
                raw,
                failing: match (below(*value), below(*worst)) {
                    (true, _) => Failing::Now,
                    (false, true) => Failing::InThePast,
                    (false, false) => Failing::Never,
                },
            })
        })
        .collect()
}

fn entries(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let entries = data.get(FIRST..).unwrap_or_default().chunks_exact(ATTRIBUTE_BYTES);
    entries.take(ATTRIBUTES).filter(|entry| entry.first().is_some_and(|id| *id != 0))
}

/// What most drives mean by an attribute's number.
#[must_use]
pub const fn name(id: u8) -> &'static str {
    match id {
        1 => "raw read error rate",
        2 => "throughput performance",
        3 => "spin-up time",
        4 => "start/stop count",
        5 => "reallocated sectors",
        7 => "seek error rate",
        8 => "seek time performance",
        9 => "power-on hours",
        10 => "spin-up retries",
        11 => "recalibration retries",
        12 => "power cycles",
        22 => "helium level",
        170 => "available reserved space",
        171 => "program failures",
        172 => "erase failures",
        173 => "wear levelling",
        174 => "unexpected power losses",
        175 => "power loss protection",
        177 => "wear levelling count",
        178 => "used reserved blocks, worst",
        179 => "used reserved blocks",
        180 => "unused reserved blocks",
        181 => "program failures in all",
        182 => "erase failures in all",
        183 => "SATA downshifts or runtime bad blocks",
        184 => "end-to-end errors",
        187 => "reported uncorrectable errors",
        188 => "command timeouts",
        189 => "high-fly writes",
        190 => "airflow temperature",
        191 => "shock sense",
        192 => "emergency head retractions",
        193 => "load cycles",
        194 => "temperature",
        195 => "errors recovered by ECC",
        196 => "reallocation events",
        197 => "pending sectors",
        198 => "uncorrectable sectors, off-line",
        199 => "interface CRC errors",
        200 => "write error rate",
        201 => "soft read error rate",
        202 => "life used or data address mark errors",
        220 => "disk shift",
        222 => "loaded hours",
        223 => "load retries",
        224 => "load friction",
        226 => "load-in time",
        230 => "head amplitude or drive life protection",
        231 => "life left or temperature",
        232 => "available reserved space, endurance",
        233 => "media wear-out",
        234 => "average erase count",
        235 => "good and system blocks",
        240 => "head flying hours",
        241 => "sectors written in all",
        242 => "sectors read in all",
        249 => "NAND written in all",
        250 => "read error retries",
        254 => "free-fall events",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn structures(entries: &[(u8, u16, u8, u8, u8)]) -> (Vec<u8>, Vec<u8>) {
        let (mut data, mut thresholds) = (vec![0; 512], vec![0; 512]);
        for (index, (id, flags, value, worst, threshold)) in entries.iter().enumerate() {
            let at = FIRST + index * ATTRIBUTE_BYTES;
            let [low, high] = flags.to_le_bytes();
            data[at..at + 6].copy_from_slice(&[*id, low, high, *value, *worst, 7]);
            thresholds[at..at + 2].copy_from_slice(&[*id, *threshold]);
        }
        (data, thresholds)
    }

    #[test]
    fn values_are_compared_with_their_thresholds_and_zero_is_none() {
        let (data, thresholds) = structures(&[
            (5, 3, 10, 10, 10),
            (1, 3, 100, 5, 6),
            (194, 0x22, 0, 0, 0),
            (9, 0x32, 50, 50, 20),
        ]);
        let told: Vec<_> = parse(&data, &thresholds)
            .into_iter()
            .map(|of| (of.id, of.pre_failure, of.threshold, of.failing, of.raw))
            .collect();
        assert_eq!(
            told,
            [
                (5, true, Some(10), Failing::Now, 7),
                (1, true, Some(6), Failing::InThePast, 7),
                (194, false, None, Failing::Never, 7),
                (9, false, Some(20), Failing::Never, 7),
            ]
        );
    }

    #[test]
    fn without_thresholds_nothing_fails() {
        let (data, _) = structures(&[(5, 3, 1, 1, 10)]);
        assert_eq!(
            parse(&data, &[]).first().map(|of| (of.threshold, of.failing)),
            Some((None, Failing::Never))
        );
    }

    proptest! {
        #[test]
        fn structures_of_any_bytes_are_read(data in proptest::collection::vec(any::<u8>(), 0..520), thresholds in proptest::collection::vec(any::<u8>(), 0..520)) {
            let all = parse(&data, &thresholds);
            prop_assert!(all.len() <= ATTRIBUTES && all.iter().all(|of| of.raw < 1 << 48));
        }
    }
}
