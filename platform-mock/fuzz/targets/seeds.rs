//! Writes inputs to begin with into a folder, one folder in it for each target.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("which folder? seeds FOLDER");
        return ExitCode::FAILURE;
    };
    match fusion_mpt_fuzz::seeds::write(Path::new(&folder)) {
        Ok(count) => {
            println!("{count} seeds");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("writing into {}: {error}", Path::new(&folder).display());
            ExitCode::FAILURE
        }
    }
}
