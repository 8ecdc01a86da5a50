//! `show`: a controller or a target in full.

use fusion_mpt_linux::disk::{Disk, find_target};
use fusion_mpt_linux::error::Error;
use serde::Serialize;

use crate::cli::{Global, Show};
use crate::describe::{Controller, Row};
use crate::table::pairs;
use crate::{open, output};

#[derive(Serialize)]
struct Shown {
    controller: Controller,
    target_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Row>,
}

/// Shows what was asked for.
pub(crate) fn run(global: &Global, arguments: &Show) -> Result<(), Error> {
    let shown = open(global, 0, |host| {
        let target = match arguments.target {
            None => None,
            Some(number) => {
                let target = find_target(host, number)?;
                let buffer = host.allocate(4096)?;
                let disk = Disk::identify(host, &buffer, target.id, 0)?;
                Some(Row::of(&target, &disk))
            }
        };
        let controller = Controller::of(host.bring_up());
        Ok(Shown { controller, target_count: host.targets().len(), target })
    })?;
    output::print(global.json, "show", &shown, || match &shown.target {
        Some(row) => target_text(row),
        None => controller_text(&shown),
    })
}

fn controller_text(shown: &Shown) -> String {
    let controller = &shown.controller;
    let mut rows = controller.pairs();
    rows.push(("capabilities", controller.capabilities.clone()));
    rows.push((
        "ports",
        format!("{}, devices at most {}", controller.ports, controller.max_devices),
    ));
    rows.push(("targets", shown.target_count.to_string()));
    pairs(&rows)
}

fn target_text(row: &Row) -> String {
    pairs(&[
        ("target", row.target.to_string()),
        ("WWN", row.wwn.clone().unwrap_or_else(|| "none".into())),
        ("type", format!("{} {}", row.protocol, row.kind)),
        ("vendor", row.vendor.clone()),
        ("product", row.product.clone()),
        ("revision", row.revision.clone()),
        ("serial", row.serial.clone()),
        (
            "size",
            format!(
                "{}: {} blocks of {} bytes",
                output::size(row.bytes),
                row.blocks,
                row.block_bytes
            ),
        ),
        ("write cache", row.cache().into()),
        ("handle", format!("{:#06x}", row.handle)),
        ("phy", row.phy.to_string()),
        ("enclosure and slot", format!("{:#06x}, {}", row.enclosure_handle, row.slot)),
    ])
}
