//! The arguments of `bind`, `unbind` and `status`.

use clap::Args;
use fusion_mpt_linux::pci::{PciAddress, UserDriver};

/// What the help of `bind` ends with.
pub(super) const BIND: &str = "\
Examples:
  mptctl status                                 what there is, and who uses it
  sudo mptctl bind 03:00.0                      by VFIO, which needs an IOMMU
  sudo mptctl bind 03:00.0 --driver uio         without one: nothing guards memory then
  sudo mptctl bind 03:00.0 --owner $USER        and a normal user may open it
  sudo mptctl bind 03:00.0 03:00.1              both halves of an IOMMU group
  mptctl list --bus 0000:03:00.0                then, through our driver

A controller whose disks are mounted, swap, part of LVM, MD, ZFS or Btrfs, or opened by a program
is refused, and the command says who holds them. When anything fails, it is put back as it was.";

/// What the help of `unbind` ends with.
pub(super) const UNBIND: &str = "\
Examples:
  sudo mptctl unbind 03:00.0

One that a program has open is refused: the kernel would wait for it.";

/// What the help of `status` ends with.
pub(super) const STATUS: &str = "\
Examples:
  mptctl status
  sudo mptctl status --json                     root sees everybody's open files, too";

#[derive(Debug, Args)]
pub(crate) struct Bind {
    /// The controllers, as lspci names them: 0000:03:00.0, or 03:00.0
    #[arg(required = true, value_name = "ADDRESS")]
    pub(crate) addresses: Vec<PciAddress>,
    /// The kernel's driver to lend it by: vfio, the default, or uio where there is no IOMMU
    #[arg(long, value_name = "vfio|uio")]
    pub(crate) driver: Option<UserDriver>,
    /// Take it though its disks are held: what is mounted there loses its disk
    #[arg(long)]
    pub(crate) force: bool,
    /// Whom to give VFIO's device node to, so that they need not be root
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) owner: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Unbind {
    /// The controllers, as lspci names them: 0000:03:00.0, or 03:00.0
    #[arg(required = true, value_name = "ADDRESS")]
    pub(crate) addresses: Vec<PciAddress>,
    /// Take it though a program has it open; the kernel asks the program and waits for it
    #[arg(long)]
    pub(crate) force: bool,
}
