//! The chips, keyed by PCI id, with what is different about each as data.
//!
//! Sources: the device id lists of mpi_cnfg.h ("Manufacturing Config pages") and mpi2_cnfg.h, and
//! mpt3sas for what each needs. The SAS1078 is left out: its errata want local addresses in some
//! SGEs (mptbase, "36GB limitation"), which nobody here could test.

/// The PCI vendor id of LSI Logic, now Broadcom, on all of them.
pub const VENDOR: u16 = 0x1000;

/// Which message formats a chip speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// MPI 1.x: FIFOs in the chip.
    Mpi1,
    /// MPI 2.0: rings in memory, MPI SGEs.
    Mpi20,
    /// MPI 2.5: rings in memory, IEEE SGEs for SCSI I/O.
    Mpi25,
    /// MPI 2.6: as 2.5, and atomic descriptors where the facts say so.
    Mpi26,
}

/// One kind of chip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chip {
    /// PCI device id.
    pub device: u16,
    /// The chip's name.
    pub name: &'static str,
    /// Its message formats.
    pub family: Family,
    /// What it needs beyond its family.
    pub quirks: Quirks,
}

/// Ways in which chips differ within a family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quirks {
    /// Address bits for everything that the chip reaches by DMA.
    pub address_bits: u8,
    /// Status registers may spuriously read as zero: read up to 30 times (Aero and Sea).
    pub zero_reads: bool,
    /// 32-bit atomic request descriptors may be used when the facts offer them.
    pub atomic_descriptors: bool,
    /// The platform cannot do a 64-bit bus write: post descriptors in two halves (trap T47).
    pub split_posts: bool,
}

const MPI1: Quirks =
    Quirks { address_bits: 64, zero_reads: false, atomic_descriptors: false, split_posts: false };
const MPI20: Quirks = MPI1;
/// An SGE that reaches the last byte of the address space faults the firmware, so the top bit is
/// left alone (controllers.md 6, point 5).
const MPI25: Quirks = Quirks { address_bits: 63, ..MPI1 };
const AERO: Quirks = Quirks { zero_reads: true, atomic_descriptors: true, ..MPI25 };

const fn chip(device: u16, name: &'static str, family: Family, quirks: Quirks) -> Chip {
    Chip { device, name, family, quirks }
}

/// Every chip this driver takes, in the order of their generations.
pub const CHIPS: &[Chip] = &[
    chip(0x0050, "SAS1064", Family::Mpi1, MPI1),
    chip(0x005c, "SAS1064A", Family::Mpi1, MPI1),
    chip(0x0056, "SAS1064E", Family::Mpi1, MPI1),
    chip(0x005e, "SAS1066", Family::Mpi1, MPI1),
    chip(0x005a, "SAS1066E", Family::Mpi1, MPI1),
    chip(0x0054, "SAS1068", Family::Mpi1, MPI1),
    chip(0x0058, "SAS1068E", Family::Mpi1, MPI1),
    chip(0x0059, "SAS1068E", Family::Mpi1, MPI1),
    chip(0x0070, "SAS2004", Family::Mpi20, MPI20),
    chip(0x0072, "SAS2008", Family::Mpi20, MPI20),
    chip(0x0074, "SAS2108", Family::Mpi20, MPI20),
    chip(0x0076, "SAS2108", Family::Mpi20, MPI20),
    chip(0x0077, "SAS2108", Family::Mpi20, MPI20),
    chip(0x0064, "SAS2116", Family::Mpi20, MPI20),
    chip(0x0065, "SAS2116", Family::Mpi20, MPI20),
    chip(0x0080, "SAS2208", Family::Mpi20, MPI20),
    chip(0x0081, "SAS2208", Family::Mpi20, MPI20),
    chip(0x0082, "SAS2208", Family::Mpi20, MPI20),
    chip(0x0083, "SAS2208", Family::Mpi20, MPI20),
    chip(0x0084, "SAS2208", Family::Mpi20, MPI20),
    chip(0x0085, "SAS2208", Family::Mpi20, MPI20),
    chip(0x0086, "SAS2308", Family::Mpi20, MPI20),
    chip(0x0087, "SAS2308", Family::Mpi20, MPI20),
    chip(0x006e, "SAS2308", Family::Mpi20, MPI20),
    chip(0x0096, "SAS3004", Family::Mpi25, MPI25),
    chip(0x0097, "SAS3008", Family::Mpi25, MPI25),
    chip(0x0090, "SAS3108", Family::Mpi25, MPI25),
    chip(0x0091, "SAS3108", Family::Mpi25, MPI25),
    chip(0x0094, "SAS3108", Family::Mpi25, MPI25),
    chip(0x0095, "SAS3108", Family::Mpi25, MPI25),
    chip(0x00c9, "SAS3216", Family::Mpi26, MPI25),
    chip(0x00c4, "SAS3224", Family::Mpi26, MPI25),
    chip(0x00c5, "SAS3316", Family::Mpi26, MPI25),
    chip(0x00c6, "SAS3316", Family::Mpi26, MPI25),
    chip(0x00c7, "SAS3316", Family::Mpi26, MPI25),
    chip(0x00c8, "SAS3316", Family::Mpi26, MPI25),
    chip(0x00c0, "SAS3324", Family::Mpi26, MPI25),
    chip(0x00c1, "SAS3324", Family::Mpi26, MPI25),
    chip(0x00c2, "SAS3324", Family::Mpi26, MPI25),
    chip(0x00c3, "SAS3324", Family::Mpi26, MPI25),
    chip(0x00aa, "SAS3516", Family::Mpi26, MPI25),
    chip(0x00ab, "SAS3516", Family::Mpi26, MPI25),
    chip(0x00ac, "SAS3416", Family::Mpi26, MPI25),
    chip(0x00ad, "SAS3508", Family::Mpi26, MPI25),
    chip(0x00ae, "SAS3508", Family::Mpi26, MPI25),
    chip(0x00af, "SAS3408", Family::Mpi26, MPI25),
    chip(0x00d0, "SAS3716", Family::Mpi26, MPI25),
    chip(0x00d1, "SAS3616", Family::Mpi26, MPI25),
    chip(0x00d2, "SAS3708", Family::Mpi26, MPI25),
    chip(0x00e1, "SAS3916", Family::Mpi26, AERO),
    chip(0x00e2, "SAS3916", Family::Mpi26, AERO),
    chip(0x00e5, "SAS3816", Family::Mpi26, AERO),
    chip(0x00e6, "SAS3816", Family::Mpi26, AERO),
];

impl Chip {
    /// The chip with these PCI ids, if this driver takes it.
    #[must_use]
    pub fn find(vendor: u16, device: u16) -> Option<&'static Chip> {
        if vendor != VENDOR {
            return None;
        }
        // Out of the compiler's sight, which would make straight-line code of the whole table.
        core::hint::black_box(CHIPS).iter().find(|chip| chip.device == device)
    }

    /// Whether the chip speaks MPI 1.x.
    #[must_use]
    pub const fn is_mpi1(&self) -> bool {
        matches!(self.family, Family::Mpi1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_device_id_stands_for_two_chips() {
        for (index, chip) in CHIPS.iter().enumerate() {
            assert!(
                CHIPS.iter().skip(index + 1).all(|other| other.device != chip.device),
                "{:#06x}",
                chip.device
            );
        }
    }

    #[test]
    fn quirks_follow_the_chip() {
        let find = |device| Chip::find(VENDOR, device).expect("known");
        assert_eq!(find(0x54).family, Family::Mpi1);
        assert_eq!(Chip::find(VENDOR, 0x62), None, "SAS1078 and its addressing errata: not taken");
        assert_eq!(find(0x72).family, Family::Mpi20);
        assert_eq!(find(0x97).family, Family::Mpi25);
        assert_eq!(find(0x97).quirks.address_bits, 63);
        assert!(find(0xe6).quirks.zero_reads && find(0xe6).quirks.atomic_descriptors);
        assert!(!find(0xac).quirks.atomic_descriptors);
        assert_eq!(Chip::find(0x8086, 0x54), None);
        assert_eq!(Chip::find(VENDOR, 0x5d), None, "MegaRAID Fusion comes later");
    }
}
