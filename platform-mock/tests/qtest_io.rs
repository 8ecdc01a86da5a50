//! Reads and writes through the driver on QEMU's controller, held against the image files.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use common::qemu::Machine;
use common::{Random, Rig, command};
use fusion_mpt::error::SubmitError;
use fusion_mpt::generation::{Command, Mpi1, TaskAttribute};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::scsi::{Cdb, SenseKey};
use fusion_mpt::sgl::{Direction, Segment, SglFormat};
use fusion_mpt_mock::qtest::{Backend, Qtest};

const MIB: usize = 1 << 20;

/// Sees to it that everything written to a target is in its image.
fn flush(rig: &mut Rig<Qtest>, id: u16) {
    rig.run_without_data(rig.device(id), &Cdb::synchronize_cache_10(0, 0)).assert_good(0);
}

#[test]
fn a_plain_read_is_answered_without_a_reply_frame() {
    let machine = Machine::with_disks(1, MIB as u64);
    let bytes = Random::new(1).bytes(4096);
    machine.write_image(0, 8 * 512, &bytes);
    let mut rig = Rig::<_, Mpi1>::new(machine.start());
    rig.clear_attentions();
    let before = rig.controller.counters();
    let data = rig.data(4096);
    rig.run_in(rig.device(0), &Cdb::read_10(8, 8), &data, 4096).assert_good(4096);
    assert_eq!(data.read(0, 4096), bytes);
    let after = rig.controller.counters();
    assert_eq!(after.with_reply_frame, before.with_reply_frame);
    assert_eq!(after.completed, before.completed + 1);
    assert_eq!(after.submitted, after.completed);
    assert_eq!(after.lies(), 0);
}

#[test]
fn commands_of_every_length_read_and_write_the_same_blocks() {
    let machine = Machine::with_disks(1, MIB as u64);
    let mut rig = Rig::<_, Mpi1>::new(machine.start());
    rig.clear_attentions();
    let device = rig.device(0);
    let data = rig.data(1024);
    let mut random = Random::new(2);
    let pairs = [
        (Cdb::write_6(10, 2).unwrap(), Cdb::read_6(10, 2).unwrap()),
        (Cdb::write_10(20, 2), Cdb::read_10(20, 2)),
        (Cdb::write_12(30, 2), Cdb::read_12(30, 2)),
        (Cdb::write_16(40, 2), Cdb::read_16(40, 2)),
    ];
    for ((write, read), lba) in pairs.iter().zip([10, 20, 30, 40]) {
        let bytes = random.bytes(1024);
        data.write(0, &bytes);
        rig.run_out(device, write, &data, 1024).assert_good(1024);
        flush(&mut rig, 0);
        assert_eq!(machine.read_image(0, lba * 512, 1024), bytes, "{write:?}");
        data.fill(0);
        rig.run_in(device, read, &data, 1024).assert_good(1024);
        assert_eq!(data.read(0, 1024), bytes, "{read:?}");
    }
    // The message of this generation has no room for more.
    let error = rig
        .try_submit(device, &command(&Cdb::read_32(0, 1), Direction::Read, &[data.segment(0, 512)]))
        .unwrap_err();
    assert_eq!(error, SubmitError::CdbLength(32));
    assert_eq!(rig.controller.outstanding(), 0);
}

#[test]
fn blocks_beyond_two_to_the_32nd_are_reached() {
    const TIB: u64 = 1 << 40;
    let machine = Machine::with_disks(1, 3 * TIB);
    let mut rig = Rig::<_, Mpi1>::new(machine.start());
    rig.clear_attentions();
    let device = rig.device(0);
    let data = rig.data(8192);
    rig.run_in(device, &Cdb::read_capacity_10(), &data, 8).assert_good(8);
    assert_eq!(data.read(0, 4), [0xff; 4], "too big for READ CAPACITY (10)");
    rig.run_in(device, &Cdb::read_capacity_16(32), &data, 32).assert_good(32);
    let last = u64::from_be_bytes(data.read(0, 8).try_into().unwrap());
    assert_eq!(last, 3 * TIB / 512 - 1);

    let mut random = Random::new(3);
    for lba in [(1 << 32) - 8, 1 << 32, last - 15] {
        let bytes = random.bytes(8192);
        data.write(0, &bytes);
        rig.run_out(device, &Cdb::write_16(lba, 16), &data, 8192).assert_good(8192);
        flush(&mut rig, 0);
        assert_eq!(machine.read_image(0, lba * 512, 8192), bytes);
        data.fill(0);
        rig.run_in(device, &Cdb::read(lba, 16), &data, 8192).assert_good(8192);
        assert_eq!(data.read(0, 8192), bytes);
    }
    // Nothing was written where the low 32 bits alone point.
    assert_eq!(machine.read_image(0, 0, 8192), [0; 8192]);
    rig.run_in(device, &Cdb::read_16(last + 1, 1), &data, 512).assert_sense(
        SenseKey::ILLEGAL_REQUEST,
        0x21,
        0,
    );
}

#[test]
fn a_disk_of_4096_byte_blocks_reads_and_writes() {
    let mut machine = Machine::new();
    machine.add_disk(0, MIB as u64).block_size = 4096;
    let mut rig = Rig::<_, Mpi1>::new(machine.start());
    rig.clear_attentions();
    let device = rig.device(0);
    let data = rig.data(8192);
    rig.run_in(device, &Cdb::read_capacity_10(), &data, 8).assert_good(8);
    assert_eq!(data.read(0, 8), [0, 0, 0, 255, 0, 0, 0x10, 0]);
    let bytes = Random::new(4).bytes(8192);
    data.write(0, &bytes);
    rig.run_out(device, &Cdb::write_10(100, 2), &data, 8192).assert_good(8192);
    flush(&mut rig, 0);
    assert_eq!(machine.read_image(0, 100 * 4096, 8192), bytes);
    data.fill(0);
    rig.run_in(device, &Cdb::read_10(100, 2), &data, 8192).assert_good(8192);
    assert_eq!(data.read(0, 8192), bytes);
}

#[test]
fn a_transfer_of_no_blocks_succeeds() {
    let machine = Machine::with_disks(1, MIB as u64);
    let mut rig = Rig::<_, Mpi1>::new(machine.start());
    rig.clear_attentions();
    let device = rig.device(0);
    rig.run_without_data(device, &Cdb::read_10(0, 0)).assert_good(0);
    rig.run_without_data(device, &Cdb::write_10(0, 0)).assert_good(0);
    rig.run_without_data(device, &Cdb::inquiry(0)).assert_good(0);
}

#[test]
fn every_task_attribute_is_taken() {
    let machine = Machine::with_disks(1, MIB as u64);
    let mut rig = Rig::<_, Mpi1>::new(machine.start());
    rig.clear_attentions();
    let data = rig.data(512);
    let cdb = Cdb::read_10(0, 1);
    for attribute in [
        TaskAttribute::Simple,
        TaskAttribute::HeadOfQueue,
        TaskAttribute::Ordered,
        TaskAttribute::Aca,
    ] {
        let segments = [data.segment(0, 512)];
        let command = Command { attribute, ..command(&cdb, Direction::Read, &segments) };
        rig.run(rig.device(0), &command).assert_good(512);
    }
}

/// Segments of odd sizes at odd places of a buffer of `room` bytes, none twice, that sum to
/// `length`. The gaps between them must stay as they are.
fn scattered(random: &mut Random, length: usize, most: usize, room: usize) -> Vec<(usize, usize)> {
    let count = 1 + random.below(most as u64) as usize;
    let mut pieces = Vec::new();
    let (mut at, mut left) = (random.below(7) as usize, length);
    while left > 0 && pieces.len() + 1 < count {
        let piece = 1 + random.below((left as u64).min(2 * (length / count) as u64 + 1)) as usize;
        pieces.push((at, piece));
        at += piece + random.below(5) as usize;
        left -= piece;
    }
    if left > 0 {
        pieces.push((at, left));
        at += left;
    }
    assert!(at <= room);
    assert!(pieces.len() <= most);
    pieces
}

/// Random commands with random lists of segments, one at a time: what the driver writes is in the
/// image, what it reads is what the image holds, and not a byte beside is touched.
fn random_commands(rig: &mut Rig<Qtest>, machine: &Machine, segments: usize, seed: u64) {
    const DISK: usize = 4 * MIB;
    const LONGEST: usize = 256 * 512;
    rig.clear_attentions();
    let device = rig.device(0);
    let mut random = Random::new(seed);
    let room = LONGEST + 8 * segments;
    let data = rig.data(room);
    let mut disk = random.bytes(DISK);
    machine.write_image(0, 0, &disk);
    let mut longest = 0;
    for round in 0..120 {
        let blocks = 1 + random.below((LONGEST / 512) as u64) as usize;
        let lba = random.below((DISK / 512 - blocks) as u64);
        let (start, length) = (lba as usize * 512, blocks * 512);
        let pieces = scattered(&mut random, length, segments, room);
        longest = longest.max(pieces.len());
        let list: Vec<Segment> = pieces.iter().map(|&(at, size)| data.segment(at, size)).collect();
        let before = random.bytes(room);
        data.write(0, &before);
        if random.below(2) == 0 {
            let cdb = Cdb::read(lba, blocks as u32);
            rig.run(device, &command(&cdb, Direction::Read, &list)).assert_good(length as u32);
            let mut expected = before;
            let mut from = start;
            for (at, size) in pieces {
                expected[at..at + size].copy_from_slice(&disk[from..from + size]);
                from += size;
            }
            assert!(data.read(0, room) == expected, "round {round}: {blocks} blocks at {lba}");
        } else {
            let cdb = Cdb::write(lba, blocks as u32);
            rig.run(device, &command(&cdb, Direction::Write, &list)).assert_good(length as u32);
            let mut to = start;
            for (at, size) in pieces {
                disk[to..to + size].copy_from_slice(&before[at..at + size]);
                to += size;
            }
            flush(rig, 0);
            let from = start.saturating_sub(512);
            let to = (start + length + 512).min(DISK);
            assert!(
                machine.read_image(0, from as u64, to - from) == disk[from..to],
                "round {round}: {blocks} blocks at {lba}"
            );
        }
    }
    assert!(longest > segments / 2, "chains were long enough: {longest}");
    assert!(machine.read_image(0, 0, DISK) == disk, "the whole image");
    assert_eq!(rig.controller.counters().lies(), 0);
}

#[test]
fn random_commands_with_chained_64_bit_lists_match_the_image() {
    let machine = Machine::with_disks(1, 4 * MIB as u64);
    let wants = Wants { segments: 200, commands: 32, ..Wants::default() };
    let mut rig = Rig::with(machine.start(), &wants);
    assert_eq!(rig.controller.plan().sgl, SglFormat::Mpi64);
    random_commands(&mut rig, &machine, 200, 5);
}

#[test]
fn random_commands_with_chained_32_bit_lists_match_the_image() {
    let machine = Machine::with_disks(1, 4 * MIB as u64);
    let wants =
        Wants { segments: 200, commands: 32, addresses_below_4gib: true, ..Wants::default() };
    let mut rig = Rig::with(machine.start(), &wants);
    assert_eq!(rig.controller.plan().sgl, SglFormat::Mpi32);
    random_commands(&mut rig, &machine, 200, 6);
}

#[test]
fn random_commands_above_4_gib_match_the_image() {
    let mut machine = Machine::with_disks(1, 4 * MIB as u64);
    machine.options.high_memory = true;
    let wants = Wants { segments: 40, commands: 32, ..Wants::default() };
    let mut rig = Rig::with(machine.start(), &wants);
    let high = rig.data(4096).segment(0, 1).address;
    assert!(high.0 >= 1 << 32, "{high}");
    random_commands(&mut rig, &machine, 40, 7);
}

#[test]
fn more_segments_than_planned_are_refused_and_nothing_is_sent() {
    let machine = Machine::with_disks(1, MIB as u64);
    let wants = Wants { segments: 8, ..Wants::default() };
    let mut rig = Rig::<_, Mpi1>::with(machine.start(), &wants);
    rig.clear_attentions();
    let data = rig.data(64 * 512);
    let most = usize::from(rig.controller.plan().segments);
    assert!(most >= 8);
    let submitted = rig.controller.counters().submitted;
    let segments: Vec<_> = (0..64).map(|index| data.segment(index * 512, 512)).collect();
    let cdb = Cdb::read_10(0, 64);
    let error =
        rig.try_submit(rig.device(0), &command(&cdb, Direction::Read, &segments)).unwrap_err();
    assert!(matches!(error, SubmitError::Sgl(_)), "{error}");
    assert_eq!(rig.controller.counters().submitted, submitted);
    assert_eq!(rig.controller.outstanding(), 0);
    let cdb = Cdb::read_10(0, most as u32 as u16);
    let command = command(&cdb, Direction::Read, &segments[..most]);
    rig.run(rig.device(0), &command).assert_good(512 * most as u32);
}

#[test]
fn the_callers_tags_and_the_pool_do_not_meet() {
    let mut machine = Machine::new();
    machine.add(0, Backend::Slow { bytes: MIB as u64, latency: Duration::from_millis(200) });
    let wants = Wants { commands: 12, tags: 4, ..Wants::default() };
    let mut rig = Rig::<_, Mpi1>::with(machine.start(), &wants);
    rig.clear_attentions();
    let device = rig.device(0);
    let data = rig.data(512);
    let cdb = Cdb::read_10(0, 1);
    let segments = [data.segment(0, 512)];
    let untagged = command(&cdb, Direction::Read, &segments);
    let tagged = |tag| Command { tag: Some(tag), ..untagged };
    let mut cookies: Vec<_> = (0..4).map(|tag| rig.submit(device, &tagged(tag))).collect();
    assert_eq!(rig.try_submit(device, &tagged(2)), Err(SubmitError::TagInUse(2)));
    assert_eq!(
        rig.try_submit(device, &tagged(4)),
        Err(SubmitError::TagOutOfRange { tag: 4, tags: 4 })
    );
    let depth = usize::from(rig.controller.depth());
    cookies.extend((4..depth).map(|_| rig.submit(device, &untagged)));
    assert_eq!(rig.try_submit(device, &untagged), Err(SubmitError::Full));
    assert_eq!(usize::from(rig.controller.outstanding()), depth);
    for cookie in cookies {
        rig.wait(cookie).assert_good(512);
    }
    rig.run(device, &tagged(2)).assert_good(512);
    rig.run(device, &untagged).assert_good(512);
}

#[test]
fn eight_targets_work_at_once_and_each_gets_its_own_data() {
    const BLOCKS: u64 = 64;
    let machine = Machine::with_disks(8, MIB as u64);
    let mut random = Random::new(8);
    let images: Vec<_> = (0..8u8)
        .map(|id| {
            let bytes = random.bytes(BLOCKS as usize * 512);
            machine.write_image(id, 0, &bytes);
            bytes
        })
        .collect();
    let mut rig = Rig::<_, Mpi1>::new(machine.start());
    rig.clear_attentions();
    let depth = usize::from(rig.controller.depth());
    assert!(depth > 100, "{depth}");
    let data = rig.data(depth * 512);
    for _ in 0..4 {
        data.fill(0);
        let commands: Vec<_> = (0..depth)
            .map(|slot| (random.below(8) as u16, random.below(BLOCKS), slot * 512))
            .collect();
        let cookies: Vec<_> = commands
            .iter()
            .map(|&(id, lba, at)| {
                let cdb = Cdb::read(lba, 1);
                let segments = [data.segment(at, 512)];
                rig.submit(rig.device(id), &command(&cdb, Direction::Read, &segments))
            })
            .collect();
        assert_eq!(usize::from(rig.controller.outstanding()), depth);
        for cookie in cookies {
            rig.wait(cookie).assert_good(512);
        }
        for (id, lba, at) in commands {
            let image = &images[usize::from(id)][lba as usize * 512..][..512];
            assert!(data.read(at, 512) == image, "target {id}, block {lba}");
        }
    }
    assert_eq!(usize::from(rig.controller.counters().outstanding_peak), depth);
    assert_eq!(rig.controller.counters().lies(), 0);
}

#[test]
fn what_is_written_at_depth_is_in_the_images() {
    const BLOCKS: usize = 2048;
    let machine = Machine::with_disks(4, (BLOCKS * 512) as u64);
    let mut rig =
        Rig::<_, Mpi1>::with(machine.start(), &Wants { segments: 66, ..Wants::default() });
    rig.clear_attentions();
    let mut random = Random::new(9);
    let bytes = random.bytes(BLOCKS * 512);
    let data = rig.data(BLOCKS * 512);
    data.write(0, &bytes);
    // Every block once on every target, in pieces of 1 to 64 blocks, in shuffled order.
    let mut pieces = Vec::new();
    for id in 0..4u16 {
        let mut lba = 0;
        while lba < BLOCKS {
            let blocks = (1 + random.below(64) as usize).min(BLOCKS - lba);
            pieces.push((id, lba, blocks));
            lba += blocks;
        }
    }
    for index in (1..pieces.len()).rev() {
        pieces.swap(index, random.below(index as u64 + 1) as usize);
    }
    let mut waiting = Vec::new();
    for (id, lba, blocks) in pieces {
        let cdb = Cdb::write(lba as u64, blocks as u32);
        let segments: Vec<_> =
            (lba..lba + blocks).map(|block| data.segment(block * 512, 512)).collect();
        let write = command(&cdb, Direction::Write, &segments);
        let cookie = loop {
            match rig.try_submit(rig.device(id), &write) {
                Ok(cookie) => break cookie,
                Err(SubmitError::Full) => {
                    rig.poll();
                }
                Err(error) => panic!("{error}"),
            }
        };
        waiting.push((cookie, blocks * 512));
    }
    for (cookie, length) in waiting {
        rig.wait(cookie).assert_good(length as u32);
    }
    for id in 0..4 {
        flush(&mut rig, u16::from(id));
        assert!(machine.read_image(id, 0, BLOCKS * 512) == bytes, "target {id}");
    }
}

/// Replies are only looked for when the interrupt line is raised, and a moment later, as interrupt
/// moderation would have it: then a batch waits, and the read that says "empty" is shared by it.
#[test]
fn an_io_costs_one_register_write_and_hardly_more_than_one_read() {
    const DEPTH: usize = 32;
    const ROUNDS: usize = 20;
    let machine = Machine::with_disks(1, MIB as u64);
    let mut rig = Rig::<_, Mpi1>::new(machine.start());
    rig.clear_attentions();
    rig.controller.interrupts(true);
    let device = rig.device(0);
    let data = rig.data(DEPTH * 512);
    let (reads_before, writes_before) = rig.controller.register_accesses();
    rig.bus.reset_accesses();
    let cdb = Cdb::read_10(0, 1);
    let mut completed = 0;
    for _ in 0..ROUNDS {
        for slot in 0..DEPTH {
            rig.submit(device, &command(&cdb, Direction::Read, &[data.segment(slot * 512, 512)]));
        }
        let start = Instant::now();
        while rig.controller.outstanding() > 0 {
            assert!(start.elapsed() < Duration::from_secs(10));
            if rig.bus.interrupt_pending() {
                std::thread::sleep(Duration::from_millis(5));
                completed += rig.poll();
            }
        }
    }
    let ios = (DEPTH * ROUNDS) as u64;
    assert_eq!(u64::from(completed), ios);
    let (reads, writes) = rig.controller.register_accesses();
    let (reads, writes) = (reads - reads_before, writes - writes_before);
    println!("{ios} reads of a block at depth {DEPTH}: {reads} register reads, {writes} writes");
    assert_eq!(rig.bus.accesses(), (reads, writes), "the core counts what the bus sees");
    assert!(writes <= ios);
    assert!(reads * 10 <= ios * 11, "{reads} register reads for {ios} commands");
}

#[test]
fn a_read_only_disk_says_so() {
    let mut machine = Machine::new();
    machine.add_disk(0, MIB as u64).read_only = true;
    let mut rig = Rig::<_, Mpi1>::new(machine.start());
    rig.clear_attentions();
    let data = rig.data(512);
    data.fill(0xff);
    rig.run_out(rig.device(0), &Cdb::write_10(0, 1), &data, 512).assert_sense(
        SenseKey::DATA_PROTECT,
        0x27,
        0,
    );
    let mut block = [0xff; 512];
    File::open(machine.path(0)).unwrap().read_exact_at(&mut block, 0).unwrap();
    assert_eq!(block, [0; 512]);
}
