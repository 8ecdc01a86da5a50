//! A guest's console, as far as it says that the kernel is broken.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::guests::kernel_log;

/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// The log of the guest's console, read as it grows.
pub(crate) struct Console {
    path: PathBuf,
    read: u64,
    /// The beginning of a line whose end has not come.
    pending: String,
    looked: Instant,
    trouble: Option<String>,
}

impl Console {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, read: 0, pending: String::new(), looked: Instant::now(), trouble: None }
    }

    /// The first line that says that the kernel is broken, if there is one.
    pub(crate) fn trouble(&mut self) -> Option<String> {
        if self.trouble.is_none() && self.looked.elapsed() >= POLL {
            self.looked = Instant::now();
            let grown = self.grown();
            self.pending.push_str(&grown);
            let whole = self.pending.rfind('\n').map_or(0, |at| at + 1);
            let lines: String = self.pending.drain(..whole).collect();
            self.trouble =
                lines.lines().find(|line| kernel_log::is_trouble(line)).map(str::to_owned);
        }
        self.trouble.clone()
    }

    fn grown(&mut self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.path)
            && file.seek(SeekFrom::Start(self.read)).is_ok()
            && file.read_to_end(&mut bytes).is_ok()
        {
            self.read += bytes.len() as u64;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
