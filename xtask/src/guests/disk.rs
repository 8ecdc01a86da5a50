//! Disks behind a controller: as they are to be made, and as a guest has them.

use std::fs::File;
use std::path::{Path, PathBuf};

/// A disk as it is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskShape {
    /// Its world wide name: NAA 5, so the first digit is 5.
    pub(crate) wwn: u64,
    pub(crate) bytes: u64,
    pub(crate) slot: u32,
    pub(crate) kind: Kind,
}

/// What a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As they are unless told: SAS, blocks of 512 bytes, with a write cache, of flash.
    Plain,
    /// SATA, behind the controller's translation.
    Sata,
    /// Blocks of 4096 bytes on platters.
    Big,
    /// Without a write cache.
    WriteThrough,
}

impl Kind {
    /// As `mptctl` reads it, with the comma in front.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Sata => ",sata",
            Self::Big => ",block=4096,rotation=7200",
            Self::WriteThrough => ",cache=off",
        }
    }
}

/// A disk that a guest has.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) wwn: u64,
    /// The address of its port.
    pub(crate) address: u64,
    pub(crate) bytes: u64,
    pub(crate) slot: u32,
    pub(crate) kind: Kind,
    /// The file that holds its blocks.
    pub(crate) file: PathBuf,
}

/// Makes the file of a disk, for a controller of ours or of QEMU's.
pub(crate) fn make(file: &Path, shape: DiskShape, ours: bool) -> Result<Disk, String> {
    // Truncated, so that it is as empty as a new one.
    File::create(file)
        .and_then(|made| made.set_len(shape.bytes))
        .map_err(|error| format!("making the disk {}: {error}", file.display()))?;
    // QEMU calls a disk's port as the disk; as on real disks, ours has the next name.
    let address = if ours { shape.wwn + 1 } else { shape.wwn };
    let DiskShape { wwn, bytes, slot, kind } = shape;
    Ok(Disk { wwn, address, bytes, slot, kind, file: file.to_owned() })
}
