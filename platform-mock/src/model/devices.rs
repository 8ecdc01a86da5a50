//! What is behind a controller: disks on its own phys, an expander with more of them, RAID volumes.
//!
//! Slots are numbered through: those of the controller's phys come first, the expander's bays
//! after them. Where a slot is in the fabric, and who neighbours whom, is `devices/places.rs`'s.

mod places;
mod volumes;

pub use volumes::{MemberState, RaidLevel, VolumeError, VolumeState};

use crate::target::Target;

pub(crate) use places::{
    CONTROLLER_SAS_ADDRESS, ENCLOSURE_HANDLE, EXPANDER_ENCLOSURE_HANDLE, Enclosure, Neighbour,
    WIDE_PORT_PHYS,
};
pub(crate) use volumes::{Member, Volume};

/// `MaxDevHandle`: no handle is greater.
pub(crate) const MAX_HANDLE: u16 = 1112;

/// A disk, or a RAID volume, in its place.
#[derive(Debug)]
pub struct Device {
    /// DevHandle.
    pub handle: u16,
    /// Slot, and of a disk on the controller's own phys also phy and (on MPI1) target id. Of a
    /// volume its number, counted down from 255.
    pub slot: u8,
    /// The disk.
    pub target: Target,
}

/// An expander, reached by a wide port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expander {
    pub(crate) handle: u16,
    pub(crate) bays: u8,
}

/// What an access to a handle or target id met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// There never was such a device.
    Invalid,
    /// There was one, and its handle has not been given back.
    Gone,
}

/// The slots and the handles.
#[derive(Debug)]
pub(crate) struct Devices {
    phys: u8,
    slots: Vec<Option<Device>>,
    /// Whether a slot has had a device since power-on.
    used: Vec<bool>,
    /// Handles of devices that have gone, until the host gives them back.
    gone: Vec<u16>,
    /// Phys of the controller that its host has turned off, a bit for each.
    off: u32,
    next_handle: u16,
    expander: Option<Expander>,
    volumes: Vec<Volume>,
}

impl Devices {
    /// As many empty slots as there are phys.
    pub(crate) fn new(phys: u8) -> Self {
        Self {
            phys,
            slots: (0..phys).map(|_| None).collect(),
            used: vec![false; usize::from(phys)],
            gone: Vec::new(),
            off: 0,
            next_handle: u16::from(phys) * 2 + 1,
            expander: None,
            volumes: Vec::new(),
        }
    }

    /// The controller's own phys.
    pub(crate) fn phys(&self) -> u8 {
        self.phys
    }

    /// Slots on the controller and on the expander, taken or not.
    pub(crate) fn slot_count(&self) -> u8 {
        self.slots.len() as u8
    }

    /// The expander, if there is one.
    pub(crate) fn expander(&self) -> Option<Expander> {
        self.expander
    }

    /// Attaches an expander with `bays` slots to the last phys; its handle, or why it cannot be.
    pub(crate) fn attach_expander(&mut self, bays: u8) -> Result<u16, &'static str> {
        if self.expander.is_some() {
            return Err("the controller has an expander already");
        }
        if bays == 0 || bays > 96 {
            return Err("an expander has 1 to 96 bays");
        }
        let first = self.phys.saturating_sub(WIDE_PORT_PHYS);
        if self.slots.iter().flatten().any(|device| device.slot >= first) {
            return Err("disks are plugged into the phys that the expander's wide port takes");
        }
        let handle = self.fresh_handle(u16::from(self.phys) * 2 + u16::from(bays) + 1);
        self.slots.extend((0..bays).map(|_| None));
        self.used.resize(self.slots.len(), false);
        self.next_handle = self.next_handle.max(handle + 1);
        self.expander = Some(Expander { handle, bays });
        Ok(handle)
    }

    /// Handles count from one more than the phys', which have those up to their number.
    fn first_handle(&self, slot: u8) -> u16 {
        u16::from(self.phys) + 1 + u16::from(slot)
    }

    /// Whether a handle is somebody's, or was until lately.
    fn is_taken(&self, handle: u16) -> bool {
        handle <= u16::from(self.phys)
            || self.gone.contains(&handle)
            || self.expander.is_some_and(|expander| expander.handle == handle)
            || self.everything().any(|device| device.handle == handle)
    }

    /// The next handle from `from` on that nobody has; they are given out in turn, so that one
    /// comes back late.
    fn fresh_handle(&mut self, from: u16) -> u16 {
        let lowest = u16::from(self.phys) + 1;
        let handle = (from..=MAX_HANDLE)
            .chain(lowest..from)
            .find(|handle| !self.is_taken(*handle))
            .unwrap_or(MAX_HANDLE);
        self.next_handle = if handle >= MAX_HANDLE { lowest } else { handle + 1 };
        handle
    }

    /// Puts a disk into a slot and returns its handle: the slot's own the first time, a new one
    /// afterwards. `Err` gives the disk back if the slot is taken or there is none.
    pub(crate) fn add(&mut self, slot: u8, target: Target) -> Result<u16, Box<Target>> {
        let first = self.first_handle(slot);
        let index = usize::from(slot);
        if self.is_wide_port(slot) || !matches!(self.slots.get(index), Some(None)) {
            return Err(Box::new(target));
        }
        let again = self.used.get(index) != Some(&false);
        let handle =
            if again || self.is_taken(first) { self.fresh_handle(self.next_handle) } else { first };
        if let (Some(place), Some(used)) = (self.slots.get_mut(index), self.used.get_mut(index)) {
            *used = true;
            *place = Some(Device { handle, slot, target });
        }
        Ok(handle)
    }

    /// Takes the disk out of a slot.
    pub(crate) fn remove(&mut self, slot: u8) -> Option<Device> {
        let device = self.slots.get_mut(usize::from(slot))?.take()?;
        if !self.is_off(slot) {
            self.gone.push(device.handle);
        }
        Some(device)
    }

    /// Whether the host has turned off the phy that leads to a slot: then nobody reaches its disk.
    pub(crate) fn is_off(&self, slot: u8) -> bool {
        self.off.checked_shr(slot.into()).is_some_and(|off| off & 1 != 0)
    }

    /// Turns a phy of the controller off or on. To the host the disk behind it goes, and comes
    /// again under a new handle.
    pub(crate) fn turn(&mut self, phy: u8, off: bool) {
        if off == self.is_off(phy) || phy >= self.phys {
            return;
        }
        self.off ^= 1 << phy;
        let Some(before) = self.slot(phy).map(|device| device.handle) else { return };
        if off {
            self.gone.push(before);
            return;
        }
        let handle = self.fresh_handle(self.next_handle);
        if let Some(device) = self.at_slot(phy) {
            device.handle = handle;
        }
    }

    /// Forgets a handle whose device has gone: the host has given it back.
    pub(crate) fn give_back(&mut self, handle: u16) -> bool {
        let before = self.gone.len();
        self.gone.retain(|gone| *gone != handle);
        self.gone.len() != before
    }

    /// Forgets all handles of devices that have gone, as a reset does.
    pub(crate) fn forget_gone(&mut self) {
        self.gone.clear();
    }

    pub(crate) fn at_slot(&mut self, slot: u8) -> Option<&mut Device> {
        self.slots.get_mut(usize::from(slot))?.as_mut()
    }

    pub(crate) fn slot(&self, slot: u8) -> Option<&Device> {
        self.slots.get(usize::from(slot))?.as_ref()
    }

    /// The disk or volume with this handle.
    pub(crate) fn by_handle(&mut self, handle: u16) -> Result<&mut Device, Absent> {
        let absent = if self.gone.contains(&handle) { Absent::Gone } else { Absent::Invalid };
        let off = self.off;
        let is_off = |slot: u8| off.checked_shr(slot.into()).is_some_and(|off| off & 1 != 0);
        let mut disks = self.slots.iter_mut().flatten();
        let disk = disks.find(|device| device.handle == handle && !is_off(device.slot));
        if disk.is_some() {
            return disk.ok_or(absent);
        }
        let volume = self.volumes.iter_mut().find(|volume| volume.device.handle == handle);
        match volume {
            Some(volume) if volume.state() == VolumeState::Failed => Err(Absent::Gone),
            Some(volume) => Ok(&mut volume.device),
            None => Err(absent),
        }
    }

    /// The disk with the lowest handle above `handle`; of all, for 0xFFFF.
    pub(crate) fn after(&self, handle: u16) -> Option<&Device> {
        self.iter()
            .filter(|device| handle == 0xffff || device.handle > handle)
            .min_by_key(|device| device.handle)
    }

    /// All disks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Device> {
        self.slots.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Device> {
        self.slots.iter_mut().flatten()
    }

    /// All disks and volumes.
    fn everything(&self) -> impl Iterator<Item = &Device> {
        self.iter().chain(self.volumes.iter().map(|volume| &volume.device))
    }
}
