//! The decorators of a plan, one over the other, and what they share.

use std::collections::BTreeMap;

use crate::memory::DeviceMemory;
use crate::model::tap::{Door, Reply, Request, Tapped};
use crate::model::{Ioc, Model, State};

use super::log::{FaultEvent, Log};
use super::plan::{Counts, Plan, When};
use super::random::Random;
use super::release::{self, Late};
use super::{Decorator, Fault, Hand, Passing, Verdict, decorator};

/// Requests that were fetched from a queue and not answered, by SMID or message context.
pub(super) type Outstanding = BTreeMap<u32, Request>;

/// One fault with its moment and its chance.
#[derive(Debug)]
struct Layer {
    fault: Fault,
    when: When,
    left: u32,
    random: Random,
    decorator: Box<dyn Decorator>,
}

/// What all layers see, and leave to each other.
#[derive(Debug, Default)]
struct Common {
    counts: Counts,
    late: Late,
    log: Log,
    outstanding: Outstanding,
}

/// The layers, the first next to the model.
#[derive(Debug)]
pub(super) struct Stack {
    layers: Vec<Layer>,
    common: Common,
    /// A decorator kept the firmware from its work when it was last stepped.
    stopped: bool,
}

impl Layer {
    /// Calls `work` with the decorator and what it may use.
    fn with<T>(
        &mut self,
        model: &mut Model,
        common: &mut Common,
        work: impl FnOnce(&mut dyn Decorator, &mut Hand<'_>) -> T,
    ) -> T {
        let mut hand = Hand {
            model,
            counts: common.counts,
            when: &self.when,
            left: &mut self.left,
            random: &mut self.random,
            late: &mut common.late,
            log: &mut common.log,
            fault: &self.fault,
            outstanding: &common.outstanding,
        };
        work(&mut *self.decorator, &mut hand)
    }
}

impl Stack {
    pub(super) fn new(plan: &Plan) -> Self {
        let layer = |(index, planned): (usize, &super::Planned)| Layer {
            fault: planned.fault,
            when: planned.when,
            left: planned.when.times,
            random: Random::split(plan.seed, index as u64),
            decorator: decorator(planned.fault),
        };
        Self {
            layers: plan.faults.iter().enumerate().map(layer).collect(),
            common: Common::default(),
            stopped: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.layers.len()
    }

    pub(super) fn counts(&self) -> Counts {
        self.common.counts
    }

    pub(super) fn log(&self) -> &[FaultEvent] {
        self.common.log.events()
    }

    pub(super) fn take_log(&mut self) -> Vec<FaultEvent> {
        std::mem::take(&mut self.common.log).into_events()
    }

    /// Gives the model what was kept back, to be posted with its next steps.
    pub(super) fn hand_back(&mut self, model: &mut Model) {
        if model.is_up() {
            for reply in self.common.late.take_replies() {
                model.post_later(reply);
            }
        }
    }

    /// Calls `work` with each decorator, the one next to the model first.
    fn each(&mut self, model: &mut Model, mut work: impl FnMut(&mut dyn Decorator, &mut Hand<'_>)) {
        for layer in &mut self.layers {
            layer.with(model, &mut self.common, &mut work);
        }
    }

    /// Something was counted.
    fn moment(&mut self, model: &mut Model) {
        self.each(model, |decorator, hand| decorator.moment(hand));
    }

    pub(super) fn read32(&mut self, model: &mut Model, offset: u32) -> u32 {
        self.common.counts.accesses += 1;
        self.moment(model);
        let mut value = model.read32(offset);
        self.each(model, |decorator, hand| value = decorator.read(offset, value, hand));
        value
    }

    /// Whether a write gets through.
    pub(super) fn write(&mut self, model: &mut Model, offset: u32, value: u64) -> bool {
        self.common.counts.accesses += 1;
        self.moment(model);
        let mut through = true;
        self.each(model, |decorator, hand| through &= decorator.write(offset, value, hand));
        through
    }

    pub(super) fn step(
        &mut self,
        model: &mut Model,
        memory: &dyn DeviceMemory,
        now_ns: u64,
    ) -> bool {
        model.set_time(now_ns);
        // A reset from outside, between two steps, has left its word.
        self.pass(model, memory);
        self.stopped = false;
        let mut stopped = false;
        self.each(model, |decorator, hand| stopped |= decorator.stops(hand));
        if stopped {
            self.stopped = true;
            self.each(model, |decorator, hand| decorator.stepped(false, hand));
            return false;
        }
        if model.is_up() && self.common.late.release(model, memory) {
            return true;
        }
        let worked = model.step(memory, now_ns);
        self.pass(model, memory);
        self.each(model, |decorator, hand| decorator.stepped(worked, hand));
        if self.hides_interrupt() {
            let _ = model.take_vectors();
        }
        worked || model.is_up() && self.common.late.next().is_some_and(|due| due <= now_ns)
    }

    /// Takes what came by past the decorators.
    fn pass(&mut self, model: &mut Model, memory: &dyn DeviceMemory) {
        while let Some(tapped) = model.next_tapped() {
            match tapped {
                Tapped::Reset => self.was_reset(model),
                Tapped::Request(request, door) => self.request(model, memory, &request, door),
                Tapped::Executed(request) => {
                    let writes = changes_disk(model.parse(&request).cdb());
                    if writes {
                        self.common.counts.disk_writes += 1;
                        self.moment(model);
                    }
                }
                Tapped::Reply(reply) => self.reply(model, memory, reply),
            }
        }
    }

    fn was_reset(&mut self, model: &mut Model) {
        self.common.late.clear();
        let unanswered: Vec<Request> = self.common.outstanding.values().copied().collect();
        self.common.outstanding.clear();
        self.each(model, |decorator, hand| decorator.was_reset(&unanswered, hand));
    }

    fn request(
        &mut self,
        model: &mut Model,
        memory: &dyn DeviceMemory,
        request: &Request,
        door: Door,
    ) {
        self.common.counts.messages += 1;
        if door == Door::Queue {
            self.common.outstanding.insert(request.key, *request);
        }
        let resets = model.resets_tapped();
        self.moment(model);
        let mut verdict = Verdict::CarryOut;
        for layer in &mut self.layers {
            if !matches!(verdict, Verdict::CarryOut) {
                break;
            }
            verdict = layer.with(model, &mut self.common, |decorator, hand| {
                decorator.request(request, door, hand)
            });
        }
        // Whoever stopped or reset the IOC has done away with the request too.
        let runs = matches!(model.state(), State::Ready | State::Operational);
        if model.resets_tapped() != resets || !runs || model.is_yanked() {
            return;
        }
        match verdict {
            Verdict::CarryOut => model.go_on(memory, request, door),
            Verdict::Lose => {}
            Verdict::Answer(reply) => self.reply(model, memory, reply),
        }
    }

    fn reply(&mut self, model: &mut Model, memory: &dyn DeviceMemory, reply: Reply) {
        self.common.counts.replies += 1;
        let request = self.common.outstanding.remove(&reply.key);
        let resets = model.resets_tapped();
        self.moment(model);
        let mut batch = vec![Passing::new(reply, request)];
        for layer in &mut self.layers {
            let mut out = Vec::with_capacity(batch.len());
            layer.with(model, &mut self.common, |decorator, hand| {
                for passing in batch {
                    decorator.reply(passing, memory, hand, &mut out);
                }
            });
            batch = out;
        }
        if model.resets_tapped() != resets {
            return;
        }
        for passing in batch {
            if passing.due > model.now() {
                self.common.late.push(passing);
            } else if model.is_up() {
                release::post(model, memory, passing, &mut self.common.late);
            }
        }
    }

    pub(super) fn deadline(&self, model: &Model) -> Option<u64> {
        let decorators = self.layers.iter().filter_map(|layer| layer.decorator.deadline()).min();
        if self.stopped {
            return decorators;
        }
        let late = if model.is_up() { self.common.late.next() } else { None };
        [decorators, late, model.deadline()].into_iter().flatten().min()
    }

    pub(super) fn hides_interrupt(&self) -> bool {
        self.layers.iter().any(|layer| layer.decorator.hides_interrupt())
    }
}

/// Whether a command changes what is on the medium, or what of it is safe there (SBC-3 table 13).
fn changes_disk(cdb: &[u8]) -> bool {
    matches!(
        cdb.first(),
        // WRITE (6), (10), AND VERIFY, WRITE SAME (10), UNMAP, SYNCHRONIZE CACHE.
        Some(
            0x0a | 0x2a | 0x2e | 0x41 | 0x42 | 0x35
            // (12), (16), WRITE SAME (16), SYNCHRONIZE CACHE (16), COMPARE AND WRITE.
            | 0xaa | 0xae | 0x8a | 0x8e | 0x93 | 0x91 | 0x89
        )
    )
}
