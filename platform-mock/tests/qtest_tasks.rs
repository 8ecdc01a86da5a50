//! Task management and resets on QEMU's controller.
//!
//! QEMU cannot take a block request back: an abort is answered when the request's latency is over
//! ([`Backend::Slow`]), while a reset ends requests that wait for their turn at once
//! (`Backend::Throttled`).

mod common;

use std::time::{Duration, Instant};

use common::qemu::Machine;
use common::{Data, Rig, Sleep, command};
use fusion_mpt::controller::TaskRoute;
use fusion_mpt::error::Error;
use fusion_mpt::generation::{Device, Mpi1};
use fusion_mpt::outcome::Failure;
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
