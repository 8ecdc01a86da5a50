//! The controller's event log: entries that it tells the host of.

use super::super::Model;

/// `MPI2_EVENT_LOG_ENTRY_ADDED`, `MPI_EVENT_LOG_ENTRY_ADDED`.
const LOG_ENTRY_ADDED: u16 = 0x21;
/// `MPI2_EVENT_DATA_LOG_DATA_LENGTH`, `MPI_EVENT_DATA_LOG_ENTRY_DATA_LENGTH`.
const DATA_BYTES: usize = 0x1c;

/// What an entry of the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEntry {
    /// `LogEntryQualifier`: who wrote it, from 0x8000 on the implementation's own
    /// (`MPI2_LOG_0_ENTRY_QUAL_MIN_IMPLEMENT_SPEC`).
    pub qualifier: u16,
    /// `LogData`.
    pub data: [u8; DATA_BYTES],
}

impl Default for LogEntry {
    fn default() -> Self {
        Self { qualifier: 0x8000, data: [0; DATA_BYTES] }
    }
}

impl Model {
    /// Writes `count` entries into the log and tells the host of each by an event of its own, one
    /// after the other as fast as the host has room for them. Their sequence numbers go on from the
    /// last entry's. `acknowledge` asks for each to be acknowledged.
    pub fn fill_log(&mut self, count: u16, entry: &LogEntry, acknowledge: bool) {
        for _ in 0..count {
            self.knobs.log_sequence = self.knobs.log_sequence.wrapping_add(1);
            let sequence = self.knobs.log_sequence;
            let milliseconds = self.now / 1_000_000;
            let mut data = Vec::with_capacity(0x30);
            if self.chip.is_mpi1() {
                // EVENT_DATA_LOG_ENTRY_ADDED: the sequence, then the entry with it once more.
                data.extend(sequence.to_le_bytes());
                data.extend([0; 6]);
                data.extend((milliseconds as u32).to_le_bytes());
                data.extend([0; 4]);
                data.extend(sequence.to_le_bytes());
                data.extend(entry.qualifier.to_le_bytes());
            } else {
                // MPI2_EVENT_DATA_LOG_ENTRY_ADDED.
                data.extend(milliseconds.to_le_bytes());
                data.extend([0; 4]);
                data.extend(sequence.to_le_bytes());
                data.extend(entry.qualifier.to_le_bytes());
                data.extend([0; 4]);
            }
            data.extend(entry.data);
            self.raise_event(LOG_ENTRY_ADDED, data, acknowledge);
        }
    }
}
