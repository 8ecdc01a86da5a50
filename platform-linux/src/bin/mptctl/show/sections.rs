//! An inventory as sections of text.

use fusion_mpt_linux::inventory::{Attached, Board, Fact, Inventory, Phy, PhyErrors};

use crate::describe::Controller;
use crate::output::size;
use crate::table::{Table, pairs};

/// What stands where a controller or a device does not say.
const NOT_TOLD: &str = "not told";

fn or_not_told(value: Option<&String>) -> String {
    value.map_or_else(|| NOT_TOLD.to_owned(), Clone::clone)
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn handle(handle: u16) -> String {
    format!("{handle:#06x}")
}

/// A section: a heading, and what follows it.
fn section(heading: &str, body: &str) -> String {
    format!("\n{heading}\n{body}")
}

/// Everything.
pub(super) fn all(controller: &Controller, targets: usize, inventory: &Inventory) -> String {
    let mut text = pairs(&controller_rows(controller, targets, &inventory.board));
    text.push_str(&section("Phys", &phys(inventory.phys.as_deref())));
    for expander in &inventory.expanders {
        let heading = format!(
            "Expander {}, SAS address {}, {} phys, enclosure {}, behind {}, port {}, level {}",
            handle(expander.handle),
            or_not_told(expander.sas_address.as_ref()),
            expander.phy_count,
            handle(expander.enclosure_handle),
            handle(expander.parent_handle),
            expander.port,
            expander.level
        );
        text.push_str(&section(&heading, &phys(Some(&expander.phys))));
    }
    if !inventory.enclosures.is_empty() {
        text.push_str(&section("Enclosures", &enclosures(inventory)));
    }
    text.push_str(&section("Devices", &devices(&inventory.devices)));
    if !inventory.volumes.is_empty() {
        text.push_str(&section("RAID volumes", &volumes(inventory)));
        text.push_str(&section("Disks of RAID volumes", &members(inventory)));
    }
    text
}

fn controller_rows(
    controller: &Controller,
    targets: usize,
    board: &Board,
) -> Vec<(&'static str, String)> {
    let mut rows = controller.pairs();
    let chip = [board.chip.as_ref(), board.chip_revision.as_ref()];
    let chip: Vec<&str> = chip.into_iter().flatten().map(String::as_str).collect();
    let list = |names: &[&str]| match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    rows.extend([
        ("board", or_not_told(board.board.as_ref())),
        ("assembly", or_not_told(board.assembly.as_ref())),
        ("tracer", or_not_told(board.tracer.as_ref())),
        ("chip", if chip.is_empty() { NOT_TOLD.to_owned() } else { chip.join(" revision ") }),
        ("product", format!("{}, {} firmware", board.family, board.firmware_kind)),
        ("BIOS", or_not_told(board.bios.as_ref())),
        ("NVDATA", nvdata(board)),
        ("SAS address", or_not_told(board.sas_address.as_ref())),
        ("protocol", list(&board.protocols)),
        ("capabilities", format!("{} ({})", controller.capabilities, list(&board.capabilities))),
        ("PCI", pci(board)),
    ]);
    for temperature in &board.temperatures {
        let name = if temperature.sensor == "IOC" { "IOC at" } else { "board at" };
        rows.push((name, format!("{} °C", temperature.celsius)));
    }
    if !board.exceptions.is_empty() {
        rows.push(("out of order", board.exceptions.join(", ")));
    }
    rows.push((
        "ports",
        format!("{}, devices at most {}", controller.ports, controller.max_devices),
    ));
    rows.push(("targets", targets.to_string()));
    rows
}

fn nvdata(board: &Board) -> String {
    match (&board.nvdata, &board.nvdata_default) {
        (Some(used), Some(brought)) if used != brought => {
            format!("{used} (the firmware brings {brought})")
        }
        (Some(used), _) => used.clone(),
        (None, brought) => or_not_told(brought.as_ref()),
    }
}

fn pci(board: &Board) -> String {
    let mut text = or_not_told(board.pci_id.as_ref());
    if let Some(revision) = board.pci_revision {
        text.push_str(&format!(" revision {revision:02x}"));
    }
    if let Some(subsystem) = &board.pci_subsystem {
        text.push_str(&format!(", subsystem {subsystem}"));
    }
    if let Some(link) = board.pci_link {
        text.push_str(&format!(", {} lanes at {} GT/s", link.lanes, link.gigatransfers));
    }
    text
}

/// The facts, field by field.
pub(super) fn facts(facts: &[Fact]) -> String {
    pairs(&facts.iter().map(|fact| (fact.name, fact.value.clone())).collect::<Vec<_>>())
}

fn phys(phys: Option<&[Phy]>) -> String {
    let Some(phys) = phys else { return format!("{NOT_TOLD}\n") };
    let mut table = Table::new(&[
        "phy",
        "port",
        "link",
        "set to",
        "attached",
        "handle",
        "its phy",
        "SAS address",
        "changes",
        "invalid words",
        "disparity",
        "sync lost",
        "resets failed",
    ]);
    for phy in phys {
        let count = |of: fn(&PhyErrors) -> u32| or_dash(phy.errors.as_ref().map(of));
        table.row([
            phy.phy.to_string(),
            phy.port.to_string(),
            phy.link.to_owned(),
            or_dash(phy.programmed.as_ref()),
            or_dash(phy.attached.filter(|_| phy.attached_handle.is_some())),
            or_dash(phy.attached_handle.map(handle)),
            or_dash(phy.attached_phy),
            or_dash(phy.attached_sas_address.as_ref()),
            or_dash(phy.changes),
            count(|errors| errors.invalid_dwords),
            count(|errors| errors.disparity_errors),
            count(|errors| errors.sync_losses),
            count(|errors| errors.reset_problems),
        ]);
    }
    table.text()
}

fn enclosures(inventory: &Inventory) -> String {
    let mut table = Table::new(&["handle", "logical id", "slots", "first slot", "managed by"]);
    for enclosure in &inventory.enclosures {
        table.row([
            handle(enclosure.handle),
            or_dash(enclosure.logical_id.as_ref()),
            enclosure.slots.to_string(),
            enclosure.first_slot.to_string(),
            enclosure.management.to_owned(),
        ]);
    }
    table.text()
}

fn devices(devices: &[Attached]) -> String {
    if devices.is_empty() {
        return "none\n".into();
    }
    let mut table = Table::new(&[
        "id",
        "handle",
        "slot",
        "SAS address",
        "WWN",
        "type",
        "vendor",
        "product",
        "rev",
        "serial",
        "size",
        "block",
        "link",
        "state",
    ]);
    for device in devices {
        table.row([
            device.target.to_string(),
            handle(device.handle),
            format!("{}:{}", device.enclosure_handle, device.slot),
            or_dash(device.sas_address.as_ref()),
            or_dash(device.wwn.as_ref()),
            format!("{} {}", device.protocol, device.kind),
            device.vendor.clone(),
            device.product.clone(),
            device.revision.clone(),
            device.serial.clone(),
            size(device.bytes),
            device.block_bytes.to_string(),
            or_dash(device.link),
            state(device),
        ]);
    }
    table.text()
}

fn state(device: &Attached) -> String {
    match device.trouble.is_empty() {
        true => device.state.name().to_owned(),
        false => format!("{}: {}", device.state.name(), device.trouble),
    }
}

fn volumes(inventory: &Inventory) -> String {
    let mut table = Table::new(&["handle", "level", "size", "state", "WWID", "name", "disks"]);
    for volume in &inventory.volumes {
        let mut state = vec![volume.state];
        state.extend(&volume.flags);
        let members: Vec<String> = volume.members.iter().map(u8::to_string).collect();
        table.row([
            handle(volume.handle),
            volume.level.to_owned(),
            or_dash(volume.bytes.map(size)),
            state.join(", "),
            or_dash(volume.wwid.as_ref()),
            or_dash(volume.name.as_ref()),
            members.join(" "),
        ]);
    }
    table.text()
}

fn members(inventory: &Inventory) -> String {
    let mut table =
        Table::new(&["disk", "handle", "vendor", "product", "rev", "serial", "size", "state"]);
    for member in &inventory.members {
        table.row([
            member.number.to_string(),
            or_dash(member.handle.map(handle)),
            or_dash(member.vendor.as_ref()),
            or_dash(member.product.as_ref()),
            or_dash(member.revision.as_ref()),
            or_dash(member.serial.as_ref()),
            or_dash(member.bytes.map(size)),
            member.state.to_owned(),
        ]);
    }
    table.text()
}

/// One target in full.
pub(super) fn target(device: &Attached) -> String {
    let cache = match device.write_cache {
        Some(true) => "on",
        Some(false) => "off",
        None => NOT_TOLD,
    };
    let mut rows = vec![
        ("target", device.target.to_string()),
        ("state", state(device)),
        ("SAS address", or_not_told(device.sas_address.as_ref())),
        ("WWN", or_not_told(device.wwn.as_ref())),
        ("type", format!("{} {}", device.protocol, device.kind)),
        ("vendor", device.vendor.clone()),
        ("product", device.product.clone()),
        ("revision", device.revision.clone()),
        ("serial", device.serial.clone()),
        (
            "size",
            format!(
                "{}: {} blocks of {} bytes",
                size(device.bytes),
                device.blocks,
                device.block_bytes
            ),
        ),
        ("write cache", cache.into()),
        ("link", device.link.map_or_else(|| NOT_TOLD.to_owned(), str::to_owned)),
        ("handle", handle(device.handle)),
    ];
    if let Some(address) = &device.bus_and_id {
        rows.push(("bus and id", address.clone()));
    }
    rows.extend([
        (
            "attached to",
            format!("phy {} of {}, port {}", device.phy, handle(device.parent_handle), device.port),
        ),
        ("enclosure and slot", format!("{}, {}", handle(device.enclosure_handle), device.slot)),
        ("enclosure's id", or_not_told(device.enclosure.as_ref())),
    ]);
    pairs(&rows)
}
