//! What the fuzz targets do, one function each: the programs in `targets/` only hand the engine's
//! bytes over.
//!
//! Each function reads its bytes in order and takes zero for what is not there, so that every input
//! means something, a seed can be written by hand, and a longer input does what its beginning does
//! and then more. What must hold is asserted here; that nothing panics, runs for ever or touches
//! memory that is not its own is the engine's and the sanitizer's to find.

#![deny(missing_docs)]

pub mod arbitrary_driver;
pub mod card;
mod contract;
pub mod hostile_controller;
pub mod input;
pub mod lies;
pub mod memory;
pub mod seeds;
pub mod targets_scsi;
pub mod vfio_user_messages;
