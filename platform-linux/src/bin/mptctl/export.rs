//! `export`: the disks of a controller as block devices of this machine.

#[cfg(not(target_os = "linux"))]
pub(crate) fn run(
    _global: &crate::cli::Global,
    _arguments: &crate::cli::export::Export,
) -> Result<(), fusion_mpt_linux::error::Error> {
    Err(fusion_mpt_linux::error::Error::failed("block devices are made on Linux only"))
}

#[cfg(target_os = "linux")]
mod nbd;

#[cfg(target_os = "linux")]
pub(crate) use on_linux::run;

#[cfg(target_os = "linux")]
mod on_linux {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};

    use fusion_mpt_linux::bus_name::BusName;
    use fusion_mpt_linux::error::Error;
    use fusion_mpt_linux::export::figures::{Board, Summary};
    use fusion_mpt_linux::export::manager::{self, ExportOptions, Exported, Note};
    use fusion_mpt_linux::export::nbd::attach;
    use fusion_mpt_linux::export::state;
    use fusion_mpt_linux::host::Host;
    use fusion_mpt_linux::metrics::{self, Endpoint, ListenAddress};
    use fusion_mpt_linux::open::with_queues;
    use fusion_mpt_linux::pci::System;
    use fusion_mpt_linux::pci::bind::{self, Bound};
    use fusion_mpt_linux::session::Options;
    use sd_notify::NotifyState;
    use serde_json::{Value, json};

    use crate::cli::Global;
    use crate::cli::export::Export;
    use crate::{options, output};

    /// Commands beside those of block devices: what asks units.
    pub(super) const SPARE_COMMANDS: u16 = 32;

    /// Exports until the user, systemd or the controller ends it.
    pub(crate) fn run(global: &Global, arguments: &Export) -> Result<(), Error> {
        if let Some(device) = &arguments.udev_id {
            let entry = state::find(&arguments.state, device)?;
            return output::raw(entry.properties().as_bytes());
        }
        check(arguments)?;
        let by_nbd = arguments.nbd.is_some() || arguments.attach;
        let bound = lend(global, arguments)?;
        let result =
            if by_nbd { super::nbd::export(global, arguments) } else { export(global, arguments) };
        // What has been bound for an export that could not begin goes back in any case.
        let lent_in_vain = |bound: &&Bound| {
            result.is_err()
                && !HAS_BEGUN.load(Ordering::Relaxed)
                && bound.former.as_deref() != Some(bound.driver.name())
        };
        let back = bound.as_ref().filter(|bound| arguments.restore || lent_in_vain(bound));
        let restored = back.map_or(Ok(None), Bound::restore);
        match (result, restored) {
            (Ok(()), Ok(None)) => Ok(()),
            (Ok(()), Ok(Some(driver))) => {
                let text = format!("the controller is back with {driver}");
                say(global.json, json!({"event": "restored", "driver": driver}), || text)
            }
            (Err(Error::Failed(first)), Err(then)) => {
                Err(Error::failed(format!("{first}; then {then}")))
            }
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
        }
    }

    /// Whether the kernel has what makes block devices: without it, no controller is taken from its
    /// driver in vain.
    fn check(arguments: &Export) -> Result<(), Error> {
        match (&arguments.nbd, arguments.attach) {
            (None, false) => manager::check(),
            (_, true) => attach::check(),
            (Some(_), false) => Ok(()),
        }
    }

    /// Gives the controller to user space if that is asked for, or finds out what it was.
    fn lend(global: &Global, arguments: &Export) -> Result<Option<Bound>, Error> {
        if arguments.bind.is_none() && !arguments.restore {
            return Ok(None);
        }
        let BusName::Pci(address) = global.bus else {
            return Err(Error::usage(format!(
                "--bind and --restore are for a controller of this machine, and {} is none; name one by its PCI address with --bus",
                global.bus
            )));
        };
        let system = System::real();
        match arguments.bind {
            Some(driver) => {
                let request = bind::Request { driver: Some(driver), ..bind::Request::new(address) };
                bind::bind(&system, &request).map(Some)
            }
            None => bind::already(&system, address),
        }
    }

    fn export(global: &Global, arguments: &Export) -> Result<(), Error> {
        let wanted = ExportOptions {
            targets: arguments.targets.clone(),
            read_only: arguments.read_only,
            depth: arguments.depth,
            waiting: global.waiting,
            pinning: global.pin.clone().unwrap_or_default(),
            state: arguments.state.clone(),
        };
        let commands = arguments.depth.saturating_add(SPARE_COMMANDS);
        let session = Options { queues: arguments.queues, ..options(global, commands) };
        let mut watcher = Watcher::new(global, arguments)?;
        let summary = with_queues(session, |host, further| {
            manager::run(host, further, &wanted, &mut watcher)
        })?;
        watcher.end(&summary)
    }

    /// Seconds between two times that metrics are told.
    const METRICS_EVERY: u32 = 5;

    /// Where metrics are told.
    enum Telling {
        Nowhere,
        File(PathBuf),
        At(Endpoint),
    }

    impl Telling {
        /// A file where it is a path that ends in `.prom`, otherwise an address.
        fn new(to: Option<&str>) -> Result<Self, Error> {
            match to {
                None => Ok(Self::Nowhere),
                Some(file) if file.ends_with(".prom") => Ok(Self::File(file.into())),
                Some(address) => {
                    let address: ListenAddress = address.parse().map_err(|error| {
                        Error::usage(format!(
                            "--metrics {address}: {error}; a file's name ends in .prom"
                        ))
                    })?;
                    Endpoint::listen(&address).map(Self::At)
                }
            }
        }

        fn tell(&self, host: &dyn Host, board: &Board, devices: usize) -> Result<(), Error> {
            if matches!(self, Self::Nowhere) {
                return Ok(());
            }
            let mut collected = metrics::collect(host);
            let mut summary = Summary::default();
            for thread in board.all() {
                summary.add(&thread.engine);
                if thread.queue.queue > 0 {
                    collected.queues.push(thread.queue);
                }
            }
            collected.further = summary.families(&collected.bus, devices);
            let text = metrics::render(&collected);
            match self {
                Self::Nowhere => {}
                Self::File(path) => metrics::write_file(path, &text)?,
                Self::At(endpoint) => endpoint.publish(text),
            }
            Ok(())
        }
    }

    /// Tells the user, systemd and Prometheus.
    pub(super) struct Watcher {
        json: bool,
        pub(super) failure: Option<Error>,
        has_watchdog: bool,
        telling: Telling,
        seconds: u32,
    }

    impl Watcher {
        pub(super) fn new(global: &Global, arguments: &Export) -> Result<Self, Error> {
            Ok(Self {
                json: global.json,
                failure: None,
                has_watchdog: sd_notify::watchdog_enabled().is_some(),
                telling: Telling::new(arguments.metrics.as_deref())?,
                seconds: 0,
            })
        }

        pub(super) fn end(&mut self, summary: &Summary) -> Result<(), Error> {
            if let Some(error) = self.failure.take() {
                return Err(error);
            }
            say(self.json, json!({"event": "ended", "summary": summary}), || {
                format!(
                    "ended in order: {} reads, {} writes, {} flushes, {} discards and zeros, {} errors",
                    summary.reads, summary.writes, summary.flushes, summary.trims, summary.errors
                )
            })
        }
    }

    /// The export has been ready.
    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);

    /// Where systemd listens, it is told.
    pub(super) fn systemd(states: &[NotifyState<'_>]) {
        if states.iter().any(|state| matches!(state, NotifyState::Ready)) {
            HAS_BEGUN.store(true, Ordering::Relaxed);
        }
        // Without systemd there is nobody to tell.
        let _ = sd_notify::notify(states);
    }

    impl manager::Watcher for Watcher {
        fn note(&mut self, note: &Note) {
            match note {
                Note::Ready { devices } => {
                    let status = format!("{devices} block devices");
                    systemd(&[NotifyState::Ready, NotifyState::Status(&status)]);
                }
                Note::Stopping => systemd(&[NotifyState::Stopping]),
                _ => {}
            }
            if let Err(error) = say(self.json, document(note), || sentence(note)) {
                self.failure.get_or_insert(error);
            }
        }

        fn second(&mut self, host: &mut dyn Host, board: &Board, devices: usize) {
            if self.has_watchdog {
                systemd(&[NotifyState::Watchdog]);
            }
            if self.seconds.is_multiple_of(METRICS_EVERY)
                && let Err(error) = self.telling.tell(host, board, devices)
            {
                self.failure.get_or_insert(error);
            }
            self.seconds = self.seconds.wrapping_add(1);
        }
    }

    pub(super) fn say(
        json: bool,
        document: Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        let line = if json { document.to_string() } else { text() };
        output::raw(format!("{line}\n").as_bytes())
    }

    fn sentence(note: &Note) -> String {
        match note {
            Note::Exported(exported) => told(exported),
            Note::LeftOut { target, lun, why } => {
                format!("target {target} unit {lun} is left out: {why}")
            }
            Note::Ready { devices: 1 } => "ready: 1 block device; Ctrl-C ends it in order".into(),
            Note::Ready { devices } => {
                format!("ready: {devices} block devices; Ctrl-C ends them in order")
            }
            Note::Ended { device, users, why } if users.is_empty() => {
                format!("/dev/ublkb{device} is gone: {why}")
            }
            Note::Ended { device, users, why } => format!(
                "/dev/ublkb{device} is gone: {why}; it was in use ({}), unmount what is left of it",
                users.join("; ")
            ),
            Note::Grown { device, bytes, but: None } => {
                format!("/dev/ublkb{device} has grown to {}", output::size(*bytes))
            }
            Note::Grown { device, bytes, but: Some(but) } => format!(
                "the disk of /dev/ublkb{device} has grown to {}, but {but}",
                output::size(*bytes)
            ),
            Note::Stopping => "ending: draining and flushing".into(),
            Note::Said(sentence) => sentence.clone(),
        }
    }

    fn told(exported: &Exported) -> String {
        let unit = &exported.unit;
        let mut abilities = Vec::new();
        let mut ability = |has: bool, name: &'static str| {
            if has {
                abilities.push(name);
            }
        };
        ability(unit.read_only, "read-only");
        ability(unit.write_cache, "write cache");
        ability(unit.fua, "FUA");
        ability(unit.discard.is_some(), "discard");
        ability(unit.write_zeroes.is_some(), "zeros");
        ability(unit.rotational, "rotational");
        ability(exported.recovered, "recovered");
        let number = if unit.lun == 0 {
            unit.target.0.to_string()
        } else {
            format!("{} unit {}", unit.target.0, unit.lun)
        };
        format!(
            "target {number} is {}: {} {}, {}, blocks of {}/{}, {} x {} requests of up to {}, {}",
            exported.path.display(),
            unit.vendor,
            unit.product,
            output::size(unit.bytes()),
            unit.block_bytes,
            unit.physical_block_bytes,
            exported.queues,
            exported.depth,
            output::size(exported.buffer_bytes.into()),
            abilities.join(", ")
        )
    }

    fn document(note: &Note) -> Value {
        match note {
            Note::Exported(exported) => {
                let unit = &exported.unit;
                json!({
                    "event": "exported",
                    "device": exported.path,
                    "target": unit.target.0,
                    "lun": unit.lun,
                    "wwn": unit.name.as_ref().map(|name| name.wwn_link()),
                    "serial": unit.serial,
                    "vendor": unit.vendor,
                    "product": unit.product,
                    "bytes": unit.bytes(),
                    "block_bytes": unit.block_bytes,
                    "physical_block_bytes": unit.physical_block_bytes,
                    "read_only": unit.read_only,
                    "write_cache": unit.write_cache,
                    "fua": unit.fua,
                    "discard": unit.discard.is_some(),
                    "write_zeroes": unit.write_zeroes.is_some(),
                    "rotational": unit.rotational,
                    "queues": exported.queues,
                    "depth": exported.depth,
                    "request_bytes": exported.buffer_bytes,
                    "recovered": exported.recovered,
                })
            }
            Note::LeftOut { target, lun, why } => {
                json!({"event": "left-out", "target": target, "lun": lun, "why": why})
            }
            Note::Ready { devices } => json!({"event": "ready", "devices": devices}),
            Note::Ended { device, users, why } => {
                let device = format!("/dev/ublkb{device}");
                json!({"event": "gone", "device": device, "users": users, "why": why})
            }
            Note::Grown { device, bytes, but } => {
                let device = format!("/dev/ublkb{device}");
                json!({"event": "grown", "device": device, "bytes": bytes, "but": but})
            }
            Note::Stopping => json!({"event": "stopping"}),
            Note::Said(sentence) => json!({"event": "note", "text": sentence}),
        }
    }
}
