//! The additional sense codes people meet on disks, in words (SPC-4 annex D.2, shortened).

/// ASC, ASCQ, text; in order, so that the table can be searched by halves.
const TABLE: &[(u8, u8, &str)] = &[
    (0x00, 0x1d, "ATA pass-through information available"),
    (0x03, 0x00, "peripheral device write fault"),
    (0x04, 0x00, "not ready, cause not reportable"),
    (0x04, 0x01, "becoming ready"),
    (0x04, 0x02, "not ready, start command required"),
    (0x04, 0x03, "not ready, manual intervention required"),
    (0x04, 0x04, "not ready, format in progress"),
    (0x04, 0x07, "not ready, operation in progress"),
    (0x04, 0x09, "not ready, self-test in progress"),
    (0x04, 0x0a, "not accessible, asymmetric access state transition"),
    (0x04, 0x0b, "not accessible, target port in standby state"),
    (0x04, 0x0c, "not accessible, target port in unavailable state"),
    (0x04, 0x11, "not ready, notify (enable spinup) required"),
    (0x04, 0x1b, "not ready, sanitize in progress"),
    (0x05, 0x00, "logical unit does not respond to selection"),
    (0x08, 0x00, "logical unit communication failure"),
    (0x0b, 0x00, "warning"),
    (0x0b, 0x01, "warning, temperature exceeded"),
    (0x0c, 0x00, "write error"),
    (0x0c, 0x02, "write error, reassignment failed"),
    (0x10, 0x00, "id CRC or ECC error"),
    (0x10, 0x01, "block guard check failed"),
    (0x10, 0x02, "block application tag check failed"),
    (0x10, 0x03, "block reference tag check failed"),
    (0x11, 0x00, "unrecovered read error"),
    (0x11, 0x01, "read retries exhausted"),
    (0x11, 0x04, "unrecovered read error, reassignment failed"),
    (0x14, 0x01, "record not found"),
    (0x15, 0x01, "mechanical positioning error"),
    (0x17, 0x01, "recovered data with retries"),
    (0x18, 0x00, "recovered data with error correction"),
    (0x1a, 0x00, "parameter list length error"),
    (0x1d, 0x00, "miscompare during verify"),
    (0x20, 0x00, "invalid command operation code"),
    (0x21, 0x00, "block address out of range"),
    (0x24, 0x00, "invalid field in CDB"),
    (0x25, 0x00, "logical unit not supported"),
    (0x26, 0x00, "invalid field in parameter list"),
    (0x27, 0x00, "write protected"),
    (0x28, 0x00, "not ready to ready change, medium may have changed"),
    (0x29, 0x00, "power on, reset, or bus device reset occurred"),
    (0x29, 0x01, "power on occurred"),
    (0x29, 0x02, "bus reset occurred"),
    (0x29, 0x03, "bus device reset occurred"),
    (0x29, 0x04, "device internal reset"),
    (0x29, 0x07, "I_T nexus loss occurred"),
    (0x2a, 0x01, "mode parameters changed"),
    (0x2a, 0x09, "capacity data has changed"),
    (0x2c, 0x00, "command sequence error"),
    (0x2f, 0x00, "commands cleared by another initiator"),
    (0x31, 0x00, "medium format corrupted"),
    (0x31, 0x01, "format command failed"),
    (0x32, 0x00, "no defect spare location available"),
    (0x35, 0x00, "enclosure services failure"),
    (0x3a, 0x00, "medium not present"),
    (0x3e, 0x01, "logical unit failure"),
    (0x3f, 0x01, "microcode has been changed"),
    (0x3f, 0x03, "inquiry data has changed"),
    (0x3f, 0x0e, "reported logical units data has changed"),
    (0x44, 0x00, "internal target failure"),
    (0x47, 0x01, "data phase CRC error detected"),
    (0x47, 0x03, "information unit CRC error detected"),
    (0x49, 0x00, "invalid message error"),
    (0x4b, 0x00, "data phase error"),
    (0x4b, 0x03, "ACK/NAK timeout"),
    (0x4b, 0x04, "NAK received"),
    (0x4e, 0x00, "overlapped commands attempted"),
    (0x55, 0x03, "insufficient resources"),
    (0x5d, 0x00, "failure prediction threshold exceeded"),
    (0x5d, 0xff, "failure prediction threshold exceeded (false)"),
    (0x5e, 0x00, "low power condition on"),
    (0x74, 0x71, "logical unit access not authorized"),
];

/// The text of a code; `None` if the table does not have it.
#[must_use]
pub fn text(asc: u8, ascq: u8) -> Option<&'static str> {
    let at = TABLE.binary_search_by_key(&(asc, ascq), |(asc, ascq, _)| (*asc, *ascq)).ok()?;
    TABLE.get(at).map(|(_, _, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_so_that_searching_it_works() {
        assert!(TABLE.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)));
        for (asc, ascq, expected) in TABLE {
            assert_eq!(text(*asc, *ascq), Some(*expected));
        }
        assert_eq!(text(0x80, 0x00), None);
    }
}
