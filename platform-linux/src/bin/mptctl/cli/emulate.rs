//! What can be typed after `emulate` and `knob`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use fusion_mpt_mock::control::{Level, Member};
use fusion_mpt_mock::model::Chip;

const EXAMPLES: &str = "\
Examples:
  mptctl emulate --chip sas3008 --disk d.img,size=10G --socket /tmp/card
  mptctl emulate --chip sas2008 --memory-disk 3T --socket card --control knobs
  mptctl emulate --chip sas1068 --disk a.img,slot=1,block=4096,rotation=7200 \\
                 --disk b.img,sata,cache=off --disk c.img,read-only --socket card

It says when QEMU can be started, and with which arguments: the guest's memory must be shared. It
runs until Ctrl-C or SIGTERM, serves one virtual machine after the other, and flushes the disks at
the end. A disk's file always holds what the guest wrote last, so that even SIGKILL loses nothing of
it; a power cut by knob, or pulling a disk, loses what the guest did not flush, as on a real disk.

";

/// What follows the help of `emulate`.
pub(super) fn help() -> String {
    format!("{EXAMPLES}{}", crate::disk_argument::OPTIONS)
}

#[derive(Debug, Args)]
pub(crate) struct Emulate {
    /// The chip: sas1068, sas2008, sas3008 or sas3816
    #[arg(long, value_name = "CHIP", value_parser = chip)]
    pub(crate) chip: Chip,
    /// The socket that QEMU connects to; made, and removed at the end
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: PathBuf,
    /// A socket for `mptctl knob`; made, and removed at the end
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
    /// Put an expander with so many bays on the last four phys; its bays are the slots after the
    /// controller's own
    #[arg(long, value_name = "BAYS", value_parser = clap::value_parser!(u8).range(1..=96))]
    pub(crate) expander: Option<u8>,
    /// A disk in memory, of which only what is written takes space; may be given several times
    #[arg(long = "memory-disk", value_name = "SIZE[,OPTION]...")]
    pub(crate) memory_disks: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Knob {
    /// The control socket that the emulator was given
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) turn: Turn,
}

/// Slots, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slots(pub(crate) Vec<u8>);

/// A disk to plug in.
#[derive(Debug, Args)]
pub(crate) struct NewDisk {
    /// The file, with options as for emulate --disk; or a size, with --memory
    #[arg(value_name = "DISK[,OPTION]...")]
    pub(crate) disk: PathBuf,
    /// A disk in memory
    #[arg(long)]
    pub(crate) memory: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Turn {
    /// Show the controller's state, its counters and its disks
    Status,
    /// List what the driver did that a real chip would not forgive
    Complaints {
        /// Forget them afterwards
        #[arg(long)]
        clear: bool,
    },
    /// Plug a disk in
    AddDisk(NewDisk),
    /// Pull a disk out; it loses what was not flushed, as it has no power
    RemoveDisk {
        /// Its slot
        slot: u8,
    },
    /// Pull a disk out and plug another into its slot
    SwapDisk {
        /// The slot
        slot: u8,
        #[command(flatten)]
        disk: NewDisk,
    },
    /// Enlarge a disk
    GrowDisk {
        /// Its slot
        slot: u8,
        /// Its new size, as in 2G
        #[arg(value_parser = crate::disk_argument::size)]
        size: u64,
    },
    /// End the next commands of a disk with a sense
    Sense {
        /// The disk's slot
        slot: u8,
        /// Sense key, ASC and ASCQ in hex, as in 3/11/00
        #[arg(value_name = "KEY/ASC/ASCQ", value_parser = sense)]
        sense: (u8, u8, u8),
        /// How many commands
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u32,
    },
    /// End the next commands of a disk with a status
    ScsiStatus {
        /// The disk's slot
        slot: u8,
        /// busy, task-set-full, reservation-conflict, or a number
        #[arg(value_parser = status)]
        status: u8,
        /// How many commands
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u32,
    },
    /// Make blocks of a disk unreadable until they are written
    MediumError {
        /// The disk's slot
        slot: u8,
        /// The first block
        lba: u64,
        /// How many blocks
        #[arg(long, value_name = "N", default_value_t = 1)]
        blocks: u64,
    },
    /// Make a disk not ready
    NotReady {
        /// Its slot
        slot: u8,
    },
    /// Make a disk ready again
    Ready {
        /// Its slot
        slot: u8,
    },
    /// Make SCSI commands take longer
    SlowDown {
        /// By how much, as in 20ms; 0 for as fast as ever
        #[arg(value_name = "TIME", value_parser = time)]
        by: Duration,
        /// Only those of the disk in this slot
        #[arg(long, value_name = "N")]
        slot: Option<u8>,
    },
    /// Hold SCSI commands back
    Hold,
    /// Carry out the SCSI commands that were held, and go on
    Release,
    /// Lose the replies to the next SCSI commands, which then stay outstanding until aborted
    DropReplies {
        /// How many
        #[arg(default_value_t = 1)]
        count: u32,
        /// Any replies, events and task management too
        #[arg(long)]
        any: bool,
    },
    /// Stop the controller with a fault
    Fault {
        /// The code
        #[arg(default_value = "0x2622", value_parser = word)]
        code: u16,
    },
    /// Stop the controller with a core dump, which ends in a fault (not the sas1068)
    Coredump {
        /// The code
        #[arg(default_value = "0x2667", value_parser = word)]
        code: u16,
        /// How long the dump takes
        #[arg(long = "for", value_name = "TIME", default_value = "3s", value_parser = time)]
        lasting: Duration,
    },
    /// Stop the firmware: registers answer, nothing else happens
    StopAnswering,
    /// Let a stopped firmware go on
    Resume,
    /// Yank the card: every register reads as all ones
    Yank,
    /// Put the card back
    PutBack,
    /// Answer the next reads of doorbell and status registers with zero
    ZeroReads {
        /// How many
        #[arg(default_value_t = 1)]
        count: u32,
    },
    /// Write entries into the controller's log, each with an event
    FillLog {
        /// How many
        #[arg(default_value_t = 100)]
        count: u16,
        /// LogEntryQualifier
        #[arg(long, value_name = "N", default_value = "0x8000", value_parser = word)]
        qualifier: u16,
        /// Ask the driver to acknowledge each
        #[arg(long)]
        acknowledge: bool,
    },
    /// Send an event
    Event {
        /// Its number
        #[arg(value_parser = word)]
        code: u16,
        /// Its data, as hex bytes
        #[arg(value_name = "HEX", value_parser = hex_byte)]
        data: Vec<u8>,
        /// Ask the driver to acknowledge it
        #[arg(long)]
        acknowledge: bool,
    },
    /// Cut the power of controller and disks and turn it on again: unflushed writes are lost
    PowerCut {
        /// Per cent of the unflushed blocks that the disks had written by themselves
        #[arg(long, value_name = "PERCENT", default_value_t = 0,
              value_parser = clap::value_parser!(u8).range(0..=100))]
        keep: u8,
        /// Where the random numbers start that pick them
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
    },
    /// Make a RAID volume of disks, whose data is on a disk of its own (not the sas1068)
    CreateVolume {
        /// raid0, raid1, raid1e or raid10
        #[arg(value_parser = level)]
        level: Level,
        /// The slots of its members, as in 0,1
        #[arg(value_name = "SLOT,SLOT...", value_parser = slots)]
        slots: Slots,
        #[command(flatten)]
        disk: NewDisk,
    },
    /// Unmake a RAID volume
    DeleteVolume {
        /// Its handle, as status has it
        #[arg(value_parser = word)]
        handle: u16,
    },
    /// Set how a member of a RAID volume is
    Member {
        /// Its slot
        slot: u8,
        /// optimal, rebuilding or failed
        #[arg(value_parser = member)]
        state: Member,
    },
    /// Have a disk predict its failure (not the sas1068)
    Smart {
        /// Its slot
        slot: u8,
        /// ASC and ASCQ in hex; 00/00 for a disk that is well again
        #[arg(value_name = "ASC/ASCQ", default_value = "5d/00", value_parser = codes)]
        codes: (u8, u8),
    },
    /// Have every disk put its write cache on the medium
    Flush,
}

fn chip(text: &str) -> Result<Chip, String> {
    Chip::named(text).ok_or_else(|| {
        let names = Chip::ALL.map(|chip| chip.name).join(", ");
        format!("there is no such chip; choose one of {names}")
    })
}

/// 16 bits, in decimal or as 0x and hex digits.
fn word(text: &str) -> Result<u16, String> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_err(|_| "not a number from 0 to 65535 or 0x0 to 0xffff".to_owned())
}

fn hex_byte(text: &str) -> Result<u8, String> {
    u8::from_str_radix(text, 16).map_err(|_| "not a byte in hex, like 1f".to_owned())
}

fn sense(text: &str) -> Result<(u8, u8, u8), String> {
    let parts: Option<Vec<u8>> =
        text.split('/').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    match parts.as_deref() {
        Some([key @ 0..=15, asc, ascq]) => Ok((*key, *asc, *ascq)),
        _ => Err("not sense key, ASC and ASCQ in hex, like 3/11/00".to_owned()),
    }
}

fn codes(text: &str) -> Result<(u8, u8), String> {
    match sense(&format!("0/{text}")) {
        Ok((_, asc, ascq)) => Ok((asc, ascq)),
        Err(_) => Err("not ASC and ASCQ in hex, like 5d/00".to_owned()),
    }
}

fn slots(text: &str) -> Result<Slots, String> {
    let numbers: Result<Vec<u8>, _> = text.split(',').map(str::parse).collect();
    numbers.map(Slots).map_err(|_| "not slots separated by commas, like 0,1".to_owned())
}

fn level(text: &str) -> Result<Level, String> {
    Ok(match text {
        "raid0" => Level::Raid0,
        "raid1" => Level::Raid1,
        "raid1e" => Level::Raid1e,
        "raid10" => Level::Raid10,
        _ => return Err("not raid0, raid1, raid1e or raid10".to_owned()),
    })
}

fn member(text: &str) -> Result<Member, String> {
    Ok(match text {
        "optimal" => Member::Optimal,
        "rebuilding" => Member::Rebuilding,
        "failed" => Member::Failed,
        _ => return Err("not optimal, rebuilding or failed".to_owned()),
    })
}

fn status(text: &str) -> Result<u8, String> {
    match text {
        "busy" => Ok(0x08),
        "reservation-conflict" => Ok(0x18),
        "task-set-full" => Ok(0x28),
        number => word(number)
            .ok()
            .and_then(|number| u8::try_from(number).ok())
            .ok_or("not busy, task-set-full, reservation-conflict or a byte".to_owned()),
    }
}

/// A time: a number and ns, us, ms or s; 0 needs no unit.
fn time(text: &str) -> Result<Duration, String> {
    let at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(at);
    let nanoseconds: u64 = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "" if digits == "0" => 1,
        _ => return Err("not a time, like 500us, 20ms or 1s".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "not a time, like 20ms".to_owned())?;
    number
        .checked_mul(nanoseconds)
        .filter(|ns| *ns <= 86_400_000_000_000)
        .map(Duration::from_nanos)
        .ok_or("a day at most".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units_and_bounds() {
        assert_eq!(time("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(time("500us"), Ok(Duration::from_micros(500)));
        assert_eq!(time("0"), Ok(Duration::ZERO));
        for wrong in ["", "5", "ms", "-1s", "1.5s", "1h", "99999999999999999999s", "2000000s", "1é"]
        {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sense_status_codes_and_bytes_are_read() {
        assert_eq!(sense("3/11/00"), Ok((3, 0x11, 0)));
        assert_eq!(sense("B/4b/a"), Ok((0xb, 0x4b, 0xa)));
        for wrong in ["", "3", "3/11", "3/11/00/1", "10/0/0", "x/0/0", "3/111/0"] {
            assert!(sense(wrong).is_err(), "{wrong}");
        }
        assert_eq!((status("busy"), status("0x28"), status("24")), (Ok(8), Ok(0x28), Ok(24)));
        assert!(status("full").is_err() && status("256").is_err());
        assert!(word("0x2622") == Ok(0x2622) && word("65536").is_err());
        assert!(slots("0,12") == Ok(Slots(vec![0, 12])) && slots("0,").is_err());
        assert!(hex_byte("1f") == Ok(0x1f) && hex_byte("100").is_err());
        assert!(chip("sas3008").is_ok());
        assert!(chip("sas9999").is_err_and(|sentence| sentence.contains("sas3816")));
    }
}
