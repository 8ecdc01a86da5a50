//! Bring-up, one way only, as types: [`Reset`] → [`Ready`] → [`Controller`].
//!
//! ```text
//! Reset::new(registers, chip)
//!    .make_ready(delay)           doorbell, resets, IOC facts, port facts
//!       -> Ready                  .plan(wants) says how much memory
//!          .start(plan, region, tables, now, delay)
//!             -> Controller       IOC init, queues, events, port enable, discovery
//! ```
//!
//! Every wait is bounded and says what it waited for; an error leaves the controller in a state
//! from which the next `make_ready` recovers it.

use embedded_hal::delay::DelayNs;

use crate::controller::{Controller, PORT_ENABLE_LIMIT_MS};
use crate::doorbell::handshake;
use crate::error::Error;
use crate::generation::chips::Chip;
use crate::generation::{Facts, Generation, HostMemory, PortFacts, expect};
use crate::io_queue::Completion;
use crate::mem::Memory;
use crate::memory_plan::{MemoryPlan, Wants};
use crate::platform::{DmaRegion, Registers};
use crate::recovery::{self, ResetKind};
use crate::regs::{Bus, DOORBELL, Doorbell, IocState};
use crate::shared::{HostIndex, ReplyFrames, ReplyRecord};
use crate::slots::SlotRecord;
use crate::targets::TargetRecord;
use crate::wire::Function;

/// How long IOC init may take from its reply to OPERATIONAL (Linux: 10 s).
const OPERATIONAL_LIMIT_MS: u32 = 10_000;
/// How often facts are asked for; the first answer after a reset may be cut short (FreeBSD: 5).
const FACTS_ATTEMPTS: u32 = 5;

/// The tables that a controller works in, supplied by the platform and sized from the plan.
#[derive(Debug)]
pub struct Tables<'a> {
    /// [`MemoryPlan::slots`] entries.
    pub slots: &'a mut [SlotRecord],
    /// [`MemoryPlan::reply_frames`] entries.
    pub replies: &'a [ReplyRecord],
    /// One.
    pub host_index: &'a HostIndex,
    /// As many as targets are wanted. Kept from one start to the next, they keep their ids.
    pub targets: &'a mut [TargetRecord],
}

/// A controller in a state unknown.
#[derive(Debug)]
pub struct Reset<G, R> {
    bus: Bus<R>,
    chip: &'static Chip,
    generation: core::marker::PhantomData<fn() -> G>,
}

impl<G: Generation, R: Registers> Reset<G, R> {
    /// Takes a register window and says what chip is behind it.
    pub const fn new(registers: R, chip: &'static Chip) -> Self {
        let bus = Bus::new(registers).with_zero_reads(chip.quirks.zero_reads);
        Self { bus, chip, generation: core::marker::PhantomData }
    }

    /// Brings the IOC to READY and asks what it is.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`], [`Error::Timeout`], [`Error::Fault`], [`Error::DiagnosticLocked`] or
    /// [`Error::BadFacts`].
    pub fn make_ready(self, delay: &mut impl DelayNs) -> Result<Ready<G, R>, Error> {
        let reset = recovery::make_ready::<G, R>(&self.bus, delay, self.chip)?;
        self.ask(delay, reset)
    }

    /// Restarts the adapter even if a milder reset would serve.
    ///
    /// # Errors
    ///
    /// As [`Reset::make_ready`].
    pub fn restart(self, delay: &mut impl DelayNs) -> Result<Ready<G, R>, Error> {
        self.bus.status(DOORBELL)?;
        recovery::diagnostic_reset(&self.bus, delay)?;
        self.ask(delay, ResetKind::Diagnostic)
    }

    fn ask(self, delay: &mut impl DelayNs, reset: ResetKind) -> Result<Ready<G, R>, Error> {
        let mut attempt = 1;
        let facts = loop {
            match G::facts(&self.bus, delay, self.chip) {
                Ok(facts) => break facts,
                Err(error @ (Error::Gone | Error::Fault(_) | Error::BadFacts { .. })) => {
                    return Err(error);
                }
                Err(error) if attempt == FACTS_ATTEMPTS => return Err(error),
                Err(_) => {
                    // A handshake cut short leaves the doorbell in use.
                    recovery::make_ready::<G, R>(&self.bus, delay, self.chip)?;
                }
            }
            attempt += 1;
        };
        let port = G::port_facts(&self.bus, delay, 0)?;
        Ok(Ready {
            bus: self.bus,
            chip: self.chip,
            facts,
            port,
            reset,
            generation: self.generation,
        })
    }
}

/// A controller in READY that has said what it is.
#[derive(Debug)]
pub struct Ready<G, R> {
    bus: Bus<R>,
    chip: &'static Chip,
    facts: Facts,
    port: PortFacts,
    reset: ResetKind,
    generation: core::marker::PhantomData<fn() -> G>,
}

impl<G: Generation, R: Registers> Ready<G, R> {
    /// What the IOC says about itself.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What it says about its first port.
    #[must_use]
    pub const fn port_facts(&self) -> &PortFacts {
        &self.port
    }

    /// Which reset it took to get here.
    #[must_use]
    pub const fn reset_kind(&self) -> ResetKind {
        self.reset
    }

    /// How much memory the controller needs for what is wanted, or for as much of it as it can do.
    ///
    /// # Errors
    ///
    /// [`Error::BadFacts`] if its facts leave no room for a single command.
    pub fn plan(&self, wants: &Wants) -> Result<MemoryPlan, Error> {
        MemoryPlan::new(&self.facts, wants, G::shape(&self.facts, self.chip))
    }

    /// Starts the controller and returns while it still looks for its disks:
    /// [`Controller::settled`] says when it is done.
    ///
    /// # Errors
    ///
    /// [`Error::BadMemory`] or [`Error::TableTooSmall`] before the controller was touched; else
    /// what IOC init or port enable met with.
    pub fn begin<'a, D: DmaRegion>(
        self,
        plan: &MemoryPlan,
        region: D,
        tables: Tables<'a>,
        now_ms: u64,
        delay: &mut impl DelayNs,
    ) -> Result<Controller<'a, G, R, D>, Error> {
        let memory = Memory::new(region);
        plan.check(memory.bus(0), memory.len())?;
        let Tables { slots, replies, host_index, targets } = tables;
        let supplied = slots.len();
        let needed = plan.slots;
        let Some(slots) = slots.get_mut(..usize::from(needed)) else {
            return Err(Error::TableTooSmall { table: "slot", needed, supplied });
        };
        let supplied = replies.len();
        let needed = plan.reply_frames;
        let Some(replies) = replies.get(..usize::from(needed)) else {
            return Err(Error::TableTooSmall { table: "reply frame", needed, supplied });
        };

        memory.fill(0, plan.bytes, 0);
        G::prepare(&memory, plan);
        let host = HostMemory { plan, bus: memory.bus(0) };
        G::init(&self.bus, delay, &self.facts, host, now_ms)?;
        self.bus.wait(
            delay,
            DOORBELL,
            "the IOC to become OPERATIONAL after IOC init",
            OPERATIONAL_LIMIT_MS,
            |doorbell: Doorbell| doorbell.state() == IocState::Operational,
        )?;
        if G::PORT_ENABLE_BY_DOORBELL {
            let message = G::port_enable(0, 0);
            let mut reply = [0u8; 64];
            let length =
                handshake(&self.bus, delay, message.bytes(), &mut reply, PORT_ENABLE_LIMIT_MS)?;
            expect::<G>(Function::PORT_ENABLE, &reply, length)?;
        }
        let replies = ReplyFrames::new(replies, host_index);
        let mut controller = Controller::new(
            self.bus, self.chip, self.facts, self.port, plan, memory, slots, replies, targets,
        );
        controller.begin(now_ms);
        Ok(controller)
    }

    /// Starts the controller and waits until it knows its disks.
    ///
    /// # Errors
    ///
    /// As [`Ready::begin`]; [`Error::Timeout`] if discovery does not come to an end.
    pub fn start<'a, D: DmaRegion>(
        self,
        plan: &MemoryPlan,
        region: D,
        tables: Tables<'a>,
        now_ms: u64,
        delay: &mut impl DelayNs,
    ) -> Result<Controller<'a, G, R, D>, Error> {
        let mut controller = self.begin(plan, region, tables, now_ms, delay)?;
        controller.wait_until_settled(delay)?;
        Ok(controller)
    }
}

/// What is left of a controller that was taken apart.
#[derive(Debug)]
pub struct Parts<G, R, D> {
    /// The way to start again.
    pub reset: Reset<G, R>,
    /// The DMA region.
    pub region: D,
}

impl<G: Generation, R: Registers, D: DmaRegion> Controller<'_, G, R, D> {
    /// Takes the controller apart for another start, memory included; the tables are the caller's
    /// again, and the target table keeps its ids. Everything outstanding
    /// completes as reset. The IOC is reset first, so that it no longer writes the memory (trap
    /// T41); if that fails, which the result says, only a gone controller's memory may be reused
    /// for something else.
    pub fn into_reset(
        self,
        delay: &mut impl DelayNs,
        complete: impl FnMut(Completion<'_>),
    ) -> (Parts<G, R, D>, Result<(), Error>) {
        let (bus, chip, region, result) = self.take_apart(delay, complete);
        let reset = Reset { bus, chip, generation: core::marker::PhantomData };
        (Parts { reset, region }, result)
    }
}
