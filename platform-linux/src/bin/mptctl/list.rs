//! `list`: the disks on a bus, or the buses.

use fusion_mpt_linux::bus_name::BusName;
use fusion_mpt_linux::error::Error;
use serde::Serialize;

use crate::cli::Global;
use crate::describe::{self, Controller, Row};
use crate::table::Table;
use crate::{open, output};

#[derive(Serialize)]
struct Disks {
    controller: Controller,
    targets: Vec<Row>,
}

/// Lists the disks.
pub(crate) fn disks(global: &Global) -> Result<(), Error> {
    let found = open(global, 0, |host| {
        let (_, targets) = describe::discover(host)?;
        Ok(Disks { controller: Controller::of(host.bring_up()), targets })
    })?;
    output::print(global.json, "list", &found, || {
        if found.targets.is_empty() {
            return format!("no targets on {}\n", global.bus);
        }
        describe::table(&found.targets)
    })
}

#[derive(Serialize)]
struct Buses {
    buses: Vec<BusRow>,
}

#[derive(Serialize)]
struct BusRow {
    bus: &'static str,
    pci_id: String,
    description: &'static str,
    default: bool,
}

/// Lists the buses.
pub(crate) fn buses(global: &Global) -> Result<(), Error> {
    let rows = BusName::ALL.map(|bus| BusRow {
        bus: bus.as_str(),
        pci_id: format!("1000:{:04x}", bus.device_id()),
        description: bus.describe(),
        default: bus.as_str() == "mock:sas3008",
    });
    let found = Buses { buses: rows.into() };
    output::print(global.json, "list", &found, || {
        let mut table = Table::new(&["bus", "PCI id", "what"]);
        for row in &found.buses {
            let default = if row.default { " (the default)" } else { "" };
            let what = format!("{}{default}", row.description);
            table.row([row.bus.into(), row.pci_id.clone(), what]);
        }
        table.text()
    })
}
