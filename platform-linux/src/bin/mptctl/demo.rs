//! `demo`: the main job from bring-up to counters, with data verified on the way.

mod faults;
mod pump;
mod verified;

use std::time::Duration;

use fusion_mpt::trace::Counters;
use fusion_mpt_linux::disk::Disk;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::Host;
use serde::Serialize;

use crate::cli::{Demo, Global, Order};
use crate::describe::{self, Controller, Row};
use crate::output::size;
use crate::perf::load::{Limit, Load};
use crate::perf::{self, Batches, Figures};
use crate::recovered::Recovered;
use crate::table::pairs;
use crate::{open, output};
use verified::Verified;

/// The benchmark: random reads of this many bytes, this many outstanding.
const BENCHMARK_BYTES: u32 = 4096;
const BENCHMARK_DEPTH: u16 = 32;
/// Megabytes on each disk if nothing else is said.
const MEGABYTES: u32 = 16;

#[derive(Serialize)]
struct Demonstrated {
    controller: Controller,
    targets: Vec<Row>,
    verified: Vec<Verified>,
    benchmark: Figures,
    counters: Totals,
    recovery: Recovered,
    data_verified: bool,
}

/// What the whole session has done.
#[derive(Serialize)]
struct Totals {
    submitted: u64,
    completed: u64,
    with_reply_frame: u64,
    events: u64,
    outstanding_peak: u16,
    register_reads: u64,
    register_writes: u64,
    register_accesses_per_io: f64,
    batches: Batches,
    lies: u64,
}

impl Totals {
    fn of(counters: &Counters, (reads, writes): (u64, u64)) -> Self {
        Self {
            submitted: counters.submitted,
            completed: counters.completed,
            with_reply_frame: counters.with_reply_frame,
            events: counters.events,
            outstanding_peak: counters.outstanding_peak,
            register_reads: reads,
            register_writes: writes,
            register_accesses_per_io: (reads + writes) as f64 / counters.completed.max(1) as f64,
            batches: Batches::of(counters.batches),
            lies: counters.lies(),
        }
    }

    fn text(&self) -> String {
        pairs(&[
            (
                "commands",
                format!(
                    "{} given, {} completed, {} of them with a reply frame; {} events",
                    self.submitted, self.completed, self.with_reply_frame, self.events
                ),
            ),
            ("outstanding peak", self.outstanding_peak.to_string()),
            (
                "MMIO per I/O",
                format!(
                    "{:.3} ({} reads, {} writes, bring-up included)",
                    self.register_accesses_per_io, self.register_reads, self.register_writes
                ),
            ),
            ("replies per poll", self.batches.text()),
            ("lies", format!("{} told by the controller", self.lies)),
        ])
    }
}

/// Runs the demonstration.
pub(crate) fn run(global: &Global, arguments: &Demo) -> Result<(), Error> {
    if let Some(seed) = arguments.faults {
        return faults::run(global, arguments, seed);
    }
    let result = open(global, BENCHMARK_DEPTH, |host| demonstrate(global, arguments, host))?;
    let bytes: u64 = result.verified.iter().map(|verified| verified.bytes).sum();
    output::print(global.json, "demo", &result, || {
        let images = if result.verified.iter().all(|verified| verified.image_compared) {
            ", and compared with the image files read directly"
        } else {
            ""
        };
        format!(
            "\ncontroller drained, flushed and back in READY\ndata verified: {} on {} disks of {} written, flushed, read back and compared byte by byte{images}\n",
            size(bytes),
            result.verified.len(),
            global.bus
        )
    })
}

fn demonstrate(
    global: &Global,
    arguments: &Demo,
    host: &mut dyn Host,
) -> Result<Demonstrated, Error> {
    let say = |text: String| if global.json { Ok(()) } else { output::raw(text.as_bytes()) };
    let controller = Controller::of(host.bring_up());
    say(format!("Bring-up\n{}", pairs(&controller.pairs())))?;

    let (disks, targets) = describe::discover(host)?;
    say(format!("\nDiscovery\n{}", describe::table(&targets)))?;
    let disks: Vec<Disk> = disks.into_iter().filter(|disk| disk.blocks > 0).collect();
    let Some(first) = disks.first() else {
        return Err(Error::failed(format!(
            "there is no disk on {} to demonstrate with",
            global.bus
        )));
    };
    refuse_to_lose_data(host, arguments.yes)?;

    say("\nVerified I/O\n".into())?;
    let mut verified = Vec::new();
    for disk in &disks {
        let bytes = u64::from(arguments.megabytes.unwrap_or(MEGABYTES)) << 20;
        let done = verified::run(global, host, disk, bytes, arguments.seed)?;
        let image = if done.image_compared { ", image file the same" } else { "" };
        say(format!(
            "target {}  {} written at random, flushed, read back in another order: all bytes the same{image}\n",
            done.target,
            size(done.bytes)
        ))?;
        verified.push(done);
    }

    let load = Load {
        depth: BENCHMARK_DEPTH,
        blocks: BENCHMARK_BYTES.checked_div(first.block_bytes).unwrap_or(1).max(1),
        read: 100,
        order: Order::Random,
        limit: Limit::Time(Duration::from_secs(arguments.seconds.into())),
        seed: arguments.seed,
    };
    let benchmark = perf::measure(global, host, Vec::new(), first, &load)?;
    say(format!("\nBenchmark\n{}", benchmark.text()))?;

    let counters = Totals::of(&host.counters(), host.register_accesses());
    let recovery = Recovered::of(host);
    say(format!("\nCounters\n{}{}", counters.text(), recovery.text()))?;
    let data_verified = true;
    Ok(Demonstrated { controller, targets, verified, benchmark, counters, recovery, data_verified })
}

/// Looks into the user's own images: unless they insist, only blank ones are written to.
fn refuse_to_lose_data(host: &dyn Host, yes: bool) -> Result<(), Error> {
    if yes {
        return Ok(());
    }
    let bus = host.bring_up().bus;
    if bus.is_real() {
        return Err(Error::failed(format!(
            "demo would overwrite the disks on {bus} at random places; nothing was written, say --yes to do it, or run demo without --bus for a software controller"
        )));
    }
    for image in host.images().iter().filter(|image| !image.temporary) {
        if !image.is_blank()? {
            return Err(Error::failed(format!(
                "{} holds data, which demo would overwrite at random places; nothing was written, say --yes to do it or name a blank image",
                image.path.display()
            )));
        }
    }
    Ok(())
}
