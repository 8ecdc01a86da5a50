//! What the guests of this tier are: memory, hugepages, an IOMMU.

use crate::guests::machine::{Accelerator, MachineOptions};

/// A guest in which a user-space driver can work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    /// Whether there is an IOMMU, without which VFIO gives nothing to user space.
    pub(crate) iommu: bool,
    /// Pages of 2 MiB that are set aside when it boots.
    pub(crate) hugepages: u32,
    /// Further words for the kernel's command line.
    pub(crate) kernel_arguments: &'static str,
}

impl Default for Shape {
    fn default() -> Self {
        Self { memory_mib: 640, cpus: 2, iommu: true, hugepages: 32, kernel_arguments: "" }
    }
}

impl Shape {
    /// The machine of that shape.
    pub(crate) fn options(self, accelerator: Accelerator) -> MachineOptions {
        let mut devices = Vec::new();
        let mut kernel_arguments = format!("hugepages={}", self.hugepages);
        if self.iommu {
            // What the guest maps has to reach a controller outside of QEMU: caching mode. It has
            // to be there before the devices that it is for.
            devices.extend(["-device", "intel-iommu,caching-mode=on"]);
            // With interrupts remapped, a timer that a busy host has late would be a panic.
            kernel_arguments.push_str(" intel_iommu=on no_timer_check");
            if accelerator == Accelerator::Kvm {
                // VFIO wants interrupts remapped, which an interrupt controller in the host's
                // kernel cannot be.
                devices.extend(["-machine", "kernel-irqchip=split"]);
            }
        }
        kernel_arguments.push(' ');
        kernel_arguments.push_str(self.kernel_arguments);
        MachineOptions {
            memory_mib: self.memory_mib,
            cpus: self.cpus,
            devices: devices.into_iter().map(str::to_owned).collect(),
            kernel_arguments,
            accelerator,
            ..MachineOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_iommu_the_kernel_is_told_of_none() {
        let with = Shape::default().options(Accelerator::Tcg);
        assert!(with.kernel_arguments.contains("intel_iommu=on"));
        assert_eq!(with.devices.len(), 2);
        let without = Shape { iommu: false, ..Shape::default() }.options(Accelerator::Tcg);
        assert!(!without.kernel_arguments.contains("intel_iommu"));
        assert!(without.devices.is_empty());
    }
}
