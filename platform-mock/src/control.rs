//! Turning a running model's knobs from another process: a control socket.
//!
//! A Unix stream socket takes one JSON object to a line, a [`Request`], and answers each with one
//! line, a [`Reply`], in order; any number of clients may be connected, and what they ask happens
//! one after the other, between two pieces of the firmware's work. [`Server`] and [`Client`] share
//! the types, so nobody takes text apart by hand:
//!
//! ```text
//! {"knob":"drop-replies","count":1}
//! {"done":"the replies to the next 1 SCSI commands will be lost"}
//! ```
//!
//! A [`Panel`] is what the requests end at: the controller and the files of its disks.

mod client;
mod disk_spec;
mod message;
mod panel;
mod server;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use client::{Client, ClientError};
pub use disk_spec::{DiskSpec, Medium};
pub use message::{DiskStatus, IocState, Level, Member, Reply, Request, Status, VolumeStatus};
pub use panel::Panel;
pub use server::Server;
pub use socket::{OwnSocket, SocketError};

use crate::in_process::MockBus;
use crate::model::Model;
#[cfg(target_os = "linux")]
use crate::vfio_user::Card;

/// Something with a model in it that runs by itself.
pub trait Controlled: Send + Sync + 'static {
    /// Calls `work` with the model, between two pieces of its work, and has whatever runs it look
    /// for new work afterwards.
    fn with_model<T>(&self, work: impl FnOnce(&mut Model) -> T) -> T;
}

impl Controlled for MockBus {
    fn with_model<T>(&self, work: impl FnOnce(&mut Model) -> T) -> T {
        MockBus::with_model(self, work)
    }
}

#[cfg(target_os = "linux")]
impl Controlled for Card {
    fn with_model<T>(&self, work: impl FnOnce(&mut Model) -> T) -> T {
        Card::with_model(self, work)
    }
}

impl<C: Controlled> Controlled for Arc<C> {
    fn with_model<T>(&self, work: impl FnOnce(&mut Model) -> T) -> T {
        C::with_model(self, work)
    }
}
