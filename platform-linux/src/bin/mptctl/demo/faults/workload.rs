//! The work that goes on while things go wrong: write, flush, read back and compare, in rounds, with
//! every command on the books.

use std::collections::VecDeque;
use std::time::Duration;

use fusion_mpt::controller::Health;
use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::scsi::{Cdb, Sense, SenseKey};
use fusion_mpt::sgl::Direction;
use fusion_mpt_linux::disk::{Disk, wait};
use fusion_mpt_linux::ended::Ended;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::{Buffer, Host, Request};
use fusion_mpt_linux::interrupt;
use fusion_mpt_linux::pattern::Pattern;
use fusion_mpt_linux::silence::{self, Silence};

use super::super::pump::Piece;
use super::super::verified::compare;
use super::books::Books;
use crate::progress::Progress;

/// Commands outstanding at once.
const DEPTH: usize = 32;
/// The longest piece, in bytes.
pub(super) const PIECE_BYTES: usize = 16 << 10;
/// How often a command is sent before it counts as lost.
const TRIES: u32 = 50;
/// How long a disk that was pulled is waited for.
const ABSENCE_LIMIT: Duration = Duration::from_secs(60);
/// Between two tries of a command that its disk does not take at present.
const PATIENCE: Duration = Duration::from_millis(10);
/// How often a disk may lose its cache while the same blocks are written.
const REWRITES: u32 = 10;
/// How often, a second apart, the pool is tried to be full: a device that was throttled takes its
/// time to be given as much again.
const FILLS: u32 = 60;
/// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED, and what is like it (SPC-5 annex F).
const POWER_ON: u8 = 0x29;

/// A disk with what is to be on it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) disk: Disk,
    pub(super) pattern: Pattern,
    pub(super) pieces: Vec<Piece>,
}

/// What to do with a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Write,
    Flush,
    Read,
}

/// One command's worth of work, sent until it is done.
#[derive(Clone, Copy, Debug)]
struct Job {
    part: usize,
    piece: Piece,
    what: What,
    slot: usize,
    first: Option<Duration>,
    tries: u32,
    /// Since when its disk is not there.
    absent_since: Option<Duration>,
}

/// The work and what came of it.
pub(super) struct Workload {
    pub(super) parts: Vec<Part>,
    pub(super) books: Books,
    /// Commands that were sent again, for whatever reason.
    pub(super) repeats: u64,
    /// Pieces that were written again because their disk had lost its cache.
    pub(super) rewritten: u64,
    /// How many pieces of each part have been flushed: they are the first ones.
    pub(super) flushed: Vec<usize>,
    /// Blocks that were read back at the end and were right.
    pub(super) verified_blocks: u64,
    /// What was lost, as sentences.
    pub(super) lost: Vec<String>,
    buffer: Buffer,
    /// Disks that said that they had been without power.
    cache_lost: Vec<bool>,
    progress: Progress,
    done: u64,
}

impl Workload {
    pub(super) fn new(
        host: &mut dyn Host,
        parts: Vec<Part>,
        progress: Progress,
    ) -> Result<Self, Error> {
        let buffer = host.allocate(DEPTH * PIECE_BYTES)?;
        let count = parts.len();
        Ok(Self {
            parts,
            books: Books::default(),
            repeats: 0,
            rewritten: 0,
            flushed: vec![0; count],
            verified_blocks: 0,
            lost: Vec::new(),
            buffer,
            cache_lost: vec![false; count],
            progress,
            done: 0,
        })
    }

    /// Commands that a run takes at least.
    pub(super) fn least(parts: &[Part], rounds: usize) -> u64 {
        let pieces: usize = parts.iter().map(|part| part.pieces.len()).sum();
        (pieces * 3 + parts.len() * rounds) as u64
    }

    /// Blocks that there are to write.
    pub(super) fn blocks(&self) -> u64 {
        let pieces = self.parts.iter().flat_map(|part| &part.pieces);
        pieces.map(|piece| u64::from(piece.blocks)).sum()
    }

    /// Writes, flushes and reads back each round's pieces, and all of them at the end.
    ///
    /// # Errors
    ///
    /// What ended the controller; [`Error::Interrupted`].
    pub(super) fn run(&mut self, host: &mut dyn Host, rounds: usize) -> Result<(), Error> {
        for round in 0..rounds {
            let ranges: Vec<(usize, usize)> = self
                .parts
                .iter()
                .map(|part| {
                    let share = part.pieces.len().div_ceil(rounds);
                    let end = ((round + 1) * share).min(part.pieces.len());
                    ((round * share).min(end), end)
                })
                .collect();
            self.write(host, &ranges)?;
            self.work(host, self.jobs(&ranges, What::Read, true))?;
        }
        let all: Vec<(usize, usize)> =
            self.parts.iter().map(|part| (0, part.pieces.len())).collect();
        self.verified_blocks = 0;
        self.work(host, self.jobs(&all, What::Read, true))?;
        self.progress.end();
        Ok(())
    }

    /// Writes these pieces of each part and flushes them; again where a disk was without power
    /// meanwhile, since what was in its cache is gone, as it may be.
    fn write(&mut self, host: &mut dyn Host, ranges: &[(usize, usize)]) -> Result<(), Error> {
        let mut to_do = ranges.to_vec();
        for attempt in 0..=REWRITES {
            self.cache_lost.fill(false);
            let writes = self.jobs(&to_do, What::Write, false);
            self.rewritten += if attempt == 0 { 0 } else { writes.len() as u64 };
            self.work(host, writes)?;
            let none = Piece { lba: 0, blocks: 0 };
            let flushes = to_do.iter().enumerate().filter(|(_, (first, end))| first < end);
            let flushes = flushes.map(|(part, _)| job(part, none, What::Flush)).collect();
            self.work(host, flushes)?;
            for (part, range) in to_do.iter_mut().enumerate() {
                if self.cache_lost.get(part).is_some_and(|lost| *lost) {
                    continue;
                }
                if let Some(flushed) = self.flushed.get_mut(part) {
                    *flushed = (*flushed).max(range.1);
                }
                *range = (0, 0);
            }
            if to_do.iter().all(|(first, end)| first >= end) {
                return Ok(());
            }
        }
        self.lost.push(format!("a disk lost its cache {REWRITES} times while it was written"));
        Ok(())
    }

    /// A job for each piece of the ranges, the parts taking turns; forwards or backwards.
    fn jobs(&self, ranges: &[(usize, usize)], what: What, backwards: bool) -> Vec<Job> {
        let mut jobs = Vec::new();
        let longest = ranges.iter().map(|(first, end)| end - first).max().unwrap_or(0);
        for index in 0..longest {
            for (part, (first, end)) in ranges.iter().enumerate() {
                let piece = self.parts.get(part).and_then(|part| part.pieces.get(first + index));
                if let Some(piece) = piece.filter(|_| first + index < *end) {
                    jobs.push(job(part, *piece, what));
                }
            }
        }
        if backwards {
            jobs.reverse();
        }
        jobs
    }

    /// Sends all jobs until each is done or lost.
    fn work(&mut self, host: &mut dyn Host, mut jobs: Vec<Job>) -> Result<(), Error> {
        let mut ready: VecDeque<usize> = (0..jobs.len()).collect();
        let mut later: VecDeque<(Duration, usize)> = VecDeque::new();
        let mut free: Vec<usize> = (0..DEPTH).rev().collect();
        let mut left = jobs.len();
        let mut ended: Vec<(u64, Ended)> = Vec::new();
        let mut silence = Silence::begin(host);
        while left > 0 {
            interrupt::check()?;
            while later.front().is_some_and(|(at, _)| *at <= host.now()) {
                ready.extend(later.pop_front().map(|(_, index)| index));
            }
            while let Some(index) = ready.pop_front() {
                let Some(job) = jobs.get_mut(index) else { continue };
                let Some(slot) = free.pop() else {
                    ready.push_front(index);
                    break;
                };
                job.slot = slot;
                match self.submit(host, job, index) {
                    Ok(true) => {}
                    Ok(false) => {
                        free.push(slot);
                        ready.push_front(index);
                        break;
                    }
                    Err(error) if !works(host) => return Err(error),
                    // Its disk is not there.
                    Err(error) => {
                        free.push(slot);
                        let since = *job.absent_since.get_or_insert(host.now());
                        if host.now() - since > ABSENCE_LIMIT {
                            self.lost.push(error.to_string());
                            left -= 1;
                        } else {
                            later.push_back((host.now() + PATIENCE, index));
                        }
                    }
                }
            }
            let polled = host.poll(&mut |completion| {
                let sense = completion.sense.to_vec();
                ended.push((completion.cookie, Ended { outcome: completion.outcome, sense }));
            });
            for (number, ended) in ended.drain(..) {
                let Some(index) = self.books.complete(number, &ended) else { continue };
                let Some(job) = jobs.get_mut(index) else { continue };
                free.push(job.slot);
                match self.judge(host, job, &ended) {
                    Next::Done => {
                        left -= 1;
                        silence.end(host);
                    }
                    Next::Again => ready.push_back(index),
                    Next::Later => later.push_back((host.now() + PATIENCE, index)),
                }
            }
            if polled? == 0 {
                host.pause();
            }
            if silence.is_too_long(host) {
                return Err(Error::failed(format!(
                    "{left} commands have not been done for {} s",
                    silence::LIMIT.as_secs()
                )));
            }
        }
        Ok(())
    }

    fn submit(&mut self, host: &mut dyn Host, job: &mut Job, index: usize) -> Result<bool, Error> {
        let Some(part) = self.parts.get(job.part) else { return Ok(false) };
        let bytes = job.piece.bytes(&part.disk);
        let offset = job.slot * PIECE_BYTES;
        let Piece { lba, blocks } = job.piece;
        let (cdb, direction) = match job.what {
            What::Write => (Cdb::write(lba, blocks), Direction::Write),
            What::Read => (Cdb::read(lba, blocks), Direction::Read),
            What::Flush => (Cdb::synchronize_cache_10(0, 0), Direction::None),
        };
        let mut data = vec![0xa5; bytes];
        if job.what == What::Write {
            part.pattern.fill(lba, part.disk.block_bytes as usize, &mut data);
        }
        // What an earlier transfer left in the buffer must not pass for this one's data.
        self.buffer.write(offset, &data);
        let taken = host.submit(&Request {
            target: part.disk.target,
            lun: part.disk.lun,
            cdb: cdb.as_bytes(),
            direction,
            buffer: Some(&self.buffer),
            offset,
            bytes: bytes as u32,
            cookie: self.books.next(),
        })?;
        if taken {
            self.books.accept(index);
            self.repeats += u64::from(job.first.is_some());
            job.first.get_or_insert(host.now());
            job.absent_since = None;
        }
        Ok(taken)
    }

    /// What to do with a job whose command has come back.
    fn judge(&mut self, host: &mut dyn Host, job: &mut Job, ended: &Ended) -> Next {
        let Some(part) = self.parts.get(job.part) else { return Next::Done };
        let bytes = job.piece.bytes(&part.disk);
        let whole = ended.transferred() as usize == bytes;
        if ended.outcome.is_good() && whole {
            if job.what == What::Read {
                let mut found = vec![0; bytes];
                self.buffer.read(job.slot * PIECE_BYTES, &mut found);
                match compare(&part.disk, &job.piece, part.pattern, &found, "was read back") {
                    Ok(()) => self.verified_blocks += u64::from(job.piece.blocks),
                    Err(error) => self.lost.push(error.to_string()),
                }
            }
            return self.end(host, job);
        }
        let attention = Sense::parse(&ended.sense)
            .is_some_and(|sense| sense.key == SenseKey::UNIT_ATTENTION && sense.asc == POWER_ON);
        if attention && let Some(lost) = self.cache_lost.get_mut(job.part) {
            *lost = true;
        }
        host.note_sent_again(u64::from(ended.was_ended_by_recovery()));
        job.tries += 1;
        let absent = matches!(ended.outcome, Outcome::Failed(Failure::NoDevice));
        if absent {
            let since = *job.absent_since.get_or_insert(host.now());
            if host.now() - since < ABSENCE_LIMIT {
                job.tries -= 1;
                return Next::Later;
            }
        }
        if absent || job.tries >= TRIES {
            self.lost.push(format!(
                "target {} did not do a command in {} tries: {}",
                part.disk.target.0,
                job.tries,
                ended.describe()
            ));
            return self.end(host, job);
        }
        let refused = matches!(ended.outcome, Outcome::Complete { .. }) && !attention;
        if refused { Next::Later } else { Next::Again }
    }

    fn end(&mut self, host: &mut dyn Host, job: &Job) -> Next {
        self.books.done(job.first.unwrap_or_default(), host.now());
        self.done += 1;
        self.progress.at(self.done, String::new);
        Next::Done
    }

    /// Whether every slot of the pool can be taken at once: then none has leaked. Returns how many
    /// could be.
    ///
    /// # Errors
    ///
    /// What ended the controller.
    pub(super) fn fill_pool(&mut self, host: &mut dyn Host, slots: u16) -> Result<u16, Error> {
        let targets: Vec<_> = host.targets().iter().map(|target| target.id).collect();
        let cdb = Cdb::test_unit_ready();
        let mut taken = 0;
        for _ in 0..FILLS {
            taken = 0;
            while taken <= slots {
                let turn = usize::from(taken) % targets.len().max(1);
                let Some(target) = targets.get(turn) else { break };
                let request = Request {
                    cookie: self.books.next(),
                    ..Request::without_data((*target, 0), cdb.as_bytes())
                };
                if !host.submit(&request)? {
                    break;
                }
                self.books.accept(0);
                taken += 1;
            }
            while self.books.outstanding() > 0 {
                let books = &mut self.books;
                let found = host.poll(&mut |completion| {
                    let sense = completion.sense.to_vec();
                    let ended = Ended { outcome: completion.outcome, sense };
                    books.complete(completion.cookie, &ended);
                })?;
                if found == 0 {
                    host.pause();
                }
            }
            if taken == slots {
                break;
            }
            wait(host, Duration::from_secs(1))?;
        }
        Ok(taken)
    }
}

/// What becomes of a job.
enum Next {
    Done,
    Again,
    Later,
}

const fn job(part: usize, piece: Piece, what: What) -> Job {
    Job { part, piece, what, slot: 0, first: None, tries: 0, absent_since: None }
}

/// Whether there is a controller to work with.
pub(super) fn works(host: &dyn Host) -> bool {
    !matches!(host.health(), Health::Gone | Health::Offline)
}
