//! A standard library for a target that this machine's Rust did not come with.
//!
//! Three ways, tried in this order: the toolchain has it; rustup adds it; cargo builds `core` from
//! the source package of a Debian mirror.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::debian;
use crate::own_apt::{self, Mirror, OwnApt, last_line};
use crate::run::{Runner, Stdout};
use crate::workspace::{Workspace, cargo};

/// Suites by what they are, not by name, so that they need no care: where a backport of a recent
/// rustc is, then where newer ones are.
const SUITES: &[&str] = &["stable-backports", "stable", "testing", "unstable"];

/// A download takes a minute at most; without a network nothing answers at all.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(180);

/// Where a target's `core` comes from.
#[derive(Clone, Debug)]
pub(crate) enum Std {
    /// The toolchain has it built.
    Installed,
    /// Cargo builds it from this `library` folder.
    Source(PathBuf),
}

impl Std {
    /// `cargo build` for a target with this standard library.
    pub(crate) fn cargo_build(&self) -> Command {
        let mut command = cargo();
        command.arg("build");
        if let Self::Source(library) = self {
            // Building `core` is not a stable feature of cargo; these two are what cargo's own
            // tests and the compiler's use to do it with a stable toolchain.
            command
                .arg("-Zbuild-std=core")
                .env("RUSTC_BOOTSTRAP", "1")
                .env("__CARGO_TESTS_ONLY_SRC_ROOT", library);
        }
        command
    }
}

/// Finds or makes a standard library for `target`, or says why there is none.
pub(crate) fn provide(runner: &Runner, workspace: &Workspace, target: &str) -> Result<Std, String> {
    let sysroot = rustc(workspace, &["--print", "sysroot"])?;
    let installed = Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib");
    if installed.is_dir() {
        return Ok(Std::Installed);
    }
    let by_rustup = match add_by_rustup(runner, workspace, target) {
        Ok(()) if installed.is_dir() => return Ok(Std::Installed),
        Ok(()) => "rustup added it, but to another toolchain".to_owned(),
        Err(reason) => reason,
    };
    let release = release(&rustc(workspace, &["-vV"])?)?;
    from_debian(runner, &workspace.scratch(), &release).map(Std::Source).map_err(|by_debian| {
        format!("no standard library for {target}: {by_rustup}; and from Debian: {by_debian}")
    })
}

pub(crate) fn rustc(workspace: &Workspace, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("rustc")
        .current_dir(&workspace.root)
        .args(arguments)
        .output()
        .map_err(|error| format!("starting rustc: {error}"))?;
    String::from_utf8(output.stdout).map_err(|error| format!("reading what rustc said: {error}"))
}

/// "1.95.0" from the answer of `rustc -vV`.
fn release(version: &str) -> Result<String, String> {
    let release = version.lines().find_map(|line| line.strip_prefix("release: "));
    release.map(str::to_owned).ok_or_else(|| format!("rustc -vV names no release:\n{version}"))
}

fn add_by_rustup(runner: &Runner, workspace: &Workspace, target: &str) -> Result<(), String> {
    if debian::find("rustup").is_none() {
        return Err("there is no rustup".to_owned());
    }
    runner.progress.line(&format!("adding the target {target} with rustup"));
    let mut command = Command::new("rustup");
    command.current_dir(&workspace.root).args(["target", "add", target]);
    let done = runner.run("rustup target add", &mut command, Stdout::Logged, DOWNLOAD_LIMIT)?;
    if done.success() {
        return Ok(());
    }
    Err(format!("rustup target add {} ({})", done.ending(), last_line(&done.log)))
}

/// The `library` folder of the source of rustc `release`, fetched once.
fn from_debian(runner: &Runner, scratch: &Path, release: &str) -> Result<PathBuf, String> {
    let kept = scratch.join("rust-src").join(release);
    if let Some(library) = library(&kept) {
        return Ok(library);
    }
    let mirror = Mirror::find(runner)?;
    let mut tried = Vec::new();
    for suite in SUITES {
        runner.progress.line(&format!("looking for rust-src {release} in Debian {suite}"));
        let apt = OwnApt::new(&scratch.join("apt").join(suite), &[mirror.suite(suite)])?;
        match fetch(runner, &apt, release) {
            Ok(package) => return unpack(runner, &package, &kept),
            Err(reason) => tried.push(format!("{suite}: {reason}")),
        }
    }
    Err(tried.join("; "))
}

/// Unpacks a package beside its place and then moves it there, so that half of one is never kept.
fn unpack(runner: &Runner, package: &Path, kept: &Path) -> Result<PathBuf, String> {
    let partial = kept.with_extension("partial");
    let failed = |error| format!("unpacking into {}: {error}", partial.display());
    let _ = fs::remove_dir_all(&partial);
    let _ = fs::remove_dir_all(kept);
    fs::create_dir_all(&partial).map_err(failed)?;
    own_apt::extract(runner, &[package.to_owned()], &partial)?;
    fs::rename(&partial, kept).map_err(failed)?;
    library(kept).ok_or_else(|| format!("{} holds no usr/src/rustc-*/library", package.display()))
}

fn library(kept: &Path) -> Option<PathBuf> {
    let sources = fs::read_dir(kept.join("usr/src")).ok()?;
    sources
        .filter_map(|entry| Some(entry.ok()?.path().join("library")))
        .find(|library| library.join("Cargo.lock").exists())
}

/// Downloads the source package of rustc `release`.
fn fetch(runner: &Runner, apt: &OwnApt, release: &str) -> Result<PathBuf, String> {
    apt.update(runner)?;
    let versions = apt.versions(runner, "rust-src")?;
    let version = choose_version(&versions, release).ok_or("no such version")?;
    apt.download(runner, &format!("rust-src={version}"))
}

/// The version of the same release, else of the same minor release: a patch release does not
/// change what `core` may ask of the compiler.
fn choose_version(versions: &[String], release: &str) -> Option<String> {
    let (minor, _) = release.rsplit_once('.')?;
    let of = |release: String| versions.iter().find(|version| version.starts_with(&release));
    of(format!("{release}+")).or_else(|| of(format!("{minor}."))).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(release: &str) -> Option<String> {
        let versions = ["1.95.1+dfsg1-1", "1.95.0+dfsg1-1~bpo13+1", "1.63.0+dfsg1-2"];
        choose_version(&versions.map(str::to_owned), release)
    }

    #[test]
    fn the_same_release_is_preferred() {
        assert_eq!(choose("1.95.0").unwrap(), "1.95.0+dfsg1-1~bpo13+1");
    }

    #[test]
    fn another_patch_release_will_do_but_no_other_minor_one() {
        assert_eq!(choose("1.95.2").unwrap(), "1.95.1+dfsg1-1");
        assert_eq!(choose("1.9.0"), None);
        assert_eq!(choose("1.96.0"), None);
    }

    #[test]
    fn the_release_is_read_from_the_compilers_version() {
        let version = "rustc 1.95.0 (0123 2026-04-14)\nbinary: rustc\nrelease: 1.95.0\n";
        assert_eq!(release(version).unwrap(), "1.95.0");
        assert!(release("").is_err());
    }
}
