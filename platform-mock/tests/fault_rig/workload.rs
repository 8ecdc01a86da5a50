//! Writes and flushes on two disks, that stop after as many steps of the firmware as a test says.

use fusion_mpt::generation::Generation;
use fusion_mpt_mock::faults::Random;
use fusion_mpt_mock::model::Chip;
use fusion_mpt_mock::target::status;

use super::content::WRITTEN;
use super::{Ask, End, Platform};

pub const DISKS: u16 = 2;
const ROUNDS: u64 = 8;
/// Commands that are out at once, at most.
pub const COMMANDS: u16 = 16;

/// What is done about flushing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushing {
    /// SYNCHRONIZE CACHE goes to the disk, which carries it out.
    Honest,
    /// A platform that says it has flushed and has not.
    LeftOut,
    /// A disk that says it has flushed and has not.
    Lied,
}

/// A workload that ends after so many steps of the firmware.
pub struct Run<G: Generation> {
    pub platform: Platform<G>,
    steps: usize,
    flushing: Flushing,
}

impl<G: Generation> Run<G> {
    pub fn new(chip: Chip, steps: usize, flushing: Flushing) -> Self {
        let mut platform = Platform::<G>::new(chip, DISKS, COMMANDS);
        (0..DISKS).for_each(|target| platform.clear_attention(target));
        platform.books.ended.clear();
        Self { platform, steps, flushing }
    }

    fn submit(&mut self, target: u16, ask: Ask) {
        self.platform.submit(target, ask).expect("accepted");
    }

    /// Waits for everything that is out; `None` if the power goes before.
    fn wait(&mut self) -> Option<()> {
        while !self.platform.books.out.is_empty() {
            self.steps = self.steps.checked_sub(1)?;
            let stepped = self.platform.bus.step(1);
            let polled = self.platform.poll();
            assert!(stepped > 0 || polled > 0, "the workload stands still");
        }
        for ended in self.platform.books.ended.drain(..) {
            assert_eq!(ended.end, End::Good, "{:?} of disk {}", ended.ask, ended.target);
        }
        Some(())
    }

    fn flush(&mut self, target: u16) {
        match self.flushing {
            Flushing::Honest => self.submit(target, Ask::Flush),
            Flushing::LeftOut => {
                let shadow = &mut self.platform.books.shadow;
                let promise = shadow.begin_flush(target);
                shadow.end_flush(&promise);
            }
            Flushing::Lied => {
                self.platform.bus.with_model(|model| {
                    let disk = &mut model.device(target as u8).expect("a disk").target;
                    disk.set_status(status::GOOD, 1);
                });
                self.submit(target, Ask::Flush);
            }
        }
    }

    /// Writes and flushes on two disks; `None` if the power went in between.
    pub fn workload(&mut self, chance: &mut Random) -> Option<()> {
        for round in 0..ROUNDS {
            // Blocks of their own within a round, and written again in later ones.
            for place in 0..4 {
                let lba = WRITTEN.start + place * 8 + chance.below(4);
                let blocks = 1 + chance.below(4) as u32;
                self.submit((place % 2) as u16, Ask::Write { lba, blocks });
            }
            self.wait()?;
            self.flush(0);
            // Not covered by that flush, and under way together with it.
            let beside = WRITTEN.start + 64 + round * 4;
            self.submit(0, Ask::Write { lba: beside, blocks: 2 });
            self.submit(1, Ask::Write { lba: beside, blocks: 2 });
            self.wait()?;
            if round % 3 == 2 {
                self.flush(1);
                self.wait()?;
            }
        }
        Some(())
    }
}

/// Reads every block that was written through a new driver; its books compare.
#[track_caller]
pub fn read_back<G: Generation>(platform: &mut Platform<G>) {
    (0..DISKS).for_each(|target| platform.clear_attention(target));
    platform.books.ended.clear();
    for (target, lba) in platform.books.shadow.written() {
        if platform.books.out.len() == usize::from(COMMANDS) {
            platform.settle();
        }
        platform.submit(target, Ask::Read { lba, blocks: 1 }).expect("accepted");
    }
    platform.settle();
    platform.books.assert_nothing_out();
    assert!(platform.books.ended.iter().all(|ended| ended.end == End::Good));
}
