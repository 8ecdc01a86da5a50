//! QEMU's controller, spoken to with bare registers and hand-made frames: no driver code is
//! involved, so what fails here is the bus or the way it starts and ends.
//!
//! Needs `qemu-system-x86_64`; without it these tests fail, they do not skip.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fusion_mpt::mem::Memory;
use fusion_mpt::platform::{DmaRegion, Registers};
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::qtest::{Backend, Qtest, QtestDisk, QtestDma, QtestOptions, QtestRegisters};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

const DOORBELL: u16 = 0x00;
const INTERRUPT_STATUS: u16 = 0x30;
const INTERRUPT_MASK: u16 = 0x34;
const REQUEST_QUEUE: u16 = 0x40;
const REPLY_QUEUE: u16 = 0x44;

const FUNCTION_SCSI_IO: u8 = 0x00;
const FUNCTION_TASK_MANAGEMENT: u8 = 0x01;
const FUNCTION_IOC_INIT: u8 = 0x02;
const FUNCTION_IOC_FACTS: u8 = 0x03;
const STATE_READY: u32 = 1;
const STATE_OPERATIONAL: u32 = 2;
const STATUS_TASK_TERMINATED: u16 = 0x0048;
const TASK_ABORT: u8 = 1;
const TASK_RESET_TARGET: u8 = 3;

const REPLY_FRAMES: usize = 8;
const FRAME_BYTES: usize = 128;

/// An image of `bytes` in which every block starts with its own number.
fn image(directory: &TempDir, name: &str, bytes: u64) -> PathBuf {
    let path = directory.path().join(name);
    let file = File::create_new(&path).unwrap();
    file.set_len(bytes).unwrap();
    for block in 0..(bytes / 512).min(64) {
        file.write_all_at(&pattern(block), block * 512).unwrap();
    }
    path
}

fn pattern(block: u64) -> Vec<u8> {
    (0..512_u64).map(|byte| (block.wrapping_mul(37) + byte * 7 + 1) as u8).collect()
}

fn with_disks(disks: Vec<QtestDisk>) -> QtestOptions {
    QtestOptions { disks, ..QtestOptions::default() }
}

fn within<T>(what: &str, limit: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(start.elapsed() < limit, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn process(id: u32) -> Pid {
    Pid::from_raw(id.try_into().unwrap()).unwrap()
}

/// Whether `id` is a process that has not ended; a zombie, which nobody may ever reap, has.
fn lives(id: u32) -> bool {
    if cfg!(target_os = "linux") {
        std::fs::read_to_string(format!("/proc/{id}/stat"))
            .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
    } else {
        test_kill_process(process(id)).is_ok()
    }
}

/// A message over the doorbell; gives the reply. QEMU never needs to be waited for.
fn handshake(registers: &QtestRegisters, request: &[u32]) -> Vec<u16> {
    registers.write32(INTERRUPT_STATUS, 0);
    registers.write32(DOORBELL, 0x42 << 24 | (request.len() as u32) << 16);
    registers.write32(INTERRUPT_STATUS, 0);
    for word in request {
        registers.write32(DOORBELL, *word);
    }
    let next = || {
        let word = registers.read32(DOORBELL) as u16;
        registers.write32(INTERRUPT_STATUS, 0);
        word
    };
    let mut reply = vec![next(), next()];
    let words = usize::from(reply[1] & 0xff) * 2;
    reply.extend((2..words).map(|_| next()));
    registers.write32(INTERRUPT_STATUS, 0);
    reply
}

#[derive(Debug)]
enum Reply {
    /// The context of a command that went well.
    Turbo(u32),
    Frame {
        context: u32,
        status: u16,
    },
}

/// An operational controller with the memory it needs.
struct Ioc<'a> {
    bus: &'a Qtest,
    registers: QtestRegisters,
    requests: Memory<QtestDma>,
    replies: Memory<QtestDma>,
    sense: Memory<QtestDma>,
}

impl<'a> Ioc<'a> {
    fn new(bus: &'a Qtest) -> Self {
        let registers = bus.registers();
        let memory = |bytes| Memory::new(bus.allocate(bytes, 128).unwrap());
        let (requests, replies, sense) =
            (memory(32 * FRAME_BYTES), memory(REPLY_FRAMES * FRAME_BYTES), memory(256));
        let (frames_high, sense_high) = (requests.bus(0).high(), sense.bus(0).high());
        let reply = handshake(
            &registers,
            &[
                0x0000_0004 | u32::from(FUNCTION_IOC_INIT) << 24,
                0x0001_0800,
                0,
                FRAME_BYTES as u32,
                frames_high,
                sense_high,
                0,
                0,
            ][..],
        );
        assert_eq!(reply[7], 0, "IOC_INIT's IOCStatus");
        assert_eq!(registers.read32(DOORBELL) >> 28, STATE_OPERATIONAL);
        for frame in 0..REPLY_FRAMES {
            registers.write32(REPLY_QUEUE, replies.bus(frame * FRAME_BYTES).low());
        }
        Self { bus, registers, requests, replies, sense }
    }

    fn post(&self, slot: usize, words: &[u32]) {
        for (index, word) in words.iter().enumerate() {
            self.requests.write_u32(slot * FRAME_BYTES + index * 4, *word);
        }
        self.registers.write32(REQUEST_QUEUE, self.requests.bus(slot * FRAME_BYTES).low());
    }

    /// Posts a command that reads into `data`; its context is 0x1000 + `slot`.
    fn read_command(&self, slot: usize, target: u8, cdb: &[u8], data: &Memory<QtestDma>) {
        let mut bytes = [0; 16];
        bytes[..cdb.len()].copy_from_slice(cdb);
        let cdb_word = |i: usize| u32::from_le_bytes(bytes[i * 4..][..4].try_into().unwrap());
        let length = data.len() as u32;
        let direction = if data.is_empty() { 0 } else { 0x0200_0000 };
        let address = data.bus(0);
        self.post(
            slot,
            &[
                u32::from(target) | u32::from(FUNCTION_SCSI_IO) << 24,
                cdb.len() as u32 | 18 << 8,
                0x1000 + slot as u32,
                0,
                0,
                direction,
                cdb_word(0),
                cdb_word(1),
                cdb_word(2),
                cdb_word(3),
                length,
                self.sense.bus(0).low(),
                // Last, end of buffer, end of list; simple element with a 64-bit address.
                0xd300_0000 | length,
                address.low(),
                address.high(),
            ],
        );
    }

    fn task_management(&self, slot: usize, target: u8, task: u8, context: u32) {
        let mut words = [0; 13];
        words[0] = u32::from(target) | u32::from(FUNCTION_TASK_MANAGEMENT) << 24;
        words[1] = u32::from(task) << 8;
        words[2] = 0x1000 + slot as u32;
        words[12] = context;
        self.post(slot, &words);
    }

    fn poll(&self) -> Option<Reply> {
        let reply = self.registers.read32(REPLY_QUEUE);
        if reply == u32::MAX {
            return None;
        }
        if reply & 0x8000_0000 == 0 {
            return Some(Reply::Turbo(reply));
        }
        let offset = (reply << 1).wrapping_sub(self.replies.bus(0).low()) as usize;
        let frame = Reply::Frame {
            context: self.replies.read_u32(offset + 8),
            status: (self.replies.read_u32(offset + 12) >> 16) as u16,
        };
        self.registers.write32(REPLY_QUEUE, reply << 1);
        Some(frame)
    }

    fn reply(&self) -> Reply {
        within("a reply", Duration::from_secs(20), || self.poll())
    }

    /// Takes the unit attention that every disk has after power on or reset.
    fn take_unit_attention(&self, target: u8) {
        let nothing = Memory::new(self.bus.allocate(0, 4).unwrap());
        self.read_command(0, target, &[0; 6], &nothing);
        let reply = self.reply();
        assert!(matches!(reply, Reply::Frame { context: 0x1000, .. }), "{reply:?}");
        assert_eq!(self.sense.read_u32(0) & 0x7f, 0x70, "fixed format sense");
        assert_eq!(self.sense.read_u32(0) >> 16 & 0x0f, 6, "UNIT ATTENTION");
    }

    fn read_block(&self, target: u8, block: u8) -> Vec<u8> {
        let data = Memory::new(self.bus.allocate(512, 512).unwrap());
        self.read_command(0, target, &[0x28, 0, 0, 0, 0, block, 0, 0, 1, 0], &data);
        let reply = self.reply();
        assert!(matches!(reply, Reply::Turbo(0x1000)), "{reply:?}");
        let mut bytes = vec![0; 512];
        data.copy_out(0, &mut bytes);
        bytes
    }
}

#[test]
fn the_controller_is_found_and_states_its_facts() {
    let bus = Qtest::start(&QtestOptions::default()).unwrap();
    assert_eq!(bus.pci_id(), (0x1000, 0x0054));
    let registers = bus.registers();
    assert_eq!(registers.read32(DOORBELL) >> 28, STATE_READY);
    assert_eq!(bus.accesses(), (1, 0));
    let facts = handshake(&registers, &[u32::from(FUNCTION_IOC_FACTS) << 24, 0, 0]);
    assert_eq!(facts[1] >> 8, u16::from(FUNCTION_IOC_FACTS));
    assert_eq!(facts[0], 0x0105, "MsgVersion");
    assert_eq!(facts[7], 0, "IOCStatus");
    bus.reset_accesses();
    assert_eq!(bus.accesses(), (0, 0));
    assert_eq!(bus.failure(), None);
}

#[test]
fn disks_answer_inquiry_and_read_what_their_images_hold() {
    let directory = TempDir::new().unwrap();
    let first = image(&directory, "first, with a comma", 1 << 20);
    let second = image(&directory, "second", 1 << 20);
    let bus = Qtest::start(&with_disks(vec![
        QtestDisk {
            product: Some("FIRST".into()),
            serial: Some("A1".into()),
            wwn: 0x5000_0000_0000_0001,
            ..QtestDisk::new(0, Backend::File(first))
        },
        QtestDisk { read_only: true, block_size: 4096, ..QtestDisk::new(7, Backend::File(second)) },
    ]))
    .unwrap();
    let ioc = Ioc::new(&bus);

    let inquiry = Memory::new(bus.allocate(36, 4).unwrap());
    ioc.read_command(0, 0, &[0x12, 0, 0, 0, 36, 0], &inquiry);
    assert!(matches!(ioc.reply(), Reply::Turbo(0x1000)));
    let mut bytes = [0; 36];
    inquiry.copy_out(0, &mut bytes);
    assert_eq!(&bytes[16..32], b"FIRST           ");

    ioc.take_unit_attention(0);
    for block in [0, 1, 63] {
        assert_eq!(ioc.read_block(0, block), pattern(u64::from(block)), "block {block}");
    }

    ioc.take_unit_attention(7);
    let block = Memory::new(bus.allocate(4096, 4096).unwrap());
    ioc.read_command(3, 7, &[0x28, 0, 0, 0, 0, 1, 0, 0, 1, 0], &block);
    assert!(matches!(ioc.reply(), Reply::Turbo(0x1003)));
    let mut bytes = vec![0; 4096];
    block.copy_out(0, &mut bytes);
    assert_eq!(bytes, (8..16).flat_map(pattern).collect::<Vec<u8>>());

    // Nothing at target 3: DEVICE_NOT_THERE.
    ioc.read_command(1, 3, &[0x12, 0, 0, 0, 36, 0], &inquiry);
    let reply = ioc.reply();
    assert!(matches!(reply, Reply::Frame { context: 0x1001, status: 0x43 }), "{reply:?}");
}

#[test]
fn what_was_written_and_flushed_is_in_the_file() {
    let directory = TempDir::new().unwrap();
    let path = image(&directory, "disk", 1 << 20);
    let bus =
        Qtest::start(&with_disks(vec![QtestDisk::new(0, Backend::File(path.clone()))])).unwrap();
    let ioc = Ioc::new(&bus);
    let data = Memory::new(bus.allocate(512, 512).unwrap());
    ioc.take_unit_attention(0);
    data.fill(0, 512, 0xa7);
    // As `read_command`, but the data goes the other way (control and SGE direction bits).
    let address = data.bus(0);
    ioc.post(
        0,
        &[
            0,
            10 | 18 << 8,
            0x1000,
            0,
            0,
            0x0100_0000,
            0x0000_002a,
            0x0000_0900,
            0x0000_0001,
            0,
            512,
            ioc.sense.bus(0).low(),
            0xd700_0000 | 512,
            address.low(),
            address.high(),
        ],
    );
    let reply = ioc.reply();
    assert!(matches!(reply, Reply::Turbo(0x1000)), "{reply:?}");
    let none = ioc.sense.bus(0).low();
    ioc.post(1, &[0, 10 | 18 << 8, 0x1001, 0, 0, 0, 0x0000_0035, 0, 0, 0, 0, none, 0xd100_0000, 0]);
    let reply = ioc.reply();
    assert!(matches!(reply, Reply::Turbo(0x1001)), "{reply:?}");
    bus.kill();
    let mut found = [0; 512];
    File::open(&path).unwrap().read_exact_at(&mut found, 9 * 512).unwrap();
    assert_eq!(found, [0xa7; 512]);
}

#[test]
fn every_structure_may_lie_above_4_gib() {
    let directory = TempDir::new().unwrap();
    let path = image(&directory, "disk", 1 << 20);
    let disks = vec![QtestDisk::new(2, Backend::File(path))];
    let bus = Qtest::start(&QtestOptions { high_memory: true, ..with_disks(disks) }).unwrap();
    let ioc = Ioc::new(&bus);
    assert_eq!(ioc.requests.bus(0).high(), 1);
    ioc.take_unit_attention(2);
    assert_eq!(ioc.read_block(2, 5), pattern(5));
    // A command that fails has its reply frame up there, too.
    let data = Memory::new(bus.allocate(512, 512).unwrap());
    ioc.read_command(4, 2, &[0x28, 0, 0x7f, 0, 0, 0, 0, 0, 1, 0], &data);
    let reply = ioc.reply();
    assert!(matches!(reply, Reply::Frame { context: 0x1004, status: 0x45 }), "{reply:?}");
    assert_eq!(ioc.sense.read_u32(0) & 0x7f, 0x70);
}

#[test]
fn the_interrupt_line_follows_the_reply_queue() {
    let directory = TempDir::new().unwrap();
    let path = image(&directory, "disk", 1 << 20);
    let bus = Qtest::start(&with_disks(vec![QtestDisk::new(0, Backend::File(path))])).unwrap();
    let ioc = Ioc::new(&bus);
    // The reply interrupt is let through, the doorbell's is not.
    ioc.registers.write32(INTERRUPT_MASK, 0x1);
    assert!(!bus.interrupt_pending());
    let data = Memory::new(bus.allocate(36, 4).unwrap());
    ioc.read_command(0, 0, &[0x12, 0, 0, 0, 36, 0], &data);
    within("an interrupt", Duration::from_secs(5), || bus.interrupt_pending().then_some(()));
    assert!(ioc.poll().is_some());
    assert!(ioc.poll().is_none());
    assert!(!bus.interrupt_pending());
}

#[test]
fn a_doorbell_reset_makes_an_operational_controller_ready_again() {
    let bus = Qtest::start(&QtestOptions::default()).unwrap();
    for _ in 0..2 {
        let ioc = Ioc::new(&bus);
        // MESSAGE UNIT RESET is 0x40; the state is READY again afterwards.
        ioc.registers.write32(DOORBELL, 0x40 << 24);
        assert_eq!(ioc.registers.read32(DOORBELL) >> 28, STATE_READY);
    }
}

#[test]
fn a_slow_disk_keeps_a_read_pending_until_its_abort() {
    let latency = Duration::from_millis(1500);
    let started = Instant::now();
    let bus = Qtest::start(&with_disks(vec![QtestDisk::new(
        1,
        Backend::Slow { bytes: 1 << 20, latency },
    )]))
    .unwrap();
    assert!(started.elapsed() < latency, "starting QEMU read the slow disk");
    let ioc = Ioc::new(&bus);
    let data = Memory::new(bus.allocate(512, 512).unwrap());
    ioc.take_unit_attention(1);
    ioc.read_command(0, 1, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &data);
    let posted = Instant::now();
    // Commands that touch no blocks are not slow.
    let inquiry = Memory::new(bus.allocate(36, 4).unwrap());
    ioc.read_command(1, 1, &[0x12, 0, 0, 0, 36, 0], &inquiry);
    assert!(matches!(ioc.reply(), Reply::Turbo(0x1001)));
    assert!(posted.elapsed() < latency / 2);

    ioc.task_management(2, 1, TASK_ABORT, 0x1000);
    let mut replies = [ioc.reply(), ioc.reply()].map(|reply| match reply {
        Reply::Frame { context, status } => (context, status),
        Reply::Turbo(context) => panic!("context {context:#x} went well"),
    });
    println!("abort answered after {:?}: {replies:x?}", posted.elapsed());
    replies.sort_unstable();
    assert_eq!(replies, [(0x1000, STATUS_TASK_TERMINATED), (0x1002, 0)]);
    assert!(posted.elapsed() >= latency);
}

#[test]
fn a_throttled_disk_gives_up_its_reads_at_a_target_reset() {
    let directory = TempDir::new().unwrap();
    let path = image(&directory, "disk", 1 << 20);
    let bus = Qtest::start(&with_disks(vec![QtestDisk::new(
        1,
        Backend::Throttled { path, operations_per_second: NonZeroU32::MIN },
    )]))
    .unwrap();
    let ioc = Ioc::new(&bus);
    let data: Vec<_> = (0..8).map(|_| Memory::new(bus.allocate(512, 512).unwrap())).collect();
    ioc.take_unit_attention(1);
    let posted = Instant::now();
    for (slot, data) in data.iter().enumerate() {
        ioc.read_command(slot, 1, &[0x28, 0, 0, 0, 0, slot as u8, 0, 0, 1, 0], data);
    }
    let first = ioc.reply();
    assert!(matches!(first, Reply::Turbo(0x1000)), "{first:?}");
    let mut bytes = vec![0; 512];
    data[0].copy_out(0, &mut bytes);
    assert_eq!(bytes, pattern(0));

    ioc.task_management(8, 1, TASK_RESET_TARGET, 0);
    let mut contexts: Vec<u32> = (0..8)
        .map(|_| match ioc.reply() {
            Reply::Frame { context: 0x1008, status: 0 } => 0x1008,
            Reply::Frame { context, status: STATUS_TASK_TERMINATED } => context,
            other => panic!("{other:?}"),
        })
        .collect();
    println!("all ended after {:?}: {contexts:x?}", posted.elapsed());
    contexts.sort_unstable();
    assert_eq!(contexts, (0x1001..=0x1008).collect::<Vec<u32>>());
    assert!(posted.elapsed() < Duration::from_secs(4));
}

#[test]
fn two_machines_at_once_do_not_meet() {
    let directory = TempDir::new().unwrap();
    let paths = [image(&directory, "a", 1 << 20), image(&directory, "b", 1 << 20)];
    File::options().write(true).open(&paths[1]).unwrap().write_all_at(b"other", 0).unwrap();
    let buses = paths.map(|path| {
        Qtest::start(&with_disks(vec![QtestDisk::new(0, Backend::File(path))])).unwrap()
    });
    let controllers = [Ioc::new(&buses[0]), Ioc::new(&buses[1])];
    let blocks = controllers.map(|ioc| {
        ioc.take_unit_attention(0);
        ioc.read_block(0, 0)
    });
    assert_eq!(blocks[0], pattern(0));
    assert_eq!(&blocks[1][..5], b"other");
}

#[test]
fn a_killed_qemu_reads_as_all_ones_and_leaves_the_memory_valid() {
    let bus = Qtest::start(&QtestOptions::default()).unwrap();
    let registers = bus.registers();
    let memory = Memory::new(bus.allocate(4096, 4096).unwrap());
    kill_process(process(bus.process_id()), Signal::KILL).unwrap();
    within("all ones", Duration::from_secs(5), || {
        (registers.read32(DOORBELL) == u32::MAX).then_some(())
    });
    registers.write32(DOORBELL, 0x40 << 24);
    registers.write64(REQUEST_QUEUE, 1);
    assert!(!bus.interrupt_pending());
    let failure = bus.failure().unwrap().to_string();
    assert!(failure.contains("signal: 9"), "{failure}");
    memory.write_u32(0, 7);
    drop(bus);
    assert_eq!(memory.read_u32(0), 7);
    assert_eq!(registers.read32(DOORBELL), u32::MAX);
}

#[test]
fn dropping_the_bus_ends_qemu_even_if_handles_remain() {
    let (registers, id) = {
        // Started by a thread that ends at once: QEMU must not end with it.
        let bus = std::thread::spawn(|| Qtest::start(&QtestOptions::default()).unwrap());
        let bus = bus.join().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(bus.registers().read32(DOORBELL) >> 28, STATE_READY);
        assert!(lives(bus.process_id()));
        (bus.registers(), bus.process_id())
    };
    assert!(!lives(id));
    assert_eq!(registers.read32(DOORBELL), u32::MAX);
}

#[test]
fn without_qemu_the_error_says_what_to_install() {
    let program = PathBuf::from("qemu-system-not-there");
    let error = Qtest::start(&QtestOptions { program, ..QtestOptions::default() }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot find QEMU (qemu-system-not-there); install it (Debian: apt-get install \
         qemu-system-x86; elsewhere: the distribution's or Homebrew's package of QEMU for x86)"
    );
}

#[test]
fn what_qemu_says_before_it_gives_up_is_quoted() {
    let extra_arguments = ["-device", "no-such-device"].map(Into::into).to_vec();
    let error = Qtest::start(&QtestOptions { extra_arguments, ..QtestOptions::default() });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("'no-such-device' is not a valid device model name"), "{error}");
    assert!(error.contains("exit status: 1"), "{error}");
}

/// What the process does that the next test starts and kills: it holds a bus.
fn hold(path: PathBuf) {
    let bus = Qtest::start(&with_disks(vec![QtestDisk::new(0, Backend::File(path))])).unwrap();
    println!("\nholding {}", bus.process_id());
    std::io::stdout().flush().unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_process_that_is_killed_leaves_no_qemu_and_no_file() {
    const NAME: &str = "a_process_that_is_killed_leaves_no_qemu_and_no_file";
    if let Some(path) = std::env::var_os("QTEST_BUS_IMAGE") {
        return hold(path.into());
    }
    let directory = TempDir::new().unwrap();
    let path = image(&directory, "disk", 1 << 20);
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env("QTEST_BUS_IMAGE", &path)
        .env("TMPDIR", directory.path())
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let id = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("holding ")?.parse::<u32>().ok())
        .expect("the holder starts QEMU");
    assert!(lives(id));
    holder.kill().unwrap();
    holder.wait().unwrap();
    within("QEMU's end", Duration::from_secs(5), || (!lives(id)).then_some(()));
    let left: Vec<_> = list(directory.path());
    assert_eq!(left, ["disk"]);
}

fn list(directory: &Path) -> Vec<String> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn dma_memory_is_aligned_and_runs_out_with_a_sentence() {
    let bus = Qtest::start(&QtestOptions { memory_bytes: 4 << 20, ..QtestOptions::default() });
    let bus = bus.unwrap();
    let piece = bus.allocate(100_000, 65536).unwrap();
    assert_eq!(piece.bus().0 % 65536, 0);
    assert!(piece.bus().0 >= 1 << 20);
    let error = bus.allocate(4 << 20, 16).unwrap_err().to_string();
    assert!(error.contains("give QEMU more memory"), "{error}");
}
