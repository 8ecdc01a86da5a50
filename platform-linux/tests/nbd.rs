//! The NBD server before a client that was written from the protocol document, on a software
//! controller.
#![cfg(target_os = "linux")]

mod nbd {
    pub(crate) mod client;
    pub(crate) mod rig;
}

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fusion_mpt_linux::bus_name::MockChip;
use fusion_mpt_linux::export::engine::DeviceIndex;
use fusion_mpt_linux::export::nbd::MOST_CONNECTIONS;
use nbd::client::*;
use nbd::rig::{PIECE, Rig};
use proptest::prelude::*;

/// Bytes that depend on the place and on `salt`.
fn pattern(offset: u64, length: usize, salt: u64) -> Vec<u8> {
    (0..length.div_ceil(8) as u64)
        .flat_map(|word| {
            (offset + 8 * word + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
        })
        .take(length)
        .collect()
}

/// Whether the other end closes.
fn is_closed(stream: &mut impl Read) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_unit_has_a_lasting_name_and_a_short_one_and_the_first_is_the_default() {
    let rig = Rig::new();
    let mut client = Client::connect(rig.path());
    let list = client.list();
    assert_eq!(list.len(), 2);
    let (name, description) = &list[0];
    assert!(name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    assert!(!description.is_empty());
    let by_name = client.info(6, name).expect("known");
    assert_eq!(client.info(6, "target0").as_ref(), Ok(&by_name));
    assert_eq!(client.info(6, "").as_ref(), Ok(&by_name));
    assert_eq!((&by_name.name, by_name.size), (name, 64 << 20));
    let [least, preferred, most] = by_name.block_sizes.expect("sizes");
    assert_eq!((least, preferred), (512, 4096));
    assert_eq!(most as usize, 16 * PIECE);
    let other = client.info(6, "target1").expect("known");
    assert_eq!(other.block_sizes.map(|sizes| sizes[0]), Some(4096));
    assert_eq!(client.info(7, "target9"), Err(0x8000_0006), "NBD_REP_ERR_UNKNOWN");
    assert_eq!(client.option(2, &[]).expect("an answer").1, 1);
    assert!(is_closed(&mut client.stream));
}

#[test]
fn what_is_written_is_read_on_every_connection_and_a_flush_reaches_the_disk() {
    let rig = Rig::new();
    let mut writer = Client::open(rig.path(), "target1");
    let mut reader = Client::connect(rig.path());
    reader.structured();
    reader.go("target1").expect("an export");
    let data = pattern(8192, 12 << 10, 1);
    assert_eq!(writer.write(0, 8192, &data), 0);
    assert_eq!(reader.read(8192, 12 << 10), Ok(data));
    let before = rig.counters().flushes;
    assert_eq!(writer.command(0, FLUSH, 0, 0), 0);
    assert_eq!(rig.counters().flushes, before + 1);
    assert_eq!(writer.write(FUA, 0, &pattern(0, 4096, 2)), 0);
    assert_eq!(reader.read(0, 4096), Ok(pattern(0, 4096, 2)));
}

#[test]
fn many_requests_of_many_clients_are_under_way_at_once() {
    let rig = Rig::new();
    let path = rig.path().to_owned();
    std::thread::scope(|scope| {
        for part in 0..4u64 {
            let path = &path;
            scope.spawn(move || {
                let mut client = Client::open(path, "target0");
                let place = |number: u64| (part * 256 + number) * 4096;
                let mut open = Vec::new();
                for number in 0..256 {
                    let data = pattern(place(number), 4096, part);
                    open.push(client.send(0, WRITE, place(number), 4096, &data));
                    if open.len() == 32 {
                        let reply = client.reply().expect("a reply");
                        assert_eq!(reply.error, 0);
                        open.retain(|cookie| *cookie != reply.cookie);
                    }
                }
                for _ in 0..open.len() {
                    let reply = client.reply().expect("a reply");
                    assert_eq!(reply.error, 0);
                    open.retain(|cookie| *cookie != reply.cookie);
                }
                assert!(open.is_empty(), "each is answered once");
                let mut places = std::collections::HashMap::new();
                for number in 0..256 {
                    places.insert(client.send(0, READ, place(number), 4096, &[]), place(number));
                    if number >= 31 {
                        let reply = client.reply().expect("a reply");
                        let place = places.remove(&reply.cookie).expect("asked for");
                        assert_eq!(reply.data, pattern(place, 4096, part));
                    }
                }
                for _ in 0..places.len() {
                    let reply = client.reply().expect("a reply");
                    let place = places.remove(&reply.cookie).expect("asked for");
                    assert_eq!(reply.data, pattern(place, 4096, part));
                }
            });
        }
    });
    let counters = rig.finish();
    assert_eq!((counters.reads, counters.writes, counters.errors), (1024, 1024, 0));
}

#[test]
fn a_request_larger_than_a_buffer_is_answered_as_one() {
    let rig = Rig::new();
    let mut client = Client::open(rig.path(), "target0");
    let most = client.export.block_sizes.expect("sizes")[2] as usize;
    for length in [PIECE + 512, 5 * PIECE - 512, most] {
        let data = pattern(512, length, length as u64);
        assert_eq!(client.write(FUA, 512, &data), 0);
        assert!(client.read(512, length as u32) == Ok(data), "{length} bytes");
    }
    assert_eq!(client.read(0, most as u32 + 512), Err(EINVAL));
    assert_eq!(client.write(0, 0, &vec![1; most + 512]), EINVAL, "and its data is passed over");
    assert_eq!(client.read(512, 512), Ok(pattern(512, 512, most as u64)));
}

#[test]
fn large_and_small_requests_of_two_clients_do_not_starve_each_other() {
    let rig = Rig::new();
    let path = rig.path().to_owned();
    std::thread::scope(|scope| {
        for length in [16 * PIECE as u32, 4096] {
            let path = &path;
            scope.spawn(move || {
                let mut client = Client::open(path, "target0");
                for round in 0..40 {
                    let cookies: Vec<_> =
                        (0..4).map(|_| client.send(0, READ, 0, length, &[])).collect();
                    for _ in cookies {
                        assert_eq!(client.reply().expect("a reply").error, 0, "round {round}");
                    }
                }
            });
        }
    });
}

#[test]
fn ranges_that_are_not_there_are_refused_and_the_session_goes_on() {
    let rig = Rig::new();
    let mut client = Client::open(rig.path(), "target1");
    let size = client.export.size;
    assert_eq!(client.read(size, 4096), Err(EINVAL));
    assert_eq!(client.write(0, size, &[1; 4096]), ENOSPC);
    assert_eq!(client.write(0, u64::MAX - 4095, &[1; 4096]), ENOSPC);
    assert_eq!(client.read(512, 512), Err(EINVAL), "less than a block");
    assert_eq!(client.write(0, 512, &[1; 4096]), EINVAL, "across blocks");
    assert_eq!(client.command(0, 5, 0, 4096), EINVAL, "NBD_CMD_CACHE was not offered");
    assert_eq!(client.command(0, 77, 0, 0), EINVAL);
    assert_eq!(client.command(1 << 9, FLUSH, 0, 0), EINVAL);
    assert_eq!(client.read(size - 4096, 4096).map(|data| data.len()), Ok(4096));
}

#[test]
fn what_a_unit_can_do_is_said_and_done() {
    let rig = Rig::new();
    let mut client = Client::open(rig.path(), "target1");
    let (flags, size) = (client.export.flags, client.export.size);
    assert_eq!(flags & 0b1_0000_1101, 0b1_0000_1101, "flags, flush, FUA, several connections");
    assert_eq!(flags & 2, 0, "it can be written");
    assert_ne!((flags & 1 << 5, flags & 1 << 6), (0, 0), "the model's disks are thin");
    assert_eq!(client.write(0, 0, &pattern(0, 64 << 10, 3)), 0);
    let before = rig.counters().flushes;
    assert_eq!(client.command(FUA, WRITE_ZEROES, 4096, 8192), 0);
    assert_eq!(rig.counters().flushes, before + 1, "FUA of zeroes is a flush");
    assert_eq!(client.read(4096, 8192), Ok(vec![0; 8192]));
    assert_eq!(client.read(0, 4096), Ok(pattern(0, 4096, 3)));
    assert_eq!(client.command(NO_HOLE | FAST_ZERO, WRITE_ZEROES, 16384, 4096), 0);
    assert_eq!(client.read(16384, 4096), Ok(vec![0; 4096]));
    assert_eq!(client.command(0, TRIM, 0, 64 << 10), 0);
    assert_eq!(client.command(FUA, TRIM, 0, size as u32), 0, "more than a read may have");
}

#[test]
fn a_write_protected_unit_is_said_to_be_and_refuses_writes() {
    let rig = Rig::with(MockChip::Sas3008, |mut unit| {
        unit.read_only = true;
        unit
    });
    let mut client = Client::open(rig.path(), "");
    assert_eq!(client.export.flags & 2, 2);
    assert_eq!(client.write(0, 0, &[1; 512]), EPERM);
    assert_eq!(client.command(0, TRIM, 0, 512), EPERM);
    assert_eq!(client.read(0, 512), Ok(vec![0; 512]));
}

#[test]
fn a_client_of_the_first_newstyle_is_served_too() {
    let rig = Rig::new();
    let mut stream = UnixStream::connect(rig.path()).expect("a server");
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).expect("a greeting");
    stream.write_all(b"\0\0\0\0IHAVEOPT\0\0\0\x01\0\0\0\x07target1").expect("to choose");
    let mut export = [0; 134];
    stream.read_exact(&mut export).expect("the export, and zeroes");
    assert_eq!(export[..8], (64_u64 << 20).to_be_bytes());
    assert!(export[10..].iter().all(|byte| *byte == 0));
    stream
        .write_all(b"\x25\x60\x95\x13\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
        .expect("to go");
    assert!(is_closed(&mut stream));
}

#[test]
fn who_leaves_in_the_midst_of_a_write_costs_nobody_anything() {
    let rig = Rig::new();
    for round in 0..20u64 {
        let mut client = Client::open(rig.path(), "target0");
        let kept = pattern(round * 4096, 4096, round);
        assert_eq!(client.write(0, round * 4096, &kept), 0, "acknowledged");
        let place = (1 << 20) + round * (1 << 20);
        // Announces more than it sends, and has a few others under way.
        for part in 0..4 {
            client.send(0, WRITE, place + part * 4096, 4096, &[7; 4096]);
        }
        let sent = (round as usize * 7001) % (4 * PIECE);
        client.send(0, WRITE, place, 4 * PIECE as u32, &vec![9; sent]);
    }
    let mut client = Client::open(rig.path(), "target0");
    for round in 0..20u64 {
        assert_eq!(client.read(round * 4096, 4096), Ok(pattern(round * 4096, 4096, round)));
    }
    assert_eq!(client.write(0, 0, &vec![5; 16 * PIECE]), 0, "every tag is there again");
    assert_eq!(client.read(0, 16 * PIECE as u32), Ok(vec![5; 16 * PIECE]));
}

#[test]
fn requests_that_came_before_a_polite_goodbye_are_answered() {
    let rig = Rig::new();
    let mut client = Client::open(rig.path(), "target0");
    let asked: Vec<_> = (0..20).map(|at| client.send(0, READ, at * 4096, 4096, &[])).collect();
    client.send(0, DISC, 0, 0, &[]);
    let answered = asked.iter().filter(|_| client.reply().is_ok_and(|reply| reply.error == 0));
    assert_eq!(answered.count(), asked.len());
    assert!(is_closed(&mut client.stream));
}

#[test]
fn who_takes_no_answers_does_not_keep_others_waiting() {
    let rig = Rig::new();
    let mut greedy = Client::open(rig.path(), "target0");
    greedy.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a limit");
    let asked = (0..400).take_while(|_| greedy.try_send(0, READ, 0, 1 << 20, &[]).is_ok()).count();
    assert!(asked > 10);
    let mut other = Client::open(rig.path(), "target0");
    let begun = Instant::now();
    for round in 0..50 {
        assert_eq!(other.write(0, 4096 * round, &[3; 4096]), 0);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn there_is_an_end_to_the_number_of_clients() {
    let rig = Rig::new();
    let mut clients: Vec<_> =
        (0..MOST_CONNECTIONS).map(|_| Client::open(rig.path(), "target0")).collect();
    let mut one_more = UnixStream::connect(rig.path()).expect("a server");
    assert!(is_closed(&mut one_more));
    assert_eq!(clients[7].read(0, 512).map(|data| data.len()), Ok(512));
    let (ours, kernels) = UnixStream::pair().expect("a pair");
    let adopted = rig.inside(move |inside| inside.server.adopt(DeviceIndex(0), ours.into()));
    assert_eq!(adopted, Ok(()), "others do not keep the kernel out");
    drop(kernels);
    clients.clear();
    let begun = Instant::now();
    while rig.inside(|inside| inside.server.clients()) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    Client::open(rig.path(), "target1");
}

#[test]
fn a_unit_that_goes_ends_in_errors_and_leaves_the_other_alone() {
    let rig = Rig::new();
    let mut client = Client::open(rig.path(), "target0");
    let mut other = Client::open(rig.path(), "target1");
    assert_eq!(client.write(0, 0, &[1; 4096]), 0);
    rig.inside(|inside| {
        inside.engine.end_device(DeviceIndex(0));
        inside.server.end_unit(DeviceIndex(0));
    });
    let ended = match client.try_send(0, READ, 0, 4096, &[]).and_then(|_| client.reply()) {
        Ok(reply) => reply.error,
        Err(_) => EIO,
    };
    assert_eq!(ended, EIO);
    assert!(is_closed(&mut client.stream));
    let begun = Instant::now();
    while !rig.inside(|inside| inside.server.remove_unit(DeviceIndex(0))) {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert!(rig.inside(|inside| inside.engine.detach(DeviceIndex(0)).is_some()));
    assert_eq!(other.write(0, 0, &[1; 4096]), 0);
    let mut late = Client::connect(rig.path());
    assert_eq!(late.go("target0"), Err(0x8000_0006));
    assert_eq!(late.go(""), Ok(()), "the default is the first that is there");
}

#[test]
fn a_unit_that_grows_is_larger_for_those_who_ask() {
    let rig = Rig::new();
    let mut client = Client::open(rig.path(), "target0");
    let size = client.export.size;
    assert_eq!(client.read(size, 512), Err(EINVAL));
    rig.inside(|inside| {
        let device = DeviceIndex(0);
        let mut unit = (**inside.engine.unit(device).expect("a unit")).clone();
        unit.blocks *= 2;
        inside.engine.set_unit(device, Arc::new(unit));
        inside.server.unit_changed(inside.engine, device);
    });
    assert_eq!(Client::open(rig.path(), "target0").export.size, 2 * size);
}

#[test]
fn a_server_that_shuts_down_answers_what_it_has_and_refuses_the_rest() {
    let rig = Rig::new();
    let mut client = Client::open(rig.path(), "target0");
    let mut haggling = Client::connect(rig.path());
    assert_eq!(client.write(0, 0, &[1; 4096]), 0);
    rig.inside(|inside| inside.server.shut_down());
    assert_eq!(client.read(0, 4096), Err(ESHUTDOWN));
    assert_eq!(haggling.go("target0"), Err(0x8000_0007), "NBD_REP_ERR_SHUTDOWN");
    assert!(UnixStream::connect(rig.path()).is_err() && !rig.path().exists());
    let begun = Instant::now();
    while !rig.inside(|inside| inside.server.is_quiet()) {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn the_loopback_interface_serves_as_well() {
    let (_rig, address) = Rig::on_loopback();
    let mut client = Client::over(TcpStream::connect(address).expect("a server"));
    client.go("target0").expect("an export");
    let data = pattern(0, 300 << 10, 4);
    assert_eq!(client.write(0, 0, &data), 0);
    assert!(client.read(0, 300 << 10) == Ok(data));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_client_sends_others_are_served(
        stage in 0usize..4,
        requests in proptest::collection::vec(
            (any::<u16>(), 0u16..9, any::<u64>(), any::<u32>()), 0..8),
        noise in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        thread_local! {
            static RIG: Rig = Rig::new();
        }
        RIG.with(|rig| {
            let mut hostile = UnixStream::connect(rig.path()).expect("a server");
            let mut bytes: Vec<u8> = Vec::new();
            if stage > 0 {
                bytes.extend([0, 0, 0, 3]);
            }
            if stage > 1 {
                bytes.extend(b"IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0");
                for (flags, command, offset, length) in &requests {
                    bytes.extend([0x25, 0x60, 0x95, 0x13]);
                    bytes.extend(flags.to_be_bytes());
                    bytes.extend(command.to_be_bytes());
                    bytes.extend([1; 8]);
                    let spread = if stage > 2 { 0x3f_fe00 } else { u64::MAX };
                    bytes.extend((offset & spread).to_be_bytes());
                    bytes.extend((length & spread as u32).to_be_bytes());
                }
            }
            bytes.extend(&noise);
            // The server may close before it has taken everything.
            let _ = hostile.write_all(&bytes);
            let mut client = Client::open(rig.path(), "target1");
            assert_eq!(client.write(0, 4096, &[1; 4096]), 0);
            assert_eq!(client.read(4096, 4096), Ok(vec![1; 4096]));
        });
    }
}
