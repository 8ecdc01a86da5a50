//! A session: a bus opened by name, its controller brought up, lent to a command, and left in
//! order whatever the command met with.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fusion_mpt::bringup::{Reset, Tables};
use fusion_mpt::controller::{Action, Controller};
use fusion_mpt::error::{Error as CoreError, SubmitError};
use fusion_mpt::generation::chips::Chip;
use fusion_mpt::generation::{Command, Generation, Mpi1, Mpi2, TaskAttribute};
use fusion_mpt::io_queue::Completion;
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::pages::PageRequest;
use fusion_mpt::scsi::{Cdb, Lun, Sense};
use fusion_mpt::sgl::{Direction, Segment};
use fusion_mpt::shared::{ReplyRecord, SharedRecord};
use fusion_mpt::slots::SlotRecord;
use fusion_mpt::targets::{Target, TargetId, TargetRecord};
use fusion_mpt::trace::{Counters, Trace, TraceEntry};

use crate::bus_name::BusName;
use crate::cdb;
use crate::decode::Decoder;
use crate::error::Error;
use crate::host::{BringUp, Buffer, Host, Request};
use crate::image::{Image, Images};
use crate::link::{Link, RealDelay};

/// Targets that a session has room for.
const TARGETS: usize = 256;
/// How long commands may take to come back when a session ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// How long a disk may take to flush (SBC puts no bound; drives promise less than this).
const FLUSH_LIMIT: Duration = Duration::from_secs(60);
/// Polls that may be left out before one is made anyway, and between looks at the clock.
const POLLS_BETWEEN_LOOKS: u32 = 64;
/// The longest configuration page that is read.
const PAGE_BYTES: usize = 4096;

/// Where the lines of a trace go.
pub type TraceSink = Box<dyn FnMut(&str)>;

/// How to open a bus.
pub struct Options {
    /// Which.
    pub bus: BusName,
    /// The files behind its disks; temporary ones when there are none.
    pub disks: Vec<PathBuf>,
    /// Commands outstanding at once, if the controller can.
    pub commands: u16,
    /// Where to write what passes, decoded.
    pub trace: Option<TraceSink>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("bus", &self.bus)
            .field("disks", &self.disks)
            .field("commands", &self.commands)
            .finish_non_exhaustive()
    }
}

/// Brings the controller of `link` up, lends it to `work`, and takes it down again: drained,
/// flushed and reset to READY.
pub(crate) fn drive<B: Link, T>(
    link: &B,
    images: &Images,
    options: &mut Options,
    work: &mut dyn FnMut(&mut dyn Host) -> Result<T, Error>,
) -> Result<T, Error> {
    let (vendor, device) = link.pci_id();
    let Some(chip) = Chip::find(vendor, device) else {
        return Err(Error::failed(format!(
            "the controller on {} is PCI {vendor:04x}:{device:04x}, which this driver does not know",
            options.bus
        )));
    };
    if chip.is_mpi1() {
        drive_generation::<Mpi1, B, T>(link, chip, images, options, work)
    } else {
        drive_generation::<Mpi2, B, T>(link, chip, images, options, work)
    }
}

fn drive_generation<G: Generation, B: Link, T>(
    link: &B,
    chip: &'static Chip,
    images: &Images,
    options: &mut Options,
    work: &mut dyn FnMut(&mut dyn Host) -> Result<T, Error>,
) -> Result<T, Error> {
    let started = Instant::now();
    // The IOC is told the time of day, for its own log.
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started_ms = since_1970.as_millis() as u64;
    let mut delay = RealDelay;
    let bus = options.bus;
    let explain = |doing: &str, error: CoreError| match link.failure() {
        Some(sentence) => Error::failed(format!("{doing} on {bus}: {sentence}")),
        None => Error::failed(format!("{doing} on {bus}: {error}")),
    };

    let ready = Reset::<G, B::Registers>::new(link.registers(), chip)
        .make_ready(&mut delay)
        .map_err(|error| explain("bringing the controller to READY", error))?;
    let wants = Wants { commands: options.commands, ..Wants::default() };
    let plan = ready.plan(&wants).map_err(|error| explain("planning the memory", error))?;
    let region = link.allocate(plan.bytes, plan.alignment)?;

    let mut slots = vec![SlotRecord::NEW; usize::from(plan.slots)];
    let replies: Vec<ReplyRecord> = (0..plan.reply_frames).map(|_| ReplyRecord::new()).collect();
    let shared = SharedRecord::new();
    let mut targets = vec![TargetRecord::default(); TARGETS];
    let mut trace = Box::new(Trace::new());

    let mut bring_up = BringUp {
        bus,
        pci_id: link.pci_id(),
        chip: chip.name,
        reset: ready.reset_kind(),
        facts: *ready.facts(),
        port_facts: *ready.port_facts(),
        plan,
        milliseconds: 0,
    };
    let tables =
        Tables { slots: &mut slots, replies: &replies, shared: &shared, targets: &mut targets };
    let mut controller = ready
        .begin(&plan, region, tables, started_ms, &mut delay)
        .map_err(|error| explain("starting the controller", error))?;
    let sink = options.trace.take();
    if sink.is_some() {
        controller.set_trace(&mut trace);
    }
    let found = controller.wait_until_settled(&mut delay);
    bring_up.milliseconds = started.elapsed().as_millis() as u64;
    if B::INTERRUPTS {
        controller.interrupts(true);
    }

    let mut session = Session {
        link,
        controller,
        bring_up,
        images,
        buffers: Vec::new(),
        unflushed: Vec::new(),
        started,
        started_ms,
        left_out: 0,
        decoder: Decoder::new(chip.is_mpi1()),
        sink,
        traced: 0,
    };
    session.show_trace();
    let result = match found {
        Ok(()) => work(&mut session),
        Err(error) => Err(explain("looking for the disks", error)),
    };
    let (drained, reset) = session.end();
    match (result, drained) {
        (Ok(value), Ok(())) => reset.map(|()| value),
        // Nobody is told that all is in order when it is not.
        (Ok(_) | Err(Error::Interrupted), Err(error)) => Err(error),
        (Err(Error::Interrupted), Ok(())) => Err(reset.err().unwrap_or(Error::Interrupted)),
        (Err(Error::Failed(first)), Err(Error::Failed(then))) => {
            Err(Error::Failed(format!("{first}; then {then}")))
        }
        (Err(error), _) => Err(error),
    }
}

struct Session<'a, G: Generation, B: Link> {
    link: &'a B,
    controller: Controller<'a, G, B::Registers, B::Dma>,
    bring_up: BringUp,
    images: &'a Images,
    /// Everything ever lent out, kept until the controller has been reset.
    buffers: Vec<Buffer>,
    /// Targets and logical units that were written since their last flush.
    unflushed: Vec<(TargetId, u8)>,
    started: Instant,
    /// The same in milliseconds since 1970.
    started_ms: u64,
    left_out: u32,
    decoder: Decoder,
    sink: Option<TraceSink>,
    traced: u64,
}

impl<G: Generation, B: Link> Session<'_, G, B> {
    fn now_ms(&self) -> u64 {
        self.started_ms + self.started.elapsed().as_millis() as u64
    }

    /// Tells the controller the time, and looks at what it says it is doing.
    fn tick(&mut self, complete: &mut dyn FnMut(Completion<'_>)) -> Result<(), Error> {
        let now_ms = self.now_ms();
        self.controller.tick(now_ms, &mut *complete);
        while let Some(action) = self.controller.next_action() {
            match action {
                Action::ControllerGone => return Err(self.explain(CoreError::Gone)),
                Action::ResetNeeded(_) => {
                    let reset = self.controller.reset(now_ms, &mut RealDelay, &mut *complete);
                    reset.map_err(|error| self.explain(error))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn explain(&self, error: impl std::fmt::Display) -> Error {
        match self.link.failure() {
            Some(sentence) => Error::failed(sentence),
            None => Error::failed(format!("on {}: {error}", self.bring_up.bus)),
        }
    }

    fn show_trace(&mut self) {
        let (Some(sink), Some(trace)) = (self.sink.as_mut(), self.controller.trace()) else {
            return;
        };
        for entry in trace.since(self.traced) {
            if entry.sequence > self.traced {
                sink(&format!("({} entries were not kept)", entry.sequence - self.traced));
            }
            self.traced = entry.sequence + 1;
            let at_ms = entry.at_ms.saturating_sub(self.started_ms);
            if let Some(line) = self.decoder.entry(&TraceEntry { at_ms, ..*entry }) {
                sink(&line);
            }
        }
    }

    /// Polls until nothing is outstanding, for at most `limit`.
    fn drain(&mut self, limit: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        while self.controller.outstanding() > 0 {
            if Instant::now() > deadline {
                return Err(Error::failed(format!(
                    "{} commands did not come back within {} s; the controller was reset, and what they wrote may be lost",
                    self.controller.outstanding(),
                    limit.as_secs()
                )));
            }
            if self.poll(&mut |_| {})? == 0 {
                self.pause();
            }
        }
        Ok(())
    }

    /// Flushes every disk that was written.
    fn flush(&mut self) -> Result<(), Error> {
        for (target, lun) in std::mem::take(&mut self.unflushed) {
            let lost = |why: &dyn std::fmt::Display| {
                Error::failed(format!(
                    "target {} did not flush its cache ({why}): what was written last may be lost, compare it when the disk is back",
                    target.0
                ))
            };
            match self.flush_unit(target, lun) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Err(lost(&"it refused to")),
                Ok(None) => return Err(lost(&"it did not answer")),
                Err(error) => return Err(lost(&error)),
            }
        }
        Ok(())
    }

    /// Flushes one logical unit: whether it did, or `None` if it has not answered.
    fn flush_unit(&mut self, target: TargetId, lun: u8) -> Result<Option<bool>, Error> {
        let cdb = Cdb::synchronize_cache_10(0, 0);
        let request = Request {
            target,
            lun,
            cdb: cdb.as_bytes(),
            direction: Direction::None,
            buffer: None,
            offset: 0,
            bytes: 0,
            cookie: u64::MAX,
        };
        let mut good = None;
        // The first may be answered with a unit attention.
        for _ in 0..3 {
            self.submit(&request)?;
            let deadline = Instant::now() + FLUSH_LIMIT;
            good = None;
            while good.is_none() && Instant::now() < deadline {
                let found = self.poll(&mut |completion| {
                    if completion.cookie == u64::MAX {
                        good = Some(completion.outcome.is_good());
                    }
                })?;
                if found == 0 {
                    self.pause();
                }
            }
            if good != Some(false) {
                break;
            }
        }
        Ok(good)
    }

    /// Leaves everything in order: drained and flushed, which is the first result; the IOC back in
    /// READY, which is the second.
    fn end(mut self) -> (Result<(), Error>, Result<(), Error>) {
        let drained = self.drain(DRAIN_LIMIT).and_then(|()| self.flush());
        self.show_trace();
        let bus = self.bring_up.bus;
        let failure = self.link.failure();
        let (parts, reset) = self.controller.into_reset(&mut RealDelay, |_| {});
        // Only now may memory be freed that the controller could have written to.
        drop(self.buffers);
        drop(parts);
        let reset = match (reset, failure) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(sentence)) => Err(Error::failed(sentence)),
            (Err(error), None) => Err(Error::failed(format!(
                "the data is safe, but resetting the controller on {bus} at the end failed: {error}"
            ))),
        };
        (drained, reset)
    }
}

impl<G: Generation, B: Link> Host for Session<'_, G, B> {
    fn bring_up(&self) -> &BringUp {
        &self.bring_up
    }

    fn images(&self) -> &[Image] {
        self.images.all()
    }

    fn targets(&self) -> Vec<Target> {
        self.controller.targets().filter(|target| target.present).collect()
    }

    fn allocate(&mut self, bytes: usize) -> Result<Buffer, Error> {
        let buffer = Buffer::new(self.link.allocate(bytes.max(1), 4096)?);
        self.buffers.push(buffer.clone());
        Ok(buffer)
    }

    fn submit(&mut self, request: &Request<'_>) -> Result<bool, Error> {
        let Some(cdb) = Cdb::from_bytes(request.cdb) else {
            return Err(Error::usage(format!(
                "a CDB of {} bytes cannot be sent; it has 1 to 32",
                request.cdb.len()
            )));
        };
        let segment = match request.buffer {
            Some(buffer) if request.bytes > 0 => {
                let end = request.offset.checked_add(request.bytes as usize);
                if end.is_none_or(|end| end > buffer.bytes()) {
                    return Err(Error::failed("the command's data lies outside its buffer"));
                }
                let address = buffer.address().offset(request.offset as u64);
                Some(Segment { address, length: request.bytes })
            }
            _ => None,
        };
        let command = Command {
            lun: Lun::peripheral(request.lun),
            cdb: &cdb,
            direction: if segment.is_some() { request.direction } else { Direction::None },
            data_length: segment.map_or(0, |segment| segment.length),
            segments: segment.as_slice(),
            attribute: TaskAttribute::Simple,
            tag: None,
            timeout_ms: 0,
            cookie: request.cookie,
        };
        match self.controller.submit(request.target, &command) {
            Ok(_) => {}
            Err(SubmitError::Full) => return Ok(false),
            Err(error) => {
                return Err(
                    self.explain(format!("a command for target {}: {error}", request.target.0))
                );
            }
        }
        let unit = (request.target, request.lun);
        if cdb::is_write(request.cdb) {
            if !self.unflushed.contains(&unit) {
                self.unflushed.push(unit);
            }
        } else if cdb::is_whole_flush(request.cdb) {
            self.unflushed.retain(|other| *other != unit);
        }
        if self.sink.is_some() {
            self.show_trace();
        }
        Ok(true)
    }

    fn poll(&mut self, complete: &mut dyn FnMut(Completion<'_>)) -> Result<u32, Error> {
        self.left_out += 1;
        let look = self.left_out >= POLLS_BETWEEN_LOOKS;
        if look || self.sink.is_some() {
            self.left_out = 0;
            self.tick(complete)?;
        }
        if !look && !self.link.may_have_replied() {
            return Ok(0);
        }
        if self.sink.is_none() {
            return Ok(self.controller.poll(complete));
        }
        // Sense lies beside the reply frame, so it is shown where it comes out.
        let mut lines = Vec::new();
        let found = self.controller.poll(|completion| {
            if let Some(sense) = Sense::parse(completion.sense) {
                lines.push(format!("         sense: {sense}"));
            }
            complete(completion);
        });
        self.show_trace();
        if let Some(sink) = self.sink.as_mut() {
            lines.iter().for_each(|line| sink(line));
        }
        Ok(found)
    }

    fn pause(&mut self) {
        self.link.pause();
    }

    fn outstanding(&self) -> u16 {
        self.controller.outstanding()
    }

    fn read_page(&mut self, request: PageRequest) -> Result<Vec<u8>, Error> {
        let mut page = vec![0u8; PAGE_BYTES];
        let length = self
            .controller
            .read_page(&mut RealDelay, request, &mut page, |_| {})
            .map_err(|error| self.explain(error))?;
        page.truncate(length);
        Ok(page)
    }

    fn counters(&self) -> Counters {
        self.controller.counters()
    }

    fn register_accesses(&self) -> (u64, u64) {
        self.controller.register_accesses()
    }
}
