//! A standard library for a target that this machine's Rust did not come with.
//!
//! Three ways, tried in this order: the toolchain has it; rustup adds it; cargo builds `core` from
//! the source package of a Debian mirror. The mirror is the one that this machine's own apt uses,
//! and its lists, cache and sources are kept apart, so that the system is left as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::debian;
use crate::run::{Runner, Stdout};
use crate::workspace::{Workspace, cargo};

/// Suites by what they are, not by name, so that they need no care: where a backport of a recent
/// rustc is, then where newer ones are.
const SUITES: &[&str] = &["stable-backports", "stable", "testing", "unstable"];

/// Debian's own keys, if apt keeps them apart.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

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

fn rustc(workspace: &Workspace, arguments: &[&str]) -> Result<String, String> {
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

/// What a program said last, which is mostly why it failed.
fn last_line(log: &str) -> &str {
    log.trim().lines().last().unwrap_or_default()
}

/// The `library` folder of the source of rustc `release`, fetched once.
fn from_debian(runner: &Runner, scratch: &Path, release: &str) -> Result<PathBuf, String> {
    let kept = scratch.join("rust-src").join(release);
    if let Some(library) = library(&kept) {
        return Ok(library);
    }
    if !debian::is_debian() {
        return Err("this is no Debian".to_owned());
    }
    let site = mirror(runner)?;
    let mut tried = Vec::new();
    for suite in SUITES {
        runner.progress.line(&format!("looking for rust-src {release} in Debian {suite}"));
        let apt = OwnApt::new(&scratch.join("apt").join(suite), &site, suite)?;
        match apt.fetch(runner, release) {
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
    let mut command = Command::new("dpkg");
    command.arg("--extract").arg(package).arg(&partial);
    runner.logged("unpack rust-src", &mut command)?.expect("dpkg --extract")?;
    fs::rename(&partial, kept).map_err(failed)?;
    library(kept).ok_or_else(|| format!("{} holds no usr/src/rustc-*/library", package.display()))
}

fn library(kept: &Path) -> Option<PathBuf> {
    let sources = fs::read_dir(kept.join("usr/src")).ok()?;
    sources
        .filter_map(|entry| Some(entry.ok()?.path().join("library")))
        .find(|library| library.join("Cargo.lock").exists())
}

/// The Debian mirror that this machine's apt uses.
fn mirror(runner: &Runner) -> Result<String, String> {
    let ask = || {
        let mut command = Command::new("apt-get");
        command.args(["indextargets", "--format", "$(CREATED_BY)|$(LABEL)|$(SITE)"]);
        let done =
            runner.run("apt-get indextargets", &mut command, Stdout::Apart, DOWNLOAD_LIMIT)?;
        Ok::<_, String>(debian_site(&done.stdout))
    };
    if let Some(site) = ask()? {
        return Ok(site);
    }
    // A fresh image has no lists yet, and apt then knows of no site.
    if debian::is_root() {
        let mut update = Command::new("apt-get");
        let done =
            runner.run("apt-get update", update.arg("update"), Stdout::Logged, DOWNLOAD_LIMIT)?;
        done.expect("apt-get update")?;
        if let Some(site) = ask()? {
            return Ok(site);
        }
    }
    Err("apt knows no Debian mirror; run apt-get update as root".to_owned())
}

/// The site of the main archive: the security archive has a label of its own.
fn debian_site(index_targets: &str) -> Option<String> {
    index_targets.lines().find_map(|line| line.strip_prefix("Packages|Debian|")).map(str::to_owned)
}

/// An apt whose sources, lists and cache are its own.
struct OwnApt {
    folder: PathBuf,
}

impl OwnApt {
    fn new(folder: &Path, site: &str, suite: &str) -> Result<Self, String> {
        let failed = |error| format!("making {}: {error}", folder.display());
        for needed in ["lists/partial", "cache/archives/partial", "download"] {
            fs::create_dir_all(folder.join(needed)).map_err(failed)?;
        }
        let signed_by = if Path::new(KEYRING).exists() {
            format!("[signed-by={KEYRING}] ")
        } else {
            String::new()
        };
        let source = format!("deb {signed_by}{site} {suite} main\n");
        fs::write(folder.join("sources.list"), source).map_err(failed)?;
        fs::write(folder.join("status"), "").map_err(failed)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |name: &str| self.folder.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::SourceList={}", at("sources.list")),
            "Dir::Etc::SourceParts=-".to_owned(),
            "Dir::Etc::Preferences=-".to_owned(),
            "Dir::Etc::PreferencesParts=-".to_owned(),
            format!("Dir::State={}", at("")),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::State::Status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            // What apt fetches beside the packages' index is not looked at.
            "Acquire::Languages=none".to_owned(),
            // Else a mirror that does not answer is but a warning.
            "APT::Update::Error-Mode=any".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // The user that apt downloads as cannot write here.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.current_dir(self.folder.join("download"));
        command
    }

    /// Downloads the source package of rustc `release`.
    fn fetch(&self, runner: &Runner, release: &str) -> Result<PathBuf, String> {
        let run = |what: &str, command: &mut Command| {
            let done = runner.run(what, command, Stdout::Apart, DOWNLOAD_LIMIT)?;
            if !done.success() {
                return Err(format!("{what} {} ({})", done.ending(), last_line(&done.log)));
            }
            Ok(done.stdout)
        };
        run("apt-get update", self.command("apt-get").arg("update"))?;
        let versions =
            run("apt-cache madison", self.command("apt-cache").args(["madison", "rust-src"]))?;
        let version = choose_version(&versions, release).ok_or("no such version")?;
        let package = format!("rust-src={version}");
        run("apt-get download", self.command("apt-get").args(["download", &package]))?;
        let download = self.folder.join("download");
        fs::read_dir(&download)
            .map_err(|error| format!("reading {}: {error}", download.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .ok_or_else(|| format!("{} has no package after the download", download.display()))
    }
}

/// The version of the same release in the answer of `apt-cache madison`, else of the same minor
/// release: a patch release does not change what `core` may ask of the compiler.
fn choose_version(madison: &str, release: &str) -> Option<String> {
    let versions: Vec<&str> =
        madison.lines().filter_map(|line| Some(line.split('|').nth(1)?.trim())).collect();
    let (minor, _) = release.rsplit_once('.')?;
    let of = |release: String| versions.iter().find(|version| version.starts_with(&release));
    of(format!("{release}+"))
        .or_else(|| of(format!("{minor}.")))
        .map(|version| (*version).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADISON: &str = "\
  rust-src | 1.95.1+dfsg1-1 | SITE unstable/main amd64 Packages
  rust-src | 1.95.0+dfsg1-1~bpo13+1 | SITE stable-backports/main amd64 Packages
  rust-src | 1.63.0+dfsg1-2 | SITE oldstable/main amd64 Packages
";

    #[test]
    fn the_same_release_is_preferred() {
        assert_eq!(choose_version(MADISON, "1.95.0").unwrap(), "1.95.0+dfsg1-1~bpo13+1");
    }

    #[test]
    fn another_patch_release_will_do_but_no_other_minor_one() {
        assert_eq!(choose_version(MADISON, "1.95.2").unwrap(), "1.95.1+dfsg1-1");
        assert_eq!(choose_version(MADISON, "1.9.0"), None);
        assert_eq!(choose_version(MADISON, "1.96.0"), None);
    }

    #[test]
    fn the_mirror_is_that_of_the_main_archive() {
        let targets = "DEP-11|Debian|SITE-A\n\
                       Packages|Debian-Security|SITE-B\n\
                       Packages|Debian|SITE-C\n";
        assert_eq!(debian_site(targets).unwrap(), "SITE-C");
        assert_eq!(debian_site(""), None);
    }

    #[test]
    fn the_release_is_read_from_the_compilers_version() {
        let version = "rustc 1.95.0 (0123 2026-04-14)\nbinary: rustc\nrelease: 1.95.0\n";
        assert_eq!(release(version).unwrap(), "1.95.0");
        assert!(release("").is_err());
    }
}
