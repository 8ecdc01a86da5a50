//! The disks behind a controller: one to a phy, each with a SAS address and a DevHandle.

use crate::target::Target;

/// The controller's own SAS address; its phys count up from it.
pub(crate) const CONTROLLER_SAS_ADDRESS: u64 = 0x5006_05b0_0123_4560;
/// The handle of the enclosure that the controller's own phys make up.
pub(crate) const ENCLOSURE_HANDLE: u16 = 1;

/// A disk in its place.
#[derive(Debug)]
pub struct Device {
    /// DevHandle.
    pub handle: u16,
    /// Slot, phy and (on MPI1) target id.
    pub slot: u8,
    /// The disk.
    pub target: Target,
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
    slots: Vec<Option<Device>>,
    /// Whether a slot has had a device since power-on.
    used: Vec<bool>,
    /// Handles of devices that have gone, until the host gives them back.
    gone: Vec<u16>,
    next_handle: u16,
}

impl Devices {
    /// As many empty slots as there are phys.
    pub(crate) fn new(phys: u8) -> Self {
        Self {
            slots: (0..phys).map(|_| None).collect(),
            used: vec![false; usize::from(phys)],
            gone: Vec::new(),
            next_handle: u16::from(phys) * 2 + 1,
        }
    }

    /// Handles count from one more than the phys', which have those up to their number.
    fn first_handle(&self, slot: u8) -> u16 {
        self.slots.len() as u16 + 1 + u16::from(slot)
    }

    /// Puts a disk into a slot and returns its handle: the slot's own the first time, a new one
    /// afterwards. `Err` gives the disk back if the slot is taken or there is none.
    pub(crate) fn add(&mut self, slot: u8, target: Target) -> Result<u16, Box<Target>> {
        let first = self.first_handle(slot);
        let (Some(place), Some(used)) =
            (self.slots.get_mut(usize::from(slot)), self.used.get_mut(usize::from(slot)))
        else {
            return Err(Box::new(target));
        };
        if place.is_some() {
            return Err(Box::new(target));
        }
        let handle = if *used {
            self.next_handle += 1;
            self.next_handle - 1
        } else {
            first
        };
        *used = true;
        *place = Some(Device { handle, slot, target });
        Ok(handle)
    }

    /// Takes the disk out of a slot.
    pub(crate) fn remove(&mut self, slot: u8) -> Option<Device> {
        let device = self.slots.get_mut(usize::from(slot))?.take()?;
        self.gone.push(device.handle);
        Some(device)
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

    /// The device with this handle.
    pub(crate) fn by_handle(&mut self, handle: u16) -> Result<&mut Device, Absent> {
        let gone = self.gone.contains(&handle);
        self.slots.iter_mut().flatten().find(|device| device.handle == handle).ok_or(if gone {
            Absent::Gone
        } else {
            Absent::Invalid
        })
    }

    /// The device with the lowest handle above `handle`; of all, for 0xFFFF.
    pub(crate) fn after(&self, handle: u16) -> Option<&Device> {
        self.iter()
            .filter(|device| handle == 0xffff || device.handle > handle)
            .min_by_key(|device| device.handle)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Device> {
        self.slots.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Device> {
        self.slots.iter_mut().flatten()
    }
}
