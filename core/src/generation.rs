//! What differs between the generations, behind one sealed trait.
//!
//! [`Mpi1`] and [`Mpi2`] are empty types; everything in which they differ is a function of the
//! [`sealed::Sealed`] trait, and everything else in this crate is written once. MegaRAID Fusion
//! fits the same trait: it posts like [`Mpi2`], and its [`Reply`]s never carry a frame, since the
//! status stands in the request frame, which [`sealed::Sealed::scsi_reply`] may read.

use embedded_hal::delay::DelayNs;
use zerocopy::IntoBytes;

use crate::error::Error;
use crate::platform::{BusAddr, Registers};
use crate::regs::Bus;
use crate::scsi::{Cdb, Lun};
use crate::sgl::{Direction, Segment};
use crate::wire::sge::{MpiSgeFlags, MpiSimple64, flags_length};

pub mod chips;
#[cfg(feature = "mpi1")]
mod mpi1;
#[cfg(feature = "mpi2")]
mod mpi2;

/// MPI 1.x: SAS1064, SAS1066, SAS1068.
#[cfg(feature = "mpi1")]
#[derive(Debug)]
pub enum Mpi1 {}

/// MPI 2.0, 2.5 and 2.6: SAS2008 to SAS3816.
#[cfg(feature = "mpi2")]
#[derive(Debug)]
pub enum Mpi2 {}

/// A generation of controllers. Sealed: the core decides which there are.
pub trait Generation: sealed::Sealed {}

/// What the IOC says about itself, the same for all generations. From the IOC facts reply; sizes
/// are bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// MPI version, major in the high byte (`MsgVersion`).
    pub message_version: u16,
    /// Firmware version (`FWVersion`).
    pub firmware_version: crate::wire::ioc::Version,
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

/// What the IOC says about a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortFacts {
    /// `PortType`.
    pub port_type: crate::wire::ioc::PortType,
    /// Commands posted by the host, at most (MPI2), or 0.
    pub max_posted_buffers: u16,
}

/// Where a command goes, in the generation's own form: a DevHandle (MPI2), or bus and target id
/// (MPI1). Obtained from the controller, which learnt it from the IOC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    pub(crate) address: u16,
}

/// In which order the device may run the command (SAM-5 8.6; trap T31).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TaskAttribute {
    /// In any order.
    #[default]
    Simple,
    /// Before everything that waits.
    HeadOfQueue,
    /// After everything before it, before everything after it.
    Ordered,
    /// While an auto contingent allegiance is in force.
    Aca,
}

/// One SCSI command.
#[derive(Clone, Copy, Debug)]
pub struct Command<'c> {
    /// The logical unit.
    pub lun: Lun,
    /// The command descriptor block.
    pub cdb: &'c Cdb,
    /// Which way the data goes.
    pub direction: Direction,
    /// Bytes of data: the sum of the segments.
    pub data_length: u32,
    /// Where the data is. The platform keeps it mapped until the command completes.
    pub segments: &'c [Segment],
    /// Ordering.
    pub attribute: TaskAttribute,
    /// The caller's tag, which is then the slot; else one is taken from the pool.
    pub tag: Option<u16>,
    /// The caller's own word, which comes back with the completion.
    pub cookie: u64,
}

/// Which kind of descriptor a request travels by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Post {
    /// A SCSI command for a device.
    ScsiIo(Device),
    /// Task management.
    HighPriority,
    /// Everything else.
    Default,
}

/// One thing found in a reply queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The request succeeded; nothing more to say.
    Success {
        /// Which.
        smid: u16,
    },
    /// There is a reply frame.
    Frame {
        /// Which request, if the descriptor says (MPI2); 0 for an event. On MPI1 the frame says.
        smid: Option<u16>,
        /// The low 32 bits of the frame's bus address, as the device wrote it.
        address: u32,
    },
    /// A descriptor of a kind that this driver never asked for.
    Unknown,
}

/// A message of the driver's own, built before its slot is known to be free.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub(crate) bytes: [u8; 128],
    pub(crate) length: u8,
}

impl Message {
    /// Takes the bytes of a wire struct.
    pub(crate) fn new(message: &[u8]) -> Self {
        let mut bytes = [0; 128];
        let mut length = 0;
        for (to, from) in bytes.iter_mut().zip(message) {
            *to = *from;
            length += 1;
        }
        Self { bytes, length }
    }

    /// Takes a wire struct and appends the one element that describes `bytes` at `buffer`, which
    /// the device may write.
    pub(crate) fn with_buffer(message: &[u8], buffer: BusAddr, bytes: u32) -> Self {
        let element = MpiSimple64 {
            flags_length: flags_length(
                MpiSgeFlags::SIMPLE
                    | MpiSgeFlags::ADDRESS_64
                    | MpiSgeFlags::LAST_ELEMENT
                    | MpiSgeFlags::END_OF_BUFFER
                    | MpiSgeFlags::END_OF_LIST,
                bytes,
            )
            .into(),
            address: buffer.0.into(),
        };
        let mut whole = Self::new(message);
        let rest = whole.bytes.iter_mut().skip(usize::from(whole.length));
        for (to, from) in rest.zip(element.as_bytes()) {
            *to = *from;
            whole.length += 1;
        }
        whole
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// What every reply frame says, whatever its generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyHeader {
    /// The function answered.
    pub function: crate::wire::Function,
    /// Bytes of the reply (`MsgLength` x 4).
    pub length: u16,
    /// MPI1: the request's `MsgContext`.
    pub context: u32,
    /// How it went.
    pub status: crate::wire::IocStatus,
    /// More about it.
    pub log_info: crate::log_info::LogInfo,
}

/// What bring-up tells the IOC about the host's memory.
#[derive(Clone, Copy, Debug)]
pub struct HostMemory<'p> {
    /// The plan.
    pub plan: &'p crate::memory_plan::MemoryPlan,
    /// Where the region begins.
    pub bus: BusAddr,
}

pub(crate) mod sealed {
    use super::{
        Bus, BusAddr, Command, DelayNs, Device, Error, Facts, HostMemory, Message, PortFacts, Post,
        Registers, Reply, ReplyHeader,
    };
    use crate::error::SubmitError;
    use crate::generation::chips::Chip;
    use crate::mem::Memory;
    use crate::memory_plan::{Layout, MemoryPlan, Shape};
    use crate::outcome::ReplyFacts;
    use crate::pages::{PageRequest, PageSize};
    use crate::platform::DmaRegion;
    use crate::targets::DevicePage;

    /// Where a command's frame, chains and sense lie.
    #[derive(Clone, Copy, Debug)]
    pub struct Place {
        pub(crate) smid: u16,
        pub(crate) frame: usize,
        pub(crate) chains: usize,
        pub(crate) sense: usize,
    }

    /// See [`super::Generation`].
    pub trait Sealed: Sized {
        /// Where one queue posts requests and finds replies.
        type Port: core::fmt::Debug;

        /// The longest CDB that a SCSI I/O message holds.
        const LONGEST_CDB: u8;

        /// Whether task management may go through the doorbell.
        const TASKS_BY_DOORBELL: bool;

        /// Whether port enable and event notification go through the doorbell.
        const PORT_ENABLE_BY_DOORBELL: bool;

        /// Reads the IOC's facts by handshake.
        fn facts<R: Registers>(
            bus: &Bus<R>,
            delay: &mut impl DelayNs,
            chip: &Chip,
        ) -> Result<Facts, Error>;

        /// Reads a port's facts by handshake.
        fn port_facts<R: Registers>(
            bus: &Bus<R>,
            delay: &mut impl DelayNs,
            port: u8,
        ) -> Result<PortFacts, Error>;

        /// What the messages look like on this controller.
        fn shape(facts: &Facts, chip: &Chip) -> Shape;

        /// Tells the IOC about the host, by handshake: it leaves READY for OPERATIONAL.
        fn init<R: Registers>(
            bus: &Bus<R>,
            delay: &mut impl DelayNs,
            facts: &Facts,
            memory: HostMemory<'_>,
            now_ms: u64,
        ) -> Result<(), Error>;

        /// Fills in what the IOC expects in memory before [`Sealed::init`].
        fn prepare<D: DmaRegion>(memory: &Memory<D>, plan: &MemoryPlan);

        /// The port of queue `queue`.
        fn port(
            plan: &MemoryPlan,
            facts: &Facts,
            chip: &Chip,
            bus: BusAddr,
            queue: u8,
        ) -> Self::Port;

        /// Gives the reply frame at `offset` to the IOC as entry `host_index`; returns the next
        /// index. `quiet` writes memory only, for the frames given before IOC init.
        fn give_reply_frame<R: Registers, D: DmaRegion>(
            bus: &Bus<R>,
            memory: &Memory<D>,
            layout: &Layout,
            offset: usize,
            host_index: u32,
        ) -> u32;

        /// Tells the IOC where its reply queues stand, right after IOC init.
        fn start_queues<R: Registers>(bus: &Bus<R>, plan: &MemoryPlan, port: &Self::Port);

        /// Writes a SCSI I/O request frame.
        fn write_scsi_io<D: DmaRegion>(
            port: &Self::Port,
            memory: &Memory<D>,
            layout: &Layout,
            place: Place,
            device: Device,
            command: &Command<'_>,
        ) -> Result<(), SubmitError>;

        /// Posts the request in frame `smid`.
        fn post<R: Registers>(port: &mut Self::Port, bus: &Bus<R>, smid: u16, post: Post) -> u64;

        /// The next reply, and the word it was found as; `None` when there is none.
        fn next<R: Registers, D: DmaRegion>(
            port: &mut Self::Port,
            bus: &Bus<R>,
            memory: &Memory<D>,
        ) -> Option<(u64, Reply)>;

        /// Ends a drain that found something: the host index goes out.
        fn drained<R: Registers>(port: &mut Self::Port, bus: &Bus<R>);

        /// Whether reading on costs a register access that only says "empty", so that it is left
        /// out when nothing is outstanding.
        const EMPTY_READ_COSTS: bool;

        /// The most replies to take in one drain.
        fn drain_limit(port: &Self::Port) -> u32;

        /// What a reply frame says about itself; `None` if it is too short to.
        fn reply_header(frame: &[u8]) -> Option<ReplyHeader>;

        /// The part of a SCSI I/O reply that decides the outcome.
        fn scsi_reply(frame: &[u8], requested: u32, sense_capacity: u8) -> Option<ReplyFacts>;

        /// A configuration page request; the page goes to or comes from `buffer`.
        fn config(smid: u16, request: &PageRequest, buffer: BusAddr) -> Message;

        /// How long the page is, by a configuration reply.
        fn page_size(frame: &[u8]) -> Option<PageSize>;

        /// Port enable.
        fn port_enable(smid: u16, port: u8) -> Message;

        /// Asks for events.
        fn event_notification(smid: u16) -> Message;

        /// Acknowledges an event.
        fn event_ack(smid: u16, event: u32, context: u32) -> Message;

        /// Task management.
        fn task_management(smid: u16, request: &crate::recovery::TaskRequest) -> Message;

        /// The reply to task management.
        fn task_reply(frame: &[u8]) -> Option<crate::recovery::TaskReply>;

        /// Reads a SAS device page 0.
        fn device_page(page: &[u8]) -> Option<DevicePage>;

        /// Looks into an event for news of devices.
        fn device_event(frame: &[u8], news: &mut dyn FnMut(crate::targets::News));

        /// The event, its context and whether it wants an acknowledgement.
        fn event(frame: &[u8]) -> Option<crate::admin::Event>;
    }
}
