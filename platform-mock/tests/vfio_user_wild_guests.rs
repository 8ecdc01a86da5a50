//! Guests whose drivers have lost their minds: garbage in every register, in frames, lists and
//! queues, with memory and bus mastering coming and going. The server answers throughout, and a
//! driver in its right mind gets the card back, by its own reset or as the next client.

mod common;
mod vfio;

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use common::{Random, Rig, command};
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::mem::Memory;
use fusion_mpt::platform::Registers;
use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Direction;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::model::{Chip, State, disks};
use vfio::guest::{BASE, CONFIG, Guest, GuestDma, INTX, MEMORY};
use vfio::{LIMIT, Served};

const DISK: u64 = 16 << 20;
/// How long a guest rages.
const RAGE: Duration = Duration::from_millis(1200);
/// Where the driver's frames, pools and queues are: its region is the first that was allocated.
const REGION: u64 = 256 << 10;
/// Bytes of a request frame, which come first of all, and how many of them there are at least.
const FRAME: u64 = 128;
const FRAMES: u64 = 200;

/// A guest that has a driver's queues and does as it likes.
struct Wild {
    guest: Guest,
    memory: Memory<GuestDma>,
    random: Random,
    /// A request of the driver's.
    template: Vec<u32>,
    posted: u64,
    mpi1: bool,
}

impl Wild {
    /// A word that looks like something.
    fn word(&mut self) -> u32 {
        match self.random.below(8) {
            0 => 0,
            1 => u32::MAX,
            2 | 3 => self.random.next() as u32,
            4 => 1 << self.random.below(32),
            5 => self.random.below(512) as u32,
            6 => (BASE >> 32) as u32,
            _ => self.address() as u32,
        }
    }

    /// An address that is nearly always the guest's.
    fn address(&mut self) -> u64 {
        match self.random.below(16) {
            0 => self.random.next(),
            1 => BASE + MEMORY as u64 - self.random.below(64) * 4,
            _ => BASE + self.random.below(REGION / 16) * 16,
        }
    }

    fn register(&mut self) -> u16 {
        const KNOWN: [u16; 14] =
            [0, 4, 8, 0x10, 0x30, 0x34, 0x40, 0x44, 0x48, 0x6c, 0xc0, 0xc4, 0xc8, 0x30c];
        match self.random.below(4) {
            0 => self.random.below(0x100) as u16 * 4,
            _ => KNOWN[self.random.below(KNOWN.len() as u64) as usize],
        }
    }

    /// Makes a frame: one that the driver once sent, a little spoilt, or one of a function that
    /// mostly exists, with words in it that look like flags, lengths and addresses.
    fn frame(&mut self) -> u64 {
        let at = (1 + self.random.below(FRAMES - 1)) * FRAME;
        if self.random.below(2) == 0 {
            for (number, word) in self.template.iter().enumerate() {
                self.memory.write_u32(at as usize + number * 4, *word);
            }
            for _ in 0..self.random.below(3) {
                let (word, value) = (1 + self.random.below(FRAME / 4 - 1), self.word());
                self.memory.write_u32((at + word * 4) as usize, value);
            }
            return at;
        }
        for word in 0..self.random.below(FRAME / 4) {
            let value = self.word();
            self.memory.write_u32((at + word * 4) as usize, value);
        }
        // A SAS1068 faults at a function that it does not know.
        let function = match self.random.below(64) {
            0 => self.random.below(256) as u32,
            _ if self.mpi1 => [0, 1, 4, 7, 8][self.random.below(5) as usize],
            1..8 => self.random.below(256) as u32,
            _ => self.random.below(0x20) as u32,
        };
        let head = self.word() & 0x00ff_ffff | function << 24;
        self.memory.write_u32(at as usize, head);
        at
    }

    /// Posts a request.
    fn post(&mut self) {
        let registers = self.guest.registers();
        let at = self.frame();
        if self.mpi1 {
            registers.write32(0x40, (BASE + at) as u32 | self.random.below(8) as u32);
            // What it answers with is given back.
            let reply = registers.read32(0x44);
            if reply != u32::MAX && reply >> 31 != 0 {
                registers.write32(0x44, reply << 1);
            }
            return;
        }
        let wild = self.random.below(256) == 0;
        let smid = if wild { self.word() & 0xffff } else { (at / FRAME) as u32 };
        let kind = [0u32, 0, 0, 6][self.random.below(4) as usize];
        let low = smid << 16 | if wild { self.word() & 0xffff } else { kind };
        // What is answered is taken, whatever it is.
        registers.write64(0xc0, u64::from(self.word()) << 32 | u64::from(low));
        self.posted += 1;
        if self.posted.is_multiple_of(64) {
            registers.write32(0x6c, self.random.below(256) as u32);
            registers.write32(0x48, self.random.below(256) as u32);
        }
    }

    fn access(&mut self) {
        let bytes = self.random.below(9) as usize;
        let offset = self.random.below(0x420);
        let (region, data) = (self.guest.region(), self.random.bytes(bytes));
        self.guest.client().region_write(region, offset, &data).expect("answered");
        let mut data = vec![0; bytes];
        self.guest.client().region_read(region, offset, &mut data).expect("answered");
    }

    /// Takes memory away or brings it back.
    fn remap(&mut self) {
        let fd = self.guest.file.as_raw_fd();
        let page = self.random.below(REGION / 4096) * 4096;
        let mut client = self.guest.client();
        match self.random.next() % 3 {
            0 => client.dma_unmap(BASE + page, 4096).expect("answered"),
            _ => client.dma_map(0, BASE, MEMORY as u64, fd).expect("answered"),
        }
    }

    fn configure(&mut self) {
        let offset = self.random.below(256);
        let data = self.random.bytes(1 + offset as usize % 4);
        self.guest.client().region_write(CONFIG, offset.min(252), &data).expect("answered");
        if self.random.below(4) != 0 {
            self.guest.bus_master(true);
        }
    }

    fn act(&mut self) {
        match self.random.below(64) {
            0 if self.random.below(4) == 0 => self.remap(),
            1 => self.configure(),
            2 => drop(self.guest.interrupt(INTX, 0)),
            3 => self.guest.unmask(),
            4 if self.random.below(16) == 0 => self.guest.client().reset().expect("answered"),
            5..10 => self.access(),
            10 => {
                let (register, value) = (self.register(), self.word());
                // So does it at one entry too many in a FIFO.
                if self.mpi1 && matches!(register, 0x40 | 0x44) && self.random.below(8) != 0 {
                    return;
                }
                self.guest.registers().write32(register, value);
            }
            11..20 => {
                let register = self.register();
                self.guest.registers().read32(register);
            }
            // An unlocked diagnostic register takes the reset that garbage never gets to.
            30 if self.random.below(8) == 0 => {
                let registers = self.guest.registers();
                for key in [0, 0xf, 4, 0xb, 2, 7, 0xd] {
                    registers.write32(4, key);
                }
                let value = self.word();
                registers.write32(8, value);
            }
            _ => self.post(),
        }
    }
}

/// The first frame that is a SCSI I/O.
fn template(memory: &Memory<GuestDma>) -> Vec<u32> {
    let words = |frame: u64| {
        (0..FRAME / 4).map(move |word| memory.read_u32((frame * FRAME + word * 4) as usize))
    };
    let is_scsi = |frame: &u64| {
        let head = words(*frame).next().unwrap_or(u32::MAX);
        head >> 24 == 0 && words(*frame).filter(|word| *word != 0).count() > 6
    };
    (0..FRAMES)
        .find(is_scsi)
        .map(|frame| words(frame).collect())
        .expect("a request of the driver's")
}

/// A driver that has worked, and all that it leaves behind.
fn worked<G: Generation>(served: &Served) -> Guest {
    let mut rig = Rig::<_, G>::new(Guest::connect(served));
    let device = rig.device(0);
    rig.clear_attention(device);
    let data = rig.data(4096);
    for block in 0..64 {
        let segment = [data.segment(0, 4096)];
        rig.run(device, &command(&Cdb::read(block * 8, 8), Direction::Read, &segment));
    }
    rig.bus
}

#[track_caller]
fn assert_works<G: Generation>(guest: Guest, served: &Served) {
    let mut rig = Rig::<_, G>::new(guest);
    assert_eq!(rig.controller.targets().count(), 2, "{:?}", served.complaints());
    rig.assert_keeps(1, 8, 4096);
}

fn rages<G: Generation>(chip: Chip) {
    let served = Served::new(chip, disks(2, DISK));
    let memory_before = resident();
    let started = Instant::now();
    let (mut random, mut lives, mut frames) = (Random::new(chip.device_id.into()), 0, 0);
    while started.elapsed() < RAGE || lives < 6 {
        let guest = worked::<G>(&served);
        let memory = Memory::new(guest.whole());
        let template = template(&memory);
        let random = Random::new(random.next());
        let mut wild = Wild { guest, memory, random, template, posted: 0, mpi1: chip.is_mpi1() };
        let before = served.card.with_model(|model| model.commands());
        // As long as the firmware listens, and a little longer.
        let (mut acts, mut deaf) = (0, 0);
        while acts < 2000 && deaf < 50 {
            wild.act();
            acts += 1;
            deaf += u32::from(served.state() != State::Operational);
            // Nobody is kept waiting, however mad.
            assert!(started.elapsed() < LIMIT, "life {lives}: stuck");
        }
        frames += served.card.with_model(|model| model.commands()) - before;
        let guest = wild.guest;
        lives += 1;
        if lives % 2 == 0 {
            drop(guest);
            served.farewell();
            assert_works::<G>(Guest::connect(&served), &served);
        } else {
            let fd = guest.file.as_raw_fd();
            guest.bus_master(true);
            guest.client().dma_map(0, BASE, MEMORY as u64, fd).expect("mapped");
            assert_works::<G>(guest, &served);
        }
        served.farewell();
    }
    println!("{lives} lives, {frames} SCSI frames");
    assert!(frames > 8, "only {frames} frames of garbage got through");
    let bytes: Vec<u64> =
        served.card.with_model(|model| model.devices().map(|d| d.target.disk().bytes()).collect());
    assert_eq!(bytes, [DISK, DISK]);
    // Two disks in memory, guests of 32 MiB, and nothing that grows.
    let grown = resident().saturating_sub(memory_before);
    assert!(grown < 512 << 20, "{grown} bytes more");
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("there");
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
}

#[test]
fn a_sas1068_survives_a_wild_guest() {
    rages::<Mpi1>(Chip::SAS1068);
}

#[test]
fn a_sas2008_survives_a_wild_guest() {
    rages::<Mpi2>(Chip::SAS2008);
}

#[test]
fn a_sas3008_survives_a_wild_guest() {
    rages::<Mpi2>(Chip::SAS3008);
}

#[test]
fn a_sas3816_survives_a_wild_guest() {
    rages::<Mpi2>(Chip::SAS3816);
}

#[test]
fn a_guest_that_posts_without_end_and_reads_no_reply_faults_and_fills_no_memory() {
    for wide in [true, false] {
        let served = Served::new(Chip::SAS3008, disks(2, DISK));
        let registers = worked::<Mpi2>(&served).registers();
        registers.write32(0xc0, 1 << 16);
        let mut posts = 0;
        while !matches!(served.state(), State::Fault(_)) {
            for _ in 0..1000 {
                if wide {
                    registers.write64(0xc0, 1 << 16);
                } else {
                    registers.write32(0xc4, 0);
                }
            }
            posts += 1000;
            assert!(posts < 200_000, "it takes {posts} requests");
        }
        assert!(posts > 60_000, "it faulted after {posts} already: {:?}", served.complaints());
        drop(registers);
        served.farewell();
        assert_works::<Mpi2>(Guest::connect(&served), &served);
    }
}
