//! The command descriptor blocks that `mptctl` sends, and their names (SPC-5, SBC-4).

use std::fmt::Write as _;

/// A CDB of up to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CdbBytes {
    bytes: [u8; 16],
    length: usize,
}

impl CdbBytes {
    fn new<const N: usize>(from: [u8; N]) -> Self {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(from) {
            *to = from;
        }
        Self { bytes, length: N.min(16) }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// TEST UNIT READY.
#[must_use]
pub fn test_unit_ready() -> CdbBytes {
    CdbBytes::new([0u8; 6])
}

/// INQUIRY: standard data, or the vital product data page `page`.
#[must_use]
pub fn inquiry(page: Option<u8>, allocation: u16) -> CdbBytes {
    let [high, low] = allocation.to_be_bytes();
    CdbBytes::new([0x12, u8::from(page.is_some()), page.unwrap_or(0), high, low, 0])
}

/// READ CAPACITY (10): 8 bytes.
#[must_use]
pub fn read_capacity_10() -> CdbBytes {
    CdbBytes::new([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// READ CAPACITY (16): 32 bytes.
#[must_use]
pub fn read_capacity_16() -> CdbBytes {
    CdbBytes::new([0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0])
}

/// MODE SENSE (6), current values of `page`, without block descriptors.
#[must_use]
pub fn mode_sense_6(page: u8, allocation: u8) -> CdbBytes {
    CdbBytes::new([0x1a, 0x08, page & 0x3f, 0, allocation, 0])
}

/// REPORT LUNS.
#[must_use]
pub fn report_luns(allocation: u32) -> CdbBytes {
    let [a, b, c, d] = allocation.to_be_bytes();
    CdbBytes::new([0xa0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0])
}

/// SYNCHRONIZE CACHE (10) of the whole medium.
#[must_use]
pub fn synchronize_cache() -> CdbBytes {
    CdbBytes::new([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// READ of `blocks` blocks at `lba`: the 10-byte form where it reaches.
#[must_use]
pub fn read(lba: u64, blocks: u32) -> CdbBytes {
    transfer(0x28, 0x88, lba, blocks)
}

/// WRITE of `blocks` blocks at `lba`: the 10-byte form where it reaches.
#[must_use]
pub fn write(lba: u64, blocks: u32) -> CdbBytes {
    transfer(0x2a, 0x8a, lba, blocks)
}

fn transfer(short: u8, long: u8, lba: u64, blocks: u32) -> CdbBytes {
    match (u32::try_from(lba), u16::try_from(blocks)) {
        (Ok(lba), Ok(blocks)) => {
            let ([a, b, c, d], [high, low]) = (lba.to_be_bytes(), blocks.to_be_bytes());
            CdbBytes::new([short, 0, a, b, c, d, 0, high, low, 0])
        }
        _ => {
            let ([a, b, c, d, e, f, g, h], [i, j, k, l]) = (lba.to_be_bytes(), blocks.to_be_bytes());
            CdbBytes::new([long, 0, a, b, c, d, e, f, g, h, i, j, k, l, 0, 0])
        }
    }
}

/// How many bytes a CDB with this operation code has, by its group; `None` for groups without one.
#[must_use]
pub const fn length_of(operation: u8) -> Option<usize> {
    match operation >> 5 {
        0 => Some(6),
        1 | 2 => Some(10),
        4 => Some(16),
        5 => Some(12),
        _ => None,
    }
}

/// Whether the command changes what is on the medium: its cache then wants a flush.
#[must_use]
pub fn is_write(cdb: &[u8]) -> bool {
    let writes = [0x04, 0x0a, 0x2a, 0x2e, 0x3b, 0x41, 0x42, 0x89, 0x8a, 0x8e, 0x93, 0xaa, 0xae];
    cdb.first().is_some_and(|operation| writes.contains(operation))
}

/// Whether the command flushes the whole medium.
#[must_use]
pub fn is_whole_flush(cdb: &[u8]) -> bool {
    cdb == synchronize_cache().bytes()
}

/// The command's name and what it asks for: `READ(10) lba 5 blocks 8`.
#[must_use]
pub fn describe(cdb: &[u8]) -> String {
    let Some(operation) = cdb.first().copied() else { return "no CDB".into() };
    let mut text = name(cdb).map_or_else(|| format!("command {operation:#04x}"), str::to_owned);
    let number = |from: usize, bytes: usize| {
        let part = cdb.get(from..from + bytes).unwrap_or_default();
        part.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    // Writing to a String cannot fail.
    let _ = match operation {
        0x08 | 0x0a => {
            let blocks = if number(4, 1) == 0 { 256 } else { number(4, 1) };
            write!(text, " lba {} blocks {blocks}", number(1, 3) & 0x1f_ffff)
        }
        0x28 | 0x2a | 0x2e | 0x2f | 0x35 | 0x41 | 0x34 => {
            write!(text, " lba {} blocks {}", number(2, 4), number(7, 2))
        }
        0xa8 | 0xaa | 0xae | 0xaf => {
            write!(text, " lba {} blocks {}", number(2, 4), number(6, 4))
        }
        0x88 | 0x8a | 0x8e | 0x8f | 0x91 | 0x93 => {
            write!(text, " lba {} blocks {}", number(2, 8), number(10, 4))
        }
        0x12 if number(1, 1) & 1 != 0 => write!(text, " page {:#04x}", number(2, 1)),
        0x1a | 0x5a => write!(text, " page {:#04x}", number(2, 1) & 0x3f),
        _ => Ok(()),
    };
    text
}

fn name(cdb: &[u8]) -> Option<&'static str> {
    let action = cdb.get(1).map_or(0, |byte| byte & 0x1f);
    Some(match cdb.first()? {
        0x00 => "TEST UNIT READY",
        0x03 => "REQUEST SENSE",
        0x04 => "FORMAT UNIT",
        0x08 => "READ(6)",
        0x0a => "WRITE(6)",
        0x12 => "INQUIRY",
        0x15 => "MODE SELECT(6)",
        0x1a => "MODE SENSE(6)",
        0x1b => "START STOP UNIT",
        0x1d => "SEND DIAGNOSTIC",
        0x25 => "READ CAPACITY(10)",
        0x28 => "READ(10)",
        0x2a => "WRITE(10)",
        0x2e => "WRITE AND VERIFY(10)",
        0x2f => "VERIFY(10)",
        0x34 => "PRE-FETCH(10)",
        0x35 => "SYNCHRONIZE CACHE(10)",
        0x3b => "WRITE BUFFER",
        0x3c => "READ BUFFER",
        0x41 => "WRITE SAME(10)",
        0x42 => "UNMAP",
        0x4d => "LOG SENSE",
        0x55 => "MODE SELECT(10)",
        0x5a => "MODE SENSE(10)",
        0x5e => "PERSISTENT RESERVE IN",
        0x5f => "PERSISTENT RESERVE OUT",
        0x85 => "ATA PASS-THROUGH(16)",
        0x88 => "READ(16)",
        0x89 => "COMPARE AND WRITE",
        0x8a => "WRITE(16)",
        0x8e => "WRITE AND VERIFY(16)",
        0x8f => "VERIFY(16)",
        0x91 => "SYNCHRONIZE CACHE(16)",
        0x93 => "WRITE SAME(16)",
        0x9e if action == 0x10 => "READ CAPACITY(16)",
        0x9e if action == 0x12 => "GET LBA STATUS",
        0xa0 => "REPORT LUNS",
        0xa1 => "ATA PASS-THROUGH(12)",
        0xa3 if action == 0x0c => "REPORT SUPPORTED OPERATION CODES",
        0xa8 => "READ(12)",
        0xaa => "WRITE(12)",
        0xae => "WRITE AND VERIFY(12)",
        0xaf => "VERIFY(12)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_takes_the_short_form_as_far_as_it_reaches() {
        assert_eq!(read(5, 8).bytes(), [0x28, 0, 0, 0, 0, 5, 0, 0, 8, 0]);
        assert_eq!(describe(read(5, 8).bytes()), "READ(10) lba 5 blocks 8");
        assert_eq!(describe(write(0xffff_ffff, 0xffff).bytes()), "WRITE(10) lba 4294967295 blocks 65535");
        assert_eq!(describe(write(1 << 32, 1).bytes()), "WRITE(16) lba 4294967296 blocks 1");
        assert_eq!(describe(read(0, 65_536).bytes()), "READ(16) lba 0 blocks 65536");
    }

    #[test]
    fn each_cdb_is_as_long_as_its_group_says() {
        for cdb in [
            test_unit_ready(),
            inquiry(None, 36),
            read_capacity_10(),
            read_capacity_16(),
            mode_sense_6(8, 64),
            report_luns(64),
            synchronize_cache(),
            read(1, 1),
            write(1 << 40, 1),
        ] {
            let bytes = cdb.bytes();
            assert_eq!(Some(bytes.len()), bytes.first().and_then(|first| length_of(*first)));
        }
    }

    #[test]
    fn cut_off_cdbs_are_described_as_far_as_they_go() {
        assert_eq!(describe(&[]), "no CDB");
        assert_eq!(describe(&[0x28, 0]), "READ(10) lba 0 blocks 0");
        assert_eq!(describe(&[0xc5, 1, 2]), "command 0xc5");
    }

    #[test]
    fn writes_want_a_flush_and_only_a_whole_flush_will_do() {
        assert!(is_write(write(1, 1).bytes()) && !is_write(read(1, 1).bytes()));
        assert!(is_whole_flush(synchronize_cache().bytes()));
        assert!(!is_whole_flush(&[0x35, 0, 0, 0, 0, 1, 0, 0, 1, 0]));
    }
}
