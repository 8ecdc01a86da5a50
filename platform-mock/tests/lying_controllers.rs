//! Controllers that say what cannot be true: each lie is counted and changes nothing else.

mod chips;
mod hostile;

use std::sync::atomic::Ordering::Relaxed;

use chips::on_every_chip;
use fusion_mpt::generation::chips::{Chip as CoreChip, Quirks};
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::platform::DmaRegion;
use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Direction;
use fusion_mpt::targets::TargetId;
use fusion_mpt::trace::TraceKind;
use fusion_mpt_mock::in_process::{MockBus, Options};
use fusion_mpt_mock::model::{Chip, FactsOverride, disks};
use hostile::{DISK, Rig, core_chip, frame, rig_with_reads, smid_of, start};
use proptest::prelude::*;

on_every_chip! {
    replies_that_cannot_be_true_are_counted_and_ignored = lying_replies;
    a_command_answered_twice_completes_once = answered_twice;
    reply_frames_that_answer_something_else_fail_the_command = lying_frames;
    a_reply_that_is_lost_leaves_that_command_out_and_no_other = lost_reply;
    the_reset_follows_what_the_facts_say = capability_rule;
}

/// The low half of the address of a reply frame that the device has.
fn a_frame<G: Generation>(rig: &Rig<G>, mpi1: bool) -> u32 {
    let entry = rig.driver.trace().expect("set").since(0).find(|e| e.kind == TraceKind::ReplyFrame);
    let word = entry.expect("a unit attention came").word;
    if mpi1 { (word as u32) << 1 } else { (word >> 32) as u32 }
}

/// Posts words that cannot be true, one by one: each counts once.
fn tell<G: Generation>(rig: &mut Rig<G>, lies: &[u64]) {
    for lie in lies {
        let before = rig.driver.counters().lies();
        rig.bus.with_model(|model| model.post_descriptor(0, *lie));
        rig.settle();
        assert_eq!(rig.driver.counters().lies(), before + 1, "{lie:#018x}");
    }
}

/// The device carries on, and all is well.
#[track_caller]
fn assert_recovers<G: Generation>(rig: &mut Rig<G>, out: &[u64]) {
    assert_eq!(usize::from(rig.driver.outstanding()), out.len());
    rig.bus.with_model(|model| model.hold_commands(false));
    rig.settle();
    for cookie in out {
        assert!(rig.take(*cookie).outcome.is_good());
    }
    rig.assert_all_free();
    assert!(rig.run(TargetId(0), &Cdb::read(0, 8), Direction::Read, 4096).outcome.is_good());
}

fn lying_replies<G: Generation>(chip: Chip) {
    let mpi1 = chip.is_mpi1();
    let (mut rig, out) = rig_with_reads::<G>(chip, 8);
    let frame = a_frame(&rig, mpi1);
    let pool_end = frame + 128 * 1024;
    let base = rig.region.bus().0 as u32;
    let free_slot = 250;
    let smids = [0u16, 1, 2, 3, 4, 5, free_slot, 0x7fff, 0xffff];
    let addresses =
        [0, 8, base, frame + 4, frame + 64, frame - 2, pool_end, 0x7fff_fff0, 0xffff_fff0];
    let mut lies = Vec::new();
    if mpi1 {
        lies.extend(smids.map(u64::from));
        // Contexts beyond any SMID, and of target mode and LAN.
        lies.extend([0x1_0000, 0x1000_0000, 0x2000_0001, 0x4000_0001, 0x6000_0001, 0x7fff_ffff]);
        lies.extend(addresses.map(|at| 0x8000_0000 | u64::from(at >> 1)));
    } else {
        let live = u64::from(smid_of(&rig, out[0])) << 16;
        for smid in smids {
            lies.push(u64::from(smid) << 16);
            lies.push(u64::from(smid) << 16 | 6);
        }
        // Kinds that nobody asked for, even of a command that is out.
        for kind in (0..16).filter(|kind| ![0, 1, 6].contains(kind)) {
            lies.push(live | kind);
        }
        lies.extend(addresses.map(|at| live | 1 | u64::from(at) << 32));
    }
    tell(&mut rig, &lies);
    assert_eq!(rig.driver.counters().bad_frame_addresses, addresses.len() as u64);
    assert_recovers(&mut rig, &out);
    assert_eq!(rig.driver.counters().lies(), lies.len() as u64);
}

fn answered_twice<G: Generation>(chip: Chip) {
    let (mut rig, out) = rig_with_reads::<G>(chip, 3);
    let smid = u64::from(smid_of(&rig, out[1]));
    let word = if chip.is_mpi1() { smid } else { smid << 16 };
    rig.bus.with_model(|model| {
        for _ in 0..3 {
            model.post_descriptor(0, word);
        }
    });
    rig.settle();
    rig.take(out[1]);
    assert_eq!(rig.driver.counters().stray_replies, 2);
    // What it had to say in earnest comes too late.
    assert_recovers_but(&mut rig, &[out[0], out[2]], 3);
    // A frame that the device had back at once and names again: stale, and of nobody.
    let frame = a_frame(&rig, chip.is_mpi1());
    let word = if chip.is_mpi1() {
        0x8000_0000 | u64::from(frame >> 1)
    } else {
        u64::from(frame) << 32 | smid << 16 | 1
    };
    // MPI1's FIFO of free frames is then one fuller than it holds, and the IOC stops.
    let times = if chip.is_mpi1() { 1 } else { 2 };
    tell(&mut rig, &[word, word][..times]);
}

#[track_caller]
fn assert_recovers_but<G: Generation>(rig: &mut Rig<G>, out: &[u64], strays: u64) {
    assert_recovers(rig, out);
    assert_eq!(rig.driver.counters().stray_replies, strays);
}

fn lying_frames<G: Generation>(chip: Chip) {
    let (mut rig, out) = rig_with_reads::<G>(chip, 8);
    let bad = Outcome::Failed(Failure::BadReply);
    let cases: [(u8, u8, Option<Outcome>); 8] = [
        // Another function: config, port enable, task management, nothing known.
        (13, 0x04, Some(bad)),
        (13, 0x06, Some(bad)),
        (13, 0x01, Some(bad)),
        (13, 0xff, Some(bad)),
        // A length that holds no status, none at all, and more than a frame has.
        (0, 0x00, Some(bad)),
        (5, 0x00, Some(bad)),
        (6, 0x00, Some(bad)),
        (255, 0x00, None),
    ];
    for (cookie, (words, function, outcome)) in out.iter().zip(cases) {
        let smid = smid_of(&rig, *cookie);
        rig.bus.with_model(|model| model.post_frame(0, smid, &frame(smid, words, function)));
        let before = rig.driver.counters().bad_replies;
        rig.settle();
        let done = rig.take(*cookie);
        match outcome {
            Some(outcome) => {
                assert_eq!(done.outcome, outcome, "{words} words, function {function:#x}");
                assert_eq!(rig.driver.counters().bad_replies, before + 1);
            }
            // It answers the command, with a transfer of nothing.
            None => assert_eq!(done.outcome.transferred(), 0),
        }
    }
    rig.assert_all_free();
    // Frames for slots that nothing is out on.
    let before = rig.driver.counters().stray_replies;
    for smid in [0, 1, 3, 5, 200, 0xffff] {
        rig.bus.with_model(|model| model.post_frame(0, smid, &frame(smid, 13, 0)));
    }
    rig.settle();
    assert_eq!(rig.driver.counters().stray_replies, before + 6);
    // The true answers come too late.
    rig.bus.with_model(|model| model.hold_commands(false));
    rig.settle();
    assert_eq!(rig.driver.counters().stray_replies, before + 6 + 8);

    // Counts beyond all bounds: more sense than there is room, more data than was asked for.
    rig.bus.with_model(|model| model.hold_commands(true));
    let out = rig.submit_reads(1);
    rig.settle();
    let smid = smid_of(&rig, out[0]);
    let mut wild = frame(smid, 13, 0);
    (wild[0x0c], wild[0x0d]) = (2, 1);
    wild[0x14..0x1c].fill(0xff);
    rig.bus.with_model(|model| model.post_frame(0, smid, &wild));
    rig.settle();
    let done = rig.take(out[0]);
    assert_eq!(done.outcome.transferred(), 512);
    assert_eq!(done.sense.len(), 96);
}

fn lost_reply<G: Generation>(chip: Chip) {
    let (mut rig, out) = rig_with_reads::<G>(chip, 10);
    rig.bus.with_model(|model| {
        model.drop_replies(1);
        model.hold_commands(false);
    });
    rig.settle();
    for cookie in &out[1..] {
        assert!(rig.take(*cookie).outcome.is_good());
    }
    assert_eq!(rig.driver.outstanding(), 1);
    assert!(rig.run(TargetId(0), &Cdb::read(0, 1), Direction::Read, 512).outcome.is_good());
    let Rig { driver, bus, mut ledger, .. } = rig;
    let (_, result) = driver.into_reset(&mut bus.delay(), |completion| ledger.note(&completion));
    assert_eq!(result, Ok(()));
    let lost = &ledger.done[&out[0]];
    assert_eq!(lost.outcome, Outcome::Failed(Failure::ControllerReset));
    assert!(ledger.out.is_empty());
}

fn capability_rule<G: Generation>(chip: Chip) {
    const EVENT_REPLAY: u32 = 0x2000;
    for replays in [true, false] {
        let mut options = Options::stepped(chip, disks(1, DISK));
        options.bytes = 4 << 20;
        let bus = MockBus::new(options);
        let capabilities =
            if replays { chip.capabilities } else { chip.capabilities & !EVENT_REPLAY };
        bus.with_model(|model| {
            model.override_facts(FactsOverride {
                capabilities: Some(capabilities),
                ..FactsOverride::default()
            });
        });
        let (wire, started) = start::<G>(&bus, &Wants::default(), core_chip(&bus), u64::MAX);
        drop(started.unwrap_or_else(|error| panic!("{error}")));
        let resets = |wire: &hostile::Wire| [0, 1].map(|kind| wire.resets[kind].load(Relaxed));
        assert_eq!(resets(&wire), [0, 0], "it was READY");
        let mild = replays || chip.is_mpi1();
        let expected = if mild { [1, 0] } else { [0, 1] };
        // Another driver finds it operational.
        let (wire, started) = start::<G>(&bus, &Wants::default(), core_chip(&bus), u64::MAX);
        let started = started.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(resets(&wire), expected, "replays: {replays}");
        assert_eq!(started.driver.targets().count(), 1);
        let (_, result) = started.driver.into_reset(&mut bus.delay(), |_| {});
        assert_eq!(result, Ok(()));
        assert_eq!(resets(&wire), expected.map(|count| 2 * count), "replays: {replays}");
        assert_eq!(bus.with_model(|model| model.complaints().to_vec()), [""; 0]);
    }
}

/// The SAS3008 on a host that cannot write 64 bits at once.
fn split() -> &'static CoreChip {
    let chip = CoreChip::find(0x1000, 0x97).expect("known");
    let quirks = Quirks { split_posts: true, ..chip.quirks };
    Box::leak(Box::new(CoreChip { quirks, ..*chip }))
}

#[test]
fn descriptors_go_out_whole_in_halves_or_as_one_short_word() {
    let posts = |rig: &Rig<Mpi2>| [0, 1, 2, 3].map(|kind| rig.wire.posts[kind].load(Relaxed));
    let check = |chip: Chip, core: Option<&'static CoreChip>| {
        let mut options = Options::stepped(chip, disks(1, DISK));
        options.bytes = 8 << 20;
        let bus = MockBus::new(options);
        let core = core.unwrap_or_else(|| core_chip(&bus));
        let mut rig = Rig::<Mpi2>::on(bus, &Wants::default(), core);
        rig.clear_attention(TargetId(0));
        assert!(rig.run(TargetId(0), &Cdb::read(0, 8), Direction::Read, 4096).outcome.is_good());
        assert_eq!(rig.complaints(), [""; 0]);
        let (_, writes) = rig.driver.register_accesses();
        assert!(writes > 20);
        posts(&rig)
    };
    for (chip, core, used) in [
        (Chip::SAS2008, None, &[0][..]),
        (Chip::SAS3008, None, &[0]),
        (Chip::SAS3008, Some(split()), &[1, 2]),
        (Chip::SAS3816, None, &[3]),
    ] {
        let posts = check(chip, core);
        for (way, count) in posts.into_iter().enumerate() {
            assert_eq!(count > 0, used.contains(&way), "{}: {posts:?}", chip.name);
        }
        assert_eq!(posts[1], posts[2]);
    }
}

#[test]
fn a_descriptor_that_comes_in_halves_is_taken_when_it_is_whole() {
    for chip in [Chip::SAS2008, Chip::SAS3008, Chip::SAS3816] {
        let (mut rig, out) = rig_with_reads::<Mpi2>(chip, 1);
        // The high half of a success means nothing.
        let word = u64::from(smid_of(&rig, out[0])) << 16 | 0x1234_5678 << 32;
        for torn in [word | 0xffff_ffff << 32, word & !0xffff_ffff | 0xffff_ffff] {
            // The device writes half of the descriptor, and some time later the other.
            rig.bus.with_model(|model| model.post_descriptor(0, torn));
            rig.bus.run_until_idle();
            assert_eq!(rig.poll(), 0, "{torn:#018x}");
            assert!(rig.ledger.done.is_empty());
            let mut seen = vec![0; rig.driver.plan().bytes];
            rig.region.read(0, &mut seen);
            let at = seen.chunks_exact(8).position(|entry| entry == torn.to_le_bytes());
            let at = 8 * at.expect("in the ring");
            rig.region.write(at, &word.to_le_bytes());
            assert_eq!(rig.poll(), 1);
            let _ = rig.ledger.done.drain();
        }
        assert_eq!(rig.driver.counters().stray_replies, 1, "the second time it was not out");
    }
}

#[test]
fn a_fifo_that_is_never_empty_holds_a_poll_for_a_bounded_time() {
    let (mut rig, out) = rig_with_reads::<Mpi1>(Chip::SAS1068, 4);
    let frame = a_frame(&rig, true);
    for word in [u32::from(smid_of(&rig, out[0])), 77, 0x2000_0000, 0x8000_0000 | frame >> 1] {
        rig.wire.stuck_fifo.store(word.into(), Relaxed);
        let before = rig.driver.register_accesses().0;
        let found = rig.poll();
        let reads = rig.driver.register_accesses().0 - before;
        assert!(found > 0 && reads <= 129, "{reads} reads of {word:#x}");
    }
    rig.wire.stuck_fifo.store(u64::MAX, Relaxed);
    // The first was believed, once; the others are still out.
    assert_eq!(rig.driver.outstanding(), 3);
    rig.take(out[0]);
    assert!(rig.driver.counters().lies() > 3 * 100);
    rig.bus.with_model(|model| model.fault(1));
    rig.tick();
    rig.reset().unwrap_or_else(|error| panic!("{error}"));
    rig.assert_all_free();
}

/// What a controller may do next.
#[derive(Debug, Clone)]
enum Act {
    Word(u64),
    /// A word that could be true.
    Plausible {
        smid: u16,
        kind: u8,
        high: u32,
    },
    Frame {
        smid: u16,
        bytes: Vec<u8>,
    },
    Submit(u8),
    Step(u8),
    Poll,
    Hold(bool),
    Event {
        code: u8,
        bytes: Vec<u8>,
        acknowledge: bool,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        any::<u64>().prop_map(Act::Word),
        (0u16..300, 0u8..16, any::<u32>()).prop_map(|(smid, kind, high)| Act::Plausible {
            smid,
            kind,
            high
        }),
        (0u16..40, prop::collection::vec(any::<u8>(), 0..128), 0u8..14, 0u8..9).prop_map(
            |(smid, mut bytes, words, function)| {
                bytes.resize(128, 0);
                (bytes[2], bytes[3]) = (words, function);
                bytes[8..12].copy_from_slice(&u32::from(smid).to_le_bytes());
                Act::Frame { smid, bytes }
            }
        ),
        (0u16..40, prop::collection::vec(any::<u8>(), 128))
            .prop_map(|(smid, bytes)| Act::Frame { smid, bytes }),
        (1u8..20).prop_map(Act::Submit),
        (1u8..20).prop_map(Act::Step),
        Just(Act::Poll),
        any::<bool>().prop_map(Act::Hold),
        (0u8..0x40, prop::collection::vec(any::<u8>(), 0..90), any::<bool>())
            .prop_map(|(code, bytes, acknowledge)| Act::Event { code, bytes, acknowledge }),
    ];
    prop::collection::vec(act, 1..60)
}

/// Whatever is thrown at a driver, every command it took comes back once; the ledger sees to it.
fn survives<G: Generation>(chip: Chip, acts: &[Act]) {
    let mut rig = Rig::<G>::coherent(chip, 2);
    rig.clear_attention(TargetId(0));
    for act in acts {
        match act {
            Act::Word(word) => rig.bus.with_model(|model| model.post_descriptor(0, *word)),
            Act::Plausible { smid, kind, high } => {
                let word = if chip.is_mpi1() {
                    u64::from(*smid) | u64::from(kind & 8) << 28
                } else {
                    u64::from(*smid) << 16 | u64::from(*kind) | u64::from(*high) << 32
                };
                rig.bus.with_model(|model| model.post_descriptor(0, word));
            }
            Act::Frame { smid, bytes } => {
                rig.bus.with_model(|model| model.post_frame(0, *smid, bytes));
            }
            Act::Submit(count) => {
                let piece = [rig.segment(0, 512)];
                for _ in 0..*count {
                    let cdb = Cdb::read(1, 1);
                    let attribute = Default::default();
                    let _ = rig.try_submit(TargetId(0), &cdb, Direction::Read, &piece, attribute);
                }
            }
            Act::Step(count) => _ = rig.bus.step((*count).into()),
            Act::Poll => _ = rig.poll(),
            Act::Hold(hold) => rig.bus.with_model(|model| model.hold_commands(*hold)),
            Act::Event { code, bytes, acknowledge } => rig.bus.with_model(|model| {
                model.raise_event((*code).into(), bytes.clone(), *acknowledge);
            }),
        }
    }
    for _ in 0..50 {
        rig.bus.step(100);
        rig.poll();
    }
    rig.actions();
    let outstanding = rig.driver.outstanding();
    assert_eq!(usize::from(outstanding), rig.ledger.out.len());
    // The end of it all: what is out comes back, once.
    rig.bus.with_model(|model| model.fault(0x1234));
    rig.tick();
    rig.reset().unwrap_or_else(|error| panic!("{error}"));
    rig.assert_all_free();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mpi1_survives_whatever_its_fifos_say(acts in acts()) {
        survives::<Mpi1>(Chip::SAS1068, &acts);
    }

    #[test]
    fn mpi2_survives_whatever_its_rings_say(acts in acts()) {
        survives::<Mpi2>(Chip::SAS2008, &acts);
    }

    #[test]
    fn mpi26_survives_whatever_its_rings_say(acts in acts()) {
        survives::<Mpi2>(Chip::SAS3816, &acts);
    }
}
