//! What the PCI device ids of LSI, Avago and Broadcom storage controllers stand for.
//!
//! The core knows those it drives; here are all the others too, so that a user is told what they
//! have and why it is not taken, instead of "no such controller".
//!
//! Sources: mpi_cnfg.h and mpi2_cnfg.h ("Manufacturing Config pages"), megaraid_sas.h
//! (`PCI_DEVICE_ID_LSI_*`), and the tables of mptbase, mpt3sas and megaraid_sas.

use std::fmt;

use fusion_mpt::generation::chips::{Chip, Family, VENDOR};
use serde::{Serialize, Serializer};

/// Which host interface a controller has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Generation {
    /// MPI 1.x: SAS, Fibre Channel and parallel SCSI of 2001 to 2008.
    Mpi1,
    /// MPI 2.0: SAS at 6 Gbit/s.
    Mpi20,
    /// MPI 2.5: SAS at 12 Gbit/s.
    Mpi25,
    /// MPI 2.6: SAS at 12 Gbit/s, NVMe behind the same controller.
    Mpi26,
    /// MegaRAID before Fusion: frames by MFI.
    MegaRaidMfi,
    /// MegaRAID Fusion: MPI 2.x frames under MFI's bring-up.
    MegaRaidFusion,
}

impl Generation {
    /// As people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mpi1 => "MPI 1.x",
            Self::Mpi20 => "MPI 2.0",
            Self::Mpi25 => "MPI 2.5",
            Self::Mpi26 => "MPI 2.6",
            Self::MegaRaidMfi => "MegaRAID MFI",
            Self::MegaRaidFusion => "MegaRAID Fusion",
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Generation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a device id stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// The chip's name.
    pub chip: &'static str,
    /// Its host interface.
    pub generation: Generation,
    /// Why this driver does not drive it; `None` where it does.
    pub not_driven: Option<&'static str>,
}

const MFI: &str = "it speaks MFI, not MPI: the kernel's megaraid_sas drives it";
const FUSION: &str = "MegaRAID Fusion is not driven yet: the kernel's megaraid_sas drives it";
const ERRATA: &str = "its addressing errata are not handled";
const PARALLEL: &str = "parallel SCSI is not driven: the kernel's mptspi drives it";
const FIBRE: &str = "Fibre Channel is not driven: the kernel's mptfc drives it";
const FLASH: &str = "a flash card with firmware of its own kind is not driven";
const SWITCH: &str = "the management endpoint of a PCIe switch has no disks";
const TAMPERED: &str = "this id says that its firmware is not to be trusted: no driver takes it";

const OTHERS: &[(u16, &str, Generation, &str)] = {
    use Generation::{MegaRaidFusion, MegaRaidMfi, Mpi1, Mpi20, Mpi26};
    &[
        (0x0030, "53C1030", Mpi1, PARALLEL),
        (0x0031, "53C1030ZC", Mpi1, PARALLEL),
        (0x0032, "53C1035", Mpi1, PARALLEL),
        (0x0033, "53C1035ZC", Mpi1, PARALLEL),
        (0x0040, "53C1035", Mpi1, PARALLEL),
        (0x0041, "53C1035ZC", Mpi1, PARALLEL),
        (0x0062, "SAS1078", Mpi1, ERRATA),
        (0x0621, "FC909", Mpi1, FIBRE),
        (0x0622, "FC929", Mpi1, FIBRE),
        (0x0624, "FC919", Mpi1, FIBRE),
        (0x0626, "FC929X", Mpi1, FIBRE),
        (0x0628, "FC919X", Mpi1, FIBRE),
        (0x0640, "FC949X", Mpi1, FIBRE),
        (0x0642, "FC939X", Mpi1, FIBRE),
        (0x0646, "FC949E", Mpi1, FIBRE),
        (0x007e, "SSS6200", Mpi20, FLASH),
        (0x02b0, "PEX switch", Mpi20, SWITCH),
        (0x02b1, "PEX switch", Mpi20, SWITCH),
        (0x00e0, "SAS3916", Mpi26, TAMPERED),
        (0x00e3, "SAS3916", Mpi26, TAMPERED),
        (0x00e4, "SAS3816", Mpi26, TAMPERED),
        (0x00e7, "SAS3816", Mpi26, TAMPERED),
        (0x0411, "MegaRAID SAS1064", MegaRaidMfi, MFI),
        (0x0413, "MegaRAID Verde", MegaRaidMfi, MFI),
        (0x0060, "MegaRAID SAS1078", MegaRaidMfi, MFI),
        (0x007c, "MegaRAID SAS1078", MegaRaidMfi, MFI),
        (0x0078, "MegaRAID SAS2108", MegaRaidMfi, MFI),
        (0x0079, "MegaRAID SAS2108", MegaRaidMfi, MFI),
        (0x0071, "MegaRAID SAS2008", MegaRaidMfi, MFI),
        (0x0073, "MegaRAID SAS2008", MegaRaidMfi, MFI),
        (0x002f, "MegaRAID SAS2208", MegaRaidFusion, FUSION),
        (0x005b, "MegaRAID SAS2208", MegaRaidFusion, FUSION),
        (0x005d, "MegaRAID SAS3108", MegaRaidFusion, FUSION),
        (0x005f, "MegaRAID SAS3008", MegaRaidFusion, FUSION),
        (0x00ce, "MegaRAID SAS3316", MegaRaidFusion, FUSION),
        (0x00cf, "MegaRAID SAS3324", MegaRaidFusion, FUSION),
        (0x0052, "MegaRAID SAS3216", MegaRaidFusion, FUSION),
        (0x0053, "MegaRAID SAS3224", MegaRaidFusion, FUSION),
        (0x0014, "MegaRAID SAS3516", MegaRaidFusion, FUSION),
        (0x0015, "MegaRAID SAS3416", MegaRaidFusion, FUSION),
        (0x0016, "MegaRAID SAS3508", MegaRaidFusion, FUSION),
        (0x0017, "MegaRAID SAS3408", MegaRaidFusion, FUSION),
        (0x001b, "MegaRAID SAS3504", MegaRaidFusion, FUSION),
        (0x001c, "MegaRAID SAS3404", MegaRaidFusion, FUSION),
        (0x10e1, "MegaRAID SAS3916", MegaRaidFusion, FUSION),
        (0x10e2, "MegaRAID SAS3916", MegaRaidFusion, FUSION),
        (0x10e5, "MegaRAID SAS3816", MegaRaidFusion, FUSION),
        (0x10e6, "MegaRAID SAS3816", MegaRaidFusion, FUSION),
        (0x10e0, "MegaRAID SAS3916", MegaRaidFusion, TAMPERED),
        (0x10e3, "MegaRAID SAS3916", MegaRaidFusion, TAMPERED),
        (0x10e4, "MegaRAID SAS3816", MegaRaidFusion, TAMPERED),
        (0x10e7, "MegaRAID SAS3816", MegaRaidFusion, TAMPERED),
    ]
};

/// What these PCI ids stand for; `None` when they are no Fusion-MPT or MegaRAID controller.
#[must_use]
pub fn find(vendor: u16, device: u16) -> Option<Known> {
    if let Some(chip) = Chip::find(vendor, device) {
        let generation = match chip.family {
            Family::Mpi1 => Generation::Mpi1,
            Family::Mpi20 => Generation::Mpi20,
            Family::Mpi25 => Generation::Mpi25,
            Family::Mpi26 => Generation::Mpi26,
        };
        return Some(Known { chip: chip.name, generation, not_driven: None });
    }
    let (_, chip, generation, why) =
        OTHERS.iter().find(|(id, ..)| vendor == VENDOR && *id == device)?;
    Some(Known { chip, generation: *generation, not_driven: Some(why) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_core_drives_is_said_to_be_driven() {
        for chip in fusion_mpt::generation::chips::CHIPS {
            let known = find(VENDOR, chip.device).expect(chip.name);
            assert_eq!((known.chip, known.not_driven), (chip.name, None));
        }
    }

    #[test]
    fn no_id_is_told_two_stories() {
        for (index, (id, ..)) in OTHERS.iter().enumerate() {
            assert!(Chip::find(VENDOR, *id).is_none(), "{id:#06x} is driven by the core");
            assert!(OTHERS.iter().skip(index + 1).all(|(other, ..)| other != id), "{id:#06x}");
        }
    }

    #[test]
    fn megaraid_is_named_but_not_driven() {
        let invader = find(VENDOR, 0x5d).expect("known");
        assert_eq!(invader.generation, Generation::MegaRaidFusion);
        assert!(invader.not_driven.is_some());
        assert_eq!(find(VENDOR, 0x60).map(|known| known.generation), Some(Generation::MegaRaidMfi));
    }

    #[test]
    fn others_of_the_same_numbers_are_strangers() {
        assert_eq!(find(0x8086, 0x97), None);
        assert_eq!(find(VENDOR, 0x0001), None, "a 53C810 of 1993");
    }
}
