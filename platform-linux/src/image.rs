//! The files behind the disks of the mock buses and of QEMU.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::Error;

/// The most disks that any bus takes.
pub const MAX_DISKS: usize = 8;
/// Bytes of a disk that is made for the occasion.
const TEMPORARY_BYTES: u64 = 64 << 20;
/// The low bits of the world wide names given to disks; NAA 5 with an OUI for documentation.
const WWN_BASE: u64 = 0x5000_c500_0000_1000;

/// What kind of disk a file becomes behind a software controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskKind {
    /// A SATA disk, behind the controller's translation layer.
    pub sata: bool,
    /// One that predicts its failure.
    pub failing: bool,
}

/// One disk's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes: a multiple of `block_bytes`.
    pub bytes: u64,
    /// Bytes of a logical block.
    pub block_bytes: u32,
    /// The unit serial number that the disk answers with, by which it is recognised.
    pub serial: String,
    /// The world wide name that the disk answers with.
    pub wwn: u64,
    /// Made for this command, and gone after it.
    pub temporary: bool,
    /// What kind of disk is made of it, on a bus that can choose.
    pub kind: DiskKind,
    /// Its owner has made it read-only, and so it stays, even for root, who could write it.
    pub read_only: bool,
}

/// The files behind a bus. Temporary ones go when this is dropped.
#[derive(Debug)]
pub struct Images {
    images: Vec<Image>,
    _folder: Option<TempDir>,
}

impl Images {
    /// Looks at the files that the user named; without any, makes two disks of 64 MiB, one with
    /// 512-byte blocks and one with 4096.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] for a file that is missing, unreadable, empty or of an odd length, and
    /// when the temporary files cannot be made.
    pub fn prepare(files: &[PathBuf]) -> Result<Self, Error> {
        if files.len() > MAX_DISKS {
            return Err(Error::usage(format!(
                "{} disks were given, and a bus takes {MAX_DISKS}; leave some out",
                files.len()
            )));
        }
        if files.is_empty() {
            return Self::temporary();
        }
        let mut images = Vec::new();
        for (index, typed) in files.iter().enumerate() {
            let (path, kind) = kind_of(typed);
            let (bytes, read_only) = look_at(&path)?;
            if images.iter().any(|image: &Image| image.path == path) {
                return Err(Error::usage(format!("{} was given twice", path.display())));
            }
            images.push(Image { read_only, kind, ..image(index, path, bytes, 512, false) });
        }
        Ok(Self { images, _folder: None })
    }

    /// No files: the bus has disks of its own.
    #[must_use]
    pub const fn none() -> Self {
        Self { images: Vec::new(), _folder: None }
    }

    fn temporary() -> Result<Self, Error> {
        let cannot = |error: &std::io::Error| {
            Error::failed(format!(
                "cannot make a temporary disk in {}: {error}; set TMPDIR to a folder with 128 MiB to spare",
                std::env::temp_dir().display()
            ))
        };
        let folder =
            tempfile::Builder::new().prefix("mptctl-").tempdir().map_err(|e| cannot(&e))?;
        let mut images = Vec::new();
        for (index, block_bytes) in [512, 4096].into_iter().enumerate() {
            let path = folder.path().join(format!("disk{index}.img"));
            let file = File::create(&path).map_err(|error| cannot(&error))?;
            file.set_len(TEMPORARY_BYTES).map_err(|error| cannot(&error))?;
            images.push(image(index, path, TEMPORARY_BYTES, block_bytes, true));
        }
        Ok(Self { images, _folder: Some(folder) })
    }

    /// The files, in the order of the disks.
    #[must_use]
    pub fn all(&self) -> &[Image] {
        &self.images
    }
}

fn image(index: usize, path: PathBuf, bytes: u64, block_bytes: u32, temporary: bool) -> Image {
    Image {
        path,
        bytes,
        block_bytes,
        serial: format!("MPTDISK{index:05}"),
        wwn: WWN_BASE + index as u64,
        temporary,
        kind: DiskKind::default(),
        read_only: false,
    }
}

/// The file and the kind of disk that `FILE[,sata][,failing]` names. A file whose name ends so is that
/// file.
fn kind_of(typed: &Path) -> (PathBuf, DiskKind) {
    let mut kind = DiskKind::default();
    let mut path = typed;
    let mut rest = typed.to_str();
    while let Some(text) = rest
        && !path.exists()
    {
        rest = if let Some(before) = text.strip_suffix(",sata") {
            kind.sata = true;
            Some(before)
        } else if let Some(before) = text.strip_suffix(",failing") {
            kind.failing = true;
            Some(before)
        } else {
            None
        };
        path = rest.map_or(path, Path::new);
    }
    (path.to_owned(), kind)
}

/// A file's size in bytes, and whether it may not be written.
fn look_at(path: &Path) -> Result<(u64, bool), Error> {
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::failed(format!(
            "cannot open the disk {}: {error}; make one with: truncate -s 64M {}",
            path.display(),
            path.display()
        )),
        _ => Error::file("open the disk", path, &error),
    })?;
    let metadata = file.metadata().map_err(|error| Error::file("look at", path, &error))?;
    if !metadata.is_file() {
        return Err(Error::failed(format!(
            "{} is not a regular file, and only a file can be a disk here",
            path.display()
        )));
    }
    match metadata.len() {
        0 => Err(Error::failed(format!(
            "the disk {} is empty; give it a size with: truncate -s 64M {}",
            path.display(),
            path.display()
        ))),
        bytes if bytes % 512 != 0 => Err(Error::failed(format!(
            "the disk {} has {bytes} bytes, which is not a whole number of 512-byte blocks; cut or extend it to {}",
            path.display(),
            bytes.next_multiple_of(512)
        ))),
        bytes => Ok((bytes, metadata.permissions().readonly())),
    }
}

impl Image {
    /// Whether the file holds nothing but zeros, so that overwriting it loses nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when it cannot be read.
    pub fn is_blank(&self) -> Result<bool, Error> {
        let cannot = |error: std::io::Error| Error::file("read the disk", &self.path, &error);
        let mut file = File::open(&self.path).map_err(cannot)?;
        let mut piece = vec![0u8; 1 << 20];
        loop {
            crate::interrupt::check()?;
            match file.read(&mut piece).map_err(cannot)? {
                0 => return Ok(true),
                bytes if piece.iter().take(bytes).any(|byte| *byte != 0) => return Ok(false),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_disks_are_blank_and_go_with_their_owner() {
        let images = Images::prepare(&[]).expect("room in the temporary folder");
        let paths: Vec<PathBuf> = images.all().iter().map(|image| image.path.clone()).collect();
        assert_eq!(paths.len(), 2);
        assert!(images.all().iter().all(|image| image.temporary && image.is_blank() == Ok(true)));
        drop(images);
        assert!(paths.iter().all(|path| !path.exists()));
    }

    #[test]
    fn files_that_cannot_be_disks_are_refused_with_what_to_do() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let refusal = |path: &Path| match Images::prepare(&[path.to_path_buf()]) {
            Err(Error::Failed(sentence)) => sentence,
            other => panic!("{other:?}"),
        };
        let missing = folder.path().join("missing.img");
        assert!(refusal(&missing).contains("truncate -s"));
        let odd = folder.path().join("odd.img");
        std::fs::write(&odd, [1u8; 700]).expect("written");
        assert!(refusal(&odd).contains("1024"));
        let empty = folder.path().join("empty.img");
        File::create(&empty).expect("created");
        assert!(refusal(&empty).contains("is empty"));
        assert!(refusal(folder.path()).contains("not a regular file"));
    }

    #[test]
    fn a_file_with_one_set_bit_is_not_blank() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("disk.img");
        let mut bytes = vec![0u8; 3 << 20];
        *bytes.last_mut().expect("not empty") = 1;
        std::fs::write(&path, &bytes).expect("written");
        let images = Images::prepare(&[path]).expect("a good disk");
        assert_eq!(images.all().first().map(Image::is_blank), Some(Ok(false)));
    }

    #[test]
    fn the_kind_of_a_disk_is_read_behind_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("d.img");
        std::fs::write(&path, [0; 512]).expect("written");
        let typed = |end: &str| PathBuf::from(format!("{}{end}", path.display()));
        let kind = |sata, failing| DiskKind { sata, failing };
        assert_eq!(kind_of(&path), (path.clone(), kind(false, false)));
        assert_eq!(kind_of(&typed(",sata")), (path.clone(), kind(true, false)));
        assert_eq!(kind_of(&typed(",failing,sata")), (path.clone(), kind(true, true)));
        assert_eq!(kind_of(&typed(",other")), (typed(",other"), kind(false, false)));
        std::fs::write(typed(",sata"), [0; 512]).expect("written");
        assert_eq!(kind_of(&typed(",sata")), (typed(",sata"), kind(false, false)));
    }
}
