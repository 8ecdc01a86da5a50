//! Where a PCI function is.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// domain:bus:device.function, as the names in /sys/bus/pci/devices and `lspci -D` have it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PciAddress {
    /// The domain, also called segment. Four hexadecimal digits, but virtual ones (VMD) take more.
    pub domain: u32,
    /// The bus.
    pub bus: u8,
    /// The device, 0 to 31.
    pub device: u8,
    /// The function, 0 to 7.
    pub function: u8,
}

/// What is no PCI address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotAnAddress(String);

impl fmt::Display for NotAnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no PCI address; they look like 0000:03:00.0 or 03:00.0, as lspci prints them",
            self.0
        )
    }
}

impl std::error::Error for NotAnAddress {}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        // Through `pad`, so that a width aligns the address as a whole.
        f.pad(&format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
    }
}

impl Serialize for PciAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for PciAddress {
    type Err = NotAnAddress;

    /// Takes `0000:03:00.0`, and `03:00.0` for domain 0.
    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        parse(text).ok_or_else(|| NotAnAddress(text.into()))
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (rest, function) = text.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = match rest.split_once(':') {
        Some((domain, bus)) => (hexadecimal(domain, 4..=8)?, bus),
        None => (0, rest),
    };
    let address = PciAddress {
        domain,
        bus: u8::try_from(hexadecimal(bus, 1..=2)?).ok()?,
        device: u8::try_from(hexadecimal(device, 1..=2)?).ok()?,
        function: u8::try_from(hexadecimal(function, 1..=1)?).ok()?,
    };
    (address.device < 32 && address.function < 8).then_some(address)
}

/// Digits only: `from_str_radix` alone would take a sign.
fn hexadecimal(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let valid = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if valid { u32::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_is_domain_zero() {
        let address = PciAddress { domain: 0, bus: 3, device: 0x1f, function: 2 };
        assert_eq!("03:1f.2".parse(), Ok(address));
        assert_eq!("0000:03:1f.2".parse(), Ok(address));
        assert_eq!(address.to_string(), "0000:03:1f.2");
    }

    #[test]
    fn long_domains_survive_the_way_there_and_back() {
        let address: PciAddress = "10000:01:00.0".parse().expect("a VMD domain");
        assert_eq!(address.domain, 0x1_0000);
        assert_eq!(address.to_string(), "10000:01:00.0");
    }

    #[test]
    fn a_width_pads_the_whole_address() {
        let address = PciAddress { domain: 0, bus: 3, device: 0, function: 0 };
        assert_eq!(format!("{address:14}|"), "0000:03:00.0  |");
    }

    #[test]
    fn what_is_no_address_is_refused_by_its_name() {
        for text in [
            "",
            "qtest",
            "03",
            "03:00",
            "03:20.0",
            "03:00.8",
            "+3:00.0",
            "03:00.0.0",
            ":03:00.0",
            "0000:03:00.",
            "0:0:0:0.0",
            "03:00.00",
            "/dev/sda",
            "000:03:00.0",
            "mock:sas3008",
        ] {
            let error = text.parse::<PciAddress>().expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_address_reads_back_as_it_prints(
            domain: u32, bus: u8, device in 0_u8..32, function in 0_u8..8,
        ) {
            let address = PciAddress { domain, bus, device, function };
            proptest::prop_assert_eq!(address.to_string().parse(), Ok(address));
        }
    }
}
