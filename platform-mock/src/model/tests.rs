//! The models at the level of registers and memory, without the driver.

mod fabric;
mod faults;
mod knobs;
mod mpi1;

use std::time::Duration;

use fusion_mpt::platform::{DmaRegion, Registers};

use super::message::{byte, le16, le32, le64};
use super::{Chip, FactsOverride, Model, State, disks};
use crate::bus::Bus;
use crate::in_process::{MockBus, MockDma, MockRegisters, Options};

/// Where things lie in the host's memory.
const FRAMES: usize = 0;
const REPLIES: usize = 0x4000;
const RINGS: usize = 0x8000;
const FREE: usize = 0xa000;
const ARRAY: usize = 0xb000;
const SENSE: usize = 0xc000;
const DATA: usize = 0x1_0000;
const BYTES: usize = 0x2_0000;
const DEPTH: usize = 16;

/// A host that does everything by hand.
struct Host {
    bus: MockBus,
    registers: MockRegisters,
    memory: MockDma,
    /// The next entry of each reply ring (MPI2).
    next: [usize; 32],
    /// Reply frames that came (MPI2).
    taken: u32,
}

impl Host {
    fn new(chip: Chip, count: u16) -> Self {
        let mut options = Options::stepped(chip, disks(count, 1 << 20));
        options.bouncing = false;
        options.bytes = 1 << 20;
        let bus = MockBus::new(options);
        let memory = bus.allocate(BYTES, 4096).expect("room");
        Self { registers: bus.registers(), memory, bus, next: [0; 32], taken: 0 }
    }

    /// A host with the IOC operational and reply frames given.
    fn operational(chip: Chip, count: u16) -> Self {
        let host = Self::new(chip, count);
        let reply = if chip.is_mpi1() {
            host.give_frames(8);
            host.init_mpi1()
        } else {
            host.init_mpi2(1, false)
        };
        assert_eq!(le16(&reply, 0x0e), 0, "IOC init");
        if !chip.is_mpi1() {
            host.give_frames(8);
        }
        host
    }

    fn at(&self, offset: usize) -> u64 {
        self.memory.bus().0 + offset as u64
    }

    fn get(&self, offset: usize, bytes: usize) -> Vec<u8> {
        let mut seen = vec![0; bytes];
        self.memory.read(offset, &mut seen);
        seen
    }

    fn run(&self) {
        self.bus.advance(Duration::from_millis(10));
    }

    fn mpi1(&self) -> bool {
        self.bus.with_model(|model| model.chip().is_mpi1())
    }

    fn state(&self) -> State {
        self.bus.with_model(|model| model.state())
    }

    fn complaints(&self) -> usize {
        self.bus.with_model(|model| model.complaints().len())
    }

    fn handshake(&self, request: &[u8]) -> Vec<u8> {
        let registers = &self.registers;
        registers.write32(0x30, 0);
        registers.write32(0, 0x42 << 24 | (request.len() as u32 / 4) << 16);
        self.bus.run_until_idle();
        registers.write32(0x30, 0);
        for word in request.chunks(4) {
            registers.write32(0, le32(word, 0));
            self.run();
        }
        let mut reply = Vec::new();
        while registers.read32(0) >> 27 & 1 != 0 && reply.len() < 256 {
            reply.extend((registers.read32(0) as u16).to_le_bytes());
            registers.write32(0x30, 0);
            self.bus.run_until_idle();
        }
        registers.write32(0x30, 0);
        reply
    }

    fn init_mpi1(&self) -> Vec<u8> {
        let mut request = [0u8; 0x18];
        request[..8].copy_from_slice(&[4, 0, 0, 2, 0, 8, 1, 0]);
        request[0x0c] = 80;
        request[0x10..0x14].copy_from_slice(&((self.at(0) >> 32) as u32).to_le_bytes());
        request[0x14..0x18].copy_from_slice(&((self.at(0) >> 32) as u32).to_le_bytes());
        self.handshake(&request)
    }

    fn init_request(&self, queues: u8, array: bool) -> Vec<u8> {
        let mut request = vec![0u8; 0x48];
        request[0] = 4;
        request[3] = 2;
        request[7] = array.into();
        request[0x17] = queues;
        request[0x1a] = 32;
        request[0x1c] = DEPTH as u8;
        request[0x1e] = DEPTH as u8;
        let high = ((self.at(0) >> 32) as u32).to_le_bytes();
        request[0x20..0x24].copy_from_slice(&high);
        request[0x24..0x28].copy_from_slice(&high);
        request[0x28..0x30].copy_from_slice(&self.at(FRAMES).to_le_bytes());
        let rings = if array { ARRAY } else { RINGS };
        request[0x30..0x38].copy_from_slice(&self.at(rings).to_le_bytes());
        request[0x38..0x40].copy_from_slice(&self.at(FREE).to_le_bytes());
        request
    }

    fn init_mpi2(&self, queues: u8, array: bool) -> Vec<u8> {
        self.memory.write(RINGS, &[0xff; 0x2000]);
        for queue in 0..usize::from(queues) {
            // In an array, the rings may lie anywhere: here, backwards.
            let ring = RINGS + (31 - queue) * DEPTH * 8;
            self.memory.write(ARRAY + queue * 16, &self.at(ring).to_le_bytes());
        }
        self.handshake(&self.init_request(queues, array))
    }

    /// Gives the IOC `count` reply frames of 128 bytes.
    fn give_frames(&self, count: usize) {
        for index in 0..count {
            let low = (self.at(REPLIES + index * 128) as u32).to_le_bytes();
            if self.mpi1() {
                self.registers.write32(0x44, u32::from_le_bytes(low));
            } else {
                self.memory.write(FREE + index * 4, &low);
            }
        }
        if !self.mpi1() {
            self.registers.write32(0x48, count as u32);
        }
    }

    fn put_frame(&self, smid: u16, frame: &[u8]) {
        self.memory.write(FRAMES + usize::from(smid) * 128, frame);
    }

    /// Posts the frame of `smid`, to be answered on `queue`.
    fn post(&self, smid: u16, kind: u8, queue: u8) {
        if self.mpi1() {
            self.registers.write32(0x40, self.at(usize::from(smid) * 128) as u32);
        } else {
            let word = u64::from(kind) | u64::from(queue) << 8 | u64::from(smid) << 16;
            self.registers.write64(0xc0, word);
        }
        self.run();
    }

    /// The next reply: its word, and the frame it points at.
    fn reply(&mut self) -> Option<(u64, Vec<u8>)> {
        if self.mpi1() {
            let word = self.registers.read32(0x44);
            let low = self.at(0) as u32;
            return match word {
                u32::MAX => None,
                word if word >> 31 != 0 => {
                    let offset = (word << 1).wrapping_sub(low) as usize;
                    Some((word.into(), self.get(offset, 128)))
                }
                word => Some((word.into(), Vec::new())),
            };
        }
        self.ring_reply(RINGS, 0)
    }

    fn ring_reply(&mut self, ring: usize, queue: usize) -> Option<(u64, Vec<u8>)> {
        let at = ring + self.next[queue] * 8;
        let word = le64(&self.get(at, 8), 0);
        if word == u64::MAX {
            return None;
        }
        self.memory.write(at, &[0xff; 8]);
        self.next[queue] = (self.next[queue] + 1) % DEPTH;
        if word & 0xf != 1 {
            return Some((word, Vec::new()));
        }
        self.taken += 1;
        let offset = ((word >> 32) as u32).wrapping_sub(self.at(0) as u32) as usize;
        Some((word, self.get(offset, 128)))
    }

    /// A SCSI I/O frame with one element.
    fn scsi_io(&self, smid: u16, address: u16, cdb: &[u8], read: bool, data: u32) -> Vec<u8> {
        let mpi1 = self.mpi1();
        let mut frame = vec![0u8; 128];
        let control: u8 = match (data, read) {
            (0, _) => 0,
            (_, true) => 2,
            (_, false) => 1,
        };
        let sense = (self.at(SENSE) as u32).to_le_bytes();
        let mut at = 0x60;
        if mpi1 {
            frame[..2].copy_from_slice(&[address as u8, (address >> 8) as u8]);
            frame[4] = cdb.len() as u8;
            frame[5] = 64;
            frame[8..10].copy_from_slice(&smid.to_le_bytes());
            frame[0x17] = control;
            frame[0x18..0x18 + cdb.len()].copy_from_slice(cdb);
            frame[0x28..0x2c].copy_from_slice(&data.to_le_bytes());
            frame[0x2c..0x30].copy_from_slice(&sense);
            at = 0x30;
        } else {
            frame[..2].copy_from_slice(&address.to_le_bytes());
            frame[0x0c..0x10].copy_from_slice(&sense);
            frame[0x12] = 64;
            frame[0x14] = 24;
            frame[0x1c..0x20].copy_from_slice(&data.to_le_bytes());
            frame[0x24] = cdb.len() as u8;
            frame[0x3f] = control;
            frame[0x40..0x40 + cdb.len()].copy_from_slice(cdb);
        }
        let buffer = self.at(DATA).to_le_bytes();
        if self.bus.with_model(|model| model.chip().ieee()) {
            frame[at..at + 8].copy_from_slice(&buffer);
            frame[at + 8..at + 12].copy_from_slice(&data.to_le_bytes());
            frame[at + 15] = 0x40;
        } else {
            let flags = 0xd3 | if control == 1 { 4 } else { 0 };
            let word = data | flags << 24;
            frame[at..at + 4].copy_from_slice(&word.to_le_bytes());
            frame[at + 4..at + 12].copy_from_slice(&buffer);
        }
        frame
    }

    /// The address of the disk in `slot`.
    fn disk(&self, slot: u8) -> u16 {
        match self.mpi1() {
            true => slot.into(),
            false => self.bus.with_model(|model| model.device(slot).map_or(0, |d| d.handle)),
        }
    }

    /// Runs one SCSI I/O; its reply frame, empty for plain success.
    fn scsi(&mut self, address: u16, cdb: &[u8], read: bool, data: u32) -> Vec<u8> {
        let frame = self.scsi_io(9, address, cdb, read, data);
        self.put_frame(9, &frame);
        self.post(9, 0, 0);
        self.reply().expect("a reply").1
    }

    /// Runs a configuration page request; the reply and what came to the data buffer.
    fn config(&mut self, action: u8, kind: u8, number: u8, address: u32) -> (u16, Vec<u8>) {
        let mut frame = vec![0u8; 0x28];
        frame[0] = action;
        frame[3] = 4;
        frame[8] = 5;
        frame[0x16] = number;
        if kind < 0x10 {
            frame[0x17] = kind;
        } else {
            frame[0x17] = 0x0f;
            frame[6] = kind;
        }
        frame[0x18..0x1c].copy_from_slice(&address.to_le_bytes());
        frame[0x1c..0x20].copy_from_slice(&(0xd300_0000u32 | 1024).to_le_bytes());
        frame[0x20..0x28].copy_from_slice(&self.at(DATA).to_le_bytes());
        self.put_frame(5, &frame);
        self.post(5, 8, 0);
        let (_, reply) = self.reply().expect("a reply");
        let bytes = match kind {
            0..0x10 => usize::from(reply[0x15]) * 4,
            _ => usize::from(le16(&reply, 4)) * 4,
        };
        (le16(&reply, 0x0e), self.get(DATA, bytes))
    }
}

const READ_ONE: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const TEST_UNIT_READY: [u8; 6] = [0; 6];

#[test]
fn the_sas1068_states_the_facts_that_qemu_does() {
    let host = Host::new(Chip::SAS1068, 2);
    let facts = host.handshake(&[0, 0, 0, 3, 0, 0, 0, 0, 0x78, 0x56, 0x34, 0x12]);
    assert_eq!(facts.len(), 0x50);
    assert_eq!((le16(&facts, 0), byte(&facts, 2), byte(&facts, 3)), (0x0105, 20, 3));
    assert_eq!(le32(&facts, 8), 0x1234_5678);
    assert_eq!((byte(&facts, 0x14), byte(&facts, 0x16)), (0x22, 13));
    assert_eq!((le16(&facts, 0x18), le16(&facts, 0x1a)), (128, 128));
    assert_eq!((le16(&facts, 0x24), byte(&facts, 0x26)), (128, 8));
    assert_eq!((byte(&facts, 0x2e), byte(&facts, 0x2f)), (8, 1));
    // But for these, without which mptsas could not lose a disk, and would hear of no expander.
    assert_eq!((le32(&facts, 0x34), byte(&facts, 0x3c), le16(&facts, 4)), (1, 16, 0x1300));
    assert_eq!(facts[0x38..0x3c], [0x00, 0x92, 0x32, 0x01]);
    let port = host.handshake(&[0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((port.len(), byte(&port, 0x15), le16(&port, 0x16)), (0x28, 0x30, 8));
    let absent = host.handshake(&[0, 0, 0, 5, 0, 0, 8, 0, 0, 0, 0, 0]);
    assert_eq!((byte(&absent, 6), byte(&absent, 0x15)), (8, 0));
    assert_eq!(host.complaints(), 0);
}

#[test]
fn facts_may_lie() {
    let host = Host::new(Chip::SAS3008, 0);
    let lie = FactsOverride { credits: Some(0), reply_frame_words: Some(3), ..Default::default() };
    host.bus.with_model(|model| model.override_facts(lie));
    let facts = host.handshake(&[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(facts.len(), 0x44);
    assert_eq!((le16(&facts, 0x18), byte(&facts, 0x36), byte(&facts, 0x17)), (0, 3, 96));
}

#[test]
fn ioc_init_is_refused_for_what_cannot_be() {
    for (at, value) in [(0x17, 129u8), (0x1a, 31), (0x1c, 17), (0x1e, 0), (0x28, 8), (0x38, 4)] {
        let host = Host::new(Chip::SAS3816, 0);
        let mut request = host.init_request(1, false);
        request[at] = value;
        let reply = host.handshake(&request);
        assert_eq!(le16(&reply, 0x0e), 7, "byte {at:#x} = {value}");
        assert_eq!(host.state(), State::Ready);
        assert_eq!(le16(&host.init_mpi2(1, false), 0x0e), 0);
        assert_eq!(host.state(), State::Operational);
        assert_eq!(le16(&host.init_mpi2(1, false), 0x0e), 8, "once is enough");
    }
}

#[test]
fn scsi_io_ends_as_it_must() {
    for chip in Chip::ALL {
        let mut host = Host::operational(chip, 2);
        let mpi1 = chip.is_mpi1();
        let disk = host.disk(1);
        let attention = host.scsi(disk, &TEST_UNIT_READY, false, 0);
        assert_eq!(le16(&attention, 0x0e), if mpi1 { 0x45 } else { 0 }, "{}", chip.name);
        assert_eq!((attention[0x0c], attention[0x0d], le32(&attention, 0x18)), (2, 1, 18));
        assert_eq!(host.get(SENSE, 14)[2..], [6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0][..]);
        assert_eq!(attention[2], if mpi1 { 9 } else { 13 });
        assert!(host.scsi(disk, &READ_ONE, true, 512).is_empty(), "plain success takes no frame");
        let short = host.scsi(disk, &READ_ONE, true, 1024);
        assert_eq!((le16(&short, 0x0e), le32(&short, 0x14), short[0x0d]), (0x45, 512, 0));
        let long = host.scsi(disk, &READ_ONE, true, 256);
        assert_eq!((le16(&long, 0x0e), long[0x0d]), (0x44, if mpi1 { 4 } else { 0 }));
        assert_eq!(le32(&long, 0x14), if mpi1 { 0 } else { 256 });
        let wrong_way = host.scsi(disk, &READ_ONE, false, 512);
        assert_eq!(le16(&wrong_way, 0x0e), 0x44);
        let nobody = host.scsi(if mpi1 { 8 } else { 0x77 }, &READ_ONE, true, 512);
        assert_eq!((le16(&nobody, 0x0e), nobody[0x0d]), (0x42, 4));
        if mpi1 {
            assert_eq!(le16(&host.scsi(0x100, &READ_ONE, true, 512), 0x0e), 0x41);
            assert_eq!(le16(&host.scsi(7, &READ_ONE, true, 512), 0x0e), 0x43);
        } else {
            host.bus.with_model(|model| model.remove_disk(1)).expect("there is one");
            assert_eq!(le16(&host.scsi(disk, &READ_ONE, true, 512), 0x0e), 0x43);
        }
        assert_eq!(host.complaints(), 0, "{}", chip.name);
    }
}

#[test]
fn a_bad_list_or_a_buffer_elsewhere_ends_the_command_only() {
    for chip in Chip::ALL {
        let mut host = Host::operational(chip, 1);
        let disk = host.disk(0);
        host.scsi(disk, &TEST_UNIT_READY, false, 0);
        let list = if chip.is_mpi1() { 0x30 } else { 0x60 };
        let mut frame = host.scsi_io(9, disk, &READ_ONE, true, 512);
        frame[list..list + 16].fill(0);
        host.put_frame(9, &frame);
        host.post(9, 0, 0);
        let (_, reply) = host.reply().expect("a reply");
        assert_eq!((le16(&reply, 0x0e), reply[0x0d]), (3, 4));
        let mut frame = host.scsi_io(9, disk, &READ_ONE, true, 512);
        // The element's address begins 4 bytes later in an MPI element.
        let high = if chip.ieee() { list + 4 } else { list + 8 };
        frame[high..high + 4].fill(0x7f);
        host.put_frame(9, &frame);
        host.post(9, 0, 0);
        let (_, reply) = host.reply().expect("a reply");
        assert_eq!(le16(&reply, 0x0e), 0x46);
        assert_eq!(host.state(), State::Operational);
        assert_eq!(host.complaints(), 2);
    }
}

#[test]
fn pages_answer_and_refuse() {
    for chip in Chip::ALL {
        let mut host = Host::operational(chip, 3);
        host.give_frames(15);
        let (status, page) = host.config(1, 0x09, 0, 0);
        assert_eq!((status, page.len()), (0, 0x4c), "{}", chip.name);
        assert!(page[4..].starts_with(chip.chip_name.as_bytes()));
        let first = chip.phys as u16 + 1;
        let mut handle = 0xffff;
        for slot in 0..3u16 {
            let (status, page) = host.config(1, 0x12, 0, handle);
            assert_eq!((status, le16(&page, 8), le16(&page, 0x18)), (0, slot, first + slot));
            assert_eq!(le64(&page, 0x0c), 0x5000_c500_a1b2_0001 + u64::from(slot) * 4);
            assert_eq!(page.len(), if chip.is_mpi1() { 0x24 } else { 0x38 });
            handle = le16(&page, 0x18).into();
        }
        assert_eq!(host.config(1, 0x12, 0, handle).0, 0x22, "the end of the list");
        assert_eq!(host.config(1, 0x12, 0, 2 << 28 | 0x55).0, 0x22);
        assert_eq!(host.config(0, 0x1f, 0, 0).0, 0x21);
        assert_eq!(host.config(0, 0x01, 77, 0).0, 0x22);
        assert_eq!(host.config(2, 0x00, 0, 0).0, 0x25, "read only");
        assert_eq!(host.config(9, 0x00, 1, 0).0, 0x20);
    }
}

#[test]
fn only_the_message_is_written_into_a_reply_frame() {
    for chip in Chip::ALL {
        let mut host = Host::operational(chip, 1);
        host.memory.write(REPLIES, &[0xa5; 128]);
        let disk = host.disk(0);
        let reply = host.scsi(disk, &TEST_UNIT_READY, false, 0);
        let length = usize::from(reply[2]) * 4;
        assert_eq!(reply[length..], [0xa5; 128][length..]);
    }
}

#[test]
fn the_sas1068_stops_where_qemus_does() {
    let host = Host::new(Chip::SAS1068, 0);
    host.registers.write32(0x40, 0x1000);
    assert_eq!(host.state(), State::Fault(8), "a request before IOC init");

    let host = Host::operational(Chip::SAS1068, 0);
    host.put_frame(1, &[0, 0, 0, 0x2f, 0, 0, 0, 0, 1, 0, 0, 0]);
    host.post(1, 0, 0);
    assert_eq!(host.registers.read32(0), 0x4400_0001, "a function that there is not");

    let host = Host::new(Chip::SAS1068, 0);
    for _ in 0..129 {
        host.registers.write32(0x44, 0x1000);
    }
    assert_eq!(host.state(), State::Fault(6), "more reply frames than the FIFO holds");
}

#[test]
fn a_full_reply_ring_is_waited_for() {
    let mut host = Host::operational(Chip::SAS2008, 1);
    let disk = host.disk(0);
    host.scsi(disk, &TEST_UNIT_READY, false, 0);
    host.registers.write32(0x6c, 1);
    for smid in 10..30 {
        let frame = host.scsi_io(smid, disk, &TEST_UNIT_READY, false, 0);
        host.put_frame(smid, &frame);
        host.post(smid, 0, 0);
    }
    let entry = |host: &Host, at: usize| le64(&host.get(RINGS + at * 8, 8), 0);
    // One entry stays unused, so that full and empty differ.
    assert_eq!(entry(&host, 0), u64::MAX);
    for _ in 0..15 {
        assert!(host.reply().is_some());
    }
    assert!(host.reply().is_none());
    assert_eq!(host.bus.with_model(|model| model.commands()), 17, "one more, and then it waits");
    host.registers.write32(0x6c, host.next[0] as u32);
    host.run();
    let mut smids = Vec::new();
    while let Some((word, _)) = host.reply() {
        smids.push((word >> 16) as u16);
    }
    assert_eq!(smids, [25, 26, 27, 28, 29]);
    assert_eq!(host.complaints(), 0);
}

#[test]
fn an_empty_reply_free_queue_is_waited_for() {
    let mut host = Host::operational(Chip::SAS3008, 0);
    for smid in 1..=9 {
        let frame = host.scsi_io(smid, 99, &TEST_UNIT_READY, false, 0);
        host.put_frame(smid, &frame);
        host.post(smid, 0, 0);
    }
    for _ in 0..8 {
        assert!(host.reply().is_some());
    }
    assert!(host.reply().is_none());
    assert_eq!(host.state(), State::Operational);
    host.registers.write32(0x48, 9);
    // What lies in the entry after the last one given is whatever was there: none was.
    host.memory.write(FREE + 32, &(host.at(REPLIES) as u32).to_le_bytes());
    host.run();
    assert_eq!(host.reply().map(|(word, _)| word >> 16 & 0xffff), Some(9));
}

#[test]
fn descriptors_arrive_in_halves_and_in_32_bits_and_answers_go_where_they_say() {
    let mut host = Host::new(Chip::SAS3816, 1);
    assert_eq!(le16(&host.init_mpi2(10, true), 0x0e), 0);
    host.give_frames(8);
    let disk = host.disk(0);
    host.bus.with_model(|model| {
        let device = model.device(0).expect("there is one");
        let mut none = Vec::new();
        let command = crate::target::Command {
            lun: [0; 8],
            cdb: &TEST_UNIT_READY,
            initiator: super::devices::CONTROLLER_SAS_ADDRESS,
        };
        device.target.execute(&command, &mut none)
    });
    for (queue, smid) in [(9u8, 3u16), (1, 4)] {
        let frame = host.scsi_io(smid, disk, &TEST_UNIT_READY, false, 0);
        host.put_frame(smid, &frame);
        let word = u32::from(queue) << 8 | u32::from(smid) << 16;
        if queue == 9 {
            host.registers.write32(0xc8, word);
        } else {
            host.registers.write32(0xc0, word);
            assert_eq!(host.bus.run_until_idle(), 0, "the high half commits");
            host.registers.write32(0xc4, 0);
        }
        host.run();
        let ring = RINGS + (31 - usize::from(queue)) * DEPTH * 8;
        let reply = host.ring_reply(ring, queue.into()).expect("on its own queue");
        assert_eq!(reply.0, u64::from(word));
    }
    assert!(host.bus.interrupt_pending() || host.registers.read32(0x30) & 8 != 0);
    host.registers.write32(0x30c + 0x10, 1 << 24 | 1);
    host.registers.write32(0x30c, 1 << 24 | 1);
    assert_eq!(host.registers.read32(0x30) & 8, 0, "read up");
    assert_eq!(host.complaints(), 0);
    host.registers.write32(0x6c, 1);
    assert_eq!(host.complaints(), 1, "the register that this chip does not look at");
}

#[test]
fn an_abort_ends_the_held_command_and_its_reply_comes_last() {
    for chip in Chip::ALL {
        let mut host = Host::operational(chip, 1);
        let disk = host.disk(0);
        host.bus.with_model(|model| model.hold_commands(true));
        for smid in [3, 4] {
            let frame = host.scsi_io(smid, disk, &TEST_UNIT_READY, false, 0);
            host.put_frame(smid, &frame);
            host.post(smid, 0, 0);
        }
        assert!(host.reply().is_none());
        let mut task = vec![0u8; 0x34];
        task[..2].copy_from_slice(&disk.to_le_bytes());
        task[3] = 1;
        task[5] = 7;
        if chip.is_mpi1() {
            task[8] = 2;
        }
        task[0x30] = 4;
        host.put_frame(2, &task);
        host.post(2, 6, 0);
        assert_eq!(host.reply().map(|(_, frame)| frame[4]), Some(8), "query: it is there");
        task[5] = 1;
        host.put_frame(2, &task);
        host.post(2, 6, 0);
        let (word, ended) = host.reply().expect("the command's");
        let (_, reply) = host.reply().expect("the abort's");
        assert_eq!((reply[3], reply[4], le16(&reply, 0x0e), le32(&reply, 0x14)), (1, 0, 0, 1));
        let reply = ended;
        assert_eq!((reply[3], le16(&reply, 0x0e)), (0, 0x48));
        if !chip.is_mpi1() {
            assert_eq!(word >> 16 & 0xffff, 4);
        }
        host.bus.with_model(|model| model.hold_commands(false));
        host.run();
        assert!(host.reply().is_some(), "the other goes on");
        assert!(host.reply().is_none());
    }
}

#[test]
fn a_yanked_card_reads_all_ones_and_a_frozen_one_as_before() {
    let host = Host::operational(Chip::SAS3008, 0);
    host.bus.with_model(|model| model.stop_answering(true));
    host.registers.write32(0, 0x40 << 24);
    host.run();
    assert_eq!(host.registers.read32(0) >> 28, 2);
    assert_eq!(host.registers.read32(0x30) >> 31, 1, "never taken");
    host.bus.with_model(|model| model.all_ones(true));
    assert_eq!(host.registers.read32(0), u32::MAX);
    assert_eq!(host.registers.read32(0x6c), u32::MAX);
}

#[test]
fn requests_at_bad_addresses_stop_the_ioc() {
    let host = Host::operational(Chip::SAS2008, 0);
    host.post(0xf000, 8, 0);
    assert!(matches!(host.state(), State::Fault(_)));
    assert_eq!(host.complaints(), 1);
}

#[test]
fn nothing_a_host_posts_makes_a_model_panic() {
    use proptest::prelude::*;
    proptest!(ProptestConfig::with_cases(256), |(
        chip in 0usize..4,
        frame in proptest::collection::vec(any::<u8>(), 128),
        function in 0u8..0x20,
        kind in 0u8..16,
        writes in proptest::collection::vec((0u32..0x110, any::<u32>()), 0..20),
    )| {
        let host = Host::operational(Chip::ALL[chip], 2);
        let mut frame = frame;
        frame[3] = function;
        host.put_frame(7, &frame);
        host.post(7, kind, 0);
        for (offset, value) in writes {
            host.registers.write32((offset * 4) as u16, value);
            host.registers.read32((offset * 4) as u16);
        }
        host.run();
    });
}

#[test]
fn no_ioc_init_makes_a_model_panic() {
    use proptest::prelude::*;
    proptest!(ProptestConfig::with_cases(256), |(
        chip in 0usize..4,
        high in any::<bool>(),
        bytes in proptest::collection::vec((0usize..0x48, any::<u8>()), 0..4),
        word in any::<u32>(),
    )| {
        let host = Host::new(Chip::ALL[chip], 1);
        let mut request = host.init_request(1, false);
        if high {
            // Addresses at the very end of the address space.
            for at in [0x10, 0x14, 0x20, 0x24, 0x2c, 0x34, 0x3c] {
                request[at..at + 4].fill(0xff);
            }
            for at in [0x28, 0x30, 0x38] {
                request[at..at + 4].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
            }
        }
        for (at, byte) in bytes {
            request[at] = byte;
        }
        request[3] = 2;
        host.handshake(&request);
        host.give_frames(4);
        host.registers.write32(0x40, word);
        host.registers.write64(0xc0, u64::from(word) << 16 | 8);
        host.run();
    });
}

#[test]
fn a_model_is_named_in_debug_output() {
    assert_eq!(format!("{:?}", Model::new(Chip::SAS2008)), "Model(sas2008 in Ready)");
}

#[test]
fn a_host_that_errs_without_end_is_complained_of_a_hundred_times() {
    let mut host = Host::operational(Chip::SAS2008, 1);
    let handle = host.disk(0);
    let frame = host.scsi_io(4, handle, &TEST_UNIT_READY, false, 0);
    host.put_frame(4, &frame);
    for _ in 0..300 {
        // The descriptor names another device than the frame.
        host.registers.write64(0xc0, 4 << 16 | u64::from(handle + 1) << 48);
        host.run();
        host.reply().expect("it is answered all the same");
        host.registers.write32(0x6c, host.next[0] as u32);
    }
    assert_eq!(host.complaints(), 100);
}

#[test]
fn disks_behind_an_expander_are_counted_after_every_reset() {
    let host = Host::new(Chip::SAS1068, 0);
    host.bus.with_model(|model| model.attach_expander(6)).expect("free phys");
    let devices = || host.handshake(&[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0])[0x2e];
    assert_eq!(devices(), 14);
    host.bus.with_model(Model::bus_reset);
    assert_eq!(devices(), 14, "of the bus");
    host.bus.with_model(|model| model.power_cut(&mut |_, _| false)).expect("no disks");
    host.bus.advance(Duration::from_millis(100));
    assert_eq!(devices(), 14, "of the power");
}
