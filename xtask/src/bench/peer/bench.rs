//! The guest in which both drivers take their turns.

use crate::bench::peer::load::Load;
use crate::guests::rig::fio_field;
use crate::vm::guest::Shape;
use crate::vm::monitor::{Counts, Monitor, MonitorSocket};
use crate::vm::subject::{Place, Subject, Way};
use crate::vm::yard::Yard;

/// The kernel, which has ublk.
const KERNEL: &str = "Linux 6.12";

/// What the bench needs of a guest. Memory is mapped once for the whole of the kernel's driver, as
/// it is on machines whose administrator wants speed: `iommu=pt`.
const SHAPE: Shape =
    Shape { memory_mib: 640, cpus: 2, iommu: true, hugepages: 64, kernel_arguments: "iommu=pt" };

/// The load of which accesses are counted, and how many commands of it.
const COUNTED: Load = Load { random: true, read: true, depth: 32, bytes: 4096 };
const FEW: u64 = 2000;
const MANY: u64 = 18_000;

/// Who has the controller, and how it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The kernel's own driver.
    Kernel,
    /// Ours, without a block device, looking for answers.
    RawPoll,
    /// Likewise, sleeping until an interrupt comes.
    RawInterrupt,
    /// Ours, by the block device of an export.
    Ublk,
}

impl Mode {
    pub(super) const ALL: [Self; 4] = [Self::Kernel, Self::RawPoll, Self::RawInterrupt, Self::Ublk];
    pub(super) const OURS: [Self; 3] = [Self::RawPoll, Self::RawInterrupt, Self::Ublk];

    /// As a part of figures' names.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::RawPoll => "raw_poll",
            Self::RawInterrupt => "raw_irq",
            Self::Ublk => "ublk",
        }
    }

    /// How `mptctl` waits.
    const fn waiting(self) -> &'static str {
        match self {
            Self::RawPoll => "poll",
            Self::RawInterrupt => "interrupt",
            Self::Kernel | Self::Ublk => "adaptive",
        }
    }
}

/// A guest with a controller, and a way to ask its QEMU.
pub(super) struct Bench {
    subject: Subject,
    monitor: Monitor,
}

impl Bench {
    pub(super) fn boot(yard: &Yard<'_>, controller: &str) -> Result<Self, String> {
        let place = Place { purpose: format!("peer of {controller}"), boot: 1 };
        let socket = MonitorSocket::new(&yard.workshop.logs.join(&place.purpose))?;
        let mut options = SHAPE.options(yard.workshop.accelerator);
        options.devices.extend(socket.words());
        let mut subject = Subject::boot(yard, controller, KERNEL, Way::Vfio, options, &place)?;
        let monitor = socket.connect()?;
        // Blocks that were never written would be answered without the file.
        subject.give_to_kernel()?;
        let device = subject.kernels(0)?;
        subject
            .check(&format!("dd if=/dev/urandom of={device} bs=1M count=64 oflag=direct 2>&1"))?;
        Ok(Self { subject, monitor })
    }

    /// Every load once; I/O a second of each.
    pub(super) fn turn(&mut self, mode: Mode, loads: &[Load]) -> Result<Vec<(Load, f64)>, String> {
        let each = |load: &Load, iops: f64| (*load, iops);
        match mode {
            Mode::Kernel => {
                self.subject.give_to_kernel()?;
                let device = self.subject.kernels(0)?;
                loads.iter().map(|load| Ok(each(load, self.fio(*load, &device)?))).collect()
            }
            Mode::Ublk => {
                let export = self.subject.export("")?;
                let device = export.devices[0].clone();
                let all = loads.iter().map(|load| Ok(each(load, self.fio(*load, &device)?)));
                let all: Result<_, String> = all.collect();
                self.subject.stop(export)?;
                all
            }
            Mode::RawPoll | Mode::RawInterrupt => {
                self.subject.give_to_user()?;
                let target = self.subject.target(0)?;
                loads.iter().map(|load| Ok(each(load, self.raw(mode, *load, target)?))).collect()
            }
        }
    }

    fn fio(&mut self, load: Load, device: &str) -> Result<f64, String> {
        let said = self.subject.check(&load.fio(device))?;
        let iops = fio_field(&said, load.fio_field()).and_then(|field| field.parse().ok());
        iops.filter(|iops| *iops > 0.0).ok_or_else(|| format!("fio names no speed:\n{said}"))
    }

    fn raw(&mut self, mode: Mode, load: Load, target: u64) -> Result<f64, String> {
        let words = format!("{} --target {target} --waiting {}", load.perf(), mode.waiting());
        let said = self.subject.json(&words)?;
        said["iops"].as_f64().ok_or_else(|| format!("mptctl perf names no speed: {said}"))
    }

    /// Register accesses and interrupts for each I/O, of the kernel's driver and of ours.
    pub(super) fn accesses(&mut self) -> Result<Vec<(String, f64)>, String> {
        let Self { subject, monitor } = self;
        subject.give_to_kernel()?;
        let device = subject.kernels(0)?;
        let kernels = |subject: &mut Subject, ios| subject.check(&COUNTED.fio_for(&device, ios));
        let mut all = named("kernel", count(subject, monitor, kernels)?);
        subject.give_to_user()?;
        let target = subject.target(0)?;
        // As it is unless told, and then the two that it changes between.
        for (name, waiting) in
            [("ours", "adaptive"), ("ours_irq", "interrupt"), ("ours_poll", "poll")]
        {
            let ours = |subject: &mut Subject, ios| {
                let words =
                    format!("{} --target {target} --waiting {waiting}", COUNTED.perf_for(ios));
                subject.ours(&words)
            };
            all.extend(named(name, count(subject, monitor, ours)?));
        }
        let export = subject.export("")?;
        let device = export.devices[0].clone();
        let ublk = |subject: &mut Subject, ios| subject.check(&COUNTED.fio_for(&device, ios));
        let counted = count(subject, monitor, ublk);
        subject.stop(export)?;
        all.extend(named("ours_ublk", counted?));
        Ok(all)
    }

    /// MiB that our processes hold at most with 128 commands of 64 KiB at once, hugepages
    /// included.
    pub(super) fn memory(&mut self) -> Result<Vec<(String, f64)>, String> {
        let subject = &mut self.subject;
        subject.give_to_user()?;
        let target = subject.target(0)?;
        let perf = format!(
            "mptctl -q perf --bus {} --target {target} --depth 128 --block-size 64k --time 6 \
             >/run/perf 2>&1 & sleep 4; {}; wait",
            subject.address,
            memory_of("$!")
        );
        let perf = subject.check(&perf)?;
        let export = subject.export("")?;
        let load = format!(
            "fio --name=peer --filename={} --ioengine=libaio --direct=1 --iodepth=128 --bs=64k \
             --rw=randread --size=64m --time_based --runtime=3 --minimal >/dev/null && {}",
            export.devices[0],
            memory_of("$(cat /run/export.pid)")
        );
        let load = subject.check(&load);
        subject.stop(export)?;
        Ok(vec![
            ("memory_mib.perf".to_owned(), mib(&perf)?),
            ("memory_mib.export".to_owned(), mib(&load?)?),
        ])
    }
}

/// What a start costs is in both counts, and so in neither.
fn count(
    subject: &mut Subject,
    monitor: &mut Monitor,
    run: impl Fn(&mut Subject, u64) -> Result<String, String>,
) -> Result<[f64; 3], String> {
    let mut of = |ios| -> Result<Counts, String> { monitor.count(|| run(subject, ios).map(drop)) };
    let few = of(FEW)?;
    let many = of(MANY)?;
    Ok(many.per_io(few, MANY - FEW))
}

fn named(who: &str, [reads, writes, interrupts]: [f64; 3]) -> Vec<(String, f64)> {
    let name = |what: &str| format!("{who}.{what}_per_io");
    vec![(name("reads"), reads), (name("writes"), writes), (name("interrupts"), interrupts)]
}

/// A script that prints the kilobytes of a process: the most that were resident, and hugepages.
fn memory_of(process: &str) -> String {
    format!("grep -E '^(VmHWM|HugetlbPages):' /proc/{process}/status")
}

/// The sum of what [`memory_of`] prints.
fn mib(said: &str) -> Result<f64, String> {
    let kilobytes: Vec<f64> = said
        .lines()
        .filter(|line| line.starts_with("VmHWM") || line.starts_with("HugetlbPages"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse().ok())
        .collect();
    if kilobytes.len() == 2 {
        return Ok(kilobytes.iter().sum::<f64>() / 1024.0);
    }
    Err(format!("the process names no memory:\n{said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_is_resident_and_hugepages() {
        let said = "VmHWM:\t    8192 kB\nHugetlbPages:\t    4096 kB\n";
        assert_eq!(mib(said), Ok(12.0));
        assert!(mib("VmHWM:\t 1 kB\n").is_err());
    }
}
