//! What guests are made of, fetched and built.

use std::path::PathBuf;

use crate::guests::images::{self, Image};
use crate::guests::machine::Accelerator;
use crate::guests::qemu::{self, Qemu};
use crate::guests::{accelerator, packages};
use crate::run::Runner;
use crate::workspace::{Workspace, cargo};

/// All that guests are made of; shared by groups that run at once.
pub(crate) struct Workshop {
    pub(crate) qemu: Qemu,
    pub(crate) accelerator: Accelerator,
    /// The program that models our controllers.
    pub(crate) mptctl: PathBuf,
    /// One for each of [`crate::guests::packages::KERNELS`].
    pub(crate) images: Vec<Image>,
    /// Where each group has a folder for its disks.
    pub(crate) disks: PathBuf,
    /// Where each group has a folder for its logs.
    pub(crate) logs: PathBuf,
}

impl Workshop {
    /// Fetches and makes what is not there yet, or says what is missing. `mptctl` was built by
    /// [`mptctl`].
    pub(crate) fn provide(
        runner: &Runner,
        workspace: &Workspace,
        mptctl: PathBuf,
    ) -> Result<Self, String> {
        if std::env::consts::ARCH != "x86_64" {
            return Err("the guests' programs are for x86-64, which this machine is not".to_owned());
        }
        let folder = workspace.scratch().join("guests");
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("making {}: {error}", folder.display()))?;
        let qemu = qemu::provide(runner, &folder)?;
        let packages = packages::provide(runner, &folder)?;
        let images = images::provide(runner, &folder, &packages)?;
        let logs = runner.folder("guests");
        let accelerator = accelerator::choose(runner, &folder, &qemu, &images[0], &logs)?;
        Ok(Self { qemu, accelerator, mptctl, images, disks: folder.join("disks"), logs })
    }

    /// Removes the disks that guests wrote to: they are sparse, but not empty.
    pub(crate) fn remove_disks(&self) {
        // They may never have been made.
        let _ = std::fs::remove_dir_all(&self.disks);
    }
}

/// Builds the program that models our controllers. They have to keep up with a guest, so it is
/// optimised.
pub(crate) fn mptctl(runner: &Runner, workspace: &Workspace) -> Result<PathBuf, String> {
    let mut command = cargo();
    command.current_dir(&workspace.root).args([
        "build",
        "--release",
        "--package",
        "fusion-mpt-linux",
        "--bin",
        "mptctl",
    ]);
    runner.logged("build mptctl", &mut command)?.expect("cargo build")?;
    Ok(workspace.target.join("release/mptctl"))
}
