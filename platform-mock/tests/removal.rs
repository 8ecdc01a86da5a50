//! The card is pulled at every single register access of a driver's day: work, errors, a command
//! that is aborted, a disk that comes and one that goes, a reset, a stop. Bring-up, restart and
//! plain I/O have theirs in `bad_controllers.rs`.

mod fault_rig;
mod hostile;

use std::sync::atomic::Ordering::Relaxed;

use fault_rig::content::{DEFECTS, STATIC, WRITTEN};
use fault_rig::host::{Ending, Host};
use fault_rig::seed;
use fault_rig::{Ask, Platform};
use fusion_mpt::error::{Error, SubmitError};
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt_mock::model::{Chip, disk};
use hostile::DISK;

const COMMANDS: u16 = 12;

fn host<G: Generation>(chip: Chip) -> Host<G> {
    let mut platform = Platform::<G>::new(chip, 2, COMMANDS);
    (0..2).for_each(|target| platform.clear_attention(target));
    platform.books.ended.clear();
    Host::new(platform, seed::chance(1, "removal"), 2)
}

/// Commands of every kind.
fn work<G: Generation>(host: &mut Host<G>) {
    for at in 0..u64::from(COMMANDS) {
        let ask = match at % 4 {
            0 => Ask::Write { lba: WRITTEN.start + at * 4, blocks: 2 },
            1 => Ask::Defect { lba: DEFECTS.start + at },
            2 => Ask::Flush,
            _ => Ask::Read { lba: STATIC.start + at, blocks: 3 },
        };
        host.send((at % 2) as u16, ask, 0);
        host.platform.bus.step(2);
    }
    host.turn(10);
}

/// A command that the disk does not answer is aborted.
fn abort<G: Generation>(host: &mut Host<G>) {
    host.platform.bus.with_model(|model| model.lose_scsi_replies(1));
    host.send(1, Ask::Read { lba: 1, blocks: 1 }, 0);
    work(host);
    for _ in 0..40 {
        host.turn(400);
    }
}

/// A disk comes, another goes.
fn discovery<G: Generation>(host: &mut Host<G>) {
    host.platform.bus.with_model(|model| model.add_disk(2, disk(9, DISK)).expect("an empty slot"));
    work(host);
    host.platform.bus.with_model(|model| model.remove_disk(0));
    work(host);
    for _ in 0..10 {
        host.turn(300);
    }
}

/// The IOC stops with commands out, and is reset.
fn reset<G: Generation>(host: &mut Host<G>) {
    host.platform.bus.with_model(|model| model.hold_commands(true));
    work(host);
    host.platform.bus.with_model(|model| {
        model.fault(0x5854);
        model.hold_commands(false);
    });
    for _ in 0..12 {
        host.turn(200);
    }
    work(host);
}

/// The card dies at each access of `day` in turn.
fn dies<G: Generation>(chip: Chip, day: fn(&mut Host<G>)) {
    let mut whole = host::<G>(chip);
    let from = whole.platform.wire.accesses.load(Relaxed);
    day(&mut whole);
    assert_eq!(whole.ending(), None, "{:?}", whole.last_error);
    let to = whole.platform.wire.accesses.load(Relaxed);
    assert!(to - from > 20, "{from} to {to}");
    for access in from + 1..=to {
        let mut host = host::<G>(chip);
        host.platform.wire.dies_at.store(access, Relaxed);
        day(&mut host);
        // Whoever does nothing finds out within a second.
        for _ in 0..3 {
            host.turn(1_000);
        }
        assert_eq!(host.ending(), Some(Ending::Gone), "died at access {access} of {from}..{to}");
        assert_over(&mut host, access);
    }
    println!("{}: pulled at each of {} accesses", chip.name, to - from);
}

#[track_caller]
fn assert_over<G: Generation>(host: &mut Host<G>, access: u64) {
    host.again.clear();
    host.platform.books.assert_nothing_out();
    assert_eq!(host.platform.driver.outstanding(), 0);
    assert_eq!(host.gone_reports, 1, "reports of the end; died at {access}");
    let refused = host.platform.submit(1, Ask::Ready);
    assert!(matches!(refused, Err(SubmitError::Gone | SubmitError::NoTarget)), "{refused:?}");
    host.platform.driver.scan();
    host.platform.driver.interrupts(true);
    let _ = host.platform.driver.interrupt_cause();
    host.reset();
    assert_eq!(host.last_error, Some(Error::Gone));
    let afterwards = host.platform.wire.afterwards.load(Relaxed);
    assert_eq!(afterwards, 0, "accesses after the end; died at {access}");
    assert_eq!(host.platform.driver.counters().lies(), 0);
    host.platform.books.buffers.assert_all_untouched();
}

/// The card dies at each access of a stop.
fn dies_while_it_stops<G: Generation>(chip: Chip) {
    let stop = |dies_after: Option<u64>| {
        let mut host = host::<G>(chip);
        work(&mut host);
        host.platform.bus.with_model(|model| model.slow_down(None, 3_000_000));
        host.send(0, Ask::Write { lba: WRITTEN.start, blocks: 4 }, 0);
        host.send(1, Ask::Read { lba: 7, blocks: 4 }, 0);
        let from = host.platform.wire.accesses.load(Relaxed);
        if let Some(after) = dies_after {
            host.platform.wire.dies_at.store(from + after, Relaxed);
        }
        let Platform { driver, mut books, wire, bus, .. } = host.platform;
        let mut delay = bus.delay();
        let (parts, stopped, result) =
            driver.stop(bus.now_ms(), &mut delay, |completion| books.note(&completion));
        books.assert_nothing_out();
        assert_eq!(wire.afterwards.load(Relaxed), 0, "dies after {dies_after:?}");
        let accesses = wire.accesses.load(Relaxed) - from;
        drop(parts);
        books.buffers.assert_all_untouched();
        let noticed = wire.noticed.load(Relaxed);
        assert_eq!(result, if noticed { Err(Error::Gone) } else { Ok(()) });
        (accesses, stopped, Left { bus, books })
    };
    let (all, stopped, left) = stop(None);
    assert_eq!((stopped.undrained, stopped.unflushed, stopped.flushed), (0, 0, 2));
    left.assert_survives_a_power_cut("an orderly stop");
    let mut unflushed = 0;
    for after in 1..=all {
        let (_, stopped, left) = stop(Some(after));
        if stopped.unflushed > 0 || stopped.undrained > 0 {
            unflushed += 1;
        } else {
            left.assert_survives_a_power_cut("a stop that says it flushed");
        }
    }
    assert!(unflushed > 0, "none of {all}");
}

/// What is left when a driver has stopped.
struct Left {
    bus: fusion_mpt_mock::in_process::MockBus,
    books: fault_rig::Books,
}

impl Left {
    /// Everything that was acknowledged is on the medium.
    #[track_caller]
    fn assert_survives_a_power_cut(mut self, what: &str) {
        self.bus.with_model(|model| model.power_cut(&mut |_, _| false).expect("disks in memory"));
        assert_eq!(fault_rig::wrong_blocks(&self.bus, &mut self.books), [""; 0], "{what}");
    }
}

macro_rules! removals {
    ($($chip:ident: $generation:ty = $model:expr;)*) => {$(
        mod $chip {
            use super::*;

            #[test]
            fn a_card_pulled_at_any_access_of_work_and_an_abort_is_gone() {
                dies::<$generation>($model, abort);
            }

            #[test]
            fn a_card_pulled_at_any_access_of_discovery_is_gone() {
                dies::<$generation>($model, discovery);
            }

            #[test]
            fn a_card_pulled_at_any_access_of_a_reset_is_gone() {
                dies::<$generation>($model, reset);
            }

            #[test]
            fn a_card_pulled_at_any_access_of_a_stop_is_gone() {
                dies_while_it_stops::<$generation>($model);
            }
        }
    )*};
}

removals! {
    sas1068: Mpi1 = Chip::SAS1068;
    sas3008: Mpi2 = Chip::SAS3008;
    sas3816: Mpi2 = Chip::SAS3816;
}
