//! `list`: the disks on a bus, or the buses.

use fusion_mpt_linux::bus_name::{BusName, MockChip};
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::pci::System;
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
    bus: String,
    pci_id: Option<String>,
    description: String,
    default: bool,
}

/// Lists the buses, and the controllers on this machine's own that this driver drives.
pub(crate) fn buses(global: &Global) -> Result<(), Error> {
    let rows = BusName::WITHOUT_CARD.map(|bus| BusRow {
        bus: bus.to_string(),
        pci_id: bus.device_id().map(|id| format!("1000:{id:04x}")),
        description: bus.describe().into(),
        default: bus == BusName::Mock(MockChip::Sas3008),
    });
    let mut found = Buses { buses: rows.into() };
    // A machine without PCI has none.
    let cards = System::real().controllers().unwrap_or_default();
    found.buses.extend(cards.iter().filter(|card| card.not_driven.is_none()).map(|card| BusRow {
        bus: card.address.to_string(),
        pci_id: Some(format!("{:04x}:{:04x}", card.vendor, card.device)),
        description: format!(
            "{}, {}, driver {}",
            card.chip,
            card.generation,
            card.driver.as_deref().unwrap_or("none")
        ),
        default: false,
    }));
    output::print(global.json, "list", &found, || {
        let mut table = Table::new(&["bus", "PCI id", "what"]);
        for row in &found.buses {
            let default = if row.default { " (the default)" } else { "" };
            let what = format!("{}{default}", row.description);
            table.row([row.bus.clone(), row.pci_id.clone().unwrap_or_default(), what]);
        }
        table.text()
    })
}
