//! `knob`: turns a knob of an emulated controller over its control socket.

use std::path::absolute;
use std::time::Duration;

use fusion_mpt_linux::error::Error;
use fusion_mpt_mock::control::{Client, DiskSpec, IocState, Medium, Reply, Request, Status};
use serde::Serialize;

use crate::cli::Global;
use crate::cli::emulate::{Knob, NewDisk, Turn};
use crate::output::size;
use crate::table::{Table, pairs};
use crate::{disk_argument, output};

/// What was answered, as a document.
#[derive(Serialize)]
struct Answered {
    #[serde(flatten)]
    reply: Reply,
}

/// Turns one knob.
pub(crate) fn run(global: &Global, arguments: &Knob) -> Result<(), Error> {
    let Some(path) = &arguments.control else {
        return Err(Error::usage(
            "which controller's knob? Say --control PATH, with the path that emulate was given",
        ));
    };
    let request = request(&arguments.turn)?;
    let failed = |error: fusion_mpt_mock::control::ClientError| Error::failed(error.to_string());
    let reply =
        Client::connect(path).and_then(|mut client| client.ask(&request)).map_err(failed)?;
    if let Reply::Refused(sentence) = reply {
        return Err(Error::failed(sentence));
    }
    let answered = Answered { reply };
    output::print(global.json, "knob", &answered, || text(&answered.reply))
}

fn request(turn: &Turn) -> Result<Request, Error> {
    Ok(match *turn {
        Turn::Status => Request::Status {},
        Turn::Complaints { clear } => Request::Complaints { clear },
        Turn::AddDisk(ref new) => Request::AddDisk { disk: disk(new)? },
        Turn::RemoveDisk { slot } => Request::RemoveDisk { slot },
        Turn::SwapDisk { slot, disk: ref new } => Request::SwapDisk { slot, disk: disk(new)? },
        Turn::GrowDisk { slot, size: bytes } => Request::GrowDisk { slot, bytes },
        Turn::Sense { slot, sense: (key, asc, ascq), count } => {
            Request::Sense { slot, key, asc, ascq, count }
        }
        Turn::ScsiStatus { slot, status, count } => Request::ScsiStatus { slot, status, count },
        Turn::MediumError { slot, lba, blocks } => Request::MediumError { slot, lba, blocks },
        Turn::NotReady { slot } => Request::Ready { slot, ready: false },
        Turn::Ready { slot } => Request::Ready { slot, ready: true },
        Turn::SlowDown { by, slot } => Request::SlowDown { slot, ns: by.as_nanos() as u64 },
        Turn::Hold => Request::Hold { on: true },
        Turn::Release => Request::Hold { on: false },
        Turn::DropReplies { count, any } => Request::DropReplies { count, any },
        Turn::Fault { code } => Request::Fault { code },
        Turn::Coredump { code, lasting } => {
            Request::CoreDump { code, ms: lasting.as_millis() as u64 }
        }
        Turn::StopAnswering => Request::StopAnswering { on: true },
        Turn::Resume => Request::StopAnswering { on: false },
        Turn::Yank => Request::Yank { on: true },
        Turn::PutBack => Request::Yank { on: false },
        Turn::ZeroReads { count } => Request::ZeroReads { count },
        Turn::FillLog { count, qualifier, acknowledge } => {
            Request::FillLog { count, qualifier, acknowledge }
        }
        Turn::Event { code, ref data, acknowledge } => {
            Request::Event { code, data: data.clone(), acknowledge }
        }
        Turn::PowerCut { keep, seed } => Request::PowerCut { keep_percent: keep, seed },
        Turn::CreateVolume { level, ref slots, disk: ref new } => {
            Request::CreateVolume { level, slots: slots.0.clone(), disk: disk(new)? }
        }
        Turn::DeleteVolume { handle } => Request::DeleteVolume { handle },
        Turn::Member { slot, state } => Request::Member { slot, state },
        Turn::Smart { slot, codes: (asc, ascq) } => Request::Smart { slot, asc, ascq },
        Turn::Flush => Request::Flush {},
    })
}

/// The disk, with a path that means the same to the emulator, wherever that was started.
fn disk(new: &NewDisk) -> Result<DiskSpec, Error> {
    if new.memory {
        return disk_argument::memory(&new.disk.to_string_lossy());
    }
    let mut disk = disk_argument::file(&new.disk)?;
    if let Medium::File { path, .. } = &mut disk.medium {
        *path = absolute(&*path).map_err(|error| Error::file("find the way to", path, &error))?;
    }
    Ok(disk)
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Done(sentence) | Reply::Refused(sentence) => format!("{sentence}\n"),
        Reply::Complaints(all) if all.is_empty() => "no complaints\n".into(),
        Reply::Complaints(all) => all.iter().map(|complaint| format!("{complaint}\n")).collect(),
        Reply::Status(status) => status_text(status),
    }
}

fn status_text(status: &Status) -> String {
    let code = status.code.map_or(String::new(), |code| format!(" {code:#06x}"));
    let mut state = match status.state {
        IocState::Reset => "RESET",
        IocState::Ready => "READY",
        IocState::Operational => "OPERATIONAL",
        IocState::Fault => "FAULT",
        IocState::CoreDump => "COREDUMP",
    }
    .to_owned()
        + &code;
    for (on, what) in [
        (status.yanked, ", yanked"),
        (status.stopped, ", not answering"),
        (status.holding, ", holding commands"),
    ] {
        state.push_str(if on { what } else { "" });
    }
    let delay = Duration::from_nanos(status.delay_ns);
    let summary = pairs(&[
        ("chip", status.chip.clone()),
        ("state", state),
        ("commands", format!("{} carried out, {} waiting", status.commands, status.waiting)),
        ("delay", format!("{delay:?}")),
        ("events", format!("{} to be acknowledged", status.unacknowledged)),
        ("complaints", status.complaints.to_string()),
        ("disks", format!("{} in {} slots", status.disks.len(), status.slots.len())),
    ]);
    if status.disks.is_empty() {
        return summary;
    }
    let mut table =
        Table::new(&["slot", "handle", "size", "block", "WWN", "unflushed", "what", "medium"]);
    for disk in &status.disks {
        let mut what = vec![if disk.sata { "SATA" } else { "SAS" }.to_owned()];
        if !disk.write_cache {
            what.push("no cache".into());
        }
        if disk.write_protected {
            what.push("read-only".into());
        }
        if let Some(ns) = disk.delay_ns {
            what.push(format!("delay {:?}", Duration::from_nanos(ns)));
        }
        table.row([
            disk.slot.to_string(),
            format!("{:#06x}", disk.handle),
            size(disk.bytes),
            disk.block_bytes.to_string(),
            disk.wwn.clone(),
            size(disk.dirty_bytes),
            what.join(", "),
            disk.medium.clone(),
        ]);
    }
    let mut volumes = String::new();
    if !status.volumes.is_empty() {
        let mut table = Table::new(&["volume", "size", "state", "medium"]);
        for volume in &status.volumes {
            table.row([
                format!("{:#06x}", volume.handle),
                size(volume.bytes),
                volume.state.clone(),
                volume.medium.clone(),
            ]);
        }
        volumes = format!("\n{}", table.text());
    }
    format!("{summary}\n{}{volumes}", table.text())
}
