//! Controllers that can be put into a guest, and how each is started.

use std::path::Path;

use crate::guests::disk::{self, Disk, DiskShape, Kind};
use crate::guests::emulator::Emulator;
use crate::guests::kernel_log::Allowed;
use crate::guests::machine::escaped;

/// A controller and what a guest is to see of it.
#[derive(Debug)]
pub(crate) struct Controller {
    /// How cases call it.
    pub(crate) name: &'static str,
    /// The stock driver's modules, in the order in which they can be unloaded: the first is the
    /// one to load.
    pub(crate) modules: &'static [&'static str],
    /// Who models it.
    pub(crate) model: Model,
    /// The disks behind it.
    pub(crate) disks: &'static [DiskShape],
    /// The bays of an expander behind it, if it has one.
    pub(crate) bays: Option<u32>,
    /// Which cases it is for.
    pub(crate) suite: Suite,
    /// What its driver may complain of when it attaches.
    pub(crate) allowed: &'static [Allowed],
}

/// Which cases a controller is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// What every controller has to do, under every kernel.
    Basic,
    /// What needs an expander and disks of several kinds, and what takes long: under the kernel
    /// of that name only, since it is the controller that is judged there.
    Extended(&'static str),
}

/// Who models a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    /// QEMU itself: its `mptsas1068`.
    QemuMptsas1068,
    /// We: `mptctl emulate --chip`, with this name of a chip.
    Ours(&'static str),
}

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// A small disk, and one with blocks that four bytes cannot number.
const DISKS: &[DiskShape] = &[
    shape(0x5000_c500_15ea_71ac, 64 * MIB, 0, Kind::Plain),
    shape(0x5000_c500_15ea_71b0, 3 * TIB, 1, Kind::Plain),
];

/// Disks on the controller's own phys, of which chips with expanders have four or more left, and
/// in bays.
const MIXED_DISKS_OF_8_PHYS: &[DiskShape] = &[
    shape(0x5000_c500_15ea_71ac, 64 * MIB, 0, Kind::Plain),
    shape(0x5000_c500_15ea_71b0, 64 * MIB, 8, Kind::Plain),
    shape(0x5000_c500_15ea_71b4, 64 * MIB, 9, Kind::Sata),
    shape(0x5000_c500_15ea_71b8, 64 * MIB, 10, Kind::Big),
    shape(0x5000_c500_15ea_71bc, 64 * MIB, 31, Kind::WriteThrough),
];

const fn shape(wwn: u64, bytes: u64, slot: u32, kind: Kind) -> DiskShape {
    DiskShape { wwn, bytes, slot, kind }
}

/// The stock driver of MPI 1 SAS controllers.
const MPTSAS: &[&str] = &["mptsas", "mptscsih", "mptbase"];

/// The stock driver of MPI 2 and later ones.
const MPT3SAS: &[&str] = &["mpt3sas"];

/// Every controller that guests are given.
pub(crate) const CONTROLLERS: &[Controller] = &[
    Controller {
        name: "QEMU's sas1068",
        modules: MPTSAS,
        model: Model::QemuMptsas1068,
        disks: DISKS,
        bays: None,
        suite: Suite::Basic,
        allowed: &[],
    },
    Controller {
        name: "our sas1068",
        modules: MPTSAS,
        model: Model::Ours("sas1068"),
        disks: DISKS,
        bays: None,
        suite: Suite::Basic,
        allowed: &[],
    },
    Controller {
        name: "our sas2008",
        modules: MPT3SAS,
        model: Model::Ours("sas2008"),
        disks: DISKS,
        bays: None,
        suite: Suite::Basic,
        allowed: &[],
    },
    Controller {
        name: "our sas3008",
        modules: MPT3SAS,
        model: Model::Ours("sas3008"),
        disks: DISKS,
        bays: None,
        suite: Suite::Basic,
        allowed: &[],
    },
    Controller {
        name: "our sas3816",
        modules: MPT3SAS,
        model: Model::Ours("sas3816"),
        disks: DISKS,
        bays: None,
        suite: Suite::Basic,
        allowed: &[],
    },
    Controller {
        name: "our sas1068 with an expander",
        modules: MPTSAS,
        model: Model::Ours("sas1068"),
        disks: MIXED_DISKS_OF_8_PHYS,
        bays: Some(24),
        suite: Suite::Extended("Linux 6.1"),
        allowed: &[],
    },
    Controller {
        name: "our sas3008 with an expander",
        modules: MPT3SAS,
        model: Model::Ours("sas3008"),
        disks: MIXED_DISKS_OF_8_PHYS,
        bays: Some(24),
        suite: Suite::Extended("Linux 6.12"),
        allowed: &[],
    },
];

/// A controller that has been started for one guest.
pub(crate) struct Running {
    /// What QEMU needs on its command line.
    pub(crate) devices: Vec<String>,
    pub(crate) disks: Vec<Disk>,
    /// The program that models it, if it is ours.
    pub(crate) emulator: Option<Emulator>,
}

impl Controller {
    /// Makes its disks in `folder`, empty, and starts it. What it says goes to the folder `logs`.
    pub(crate) fn start(
        &self,
        mptctl: &Path,
        folder: &Path,
        logs: &Path,
    ) -> Result<Running, String> {
        let disks = self
            .disks
            .iter()
            .enumerate()
            .map(|(index, shape)| {
                disk::make(&folder.join(format!("disk-{index}")), *shape, self.is_ours())
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(match self.model {
            Model::QemuMptsas1068 => Running { devices: mptsas1068(&disks), disks, emulator: None },
            Model::Ours(chip) => {
                let emulator = Emulator::start(mptctl, chip, self.bays, &disks, logs)?;
                Running { devices: emulator.devices(), disks, emulator: Some(emulator) }
            }
        })
    }

    /// Whether its driver is that of MPI 2 and later.
    pub(crate) fn is_mpi2(&self) -> bool {
        self.modules == MPT3SAS
    }

    /// Whether it is tried under that kernel.
    pub(crate) fn meets(&self, kernel: &str) -> bool {
        match self.suite {
            Suite::Basic => true,
            Suite::Extended(only) => only == kernel,
        }
    }

    /// Whether we model it, and so knobs can be turned on it.
    pub(crate) const fn is_ours(&self) -> bool {
        matches!(self.model, Model::Ours(_))
    }
}

impl Running {
    /// Turns a knob: `mptctl knob` with these words. Gives what it answers.
    pub(crate) fn knob(&mut self, words: &[&str]) -> Result<String, String> {
        match &mut self.emulator {
            Some(emulator) => emulator.knob(words),
            None => Err("this controller has no knobs".to_owned()),
        }
    }

    /// What the driver has done that a real chip would not forgive, by the model's own count.
    pub(crate) fn complaints(&mut self) -> Result<Vec<String>, String> {
        if self.emulator.is_none() {
            return Ok(Vec::new());
        }
        let said = self.knob(&["complaints", "--json"])?;
        let parsed: serde_json::Value = serde_json::from_str(&said)
            .map_err(|error| format!("mptctl knob complaints --json gives {said:?}: {error}"))?;
        let list = parsed.get("complaints").and_then(serde_json::Value::as_array);
        let list = list.ok_or_else(|| format!("there is no list in {said:?}"))?;
        Ok(list.iter().map(ToString::to_string).collect())
    }
}

fn mptsas1068(disks: &[Disk]) -> Vec<String> {
    let mut words = vec!["-device".to_owned(), "mptsas1068,id=sas".to_owned()];
    for (index, disk) in disks.iter().enumerate() {
        let file = escaped(&disk.file);
        words.push("-drive".to_owned());
        words.push(format!(
            "file={file},if=none,id=disk{index},format=raw,cache=writeback,discard=unmap"
        ));
        // Without a name of its own a disk is not seen by Linux's driver.
        words.push("-device".to_owned());
        words.push(format!(
            "scsi-hd,drive=disk{index},bus=sas.0,scsi-id={index},wwn={:#x},serial=DISK{index}",
            disk.wwn
        ));
    }
    words
}
