//! What differs between the generations, behind one sealed trait.
//!
//! [`Mpi1`] and [`Mpi2`] are empty types; everything in which they differ is a function of the
//! `Sealed` trait, and everything else in this crate is written once. MegaRAID Fusion
//! fits the same trait: it posts like [`Mpi2`], and its [`Reply`]s never carry a frame, since the
//! status stands in the request frame, which `Sealed::scsi_reply` may read.

use embedded_hal::delay::DelayNs;

use crate::doorbell::handshake;
use crate::error::{Error, SubmitError};
use crate::mem::Memory;
use crate::mem::WORD;
use crate::memory_plan::Layout;
use crate::platform::{BusAddr, DmaRegion, Registers};
use crate::regs::Bus;
use crate::sgl::{self, Direction, ElementLimit, Segment, SglFormat, SglSpace};
use crate::wire::scsi_io::control;
use crate::wire::{Function, IocStatus};

pub use crate::facts::{Facts, FactsReply, PortFacts};
pub use crate::reply::{Reply, ReplyHeader};
pub use crate::request::{Command, Device, Message, Post, TaskAttribute};

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

/// What bring-up tells the IOC about the host's memory.
#[derive(Clone, Copy, Debug)]
pub struct HostMemory<'p> {
    /// The plan.
    pub plan: &'p crate::memory_plan::MemoryPlan,
    /// Where the region begins.
    pub bus: BusAddr,
}

/// Direction and task attribute as `Control` has them, the same bits in both generations.
#[inline]
pub(crate) const fn control_word(command: &Command<'_>) -> u32 {
    let direction = match command.direction {
        Direction::None => 0,
        Direction::Read => control::READ,
        Direction::Write => control::WRITE,
    };
    let attribute = match command.attribute {
        TaskAttribute::Simple => control::SIMPLE_QUEUE,
        TaskAttribute::HeadOfQueue => control::HEAD_OF_QUEUE,
        TaskAttribute::Ordered => control::ORDERED_QUEUE,
        TaskAttribute::Aca => control::ACA_QUEUE,
    };
    direction | attribute
}

/// Whether a SCSI I/O reply reaches far enough to tell what became of the command: up to and with
/// its transfer count and sense count, at 0x14 and 0x18 in both generations.
pub(crate) fn has_result(frame: &[u8]) -> bool {
    crate::wire::valid_part(frame).len() >= 0x1c
}

/// Writes the list of a command that has more to it than one element, from `header_bytes` into its
/// frame on; returns what the message's `ChainOffset` must say.
#[cold]
#[allow(clippy::too_many_arguments, reason = "one by one they stay in registers until here")]
pub(crate) fn write_list<D: DmaRegion>(
    format: SglFormat,
    memory: &Memory<D>,
    layout: &Layout,
    place: sealed::Place,
    header_bytes: usize,
    segments: &[Segment],
    direction: Direction,
    data_length: u32,
) -> Result<u8, SubmitError> {
    let chains = layout.chain_bytes.wrapping_mul(layout.chains_per_command);
    let space = SglSpace {
        sgl_offset: (place.frame_word * WORD).wrapping_add(header_bytes),
        header_bytes,
        frame_sgl_bytes: (layout.frame_bytes as usize).saturating_sub(header_bytes),
        chain_offset: layout.chains.wrapping_add(place.command.wrapping_mul(chains)) as usize,
        chain_bytes: layout.chain_bytes as usize,
        chain_count: layout.chains_per_command as usize,
    };
    sgl::encode_any(format, memory, &space, segments, direction, data_length, ElementLimit::MAX)
        .map(|encoded| encoded.chain_offset)
        .map_err(SubmitError::Sgl)
}

/// Asks `function` by handshake and checks that the reply answers it, and how.
///
/// # Errors
///
/// As [`handshake`]; [`Error::Ioc`], [`Error::BadReply`].
#[inline(never)]
pub(crate) fn ask<G: Generation, R: Registers>(
    bus: &Bus<R>,
    delay: &mut dyn DelayNs,
    function: Function,
    request: &[u8],
    reply: &mut [u8],
    limit_ms: u32,
) -> Result<(), Error> {
    let length = handshake(bus, delay, request, reply, limit_ms)?;
    let bytes = length.min(usize::from(u16::MAX)) as u16;
    let claimed = match G::reply_header(reply) {
        Some(header) if header.function == function && length >= 20 => {
            let status = header.status;
            if status.code() == IocStatus::SUCCESS {
                return Ok(());
            }
            return Err(Error::Ioc { function, status: status.code(), log_info: header.log_info });
        }
        Some(header) => header.function,
        None => Function(0xff),
    };
    Err(Error::BadReply { function, claimed, bytes })
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
    use crate::reply::DevicePage;

    /// Where a command's frame and sense lie.
    #[derive(Clone, Copy, Debug)]
    pub struct Place {
        /// MPI1 writes it into the message; MPI2 has it in the descriptor only.
        #[cfg_attr(not(feature = "mpi1"), expect(dead_code, reason = "MPI1's"))]
        pub(crate) smid: u16,
        /// The SMID's place among the commands.
        pub(crate) command: u32,
        /// 64-bit words from the region's start to its request frame.
        pub(crate) frame_word: usize,
        /// Bytes from the first sense buffer to its own.
        pub(crate) sense: u32,
    }

    /// See [`super::Generation`].
    pub trait Sealed: Sized {
        /// Where one queue posts requests and finds replies.
        type Port: core::fmt::Debug + Send;

        /// The longest CDB that a SCSI I/O message holds.
        const LONGEST_CDB: u8;

        /// Whether task management may go through the doorbell.
        const TASKS_BY_DOORBELL: bool;

        /// Whether port enable and event notification go through the doorbell.
        const PORT_ENABLE_BY_DOORBELL: bool;

        /// Reads the IOC's facts by handshake.
        fn facts<R: Registers>(
            bus: &Bus<R>,
            delay: &mut dyn DelayNs,
            chip: &Chip,
        ) -> Result<Facts, Error>;

        /// Reads a port's facts by handshake.
        fn port_facts<R: Registers>(
            bus: &Bus<R>,
            delay: &mut dyn DelayNs,
            port: u8,
        ) -> Result<PortFacts, Error>;

        /// What the messages look like on this controller.
        fn shape(facts: &Facts, chip: &Chip) -> Shape;

        /// Tells the IOC about the host, by handshake: it leaves READY for OPERATIONAL.
        fn init<R: Registers>(
            bus: &Bus<R>,
            delay: &mut dyn DelayNs,
            facts: &Facts,
            memory: HostMemory<'_>,
            now_ms: u64,
        ) -> Result<(), Error>;

        /// Fills in what the IOC expects in memory before [`Sealed::init`].
        fn prepare<D: DmaRegion>(memory: &Memory<D>, plan: &MemoryPlan);

        /// The port of queue `queue`, of a controller that was reset `epoch` times since its start.
        fn port(
            plan: &MemoryPlan,
            facts: &Facts,
            chip: &Chip,
            bus: BusAddr,
            queue: u8,
            epoch: u32,
        ) -> Self::Port;

        /// Makes a port as it was at the start, after the reset that begins `epoch`.
        fn rearm(port: &mut Self::Port, epoch: u32);

        /// What a message names itself by, where it does (MPI1: `MsgContext`).
        fn context(port: &Self::Port, smid: u16) -> u32;

        /// The SMID that a reply frame's context stands for; `None` if it is none of this epoch.
        fn smid(port: &Self::Port, context: u32) -> Option<u16>;

        /// Where the logical unit stands in a SCSI I/O message, in bytes.
        const LUN_AT: usize;

        /// Gives the reply frame at `offset` to the IOC; takes and returns where the reply free
        /// queue's host index stands.
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

        /// What posts the request in frame `smid`: a descriptor, or the frame's address.
        fn word(port: &Self::Port, smid: u16, post: Post) -> u64;

        /// Posts it. The caller has seen that the controller is not gone.
        fn post<R: Registers>(port: &Self::Port, bus: &Bus<R>, word: u64, post: Post);

        /// The next reply, and the word it was found as; `None` when there is none.
        fn next<R: Registers, D: DmaRegion>(
            port: &mut Self::Port,
            bus: &Bus<R>,
            memory: &Memory<D>,
        ) -> Option<(u64, Reply)>;

        /// The SMID in the word that a success was found as.
        fn success_smid(port: &Self::Port, word: u64) -> u16;

        /// Whether the next reply was begun to be written and not ended, so that none behind it can
        /// be read.
        fn is_torn<D: DmaRegion>(port: &Self::Port, memory: &Memory<D>) -> bool;

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
        fn config(context: u32, request: &PageRequest, buffer: BusAddr) -> Message;

        /// How long the page is, by a configuration reply.
        fn page_size(frame: &[u8]) -> Option<PageSize>;

        /// Port enable.
        fn port_enable(context: u32, port: u8) -> Message;

        /// Asks for events.
        fn event_notification(context: u32) -> Message;

        /// Acknowledges an event.
        fn event_ack(context: u32, event: u32, event_context: u32) -> Message;

        /// Task management.
        fn task_management(
            port: &Self::Port,
            context: u32,
            request: &crate::request::TaskRequest,
        ) -> Message;

        /// Has the IOC forget a device that has gone, after its target reset; `None` where there
        /// is no such request.
        fn remove_device(context: u32, handle: u16) -> Option<Message>;

        /// Whether the facts speak of RAID firmware that wants to know when the system goes down.
        fn has_raid(facts: &Facts) -> bool;

        /// Tells it; `None` where there is no such message.
        fn raid_shutdown(context: u32) -> Option<Message>;

        /// The reply to task management.
        fn task_reply(frame: &[u8]) -> Option<crate::reply::TaskReply>;

        /// Reads a SAS device page 0.
        fn device_page(page: &[u8]) -> Option<DevicePage>;

        /// Looks into an event for news of devices.
        fn device_event(frame: &[u8], news: &mut dyn FnMut(crate::reply::News));

        /// The event, its context and whether it wants an acknowledgement.
        fn event(frame: &[u8]) -> Option<crate::reply::Event>;
    }
}
