//! What a command sees of a running controller, whatever its generation and its bus.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use fusion_mpt::controller::Health;
use fusion_mpt::generation::{Facts, FactsReply, PortFacts};
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
use crate::ended::Ended;
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
    /// The same as it came, for whoever shows all of it; zeros if it was not told twice.
    pub facts_reply: FactsReply,
    /// What it says about its first port.
    pub port_facts: PortFacts,
    /// What memory and tables it was given.
    pub plan: MemoryPlan,
    /// Milliseconds from the first register access to the end of discovery.
    pub milliseconds: u64,
}

/// The cookie of a session's own commands. Those above are the driver's, while it stops.
pub const OWN_COOKIE: u64 = u64::MAX - 0x1_0000;

/// Cookies from here to [`OWN_COOKIE`] are of a caller whose commands stay outstanding while others
/// use the queue: [`run_once`](crate::disk::run_once) keeps their completions.
pub const KEPT_COOKIE: u64 = 1 << 62;

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

impl<'r> Request<'r> {
    /// A command without data, for a logical unit of a target; its cookie is 0.
    #[must_use]
    pub const fn without_data((target, lun): (TargetId, u8), cdb: &'r [u8]) -> Self {
        Self {
            target,
            lun,
            cdb,
            direction: Direction::None,
            buffer: None,
            offset: 0,
            bytes: 0,
            cookie: 0,
        }
    }
}

/// A queue of a running controller: what the controller's own first queue, which comes with the
/// [`Host`], has in common with the further ones, which may live in threads of their own.
pub trait CommandQueue {
    /// Gives a command to the controller. `false`: every slot is taken, the device is full, or it or
    /// the controller is being recovered; poll first.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`]: nothing was posted and no completion will come. So it is too when a device
    /// has taken nothing for minutes though nothing is done about it.
    fn submit(&mut self, request: &Request<'_>) -> Result<bool, Error>;

    /// Takes what the controller has answered; returns how many replies there were. A controller
    /// that must be reset is reset by its [`Host`]'s poll, which takes its time; meanwhile the other
    /// queues take no commands.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the controller is gone or could not be reset: by then every command
    /// of this queue has been completed.
    fn poll(&mut self, complete: &mut dyn FnMut(Completion<'_>)) -> Result<u32, Error>;

    /// Keeps a completion that the caller came across and that is somebody else's, who takes it by
    /// [`CommandQueue::take_kept`].
    fn keep(&mut self, cookie: u64, ended: Ended);

    /// Takes what was kept.
    fn take_kept(&mut self) -> Vec<(u64, Ended)>;

    /// Waits a moment, in the way that suits the bus, when a poll has found nothing.
    fn pause(&mut self);

    /// What becomes readable when a reply comes, with interrupts let pass from now on; `None` where
    /// only looking helps. Poll once more before sleeping on it: what came until now wakes nobody.
    fn sleep_on(&mut self) -> Option<BorrowedFd<'_>>;

    /// After sleep, or instead of it: takes the interrupt that has come, if one has, and holds
    /// further ones back where the controller can.
    fn wake(&mut self);

    /// Commands that the controller has from this queue.
    fn outstanding(&self) -> u16;

    /// Commands that this queue takes at once.
    fn depth(&self) -> u16;

    /// What the queue has done.
    fn counters(&self) -> Counters;

    /// Register reads and writes of this queue so far.
    fn register_accesses(&self) -> (u64, u64);

    /// Time on the bus, from any start.
    fn now(&self) -> Duration;

    /// How much has happened to the controller and its targets, as far as this queue knows.
    fn happened(&self) -> usize;
}

/// A running controller.
pub trait Host: CommandQueue {
    /// How it came up.
    fn bring_up(&self) -> &BringUp;

    /// The files behind its disks.
    fn images(&self) -> &[Image];

    /// Every target that answers, or that did before a reset which is not over: it is expected back.
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

    /// Reads a configuration page.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what the IOC answered.
    fn read_page(&mut self, request: PageRequest) -> Result<Vec<u8>, Error>;

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

/// A further queue of a controller, for a thread of its own.
pub type FurtherQueue<'h> = Box<dyn CommandQueue + Send + 'h>;

trait Bytes: Send + Sync {
    fn cpu(&self) -> NonNull<u8>;
    fn len(&self) -> usize;
    fn address(&self) -> BusAddr;
    fn read(&self, offset: usize, bytes: &mut [u8]);
    fn write(&self, offset: usize, bytes: &[u8]);
}

impl<D: DmaRegion + Send + Sync> Bytes for Memory<D> {
    fn cpu(&self) -> NonNull<u8> {
        self.region().cpu().cast()
    }
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
pub struct Buffer(Arc<dyn Bytes>);

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes at {})", self.0.len(), self.0.address())
    }
}

impl Buffer {
    /// Takes a region of DMA memory.
    pub fn new<D: DmaRegion + Send + Sync + 'static>(region: D) -> Self {
        Self(Arc::new(Memory::new(region)))
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

    /// Where this process finds it: for a kernel that copies to or from it.
    #[must_use]
    pub fn pointer(&self) -> NonNull<u8> {
        self.0.cpu()
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
