//! QEMU with disks whose images the test can look into.

use std::fs::{File, OpenOptions};
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use fusion_mpt_mock::qtest::{Backend, Qtest, QtestDisk, QtestOptions};
use tempfile::TempDir;

/// A folder of images and the options to start QEMU on them.
pub struct Machine {
    pub folder: TempDir,
    pub options: QtestOptions,
}

impl Machine {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), options: QtestOptions::default() }
    }

    /// As many targets with a disk of `bytes` each, from target 0 on.
    pub fn with_disks(disks: u8, bytes: u64) -> Self {
        let mut machine = Self::new();
        for id in 0..disks {
            machine.add_disk(id, bytes);
        }
        machine
    }

    /// A disk with an empty image behind it.
    pub fn add_disk(&mut self, id: u8, bytes: u64) -> &mut QtestDisk {
        let path = self.make_image(id, bytes);
        self.add(id, Backend::File(path))
    }

    /// A disk that does so many operations a second.
    pub fn add_throttled(&mut self, id: u8, bytes: u64, operations: u32) -> &mut QtestDisk {
        let path = self.make_image(id, bytes);
        let operations_per_second = NonZeroU32::new(operations).unwrap();
        self.add(id, Backend::Throttled { path, operations_per_second })
    }

    pub fn add(&mut self, id: u8, backend: Backend) -> &mut QtestDisk {
        let mut disk = QtestDisk::new(id, backend);
        disk.wwn = 0x5000_c500_0000_0100 + u64::from(id);
        disk.serial = Some(format!("QTEST{id}"));
        self.options.disks.push(disk);
        self.options.disks.last_mut().unwrap()
    }

    fn make_image(&self, id: u8, bytes: u64) -> PathBuf {
        let path = self.path(id);
        File::create_new(&path).unwrap().set_len(bytes).unwrap();
        path
    }

    pub fn path(&self, id: u8) -> PathBuf {
        self.folder.path().join(format!("disk{id}"))
    }

    pub fn start(&self) -> Qtest {
        Qtest::start(&self.options).unwrap()
    }

    /// What the image of disk `id` holds, read past QEMU.
    pub fn read_image(&self, id: u8, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        File::open(self.path(id)).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    /// Changes the image of disk `id` under QEMU, which must not have cached it: it opens images
    /// past the page cache where it can, and reads the file again for each command where not.
    pub fn write_image(&self, id: u8, offset: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(self.path(id)).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }
}
