//! Sense data (SPC-5 4.4) and outcomes in words.

use fusion_mpt::outcome::Outcome;

/// Sense data, as far as a person wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// SENSE KEY.
    pub key: u8,
    /// ADDITIONAL SENSE CODE.
    pub code: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub qualifier: u8,
}

impl Sense {
    /// UNIT ATTENTION: something happened to the device; the command was not run and may be sent
    /// again.
    pub const UNIT_ATTENTION: u8 = 6;

    /// Reads fixed and descriptor format; `None` for anything else.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let at = |index: usize| bytes.get(index).copied();
        match at(0)? & 0x7f {
            0x70 | 0x71 => Some(Self {
                key: at(2)? & 0x0f,
                code: at(12).unwrap_or(0),
                qualifier: at(13).unwrap_or(0),
            }),
            0x72 | 0x73 => Some(Self {
                key: at(1)? & 0x0f,
                code: at(2).unwrap_or(0),
                qualifier: at(3).unwrap_or(0),
            }),
            _ => None,
        }
    }

    /// The sense key's name.
    #[must_use]
    pub const fn key_name(&self) -> &'static str {
        match self.key {
            0x0 => "NO SENSE",
            0x1 => "RECOVERED ERROR",
            0x2 => "NOT READY",
            0x3 => "MEDIUM ERROR",
            0x4 => "HARDWARE ERROR",
            0x5 => "ILLEGAL REQUEST",
            0x6 => "UNIT ATTENTION",
            0x7 => "DATA PROTECT",
            0x8 => "BLANK CHECK",
            0x9 => "VENDOR SPECIFIC",
            0xa => "COPY ABORTED",
            0xb => "ABORTED COMMAND",
            0xd => "VOLUME OVERFLOW",
            0xe => "MISCOMPARE",
            0xf => "COMPLETED",
            _ => "RESERVED",
        }
    }

    /// What code and qualifier mean (SPC-5 table F.1), for those that disks give most.
    #[must_use]
    pub const fn meaning(&self) -> Option<&'static str> {
        Some(match (self.code, self.qualifier) {
            (0x00, 0x00) => "no additional sense",
            (0x04, 0x00) => "not ready, cause not reportable",
            (0x04, 0x01) => "becoming ready",
            (0x04, 0x02) => "a start command is required",
            (0x0c, 0x00) => "write error",
            (0x11, 0x00) => "unrecovered read error",
            (0x1a, 0x00) => "parameter list length error",
            (0x20, 0x00) => "invalid operation code",
            (0x21, 0x00) => "logical block address out of range",
            (0x24, 0x00) => "invalid field in CDB",
            (0x25, 0x00) => "no such logical unit",
            (0x26, 0x00) => "invalid field in parameter list",
            (0x27, 0x00) => "write protected",
            (0x28, 0x00) => "medium may have changed",
            (0x29, 0x00) => "power on, reset or bus device reset",
            (0x29, 0x01) => "power on",
            (0x29, 0x02) => "bus reset",
            (0x29, 0x03) => "device reset",
            (0x29, 0x07) => "I_T nexus loss",
            (0x2a, 0x01) => "mode parameters changed",
            (0x2a, 0x09) => "capacity has changed",
            (0x31, 0x00) => "medium format corrupted",
            (0x3a, 0x00) => "medium not present",
            (0x3f, 0x0e) => "reported LUNs have changed",
            (0x44, 0x00) => "internal target failure",
            (0x47, 0x03) => "protection information CRC error",
            (0x5d, 0x00) => "failure prediction threshold exceeded",
            _ => return None,
        })
    }
}

impl std::fmt::Display for Sense {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {:#04x}/{:#04x}", self.key_name(), self.code, self.qualifier)?;
        match self.meaning() {
            Some(meaning) => write!(f, " ({meaning})"),
            None => Ok(()),
        }
    }
}

/// How a command ended, in words.
#[must_use]
pub fn describe(outcome: &Outcome, sense: &[u8]) -> String {
    match outcome {
        Outcome::Complete { status, .. } => match Sense::parse(sense) {
            Some(sense) => format!("{}, {sense}", status.name()),
            None => status.name().to_owned(),
        },
        Outcome::Failed(failure) => failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_say_the_same() {
        let mut fixed = [0u8; 18];
        fixed[0] = 0xf0;
        fixed[2] = 0x45;
        fixed[12] = 0x21;
        let descriptor = [0x72, 0x05, 0x21, 0x00, 0, 0, 0, 0];
        assert_eq!(Sense::parse(&fixed), Sense::parse(&descriptor));
        let sense = Sense::parse(&fixed).expect("sense");
        assert_eq!(
            sense.to_string(),
            "ILLEGAL REQUEST, 0x21/0x00 (logical block address out of range)"
        );
    }

    #[test]
    fn cut_off_and_foreign_sense_is_no_sense_or_less_of_it() {
        assert_eq!(Sense::parse(&[]), None);
        assert_eq!(Sense::parse(&[0x70, 0]), None);
        assert_eq!(Sense::parse(&[0x7f; 18]), None);
        let cut = Sense::parse(&[0x70, 0, 0x06, 0, 0, 0, 0, 0]);
        assert_eq!(cut, Some(Sense { key: 6, code: 0, qualifier: 0 }));
    }
}
