//! `show`: a controller, its links and everything behind it, or one target in full.

mod sections;

use fusion_mpt_linux::disk::find_target;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::inventory::{self, Inventory};
use serde::Serialize;

use crate::cli::{Global, Show};
use crate::describe::Controller;
use crate::{open, output};

#[derive(Serialize)]
struct Shown {
    controller: Controller,
    target_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<inventory::Attached>,
    #[serde(flatten)]
    inventory: Inventory,
}

/// Shows what was asked for.
pub(crate) fn run(global: &Global, arguments: &Show) -> Result<(), Error> {
    let shown = open(global, 0, |host| {
        if let Some(number) = arguments.target {
            find_target(host, number)?;
        }
        let inventory = inventory::take(host)?;
        let wanted = |device: &&inventory::Attached| Some(device.target) == arguments.target;
        Ok(Shown {
            controller: Controller::of(host.bring_up()),
            target_count: host.targets().len(),
            target: inventory.devices.iter().find(wanted).cloned(),
            inventory,
        })
    })?;
    output::print(global.json, "show", &shown, || match &shown.target {
        Some(target) => sections::target(target),
        None if arguments.facts => sections::facts(&shown.inventory.facts),
        None => sections::all(&shown.controller, shown.target_count, &shown.inventory),
    })
}
