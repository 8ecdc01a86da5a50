//! Controllers that can be put into a guest, and how each is started.

use std::fs::File;
use std::path::{Path, PathBuf};

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
    /// What its driver may complain of when it attaches.
    pub(crate) allowed: &'static [Allowed],
}

/// Who models a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    /// QEMU itself: its `mptsas1068`.
    QemuMptsas1068,
}

/// A disk as it is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskShape {
    /// Its world wide name: NAA 5, so the first digit is 5.
    pub(crate) wwn: u64,
    pub(crate) bytes: u64,
}

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// A small disk, and one with blocks that four bytes cannot number.
const DISKS: &[DiskShape] = &[
    DiskShape { wwn: 0x5000_c500_15ea_71ac, bytes: 64 * MIB },
    DiskShape { wwn: 0x5000_c500_15ea_71b0, bytes: 3 * TIB },
];

/// The stock driver of MPI 1 SAS controllers.
const MPTSAS: &[&str] = &["mptsas", "mptscsih", "mptbase"];

/// Every controller that guests are given.
pub(crate) const CONTROLLERS: &[Controller] = &[Controller {
    name: "QEMU's sas1068",
    modules: MPTSAS,
    model: Model::QemuMptsas1068,
    disks: DISKS,
    allowed: &[],
}];

/// A disk that a guest has.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) wwn: u64,
    /// The address of its port.
    pub(crate) address: u64,
    pub(crate) bytes: u64,
    /// The file that holds its blocks.
    pub(crate) file: PathBuf,
}

/// A controller that has been started for one guest.
pub(crate) struct Running {
    /// What QEMU needs on its command line.
    pub(crate) devices: Vec<String>,
    pub(crate) disks: Vec<Disk>,
}

impl Controller {
    /// Makes its disks in `folder`, empty, and starts it.
    pub(crate) fn start(&self, folder: &Path) -> Result<Running, String> {
        let disks = self
            .disks
            .iter()
            .enumerate()
            .map(|(index, shape)| make_disk(&folder.join(format!("disk-{index}")), *shape))
            .collect::<Result<Vec<_>, _>>()?;
        let devices = match self.model {
            Model::QemuMptsas1068 => mptsas1068(&disks),
        };
        Ok(Running { devices, disks })
    }
}

fn make_disk(file: &Path, shape: DiskShape) -> Result<Disk, String> {
    // Truncated, so that it is as empty as a new one.
    File::create(file)
        .and_then(|made| made.set_len(shape.bytes))
        .map_err(|error| format!("making the disk {}: {error}", file.display()))?;
    // Where nobody says otherwise, a disk's port is called as the disk.
    Ok(Disk { wwn: shape.wwn, address: shape.wwn, bytes: shape.bytes, file: file.to_owned() })
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
