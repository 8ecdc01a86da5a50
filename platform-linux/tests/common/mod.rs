//! Running the built `mptctl` as a person would.

// Each test file uses its own part of this.
#![allow(dead_code, unreachable_pub)]

pub mod emulator;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// What came of one run.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The one JSON document on standard output.
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in: {}", self.text()));
        assert_eq!(value["schema"], 1, "{value}");
        value
    }

    /// Asserts success.
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.text(), self.stderr);
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let ran = Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran
    }
}

/// The command, to be changed before it is run.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mptctl"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it.
pub fn mptctl(arguments: &[&str]) -> Ran {
    command(arguments).output().expect("mptctl starts").into()
}

/// A folder for files, and files in it.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path of a file as an argument.
    pub fn name(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// Writes a file and returns its path as an argument.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).expect("written");
        self.name(name)
    }

    /// A blank disk image of 1 MiB.
    pub fn disk(&self, name: &str) -> String {
        self.file(name, &vec![0; 1 << 20])
    }
}
