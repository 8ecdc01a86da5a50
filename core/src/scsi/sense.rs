//! Sense data: why a command ended with CHECK CONDITION (SPC-4 4.5).
//!
//! The bytes come from the device: they are believed as far as they reach, and no further.

use core::fmt;

use super::additional_sense;
use crate::codes::codes;

codes! {
    /// Sense key (SPC-4 table 27).
    pub struct SenseKey(u8) {
        NO_SENSE = 0x0, "NO SENSE";
        RECOVERED_ERROR = 0x1, "RECOVERED ERROR";
        NOT_READY = 0x2, "NOT READY";
        MEDIUM_ERROR = 0x3, "MEDIUM ERROR";
        HARDWARE_ERROR = 0x4, "HARDWARE ERROR";
        ILLEGAL_REQUEST = 0x5, "ILLEGAL REQUEST";
        UNIT_ATTENTION = 0x6, "UNIT ATTENTION";
        DATA_PROTECT = 0x7, "DATA PROTECT";
        BLANK_CHECK = 0x8, "BLANK CHECK";
        VENDOR_SPECIFIC = 0x9, "VENDOR SPECIFIC";
        COPY_ABORTED = 0xa, "COPY ABORTED";
        ABORTED_COMMAND = 0xb, "ABORTED COMMAND";
        VOLUME_OVERFLOW = 0xd, "VOLUME OVERFLOW";
        MISCOMPARE = 0xe, "MISCOMPARE";
        COMPLETED = 0xf, "COMPLETED";
    }
}

/// Which field of a request was wrong (SPC-4 4.5.2.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPointer {
    /// In the CDB; otherwise in the data sent.
    pub in_cdb: bool,
    /// Byte of the CDB or the data.
    pub byte: u16,
    /// The field's most significant bit, if it is told.
    pub bit: Option<u8>,
}

/// Sense data, of either format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// The error belongs to an earlier command (response codes 0x71 and 0x73).
    pub deferred: bool,
    /// Sense key.
    pub key: SenseKey,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
    /// The INFORMATION field, if it is valid: for a disk the block that failed.
    pub information: Option<u64>,
    /// The field that was wrong, if it is told.
    pub field: Option<FieldPointer>,
}

impl Sense {
    /// Reads sense data; `None` if it is too short for a key or in no format of the standard.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let response = bytes.first()? & 0x7f;
        match response {
            0x70 | 0x71 => Self::fixed(bytes, response == 0x71),
            0x72 | 0x73 => Self::descriptor(bytes, response == 0x73),
            _ => None,
        }
    }

    /// Fixed format (SPC-4 4.5.3). Fields past the end, or past the additional length, are absent.
    fn fixed(bytes: &[u8], deferred: bool) -> Option<Self> {
        let [first, _, key, information @ ..] = bytes else {
            return None;
        };
        let key = SenseKey(key & 0x0f);
        let length = bytes.get(7).map_or(8, |additional| 8 + usize::from(*additional));
        let bytes = bytes.get(..length).unwrap_or(bytes);
        let information = information
            .first_chunk()
            .filter(|_| first & 0x80 != 0)
            .map(|field| u64::from(u32::from_be_bytes(*field)));
        let specific = bytes.get(15..).and_then(<[u8]>::first_chunk);
        Some(Self {
            deferred,
            key,
            asc: bytes.get(12).copied().unwrap_or(0),
            ascq: bytes.get(13).copied().unwrap_or(0),
            information,
            field: specific.and_then(|specific| field_pointer(key, specific)),
        })
    }

    /// Descriptor format (SPC-4 4.5.2).
    fn descriptor(bytes: &[u8], deferred: bool) -> Option<Self> {
        let [_, key, rest @ ..] = bytes else {
            return None;
        };
        let key = SenseKey(key & 0x0f);
        let mut sense = Self {
            deferred,
            key,
            asc: rest.first().copied().unwrap_or(0),
            ascq: rest.get(1).copied().unwrap_or(0),
            information: None,
            field: None,
        };
        let length = bytes.get(7).map_or(0, |additional| usize::from(*additional));
        let list = bytes.get(8..).unwrap_or(&[]);
        let mut list = list.get(..length).unwrap_or(list);
        // Each turn takes two bytes at least, so this ends with the list.
        while let [kind, length, rest @ ..] = list {
            let (body, next) = rest.split_at_checked(usize::from(*length)).unwrap_or((rest, &[]));
            match (kind, body) {
                (0x00, [valid, _, value @ ..]) if valid & 0x80 != 0 => {
                    sense.information = value.first_chunk().map(|field| u64::from_be_bytes(*field));
                }
                (0x02, [_, _, specific @ ..]) => {
                    sense.field =
                        specific.first_chunk().and_then(|specific| field_pointer(key, specific));
                }
                _ => {}
            }
            list = next;
        }
        Some(sense)
    }

    /// The additional sense code in words; `None` for one that is not in the table.
    #[must_use]
    pub fn text(&self) -> Option<&'static str> {
        additional_sense::text(self.asc, self.ascq)
    }

    /// Whether the drive predicts its own failure (ASC 0x5D).
    #[must_use]
    pub const fn predicts_failure(&self) -> bool {
        self.asc == 0x5d
    }
}

/// The three sense-key specific bytes, if they are valid and the key makes them a field pointer.
fn field_pointer(key: SenseKey, specific: &[u8; 3]) -> Option<FieldPointer> {
    let [flags, high, low] = *specific;
    if key != SenseKey::ILLEGAL_REQUEST || flags & 0x80 == 0 {
        return None;
    }
    Some(FieldPointer {
        in_cdb: flags & 0x40 != 0,
        byte: u16::from_be_bytes([high, low]),
        bit: (flags & 0x08 != 0).then_some(flags & 0x07),
    })
}

impl fmt::Display for Sense {
    /// For example `MEDIUM ERROR: unrecovered read error (11/00), block 1234`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.deferred {
            f.write_str("of an earlier command: ")?;
        }
        write!(f, "{}", self.key.name())?;
        match (self.text(), self.asc, self.ascq) {
            (_, 0, 0) => {}
            (Some(text), asc, ascq) => write!(f, ": {text} ({asc:02x}/{ascq:02x})")?,
            (None, asc, ascq) => write!(f, ": additional sense {asc:02x}/{ascq:02x}")?,
        }
        if let Some(field) = self.field {
            let place = if field.in_cdb { "CDB" } else { "data" };
            write!(f, ", {place} byte {}", field.byte)?;
            if let Some(bit) = field.bit {
                write!(f, " bit {bit}")?;
            }
        }
        match self.information {
            Some(block) => write!(f, ", block {block}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn a_medium_error_names_its_block() {
        let bytes = [0xf0, 0, 3, 0, 0, 4, 0xd2, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0];
        let sense = Sense::parse(&bytes).expect("fixed format");
        assert_eq!(sense.key, SenseKey::MEDIUM_ERROR);
        assert_eq!(sense.information, Some(1234));
        assert_eq!(sense.to_string(), "MEDIUM ERROR: unrecovered read error (11/00), block 1234");
    }

    #[test]
    fn an_illegal_request_points_at_the_field() {
        let bytes = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 2];
        let sense = Sense::parse(&bytes).expect("fixed format");
        assert_eq!(sense.field, Some(FieldPointer { in_cdb: true, byte: 2, bit: Some(7) }));
        assert_eq!(
            sense.to_string(),
            "ILLEGAL REQUEST: invalid field in CDB (24/00), CDB byte 2 bit 7"
        );
    }

    #[test]
    fn descriptor_format_says_the_same() {
        let bytes = [
            0x72, 5, 0x24, 0, 0, 0, 0, 20, 0x02, 6, 0, 0, 0xc0, 0, 2, 0, 0x00, 10, 0x80, 0, 0, 0,
            0, 1, 0, 0, 0, 0,
        ];
        let sense = Sense::parse(&bytes).expect("descriptor format");
        assert_eq!(sense.field, Some(FieldPointer { in_cdb: true, byte: 2, bit: None }));
        assert_eq!(sense.information, Some(0x1_0000_0000));
        assert!(!sense.deferred);
    }

    #[test]
    fn deferred_and_unknown_sense_is_told_apart() {
        let sense = Sense::parse(&[0x73, 4, 0x99, 0x77]).expect("descriptor format");
        assert_eq!(
            sense.to_string(),
            "of an earlier command: HARDWARE ERROR: additional sense 99/77"
        );
        assert_eq!(Sense::parse(&[0x70, 0]), None);
        assert_eq!(Sense::parse(&[0x7f; 18]), None);
        assert_eq!(Sense::parse(&[]), None);
    }

    #[test]
    fn bytes_past_the_additional_length_are_not_read() {
        let mut bytes = [0x70, 0, 5, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0x24, 0, 0, 0xc0, 0, 2];
        assert_eq!(Sense::parse(&bytes).expect("fixed").field, None);
        bytes[7] = 4;
        assert_eq!(Sense::parse(&bytes).expect("fixed").asc, 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(
            format in 0x70_u8..0x74,
            mut bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            if let Some(first) = bytes.first_mut() {
                *first = (*first & 0x80) | format;
            }
            match Sense::parse(&bytes) {
                Some(sense) => prop_assert!(!sense.to_string().is_empty()),
                None => prop_assert!(bytes.len() < 3),
            }
        }
    }
}
