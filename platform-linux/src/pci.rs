//! The PCI side of Linux: which controllers there are, who uses them, and whose driver has them.
//!
//! [`System::real`] is this machine, [`System::controllers`] what it has.

pub mod address;
pub mod chips;
mod controller;
mod disks;
mod holders;
mod processes;
mod system;
mod usage;

pub use address::PciAddress;
pub use controller::{Bar, Controller, GroupMember};
pub use disks::Disk;
pub use holders::{By, Holder, Holders};
pub use processes::Process;
pub use system::System;
