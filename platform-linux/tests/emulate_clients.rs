//! `mptctl emulate` and its clients: garbage at its socket, clients that vanish, and a signal while
//! a driver is at work.

#![cfg(target_os = "linux")]

mod common;
#[path = "../../platform-mock/tests/common/mod.rs"]
mod driver;
#[path = "../../platform-mock/tests/vfio/mod.rs"]
mod vfio;

use std::io::Read;
use std::path::Path;

use common::emulator::Emulator;
use common::{Folder, mptctl};
use driver::{Random, Rig};
use fusion_mpt::generation::Mpi2;
use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Direction;
use vfio::guest::Guest;
use vfio::raw::{REGION_READ, Raw, access, header, message, version};

/// A running emulator of a SAS3008 with a disk on a file; ended with the test, however that ends.
struct Card {
    emulator: Emulator,
    socket: String,
    control: String,
    disk: String,
    _folder: Folder,
}

impl Card {
    fn start() -> Self {
        let folder = Folder::new();
        let (socket, control) = (folder.name("card"), folder.name("knobs"));
        let disk = folder.file("d.img", &vec![0; 4 << 20]);
        let arguments = ["--socket", &socket, "--control", &control, "--disk", &disk];
        let emulator = Emulator::start(&[&["--chip", "sas3008"], &arguments[..]].concat());
        assert!(emulator.ready.starts_with("ready"), "{}", emulator.ready);
        Self { emulator, socket, control, disk, _folder: folder }
    }

    fn path(&self) -> &Path {
        Path::new(&self.socket)
    }

    /// Tells it to end, which it does well; what it said since it was ready.
    fn stop(&mut self) -> String {
        self.emulator.signal("-TERM");
        let (code, said) = self.emulator.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("stopped: disks flushed, sockets removed"), "{said}");
        assert!(!self.path().exists() && !Path::new(&self.control).exists());
        said
    }
}

/// A driver that finds the disk and reads what it has written.
fn assert_serves(card: &Card) {
    Rig::<_, Mpi2>::new(Guest::at(card.path())).assert_keeps(0, 0, 4096);
}

#[test]
fn garbage_at_the_socket_ends_its_client_and_never_the_emulator() {
    let mut card = Card::start();
    let hello = message(1, &version());
    let with_hello = |bytes: &[u8]| [&hello[..], bytes].concat();
    let mut garbage: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 4096],
        vec![0xff; 4096],
        hello[..10].to_vec(),
        // A version without its NUL, with one inside, and shorter than it can be.
        message(1, b"\0\0\x01\0{\"capabilities\":{}}"),
        message(1, b"\0\0\x01\0{\0}\0"),
        header(1, 16, 0),
        header(1, 19, 0),
        header(1, 3, 0),
        header(1, u32::MAX, 0),
        // 4 GiB to read, to write, and announced.
        with_hello(&message(REGION_READ, &access(0, 7, u32::MAX))),
        with_hello(&message(REGION_READ, &access(0, 1, u32::MAX))),
        with_hello(&message(10, &access(0, 1, u32::MAX))),
        with_hello(&header(10, u32::MAX, 0)),
        with_hello(&message(999, &[0xa5; 300])),
    ];
    let mut random = Random::new(3);
    garbage.extend((0..50).map(|_| {
        let length = random.below(200) as usize;
        random.bytes(length)
    }));
    for bytes in &garbage {
        let mut raw = Raw::connect(card.path());
        raw.try_send(bytes);
        raw.0.shutdown(std::net::Shutdown::Write).expect("half closed");
        // Whatever it answers; in the end it hangs up.
        let mut rest = Vec::new();
        let _ = raw.0.read_to_end(&mut rest);
    }
    assert_serves(&card);
    let said = card.stop();
    assert!(said.contains("where 16 to 1048608 can be"), "{said}");
}

#[test]
fn a_signal_while_commands_are_in_flight_flushes_the_disks_and_removes_the_sockets() {
    let mut card = Card::start();
    let mut rig = Rig::<_, Mpi2>::new(Guest::at(card.path()));
    let device = rig.device(0);
    rig.clear_attention(device);
    let data = rig.data(64 << 10);
    let bytes = Random::new(11).bytes(64 << 10);
    data.write(0, &bytes);
    rig.run_out(device, &Cdb::write(0, 128), &data, 64 << 10).assert_good(64 << 10);
    mptctl(&["knob", "--control", &card.control, "slow-down", "20ms"]).good();
    let segments = [data.segment(0, 64 << 10)];
    for _ in 0..64 {
        let cdb = Cdb::write(4096, 128);
        rig.submit(device, &driver::command(&cdb, Direction::Write, &segments));
    }
    let said = card.stop();
    assert!(said.contains("a virtual machine connected"), "{said}");
    let file = std::fs::read(&card.disk).expect("there");
    assert_eq!(file.len(), 4 << 20);
    assert!(file[..64 << 10] == bytes, "what was acknowledged is not on the disk");
    let late = &file[4096 * 512..][..64 << 10];
    let is_whole = late == bytes || late.iter().all(|byte| *byte == 0);
    assert!(is_whole, "a command in flight is there in part");
    let rest = [&file[64 << 10..4096 * 512], &file[4096 * 512 + (64 << 10)..]].concat();
    assert!(rest.iter().all(|byte| *byte == 0), "written where nobody wrote");
}

#[test]
fn a_client_that_vanishes_with_commands_in_flight_is_told_of_and_the_next_one_is_served() {
    let mut card = Card::start();
    let mut rig = Rig::<_, Mpi2>::new(Guest::at(card.path()));
    let device = rig.device(0);
    rig.clear_attention(device);
    mptctl(&["knob", "--control", &card.control, "slow-down", "5ms"]).good();
    let data = rig.data(4096);
    for block in 0..32 {
        let cdb = Cdb::read(block, 8);
        rig.submit(device, &driver::command(&cdb, Direction::Read, &[data.segment(0, 4096)]));
    }
    drop(rig);
    mptctl(&["knob", "--control", &card.control, "slow-down", "0s"]).good();
    assert_serves(&card);
    let said = card.stop();
    assert_eq!(said.matches("the virtual machine disconnected").count(), 2, "{said}");
}
