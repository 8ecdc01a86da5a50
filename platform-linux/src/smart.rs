//! How disks do: SAS disks by their log pages, SATA disks by SMART through the translation layer.
//!
//! What a disk does not keep, or will not tell, is left out; a disk about which nothing can be said
//! is neither healthy nor failing.

pub mod attributes;
mod log_page;
mod logs;
mod sata;
mod self_test;

use fusion_mpt::scsi::{Cdb, Sense};
use fusion_mpt::targets::Target;
use serde::Serialize;

pub use attributes::{Attribute, Failing};
pub use logs::{ErrorCounters, SasHealth};
pub use sata::SataHealth;
pub use self_test::{SelfTest, SelfTestKind, start};

use crate::disk::{Disk, ask, settle};
use crate::error::Error;
use crate::host::{Buffer, Host};

/// Bytes of the buffer that [`examine`] wants: the longest log page there can be.
pub const ANSWER_BYTES: usize = 64 << 10;

/// How a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It does well, as it says.
    Passed,
    /// It warns of something, which need not be its end: it is too warm, a self-test failed.
    Warning,
    /// It predicts its failure.
    Failing,
    /// It says nothing about it.
    Unknown,
}

impl Verdict {
    /// The verdict in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Warning => "warning",
            Self::Failing => "FAILING",
            Self::Unknown => "not told",
        }
    }

    /// Whether somebody should look at the disk.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::Warning | Self::Failing)
    }
}

/// A disk and how it does.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its target id.
    pub target: u16,
    /// `SAS` or `SATA`.
    pub protocol: &'static str,
    /// T10 vendor identification.
    pub vendor: String,
    /// Product identification.
    pub product: String,
    /// Product revision level.
    pub revision: String,
    /// Unit serial number.
    pub serial: String,
    /// How it does.
    pub health: Verdict,
    /// What it warns of or fails by, one sentence each.
    pub reasons: Vec<String>,
    /// Degrees Celsius.
    pub temperature: Option<i32>,
    /// Degrees Celsius that it should stay below.
    pub reference_temperature: Option<i32>,
    /// Hours it has been on.
    pub power_on_hours: Option<u64>,
    /// Per cent of what its flash endures, used: 100 or more is worn out.
    pub endurance_used: Option<u8>,
    /// What its log pages say (SPC-5 7.3, SBC-4 6.4), also of a SATA disk whose translation layer
    /// has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sas: Option<SasHealth>,
    /// What its SMART says (ACS-3 7.48).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sata: Option<SataHealth>,
    /// Self-tests, the newest first.
    pub self_tests: Vec<SelfTest>,
}

impl Report {
    /// Of a disk that has said nothing yet.
    const fn of(target: u16, protocol: &'static str) -> Self {
        Self {
            target,
            protocol,
            vendor: String::new(),
            product: String::new(),
            revision: String::new(),
            serial: String::new(),
            health: Verdict::Unknown,
            reasons: Vec::new(),
            temperature: None,
            reference_temperature: None,
            power_on_hours: None,
            endurance_used: None,
            sas: None,
            sata: None,
            self_tests: Vec::new(),
        }
    }

    /// A bad reason, which makes the verdict at least as bad.
    fn because(&mut self, verdict: Verdict, reason: String) {
        let worse = verdict == Verdict::Failing || self.health != Verdict::Failing;
        if worse {
            self.health = verdict;
        }
        self.reasons.push(reason);
    }
}

/// Asks a disk how it does. `buffer` has [`ANSWER_BYTES`]. What it refuses is left out; one that does
/// not even say who it is gets a warning for that.
///
/// # Errors
///
/// [`Error::Failed`] when the controller is gone; [`Error::Interrupted`].
pub fn examine(host: &mut dyn Host, buffer: &Buffer, target: &Target) -> Result<Report, Error> {
    let unit = (target.id, 0);
    let protocol = if target.page.is_sata() { "SATA" } else { "SAS" };
    let mut report = Report::of(target.id.0, protocol);
    let settled = settle(host, unit);
    let identified = settled.and_then(|()| Disk::identify(host, buffer, target.id, 0));
    let why = identified.as_ref().err().map(ToString::to_string);
    match unless_fatal(host, identified)? {
        Some(disk) => {
            report.vendor = disk.vendor;
            report.product = disk.product;
            report.revision = disk.revision;
            report.serial = disk.serial;
        }
        None => report.because(Verdict::Warning, why.unwrap_or_default()),
    }
    if target.page.is_sata() {
        sata::examine(host, buffer, target.id, &mut report)?;
    }
    if report.sata.is_none() {
        logs::examine(host, buffer, unit, &mut report)?;
    }
    Ok(report)
}

/// The temperature of a disk in degrees Celsius by its temperature log page, which translation layers
/// have too; `None` if it has none. Quick, for those who ask often.
///
/// # Errors
///
/// As [`examine`].
pub fn temperature(
    host: &mut dyn Host,
    buffer: &Buffer,
    target: &Target,
) -> Result<Option<i32>, Error> {
    let page = log_page::page(host, buffer, (target.id, 0), 0x0d)?;
    Ok(page.and_then(|page| logs::temperatures(&page).0))
}

/// Lets an error pass that is the disk's own; one that ends the session stays one.
fn unless_fatal<T>(host: &dyn Host, result: Result<T, Error>) -> Result<Option<T>, Error> {
    use fusion_mpt::controller::Health;
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(error) if matches!(host.health(), Health::Gone | Health::Offline) => Err(error),
        Err(_) => Ok(None),
    }
}

/// What REQUEST SENSE has to tell.
fn request_sense(
    host: &mut dyn Host,
    buffer: &Buffer,
    unit: (fusion_mpt::targets::TargetId, u8),
) -> Result<Option<Sense>, Error> {
    let asked = ask(host, buffer, unit, Cdb::request_sense(252), 252);
    let answer = unless_fatal(host, asked)?;
    Ok(answer.and_then(|bytes| Sense::parse(&bytes)))
}

#[cfg(test)]
mod tests;
