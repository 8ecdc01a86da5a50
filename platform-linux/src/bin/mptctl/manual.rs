//! Shell completions and manual pages, both made from the command line's own description.

use std::path::Path;

use fusion_mpt_linux::error::Error;

use crate::cli::command;
use crate::output;

/// Prints the completion script for a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "mptctl", &mut script);
    output::raw(&script)
}

/// Writes `mptctl.1` and one page for each command into `dir`.
pub(crate) fn pages(dir: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(|error| Error::file("create the folder", dir, &error))?;
    clap_mangen::generate_to(command(), dir)
        .map_err(|error| Error::file("write manual pages into", dir, &error))
}
