//! What can be typed.

pub(crate) mod bind;
pub(crate) mod emulate;
pub(crate) mod export;
pub(crate) mod health;
mod values;

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use fusion_mpt_linux::affinity::Pinning;
use fusion_mpt_linux::bus_name::BusName;
use fusion_mpt_linux::pattern::Pattern;
use fusion_mpt_linux::waiting::Waiting;
use fusion_mpt_mock::faults::{Plan, Planned};
use values::{byte, bytes, fault, seed};

const EXAMPLES: &str = "\
Examples:
  mptctl demo                                   bring-up, verified I/O, a benchmark
  mptctl demo --bus qtest                       the same on QEMU's controller
  mptctl demo --faults 7                        verified I/O while things go wrong
  mptctl list --bus mock:sas3816 --json         the disks of a software SAS3816, for a program
  mptctl read --bus qtest --disk d.img --lba 0  the first block of an image, through the driver
  mptctl perf --depth 32 --read 70 --time 5     70 % reads, 32 at a time, for five seconds
  mptctl status                                 the real controllers of this machine
  sudo mptctl export --bus 03:00.0 --bind vfio  the disks of one as block devices

Buses: mock:sas1068, mock:sas2008, mock:sas3008, mock:sas3816 (software), qtest (QEMU), and real
controllers by their PCI address, such as 0000:03:00.0: see mptctl status and mptctl bind.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.";

/// Shows, tests and measures Fusion-MPT storage controllers.
#[derive(Debug, Parser)]
#[command(name = "mptctl", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The bus that the controller is on: a name of `list --buses`, or a PCI address of `status`
    #[arg(long, global = true, value_name = "NAME", default_value = "mock:sas3008")]
    pub(crate) bus: BusName,
    /// A disk image behind the controller; may be given several times. Without any, two temporary
    /// disks of 64 MiB are made, and are gone afterwards. On mock buses, FILE,sata is a SATA disk,
    /// and FILE,failing one that predicts its failure
    #[arg(long = "disk", global = true, value_name = "FILE")]
    pub(crate) disks: Vec<PathBuf>,
    /// How to wait for a real card: look all the time, sleep until its interrupt comes, or look as
    /// long as something is likely to come and then sleep
    #[arg(
        long,
        global = true,
        value_name = "poll|interrupt|adaptive",
        default_value = "adaptive",
        hide_default_value = true
    )]
    pub(crate) waiting: Waiting,
    /// CPUs to pin the threads of queues to, one each in turn, such as 2,3 or 4-7
    #[arg(long, global = true, value_name = "CPUS")]
    pub(crate) pin: Option<Pinning>,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print requests and replies, decoded, to standard error as they pass
    #[arg(long, global = true)]
    pub(crate) trace: bool,
    /// Show no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// A fault to lay around a software controller, to see a command survive it: NAME, or
    /// NAME@MESSAGE for the message that it begins at. For tests; `demo --faults` is for people
    #[arg(id = "faults_of_any", long = "fault", global = true, hide = true, value_name = "NAME[@MESSAGE]",
          value_parser = fault)]
    pub(crate) faults: Vec<Planned>,
}

impl Global {
    /// The faults of the command line, if there are any.
    pub(crate) fn faults(&self) -> Option<Plan> {
        (!self.faults.is_empty()).then(|| Plan { seed: 1, faults: self.faults.clone() })
    }
}

/// The command line's description. Some commands open no bus, so they do not offer what is for one;
/// [`Cli::read`] refuses it there.
pub(crate) fn command() -> clap::Command {
    let unused = |id: &'static str| Arg::new(id).long(id).global(true).hide(true);
    let bus = || unused("bus").value_parser(clap::value_parser!(BusName));
    let trace = || unused("trace").action(ArgAction::SetTrue);
    let disks = || {
        let disks = Arg::new("disks").long("disk").value_name("FILE[,OPTION]...");
        disks.action(ArgAction::Append).value_parser(clap::value_parser!(PathBuf))
    };
    let help = "A disk on a file or block device, with options; may be given several times";
    let command = Cli::command().mut_subcommand("emulate", |emulate| {
        emulate.arg(bus()).arg(trace()).arg(disks().help(help))
    });
    ["knob", "bind", "unbind", "status"].into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |subcommand| {
            subcommand.arg(bus()).arg(trace()).arg(disks().global(true).hide(true))
        })
    })
}

/// Why a command that opens no bus takes none of the options of one, and what to do instead: of
/// `--bus`, `--trace`, `--fault` and `--disk`.
struct NoBus {
    name: &'static str,
    instead: [&'static str; 4],
}

impl NoBus {
    const EMULATED: [&str; 4] = [
        "name an emulated chip with emulate --chip",
        "have the guest's own driver say more",
        "turn a knob instead: mptctl knob --control PATH --help",
        "plug a disk in with: mptctl knob --control PATH add-disk FILE",
    ];
    const REAL: [&str; 4] = [
        "name the controller by its PCI address, as in: mptctl bind 03:00.0",
        "trace a command that uses the controller, as in: mptctl list --bus 03:00.0 --trace",
        "faults are for software controllers",
        "images are for software controllers",
    ];

    fn of(command: &Command) -> Option<Self> {
        let (name, instead) = match command {
            Command::Emulate(_) => ("emulate", Self::EMULATED),
            Command::Knob(_) => ("knob", Self::EMULATED),
            Command::Bind(_) => ("bind", Self::REAL),
            Command::Unbind(_) => ("unbind", Self::REAL),
            Command::Status => ("status", Self::REAL),
            _ => return None,
        };
        Some(Self { name, instead })
    }
}

impl Cli {
    /// Reads the arguments of this process.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let mut description = command();
        let matches = description.try_get_matches_from_mut(std::env::args_os())?;
        let cli = Self::from_arg_matches(&matches)?;
        let Some(NoBus { name, instead: [bus, trace, fault, disk] }) = NoBus::of(&cli.command)
        else {
            return Ok(cli);
        };
        let takes_disks = matches!(cli.command, Command::Emulate(_));
        let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let (option, hint) = match () {
            () if typed("bus") => ("--bus", bus),
            () if typed("trace") => ("--trace", trace),
            () if typed("faults_of_any") => ("--fault", fault),
            () if typed("disks") && !takes_disks => ("--disk", disk),
            () => return Ok(cli),
        };
        let sentence = format!("{name} takes no {option}: it opens no bus of its own; {hint}\n");
        Err(clap::Error::raw(ErrorKind::UnknownArgument, sentence))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole main job: bring-up, discovery, verified I/O, a benchmark, counters
    #[command(after_help = "\
Examples:
  mptctl demo
  mptctl demo --bus mock:sas1068
  mptctl demo --bus qtest --disk scratch.img --yes
  mptctl demo --faults 7                        the same faults as for anybody with seed 7
  mptctl demo --faults --bus mock:sas1068       some faults; their seed is printed

Without --yes, a --disk that holds anything but zeros is refused: demo writes all over it.")]
    Demo(Demo),
    /// List the disks on a bus, or the buses themselves
    #[command(after_help = "\
Examples:
  mptctl list
  mptctl list --bus qtest --disk a.img --disk b.img
  mptctl list --buses")]
    List(List),
    /// Show a controller, or one of its targets, in full
    #[command(after_help = "\
Examples:
  mptctl show --bus mock:sas3816
  mptctl show --facts
  mptctl show --target 0
  mptctl show --json

Shown are the controller, its phys with their error counters, expanders, enclosures, every device
with its place and state, and RAID volumes. What a controller does not tell is \"not told\".")]
    Show(Show),
    /// Show how disks do: health, temperature, error counters, SMART; begin self-tests
    #[command(after_help = "\
Examples:
  mptctl smart                                  all disks, a line each
  mptctl smart --target 1                       one disk in full
  mptctl smart --target 1 --self-test long      begin a self-test; look again later for its result
  mptctl smart --json

Exit code 1 says that a disk predicts its failure or warns of something. SAS disks are asked by LOG
SENSE, SATA disks by SMART through the controller's translation layer.")]
    Smart(health::Smart),
    /// Show what the controller tells of as it happens: devices, links, discovery, RAID, its log
    #[command(after_help = "\
Examples:
  mptctl events                                 what was told during bring-up
  mptctl events --follow                        what comes, until Ctrl-C
  mptctl events --follow --for 60 --json        a JSON object to a line, for a minute")]
    Events(health::Events),
    /// Tell Prometheus what the controller has done and how it does: text, a file or an endpoint
    #[command(after_help = "\
Examples:
  mptctl metrics                                                    once, to standard output
  mptctl metrics --out /var/lib/prometheus/node-exporter/mpt.prom --interval 30
  mptctl metrics --listen 127.0.0.1:9633
  mptctl metrics --listen unix:/run/mptctl/metrics

The command holds the controller while it runs; `mptctl export` tells the same while it exports.")]
    Metrics(health::Metrics),
    /// Read blocks to a file, to standard output or as a hex dump
    #[command(after_help = "\
Examples:
  mptctl read --bus qtest --disk d.img --lba 0 --blocks 8
  mptctl read --disk d.img --lba 2048 --blocks 2048 --out part.bin
  mptctl read --disk d.img --blocks 64 --out - | sha256sum")]
    Read(Read),
    /// Write blocks from a file, from standard input or from a pattern, and flush them
    #[command(after_help = "\
Examples:
  mptctl write --disk d.img --lba 2048 --in part.bin --yes
  mptctl write --disk d.img --lba 0 --blocks 128 --pattern 42 --yes

Without --yes, nothing is written to a --disk: the command says what it would overwrite.")]
    Write(Write),
    /// Have a disk put its write cache on the medium
    #[command(after_help = "Examples:\n  mptctl flush --bus qtest --disk d.img --target 0")]
    Flush(Unit),
    /// Compare blocks with a file or a pattern; writes nothing
    #[command(after_help = "\
Examples:
  mptctl verify --disk d.img --lba 2048 --in part.bin
  mptctl verify --disk d.img --lba 0 --blocks 128 --pattern 42
  mptctl verify --blocks 131072 --pattern zeros")]
    Verify(Verify),
    /// Measure: I/O per second, latencies, CPU and register accesses per I/O
    #[command(after_help = "\
Examples:
  mptctl perf --depth 1 --time 2
  mptctl perf --bus qtest --depth 32 --block-size 64k --pattern sequential
  mptctl perf --read 70 --count 100000 --depth 64 --json

Without --yes, a mix with writes is refused on a --disk: it writes all over it.")]
    Perf(Perf),
    /// Send single SCSI commands
    #[command(
        subcommand,
        after_help = "\
Examples:
  mptctl scsi inq --bus qtest
  mptctl scsi vpd 0x83 --target 1
  mptctl scsi raw 25 00 00 00 00 00 00 00 00 00 --in-bytes 8"
    )]
    Scsi(Scsi),
    /// Show requests and replies in words while disks are found, asked, read and flushed
    #[command(after_help = "\
Examples:
  mptctl trace --bus mock:sas2008
  mptctl trace --bus qtest --blocks 16
Any other command takes --trace, which prints the same to standard error.")]
    Trace(Trace),
    /// Put a software controller into a virtual machine, as a PCI device over vfio-user
    #[command(after_help = emulate::help())]
    Emulate(emulate::Emulate),
    /// Turn a knob of an emulated controller: faults, delays, errors, hot-plug, power
    #[command(after_help = "\
Examples:
  mptctl knob --control knobs status
  mptctl knob --control knobs add-disk d.img,size=1G,slot=3
  mptctl knob --control knobs sense 0 3/11/00 --count 2
  mptctl knob --control knobs slow-down 20ms --slot 0
  mptctl knob --control knobs drop-replies
  mptctl knob --control knobs power-cut

The socket takes and gives a JSON object to a line, so that any program can turn knobs too:
  {\"knob\":\"fault\",\"code\":9762} is answered by {\"done\":\"...\"} or {\"refused\":\"...\"}.")]
    Knob(emulate::Knob),
    /// Make the disks of a controller block devices of this machine
    #[command(after_help = export::EXAMPLES)]
    Export(export::Export),
    /// Give a real controller to user space: to vfio-pci or uio_pci_generic
    #[command(after_help = bind::BIND)]
    Bind(bind::Bind),
    /// Give a controller back to the kernel's own driver
    #[command(after_help = bind::UNBIND)]
    Unbind(bind::Unbind),
    /// Show the real controllers of this machine and whose driver has them
    #[command(after_help = bind::STATUS)]
    Status,
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  mptctl completions bash > ~/.local/share/bash-completion/completions/mptctl")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    #[command(after_help = "Examples:\n  mptctl man /usr/local/share/man/man1")]
    Man {
        /// The folder; it is created if need be
        dir: PathBuf,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Unit {
    /// The target, by its number in `list`
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub(crate) target: u16,
    /// The logical unit
    #[arg(long, value_name = "LUN", default_value_t = 0)]
    pub(crate) lun: u8,
    /// What a command may take before it is aborted and, where that is safe, sent again; 30 if not
    /// said. The driver acts a third of it before, at most ten seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) timeout: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Megabytes (2^20 bytes) to write and verify on each disk; 16 if not said, 2 with --faults
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) megabytes: Option<u32>,
    /// Have things go wrong that the seed chooses, in virtual time, and show what happened, what the
    /// driver did about it, and that nothing was lost; without a seed, one is chosen and printed.
    /// Only on the mock buses
    #[arg(long, value_name = "SEED", num_args = 0..=1, value_parser = seed, conflicts_with = "faults_of_any")]
    #[allow(clippy::option_option, reason = "not asked for, asked for, asked for with a seed")]
    pub(crate) faults: Option<Option<u64>>,
    /// Seconds that the benchmark takes
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// Where the random numbers start
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Overwrite what is on the disks
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// List the buses instead
    #[arg(long)]
    pub(crate) buses: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// One target in full, by its number in `list`
    #[arg(long, value_name = "ID", conflicts_with = "facts")]
    pub(crate) target: Option<u16>,
    /// What the IOC answered to IOC facts, field by field
    #[arg(long)]
    pub(crate) facts: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Read {
    #[command(flatten)]
    pub(crate) unit: Unit,
    /// The first block
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) lba: u64,
    /// How many blocks
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) blocks: u64,
    /// Where to put the data: a file, or - for standard output; a hex dump otherwise
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Source {
    /// The data: a file, or - for standard input
    #[arg(
        long = "in",
        value_name = "FILE",
        conflicts_with = "pattern",
        required_unless_present = "pattern"
    )]
    pub(crate) input: Option<PathBuf>,
    /// The data: "zeros", or a number that seeds a pattern
    #[arg(long, value_name = "PATTERN", requires = "blocks")]
    pub(crate) pattern: Option<Pattern>,
    /// How many blocks, of a pattern
    #[arg(long, value_name = "N", conflicts_with = "input")]
    pub(crate) blocks: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Write {
    #[command(flatten)]
    pub(crate) unit: Unit,
    /// The first block
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) lba: u64,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Overwrite what is there
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) unit: Unit,
    /// The first block
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) lba: u64,
    #[command(flatten)]
    pub(crate) source: Source,
}

/// In what order blocks are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// Anywhere, each time.
    Random,
    /// One after the other.
    Sequential,
}

#[derive(Debug, Args)]
pub(crate) struct Perf {
    #[command(flatten)]
    pub(crate) unit: Unit,
    /// Commands outstanding at once
    #[arg(long, value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) depth: u16,
    /// Reply queues, each with a thread and --depth commands of its own, if the controller has them
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) queues: u8,
    /// Bytes of each command; k and m stand for 2^10 and 2^20
    #[arg(long, value_name = "BYTES", default_value = "4k", value_parser = bytes)]
    pub(crate) block_size: u32,
    /// Per cent of the commands that read; the others write
    #[arg(long, value_name = "PERCENT", default_value_t = 100,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) read: u8,
    /// Order of the blocks
    #[arg(long, value_enum, default_value_t = Order::Random)]
    pub(crate) pattern: Order,
    /// Seconds to measure
    #[arg(long, value_name = "SECONDS", conflicts_with = "count",
          value_parser = clap::value_parser!(u32).range(1..=86400))]
    pub(crate) time: Option<u32>,
    /// Commands to measure; without it and --time, 3 seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Where the random numbers start
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Overwrite what is on the disk
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Scsi {
    /// Standard INQUIRY data
    #[command(after_help = "Examples:\n  mptctl scsi inq --target 1")]
    Inq {
        #[command(flatten)]
        unit: Unit,
    },
    /// A vital product data page; the list of pages without a page number
    #[command(after_help = "Examples:\n  mptctl scsi vpd\n  mptctl scsi vpd 0x83 --target 1")]
    Vpd {
        /// The page, as a number or 0x and hex digits
        #[arg(value_parser = byte, default_value = "0")]
        page: u8,
        #[command(flatten)]
        unit: Unit,
    },
    /// READ CAPACITY (16), or (10) where the disk does not know it
    #[command(after_help = "Examples:\n  mptctl scsi capacity --json")]
    Capacity {
        #[command(flatten)]
        unit: Unit,
    },
    /// REPORT LUNS
    #[command(after_help = "Examples:\n  mptctl scsi luns --target 1")]
    Luns {
        #[command(flatten)]
        unit: Unit,
    },
    /// An ATA command for a SATA disk, by ATA PASS-THROUGH (16), with the registers that come back
    #[command(after_help = "\
Examples:
  mptctl scsi ata ec --protocol pio-in --count 1                        IDENTIFY DEVICE
  mptctl scsi ata e5                                                    CHECK POWER MODE
  mptctl scsi ata b0 --features 0xda --lba 0xc24f00                     SMART RETURN STATUS
  mptctl scsi ata b0 --features 0xd0 --lba 0xc24f00 --protocol pio-in --count 1 --json

Commands that are not known to leave the disk as it is want --yes. Exit code 1 when the disk aborts
the command.")]
    Ata(health::Ata),
    /// Any CDB, given as hex bytes
    #[command(after_help = "\
Examples:
  mptctl scsi raw 00 00 00 00 00 00
  mptctl scsi raw 12 00 00 00 24 00 --in-bytes 36
  mptctl scsi raw 9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00 --in-bytes 32 --json

A command with --out-file may change the disk, as may a few without data: say --yes.")]
    Raw {
        /// The bytes of the CDB, in hex
        #[arg(required = true, num_args = 1.., value_name = "HEX")]
        cdb: Vec<String>,
        #[command(flatten)]
        unit: Unit,
        /// Bytes of data to expect
        #[arg(long, value_name = "N", conflicts_with = "out_file",
              value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
        in_bytes: Option<u32>,
        /// Data to send: a file, or - for standard input
        #[arg(long, value_name = "FILE")]
        out_file: Option<PathBuf>,
        /// Send a command that may change the disk
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// Blocks to read from each disk
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) blocks: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }
}
