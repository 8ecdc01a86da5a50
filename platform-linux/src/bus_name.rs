//! The names of buses, one set for every command.

use std::fmt;
use std::str::FromStr;

/// A bus that this build can open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusName {
    /// A software controller in this process.
    Mock(MockChip),
    /// QEMU's `mptsas1068`, which is started and stopped with the command.
    Qtest,
}

/// The chips that there is a software controller for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MockChip {
    /// MPI 1.5.
    Sas1068,
    /// MPI 2.0.
    Sas2008,
    /// MPI 2.5.
    Sas3008,
    /// MPI 2.6.
    Sas3816,
}

impl BusName {
    /// Every bus, in the order in which they are listed.
    pub const ALL: [Self; 5] = [
        Self::Mock(MockChip::Sas1068),
        Self::Mock(MockChip::Sas2008),
        Self::Mock(MockChip::Sas3008),
        Self::Mock(MockChip::Sas3816),
        Self::Qtest,
    ];

    /// The name as it is typed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mock(MockChip::Sas1068) => "mock:sas1068",
            Self::Mock(MockChip::Sas2008) => "mock:sas2008",
            Self::Mock(MockChip::Sas3008) => "mock:sas3008",
            Self::Mock(MockChip::Sas3816) => "mock:sas3816",
            Self::Qtest => "qtest",
        }
    }

    /// What is behind the name.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Mock(MockChip::Sas1068) => "software SAS1068, MPI 1.5",
            Self::Mock(MockChip::Sas2008) => "software SAS2008, MPI 2.0",
            Self::Mock(MockChip::Sas3008) => "software SAS3008, MPI 2.5",
            Self::Mock(MockChip::Sas3816) => "software SAS3816, MPI 2.6",
            Self::Qtest => "QEMU's SAS1068, MPI 1.5",
        }
    }

    /// The PCI device id of the chip; the vendor is 1000.
    #[must_use]
    pub const fn device_id(self) -> u16 {
        match self {
            Self::Mock(MockChip::Sas1068) | Self::Qtest => 0x0054,
            Self::Mock(MockChip::Sas2008) => 0x0072,
            Self::Mock(MockChip::Sas3008) => 0x0097,
            Self::Mock(MockChip::Sas3816) => 0x00e6,
        }
    }
}

impl fmt::Display for BusName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a name is not taken, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBus(String);

impl fmt::Display for UnknownBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnknownBus {}

impl FromStr for BusName {
    type Err = UnknownBus;

    fn from_str(name: &str) -> Result<Self, UnknownBus> {
        if let Some(bus) = Self::ALL.into_iter().find(|bus| bus.as_str() == name) {
            return Ok(bus);
        }
        let names = Self::ALL.map(Self::as_str).join(", ");
        Err(UnknownBus(if name == "mock:sas3108" {
            format!(
                "mock:sas3108 needs the MegaRAID Fusion generation, which this version does not have; use one of {names}"
            )
        } else if is_pci_address(name) {
            format!(
                "{name} is a PCI address, and this version cannot open real cards; use one of {names}"
            )
        } else {
            format!("there is no bus \"{name}\"; use one of {names}")
        }))
    }
}

/// Whether `name` has the form of a PCI address, with or without its domain: `0000:03:00.0`.
fn is_pci_address(name: &str) -> bool {
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let Some((rest, function)) = name.rsplit_once('.') else { return false };
    let parts: Vec<&str> = rest.split(':').collect();
    let place = match parts.as_slice() {
        [bus, device] => hex(bus, 2) && hex(device, 2),
        [domain, bus, device] => hex(domain, 4) && hex(bus, 2) && hex(device, 2),
        _ => false,
    };
    place && hex(function, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str) -> String {
        name.parse::<BusName>().expect_err("not a bus").to_string()
    }

    #[test]
    fn every_name_is_read_back() {
        for bus in BusName::ALL {
            assert_eq!(bus.as_str().parse(), Ok(bus));
        }
    }

    #[test]
    fn what_comes_later_is_refused_as_such() {
        assert!(refusal("mock:sas3108").contains("MegaRAID Fusion"));
        for address in ["0000:03:00.0", "03:00.0", "0000:af:1f.7"] {
            assert!(refusal(address).contains("cannot open real cards"), "{address}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_names() {
        for name in ["", "mock", "mock:sas9999", "03:00", "0000:03:00.00", "x:y.z", "é.0"] {
            let sentence = refusal(name);
            assert!(sentence.contains("there is no bus") && sentence.contains("qtest"), "{name}");
        }
    }
}
