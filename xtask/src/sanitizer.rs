//! Building for AddressSanitizer with the toolchain that is there.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::rust_src::rustc;
use crate::workspace::{Workspace, cargo};

/// What is built. Named even where it is the host, so that build scripts and procedural macros,
/// which run without the sanitizer's runtime, are built without the flags.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// An error of memory ends the program at once. Leaks are no undefined behaviour, and looking for
/// them takes tracing rights that containers do not have.
const OPTIONS: &str = "detect_leaks=0:abort_on_error=0:exitcode=77";

/// Whether the toolchain can do it here; else why not.
pub(crate) fn available(workspace: &Workspace) -> Result<(), String> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Err(format!("AddressSanitizer is run on {TARGET} only"));
    }
    let sysroot = rustc(workspace, &["--print", "sysroot"])?;
    let libraries = Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib");
    let is_runtime = |name: &str| name.starts_with("librustc") && name.ends_with("rt.asan.a");
    let found = fs::read_dir(&libraries).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_runtime))
    });
    if found {
        return Ok(());
    }
    Err(format!(
        "this Rust came without AddressSanitizer's runtime (librustc-*rt.asan.a in {}): use a \
         toolchain of rust-lang.org",
        libraries.display()
    ))
}

/// A cargo that builds for the sanitizer, with `flags` besides.
pub(crate) fn sanitizing_cargo(command: &str, flags: &[&str]) -> Command {
    let mut cargo = cargo();
    let flags: Vec<&str> = [&["-Zsanitizer=address"], flags].concat();
    cargo
        .args([command, "--target", TARGET])
        // Sanitizers are no stable feature of the compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", flags.join(" "))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_RUSTFLAGS");
    cargo
}

/// What a program that was built so is to be run with.
pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[("ASAN_OPTIONS", OPTIONS)];
