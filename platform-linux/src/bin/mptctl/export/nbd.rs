//! `export --nbd` and `export --attach`: the disks of a controller by NBD.

use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::export::figures::Board;
use fusion_mpt_linux::export::manager::Watcher as Common;
use fusion_mpt_linux::export::nbd::Address;
use fusion_mpt_linux::export::nbd::manager::{self, NbdOptions, Note};
use fusion_mpt_linux::export::unit::Unit;
use fusion_mpt_linux::host::Host;
use fusion_mpt_linux::open::with_host;
use fusion_mpt_linux::session::Options;
use sd_notify::NotifyState;
use serde_json::{Value, json};

use super::on_linux::{self, SPARE_COMMANDS, say, systemd};
use crate::cli::Global;
use crate::cli::export::Export;
use crate::{options, output};

/// Serves until the user, systemd or the controller ends it.
pub(super) fn export(global: &Global, arguments: &Export) -> Result<(), Error> {
    if arguments.queues > 1 {
        return Err(Error::usage(
            "NBD is served by one thread from one queue; leave out --queues, or export by ublk, without --nbd and --attach",
        ));
    }
    let wanted = NbdOptions {
        targets: arguments.targets.clone(),
        read_only: arguments.read_only,
        depth: arguments.depth,
        waiting: global.waiting,
        address: arguments.nbd.clone(),
        attach: arguments.attach,
    };
    if let Some(pinning) = &global.pin {
        pinning.pin(0)?;
    }
    let commands = arguments.depth.saturating_add(SPARE_COMMANDS);
    let session: Options = options(global, commands);
    let attach = arguments.attach;
    let mut watcher =
        Watcher { json: global.json, attach, common: on_linux::Watcher::new(global, arguments)? };
    let summary = with_host(session, |host| manager::run(host, &wanted, &mut watcher))?;
    watcher.common.end(&summary)
}

/// Tells the user and systemd; what it has in common with that of ublk does the rest.
struct Watcher {
    json: bool,
    /// The kernel attaches what is served, so that nobody need be told how.
    attach: bool,
    common: on_linux::Watcher,
}

impl manager::Watcher for Watcher {
    fn note(&mut self, note: &Note) {
        match note {
            Note::Ready { units } => {
                let status = format!("{units} disks by NBD");
                systemd(&[NotifyState::Ready, NotifyState::Status(&status)]);
            }
            Note::Stopping => systemd(&[NotifyState::Stopping]),
            _ => {}
        }
        let attach = self.attach;
        if let Err(error) = say(self.json, document(note), || sentence(note, attach)) {
            self.common.failure.get_or_insert(error);
        }
    }

    fn second(&mut self, host: &mut dyn Host, board: &Board, units: usize) {
        Common::second(&mut self.common, host, board, units);
    }
}

/// A unit as people know it.
fn which(unit: &Unit) -> String {
    match unit.lun {
        0 => format!("target {}", unit.target.0),
        lun => format!("target {} unit {lun}", unit.target.0),
    }
}

fn sentence(note: &Note, attach: bool) -> String {
    match note {
        Note::Served { unit, names, address } => {
            let what = format!(
                "{} ({} {}, {}) is served as {}",
                which(unit),
                unit.vendor,
                unit.product,
                output::size(unit.bytes()),
                names.join(" and ")
            );
            match (address, names.first()) {
                (Some(address), Some(name)) if attach => format!("{what} at {}", address.uri(name)),
                (Some(address), Some(name)) => format!(
                    "{what} at {}\n  as a block device: {}",
                    address.uri(name),
                    address.client_line(name, "/dev/nbd0")
                ),
                _ => what,
            }
        }
        Note::Attached { unit, path, again } => {
            let again = if *again { ", where it was before" } else { "" };
            format!("{} is {}{again}", which(unit), path.display())
        }
        Note::LeftOut { target, lun, why } => {
            format!("target {target} unit {lun} is left out: {why}")
        }
        Note::Ready { units: 1 } => "ready: 1 disk; Ctrl-C ends it in order".into(),
        Note::Ready { units } => format!("ready: {units} disks; Ctrl-C ends them in order"),
        Note::Gone { unit, path, users } => {
            let place =
                path.as_ref().map_or(String::new(), |path| format!(" ({})", path.display()));
            let used = if users.is_empty() {
                String::new()
            } else {
                format!("; it was in use ({}), unmount what is left of it", users.join("; "))
            };
            format!("{}{place} is gone{used}", which(unit))
        }
        Note::Grown { unit } => {
            format!("{} has grown to {}", which(unit), output::size(unit.bytes()))
        }
        Note::Stopping => "ending: draining and flushing".into(),
        Note::Said(sentence) => sentence.clone(),
    }
}

fn document(note: &Note) -> Value {
    match note {
        Note::Served { unit, names, address } => {
            let uri = |address: &Address| names.first().map(|name| address.uri(name));
            json!({
                "event": "served",
                "target": unit.target.0,
                "lun": unit.lun,
                "names": names,
                "uri": address.as_ref().and_then(uri),
                "wwn": unit.name.as_ref().map(|name| name.wwn_link()),
                "serial": unit.serial,
                "vendor": unit.vendor,
                "product": unit.product,
                "bytes": unit.bytes(),
                "block_bytes": unit.block_bytes,
                "physical_block_bytes": unit.physical_block_bytes,
                "read_only": unit.read_only,
                "write_cache": unit.write_cache,
                "fua": unit.fua,
                "discard": unit.discard.is_some(),
                "write_zeroes": unit.write_zeroes.is_some(),
                "rotational": unit.rotational,
            })
        }
        Note::Attached { unit, path, again } => json!({
            "event": "attached",
            "target": unit.target.0,
            "lun": unit.lun,
            "device": path,
            "recovered": again,
        }),
        Note::LeftOut { target, lun, why } => {
            json!({"event": "left-out", "target": target, "lun": lun, "why": why})
        }
        Note::Ready { units } => json!({"event": "ready", "units": units}),
        Note::Gone { unit, path, users } => json!({
            "event": "gone",
            "target": unit.target.0,
            "lun": unit.lun,
            "device": path,
            "users": users,
        }),
        Note::Grown { unit } => json!({
            "event": "grown",
            "target": unit.target.0,
            "lun": unit.lun,
            "bytes": unit.bytes(),
        }),
        Note::Stopping => json!({"event": "stopping"}),
        Note::Said(sentence) => json!({"event": "note", "text": sentence}),
    }
}
