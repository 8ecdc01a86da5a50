//! What the IOC tells of by events, and what happens to a controller, in words and in order of time.
//!
//! Data of events is laid out as the vendor's headers say (`mpi_ioc.h`, `mpi2_ioc.h`); what ends
//! early is told as far as it goes.

mod clock;
mod raid;

use fusion_mpt::trace::TraceEntry;
use fusion_mpt::wire::config::pages::LinkRate;
use fusion_mpt::wire::event::{self, DeviceStatusReason, EventCode, event_data, mpi1, mpi2};
use fusion_mpt::wire::{ioc, read_padded, read_reply};
use serde::Serialize;

pub use clock::stamp;

use crate::host::Host;

/// Where news comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// An event of the IOC.
    Ioc,
    /// The driver: what it noticed, and what it did about it.
    Driver,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct News {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who says so.
    pub source: Source,
    /// What, in a few words that do not change: an event's name, a happening's.
    pub what: String,
    /// More about it, for people.
    pub details: String,
    /// The event's code (`MPI2_EVENT_*`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The event's data in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_hex: Option<String>,
}

impl News {
    /// The news as a line, without its end.
    #[must_use]
    pub fn line(&self) -> String {
        let source = match self.source {
            Source::Ioc => "IOC",
            Source::Driver => "driver",
        };
        let stamp = stamp(self.at_ms);
        match self.details.is_empty() {
            true => format!("{stamp}  {source:<6}  {}", self.what),
            false => format!("{stamp}  {source:<6}  {}: {}", self.what, self.details),
        }
    }
}

/// Reads news as they come, each once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Follower {
    events: u64,
    happenings: usize,
}

impl Follower {
    /// From the first news that is kept.
    #[must_use]
    pub const fn new() -> Self {
        Self { events: 0, happenings: 0 }
    }

    /// What is new, in order of time.
    pub fn news(&mut self, host: &dyn Host) -> Vec<News> {
        let mpi1 = host.bring_up().facts.message_version >> 8 == 1;
        let mut news = Vec::new();
        for entry in host.ioc_events(self.events) {
            if entry.sequence > self.events {
                news.push(News {
                    at_ms: entry.at_ms,
                    source: Source::Ioc,
                    what: "events lost".into(),
                    details: format!("{} were not kept", entry.sequence - self.events),
                    code: None,
                    data_hex: None,
                });
            }
            self.events = entry.sequence + 1;
            news.push(decode(mpi1, &entry));
        }
        let happenings = host.happenings();
        for happening in happenings.iter().skip(self.happenings) {
            news.push(News {
                at_ms: host.time_of_day_ms(happening.at),
                source: Source::Driver,
                what: happening.what.name().into(),
                details: happening.what.to_string(),
                code: None,
                data_hex: None,
            });
        }
        self.happenings = happenings.len();
        news.sort_by_key(|news| news.at_ms);
        news
    }
}

/// One event, from the reply frame that told of it.
#[must_use]
pub fn decode(mpi1: bool, entry: &TraceEntry) -> News {
    let frame = entry.bytes.get(..usize::from(entry.length)).unwrap_or(&entry.bytes);
    let code = match mpi1 {
        true => EventCode::from(read_reply::<ioc::mpi1::EventNotificationReply>(frame).event),
        false => EventCode::from(read_reply::<ioc::mpi2::EventNotificationReply>(frame).event),
    };
    let data = event_data(frame);
    let what = match code.name() {
        "unknown" => format!("event {:#04x}", code.0),
        name => plain(name).to_owned(),
    };
    News {
        at_ms: entry.at_ms,
        source: Source::Ioc,
        what,
        details: if mpi1 { details_of_mpi1(code, data) } else { details_of_mpi2(code, data) },
        code: Some(code.0),
        data_hex: Some(data.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}

/// A name without its generation, which whoever reads events of one controller knows.
fn plain(name: &str) -> &str {
    name.strip_suffix(" (MPI 1.x)").unwrap_or(name)
}

fn details_of_mpi1(code: EventCode, data: &[u8]) -> String {
    match code {
        EventCode::EVENT_CHANGE => event_change(data),
        EventCode::SAS_DEVICE_STATUS_CHANGE => {
            let of: mpi1::SasDeviceStatusChange = read_padded(data);
            let reason = DeviceStatusReason(of.reason_code);
            format!(
                "{}{}, target {}:{}, handle {:#06x}, SAS address {:016x}, phy {} of {:#06x}",
                plain(reason.name()),
                sense(reason, of.asc, of.ascq),
                of.bus,
                of.target_id,
                of.dev_handle.get(),
                of.sas_address.get(),
                of.phy_num,
                of.parent_dev_handle.get()
            )
        }
        EventCode::SAS_PHY_LINK_STATUS => {
            let of: mpi1::SasPhyLinkStatus = read_padded(data);
            format!("phy {}: {}", of.phy_num, rates(of.link_rates))
        }
        EventCode::SAS_DISCOVERY => {
            let of: mpi1::SasDiscovery = read_padded(data);
            let phys = of.discovery_status.get() >> 16;
            let text = if of.is_in_progress() { "in progress" } else { "complete" };
            if phys == 0 { text.into() } else { format!("{text}, phys {phys:#06x}") }
        }
        EventCode::SAS_DISCOVERY_ERROR => {
            let of: mpi1::SasDiscoveryError = read_padded(data);
            format!("port {}, status {:#010x}", of.port, of.discovery_status.get())
        }
        EventCode::QUEUE_FULL => {
            let of: mpi1::QueueFull = read_padded(data);
            format!("target {}:{} holds {} commands", of.bus, of.target_id, of.current_depth.get())
        }
        EventCode::SAS_BROADCAST_PRIMITIVE => {
            let of: mpi1::SasBroadcastPrimitive = read_padded(data);
            format!("{} on phy {}, port {}", primitive(of.primitive), of.phy_num, of.port)
        }
        EventCode::LOG_ENTRY_ADDED => {
            let of: mpi1::LogEntryAdded = read_padded(data);
            log_entry(of.log_sequence.get(), of.entry_qualifier.get(), &of.log_data)
        }
        EventCode::INTEGRATED_RAID => raid::of_mpi1(data),
        EventCode::IR2 => raid::second_of_mpi1(data),
        _ => String::new(),
    }
}

fn details_of_mpi2(code: EventCode, data: &[u8]) -> String {
    match code {
        EventCode::EVENT_CHANGE => event_change(data),
        EventCode::SAS_DEVICE_STATUS_CHANGE => {
            let of: mpi2::SasDeviceStatusChange = read_padded(data);
            let reason = DeviceStatusReason(of.reason_code);
            format!(
                "{}{}, handle {:#06x}, SAS address {:016x}, port {}",
                reason.name(),
                sense(reason, of.asc, of.ascq),
                of.dev_handle.get(),
                of.sas_address.get(),
                of.physical_port
            )
        }
        EventCode::SAS_TOPOLOGY_CHANGE_LIST => topology(data),
        EventCode::SAS_DISCOVERY => {
            let of: mpi2::SasDiscovery = read_padded(data);
            let what = if of.is_started() { "started" } else { "complete" };
            let status = of.discovery_status.get();
            let port = of.physical_port;
            match status {
                0 => format!("{what}, port {port}"),
                _ => format!("{what}, port {port}, status {status:#010x}"),
            }
        }
        EventCode::ENCLOSURE_DEVICE_STATUS_CHANGE => {
            let of: mpi2::EnclosureDeviceStatusChange = read_padded(data);
            let what = match of.reason_code {
                1 => "added".to_owned(),
                2 => "not responding".to_owned(),
                other => format!("reason {other}"),
            };
            format!(
                "{what}, handle {:#06x}, logical id {:016x}, {} slots from {}, port {}",
                of.enclosure_handle.get(),
                of.enclosure_logical_id.get(),
                of.num_slots.get(),
                of.start_slot.get(),
                of.physical_port
            )
        }
        EventCode::SAS_BROADCAST_PRIMITIVE => {
            let of: mpi2::SasBroadcastPrimitive = read_padded(data);
            format!("{} on phy {}, port {}", primitive(of.primitive), of.phy_num, of.port)
        }
        EventCode::LOG_ENTRY_ADDED => {
            let of: mpi2::LogEntryAdded = read_padded(data);
            log_entry(of.log_sequence.get(), of.log_entry_qualifier.get(), &of.log_data)
        }
        EventCode::TEMPERATURE_THRESHOLD => {
            let of: mpi2::TemperatureThreshold = read_padded(data);
            format!(
                "sensor {} at {} °C, thresholds exceeded {:#06x}",
                of.sensor_num,
                of.current_temperature.get(),
                of.status.get()
            )
        }
        EventCode::SAS_DEVICE_DISCOVERY_ERROR => {
            let of: mpi2::SasDeviceDiscoveryError = read_padded(data);
            let what = match of.reason_code {
                1 => "SMP failed".to_owned(),
                2 => "SMP timed out".to_owned(),
                other => format!("reason {other}"),
            };
            let address = of.sas_address.get();
            format!("{what}, handle {:#06x}, SAS address {address:016x}", of.dev_handle.get())
        }
        EventCode::IR_OPERATION_STATUS => raid::operation(data),
        EventCode::IR_VOLUME => raid::volume(data),
        EventCode::IR_PHYSICAL_DISK => raid::disk(data),
        EventCode::IR_CONFIGURATION_CHANGE_LIST => raid::changes(data),
        _ => String::new(),
    }
}

fn event_change(data: &[u8]) -> String {
    let of: event::EventChange = read_padded(data);
    if of.event_state == 1 { "events are on".into() } else { "events are off".into() }
}

/// The additional sense code, where there is one.
fn sense(reason: DeviceStatusReason, asc: u8, ascq: u8) -> String {
    match reason {
        DeviceStatusReason::SMART_DATA => format!(" (ASC {asc:02x}, ASCQ {ascq:02x})"),
        _ => String::new(),
    }
}

/// A byte of two rates: now, and before.
fn rates(rates: u8) -> String {
    let (now, before) = (LinkRate(rates >> 4), LinkRate(rates & 0x0f));
    if now == before { now.name().into() } else { format!("{}, was {}", now.name(), before.name()) }
}

fn topology(data: &[u8]) -> String {
    let Some(list) = mpi2::SasTopology::parse(data) else { return "cut off".into() };
    let head = &list.head;
    let mut text = match head.expander_dev_handle.get() {
        0 => format!("enclosure {:#06x}", head.enclosure_handle.get()),
        handle => format!(
            "expander {handle:#06x} {}, enclosure {:#06x}",
            mpi2::ExpanderStatus(head.exp_status).name(),
            head.enclosure_handle.get()
        ),
    };
    for (phy, entry) in list.entries().filter(|(_, entry)| !entry.is_vacant()) {
        let reason = entry.reason();
        if reason == mpi2::TopologyReason::NO_CHANGE {
            continue;
        }
        let handle = entry.attached_dev_handle.get();
        let rates = rates(entry.link_rate);
        text.push_str(&format!("; phy {phy}: {}, handle {handle:#06x}, {rates}", reason.name()));
    }
    text
}

/// Broadcast primitives (SPL-4, BROADCAST (CHANGE) and kin; `MPI2_EVENT_PRIMITIVE_*`).
fn primitive(number: u8) -> String {
    match number {
        0x01 => "change".into(),
        0x02 => "SES".into(),
        0x03 => "expander".into(),
        0x04 => "asynchronous event".into(),
        other => format!("primitive {other:#04x}"),
    }
}

fn log_entry(sequence: u16, qualifier: u16, data: &[u8]) -> String {
    let end = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let data: String = data.iter().take(end).map(|byte| format!("{byte:02x}")).collect();
    let data = if data.is_empty() { data } else { format!(", data {data}") };
    format!("number {sequence}, kind {qualifier:#06x}{data}")
}

#[cfg(test)]
mod tests;
