//! The contract, by chance: any commands, faults, ticks, resets, pulls and plugs, in any order,
//! against a plain map of what is out and what may come back.
//!
//! The map is `fault_rig`'s [`Books`](fault_rig::Books): it ends the test when a command comes back
//! that is not out, or with data or sense that is not its own. What this file adds is when a
//! submission may be refused and how, and that everything ends.

mod fault_rig;
mod hostile;

use fault_rig::books::{Books, Trust};
use fault_rig::buffers::Buffers;
use fault_rig::content::{DEFECTS, STATIC, WRITTEN};
use fault_rig::doubt::doubt;
use fault_rig::host::{Ending, Host};
use fault_rig::{Ask, Platform, seed};
use fusion_mpt::controller::Health;
use fusion_mpt::error::SubmitError;
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::recovery::{InFlight, Policy};
use fusion_mpt_mock::faults::{Fault, Plan, When};
use fusion_mpt_mock::model::Chip;
use fusion_mpt_mock::target::Target;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const DISKS: u16 = 2;
/// Commands at once, of which so many are addressed by tag.
const COMMANDS: u16 = 12;
const TAGS: u16 = 4;

/// One thing that a platform, a person or misfortune does.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        target: u16,
        kind: u8,
        place: u64,
        tag: Option<u16>,
        timeout_ms: u32,
    },
    Poll,
    /// The firmware does so many pieces of its work.
    Firmware(usize),
    /// So much time passes, and the platform ticks and acts.
    Time(u64),
    Faults(Plan),
    ClearFaults,
    Reset,
    Hold(bool),
    LoseReplies(u32),
    FaultState(u16),
    Pull(u8),
    Plug(u8),
    Scan,
}

/// How it all ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finish {
    Recover,
    Stop,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let timeout = prop_oneof![Just(0_u32), Just(1), Just(700), Just(9_000), Just(60_000)];
    let submit = (0..DISKS + 1, 0..6_u8, 0..40_u64, prop::option::of(0..TAGS + 1), timeout)
        .prop_map(|(target, kind, place, tag, timeout_ms)| Step::Submit {
            target,
            kind,
            place,
            tag,
            timeout_ms,
        });
    prop_oneof![
        12 => submit,
        3 => Just(Step::Poll),
        6 => (0..12_usize).prop_map(Step::Firmware),
        6 => (1..3_000_u64).prop_map(Step::Time),
        2 => (any::<u64>(), 1..3_usize).prop_map(|(seed, count)| Step::Faults(faults(seed, count))),
        1 => Just(Step::ClearFaults),
        1 => Just(Step::Reset),
        1 => any::<bool>().prop_map(Step::Hold),
        1 => (1..3_u32).prop_map(Step::LoseReplies),
        1 => (1..0xffff_u16).prop_map(Step::FaultState),
        1 => (0..DISKS as u8).prop_map(Step::Pull),
        2 => (0..DISKS as u8).prop_map(Step::Plug),
        1 => Just(Step::Scan),
    ]
}

/// Faults at moments that a short run reaches.
fn faults(seed: u64, count: usize) -> Plan {
    let mut plan = Plan::seeded(seed, count);
    for (index, planned) in plan.faults.iter_mut().enumerate() {
        let times = planned.when.times;
        planned.when = When::message((seed >> (index * 3)) & 7).times(times);
    }
    plan
}

/// A run, and what the reference model knows beyond the books.
struct Run<G: Generation> {
    host: Host<G>,
    pulled: Vec<Option<Target>>,
    /// Tags whose commands are out, by cookie.
    tags: Vec<Option<u64>>,
}

impl<G: Generation> Run<G> {
    fn new(chip: Chip, in_flight: InFlight) -> Self {
        let bus = fault_rig::bus(chip, DISKS);
        let books = Books::new(Buffers::new(&bus, usize::from(COMMANDS) * 2 + 8));
        let wants = Wants { commands: COMMANDS, tags: TAGS, ..Wants::default() };
        let platform = Platform::<G>::on(bus, books, wants);
        let mut platform = platform.unwrap_or_else(|(error, ..)| panic!("{error}"));
        (0..DISKS).for_each(|target| platform.clear_attention(target));
        platform.books.ended.clear();
        platform.driver.set_policy(Policy { in_flight, ..Policy::default() });
        let host = Host::new(platform, seed::chance(1, "contract"), DISKS);
        Self { host, pulled: vec![None, None], tags: vec![None; usize::from(TAGS)] }
    }

    fn ask(kind: u8, place: u64) -> Ask {
        match kind {
            0 => Ask::Write { lba: WRITTEN.start + place * 4, blocks: 1 + (place % 4) as u32 },
            1 => Ask::Defect { lba: DEFECTS.start + place },
            2 => Ask::Flush,
            3 => Ask::Ready,
            _ => Ask::Read { lba: STATIC.start + place, blocks: 1 + (place % 4) as u32 },
        }
    }

    /// Submits, and compares with what the model says of refusals.
    fn submit(&mut self, target: u16, ask: Ask, tag: Option<u16>, timeout_ms: u32) {
        let platform = &mut self.host.platform;
        // One write at a time of one block: the order of two is nobody's promise.
        let same = |other: &fault_rig::books::Out| other.target == target && other.ask == ask;
        if matches!(ask, Ask::Write { .. }) && platform.books.out.values().any(same) {
            return;
        }
        let health = platform.driver.health();
        let tagged_out = self.tags.iter().flatten().count();
        let pool_out = platform.books.out.len() - tagged_out;
        let is_there = platform.is_present(target);
        match platform.submit_as(target, ask, 0, tag, timeout_ms) {
            Ok(cookie) => {
                assert!(is_there && !matches!(health, Health::Gone | Health::Offline));
                if let Some(tag) = tag {
                    let place = &mut self.tags[usize::from(tag)];
                    assert_eq!(*place, None, "tag {tag} was given out twice");
                    *place = Some(cookie);
                } else {
                    assert!(pool_out < usize::from(COMMANDS - TAGS), "{pool_out} were out");
                }
            }
            Err(SubmitError::Full) => {
                assert!(tag.is_none() && pool_out == usize::from(COMMANDS - TAGS), "{pool_out}");
            }
            Err(SubmitError::TagInUse(used)) => {
                assert!(tag == Some(used) && self.tags[usize::from(used)].is_some());
            }
            Err(SubmitError::TagOutOfRange { .. }) => assert_eq!(tag, Some(TAGS)),
            Err(SubmitError::NoTarget) => assert!(!is_there),
            Err(SubmitError::Gone) => assert_eq!(health, Health::Gone),
            Err(SubmitError::NotOperational) => assert_ne!(health, Health::Running),
            Err(SubmitError::Held | SubmitError::Throttled) => {}
            Err(other) => panic!("{ask:?} was refused: {other}"),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Submit { target, kind, place, tag, timeout_ms } => {
                self.submit(*target, Self::ask(*kind, *place), *tag, *timeout_ms);
            }
            Step::Poll => _ = self.host.platform.poll(),
            Step::Firmware(count) => _ = self.host.platform.bus.step(*count),
            Step::Time(ms) => self.host.turn(*ms),
            Step::Faults(plan) => self.set_faults(plan),
            Step::ClearFaults => self.host.platform.bus.clear_faults(),
            Step::Reset => self.host.reset(),
            Step::Hold(hold) => {
                self.host.platform.bus.with_model(|model| model.hold_commands(*hold));
            }
            Step::LoseReplies(count) => {
                self.host.platform.bus.with_model(|model| model.lose_scsi_replies(*count));
            }
            Step::FaultState(code) => self.host.platform.bus.with_model(|model| model.fault(*code)),
            Step::Pull(slot) => {
                let place = &mut self.pulled[usize::from(*slot)];
                if place.is_none() {
                    *place = self.host.platform.bus.with_model(|model| model.remove_disk(*slot));
                }
            }
            Step::Plug(slot) => self.plug(*slot),
            Step::Scan => self.host.platform.driver.scan(),
        }
        self.compare();
    }

    fn set_faults(&mut self, plan: &Plan) {
        let platform = &mut self.host.platform;
        for planned in &plan.faults {
            match doubt(planned.fault).0 {
                Trust::All => {}
                trust if platform.books.trust == Trust::Nothing => _ = trust,
                trust => platform.books.trust = trust,
            }
            match planned.fault {
                Fault::HandleReuse { slot } => platform.books.shadow.forget(slot.into()),
                Fault::PowerCut => platform.books.shadow.volatile = true,
                _ => {}
            }
        }
        platform.bus.set_faults(plan);
    }

    fn plug(&mut self, slot: u8) {
        if let Some(disk) = self.pulled[usize::from(slot)].take() {
            let back = self.host.platform.bus.with_model(|model| model.add_disk(slot, disk));
            // A fault may have put another there: that is the disk from now on.
            if back.is_err() {
                self.host.platform.books.shadow.forget(slot.into());
            }
        }
    }

    /// The driver and the reference model agree.
    fn compare(&mut self) {
        let platform = &self.host.platform;
        for place in &mut self.tags {
            if place.is_some_and(|cookie| !platform.books.out.contains_key(&cookie)) {
                *place = None;
            }
        }
        assert_eq!(usize::from(platform.driver.outstanding()), platform.books.out.len());
        if matches!(platform.driver.health(), Health::Gone | Health::Offline) {
            assert_eq!(platform.driver.outstanding(), 0, "{:?}", platform.driver.health());
        }
    }

    /// Misfortune ends; then everything that is out ends too, and all slots are free.
    fn recover(mut self) {
        self.calm();
        let host = &mut self.host;
        host.probe_after(None);
        match host.live(2_500_000, "when all is well again").0 {
            Ending::Gone | Ending::Offline => {
                host.again.clear();
                host.platform.books.assert_nothing_out();
                return;
            }
            Ending::Recovered => {}
        }
        // A request of the driver's own may have been lost, which costs a reset of its own yet.
        for _ in 0..400 {
            host.turn(50);
        }
        for _ in 0..2_000 {
            let idle = host.platform.books.out.is_empty() && host.again.is_empty();
            if idle && host.platform.driver.health() == Health::Running {
                break;
            }
            host.turn(50);
        }
        host.platform.books.assert_nothing_out();
        self.compare();
        let target = self.host.present().unwrap_or_else(|| {
            let targets: Vec<_> = self.host.platform.driver.targets().collect();
            panic!("both disks are back, and the driver knows of {targets:?}")
        });
        for tag in 0..TAGS {
            self.must_take(target, Some(tag));
        }
        for _ in 0..COMMANDS - TAGS {
            self.must_take(target, None);
        }
        for _ in 0..400 {
            self.host.turn(50);
        }
        self.host.platform.books.assert_nothing_out();
        self.host.platform.books.buffers.assert_all_untouched();
        if self.host.platform.books.trust != Trust::Nothing {
            self.host.platform.assert_disks_whole();
        }
    }

    /// A slot that is free takes a command, at once or when the driver has calmed down.
    fn must_take(&mut self, target: u16, tag: Option<u16>) {
        let ask = Ask::Read { lba: STATIC.start, blocks: 1 };
        for _ in 0..100 {
            match self.host.platform.submit_as(target, ask, 0, tag, 9_000) {
                Ok(_) => return,
                Err(SubmitError::Throttled | SubmitError::Held) => self.host.turn(500),
                Err(error) => panic!("a free slot ({tag:?}) takes nothing: {error}"),
            }
        }
        panic!("the driver holds commands back for ever");
    }

    fn calm(&mut self) {
        fault_rig::calm(&self.host.platform.bus);
        (0..DISKS as u8).for_each(|slot| self.plug(slot));
    }

    /// Stops, whatever is out; then another driver starts.
    fn stop(mut self) {
        self.calm();
        let Platform { driver, mut books, bus, wants, .. } = self.host.platform;
        let mut delay = bus.delay();
        let (parts, _, _) =
            driver.stop(bus.now_ms(), &mut delay, |completion| books.note(&completion));
        books.assert_nothing_out();
        drop(parts);
        books.buffers.assert_all_untouched();
        Platform::<G>::second(bus, books, wants);
    }

    fn kill(mut self) {
        self.calm();
        self.host.platform.start_again();
    }
}

fn run<G: Generation>(chip: Chip, in_flight: InFlight, steps: &[Step], finish: Finish) {
    let mut run = Run::<G>::new(chip, in_flight);
    for step in steps {
        run.step(step);
    }
    match finish {
        Finish::Recover => run.recover(),
        Finish::Stop => run.stop(),
        Finish::Kill => run.kill(),
    }
}

fn in_flight() -> impl Strategy<Value = InFlight> {
    prop_oneof![Just(InFlight::Fail), Just(InFlight::HandBack)]
}

fn finish() -> impl Strategy<Value = Finish> {
    prop_oneof![6 => Just(Finish::Recover), 2 => Just(Finish::Stop), 1 => Just(Finish::Kill)]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        max_shrink_iters: 2_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/proptest-regressions/contract.txt",
        ))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_to_a_sas1068_the_contract_holds(
        in_flight in in_flight(), steps in prop::collection::vec(step(), 1..48), finish in finish(),
    ) {
        run::<Mpi1>(Chip::SAS1068, in_flight, &steps, finish);
    }

    #[test]
    fn whatever_happens_to_a_sas3008_the_contract_holds(
        in_flight in in_flight(), steps in prop::collection::vec(step(), 1..48), finish in finish(),
    ) {
        run::<Mpi2>(Chip::SAS3008, in_flight, &steps, finish);
    }

    #[test]
    fn whatever_happens_to_a_sas3816_the_contract_holds(
        in_flight in in_flight(), steps in prop::collection::vec(step(), 1..48), finish in finish(),
    ) {
        run::<Mpi2>(Chip::SAS3816, in_flight, &steps, finish);
    }
}
