//! Controllers and disks as rows and as JSON, the same in every command.

use fusion_mpt::recovery::ResetKind;
use fusion_mpt::targets::Target;
use fusion_mpt_linux::disk::Disk;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::{BringUp, Host};
use serde::Serialize;

use crate::output::size;
use crate::table::Table;

/// Bytes of the buffer for what devices say about themselves.
const ANSWER_BYTES: usize = 4096;

/// A controller and how it came up.
#[derive(Debug, Serialize)]
pub(crate) struct Controller {
    pub(crate) bus: String,
    pub(crate) chip: String,
    pub(crate) pci_id: String,
    pub(crate) mpi_version: String,
    pub(crate) firmware: String,
    pub(crate) reset: &'static str,
    pub(crate) bring_up_ms: u64,
    pub(crate) request_credits: u16,
    pub(crate) request_frame_bytes: u32,
    pub(crate) reply_frame_bytes: u32,
    pub(crate) max_chain_depth: u8,
    pub(crate) ports: u8,
    pub(crate) max_devices: u16,
    pub(crate) capabilities: String,
    pub(crate) commands: u16,
    pub(crate) slots: u16,
    pub(crate) queues: u8,
    pub(crate) segments: u16,
    pub(crate) sgl: String,
    pub(crate) dma_bytes: usize,
}

impl Controller {
    pub(crate) fn of(bring_up: &BringUp) -> Self {
        let facts = &bring_up.facts;
        let plan = &bring_up.plan;
        let [major, minor] = facts.message_version.to_be_bytes();
        Self {
            bus: bring_up.bus.to_string(),
            chip: bring_up.chip.to_owned(),
            pci_id: format!("{:04x}:{:04x}", bring_up.pci_id.0, bring_up.pci_id.1),
            mpi_version: format!("{major}.{minor}"),
            firmware: facts.firmware_version.to_string(),
            reset: match bring_up.reset {
                ResetKind::None => "none",
                ResetKind::MessageUnit => "message unit reset",
                ResetKind::Diagnostic => "diagnostic reset",
            },
            bring_up_ms: bring_up.milliseconds,
            request_credits: facts.credits,
            request_frame_bytes: facts.request_frame_bytes,
            reply_frame_bytes: facts.reply_frame_bytes,
            max_chain_depth: facts.max_chain_depth,
            ports: facts.ports,
            max_devices: facts.max_devices,
            capabilities: format!("{:#010x}", facts.capabilities),
            commands: plan.commands,
            slots: plan.slots,
            queues: plan.queues,
            segments: plan.segments,
            sgl: format!("{:?}", plan.sgl),
            dma_bytes: plan.bytes,
        }
    }

    /// The same as pairs for people.
    pub(crate) fn pairs(&self) -> Vec<(&'static str, String)> {
        vec![
            ("controller", format!("{} on {} (PCI {})", self.chip, self.bus, self.pci_id)),
            ("firmware", format!("{}, MPI {}", self.firmware, self.mpi_version)),
            ("bring-up", format!("{} ms; reset to READY: {}", self.bring_up_ms, self.reset)),
            (
                "IOC facts",
                format!(
                    "{} credits, {} B request frames, {} B reply frames, chain depth {}",
                    self.request_credits,
                    self.request_frame_bytes,
                    self.reply_frame_bytes,
                    self.max_chain_depth
                ),
            ),
            (
                "plan",
                format!(
                    "{} slots ({} commands), {} queue{}, {} segments ({}), {} of DMA memory",
                    self.slots,
                    self.commands,
                    self.queues,
                    if self.queues == 1 { "" } else { "s" },
                    self.segments,
                    self.sgl,
                    size(self.dma_bytes as u64)
                ),
            ),
        ]
    }
}

/// A target and what it says about itself.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) target: u16,
    pub(crate) wwn: Option<String>,
    pub(crate) handle: u16,
    pub(crate) enclosure_handle: u16,
    pub(crate) slot: u16,
    pub(crate) phy: u8,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) blocks: u64,
    pub(crate) block_bytes: u32,
    pub(crate) bytes: u64,
    pub(crate) vendor: String,
    pub(crate) product: String,
    pub(crate) revision: String,
    pub(crate) serial: String,
    pub(crate) write_cache: Option<bool>,
}

impl Row {
    pub(crate) fn of(target: &Target, disk: &Disk) -> Self {
        let page = &target.page;
        Self {
            target: target.id.0,
            wwn: (page.sas_address != 0).then(|| format!("{:016x}", page.sas_address)),
            handle: page.handle,
            enclosure_handle: page.enclosure_handle,
            slot: page.slot,
            phy: page.phy,
            kind: disk.type_name(),
            protocol: if page.is_sata() { "SATA" } else { "SAS" },
            blocks: disk.blocks,
            block_bytes: disk.block_bytes,
            bytes: disk.bytes(),
            vendor: disk.vendor.clone(),
            product: disk.product.clone(),
            revision: disk.revision.clone(),
            serial: disk.serial.clone(),
            write_cache: disk.write_cache,
        }
    }

    /// "on", "off" or that the disk does not say.
    pub(crate) fn cache(&self) -> &'static str {
        match self.write_cache {
            Some(true) => "on",
            Some(false) => "off",
            None => "not told",
        }
    }
}

/// Asks every target what it is.
pub(crate) fn discover(host: &mut dyn Host) -> Result<(Vec<Disk>, Vec<Row>), Error> {
    let buffer = host.allocate(ANSWER_BYTES)?;
    let mut disks = Vec::new();
    let mut rows = Vec::new();
    for target in host.targets() {
        fusion_mpt_linux::interrupt::check()?;
        let disk = Disk::identify(host, &buffer, target.id, 0)?;
        rows.push(Row::of(&target, &disk));
        disks.push(disk);
    }
    Ok((disks, rows))
}

/// The discovery table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "id",
        "WWN",
        "slot",
        "type",
        "size",
        "block",
        "vendor",
        "product",
        "serial",
        "write cache",
    ]);
    for row in rows {
        table.row([
            row.target.to_string(),
            row.wwn.clone().unwrap_or_else(|| "-".into()),
            format!("{}:{}", row.enclosure_handle, row.slot),
            format!("{} {}", row.protocol, row.kind),
            size(row.bytes),
            row.block_bytes.to_string(),
            row.vendor.clone(),
            row.product.clone(),
            row.serial.clone(),
            row.cache().into(),
        ]);
    }
    table.text()
}
