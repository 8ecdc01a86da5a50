//! What a running controller has done and how it does, as Prometheus metrics.
//!
//! Collecting and rendering are apart: [`collect`] reads counters and touches no device, [`Sensors`]
//! asks devices and takes its time, [`render`] makes text of the two and knows nobody. Whoever has
//! more queues adds them to [`Metrics::queues`]; whoever counts more adds [`Metrics::further`].

mod documents;
mod endpoint;
mod exposition;
mod file;

use std::collections::BTreeMap;

use fusion_mpt::controller::Health;
use fusion_mpt::recovery::RecoveryCounters;
use fusion_mpt::targets::Target;
use fusion_mpt::trace::Counters;
use serde::Serialize;

pub use endpoint::{Endpoint, ListenAddress};
pub use exposition::{Family, Kind, Labels, Sample, families_as_text};
pub use file::write as write_file;

use crate::error::Error;
use crate::host::{Buffer, CommandQueue, Host};
use crate::inventory::{self, PhyErrors};
use crate::smart;

/// What one queue of a controller has done.
#[derive(Clone, Debug, Serialize)]
pub struct QueueMetrics {
    /// Which: 0 is the controller's own.
    pub queue: u16,
    /// What it has counted.
    #[serde(serialize_with = "documents::counters")]
    pub counters: Counters,
    /// Commands that the controller has from it.
    pub outstanding: u16,
    /// Commands that it takes at once.
    pub depth: u16,
    /// Register reads.
    pub register_reads: u64,
    /// Register writes.
    pub register_writes: u64,
}

impl QueueMetrics {
    /// Of this queue.
    #[must_use]
    pub fn of(queue: u16, of: &dyn CommandQueue) -> Self {
        let (register_reads, register_writes) = of.register_accesses();
        Self {
            queue,
            counters: of.counters(),
            outstanding: of.outstanding(),
            depth: of.depth(),
            register_reads,
            register_writes,
        }
    }
}

/// A target, and how it does.
#[derive(Clone, Debug, Serialize)]
pub struct TargetMetrics {
    /// Its target id.
    pub target: u16,
    /// SAS address of its port, as 16 hex digits.
    pub sas_address: String,
    /// `SAS` or `SATA`.
    pub protocol: &'static str,
    /// Whether it answers.
    pub present: bool,
}

impl TargetMetrics {
    fn of(target: &Target) -> Self {
        Self {
            target: target.id.0,
            sas_address: format!("{:016x}", target.page.sas_address),
            protocol: if target.page.is_sata() { "SATA" } else { "SAS" },
            present: target.present,
        }
    }
}

/// A phy of the controller.
#[derive(Clone, Debug, Serialize)]
pub struct PhyMetrics {
    /// Its number.
    pub phy: u8,
    /// Megabits per second of its link, 0 without one.
    pub megabits: u32,
    /// What it has counted.
    pub errors: Option<PhyErrors>,
}

/// What devices and the controller's own sensors say when they are asked.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sensors {
    /// Degrees Celsius of targets, by target id; those that tell none are not in it.
    pub temperatures: BTreeMap<u16, i32>,
    /// Degrees Celsius that the controller measures of itself.
    pub controller: Vec<inventory::Temperature>,
    /// The controller's phys.
    pub phys: Vec<PhyMetrics>,
}

impl Sensors {
    /// Asks all of them. `buffer` has at least 4096 bytes. Some dozen commands and configuration
    /// pages: every few seconds at most.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the controller is gone. What one of them does not tell is left out.
    pub fn ask(host: &mut dyn Host, buffer: &Buffer) -> Result<Self, Error> {
        let mut temperatures = BTreeMap::new();
        for target in host.targets() {
            if let Some(celsius) = smart::temperature(host, buffer, &target)? {
                temperatures.insert(target.id.0, celsius);
            }
        }
        let phys = inventory::phys(host)?.unwrap_or_default();
        let phys = phys.into_iter().map(|phy| PhyMetrics {
            phy: phy.phy,
            megabits: phy.megabits.unwrap_or(0),
            errors: phy.errors,
        });
        let phys = phys.collect();
        Ok(Self { temperatures, controller: inventory::temperatures(host)?, phys })
    }
}

/// Everything that is told of a controller.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics {
    /// The bus that it is on.
    pub bus: String,
    /// The chip.
    pub chip: String,
    /// Version of the firmware.
    pub firmware: String,
    /// Whether it works.
    pub up: bool,
    /// Its queues.
    pub queues: Vec<QueueMetrics>,
    /// What recovery has done.
    #[serde(serialize_with = "documents::recovery")]
    pub recovery: RecoveryCounters,
    /// Commands that were sent again.
    pub sent_again: u64,
    /// How often each kind of thing happened, by its name.
    pub happenings: BTreeMap<&'static str, u64>,
    /// Every target that was ever there.
    pub targets: Vec<TargetMetrics>,
    /// What sensors say.
    pub sensors: Sensors,
    /// What others count.
    pub further: Vec<Family>,
}

/// Reads what a controller and its first queue have counted, without asking any device.
#[must_use]
pub fn collect(host: &dyn Host) -> Metrics {
    let bring_up = host.bring_up();
    let mut happenings = BTreeMap::new();
    for happening in host.happenings() {
        *happenings.entry(happening.what.name()).or_default() += 1;
    }
    Metrics {
        bus: bring_up.bus.to_string(),
        chip: bring_up.chip.to_owned(),
        firmware: bring_up.facts.firmware_version.to_string(),
        up: !matches!(host.health(), Health::Gone | Health::Offline | Health::ResetNeeded(_)),
        queues: vec![QueueMetrics::of(0, host)],
        recovery: host.recovery(),
        sent_again: host.sent_again(),
        happenings,
        targets: host.known_targets().iter().map(TargetMetrics::of).collect(),
        sensors: Sensors::default(),
        further: Vec::new(),
    }
}

/// The metrics in Prometheus' text format 0.0.4.
#[must_use]
pub fn render(metrics: &Metrics) -> String {
    let bus = ("bus", metrics.bus.as_str());
    let mut families = vec![
        Family::gauge("controller_info", "The controller; always 1.")
            .with(&[bus, ("chip", &metrics.chip), ("firmware", &metrics.firmware)], 1.0),
        Family::gauge("controller_up", "Whether the controller works.")
            .with(&[bus], f64::from(u8::from(metrics.up))),
    ];
    families.extend(queues(bus, &metrics.queues));
    families.push(recoveries(bus, &metrics.recovery));
    families.push(
        Family::counter(
            "commands_sent_again_total",
            "Commands that were sent again after recovery had ended them.",
        )
        .with(&[bus], metrics.sent_again as f64),
    );
    let mut happened = Family::counter(
        "happenings_total",
        "What happened to the controller and its targets, by kind.",
    );
    for (what, count) in &metrics.happenings {
        happened.push(&[bus, ("what", what)], *count as f64);
    }
    families.push(happened);
    families.extend(targets(bus, metrics));
    families.extend(sensors(bus, &metrics.sensors));
    families.extend(metrics.further.iter().cloned());
    families_as_text(&families)
}

fn queues(bus: (&str, &str), queues: &[QueueMetrics]) -> Vec<Family> {
    type Count = fn(&QueueMetrics) -> u64;
    let counters: [(&str, &str, Count); 7] = [
        ("commands_submitted_total", "Commands given to the controller.", |of| {
            of.counters.submitted
        }),
        ("commands_completed_total", "Commands completed, in whatever way.", |of| {
            of.counters.completed
        }),
        (
            "replies_with_frame_total",
            "Commands completed with a status, a residual, sense or an error.",
            |of| of.counters.with_reply_frame,
        ),
        ("polls_total", "Looks at the reply queue.", |of| of.counters.polls),
        ("polls_idle_total", "Looks at the reply queue that found nothing.", |of| {
            of.counters.idle_polls
        }),
        ("events_total", "Events that the controller sent.", |of| of.counters.events),
        ("throttled_total", "Times that a device was full or busy.", |of| of.counters.throttled),
    ];
    let gauges: [(&str, &str, Count); 3] = [
        ("outstanding_commands", "Commands that the controller has.", |of| of.outstanding.into()),
        ("outstanding_commands_peak", "The most commands that the controller had at once.", |of| {
            of.counters.outstanding_peak.into()
        }),
        ("queue_depth", "Commands that the queue takes at once.", |of| of.depth.into()),
    ];
    let kinds = counters.map(|family| (Kind::Counter, family)).into_iter();
    let all = kinds.chain(gauges.map(|family| (Kind::Gauge, family)));
    let mut families: Vec<Family> = all
        .map(|(kind, (name, help, count))| {
            let mut family = Family::new(name, help, kind);
            for of in queues {
                family.push(&[bus, ("queue", &of.queue.to_string())], count(of) as f64);
            }
            family
        })
        .collect();
    let mut batches = Family::counter(
        "reply_batches_total",
        "Looks at the reply queue by how many replies they found.",
    );
    let mut registers = Family::counter("register_accesses_total", "Register accesses.");
    let mut lies = Family::counter(
        "controller_lies_total",
        "Times that the controller said what cannot be true.",
    );
    for of in queues {
        let queue = of.queue.to_string();
        let labels = |label| [bus, ("queue", queue.as_str()), label];
        let sizes = ["1", "2-3", "4-7", "8-15", "16-31", "32-63", "64-127", "128+"];
        for (size, count) in sizes.into_iter().zip(of.counters.batches) {
            batches.push(&labels(("replies", size)), count as f64);
        }
        registers.push(&labels(("direction", "read")), of.register_reads as f64);
        registers.push(&labels(("direction", "write")), of.register_writes as f64);
        for (kind, count) in [
            ("stray reply", of.counters.stray_replies),
            ("bad frame address", of.counters.bad_frame_addresses),
            ("bad reply", of.counters.bad_replies),
        ] {
            lies.push(&labels(("kind", kind)), count as f64);
        }
    }
    families.extend([batches, registers, lies]);
    families
}

fn recoveries(bus: (&str, &str), counters: &RecoveryCounters) -> Family {
    let mut family = Family::counter("recoveries_total", "What recovery has done, by kind.");
    for (kind, count) in [
        ("late command", counters.late),
        ("abort task", counters.aborts),
        ("logical unit reset", counters.unit_resets),
        ("target reset", counters.target_resets),
        ("task management lost", counters.lost_tasks),
        ("device removal", counters.removals),
        ("controller reset", counters.resets),
        ("failed controller reset", counters.failed_resets),
        ("command ended by reset", counters.ended_by_reset),
    ] {
        family.push(&[bus, ("kind", kind)], count as f64);
    }
    family
}

fn targets(bus: (&str, &str), metrics: &Metrics) -> [Family; 2] {
    let mut present = Family::gauge("target_present", "Whether a target answers.");
    let mut temperature =
        Family::gauge("target_temperature_celsius", "What a target's own sensor measures.");
    for target in &metrics.targets {
        let number = target.target.to_string();
        let address = target.sas_address.as_str();
        let labels =
            [bus, ("target", &number), ("sas_address", address), ("protocol", target.protocol)];
        present.push(&labels, f64::from(u8::from(target.present)));
        let celsius = metrics.sensors.temperatures.get(&target.target);
        if let Some(celsius) = celsius.filter(|_| target.present) {
            temperature.push(&labels, f64::from(*celsius));
        }
    }
    [present, temperature]
}

fn sensors(bus: (&str, &str), sensors: &Sensors) -> [Family; 3] {
    let mut temperature =
        Family::gauge("controller_temperature_celsius", "What the controller's sensors measure.");
    for of in &sensors.controller {
        temperature.push(&[bus, ("sensor", of.sensor)], f64::from(of.celsius));
    }
    let mut link = Family::gauge(
        "phy_link_bits_per_second",
        "Negotiated rate of a phy's link, 0 without one.",
    );
    let mut errors = Family::counter("phy_errors_total", "Errors that a phy has counted, by kind.");
    for of in &sensors.phys {
        let phy = of.phy.to_string();
        link.push(&[bus, ("phy", &phy)], f64::from(of.megabits) * 1e6);
        let Some(counted) = of.errors else { continue };
        for (kind, count) in [
            ("invalid dword", counted.invalid_dwords),
            ("disparity error", counted.disparity_errors),
            ("loss of synchronisation", counted.sync_losses),
            ("reset problem", counted.reset_problems),
        ] {
            errors.push(&[bus, ("phy", &phy), ("kind", kind)], count.into());
        }
    }
    [temperature, link, errors]
}

#[cfg(test)]
mod tests;
