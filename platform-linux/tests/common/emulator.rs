//! A running `mptctl emulate`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use super::command;

/// A running emulator. It is stopped with the test, however that ends.
pub struct Emulator {
    pub child: Child,
    stdout: BufReader<ChildStdout>,
    /// The line that it said when it was ready.
    pub ready: String,
}

impl Emulator {
    /// Starts one with these arguments, and waits until it is ready.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = command(&[&["emulate"], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mptctl starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut ready = String::new();
        stdout.read_line(&mut ready).expect("a line");
        let mut emulator = Self { child, stdout, ready };
        if emulator.ready.is_empty() {
            let (_, stderr) = emulator.end();
            panic!("{arguments:?}: {stderr}");
        }
        emulator
    }

    /// Sends it a signal, by its name with a dash.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = std::process::Command::new("kill").args([name, &pid]).status().expect("kill");
        assert!(sent.success());
    }

    /// Waits for the end; the exit code, and what was said after the ready line, errors last.
    pub fn end(&mut self) -> (Option<i32>, String) {
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("waited for") {
                Some(status) => break status,
                None if started.elapsed() > Duration::from_secs(20) => {
                    panic!("the emulator does not end")
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let mut said = String::new();
        self.stdout.read_to_string(&mut said).expect("UTF-8");
        self.child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
        assert!(!said.contains("panicked"), "{said}");
        (status.code(), said)
    }

    /// Tells it to end, which it does well; what it said since it was ready.
    pub fn stop(self) -> String {
        self.signal("-TERM");
        self.stop_signalled()
    }

    /// The same, when it was told already.
    pub fn stop_signalled(mut self) -> String {
        let (code, said) = self.end();
        assert_eq!(code, Some(0), "{said}");
        said
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
