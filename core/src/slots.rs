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

use crate::error::SubmitError;

/// Ends the list of free slots.
const NONE: u16 = u16::MAX;

/// The private record of one slot, 24 bytes. The platform supplies one for each slot of the plan.
#[derive(Clone, Copy, Debug)]
pub struct SlotRecord {
    cookie: u64,
    requested: u32,
    next_free: u16,
    device: u16,
    owner: Owner,
}

const _: () = assert!(size_of::<SlotRecord>() == 24);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// Nobody: a reply that names this slot is a lie or late.
    Nobody,
    /// The device works on a caller's command.
    Command,
    /// The device works on a request of the driver's own.
    Internal,
}

impl SlotRecord {
    /// A record before any plan.
    pub const NEW: Self =
        Self { cookie: 0, requested: 0, next_free: NONE, device: 0, owner: Owner::Nobody };
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
}

impl<'a> Slots<'a> {
    /// Lays out `records` as `internal` slots, then `tags` slots addressed by the caller's tag,
    /// then the pool. The first record is SMID `first_smid`.
    pub fn new(records: &'a mut [SlotRecord], first_smid: u16, internal: u16, tags: u16) -> Self {
        let pool = internal.saturating_add(tags);
        let mut free = NONE;
        for (index, record) in records.iter_mut().enumerate().rev() {
            *record = SlotRecord::NEW;
            if index >= usize::from(pool) {
                record.next_free = free;
                free = index as u16;
            }
        }
        Self { records, first_smid, internal, tags, pool, free, outstanding: 0 }
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
        self.outstanding += 1;
        Ok(self.first_smid.wrapping_add(index))
    }

    /// Puts back a slot that was taken and not given to the device after all.
    #[cold]
    pub fn put_back(&mut self, smid: u16) {
        let _ = self.finish(smid);
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
        Some(self.first_smid.wrapping_add(index))
    }

    /// Takes the slot that the device says it has finished away from it. `None` if it is not a
    /// command of this queue that is outstanding: then the device lied, or is late.
    #[inline]
    pub fn finish(&mut self, smid: u16) -> Option<Finished> {
        let index = smid.wrapping_sub(self.first_smid);
        let record = self.records.get_mut(usize::from(index))?;
        if record.owner != Owner::Command {
            return None;
        }
        record.owner = Owner::Nobody;
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

    /// Takes one outstanding command, any, away from the device; `None` when none is left. After a
    /// reset or removal the caller completes each with a reason.
    pub fn finish_any(&mut self, from: &mut u16) -> Option<Finished> {
        while usize::from(*from) < self.records.len() {
            let smid = self.first_smid.wrapping_add(*from);
            *from += 1;
            if let Some(finished) = self.finish(smid) {
                return Some(finished);
            }
        }
        None
    }

    /// The SMID of the outstanding command with this cookie, for task management. Looks at every
    /// slot; not for the hot path.
    #[must_use]
    pub fn find(&self, cookie: u64) -> Option<u16> {
        let index = self
            .records
            .iter()
            .position(|record| record.owner == Owner::Command && record.cookie == cookie)?;
        Some(self.first_smid.wrapping_add(index as u16))
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
mod tests {
    use std::vec::Vec;

    use super::*;

    fn records<const N: usize>() -> [SlotRecord; N] {
        [SlotRecord::NEW; N]
    }

    fn command(cookie: u64) -> Finished {
        Finished { cookie, requested: 0, device: 0 }
    }

    #[test]
    fn a_slot_goes_round_from_pool_to_device_to_caller() {
        let mut records = records::<8>();
        let mut slots = Slots::new(&mut records, 1, 2, 3);
        let command = Finished { cookie: 77, requested: 4096, device: 9 };
        assert_eq!(slots.take(None, command), Ok(6));
        assert_eq!(slots.outstanding(), 1);
        assert_eq!(slots.finish(6), Some(command));
        assert_eq!(slots.outstanding(), 0);
        assert_eq!(slots.finish(6), None, "a second reply for the slot is a lie");
    }

    #[test]
    fn a_tag_has_one_slot_and_one_command() {
        let mut records = records::<8>();
        let mut slots = Slots::new(&mut records, 1, 2, 3);
        assert_eq!(slots.take(Some(2), command(1)), Ok(5));
        assert_eq!(slots.take(Some(2), command(1)), Err(SubmitError::TagInUse(2)));
        assert_eq!(
            slots.take(Some(3), command(1)),
            Err(SubmitError::TagOutOfRange { tag: 3, tags: 3 })
        );
        slots.finish(5).unwrap();
        assert!(slots.take(Some(2), command(1)).is_ok());
    }

    #[test]
    fn the_pool_runs_out_and_refills() {
        let mut records = records::<8>();
        let mut slots = Slots::new(&mut records, 10, 2, 3);
        let mut smids = Vec::new();
        while let Ok(smid) = slots.take(None, command(0)) {
            smids.push(smid);
        }
        assert_eq!(smids, [15, 16, 17]);
        assert_eq!(slots.take(None, command(0)), Err(SubmitError::Full));
        slots.finish(16).unwrap();
        assert_eq!(slots.take(None, command(0)), Ok(16));
    }

    #[test]
    fn a_slot_that_was_put_back_is_not_lost() {
        let mut records = records::<3>();
        let mut slots = Slots::new(&mut records, 1, 2, 0);
        let smid = slots.take(None, command(99)).unwrap();
        assert_eq!(slots.take(None, command(0)), Err(SubmitError::Full));
        slots.put_back(smid);
        assert_eq!(slots.take(None, command(0)), Ok(smid));
    }

    #[test]
    fn a_reply_for_a_foreign_or_internal_slot_is_not_a_command() {
        let mut records = records::<8>();
        let mut slots = Slots::new(&mut records, 1, 2, 0);
        assert_eq!(slots.take_internal(0), Some(1));
        assert_eq!(slots.take_internal(0), None, "it is taken");
        assert_eq!(slots.take_internal(2), None, "there is no such slot");
        assert_eq!(slots.finish(1), None);
        for smid in [0, 3, 9, u16::MAX] {
            assert_eq!(slots.finish(smid), None, "{smid}");
            assert!(!slots.finish_internal(smid), "{smid}");
        }
        assert!(slots.is_internal(1));
        assert!(slots.finish_internal(1));
        assert!(!slots.finish_internal(1));
    }

    #[test]
    fn everything_outstanding_is_found_once() {
        let mut records = records::<40>();
        let mut slots = Slots::new(&mut records, 1, 2, 8);
        for cookie in 0..8 {
            slots.take(Some(cookie as u16), command(cookie)).unwrap();
        }
        let smid = slots.take(None, command(99)).unwrap();
        assert_eq!(slots.find(99), Some(smid));
        let (mut from, mut cookies) = (0, Vec::new());
        while let Some(finished) = slots.finish_any(&mut from) {
            cookies.push(finished.cookie);
        }
        assert_eq!(cookies, [0, 1, 2, 3, 4, 5, 6, 7, 99]);
        assert_eq!(slots.outstanding(), 0);
    }

    proptest::proptest! {
        /// Against the plainest model there is: a set of what is outstanding.
        #[test]
        fn every_slot_has_one_owner_at_a_time(
            steps in proptest::collection::vec((0u8..4, 0u16..24), 1..400),
            tags in 0u16..8,
        ) {
            let mut records = records::<20>();
            let (internal, first) = (3u16, 100u16);
            let mut slots = Slots::new(&mut records, first, internal, tags);
            let mut outstanding = std::collections::BTreeMap::new();
            for (cookie, (kind, number)) in steps.into_iter().enumerate() {
                let cookie = cookie as u64;
                match kind {
                    0 => match slots.take(None, command(cookie)) {
                        Ok(smid) => {
                            proptest::prop_assert!(outstanding.insert(smid, cookie).is_none());
                        }
                        Err(error) => {
                            proptest::prop_assert_eq!(error, SubmitError::Full);
                            let pool = first + internal + tags..first + 20;
                            proptest::prop_assert_eq!(
                                outstanding.range(pool.clone()).count(),
                                pool.len()
                            );
                        }
                    },
                    1 => match slots.take(Some(number), command(cookie)) {
                        Ok(smid) => {
                            proptest::prop_assert_eq!(smid, first + internal + number);
                            proptest::prop_assert!(outstanding.insert(smid, cookie).is_none());
                        }
                        Err(SubmitError::TagInUse(tag)) => {
                            proptest::prop_assert!(outstanding.contains_key(&(first + internal + tag)));
                        }
                        Err(error) => {
                            proptest::prop_assert_eq!(
                                error,
                                SubmitError::TagOutOfRange { tag: number, tags }
                            );
                        }
                    },
                    2 => {
                        let smid = first + number;
                        let finished = slots.finish(smid).map(|finished| finished.cookie);
                        proptest::prop_assert_eq!(finished, outstanding.remove(&smid));
                    }
                    _ => {
                        if let Ok(smid) = slots.take(None, command(cookie)) {
                            slots.put_back(smid);
                        }
                    }
                }
                proptest::prop_assert_eq!(usize::from(slots.outstanding()), outstanding.len());
            }
        }
    }
}
