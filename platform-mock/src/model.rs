//! x
pub mod chip;
mod doorbell;
mod message;
