//! The Debian packages that guests are made of: stock kernels, and programs to run on them.
//!
//! They are downloaded once, and stay until `cargo xtask clean`: a test run neither waits for a
//! mirror nor changes under the hands of the one who looks for a fault.

use std::fs;
use std::path::{Path, PathBuf};

use crate::own_apt::{Mirror, OwnApt};
use crate::run::Runner;

/// A stock kernel, by what Debian calls its suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// How cases call it.
    pub(crate) name: &'static str,
    /// The version that its package's name starts with.
    series: &'static str,
    suite: &'static str,
    /// The release that security updates are for, where they come on top.
    security: Option<&'static str>,
    /// Whether kernel and modules are packages beside the one that is named.
    split: bool,
    /// Whether its drivers judge our controllers; otherwise it is there for what it can do for our
    /// own driver.
    pub(crate) judges: bool,
}

/// The kernels that guests run: Debian 12's own, that of its backports, and that of Debian 13's,
/// whose ublk can tell a disk's new size.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel {
        name: "Linux 6.1",
        series: "6.1.",
        suite: "bookworm",
        security: Some("bookworm"),
        split: false,
        judges: true,
    },
    Kernel {
        name: "Linux 6.12",
        series: "6.12.",
        suite: "bookworm-backports",
        security: None,
        split: false,
        judges: true,
    },
    Kernel {
        name: "Linux 7.3",
        series: "7.3.",
        suite: "trixie-backports",
        security: None,
        split: true,
        judges: false,
    },
];

/// The package that depends on the newest kernel's.
const KERNEL_PACKAGE: &str = "linux-image-amd64";

/// The release whose programs run on both kernels.
pub(crate) const PROGRAMS_SUITE: &str = "trixie";

/// The packages whose programs guests run.
const PROGRAM_PACKAGES: &[&str] = &[
    "busybox-static",
    "dash",
    "dmsetup",
    "e2fsprogs",
    "fio",
    "gdisk",
    "libgcc-s1",
    "lsscsi",
    "mdadm",
    "nbd-client",
    "pciutils",
    "sg3-utils",
    "smartmontools",
    "util-linux",
];

/// Packages, downloaded.
pub(crate) struct Packages {
    /// Those of each of [`KERNELS`], in their order.
    pub(crate) kernels: Vec<Vec<PathBuf>>,
    /// The programs' with all that they depend on.
    pub(crate) programs: Vec<PathBuf>,
}

/// The packages kept in `folder`, downloaded first if they are not there.
pub(crate) fn provide(runner: &Runner, folder: &Path) -> Result<Packages, String> {
    let kept = folder.join("packages");
    // What is kept may be an older xtask's choice.
    let list = format!("{KERNELS:?}\n{PROGRAM_PACKAGES:?}\n");
    if fs::read_to_string(kept.join("list")).ok().as_ref() != Some(&list) {
        let partial = folder.join("packages.partial");
        let failed = |error| format!("making {}: {error}", partial.display());
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(partial.join("programs")).map_err(failed)?;
        let mirror = Mirror::find(runner)?;
        for (index, kernel) in KERNELS.iter().enumerate() {
            let into = partial.join(format!("kernel-{index}"));
            fs::create_dir_all(&into).map_err(failed)?;
            download_kernel(runner, &mirror, folder, kernel, &into)?;
        }
        runner.progress.line("downloading the programs of the guests");
        let apt = programs_apt(runner, &mirror, folder)?;
        take(&apt.download_closure(runner, None, PROGRAM_PACKAGES)?, &partial.join("programs"))?;
        fs::write(partial.join("list"), list).map_err(failed)?;
        let _ = fs::remove_dir_all(&kept);
        fs::rename(&partial, &kept).map_err(failed)?;
    }
    let mut kernels = Vec::new();
    for index in 0..KERNELS.len() {
        let folder = kept.join(format!("kernel-{index}"));
        kernels.push(files_in(&folder)?);
    }
    Ok(Packages { kernels, programs: files_in(&kept.join("programs"))? })
}

/// An apt for the release that programs come from, with its backports, its lists fetched.
pub(crate) fn programs_apt(
    runner: &Runner,
    mirror: &Mirror,
    folder: &Path,
) -> Result<OwnApt, String> {
    let mut sources =
        vec![mirror.suite(PROGRAMS_SUITE), mirror.suite(&format!("{PROGRAMS_SUITE}-backports"))];
    sources.extend(mirror.security_of(PROGRAMS_SUITE));
    let apt = OwnApt::new(&folder.join("apt").join(PROGRAMS_SUITE), &sources)?;
    apt.update(runner)?;
    Ok(apt)
}

fn download_kernel(
    runner: &Runner,
    mirror: &Mirror,
    folder: &Path,
    kernel: &Kernel,
    into: &Path,
) -> Result<(), String> {
    let mut sources = vec![mirror.suite(kernel.suite)];
    sources.extend(kernel.security.and_then(|release| mirror.security_of(release)));
    let apt = OwnApt::new(&folder.join("apt").join(kernel.suite), &sources)?;
    apt.update(runner)?;
    let depends = apt.depends(runner, KERNEL_PACKAGE)?;
    let package = kernel_package(&depends, kernel.series).ok_or_else(|| {
        format!(
            "{KERNEL_PACKAGE} of {} depends on {depends}, which is no kernel {}",
            kernel.suite, kernel.series
        )
    })?;
    runner.progress.line(&format!("downloading {package}"));
    for package in parts(package, kernel.split) {
        take(&[apt.download(runner, &package)?], into)?;
    }
    Ok(())
}

/// The packages with kernel and modules of "linux-image-7.3.4+deb13-amd64".
fn parts(package: &str, split: bool) -> Vec<String> {
    if !split {
        return vec![package.to_owned()];
    }
    ["linux-binary-", "linux-modules-"].map(|part| package.replace("linux-image-", part)).to_vec()
}

/// "linux-image-6.1.0-56-amd64" from "linux-image-6.1.0-56-amd64 (= 6.1.192-2)", if it is of that
/// series.
fn kernel_package<'a>(depends: &'a str, series: &str) -> Option<&'a str> {
    depends
        .split([',', '|'])
        .filter_map(|dependency| dependency.split_whitespace().next())
        .find(|name| name.strip_prefix("linux-image-").is_some_and(|v| v.starts_with(series)))
}

fn take(packages: &[PathBuf], folder: &Path) -> Result<(), String> {
    for package in packages {
        let name = package.file_name().ok_or("a package without a name")?;
        fs::rename(package, folder.join(name)).map_err(|error| {
            format!("moving {} to {}: {error}", package.display(), folder.display())
        })?;
    }
    Ok(())
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("reading {}: {error}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_package_of_all_depends_on() {
        let depends = "linux-image-6.1.0-56-amd64 (= 6.1.192-2)";
        assert_eq!(kernel_package(depends, "6.1."), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(kernel_package(depends, "6.12."), None);
        assert_eq!(kernel_package("", "6.1."), None);
    }

    #[test]
    fn a_kernel_may_be_in_two_packages() {
        let package = "linux-image-7.3.4+deb13-amd64";
        assert_eq!(parts(package, false), [package]);
        let expected = ["linux-binary-7.3.4+deb13-amd64", "linux-modules-7.3.4+deb13-amd64"];
        assert_eq!(parts(package, true), expected);
    }

    #[test]
    fn kernels_are_told_apart_by_name() {
        assert!(KERNELS.iter().all(|kernel| kernel.series.ends_with('.')));
        let mut names: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
        names.dedup();
        assert_eq!(names.len(), KERNELS.len());
    }
}
