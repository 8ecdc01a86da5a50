//! Logical units as block devices of this machine.
//!
//! ```text
//! kernel's block layer                      this process                                controller
//!   /dev/ublkb0  queue 0 ──┐
//!   /dev/ublkb1  queue 0 ──┴─ ring ── main thread: engine ── host's own queue      ──── reply queue 0
//!   /dev/ublkb0  queue 1 ──┐
//!   /dev/ublkb1  queue 1 ──┴─ ring ── thread 1:    engine ── further queue 1       ──── reply queue 1
//!                                     control thread: makes, starts, stops devices
//! ```
//!
//! [`mod@unit`] is what a logical unit says of itself that a block layer wants to know, [`block`] how a
//! block layer's wish becomes CDBs and how their outcome becomes an errno, [`engine`] what stands
//! between the two for one thread: tags, their buffers, what waits and what is tried again. [`ublk`]
//! is the kernel's side of it, [`nbd`] that of a network block device; [`manager`] decides which units
//! are exported and follows what happens to them, [`state`] notes which device is which unit, for the
//! next export and for udev, and [`figures`] is what has been done.

pub mod block;
pub mod engine;
pub mod figures;
#[cfg(target_os = "linux")]
pub mod manager;
#[cfg(target_os = "linux")]
pub mod nbd;
pub mod notes;
#[cfg(target_os = "linux")]
pub mod state;
#[cfg(target_os = "linux")]
pub mod ublk;
pub mod unit;

/// Where an export notes which unit is which block device.
pub const FOLDER: &str = "/run/mptctl";
