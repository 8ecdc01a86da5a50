//! A guest and a controller in it, as cases drive them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::guests::controller::{CONTROLLERS, Controller, Running};
use crate::guests::disk::Disk;
use crate::guests::images::Image;
use crate::guests::kernel_log::{self, Allowed};
use crate::guests::machine::{Machine, MachineOptions, Mark};
use crate::guests::qemu::Qemu;
use crate::guests::workshop::Workshop;

/// Discovery, under a host that does more than this.
const ATTACH_LIMIT: Duration = Duration::from_secs(60);

/// One case: a function that drives a guest and says what was wrong.
pub(crate) struct Case {
    /// A sentence.
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Rig) -> Result<(), String>,
    /// On which controllers it runs.
    pub(crate) on: On,
    /// Whether it leaves the controller in a state that no other case should start from.
    pub(crate) spoils: bool,
    /// What the kernel may complain of while it runs.
    pub(crate) allowed: &'static [&'static [Allowed]],
}

/// On which controllers a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// On every one.
    All,
    /// On ours, since it turns knobs or asks for what QEMU's does not model.
    Ours,
    /// On ours of MPI 2 and later.
    OursMpi2,
}

/// What the model may complain of in any case, since it and the guest have different clocks.
const HOST_TIMING: &[Allowed] = &[Allowed {
    text: "into a diagnostic reset, when the chip must be left alone",
    reason: "a driver waits 50 ms from its write on, which a busy host brings to the model later",
}];

/// A guest with a controller in it, and all that a case needs to drive both.
pub(crate) struct Rig {
    pub(crate) machine: Machine,
    pub(crate) controller: &'static Controller,
    pub(crate) running: Running,
    /// Where in the kernel's log the case began.
    mark: Mark,
    logs: PathBuf,
    disks: PathBuf,
    pub(super) attached: bool,
    /// How many complaints the model has been asked about.
    complaints: usize,
    qemu: Qemu,
    image: Image,
    options: MachineOptions,
}

impl Rig {
    /// Boots the image's kernel with the controller; logs and disks go to these folders.
    pub(crate) fn new(
        workshop: &Workshop,
        controller: &'static Controller,
        image: usize,
        logs: &Path,
        disks: &Path,
        cpus: u32,
    ) -> Result<Self, String> {
        let image = workshop.images.get(image).ok_or("there is no image for the kernel")?;
        let options =
            MachineOptions { accelerator: workshop.accelerator, cpus, ..MachineOptions::default() };
        Self::boot(workshop, controller, image, options, logs, disks)
    }

    /// As [`Rig::new`], for a guest with `options`, whose devices come before the controller.
    pub(crate) fn boot(
        workshop: &Workshop,
        controller: &'static Controller,
        image: &Image,
        mut options: MachineOptions,
        logs: &Path,
        disks: &Path,
    ) -> Result<Self, String> {
        for folder in [logs, disks] {
            fs::create_dir_all(folder)
                .map_err(|error| format!("making {}: {error}", folder.display()))?;
        }
        let running = controller.start(&workshop.mptctl, disks, logs)?;
        options.devices.extend(running.devices.iter().cloned());
        let mut machine = Machine::boot(&workshop.qemu, image, &options, logs)?;
        let mark = machine.mark("booted")?;
        Ok(Self {
            machine,
            controller,
            running,
            mark,
            logs: logs.to_owned(),
            disks: disks.to_owned(),
            attached: false,
            complaints: 0,
            qemu: workshop.qemu.clone(),
            image: image.clone(),
            options,
        })
    }

    /// Boots a guest of its own for the controller of that name, under the first kernel, and
    /// loads the driver. `purpose` names its folders.
    pub(crate) fn alone(
        workshop: &Workshop,
        name: &str,
        purpose: &str,
        cpus: u32,
    ) -> Result<Self, String> {
        let controller = CONTROLLERS.iter().find(|controller| controller.name == name);
        let controller = controller.ok_or_else(|| format!("there is no controller {name}"))?;
        let folder = file_name(&format!("{purpose} of {name}"));
        let (logs, disks) = (workshop.logs.join(&folder), workshop.disks.join(&folder));
        let mut rig = Self::new(workshop, controller, 0, &logs, &disks, cpus)?;
        rig.attach()?;
        Ok(rig)
    }

    /// Loads the driver and waits for every disk.
    pub(crate) fn attach(&mut self) -> Result<(), String> {
        let driver = self.controller.modules.first().ok_or("the controller has no driver")?;
        let script = format!("modprobe -a sd_mod sg {driver}");
        self.machine.check(&script, ATTACH_LIMIT)?;
        for disk in self.running.disks.clone() {
            self.wait_for(&disk, ATTACH_LIMIT)?;
        }
        self.attached = true;
        Ok(())
    }

    /// Unloads the driver. Disks have to be free.
    pub(crate) fn detach(&mut self) -> Result<(), String> {
        self.attached = false;
        let script = format!("rmmod {}", self.controller.modules.join(" "));
        self.machine.check(&script, ATTACH_LIMIT).map(drop)
    }

    /// Reboots the guest; the driver is not loaded then.
    pub(crate) fn reboot(&mut self) -> Result<(), String> {
        self.attached = false;
        self.machine.reboot()?;
        // The log has begun anew.
        self.mark = self.machine.mark("rebooted")?;
        Ok(())
    }

    /// Waits until the guest has a disk, and gives its name, such as "sda".
    pub(crate) fn wait_for(&mut self, disk: &Disk, limit: Duration) -> Result<String, String> {
        let name = self
            .machine
            .wait_until(&find_script(disk.wwn), limit)
            .map_err(|error| format!("waiting for the disk {:016x}: {error}", disk.wwn))?;
        Ok(name.trim().to_owned())
    }

    /// Waits until the guest no longer has a disk.
    pub(crate) fn wait_for_loss(&mut self, wwn: u64, limit: Duration) -> Result<(), String> {
        let script = format!("! {{ {}; }}", find_script(wwn));
        self.machine.wait_until(&script, limit).map(drop)
    }

    /// The path of a disk's block device in the guest.
    pub(crate) fn device(&mut self, disk: &Disk) -> Result<String, String> {
        Ok(format!("/dev/{}", self.wait_for(disk, Duration::from_secs(20))?))
    }

    /// The file of a disk that is not plugged in yet.
    pub(crate) fn spare_file(&self, name: &str) -> PathBuf {
        self.disks.join(name)
    }

    /// The disk at `index` with its block device in the guest.
    pub(crate) fn disk(&mut self, index: usize) -> Result<(Disk, String), String> {
        let disk = self.running.disks.get(index).cloned();
        let disk = disk.ok_or_else(|| format!("there is no disk {index}"))?;
        let device = self.device(&disk)?;
        Ok((disk, device))
    }

    /// What the kernel has said since the case began.
    pub(crate) fn log(&mut self) -> Result<String, String> {
        let mark = self.mark.clone();
        self.machine.log_since(&mark)
    }

    /// An error unless the kernel has said it since the case began.
    pub(crate) fn expect_in_log(&mut self, text: &str) -> Result<(), String> {
        let log = self.log()?;
        if log.contains(text) {
            Ok(())
        } else {
            Err(format!("the kernel has not said {text:?}, only:\n{log}"))
        }
    }

    /// Marks where in the kernel's log a case begins.
    pub(crate) fn begin(&mut self, case: &str) -> Result<(), String> {
        self.mark = self.machine.mark(case)?;
        Ok(())
    }

    /// Keeps the kernel's log of a case and looks for complaints in it.
    pub(super) fn judge_log(&mut self, case: &str, allowed: &[&[Allowed]]) -> Result<(), String> {
        let log = self.log()?;
        let path = self.logs.join(format!("{}.dmesg", file_name(case)));
        fs::write(&path, &log).map_err(|error| format!("writing {}: {error}", path.display()))?;
        let allowed: Vec<Allowed> = self
            .controller
            .allowed
            .iter()
            .chain(allowed.iter().copied().flatten())
            .copied()
            .collect();
        let complaints = kernel_log::complaints(&log, &allowed);
        if complaints.is_empty() {
            return self.judge_driver(&allowed);
        }
        Err(format!(
            "the kernel complains ({} has all it said):\n{}",
            path.display(),
            complaints.join("\n")
        ))
    }
}

impl Rig {
    /// A stock driver works with real cards, so that it breaks no rule of the chip: what the model
    /// complains of is a fault of the model, unless the case is the reason.
    pub(crate) fn judge_driver(&mut self, allowed: &[Allowed]) -> Result<(), String> {
        let complaints = self.running.complaints()?;
        let new = complaints.get(self.complaints..).unwrap_or_default();
        let unexpected: Vec<&str> = new
            .iter()
            .map(String::as_str)
            .filter(|complaint| {
                let mut all = HOST_TIMING.iter().chain(allowed);
                !all.any(|allowed| complaint.contains(allowed.text))
            })
            .collect();
        self.complaints = complaints.len();
        if unexpected.is_empty() {
            return Ok(());
        }
        Err(format!("the model complains of the driver:\n{}", unexpected.join("\n")))
    }

    /// Ends the guest as a crash of its host would, while the card keeps its power, and boots
    /// another one with the same card.
    pub(crate) fn replace_guest(&mut self) -> Result<(), String> {
        self.attached = false;
        self.machine.kill();
        let logs = self.logs.join("second-guest");
        self.machine = Machine::boot(&self.qemu, &self.image, &self.options, &logs)?;
        self.mark = self.machine.mark("booted")?;
        Ok(())
    }
}

/// A script that prints the name of the disk with that world wide name.
fn find_script(wwn: u64) -> String {
    format!(
        "found=$(grep -l '^naa.{wwn:016x}$' /sys/block/sd*/device/wwid 2>/dev/null) && \
         found=${{found#/sys/block/}} && echo ${{found%%/*}}"
    )
}

/// A field of what `fio --minimal` says, counted from 1 as fio's own manual does (terse version 3).
pub(crate) fn fio_field(said: &str, number: usize) -> Option<&str> {
    let result = said.lines().find(|line| line.starts_with("3;fio-"))?;
    result.split(';').nth(number - 1)
}

/// A sentence as a file's name.
pub(crate) fn file_name(text: &str) -> String {
    let mut name = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || character == '.' {
            name.push(character);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_fios_is_found_between_other_lines() {
        let said = "fio: a warning\n3;fio-3.39;speed;0;7;1;2;13325;9\n";
        assert_eq!(fio_field(said, 5), Some("7"));
        assert_eq!(fio_field(said, 8), Some("13325"));
        assert_eq!(fio_field("no result", 5), None);
    }

    #[test]
    fn a_sentence_makes_a_tame_file_name() {
        assert_eq!(file_name("QEMU's sas1068 under Linux 6.1"), "QEMU-s-sas1068-under-Linux-6.1");
    }
}
