//! Configuration space through sysfs.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::card::Function;

/// A function's file `config`.
#[derive(Debug)]
pub(crate) struct ConfigFile(File);

impl ConfigFile {
    /// Takes the open file.
    pub(super) const fn new(file: File) -> Self {
        Self(file)
    }
}

impl Function for ConfigFile {
    fn read_config(&self, at: u64) -> u16 {
        let mut bytes = [0xff; 2];
        match self.0.read_exact_at(&mut bytes, at) {
            Ok(()) => u16::from_le_bytes(bytes),
            Err(_) => u16::MAX,
        }
    }

    fn write_config(&self, at: u64, value: u16) {
        // It fails when the function is gone; there is nothing to be done about it then.
        let _ = self.0.write_all_at(&value.to_le_bytes(), at);
    }
}
