//! `mptctl`: Fusion-MPT controllers from the command line.

mod bind;
mod cli;
mod demo;
mod describe;
mod disk_argument;
mod emulate;
mod events;
mod export;
mod io;
mod knob;
mod list;
mod manual;
mod metrics;
mod output;
mod perf;
mod progress;
mod recovered;
mod scsi;
mod show;
mod smart;
mod table;
mod trace;

use std::process::ExitCode;

use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::Host;
use fusion_mpt_linux::interrupt;
use fusion_mpt_linux::open::with_host;
use fusion_mpt_linux::session::Options;

use cli::{Cli, Command, Global, Unit};

/// Commands outstanding at once, unless a command asks for more.
const COMMANDS: u16 = 256;

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return wrong_usage(&error),
    };
    let json = cli.global.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // The document on standard output has said it.
        Err(error @ Error::Reported) => ExitCode::from(error.exit_code()),
        Err(error) => {
            output::failure(json, &error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Help and versions, which are no failure, and what cannot be parsed.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    // Nowhere to report a failure to print to.
    let _ = error.print();
    let exit_code = error.exit_code() as u8;
    if exit_code != 0 && std::env::args().any(|argument| argument == "--json") {
        output::document_of_failure(&error.render().to_string(), exit_code);
    }
    ExitCode::from(exit_code)
}

fn run(cli: Cli) -> Result<(), Error> {
    let global = &cli.global;
    match cli.command {
        Command::Completions { shell } => return manual::completions(shell),
        Command::Man { dir } => return manual::pages(&dir),
        Command::List(cli::List { buses: true }) => return list::buses(global),
        Command::Status => return bind::status(global),
        _ => {}
    }
    interrupt::install()?;
    match cli.command {
        Command::Demo(arguments) => demo::run(global, &arguments),
        Command::List(_) => list::disks(global),
        Command::Show(arguments) => show::run(global, &arguments),
        Command::Smart(arguments) => smart::run(global, &arguments),
        Command::Metrics(arguments) => metrics::run(global, &arguments),
        Command::Events(arguments) => events::run(global, &arguments),
        Command::Read(arguments) => io::read::run(global, &arguments),
        Command::Write(arguments) => io::write::run(global, &arguments),
        Command::Flush(unit) => io::flush(global, &unit),
        Command::Verify(arguments) => io::verify::run(global, &arguments),
        Command::Perf(arguments) => perf::run(global, &arguments),
        Command::Scsi(command) => scsi::run(global, &command),
        Command::Trace(arguments) => trace::run(global, &arguments),
        Command::Emulate(arguments) => emulate::run(global, &arguments),
        Command::Knob(arguments) => knob::run(global, &arguments),
        Command::Export(arguments) => export::run(global, &arguments),
        Command::Bind(arguments) => bind::bind_all(global, &arguments),
        Command::Unbind(arguments) => bind::unbind_all(global, &arguments),
        Command::Status | Command::Completions { .. } | Command::Man { .. } => Ok(()),
    }
}

/// Opens the bus of the command line and lends its controller to `work`.
fn open<T>(
    global: &Global,
    commands: u16,
    work: impl FnMut(&mut dyn Host) -> Result<T, Error>,
) -> Result<T, Error> {
    with_host(options(global, commands), work)
}

/// The same for the commands of one logical unit, which may take as long as its user says.
fn open_unit<T>(
    global: &Global,
    unit: &Unit,
    commands: u16,
    work: impl FnMut(&mut dyn Host) -> Result<T, Error>,
) -> Result<T, Error> {
    with_host(unit_options(global, unit, commands), work)
}

/// How the command line wants its bus for commands of one logical unit.
fn unit_options(global: &Global, unit: &Unit, commands: u16) -> Options {
    let timeout_ms = unit.timeout.map_or(0, |seconds| seconds.saturating_mul(1_000));
    Options { timeout_ms, ..options(global, commands) }
}

/// How the command line wants its bus.
fn options(global: &Global, commands: u16) -> Options {
    Options {
        disks: global.disks.clone(),
        commands: commands.max(COMMANDS),
        waiting: global.waiting,
        faults: global.faults(),
        trace: global.trace.then(|| Box::new(|line: &str| eprintln!("{line}")) as _),
        report: Some(Box::new(|line: &str| eprintln!("mptctl: {line}"))),
        ..Options::new(global.bus)
    }
}

/// Refuses to overwrite the user's own disks unless they insist.
fn ask_before_writing(global: &Global, yes: bool, what: &str) -> Result<(), Error> {
    if yes || (global.disks.is_empty() && !global.bus.is_real()) {
        return Ok(());
    }
    Err(Error::failed(format!("{what}; nothing was written, say --yes to do it")))
}
