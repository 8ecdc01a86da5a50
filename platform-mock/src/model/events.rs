//! Events: which the host wants, which wait for its acknowledgement, and what they look like.

use super::devices::{Device, ENCLOSURE_HANDLE};
use super::message::{Message, byte, le32};

/// `MPI2_EVENT_*`, and MPI1's where they agree.
pub(crate) mod code {
    pub(crate) const EVENT_CHANGE: u16 = 0x0a;
    pub(crate) const SAS_DEVICE_STATUS_CHANGE: u16 = 0x0f;
    pub(crate) const SAS_DISCOVERY: u16 = 0x16;
    pub(crate) const SAS_TOPOLOGY_CHANGE_LIST: u16 = 0x1c;
}

const FUNCTION: u8 = 0x07;
const CONTINUATION: u8 = 0x80;

/// What the host has asked for.
#[derive(Debug)]
pub(crate) struct Events {
    mpi1: bool,
    /// Event notification is on (MPI1), or was asked for at all.
    pub(crate) on: bool,
    /// A set bit turns an event off (MPI2).
    masks: [u32; 4],
    /// The `MsgContext` that asked (MPI1).
    pub(crate) context: u32,
    /// Events that wait for an acknowledgement: code and context.
    unacknowledged: Vec<(u16, u32)>,
    next_context: u32,
}

impl Events {
    pub(crate) fn new(mpi1: bool) -> Self {
        Self {
            mpi1,
            on: false,
            masks: [u32::MAX; 4],
            context: 0,
            unacknowledged: Vec::new(),
            next_context: 0x4556_0001,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.on = false;
        self.masks = [u32::MAX; 4];
        self.unacknowledged.clear();
    }

    /// Takes an event notification request and returns its reply.
    pub(crate) fn ask(&mut self, request: &[u8], context: u32) -> Message {
        self.context = context;
        if self.mpi1 {
            self.on = byte(request, 0) != 0;
            // The reply is the first event, about itself.
            return Message::new(0x20, FUNCTION)
                .with8(0, 1)
                .with8(7, CONTINUATION)
                .with32(8, context)
                .with32(0x14, code::EVENT_CHANGE.into())
                .with8(0x1c, u8::from(self.on));
        }
        self.on = true;
        for (index, mask) in self.masks.iter_mut().enumerate() {
            *mask = le32(request, 0x14 + index * 4);
        }
        Message::new(0x1c, FUNCTION)
    }

    /// Whether the host wants this event.
    pub(crate) fn wants(&self, code: u16) -> bool {
        let masked =
            self.masks.get(usize::from(code / 32)).is_none_or(|mask| mask >> (code % 32) & 1 != 0);
        self.on && (self.mpi1 || !masked)
    }

    /// The message of an event.
    pub(crate) fn message(&mut self, code: u16, data: &[u8], acknowledge: bool) -> Message {
        let words = data.len().div_ceil(4);
        let mut context = 0;
        if acknowledge {
            context = self.next_context;
            self.next_context = self.next_context.wrapping_add(1);
            self.unacknowledged.push((code, context));
        }
        let message = Message::new(0x1c + words * 4, FUNCTION)
            .with16(0, words as u16)
            .with8(6, u8::from(acknowledge))
            .with32(0x14, code.into())
            .with32(0x18, context)
            .with(0x1c, data);
        if self.mpi1 { message.with8(7, CONTINUATION).with32(8, self.context) } else { message }
    }

    /// Takes an acknowledgement; whether there was such an event.
    pub(crate) fn acknowledge(&mut self, code: u16, context: u32) -> bool {
        let before = self.unacknowledged.len();
        self.unacknowledged.retain(|event| *event != (code, context));
        self.unacknowledged.len() != before
    }

    /// Events that wait for an acknowledgement.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }
}

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

/// Data of the event that tells of a device (MPI2: of phy `slot` of the controller).
pub(crate) fn device(
    mpi1: bool,
    phys: u8,
    rate: u8,
    device: &Device,
    change: Change,
) -> (u16, Vec<u8>) {
    let handle = device.handle.to_le_bytes();
    if mpi1 {
        let reason = if change == Change::Added { 3 } else { 4 };
        let mut data = vec![device.slot, 0, reason, 0, 0, 0, handle[0], handle[1]];
        data.extend(super::pages::mpi1::device_info(device).to_le_bytes());
        data.extend((u16::from(device.slot) + 1).to_le_bytes());
        data.extend([device.slot, 0]);
        data.extend(device.target.config().sas_address.to_le_bytes());
        data.extend([0; 12]);
        return (code::SAS_DEVICE_STATUS_CHANGE, data);
    }
    let (rates, reason) = match change {
        Change::Added => (rate << 4, 1),
        Change::Gone => (rate, 2),
    };
    let mut data = topology_header(phys, device.slot, 1);
    data.extend([handle[0], handle[1], rates, reason]);
    (code::SAS_TOPOLOGY_CHANGE_LIST, data)
}

/// Data of the event that tells of all phys at once (MPI2).
pub(crate) fn topology<'d>(
    phys: u8,
    rate: u8,
    find: impl Fn(u8) -> Option<&'d Device>,
) -> (u16, Vec<u8>) {
    let mut data = topology_header(phys, 0, phys);
    for slot in 0..phys {
        match find(slot) {
            Some(device) => {
                data.extend(device.handle.to_le_bytes());
                data.extend([rate << 4, 1]);
            }
            // No link, and nothing that changed.
            None => data.extend([0, 0, 0, 4]),
        }
    }
    (code::SAS_TOPOLOGY_CHANGE_LIST, data)
}

/// Expander handle 0 and no expander status: the controller's own phys.
fn topology_header(phys: u8, first: u8, entries: u8) -> Vec<u8> {
    let enclosure = ENCLOSURE_HANDLE.to_le_bytes();
    vec![enclosure[0], enclosure[1], 0, 0, phys, 0, 0, 0, entries, first, 0, 0]
}
