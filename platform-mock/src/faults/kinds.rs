//! The kinds of faults, with their parameters, names and what they are in words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Something that goes wrong between a driver and its controller.
///
/// A fault is about *what*; [`When`](super::When) says from which moment on, and how many times. What
/// one time is, each kind says; [`When::FOREVER`](super::When::FOREVER) is without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A reply or an event never reaches the host. Once for each.
    DropReply,
    /// A reply reaches the host twice: the same descriptor or FIFO word once more, or the same
    /// message in another reply frame. Once for each.
    DuplicateReply,
    /// A reply comes late, after others that were posted later. Once for each.
    DelayReply {
        /// By so many milliseconds.
        ms: u32,
    },
    /// Replies come in the opposite order. Once for each group of them; a group that does not fill
    /// within a millisecond is let go.
    ReorderReplies {
        /// Replies of a group.
        window: u8,
    },
    /// Bits of a reply descriptor (MPI2) or of a word of the reply FIFO (MPI1) are flipped. Once for
    /// each.
    CorruptReplyWord,
    /// Bytes of a reply frame are not what the firmware wrote; a success that needs no frame gets
    /// one. Once for each.
    CorruptReplyFrame,
    /// A SCSI command ends as CHECK CONDITION with random bytes for sense data, and often with a
    /// count of them that is more than the host's buffer holds. Once for each.
    CorruptSense,
    /// A reply comes for a SMID or message context that has just been answered and is not
    /// outstanding. Once for each.
    ReplyForFreeSlot,
    /// A success of a SCSI command comes for a SMID or message context that is no SCSI command's:
    /// of a message of another function, or beyond all there are. Once for each.
    ReplyForForeignSmid,
    /// One half of a reply descriptor is written now and the other later (MPI2). A word of MPI1's
    /// FIFO is read in one go; there it is the reply frame that is written in two halves. Once for
    /// each reply.
    TornDescriptor {
        /// So many microseconds lie between the halves.
        us: u32,
    },
    /// As `torn-descriptor`, but the second half is never written. Once for each reply.
    TornForever,
    /// Doorbell, diagnostic or interrupt status register read as zero, as on Aero and Sea (mpt3sas,
    /// `_base_readl_aero`). Once for each read.
    SpuriousZero,
    /// As `spurious-zero`, for so many reads in a row. Once for each burst.
    ZeroReadsBurst {
        /// Reads of a burst.
        reads: u32,
    },
    /// The card is gone: every register reads as all ones, nothing is answered, for ever.
    AllOnes,
    /// The card cannot be reached for a while: registers read as all ones and writes are lost, while
    /// the firmware goes on. Once for each while.
    AllOnesForAWhile {
        /// A while, in milliseconds.
        ms: u32,
    },
    /// The doorbell reads as in use (`MPI2_DOORBELL_USED`), and words written to it are never taken,
    /// until a diagnostic reset. Once for each.
    StuckDoorbell,
    /// A diagnostic reset begins and does not end: its bit stays set. Once for each reset.
    ResetNeverEnds,
    /// After a reset the IOC does not leave RESET. Once for each reset.
    NeverReady,
    /// A reset ends in FAULT instead of READY. Once for each reset.
    ResetFails {
        /// The FAULT code.
        code: u16,
    },
    /// The IOC stops with a fault. Once for each stop.
    FaultState {
        /// The FAULT code.
        code: u16,
    },
    /// The IOC stops and writes down why before it is in FAULT (MPI2). MPI1 knows no such state:
    /// there it is `fault-state`. Once for each stop.
    CoreDump {
        /// The FAULT code.
        code: u16,
        /// Milliseconds until FAULT.
        ms: u32,
    },
    /// The IOC takes the host for one that has given it no reply frames, and waits: no reply goes
    /// out. Once for each wait.
    ReplyFramesExhausted {
        /// Milliseconds that it waits, or until a reset.
        ms: u32,
    },
    /// A reply comes without an interrupt, which only the next reply brings. Once for each reply.
    LostInterrupt,
    /// Each piece of the firmware's work keeps it from the next for a while. Once for each piece.
    SlowFirmware {
        /// A while, in microseconds.
        us: u32,
    },
    /// Registers answer and the firmware does nothing any more, until a diagnostic reset. Once for
    /// each stop.
    StoppedFirmware,
    /// Registers read with their bytes in the opposite order. Once for each read.
    WrongEndianness,
    /// Events come as fast as the host has room for them. Once for each storm.
    EventStorm {
        /// Events of a storm.
        events: u16,
    },
    /// A disk goes, and at once another, empty one is there with its slot, target id and DevHandle.
    /// Once for each.
    HandleReuse {
        /// The disk's slot.
        slot: u8,
    },
    /// A disk is pulled. Once for each.
    DevicePulled {
        /// The disk's slot.
        slot: u8,
        /// The same disk is back after so many milliseconds; 0 for never.
        back_ms: u32,
    },
    /// The reply to a task management request never reaches the host; what was asked for is done.
    /// Once for each.
    TaskManagementReplyLost,
    /// The reply to a task management request overtakes those of the commands that it ended. Once
    /// for each request that ended any.
    TaskManagementReplyEarly {
        /// The commands' replies come so many microseconds later.
        us: u32,
    },
    /// A task management request fails (`MPI2_SCSITASKMGMT_RSP_TM_FAILED`), and nothing has been
    /// done. Once for each.
    TaskManagementRefused,
    /// A command ends with the status TASK SET FULL. Once for each.
    TaskSetFull,
    /// A command ends with the status BUSY. Once for each.
    BusyStatus,
    /// After a reset the firmware posts the success of a command of before it: of one that was
    /// outstanding, if there was any. Once for each reset.
    StaleReplyAfterReset,
    /// The reply to a configuration request never reaches the host. Once for each.
    ConfigReplyLost,
    /// The reply to a port enable request never comes. Once for each.
    PortEnableReplyLost,
    /// Somebody else has reset the IOC: it is in READY and knows of nothing. Once for each.
    SilentBusReset,
    /// The power of controller and disks goes and comes back: what was in volatile write caches is
    /// lost but for some blocks, commands are gone. Once for each.
    PowerCut,
}

impl Fault {
    /// Every kind, with parameters that suit a test.
    #[must_use]
    pub fn all() -> &'static [Fault] {
        &[
            Fault::DropReply,
            Fault::DuplicateReply,
            Fault::DelayReply { ms: 20 },
            Fault::ReorderReplies { window: 8 },
            Fault::CorruptReplyWord,
            Fault::CorruptReplyFrame,
            Fault::CorruptSense,
            Fault::ReplyForFreeSlot,
            Fault::ReplyForForeignSmid,
            Fault::TornDescriptor { us: 200 },
            Fault::TornForever,
            Fault::SpuriousZero,
            Fault::ZeroReadsBurst { reads: 10 },
            Fault::AllOnes,
            Fault::AllOnesForAWhile { ms: 5 },
            Fault::StuckDoorbell,
            Fault::ResetNeverEnds,
            Fault::NeverReady,
            Fault::ResetFails { code: 0x5854 },
            Fault::FaultState { code: 0x2100 },
            Fault::CoreDump { code: 0x2101, ms: 300 },
            Fault::ReplyFramesExhausted { ms: 50 },
            Fault::LostInterrupt,
            Fault::SlowFirmware { us: 500 },
            Fault::StoppedFirmware,
            Fault::WrongEndianness,
            Fault::EventStorm { events: 300 },
            Fault::HandleReuse { slot: 0 },
            Fault::DevicePulled { slot: 0, back_ms: 0 },
            Fault::TaskManagementReplyLost,
            Fault::TaskManagementReplyEarly { us: 200 },
            Fault::TaskManagementRefused,
            Fault::TaskSetFull,
            Fault::BusyStatus,
            Fault::StaleReplyAfterReset,
            Fault::ConfigReplyLost,
            Fault::PortEnableReplyLost,
            Fault::SilentBusReset,
            Fault::PowerCut,
        ]
    }

    /// The kind's name: `drop-reply`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Fault::DropReply => "drop-reply",
            Fault::DuplicateReply => "duplicate-reply",
            Fault::DelayReply { .. } => "delay-reply",
            Fault::ReorderReplies { .. } => "reorder-replies",
            Fault::CorruptReplyWord => "corrupt-reply-word",
            Fault::CorruptReplyFrame => "corrupt-reply-frame",
            Fault::CorruptSense => "corrupt-sense",
            Fault::ReplyForFreeSlot => "reply-for-free-slot",
            Fault::ReplyForForeignSmid => "reply-for-foreign-smid",
            Fault::TornDescriptor { .. } => "torn-descriptor",
            Fault::TornForever => "torn-forever",
            Fault::SpuriousZero => "spurious-zero",
            Fault::ZeroReadsBurst { .. } => "zero-reads-burst",
            Fault::AllOnes => "all-ones",
            Fault::AllOnesForAWhile { .. } => "all-ones-for-a-while",
            Fault::StuckDoorbell => "stuck-doorbell",
            Fault::ResetNeverEnds => "reset-never-ends",
            Fault::NeverReady => "never-ready",
            Fault::ResetFails { .. } => "reset-fails",
            Fault::FaultState { .. } => "fault-state",
            Fault::CoreDump { .. } => "core-dump",
            Fault::ReplyFramesExhausted { .. } => "reply-frames-exhausted",
            Fault::LostInterrupt => "lost-interrupt",
            Fault::SlowFirmware { .. } => "slow-firmware",
            Fault::StoppedFirmware => "stopped-firmware",
            Fault::WrongEndianness => "wrong-endianness",
            Fault::EventStorm { .. } => "event-storm",
            Fault::HandleReuse { .. } => "handle-reuse",
            Fault::DevicePulled { .. } => "device-pulled",
            Fault::TaskManagementReplyLost => "task-management-reply-lost",
            Fault::TaskManagementReplyEarly { .. } => "task-management-reply-early",
            Fault::TaskManagementRefused => "task-management-refused",
            Fault::TaskSetFull => "task-set-full",
            Fault::BusyStatus => "busy-status",
            Fault::StaleReplyAfterReset => "stale-reply-after-reset",
            Fault::ConfigReplyLost => "config-reply-lost",
            Fault::PortEnableReplyLost => "port-enable-reply-lost",
            Fault::SilentBusReset => "silent-bus-reset",
            Fault::PowerCut => "power-cut",
        }
    }

    /// Whether a disk's data or the disk itself is lost by it: then an I/O may fail for good.
    #[must_use]
    pub fn loses_data(&self) -> bool {
        matches!(self, Fault::HandleReuse { .. } | Fault::DevicePulled { .. } | Fault::PowerCut)
    }

    /// Whether a driver may end without its controller, whatever it does: the card is gone.
    #[must_use]
    pub fn loses_controller(&self) -> bool {
        matches!(self, Fault::AllOnes | Fault::AllOnesForAWhile { .. })
    }

    /// Whether a driver may be made to believe what is not so, and has no means to tell: a flipped
    /// bit can turn a reply into that of another command which is outstanding, or a failure into a
    /// success. Where replies come twice, or for slots that are free, a driver may still defend
    /// itself, and those kinds are not among these.
    #[must_use]
    pub fn may_mislead(&self) -> bool {
        matches!(
            self,
            Fault::CorruptReplyWord
                | Fault::CorruptReplyFrame
                | Fault::TornDescriptor { .. }
                | Fault::TornForever
                | Fault::WrongEndianness
        )
    }

    /// The kinds that a driver can come through with every command carried out and every byte where
    /// it belongs: none that [loses data](Fault::loses_data), [the
    /// controller](Fault::loses_controller), or [misleads](Fault::may_mislead).
    #[must_use]
    pub fn survivable() -> Vec<Fault> {
        let survivable = |fault: &&Fault| {
            !fault.loses_data() && !fault.loses_controller() && !fault.may_mislead()
        };
        Self::all().iter().filter(survivable).copied().collect()
    }

    /// Whether it makes no difference until something else has gone wrong: a reset that fails needs
    /// a reset, a lost reply to task management needs task management.
    #[must_use]
    pub fn needs_another(&self) -> bool {
        matches!(
            self,
            Fault::ResetNeverEnds
                | Fault::NeverReady
                | Fault::ResetFails { .. }
                | Fault::TaskManagementReplyLost
                | Fault::TaskManagementReplyEarly { .. }
                | Fault::TaskManagementRefused
                | Fault::StaleReplyAfterReset
                | Fault::PortEnableReplyLost
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::DropReply => f.write_str("a reply is lost"),
            Fault::DuplicateReply => f.write_str("a reply comes twice"),
            Fault::DelayReply { ms } => write!(f, "a reply comes {ms} ms late"),
            Fault::ReorderReplies { window } => {
                write!(f, "{window} replies come in the opposite order")
            }
            Fault::CorruptReplyWord => f.write_str("bits of a reply's word are flipped"),
            Fault::CorruptReplyFrame => f.write_str("bytes of a reply frame are corrupt"),
            Fault::CorruptSense => f.write_str("a command ends with garbage for sense data"),
            Fault::ReplyForFreeSlot => f.write_str("a reply comes for a command that has ended"),
            Fault::ReplyForForeignSmid => {
                f.write_str("a command's reply comes for a SMID that is no command's")
            }
            Fault::TornDescriptor { us } => {
                write!(f, "a reply is written in two halves, {us} us apart")
            }
            Fault::TornForever => f.write_str("only one half of a reply is ever written"),
            Fault::SpuriousZero => f.write_str("a status register reads as zero"),
            Fault::ZeroReadsBurst { reads } => {
                write!(f, "status registers read as zero {reads} times in a row")
            }
            Fault::AllOnes => f.write_str("the card is gone and reads as all ones"),
            Fault::AllOnesForAWhile { ms } => {
                write!(f, "the card reads as all ones for {ms} ms and is then back")
            }
            Fault::StuckDoorbell => f.write_str("the doorbell is stuck until a diagnostic reset"),
            Fault::ResetNeverEnds => f.write_str("a diagnostic reset does not end"),
            Fault::NeverReady => f.write_str("the IOC does not become READY after a reset"),
            Fault::ResetFails { code } => write!(f, "a reset ends in FAULT {code:#06x}"),
            Fault::FaultState { code } => write!(f, "the IOC stops with FAULT {code:#06x}"),
            Fault::CoreDump { code, ms } => {
                write!(f, "the IOC stops with code {code:#06x} and dumps its core for {ms} ms")
            }
            Fault::ReplyFramesExhausted { ms } => {
                write!(f, "the IOC finds no reply frames for {ms} ms and answers nothing")
            }
            Fault::LostInterrupt => f.write_str("a reply comes without its interrupt"),
            Fault::SlowFirmware { us } => {
                write!(f, "the firmware takes {us} us for a piece of its work")
            }
            Fault::StoppedFirmware => f.write_str("the firmware hangs until a diagnostic reset"),
            Fault::WrongEndianness => f.write_str("a register reads with its bytes swapped"),
            Fault::EventStorm { events } => write!(f, "{events} events come at once"),
            Fault::HandleReuse { slot } => {
                write!(f, "another disk takes the place and the handle of the one in slot {slot}")
            }
            Fault::DevicePulled { slot, back_ms: 0 } => {
                write!(f, "the disk in slot {slot} is pulled")
            }
            Fault::DevicePulled { slot, back_ms } => {
                write!(f, "the disk in slot {slot} is pulled, and back after {back_ms} ms")
            }
            Fault::TaskManagementReplyLost => f.write_str("a task management reply is lost"),
            Fault::TaskManagementReplyEarly { us } => write!(
                f,
                "a task management reply comes {us} us before those of the commands it ended"
            ),
            Fault::TaskManagementRefused => f.write_str("a task management request fails"),
            Fault::TaskSetFull => f.write_str("a command ends with TASK SET FULL"),
            Fault::BusyStatus => f.write_str("a command ends with BUSY"),
            Fault::StaleReplyAfterReset => {
                f.write_str("after a reset comes the reply to a command of before it")
            }
            Fault::ConfigReplyLost => f.write_str("the reply to a configuration request is lost"),
            Fault::PortEnableReplyLost => f.write_str("the reply to a port enable request is lost"),
            Fault::SilentBusReset => f.write_str("somebody else resets the IOC"),
            Fault::PowerCut => f.write_str("the power of controller and disks is cut"),
        }
    }
}

/// A fault was asked for by a name that no kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFault(pub String);

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Fault::all().iter().map(Fault::name).collect();
        write!(f, "no fault is named {:?}; choose one of {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownFault {}

impl FromStr for Fault {
    type Err = UnknownFault;

    /// The kind of this name, with the parameters that it has in [`Fault::all`].
    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        let named = Self::all().iter().find(|fault| fault.name() == name);
        named.copied().ok_or_else(|| UnknownFault(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name_and_said_in_words_of_its_own() {
        let all = Fault::all();
        assert!(all.len() >= 35);
        let names: HashSet<_> = all.iter().map(Fault::name).collect();
        let words: HashSet<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!((names.len(), words.len()), (all.len(), all.len()));
        for fault in all {
            assert_eq!(fault.name().parse(), Ok(*fault));
        }
        let unknown = "drop-everything".parse::<Fault>().expect_err("there is no such kind");
        assert!(unknown.to_string().contains("drop-reply"));
    }

    #[test]
    fn a_kind_is_written_in_json_by_its_name() {
        for fault in Fault::all() {
            let json = serde_json::to_string(fault).expect("plain data");
            assert!(json.contains(&format!("\"{}\"", fault.name())), "{json}");
            assert_eq!(serde_json::from_str::<Fault>(&json).expect("as written"), *fault);
        }
    }
}
