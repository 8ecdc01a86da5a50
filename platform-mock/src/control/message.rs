//! What goes over the control socket.

use serde::{Deserialize, Serialize};

use super::disk_spec::DiskSpec;

/// What a client asks for, one JSON object to a line. `knob` says which; the other members are the
/// variant's fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "knob", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What the controller is doing and which disks it has: answered by [`Reply::Status`].
    Status {},
    /// What the driver did that a real chip would not forgive: answered by [`Reply::Complaints`].
    Complaints {
        /// Forget them afterwards.
        #[serde(default)]
        clear: bool,
    },
    /// Plugs a disk in.
    AddDisk {
        /// Which, and where.
        disk: DiskSpec,
    },
    /// Pulls a disk out. What its volatile write cache held is lost, as the disk has no power.
    RemoveDisk {
        /// Its slot.
        slot: u8,
    },
    /// Pulls a disk out and plugs another into its slot at once.
    SwapDisk {
        /// The slot.
        slot: u8,
        /// The new disk; a slot of its own must be the same one.
        disk: DiskSpec,
    },
    /// Enlarges a disk.
    GrowDisk {
        /// Its slot.
        slot: u8,
        /// Its new size.
        bytes: u64,
    },
    /// Ends the next commands of a disk with CHECK CONDITION and this sense (SPC-4 4.5).
    Sense {
        /// The disk's slot.
        slot: u8,
        /// Sense key, 0 to 15.
        key: u8,
        /// Additional sense code.
        asc: u8,
        /// Additional sense code qualifier.
        ascq: u8,
        /// How many commands, whatever they are.
        count: u32,
    },
    /// Ends the next commands of a disk with a status and no sense (SAM-5 5.3.1).
    ScsiStatus {
        /// The disk's slot.
        slot: u8,
        /// The status: 0x08 is BUSY, 0x28 TASK SET FULL, 0x18 RESERVATION CONFLICT.
        status: u8,
        /// How many commands, whatever they are.
        count: u32,
    },
    /// Makes blocks unreadable until they are written (MEDIUM ERROR 11/00).
    MediumError {
        /// The disk's slot.
        slot: u8,
        /// The first block.
        lba: u64,
        /// How many blocks.
        blocks: u64,
    },
    /// Sets whether a disk's medium can be accessed; NOT READY 04/01 if not.
    Ready {
        /// The disk's slot.
        slot: u8,
        /// Whether it can.
        ready: bool,
    },
    /// Makes SCSI commands take longer.
    SlowDown {
        /// Those of the disk in this slot; all, without it.
        #[serde(default)]
        slot: Option<u8>,
        /// By so many nanoseconds; 0 for as fast as ever.
        ns: u64,
    },
    /// Holds SCSI commands back, or lets them go on.
    Hold {
        /// Whether to hold them.
        on: bool,
    },
    /// Loses the next replies.
    DropReplies {
        /// How many.
        count: u32,
        /// Any reply, events and task management included, and for good; otherwise those of SCSI
        /// commands, which then stay outstanding until the driver aborts them.
        #[serde(default)]
        any: bool,
    },
    /// Stops the IOC with a code.
    Fault {
        /// The code.
        code: u16,
    },
    /// Stops the IOC with a code in COREDUMP, from where it goes to FAULT (not on MPI1).
    CoreDump {
        /// The code.
        code: u16,
        /// Milliseconds until FAULT.
        ms: u64,
    },
    /// Stops the firmware, or lets it go on: registers answer, nothing else happens.
    StopAnswering {
        /// Whether to stop it.
        on: bool,
    },
    /// Yanks the card, or puts it back: registers read as all ones.
    Yank {
        /// Whether to yank it.
        on: bool,
    },
    /// Answers the next reads of doorbell, diagnostic and interrupt registers with zero.
    ZeroReads {
        /// How many.
        count: u32,
    },
    /// Writes entries into the controller's log, each with an event.
    FillLog {
        /// How many.
        count: u16,
        /// `LogEntryQualifier`.
        qualifier: u16,
        /// Ask for each event to be acknowledged.
        #[serde(default)]
        acknowledge: bool,
    },
    /// Sends an event, if the driver has asked for it.
    Event {
        /// `Event`.
        code: u16,
        /// `EventData`, at most 100 bytes.
        #[serde(default)]
        data: Vec<u8>,
        /// Ask for its acknowledgement.
        #[serde(default)]
        acknowledge: bool,
    },
    /// Cuts the power of controller and disks and turns it on again: unflushed writes are lost.
    PowerCut {
        /// Per cent of the unflushed blocks that the disks had written by themselves, picked at
        /// random.
        #[serde(default)]
        keep_percent: u8,
        /// Where the random numbers start.
        #[serde(default)]
        seed: u64,
    },
    /// Makes a RAID volume of disks (not on MPI1).
    CreateVolume {
        /// How its data is spread.
        level: Level,
        /// The slots of its members.
        slots: Vec<u8>,
        /// Where its data is: the members' own media stay as they are. A slot is not used.
        disk: DiskSpec,
    },
    /// Unmakes a RAID volume.
    DeleteVolume {
        /// Its DevHandle.
        handle: u16,
    },
    /// Sets how a member of a RAID volume is.
    Member {
        /// Its slot.
        slot: u8,
        /// How it is to be.
        state: Member,
    },
    /// Has a disk predict its failure: an event with these sense codes (MPI2), which the disk then
    /// also answers with when it is asked how it does.
    Smart {
        /// The disk's slot.
        slot: u8,
        /// Additional sense code: 0x5d, FAILURE PREDICTION THRESHOLD EXCEEDED, mostly.
        asc: u8,
        /// Additional sense code qualifier.
        ascq: u8,
    },
    /// Has every disk put its write cache on the medium, behind the driver's back.
    Flush {},
}

/// How a RAID volume spreads its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Striped.
    Raid0,
    /// Mirrored on two disks.
    Raid1,
    /// Each stripe on two of an odd number of disks.
    Raid1e,
    /// Striped over mirrored pairs.
    Raid10,
}

/// How a member of a RAID volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Member {
    /// It holds its part of the data.
    Optimal,
    /// Its part is being written anew.
    Rebuilding,
    /// It has failed.
    Failed,
}

/// What a client is answered, one JSON object to a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It was done; what, in a sentence.
    Done(String),
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Complaints`].
    Complaints(Vec<String>),
    /// It was not done; why, and what to do, in a sentence.
    Refused(String),
}

/// The IOC's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IocState {
    /// Coming up after a reset.
    Reset,
    /// Takes handshakes: no driver has it, or one is about to.
    Ready,
    /// Takes requests.
    Operational,
    /// Stopped.
    Fault,
    /// Stopped, and writing down why.
    CoreDump,
}

/// What the controller is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The kind of chip: `sas3008`.
    pub chip: String,
    /// Its state.
    pub state: IocState,
    /// The code that it stopped with.
    pub code: Option<u16>,
    /// The card is yanked.
    pub yanked: bool,
    /// The firmware is stopped.
    pub stopped: bool,
    /// SCSI commands are being held.
    pub holding: bool,
    /// Nanoseconds that every SCSI command takes longer.
    pub delay_ns: u64,
    /// SCSI commands carried out since the controller was made.
    pub commands: u64,
    /// SCSI commands fetched and not answered: held, slowed down, or lost.
    pub waiting: usize,
    /// Events that wait for an acknowledgement.
    pub unacknowledged: usize,
    /// Complaints noted.
    pub complaints: usize,
    /// The slots there are, with a disk or without.
    pub slots: Vec<u8>,
    /// The disks, by slot.
    pub disks: Vec<DiskStatus>,
    /// The RAID volumes.
    pub volumes: Vec<VolumeStatus>,
}

/// What a RAID volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// DevHandle.
    pub handle: u16,
    /// Where its bytes are: the file's path, or `memory`.
    pub medium: String,
    /// The size.
    pub bytes: u64,
    /// `optimal`, `degraded` or `failed`.
    pub state: String,
}

/// What a disk is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Slot, and target id on MPI1.
    pub slot: u8,
    /// DevHandle.
    pub handle: u16,
    /// Where its bytes are: the file's path, or `memory`.
    pub medium: String,
    /// The size.
    pub bytes: u64,
    /// Bytes of a logical block.
    pub block_bytes: u32,
    /// The logical unit's world wide name, 16 hex digits.
    pub wwn: String,
    /// The unit serial number.
    pub serial: String,
    /// Whether it is a SATA disk.
    pub sata: bool,
    /// Whether its write cache is on.
    pub write_cache: bool,
    /// Bytes that a power cut would lose.
    pub dirty_bytes: u64,
    /// Whether writes are refused.
    pub write_protected: bool,
    /// Nanoseconds that its commands take longer, where that is not as all others.
    pub delay_ns: Option<u64>,
}
