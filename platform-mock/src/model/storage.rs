//! What can be built behind a controller besides disks: an expander, RAID volumes; and what their
//! firmware has to tell of them.

use super::devices::{MemberState, RaidLevel, VolumeError, VolumeState};
use super::events::{self, DeviceStatus, VolumeChange};
use super::{Model, devices};
use crate::target::Target;

impl Model {
    /// Attaches an expander with `bays` bays (1 to 96) to the last four phys, as a wide port; its
    /// DevHandle. The bays are the slots after the controller's own. Before the host is there: no
    /// event tells of it, discovery does.
    ///
    /// # Errors
    ///
    /// A sentence on why it cannot be: there is an expander, a disk is plugged into one of the four
    /// phys, or the number of bays is none.
    pub fn attach_expander(&mut self, bays: u8) -> Result<u16, &'static str> {
        let handle = self.devices.attach_expander(bays)?;
        self.max_devices = self.most_devices();
        Ok(handle)
    }

    /// Makes a RAID volume of the disks in these slots, whose data is `target`'s from now on, and
    /// tells the host; its DevHandle. MPI2 only. A host that comes up before the first volume is
    /// made finds a controller without RAID.
    ///
    /// # Errors
    ///
    /// [`VolumeError`] if the disks do not make such a volume, or there are two already.
    pub fn create_volume(
        &mut self,
        level: RaidLevel,
        slots: &[u8],
        target: Target,
    ) -> Result<u16, VolumeError> {
        if self.chip.is_mpi1() {
            return Err(VolumeError("this model of an MPI 1.x controller has no RAID"));
        }
        let handle = self.devices.create_volume(level, slots, target)?;
        self.tell_of_volume(handle, VolumeChange::Created);
        Ok(handle)
    }

    /// Unmakes a RAID volume and tells the host; the disk that held its data.
    pub fn delete_volume(&mut self, handle: u16) -> Option<Target> {
        self.tell_of_volume(handle, VolumeChange::Deleted);
        self.devices.delete_volume(handle).map(|volume| volume.device.target)
    }

    /// All RAID volumes, and how each is.
    pub fn volumes(&self) -> impl Iterator<Item = (&devices::Device, VolumeState)> {
        self.devices.volumes().iter().map(|volume| (&volume.device, volume.state()))
    }

    /// How a RAID volume is.
    #[must_use]
    pub fn volume_state(&self, handle: u16) -> Option<VolumeState> {
        let volume = self.devices.volumes().iter().find(|volume| volume.device.handle == handle);
        volume.map(devices::Volume::state)
    }

    /// Sets how the member in `slot` of a RAID volume is, and tells the host; how it was, or `None`
    /// if it is none's.
    pub fn set_member_state(&mut self, slot: u8, state: MemberState) -> Option<MemberState> {
        let (handle, before, member) = self
            .devices
            .members()
            .find(|(_, member)| member.slot == slot)
            .map(|(volume, member)| (volume.device.handle, volume.state(), *member))?;
        for volume in self.devices.volumes_mut() {
            for one in volume.members.iter_mut().filter(|one| one.slot == slot) {
                one.state = state;
            }
        }
        let after = self.volume_state(handle)?;
        if self.port_enabled && member.state != state {
            let (code, data) = events::member_state(&self.devices, &member, member.state, state);
            self.raise_event(code, data, false);
        }
        if self.port_enabled && after != before {
            let (code, data) = events::volume_state(handle, before, after);
            self.raise_event(code, data, false);
        }
        Some(member.state)
    }

    /// Notes that the disk in a slot is pulled, if it is a member of a volume.
    pub(super) fn lose_member(&mut self, slot: u8) {
        if self.devices.slot(slot).is_some() {
            self.set_member_state(slot, MemberState::Failed);
        }
    }

    fn tell_of_volume(&mut self, handle: u16, change: VolumeChange) {
        let volume = self.devices.volumes().iter().find(|volume| volume.device.handle == handle);
        if let Some(volume) = volume.filter(|_| self.port_enabled) {
            let (code, data) = events::config_change(&self.devices, volume, change);
            self.raise_event(code, data, false);
        }
    }

    /// Tells the host what happened inside the disk in a slot, by a device status change event
    /// (MPI2). `false` if there is no disk.
    pub fn raise_device_status(&mut self, slot: u8, status: DeviceStatus) -> bool {
        let Some(device) = self.devices.slot(slot) else { return false };
        let (port, address) = (self.devices.place(slot).port, self.devices.sas_address(device));
        let (code, data) = events::device_status(device.handle, address, port, status);
        self.raise_event(code, data, false);
        true
    }

    /// Tells the host of a broadcast primitive (`MPI2_EVENT_PRIMITIVE_*`: 1 change, 4 asynchronous
    /// event) that came in through a phy of the controller (MPI2).
    pub fn raise_broadcast(&mut self, phy: u8, primitive: u8) {
        let port = self.devices.port(phy);
        let width = if self.devices.is_wide_port(phy) { devices::WIDE_PORT_PHYS } else { 1 };
        let (code, data) = events::broadcast(phy, port, width, primitive);
        self.raise_event(code, data, false);
    }
}
