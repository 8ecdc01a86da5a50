//! Disks that come, go and grow.

use std::io;

use crate::disk::Disk;
use crate::target::{Target, TargetConfig};

use super::super::devices::Device;
use super::super::events::{self, Change};
use super::super::scsi::{self, Ending, ScsiIo, ioc_status};
use super::super::{Later, Model};

/// IOCLogInfo of commands that ended with their device: PL, device missing.
const LOG_INFO_DEVICE_MISSING: u32 = 0x3117_0000;

impl Model {
    /// The device in a slot.
    pub fn device(&mut self, slot: u8) -> Option<&mut Device> {
        self.devices.at_slot(slot)
    }

    /// Slots that disks can be plugged into, taken or not: those of the controller's phys, but for
    /// phys that lead to an expander, and then the expander's bays.
    #[must_use]
    pub fn slots(&self) -> Vec<u8> {
        (0..self.devices.slot_count()).filter(|slot| !self.devices.is_wide_port(*slot)).collect()
    }

    /// All devices, by slot.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter()
    }

    /// Enlarges the disk in a slot, which tells every initiator by CAPACITY DATA HAS CHANGED
    /// (2A/09): no controller does. `None` if there is no disk.
    ///
    /// # Errors
    ///
    /// As [`Disk::grow`].
    pub fn grow_disk(&mut self, slot: u8, bytes: u64) -> Option<io::Result<()>> {
        Some(self.devices.at_slot(slot)?.target.grow(bytes))
    }

    /// Plugs a disk into a slot and tells the host. There is a slot for each phy, but for those that
    /// lead to an expander, and after them one for each of the expander's bays.
    ///
    /// # Errors
    ///
    /// The disk, if the slot is taken or there is none.
    pub fn add_disk(&mut self, slot: u8, target: Target) -> Result<u16, Box<Target>> {
        self.add_disk_as(slot, target, None)
    }

    /// The same, with this DevHandle if one is given.
    pub(in crate::model) fn add_disk_as(
        &mut self,
        slot: u8,
        target: Target,
        handle: Option<u16>,
    ) -> Result<u16, Box<Target>> {
        let own = self.devices.add(slot, target)?;
        if let (Some(device), Some(handle)) = (self.devices.at_slot(slot), handle) {
            device.handle = handle;
        }
        self.tell(slot, Change::Added);
        Ok(handle.unwrap_or(own))
    }

    /// Pulls the disk out of a slot: what the device has ends, and the host is told.
    pub fn remove_disk(&mut self, slot: u8) -> Option<Target> {
        self.tell(slot, Change::Gone);
        self.lose_member(slot);
        self.end_held(slot);
        self.devices.remove(slot).map(|device| device.target)
    }

    /// Turns phys off and on as SAS IO unit page 1 says by now: what is behind them goes and comes.
    pub(in crate::model) fn turn_phys(&mut self) {
        for phy in 0..self.chip.phys {
            let off = self.settings.phy_disabled(phy);
            if off == self.devices.is_off(phy) {
                continue;
            }
            if off {
                self.tell(phy, Change::Gone);
                self.lose_member(phy);
                self.end_held(phy);
            }
            self.devices.turn(phy, off);
            if !off {
                self.tell(phy, Change::Added);
            }
        }
    }

    /// Ends what waits for the device in a slot, which cannot be reached any more.
    fn end_held(&mut self, slot: u8) {
        let rules = self.rules();
        let Some(device) = self.devices.slot(slot) else { return };
        let address = if rules.mpi1 { u16::from(slot) } else { device.handle };
        let mpi1 = rules.mpi1;
        let ending = Ending::terminated(ioc_status::IOC_TERMINATED, LOG_INFO_DEVICE_MISSING);
        let (now, later) = (self.now, &mut self.later);
        self.held.retain(|held| {
            let ends = ScsiIo::parse(held, &rules).address == address;
            if ends {
                later.push_front((now, Later::Reply(scsi::reply(held, mpi1, &ending))));
            }
            !ends
        });
    }

    /// Pulls the disk out of a slot and plugs another in.
    pub fn swap_disk(&mut self, slot: u8, target: Target) -> Option<Target> {
        let old = self.remove_disk(slot)?;
        // The slot was just emptied.
        let _ = self.add_disk(slot, target);
        Some(old)
    }

    /// Tells the host of a change, once it knows of devices at all.
    fn tell(&mut self, slot: u8, change: Change) {
        if !self.port_enabled || self.devices.is_off(slot) {
            return;
        }
        if self.chip.is_mpi1() {
            self.mpi1_tell(slot, change);
            return;
        }
        // The host hears of members of volumes by other events.
        if self.devices.is_member(slot) {
            return;
        }
        if let Some((code, data)) = events::device(&self.chip, &self.devices, slot, change) {
            self.raise_event(code, data, false);
        }
    }
}

/// A disk of `bytes` bytes in memory, with names of its own made from `number`.
#[must_use]
pub fn disk(number: u16, bytes: u64) -> Target {
    // Names of a port are its device's plus one, as on most disks.
    let wwn = 0x5000_c500_a1b2_0000 + u64::from(number) * 4;
    let config = TargetConfig {
        wwn,
        sas_address: wwn + 1,
        serial: format!("FM{number:014}"),
        ..TargetConfig::default()
    };
    Target::new(config, Disk::memory(bytes))
}

/// `count` such disks.
#[must_use]
pub fn disks(count: u16, bytes: u64) -> Vec<Target> {
    (0..count).map(|number| disk(number, bytes)).collect()
}
