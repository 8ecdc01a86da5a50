//! Machines on which something is missing.

use crate::vm::subject::Subject;

pub(super) fn no_ublk(subject: &mut Subject) -> Result<(), String> {
    subject.give_to_user()?;
    let words = format!("export --bus {}", subject.address);
    subject.refused(&words, &["ublk", "--nbd"])
}

pub(super) fn no_iommu(subject: &mut Subject) -> Result<(), String> {
    let address = subject.address.clone();
    let words = format!("bind --driver vfio {address}");
    subject.refused(&words, &["IOMMU", "intel_iommu=on", "--driver uio"])?;
    // Nothing is half bound: no driver, and none asked for.
    subject.expect_driver(None)?;
    let over = subject.check(&format!("cat /sys/bus/pci/devices/{address}/driver_override"))?;
    match over.trim() {
        "(null)" | "" => Ok(()),
        other => Err(format!("{other} is left as the device's driver_override")),
    }
}

pub(super) fn no_hugepages(subject: &mut Subject) -> Result<(), String> {
    let address = subject.address.clone();
    subject.give_to_user()?;
    subject.refused(&format!("list --bus {address}"), &["hugepages", "nr_hugepages"])?;
    subject.check("sysctl -w vm.nr_hugepages=32")?;
    subject.ours("list").map(drop)
}
