//! Whole runs: several faults at once, and the same again from the same seed.

use fusion_mpt::platform::Registers as _;
use proptest::prelude::*;

use super::*;
use crate::faults::{Faulty, Random};
use crate::model::{Ioc, disk};

/// Takes what there is, and believes none of it.
fn drain(host: &mut Host) {
    if host.mpi1() {
        for _ in 0..16 {
            host.registers.read32(0x44);
        }
        host.give_frames(8);
        return;
    }
    for _ in 0..DEPTH {
        let at = RINGS + host.next[0] * 8;
        if host.get(at, 8) == [0xff; 8] {
            break;
        }
        host.memory.write(at, &[0xff; 8]);
        host.next[0] = (host.next[0] + 1) % DEPTH;
    }
    host.taken += 4;
    host.give_back();
}

/// Something that a host does, chosen by its own numbers and not by what it sees.
fn act(host: &mut Host, random: &mut Random) {
    let smid = random.between(3, 12) as u16;
    match random.below(12) {
        0..4 => host.ask(smid, host.disk(random.below(2) as u8)),
        4 => host.ask_nobody(smid),
        5 => {
            host.put_frame(5, &[0, 0, 0, 4, 0, 0, 0, 0, 5, 0, 0, 0]);
            host.post(5, 8, 0);
        }
        6 => drain(host),
        7 => {
            host.doorbell();
            host.registers.read32(0x30);
        }
        8 => host.wait(random.below(30)),
        9 => {
            let frame =
                host.scsi_io(9, host.disk(0), &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], false, 512);
            host.put_frame(9, &frame);
            host.post(9, 0, 0);
        }
        10 => {
            host.registers.write32(0, 0x40 << 24);
            host.wait(2);
        }
        _ => {
            if host.state() == State::Ready {
                host.next = [0; 32];
                if host.mpi1() {
                    host.give_frames(8);
                    host.init_mpi1();
                } else {
                    host.init_mpi2(1, false);
                    host.give_frames(8);
                }
            } else {
                host.ask_for_reset();
                host.wait(200);
            }
        }
    }
}

fn run(chip: Chip, plan: &Plan, host_seed: u64, acts: usize) -> Vec<String> {
    let mut host = Host::with_plan(chip, plan);
    let mut random = Random::new(host_seed);
    for _ in 0..acts {
        act(&mut host, &mut random);
    }
    host.bus.fault_log().iter().map(ToString::to_string).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_same_seed_gives_the_same_log(seed: u64, host_seed: u64, which in 0..CHIPS.len()) {
        let mut plan = Plan::seeded(seed, 5);
        // A short run: the moments come sooner.
        for planned in &mut plan.faults {
            planned.when.from = crate::faults::Moment::Message(seed % 7);
        }
        let log = run(CHIPS[which], &plan, host_seed, 40);
        prop_assert_eq!(log, run(CHIPS[which], &plan, host_seed, 40));
    }
}

#[test]
fn every_kind_does_something_in_some_run() {
    let mut quiet = Vec::new();
    for fault in Fault::all() {
        let worked = CHIPS.iter().any(|chip| {
            (0..10).any(|seed| {
                let plan = Plan::of(seed, *fault, When::AT_ONCE);
                let mut host = Host::with_plan(*chip, &plan);
                // Whatever comes of it.
                host.put_frame(7, &[1, 0, 0, 7, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                host.post(7, 8, 0);
                host.enable_port();
                let mut random = Random::new(seed);
                for _ in 0..60 {
                    act(&mut host, &mut random);
                }
                !host.bus.fault_log().is_empty()
            })
        });
        if !worked {
            quiet.push(fault.name());
        }
    }
    // This host asks for no task management.
    quiet.retain(|name| !name.starts_with("task-management"));
    assert_eq!(quiet, [""; 0]);
}

#[test]
fn faults_stack_and_each_sees_what_the_one_below_lets_through() {
    for chip in CHIPS {
        // The second of two copies is lost, and the other comes late.
        let plan = Plan::of(1, Fault::DuplicateReply, When::AT_ONCE)
            .with(Fault::DropReply, When::AT_ONCE)
            .with(Fault::DelayReply { ms: 3 }, When::AT_ONCE);
        let mut host = Host::with_plan(chip, &plan);
        host.ask(3, host.disk(0));
        host.ask(4, host.disk(0));
        assert_eq!(host.answered(), [0; 0]);
        host.wait(3);
        assert_eq!(host.answered(), [4]);
        let names: Vec<_> = host.bus.fault_log().iter().map(|event| event.fault).collect();
        assert_eq!(names, ["duplicate-reply", "drop-reply", "delay-reply"]);
    }
}

#[test]
fn a_new_plan_counts_from_when_it_was_installed() {
    for chip in CHIPS {
        let mut host = Host::with_fault(chip, Fault::DropReply, When::reply(2));
        host.ask(3, host.disk(0));
        host.bus.set_faults(&Plan::of(1, Fault::DropReply, When::reply(2)));
        host.ask(4, host.disk(0));
        host.ask(5, host.disk(0));
        assert_eq!(host.answered(), [3, 4]);
    }
}

#[test]
fn a_threaded_bus_has_its_faults_too() {
    for chip in CHIPS {
        let plan = Plan::of(1, Fault::FaultState { code: 0x2100 }, When::access(100));
        let options = Options::threaded(chip, disks(1, 1 << 20));
        let bus = MockBus::with_faults(options, &plan);
        let registers = bus.registers();
        for _ in 0..99 {
            assert_eq!(registers.read32(0) >> 28, 1);
        }
        assert_eq!(registers.read32(0), 4 << 28 | 0x2100);
        assert_eq!(bus.fault_log().len(), 1);
        bus.clear_faults();
        assert_eq!(bus.fault_log().len(), 1);
    }
}

#[test]
fn without_a_plan_there_is_the_model_and_nothing_else() {
    let mut faulty = Faulty::new(Model::new(Chip::SAS3008));
    faulty.set_faults(&Plan::new(1));
    assert!(faulty.model_mut().add_disk(0, disk(0, 1 << 20)).is_ok());
    let doorbell = faulty.read32(0);
    assert_eq!(doorbell, Model::new(Chip::SAS3008).read32(0));
    assert_eq!(faulty.counts(), crate::faults::Counts::default());
    assert_eq!(faulty.deadline(), None);
    assert!(faulty.to_string().ends_with("with 0 faults"));
}
