//! Every interleaving of queues that post by two writes each.

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::sync::model::Unguarded;

/// A chip that keeps the low half until the high half comes.
#[derive(Default)]
struct Chip {
    low: Unguarded,
    /// The sum of what was posted.
    posted: Unguarded,
}

impl Registers for Arc<Chip> {
    fn read32(&self, _offset: u16) -> u32 {
        0
    }

    fn write32(&self, offset: u16, value: u32) {
        match offset {
            0xc0 => self.low.set(value),
            0xc4 => {
                assert_eq!(self.low.get(), !value, "half of another queue's descriptor");
                self.posted.set(self.posted.get() + value);
            }
            other => panic!("no register for posting: {other:#x}"),
        }
    }
}

#[test]
fn loom_halves_of_two_queues_descriptors_never_meet() {
    loom::model(|| {
        let chip = Arc::new(Chip::default());
        let post = |chip: Arc<Chip>, high: u32| {
            split(&Bus::new(chip), u64::from(high) << 32 | u64::from(!high));
        };
        let queue = {
            let chip = chip.clone();
            thread::spawn(move || post(chip, 1))
        };
        post(chip.clone(), 2);
        queue.join().expect("the queue");
        assert_eq!(chip.posted.get(), 3, "both are posted");
    });
}
