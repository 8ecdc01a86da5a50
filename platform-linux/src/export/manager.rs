//! An export from its beginning to its end: which units, who serves them, and what happens to them
//! on the way.

mod keeper;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use fusion_mpt::generation::chips::Chip;
use fusion_mpt::scsi::Cdb;
use fusion_mpt::targets::{Target, TargetId};

use crate::affinity::Pinning;
use crate::disk;
use crate::error::Error;
use crate::export::engine::EngineCounters;
use crate::export::figures::Board;
pub use crate::export::figures::Summary;
pub use crate::export::notes::{Exported, Note, Watcher};
use crate::export::state::State;
use crate::export::ublk::control::Control;
use crate::export::ublk::inbox::Inbox;
use crate::export::ublk::server::{Server, Turn, refuse_all};
use crate::export::unit::{BUFFER_BYTES, Unit};
use crate::host::{Buffer, FurtherQueue, Host};
use crate::interrupt;
use crate::waiting::Waiting;
use keeper::{Keeper, Left, ToKeeper, Wanted, left_behind};

/// Bytes of buffers, all devices together, that an export begins with.
const BUDGET_BYTES: usize = 40 << 20;
/// Bytes of a tag's buffer: a request has no more.
const BUFFER_SIZES: std::ops::RangeInclusive<usize> = (64 << 10)..=(256 << 10);
/// The fewest tags of a queue.
const FEWEST_TAGS: u16 = 16;
/// How long the main thread and the others sleep when nothing happens.
const MAIN_SLEEP: Duration = Duration::from_millis(100);
const FURTHER_SLEEP: Duration = Duration::from_millis(100);
/// How often targets are compared with what is exported, and the watcher is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a unit is asked how large it is.
const CAPACITY_EVERY: Duration = Duration::from_secs(10);
/// How long a device of an export that was killed waits for its disk to be found.
const AWAIT_LIMIT: Duration = Duration::from_secs(30);
/// How long a unit may take to flush at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);
/// Turns between looks at the clock while there is work.
const TURNS_BETWEEN_CHORES: u32 = 4096;

/// What to export and how.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// These targets only; all of them if there are none.
    pub targets: Vec<u16>,
    /// Nothing may be written.
    pub read_only: bool,
    /// Requests of one device at once, over all its queues.
    pub depth: u16,
    /// How threads wait.
    pub waiting: Waiting,
    /// Where they run.
    pub pinning: Pinning,
    /// Where what is exported is noted ([`state`](crate::export::state)).
    pub state: PathBuf,
}

/// What the main thread is told.
enum ToMain {
    Exported(Box<Exported>),
    NotExported {
        unit: Arc<Unit>,
        identity: Option<String>,
        error: Error,
    },
    Note(Note),
    /// Buffers that nobody uses any more.
    Buffers(Vec<Buffer>),
    /// A device is no more.
    Removed(u32),
    CapacityChanged(u32),
    Complaint(u32, Error),
    Lost(Error),
    /// Every device is no more.
    Stopped,
}

/// Whether this machine can have block devices made, before anything is done for them.
///
/// # Errors
///
/// [`Error::Failed`] with what to do about it.
pub fn check() -> Result<(), Error> {
    Control::open().map(drop)
}

/// Exports units of a controller until the user asks to stop, or the controller is lost.
///
/// # Errors
///
/// [`Error::Failed`] when there can be no block devices, when there is nothing to export, when the
/// controller was lost on the way, and when a unit did not flush at the end.
pub fn run(
    host: &mut dyn Host,
    further: Vec<FurtherQueue<'_>>,
    options: &ExportOptions,
    watcher: &mut dyn Watcher,
) -> Result<Summary, Error> {
    let mut control = Control::open()?;
    let mut state = State::take(&options.state, host.bring_up().bus)?;
    let mut notes = Vec::new();
    let left = left_behind(&mut control, &mut state, &mut notes)?;
    notes.iter().for_each(|note| watcher.note(note));

    let inboxes: Result<Vec<_>, Error> =
        (0..=further.len()).map(|_| Inbox::new().map(Arc::new)).collect();
    let inboxes = inboxes?;
    let (to_keeper, from_all) = mpsc::channel();
    let (to_main, from_keeper) = mpsc::channel();
    let waiting = options.waiting;
    let (vendor, device) = host.bring_up().pci_id;
    let looks_cost = Chip::find(vendor, device).is_some_and(Chip::is_mpi1);
    let board = Board::default();
    // Before this thread may run on one CPU only.
    let queues = most_queues(inboxes.len());
    options.pinning.pin(0)?;
    be_io_flusher();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for ((number, mut queue), inbox) in (1u16..).zip(further).zip(inboxes.iter().skip(1)) {
            let (inbox, tell) = (Arc::clone(inbox), to_keeper.clone());
            let (pinning, board) = (options.pinning.clone(), board.clone());
            threads.push(scope.spawn(move || {
                let mut serve = || {
                    pinning.pin(number.into())?;
                    be_io_flusher();
                    let (inbox, tell) = (Arc::clone(&inbox), tell.clone());
                    let mut server: Server<ToKeeper> =
                        Server::new(inbox, tell, waiting, looks_cost)?;
                    let mut turns = 0u32;
                    loop {
                        let turn = server.turn(&mut *queue, FURTHER_SLEEP)?;
                        if turn == Turn::Stopped {
                            break;
                        }
                        // One that is busy never sleeps.
                        turns = turns.wrapping_add(1);
                        if turn == Turn::Slept || turns.is_multiple_of(TURNS_BETWEEN_CHORES) {
                            board.put(number, server.counters(), &*queue);
                        }
                    }
                    Ok::<_, Error>(server.counters())
                };
                serve().unwrap_or_else(|error| {
                    refuse_all(&inbox, &tell, &error);
                    EngineCounters::default()
                })
            }));
        }
        let (keeps, tell) = (inboxes.clone(), to_main);
        let keeper = scope.spawn(move || {
            Keeper::new(control, state, keeps, from_all, tell).run();
        });
        let mut main = Main {
            server: Server::new(
                inboxes.first().cloned().ok_or_else(|| Error::failed("there is no queue"))?,
                to_keeper.clone(),
                waiting,
                looks_cost,
            )?,
            scratch: host.allocate(BUFFER_BYTES)?,
            host,
            watcher,
            options,
            to_keeper,
            from_keeper,
            board,
            queues,
            left,
            pool: HashMap::new(),
            exported: Vec::new(),
            pending: 0,
            left_out: Vec::new(),
            first_refusal: None,
            lost: None,
            ready: false,
            stopping: false,
            stopped: false,
            summary: Summary::default(),
            geometry: None,
        };
        let ended = main.run();
        let mut summary = main.summary;
        summary.add(&main.server.counters());
        drop(main);
        // Threads end when they are told to, which the keeper has done.
        let _ = keeper.join();
        for thread in threads {
            match thread.join() {
                Ok(counters) => summary.add(&counters),
                Err(_) => return Err(Error::failed("a thread of the export has died; report it")),
            }
        }
        ended.map(|()| summary)
    })
}

/// Queues of a device where so many threads serve: the kernel grants no more than there are CPUs.
fn most_queues(threads: usize) -> u16 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    threads.min(cpus) as u16
}

/// Keeps this thread from waiting for memory that is to be freed by writing to a device of ours.
fn be_io_flusher() {
    // Without the privilege it goes well until memory is short.
    let _ = rustix::process::configure_io_flusher_behavior(true);
}

/// A device as the main thread knows it.
#[derive(Debug)]
struct Known {
    device: Option<u32>,
    unit: Arc<Unit>,
    identity: Option<String>,
    /// Its end has begun.
    ending: bool,
}

/// How many tags and how large buffers each device gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Tags of a queue.
    pub(super) tags: u16,
    pub(super) buffer_bytes: usize,
}

impl Geometry {
    /// For `devices` devices of `queues` queues each and `depth` tags over them.
    pub(super) fn new(devices: usize, queues: u16, depth: u16) -> Self {
        let queues = usize::from(queues.max(1));
        let share = BUDGET_BYTES / devices.max(1) / queues;
        let mut tags = usize::from(depth).div_ceil(queues).max(1);
        while tags > usize::from(FEWEST_TAGS) && tags * BUFFER_SIZES.start() > share {
            tags /= 2;
        }
        let fits = (share / tags).max(*BUFFER_SIZES.start());
        let bytes = if fits.is_power_of_two() { fits } else { fits.next_power_of_two() / 2 };
        Self { tags: tags as u16, buffer_bytes: bytes.min(*BUFFER_SIZES.end()) }
    }
}

struct Main<'m> {
    server: Server<ToKeeper>,
    scratch: Buffer,
    host: &'m mut dyn Host,
    watcher: &'m mut dyn Watcher,
    options: &'m ExportOptions,
    to_keeper: Sender<ToKeeper>,
    from_keeper: Receiver<ToMain>,
    board: Board,
    queues: u16,
    /// Devices of an export that was killed whose disks have not been found yet.
    left: Vec<Left>,
    /// Buffers that are free, by their length.
    pool: HashMap<usize, Vec<Buffer>>,
    exported: Vec<Known>,
    /// Units that are on their way to become devices.
    pending: usize,
    /// Units that are not exported.
    left_out: Vec<(TargetId, u8)>,
    first_refusal: Option<Error>,
    lost: Option<Error>,
    ready: bool,
    stopping: bool,
    stopped: bool,
    summary: Summary,
    geometry: Option<Geometry>,
}

impl Main<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let begun = self.host.now();
        let found = self.find_all();
        let mut result = found;
        if result.is_err() {
            self.stop();
        }
        let (mut looked, mut sized, mut happened) = (begun, begun, self.host.happenings().len());
        let mut turns = 0u32;
        loop {
            let turn = match self.server.turn(self.host, MAIN_SLEEP) {
                Ok(turn) => turn,
                Err(error) => {
                    // Nobody can serve any more: devices stay as after a kill.
                    return Err(error);
                }
            };
            if turn == Turn::Stopped {
                break;
            }
            turns = turns.wrapping_add(1);
            if turn != Turn::Slept && !turns.is_multiple_of(TURNS_BETWEEN_CHORES) {
                continue;
            }
            while let Ok(message) = self.from_keeper.try_recv() {
                self.heard(message);
            }
            if interrupt::asked() {
                if self.ready {
                    // In order is in order: nothing is left that would wait for ever.
                    self.forget_left("was not exported again");
                }
                self.stop();
            }
            if !self.ready && self.pending == 0 {
                self.ready = true;
                let devices = self.exported.len();
                match self.first_refusal.take() {
                    Some(error) if devices == 0 && result.is_ok() => {
                        result = Err(error);
                        self.stop();
                    }
                    _ => self.watcher.note(&Note::Ready { devices }),
                }
            }
            let now = self.host.now();
            let news = self.host.happenings().len() != happened;
            if news || now.saturating_sub(looked) >= LOOK_EVERY {
                looked = now;
                happened = self.host.happenings().len();
                self.compare(now.saturating_sub(begun));
                self.board.put(0, self.server.counters(), self.host);
                self.watcher.second(self.host, &self.board, self.exported.len());
            }
            if now.saturating_sub(sized) >= CAPACITY_EVERY {
                sized = now;
                self.look_at_capacities(None);
            }
        }
        let flushed = self.flush_all();
        match self.lost.take() {
            Some(error) => Err(error),
            None => result.and(flushed),
        }
    }

    /// Every unit that there is at the beginning.
    fn find_all(&mut self) -> Result<(), Error> {
        let wanted = &self.options.targets;
        for number in wanted {
            disk::find_target(self.host, *number)?;
        }
        let targets: Vec<Target> = self.host.targets();
        let mut units = Vec::new();
        for target in targets.iter().filter(|target| is_wanted(wanted, target.id)) {
            units.extend(self.units_of(target.id)?);
            interrupt::check()?;
        }
        if units.is_empty() && self.left.is_empty() {
            let bus = self.host.bring_up().bus;
            return Err(self.first_refusal.take().unwrap_or_else(|| {
                Error::failed(format!(
                    "there is no disk on {bus} to export; connect one and start again"
                ))
            }));
        }
        let geometry = Geometry::new(units.len(), self.queues, self.options.depth);
        self.geometry = Some(geometry);
        for unit in units {
            self.export(unit);
        }
        Ok(())
    }

    /// The logical units of a target that can be exported; the others are noted.
    fn units_of(&mut self, target: TargetId) -> Result<Vec<Unit>, Error> {
        let mut units = Vec::new();
        let luns = self.luns_of(target)?;
        for lun in luns {
            match Unit::read(self.host, &self.scratch, target, lun) {
                Ok(mut unit) => {
                    unit.read_only |= self.options.read_only;
                    units.push(unit);
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => self.leave_out(target, lun, error),
            }
        }
        Ok(units)
    }

    fn leave_out(&mut self, target: TargetId, lun: u8, error: Error) {
        let why = error.to_string();
        self.watcher.note(&Note::LeftOut { target: target.0, lun, why });
        self.left_out.push((target, lun));
        self.first_refusal.get_or_insert(error);
    }

    /// The numbers of a target's logical units, as REPORT LUNS says; 0 if it does not.
    fn luns_of(&mut self, target: TargetId) -> Result<Vec<u8>, Error> {
        disk::settle(self.host, (target, 0))?;
        let bytes = 1024;
        let answer =
            disk::ask(self.host, &self.scratch, (target, 0), Cdb::report_luns(bytes), bytes);
        let mut luns = luns(&answer.unwrap_or_default());
        if luns.is_empty() {
            luns.push(0);
        }
        Ok(luns)
    }

    /// Has a unit exported, under the device that an export before this one left, if it did.
    fn export(&mut self, unit: Unit) {
        let identity = unit.identity();
        if identity.is_some() && self.exported.iter().any(|known| known.identity == identity) {
            let why = Error::failed(format!(
                "target {} unit {} says that it is a unit that is exported already (a second path to it?)",
                unit.target.0, unit.lun
            ));
            return self.leave_out(unit.target, unit.lun, why);
        }
        let at = self.left.iter().position(|left| Some(&left.identity) == identity.as_ref());
        let left = at.map(|at| self.left.swap_remove(at).info);
        let geometry = self.geometry.unwrap_or(Geometry::new(1, self.queues, self.options.depth));
        let (queues, tags, bytes) = match left {
            Some(info) => (info.queues, info.depth, info.buffer_bytes as usize),
            None => (self.queues, geometry.tags, geometry.buffer_bytes),
        };
        let unit = Arc::new(unit);
        let buffers: Result<Vec<Vec<Buffer>>, Error> = (0..queues)
            .map(|_| (0..tags).map(|_| self.buffer(bytes)).collect::<Result<Vec<_>, _>>())
            .collect();
        let buffers = match buffers {
            Ok(buffers) => buffers,
            Err(error) => {
                let error = Error::failed(format!(
                    "there is not enough memory for {} buffers of {} KiB: {error}; take a smaller --depth",
                    u32::from(queues) * u32::from(tags),
                    bytes >> 10
                ));
                return self.leave_out(unit.target, unit.lun, error);
            }
        };
        self.exported.push(Known {
            device: None,
            unit: Arc::clone(&unit),
            identity: identity.clone(),
            ending: false,
        });
        self.pending += 1;
        let recover = left.map(|info| info.device);
        let buffer_bytes = bytes as u32;
        self.tell(ToKeeper::Export(Box::new(Wanted {
            unit,
            identity,
            buffers,
            buffer_bytes,
            recover,
        })));
    }

    fn buffer(&mut self, bytes: usize) -> Result<Buffer, Error> {
        match self.pool.get_mut(&bytes).and_then(Vec::pop) {
            Some(buffer) => Ok(buffer),
            None => self.host.allocate(bytes),
        }
    }

    fn tell(&self, message: ToKeeper) {
        // It listens until everything has ended.
        let _ = self.to_keeper.send(message);
    }

    fn stop(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            self.watcher.note(&Note::Stopping);
            self.tell(ToKeeper::Shutdown);
        }
    }

    fn heard(&mut self, message: ToMain) {
        match message {
            ToMain::Exported(exported) => {
                self.pending -= 1;
                self.summary.devices += 1;
                let known = self.exported.iter_mut().find(|known| {
                    known.device.is_none() && Arc::ptr_eq(&known.unit, &exported.unit)
                });
                if let Some(known) = known {
                    known.device = Some(exported.device);
                }
                self.watcher.note(&Note::Exported(*exported));
            }
            ToMain::NotExported { unit, identity, error } => {
                self.pending -= 1;
                self.exported.retain(|known| {
                    known.device.is_some()
                        || known.identity != identity
                        || !Arc::ptr_eq(&known.unit, &unit)
                });
                self.leave_out(unit.target, unit.lun, error);
            }
            ToMain::Note(note) => self.watcher.note(&note),
            ToMain::Buffers(buffers) => {
                for buffer in buffers {
                    self.pool.entry(buffer.bytes()).or_default().push(buffer);
                }
            }
            ToMain::Removed(device) => {
                if !self.stopping {
                    self.exported.retain(|known| known.device != Some(device));
                }
            }
            ToMain::CapacityChanged(device) => self.look_at_capacities(Some(device)),
            ToMain::Complaint(device, error) => {
                // That a disk is gone is told as such.
                self.compare(Duration::ZERO);
                let lives = |known: &Known| known.device == Some(device) && !known.ending;
                if self.exported.iter().any(lives) {
                    self.watcher.note(&Note::Said(error.to_string()));
                }
            }
            ToMain::Lost(error) => {
                self.watcher.note(&Note::Said(error.to_string()));
                self.lost.get_or_insert(error);
                self.stop();
            }
            ToMain::Stopped => self.stopped = true,
        }
    }

    /// Disks that have come and gone.
    fn compare(&mut self, since_begin: Duration) {
        if self.stopping || self.lost.is_some() {
            return;
        }
        let present: Vec<TargetId> = self.host.targets().iter().map(|target| target.id).collect();
        let mut gone = Vec::new();
        for known in &mut self.exported {
            if let Some(device) = known.device
                && !known.ending
                && !present.contains(&known.unit.target)
            {
                known.ending = true;
                gone.push(device);
            }
        }
        gone.into_iter().for_each(|device| self.tell(ToKeeper::Gone(device)));
        self.left_out.retain(|(target, _)| present.contains(target));
        let mut news = Vec::new();
        for target in present {
            let known = self.exported.iter().any(|known| known.unit.target == target)
                || self.left_out.iter().any(|(other, _)| *other == target);
            if !known && is_wanted(&self.options.targets, target) {
                // Otherwise it is asked again a second later, or is gone by then.
                if let Ok(units) = self.units_of(target) {
                    news.extend(units);
                }
            }
        }
        for unit in news {
            self.export(unit);
        }
        if since_begin > AWAIT_LIMIT {
            self.forget_left("has not been found");
        }
    }

    /// Has the devices of an export that was killed deleted whose disks are not exported again.
    fn forget_left(&mut self, why: &str) {
        for left in std::mem::take(&mut self.left) {
            let device = left.info.device;
            self.tell(ToKeeper::Forget(
                device,
                format!(
                    "/dev/ublkb{device} of an export that was killed was deleted: its disk ({}) {why}",
                    left.identity
                ),
            ));
        }
    }

    /// Asks units how large they are: that of one device, or of all.
    fn look_at_capacities(&mut self, which: Option<u32>) {
        if self.stopping || self.lost.is_some() {
            return;
        }
        let mut grown = Vec::new();
        for known in &mut self.exported {
            let Some(device) = known.device else { continue };
            if known.ending || which.is_some_and(|which| which != device) {
                continue;
            }
            match known.unit.read_blocks(self.host, &self.scratch) {
                Ok(blocks) if blocks > known.unit.blocks => {
                    known.unit = Arc::new(Unit { blocks, ..(*known.unit).clone() });
                    grown.push((device, Arc::clone(&known.unit)));
                }
                Ok(_) => {}
                // What happens to it is told elsewhere; a size of the past does no harm.
                Err(_) => {}
            }
        }
        for (device, unit) in grown {
            self.tell(ToKeeper::Grown(device, unit));
        }
    }

    /// Flushes every unit that was exported, at the end.
    fn flush_all(&mut self) -> Result<(), Error> {
        if self.lost.is_some() {
            return Ok(());
        }
        let mut result = Ok(());
        for known in std::mem::take(&mut self.exported) {
            let unit = &known.unit;
            if known.device.is_none() || known.ending || unit.read_only || !unit.write_cache {
                continue;
            }
            let flushed = self.server.flush(self.host, &known.unit, &self.scratch, FLUSH_LIMIT);
            if let Err(error) = flushed {
                result = result.and(Err(error));
            }
        }
        if result.is_ok() {
            // What is not flushed is on disks that are gone, which has been told.
            self.host.forgive_unflushed();
        }
        result
    }
}

pub(super) fn is_wanted(wanted: &[u16], target: TargetId) -> bool {
    wanted.is_empty() || wanted.contains(&target.0)
}

/// The logical units of REPORT LUNS (SPC-4 6.33) that this driver can address: 0 to 255, peripheral.
pub(super) fn luns(answer: &[u8]) -> Vec<u8> {
    let length = answer.first_chunk().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    let list = answer.get(8..).unwrap_or_default();
    let list = list.get(..length).unwrap_or(list);
    let mut luns: Vec<u8> = list
        .chunks_exact(8)
        .filter_map(|lun| match lun {
            [0, lun, 0, 0, 0, 0, 0, 0] => Some(*lun),
            _ => None,
        })
        .collect();
    luns.sort_unstable();
    luns.dedup();
    luns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_all_devices_stay_within_their_budget() {
        for devices in [1usize, 2, 4, 8] {
            for queues in [1u16, 2, 4] {
                for depth in [1u16, 16, 128, 1024] {
                    let geometry = Geometry::new(devices, queues, depth);
                    let Geometry { tags, buffer_bytes } = geometry;
                    assert!(buffer_bytes.is_power_of_two() && BUFFER_SIZES.contains(&buffer_bytes));
                    assert!(tags >= 1);
                    let all = devices * usize::from(queues) * usize::from(tags) * buffer_bytes;
                    assert!(all <= BUDGET_BYTES || tags <= FEWEST_TAGS, "{geometry:?}");
                }
            }
        }
        let one = Geometry::new(1, 1, 128);
        assert_eq!(one, Geometry { tags: 128, buffer_bytes: 256 << 10 });
    }

    #[test]
    fn logical_units_are_read_as_far_as_the_list_goes() {
        let mut answer = vec![0, 0, 0, 24, 0, 0, 0, 0];
        answer.extend([0, 0, 0, 0, 0, 0, 0, 0]);
        answer.extend([0, 3, 0, 0, 0, 0, 0, 0]);
        answer.extend([0xc1, 1, 0, 0, 0, 0, 0, 0]);
        answer.extend([0, 9, 0, 0, 0, 0, 0, 0]);
        assert_eq!(luns(&answer), [0, 3]);
        assert_eq!(luns(&answer[..20]), [0]);
        assert!(luns(&[]).is_empty() && luns(&[0xff; 7]).is_empty());
    }
}
