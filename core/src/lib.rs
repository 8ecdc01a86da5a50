//! placeholder: the crate documentation is written when the house stands

#![no_std]
#![deny(missing_docs)]

#[cfg(test)]
extern crate std;

mod codes;
pub mod log_info;
pub mod mem;
pub mod outcome;
pub mod platform;
pub mod scsi;
pub mod sgl;
pub mod wire;
