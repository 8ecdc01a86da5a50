//! Events of the fabric: discovery, links and devices that come and go, enclosures.

use super::code;
use crate::model::chip::Chip;
use crate::model::devices::{Devices, Enclosure, Neighbour};
use crate::model::pages::{self, device_rate};

/// `PhyStatus` (`MPI2_EVENT_SAS_TOPO_RC_*`).
const TARGET_ADDED: u8 = 1;
const TARGET_NOT_RESPONDING: u8 = 2;
const PHY_CHANGED: u8 = 3;
const NO_CHANGE: u8 = 4;
/// `ExpStatus` (`MPI2_EVENT_SAS_TOPO_ES_*`).
const NO_EXPANDER: u8 = 0;
const EXPANDER_ADDED: u8 = 1;
const EXPANDER_RESPONDING: u8 = 3;
/// Phys that one event has room for: it must fit into a reply frame of 128 bytes.
const PHYS_PER_EVENT: usize = 20;

/// Data of the discovery event: begun or ended. MPI1's is a word of phys in progress.
pub(crate) fn discovery(mpi1: bool, begun: bool) -> (u16, Vec<u8>) {
    if mpi1 {
        let bits = if begun { 1u32 } else { 0 };
        return (code::SAS_DISCOVERY, bits.to_le_bytes().to_vec());
    }
    let (flags, reason) = if begun { (1, 1) } else { (0, 2) };
    (code::SAS_DISCOVERY, vec![flags, reason, 0, 0, 0, 0, 0, 0])
}

/// What happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Gone,
}

/// Data of the event that tells of the disk in a slot, if there is one.
pub(crate) fn device(
    chip: &Chip,
    devices: &Devices,
    slot: u8,
    change: Change,
) -> Option<(u16, Vec<u8>)> {
    let device = devices.slot(slot)?;
    let place = devices.place(slot);
    if chip.is_mpi1() {
        let reason = if change == Change::Added { 3 } else { 4 };
        let handle = device.handle.to_le_bytes();
        let mut data = vec![device.slot, 0, reason, 0, 0, 0, handle[0], handle[1]];
        data.extend(pages::device_info(device).to_le_bytes());
        data.extend(place.parent.to_le_bytes());
        data.extend([place.phy, 0]);
        data.extend(device.target.config().sas_address.to_le_bytes());
        data.extend([0; 12]);
        return Some((code::SAS_DEVICE_STATUS_CHANGE, data));
    }
    let rate = device_rate(chip, device);
    let (rates, reason) = match change {
        Change::Added => (rate << 4, TARGET_ADDED),
        Change::Gone => (rate, TARGET_NOT_RESPONDING),
    };
    let (node, status) = match devices.expander() {
        Some(expander) if place.parent == expander.handle => {
            ((expander.handle, expander.phys()), EXPANDER_RESPONDING)
        }
        _ => ((0, devices.phys()), NO_EXPANDER),
    };
    let mut data = header(place.enclosure, node, place.phy, 1, status, place.port);
    data.extend(entry(device.handle, rates, reason));
    Some((code::SAS_TOPOLOGY_CHANGE_LIST, data))
}

/// The events by which MPI2 tells of everything that discovery has found, in their order.
pub(crate) fn arrivals(chip: &Chip, devices: &Devices) -> Vec<(u16, Vec<u8>)> {
    let mut events: Vec<_> = devices.enclosures().map(|found| enclosure(&found)).collect();
    // The host learns of its own phys from any event, even if it tells of no device.
    let mut told = false;
    for phy in 0..devices.phys() {
        match devices.neighbour(phy) {
            Neighbour::Disk(found) if !devices.is_member(found.slot) => {
                events.extend(device(chip, devices, found.slot, Change::Added));
                told = true;
            }
            Neighbour::Expander(..) if phy == devices.wide_port() => {
                events.extend(expander(chip, devices));
                told = true;
            }
            _ => {}
        }
    }
    if !told {
        let own = (0, devices.phys());
        let enclosure = devices.place(0).enclosure;
        let mut data = header(enclosure, own, 0, devices.phys(), NO_EXPANDER, 0);
        for _ in 0..devices.phys() {
            data.extend(entry(0, 0, NO_CHANGE));
        }
        events.push((code::SAS_TOPOLOGY_CHANGE_LIST, data));
    }
    events
}

/// First that the wide port's links are up, then the expander with what is on its phys.
fn expander(chip: &Chip, devices: &Devices) -> Vec<(u16, Vec<u8>)> {
    let Some(expander) = devices.expander() else { return Vec::new() };
    let first = devices.wide_port();
    let phys = devices.phys() - first;
    let rate = pages::rate(chip);
    let enclosure = devices.place(0).enclosure;
    let mut links = header(enclosure, (0, devices.phys()), first, phys, NO_EXPANDER, first);
    for _ in 0..phys {
        links.extend(entry(expander.handle, rate << 4, PHY_CHANGED));
    }
    let mut events = vec![(code::SAS_TOPOLOGY_CHANGE_LIST, links)];
    let entries: Vec<[u8; 4]> = (0..expander.phys())
        .map(|phy| {
            if phy >= expander.bays {
                let own = devices.controller_handle(first + (phy - expander.bays));
                return entry(own, rate << 4, NO_CHANGE);
            }
            let slot = devices.phys() + phy;
            match devices.slot(slot) {
                Some(found) if !devices.is_member(slot) => {
                    entry(found.handle, device_rate(chip, found) << 4, TARGET_ADDED)
                }
                _ => entry(0, 0, NO_CHANGE),
            }
        })
        .collect();
    let mut status = EXPANDER_ADDED;
    let mut start = 0;
    for part in entries.chunks(PHYS_PER_EVENT) {
        let node = (expander.handle, expander.phys());
        let place = devices.place(devices.phys());
        let mut data = header(place.enclosure, node, start, part.len() as u8, status, first);
        data.extend(part.concat());
        events.push((code::SAS_TOPOLOGY_CHANGE_LIST, data));
        status = EXPANDER_RESPONDING;
        start += part.len() as u8;
    }
    events
}

/// Data of the event that tells of an enclosure that was found.
pub(crate) fn enclosure(found: &Enclosure) -> (u16, Vec<u8>) {
    let mut data = found.handle.to_le_bytes().to_vec();
    data.extend([1, found.port]);
    data.extend(found.logical_id.to_le_bytes());
    data.extend(found.slots.to_le_bytes());
    data.extend(0u16.to_le_bytes());
    data.extend(found.phy_bits.to_le_bytes());
    (code::ENCLOSURE_STATUS_CHANGE, data)
}

/// The head of a topology change list of `node`, handle (0: the controller) and phys.
fn header(
    enclosure: u16,
    node: (u16, u8),
    first: u8,
    entries: u8,
    status: u8,
    port: u8,
) -> Vec<u8> {
    let mut data = enclosure.to_le_bytes().to_vec();
    data.extend(node.0.to_le_bytes());
    data.extend([node.1, 0, 0, 0, entries, first, status, port]);
    data
}

/// A phy of the list: its neighbour, its rates now (7:4) and before (3:0), what happened.
fn entry(handle: u16, rates: u8, reason: u8) -> [u8; 4] {
    let [low, high] = handle.to_le_bytes();
    [low, high, rates, reason]
}
