//! Our driver beside the kernel's own, on the same controller in the same guest, in turns.
//!
//! Ours is measured raw, by `mptctl perf` that looks for answers and by one that sleeps until the
//! interrupt, and as people use it: fio on the block device that `mptctl export` makes. The
//! kernel's is measured by fio on its block device. Turns alternate, so that whatever else the
//! machine does meets all alike, and of each the median counts.

use crate::bench::peer::bench::{Bench, Mode};
use crate::bench::peer::load::{LOADS, Load};
use crate::figures::Figures;
use crate::guests::workshop::{self, Workshop};
use crate::report::align;
use crate::run::Runner;
use crate::vm::yard::Yard;
use crate::workspace::Workspace;

mod bench;
mod load;

/// Turns of each.
const TURNS: u32 = 3;

/// A controller whose drivers are compared.
struct Chip {
    /// As figures call it.
    name: &'static str,
    /// As guests call it.
    controller: &'static str,
}

/// Those that are compared: QEMU's own, which the kernel's mptsas drives, and one of ours, which
/// mpt3sas does.
const CHIPS: &[Chip] = &[
    Chip { name: "sas1068", controller: "QEMU's sas1068" },
    Chip { name: "sas3008", controller: "our sas3008" },
];

/// `peer.*`.
pub(super) fn measure(runner: &Runner, workspace: &Workspace) -> Result<Figures, String> {
    let mptctl = workshop::mptctl(runner, workspace)?;
    let workshop = Workshop::provide(runner, workspace, mptctl)?;
    let measured = Yard::provide(&workshop).and_then(|yard| {
        let mut figures = Figures::new();
        for chip in CHIPS {
            let mut of_chip = of_chip(runner, &yard, chip)?;
            let table = table(chip, &of_chip);
            runner.progress.line(&format!("\n{}, I/O a second\n{table}", chip.name));
            figures.append(&mut of_chip);
        }
        Ok(figures)
    });
    workshop.remove_disks();
    measured
}

fn of_chip(runner: &Runner, yard: &Yard<'_>, chip: &Chip) -> Result<Figures, String> {
    let mut bench = Bench::boot(yard, chip.controller)?;
    let mut figures = Figures::new();
    let mut taken: Vec<(Mode, Load, Vec<f64>)> = Vec::new();
    for turn in 1..=TURNS {
        for mode in Mode::ALL {
            let what =
                format!("bench peer: {}, {}, turn {turn} of {TURNS}", chip.name, mode.name());
            runner.progress.line(&what);
            for (load, iops) in bench.turn(mode, LOADS)? {
                match taken.iter_mut().find(|(m, l, _)| *m == mode && *l == load) {
                    Some((_, _, all)) => all.push(iops),
                    None => taken.push((mode, load, vec![iops])),
                }
            }
        }
    }
    for (mode, load, mut all) in taken {
        let name = iops_name(chip, mode, load);
        figures.insert(name, median(&mut all));
    }
    for mode in Mode::OURS {
        for load in LOADS {
            let of = |mode| figures.get(&iops_name(chip, mode, *load)).copied();
            if let (Some(ours), Some(kernels)) = (of(mode), of(Mode::Kernel)) {
                figures.insert(format!("{}_ratio", iops_name(chip, mode, *load)), ours / kernels);
            }
        }
    }
    for (name, value) in bench.accesses()? {
        figures.insert(format!("peer.{}.{name}", chip.name), value);
    }
    for (name, value) in bench.memory()? {
        figures.insert(format!("peer.{}.{name}", chip.name), value);
    }
    Ok(figures)
}

/// "peer.sas1068.raw_poll.randread.qd32.iops"
fn iops_name(chip: &Chip, mode: Mode, load: Load) -> String {
    format!("peer.{}.{}.{}.iops", chip.name, mode.name(), load.name())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

/// For people, and for README: what each load yields, and how often the kernel's that is.
fn table(chip: &Chip, figures: &Figures) -> String {
    let mut rows =
        vec![["load", "kernel", "raw, polling", "raw, interrupts", "ublk"].map(str::to_owned)];
    for load in LOADS {
        let of = |mode| figures.get(&iops_name(chip, mode, *load)).copied().unwrap_or(f64::NAN);
        let kernels = of(Mode::Kernel);
        let beside = |mode| format!("{:.0} ({:.2}×)", of(mode), of(mode) / kernels);
        rows.push([
            load.words(),
            format!("{kernels:.0}"),
            beside(Mode::RawPoll),
            beside(Mode::RawInterrupt),
            beside(Mode::Ublk),
        ]);
    }
    align(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn names_are_those_that_were_asked_for() {
        let load = Load { random: true, read: true, depth: 32, bytes: 4096 };
        let name = iops_name(&CHIPS[0], Mode::RawPoll, load);
        assert_eq!(format!("{name}_ratio"), "peer.sas1068.raw_poll.randread.qd32.iops_ratio");
    }

    #[test]
    fn the_table_has_a_line_for_each_load() {
        let mut figures = Figures::new();
        for (mode, value) in Mode::ALL.into_iter().zip([100.0, 300.0, 250.0, 110.0]) {
            figures.insert(iops_name(&CHIPS[0], mode, LOADS[0]), value);
        }
        let table = table(&CHIPS[0], &figures);
        let first = table.lines().nth(1).expect("a line");
        assert!(first.contains("300 (3.00×)") && first.contains("110 (1.10×)"), "{first}");
        assert_eq!(table.lines().count(), LOADS.len() + 1);
    }
}
