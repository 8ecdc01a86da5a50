//! One cell of the fault matrix: a fault, a chip, a load, a moment; run to its end and checked.

use std::fmt;
use std::thread::panicking;

use fusion_mpt::error::SubmitError;
use fusion_mpt::generation::Generation;
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::recovery::{InFlight, Policy};
use fusion_mpt_mock::faults::{Fault, Plan, Random, When};
use fusion_mpt_mock::model::{Chip, disk};

use super::books::{Books, Trust};
use super::buffers::Buffers;
use super::content::{DEFECTS, STATIC, WRITTEN};
use super::host::{Ending, Host};
use super::seed;
use super::{Ask, Platform};
use crate::hostile::DISK;

/// Disks at the start. Faults that take one take the first.
pub const DISKS: u16 = 2;
/// Commands that a full queue has.
const COMMANDS: u16 = 24;
/// Virtual milliseconds that any cell may take: beyond it something hangs.
const CELL_LIMIT_MS: u64 = 2_500_000;
/// The longest recovery where the fault struck bring-up: port enable may take 300 s, as long as slow
/// disks do, and discovery 60 s.
const BRING_UP_BOUND_MS: u64 = 400_000;
/// How long a fault has to show itself, once everything that sets it off has been done.
const PATIENCE_MS: u64 = 15_000;

/// What else must go wrong for the fault to make any difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// A fault state, so that the controller is reset.
    Reset,
    /// A command that the disk never answers, so that it is aborted.
    Abort,
}

/// A row of the matrix.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub fault: Fault,
    pub times: u32,
    pub needs: Needs,
    /// The longest recovery, in virtual milliseconds.
    pub bound_ms: u64,
    pub trust: Trust,
    /// Why some of the checks cannot be made, for the table's foot.
    pub footnote: Option<&'static str>,
    /// Endings that are right, beside having recovered.
    pub may_end: &'static [Ending],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    Idle,
    One,
    Full,
}

impl Load {
    pub const ALL: [Load; 3] = [Load::Idle, Load::One, Load::Full];

    pub const fn name(self) -> &'static str {
        match self {
            Load::Idle => "idle",
            Load::One => "1 command",
            Load::Full => "full queue",
        }
    }
}

/// When the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    BringUp,
    Submission,
    Completion,
    TaskManagement,
    Reset,
    Discovery,
}

impl Moment {
    pub const ALL: [Moment; 6] = [
        Moment::BringUp,
        Moment::Submission,
        Moment::Completion,
        Moment::TaskManagement,
        Moment::Reset,
        Moment::Discovery,
    ];
}

/// What came of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Result {
    pub ending: Ending,
    /// From the fault to the next good I/O, or to the end of the controller.
    pub recovery_ms: u64,
    /// Whether the fault showed itself at all.
    pub struck: bool,
}

/// A cell's name; a panic while it is alive says how to have it again.
pub struct Cell {
    pub name: &'static str,
    pub chip: Chip,
    pub load: Load,
    pub moment: Moment,
    pub seed: u64,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, chip, load, moment, .. } = self;
        write!(f, "{name} on a {}, {}, {moment:?}", chip.name, load.name())
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if panicking() {
            eprintln!(
                "in the cell {self}; again with: FAULT_SEED={} cargo test -p fusion-mpt-mock --test fault_matrix -- {}::{}",
                self.seed, self.chip.name, self.name
            );
        }
    }
}

impl Cell {
    /// Runs the cell.
    pub fn run<G: Generation>(&self, row: &Row) -> Result {
        let name = format!("{}{}{:?}{:?}", self.name, self.chip.name, self.load, self.moment);
        let mut chance = seed::chance(self.seed, &name);
        match self.moment {
            Moment::BringUp => self.during_bring_up::<G>(row, chance),
            _ => {
                let mut platform = Platform::<G>::new(self.chip, DISKS, COMMANDS);
                (0..DISKS).for_each(|target| platform.clear_attention(target));
                self.set_up(&mut platform, row, &mut chance);
                self.in_operation(Host::new(platform, chance, DISKS), row)
            }
        }
    }

    fn set_up<G: Generation>(&self, platform: &mut Platform<G>, row: &Row, chance: &mut Random) {
        platform.books.ended.clear();
        platform.books.trust = row.trust;
        platform.books.shadow.volatile = row.fault == Fault::PowerCut;
        if matches!(row.fault, Fault::HandleReuse { .. }) {
            platform.books.shadow.forget(0);
        }
        let in_flight = if chance.below(2) == 0 { InFlight::Fail } else { InFlight::HandBack };
        platform.driver.set_policy(Policy { in_flight, ..Policy::default() });
    }

    /// The fault, and what it needs, from the `after`-th message, reply or access on.
    fn plan(&self, row: &Row, chance: &mut Random, after: u64) -> Plan {
        let when = match row.fault {
            Fault::SpuriousZero
            | Fault::ZeroReadsBurst { .. }
            | Fault::WrongEndianness
            | Fault::AllOnes
            | Fault::AllOnesForAWhile { .. } => When::access(after),
            Fault::PowerCut => When::disk_write(1 + after / 4),
            _ => When::message(after),
        };
        let when = if after == 0 { When::AT_ONCE } else { when };
        let plan = Plan::of(chance.bits(), row.fault, when.times(row.times));
        match row.needs {
            Needs::Reset => plan.with(Fault::FaultState { code: 0x2622 }, when.times(1)),
            _ => plan,
        }
    }

    fn asks(&self, chance: &mut Random) -> Vec<(u16, Ask)> {
        let count = match self.load {
            Load::Idle => 0,
            Load::One => 1,
            Load::Full => u64::from(COMMANDS),
        };
        let first = chance.bits();
        (0..count)
            .map(|at| {
                let target = (at % u64::from(DISKS)) as u16;
                let blocks = 1 + chance.below(4) as u32;
                let ask = match (first.wrapping_add(at)) % 5 {
                    0 | 1 => Ask::Write { lba: WRITTEN.start + at * 4, blocks },
                    2 => Ask::Defect { lba: DEFECTS.start + at },
                    _ => Ask::Read { lba: STATIC.start + at * 2, blocks },
                };
                (target, ask)
            })
            .collect()
    }

    fn during_bring_up<G: Generation>(&self, row: &Row, mut chance: Random) -> Result {
        let bus = super::bus(self.chip, DISKS);
        let books = Books::new(Buffers::new(&bus, usize::from(COMMANDS) * 4 + 16));
        let wants = Wants { commands: COMMANDS, ..Wants::default() };
        let after = match row.fault {
            Fault::SpuriousZero
            | Fault::ZeroReadsBurst { .. }
            | Fault::WrongEndianness
            | Fault::AllOnes
            | Fault::AllOnesForAWhile { .. } => chance.below(300),
            Fault::PowerCut => 0,
            _ => chance.below(12),
        };
        bus.set_faults(&self.plan(row, &mut chance, after));
        if row.needs == Needs::Abort {
            bus.with_model(|model| model.lose_scsi_replies(1));
        }
        // A platform tries a few times; the fault may outlast that.
        let (mut started, mut left) = (None, Some((bus, books)));
        let mut gone = false;
        for _ in 0..4 {
            let (bus, books) = left.take().expect("given back");
            match Platform::<G>::on(bus, books, wants) {
                Ok(platform) => {
                    started = Some(platform);
                    break;
                }
                Err((error, bus, books)) => {
                    crate::hostile::assert_sentence(&error);
                    gone |= error == fusion_mpt::error::Error::Gone;
                    left = Some((bus, books));
                }
            }
        }
        match started {
            Some(mut platform) => {
                self.set_up(&mut platform, row, &mut chance);
                let mut host = Host::new(platform, chance, DISKS);
                for (target, ask) in self.asks(&mut host.chance) {
                    host.send(target, ask, 0);
                }
                self.judge(host, row)
            }
            None => {
                let (bus, books) = left.expect("given back");
                let recovery_ms = bus.now_ms();
                let ending = if gone { Ending::Gone } else { Ending::Offline };
                assert!(row.may_end.contains(&ending), "it never started: {ending:?}");
                self.assert_next_start_works::<G>(bus, books, wants);
                Result { ending, recovery_ms, struck: true }
            }
        }
    }

    fn in_operation<G: Generation>(&self, mut host: Host<G>, row: &Row) -> Result {
        let asks = self.asks(&mut host.chance);
        let spread = (asks.len() as u64).clamp(1, 8);
        let after = host.chance.below(spread);
        let plan = self.plan(row, &mut host.chance, after);
        match self.moment {
            Moment::BringUp | Moment::Submission => {
                host.set_faults(&plan);
                for (target, ask) in asks {
                    host.send(target, ask, 0);
                    let steps = host.chance.below(4) as usize;
                    host.platform.bus.step(steps);
                }
            }
            Moment::Completion => {
                host.platform.bus.with_model(|model| model.hold_commands(true));
                for (target, ask) in asks {
                    host.send(target, ask, 0);
                }
                host.platform.settle();
                host.set_faults(&plan);
                host.platform.bus.with_model(|model| model.hold_commands(false));
            }
            Moment::TaskManagement => {
                // One command that the disk never answers; the ladder begins with an abort.
                host.platform.bus.with_model(|model| model.lose_scsi_replies(1));
                host.send(1, Ask::Read { lba: STATIC.start, blocks: 1 }, 0);
                for _ in 0..1_000 {
                    host.turn(100);
                    if host.platform.driver.recovery_counters().aborts > 0 {
                        break;
                    }
                }
                assert!(host.platform.driver.recovery_counters().aborts > 0, "never aborted");
                host.set_faults(&plan);
                for (target, ask) in asks {
                    host.send(target, ask, 0);
                }
            }
            Moment::Reset => {
                host.platform.bus.with_model(|model| model.hold_commands(true));
                for (target, ask) in asks {
                    host.send(target, ask, 0);
                }
                host.platform.settle();
                host.platform.bus.with_model(|model| {
                    model.fault(0x5854);
                    model.hold_commands(false);
                });
                let delays = 1 + host.chance.below(6);
                host.set_faults_during_reset(delays, plan);
                for _ in 0..100 {
                    host.turn(50);
                    if host.resets > 0 {
                        break;
                    }
                }
                assert!(host.resets > 0, "a fault state goes unnoticed for 5 s");
            }
            Moment::Discovery => {
                if host.chance.below(2) == 0 {
                    host.platform.bus.with_model(|model| {
                        let slot = DISKS as u8;
                        model.add_disk(slot, disk(77, DISK)).expect("an empty slot");
                    });
                } else {
                    host.platform.bus.with_model(|model| model.fault(0x5854));
                    for _ in 0..100 {
                        host.turn(50);
                        if host.resets > 0 {
                            break;
                        }
                    }
                }
                host.set_faults(&plan);
                for (target, ask) in asks {
                    host.send(target, ask, 0);
                }
            }
        }
        if row.needs == Needs::Abort && self.moment != Moment::TaskManagement {
            host.platform.bus.with_model(|model| model.lose_scsi_replies(1));
            host.send(1, Ask::Read { lba: STATIC.start, blocks: 1 }, 0);
        }
        self.judge(host, row)
    }

    /// Lets the platform work until it has recovered or given up; then checks everything.
    fn judge<G: Generation>(&self, mut host: Host<G>, row: &Row) -> Result {
        let struck_ms = host.wait_for_fault(PATIENCE_MS);
        let struck = struck_ms.is_some();
        host.probe_after(struck_ms);
        let from = host.probe_after_ms;
        let (ending, at_ms) = host.live(CELL_LIMIT_MS, &format!("{self}"));
        let recovery_ms = at_ms - from;
        if ending != Ending::Recovered {
            assert!(row.may_end.contains(&ending), "ended as {ending:?}: {:?}", host.last_error);
        }
        let bound_ms = match self.moment {
            Moment::BringUp => row.bound_ms.max(BRING_UP_BOUND_MS),
            _ => row.bound_ms,
        };
        assert!(
            recovery_ms <= bound_ms,
            "took {recovery_ms} ms to be {}, the bound is {bound_ms}",
            ending.name(),
        );
        host.platform.bus.clear_faults();
        match ending {
            Ending::Recovered => self.assert_all_is_well(host),
            Ending::Gone | Ending::Offline => self.assert_all_is_over(host, ending),
        }
        Result { ending, recovery_ms, struck }
    }

    /// No slot is lost, the disks hold what they should, and nobody wrote into freed memory.
    fn assert_all_is_well<G: Generation>(&self, mut host: Host<G>) {
        // What the fault still has on its way arrives now, and is nothing to anybody.
        for _ in 0..20 {
            host.turn(100);
        }
        host.probe_after(None);
        if host.live(CELL_LIMIT_MS, "after the fault").0 != Ending::Recovered {
            panic!("the fault is over, and the controller is {:?}", host.ending());
        }
        let quiet = |host: &Host<G>| host.platform.books.out.is_empty() && host.again.is_empty();
        for _ in 0..1_000 {
            if quiet(&host) {
                break;
            }
            host.turn(50);
        }
        host.platform.books.assert_nothing_out();
        assert_eq!(host.platform.driver.outstanding(), 0);
        // Every slot takes a command, and gives it back.
        let trust = host.platform.books.trust;
        host.platform.books.trust = Trust::All;
        let target = host.present().expect("a disk is left");
        let depth = host.platform.driver.depth();
        assert_eq!(depth, COMMANDS);
        self.fill(&mut host, target, depth);
        let over = host.platform.submit(target, Ask::Ready);
        assert_eq!(over.err(), Some(SubmitError::Full));
        let good = host.platform.books.good;
        host.platform.bus.with_model(|model| model.hold_commands(false));
        for _ in 0..100 {
            host.turn(10);
        }
        host.platform.books.assert_nothing_out();
        let ended_well = host.platform.books.good - good;
        assert_eq!(ended_well, u64::from(depth), "not all of a full queue ended well");
        if trust != Trust::Nothing {
            host.platform.assert_disks_whole();
        }
        host.platform.books.buffers.assert_all_untouched();
    }

    /// Fills the queue, while the disks hold the commands. A device that was full or busy a while
    /// ago is given more by and by.
    fn fill<G: Generation>(&self, host: &mut Host<G>, target: u16, depth: u16) {
        for _ in 0..200 {
            host.platform.bus.with_model(|model| model.hold_commands(true));
            let refused = (0..u64::from(depth)).find_map(|at| {
                let ask = Ask::Read { lba: STATIC.start + at, blocks: 2 };
                host.platform.submit(target, ask).err()
            });
            match refused {
                None => return,
                Some(SubmitError::Throttled | SubmitError::Held) => {
                    host.platform.bus.with_model(|model| model.hold_commands(false));
                    host.turn(1_000);
                    host.platform.books.assert_nothing_out();
                }
                Some(error) => panic!("with {} out: {error}", host.platform.books.out.len()),
            }
        }
        panic!("after 200 s a disk that was busy once is still not given a full queue");
    }

    /// Everything has completed, nothing is taken, no register is touched; another driver starts.
    fn assert_all_is_over<G: Generation>(&self, mut host: Host<G>, ending: Ending) {
        host.again.clear();
        host.platform.books.assert_nothing_out();
        assert_eq!(host.platform.driver.outstanding(), 0);
        let accesses = || host.platform.wire.accesses.load(std::sync::atomic::Ordering::Relaxed);
        let before = accesses();
        for _ in 0..20 {
            host.platform.pass(100);
            let refused = host.platform.submit(0, Ask::Ready).expect_err("it is over");
            match ending {
                Ending::Gone => {
                    assert!(matches!(refused, SubmitError::Gone | SubmitError::NoTarget))
                }
                _ => assert!(
                    matches!(
                        refused,
                        SubmitError::Gone | SubmitError::NotOperational | SubmitError::NoTarget
                    ),
                    "{refused:?}"
                ),
            }
        }
        let after = host.platform.wire.accesses.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(after, before, "register accesses after the end");
        host.platform.books.buffers.assert_all_untouched();
        let wants = host.platform.wants;
        let (bus, books) = host.platform.kill();
        self.assert_next_start_works::<G>(bus, books, wants);
    }

    fn assert_next_start_works<G: Generation>(
        &self,
        bus: fusion_mpt_mock::in_process::MockBus,
        mut books: Books,
        wants: Wants,
    ) {
        super::calm(&bus);
        books.ended.clear();
        let mut next = Platform::<G>::second(bus, books, wants);
        next.clear_attention(1);
        next.books.ended.clear();
        next.submit(1, Ask::Read { lba: 3, blocks: 4 }).expect("accepted");
        next.settle();
        next.books.assert_nothing_out();
        assert!(next.books.ended.iter().all(|ended| ended.end == super::End::Good));
    }
}
