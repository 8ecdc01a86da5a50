//! Builds and reads `core/link-check`, the program that links the core and nothing else.

use std::cell::OnceCell;
use std::path::PathBuf;

use crate::call_graph;
use crate::image::Image;
use crate::report::Outcome;
use crate::run::Runner;
use crate::rust_src::{self, Std};
use crate::session::Session;
use crate::workspace::{Workspace, cargo};

/// An x86-64 machine: its code can be followed call by call.
const X86_64: &str = "x86_64-unknown-linux-gnu";

/// Its system linker is needed; the other targets bring theirs.
const X86_64_LINKS: bool = cfg!(all(target_arch = "x86_64", target_os = "linux"));

/// What the core is linked for, with and without an operating system.
pub(crate) const TARGETS: &[&str] = &[X86_64, "thumbv7em-none-eabihf"];

/// Features of the core, and what that set is called.
pub(crate) const GENERATIONS: &[(&str, &str)] =
    &[("mpi1", "mpi1"), ("mpi2", "mpi2"), ("mpi1 and mpi2", "mpi1,mpi2")];

/// The most that the core with one MPI2 generation may take, in bytes of text.
pub(crate) const MPI2_TEXT_LIMIT: u64 = 48 * 1024;

/// What it may take before a test fails: with recovery x86-64 needs more than the bound, which the
/// benchmark shows, and may not need more and more.
pub(crate) const MPI2_TEXT_CEILING: u64 = 56 * 1024;

/// What the compiler may call without being asked to.
const MEMORY_FUNCTIONS: &[&str] = &["bcmp", "memcmp", "memcpy", "memmove", "memset"];

/// The functions of link-check from which nothing may panic are those whose names start with
/// these; there is at least one of each.
const PROBES: &[&str] = &["probe_submit", "probe_poll"];

/// The one of them that calls closures.
const CALLS_CLOSURES: &str = "probe_poll";

/// Parts of the names of functions that only a panic needs: the panic handler of link-check, which
/// every panic ends in, and `core::panicking`, which the way there leads through.
const PANIC_NAMES: &[&str] = &["link_check::panicked", "core::panicking"];

/// The folder of the program's own workspace.
pub(crate) fn directory(workspace: &Workspace) -> PathBuf {
    workspace.root.join("core/link-check")
}

/// Builds the program for `target` with `features` and reads it.
pub(crate) fn build(
    runner: &Runner,
    workspace: &Workspace,
    std: &Std,
    target: &str,
    features: &str,
) -> Result<Image, String> {
    let built = workspace.scratch().join("link-check");
    let mut command = std.cargo_build();
    // In its own folder, for its own flags (.cargo/config.toml), which the environment's would
    // otherwise replace.
    command
        .current_dir(directory(workspace))
        .args(["--release", "--no-default-features", "--features", features, "--target", target])
        .arg("--target-dir")
        .arg(&built)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_RUSTFLAGS");
    let what = format!("link-check {features} for {target}");
    runner.logged(&what, &mut command)?.expect(&format!("building {what}"))?;
    let path = built.join(target).join("release/link-check");
    let bytes =
        std::fs::read(&path).map_err(|error| format!("reading {}: {error}", path.display()))?;
    Image::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// The host tier's cases on the linked program.
pub(crate) fn cases(session: &mut Session<'_>) {
    for target in TARGETS {
        if *target == X86_64 && !X86_64_LINKS {
            session.case(&format!("the core links on {target}"), |_| {
                Outcome::Skipped("only an x86-64 Linux has the linker for it".to_owned())
            });
            continue;
        }
        if *target == X86_64 {
            // The target is named so that its flags are not those of build scripts too, and the
            // profile is the release one, since without `std` nothing can unwind.
            let arguments = ["clippy", "--release", "--features", "mpi1,mpi2", "--target", target];
            session.command(
                "clippy of link-check",
                cargo()
                    .current_dir(directory(session.workspace))
                    .args(arguments)
                    .arg("--target-dir")
                    .arg(session.workspace.scratch().join("link-check"))
                    .args(["--", "-D", "warnings"]),
            );
        }
        let std = OnceCell::new();
        let check =
            |session: &Session<'_>, features: &str, judge: fn(&Image) -> Result<(), String>| {
                let std = std
                    .get_or_init(|| rust_src::provide(&session.runner, session.workspace, target));
                let std = match std {
                    Ok(std) => std,
                    Err(reason) => return Outcome::Skipped(reason.clone()),
                };
                let image = build(&session.runner, session.workspace, std, target, features);
                match image.and_then(|image| judge(&image)) {
                    Ok(()) => Outcome::Passed,
                    Err(text) => Outcome::Failed(text),
                }
            };
        for (name, features) in GENERATIONS {
            session
                .case(&format!("the core links without an allocator on {target} ({name})"), |s| {
                    check(s, features, no_allocator)
                });
            session.case(&format!("no panic is linked on {target} ({name})"), |s| {
                check(s, features, no_panic_linked)
            });
        }
        session.case(&format!("MPI2-only text is at most 56 KiB on {target}"), |s| {
            check(s, "mpi2", text_fits)
        });
        session.case(&format!("a planted panic is found on {target}"), |s| {
            check(s, "mpi1,mpi2,planted-panic", planted_panic_linked)
        });
        if *target == X86_64 {
            session.case("no panic is reachable from submit and poll", |s| {
                check(s, "mpi1,mpi2", no_panic_reachable)
            });
            session.case("a planted panic is reachable from submit", |s| {
                check(s, "mpi1,mpi2,planted-panic", planted_panic_reachable)
            });
        }
    }
}

fn is_panic(name: &str) -> bool {
    PANIC_NAMES.iter().any(|part| name.contains(part))
}

/// It has linked; that counts only if nothing is left for somebody else to bring.
fn no_allocator(image: &Image) -> Result<(), String> {
    let foreign = |name: &&String| !MEMORY_FUNCTIONS.contains(&name.as_str());
    let imports: Vec<&str> = image.imports.iter().filter(foreign).map(String::as_str).collect();
    let allocator = |name: &&String| name.contains("__rust_alloc") || name.contains("alloc::alloc");
    if !imports.is_empty() {
        Err(format!("the image still needs {}", imports.join(", ")))
    } else if let Some(name) = image.symbols.iter().find(allocator) {
        Err(format!("the image holds {name}"))
    } else {
        Ok(())
    }
}

fn no_panic_linked(image: &Image) -> Result<(), String> {
    let panics: Vec<&str> =
        image.symbols.iter().map(String::as_str).filter(|name| is_panic(name)).collect();
    if panics.is_empty() {
        return Ok(());
    }
    let mut text = format!("the image holds {}", panics.join(", "));
    // Where the code can be followed, say how it gets there.
    if let Ok(reached) = call_graph::reach(image, "_start") {
        for name in panics {
            text.push_str(&format!("\n{}", reached.path_to(name)));
        }
    }
    Err(text)
}

fn no_panic_reachable(image: &Image) -> Result<(), String> {
    for prefix in PROBES {
        let names = image.functions.iter().map(|function| &function.name);
        let probes: Vec<&String> = names.filter(|name| name.starts_with(prefix)).collect();
        if probes.is_empty() {
            return Err(format!("link-check has no function {prefix}*"));
        }
        for probe in probes {
            let reached = match call_graph::reach(image, probe) {
                Ok(reached) => reached,
                // A poll calls closures, its caller's and our own on the way of what is rare; where
                // they lead cannot be followed. Then nothing in the whole image may panic.
                Err(_) if *prefix == CALLS_CLOSURES && no_panic_linked(image).is_ok() => continue,
                Err(text) => return Err(text),
            };
            if let Some(name) = reached.names().find(|name| is_panic(name)) {
                return Err(format!("a panic can be reached: {}", reached.path_to(name)));
            }
        }
    }
    Ok(())
}

fn text_fits(image: &Image) -> Result<(), String> {
    if image.text_bytes <= MPI2_TEXT_CEILING {
        return Ok(());
    }
    Err(format!("the text is {} bytes; at most {MPI2_TEXT_CEILING} are allowed", image.text_bytes))
}

/// The check of the check: with a panic planted in `probe_submit`, it must be found.
fn planted_panic_linked(image: &Image) -> Result<(), String> {
    match no_panic_linked(image) {
        Err(text) if text.contains("link_check::panicked") => Ok(()),
        other => Err(format!("the planted panic was not found: {other:?}")),
    }
}

fn planted_panic_reachable(image: &Image) -> Result<(), String> {
    match no_panic_reachable(image) {
        Err(text) if text.contains(": probe_submit") => Ok(()),
        other => Err(format!("the planted panic was not reached: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(symbols: &[&str], imports: &[&str]) -> Image {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Image { symbols: owned(symbols), imports: owned(imports), ..Image::default() }
    }

    #[test]
    fn only_memory_functions_may_come_from_outside() {
        assert!(no_allocator(&image(&["probe_poll"], &["memcpy", "memset"])).is_ok());
        assert!(no_allocator(&image(&[], &["memcpy", "malloc"])).unwrap_err().contains("malloc"));
        assert!(no_allocator(&image(&["__rust_alloc"], &[])).is_err());
    }

    #[test]
    fn a_panic_is_known_by_its_name() {
        assert!(no_panic_linked(&image(&["fusion_mpt::mem::Memory<D>::copy_in"], &[])).is_ok());
        assert!(no_panic_linked(&image(&["core::panicking::panic_bounds_check"], &[])).is_err());
        assert!(no_panic_linked(&image(&["link_check::panicked"], &[])).is_err());
    }

    #[test]
    fn an_image_without_the_probes_proves_nothing() {
        let error = no_panic_reachable(&image(&["_start"], &[])).unwrap_err();
        assert_eq!(error, "link-check has no function probe_submit*");
    }

    #[test]
    fn the_limit_itself_fits() {
        let of = |text_bytes| Image { text_bytes, ..Image::default() };
        assert!(text_fits(&of(MPI2_TEXT_CEILING)).is_ok());
        assert!(text_fits(&of(MPI2_TEXT_CEILING + 1)).is_err());
    }
}
