//! QEMU's own `mptsas1068` (1000:0054, an MPI 1.5 SAS1068) as a bus, with no guest.
//!
//! QEMU is started with its virtual CPUs stopped; this process takes their place through the
//! qtest protocol: it programs the PCI configuration space, reads and writes the controller's
//! registers, and shares the machine's memory with it. The controller was written by strangers, so
//! it judges ours.
//!
//! Nothing is left behind: the protocol runs over a socket pair, the memory has no name (on Linux;
//! elsewhere its file is removed as soon as QEMU has opened it), and QEMU dies with the [`Qtest`],
//! and with this process however it ends.

mod command_line;
mod connection;
mod memory;
mod pci;
mod process;

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fusion_mpt::platform::{Registers, before_register_write};

use crate::bus::{Bus, BusError};
use connection::Connection;
pub use memory::QtestDma;
use memory::{GuestMemory, Layout};
use process::Process;

/// What QEMU is asked to be.
#[derive(Debug, Clone)]
pub struct QtestOptions {
    /// The program to start: a name to look for in `PATH`, or a path.
    pub program: PathBuf,
    /// The disks behind the controller, at most [`QtestOptions::MAX_DISKS`].
    pub disks: Vec<QtestDisk>,
    /// Bytes of memory to hand out as DMA memory; rounded up to whole MiB, at least 4 MiB and at
    /// most 2 GiB. Pages that are never touched cost nothing.
    pub memory_bytes: u64,
    /// Hands out DMA memory at 4 GiB and above instead of below.
    pub high_memory: bool,
    /// The controller's own SAS address; QEMU makes one up when it is zero.
    pub sas_address: u64,
    /// How long a single register access may take before QEMU is given up. It must be longer than
    /// the latency of any [`Backend::Slow`] disk: a target or adapter reset makes QEMU wait for
    /// the disk before it answers anything else.
    pub answer_timeout: Duration,
    /// Arguments that follow ours on QEMU's command line.
    pub extra_arguments: Vec<OsString>,
}

impl QtestOptions {
    /// The controller has eight ports.
    pub const MAX_DISKS: usize = 8;
}

impl Default for QtestOptions {
    /// `qemu-system-x86_64` from `PATH`, no disks, 256 MiB of DMA memory below 4 GiB.
    fn default() -> Self {
        Self {
            program: PathBuf::from("qemu-system-x86_64"),
            disks: Vec::new(),
            memory_bytes: 256 << 20,
            high_memory: false,
            sas_address: 0,
            answer_timeout: Duration::from_secs(60),
            extra_arguments: Vec::new(),
        }
    }
}

/// A disk behind the controller, as LUN 0 of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QtestDisk {
    /// Where its blocks are.
    pub backend: Backend,
    /// The target id, 0 to 7; no two disks may share one.
    pub scsi_id: u8,
    /// The world wide name that INQUIRY page 0x83 gives; none when zero.
    pub wwn: u64,
    /// Refuses writes (sense DATA PROTECT).
    pub read_only: bool,
    /// Bytes per logical block: 512 or 4096.
    pub block_size: u32,
    /// The unit serial number, up to 36 characters; QEMU's default when `None`.
    pub serial: Option<String>,
    /// The INQUIRY product identification, up to 16 characters; QEMU's default when `None`.
    pub product: Option<String>,
}

impl QtestDisk {
    /// A writable disk of 512-byte blocks with nothing special about it.
    #[must_use]
    pub fn new(scsi_id: u8, backend: Backend) -> Self {
        Self {
            backend,
            scsi_id,
            wwn: 0,
            read_only: false,
            block_size: 512,
            serial: None,
            product: None,
        }
    }
}

/// Where a disk's blocks are, and how long they take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A raw image. It is opened past the page cache where its file system can do that, and what
    /// was written is in the file once SYNCHRONIZE CACHE has completed.
    File(PathBuf),
    /// No blocks at all: reads give zeroes and writes are forgotten, and each read, write and
    /// flush takes `latency`. INQUIRY and the like are answered at once.
    ///
    /// For aborts: QEMU cannot take a block request back, so ABORT TASK is answered, and the
    /// command ends with `MPI_IOCSTATUS_SCSI_TASK_TERMINATED`, when the latency is over. A target
    /// or adapter reset stops all of QEMU, registers included, until then.
    Slow {
        /// The disk's size in bytes, a multiple of its block size.
        bytes: u64,
        /// How long each command that touches blocks takes.
        latency: Duration,
    },
    /// A raw image as with [`Backend::File`], of which QEMU lets through only so many reads and
    /// writes a second; the others wait inside it.
    ///
    /// For resets: ABORT TASK waits for the command's turn, but a target, bus or adapter reset
    /// ends every waiting command at once with `MPI_IOCSTATUS_SCSI_TASK_TERMINATED`.
    Throttled {
        /// The raw image.
        path: PathBuf,
        /// Reads and writes a second, together; the first passes at once.
        operations_per_second: NonZeroU32,
    },
}

/// A running QEMU with one `mptsas1068`, its PCI resources assigned and bus mastering on.
///
/// Dropping it ends QEMU; [`QtestRegisters`] and [`QtestDma`] that are still around then read as
/// all ones, and stay valid memory, respectively.
pub struct Qtest {
    machine: Arc<Machine>,
    memory: Arc<GuestMemory>,
    function: pci::Function,
}

impl fmt::Debug for Qtest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qtest")
            .field("process_id", &self.process_id())
            .field("function", &self.function)
            .field("failure", &self.failure())
            .finish_non_exhaustive()
    }
}

impl Qtest {
    /// Starts QEMU and finds the controller in it.
    ///
    /// # Errors
    ///
    /// [`BusError`] when the options contradict themselves, when QEMU is not installed or too old
    /// (with what to install), and when it ends at once (with what it said).
    pub fn start(options: &QtestOptions) -> Result<Self, BusError> {
        command_line::check(options)?;
        let memory =
            Arc::new(GuestMemory::new(Layout::new(options.memory_bytes, options.high_memory))?);
        let (process, stream) = Process::start(options, &memory)?;
        let connection = Connection::new(stream, options.answer_timeout)?;
        let machine = Arc::new(Machine {
            connection,
            process,
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        });
        // From here on, every way out drops `machine`, and with it QEMU.
        let started = pci::assign(&machine.connection).and_then(|function| {
            memory.check(&machine.connection)?;
            Ok(function)
        });
        match started {
            Ok(function) => {
                memory.forget_name();
                Ok(Self { machine, memory, function })
            }
            Err(error) => Err(machine.failure().unwrap_or(error)),
        }
    }

    /// Why QEMU no longer answers, or `None` while it does.
    #[must_use]
    pub fn failure(&self) -> Option<BusError> {
        self.machine.failure()
    }

    /// Register reads and writes so far, by every clone of [`QtestRegisters`].
    #[must_use]
    pub fn accesses(&self) -> (u64, u64) {
        (self.machine.reads.load(Ordering::Relaxed), self.machine.writes.load(Ordering::Relaxed))
    }

    /// Starts counting [`Qtest::accesses`] from zero.
    pub fn reset_accesses(&self) {
        self.machine.reads.store(0, Ordering::Relaxed);
        self.machine.writes.store(0, Ordering::Relaxed);
    }

    /// Whether the controller's interrupt line (INTx) is raised.
    #[must_use]
    pub fn interrupt_pending(&self) -> bool {
        self.machine.connection.interrupt_pending()
    }

    /// QEMU's process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.machine.process.id()
    }

    /// Ends QEMU at once, as pulling the card out would: registers read as all ones from now on.
    /// Returns when it has ended.
    pub fn kill(&self) {
        self.machine.process.kill();
        // The cause is known: it was this.
        let _ = self.machine.process.end(true);
    }
}

impl Drop for Qtest {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Bus for Qtest {
    type Registers = QtestRegisters;
    type Dma = QtestDma;

    fn registers(&self) -> QtestRegisters {
        QtestRegisters { machine: Arc::clone(&self.machine), base: self.function.registers }
    }

    fn allocate(&self, bytes: usize, alignment: usize) -> Result<QtestDma, BusError> {
        GuestMemory::allocate(&self.memory, bytes, alignment)
    }

    fn pci_id(&self) -> (u16, u16) {
        (self.function.vendor, self.function.device)
    }
}

/// The controller's memory BAR. Clones share one connection, an access at a time.
#[derive(Clone)]
pub struct QtestRegisters {
    machine: Arc<Machine>,
    base: u32,
}

impl fmt::Debug for QtestRegisters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QtestRegisters({:#x})", self.base)
    }
}

impl Registers for QtestRegisters {
    fn read32(&self, offset: u16) -> u32 {
        self.machine.reads.fetch_add(1, Ordering::Relaxed);
        self.machine.connection.read_memory(self.base + u32::from(offset))
    }

    fn write32(&self, offset: u16, value: u32) {
        before_register_write();
        self.machine.writes.fetch_add(1, Ordering::Relaxed);
        self.machine.connection.write_memory(self.base + u32::from(offset), value);
    }

    /// Two 32-bit writes, low half first, with no other access between them.
    fn write64(&self, offset: u16, value: u64) {
        before_register_write();
        self.machine.writes.fetch_add(2, Ordering::Relaxed);
        self.machine.connection.write_memory64(self.base + u32::from(offset), value);
    }
}

/// What every handle holds: the process, the way to talk to it, and the counters.
struct Machine {
    connection: Connection,
    process: Process,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl Machine {
    fn failure(&self) -> Option<BusError> {
        let silence = self.connection.failure();
        // A broken connection means that QEMU is about to end: what it says then is the cause.
        match self.process.end(silence.is_some()) {
            Some(cause) => Some(cause),
            None => silence,
        }
    }
}
