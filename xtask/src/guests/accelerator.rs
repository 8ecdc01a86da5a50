//! Whether guests can run on the host's processor, found out by trying it.
//!
//! That `/dev/kvm` is there says little: where the host is a guest itself it may be there and hang
//! every kernel. So one guest is booted with it, and the answer kept until the host is rebooted.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::guests::images::Image;
use crate::guests::machine::{Accelerator, Machine, MachineOptions};
use crate::guests::qemu::Qemu;
use crate::run::Runner;

/// Changes with every start of this machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where KVM works, a guest is up in a second or two.
const TRIAL_LIMIT: Duration = Duration::from_secs(12);

/// Chooses the fastest way that works.
pub(crate) fn choose(
    runner: &Runner,
    folder: &Path,
    qemu: &Qemu,
    image: &Image,
    logs: &Path,
) -> Result<Accelerator, String> {
    if fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(Accelerator::Tcg);
    }
    let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
    let key = format!("{}\n{}\n{boot}", qemu.version()?, image.release);
    let kept = folder.join("kvm");
    let known = fs::read_to_string(&kept).unwrap_or_default();
    for (word, accelerator) in [("works", Accelerator::Kvm), ("fails", Accelerator::Tcg)] {
        if known == format!("{word}\n{key}") {
            return Ok(accelerator);
        }
    }
    runner.progress.line("trying whether guests can run on KVM");
    let options = MachineOptions {
        accelerator: Accelerator::Kvm,
        boot_limit: TRIAL_LIMIT,
        ..MachineOptions::default()
    };
    let tried = Machine::boot(qemu, image, &options, &logs.join("trial-of-kvm"));
    let (word, accelerator) = match tried {
        Ok(_) => ("works", Accelerator::Kvm),
        Err(_) => ("fails", Accelerator::Tcg),
    };
    fs::write(&kept, format!("{word}\n{key}"))
        .map_err(|error| format!("writing {}: {error}", kept.display()))?;
    Ok(accelerator)
}
