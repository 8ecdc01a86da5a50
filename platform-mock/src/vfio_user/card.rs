//! A card: a software controller that runs by itself, on a thread of its own.

use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::inbox::Inbox;
use crate::model::{Chip, Ioc, Model, State};

use super::guest_memory::GuestMemory;
use super::interrupts::Interrupts;

/// For how long the firmware works before it interrupts the host and lets others have a look.
const ROUND_NS: u64 = 100_000;
/// Nothing that could happen to an idle card is later noticed than this.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);
/// A message unit reset is over sooner; a diagnostic reset is not, and its host has to wait.
const LONGEST_SETTLING_NS: u64 = 3_000_000;
/// How long is waited between two looks meanwhile.
const PAUSE: Duration = Duration::from_micros(50);
/// How much time passes on a card without a thread each time that it is looked at.
const STILL_STEP_NS: u64 = 5_000;

#[derive(Debug)]
pub(crate) struct Shared {
    model: Mutex<Model>,
    /// How many wait for the model, so that the thread lets go of it.
    wanted: AtomicUsize,
    /// Register writes that nobody waits for.
    pub(crate) inbox: Inbox,
    pub(crate) memory: RwLock<GuestMemory>,
    pub(crate) interrupts: Mutex<Interrupts>,
    started: Instant,
    /// Nanoseconds since the start, where they pass only as the card is looked at.
    clock: Option<AtomicU64>,
    stop: AtomicBool,
}

/// What was behind a lock, even if its last holder panicked: every value here is whole between
/// two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn new(model: Model, clock: Option<AtomicU64>) -> Arc<Self> {
        Arc::new(Self {
            model: Mutex::new(model),
            wanted: AtomicUsize::new(0),
            inbox: Inbox::default(),
            memory: RwLock::default(),
            interrupts: Mutex::default(),
            started: Instant::now(),
            clock,
            stop: AtomicBool::new(false),
        })
    }

    fn now(&self) -> u64 {
        match &self.clock {
            Some(clock) => clock.fetch_add(STILL_STEP_NS, Ordering::Relaxed),
            None => u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Lets a little time pass.
    fn pause(&self) {
        match &self.clock {
            Some(clock) => _ = clock.fetch_add(PAUSE.as_nanos() as u64, Ordering::Relaxed),
            None => thread::sleep(PAUSE),
        }
    }

    /// Does something to the model between two pieces of its work, tells the host of what that
    /// changed, and wakes the firmware.
    pub(crate) fn with_model<T>(&self, work: impl FnOnce(&mut Model) -> T) -> T {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        let mut model = lock(&self.model);
        self.wanted.fetch_sub(1, Ordering::AcqRel);
        // The firmware knows the time of an access, not of its last step. What the host wrote
        // before comes first.
        model.set_time(self.now());
        self.inbox.take(&mut *model);
        let done = work(&mut model);
        self.interrupt(&mut model);
        if self.clock.is_some() {
            // There is no thread to do it.
            self.round(&mut model);
        }
        drop(model);
        self.inbox.call();
        done
    }

    /// Lets the firmware look at its doorbell before the host can do anything else: it takes the
    /// word, and a message unit reset is over. SeaBIOS's driver waits for neither.
    pub(crate) fn settle(&self, model: &mut Model) {
        let memory = self.memory.read().unwrap_or_else(PoisonError::into_inner);
        let end = self.now() + LONGEST_SETTLING_NS;
        model.step(&*memory, self.now());
        while model.state() == State::Reset && self.now() < end {
            self.pause();
            model.step(&*memory, self.now());
        }
    }

    fn interrupt(&self, model: &mut Model) {
        let vectors = model.take_vectors();
        let knows_vectors = !model.chip().is_mpi1();
        lock(&self.interrupts).deliver(model.interrupt_pending(), vectors, knows_vectors);
    }

    /// What the thread does.
    fn run(&self) {
        // Coalesced interrupts are due within microseconds, which the system's usual slack would
        // make many of. Without it they only come later.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        while !self.stop.load(Ordering::Acquire) {
            let mut model = lock(&self.model);
            model.set_time(self.now());
            self.inbox.take(&mut *model);
            if self.round(&mut model) {
                drop(model);
                while self.wanted.load(Ordering::Acquire) > 0 {
                    thread::yield_now();
                }
                continue;
            }
            let now = self.now();
            let sleep = model.deadline().map_or(LONGEST_SLEEP, |at| {
                Duration::from_nanos(at.saturating_sub(now)).min(LONGEST_SLEEP)
            });
            drop(model);
            self.inbox.park(sleep);
        }
    }

    /// Runs the firmware until it has nothing to do or its round is over; `false` if it had
    /// nothing to do at all.
    fn round(&self, model: &mut Model) -> bool {
        // Held for the round, so that memory that was taken away is not touched any more when the
        // client hears that it was.
        let memory = self.memory.read().unwrap_or_else(PoisonError::into_inner);
        let began = self.now();
        let mut now = began;
        let mut worked = false;
        while model.step(&*memory, now) {
            worked = true;
            now = self.now();
            if now - began >= ROUND_NS || self.wanted.load(Ordering::Acquire) > 0 {
                break;
            }
            self.inbox.take(model);
        }
        self.interrupt(model);
        worked
    }
}

/// A software controller as a card of its own: its firmware runs on a thread, its registers and
/// interrupts are there for whoever serves it as a PCI device ([`Server`](super::Server)).
#[derive(Debug)]
pub struct Card {
    pub(crate) shared: Arc<Shared>,
    chip: Chip,
    thread: Option<JoinHandle<()>>,
}

impl Card {
    /// Powers a card with this controller on.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn new(model: Model) -> io::Result<Arc<Card>> {
        let chip = *model.chip();
        let shared = Shared::new(model, None);
        let runner = Arc::clone(&shared);
        let thread = thread::Builder::new().name(chip.name.into()).spawn(move || runner.run())?;
        Ok(Arc::new(Card { shared, chip, thread: Some(thread) }))
    }

    /// A card without a thread, whose firmware works whenever its client does something, in a time
    /// of its own: the same client meets the same card each time.
    #[must_use]
    pub fn still(model: Model) -> Arc<Card> {
        let chip = *model.chip();
        Arc::new(Card { shared: Shared::new(model, Some(AtomicU64::new(0))), chip, thread: None })
    }

    /// The kind of chip.
    #[must_use]
    pub fn chip(&self) -> &Chip {
        &self.chip
    }

    /// Calls `work` with the controller, between two pieces of its work.
    pub fn with_model<T>(&self, work: impl FnOnce(&mut Model) -> T) -> T {
        self.shared.with_model(work)
    }

    /// How often the card has interrupted its host.
    #[must_use]
    pub fn interrupts(&self) -> u64 {
        lock(&self.shared.interrupts).sent
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.inbox.call();
        if let Some(thread) = self.thread.take() {
            // A firmware that panicked has said so already.
            let _ = thread.join();
        }
    }
}
