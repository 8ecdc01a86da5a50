//! The real driver at work, written down as an input of `arbitrary_driver`.

use std::cell::RefCell;
use std::ops::Range;
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::Duration;

use embedded_hal::delay::DelayNs;
use fusion_mpt::bringup::{Reset, Tables};
use fusion_mpt::controller::{Controller, TaskRoute};
use fusion_mpt::generation::Generation;
use fusion_mpt::generation::chips::Chip as CoreChip;
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::pages::PageRequest;
use fusion_mpt::platform::{BusAddr, DmaRegion, Registers};
use fusion_mpt::recovery::{TaskRequest, TaskType};
use fusion_mpt::request::{Command, TaskAttribute};
use fusion_mpt::scsi::{Cdb, Lun};
use fusion_mpt::sgl::{Direction, Segment};
use fusion_mpt::shared::{ReplyRecord, SharedRecord};
use fusion_mpt::slots::SlotRecord;
use fusion_mpt::targets::{TargetId, TargetRecord};
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::in_process::{MockBus, MockDma};
use fusion_mpt_mock::model::Chip;

use crate::arbitrary_driver::{MEMORY, bus, operation};

/// Where the commands' data lies in the driver's memory, behind everything of its own.
const DATA: u64 = 0x3_0000;

/// What was done so far.
struct Tape {
    bus: MockBus,
    bytes: Vec<u8>,
    /// The driver's memory as the tape leaves it.
    shadow: Vec<u8>,
    /// The register that was read last, if only time has passed since, and how much, in µs.
    polled: Option<u16>,
    waited_us: u32,
}

impl Tape {
    fn flush(&mut self) {
        if self.waited_us > 0 {
            self.bytes.push(operation::WAIT);
            self.bytes.extend(self.waited_us.to_le_bytes());
            self.waited_us = 0;
        }
    }

    fn access(&mut self, kind: u8, offset: u16, value: &[u8]) {
        self.flush();
        self.polled = None;
        self.bytes.extend([kind, (offset / 4) as u8]);
        self.bytes.extend(value);
    }

    fn work(&mut self) {
        self.flush();
        self.polled = None;
        self.bytes.extend([operation::STEP, 200]);
        self.bus.step(200);
    }
}

/// The driver's side: everything passes through it and is written down.
#[derive(Clone)]
struct Recorder(Rc<RefCell<Tape>>, MockDma);

impl Registers for Recorder {
    fn read32(&self, offset: u16) -> u32 {
        let mut tape = self.0.borrow_mut();
        // A register that is polled is read once on tape, when the wait is over.
        if tape.polled != Some(offset) {
            tape.access(operation::READ, offset, &[]);
            tape.polled = Some(offset);
        }
        tape.bus.registers().read32(offset)
    }

    fn write32(&self, offset: u16, value: u32) {
        let mut tape = self.0.borrow_mut();
        tape.access(operation::WRITE, offset, &value.to_le_bytes());
        tape.bus.registers().write32(offset, value);
    }

    fn write64(&self, offset: u16, value: u64) {
        let mut tape = self.0.borrow_mut();
        tape.access(operation::WRITE_WIDE, offset, &value.to_le_bytes());
        tape.bus.registers().write64(offset, value);
    }
}

impl DelayNs for Recorder {
    fn delay_ns(&mut self, ns: u32) {
        let us = ns.div_ceil(1_000);
        let mut tape = self.0.borrow_mut();
        tape.waited_us += us;
        tape.bus.advance(Duration::from_micros(us.into()));
    }
}

// SAFETY: forwards to a region whose promises hold as long as the clone of it here.
unsafe impl DmaRegion for Recorder {
    fn cpu(&self) -> NonNull<[u8]> {
        self.1.cpu()
    }

    fn bus(&self) -> BusAddr {
        self.1.bus()
    }

    fn to_device(&self, range: Range<usize>) {
        self.1.to_device(range.clone());
        let mut tape = self.0.borrow_mut();
        let start = range.start & !3;
        let mut now = vec![0; range.end.min(MEMORY).next_multiple_of(4) - start];
        self.1.read(start, &mut now);
        for (index, bytes) in now.chunks(128).enumerate() {
            let at = start + index * 128;
            if tape.shadow[at..at + bytes.len()] != *bytes {
                tape.shadow[at..at + bytes.len()].copy_from_slice(bytes);
                tape.bytes.push(operation::STORE);
                tape.bytes.extend(((at / 4) as u16).to_le_bytes());
                tape.bytes.push(bytes.len() as u8);
                tape.bytes.extend(bytes);
            }
        }
    }

    fn to_cpu(&self, range: Range<usize>) {
        self.1.to_cpu(range);
    }
}

/// What the driver does on a tape, after its start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Start,
    Commands,
    Management,
    HotPlug,
}

/// One tape for each thing that the driver does.
pub(super) fn tapes<G: Generation>(chip: Chip, shape: u8) -> Vec<Vec<u8>> {
    [Part::Start, Part::Commands, Part::Management, Part::HotPlug]
        .into_iter()
        .map(|part| tape::<G>(chip, shape, part))
        .collect()
}

fn tape<G: Generation>(chip: Chip, shape: u8, part: Part) -> Vec<u8> {
    let (bus, dma) = bus(chip, shape);
    let core_chip = CoreChip::find(0x1000, chip.device_id).expect("the core knows these chips");
    let tape = Tape { bus, bytes: Vec::new(), shadow: vec![0; MEMORY], polled: None, waited_us: 0 };
    let recorder = Recorder(Rc::new(RefCell::new(tape)), dma);
    let mut delay = recorder.clone();
    let wants = Wants { commands: 16, tags: 2, queues: 1, segments: 20, ..Wants::default() };
    let ready = Reset::<G, _>::new(recorder.clone(), core_chip)
        .make_ready(&mut delay)
        .expect("an honest controller");
    let plan = ready.plan(&wants).expect("an honest controller");
    assert!(plan.bytes as u64 <= DATA, "{plan:?}");
    let mut slots = vec![SlotRecord::NEW; usize::from(plan.slots)];
    let replies: Vec<_> = (0..plan.reply_frames).map(|_| ReplyRecord::new()).collect();
    let shared = SharedRecord::new();
    let mut targets = vec![TargetRecord::default(); 16];
    let tables =
        Tables { slots: &mut slots, replies: &replies, shared: &shared, targets: &mut targets };
    let mut controller =
        ready.start(&plan, recorder.clone(), tables, 0, &mut delay).expect("an honest controller");
    match part {
        Part::Start => {}
        Part::Commands => commands(&mut controller, &recorder),
        Part::Management => management(&mut controller, &mut delay),
        Part::HotPlug => hot_plug(&mut controller, &recorder),
    }
    // What it is taken apart with does not matter here.
    let _ = controller.into_reset(&mut delay, |_| {});
    std::mem::take(&mut recorder.0.borrow_mut().bytes)
}

fn settle<G: Generation>(controller: &mut Controller<'_, G, Recorder, Recorder>, at: &Recorder) {
    for _ in 0..8 {
        at.0.borrow_mut().work();
        while controller.poll(|_| {}) > 0 {}
    }
}

fn commands<G: Generation>(controller: &mut Controller<'_, G, Recorder, Recorder>, at: &Recorder) {
    let data = BusAddr(DmaRegion::bus(at).0 + DATA);
    let cdbs = [
        (Cdb::test_unit_ready(), Direction::None, 0),
        (Cdb::inquiry(96), Direction::Read, 96),
        (Cdb::report_luns(64), Direction::Read, 64),
        (Cdb::read_capacity_16(32), Direction::Read, 32),
        (Cdb::mode_sense_6(0x3f, 192), Direction::Read, 192),
        (Cdb::write(16, 8), Direction::Write, 4096),
        (Cdb::read(16, 8), Direction::Read, 4096),
        (Cdb::synchronize_cache_10(0, 0), Direction::None, 0),
        (Cdb::read(u64::MAX - 9, 1), Direction::Read, 512),
    ];
    for (number, (cdb, direction, length)) in cdbs.iter().enumerate() {
        let whole = [Segment { address: data, length: *length }];
        // Every other one in pieces of 256 bytes.
        let pieces: Vec<Segment> = (0..length / 256)
            .map(|index| Segment { address: data.offset(u64::from(index) * 512), length: 256 })
            .collect();
        let in_pieces = number % 2 == 0 && length % 256 == 0;
        let segments = if in_pieces { &pieces[..] } else { &whole[..] };
        for target in 0..3 {
            let command = Command {
                lun: Lun::peripheral(0),
                cdb,
                direction: *direction,
                data_length: *length,
                segments,
                attribute: TaskAttribute::Simple,
                tag: None,
                cookie: 0,
                timeout_ms: 0,
            };
            // Not every shape has as many disks.
            let _ = controller.submit(TargetId(target), &command);
        }
        settle(controller, at);
    }
}

fn management<G: Generation>(
    controller: &mut Controller<'_, G, Recorder, Recorder>,
    delay: &mut Recorder,
) {
    let device = controller.device(TargetId(0)).expect("a disk");
    for kind in [TaskType::ABORT_TASK, TaskType::LOGICAL_UNIT_RESET, TaskType::TARGET_RESET] {
        let request = TaskRequest { kind, device, lun: Lun::peripheral(0), smid: 6 };
        for route in [TaskRoute::Preferred, TaskRoute::Queue, TaskRoute::Doorbell] {
            // MPI2 has no such route.
            let _ = controller.task_management(delay, &request, route, |_| {});
        }
    }
    let mut page = [0; 4096];
    for kind in 0..16 {
        for request in pages(kind) {
            // There may be no such page.
            let _ = controller.read_page(delay, request, &mut page, |_| {});
        }
    }
}

fn pages(kind: u8) -> [PageRequest; 2] {
    use fusion_mpt::wire::config::{ExtPageType, PageId, PageType};
    let plain = PageId::plain(PageType(kind), kind & 3);
    let extended = PageId::extended(ExtPageType(0x10 + kind), 0);
    [PageRequest::new(plain, 0), PageRequest::new(extended, 0x0fff_ffff)]
}

fn hot_plug<G: Generation>(controller: &mut Controller<'_, G, Recorder, Recorder>, at: &Recorder) {
    // As `arbitrary_driver` turns them: a disk pulled and one plugged, a RAID volume, a bay's
    // member that fails, an event storm, a fault.
    let knobs: [&[u8]; 6] =
        [&[13, 0], &[14, 0, 7], &[18, 1, 0, 2], &[19, 0, 2], &[21, 9, 1, 1], &[4, 1, 2]];
    for knob in knobs {
        let mut tape = at.0.borrow_mut();
        tape.flush();
        tape.polled = None;
        tape.bytes.push(operation::OTHERS + knob[0]);
        tape.bytes.extend(&knob[1..]);
        let input = crate::input::Input::new(&knob[1..]);
        tape.bus.with_model(|model| crate::arbitrary_driver::turn(model, &input, knob[0]));
        drop(tape);
        settle(controller, at);
    }
}

/// The messages in which a client of vfio-user does what is on a tape, registers in `region`. Its
/// memory is filled beforehand: the last word stands.
pub(super) fn as_messages(tape: &[u8], region: u8) -> Vec<u8> {
    use crate::vfio_user_messages::operation::{READ, STORE, WRITE};
    let input = crate::input::Input::new(tape);
    let mut messages = Vec::new();
    while !input.is_empty() {
        let kind = input.u8();
        match kind {
            operation::READ | operation::WRITE | operation::WRITE_WIDE => {
                let offset = u16::from(input.u8()) * 4;
                let (kind, length, data) = match kind {
                    operation::READ => (READ, 4, 0),
                    operation::WRITE => (WRITE, 4, 4),
                    _ => (WRITE, 8, 8),
                };
                messages.extend([kind, region]);
                messages.extend(offset.to_le_bytes());
                messages.push(length);
                messages.extend(input.bytes(data));
            }
            operation::STORE => {
                let (word, length) = (input.u16(), input.u8());
                messages.push(STORE);
                messages.extend(word.to_le_bytes());
                messages.push(length);
                messages.extend(input.bytes(length.into()));
            }
            operation::STEP => _ = input.count(),
            // Time passes by itself.
            operation::WAIT => _ = input.u32(),
            _ => break,
        }
    }
    messages
}
