//! What a command sees of a running controller, whatever its generation and its bus.

use std::rc::Rc;
use std::time::Duration;

use fusion_mpt::controller::Health;
use fusion_mpt::generation::{Facts, PortFacts};
use fusion_mpt::io_queue::Completion;
use fusion_mpt::mem::Memory;
use fusion_mpt::memory_plan::MemoryPlan;
use fusion_mpt::pages::PageRequest;
use fusion_mpt::platform::{BusAddr, DmaRegion};
use fusion_mpt::recovery::{RecoveryCounters, ResetKind};
use fusion_mpt::sgl::Direction;
use fusion_mpt::targets::{Target, TargetId};
use fusion_mpt::trace::{Counters, TraceEntry};
use fusion_mpt_mock::faults::{FaultEvent, Plan};

use crate::bus_name::BusName;
use crate::error::Error;
use crate::image::Image;
use crate::recovery::Happening;

/// How a controller came up.
#[derive(Clone, Debug)]
pub struct BringUp {
    /// The bus it is on.
    pub bus: BusName,
    /// PCI vendor and device id.
    pub pci_id: (u16, u16),
    /// The chip's name.
    pub chip: &'static str,
    /// Which reset it took.
    pub reset: ResetKind,
    /// What the IOC says about itself.
    pub facts: Facts,
    /// What it says about its first port.
    pub port_facts: PortFacts,
    /// What memory and tables it was given.
    pub plan: MemoryPlan,
    /// Milliseconds from the first register access to the end of discovery.
    pub milliseconds: u64,
}

/// The cookie of a session's own commands. Those above are the driver's, while it stops.
pub const OWN_COOKIE: u64 = u64::MAX - 0x1_0000;

/// One SCSI command.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// The target.
    pub target: TargetId,
    /// The logical unit, 0 to 255.
    pub lun: u8,
    /// The CDB: 6, 10, 12 or 16 bytes.
    pub cdb: &'r [u8],
    /// Which way the data goes.
    pub direction: Direction,
    /// Where the data is, if there is some.
    pub buffer: Option<&'r Buffer>,
    /// Where in the buffer the data begins.
    pub offset: usize,
    /// Bytes of data.
    pub bytes: u32,
    /// Comes back with the completion. Those from [`OWN_COOKIE`] on are the session's and the driver's.
    pub cookie: u64,
}

/// A running controller.
pub trait Host {
    /// How it came up.
    fn bring_up(&self) -> &BringUp;

    /// The files behind its disks.
    fn images(&self) -> &[Image];

    /// Every target that answers.
    fn targets(&self) -> Vec<Target>;

    /// Every target that has ever answered, whether it does at present or not.
    fn known_targets(&self) -> Vec<Target>;

    /// Memory for data. It stays allocated until the controller has been reset at the end, so that
    /// nothing the controller may still write to is ever reused.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the bus has none left.
    fn allocate(&mut self, bytes: usize) -> Result<Buffer, Error>;

    /// Gives a command to the controller. `false`: every slot is taken, the device is full, or it or
    /// the controller is being recovered; poll first.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`]: nothing was posted and no completion will come. So it is too when a device
    /// has taken nothing for minutes though nothing is done about it.
    fn submit(&mut self, request: &Request<'_>) -> Result<bool, Error>;

    /// Takes what the controller has answered; returns how many replies there were. A controller
    /// that must be reset is reset here, which takes its time.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the controller is gone or could not be reset: by then every command
    /// has been completed.
    fn poll(&mut self, complete: &mut dyn FnMut(Completion<'_>)) -> Result<u32, Error>;

    /// Waits a moment, in the way that suits the bus, when a poll has found nothing.
    fn pause(&mut self);

    /// Commands that the controller has.
    fn outstanding(&self) -> u16;

    /// Reads a configuration page.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the IOC answered.
    fn read_page(&mut self, request: PageRequest) -> Result<Vec<u8>, Error>;

    /// What the queue has done.
    fn counters(&self) -> Counters;

    /// Register reads and writes so far.
    fn register_accesses(&self) -> (u64, u64);

    /// Time on the bus, from any start.
    fn now(&self) -> Duration;

    /// How the controller fares.
    fn health(&self) -> Health;

    /// What recovery has done.
    fn recovery(&self) -> RecoveryCounters;

    /// What happened to the controller and its targets since it came up, the oldest first.
    fn happenings(&self) -> &[Happening];

    /// The events that the IOC has sent, from number `since` on, the oldest first: the last 128 are
    /// kept, each as the reply frame that told of it. [`events::decode`](crate::events::decode) reads
    /// them.
    fn ioc_events(&self, since: u64) -> Vec<TraceEntry>;

    /// The time of day of a moment on the bus, in milliseconds since 1970.
    fn time_of_day_ms(&self, at: Duration) -> u64;

    /// Notes that commands were sent again that recovery had ended.
    fn note_sent_again(&mut self, commands: u64);

    /// How many commands were.
    fn sent_again(&self) -> u64;

    /// The caller knows that what was written and not flushed is lost with the controller.
    fn forgive_unflushed(&mut self);

    /// Lays faults around the controller, or takes them away with `None`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] on a bus that was not opened for faults.
    fn set_faults(&mut self, plan: Option<&Plan>) -> Result<(), Error>;

    /// What the faults have done, the oldest first.
    fn fault_log(&self) -> Vec<FaultEvent>;
}

trait Bytes {
    fn len(&self) -> usize;
    fn address(&self) -> BusAddr;
    fn read(&self, offset: usize, bytes: &mut [u8]);
    fn write(&self, offset: usize, bytes: &[u8]);
}

impl<D: DmaRegion> Bytes for Memory<D> {
    fn len(&self) -> usize {
        Memory::len(self)
    }
    fn address(&self) -> BusAddr {
        self.bus(0)
    }
    fn read(&self, offset: usize, bytes: &mut [u8]) {
        self.copy_out(offset, bytes);
    }
    fn write(&self, offset: usize, bytes: &[u8]) {
        self.copy_in(offset, bytes);
    }
}

/// Memory for data, reachable by the controller. Clones share it.
#[derive(Clone)]
pub struct Buffer(Rc<dyn Bytes>);

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes at {})", self.0.len(), self.0.address())
    }
}

impl Buffer {
    /// Takes a region of DMA memory.
    pub fn new<D: DmaRegion + 'static>(region: D) -> Self {
        Self(Rc::new(Memory::new(region)))
    }

    /// Its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Where the controller finds it.
    #[must_use]
    pub fn address(&self) -> BusAddr {
        self.0.address()
    }

    /// Copies out `bytes.len()` bytes from `offset`.
    ///
    /// # Panics
    ///
    /// If that is beyond the buffer: the caller computed a wrong place.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset.checked_add(bytes.len()).is_some_and(|end| end <= self.bytes()));
        self.0.read(offset, bytes);
    }

    /// Copies `bytes` in at `offset`.
    ///
    /// # Panics
    ///
    /// As [`Buffer::read`].
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset.checked_add(bytes.len()).is_some_and(|end| end <= self.bytes()));
        self.0.write(offset, bytes);
    }
}
