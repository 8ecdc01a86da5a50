//! What a command descriptor block asks for, in words and as far as a session must know (SPC-5,
//! SBC-4). The blocks themselves are built by [`fusion_mpt::scsi::Cdb`].

use std::fmt::Write as _;

use fusion_mpt::scsi::Opcode;

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

/// Whether the command may change what is on the medium: its cache then wants a flush.
#[must_use]
pub fn is_write(cdb: &[u8]) -> bool {
    let writes = [0x04, 0x0a, 0x2a, 0x2e, 0x3b, 0x41, 0x42, 0x89, 0x8a, 0x8e, 0x93, 0xaa, 0xae];
    cdb.first().is_some_and(|operation| writes.contains(operation))
}

/// Whether the command may destroy data, in ways that a flush has no part in: sanitizing, and what
/// is passed through to an ATA drive.
#[must_use]
pub fn may_destroy(cdb: &[u8]) -> bool {
    let others = [0x48, 0x7f, 0x85, 0x9c, 0xa1];
    is_write(cdb) || cdb.first().is_some_and(|operation| others.contains(operation))
}

/// Whether the command flushes the whole medium.
#[must_use]
pub fn is_whole_flush(cdb: &[u8]) -> bool {
    cdb.first() == Some(&Opcode::SYNCHRONIZE_CACHE_10.0)
        && cdb.get(1..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}

/// The command's name and what it asks for: `READ(10) lba 5 blocks 8`.
#[must_use]
pub fn describe(cdb: &[u8]) -> String {
    let Some(operation) = cdb.first().copied() else { return "no CDB".into() };
    let mut text = match Opcode(operation).name() {
        "unknown" => format!("command {operation:#04x}"),
        name => name.to_owned(),
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use fusion_mpt::scsi::Cdb;

    #[test]
    fn a_transfer_is_described_with_its_place_whatever_its_form() {
        let text = |cdb: Cdb| describe(cdb.as_bytes());
        assert_eq!(text(Cdb::read(5, 8)), "READ (10) lba 5 blocks 8");
        assert_eq!(text(Cdb::write(1 << 32, 1)), "WRITE (16) lba 4294967296 blocks 1");
        assert_eq!(text(Cdb::read_12(7, 65_536)), "READ (12) lba 7 blocks 65536");
        assert_eq!(text(Cdb::inquiry_vpd(0x83, 252)), "INQUIRY page 0x83");
    }

    #[test]
    fn each_cdb_is_as_long_as_its_group_says() {
        for cdb in [
            Cdb::test_unit_ready(),
            Cdb::inquiry(36),
            Cdb::read_capacity_10(),
            Cdb::read_capacity_16(32),
            Cdb::report_luns(64),
            Cdb::write(1 << 40, 1),
        ] {
            assert_eq!(Some(usize::from(cdb.length())), length_of(cdb.opcode().0), "{cdb}");
        }
    }

    #[test]
    fn cut_off_cdbs_are_described_as_far_as_they_go() {
        assert_eq!(describe(&[]), "no CDB");
        assert_eq!(describe(&[0x28, 0]), "READ (10) lba 0 blocks 0");
        assert_eq!(describe(&[0xc5, 1, 2]), "command 0xc5");
    }

    #[test]
    fn writes_want_a_flush_and_only_a_whole_flush_will_do() {
        assert!(is_write(Cdb::write(1, 1).as_bytes()) && !is_write(Cdb::read(1, 1).as_bytes()));
        assert!(may_destroy(&[0x48, 0, 0, 0, 0, 0, 0, 0, 0, 0]) && !may_destroy(&[0x12]));
        assert!(is_whole_flush(Cdb::synchronize_cache_10(0, 0).as_bytes()));
        assert!(!is_whole_flush(Cdb::synchronize_cache_10(1, 1).as_bytes()));
    }
}
