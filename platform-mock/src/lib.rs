//! Software Fusion-MPT controllers, the SCSI disks behind them, and QEMU's controller, each as a bus.

#![deny(missing_docs)]

pub mod buffer;
pub mod bus;
pub mod control;
pub mod disk;
pub mod faults;
pub mod in_process;
mod inbox;
pub mod memory;
pub mod model;
pub mod own_socket;
pub mod qtest;
pub mod target;
#[cfg(target_os = "linux")]
pub mod vfio_user;
