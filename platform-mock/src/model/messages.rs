//! Everything that is not SCSI I/O: init, facts, ports, events, pages, device removal.

use crate::memory::DeviceMemory;

mod control;
mod firmware;
mod raid;
mod smp;

use super::coalescing::Coalescing;
use super::devices::MAX_HANDLE;
use super::events::{self, Change, VolumeChange};
use super::message::{Message, byte, le16, le32};
use super::queues::{Answer, REQUEST_BYTES, Reply, Request};
use super::{
    FAULT_INVALID_FUNCTION, Later, Model, PORT_ENABLE_NS, State, Transport, config, ioc_status,
    pages,
};

const FUNCTION_SCSI_IO: u8 = 0x00;
const FUNCTION_TASK_MANAGEMENT: u8 = 0x01;
const FUNCTION_IOC_INIT: u8 = 0x02;
const FUNCTION_IOC_FACTS: u8 = 0x03;
const FUNCTION_CONFIG: u8 = 0x04;
const FUNCTION_PORT_FACTS: u8 = 0x05;
const FUNCTION_PORT_ENABLE: u8 = 0x06;
const FUNCTION_EVENT_NOTIFICATION: u8 = 0x07;
const FUNCTION_EVENT_ACK: u8 = 0x08;
const FUNCTION_FW_DOWNLOAD: u8 = 0x09;
const FUNCTION_FW_UPLOAD: u8 = 0x12;
const FUNCTION_RAID_ACTION: u8 = 0x15;
const FUNCTION_ENCLOSURE_PROCESSOR: u8 = 0x18;
const FUNCTION_SMP_PASSTHROUGH: u8 = 0x1a;
const FUNCTION_SAS_IO_UNIT_CONTROL: u8 = 0x1b;

const INVALID_FUNCTION: u16 = 0x01;
const INVALID_STATE: u16 = 0x08;
/// `HeaderVersion` of MPI 1.5's last headers. Before 0x0E00 there were no events of expanders, and
/// mptsas then makes do without any (mpi_ioc.h, mptsas_probe).
const MPI1_HEADER_VERSION: u16 = 0x1300;
/// `MPI2_IOCFACTS_CAPABILITY_INTEGRATED_RAID`.
const CAPABILITY_INTEGRATED_RAID: u32 = 0x1000;
/// `PortType`: SAS.
const PORT_TYPE_SAS: u8 = 0x30;

impl Model {
    /// The request that came by handshake.
    pub(super) fn handshake_request(&self) -> Request {
        let mut frame = [0; REQUEST_BYTES];
        let sent = self.front.request();
        frame[..sent.len()].copy_from_slice(sent);
        // The `MsgContext`, on MPI1.
        let key = if self.chip.is_mpi1() { le32(&frame, 8) } else { 0 };
        Request { key, queue: 0, fast_path: false, high_priority: false, due: 0, at: 0, frame }
    }

    /// Answers the request that came by handshake.
    pub(super) fn handshake(&mut self, memory: &dyn DeviceMemory, request: &Request) {
        let operational = self.front.state == State::Operational;
        let reply = match request.frame[3] {
            FUNCTION_TASK_MANAGEMENT if self.chip.is_mpi1() && operational => {
                self.front.reply_elsewhere();
                self.fetch_overtaken(memory);
                self.task_management(memory, request);
                return;
            }
            FUNCTION_PORT_ENABLE if operational => {
                let message = self.port_enable_reply(request);
                self.discover(Later::Doorbell(message));
                return;
            }
            FUNCTION_SCSI_IO if self.chip.is_mpi1() => {
                self.front.fault(FAULT_INVALID_FUNCTION);
                return;
            }
            _ => self.reply_to(memory, request),
        };
        match reply {
            Some(reply) => self.front.reply(reply),
            None => self.front.fault(FAULT_INVALID_FUNCTION),
        }
    }

    /// Answers a request other than SCSI I/O that came through a queue.
    pub(super) fn message(&mut self, memory: &dyn DeviceMemory, request: &Request) {
        match request.frame[3] {
            FUNCTION_TASK_MANAGEMENT => {
                if !request.high_priority && !self.chip.is_mpi1() {
                    self.front.complain("task management was posted without priority".into());
                }
                if request.high_priority {
                    self.fetch_overtaken(memory);
                }
                self.task_management(memory, request);
            }
            FUNCTION_PORT_ENABLE => {
                let message = self.port_enable_reply(request);
                self.discover(Later::Reply(reply(request, message)));
            }
            _ => match self.reply_to(memory, request) {
                Some(message) => self.answer(memory, reply(request, message)),
                None => self.front.fault(FAULT_INVALID_FUNCTION),
            },
        }
    }

    /// The reply to a request that can be answered at once; `None` if the IOC stops over it.
    fn reply_to(&mut self, memory: &dyn DeviceMemory, request: &Request) -> Option<Message> {
        let frame = &request.frame;
        let function = frame[3];
        let operational = self.front.state == State::Operational;
        let message = match function {
            FUNCTION_IOC_FACTS => self.knobs.facts.apply(self.facts(), self.chip.is_mpi1()),
            FUNCTION_PORT_FACTS => self.port_facts(byte(frame, 6)),
            FUNCTION_IOC_INIT => self.init(memory, request),
            _ if !operational => Message::new(0x14, function).with16(0x0e, INVALID_STATE),
            FUNCTION_CONFIG => {
                let (chip, devices, lie) = (&self.chip, &self.devices, self.knobs.page_lie);
                let answer =
                    config::answer(memory, chip, devices, &mut self.settings, request, lie);
                if config::may_change(&request.frame) {
                    self.coalesce();
                    self.turn_phys();
                }
                answer
            }
            FUNCTION_EVENT_NOTIFICATION => {
                self.slots.host_looks(self.now);
                self.events.ask(frame, request.key)
            }
            FUNCTION_EVENT_ACK => self.event_ack(frame),
            FUNCTION_SMP_PASSTHROUGH => self.smp_passthrough(memory, request),
            _ if self.chip.is_mpi1() => self.mpi1_reply(request)?,
            FUNCTION_SAS_IO_UNIT_CONTROL => self.unit_control(frame),
            FUNCTION_FW_UPLOAD => self.firmware_upload(memory, request),
            FUNCTION_FW_DOWNLOAD => self.firmware_download(frame),
            FUNCTION_RAID_ACTION => self.raid_action(frame),
            FUNCTION_ENCLOSURE_PROCESSOR => self.enclosure_processor(frame),
            _ => Message::new(0x14, function).with16(0x0e, INVALID_FUNCTION),
        };
        // MPI1 gives the request's context back, MPI2 its virtual port and function.
        let echo = if self.chip.is_mpi1() { &frame[8..12] } else { &frame[8..10] };
        Some(message.with(8, echo))
    }

    fn facts(&self) -> Message {
        let chip = &self.chip;
        let [major, minor, unit, dev] = chip.firmware;
        let version = [dev, unit, minor, major];
        if let Transport::Mpi1(fifos) = &self.transport {
            return Message::new(0x50, FUNCTION_IOC_FACTS)
                .with16(0x00, chip.message_version)
                .with16(0x04, MPI1_HEADER_VERSION)
                .with8(0x14, chip.max_chain_depth)
                .with8(0x15, self.front.who_init)
                // BlockSize: words that the IOC fetches of a frame at a time.
                .with8(0x16, 13)
                .with16(0x18, chip.reply_depth)
                .with16(0x1a, chip.request_frame_bytes / 4)
                .with16(0x1e, chip.product_id)
                .with32(0x20, (fifos.frame_high >> 32) as u32)
                .with16(0x24, chip.request_credit)
                .with8(0x26, chip.phys)
                .with32(0x28, (fifos.sense_high >> 32) as u32)
                .with16(0x2c, fifos.reply_bytes)
                .with8(0x2e, self.max_devices as u8)
                .with8(0x2f, 1)
                .with32(0x34, chip.capabilities)
                .with(0x38, &version)
                .with16(0x3c, chip.high_priority_credit);
        }
        Message::new(0x44, FUNCTION_IOC_FACTS)
            .with16(0x00, chip.message_version)
            .with16(0x04, 0x2a00)
            .with8(0x14, chip.max_chain_depth)
            .with8(0x15, self.front.who_init)
            .with8(0x16, 1)
            .with8(0x17, chip.vectors)
            .with16(0x18, chip.request_credit)
            .with16(0x1a, chip.product_id)
            .with32(0x1c, self.capabilities())
            .with(0x20, &version)
            .with16(0x24, chip.request_frame_bytes / 4)
            .with16(0x26, chip.chain_units)
            .with16(0x28, 32)
            .with16(0x2a, 1024)
            .with16(0x2c, 64)
            .with16(0x2e, 65)
            // SCSI initiator.
            .with16(0x30, 2)
            .with16(0x32, chip.high_priority_credit)
            .with16(0x34, chip.reply_depth)
            .with8(0x36, (chip.reply_frame_bytes / 4) as u8)
            .with8(0x37, if self.devices.volumes().is_empty() { 0 } else { 2 })
            .with16(0x38, MAX_HANDLE)
            .with16(0x3a, 128)
            .with16(0x3c, u16::from(chip.phys) + 1)
    }

    /// `IOCCapabilities`: the chip's, and integrated RAID where there are volumes.
    fn capabilities(&self) -> u32 {
        let raid = if self.devices.volumes().is_empty() { 0 } else { CAPABILITY_INTEGRATED_RAID };
        self.chip.capabilities | raid
    }

    fn port_facts(&self, port: u8) -> Message {
        let chip = &self.chip;
        if !chip.is_mpi1() {
            let message = Message::new(0x1c, FUNCTION_PORT_FACTS).with8(6, port);
            return if port == 0 {
                message.with8(0x15, PORT_TYPE_SAS)
            } else {
                message.with16(0x0e, ioc_status::INVALID_FIELD)
            };
        }
        let message = Message::new(0x28, FUNCTION_PORT_FACTS).with8(6, port);
        if port >= chip.phys {
            return message;
        }
        message
            .with8(0x15, PORT_TYPE_SAS)
            .with16(0x16, self.devices.slot_count().into())
            .with16(0x18, self.devices.slot_count().into())
            // Addressed by bus and target id, initiator.
            .with16(0x1a, 0x0001 | 0x0008)
    }

    /// Coalesces replies as IOC page 1 says by now.
    fn coalesce(&mut self) {
        let Transport::Mpi2(rings) = &mut self.transport else { return };
        let (chip, devices, settings) = (&self.chip, &self.devices, &self.settings);
        // A host that writes nonsense into the page gets what a page of zeros says.
        let page = match settings.read(pages::page_type::IOC, 1, false) {
            Some(page) => page.clone(),
            None => pages::build(chip, devices, settings, pages::page_type::IOC, 1, 0)
                .unwrap_or_default(),
        };
        let (flags, timeout) = (le32(&page, 0x04), le32(&page, 0x08));
        rings.set_coalescing(Coalescing::new(flags, timeout, byte(&page, 0x0c), le32(&page, 0x14)));
    }

    fn init(&mut self, memory: &dyn DeviceMemory, request: &Request) -> Message {
        let frame = &request.frame;
        let message = Message::new(0x14, FUNCTION_IOC_INIT).with8(0, frame[0]);
        if self.front.state != State::Ready {
            return message.with16(0x0e, INVALID_STATE);
        }
        let taken = match &mut self.transport {
            Transport::Mpi1(fifos) => fifos.init(frame),
            Transport::Mpi2(rings) => rings.init(memory, &self.chip, frame),
        };
        if let Err(field) = taken {
            self.front.complain(format!("IOC init: {field} cannot be worked with"));
            return message.with16(0x0e, ioc_status::INVALID_FIELD);
        }
        self.coalesce();
        self.front.who_init = frame[0];
        self.front.state = State::Operational;
        if !self.chip.is_mpi1() {
            return message;
        }
        // 0 stands for 256.
        self.max_devices = match frame[5] {
            0 => 256,
            devices => devices.into(),
        };
        message.with8(5, self.max_devices as u8).with8(6, frame[6])
    }

    fn event_ack(&mut self, frame: &[u8]) -> Message {
        let (code, context) = (le16(frame, 0x0c), le32(frame, 0x10));
        let message = Message::new(0x14, FUNCTION_EVENT_ACK);
        if self.events.acknowledge(code, context) {
            return message;
        }
        self.front.complain(format!(
            "event {code:#x} with context {context:#x} was acknowledged, which waits for nothing"
        ));
        message.with16(0x0e, ioc_status::INVALID_FIELD)
    }

    fn port_enable_reply(&self, request: &Request) -> Message {
        let message = Message::new(0x14, FUNCTION_PORT_ENABLE);
        if self.chip.is_mpi1() {
            message.with8(6, request.frame[6]).with32(8, request.key)
        } else {
            message.with8(5, request.frame[5]).with(8, &request.frame[8..10])
        }
    }

    /// Looks for devices and tells of them, then does `at_last`.
    fn discover(&mut self, at_last: Later) {
        let mpi1 = self.chip.is_mpi1();
        let end = self.now + PORT_ENABLE_NS;
        self.port_enabled = true;
        let (code, data) = events::discovery(mpi1, true);
        self.later.push_back((self.now, Later::Event { code, data, acknowledge: false }));
        let found = if mpi1 {
            (0..self.devices.slot_count())
                .filter_map(|slot| events::device(&self.chip, &self.devices, slot, Change::Added))
                .collect()
        } else {
            let mut found = events::arrivals(&self.chip, &self.devices);
            found.extend(
                self.devices.volumes().iter().map(|volume| {
                    events::config_change(&self.devices, volume, VolumeChange::Found)
                }),
            );
            found
        };
        for (code, data) in found {
            self.later.push_back((end, Later::Event { code, data, acknowledge: false }));
        }
        let (code, data) = events::discovery(mpi1, false);
        self.later.push_back((end, Later::Event { code, data, acknowledge: false }));
        self.later.push_back((end, at_last));
    }
}

/// A reply to `request`, on its queue.
fn reply(request: &Request, message: Message) -> Reply {
    Reply { key: request.key, queue: request.queue, answer: Answer::Frame(message) }
}
