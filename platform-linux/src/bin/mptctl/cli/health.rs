//! How what tells of health is asked for: `smart`, `events`, `metrics`, ATA commands.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use fusion_mpt_linux::ata::Protocol;
use fusion_mpt_linux::metrics::ListenAddress;

use super::Unit;
use super::values::{device, hex_byte, lba, protocol, word};

#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// A file to write, for node_exporter's textfile collector: made beside it and renamed
    #[arg(long, value_name = "FILE.prom", conflicts_with = "listen")]
    pub(crate) out: Option<PathBuf>,
    /// Where to answer GET /metrics: 127.0.0.1:PORT or unix:PATH
    #[arg(long, value_name = "WHERE")]
    pub(crate) listen: Option<ListenAddress>,
    /// Seconds between looks; goes on until Ctrl-C. 15 with --listen if not said
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) interval: Option<u32>,
    /// Seconds after which to end
    #[arg(long = "for", value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(1..=31_536_000))]
    pub(crate) seconds: Option<u32>,
}

/// A self-test, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SelfTestArgument {
    /// About two minutes, in the background
    Short,
    /// As long as reading everything takes, in the background
    Long,
    /// End the one that runs
    Abort,
}

#[derive(Debug, Args)]
pub(crate) struct Smart {
    /// One target in full, by its number in `list`
    #[arg(long, value_name = "ID")]
    pub(crate) target: Option<u16>,
    /// Begin a self-test, or end it
    #[arg(long, value_enum, value_name = "TEST", requires = "target")]
    pub(crate) self_test: Option<SelfTestArgument>,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Go on until Ctrl-C, and print each event as it comes; with --json, an object to a line
    #[arg(long)]
    pub(crate) follow: bool,
    /// Seconds to follow
    #[arg(long = "for", value_name = "SECONDS", requires = "follow",
          value_parser = clap::value_parser!(u32).range(1..=31_536_000))]
    pub(crate) seconds: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Ata {
    /// COMMAND, in hex
    #[arg(value_name = "HEX", value_parser = hex_byte)]
    pub(crate) command: u8,
    #[command(flatten)]
    pub(crate) unit: Unit,
    /// How it moves data
    #[arg(long, value_name = "HOW", default_value = "none", value_parser = protocol)]
    pub(crate) protocol: Protocol,
    /// FEATURES, as a number or 0x and hex digits
    #[arg(long, value_name = "N", default_value = "0", value_parser = word)]
    pub(crate) features: u16,
    /// COUNT; with data, how many blocks of 512 bytes
    #[arg(long, value_name = "N", default_value = "0", value_parser = word)]
    pub(crate) count: u16,
    /// LBA
    #[arg(long, value_name = "N", default_value = "0", value_parser = lba)]
    pub(crate) lba: u64,
    /// DEVICE
    #[arg(long, value_name = "N", default_value = "0", value_parser = device)]
    pub(crate) device: u8,
    /// The command has 48-bit registers
    #[arg(long)]
    pub(crate) extended: bool,
    /// Data to send: a file, or - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) out_file: Option<PathBuf>,
    /// Send a command that may change the disk
    #[arg(long)]
    pub(crate) yes: bool,
}
