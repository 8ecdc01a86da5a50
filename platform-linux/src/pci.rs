//! The PCI side of Linux: which controllers there are, who uses them, and whose driver has them.
//!
//! [`System::real`] is this machine, [`System::controllers`] what it has.

pub mod address;
pub mod bind;
pub mod chips;
mod controller;
mod disks;
#[cfg(test)]
mod fake;
mod holders;
mod owner;
mod processes;
mod state;
mod system;
#[cfg(test)]
mod tests;
mod usage;
mod user_driver;

pub use address::PciAddress;
pub use controller::{Bar, Controller, GroupMember};
pub use disks::Disk;
pub use holders::{By, Holder, Holders};
pub use owner::Owner;
pub use processes::Process;
pub use state::State;
pub use system::System;
pub use user_driver::{Lent, UserDriver};
