//! How an answer leaves at last: whole or torn, as it is or with bits flipped, now or later.

use std::cell::RefCell;
use std::fs::File;

use crate::memory::{DeviceMemory, DmaFault, Segment, TransferError};
use crate::model::Model;
use crate::model::tap::{Answer, Reply};

use super::Passing;

/// How an answer is torn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tear {
    /// The upper half is written first.
    pub(super) upper_first: bool,
    /// When the other half is written; never, if `None`.
    pub(super) rest_at: Option<u64>,
}

/// Something that goes out later.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a few at a time")]
enum Thing {
    Reply(Passing),
    /// The missing half of something.
    Bytes(u64, Vec<u8>),
}

/// What goes out later, by time; of the same time, in the order that it came.
#[derive(Debug, Default)]
pub(super) struct Late {
    things: Vec<(u64, Thing)>,
}

impl Late {
    fn insert(&mut self, due: u64, thing: Thing) {
        let place = self.things.partition_point(|(other, _)| *other <= due);
        self.things.insert(place, (due, thing));
    }

    /// Keeps an answer until its time has come.
    pub(super) fn push(&mut self, passing: Passing) {
        self.insert(passing.due, Thing::Reply(passing));
    }

    /// When the next goes out.
    pub(super) fn next(&self) -> Option<u64> {
        self.things.first().map(|(due, _)| *due).filter(|due| *due != u64::MAX)
    }

    /// Forgets everything, as a reset does.
    pub(super) fn clear(&mut self) {
        self.things.clear();
    }

    /// Takes the answers that are whole.
    pub(super) fn take_replies(&mut self) -> Vec<Reply> {
        let whole = |(_, thing)| match thing {
            Thing::Reply(passing) => Some(passing.reply),
            Thing::Bytes(..) => None,
        };
        self.things.drain(..).filter_map(whole).collect()
    }

    /// Lets the next go if it is due; whether it was.
    pub(super) fn release(&mut self, model: &mut Model, memory: &dyn DeviceMemory) -> bool {
        if self.things.first().is_none_or(|(due, _)| *due > model.now()) {
            return false;
        }
        match self.things.remove(0).1 {
            Thing::Reply(passing) => post(model, memory, passing, self),
            Thing::Bytes(at, bytes) => {
                // The host's memory may be gone by now, as on a real bus.
                let _ = memory.write(at, &bytes);
            }
        }
        true
    }
}

/// Host memory through which a descriptor passes torn or bent.
struct Bent<'a> {
    memory: &'a dyn DeviceMemory,
    flips: u64,
    tear: Option<Tear>,
    /// Tear writes of several bytes, which is reply frames: MPI1.
    frames: bool,
    /// What is missing.
    missing: RefCell<Vec<(u64, Vec<u8>)>>,
    /// The descriptor that was written.
    published: RefCell<Option<u64>>,
}

impl Bent<'_> {
    /// Writes one half and keeps the other.
    fn torn(&self, at: u64, bytes: &[u8], upper_first: bool) -> Result<(), DmaFault> {
        let middle = bytes.len() / 2;
        let (low, high) = bytes.split_at(middle);
        let upper = (at.wrapping_add(middle as u64), high);
        let (first, rest) = if upper_first { (upper, (at, low)) } else { ((at, low), upper) };
        self.memory.write(first.0, first.1)?;
        self.missing.borrow_mut().push((rest.0, rest.1.to_vec()));
        Ok(())
    }
}

impl DeviceMemory for Bent<'_> {
    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), DmaFault> {
        self.memory.read(at, bytes)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        match self.tear {
            Some(tear) if self.frames => self.torn(at, bytes, tear.upper_first),
            _ => self.memory.write(at, bytes),
        }
    }

    fn publish(&self, at: u64, value: u64) -> Result<(), DmaFault> {
        let value = value ^ self.flips;
        *self.published.borrow_mut() = Some(value);
        match self.tear {
            Some(tear) if !self.frames => self.torn(at, &value.to_le_bytes(), tear.upper_first),
            _ => self.memory.publish(at, value),
        }
    }

    fn fill_from_file(
        &self,
        segments: &[Segment],
        file: &File,
        offset: u64,
    ) -> Result<(), TransferError> {
        self.memory.fill_from_file(segments, file, offset)
    }

    fn store_to_file(
        &self,
        segments: &[Segment],
        file: &File,
        offset: u64,
    ) -> Result<(), TransferError> {
        self.memory.store_to_file(segments, file, offset)
    }
}

/// Posts an answer as it was bent; what is missing of it goes to `late`.
pub(super) fn post(
    model: &mut Model,
    memory: &dyn DeviceMemory,
    passing: Passing,
    late: &mut Late,
) {
    let Passing { reply, flips, tear, again, .. } = passing;
    if flips == 0 && tear.is_none() && !again {
        model.let_out(memory, reply);
        return;
    }
    let mpi1 = model.chip().is_mpi1();
    let bent = Bent {
        memory,
        flips,
        tear,
        frames: mpi1,
        missing: RefCell::default(),
        published: RefCell::default(),
    };
    let waits = model.let_out(&bent, reply);
    let Bent { missing, published, .. } = bent;
    if let Some(at) = tear.and_then(|tear| tear.rest_at) {
        for (address, bytes) in missing.into_inner() {
            late.insert(at, Thing::Bytes(address, bytes));
        }
    }
    // A host that leaves no room gets the answer as it is, later.
    if waits {
        return;
    }
    let mut word = published.into_inner();
    if let Some(last) = model.last_word() {
        *last ^= flips as u32;
        word = Some((*last).into());
    }
    if let (true, Some(word)) = (again, word) {
        model.let_out(memory, Reply { answer: Answer::Raw(word), ..reply });
    }
}
