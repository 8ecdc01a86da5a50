//! The fault matrix: every kind of fault, on each generation, under each load, at each moment.
//!
//! A test is one fault on one chip, with all loads and moments in it. Every cell ends with the same
//! questions: did each command end once, with its own data and its own sense; is every slot free;
//! do the disks hold what they should; did nobody write memory that had been given back; and does
//! the next I/O work, or is the controller said to be gone or offline? `--nocapture` prints the
//! table. A cell that fails prints the command that runs it again.

mod fault_rig;
mod hostile;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use fault_rig::cell::{Cell, Load, Moment, Needs, Row};
use fault_rig::doubt::doubt;
use fault_rig::host::Ending::{self, Gone, Offline};
use fault_rig::seed;
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt_mock::faults::{Fault, When};
use fusion_mpt_mock::model::Chip;

impl Row {
    /// A fault that comes once and means nothing but trouble.
    const fn once(fault: Fault) -> Self {
        let (trust, footnote) = doubt(fault);
        let needs = Needs::Nothing;
        Self { fault, times: 1, needs, bound_ms: 60_000, trust, footnote, may_end: &[] }
    }

    const fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    const fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    const fn within(self, bound_ms: u64) -> Self {
        Self { bound_ms, ..self }
    }

    const fn may_end(self, may_end: &'static [Ending]) -> Self {
        Self { may_end, ..self }
    }
}

/// What one test found for each load.
#[derive(Debug, Clone, Default)]
struct Found {
    cells: u32,
    struck: u32,
    worst_ms: u64,
    endings: Vec<Ending>,
    failed: bool,
}

impl Found {
    fn text(&self) -> String {
        let mut endings = self.endings.clone();
        endings.sort_unstable();
        endings.dedup();
        let mut names: Vec<_> = endings.iter().map(|ending| ending.name()).collect();
        names.extend(self.failed.then_some("FAILED"));
        format!("{:>7} {}", self.worst_ms, names.join("/"))
    }
}

/// Port enable may take 300 s, as long as slow disks do: who loses its answer waits for so long.
const PORT_ENABLE_MS: u64 = 345_000;

const BRING_UP: &str = "bring-up";
const COLUMNS: [&str; 4] = [BRING_UP, Load::Idle.name(), Load::One.name(), Load::Full.name()];

/// The column of a cell: under each load the worst of all moments, but bring-up has its own limits.
fn column(load: Load, moment: Moment) -> &'static str {
    match moment {
        Moment::BringUp => BRING_UP,
        _ => load.name(),
    }
}

/// Everything found so far, for the table.
static TABLE: Mutex<BTreeMap<(&str, &str), Line>> = Mutex::new(BTreeMap::new());
/// A test's row and what it found, by column.
type Line = (Row, BTreeMap<&'static str, Found>);

const WIDTHS: (usize, usize, usize) = (31, 8, 25);

fn heading() -> String {
    let (fault, chip, load) = WIDTHS;
    let mut line = format!("{:fault$} {:chip$}", "fault", "chip");
    for one in COLUMNS {
        let title = format!("     ms {one}");
        write!(line, " {title:load$}").expect("text");
    }
    line
}

/// One line of the table.
fn line(name: &str, chip: &str, row: &Row, found: &BTreeMap<&str, Found>) -> String {
    let (fault, chip_width, load) = WIDTHS;
    let name = if row.footnote.is_some() { format!("{name} *") } else { name.to_owned() };
    let mut line = format!("{name:fault$} {chip:chip_width$}");
    for one in COLUMNS {
        let text = found.get(one).map_or_else(|| format!("{:>7}", "-"), Found::text);
        write!(line, " {text:load$}").expect("text");
    }
    line.trim_end().to_owned()
}

/// Prints a test's line; after the last test of a whole run, the table.
fn report(name: &'static str, chip: &'static str, row: Row, found: BTreeMap<&'static str, Found>) {
    let filtered = std::env::args().skip(1).any(|argument| !argument.starts_with('-'));
    if filtered {
        println!("{}", line(name, chip, &row, &found));
        return;
    }
    let mut table = TABLE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    table.insert((name, chip), (row, found));
    if table.len() < TESTS {
        return;
    }
    let mut text = heading() + "\n";
    let (mut cells, mut struck) = (0, 0);
    for ((name, chip), (row, found)) in &*table {
        text += &line(name, chip, row, found);
        text += "\n";
        cells += found.values().map(|found| found.cells).sum::<u32>();
        struck += found.values().map(|found| found.struck).sum::<u32>();
    }
    let notes: BTreeMap<_, _> =
        table.iter().filter_map(|((name, _), (row, _))| Some((name, row.footnote?))).collect();
    for (name, note) in notes {
        writeln!(text, "* {name}: {note}").expect("text");
    }
    println!(
        "{text}{cells} cells, in {struck} of which the fault showed itself; ms: the worst virtual time from the fault to the next good I/O, or to the controller's end"
    );
}

/// A test under way; its line is in the table however it ends.
struct Test {
    name: &'static str,
    chip: &'static str,
    row: Row,
    found: BTreeMap<&'static str, Found>,
    load: Load,
}

impl Drop for Test {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.found.entry(self.load.name()).or_default().failed = true;
        }
        report(self.name, self.chip, self.row, std::mem::take(&mut self.found));
    }
}

/// A fault on a chip: under each load, at each moment.
fn check<G: Generation>(name: &'static str, chip: Chip, row: Row, loads: &[Load]) {
    let seed = seed::of_run();
    let found = BTreeMap::new();
    let mut test = Test { name, chip: chip.name, row, found, load: Load::Full };
    for load in loads {
        test.load = *load;
        for moment in Moment::ALL {
            let cell = Cell { name, chip, load: *load, moment, seed };
            let result = cell.run::<G>(&row);
            let found = test.found.entry(column(*load, moment)).or_default();
            found.cells += 1;
            found.struck += u32::from(result.struck);
            found.worst_ms = found.worst_ms.max(result.recovery_ms);
            found.endings.push(result.ending);
        }
    }
    let struck: u32 = test.found.values().map(|found| found.struck).sum();
    assert!(struck > 0, "{name} never showed itself on a {}", chip.name);
}

macro_rules! matrix {
    ($($name:ident = $row:expr;)*) => {
        /// Tests of the matrix: four chips for each row.
        const TESTS: usize = [$(stringify!($name)),*].len() * 4;

        mod sas1068 {
            use super::*;
            $(#[test] fn $name() {
                check::<Mpi1>(stringify!($name), Chip::SAS1068, $row, &Load::ALL);
            })*
        }
        mod sas2008 {
            use super::*;
            $(#[test] fn $name() {
                check::<Mpi2>(stringify!($name), Chip::SAS2008, $row, &[Load::Full]);
            })*
        }
        mod sas3008 {
            use super::*;
            $(#[test] fn $name() {
                check::<Mpi2>(stringify!($name), Chip::SAS3008, $row, &Load::ALL);
            })*
        }
        mod sas3816 {
            use super::*;
            $(#[test] fn $name() {
                check::<Mpi2>(stringify!($name), Chip::SAS3816, $row, &Load::ALL);
            })*
        }
    };
}

matrix! {
    dropped_reply = Row::once(Fault::DropReply).within(PORT_ENABLE_MS);
    duplicate_reply = Row::once(Fault::DuplicateReply).within(PORT_ENABLE_MS);
    delayed_reply = Row::once(Fault::DelayReply { ms: 40 });
    very_late_reply = Row::once(Fault::DelayReply { ms: 8_000 });
    reordered_replies = Row::once(Fault::ReorderReplies { window: 8 });
    corrupt_reply_word = Row::once(Fault::CorruptReplyWord).within(PORT_ENABLE_MS);
    corrupt_reply_frame = Row::once(Fault::CorruptReplyFrame).within(PORT_ENABLE_MS);
    corrupt_sense = Row::once(Fault::CorruptSense).times(3);
    reply_for_free_slot =
        Row::once(Fault::ReplyForFreeSlot);
    reply_for_foreign_smid = Row::once(Fault::ReplyForForeignSmid).within(PORT_ENABLE_MS);
    torn_descriptor = Row::once(Fault::TornDescriptor { us: 20_000 });
    torn_descriptor_for_ever = Row::once(Fault::TornForever).within(PORT_ENABLE_MS);
    spurious_zeros = Row::once(Fault::SpuriousZero);
    spurious_zeros_in_a_burst = Row::once(Fault::ZeroReadsBurst { reads: 40 });
    all_ones = Row::once(Fault::AllOnes).may_end(&[Gone]);
    all_ones_for_a_while = Row::once(Fault::AllOnesForAWhile { ms: 500 }).may_end(&[Gone]);
    stuck_doorbell = Row::once(Fault::StuckDoorbell);
    reset_that_never_ends = Row::once(Fault::ResetNeverEnds).needs(Needs::Reset).within(1_500_000);
    no_reset_ever_ends = Row::once(Fault::ResetNeverEnds)
        .times(When::FOREVER)
        .needs(Needs::Reset)
        .within(2_000_000)
        .may_end(&[Offline]);
    never_ready = Row::once(Fault::NeverReady).needs(Needs::Reset).within(200_000);
    never_ready_for_ever = Row::once(Fault::NeverReady)
        .times(When::FOREVER)
        .needs(Needs::Reset)
        .within(400_000)
        .may_end(&[Offline]);
    failed_reset = Row::once(Fault::ResetFails { code: 0x5854 }).needs(Needs::Reset);
    every_reset_fails = Row::once(Fault::ResetFails { code: 0x5854 })
        .times(When::FOREVER)
        .needs(Needs::Reset)
        .within(200_000)
        .may_end(&[Offline]);
    fault_state = Row::once(Fault::FaultState { code: 0x2100 });
    fault_state_twice = Row::once(Fault::FaultState { code: 0x2101 }).times(2);
    fault_state_thrice = Row::once(Fault::FaultState { code: 0x2101 }).times(3).may_end(&[Offline]);
    core_dump = Row::once(Fault::CoreDump { code: 0x2102, ms: 900 });
    no_reply_frames = Row::once(Fault::ReplyFramesExhausted { ms: 3_000 });
    lost_interrupt = Row::once(Fault::LostInterrupt).times(4);
    slow_firmware = Row::once(Fault::SlowFirmware { us: 20_000 }).times(200);
    stopped_firmware = Row::once(Fault::StoppedFirmware).within(PORT_ENABLE_MS);
    wrong_endianness = Row::once(Fault::WrongEndianness);
    event_storm = Row::once(Fault::EventStorm { events: 600 });
    handle_reuse = Row::once(Fault::HandleReuse { slot: 0 });
    device_pulled = Row::once(Fault::DevicePulled { slot: 0, back_ms: 0 });
    device_pulled_and_back = Row::once(Fault::DevicePulled { slot: 0, back_ms: 700 });
    lost_reply_to_task_management =
        Row::once(Fault::TaskManagementReplyLost).needs(Needs::Abort);
    task_management_reply_first =
        Row::once(Fault::TaskManagementReplyEarly { us: 30_000 }).needs(Needs::Abort);
    refused_task_management = Row::once(Fault::TaskManagementRefused).needs(Needs::Abort);
    all_task_management_refused = Row::once(Fault::TaskManagementRefused)
        .times(When::FOREVER)
        .needs(Needs::Abort);
    task_set_full = Row::once(Fault::TaskSetFull).times(12);
    busy = Row::once(Fault::BusyStatus).times(12);
    stale_reply_after_reset = Row::once(Fault::StaleReplyAfterReset).needs(Needs::Reset);
    lost_reply_to_page_request = Row::once(Fault::ConfigReplyLost);
    lost_reply_to_port_enable =
        Row::once(Fault::PortEnableReplyLost).needs(Needs::Reset).within(PORT_ENABLE_MS);
    reset_by_somebody_else = Row::once(Fault::SilentBusReset);
    power_cut = Row::once(Fault::PowerCut);
}
