//! A guest with a controller that changes hands: between the kernel's driver and ours.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::guests::agent::{Job, Output};
use crate::guests::controller::CONTROLLERS;
use crate::guests::disk::Disk;
use crate::guests::machine::{MachineOptions, expect_success};
use crate::guests::rig::{Rig, file_name};
use crate::vm::yard::Yard;

/// How a user-space driver gets at a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through an IOMMU, by `vfio-pci`.
    Vfio,
    /// Without one, by `uio_pci_generic`.
    Uio,
}

impl Way {
    /// The kernel's driver that holds the controller for user space.
    pub(crate) const fn driver(self) -> &'static str {
        match self {
            Self::Vfio => "vfio-pci",
            Self::Uio => "uio_pci_generic",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vfio => "VFIO",
            Self::Uio => "UIO",
        })
    }
}

/// Everything that a case may load, where the kernel has it.
const MODULES: &str = "sd_mod vfio_pci vfio_iommu_type1 uio_pci_generic nbd ext4";

/// Reply queues of an export, where the controller has several.
const QUEUES: u32 = 2;

/// How long a command of ours may take unless a case says otherwise.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// How long an export may serve, in the longest case.
const EXPORT_LIMIT: Duration = Duration::from_secs(240);

/// How long an export may take to drain, flush and end.
const END_LIMIT: Duration = Duration::from_secs(30);

/// A guest with a controller, and which way ours goes to it.
pub(crate) struct Subject {
    pub(crate) rig: Rig,
    pub(crate) way: Way,
    /// Where the controller is on PCI, such as "0000:00:03.0".
    pub(crate) address: String,
    /// Whether the kernel has ublk.
    pub(crate) ublk: bool,
}

/// What folders of a guest are called by.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) purpose: String,
    /// Which guest for that purpose it is.
    pub(crate) boot: u32,
}

/// An `mptctl export` that runs.
pub(crate) struct Export {
    job: Job,
    /// The block device of each disk of the controller, such as "/dev/ublkb0", in the disks' order.
    pub(crate) devices: Vec<String>,
}

impl Subject {
    /// Boots a guest with that controller and these options. Nobody has the controller then.
    pub(crate) fn boot(
        yard: &Yard<'_>,
        controller: &str,
        kernel: &str,
        way: Way,
        options: MachineOptions,
        place: &Place,
    ) -> Result<Self, String> {
        let known = CONTROLLERS.iter().find(|known| known.name == controller);
        let known = known.ok_or_else(|| format!("no controller {controller}"))?;
        let folder = file_name(&place.purpose);
        let workshop = yard.workshop;
        let logs = workshop.logs.join(&folder).join(format!("boot-{}", place.boot));
        let disks = workshop.disks.join(&folder);
        let image = yard.image(kernel)?;
        let mut rig = Rig::boot(workshop, known, image, options, &logs, &disks)?;
        rig.machine.check(&format!("modprobe -a {MODULES}"), LIMIT)?;
        let ublk = rig.machine.run("modprobe ublk_drv", LIMIT)?.status == 0;
        let find = "cd /sys/bus/pci/devices && grep -l 0x1000 */vendor";
        let found = rig.machine.check(find, LIMIT)?;
        let address = found.trim().trim_end_matches("/vendor").to_owned();
        Ok(Self { rig, way, address, ublk })
    }

    /// Runs a script that has to succeed.
    pub(crate) fn check(&mut self, script: &str) -> Result<String, String> {
        self.rig.machine.check(script, LIMIT)
    }

    /// Runs `mptctl` with these words, whatever comes of it.
    pub(crate) fn mptctl(&mut self, words: &str) -> Result<Output, String> {
        let output = self.rig.machine.run(&format!("mptctl -q {words}"), LIMIT)?;
        if output.text.contains("panicked at") {
            return Err(format!("mptctl {words} panicked:\n{}", output.text));
        }
        Ok(output)
    }

    /// Runs `mptctl` on the controller, which has to succeed.
    pub(crate) fn ours(&mut self, words: &str) -> Result<String, String> {
        let words = format!("{words} --bus {}", self.address);
        let output = self.mptctl(&words)?;
        expect_success(&format!("mptctl {words}"), output)
    }

    /// Likewise, for what it answers as JSON.
    pub(crate) fn json(&mut self, words: &str) -> Result<Value, String> {
        let said = self.ours(&format!("{words} --json 2>/run/said"))?;
        serde_json::from_str(&said).map_err(|error| format!("{words}: {error} in {said:?}"))
    }

    /// Runs `mptctl`, which has to refuse with a sentence that holds each of these.
    pub(crate) fn refused(&mut self, words: &str, told: &[&str]) -> Result<(), String> {
        let output = self.mptctl(words)?;
        if !matches!(output.status, 1 | 2) {
            let Output { status, text } = output;
            return Err(format!("mptctl {words} ended with {status} instead of refusing:\n{text}"));
        }
        let lower = output.text.to_lowercase();
        match told.iter().find(|told| !lower.contains(&told.to_lowercase())) {
            None => Ok(()),
            Some(missing) => {
                Err(format!("mptctl {words} does not say {missing:?}, only:\n{}", output.text))
            }
        }
    }

    /// Which of the kernel's drivers has the controller.
    pub(crate) fn driver(&mut self) -> Result<Option<String>, String> {
        let link = format!("/sys/bus/pci/devices/{}/driver", self.address);
        let said = self.check(&format!("readlink {link} || true"))?;
        Ok(said.trim().rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned))
    }

    /// An error unless that driver has it, or none.
    pub(crate) fn expect_driver(&mut self, expected: Option<&str>) -> Result<(), String> {
        let driver = self.driver()?;
        if driver.as_deref() == expected {
            return Ok(());
        }
        Err(format!("the controller is bound to {driver:?} and not to {expected:?}"))
    }

    /// Gives the controller to user space, if it is not there.
    pub(crate) fn give_to_user(&mut self) -> Result<(), String> {
        let driver = self.way.driver();
        if self.driver()?.as_deref() == Some(driver) {
            return Ok(());
        }
        self.bind().map(drop)
    }

    /// Gives the controller to user space; what is said of it.
    pub(crate) fn bind(&mut self) -> Result<String, String> {
        let words = bind_words(&self.address, self.way);
        let output = self.mptctl(&words)?;
        let said = expect_success(&format!("mptctl {words}"), output)?;
        self.expect_driver(Some(self.way.driver()))?;
        Ok(said)
    }

    /// The block device that the kernel's own driver has made of the disk at `index`.
    pub(crate) fn kernels(&mut self, index: usize) -> Result<String, String> {
        let disk = self.disk(index)?;
        self.rig.device(&disk)
    }

    /// Gives the controller to the kernel's own driver, and waits for the disks.
    pub(crate) fn give_to_kernel(&mut self) -> Result<(), String> {
        let module = self.rig.controller.modules[0];
        self.check(&format!("modprobe -a sd_mod {module}"))?;
        // Loaded for the first time it takes what nobody has.
        if self.driver()?.as_deref() != Some(module) {
            let words = format!("unbind {}", self.address);
            let output = self.mptctl(&words)?;
            expect_success(&format!("mptctl {words}"), output)?;
        }
        self.expect_driver(Some(module))?;
        for disk in self.rig.running.disks.clone() {
            self.rig.wait_for(&disk, LIMIT)?;
        }
        Ok(())
    }

    /// The number by which `mptctl` calls the disk at `index`.
    pub(crate) fn target(&mut self, index: usize) -> Result<u64, String> {
        let disk = self.disk(index)?;
        let list = self.json("list")?;
        let targets = list["targets"].as_array().cloned().unwrap_or_default();
        let names = [disk.wwn, disk.address].map(|wwn| format!("{wwn:016x}"));
        let found = targets
            .iter()
            .find(|target| names.iter().any(|name| target["wwn"] == name.as_str()))
            .and_then(|target| target["target"].as_u64());
        found.ok_or_else(|| format!("the disk {:016x} is not among {list}", disk.wwn))
    }

    /// The disk at `index`.
    pub(crate) fn disk(&self, index: usize) -> Result<Disk, String> {
        let disk = self.rig.running.disks.get(index);
        disk.cloned().ok_or_else(|| format!("there is no disk {index}"))
    }

    /// Starts `mptctl export` with further words, and waits until every disk is a block device.
    pub(crate) fn export(&mut self, words: &str) -> Result<Export, String> {
        self.give_to_user()?;
        let queues = if self.rig.controller.is_mpi2() { QUEUES } else { 1 };
        let words = format!("{} {words}", export_words(&self.address, self.ublk, queues));
        let script = format!("echo $$ >/run/export.pid; exec mptctl -q {words} >/run/export 2>&1");
        // An earlier one's number would be that of a process that has ended.
        self.check("rm -f /run/export.pid")?;
        let job = self.rig.machine.start(&script, EXPORT_LIMIT)?;
        let mut devices = Vec::new();
        for disk in self.rig.running.disks.clone() {
            devices.push(self.exported(&disk).map_err(|error| {
                let said = self.said_by_export();
                format!("{error}\nmptctl {words} said:\n{said}")
            })?);
        }
        Ok(Export { job, devices })
    }

    /// Waits for the block device of a disk, which an export makes.
    pub(crate) fn exported(&mut self, disk: &Disk) -> Result<String, String> {
        let script = format!(
            "[ -s /run/export.pid ] || exit 1
             kill -0 $(cat /run/export.pid) 2>/dev/null || {{ echo ended; exit 0; }}
             for block in /sys/block/ublkb* /sys/block/nbd*; do
                 [ \"$(cat $block/size)\" = {} ] && echo /dev/${{block##*/}} && exit 0
             done 2>/dev/null; exit 1",
            disk.bytes / 512
        );
        let limit = Duration::from_secs(30);
        let said = self
            .rig
            .machine
            .wait_until(&script, limit)
            .map_err(|error| format!("no block device of {} bytes: {error}", disk.bytes))?;
        match said.trim() {
            "ended" => Err("the export ended".to_owned()),
            device => Ok(device.to_owned()),
        }
    }

    /// What the export has said.
    pub(crate) fn said_by_export(&mut self) -> String {
        let said = self.rig.machine.run("cat /run/export", LIMIT);
        said.map_or_else(|error| error, |output| output.text)
    }

    /// An error with what the last export has said, if there was one.
    pub(crate) fn with_export(&mut self, error: String) -> String {
        let exported = self.rig.machine.run("[ -e /run/export ]", LIMIT);
        if error.contains("he export said") || !exported.is_ok_and(|output| output.status == 0) {
            return error;
        }
        format!("{error}\nThe export said:\n{}", self.said_by_export())
    }

    /// Ends an export as an administrator does, which has to succeed.
    pub(crate) fn stop(&mut self, export: Export) -> Result<(), String> {
        self.signal("TERM")?;
        self.ended(export, &[0, 143])
    }

    /// Kills an export as nothing can be prepared for.
    pub(crate) fn kill(&mut self, export: Export) -> Result<(), String> {
        self.signal("KILL")?;
        self.ended(export, &[137])
    }

    /// Sends a signal to the export.
    pub(crate) fn signal(&mut self, signal: &str) -> Result<(), String> {
        self.check(&format!("kill -{signal} $(cat /run/export.pid)")).map(drop)
    }

    /// Waits for the end of an export, with one of these statuses.
    pub(crate) fn ended(&mut self, export: Export, statuses: &[u32]) -> Result<(), String> {
        let ended = self.rig.machine.finish_within(export.job, END_LIMIT);
        let said = self.said_by_export();
        let output = ended.map_err(|error| format!("{error}\nThe export said:\n{said}"))?;
        if said.contains("panicked at") {
            return Err(format!("the export panicked:\n{said}"));
        }
        if statuses.contains(&output.status) {
            return Ok(());
        }
        Err(format!("the export ended with status {}; the export said:\n{said}", output.status))
    }

    /// An error if an `mptctl` still runs.
    pub(crate) fn expect_no_process(&mut self) -> Result<(), String> {
        let running = self.rig.machine.run("pidof mptctl", LIMIT)?;
        if running.status == 0 {
            return Err(format!("an mptctl still runs, as process {}", running.text.trim()));
        }
        Ok(())
    }
}

/// How `mptctl` is asked to give a controller to user space.
fn bind_words(address: &str, way: Way) -> String {
    match way {
        Way::Vfio => format!("bind {address} --driver vfio"),
        Way::Uio => format!("bind {address} --driver uio"),
    }
}

/// How `mptctl` is asked to export all disks.
fn export_words(address: &str, ublk: bool, queues: u32) -> String {
    if ublk {
        format!("export --bus {address} --queues {queues}")
    } else {
        format!("export --bus {address} --attach")
    }
}
