//! Bytes in a file or on a block device.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::io::Errno;

/// How much is read or zeroed at a time where no buffer was given.
const PIECE: usize = 16 * 1024;

/// An open file; read-only when it may not be written.
#[derive(Debug)]
pub(super) struct FileMedium {
    file: File,
    read_only: bool,
}

impl FileMedium {
    /// The file, its size in bytes, and whether it may only be read.
    pub(super) fn open(path: &Path) -> io::Result<(FileMedium, u64, bool)> {
        // Root may write any file; one that its owner made read-only is still meant to be kept.
        let meant_to_be_kept = std::fs::metadata(path)?.permissions().readonly();
        let writable = if meant_to_be_kept {
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
                Err(error) => return Err(error),
            }
        };
        let (mut file, read_only) = match writable {
            Some(file) => (file, false),
            None => (File::open(path)?, true),
        };
        // Metadata gives 0 for a block device; its end does not.
        let bytes = file.seek(SeekFrom::End(0))?;
        Ok((FileMedium { file, read_only }, bytes, read_only))
    }

    pub(super) fn create(path: &Path, bytes: u64) -> io::Result<FileMedium> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        file.set_len(bytes)?;
        Ok(FileMedium { file, read_only: false })
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(super) fn grow(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
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
        self.file.write_all_at(bytes, offset)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.file.sync_data()
    }

    /// Punches a hole where the file system can, else writes zeros over what is not a hole.
    pub(super) fn clear(&self, offset: u64, length: u64) -> io::Result<()> {
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
