use std::vec::Vec;

use super::*;

fn records<const N: usize>() -> [SlotRecord; N] {
    [SlotRecord::NEW; N]
}

fn command(cookie: u64) -> Finished {
    Finished { cookie, requested: 0, device: 0 }
}

#[test]
fn a_slot_goes_round_from_pool_to_device_to_caller() {
    let mut records = records::<8>();
    let mut slots = Slots::new(&mut records, 1, 2, 3);
    let command = Finished { cookie: 77, requested: 4096, device: 9 };
    assert_eq!(slots.take(None, command), Ok(6));
    assert_eq!(slots.outstanding(), 1);
    assert_eq!(slots.finish(6), Some(command));
    assert_eq!(slots.outstanding(), 0);
    assert_eq!(slots.finish(6), None, "a second reply for the slot is a lie");
}

#[test]
fn a_tag_has_one_slot_and_one_command() {
    let mut records = records::<8>();
    let mut slots = Slots::new(&mut records, 1, 2, 3);
    assert_eq!(slots.take(Some(2), command(1)), Ok(5));
    assert_eq!(slots.take(Some(2), command(1)), Err(SubmitError::TagInUse(2)));
    assert_eq!(
        slots.take(Some(3), command(1)),
        Err(SubmitError::TagOutOfRange { tag: 3, tags: 3 })
    );
    slots.finish(5).unwrap();
    assert!(slots.take(Some(2), command(1)).is_ok());
}

#[test]
fn the_pool_runs_out_and_refills() {
    let mut records = records::<8>();
    let mut slots = Slots::new(&mut records, 10, 2, 3);
    let mut smids = Vec::new();
    while let Ok(smid) = slots.take(None, command(0)) {
        smids.push(smid);
    }
    assert_eq!(smids, [15, 16, 17]);
    assert_eq!(slots.take(None, command(0)), Err(SubmitError::Full));
    slots.finish(16).unwrap();
    assert_eq!(slots.take(None, command(0)), Ok(16));
}

#[test]
fn a_slot_that_was_put_back_is_not_lost() {
    let mut records = records::<3>();
    let mut slots = Slots::new(&mut records, 1, 2, 0);
    let smid = slots.take(None, command(99)).unwrap();
    assert_eq!(slots.take(None, command(0)), Err(SubmitError::Full));
    slots.put_back(smid);
    assert_eq!(slots.take(None, command(0)), Ok(smid));
}

#[test]
fn a_reply_for_a_foreign_or_internal_slot_is_not_a_command() {
    let mut records = records::<8>();
    let mut slots = Slots::new(&mut records, 1, 2, 0);
    assert_eq!(slots.take_internal(0), Some(1));
    assert_eq!(slots.take_internal(0), None, "it is taken");
    assert_eq!(slots.take_internal(2), None, "there is no such slot");
    assert_eq!(slots.finish(1), None);
    for smid in [0, 3, 9, u16::MAX] {
        assert_eq!(slots.finish(smid), None, "{smid}");
        assert!(!slots.finish_internal(smid), "{smid}");
    }
    assert!(slots.is_internal(1));
    assert!(slots.finish_internal(1));
    assert!(!slots.finish_internal(1));
}

#[test]
fn everything_outstanding_is_found_once() {
    let mut records = records::<40>();
    let mut slots = Slots::new(&mut records, 1, 2, 8);
    for cookie in 0..8 {
        slots.take(Some(cookie as u16), command(cookie)).unwrap();
    }
    let smid = slots.take(None, command(99)).unwrap();
    assert_eq!(slots.find(99), Some(smid));
    let (mut from, mut cookies) = (0, Vec::new());
    while let Some(finished) = slots.finish_any(&mut from) {
        cookies.push(finished.cookie);
    }
    assert_eq!(cookies, [0, 1, 2, 3, 4, 5, 6, 7, 99]);
    assert_eq!(slots.outstanding(), 0);
}

#[test]
fn slots_that_were_out_at_a_reset_are_given_out_last() {
    let mut records = records::<8>();
    let mut slots = Slots::new(&mut records, 1, 2, 0);
    assert_eq!(slots.take_internal(0), Some(1));
    for cookie in 0..3 {
        slots.take(None, command(cookie)).unwrap();
    }
    slots.finish(4).unwrap();
    slots.keep_all();
    assert_eq!(slots.finish(3), None, "a reply that comes after the reset");
    assert_eq!(slots.outstanding(), 2);
    let mut from = 0;
    while slots.finish_any(&mut from).is_some() {}
    slots.order_free();
    assert_eq!(slots.take_internal(0), Some(1), "the reset freed it");
    assert_eq!(slots.outstanding(), 0);
    let order: Vec<u16> = (0..6).map(|_| slots.take(None, command(9)).unwrap()).collect();
    assert_eq!(order, [4, 6, 7, 8, 3, 5]);
    assert_eq!(slots.take(None, command(9)), Err(SubmitError::Full), "none was lost or doubled");
}

#[test]
fn a_command_that_was_abandoned_keeps_its_slot_to_itself_until_a_reset() {
    let mut records = records::<3>();
    let mut slots = Slots::new(&mut records, 1, 1, 0);
    let smid = slots.take(None, command(1)).unwrap();
    assert!(slots.abandon(smid) && !slots.abandon(smid));
    assert_eq!(slots.outstanding(), 0);
    assert_eq!(slots.take(None, command(2)), Ok(3));
    assert_eq!(slots.take(None, command(3)), Err(SubmitError::Full));
    assert_eq!(slots.finish(smid), None, "its answer comes too late");
    slots.order_free();
    assert_eq!(slots.take(None, command(3)), Ok(smid));
}

#[test]
fn a_slot_that_was_demoted_is_given_out_last_and_not_lost() {
    let mut records = records::<5>();
    let mut slots = Slots::new(&mut records, 1, 1, 0);
    let smid = slots.take(None, command(1)).unwrap();
    slots.finish(smid).unwrap();
    slots.demote(smid);
    let order: Vec<u16> = (0..4).map(|_| slots.take(None, command(9)).unwrap()).collect();
    assert_eq!(order, [3, 4, 5, smid]);
    slots.finish(smid).unwrap();
    slots.demote(smid);
    assert_eq!(slots.take(None, command(9)), Ok(smid), "the only one that is free");
}

#[test]
fn a_command_is_late_when_its_limit_has_passed() {
    let mut records = records::<8>();
    let mut slots = Slots::new(&mut records, 1, 2, 0);
    slots.start_clock(1_000, 10_000);
    let usual = slots.take(None, Finished { device: 9, ..command(1) }).unwrap();
    let short = slots.take(None, Finished { device: 8, ..command(2) }).unwrap();
    slots.set_deadline(short, 3_000);
    let long = slots.take(None, Finished { device: 7, ..command(3) }).unwrap();
    slots.set_deadline(long, 100_000);
    assert_eq!(slots.advance(2_900), 0);
    assert_eq!(slots.late(), None);
    assert_eq!(slots.advance(3_300), 1);
    assert_eq!(slots.late(), Some(LateCommand { smid: short, device: 8 }));
    assert!(slots.is_late(short) && !slots.is_late(usual));
    assert_eq!(slots.advance(11_300), 1);
    slots.finish(short).unwrap();
    assert_eq!(slots.late(), Some(LateCommand { smid: usual, device: 9 }));
    slots.finish(usual).unwrap();
    for now in (12_000..100_000).step_by(900) {
        assert_eq!(slots.advance(now), 0, "{now}");
    }
    assert_eq!(slots.advance(100_400), 1);
    assert_eq!(slots.late(), Some(LateCommand { smid: long, device: 7 }));
    slots.finish(long).unwrap();
    assert_eq!(slots.late(), None);
}

proptest::proptest! {
    /// Whatever comes and goes, exactly those are late whose deadline has passed by a bucket.
    #[test]
    fn late_is_what_is_past_its_deadline(
        steps in proptest::collection::vec((0u8..3, 0u64..70_000), 1..200),
    ) {
        let mut records = records::<32>();
        let mut slots = Slots::new(&mut records, 1, 0, 0);
        let mut now = 77_777u64;
        slots.start_clock(now, 30_000);
        let mut out = std::collections::BTreeMap::new();
        for (kind, number) in steps {
            match kind {
                0 => if let Ok(smid) = slots.take(None, command(0)) {
                    let deadline = if number % 3 == 0 { now + 30_000 } else {
                        slots.set_deadline(smid, now + number);
                        now + number
                    };
                    out.insert(smid, deadline);
                },
                1 => {
                    now += number % 3_000;
                    slots.advance(now);
                }
                _ => if let Some(smid) = out.keys().nth(number as usize % 32).copied() {
                    out.remove(&smid);
                    proptest::prop_assert!(slots.finish(smid).is_some());
                },
            }
            slots.advance(now);
            for (smid, deadline) in &out {
                if slots.is_late(*smid) {
                    proptest::prop_assert!(now >= *deadline, "{smid} too early");
                } else {
                    proptest::prop_assert!(now < *deadline + 512, "{smid} missed");
                }
            }
        }
    }
}

proptest::proptest! {
    /// Against the plainest model there is: a set of what is outstanding.
    #[test]
    fn every_slot_has_one_owner_at_a_time(
        steps in proptest::collection::vec((0u8..4, 0u16..24), 1..400),
        tags in 0u16..8,
    ) {
        let mut records = records::<20>();
        let (internal, first) = (3u16, 100u16);
        let mut slots = Slots::new(&mut records, first, internal, tags);
        let mut outstanding = std::collections::BTreeMap::new();
        for (cookie, (kind, number)) in steps.into_iter().enumerate() {
            let cookie = cookie as u64;
            match kind {
                0 => match slots.take(None, command(cookie)) {
                    Ok(smid) => {
                        proptest::prop_assert!(outstanding.insert(smid, cookie).is_none());
                    }
                    Err(error) => {
                        proptest::prop_assert_eq!(error, SubmitError::Full);
                        let pool = first + internal + tags..first + 20;
                        proptest::prop_assert_eq!(
                            outstanding.range(pool.clone()).count(),
                            pool.len()
                        );
                    }
                },
                1 => match slots.take(Some(number), command(cookie)) {
                    Ok(smid) => {
                        proptest::prop_assert_eq!(smid, first + internal + number);
                        proptest::prop_assert!(outstanding.insert(smid, cookie).is_none());
                    }
                    Err(SubmitError::TagInUse(tag)) => {
                        proptest::prop_assert!(outstanding.contains_key(&(first + internal + tag)));
                    }
                    Err(error) => {
                        proptest::prop_assert_eq!(
                            error,
                            SubmitError::TagOutOfRange { tag: number, tags }
                        );
                    }
                },
                2 => {
                    let smid = first + number;
                    let finished = slots.finish(smid).map(|finished| finished.cookie);
                    proptest::prop_assert_eq!(finished, outstanding.remove(&smid));
                }
                _ => {
                    if let Ok(smid) = slots.take(None, command(cookie)) {
                        slots.put_back(smid);
                    }
                }
            }
            proptest::prop_assert_eq!(usize::from(slots.outstanding()), outstanding.len());
        }
    }
}
