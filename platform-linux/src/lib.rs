//! The Linux platform of `fusion-mpt`: buses by name, and what `mptctl` is made of.
//!
//! [`with_host`](open::with_host) opens a bus, brings its controller up and lends it as a
//! [`Host`](host::Host), which is the same for every generation and bus; the rest works on that.

#![deny(missing_docs)]

pub mod affinity;
pub mod ata;
pub mod bus_name;
#[cfg(target_os = "linux")]
mod card;
#[cfg(target_os = "linux")]
mod card_bus;
pub mod cdb;
pub mod decode;
pub mod disk;
#[cfg(target_os = "linux")]
mod dma;
pub mod ended;
pub mod error;
pub mod events;
pub mod export;
pub mod host;
pub mod image;
pub mod interrupt;
pub mod inventory;
#[cfg(target_os = "linux")]
mod irq;
mod link;
pub mod metrics;
mod mock;
pub mod open;
pub mod pattern;
pub mod pci;
#[cfg(target_os = "linux")]
mod pci_files;
pub mod recovery;
#[cfg(test)]
mod rig;
pub mod sense;
pub mod session;
pub mod silence;
pub mod smart;
pub mod tries;
#[cfg(target_os = "linux")]
mod uio;
#[cfg(target_os = "linux")]
mod vfio;
pub mod waiting;
