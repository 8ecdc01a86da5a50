//! A software controller with faults around it.

use std::fmt;

use crate::memory::DeviceMemory;
use crate::model::{Ioc, Model};

use super::log::FaultEvent;
use super::plan::{Counts, Plan};
use super::stack::Stack;

/// A [`Model`] and the faults of a [`Plan`] around it; without a plan, the model and nothing else.
#[derive(Debug)]
pub struct Faulty {
    model: Model,
    stack: Option<Box<Stack>>,
    /// What the plans of before have done.
    log: Vec<FaultEvent>,
}

impl Faulty {
    /// The controller without faults.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self { model, stack: None, log: Vec::new() }
    }

    /// The controller itself: what is done to it there passes no decorator.
    pub fn model_mut(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Lays these faults around the controller, in place of those that there were. Moments count
    /// from here; what was kept back goes out as if nothing had been. The log goes on.
    pub fn set_faults(&mut self, plan: &Plan) {
        self.clear_faults();
        if !plan.faults.is_empty() {
            self.model.set_tap(true);
            self.stack = Some(Box::new(Stack::new(plan)));
        }
    }

    /// Takes all faults away. What they have broken stays so; what was kept back is posted with the
    /// next step.
    pub fn clear_faults(&mut self) {
        if let Some(mut stack) = self.stack.take() {
            self.log.extend(stack.take_log());
            stack.hand_back(&mut self.model);
            self.model.set_tap(false);
        }
    }

    /// What the faults have done so far, those of plans of before too; the oldest first.
    #[must_use]
    pub fn fault_log(&self) -> Vec<FaultEvent> {
        let mut events = self.log.clone();
        events.extend(self.stack.iter().flat_map(|stack| stack.log()).cloned());
        events
    }

    /// How far the run with the present faults has got; zeros without faults.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.stack.as_ref().map_or_else(Counts::default, |stack| stack.counts())
    }

    /// Tells the time of a register access to whoever looks: on a stepped bus the firmware's is that
    /// of its last step.
    pub(crate) fn access_at(&mut self, now_ns: impl FnOnce() -> u64) {
        if self.stack.is_some() {
            self.model.set_time(now_ns());
        }
    }
}

impl Ioc for Faulty {
    fn read32(&mut self, offset: u32) -> u32 {
        match &mut self.stack {
            None => self.model.read32(offset),
            Some(stack) => stack.read32(&mut self.model, offset),
        }
    }

    fn write32(&mut self, offset: u32, value: u32) {
        if let Some(stack) = &mut self.stack
            && !stack.write(&mut self.model, offset, value.into())
        {
            return;
        }
        self.model.write32(offset, value);
    }

    fn write64(&mut self, offset: u32, value: u64) {
        if let Some(stack) = &mut self.stack
            && !stack.write(&mut self.model, offset, value)
        {
            return;
        }
        self.model.write64(offset, value);
    }

    fn step(&mut self, memory: &dyn DeviceMemory, now_ns: u64) -> bool {
        match &mut self.stack {
            None => self.model.step(memory, now_ns),
            Some(stack) => stack.step(&mut self.model, memory, now_ns),
        }
    }

    fn deadline(&self) -> Option<u64> {
        match &self.stack {
            None => self.model.deadline(),
            Some(stack) => stack.deadline(&self.model),
        }
    }

    fn interrupt_pending(&self) -> bool {
        self.model.interrupt_pending()
            && self.stack.as_ref().is_none_or(|stack| !stack.hides_interrupt())
    }

    fn take_vectors(&mut self) -> u128 {
        let vectors = self.model.take_vectors();
        let hidden = self.stack.as_ref().is_some_and(|stack| stack.hides_interrupt());
        if hidden { 0 } else { vectors }
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {} faults", self.model, self.stack.as_ref().map_or(0, |s| s.len()))
    }
}
