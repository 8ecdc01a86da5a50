//! What only MPI 1.x has: the messages that a SAS1068's driver sends besides I/O, and the events
//! that tell it of plugging (mpi_sas.h, mpi_ioc.h).
//!
//! QEMU's device stops over each of these messages and never sends these events; a card does not.

use super::devices::CONTROLLER_SAS_ADDRESS;
use super::events::{self, Change};
use super::message::{Message, byte, le16};
use super::queues::Request;
use super::{Model, ioc_status, pages};

const FUNCTION_SAS_IO_UNIT_CONTROL: u8 = 0x1b;

/// `MPI_EVENT_SAS_PHY_LINK_STATUS`.
const EVENT_PHY_LINK_STATUS: u16 = 0x12;
/// Reason of a device status change: the IOC has reset the device.
const REASON_INTERNAL_DEVICE_RESET: u8 = 0x08;
/// A link rate that is not known, as when the link is down.
const RATE_UNKNOWN: u8 = 0;

const IOC_STATUS_INVALID_FUNCTION: u16 = 0x01;

/// How long a slot that was just emptied takes until a new disk's link is up in it. mptsas takes
/// events out of a queue that several workers empty: told at once, it finds the new disk before it
/// has let go of the old one, and keeps neither.
const LINK_UP_NS: u64 = 1_000_000_000;

/// Operations of SAS IO unit control (mpi_sas.h, `MPI_SAS_OP_`).
mod operation {
    pub(super) const CLEAR_NOT_PRESENT: u8 = 0x01;
    pub(super) const CLEAR_ALL_PERSISTENT: u8 = 0x02;
    pub(super) const PHY_LINK_RESET: u8 = 0x06;
    pub(super) const PHY_HARD_RESET: u8 = 0x07;
    pub(super) const PHY_CLEAR_ERROR_LOG: u8 = 0x08;
    pub(super) const MAP_CURRENT: u8 = 0x09;
    pub(super) const FORCE_FULL_DISCOVERY: u8 = 0x0b;
    pub(super) const REMOVE_DEVICE: u8 = 0x0d;
}

/// Functions that MPI 1.x has and this card's firmware has not: firmware up- and download, target
/// mode, Fibre Channel, RAID, toolbox, SCSI enclosure processor, mailbox, SATA passthrough,
/// diagnostic buffers (mpi.h, "Function").
fn known_but_missing(function: u8) -> bool {
    matches!(function, 0x09..=0x15 | 0x17..=0x1e | 0x22)
}

/// What the controller remembers of plugging.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// The slot that was emptied last, and when.
    pulled: Option<(u8, u64)>,
}

impl Model {
    /// The reply to a message that only MPI 1.x has in this form; `None` if there is no such one.
    pub(super) fn mpi1_reply(&mut self, request: &Request) -> Option<Message> {
        match request.frame[3] {
            FUNCTION_SAS_IO_UNIT_CONTROL => Some(self.mpi1_unit_control(request)),
            // What stands in place of the request's first bytes is the same in all replies.
            function if known_but_missing(function) => {
                let first = [request.frame[0], request.frame[1]];
                let message = Message::new(0x14, function).with(0, &first);
                Some(message.with16(0x0e, IOC_STATUS_INVALID_FUNCTION))
            }
            _ => None,
        }
    }

    fn mpi1_unit_control(&mut self, request: &Request) -> Message {
        let frame = &request.frame;
        let (handle, phy) = (le16(frame, 4), byte(frame, 0x0e));
        let there = phy < self.chip.phys;
        let known = match frame[0] {
            operation::CLEAR_NOT_PRESENT
            | operation::CLEAR_ALL_PERSISTENT
            | operation::MAP_CURRENT => true,
            operation::PHY_CLEAR_ERROR_LOG => there,
            operation::PHY_LINK_RESET | operation::PHY_HARD_RESET if there => {
                self.mpi1_reset_phy(phy, frame[0] == operation::PHY_HARD_RESET);
                true
            }
            operation::FORCE_FULL_DISCOVERY => {
                self.mpi1_discovery(self.now, true);
                self.mpi1_discovery(self.now, false);
                true
            }
            operation::REMOVE_DEVICE => {
                self.devices.give_back(handle) || self.devices.by_handle(handle).is_ok()
            }
            _ => false,
        };
        let message = Message::new(0x14, frame[3])
            .with8(0, frame[0])
            .with(4, &[frame[4], frame[5], frame[6]]);
        if known { message } else { message.with16(0x0e, ioc_status::INVALID_FIELD) }
    }

    /// Takes a phy's link down and up again; after a hard reset the device has forgotten its tasks.
    fn mpi1_reset_phy(&mut self, phy: u8, hard: bool) {
        let rate = pages::rate(&self.chip);
        let Some(device) = self.devices.at_slot(phy) else { return };
        if hard {
            // A failed flush leaves the disk as it was; there is nobody to tell.
            let _ = device.target.reset();
        }
        let Some((code, mut data)) = events::device(&self.chip, &self.devices, phy, Change::Added)
        else {
            return;
        };
        self.mpi1_link(self.now, phy, RATE_UNKNOWN, rate);
        self.mpi1_link(self.now, phy, rate, RATE_UNKNOWN);
        if hard {
            data[2] = REASON_INTERNAL_DEVICE_RESET;
            self.raise_event(code, data, false);
        }
    }

    /// Tells the host that a disk has come or gone, in the order that firmware finds out: the link
    /// first, then the device behind it, between the beginning and the end of discovery.
    pub(super) fn mpi1_tell(&mut self, slot: u8, change: Change) {
        let rate = pages::rate(&self.chip);
        let Some((code, data)) = events::device(&self.chip, &self.devices, slot, change) else {
            return;
        };
        if change == Change::Gone {
            self.slots.pulled = Some((slot, self.now));
            self.mpi1_link(self.now, slot, RATE_UNKNOWN, rate);
            self.raise_event_at(self.now, code, data, false);
            return;
        }
        let at = match self.slots.pulled {
            Some((pulled, since)) if pulled == slot => (since + LINK_UP_NS).max(self.now),
            _ => self.now,
        };
        self.mpi1_link(at, slot, rate, RATE_UNKNOWN);
        self.mpi1_discovery(at, true);
        self.raise_event_at(at, code, data, false);
        self.mpi1_discovery(at, false);
    }

    /// The link to a slot has changed: that of one of the controller's phys, or of the expander's
    /// (`EVENT_DATA_SAS_PHY_LINK_STATUS`).
    fn mpi1_link(&mut self, at: u64, slot: u8, rate: u8, before: u8) {
        let place = self.devices.place(slot);
        let owner = match self.devices.expander() {
            Some(expander) if place.parent == expander.handle => expander.sas_address(),
            _ => CONTROLLER_SAS_ADDRESS,
        };
        let mut data = vec![place.phy, rate << 4 | before];
        data.extend(place.parent.to_le_bytes());
        data.extend(owner.to_le_bytes());
        self.raise_event_at(at, EVENT_PHY_LINK_STATUS, data, false);
    }

    fn mpi1_discovery(&mut self, at: u64, begun: bool) {
        let (code, data) = events::discovery(true, begun);
        self.raise_event_at(at, code, data, false);
    }
}
