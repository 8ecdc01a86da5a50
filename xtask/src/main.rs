//! Every developer and CI step of fusion-mpt: `cargo xtask --help`.

mod bench;
mod call_graph;
mod callgrind;
mod cargo_test;
mod debian;
mod figures;
mod fuzz;
mod guests;
mod image;
mod libtest;
mod link_check;
mod own_apt;
mod progress;
mod report;
mod run;
mod rust_src;
mod sanitizer;
mod session;
mod tiers;
mod vm;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Every developer and CI step of fusion-mpt
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the tests, a tier at a time, and count every single case
    ///
    /// A failing case does not stop the others. Debian packages that a tier needs are installed
    /// when that is possible (Debian, as root); otherwise they are named and the tier is skipped.
    /// With CI=true a skip is a failure.
    #[command(after_help = tiers::help())]
    Test(tiers::Arguments),
    /// Measure, and print each figure beside its bound
    #[command(after_help = bench::help())]
    Bench {
        /// Benchmarks to run [default: all that exist]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Also write the figures to FILE, one flat JSON object of name to number
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Exit with an error when a figure misses its bound
        #[arg(long)]
        check: bool,
    },
    /// Look for inputs that driver, software controllers or disk cannot bear
    ///
    /// Under AddressSanitizer, which needs the runtime that rust-lang.org's toolchains ship, and a
    /// C++ compiler. Inputs that reach new code are kept under target/xtask/fuzz/found. An input
    /// that ends badly ends its target's run, and the command that runs it again is printed.
    #[command(after_help = fuzz::help())]
    Fuzz(fuzz::Arguments),
    /// Run a shell script in a virtual machine that has a controller and mptctl
    ///
    /// The guest is a stock Debian kernel with an IOMMU, 64 MiB of hugepages and /usr/bin/mptctl
    /// as it is built from here. Behind the controller are a disk of 64 MiB and a thin one of 3
    /// TiB. No driver has the controller yet: the script loads one, or binds it to user space.
    /// What the script prints is shown as it comes; its exit status is the command's.
    #[command(visible_alias = "vm-try", after_help = vm::by_hand::HELP)]
    Vm(vm::by_hand::Arguments),
    /// Remove what xtask has built, fetched and logged (target/xtask)
    Clean,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = Workspace::load().and_then(|workspace| match cli.command {
        Command::Test(arguments) => tiers::run(&workspace, &arguments),
        Command::Bench { names, json, check } => {
            bench::run(&workspace, &names, json.as_deref(), check)
        }
        Command::Fuzz(arguments) => fuzz::run(&workspace, &arguments),
        Command::Vm(arguments) => vm::by_hand::run(&workspace, &arguments),
        Command::Clean => clean(&workspace).map(|()| true),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn clean(workspace: &Workspace) -> Result<(), String> {
    let directory = workspace.scratch();
    match std::fs::remove_dir_all(&directory) {
        Ok(()) => println!("removed {}", directory.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("nothing to remove: {} does not exist", directory.display());
        }
        Err(error) => return Err(format!("removing {}: {error}", directory.display())),
    }
    // Only an xtask that was killed leaves any.
    let folders = guests::socket_folder::remove_orphans();
    if folders > 0 {
        println!("removed {folders} folders of sockets from {}", std::env::temp_dir().display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
