//! Cases that share a boot: one controller under one kernel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::guests::cases;
use crate::guests::controller::{Controller, Suite};
use crate::guests::emulator::Emulator;
use crate::guests::jobs::{Report, Wanted, both};
use crate::guests::packages::Kernel;
use crate::guests::rig::{Case, On, Rig, file_name};
use crate::guests::workshop::Workshop;
use crate::report::Outcome;

/// The longest that a guest may take to be of use.
const BOOT_BOUND: Duration = Duration::from_secs(10);

/// Processors of a guest: with two, drivers use several queues and their own locks.
const CPUS: u32 = 2;

/// The case that a boot is.
const BOOTS: &str = "the guest is up in under 10 s";

/// The case that attaching is.
const ATTACHES: &str = "the driver attaches and finds every disk without a complaint";

/// A controller under a kernel.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    pub(crate) controller: &'static Controller,
    pub(crate) kernel: &'static Kernel,
    /// Which of the images has this kernel.
    pub(crate) image: usize,
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
        wanted: Wanted<'_>,
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
    wanted: Wanted<'a>,
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

    /// Boots a guest; it is a case of its own the first time, which a host that was busy for a
    /// moment may try again.
    fn boot(&mut self, is_case: bool) -> Result<(), String> {
        let mut booted_in = self.boot_once()?;
        if !is_case {
            return Ok(());
        }
        if booted_in >= BOOT_BOUND {
            booted_in = booted_in.min(self.boot_once()?);
        }
        let outcome = if booted_in < BOOT_BOUND {
            Ok(())
        } else {
            Err(format!("it took {:.1} s, twice", booted_in.as_secs_f64()))
        };
        self.report(BOOTS, outcome, booted_in);
        Ok(())
    }

    /// Boots a guest in place of the one before, if there was one; how long that took.
    fn boot_once(&mut self) -> Result<Duration, String> {
        self.rig = None;
        self.boots += 1;
        let folder = self.group.folder_name();
        let logs = self.workshop.logs.join(&folder).join(format!("boot-{}", self.boots));
        let disks = self.workshop.disks.join(&folder);
        let rig =
            Rig::new(self.workshop, self.group.controller, self.group.image, &logs, &disks, CPUS)?;
        let booted_in = rig.machine.booted_in();
        self.rig = Some(rig);
        Ok(booted_in)
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
