//! A driver on a bus, for tests: bring-up, tables, buffers, and commands run to their end.
//!
//! Nothing here knows which bus it is, so the same test body runs against QEMU's controller and
//! against ours.

#![allow(dead_code, unreachable_pub, reason = "each test file is a crate that uses its part of it")]

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use embedded_hal::delay::DelayNs;
use fusion_mpt::bringup::{Ready, Reset, Tables};
use fusion_mpt::controller::{Action, Controller, Health, TaskRoute};
use fusion_mpt::error::{Error, SubmitError};
use fusion_mpt::generation::chips::Chip;
use fusion_mpt::generation::{Command, Device, Generation, Mpi1, TaskAttribute};
use fusion_mpt::log_info::LogInfo;
use fusion_mpt::mem::Memory;
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::pages::PageRequest;
use fusion_mpt::platform::DmaRegion;
use fusion_mpt::recovery::{TaskReply, TaskRequest, TaskType};
use fusion_mpt::scsi::{Cdb, Lun, ScsiStatus, Sense, SenseKey};
use fusion_mpt::sgl::{Direction, Segment};
use fusion_mpt::shared::{ReplyRecord, SharedRecord};
use fusion_mpt::slots::SlotRecord;
use fusion_mpt::targets::{TargetId, TargetRecord};
use fusion_mpt_mock::bus::Bus;

pub mod qemu;

/// No command of these tests takes longer, on the slowest machine.
const LIMIT: Duration = Duration::from_secs(30);
const TARGETS: usize = 16;

/// Waits by sleeping.
pub struct Sleep;

impl DelayNs for Sleep {
    fn delay_ns(&mut self, ns: u32) {
        std::thread::sleep(Duration::from_nanos(u64::from(ns)));
    }
}

/// How a command ended, kept beyond its completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub outcome: Outcome,
    pub sense: Vec<u8>,
    pub log_info: LogInfo,
}

impl Done {
    /// Asserts GOOD with `bytes` transferred.
    #[track_caller]
    pub fn assert_good(&self, bytes: u32) {
        let expected =
            Outcome::Complete { status: ScsiStatus::GOOD, transferred: bytes, sense_length: 0 };
        assert_eq!(self.outcome, expected, "{self:?}");
        assert!(self.sense.is_empty());
    }

    /// Asserts CHECK CONDITION with this sense; returns it.
    #[track_caller]
    pub fn assert_sense(&self, key: SenseKey, asc: u8, ascq: u8) -> Sense {
        let Outcome::Complete { status: ScsiStatus::CHECK_CONDITION, sense_length, .. } =
            self.outcome
        else {
            panic!("no CHECK CONDITION: {self:?}");
        };
        assert_eq!(usize::from(sense_length), self.sense.len());
        let sense = Sense::parse(&self.sense).unwrap_or_else(|| panic!("no sense in {self:?}"));
        assert_eq!((sense.key, sense.asc, sense.ascq), (key, asc, ascq), "{self:?}");
        sense
    }

    #[track_caller]
    pub fn failure(&self) -> Failure {
        match self.outcome {
            Outcome::Failed(failure) => failure,
            Outcome::Complete { .. } => panic!("did not fail: {self:?}"),
        }
    }
}

/// A piece of DMA memory that commands move data to and from.
pub struct Data<D> {
    memory: Memory<D>,
}

impl<D: DmaRegion> Data<D> {
    pub const fn len(&self) -> usize {
        self.memory.len()
    }

    /// The piece from `offset` on.
    pub fn segment(&self, offset: usize, length: usize) -> Segment {
        assert!(offset + length <= self.len());
        Segment { address: self.memory.bus(offset), length: length as u32 }
    }

    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len());
        self.memory.copy_in(offset, bytes);
    }

    pub fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        assert!(offset + length <= self.len());
        let mut bytes = vec![0; length];
        self.memory.copy_out(offset, &mut bytes);
        bytes
    }

    pub fn fill(&self, byte: u8) {
        self.memory.fill(0, self.len(), byte);
    }
}

/// A command for logical unit 0 that moves all of `segments`.
pub fn command<'c>(cdb: &'c Cdb, direction: Direction, segments: &'c [Segment]) -> Command<'c> {
    Command {
        lun: Lun::default(),
        cdb,
        direction,
        data_length: segments.iter().map(|segment| segment.length).sum(),
        segments,
        attribute: TaskAttribute::Simple,
        tag: None,
        timeout_ms: 0,
        cookie: 0,
    }
}

/// Brings whatever is on the bus to READY.
pub fn ready<B: Bus, G: Generation>(bus: &B) -> Ready<G, B::Registers> {
    reset(bus).make_ready(&mut Sleep).unwrap_or_else(|error| panic!("{error}"))
}

pub fn reset<B: Bus, G: Generation>(bus: &B) -> Reset<G, B::Registers> {
    let (vendor, device) = bus.pci_id();
    let chip = Chip::find(vendor, device).expect("a chip that the driver knows");
    Reset::new(bus.registers(), chip)
}

/// A bus, the driver on it, and what has completed.
pub struct Rig<B: Bus, G: Generation = Mpi1> {
    pub controller: Controller<'static, G, B::Registers, B::Dma>,
    /// Every action so far.
    pub actions: Vec<Action>,
    done: HashMap<u64, Done>,
    next_cookie: u64,
    // Last: the controller's memory goes back before the bus ends.
    pub bus: B,
}

impl<B: Bus, G: Generation> Rig<B, G>
where
    B::Dma: Debug,
{
    /// The driver with what it wants by default.
    pub fn new(bus: B) -> Self {
        Self::with(bus, &Wants::default())
    }

    pub fn with(bus: B, wants: &Wants) -> Self {
        let ready = ready(&bus);
        Self::start(bus, ready, wants, None)
    }

    /// From READY on; in `region` if it is big enough, as after a reset.
    pub fn start(
        bus: B,
        ready: Ready<G, B::Registers>,
        wants: &Wants,
        region: Option<B::Dma>,
    ) -> Self {
        let plan = ready.plan(wants).unwrap_or_else(|error| panic!("{error}"));
        let region = region.unwrap_or_else(|| bus.allocate(plan.bytes, plan.alignment).unwrap());
        let controller = ready
            .start(&plan, region, tables(&plan, TARGETS), 0, &mut Sleep)
            .unwrap_or_else(|error| panic!("{error}"));
        let (done, actions) = (HashMap::new(), Vec::new());
        let mut rig = Self { controller, actions, done, next_cookie: 1, bus };
        rig.take_actions();
        rig
    }

    /// Resets the controller and starts the driver again in the same memory. What was outstanding
    /// has completed.
    pub fn restart(self, wants: &Wants) -> Self {
        let Self { controller, actions: _, mut done, next_cookie, bus } = self;
        let (parts, result) =
            controller.into_reset(&mut Sleep, |completion| note(&mut done, &completion));
        result.unwrap_or_else(|error| panic!("{error}"));
        let ready = parts.reset.make_ready(&mut Sleep).unwrap_or_else(|error| panic!("{error}"));
        let mut rig = Self::start(bus, ready, wants, Some(parts.region));
        (rig.done, rig.next_cookie) = (done, next_cookie);
        rig
    }

    /// Memory for data, zeroed, on a page boundary.
    pub fn data(&self, bytes: usize) -> Data<B::Dma> {
        Data { memory: Memory::new(self.bus.allocate(bytes, 4096).unwrap()) }
    }

    /// Where commands for the target with this id go.
    pub fn device(&self, id: u16) -> Device {
        self.controller.device(TargetId(id)).expect("a target that is present")
    }

    /// Submits a command and returns its cookie.
    pub fn try_submit(
        &mut self,
        device: Device,
        command: &Command<'_>,
    ) -> Result<u64, SubmitError> {
        let cookie = self.next_cookie;
        self.controller.submit_to_device(device, &Command { cookie, ..*command })?;
        self.next_cookie += 1;
        Ok(cookie)
    }

    #[track_caller]
    pub fn submit(&mut self, device: Device, command: &Command<'_>) -> u64 {
        self.try_submit(device, command).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn poll(&mut self) -> u32 {
        let done = &mut self.done;
        self.controller.poll(|completion| note(done, &completion))
    }

    /// Looks at the doorbell.
    pub fn watch(&mut self) {
        let done = &mut self.done;
        self.controller.watch(|completion| note(done, &completion));
        self.take_actions();
    }

    pub fn tick(&mut self, now_ms: u64) {
        let done = &mut self.done;
        self.controller.tick(now_ms, |completion| note(done, &completion));
        self.take_actions();
    }

    /// Resets the controller, as a platform does that is told to.
    #[track_caller]
    pub fn reset(&mut self) {
        let done = &mut self.done;
        let reset = self.controller.reset(0, &mut Sleep, |completion| note(done, &completion));
        reset.unwrap_or_else(|error| panic!("{error}"));
        self.take_actions();
    }

    /// Waits until the controller works again after a reset.
    #[track_caller]
    pub fn settle_reset(&mut self) {
        let start = Instant::now();
        while self.controller.health() != Health::Running {
            assert!(start.elapsed() < LIMIT, "still {:?}", self.controller.health());
            self.poll();
            // Time stands still but for its own limits: what is asked here is not how long.
            self.tick(20_000);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(self.actions.contains(&Action::ControllerReady), "{:?}", self.actions);
    }

    fn take_actions(&mut self) {
        while let Some(action) = self.controller.next_action() {
            self.actions.push(action);
        }
    }

    /// Whether this command has completed.
    pub fn is_done(&self, cookie: u64) -> bool {
        self.done.contains_key(&cookie)
    }

    /// How a command that has completed ended; once.
    #[track_caller]
    pub fn take(&mut self, cookie: u64) -> Done {
        self.done.remove(&cookie).unwrap_or_else(|| panic!("command {cookie} has not completed"))
    }

    /// Waits for a command.
    #[track_caller]
    pub fn wait(&mut self, cookie: u64) -> Done {
        let start = Instant::now();
        let mut polls = 0u32;
        loop {
            if let Some(done) = self.done.remove(&cookie) {
                return done;
            }
            if self.poll() == 0 {
                polls += 1;
                assert!(start.elapsed() < LIMIT, "command {cookie} does not complete");
                std::thread::sleep(Duration::from_micros(50));
                if polls.is_multiple_of(256) {
                    self.watch();
                }
            }
        }
    }

    /// Submits a command and waits for it.
    #[track_caller]
    pub fn run(&mut self, device: Device, command: &Command<'_>) -> Done {
        let cookie = self.submit(device, command);
        self.wait(cookie)
    }

    /// Runs a command that moves no data.
    #[track_caller]
    pub fn run_without_data(&mut self, device: Device, cdb: &Cdb) -> Done {
        self.run(device, &command(cdb, Direction::None, &[]))
    }

    /// Runs a command that reads into the start of `data`.
    #[track_caller]
    pub fn run_in(&mut self, device: Device, cdb: &Cdb, data: &Data<B::Dma>, bytes: usize) -> Done {
        self.run(device, &command(cdb, Direction::Read, &[data.segment(0, bytes)]))
    }

    /// Runs a command that writes from the start of `data`.
    #[track_caller]
    pub fn run_out(
        &mut self,
        device: Device,
        cdb: &Cdb,
        data: &Data<B::Dma>,
        bytes: usize,
    ) -> Done {
        self.run(device, &command(cdb, Direction::Write, &[data.segment(0, bytes)]))
    }

    /// Asserts that a target keeps what is written to `bytes` bytes, whole pages, from page `page`
    /// of it on, in blocks of 512 bytes.
    #[track_caller]
    pub fn assert_keeps(&mut self, id: u16, page: u64, bytes: usize) {
        let (lba, blocks) = (page * 8, (bytes / 512) as u32);
        let device = self.device(id);
        self.clear_attention(device);
        let data = self.data(bytes);
        data.fill(0x5a);
        self.run_out(device, &Cdb::write(lba, blocks), &data, bytes).assert_good(bytes as u32);
        data.fill(0);
        self.run_in(device, &Cdb::read(lba, blocks), &data, bytes).assert_good(bytes as u32);
        assert_eq!(data.read(0, bytes), vec![0x5a; bytes]);
    }

    /// Takes unit attention conditions until the device has no more.
    #[track_caller]
    pub fn clear_attention(&mut self, device: Device) {
        for _ in 0..4 {
            let done = self.run_without_data(device, &Cdb::test_unit_ready());
            if done.outcome.is_good() {
                return;
            }
            let sense = Sense::parse(&done.sense).unwrap_or_else(|| panic!("{done:?}"));
            assert_eq!(sense.key, SenseKey::UNIT_ATTENTION, "{done:?}");
        }
        panic!("unit attention without end");
    }

    /// As [`Rig::clear_attention`], for every target.
    pub fn clear_attentions(&mut self) {
        let present: Vec<_> = self.controller.targets().map(|target| target.id).collect();
        for id in present {
            self.clear_attention(self.device(id.0));
        }
    }

    /// A configuration page, header included.
    pub fn page(&mut self, request: PageRequest) -> Result<Vec<u8>, Error> {
        let mut page = vec![0xee; 4096];
        let done = &mut self.done;
        let length = self.controller.read_page(&mut Sleep, request, &mut page, |completion| {
            note(done, &completion);
        })?;
        assert!(page[length..].iter().all(|byte| *byte == 0xee), "written beyond its length");
        page.truncate(length);
        Ok(page)
    }

    /// Task management to its end; `cookie` is the command for abort and query.
    pub fn task(
        &mut self,
        kind: TaskType,
        device: Device,
        cookie: Option<u64>,
        route: TaskRoute,
    ) -> Result<TaskReply, Error> {
        let smid = cookie.map_or(0, |cookie| {
            self.controller.find_command(cookie).expect("a command that is outstanding")
        });
        let request = TaskRequest { kind, device, lun: Lun::default(), smid };
        let done = &mut self.done;
        self.controller.task_management(&mut Sleep, &request, route, |completion| {
            note(done, &completion);
        })
    }
}

/// Tables for a plan. They live as long as the test's process, which is not long.
pub fn tables(plan: &fusion_mpt::memory_plan::MemoryPlan, targets: usize) -> Tables<'static> {
    Tables {
        slots: Box::leak(vec![SlotRecord::NEW; usize::from(plan.slots)].into_boxed_slice()),
        replies: Box::leak((0..plan.reply_frames).map(|_| ReplyRecord::new()).collect()),
        shared: Box::leak(Box::new(SharedRecord::new())),
        targets: Box::leak(vec![TargetRecord::default(); targets].into_boxed_slice()),
    }
}

fn note(done: &mut HashMap<u64, Done>, completion: &fusion_mpt::io_queue::Completion<'_>) {
    let earlier = done.insert(
        completion.cookie,
        Done {
            outcome: completion.outcome,
            sense: completion.sense.to_vec(),
            log_info: completion.log_info,
        },
    );
    assert_eq!(earlier, None, "command {} completed twice", completion.cookie);
}

/// Numbers that look random and are the same every time (xorshift64*).
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from `0` to `below - 1`.
    pub fn below(&mut self, below: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(below)) >> 64) as u64
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}
