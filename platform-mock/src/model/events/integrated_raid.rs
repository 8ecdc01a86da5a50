//! Events of integrated RAID (mpi2_ioc.h, "Integrated RAID ... Event data").

use super::code;
use crate::model::devices::{Devices, Member, MemberState, Volume, VolumeState};

/// `ReasonCode` of an element of the change list (`MPI2_EVENT_IR_CHANGE_RC_*`).
const ADDED: u8 = 0x01;
const HIDE: u8 = 0x04;
const VOLUME_CREATED: u8 = 0x06;
const VOLUME_DELETED: u8 = 0x07;
const PD_CREATED: u8 = 0x08;
const PD_DELETED: u8 = 0x09;
/// `ElementFlags`.
const VOLUME: u16 = 0;
const VOLUME_MEMBER: u16 = 1;
/// `ReasonCode` of a volume's or disk's event: the state has changed.
const STATE_CHANGED: u8 = 0x03;

/// What became of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VolumeChange {
    /// Discovery found it; the host has not seen its members.
    Found,
    /// It was made of disks that the host knows.
    Created,
    /// It was unmade, and its members are disks like others again.
    Deleted,
}

/// Data of the event that tells of a volume and its members.
pub(crate) fn config_change(
    devices: &Devices,
    volume: &Volume,
    change: VolumeChange,
) -> (u16, Vec<u8>) {
    let (of_volume, of_member) = match change {
        VolumeChange::Found => (ADDED, HIDE),
        VolumeChange::Created => (VOLUME_CREATED, PD_CREATED),
        VolumeChange::Deleted => (VOLUME_DELETED, PD_DELETED),
    };
    let mut data = vec![1 + volume.members.len() as u8, 0, 0, 0, 0, 0, 0, 0];
    let mut element = |flags: u16, reason: u8, number: u8, disk: u16| {
        data.extend(flags.to_le_bytes());
        data.extend(volume.device.handle.to_le_bytes());
        data.extend([reason, number]);
        data.extend(disk.to_le_bytes());
    };
    // The members first where they are to be hidden before the volume shows.
    if change != VolumeChange::Deleted {
        for member in &volume.members {
            element(VOLUME_MEMBER, of_member, member.number, handle(devices, member));
        }
    }
    element(VOLUME, of_volume, 0, 0);
    if change == VolumeChange::Deleted {
        for member in &volume.members {
            element(VOLUME_MEMBER, of_member, member.number, handle(devices, member));
        }
    }
    (code::IR_CONFIGURATION_CHANGE_LIST, data)
}

fn handle(devices: &Devices, member: &Member) -> u16 {
    devices.slot(member.slot).map_or(0, |device| device.handle)
}

/// Data of the event that a volume's state has changed.
pub(crate) fn volume_state(handle: u16, old: VolumeState, new: VolumeState) -> (u16, Vec<u8>) {
    let mut data = handle.to_le_bytes().to_vec();
    data.extend([STATE_CHANGED, 0, new.code(), 0, 0, 0, old.code(), 0, 0, 0]);
    (code::IR_VOLUME, data)
}

/// Data of the event that a member's state has changed.
pub(crate) fn member_state(
    devices: &Devices,
    member: &Member,
    old: MemberState,
    new: MemberState,
) -> (u16, Vec<u8>) {
    let place = devices.place(member.slot);
    let mut data = vec![0, 0, STATE_CHANGED, member.number];
    data.extend(handle(devices, member).to_le_bytes());
    data.extend([0, 0]);
    data.extend(place.bay.to_le_bytes());
    data.extend(place.enclosure.to_le_bytes());
    data.extend([new.codes().0, 0, 0, 0, old.codes().0, 0, 0, 0]);
    (code::IR_PHYSICAL_DISK, data)
}
