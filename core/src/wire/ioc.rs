//! IOC messages: facts, init, port facts, port enable, event notification and acknowledgement.
//!
//! [`mpi1`] and [`mpi2`] have the same struct names; what both share is here.

pub mod mpi1;
pub mod mpi2;

use core::fmt;

use super::{U32, layout};
use crate::codes::codes;

codes! {
    /// WhoInit: who brought the IOC to Operational (mpi_ioc.h, mpi2_ioc.h; doorbell bits 26:24).
    #[derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::KnownLayout,
        zerocopy::Immutable,
        zerocopy::Unaligned,
    )]
    pub struct WhoInit(u8) {
        NOBODY = 0x00, "nobody";
        SYSTEM_BIOS = 0x01, "system BIOS";
        ROM_BIOS = 0x02, "ROM BIOS";
        PCI_PEER = 0x03, "PCI peer";
        HOST_DRIVER = 0x04, "host driver";
        MANUFACTURER = 0x05, "manufacturer";
    }
}

codes! {
    /// PortType of a port facts reply (mpi_ioc.h, mpi2_ioc.h).
    #[derive(
        zerocopy::FromBytes,
        zerocopy::IntoBytes,
        zerocopy::KnownLayout,
        zerocopy::Immutable,
        zerocopy::Unaligned,
    )]
    pub struct PortType(u8) {
        INACTIVE = 0x00, "inactive";
        SCSI = 0x01, "parallel SCSI";
        FIBRE_CHANNEL = 0x10, "Fibre Channel";
        ISCSI = 0x20, "iSCSI";
        SAS = 0x30, "SAS";
        SAS_VIRTUAL = 0x31, "virtual SAS";
        TRI_MODE = 0x40, "SAS, SATA and NVMe";
    }
}

layout! {
    /// A version as four bytes, least significant first (MPI_FW_VERSION, MPI2_VERSION_UNION).
    pub struct Version: 0x04 {
        0x00 dev: u8 = "development step",
        0x01 unit: u8 = "unit",
        0x02 minor: u8 = "minor",
        0x03 major: u8 = "major",
    }
}

impl Version {
    /// A version from its 32-bit word, major in the top byte.
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        let [dev, unit, minor, major] = word.to_le_bytes();
        Self { dev, unit, minor, major }
    }
}

impl From<U32> for Version {
    fn from(word: U32) -> Self {
        Self::from_word(word.get())
    }
}

impl fmt::Display for Version {
    /// As the vendor prints it: `20.00.07.00`, decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}.{:02}.{:02}.{:02}", self.major, self.minor, self.unit, self.dev)
    }
}

/// MsgVersion of the message set a controller speaks: major in bits 15:8, minor in 7:0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MsgVersion(pub u16);

impl MsgVersion {
    /// MPI 1.5, the SAS1064/1068/1078 chips.
    pub const MPI_1_5: Self = Self(0x0105);
    /// MPI 2.0, SAS2.
    pub const MPI_2_0: Self = Self(0x0200);
    /// MPI 2.5, SAS3.
    pub const MPI_2_5: Self = Self(0x0205);
    /// MPI 2.6, SAS3.5 and later.
    pub const MPI_2_6: Self = Self(0x0206);

    /// The major version.
    #[must_use]
    pub const fn major(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// The minor version.
    #[must_use]
    pub const fn minor(self) -> u8 {
        self.0.to_be_bytes()[1]
    }
}

impl fmt::Display for MsgVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MPI {}.{}", self.major(), self.minor())
    }
}

/// ProductID of an IOC facts reply: type 15:12, product 11:8, family 7:0 (mpi_ioc.h, mpi2_image.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductId(pub u16);

impl ProductId {
    /// Whether the product is a SAS controller (type 2).
    #[must_use]
    pub const fn is_sas(self) -> bool {
        self.0 >> 12 == 2
    }

    /// Whether the firmware is the integrated RAID ("IR") one; otherwise it is the plain one
    /// ("IT", initiator and target).
    #[must_use]
    pub const fn is_integrated_raid(self) -> bool {
        (self.0 >> 8) & 0xf == 7
    }

    /// The chip family number, bits 7:0.
    #[must_use]
    pub const fn family(self) -> u8 {
        self.0.to_be_bytes()[1]
    }

    /// The chip family in words, for SAS products; `"unknown"` otherwise.
    #[must_use]
    pub const fn family_name(self) -> &'static str {
        if !self.is_sas() {
            return "unknown";
        }
        match self.family() {
            0x01 => "SAS1064",
            0x02 => "SAS1068",
            0x03 => "SAS1078",
            0x04 => "SAS1064E/1066E/1068E",
            0x13 => "SAS2008/2108/2116",
            0x14 => "SAS2208/2308",
            0x21 => "SAS3008/3108",
            0x28 => "SAS3216/3224/3316/3324",
            0x31 => "SAS34xx/35xx/36xx/38xx/39xx",
            _ => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_the_vendor_prints_them() {
        assert_eq!(std::format!("{}", Version::from_word(0x1400_0700)), "20.00.07.00");
        assert_eq!(std::format!("{}", MsgVersion(0x0205)), "MPI 2.5");
    }

    #[test]
    fn product_ids_name_family_and_firmware_kind() {
        // QEMU's mptsas1068 and a SAS2008 with IR firmware.
        assert_eq!(ProductId(0x2102).family_name(), "SAS1068");
        assert!(!ProductId(0x2213).is_integrated_raid());
        assert!(ProductId(0x2713).is_integrated_raid());
        assert_eq!(ProductId(0x2713).family_name(), "SAS2008/2108/2116");
        assert_eq!(ProductId(0x1013).family_name(), "unknown");
    }
}
