//! Task management and resets on QEMU's controller.
//!
//! QEMU cannot take a block request back: an abort is answered when the request's latency is over
//! ([`Backend::Slow`]), while a reset ends requests that wait for their turn at once
//! (`Backend::Throttled`).

mod common;

use std::time::{Duration, Instant};

use common::qemu::Machine;
use common::{Data, Random, Rig, Sleep, command};
use fusion_mpt::controller::TaskRoute;
use fusion_mpt::error::Error;
use fusion_mpt::generation::{Device, Mpi1};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::recovery::{TaskRequest, TaskType};
use fusion_mpt::scsi::{Cdb, Lun, SenseKey};
use fusion_mpt::sgl::Direction;
use fusion_mpt::wire::IocStatus;
use fusion_mpt::wire::task::ResponseCode;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::qtest::{Backend, Qtest};

const MIB: u64 = 1 << 20;
const LATENCY: Duration = Duration::from_millis(300);

type QemuRig = Rig<Qtest, Mpi1>;
type QemuData = Data<<Qtest as Bus>::Dma>;

/// Target 0 takes its time, target 1 does not.
fn slow() -> QemuRig {
    let mut machine = Machine::with_disks(0, 0);
    machine.add(0, Backend::Slow { bytes: MIB, latency: LATENCY });
    machine.add_disk(1, MIB);
    let mut rig = Rig::new(machine.start());
    rig.clear_attentions();
    rig
}

/// Targets 0 and 1 do one operation a second.
fn throttled() -> (Machine, QemuRig) {
    let mut machine = Machine::new();
    machine.add_throttled(0, MIB, 1);
    machine.add_throttled(1, MIB, 1);
    let mut rig = Rig::new(machine.start());
    rig.clear_attentions();
    (machine, rig)
}

fn submit_reads(rig: &mut QemuRig, id: u16, count: usize, data: &QemuData) -> Vec<u64> {
    let device = rig.device(id);
    (0..count)
        .map(|index| {
            let cdb = Cdb::read(index as u64, 1);
            let segments = [data.segment(index * 512, 512)];
            rig.submit(device, &command(&cdb, Direction::Read, &segments))
        })
        .collect()
}

fn abort_by(route: TaskRoute) {
    let mut rig = slow();
    let data = rig.data(4 * 512);
    let cookies = submit_reads(&mut rig, 0, 3, &data);
    let device = rig.device(0);
    let reply = rig.task(TaskType::ABORT_TASK, device, Some(cookies[1]), route).unwrap();
    assert_eq!(reply.status.code(), IocStatus::SUCCESS);
    assert_eq!(reply.response, ResponseCode::COMPLETE);
    assert_eq!(reply.terminated, 1);
    assert_eq!(rig.wait(cookies[1]).failure(), Failure::TaskTerminated);
    // The others are none of its business.
    rig.wait(cookies[0]).assert_good(512);
    rig.wait(cookies[2]).assert_good(512);
    assert_eq!(rig.controller.counters().lies(), 0);
    // And again: the slots of task management are free.
    let cookie = submit_reads(&mut rig, 0, 1, &data)[0];
    let reply = rig.task(TaskType::ABORT_TASK, device, Some(cookie), route).unwrap();
    assert_eq!(reply.terminated, 1);
    assert_eq!(rig.wait(cookie).failure(), Failure::TaskTerminated);
}

#[test]
fn an_abort_through_the_queue_ends_that_command_alone() {
    abort_by(TaskRoute::Queue);
}

#[test]
fn an_abort_through_the_doorbell_ends_that_command_alone() {
    abort_by(TaskRoute::Doorbell);
}

#[test]
fn an_abort_of_what_is_no_longer_there_completes_and_ends_nothing() {
    let mut rig = slow();
    for route in [TaskRoute::Queue, TaskRoute::Doorbell, TaskRoute::Preferred] {
        let device = rig.device(0);
        let request =
            TaskRequest { kind: TaskType::ABORT_TASK, device, lun: Lun::default(), smid: 50 };
        let reply =
            rig.controller.task_management(&mut Sleep, &request, route, |_| panic!()).unwrap();
        assert_eq!(reply.status.code(), IocStatus::SUCCESS);
        assert_eq!((reply.response, reply.terminated), (ResponseCode::COMPLETE, 0));
    }
}

#[test]
fn a_query_tells_whether_the_command_is_there() {
    let mut rig = slow();
    let data = rig.data(512);
    let device = rig.device(0);
    for route in [TaskRoute::Queue, TaskRoute::Doorbell] {
        let cookie = submit_reads(&mut rig, 0, 1, &data)[0];
        let reply = rig.task(TaskType::QUERY_TASK, device, Some(cookie), route).unwrap();
        assert_eq!(reply.response, ResponseCode::SUCCEEDED);
        assert!(!rig.is_done(cookie), "a query ends nothing");
        // The same question about a command of somebody else's.
        let request =
            TaskRequest { kind: TaskType::QUERY_TASK, device, lun: Lun::default(), smid: 90 };
        let reply =
            rig.controller.task_management(&mut Sleep, &request, route, |_| panic!()).unwrap();
        assert_eq!(reply.response, ResponseCode::COMPLETE);
        rig.wait(cookie).assert_good(512);
    }
}

#[test]
fn an_abort_of_the_task_set_counts_what_it_ended() {
    let mut rig = slow();
    let data = rig.data(5 * 512);
    for kind in [TaskType::ABORT_TASK_SET, TaskType::CLEAR_TASK_SET] {
        let cookies = submit_reads(&mut rig, 0, 5, &data);
        let reply = rig.task(kind, rig.device(0), None, TaskRoute::Queue).unwrap();
        assert_eq!((reply.response, reply.terminated), (ResponseCode::COMPLETE, 5));
        for cookie in cookies {
            assert_eq!(rig.wait(cookie).failure(), Failure::TaskTerminated);
        }
    }
}

/// A reset of `kind` for target 0; `others` says whether it reaches target 1 as well.
fn reset_by(kind: TaskType, route: TaskRoute, others: bool) {
    let (_machine, mut rig) = throttled();
    let data = rig.data(8 * 512);
    let mine = submit_reads(&mut rig, 0, 8, &data);
    let theirs = submit_reads(&mut rig, 1, 2, &data);
    let start = Instant::now();
    let reply = rig.task(kind, rig.device(0), None, route).unwrap();
    assert_eq!(reply.status.code(), IocStatus::SUCCESS);
    assert_eq!(reply.response, ResponseCode::COMPLETE);
    let mut ended = 0;
    for cookie in &mine {
        let done = rig.wait(*cookie);
        // The first needs no turn.
        if done.outcome.is_good() {
            continue;
        }
        assert_eq!(done.failure(), Failure::TaskTerminated);
        ended += 1;
    }
    assert!(ended >= 6, "{ended} commands ended");
    assert!(start.elapsed() < Duration::from_secs(3), "at once: {:?}", start.elapsed());
    if others {
        for cookie in theirs {
            let done = rig.wait(cookie);
            assert!(done.outcome.is_good() || done.failure() == Failure::TaskTerminated);
        }
    } else {
        for cookie in theirs {
            rig.wait(cookie).assert_good(512);
        }
        rig.run_without_data(rig.device(1), &Cdb::test_unit_ready()).assert_good(0);
    }
    rig.run_without_data(rig.device(0), &Cdb::test_unit_ready()).assert_sense(
        SenseKey::UNIT_ATTENTION,
        0x29,
        0,
    );
    rig.clear_attentions();
    assert_eq!(rig.controller.counters().lies(), 0);
}

#[test]
fn a_logical_unit_reset_through_the_queue_ends_the_units_commands() {
    reset_by(TaskType::LOGICAL_UNIT_RESET, TaskRoute::Queue, false);
}

#[test]
fn a_logical_unit_reset_through_the_doorbell_ends_the_units_commands() {
    reset_by(TaskType::LOGICAL_UNIT_RESET, TaskRoute::Doorbell, false);
}

#[test]
fn a_target_reset_through_the_queue_ends_the_targets_commands() {
    reset_by(TaskType::TARGET_RESET, TaskRoute::Queue, false);
}

#[test]
fn a_target_reset_through_the_doorbell_ends_the_targets_commands() {
    reset_by(TaskType::TARGET_RESET, TaskRoute::Doorbell, false);
}

#[test]
fn a_bus_reset_ends_everybodys_commands() {
    reset_by(TaskType::RESET_BUS, TaskRoute::Queue, true);
    reset_by(TaskType::RESET_BUS, TaskRoute::Doorbell, true);
}

#[test]
fn task_management_for_what_is_not_there_says_so() {
    let mut machine = Machine::new();
    machine.add_disk(3, MIB);
    let mut rig = QemuRig::new(machine.start());
    let mut ask = |kind, bus, target, lun, route| {
        let device = Device::at_bus_and_target(bus, target);
        let request = TaskRequest { kind, device, lun, smid: 5 };
        rig.controller.task_management(&mut Sleep, &request, route, |_| panic!()).unwrap()
    };
    for route in [TaskRoute::Queue, TaskRoute::Doorbell] {
        for (bus, target, status) in [
            (1, 3, IocStatus::SCSI_INVALID_BUS),
            (0, 8, IocStatus::SCSI_INVALID_DEVHANDLE),
            (0, 4, IocStatus::SCSI_DEVICE_NOT_THERE),
        ] {
            let reply = ask(TaskType::ABORT_TASK, bus, target, Lun::default(), route);
            assert_eq!(reply.status.code(), status, "bus {bus}, target {target}");
            let reply = ask(TaskType::LOGICAL_UNIT_RESET, bus, target, Lun::default(), route);
            assert_eq!(reply.status.code(), status, "bus {bus}, target {target}");
        }
        let reply = ask(TaskType::LOGICAL_UNIT_RESET, 0, 3, Lun::peripheral(1), route);
        assert_eq!(reply.response, ResponseCode::INVALID_LUN);
        let reply = ask(TaskType::CLEAR_ACA, 0, 3, Lun::default(), route);
        assert_eq!(reply.response, ResponseCode::NOT_SUPPORTED);
    }
}

#[test]
fn a_second_task_management_waits_for_the_first() {
    let mut rig = slow();
    let data = rig.data(512);
    let cookie = submit_reads(&mut rig, 0, 1, &data)[0];
    let device = rig.device(0);
    let smid = rig.controller.find_command(cookie).unwrap();
    let request = TaskRequest { kind: TaskType::ABORT_TASK, device, lun: Lun::default(), smid };
    rig.controller.request_task_management(&request, TaskRoute::Queue, &mut Sleep).unwrap();
    let second = TaskRequest { kind: TaskType::TARGET_RESET, device: rig.device(1), ..request };
    let error =
        rig.controller.request_task_management(&second, TaskRoute::Queue, &mut Sleep).unwrap_err();
    assert_eq!(error, Error::Busy);
    // Commands go on meanwhile.
    rig.run_without_data(rig.device(1), &Cdb::test_unit_ready()).assert_good(0);
    let start = Instant::now();
    let reply = loop {
        rig.poll();
        if let Some(reply) = rig.controller.take_task_reply() {
            break reply.unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(10));
    };
    assert_eq!(reply.terminated, 1);
    assert_eq!(rig.wait(cookie).failure(), Failure::TaskTerminated);
    assert_eq!(
        rig.task(TaskType::TARGET_RESET, rig.device(1), None, TaskRoute::Queue).unwrap().response,
        ResponseCode::COMPLETE
    );
}

/// Commands for four targets, and now and then an abort, a reset of a target or of the whole
/// controller: each command ends once, and what was read is what was written.
#[test]
fn whatever_is_aborted_and_reset_each_command_ends_once() {
    const BLOCKS: u64 = 256;
    const DEPTH: usize = 48;
    let machine = Machine::with_disks(4, BLOCKS * 512);
    let mut random = Random::new(21);
    let images: Vec<_> = (0..4u8)
        .map(|id| {
            let bytes = random.bytes(BLOCKS as usize * 512);
            machine.write_image(id, 0, &bytes);
            bytes
        })
        .collect();
    let mut rig = QemuRig::new(machine.start());
    rig.clear_attentions();
    let data = rig.data(DEPTH * 512);
    let (mut good, mut ended, mut attentions) = (0, 0, 0);
    for round in 0..60 {
        data.fill(0);
        let sent: Vec<_> = (0..DEPTH)
            .map(|slot| {
                let (id, lba) = (random.below(4) as u16, random.below(BLOCKS));
                let cdb = Cdb::read(lba, 1);
                let segments = [data.segment(slot * 512, 512)];
                let device = rig.device(id);
                let cookie = rig.submit(device, &command(&cdb, Direction::Read, &segments));
                (cookie, id, lba, slot)
            })
            .collect();
        let route = TaskRoute::Queue;
        let victim = sent[random.below(DEPTH as u64) as usize];
        let device = rig.device(victim.1);
        match round % 6 {
            0 => {}
            1 | 2 => {
                rig.task(TaskType::ABORT_TASK, device, Some(victim.0), route).unwrap();
            }
            3 => {
                rig.task(TaskType::TARGET_RESET, device, None, route).unwrap();
            }
            4 => {
                rig.task(TaskType::ABORT_TASK_SET, device, None, route).unwrap();
            }
            _ => rig = rig.restart(&Wants::default()),
        }
        for (cookie, id, lba, slot) in sent {
            let done = rig.wait(cookie);
            match done.outcome {
                Outcome::Failed(Failure::TaskTerminated | Failure::ControllerReset) => ended += 1,
                Outcome::Failed(_) => panic!("{done:?}"),
                Outcome::Complete { .. } if done.outcome.is_good() => {
                    good += 1;
                    let image = &images[usize::from(id)][lba as usize * 512..][..512];
                    assert!(data.read(slot * 512, 512) == image, "target {id}, block {lba}");
                }
                Outcome::Complete { .. } => {
                    done.assert_sense(SenseKey::UNIT_ATTENTION, 0x29, 0);
                    attentions += 1;
                }
            }
        }
        assert_eq!(rig.controller.outstanding(), 0);
        rig.clear_attentions();
        assert_eq!(rig.controller.counters().lies(), 0, "round {round}");
    }
    println!("{good} read, {ended} ended before, {attentions} met a unit attention");
    assert!(good > 0 && ended > 0);
}

/// QEMU takes any command's completion for the end of a doorbell handshake and forgets the words
/// that it has. The driver notices unless it happens between its last look and the last word.
#[test]
fn a_request_by_doorbell_that_a_completion_cuts_off_is_sent_again() {
    const ROUNDS: u32 = 40;
    let machine = Machine::with_disks(4, MIB);
    for id in 0..4 {
        // Blocks that the image does not have are read at once; these take a moment.
        machine.write_image(id, 0, &[0x55; 12 * 512]);
    }
    let mut rig = QemuRig::new(machine.start());
    rig.clear_attentions();
    let data = rig.data(12 * 512);
    let device = rig.device(0);
    let request = TaskRequest { kind: TaskType::QUERY_TASK, device, lun: Lun::default(), smid: 0 };
    let mut answered = 0;
    for round in 0..ROUNDS {
        let cookies: Vec<_> = (0..4).flat_map(|id| submit_reads(&mut rig, id, 12, &data)).collect();
        rig.controller
            .request_task_management(&request, TaskRoute::Doorbell, &mut Sleep)
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        for cookie in cookies {
            rig.wait(cookie).assert_good(512);
        }
        let start = Instant::now();
        let mut reply = rig.controller.take_task_reply();
        while reply.is_none() && start.elapsed() < Duration::from_millis(200) {
            std::thread::sleep(Duration::from_micros(100));
            rig.poll();
            reply = rig.controller.take_task_reply();
        }
        if let Some(reply) = reply {
            assert_eq!(reply.unwrap().status.code(), IocStatus::SUCCESS);
            answered += 1;
        } else {
            // Lost after all: what a driver does is start again.
            rig = rig.restart(&Wants::default());
            rig.clear_attentions();
        }
    }
    println!("{answered} of {ROUNDS} answered");
    assert!(answered >= ROUNDS / 2, "{answered} of {ROUNDS}");
}
