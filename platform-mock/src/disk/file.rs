//! Bytes in a file or on a block device.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::io::Errno;

use crate::buffer::DataBuffer;
use crate::memory::{TransferCause, TransferError};

/// How much is read or zeroed at a time where no buffer was given.
const PIECE: usize = 16 * 1024;

/// An open file; read-only when it may not be written.
///
/// It may be renamed and unlinked: it lives on as long as it is open. It may not be cut short. Every
/// write looks whether it was, as it would otherwise come back with zeros in place of the data
/// that was lost; a read meets its end by itself.
#[derive(Debug)]
pub(super) struct FileMedium {
    file: File,
    read_only: bool,
    /// What a file must not become shorter than; 0 for a block device.
    bytes: u64,
}

impl FileMedium {
    /// The file, its size in bytes, and whether it may only be read.
    pub(super) fn open(path: &Path) -> io::Result<(FileMedium, u64, bool)> {
        let failed = |doing: &'static str| move |error| explained(doing, path, &error);
        // Root may write any file; one that its owner made read-only is still meant to be kept.
        let metadata = std::fs::metadata(path).map_err(failed("opening"))?;
        let writable = if metadata.permissions().readonly() {
            None
        } else {
            match OpenOptions::new().read(true).write(true).open(path) {
                Ok(file) => Some(file),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                    ) =>
                {
                    None
                }
                Err(error) => return Err(failed("opening")(error)),
            }
        };
        let (mut file, read_only) = match writable {
            Some(file) => (file, false),
            None => (File::open(path).map_err(failed("opening"))?, true),
        };
        let regular = file.metadata().map_err(failed("looking at"))?.is_file();
        // Metadata gives 0 for a block device; its end does not.
        let bytes = file.seek(SeekFrom::End(0)).map_err(failed("asking for the size of"))?;
        check_size(path, bytes)?;
        let medium = FileMedium { file, read_only, bytes: if regular { bytes } else { 0 } };
        Ok((medium, bytes, read_only))
    }

    pub(super) fn create(path: &Path, bytes: u64) -> io::Result<FileMedium> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|error| explained("creating", path, &error))?;
        file.set_len(bytes).map_err(|error| explained("sizing", path, &error))?;
        Ok(FileMedium { file, read_only: false, bytes })
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(super) fn grow(&mut self, bytes: u64) -> io::Result<()> {
        self.check_length()?;
        self.file.set_len(bytes)?;
        self.bytes = bytes;
        Ok(())
    }

    /// That nobody has cut the file short.
    fn check_length(&self) -> io::Result<()> {
        let length = match self.bytes {
            0 => return Ok(()),
            _ => self.file.metadata()?.len(),
        };
        if length < self.bytes {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!(
                    "the disk's file has {length} of its {} bytes left: somebody cut it short; restore it before it is written again",
                    self.bytes
                ),
            ));
        }
        Ok(())
    }

    pub(super) fn read_to(
        &self,
        offset: u64,
        length: u64,
        to: &mut dyn DataBuffer,
        at: u64,
    ) -> Result<(), TransferError> {
        to.fill_from_file(at, length, &self.file, offset)
    }

    pub(super) fn write_from(
        &self,
        offset: u64,
        length: u64,
        from: &mut dyn DataBuffer,
        at: u64,
    ) -> Result<(), TransferError> {
        self.check_length()
            .map_err(|error| TransferError { moved: 0, cause: TransferCause::Disk(error) })?;
        from.store_to_file(at, length, &self.file, offset)
    }

    /// That a range can be read as far as the file's length goes.
    pub(super) fn check_end(&self, end: u64) -> Result<(), u64> {
        match (self.bytes, self.file.metadata()) {
            (0, _) => Ok(()),
            (_, Ok(metadata)) if metadata.len() < end => Err(metadata.len()),
            _ => Ok(()),
        }
    }

    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    pub(super) fn read_up_to(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self.file.read_exact_at(bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            result => result,
        }
    }

    pub(super) fn read_with(
        &self,
        offset: u64,
        length: usize,
        sink: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut buffer = [0; PIECE];
        let mut done = 0;
        while done < length {
            let piece = &mut buffer[..PIECE.min(length - done)];
            self.file.read_exact_at(piece, offset + done as u64)?;
            sink(piece);
            done += piece.len();
        }
        Ok(())
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_length()?;
        self.file.write_all_at(bytes, offset)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.check_length()?;
        self.file.sync_data()
    }

    /// Punches a hole where the file system can, else writes zeros over what is not a hole.
    pub(super) fn clear(&self, offset: u64, length: u64) -> io::Result<()> {
        self.check_length()?;
        if length == 0 || self.punch(offset, length)? {
            return Ok(());
        }
        let zeros = [0; PIECE];
        let end = offset + length;
        let mut at = offset;
        while let Some((start, stop)) = self.next_data(at, end)? {
            at = start;
            while at < stop {
                let piece = PIECE.min(usize::try_from(stop - at).unwrap_or(PIECE));
                self.file.write_all_at(&zeros[..piece], at)?;
                at += piece as u64;
            }
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn punch(&self, offset: u64, length: u64) -> io::Result<bool> {
        use rustix::fs::{FallocateFlags, fallocate};
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, flags, offset, length) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn punch(&self, _offset: u64, _length: u64) -> io::Result<bool> {
        Ok(false)
    }

    /// The first run of data in `offset..end`; everything, where the file cannot tell.
    pub(super) fn next_data(&self, offset: u64, end: u64) -> io::Result<Option<(u64, u64)>> {
        use rustix::fs::{SeekFrom, seek};
        if offset >= end {
            return Ok(None);
        }
        let start = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => start.max(offset),
            // No data from here to the end of the file.
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((offset, end))),
            Err(error) => return Err(error.into()),
        };
        if start >= end {
            return Ok(None);
        }
        let stop = seek(&self.file, SeekFrom::Hole(start))?;
        Ok(Some((start, stop.clamp(start + 1, end))))
    }
}

/// Bytes of the smallest logical block.
const BLOCK: u64 = 512;

fn check_size(path: &Path, bytes: u64) -> io::Result<()> {
    if bytes >= BLOCK && bytes.is_multiple_of(BLOCK) {
        return Ok(());
    }
    let why = if bytes < BLOCK { "less than one block" } else { "not a whole number of blocks" };
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "{} cannot be a disk: its {bytes} bytes are {why} of {BLOCK}; enlarge it with `truncate -s {} {0}`",
            path.display(),
            (bytes.max(1)).next_multiple_of(BLOCK)
        ),
    ))
}

fn explained(doing: &str, path: &Path, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "create it, for instance with `truncate -s 1G`",
        io::ErrorKind::IsADirectory => "name a file or a block device",
        io::ErrorKind::AlreadyExists => "open it instead, or choose another name",
        _ => "check its path and permissions",
    };
    let text = format!("{doing} the disk's file {} failed: {error}; {hint}", path.display());
    io::Error::new(error.kind(), text)
}
