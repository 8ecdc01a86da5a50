//! The disks behind a controller, under ids that stay.
//!
//! Firmware numbers devices as it finds them and gives a number to another device when the first
//! has gone (traps T34). A target's id here is its place in the table, found by its SAS address
//! (WWN), so a disk that is pulled and put back is the same target. What is new comes out as
//! [`TargetChange`]s, computed from the table itself, so that no storm of events can lose one.

use crate::request::Device;

pub use crate::reply::{DevicePage, News};

/// The id of a target: stable while the controller object lives, whatever firmware renumbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TargetId(pub u16);

/// A target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Its id.
    pub id: TargetId,
    /// What the firmware says about it.
    pub page: DevicePage,
    /// Whether it answers at present.
    pub present: bool,
}

/// A change of the table that the platform has not been told yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetChange {
    /// The target answers and takes commands already (trap T4).
    Appeared(TargetId),
    /// The target no longer answers; commands for it are refused.
    Gone(TargetId),
}

/// One entry of the table, 40 bytes. The platform supplies as many as it wants targets.
#[derive(Clone, Copy, Debug, Default)]
pub struct TargetRecord {
    page: DevicePage,
    used: bool,
    present: bool,
    reported: bool,
    /// It went and came back before the platform was told that it went.
    replaced: bool,
    seen: bool,
    /// It went, and the IOC is to be told to forget it at `removed_from`.
    to_be_removed: bool,
    removed_from: u16,
}

const _: () = assert!(size_of::<TargetRecord>() <= 40);

/// The table.
#[derive(Debug)]
pub struct Targets<'a> {
    records: &'a mut [TargetRecord],
    /// Devices that found no free entry.
    overflowed: u32,
    /// The controller was reset, and who is still there is not known yet.
    rediscovering: bool,
    /// Devices that went and that the IOC is to forget.
    removals: u16,
}

impl<'a> Targets<'a> {
    /// An empty table in `records`; what they held of an earlier start keeps its ids.
    pub fn new(records: &'a mut [TargetRecord]) -> Self {
        Self { records, overflowed: 0, rediscovering: false, removals: 0 }
    }

    /// The target with this id, present or not.
    #[must_use]
    pub fn get(&self, id: TargetId) -> Option<Target> {
        let record = self.records.get(usize::from(id.0)).filter(|record| record.used)?;
        Some(Target { id, page: record.page, present: record.present })
    }

    /// Where commands for this target go, if it is present.
    #[must_use]
    #[inline]
    pub fn device(&self, id: TargetId) -> Option<Device> {
        let record = self.records.get(usize::from(id.0))?;
        record.present.then_some(Device { address: record.page.address })
    }

    /// Every target ever seen, present or not.
    pub fn iter(&self) -> impl Iterator<Item = Target> {
        self.records.iter().enumerate().filter(|(_, record)| record.used).map(|(index, record)| {
            Target { id: TargetId(index as u16), page: record.page, present: record.present }
        })
    }

    /// Devices that the table had no room for.
    #[must_use]
    pub const fn overflowed(&self) -> u32 {
        self.overflowed
    }

    /// Notes a device that answers.
    #[inline(never)]
    pub fn note(&mut self, page: DevicePage) {
        if !page.is_target() {
            return;
        }
        // Another device under a handle that was somebody's: that one is gone, event or no event.
        self.each(&mut |record| {
            if record.present && record.page.handle == page.handle && !same(&record.page, &page) {
                record.present = false;
            }
        });
        let known = self.records.iter().position(|record| record.used && same(&record.page, &page));
        let entry = known.or_else(|| self.records.iter().position(|record| !record.used));
        match entry.and_then(|entry| self.records.get_mut(entry)) {
            Some(record) => {
                if record.used && !record.present && record.reported && !self.rediscovering {
                    record.replaced = true;
                }
                record.used = true;
                record.present = true;
                record.seen = true;
                record.page = page;
            }
            None => self.overflowed = self.overflowed.saturating_add(1),
        }
    }

    /// Notes that the device under `handle` no longer answers: the IOC keeps its handle until it is
    /// told that the device is removed ([`Targets::next_removal`]).
    pub fn lose(&mut self, handle: u16) {
        let mut removals = 0;
        self.each(&mut |record| {
            if record.present && record.page.handle == handle {
                record.present = false;
                removals += u16::from(!record.to_be_removed);
                record.to_be_removed = true;
                record.removed_from = record.page.address;
            }
        });
        self.removals += removals;
    }

    /// How many targets the table has room for.
    #[must_use]
    pub const fn room(&self) -> u16 {
        self.records.len() as u16
    }

    /// Targets that the platform takes for present, found again since a reset or not.
    #[must_use]
    pub fn expected(&self) -> u16 {
        let expected = |record: &&TargetRecord| record.present || record.reported;
        self.records.iter().filter(expected).count() as u16
    }

    /// Whether a device has gone that the IOC is to forget.
    #[must_use]
    pub const fn has_removal(&self) -> bool {
        self.removals > 0
    }

    /// A device that has gone and that the IOC is to forget; it counts as told now.
    pub fn next_removal(&mut self) -> Option<Device> {
        self.removals = self.removals.saturating_sub(1);
        let record = self.records.iter_mut().find(|record| record.to_be_removed)?;
        record.to_be_removed = false;
        Some(Device { address: record.removed_from })
    }

    /// The controller was reset: nobody is there until discovery has found him, and who was there
    /// and is found again has not been away.
    #[inline(never)]
    pub fn rediscover(&mut self) {
        self.rediscovering = true;
        self.removals = 0;
        self.each(&mut |record| {
            record.present = false;
            record.to_be_removed = false;
        });
    }

    /// Discovery has ended: who was not found is gone.
    pub fn rediscovered(&mut self) {
        self.rediscovering = false;
    }

    /// Whether a target may yet be found again that was there before a reset.
    #[must_use]
    pub fn may_return(&self, id: TargetId) -> bool {
        let record = self.records.get(usize::from(id.0));
        self.rediscovering && record.is_some_and(|record| record.used && record.reported)
    }

    /// Notes that nothing answers any more, as after removal of the controller.
    #[inline(never)]
    pub fn lose_all(&mut self) {
        self.each(&mut |record| record.present = false);
    }

    /// A scan begins: whatever it does not find is gone.
    pub fn scan_begins(&mut self) {
        self.each(&mut |record| record.seen = false);
    }

    /// The scan has reached the end of the list.
    pub fn scan_ends(&mut self) {
        self.each(&mut |record| record.present &= record.seen);
    }

    /// Once for all who change every record: none of them is in a hurry.
    #[inline(never)]
    fn each(&mut self, change: &mut dyn FnMut(&mut TargetRecord)) {
        for record in self.records.iter_mut() {
            change(record);
        }
    }

    /// The next change that the platform has not been told; it counts as told now.
    pub fn next_change(&mut self) -> Option<TargetChange> {
        for (index, record) in self.records.iter_mut().enumerate() {
            let id = TargetId(index as u16);
            let gone = !record.present && !self.rediscovering;
            if record.reported && (gone || record.replaced) {
                record.reported = false;
                record.replaced = false;
                return Some(TargetChange::Gone(id));
            }
            if !record.reported && record.present {
                record.reported = true;
                return Some(TargetChange::Appeared(id));
            }
        }
        None
    }
}

/// Whether two pages speak of one device: the same WWN, or, where firmware knows none, the same
/// place.
fn same(one: &DevicePage, other: &DevicePage) -> bool {
    if one.sas_address != 0 || other.sas_address != 0 {
        one.sas_address == other.sas_address
    } else {
        (one.parent_handle, one.phy, one.address) == (other.parent_handle, other.phy, other.address)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn disk(sas_address: u64, handle: u16) -> DevicePage {
        DevicePage {
            sas_address,
            handle,
            address: handle,
            device_info: 0x401,
            ..DevicePage::default()
        }
    }

    fn changes(targets: &mut Targets<'_>) -> Vec<TargetChange> {
        core::iter::from_fn(|| targets.next_change()).collect()
    }

    #[test]
    fn a_disk_that_comes_back_under_another_handle_keeps_its_id() {
        let mut records = [TargetRecord::default(); 4];
        let mut targets = Targets::new(&mut records);
        targets.note(disk(0x5000_0001, 9));
        targets.note(disk(0x5000_0002, 10));
        let (first, second) = (TargetId(0), TargetId(1));
        assert_eq!(
            changes(&mut targets),
            [TargetChange::Appeared(first), TargetChange::Appeared(second)]
        );
        targets.lose(9);
        assert_eq!(changes(&mut targets), [TargetChange::Gone(first)]);
        assert_eq!(targets.device(first), None);
        targets.note(disk(0x5000_0001, 17));
        assert_eq!(changes(&mut targets), [TargetChange::Appeared(first)]);
        assert_eq!(targets.device(first), Some(Device { address: 17 }));
    }

    #[test]
    fn a_reset_that_changes_every_handle_is_no_news_unless_somebody_is_missing() {
        let mut records = [TargetRecord::default(); 4];
        let mut targets = Targets::new(&mut records);
        targets.note(disk(1, 9));
        targets.note(disk(2, 10));
        changes(&mut targets);
        targets.rediscover();
        assert_eq!(targets.device(TargetId(0)), None);
        assert!(targets.may_return(TargetId(0)) && !targets.may_return(TargetId(2)));
        assert_eq!(changes(&mut targets), []);
        targets.scan_begins();
        targets.note(disk(1, 10));
        targets.scan_ends();
        assert_eq!(changes(&mut targets), []);
        targets.rediscovered();
        assert_eq!(changes(&mut targets), [TargetChange::Gone(TargetId(1))]);
        assert_eq!(targets.device(TargetId(0)), Some(Device { address: 10 }));
    }

    #[test]
    fn each_device_that_goes_is_to_be_removed_once_at_the_address_it_had() {
        let mut records = [TargetRecord::default(); 4];
        let mut targets = Targets::new(&mut records);
        targets.note(disk(1, 9));
        targets.lose(9);
        targets.note(disk(1, 17));
        targets.lose(44);
        assert_eq!(targets.next_removal(), Some(Device { address: 9 }));
        assert_eq!(targets.next_removal(), None);
    }

    #[test]
    fn a_handle_that_firmware_reuses_takes_the_old_disk_away() {
        let mut records = [TargetRecord::default(); 4];
        let mut targets = Targets::new(&mut records);
        targets.note(disk(1, 9));
        changes(&mut targets);
        targets.note(disk(2, 9));
        assert_eq!(
            changes(&mut targets),
            [TargetChange::Gone(TargetId(0)), TargetChange::Appeared(TargetId(1))]
        );
        assert_eq!(targets.device(TargetId(0)), None);
    }

    #[test]
    fn a_disk_that_went_and_came_unnoticed_is_reported_as_both() {
        let mut records = [TargetRecord::default(); 4];
        let mut targets = Targets::new(&mut records);
        targets.note(disk(1, 9));
        changes(&mut targets);
        targets.lose(9);
        targets.note(disk(1, 9));
        assert_eq!(
            changes(&mut targets),
            [TargetChange::Gone(TargetId(0)), TargetChange::Appeared(TargetId(0))]
        );
    }

    #[test]
    fn a_scan_finds_what_no_event_told() {
        let mut records = [TargetRecord::default(); 4];
        let mut targets = Targets::new(&mut records);
        targets.note(disk(1, 9));
        targets.note(disk(2, 10));
        changes(&mut targets);
        targets.scan_begins();
        targets.note(disk(2, 10));
        targets.note(disk(3, 11));
        targets.scan_ends();
        assert_eq!(
            changes(&mut targets),
            [TargetChange::Gone(TargetId(0)), TargetChange::Appeared(TargetId(2))]
        );
    }

    #[test]
    fn what_is_no_target_and_what_has_no_room_is_not_listed() {
        let mut records = [TargetRecord::default(); 1];
        let mut targets = Targets::new(&mut records);
        targets.note(DevicePage { device_info: 0x402, ..disk(9, 9) });
        assert_eq!(targets.iter().count(), 0, "an expander");
        targets.note(disk(1, 1));
        targets.note(disk(2, 2));
        assert_eq!(targets.iter().count(), 1);
        assert_eq!(targets.overflowed(), 1);
    }

    #[test]
    fn disks_without_a_wwn_are_told_apart_by_place() {
        let mut records = [TargetRecord::default(); 4];
        let mut targets = Targets::new(&mut records);
        targets.note(disk(0, 9));
        targets.note(disk(0, 10));
        assert_eq!(targets.iter().count(), 2);
    }
}
