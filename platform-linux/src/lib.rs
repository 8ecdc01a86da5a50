//! The Linux platform of `fusion-mpt`: buses by name, and what `mptctl` is made of.
//!
//! [`with_host`](open::with_host) opens a bus, brings its controller up and lends it as a
//! [`Host`](host::Host), which is the same for every generation and bus; the rest works on that.

#![deny(missing_docs)]

pub mod affinity;
pub mod bus_name;
pub mod cdb;
pub mod decode;
pub mod disk;
pub mod ended;
pub mod error;
pub mod host;
pub mod image;
pub mod interrupt;
mod link;
mod mock;
pub mod open;
pub mod pattern;
pub mod pci;
pub mod recovery;
pub mod sense;
pub mod session;
pub mod silence;
pub mod tries;
pub mod waiting;
