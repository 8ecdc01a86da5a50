//! What an initiator may rely on: flushed and FUA data survives any power cut, and any other block
//! is afterwards either as it was or as it was last written.

use proptest::prelude::*;

use super::*;

const BLOCKS: u64 = 40;

#[derive(Debug, Clone)]
enum Step {
    Write { lba: u64, blocks: u64, fill: u8, fua: bool },
    WriteSame { lba: u64, blocks: u64, fill: u8, unmap: bool },
    Unmap { lba: u64, blocks: u64 },
    Flush,
    Stop,
    WriteCache(bool),
    PowerCut(u64),
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    (0..BLOCKS, 1..12_u64).prop_map(|(lba, blocks)| (lba, blocks.min(BLOCKS - lba)))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (range(), 1..=255_u8, prop::bool::weighted(0.2))
            .prop_map(|((lba, blocks), fill, fua)| Step::Write { lba, blocks, fill, fua }),
        2 => (range(), 0..3_u8, any::<bool>())
            .prop_map(|((lba, blocks), fill, unmap)| Step::WriteSame { lba, blocks, fill, unmap }),
        2 => range().prop_map(|(lba, blocks)| Step::Unmap { lba, blocks }),
        1 => Just(Step::Flush),
        1 => Just(Step::Stop),
        1 => any::<bool>().prop_map(Step::WriteCache),
        2 => any::<u64>().prop_map(Step::PowerCut),
    ]
}

/// One byte stands for each block.
struct Reference {
    current: Vec<u8>,
    stable: Vec<u8>,
    cached: bool,
}

impl Reference {
    fn write(&mut self, lba: u64, blocks: u64, fill: u8, through: bool) {
        let range = lba as usize..(lba + blocks) as usize;
        self.current[range.clone()].fill(fill);
        if through || !self.cached {
            self.stable[range].fill(fill);
        }
    }
}

fn ten(opcode: u8, flags: u8, lba: u64, blocks: u64) -> [u8; 10] {
    [opcode, flags, 0, 0, 0, lba as u8, 0, 0, blocks as u8, 0]
}

fn run(mut target: Target, steps: &[Step]) {
    let block = target.config().block_size as usize;
    let empty = vec![0; BLOCKS as usize];
    let mut reference = Reference { current: empty.clone(), stable: empty, cached: true };
    for step in steps {
        let response = match *step {
            Step::Write { lba, blocks, fill, fua } => {
                reference.write(lba, blocks, fill, fua);
                let data = vec![fill; blocks as usize * block];
                let flags = u8::from(fua) << 3;
                give(&mut target, &ten(0x2A, flags, lba, blocks), &data)
            }
            Step::WriteSame { lba, blocks, fill, unmap } => {
                reference.write(lba, blocks, fill, false);
                let flags = u8::from(unmap) << 3;
                give(&mut target, &ten(0x41, flags, lba, blocks), &vec![fill; block])
            }
            Step::Unmap { lba, blocks } => {
                reference.write(lba, blocks, 0, false);
                let mut list = [0; 24];
                (list[1], list[3]) = (22, 16);
                (list[15], list[19]) = (lba as u8, blocks as u8);
                give(&mut target, &ten(0x42, 0, 0, 24), &list)
            }
            Step::Flush => {
                reference.stable = reference.current.clone();
                none(&mut target, &ten(0x35, 0, 0, 0))
            }
            Step::Stop => {
                reference.stable = reference.current.clone();
                assert_good(none(&mut target, &[0x1B, 0, 0, 0, 0, 0]), 0);
                none(&mut target, &[0x1B, 0, 0, 0, 1, 0])
            }
            Step::WriteCache(on) => {
                if !on {
                    reference.stable = reference.current.clone();
                }
                reference.cached = on;
                let mut list = [0; 24];
                (list[4], list[5], list[6]) = (0x08, 0x12, u8::from(on) << 2);
                // Saved, as a power cut would otherwise restore what was.
                give(&mut target, &[0x15, 0x11, 0, 0, 24, 0], &list)
            }
            Step::PowerCut(seed) => {
                let survives = |lba: u64| seed >> (lba % 64) & 1 == 1;
                target.power_cut(&mut |offset| survives(offset / block as u64)).unwrap();
                for lba in 0..BLOCKS as usize {
                    if survives(lba as u64) {
                        reference.stable[lba] = reference.current[lba];
                    }
                }
                reference.current = reference.stable.clone();
                assert_sense(none(&mut target, &[0; 6]), 0x06, 0x29, 0x00);
                none(&mut target, &[0; 6])
            }
        };
        assert_eq!(response.status, status::GOOD, "{step:?}: {response:?}");
        let room = BLOCKS as usize * block;
        let data = receive(&mut target, &ten(0x28, 0, 0, BLOCKS), room);
        for (lba, bytes) in data.chunks(block).enumerate() {
            let expected = reference.current[lba];
            assert!(
                bytes.iter().all(|byte| *byte == expected),
                "LBA {lba} after {step:?} is {:#x}, not {expected:#x}",
                bytes[0]
            );
        }
    }
}

fn config_of(four_k: bool) -> TargetConfig {
    TargetConfig { block_size: if four_k { 4096 } else { 512 }, ..config() }
}

proptest! {
    #[test]
    fn a_memory_disk_keeps_and_loses_what_it_may(
        steps in prop::collection::vec(step(), 1..40), four_k in any::<bool>()
    ) {
        let config = config_of(four_k);
        let disk = Disk::memory(BLOCKS * u64::from(config.block_size) + 100);
        run(Target::new(config, disk), &steps);
    }

    #[test]
    fn a_file_disk_keeps_and_loses_what_it_may(
        steps in prop::collection::vec(step(), 1..15), four_k in any::<bool>()
    ) {
        let config = config_of(four_k);
        let folder = tempfile::tempdir().unwrap();
        let bytes = BLOCKS * u64::from(config.block_size) + 100;
        let disk = Disk::create(&folder.path().join("disk"), bytes).unwrap();
        run(Target::new(config, disk), &steps);
    }
}
