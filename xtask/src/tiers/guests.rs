//! The tier `guests`: stock kernels' own drivers on controllers in virtual machines.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::guests::accelerator;
use crate::guests::controller::CONTROLLERS;
use crate::guests::group::{Group, Workshop};
use crate::guests::packages::{self, KERNELS};
use crate::guests::{images, qemu};
use crate::report::Outcome;
use crate::session::Session;
use crate::workspace::cargo;

/// The tier's name.
pub(super) const NAME: &str = "guests";

/// Guests that run at once. Each keeps a core busy, and its controller another now and then.
const JOBS: usize = 2;

pub(super) fn run(session: &mut Session<'_>) {
    let groups = groups();
    if session.lists() {
        for group in &groups {
            group.case_names().iter().for_each(|name| session.list(name));
        }
        return;
    }
    let wants_any = |group: &Group| group.case_names().iter().any(|name| session.wants(name));
    let groups: Vec<Group> = groups.into_iter().filter(wants_any).collect();
    if groups.is_empty() {
        return;
    }
    let mptctl = match mptctl(session) {
        Ok(mptctl) => mptctl,
        Err(reason) => {
            session.record("mptctl builds", Outcome::Failed(reason), Duration::ZERO);
            return;
        }
    };
    match workshop(session, mptctl) {
        Ok(workshop) => run_groups(session, &workshop, &groups),
        Err(reason) => {
            session.record("guests can be had", Outcome::Skipped(reason), Duration::ZERO);
        }
    }
}

/// Every controller under every kernel.
fn groups() -> Vec<Group> {
    let of = |controller| {
        let kernels = KERNELS.iter().enumerate();
        kernels.map(move |(image, kernel)| Group { controller, kernel, image })
    };
    CONTROLLERS.iter().flat_map(of).collect()
}

/// Fetches and makes what guests need, or says what is missing.
fn workshop(session: &Session<'_>, mptctl: PathBuf) -> Result<Workshop, String> {
    if std::env::consts::ARCH != "x86_64" {
        return Err("the guests' programs are for x86-64, which this machine is not".to_owned());
    }
    let runner = &session.runner;
    let folder = session.workspace.scratch().join("guests");
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("making {}: {error}", folder.display()))?;
    let qemu = qemu::provide(runner, &folder)?;
    let packages = packages::provide(runner, &folder)?;
    let images = images::provide(runner, &folder, &packages)?;
    let logs = runner.folder("guests");
    let accelerator = accelerator::choose(runner, &folder, &qemu, &images[0], &logs)?;
    Ok(Workshop { qemu, accelerator, mptctl, images, disks: folder.join("disks"), logs })
}

/// Builds the program that models our controllers. They have to keep up with a guest, so it is
/// optimised.
fn mptctl(session: &Session<'_>) -> Result<PathBuf, String> {
    let mut command = cargo();
    command.current_dir(&session.workspace.root).args([
        "build",
        "--release",
        "--package",
        "fusion-mpt-linux",
        "--bin",
        "mptctl",
    ]);
    session.runner.logged("build mptctl", &mut command)?.expect("cargo build")?;
    Ok(session.workspace.target.join("release/mptctl"))
}

/// Runs groups, [`JOBS`] at once, and records their cases as they end.
fn run_groups(session: &mut Session<'_>, workshop: &Workshop, groups: &[Group]) {
    let stop = AtomicBool::new(false);
    let waiting = Mutex::new(groups.iter());
    let (sender, reports) = mpsc::channel();
    let filter = session.filter().map(str::to_owned);
    let wanted = move |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter));
    std::thread::scope(|scope| {
        for _ in 0..JOBS.min(groups.len()) {
            let (sender, stop, waiting, wanted) = (sender.clone(), &stop, &waiting, &wanted);
            scope.spawn(move || {
                loop {
                    let group = waiting.lock().expect("no group panics with the list").next();
                    let Some(group) = group else { return };
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    group.run(workshop, wanted, stop, &sender);
                }
            });
        }
        drop(sender);
        for report in reports {
            session.record(&report.name, report.outcome, report.elapsed);
            stop.store(session.stopped(), Ordering::Relaxed);
        }
    });
    // They are sparse, but not empty.
    let _ = std::fs::remove_dir_all(&workshop.disks);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_controller_meets_each_kernel_once() {
        let mut names: Vec<String> = groups().iter().flat_map(Group::case_names).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
        assert_eq!(groups().len(), CONTROLLERS.len() * KERNELS.len());
    }
}
