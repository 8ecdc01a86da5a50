//! A device's interrupts: MSI-X with a vector for each reply queue, else MSI, else its line.

use rustix::event::{EventfdFlags, eventfd};
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
};
use vmm_sys_util::eventfd::EventFd;

use super::device::Device;
use crate::error::Error;
use crate::irq::Signal;
use crate::pci::address::PciAddress;

/// Vectors that are asked for at most: more reply queues than CPUs are of no use.
const MOST: u32 = 32;

/// The vectors that a device was given.
#[derive(Debug)]
pub(super) struct Vectors {
    /// One for each reply queue, or one for all.
    signals: Vec<Signal>,
    /// They are a line, which the kernel masks with each interrupt.
    is_line: bool,
}

impl Vectors {
    /// Has the best kind of interrupts that the device has sent to descriptors.
    pub(super) fn open(device: &Device, address: PciAddress) -> Result<Self, Error> {
        let count = |index| device.vfio().get_irq_info(index).map_or(0, |irq| irq.count);
        let msix = count(VFIO_PCI_MSIX_IRQ_INDEX).min(MOST);
        // The kernel may have fewer vectors left than the device has.
        let mut tries = vec![(VFIO_PCI_MSIX_IRQ_INDEX, msix)];
        while let Some((index, more @ 2..)) = tries.last() {
            tries.push((*index, more / 2));
        }
        tries.push((VFIO_PCI_MSI_IRQ_INDEX, count(VFIO_PCI_MSI_IRQ_INDEX).min(1)));
        tries.push((VFIO_PCI_INTX_IRQ_INDEX, count(VFIO_PCI_INTX_IRQ_INDEX).min(1)));
        for (index, count) in tries {
            if count == 0 {
                continue;
            }
            let made: Result<Vec<_>, _> = (0..count).map(|_| pair()).collect();
            let (ours, theirs): (Vec<_>, Vec<_>) = made
                .map_err(|error| {
                    Error::failed(format!(
                        "cannot make descriptors for the interrupts of {address}: {error}; raise the limit on open files, `ulimit -n`"
                    ))
                })?
                .into_iter()
                .unzip();
            // Enabled, the kernel holds them itself.
            if device.vfio().enable_irq(index, theirs.iter().collect()).is_ok() {
                return Ok(Self { signals: ours, is_line: index == VFIO_PCI_INTX_IRQ_INDEX });
            }
        }
        Err(Error::failed(format!(
            "{address} has no interrupt that the kernel could give: neither MSI-X, nor MSI, nor a line; use --interrupts poll"
        )))
    }

    /// Where the interrupts of a reply queue arrive.
    pub(super) fn signal(&self, queue: u8) -> &Signal {
        // There is at least one; where there are too few, the device uses the first for the rest.
        self.signals.get(usize::from(queue)).unwrap_or(&self.signals[0])
    }

    /// Forgets what has arrived, and has a line unmasked.
    pub(super) fn arm(&self, device: &Device, queue: u8) {
        self.signal(queue).clear();
        if self.is_line {
            // It fails when the device is gone; then the sleep ends by its limit.
            let _ = device.vfio().unmask_irq(VFIO_PCI_INTX_IRQ_INDEX);
        }
    }
}

/// An event descriptor for us, and the same for the kernel.
fn pair() -> rustix::io::Result<(Signal, EventFd)> {
    use std::os::fd::{FromRawFd, IntoRawFd};

    let ours = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let theirs = ours.try_clone().map_err(|_| rustix::io::Errno::MFILE)?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let theirs = unsafe { EventFd::from_raw_fd(theirs.into_raw_fd()) };
    Ok((Signal::event(ours), theirs))
}
