//! A session: a bus opened by name, its controller brought up, lent to a command, and left in
//! order whatever the command met with.
//!
//! What the driver core survives a session survives: it resets a controller that must be reset, and
//! ends with a sentence when one is gone or cannot be reset.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fusion_mpt::bringup::{Reset, Tables};
use fusion_mpt::controller::Controller;
use fusion_mpt::error::Error as CoreError;
use fusion_mpt::facts::FACTS_BYTES;
use fusion_mpt::generation::chips::Chip;
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::recovery::{InFlight, Policy};
use fusion_mpt::shared::{ReplyRecord, SharedRecord};
use fusion_mpt::slots::SlotRecord;
use fusion_mpt::targets::{TargetId, TargetRecord};
use fusion_mpt::trace::Trace;
use fusion_mpt_mock::faults::Plan;

use crate::bus_name::BusName;
use crate::decode::Decoder;
use crate::ended::Ended;
use crate::error::Error;
use crate::host::{BringUp, Buffer, FurtherQueue, Host};
use crate::image::Images;
use crate::link::Link;
use crate::recovery::Record;
use crate::waiting::{Interrupt, Look, Waiter, Waiting};

mod ending;
mod further;
mod lending;
mod recovering;

use further::{Devices, Further, SharedRegion};
use recovering::LastReset;

/// What a command does with a running controller and its further queues.
pub(crate) type Work<'w, T> =
    dyn FnMut(&mut dyn Host, Vec<FurtherQueue<'_>>) -> Result<T, Error> + 'w;

/// Targets that a session has room for.
const TARGETS: usize = 256;

/// Where lines go: those of a trace, or of what happened to the controller.
pub type TraceSink = Box<dyn FnMut(&str)>;

/// How to open a bus.
pub struct Options {
    /// Which.
    pub bus: BusName,
    /// The files behind its disks; temporary ones when there are none.
    pub disks: Vec<PathBuf>,
    /// Commands outstanding at once over all queues, if the controller can.
    pub commands: u16,
    /// Reply queues, if the controller has as many: the first comes with the [`Host`], the others are
    /// for threads of their own.
    pub queues: u8,
    /// How queues wait for their controller, where the bus has interrupts.
    pub waiting: Waiting,
    /// What a command may take, in milliseconds, before it is aborted; 0 for what the driver's
    /// policy says. The driver begins a third of it, at most ten seconds, before that.
    pub timeout_ms: u32,
    /// Faults to lay around a software controller once it is up. It then lives in virtual time, as
    /// it does with a plan of none.
    pub faults: Option<Plan>,
    /// Where to write what passes, decoded.
    pub trace: Option<TraceSink>,
    /// Where to say what happened to the controller.
    pub report: Option<TraceSink>,
}

impl Options {
    /// A bus with what suits most.
    #[must_use]
    pub fn new(bus: BusName) -> Self {
        Self {
            bus,
            disks: Vec::new(),
            commands: 256,
            queues: 1,
            waiting: Waiting::default(),
            timeout_ms: 0,
            faults: None,
            trace: None,
            report: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("bus", &self.bus)
            .field("disks", &self.disks)
            .field("commands", &self.commands)
            .field("queues", &self.queues)
            .field("waiting", &self.waiting)
            .field("timeout_ms", &self.timeout_ms)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// Brings the controller of `link` up, lends it to `work`, and takes it down again: drained,
/// flushed and reset to READY.
pub(crate) fn drive<B: Link, T>(
    link: &B,
    images: &Images,
    options: &mut Options,
    work: &mut Work<'_, T>,
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
    work: &mut Work<'_, T>,
) -> Result<T, Error> {
    let started = link.now();
    // The IOC is told the time of day, for its own log.
    let started_ms = link.time_of_day_ms();
    let mut delay = link.delay();
    let bus = options.bus;
    let explain = |doing: &str, error: CoreError| match link.failure() {
        Some(sentence) => Error::failed(format!("{doing} on {bus}: {sentence}")),
        None => Error::failed(format!("{doing} on {bus}: {error}")),
    };

    let ready = Reset::<G, B::Registers>::new(link.registers(), chip)
        .make_ready(&mut delay)
        .map_err(|error| explain("bringing the controller to READY", error))?;
    let queues = options.queues.max(1);
    let wants = Wants { commands: options.commands, queues, ..Wants::default() };
    let plan = ready.plan(&wants).map_err(|error| explain("planning the memory", error))?;
    let region = SharedRegion::new(link.allocate(plan.bytes, plan.alignment)?);

    let mut slots = vec![SlotRecord::NEW; usize::from(plan.slots)];
    let replies: Vec<ReplyRecord> = (0..plan.reply_frames).map(|_| ReplyRecord::new()).collect();
    let shared = SharedRecord::new();
    let mut targets = vec![TargetRecord::default(); TARGETS];
    let mut trace = Box::new(Trace::new());
    let mut event_log = Box::new(Trace::new());

    let mut bring_up = BringUp {
        bus,
        pci_id: link.pci_id(),
        chip: chip.name,
        reset: ready.reset_kind(),
        facts: *ready.facts(),
        // A controller that is in trouble shows it where it is started, with a better sentence.
        facts_reply: ready.facts_reply(&mut delay).unwrap_or([0; FACTS_BYTES]),
        port_facts: *ready.port_facts(),
        plan,
        milliseconds: 0,
    };
    let tables =
        Tables { slots: &mut slots, replies: &replies, shared: &shared, targets: &mut targets };
    let mut controller = ready
        .begin(&plan, region, tables, started_ms, &mut delay)
        .map_err(|error| explain("starting the controller", error))?;
    // What a reset ends comes back when it can be sent again at once.
    controller.set_policy(Policy { in_flight: InFlight::HandBack, ..Policy::default() });
    controller.set_event_log(&mut event_log);
    let sink = options.trace.take();
    if sink.is_some() {
        controller.set_trace(&mut trace);
    }
    let found = controller.wait_until_settled(&mut delay, |_| {});
    bring_up.milliseconds = (link.now() - started).as_millis() as u64;

    let devices = Devices::default();
    let has_written = AtomicBool::new(false);
    let mut further: Vec<FurtherQueue<'_>> = Vec::new();
    while let Some(queue) = controller.take_queue() {
        let interrupt = link.interrupt(further.len() as u8 + 1);
        further.push(Box::new(Further::new::<B>(
            queue,
            &devices,
            &has_written,
            interrupt,
            options,
            started_ms,
        )));
    }
    let interrupt = link.interrupt(0);
    // One mask is for every queue's interrupt: where further queues sleep, none is held back.
    let always = B::INTERRUPTS || (!further.is_empty() && interrupt.is_some());

    let mut session = Session {
        link,
        controller,
        devices: &devices,
        present: Vec::new(),
        kept: Vec::new(),
        waiter: Waiter::new(
            if interrupt.is_some() { options.waiting } else { Waiting::Poll },
            if chip.is_mpi1() { Look::Register } else { Look::Memory },
        ),
        interrupt,
        always,
        bring_up,
        images,
        buffers: Vec::new(),
        unflushed: Vec::new(),
        has_written: &has_written,
        started,
        started_ms,
        timeout_ms: options.timeout_ms,
        left_out: 0,
        idle: 0,
        refused_since: None,
        sent_again: 0,
        record: Record::default(),
        last_reset: None,
        handed_back: 0,
        report: options.report.take(),
        decoder: Decoder::new(chip.is_mpi1()),
        sink,
        traced: 0,
    };
    session.controller.interrupts(always);
    session.publish_devices();
    session.show_trace();
    let result = match found {
        Ok(()) => session
            .forget_appearances()
            .and_then(|()| session.arm(options.faults.as_ref()))
            .and_then(|()| work(&mut session, further)),
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
    controller: Controller<'a, G, B::Registers, SharedRegion<B::Dma>>,
    /// Where commands for targets go, for further queues.
    devices: &'a Devices,
    /// Who was there when that was last known.
    present: Vec<TargetId>,
    /// Completions that one caller came across and that are another's.
    kept: Vec<(u64, Ended)>,
    waiter: Waiter,
    interrupt: Option<Interrupt>,
    /// Whether reply interrupts pass all the time.
    always: bool,
    bring_up: BringUp,
    images: &'a Images,
    /// Everything ever lent out, kept until the controller has been reset.
    buffers: Vec<Buffer>,
    /// Targets and logical units that were written since their last flush.
    unflushed: Vec<(TargetId, u8)>,
    /// Anything was ever written, by any queue.
    has_written: &'a AtomicBool,
    started: Duration,
    /// The same in milliseconds since 1970.
    started_ms: u64,
    /// What a command may take; 0 for the policy's limit.
    timeout_ms: u32,
    left_out: u32,
    /// Pauses since something came.
    idle: u32,
    /// Since when every command has been refused though the controller works.
    refused_since: Option<Duration>,
    sent_again: u64,
    record: Record,
    last_reset: Option<LastReset>,
    /// Commands that a reset has handed back.
    handed_back: u64,
    report: Option<TraceSink>,
    decoder: Decoder,
    sink: Option<TraceSink>,
    traced: u64,
}

impl<G: Generation, B: Link> Session<'_, G, B> {
    fn now_ms(&self) -> u64 {
        self.started_ms + (self.link.now() - self.started).as_millis() as u64
    }

    fn arm(&mut self, faults: Option<&Plan>) -> Result<(), Error> {
        match faults.filter(|plan| !plan.faults.is_empty()) {
            Some(plan) => self.set_faults(Some(plan)),
            None => Ok(()),
        }
    }

    fn explain(&self, error: impl std::fmt::Display) -> Error {
        match self.link.failure() {
            Some(sentence) => Error::failed(sentence),
            None => Error::failed(format!("on {}: {error}", self.bring_up.bus)),
        }
    }
}
