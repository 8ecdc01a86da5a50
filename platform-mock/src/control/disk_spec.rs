//! Which disk is meant: its medium, and what it says of itself.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::target::{Target, TargetConfig};

/// The smallest disk that an operating system takes for one.
const SMALLEST: u64 = 64 << 10;
/// NAA 5 and an OUI; the other 36 bits tell disks apart.
const WWN_BASE: u64 = 0x5000_c500_0000_0000;

/// Where a disk's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Medium {
    /// In a file or on a block device.
    File {
        /// Its path; relative to the folder of the process that opens it.
        path: PathBuf,
        /// Make a sparse file of so many bytes if there is none.
        #[serde(default)]
        create: Option<u64>,
    },
    /// In memory, of which it takes only as much as was written; gone with the process.
    Memory {
        /// The size.
        bytes: u64,
    },
}

/// A disk to be plugged in.
///
/// # What survives what
///
/// The file always holds the newest bytes; of those that the drive's volatile write cache covers,
/// the process keeps the old ones in memory, to put back when the *model's* power is cut. So a power
/// cut by knob, or pulling the disk, loses exactly what no SYNCHRONIZE CACHE, FUA write or turned-off
/// cache has made stable. When the *process* ends in order the caches are flushed. When it is killed
/// (SIGKILL) the operating system still has every write, so nothing is lost, cached or not: the file
/// is as a drive would be that had written everything by itself. When the *machine* below loses its
/// power, what was flushed is on its medium, as a flush syncs the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// Where its bytes are.
    pub medium: Medium,
    /// The slot; the first free one without it.
    #[serde(default)]
    pub slot: Option<u8>,
    /// The world wide name; one made from the path without it, the same every time.
    #[serde(default)]
    pub wwn: Option<u64>,
    /// Bytes of a logical block: 512 or 4096.
    #[serde(default = "block_bytes")]
    pub block_bytes: u32,
    /// Rotations per minute; 1 says that nothing rotates (SBC-3 6.6.2).
    #[serde(default = "rotation")]
    pub rotation: u16,
    /// Whether it is a SATA disk.
    #[serde(default)]
    pub sata: bool,
    /// Whether writes are refused.
    #[serde(default)]
    pub read_only: bool,
    /// Whether its write cache is on.
    #[serde(default = "cache")]
    pub cache: bool,
}

fn block_bytes() -> u32 {
    512
}

fn rotation() -> u16 {
    1
}

fn cache() -> bool {
    true
}

impl DiskSpec {
    /// A disk on this medium with everything else as usual: 512-byte blocks, an SSD with its write
    /// cache on, in the first free slot.
    #[must_use]
    pub fn new(medium: Medium) -> Self {
        Self {
            medium,
            slot: None,
            wwn: None,
            block_bytes: block_bytes(),
            rotation: rotation(),
            sata: false,
            read_only: false,
            cache: cache(),
        }
    }

    /// Opens the medium. `number` tells memory disks apart that have no name of their own.
    pub(super) fn open(&self, number: u64) -> Result<(Target, Source), String> {
        if !matches!(self.block_bytes, 512 | 4096) {
            return Err(format!(
                "a disk with blocks of {} bytes cannot be made; say 512 or 4096",
                self.block_bytes
            ));
        }
        let (mut disk, source) = match &self.medium {
            Medium::Memory { bytes } => {
                check_size("a memory disk", *bytes, self.block_bytes)?;
                (Disk::memory(*bytes), Source::memory())
            }
            Medium::File { path, create } => self.open_file(path, *create)?,
        };
        disk.set_write_protected(self.read_only);
        disk.set_write_cache(self.cache)
            .map_err(|error| format!("cannot turn a write cache off: {error}; try again"))?;
        let name = match &source.path {
            Some(path) => hash(path.as_os_str().as_encoded_bytes()),
            None => hash(&number.to_le_bytes()),
        };
        // Names of the ports are the device's plus one and two.
        let wwn = self.wwn.unwrap_or(WWN_BASE | name & 0xf_ffff_fffc);
        let config = TargetConfig {
            wwn,
            sas_address: wwn.wrapping_add(1),
            serial: format!("FM{:012X}", wwn & 0xffff_ffff_ffff),
            block_size: self.block_bytes,
            physical_block_exponent: if self.block_bytes == 512 { 3 } else { 0 },
            rotation_rate: self.rotation,
            sata: self.sata,
            ..TargetConfig::default()
        };
        Ok((Target::new(config, disk), source))
    }

    fn open_file(&self, path: &Path, create: Option<u64>) -> Result<(Disk, Source), String> {
        let shown = path.display();
        let found = match std::fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match create {
                Some(bytes) => {
                    check_size(&format!("the disk {shown}"), bytes, self.block_bytes)?;
                    make(path, bytes)?
                }
                None => {
                    return Err(format!(
                        "there is no disk {shown}; make one with: truncate -s 1G {shown}"
                    ));
                }
            },
            Err(error) => return Err(format!("cannot look at {shown}: {error}; check the path")),
        };
        let kind = found.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let what = if kind.is_dir() { "is a folder" } else { "is no regular file" };
            return Err(format!("{shown} {what}; a disk is a regular file or a block device"));
        }
        let absolute = path
            .canonicalize()
            .map_err(|error| format!("cannot find the way to {shown}: {error}; check the path"))?;
        if kind.is_file() {
            check_size(&format!("the disk {shown}"), found.len(), self.block_bytes)?;
        }
        // Says which disk, and what to do.
        let disk = Disk::open(&absolute).map_err(|error| error.to_string())?;
        check_size(&format!("the disk {shown}"), disk.bytes(), self.block_bytes)?;
        if let Some(bytes) = create.filter(|bytes| *bytes != disk.bytes()) {
            return Err(format!(
                "the disk {shown} has {} bytes already and not {bytes}; leave the size out to use it as it is",
                disk.bytes()
            ));
        }
        let lock = lock(&absolute, self.read_only || disk.is_write_protected())
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => format!(
                    "the disk {shown} is in use by another program; end that first, or take a copy of the file"
                ),
                _ => format!("cannot lock the disk {shown}: {error}; check its permissions"),
            })?;
        let source = Source {
            path: Some(absolute),
            identity: (found.dev(), found.ino()),
            regular: kind.is_file(),
            _lock: Some(lock),
            said: None,
        };
        Ok((disk, source))
    }
}

/// Makes a sparse file and looks at it. Leaves none if it cannot have its size.
fn make(path: &Path, bytes: u64) -> Result<Metadata, String> {
    let shown = path.display();
    let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "name a folder that you may write to",
            io::ErrorKind::AlreadyExists => "somebody else made it just now: try again",
            _ => "check the path",
        };
        format!("cannot make the disk {shown}: {error}; {hint}")
    })?;
    file.set_len(bytes).and_then(|()| file.metadata()).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::FileTooLarge => format!(
                "a file there can have {} bytes at most: say a smaller size, or name another file system",
                largest(&file)
            ),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room there, or name another file system".into()
            }
            _ => "name another file system".into(),
        };
        let left = match std::fs::remove_file(path) {
            Ok(()) => String::new(),
            Err(error) => format!(" (and the empty file cannot be removed: {error})"),
        };
        format!("cannot make the disk {shown} of {bytes} bytes: {error}; {hint}{left}")
    })
}

/// The size in whole blocks that a file can have at most where `file` is: nothing tells, so it is
/// tried.
fn largest(file: &File) -> u64 {
    let (mut fits, mut too_large) = (0, i64::MAX as u64 / 4096);
    while too_large - fits > 1 {
        let middle = fits + (too_large - fits) / 2;
        match file.set_len(middle * 4096) {
            Ok(()) => fits = middle,
            Err(_) => too_large = middle,
        }
    }
    fits * 4096
}

/// Keeps other programs that ask first, such as a second one of ours, off the file.
fn lock(path: &Path, shared: bool) -> io::Result<File> {
    let file = OpenOptions::new().read(true).open(path)?;
    let operation = if shared {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    flock(&file, operation)?;
    Ok(file)
}

fn check_size(what: &str, bytes: u64, block: u32) -> Result<(), String> {
    if bytes < SMALLEST {
        return Err(format!(
            "{what} has {bytes} bytes, which is too small; give it {SMALLEST} at least"
        ));
    }
    if !bytes.is_multiple_of(block.into()) {
        return Err(format!(
            "{what} has {bytes} bytes, which is not a whole number of {block}-byte blocks; make it {}",
            bytes.next_multiple_of(block.into())
        ));
    }
    Ok(())
}

/// FNV-1a: the same in every run, unlike the standard library's.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Where the bytes of a disk that is plugged in come from.
#[derive(Debug)]
pub(super) struct Source {
    /// `None` for memory.
    path: Option<PathBuf>,
    /// Device and inode.
    identity: (u64, u64),
    regular: bool,
    /// Held for as long as the disk is plugged in.
    _lock: Option<File>,
    /// What was last said of it.
    said: Option<String>,
}

impl Source {
    fn memory() -> Self {
        Self { path: None, identity: (0, 0), regular: false, _lock: None, said: None }
    }

    /// What to call it.
    pub(super) fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "memory".into(), |path| path.display().to_string())
    }

    /// Whether `disk` would be on the same file.
    pub(super) fn is(&self, disk: &DiskSpec) -> bool {
        let Medium::File { path, .. } = &disk.medium else { return false };
        self.path.is_some()
            && std::fs::metadata(path)
                .is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    /// What has happened to the file behind the disk's back and was not said before.
    pub(super) fn news(&mut self, bytes: u64) -> Option<String> {
        let path = self.path.as_ref().filter(|_| self.regular)?;
        let shown = path.display();
        let now = match std::fs::metadata(path) {
            Ok(found) if (found.dev(), found.ino()) != self.identity => Some(format!(
                "another file took the place of the disk {shown}: the old one is still used, and is lost at the end"
            )),
            Ok(found) if found.len() < bytes => Some(format!(
                "the disk {shown} was cut from {bytes} bytes to {}: the guest gets MEDIUM ERROR until it is restored",
                found.len()
            )),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(format!(
                "the disk {shown} was deleted: it is used as long as it is plugged in, and is lost then"
            )),
            Err(error) => Some(format!("cannot look at the disk {shown} any more: {error}")),
        };
        if now == self.said {
            return None;
        }
        self.said.clone_from(&now);
        now
    }
}
