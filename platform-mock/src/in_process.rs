//! A bus inside this process, with a software controller on it.
//!
//! Two ways to run the firmware. *Stepped*: nothing happens unless [`MockBus::step`] says so, or
//! time passes in a [`MockDelay`], so a test has every order of events in its hand. *Threaded*: a
//! thread of its own runs it, as on a real card; it parks when there is nothing to do.

mod arena;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use embedded_hal::delay::DelayNs;
use fusion_mpt::platform::Registers;

pub use arena::MockDma;

use crate::bus::{Bus, BusError};
use crate::faults::{Counts, FaultEvent, Faulty, Plan};
use crate::inbox::{Inbox, Write};
use crate::model::{Chip, Ioc, Model};
use crate::target::Target;
use arena::Arena;

/// Steps after which a firmware that always has something to do counts as run away.
const MOST_STEPS: usize = 1_000_000;
/// Steps that the thread takes with the controller locked.
const BATCH: usize = 256;
/// How long the thread looks for work before it parks.
const SPIN: Duration = Duration::from_micros(50);

/// Who runs the firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The caller, step by step.
    Stepped,
    /// As `Stepped`, and every register access runs it until it has nothing to do.
    AutoStep,
    /// A thread.
    Threaded,
}

/// What a bus is to be like.
#[derive(Debug)]
pub struct Options {
    /// The controller.
    pub chip: Chip,
    /// Its disks, in the slots from 0 on; those beyond the last slot are dropped.
    pub disks: Vec<Target>,
    /// Who runs the firmware.
    pub mode: Mode,
    /// CPU and controller each see their own copy of DMA memory until it is handed over. Not with
    /// [`Mode::Threaded`], which ignores it.
    pub bouncing: bool,
    /// The first bus address of DMA memory.
    pub base: u64,
    /// Bytes of DMA memory; only what is used takes space.
    pub bytes: usize,
}

impl Options {
    /// A stepped, bouncing bus with 64-bit addresses.
    #[must_use]
    pub fn stepped(chip: Chip, disks: Vec<Target>) -> Self {
        Self {
            chip,
            disks,
            mode: Mode::Stepped,
            bouncing: true,
            base: 0x1_2340_0000,
            bytes: 64 << 20,
        }
    }

    /// A bus whose controller has a thread of its own, with 64-bit addresses.
    #[must_use]
    pub fn threaded(chip: Chip, disks: Vec<Target>) -> Self {
        let bytes = 256 << 20;
        Self { mode: Mode::Threaded, bouncing: false, bytes, ..Self::stepped(chip, disks) }
    }

    /// The same with DMA memory from `base` on, for instance below 4 GiB.
    #[must_use]
    pub fn at(self, base: u64) -> Self {
        Self { base, ..self }
    }
}

struct Shared {
    model: Mutex<Faulty>,
    arena: Arc<Arena>,
    mode: Mode,
    /// Time in nanoseconds, where it does not pass by itself.
    clock: AtomicU64,
    started: Instant,
    inbox: Inbox,
    stop: AtomicBool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({:?}, {:?})", self.mode, self.arena)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn now(&self) -> u64 {
        match self.mode {
            Mode::Threaded => self.started.elapsed().as_nanos() as u64,
            _ => self.clock.load(Ordering::Relaxed),
        }
    }

    /// The controller, with every register write that came before.
    fn model(&self) -> MutexGuard<'_, Faulty> {
        let mut model = lock(&self.model);
        self.inbox.take(&mut *model);
        model
    }

    fn run(&self, model: &mut Faulty, most: usize) -> usize {
        let now = self.now();
        (0..most).take_while(|_| model.step(&*self.arena, now)).count()
    }

    /// Takes a register write.
    fn write(&self, write: Write) {
        if self.mode == Mode::Threaded {
            self.inbox.post(write);
            return;
        }
        let mut model = lock(&self.model);
        // The firmware knows the time of the access, not of its last step.
        model.access_at(|| self.now());
        write.apply(&mut *model);
        self.auto_step(&mut model);
    }

    fn auto_step(&self, model: &mut Faulty) {
        if self.mode == Mode::AutoStep {
            self.run(model, MOST_STEPS);
        }
    }

    /// What the thread does.
    fn serve(&self) {
        let mut idle_since: Option<Instant> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let mut model = lock(&self.model);
            self.inbox.take(&mut *model);
            if self.run(&mut model, BATCH) > 0 {
                idle_since = None;
                continue;
            }
            let deadline = model.deadline();
            drop(model);
            let since = *idle_since.get_or_insert_with(Instant::now);
            if since.elapsed() < SPIN {
                for _ in 0..64 {
                    if self.inbox.rings() {
                        break;
                    }
                    std::hint::spin_loop();
                }
                // On a busy machine the host may need this processor to have work for us.
                thread::yield_now();
                continue;
            }
            self.park(deadline);
            idle_since = None;
        }
    }

    fn park(&self, deadline: Option<u64>) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        // Whatever a test turns from outside wakes the thread too; a limit costs nothing.
        let limit = Duration::from_millis(20);
        self.inbox.park(match deadline {
            Some(at) => limit.min(Duration::from_nanos(at.saturating_sub(self.now()))),
            None => limit,
        });
    }
}

/// A bus with a software controller on it.
#[derive(Debug)]
pub struct MockBus {
    shared: Arc<Shared>,
    chip: Chip,
    thread: Option<JoinHandle<()>>,
}

impl MockBus {
    /// Puts a controller with its disks on a new bus.
    ///
    /// # Panics
    ///
    /// If the system gives no thread to a threaded bus.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let Options { chip, disks, mode, bouncing, base, bytes } = options;
        let mut model = Model::new(chip);
        for (slot, disk) in disks.into_iter().enumerate().take(chip.phys.into()) {
            // The slot is empty, and there are as many as phys.
            let _ = model.add_disk(slot as u8, disk);
        }
        let shared = Arc::new(Shared {
            model: Mutex::new(Faulty::new(model)),
            arena: Arena::new(base, bytes, bouncing && mode != Mode::Threaded),
            mode,
            clock: AtomicU64::new(0),
            started: Instant::now(),
            inbox: Inbox::default(),
            stop: AtomicBool::new(false),
        });
        let thread = (mode == Mode::Threaded).then(|| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(chip.name.into())
                .spawn(move || shared.serve())
                .expect("the system gives a thread to the software controller")
        });
        Self { shared, chip, thread }
    }

    /// The same with faults around the controller.
    ///
    /// # Panics
    ///
    /// As [`MockBus::new`].
    #[must_use]
    pub fn with_faults(options: Options, plan: &Plan) -> Self {
        let bus = Self::new(options);
        bus.set_faults(plan);
        bus
    }

    /// Runs at most `count` pieces of the firmware's work; returns how many there were.
    pub fn step(&self, count: usize) -> usize {
        self.shared.run(&mut self.shared.model(), count)
    }

    /// Runs the firmware until it has nothing to do at present; returns how many pieces of work
    /// there were.
    pub fn run_until_idle(&self) -> usize {
        self.step(MOST_STEPS)
    }

    /// Lets virtual time pass and runs the firmware until it has nothing to do. Does nothing on a
    /// threaded bus, whose time passes by itself.
    pub fn advance(&self, time: Duration) {
        if self.shared.mode != Mode::Threaded {
            MockDelay(Arc::clone(&self.shared)).delay_ns_u64(time.as_nanos() as u64);
        }
    }

    /// Something to wait with: virtual time, in which the firmware runs, or on a threaded bus the
    /// real one.
    #[must_use]
    pub fn delay(&self) -> MockDelay {
        MockDelay(Arc::clone(&self.shared))
    }

    /// Calls `work` with the controller, between two pieces of its work.
    pub fn with_model<T>(&self, work: impl FnOnce(&mut Model) -> T) -> T {
        let done = work(self.shared.model().model_mut());
        if self.shared.mode == Mode::Threaded {
            self.shared.inbox.call();
        }
        done
    }

    /// Lays these faults around the controller from now on, in place of those that there were:
    /// moments count from here.
    pub fn set_faults(&self, plan: &Plan) {
        self.with_faulty(|faulty| faulty.set_faults(plan));
    }

    /// Takes all faults away; what they have broken stays so.
    pub fn clear_faults(&self) {
        self.with_faulty(Faulty::clear_faults);
    }

    /// What faults have done on this bus, the oldest first.
    #[must_use]
    pub fn fault_log(&self) -> Vec<FaultEvent> {
        self.shared.model().fault_log()
    }

    /// How far the run with the present faults has got; zeros without faults. A plan of no fault
    /// counts nothing: to count without one, install one whose moment never comes.
    #[must_use]
    pub fn fault_counts(&self) -> Counts {
        self.shared.model().counts()
    }

    fn with_faulty(&self, work: impl FnOnce(&mut Faulty)) {
        work(&mut self.shared.model());
        if self.shared.mode == Mode::Threaded {
            self.shared.inbox.call();
        }
    }

    /// Takes the controller's access to memory away, as turning its bus mastering off does: from now
    /// on each of its DMA accesses fails, and is counted.
    pub fn cut_off(&self) {
        self.shared.arena.cut_off(true);
    }

    /// Gives the controller its access to memory back.
    pub fn restore_dma(&self) {
        self.shared.arena.cut_off(false);
    }

    /// Whether the controller's access to memory is taken away.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.shared.arena.is_cut_off()
    }

    /// DMA accesses that the controller tried while it had none.
    #[must_use]
    pub fn dma_after_cut_off(&self) -> u64 {
        self.shared.arena.refused()
    }

    /// Whether the controller's interrupt line is up.
    #[must_use]
    pub fn interrupt_pending(&self) -> bool {
        self.shared.model().interrupt_pending()
    }

    /// Time on the bus: virtual, or on a threaded bus since it was made.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.shared.now())
    }

    /// Time on the bus, in milliseconds: what `tick` wants.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.shared.now() / 1_000_000
    }

    /// Bytes of DMA memory that are set aside at present.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.shared.arena.pages_taken() * 4096
    }
}

impl Drop for MockBus {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.stop.store(true, Ordering::Relaxed);
            self.shared.inbox.call();
            // A firmware that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Bus for MockBus {
    type Registers = MockRegisters;
    type Dma = MockDma;

    fn registers(&self) -> MockRegisters {
        MockRegisters(Arc::clone(&self.shared))
    }

    fn allocate(&self, bytes: usize, alignment: usize) -> Result<MockDma, BusError> {
        match self.shared.arena.allocate(bytes, alignment) {
            Some(region) => Ok(MockDma::new(region, bytes)),
            None => Err(BusError(format!(
                "setting {bytes} bytes of DMA memory aside at a multiple of {alignment} found no such piece left in {:?}; ask for less, or make the mock bus with more bytes",
                self.shared.arena
            ))),
        }
    }

    fn pci_id(&self) -> (u16, u16) {
        (0x1000, self.chip.device_id)
    }
}

/// The register window of a software controller.
#[derive(Debug, Clone)]
pub struct MockRegisters(Arc<Shared>);

impl Registers for MockRegisters {
    fn read32(&self, offset: u16) -> u32 {
        let mut model = self.0.model();
        model.access_at(|| self.0.now());
        let value = model.read32(offset.into());
        self.0.auto_step(&mut model);
        value
    }

    fn write32(&self, offset: u16, value: u32) {
        self.0.write(Write { offset: offset.into(), value: value.into(), wide: false });
    }

    fn write64(&self, offset: u16, value: u64) {
        self.0.write(Write { offset: offset.into(), value, wide: true });
    }

    fn cut_off(&self) {
        self.0.arena.cut_off(true);
    }
}

/// Waits on the bus's own time.
#[derive(Debug, Clone)]
pub struct MockDelay(Arc<Shared>);

impl MockDelay {
    fn delay_ns_u64(&self, ns: u64) {
        let shared = &self.0;
        if shared.mode == Mode::Threaded {
            if ns < 200_000 {
                thread::yield_now();
                let until = Instant::now() + Duration::from_nanos(ns);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            } else {
                thread::sleep(Duration::from_nanos(ns));
            }
            return;
        }
        // Time stops wherever the firmware has something to do by itself.
        let mut model = lock(&shared.model);
        let end = shared.now() + ns;
        shared.run(&mut model, MOST_STEPS);
        while let Some(at) = model.deadline().filter(|at| *at <= end) {
            shared.clock.fetch_max(at, Ordering::Relaxed);
            let idle = shared.run(&mut model, MOST_STEPS) == 0;
            // What was due may be nothing that counts as work, as an interrupt that was held back.
            if idle && model.deadline().is_some_and(|next| next <= at) {
                break;
            }
        }
        shared.clock.store(end, Ordering::Relaxed);
        shared.run(&mut model, MOST_STEPS);
    }
}

impl DelayNs for MockDelay {
    fn delay_ns(&mut self, ns: u32) {
        self.delay_ns_u64(ns.into());
    }

    fn delay_us(&mut self, us: u32) {
        self.delay_ns_u64(u64::from(us) * 1_000);
    }

    fn delay_ms(&mut self, ms: u32) {
        self.delay_ns_u64(u64::from(ms) * 1_000_000);
    }
}
