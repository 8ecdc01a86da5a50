//! `demo --faults SEED`: verified I/O while things go wrong that the seed chooses, and the proof that
//! nothing was lost.
//!
//! The controller lives in virtual time: what takes minutes takes no time, and the same seed tells
//! the same story.

mod books;
mod plan;
mod story;
mod workload;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use fusion_mpt::controller::Health;
use fusion_mpt_linux::disk::Disk;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::Host;
use fusion_mpt_linux::open::with_host;
use fusion_mpt_linux::pattern::{Pattern, Random};
use fusion_mpt_linux::session::Options;
use fusion_mpt_mock::faults::{FaultEvent, Plan, Planned};
use serde::Serialize;

use super::verified::{choose, compare};
use super::{BENCHMARK_DEPTH, refuse_to_lose_data};
use crate::cli::{Demo, Global};
use crate::describe::{self, Controller};
use crate::progress::Progress;
use crate::recovered::Recovered;
use crate::table::pairs;
use crate::{options, output};
use books::Sums;
use story::Row;
use workload::{PIECE_BYTES, Part, Workload, works};

/// Megabytes on each disk if nothing else is said: some 500 commands for each.
const MEGABYTES: u32 = 2;
/// Rounds of writing, flushing and reading back.
const ROUNDS: usize = 4;

/// One fault of the plan.
#[derive(Debug, Serialize)]
struct PlannedRow {
    fault: &'static str,
    words: String,
    /// When and how often.
    when: String,
    /// How often it has happened.
    happened: u64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Ending {
    /// The controller works.
    Works,
    /// It is gone, as the plan wanted.
    Gone,
    /// It could not be reset and was cut off.
    Offline,
}

#[derive(Debug, Serialize)]
struct Pool {
    slots: u16,
    /// How many could be taken at once at the end; nothing where there was no controller to take
    /// them.
    free: Option<u16>,
}

#[derive(Debug, Serialize)]
struct Survived {
    seed: u64,
    virtual_time: bool,
    controller: Controller,
    plan: Vec<PlannedRow>,
    happened: Vec<Row>,
    ending: Ending,
    commands: Sums,
    sent_again: u64,
    written_again: u64,
    recovery: Recovered,
    blocks_written: u64,
    blocks_verified: u64,
    /// Blocks that had been flushed, and are in the image files, read directly.
    blocks_in_images: u64,
    pool: Pool,
    lost: Vec<String>,
    nothing_lost: bool,
    /// Milliseconds of virtual time.
    milliseconds: f64,
}

/// Runs the demonstration.
pub(crate) fn run(global: &Global, arguments: &Demo, seed: Option<u64>) -> Result<(), Error> {
    let seed = seed.unwrap_or_else(any_seed);
    // A plan of none: the bus is one for faults, and those come when there is something to disturb.
    let options = Options { faults: Some(Plan::new(seed)), ..options(global, BENCHMARK_DEPTH) };
    let survived = with_host(options, |host| survive(global, arguments, seed, host))?;
    output::print(global.json, "demo", &survived, || survived.text())?;
    if survived.nothing_lost { Ok(()) } else { Err(Error::Reported) }
}

/// A seed for somebody who has none: short enough to be typed.
fn any_seed() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(since_1970.subsec_micros())
}

fn survive(
    global: &Global,
    arguments: &Demo,
    seed: u64,
    host: &mut dyn Host,
) -> Result<Survived, Error> {
    let say = |text: String| if global.json { Ok(()) } else { output::raw(text.as_bytes()) };
    let controller = Controller::of(host.bring_up());
    let slots = host.bring_up().plan.commands;
    say(format!("Bring-up\n{}", pairs(&controller.pairs())))?;
    let (disks, targets) = describe::discover(host)?;
    say(format!("\nDiscovery\n{}", describe::table(&targets)))?;
    let disks: Vec<Disk> = disks.into_iter().filter(|disk| disk.blocks > 0).collect();
    if disks.is_empty() {
        return Err(Error::failed(format!("there is no disk on {} to work on", global.bus)));
    }
    refuse_to_lose_data(host, arguments.yes)?;

    let plan = plan::of_seed(seed, disks.len());
    say(format!(
        "\nFaults of seed {seed}, in virtual time (--faults {seed} shows the same again)\n{}",
        lines(&plan)
    ))?;

    let megabytes = arguments.megabytes.unwrap_or(MEGABYTES);
    let parts = parts(disks, u64::from(megabytes) << 20, arguments.seed);
    let total = Workload::least(&parts, ROUNDS);
    let progress = Progress::new(!global.quiet && !global.json, "working", total, "commands");
    let mut workload = Workload::new(host, parts, progress)?;
    let start = host.now();
    host.set_faults(Some(&plan))?;
    let mut worked = workload.run(host, ROUNDS);
    let end = host.now();
    // What is still to come has had its chance.
    host.set_faults(None)?;
    let faults = host.fault_log();
    let free = match worked {
        Ok(()) => match workload.fill_pool(host, slots) {
            Ok(free) => Some(free),
            Err(error) => {
                worked = Err(error);
                None
            }
        },
        Err(_) => None,
    };
    let ending = match host.health() {
        Health::Gone => Ending::Gone,
        Health::Offline => Ending::Offline,
        _ => Ending::Works,
    };
    let foreseen = match ending {
        Ending::Works => false,
        Ending::Gone => plan.faults.iter().any(|planned| planned.fault.loses_controller()),
        Ending::Offline => true,
    };
    if let Err(error) = worked {
        if matches!(error, Error::Interrupted) {
            return Err(error);
        }
        if !foreseen {
            workload.lost.push(error.to_string());
        }
    }
    let in_images = compare_images(host, &mut workload)?;
    if !works(host) {
        // A card that is gone takes along what nobody had flushed, and nobody was told otherwise.
        host.forgive_unflushed();
    }
    let happened = story::tell(&faults, host.happenings(), &workload.books, start, works(host));
    say(format!("\nWhat happened\n{}", story::table(&happened)))?;

    let leaked = free.is_some_and(|free| free != slots);
    let nothing_lost = workload.books.balance() && workload.lost.is_empty() && !leaked;
    Ok(Survived {
        seed,
        virtual_time: true,
        controller,
        plan: plan.faults.iter().map(|planned| planned_row(planned, &faults)).collect(),
        happened,
        ending,
        commands: workload.books.sums(),
        sent_again: workload.repeats,
        written_again: workload.rewritten,
        recovery: Recovered::of(host),
        blocks_written: workload.blocks(),
        blocks_verified: workload.verified_blocks,
        blocks_in_images: in_images,
        pool: Pool { slots, free },
        nothing_lost,
        lost: workload.lost,
        milliseconds: (end - start).as_micros() as f64 / 1e3,
    })
}

/// What is to be where on each disk.
fn parts(disks: Vec<Disk>, bytes: u64, seed: u64) -> Vec<Part> {
    let part = |disk: Disk| {
        let mut random = Random::new(seed ^ u64::from(disk.target.0) << 32);
        let pieces = choose(&disk, bytes, PIECE_BYTES, &mut random);
        Part { disk, pattern: Pattern::Seed(random.next()), pieces }
    };
    disks.into_iter().map(part).collect()
}

/// Reads what was flushed out of the image files, past the controller; returns how many blocks.
fn compare_images(host: &dyn Host, workload: &mut Workload) -> Result<u64, Error> {
    let mut blocks = 0;
    let mut lost = Vec::new();
    for (part, flushed) in workload.parts.iter().zip(&workload.flushed) {
        let disk = &part.disk;
        let Some(image) = host.images().iter().find(|image| image.serial == disk.serial) else {
            continue;
        };
        let file = File::open(&image.path)
            .map_err(|error| Error::file("open the image", &image.path, &error))?;
        for piece in part.pieces.iter().take(*flushed) {
            let mut found = vec![0; piece.bytes(disk)];
            file.read_exact_at(&mut found, piece.lba * u64::from(disk.block_bytes))
                .map_err(|error| Error::file("read the image", &image.path, &error))?;
            match compare(disk, piece, part.pattern, &found, "is in the image file") {
                Ok(()) => blocks += u64::from(piece.blocks),
                Err(error) => lost.push(error.to_string()),
            }
        }
    }
    workload.lost.extend(lost);
    Ok(blocks)
}

fn planned_row(planned: &Planned, events: &[FaultEvent]) -> PlannedRow {
    let name = planned.fault.name();
    PlannedRow {
        fault: name,
        words: planned.fault.to_string(),
        when: planned.when.to_string(),
        happened: events.iter().filter(|event| event.fault == name).count() as u64,
    }
}

fn lines(plan: &Plan) -> String {
    plan.faults.iter().map(|planned| format!("  {planned}\n")).collect()
}

impl Survived {
    /// The end of the story, for people.
    fn text(&self) -> String {
        let idle: Vec<&str> = self
            .plan
            .iter()
            .filter(|planned| planned.happened == 0)
            .map(|planned| planned.fault)
            .collect();
        let idle = match idle.as_slice() {
            [] => String::new(),
            names => format!("no occasion for: {}\n", names.join(", ")),
        };
        let outcomes: Vec<String> = self
            .commands
            .outcomes
            .iter()
            .map(|(outcome, count)| format!("  {count:>6}  {outcome}\n"))
            .collect();
        let Sums { accepted, completed, missing, uncalled_for, .. } = &self.commands;
        let each = match (missing, uncalled_for) {
            (0, 0) => "each once".to_owned(),
            (missing, again) => {
                format!("BUT {missing} NEVER CAME BACK AND {again} CAME THAT WERE NOT OUT")
            }
        };
        let took = format!(
            "{:.3} s of virtual time, {} sent again\n",
            self.milliseconds / 1e3,
            commands(self.sent_again)
        );
        let rewritten = match self.written_again {
            0 => String::new(),
            pieces => format!(
                "{} sent once more because a disk had been without power before its flush\n",
                commands(pieces)
            ),
        };
        let lost: String = self.lost.iter().map(|lost| format!("LOST: {lost}\n")).collect();
        format!(
            "{idle}\nHow the commands ended\n{}{}{took}{rewritten}{lost}\n{accepted} commands accepted, {completed} completed, {each}; {}\n",
            outcomes.concat(),
            self.recovery.text(),
            self.verdict()
        )
    }

    fn verdict(&self) -> String {
        let bytes: String = match self.ending {
            Ending::Works => format!("{} blocks written and verified", self.blocks_verified),
            Ending::Gone => format!(
                "the controller is gone; every command completed; {} blocks had been flushed and are in the image files",
                self.blocks_in_images
            ),
            Ending::Offline => format!(
                "the controller could not be reset and is offline; every command completed; {} blocks had been flushed and are in the image files",
                self.blocks_in_images
            ),
        };
        let lost = if self.nothing_lost { "nothing lost" } else { "SOMETHING WAS LOST" };
        let pool = match self.pool {
            Pool { slots, free: Some(free) } if free == slots => {
                format!("; the pool of {slots} slots is full again")
            }
            Pool { slots, free: Some(free) } => {
                format!("; ONLY {free} OF THE POOL'S {slots} SLOTS ARE FREE")
            }
            Pool { free: None, .. } => String::new(),
        };
        format!("{bytes}, {lost}{pool}")
    }
}

/// `1 command`, `2 commands`.
fn commands(count: u64) -> String {
    if count == 1 { "1 command".to_owned() } else { format!("{count} commands") }
}
