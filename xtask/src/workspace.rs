//! What cargo knows about this workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The workspace as `cargo metadata` describes it.
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
    /// The members, sorted by name.
    pub(crate) packages: Vec<Package>,
}

/// A member of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    /// The folder of its `Cargo.toml`.
    pub(crate) directory: PathBuf,
    /// Whether it has a library whose documentation may hold tests.
    pub(crate) has_doctests: bool,
    /// Names of its integration tests.
    pub(crate) tests: Vec<String>,
    /// Names of its benchmarks.
    pub(crate) benches: Vec<String>,
    /// Names of its direct dependencies, of every kind.
    pub(crate) dependencies: Vec<String>,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self, String> {
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .map_err(|error| format!("starting cargo metadata: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "cargo metadata ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
        Self::parse(&output.stdout).ok_or_else(|| {
            "cargo metadata answered in a form that xtask does not know; is cargo newer than the \
             workspace's rust-version by years?"
                .to_owned()
        })
    }

    fn parse(json: &[u8]) -> Option<Self> {
        let metadata: Value = serde_json::from_slice(json).ok()?;
        let mut packages: Vec<Package> =
            metadata["packages"].as_array()?.iter().map(Package::parse).collect::<Option<_>>()?;
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Self {
            root: metadata["workspace_root"].as_str()?.into(),
            target: metadata["target_directory"].as_str()?.into(),
            packages,
        })
    }

    /// Everything that xtask makes and that is not cargo's own goes here.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.target.join("xtask")
    }
}

impl Package {
    fn parse(package: &Value) -> Option<Self> {
        let targets = package["targets"].as_array()?;
        let names_of = |kind: &str| -> Vec<String> {
            targets
                .iter()
                .filter(|target| target["kind"][0] == kind)
                .filter_map(|target| target["name"].as_str().map(str::to_owned))
                .collect()
        };
        Some(Self {
            name: package["name"].as_str()?.to_owned(),
            directory: Path::new(package["manifest_path"].as_str()?).parent()?.to_owned(),
            has_doctests: targets.iter().any(|target| target["doctest"] == true),
            tests: names_of("test"),
            benches: names_of("bench"),
            dependencies: package["dependencies"]
                .as_array()?
                .iter()
                .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
                .collect(),
        })
    }
}

/// The cargo that started us, free of what it set for us and of colour.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let ours = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_BIN_")
                || name.starts_with("CARGO_MANIFEST_")
                || name == "CARGO_CRATE_NAME"
                || name == "CARGO_PRIMARY_PACKAGE"
        })
    });
    for name in ours {
        command.env_remove(name);
    }
    command.env("CARGO_TERM_COLOR", "never");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_read_with_its_targets() {
        let workspace = Workspace::parse(
            br#"{"workspace_root": "/w", "target_directory": "/t", "packages": [{
                "name": "p", "manifest_path": "/w/p/Cargo.toml",
                "dependencies": [{"name": "loom", "target": "cfg(loom)"}],
                "targets": [
                    {"kind": ["lib"], "name": "p", "doctest": true},
                    {"kind": ["test"], "name": "qtest_read", "doctest": false},
                    {"kind": ["bench"], "name": "slots", "doctest": false}]}]}"#,
        )
        .expect("valid metadata");
        let package = &workspace.packages[0];
        assert_eq!(package.directory, Path::new("/w/p"));
        assert_eq!(package.tests, ["qtest_read"]);
        assert_eq!(package.benches, ["slots"]);
        assert_eq!(package.dependencies, ["loom"]);
        assert!(package.has_doctests);
        assert_eq!(workspace.scratch(), Path::new("/t/xtask"));
    }

    #[test]
    fn metadata_of_another_form_is_refused() {
        assert!(Workspace::parse(b"{}").is_none());
        assert!(Workspace::parse(b"not json").is_none());
    }
}
