//! What `export` takes.

use std::path::PathBuf;

use clap::Args;
#[cfg(target_os = "linux")]
use fusion_mpt_linux::export::nbd::Address;
use fusion_mpt_linux::pci::UserDriver;

pub(crate) const EXAMPLES: &str = "\
Examples:
  sudo modprobe ublk_drv
  sudo mptctl export --bus 03:00.0 --bind vfio --restore    until Ctrl-C, then back to the kernel
  sudo mptctl export --bus 03:00.0 --target 2 --read-only   one disk, write protected
  sudo mptctl export --bus 03:00.0 --queues 4 --pin 4-7     four queues, a CPU each
  sudo mptctl export --bus mock:sas3008 --disk d.img        a file behind a software controller
  sudo mptctl export --bus 03:00.0 --attach                 by NBD where the kernel has no ublk
  mptctl export --bus 03:00.0 --nbd unix:/tmp/nbd.sock      for nbd-client, qemu-img, nbdcopy...
  sudo mptctl export --bus 03:00.0 --json                   an object to a line, for a program

Each disk becomes /dev/ublkbN with its capacity, block sizes, write cache, FUA, discards and zeros as
they are. Disks that come are exported, those that go end in errors at once. Ctrl-C and SIGTERM write
back what file systems hold, drain, flush and delete the devices; after a kill -9 the same command
goes on with them where it was, so that what is mounted stays mounted.
For a service: share/mptctl-export@.service; for names in /dev/disk/by-id: share/60-mptctl.rules.";

#[derive(Clone, Debug, Args)]
pub(crate) struct Export {
    /// A target to export, by its number in `list`; may be given several times. Without any, all
    #[arg(long = "target", value_name = "ID")]
    pub(crate) targets: Vec<u16>,
    /// Let nothing be written
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Reply queues, each with a thread of its own, if the controller has them
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) queues: u8,
    /// Requests of each disk at once, over all queues
    #[arg(long, value_name = "N", default_value_t = 128,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) depth: u16,
    /// Serve NBD there instead, unix:PATH or HOST:PORT of this machine: each disk under its WWN and as
    /// targetN
    #[cfg(target_os = "linux")]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) nbd: Option<Address>,
    /// Serve NBD to the kernel's own client, so that each disk becomes /dev/nbdN
    #[arg(long)]
    pub(crate) attach: bool,
    /// Give the controller to user space first, by this driver of the kernel
    #[arg(long, value_name = "vfio|uio")]
    pub(crate) bind: Option<UserDriver>,
    /// Give the controller back to the kernel's own driver at the end
    #[arg(long)]
    pub(crate) restore: bool,
    /// Tell metrics for Prometheus: in a file, or at 127.0.0.1:PORT or unix:PATH
    #[arg(long, value_name = "FILE.prom|WHERE")]
    pub(crate) metrics: Option<String>,
    /// Where to note which disk is which device, for the next export and for udev
    #[arg(long, value_name = "FOLDER", default_value = fusion_mpt_linux::export::FOLDER, hide = true)]
    pub(crate) state: PathBuf,
    /// Print what udev is to know of one device, such as ublkb0, and do nothing else
    #[arg(long, value_name = "DEVICE", hide = true)]
    pub(crate) udev_id: Option<String>,
}
