//! The driver on a software controller, with everything it needs around it.

#![allow(dead_code, unreachable_pub, reason = "each test file is a crate that uses its part of it")]

use std::time::{Duration, Instant};

use embedded_hal::delay::DelayNs;
use fusion_mpt::bringup::{Reset, Tables};
use fusion_mpt::controller::{Action, Controller};
use fusion_mpt::error::Error;
use fusion_mpt::generation::Generation;
use fusion_mpt::generation::chips::Chip;
use fusion_mpt::memory_plan::{MemoryPlan, Wants};
use fusion_mpt::outcome::Outcome;
use fusion_mpt::platform::DmaRegion;
use fusion_mpt::request::{Command, TaskAttribute};
use fusion_mpt::scsi::{Cdb, Lun};
use fusion_mpt::sgl::{Direction, Segment};
use fusion_mpt::shared::{ReplyRecord, SharedRecord};
use fusion_mpt::slots::SlotRecord;
use fusion_mpt::targets::{TargetId, TargetRecord};
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::in_process::{MockBus, MockDma, MockRegisters, Options};

pub type Driver<G> = Controller<'static, G, MockRegisters, MockDma>;

/// Brings a controller up. Its tables are leaked: a test's process is short.
pub fn bring_up<G: Generation>(bus: &MockBus, wants: &Wants) -> Result<Driver<G>, Error> {
    let (vendor, device) = bus.pci_id();
    let chip = Chip::find(vendor, device).expect("a chip that the core knows");
    let mut delay = bus.delay();
    let ready = Reset::<G, _>::new(bus.registers(), chip).make_ready(&mut delay)?;
    let plan: MemoryPlan = ready.plan(wants)?;
    let region = bus.allocate(plan.bytes, plan.alignment).expect("room for the plan");
    let replies: Vec<_> = (0..plan.reply_frames).map(|_| ReplyRecord::new()).collect();
    let tables = Tables {
        slots: vec![SlotRecord::NEW; usize::from(plan.slots)].leak(),
        replies: replies.leak(),
        shared: Box::leak(Box::new(SharedRecord::new())),
        targets: vec![TargetRecord::default(); 32].leak(),
    };
    ready.start(&plan, region, tables, bus.now_ms(), &mut delay)
}

/// A bus and the driver on it.
pub struct Rig<G: Generation> {
    pub bus: MockBus,
    pub driver: Driver<G>,
}

impl<G: Generation> Rig<G> {
    pub fn new(options: Options) -> Self {
        Self::with(options, &Wants::default())
    }

    pub fn with(options: Options, wants: &Wants) -> Self {
        let bus = MockBus::new(options);
        let driver = bring_up(&bus, wants).unwrap_or_else(|error| {
            let complaints = bus.with_model(|model| model.complaints().to_vec());
            panic!("bring-up: {error}; the controller complains: {complaints:?}")
        });
        Self { bus, driver }
    }

    /// What the driver reports since the last time.
    pub fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.driver.next_action()).collect()
    }

    /// Runs bus and driver until both have nothing to do.
    pub fn settle(&mut self) {
        while self.bus.run_until_idle() > 0
            || self.driver.poll(|_| panic!("a stray completion")) > 0
        {}
    }

    /// Submits one command.
    pub fn submit(
        &mut self,
        target: TargetId,
        cdb: &Cdb,
        direction: Direction,
        segments: &[Segment],
        cookie: u64,
    ) {
        let command = Command {
            lun: Lun::peripheral(0),
            cdb,
            direction,
            data_length: segments.iter().map(|segment| segment.length).sum(),
            segments,
            attribute: TaskAttribute::Simple,
            tag: None,
            timeout_ms: 0,
            cookie,
        };
        self.driver.submit(target, &command).expect("accepted");
    }

    /// Runs one command to its end: how it ended, and its sense data.
    pub fn run(
        &mut self,
        target: TargetId,
        cdb: &Cdb,
        direction: Direction,
        segments: &[Segment],
    ) -> (Outcome, Vec<u8>) {
        self.submit(target, cdb, direction, segments, 77);
        let mut ended = None;
        let mut delay = self.bus.delay();
        for _ in 0..100_000 {
            delay.delay_us(20);
            self.driver.poll(|completion| {
                assert_eq!(completion.cookie, 77);
                assert!(ended.is_none(), "completed twice");
                ended = Some((completion.outcome, completion.sense.to_vec()));
            });
            if let Some(ended) = ended {
                return ended;
            }
        }
        panic!("no completion; the controller complains: {:?}", self.complaints())
    }

    /// Takes the unit attention that a disk starts with.
    pub fn clear_attention(&mut self, target: TargetId) {
        for _ in 0..3 {
            let (outcome, _) = self.run(target, &Cdb::test_unit_ready(), Direction::None, &[]);
            if outcome.is_good() {
                return;
            }
        }
        panic!("the unit attention stays");
    }

    pub fn complaints(&self) -> Vec<String> {
        self.bus.with_model(|model| model.complaints().to_vec())
    }
}

/// `count` segments of `length` bytes each, `gap` bytes apart.
pub fn segments(dma: &MockDma, count: usize, length: usize, gap: usize) -> Vec<Segment> {
    (0..count)
        .map(|index| Segment {
            address: dma.bus().offset((index * (length + gap)) as u64),
            length: length as u32,
        })
        .collect()
}

/// Bytes of the commands that [`stream`] runs.
pub const BLOCK: usize = 4096;

/// A command of one block.
pub fn command<'c>(cdb: &'c Cdb, segments: &'c [Segment], read: bool, cookie: u64) -> Command<'c> {
    Command {
        lun: Lun::peripheral(0),
        cdb,
        direction: if read { Direction::Read } else { Direction::Write },
        data_length: BLOCK as u32,
        segments,
        attribute: TaskAttribute::Simple,
        tag: None,
        timeout_ms: 0,
        cookie,
    }
}

/// Runs `count` commands of 4 KiB, `depth` at a time, each on its own block and buffer.
pub fn stream<G: Generation>(
    rig: &mut Rig<G>,
    count: u64,
    depth: u64,
    read: bool,
    at: &impl DmaRegion,
) {
    let mut submitted = 0u64;
    let mut done = 0;
    let mut free: Vec<u64> = (0..depth).collect();
    let started = Instant::now();
    while done < count {
        while submitted < count
            && let Some(buffer) = free.pop()
        {
            let segment =
                [Segment { address: at.bus().offset(buffer * BLOCK as u64), length: BLOCK as u32 }];
            let lba = buffer * 8;
            let cdb = if read { Cdb::read(lba, 8) } else { Cdb::write(lba, 8) };
            let command = command(&cdb, &segment, read, buffer);
            rig.driver.submit(TargetId(0), &command).expect("room");
            submitted += 1;
        }
        let found = rig.driver.poll(|completion| {
            assert!(completion.outcome.is_good(), "{:?}", completion.outcome);
            free.push(completion.cookie);
            done += 1;
        });
        if found == 0 {
            std::thread::yield_now();
        }
        assert!(started.elapsed() < Duration::from_secs(60), "stuck at {done} of {count}");
    }
}
