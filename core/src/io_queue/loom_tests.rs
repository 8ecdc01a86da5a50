//! Every interleaving of a queue that is used in its own thread and a controller that is reset.

use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::vec::Vec;

use core::cell::Cell;

use loom::sync::Arc;
use loom::thread::{self, yield_now};

use super::Queue;
use crate::error::SubmitError;
use crate::facts::Facts;
use crate::generation::chips::Chip;
use crate::generation::sealed::Sealed;
use crate::generation::{Command, Device, Mpi2};
use crate::mem::Memory;
use crate::memory_plan::{MemoryPlan, Wants};
use crate::outcome::{Failure, Outcome};
use crate::platform::Registers;
use crate::regs::Bus;
use crate::request::TaskAttribute;
use crate::scsi::{Cdb, Lun};
use crate::sgl::Direction;
use crate::shared::{ReplyFrames, ReplyRecord, SharedRecord};
use crate::slots::SlotRecord;
use crate::sync::model::{Region, Unguarded, explore};
use crate::wire::ioc::Version;

const DISK: Device = Device { address: 9 };

/// What the controller and its queue share.
struct Rig {
    shared: SharedRecord,
    replies: [ReplyRecord; 0],
    /// Set whenever the controller lays out the rings; its number is the epoch.
    ring: Arc<Unguarded>,
    /// The same number as everybody knows it, whatever orders their memory: what is true.
    epoch: AtomicU32,
}

impl Rig {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            shared: SharedRecord::new(),
            replies: [],
            ring: Arc::new(Unguarded::default()),
            epoch: AtomicU32::new(0),
        })
    }

    /// What a controller does, as far as its queues can tell.
    fn reset(&self, hands_back: bool) {
        let standing = &self.shared.standing;
        standing.halt();
        while !standing.is_quiet() {
            yield_now();
        }
        let epoch = self.epoch.load(Ordering::SeqCst) + 1;
        self.ring.set(epoch);
        self.epoch.store(epoch, Ordering::SeqCst);
        standing.work(hands_back);
    }
}

/// Registers of which each access is one of the ring too; they note in which epoch it was.
struct Posts {
    ring: Arc<Unguarded>,
    epoch: Rc<Cell<u32>>,
}

impl Registers for Posts {
    fn read32(&self, _offset: u16) -> u32 {
        self.ring.get()
    }

    fn write32(&self, _offset: u16, _value: u32) {
        self.epoch.set(self.ring.get());
    }
}

fn facts() -> Facts {
    Facts {
        message_version: 0x0205,
        firmware_version: Version::from_word(0),
        product_id: 0,
        capabilities: 0,
        event_replay: true,
        credits: 64,
        high_priority_credits: 8,
        request_frame_bytes: 128,
        reply_frame_bytes: 128,
        chain_bytes: 128,
        max_chain_depth: 1,
        reply_queue_depth: 256,
        queues: 2,
        queue_array: false,
        atomic_descriptors: false,
        high_priority_queue: true,
        ports: 1,
        max_devices: 16,
    }
}

/// A queue's owner: submits and polls, and keeps account of what becomes of it.
struct Owner<'a> {
    rig: &'a Rig,
    queue: Queue<'a, Mpi2, Posts, Region>,
    posted_in: Rc<Cell<u32>>,
    /// Of each command that was accepted: the epoch in which the device was given it, and how often
    /// it has completed.
    commands: Vec<(u32, u32)>,
}

impl<'a> Owner<'a> {
    fn new(rig: &'a Rig, records: &'a mut [SlotRecord; 4]) -> Self {
        let chip = Chip::find(0x1000, 0x97).expect("a SAS3008");
        let facts = facts();
        let wants = Wants { commands: 8, queues: 2, segments: 1, ..Wants::default() };
        let plan = MemoryPlan::new(&facts, &wants, Mpi2::shape(&facts, chip)).expect("a plan");
        assert_eq!(usize::from(plan.commands_per_queue()), records.len());
        let memory = Memory::new(Region::new(plan.bytes, rig.ring.clone()));
        let port = Mpi2::port(&plan, &facts, chip, memory.bus(0), 1, 0);
        let posted_in = Rc::new(Cell::new(0));
        let bus = Bus::new(Posts { ring: rig.ring.clone(), epoch: posted_in.clone() });
        let replies = ReplyFrames::of(&rig.replies, &rig.shared);
        let mut queue = Queue::new(bus, memory, &plan, port, 1, records, replies);
        queue.enter();
        Self { rig, queue, posted_in, commands: Vec::new() }
    }

    /// Gives the controller a command; the epoch, if it was accepted.
    fn submit(&mut self) -> Option<u32> {
        let cdb = Cdb::test_unit_ready();
        let command = Command {
            lun: Lun::ZERO,
            cdb: &cdb,
            direction: Direction::None,
            data_length: 0,
            segments: &[],
            attribute: TaskAttribute::Simple,
            tag: None,
            cookie: self.commands.len() as u64,
            timeout_ms: 0,
        };
        match self.queue.submit(DISK, &command) {
            Ok(_) => {
                self.commands.push((self.posted_in.get(), 0));
                Some(self.posted_in.get())
            }
            Err(SubmitError::Held | SubmitError::Gone) => None,
            Err(other) => panic!("{other}"),
        }
    }

    fn poll(&mut self) {
        let Self { rig, queue, commands, .. } = self;
        queue.poll(|completion| {
            let number = completion.cookie as usize;
            let (given_in, completions) = commands.get_mut(number).expect("a command");
            *completions += 1;
            assert_eq!(*completions, 1, "command {number}");
            let epoch = rig.epoch.load(Ordering::SeqCst);
            assert!(*given_in < epoch, "the device still has command {number}");
            assert!(matches!(
                completion.outcome,
                Outcome::Failed(Failure::ControllerReset | Failure::HandedBack)
            ));
        });
    }
}

#[test]
fn loom_a_queue_may_end_at_any_time_of_two_resets() {
    explore(3, || {
        let rig = Rig::new();
        let thread = {
            let rig = rig.clone();
            thread::spawn(move || {
                let mut records = [SlotRecord::NEW; 4];
                let mut owner = Owner::new(&rig, &mut records);
                for _ in 0..3 {
                    owner.submit();
                    owner.poll();
                }
            })
        };
        rig.reset(false);
        rig.reset(true);
        thread.join().expect("the queue's owner");
        assert!(rig.shared.standing.is_quiet(), "it has left");
    });
}

#[test]
fn loom_what_two_resets_ended_completes_once_and_the_queue_works_again() {
    explore(3, || {
        let rig = Rig::new();
        let thread = {
            let rig = rig.clone();
            thread::spawn(move || {
                let mut records = [SlotRecord::NEW; 4];
                let mut owner = Owner::new(&rig, &mut records);
                while owner.submit() != Some(2) {
                    owner.poll();
                    yield_now();
                }
                owner.poll();
                owner.poll();
                let (last, earlier) = owner.commands.split_last().expect("one was accepted");
                assert_eq!(*last, (2, 0), "the device has it");
                assert!(earlier.iter().all(|(_, completions)| *completions == 1), "{earlier:?}");
                assert_eq!(owner.queue.outstanding(), 1);
            })
        };
        rig.reset(false);
        rig.reset(false);
        thread.join().expect("the queue's owner");
    });
}

#[test]
fn loom_everything_completes_once_when_the_controller_is_lost() {
    explore(3, || {
        let rig = Rig::new();
        let controller = {
            let rig = rig.clone();
            thread::spawn(move || rig.shared.standing.lose(Failure::ControllerGone))
        };
        let mut records = [SlotRecord::NEW; 4];
        let mut owner = Owner::new(&rig, &mut records);
        let accepted = usize::from(owner.submit().is_some());
        let mut outcomes = Vec::new();
        owner.queue.poll(|completion| outcomes.push(completion.outcome));
        controller.join().expect("the controller");
        for _ in 0..2 {
            owner.queue.poll(|completion| outcomes.push(completion.outcome));
        }
        assert_eq!(outcomes.len(), accepted);
        assert!(outcomes.iter().all(|ended| *ended == Outcome::Failed(Failure::ControllerGone)));
        assert!(rig.shared.standing.is_quiet(), "it has left");
    });
}
