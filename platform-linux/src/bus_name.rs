//! The names of buses, one set for every command.

use std::fmt;
use std::str::FromStr;

use crate::pci::PciAddress;

/// A bus that this build can open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusName {
    /// A software controller in this process.
    Mock(MockChip),
    /// QEMU's `mptsas1068`, which is started and stopped with the command.
    Qtest,
    /// A controller of this machine, bound to `vfio-pci` or `uio_pci_generic`.
    Pci(PciAddress),
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
    /// Every bus that needs no card, in the order in which they are listed.
    pub const WITHOUT_CARD: [Self; 5] = [
        Self::Mock(MockChip::Sas1068),
        Self::Mock(MockChip::Sas2008),
        Self::Mock(MockChip::Sas3008),
        Self::Mock(MockChip::Sas3816),
        Self::Qtest,
    ];

    /// What is behind the name.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Mock(MockChip::Sas1068) => "software SAS1068, MPI 1.5",
            Self::Mock(MockChip::Sas2008) => "software SAS2008, MPI 2.0",
            Self::Mock(MockChip::Sas3008) => "software SAS3008, MPI 2.5",
            Self::Mock(MockChip::Sas3816) => "software SAS3816, MPI 2.6",
            Self::Qtest => "QEMU's SAS1068, MPI 1.5",
            Self::Pci(_) => "a controller of this machine",
        }
    }

    /// The PCI device id of the chip, whose vendor is 1000; `None` where only the card can tell.
    #[must_use]
    pub const fn device_id(self) -> Option<u16> {
        match self {
            Self::Mock(MockChip::Sas1068) | Self::Qtest => Some(0x0054),
            Self::Mock(MockChip::Sas2008) => Some(0x0072),
            Self::Mock(MockChip::Sas3008) => Some(0x0097),
            Self::Mock(MockChip::Sas3816) => Some(0x00e6),
            Self::Pci(_) => None,
        }
    }

    /// Whether disks behind it are somebody's own, and not the program's temporary ones.
    #[must_use]
    pub const fn is_real(self) -> bool {
        matches!(self, Self::Pci(_))
    }
}

impl fmt::Display for BusName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mock(MockChip::Sas1068) => "mock:sas1068",
            Self::Mock(MockChip::Sas2008) => "mock:sas2008",
            Self::Mock(MockChip::Sas3008) => "mock:sas3008",
            Self::Mock(MockChip::Sas3816) => "mock:sas3816",
            Self::Qtest => "qtest",
            Self::Pci(address) => return address.fmt(f),
        })
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
        let known = Self::WITHOUT_CARD.into_iter().find(|bus| bus.to_string() == name);
        if let Some(bus) = known.or_else(|| name.parse().ok().map(Self::Pci)) {
            return Ok(bus);
        }
        let names = Self::WITHOUT_CARD.map(|bus| bus.to_string()).join(", ");
        let names = format!("{names}, or the PCI address of a controller as in `mptctl status`");
        Err(UnknownBus(if name == "mock:sas3108" {
            format!(
                "mock:sas3108 needs the MegaRAID Fusion generation, which this version does not have; use one of {names}"
            )
        } else {
            format!("there is no bus \"{name}\"; use one of {names}")
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str) -> String {
        name.parse::<BusName>().expect_err("not a bus").to_string()
    }

    #[test]
    fn every_name_is_read_back() {
        for bus in BusName::WITHOUT_CARD {
            assert_eq!(bus.to_string().parse(), Ok(bus));
        }
    }

    #[test]
    fn a_pci_address_is_a_bus_with_or_without_its_domain() {
        for (typed, whole) in [
            ("0000:03:00.0", "0000:03:00.0"),
            ("03:00.0", "0000:03:00.0"),
            ("0001:af:1f.7", "0001:af:1f.7"),
        ] {
            let bus: BusName = typed.parse().expect("an address");
            assert!(bus.is_real());
            assert_eq!(bus.to_string(), whole);
        }
    }

    #[test]
    fn what_comes_later_is_refused_as_such() {
        assert!(refusal("mock:sas3108").contains("MegaRAID Fusion"));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_names() {
        for name in ["", "mock", "mock:sas9999", "03:00", "0000:03:00.00", "x:y.z", "é.0"] {
            let sentence = refusal(name);
            assert!(sentence.contains("there is no bus") && sentence.contains("qtest"), "{name}");
        }
    }
}
