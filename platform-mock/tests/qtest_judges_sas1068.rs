//! The same raw messages to QEMU's controller and to our model of the same chip: the answers are
//! compared byte for byte. A stranger judges the model, and no driver is in between.
//!
//! Where the two may differ stands in [`FACTS_OF_OUR_OWN`], [`PAGES_OF_OUR_OWN`] and
//! [`bytes_of_our_own`], each with its reason.

use std::fs::File;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fusion_mpt::mem::Memory;
use fusion_mpt::platform::Registers;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::in_process::{MockBus, Mode, Options};
use fusion_mpt_mock::model::{Chip, disk};
use fusion_mpt_mock::qtest::{Backend, Qtest, QtestDisk, QtestOptions};

const REPLIES: usize = 0x4000;
const SENSE: usize = 0x8000;
const DATA: usize = 0x9000;
const BYTES: usize = 0x1_0000;
const FRAMES: usize = 32;
const DISK: u64 = 1 << 20;
/// The SAS address of the model's disk 0, which QEMU's is given too.
const SAS_ADDRESS: u64 = 0x5000_c500_a1b2_0001;

/// The controller's, which QEMU's is given too.
const CONTROLLER_SAS_ADDRESS: u64 = 0x5006_05b0_0123_4560;
/// A page's room in the host's memory. One byte of it that no page holds tells what was written.
const PAGE: usize = 1024;
const UNTOUCHED: u8 = 0xa5;

const SAS_IO_UNIT: u8 = 0x10;
const SAS_EXPANDER: u8 = 0x11;
const SAS_DEVICE: u8 = 0x12;
const SAS_PHY: u8 = 0x13;
const ENCLOSURE: u8 = 0x15;

/// Facts that are not QEMU's: offset, and what ours are.
const FACTS_OF_OUR_OWN: [(usize, u8); 3] = [
    // HeaderVersion: QEMU's is 0, whose driver expects no events of expanders.
    (0x05, 0x13),
    // IOCCapabilities: mptsas posts on the high priority FIFO whether there is one or not, and
    // never lets go of a disk if there is none.
    (0x34, 0x01),
    // HighPriorityQueueDepth.
    (0x3c, 0x10),
];

/// Page types that a card has and QEMU's device does not know.
const PAGES_OF_OUR_OWN: [u8; 2] = [SAS_EXPANDER, ENCLOSURE];

/// Bytes of a page that may differ: offset and length.
fn bytes_of_our_own(kind: u8, number: u8) -> Vec<(usize, usize)> {
    match (kind, number) {
        // Names of chip and board: QEMU's say "QEMU".
        (0x09, 0) => vec![(4, 72)],
        // A unique value, by which QEMU says "QEMU" again.
        (0x00, 0) => vec![(4, 8)],
        // The card's place on its bus.
        (0x00, 2) => vec![(13, 1)],
        // A phy of the controller is owned by the disk on it, says QEMU; by itself, says a card,
        // whose driver looks there for the parent of a disk that is plugged in.
        (SAS_IO_UNIT, 0) => (0..8).map(|phy| (0x10 + phy * 16 + 10, 2)).collect(),
        (SAS_PHY, 0) => vec![(8, 2)],
        // Slot and enclosure, which QEMU leaves out.
        (SAS_DEVICE, 0) => vec![(8, 4)],
        _ => Vec::new(),
    }
}

/// A host that does everything by hand.
struct Host<B: Bus> {
    bus: B,
    registers: B::Registers,
    memory: Memory<B::Dma>,
    /// Lets the controller work.
    work: fn(&B),
}

impl<B: Bus> Host<B> {
    fn new(bus: B, work: fn(&B)) -> Self {
        let registers = bus.registers();
        let memory = Memory::new(bus.allocate(BYTES, 4096).expect("room"));
        Self { bus, registers, memory, work }
    }

    fn work(&self) {
        (self.work)(&self.bus);
    }

    fn wait(&self, what: &str, mut done: impl FnMut(u32) -> bool) {
        let started = Instant::now();
        while !done(self.registers.read32(0x30)) {
            assert!(started.elapsed() < Duration::from_secs(20), "waiting for {what}");
            self.work();
        }
    }

    fn send(&self, request: &[u8]) {
        self.registers.write32(0x30, 0);
        self.registers.write32(0, 0x42 << 24 | (request.len() as u32 / 4) << 16);
        self.wait("the doorbell", |status| status & 1 != 0);
        self.registers.write32(0x30, 0);
        for word in request.chunks_exact(4) {
            self.wait("a word to be taken", |status| status >> 31 == 0);
            self.registers.write32(0, u32::from_le_bytes(word.try_into().expect("4 bytes")));
        }
    }

    fn handshake(&self, request: &[u8]) -> Vec<u8> {
        self.send(request);
        let mut reply = Vec::new();
        let mut length = 4;
        while reply.len() < length {
            self.wait("a half-word", |status| status & 1 != 0);
            reply.extend((self.registers.read32(0) as u16).to_le_bytes());
            self.registers.write32(0x30, 0);
            if reply.len() == 4 {
                length = usize::from(reply[2]) * 4;
            }
        }
        self.wait("the end", |status| status & 1 != 0);
        self.registers.write32(0x30, 0);
        reply
    }

    /// Brings the IOC up with reply frames of 128 bytes; the replies on the way.
    fn bring_up(&self) -> Vec<Vec<u8>> {
        let mut replies = vec![self.handshake(&[0, 0, 0, 3, 0, 0, 0, 0, 4, 3, 2, 1])];
        for port in 0..9 {
            replies.push(self.handshake(&[0, 0, 0, 5, 0, 0, port, 0, 8, 7, 6, 5]));
        }
        let mut init = [0u8; 0x18];
        init[..12].copy_from_slice(&[4, 0, 0, 2, 0, 8, 1, 0, 1, 0, 0, 0]);
        init[0x0c] = 128;
        let high = self.memory.bus(0).high().to_le_bytes();
        init[0x10..0x14].copy_from_slice(&high);
        init[0x14..0x18].copy_from_slice(&high);
        replies.push(self.handshake(&init));
        for index in 0..FRAMES {
            self.registers.write32(0x44, self.memory.bus(REPLIES + index * 128).low());
        }
        replies.push(self.handshake(&[0, 0, 0, 6, 0, 0, 0, 0, 2, 0, 0, 0]));
        replies.push(self.handshake(&[1, 0, 0, 7, 0, 0, 0, 0, 3, 0, 0, 0]));
        replies
    }

    /// Posts a request and returns its reply: the message, or the context alone.
    fn request(&self, frame: &[u8]) -> Vec<u8> {
        self.memory.copy_in(0, frame);
        self.registers.write32(0x40, self.memory.bus(0).low());
        self.reply()
    }

    fn reply(&self) -> Vec<u8> {
        let started = Instant::now();
        loop {
            let word = self.registers.read32(0x44);
            if word == u32::MAX {
                assert!(started.elapsed() < Duration::from_secs(20), "no reply");
                self.work();
                continue;
            }
            if word >> 31 == 0 {
                return word.to_le_bytes().to_vec();
            }
            let offset = (word << 1).wrapping_sub(self.memory.bus(0).low()) as usize;
            let mut reply = vec![0; 128];
            self.memory.copy_out(offset, &mut reply);
            self.registers.write32(0x44, word << 1);
            reply.truncate(usize::from(reply[2]) * 4);
            return reply;
        }
    }

    fn scsi(&self, address: [u8; 2], cdb: &[u8], control: u8, data: u32, room: u32) -> Vec<u8> {
        let mut frame = [0u8; 0x3c];
        frame[..2].copy_from_slice(&address);
        frame[4] = cdb.len() as u8;
        frame[5] = 64;
        frame[7] = 1;
        frame[8..12].copy_from_slice(&[0x34, 0x12, 0, 0]);
        frame[0x17] = control;
        frame[0x18..0x18 + cdb.len()].copy_from_slice(cdb);
        frame[0x28..0x2c].copy_from_slice(&data.to_le_bytes());
        frame[0x2c..0x30].copy_from_slice(&self.memory.bus(SENSE).low().to_le_bytes());
        let flags: u32 = if control == 1 { 0xd7 } else { 0xd3 };
        frame[0x30..0x34].copy_from_slice(&(flags << 24 | room).to_le_bytes());
        frame[0x34..0x3c].copy_from_slice(&self.memory.bus(DATA).0.to_le_bytes());
        self.request(&frame)
    }

    fn task(&self, address: [u8; 2], kind: u8, lun: u8, task: u8) -> Vec<u8> {
        let mut frame = [0u8; 0x34];
        frame[..2].copy_from_slice(&address);
        frame[3] = 1;
        frame[5] = kind;
        frame[8] = 0x55;
        frame[0x0d] = lun;
        frame[0x30] = task;
        self.request(&frame)
    }

    /// The reply to a configuration page request, and the page.
    fn page(&self, action: u8, kind: u8, number: u8, address: u32) -> (Vec<u8>, Vec<u8>) {
        let mut frame = [0u8; 0x28];
        frame[0] = action;
        frame[3] = 4;
        frame[8] = 0x66;
        frame[0x16] = number;
        if kind > 0x0f {
            frame[6] = kind;
            frame[0x17] = 0x0f;
        } else {
            frame[0x17] = kind;
        }
        frame[0x18..0x1c].copy_from_slice(&address.to_le_bytes());
        frame[0x1c..0x20].copy_from_slice(&(0xd300_0000u32 | 1024).to_le_bytes());
        frame[0x20..0x28].copy_from_slice(&self.memory.bus(DATA).0.to_le_bytes());
        self.memory.fill(DATA, PAGE, UNTOUCHED);
        let reply = self.request(&frame);
        let mut page = vec![0; PAGE];
        self.memory.copy_out(DATA, &mut page);
        (reply, page)
    }
}

/// What it is, to whom, the CDB, the direction (1 write, 2 read), `DataLength`, bytes of the list.
type Case = (&'static str, [u8; 2], &'static [u8], u8, u32, u32);

/// Both hosts, QEMU's first.
fn hosts() -> (Host<Qtest>, Host<MockBus>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options =
        QtestOptions { sas_address: CONTROLLER_SAS_ADDRESS, ..QtestOptions::default() };
    for id in [0, 2] {
        let path = folder.path().join(format!("disk{id}"));
        File::create(&path).and_then(|file| file.set_len(DISK)).expect("an image");
        let mut disk = QtestDisk::new(id, Backend::File(path));
        disk.wwn = SAS_ADDRESS + u64::from(id) * 4;
        options.disks.push(disk);
    }
    let qemu =
        Host::new(Qtest::start(&options).expect("QEMU"), |_| sleep(Duration::from_millis(1)));
    let mut options = Options::stepped(Chip::SAS1068, vec![disk(0, DISK)]);
    options.mode = Mode::AutoStep;
    let bus = MockBus::new(options);
    bus.with_model(|model| model.add_disk(2, disk(2, DISK))).expect("slot 2 is empty");
    (qemu, Host::new(bus, |bus| bus.advance(Duration::from_millis(1))), folder)
}

#[test]
fn bring_up_is_answered_alike() {
    let (qemu, ours, _folder) = hosts();
    let (mut theirs, own) = (qemu.bring_up(), ours.bring_up());
    for (at, value) in FACTS_OF_OUR_OWN {
        assert_eq!((theirs[0][at], own[0][at]), (0, value), "fact at {at:#x}");
        theirs[0][at] = value;
    }
    for (index, (theirs, own)) in theirs.iter().zip(&own).enumerate() {
        assert_eq!(own, theirs, "answer {index}");
    }
}

#[test]
fn scsi_io_and_task_management_are_answered_alike() {
    let (qemu, ours, _folder) = hosts();
    qemu.bring_up();
    ours.bring_up();
    const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0];
    const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 2, 0];
    const BEYOND: [u8; 10] = [0x28, 0, 0x7f, 0, 0, 0, 0, 0, 2, 0];
    const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 36, 0];
    let commands: [Case; 14] = [
        ("test unit ready: an attention", [0, 0], &[0; 6], 0, 0, 0),
        ("test unit ready", [0, 0], &[0; 6], 0, 0, 0),
        ("read", [0, 0], &READ, 2, 1024, 1024),
        ("write", [0, 0], &WRITE, 1, 1024, 1024),
        ("read, more room than data", [0, 0], &READ, 2, 4096, 4096),
        ("read, less room", [0, 0], &READ, 2, 512, 512),
        ("read, the other way", [0, 0], &READ, 1, 1024, 1024),
        ("read, no way", [0, 0], &READ, 0, 1024, 1024),
        ("test unit ready with data", [0, 0], &[0; 6], 2, 512, 512),
        ("read, a short list", [0, 0], &READ, 2, 1024, 512),
        ("read beyond the end", [0, 0], &BEYOND, 2, 1024, 1024),
        ("inquiry", [2, 0], &INQUIRY, 2, 36, 36),
        ("an empty slot", [1, 0], &READ, 2, 1024, 1024),
        ("a target id out of range", [8, 0], &READ, 2, 1024, 1024),
    ];
    for (what, address, cdb, control, data, room) in commands {
        let mut theirs = qemu.scsi(address, cdb, control, data, room);
        let own = ours.scsi(address, cdb, control, data, room);
        if what == "read, more room than data" {
            // QEMU counts the spare room as transferred twice over instead of not at all.
            assert_eq!(own[0x14..0x18], 1024u32.to_le_bytes(), "{what}");
            theirs[0x14..0x18].copy_from_slice(&own[0x14..0x18]);
        }
        assert_eq!(own, theirs, "{what}");
    }
    assert_eq!(ours.scsi([0, 1], &READ, 2, 1024, 1024), qemu.scsi([0, 1], &READ, 2, 1024, 1024));
    for (address, lun) in [([0, 0], 0), ([1, 0], 0), ([9, 0], 0), ([0, 1], 0), ([0, 0], 1)] {
        for kind in [1, 2, 3, 5, 6, 7, 8] {
            let what = format!("task type {kind} to {address:?}, unit {lun}");
            assert_eq!(
                ours.task(address, kind, lun, 9),
                qemu.task(address, kind, lun, 9),
                "{what}"
            );
        }
    }
}

/// Compares the answers to a page request, and the pages, of the two.
fn compare_page(
    qemu: &Host<Qtest>,
    ours: &Host<MockBus>,
    action: u8,
    kind: u8,
    number: u8,
    address: u32,
) {
    let what = format!("action {action} on page {number} of type {kind:#x} at {address:#x}");
    let (theirs, mut their_page) = qemu.page(action, kind, number, address);
    let (own, own_page) = ours.page(action, kind, number, address);
    assert_eq!(own, theirs, "{what}");
    if their_page[0] != UNTOUCHED {
        for (at, length) in bytes_of_our_own(kind, number) {
            their_page[at..at + length].copy_from_slice(&own_page[at..at + length]);
        }
    }
    let written = |page: &[u8]| page.iter().rposition(|byte| *byte != UNTOUCHED);
    let end = written(&own_page).max(written(&their_page)).map_or(0, |last| last + 1);
    assert_eq!(own_page[..end], their_page[..end], "{what}");
}

#[test]
fn configuration_pages_are_answered_alike() {
    let (qemu, ours, _folder) = hosts();
    qemu.bring_up();
    ours.bring_up();
    // All there are, and as many that there are not.
    for kind in (0..0x10).chain([SAS_IO_UNIT, SAS_DEVICE, SAS_PHY, 0x14, 0x30]) {
        for number in 0..12 {
            for action in 0..8 {
                let address = if kind == SAS_DEVICE { 0xffff } else { 0 };
                compare_page(&qemu, &ours, action, kind, number, address);
            }
        }
    }
    // GET_NEXT_HANDLE, bus and target id, handle; present, absent and impossible.
    let forms = [0xffff, 9, 10, 11, 1 << 28, 1 << 28 | 1, 1 << 28 | 2, 1 << 28 | 0x100]
        .into_iter()
        .chain([2 << 28 | 9, 2 << 28 | 10, 2 << 28 | 11, 2 << 28 | 17, 2 << 28, 3 << 28]);
    for address in forms {
        for number in 0..3 {
            compare_page(&qemu, &ours, 1, SAS_DEVICE, number, address);
        }
    }
    // Phys by number and by index in their table.
    for address in (0..10).flat_map(|phy| [phy, 1 << 28 | phy, 2 << 28 | phy]) {
        for number in 0..2 {
            compare_page(&qemu, &ours, 1, SAS_PHY, number, address);
        }
    }
}

#[test]
fn pages_that_qemu_does_not_know_are_ours_alone() {
    let (qemu, ours, _folder) = hosts();
    qemu.bring_up();
    ours.bring_up();
    const INVALID_TYPE: u8 = 0x21;
    const INVALID_PAGE: u8 = 0x22;
    for kind in PAGES_OF_OUR_OWN {
        assert_eq!(qemu.page(1, kind, 0, 0xffff).0[0x0e], INVALID_TYPE, "type {kind:#x}");
        assert_ne!(ours.page(1, kind, 0, 0xffff).0[0x0e], INVALID_TYPE, "type {kind:#x}");
    }
    for phy in 1..=8 {
        assert_eq!(qemu.page(1, SAS_DEVICE, 0, 2 << 28 | phy).0[0x0e], INVALID_PAGE);
        assert_eq!(ours.page(1, SAS_DEVICE, 0, 2 << 28 | phy).0[0x0e], 0, "phy {phy}");
    }
}
