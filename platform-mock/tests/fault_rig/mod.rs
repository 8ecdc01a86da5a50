//! A platform that keeps books: every command's end, data and sense are checked as they come.
//!
//! Shared by the tests that break things: the fault matrix, the crash-point sweep, the second
//! start, the removal sweep and the contract's state machine.

#![allow(dead_code, unreachable_pub, reason = "each test file is a crate that uses its part of it")]

use std::sync::Arc;
use std::time::Duration;

use fusion_mpt::controller::Action;
use fusion_mpt::error::{Error, SubmitError};
use fusion_mpt::generation::Generation;
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::request::{Command, TaskAttribute};
use fusion_mpt::scsi::Lun;
use fusion_mpt::targets::TargetId;
use fusion_mpt_mock::in_process::{MockBus, MockDma, Options};
use fusion_mpt_mock::model::{Chip, disks};

use crate::hostile::{DISK, Driver, Started, Wire, core_chip, start};

pub mod books;
pub mod buffers;
pub mod cell;
pub mod content;
pub mod doubt;
pub mod host;
pub mod seed;
pub mod workload;

pub use books::{Ask, Books, End};
use buffers::Buffers;
use content::{BLOCK, DEFECTS, STATIC, WRITTEN, block};
use host::TIMEOUT_MS;

/// The SAS address of the first of [`disks`]; the others' follow.
const SAS_ADDRESS: u64 = 0x5000_c500_a1b2_0001;

/// A stepped bus whose disks hold version 0 of every block that these tests look at.
pub fn bus(chip: Chip, count: u16) -> MockBus {
    let mut options = Options::stepped(chip, disks(count, DISK));
    options.bytes = 2 << 20;
    let bus = MockBus::new(options);
    prepare(&bus, count);
    bus
}

/// Writes version 0 and the defects, behind the driver's back.
pub fn prepare(bus: &MockBus, count: u16) {
    bus.with_model(|model| {
        for slot in 0..count {
            let target = &mut model.device(slot as u8).expect("a disk").target;
            for range in [STATIC, WRITTEN] {
                let bytes: Vec<u8> = range.clone().flat_map(|lba| block(slot, lba, 0)).collect();
                let at = range.start * BLOCK as u64;
                target.disk_mut().write_through(at, &bytes).expect("a disk in memory");
            }
            target.inject_medium_error(DEFECTS.start, DEFECTS.end - DEFECTS.start);
        }
    });
}

/// What stands on the disks that cannot; looked up behind the driver's back.
pub fn wrong_blocks(bus: &MockBus, books: &mut Books) -> Vec<String> {
    let shadow = &mut books.shadow;
    bus.with_model(|model| {
        let mut wrong = Vec::new();
        for (slot, lba) in shadow.written() {
            let Some(device) = model.device(slot as u8) else { continue };
            let mut bytes = [0; BLOCK];
            let disk = device.target.disk();
            disk.read(lba * BLOCK as u64, &mut bytes).expect("a disk in memory");
            wrong.extend(shadow.compare(slot, lba, &bytes).err());
        }
        wrong
    })
}

/// Misfortune ends: no more faults, and a card that was pulled is back in its slot. What faults have
/// broken stays so.
pub fn calm(bus: &MockBus) {
    bus.clear_faults();
    bus.with_model(|model| {
        model.all_ones(false);
        model.hold_commands(false);
        model.lose_scsi_replies(0);
    });
}

/// A driver, its books, and the bus that both use.
pub struct Platform<G: Generation> {
    pub driver: Driver<G>,
    pub books: Books,
    pub wire: Arc<Wire>,
    pub actions: Vec<Action>,
    region: MockDma,
    pub wants: Wants,
    pub bus: MockBus,
}

impl<G: Generation> Platform<G> {
    /// A controller with `count` disks and a driver that takes `commands` at once.
    pub fn new(chip: Chip, count: u16, commands: u16) -> Self {
        let bus = bus(chip, count);
        let books = Books::new(Buffers::new(&bus, usize::from(commands) * 2 + 8));
        let wants = Wants { commands, ..Wants::default() };
        Self::on(bus, books, wants).unwrap_or_else(|(error, ..)| panic!("{error}"))
    }

    /// Starts a driver on a bus, perhaps not the first one there.
    #[allow(clippy::result_large_err, reason = "everything comes back for another try")]
    pub fn on(bus: MockBus, books: Books, wants: Wants) -> Result<Self, (Error, MockBus, Books)> {
        if bus.is_cut_off() {
            // Whoever opens a device that was cut off resets it before it may reach memory again.
            bus.with_model(|model| model.bus_reset());
            bus.restore_dma();
        }
        let (wire, started) = start::<G>(&bus, &wants, core_chip(&bus), u64::MAX);
        match started {
            Ok(Started { driver, region }) => {
                let actions = Vec::new();
                Ok(Self { driver, books, wire, actions, region, wants, bus })
            }
            Err(error) => Err((error, bus, books)),
        }
    }

    /// Drops the driver as a kill would, its memory with it: the controller is told nothing.
    pub fn kill(self) -> (MockBus, Books) {
        let Self { driver, region, books, bus, .. } = self;
        drop((driver, region));
        (bus, books)
    }

    /// Kills the driver and starts another. What was out never completes.
    #[track_caller]
    pub fn start_again(self) -> Self {
        let wants = self.wants;
        let (bus, books) = self.kill();
        Self::second(bus, books, wants)
    }

    /// Starts a driver where another was killed.
    #[track_caller]
    pub fn second(bus: MockBus, books: Books, wants: Wants) -> Self {
        let next = Self::on(bus, books, wants);
        let mut next = next.unwrap_or_else(|(error, ..)| panic!("a second start: {error}"));
        // The controller was reset on the way: nothing of the first driver's is its own any more.
        next.books.abandon();
        next
    }

    /// The driver's id for the disk that was in this slot at the start, once it has met it: ids are
    /// given in the order of discovery, which faults change.
    pub fn id_of(&self, disk: u16) -> Option<TargetId> {
        let address = SAS_ADDRESS + u64::from(disk) * 4;
        self.driver.targets().find(|target| target.page.sas_address == address).map(|it| it.id)
    }

    /// Whether the disk is there, as far as the driver knows.
    pub fn is_present(&self, disk: u16) -> bool {
        self.id_of(disk).is_some_and(|id| self.driver.device(id).is_some())
    }

    pub fn submit(&mut self, target: u16, ask: Ask) -> Result<u64, SubmitError> {
        self.submit_again(target, ask, 0)
    }

    /// Submits a command that was sent so often before.
    pub fn submit_again(&mut self, target: u16, ask: Ask, tries: u32) -> Result<u64, SubmitError> {
        self.submit_as(target, ask, tries, None, TIMEOUT_MS)
    }

    /// Submits a command by a tag of ours, or one of the pool, with a deadline in milliseconds.
    pub fn submit_as(
        &mut self,
        target: u16,
        ask: Ask,
        tries: u32,
        tag: Option<u16>,
        timeout_ms: u32,
    ) -> Result<u64, SubmitError> {
        let cookie = self.books.begin(target, ask, tries, self.bus.now_ms());
        let segments = self.books.segments(cookie);
        let command = Command {
            lun: Lun::peripheral(0),
            cdb: &ask.cdb(),
            direction: ask.direction(),
            data_length: ask.bytes() as u32,
            segments: &segments,
            attribute: TaskAttribute::Simple,
            tag,
            timeout_ms,
            cookie,
        };
        let submitted = match self.id_of(target) {
            Some(id) => self.driver.submit(id, &command),
            None => Err(SubmitError::NoTarget),
        };
        match submitted {
            Ok(_) => Ok(cookie),
            Err(error) => {
                self.books.strike(cookie);
                Err(error)
            }
        }
    }

    pub fn poll(&mut self) -> u32 {
        let found = self.driver.poll(|completion| self.books.note(&completion));
        self.note_actions();
        found
    }

    pub fn tick(&mut self) {
        let now = self.bus.now_ms();
        self.driver.tick(now, |completion| self.books.note(&completion));
        self.note_actions();
    }

    /// Writes down what the driver has to report.
    pub fn note_actions(&mut self) {
        self.actions.extend(std::iter::from_fn(|| self.driver.next_action()));
    }

    /// Lets so much time pass, polls and ticks.
    pub fn pass(&mut self, ms: u64) {
        self.bus.advance(Duration::from_millis(ms));
        self.poll();
        self.tick();
    }

    /// Runs bus and driver until both have nothing to do; no time passes.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            if self.bus.run_until_idle() == 0 && self.poll() == 0 {
                return;
            }
        }
        panic!("bus and driver never rest");
    }

    /// Takes the unit attentions that the disks have.
    #[track_caller]
    pub fn clear_attention(&mut self, target: u16) {
        for _ in 0..4 {
            self.submit(target, Ask::Ready).expect("accepted");
            self.settle();
            let ended = self.books.ended.pop().expect("ended");
            if ended.end == End::Good {
                return;
            }
        }
        panic!("the unit attention of disk {target} stays");
    }

    /// Asserts that every block that was written holds what it may hold.
    #[track_caller]
    pub fn assert_disks_whole(&mut self) {
        assert_eq!(wrong_blocks(&self.bus, &mut self.books), [""; 0]);
    }

    pub fn complaints(&self) -> Vec<String> {
        self.bus.with_model(|model| model.complaints().to_vec())
    }
}
