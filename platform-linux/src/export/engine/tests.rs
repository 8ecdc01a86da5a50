//! The engine on software controllers: every request ends once, and disks hold what was written.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::Duration;

use fusion_mpt::outcome::Failure;
use fusion_mpt_mock::faults::{Fault, Plan, Planned, When};

use super::*;
use crate::bus_name::{BusName, MockChip};
use crate::host::Host;
use crate::open::{with_host, with_queues};
use crate::session::Options;

const CHIPS: [MockChip; 4] =
    [MockChip::Sas1068, MockChip::Sas2008, MockChip::Sas3008, MockChip::Sas3816];
const BUFFER_BYTES: usize = 64 << 10;

/// A front that keeps the books.
#[derive(Default)]
struct Books {
    /// Tags with a request under way.
    open: Vec<(DeviceIndex, u16)>,
    ended: VecDeque<(DeviceIndex, u16, Result<u32, Errno>)>,
}

impl Front for Books {
    fn complete(&mut self, device: DeviceIndex, tag: u16, result: Result<u32, Errno>) {
        let at = self.open.iter().position(|open| *open == (device, tag));
        self.open.swap_remove(at.expect("a request ends once"));
        self.ended.push_back((device, tag, result));
    }
}

struct Rig<'h> {
    host: &'h mut dyn Host,
    engine: Engine,
    books: Books,
}

impl<'h> Rig<'h> {
    fn new(host: &'h mut dyn Host) -> Self {
        Self { host, engine: Engine::new(), books: Books::default() }
    }

    fn attach(&mut self, number: u16, tags: u16) -> (DeviceIndex, Arc<Unit>) {
        let scratch = self.host.allocate(crate::export::unit::BUFFER_BYTES).expect("memory");
        let target = crate::disk::find_target(self.host, number).expect("a disk").id;
        let unit = Arc::new(Unit::read(self.host, &scratch, target, 0).expect("a unit"));
        let buffers = (0..tags).map(|_| self.host.allocate(BUFFER_BYTES).expect("memory"));
        let buffers = buffers.collect();
        (self.engine.attach(Arc::clone(&unit), buffers), unit)
    }

    fn start(&mut self, at: (DeviceIndex, u16), operation: Operation, offset: u64, bytes: u64) {
        self.books.open.push(at);
        self.engine.start(self.host, at.0, at.1, operation, offset, bytes);
    }

    /// Polls until something has ended.
    fn next(&mut self) -> (DeviceIndex, u16, Result<u32, Errno>) {
        let deadline = self.host.now() + Duration::from_secs(300);
        loop {
            if let Some(ended) = self.books.ended.pop_front() {
                return ended;
            }
            assert!(self.host.now() < deadline, "nothing ends any more");
            if self.engine.poll(self.host, &mut self.books) == Ok(0) {
                self.host.pause();
            }
        }
    }

    fn run(
        &mut self,
        at: (DeviceIndex, u16),
        operation: Operation,
        offset: u64,
        bytes: u64,
    ) -> Result<u32, Errno> {
        self.start(at, operation, offset, bytes);
        self.next().2
    }

    fn fill(&self, at: (DeviceIndex, u16), byte: u8, bytes: usize) {
        self.engine.buffer(at.0, at.1).expect("a tag").write(0, &vec![byte; bytes]);
    }

    fn data(&self, at: (DeviceIndex, u16), bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        self.engine.buffer(at.0, at.1).expect("a tag").read(0, &mut data);
        data
    }
}

/// Numbers that are the same for a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Random requests on many tags at once, each within its own part of the disk, against a copy.
fn random_work(rig: &mut Rig<'_>, number: u16, tags: u16, requests: u32, seed: u64) {
    let (device, unit) = rig.attach(number, tags);
    let block = unit.block_bytes as usize;
    let part_blocks = 64u64;
    let part = part_blocks as usize * block;
    let mut shadow = vec![0u8; part * usize::from(tags)];
    for tag in 0..tags {
        let bytes = part as u64;
        let zeroes = Operation::WriteZeroes { may_unmap: true };
        assert_eq!(rig.run((device, tag), zeroes, u64::from(tag) * bytes, bytes), Ok(part as u32));
    }
    let mut random = Random(seed);
    let mut under_way: Vec<Option<(Operation, usize, usize)>> = vec![None; usize::from(tags)];
    let (mut begun, mut ended) = (0, 0);
    while ended < requests {
        while begun < requests
            && let Some(tag) = under_way.iter().position(Option::is_none)
        {
            let from = random.below(part_blocks);
            let most = (part_blocks - from).min((BUFFER_BYTES / block) as u64);
            let (at, bytes) =
                (tag * part + from as usize * block, (1 + random.below(most)) as usize * block);
            let place = (device, tag as u16);
            let byte = random.below(256) as u8;
            let operation = match random.below(20) {
                0..8 => Operation::Read,
                8..16 => Operation::Write { fua: random.below(2) == 0 },
                16 => Operation::Flush,
                _ => Operation::WriteZeroes { may_unmap: random.below(2) == 0 },
            };
            match operation {
                Operation::Write { .. } => {
                    rig.fill(place, byte, bytes);
                    shadow[at..at + bytes].fill(byte);
                }
                Operation::WriteZeroes { .. } => shadow[at..at + bytes].fill(0),
                _ => {}
            }
            under_way[tag] = Some((operation, at, bytes));
            rig.start(place, operation, at as u64, bytes as u64);
            begun += 1;
        }
        let (_, tag, result) = rig.next();
        let (operation, at, bytes) = under_way[usize::from(tag)].take().expect("under way");
        assert_eq!(result, Ok(bytes as u32), "{operation:?} of {bytes} at {at}");
        if operation == Operation::Read {
            let data = rig.data((device, tag), bytes);
            assert!(data == shadow[at..at + bytes], "{bytes} bytes at {at} are not as written");
        }
        ended += 1;
    }
    assert_eq!((rig.engine.started(), rig.engine.waiting()), (0, 0));
    assert!(rig.books.open.is_empty());
    assert_eq!(rig.engine.detach(device).map(|buffers| buffers.len()), Some(usize::from(tags)));
}

#[test]
fn what_is_written_on_many_tags_at_once_is_read_back_on_every_chip() {
    for (chip, seed) in CHIPS.into_iter().zip(1..) {
        let options = Options::new(BusName::Mock(chip));
        with_host(options, |host| {
            let mut rig = Rig::new(host);
            random_work(&mut rig, 0, 24, 400, seed);
            random_work(&mut rig, 1, 24, 400, seed + 100);
            Ok(())
        })
        .expect("all is well");
    }
}

#[test]
fn a_full_queue_keeps_the_rest_back_until_there_is_room() {
    let options = Options { commands: 8, ..Options::new(BusName::Mock(MockChip::Sas3008)) };
    with_host(options, |host| {
        let mut rig = Rig::new(host);
        let (device, _) = rig.attach(0, 200);
        assert!(rig.host.depth() < 200);
        for tag in 0..200 {
            rig.start((device, tag), Operation::Read, u64::from(tag) * 4096, 4096);
        }
        assert!(rig.engine.waiting() > 0);
        for _ in 0..200 {
            assert_eq!(rig.next().2, Ok(4096));
        }
        assert_eq!(rig.engine.started(), 0);
        Ok(())
    })
    .expect("all is well");
}

#[test]
fn nothing_is_lost_or_told_twice_while_things_go_wrong() {
    let wrongs = [
        "drop-reply",
        "duplicate-reply",
        "task-set-full",
        "busy-status",
        "fault-state",
        "silent-bus-reset",
        "corrupt-sense",
        "reorder-replies",
    ];
    for (chip, seed) in CHIPS.into_iter().zip(7..) {
        for wrong in wrongs {
            let fault: Fault = wrong.parse().expect("a fault");
            let faults = vec![Planned { fault, when: When::message(120) }];
            let plan = Plan { seed, faults };
            let options = Options { faults: Some(plan), ..Options::new(BusName::Mock(chip)) };
            with_host(options, |host| {
                random_work(&mut Rig::new(host), 0, 16, 160, seed);
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{wrong} on {chip:?}: {error}"));
        }
    }
}

#[test]
fn a_disk_that_is_pulled_ends_what_it_had_with_an_error_and_the_other_one_goes_on() {
    let fault: Fault = "device-pulled".parse().expect("a fault");
    let plan = Plan { seed: 3, faults: vec![Planned { fault, when: When::message(60) }] };
    let options = Options { faults: Some(plan), ..Options::new(BusName::Mock(MockChip::Sas3008)) };
    with_host(options, |host| {
        let mut rig = Rig::new(host);
        let devices = [rig.attach(0, 16).0, rig.attach(1, 16).0];
        let (mut good, mut errors) = ([0, 0], [0, 0]);
        for round in 0..40u64 {
            for device in devices {
                for tag in 0..16 {
                    rig.start((device, tag), Operation::Read, round * 4096, 4096);
                }
            }
            for _ in 0..32 {
                let (device, _, result) = rig.next();
                match result {
                    Ok(_) => good[usize::from(device.0)] += 1,
                    Err(_) => errors[usize::from(device.0)] += 1,
                }
            }
        }
        let pulled = usize::from(errors[1] > 0);
        assert!(errors[pulled] > 0, "no disk was pulled");
        assert_eq!((good[1 - pulled], errors[1 - pulled]), (640, 0));
        assert_eq!(rig.engine.started(), 0);
        Ok(())
    })
    .expect("all is well");
}

#[test]
fn everything_ends_when_the_controller_is_lost() {
    let plan =
        Plan { seed: 1, faults: vec![Planned { fault: Fault::AllOnes, when: When::message(40) }] };
    let options = Options { faults: Some(plan), ..Options::new(BusName::Mock(MockChip::Sas2008)) };
    let result = with_host(options, |host| {
        let mut rig = Rig::new(host);
        let (device, _) = rig.attach(0, 32);
        for tag in 0..32 {
            rig.start((device, tag), Operation::Read, 0, 512);
        }
        let mut lost = None;
        for _ in 0..1_000_000 {
            match rig.engine.poll(rig.host, &mut rig.books) {
                Ok(_) if rig.engine.started() == 0 => {
                    rig.books.ended.clear();
                    for tag in 0..32 {
                        rig.start((device, tag), Operation::Read, 0, 512);
                    }
                }
                Ok(_) => rig.host.pause(),
                Err(error) => {
                    lost = Some(error);
                    break;
                }
            }
        }
        let error = lost.expect("the controller went");
        assert_eq!((rig.engine.started(), rig.engine.waiting()), (0, 0));
        assert!(rig.books.open.is_empty(), "each request ended");
        Err::<(), _>(error)
    });
    assert!(result.is_err());
}

#[test]
fn what_cannot_be_is_refused_and_nothing_is_sent() {
    with_host(Options::new(BusName::Mock(MockChip::Sas3008)), |host| {
        let mut rig = Rig::new(host);
        let (device, unit) = rig.attach(1, 2);
        let at = (device, 0);
        let end = unit.bytes();
        for (operation, offset, bytes, errno) in [
            (Operation::Read, 1, 4096, Errno::INVALID),
            (Operation::Read, 0, 100, Errno::INVALID),
            (Operation::Read, 0, BUFFER_BYTES as u64 * 2, Errno::INVALID),
            (Operation::Read, end, 4096, Errno::NO_SPACE),
            (Operation::Discard, end - 4096, 8192, Errno::NO_SPACE),
            (Operation::Write { fua: false }, u64::MAX - 4095, 4096, Errno::NO_SPACE),
        ] {
            assert_eq!(rig.run(at, operation, offset, bytes), Err(errno), "{operation:?} {offset}");
        }
        assert_eq!(rig.run(at, Operation::Discard, 0, 0), Ok(0));
        assert_eq!(rig.engine.counters().errors, 6);
        let read_only = Arc::new(Unit { read_only: true, ..(*unit).clone() });
        rig.engine.set_unit(device, read_only);
        let refused = rig.run(at, Operation::Write { fua: false }, 0, 4096);
        assert_eq!(refused, Err(Errno::READ_ONLY));
        rig.engine.end_device(device);
        assert_eq!(rig.run(at, Operation::Read, 0, 4096), Err(Errno::NO_DEVICE));
        Ok(())
    })
    .expect("all is well");
}

#[test]
fn a_forced_write_is_followed_by_a_flush_where_the_unit_does_not_know_the_bit() {
    with_host(Options::new(BusName::Mock(MockChip::Sas3008)), |host| {
        let mut rig = Rig::new(host);
        let (device, unit) = rig.attach(0, 1);
        let at = (device, 0);
        assert!(unit.fua && unit.write_cache, "{unit:?}");
        rig.engine.set_unit(device, Arc::new(Unit { fua: false, ..(*unit).clone() }));
        let before = rig.host.counters().submitted;
        rig.fill(at, 7, 4096);
        assert_eq!(rig.run(at, Operation::Write { fua: true }, 0, 4096), Ok(4096));
        assert_eq!(rig.host.counters().submitted - before, 2);
        rig.engine.set_unit(device, unit);
        assert_eq!(rig.run(at, Operation::Write { fua: true }, 0, 4096), Ok(4096));
        assert_eq!(rig.host.counters().submitted - before, 3);
        let counters = rig.engine.counters();
        assert_eq!((counters.writes, counters.flushes), (2, 0));
        Ok(())
    })
    .expect("all is well");
}

#[test]
fn a_further_queue_serves_an_engine_in_a_thread_of_its_own() {
    let options = Options { queues: 2, ..Options::new(BusName::Mock(MockChip::Sas3816)) };
    with_queues(options, |host, mut further| {
        let scratch = host.allocate(4096)?;
        let target = crate::disk::find_target(host, 0)?.id;
        let unit = Arc::new(Unit::read(host, &scratch, target, 0)?);
        let buffers: Result<Vec<Buffer>, Error> = (0..8).map(|_| host.allocate(4096)).collect();
        let buffers = buffers?;
        let mut queue = further.pop().expect("a further queue");
        std::thread::scope(|scope| {
            let worker = scope.spawn(move || {
                let (mut engine, mut books) = (Engine::new(), Books::default());
                let device = engine.attach(unit, buffers);
                let mut ended = 0;
                while ended < 800 {
                    for tag in 0..8 {
                        if !books.open.contains(&(device, tag)) {
                            books.open.push((device, tag));
                            let offset = u64::from(tag) * 4096;
                            engine.start(&mut *queue, device, tag, Operation::Read, offset, 4096);
                        }
                    }
                    if engine.poll(&mut *queue, &mut books) == Ok(0) {
                        queue.pause();
                    }
                    while let Some((_, _, result)) = books.ended.pop_front() {
                        assert_eq!(result, Ok(4096));
                        ended += 1;
                    }
                }
                while engine.started() > 0 {
                    engine.poll(&mut *queue, &mut books).expect("it works");
                }
            });
            while !worker.is_finished() {
                host.poll(&mut |_| {}).expect("it works");
                host.pause();
            }
            worker.join().expect("it works");
        });
        Ok(())
    })
    .expect("all is well");
}

#[test]
fn a_unit_without_much_to_say_is_read_too() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&[0; 1 << 20]).expect("room");
    let disks = vec![file.path().to_owned()];
    let options = Options { disks, ..Options::new(BusName::Mock(MockChip::Sas1068)) };
    with_host(options, |host| {
        let mut rig = Rig::new(host);
        let (_, unit) = rig.attach(0, 1);
        assert_eq!((unit.bytes(), unit.block_bytes), (1 << 20, 512));
        assert!(unit.name.is_some() && unit.identity().is_some());
        assert!(unit.discard.is_some() && unit.write_zeroes.is_some());
        Ok(())
    })
    .expect("all is well");
}

#[test]
fn commands_that_recovery_has_ended_are_not_sent_for_ever() {
    let buffer =
        with_host(Options::new(BusName::Mock(MockChip::Sas3008)), |host| host.allocate(4096))
            .expect("memory");
    let mut slot = Slot::new(buffer);
    let now = Duration::from_secs(5);
    let tries = (0..100).take_while(|_| slot.try_again(Patience::Now, now).is_some()).count();
    assert_eq!(tries as u32, ATTEMPTS - 1);
    assert_eq!(slot.try_again(Patience::Full, now), Some(FULL_PAUSE));
    assert_eq!(slot.try_again(Patience::Full, now + FULL_LIMIT), None);
    let late = Ended { outcome: Outcome::Failed(Failure::TimedOut), sense: Vec::new() };
    assert_eq!(block::given_up(&late), Errno::TIMED_OUT);
}
