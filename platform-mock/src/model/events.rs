//! Events: which the host wants, which wait for its acknowledgement, and what they look like.

mod integrated_raid;
mod topology;

pub(crate) use integrated_raid::{VolumeChange, config_change, member_state, volume_state};
pub(crate) use topology::{Change, arrivals, device, discovery};

use super::message::{Message, byte, le32};

/// `MPI2_EVENT_*`, and MPI1's where they agree.
pub(crate) mod code {
    pub(crate) const EVENT_CHANGE: u16 = 0x0a;
    pub(crate) const SAS_DEVICE_STATUS_CHANGE: u16 = 0x0f;
    pub(crate) const SAS_DISCOVERY: u16 = 0x16;
    pub(crate) const SAS_BROADCAST_PRIMITIVE: u16 = 0x17;
    pub(crate) const SAS_TOPOLOGY_CHANGE_LIST: u16 = 0x1c;
    pub(crate) const ENCLOSURE_STATUS_CHANGE: u16 = 0x1d;
    pub(crate) const IR_VOLUME: u16 = 0x1e;
    pub(crate) const IR_PHYSICAL_DISK: u16 = 0x1f;
    pub(crate) const IR_CONFIGURATION_CHANGE_LIST: u16 = 0x20;
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

/// What happened to a device inside, as its status change event says
/// (`MPI2_EVENT_SAS_DEV_STAT_RC_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceStatus {
    /// The disk predicts its failure, with these additional sense codes.
    Smart {
        /// ASC.
        asc: u8,
        /// ASCQ.
        ascq: u8,
    },
    /// The firmware resets the device on its own account; commands wait.
    InternalResetBegun,
    /// That reset has ended.
    InternalResetEnded,
}

/// Data of the device status change event of MPI2.
pub(crate) fn device_status(
    handle: u16,
    sas_address: u64,
    port: u8,
    status: DeviceStatus,
) -> (u16, Vec<u8>) {
    let (reason, asc, ascq) = match status {
        DeviceStatus::Smart { asc, ascq } => (0x05, asc, ascq),
        DeviceStatus::InternalResetBegun => (0x08, 0, 0),
        DeviceStatus::InternalResetEnded => (0x0e, 0, 0),
    };
    // No task is named.
    let mut data = vec![0xff, 0xff, reason, port, asc, ascq];
    data.extend(handle.to_le_bytes());
    data.extend([0; 4]);
    data.extend(sas_address.to_le_bytes());
    data.extend([0; 8]);
    (code::SAS_DEVICE_STATUS_CHANGE, data)
}

/// Data of the event of a broadcast primitive that came in through a port
/// (`MPI2_EVENT_PRIMITIVE_*`).
pub(crate) fn broadcast(phy: u8, port: u8, width: u8, primitive: u8) -> (u16, Vec<u8>) {
    (code::SAS_BROADCAST_PRIMITIVE, vec![phy, port, width, primitive])
}
