//! Software Fusion-MPT controllers: the front of the chip, its firmware, and disks behind it.
//!
//! A [`Model`] is passive. Register accesses only leave notes; [`Ioc::step`] does one piece of the
//! firmware's work at a time, so that a test can stop between any two, and a thread or a device
//! process can run it as fast as it goes. It trusts the host no more than a driver may trust a
//! controller: whatever the host wrote is checked, a bad address stops the IOC or ends the
//! command, and nothing panics. What a real chip would suffer in silence, it notes:
//! [`Model::complaints`].

pub mod chip;
mod coalescing;
mod config;
mod devices;
mod doorbell;
mod events;
mod fifos;
mod knobs;
mod message;
mod messages;
mod mpi1;
mod pages;
mod queues;
mod rings;
mod scsi;
mod sgl;
mod storage;
pub(crate) mod tap;
mod tasks;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;

pub use chip::{Chip, Family};
pub use devices::{Device, MemberState, RaidLevel, VolumeError, VolumeState};
pub use doorbell::State;
pub use events::DeviceStatus;
pub use knobs::{FactsOverride, LogEntry, NoCoreDump, PageLie, disk, disks};

use crate::memory::DeviceMemory;

use devices::Devices;
use doorbell::{Asked, Front};
use events::Events;
use fifos::{FAULT_NO_RESOURCES, Fifos};
use queues::{Answer, FAULT_BAD_ADDRESS, Posted, Reply, Request};
use rings::Rings;
use scsi::{Rules, ioc_status};
use sgl::Segment;
use tap::{Door, Tap, Tapped};

/// FAULT code for a request before IOC init (QEMU's, after the IOCStatus).
const FAULT_INVALID_STATE: u16 = 8;
/// FAULT code for a function that there is not (QEMU's, after the IOCStatus).
const FAULT_INVALID_FUNCTION: u16 = 1;
/// How long a port enable takes.
const PORT_ENABLE_NS: u64 = 2_000_000;

/// A software controller as a bus sees it.
pub trait Ioc: Send {
    /// Reads the 32-bit register at `offset`; 0 where there is none.
    fn read32(&mut self, offset: u32) -> u32;

    /// Writes the 32-bit register at `offset`.
    fn write32(&mut self, offset: u32, value: u32);

    /// Writes 64 bits at `offset` in one go.
    fn write64(&mut self, offset: u32, value: u64);

    /// Does the firmware's next piece of work, at time `now_ns`; `false` if there was none.
    fn step(&mut self, memory: &dyn DeviceMemory, now_ns: u64) -> bool;

    /// When there will be work without anybody asking, if ever, in nanoseconds.
    fn deadline(&self) -> Option<u64>;

    /// Whether the interrupt line is up.
    fn interrupt_pending(&self) -> bool;

    /// The MSI-X vectors that have fired since this was last asked, a bit for each.
    fn take_vectors(&mut self) -> u128;
}

#[derive(Debug)]
enum Transport {
    Mpi1(Fifos),
    Mpi2(Rings),
}

impl Transport {
    /// The queues of a chip that was just turned on.
    fn of(chip: &Chip) -> Self {
        if chip.is_mpi1() { Self::Mpi1(Fifos::new(chip)) } else { Self::Mpi2(Rings::new(chip)) }
    }
}

/// Something that happens when its time has come.
#[derive(Debug)]
enum Later {
    Event {
        code: u16,
        data: Vec<u8>,
        acknowledge: bool,
    },
    Reply(Reply),
    /// The reply to a request that came through the doorbell.
    Doorbell(message::Message),
}

/// A software controller of one of four generations.
pub struct Model {
    chip: Chip,
    front: Front,
    transport: Transport,
    devices: Devices,
    events: Events,
    later: VecDeque<(u64, Later)>,
    /// Answers that the host has no room for yet.
    outbox: VecDeque<Reply>,
    /// SCSI commands that are carried out later, the next first.
    held: VecDeque<Request>,
    port_enabled: bool,
    max_devices: u16,
    slots: mpi1::Slots,
    knobs: knobs::Knobs,
    settings: pages::Settings,
    segments: Vec<Segment>,
    commands: u64,
    now: u64,
    /// Where somebody looks at what comes and goes.
    tap: Option<Box<Tap>>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Model({} in {:?})", self.chip.name, self.front.state)
    }
}

impl Model {
    /// A controller of this kind without disks, in READY.
    #[must_use]
    pub fn new(chip: Chip) -> Self {
        let mpi1 = chip.is_mpi1();
        Self {
            front: Front::new(mpi1),
            transport: Transport::of(&chip),
            devices: Devices::new(chip.phys),
            events: Events::new(mpi1),
            later: VecDeque::new(),
            outbox: VecDeque::new(),
            held: VecDeque::new(),
            port_enabled: false,
            max_devices: chip.phys.into(),
            slots: mpi1::Slots::default(),
            knobs: knobs::Knobs::default(),
            settings: pages::Settings::default(),
            segments: Vec::with_capacity(256),
            commands: 0,
            now: 0,
            tap: None,
            chip,
        }
    }

    /// Tells the time, for register accesses between two steps.
    pub(crate) fn set_time(&mut self, now_ns: u64) {
        self.now = now_ns;
        self.front.set_now(now_ns);
    }

    /// Resets the card as its bus does: the firmware boots anew and knows of nothing, what the
    /// knobs were turned to stays, and so do the disks.
    pub fn bus_reset(&mut self) {
        self.drop_queues();
        self.settings.reset();
        self.turn_phys();
        self.front.bus_reset(self.chip.is_mpi1());
        self.max_devices = self.most_devices();
    }

    /// The devices that an IOC speaks to before its host has said for how many (MPI1): one for each
    /// slot, an expander's too.
    fn most_devices(&self) -> u16 {
        self.devices.slot_count().into()
    }

    /// Notes that the doorbell is about to be read through the chip's I/O ports.
    pub(crate) fn before_port_read(&mut self) {
        self.front.before_port_read();
    }

    fn drop_queues(&mut self) {
        match &mut self.transport {
            Transport::Mpi1(fifos) => fifos.reset(),
            Transport::Mpi2(rings) => rings.reset(),
        }
        self.later.clear();
        self.outbox.clear();
        self.held.clear();
        self.events.reset();
        self.port_enabled = false;
        self.devices.forget_gone();
        self.slots = mpi1::Slots::default();
        self.tap(Tapped::Reset);
    }

    fn has_replies(&self) -> bool {
        match &self.transport {
            Transport::Mpi1(fifos) => fifos.has_replies(),
            Transport::Mpi2(rings) => rings.has_replies(),
        }
    }

    /// What the chip's generation fixes for SCSI I/O.
    fn rules(&self) -> Rules {
        let chip = &self.chip;
        let (frame_bytes, sense_high) = match &self.transport {
            Transport::Mpi1(fifos) => (u32::from(chip.request_frame_bytes), fifos.sense_high),
            Transport::Mpi2(rings) => (rings.frame_bytes(), rings.sense_high),
        };
        let chain_bytes = match (chip.ieee(), chip.chain_units) {
            (true, 0) => 128,
            (true, units) => u32::from(units) * 16,
            (false, _) => u32::from(chip.request_frame_bytes),
        };
        Rules {
            mpi1: chip.is_mpi1(),
            ieee: chip.ieee(),
            frame_bytes,
            chain_bytes,
            chains: chip.max_chain_depth.into(),
            sense_high,
            max_devices: self.max_devices,
        }
    }

    /// Posts an answer, now if the host has room and nothing waits before it.
    fn answer(&mut self, memory: &dyn DeviceMemory, reply: Reply) {
        if self.knobs.drops(&reply) {
            return;
        }
        if self.tap.is_some() && !matches!(reply.answer, Answer::Raw(_)) {
            self.tap(Tapped::Reply(reply));
            return;
        }
        if !self.outbox.is_empty() || !self.post(memory, &reply) {
            self.outbox.push_back(reply);
        }
    }

    /// Posts an answer; `false` if the host has no room for it.
    fn post(&mut self, memory: &dyn DeviceMemory, reply: &Reply) -> bool {
        let posted = match &mut self.transport {
            Transport::Mpi1(fifos) => fifos.answer(memory, reply),
            Transport::Mpi2(rings) => rings.answer(memory, reply),
        };
        match posted {
            Posted::Yes => true,
            Posted::Full => false,
            Posted::Fault(code) => {
                self.front.fault(code);
                true
            }
        }
    }

    /// Posts answers that had no room; whether one now had.
    fn flush(&mut self, memory: &dyn DeviceMemory) -> bool {
        let mut moved = false;
        while let Some(reply) = self.outbox.pop_front() {
            if !self.post(memory, &reply) {
                self.outbox.push_front(reply);
                break;
            }
            moved = true;
        }
        moved
    }

    /// Sends an event, if the host wants it.
    fn send_event(&mut self, memory: &dyn DeviceMemory, code: u16, data: &[u8], acknowledge: bool) {
        if !self.events.wants(code) {
            return;
        }
        let message = self.events.message(code, data, acknowledge);
        let key = if self.chip.is_mpi1() { self.events.context } else { 0 };
        self.answer(memory, Reply { key, queue: 0, answer: Answer::Frame(message) });
    }

    /// Does what is due; `false` if nothing was.
    fn due(&mut self, memory: &dyn DeviceMemory) -> bool {
        if self.later.front().is_none_or(|(at, _)| *at > self.now) {
            return false;
        }
        match self.later.pop_front() {
            Some((_, Later::Event { code, data, acknowledge })) => {
                self.send_event(memory, code, &data, acknowledge);
            }
            Some((_, Later::Reply(reply))) => self.answer(memory, reply),
            Some((_, Later::Doorbell(message))) => self.front.reply(message),
            None => return false,
        }
        true
    }

    fn fetch(&mut self, memory: &dyn DeviceMemory) -> Option<Request> {
        let fetched = match &mut self.transport {
            Transport::Mpi1(fifos) => fifos.fetch(memory, false),
            Transport::Mpi2(rings) => {
                rings.fetch(memory, false, &mut |complaint| self.front.complain(complaint))
            }
        };
        match fetched? {
            Ok(request) => Some(request),
            Err(fault) => {
                self.front.complain(format!("fetching a request: {fault}"));
                self.front.fault(FAULT_BAD_ADDRESS);
                None
            }
        }
    }

    fn has_requests(&self) -> bool {
        let (requests, urgent) = match &self.transport {
            Transport::Mpi1(fifos) => fifos.waiting(),
            Transport::Mpi2(rings) => rings.waiting(),
        };
        requests || urgent
    }

    /// Takes the next request and answers it; `false` if there is none.
    fn next_request(&mut self, memory: &dyn DeviceMemory) -> bool {
        // What is put off without end waits in the host's queue, which has one.
        if !self.has_requests() || self.held.len() > usize::from(u16::MAX) {
            return false;
        }
        let Some(request) = self.fetch(memory) else { return true };
        if self.tap.is_some() {
            self.tap(Tapped::Request(request, Door::Queue));
        } else {
            self.carry_out(memory, &request);
        }
        true
    }

    /// Carries out a request that came through a queue.
    fn carry_out(&mut self, memory: &dyn DeviceMemory, request: &Request) {
        match request.frame[3] {
            0x00 | 0x16 if self.knobs.put_off || !self.held.is_empty() => self.put_off(*request),
            0x00 | 0x16 => self.scsi_io(memory, request),
            _ => self.message(memory, request),
        }
    }

    /// Carries a SCSI I/O out and answers it.
    fn scsi_io(&mut self, memory: &dyn DeviceMemory, request: &Request) {
        self.commands += 1;
        let rules = self.rules();
        let front = &mut self.front;
        let ending = scsi::run(
            memory,
            &mut self.devices,
            request,
            &rules,
            &mut self.segments,
            &mut |complaint| front.complain(complaint),
        );
        let reply = match ending {
            None => Reply {
                key: request.key,
                queue: request.queue,
                answer: Answer::Success { fast_path: request.fast_path },
            },
            Some(ending) => scsi::reply(request, rules.mpi1, &ending),
        };
        if self.tap.is_some() {
            self.tap(Tapped::Executed(*request));
        }
        if self.knobs.loses_scsi_reply() {
            self.keep_forever(request);
            return;
        }
        self.answer(memory, reply);
    }
}

impl Ioc for Model {
    fn read32(&mut self, offset: u32) -> u32 {
        if self.knobs.all_ones {
            return u32::MAX;
        }
        let reply = self.has_replies();
        if let Some(value) = self.front.read(offset, reply) {
            return if self.knobs.zero_read() { 0 } else { value };
        }
        match &mut self.transport {
            Transport::Mpi1(fifos) => fifos.read(offset).unwrap_or(0),
            Transport::Mpi2(_) => 0,
        }
    }

    fn write32(&mut self, offset: u32, value: u32) {
        if self.knobs.all_ones || self.front.write(offset, value) {
            return;
        }
        let state = self.front.state;
        let written = match &mut self.transport {
            Transport::Mpi1(fifos) => {
                let written = fifos.write(offset, value);
                if matches!(offset, 0x40 | 0x48) && state != State::Operational {
                    self.front.fault(FAULT_INVALID_STATE);
                }
                written.map_err(|code| {
                    self.front.fault(code);
                    format!("the FIFO at {offset:#x} was given more than it holds")
                })
            }
            Transport::Mpi2(rings) => match rings.write(offset, value) {
                Ok(_) if matches!(offset, 0xc4 | 0xc8) && state != State::Operational => {
                    Err(format!("a request was posted in {state:?}"))
                }
                Err(complaint) if matches!(offset, 0xc4 | 0xc8) => {
                    self.front.fault(FAULT_NO_RESOURCES);
                    Err(complaint)
                }
                written => written,
            },
        };
        match written {
            Ok(true) => {}
            Ok(false) => {
                self.front.complain(format!(
                    "{value:#x} was written at {offset:#x}, where no register is"
                ));
            }
            Err(complaint) => self.front.complain(complaint),
        }
    }

    fn write64(&mut self, offset: u32, value: u64) {
        match &mut self.transport {
            Transport::Mpi2(rings) if offset == 0xc0 && !self.knobs.all_ones => {
                if self.front.state == State::Operational {
                    if let Err(complaint) = rings.post(value) {
                        self.front.fault(FAULT_NO_RESOURCES);
                        self.front.complain(complaint);
                    }
                } else {
                    let state = self.front.state;
                    self.front.complain(format!("a request was posted in {state:?}"));
                }
            }
            _ => {
                self.write32(offset, value as u32);
                self.write32(offset + 4, (value >> 32) as u32);
            }
        }
    }

    fn step(&mut self, memory: &dyn DeviceMemory, now_ns: u64) -> bool {
        self.set_time(now_ns);
        if self.knobs.all_ones || self.knobs.stopped {
            return false;
        }
        match self.front.step() {
            Asked::Nothing => {}
            Asked::Progress => return true,
            Asked::Request => {
                let request = self.handshake_request();
                if self.tap.is_some() {
                    self.tap(Tapped::Request(request, Door::Doorbell));
                } else {
                    self.handshake(memory, &request);
                }
                return true;
            }
            Asked::MessageUnitReset => {
                self.drop_queues();
                return true;
            }
            Asked::AdapterReset => {
                self.drop_queues();
                self.settings.reset();
                self.turn_phys();
                self.max_devices = self.most_devices();
                return true;
            }
        }
        if self.front.state != State::Operational {
            return false;
        }
        if let Transport::Mpi2(rings) = &mut self.transport {
            rings.set_now(now_ns);
        }
        if let Some(raw) = self.knobs.raw.pop_front() {
            self.answer(memory, raw);
            return true;
        }
        // A host that leaves no room is waited for, and nothing else is begun meanwhile.
        if !self.outbox.is_empty() {
            return self.flush(memory);
        }
        if self.due(memory) {
            return true;
        }
        if let Some(request) = self.next_held() {
            self.scsi_io(memory, &request);
            return true;
        }
        self.next_request(memory)
    }

    fn deadline(&self) -> Option<u64> {
        if self.knobs.all_ones || self.knobs.stopped {
            return None;
        }
        let front = self.front.deadline();
        if self.front.state != State::Operational {
            return front;
        }
        let later = self.later.front().map(|(at, _)| *at);
        let coalesced = match &self.transport {
            Transport::Mpi1(_) => None,
            Transport::Mpi2(rings) => rings.coalescing.deadline(),
        };
        [front, later, self.held_deadline(), coalesced].into_iter().flatten().min()
    }

    fn interrupt_pending(&self) -> bool {
        !self.knobs.all_ones && self.front.interrupt(self.has_replies())
    }

    fn take_vectors(&mut self) -> u128 {
        match &mut self.transport {
            Transport::Mpi1(_) => 0,
            Transport::Mpi2(rings) => std::mem::take(&mut rings.vectors),
        }
    }
}
