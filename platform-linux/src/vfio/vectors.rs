//! A device's interrupts: MSI-X with a vector for each reply queue, else MSI, else its line.

use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
};
use vmm_sys_util::eventfd::EventFd;

use super::device::Device;
use crate::card::Card;
use crate::error::Error;
use crate::irq::{HeldBack, Signal};
use crate::pci::address::PciAddress;
use crate::waiting::Interrupt;

/// Has the best kind of interrupts that the device has sent to descriptors, for so many queues: one
/// for each, or fewer where there are too few for all.
pub(super) fn open(
    card: &Arc<Card<Device>>,
    queues: u8,
    address: PciAddress,
) -> Result<Vec<Interrupt>, Error> {
    let device = card.function().vfio();
    let count = |index| device.get_irq_info(index).map_or(0, |irq| irq.count);
    let msix = count(VFIO_PCI_MSIX_IRQ_INDEX).min(queues.max(1).into());
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
        if device.enable_irq(index, theirs.iter().collect()).is_ok() {
            let vectors = ours.into_iter().map(|signal| match index {
                VFIO_PCI_INTX_IRQ_INDEX => line(signal, Arc::clone(card)),
                _ => Interrupt::new(signal),
            });
            return Ok(vectors.collect());
        }
    }
    Err(Error::failed(format!(
        "{address} has no interrupt that the kernel could give: neither MSI-X, nor MSI, nor a line; use --waiting poll"
    )))
}

/// The interrupt line, which the kernel masks each time until it is told to unmask it.
fn line(signal: Signal, card: Arc<Card<Device>>) -> Interrupt {
    let again = move || {
        // It fails when the device is gone, which other things tell.
        let _ = card.function().vfio().unmask_irq(VFIO_PCI_INTX_IRQ_INDEX);
    };
    Interrupt::new(HeldBack::new(Box::new(signal), again))
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
