//! `mptctl emulate` and `mptctl knob`: what they refuse, what they say, and what they leave behind.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use common::emulator::Emulator;
use common::{Folder, Ran, mptctl};
use serde_json::Value;

fn refused(code: i32, arguments: &[&str]) -> String {
    let ran = mptctl(arguments);
    assert_eq!(ran.code, Some(code), "{arguments:?}: {}{}", ran.text(), ran.stderr);
    assert!(ran.text().is_empty(), "{arguments:?}: {}", ran.text());
    ran.stderr
}

/// Turns a knob.
fn knob(control: &str, arguments: &[&str]) -> Ran {
    mptctl(&[&["knob", "--control", control], arguments].concat())
}

fn status(control: &str) -> Value {
    knob(control, &["status", "--json"]).good().json()["status"].clone()
}

#[test]
fn one_line_says_that_it_is_ready_and_how_to_start_qemu() {
    let folder = Folder::new();
    let (socket, disk) = (folder.name("card"), folder.disk("d.img"));
    let mut chips = ["sas1068", "sas2008", "sas3008", "sas3816"].into_iter();
    for chip in chips.by_ref().take(3) {
        let emulator = Emulator::start(&["--chip", chip, "--disk", &disk, "--socket", &socket]);
        let ready = emulator.ready.clone();
        assert!(ready.contains(chip) && ready.contains("1 disk;"), "{ready}");
        assert!(ready.contains("share=on") && ready.contains(&format!("\"path\":\"{socket}\"")));
        assert!(std::fs::metadata(&socket).is_ok());
        let said = emulator.stop();
        assert!(said.contains("stopped: disks flushed"), "{said}");
        assert!(std::fs::metadata(&socket).is_err(), "its socket is gone");
    }
    let chip = chips.next().expect("one more");
    let emulator =
        Emulator::start(&["--chip", chip, "--socket", &socket, "--memory-disk", "3T", "--json"]);
    let ready: Value = serde_json::from_str(&emulator.ready).expect("JSON on a line");
    assert_eq!((ready["event"].as_str(), ready["chip"].as_str()), (Some("ready"), Some(chip)));
    assert_eq!(ready["qemu"][6], "-device");
}

#[test]
fn what_cannot_be_emulated_is_refused_with_a_sentence() {
    let folder = Folder::new();
    let socket = folder.name("card");
    let disk = folder.disk("d.img");
    let on = |rest: &[&str]| {
        [&["emulate", "--chip", "sas2008", "--socket", &socket], rest]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let run = |code, rest: &[&str]| {
        let arguments = on(rest);
        refused(code, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let chip = refused(2, &["emulate", "--chip", "sas9999", "--socket", &socket]);
    assert!(chip.contains("sas1068, sas2008, sas3008, sas3816"), "{chip}");
    assert!(refused(2, &["emulate", "--chip", "sas2008"]).contains("--socket"));
    assert!(run(1, &["--disk", &folder.name("none.img")]).contains("truncate -s"));
    assert!(run(1, &["--disk", &folder.name("")]).contains("is a folder"));
    let small = folder.file("small.img", &[0; 1000]);
    assert!(run(1, &["--disk", &small]).contains("too small"));
    let odd = folder.file("odd.img", &vec![0; (1 << 20) + 512]);
    assert!(run(1, &["--disk", &format!("{odd},block=4096")]).contains("4096-byte blocks"));
    assert!(run(1, &["--disk", &disk, "--disk", &disk]).contains("already"));
    let slot = format!("{disk},slot=1");
    assert!(run(1, &["--memory-disk", "1M,slot=1", "--disk", &slot]).contains("slot 1 is taken"));
    assert!(run(1, &["--memory-disk", "1M,slot=8"]).contains("no slot 8"));
    let named = ["--memory-disk", "1M,wwn=5000c50012345678"].repeat(2);
    assert!(run(1, &named).contains("world wide name 5000c50012345678"));
    assert!(run(2, &["--memory-disk", "8E"]).contains("less than 8 EiB"));
    let many = ["--memory-disk", "1M"].repeat(9);
    assert!(run(1, &many).contains("all 8 slots"));
    assert!(run(2, &["--memory-disk", "lots"]).contains("not a size"));
    assert!(run(2, &["--disk", &format!("{disk},colour=red")]).contains("colour"));
    assert!(run(2, &["--memory-disk", "1M", "--control", &socket]).contains("same path"));
    assert!(std::fs::metadata(&socket).is_err(), "nothing is left");
}

#[test]
fn a_disk_that_the_file_system_does_not_take_leaves_no_file_and_says_what_it_does_take() {
    let folder = Folder::new();
    let disk = folder.name("new.img");
    // A limit of 2048 blocks of 512 bytes, whatever file system the tests run on.
    let script = "ulimit -f 2048; trap '' XFSZ; exec \"$@\"";
    let ran: Ran = std::process::Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_mptctl"), "emulate", "--chip", "sas2008"])
        .args(["--socket", &folder.name("card"), "--disk", &format!("{disk},size=9T")])
        .output()
        .expect("sh starts")
        .into();
    assert_eq!(ran.code, Some(1), "{}{}", ran.text(), ran.stderr);
    let sentence = ran.stderr;
    assert!(sentence.contains("can have 1048576 bytes at most"), "{sentence}");
    assert!(std::fs::metadata(&disk).is_err(), "nothing is left");
}

#[test]
fn sockets_in_use_and_other_files_are_left_alone_and_stale_ones_replaced() {
    let folder = Folder::new();
    let file = folder.file("file", b"precious");
    let memory = ["emulate", "--chip", "sas3008", "--memory-disk", "1M"];
    let with = |rest: &[&str]| refused(1, &[&memory, rest].concat());
    let (socket, control) = (folder.name("card"), folder.name("knobs"));
    with(&["--socket", &file]);
    assert!(with(&["--socket", &socket, "--control", &file]).contains("not a socket"));
    assert_eq!(std::fs::read(&file).expect("there"), b"precious");
    assert!(std::fs::metadata(&socket).is_err(), "what was made is removed");
    drop(UnixListener::bind(&socket).expect("bound"));
    drop(UnixListener::bind(&control).expect("bound"));
    let arguments = [&memory[1..], &["--socket", &socket, "--control", &control]].concat();
    let emulator = Emulator::start(&arguments);
    with(&["--socket", &socket]);
    with(&["--socket", &folder.name("other"), "--control", &control]);
    let mode = std::fs::metadata(&control).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(status(&control)["chip"], "sas3008", "it goes on");
    emulator.stop();
    assert!(std::fs::metadata(&control).is_err());
}

#[test]
fn knobs_are_turned_and_the_status_shows_it() {
    let folder = Folder::new();
    let (socket, control) = (folder.name("card"), folder.name("knobs"));
    let disk = folder.disk("d.img");
    let _emulator = Emulator::start(&[
        "--chip",
        "sas3816",
        "--socket",
        &socket,
        "--control",
        &control,
        "--disk",
        &format!("{disk},wwn=5000c50012345678,cache=off,rotation=7200,sata"),
        "--memory-disk",
        "3T,block=4096,slot=5",
    ]);
    let before = status(&control);
    assert_eq!(
        (&before["state"], &before["disks"][0]["wwn"]),
        (&"ready".into(), &"5000c50012345678".into())
    );
    assert_eq!(
        (&before["disks"][1]["slot"], &before["disks"][1]["bytes"]),
        (&5.into(), &(3u64 << 40).into())
    );
    let turn = |arguments: &[&str]| knob(&control, arguments).good().text();
    let new = folder.name("new,1.img");
    turn(&["add-disk", &format!("{},size=2M,slot=3", new.replace(',', ",,"))]);
    assert_eq!(std::fs::metadata(&new).expect("made").len(), 2 << 20);
    turn(&["grow-disk", "3", "4M"]);
    turn(&["swap-disk", "5", "--memory", "1G,sata"]);
    turn(&["sense", "0", "3/11/00", "--count", "2"]);
    turn(&["scsi-status", "0", "busy"]);
    turn(&["medium-error", "0", "100", "--blocks", "8"]);
    turn(&["not-ready", "0"]);
    turn(&["ready", "0"]);
    turn(&["slow-down", "20ms"]);
    turn(&["slow-down", "1s", "--slot", "3"]);
    turn(&["hold"]);
    turn(&["release"]);
    turn(&["drop-replies"]);
    turn(&["drop-replies", "2", "--any"]);
    turn(&["zero-reads", "3"]);
    turn(&["fill-log", "10", "--acknowledge"]);
    turn(&["event", "0x16", "01", "ff"]);
    turn(&["stop-answering"]);
    turn(&["yank"]);
    turn(&["flush"]);
    turn(&["fault", "0x1234"]);
    let text = turn(&["status"]);
    assert!(
        text.contains("FAULT 0x1234, yanked, not answering") && text.contains("20ms"),
        "{text}"
    );
    let after = status(&control);
    assert_eq!(
        (&after["disks"][1]["bytes"], &after["disks"][1]["delay_ns"]),
        (&(4 << 20).into(), &1_000_000_000u64.into())
    );
    assert_eq!(
        (&after["disks"][2]["medium"], &after["disks"][2]["sata"]),
        (&"memory".into(), &true.into())
    );
    turn(&["put-back"]);
    turn(&["resume"]);
    assert!(turn(&["power-cut", "--keep", "50"]).contains("the power was cut"));
    assert_ne!(status(&control)["state"], "fault");
    turn(&["coredump", "0x5678", "--for", "1s"]);
    assert_eq!(status(&control)["code"], 0x5678);
    assert_eq!(turn(&["complaints", "--clear"]), "no complaints\n");
    assert_eq!(
        knob(&control, &["complaints", "--json"]).good().json()["complaints"],
        serde_json::json!([])
    );
    turn(&["remove-disk", "3"]);
    for wrong in [
        &["remove-disk", "3"][..],
        &["add-disk", &disk],
        &["add-disk", "no-such.img"],
        &["grow-disk", "0", "1K"],
        &["medium-error", "0", "99999999"],
    ] {
        let ran = knob(&control, wrong);
        assert_eq!(ran.code, Some(1), "{wrong:?}: {}", ran.text());
        assert!(ran.stderr.starts_with("mptctl: "), "{}", ran.stderr);
    }
}

#[test]
fn an_expander_gives_more_slots_and_disks_make_a_volume() {
    let folder = Folder::new();
    let (socket, control) = (folder.name("card"), folder.name("knobs"));
    let memory = ["--memory-disk", "1M"].repeat(12);
    let on = ["--chip", "sas3008", "--socket", &socket, "--control", &control, "--expander", "24"];
    let emulator = Emulator::start(&[&on[..], &memory].concat());
    let before = status(&control);
    assert_eq!(before["disks"].as_array().map(Vec::len), Some(12));
    assert_eq!(before["disks"][4]["slot"], 8, "four phys lead to the expander");
    let volume = ["create-volume", "raid1", "0,1", "--memory", "1M"];
    let said = knob(&control, &volume).good().text();
    knob(&control, &["member", "1", "failed"]).good();
    knob(&control, &["smart", "2"]).good();
    assert!(knob(&control, &["status"]).good().text().contains("degraded"));
    let handle = said.trim().rsplit(' ').next().expect("a handle");
    knob(&control, &["delete-volume", handle]).good();
    assert_eq!(knob(&control, &["create-volume", "raid7", "0,1", "x"]).code, Some(2));
    emulator.stop();
}

#[test]
fn a_knob_of_nobody_is_refused() {
    let folder = Folder::new();
    let none = folder.name("none");
    let sentence = refused(1, &["knob", "--control", &none, "status"]);
    assert!(sentence.contains("--control"), "{sentence}");
    assert!(sentence.contains("there is no such file"), "{sentence}");
    let file = folder.file("file", b"precious");
    let sentence = refused(1, &["knob", "--control", &file, "status"]);
    assert!(sentence.contains("it is no socket") && !sentence.contains("gone"), "{sentence}");
    assert!(refused(2, &["knob", "status"]).contains("--control"));
    for wrong in [
        &["knob", "--control", &none, "sense", "0", "3/11"][..],
        &["knob", "--control", &none, "slow-down", "5"],
        &["knob", "--control", &none, "fault", "65536"],
        &["knob", "--control", &none, "power-cut", "--keep", "101"],
        &["knob", "--control", &none, "explode"],
        &["knob", "--control", &none],
    ] {
        refused(2, wrong);
    }
    let json = mptctl(&["knob", "--control", &none, "status", "--json"]);
    assert_eq!(json.json()["exit_code"], 1);
}

#[test]
fn a_knob_at_qemus_socket_is_told_that_it_is_the_wrong_one() {
    let folder = Folder::new();
    let (socket, control) = (folder.name("card"), folder.name("knobs"));
    let emulator =
        Emulator::start(&["--chip", "sas3008", "--socket", &socket, "--control", &control]);
    let sentence = refused(1, &["knob", "--control", &socket, "status"]);
    assert!(sentence.contains("was given as --socket"), "{sentence}");
    assert_eq!(status(&control)["chip"], "sas3008");
    emulator.stop();
}

#[test]
fn a_disk_in_use_a_read_only_one_and_one_that_vanishes_are_told_of() {
    let folder = Folder::new();
    let (disk, kept) = (folder.disk("d.img"), folder.disk("kept.img"));
    std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o444)).expect("set");
    let socket = folder.name("card");
    let asked = format!("{},read-only", folder.disk("asked.img"));
    let disks = ["--disk", &disk, "--disk", &kept, "--disk", &asked];
    let emulator =
        Emulator::start(&[&["--chip", "sas1068", "--socket", &socket], &disks[..]].concat());
    let other = folder.name("other");
    let twice = refused(1, &["emulate", "--chip", "sas1068", "--socket", &other, "--disk", &disk]);
    assert!(twice.contains("in use by another program"), "{twice}");
    std::fs::remove_file(&disk).expect("removed");
    std::thread::sleep(Duration::from_millis(1500));
    let said = emulator.stop();
    assert!(said.contains("kept.img is read-only"), "{said}");
    assert!(!said.contains("asked.img"), "nobody is told what they asked for: {said}");
    assert!(said.matches("was deleted").count() == 1, "{said}");
}

#[test]
fn a_killed_emulator_leaves_a_file_and_a_socket_that_the_next_one_takes() {
    let folder = Folder::new();
    let (socket, control) = (folder.name("card"), folder.name("knobs"));
    let disk = folder.file("d.img", &vec![7; 1 << 20]);
    let arguments =
        ["--chip", "sas3008", "--socket", &socket, "--control", &control, "--disk", &disk];
    let mut emulator = Emulator::start(&arguments);
    emulator.signal("-KILL");
    assert_eq!(emulator.end().0, None);
    assert!(std::fs::metadata(&socket).is_ok() && std::fs::metadata(&control).is_ok());
    assert!(refused(1, &["knob", "--control", &control, "status"]).contains("is gone"));
    let emulator = Emulator::start(&arguments);
    assert_eq!(status(&control)["disks"][0]["medium"], disk.as_str());
    emulator.stop();
    assert_eq!(std::fs::read(&disk).expect("there"), vec![7; 1 << 20]);
}

#[test]
fn a_client_that_does_nothing_keeps_nobody_from_ending() {
    let folder = Folder::new();
    let socket = folder.name("card");
    let emulator = Emulator::start(&["--chip", "sas3008", "--socket", &socket]);
    let idle = UnixStream::connect(&socket).expect("it listens");
    std::thread::sleep(Duration::from_millis(300));
    emulator.signal("-TERM");
    let said = emulator.stop_signalled();
    assert!(said.contains("a virtual machine connected"), "{said}");
    assert!(std::fs::metadata(&socket).is_err());
    drop(idle);
}

#[test]
fn both_helps_have_examples_and_every_knob_has_one() {
    let emulate = mptctl(&["emulate", "--help"]).good().text();
    assert!(emulate.contains("Examples:") && emulate.contains("cache=on|off"), "{emulate}");
    assert!(mptctl(&["knob", "--help"]).good().text().contains("Examples:"));
    assert!(emulate.contains("--disk <FILE[,OPTION]...>"), "{emulate}");
    let knob = mptctl(&["knob", "--help"]).good().text();
    let sense = mptctl(&["knob", "sense", "--help"]).good().text();
    for help in [&emulate, &knob, &sense] {
        for other in ["--bus", "--trace", "temporary disks"] {
            assert!(!help.contains(other), "{other} does nothing there: {help}");
        }
    }
    assert!(!knob.contains("--disk <") && !sense.contains("--disk <"), "{knob}{sense}");
}

#[test]
fn options_for_a_bus_are_refused_where_there_is_none() {
    for wrong in [
        &["emulate", "--chip", "sas2008", "--socket", "s", "--trace"][..],
        &["--bus", "qtest", "emulate", "--chip", "sas2008", "--socket", "s"],
        &["knob", "--control", "k", "status", "--bus", "mock:sas2008"],
        &["knob", "--control", "k", "--disk", "d.img", "status"],
        &["--disk", "d.img", "knob", "--control", "k", "status"],
    ] {
        let sentence = refused(2, wrong);
        assert!(sentence.contains("takes no --"), "{wrong:?}: {sentence}");
    }
}
