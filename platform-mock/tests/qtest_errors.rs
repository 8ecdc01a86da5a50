//! What goes wrong on QEMU's controller: errors of devices, of requests, of the controller, and
//! its end.

mod common;

use std::time::{Duration, Instant};

use common::qemu::Machine;
use common::{Rig, Sleep, command, ready, tables};
use fusion_mpt::controller::{Action, TaskRoute};
use fusion_mpt::error::{Error, SubmitError};
use fusion_mpt::generation::{Command, Device, Mpi1};
use fusion_mpt::mem::Memory;
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::pages::PageRequest;
use fusion_mpt::platform::Registers;
use fusion_mpt::recovery::{ResetReason, TaskRequest, TaskType};
use fusion_mpt::scsi::{Cdb, Lun, ScsiStatus, SenseKey};
use fusion_mpt::sgl::Direction;
use fusion_mpt::targets::TargetId;
use fusion_mpt::trace::{Trace, TraceKind};
use fusion_mpt::wire::config::{PageId, PageType};
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::qtest::{Backend, Qtest};

const MIB: u64 = 1 << 20;
const REQUEST_QUEUE: u16 = 0x40;
const EVENT_ACK: u8 = 0x08;

type QemuRig = Rig<Qtest, Mpi1>;

fn one_disk() -> (Machine, QemuRig) {
    let machine = Machine::with_disks(1, MIB);
    let rig = Rig::new(machine.start());
    (machine, rig)
}

#[test]
fn a_disk_reports_its_power_on_once() {
    let (_machine, mut rig) = one_disk();
    let device = rig.device(0);
    let tur = Cdb::test_unit_ready();
    rig.run_without_data(device, &tur).assert_sense(SenseKey::UNIT_ATTENTION, 0x29, 0);
    rig.run_without_data(device, &tur).assert_good(0);
}

#[test]
fn an_answer_that_is_shorter_than_the_buffer_tells_by_how_much() {
    let (_machine, mut rig) = one_disk();
    let device = rig.device(0);
    let data = rig.data(252);
    let before = rig.controller.counters().with_reply_frame;
    // An INQUIRY is answered before the unit attention is told (SPC-4). QEMU pads answers to the
    // length that the command gives, so that length is short of the buffer here.
    for (cdb, length) in [(Cdb::inquiry_vpd(0x80, 10), 10), (Cdb::inquiry(36), 36)] {
        data.fill(0xee);
        let done = rig.run_in(device, &cdb, &data, 252);
        let good =
            Outcome::Complete { status: ScsiStatus::GOOD, transferred: length, sense_length: 0 };
        assert_eq!(done.outcome, good, "{cdb:?}");
        assert!(done.sense.is_empty());
        let answer = data.read(0, 252);
        assert!(answer[length as usize..].iter().all(|byte| *byte == 0xee));
        match length {
            36 => assert_eq!(&answer[8..16], b"QEMU    "),
            _ => assert_eq!(&answer[..10], b"\x00\x80\x00\x06QTEST0"),
        }
    }
    assert_eq!(rig.controller.counters().with_reply_frame, before + 2);
    // As much as there is room for: no reply frame.
    rig.run_in(device, &Cdb::inquiry(36), &data, 36).assert_good(36);
    assert_eq!(rig.controller.counters().with_reply_frame, before + 2);
}

#[test]
fn a_read_beyond_the_end_fails_with_sense_and_moves_nothing() {
    let (_machine, mut rig) = one_disk();
    rig.clear_attentions();
    let device = rig.device(0);
    let data = rig.data(1024);
    data.fill(0xee);
    let last = (MIB / 512 - 1) as u32;
    let done = rig.run_in(device, &Cdb::read_10(last, 2), &data, 1024);
    done.assert_sense(SenseKey::ILLEGAL_REQUEST, 0x21, 0);
    assert_eq!(done.outcome.transferred(), 0);
    assert_eq!(data.read(0, 1024), [0xee; 1024]);
    rig.run_in(device, &Cdb::read_10(last, 1), &data, 512).assert_good(512);
    rig.run_out(device, &Cdb::write_10(last, 2), &data, 1024).assert_sense(
        SenseKey::ILLEGAL_REQUEST,
        0x21,
        0,
    );
}

#[test]
fn an_unknown_operation_code_fails_with_sense() {
    let (_machine, mut rig) = one_disk();
    rig.clear_attentions();
    let cdb = Cdb::from_bytes(&[0xd0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    rig.run_without_data(rig.device(0), &cdb).assert_sense(SenseKey::ILLEGAL_REQUEST, 0x20, 0);
}

#[test]
fn the_sense_of_each_command_is_its_own() {
    let (_machine, mut rig) = one_disk();
    rig.clear_attentions();
    let device = rig.device(0);
    let data = rig.data(512);
    let segments = [data.segment(0, 512)];
    let beyond = Cdb::read_10(u32::MAX, 1);
    let unknown = Cdb::from_bytes(&[0xd0, 0, 0, 0, 0, 0]).unwrap();
    let good = Cdb::read_10(0, 1);
    for _ in 0..30 {
        let first = rig.submit(device, &command(&beyond, Direction::Read, &segments));
        let second = rig.submit(device, &command(&unknown, Direction::None, &[]));
        let third = rig.submit(device, &command(&good, Direction::Read, &segments));
        rig.wait(third).assert_good(512);
        rig.wait(second).assert_sense(SenseKey::ILLEGAL_REQUEST, 0x20, 0);
        rig.wait(first).assert_sense(SenseKey::ILLEGAL_REQUEST, 0x21, 0);
    }
    assert_eq!(rig.controller.counters().lies(), 0);
}

/// QEMU faults when an answer finds no reply frame.
#[test]
fn every_command_may_fail_at_once_without_running_out_of_reply_frames() {
    let (_machine, mut rig) = one_disk();
    rig.clear_attentions();
    let device = rig.device(0);
    let unknown = Cdb::from_bytes(&[0xd0, 0, 0, 0, 0, 0]).unwrap();
    let page = PageRequest::new(PageId::plain(PageType::MANUFACTURING, 0), 0);
    for _ in 0..3 {
        let depth = rig.controller.depth();
        let cookies: Vec<_> = (0..depth)
            .map(|_| rig.submit(device, &command(&unknown, Direction::None, &[])))
            .collect();
        rig.controller.request_page(page).unwrap();
        // All of them are answered before the first answer is looked at.
        std::thread::sleep(Duration::from_millis(100));
        let request =
            TaskRequest { kind: TaskType::QUERY_TASK, device, lun: Lun::default(), smid: 0 };
        rig.controller.request_task_management(&request, TaskRoute::Queue, &mut Sleep).unwrap();
        for cookie in cookies {
            rig.wait(cookie).assert_sense(SenseKey::ILLEGAL_REQUEST, 0x20, 0);
        }
        let start = Instant::now();
        let mut contents = [0; 128];
        let (mut task, mut length) = (None, None);
        while task.is_none() || length.is_none() {
            rig.poll();
            task = task.or_else(|| rig.controller.take_task_reply());
            length = length.or_else(|| rig.controller.take_page(&mut contents));
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        assert_eq!(length, Some(Ok(0x4c)));
    }
    rig.watch();
    assert_eq!(rig.actions.len(), 1, "the disk, and no fault: {:?}", rig.actions);
    assert_eq!(rig.controller.counters().lies(), 0);
}

#[test]
fn a_logical_unit_that_is_not_there_is_answered_by_the_target() {
    let (_machine, mut rig) = one_disk();
    rig.clear_attentions();
    let device = rig.device(0);
    let cdb = Cdb::test_unit_ready();
    let other = Command { lun: Lun::peripheral(1), ..command(&cdb, Direction::None, &[]) };
    rig.run(device, &other).assert_sense(SenseKey::ILLEGAL_REQUEST, 0x25, 0);
    let data = rig.data(36);
    let cdb = Cdb::inquiry(36);
    let segments = [data.segment(0, 36)];
    let other = Command { lun: Lun::peripheral(1), ..command(&cdb, Direction::Read, &segments) };
    rig.run(device, &other);
    assert_eq!(data.read(0, 1)[0] & 0xe0, 0x60, "no device here");
}

#[test]
fn commands_to_nowhere_come_back_and_say_so() {
    let mut machine = Machine::new();
    machine.add_disk(2, MIB);
    let mut rig = QemuRig::new(machine.start());
    let cdb = Cdb::test_unit_ready();
    for (bus, target) in [(0, 0), (0, 7), (0, 8), (0, 255), (1, 2), (255, 255)] {
        let done = rig.run_without_data(Device::at_bus_and_target(bus, target), &cdb);
        assert_eq!(done.failure(), Failure::NoDevice, "bus {bus}, target {target}");
    }
    // Same address as what discovery found.
    let done = rig.run_without_data(Device::at_bus_and_target(0, 2), &cdb);
    done.assert_sense(SenseKey::UNIT_ATTENTION, 0x29, 0);
    let no_target = rig.controller.submit(TargetId(5), &command(&cdb, Direction::None, &[]));
    assert_eq!(no_target, Err(SubmitError::NoTarget));
}

#[test]
fn a_command_described_wrongly_is_an_overrun_and_moves_nothing() {
    let (machine, mut rig) = one_disk();
    machine.write_image(0, 0, &[0x11; 1024]);
    rig.clear_attentions();
    let device = rig.device(0);
    let data = rig.data(1024);
    data.fill(0xee);
    let (read, write) = (Cdb::read_10(0, 2), Cdb::write_10(0, 2));
    let (whole, half) = ([data.segment(0, 1024)], [data.segment(0, 512)]);
    for (what, wrong) in [
        ("a read as write", command(&read, Direction::Write, &whole)),
        ("a write as read", command(&write, Direction::Read, &whole)),
        ("a read without data", command(&read, Direction::None, &[])),
        ("half of a read", command(&read, Direction::Read, &half)),
        ("half of a write", command(&write, Direction::Write, &half)),
    ] {
        assert_eq!(rig.run(device, &wrong).failure(), Failure::DataOverrun, "{what}");
    }
    assert_eq!(data.read(0, 1024), [0xee; 1024]);
    assert_eq!(machine.read_image(0, 0, 1024), [0x11; 1024]);
    rig.run_in(device, &read, &data, 1024).assert_good(1024);
    assert_eq!(rig.controller.counters().lies(), 0);
}

#[test]
fn what_lies_beyond_a_replys_length_is_not_looked_at() {
    let machine = Machine::with_disks(1, MIB);
    let bus = machine.start();
    let ready = ready::<_, Mpi1>(&bus);
    let plan = ready.plan(&Wants::default()).unwrap();
    let region = bus.allocate(plan.bytes, plan.alignment).unwrap();
    // A second view of the driver's memory, through which the stale bytes are put in.
    let memory = Memory::new(&region);
    let mut trace = Trace::new();
    let mut controller = ready.start(&plan, &region, tables(&plan, 4), 0, &mut Sleep).unwrap();
    controller.set_trace(&mut trace);
    let device = controller.device(TargetId(0)).unwrap();
    let page = PageRequest::new(PageId::plain(PageType::MANUFACTURING, 0), 0);
    let mut poisoned = 0;
    for _ in 0..plan.reply_frames {
        let from = controller.trace().unwrap().since(0).last().map_or(0, |last| last.sequence + 1);
        let mut contents = [0; 128];
        assert_eq!(controller.read_page(&mut Sleep, page, &mut contents, |_| ()), Ok(0x4c));
        let request =
            TaskRequest { kind: TaskType::QUERY_TASK, device, lun: Lun::default(), smid: 90 };
        let reply =
            controller.task_management(&mut Sleep, &request, TaskRoute::Queue, |_| ()).unwrap();
        assert_eq!((reply.terminated, reply.log_info.0), (0, 0));
        let lengths: Vec<_> = controller
            .trace()
            .unwrap()
            .since(from)
            .filter(|entry| entry.kind == TraceKind::ReplyFrame)
            .map(|entry| {
                // The frame is the controller's again; what it does not write stays.
                let frame = ((entry.word as u32) << 1) - memory.bus(0).low();
                memory.fill(frame as usize, 128, 0xff);
                poisoned += 1;
                (entry.bytes[3], entry.length)
            })
            .collect();
        // Configuration twice (header, page), then task management; each 24 bytes long.
        assert_eq!(lengths, [(4, 24), (4, 24), (1, 24)]);
    }
    assert!(poisoned > 2 * u32::from(plan.reply_frames), "every frame went round");
    assert_eq!(controller.counters().lies(), 0);
}

/// Posts a request that QEMU does not know, as a driver gone wrong would.
fn post_the_unknown(rig: &QemuRig) {
    let frame = rig.data(128);
    frame.write(0, &[0, 0, 0, EVENT_ACK, 0, 0, 0, 0, 0x55, 0, 0, 0]);
    rig.bus.registers().write32(REQUEST_QUEUE, frame.segment(0, 1).address.low());
    // QEMU takes it up on its own time.
    let start = Instant::now();
    while rig.bus.registers().read32(0) >> 28 != 4 {
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_fault_is_noticed_and_a_reset_cures_it_and_completes_everything() {
    let mut machine = Machine::new();
    machine.add(0, Backend::Slow { bytes: MIB, latency: Duration::from_secs(1) });
    machine.add_disk(1, MIB);
    let mut rig = QemuRig::new(machine.start());
    rig.clear_attentions();
    rig.actions.clear();
    let data = rig.data(10 * 512);
    let cookies: Vec<_> = (0..10)
        .map(|block| {
            let cdb = Cdb::read(block, 1);
            let segments = [data.segment(block as usize * 512, 512)];
            rig.submit(rig.device(0), &command(&cdb, Direction::Read, &segments))
        })
        .collect();
    rig.tick(1);
    post_the_unknown(&rig);
    let (reads, _) = rig.controller.register_accesses();
    rig.tick(500);
    assert_eq!(rig.controller.register_accesses().0, reads + 1, "the FIFO; not a second yet");
    rig.tick(1_100);
    assert_eq!(rig.controller.register_accesses().0, reads + 3, "the FIFO and the doorbell");
    assert_eq!(rig.controller.outstanding(), 10, "the device may still write their memory");
    assert_eq!(rig.actions, [Action::ResetNeeded(ResetReason::Fault(1))]);
    let tur = Cdb::test_unit_ready();
    let refused = rig.try_submit(rig.device(1), &command(&tur, Direction::None, &[]));
    assert_eq!(refused, Err(SubmitError::Held));
    let page = PageRequest::new(PageId::plain(PageType::MANUFACTURING, 0), 0);
    assert_eq!(rig.page(page), Err(Error::Fault(1)));
    rig.tick(10_000);
    assert_eq!(rig.actions.len(), 1, "told once");

    rig.reset();
    for cookie in &cookies {
        assert_eq!(rig.take(*cookie).failure(), Failure::ControllerFault(1));
    }
    rig.settle_reset();
    rig.clear_attentions();
    rig.run_in(rig.device(1), &Cdb::read_10(0, 1), &data, 512).assert_good(512);
    for cookie in cookies {
        assert!(!rig.is_done(cookie), "completed a second time");
    }
    assert_eq!(rig.controller.counters().lies(), 0);
}

#[test]
fn a_fault_ends_the_wait_for_a_page_or_for_task_management() {
    let (_machine, mut rig) = one_disk();
    post_the_unknown(&rig);
    let start = Instant::now();
    let page = PageRequest::new(PageId::plain(PageType::MANUFACTURING, 0), 0);
    assert_eq!(rig.page(page), Err(Error::Fault(1)));
    let mut rig = rig.restart(&Wants::default());
    post_the_unknown(&rig);
    let error =
        rig.task(TaskType::TARGET_RESET, rig.device(0), None, TaskRoute::Queue).unwrap_err();
    assert_eq!(error, Error::Fault(1));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn somebody_elses_reset_is_noticed_and_completes_everything() {
    let mut machine = Machine::new();
    machine.add_throttled(0, MIB, 1);
    let mut rig = QemuRig::new(machine.start());
    rig.clear_attentions();
    rig.actions.clear();
    let data = rig.data(4 * 512);
    let cookies: Vec<_> = (0..4)
        .map(|block| {
            let cdb = Cdb::read(block, 1);
            let segments = [data.segment(block as usize * 512, 512)];
            rig.submit(rig.device(0), &command(&cdb, Direction::Read, &segments))
        })
        .collect();
    rig.bus.registers().write32(0, 0x40 << 24);
    rig.watch();
    assert_eq!(rig.actions, [Action::ResetNeeded(ResetReason::NotOperational)]);
    rig.reset();
    for cookie in cookies {
        assert_eq!(rig.take(cookie).failure(), Failure::ControllerReset);
    }
    rig.settle_reset();
    rig.clear_attentions();
}

#[test]
fn a_controller_that_is_gone_completes_everything_and_is_left_alone() {
    let mut machine = Machine::new();
    machine.add(0, Backend::Slow { bytes: MIB, latency: Duration::from_secs(5) });
    machine.add_disk(1, MIB);
    let mut rig = QemuRig::new(machine.start());
    rig.clear_attentions();
    rig.actions.clear();
    let data = rig.data(10 * 512);
    let cookies: Vec<_> = (0..10)
        .map(|block| {
            let cdb = Cdb::read(block, 1);
            let segments = [data.segment(block as usize * 512, 512)];
            rig.submit(rig.device(0), &command(&cdb, Direction::Read, &segments))
        })
        .collect();
    rig.bus.kill();
    let start = Instant::now();
    rig.bus.reset_accesses();
    assert_eq!(rig.poll(), 0, "all ones is an empty queue");
    rig.watch();
    assert_eq!(rig.bus.accesses(), (2, 0));
    for cookie in cookies {
        assert_eq!(rig.take(cookie).failure(), Failure::ControllerGone);
    }
    let lost = (0..2).map(|id| Action::TargetGone(TargetId(id)));
    let told: Vec<_> = std::iter::once(Action::ControllerGone).chain(lost).collect();
    assert_eq!(rig.actions, told);
    rig.bus.reset_accesses();
    let tur = Cdb::test_unit_ready();
    let refused =
        rig.try_submit(Device::at_bus_and_target(0, 1), &command(&tur, Direction::None, &[]));
    assert_eq!(refused, Err(SubmitError::Gone));
    rig.tick(100_000);
    rig.watch();
    let page = PageRequest::new(PageId::plain(PageType::MANUFACTURING, 0), 0);
    assert!(rig.page(page).is_err());
    let request = TaskRequest {
        kind: TaskType::TARGET_RESET,
        device: Device::at_bus_and_target(0, 1),
        lun: Lun::default(),
        smid: 0,
    };
    assert!(
        rig.controller.request_task_management(&request, TaskRoute::Doorbell, &mut Sleep).is_err()
    );
    println!("register accesses after the end was known: {:?}", rig.bus.accesses());
    assert_eq!(rig.bus.accesses(), (0, 0));
    let (_, result) = rig.controller.into_reset(&mut Sleep, |_| panic!("nothing is left"));
    assert_eq!(result, Ok(()));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_controller_that_goes_while_it_is_waited_for_ends_the_wait() {
    let mut machine = Machine::new();
    machine.add(0, Backend::Slow { bytes: MIB, latency: Duration::from_secs(5) });
    let mut rig = QemuRig::new(machine.start());
    rig.clear_attentions();
    let data = rig.data(512);
    let cdb = Cdb::read(0, 1);
    let cookie =
        rig.submit(rig.device(0), &command(&cdb, Direction::Read, &[data.segment(0, 512)]));
    let start = Instant::now();
    let device = rig.device(0);
    let smid = rig.controller.find_command(cookie).unwrap();
    let request = TaskRequest { kind: TaskType::ABORT_TASK, device, lun: Lun::default(), smid };
    let (bus, controller) = (&rig.bus, &mut rig.controller);
    let mut ended = Vec::new();
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            bus.kill();
        });
        controller.task_management(&mut Sleep, &request, TaskRoute::Queue, |completion| {
            ended.push((completion.cookie, completion.outcome));
        })
    });
    assert_eq!(result, Err(Error::Gone));
    assert_eq!(ended, [(cookie, Outcome::Failed(Failure::ControllerGone))]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}
