//! Faults, laid around a software controller one over the other.
//!
//! A [`Plan`] says what goes wrong and when; [`Faulty`] is a controller with a plan. Each fault is a
//! decorator of its own: it sees every register access, message and answer that passes, may change
//! it, keep it back, or turn one of the model's knobs, and knows nothing of the others. What is
//! left to chance comes from the plan's seed, so that on a stepped bus the same driver meets the
//! same faults again. [`FaultEvent`]s tell what was done.
//!
//! ```
//! use fusion_mpt_mock::faults::{Fault, Plan, When};
//! use fusion_mpt_mock::in_process::{MockBus, Options};
//! use fusion_mpt_mock::model::{Chip, disks};
//!
//! let plan = Plan::of(42, Fault::DropReply, When::message(12).times(3))
//!     .with(Fault::FaultState { code: 0x5854 }, When::message(100));
//! println!("{plan}");
//! let bus = MockBus::with_faults(Options::stepped(Chip::SAS2008, disks(1, 1 << 20)), &plan);
//! // A driver runs; then:
//! for event in bus.fault_log() {
//!     println!("{event}");
//! }
//! ```

mod corrupt;
mod devices;
mod faulty;
mod firmware;
mod kinds;
mod log;
mod plan;
mod random;
mod registers;
mod release;
mod replies;
mod resets;
mod stack;
mod tasks;

use std::fmt;

pub use faulty::Faulty;
pub use kinds::{Fault, UnknownFault};
pub use log::FaultEvent;
pub use plan::{Counts, Moment, Plan, Planned, When};
pub use random::Random;

use crate::memory::DeviceMemory;
use crate::model::Model;
use crate::model::tap::{Answer, Door, Reply, Request};

use log::Log;
use release::{Late, Tear};

/// What becomes of a request.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time")]
enum Verdict {
    /// The firmware carries it out.
    CarryOut,
    /// Nobody ever hears of it again.
    Lose,
    /// This is its answer; it is not carried out.
    Answer(Reply),
}

/// An answer on its way through the decorators.
#[derive(Debug, Clone)]
struct Passing {
    reply: Reply,
    /// The request that it answers, if that came through a queue.
    request: Option<Request>,
    /// When it goes out: nanoseconds, and at once if that has passed.
    due: u64,
    /// Bits of its descriptor or FIFO word that are flipped.
    flips: u64,
    /// It goes out in two halves.
    tear: Option<Tear>,
    /// The same descriptor or word goes out once more.
    again: bool,
}

impl Passing {
    fn new(reply: Reply, request: Option<Request>) -> Self {
        Self { reply, request, due: 0, flips: 0, tear: None, again: false }
    }

    /// The function that it answers: 0x00 of a SCSI command, 0x07 also of an event.
    fn function(&self) -> u8 {
        match &self.reply.answer {
            Answer::Success { .. } | Answer::Raw(_) => 0x00,
            Answer::Frame(message) => message.bytes().get(3).copied().unwrap_or(0),
        }
    }

    /// Whether it answers a SCSI command.
    fn is_command(&self) -> bool {
        matches!(self.function(), 0x00 | 0x16)
    }

    /// What it is in words, for the log.
    fn in_words(&self) -> String {
        let name = match self.function() {
            0x00 => "SCSI command",
            0x01 => "task management",
            0x04 => "configuration request",
            0x06 => "port enable",
            0x07 => "event",
            0x08 => "event acknowledgement",
            0x16 => "RAID passthrough",
            0x1b => "SAS IO unit control",
            _ => "message",
        };
        format!("the reply for {:#x} ({name})", self.reply.key)
    }
}

/// What one decorator has in its hand while something passes it.
struct Hand<'a> {
    model: &'a mut Model,
    counts: Counts,
    when: &'a When,
    /// Times that are left.
    left: &'a mut u32,
    random: &'a mut Random,
    late: &'a mut Late,
    log: &'a mut Log,
    fault: &'a Fault,
    /// SMIDs or contexts that were fetched and not answered, with their requests.
    outstanding: &'a stack::Outstanding,
}

impl Hand<'_> {
    /// Whether the fault's moment has come and there are times left.
    fn is_armed(&self) -> bool {
        *self.left > 0 && self.when.has_come(&self.counts)
    }

    /// Whether the fault is armed; that is one of its times.
    fn fires(&mut self) -> bool {
        let armed = self.is_armed();
        if armed && *self.left != When::FOREVER {
            *self.left -= 1;
        }
        armed
    }

    /// Nanoseconds of the firmware's time.
    fn now(&self) -> u64 {
        self.model.now()
    }

    /// Notes what was done.
    fn note(&mut self, what: impl Into<String>) {
        self.log.note(FaultEvent {
            ns: self.model.now(),
            counts: self.counts,
            fault: self.fault.name(),
            what: what.into(),
        });
    }
}

/// One fault around a controller. Everything passes until it is armed.
trait Decorator: fmt::Debug + Send {
    /// Something has just been counted: a moment may have come.
    fn moment(&mut self, _hand: &mut Hand<'_>) {}

    /// A register was read as `value`; what the host sees.
    fn read(&mut self, _offset: u32, value: u32, _hand: &mut Hand<'_>) -> u32 {
        value
    }

    /// A register is written; whether the controller hears of it.
    fn write(&mut self, _offset: u32, _value: u64, _hand: &mut Hand<'_>) -> bool {
        true
    }

    /// A request was fetched; what becomes of it.
    fn request(&mut self, _request: &Request, _door: Door, _hand: &mut Hand<'_>) -> Verdict {
        Verdict::CarryOut
    }

    /// An answer is about to be posted; what goes on is pushed to `out`.
    fn reply(
        &mut self,
        reply: Passing,
        _memory: &dyn DeviceMemory,
        _hand: &mut Hand<'_>,
        out: &mut Vec<Passing>,
    ) {
        out.push(reply);
    }

    /// The IOC was reset, and has forgotten all of before; these had not been answered.
    fn was_reset(&mut self, _unanswered: &[Request], _hand: &mut Hand<'_>) {}

    /// Whether the firmware stands still now.
    fn stops(&mut self, _hand: &mut Hand<'_>) -> bool {
        false
    }

    /// The firmware has done a piece of work, or has `worked` not.
    fn stepped(&mut self, _worked: bool, _hand: &mut Hand<'_>) {}

    /// Whether the interrupt does not reach the host.
    fn hides_interrupt(&self) -> bool {
        false
    }

    /// When [`Decorator::stepped`] is wanted though nothing else happens, in nanoseconds.
    fn deadline(&self) -> Option<u64> {
        None
    }
}

/// The decorator that does this fault.
fn decorator(fault: Fault) -> Box<dyn Decorator> {
    match fault {
        Fault::DropReply => Box::new(replies::Drop),
        Fault::DuplicateReply => Box::new(replies::Duplicate),
        Fault::DelayReply { ms } => Box::new(replies::Delay { ms }),
        Fault::ReorderReplies { window } => Box::new(replies::Reorder::new(window)),
        Fault::TornDescriptor { us } => Box::new(replies::Torn { us: Some(us) }),
        Fault::TornForever => Box::new(replies::Torn { us: None }),
        Fault::ReplyFramesExhausted { ms } => Box::new(replies::Exhausted::new(ms)),
        Fault::LostInterrupt => Box::new(replies::LostInterrupt::default()),
        Fault::ConfigReplyLost => Box::new(replies::DropFunction::config()),
        Fault::PortEnableReplyLost => Box::new(replies::DropFunction::port_enable()),
        Fault::TaskManagementReplyLost => Box::new(replies::DropFunction::task_management()),
        Fault::CorruptReplyWord => Box::new(corrupt::Word),
        Fault::CorruptReplyFrame => Box::new(corrupt::Frame),
        Fault::CorruptSense => Box::new(corrupt::Sense),
        Fault::ReplyForFreeSlot => Box::new(corrupt::FreeSlot),
        Fault::ReplyForForeignSmid => Box::new(corrupt::ForeignSmid::default()),
        Fault::SpuriousZero => Box::new(registers::Zero::new(1)),
        Fault::ZeroReadsBurst { reads } => Box::new(registers::Zero::new(reads)),
        Fault::AllOnes => Box::new(registers::AllOnes),
        Fault::AllOnesForAWhile { ms } => Box::new(registers::Away::new(ms)),
        Fault::StuckDoorbell => Box::new(registers::StuckDoorbell::default()),
        Fault::WrongEndianness => Box::new(registers::Swapped),
        Fault::ResetNeverEnds => Box::new(resets::Unending::adapter()),
        Fault::NeverReady => Box::new(resets::Unending::boot()),
        Fault::ResetFails { code } => Box::new(resets::Fails::new(code)),
        Fault::StaleReplyAfterReset => Box::new(resets::Stale::default()),
        Fault::SilentBusReset => Box::new(resets::Silent),
        Fault::FaultState { code } => Box::new(firmware::Stop { code, dump_ms: None }),
        Fault::CoreDump { code, ms } => Box::new(firmware::Stop { code, dump_ms: Some(ms) }),
        Fault::SlowFirmware { us } => Box::new(firmware::Slow::new(us)),
        Fault::StoppedFirmware => Box::new(firmware::Hung::default()),
        Fault::EventStorm { events } => Box::new(firmware::Storm { events }),
        Fault::HandleReuse { slot } => Box::new(devices::HandleReuse { slot }),
        Fault::DevicePulled { slot, back_ms } => Box::new(devices::Pulled::new(slot, back_ms)),
        Fault::PowerCut => Box::new(devices::PowerCut),
        Fault::TaskManagementReplyEarly { us } => Box::new(tasks::Early::new(us)),
        Fault::TaskManagementRefused => Box::new(tasks::Refused),
        Fault::TaskSetFull => Box::new(devices::Status::task_set_full()),
        Fault::BusyStatus => Box::new(devices::Status::busy()),
    }
}
