//! DMA memory of real buses: pieces of a pool that grows, each with the bus address at which the
//! controller finds it.
//!
//! A [`Source`] gives the pool *runs*, ranges that are contiguous for CPU and controller alike. VFIO
//! maps memory into the IOMMU at addresses of its own choosing (`vfio/memory.rs`); UIO takes hugepages
//! at the physical addresses that they happen to have (`uio/memory.rs`). What the pool has once been
//! given it keeps until the bus is closed.

use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fusion_mpt::platform::{BusAddr, DmaRegion};
use fusion_mpt_mock::bus::BusError;

pub(crate) mod free_list;
pub(crate) mod mapping;

use free_list::FreeList;

/// The size of a hugepage on every architecture that has these cards: 2 MiB.
pub(crate) const HUGEPAGE: usize = 2 << 20;

/// Memory that is contiguous for the CPU and for the controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// Where the CPU finds it.
    pub(crate) cpu: NonNull<u8>,
    /// Where the controller finds it.
    pub(crate) bus: u64,
    /// Its length.
    pub(crate) bytes: usize,
}

/// Where a pool's memory comes from. Dropped, it takes the memory back, and sees to it before that
/// the controller no longer reaches it.
///
/// # Safety
///
/// A run stays mapped, readable, writable and the pool's alone for the source's life.
pub(crate) unsafe trait Source: Send {
    /// More memory, with at least one run of `bytes` bytes that does not cross a 4 GiB boundary.
    fn grow(&mut self, bytes: usize) -> Result<Vec<Run>, BusError>;
}

/// Memory that the controller reaches, handed out by pieces.
pub(crate) struct Pool(Mutex<Holdings>);

struct Holdings {
    source: Box<dyn Source>,
    runs: Vec<Holding>,
}

struct Holding {
    run: Run,
    free: FreeList,
}

// SAFETY: the pointers of the runs belong to the source, which is `Send`, and to no thread.
unsafe impl Send for Holdings {}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} bytes)", self.bytes())
    }
}

impl Pool {
    /// A pool that has nothing yet.
    pub(crate) fn new(source: impl Source + 'static) -> Self {
        Self(Mutex::new(Holdings { source: Box::new(source), runs: Vec::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Holdings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that the pool has taken from its source.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().runs.iter().map(|holding| holding.run.bytes).sum()
    }

    /// A zeroed piece at a multiple of `alignment` that does not cross a 4 GiB boundary.
    ///
    /// # Errors
    ///
    /// What the source refuses to grow with.
    pub(crate) fn allocate(
        self: &Arc<Self>,
        bytes: usize,
        alignment: usize,
    ) -> Result<Piece, BusError> {
        let bytes = bytes.max(1);
        let mut holdings = self.lock();
        let mut found = holdings.take(bytes, alignment);
        if found.is_none() {
            // A run begins at a page, which a greater alignment may miss.
            let slack = alignment.saturating_sub(rustix::param::page_size());
            for run in holdings.source.grow(bytes.saturating_add(slack))? {
                let free = FreeList::new(run.bus..run.bus + run.bytes as u64);
                holdings.runs.push(Holding { run, free });
            }
            // Low addresses first: that is where every controller can look.
            found = holdings.take(bytes, alignment);
        }
        let (run, bus) = found.ok_or_else(|| {
            BusError(format!(
                "no {bytes} bytes of DMA memory at a multiple of {alignment} could be had; ask for fewer commands at a time"
            ))
        })?;
        drop(holdings);
        // SAFETY: the address was taken from this run's own range, so it lies inside.
        let at = unsafe { run.cpu.add((bus - run.bus) as usize) };
        // SAFETY: the piece is mapped, and it is this call's alone until it is returned.
        unsafe { at.write_bytes(0, bytes) };
        Ok(Piece {
            pool: Arc::clone(self),
            cpu: NonNull::slice_from_raw_parts(at, bytes),
            bus: BusAddr(bus),
        })
    }
}

impl Holdings {
    fn take(&mut self, bytes: usize, alignment: usize) -> Option<(Run, u64)> {
        let taken = self.runs.iter_mut().filter_map(|holding| {
            let at = holding.free.find(bytes as u64, alignment as u64)?;
            Some((at, holding))
        });
        let (at, holding) = taken.min_by_key(|(at, _)| *at)?;
        holding.free.take(at, bytes as u64);
        Some((holding.run, at))
    }
}

/// A piece of a [`Pool`]; given back when dropped.
pub(crate) struct Piece {
    pool: Arc<Pool>,
    cpu: NonNull<[u8]>,
    bus: BusAddr,
}

// SAFETY: the piece is its owner's alone, and memory belongs to no thread.
unsafe impl Send for Piece {}
// SAFETY: what a shared reference gives is the address; access is its user's business.
unsafe impl Sync for Piece {}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} bytes at {})", self.cpu.len(), self.bus)
    }
}

// SAFETY: the range stays mapped while the pool lives, which the piece holds; the pool gives it to
// nobody else meanwhile and forms no reference to it. Its grain keeps pieces 64-byte aligned. The
// source vouches for the bus address.
unsafe impl DmaRegion for Piece {
    fn cpu(&self) -> NonNull<[u8]> {
        self.cpu
    }

    fn bus(&self) -> BusAddr {
        self.bus
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut holdings = self.pool.lock();
        let owner = holdings.runs.iter_mut().find(|holding| {
            let run = holding.run;
            (run.bus..run.bus + run.bytes as u64).contains(&self.bus.0)
        });
        if let Some(holding) = owner {
            holding.free.give_back(self.bus.0, self.cpu.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::mapping::Mapping;
    use super::*;

    /// Plain memory under invented bus addresses, 3 GiB apart.
    #[derive(Default)]
    struct Invented {
        mappings: Vec<Mapping>,
    }

    static DROPPED: AtomicUsize = AtomicUsize::new(0);

    impl Drop for Invented {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::SeqCst);
        }
    }

    // SAFETY: the mappings live as long as the source.
    unsafe impl Source for Invented {
        fn grow(&mut self, bytes: usize) -> Result<Vec<Run>, BusError> {
            if bytes > HUGEPAGE {
                return Err(BusError("too much".into()));
            }
            let mapping = Mapping::anonymous(HUGEPAGE).expect("2 MiB");
            let bus = (self.mappings.len() as u64 + 1) * (3 << 30);
            let run = Run { cpu: mapping.at(), bus, bytes: HUGEPAGE };
            self.mappings.push(mapping);
            Ok(vec![run])
        }
    }

    fn pool() -> Arc<Pool> {
        Arc::new(Pool::new(Invented::default()))
    }

    #[test]
    fn a_piece_is_zeroed_though_it_was_used_before() {
        let pool = pool();
        let piece = pool.allocate(4096, 4096).unwrap();
        let at = piece.bus();
        let cpu = piece.cpu().cast::<u8>();
        // SAFETY: the piece is 4096 bytes long and ours alone.
        unsafe { cpu.write_bytes(0xa5, 4096) };
        drop(piece);
        let again = pool.allocate(4096, 4096).unwrap();
        assert_eq!(again.bus(), at);
        // SAFETY: as above.
        let byte = unsafe { again.cpu().as_ptr().cast::<u8>().wrapping_add(4095).read() };
        assert_eq!(byte, 0);
    }

    #[test]
    fn the_pool_grows_only_when_it_is_full_and_prefers_low_addresses() {
        let pool = pool();
        let first = pool.allocate(HUGEPAGE, 4096).unwrap();
        let second = pool.allocate(64, 64).unwrap();
        assert_eq!(pool.bytes(), 2 * HUGEPAGE);
        assert!(second.bus() > first.bus());
        drop(first);
        let third = pool.allocate(64, 64).unwrap();
        assert!(third.bus() < second.bus());
        assert_eq!(pool.bytes(), 2 * HUGEPAGE);
    }

    #[test]
    fn what_the_source_says_comes_out() {
        let refusal = pool().allocate(HUGEPAGE + 1, 4096).unwrap_err();
        assert_eq!(refusal, BusError("too much".into()));
    }

    #[test]
    fn the_memory_outlives_the_last_piece_and_not_more() {
        let pool = pool();
        let piece = pool.allocate(64, 64).unwrap();
        drop(pool);
        let before = DROPPED.load(Ordering::SeqCst);
        // SAFETY: the piece holds its memory.
        unsafe { piece.cpu().cast::<u8>().write(1) };
        drop(piece);
        // Other tests drop theirs too.
        assert!(DROPPED.load(Ordering::SeqCst) > before);
    }
}
