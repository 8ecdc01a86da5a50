//! What an export tells its user.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::Address;
use crate::export::figures::Board;
use crate::export::unit::Unit;
use crate::host::Host;

/// Something to tell the user.
#[derive(Clone, Debug)]
pub enum Note {
    /// Clients can choose a unit.
    Served {
        /// What it is.
        unit: Arc<Unit>,
        /// Its names, the lasting one first.
        names: Vec<String>,
        /// Where, and nowhere if it is for the kernel only.
        address: Option<Address>,
    },
    /// The kernel has attached a unit.
    Attached {
        /// What it is.
        unit: Arc<Unit>,
        /// `/dev/nbdN`.
        path: PathBuf,
        /// It was there already, served by an export that was killed.
        again: bool,
    },
    /// A unit is not served.
    LeftOut {
        /// Its target.
        target: u16,
        /// Its number there.
        lun: u8,
        /// Why.
        why: String,
    },
    /// Everything that was there at the beginning is served or left out.
    Ready {
        /// How many units are served.
        units: usize,
    },
    /// A unit is gone.
    Gone {
        /// What it was.
        unit: Arc<Unit>,
        /// Where the kernel had attached it.
        path: Option<PathBuf>,
        /// Who used that.
        users: Vec<String>,
    },
    /// A unit has grown.
    Grown {
        /// What it is now.
        unit: Arc<Unit>,
    },
    /// The end has begun.
    Stopping,
    /// A sentence.
    Said(String),
}

/// Who is told what happens, and is asked every second.
pub trait Watcher {
    /// Something has happened.
    fn note(&mut self, note: &Note);

    /// A second has passed; the controller is there to be asked, and what the export has done so far
    /// is on the board.
    fn second(&mut self, host: &mut dyn Host, board: &Board, units: usize);
}
