//! A QEMU that can put a controller of ours into a guest: one that knows `vfio-user-pci`.
//!
//! Where the system's does not, one of a newer Debian is unpacked into a folder and run from there
//! by that Debian's own loader: no privilege, no other root, and so sockets, files and memory are
//! the same for it and for us.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debian;
use crate::guests::packages;
use crate::own_apt::{self, Mirror};
use crate::run::Runner;

const PACKAGE: &str = "qemu-system-x86";

/// Where packages of x86-64 keep libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Folders of what packages bring beside programs and libraries that nothing here reads.
const NOT_NEEDED: &[&str] = &["usr/share/doc", "usr/share/man", "usr/share/locale", "var"];

/// A QEMU and how it is started.
#[derive(Clone, Debug)]
pub(crate) enum Qemu {
    /// The system's.
    System(PathBuf),
    /// One in a folder that packages were unpacked into.
    Folder(PathBuf),
}

impl Qemu {
    /// The command that starts it, to which options can be added.
    pub(crate) fn command(&self) -> Command {
        match self {
            Self::System(path) => Command::new(path),
            Self::Folder(folder) => {
                let libraries = folder.join(LIBRARIES);
                let mut command = Command::new(folder.join("usr/lib64/ld-linux-x86-64.so.2"));
                command
                    .arg("--library-path")
                    .arg(&libraries)
                    .arg(folder.join("usr/bin/qemu-system-x86_64"))
                    .arg("-L")
                    .arg(folder.join("usr/share/qemu"))
                    .arg("-L")
                    .arg(folder.join("usr/share/seabios"))
                    // Else it would look for its parts where the system's QEMU has others.
                    .env("QEMU_MODULE_DIR", libraries.join("qemu"));
                command
            }
        }
    }

    /// What it calls itself, in one line, or why it cannot be asked.
    pub(crate) fn version(&self) -> Result<String, String> {
        let output = self
            .command()
            .arg("--version")
            .output()
            .map_err(|error| format!("starting QEMU: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        match text.lines().next() {
            Some(version) if output.status.success() => Ok(version.to_owned()),
            _ => Err(format!(
                "QEMU does not run: {}",
                own_apt::last_line(&String::from_utf8_lossy(&output.stderr))
            )),
        }
    }

    /// Whether it has `device`.
    fn knows(&self, device: &str) -> bool {
        // The list of all devices would load every part of it: ask for the one.
        let output = self.command().args(["-device", &format!("{device},help")]).output();
        output.is_ok_and(|output| {
            let answer = format!("{device} options:");
            String::from_utf8_lossy(&output.stdout).contains(&answer)
        })
    }
}

/// The system's QEMU if it will do, else one kept in `folder`, which is made first if need be.
pub(crate) fn provide(runner: &Runner, folder: &Path) -> Result<Qemu, String> {
    if let Some(path) = debian::find("qemu-system-x86_64") {
        let system = Qemu::System(path);
        if system.knows("vfio-user-pci") {
            return Ok(system);
        }
    }
    let kept = folder.join("qemu");
    if !kept.is_dir() {
        make(runner, folder, &kept).map_err(|reason| {
            format!("no QEMU with vfio-user-pci in PATH, and one from Debian: {reason}")
        })?;
    }
    let qemu = Qemu::Folder(kept.clone());
    if qemu.knows("vfio-user-pci") {
        return Ok(qemu);
    }
    Err(format!(
        "the QEMU in {} has no vfio-user-pci; cargo xtask clean removes it",
        kept.display()
    ))
}

fn make(runner: &Runner, folder: &Path, kept: &Path) -> Result<(), String> {
    let partial = kept.with_extension("partial");
    let failed = |error| format!("making {}: {error}", partial.display());
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).map_err(failed)?;
    let mirror = Mirror::find(runner)?;
    runner.progress.line("downloading a QEMU with vfio-user-pci");
    let apt = packages::programs_apt(runner, &mirror, folder)?;
    let release = format!("{}-backports", packages::PROGRAMS_SUITE);
    let downloaded = apt.download_closure(runner, Some(&release), &[PACKAGE])?;
    own_apt::extract(runner, &downloaded, &partial)?;
    for package in downloaded {
        let _ = fs::remove_file(package);
    }
    for name in NOT_NEEDED {
        let _ = fs::remove_dir_all(partial.join(name));
    }
    // Unpacked without their scripts, the packages leave the loader where the release has it or
    // where older ones had it.
    if !partial.join("usr/lib64").exists() && partial.join("lib64").exists() {
        fs::rename(partial.join("lib64"), partial.join("usr/lib64")).map_err(failed)?;
    }
    fs::rename(&partial, kept).map_err(failed)
}
