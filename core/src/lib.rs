//! A driver core for LSI/Broadcom Fusion-MPT storage controllers.
//!
//! `no_std`, no allocator, no threads, no clock and no panics of its own. It speaks MPI 1.x
//! (SAS1064 to SAS1068E) and MPI 2.0, 2.5 and 2.6 (SAS2004 to SAS3916); MegaRAID Fusion has its
//! place and is not built yet. A platform crate binds it to a world: a macOS DriverKit extension,
//! Linux user space, a software controller for tests.
//!
//! # The layers
//!
//! Arrows point down only: a layer knows the ones below it.
//!
//! | layer | modules | knows |
//! |---|---|---|
//! | the driver | [`bringup`], [`controller`], `startup`, `admin`, [`recovery`], [`targets`] | everything below |
//! | one queue | [`io_queue`], with [`slots`], `deadlines`, `throttle`, [`shared`], `standing`, `sync`, [`trace`] | a generation |
//! | generations | [`generation`]: `Mpi1`, `Mpi2`, and the table of chips; [`queue`]: rings and FIFOs | [`memory_plan`], [`doorbell`] |
//! | in neutral terms | [`facts`], [`request`], [`reply`], [`pages`], [`sgl`], [`outcome`], [`log_info`] | the wire |
//! | the wire | [`wire`], [`scsi`] | bytes only |
//! | the boundary | [`platform`], [`mem`], [`regs`] | nothing |
//!
//! # What a platform does
//!
//! 1. Implements [`Registers`](platform::Registers) for its BAR access and
//!    [`DmaRegion`](platform::DmaRegion) for its memory.
//! 2. Finds the [`Chip`](generation::chips::Chip) by its PCI id, and with it the generation.
//! 3. Walks the typestates: [`Reset`](bringup::Reset) → [`Ready`](bringup::Ready), which gives a
//!    [`MemoryPlan`](memory_plan::MemoryPlan) → [`Controller`](controller::Controller).
//! 4. Submits commands, polls, ticks, and acts on actions.
//!
//! ```
//! use embedded_hal::delay::DelayNs;
//! use fusion_mpt::bringup::{Reset, Tables};
//! use fusion_mpt::controller::Action;
//! use fusion_mpt::error::Error;
//! use fusion_mpt::generation::{Mpi2, chips::Chip};
//! use fusion_mpt::memory_plan::{MemoryPlan, Wants};
//! use fusion_mpt::platform::{DmaRegion, Registers};
//!
//! fn drive<R: Registers, D: DmaRegion>(
//!     registers: R,
//!     chip: &'static Chip,
//!     allocate: impl Fn(&MemoryPlan) -> D,
//!     tables: Tables<'_>,
//!     delay: &mut impl DelayNs,
//! ) -> Result<(), Error> {
//!     let ready = Reset::<Mpi2, R>::new(registers, chip).make_ready(delay)?;
//!     let plan = ready.plan(&Wants::default())?;
//!     let mut controller = ready.start(&plan, allocate(&plan), tables, 0, delay)?;
//!     while let Some(action) = controller.next_action() {
//!         if let Action::TargetAppeared(id) = action {
//!             // The target takes commands from now on: `controller.submit(id, ...)`.
//!             let _ = controller.target(id);
//!         }
//!     }
//!     controller.poll(|completion| {
//!         // Each accepted command comes back here exactly once.
//!         let _ = (completion.cookie, completion.outcome);
//!     });
//!     Ok(())
//! }
//! ```
//!
//! # Safety model
//!
//! `unsafe` is denied in this crate but for `platform.rs` and `mem.rs`, where each use says why it
//! is sound. The controller is not trusted: it may sit at the end of a cable. Whatever it writes is
//! copied out of shared memory once and held against a private record; what cannot be true is
//! counted ([`trace::Counters::lies`]) and ignored. A status register that reads as all ones means
//! that the controller is gone: it is not touched again, and everything outstanding completes.
//!
//! # Features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `mpi1` | yes | MPI 1.x |
//! | `mpi2` | yes | MPI 2.0, 2.5 and 2.6 |
//! | `defmt` | no | logs through defmt; without it logging compiles to nothing |

#![no_std]
#![deny(missing_docs)]
#![deny(unsafe_code)]

#[cfg(not(any(feature = "mpi1", feature = "mpi2")))]
compile_error!("fusion-mpt needs at least one of the features `mpi1` and `mpi2`");

#[cfg(test)]
extern crate std;

#[macro_use]
mod fmt;

mod admin;
pub mod bringup;
mod codes;
pub mod controller;
mod deadlines;
pub mod doorbell;
pub mod error;
pub mod facts;
pub mod generation;
pub mod io_queue;
pub mod log_info;
#[allow(unsafe_code, reason = "one of the two modules that may; see the crate documentation")]
pub mod mem;
pub mod memory_plan;
pub mod outcome;
pub mod pages;
#[allow(unsafe_code, reason = "one of the two modules that may; see the crate documentation")]
pub mod platform;
pub mod queue;
pub mod recovery;
pub mod regs;
pub mod reply;
pub mod request;
pub mod scsi;
pub mod sgl;
pub mod shared;
pub mod slots;
mod standing;
mod startup;
mod sync;
pub mod targets;
mod throttle;
pub mod trace;
pub mod wire;
