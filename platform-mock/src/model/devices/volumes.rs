//! RAID volumes as integrated-RAID firmware makes them of disks: the host sees the volume, and of
//! its members only that they are there. A volume's data lives on a disk of its own.

use std::fmt;

use super::{Device, Devices};
use crate::target::Target;

/// Members of a volume at most: what fits into the pages and events of one.
const MAX_MEMBERS: usize = 10;
/// Volumes of a controller at most, as with shipped firmware.
const MAX_VOLUMES: usize = 2;

/// How a volume spreads its data (`MPI2_RAID_VOL_TYPE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaidLevel {
    /// Striped over two disks or more.
    Raid0,
    /// Mirrored on two disks.
    Raid1,
    /// Each stripe on two of three disks or more, an odd number.
    Raid1E,
    /// Striped over mirrored pairs, four disks or more, an even number.
    Raid10,
}

impl RaidLevel {
    /// `VolumeType`.
    pub(crate) fn code(self) -> u8 {
        match self {
            RaidLevel::Raid0 => 0,
            RaidLevel::Raid1E => 1,
            RaidLevel::Raid1 => 2,
            RaidLevel::Raid10 => 5,
        }
    }

    fn takes(self, members: usize) -> bool {
        match self {
            RaidLevel::Raid0 => (2..=MAX_MEMBERS).contains(&members),
            RaidLevel::Raid1 => members == 2,
            RaidLevel::Raid1E => (3..=MAX_MEMBERS).contains(&members) && members % 2 == 1,
            RaidLevel::Raid10 => (4..=MAX_MEMBERS).contains(&members) && members.is_multiple_of(2),
        }
    }

    /// Whether the data of `one` is on `other` as well.
    fn mirrors(self, one: usize, other: usize, members: usize) -> bool {
        match self {
            RaidLevel::Raid0 => false,
            RaidLevel::Raid1 => true,
            RaidLevel::Raid1E => (one + 1) % members == other || (other + 1) % members == one,
            RaidLevel::Raid10 => one / 2 == other / 2,
        }
    }
}

/// How a member of a volume is (`MPI2_RAID_PD_STATE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It holds its part of the data.
    Optimal,
    /// Its part is being written anew.
    Rebuilding,
    /// It has failed.
    Failed,
}

impl MemberState {
    /// `PhysDiskState` and `OfflineReason`.
    pub(crate) fn codes(self) -> (u8, u8) {
        match self {
            MemberState::Optimal => (7, 0),
            MemberState::Rebuilding => (6, 0),
            MemberState::Failed => (2, 3),
        }
    }
}

/// How a volume is (`MPI2_RAID_VOL_STATE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeState {
    /// All members hold their part.
    Optimal,
    /// All data is there, but not all of it twice.
    Degraded,
    /// Data is missing; the volume does not answer.
    Failed,
}

impl VolumeState {
    /// `VolumeState`.
    pub(crate) fn code(self) -> u8 {
        match self {
            VolumeState::Optimal => 5,
            VolumeState::Degraded => 4,
            VolumeState::Failed => 1,
        }
    }
}

/// Why a volume could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeError(pub(crate) &'static str);

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the volume was not made: {}", self.0)
    }
}

impl std::error::Error for VolumeError {}

/// A member of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    /// `PhysDiskNum`.
    pub(crate) number: u8,
    pub(crate) slot: u8,
    pub(crate) state: MemberState,
}

/// A volume.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) device: Device,
    pub(crate) level: RaidLevel,
    pub(crate) members: Vec<Member>,
}

impl Volume {
    /// How it is, by its members.
    pub(crate) fn state(&self) -> VolumeState {
        let count = self.members.len();
        let bad = |index: usize| {
            self.members.get(index).is_none_or(|member| member.state != MemberState::Optimal)
        };
        let mut state = VolumeState::Optimal;
        for one in (0..count).filter(|one| bad(*one)) {
            // Each stripe of a RAID 1E lies on a member and on the next: both must not be bad.
            let partners = (0..count)
                .filter(|other| *other != one && self.level.mirrors(one, *other, count))
                .collect::<Vec<_>>();
            if partners.is_empty() || partners.iter().any(|other| bad(*other)) {
                return VolumeState::Failed;
            }
            state = VolumeState::Degraded;
        }
        state
    }
}

impl Devices {
    /// Makes a volume of the disks in these slots; its handle.
    pub(crate) fn create_volume(
        &mut self,
        level: RaidLevel,
        slots: &[u8],
        target: Target,
    ) -> Result<u16, VolumeError> {
        if self.volumes.len() >= MAX_VOLUMES {
            return Err(VolumeError("the controller has two volumes already"));
        }
        if !level.takes(slots.len()) {
            return Err(VolumeError("that number of disks does not make a volume of that level"));
        }
        for (index, slot) in slots.iter().enumerate() {
            if self.slot(*slot).is_none() {
                return Err(VolumeError("there is no disk in a slot that was named"));
            }
            if slots.iter().skip(index + 1).any(|other| other == slot) {
                return Err(VolumeError("a slot was named twice"));
            }
            if self.is_member(*slot) {
                return Err(VolumeError("a disk is a member of another volume"));
            }
        }
        let first = self.members().map(|(_, member)| member.number + 1).max().unwrap_or(0);
        let members = slots
            .iter()
            .zip(first..)
            .map(|(slot, number)| Member { number, slot: *slot, state: MemberState::Optimal })
            .collect();
        // Volumes have handles far from the disks'.
        let next = self.next_handle;
        let handle = self.fresh_handle(super::MAX_HANDLE - MAX_VOLUMES as u16);
        self.next_handle = next;
        let taken = |slot: &u8| self.volumes.iter().any(|volume| volume.device.slot == *slot);
        let slot = (0..=u8::MAX).rev().find(|slot| !taken(slot));
        let slot = slot.ok_or(VolumeError("the controller has two volumes already"))?;
        let device = Device { handle, slot, target };
        self.volumes.push(Volume { device, level, members });
        Ok(handle)
    }

    /// Unmakes a volume; its disk, and the members it had.
    pub(crate) fn delete_volume(&mut self, handle: u16) -> Option<Volume> {
        let index = self.volumes.iter().position(|volume| volume.device.handle == handle)?;
        self.gone.push(handle);
        Some(self.volumes.remove(index))
    }

    pub(crate) fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    pub(crate) fn volumes_mut(&mut self) -> &mut [Volume] {
        &mut self.volumes
    }

    /// Each member of each volume.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&Volume, &Member)> {
        self.volumes.iter().flat_map(|volume| volume.members.iter().map(move |m| (volume, m)))
    }

    /// Whether the disk in a slot is a member of a volume.
    pub(crate) fn is_member(&self, slot: u8) -> bool {
        self.members().any(|(_, member)| member.slot == slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::disk;

    fn with_disks(count: u8) -> Devices {
        let mut devices = Devices::new(8);
        devices.attach_expander(24).expect("nothing is plugged in yet");
        for slot in (0..4).chain(8..).take(count.into()) {
            devices.add(slot, disk(slot.into(), 1 << 20)).expect("an empty slot");
        }
        devices
    }

    #[test]
    fn a_volume_is_as_well_as_the_data_that_is_left() {
        use VolumeState::{Degraded, Failed, Optimal};
        let slots = [0u8, 1, 2, 3, 8, 9];
        for (level, count, bad, state) in [
            (RaidLevel::Raid0, 2, &[][..], Optimal),
            (RaidLevel::Raid0, 2, &[1], Failed),
            (RaidLevel::Raid1, 2, &[0], Degraded),
            (RaidLevel::Raid1, 2, &[0, 1], Failed),
            (RaidLevel::Raid10, 4, &[0, 2], Degraded),
            (RaidLevel::Raid10, 4, &[2, 3], Failed),
            (RaidLevel::Raid1E, 5, &[0, 2], Degraded),
            (RaidLevel::Raid1E, 5, &[4, 0], Failed),
        ] {
            let mut devices = with_disks(6);
            devices.create_volume(level, &slots[..count], disk(99, 1 << 20)).expect("fits");
            let volume = devices.volumes_mut().first_mut().expect("it was made");
            for index in bad {
                volume.members[*index].state = MemberState::Failed;
            }
            assert_eq!(volume.state(), state, "{level:?} without {bad:?}");
        }
    }

    #[test]
    fn volumes_of_disks_that_are_not_free_are_refused() {
        let mut devices = with_disks(6);
        let volume = |devices: &mut Devices, level, slots: &[u8]| {
            devices.create_volume(level, slots, disk(99, 1 << 20)).is_ok()
        };
        assert!(!volume(&mut devices, RaidLevel::Raid1, &[0]));
        assert!(!volume(&mut devices, RaidLevel::Raid1, &[0, 0]));
        assert!(!volume(&mut devices, RaidLevel::Raid1, &[0, 7]));
        assert!(!volume(&mut devices, RaidLevel::Raid1E, &[0, 1]));
        assert!(volume(&mut devices, RaidLevel::Raid1, &[0, 1]));
        assert!(!volume(&mut devices, RaidLevel::Raid1, &[1, 2]), "a member already");
        assert!(volume(&mut devices, RaidLevel::Raid0, &[2, 3]));
        assert!(!volume(&mut devices, RaidLevel::Raid0, &[8, 9]), "two at most");
        let numbers: Vec<_> = devices.members().map(|(_, member)| member.number).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
    }

    #[test]
    fn handles_are_given_out_once_and_come_back_late() {
        let mut devices = with_disks(4);
        let expander = devices.expander().expect("attached").handle;
        let mut before = vec![expander];
        for round in 0..3000u32 {
            let gone = devices.remove(3).expect("there is one");
            devices.give_back(gone.handle);
            let handle = devices.add(3, gone.target).expect("it is empty");
            assert_ne!(handle, gone.handle, "round {round}");
            assert!(handle > 8 && handle <= super::super::MAX_HANDLE && handle != expander);
            before.push(handle);
        }
        assert_ne!(before[1], before[2]);
    }
}
