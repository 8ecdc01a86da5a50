//! A controller of ours for a guest: `mptctl emulate`, a process of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::guests::disk::Disk;
use crate::guests::machine::tied_to_us;
use crate::guests::socket_folder::SocketFolder;

/// From its start until QEMU can connect.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Between two looks at whether it is there.
const POLL: Duration = Duration::from_millis(10);

/// An emulator that runs. Dropping it ends it at once.
pub(crate) struct Emulator {
    mptctl: PathBuf,
    process: Child,
    sockets: SocketFolder,
    log: PathBuf,
}

impl Emulator {
    /// Starts one with `disks`, and an expander if it is to have `bays`, and waits until QEMU can connect. What it
    /// says goes to `emulator.log` in the folder `logs`.
    pub(crate) fn start(
        mptctl: &Path,
        chip: &str,
        bays: Option<u32>,
        disks: &[Disk],
        logs: &Path,
    ) -> Result<Self, String> {
        let sockets = SocketFolder::new()?;
        let log = logs.join("emulator.log");
        let failed = |error| format!("creating {}: {error}", log.display());
        let output = File::create(&log).map_err(failed)?;
        let also = output.try_clone().map_err(failed)?;
        let mut command = Command::new(mptctl);
        command
            .args(["emulate", "--chip", chip, "--socket"])
            .arg(sockets.join("card"))
            .arg("--control")
            .arg(sockets.join("knobs"));
        if let Some(bays) = bays {
            command.arg("--expander").arg(bays.to_string());
        }
        for disk in disks {
            command.arg("--disk").arg(disk_argument(disk));
        }
        let process = tied_to_us(&command)
            .stdin(Stdio::null())
            .stdout(also)
            .stderr(output)
            .spawn()
            .map_err(|error| format!("starting {}: {error}", mptctl.display()))?;
        let mut emulator = Self { mptctl: mptctl.to_owned(), process, sockets, log };
        let started = Instant::now();
        while !(emulator.card().exists() && emulator.control().exists()) {
            emulator.alive()?;
            if started.elapsed() > START_LIMIT {
                return Err(emulator.failed("mptctl emulate made no socket in time"));
            }
            std::thread::sleep(POLL);
        }
        Ok(emulator)
    }

    fn card(&self) -> PathBuf {
        self.sockets.join("card")
    }

    /// The socket that knobs are turned by.
    pub(crate) fn control(&self) -> PathBuf {
        self.sockets.join("knobs")
    }

    /// What QEMU needs on its command line.
    pub(crate) fn devices(&self) -> Vec<String> {
        let socket = serde_json::json!({"type": "unix", "path": self.card()});
        let device = serde_json::json!({"driver": "vfio-user-pci", "socket": socket});
        vec!["-device".to_owned(), device.to_string()]
    }

    /// Turns a knob and gives what it answers.
    pub(crate) fn knob(&mut self, words: &[&str]) -> Result<String, String> {
        self.alive()?;
        let output = Command::new(&self.mptctl)
            .args(["knob", "--control"])
            .arg(self.control())
            .args(words)
            .output()
            .map_err(|error| format!("starting {}: {error}", self.mptctl.display()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("mptctl knob {}: {}", words.join(" "), said.trim()))
    }

    /// An error if it has ended, which it never should by itself.
    pub(crate) fn alive(&mut self) -> Result<(), String> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failed(&format!("mptctl emulate ended with {status}"))),
            Err(error) => Err(format!("waiting for mptctl emulate: {error}")),
        }
    }

    fn failed(&self, error: &str) -> String {
        let said = fs::read(&self.log).unwrap_or_default();
        format!("{error}; it said:\n{}", String::from_utf8_lossy(&said).trim_end())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A disk as `mptctl` wants it typed: a comma in a path is typed twice.
fn disk_argument(disk: &Disk) -> String {
    let file = disk.file.display().to_string().replace(',', ",,");
    format!("{file},slot={},wwn={:016x}{}", disk.slot, disk.wwn, disk.kind.words())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::disk::Kind;

    #[test]
    fn a_disk_is_typed_as_mptctl_reads_it() {
        let disk = Disk {
            wwn: 0x5000_c500_0000_0001,
            address: 0,
            bytes: 0,
            slot: 3,
            kind: Kind::Sata,
            file: "a,b".into(),
        };
        assert_eq!(disk_argument(&disk), "a,,b,slot=3,wwn=5000c50000000001,sata");
    }
}
