//! Registers that read as what they are not.

use crate::model::Model;
use crate::model::tap::{Request, ResetPhase};

use super::{Decorator, Hand};

const DOORBELL: u32 = 0x00;
const DIAGNOSTIC: u32 = 0x08;
const INTERRUPT_STATUS: u32 = 0x30;
/// `MPI2_DOORBELL_USED`, `MPI_DOORBELL_ACTIVE`.
const DOORBELL_USED: u32 = 1 << 27;
/// `MPI2_HIS_SYS2IOC_DB_STATUS`: the last word has not been taken.
const SYSTEM_TO_IOC: u32 = 1 << 31;

/// `spurious-zero`, `zero-reads-burst`.
#[derive(Debug)]
pub(super) struct Zero {
    /// Reads of a burst.
    reads: u32,
    /// Those that are left of this one.
    left: u32,
}

impl Zero {
    pub(super) fn new(reads: u32) -> Self {
        Self { reads: reads.max(1), left: 0 }
    }
}

impl Decorator for Zero {
    fn read(&mut self, offset: u32, value: u32, hand: &mut Hand<'_>) -> u32 {
        if !matches!(offset, DOORBELL | DIAGNOSTIC | INTERRUPT_STATUS) {
            return value;
        }
        if self.left == 0 && hand.fires() {
            self.left = self.reads;
            hand.note(format!(
                "register {offset:#x}, which holds {value:#010x}, read as zero, the first of {} such reads",
                self.reads
            ));
        }
        if self.left == 0 {
            return value;
        }
        self.left -= 1;
        0
    }
}

/// `all-ones`.
#[derive(Debug)]
pub(super) struct AllOnes;

impl Decorator for AllOnes {
    fn moment(&mut self, hand: &mut Hand<'_>) {
        if !hand.model.is_yanked() && hand.fires() {
            hand.model.all_ones(true);
            hand.note("the card was yanked");
        }
    }
}

/// `all-ones-for-a-while`.
#[derive(Debug)]
pub(super) struct Away {
    ms: u32,
    /// When it is back.
    until: Option<u64>,
}

impl Away {
    pub(super) fn new(ms: u32) -> Self {
        Self { ms, until: None }
    }
}

impl Decorator for Away {
    fn moment(&mut self, hand: &mut Hand<'_>) {
        if self.until.is_some_and(|until| hand.now() >= until) {
            self.until = None;
            hand.note("the card can be reached again");
        }
        if self.until.is_none() && hand.fires() {
            self.until = Some(hand.now().saturating_add(u64::from(self.ms) * 1_000_000));
            hand.note(format!("the card cannot be reached for {} ms", self.ms));
        }
    }

    fn read(&mut self, _offset: u32, value: u32, _hand: &mut Hand<'_>) -> u32 {
        if self.until.is_some() { u32::MAX } else { value }
    }

    fn write(&mut self, _offset: u32, _value: u64, _hand: &mut Hand<'_>) -> bool {
        self.until.is_none()
    }

    fn hides_interrupt(&self) -> bool {
        self.until.is_some()
    }
}

/// `stuck-doorbell`.
#[derive(Debug, Default)]
pub(super) struct StuckDoorbell {
    stuck: bool,
}

/// Whether an IOC whose firmware is not to be believed in is on its way through a diagnostic reset.
fn in_adapter_reset(model: &Model) -> bool {
    model.reset_phase() == ResetPhase::Adapter
}

impl Decorator for StuckDoorbell {
    fn moment(&mut self, hand: &mut Hand<'_>) {
        if !self.stuck && !in_adapter_reset(hand.model) && hand.fires() {
            self.stuck = true;
            hand.note("the doorbell is stuck from now on");
        }
    }

    fn read(&mut self, offset: u32, value: u32, hand: &mut Hand<'_>) -> u32 {
        if self.stuck && in_adapter_reset(hand.model) {
            self.stuck = false;
            hand.note("a diagnostic reset has freed the doorbell");
        }
        match offset {
            DOORBELL if self.stuck => value | DOORBELL_USED,
            INTERRUPT_STATUS if self.stuck => value | SYSTEM_TO_IOC,
            _ => value,
        }
    }

    fn write(&mut self, offset: u32, _value: u64, _hand: &mut Hand<'_>) -> bool {
        !self.stuck || offset != DOORBELL
    }

    fn was_reset(&mut self, _unanswered: &[Request], hand: &mut Hand<'_>) {
        // A write of the diagnostic register is followed by no read for a while.
        if self.stuck && in_adapter_reset(hand.model) {
            self.stuck = false;
            hand.note("a diagnostic reset has freed the doorbell");
        }
    }
}

/// `wrong-endianness`.
#[derive(Debug)]
pub(super) struct Swapped;

impl Decorator for Swapped {
    fn read(&mut self, offset: u32, value: u32, hand: &mut Hand<'_>) -> u32 {
        // Of all zeros or ones nobody could tell.
        if value.swap_bytes() == value || !hand.fires() {
            return value;
        }
        let swapped = value.swap_bytes();
        hand.note(format!("register {offset:#x} read as {swapped:#010x} for {value:#010x}"));
        swapped
    }
}
