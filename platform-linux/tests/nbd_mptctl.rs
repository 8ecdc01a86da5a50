//! `mptctl export --nbd` as its user meets it, on a software controller.

#![cfg(target_os = "linux")]

#[path = "nbd/client.rs"]
#[allow(dead_code)]
mod client;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use client::Client;
use rustix::process::{Pid, Signal, kill_process};

fn mptctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mptctl"));
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A server, and what it has said until it was ready.
struct Serving {
    child: Child,
    output: BufReader<ChildStdout>,
    said: String,
}

impl Serving {
    fn start(socket: &Path, disk: &Path) -> Self {
        let address = format!("unix:{}", socket.display());
        let disk = disk.to_str().expect("a path");
        let arguments = ["export", "--bus", "mock:sas2008", "--disk", disk, "--nbd", &address];
        let mut child = mptctl(&arguments).spawn().expect("to start");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut said = String::new();
        while !said.contains("ready:") {
            assert_ne!(output.read_line(&mut said).expect("text"), 0, "it ended: {said}");
        }
        Self { child, output, said }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("to signal");
    }

    /// The rest of what it says, and what it exits with.
    fn end_of(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.output, &mut rest).expect("text");
        (rest, self.child.wait().expect("to end").code())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_clients_wrote_is_in_the_image_after_a_signal_to_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let (socket, disk) = (folder.path().join("nbd.sock"), folder.path().join("disk.img"));
    std::fs::write(&disk, vec![0; 8 << 20]).expect("an image");
    let serving = Serving::start(&socket, &disk);
    assert!(serving.said.contains("nbd-client -unix"), "{}", serving.said);
    let mut client = Client::open(&socket, "target0");
    assert_eq!(client.export.size, 8 << 20);
    assert_eq!(client.write(0, 4096, &[0x5a; 300_000 / 512 * 512]), 0);
    serving.signal(Signal::TERM);
    let (rest, code) = serving.end_of();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("ended in order"), "{rest}");
    assert!(!socket.exists());
    let image = std::fs::read(&disk).expect("the image");
    assert!(image[4096..4096 + 300_000 / 512 * 512].iter().all(|byte| *byte == 0x5a));
    assert!(image[..4096].iter().all(|byte| *byte == 0));
}

#[test]
fn a_path_is_refused_while_its_server_lives_and_taken_over_after_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let (socket, disk) = (folder.path().join("nbd.sock"), folder.path().join("disk.img"));
    std::fs::write(&disk, vec![0; 1 << 20]).expect("an image");
    let other = UnixListener::bind(&socket).expect("another server");
    let address = format!("unix:{}", socket.display());
    let refused = mptctl(&["export", "--bus", "mock:sas2008", "--nbd", &address]).output();
    let refused = refused.expect("to run");
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("listens on"), "{}", stderr(&refused));
    drop(other);
    let first = Serving::start(&socket, &disk);
    let mut client = Client::open(&socket, "");
    assert_eq!(client.write(client::FUA, 512, &[7; 512]), 0);
    first.signal(Signal::KILL);
    let _ = first.end_of();
    assert!(socket.exists(), "nobody was left to remove it");
    let second = Serving::start(&socket, &disk);
    assert_eq!(Client::open(&socket, "").read(512, 512), Ok(vec![7; 512]));
    second.signal(Signal::INT);
    second.end_of();
}

#[test]
fn addresses_that_others_could_reach_and_queues_are_refused_with_what_to_do() {
    let run = |more: &[&str]| {
        let all = [&["export", "--bus", "mock:sas2008"], more].concat();
        let output = mptctl(&all).output().expect("to run");
        (output.status.code(), stderr(&output))
    };
    let (code, said) = run(&["--nbd", "0.0.0.0:10809"]);
    assert!(code == Some(2) && said.contains("ssh -L"), "{said}");
    let (code, said) = run(&["--nbd", "unix:/nowhere/at/all", "--queues", "2"]);
    assert!(code == Some(2) && said.contains("--queues"), "{said}");
    let (code, said) = run(&["--nbd", "unix:/nowhere/at/all"]);
    assert!(code == Some(1) && said.contains("/nowhere/at"), "{said}");
}
