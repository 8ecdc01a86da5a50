//! How values are typed.

use fusion_mpt_linux::ata::Protocol;
use fusion_mpt_mock::faults::{Fault, Planned, UnknownFault, When};

/// A number of bytes, with k or m.
pub(super) fn bytes(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let number: u32 = digits.parse().map_err(|_| "not a number of bytes, like 4096 or 4k")?;
    match number.checked_mul(unit) {
        Some(bytes) if (512..=1 << 20).contains(&bytes) => Ok(bytes),
        _ => Err("a command moves from 512 bytes to 1m".to_owned()),
    }
}

/// A seed.
pub(super) fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        format!("\"{text}\" is no seed; say a number from 0 to {}, or none for any", u64::MAX)
    })
}

/// A fault by its name, and the message that it begins at.
pub(super) fn fault(text: &str) -> Result<Planned, String> {
    let (name, message) = text.split_once('@').unwrap_or((text, "0"));
    let fault: Fault = name.parse().map_err(|unknown: UnknownFault| unknown.to_string())?;
    let message = message.parse().map_err(|_| format!("\"{message}\" is no message's number"))?;
    Ok(Planned { fault, when: When::message(message) })
}

/// A byte, in decimal or as 0x and hex digits.
pub(super) fn byte(text: &str) -> Result<u8, String> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_err(|_| "not a page number from 0 to 255 or 0x00 to 0xff".to_owned())
}

/// A number, in decimal or as 0x and hex digits, up to `greatest`.
fn number(text: &str, greatest: u64) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let number = number.ok().filter(|number| *number <= greatest);
    number.ok_or_else(|| format!("not a number from 0 to {greatest}, nor 0x0 to {greatest:#x}"))
}

/// A register of 8 bits.
pub(super) fn device(text: &str) -> Result<u8, String> {
    number(text, 0xff).map(|number| number as u8)
}

/// A register of 16 bits.
pub(super) fn word(text: &str) -> Result<u16, String> {
    number(text, 0xffff).map(|number| number as u16)
}

/// A logical block address of 48 bits.
pub(super) fn lba(text: &str) -> Result<u64, String> {
    number(text, 0xffff_ffff_ffff)
}

/// A byte in hex, with 0x or without.
pub(super) fn hex_byte(text: &str) -> Result<u8, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let good = (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let byte = u8::from_str_radix(digits, 16).ok().filter(|_| good);
    byte.ok_or_else(|| "not a byte in hex, like ec or 0xb0".to_owned())
}

/// How an ATA command moves data.
pub(super) fn protocol(text: &str) -> Result<Protocol, String> {
    let found = Protocol::ALL.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, protocol)| protocol).ok_or_else(|| {
        let names = Protocol::ALL.map(|(name, _)| name).join(", ");
        format!("no protocol; there are {names}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units_and_bounds() {
        assert_eq!(bytes("4k"), Ok(4096));
        assert_eq!(bytes("1M"), Ok(1 << 20));
        assert_eq!(bytes("512"), Ok(512));
        for wrong in ["", "k", "0", "2m", "4x", "-1", "99999999999", "4096m", "é"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn page_numbers_are_read_in_both_bases() {
        assert_eq!(byte("0x83"), Ok(0x83));
        assert_eq!(byte("131"), Ok(131));
        assert!(byte("0x100").is_err() && byte("256").is_err() && byte("").is_err());
    }

    #[test]
    fn a_fault_is_read_with_the_message_that_it_begins_at() {
        let planned = fault("drop-reply@12").expect("there is one");
        assert_eq!((planned.fault, planned.when), (Fault::DropReply, When::message(12)));
        assert_eq!(fault("fault-state").expect("at once").when, When::message(0));
        for wrong in ["drop", "@1", "drop-reply@", "drop-reply@-1", "drop-reply@x"] {
            assert!(fault(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn registers_are_read_in_both_bases_and_within_their_width() {
        assert_eq!((word("0xda"), lba("12734208")), (Ok(0xda), Ok(0x00c2_4f00)));
        assert_eq!((hex_byte("ec"), hex_byte("0xB0"), device("64")), (Ok(0xec), Ok(0xb0), Ok(64)));
        assert!(word("0x10000").is_err() && lba("0x1000000000000").is_err());
        for wrong in ["", "0x", "+1", "100", "g", "é"] {
            assert!(hex_byte(wrong).is_err(), "{wrong}");
        }
        assert_eq!(protocol("pio-in"), Ok(Protocol::PioIn));
        assert!(protocol("PIO").is_err_and(|said| said.contains("dma-out")));
    }

    #[test]
    fn a_seed_is_any_number() {
        assert_eq!(seed("0"), Ok(0));
        assert_eq!(seed("18446744073709551615"), Ok(u64::MAX));
        for wrong in ["", "-1", "x", "1.5", "18446744073709551616"] {
            assert!(seed(wrong).is_err_and(|said| said.contains("is no seed")), "{wrong}");
        }
    }
}
