//! `mptctl` on QEMU's controller, which strangers wrote. Without QEMU there is only one test: that
//! `mptctl` says how to get it.

mod common;

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use common::{Folder, command, mptctl};

/// Whether QEMU is there. With `CI=true` a machine without it is a failure.
fn qemu() -> bool {
    let there = std::process::Command::new("qemu-system-x86_64")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !there {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "qemu-system-x86_64 is not installed"
        );
        eprintln!("skipped: qemu-system-x86_64 is not installed");
    }
    there
}

#[test]
fn without_qemu_the_sentence_says_how_to_get_it() {
    let folder = Folder::new();
    let output = command(&["list", "--bus", "qtest"]).env("PATH", folder.path("")).output();
    let ran = common::Ran::from(output.expect("starts"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("qemu-system-x86_64"), "{}", ran.stderr);
    assert!(ran.stderr.contains("install"), "{}", ran.stderr);
}

#[test]
fn the_demo_verifies_data_down_to_the_image() {
    if !qemu() {
        return;
    }
    let ran = mptctl(&["demo", "--bus", "qtest", "--megabytes", "4", "--seconds", "1"]).good();
    let text = ran.text();
    let last = text.lines().last().expect("a last line");
    assert!(last.starts_with("data verified: 8 MiB on 2 disks of qtest"), "{text}");
    assert!(last.contains("compared with the image files"), "{text}");
}

#[test]
fn a_users_image_is_written_read_and_verified_through_qemu() {
    if !qemu() {
        return;
    }
    let folder = Folder::new();
    let disk = folder.disk("disk.img");
    let data: Vec<u8> = (0..300 * 512u32).map(|at| (at % 253) as u8).collect();
    let input = folder.file("in.bin", &data);
    let on = ["--bus", "qtest", "--disk", &disk, "--lba", "11"];
    let run = |rest: &[&str]| mptctl(&[rest, &on].concat());
    assert_eq!(run(&["write", "--in", &input]).code, Some(1), "not without --yes");
    run(&["write", "--in", &input, "--yes"]).good();
    assert_eq!(std::fs::read(&disk).expect("read")[11 * 512..311 * 512], data);
    run(&["verify", "--in", &input]).good();
    assert_eq!(run(&["read", "--blocks", "300", "--out", "-"]).good().stdout, data);
    let past = run(&["read", "--blocks", "2048"]);
    assert!(past.stderr.contains("the last one is 2047"), "{}", past.stderr);
}

#[test]
fn ctrl_c_in_a_terminal_leaves_qemu_time_to_flush() {
    if !qemu() {
        return;
    }
    let folder = Folder::new();
    let disk = folder.disk("disk.img");
    let arguments = ["perf", "--bus", "qtest", "--disk", &disk, "--read", "0", "--time", "600"];
    // A group of its own, as a shell with job control gives it.
    let child = command(&[&arguments[..], &["--yes"]].concat())
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    std::thread::sleep(Duration::from_millis(1500));
    let group = rustix::process::Pid::from_raw(child.id() as i32).expect("a process id");
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).expect("sent");
    let ran = common::Ran::from(child.wait_with_output().expect("ends"));
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    assert!(ran.stderr.contains("interrupted; what was under way was completed and flushed"));
    assert!(std::fs::read(&disk).expect("read").iter().any(|byte| *byte != 0));
}

#[test]
fn every_other_command_works_on_qemu() {
    if !qemu() {
        return;
    }
    for arguments in [
        &["list"][..],
        &["show"],
        &["show", "--target", "1"],
        &["flush"],
        &["scsi", "inq"],
        &["scsi", "vpd", "0x80"],
        &["scsi", "capacity"],
        &["scsi", "luns"],
        &["scsi", "raw", "000000000000"],
        &["trace"],
        &["perf", "--count", "500", "--depth", "64", "--read", "50"],
    ] {
        let ran = mptctl(&[arguments, &["--bus", "qtest", "--json"]].concat()).good();
        ran.json();
    }
    let missing = mptctl(&["show", "--bus", "qtest", "--target", "7"]);
    assert!(missing.stderr.contains("there are 0, 1"), "{}", missing.stderr);
}
