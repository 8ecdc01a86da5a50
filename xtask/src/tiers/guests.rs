//! The tier `guests`: stock kernels' own drivers on controllers in virtual machines.

use std::time::{Duration, Instant};

use crate::guests::comparison;
use crate::guests::controller::CONTROLLERS;
use crate::guests::group::Group;
use crate::guests::jobs;
use crate::guests::packages::KERNELS;
use crate::guests::speed;
use crate::guests::workshop::{self, Workshop};
use crate::report::Outcome;
use crate::session::Session;

/// The tier's name.
pub(super) const NAME: &str = "guests";

/// The case that compares speeds.
const SPEED: &str = "mpt3sas on our sas3008 reads no slower than mptsas on QEMU's sas1068";

/// The case that compares answers.
const ANSWERS: &str = "our sas1068 answers as QEMU's does where both answer";

pub(super) fn run(session: &mut Session<'_>) {
    let groups = groups();
    if session.lists() {
        for group in &groups {
            group.case_names().iter().for_each(|name| session.list(name));
        }
        session.list(ANSWERS);
        session.list(SPEED);
        return;
    }
    let wants_any = |group: &Group| group.case_names().iter().any(|name| session.wants(name));
    let groups: Vec<Group> = groups.into_iter().filter(wants_any).collect();
    let (answers, speed) = (session.wants(ANSWERS), session.wants(SPEED));
    if groups.is_empty() && !answers && !speed {
        return;
    }
    let mptctl = match workshop::mptctl(&session.runner, session.workspace) {
        Ok(mptctl) => mptctl,
        Err(reason) => {
            session.record("mptctl builds", Outcome::Failed(reason), Duration::ZERO);
            return;
        }
    };
    match Workshop::provide(&session.runner, session.workspace, mptctl) {
        Ok(workshop) => {
            jobs::run(session, &groups, |group, wanted, stop, reports| {
                group.run(&workshop, wanted, stop, reports);
            });
            if answers && !session.stopped() {
                let started = Instant::now();
                let outcome = match comparison::compare(&workshop) {
                    Ok(()) => Outcome::Passed,
                    Err(differences) => Outcome::Failed(differences),
                };
                session.record(ANSWERS, outcome, started.elapsed());
            }
            if speed && !session.stopped() {
                compare_speeds(session, &workshop);
            }
            workshop.remove_disks();
        }
        Err(reason) => {
            session.record("guests can be had", Outcome::Skipped(reason), Duration::ZERO);
        }
    }
}

/// Every controller under every kernel that it is to meet.
fn groups() -> Vec<Group> {
    let of = |controller| {
        let kernels = KERNELS.iter().enumerate().filter(|(_, kernel)| kernel.judges);
        kernels.map(move |(image, kernel)| Group { controller, kernel, image })
    };
    let all = CONTROLLERS.iter().flat_map(of);
    all.filter(|group| group.controller.meets(group.kernel.name)).collect()
}

/// The last case, when no other guest runs.
fn compare_speeds(session: &mut Session<'_>, workshop: &Workshop) {
    let started = Instant::now();
    let outcome = match speed::measure(workshop) {
        Ok(speeds) => {
            let said = format!(
                "{:.0} reads a second on our sas3008, {:.0} on QEMU's sas1068: {:.2} times as many",
                speeds.ours,
                speeds.peer,
                speeds.ratio()
            );
            session.runner.progress.line(&said);
            if speeds.ratio() >= 1.0 { Outcome::Passed } else { Outcome::Failed(said) }
        }
        Err(error) => Outcome::Failed(error),
    };
    session.record(SPEED, outcome, started.elapsed());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::controller::Suite;

    #[test]
    fn each_controller_meets_each_kernel_once() {
        let mut names: Vec<String> = groups().iter().flat_map(Group::case_names).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
        for controller in CONTROLLERS {
            let met =
                groups().iter().filter(|group| group.controller.name == controller.name).count();
            let judges = KERNELS.iter().filter(|kernel| kernel.judges).count();
            let kernels = if controller.suite == Suite::Basic { judges } else { 1 };
            assert_eq!(met, kernels, "{}", controller.name);
        }
    }
}
