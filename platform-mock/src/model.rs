//! x
pub mod chip;
mod devices;
mod doorbell;
mod message;
mod sgl;
