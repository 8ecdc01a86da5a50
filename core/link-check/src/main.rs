#![no_std]
#![no_main]
#![deny(missing_docs)]
//! A program without an operating system, an allocator or `std` that links the core.
//!
//! It is linked and read, never run (`cargo xtask test host`):
//!
//! - that it links proves that the core needs no allocator;
//! - no symbol of `core::panicking` may be left in it, nor be reachable from `probe_submit_*` or
//!   `probe_poll_*`;
//! - its executable and read-only sections are the figures `size.text_bytes.<target>.*`.
//!
//! So everything a driver calls must be called from here, with values that the optimiser cannot
//! know ([`black_box`]).

use core::cell::UnsafeCell;
use core::hint::black_box;
use core::panic::PanicInfo;
use core::ptr::NonNull;

use critical_section::RawRestoreState;
use embedded_hal::delay::DelayNs;
use fusion_mpt::bringup::{Parts, Reset, Tables};
use fusion_mpt::controller::{Action, Controller, TaskRoute};
use fusion_mpt::error::Error;
use fusion_mpt::generation::chips::Chip;
use fusion_mpt::generation::{Command, Device, Generation, TaskAttribute};
use fusion_mpt::io_queue::{Completion, Queue};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::Failure;
use fusion_mpt::pages::PageRequest;
use fusion_mpt::platform::{BusAddr, DmaRegion, Registers};
use fusion_mpt::recovery::{Policy, TaskRequest, TaskType};
use fusion_mpt::scsi::{Cdb, Lun};
use fusion_mpt::sgl::{Direction, Segment};
use fusion_mpt::shared::{ReplyRecord, SharedRecord};
use fusion_mpt::slots::SlotRecord;
use fusion_mpt::targets::{TargetId, TargetRecord};

/// Bytes of DMA memory: enough to link with, not to run with.
const DMA_BYTES: usize = 64 * 1024;

/// Must exist, must never be referenced.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    panicked()
}

/// Where every panic ends. Never inlined, and with an effect: however the optimiser folds the way
/// here, this symbol is in the image if and only if something can panic.
#[inline(never)]
fn panicked() -> ! {
    loop {
        black_box(&DMA_MEMORY);
    }
}

#[repr(C, align(4096))]
struct DmaBytes(UnsafeCell<[u8; DMA_BYTES]>);

// SAFETY: reached only through the volatile accesses of `Memory`.
unsafe impl Sync for DmaBytes {}

static DMA_MEMORY: DmaBytes = DmaBytes(UnsafeCell::new([0; DMA_BYTES]));

/// The static DMA memory, at a bus address that the linker does not know.
#[derive(Clone, Copy)]
pub struct StaticDma {
    bus: BusAddr,
}

// SAFETY: the static lives for ever, is page aligned, and nothing else refers to it.
unsafe impl DmaRegion for StaticDma {
    fn cpu(&self) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(NonNull::from(&DMA_MEMORY).cast(), black_box(DMA_BYTES))
    }

    fn bus(&self) -> BusAddr {
        self.bus
    }
}

/// A register block somewhere in memory. The cheapest back end there is, so that the text size is
/// the core's own.
#[derive(Clone, Copy)]
pub struct Window {
    base: NonNull<u8>,
}

impl Registers for Window {
    fn read32(&self, offset: u16) -> u32 {
        // SAFETY: this program is never run.
        let at = unsafe { self.base.byte_add(usize::from(offset)) };
        // SAFETY: as above.
        unsafe { at.cast::<u32>().read_volatile() }
    }

    fn write32(&self, offset: u16, value: u32) {
        // SAFETY: this program is never run.
        let at = unsafe { self.base.byte_add(usize::from(offset)) };
        // SAFETY: as above.
        unsafe { at.cast::<u32>().write_volatile(value) };
    }
}

/// Waits for as long as the optimiser thinks fit.
struct NoDelay;

impl DelayNs for NoDelay {
    fn delay_ns(&mut self, ns: u32) {
        black_box(ns);
    }
}

struct OneContext;
critical_section::set_impl!(OneContext);

// SAFETY: the program has one context, so there is nobody to exclude.
unsafe impl critical_section::Impl for OneContext {
    unsafe fn acquire() -> RawRestoreState {}
    unsafe fn release(_: RawRestoreState) {}
}

fn take(completion: Completion<'_>) {
    black_box((completion.cookie, completion.outcome, completion.sense, completion.log_info));
}

/// What differs between the generations: the probes.
struct Probes<G: Generation> {
    submit: fn(&mut Controller<'_, G, Window, StaticDma>, TargetId, &Command<'_>) -> u32,
    poll: fn(&mut Controller<'_, G, Window, StaticDma>) -> u32,
    submit_on: fn(&mut Queue<'_, G, Window, StaticDma>, Device, &Command<'_>) -> u32,
    poll_on: fn(&mut Queue<'_, G, Window, StaticDma>) -> u32,
}

/// Brings a controller of one generation up and calls everything that a driver calls.
fn drive<G: Generation>(probes: &Probes<G>) -> Result<(), Error> {
    let Some(chip) = Chip::find(black_box(0x1000), black_box(0x54)) else {
        return Ok(());
    };
    let mut reset = Reset::<G, _>::new(Window { base: black_box(NonNull::dangling()) }, chip);
    let mut region = StaticDma { bus: black_box(BusAddr(0)) };
    let mut slots = [SlotRecord::NEW; 16];
    let replies = [const { ReplyRecord::new() }; 16];
    let mut targets = [TargetRecord::default(); 16];
    let shared = SharedRecord::new();
    loop {
        let ready = if black_box(true) {
            reset.make_ready(&mut NoDelay)?
        } else {
            reset.restart(&mut NoDelay)?
        };
        let plan = ready.plan(&black_box(Wants::default()))?;
        let tables = Tables {
            // Of unknown length, as the memory is: else it is proven that they are too short.
            slots: black_box::<&mut [SlotRecord]>(&mut slots),
            replies: black_box::<&[ReplyRecord]>(&replies),
            shared: &shared,
            targets: black_box::<&mut [TargetRecord]>(&mut targets),
        };
        let mut controller = ready.start(&plan, region, tables, black_box(0), &mut NoDelay)?;
        operate(probes, &mut controller)?;
        let (parts, result) = if black_box(true) {
            controller.into_reset(&mut NoDelay, take)
        } else {
            let (parts, stopped, result) = controller.stop(black_box(0), &mut NoDelay, take);
            black_box(stopped);
            (parts, result)
        };
        result?;
        let Parts { reset: again, region: same } = parts;
        (reset, region) = (again, same);
    }
}

/// All that is done with a controller in operation.
fn operate<G: Generation>(
    probes: &Probes<G>,
    controller: &mut Controller<'_, G, Window, StaticDma>,
) -> Result<(), Error> {
    let mut queue = controller.take_queue();
    let target = TargetId(black_box(0));
    let segments = black_box([Segment { address: BusAddr(0), length: 4096 }; 8]);
    let used = segments.get(..black_box(1usize)).unwrap_or_default();
    let cdb = Cdb::read(black_box(0), black_box(8));
    controller.interrupts(black_box(true));
    while black_box(true) {
        let command = Command {
            lun: black_box(Lun([0; 8])),
            cdb: &cdb,
            direction: black_box(Direction::Read),
            data_length: black_box(4096),
            segments: used,
            attribute: black_box(TaskAttribute::Simple),
            tag: black_box(None),
            timeout_ms: black_box(0),
            cookie: black_box(1),
        };
        black_box((probes.submit)(controller, target, &command));
        black_box((probes.poll)(controller));
        black_box(controller.interrupt_cause());
        controller.tick(black_box(0), take);
        while let Some(action) = controller.next_action() {
            if let Action::ResetNeeded(_) = black_box(action) {
                controller.reset(black_box(0), &mut NoDelay, take)?;
            }
        }
        controller.set_policy(black_box(Policy::default()));
        black_box((controller.health(), controller.recovery_counters()));
        let Some(device) = controller.device(target) else {
            controller.scan();
            continue;
        };
        if let Some(queue) = &mut queue {
            black_box((probes.submit_on)(queue, device, &command));
            black_box((probes.poll_on)(queue));
            queue.tick(black_box(0), take);
            queue.halt(black_box(Failure::ControllerReset), take);
        }
        let mut page = [0; 256];
        let request = PageRequest::sas_device(black_box(1));
        black_box(controller.read_page(&mut NoDelay, request, &mut page, take)?);
        let request = TaskRequest {
            kind: black_box(TaskType::ABORT_TASK),
            device,
            lun: command.lun,
            smid: controller.find_command(black_box(1)).unwrap_or(0),
        };
        let route = black_box(TaskRoute::Preferred);
        black_box(controller.task_management(&mut NoDelay, &request, route, take)?);
    }
    Ok(())
}

macro_rules! generation {
    (
        $feature:literal, $generation:ty, $run:ident:
        $submit:ident, $poll:ident, $submit_on:ident, $poll_on:ident
    ) => {
        /// Everything that submitting a command calls; kept whole so that its calls can be walked.
        #[cfg(feature = $feature)]
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub fn $submit(
            controller: &mut Controller<'_, $generation, Window, StaticDma>,
            target: TargetId,
            command: &Command<'_>,
        ) -> u32 {
            #[cfg(feature = "planted-panic")]
            black_box([0u8; 4][black_box(0usize)]);
            u32::from(controller.submit(target, command).unwrap_or(0))
        }

        /// Everything that polling for replies calls.
        #[cfg(feature = $feature)]
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub fn $poll(controller: &mut Controller<'_, $generation, Window, StaticDma>) -> u32 {
            controller.poll(take)
        }

        /// The same on a queue of its own.
        #[cfg(feature = $feature)]
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub fn $submit_on(
            queue: &mut Queue<'_, $generation, Window, StaticDma>,
            device: Device,
            command: &Command<'_>,
        ) -> u32 {
            u32::from(queue.submit(device, command).unwrap_or(0))
        }

        /// The same on a queue of its own.
        #[cfg(feature = $feature)]
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub fn $poll_on(queue: &mut Queue<'_, $generation, Window, StaticDma>) -> u32 {
            queue.poll(take)
        }

        #[cfg(feature = $feature)]
        fn $run() {
            let probes =
                Probes { submit: $submit, poll: $poll, submit_on: $submit_on, poll_on: $poll_on };
            let _ = black_box(drive::<$generation>(&probes));
        }
    };
}

generation!(
    "mpi1", fusion_mpt::generation::Mpi1, run_mpi1:
    probe_submit_mpi1, probe_poll_mpi1, probe_submit_queue_mpi1, probe_poll_queue_mpi1
);
generation!(
    "mpi2", fusion_mpt::generation::Mpi2, run_mpi2:
    probe_submit_mpi2, probe_poll_mpi2, probe_submit_queue_mpi2, probe_poll_queue_mpi2
);

/// Where the linker starts: everything that is to be linked hangs from here.
#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    loop {
        #[cfg(feature = "mpi1")]
        run_mpi1();
        #[cfg(feature = "mpi2")]
        run_mpi2();
    }
}
