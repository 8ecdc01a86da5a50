//! A driver whose bus the test can break: registers that die at any access, and the driver's own
//! memory as the device sees it.

#![allow(dead_code, unreachable_pub, reason = "each test file is a crate that uses its part of it")]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fusion_mpt::bringup::{Reset, Tables};
use fusion_mpt::controller::{Action, Controller};
use fusion_mpt::error::{Error, SubmitError};
use fusion_mpt::generation::Generation;
use fusion_mpt::generation::chips::Chip as CoreChip;
use fusion_mpt::io_queue::Completion;
use fusion_mpt::memory_plan::{MemoryPlan, Wants};
use fusion_mpt::outcome::Outcome;
use fusion_mpt::platform::{DmaRegion, Registers};
use fusion_mpt::request::{Command, TaskAttribute};
use fusion_mpt::scsi::{Cdb, Lun};
use fusion_mpt::sgl::{Direction, Segment};
use fusion_mpt::shared::{ReplyRecord, SharedRecord};
use fusion_mpt::slots::SlotRecord;
use fusion_mpt::targets::{TargetId, TargetRecord};
use fusion_mpt::trace::Trace;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::in_process::{MockBus, MockDma, MockRegisters, Options};
use fusion_mpt_mock::model::{Chip, disks};

/// Bytes of each disk.
pub const DISK: u64 = 16 << 20;

/// What a [`Probe`] has seen, and when it dies.
#[derive(Debug)]
pub struct Wire {
    /// Register accesses so far.
    pub accesses: AtomicU64,
    /// From this access on, counted from 1, the card is not there.
    pub dies_at: AtomicU64,
    /// The driver has read all ones where they mean that the card has gone.
    pub noticed: AtomicBool,
    /// Accesses after that.
    pub afterwards: AtomicU64,
    /// Writes of 64 bits, writes at 0xC0, 0xC4 and 0xC8.
    pub posts: [AtomicU64; 4],
    /// What the reply FIFO says for ever, if not `u64::MAX` (MPI1).
    pub stuck_fifo: AtomicU64,
    /// Message unit resets, and diagnostic resets.
    pub resets: [AtomicU64; 2],
    /// Writes of supplemental host index registers, and of the plain one.
    pub host_indices: [AtomicU64; 2],
}

impl Wire {
    fn new(dies_at: u64) -> Arc<Self> {
        Arc::new(Self {
            accesses: AtomicU64::new(0),
            dies_at: AtomicU64::new(dies_at),
            noticed: AtomicBool::new(false),
            afterwards: AtomicU64::new(0),
            posts: Default::default(),
            stuck_fifo: AtomicU64::new(u64::MAX),
            resets: Default::default(),
            host_indices: Default::default(),
        })
    }

    /// Counts an access; whether the card is still there.
    fn access(&self) -> bool {
        if self.noticed.load(Relaxed) {
            self.afterwards.fetch_add(1, Relaxed);
        }
        self.accesses.fetch_add(1, Relaxed) + 1 < self.dies_at.load(Relaxed)
    }

    /// Takes the card away now.
    pub fn die(&self) {
        self.dies_at.store(0, Relaxed);
    }
}

/// A register window that watches its driver.
#[derive(Debug, Clone)]
pub struct Probe(MockRegisters, Arc<Wire>);

impl Registers for Probe {
    fn read32(&self, offset: u16) -> u32 {
        if self.1.access() {
            return match u32::try_from(self.1.stuck_fifo.load(Relaxed)) {
                Ok(word) if offset == 0x44 => word,
                _ => self.0.read32(offset),
            };
        }
        if matches!(offset, 0x00 | 0x08 | 0x30) {
            self.1.noticed.store(true, Relaxed);
        }
        u32::MAX
    }

    fn write32(&self, offset: u16, value: u32) {
        if !self.1.access() {
            return;
        }
        let count = |counter: &AtomicU64| _ = counter.fetch_add(1, Relaxed);
        match offset {
            0x00 if value >> 24 == 0x40 => count(&self.1.resets[0]),
            0x08 if value & 4 != 0 => count(&self.1.resets[1]),
            0x6c => count(&self.1.host_indices[1]),
            0xc0 => count(&self.1.posts[1]),
            0xc4 => count(&self.1.posts[2]),
            0xc8 => count(&self.1.posts[3]),
            0x30c.. => count(&self.1.host_indices[0]),
            _ => {}
        }
        self.0.write32(offset, value);
    }

    fn write64(&self, offset: u16, value: u64) {
        if self.1.access() {
            self.1.posts[0].fetch_add(1, Relaxed);
            self.0.write64(offset, value);
        }
    }

    fn cut_off(&self) {
        self.0.cut_off();
    }
}

pub type Driver<G> = Controller<'static, G, Probe, MockDma>;

/// A driver that has been started, and the test's hold on what it uses.
pub struct Started<G: Generation> {
    pub driver: Driver<G>,
    pub region: MockDma,
}

/// The core's own entry for the chip on this bus.
pub fn core_chip(bus: &MockBus) -> &'static CoreChip {
    let (vendor, device) = bus.pci_id();
    CoreChip::find(vendor, device).expect("a chip that the core knows")
}

/// Tables for a plan, leaked: a test's process is short.
pub fn tables(plan: &MemoryPlan) -> Tables<'static> {
    let replies: Vec<_> = (0..plan.reply_frames).map(|_| ReplyRecord::new()).collect();
    Tables {
        slots: vec![SlotRecord::NEW; usize::from(plan.slots)].leak(),
        replies: replies.leak(),
        shared: Box::leak(Box::new(SharedRecord::new())),
        targets: vec![TargetRecord::default(); 32].leak(),
    }
}

/// Starts a driver through a window that dies at access `dies_at`.
pub fn start<G: Generation>(
    bus: &MockBus,
    wants: &Wants,
    chip: &'static CoreChip,
    dies_at: u64,
) -> (Arc<Wire>, Result<Started<G>, Error>) {
    let wire = Wire::new(dies_at);
    let probe = Probe(bus.registers(), Arc::clone(&wire));
    let go = || {
        let mut delay = bus.delay();
        let ready = Reset::<G, _>::new(probe, chip).make_ready(&mut delay)?;
        let plan = ready.plan(wants)?;
        let region = bus.allocate(plan.bytes, plan.alignment).expect("room for the plan");
        let driver = ready.start(&plan, region.clone(), tables(&plan), bus.now_ms(), &mut delay)?;
        Ok(Started { driver, region })
    };
    let started = go();
    (wire, started)
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub outcome: Outcome,
    pub sense: Vec<u8>,
}

/// Commands that are out, and how those that came back ended: each comes back once.
#[derive(Debug, Default)]
pub struct Ledger {
    pub out: HashSet<u64>,
    pub done: HashMap<u64, Done>,
    next: u64,
}

impl Ledger {
    pub fn note(&mut self, completion: &Completion<'_>) {
        let cookie = completion.cookie;
        assert!(self.out.remove(&cookie), "command {cookie} was not out, or completed twice");
        let done = Done { outcome: completion.outcome, sense: completion.sense.to_vec() };
        self.done.insert(cookie, done);
    }
}

/// A bus, a driver and what it was given.
pub struct Rig<G: Generation> {
    pub driver: Driver<G>,
    pub ledger: Ledger,
    pub wire: Arc<Wire>,
    pub region: MockDma,
    pub data: MockDma,
    pub bus: MockBus,
}

impl<G: Generation> Rig<G> {
    pub fn new(chip: Chip, count: u16) -> Self {
        let mut options = Options::stepped(chip, disks(count, DISK));
        options.bytes = 8 << 20;
        Self::with(options, &Wants::default())
    }

    /// The same, where the device's memory and the CPU's are one: the test may write as a device.
    pub fn coherent(chip: Chip, count: u16) -> Self {
        let mut options = Options::stepped(chip, disks(count, DISK));
        (options.bytes, options.bouncing) = (8 << 20, false);
        Self::with(options, &Wants::default())
    }

    pub fn with(options: Options, wants: &Wants) -> Self {
        let bus = MockBus::new(options);
        let chip = core_chip(&bus);
        Self::on(bus, wants, chip)
    }

    pub fn on(bus: MockBus, wants: &Wants, chip: &'static CoreChip) -> Self {
        let (wire, started) = start::<G>(&bus, wants, chip, u64::MAX);
        let Started { driver, region } = started.unwrap_or_else(|error| panic!("{error}"));
        let data = bus.allocate(1 << 20, 4096).expect("room");
        Self { driver, ledger: Ledger::default(), wire, region, data, bus }
    }

    /// Everything the driver has to report.
    pub fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.driver.next_action()).collect()
    }

    pub fn poll(&mut self) -> u32 {
        self.driver.poll(|completion| self.ledger.note(&completion))
    }

    /// A second passes and the driver looks at the doorbell.
    pub fn tick(&mut self) {
        self.bus.advance(Duration::from_secs(1));
        let now = self.bus.now_ms();
        self.driver.tick(now, |completion| self.ledger.note(&completion));
    }

    /// Resets the controller, as a platform does that is told to.
    pub fn reset(&mut self) -> Result<(), Error> {
        let Self { driver, ledger, bus, .. } = self;
        driver.reset(bus.now_ms(), &mut bus.delay(), |completion| ledger.note(&completion))
    }

    /// Runs bus and driver until both have nothing to do.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            if self.bus.run_until_idle() == 0 && self.poll() == 0 {
                return;
            }
        }
        panic!("bus and driver never rest");
    }

    pub fn try_submit(
        &mut self,
        target: TargetId,
        cdb: &Cdb,
        direction: Direction,
        segments: &[Segment],
        attribute: TaskAttribute,
    ) -> Result<u64, SubmitError> {
        let cookie = self.ledger.next;
        let command = Command {
            lun: Lun::peripheral(0),
            cdb,
            direction,
            data_length: segments.iter().map(|segment| segment.length).sum(),
            segments,
            attribute,
            tag: None,
            timeout_ms: 0,
            cookie,
        };
        self.driver.submit(target, &command)?;
        self.ledger.next += 1;
        self.ledger.out.insert(cookie);
        Ok(cookie)
    }

    /// Submits a command and returns its cookie.
    #[track_caller]
    pub fn submit(
        &mut self,
        target: TargetId,
        cdb: &Cdb,
        direction: Direction,
        segments: &[Segment],
    ) -> u64 {
        self.try_submit(target, cdb, direction, segments, TaskAttribute::Simple).expect("accepted")
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&mut self, target: TargetId, cdb: &Cdb, direction: Direction, bytes: usize) -> Done {
        let pieces = [self.segment(0, bytes)];
        let pieces = if bytes == 0 { &[][..] } else { &pieces[..] };
        let cookie = self.submit(target, cdb, direction, pieces);
        self.settle();
        self.take(cookie)
    }

    #[track_caller]
    pub fn take(&mut self, cookie: u64) -> Done {
        self.ledger.done.remove(&cookie).unwrap_or_else(|| {
            panic!(
                "command {cookie} has not completed; the controller complains: {:?}",
                self.complaints()
            )
        })
    }

    /// A piece of the data buffer.
    pub fn segment(&self, offset: usize, bytes: usize) -> Segment {
        Segment { address: self.data.bus().offset(offset as u64), length: bytes as u32 }
    }

    /// A read of one block that is out, as `count` commands.
    pub fn submit_reads(&mut self, count: usize) -> Vec<u64> {
        let piece = [self.segment(0, 512)];
        (0..count)
            .map(|_| self.submit(TargetId(0), &Cdb::read(5, 1), Direction::Read, &piece))
            .collect()
    }

    /// Takes the unit attention that a disk starts with.
    #[track_caller]
    pub fn clear_attention(&mut self, target: TargetId) {
        for _ in 0..3 {
            if self.run(target, &Cdb::test_unit_ready(), Direction::None, 0).outcome.is_good() {
                return;
            }
        }
        panic!("the unit attention stays");
    }

    pub fn complaints(&self) -> Vec<String> {
        self.bus.with_model(|model| model.complaints().to_vec())
    }

    /// Nothing is out, and every slot is free: as many commands are taken as at first.
    #[track_caller]
    pub fn assert_all_free(&mut self) {
        assert!(self.ledger.out.is_empty(), "never completed: {:?}", self.ledger.out);
        assert_eq!(self.driver.outstanding(), 0);
    }
}

/// The error's sentence says what was attempted and what to do: it is not a mere name.
#[track_caller]
pub fn assert_sentence(error: &Error) {
    let text = error.to_string();
    assert!(text.len() > 30 && text.contains(' '), "{text}");
}

/// A rig with `count` reads out that the device holds.
pub fn rig_with_reads<G: Generation>(chip: Chip, count: usize) -> (Rig<G>, Vec<u64>) {
    let mut rig = Rig::<G>::coherent(chip, 1);
    rig.driver.set_trace(Box::leak(Box::new(Trace::new())));
    rig.clear_attention(TargetId(0));
    rig.bus.with_model(|model| model.hold_commands(true));
    let out = rig.submit_reads(count);
    rig.settle();
    (rig, out)
}

pub fn smid_of<G: Generation>(rig: &Rig<G>, cookie: u64) -> u16 {
    rig.driver.find_command(cookie).expect("out")
}

/// A reply frame for a SCSI I/O: `words` long, answering `function`.
pub fn frame(smid: u16, words: u8, function: u8) -> Vec<u8> {
    let mut frame = vec![0; 0x34];
    frame[2] = words;
    frame[3] = function;
    // MPI1 knows the command by this alone; MPI2 has its virtual port there, which nobody reads.
    frame[8..10].copy_from_slice(&smid.to_le_bytes());
    frame
}
