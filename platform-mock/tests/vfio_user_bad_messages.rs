//! Bytes that are no vfio-user, or vfio-user that lies: the client is refused or hung up on, and
//! the next one is served as if nothing had been.

#[path = "vfio/mod.rs"]
mod vfio;

use std::fs::File;
use std::net::Shutdown;
use std::time::Duration;

use fusion_mpt_mock::model::{Chip, disks};
use fusion_mpt_mock::vfio_user::Event;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use vfio::guest::memory_file;
use vfio::raw::*;
use vfio::{Served, until};

const EINVAL: u32 = libc::EINVAL as u32;
const ENOTSUP: u32 = libc::ENOTSUP as u32;
/// The most bytes of a message.
const MOST: u32 = (1 << 20) + 32;

fn served() -> Served {
    Served::new(Chip::SAS3008, disks(1, 1 << 20))
}

/// Sends bytes as the very first thing and expects to be hung up on, with these words.
#[track_caller]
fn hung_up_on(served: &Served, bytes: &[u8], words: &str) {
    let mut raw = Raw::connect(served.path());
    raw.try_send(bytes);
    raw.0.shutdown(Shutdown::Write).expect("half closed");
    while raw.answer().is_some() {}
    let why = served.farewell().unwrap_or_default();
    assert!(why.contains(words), "{why:?} does not say {words:?}");
    Raw::greet(served.path()).assert_in_step();
    served.farewell();
}

#[test]
fn a_first_message_that_is_no_vfio_user_is_the_end_of_that_client() {
    let served = served();
    hung_up_on(&served, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", "message of");
    hung_up_on(&served, &[0; 4096], "message of 0 bytes");
    hung_up_on(&served, &[0xff; 4096], "message of 4294967295 bytes");
    hung_up_on(&served, b"\n", "middle of a message's header");
    hung_up_on(&served, &message(REGION_READ, &access(0, 7, 4)), "first message was command 9");
    hung_up_on(&served, &message(999, &[]), "first message was command 999");
}

#[test]
fn a_version_that_is_none_is_refused() {
    let served = served();
    for (body, words) in [
        (&b""[..], "no numbers"),
        (b"\0\0\x01", "no numbers"),
        (b"\x01\0\0\0{}\0", "version 1"),
        (b"\0\0\x01\0{\"capabilities\":{}}", "NUL"),
        (b"\0\0\x01\0{}\0\0", "JSON"),
        (b"\0\0\x01\0\0", "JSON"),
        (b"\0\0\x01\0{\0", "JSON"),
        (b"\0\0\x01\0[]\0", "JSON"),
        (b"\0\0\x01\0\xff\xfe\0", "JSON"),
    ] {
        let mut raw = Raw::connect(served.path());
        assert_eq!(raw.ask(VERSION, body).error, EINVAL, "{body:?}");
        assert_eq!(raw.answer(), None, "{body:?}");
        let why = served.farewell().unwrap_or_default();
        assert!(why.contains(words), "{why:?} does not say {words:?}");
    }
    // Deeper than any parser likes.
    let deep = [b"\0\0\x01\0".to_vec(), vec![b'['; 1 << 20], vec![0]].concat();
    assert_eq!(Raw::connect(served.path()).ask(VERSION, &deep).error, EINVAL);
    served.farewell();
    // Without capabilities it is one.
    let mut raw = Raw::connect(served.path());
    assert_eq!(raw.ask(VERSION, b"\0\0\x01\0").error, 0);
    raw.assert_in_step();
    assert_eq!(raw.ask(VERSION, b"\0\0\x01\0").error, EINVAL, "there is one version");
    raw.assert_in_step();
}

#[test]
fn a_size_that_lies_sets_no_memory_aside() {
    let served = served();
    for size in [0, 1, 15, MOST + 1, 0x8000_0000, u32::MAX] {
        let mut raw = Raw::greet(served.path());
        raw.send(&header(REGION_READ, size, 0));
        assert_eq!(raw.answer(), None, "{size}");
        let why = served.farewell().unwrap_or_default();
        assert!(why.contains(&format!("message of {size} bytes")), "{why}");
    }
    // The message tells the truth about itself and lies about its data.
    let mut raw = Raw::greet(served.path());
    for count in [9, 4097, 1 << 20, (1 << 20) + 1, 0x8000_0000, u32::MAX] {
        assert_eq!(raw.ask(REGION_READ, &access(0, 1, count)).error, EINVAL, "{count}");
        assert_eq!(raw.ask(REGION_WRITE, &access(0, 1, count)).error, EINVAL, "{count}");
        raw.assert_in_step();
    }
    let all = raw.ask(REGION_READ, &access(0, 7, 4096));
    assert_eq!((all.error, all.body.len()), (0, 16 + 4096));
    for (offset, count) in [(0, 4097), (4095, 2), (4096, 1), (u64::MAX, 1), (1 << 32, 4)] {
        assert_eq!(raw.ask(REGION_READ, &access(offset, 7, count)).error, EINVAL);
        let write = [access(offset, 7, count), vec![0xff; count as usize]].concat();
        assert_eq!(raw.ask(REGION_WRITE, &write).error, EINVAL);
    }
    raw.assert_in_step();
    let most = [access(0, 1, 1 << 20), vec![0xff; 1 << 20]].concat();
    assert_eq!(raw.ask(REGION_WRITE, &most).error, EINVAL);
    raw.assert_in_step();
}

#[test]
fn bodies_that_are_too_short_are_refused_and_longer_ones_are_skipped() {
    let served = served();
    let mut raw = Raw::greet(served.path());
    for (command, whole) in [
        (DMA_MAP, 32),
        (DMA_UNMAP, 24),
        (GET_REGION_INFO, 12),
        (GET_IRQ_INFO, 12),
        (SET_IRQS, 20),
        (REGION_READ, 16),
        (REGION_WRITE, 16),
    ] {
        for bytes in 0..whole {
            assert_eq!(raw.ask(command, &vec![0; bytes]).error, EINVAL, "{command}: {bytes}");
        }
        raw.assert_in_step();
    }
    let long = [access(0, 7, 2), vec![0xaa; 5000]].concat();
    assert_eq!(raw.ask(REGION_READ, &long).body.len(), 16 + 2);
    raw.assert_in_step();
}

#[test]
fn commands_that_there_are_not_and_things_that_there_are_not_are_refused() {
    let served = served();
    let mut raw = Raw::greet(served.path());
    for command in [0, 6, 11, 12, 14, 15, 999, u16::MAX] {
        assert_eq!(raw.ask(command, &[0x5a; 100]).error, ENOTSUP, "{command}");
        raw.assert_in_step();
    }
    for index in [9, 10, u32::MAX] {
        assert_eq!(raw.ask(GET_REGION_INFO, &words(&[32, 0, index, 0, 0, 0, 0, 0])).error, EINVAL);
        assert_eq!(raw.ask(GET_IRQ_INFO, &words(&[16, 0, index, 0])).error, EINVAL);
        assert_eq!(raw.ask(SET_IRQS, &words(&[20, 0x21, index, 0, 0])).error, EINVAL);
        assert_eq!(raw.ask(REGION_READ, &access(0, index, 4)).error, EINVAL);
    }
    // Regions without anything: BAR 2 is the upper half of another, 6 the ROM, 8 VGA.
    for region in [2, 6, 8] {
        assert_eq!(raw.ask(REGION_READ, &access(0, region, 4)).error, EINVAL);
    }
    raw.assert_in_step();
}

#[test]
fn accesses_past_a_bars_end_are_refused_and_nothing_is_written() {
    let served = served();
    let mut raw = Raw::greet(served.path());
    let size = |raw: &mut Raw, region: u32| {
        let info = raw.ask(GET_REGION_INFO, &words(&[32, 0, region, 0, 0, 0, 0, 0]));
        u64::from_le_bytes(info.body[16..24].try_into().expect("8 bytes"))
    };
    for region in [0, 1, 3] {
        let end = size(&mut raw, region);
        assert!(end > 0);
        for (offset, count) in
            [(end, 1), (end - 1, 2), (end - 4, 8), (u64::MAX, 1), (u64::MAX - 3, 8), (1 << 32, 4)]
        {
            assert_eq!(raw.ask(REGION_READ, &access(offset, region, count)).error, EINVAL);
            let write = [access(offset, region, count), vec![0xff; count as usize]].concat();
            assert_eq!(raw.ask(REGION_WRITE, &write).error, EINVAL, "{offset:#x}");
        }
        assert_eq!(raw.ask(REGION_READ, &access(end - 8, region, 8)).error, 0);
        assert_eq!(raw.ask(REGION_READ, &access(0, region, 0)).error, 0, "nothing is something");
        assert_eq!(raw.ask(REGION_WRITE, &access(end, region, 0)).error, 0);
    }
    raw.assert_in_step();
    assert_eq!(served.complaints(), [""; 0]);
}

#[test]
fn interrupts_that_there_are_not_are_refused() {
    let served = served();
    let mut raw = Raw::greet(served.path());
    const SET: u32 = 0x24;
    for (flags, kind, start, count) in [
        (SET, 0, 0, 2),
        (SET, 1, 1, 1),
        (SET, 2, 96, 1),
        (SET, 2, 0, 97),
        (SET, 2, u32::MAX, u32::MAX),
        (SET, 2, 1, u32::MAX),
        (0, 0, 0, 1),
        (0xffff_fff8, 0, 0, 1),
        (0x38, 0, 0, 1),
    ] {
        let answer = raw.ask(SET_IRQS, &words(&[20, flags, kind, start, count]));
        assert_eq!(answer.error, EINVAL, "{flags:#x} {kind} {start} {count}");
    }
    // A value for each, which no client needs.
    assert_eq!(raw.ask(SET_IRQS, &words(&[20, 0x22, 0, 0, 1])).error, ENOTSUP);
    // A descriptor that nothing can be written to, and one that swallows nothing.
    let reader = File::open("/dev/null").expect("there");
    assert_eq!(raw.ask_with(SET_IRQS, &words(&[20, SET, 0, 0, 1]), &[&reader]).error, EINVAL);
    let full = File::options().write(true).open("/dev/full").expect("there");
    assert_eq!(raw.ask_with(SET_IRQS, &words(&[20, SET, 0, 0, 1]), &[&full]).error, 0);
    assert_eq!(raw.ask(SET_IRQS, &words(&[20, 0x21, 0, 0, 1])).error, 0, "triggered all the same");
    raw.assert_in_step();
}

#[test]
fn more_descriptors_than_a_message_can_have_are_refused_and_closed() {
    let served = served();
    let mut raw = Raw::greet(served.path());
    let file = memory_file(4096);
    let open = || std::fs::read_dir("/proc/self/fd").expect("there").count();
    let before = open();
    for _ in 0..100 {
        for count in [2, 16, 17, 60] {
            let files = vec![&file; count];
            assert_eq!(raw.ask_with(DMA_MAP, &map(0, 0, 4096), &files).error, EINVAL);
            assert_eq!(raw.ask_with(REGION_READ, &access(0, 7, 2), &files[..2]).error, 0);
        }
    }
    raw.assert_in_step();
    // Other tests of this process open some too, but not thousands.
    assert!(open() < before + 200, "descriptors are not closed");
}

#[test]
fn nobody_answers_what_needs_no_answer_whether_it_was_refused_or_not() {
    let served = served();
    let mut raw = Raw::greet(served.path());
    for command in [0, VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, GET_IRQ_INFO] {
        raw.send(&header(command, 16, NO_REPLY));
    }
    for command in [SET_IRQS, REGION_READ, REGION_WRITE, RESET, 999] {
        raw.send(&header(command, 16, NO_REPLY));
    }
    let write = [access(0x34, 1, 4), vec![0; 4]].concat();
    raw.send(&[header(REGION_WRITE, 16 + write.len() as u32, NO_REPLY), write].concat());
    let mask = raw.ask(REGION_READ, &access(0x34, 1, 4));
    assert_eq!(mask.body[16], 0, "what was written has come");
    raw.assert_in_step();
}

#[test]
fn a_reply_that_nobody_asked_for_is_the_end_of_that_client() {
    let served = served();
    for flags in [1, 2, 15] {
        let mut raw = Raw::greet(served.path());
        raw.send(&header(REGION_READ, 16, flags));
        assert_eq!(raw.answer(), None);
        assert!(served.farewell().unwrap_or_default().contains("where a command can be"));
    }
}

#[test]
fn a_message_in_many_pieces_is_one_and_many_in_one_piece_are_many() {
    let served = served();
    let mut raw = Raw::connect(served.path());
    let mut bytes = message(VERSION, &version());
    bytes.extend(message(REGION_READ, &access(0, 7, 2)));
    for byte in &bytes {
        raw.send(&[*byte]);
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(raw.answer().map(|answer| answer.command), Some(VERSION));
    assert_eq!(raw.answer().map(|answer| answer.error), Some(0));
    raw.send(&message(REGION_READ, &access(0, 7, 2)).repeat(1000));
    for _ in 0..1000 {
        assert_eq!(raw.answer().map(|answer| answer.error), Some(0));
    }
    // With descriptors on the pieces of a header.
    let (file, bytes) = (memory_file(4096), message(DMA_MAP, &map(0, 0, 4096)));
    raw.send_with(&bytes[..7], &[&file]);
    raw.send(&bytes[7..]);
    assert_eq!(raw.answer().map(|answer| answer.error), Some(0));
    raw.assert_in_step();
}

#[test]
fn refusals_without_end_are_told_of_a_few_times() {
    let served = served();
    let mut raw = Raw::greet(served.path());
    for _ in 0..1000 {
        raw.ask(REGION_READ, &access(0, 8, 4));
    }
    let events = served.events();
    assert!(events.len() < 30, "{} events", events.len());
    assert!(events.iter().any(|event| matches!(event, Event::Notice(_))));
}

#[test]
fn a_client_that_reads_no_answers_and_one_in_the_middle_of_a_message_can_be_hung_up_on() {
    let mut stuffed = served();
    let mut raw = Raw::greet(stuffed.path());
    raw.0.set_write_timeout(Some(Duration::from_millis(200))).expect("set");
    let reads = message(REGION_READ, &access(0, 7, 4096)).repeat(1000);
    while raw.try_send(&reads) {}
    stuffed.end();
    let mut halfway = served();
    let mut raw = Raw::greet(halfway.path());
    raw.send(&header(REGION_READ, 1000, 0));
    std::thread::sleep(Duration::from_millis(100));
    halfway.end();
    let mut silent = served();
    let _raw = Raw::connect(silent.path());
    until("the client", || silent.events().contains(&Event::Connected));
    silent.end();
}

/// A message with anything in it, often nearly right.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        3 => 0u32..16,
        1 => Just(u32::MAX),
        1 => any::<u32>(),
        2 => (0u32..0x110).prop_map(|word| word * 4),
    ];
    let body = proptest::collection::vec(word, 0..12);
    let lie = prop_oneof![30 => Just(0u32), 1 => 1u32..64, 1 => any::<u32>()];
    let flags = prop_oneof![30 => Just(NO_REPLY), 1 => any::<u32>()];
    (0u16..18, body, lie, flags).prop_map(|(command, body, lie, flags)| {
        let body = words(&body);
        let size = (16 + body.len() as u32).wrapping_add(lie);
        [header(command, size, flags), body].concat()
    })
}

#[test]
fn random_messages_leave_a_server_that_serves() {
    let served = served();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::with_cases(300), rng);
    let messages = proptest::collection::vec(any_message(), 1..40);
    let run = runner.run(&messages, |messages| {
        let mut raw = Raw::greet(served.path());
        for message in messages {
            if !raw.try_send(&message) {
                break;
            }
        }
        Ok(())
    });
    run.expect("no case fails");
    Raw::greet(served.path()).assert_in_step();
}
