//! Faults around a controller that runs on a thread of its own: those that only cost time let every
//! command through.

mod driver;

use driver::{BLOCK, Rig, stream};
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::targets::TargetId;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::faults::{Fault, Plan, When};
use fusion_mpt_mock::in_process::Options;
use fusion_mpt_mock::model::{Chip, disks};

const COMMANDS: u64 = 2_000;
const DEPTH: u64 = 32;

fn slow_but_sound<G: Generation>(chip: Chip) {
    let mut rig = Rig::<G>::new(Options::threaded(chip, disks(1, 1 << 20)));
    rig.clear_attention(TargetId(0));
    let dma = rig.bus.allocate(DEPTH as usize * BLOCK, 4096).expect("room for the buffers");
    let plan = Plan::new(7)
        .with(Fault::DelayReply { ms: 1 }, When::message(10).times(20))
        .with(Fault::ReorderReplies { window: 8 }, When::reply(100).times(20))
        .with(Fault::LostInterrupt, When::reply(200).times(50))
        .with(Fault::SlowFirmware { us: 20 }, When::message(300).times(100))
        .with(Fault::ReplyFramesExhausted { ms: 5 }, When::message(500))
        .with(Fault::EventStorm { events: 200 }, When::message(700))
        .with(Fault::ReplyForForeignSmid, When::message(900).times(5));
    rig.bus.set_faults(&plan);
    stream(&mut rig, COMMANDS, DEPTH, true, &dma);
    let done: Vec<_> = rig.bus.fault_log().iter().map(|event| event.fault).collect();
    for planned in &plan.faults {
        assert!(done.contains(&planned.fault.name()), "{planned}: {done:?}");
    }
    assert_eq!(rig.driver.outstanding(), 0);
    assert!(rig.bus.fault_counts().messages >= COMMANDS);
}

#[test]
fn faults_that_only_cost_time_let_every_command_through_mpi1() {
    slow_but_sound::<Mpi1>(Chip::SAS1068);
}

#[test]
fn faults_that_only_cost_time_let_every_command_through_mpi2() {
    for chip in [Chip::SAS2008, Chip::SAS3816] {
        slow_but_sound::<Mpi2>(chip);
    }
}
