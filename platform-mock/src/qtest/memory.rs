//! The machine's memory, shared with QEMU, and the part of it that is handed out for DMA.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fusion_mpt::platform::{BusAddr, DmaRegion};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::connection::Connection;
use crate::bus::BusError;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Firmware tables, video memory and ROMs live below 1 MiB.
const LOW_START: u64 = MIB;

/// A `pc` machine with 3.5 GiB or more keeps 3 GiB below 4 GiB and moves the rest to 4 GiB.
const BELOW_4_GIB: u64 = 3 * GIB;

/// Allocations are cache lines, so that no two share one.
const GRAIN: u64 = 64;

/// Which part of the machine's memory is handed out, and where the machine finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The machine's memory in bytes: the size of the file.
    pub(super) machine_bytes: u64,
    /// Where the part that is handed out starts in the file.
    file_offset: u64,
    /// Where it starts in the machine's physical address space.
    bus: u64,
    /// Its size in bytes.
    bytes: u64,
}

impl Layout {
    /// `bytes` of memory for DMA, above 4 GiB when `high`.
    pub(super) const fn new(bytes: u64, high: bool) -> Self {
        let bytes = bytes.next_multiple_of(MIB);
        if high {
            // At least 4 GiB altogether, or all of it would stay below.
            let above = if bytes > GIB { bytes } else { GIB };
            Self {
                machine_bytes: BELOW_4_GIB + above,
                file_offset: BELOW_4_GIB,
                bus: 4 * GIB,
                bytes: above,
            }
        } else {
            Self {
                machine_bytes: bytes,
                file_offset: LOW_START,
                bus: LOW_START,
                bytes: bytes - LOW_START,
            }
        }
    }
}

/// The machine's memory: the file it lies in, our mapping of the part that is handed out, and who
/// has which piece of that.
pub(super) struct GuestMemory {
    layout: Layout,
    base: NonNull<u8>,
    backing: Backing,
    free: Mutex<FreeList>,
}

// SAFETY: `base` is only handed out piecewise, each piece to one `QtestDma`; the mapping itself
// belongs to no thread.
unsafe impl Send for GuestMemory {}
// SAFETY: as for `Send`; what changes is behind the mutex.
unsafe impl Sync for GuestMemory {}

impl fmt::Debug for GuestMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemory").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl GuestMemory {
    /// Makes the memory, all zeroes, and maps the part that is handed out.
    pub(super) fn new(layout: Layout) -> Result<Self, BusError> {
        let what = |step: &str, error: &dyn fmt::Display| {
            BusError(format!(
                "cannot {step} {} MiB of memory to share with QEMU: {error}; ask for less",
                layout.machine_bytes / MIB
            ))
        };
        let backing = Backing::new().map_err(|error| what("create", &error))?;
        backing.file.set_len(layout.machine_bytes).map_err(|error| what("reserve", &error))?;
        let length = usize::try_from(layout.bytes).map_err(|error| what("address", &error))?;
        #[cfg(target_os = "linux")]
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        #[cfg(not(target_os = "linux"))]
        let flags = MapFlags::SHARED;
        // SAFETY: a new mapping at an address of the kernel's choosing replaces nothing. The file
        // has no name that others know and is never shortened, so every page of it stays valid.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
                &backing.file,
                layout.file_offset,
            )
        }
        .map_err(|error| what("map", &error))?;
        let base = NonNull::new(base.cast()).ok_or_else(|| what("map", &"at address zero"))?;
        let free = Mutex::new(FreeList::new(layout.bus..layout.bus + layout.bytes));
        Ok(Self { layout, base, backing, free })
    }

    /// The machine's memory in bytes.
    pub(super) const fn machine_bytes(&self) -> u64 {
        self.layout.machine_bytes
    }

    /// The file the memory lies in.
    pub(super) const fn backing(&self) -> &Backing {
        &self.backing
    }

    /// Removes the file's name, once QEMU has opened it.
    pub(super) fn forget_name(&self) {
        self.backing.forget_name();
    }

    /// Makes sure that the machine finds our memory where we believe it does: a word stored by the
    /// machine must turn up in the mapping.
    pub(super) fn check(&self, connection: &Connection) -> Result<(), BusError> {
        const MARK: u64 = 0x6675_7369_6f6e_2121;
        for (word, stored) in [(MARK, MARK), (0, 0)] {
            connection.store(self.layout.bus, word);
            // SAFETY: the first word of the mapping, page-aligned; nothing is handed out yet.
            let found = unsafe { self.base.cast::<u64>().read_volatile() };
            if u64::from_le(found) != stored {
                return Err(BusError(format!(
                    "QEMU stored {word:#x} at {:#x} of its memory, but the shared memory has \
                     {found:#x} there; this QEMU lays out its memory in another way than known here",
                    self.layout.bus
                )));
            }
        }
        Ok(())
    }

    /// Takes a piece of `bytes`, zeroed, at a multiple of `alignment`.
    pub(super) fn allocate(
        memory: &Arc<Self>,
        bytes: usize,
        alignment: usize,
    ) -> Result<QtestDma, BusError> {
        if !alignment.is_power_of_two() {
            return Err(BusError(format!(
                "asked for {bytes} bytes of DMA memory aligned to {alignment}, \
                 which is not a power of two"
            )));
        }
        let piece = memory.free().take(bytes as u64, alignment as u64).ok_or_else(|| {
            BusError(format!(
                "no {bytes} bytes of DMA memory aligned to {alignment} are left of {} MiB; \
                 give QEMU more memory or free some",
                memory.layout.bytes / MIB
            ))
        })?;
        let offset = (piece.start - memory.layout.bus) as usize;
        // SAFETY: the free list holds only addresses within the mapping.
        let base = unsafe { memory.base.add(offset) };
        // SAFETY: the piece was free, so nobody of ours looks at it, and it lies in the mapping.
        unsafe { base.write_bytes(0, bytes) };
        Ok(QtestDma {
            cpu: NonNull::slice_from_raw_parts(base, bytes),
            bus: BusAddr(piece.start),
            memory: Arc::clone(memory),
            piece,
        })
    }

    fn free(&self) -> MutexGuard<'_, FreeList> {
        // `FreeList` has no panic between two changes that belong together.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: `mmap` gave this range. Every `QtestDma` holds an `Arc` that is gone by now, and
        // so does the thread that keeps QEMU, until QEMU has ended.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.layout.bytes as usize) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

/// A piece of the machine's memory; goes back when dropped.
///
/// Its bus address is the machine's physical address. It outlives QEMU if it has to.
pub struct QtestDma {
    cpu: NonNull<[u8]>,
    bus: BusAddr,
    memory: Arc<GuestMemory>,
    piece: Range<u64>,
}

impl fmt::Debug for QtestDma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QtestDma({} bytes at {})", self.cpu.len(), self.bus)
    }
}

// SAFETY: the piece belongs to this value alone, and the mapping belongs to no thread.
unsafe impl Send for QtestDma {}
// SAFETY: as for `Send`; a second thread sees no more than an address.
unsafe impl Sync for QtestDma {}

// SAFETY: the piece lies in a mapping that lives as long as `memory`, is handed out to nobody else
// until this value is dropped, and starts at a multiple of `GRAIN`; no reference to it is ever
// made. `bus` is where `check` saw the machine find the mapping, plus the piece's offset.
unsafe impl DmaRegion for QtestDma {
    fn cpu(&self) -> NonNull<[u8]> {
        self.cpu
    }

    fn bus(&self) -> BusAddr {
        self.bus
    }
}

impl Drop for QtestDma {
    fn drop(&mut self) {
        self.memory.free().give_back(self.piece.clone());
    }
}

/// The free pieces of an address range: start to end, none touching the next.
#[derive(Debug)]
struct FreeList(BTreeMap<u64, u64>);

impl FreeList {
    fn new(range: Range<u64>) -> Self {
        Self(BTreeMap::from([(range.start, range.end)]))
    }

    /// Takes the first fit that crosses no 4 GiB boundary.
    fn take(&mut self, bytes: u64, alignment: u64) -> Option<Range<u64>> {
        let bytes = bytes.max(1).checked_next_multiple_of(GRAIN)?;
        let alignment = alignment.max(GRAIN);
        let fit = |start: u64, end: u64| {
            let at = start.checked_next_multiple_of(alignment)?;
            let last = at.checked_add(bytes - 1)?;
            let at = if at >> 32 == last >> 32 {
                at
            } else {
                // The boundary is a multiple of any alignment up to 4 GiB.
                (last >> 32 << 32).checked_next_multiple_of(alignment)?
            };
            let last = at.checked_add(bytes - 1)?;
            (last < end && at >> 32 == last >> 32).then_some((start, end, at..last + 1))
        };
        let (start, end, piece) = self.0.iter().find_map(|(start, end)| fit(*start, *end))?;
        self.0.remove(&start);
        if start < piece.start {
            self.0.insert(start, piece.start);
        }
        if piece.end < end {
            self.0.insert(piece.end, end);
        }
        Some(piece)
    }

    /// Puts a piece back, joined to its free neighbours.
    fn give_back(&mut self, piece: Range<u64>) {
        let before = self.0.range(..piece.start).next_back().map(|(start, end)| (*start, *end));
        let start = match before {
            Some((start, end)) if end == piece.start => start,
            _ => piece.start,
        };
        let end = self.0.remove(&piece.end).unwrap_or(piece.end);
        self.0.insert(start, end);
    }
}

/// The file that the memory lies in.
#[derive(Debug)]
pub(super) struct Backing {
    /// Open for reading and writing; QEMU inherits it on Linux.
    pub(super) file: File,
    #[cfg(not(target_os = "linux"))]
    name: Mutex<Option<tempfile::TempPath>>,
}

#[cfg(target_os = "linux")]
impl Backing {
    /// Memory without a name: nothing to remove, whatever happens.
    fn new() -> std::io::Result<Self> {
        use rustix::fs::{MemfdFlags, memfd_create};
        let file = memfd_create("fusion-mpt-qtest", MemfdFlags::CLOEXEC)?;
        Ok(Self { file: File::from(file) })
    }

    /// How QEMU, which inherits the file, opens it.
    pub(super) fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    #[expect(clippy::unused_self, reason = "it has a name on other systems")]
    fn forget_name(&self) {}
}

#[cfg(not(target_os = "linux"))]
impl Backing {
    /// A temporary file.
    fn new() -> std::io::Result<Self> {
        let (file, name) = tempfile::NamedTempFile::new()?.into_parts();
        Ok(Self { file, name: Mutex::new(Some(name)) })
    }

    /// How QEMU opens it.
    pub(super) fn path(&self) -> PathBuf {
        let name = self.name.lock().unwrap_or_else(PoisonError::into_inner);
        name.as_deref().map(PathBuf::from).unwrap_or_default()
    }

    fn forget_name(&self) {
        // Dropping the name removes the file; both mappings keep its contents.
        drop(self.name.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn freed_memory_is_handed_out_again_zeroed() {
        let memory = Arc::new(GuestMemory::new(Layout::new(4 * MIB, false)).unwrap());
        let first = GuestMemory::allocate(&memory, 100, 4096).unwrap();
        let bus = first.bus();
        assert_eq!(bus.0 % 4096, 0);
        // SAFETY: within the piece, which this test alone holds.
        unsafe { first.cpu().cast::<u8>().write_bytes(0xa5, 100) };
        drop(first);
        let again = GuestMemory::allocate(&memory, 100, 4096).unwrap();
        assert_eq!(again.bus(), bus);
        // SAFETY: as above.
        let found = unsafe { again.cpu().cast::<[u8; 100]>().read_volatile() };
        assert_eq!(found, [0; 100]);
    }

    #[test]
    fn more_than_there_is_and_odd_alignments_are_refused_with_a_sentence() {
        let memory = Arc::new(GuestMemory::new(Layout::new(4 * MIB, false)).unwrap());
        let error = GuestMemory::allocate(&memory, 4 << 20, 16).unwrap_err().to_string();
        assert!(error.contains("left of 3 MiB"), "{error}");
        assert!(GuestMemory::allocate(&memory, usize::MAX, 16).is_err());
        let error = GuestMemory::allocate(&memory, 16, 3).unwrap_err().to_string();
        assert!(error.contains("not a power of two"), "{error}");
        assert!(GuestMemory::allocate(&memory, 3 << 20, 16).is_ok());
    }

    #[test]
    fn high_memory_starts_at_4_gib() {
        let memory = Arc::new(GuestMemory::new(Layout::new(4 * MIB, true)).unwrap());
        let piece = GuestMemory::allocate(&memory, 64, 64).unwrap();
        assert_eq!(piece.bus(), BusAddr(0x1_0000_0000));
    }

    #[test]
    fn a_4_gib_boundary_is_stepped_over() {
        let mut free = FreeList::new(4 * GIB - 4096..4 * GIB + 8192);
        assert_eq!(free.take(8192, 64), Some(4 * GIB..4 * GIB + 8192));
        assert_eq!(free.take(8192, 64), None);
        assert_eq!(free.take(4096, 64), Some(4 * GIB - 4096..4 * GIB));
        assert_eq!(free.take(0, 1), None);
    }

    proptest! {
        #[test]
        fn pieces_never_overlap_and_all_come_back(
            requests in proptest::collection::vec((1_u64..100_000, 0_u32..14, any::<bool>()), 1..60)
        ) {
            let all = 4 * GIB - 3 * MIB..4 * GIB + 3 * MIB;
            let mut free = FreeList::new(all.clone());
            let mut taken: Vec<Range<u64>> = Vec::new();
            for (bytes, shift, give_back) in requests {
                if give_back && !taken.is_empty() {
                    let index = (bytes as usize) % taken.len();
                    free.give_back(taken.swap_remove(index));
                }
                let Some(piece) = free.take(bytes, 1 << shift) else { continue };
                prop_assert!(piece.end - piece.start >= bytes);
                prop_assert_eq!(piece.start % (1 << shift), 0);
                prop_assert!(all.start <= piece.start && piece.end <= all.end);
                prop_assert_eq!(piece.start >> 32, (piece.end - 1) >> 32);
                prop_assert!(taken.iter().all(|t| t.end <= piece.start || piece.end <= t.start));
                taken.push(piece);
            }
            for piece in taken {
                free.give_back(piece);
            }
            prop_assert_eq!(free.0, BTreeMap::from([(all.start, all.end)]));
        }
    }
}
