//! An export by NBD from its beginning to its end: which units, and what happens to them on the way.
//! One thread does it: the one that holds the controller.

mod news;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use fusion_mpt::scsi::Cdb;
use fusion_mpt::targets::TargetId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::attach::{Attachments, Event};
use super::{Address, Server, names_of};
use crate::disk;
use crate::error::Error;
use crate::export::engine::{DeviceIndex, Engine};
use crate::export::figures::{Board, Summary};
use crate::export::manager::{Geometry, is_wanted, luns};
use crate::export::unit::{BUFFER_BYTES, Unit};
use crate::host::{Buffer, Host};
use crate::interrupt;
use crate::pci::System;
use crate::waiting::Waiting;
pub use news::{Note, Watcher};

/// How often targets are compared with what is served, and the watcher is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a unit is asked how large it is.
const CAPACITY_EVERY: Duration = Duration::from_secs(10);
/// How long the kernel may write nothing back at the end before it is no longer waited for, and how
/// long writing back and letting go of its devices may take in all.
const DETACH_SILENCE: Duration = Duration::from_secs(60);
const DETACH_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How long clients may take at the end to be told what they asked for.
const QUIET_LIMIT: Duration = Duration::from_secs(30);
/// The longest sleep, with commands under way and without.
const BUSY_SLEEP: Duration = Duration::from_millis(20);
const IDLE_SLEEP: Duration = Duration::from_millis(100);
/// Turns in a row that find nothing before sleep.
const LOOKS: u32 = 200;
/// Turns between looks at the clock while there is work.
const TURNS_BETWEEN_CHORES: u32 = 1024;

/// What to serve and how.
#[derive(Clone, Debug)]
pub struct NbdOptions {
    /// These targets only; all of them if there are none.
    pub targets: Vec<u16>,
    /// Nothing may be written.
    pub read_only: bool,
    /// Requests of one unit at once.
    pub depth: u16,
    /// How to wait.
    pub waiting: Waiting,
    /// Where clients connect; `None`: the kernel's own only.
    pub address: Option<Address>,
    /// Have the kernel attach every unit as `/dev/nbdN`.
    pub attach: bool,
}

/// Serves units of a controller until the user asks to stop, or the controller is lost.
///
/// # Errors
///
/// [`Error::Failed`] when the address is taken, the kernel cannot attach, or there is nothing to
/// serve; when the controller was lost on the way, and when a unit did not flush at the end.
pub fn run(
    host: &mut dyn Host,
    options: &NbdOptions,
    watcher: &mut dyn Watcher,
) -> Result<Summary, Error> {
    let server = Server::listen(options.address.as_ref())?;
    let attachments = options.attach.then(Attachments::new).transpose()?;
    let mut main = Main {
        scratch: host.allocate(BUFFER_BYTES)?,
        host,
        watcher,
        options,
        server,
        attachments,
        engine: Engine::new(),
        served: Vec::new(),
        leaving: Vec::new(),
        left_out: Vec::new(),
        first_refusal: None,
        nobody: None,
        geometry: Geometry::new(1, 1, options.depth),
        pool: Vec::new(),
        summary: Summary::default(),
        board: Board::default(),
    };
    let result = main.run();
    let mut summary = main.summary;
    summary.add(&main.engine.counters());
    result.map(|()| summary)
}

#[derive(Debug)]
struct Known {
    device: DeviceIndex,
    unit: Arc<Unit>,
}

struct Main<'m> {
    host: &'m mut dyn Host,
    watcher: &'m mut dyn Watcher,
    options: &'m NbdOptions,
    server: Server,
    attachments: Option<Attachments>,
    engine: Engine,
    scratch: Buffer,
    served: Vec<Known>,
    /// Devices whose units are gone, while something of them is under way.
    leaving: Vec<DeviceIndex>,
    left_out: Vec<TargetId>,
    first_refusal: Option<Error>,
    /// Why there is nobody to serve: the kernel attaches nothing, and others cannot connect.
    nobody: Option<Error>,
    geometry: Geometry,
    /// Buffers that are free.
    pool: Vec<Buffer>,
    summary: Summary,
    board: Board,
}

impl Main<'_> {
    fn run(&mut self) -> Result<(), Error> {
        if let Err(error) = self.find_all() {
            // What the kernel has been given is taken back, and not left to it without a server.
            return if self.served.is_empty() { Err(error) } else { self.stop().and(Err(error)) };
        }
        let mut ready = false;
        let begun = self.host.now();
        let (mut looked, mut sized, mut happened) = (begun, begun, self.host.happenings().len());
        let (mut turns, mut idle) = (0u32, 0u32);
        loop {
            let worked = match self.turn() {
                Ok(worked) => worked,
                Err(error) => return self.lost(error),
            };
            if let Some(error) = self.nobody.take() {
                return self.stop().and(Err(error));
            }
            if !ready && self.attachments.as_ref().is_none_or(Attachments::is_settled) {
                ready = true;
                let units = self.served.len();
                self.watcher.note(&Note::Ready { units });
            }
            idle = if worked { 0 } else { idle.saturating_add(1) };
            turns = turns.wrapping_add(1);
            if worked && !turns.is_multiple_of(TURNS_BETWEEN_CHORES) {
                continue;
            }
            if interrupt::asked() {
                return self.stop();
            }
            let now = self.host.now();
            let news = self.host.happenings().len() != happened;
            if news || now.saturating_sub(looked) >= LOOK_EVERY {
                (looked, happened) = (now, self.host.happenings().len());
                self.compare();
                self.board.put(0, self.engine.counters(), self.host);
                self.watcher.second(self.host, &self.board, self.served.len());
            }
            let all = now.saturating_sub(sized) >= CAPACITY_EVERY;
            if all {
                sized = now;
            }
            self.look_at_capacities(all);
            if !worked && let Err(error) = self.rest(idle) {
                return self.lost(error);
            }
        }
    }

    /// One turn of the server, and what the kernel says.
    fn turn(&mut self) -> Result<bool, Error> {
        let worked = self.server.turn(&mut self.engine, self.host)?;
        if let Some((_, complaint)) = self.engine.take_complaint() {
            self.watcher.note(&Note::Said(complaint.to_string()));
        }
        if let Some(attachments) = &mut self.attachments {
            for event in attachments.turn(&mut self.server) {
                self.heard(event);
            }
        }
        Ok(worked)
    }

    fn heard(&mut self, event: Event) {
        let note = match event {
            Event::Attached { device, path, again } => match self.engine.unit(device) {
                Some(unit) => Note::Attached { unit: Arc::clone(unit), path, again },
                None => return,
            },
            Event::Detached { path, .. } => Note::Said(format!(
                "{} was disconnected by somebody else; start the export again to attach it",
                path.display()
            )),
            Event::Failed { error, .. } => {
                let attaches = self.attachments.as_ref().is_some_and(|all| !all.is_empty());
                if !attaches && self.server.address().is_none() {
                    self.nobody = Some(error);
                    return;
                }
                Note::Said(error.to_string())
            }
        };
        self.watcher.note(&note);
    }

    /// Nothing has come: looks again, or sleeps until a client or the controller wants something.
    fn rest(&mut self, idle: u32) -> Result<(), Error> {
        let busy = self.engine.started() > 0;
        let waiting = self.options.waiting;
        let looks = match waiting {
            Waiting::Poll if busy => u32::MAX,
            Waiting::Interrupt => 0,
            Waiting::Poll | Waiting::Adaptive => LOOKS,
        };
        if idle <= looks {
            std::thread::yield_now();
            return Ok(());
        }
        let mut limit = if busy { BUSY_SLEEP } else { IDLE_SLEEP };
        if let Some(due) = self.engine.next_due() {
            limit = limit.min(due.saturating_sub(self.host.now()));
        }
        if waiting == Waiting::Poll {
            sleep(&self.server, None, limit);
        } else if self.host.sleep_on().is_some() {
            // What came until now wakes nobody.
            if !self.server.turn(&mut self.engine, self.host)? {
                let fd = self.host.sleep_on();
                sleep(&self.server, fd.as_ref(), limit);
            }
            self.host.wake();
        } else if busy {
            // Only looking helps, so its own way to wait is taken.
            self.host.pause();
        } else {
            sleep(&self.server, None, limit);
        }
        Ok(())
    }

    /// Every unit that there is at the beginning.
    fn find_all(&mut self) -> Result<(), Error> {
        let wanted = &self.options.targets;
        for number in wanted {
            disk::find_target(self.host, *number)?;
        }
        let mut units = Vec::new();
        for target in self.host.targets() {
            if is_wanted(wanted, target.id) {
                units.extend(self.units_of(target.id)?);
                interrupt::check()?;
            }
        }
        if units.is_empty() {
            let bus = self.host.bring_up().bus;
            return Err(self.first_refusal.take().unwrap_or_else(|| {
                Error::failed(format!(
                    "there is no disk on {bus} to export; connect one and start again"
                ))
            }));
        }
        self.geometry = Geometry::new(units.len(), 1, self.options.depth);
        for unit in units {
            self.serve(unit)?;
        }
        Ok(())
    }

    /// The logical units of a target that can be served; the others are noted.
    fn units_of(&mut self, target: TargetId) -> Result<Vec<Unit>, Error> {
        disk::settle(self.host, (target, 0))?;
        let cdb = Cdb::report_luns(1024);
        let answer = disk::ask(self.host, &self.scratch, (target, 0), cdb, 1024);
        let mut numbers = luns(&answer.unwrap_or_default());
        if numbers.is_empty() {
            numbers.push(0);
        }
        let mut units = Vec::new();
        for lun in numbers {
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
        self.left_out.push(target);
        self.first_refusal.get_or_insert(error);
    }

    /// Serves a unit, and has the kernel attach it if that is wanted.
    fn serve(&mut self, unit: Unit) -> Result<(), Error> {
        let identity = unit.identity();
        let twice = |known: &Known| identity.is_some() && known.unit.identity() == identity;
        if self.served.iter().any(twice) {
            let why = Error::failed(format!(
                "target {} unit {} says that it is a unit that is served already (a second path to it?)",
                unit.target.0, unit.lun
            ));
            self.leave_out(unit.target, unit.lun, why);
            return Ok(());
        }
        let Geometry { tags, buffer_bytes } = self.geometry;
        let mut buffers = Vec::new();
        for _ in 0..tags {
            let buffer = match self.pool.pop() {
                Some(buffer) => buffer,
                None => self.host.allocate(buffer_bytes).map_err(|error| {
                    Error::failed(format!(
                        "there is not enough memory for {tags} buffers of {} KiB: {error}; take a smaller --depth",
                        buffer_bytes >> 10
                    ))
                })?,
            };
            buffers.push(buffer);
        }
        let unit = Arc::new(unit);
        let device = self.engine.attach(Arc::clone(&unit), buffers);
        self.server.add_unit(&self.engine, device);
        let (names, address) = (names_of(&unit), self.server.address().cloned());
        self.watcher.note(&Note::Served { unit: Arc::clone(&unit), names, address });
        if let Some(attachments) = &mut self.attachments {
            attachments.attach(&mut self.server, &self.engine, device)?;
        }
        self.served.push(Known { device, unit });
        self.summary.devices += 1;
        Ok(())
    }

    /// Disks that have come and gone.
    fn compare(&mut self) {
        let Self { server, engine, pool, leaving, .. } = self;
        leaving.retain(|device| {
            let buffers = if server.remove_unit(*device) { engine.detach(*device) } else { None };
            let stays = buffers.is_none();
            pool.extend(buffers.unwrap_or_default());
            stays
        });
        let present: Vec<TargetId> = self.host.targets().iter().map(|target| target.id).collect();
        self.left_out.retain(|target| present.contains(target));
        let mut at = 0;
        while let Some(known) = self.served.get(at) {
            if present.contains(&known.unit.target) {
                at += 1;
            } else {
                let known = self.served.remove(at);
                self.end(&known);
            }
        }
        for target in present {
            let is_known = self.served.iter().any(|known| known.unit.target == target)
                || self.left_out.contains(&target);
            if is_known || !is_wanted(&self.options.targets, target) {
                continue;
            }
            // What does not answer is asked again a second later, or is gone by then.
            for unit in self.units_of(target).unwrap_or_default() {
                let lun = unit.lun;
                if let Err(error) = self.serve(unit) {
                    self.leave_out(target, lun, error);
                }
            }
        }
    }

    /// A unit is gone: what waits for it ends in errors, and the kernel lets go of it.
    fn end(&mut self, known: &Known) {
        self.engine.end_device(known.device);
        self.server.end_unit(known.device);
        let path = self.attachments.as_ref().and_then(|all| all.path(known.device));
        let name = path.as_ref().and_then(|path| path.file_name()?.to_str());
        let users = name.map_or(Vec::new(), |name| {
            System::real().users_of(name).iter().map(ToString::to_string).collect()
        });
        if let Some(attachments) = &mut self.attachments {
            attachments.detach(known.device, false);
        }
        self.leaving.push(known.device);
        self.watcher.note(&Note::Gone { unit: Arc::clone(&known.unit), path, users });
    }

    /// Asks how large units are: all, or those that have said that it is not what it was.
    fn look_at_capacities(&mut self, all: bool) {
        for known in &mut self.served {
            if !self.engine.take_capacity_changed(known.device) && !all {
                continue;
            }
            // What happens to one that does not answer is told elsewhere.
            let Ok(blocks) = known.unit.read_blocks(self.host, &self.scratch) else { continue };
            if blocks <= known.unit.blocks {
                continue;
            }
            known.unit = Arc::new(Unit { blocks, ..(*known.unit).clone() });
            self.engine.set_unit(known.device, Arc::clone(&known.unit));
            self.server.unit_changed(&self.engine, known.device);
            if let Some(attachments) = &mut self.attachments {
                attachments.resize(&self.engine, known.device);
            }
            self.watcher.note(&Note::Grown { unit: Arc::clone(&known.unit) });
        }
    }

    /// The user wants it to end: the kernel writes back and lets go, clients are answered, units
    /// flushed.
    fn stop(&mut self) -> Result<(), Error> {
        self.watcher.note(&Note::Stopping);
        let mut result = match self.drain() {
            Ok(drained) => drained,
            Err(error) => return self.lost(error),
        };
        for known in std::mem::take(&mut self.served) {
            if known.unit.read_only || !known.unit.write_cache {
                continue;
            }
            let (target, lun) = (known.unit.target, known.unit.lun);
            let flushed = disk::flush(self.host, (target, lun));
            result = result.and(flushed.map_err(|error| {
                Error::failed(format!(
                    "target {} did not flush its cache at the end ({error}): what was written last may be lost, compare it",
                    target.0
                ))
            }));
        }
        result
    }

    /// Has what is under way end. Within, whether it did; without, the controller is lost.
    fn drain(&mut self) -> Result<Result<(), Error>, Error> {
        if let Some(attachments) = &mut self.attachments {
            attachments.shut_down();
        }
        let detached = |main: &Self| main.attachments.as_ref().is_none_or(Attachments::is_done);
        let let_go = self.go_on(DETACH_LIMIT, DETACH_SILENCE, detached)?;
        self.server.shut_down();
        let quiet = |main: &Self| main.engine.started() == 0 && main.server.is_quiet();
        self.go_on(QUIET_LIMIT, QUIET_LIMIT, quiet)?;
        Ok(match (let_go, self.engine.started()) {
            (true, 0) => Ok(()),
            (true, left) => Err(Error::failed(format!(
                "{left} requests had not ended {} s after the end had been asked for: what they were to write may be lost, compare it",
                QUIET_LIMIT.as_secs()
            ))),
            (false, _) => Err(Error::failed(
                "the kernel has not let go of its NBD devices, and was no longer waited for: what it still held in memory is lost, check the file systems that were on them",
            )),
        })
    }

    /// Goes on until something is so, for at most `limit`, and for at most `silence` in which
    /// nothing moves. Whether it is so.
    fn go_on(
        &mut self,
        limit: Duration,
        silence: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Result<bool, Error> {
        let begun = self.host.now();
        let (mut moved, mut idle) = (begun, 0u32);
        loop {
            let now = self.host.now();
            if done(self) {
                return Ok(true);
            }
            if now.saturating_sub(begun) >= limit || now.saturating_sub(moved) >= silence {
                return Ok(false);
            }
            if self.turn()? {
                (moved, idle) = (now, 0);
            } else {
                idle = idle.saturating_add(1);
                if idle > LOOKS && self.engine.started() == 0 {
                    sleep(&self.server, None, Duration::from_millis(1));
                } else {
                    self.host.pause();
                }
            }
        }
    }

    /// The controller is lost, and every request has ended: clients are told, and let go.
    fn lost(&mut self, error: Error) -> Result<(), Error> {
        for known in std::mem::take(&mut self.served) {
            self.end(&known);
        }
        if let Some(attachments) = &mut self.attachments {
            attachments.shut_down();
        }
        self.server.shut_down();
        let deadline = self.host.now() + QUIET_LIMIT;
        let done = |main: &Self| {
            main.server.is_quiet() && main.attachments.as_ref().is_none_or(Attachments::is_done)
        };
        while !done(self) && self.host.now() < deadline {
            // It goes on failing, and clients are answered all the same.
            let _ = self.server.turn(&mut self.engine, self.host);
            sleep(&self.server, None, Duration::from_millis(1));
        }
        Err(error)
    }
}

/// Sleeps until a client or the controller wants something.
fn sleep(server: &Server, interrupt: Option<&BorrowedFd<'_>>, limit: Duration) {
    let clients = server.as_fd();
    let mut fds = vec![PollFd::new(&clients, PollFlags::IN)];
    fds.extend(interrupt.map(|fd| PollFd::new(fd, PollFlags::IN)));
    let limit =
        Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
    // A signal ends the sleep early, which is as good as news.
    let _ = poll(&mut fds, Some(&limit));
}
