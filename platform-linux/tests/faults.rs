//! `mptctl` when things go wrong: the demonstration with faults, and commands that survive one.

mod common;

use common::{Folder, Ran, mptctl};
use serde_json::Value;

const BUSES: [&str; 4] = ["mock:sas1068", "mock:sas2008", "mock:sas3008", "mock:sas3816"];

/// The document of a demonstration that lost nothing.
fn demo(bus: &str, seed: u64) -> Value {
    let seed = seed.to_string();
    let arguments = ["demo", "--bus", bus, "--faults", &seed, "--megabytes", "1", "--json"];
    mptctl(&arguments).good().json()
}

/// Asserts that its sums are right.
#[track_caller]
fn adds_up(demo: &Value) {
    let number = |pointer: &str| {
        demo.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {demo}"))
    };
    assert_eq!(demo["nothing_lost"], true, "{demo}");
    assert_eq!(demo["lost"], Value::Array(Vec::new()));
    assert_eq!(demo["virtual_time"], true);
    assert_eq!(number("/commands/accepted"), number("/commands/completed"));
    assert_eq!((number("/commands/missing"), number("/commands/uncalled_for")), (0, 0));
    let outcomes = demo["commands"]["outcomes"].as_object().expect("outcomes");
    let sum: u64 = outcomes.values().filter_map(Value::as_u64).sum();
    assert_eq!(sum, number("/commands/completed"), "{demo}");
    if demo["ending"] == "works" {
        assert_eq!(number("/pool/free"), number("/pool/slots"));
        assert_eq!(number("/blocks_verified"), number("/blocks_written"));
        assert_eq!(number("/blocks_in_images"), number("/blocks_written"));
        // Each of the work's commands ended well once; the rest was sent again.
        assert!(number("/sent_again") >= number("/recovery/sent_again"), "{demo}");
    }
    for row in demo["happened"].as_array().expect("rows") {
        assert!(row["fault"].is_string() != row["driver"].is_string(), "{row}");
        assert!(row["at_ms"].as_f64().is_some_and(|at| at >= 0.0), "{row}");
    }
}

/// Whether a row of this fault or deed is in the story.
fn tells(demo: &Value, name: &str) -> bool {
    let rows = demo["happened"].as_array().expect("rows");
    rows.iter().any(|row| row["fault"] == name || row["driver"] == name)
}

#[test]
fn the_demo_with_faults_loses_nothing_on_any_chip() {
    for bus in BUSES {
        for seed in [5, 7, 17] {
            let demo = demo(bus, seed);
            adds_up(&demo);
            assert_eq!(demo["ending"], "works", "{bus} {seed}: {demo}");
            assert_eq!(demo["plan"].as_array().map(Vec::len), Some(5));
        }
    }
}

#[test]
fn a_lost_reply_is_noticed_and_its_command_done_again() {
    // Seed 30 loses a reply, among others; what notices it first differs.
    for bus in BUSES {
        let demo = demo(bus, 30);
        adds_up(&demo);
        assert!(tells(&demo, "drop-reply"), "{bus}: {demo}");
        assert!(tells(&demo, "late") || tells(&demo, "controller-reset"), "{bus}: {demo}");
    }
}

#[test]
fn a_torn_descriptor_is_waited_for() {
    for bus in BUSES {
        let demo = demo(bus, 13);
        adds_up(&demo);
        assert!(tells(&demo, "torn-descriptor"), "{bus}: {demo}");
    }
}

#[test]
fn a_firmware_that_stops_is_reset_and_its_commands_are_sent_again() {
    for bus in BUSES {
        let demo = demo(bus, 36);
        adds_up(&demo);
        assert!(tells(&demo, "fault-state") && tells(&demo, "controller-reset"), "{bus}: {demo}");
        assert!(demo["recovery"]["sent_again"].as_u64().is_some_and(|count| count > 0));
    }
}

#[test]
fn a_card_that_is_pulled_ends_every_command_and_loses_nothing_that_was_flushed() {
    for bus in BUSES {
        let demo = demo(bus, 18);
        adds_up(&demo);
        assert_eq!(demo["ending"], "gone", "{bus}: {demo}");
        assert!(tells(&demo, "all-ones") && tells(&demo, "controller-gone"));
    }
    let text = mptctl(&["demo", "--faults", "18"]).good().text();
    assert!(text.contains("the controller is gone; every command completed"), "{text}");
}

#[test]
fn the_same_seed_tells_the_same_story_and_another_seed_another() {
    for bus in ["mock:sas1068", "mock:sas3816"] {
        let tell = |seed| mptctl(&["demo", "--bus", bus, "--faults", seed]).good().text();
        let story = tell("7");
        assert_eq!(story, tell("7"), "{bus}");
        assert_ne!(story, tell("8"), "{bus}");
    }
}

#[test]
fn the_story_is_told_plan_first_and_ends_with_the_sums() {
    let text = mptctl(&["demo", "--faults", "7"]).good().text();
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("no {words} in {text}"));
    assert!(at("Faults of seed 7, in virtual time") < at("What happened"));
    assert!(at("What happened") < at("How the commands ended"));
    assert!(at("recovered after, ms") < at("driver"));
    let last = text.lines().last().expect("a last line");
    for words in ["commands accepted", "completed, each once", "blocks written and verified"] {
        assert!(last.contains(words), "{last}");
    }
    assert!(last.ends_with("nothing lost; the pool of 256 slots is full again"), "{last}");
}

#[test]
fn without_a_seed_one_is_chosen_and_printed() {
    let text = mptctl(&["demo", "--faults", "--megabytes", "1"]).good().text();
    let seed = text.split("Faults of seed ").nth(1).and_then(|rest| rest.split(',').next());
    let seed: u64 = seed.expect("it is printed").parse().expect("a number");
    assert!(text.contains(&format!("--faults {seed} shows the same again")), "{text}");
}

#[test]
fn bad_seeds_and_buses_without_faults_are_refused_with_a_sentence() {
    for (seed, words) in [
        ("seven", "\"seven\" is no seed"),
        ("-1", "-1"),
        ("18446744073709551616", "is no seed"),
        ("7.5", "say a number from 0 to 18446744073709551615"),
    ] {
        let ran = mptctl(&["demo", &format!("--faults={seed}")]);
        assert_eq!(ran.code, Some(2), "{seed}");
        assert!(ran.stderr.contains(words), "{seed}: {}", ran.stderr);
    }
    let qtest = mptctl(&["demo", "--faults", "7", "--bus", "qtest"]);
    assert_eq!(qtest.code, Some(2));
    assert!(qtest.stderr.contains("QEMU's") && qtest.stderr.contains("mock:sas3008"));
    let unknown = mptctl(&["read", "--fault", "drop-everything"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("drop-reply"), "{}", unknown.stderr);
}

/// Runs a command with a fault around the controller.
fn with_fault(bus: &str, fault: &str, arguments: &[&str]) -> Ran {
    mptctl(&[arguments, &["--bus", bus, "--fault", fault]].concat())
}

#[test]
fn a_write_that_a_reset_comes_in_between_is_whole_in_the_image() {
    let folder = Folder::new();
    let data: Vec<u8> = (0..6000 * 512u32).map(|at| (at % 251) as u8).collect();
    let input = folder.file("in.bin", &data);
    for bus in BUSES {
        for fault in ["fault-state@7", "silent-bus-reset@6", "stopped-firmware@7", "drop-reply@7"] {
            let disk = folder.file("disk.img", &vec![0; 4 << 20]);
            let write = ["write", "--in", &input, "--disk", &disk, "--yes", "--json"];
            let written = with_fault(bus, fault, &write).good().json();
            assert_eq!(written["blocks"], 6000);
            let again = written["recovery"]["sent_again"].as_u64();
            assert_eq!(again, Some(1), "{bus} {fault}: {written}");
            assert_eq!(std::fs::read(&disk).expect("read")[..data.len()], data, "{bus} {fault}");
        }
    }
}

#[test]
fn a_load_that_a_reset_comes_in_between_does_all_its_commands() {
    for bus in BUSES {
        let load = ["perf", "--count", "400", "--depth", "16", "--read", "50"];
        let ran = with_fault(bus, "fault-state@200", &[&load[..], &["--json"]].concat()).good();
        let perf = ran.json();
        assert_eq!(perf["commands"], 400, "{perf}");
        assert_eq!(perf["recovery"]["controller_resets"], 1, "{perf}");
        let again = perf["recovery"]["sent_again"].as_u64().expect("a number");
        assert!((1..=16).contains(&again), "{perf}");
        assert!(ran.stderr.contains("had to be reset: its firmware stopped with fault 0x2100"));
        let text = with_fault(bus, "fault-state@200", &load).good().text();
        assert!(text.contains("survived: 1 controller reset, "), "{text}");
    }
}

#[test]
fn a_command_has_the_time_that_its_user_gives_it() {
    for (timeout, late_after) in [("3", 2.0), ("60", 50.0)] {
        let read = ["read", "--blocks", "4", "--timeout", timeout, "--json", "--trace"];
        let ran = with_fault("mock:sas3008", "drop-reply@6", &read).good();
        assert_eq!(ran.json()["recovery"]["aborts"], 1, "{}", ran.text());
        let abort = ran.stderr.lines().find(|line| line.contains("abort task")).expect("one");
        let at: f64 = abort.split_whitespace().next().expect("a time").parse().expect("seconds");
        assert!((late_after..late_after + 1.5).contains(&at), "{timeout}: {abort}");
    }
    for wrong in ["0", "-3", "soon", "86401"] {
        assert_eq!(mptctl(&["read", &format!("--timeout={wrong}")]).code, Some(2), "{wrong}");
    }
}

#[test]
fn a_command_that_nobody_knows_is_not_sent_twice() {
    let raw = ["scsi", "raw", "00", "00", "00", "00", "00", "00"];
    let ran = with_fault("mock:sas3008", "drop-reply@3", &raw);
    assert_eq!(ran.code, Some(1), "{}", ran.text());
    assert!(ran.stderr.contains("it was not sent again"), "{}", ran.stderr);
    let ran = with_fault("mock:sas3008", "drop-reply@3", &[&raw[..], &["--json"]].concat());
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.json()["recovery"]["sent_again"], 0);
    // What this program sends of its own may run twice, and does.
    let inquiry = with_fault("mock:sas3008", "drop-reply@3", &["scsi", "luns", "--json"]);
    assert_eq!(inquiry.good().json()["luns"][0], "0000000000000000");
}

#[test]
fn a_card_that_is_pulled_ends_a_command_with_a_sentence_and_what_was_not_flushed() {
    for bus in BUSES {
        let load = ["perf", "--count", "400", "--depth", "8", "--read", "0"];
        let ran = with_fault(bus, "all-ones@100", &load);
        assert_eq!(ran.code, Some(1), "{bus}: {}", ran.text());
        assert!(ran.stderr.contains("the controller is gone"), "{bus}: {}", ran.stderr);
        assert!(ran.stderr.contains("target 0 was not flushed"), "{bus}: {}", ran.stderr);
        let read = with_fault(bus, "all-ones@6", &["read", "--blocks", "100"]);
        assert_eq!(read.code, Some(1), "{bus}: {}", read.text());
        assert!(!read.stderr.contains("flushed"), "{bus}: {}", read.stderr);
    }
}

#[test]
fn the_new_options_are_in_help_completions_and_manual_pages() {
    let help = mptctl(&["demo", "--help"]).good().text();
    assert!(
        help.contains("--faults [<SEED>]") && help.contains("mptctl demo --faults 7"),
        "{help}"
    );
    for command in ["read", "write", "verify", "flush", "perf"] {
        assert!(mptctl(&[command, "--help"]).good().text().contains("--timeout <SECONDS>"));
    }
    let script = mptctl(&["completions", "bash"]).good().text();
    assert!(script.contains("--faults") && script.contains("--timeout"));
    let folder = Folder::new();
    mptctl(&["man", &folder.name("man")]).good();
    let page = |name: &str| std::fs::read_to_string(folder.path("man").join(name)).expect("a page");
    assert!(page("mptctl-demo.1").contains("faults"));
    assert!(page("mptctl-perf.1").contains("timeout"));
}
