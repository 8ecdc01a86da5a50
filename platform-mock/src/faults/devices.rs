//! Disks that go, come as others, lose their power, or have no room for a command at present.

use crate::model::disk;
use crate::model::tap::{Door, Request};
use crate::target::{Target, status};

use super::{Decorator, Hand, Verdict};

/// Disks that take others' places have numbers, and so names, from here on.
const FIRST_STRANGER: u16 = 0x4000;

/// `handle-reuse`.
#[derive(Debug)]
pub(super) struct HandleReuse {
    pub(super) slot: u8,
}

impl Decorator for HandleReuse {
    fn moment(&mut self, hand: &mut Hand<'_>) {
        if !hand.model.tells_events() || !hand.is_armed() {
            return;
        }
        let slot = self.slot;
        let Some(bytes) = hand.model.device(slot).map(|device| device.target.disk().bytes()) else {
            return;
        };
        if !hand.fires() {
            return;
        }
        let number = FIRST_STRANGER + hand.random.below(0x4000) as u16;
        hand.model.reuse_handle(slot, disk(number, bytes));
        let handle = hand.model.device(slot).map_or(0, |device| device.handle);
        hand.note(format!(
            "the disk in slot {slot} was replaced by an empty one with the same handle, {handle:#x}"
        ));
    }
}

/// `device-pulled`.
#[derive(Debug)]
pub(super) struct Pulled {
    slot: u8,
    back_ms: u32,
    /// The disk, and when it is back.
    away: Option<(u64, Box<Target>)>,
}

impl Pulled {
    pub(super) fn new(slot: u8, back_ms: u32) -> Self {
        Self { slot, back_ms, away: None }
    }

    fn put_back(&mut self, hand: &mut Hand<'_>) {
        if self.away.as_ref().is_none_or(|(until, _)| hand.now() < *until) {
            return;
        }
        if let Some((_, target)) = self.away.take() {
            let back = hand.model.add_disk(self.slot, *target).is_ok();
            let what = if back { "is back" } else { "finds its slot taken" };
            hand.note(format!("the disk of slot {} {what}", self.slot));
        }
    }
}

impl Decorator for Pulled {
    fn moment(&mut self, hand: &mut Hand<'_>) {
        self.put_back(hand);
        if self.away.is_some() || !hand.is_armed() || hand.model.device(self.slot).is_none() {
            return;
        }
        if !hand.fires() {
            return;
        }
        hand.note(format!("the disk in slot {} was pulled", self.slot));
        let target = hand.model.remove_disk(self.slot);
        if let Some(target) = target.filter(|_| self.back_ms > 0) {
            let until = hand.now().saturating_add(u64::from(self.back_ms) * 1_000_000);
            self.away = Some((until, Box::new(target)));
        }
    }

    fn stepped(&mut self, _worked: bool, hand: &mut Hand<'_>) {
        self.put_back(hand);
    }

    fn deadline(&self) -> Option<u64> {
        self.away.as_ref().map(|(until, _)| *until)
    }
}

/// `power-cut`.
#[derive(Debug)]
pub(super) struct PowerCut;

impl Decorator for PowerCut {
    fn moment(&mut self, hand: &mut Hand<'_>) {
        if !hand.fires() {
            return;
        }
        // Of each eight blocks that were only in a cache, so many have got on the medium.
        let share = hand.random.below(9);
        let random = &mut *hand.random;
        let (mut kept, mut lost) = (0_u64, 0_u64);
        let cut = hand.model.power_cut(&mut |_, _| {
            let survives = random.below(8) < share;
            if survives {
                kept += 1
            } else {
                lost += 1
            }
            survives
        });
        let trouble = match cut {
            Ok(()) => String::new(),
            Err((slot, error)) => format!("; the disk in slot {slot} kept its bytes: {error}"),
        };
        hand.note(format!(
            "the power was cut: of {} blocks in write caches {lost} are lost{trouble}",
            kept + lost
        ));
    }
}

/// `task-set-full`, `busy-status`.
#[derive(Debug)]
pub(super) struct Status {
    status: u8,
    name: &'static str,
}

impl Status {
    pub(super) fn task_set_full() -> Self {
        Self { status: status::TASK_SET_FULL, name: "TASK SET FULL" }
    }

    pub(super) fn busy() -> Self {
        Self { status: status::BUSY, name: "BUSY" }
    }
}

impl Decorator for Status {
    fn request(&mut self, request: &Request, door: Door, hand: &mut Hand<'_>) -> Verdict {
        let is_command = request.frame[3] == 0x00 && door == Door::Queue;
        if !is_command || !hand.fires() {
            return Verdict::CarryOut;
        }
        hand.note(format!("command {:#x} ended with {}", request.key, self.name));
        Verdict::Answer(hand.model.status_reply(request, self.status))
    }
}
