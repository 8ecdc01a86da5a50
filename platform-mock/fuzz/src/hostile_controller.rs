//! The whole driver against a controller that lies whenever the input says so.
//!
//! What is checked: every accepted command completes exactly once, on its own queue, with a sane
//! sense length and transfer count; a card that is gone is left alone; no slot leaks; every call ends.

mod asked;
mod device;

use fusion_mpt::bringup::{Reset, Tables};
use fusion_mpt::controller::{Controller, Health, TaskRoute};
use fusion_mpt::error::{Error, SubmitError};
use fusion_mpt::generation::chips::Chip as CoreChip;
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::io_queue::{Completion, Queue};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::Failure;
use fusion_mpt::recovery::{InFlight, TaskRequest, TaskType};
use fusion_mpt::request::{Command, Device, TaskAttribute};
use fusion_mpt::scsi::{Cdb, Lun};
use fusion_mpt::sgl::Direction;
use fusion_mpt::shared::{ReplyRecord, SharedRecord};
use fusion_mpt::slots::SlotRecord;
use fusion_mpt::targets::{TargetId, TargetRecord};
use fusion_mpt::trace::Trace;
use fusion_mpt_mock::model::{Chip, Model, disks};

use asked::{Asked, page, policy};
use device::next_operation;

use crate::card::{Card, Wait, Window};
use crate::contract::Ledger;
use crate::input::Input;
use crate::memory::Region;

/// Bytes of each disk.
const DISK: u64 = 1 << 20;
/// Bytes of the commands' data.
const DATA: usize = 1 << 16;
/// Facts that make a plan larger than this are true of no controller that is worth fuzzing.
const MOST_BYTES: usize = 4 << 20;
/// How often the driver is started.
const STARTS: usize = 4;
/// What happens between two starts, at most.
const MOST_OPERATIONS: usize = 400;

/// Does what `data` says.
pub fn run(data: &[u8]) {
    let input = Input::new(data);
    let chip = Chip::ALL[usize::from(input.u8()) % Chip::ALL.len()];
    if chip.is_mpi1() { drive::<Mpi1>(chip, &input) } else { drive::<Mpi2>(chip, &input) }
}

fn drive<G: Generation>(chip: Chip, input: &Input<'_>) {
    let core_chip = CoreChip::find(0x1000, chip.device_id).expect("the core knows these chips");
    let (shape, patience) = (input.u8(), input.u8());
    let mut model = Model::new(chip);
    for (slot, disk) in disks(u16::from(shape & 3), DISK).into_iter().enumerate() {
        // Every chip has that many slots, and they are empty.
        let _ = model.add_disk(slot as u8, disk);
    }
    if shape & 4 != 0 {
        // Its phys are free.
        let _ = model.attach_expander(4);
    }
    let wants = Wants {
        commands: u16::from(input.u8() & 63) + 1,
        tags: u16::from(input.u8() & 31),
        queues: (input.u8() & 3) + 1,
        segments: u16::from(input.u8()),
        sense_bytes: input.u8(),
        addresses_below_4gib: shape & 8 != 0,
    };
    let card = Card::new(model, input, 500 << (patience & 7), shape & 16 != 0);
    let data = card.memory.allocate(DATA);
    let mut targets = vec![TargetRecord::default(); usize::from(patience >> 4)];
    let mut kept: Option<Reset<G, _>> = None;
    let mut wait = Wait(&card);
    for _ in 0..STARTS {
        let Some(how) = next_operation(&card, input) else { return };
        card.new_call(false);
        // A platform that could not start, or not stop, takes a new hold of the card.
        let reset = kept.take().unwrap_or_else(|| {
            card.new_hold();
            Reset::new(Window(&card), core_chip)
        });
        let ready = match how & 1 {
            0 => reset.make_ready(&mut wait),
            _ => reset.restart(&mut wait),
        };
        let Ok(ready) = ready else { continue };
        let Ok(plan) = ready.plan(&wants) else { continue };
        if plan.bytes > MOST_BYTES {
            return;
        }
        let Some(how) = next_operation(&card, input) else { return };
        let region = card.memory.allocate(plan.bytes);
        let mut slots = vec![SlotRecord::NEW; usize::from(plan.slots)];
        let replies: Vec<_> = (0..plan.reply_frames).map(|_| ReplyRecord::new()).collect();
        let shared = SharedRecord::new();
        let mut trace = Trace::new();
        let tables =
            Tables { slots: &mut slots, replies: &replies, shared: &shared, targets: &mut targets };
        card.new_call(false);
        let now = card.now_ms();
        let started = match how & 1 {
            0 => ready.start(&plan, region.clone(), tables, now, &mut wait),
            _ => ready.begin(&plan, region.clone(), tables, now, &mut wait),
        };
        // What failed to start may still write: the region stays where it is.
        let Ok(mut controller) = started else { continue };
        if how & 2 != 0 {
            controller.set_trace(&mut trace);
        }
        let driver = Driver {
            card: &card,
            input,
            controller,
            ledger: Ledger::default(),
            queues: Vec::new(),
            data: data.clone(),
        };
        if let Some(next) = driver.run() {
            card.memory.revoke(&region);
            kept = Some(next);
        }
    }
}

/// A driver in operation.
struct Driver<'c, 't, G: Generation> {
    card: &'c Card<'c>,
    input: &'c Input<'c>,
    controller: Controller<'t, G, Window<'c>, Region>,
    ledger: Ledger,
    queues: Vec<(Queue<'t, G, Window<'c>, Region>, Ledger)>,
    data: Region,
}

impl<'c, G: Generation> Driver<'c, '_, G> {
    /// Operates the driver as long as the input says, and takes it apart. The way to start again,
    /// if the controller was reset.
    fn run(mut self) -> Option<Reset<G, Window<'c>>> {
        let mut orderly = false;
        for _ in 0..MOST_OPERATIONS {
            let Some(operation) = next_operation(self.card, self.input) else { break };
            self.card.new_call(operation % 32 == 21);
            match operation % 32 {
                23 => break,
                27 => {
                    orderly = true;
                    break;
                }
                operation => self.operate(operation),
            }
            assert_eq!(usize::from(self.controller.outstanding()), self.ledger.len());
            if matches!(self.controller.health(), Health::Gone | Health::Offline) {
                self.ledger.assert_empty("its end");
            }
            for (queue, ledger) in &self.queues {
                assert_eq!(usize::from(queue.outstanding()), ledger.len());
            }
        }
        self.card.new_call(false);
        let Self { card, controller, mut ledger, queues, .. } = self;
        let complete = |completion: Completion<'_>| ledger.complete(&completion);
        let mut wait = Wait(card);
        let (parts, result) = if orderly {
            let (parts, _, result) = controller.stop(card.now_ms(), &mut wait, complete);
            (parts, result)
        } else {
            controller.into_reset(&mut wait, complete)
        };
        ledger.assert_empty("its end");
        for (mut queue, mut ledger) in queues {
            card.new_call(false);
            if orderly {
                queue.halt(Failure::ControllerReset, |completion| ledger.complete(&completion));
            } else {
                queue.poll(|completion| ledger.complete(&completion));
            }
            ledger.assert_empty("its controller's end");
        }
        result.is_ok().then_some(parts.reset)
    }

    /// Does one operation.
    fn operate(&mut self, operation: u8) {
        let Self { card, input, controller, ledger, .. } = self;
        let mut wait = Wait(card);
        let idle = ledger.len() == 0;
        let complete = |completion: Completion<'_>| ledger.complete(&completion);
        match operation {
            0..=5 => self.submit(),
            6..=8 => _ = controller.poll(complete),
            9 => {
                card.pass(u32::from(input.u8()) * 100);
                controller.tick(card.now_ms(), complete);
            }
            10 => {
                let limit = u16::from(input.u8());
                (0..limit).find(|_| controller.next_action().is_none());
            }
            11 => controller.watch(complete),
            // Meant for bring-up: it has nobody to hand completions to.
            12 if idle => _ = controller.wait_until_settled(&mut wait, |_| panic!("idle")),
            12 => {}
            13 => {
                let (request, route) = self.task();
                _ = self.controller.request_task_management(&request, route, &mut wait);
            }
            14 => _ = controller.take_task_reply(),
            15 => {
                let (request, route) = self.task();
                let Self { controller, ledger, .. } = self;
                _ = controller.task_management(&mut wait, &request, route, |completion| {
                    ledger.complete(&completion);
                });
            }
            16 => _ = controller.request_page(page(input)),
            17 => {
                let mut page = vec![0; usize::from(input.u8()) * 4];
                let taken = controller.take_page(&mut page);
                assert!(!matches!(taken, Some(Ok(bytes)) if bytes > page.len()));
            }
            18 => {
                let request = page(input);
                let mut page = vec![0; usize::from(input.u8()) * 4];
                let read = controller.read_page(&mut wait, request, &mut page, complete);
                assert!(read.is_ok_and(|bytes| bytes <= page.len()) || read.is_err());
            }
            19 => controller.scan(),
            20 => {
                if let Some(queue) = controller.take_queue() {
                    self.queues.push((queue, Ledger::default()));
                }
            }
            21 => self.submit_to_queue(),
            22 => {
                let pick = usize::from(input.u8());
                let count = self.queues.len().max(1);
                if let Some((queue, ledger)) = self.queues.get_mut(pick % count) {
                    queue.poll(|completion| ledger.complete(&completion));
                }
            }
            24 => {
                let pick = usize::from(input.u8());
                let count = self.queues.len().max(1);
                if let Some((queue, ledger)) = self.queues.get_mut(pick % count) {
                    queue.tick(card.now_ms(), |completion| ledger.complete(&completion));
                }
            }
            25 => {
                let done = controller.reset(card.now_ms(), &mut wait, complete);
                let fails = controller.policy().in_flight == InFlight::Fail;
                match done {
                    Err(Error::QueuesHeld) => {}
                    Ok(()) if !fails => {}
                    _ => ledger.assert_empty("a reset"),
                }
            }
            26 => controller.set_policy(policy(input)),
            28 => {
                // Minutes, and whoever has queues lives through them too.
                for _ in 0..input.u8() & 63 {
                    card.pass(1_000);
                    card.new_call(false);
                    controller.tick(card.now_ms(), |completion| ledger.complete(&completion));
                    for (queue, ledger) in &mut self.queues {
                        queue.tick(card.now_ms(), |completion| ledger.complete(&completion));
                    }
                }
            }
            // Its owner goes, and with it those whom its commands mattered to.
            29 => drop(self.queues.pop()),
            30 => self.fill(),
            _ => _ = controller.poll(complete),
        }
    }

    fn submit(&mut self) {
        let asked = Asked::take(self.input, &self.data);
        let Self { controller, ledger, input, .. } = self;
        let command = asked.command(ledger.next());
        let pick = input.u8();
        let accepted = match pick {
            0..=127 => controller.submit(TargetId(pick.into()), &command),
            _ => controller.submit_to_device(Device::from_handle(input.u16()), &command),
        };
        if accepted.is_ok() {
            ledger.accept(command.data_length);
        }
    }

    /// Submits until there is no room, which may be only when every slot is taken.
    fn fill(&mut self) {
        let Self { controller, ledger, input, .. } = self;
        let device = Device::from_handle(input.u8().into());
        let cdb = Cdb::test_unit_ready();
        for _ in 0..=controller.depth() {
            let command = Command {
                lun: Lun::peripheral(0),
                cdb: &cdb,
                direction: Direction::None,
                data_length: 0,
                segments: &[],
                attribute: TaskAttribute::Simple,
                tag: None,
                cookie: ledger.next(),
                timeout_ms: 0,
            };
            match controller.submit_to_device(device, &command) {
                Ok(_) => ledger.accept(0),
                Err(SubmitError::Full) => {
                    let pool = controller.depth() - controller.plan().tags;
                    assert!(controller.outstanding() >= pool, "a slot has leaked");
                    return;
                }
                Err(_) => return,
            }
        }
        panic!("more commands were accepted than there are slots");
    }

    fn submit_to_queue(&mut self) {
        let asked = Asked::take(self.input, &self.data);
        let Self { controller, queues, input, .. } = self;
        let (pick, id) = (usize::from(input.u8()), input.u8());
        let count = queues.len().max(1);
        let Some((queue, ledger)) = queues.get_mut(pick % count) else { return };
        let device = controller.device(TargetId(id.into()));
        let device = device.unwrap_or(Device::from_handle(id.into()));
        let command = asked.command(ledger.next());
        if queue.submit(device, &command).is_ok() {
            ledger.accept(command.data_length);
        }
    }

    fn task(&self) -> (TaskRequest, TaskRoute) {
        let input = self.input;
        let (how, id, pick) = (input.u8(), input.u8(), input.u8());
        let route = match how >> 6 {
            0 | 1 => TaskRoute::Preferred,
            2 => TaskRoute::Queue,
            _ => TaskRoute::Doorbell,
        };
        let device = self.controller.device(TargetId(id.into()));
        let cookie = self.ledger.pick(pick);
        let smid = cookie.and_then(|cookie| self.controller.find_command(cookie));
        let request = TaskRequest {
            kind: TaskType(how & 0x0f),
            device: device.unwrap_or(Device::from_handle(id.into())),
            lun: Lun::peripheral(0),
            smid: smid.unwrap_or(pick.into()),
        };
        (request, route)
    }
}
