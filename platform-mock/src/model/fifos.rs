//! Queues in the chip, as MPI 1.x has them (mpi.h, "Request Queue", "Reply Queue").

use std::collections::VecDeque;

use crate::memory::{DeviceMemory, DmaFault};

use super::chip::Chip;
use super::message::{le16, le32};
use super::queues::{Answer, FAULT_BAD_ADDRESS, Posted, REQUEST_BYTES, Reply, Request};

const REQUEST_QUEUE: u32 = 0x40;
const REPLY_QUEUE: u32 = 0x44;
const HIGH_PRIORITY_QUEUE: u32 = 0x48;

const EMPTY: u32 = u32::MAX;
const ADDRESS_REPLY: u32 = 1 << 31;

/// FAULT code when a FIFO overflows (QEMU's, after the IOCStatus).
pub(crate) const FAULT_NO_RESOURCES: u16 = 6;

/// The FIFOs.
#[derive(Debug)]
pub(crate) struct Fifos {
    depth: usize,
    high_priority: bool,
    requests: VecDeque<u32>,
    urgent: VecDeque<u32>,
    replies: VecDeque<u32>,
    free: VecDeque<u32>,
    pub(crate) frame_high: u64,
    pub(crate) sense_high: u64,
    pub(crate) reply_bytes: u16,
}

impl Fifos {
    pub(crate) fn new(chip: &Chip) -> Self {
        let depth = usize::from(chip.reply_depth);
        Self {
            depth,
            high_priority: chip.capabilities & 1 != 0,
            requests: VecDeque::with_capacity(depth),
            urgent: VecDeque::new(),
            replies: VecDeque::with_capacity(depth),
            free: VecDeque::with_capacity(depth),
            frame_high: 0,
            sense_high: 0,
            reply_bytes: 0,
        }
    }

    /// Empties the FIFOs, as each reset does.
    pub(crate) fn reset(&mut self) {
        self.requests.clear();
        self.urgent.clear();
        self.replies.clear();
        self.free.clear();
    }

    /// Takes over what an IOC init request says.
    pub(crate) fn init(&mut self, request: &[u8]) -> Result<(), &'static str> {
        let reply_bytes = le16(request, 0x0c);
        // SeaBIOS's driver says 4, so more cannot be asked for: replies are cut to what it is.
        if reply_bytes < 4 {
            return Err("ReplyFrameSize");
        }
        self.reply_bytes = reply_bytes;
        self.frame_high = u64::from(le32(request, 0x10)) << 32;
        self.sense_high = u64::from(le32(request, 0x14)) << 32;
        Ok(())
    }

    /// Reads a register of the queues; `None` if it is none.
    pub(crate) fn read(&mut self, offset: u32) -> Option<u32> {
        (offset == REPLY_QUEUE).then(|| self.replies.pop_front().unwrap_or(EMPTY))
    }

    /// Writes a register of the queues; `Ok(false)` if it is none, `Err` with the code to stop with.
    pub(crate) fn write(&mut self, offset: u32, value: u32) -> Result<bool, u16> {
        let fifo = match offset {
            REQUEST_QUEUE => &mut self.requests,
            REPLY_QUEUE => &mut self.free,
            HIGH_PRIORITY_QUEUE if self.high_priority => &mut self.urgent,
            _ => return Ok(false),
        };
        if fifo.len() == self.depth {
            return Err(FAULT_NO_RESOURCES);
        }
        fifo.push_back(value);
        Ok(true)
    }

    /// The last word that the host has not read.
    pub(crate) fn last_reply(&mut self) -> Option<&mut u32> {
        self.replies.back_mut()
    }

    /// Whether the host has replies to read.
    pub(crate) fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Whether requests wait, and of them a task management request.
    pub(crate) fn waiting(&self) -> (bool, bool) {
        (!self.requests.is_empty(), !self.urgent.is_empty())
    }

    /// Fetches the next request; `urgent` ones only, or all.
    pub(crate) fn fetch(
        &mut self,
        memory: &dyn DeviceMemory,
        urgent_only: bool,
    ) -> Option<Result<Request, DmaFault>> {
        let (word, high_priority) = match self.urgent.pop_front() {
            Some(word) => (word, true),
            None if urgent_only => return None,
            None => (self.requests.pop_front()?, false),
        };
        Some(self.request(memory, word, high_priority))
    }

    /// Fetches all SCSI commands that wait, before what was posted ahead of them: task management
    /// that overtook them finds them so. What cannot be fetched stays, for its turn.
    pub(crate) fn fetch_commands(&mut self, memory: &dyn DeviceMemory) -> Vec<Request> {
        let mut commands = Vec::new();
        for word in std::mem::take(&mut self.requests) {
            match self.request(memory, word, false) {
                Ok(request) if matches!(request.frame[3], 0x00 | 0x16) => commands.push(request),
                _ => self.requests.push_back(word),
            }
        }
        commands
    }

    fn request(
        &self,
        memory: &dyn DeviceMemory,
        word: u32,
        high_priority: bool,
    ) -> Result<Request, DmaFault> {
        // Bits 1:0 say how much of the frame to fetch ahead.
        let at = self.frame_high | u64::from(word & !3);
        let mut frame = [0; REQUEST_BYTES];
        // The header first: a short message may end where the host's memory does.
        memory.read(at, &mut frame[..12])?;
        let bytes = longest(frame[3]);
        memory.read(at.wrapping_add(12), &mut frame[12..bytes])?;
        let key = le32(&frame, 8);
        Ok(Request { key, queue: 0, fast_path: false, high_priority, due: 0, at, frame })
    }

    /// Posts an answer. Where the host leaves no room, the IOC waits, as it does when events come
    /// on top of the replies to all the commands that there may be; QEMU's device stops instead.
    pub(crate) fn answer(&mut self, memory: &dyn DeviceMemory, reply: &Reply) -> Posted {
        if self.replies.len() == self.depth {
            return Posted::Full;
        }
        let word = match reply.answer {
            Answer::Success { .. } => reply.key & !ADDRESS_REPLY,
            Answer::Raw(word) => word as u32,
            Answer::Frame(message) => {
                let Some(low) = self.free.pop_front() else {
                    return Posted::Full;
                };
                let bytes = message.bytes();
                let bytes = &bytes[..bytes.len().min(usize::from(self.reply_bytes))];
                if memory.write(self.frame_high | u64::from(low), bytes).is_err() {
                    return Posted::Fault(FAULT_BAD_ADDRESS);
                }
                ADDRESS_REPLY | low >> 1
            }
        };
        self.replies.push_back(word);
        Posted::Yes
    }
}

/// Bytes of a request of this function before its list.
fn longest(function: u8) -> usize {
    match function {
        0x00 | 0x16 => 0x30,
        0x01 => 0x34,
        0x02 => 0x2c,
        0x04 => 0x28,
        0x08 => 0x14,
        // SMP passthrough, with two elements.
        0x1a => 0x38,
        // SAS IO unit control.
        0x1b => 0x20,
        _ => 0x0c,
    }
}
