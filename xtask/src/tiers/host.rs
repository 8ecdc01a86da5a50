//! The tier `host`: everything that needs nothing but this machine's Rust.

use crate::cargo_test;
use crate::fuzz;
use crate::link_check;
use crate::session::Session;
use crate::tiers::OTHER_TIERS_TESTS;
use crate::workspace::cargo;

/// The core's features that must each build without a warning, and the case's name.
const FEATURES: &[(&str, &str)] = &[
    ("mpi1 alone", "mpi1"),
    ("mpi2 alone", "mpi2"),
    ("mpi1 and mpi2", "mpi1,mpi2"),
    ("everything with defmt", "mpi1,mpi2,defmt"),
];

/// Integration tests that are run once more under AddressSanitizer, where they exist: those in which
/// the controller does what it should not.
const SANITIZED: &[&str] =
    &["fault_matrix", "faults_threaded", "crash_points", "contract", "recovery"];

pub(super) fn run(session: &mut Session<'_>) {
    let root = session.workspace.root.clone();

    session.command(
        "format",
        cargo().current_dir(&root).args(["fmt", "--all", "--check", "--", "--color=never"]),
    );
    session.command(
        "format of link-check",
        cargo().current_dir(link_check::directory(session.workspace)).args([
            "fmt",
            "--check",
            "--",
            "--color=never",
        ]),
    );
    session.command(
        "clippy",
        cargo().current_dir(&root).args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    );
    fuzz::style_cases(session);
    for (name, features) in FEATURES {
        session.command(
            &format!("the core builds with {name}"),
            cargo()
                .current_dir(&root)
                .args(["clippy", "--package", "fusion-mpt", "--lib", "--no-default-features"])
                .args(["--features", features, "--", "-D", "warnings"]),
        );
    }
    session.command(
        "documentation",
        cargo()
            .current_dir(&root)
            .args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    );
    link_check::cases(session);
    cargo_test::host_tests(session, OTHER_TIERS_TESTS);
    cargo_test::loom_tests(session);
    cargo_test::sanitized_tests(session, SANITIZED);
    fuzz::cases(session);
}
