//! The control socket on a bus in this process.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::in_process::{MockBus, Options};
use crate::model::{Chip, disks};

struct Setup {
    folder: TempDir,
    panel: Arc<Panel<MockBus>>,
    server: Option<Server>,
}

impl Setup {
    fn new(chip: Chip, count: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bus = MockBus::new(Options::threaded(chip, disks(count, 1 << 20)));
        let panel = Arc::new(Panel::new(bus));
        let server = Server::start(&folder.path().join("s"), Arc::clone(&panel)).expect("starts");
        Self { folder, panel, server: Some(server) }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket()).expect("it listens")
    }

    fn file(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::File::create(&path).expect("made").set_len(bytes).expect("sized");
        path
    }

    fn done(&self, request: Request) -> String {
        match self.panel.apply(&request) {
            Reply::Done(sentence) => sentence,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    fn refused(&self, request: Request) -> String {
        match self.panel.apply(&request) {
            Reply::Refused(sentence) => sentence,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    fn status(&self) -> Status {
        match self.panel.apply(&Request::Status {}) {
            Reply::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a line and returns the answer to it.
    fn raw(&self, line: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.socket()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        // An overlong line may be refused before all of it was sent.
        let _ = stream.write_all(line);
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("an answer");
        answer
    }
}

fn on_file(path: &Path) -> DiskSpec {
    DiskSpec::new(Medium::File { path: path.into(), create: None })
}

#[test]
fn every_request_goes_over_the_wire_and_comes_out_as_it_was() {
    let disk = on_file(Path::new("/d"));
    let memory = DiskSpec {
        slot: Some(3),
        wwn: Some(7),
        sata: true,
        ..DiskSpec::new(Medium::Memory { bytes: 1 << 42 })
    };
    let requests = [
        Request::Status {},
        Request::Complaints { clear: true },
        Request::AddDisk { disk: memory },
        Request::RemoveDisk { slot: 1 },
        Request::SwapDisk { slot: 1, disk },
        Request::GrowDisk { slot: 1, bytes: u64::MAX },
        Request::Sense { slot: 0, key: 3, asc: 0x11, ascq: 0, count: 2 },
        Request::ScsiStatus { slot: 0, status: 8, count: 1 },
        Request::MediumError { slot: 0, lba: 1, blocks: 2 },
        Request::Ready { slot: 0, ready: false },
        Request::SlowDown { slot: None, ns: 5 },
        Request::Hold { on: true },
        Request::DropReplies { count: 1, any: true },
        Request::Fault { code: 0x2622 },
        Request::CoreDump { code: 1, ms: 2 },
        Request::StopAnswering { on: true },
        Request::Yank { on: false },
        Request::ZeroReads { count: 3 },
        Request::FillLog { count: 1, qualifier: 2, acknowledge: true },
        Request::Event { code: 0x16, data: vec![1, 2], acknowledge: false },
        Request::PowerCut { keep_percent: 50, seed: 9 },
        Request::CreateVolume {
            level: Level::Raid1e,
            slots: vec![0, 1, 2],
            disk: on_file(Path::new("/v")),
        },
        Request::DeleteVolume { handle: 9 },
        Request::Member { slot: 1, state: Member::Rebuilding },
        Request::Smart { slot: 0, asc: 0x5d, ascq: 0 },
        Request::Flush {},
    ];
    for request in requests {
        let line = serde_json::to_string(&request).expect("JSON");
        assert!(!line.contains('\n') && line.starts_with("{\"knob\":\""), "{line}");
        assert_eq!(serde_json::from_str::<Request>(&line).expect("back"), request);
    }
    let short: Request = serde_json::from_str(
        r#"{"knob":"add-disk","disk":{"medium":{"memory":{"bytes":1048576}}}}"#,
    )
    .expect("what is left out is as usual");
    let usual = DiskSpec::new(Medium::Memory { bytes: 1 << 20 });
    assert_eq!(short, Request::AddDisk { disk: usual });
    assert!(serde_json::from_str::<Request>(r#"{"knob":"fault","code":1,"cod":2}"#).is_err());
}

#[test]
fn a_client_asks_and_several_may_at_once() {
    let setup = Setup::new(Chip::SAS3008, 2);
    let mut first = setup.client();
    let mut second = setup.client();
    for client in [&mut first, &mut second, &mut setup.client()] {
        let Ok(Reply::Status(status)) = client.ask(&Request::Status {}) else {
            panic!("no status")
        };
        assert_eq!(
            (status.chip.as_str(), status.disks.len(), status.slots.len()),
            ("sas3008", 2, 8)
        );
    }
    let fault = Request::Fault { code: 0x2622 };
    assert!(matches!(first.ask(&fault), Ok(Reply::Done(_))));
    let Ok(Reply::Status(status)) = second.ask(&Request::Status {}) else { panic!("no status") };
    assert_eq!((status.state, status.code), (IocState::Fault, Some(0x2622)));
}

#[test]
fn whatever_is_no_request_is_refused_in_a_sentence() {
    let setup = Setup::new(Chip::SAS2008, 0);
    for line in [
        &b"hello\n"[..],
        b"{}\n",
        b"[1,2]\n",
        b"{\"knob\":\"explode\"}\n",
        b"{\"knob\":\"fault\"}\n",
        b"{\"knob\":\"fault\",\"code\":65536}\n",
        b"\xff\xfe\n",
        b"{\"knob\":\"status\"} {}\n",
    ] {
        let answer = setup.raw(line);
        assert!(answer.starts_with("{\"refused\":"), "{answer}");
    }
    let long = vec![b'x'; 200 << 10];
    assert!(setup.raw(&long).contains("longer than"));
    let deep = [vec![b'['; 60_000], b"\n".to_vec()].concat();
    assert!(setup.raw(&deep).contains("refused"));
    assert!(setup.raw(b"\n{\"knob\":\"flush\"}\n").contains("done"), "an empty line is no request");
    let _: Status = setup.status();
}

#[test]
fn the_socket_is_the_users_own_and_goes_with_its_server() {
    let mut setup = Setup::new(Chip::SAS2008, 0);
    let path = setup.socket();
    let mode = std::fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let idle = setup.client();
    drop(setup.server.take());
    assert!(!path.exists());
    drop(idle);
    assert!(Client::connect(&path).expect_err("gone").to_string().contains("--control"));
}

#[test]
fn a_socket_in_use_and_a_file_are_left_alone_and_a_stale_socket_is_replaced() {
    let setup = Setup::new(Chip::SAS2008, 0);
    let again = OwnSocket::listen(&setup.socket()).expect_err("in use").to_string();
    assert!(again.contains("another program listens"), "{again}");
    assert!(setup.socket().exists());
    let file = setup.file("file", 3);
    let refused = OwnSocket::listen(&file).expect_err("a file").to_string();
    assert!(refused.contains("not a socket") && file.exists(), "{refused}");
    let stale = setup.folder.path().join("stale");
    drop(UnixListener::bind(&stale).expect("bound"));
    assert!(stale.exists());
    let (_listener, own) = OwnSocket::listen(&stale).expect("replaced");
    std::fs::remove_file(own.path()).expect("removed");
    let other = UnixListener::bind(&stale).expect("somebody else's now");
    drop(own);
    assert!(stale.exists(), "only its own is removed");
    drop(other);
    let folder = setup.folder.path().join("no/such");
    assert!(OwnSocket::listen(&folder).expect_err("no folder").to_string().contains("folder"));
    let long = setup.folder.path().join("x".repeat(200));
    assert!(OwnSocket::listen(&long).expect_err("too long").to_string().contains("shorter"));
}

#[test]
fn disks_come_and_go_by_slot_and_name() {
    let setup = Setup::new(Chip::SAS1068, 1);
    let path = setup.file("disk", 1 << 20);
    assert_eq!(setup.panel.add_disk(&on_file(&path)), Ok(1));
    let twice = setup.panel.add_disk(&on_file(&path)).expect_err("twice");
    assert!(twice.contains("slot 1 already"), "{twice}");
    let taken = DiskSpec { slot: Some(0), ..DiskSpec::new(Medium::Memory { bytes: 1 << 20 }) };
    assert!(setup.panel.add_disk(&taken).expect_err("taken").contains("slot 0 is taken"));
    let beyond = DiskSpec { slot: Some(8), ..taken.clone() };
    assert!(setup.panel.add_disk(&beyond).expect_err("beyond").contains("no slot 8"));
    let status = setup.status();
    assert!(status.disks[1].medium.ends_with("/disk"), "{status:?}");
    assert_eq!(status.disks[1].bytes, 1 << 20);
    let named =
        DiskSpec { wwn: Some(0x5000_1234_5678_9abc), slot: None, block_bytes: 4096, ..taken };
    setup.done(Request::SwapDisk { slot: 1, disk: named });
    let status = setup.status();
    assert_eq!(status.disks[1].wwn, "5000123456789abc");
    assert_eq!((status.disks[1].block_bytes, status.disks[1].medium.as_str()), (4096, "memory"));
    setup.done(Request::RemoveDisk { slot: 1 });
    assert!(setup.refused(Request::RemoveDisk { slot: 1 }).contains("no disk in slot 1"));
    assert_eq!(setup.panel.add_disk(&on_file(&path)), Ok(1), "its file is free again");
    setup.done(Request::GrowDisk { slot: 1, bytes: 2 << 20 });
    assert_eq!(std::fs::metadata(&path).expect("there").len(), 2 << 20);
    assert!(setup.refused(Request::GrowDisk { slot: 1, bytes: 1 }).contains("shrink"));
    while setup.panel.add_disk(&DiskSpec::new(Medium::Memory { bytes: 1 << 20 })).is_ok() {}
    assert_eq!(setup.status().disks.len(), 8);
}

#[test]
fn files_that_cannot_be_disks_are_refused_in_a_sentence() {
    let setup = Setup::new(Chip::SAS2008, 0);
    let refusal = |disk: &DiskSpec| setup.panel.add_disk(disk).expect_err("refused");
    let missing = setup.folder.path().join("missing");
    assert!(refusal(&on_file(&missing)).contains("truncate -s"));
    assert!(refusal(&on_file(setup.folder.path())).contains("is a folder"));
    assert!(refusal(&on_file(&setup.socket())).contains("no regular file"));
    assert!(refusal(&on_file(&setup.file("small", 4096))).contains("too small"));
    assert!(refusal(&on_file(&setup.file("odd", (1 << 20) + 1))).contains("512-byte blocks"));
    let odd = DiskSpec { block_bytes: 4096, ..on_file(&setup.file("half", (1 << 20) + 512)) };
    assert!(refusal(&odd).contains("4096-byte blocks"));
    assert!(refusal(&DiskSpec { block_bytes: 1000, ..odd }).contains("512 or 4096"));
    let made = DiskSpec::new(Medium::File { path: missing.clone(), create: Some(3 << 20) });
    assert_eq!(setup.panel.add_disk(&made), Ok(0));
    assert_eq!(std::fs::metadata(&missing).expect("made").len(), 3 << 20);
    setup.done(Request::RemoveDisk { slot: 0 });
    let other = DiskSpec::new(Medium::File { path: missing.clone(), create: Some(4 << 20) });
    assert!(refusal(&other).contains("already"));
    let held = disk_spec_lock(&missing);
    assert!(refusal(&made).contains("in use by another program"));
    drop(held);
    assert_eq!(setup.panel.add_disk(&made), Ok(0));
}

#[test]
fn two_disks_of_one_name_are_refused_and_nothing_is_made_for_the_second() {
    let setup = Setup::new(Chip::SAS2008, 0);
    let wwn = Some(0x5000_1234_5678_9abc);
    let memory = DiskSpec { wwn, ..DiskSpec::new(Medium::Memory { bytes: 1 << 20 }) };
    assert_eq!(setup.panel.add_disk(&memory), Ok(0));
    let path = setup.folder.path().join("new");
    let file = Medium::File { path: path.clone(), create: Some(1 << 20) };
    let second = DiskSpec { wwn, ..DiskSpec::new(file) };
    let refusal = setup.panel.add_disk(&second).expect_err("one name");
    assert!(refusal.contains("5000123456789abc") && refusal.contains("slot 0"), "{refusal}");
    assert!(!path.exists());
    assert_eq!(setup.panel.add_disk(&DiskSpec { wwn: None, ..second.clone() }), Ok(1));
    assert!(setup.refused(Request::SwapDisk { slot: 1, disk: memory.clone() }).contains("slot 0"));
    // A disk comes back as itself.
    setup.done(Request::SwapDisk { slot: 0, disk: memory.clone() });
    // A new file by the name of one that is still plugged in would get the same name.
    std::fs::remove_file(&path).expect("removed");
    setup.file("new", 1 << 20);
    assert!(setup.panel.add_disk(&on_file(&path)).expect_err("one name").contains("slot 1"));
    setup.done(Request::RemoveDisk { slot: 0 });
    setup.done(Request::RemoveDisk { slot: 1 });
    setup.panel.add_disk(&DiskSpec::new(Medium::Memory { bytes: 1 << 20 })).expect("a member");
    setup.panel.add_disk(&DiskSpec::new(Medium::Memory { bytes: 1 << 20 })).expect("a member");
    setup.done(Request::CreateVolume {
        level: Level::Raid1,
        slots: vec![0, 1],
        disk: memory.clone(),
    });
    assert!(setup.refused(Request::AddDisk { disk: memory }).contains("of volume"));
}

/// What another emulator does to a file that it uses.
fn disk_spec_lock(path: &Path) -> std::fs::File {
    let file = std::fs::File::open(path).expect("there");
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("free");
    file
}

#[test]
fn a_disk_that_loses_its_power_or_is_pulled_loses_what_was_not_flushed() {
    let setup = Setup::new(Chip::SAS3816, 0);
    let path = setup.file("disk", 1 << 20);
    setup.panel.add_disk(&on_file(&path)).expect("added");
    let write = |byte: u8| {
        setup.panel.controlled().with_model(|model| {
            let disk = model.device(0).expect("there").target.disk_mut();
            disk.write(0, &[byte; 4096]).expect("written");
        });
    };
    let first = || std::fs::read(&path).expect("read")[0];
    write(1);
    assert_eq!(setup.status().disks[0].dirty_bytes, 4096);
    setup.done(Request::Flush {});
    write(2);
    assert_eq!(first(), 2, "the file always has the newest bytes");
    assert!(setup.done(Request::PowerCut { keep_percent: 0, seed: 0 }).contains("4096 bytes"));
    assert_eq!(first(), 1);
    write(3);
    setup.done(Request::PowerCut { keep_percent: 100, seed: 0 });
    assert_eq!(first(), 3, "the drive had written it by itself");
    write(4);
    assert!(setup.done(Request::RemoveDisk { slot: 0 }).contains("4096 unflushed bytes"));
    assert_eq!(first(), 3);
}

#[test]
fn files_that_go_behind_their_disks_backs_are_told_of_once() {
    let setup = Setup::new(Chip::SAS2008, 0);
    let path = setup.file("disk", 1 << 20);
    setup.panel.add_disk(&on_file(&path)).expect("added");
    assert_eq!(setup.panel.news(), [""; 0]);
    std::fs::OpenOptions::new().write(true).open(&path).expect("open").set_len(8192).expect("cut");
    let news = setup.panel.news();
    assert!(news.len() == 1 && news[0].contains("was cut"), "{news:?}");
    assert_eq!(setup.panel.news(), [""; 0]);
    std::fs::remove_file(&path).expect("removed");
    assert!(setup.panel.news()[0].contains("was deleted"));
    setup.file("disk", 1 << 20);
    assert!(setup.panel.news()[0].contains("took the place"));
}

#[test]
fn complaints_are_listed_told_once_and_forgotten() {
    let setup = Setup::new(Chip::SAS2008, 0);
    let complain = || {
        setup.panel.controlled().with_model(|model| {
            use crate::model::Ioc;
            model.write32(8, 4);
        });
    };
    complain();
    assert_eq!(setup.panel.news().len(), 1);
    assert_eq!(setup.panel.news().len(), 0);
    let Reply::Complaints(all) = setup.panel.apply(&Request::Complaints { clear: true }) else {
        panic!("no complaints");
    };
    assert_eq!(all.len(), 1);
    complain();
    assert_eq!(setup.panel.news().len(), 1, "told of after they were cleared");
}

#[test]
fn knobs_with_values_that_cannot_be_say_so() {
    let setup = Setup::new(Chip::SAS1068, 1);
    assert!(setup.refused(Request::CoreDump { code: 1, ms: 1 }).contains("MPI 2"));
    let sense = Request::Sense { slot: 0, key: 9, asc: 0, ascq: 0, count: 1 };
    assert!(setup.refused(sense).contains("sense key"));
    let status = Request::ScsiStatus { slot: 0, status: 2, count: 1 };
    assert!(setup.refused(status).contains("knob sense"));
    let blocks = Request::MediumError { slot: 0, lba: u64::MAX, blocks: 2 };
    assert!(setup.refused(blocks).contains("2048"));
    assert!(setup.refused(Request::Ready { slot: 5, ready: true }).contains("slot 5"));
    let slow = Request::SlowDown { slot: Some(9), ns: 1 };
    assert!(setup.refused(slow).contains("slot 9"));
    let log = Request::FillLog { count: u16::MAX, qualifier: 0, acknowledge: false };
    assert!(setup.refused(log).contains("too many"));
    let event = Request::Event { code: 1, data: vec![0; 101], acknowledge: false };
    assert!(setup.refused(event).contains("do not fit"));
    let cut = Request::PowerCut { keep_percent: 101, seed: 0 };
    assert!(setup.refused(cut).contains("0 to 100"));
}

#[test]
fn the_knobs_turn_and_the_status_shows_it() {
    let setup = Setup::new(Chip::SAS3008, 2);
    setup.done(Request::SlowDown { slot: None, ns: 7 });
    setup.done(Request::SlowDown { slot: Some(1), ns: 9 });
    setup.done(Request::Hold { on: true });
    setup.done(Request::StopAnswering { on: true });
    setup.done(Request::Yank { on: true });
    setup.done(Request::CoreDump { code: 0xbeef, ms: 1000 });
    let status = setup.status();
    assert_eq!((status.delay_ns, status.disks[1].delay_ns), (7, Some(9)));
    assert!(status.holding && status.stopped && status.yanked);
    assert_eq!((status.state, status.code), (IocState::CoreDump, Some(0xbeef)));
    for request in [
        Request::Sense { slot: 0, key: 3, asc: 0x11, ascq: 0, count: 1 },
        Request::ScsiStatus { slot: 0, status: 8, count: 1 },
        Request::MediumError { slot: 0, lba: 1, blocks: 2 },
        Request::Ready { slot: 0, ready: false },
        Request::DropReplies { count: 1, any: false },
        Request::DropReplies { count: 1, any: true },
        Request::ZeroReads { count: 1 },
        Request::FillLog { count: 3, qualifier: 1, acknowledge: false },
        Request::Event { code: 0x16, data: vec![], acknowledge: false },
    ] {
        setup.done(request);
    }
}

#[test]
fn volumes_are_made_fail_and_are_unmade() {
    let setup = Setup::new(Chip::SAS2008, 2);
    let disk = DiskSpec::new(Medium::Memory { bytes: 1 << 20 });
    let volume =
        |slots: Vec<u8>| Request::CreateVolume { level: Level::Raid1, slots, disk: disk.clone() };
    assert!(setup.refused(volume(vec![0])).contains("not made"));
    setup.done(volume(vec![0, 1]));
    let status = setup.status();
    assert_eq!((status.volumes.len(), status.volumes[0].state.as_str()), (1, "optimal"));
    setup.done(Request::Member { slot: 1, state: Member::Failed });
    assert_eq!(setup.status().volumes[0].state, "degraded");
    assert!(setup.refused(Request::Member { slot: 5, state: Member::Failed }).contains("slot 5"));
    let well = Request::Smart { slot: 0, asc: 0, ascq: 0 };
    let predicts = setup.done(Request::Smart { slot: 0, asc: 0x5d, ascq: 0 });
    assert!(predicts.contains("predicts its failure"), "{predicts}");
    assert!(setup.done(well).contains("no longer"));
    setup.done(Request::PowerCut { keep_percent: 0, seed: 0 });
    setup.done(Request::Flush {});
    let handle = status.volumes[0].handle;
    setup.done(Request::DeleteVolume { handle });
    assert!(setup.refused(Request::DeleteVolume { handle }).contains("no volume"));
    let old = Setup::new(Chip::SAS1068, 2);
    assert!(old.refused(volume(vec![0, 1])).contains("RAID"));
    assert!(old.refused(Request::Smart { slot: 0, asc: 0x5d, ascq: 0 }).contains("MPI 2"));
}
