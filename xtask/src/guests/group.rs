//! Cases that share a boot: one controller under one kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::guests::cases;
use crate::guests::controller::{Controller, Disk, Running, Suite};
use crate::guests::emulator::Emulator;
use crate::guests::images::Image;
use crate::guests::kernel_log::{self, Allowed};
use crate::guests::machine::{Machine, MachineOptions, Mark};
use crate::guests::packages::Kernel;
use crate::guests::qemu::Qemu;
use crate::guests::workshop::Workshop;
use crate::report::Outcome;

/// The longest that a guest may take to be of use.
const BOOT_BOUND: Duration = Duration::from_secs(10);

/// Discovery, under a host that does more than this.
const ATTACH_LIMIT: Duration = Duration::from_secs(60);

/// Processors of a guest: with two, drivers use several queues and their own locks.
const CPUS: u32 = 2;

/// What the model may complain of in any case, since it and the guest have different clocks.
const HOST_TIMING: &[Allowed] = &[Allowed {
    text: "into a diagnostic reset, when the chip must be left alone",
    reason: "a driver waits 50 ms from its write on, which a busy host brings to the model later",
}];

/// The case that a boot is.
const BOOTS: &str = "the guest is up in under 10 s";

/// The case that attaching is.
const ATTACHES: &str = "the driver attaches and finds every disk without a complaint";

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

/// A controller under a kernel.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    pub(crate) controller: &'static Controller,
    pub(crate) kernel: &'static Kernel,
    /// Which of the images has this kernel.
    pub(crate) image: usize,
}

/// How one case ended.
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) elapsed: Duration,
}

impl Group {
    /// The full name of one of its cases.
    pub(crate) fn case_name(&self, case: &str) -> String {
        format!("{} under {}: {case}", self.controller.name, self.kernel.name)
    }

    /// The names of all its cases, in order.
    pub(crate) fn case_names(&self) -> Vec<String> {
        let names = [BOOTS, ATTACHES].into_iter();
        names.chain(self.cases().map(|case| case.name)).map(|name| self.case_name(name)).collect()
    }

    fn cases(&self) -> impl Iterator<Item = &'static Case> + use<> {
        let (ours, mpi2) = (self.controller.is_ours(), self.controller.is_mpi2());
        let all = match self.controller.suite {
            Suite::Basic => cases::BASIC,
            Suite::Extended(_) => cases::EXTENDED,
        };
        all.iter().filter(move |case| match case.on {
            On::All => true,
            On::Ours => ours,
            On::OursMpi2 => ours && mpi2,
        })
    }

    fn folder_name(&self) -> String {
        file_name(&format!("{} under {}", self.controller.name, self.kernel.name))
    }

    /// Runs the cases whose full name is `wanted`, and reports each as it ends. Stops early when
    /// `stop` is set.
    pub(crate) fn run(
        &self,
        workshop: &Workshop,
        wanted: &(dyn Fn(&str) -> bool + Sync),
        stop: &AtomicBool,
        reports: &Sender<Report>,
    ) {
        let mut runner = GroupRun { group: self, workshop, wanted, reports, rig: None, boots: 0 };
        runner.all(stop);
    }
}

/// A group while it runs.
struct GroupRun<'a> {
    group: &'a Group,
    workshop: &'a Workshop,
    wanted: &'a (dyn Fn(&str) -> bool + Sync),
    reports: &'a Sender<Report>,
    rig: Option<Rig>,
    boots: u32,
}

impl GroupRun<'_> {
    fn all(&mut self, stop: &AtomicBool) {
        let cases: Vec<&Case> = self
            .group
            .cases()
            .filter(|case| (self.wanted)(&self.group.case_name(case.name)))
            .collect();
        let first = [BOOTS, ATTACHES].map(|name| (self.wanted)(&self.group.case_name(name)));
        if cases.is_empty() && first == [false, false] {
            return;
        }
        let started = Instant::now();
        if let Err(error) = self.boot(true) {
            self.report(BOOTS, Err(error), started.elapsed());
            for case in cases {
                let error = Err("the guest did not come up, see above".to_owned());
                self.report(case.name, error, Duration::ZERO);
            }
            return;
        }
        let attached = self.attach_case();
        for case in cases {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if !attached {
                let error = Err("the driver did not attach, see above".to_owned());
                self.report(case.name, error, Duration::ZERO);
                continue;
            }
            let started = Instant::now();
            let outcome = self.case(case);
            self.report(case.name, outcome, started.elapsed());
        }
    }

    /// Boots a guest; it is a case of its own the first time.
    fn boot(&mut self, is_case: bool) -> Result<(), String> {
        self.rig = None;
        self.boots += 1;
        let folder = self.group.folder_name();
        let logs = self.workshop.logs.join(&folder).join(format!("boot-{}", self.boots));
        let disks = self.workshop.disks.join(&folder);
        let rig = Rig::new(self.workshop, self.group, &logs, &disks, CPUS)?;
        let booted_in = rig.machine.booted_in();
        self.rig = Some(rig);
        if is_case {
            let outcome = if booted_in < BOOT_BOUND {
                Ok(())
            } else {
                Err(format!("it took {:.1} s", booted_in.as_secs_f64()))
            };
            self.report(BOOTS, outcome, booted_in);
        }
        Ok(())
    }

    /// Loads the driver; false if there is nothing to test with.
    fn attach_case(&mut self) -> bool {
        let Some(rig) = &mut self.rig else {
            return false;
        };
        let started = Instant::now();
        let outcome = rig.attach();
        let attached = outcome.is_ok();
        // A guest that no longer answers has no log to judge, and its console is in the error.
        let outcome = match rig.machine.healthy() {
            Ok(()) => {
                let judged = rig.judge_log(ATTACHES, &[]);
                both(outcome, judged)
            }
            Err(_) => outcome,
        };
        self.report(ATTACHES, outcome, started.elapsed());
        attached
    }

    fn case(&mut self, case: &Case) -> Result<(), String> {
        if self.rig.is_none() {
            self.boot(false)?;
        }
        let Some(rig) = &mut self.rig else {
            return Err("there is no guest".to_owned());
        };
        if !rig.attached {
            rig.attach()?;
        }
        let outcome = rig.begin(case.name).and_then(|()| (case.run)(rig));
        // A guest that no longer answers has no log to judge, and its console is in the error.
        let alive = rig.running.emulator.as_mut().map_or(Ok(()), Emulator::alive);
        let outcome = both(outcome, alive);
        let outcome = match rig.machine.healthy() {
            Ok(()) => {
                let judged = rig.judge_log(case.name, case.allowed);
                both(outcome, judged)
            }
            Err(error) => both(outcome, Err(error)),
        };
        if outcome.is_err() || case.spoils {
            // What comes next gets a guest that this case has not touched.
            self.rig = None;
        }
        outcome
    }

    fn report(&self, case: &str, outcome: Result<(), String>, elapsed: Duration) {
        let name = self.group.case_name(case);
        let outcome = match outcome {
            Ok(()) if !(self.wanted)(&name) => return,
            Ok(()) => Outcome::Passed,
            Err(text) => Outcome::Failed(text),
        };
        // Nobody is there to read it only if the whole run is over.
        let _ = self.reports.send(Report { name, outcome, elapsed });
    }
}

/// Both errors if there are two.
fn both(first: Result<(), String>, second: Result<(), String>) -> Result<(), String> {
    match (first, second) {
        (Err(first), Err(second)) if first != second => Err(format!("{first}\n{second}")),
        (first, second) => first.and(second),
    }
}

/// A guest with a controller in it, and all that a case needs to drive both.
pub(crate) struct Rig {
    pub(crate) machine: Machine,
    pub(crate) controller: &'static Controller,
    pub(crate) running: Running,
    /// Where in the kernel's log the case began.
    mark: Mark,
    logs: PathBuf,
    disks: PathBuf,
    attached: bool,
    /// How many complaints the model has been asked about.
    complaints: usize,
    qemu: Qemu,
    image: Image,
    options: MachineOptions,
}

impl Rig {
    /// Boots a guest with its controller; logs and disks go to these folders.
    pub(crate) fn new(
        workshop: &Workshop,
        group: &Group,
        logs: &Path,
        disks: &Path,
        cpus: u32,
    ) -> Result<Self, String> {
        for folder in [logs, disks] {
            fs::create_dir_all(folder)
                .map_err(|error| format!("making {}: {error}", folder.display()))?;
        }
        let running = group.controller.start(&workshop.mptctl, disks, logs)?;
        let options = MachineOptions {
            devices: running.devices.clone(),
            accelerator: workshop.accelerator,
            cpus,
            ..MachineOptions::default()
        };
        let image = workshop.images.get(group.image).ok_or("there is no image for the kernel")?;
        let mut machine = Machine::boot(&workshop.qemu, image, &options, logs)?;
        let mark = machine.mark("booted")?;
        Ok(Self {
            machine,
            controller: group.controller,
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

    fn begin(&mut self, case: &str) -> Result<(), String> {
        self.mark = self.machine.mark(case)?;
        Ok(())
    }

    /// Keeps the kernel's log of a case and looks for complaints in it.
    fn judge_log(&mut self, case: &str, allowed: &[&[Allowed]]) -> Result<(), String> {
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
    fn judge_driver(&mut self, allowed: &[Allowed]) -> Result<(), String> {
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

/// A sentence as a file's name.
fn file_name(text: &str) -> String {
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
    fn a_sentence_makes_a_tame_file_name() {
        assert_eq!(file_name("QEMU's sas1068 under Linux 6.1"), "QEMU-s-sas1068-under-Linux-6.1");
    }

    #[test]
    fn of_two_errors_none_is_lost() {
        let error = |text: &str| Err::<(), _>(text.to_owned());
        assert_eq!(both(Ok(()), Ok(())), Ok(()));
        assert_eq!(both(error("a"), Ok(())), error("a"));
        assert_eq!(both(Ok(()), error("b")), error("b"));
        assert_eq!(both(error("a"), error("b")), error("a\nb"));
    }
}
