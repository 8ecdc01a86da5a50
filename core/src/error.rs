//! What can go wrong outside the life of one command, each as a sentence that helps.

use core::fmt;

use crate::log_info::LogInfo;
use crate::platform::BusAddr;
use crate::sgl::SglError;
use crate::wire::{Function, IocStatus};

/// Why bring-up, a reset or a management request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// A status register read as all ones: the controller is no longer there.
    Gone,
    /// A bounded wait ran out.
    Timeout(Waited),
    /// The IOC is in FAULT, with this code.
    Fault(u16),
    /// The doorbell is in use by somebody else, or a handshake was left half done.
    DoorbellBusy,
    /// The diagnostic register would not unlock.
    DiagnosticLocked,
    /// The IOC answered a request with an error.
    Ioc {
        /// The request.
        function: Function,
        /// What it answered.
        status: IocStatus,
        /// More from the firmware; zero if there is none.
        log_info: LogInfo,
    },
    /// The IOC's reply was not the reply to the request, or cut short.
    BadReply {
        /// The request.
        function: Function,
        /// The function that the reply claims to answer.
        claimed: Function,
        /// Bytes that came.
        bytes: u16,
    },
    /// The IOC's facts cannot be true or cannot be worked with.
    BadFacts {
        /// The field, by its header name.
        field: &'static str,
        /// What it holds.
        value: u32,
    },
    /// The memory that the platform supplied does not satisfy the plan.
    BadMemory(MemoryProblem),
    /// A table that the caller supplied has fewer entries than the plan asks for.
    TableTooSmall {
        /// Which table.
        table: &'static str,
        /// Entries that the plan asks for.
        needed: u16,
        /// Entries supplied.
        supplied: usize,
    },
    /// The configuration page is longer than the buffer for it.
    PageTooLong {
        /// The page's length in bytes, by its header.
        bytes: u32,
        /// The buffer's.
        room: u32,
    },
    /// Another management request is under way; ask again after the next poll.
    Busy,
    /// The controller is not in a state to take this; it wants a reset first.
    NotOperational,
    /// The controller could not be reset and has been cut off. Only taking it apart and starting it
    /// again may bring it back.
    Offline,
    /// A queue that was handed out has not been polled since the controller was to be reset, so
    /// that it might still post: poll it, or drop it, and reset again.
    QueuesHeld,
    /// After a reset the IOC's facts have changed, so that the memory plan no longer fits: take the
    /// controller apart and start it again with a new plan.
    FactsChanged {
        /// The field.
        field: &'static str,
        /// What it was.
        was: u32,
        /// What it is.
        is: u32,
    },
    /// A request for which this generation or this controller has no form.
    Unsupported(&'static str),
    /// A message of the driver's own did not fit where it must.
    Sgl(SglError),
}

/// A bounded wait that ran out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waited {
    /// What was waited for, as a phrase.
    pub what: &'static str,
    /// For how long, in milliseconds.
    pub limit_ms: u32,
    /// What the register last read (for a queue: the doorbell).
    pub last: u32,
}

/// How a DMA region misses its plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryProblem {
    /// Fewer bytes than planned.
    TooSmall {
        /// Bytes that the plan asks for.
        needed: usize,
        /// Bytes supplied.
        supplied: usize,
    },
    /// The bus address is not a multiple of the plan's alignment.
    Misaligned {
        /// The region's bus address.
        at: BusAddr,
        /// The multiple that it should be.
        alignment: usize,
    },
    /// The region crosses a 4 GiB boundary: the IOC is told the high half of an address once.
    CrossesWindow {
        /// The region's bus address.
        at: BusAddr,
        /// Its length in bytes.
        bytes: usize,
    },
    /// The region lies above what this chip can address.
    AboveLimit {
        /// The region's bus address.
        at: BusAddr,
        /// Address bits that the chip has.
        bits: u8,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str(
                "the controller is gone: its registers read as all ones; check the card, its slot or its cable, then start again",
            ),
            Self::Timeout(Waited { what, limit_ms, last }) => write!(
                f,
                "waited {limit_ms} ms for {what}, in vain (the register last read {last:#010x}); a diagnostic reset may help"
            ),
            Self::Fault(code) => write!(
                f,
                "the IOC is in FAULT with code {code:#06x}; only a diagnostic reset brings it back"
            ),
            Self::DoorbellBusy => f.write_str(
                "the doorbell is in use: another driver is talking to this controller, or a handshake was cut off; a diagnostic reset clears it",
            ),
            Self::DiagnosticLocked => f.write_str(
                "the host diagnostic register would not unlock after 20 key sequences, so the adapter cannot be reset; power-cycle it",
            ),
            Self::Ioc { function, status, log_info } => {
                write!(f, "the IOC refused {function}: IOCStatus {status}")?;
                if log_info.0 != 0 {
                    write!(f, ", log info {log_info}")?;
                }
                Ok(())
            }
            Self::BadReply { function, claimed, bytes } => write!(
                f,
                "the IOC answered {function} with {bytes} bytes that claim to answer {claimed}; the firmware or the bus is at fault"
            ),
            Self::BadFacts { field, value } => write!(
                f,
                "the IOC's facts cannot be worked with: {field} is {value}; the firmware or the bus is at fault"
            ),
            Self::BadMemory(problem) => problem.fmt(f),
            Self::TableTooSmall { table, needed, supplied } => write!(
                f,
                "the {table} table has {supplied} entries, the plan asks for {needed}; size it from the plan"
            ),
            Self::PageTooLong { bytes, room } => write!(
                f,
                "the configuration page has {bytes} bytes, the buffer for it {room}"
            ),
            Self::Busy => f.write_str(
                "another management request is under way; poll, then ask again",
            ),
            Self::NotOperational => f.write_str(
                "the controller takes no requests in its state; reset it first",
            ),
            Self::Offline => f.write_str(
                "the controller could not be reset and was given up; start it again, or power-cycle it",
            ),
            Self::QueuesHeld => f.write_str(
                "a queue of the controller is in use elsewhere and has not been polled, so nothing was reset; poll it, then reset again",
            ),
            Self::FactsChanged { field, was, is } => write!(
                f,
                "after the reset the IOC's {field} is {is}, it was {was}; take the controller apart and start it again"
            ),
            Self::Unsupported(what) => write!(f, "this controller cannot do {what}"),
            Self::Sgl(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for MemoryProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { needed, supplied } => {
                write!(f, "the DMA region has {supplied} bytes, the plan asks for {needed}")
            }
            Self::Misaligned { at, alignment } => write!(
                f,
                "the DMA region is at bus address {at}, which is not a multiple of {alignment}"
            ),
            Self::CrossesWindow { at, bytes } => write!(
                f,
                "the DMA region of {bytes} bytes at bus address {at} crosses a 4 GiB boundary, which the IOC cannot address"
            ),
            Self::AboveLimit { at, bits } => write!(
                f,
                "the DMA region at bus address {at} is beyond the {bits} address bits of this chip"
            ),
        }
    }
}

impl core::error::Error for Error {}

/// Why a command was not accepted. Nothing was sent; the caller still owns it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SubmitError {
    /// The controller is gone.
    Gone,
    /// The controller takes no commands in its state (fault, reset under way).
    NotOperational,
    /// The controller could not be reset and has been given up.
    Offline,
    /// The controller or the device is being recovered: submit again in a while.
    Held,
    /// The device has said that it is busy or full: submit again after a completion or a second.
    Throttled,
    /// Every slot of the queue's own pool is taken: complete some first.
    Full,
    /// The caller's tag is out of the range that the plan set aside for tags.
    TagOutOfRange {
        /// The tag.
        tag: u16,
        /// Tags run from 0 to one less than this.
        tags: u16,
    },
    /// The caller's tag belongs to a command that has not completed.
    TagInUse(u16),
    /// No such target, or it has gone.
    NoTarget,
    /// A CDB of this length has no form on this generation.
    CdbLength(u8),
    /// The segments cannot be described to the controller.
    Sgl(SglError),
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => Error::Gone.fmt(f),
            Self::NotOperational => Error::NotOperational.fmt(f),
            Self::Offline => Error::Offline.fmt(f),
            Self::Held => {
                f.write_str("the controller or the device is being recovered; submit again later")
            }
            Self::Throttled => f.write_str(
                "the device is full or busy; submit again after one of its commands has completed",
            ),
            Self::Full => f.write_str("every slot is taken; complete some commands first"),
            Self::TagOutOfRange { tag, tags } => {
                write!(f, "tag {tag} is out of range: the plan set {tags} tags aside")
            }
            Self::TagInUse(tag) => {
                write!(f, "tag {tag} belongs to a command that has not completed")
            }
            Self::NoTarget => f.write_str("there is no such target, or it has gone"),
            Self::CdbLength(length) => {
                write!(
                    f,
                    "this controller's SCSI I/O message has no room for a CDB of {length} bytes"
                )
            }
            Self::Sgl(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SubmitError {}
