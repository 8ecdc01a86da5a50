//! Firmware that stops, hangs, is slow, or talks too much.

use crate::model::tap::{Request, ResetPhase};
use crate::model::{DeviceStatus, LogEntry, State};

use super::{Decorator, Hand};

/// `MPI2_EVENT_SAS_DISCOVERY`, `MPI_EVENT_SAS_DISCOVERY`.
const EVENT_DISCOVERY: u16 = 0x16;

/// `fault-state`, `core-dump`.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) code: u16,
    /// Milliseconds in COREDUMP before FAULT.
    pub(super) dump_ms: Option<u32>,
}

impl Decorator for Stop {
    fn moment(&mut self, hand: &mut Hand<'_>) {
        let runs = matches!(hand.model.state(), State::Ready | State::Operational);
        if !runs || !hand.fires() {
            return;
        }
        let code = self.code;
        let dumped = self
            .dump_ms
            .filter(|ms| hand.model.core_dump(code, u64::from(*ms) * 1_000_000).is_ok());
        if dumped.is_some() {
            hand.note(format!("the IOC stopped in COREDUMP with code {code:#06x}"));
        } else {
            hand.model.fault(code);
            hand.note(format!("the IOC stopped in FAULT with code {code:#06x}"));
        }
    }
}

/// `slow-firmware`.
#[derive(Debug)]
pub(super) struct Slow {
    us: u32,
    /// It has been noted that it is slow: once is enough.
    noted: bool,
    /// When it goes on.
    until: Option<u64>,
}

impl Slow {
    pub(super) fn new(us: u32) -> Self {
        Self { us, noted: false, until: None }
    }
}

impl Decorator for Slow {
    fn stops(&mut self, hand: &mut Hand<'_>) -> bool {
        self.until = self.until.filter(|until| hand.now() < *until);
        self.until.is_some()
    }

    fn stepped(&mut self, worked: bool, hand: &mut Hand<'_>) {
        if worked && hand.fires() {
            if !std::mem::replace(&mut self.noted, true) {
                hand.note(format!(
                    "the firmware takes {} us for a piece of its work from now on",
                    self.us
                ));
            }
            self.until = Some(hand.now().saturating_add(u64::from(self.us) * 1_000));
        }
    }

    fn deadline(&self) -> Option<u64> {
        self.until
    }
}

/// `stopped-firmware`.
#[derive(Debug, Default)]
pub(super) struct Hung {
    hung: bool,
}

impl Decorator for Hung {
    fn moment(&mut self, hand: &mut Hand<'_>) {
        let runs = matches!(hand.model.state(), State::Ready | State::Operational);
        if !self.hung && runs && hand.fires() {
            self.hung = true;
            hand.note("the firmware hangs from now on");
        }
    }

    fn stops(&mut self, hand: &mut Hand<'_>) -> bool {
        if self.hung && hand.model.reset_phase() == ResetPhase::Adapter {
            self.hung = false;
            hand.note("a diagnostic reset has ended the hang");
        }
        self.hung
    }

    fn was_reset(&mut self, _unanswered: &[Request], _hand: &mut Hand<'_>) {
        self.hung = false;
    }
}

/// `event-storm`.
#[derive(Debug)]
pub(super) struct Storm {
    pub(super) events: u16,
}

impl Decorator for Storm {
    fn moment(&mut self, hand: &mut Hand<'_>) {
        if !hand.model.tells_events() || !hand.fires() {
            return;
        }
        hand.note(format!("{} events were raised", self.events));
        let mpi1 = hand.model.chip().is_mpi1();
        let slots: Vec<u8> = hand.model.devices().map(|device| device.slot).collect();
        for _ in 0..self.events {
            let slot = hand.random.pick(&slots).copied();
            let acknowledge = hand.random.below(8) == 0;
            match hand.random.below(4) {
                0 => hand.model.fill_log(1, &LogEntry::default(), acknowledge),
                1 if !mpi1 => hand.model.raise_broadcast(slot.unwrap_or(0), 4),
                2 if !mpi1 && slot.is_some() => {
                    let status = match hand.random.below(3) {
                        0 => DeviceStatus::Smart { asc: 0x5d, ascq: 0x10 },
                        1 => DeviceStatus::InternalResetBegun,
                        _ => DeviceStatus::InternalResetEnded,
                    };
                    hand.model.raise_device_status(slot.unwrap_or(0), status);
                }
                _ => {
                    let begun = hand.random.coin();
                    let data = match (mpi1, begun) {
                        (true, _) => u32::from(begun).to_le_bytes().to_vec(),
                        (false, true) => vec![1, 1, 0, 0, 0, 0, 0, 0],
                        (false, false) => vec![0, 2, 0, 0, 0, 0, 0, 0],
                    };
                    hand.model.raise_event(EVENT_DISCOVERY, data, acknowledge);
                }
            }
        }
    }
}
