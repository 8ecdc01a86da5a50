//! What a controller tells of itself, its links and everything behind them, in one picture: what
//! `mptctl show` prints.
//!
//! It is put together from configuration pages, of which each generation, firmware and board has
//! its own choice. A page that is refused, or ends before a field, leaves that field empty: it is
//! "not told", and nothing else is missing for it. Only a controller that is gone ends the picture.

mod board;
mod device;
mod facts;
mod links;
mod page;
mod raid;
mod shelves;

use serde::Serialize;

pub use board::{Board, PciLink, Temperature};
pub use device::{Attached, State};
pub use facts::Fact;
pub use links::{Phy, PhyErrors};
pub use raid::{Member, Volume};
pub use shelves::{Enclosure, Expander};

use crate::error::Error;
use crate::host::Host;
use page::Pages;

/// Everything behind a controller, and itself.
#[derive(Clone, Debug, Serialize)]
pub struct Inventory {
    /// The board.
    pub board: Board,
    /// What the IOC answered to IOC facts, field by field.
    pub facts: Vec<Fact>,
    /// The controller's own phys; `None` if it does not tell.
    pub phys: Option<Vec<Phy>>,
    /// Expanders, in the order of their handles.
    pub expanders: Vec<Expander>,
    /// Enclosures, in the order of their handles.
    pub enclosures: Vec<Enclosure>,
    /// Targets that are there, or were.
    pub devices: Vec<Attached>,
    /// RAID volumes.
    pub volumes: Vec<Volume>,
    /// Disks that RAID volumes are made of, or that stand by.
    pub members: Vec<Member>,
}

/// Asks the controller for everything.
///
/// # Errors
///
/// [`Error::Failed`] when the controller is gone or its recovery has failed; [`Error::Interrupted`]
/// when the user asks to stop.
pub fn take(host: &mut dyn Host) -> Result<Inventory, Error> {
    let facts = facts::of(host.bring_up());
    let mut pages = Pages::new(host);
    let phys = links::of_controller(&mut pages)?;
    let board = board::of(&mut pages, phys.as_deref())?;
    let expanders = shelves::expanders(&mut pages)?;
    let enclosures = shelves::enclosures(&mut pages)?;
    let (volumes, members) = raid::of(&mut pages)?;
    let devices = device::all(host, phys.as_deref(), &expanders, &enclosures)?;
    Ok(Inventory { board, facts, phys, expanders, enclosures, devices, volumes, members })
}

/// The controller's phys alone, with their error counters; `None` if it does not tell of them.
///
/// # Errors
///
/// As [`take`].
pub fn phys(host: &mut dyn Host) -> Result<Option<Vec<Phy>>, Error> {
    links::of_controller(&mut Pages::new(host))
}

/// The temperatures that the controller measures of itself, empty if it tells none.
///
/// # Errors
///
/// As [`take`].
pub fn temperatures(host: &mut dyn Host) -> Result<Vec<Temperature>, Error> {
    board::temperatures(&mut Pages::new(host))
}

#[cfg(test)]
mod tests;
