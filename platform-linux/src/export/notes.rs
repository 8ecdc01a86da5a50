//! What an export tells, and whom.

use std::path::PathBuf;
use std::sync::Arc;

use crate::export::figures::Board;
use crate::export::unit::Unit;
use crate::host::Host;

/// A block device.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Its number.
    pub device: u32,
    /// `/dev/ublkbN`.
    pub path: PathBuf,
    /// What is behind it.
    pub unit: Arc<Unit>,
    /// What identifies that for ever.
    pub identity: Option<String>,
    /// Its queues.
    pub queues: u16,
    /// Tags of each.
    pub depth: u16,
    /// Bytes of the largest request.
    pub buffer_bytes: u32,
    /// It was there already, served by an export that was killed.
    pub recovered: bool,
}

/// Something to tell the user.
#[derive(Clone, Debug)]
pub enum Note {
    /// A unit is a block device now.
    Exported(Exported),
    /// A unit is not exported.
    LeftOut {
        /// Its target.
        target: u16,
        /// Its number there.
        lun: u8,
        /// Why.
        why: String,
    },
    /// Everything that was there at the beginning has been exported or left out.
    Ready {
        /// How many devices there are.
        devices: usize,
    },
    /// A device has ended.
    Ended {
        /// Its number.
        device: u32,
        /// Who used it.
        users: Vec<String>,
        /// Why.
        why: String,
    },
    /// A unit has grown.
    Grown {
        /// Its device.
        device: u32,
        /// To how many bytes.
        bytes: u64,
        /// Why the device has not.
        but: Option<String>,
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
    fn second(&mut self, host: &mut dyn Host, board: &Board, devices: usize);
}
