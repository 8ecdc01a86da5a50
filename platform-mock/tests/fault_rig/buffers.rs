//! Data buffers that notice who writes them after they were given back.

use std::collections::VecDeque;

use fusion_mpt::platform::DmaRegion;
use fusion_mpt::sgl::Segment;
use fusion_mpt_mock::bus::Bus;
use fusion_mpt_mock::in_process::{MockBus, MockDma};

use super::content::BLOCK;

/// Blocks of a buffer.
pub const BLOCKS: u32 = 4;
/// Bytes of a buffer.
pub const BYTES: usize = BLOCKS as usize * BLOCK;
/// What fills a buffer that nobody may write.
const CANARY: u8 = 0xca;
/// What fills a buffer that a read is to fill.
const UNREAD: u8 = 0xee;

/// Buffers, the one that has been free for longest given out first, so that a late write of the
/// device has the most time to be seen.
#[derive(Debug)]
pub struct Buffers {
    memory: MockDma,
    free: VecDeque<usize>,
}

impl Buffers {
    pub fn new(bus: &MockBus, count: usize) -> Self {
        let memory = bus.allocate(count * BYTES, 4096).expect("room for data buffers");
        memory.write(0, &vec![CANARY; count * BYTES]);
        Self { memory, free: (0..count).collect() }
    }

    /// A buffer for a read, or one with the data of a write.
    #[track_caller]
    pub fn take(&mut self, data: Option<&[u8]>) -> usize {
        let index = self.free.pop_front().expect("more buffers than commands");
        self.assert_untouched(index);
        self.memory.write(index * BYTES, data.unwrap_or(&[UNREAD; BYTES]));
        index
    }

    /// The command is not going to be: the buffer is as free as before.
    pub fn put_back(&mut self, index: usize) {
        self.memory.write(index * BYTES, &[CANARY; BYTES]);
        self.free.push_front(index);
    }

    /// Takes the data out of a buffer whose command has ended; nobody may write it from now on.
    pub fn retire(&mut self, index: usize, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        self.memory.read(index * BYTES, &mut data);
        self.memory.write(index * BYTES, &[CANARY; BYTES]);
        self.free.push_back(index);
        data
    }

    pub fn segment(&self, index: usize, bytes: usize) -> Segment {
        Segment { address: self.memory.bus().offset((index * BYTES) as u64), length: bytes as u32 }
    }

    /// Nobody has written a buffer that is free.
    #[track_caller]
    pub fn assert_all_untouched(&self) {
        for index in &self.free {
            self.assert_untouched(*index);
        }
    }

    #[track_caller]
    fn assert_untouched(&self, index: usize) {
        let mut bytes = [0; BYTES];
        self.memory.read(index * BYTES, &mut bytes);
        let changed = bytes.iter().position(|byte| *byte != CANARY);
        assert!(
            changed.is_none(),
            "the controller wrote byte {changed:?} of buffer {index} after its command had ended"
        );
    }
}
