//! Queues in the host's memory, as MPI 2.x has them (mpi2.h, "Request Descriptors", "Reply
//! Descriptors").

use std::collections::VecDeque;

use crate::memory::{DeviceMemory, DmaFault};

use super::chip::Chip;
use super::coalescing::Coalescing;
use super::message::{le16, le32, le64};
use super::queues::{Answer, FAULT_BAD_ADDRESS, Posted, REQUEST_BYTES, Reply, Request};

const REPLY_FREE_HOST_INDEX: u32 = 0x48;
const REPLY_POST_HOST_INDEX: u32 = 0x6c;
const POST_LOW: u32 = 0xc0;
const POST_HIGH: u32 = 0xc4;
const POST_ATOMIC: u32 = 0xc8;
/// Requests that wait at most: each has a SMID of 16 bits.
const MOST_REQUESTS: usize = 1 << 16;
const SUPPLEMENTAL: std::ops::RangeInclusive<u32> = 0x30c..=0x3fc;

const HIGH_PRIORITY: u8 = 0x06;
const FAST_PATH: u8 = 0x0c;

/// A reply post queue.
#[derive(Debug, Clone, Copy)]
struct Ring {
    at: u64,
    /// Where the next descriptor goes.
    next: u32,
    /// The next that the host will read.
    host: u32,
}

/// The queues, as IOC init laid them out.
#[derive(Debug)]
pub(crate) struct Rings {
    frames: u64,
    frame_bytes: u32,
    pub(crate) sense_high: u64,
    reply_high: u64,
    reply_bytes: u32,
    rings: Vec<Ring>,
    depth: u32,
    free: u64,
    free_depth: u32,
    free_host: u32,
    free_next: u32,
    supplemental: bool,
    requests: VecDeque<u64>,
    urgent: VecDeque<u64>,
    /// The low half of a descriptor posted in two writes.
    low: u32,
    /// A bit for each SMID that is outstanding.
    outstanding: Vec<u64>,
    /// Interrupts that are held back.
    pub(crate) coalescing: Coalescing,
    now: u64,
    /// A bit for each vector that has fired since it was last asked.
    pub(crate) vectors: u128,
}

impl Rings {
    pub(crate) fn new(chip: &Chip) -> Self {
        Self {
            frames: 0,
            frame_bytes: 0,
            sense_high: 0,
            reply_high: 0,
            reply_bytes: u32::from(chip.reply_frame_bytes),
            rings: Vec::new(),
            depth: 0,
            free: 0,
            free_depth: 0,
            free_host: 0,
            free_next: 0,
            supplemental: chip.supplemental(),
            requests: VecDeque::with_capacity(1024),
            urgent: VecDeque::new(),
            low: 0,
            outstanding: vec![0; 1024],
            coalescing: Coalescing::new(0, 0, 0, 0),
            now: 0,
            vectors: 0,
        }
    }

    /// Drops everything, as each reset does.
    pub(crate) fn reset(&mut self) {
        self.requests.clear();
        self.urgent.clear();
        self.rings.clear();
        self.depth = 0;
        self.outstanding.fill(0);
        // Nothing that was held back is told of any more.
        self.coalescing.due(u64::MAX);
        self.vectors = 0;
    }

    /// Takes over what an IOC init request says. `Err` names the field that cannot be.
    pub(crate) fn init(
        &mut self,
        memory: &dyn DeviceMemory,
        chip: &Chip,
        request: &[u8],
    ) -> Result<(), &'static str> {
        let queues = request[0x17].max(1);
        let frame_bytes = u32::from(le16(request, 0x1a)) * 4;
        let depth = u32::from(le16(request, 0x1c));
        let free_depth = u32::from(le16(request, 0x1e));
        let array = request[0x07] & 1 != 0;
        let frames = le64(request, 0x28);
        let post = le64(request, 0x30);
        let free = le64(request, 0x38);
        if queues > chip.vectors {
            return Err("HostMSIxVectors");
        }
        if frame_bytes < 128 || frame_bytes > u32::from(chip.request_frame_bytes) {
            return Err("SystemRequestFrameSize");
        }
        if depth < 16 || depth % 16 != 0 || depth > u32::from(chip.reply_depth) {
            return Err("ReplyDescriptorPostQueueDepth");
        }
        if free_depth < 16 || free_depth % 16 != 0 {
            return Err("ReplyFreeQueueDepth");
        }
        if frames == 0 || !frames.is_multiple_of(16) {
            return Err("SystemRequestFrameBaseAddress");
        }
        if post == 0 || !post.is_multiple_of(16) {
            return Err("ReplyDescriptorPostQueueAddress");
        }
        if free == 0 || !free.is_multiple_of(16) || !one_window(free, free_depth * 4) {
            return Err("ReplyFreeQueueAddress");
        }
        if array && chip.capabilities & super::chip::CAPABILITY_RDPQ == 0 {
            return Err("MsgFlags");
        }
        self.reset();
        for queue in 0..u64::from(queues) {
            let at = if array {
                memory
                    .read_u64(post.wrapping_add(queue * 16))
                    .map_err(|_| "the queue array's address")?
            } else {
                post.wrapping_add(queue * u64::from(depth) * 8)
            };
            if at % 16 != 0 || !one_window(at, depth * 8) {
                return Err("the address of a reply post queue");
            }
            self.rings.push(Ring { at, next: 0, host: 0 });
        }
        self.depth = depth;
        self.frames = frames;
        self.frame_bytes = frame_bytes;
        self.free = free;
        self.free_depth = free_depth;
        self.free_host = 0;
        self.free_next = 0;
        self.sense_high = u64::from(le32(request, 0x20)) << 32;
        self.reply_high = u64::from(le32(request, 0x24)) << 32;
        Ok(())
    }

    /// Writes a register of the queues; `Ok(false)` if it is none, `Err` with a complaint.
    pub(crate) fn write(&mut self, offset: u32, value: u32) -> Result<bool, String> {
        match offset {
            REPLY_FREE_HOST_INDEX => {
                if value >= self.free_depth {
                    return Err(format!(
                        "the reply free host index was set to {value}, the queue has {} entries",
                        self.free_depth
                    ));
                }
                self.free_host = value;
            }
            REPLY_POST_HOST_INDEX => {
                if self.supplemental {
                    return Err("the first reply post host index register was written, which a chip with supplemental ones does not look at".into());
                }
                return self.host_index(value >> 24, value & 0x00ff_ffff);
            }
            POST_LOW => self.low = value,
            POST_HIGH => self.post(u64::from(value) << 32 | u64::from(self.low))?,
            POST_ATOMIC => self.post(u64::from(value))?,
            offset if SUPPLEMENTAL.contains(&offset) && offset % 16 == 0xc => {
                if !self.supplemental {
                    return Err("a supplemental host index register was written, which this chip does not have".into());
                }
                let group = (offset - SUPPLEMENTAL.start()) / 16;
                return self.host_index(group * 8 + (value >> 24 & 7), value & 0x00ff_ffff);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Coalesces replies so from now on; what was held back goes out.
    pub(crate) fn set_coalescing(&mut self, coalescing: Coalescing) {
        self.vectors |= self.coalescing.due(u64::MAX);
        self.coalescing = coalescing;
    }

    /// Time passes: interrupts that were held back for long enough are due.
    pub(crate) fn set_now(&mut self, now: u64) {
        self.now = now;
        self.vectors |= self.coalescing.due(now);
    }

    /// Takes a descriptor that came in one 64-bit write.
    ///
    /// # Errors
    ///
    /// A complaint, if there are as many as SMIDs already: no host has so many commands.
    pub(crate) fn post(&mut self, descriptor: u64) -> Result<(), String> {
        if self.requests.len() + self.urgent.len() >= MOST_REQUESTS {
            return Err("more requests were posted than there are SMIDs".into());
        }
        if descriptor as u8 & 0x0e == HIGH_PRIORITY {
            self.urgent.push_back(descriptor);
        } else {
            self.requests.push_back(descriptor);
        }
        Ok(())
    }

    fn host_index(&mut self, queue: u32, index: u32) -> Result<bool, String> {
        let depth = self.depth;
        match self.rings.get_mut(queue as usize) {
            Some(ring) if index < depth => {
                ring.host = index;
                Ok(true)
            }
            _ => Err(format!(
                "the host index of reply queue {queue} was set to {index}, with {} queues of {depth}",
                self.rings.len()
            )),
        }
    }

    /// Whether the host has replies to read.
    pub(crate) fn has_replies(&self) -> bool {
        self.rings.iter().any(|ring| ring.host != ring.next)
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
        complain: &mut dyn FnMut(String),
    ) -> Option<Result<Request, DmaFault>> {
        let descriptor = match self.urgent.pop_front() {
            Some(descriptor) => descriptor,
            None if urgent_only => return None,
            None => self.requests.pop_front()?,
        };
        let kind = descriptor as u8 & 0x0e;
        let queue = (descriptor >> 8) as u8;
        let smid = (descriptor >> 16) as u16;
        let at = self.frames.wrapping_add(u64::from(smid) * u64::from(self.frame_bytes));
        if smid == 0 || usize::from(queue) >= self.rings.len() {
            complain(format!(
                "request descriptor {descriptor:#018x} names SMID 0 or a reply queue that there is not"
            ));
            return Some(Err(DmaFault { at, bytes: 0 }));
        }
        let bit = 1 << (smid % 64);
        let word = &mut self.outstanding[usize::from(smid / 64)];
        if *word & bit != 0 {
            complain(format!("SMID {smid} was posted while it was outstanding"));
        }
        *word |= bit;
        let mut frame = [0; REQUEST_BYTES];
        if let Err(fault) = memory.read(at, &mut frame) {
            return Some(Err(fault));
        }
        let is_scsi = frame[3] == 0 || frame[3] == 0x16;
        let handle = (descriptor >> 48) as u16;
        // RAID passthrough goes either way: mpt3sas posts it as a default request.
        if matches!(kind, 0x00 | FAST_PATH) != is_scsi && frame[3] != 0x16 {
            complain(format!(
                "function {:#04x} was posted with descriptor {descriptor:#018x}, of another type",
                frame[3]
            ));
        } else if matches!(kind, 0x00 | FAST_PATH) && handle != 0 && handle != le16(&frame, 0) {
            complain(format!("descriptor {descriptor:#018x} and its frame name different devices"));
        }
        Some(Ok(Request {
            key: smid.into(),
            queue,
            fast_path: kind == FAST_PATH,
            high_priority: kind == HIGH_PRIORITY,
            due: 0,
            at,
            frame,
        }))
    }

    /// Takes those SCSI commands for a device out of the queue, not fetched yet, that `matches`
    /// chooses: task management finds them there too.
    pub(crate) fn withdraw(
        &mut self,
        memory: &dyn DeviceMemory,
        handle: u16,
        matches: &dyn Fn(&Request) -> bool,
    ) -> Vec<Request> {
        let mut withdrawn = Vec::new();
        let frames = (self.frames, u64::from(self.frame_bytes), self.rings.len());
        self.requests.retain(|descriptor| {
            let kind = *descriptor as u8 & 0x0e;
            let (queue, smid) = ((descriptor >> 8) as u8, (descriptor >> 16) as u16);
            let named = (descriptor >> 48) as u16;
            let is_io = kind != HIGH_PRIORITY && (named == 0 || named == handle);
            if !is_io || smid == 0 || usize::from(queue) >= frames.2 {
                return true;
            }
            let at = frames.0.wrapping_add(u64::from(smid) * frames.1);
            let mut frame = [0; REQUEST_BYTES];
            if memory.read(at, &mut frame).is_err() {
                return true;
            }
            let request = Request {
                key: smid.into(),
                queue,
                fast_path: kind == FAST_PATH,
                high_priority: false,
                due: 0,
                at,
                frame,
            };
            let takes = matches!(frame[3], 0x00 | 0x16) && matches(&request);
            if takes {
                withdrawn.push(request);
            }
            !takes
        });
        withdrawn
    }

    /// Bytes of a request frame.
    pub(crate) fn frame_bytes(&self) -> u32 {
        self.frame_bytes
    }

    /// Posts an answer.
    pub(crate) fn answer(&mut self, memory: &dyn DeviceMemory, reply: &Reply) -> Posted {
        let depth = self.depth;
        let Some(ring) = self.rings.get(usize::from(reply.queue)).copied() else {
            return Posted::Yes;
        };
        let next = if ring.next + 1 == depth { 0 } else { ring.next + 1 };
        if next == ring.host {
            return Posted::Full;
        }
        let head = u64::from(reply.queue) << 8 | u64::from(reply.key as u16) << 16;
        let descriptor = match reply.answer {
            Answer::Success { fast_path } => head | if fast_path { 6 } else { 0 },
            Answer::Raw(word) => word,
            Answer::Frame(message) => {
                if self.free_next == self.free_host {
                    return Posted::Full;
                }
                let entry = self.free + u64::from(self.free_next) * 4;
                let Ok(low) = memory.read_u32(entry) else {
                    return Posted::Fault(FAULT_BAD_ADDRESS);
                };
                // Only as much as the message has: the rest of the frame stays as it was.
                let bytes = message.bytes();
                let bytes = &bytes[..bytes.len().min(self.reply_bytes as usize)];
                if memory.write(self.reply_high | u64::from(low), bytes).is_err() {
                    return Posted::Fault(FAULT_BAD_ADDRESS);
                }
                self.free_next =
                    if self.free_next + 1 == self.free_depth { 0 } else { self.free_next + 1 };
                head | 1 | u64::from(low) << 32
            }
        };
        if memory.publish(ring.at + u64::from(ring.next) * 8, descriptor).is_err() {
            return Posted::Fault(FAULT_BAD_ADDRESS);
        }
        if !matches!(reply.answer, Answer::Raw(_)) {
            self.forget(reply.key);
        }
        self.rings[usize::from(reply.queue)].next = next;
        self.vectors |= self.coalescing.reply(reply.queue, self.now);
        Posted::Yes
    }

    /// Counts a SMID as answered.
    pub(crate) fn forget(&mut self, key: u32) {
        if let Some(word) = self.outstanding.get_mut(key as usize / 64) {
            *word &= !(1 << (key % 64));
        }
    }
}

/// Whether `bytes` from `at` on lie in one 4 GiB window.
fn one_window(at: u64, bytes: u32) -> bool {
    at.checked_add(u64::from(bytes.max(1)) - 1).is_some_and(|last| at >> 32 == last >> 32)
}
