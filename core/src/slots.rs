//! Who owns a SMID.
//!
//! Every request frame has a number, the SMID, and one private [`SlotRecord`] that says whose it
//! is. The device names SMIDs in its replies; what it says is believed only if the record agrees.
//! A queue owns a contiguous range of SMIDs and shares it with nobody, so nothing here locks:
//!
//! ```text
//! first SMID                                                              last SMID
//! | internal and high priority (queue 0 only) | caller's tags | the queue's own pool |
//! ```
//!
//! A command takes the slot of its caller's tag when it has one (a bundle's slot index, a block
//! layer's tag), which costs one comparison; else it takes one from the pool, last in, first out,
//! so that the frames in use stay in the cache.
//!
//! A record also knows when its command is due; the wheel of `deadlines.rs` counts them, so that a
//! tick need not look at each.

use crate::deadlines::{LATE, Wheel};
use crate::error::SubmitError;

/// Ends the list of free slots.
const NONE: u16 = u16::MAX;
/// The bucket of a slot whose command was taken away by a reset.
const STALE: u8 = u8::MAX;

/// The private record of one slot, 24 bytes. The platform supplies one for each slot of the plan.
#[derive(Clone, Copy, Debug)]
pub struct SlotRecord {
    cookie: u64,
    requested: u32,
    /// For a command with a limit of its own: when it is late, the low half of the time in ms.
    deadline: u32,
    next_free: u16,
    device: u16,
    owner: Owner,
    /// The wheel's bucket that counts it.
    bucket: u8,
}

const _: () = assert!(size_of::<SlotRecord>() == 24);

/// In this order: from `Command` on, the device may answer a caller's command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Owner {
    /// Nobody: a reply that names this slot is a lie or late.
    Nobody,
    /// The device works on a request of the driver's own.
    Internal,
    /// Kept for a caller's command that a reset ended and that has not completed yet.
    Kept,
    /// The device works on a caller's command.
    Command,
    /// As `Command`, with a deadline of its own.
    Timed,
}

impl SlotRecord {
    /// A record before any plan.
    pub const NEW: Self = Self {
        cookie: 0,
        requested: 0,
        deadline: 0,
        next_free: NONE,
        device: 0,
        owner: Owner::Nobody,
        bucket: 0,
    };
}

impl Default for SlotRecord {
    fn default() -> Self {
        Self::NEW
    }
}

/// What a slot is taken for, handed back once when it is released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finished {
    /// The caller's own word for the command.
    pub cookie: u64,
    /// Bytes that the command asked to move.
    pub requested: u32,
    /// The address of the device that it went to, in the generation's form.
    pub device: u16,
}

/// The slots of one queue.
#[derive(Debug)]
pub struct Slots<'a> {
    records: &'a mut [SlotRecord],
    first_smid: u16,
    internal: u16,
    tags: u16,
    /// Where the pool begins.
    pool: u16,
    /// The first free slot of the pool.
    free: u16,
    outstanding: u16,
    wheel: Wheel,
}

/// An outstanding command that is late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LateCommand {
    /// Its SMID.
    pub smid: u16,
    /// The address of the device that has it, in the generation's form.
    pub device: u16,
}

impl<'a> Slots<'a> {
    /// Lays out `records` as `internal` slots, then `tags` slots addressed by the caller's tag,
    /// then the pool. The first record is SMID `first_smid`.
    #[inline(never)]
    pub fn new(records: &'a mut [SlotRecord], first_smid: u16, internal: u16, tags: u16) -> Self {
        let pool = internal.saturating_add(tags);
        records.fill(SlotRecord::NEW);
        let (free, wheel) = (NONE, Wheel::new());
        let mut slots =
            Self { records, first_smid, internal, tags, pool, free, outstanding: 0, wheel };
        slots.order_free();
        slots
    }

    /// Begins to count time. A command that names no limit of its own has `limit_ms` milliseconds.
    pub fn start_clock(&mut self, now_ms: u64, limit_ms: u32) {
        self.wheel.start(now_ms);
        self.set_limit(limit_ms, now_ms);
    }

    /// Sets the limit of commands that name none.
    pub fn set_limit(&mut self, limit_ms: u32, now_ms: u64) {
        self.wheel.set_limit(limit_ms, now_ms);
    }

    /// Takes the slot of `tag`, or one of the pool, for a command that the device is about to be
    /// given, and returns its SMID.
    ///
    /// # Errors
    ///
    /// [`SubmitError::Full`], [`SubmitError::TagOutOfRange`] or [`SubmitError::TagInUse`].
    #[inline]
    pub fn take(&mut self, tag: Option<u16>, command: Finished) -> Result<u16, SubmitError> {
        let index = match tag {
            None => self.free,
            Some(tag) if tag < self.tags => self.internal + tag,
            Some(tag) => return Err(SubmitError::TagOutOfRange { tag, tags: self.tags }),
        };
        let Some(record) = self.records.get_mut(usize::from(index)) else {
            return Err(SubmitError::Full);
        };
        match tag {
            Some(tag) if record.owner != Owner::Nobody => return Err(SubmitError::TagInUse(tag)),
            Some(_) => {}
            None => self.free = record.next_free,
        }
        record.cookie = command.cookie;
        record.requested = command.requested;
        record.device = command.device;
        record.owner = Owner::Command;
        record.bucket = self.wheel.count_usual();
        self.outstanding += 1;
        Ok(self.first_smid.wrapping_add(index))
    }

    /// Puts back a slot that was taken and not given to the device after all.
    #[cold]
    pub fn put_back(&mut self, smid: u16) {
        let _ = self.finish(smid);
    }

    /// The SMID of internal slot `index`.
    #[must_use]
    pub const fn internal_smid(&self, index: u16) -> u16 {
        self.first_smid.wrapping_add(index)
    }

    /// Takes internal slot `index` for a request of the driver's own and hands it to the device.
    /// `None` if it is taken or there is no such slot.
    pub fn take_internal(&mut self, index: u16) -> Option<u16> {
        if index >= self.internal {
            return None;
        }
        let record = self.records.get_mut(usize::from(index))?;
        if record.owner != Owner::Nobody {
            return None;
        }
        record.owner = Owner::Internal;
        Some(self.internal_smid(index))
    }

    /// Takes the slot that the device says it has finished away from it. `None` if it is not a
    /// command of this queue that is outstanding: then the device lied, or is late.
    #[inline]
    pub fn finish(&mut self, smid: u16) -> Option<Finished> {
        let index = smid.wrapping_sub(self.first_smid);
        let record = self.records.get_mut(usize::from(index))?;
        if record.owner < Owner::Command {
            return None;
        }
        record.owner = Owner::Nobody;
        self.wheel.uncount(record.bucket);
        if index >= self.pool {
            record.next_free = self.free;
            self.free = index;
        }
        self.outstanding -= 1;
        Some(Finished { cookie: record.cookie, requested: record.requested, device: record.device })
    }

    /// As [`Slots::finish`], for a request of the driver's own.
    pub fn finish_internal(&mut self, smid: u16) -> bool {
        let index = smid.wrapping_sub(self.first_smid);
        match self.records.get_mut(usize::from(index)) {
            Some(record) if record.owner == Owner::Internal => {
                record.owner = Owner::Nobody;
                true
            }
            _ => false,
        }
    }

    /// Whether `smid` is outstanding for a request of the driver's own.
    #[must_use]
    pub fn is_internal(&self, smid: u16) -> bool {
        self.records
            .get(usize::from(smid.wrapping_sub(self.first_smid)))
            .is_some_and(|record| record.owner == Owner::Internal)
    }

    /// Gives the command that was just taken a deadline of its own instead of the usual limit.
    #[cold]
    pub fn set_deadline(&mut self, smid: u16, deadline_ms: u64) {
        let index = usize::from(smid.wrapping_sub(self.first_smid));
        if let Some(record) = self.records.get_mut(index)
            && record.owner >= Owner::Command
        {
            record.owner = Owner::Timed;
            record.deadline = deadline_ms as u32;
            self.wheel.uncount(record.bucket);
            record.bucket = self.wheel.bucket(deadline_ms).0;
            self.wheel.count(record.bucket);
        }
    }

    /// Time passes. Returns how many commands have become late by it.
    pub fn advance(&mut self, now_ms: u64) -> u16 {
        let Self { records, wheel, .. } = self;
        let mut newly_late = 0;
        wheel.advance(now_ms, |wheel, due| {
            for record in records.iter_mut() {
                if record.owner < Owner::Command || record.bucket != due {
                    continue;
                }
                wheel.uncount(due);
                // The low halves tell which is first as long as the two are within 24 days.
                let left = record.deadline.wrapping_sub(now_ms as u32) as i32;
                if record.owner == Owner::Timed && left > 0 {
                    record.bucket = wheel.bucket(now_ms.saturating_add(left as u64)).0;
                } else {
                    record.bucket = LATE;
                    newly_late += 1;
                }
                wheel.count(record.bucket);
            }
        });
        newly_late
    }

    /// Whether a late command has not ended.
    #[must_use]
    pub const fn has_late(&self) -> bool {
        self.wheel.late() > 0
    }

    /// A late command that has not ended, if there is one.
    #[must_use]
    pub fn late(&self) -> Option<LateCommand> {
        if !self.has_late() {
            return None;
        }
        let mut device = 0;
        let smid = self.find_where(&mut |record| {
            device = record.device;
            record.bucket == LATE
        })?;
        Some(LateCommand { smid, device })
    }

    /// The late command `smid`, if it is one.
    #[must_use]
    pub fn late_as(&self, smid: u16) -> Option<LateCommand> {
        let record = self.records.get(usize::from(smid.wrapping_sub(self.first_smid)))?;
        self.is_late(smid).then_some(LateCommand { smid, device: record.device })
    }

    /// Whether `smid` is outstanding and late.
    #[must_use]
    pub fn is_late(&self, smid: u16) -> bool {
        self.records
            .get(usize::from(smid.wrapping_sub(self.first_smid)))
            .is_some_and(|record| record.owner >= Owner::Command && record.bucket == LATE)
    }

    /// Whether `smid` is one of this queue's.
    #[must_use]
    pub fn owns(&self, smid: u16) -> bool {
        usize::from(smid.wrapping_sub(self.first_smid)) < self.records.len()
    }

    /// Commands that the device at this address has. Looks at every slot; not for the hot path.
    #[must_use]
    pub fn outstanding_on(&self, device: u16) -> u16 {
        let mut count = 0;
        let _ = self.find_where(&mut |record| {
            count += u16::from(record.device == device);
            false
        });
        count
    }

    /// The SMID of the first outstanding command that `is_it` takes. Once for all searches: none of
    /// them is in a hurry.
    #[inline(never)]
    fn find_where(&self, is_it: &mut dyn FnMut(&SlotRecord) -> bool) -> Option<u16> {
        let index = self
            .records
            .iter()
            .position(|record| record.owner >= Owner::Command && is_it(record))?;
        Some(self.first_smid.wrapping_add(index as u16))
    }

    /// Ends a command of the pool that was not answered. Its slot is not given out again before
    /// [`Slots::order_free`]: the answer may come yet, and may not pass for another command's.
    pub fn abandon(&mut self, smid: u16) -> bool {
        let index = usize::from(smid.wrapping_sub(self.first_smid));
        match self.records.get_mut(index) {
            Some(record) if record.owner >= Owner::Command => {
                self.wheel.uncount(record.bucket);
                record.owner = Owner::Nobody;
                record.bucket = STALE;
                self.outstanding -= 1;
                true
            }
            _ => false,
        }
    }

    /// Puts a slot of the pool that was freed last behind all others that are free.
    #[cold]
    pub fn demote(&mut self, smid: u16) {
        let index = smid.wrapping_sub(self.first_smid);
        if self.free != index {
            return;
        }
        let next = self.records.get(usize::from(index)).map_or(NONE, |record| record.next_free);
        if next == NONE {
            return;
        }
        self.free = next;
        let mut last = next;
        // As many steps as there are slots, whatever the list says.
        for _ in 0..self.records.len() {
            match self.records.get(usize::from(last)).map(|record| record.next_free) {
                Some(NONE) | None => break,
                Some(after) => last = after,
            }
        }
        if let Some(record) = self.records.get_mut(usize::from(last)) {
            record.next_free = index;
        }
        if let Some(record) = self.records.get_mut(usize::from(index)) {
            record.next_free = NONE;
        }
    }

    /// Counts time from `now_ms` on: what is outstanding is late when its bucket comes round.
    pub fn rebase(&mut self, now_ms: u64) {
        self.wheel.start(now_ms);
    }

    /// Takes every command away from a device that was reset, and every request of the driver's
    /// own: the commands stay outstanding until [`Slots::finish_any`] has them, but no reply can
    /// end them any more.
    #[inline(never)]
    pub fn keep_all(&mut self) {
        for record in self.records.iter_mut() {
            if record.owner == Owner::Internal {
                record.owner = Owner::Nobody;
            } else if record.owner >= Owner::Command {
                self.wheel.uncount(record.bucket);
                record.owner = Owner::Kept;
                record.bucket = STALE;
            }
        }
    }

    /// Takes one outstanding command, any, away from the device; `None` when none is left. After a
    /// reset or removal the caller completes each with a reason. Its slot is free after
    /// [`Slots::order_free`].
    #[inline(never)]
    pub fn finish_any(&mut self, from: &mut u16) -> Option<Finished> {
        while let Some(record) = self.records.get_mut(usize::from(*from)) {
            *from += 1;
            if record.owner >= Owner::Kept {
                if record.owner != Owner::Kept {
                    self.wheel.uncount(record.bucket);
                }
                record.owner = Owner::Nobody;
                record.bucket = STALE;
                self.outstanding -= 1;
                let SlotRecord { cookie, requested, device, .. } = *record;
                return Some(Finished { cookie, requested, device });
            }
        }
        None
    }

    /// Orders the pool's free slots: those that [`Slots::finish_any`] took come last. Should the
    /// controller answer them yet, they have most likely not been given out again.
    #[inline(never)]
    pub fn order_free(&mut self) {
        let pool = usize::from(self.pool);
        let mut free = NONE;
        for stale in [true, false] {
            for (index, record) in self.records.iter_mut().enumerate().skip(pool).rev() {
                if record.owner == Owner::Nobody && (record.bucket == STALE) == stale {
                    record.next_free = free;
                    free = index as u16;
                }
            }
        }
        for record in self.records.iter_mut() {
            if record.owner == Owner::Nobody && record.bucket == STALE {
                record.bucket = 0;
            }
        }
        self.free = free;
    }

    /// The SMID of the outstanding command with this cookie, for task management. Looks at every
    /// slot; not for the hot path.
    #[must_use]
    #[inline(never)]
    pub fn find(&self, cookie: u64) -> Option<u16> {
        self.find_where(&mut |record| record.cookie == cookie)
    }

    /// Commands that the device has.
    #[must_use]
    #[inline]
    pub const fn outstanding(&self) -> u16 {
        self.outstanding
    }

    /// Slots that commands can have, tags and pool together.
    #[must_use]
    pub const fn commands(&self) -> u16 {
        (self.records.len() as u16).saturating_sub(self.internal)
    }
}

#[cfg(test)]
mod tests;
