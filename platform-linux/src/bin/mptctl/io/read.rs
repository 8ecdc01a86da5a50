//! `read`.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use fusion_mpt::sgl::Direction;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::interrupt;
use serde::Serialize;

use super::disk;
use crate::cli::{Global, Read};
use crate::progress::Progress;
use crate::recovered::Recovered;
use crate::{open_unit, output};

/// The most bytes that are dumped or put into a JSON document; more goes to a file.
const MOST_SHOWN: u64 = 1 << 20;

#[derive(Serialize)]
struct Done {
    bus: String,
    target: u16,
    lba: u64,
    blocks: u64,
    block_bytes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_hex: Option<String>,
    recovery: Recovered,
}

/// Reads blocks.
pub(crate) fn run(global: &Global, arguments: &Read) -> Result<(), Error> {
    let to_stdout = arguments.out.as_deref().is_some_and(|path| path.as_os_str() == "-");
    if to_stdout && global.json {
        return Err(Error::usage(
            "--json and --out - both want standard output; name a file, or leave one out",
        ));
    }
    if arguments.blocks == 0 {
        return Err(Error::usage("--blocks is 0, and there is nothing to read"));
    }
    let (done, shown) = open_unit(global, &arguments.unit, 0, |host| {
        let (disk, buffer) = disk(host, &arguments.unit)?;
        disk.check_range(arguments.lba, arguments.blocks)?;
        let bytes = arguments.blocks * u64::from(disk.block_bytes);
        if arguments.out.is_none() && bytes > MOST_SHOWN {
            return Err(Error::usage(format!(
                "{} is too much to show; put it into a file with --out FILE",
                output::size(bytes)
            )));
        }
        let mut sink = match &arguments.out {
            None => Sink::Memory(Vec::new()),
            Some(_) if to_stdout => Sink::Stdout,
            Some(path) => Sink::create(path)?,
        };
        let mut progress =
            Progress::new(!global.quiet && !global.json, "reading", arguments.blocks, "blocks");
        let mut at = 0;
        while at < arguments.blocks {
            interrupt::check()?;
            let blocks = (arguments.blocks - at).min(u64::from(disk.blocks_per_command())) as u32;
            let lba = arguments.lba + at;
            disk.transfer(host, Direction::Read, lba, blocks, &buffer, 0)?;
            let mut data = vec![0; (blocks * disk.block_bytes) as usize];
            buffer.read(0, &mut data);
            sink.take(&data)?;
            at += u64::from(blocks);
            progress.at(at, String::new);
        }
        progress.end();
        let shown = sink.end()?;
        let done = Done {
            bus: global.bus.to_string(),
            target: arguments.unit.target,
            lba: arguments.lba,
            blocks: arguments.blocks,
            block_bytes: disk.block_bytes,
            out: arguments.out.clone(),
            data_hex: shown.as_ref().map(|data| hex(data)),
            recovery: Recovered::of(host),
        };
        Ok((done, shown))
    })?;
    if to_stdout {
        return Ok(());
    }
    output::print(global.json, "read", &done, || match (&shown, &done.out) {
        (Some(data), _) => output::hex_dump(data),
        (None, out) => format!(
            "{} blocks from {} on written to {}\n{}",
            done.blocks,
            done.lba,
            out.as_deref().unwrap_or(Path::new("-")).display(),
            done.recovery.text()
        ),
    })
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the data goes.
enum Sink {
    Memory(Vec<u8>),
    Stdout,
    File { file: File, path: PathBuf },
}

impl Sink {
    fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(|error| Error::file("create", path, &error))?;
        Ok(Self::File { file, path: path.to_path_buf() })
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Error> {
        match self {
            Self::Memory(all) => all.extend_from_slice(data),
            Self::Stdout => output::raw(data)?,
            Self::File { file, path } => {
                file.write_all(data).map_err(|error| Error::file("write", path, &error))?;
            }
        }
        Ok(())
    }

    fn end(self) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Memory(all) => Ok(Some(all)),
            Self::Stdout => Ok(None),
            Self::File { file, path } => {
                file.sync_all().map_err(|error| Error::file("write", &path, &error))?;
                Ok(None)
            }
        }
    }
}
