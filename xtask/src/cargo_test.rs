//! Tests that cargo builds: each test program is run by itself, and each of its cases counted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::libtest;
use crate::report::Outcome;
use crate::run::{Finished, STEP_LIMIT, Stdout};
use crate::sanitizer;
use crate::session::Session;
use crate::workspace::{Package, Workspace, cargo};

/// Loom explores every interleaving: only these tests are written for it.
const LOOM_PREFIX: &str = "loom_";

/// A built test program.
#[derive(Debug, PartialEq)]
struct Program {
    /// Package, and kind and name where there is more than the library: "fusion-mpt-mock qtest_io".
    name: String,
    /// The integration test's name, if it is one.
    integration_test: Option<String>,
    executable: PathBuf,
    /// Tests run in their package's folder, as cargo does it.
    directory: PathBuf,
    /// What else it is run with.
    environment: &'static [(&'static str, &'static str)],
}

/// Runs unit, integration and documentation tests, but for the integration tests whose name
/// starts with one of `elsewhere`.
pub(crate) fn host_tests(session: &mut Session<'_>, elsewhere: &[&str]) {
    let programs = build(session, "the tests build", cargo().args(["test", "--workspace"]));
    for program in programs {
        let other = |test: &String| elsewhere.iter().any(|prefix| test.starts_with(prefix));
        if !program.integration_test.as_ref().is_some_and(other) {
            run(session, &program, |_| true);
        }
    }
    let packages = session.workspace.packages.iter().filter(|package| package.has_doctests);
    for name in packages.map(|package| package.name.clone()).collect::<Vec<_>>() {
        doctests(session, &name);
    }
}

/// Runs the integration tests whose name starts with `prefix`.
pub(crate) fn integration_tests(session: &mut Session<'_>, prefix: &str) {
    let mut tests = session.workspace.packages.iter().flat_map(|package| &package.tests);
    if !tests.any(|test| test.starts_with(prefix)) {
        return;
    }
    // The same command as for the host's tests but for the choice, so that nothing is built twice.
    let mut command = cargo();
    command.args(["test", "--workspace", "--test", &format!("{prefix}*")]);
    for program in build(session, &format!("the {prefix} tests build"), &mut command) {
        run(session, &program, |_| true);
    }
}

/// Runs the tests named `loom_*` of the packages that depend on loom, built for it.
pub(crate) fn loom_tests(session: &mut Session<'_>) {
    let uses_loom = |dependencies: &[String]| dependencies.iter().any(|name| name == "loom");
    let packages = session.workspace.packages.iter();
    let packages: Vec<String> = packages
        .filter(|package| uses_loom(&package.dependencies))
        .map(|package| package.name.clone())
        .collect();
    for package in packages {
        let mut found = 0;
        let target = session.workspace.scratch().join("loom");
        let mut command = cargo();
        command
            .args(["test", "--package", &package, "--lib", "--tests", "--release", "--target-dir"])
            .arg(target)
            .env("RUSTFLAGS", "--cfg loom")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true");
        for mut program in
            build(session, &format!("the loom tests of {package} build"), &mut command)
        {
            program.name.push_str(" under loom");
            found += run(session, &program, |name| {
                name.rsplit("::").next().is_some_and(|last| last.starts_with(LOOM_PREFIX))
            });
        }
        if found == 0 && !session.stopped() {
            let text = format!("{package} depends on loom and no test is named {LOOM_PREFIX}*");
            let name = format!("{package} has loom tests");
            session.record(&name, Outcome::Failed(text), Duration::ZERO);
        }
    }
}

/// Runs the integration tests named `tests` once more, built for AddressSanitizer.
pub(crate) fn sanitized_tests(session: &mut Session<'_>, tests: &[&str]) {
    let packages = session.workspace.packages.iter();
    let chosen = |package: &Package| -> Vec<String> {
        let is_chosen = |test: &&String| tests.contains(&test.as_str());
        package.tests.iter().filter(is_chosen).cloned().collect()
    };
    let chosen: Vec<(String, Vec<String>)> = packages
        .map(|package| (package.name.clone(), chosen(package)))
        .filter(|(_, tests)| !tests.is_empty())
        .collect();
    for (package, tests) in chosen {
        let name = format!("the fault tests of {package} build for AddressSanitizer");
        if let Err(reason) = sanitizer::available(session.workspace) {
            session.case(&name, |_| Outcome::Skipped(reason));
            continue;
        }
        let mut command = sanitizer::sanitizing_cargo("test", &[]);
        command.args(["--package", &package, "--target-dir"]);
        command.arg(session.workspace.scratch().join("asan"));
        tests.iter().for_each(|test| _ = command.args(["--test", test]));
        for mut program in build(session, &name, &mut command) {
            program.name.push_str(" under AddressSanitizer");
            program.environment = sanitizer::ENVIRONMENT;
            run(session, &program, |_| true);
        }
    }
}

/// Builds test programs without running them. What is built only in order to be run is a case of
/// its own, which the filter does not apply to: a failure must not hide.
fn build(session: &mut Session<'_>, name: &str, command: &mut Command) -> Vec<Program> {
    if session.stopped() {
        return Vec::new();
    }
    command.current_dir(&session.workspace.root).args([
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
    let label = session.label(name);
    let built = session.runner.run(&label, command, Stdout::Apart, STEP_LIMIT);
    let (programs, outcome, elapsed) = match built {
        Ok(done) if done.success() => {
            (programs(session.workspace, &done.stdout), Outcome::Passed, done.elapsed)
        }
        Ok(done) => (Vec::new(), Outcome::Failed(done.log), done.elapsed),
        Err(error) => (Vec::new(), Outcome::Failed(error), Duration::ZERO),
    };
    if outcome != Outcome::Passed || (!session.lists() && session.wants(name)) {
        session.record(name, outcome, elapsed);
    } else if session.lists() {
        session.list(name);
    }
    programs
}

/// The test programs in cargo's stream of JSON messages.
fn programs(workspace: &Workspace, messages: &str) -> Vec<Program> {
    let mut programs: BTreeMap<PathBuf, Program> = BTreeMap::new();
    for message in messages.lines() {
        let Ok(message) = serde_json::from_str::<Value>(message) else {
            continue;
        };
        if let Some(program) = program(workspace, &message) {
            programs.insert(program.executable.clone(), program);
        }
    }
    let mut programs: Vec<Program> = programs.into_values().collect();
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    programs
}

fn program(workspace: &Workspace, message: &Value) -> Option<Program> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let executable = PathBuf::from(message["executable"].as_str()?);
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let package = workspace.packages.iter().find(|package| package.directory == directory)?;
    let target = message["target"]["name"].as_str()?;
    let kind = message["target"]["kind"][0].as_str()?;
    let (name, integration_test) = match kind {
        "test" => (format!("{} {target}", package.name), Some(target.to_owned())),
        "bin" => (format!("{} bin {target}", package.name), None),
        _ => (package.name.clone(), None),
    };
    Some(Program { name, integration_test, executable, directory, environment: &[] })
}

/// Runs the cases of `program` that are `chosen` by their own name and wanted by their full one.
/// Answers how many were chosen.
fn run(session: &mut Session<'_>, program: &Program, chosen: impl Fn(&str) -> bool) -> usize {
    if session.stopped() {
        return 0;
    }
    let label = session.label(&program.name);
    let started = || {
        let mut command = Command::new(&program.executable);
        command.current_dir(&program.directory).env("CARGO_MANIFEST_DIR", &program.directory);
        command.envs(program.environment.iter().copied());
        command
    };
    let mut list = started();
    list.args(["--list", "--format", "terse"]);
    let names = match session.runner.run(&label, &mut list, Stdout::Apart, STEP_LIMIT) {
        Ok(done) if done.success() => libtest::parse_list(&done.stdout),
        Ok(done) => {
            broken(session, &program.name, &done, "listing the cases");
            return 0;
        }
        Err(error) => {
            session.record(&program.name, Outcome::Failed(error), Duration::ZERO);
            return 0;
        }
    };
    let all = names.len();
    let names: Vec<String> = names.into_iter().filter(|name| chosen(name)).collect();
    let count = names.len();
    let names: Vec<String> = names
        .into_iter()
        .filter(|name| session.wants(&format!("{}: {name}", program.name)))
        .collect();
    if session.lists() {
        names.iter().for_each(|name| session.list(&format!("{}: {name}", program.name)));
        return count;
    }
    if names.is_empty() {
        return count;
    }
    let mut command = started();
    if names.len() < all {
        command.arg("--exact").args(&names);
    }
    account(session, &program.name, &mut command);
    count
}

/// Runs a package's documentation tests.
fn doctests(session: &mut Session<'_>, package: &str) {
    let name = format!("{package} documentation tests");
    let mut command = cargo();
    command.current_dir(&session.workspace.root).args([
        "test",
        "--doc",
        "--package",
        package,
        "--",
    ]);
    if session.lists() {
        let label = session.label(&name);
        command.args(["--list", "--format", "terse"]);
        if let Ok(done) = session.runner.run(&label, &mut command, Stdout::Apart, STEP_LIMIT) {
            for case in libtest::parse_list(&done.stdout) {
                session.list(&format!("{name}: {case}"));
            }
        }
    } else if !session.stopped() {
        account(session, &name, &mut command);
    }
}

/// Runs `command`, which prints as libtest does, and takes its cases into the account.
fn account(session: &mut Session<'_>, name: &str, command: &mut Command) {
    let label = session.label(name);
    let done = match session.runner.logged(&label, command) {
        Ok(done) => done,
        Err(error) => return session.record(name, Outcome::Failed(error), Duration::ZERO),
    };
    let mut run = libtest::parse(&done.log);
    let silent = run.announced.saturating_sub(run.cases.len());
    let failed = run.cases.iter().any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
    run.cases.retain(|(case, _)| session.wants(&format!("{name}: {case}")));
    if !run.cases.is_empty() {
        session.record_all(name, run.cases, done.elapsed);
    }
    if silent > 0 {
        broken(
            session,
            name,
            &done,
            &format!("{silent} of {} cases never reported", run.announced),
        );
    } else if !failed && !done.success() {
        broken(session, name, &done, "no case failed, but the program did");
    }
}

/// A test program that did not get as far as telling about its cases.
fn broken(session: &mut Session<'_>, name: &str, done: &Finished, what: &str) {
    let text = format!("{name} {}; {what}\n{}{}", done.ending(), done.stdout, done.log);
    session.record(&format!("{name}: runs to its end"), Outcome::Failed(text), done.elapsed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> Workspace {
        Workspace {
            root: "/w".into(),
            target: "/t".into(),
            packages: vec![Package {
                name: "mock".to_owned(),
                directory: "/w/mock".into(),
                has_doctests: true,
                tests: vec!["qtest_io".to_owned()],
                benches: Vec::new(),
                dependencies: Vec::new(),
            }],
        }
    }

    #[test]
    fn test_programs_are_told_from_other_artifacts() {
        let messages = [
            r#"{"reason":"compiler-artifact","manifest_path":"/w/mock/Cargo.toml","profile":{"test":true},"target":{"kind":["lib"],"name":"mock"},"executable":"/t/mock-1"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/w/mock/Cargo.toml","profile":{"test":true},"target":{"kind":["test"],"name":"qtest_io"},"executable":"/t/qtest_io-1"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/w/mock/Cargo.toml","profile":{"test":false},"target":{"kind":["bin"],"name":"tool"},"executable":"/t/tool"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/w/mock/Cargo.toml","profile":{"test":true},"target":{"kind":["bin"],"name":"tool"},"executable":"/t/tool-1"}"#,
            r#"{"reason":"build-finished","success":true}"#,
            "not json",
        ]
        .join("\n");
        let programs = programs(&workspace(), &messages);
        let names: Vec<_> = programs.iter().map(|program| program.name.as_str()).collect();
        assert_eq!(names, ["mock", "mock bin tool", "mock qtest_io"]);
        assert_eq!(programs[2].integration_test.as_deref(), Some("qtest_io"));
        assert_eq!(programs[0].directory, Path::new("/w/mock"));
    }
}
