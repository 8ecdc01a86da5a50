//! What only MPI 1.x has: the messages that a SAS1068's driver sends besides I/O, and the events
//! that tell it of plugging (mpi_sas.h, mpi_ioc.h).
//!
//! QEMU's device stops over each of these messages and never sends these events; a card does not.

use std::collections::BTreeMap;

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

/// How long a host has for its walk through the pages that one piece of news sets it on. mptsas
/// takes news out of a queue that several workers empty, and its walks know nothing of each other:
/// told of a link and of the disk behind it at once, two of them make a port of the same phy, over
/// which Linux stops (sas_port_add_phy). A disk takes longer from its link to its identification.
const WALK_NS: u64 = 1_000_000_000;
/// How long a slot that was just emptied takes until a new disk's link is up in it. Told sooner,
/// mptsas finds the new disk before it has let go of the old one, and keeps neither.
const LINK_UP_NS: u64 = 2_000_000_000;

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
    /// When the host was last set on a walk through the pages, or will be.
    walk: Option<u64>,
    /// The last news of each slot that there was any of: whether it is of a disk that comes, and
    /// when the host is told.
    news: BTreeMap<u8, (bool, u64)>,
}

impl Slots {
    /// When a host can be set on a walk that may begin at `from`; it is then taken to be on it.
    fn walk(&mut self, from: u64) -> u64 {
        let at = self.walk.map_or(from, |last| from.max(last + WALK_NS));
        self.walk = Some(at);
        at
    }

    /// Notes that the host is about to walk by itself: mptsas does once it has asked for events,
    /// after a start and after each reset, and misses what it is told meanwhile.
    pub(super) fn host_looks(&mut self, now: u64) {
        self.walk = Some(now);
    }

    /// When the link of a slot can be up at the soonest.
    fn link_up(&self, slot: u8, now: u64) -> u64 {
        match self.news.get(&slot) {
            Some((false, gone)) => now.max(gone + LINK_UP_NS),
            _ => now,
        }
    }

    /// When the host can be told that the disk of a slot has gone: not before it has heard of it.
    fn gone(&mut self, slot: u8, now: u64) -> u64 {
        let at = self.news.get(&slot).map_or(now, |(_, told)| now.max(*told));
        self.news.insert(slot, (false, at));
        at
    }
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
        let up = self.slots.walk(self.now);
        self.mpi1_link(up, phy, rate, RATE_UNKNOWN);
        if hard {
            data[2] = REASON_INTERNAL_DEVICE_RESET;
            self.raise_event_at(up, code, data, false);
        }
    }

    /// Tells the host that a disk has come or gone, in the order that firmware finds out: the link
    /// first, then, when the host has seen it, the device behind it, between the beginning and the
    /// end of discovery.
    pub(super) fn mpi1_tell(&mut self, slot: u8, change: Change) {
        let rate = pages::rate(&self.chip);
        let Some((code, data)) = events::device(&self.chip, &self.devices, slot, change) else {
            return;
        };
        if change == Change::Gone {
            let at = self.slots.gone(slot, self.now);
            self.mpi1_link(at, slot, RATE_UNKNOWN, rate);
            self.raise_event_at(at, code, data, false);
            return;
        }
        let up = self.slots.walk(self.slots.link_up(slot, self.now));
        self.mpi1_link(up, slot, rate, RATE_UNKNOWN);
        let found = self.slots.walk(up);
        self.slots.news.insert(slot, (true, found));
        self.mpi1_discovery(found, true);
        self.raise_event_at(found, code, data, false);
        self.mpi1_discovery(found, false);
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
