//! `cargo xtask vm`: a script in a guest, for whoever wants to try something.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::guests::controller::{CONTROLLERS, Controller};
use crate::guests::packages::KERNELS;
use crate::guests::rig::Rig;
use crate::guests::workshop::{self, Workshop};
use crate::run::Runner;
use crate::vm::guest::Shape;
use crate::vm::payload;
use crate::workspace::Workspace;

/// Examples, for `--help`.
pub(crate) const HELP: &str = "\
Examples:
  cargo xtask vm script.sh                     VFIO on QEMU's SAS1068, under Linux 6.12
  echo 'mptctl status' | cargo xtask vm -      a script from standard input
  cargo xtask vm --device sas3008 script.sh    our SAS3008, whose knobs can be turned meanwhile

Of the kernels 6.1 has no ublk, and only 7.3's can tell that a disk has grown. `modprobe mptsas`
(sas1068) or `modprobe mpt3sas` gives the controller to the kernel's driver; ours needs
`modprobe -a vfio_pci vfio_iommu_type1` or `modprobe uio_pci_generic`.";

#[derive(Args)]
pub(crate) struct Arguments {
    /// A shell script, or - for standard input
    #[arg(value_name = "SCRIPT")]
    script: PathBuf,
    /// The kernel
    #[arg(long, value_enum, default_value_t = Series::Linux612)]
    kernel: Series,
    /// The controller
    #[arg(long, value_enum, default_value_t = Device::Mptsas1068)]
    device: Device,
    /// Leave the IOMMU out
    #[arg(long)]
    no_iommu: bool,
    /// Hugepages of 2 MiB
    #[arg(long, value_name = "PAGES", default_value_t = Shape::default().hugepages)]
    hugepages: u32,
    /// The guest's memory
    #[arg(long, value_name = "MIB", default_value_t = Shape::default().memory_mib)]
    memory: u32,
    /// The guest's processors
    #[arg(long, value_name = "COUNT", default_value_t = Shape::default().cpus)]
    cpus: u32,
    /// Another mptctl than the one built from here, in the guest and for our controllers
    #[arg(long, value_name = "FILE")]
    mptctl: Option<PathBuf>,
    /// End the script after so long
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    limit: u64,
}

/// A stock kernel, by its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Series {
    #[value(name = "6.1")]
    Linux61,
    #[value(name = "6.12")]
    Linux612,
    #[value(name = "7.3")]
    Linux73,
}

impl Series {
    const fn name(self) -> &'static str {
        match self {
            Self::Linux61 => "Linux 6.1",
            Self::Linux612 => "Linux 6.12",
            Self::Linux73 => "Linux 7.3",
        }
    }
}

/// A controller, by the name that a person types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Device {
    /// QEMU's own SAS1068
    Mptsas1068,
    /// Ours
    Sas1068,
    /// Ours
    Sas2008,
    /// Ours
    Sas3008,
    /// Ours
    Sas3816,
}

impl Device {
    const fn name(self) -> &'static str {
        match self {
            Self::Mptsas1068 => "QEMU's sas1068",
            Self::Sas1068 => "our sas1068",
            Self::Sas2008 => "our sas2008",
            Self::Sas3008 => "our sas3008",
            Self::Sas3816 => "our sas3816",
        }
    }
}

/// Boots a guest and runs the script; true if that ends well.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<bool, String> {
    let script = script(&arguments.script)?;
    let controller = controller(arguments.device)?;
    let runner = Runner::new(workspace.scratch().join("logs-vm"))?;
    let mptctl = match &arguments.mptctl {
        Some(given) => given.clone(),
        None => workshop::mptctl(&runner, workspace)?,
    };
    let workshop = Workshop::provide(&runner, workspace, mptctl)?;
    let index = KERNELS.iter().position(|kernel| kernel.name == arguments.kernel.name());
    let image = index.and_then(|index| workshop.images.get(index)).ok_or("there is no image")?;
    // Two of these may run at once.
    let folder = workshop.disks.join(format!("by-hand-{}", std::process::id()));
    let image = payload::add_mptctl(image, &workshop.mptctl, &folder)?;
    let shape = Shape {
        memory_mib: arguments.memory,
        cpus: arguments.cpus,
        iommu: !arguments.no_iommu,
        hugepages: arguments.hugepages,
        kernel_arguments: "",
    };
    let options = shape.options(workshop.accelerator);
    let logs = runner.folder("guest");
    let rig = Rig::boot(&workshop, controller, &image, options, &logs, &folder);
    let status = rig.and_then(|mut rig| {
        let seconds = rig.machine.booted_in().as_secs_f64();
        eprintln!("{} is up after {seconds:.1} s; logs: {}", image.release, logs.display());
        if let Some(emulator) = &rig.running.emulator {
            eprintln!("knobs: mptctl knob --control {}", emulator.control().display());
        }
        let limit = Duration::from_secs(arguments.limit);
        rig.machine.follow(&script, limit, |text| {
            print!("{text}");
            // Whoever reads it may be gone.
            let _ = std::io::stdout().flush();
        })
    });
    let _ = std::fs::remove_dir_all(&folder);
    let status = status?;
    if status != 0 {
        eprintln!("the script ended with exit status {status}");
    }
    Ok(status == 0)
}

fn script(path: &PathBuf) -> Result<String, String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        return read.map(|_| text).map_err(|error| format!("reading standard input: {error}"));
    }
    std::fs::read_to_string(path).map_err(|error| format!("reading {}: {error}", path.display()))
}

fn controller(device: Device) -> Result<&'static Controller, String> {
    let found = CONTROLLERS.iter().find(|controller| controller.name == device.name());
    found.ok_or_else(|| format!("there is no controller {}", device.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_to_those_who_make_guests() {
        for device in Device::value_variants() {
            assert!(controller(*device).is_ok(), "{device:?}");
        }
        for series in Series::value_variants() {
            assert!(KERNELS.iter().any(|kernel| kernel.name == series.name()), "{series:?}");
        }
    }
}
