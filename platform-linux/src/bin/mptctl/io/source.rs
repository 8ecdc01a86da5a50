//! Where data to write or to compare comes from.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use fusion_mpt_linux::disk::Disk;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::pattern::Pattern;

use crate::cli;

/// The most that is taken from standard input, which must be held in memory to know its length
/// before the first block is written.
const MOST_INPUT: u64 = 1 << 30;

/// Data of a known length.
#[derive(Debug)]
pub(crate) enum Source {
    File { name: String, file: File, bytes: u64 },
    Memory { data: Vec<u8> },
    Pattern { pattern: Pattern, blocks: u64 },
}

impl Source {
    /// Opens what the command line named.
    pub(crate) fn open(arguments: &cli::Source) -> Result<Self, Error> {
        match (&arguments.input, arguments.pattern, arguments.blocks) {
            (None, Some(pattern), Some(blocks)) => Ok(Self::Pattern { pattern, blocks }),
            (Some(path), ..) if path.as_os_str() == "-" => {
                let mut data = Vec::new();
                std::io::stdin().lock().take(MOST_INPUT + 1).read_to_end(&mut data).map_err(
                    |error| Error::failed(format!("cannot read standard input: {error}")),
                )?;
                if data.len() as u64 > MOST_INPUT {
                    return Err(Error::failed(
                        "standard input has more than 1 GiB; put it into a file and name that",
                    ));
                }
                Ok(Self::Memory { data })
            }
            (Some(path), ..) => Self::file(path),
            _ => Err(Error::usage("give --in FILE, or --pattern PATTERN with --blocks N")),
        }
    }

    fn file(path: &Path) -> Result<Self, Error> {
        let cannot = |error: std::io::Error| Error::file("read", path, &error);
        let file = File::open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if !metadata.is_file() {
            return Err(Error::failed(format!(
                "{} is not a regular file; pipe it in, with --in -",
                path.display()
            )));
        }
        Ok(Self::File { name: path.display().to_string(), file, bytes: metadata.len() })
    }

    /// How many blocks of `disk` the data fills; refuses lengths that fill none or no whole ones.
    pub(crate) fn blocks(&self, disk: &Disk) -> Result<u64, Error> {
        let (name, bytes) = match self {
            Self::Pattern { blocks: 0, .. } => {
                return Err(Error::usage("--blocks is 0, and there is nothing to do"));
            }
            Self::Pattern { blocks, .. } => return Ok(*blocks),
            Self::File { name, bytes, .. } => (name.as_str(), *bytes),
            Self::Memory { data } => ("standard input", data.len() as u64),
        };
        let block = u64::from(disk.block_bytes.max(1));
        if bytes == 0 {
            return Err(Error::failed(format!("{name} is empty, and there is nothing to do")));
        }
        if bytes % block != 0 {
            return Err(Error::failed(format!(
                "{name} has {bytes} bytes, which is not a whole number of {block}-byte blocks; cut or extend it to {}",
                bytes.next_multiple_of(block)
            )));
        }
        Ok(bytes / block)
    }

    /// Fills `data` with what belongs to `lba` and the blocks after it; `from` is how many bytes
    /// came before.
    pub(crate) fn fill(
        &mut self,
        from: u64,
        lba: u64,
        block_bytes: usize,
        into: &mut [u8],
    ) -> Result<(), Error> {
        match self {
            Self::Pattern { pattern, .. } => pattern.fill(lba, block_bytes, into),
            Self::File { name, file, .. } => file.read_exact(into).map_err(|error| {
                Error::failed(format!(
                    "cannot read {name} at byte {from}: {error}; what came before it was done"
                ))
            })?,
            Self::Memory { data } => {
                for (to, from) in into.iter_mut().zip(data.iter().skip(from as usize)) {
                    *to = *from;
                }
            }
        }
        Ok(())
    }
}
