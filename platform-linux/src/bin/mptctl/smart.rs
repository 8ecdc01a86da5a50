//! `smart`: how disks do.

use fusion_mpt_linux::disk::find_target;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::{Buffer, Host};
use fusion_mpt_linux::interrupt;
use fusion_mpt_linux::smart::{
    self, ANSWER_BYTES, Attribute, ErrorCounters, Failing, Report, SasHealth, SelfTestKind,
};
use serde::Serialize;

use crate::cli::Global;
use crate::cli::health::{SelfTestArgument, Smart};
use crate::table::{Table, pairs};
use crate::{open, output};

#[derive(Serialize)]
struct Smarts {
    bus: String,
    /// Whether every disk that says something about it is well.
    healthy: bool,
    targets: Vec<Report>,
}

#[derive(Serialize)]
struct Begun {
    bus: String,
    target: u16,
    self_test: &'static str,
}

/// Asks disks how they do, or begins a self-test.
pub(crate) fn run(global: &Global, arguments: &Smart) -> Result<(), Error> {
    if let (Some(test), Some(target)) = (arguments.self_test, arguments.target) {
        return self_test(global, target, test);
    }
    let targets = open(global, 0, |host| {
        let buffer = host.allocate(ANSWER_BYTES)?;
        examine(host, &buffer, arguments.target)
    })?;
    let healthy = !targets.iter().any(|report| report.health.is_bad());
    let smarts = Smarts { bus: global.bus.to_string(), healthy, targets };
    output::print(global.json, "smart", &smarts, || match smarts.targets.as_slice() {
        [] => format!("no targets on {}\n", global.bus),
        [one] if arguments.target.is_some() => in_full(one),
        all => in_short(all),
    })?;
    if healthy { Ok(()) } else { Err(Error::Reported) }
}

fn examine(
    host: &mut dyn Host,
    buffer: &Buffer,
    wanted: Option<u16>,
) -> Result<Vec<Report>, Error> {
    if let Some(number) = wanted {
        let target = find_target(host, number)?;
        return Ok(vec![smart::examine(host, buffer, &target)?]);
    }
    let mut reports = Vec::new();
    for target in host.targets() {
        interrupt::check()?;
        reports.push(smart::examine(host, buffer, &target)?);
    }
    Ok(reports)
}

fn self_test(global: &Global, number: u16, test: SelfTestArgument) -> Result<(), Error> {
    let (kind, name) = match test {
        SelfTestArgument::Short => (SelfTestKind::Short, "short"),
        SelfTestArgument::Long => (SelfTestKind::Long, "long"),
        SelfTestArgument::Abort => (SelfTestKind::Abort, "abort"),
    };
    open(global, 0, |host| {
        let target = find_target(host, number)?;
        let buffer = host.allocate(4096)?;
        smart::start(host, &buffer, &target, kind)
    })?;
    let begun = Begun { bus: global.bus.to_string(), target: number, self_test: name };
    output::print(global.json, "smart", &begun, || match kind {
        SelfTestKind::Abort => format!("target {number} runs no self-test any more\n"),
        _ => format!(
            "target {number} runs a {name} self-test; `mptctl smart --target {number}` tells what comes of it\n"
        ),
    })
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn celsius(value: Option<i32>) -> String {
    or_dash(value.map(|celsius| format!("{celsius} °C")))
}

/// A line for each disk, and what is wrong with those that are not well.
fn in_short(reports: &[Report]) -> String {
    let mut table = Table::new(&[
        "id", "type", "vendor", "product", "serial", "health", "temp", "hours", "worn",
    ]);
    for report in reports {
        table.row([
            report.target.to_string(),
            report.protocol.to_owned(),
            report.vendor.clone(),
            report.product.clone(),
            report.serial.clone(),
            report.health.name().to_owned(),
            celsius(report.temperature),
            or_dash(report.power_on_hours),
            or_dash(report.endurance_used.map(|used| format!("{used} %"))),
        ]);
    }
    let mut text = table.text();
    for report in reports {
        for reason in &report.reasons {
            text.push_str(&format!("target {}: {reason}\n", report.target));
        }
    }
    text
}

/// Everything about one disk.
fn in_full(report: &Report) -> String {
    let mut rows = vec![
        ("target", report.target.to_string()),
        ("disk", format!("{} {} {}", report.vendor, report.product, report.revision)),
        ("serial", report.serial.clone()),
        ("type", report.protocol.to_owned()),
        ("health", report.health.name().to_owned()),
    ];
    rows.extend(report.reasons.iter().map(|reason| ("because", reason.clone())));
    rows.push(("temperature", celsius(report.temperature)));
    if report.reference_temperature.is_some() {
        rows.push(("should stay below", celsius(report.reference_temperature)));
    }
    rows.push(("power-on hours", or_dash(report.power_on_hours)));
    if let Some(used) = report.endurance_used {
        rows.push(("endurance used", format!("{used} %")));
    }
    if let Some(sas) = &report.sas {
        rows.extend(sas_rows(sas));
    }
    if let Some(sata) = &report.sata {
        let smart = match (sata.smart_supported, sata.smart_enabled) {
            (true, true) => "on",
            (true, false) => {
                "off; turn it on with: mptctl scsi ata b0 --features 0xd8 --lba 0xc24f00 --yes"
            }
            (false, _) => "none",
        };
        rows.push(("SMART", smart.to_owned()));
        rows.push(("model", sata.model.clone()));
        rows.push(("firmware", sata.firmware.clone()));
        rows.push(("WWN", or_dash(sata.wwn.as_ref())));
    }
    let mut text = pairs(&rows);
    if let Some(sas) = &report.sas {
        text.push_str(&errors(sas));
    }
    if let Some(sata) = report.sata.as_ref().filter(|sata| !sata.attributes.is_empty()) {
        text.push_str(&attributes(&sata.attributes));
    }
    text.push_str(&self_tests(report));
    text
}

fn sas_rows(sas: &SasHealth) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let mut counted = |name, count: Option<u64>, limit: Option<u64>| {
        if let Some(count) = count {
            let limit = limit.filter(|limit| *limit != 0);
            let limit = limit.map_or_else(String::new, |limit| format!(" of {limit}"));
            rows.push((name, format!("{count}{limit}")));
        }
    };
    counted("starts and stops", sas.start_stops, sas.start_stop_limit);
    counted("head loads", sas.loads, sas.load_limit);
    counted("non-medium errors", sas.non_medium_errors, None);
    counted("background scans", sas.background_scans, None);
    if let Some(made) = &sas.made {
        rows.push(("made", made.clone()));
    }
    let pages: Vec<String> = sas.pages.iter().map(|page| format!("{page:#04x}")).collect();
    rows.push(("log pages", if pages.is_empty() { "none".into() } else { pages.join(" ") }));
    rows
}

fn errors(sas: &SasHealth) -> String {
    let kinds = [("read", &sas.reads), ("write", &sas.writes), ("verify", &sas.verifies)];
    if kinds.iter().all(|(_, counters)| counters.is_none()) {
        return String::new();
    }
    let mut table = Table::new(&[
        "errors",
        "corrected fast",
        "with delay",
        "done again",
        "corrected",
        "corrections",
        "uncorrected",
        "data",
    ]);
    for (kind, counters) in kinds {
        let Some(counters) = counters else { continue };
        let ErrorCounters {
            corrected_fast,
            corrected_slow,
            repeated,
            corrected,
            corrections,
            bytes,
            uncorrected,
        } = *counters;
        table.row([
            kind.to_owned(),
            or_dash(corrected_fast),
            or_dash(corrected_slow),
            or_dash(repeated),
            or_dash(corrected),
            or_dash(corrections),
            or_dash(uncorrected),
            or_dash(bytes.map(output::size)),
        ]);
    }
    format!("\n{}", table.text())
}

fn attributes(attributes: &[Attribute]) -> String {
    let mut table =
        Table::new(&["id", "attribute", "kind", "value", "worst", "threshold", "failed", "raw"]);
    for attribute in attributes {
        table.row([
            attribute.id.to_string(),
            attribute.name.to_owned(),
            if attribute.pre_failure { "pre-failure" } else { "age" }.to_owned(),
            attribute.value.to_string(),
            attribute.worst.to_string(),
            or_dash(attribute.threshold),
            match attribute.failing {
                Failing::Now => "NOW",
                Failing::InThePast => "in the past",
                Failing::Never => "-",
            }
            .to_owned(),
            attribute.raw.to_string(),
        ]);
    }
    format!("\n{}", table.text())
}

fn self_tests(report: &Report) -> String {
    if report.self_tests.is_empty() {
        return "\nno self-test is on record\n".into();
    }
    let mut table = Table::new(&["self-test", "result", "at hour", "block", "sense"]);
    for test in &report.self_tests {
        table.row([
            test.kind.to_owned(),
            test.result.to_owned(),
            test.hours.to_string(),
            or_dash(test.lba),
            or_dash(test.sense.as_ref()),
        ]);
    }
    format!("\n{}", table.text())
}
