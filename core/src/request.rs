//! What is asked of a controller, before it takes a generation's form.

use zerocopy::IntoBytes;

use crate::platform::BusAddr;
use crate::scsi::{Cdb, Lun};
use crate::sgl::{Direction, Segment};
use crate::wire::Function;
use crate::wire::sge::{MpiSgeFlags, MpiSimple64, flags_length};
use crate::wire::task::TaskType;

/// Where a command goes, in the generation's own form: a DevHandle (MPI2), or bus and target id
/// (MPI1). Obtained from the controller, which learnt it from the IOC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    pub(crate) address: u16,
}

impl Device {
    /// The device at this bus and target id (MPI1), whether anything is there or not: for tools
    /// that look where discovery does not. The IOC answers a command to an empty place with an
    /// error.
    #[must_use]
    pub const fn at_bus_and_target(bus: u8, target_id: u8) -> Self {
        Self { address: u16::from_be_bytes([bus, target_id]) }
    }

    /// The device with this DevHandle (MPI2), whether there is one or not.
    #[must_use]
    pub const fn from_handle(handle: u16) -> Self {
        Self { address: handle }
    }
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
    /// When the caller gives the command up, in milliseconds from now; 0 leaves it to
    /// [`Policy::command_limit_ms`](crate::recovery::Policy::command_limit_ms). The command is
    /// called late before that, early enough to be aborted and completed in time (trap T11).
    pub timeout_ms: u32,
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

/// A task management request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskRequest {
    /// What to do.
    pub kind: TaskType,
    /// To which device.
    pub device: Device,
    /// To which logical unit.
    pub lun: Lun,
    /// The SMID of the command, for abort and query task; else 0.
    pub smid: u16,
}

/// A message of the driver's own, built before its slot is known to be free.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub(crate) bytes: [u8; 128],
    pub(crate) length: u8,
}

impl Message {
    /// Takes the bytes of a wire struct.
    #[inline(never)]
    pub(crate) fn new(message: &[u8]) -> Self {
        let mut whole = Self { bytes: [0; 128], length: 0 };
        whole.append(message);
        whole
    }

    #[inline(never)]
    fn append(&mut self, part: &[u8]) {
        let rest = self.bytes.iter_mut().skip(usize::from(self.length));
        for (to, from) in rest.zip(part) {
            *to = *from;
            self.length += 1;
        }
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
        whole.append(element.as_bytes());
        whole
    }

    /// What it asks: byte 3 of every message.
    pub(crate) const fn function(&self) -> Function {
        Function(self.bytes[3])
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}
