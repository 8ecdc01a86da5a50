//! What a real platform does all day: submit, poll when there is an interrupt, tick, reset when it
//! is told to, and send again what came back undone.

use std::collections::VecDeque;
use std::time::Duration;

use embedded_hal::delay::DelayNs;
use fusion_mpt::controller::{Action, Health};
use fusion_mpt::error::{Error, SubmitError};
use fusion_mpt::generation::Generation;
use fusion_mpt::outcome::Failure;
use fusion_mpt_mock::faults::{Plan, Random};
use fusion_mpt_mock::in_process::MockDelay;

use super::content::STATIC;
use super::{Ask, End, Platform};

/// How often a command is sent at most.
const MOST_TRIES: u32 = 200;
/// Milliseconds between two probes.
const PROBE_EVERY_MS: u64 = 200;
/// The driver looks at the doorbell once in so many milliseconds, and a bit.
const DOORBELL_MS: u64 = 1_200;
/// The caller's own deadline of each command, in milliseconds.
pub const TIMEOUT_MS: u32 = 9_000;

/// Where a platform and its controller have ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    Recovered,
    Gone,
    Offline,
}

impl Ending {
    pub fn name(self) -> &'static str {
        match self {
            Ending::Recovered => "recovered",
            Ending::Gone => "gone",
            Ending::Offline => "offline",
        }
    }
}

/// A delay during which something happens once.
pub struct HookDelay<'h> {
    pub inner: MockDelay,
    /// Delays until then.
    pub left: u64,
    pub happens: Option<Box<dyn FnOnce() + 'h>>,
}

impl HookDelay<'_> {
    fn count(&mut self) {
        self.left = self.left.saturating_sub(1);
        if self.left == 0
            && let Some(happens) = self.happens.take()
        {
            happens();
        }
    }
}

impl DelayNs for HookDelay<'_> {
    fn delay_ns(&mut self, ns: u32) {
        self.count();
        self.inner.delay_ns(ns);
    }

    fn delay_us(&mut self, us: u32) {
        self.count();
        self.inner.delay_us(us);
    }

    fn delay_ms(&mut self, ms: u32) {
        self.count();
        self.inner.delay_ms(ms);
    }
}

/// A platform at work.
pub struct Host<G: Generation> {
    pub platform: Platform<G>,
    pub chance: Random,
    /// What is to be sent, again or for the first time: target, what, and how often it was sent.
    pub again: VecDeque<(u16, Ask, u32)>,
    /// Disks that probes go to.
    targets: u16,
    probed_ms: u64,
    probes: u64,
    /// When a probe that was sent after this time has come back good.
    pub proof: Option<u64>,
    pub probe_after_ms: u64,
    pub resets: u32,
    /// How often it was said that the controller is gone.
    pub gone_reports: u32,
    pub last_error: Option<Error>,
    /// Something that happens once during the next reset.
    pub during_reset: Option<(u64, Plan)>,
}

impl<G: Generation> Host<G> {
    pub fn new(mut platform: Platform<G>, chance: Random, targets: u16) -> Self {
        platform.driver.interrupts(true);
        Self {
            platform,
            chance,
            again: VecDeque::new(),
            targets,
            probed_ms: 0,
            probes: 0,
            proof: None,
            probe_after_ms: 0,
            resets: 0,
            gone_reports: 0,
            last_error: None,
            during_reset: None,
        }
    }

    /// The first disk that is there, if one is.
    pub fn present(&self) -> Option<u16> {
        (0..self.targets).find(|disk| self.platform.is_present(*disk))
    }

    /// Sends a command, or keeps it for later where the driver says so.
    pub fn send(&mut self, target: u16, ask: Ask, tries: u32) -> bool {
        match self.platform.submit_again(target, ask, tries) {
            Ok(_) => true,
            Err(SubmitError::Held | SubmitError::Throttled | SubmitError::Full) => {
                self.again.push_back((target, ask, tries));
                false
            }
            // The controller wants a reset, or will not come back: the actions say which.
            Err(SubmitError::NotOperational) => {
                self.again.push_back((target, ask, tries));
                false
            }
            Err(SubmitError::NoTarget | SubmitError::Gone) => false,
            Err(other) => panic!("{ask:?} was refused: {other}"),
        }
    }

    /// One turn: so much time passes, and the platform does what there is to do.
    pub fn turn(&mut self, ms: u64) {
        self.platform.bus.advance(Duration::from_millis(ms));
        if self.platform.bus.interrupt_pending() {
            while self.platform.poll() > 0 {
                self.platform.bus.run_until_idle();
            }
        }
        self.platform.tick();
        self.act();
        self.look_at_ends();
        for _ in 0..self.again.len() {
            let Some((target, ask, tries)) = self.again.pop_front() else { break };
            if !self.send(target, ask, tries) && !self.again.is_empty() {
                break;
            }
        }
    }

    /// A turn of 10 to 100 ms.
    pub fn turn_of_some(&mut self) {
        let ms = 10 + self.chance.below(91);
        self.turn(ms);
    }

    fn act(&mut self) {
        for action in std::mem::take(&mut self.platform.actions) {
            match action {
                Action::ResetNeeded(_) => self.reset(),
                Action::ControllerGone => self.gone_reports += 1,
                _ => {}
            }
        }
    }

    pub fn reset(&mut self) {
        self.resets += 1;
        let hook = self.during_reset.take();
        let Platform { driver, books, bus, .. } = &mut self.platform;
        let bus = &*bus;
        let (left, happens) = match hook {
            Some((left, plan)) => {
                let happens = move || bus.set_faults(&plan);
                (left, Some(Box::new(happens) as Box<dyn FnOnce() + '_>))
            }
            None => (0, None),
        };
        let mut delay = HookDelay { inner: bus.delay(), left, happens };
        let result = driver.reset(bus.now_ms(), &mut delay, |completion| books.note(&completion));
        if let Some(happens) = delay.happens.take() {
            happens();
        }
        drop(delay);
        self.last_error = result.err();
        self.platform.note_actions();
        if self.chance.coin() {
            // A tick may come at once.
            self.platform.tick();
        }
    }

    /// Installs faults now.
    pub fn set_faults(&self, plan: &Plan) {
        self.platform.bus.set_faults(plan);
    }

    /// Installs faults at the so-manieth delay of the next reset, or after it.
    pub fn set_faults_during_reset(&mut self, delays: u64, plan: Plan) {
        self.during_reset = Some((delays, plan));
    }

    /// Works on until the faults show themselves; when the first did, in milliseconds.
    pub fn wait_for_fault(&mut self, patience_ms: u64) -> Option<u64> {
        let until = self.platform.bus.now_ms() + patience_ms;
        loop {
            if let Some(event) = self.platform.bus.fault_log().first() {
                return Some(event.ns / 1_000_000);
            }
            if self.platform.bus.now_ms() >= until || self.ending().is_some() {
                return None;
            }
            self.turn_of_some();
            self.probe();
        }
    }

    /// What is sent from now on, or from the fault on, proves that all is well.
    pub fn probe_after(&mut self, fault_ms: Option<u64>) {
        let now = self.platform.bus.now_ms();
        self.probe_after_ms = fault_ms.unwrap_or(now);
        self.proof = None;
    }

    fn look_at_ends(&mut self) {
        let now = self.platform.bus.now_ms();
        for ended in std::mem::take(&mut self.platform.books.ended) {
            match ended.end {
                End::Good if ended.submitted_ms >= self.probe_after_ms => {
                    self.proof.get_or_insert(now);
                }
                End::NotNow(_) | End::Failed(Failure::HandedBack) if ended.tries < MOST_TRIES => {
                    self.again.push_back((ended.target, ended.ask, ended.tries + 1));
                }
                _ => {}
            }
        }
    }

    /// Sends a small read now and then.
    pub fn probe(&mut self) {
        let now = self.platform.bus.now_ms();
        if now < self.probed_ms + PROBE_EVERY_MS || self.again.len() > 64 {
            return;
        }
        let present: Vec<u16> =
            (0..self.targets).filter(|disk| self.platform.is_present(*disk)).collect();
        self.probed_ms = now;
        self.probes += 1;
        if let Some(target) = present.get(self.probes as usize % present.len().max(1)) {
            let lba = STATIC.start + self.probes % (STATIC.end - STATIC.start);
            // No queue builds up behind a controller that does not answer.
            let _ = self.platform.submit(*target, Ask::Read { lba, blocks: 1 });
        }
    }

    pub fn ending(&self) -> Option<Ending> {
        match self.platform.driver.health() {
            Health::Gone => Some(Ending::Gone),
            Health::Offline => Some(Ending::Offline),
            _ => None,
        }
    }

    /// Whether everything that was sent up to `probe_after_ms` has ended, and a later read was good.
    pub fn has_recovered(&self) -> bool {
        let old = |out: &super::books::Out| out.submitted_ms < self.probe_after_ms;
        self.proof.is_some()
            && self.platform.driver.health() == Health::Running
            && self.again.is_empty()
            && !self.platform.books.out.values().any(old)
    }

    /// Works on, probing, until it has recovered or the controller has been given up; which, and
    /// when. Recovered is who still works when the driver has looked at the doorbell once more.
    #[track_caller]
    pub fn live(&mut self, limit_ms: u64, what: &str) -> (Ending, u64) {
        let until = self.platform.bus.now_ms() + limit_ms;
        let mut recovered = None;
        loop {
            let now = self.platform.bus.now_ms();
            if let Some(ending) = self.ending() {
                // What comes back does so now.
                self.turn_of_some();
                return (ending, now);
            }
            recovered = match recovered {
                Some(since) if self.has_recovered() && now > since + DOORBELL_MS => {
                    return (Ending::Recovered, since);
                }
                since => self.has_recovered().then_some(since.unwrap_or(now)),
            };
            assert!(
                now < until,
                "{what}: not within {limit_ms} ms: {:?}, {} out, {} to send, {:?}, last error {:?}, complaints {:?}",
                self.platform.driver.health(),
                self.platform.books.out.len(),
                self.again.len(),
                self.platform.driver.recovery_counters(),
                self.last_error,
                self.platform.complaints(),
            );
            self.turn_of_some();
            self.probe();
        }
    }
}
