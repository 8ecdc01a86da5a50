//! What stands between block devices and one queue of a controller, for one thread.
//!
//! Each device has tags, each tag a buffer of its own. A front (ublk, NBD) starts a request under a
//! tag and is told once how it ended. In between the engine makes commands of it, sends again what
//! may run twice, and keeps what the controller does not take at the moment. Nothing is allocated
//! or locked on the way of a request that goes well.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fusion_mpt::io_queue::Completion;
use fusion_mpt::outcome::Outcome;
use fusion_mpt::sgl::Direction;

use crate::ended::Ended;
use crate::error::Error;
use crate::export::block::{self, Data, Errno, Operation, Patience, Verdict};
use crate::export::unit::Unit;
use crate::host::{Buffer, CommandQueue, KEPT_COOKIE, OWN_COOKIE, Request};

/// A device of an engine, by its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceIndex(pub u16);

/// What has started requests and is told how they end.
pub trait Front {
    /// The request under this tag has ended: with this many bytes moved (of those without data, the
    /// bytes of their range, as far as 32 bits go), or not at all. The tag is free from now on.
    fn complete(&mut self, device: DeviceIndex, tag: u16, result: Result<u32, Errno>);
}

/// How often a command is sent again at once.
const ATTEMPTS: u32 = 8;
/// How long a device may be full, or busy.
const FULL_LIMIT: Duration = Duration::from_secs(60);
/// How long a disk may take to become ready.
const SPIN_UP_LIMIT: Duration = Duration::from_secs(120);
/// Between tries of a full device, and of one that becomes ready.
const FULL_PAUSE: Duration = Duration::from_millis(2);
const SPIN_UP_PAUSE: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The front has the tag.
    Free,
    /// To be sent: in its device's backlog.
    Waiting,
    /// To be sent, not before some time: in `later`.
    Later,
    /// The controller has its command.
    Sent,
}

/// A request.
#[derive(Debug)]
struct Slot {
    state: State,
    buffer: Buffer,
    /// What the present command is about: a forced write may end in a flush of its own.
    operation: Operation,
    /// It is to end in a flush.
    then_flush: bool,
    /// What is left of it, the present command's blocks included.
    lba: u64,
    blocks: u64,
    /// Blocks and bytes of data of the present command.
    command_blocks: u32,
    command_bytes: u32,
    /// Bytes of the request that have been done, and of the whole of it.
    done: u64,
    total: u64,
    tries: u32,
    /// When its first refusal came.
    refused_at: Option<Duration>,
}

#[derive(Debug)]
struct Device {
    unit: Arc<Unit>,
    slots: Vec<Slot>,
    backlog: VecDeque<u16>,
    /// It ends everything with an error.
    gone: bool,
    capacity_changed: bool,
}

/// What an engine has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCounters {
    /// Reads, writes, flushes, and discards with write-zeroes, that ended well.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Discards and write-zeroes.
    pub trims: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Commands that were sent again.
    pub sent_again: u64,
}

/// Requests of block devices on their way through one queue of a controller.
#[derive(Debug, Default)]
pub struct Engine {
    devices: Vec<Option<Device>>,
    /// Requests that have been started and have not ended.
    started: u32,
    /// Of them, those that are in a backlog.
    waiting: u32,
    /// Those that are sent again when their time has come.
    later: Vec<(Duration, DeviceIndex, u16)>,
    /// What ended before it was sent: told at the next poll.
    ended: Vec<(DeviceIndex, u16, Errno)>,
    /// Commands that did not simply end well, or are not the last of their request.
    unsettled: Vec<(DeviceIndex, u16, Ended)>,
    counters: EngineCounters,
    complaint: Option<(DeviceIndex, Error)>,
    /// The last look at the controller has found something.
    found: bool,
}

const fn cookie(device: DeviceIndex, tag: u16) -> u64 {
    KEPT_COOKIE | (device.0 as u64) << 16 | tag as u64
}

fn parts(cookie: u64) -> Option<(DeviceIndex, u16)> {
    let number = cookie.checked_sub(KEPT_COOKIE).filter(|_| cookie < OWN_COOKIE)?;
    let number = u32::try_from(number).ok()?;
    Some((DeviceIndex((number >> 16) as u16), number as u16))
}

fn slot_of(devices: &mut [Option<Device>], device: DeviceIndex, tag: u16) -> Option<&mut Slot> {
    devices.get_mut(usize::from(device.0))?.as_mut()?.slots.get_mut(usize::from(tag))
}

impl Engine {
    /// An engine without devices.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a device on whose tag `n` moves its data through `buffers[n]`, each of the same length:
    /// at least a page and a block.
    pub fn attach(&mut self, unit: Arc<Unit>, buffers: Vec<Buffer>) -> DeviceIndex {
        let slots: Vec<Slot> = buffers.into_iter().map(Slot::new).collect();
        let backlog = VecDeque::with_capacity(slots.len());
        let device = Device { unit, slots, backlog, gone: false, capacity_changed: false };
        let tags: usize = device.slots.len();
        self.later.reserve(tags);
        self.ended.reserve(tags);
        let free = self.devices.iter().position(Option::is_none);
        match free.and_then(|free| Some((free, self.devices.get_mut(free)?))) {
            Some((index, place)) => {
                *place = Some(device);
                DeviceIndex(index as u16)
            }
            None => {
                self.devices.push(Some(device));
                DeviceIndex(self.devices.len() as u16 - 1)
            }
        }
    }

    /// Lets a device go, if nothing of it is under way any more: its buffers come back.
    pub fn detach(&mut self, device: DeviceIndex) -> Option<Vec<Buffer>> {
        let place = self.devices.get_mut(usize::from(device.0))?;
        let idle = |device: &Device| device.slots.iter().all(|slot| slot.state == State::Free);
        let device = place.take_if(|device| idle(device))?;
        Some(device.slots.into_iter().map(|slot| slot.buffer).collect())
    }

    /// The buffer of a tag: the front's own while no request is under way there.
    #[must_use]
    pub fn buffer(&self, device: DeviceIndex, tag: u16) -> Option<&Buffer> {
        let device = self.devices.get(usize::from(device.0))?.as_ref()?;
        Some(&device.slots.get(usize::from(tag))?.buffer)
    }

    /// What a device is.
    #[must_use]
    pub fn unit(&self, device: DeviceIndex) -> Option<&Arc<Unit>> {
        Some(&self.devices.get(usize::from(device.0))?.as_ref()?.unit)
    }

    /// Says anew what a device is: its capacity has grown.
    pub fn set_unit(&mut self, device: DeviceIndex, unit: Arc<Unit>) {
        if let Some(Some(device)) = self.devices.get_mut(usize::from(device.0)) {
            device.unit = unit;
        }
    }

    /// The device is gone: what waits ends at once with [`Errno::NO_DEVICE`], and so does what comes.
    /// What the controller has ends when it says so.
    pub fn end_device(&mut self, index: DeviceIndex) {
        let Some(Some(device)) = self.devices.get_mut(usize::from(index.0)) else { return };
        device.gone = true;
        self.waiting -= device.backlog.len() as u32;
        for tag in device.backlog.drain(..) {
            self.ended.push((index, tag, Errno::NO_DEVICE));
        }
        let ended = &mut self.ended;
        self.later.retain(|(_, of, tag)| {
            let its = *of == index;
            if its {
                ended.push((index, *tag, Errno::NO_DEVICE));
            }
            !its
        });
    }

    /// Requests that have been started and have not ended.
    #[must_use]
    pub const fn started(&self) -> u32 {
        self.started
    }

    /// Whether the last look at the controller has found something, be it the end of a request or not.
    #[must_use]
    pub const fn has_found(&self) -> bool {
        self.found
    }

    /// Of them, those that the controller has not taken: there is room when a command ends, or when
    /// a device that held them back takes them again.
    #[must_use]
    pub const fn waiting(&self) -> u32 {
        self.waiting
    }

    /// When something is to be sent again, if anything is.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.later.iter().map(|(due, ..)| *due).min()
    }

    /// What it has done.
    #[must_use]
    pub const fn counters(&self) -> EngineCounters {
        self.counters
    }

    /// What kept a request from being sent, once for all that it kept.
    pub fn take_complaint(&mut self) -> Option<(DeviceIndex, Error)> {
        self.complaint.take()
    }

    /// Whether a unit has said since the last call that its capacity has changed.
    pub fn take_capacity_changed(&mut self, device: DeviceIndex) -> bool {
        let device = self.devices.get_mut(usize::from(device.0)).and_then(Option::as_mut);
        device.is_some_and(|device| std::mem::take(&mut device.capacity_changed))
    }

    /// Starts a request of `bytes` bytes from `offset` on, whose data, if it has some, is in the
    /// tag's buffer or will be. Its end comes from a later [`Engine::poll`].
    ///
    /// A request that cannot be ends there too, with [`Errno::INVALID`]: not of whole blocks, more
    /// data than the buffer holds, or a tag that is not free (whose own request goes on, so that
    /// nothing is told of this one); past the end, with [`Errno::NO_SPACE`].
    pub fn start(
        &mut self,
        queue: &mut dyn CommandQueue,
        index: DeviceIndex,
        tag: u16,
        operation: Operation,
        offset: u64,
        bytes: u64,
    ) {
        let Some(Some(device)) = self.devices.get_mut(usize::from(index.0)) else { return };
        let Some(slot) = device.slots.get_mut(usize::from(tag)) else { return };
        if slot.state != State::Free {
            return;
        }
        let shift = device.unit.block_bytes.trailing_zeros();
        slot.begin(&device.unit, operation, offset >> shift, bytes >> shift, bytes);
        self.started += 1;
        if let Err(errno) = check(&device.unit, operation, offset, bytes, slot.buffer.bytes()) {
            self.ended.push((index, tag, errno));
        } else if device.gone {
            self.ended.push((index, tag, Errno::NO_DEVICE));
        } else if bytes == 0 && operation != Operation::Flush {
            self.unsettled.push((index, tag, NOTHING_TO_DO));
        } else if device.backlog.is_empty() {
            match slot.send(queue, &device.unit, cookie(index, tag)) {
                Sent::Taken => {}
                Sent::NotNow => {
                    device.backlog.push_back(tag);
                    self.waiting += 1;
                }
                Sent::Never(errno, complaint) => {
                    self.ended.push((index, tag, errno));
                    self.complaint =
                        complaint.map(|error| (index, error)).or(self.complaint.take());
                }
            }
        } else {
            // Behind those that wait already.
            device.backlog.push_back(tag);
            self.waiting += 1;
        }
    }

    /// Ends a request that the front itself does not know how to start, at the next poll.
    pub fn refuse(&mut self, device: DeviceIndex, tag: u16, errno: Errno) {
        if let Some(slot) = slot_of(&mut self.devices, device, tag)
            && slot.state == State::Free
        {
            slot.state = State::Waiting;
            self.started += 1;
            self.ended.push((device, tag, errno));
        }
    }

    /// Takes what the controller has answered, tells the front what has ended, and sends what waits.
    /// How many requests ended.
    ///
    /// # Errors
    ///
    /// As [`CommandQueue::poll`]: the controller is lost. Then every request has ended.
    pub fn poll(
        &mut self,
        queue: &mut dyn CommandQueue,
        front: &mut dyn Front,
    ) -> Result<u32, Error> {
        self.poll_if(true, queue, front)
    }

    /// The same, without a look at what the controller has answered if that is known to be nothing.
    ///
    /// # Errors
    ///
    /// As [`Engine::poll`].
    pub fn poll_if(
        &mut self,
        look: bool,
        queue: &mut dyn CommandQueue,
        front: &mut dyn Front,
    ) -> Result<u32, Error> {
        let before = self.started;
        for (cookie, ended) in queue.take_kept() {
            if let Some((device, tag)) = parts(cookie) {
                self.unsettled.push((device, tag, ended));
            }
        }
        let Self { devices, unsettled, started, counters, .. } = self;
        let mut take = |completion: Completion<'_>| {
            let Some((device, tag)) = parts(completion.cookie) else { return };
            let Some(slot) = slot_of(devices, device, tag) else { return };
            if completion.outcome == Outcome::success(slot.command_bytes) && slot.is_last() {
                slot.state = State::Free;
                *started -= 1;
                counters.count(slot);
                front.complete(device, tag, Ok(slot.result()));
            } else {
                let sense = completion.sense.to_vec();
                unsettled.push((device, tag, Ended { outcome: completion.outcome, sense }));
            }
        };
        let polled = if look { queue.poll(&mut take) } else { Ok(0) };
        self.found = polled.as_ref().is_ok_and(|found| *found > 0);
        if !self.unsettled.is_empty() {
            self.settle(queue, front);
        }
        if let Err(error) = polled {
            self.end_all(front);
            return Err(error);
        }
        if !self.later.is_empty() {
            self.take_due(queue.now());
        }
        if self.waiting > 0 {
            self.send_waiting(queue);
        }
        while let Some((device, tag, errno)) = self.ended.pop() {
            self.fail(front, device, tag, errno);
        }
        Ok(before - self.started)
    }

    /// Decides what becomes of commands that did not simply end their request.
    #[inline(never)]
    fn settle(&mut self, queue: &mut dyn CommandQueue, front: &mut dyn Front) {
        let now = queue.now();
        for (index, tag, ended) in std::mem::take(&mut self.unsettled) {
            let Some(Some(device)) = self.devices.get_mut(usize::from(index.0)) else { continue };
            device.capacity_changed |= block::tells_new_capacity(&ended);
            let gone = device.gone;
            let Some(slot) = device.slots.get_mut(usize::from(tag)) else { continue };
            match block::judge(slot.operation, slot.command_bytes, &ended) {
                Verdict::Done if !slot.is_last() => {
                    slot.advance();
                    slot.state = State::Waiting;
                    // Before what has not been begun yet.
                    device.backlog.push_front(tag);
                    self.waiting += 1;
                }
                Verdict::Done => {
                    slot.state = State::Free;
                    self.started -= 1;
                    self.counters.count(slot);
                    let result = slot.result();
                    front.complete(index, tag, Ok(result));
                }
                Verdict::Again(_) if gone => self.fail(front, index, tag, Errno::NO_DEVICE),
                Verdict::Again(patience) => match slot.try_again(patience, now) {
                    Some(Duration::ZERO) => {
                        slot.state = State::Waiting;
                        device.backlog.push_front(tag);
                        self.waiting += 1;
                        self.counters.sent_again += 1;
                    }
                    Some(pause) => {
                        slot.state = State::Later;
                        self.later.push((now + pause, index, tag));
                        self.counters.sent_again += 1;
                    }
                    None => self.fail(front, index, tag, block::given_up(&ended)),
                },
                Verdict::Failed(errno) => self.fail(front, index, tag, errno),
            }
        }
    }

    fn take_due(&mut self, now: Duration) {
        let Self { later, devices, waiting, .. } = self;
        later.retain(|(due, index, tag)| {
            if *due > now {
                return true;
            }
            if let Some(Some(device)) = devices.get_mut(usize::from(index.0)) {
                if let Some(slot) = device.slots.get_mut(usize::from(*tag)) {
                    slot.state = State::Waiting;
                }
                device.backlog.push_front(*tag);
                *waiting += 1;
            }
            false
        });
    }

    #[inline(never)]
    fn send_waiting(&mut self, queue: &mut dyn CommandQueue) {
        for (device, index) in self.devices.iter_mut().zip(0u16..) {
            let Some(device) = device.as_mut() else { continue };
            let index = DeviceIndex(index);
            while let Some(tag) = device.backlog.front().copied() {
                let Some(slot) = device.slots.get_mut(usize::from(tag)) else { break };
                match slot.send(queue, &device.unit, cookie(index, tag)) {
                    Sent::Taken => {}
                    Sent::NotNow => break,
                    Sent::Never(errno, complaint) => {
                        self.ended.push((index, tag, errno));
                        self.complaint =
                            complaint.map(|error| (index, error)).or(self.complaint.take());
                    }
                }
                device.backlog.pop_front();
                self.waiting -= 1;
            }
        }
    }

    fn fail(&mut self, front: &mut dyn Front, device: DeviceIndex, tag: u16, errno: Errno) {
        if let Some(slot) = slot_of(&mut self.devices, device, tag) {
            slot.state = State::Free;
            self.started -= 1;
            self.counters.errors += 1;
            front.complete(device, tag, Err(errno));
        }
    }

    /// The controller is lost, and can write to no memory any more: everything ends.
    fn end_all(&mut self, front: &mut dyn Front) {
        self.later.clear();
        self.ended.clear();
        self.waiting = 0;
        for index in (0..self.devices.len() as u16).map(DeviceIndex) {
            let Some(Some(device)) = self.devices.get_mut(usize::from(index.0)) else { continue };
            device.gone = true;
            device.backlog.clear();
            for tag in 0..device.slots.len() as u16 {
                let slot = slot_of(&mut self.devices, index, tag);
                if slot.is_some_and(|slot| slot.state != State::Free) {
                    self.fail(front, index, tag, Errno::NO_DEVICE);
                }
            }
        }
    }
}

/// How a request ends of which there is nothing to do.
const NOTHING_TO_DO: Ended = Ended { outcome: Outcome::success(0), sense: Vec::new() };

fn check(
    unit: &Unit,
    operation: Operation,
    offset: u64,
    bytes: u64,
    buffer_bytes: usize,
) -> Result<(), Errno> {
    let mask = u64::from(unit.block_bytes) - 1;
    if operation == Operation::Flush {
        return Ok(());
    }
    if (offset | bytes) & mask != 0 || (operation.moves_data() && bytes > buffer_bytes as u64) {
        return Err(Errno::INVALID);
    }
    if offset.checked_add(bytes).is_none_or(|end| end > unit.bytes()) {
        return Err(Errno::NO_SPACE);
    }
    if unit.read_only && operation.changes() {
        return Err(Errno::READ_ONLY);
    }
    Ok(())
}

enum Sent {
    /// The controller has it.
    Taken,
    /// There is no room at the moment.
    NotNow,
    /// It cannot be sent, and why.
    Never(Errno, Option<Error>),
}

impl Slot {
    fn new(buffer: Buffer) -> Self {
        Self {
            state: State::Free,
            buffer,
            operation: Operation::Flush,
            then_flush: false,
            lba: 0,
            blocks: 0,
            command_blocks: 0,
            command_bytes: 0,
            done: 0,
            total: 0,
            tries: 0,
            refused_at: None,
        }
    }

    fn begin(&mut self, unit: &Unit, operation: Operation, lba: u64, blocks: u64, bytes: u64) {
        // FUA is a promise; where the unit does not know the bit, a flush keeps it.
        self.then_flush =
            matches!(operation, Operation::Write { fua: true }) && !unit.fua && unit.write_cache;
        self.state = State::Waiting;
        self.operation = operation;
        (self.lba, self.blocks) = (lba, blocks);
        (self.command_blocks, self.command_bytes) = (0, 0);
        (self.done, self.total) = (0, bytes);
        self.tries = 0;
        self.refused_at = None;
    }

    /// Sends the next command.
    fn send(&mut self, queue: &mut dyn CommandQueue, unit: &Unit, cookie: u64) -> Sent {
        let command = match block::command(unit, self.operation, self.lba, self.blocks) {
            Ok(command) => command,
            Err(errno) => return Sent::Never(errno, None),
        };
        let (offset, bytes) = match command.data {
            Data::None => (0, 0),
            Data::Request => (self.done as usize, command.blocks * unit.block_bytes),
            Data::ZeroBlock => {
                self.buffer.write(0, ZEROS.get(..unit.block_bytes as usize).unwrap_or(&ZEROS));
                (0, unit.block_bytes)
            }
            Data::List(list) => {
                self.buffer.write(0, &list);
                (0, list.len() as u32)
            }
        };
        let request = Request {
            target: unit.target,
            lun: unit.lun,
            cdb: command.cdb.as_bytes(),
            direction: command.direction,
            buffer: (command.direction != Direction::None).then_some(&self.buffer),
            offset,
            bytes,
            cookie,
        };
        match queue.submit(&request) {
            Ok(true) => {
                self.state = State::Sent;
                self.command_blocks = command.blocks;
                self.command_bytes = bytes;
                Sent::Taken
            }
            Ok(false) => Sent::NotNow,
            Err(error) => Sent::Never(Errno::NO_DEVICE, Some(error)),
        }
    }

    /// Whether the present command is the last one of its request.
    fn is_last(&self) -> bool {
        u64::from(self.command_blocks) == self.blocks && !self.then_flush
            || self.operation == Operation::Flush
    }

    /// On to the next command.
    fn advance(&mut self) {
        let blocks = u64::from(self.command_blocks);
        self.done += u64::from(self.command_bytes);
        self.lba += blocks;
        self.blocks -= blocks.min(self.blocks);
        self.tries = 0;
        self.refused_at = None;
        if self.blocks == 0 && self.then_flush {
            self.operation = Operation::Flush;
        }
    }

    /// How long to wait before the present command is sent again; `None` if it is not.
    fn try_again(&mut self, patience: Patience, now: Duration) -> Option<Duration> {
        self.tries += 1;
        let refused = now.saturating_sub(*self.refused_at.get_or_insert(now));
        match patience {
            Patience::Now if self.tries < ATTEMPTS => Some(Duration::ZERO),
            Patience::Now => None,
            Patience::Full if refused < FULL_LIMIT => Some(FULL_PAUSE),
            Patience::SpinUp if refused < SPIN_UP_LIMIT => Some(SPIN_UP_PAUSE),
            Patience::Full | Patience::SpinUp => None,
        }
    }

    /// What the front is told of a request that ended well.
    fn result(&self) -> u32 {
        u32::try_from(self.total).unwrap_or(u32::MAX)
    }
}

/// As many zeros as the largest block has.
static ZEROS: [u8; 4096] = [0; 4096];

impl EngineCounters {
    fn count(&mut self, slot: &Slot) {
        match slot.operation {
            Operation::Read => {
                self.reads += 1;
                self.read_bytes += slot.total;
            }
            Operation::Flush if !slot.then_flush => self.flushes += 1,
            Operation::Write { .. } | Operation::Flush => {
                self.writes += 1;
                self.written_bytes += slot.total;
            }
            Operation::Discard | Operation::WriteZeroes { .. } => self.trims += 1,
        }
    }
}

#[cfg(test)]
mod tests;
