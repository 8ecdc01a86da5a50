use fusion_mpt::trace::{TRACED_BYTES, TraceKind};
use fusion_mpt_mock::model::{Chip, DeviceStatus, LogEntry, MemberState, RaidLevel};
use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::rig::{CHIPS, disk, on};

/// What comes within some seconds, until it is what is wanted.
fn collect(
    host: &mut dyn Host,
    follower: &mut Follower,
    wanted: impl Fn(&[News]) -> bool,
) -> Result<Vec<News>, Error> {
    let until = host.now() + std::time::Duration::from_secs(10);
    let mut all = Vec::new();
    while !wanted(&all) && host.now() < until {
        host.poll(&mut |_| {})?;
        host.pause();
        all.extend(follower.news(host));
    }
    Ok(all)
}

#[test]
fn what_was_found_at_bring_up_is_told_by_the_ioc_in_order() {
    for chip in CHIPS {
        let news = on(
            chip,
            |model| {
                model.add_disk(3, disk(0, false)).expect("free");
            },
            |host, _| Ok(Follower::new().news(host)),
        );
        assert!(news.is_sorted_by_key(|news| news.at_ms));
        assert!(news.iter().all(|news| news.source == Source::Ioc));
        let names: Vec<&str> = news.iter().map(|news| news.what.as_str()).collect();
        // MPI 1.x asks for events when the port has been enabled.
        if chip.name != "sas1068" {
            assert!(names.contains(&"SAS discovery"), "{}: {names:?}", chip.name);
            let found = news.iter().find(|news| news.details.contains("target added"));
            assert!(found.is_some_and(|news| news.details.contains("phy 3")), "{news:?}");
        }
    }
}

fn by_driver(news: &[News], what: &str) -> bool {
    news.iter().any(|news| news.source == Source::Driver && news.what == what)
}

#[test]
fn a_disk_that_is_pulled_and_put_back_is_told_by_ioc_and_driver() {
    for chip in CHIPS {
        let (gone, back) = on(
            chip,
            |model| {
                model.add_disk(0, disk(0, false)).expect("free");
            },
            |host, bus| {
                let mut follower = Follower::new();
                follower.news(host);
                let target = bus.with_model(|model| model.remove_disk(0));
                let gone = collect(host, &mut follower, |news| by_driver(news, "target-gone"))?;
                bus.with_model(|model| model.add_disk(0, target.expect("it was there")).is_ok());
                let is_back = |news: &[News]| by_driver(news, "target-appeared");
                Ok((gone, collect(host, &mut follower, is_back)?))
            },
        );
        let by_ioc = |news: &[News], text: &str| {
            news.iter().any(|news| news.source == Source::Ioc && news.details.contains(text))
        };
        assert!(by_driver(&gone, "target-gone") && by_ioc(&gone, "not responding"), "{gone:?}");
        assert!(by_driver(&back, "target-appeared") && by_ioc(&back, "added"), "{back:?}");
    }
}

#[test]
fn predicted_failures_log_entries_and_raid_are_told_in_words() {
    let news = on(
        Chip::SAS2008,
        |model| {
            model.add_disk(0, disk(0, false)).expect("free");
            model.add_disk(1, disk(1, false)).expect("free");
            model.create_volume(RaidLevel::Raid1, &[0, 1], disk(7, false)).expect("a mirror");
        },
        |host, bus| {
            let mut follower = Follower::new();
            follower.news(host);
            bus.with_model(|model| {
                model.raise_device_status(0, DeviceStatus::Smart { asc: 0x5d, ascq: 0x10 });
                let mut entry = LogEntry::default();
                entry.data[0] = 0xab;
                model.fill_log(1, &entry, true);
                model.set_member_state(1, MemberState::Failed);
            });
            collect(host, &mut follower, |news| news.len() >= 4)
        },
    );
    let lines: Vec<String> = news.iter().map(News::line).collect();
    let has = |text: &str| lines.iter().any(|line| line.contains(text));
    assert!(has("failure predicted (ASC 5d, ASCQ 10), handle"), "{lines:#?}");
    assert!(has("log entry added: number 1, kind 0x8000, data ab"), "{lines:#?}");
    assert!(has("was optimal") && has("degraded, was optimal"), "{lines:#?}");
}

#[test]
fn events_that_were_overwritten_are_counted() {
    let news = on(
        Chip::SAS3008,
        |_| {},
        |host, bus| {
            bus.with_model(|model| model.fill_log(300, &LogEntry::default(), false));
            let until = host.now() + std::time::Duration::from_secs(10);
            let all =
                |host: &dyn Host| host.ioc_events(0).last().is_some_and(|e| e.sequence >= 300);
            while !all(host) && host.now() < until {
                host.poll(&mut |_| {})?;
                host.pause();
            }
            Ok(Follower::new().news(host))
        },
    );
    assert_eq!(news.len(), 129);
    assert_eq!(news.first().map(|news| news.what.as_str()), Some("events lost"));
}

proptest! {
    #[test]
    fn frames_of_any_bytes_are_told(bytes in proptest::array::uniform32(any::<u8>()), code in 0u8..0x40, length in 0u8..=128) {
        let mut frame = [0; TRACED_BYTES];
        for (at, to) in frame.iter_mut().enumerate() {
            *to = bytes[at % 32].wrapping_mul(at as u8 | 1);
        }
        frame[0x14] = code;
        [frame[0x15], frame[0x16], frame[0x17]] = [0; 3];
        let entry = TraceEntry { sequence: 0, at_ms: 0, kind: TraceKind::ReplyFrame, length, word: 0, bytes: frame };
        for mpi1 in [false, true] {
            prop_assert!(decode(mpi1, &entry).line().starts_with("1970-01-01T00:00:00.000Z  IOC "));
        }
    }
}
