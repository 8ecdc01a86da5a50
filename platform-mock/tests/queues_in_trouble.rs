//! Queues in threads of their own while the controller is reset under them, again and again: each
//! command ends once, on its own queue, and every queue works afterwards.

mod fault_rig;
mod hostile;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fault_rig::books::{Ask, Books, End};
use fault_rig::buffers::Buffers;
use fault_rig::content::{STATIC, WRITTEN};
use fusion_mpt::controller::{Action, Health};
use fusion_mpt::error::{Error, SubmitError};
use fusion_mpt::generation::Mpi2;
use fusion_mpt::io_queue::Queue;
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::Failure;
use fusion_mpt::recovery::{InFlight, Policy};
use fusion_mpt::request::{Command, Device, TaskAttribute};
use fusion_mpt::scsi::Lun;
use fusion_mpt::targets::TargetId;
use fusion_mpt_mock::in_process::{MockBus, MockDma, Options};
use fusion_mpt_mock::model::{Chip, disks};
use hostile::{DISK, Probe, core_chip, start};

type IoQueue = Queue<'static, Mpi2, Probe, MockDma>;

const QUEUES: u8 = 4;
const DEPTH: usize = 12;
const RESETS: u32 = 5;
/// A busy machine takes longer; nothing here may hang.
const LIMIT: Duration = Duration::from_secs(60);

/// What a worker may read of the others.
#[derive(Default)]
struct Shared {
    /// Resets so far.
    resets: AtomicU32,
    /// No more resets: finish, and show that the queue works.
    enough: AtomicBool,
    /// The controller is gone for good.
    gone: AtomicBool,
}

struct Worker<'s> {
    queue: &'s mut IoQueue,
    target: u16,
    device: Device,
    books: Books,
    again: VecDeque<Ask>,
    ended: [u64; 3],
    place: u64,
}

impl Worker<'_> {
    fn submit(&mut self, ask: Ask, now_ms: u64) -> Result<(), SubmitError> {
        let cookie = self.books.begin(self.target, ask, 0, now_ms);
        let segments = self.books.segments(cookie);
        let command = Command {
            lun: Lun::peripheral(0),
            cdb: &ask.cdb(),
            direction: ask.direction(),
            data_length: ask.bytes() as u32,
            segments: &segments,
            attribute: TaskAttribute::Simple,
            tag: None,
            timeout_ms: 30_000,
            cookie,
        };
        match self.queue.submit(self.device, &command) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.books.strike(cookie);
                Err(error)
            }
        }
    }

    fn next_ask(&mut self) -> Ask {
        self.again.pop_front().unwrap_or_else(|| {
            self.place += 1;
            match self.place % 3 {
                0 => Ask::Write { lba: WRITTEN.start + self.place % 40 * 4, blocks: 4 },
                _ => Ask::Read { lba: STATIC.start + self.place % 50, blocks: 4 },
            }
        })
    }

    /// Takes what came back; what was handed back is to be sent again.
    fn collect(&mut self, now_ms: u64) {
        let books = &mut self.books;
        self.queue.poll(|completion| books.note(&completion));
        self.queue.tick(now_ms, |completion| books.note(&completion));
        for ended in std::mem::take(&mut self.books.ended) {
            match ended.end {
                End::Good => self.ended[0] += 1,
                End::NotNow(_) => self.again.push_back(ended.ask),
                End::Failed(Failure::HandedBack) => {
                    self.ended[1] += 1;
                    self.again.push_back(ended.ask);
                }
                End::Failed(
                    Failure::ControllerReset
                    | Failure::ControllerFault(_)
                    | Failure::ControllerGone,
                ) => self.ended[2] += 1,
                other => panic!("{:?} of disk {} ended as {other:?}", ended.ask, ended.target),
            }
        }
    }

    /// Works until there are enough resets, and for a hundred good commands more.
    fn work(&mut self, bus: &MockBus, shared: &Shared) {
        let started = Instant::now();
        let mut good_at_the_end = None;
        loop {
            let now_ms = bus.now_ms();
            self.collect(now_ms);
            if shared.gone.load(Relaxed) && self.books.out.is_empty() {
                return;
            }
            if shared.enough.load(Relaxed) {
                let first = *good_at_the_end.get_or_insert(self.ended[0]);
                if self.ended[0] >= first + 100 {
                    break;
                }
            }
            while self.books.out.len() < DEPTH {
                let ask = self.next_ask();
                let writes = |out: &fault_rig::books::Out| out.ask == ask;
                let twice = matches!(ask, Ask::Write { .. }) && self.books.out.values().any(writes);
                if twice {
                    break;
                }
                match self.submit(ask, now_ms) {
                    Ok(()) => {}
                    Err(
                        SubmitError::Held
                        | SubmitError::Throttled
                        | SubmitError::NotOperational
                        | SubmitError::Gone,
                    ) => {
                        self.again.push_back(ask);
                        break;
                    }
                    Err(other) => panic!("{ask:?} was refused: {other}"),
                }
            }
            assert!(started.elapsed() < LIMIT, "a queue hangs: {} out", self.books.out.len());
            std::thread::yield_now();
        }
        while !self.books.out.is_empty() {
            self.collect(bus.now_ms());
            assert!(started.elapsed() < LIMIT, "{} never completed", self.books.out.len());
            std::thread::yield_now();
        }
        self.books.buffers.assert_all_untouched();
    }
}

/// How each queue's commands ended: good, handed back, failed.
fn in_threads(chip: Chip, in_flight: InFlight, pulled: bool) -> Vec<[u64; 3]> {
    let bus = MockBus::new(Options::threaded(chip, disks(QUEUES.into(), DISK)));
    fault_rig::prepare(&bus, QUEUES.into());
    let wants = Wants { commands: u16::from(QUEUES) * 16, queues: QUEUES, ..Wants::default() };
    let (wire, started) = start::<Mpi2>(&bus, &wants, core_chip(&bus), u64::MAX);
    let mut driver = started.unwrap_or_else(|error| panic!("{error}")).driver;
    while driver.next_action().is_some() {}
    driver.set_policy(Policy { in_flight, ..Policy::default() });
    let mut queues: Vec<IoQueue> = std::iter::from_fn(|| driver.take_queue()).collect();
    assert_eq!(queues.len() + 1, usize::from(QUEUES));
    let shared = Shared::default();
    let devices: Vec<_> =
        (0..QUEUES).map(|id| driver.device(TargetId(id.into())).expect("present")).collect();
    let ends = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, queue) in queues.iter_mut().enumerate() {
            let books = Books::new(Buffers::new(&bus, DEPTH * 2));
            let (target, device) = (index as u16 + 1, devices[index + 1]);
            let (bus, shared) = (&bus, &shared);
            threads.push(scope.spawn(move || {
                let again = VecDeque::new();
                let (ended, place) = ([0; 3], 0);
                let mut worker = Worker { queue, target, device, books, again, ended, place };
                worker.work(bus, shared);
                worker.ended
            }));
        }
        let began = Instant::now();
        while threads.iter().any(|thread| !thread.is_finished()) {
            driver.poll(|_| panic!("nothing was asked on queue 0"));
            driver.tick(bus.now_ms(), |_| panic!("nothing was asked on queue 0"));
            while let Some(action) = driver.next_action() {
                match action {
                    Action::ResetNeeded(_) => reset(&mut driver, &bus, &shared),
                    Action::ControllerGone => shared.gone.store(true, Relaxed),
                    _ => {}
                }
            }
            let resets = shared.resets.load(Relaxed);
            if driver.health() == Health::Running && !shared.enough.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(30));
                match resets {
                    RESETS if pulled => wire.die(),
                    RESETS => shared.enough.store(true, Relaxed),
                    _ => bus.with_model(|model| model.fault(0x1000 + resets as u16)),
                }
            }
            assert!(began.elapsed() < LIMIT, "the threads hang: {:?}", driver.health());
            std::thread::sleep(Duration::from_millis(1));
        }
        threads.into_iter().map(|thread| thread.join().expect("a worker")).collect()
    });
    assert!(queues.iter().all(|queue| queue.outstanding() == 0));
    assert_eq!(shared.resets.load(Relaxed), RESETS);
    ends
}

fn reset(driver: &mut hostile::Driver<Mpi2>, bus: &MockBus, shared: &Shared) {
    for _ in 0..20 {
        let mut delay = bus.delay();
        let nothing = |_: fusion_mpt::io_queue::Completion<'_>| panic!("not of queue 0");
        match driver.reset(bus.now_ms(), &mut delay, nothing) {
            Ok(()) => {
                shared.resets.fetch_add(1, Relaxed);
                return;
            }
            // A worker that had no processor for a while.
            Err(Error::QueuesHeld) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the queues never let go");
}

#[test]
fn commands_of_queues_in_threads_are_handed_back_and_sent_again() {
    for ended in in_threads(Chip::SAS3008, InFlight::HandBack, false) {
        assert!(ended[0] > 100 && ended[1] > 0 && ended[2] == 0, "{ended:?}");
    }
}

#[test]
fn commands_of_queues_in_threads_fail_at_a_reset_where_the_policy_says_so() {
    for ended in in_threads(Chip::SAS3816, InFlight::Fail, false) {
        assert!(ended[0] > 100 && ended[1] == 0 && ended[2] > 0, "{ended:?}");
    }
}

#[test]
fn queues_in_threads_end_everything_when_the_card_is_pulled() {
    for ended in in_threads(Chip::SAS3008, InFlight::HandBack, true) {
        assert!(ended[0] > 100 && ended[2] > 0, "{ended:?}");
    }
}
