//! Bring-up on QEMU's controller, from every state that it can be left in.

mod common;

use common::qemu::Machine;
use common::{Rig, Sleep, command, ready, reset, tables};
use fusion_mpt::bringup::Reset;
use fusion_mpt::controller::Action;
use fusion_mpt::error::Error;
use fusion_mpt::generation::Mpi1;
use fusion_mpt::generation::chips::Chip;
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::Failure;
use fusion_mpt::platform::Registers;
use fusion_mpt::recovery::ResetKind;
use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Direction;
use fusion_mpt::targets::{TargetId, TargetRecord};
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::qtest::Qtest;

const DOORBELL: u16 = 0x00;
const REQUEST_QUEUE: u16 = 0x40;
const STATE_READY: u32 = 1;
const STATE_OPERATIONAL: u32 = 2;
const STATE_FAULT: u32 = 4;

fn state(bus: &Qtest) -> u32 {
    bus.registers().read32(DOORBELL) >> 28
}

/// Reads a block of the last target, so that the driver that was brought up is seen to work.
fn assert_works(rig: &mut Rig<Qtest>) {
    rig.clear_attentions();
    let data = rig.data(512);
    let last = rig.controller.targets().last().unwrap().id.0;
    rig.run_in(rig.device(last), &Cdb::read_10(0, 1), &data, 512).assert_good(512);
}

#[test]
fn every_disk_is_found_and_appears_once() {
    let machine = Machine::with_disks(8, 1 << 20);
    let mut rig = Rig::<_, Mpi1>::new(machine.start());
    let found: Vec<_> = rig.controller.targets().collect();
    assert_eq!(found.len(), 8);
    for (place, target) in found.iter().enumerate() {
        assert!(target.present);
        assert_eq!(target.id, TargetId(place as u16));
        assert_eq!(target.page.address, place as u16, "bus 0, target id");
        assert_eq!(target.page.handle, place as u16 + 9, "QEMU numbers 8 phys first");
        assert_eq!(target.page.sas_address, 0x5000_c500_0000_0100 + place as u64);
        assert!(!target.page.is_sata());
        assert_eq!(target.page.access_status, 0);
    }
    let appeared: Vec<_> = (0..8).map(|id| Action::TargetAppeared(TargetId(id))).collect();
    assert_eq!(rig.actions, appeared);
    assert_eq!(rig.controller.counters().lies(), 0);
    assert_works(&mut rig);
}

#[test]
fn a_controller_without_disks_comes_up() {
    let rig = Rig::<_, Mpi1>::new(Machine::new().start());
    assert_eq!(rig.controller.targets().count(), 0);
    assert_eq!(rig.actions, []);
}

#[test]
fn a_gap_between_the_disks_is_no_end_of_the_list() {
    let mut machine = Machine::new();
    for id in [1, 4, 7] {
        machine.add_disk(id, 1 << 20);
    }
    let rig = Rig::<_, Mpi1>::new(machine.start());
    let addresses: Vec<_> = rig.controller.targets().map(|target| target.page.address).collect();
    assert_eq!(addresses, [1, 4, 7]);
}

#[test]
fn facts_and_port_facts_are_what_qemu_says() {
    let bus = Machine::with_disks(1, 1 << 20).start();
    let ready = ready::<_, Mpi1>(&bus);
    assert_eq!(ready.reset_kind(), ResetKind::None);
    let facts = ready.facts();
    assert_eq!(facts.message_version, 0x0105);
    assert_eq!(facts.firmware_version.to_string(), "01.50.146.00");
    assert_eq!(facts.product_id & 0xf000, 0x2000, "SAS");
    assert_eq!(facts.product_id & 0x0f00, 0x0100, "initiator");
    assert_eq!(facts.capabilities, 0);
    assert_eq!((facts.credits, facts.high_priority_credits), (128, 0));
    assert_eq!((facts.request_frame_bytes, facts.chain_bytes), (512, 512));
    assert_eq!(facts.max_chain_depth, 0x22);
    assert_eq!(facts.reply_queue_depth, 128);
    assert_eq!((facts.ports, facts.max_devices, facts.queues), (8, 8, 1));
    assert!(!facts.event_replay && !facts.queue_array && !facts.atomic_descriptors);
    assert!(!facts.high_priority_queue);
    let port = ready.port_facts();
    assert_eq!(port.port_type.0, 0x30, "SAS");
    assert_eq!(port.max_posted_buffers, 0);
}

#[test]
fn an_operational_controller_of_an_earlier_driver_is_reset_mildly() {
    let machine = Machine::with_disks(2, 1 << 20);
    let bus = machine.start();
    {
        let ready = ready::<_, Mpi1>(&bus);
        let plan = ready.plan(&Wants::default()).unwrap();
        let region = bus.allocate(plan.bytes, plan.alignment).unwrap();
        // Gone without a word, its memory with it.
        drop(ready.start(&plan, region, tables(&plan, 4), 0, &mut Sleep).unwrap());
    }
    assert_eq!(state(&bus), STATE_OPERATIONAL);
    let ready = ready(&bus);
    assert_eq!(ready.reset_kind(), ResetKind::MessageUnit);
    assert_eq!(state(&bus), STATE_READY);
    assert_works(&mut Rig::start(bus, ready, &Wants::default(), None));
}

#[test]
fn a_fault_is_cured_by_a_diagnostic_reset() {
    let bus = Machine::with_disks(1, 1 << 20).start();
    // A request before IOC init: FAULT 8.
    bus.registers().write32(REQUEST_QUEUE, 1 << 20);
    while state(&bus) != STATE_FAULT {
        std::thread::yield_now();
    }
    assert_eq!(bus.registers().read32(DOORBELL) & 0xffff, 8);
    let ready = ready(&bus);
    assert_eq!(ready.reset_kind(), ResetKind::Diagnostic);
    assert_works(&mut Rig::start(bus, ready, &Wants::default(), None));
}

#[test]
fn a_restart_on_demand_is_a_diagnostic_reset() {
    let bus = Machine::with_disks(1, 1 << 20).start();
    let ready = reset::<_, Mpi1>(&bus).restart(&mut Sleep).unwrap();
    assert_eq!(ready.reset_kind(), ResetKind::Diagnostic);
    assert_works(&mut Rig::start(bus, ready, &Wants::default(), None));
}

/// A handshake of 16 words, of which `words` were sent.
fn half_a_handshake(bus: &Qtest, words: u32) {
    let registers = bus.registers();
    registers.write32(DOORBELL, 0x42 << 24 | 16 << 16);
    for _ in 0..words {
        registers.write32(DOORBELL, 0);
    }
}

/// QEMU's doorbell keeps waiting for the rest of the message through both resets, which no chip
/// does (our own models show the way back): here the driver must give up, soon and in words.
#[test]
fn a_request_that_was_cut_off_is_given_up_in_words() {
    for words in [0, 15] {
        let bus = Machine::with_disks(1, 1 << 20).start();
        half_a_handshake(&bus, words);
        assert!(bus.registers().read32(DOORBELL) & 1 << 27 != 0, "the doorbell is in use");
        let error = reset::<_, Mpi1>(&bus).make_ready(&mut Sleep).unwrap_err();
        assert_eq!(error, Error::DoorbellBusy, "after {words} words");
        assert!(error.to_string().contains("handshake was cut off"));
    }
}

/// QEMU ends if it is reset while it hands out a reply, so the driver must read the rest of it.
#[test]
fn a_reply_that_was_not_read_to_its_end_is_read_to_its_end() {
    for halves in [0, 1, 2, 39, 40] {
        let bus = Machine::with_disks(1, 1 << 20).start();
        let registers = bus.registers();
        // IOC facts, 3 words, of whose reply of 40 half-words only some are taken.
        registers.write32(DOORBELL, 0x42 << 24 | 3 << 16);
        for word in [0x0300_0000, 0, 0] {
            registers.write32(DOORBELL, word);
        }
        for _ in 0..halves {
            registers.read32(DOORBELL);
        }
        let ready = reset::<_, Mpi1>(&bus)
            .make_ready(&mut Sleep)
            .unwrap_or_else(|error| panic!("after {halves} half-words: {error}"));
        assert_eq!(ready.reset_kind(), ResetKind::None, "nothing else was amiss");
        assert_works(&mut Rig::start(bus, ready, &Wants::default(), None));
    }
}

#[test]
fn the_plan_takes_no_more_than_the_credits() {
    let bus = Machine::with_disks(1, 1 << 20).start();
    let ready = ready::<_, Mpi1>(&bus);
    let wants = Wants { commands: 10_000, ..Wants::default() };
    let plan = ready.plan(&wants).unwrap();
    assert!(plan.slots <= 128, "{plan:?}");
    assert!(plan.reply_frames <= 128, "{plan:?}");
    assert!(plan.commands >= 100, "{plan:?}");
    assert_works(&mut Rig::start(bus, ready, &wants, None));
}

#[test]
fn memory_and_tables_that_miss_the_plan_are_refused_in_words() {
    let bus = Machine::with_disks(1, 1 << 20).start();
    let plan = ready::<_, Mpi1>(&bus).plan(&Wants::default()).unwrap();
    let start = |bytes, slots: usize, replies: usize| {
        let region = bus.allocate(bytes, plan.alignment).unwrap();
        let mut tables = tables(&plan, 4);
        tables.slots = &mut tables.slots[..slots];
        tables.replies = &tables.replies[..replies];
        let error = ready::<_, Mpi1>(&bus).start(&plan, region, tables, 0, &mut Sleep).unwrap_err();
        assert_eq!(state(&bus), STATE_READY, "the controller was not touched");
        error
    };
    let (slots, replies) = (usize::from(plan.slots), usize::from(plan.reply_frames));
    assert!(matches!(start(plan.bytes / 2, slots, replies), Error::BadMemory(_)));
    let error = start(plan.bytes, slots - 1, replies);
    assert!(matches!(error, Error::TableTooSmall { table: "slot", .. }), "{error}");
    let error = start(plan.bytes, slots, replies - 1);
    assert!(matches!(error, Error::TableTooSmall { table: "reply frame", .. }), "{error}");
}

#[test]
fn targets_keep_their_ids_from_one_start_to_the_next() {
    let mut machine = Machine::new();
    for id in [2, 5] {
        machine.add_disk(id, 1 << 20);
    }
    let bus = machine.start();
    let mut records = [TargetRecord::default(); 4];
    let mut addresses = Vec::new();
    let mut actions = Vec::new();
    for _ in 0..2 {
        let ready = ready::<_, Mpi1>(&bus);
        let plan = ready.plan(&Wants::default()).unwrap();
        let region = bus.allocate(plan.bytes, plan.alignment).unwrap();
        let mut tables = tables(&plan, 0);
        tables.targets = &mut records;
        let mut controller = ready.start(&plan, region, tables, 0, &mut Sleep).unwrap();
        actions.push(std::iter::from_fn(|| controller.next_action()).collect::<Vec<_>>());
        addresses.push(controller.targets().map(|target| target.page.address).collect::<Vec<_>>());
        let (_, result) = controller.into_reset(&mut Sleep, |_| ());
        result.unwrap();
    }
    assert_eq!(addresses, [[2, 5], [2, 5]]);
    assert_eq!(actions[0].len(), 2);
    println!("second start: {:?}", actions[1]);
}

#[test]
fn a_reset_completes_everything_outstanding_once_and_the_driver_starts_again() {
    let mut machine = Machine::new();
    machine.add_throttled(0, 1 << 20, 1);
    machine.add_disk(1, 1 << 20);
    let mut rig = Rig::<_, Mpi1>::new(machine.start());
    rig.clear_attentions();
    let data = rig.data(20 * 512);
    let cookies: Vec<_> = (0..20)
        .map(|block| {
            let cdb = Cdb::read_10(block, 1);
            let segments = [data.segment(block as usize * 512, 512)];
            rig.submit(rig.device(0), &command(&cdb, Direction::Read, &segments))
        })
        .collect();
    assert_eq!(rig.controller.outstanding(), 20);
    let mut rig = rig.restart(&Wants::default());
    for cookie in cookies {
        // One may have been let through already, but nobody polled.
        assert_eq!(rig.take(cookie).failure(), Failure::ControllerReset);
    }
    assert_eq!(rig.controller.outstanding(), 0);
    assert_works(&mut rig);
    assert_eq!(rig.controller.counters().lies(), 0);
}

#[test]
fn a_killed_machine_is_gone_to_bring_up() {
    let bus = Machine::with_disks(1, 1 << 20).start();
    bus.kill();
    let (vendor, device) = bus.pci_id();
    let reset = Reset::<Mpi1, _>::new(bus.registers(), Chip::find(vendor, device).unwrap());
    assert_eq!(reset.make_ready(&mut Sleep).unwrap_err(), Error::Gone);
}
