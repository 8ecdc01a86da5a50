//! placeholder: the crate documentation is written when the house stands

#![no_std]
#![deny(missing_docs)]

#[cfg(test)]
extern crate std;

#[macro_use]
mod fmt;

mod admin;
pub mod bringup;
mod codes;
pub mod controller;
pub mod doorbell;
pub mod error;
pub mod generation;
pub mod log_info;
pub mod mem;
pub mod memory_plan;
pub mod outcome;
pub mod pages;
pub mod platform;
pub mod queue;
pub mod recovery;
pub mod regs;
pub mod scsi;
pub mod sgl;
pub mod shared;
pub mod slots;
pub mod targets;
pub mod trace;
pub mod wire;
