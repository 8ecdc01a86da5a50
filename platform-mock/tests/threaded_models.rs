//! Controllers with a thread of their own: data under load, and several queues.

mod driver;

use std::time::{Duration, Instant};

use driver::{BLOCK, Rig, command, stream};
use fusion_mpt::generation::{Generation, Mpi1, Mpi2};
use fusion_mpt::memory_plan::Wants;
use fusion_mpt::platform::DmaRegion;
use fusion_mpt::scsi::Cdb;
use fusion_mpt::sgl::Segment;
use fusion_mpt::targets::TargetId;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::in_process::Options;
use fusion_mpt_mock::model::{Chip, disks};

fn load<G: Generation>(chip: Chip) {
    let mut rig = Rig::<G>::new(Options::threaded(chip, disks(1, 16 << 20)));
    rig.clear_attention(TargetId(0));
    const DEPTH: usize = 64;
    let dma = rig.bus.allocate(DEPTH * BLOCK, 4096).expect("room");
    let bytes: Vec<u8> = (0..DEPTH * BLOCK).map(|n| (n / 3 + n / 4096) as u8).collect();
    dma.write(0, &bytes);
    stream(&mut rig, DEPTH as u64, DEPTH as u64, false, &dma);
    dma.write(0, &vec![0; bytes.len()]);
    stream(&mut rig, 2000, DEPTH as u64, true, &dma);
    let mut seen = vec![0; bytes.len()];
    dma.read(0, &mut seen);
    assert!(seen == bytes, "what was read is not what was written");
    assert_eq!(rig.complaints(), [""; 0]);
    assert_eq!(rig.driver.counters().lies(), 0);
}

#[test]
fn an_mpi1_controller_bears_load() {
    load::<Mpi1>(Chip::SAS1068);
}

#[test]
fn mpi2_controllers_bear_load() {
    for chip in [Chip::SAS2008, Chip::SAS3008, Chip::SAS3816] {
        load::<Mpi2>(chip);
    }
}

#[test]
fn queues_in_threads_of_their_own_share_a_controller() {
    let wants = Wants { queues: 3, commands: 96, ..Wants::default() };
    let options = Options::threaded(Chip::SAS3816, disks(1, 16 << 20));
    let mut rig = Rig::<Mpi2>::with(options, &wants);
    rig.clear_attention(TargetId(0));
    let device = rig.driver.device(TargetId(0)).expect("present");
    let queues: Vec<_> = std::iter::from_fn(|| rig.driver.take_queue()).collect();
    assert_eq!(queues.len(), 2);
    let threads: Vec<_> = queues
        .into_iter()
        .map(|mut queue| {
            let dma = rig.bus.allocate(BLOCK, 4096).expect("room");
            std::thread::spawn(move || {
                let segment = [Segment { address: dma.bus(), length: BLOCK as u32 }];
                let mut done = 0u64;
                let started = Instant::now();
                for cookie in 0..500 {
                    let cdb = Cdb::read(cookie, 8);
                    queue.submit(device, &command(&cdb, &segment, true, cookie)).expect("room");
                    while done <= cookie {
                        queue.poll(|completion| {
                            assert_eq!(completion.cookie, cookie);
                            assert!(completion.outcome.is_good());
                            done += 1;
                        });
                        assert!(started.elapsed() < Duration::from_secs(60), "stuck");
                        std::thread::yield_now();
                    }
                }
                done
            })
        })
        .collect();
    let done: u64 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    assert_eq!(done, 1000);
    assert_eq!(rig.complaints(), [""; 0]);
}
