//! What a driver does to a controller's registers, and how often it is interrupted, as QEMU sees
//! it: its trace, turned on for a while.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guests::machine::escaped;
use crate::guests::socket_folder::SocketFolder;

/// QEMU answers between two pieces of work.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// An event that is there and never happens: with it the trace is ready to be turned on.
const NEVER: &str = "mptsas_unhandled_doorbell_cmd";

/// What is traced: of QEMU's own controller, and of one of ours, which is another process to it.
const EVENTS: &[&str] = &[
    "mptsas_mmio_read",
    "mptsas_mmio_write",
    "mptsas_irq_intx",
    "mptsas_irq_msi",
    "vfio_region_read",
    "vfio_region_write",
    "vfio_intx_interrupt",
    "vfio_msi_interrupt",
];

/// A way to QEMU's monitor, before it runs.
pub(crate) struct MonitorSocket {
    sockets: SocketFolder,
    log: PathBuf,
}

/// A QEMU that can be asked.
pub(crate) struct Monitor {
    stream: BufReader<UnixStream>,
    log: PathBuf,
}

/// What happened while the trace was on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) interrupts: u64,
}

impl MonitorSocket {
    /// One whose trace goes to a file in the folder `logs`.
    pub(crate) fn new(logs: &Path) -> Result<Self, String> {
        fs::create_dir_all(logs).map_err(|error| format!("making {}: {error}", logs.display()))?;
        Ok(Self { sockets: SocketFolder::new()?, log: logs.join("trace.log") })
    }

    fn path(&self) -> PathBuf {
        self.sockets.join("monitor")
    }

    /// What QEMU needs on its command line.
    pub(crate) fn words(&self) -> Vec<String> {
        let socket = format!("unix:{},server=on,wait=off", escaped(&self.path()));
        let words = [
            "-qmp",
            &socket,
            "-d",
            &format!("trace:{NEVER}"),
            "-D",
            &self.log.display().to_string(),
        ];
        words.map(str::to_owned).to_vec()
    }

    /// Asks for the first time, once QEMU runs.
    pub(crate) fn connect(&self) -> Result<Monitor, String> {
        let failed = |error| format!("connecting to QEMU's monitor: {error}");
        let stream = UnixStream::connect(self.path()).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(failed)?;
        let mut monitor = Monitor { stream: BufReader::new(stream), log: self.log.clone() };
        monitor.ask(&json!({"execute": "qmp_capabilities"}))?;
        Ok(monitor)
    }
}

impl Monitor {
    /// Counts what happens while `work` runs.
    pub(crate) fn count(
        &mut self,
        work: impl FnOnce() -> Result<(), String>,
    ) -> Result<Counts, String> {
        let before = self.log_bytes();
        self.trace(true)?;
        let worked = work();
        self.trace(false)?;
        worked?;
        let log = fs::read(&self.log)
            .map_err(|error| format!("reading {}: {error}", self.log.display()))?;
        let since = log.get(before..).unwrap_or_default();
        Ok(Counts::of(&String::from_utf8_lossy(since)))
    }

    fn log_bytes(&self) -> usize {
        fs::metadata(&self.log).map_or(0, |log| usize::try_from(log.len()).unwrap_or_default())
    }

    fn trace(&mut self, enable: bool) -> Result<(), String> {
        for name in EVENTS {
            // A QEMU without one of them traces the others.
            let arguments = json!({"name": name, "enable": enable, "ignore-unavailable": true});
            self.ask(&json!({"execute": "trace-event-set-state", "arguments": arguments}))?;
        }
        Ok(())
    }

    fn ask(&mut self, question: &Value) -> Result<(), String> {
        let failed = |error| format!("asking QEMU's monitor {question}: {error}");
        let stream = self.stream.get_mut();
        stream.write_all(format!("{question}\n").as_bytes()).map_err(failed)?;
        let started = Instant::now();
        while started.elapsed() < ANSWER_LIMIT {
            let mut line = String::new();
            if self.stream.read_line(&mut line).map_err(failed)? == 0 {
                break;
            }
            let answer: Value = serde_json::from_str(&line).unwrap_or_default();
            if answer.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = answer.get("error") {
                return Err(format!("QEMU's monitor answers {question} with {error}"));
            }
        }
        Err(format!("QEMU's monitor does not answer {question}"))
    }
}

impl Counts {
    /// From the lines of a trace.
    fn of(trace: &str) -> Self {
        let mut counts = Self::default();
        let (mut messages, mut edges, mut level) = (0, 0, false);
        for line in trace.lines() {
            let mut words = line.split_whitespace();
            let is = |event: &str| line.contains(event);
            if is("mptsas_mmio_read") || is("vfio_region_read") {
                counts.reads += 1;
            } else if is("mptsas_mmio_write") || is("vfio_region_write") {
                counts.writes += 1;
            } else if is("mptsas_irq_msi") || is("vfio_msi_interrupt") || is("vfio_intx_interrupt")
            {
                messages += 1;
            } else if is("mptsas_irq_intx") {
                // The level is told with every register access, whether it changed or not.
                let now = words.next_back() == Some("1");
                edges += u64::from(now && !level);
                level = now;
            }
        }
        counts.interrupts = if messages > 0 { messages } else { edges };
        counts
    }

    /// What happened more than in `less`, for each of `ios`.
    pub(crate) fn per_io(self, less: Self, ios: u64) -> [f64; 3] {
        let each = |more: u64, less: u64| more.saturating_sub(less) as f64 / ios as f64;
        [
            each(self.reads, less.reads),
            each(self.writes, less.writes),
            each(self.interrupts, less.interrupts),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_is_counted_when_the_line_rises() {
        let trace = "\
mptsas_mmio_write dev 0x1 addr 0x00000040 value 0x1
mptsas_irq_intx dev 0x1 level 1
mptsas_irq_intx dev 0x1 level 1
mptsas_mmio_read dev 0x1 addr 0x00000044 value 0x1
mptsas_irq_intx dev 0x1 level 0
mptsas_irq_intx dev 0x1 level 1
";
        let expected = Counts { reads: 1, writes: 1, interrupts: 2 };
        assert_eq!(Counts::of(trace), expected);
    }

    #[test]
    fn messages_are_interrupts_of_their_own() {
        let trace = "\
vfio_region_write  (/run/card:region1+0x40, 0x1, 4)
vfio_msi_interrupt  (/run/card) vector 1 0xfee00000/0x41
mptsas_irq_msi dev 0x1 
mptsas_irq_intx dev 0x1 level 1
";
        assert_eq!(Counts::of(trace), Counts { reads: 0, writes: 1, interrupts: 2 });
    }

    #[test]
    fn what_a_start_costs_is_not_counted() {
        let many = Counts { reads: 1300, writes: 1010, interrupts: 510 };
        let few = Counts { reads: 300, writes: 10, interrupts: 10 };
        assert_eq!(many.per_io(few, 1000), [1.0, 1.0, 0.5]);
    }
}
