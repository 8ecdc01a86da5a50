//! `emulate`: a software controller as a PCI device of a virtual machine, until it is told to stop.

mod watchdog;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::interrupt;
use fusion_mpt_mock::control::{self, DiskSpec, DiskStatus, Medium, Panel, Reply, Request};
use fusion_mpt_mock::model::Model;
use fusion_mpt_mock::vfio_user::{Card, Event, Server, ServerError, Stop};
use serde::Serialize;

use crate::cli::Global;
use crate::cli::emulate::Emulate;
use crate::{disk_argument, output};

use watchdog::Watchdog;

/// How soon a signal is noticed.
const TICK: Duration = Duration::from_millis(50);
/// How often the disks' files and the model's complaints are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Warnings each time; what is more is only counted.
const MOST_WARNINGS: usize = 10;
/// How long the server may take to end: it hangs up on its client within 50 ms, and leaves the card.
const END: Duration = Duration::from_millis(500);

/// What is said on standard output: a line, or with --json an object on a line.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Said<'s> {
    /// QEMU can be started.
    Ready {
        schema: u32,
        command: &'static str,
        chip: &'static str,
        disks: usize,
        socket: &'s Path,
        control: Option<&'s Path>,
        /// Arguments for QEMU.
        qemu: Vec<String>,
    },
    Connected,
    Reset,
    Disconnected {
        error: Option<String>,
    },
    Stopped,
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Ready { chip, disks, qemu, .. } => {
                let disks = match disks {
                    1 => "1 disk".into(),
                    count => format!("{count} disks"),
                };
                let quoted: Vec<String> = qemu.iter().map(|word| quoted(word)).collect();
                write!(f, "ready: {chip} with {disks}; start QEMU with: {}", quoted.join(" "))
            }
            Said::Connected => f.write_str("a virtual machine connected"),
            Said::Reset => f.write_str("the virtual machine reset the controller"),
            Said::Disconnected { error: None } => f.write_str("the virtual machine disconnected"),
            Said::Disconnected { error: Some(error) } => {
                write!(f, "the virtual machine disconnected: {error}")
            }
            Said::Stopped => f.write_str("stopped: disks flushed, sockets removed"),
        }
    }
}

impl Said<'_> {
    fn print(&self, global: &Global) -> Result<(), Error> {
        if global.quiet && !matches!(self, Said::Ready { .. }) {
            return Ok(());
        }
        let line = if global.json {
            serde_json::to_string(self)
                .map_err(|error| Error::failed(format!("cannot make JSON of an event: {error}")))?
        } else {
            self.to_string()
        };
        output::raw(format!("{line}\n").as_bytes())
    }
}

/// The arguments that put the controller into a virtual machine of 1 GiB.
fn qemu(socket: &Path) -> Vec<String> {
    let device = serde_json::json!({
        "driver": "vfio-user-pci",
        "socket": { "type": "unix", "path": socket },
    });
    vec![
        "-m".into(),
        "1G".into(),
        "-object".into(),
        "memory-backend-memfd,id=ram,size=1G,share=on".into(),
        "-machine".into(),
        "q35,memory-backend=ram".into(),
        "-device".into(),
        device.to_string(),
    ]
}

fn warn(text: &str) {
    eprintln!("mptctl: {text}");
}

/// Serves until a signal comes.
pub(crate) fn run(global: &Global, arguments: &Emulate) -> Result<(), Error> {
    let disks = disks(global, arguments)?;
    if arguments.control.as_ref() == Some(&arguments.socket) {
        return Err(Error::usage("--socket and --control are the same path; choose two"));
    }
    let mut model = Model::new(arguments.chip);
    if let Some(bays) = arguments.expander {
        model
            .attach_expander(bays)
            .map_err(|why| Error::failed(format!("the expander cannot be attached: {why}")))?;
    }
    let card = Card::new(model).map_err(|error| {
        Error::failed(format!("cannot start the controller: {error}; end other programs first"))
    })?;
    let panel = Arc::new(Panel::new(Arc::clone(&card)));
    plug_in(&panel, &disks)?;

    let cannot = |error: ServerError| Error::failed(error.to_string());
    let server = Server::bind(&arguments.socket, Arc::clone(&card)).map_err(cannot)?;
    let control = match &arguments.control {
        Some(path) => Some(
            control::Server::start(path, Arc::clone(&panel))
                .map_err(|error| Error::failed(error.to_string()))?,
        ),
        None => None,
    };
    let socket = std::path::absolute(&arguments.socket)
        .map_err(|error| Error::file("find the way to", &arguments.socket, &error))?;
    Said::Ready {
        schema: output::SCHEMA,
        command: "emulate",
        chip: arguments.chip.name,
        disks: disks.len(),
        socket: &socket,
        control: control.as_ref().map(control::Server::path),
        qemu: qemu(&socket),
    }
    .print(global)?;

    let stop = Stop::default();
    let (tell, told) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let serving = thread::Builder::new().name("vfio-user".into()).spawn({
        let stop = stop.clone();
        move || {
            let result = server.serve(&stop, &mut |event| {
                // Nobody listens any more when the program ends.
                let _ = tell.send(event);
            });
            drop(server);
            let _ = end.send(result);
        }
    });
    serving.map_err(|error| {
        Error::failed(format!("cannot start serving: {error}; end other programs first"))
    })?;
    let watchdog = Watchdog::start(global.json, named(&disks))?;
    let watched = watch(global, &panel, &told, &listing(control.as_ref()));

    // From here on nothing moves any more that a flush could miss.
    stop.stop();
    watchdog.end();
    card.with_model(|model| model.stop_answering(true));
    watchdog.call_off();
    let served = match ended.recv_timeout(END) {
        Ok(result) => result.map_err(cannot),
        // It is still busy with its client, and goes with this process.
        Err(_) => {
            // The server has no chance to.
            let _ = std::fs::remove_file(&socket);
            Ok(())
        }
    };
    let flushed = panel.flush().map_err(Error::failed);
    drop(control);
    watched.and(served).and(flushed)?;
    Said::Stopped.print(global)
}

/// The disks of the command line; those that name their slot come first, to get it.
fn disks(global: &Global, arguments: &Emulate) -> Result<Vec<DiskSpec>, Error> {
    let files = global.disks.iter().map(|typed| disk_argument::file(typed));
    let memory = arguments.memory_disks.iter().map(|typed| disk_argument::memory(typed));
    let mut disks = files.chain(memory).collect::<Result<Vec<_>, _>>()?;
    if disks.is_empty() {
        warn(
            "there is no disk; give one with --disk FILE or --memory-disk SIZE, or add one by knob",
        );
    }
    disks.sort_by_key(|disk| disk.slot.is_none());
    Ok(disks)
}

fn plug_in(panel: &Panel<Arc<Card>>, disks: &[DiskSpec]) -> Result<(), Error> {
    let mut asked_read_only = Vec::new();
    for disk in disks {
        let slot = panel.add_disk(disk).map_err(Error::failed)?;
        if disk.read_only {
            asked_read_only.push(slot);
        }
    }
    let Reply::Status(status) = panel.apply(&Request::Status {}) else { return Ok(()) };
    let surprising =
        |disk: &&DiskStatus| disk.write_protected && !asked_read_only.contains(&disk.slot);
    for disk in status.disks.iter().filter(surprising) {
        warn(&format!(
            "the disk {} is read-only, so the guest's writes to slot {} will be refused",
            disk.medium, disk.slot
        ));
    }
    Ok(())
}

/// The files that the guest can write to, in words.
fn named(disks: &[DiskSpec]) -> String {
    let files: Vec<String> = disks
        .iter()
        .filter(|disk| !disk.read_only)
        .filter_map(|disk| match &disk.medium {
            Medium::File { path, .. } => Some(path.display().to_string()),
            Medium::Memory { .. } => None,
        })
        .collect();
    match files.is_empty() {
        true => "the files of disks that were added by knob, if any".into(),
        false => format!("{}, and the files of disks that were added by knob", files.join(", ")),
    }
}

/// How all complaints can be listed.
fn listing(control: Option<&control::Server>) -> String {
    match control {
        Some(server) => {
            let path = server.path();
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            let path = quoted(&path.to_string_lossy());
            format!("list them with: mptctl knob --control {path} complaints")
        }
        None => "to have them listed, start with --control PATH and say: mptctl knob --control PATH complaints".into(),
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    match word.contains(['{', ' ', '\'']) {
        true => format!("'{}'", word.replace('\'', "'\\''")),
        false => word.to_owned(),
    }
}

/// Says what happens until a signal comes or the server has ended.
fn watch(
    global: &Global,
    panel: &Panel<Arc<Card>>,
    told: &mpsc::Receiver<Event>,
    listing: &str,
) -> Result<(), Error> {
    let mut looked = Instant::now();
    while !interrupt::asked() {
        match told.recv_timeout(TICK) {
            Ok(Event::Connected) => Said::Connected.print(global)?,
            Ok(Event::Reset) => Said::Reset.print(global)?,
            Ok(Event::Disconnected(error)) => Said::Disconnected { error }.print(global)?,
            Ok(Event::Refused(what) | Event::Notice(what)) => warn(&what),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            let news = panel.news();
            for line in news.iter().take(MOST_WARNINGS) {
                warn(line);
            }
            if news.len() > MOST_WARNINGS {
                warn(&format!("and {} more; {listing}", news.len() - MOST_WARNINGS));
            }
        }
    }
    Ok(())
}
