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
//! from which the next `make_ready` recovers it. A controller in operation is reset in place by
//! [`Controller::reset`].

use embedded_hal::delay::DelayNs;

use crate::controller::{Controller, Stopped};
use crate::error::Error;
use crate::facts::FACTS_BYTES;
use crate::generation::chips::Chip;
use crate::generation::{Facts, FactsReply, Generation, PortFacts, ask};
use crate::io_queue::Completion;
use crate::mem::Memory;
use crate::memory_plan::{MemoryPlan, Wants};
use crate::platform::{DmaRegion, Registers};
use crate::recovery::{self, ResetKind};
use crate::regs::{Bus, DOORBELL};
use crate::shared::{ReplyFrames, ReplyRecord, SharedRecord};
use crate::slots::SlotRecord;
use crate::startup::{ask_facts, start_ioc};
use crate::targets::TargetRecord;
use crate::wire::Function;

/// The tables that a controller works in, supplied by the platform and sized from the plan.
#[derive(Debug)]
pub struct Tables<'a> {
    /// [`MemoryPlan::slots`] entries.
    pub slots: &'a mut [SlotRecord],
    /// [`MemoryPlan::reply_frames`] entries.
    pub replies: &'a [ReplyRecord],
    /// One.
    pub shared: &'a SharedRecord,
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

    #[inline(never)]
    fn ask(self, delay: &mut dyn DelayNs, reset: ResetKind) -> Result<Ready<G, R>, Error> {
        let facts = ask_facts::<G, R>(&self.bus, delay, self.chip)?;
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

    /// Asks for the IOC's facts once more, for whoever shows all of them: what the driver needs of
    /// them is in [`Ready::facts`].
    ///
    /// # Errors
    ///
    /// As [`Reset::make_ready`] where it asks.
    pub fn facts_reply(&self, delay: &mut dyn DelayNs) -> Result<FactsReply, Error> {
        const LIMIT_MS: u32 = 10_000;
        let function = Function::IOC_FACTS;
        // Twelve bytes in both generations, of which only the function is not zero.
        let request = [0, 0, 0, function.0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut reply = [0; FACTS_BYTES];
        ask::<G, R>(&self.bus, delay, function, &request, &mut reply, LIMIT_MS)?;
        Ok(reply)
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
    #[inline(never)]
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
        let Tables { slots, replies, shared, targets } = tables;
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

        start_ioc::<G, R, D>(&self.bus, delay, &self.facts, plan, &memory, now_ms)?;
        let replies = ReplyFrames::new(replies, shared);
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
        controller.wait_until_settled(delay, |_| {})?;
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
    /// Stops the controller in order: accepts nothing more, drains, flushes the write cache of every
    /// target, tells RAID firmware that the system goes down, and resets the IOC to READY; bounded
    /// by the [`Policy`](recovery::Policy). `now_ms` as for `tick`. Queues that were handed out are
    /// their owners' to drain and drop before: [`Stopped::queues_held`] says that one was not.
    /// [`Controller::into_reset`] says what comes back; the [`Stopped`] says what was achieved
    /// before, and is worth a look whatever the result: only with nothing undrained and unflushed is
    /// everything on the medium.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] if the controller is gone; what the reset met with.
    pub fn stop(
        mut self,
        now_ms: u64,
        delay: &mut impl DelayNs,
        mut complete: impl FnMut(Completion<'_>),
    ) -> (Parts<G, R, D>, Stopped, Result<(), Error>) {
        let stopped = self.quiesce(now_ms, delay, &mut complete);
        let gone = self.is_gone();
        let (parts, result) = self.into_reset(delay, complete);
        (parts, stopped, if gone { Err(Error::Gone) } else { result })
    }

    /// Takes the controller apart for another start, memory included; the tables are the caller's
    /// again, and the target table keeps its ids. Everything outstanding completes as reset. The IOC
    /// is reset first, so that it no longer writes the memory (trap T41); if that fails, which the
    /// result says, only a gone controller's memory may be reused for something else.
    pub fn into_reset(
        self,
        delay: &mut impl DelayNs,
        mut complete: impl FnMut(Completion<'_>),
    ) -> (Parts<G, R, D>, Result<(), Error>) {
        let (bus, chip, region, result) = self.take_apart(delay, &mut complete);
        let reset = Reset { bus, chip, generation: core::marker::PhantomData };
        (Parts { reset, region }, result)
    }
}
