//! MPI 1.x, SAS.

use core::mem::offset_of;

use embedded_hal::delay::DelayNs;
use zerocopy::{FromBytes, IntoBytes};

use super::chips::Chip;
use super::sealed::{Place, Sealed};
use super::write_list;
use super::{
    Command, Device, Facts, Generation, HostMemory, Message, Mpi1, PortFacts, Post, Reply,
    ReplyHeader, ask, control_word, has_result,
};
use crate::error::{Error, SubmitError};
use crate::log_info::LogInfo;
use crate::mem::Memory;
use crate::memory_plan::{Layout, MemoryPlan, Shape};
use crate::outcome::ReplyFacts;
use crate::pages::{PageRequest, PageSize};
use crate::platform::{BusAddr, DmaRegion, Registers};
use crate::queue::fifo::Fifo;
use crate::regs::Bus;
use crate::regs::mpi1::REPLY_QUEUE;
use crate::reply::{DevicePage, Event, News, TaskReply};
use crate::request::TaskRequest;
use crate::sgl::{self, SglFormat};
use crate::wire::config::mpi1::{ConfigReply, ConfigRequest};
use crate::wire::config::pages::mpi1::SasDevice0;
use crate::wire::config::{PageHeader, PageType};
use crate::wire::event::mpi1::SasDeviceStatusChange;
use crate::wire::event::{DeviceStatusReason, EventCode, event_data};
use crate::wire::ioc::WhoInit;
use crate::wire::ioc::mpi1::{self as ioc, Capabilities};
use crate::wire::scsi_io::mpi1::{self as scsi_io, ScsiIoRequest};
use crate::wire::task::mpi1 as task;
use crate::wire::{Function, IocStatus, read_reply};

const HANDSHAKE_LIMIT_MS: u32 = 10_000;
const IOC_INIT_LIMIT_MS: u32 = 30_000;
/// Where the SGL begins in a SCSI I/O message, in bytes.
const SGL_OFFSET: usize = 0x30;
/// Longer frames than this hold no more that is worth the memory.
const FRAME_LIMIT: u32 = 128;
/// SAS controllers have one bus.
const MAX_BUSES: u8 = 1;

impl Generation for Mpi1 {}

impl Sealed for Mpi1 {
    type Port = Fifo;
    const LONGEST_CDB: u8 = 16;
    const TASKS_BY_DOORBELL: bool = true;
    const PORT_ENABLE_BY_DOORBELL: bool = true;
    const EMPTY_READ_COSTS: bool = true;
    const LUN_AT: usize = offset_of!(ScsiIoRequest, lun);

    #[inline(never)]
    fn facts<R: Registers>(
        bus: &Bus<R>,
        delay: &mut dyn DelayNs,
        _chip: &Chip,
    ) -> Result<Facts, Error> {
        let request = ioc::IocFactsRequest { function: Function::IOC_FACTS, ..Default::default() };
        let mut reply = ioc::IocFactsReply::default();
        let (function, limit_ms) = (Function::IOC_FACTS, HANDSHAKE_LIMIT_MS);
        let into = reply.as_mut_bytes();
        ask::<Self, R>(bus, delay, function, request.as_bytes(), into, limit_ms)?;
        let capabilities = reply.capabilities();
        let frame_bytes = u32::from(reply.request_frame_size.get()) * 4;
        Ok(Facts {
            message_version: reply.msg_version.get(),
            firmware_version: reply.firmware_version,
            product_id: reply.product_id.get(),
            capabilities: capabilities.bits(),
            // MPI1 has no such thing; discovery starts anew at port enable.
            event_replay: false,
            credits: reply.global_credits.get(),
            high_priority_credits: reply.high_priority_queue_depth.get(),
            request_frame_bytes: frame_bytes,
            // The host chooses; the longest reply of this generation has 0x50 bytes.
            reply_frame_bytes: 128,
            chain_bytes: frame_bytes,
            max_chain_depth: reply.max_chain_depth,
            reply_queue_depth: reply.reply_queue_depth.get(),
            queues: 1,
            queue_array: false,
            atomic_descriptors: false,
            high_priority_queue: reply.msg_version.get() >= 0x0105
                && capabilities.contains(Capabilities::HIGH_PRIORITY_QUEUE),
            ports: reply.number_of_ports,
            max_devices: reply.devices_per_bus(),
        })
    }

    #[inline(never)]
    fn port_facts<R: Registers>(
        bus: &Bus<R>,
        delay: &mut dyn DelayNs,
        port: u8,
    ) -> Result<PortFacts, Error> {
        let request = ioc::PortFactsRequest {
            function: Function::PORT_FACTS,
            port_number: port,
            ..Default::default()
        };
        let mut reply = ioc::PortFactsReply::default();
        let (function, limit_ms) = (Function::PORT_FACTS, HANDSHAKE_LIMIT_MS);
        let into = reply.as_mut_bytes();
        ask::<Self, R>(bus, delay, function, request.as_bytes(), into, limit_ms)?;
        Ok(PortFacts {
            port_type: reply.port_type,
            max_posted_buffers: reply.max_posted_command_buffers.get(),
            protocol_flags: reply.protocol_flags.get(),
        })
    }

    fn shape(_facts: &Facts, chip: &Chip) -> Shape {
        Shape {
            scsi_io_header: SGL_OFFSET as u32,
            frame_limit: FRAME_LIMIT,
            sgl: SglFormat::Mpi64,
            address_bits: chip.quirks.address_bits,
            reply_rings: false,
        }
    }

    fn init<R: Registers>(
        bus: &Bus<R>,
        delay: &mut dyn DelayNs,
        facts: &Facts,
        memory: HostMemory<'_>,
        _now_ms: u64,
    ) -> Result<(), Error> {
        let HostMemory { plan, bus: base } = memory;
        let request = ioc::IocInitRequest {
            who_init: WhoInit::HOST_DRIVER,
            function: Function::IOC_INIT,
            // 0 stands for 256.
            max_devices: if facts.max_devices > 255 { 0 } else { facts.max_devices as u8 },
            max_buses: MAX_BUSES,
            reply_frame_size: (plan.layout.reply_bytes as u16).into(),
            host_mfa_high_address: base.high().into(),
            sense_buffer_high_address: base.offset(u64::from(plan.layout.sense)).high().into(),
            msg_version: facts.message_version.into(),
            ..Default::default()
        };
        let mut reply = ioc::IocInitReply::default();
        let (function, limit_ms) = (Function::IOC_INIT, IOC_INIT_LIMIT_MS);
        let into = reply.as_mut_bytes();
        ask::<Self, R>(bus, delay, function, request.as_bytes(), into, limit_ms)
    }

    fn prepare<D: DmaRegion>(_memory: &Memory<D>, _plan: &MemoryPlan) {}

    fn port(
        plan: &MemoryPlan,
        facts: &Facts,
        _chip: &Chip,
        bus: BusAddr,
        _queue: u8,
        epoch: u32,
    ) -> Fifo {
        Fifo::new(plan, bus, facts.high_priority_queue, epoch)
    }

    fn rearm(port: &mut Fifo, epoch: u32) {
        port.rearm(epoch);
    }

    #[inline]
    fn context(port: &Fifo, smid: u16) -> u32 {
        port.context(smid)
    }

    fn smid(port: &Fifo, context: u32) -> Option<u16> {
        port.smid(context)
    }

    fn give_reply_frame<R: Registers, D: DmaRegion>(
        bus: &Bus<R>,
        memory: &Memory<D>,
        _layout: &Layout,
        offset: usize,
        host_index: u32,
    ) -> u32 {
        bus.put(REPLY_QUEUE, memory.bus(offset).low());
        host_index
    }

    fn start_queues<R: Registers>(_bus: &Bus<R>, _plan: &MemoryPlan, _port: &Fifo) {}

    #[inline]
    fn write_scsi_io<D: DmaRegion>(
        port: &Fifo,
        memory: &Memory<D>,
        layout: &Layout,
        place: Place,
        device: Device,
        command: &Command<'_>,
    ) -> Result<(), SubmitError> {
        // By value: the command must not have to be in memory for the sake of the rare case.
        let Command { segments, direction, data_length, .. } = *command;
        let format = port.sgl;
        if let Some(element) = sgl::single(format, segments, direction, data_length) {
            let request = scsi_io_request(port, layout, place, device, command, 0)?;
            memory.write_message(place.frame_word, &request, &element);
            return Ok(());
        }
        let offset = SGL_OFFSET;
        let chain_offset =
            write_list(format, memory, layout, place, offset, segments, direction, data_length)?;
        let request = scsi_io_request(port, layout, place, device, command, chain_offset)?;
        memory.write_message(place.frame_word, &request, &[]);
        Ok(())
    }

    #[inline]
    fn word(port: &Fifo, smid: u16, _post: Post) -> u64 {
        port.word(smid)
    }

    #[inline(always)]
    fn post<R: Registers>(port: &Fifo, bus: &Bus<R>, word: u64, post: Post) {
        port.post(bus, word, post);
    }

    #[inline]
    fn next<R: Registers, D: DmaRegion>(
        port: &mut Fifo,
        bus: &Bus<R>,
        _memory: &Memory<D>,
    ) -> Option<(u64, Reply)> {
        port.next(bus)
    }

    fn success_smid(port: &Fifo, word: u64) -> u16 {
        port.smid(word as u32).unwrap_or(0)
    }

    fn is_torn<D: DmaRegion>(_port: &Fifo, _memory: &Memory<D>) -> bool {
        // A FIFO's word is read whole.
        false
    }

    #[inline]
    fn drained<R: Registers>(_port: &mut Fifo, _bus: &Bus<R>) {}

    #[inline]
    fn drain_limit(port: &Fifo) -> u32 {
        port.drain_limit()
    }

    fn reply_header(frame: &[u8]) -> Option<ReplyHeader> {
        let (header, _) = crate::wire::mpi1::ReplyHeader::read_from_prefix(frame).ok()?;
        Some(ReplyHeader {
            function: header.function,
            length: u16::from(header.msg_length) * 4,
            context: header.msg_context.get(),
            status: IocStatus(header.ioc_status.get()),
            log_info: LogInfo(header.ioc_log_info.get()),
        })
    }

    fn scsi_reply(frame: &[u8], requested: u32, sense_capacity: u8) -> Option<ReplyFacts> {
        has_result(frame)
            .then(|| ReplyFacts::from_mpi1(&read_reply(frame), requested, sense_capacity))
    }

    fn config(context: u32, request: &PageRequest, buffer: BusAddr) -> Message {
        let (action, page) = request.parts();
        let message = ConfigRequest {
            action,
            function: Function::CONFIG,
            ext_page_length: page.ext_length.into(),
            ext_page_type: page.ext_type,
            msg_context: context.into(),
            header: PageHeader {
                page_version: page.version,
                page_length: page.length,
                page_number: page.number,
                page_type: page.page_type,
            },
            page_address: request.address.into(),
            ..Default::default()
        };
        // An MPI element on every generation: only SCSI I/O and its kin have IEEE ones.
        Message::with_buffer(message.as_bytes(), buffer, request.bytes())
    }

    fn page_size(frame: &[u8]) -> Option<PageSize> {
        let (reply, _) = ConfigReply::read_from_prefix(frame).ok()?;
        let header = reply.header;
        let length = if PageType(header.page_type & 0x0f) == PageType::EXTENDED {
            reply.ext_page_length.get()
        } else {
            u16::from(header.page_length)
        };
        Some(PageSize { version: header.page_version, length })
    }

    fn port_enable(context: u32, port: u8) -> Message {
        let request = ioc::PortEnableRequest {
            function: Function::PORT_ENABLE,
            port_number: port,
            msg_context: context.into(),
            ..Default::default()
        };
        Message::new(request.as_bytes())
    }

    fn event_notification(context: u32) -> Message {
        let request = ioc::EventNotificationRequest {
            switch: 1,
            function: Function::EVENT_NOTIFICATION,
            msg_context: context.into(),
            ..Default::default()
        };
        Message::new(request.as_bytes())
    }

    fn event_ack(context: u32, event: u32, event_context: u32) -> Message {
        let request = ioc::EventAckRequest {
            function: Function::EVENT_ACK,
            msg_context: context.into(),
            event: event.into(),
            event_context: event_context.into(),
            ..Default::default()
        };
        Message::new(request.as_bytes())
    }

    fn task_management(port: &Fifo, context: u32, request: &TaskRequest) -> Message {
        let [bus, target_id] = request.device.address.to_be_bytes();
        let message = task::TaskManagementRequest {
            target_id,
            bus,
            function: Function::SCSI_TASK_MANAGEMENT,
            task_type: request.kind,
            msg_context: context.into(),
            lun: request.lun.0,
            task_msg_context: match request.smid {
                0 => 0,
                smid => port.context(smid),
            }
            .into(),
            ..Default::default()
        };
        Message::new(message.as_bytes())
    }

    fn remove_device(_context: u32, _handle: u16) -> Option<Message> {
        // mptsas resets the target and leaves the rest to the firmware.
        None
    }

    fn has_raid(_facts: &Facts) -> bool {
        false
    }

    fn raid_shutdown(_context: u32) -> Option<Message> {
        // No such action in mpi_raid.h.
        None
    }

    fn task_reply(frame: &[u8]) -> Option<TaskReply> {
        let (reply, _) = task::TaskManagementReply::read_from_prefix(frame).ok()?;
        Some(TaskReply {
            response: reply.response_code,
            terminated: reply.termination_count.get(),
            status: IocStatus(reply.ioc_status.get()),
            log_info: LogInfo(reply.ioc_log_info.get()),
        })
    }

    fn device_page(page: &[u8]) -> Option<DevicePage> {
        let (page, _) = SasDevice0::read_from_prefix(page).ok()?;
        Some(DevicePage {
            sas_address: page.sas_address.get(),
            handle: page.dev_handle.get(),
            address: u16::from_be_bytes([page.bus, page.target_id]),
            parent_handle: page.parent_dev_handle.get(),
            enclosure_handle: page.enclosure_handle.get(),
            slot: page.slot.get(),
            phy: page.phy_num,
            port: page.physical_port,
            access_status: page.access_status,
            device_info: page.device_info.get(),
        })
    }

    fn event(frame: &[u8]) -> Option<Event> {
        let (event, _) = ioc::EventNotificationReply::read_from_prefix(frame).ok()?;
        Some(Event {
            code: event.event.get(),
            context: event.event_context.get(),
            wants_acknowledge: event.ack_required != 0,
        })
    }

    fn device_event(frame: &[u8], news: &mut dyn FnMut(News)) {
        let Ok((header, _)) = ioc::EventNotificationReply::read_from_prefix(frame) else {
            return;
        };
        if EventCode::from(header.event) != EventCode::SAS_DEVICE_STATUS_CHANGE {
            return;
        }
        let Ok((change, _)) = SasDeviceStatusChange::read_from_prefix(event_data(frame)) else {
            news(News::Rescan);
            return;
        };
        let handle = change.dev_handle.get();
        match DeviceStatusReason(change.reason_code) {
            DeviceStatusReason::ADDED | DeviceStatusReason::NO_PERSIST_ADDED => {
                news(News::Added { handle });
            }
            DeviceStatusReason::NOT_RESPONDING => news(News::Gone { handle }),
            _ => {}
        }
    }
}

/// A SCSI I/O message up to its SGL.
#[inline]
fn scsi_io_request(
    port: &Fifo,
    layout: &Layout,
    place: Place,
    device: Device,
    command: &Command<'_>,
    chain_offset: u8,
) -> Result<[u64; 6], SubmitError> {
    let [bus, target_id] = device.address.to_be_bytes();
    let cdb = command.cdb.padded_16().ok_or(SubmitError::CdbLength(command.cdb.length()))?;
    let request = ScsiIoRequest {
        target_id,
        bus,
        chain_offset,
        function: Function::SCSI_IO,
        cdb_length: command.cdb.length(),
        sense_buffer_length: layout.sense_bytes as u8,
        msg_flags: scsi_io::MSG_FLAGS_SENSE_WIDTH_64,
        cdb,
        data_length: command.data_length.into(),
        sense_buffer_low_address: port.sense_low.wrapping_add(place.sense).into(),
        ..Default::default()
    };
    let mut request: [u64; 6] = zerocopy::transmute!(request);
    // Context, unit and control word fill words 1 and 2. Put in here they stay in registers;
    // through the struct they would be stored in parts and loaded whole, which stalls.
    let lun = u64::from_le_bytes(command.lun.0);
    request[1] = (lun << 32 | u64::from(port.context(place.smid))).to_le();
    request[2] = (lun >> 32 | u64::from(control_word(command)) << 32).to_le();
    Ok(request)
}
