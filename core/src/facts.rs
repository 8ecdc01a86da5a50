//! What an IOC says about itself and its ports, the same for all generations.

use crate::wire::ioc::{PortType, Version};

/// What the IOC says about itself, the same for all generations. From the IOC facts reply; sizes
/// are bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// MPI version, major in the high byte (`MsgVersion`).
    pub message_version: u16,
    /// Firmware version (`FWVersion`).
    pub firmware_version: Version,
    /// `ProductID`.
    pub product_id: u16,
    /// `IOCCapabilities`.
    pub capabilities: u32,
    /// A message unit reset keeps discovery's events: it may be used instead of a diagnostic reset.
    pub event_replay: bool,
    /// Requests that may be outstanding (`RequestCredit`, `GlobalCredits`).
    pub credits: u16,
    /// Task management requests that may be outstanding besides.
    pub high_priority_credits: u16,
    /// Bytes of a request frame.
    pub request_frame_bytes: u32,
    /// Bytes of a reply frame.
    pub reply_frame_bytes: u32,
    /// Bytes of a chain frame.
    pub chain_bytes: u32,
    /// Chain frames that one request may have.
    pub max_chain_depth: u8,
    /// Entries of the reply FIFO (MPI1) or the most that a reply post queue may have (MPI2).
    pub reply_queue_depth: u16,
    /// Reply queues.
    pub queues: u8,
    /// Each reply queue may have an address of its own (RDPQ).
    pub queue_array: bool,
    /// 32-bit request descriptors are taken.
    pub atomic_descriptors: bool,
    /// Task management has a queue of its own (MPI1; MPI2 always has).
    pub high_priority_queue: bool,
    /// Ports.
    pub ports: u8,
    /// Devices that the IOC can have, or the highest DevHandle.
    pub max_devices: u16,
}

/// Bytes of the longest IOC facts reply, MPI 1.5's.
pub const FACTS_BYTES: usize = 0x50;

/// An IOC facts reply as it came, zeros after its end: [`mpi1`](crate::wire::ioc::mpi1) and
/// [`mpi2`](crate::wire::ioc::mpi2) say what is where.
pub type FactsReply = [u8; FACTS_BYTES];

/// What the IOC says about a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortFacts {
    /// `PortType`.
    pub port_type: PortType,
    /// Commands posted by the host, at most (MPI2), or 0.
    pub max_posted_buffers: u16,
    /// `ProtocolFlags` of the port ([`ProtocolFlags`](crate::wire::ioc::mpi1::ProtocolFlags)); 0 on
    /// MPI2, where the IOC's facts have them.
    pub protocol_flags: u16,
}
