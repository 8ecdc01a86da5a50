//! A device by VFIO: configuration space and registers.

use std::fmt;

use vfio_bindings::bindings::vfio::{VFIO_PCI_CONFIG_REGION_INDEX, VFIO_REGION_INFO_FLAG_MMAP};
use vfio_ioctls::{VfioDevice, VfioRegionInfoCap};

use crate::card::{Function, window_bytes};
use crate::dma::mapping::Mapping;
use crate::pci_files::MemoryBar;

/// A device by VFIO.
pub(crate) struct Device {
    device: VfioDevice,
    bar: MemoryBar,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({:?})", self.bar)
    }
}

impl Device {
    /// Takes an open device whose registers are in `bar`.
    pub(super) const fn new(device: VfioDevice, bar: MemoryBar) -> Self {
        Self { device, bar }
    }

    /// The device itself.
    pub(super) const fn vfio(&self) -> &VfioDevice {
        &self.device
    }

    /// Maps the beginning of the registers' BAR; `None` where the kernel does not let it: a BAR that
    /// shares its page with another's, or with the table of MSI-X on kernels before 4.16.
    pub(super) fn map_registers(&self) -> Option<Mapping> {
        let index = self.bar.index;
        let bytes = window_bytes() as u64;
        let flags = self.device.get_region_flags(index);
        if flags & VFIO_REGION_INFO_FLAG_MMAP == 0 || self.device.get_region_size(index) < bytes {
            return None;
        }
        let sparse = self.device.get_region_caps(index).into_iter().find_map(|cap| match cap {
            VfioRegionInfoCap::SparseMmap(sparse) => Some(sparse.areas),
            _ => None,
        });
        if sparse
            .is_some_and(|areas| !areas.iter().any(|area| area.offset == 0 && area.size >= bytes))
        {
            return None;
        }
        Mapping::of_file(fd(&self.device), self.device.get_region_offset(index), window_bytes())
            .ok()
    }
}

/// The device's descriptor.
fn fd(device: &VfioDevice) -> std::os::fd::BorrowedFd<'_> {
    use std::os::fd::{AsRawFd, BorrowedFd};
    // SAFETY: the descriptor is the device's own and open while it is borrowed.
    unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) }
}

impl Function for Device {
    fn read_config(&self, at: u64) -> u16 {
        // A read that fails leaves all ones, as a device that is gone does.
        let mut bytes = [0xff; 2];
        self.device.region_read(VFIO_PCI_CONFIG_REGION_INDEX, &mut bytes, at);
        u16::from_le_bytes(bytes)
    }

    fn write_config(&self, at: u64, value: u16) {
        self.device.region_write(VFIO_PCI_CONFIG_REGION_INDEX, &value.to_le_bytes(), at);
    }

    fn read_register(&self, offset: u16) -> u32 {
        let mut bytes = [0xff; 4];
        self.device.region_read(self.bar.index, &mut bytes, offset.into());
        u32::from_le_bytes(bytes)
    }

    fn write_register(&self, offset: u16, bytes: &[u8]) {
        self.device.region_write(self.bar.index, bytes, offset.into());
    }
}
