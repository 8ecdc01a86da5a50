//! Controllers that do not come up, die, or lie: every one ends in a bounded time, with a sentence
//! that helps, nothing lost and no panic.

mod chips;
mod hostile;

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use chips::on_every_chip;
use fusion_mpt::bringup::Reset;
use fusion_mpt::controller::Action;
use fusion_mpt::error::{Error, SubmitError, Waited};
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::platform::Registers;
use fusion_mpt::recovery::ResetKind;
use fusion_mpt::recovery::ResetReason;
use fusion_mpt::targets::TargetId;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::in_process::{MockBus, MockRegisters, Options};
use fusion_mpt_mock::model::{Chip, FactsOverride, Model, disks};
use hostile::{DISK, Rig, Started, assert_sentence, core_chip, start};

on_every_chip! {
    a_controller_that_never_becomes_ready_is_given_up = never_ready;
    a_firmware_that_stops_is_given_up_at_every_step = stops_at_every_step;
    facts_that_are_nonsense_are_named = nonsense_facts;
    facts_that_are_huge_are_capped = huge_facts;
    a_fault_at_the_start_is_reset_away = fault_at_start;
    a_handshake_that_somebody_left_half_done_is_cleared = half_handshake;
    a_controller_that_dies_at_any_register_access_of_a_start_is_gone = dies_during_start;
    a_controller_that_dies_at_any_register_access_of_a_restart_is_gone = dies_during_restart;
    a_fault_with_commands_out_completes_each_once = fault_mid_io;
    a_reset_by_somebody_else_completes_each_command_once = reset_mid_io;
    a_controller_pulled_with_commands_out_completes_each_once = pulled_mid_io;
    a_controller_that_dies_at_any_register_access_of_io_completes_each_command_once = dies_during_io;
    a_reply_of_the_start_that_is_lost_ends_in_a_timeout = lost_reply_of_start;
}

fn stepped(chip: Chip) -> MockBus {
    let mut options = Options::stepped(chip, disks(1, DISK));
    options.bytes = 4 << 20;
    MockBus::new(options)
}

/// Aero and Sea may answer any read of a status register with zero, several times in a row.
#[test]
fn spurious_zeros_at_any_point_of_a_start_are_read_again() {
    let bus = stepped(Chip::SAS3816);
    let (all, result) = start_with::<Mpi2>(&bus, 0, |_| {});
    assert_eq!(result, Ok(()));
    assert!(all > 150, "{all}");
    for k in (0..all).step_by(11) {
        let bus = stepped(Chip::SAS3816);
        let zeros = |model: &mut Model| model.zero_reads(5);
        let (_, result) = start_with::<Mpi2>(&bus, k, zeros);
        assert_eq!(result, Ok(()), "zeros from access {k} on");
        // Nothing had to time out on their account.
        assert!(bus.now_ms() < 100, "zeros from access {k} on: {} ms", bus.now_ms());
        assert_eq!(bus.with_model(|model| model.complaints().to_vec()), [""; 0]);
    }
}

/// The error of a start, after so much virtual time at most.
#[track_caller]
fn error_of_start<G: Generation>(bus: &MockBus, limit: Duration) -> Error {
    let before = bus.now_ms();
    let (_, started) = start::<G>(bus, &Wants::default(), core_chip(bus), u64::MAX);
    let error = started.err().expect("no start on this controller");
    let took = bus.now_ms() - before;
    assert!(u128::from(took) <= limit.as_millis(), "{error}: took {took} ms");
    assert_sentence(&error);
    error
}

fn never_ready<G: Generation>(chip: Chip) {
    let bus = stepped(chip);
    bus.with_model(Model::never_ready);
    let error = error_of_start::<G>(&bus, Duration::from_secs(60));
    assert!(
        matches!(error, Error::Timeout(Waited { what: "the IOC to become READY", .. })),
        "{error:?}"
    );
}

/// The firmware stops after each of its pieces of work in turn.
fn stops_at_every_step<G: Generation>(chip: Chip) {
    let mut steps = 0;
    loop {
        let bus = stepped(chip);
        let (_, started) = start_until::<G>(&bus, steps);
        match started {
            // It never had to stop.
            Ok(_) => break,
            Err(error) => {
                assert!(matches!(error, Error::Timeout(_)), "stopped after {steps}: {error:?}");
                assert_sentence(&error);
                assert!(bus.now_ms() < 400_000, "{error}: took {} ms", bus.now_ms());
            }
        }
        steps += 13;
    }
    assert!(steps > 100, "{steps}");
}

/// Starts a driver on a firmware that stops after so many register accesses.
fn start_until<G: Generation>(bus: &MockBus, accesses: u64) -> (u64, Result<(), Error>) {
    start_with::<G>(bus, accesses, |model| model.stop_answering(true))
}

/// Starts a driver on a controller to which something happens at its access `at`.
fn start_with<G: Generation>(
    bus: &MockBus,
    at: u64,
    happens: impl Fn(&mut Model),
) -> (u64, Result<(), Error>) {
    let window =
        Window { inner: bus.registers(), bus, accesses: Cell::new(0), at, happens: &happens };
    let mut delay = bus.delay();
    let result = (|| {
        let ready = Reset::<G, _>::new(&window, core_chip(bus)).make_ready(&mut delay)?;
        let plan = ready.plan(&Wants::default())?;
        let region = bus.allocate(plan.bytes, plan.alignment).expect("room");
        ready.start(&plan, region, hostile::tables(&plan), 0, &mut delay).map(|_| ())
    })();
    (window.accesses.get(), result)
}

struct Window<'b> {
    inner: MockRegisters,
    bus: &'b MockBus,
    accesses: Cell<u64>,
    at: u64,
    happens: &'b dyn Fn(&mut Model),
}

impl Window<'_> {
    fn count(&self) {
        if self.accesses.get() == self.at {
            self.bus.with_model(self.happens);
        }
        self.accesses.set(self.accesses.get() + 1);
    }
}

impl Registers for Window<'_> {
    fn read32(&self, offset: u16) -> u32 {
        self.count();
        self.inner.read32(offset)
    }
    fn write32(&self, offset: u16, value: u32) {
        self.count();
        self.inner.write32(offset, value);
    }
    fn write64(&self, offset: u16, value: u64) {
        self.count();
        self.inner.write64(offset, value);
    }
}

fn nonsense_facts<G: Generation>(chip: Chip) {
    let mpi1 = chip.is_mpi1();
    let none = FactsOverride::default();
    let mut cases = vec![
        (FactsOverride { credits: Some(0), ..none }, "RequestCredit", 0),
        (FactsOverride { credits: Some(5), ..none }, "RequestCredit", 5),
        (FactsOverride { request_frame_words: Some(0), ..none }, "RequestFrameSize", 0),
        (FactsOverride { request_frame_words: Some(12), ..none }, "RequestFrameSize", 12),
    ];
    if mpi1 {
        cases.push((FactsOverride { reply_depth: Some(0), ..none }, "ReplyQueueDepth", 0));
        cases.push((FactsOverride { reply_depth: Some(21), ..none }, "ReplyQueueDepth", 21));
    } else {
        let depth = "MaxReplyDescriptorPostQueueDepth";
        cases.push((FactsOverride { reply_frame_words: Some(0), ..none }, "ReplyFrameSize", 0));
        cases.push((FactsOverride { reply_frame_words: Some(15), ..none }, "ReplyFrameSize", 15));
        cases.push((FactsOverride { reply_depth: Some(0), ..none }, depth, 0));
        cases.push((FactsOverride { reply_depth: Some(16), ..none }, depth, 16));
    }
    for (facts, field, value) in cases {
        let bus = stepped(chip);
        bus.with_model(|model| model.override_facts(facts));
        let error = error_of_start::<G>(&bus, Duration::from_secs(1));
        assert_eq!(error, Error::BadFacts { field, value }, "{facts:?}");
        assert!(error.to_string().contains(field));
    }

    let refused = FactsOverride { ioc_status: Some(0x0004), ..none };
    let bus = stepped(chip);
    bus.with_model(|model| model.override_facts(refused));
    let error = error_of_start::<G>(&bus, Duration::from_secs(120));
    assert!(matches!(error, Error::Ioc { .. }), "{error:?}");

    let other = FactsOverride { function: Some(0x05), ..none };
    let bus = stepped(chip);
    bus.with_model(|model| model.override_facts(other));
    let error = error_of_start::<G>(&bus, Duration::from_secs(120));
    assert!(matches!(error, Error::BadReply { .. }), "{error:?}");

    // A length of less than is sent, down to nothing, and of more.
    for words in [0, 1, 2, 4, 255] {
        let bus = stepped(chip);
        let facts = FactsOverride { message_words: Some(words), ..none };
        bus.with_model(|model| model.override_facts(facts));
        let error = error_of_start::<G>(&bus, Duration::from_secs(120));
        assert!(matches!(error, Error::Timeout(_) | Error::BadReply { .. }), "{words}: {error:?}");
    }
}

fn huge_facts<G: Generation>(chip: Chip) {
    let none = FactsOverride::default();
    let mut cases = vec![
        FactsOverride { credits: Some(u16::MAX), ..none },
        FactsOverride { max_chain_depth: Some(255), ..none },
        FactsOverride { max_chain_depth: Some(0), ..none },
    ];
    if !chip.is_mpi1() {
        cases.push(FactsOverride { chain_units: Some(u16::MAX), ..none });
        cases.push(FactsOverride { vectors: Some(255), ..none });
        cases.push(FactsOverride { vectors: Some(0), ..none });
        cases.push(FactsOverride { reply_depth: Some(u16::MAX), ..none });
        cases.push(FactsOverride { reply_frame_words: Some(255), ..none });
    }
    for facts in cases {
        let bus = stepped(chip);
        bus.with_model(|model| model.override_facts(facts));
        let (_, started) = start::<G>(&bus, &Wants::default(), core_chip(&bus), u64::MAX);
        let Started { driver, region } =
            started.unwrap_or_else(|error| panic!("{facts:?}: {error}"));
        assert_eq!(driver.targets().count(), 1, "{facts:?}");
        assert!(driver.plan().bytes <= 1 << 20, "{facts:?}: {} bytes", driver.plan().bytes);
        drop(region);
    }
    // Everything at once, and all of it wanted: the plan stays within what can be addressed.
    let facts = FactsOverride {
        credits: Some(u16::MAX),
        request_frame_words: Some(u16::MAX),
        reply_frame_words: Some(255),
        reply_depth: Some(u16::MAX),
        max_chain_depth: Some(255),
        chain_units: Some(u16::MAX),
        vectors: Some(255),
        ..none
    };
    let bus = stepped(chip);
    bus.with_model(|model| model.override_facts(facts));
    let mut delay = bus.delay();
    let ready = Reset::<G, _>::new(bus.registers(), core_chip(&bus))
        .make_ready(&mut delay)
        .expect("ready, whatever it says");
    let wants = Wants {
        commands: u16::MAX,
        tags: u16::MAX,
        queues: u8::MAX,
        segments: u16::MAX,
        sense_bytes: u8::MAX,
        addresses_below_4gib: false,
    };
    match ready.plan(&wants) {
        Ok(plan) => {
            assert!(plan.commands <= 30_000 && plan.bytes < 1 << 32, "{plan:?}");
            assert!(usize::from(plan.slots) >= usize::from(plan.commands));
        }
        Err(error) => {
            assert!(matches!(error, Error::BadFacts { .. }), "{error:?}");
            assert_sentence(&error);
        }
    }
}

fn fault_at_start<G: Generation>(chip: Chip) {
    let bus = stepped(chip);
    bus.with_model(|model| model.fault(0x2622));
    let (wire, started) = start::<G>(&bus, &Wants::default(), core_chip(&bus), u64::MAX);
    let started = started.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(wire.resets[1].load(Relaxed), 1, "a diagnostic reset");
    assert_eq!(wire.resets[0].load(Relaxed), 0, "and no other");
    assert_eq!(started.driver.targets().count(), 1);
    assert_eq!(bus.with_model(|model| model.complaints().to_vec()), [""; 0]);
}

fn half_handshake<G: Generation>(chip: Chip) {
    // Words of a request of three that somebody has sent, and half-words of the reply taken.
    for (words, halves, kind) in [
        (0, 0, ResetKind::Diagnostic),
        (1, 0, ResetKind::Diagnostic),
        (2, 0, ResetKind::Diagnostic),
        (3, 0, ResetKind::None),
        (3, 7, ResetKind::None),
    ] {
        let bus = stepped(chip);
        let registers = bus.registers();
        registers.write32(0x30, 0);
        registers.write32(0x00, 0x42 << 24 | 3 << 16);
        bus.run_until_idle();
        registers.write32(0x30, 0);
        for word in [0x0300_0000, 0, 0].into_iter().take(words) {
            registers.write32(0x00, word);
            bus.run_until_idle();
        }
        for _ in 0..halves {
            registers.read32(0x00);
            registers.write32(0x30, 0);
            bus.run_until_idle();
        }
        let mut delay = bus.delay();
        let ready = Reset::<G, _>::new(registers, core_chip(&bus))
            .make_ready(&mut delay)
            .unwrap_or_else(|error| panic!("{words} words: {error}"));
        assert_eq!(ready.reset_kind(), kind, "{words} words, {halves} half-words");
        assert!(ready.plan(&Wants::default()).is_ok());
    }
}

/// Starts with the card pulled at access `k`; what is left is nothing that hangs or panics.
fn dies<G: Generation>(chip: Chip, prepare: impl Fn(&MockBus), step: u64) {
    let bus = stepped(chip);
    prepare(&bus);
    let (wire, started) = start::<G>(&bus, &Wants::default(), core_chip(&bus), u64::MAX);
    started.unwrap_or_else(|error| panic!("{error}"));
    let all = wire.accesses.load(Relaxed);
    assert!(all > 150, "{all}");
    let mut died = 0;
    let mut k = 1;
    while k <= all {
        let bus = stepped(chip);
        prepare(&bus);
        let before = bus.now_ms();
        let (wire, started) = start::<G>(&bus, &Wants::default(), core_chip(&bus), k);
        match started {
            Err(error) => {
                assert_eq!(error, Error::Gone, "at access {k} of {all}");
                assert!(wire.noticed.load(Relaxed));
                died += 1;
            }
            // The last accesses say nothing that must arrive for discovery to end.
            Ok(Started { mut driver, .. }) => {
                driver.watch(|_| {});
                assert_eq!(driver.next_action(), Some(Action::ControllerGone), "at access {k}");
            }
        }
        assert_eq!(
            wire.afterwards.load(Relaxed),
            0,
            "accesses after the end; died at {k} of {all}"
        );
        assert!(bus.now_ms() - before < 1_000, "died at {k} of {all}");
        k += step;
    }
    assert!(died > all / step * 9 / 10, "{died} of {all}");
}

fn dies_during_start<G: Generation>(chip: Chip) {
    dies::<G>(chip, |_| {}, 1);
}

fn dies_during_restart<G: Generation>(chip: Chip) {
    dies::<G>(chip, |bus| bus.with_model(|model| model.fault(1)), 7);
    dies::<G>(
        chip,
        |bus| {
            let (_, started) = start::<G>(bus, &Wants::default(), core_chip(bus), u64::MAX);
            started.unwrap_or_else(|error| panic!("{error}"));
        },
        7,
    );
}

/// Commands that the device holds.
fn with_commands_out<G: Generation>(chip: Chip) -> (Rig<G>, Vec<u64>) {
    let mut rig = Rig::<G>::new(chip, 2);
    rig.actions();
    rig.clear_attention(TargetId(0));
    rig.bus.with_model(|model| model.hold_commands(true));
    let out = rig.submit_reads(40);
    rig.settle();
    assert_eq!(rig.driver.outstanding(), 40);
    (rig, out)
}

/// Every command ended like this, and nothing more is taken.
#[track_caller]
fn assert_ended<G: Generation>(rig: &mut Rig<G>, out: &[u64], failure: Failure) {
    for cookie in out {
        assert_eq!(rig.take(*cookie).outcome, Outcome::Failed(failure));
    }
    rig.assert_all_free();
    let piece = [rig.segment(0, 512)];
    let cdb = fusion_mpt::scsi::Cdb::read(0, 1);
    let again = rig.try_submit(
        TargetId(0),
        &cdb,
        fusion_mpt::sgl::Direction::Read,
        &piece,
        Default::default(),
    );
    let refused = match failure {
        Failure::ControllerGone => matches!(again, Err(SubmitError::Gone)),
        _ => matches!(again, Err(SubmitError::Held)),
    };
    assert!(refused, "{again:?}");
}

fn fault_mid_io<G: Generation>(chip: Chip) {
    let (mut rig, out) = with_commands_out::<G>(chip);
    rig.bus.with_model(|model| model.fault(0x5854));
    rig.tick();
    assert_eq!(rig.actions(), [Action::ResetNeeded(ResetReason::Fault(0x5854))]);
    // The device may still write what they point to.
    assert_eq!(usize::from(rig.driver.outstanding()), out.len());
    rig.settle();
    rig.tick();
    assert_eq!(rig.actions(), []);
    let Rig { driver, bus, wire, mut ledger, .. } = rig;
    let (parts, result) = driver.into_reset(&mut bus.delay(), |completion| {
        ledger.note(&completion);
    });
    for cookie in out {
        let done = ledger.done.remove(&cookie).expect("completed");
        assert_eq!(done.outcome, Outcome::Failed(Failure::ControllerFault(0x5854)));
    }
    result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(wire.resets[1].load(Relaxed), 1, "a diagnostic reset");
    let ready = parts.reset.make_ready(&mut bus.delay()).unwrap_or_else(|error| panic!("{error}"));
    let plan = ready.plan(&Wants::default()).expect("a plan");
    let driver = ready
        .start(&plan, parts.region, hostile::tables(&plan), 0, &mut bus.delay())
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(driver.targets().count(), 2);
}

fn reset_mid_io<G: Generation>(chip: Chip) {
    let (mut rig, out) = with_commands_out::<G>(chip);
    // A message unit reset through another window.
    rig.bus.registers().write32(0x00, 0x40 << 24);
    rig.tick();
    assert_eq!(rig.actions(), [Action::ResetNeeded(ResetReason::NotOperational)]);
    rig.reset().unwrap_or_else(|error| panic!("{error}"));
    assert_ended(&mut rig, &out, Failure::ControllerReset);
    for _ in 0..5 {
        rig.settle();
        rig.tick();
    }
    assert_eq!(rig.actions(), [Action::ControllerReady], "and every target is where it was");
    rig.bus.with_model(|model| model.hold_commands(false));
    rig.clear_attention(TargetId(0));
    let cdb = fusion_mpt::scsi::Cdb::read(0, 8);
    assert!(rig.run(TargetId(0), &cdb, fusion_mpt::sgl::Direction::Read, 4096).outcome.is_good());
}

fn pulled_mid_io<G: Generation>(chip: Chip) {
    let (mut rig, out) = with_commands_out::<G>(chip);
    rig.wire.die();
    rig.poll();
    let piece = [rig.segment(0, 512)];
    // A command may still be taken: it is not known yet that it has gone.
    let cdb = fusion_mpt::scsi::Cdb::read(0, 1);
    let late = rig.submit(TargetId(0), &cdb, fusion_mpt::sgl::Direction::Read, &piece);
    rig.tick();
    assert_eq!(
        rig.actions(),
        [Action::ControllerGone, Action::TargetGone(TargetId(0)), Action::TargetGone(TargetId(1))]
    );
    let all: Vec<_> = out.into_iter().chain([late]).collect();
    assert_ended(&mut rig, &all, Failure::ControllerGone);
    let noticed_at = rig.wire.accesses.load(Relaxed);
    for _ in 0..3 {
        rig.poll();
        rig.tick();
        rig.driver.scan();
        rig.driver.interrupts(true);
        let _ = rig.driver.interrupt_cause();
    }
    assert_eq!(rig.wire.accesses.load(Relaxed), noticed_at, "accesses to a card that is gone");
    assert_eq!(rig.wire.afterwards.load(Relaxed), 0);
    assert_eq!(rig.actions(), []);
    let error = rig
        .driver
        .request_page(fusion_mpt::pages::PageRequest::sas_device(9))
        .expect_err("no pages of a card that is gone");
    assert_sentence(&error);
    let Rig { driver, bus, .. } = rig;
    let started = Instant::now();
    let (_, result) = driver.into_reset(&mut bus.delay(), |_| panic!("a second completion"));
    assert_eq!(result, Ok(()));
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// Commands, errors, an event and a page, with the card pulled at access `k`.
fn dies_during_io<G: Generation>(chip: Chip) {
    use fusion_mpt::scsi::Cdb;
    use fusion_mpt::sgl::Direction;
    let session = |rig: &mut Rig<G>| {
        let piece = [rig.segment(0, 512)];
        for round in 0..4 {
            for lba in [1, u64::from(u32::MAX), 2] {
                let cdb = Cdb::read(lba, 1);
                let attribute = Default::default();
                let _ = rig.try_submit(TargetId(0), &cdb, Direction::Read, &piece, attribute);
                if round % 2 == 0 {
                    rig.bus.run_until_idle();
                    rig.poll();
                }
            }
            if round == 1 {
                rig.bus.with_model(|model| model.raise_event(0x21, vec![0; 4], true));
                rig.driver.scan();
            }
            rig.settle();
        }
    };
    let mut rig = Rig::<G>::new(chip, 1);
    let from = rig.wire.accesses.load(Relaxed);
    session(&mut rig);
    rig.assert_all_free();
    let to = rig.wire.accesses.load(Relaxed);
    assert!(to - from > 30, "{from} to {to}");
    for k in from + 1..=to {
        let mut rig = Rig::<G>::new(chip, 1);
        rig.wire.dies_at.store(k, Relaxed);
        session(&mut rig);
        rig.tick();
        assert_eq!(rig.actions().first(), Some(&Action::ControllerGone), "died at {k}");
        rig.assert_all_free();
        rig.poll();
        rig.tick();
        assert_eq!(rig.wire.afterwards.load(Relaxed), 0, "died at {k}");
        assert_eq!(rig.driver.counters().lies(), 0, "died at {k}");
    }
}

fn lost_reply_of_start<G: Generation>(chip: Chip) {
    // Event notification, events, port enable, and the pages of a scan.
    let mut timeouts = 0;
    for lost in 0..12 {
        let bus = stepped(chip);
        let mut delay = bus.delay();
        let ready = Reset::<G, _>::new(bus.registers(), core_chip(&bus))
            .make_ready(&mut delay)
            .expect("ready");
        let plan = ready.plan(&Wants::default()).expect("a plan");
        let region = bus.allocate(plan.bytes, plan.alignment).expect("room");
        let mut driver =
            ready.begin(&plan, region, hostile::tables(&plan), 0, &mut delay).expect("begun");
        // Lets so many replies through, then loses one.
        let mut through = 0;
        while through < lost && !driver.settled() {
            bus.advance(Duration::from_micros(100));
            through += driver.poll(|_| {});
        }
        bus.with_model(|model| model.drop_replies(1));
        match driver.wait_until_settled(&mut delay, |_| {}) {
            Ok(()) => assert!(driver.settled()),
            Err(error) => {
                assert!(matches!(error, Error::Timeout(_)), "{error:?}");
                assert_sentence(&error);
                timeouts += 1;
            }
        }
        assert!(bus.now_ms() < 400_000, "{} ms", bus.now_ms());
        // Whatever came of it, a second start finds the disk.
        drop(driver);
        let (_, started) = start::<G>(&bus, &Wants::default(), core_chip(&bus), u64::MAX);
        let started = started.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(started.driver.targets().count(), 1);
    }
    assert!(timeouts > 0);
}
