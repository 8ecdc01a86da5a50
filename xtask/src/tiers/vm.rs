//! The tier `vm`: our own driver in virtual machines with stock kernels, beside the kernel's.

use std::time::Duration;

use crate::guests::jobs;
use crate::guests::workshop::{self, Workshop};
use crate::report::Outcome;
use crate::session::Session;
use crate::vm::cases;
use crate::vm::group::{Case, Group};
use crate::vm::guest::Shape;
use crate::vm::subject::Way;
use crate::vm::yard::Yard;

/// The tier's name.
pub(super) const NAME: &str = "vm";

const LINUX_6_1: &str = "Linux 6.1";
const LINUX_6_12: &str = "Linux 6.12";
const LINUX_7_3: &str = "Linux 7.3";
const QEMUS: &str = "QEMU's sas1068";

/// What a machine has where nothing is special about it.
const USUAL: Shape =
    Shape { memory_mib: 640, cpus: 2, iommu: true, hugepages: 32, kernel_arguments: "" };

/// Likewise, without an IOMMU.
const NO_IOMMU: Shape = Shape { iommu: false, ..USUAL };

/// Every guest that is booted, those that take longest first.
const GROUPS: &[Group] = &[
    Group {
        cases: &[cases::HANDS, cases::ACROSS, cases::EXPORT, cases::UBLK, cases::MISTAKES],
        ..group(QEMUS, LINUX_6_12, Way::Vfio)
    },
    Group {
        cases: &[cases::HANDS, cases::ACROSS, cases::EXPORT, cases::UBLK],
        shape: NO_IOMMU,
        ..group(QEMUS, LINUX_6_12, Way::Uio)
    },
    ours("our sas3008"),
    ours("our sas2008"),
    ours("our sas3816"),
    Group {
        cases: &[cases::NO_UBLK, cases::ACROSS, cases::EXPORT],
        ..group(QEMUS, LINUX_6_1, Way::Vfio)
    },
    Group { cases: &[cases::GROWS], ..group("our sas3008", LINUX_7_3, Way::Vfio) },
    Group {
        cases: &[cases::NOTHING_THERE],
        shape: Shape { hugepages: 0, ..NO_IOMMU },
        special: " with neither IOMMU nor hugepages",
        ..group(QEMUS, LINUX_6_12, Way::Uio)
    },
    Group {
        cases: &[cases::HOLE],
        shape: Shape { memory_mib: 6 << 10, ..NO_IOMMU },
        special: " with 6 GiB of memory",
        ..group(QEMUS, LINUX_6_12, Way::Uio)
    },
];

const NONE: &[&[Case]] = &[];

const fn group(controller: &'static str, kernel: &'static str, way: Way) -> Group {
    Group { controller, kernel, way, special: "", shape: USUAL, cases: NONE }
}

const fn ours(controller: &'static str) -> Group {
    Group { cases: &[cases::OURS], ..group(controller, LINUX_6_12, Way::Vfio) }
}

pub(super) fn run(session: &mut Session<'_>) {
    if session.lists() {
        for group in GROUPS {
            group.case_names().iter().for_each(|name| session.list(name));
        }
        return;
    }
    let wants_any = |group: &&Group| group.case_names().iter().any(|name| session.wants(name));
    let groups: Vec<&Group> = GROUPS.iter().filter(wants_any).collect();
    if groups.is_empty() {
        return;
    }
    let mptctl = match workshop::mptctl(&session.runner, session.workspace) {
        Ok(mptctl) => mptctl,
        Err(reason) => {
            session.record("mptctl builds", Outcome::Failed(reason), Duration::ZERO);
            return;
        }
    };
    let workshop = match Workshop::provide(&session.runner, session.workspace, mptctl) {
        Ok(workshop) => workshop,
        Err(reason) => {
            session.record("guests can be had", Outcome::Skipped(reason), Duration::ZERO);
            return;
        }
    };
    match Yard::provide(&workshop) {
        Ok(yard) => jobs::run(session, &groups, |group, wanted, stop, reports| {
            group.run(&yard, wanted, stop, reports);
        }),
        Err(reason) => {
            session.record("mptctl gets into guests", Outcome::Failed(reason), Duration::ZERO);
        }
    }
    workshop.remove_disks();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::controller::CONTROLLERS;
    use crate::guests::packages::KERNELS;

    #[test]
    fn no_two_cases_have_one_name() {
        let mut names: Vec<String> = GROUPS.iter().flat_map(Group::case_names).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn controllers_and_kernels_are_known() {
        for group in GROUPS {
            assert!(CONTROLLERS.iter().any(|known| known.name == group.controller));
            assert!(KERNELS.iter().any(|known| known.name == group.kernel));
        }
    }
}
