//! `bind`, `unbind` and `status`: whose driver has a controller.

use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::pci::bind::{Bound, Request, Unbound, bind, unbind};
use fusion_mpt_linux::pci::{Controller, State, System, UserDriver};
use serde::Serialize;

use crate::cli::Global;
use crate::cli::bind::{Bind, Unbind};
use crate::output;
use crate::table::Table;

#[derive(Serialize)]
struct AllBound {
    controllers: Vec<BoundRow>,
}

#[derive(Serialize)]
struct BoundRow {
    #[serde(flatten)]
    bound: Bound,
    /// The command that makes it last.
    make_it_last: String,
}

/// Gives controllers to user space, all or none.
pub(crate) fn bind_all(global: &Global, arguments: &Bind) -> Result<(), Error> {
    let system = System::real();
    let owner = arguments.owner.as_deref().map(|owner| system.owner(owner)).transpose()?;
    let mut done: Vec<Bound> = Vec::new();
    for address in &arguments.addresses {
        let request = Request {
            driver: arguments.driver,
            force: arguments.force,
            owner,
            together: arguments.addresses.clone(),
            ..Request::new(*address)
        };
        match bind(&system, &request) {
            Ok(bound) => done.push(bound),
            Err(error) => return Err(undo(&done, error)),
        }
    }
    let controllers =
        done.into_iter().map(|bound| BoundRow { make_it_last: bound.to_make_it_last(), bound });
    let all = AllBound { controllers: controllers.collect() };
    output::print(global.json, "bind", &all, || {
        let mut text: String = all.controllers.iter().map(|row| told(&row.bound)).collect();
        text.push_str(
            "It lasts until the next boot. To have it so at every boot (package driverctl):\n",
        );
        for row in &all.controllers {
            text.push_str(&format!("  {}\n", row.make_it_last));
        }
        if let Some(row) = all.controllers.first() {
            text.push_str(&format!(
                "Now: mptctl list --bus {address}; back again: mptctl unbind {address}\n",
                address = row.bound.address
            ));
        }
        if owner.is_some() {
            text.push_str(
                "A normal user needs leave to lock memory for DMA: see ulimit -l, and memlock in \
                 limits.conf(5)\n",
            );
        }
        text
    })
}

/// Gives back what was bound before `error`, and says so.
fn undo(done: &[Bound], error: Error) -> Error {
    let undone: Vec<String> = done
        .iter()
        // One that was lent by the same driver before this command stays so.
        .filter(|bound| bound.former.as_deref() != Some(bound.driver.name()))
        .map(|bound| match bound.undo() {
            Ok(Some(driver)) => format!("{} is back with {driver}", bound.address),
            Ok(None) => format!("{} is free again", bound.address),
            Err(error) => format!("{} could not be given back: {error}", bound.address),
        })
        .collect();
    if undone.is_empty() { error } else { Error::failed(format!("{error}; {}", undone.join("; "))) }
}

fn told(bound: &Bound) -> String {
    let node =
        bound.node.as_ref().map_or_else(String::new, |node| format!(" as {}", node.display()));
    let Bound { address, chip, driver, .. } = bound;
    let mut text = match bound.former.as_deref() {
        Some(former) if former == driver.name() => {
            format!("{address} ({chip}) is lent by {driver}{node} already\n")
        }
        Some(former) => format!("{address} ({chip}) is lent by {driver}{node}; {former} had it\n"),
        None => format!("{address} ({chip}) is lent by {driver}{node}; no driver had it\n"),
    };
    for note in &bound.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    text
}

#[derive(Serialize)]
struct AllUnbound {
    controllers: Vec<Unbound>,
}

/// Gives controllers back to the kernel.
pub(crate) fn unbind_all(global: &Global, arguments: &Unbind) -> Result<(), Error> {
    let system = System::real();
    let mut all = AllUnbound { controllers: Vec::new() };
    for address in &arguments.addresses {
        match unbind(&system, *address, arguments.force) {
            Ok(unbound) => all.controllers.push(unbound),
            Err(error) if all.controllers.is_empty() => return Err(error),
            Err(error) => {
                let back = |unbound: &Unbound| unbound.address.to_string();
                let back: Vec<String> = all.controllers.iter().map(back).collect();
                return Err(Error::failed(format!(
                    "{error}; {} went back before",
                    back.join(", ")
                )));
            }
        }
    }
    output::print(global.json, "unbind", &all, || {
        let mut text = String::new();
        for Unbound { address, chip, driver, notes, .. } in &all.controllers {
            match driver {
                Some(driver) => text.push_str(&format!("{address} ({chip}) is with {driver}\n")),
                None => text.push_str(&format!("{address} ({chip}) is free\n")),
            }
            for note in notes {
                text.push_str(&format!("  note: {note}\n"));
            }
        }
        text
    })
}

#[derive(Serialize)]
struct Status {
    controllers: Vec<StatusRow>,
}

#[derive(Serialize)]
struct StatusRow {
    #[serde(flatten)]
    controller: Controller,
    #[serde(flatten)]
    state: State,
}

/// Lists the controllers of this machine and in whose hands they are.
pub(crate) fn status(global: &Global) -> Result<(), Error> {
    let rows = System::real().status()?;
    let rows = rows.into_iter().map(|(controller, state)| StatusRow { controller, state });
    let status = Status { controllers: rows.collect() };
    output::print(global.json, "status", &status, || text(&status.controllers))
}

fn text(rows: &[StatusRow]) -> String {
    if rows.is_empty() {
        return "no Fusion-MPT or MegaRAID controller on this machine's PCI buses; software ones: \
                mptctl list --buses\n"
            .into();
    }
    let headings = ["address", "chip", "PCI id", "generation", "driver", "IOMMU group", "state"];
    let mut table = Table::new(&headings);
    let mut details = String::new();
    for StatusRow { controller, state } in rows {
        let (short, more) = in_words(controller, state);
        table.row([
            controller.address.to_string(),
            controller.chip.into(),
            format!("{:04x}:{:04x}", controller.vendor, controller.device),
            controller.generation.to_string(),
            controller.driver.clone().unwrap_or_else(|| "none".into()),
            controller.iommu_group.map_or_else(|| "none".into(), |group| group.to_string()),
            short,
        ]);
        for line in more {
            details.push_str(&format!("{}: {line}\n", controller.address));
        }
    }
    let space = if details.is_empty() { "" } else { "\n" };
    format!("{}{space}{details}", table.text())
}

/// A few words for the table, and lines that stand below it.
fn in_words(controller: &Controller, state: &State) -> (String, Vec<String>) {
    let mut lines = Vec::new();
    if let Some(why) = controller.not_driven {
        lines.push(format!("not for this driver: {why}"));
    }
    let in_the_way: Vec<String> = controller
        .group_members
        .iter()
        .filter(|member| member.in_the_way())
        .map(|member| format!("{} ({})", member.address, member.driver.as_deref().unwrap_or("-")))
        .collect();
    if !in_the_way.is_empty() {
        lines.push(format!("the kernel uses others of its IOMMU group: {}", in_the_way.join(", ")));
    }
    let short = match state {
        State::Free => "free: no driver has it".into(),
        State::Kernel(holders) => {
            let disks = match controller.disks.as_slice() {
                [] => "no disks".to_owned(),
                [disk] => format!("disk {}", disk.name),
                disks => {
                    let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
                    format!("disks {}", names.join(" "))
                }
            };
            lines.extend(holders.known.iter().map(ToString::to_string));
            lines.extend(holders.unknown.iter().map(|why| format!("may be held unseen: {why}")));
            let held = match (holders.known.is_empty(), &holders.unknown) {
                (false, _) => "held",
                (true, Some(_)) => "not known to be held",
                (true, None) => "not held",
            };
            format!("kernel's: {disks}, {held}")
        }
        State::UserSpace(lent) => {
            let users: Vec<String> = lent.users.iter().map(ToString::to_string).collect();
            if !users.is_empty() {
                lines.push(format!("in use by {}", users.join(", ")));
            }
            if !lent.accessible {
                let owner = match lent.driver {
                    UserDriver::Vfio => {
                        format!("mptctl bind {} --owner USER, as root", controller.address)
                    }
                    UserDriver::Uio => "run as root".into(),
                };
                lines.push(format!(
                    "this user may not open {}; to change that: {owner}",
                    lent.node.display()
                ));
            }
            let use_now = match (users.is_empty(), lent.users_hidden, lent.accessible) {
                (false, ..) => "in use",
                (true, _, false) => "not for this user",
                (true, true, true) => "not known to be in use",
                (true, false, true) => "ready",
            };
            format!("user space: {}, {use_now}", lent.node.display())
        }
    };
    (short, lines)
}
