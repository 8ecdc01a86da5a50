//! A controller that costs nothing: what is measured on it is the driver.
//!
//! It comes up as an IOC, so that the real bring-up runs and nothing about the driver under
//! measurement is a special case: it answers facts, port facts, IOC init, port enable, events and
//! the pages of one disk. From [`NullDevice::be_null`] on it only notes what is posted, and the
//! benchmark plays the device: it takes what was posted and answers it, where and as the
//! controller would.

use std::alloc::{Layout, alloc_zeroed};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr::NonNull;

use embedded_hal::delay::DelayNs;
use fusion_mpt::bringup::{Ready, Reset, Tables};
use fusion_mpt::controller::Controller;
use fusion_mpt::generation::Generation;
use fusion_mpt::generation::chips::Chip;
use fusion_mpt::memory_plan::{MemoryPlan, Wants};
use fusion_mpt::platform::{BusAddr, DmaRegion, Registers};
use fusion_mpt::shared::{ReplyRecord, SharedRecord};
use fusion_mpt::slots::SlotRecord;
use fusion_mpt::targets::{TargetId, TargetRecord};
use fusion_mpt::wire::config::pages::{mpi1 as pages1, mpi2 as pages2};
use fusion_mpt::wire::ioc::{mpi1 as ioc1, mpi2 as ioc2};
use fusion_mpt::wire::{Function, IocStatus};
use zerocopy::{FromBytes, IntoBytes};

/// The most commands between two visits of the device: the greatest queue depth measured.
pub(crate) const DEPTH: usize = 64;
/// Where the device finds the first byte of the DMA memory.
const BUS: u64 = 0x1_0000_0000;

const DOORBELL: u16 = 0x00;
const INTERRUPT_STATUS: u16 = 0x30;
const REQUEST_QUEUE: u16 = 0x40;
const REPLY_QUEUE: u16 = 0x44;
const REPLY_FREE_HOST_INDEX: u16 = 0x48;
const REQUEST_DESCRIPTOR_POST: u16 = 0xc0;

/// The DevHandle of the one disk.
const DISK: u16 = 9;

/// DMA memory: page aligned, zeroed, never freed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pages(NonNull<[u8]>);

impl Pages {
    pub(crate) fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, 4096).expect("a size from a plan");
        // SAFETY: the layout has a size: no plan is empty.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).expect("memory for the benchmark");
        Self(NonNull::slice_from_raw_parts(start, bytes))
    }

    /// The word at a bus address.
    #[inline]
    fn word<T>(self, address: u64) -> *mut T {
        let offset = (address - BUS) as usize;
        debug_assert!(offset + size_of::<T>() <= self.0.len());
        self.0.cast::<u8>().as_ptr().wrapping_add(offset).cast()
    }

    #[inline]
    fn write<T>(self, address: u64, value: T) {
        // SAFETY: the device here only uses addresses that the driver gave it.
        unsafe { self.word::<T>(address).write_volatile(value) };
    }

    fn read<T>(self, address: u64) -> T {
        // SAFETY: as above; `T` is a plain number.
        unsafe { self.word::<T>(address).read_volatile() }
    }

    fn write_bytes(self, address: u64, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            self.write(address + index as u64, *byte);
        }
    }
}

// SAFETY: the memory is never freed, page aligned, and reached by raw volatile accesses only.
unsafe impl DmaRegion for Pages {
    fn cpu(&self) -> NonNull<[u8]> {
        self.0
    }

    fn bus(&self) -> BusAddr {
        BusAddr(BUS)
    }
}

/// Which generation the device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Mpi1,
    Mpi2,
}

/// What the device must remember to come up.
#[derive(Default)]
struct Ioc {
    operational: bool,
    /// Words of a handshake still to come, and those that came.
    expected: u32,
    request: Vec<u8>,
    /// Half-words of the reply still to be read.
    reply: VecDeque<u16>,
    /// Where the driver's structures are: request frames, reply ring, reply free ring.
    frame_bytes: u64,
    frames: u64,
    ring: u64,
    ring_depth: u64,
    ring_at: u64,
    free: u64,
    free_depth: u64,
    free_at: u64,
    /// Reply frames of MPI1, as they were given.
    given: VecDeque<u32>,
    /// Answers in the reply FIFO of MPI1.
    answers: VecDeque<u32>,
}

/// The device.
pub(crate) struct NullDevice {
    kind: Kind,
    memory: Cell<Option<Pages>>,
    null: Cell<bool>,
    posted: [Cell<u64>; DEPTH],
    posts: Cell<usize>,
    answers: [Cell<u32>; DEPTH],
    answers_from: Cell<usize>,
    answers_to: Cell<usize>,
    ring: Cell<u64>,
    ring_depth: Cell<u64>,
    ring_at: Cell<u64>,
    host_index: Cell<u32>,
    ioc: RefCell<Ioc>,
}

impl NullDevice {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            memory: Cell::new(None),
            null: Cell::new(false),
            posted: [const { Cell::new(0) }; DEPTH],
            posts: Cell::new(0),
            answers: [const { Cell::new(0) }; DEPTH],
            answers_from: Cell::new(0),
            answers_to: Cell::new(0),
            ring: Cell::new(0),
            ring_depth: Cell::new(1),
            ring_at: Cell::new(0),
            host_index: Cell::new(0),
            ioc: RefCell::new(Ioc::default()),
        }
    }

    /// From now on only notes what is posted.
    pub(crate) fn be_null(&self) {
        let ioc = self.ioc.borrow();
        self.ring_to(ioc.ring, ioc.ring_depth, ioc.ring_at);
        self.null.set(true);
    }

    /// An IOC again, which says that it works and answers whatever it is given from now on.
    #[allow(dead_code, reason = "not every benchmark goes back")]
    pub(crate) fn be_ioc(&self) {
        self.null.set(false);
    }

    /// Answers into the ring of `depth` entries at `ring`, `at` next.
    pub(crate) fn ring_to(&self, ring: u64, depth: u64, at: u64) {
        self.ring.set(ring);
        self.ring_depth.set(depth);
        self.ring_at.set(at);
    }

    pub(crate) fn set_memory(&self, memory: Pages) {
        self.memory.set(Some(memory));
    }

    /// MPI2: answers everything posted with a success.
    #[inline]
    pub(crate) fn complete_mpi2(&self, memory: Pages) {
        let (ring, depth) = (self.ring.get(), self.ring_depth.get());
        let mut at = self.ring_at.get();
        for posted in &self.posted[..self.posts.get().min(DEPTH)] {
            memory.write(ring + at * 8, posted.get() & 0xffff_ff00);
            at = if at + 1 == depth { 0 } else { at + 1 };
        }
        self.ring_at.set(at);
        self.posts.set(0);
    }

    /// MPI1: answers everything posted with its context.
    #[inline]
    pub(crate) fn complete_mpi1(&self, memory: Pages) {
        let count = self.posts.get().min(DEPTH);
        for (posted, answer) in self.posted[..count].iter().zip(&self.answers) {
            // The context, from the frame.
            let frame = BUS | posted.get();
            answer.set(memory.read(frame + 8));
        }
        self.answers_from.set(0);
        self.answers_to.set(count);
        self.posts.set(0);
    }

    #[inline]
    fn note(&self, value: u64) {
        let posts = self.posts.get();
        self.posted[posts % DEPTH].set(value);
        self.posts.set(posts + 1);
    }

    #[cold]
    fn ioc_read(&self, offset: u16) -> u32 {
        let mut ioc = self.ioc.borrow_mut();
        match offset {
            DOORBELL => {
                let state = if ioc.operational { 2 } else { 1 };
                state << 28 | u32::from(ioc.reply.pop_front().unwrap_or(0))
            }
            // The IOC has always answered and always taken what was written.
            INTERRUPT_STATUS => 1,
            REPLY_QUEUE => ioc.answers.pop_front().unwrap_or(u32::MAX),
            _ => 0,
        }
    }

    #[cold]
    fn ioc_write(&self, offset: u16, value: u32) {
        let mut ioc = self.ioc.borrow_mut();
        match offset {
            DOORBELL if ioc.expected > 0 => {
                ioc.expected -= 1;
                ioc.request.extend(value.to_le_bytes());
                if ioc.expected == 0 {
                    let request = std::mem::take(&mut ioc.request);
                    let reply = self.handshake(&mut ioc, &request);
                    ioc.reply = reply
                        .chunks_exact(2)
                        .map(|half| u16::from_le_bytes([half[0], half[1]]))
                        .collect();
                }
            }
            DOORBELL if value >> 24 == 0x42 => ioc.expected = value >> 16 & 0xff,
            REQUEST_QUEUE => self.request(&mut ioc, BUS | u64::from(value), 0),
            REPLY_QUEUE if self.kind == Kind::Mpi1 => ioc.given.push_back(value),
            REPLY_FREE_HOST_INDEX | REPLY_QUEUE => {}
            _ => {}
        }
    }

    /// What the IOC says through the doorbell.
    fn handshake(&self, ioc: &mut Ioc, request: &[u8]) -> Vec<u8> {
        let function = Function(request[3]);
        let mut reply = match (function, self.kind) {
            (Function::IOC_FACTS, Kind::Mpi1) => ioc1::IocFactsReply {
                msg_version: 0x0105.into(),
                max_chain_depth: 34,
                reply_queue_depth: 9000.into(),
                request_frame_size: 32.into(),
                global_credits: 9000.into(),
                number_of_ports: 1,
                max_buses: 1,
                ..Default::default()
            }
            .as_bytes()
            .to_vec(),
            (Function::IOC_FACTS, Kind::Mpi2) => ioc2::IocFactsReply {
                msg_version: 0x0205.into(),
                max_chain_depth: 128,
                number_of_ports: 1,
                max_msix_vectors: 1,
                request_credit: 9000.into(),
                ioc_request_frame_size: 32.into(),
                ioc_max_chain_segment_size: 8.into(),
                high_priority_credit: 128.into(),
                max_reply_descriptor_post_queue_depth: 65504.into(),
                reply_frame_size: 32,
                max_dev_handle: 2048.into(),
                ..Default::default()
            }
            .as_bytes()
            .to_vec(),
            (Function::PORT_FACTS, Kind::Mpi1) => vec![0; 0x28],
            (Function::PORT_FACTS, Kind::Mpi2) => vec![0; 0x1c],
            (Function::IOC_INIT, _) => {
                ioc.operational = true;
                if self.kind == Kind::Mpi2 {
                    let init = ioc2::IocInitRequest::read_from_bytes(request).expect("IOC init");
                    ioc.frame_bytes = u64::from(init.system_request_frame_size.get()) * 4;
                    ioc.frames = init.system_request_frame_base_address.get();
                    ioc.ring = init.reply_descriptor_post_queue_address.get();
                    ioc.ring_depth = init.reply_descriptor_post_queue_depth.get().into();
                    ioc.free = init.reply_free_queue_address.get();
                    ioc.free_depth = init.reply_free_queue_depth.get().into();
                }
                vec![0; 0x14]
            }
            _ => vec![0; 0x14],
        };
        reply[2] = (reply.len() / 4) as u8;
        reply[3] = function.0;
        reply
    }

    /// A request of the driver's own, through the queue: answered at once, with a reply frame.
    fn request(&self, ioc: &mut Ioc, frame: u64, smid: u16) {
        let memory = self.memory.get().expect("the memory is there before the first request");
        let function = Function(memory.read::<u8>(frame + 3));
        let mut reply = vec![0u8; 0x1c];
        reply[8..12].copy_from_slice(&memory.read::<[u8; 4]>(frame + 8));
        if function == Function::CONFIG {
            let disk = self.disk();
            reply[0..8].copy_from_slice(&memory.read::<[u8; 8]>(frame));
            reply[4..6].copy_from_slice(&((disk.len() / 4) as u16).to_le_bytes());
            reply[20..24].copy_from_slice(&memory.read::<[u8; 4]>(frame + 20));
            let address: u32 = memory.read(frame + 24);
            // The list has one handle.
            if address >> 28 == 0 && address != 0xffff {
                reply[14..16].copy_from_slice(&IocStatus::CONFIG_INVALID_PAGE.0.to_le_bytes());
            } else if reply[0] != 0 {
                let [low, high] = memory.read::<[u32; 2]>(frame + 32);
                memory.write_bytes(u64::from(low) | u64::from(high) << 32, &disk);
            }
        }
        reply[2] = (reply.len() / 4) as u8;
        reply[3] = function.0;
        let low = match self.kind {
            Kind::Mpi1 => ioc.given.pop_front().expect("a reply frame"),
            Kind::Mpi2 => {
                let low = memory.read(ioc.free + ioc.free_at * 4);
                ioc.free_at = (ioc.free_at + 1) % ioc.free_depth;
                low
            }
        };
        memory.write_bytes(BUS | u64::from(low), &reply);
        match self.kind {
            Kind::Mpi1 => ioc.answers.push_back(1 << 31 | low >> 1),
            Kind::Mpi2 => {
                let descriptor = 1 | u64::from(smid) << 16 | u64::from(low) << 32;
                memory.write(ioc.ring + ioc.ring_at * 8, descriptor);
                ioc.ring_at = (ioc.ring_at + 1) % ioc.ring_depth;
            }
        }
    }

    /// SAS device page 0 of the one disk.
    fn disk(&self) -> Vec<u8> {
        const SSP_END_DEVICE: u32 = 0x401;
        match self.kind {
            Kind::Mpi1 => pages1::SasDevice0 {
                sas_address: 0x5000_c500_0000_0001.into(),
                dev_handle: DISK.into(),
                device_info: SSP_END_DEVICE.into(),
                ..Default::default()
            }
            .as_bytes()
            .to_vec(),
            Kind::Mpi2 => pages2::SasDevice0 {
                sas_address: 0x5000_c500_0000_0001.into(),
                dev_handle: DISK.into(),
                device_info: SSP_END_DEVICE.into(),
                ..Default::default()
            }
            .as_bytes()
            .to_vec(),
        }
    }
}

impl Registers for NullDevice {
    #[inline]
    fn read32(&self, offset: u16) -> u32 {
        if !self.null.get() {
            return self.ioc_read(offset);
        }
        let from = self.answers_from.get();
        if offset != REPLY_QUEUE || from == self.answers_to.get() {
            return u32::MAX;
        }
        self.answers_from.set(from + 1);
        self.answers[from % DEPTH].get()
    }

    #[inline]
    fn write32(&self, offset: u16, value: u32) {
        if !self.null.get() {
            self.ioc_write(offset, value);
        } else if offset == REQUEST_QUEUE {
            self.note(u64::from(value));
        } else {
            self.host_index.set(value);
        }
    }

    #[inline]
    fn write64(&self, offset: u16, value: u64) {
        if self.null.get() {
            self.note(value);
            return;
        }
        assert_eq!(offset, REQUEST_DESCRIPTOR_POST);
        let smid = (value >> 16) as u16;
        let mut ioc = self.ioc.borrow_mut();
        let frame = ioc.frames + u64::from(smid) * ioc.frame_bytes;
        self.request(&mut ioc, frame, smid);
    }
}

/// The null device needs no time.
#[derive(Debug)]
pub(crate) struct NoDelay;

impl DelayNs for NoDelay {
    fn delay_ns(&mut self, _ns: u32) {}
}

/// The chip that stands for a generation: a SAS1068, or a SAS3008 with its IEEE elements.
pub(crate) fn chip(kind: Kind) -> &'static Chip {
    let device = match kind {
        Kind::Mpi1 => 0x54,
        Kind::Mpi2 => 0x97,
    };
    Chip::find(0x1000, device).expect("in the table")
}

/// The IOC, ready and asked.
pub(crate) fn ready<G: Generation>(
    kind: Kind,
) -> (&'static NullDevice, Ready<G, &'static NullDevice>) {
    let device: &'static NullDevice = Box::leak(Box::new(NullDevice::new(kind)));
    let ready = Reset::<G, _>::new(device, chip(kind)).make_ready(&mut NoDelay);
    (device, ready.expect("bring-up on the null device"))
}

/// A controller on the null device, as production brings it up.
pub(crate) struct Rig<G: Generation> {
    pub(crate) device: &'static NullDevice,
    pub(crate) memory: Pages,
    pub(crate) controller: Controller<'static, G, &'static NullDevice, Pages>,
    pub(crate) target: TargetId,
    #[allow(dead_code, reason = "not every benchmark looks at it")]
    pub(crate) plan: MemoryPlan,
}

impl<G: Generation> Rig<G> {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::with(kind, &Wants::default())
    }

    pub(crate) fn with(kind: Kind, wants: &Wants) -> Self {
        let (device, ready) = ready::<G>(kind);
        let plan = ready.plan(wants).expect("a plan");
        let memory = Pages::new(plan.bytes);
        device.set_memory(memory);
        let tables = Tables {
            slots: vec![SlotRecord::NEW; plan.slots.into()].leak(),
            replies: (0..plan.reply_frames).map(|_| ReplyRecord::new()).collect::<Vec<_>>().leak(),
            shared: Box::leak(Box::new(SharedRecord::new())),
            targets: vec![TargetRecord::default(); 16].leak(),
        };
        let controller =
            ready.start(&plan, memory, tables, 0, &mut NoDelay).expect("the null device starts");
        let target = controller.targets().next().expect("the one disk").id;
        device.be_null();
        Self { device, memory, controller, target, plan }
    }
}
