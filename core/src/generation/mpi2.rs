//! MPI 2.0, 2.5 and 2.6.

use core::mem::offset_of;

use embedded_hal::delay::DelayNs;
use zerocopy::{FromBytes, IntoBytes};

use super::chips::{Chip, Family};
use super::sealed::{Place, Sealed};
use super::write_list;
use super::{
    Command, Device, Facts, Generation, HostMemory, Message, Mpi2, PortFacts, Post, Reply,
    ReplyHeader, ask, control_word, has_result,
};
use crate::error::{Error, SubmitError};
use crate::log_info::LogInfo;
use crate::mem::Memory;
use crate::memory_plan::{Layout, MemoryPlan, Shape};
use crate::outcome::ReplyFacts;
use crate::pages::{PageRequest, PageSize};
use crate::platform::{BusAddr, DmaRegion, Registers};
use crate::queue::ring::{PostMethod, Ring};
use crate::regs::Bus;
use crate::regs::mpi2::REPLY_FREE_HOST_INDEX;
use crate::reply::{DevicePage, Event, News, TaskReply};
use crate::request::TaskRequest;
use crate::sgl::{self, SglFormat};
use crate::wire::config::mpi2::{ConfigReply, ConfigRequest};
use crate::wire::config::pages::mpi2::SasDevice0;
use crate::wire::config::{PageHeader, PageType};
use crate::wire::event::mpi2::{SasTopology, TopologyReason};
use crate::wire::event::{EventCode, event_data};
use crate::wire::ioc::WhoInit;
use crate::wire::ioc::mpi2::{self as ioc, Capabilities};
use crate::wire::raid::{RaidAction, RaidActionRequest};
use crate::wire::scsi_io::control;
use crate::wire::scsi_io::mpi2::{self as scsi_io, ScsiIoRequest};
use crate::wire::task::SasOperation;
use crate::wire::task::mpi2 as task;
use crate::wire::{Function, IocStatus, read_reply};

/// The version that this driver's messages are written to, for each family (`MPI2_VERSION`).
const MESSAGE_VERSION: u16 = 0x0200;
/// `MPI2_HEADER_VERSION` of the header that the layouts were taken from.
const HEADER_VERSION: u16 = 0x3200;
/// `HostPageSize`: 2^12 bytes.
const HOST_PAGE_SHIFT: u8 = 12;
const HANDSHAKE_LIMIT_MS: u32 = 10_000;
const IOC_INIT_LIMIT_MS: u32 = 30_000;
/// Where the SGL begins in a SCSI I/O message, in bytes.
const SGL_OFFSET: usize = 0x60;
/// Beyond 8 reply queues the supplemental host index registers are used.
const QUEUES_WITHOUT_SUPPLEMENTAL: u8 = 8;

/// Events that this driver wants: device status, discovery, topology, enclosures, log entries,
/// volumes. A set bit in the mask turns an event off.
const WANTED_EVENTS: [EventCode; 8] = [
    EventCode::SAS_DEVICE_STATUS_CHANGE,
    EventCode::SAS_DISCOVERY,
    EventCode::SAS_TOPOLOGY_CHANGE_LIST,
    EventCode::ENCLOSURE_DEVICE_STATUS_CHANGE,
    EventCode::LOG_ENTRY_ADDED,
    EventCode::IR_VOLUME,
    EventCode::IR_PHYSICAL_DISK,
    EventCode::IR_CONFIGURATION_CHANGE_LIST,
];

impl Generation for Mpi2 {}

impl Sealed for Mpi2 {
    type Port = Ring;
    const LONGEST_CDB: u8 = 32;
    const TASKS_BY_DOORBELL: bool = false;
    const PORT_ENABLE_BY_DOORBELL: bool = false;
    const EMPTY_READ_COSTS: bool = false;
    const LUN_AT: usize = offset_of!(ScsiIoRequest, lun);

    #[inline(never)]
    fn facts<R: Registers>(
        bus: &Bus<R>,
        delay: &mut dyn DelayNs,
        chip: &Chip,
    ) -> Result<Facts, Error> {
        let request = ioc::IocFactsRequest { function: Function::IOC_FACTS, ..Default::default() };
        let mut reply = ioc::IocFactsReply::default();
        let (function, limit_ms) = (Function::IOC_FACTS, HANDSHAKE_LIMIT_MS);
        let into = reply.as_mut_bytes();
        ask::<Self, R>(bus, delay, function, request.as_bytes(), into, limit_ms)?;
        let capabilities = reply.capabilities();
        let frame_bytes = u32::from(reply.ioc_request_frame_size.get()) * 4;
        // 0 means that a chain frame is as big as a request frame; so it is before MPI 2.5.
        let chain_bytes = match reply.ioc_max_chain_segment_size.get() {
            units if units != 0 && chip.family != Family::Mpi20 => u32::from(units) * 16,
            _ => frame_bytes,
        };
        Ok(Facts {
            message_version: reply.msg_version.get(),
            firmware_version: reply.firmware_version,
            product_id: reply.product_id.get(),
            capabilities: capabilities.bits(),
            event_replay: capabilities.contains(Capabilities::EVENT_REPLAY),
            credits: reply.request_credit.get(),
            high_priority_credits: reply.high_priority_credit.get(),
            request_frame_bytes: frame_bytes,
            reply_frame_bytes: u32::from(reply.reply_frame_size) * 4,
            chain_bytes,
            max_chain_depth: reply.max_chain_depth,
            reply_queue_depth: reply.max_reply_descriptor_post_queue_depth.get(),
            queues: if capabilities.contains(Capabilities::MSI_X_INDEX) {
                reply.max_msix_vectors.max(1)
            } else {
                1
            },
            queue_array: capabilities.contains(Capabilities::RDPQ_ARRAY),
            atomic_descriptors: capabilities.contains(Capabilities::ATOMIC_REQUEST),
            high_priority_queue: true,
            ports: reply.number_of_ports,
            max_devices: reply.max_dev_handle.get(),
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
            protocol_flags: 0,
        })
    }

    fn shape(_facts: &Facts, chip: &Chip) -> Shape {
        Shape {
            scsi_io_header: SGL_OFFSET as u32,
            frame_limit: 256,
            sgl: if chip.family == Family::Mpi20 { SglFormat::Mpi64 } else { SglFormat::Ieee64 },
            address_bits: chip.quirks.address_bits,
            reply_rings: true,
        }
    }

    fn init<R: Registers>(
        bus: &Bus<R>,
        delay: &mut dyn DelayNs,
        facts: &Facts,
        memory: HostMemory<'_>,
        now_ms: u64,
    ) -> Result<(), Error> {
        let HostMemory { plan, bus: base } = memory;
        let layout = &plan.layout;
        let at = |offset: u32| base.offset(u64::from(offset));
        let array = uses_queue_array(facts, plan);
        let rings = if array { layout.queue_array } else { layout.reply_post };
        let request = ioc::IocInitRequest {
            who_init: WhoInit::HOST_DRIVER,
            function: Function::IOC_INIT,
            msg_flags: if array { ioc::IOC_INIT_RDPQ_ARRAY } else { 0 },
            msg_version: MESSAGE_VERSION.into(),
            header_version: HEADER_VERSION.into(),
            host_page_size: HOST_PAGE_SHIFT,
            host_msix_vectors: plan.queues,
            system_request_frame_size: ((layout.frame_bytes / 4) as u16).into(),
            reply_descriptor_post_queue_depth: (layout.reply_post_depth as u16).into(),
            reply_free_queue_depth: (layout.reply_free_depth as u16).into(),
            sense_buffer_address_high: at(layout.sense).high().into(),
            system_reply_address_high: at(layout.replies).high().into(),
            system_request_frame_base_address: base.0.into(),
            reply_descriptor_post_queue_address: at(rings).0.into(),
            reply_free_queue_address: at(layout.reply_free).0.into(),
            time_stamp: now_ms.into(),
            ..Default::default()
        };
        let mut reply = ioc::IocInitReply::default();
        let (function, limit_ms) = (Function::IOC_INIT, IOC_INIT_LIMIT_MS);
        let into = reply.as_mut_bytes();
        ask::<Self, R>(bus, delay, function, request.as_bytes(), into, limit_ms)
    }

    fn prepare<D: DmaRegion>(memory: &Memory<D>, plan: &MemoryPlan) {
        Ring::clear(memory, plan);
        let layout = &plan.layout;
        let ring_bytes = layout.reply_post_depth.wrapping_mul(8);
        for queue in 0..u32::from(plan.queues) {
            let ring = layout.reply_post.wrapping_add(queue.wrapping_mul(ring_bytes));
            let entry = layout.queue_array.wrapping_add(queue.wrapping_mul(16));
            memory.write_u64(entry as usize, memory.bus(ring as usize).0);
        }
    }

    fn port(
        plan: &MemoryPlan,
        facts: &Facts,
        chip: &Chip,
        bus: BusAddr,
        queue: u8,
        _epoch: u32,
    ) -> Ring {
        let method = if facts.atomic_descriptors && chip.quirks.atomic_descriptors {
            PostMethod::Atomic
        } else if chip.quirks.split_posts {
            PostMethod::Split
        } else {
            PostMethod::Whole
        };
        let same_in_all: [u64; 12] = zerocopy::transmute!(ScsiIoRequest {
            sense_buffer_length: plan.layout.sense_bytes as u8,
            sgl_offset_0: scsi_io::SGL_OFFSET_0,
            ..Default::default()
        });
        let sense_low = bus.offset(u64::from(plan.layout.sense)).low();
        let supplemental = facts.queues > QUEUES_WITHOUT_SUPPLEMENTAL;
        Ring::new(plan, queue, method, supplemental, same_in_all[2], sense_low)
    }

    fn rearm(port: &mut Ring, _epoch: u32) {
        port.rearm();
    }

    #[inline]
    fn context(_port: &Ring, smid: u16) -> u32 {
        smid.into()
    }

    fn smid(_port: &Ring, context: u32) -> Option<u16> {
        u16::try_from(context).ok()
    }

    fn give_reply_frame<R: Registers, D: DmaRegion>(
        bus: &Bus<R>,
        memory: &Memory<D>,
        layout: &Layout,
        offset: usize,
        host_index: u32,
    ) -> u32 {
        // As Linux does: step on, write the entry, and name it. All entries are in use, so the one
        // after it is the one that the device took longest ago.
        let next = host_index.wrapping_add(1);
        let next = if next >= layout.reply_free_depth { 0 } else { next };
        let entry = layout.reply_free.wrapping_add(next.wrapping_mul(4));
        memory.write_u32(entry as usize, memory.bus(offset).low());
        bus.put(REPLY_FREE_HOST_INDEX, next);
        next
    }

    fn start_queues<R: Registers>(bus: &Bus<R>, plan: &MemoryPlan, port: &Ring) {
        port.start(bus, plan.queues);
    }

    #[inline]
    fn write_scsi_io<D: DmaRegion>(
        port: &Ring,
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
            let request = scsi_io_request(port, place, device, command, 0);
            memory.write_message(place.frame_word, &request, &element);
            return Ok(());
        }
        let offset = SGL_OFFSET;
        let chain_offset =
            write_list(format, memory, layout, place, offset, segments, direction, data_length)?;
        let request = scsi_io_request(port, place, device, command, chain_offset);
        memory.write_message(place.frame_word, &request, &[]);
        Ok(())
    }

    #[inline]
    fn word(port: &Ring, smid: u16, post: Post) -> u64 {
        port.descriptor(smid, post)
    }

    #[inline(always)]
    fn post<R: Registers>(port: &Ring, bus: &Bus<R>, word: u64, _post: Post) {
        port.post(bus, word);
    }

    #[inline]
    fn next<R: Registers, D: DmaRegion>(
        port: &mut Ring,
        _bus: &Bus<R>,
        memory: &Memory<D>,
    ) -> Option<(u64, Reply)> {
        port.next(memory)
    }

    fn success_smid(_port: &Ring, word: u64) -> u16 {
        (word >> 16) as u16
    }

    fn is_torn<D: DmaRegion>(port: &Ring, memory: &Memory<D>) -> bool {
        port.is_torn(memory)
    }

    #[inline]
    fn drained<R: Registers>(port: &mut Ring, bus: &Bus<R>) {
        port.drained(bus);
    }

    #[inline]
    fn drain_limit(port: &Ring) -> u32 {
        port.drain_limit()
    }

    fn reply_header(frame: &[u8]) -> Option<ReplyHeader> {
        let (header, _) = crate::wire::mpi2::ReplyHeader::read_from_prefix(frame).ok()?;
        Some(ReplyHeader {
            function: header.function,
            length: u16::from(header.msg_length) * 4,
            context: 0,
            status: IocStatus(header.ioc_status.get()),
            log_info: LogInfo(header.ioc_log_info.get()),
        })
    }

    fn scsi_reply(frame: &[u8], requested: u32, sense_capacity: u8) -> Option<ReplyFacts> {
        has_result(frame)
            .then(|| ReplyFacts::from_mpi2(&read_reply(frame), requested, sense_capacity))
    }

    fn config(_context: u32, request: &PageRequest, buffer: BusAddr) -> Message {
        let (action, page) = request.parts();
        let message = ConfigRequest {
            action,
            function: Function::CONFIG,
            ext_page_length: page.ext_length.into(),
            ext_page_type: page.ext_type,
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

    fn port_enable(_context: u32, port: u8) -> Message {
        let request = ioc::PortEnableRequest {
            function: Function::PORT_ENABLE,
            port_flags: port,
            ..Default::default()
        };
        Message::new(request.as_bytes())
    }

    fn event_notification(_context: u32) -> Message {
        let masks =
            WANTED_EVENTS.iter().fold(ioc::EventMasks::NONE, |masks, wanted| masks.with(*wanted));
        let request = ioc::EventNotificationRequest {
            function: Function::EVENT_NOTIFICATION,
            event_masks: masks.words(),
            ..Default::default()
        };
        Message::new(request.as_bytes())
    }

    fn event_ack(_context: u32, event: u32, event_context: u32) -> Message {
        let request = ioc::EventAckRequest {
            function: Function::EVENT_ACK,
            event: (event as u16).into(),
            event_context: event_context.into(),
            ..Default::default()
        };
        Message::new(request.as_bytes())
    }

    fn task_management(_port: &Ring, _context: u32, request: &TaskRequest) -> Message {
        let message = task::TaskManagementRequest {
            dev_handle: request.device.address.into(),
            function: Function::SCSI_TASK_MANAGEMENT,
            task_type: request.kind,
            lun: request.lun.0,
            task_mid: request.smid.into(),
            ..Default::default()
        };
        Message::new(message.as_bytes())
    }

    fn remove_device(_context: u32, handle: u16) -> Option<Message> {
        let message = task::SasIoUnitControlRequest {
            operation: SasOperation::REMOVE_DEVICE,
            function: Function::SAS_IO_UNIT_CONTROL,
            dev_handle: handle.into(),
            ..Default::default()
        };
        Some(Message::new(message.as_bytes()))
    }

    fn has_raid(facts: &Facts) -> bool {
        let capabilities = Capabilities::from_bits_retain(facts.capabilities);
        capabilities.contains(Capabilities::INTEGRATED_RAID)
    }

    fn raid_shutdown(_context: u32) -> Option<Message> {
        let message = RaidActionRequest {
            action: RaidAction::SYSTEM_SHUTDOWN_INITIATED,
            function: Function::RAID_ACTION,
            ..Default::default()
        };
        Some(Message::new(message.as_bytes()))
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
        let handle = page.dev_handle.get();
        Some(DevicePage {
            sas_address: page.sas_address.get(),
            handle,
            address: handle,
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
            code: u32::from(event.event.get()),
            context: event.event_context.get(),
            wants_acknowledge: event.ack_required != 0,
        })
    }

    fn device_event(frame: &[u8], news: &mut dyn FnMut(News)) {
        let Ok((header, _)) = ioc::EventNotificationReply::read_from_prefix(frame) else {
            return;
        };
        if EventCode(header.event.get()) != EventCode::SAS_TOPOLOGY_CHANGE_LIST {
            return;
        }
        let Some(list) = SasTopology::parse(event_data(frame)) else { return };
        // A list longer than its frame was cut off: what is missing, a scan tells.
        if list.entries().count() < usize::from(list.head.num_entries) {
            news(News::Rescan);
        }
        for (_, phy) in list.entries() {
            let handle = phy.attached_dev_handle.get();
            match phy.reason() {
                TopologyReason::TARGET_ADDED => news(News::Added { handle }),
                TopologyReason::TARGET_NOT_RESPONDING => news(News::Gone { handle }),
                _ => {}
            }
        }
    }
}

/// The queue array is used where the firmware knows it and there is more than one queue.
fn uses_queue_array(facts: &Facts, plan: &MemoryPlan) -> bool {
    facts.queue_array && plan.queues > 1
}

/// A SCSI I/O message up to its SGL.
#[inline]
fn scsi_io_request(
    port: &Ring,
    place: Place,
    device: Device,
    command: &Command<'_>,
    chain_offset: u8,
) -> [u64; 12] {
    let cdb_length = command.cdb.length();
    let request = ScsiIoRequest {
        dev_handle: device.address.into(),
        chain_offset,
        function: Function::SCSI_IO,
        sense_buffer_low_address: port.sense_low.wrapping_add(place.sense).into(),
        data_length: command.data_length.into(),
        io_flags: u16::from(cdb_length).into(),
        cdb: *command.cdb.padded(),
        ..Default::default()
    };
    let mut request: [u64; 12] = zerocopy::transmute!(request);
    request[2] = port.sense_and_sgl;
    // The unit and the control word straddle words 6 and 7. Put in here they stay in registers;
    // through the struct they would be stored in parts and loaded whole, which stalls.
    let control = control_word(command) | control::additional_cdb_length(cdb_length);
    let lun = u64::from_le_bytes(command.lun.0);
    request[6] = (lun << 32).to_le();
    request[7] = (lun >> 32 | u64::from(control) << 32).to_le();
    request
}
