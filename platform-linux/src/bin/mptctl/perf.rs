//! `perf`: a load on one disk, and its figures.

pub(crate) mod load;
mod together;

use std::time::Duration;

use fusion_mpt_linux::disk::Disk;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::{FurtherQueue, Host};
use fusion_mpt_linux::open::with_queues;
use fusion_mpt_linux::session::Options;
use serde::Serialize;

use crate::cli::{Global, Order, Perf};
use crate::progress::Progress;
use crate::recovered::Recovered;
use crate::table::pairs;
use crate::{ask_before_writing, io, output, unit_options};
use load::{Limit, Load, MOST_BUFFER, Measured};

/// Seconds of a run that was given no limit.
const DEFAULT_SECONDS: u32 = 3;

/// The figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) bus: String,
    pub(crate) target: u16,
    pub(crate) queues: usize,
    pub(crate) waiting: &'static str,
    /// Commands outstanding at once on each queue.
    pub(crate) depth: u16,
    pub(crate) block_bytes: u32,
    pub(crate) read_percent: u8,
    pub(crate) order: &'static str,
    pub(crate) commands: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) seconds: f64,
    pub(crate) iops: f64,
    pub(crate) megabytes_per_second: f64,
    pub(crate) latency_us: Latency,
    pub(crate) cpu_us_per_io: f64,
    pub(crate) register_reads_per_io: f64,
    pub(crate) register_writes_per_io: f64,
    pub(crate) batches: Batches,
    pub(crate) polls: u64,
    pub(crate) idle_polls: u64,
    pub(crate) outstanding_peak: u16,
    /// Commands that the device refused for a while, and those that recovery ended.
    pub(crate) sent_again: u64,
    pub(crate) recovery: Recovered,
}

/// Latency in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

/// Polls by how many replies they found.
#[derive(Debug, Serialize)]
pub(crate) struct Batches {
    #[serde(rename = "1")]
    one: u64,
    #[serde(rename = "2-3")]
    two: u64,
    #[serde(rename = "4-7")]
    four: u64,
    #[serde(rename = "8-15")]
    eight: u64,
    #[serde(rename = "16-31")]
    sixteen: u64,
    #[serde(rename = "32-63")]
    thirty_two: u64,
    #[serde(rename = "64-127")]
    sixty_four: u64,
    #[serde(rename = "128+")]
    more: u64,
}

impl Batches {
    pub(crate) fn of(
        [one, two, four, eight, sixteen, thirty_two, sixty_four, more]: [u64; 8],
    ) -> Self {
        Self { one, two, four, eight, sixteen, thirty_two, sixty_four, more }
    }

    /// Those that happened: `1: 12, 2-3: 40`.
    pub(crate) fn text(&self) -> String {
        let all = [
            ("1", self.one),
            ("2-3", self.two),
            ("4-7", self.four),
            ("8-15", self.eight),
            ("16-31", self.sixteen),
            ("32-63", self.thirty_two),
            ("64-127", self.sixty_four),
            ("128+", self.more),
        ];
        let some: Vec<String> = all
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(replies, count)| format!("{replies}: {count}"))
            .collect();
        if some.is_empty() { "none".into() } else { some.join(", ") }
    }
}

impl Figures {
    fn of(global: &Global, queues: usize, disk: &Disk, load: &Load, measured: &Measured) -> Self {
        let seconds = measured.elapsed.as_secs_f64().max(1e-9);
        let commands = measured.commands.max(1) as f64;
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        let at = |quantile| microseconds(measured.latency.value_at_quantile(quantile));
        Self {
            bus: global.bus.to_string(),
            target: disk.target.0,
            queues,
            waiting: global.waiting.name(),
            depth: load.depth,
            block_bytes: load.blocks * disk.block_bytes,
            read_percent: load.read,
            order: match load.order {
                Order::Random => "random",
                Order::Sequential => "sequential",
            },
            commands: measured.commands,
            reads: measured.reads,
            writes: measured.commands - measured.reads,
            seconds,
            iops: measured.commands as f64 / seconds,
            megabytes_per_second: measured.bytes as f64 / 1e6 / seconds,
            latency_us: Latency {
                mean: measured.latency.mean() / 1000.0,
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p99_9: at(0.999),
                max: microseconds(measured.latency.max()),
            },
            cpu_us_per_io: measured.cpu.as_secs_f64() * 1e6 / commands,
            register_reads_per_io: measured.register_reads as f64 / commands,
            register_writes_per_io: measured.register_writes as f64 / commands,
            batches: Batches::of(measured.batches),
            polls: measured.polls,
            idle_polls: measured.idle_polls,
            outstanding_peak: measured.outstanding_peak,
            sent_again: measured.again,
            recovery: Recovered::default(),
        }
    }

    /// The figures as pairs for people.
    pub(crate) fn text(&self) -> String {
        let latency = &self.latency_us;
        let mut text = pairs(&[
            (
                "load",
                format!(
                    "{} % reads, {} B, {}, {} outstanding on target {}{}",
                    self.read_percent,
                    self.block_bytes,
                    self.order,
                    self.depth,
                    self.target,
                    match self.queues {
                        1 => String::new(),
                        queues => format!(", on each of {queues} queues"),
                    }
                ),
            ),
            ("I/O per second", format!("{:.0}", self.iops)),
            ("MB per second", format!("{:.1}", self.megabytes_per_second)),
            (
                "commands",
                format!(
                    "{} ({} reads, {} writes) in {:.2} s",
                    self.commands, self.reads, self.writes, self.seconds
                ),
            ),
            (
                "latency, µs",
                format!(
                    "mean {:.1}, 50 % {:.1}, 90 % {:.1}, 99 % {:.1}, 99.9 % {:.1}, most {:.1}",
                    latency.mean, latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max
                ),
            ),
            ("CPU per I/O, µs", format!("{:.2}", self.cpu_us_per_io)),
            (
                "MMIO per I/O",
                format!(
                    "{:.3} reads, {:.3} writes",
                    self.register_reads_per_io, self.register_writes_per_io
                ),
            ),
            ("replies per poll", self.batches.text()),
            ("polls", format!("{}, {} of them found nothing", self.polls, self.idle_polls)),
        ]);
        text.push_str(&self.recovery.text());
        text
    }
}

/// Runs `load` on every queue, with its progress.
pub(crate) fn measure(
    global: &Global,
    host: &mut dyn Host,
    further: Vec<FurtherQueue<'_>>,
    disk: &Disk,
    load: &Load,
) -> Result<Figures, Error> {
    let (total, unit) = match load.limit {
        Limit::Time(time) => (time.as_millis() as u64, "ms"),
        Limit::Count(count) => (count, "commands"),
    };
    let queues = further.len() + 1;
    let mut progress = Progress::new(!global.quiet && !global.json, "measuring", total, unit);
    let pinning = global.pin.clone().unwrap_or_default();
    let measured = together::run(host, further, disk, load, &pinning, &mut |position, speed| {
        progress.at(position, || format!("{:.0} I/O per second", speed * queues as f64));
    });
    progress.end();
    let measured = measured?;
    host.note_sent_again(measured.by_recovery);
    let recovery = Recovered::of(host);
    Ok(Figures { recovery, ..Figures::of(global, queues, disk, load, &measured) })
}

/// Measures as the command line says.
pub(crate) fn run(global: &Global, arguments: &Perf) -> Result<(), Error> {
    let queues = arguments.queues;
    let in_buffers =
        u64::from(queues) * u64::from(arguments.depth) * u64::from(arguments.block_size);
    if in_buffers > MOST_BUFFER {
        return Err(Error::usage(format!(
            "{} commands of {} are {} of data at once; {} is the most, take a smaller --depth, --queues or --block-size",
            u32::from(arguments.depth) * u32::from(queues),
            output::size(arguments.block_size.into()),
            output::size(in_buffers),
            output::size(MOST_BUFFER)
        )));
    }
    if arguments.read < 100 {
        ask_before_writing(
            global,
            arguments.yes,
            &format!(
                "{} % writes would overwrite target {} all over",
                100 - arguments.read,
                arguments.unit.target
            ),
        )?;
    }
    let commands = arguments.depth.saturating_mul(queues.into());
    let options = Options { queues, ..unit_options(global, &arguments.unit, commands) };
    let figures = with_queues(options, |host, further| {
        let (disk, _) = io::disk(host, &arguments.unit)?;
        disk.check_range(0, 1)?;
        if !arguments.block_size.is_multiple_of(disk.block_bytes) {
            return Err(Error::usage(format!(
                "--block-size {} is not a multiple of the {}-byte blocks of target {}",
                arguments.block_size, disk.block_bytes, disk.target.0
            )));
        }
        let load = Load {
            depth: arguments.depth,
            blocks: arguments.block_size / disk.block_bytes,
            read: arguments.read,
            order: arguments.pattern,
            limit: match (arguments.count, arguments.time) {
                (Some(count), _) => Limit::Count(count),
                (None, time) => {
                    Limit::Time(Duration::from_secs(time.unwrap_or(DEFAULT_SECONDS).into()))
                }
            },
            seed: arguments.seed,
        };
        measure(global, host, further, &disk, &load)
    })?;
    output::print(global.json, "perf", &figures, || figures.text())
}
