//! Logical unit numbers: eight bytes on the wire, big endian (SAM-5 4.7).

use core::fmt;

/// A logical unit number as commands carry it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Lun(pub [u8; 8]);

impl Lun {
    /// Logical unit 0.
    pub const ZERO: Self = Self([0; 8]);

    /// Peripheral device addressing: logical units 0 to 255 of the target itself.
    #[must_use]
    pub const fn peripheral(number: u8) -> Self {
        Self([0, number, 0, 0, 0, 0, 0, 0])
    }

    /// Flat space addressing, 14 bits; `None` for a number that does not fit.
    #[must_use]
    pub const fn flat(number: u16) -> Option<Self> {
        let [high, low] = number.to_be_bytes();
        if high >= 0x40 { None } else { Some(Self([0x40 | high, low, 0, 0, 0, 0, 0, 0])) }
    }

    /// The usual form of a plain number: peripheral up to 255, flat above, as the kernels do.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        match number.to_be_bytes() {
            [0, low] => Some(Self::peripheral(low)),
            _ => Self::flat(number),
        }
    }

    /// The eight bytes as one big-endian number, as Apple's interfaces pass them.
    #[must_use]
    pub const fn from_u64(value: u64) -> Self {
        Self(value.to_be_bytes())
    }

    /// The eight bytes as one big-endian number.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    /// The plain number, if it is a peripheral (bus 0) or flat one on the first level.
    #[must_use]
    pub const fn number(self) -> Option<u16> {
        match self.0 {
            [high, low, 0, 0, 0, 0, 0, 0] if high == 0 || high >> 6 == 1 => {
                Some(u16::from_be_bytes([high & 0x3f, low]))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => write!(f, "{number}"),
            None => write!(f, "{:#018x}", self.to_u64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_numbers_take_the_form_that_fits() {
        assert_eq!(Lun::new(0), Some(Lun::ZERO));
        assert_eq!(Lun::new(255).map(Lun::to_u64), Some(0x00ff_0000_0000_0000));
        assert_eq!(Lun::new(256).map(Lun::to_u64), Some(0x4100_0000_0000_0000));
        assert_eq!(Lun::new(0x3fff).map(Lun::to_u64), Some(0x7fff_0000_0000_0000));
        assert_eq!(Lun::new(0x4000), None);
    }

    #[test]
    fn every_plain_number_comes_back() {
        for number in 0..0x4000 {
            assert_eq!(Lun::new(number).and_then(Lun::number), Some(number));
        }
    }

    #[test]
    fn other_forms_have_no_plain_number() {
        let well_known = Lun::from_u64(0xc101_0000_0000_0000);
        assert_eq!(well_known.number(), None);
        assert_eq!(std::format!("{well_known}"), "0xc101000000000000");
        assert_eq!(Lun::from_u64(0x0001_0002_0000_0000).number(), None, "second level");
        assert_eq!(Lun::from_u64(0x0101_0000_0000_0000).number(), None, "another bus");
    }
}
