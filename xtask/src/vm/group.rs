//! Cases that share a boot: one controller, one way to it, one kernel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;

use crate::guests::emulator::Emulator;
use crate::guests::jobs::{Report, Wanted, both};
use crate::guests::kernel_log::Allowed;
use crate::report::Outcome;
use crate::vm::guest::Shape;
use crate::vm::subject::{Place, Subject, Way};
use crate::vm::yard::Yard;

/// One case: a function that drives a guest and says what was wrong.
pub(crate) struct Case {
    /// A sentence.
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Subject) -> Result<(), String>,
    /// Whether it leaves guest or controller in a state that no other case should start from.
    pub(crate) spoils: bool,
}

/// A case that leaves everything as it found it.
pub(crate) const fn case(name: &'static str, run: fn(&mut Subject) -> Result<(), String>) -> Case {
    Case { name, run, spoils: false }
}

/// A case after which nothing is as it was.
pub(crate) const fn spoiling(
    name: &'static str,
    run: fn(&mut Subject) -> Result<(), String>,
) -> Case {
    Case { name, run, spoils: true }
}

/// A guest and what is tried in it.
pub(crate) struct Group {
    /// The controller, by its name in [`crate::guests::controller::CONTROLLERS`].
    pub(crate) controller: &'static str,
    /// The kernel, by its name in [`crate::guests::packages::KERNELS`].
    pub(crate) kernel: &'static str,
    pub(crate) way: Way,
    /// What is special about it, as the end of a sentence.
    pub(crate) special: &'static str,
    pub(crate) shape: Shape,
    pub(crate) cases: &'static [&'static [Case]],
}

impl Group {
    /// What all its cases begin with.
    pub(crate) fn title(&self) -> String {
        let Self { controller, kernel, way, special, .. } = self;
        format!("{controller} by {way} under {kernel}{special}")
    }

    fn boot(&self, yard: &Yard<'_>, boot: u32) -> Result<Subject, String> {
        let place = Place { purpose: self.title(), boot };
        let options = self.shape.options(yard.workshop.accelerator);
        Subject::boot(yard, self.controller, self.kernel, self.way, options, &place)
    }

    /// The full name of one of its cases.
    fn case_name(&self, case: &Case) -> String {
        format!("{}: {}", self.title(), case.name)
    }

    /// The names of all its cases, in order.
    pub(crate) fn case_names(&self) -> Vec<String> {
        self.cases().map(|case| self.case_name(case)).collect()
    }

    fn cases(&self) -> impl Iterator<Item = &'static Case> + use<> {
        self.cases.iter().copied().flatten()
    }

    /// Runs the cases whose full name is `wanted`, and reports each as it ends. Stops early when
    /// `stop` is set.
    pub(crate) fn run(
        &self,
        yard: &Yard<'_>,
        wanted: Wanted<'_>,
        stop: &AtomicBool,
        reports: &Sender<Report>,
    ) {
        let mut subject = None;
        let mut boots = 0;
        for case in self.cases() {
            let name = self.case_name(case);
            if !wanted(&name) {
                continue;
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let started = Instant::now();
            let outcome = match self.one(yard, &mut subject, &mut boots, case) {
                Ok(()) => Outcome::Passed,
                Err(text) => Outcome::Failed(text),
            };
            // Nobody is there to read it only if the whole run is over.
            let _ = reports.send(Report { name, outcome, elapsed: started.elapsed() });
        }
    }

    fn one(
        &self,
        yard: &Yard<'_>,
        subject: &mut Option<Subject>,
        boots: &mut u32,
        case: &Case,
    ) -> Result<(), String> {
        let current = match subject {
            Some(current) => current,
            None => {
                *boots += 1;
                subject.insert(self.boot(yard, *boots)?)
            }
        };
        let outcome = current.rig.begin(case.name).and_then(|()| (case.run)(current));
        let outcome = outcome.map_err(|error| current.with_export(error));
        let outcome = both(outcome, judge(current));
        if outcome.is_err() || case.spoils {
            // What comes next gets a guest that this case has not touched.
            *subject = None;
        }
        outcome
    }
}

/// What no case may leave behind: a broken kernel, an IOMMU that had to stop the controller, a
/// model that complains of us, a program that crashed.
fn judge(subject: &mut Subject) -> Result<(), String> {
    subject.rig.running.emulator.as_mut().map_or(Ok(()), Emulator::alive)?;
    // A guest that no longer answers has no log to judge.
    subject.rig.machine.healthy()?;
    let log = subject.rig.log()?;
    let told = log.lines().find(|line| {
        (line.contains("DMAR:") && line.to_lowercase().contains("fault"))
            || (line.contains("mptctl[") && line.contains("segfault"))
    });
    if let Some(line) = told {
        return Err(format!("the kernel says: {line}"));
    }
    subject.rig.judge_driver(FAULTED)?;
    subject.expect_no_process()
}

/// What no driver can know of before it happens.
const FAULTED: &[Allowed] = &[Allowed {
    text: "a request was posted in Fault(",
    reason: "a driver posts until it looks at the doorbell, now and then",
}];
