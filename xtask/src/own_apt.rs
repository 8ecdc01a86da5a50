//! An apt of our own: Debian packages are fetched for use here, and the system is left as it is.
//!
//! The mirror is the one that this machine's own apt uses. Sources, lists, cache and the list of
//! what is installed (nothing) are kept in a folder, so that no privilege is needed and the whole
//! closure of a package can be had, whatever the system has of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::debian;
use crate::run::{Runner, Stdout};

/// Debian's own keys, if apt keeps them apart.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Questions that apt answers from its lists, and the lists themselves: a minute at most; without
/// a network nothing answers at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(180);

/// A hundred megabytes over a slow line.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Where this machine's packages come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mirror {
    /// The main archive.
    site: String,
    /// The archive of security updates, if this machine's apt knows one.
    security: Option<String>,
}

impl Mirror {
    /// Asks this machine's apt, or says why it knows none.
    pub(crate) fn find(runner: &Runner) -> Result<Self, String> {
        if !debian::is_debian() {
            return Err("this is no Debian".to_owned());
        }
        let ask = || {
            let mut command = Command::new("apt-get");
            command.args(["indextargets", "--format", "$(CREATED_BY)|$(LABEL)|$(SITE)"]);
            let done =
                runner.run("apt-get indextargets", &mut command, Stdout::Apart, ANSWER_LIMIT)?;
            Ok::<_, String>(Self::parse(&done.stdout))
        };
        if let Some(mirror) = ask()? {
            return Ok(mirror);
        }
        // A fresh image has no lists yet, and apt then knows of no site.
        if debian::is_root() {
            let mut update = Command::new("apt-get");
            let done =
                runner.run("apt-get update", update.arg("update"), Stdout::Logged, ANSWER_LIMIT)?;
            done.expect("apt-get update")?;
            if let Some(mirror) = ask()? {
                return Ok(mirror);
            }
        }
        Err("apt knows no Debian mirror; run apt-get update as root".to_owned())
    }

    /// The archives tell themselves apart by label.
    fn parse(index_targets: &str) -> Option<Self> {
        let labelled = |label: &str| {
            let mut lines = index_targets.lines();
            lines.find_map(|line| line.strip_prefix(label)).map(str::to_owned)
        };
        let site = labelled("Packages|Debian|")?;
        Some(Self { site, security: labelled("Packages|Debian-Security|") })
    }

    /// A suite of the main archive, as a line of sources.list.
    pub(crate) fn suite(&self, suite: &str) -> String {
        source(&self.site, suite)
    }

    /// The security updates of a release, likewise, or nothing where none are known.
    pub(crate) fn security_of(&self, release: &str) -> Option<String> {
        Some(source(self.security.as_ref()?, &format!("{release}-security")))
    }
}

fn source(site: &str, suite: &str) -> String {
    let signed_by =
        if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
    format!("deb {signed_by}{site} {suite} main\n")
}

/// An apt whose sources, lists and cache are its own.
pub(crate) struct OwnApt {
    folder: PathBuf,
}

impl OwnApt {
    /// One that lives in `folder` and reads `sources`; asks nothing of the network yet.
    pub(crate) fn new(folder: &Path, sources: &[String]) -> Result<Self, String> {
        let failed = |error| format!("making {}: {error}", folder.display());
        for needed in ["lists/partial", "cache/archives/partial", "download"] {
            fs::create_dir_all(folder.join(needed)).map_err(failed)?;
        }
        fs::write(folder.join("sources.list"), sources.concat()).map_err(failed)?;
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

    fn run(
        &self,
        runner: &Runner,
        mut command: Command,
        limit: Duration,
    ) -> Result<String, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        // The options come in pairs and are the same every time: the word after them is the task.
        let words: Vec<String> =
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let task = words.chunks(2).find(|pair| pair[0] != "-o").map_or("", |pair| &pair[0]);
        let what = format!("{program} {task}");
        let done = runner.run(&what, &mut command, Stdout::Apart, limit)?;
        if !done.success() {
            return Err(format!("{what} {} ({})", done.ending(), last_line(&done.log)));
        }
        Ok(done.stdout)
    }

    /// Fetches the lists.
    pub(crate) fn update(&self, runner: &Runner) -> Result<(), String> {
        let mut command = self.command("apt-get");
        command.arg("update");
        self.run(runner, command, ANSWER_LIMIT).map(drop)
    }

    /// The versions of `package` that there are, newest first.
    pub(crate) fn versions(&self, runner: &Runner, package: &str) -> Result<Vec<String>, String> {
        let mut command = self.command("apt-cache");
        command.args(["madison", package]);
        let madison = self.run(runner, command, ANSWER_LIMIT)?;
        Ok(versions(&madison))
    }

    /// What the newest version of `package` depends on, names and conditions.
    pub(crate) fn depends(&self, runner: &Runner, package: &str) -> Result<String, String> {
        let mut command = self.command("apt-cache");
        command.args(["show", "--no-all-versions", package]);
        let stanza = self.run(runner, command, ANSWER_LIMIT)?;
        let depends = stanza.lines().find_map(|line| line.strip_prefix("Depends: "));
        depends.map(str::to_owned).ok_or_else(|| format!("{package} depends on nothing"))
    }

    /// Downloads one package, as "name" or "name=version", without what it depends on.
    pub(crate) fn download(&self, runner: &Runner, package: &str) -> Result<PathBuf, String> {
        let download = self.folder.join("download");
        // What an earlier run left here is not what is asked for now.
        for earlier in packages_in(&download)? {
            fs::remove_file(&earlier)
                .map_err(|error| format!("removing {}: {error}", earlier.display()))?;
        }
        let mut command = self.command("apt-get");
        command.args(["download", package]);
        self.run(runner, command, DOWNLOAD_LIMIT)?;
        packages_in(&download)?
            .pop()
            .ok_or_else(|| format!("{} has no package after the download", download.display()))
    }

    /// Downloads `packages` and all that they depend on, down to the C library, from the suite
    /// `release` where it has them.
    pub(crate) fn download_closure(
        &self,
        runner: &Runner,
        release: Option<&str>,
        packages: &[&str],
    ) -> Result<Vec<PathBuf>, String> {
        let archives = self.folder.join("cache/archives");
        let mut clean = self.command("apt-get");
        clean.arg("clean");
        self.run(runner, clean, ANSWER_LIMIT)?;
        let mut command = self.command("apt-get");
        command.args(["install", "--download-only", "--yes", "--no-install-recommends"]);
        if let Some(release) = release {
            command.args(["--target-release", release]);
        }
        command.args(packages);
        self.run(runner, command, DOWNLOAD_LIMIT)?;
        packages_in(&archives)
    }
}

/// The packages in a folder, sorted by name.
fn packages_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("reading {}: {error}", folder.display()))?;
    let mut packages: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    packages.sort();
    Ok(packages)
}

/// Unpacks `packages` into `folder`, without running anything of them.
pub(crate) fn extract(runner: &Runner, packages: &[PathBuf], folder: &Path) -> Result<(), String> {
    const EACH: &str = "for package in \"$@\"; do dpkg --extract \"$package\" \"$0\" || exit; done";
    let mut command = Command::new("sh");
    command.args(["-c", EACH]).arg(folder).args(packages);
    runner.logged("dpkg --extract", &mut command)?.expect("dpkg --extract")
}

/// The versions in the answer of `apt-cache madison`.
fn versions(madison: &str) -> Vec<String> {
    madison.lines().filter_map(|line| Some(line.split('|').nth(1)?.trim().to_owned())).collect()
}

/// What a program said last, which is mostly why it failed.
pub(crate) fn last_line(log: &str) -> &str {
    log.trim().lines().last().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_the_main_archive() {
        let targets = "DEP-11|Debian|SITE-A\n\
                       Packages|Debian-Security|SITE-B\n\
                       Packages|Debian|SITE-C\n";
        let mirror = Mirror::parse(targets).unwrap();
        assert!(mirror.suite("stable").ends_with("SITE-C stable main\n"));
        assert!(
            mirror.security_of("bookworm").unwrap().ends_with("SITE-B bookworm-security main\n")
        );
        assert_eq!(Mirror::parse(""), None);
    }

    #[test]
    fn a_machine_without_security_updates_has_none() {
        let mirror = Mirror::parse("Packages|Debian|SITE\n").unwrap();
        assert_eq!(mirror.security_of("bookworm"), None);
    }

    #[test]
    fn versions_are_read_in_order() {
        let madison =
            " p | 2.0-1 | SITE unstable/main amd64 Packages\n p | 1.0-1 | SITE x Packages\n";
        assert_eq!(versions(madison), ["2.0-1", "1.0-1"]);
        assert!(versions("").is_empty());
    }
}
