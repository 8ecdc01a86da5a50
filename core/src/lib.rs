//! placeholder

#![no_std]
pub mod mem;
pub mod platform;
