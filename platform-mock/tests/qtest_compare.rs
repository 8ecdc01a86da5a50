//! The same session on QEMU's SAS1068 and on ours, answers compared field by field.
//!
//! QEMU's controller was written by strangers; where ours answers otherwise, one of the two is
//! wrong or the standard leaves room. [`DIFFERENCES`] names each such field and says why, and a
//! difference that is listed but not there fails the test too.

mod common;

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::time::{Duration, Instant};

use common::qemu::Machine;
use common::{Data, Done, Random, Rig, command, ready};
use fusion_mpt::controller::{Action, TaskRoute};
use fusion_mpt::generation::{Command, Device, Mpi1};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::pages::PageRequest;
use fusion_mpt::platform::Registers;
use fusion_mpt::recovery::{ResetReason, TaskRequest, TaskType};
use fusion_mpt::scsi::{Cdb, Lun, Sense};
use fusion_mpt::sgl::Direction;
use fusion_mpt::wire::config::{ExtPageType, PageId, PageType, page_address};
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::disk::Disk;
use fusion_mpt_mock::in_process::{MockBus, Options};
use fusion_mpt_mock::model::Chip;
use fusion_mpt_mock::qtest::{Backend, Qtest};
use fusion_mpt_mock::target::{Target, TargetConfig};

const DISK: u64 = 1 << 20;
/// The target whose commands stay outstanding: QEMU's is slow, ours is held back.
const SLOW: u16 = 3;
const REQUEST_QUEUE: u16 = 0x40;

/// Fields that may differ, by name (`*` stands for anything), and why.
const DIFFERENCES: &[(&str, &str)] = &[
    ("manufacturing page 0 (0x0) +*", "names of chip and board"),
    ("manufacturing page 5 (0x0) +*", "the controller's SAS address"),
    ("SAS phy page 0 (*) +0x0c", "the controller's SAS address"),
    ("SAS phy page 0 (*) +0x10", "the controller's SAS address"),
    ("IO unit page 0 (0x0) +*", "the controller's unique name"),
    ("IO unit page 2 (0x0) +*", "PCI address and flags of the boot firmware, zero in ours"),
    ("SAS IO unit page 0 (0x0) +*", "a phy is owned by itself, QEMU's by the disk on it"),
    ("SAS phy page 0 (*) +0x08", "likewise"),
    ("facts.capabilities", "QEMU has no high-priority FIFO, which mptsas takes for granted"),
    ("facts.high_priority_*", "likewise"),
    ("SAS expander page 0 (0x0): error", "QEMU knows no expanders at all"),
    ("enclosure page 0 (0x0)*", "QEMU has no enclosure"),
    ("target *.page.enclosure_handle", "QEMU has no enclosure"),
    ("target *.page.slot", "QEMU has no slots"),
    ("SAS device page 0 (*) +0x08", "slot and enclosure handle, as above"),
    ("*: sense pointer", "QEMU's disks do not point at the field that is wrong"),
    ("SYNCHRONIZE CACHE (16): *", "QEMU's disks do not have it"),
    ("a * with more *: outcome", "QEMU moves as much as the list holds, whatever the CDB says"),
    ("after a reset: *", "QEMU's message unit reset reaches the disks"),
    ("after * reset (*: sense key", "ours says that it was a reset (29/03), QEMU 29/00"),
    ("* reset (0x*) by * of commands.terminated", "QEMU does not count what a reset ends"),
    ("target reset (0x03) by * for 0/8/0.status", "QEMU lets one target too many pass"),
];

/// Whether `name` is what `pattern` stands for.
fn matches(pattern: &str, name: &str) -> bool {
    let (first, rest) = pattern.split_once('*').unwrap_or((pattern, ""));
    let Some(name) = name.strip_prefix(first) else { return false };
    if first.len() == pattern.len() {
        return name.is_empty();
    }
    (0..=name.len()).any(|from| name.get(from..).is_some_and(|tail| matches(rest, tail)))
}

/// What a bus must be able to do for the session.
trait Stage: Bus {
    /// Keeps commands outstanding from now on, or lets them go.
    fn hold(&self, hold: bool);
}

impl Stage for Qtest {
    fn hold(&self, _hold: bool) {}
}

impl Stage for MockBus {
    fn hold(&self, hold: bool) {
        self.with_model(|model| model.hold_commands(hold));
    }
}

/// Every answer of a session, by name.
#[derive(Default)]
struct Answers(BTreeMap<String, String>);

impl Answers {
    fn note(&mut self, name: impl Into<String>, value: impl Debug) {
        let name = name.into();
        let earlier = self.0.insert(name.clone(), format!("{value:?}"));
        assert!(earlier.is_none(), "{name} was noted twice");
    }

    /// Each field of a struct by its own name.
    fn fields(&mut self, name: &str, value: impl Debug) {
        let mut path = vec![name.to_owned()];
        for line in format!("{value:#?}").lines().skip(1) {
            let line = line.trim().trim_end_matches(',');
            let (field, rest) = line.split_once(": ").unwrap_or(("", line));
            if line.starts_with(['}', ')', ']']) {
                path.pop();
            } else if rest.ends_with(['{', '(', '[']) {
                path.push(field.to_owned());
            } else {
                self.note(format!("{}.{field}", path.join(".")), rest);
            }
        }
    }

    fn done(&mut self, name: &str, done: &Done) {
        self.note(format!("{name}: outcome"), done.outcome);
        self.note(format!("{name}: log info"), done.log_info);
        if let Some(sense) = Sense::parse(&done.sense) {
            self.note(format!("{name}: sense key"), (sense.key, sense.asc, sense.ascq));
            self.note(format!("{name}: sense format"), done.sense[0] & 0x7f);
            self.note(format!("{name}: sense pointer"), (sense.field, sense.information));
        }
    }
}

struct Session<'s, B: Stage> {
    rig: Rig<B, Mpi1>,
    answers: &'s mut Answers,
}

impl<B: Stage> Session<'_, B>
where
    B::Dma: Debug,
{
    fn device(target: u16) -> Device {
        Device::at_bus_and_target(0, target as u8)
    }

    fn run(&mut self, name: &str, device: Device, command: &Command<'_>) -> Done {
        let before = self.rig.controller.counters();
        let done = self.rig.run(device, command);
        let after = self.rig.controller.counters();
        self.answers.done(name, &done);
        let frames = after.with_reply_frame - before.with_reply_frame;
        self.answers.note(format!("{name}: reply frames"), frames);
        done
    }

    fn commands(&mut self) {
        let data = self.rig.data(64 << 10);
        let tur = Cdb::test_unit_ready();
        let none = |cdb| command(cdb, Direction::None, &[]);
        self.run("first command", Self::device(0), &none(&tur));
        self.run("second command", Self::device(0), &none(&tur));
        self.rig.clear_attentions();

        for (bus, target) in [(0, 4), (0, 7), (0, 8), (0, 0xff), (1, 0), (0xff, 0)] {
            let name = format!("to bus {bus}, target {target}");
            self.run(&name, Device::at_bus_and_target(bus, target), &none(&tur));
        }
        for lun in [1, 7] {
            let name = format!("to logical unit {lun}");
            let command = Command { lun: Lun::peripheral(lun), ..none(&tur) };
            self.run(&name, Self::device(0), &command);
        }
        self.cdbs(&data);
        self.lengths(&data);
        self.scattered(&data);
    }

    /// Commands as they are meant, and beyond what the disk has.
    fn cdbs(&mut self, data: &Data<B::Dma>) {
        let last = (DISK / 512 - 1) as u32;
        let device = Self::device(1);
        let mut random = Random::new(11);
        let cases: [(&str, Cdb, Direction, usize); 22] = [
            ("WRITE (6)", Cdb::write_6(8, 2).unwrap(), Direction::Write, 1024),
            ("WRITE (10)", Cdb::write_10(10, 2), Direction::Write, 1024),
            ("WRITE (12)", Cdb::write_12(12, 2), Direction::Write, 1024),
            ("WRITE (16)", Cdb::write_16(14, 2), Direction::Write, 1024),
            ("READ (6)", Cdb::read_6(7, 10).unwrap(), Direction::Read, 5120),
            ("READ (10)", Cdb::read_10(7, 10), Direction::Read, 5120),
            ("READ (12)", Cdb::read_12(7, 10), Direction::Read, 5120),
            ("READ (16)", Cdb::read_16(7, 10), Direction::Read, 5120),
            ("FUA", Cdb::write_10(30, 1).forced_unit_access(), Direction::Write, 512),
            ("SYNCHRONIZE CACHE (10)", Cdb::synchronize_cache_10(0, 0), Direction::None, 0),
            ("SYNCHRONIZE CACHE (16)", Cdb::synchronize_cache_16(0, 0), Direction::None, 0),
            ("READ CAPACITY (10)", Cdb::read_capacity_10(), Direction::Read, 8),
            ("no blocks read", Cdb::read_10(0, 0), Direction::None, 0),
            ("no blocks written", Cdb::write_10(0, 0), Direction::None, 0),
            ("the last block", Cdb::read_10(last, 1), Direction::Read, 512),
            ("past the last block", Cdb::read_10(last, 2), Direction::Read, 1024),
            ("written past the last block", Cdb::write_10(last, 2), Direction::Write, 1024),
            ("far past the end", Cdb::read_16(1 << 40, 1), Direction::Read, 512),
            ("an unknown code", Cdb::from_bytes(&[0xd0; 6]).unwrap(), Direction::None, 0),
            ("INQUIRY", Cdb::inquiry(36), Direction::Read, 36),
            ("INQUIRY page 0xff", Cdb::inquiry_vpd(0xff, 64), Direction::Read, 64),
            ("MODE SENSE page 0x3e", Cdb::mode_sense_6(0x3e, 64), Direction::Read, 64),
        ];
        for (name, cdb, direction, length) in cases {
            let bytes = match direction {
                Direction::Write => random.bytes(length),
                _ => vec![0xee; length],
            };
            data.write(0, &bytes);
            let segments = [data.segment(0, length)];
            let segments = if length == 0 { &[][..] } else { &segments[..] };
            let done = self.run(name, device, &command(&cdb, direction, segments));
            if direction == Direction::Read && cdb.opcode() != Cdb::inquiry(0).opcode() {
                let moved = done.outcome.transferred() as usize;
                self.answers.note(format!("{name}: data"), data.read(0, moved));
            }
        }
    }

    /// Directions and lengths that do not fit the command.
    fn lengths(&mut self, data: &Data<B::Dma>) {
        let device = Self::device(1);
        let (read, write, tur) = (Cdb::read_10(0, 2), Cdb::write_10(0, 2), Cdb::test_unit_ready());
        let inquiry = Cdb::inquiry(36);
        let unknown = Cdb::from_bytes(&[0xd0; 6]).unwrap();
        for (name, cdb, direction, length) in [
            ("a read as write", read, Direction::Write, 1024),
            ("a write as read", write, Direction::Read, 1024),
            ("a read without data", read, Direction::None, 0),
            ("a write without data", write, Direction::None, 0),
            ("half of a read", read, Direction::Read, 512),
            ("half of a write", write, Direction::Write, 512),
            ("a read with more room", read, Direction::Read, 2048),
            ("a write with more data", write, Direction::Write, 2048),
            ("an inquiry with more room", inquiry, Direction::Read, 252),
            ("no data with room to read", tur, Direction::Read, 512),
            ("no data with data to write", tur, Direction::Write, 512),
            ("an unknown code with room", unknown, Direction::Read, 512),
        ] {
            data.fill(0xee);
            let segments = [data.segment(0, length)];
            let segments = if length == 0 { &[][..] } else { &segments[..] };
            self.run(name, device, &command(&cdb, direction, segments));
            self.answers.note(
                format!("{name}: bytes touched"),
                data.read(0, 4096).iter().filter(|byte| **byte != 0xee).count() > 0,
            );
        }
    }

    /// Chains of every length up to 66 elements.
    fn scattered(&mut self, data: &Data<B::Dma>) {
        let device = Self::device(2);
        let bytes = Random::new(12).bytes(66 * 512);
        for count in 1..=66usize {
            let list: Vec<_> = (0..count).map(|index| data.segment(index * 520, 512)).collect();
            let lba = count as u64 * 3;
            for (index, block) in bytes.chunks(512).take(count).enumerate() {
                data.write(index * 520, block);
            }
            let write = Cdb::write(lba, count as u32);
            let name = format!("{count} segments written");
            self.run(&name, device, &command(&write, Direction::Write, &list));
            data.fill(0);
            let read = Cdb::read(lba, count as u32);
            let name = format!("{count} segments read");
            self.run(&name, device, &command(&read, Direction::Read, &list));
            let same =
                (0..count).all(|index| data.read(index * 520, 512) == bytes[index * 512..][..512]);
            self.answers.note(format!("{count} segments: data is right"), same);
        }
    }

    fn pages(&mut self) {
        let mut requests = Vec::new();
        for (page_type, last) in [
            (PageType::MANUFACTURING, 11),
            (PageType::IO_UNIT, 5),
            (PageType::IOC, 7),
            (PageType::BIOS, 2),
            (PageType::RAID_VOLUME, 1),
            (PageType::RAID_PHYS_DISK, 0),
            (PageType::FC_PORT, 0),
            (PageType::LAN, 1),
        ] {
            for number in 0..=last {
                requests.push((PageId::plain(page_type, number), 0));
            }
        }
        for number in 0..=4 {
            requests.push((PageId::extended(ExtPageType::SAS_IO_UNIT, number), 0));
        }
        for number in 0..=2 {
            for address in [0, 3, 4, 8, 0x1_0000_u32]
                .into_iter()
                .chain([page_address::sas_phy_index(1), page_address::sas_phy_index(9)])
            {
                requests.push((PageId::extended(ExtPageType::SAS_PHY, number), address));
            }
        }
        for number in 0..=3 {
            for address in [
                page_address::next_handle(page_address::FIRST),
                page_address::next_handle(9),
                page_address::next_handle(12),
                page_address::next_handle(16),
                page_address::sas_device(9),
                page_address::sas_device(13),
                page_address::sas_device(0),
                page_address::sas_device_at(0, 3),
                page_address::sas_device_at(0, 4),
                page_address::sas_device_at(1, 0),
            ] {
                requests.push((PageId::extended(ExtPageType::SAS_DEVICE, number), address));
            }
        }
        for page_type in
            [ExtPageType::SAS_EXPANDER, ExtPageType::ENCLOSURE, ExtPageType::LOG, ExtPageType(3)]
        {
            requests.push((PageId::extended(page_type, 0), 0));
        }
        for (page, address) in requests {
            let name = format!("{page} ({address:#x})");
            match self.rig.page(PageRequest::new(page, address)) {
                Ok(bytes) => {
                    self.answers.note(format!("{name}: bytes"), bytes.len());
                    for (index, word) in bytes.chunks(4).enumerate() {
                        let mut value = String::new();
                        word.iter().for_each(|byte| write!(value, "{byte:02x} ").unwrap());
                        self.answers.note(format!("{name} +{:#04x}", index * 4), value);
                    }
                }
                Err(error) => self.answers.note(format!("{name}: error"), error),
            }
        }
    }

    fn tasks(&mut self) {
        let kinds = [
            TaskType::ABORT_TASK,
            TaskType::QUERY_TASK,
            TaskType::ABORT_TASK_SET,
            TaskType::CLEAR_TASK_SET,
            TaskType::LOGICAL_UNIT_RESET,
            TaskType::TARGET_RESET,
            TaskType::RESET_BUS,
            TaskType::CLEAR_ACA,
            TaskType(0x55),
        ];
        for (route, way) in [(TaskRoute::Queue, "queue"), (TaskRoute::Doorbell, "doorbell")] {
            for kind in kinds {
                for (bus, target, lun) in
                    [(0, 0, 0), (0, 0, 1), (0, 5, 0), (0, 8, 0), (0, 9, 0), (1, 0, 0)]
                {
                    let device = Device::at_bus_and_target(bus, target);
                    let lun = if lun == 0 { Lun::default() } else { Lun::peripheral(lun) };
                    let request = TaskRequest { kind, device, lun, smid: 90 };
                    let reply = self.rig.controller.task_management(
                        &mut common::Sleep,
                        &request,
                        route,
                        |_| panic!(),
                    );
                    let name = format!("{kind} by {way} for {bus}/{target}/{lun}");
                    match reply {
                        Ok(reply) => self.answers.fields(&name, reply),
                        Err(error) => self.answers.note(name, error),
                    }
                }
                // What a reset leaves behind.
                let tur = Cdb::test_unit_ready();
                let name = format!("after {kind} by {way}");
                self.run(&name, Self::device(0), &command(&tur, Direction::None, &[]));
                self.rig.clear_attentions();
            }
        }
        for (route, way) in [(TaskRoute::Queue, "queue"), (TaskRoute::Doorbell, "doorbell")] {
            for kind in &kinds[..7] {
                self.task_with_commands(*kind, route, &format!("{kind} by {way} of commands"));
            }
        }
    }

    /// Task management while three commands are outstanding, the second of which it names.
    fn task_with_commands(&mut self, kind: TaskType, route: TaskRoute, name: &str) {
        let data = self.rig.data(3 * 512);
        self.rig.bus.hold(true);
        let cookies: Vec<_> = (0..3)
            .map(|index| {
                let cdb = Cdb::read(index, 1);
                let segments = [data.segment(index as usize * 512, 512)];
                let read = command(&cdb, Direction::Read, &segments);
                self.rig.submit(Self::device(SLOW), &read)
            })
            .collect();
        let reply = self.rig.task(kind, Self::device(SLOW), Some(cookies[1]), route);
        self.rig.bus.hold(false);
        self.answers.fields(name, reply.unwrap_or_else(|error| panic!("{name}: {error}")));
        for (index, cookie) in cookies.into_iter().enumerate() {
            let done = self.rig.wait(cookie);
            self.answers.done(&format!("{name}, command {index}"), &done);
        }
        self.rig.clear_attentions();
    }

    /// A message unit reset with commands outstanding, then a fault, then a new start.
    fn resets(self) {
        let Self { mut rig, answers } = self;
        let data = rig.data(512);
        rig.bus.hold(true);
        let cdb = Cdb::read(0, 1);
        let segments = [data.segment(0, 512)];
        let read = command(&cdb, Direction::Read, &segments);
        let cookie = rig.submit(Self::device(SLOW), &read);
        let mut rig = rig.restart(&Wants::default());
        rig.bus.hold(false);
        answers.done("outstanding at a reset", &rig.take(cookie));
        answers.note("found after a reset", rig.controller.targets().count());
        let mut session = Session { rig, answers };
        let tur = Cdb::test_unit_ready();
        session.run("after a reset", Self::device(0), &command(&tur, Direction::None, &[]));

        let Session { mut rig, answers } = session;
        rig.clear_attentions();
        rig.actions.clear();
        // A function that there is not.
        let frame = rig.data(128);
        frame.write(0, &[0, 0, 0, 0x7f, 0, 0, 0, 0, 0x55, 0, 0, 0]);
        rig.bus.registers().write32(REQUEST_QUEUE, frame.segment(0, 1).address.low());
        let start = Instant::now();
        while !rig
            .actions
            .iter()
            .any(|action| matches!(action, Action::ResetNeeded(ResetReason::Fault(_))))
        {
            rig.watch();
            std::thread::sleep(Duration::from_millis(1));
            assert!(start.elapsed() < Duration::from_secs(5), "no fault");
        }
        answers.note("after an unknown function", &rig.actions);
        answers.note("doorbell in fault", rig.bus.registers().read32(0) & 0xf800_ffff);
        let mut rig = rig.restart(&Wants::default());
        rig.clear_attentions();
        let done = rig.run(Self::device(0), &read);
        answers.done("after a fault and a restart", &done);
        answers.note("lies", rig.controller.counters().lies());
    }
}

fn session<B: Stage>(bus: B) -> BTreeMap<String, String>
where
    B::Dma: Debug,
{
    let mut answers = Answers::default();
    answers.note("doorbell at power on", bus.registers().read32(0));
    let ready = ready::<_, Mpi1>(&bus);
    answers.note("reset kind", ready.reset_kind());
    answers.fields("facts", ready.facts());
    answers.fields("port facts", ready.port_facts());
    let rig = Rig::start(bus, ready, &Wants::default(), None);
    answers.fields("plan", rig.controller.plan());
    for target in rig.controller.targets() {
        answers.fields(&format!("target {}", target.id.0), target);
    }
    answers.note("actions", &rig.actions);
    answers.note("events", rig.controller.counters().events);
    let mut session = Session { rig, answers: &mut answers };
    session.commands();
    session.pages();
    session.tasks();
    session.resets();
    answers.0
}

fn ours() -> MockBus {
    let target = |id: u64| {
        let config = TargetConfig {
            wwn: 0x5000_c500_0000_0100 + id,
            sas_address: 0x5000_c500_0000_0100 + id,
            serial: format!("QTEST{id}"),
            ..TargetConfig::default()
        };
        Target::new(config, Disk::memory(DISK))
    };
    MockBus::new(Options::threaded(Chip::SAS1068, (0..4).map(target).collect()))
}

fn qemus() -> (Machine, Qtest) {
    let mut machine = Machine::with_disks(3, DISK);
    let latency = Duration::from_millis(100);
    machine.add(SLOW as u8, Backend::Slow { bytes: DISK, latency });
    let bus = machine.start();
    (machine, bus)
}

#[test]
fn our_sas1068_answers_as_qemus_does() {
    let (_machine, bus) = qemus();
    let theirs = session(bus);
    let ours = session(ours());
    let absent = String::from("(nothing)");
    let mut unexpected = String::new();
    let mut seen = vec![0; DIFFERENCES.len()];
    let names: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    for name in &names {
        let (theirs, ours) =
            (theirs.get(*name).unwrap_or(&absent), ours.get(*name).unwrap_or(&absent));
        if theirs == ours {
            continue;
        }
        match DIFFERENCES.iter().position(|(pattern, _)| matches(pattern, name)) {
            Some(index) => seen[index] += 1,
            None => writeln!(unexpected, "{name}\n    QEMU {theirs}\n    ours {ours}").unwrap(),
        }
    }
    println!("{} answers compared", names.len());
    for ((field, reason), seen) in DIFFERENCES.iter().zip(seen) {
        println!("{seen} of {field} differ: {reason}");
        assert!(seen > 0, "{field} does not differ");
    }
    assert!(unexpected.is_empty(), "answers that differ:\n{unexpected}");
}
