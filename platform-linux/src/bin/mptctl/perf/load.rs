//! The load: keeps a queue full, and measures what comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Direction;
use fusion_mpt_linux::disk::{Disk, refused};
use fusion_mpt_linux::ended::Ended;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::{Buffer, CommandQueue, Host, Request};
use fusion_mpt_linux::interrupt;
use fusion_mpt_linux::pattern::{Pattern, Random};
use fusion_mpt_linux::silence::{self, Silence};
use fusion_mpt_linux::tries::Tries;
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use crate::cli::Order;

/// The longest latency that is told apart, in nanoseconds: a minute.
const LONGEST_NS: u64 = 60_000_000_000;
/// Completions between two looks at the clock of the whole run.
const LOOKS: u32 = 32;
/// Bytes of data buffers, at most.
pub(crate) const MOST_BUFFER: u64 = 128 << 20;

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Time(Duration),
    Count(u64),
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) depth: u16,
    /// Blocks of each command.
    pub(crate) blocks: u32,
    /// Per cent of reads.
    pub(crate) read: u8,
    pub(crate) order: Order,
    pub(crate) limit: Limit,
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) commands: u64,
    pub(crate) reads: u64,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    /// Nanoseconds from submission to completion.
    pub(crate) latency: Histogram<u64>,
    /// CPU time of this thread; of a mock bus's controller too, as far as it runs here.
    pub(crate) cpu: Duration,
    pub(crate) register_reads: u64,
    pub(crate) register_writes: u64,
    pub(crate) batches: [u64; 8],
    pub(crate) polls: u64,
    pub(crate) idle_polls: u64,
    pub(crate) outstanding_peak: u16,
    /// Commands that were sent again, for whatever reason.
    pub(crate) again: u64,
    /// Those of them that recovery had ended.
    pub(crate) by_recovery: u64,
}

impl Measured {
    /// Adds what another queue did at the same time.
    pub(crate) fn add(&mut self, other: &Self) {
        self.commands += other.commands;
        self.reads += other.reads;
        self.bytes += other.bytes;
        self.elapsed = self.elapsed.max(other.elapsed);
        // Both have the same bounds, so that nothing can be out of them.
        let _ = self.latency.add(&other.latency);
        self.cpu += other.cpu;
        self.register_reads += other.register_reads;
        self.register_writes += other.register_writes;
        self.batches.iter_mut().zip(other.batches).for_each(|(sum, batch)| *sum += batch);
        self.polls += other.polls;
        self.idle_polls += other.idle_polls;
        self.outstanding_peak += other.outstanding_peak;
        self.again += other.again;
        self.by_recovery += other.by_recovery;
    }
}

/// One of the commands that are kept outstanding.
#[derive(Clone, Copy)]
struct Flight {
    lba: u64,
    direction: Direction,
    since: Instant,
    tries: Tries,
}

/// Memory for the data of one queue's commands, filled if some are to be written.
pub(crate) fn buffer(host: &mut dyn Host, disk: &Disk, load: &Load) -> Result<Buffer, Error> {
    let bytes = load.blocks * disk.block_bytes;
    let buffer = host.allocate(usize::from(load.depth) * bytes as usize)?;
    if load.read < 100 {
        fill(&buffer, disk, load);
    }
    Ok(buffer)
}

/// Runs the load on one disk by one queue. `others_stop` ends it early; `tell` hears how far it is:
/// milliseconds or commands, whichever the limit counts, and commands a second.
pub(crate) fn run(
    queue: &mut dyn CommandQueue,
    disk: &Disk,
    load: &Load,
    buffer: &Buffer,
    others_stop: &AtomicBool,
    tell: &mut dyn FnMut(u64, f64),
) -> Result<Measured, Error> {
    let bytes = load.blocks * disk.block_bytes;
    let places = disk.blocks / u64::from(load.blocks);
    if places == 0 {
        return Err(Error::usage(format!(
            "one command of {bytes} bytes is more than target {} holds",
            disk.target.0
        )));
    }
    let mut choose = Choose { random: Random::new(load.seed), next: 0, places, load: *load };
    let started = Instant::now();
    let none =
        Flight { lba: 0, direction: Direction::None, since: started, tries: Tries::of_many() };
    let mut flights = vec![none; load.depth.into()];
    let mut free: Vec<u16> = (0..load.depth).rev().collect();
    let mut again: Vec<u16> = Vec::new();
    let mut latency = Histogram::new_with_bounds(1, LONGEST_NS, 3)
        .map_err(|error| Error::failed(format!("cannot measure latencies: {error}")))?;

    let before = queue.counters();
    let (reads_before, writes_before) = queue.register_accesses();
    let cpu_before = thread_time();
    let (mut sent, mut done, mut reads, mut repeats) = (0u64, 0u64, 0u64, 0u64);
    let mut failure = None;
    let mut silence = Silence::begin(queue);
    let mut by_recovery = 0;
    let mut looks = 0;
    let mut stop = false;
    loop {
        // Fill the queue, repeats first.
        while !stop && failure.is_none() {
            let (slot, repeat) = match again.pop() {
                Some(slot) => (slot, true),
                None if matches!(load.limit, Limit::Count(count) if sent >= count) => break,
                None => match free.pop() {
                    Some(slot) => (slot, false),
                    None => break,
                },
            };
            let Some(flight) = flights.get_mut(usize::from(slot)) else { break };
            if !repeat {
                (flight.lba, flight.direction) = choose.next();
                flight.since = Instant::now();
                flight.tries = Tries::of_many();
            }
            let cdb = match flight.direction {
                Direction::Write => Cdb::write(flight.lba, load.blocks),
                _ => Cdb::read(flight.lba, load.blocks),
            };
            let request = Request {
                target: disk.target,
                lun: disk.lun,
                cdb: cdb.as_bytes(),
                direction: flight.direction,
                buffer: Some(buffer),
                offset: usize::from(slot) * bytes as usize,
                bytes,
                cookie: u64::from(slot),
            };
            if !queue.submit(&request)? {
                // The controller takes fewer at once than were asked for.
                if repeat {
                    again.push(slot)
                } else {
                    free.push(slot)
                }
                break;
            }
            sent += u64::from(!repeat);
        }
        let in_flight = flights.len() - free.len() - again.len();
        if in_flight == 0 && (stop || failure.is_some() || again.is_empty()) {
            break;
        }
        let found = queue.poll(&mut |completion| {
            let slot = completion.cookie as u16;
            let Some(flight) = flights.get_mut(usize::from(slot)) else { return };
            if completion.outcome.is_good() && completion.outcome.transferred() == bytes {
                let nanoseconds = flight.since.elapsed().as_nanos() as u64;
                latency.saturating_record(nanoseconds.max(1));
                done += 1;
                reads += u64::from(flight.direction == Direction::Read);
                free.push(slot);
                return;
            }
            let ended = Ended { outcome: completion.outcome, sense: completion.sense.to_vec() };
            if flight.tries.again(&ended) {
                repeats += 1;
                by_recovery += u64::from(ended.was_ended_by_recovery());
                again.push(slot);
            } else {
                free.push(slot);
                let cdb = match flight.direction {
                    Direction::Write => Cdb::write(flight.lba, load.blocks),
                    _ => Cdb::read(flight.lba, load.blocks),
                };
                failure.get_or_insert_with(|| refused(disk.target, cdb.as_bytes(), &ended));
            }
        })?;
        looks += found.max(1);
        if found == 0 {
            queue.pause();
        }
        if looks >= LOOKS || found == 0 {
            looks = 0;
            if found > 0 {
                silence.end(queue);
            } else if silence.is_too_long(queue) {
                return Err(Error::failed(format!(
                    "{in_flight} commands have not come back from target {} for {} s; the controller is reset now",
                    disk.target.0,
                    silence::LIMIT.as_secs()
                )));
            }
            let elapsed = started.elapsed();
            stop |= interrupt::asked() || others_stop.load(Ordering::Relaxed);
            let position = match load.limit {
                Limit::Time(time) => {
                    stop |= elapsed >= time;
                    elapsed.as_millis().min(time.as_millis()) as u64
                }
                Limit::Count(_) => done,
            };
            tell(position, done as f64 / elapsed.as_secs_f64().max(1e-9));
        }
    }
    let elapsed = started.elapsed();
    let cpu = thread_time().saturating_sub(cpu_before);
    interrupt::check()?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    let after = queue.counters();
    let (reads_after, writes_after) = queue.register_accesses();
    let mut batches = after.batches;
    for (batch, before) in batches.iter_mut().zip(before.batches) {
        *batch -= before;
    }
    Ok(Measured {
        commands: done,
        reads,
        bytes: done * u64::from(bytes),
        elapsed,
        latency,
        cpu,
        register_reads: reads_after - reads_before,
        register_writes: writes_after - writes_before,
        batches,
        polls: after.polls - before.polls,
        idle_polls: after.idle_polls - before.idle_polls,
        outstanding_peak: after.outstanding_peak,
        again: repeats,
        by_recovery,
    })
}

/// Chooses the next command.
struct Choose {
    random: Random,
    next: u64,
    places: u64,
    load: Load,
}

impl Choose {
    fn next(&mut self) -> (u64, Direction) {
        let place = match self.load.order {
            Order::Random => self.random.below(self.places),
            Order::Sequential => {
                let place = self.next;
                self.next = if place + 1 >= self.places { 0 } else { place + 1 };
                place
            }
        };
        let reads = match self.load.read {
            100 => true,
            0 => false,
            percent => self.random.below(100) < u64::from(percent),
        };
        let direction = if reads { Direction::Read } else { Direction::Write };
        (place * u64::from(self.load.blocks), direction)
    }
}

/// Data to write that no drive can take for zeros.
fn fill(buffer: &Buffer, disk: &Disk, load: &Load) {
    let mut data = vec![0; buffer.bytes()];
    Pattern::Seed(load.seed).fill(0, disk.block_bytes as usize, &mut data);
    buffer.write(0, &data);
}

/// CPU time that this thread has used.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
