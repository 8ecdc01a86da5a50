//! `mptctl show`, `events`, `smart`, `scsi ata` and `metrics` on the software controllers.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Folder, command, mptctl};
use serde_json::Value;

const BUSES: [&str; 4] = ["mock:sas1068", "mock:sas2008", "mock:sas3008", "mock:sas3816"];

fn on<'a>(bus: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [rest, &["--bus", bus]].concat()
}

#[test]
fn a_controller_is_shown_with_board_phys_enclosure_and_devices() {
    for bus in BUSES {
        let show = mptctl(&on(bus, &["show", "--json"])).good().json();
        assert_eq!(show["command"], "show");
        assert_eq!(show["board"]["tracer"], "SP21012345");
        assert_eq!(show["board"]["sas_address"], "500605b001234560");
        let phys = show["phys"].as_array().expect("phys");
        assert_eq!(phys[0]["errors"]["invalid_dwords"], 0);
        assert_eq!(phys[1]["attached_sas_address"], "5000c50000001101");
        assert_eq!(show["enclosures"][0]["logical_id"], "500605b001234560");
        let devices = show["devices"].as_array().expect("devices");
        assert_eq!(devices.len(), 2);
        assert_eq!(devices[1]["state"], "ready");
        assert_eq!(devices[1]["wwn"], "5000c50000001001");
        assert!(show["facts"].as_array().is_some_and(|facts| facts.len() > 20));
        let text = mptctl(&on(bus, &["show"])).good().text();
        for section in ["\nPhys\n", "\nEnclosures\n", "\nDevices\n"] {
            assert!(text.contains(section), "{bus}: {text}");
        }
    }
}

#[test]
fn the_facts_are_shown_field_by_field() {
    let text = mptctl(&["show", "--facts", "--bus", "mock:sas2008"]).good().text();
    assert!(text.contains("RequestCredit") && text.contains("3432"), "{text}");
    let text = mptctl(&["show", "--facts", "--bus", "mock:sas1068"]).good().text();
    assert!(text.contains("GlobalCredits") && text.contains("initiator"), "{text}");
    assert_eq!(mptctl(&["show", "--facts", "--target", "0"]).code, Some(2));
}

#[test]
fn one_target_is_shown_with_its_place_and_state() {
    let text = mptctl(&["show", "--target", "1"]).good().text();
    for part in ["state", "ready", "5000c50000001001", "12 Gbit/s", "slot"] {
        assert!(text.contains(part), "{text}");
    }
    let missing = mptctl(&["show", "--target", "7"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("there are 0, 1"), "{}", missing.stderr);
}

#[test]
fn what_was_told_during_bring_up_is_shown() {
    let seen = mptctl(&["events", "--bus", "mock:sas2008", "--json"]).good().json();
    let events = seen["events"].as_array().expect("events");
    assert!(events.iter().any(|event| event["what"] == "SAS topology change list"));
    let text = mptctl(&["events", "--bus", "mock:sas2008"]).good().text();
    assert_eq!(text.lines().count(), events.len());
    assert!(text.lines().all(|line| line.len() > 30 && &line[23..24] == "Z"), "{text}");
}

#[test]
fn events_are_followed_while_a_disk_goes_and_each_is_an_object() {
    let arguments =
        ["events", "--follow", "--for", "3", "--json", "--fault", "device-pulled", "--quiet"];
    let ran = mptctl(&arguments).good();
    let lines: Vec<Value> =
        ran.text().lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let driver =
        |what: &str| lines.iter().any(|news| news["source"] == "driver" && news["what"] == what);
    assert!(driver("target-gone"), "{lines:#?}");
    assert!(lines.iter().any(|news| news["source"] == "ioc"
        && news["details"].as_str().is_some_and(|text| text.contains("not responding"))));
}

#[test]
fn following_ends_when_nobody_reads_any_more() {
    let mut child = command(&["events", "--follow", "--bus", "mock:sas2008"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut reader = BufReader::new(child.stdout.take().expect("piped"));
    reader.read_line(&mut String::new()).expect("a line");
    drop(reader);
    let started = Instant::now();
    while child.try_wait().expect("waited").is_none() {
        assert!(started.elapsed() < Duration::from_secs(20), "it goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn healthy_disks_are_told_in_a_table_and_in_full() {
    for bus in BUSES {
        let text = mptctl(&on(bus, &["smart"])).good().text();
        assert_eq!(text.matches("passed").count(), 2, "{text}");
        let full = mptctl(&on(bus, &["smart", "--target", "1"])).good().text();
        assert!(full.contains("uncorrected") && full.contains("30 °C"), "{full}");
    }
}

#[test]
fn a_sata_disk_is_asked_by_smart() {
    let folder = Folder::new();
    let disk = folder.disk("d.img") + ",sata";
    for bus in BUSES {
        let arguments = on(bus, &["smart", "--disk", &disk, "--target", "0", "--json"]);
        let smart = mptctl(&arguments).good().json();
        assert_eq!(smart["healthy"], true);
        let report = &smart["targets"][0];
        assert_eq!(
            (report["protocol"].as_str(), report["health"].as_str()),
            (Some("SATA"), Some("passed"))
        );
        let attributes = report["sata"]["attributes"].as_array().expect("attributes");
        assert!(attributes.iter().any(|of| of["name"] == "temperature" && of["raw"] == 30));
    }
    let text = mptctl(&["smart", "--disk", &disk, "--target", "0"]).good().text();
    assert!(text.contains("reallocated sectors") && text.contains("pre-failure"), "{text}");
}

#[test]
fn a_failing_disk_is_told_and_the_exit_code_says_so() {
    let folder = Folder::new();
    for kind in [",failing", ",sata,failing"] {
        let disk = folder.disk("d.img") + kind;
        let ran = mptctl(&["smart", "--disk", &disk, "--json"]);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        let smart = ran.json();
        assert_eq!(smart["healthy"], false);
        assert_eq!(smart["targets"][0]["health"], "failing");
        let text = mptctl(&["smart", "--disk", &disk]);
        assert_eq!(text.code, Some(1));
        assert!(text.text().contains("FAILING"), "{}", text.text());
    }
}

#[test]
fn self_tests_are_begun_for_one_target() {
    let folder = Folder::new();
    for kind in ["", ",sata"] {
        let disk = folder.disk("d.img") + kind;
        for test in ["short", "long", "abort"] {
            let arguments =
                ["smart", "--disk", &disk, "--target", "0", "--self-test", test, "--json"];
            assert_eq!(mptctl(&arguments).good().json()["self_test"], test);
        }
    }
    assert_eq!(mptctl(&["smart", "--self-test", "short"]).code, Some(2));
}

#[test]
fn ata_commands_are_sent_and_their_registers_told() {
    let folder = Folder::new();
    let disk = folder.disk("d.img") + ",sata";
    let ata = |rest: &[&str]| mptctl(&[&["scsi", "ata", "--disk", &disk], rest].concat());
    let identify = ata(&["ec", "--protocol", "pio-in", "--count", "1", "--json"]).good().json();
    assert_eq!(identify["data_hex"].as_str().map(str::len), Some(1024));
    assert_eq!(identify["registers"]["status"], 0x50);
    let status = ata(&["b0", "--features", "0xda", "--lba", "0xc24f00"]).good().text();
    assert!(status.contains("lba 0x0c24f00"), "{status}");
    let aborted = ata(&["ff", "--yes"]);
    assert_eq!(aborted.code, Some(1));
    assert!(aborted.stderr.contains("(ABRT)"), "{}", aborted.stderr);
    let unsure = ata(&["06"]);
    assert_eq!(unsure.code, Some(1));
    assert!(unsure.stderr.contains("--yes"), "{}", unsure.stderr);
    let elsewhere = ata(&["ec", "--protocol", "pio-in", "--count", "1", "--lun", "1"]);
    assert_eq!(elsewhere.code, Some(2));
    assert!(elsewhere.stderr.contains("leave out --lun"), "{}", elsewhere.stderr);
    let sas = mptctl(&["scsi", "ata", "ec", "--protocol", "pio-in", "--count", "1"]);
    assert!(sas.stderr.contains("no SATA disk"), "{}", sas.stderr);
    for wrong in [
        &["zz"][..],
        &["ec", "--protocol", "dma"],
        &["35", "--protocol", "dma-out", "--yes"],
        &["25", "--protocol", "dma-in", "--count", "0", "--extended"],
        &["b0", "--features", "0x10000"],
    ] {
        assert_eq!(ata(wrong).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn qemu_has_sas_disks_in_good_health_only() {
    let folder = Folder::new();
    let disk = folder.disk("d.img") + ",sata";
    let refused = mptctl(&["smart", "--bus", "qtest", "--disk", &disk]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
}

/// The samples of a text in Prometheus' format.
fn sample(text: &str, start: &str) -> Option<f64> {
    text.lines().find(|line| line.starts_with(start))?.rsplit(' ').next()?.parse().ok()
}

#[test]
fn metrics_are_told_once_as_text_document_and_file() {
    let folder = Folder::new();
    for bus in BUSES {
        let text = mptctl(&on(bus, &["metrics"])).good().text();
        let up = format!("fusion_mpt_controller_up{{bus=\"{bus}\"}}");
        assert_eq!(sample(&text, &up), Some(1.0), "{text}");
        let out = folder.name("mpt.prom");
        assert_eq!(mptctl(&on(bus, &["metrics", "--out", &out])).good().text(), "");
        let file = std::fs::read_to_string(&out).expect("written");
        assert_eq!(sample(&file, &up), Some(1.0));
    }
    let document = mptctl(&["metrics", "--json"]).good().json();
    assert_eq!(document["metrics"]["sensors"]["temperatures"]["0"], 30);
    assert_eq!(document["metrics"]["recovery"]["resets"], 0);
    let nowhere = mptctl(&["metrics", "--out", "/nonexistent/x.prom"]);
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.stderr.contains("/nonexistent/x.prom"), "{}", nowhere.stderr);
}

fn get(stream: &mut (impl Read + Write)) -> String {
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

#[test]
fn metrics_are_served_until_the_signal() {
    let folder = Folder::new();
    let socket = folder.name("metrics.sock");
    for place in ["127.0.0.1:0".to_owned(), format!("unix:{socket}")] {
        let mut child = command(&["metrics", "--listen", &place, "--interval", "1", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut reader = BufReader::new(child.stdout.take().expect("piped"));
        let mut document = String::new();
        while !document.ends_with("}\n") {
            assert_ne!(reader.read_line(&mut document).expect("a line"), 0, "{document}");
        }
        let document: Value = serde_json::from_str(&document).expect("a document");
        let listening = document["listening"].as_str().expect("a place");
        let started = Instant::now();
        let answer = loop {
            let answer = match listening.strip_prefix("unix:") {
                Some(path) => get(&mut UnixStream::connect(path).expect("listening")),
                None => get(&mut TcpStream::connect(listening).expect("listening")),
            };
            if answer.starts_with("HTTP/1.1 200") {
                break answer;
            }
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            assert!(started.elapsed() < Duration::from_secs(20), "{answer}");
        };
        assert_eq!(sample(&answer, "fusion_mpt_controller_up"), Some(1.0), "{answer}");
        let pid = child.id().to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("kill").success());
        assert_eq!(child.wait().expect("ends").code(), Some(0));
    }
    assert!(!folder.path("metrics.sock").exists());
    let taken = mptctl(&["metrics", "--listen", "0.0.0.0:0"]);
    assert_eq!(taken.code, Some(2));
    assert!(taken.stderr.contains("127.0.0.1"), "{}", taken.stderr);
}
