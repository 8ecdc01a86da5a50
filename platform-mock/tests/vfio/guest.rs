//! A virtual machine reduced to what a driver needs of it: registers by region accesses, memory
//! in a memfd that is mapped into the card's address space, interrupts by eventfds. It speaks
//! through the client of the crate `vfio_user`, which knows nothing of our server.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fusion_mpt::platform::{BusAddr, DmaRegion, Registers};
use fusion_mpt_mock::bus::{Bus, BusError};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use vfio_user::Client;

use super::Served;

/// Where memory is on the bus: nowhere near zero, and above 4 GiB.
pub const BASE: u64 = 0x1_2340_0000;
pub const CONFIG: u32 = 7;
const COMMAND: u64 = 4;
const COMMAND_BUS_MASTER: u8 = 4;
pub const INTX: u32 = 0;
pub const MSI: u32 = 1;
pub const MSIX: u32 = 2;
/// Trigger by eventfd.
const SET: u32 = 1 << 5 | 1 << 2;
/// Unmask, without data.
const UNMASK: u32 = 1 << 4 | 1;

/// A file that cannot shrink, as QEMU's memory.
pub fn memory_file(bytes: u64) -> File {
    let file = File::from(memfd_create("guest", MemfdFlags::ALLOW_SEALING).expect("memory"));
    file.set_len(bytes).expect("that much");
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).expect("sealed");
    file
}

struct Arena {
    base: NonNull<u8>,
    bytes: usize,
    used: Mutex<usize>,
}

// SAFETY: the mapping lives as long as the value; the pieces handed out never overlap.
unsafe impl Send for Arena {}
// SAFETY: as for `Send`.
unsafe impl Sync for Arena {}

impl Arena {
    fn new(file: &File, bytes: usize) -> Self {
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the system's choosing touches no other memory.
        let base = unsafe { mmap(std::ptr::null_mut(), bytes, rights, MapFlags::SHARED, file, 0) };
        let base = NonNull::new(base.expect("mapped").cast()).expect("not null");
        Self { base, bytes, used: Mutex::new(0) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; every piece holds an `Arc` of it.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// A piece of the guest's memory.
pub struct GuestDma {
    arena: Arc<Arena>,
    offset: usize,
    bytes: usize,
}

impl fmt::Debug for GuestDma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestDma({} bytes at {:#x})", self.bytes, self.offset)
    }
}

// SAFETY: the piece lies in a mapping that lives as long as `arena`, is page-aligned, handed out
// to nobody else but as part of all of it, and no reference to it is made; its bus address is where the file is mapped.
unsafe impl DmaRegion for GuestDma {
    fn cpu(&self) -> NonNull<[u8]> {
        // SAFETY: inside the mapping, as `allocate` saw to.
        let base = unsafe { self.arena.base.add(self.offset) };
        NonNull::slice_from_raw_parts(base, self.bytes)
    }

    fn bus(&self) -> BusAddr {
        BusAddr(BASE + self.offset as u64)
    }
}

/// The card's registers through region accesses.
#[derive(Clone)]
pub struct GuestRegisters {
    client: Arc<Mutex<Client>>,
    region: u32,
}

impl GuestRegisters {
    fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().expect("whole")
    }
}

impl Registers for GuestRegisters {
    fn read32(&self, offset: u16) -> u32 {
        let mut bytes = [0; 4];
        self.client().region_read(self.region, offset.into(), &mut bytes).expect("read");
        u32::from_le_bytes(bytes)
    }

    fn write32(&self, offset: u16, value: u32) {
        let bytes = value.to_le_bytes();
        self.client().region_write(self.region, offset.into(), &bytes).expect("written");
    }

    fn write64(&self, offset: u16, value: u64) {
        let bytes = value.to_le_bytes();
        self.client().region_write(self.region, offset.into(), &bytes).expect("written");
    }
}

/// A guest with 32 MiB of memory, connected.
pub struct Guest {
    registers: GuestRegisters,
    arena: Arc<Arena>,
    pub file: File,
    id: (u16, u16),
}

pub const MEMORY: usize = 32 << 20;

impl Guest {
    /// Connects, maps memory, finds the registers, and lets the card reach memory.
    pub fn connect(served: &Served) -> Self {
        Self::at(served.path())
    }

    /// The same at a socket that somebody else serves.
    pub fn at(path: &Path) -> Self {
        let file = memory_file(MEMORY as u64);
        let arena = Arc::new(Arena::new(&file, MEMORY));
        let mut client = Client::new(path).expect("a server");
        client.dma_map(0, BASE, MEMORY as u64, file.as_raw_fd()).expect("mapped");
        let mut id = [0; 4];
        client.region_read(CONFIG, 0, &mut id).expect("ids");
        let [v0, v1, d0, d1] = id;
        let id = (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([d0, d1]));
        // The first memory BAR, as a driver looks for it.
        let region = (0..6)
            .find(|bar| {
                let mut low = [0];
                client.region_read(CONFIG, 0x10 + u64::from(*bar) * 4, &mut low).expect("a BAR");
                low[0] & 1 == 0 && client.region(*bar).is_some_and(|region| region.size > 0)
            })
            .expect("a memory BAR");
        let client = Arc::new(Mutex::new(client));
        let guest = Self { registers: GuestRegisters { client, region }, arena, file, id };
        guest.bus_master(true);
        guest
    }

    /// All of the guest's memory at once, whoever else has a part of it.
    pub fn whole(&self) -> GuestDma {
        GuestDma { arena: Arc::clone(&self.arena), offset: 0, bytes: MEMORY }
    }

    pub fn client(&self) -> MutexGuard<'_, Client> {
        self.registers.client()
    }

    /// The region of the registers.
    pub fn region(&self) -> u32 {
        self.registers.region
    }

    pub fn bus_master(&self, on: bool) {
        let value = if on { COMMAND_BUS_MASTER } else { 0 } | 2;
        self.client().region_write(CONFIG, COMMAND, &[value, 0]).expect("written");
    }

    /// An event that this interrupt is told to.
    pub fn interrupt(&self, kind: u32, vector: u32) -> Interrupt {
        let file = File::from(eventfd(0, EventfdFlags::NONBLOCK).expect("an event"));
        self.client().set_irqs(kind, SET, vector, 1, &[file.as_raw_fd()]).expect("set");
        Interrupt(file)
    }

    /// Lets a line that the server has masked by itself through again.
    pub fn unmask(&self) {
        self.client().set_irqs(INTX, UNMASK, 0, 1, &[]).expect("unmasked");
    }
}

impl Bus for Guest {
    type Registers = GuestRegisters;
    type Dma = GuestDma;

    fn registers(&self) -> GuestRegisters {
        self.registers.clone()
    }

    fn allocate(&self, bytes: usize, alignment: usize) -> Result<GuestDma, BusError> {
        let mut used = self.arena.used.lock().expect("whole");
        let offset = used.next_multiple_of(alignment.max(4096));
        if offset + bytes > self.arena.bytes {
            return Err(BusError(format!("the guest has no {bytes} bytes left")));
        }
        *used = offset + bytes;
        Ok(GuestDma { arena: Arc::clone(&self.arena), offset, bytes })
    }

    fn pci_id(&self) -> (u16, u16) {
        self.id
    }
}

/// An interrupt's event.
pub struct Interrupt(File);

impl Interrupt {
    /// Waits for it; whether it came, and takes it.
    pub fn came_within(&self, limit: Duration) -> bool {
        let limit =
            Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        let ready = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit));
        ready.expect("polled") > 0 && (&self.0).read(&mut [0; 8]).is_ok()
    }
}
