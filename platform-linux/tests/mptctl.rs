//! `mptctl` on the software controllers: every command, every kind of bad input.

mod common;

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Folder, command, mptctl};

const BUSES: [&str; 4] = ["mock:sas1068", "mock:sas2008", "mock:sas3008", "mock:sas3816"];

/// Runs something that must fail, and returns its sentence. Nothing may take long to be refused.
fn refused(code: i32, arguments: &[&str]) -> String {
    let started = Instant::now();
    let ran = mptctl(arguments);
    assert_eq!(ran.code, Some(code), "{arguments:?}: {}{}", ran.text(), ran.stderr);
    assert!(started.elapsed() < Duration::from_secs(20), "{arguments:?}");
    assert!(!ran.stderr.trim().is_empty(), "{arguments:?}");
    ran.stderr
}

#[test]
fn every_mock_bus_lists_its_two_disks() {
    for bus in BUSES {
        let list = mptctl(&["list", "--bus", bus, "--json"]).good().json();
        assert_eq!(list["command"], "list");
        let targets = list["targets"].as_array().expect("targets");
        assert_eq!(targets.len(), 2, "{bus}");
        assert_eq!(targets[0]["bytes"], 64 << 20);
        assert_eq!(targets[1]["block_bytes"], 4096);
        assert!(targets[0]["wwn"].as_str().is_some_and(|wwn| wwn.len() == 16));
        assert_eq!(list["controller"]["bus"], bus);
    }
}

#[test]
fn the_list_for_people_lines_up() {
    let text = mptctl(&["list"]).good().text();
    let mut lines = text.lines();
    let heading = lines.next().expect("a heading");
    let column = heading.find("WWN").expect("a column");
    for line in lines {
        assert!(line[column..].starts_with("5000c500"), "{text}");
    }
}

#[test]
fn the_buses_are_listed_without_opening_one() {
    let buses = mptctl(&["list", "--buses", "--json"]).good().json();
    let names: Vec<&str> = buses["buses"]
        .as_array()
        .expect("buses")
        .iter()
        .filter_map(|bus| bus["bus"].as_str())
        .collect();
    assert_eq!(names, [&BUSES[..], &["qtest"]].concat());
}

#[test]
fn a_controller_and_a_target_are_shown() {
    let text = mptctl(&["show"]).good().text();
    assert!(text.contains("SAS3008 on mock:sas3008") && text.contains("16.00.12.00"), "{text}");
    let target = mptctl(&["show", "--target", "1", "--json"]).good().json();
    assert_eq!(target["target"]["block_bytes"], 4096);
}

#[test]
fn the_demo_verifies_its_data_on_every_generation() {
    for bus in BUSES {
        let ran = mptctl(&["demo", "--bus", bus, "--megabytes", "2", "--seconds", "1"]).good();
        let text = ran.text();
        let last = text.lines().last().expect("a last line");
        assert!(last.starts_with("data verified: 4 MiB on 2 disks"), "{text}");
        assert!(last.contains("compared with the image files"), "{text}");
    }
}

#[test]
fn the_demo_gives_its_figures_as_one_document() {
    let arguments = ["demo", "--megabytes", "1", "--seconds", "1", "--json"];
    let demo = mptctl(&arguments).good().json();
    assert_eq!(demo["data_verified"], true);
    assert_eq!(demo["counters"]["lies"], 0);
    assert_eq!(demo["counters"]["submitted"], demo["counters"]["completed"]);
    assert!(demo["benchmark"]["iops"].as_f64().is_some_and(|iops| iops > 0.0));
    assert_eq!(demo["verified"][0]["image_compared"], true);
}

#[test]
fn the_demo_leaves_images_with_data_alone() {
    let folder = Folder::new();
    let mut bytes = vec![0u8; 1 << 20];
    bytes[777_777] = 1;
    let disk = folder.file("data.img", &bytes);
    let sentence = refused(1, &["demo", "--disk", &disk, "--seconds", "1"]);
    assert!(sentence.contains("holds data") && sentence.contains("--yes"), "{sentence}");
    assert_eq!(std::fs::read(&disk).expect("read"), bytes);
    let yes = ["demo", "--disk", &disk, "--seconds", "1", "--megabytes", "1", "--yes"];
    assert!(mptctl(&yes).good().text().contains("data verified"));
    let blank = folder.disk("blank.img");
    mptctl(&["demo", "--disk", &blank, "--seconds", "1", "--megabytes", "1"]).good();
}

#[test]
fn what_is_written_is_in_the_image_and_is_read_and_verified() {
    let folder = Folder::new();
    let disk = folder.disk("disk.img");
    // Longer than one command, and no power of two.
    let data: Vec<u8> = (0..700 * 512u32).map(|at| (at % 251) as u8).collect();
    let input = folder.file("in.bin", &data);
    for bus in BUSES {
        let on = ["--bus", bus, "--disk", &disk, "--lba", "100"];
        let run = |rest: &[&str]| mptctl(&[rest, &on].concat());
        let written = run(&["write", "--in", &input, "--yes", "--json"]).good().json();
        assert_eq!(written["blocks"], 700);
        let image = std::fs::read(&disk).expect("read");
        assert_eq!(image[100 * 512..800 * 512], data);
        let out = folder.name("out.bin");
        run(&["read", "--blocks", "700", "--out", &out]).good();
        assert_eq!(std::fs::read(&out).expect("read"), data);
        run(&["verify", "--in", &input]).good();
        assert_eq!(run(&["read", "--blocks", "700", "--out", "-"]).good().stdout, data);
        run(&["write", "--pattern", "zeros", "--blocks", "700", "--yes"]).good();
        let differs = run(&["verify", "--in", &input]);
        assert_eq!(differs.code, Some(1));
        assert!(differs.stderr.contains("differs at block 100, byte 1"), "{}", differs.stderr);
    }
}

#[test]
fn a_pattern_is_written_and_verified_and_a_flush_goes_through() {
    let folder = Folder::new();
    let disk = folder.disk("disk.img");
    let range = ["--disk", &disk, "--lba", "7", "--blocks", "9"];
    mptctl(&[&["write", "--pattern", "42", "--yes"], &range[..]].concat()).good();
    mptctl(&[&["verify", "--pattern", "42"], &range[..]].concat()).good();
    let other = mptctl(&[&["verify", "--pattern", "43"], &range[..]].concat());
    assert_eq!(other.code, Some(1));
    let flushed = mptctl(&["flush", "--disk", &disk, "--json"]).good().json();
    assert_eq!(flushed["flushed"], true);
}

#[test]
fn standard_input_is_written_too() {
    let folder = Folder::new();
    let disk = folder.disk("disk.img");
    let mut child = command(&["write", "--in", "-", "--disk", &disk, "--yes"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    child.stdin.take().expect("piped").write_all(&[7; 1024]).expect("taken");
    assert!(child.wait().expect("ends").success());
    assert_eq!(std::fs::read(&disk).expect("read")[..1025], [&[7; 1024][..], &[0]].concat());
}

#[test]
fn nothing_is_written_to_a_named_disk_without_yes() {
    let folder = Folder::new();
    let disk = folder.disk("disk.img");
    let input = folder.file("in.bin", &[1; 1024]);
    let sentence = refused(1, &["write", "--disk", &disk, "--in", &input, "--lba", "5"]);
    assert!(sentence.contains("blocks 5 to 6 of target 0"), "{sentence}");
    assert!(sentence.contains("disk.img") && sentence.contains("--yes"), "{sentence}");
    refused(1, &["perf", "--disk", &disk, "--read", "50", "--count", "10"]);
    refused(
        1,
        &[
            "scsi",
            "raw",
            "2a",
            "00",
            "00",
            "00",
            "00",
            "00",
            "00",
            "00",
            "01",
            "00",
            "--out-file",
            &input,
            "--disk",
            &disk,
        ],
    );
    assert!(std::fs::read(&disk).expect("read").iter().all(|byte| *byte == 0));
}

#[test]
fn a_read_only_image_stays_as_it_is() {
    let folder = Folder::new();
    let disk = folder.disk("disk.img");
    let mut permissions = std::fs::metadata(&disk).expect("there").permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&disk, permissions).expect("set");
    let write = ["write", "--disk", &disk, "--pattern", "1", "--blocks", "4", "--yes"];
    let sentence = refused(1, &write);
    assert!(sentence.contains("DATA PROTECT"), "{sentence}");
    mptctl(&["read", "--disk", &disk]).good();
}

#[test]
fn a_hex_dump_and_its_document_hold_the_same() {
    let folder = Folder::new();
    let mut bytes = vec![0u8; 1 << 20];
    bytes[..4].copy_from_slice(b"MPT!");
    let disk = folder.file("disk.img", &bytes);
    let text = mptctl(&["read", "--disk", &disk]).good().text();
    assert!(text.starts_with("00000000  4d 50 54 21 00") && text.contains("MPT!...."), "{text}");
    let json = mptctl(&["read", "--disk", &disk, "--json"]).good().json();
    assert!(json["data_hex"].as_str().is_some_and(|hex| hex.starts_with("4d50542100")));
}

#[test]
fn perf_counts_what_it_was_asked_to() {
    for bus in BUSES {
        let perf = mptctl(&[
            "perf", "--bus", bus, "--count", "2000", "--depth", "16", "--read", "70", "--json",
        ])
        .good()
        .json();
        assert_eq!(perf["commands"], 2000, "{perf}");
        assert_eq!(
            perf["reads"].as_u64().zip(perf["writes"].as_u64()).map(|(r, w)| r + w),
            Some(2000)
        );
        assert!(perf["outstanding_peak"].as_u64().is_some_and(|peak| peak <= 16));
        assert!(perf["latency_us"]["p99"].as_f64() >= perf["latency_us"]["p50"].as_f64());
        let writes = perf["register_writes_per_io"].as_f64().expect("a number");
        assert!((1.0..2.1).contains(&writes), "{writes}");
        if bus != "mock:sas1068" {
            // A look at the doorbell each second is all.
            assert!(perf["register_reads_per_io"].as_f64().is_some_and(|reads| reads < 0.05));
        }
    }
}

#[test]
fn perf_takes_more_depth_than_the_controller_and_goes_round_in_order() {
    let perf = mptctl(&[
        "perf",
        "--bus",
        "mock:sas1068",
        "--depth",
        "500",
        "--count",
        "3000",
        "--pattern",
        "sequential",
        "--block-size",
        "64k",
        "--json",
    ])
    .good()
    .json();
    assert_eq!(perf["commands"], 3000);
    assert_eq!(perf["order"], "sequential");
    assert!(perf["outstanding_peak"].as_u64().is_some_and(|peak| peak <= 128), "{perf}");
}

#[test]
fn scsi_commands_tell_what_the_disk_says() {
    let inquiry = mptctl(&["scsi", "inq", "--json"]).good().json();
    assert_eq!(inquiry["device_type_name"], "disk");
    assert!(mptctl(&["scsi", "inq"]).good().text().contains("vendor"));
    let pages = mptctl(&["scsi", "vpd", "--json"]).good().json();
    assert!(pages["pages"].as_array().is_some_and(|pages| pages.contains(&0x83.into())));
    assert!(mptctl(&["scsi", "vpd", "0x83"]).good().text().contains("device identification"));
    let capacity = mptctl(&["scsi", "capacity", "--json"]).good().json();
    assert_eq!(capacity["bytes"], 64 << 20);
    assert_eq!(capacity["physical_block_bytes"], 4096);
    let luns = mptctl(&["scsi", "luns", "--json"]).good().json();
    assert_eq!(luns["luns"][0], "0000000000000000");
    let raw = mptctl(&["scsi", "raw", "120000002400", "--in-bytes", "36", "--json"]).good().json();
    assert_eq!(raw["transferred"], 36);
    assert_eq!(raw["good"], true);
}

#[test]
fn a_raw_command_that_the_disk_refuses_shows_its_sense() {
    let bad = ["scsi", "raw", "28", "00", "ff", "ff", "ff", "fe", "00", "00", "01", "00"];
    let arguments = [&bad[..], &["--in-bytes", "512"]].concat();
    let sentence = refused(1, &arguments);
    assert!(sentence.contains("ILLEGAL REQUEST"), "{sentence}");
    let ran = mptctl(&[&arguments[..], &["--json"]].concat());
    assert_eq!(ran.code, Some(1));
    let json = ran.json();
    assert_eq!((json["good"].as_bool(), json["sense_key"].as_u64()), (Some(false), Some(5)));
}

#[test]
fn a_trace_tells_requests_replies_and_sense_in_words() {
    for bus in BUSES {
        let text = mptctl(&["trace", "--bus", bus, "--blocks", "4"]).good().text();
        for words in [
            "-> smid",
            "config SAS device page 0",
            "READ (10) lba 0 blocks 4, 2048 bytes in",
            "SYNCHRONIZE CACHE (10)",
            "UNIT ATTENTION",
            "success",
        ] {
            assert!(text.contains(words), "{bus}: no {words} in\n{text}");
        }
    }
    let json = mptctl(&["trace", "--json"]).good().json();
    assert!(json["lines"].as_array().is_some_and(|lines| lines.len() > 20));
    let other = mptctl(&["flush", "--trace"]).good();
    assert!(other.stderr.contains("SYNCHRONIZE CACHE"), "{}", other.stderr);
}

#[test]
fn completions_and_manual_pages_are_made() {
    let script = mptctl(&["completions", "bash"]).good().text();
    assert!(script.contains("_mptctl"));
    let folder = Folder::new();
    mptctl(&["man", &folder.name("man")]).good();
    for page in ["mptctl.1", "mptctl-demo.1", "mptctl-scsi-raw.1"] {
        assert!(folder.path("man").join(page).exists(), "{page}");
    }
}

#[test]
fn every_help_has_examples() {
    for command in [
        &["--help"][..],
        &["demo", "--help"],
        &["list", "--help"],
        &["show", "--help"],
        &["read", "--help"],
        &["write", "--help"],
        &["flush", "--help"],
        &["verify", "--help"],
        &["perf", "--help"],
        &["trace", "--help"],
        &["bind", "--help"],
        &["unbind", "--help"],
        &["status", "--help"],
        &["scsi", "raw", "--help"],
        &["completions", "--help"],
        &["man", "--help"],
    ] {
        let text = mptctl(command).good().text();
        assert!(text.contains("Examples:"), "{command:?}");
    }
}

#[test]
fn wrong_buses_are_answered_with_the_right_ones() {
    let unknown = refused(2, &["list", "--bus", "mock:sas9999"]);
    assert!(unknown.contains("there is no bus") && unknown.contains("mock:sas2008"), "{unknown}");
    assert!(refused(2, &["list", "--bus", "mock:sas3108"]).contains("MegaRAID"));
    // No machine has a bus of that number.
    assert!(refused(1, &["list", "--bus", "ffff:ff:1f.7"]).contains("ffff:ff:1f.7"));
    let ran = mptctl(&["list", "--bus", "nothing", "--json"]);
    assert_eq!(ran.json()["exit_code"], 2);
}

#[test]
fn bad_input_is_refused_with_a_sentence_and_before_anything_is_done() {
    let folder = Folder::new();
    let disk = folder.disk("disk.img");
    let odd = folder.file("odd.bin", &[1; 700]);
    let empty = folder.file("empty.bin", &[]);
    let short = folder.file("short.img", &[1; 700]);
    let missing = folder.name("missing.bin");
    let directory = folder.name("");
    let big = folder.file("big.bin", &vec![1; (1 << 20) + 512]);
    let cases: &[(i32, &[&str], &str)] = &[
        (1, &["show", "--target", "9"], "there is no target 9 on mock:sas3008; there are 0, 1"),
        (1, &["read", "--target", "2"], "there is no target 2"),
        (1, &["read", "--lun", "3"], "LUN"),
        (1, &["read", "--disk", &disk, "--lba", "2048"], "the last one is 2047"),
        (1, &["read", "--disk", &disk, "--lba", "2047", "--blocks", "2"], "the last one is 2047"),
        (1, &["read", "--lba", "18446744073709551615", "--blocks", "2"], "the last one is"),
        (1, &["read", "--blocks", "18446744073709551615"], "the last one is"),
        (2, &["read", "--blocks", "0"], "nothing to read"),
        (2, &["read", "--blocks", "100000"], "--out FILE"),
        (2, &["read", "--out", "-", "--json"], "both want standard output"),
        (2, &["read", "--lba", "-1"], "--lba"),
        (1, &["read", "--out", &format!("{missing}/x")], "cannot create"),
        (1, &["write", "--disk", &disk, "--in", &odd, "--yes"], "cut or extend it to 1024"),
        (1, &["write", "--disk", &disk, "--in", &empty, "--yes"], "is empty"),
        (1, &["write", "--disk", &disk, "--in", &missing, "--yes"], "cannot read"),
        (1, &["write", "--disk", &disk, "--in", &directory, "--yes"], "not a regular file"),
        (1, &["write", "--disk", &disk, "--in", &big, "--yes"], "the last one is 2047"),
        (2, &["write", "--disk", &disk, "--yes"], "--in"),
        (2, &["write", "--pattern", "zeros"], "--blocks"),
        (2, &["write", "--pattern", "stripes", "--blocks", "1"], "no pattern"),
        (2, &["verify", "--pattern", "1", "--blocks", "0"], "nothing to do"),
        (1, &["list", "--disk", &missing], "truncate -s"),
        (1, &["list", "--disk", &short], "not a whole number of 512-byte blocks"),
        (1, &["list", "--disk", &empty], "is empty"),
        (1, &["list", "--disk", &directory], "not a regular file"),
        (2, &["list", "--disk", &disk, "--disk", &disk], "given twice"),
        (2, &["perf", "--block-size", "700"], "not a multiple of the 512-byte blocks"),
        (2, &["perf", "--block-size", "2m"], "from 512 bytes to 1m"),
        (2, &["perf", "--depth", "4096", "--block-size", "1m"], "smaller --depth"),
        (2, &["perf", "--read", "101"], "101"),
        (2, &["perf", "--time", "1", "--count", "1"], "--count"),
        (2, &["scsi", "raw", "12", "00"], "have 6"),
        (2, &["scsi", "raw", "xy"], "hex"),
        (2, &["scsi", "vpd", "300"], "page"),
        (1, &["scsi", "vpd", "0x55"], "ILLEGAL REQUEST"),
        (2, &["frobnicate"], "frobnicate"),
        (2, &[], "Usage"),
    ];
    for (code, arguments, words) in cases {
        let sentence = refused(*code, arguments);
        assert!(
            sentence.to_lowercase().contains(&words.to_lowercase()),
            "{arguments:?}: no \"{words}\" in: {sentence}"
        );
    }
    assert!(std::fs::read(&disk).expect("read").iter().all(|byte| *byte == 0));
}

#[test]
fn a_failure_is_a_document_too() {
    let ran = mptctl(&["show", "--target", "9", "--json"]);
    assert_eq!(ran.code, Some(1));
    let json = ran.json();
    assert_eq!(json["exit_code"], 1);
    assert!(json["error"].as_str().is_some_and(|error| error.contains("no target 9")), "{json}");
}

#[test]
fn an_interrupt_ends_a_long_run_in_order() {
    let folder = Folder::new();
    let disk = folder.disk("disk.img");
    for arguments in [
        &["perf", "--time", "600"][..],
        &["perf", "--time", "600", "--read", "0", "--disk", &disk, "--yes", "--json"],
        &["demo", "--seconds", "600"],
    ] {
        let child = command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        std::thread::sleep(Duration::from_millis(1500));
        let process = rustix::process::Pid::from_raw(child.id() as i32).expect("a process id");
        rustix::process::kill_process(process, rustix::process::Signal::INT).expect("sent");
        let asked = Instant::now();
        let ran = common::Ran::from(child.wait_with_output().expect("ends"));
        assert_eq!(ran.code, Some(130), "{}", ran.stderr);
        assert!(asked.elapsed() < Duration::from_secs(15));
        assert!(ran.stderr.contains("interrupted"), "{}", ran.stderr);
    }
}

#[test]
fn several_queues_share_a_load_and_each_has_a_thread() {
    let run = |bus: &str, more: &[&str]| {
        let mut arguments = vec!["perf", "--bus", bus, "--count", "4000", "--depth", "8", "--json"];
        arguments.extend(more);
        mptctl(&arguments).good().json()
    };
    let four = run("mock:sas3008", &["--queues", "4", "--read", "50"]);
    assert_eq!(four["queues"], 4);
    assert_eq!(four["commands"], 4000);
    // MPI 1.x has one reply queue, whatever is asked for.
    let one = run("mock:sas1068", &["--queues", "4", "--pin", "0"]);
    assert_eq!((one["queues"].as_u64(), one["commands"].as_u64()), (Some(1), Some(4000)));
    assert!(refused(2, &["perf", "--pin", "0-x"]).contains("is no CPU"));
}
