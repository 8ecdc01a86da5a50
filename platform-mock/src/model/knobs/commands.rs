//! SCSI commands that do not end as fast as they could, or not at all.
//!
//! A command that is put off has been fetched and has not been carried out: as one that waits in a
//! slow disk, it can be aborted, and task management and everything that is not SCSI I/O overtakes
//! it. Commands of the same disk keep their order, because nothing here looks at task attributes.

use std::collections::BTreeMap;

use super::super::Model;
use super::super::queues::Request;
use super::super::scsi::{ScsiIo, find};

/// When a command is carried out that never is.
const NEVER: u64 = u64::MAX;

/// The knobs' positions.
#[derive(Debug, Default)]
pub(in crate::model) struct Knobs {
    hold: bool,
    /// Nanoseconds that every command takes longer.
    delay: u64,
    /// Nanoseconds for the disks in these slots, instead.
    slots: BTreeMap<u8, u64>,
    lose: u32,
}

impl super::Knobs {
    /// Whether the reply to the SCSI command that was just carried out is to be lost.
    pub(in crate::model) fn loses_scsi_reply(&mut self) -> bool {
        let lost = self.commands.lose > 0;
        self.commands.lose -= u32::from(lost);
        lost
    }
}

impl Model {
    /// Holds SCSI commands back from now on, or carries out those held and goes on.
    pub fn hold_commands(&mut self, hold: bool) {
        self.knobs.commands.hold = hold;
        self.turn();
    }

    /// Makes every SCSI command take `ns` nanoseconds longer from now on, or those of the disk in
    /// one slot, where that is said. 0 for all disks ends all of it. Commands that wait already
    /// wait no longer than new ones.
    pub fn slow_down(&mut self, slot: Option<u8>, ns: u64) {
        let knobs = &mut self.knobs.commands;
        match slot {
            Some(slot) => {
                knobs.slots.insert(slot, ns);
            }
            None => {
                knobs.delay = ns;
                if ns == 0 {
                    knobs.slots.clear();
                }
            }
        }
        knobs.slots.retain(|_, of_slot| *of_slot != knobs.delay);
        self.turn();
        let held = std::mem::take(&mut self.held);
        for mut request in held {
            if request.due != NEVER {
                request.due = request.due.min(self.now.saturating_add(self.delay(&request)));
            }
            self.hold_until_due(request);
        }
    }

    /// Nanoseconds that every SCSI command takes longer, and those of disks with a time of their
    /// own, by slot.
    #[must_use]
    pub fn delays(&self) -> (u64, &BTreeMap<u8, u64>) {
        (self.knobs.commands.delay, &self.knobs.commands.slots)
    }

    /// Carries the next `count` SCSI commands out and loses their replies on the way from the disk,
    /// so that to the IOC they stay outstanding until task management or a reset ends them.
    pub fn lose_scsi_replies(&mut self, count: u32) {
        self.knobs.commands.lose = count;
    }

    /// Commands that have been fetched and not answered: held, slowed down, or lost.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether commands are being held.
    #[must_use]
    pub fn holds_commands(&self) -> bool {
        self.knobs.commands.hold
    }

    fn turn(&mut self) {
        let knobs = &self.knobs.commands;
        self.knobs.put_off = knobs.hold || knobs.delay > 0 || !knobs.slots.is_empty();
    }

    fn delay(&mut self, request: &Request) -> u64 {
        let knobs = &self.knobs.commands;
        if knobs.slots.is_empty() {
            return knobs.delay;
        }
        let rules = self.rules();
        let address = ScsiIo::parse(request, &rules).address;
        let slot = find(&mut self.devices, address, &rules).map(|device| device.slot);
        let knobs = &self.knobs.commands;
        slot.ok().and_then(|slot| knobs.slots.get(&slot).copied()).unwrap_or(knobs.delay)
    }

    /// Takes a SCSI command that is not to be carried out at once.
    pub(in crate::model) fn put_off(&mut self, mut request: Request) {
        request.due = self.now.saturating_add(self.delay(&request));
        self.hold_until_due(request);
    }

    /// Keeps a command whose reply was lost.
    pub(in crate::model) fn keep_forever(&mut self, request: &Request) {
        self.held.push_back(Request { due: NEVER, ..*request });
    }

    fn hold_until_due(&mut self, request: Request) {
        // Nearly always at the end.
        let at = match self.held.back() {
            Some(last) if last.due > request.due => {
                self.held.partition_point(|held| held.due <= request.due)
            }
            _ => self.held.len(),
        };
        self.held.insert(at, request);
    }

    /// The next command whose time has come.
    pub(in crate::model) fn next_held(&mut self) -> Option<Request> {
        if self.knobs.commands.hold || self.held.front()?.due > self.now {
            return None;
        }
        self.held.pop_front()
    }

    /// When the next command's time comes.
    pub(in crate::model) fn held_deadline(&self) -> Option<u64> {
        let next = self.held.front().map(|held| held.due)?;
        (!self.knobs.commands.hold && next != NEVER).then_some(next)
    }
}
