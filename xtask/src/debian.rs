//! Programs that come from Debian packages, installed when they are missing and that is possible.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::Runner;

/// A program and the Debian package that brings it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// QEMU for x86 machines, with its mptsas1068.
pub(crate) const QEMU: Tool = Tool { program: "qemu-system-x86_64", package: "qemu-system-x86" };

/// Counts instructions.
pub(crate) const VALGRIND: Tool = Tool { program: "valgrind", package: "valgrind" };

/// Makes sure that `tools` can be run, or says what is missing and what to do.
pub(crate) fn provide(runner: &Runner, tools: &[Tool]) -> Result<(), String> {
    let missing: Vec<Tool> =
        tools.iter().copied().filter(|tool| find(tool.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let names = packages.join(" ");
    if !is_debian() || !is_root() {
        let programs: Vec<&str> = missing.iter().map(|tool| tool.program).collect();
        return Err(format!(
            "{} not found; install the Debian package{} {names} (as root on Debian xtask does so \
             itself)",
            programs.join(", "),
            if packages.len() == 1 { "" } else { "s" },
        ));
    }
    runner.progress.line(&format!("installing the Debian packages {names}"));
    apt(runner, "update the package lists", &["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    apt(runner, "install packages", &install)?;
    match missing.iter().find(|tool| find(tool.program).is_none()) {
        Some(tool) => Err(format!(
            "the Debian package {} is installed and yet {} is not found in PATH",
            tool.package, tool.program
        )),
        None => Ok(()),
    }
}

fn apt(runner: &Runner, what: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    runner.logged(what, &mut command)?.expect(&format!("apt-get {}", arguments.join(" ")))
}

/// The path of `program`, if it is in `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|at| at.is_file())
}

/// Whether packages come from apt here.
pub(crate) fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && find("apt-get").is_some()
}

/// Whether this process may install packages.
pub(crate) fn is_root() -> bool {
    // The owner of a process's own entry in /proc is its effective user.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_found_and_nonsense_is_not() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
