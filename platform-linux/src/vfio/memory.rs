//! Memory that the IOMMU lets the controller reach.

use std::ops::Range;
use std::sync::Arc;

use fusion_mpt_mock::bus::BusError;
use vfio_ioctls::{VfioContainer, VfioError};

use super::device::Device;
use super::iova;
use crate::card::Card;
use crate::dma::mapping::Mapping;
use crate::dma::{HUGEPAGE, Run, Source};
use crate::error::Error;
use crate::pci::address::PciAddress;

/// Memory mapped into a container's IOMMU.
pub(super) struct MappedMemory {
    container: Arc<VfioContainer>,
    card: Arc<Card<Device>>,
    address: PciAddress,
    /// I/O virtual addresses not used yet.
    unused: Range<u64>,
    mapped: Vec<(u64, Mapping)>,
}

impl MappedMemory {
    /// None yet; its addresses will come from `ranges`.
    pub(super) fn new(
        container: Arc<VfioContainer>,
        card: Arc<Card<Device>>,
        ranges: &[Range<u64>],
        address: PciAddress,
    ) -> Result<Self, Error> {
        let unused = iova::window(ranges).ok_or_else(|| {
            Error::failed(format!(
                "the IOMMU of {address} leaves no range of addresses for memory; see /sys/kernel/iommu_groups/*/reserved_regions"
            ))
        })?;
        Ok(Self { container, card, address, unused, mapped: Vec::new() })
    }

    fn map(&self, mapping: &Mapping, iova: u64) -> Result<(), VfioError> {
        // SAFETY: no reference to the mapping is ever formed, and it stays mapped until the IOMMU no
        // longer has it: `drop` sees to the order.
        unsafe { self.container.vfio_dma_map(iova, mapping.bytes(), mapping.at().as_ptr()) }
    }

    fn refusal(&self, bytes: usize, error: &VfioError) -> BusError {
        let mib = bytes >> 20;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        let errno = match error {
            VfioError::IommuDmaMap(error) => error.errno(),
            _ => 0,
        };
        let remedy = match (rustix::io::Errno::from_raw_os_error(errno), limit) {
            (rustix::io::Errno::NOMEM, Some(limit)) => format!(
                "memory for a controller is locked, and this process may lock {} KiB: raise that by `ulimit -l unlimited`, LimitMEMLOCK=infinity in a unit, or in /etc/security/limits.conf",
                limit >> 10
            ),
            (rustix::io::Errno::NOSPC, _) => "the kernel's limit of mappings is reached: raise /sys/module/vfio_iommu_type1/parameters/dma_entry_limit".to_owned(),
            _ => "ask for fewer commands at a time, or free memory".to_owned(),
        };
        BusError(format!(
            "cannot map {mib} MiB of memory into the IOMMU for {}: {error}; {remedy}",
            self.address
        ))
    }
}

// SAFETY: mappings are kept until the source is dropped, and given out once.
unsafe impl Source for MappedMemory {
    fn grow(&mut self, bytes: usize) -> Result<Vec<Run>, BusError> {
        let room = (self.unused.end - self.unused.start) as usize;
        let bytes = bytes.checked_next_multiple_of(HUGEPAGE).filter(|bytes| *bytes <= room);
        let bytes = bytes.ok_or_else(|| {
            BusError(format!(
                "the IOMMU leaves {} MiB of addresses for {}, which is not enough; ask for fewer commands at a time",
                room >> 20,
                self.address
            ))
        })?;
        let iova = self.unused.start;
        // Hugepages are fewer entries in the IOMMU's tables and its caches. The system may have none,
        // or a limit of its own on them, which shows only when they are touched: plain pages serve.
        let huge = Mapping::hugepages(bytes).ok();
        let huge = huge.filter(|mapping| self.map(mapping, iova).is_ok());
        let mapping = match huge {
            Some(mapping) => mapping,
            None => {
                let plain = Mapping::anonymous(bytes).map_err(|error| {
                    BusError(format!(
                        "there are no {} MiB of memory for {}: {error}; ask for fewer commands at a time",
                        bytes >> 20,
                        self.address
                    ))
                })?;
                self.map(&plain, iova).map_err(|error| self.refusal(bytes, &error))?;
                plain
            }
        };
        let run = Run { cpu: mapping.at(), bus: iova, bytes };
        self.unused.start += bytes as u64;
        self.mapped.push((iova, mapping));
        Ok(vec![run])
    }
}

impl Drop for MappedMemory {
    fn drop(&mut self) {
        self.card.cut_off();
        for (iova, mapping) in self.mapped.drain(..) {
            if self.container.vfio_dma_unmap(iova, mapping.bytes()).is_err() {
                // The controller might still reach it: then it is nobody's until the process ends.
                std::mem::forget(mapping);
            }
        }
    }
}
