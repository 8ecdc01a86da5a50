//! A controller that is honest until it lies: one of the software controllers, with a liar between
//! it and its driver.

use std::cell::{Cell, RefCell};

use embedded_hal::delay::DelayNs;
use fusion_mpt::platform::Registers;
use fusion_mpt_mock::memory::{DeviceMemory, DmaFault};
use fusion_mpt_mock::model::{Ioc, Model};

use crate::input::Input;
use crate::lies::{Lie, Lies, Occasion, Twist};
use crate::memory::HostMemory;

/// Pieces of the firmware's work that are done at a time, at most.
const STEPS: usize = 64;
/// Register accesses that a driver may still make, in one call, of a card that is not there any
/// more, until it looks at a status register: for a second at most it may poll a reply FIFO, whose
/// all ones say no more than that it is empty. After the look there may be none.
const LATE_ACCESSES: u32 = 5_000;
/// Times that it may still wait: for that second, for its own queues.
const LATE_WAITS: u32 = 20_000;

/// The card in its slot.
#[derive(Debug)]
pub struct Card<'i> {
    input: &'i Input<'i>,
    /// The controller's memory.
    pub memory: HostMemory,
    model: RefCell<Model>,
    lies: RefCell<Lies>,
    clock_ns: Cell<u64>,
    /// Register accesses and waits until the card is pulled.
    patience: Cell<u32>,
    /// Register accesses since it was, in this call, and waits.
    late: Cell<(u32, u32)>,
    /// The driver has read all ones where they mean that the card is not there.
    noticed: Cell<bool>,
    /// A queue of its own is called, which learns of that only when it is polled.
    by_queue: Cell<bool>,
    /// Register reads that give arbitrary words.
    babble: Cell<u16>,
    hung: Cell<bool>,
    /// The firmware works at each register access, not only while the driver waits.
    eager: bool,
}

impl<'i> Card<'i> {
    /// A card that is pulled after `patience` register accesses and waits.
    #[must_use]
    pub fn new(model: Model, input: &'i Input<'i>, patience: u32, eager: bool) -> Self {
        Self {
            input,
            memory: HostMemory::default(),
            model: RefCell::new(model),
            lies: RefCell::default(),
            clock_ns: Cell::new(0),
            patience: Cell::new(patience),
            late: Cell::new((0, 0)),
            noticed: Cell::new(false),
            by_queue: Cell::new(false),
            babble: Cell::new(0),
            hung: Cell::new(false),
            eager,
        }
    }

    /// Adds a lie.
    pub fn lie(&self, lie: Lie) {
        self.lies.borrow_mut().add(lie);
    }

    /// Tells the truth from now on, and works again.
    pub fn repent(&self) {
        self.lies.borrow_mut().clear();
        self.babble.set(0);
        self.hung.set(false);
    }

    /// Whether it was pulled.
    #[must_use]
    pub fn is_pulled(&self) -> bool {
        self.patience.get() == 0
    }

    /// Pulls it.
    pub fn pull(&self) {
        self.patience.set(0);
    }

    /// A driver that knows nothing of the card takes it over.
    pub fn new_hold(&self) {
        self.noticed.set(false);
    }

    /// The driver is called anew, or a queue of its own if `by_queue`.
    pub fn new_call(&self, by_queue: bool) {
        self.by_queue.set(by_queue);
        self.late.set((0, 0));
    }

    /// Milliseconds since the beginning.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.clock_ns.get() / 1_000_000
    }

    /// Lets time pass.
    pub fn pass(&self, ms: u32) {
        self.clock_ns.set(self.clock_ns.get() + u64::from(ms) * 1_000_000);
        self.work(STEPS);
    }

    /// Calls `work` with the controller.
    pub fn with_model<T>(&self, work: impl FnOnce(&mut Model) -> T) -> T {
        work(&mut self.model.borrow_mut())
    }

    /// Lets the firmware do at most `steps` pieces of its work.
    pub fn work(&self, steps: usize) {
        if self.hung.get() || self.is_pulled() {
            return;
        }
        let mut model = self.model.borrow_mut();
        for _ in 0..steps {
            if !model.step(&Wire(self), self.clock_ns.get()) {
                break;
            }
        }
    }

    /// Counts a register access or a wait; whether the card is still there.
    fn is_there(&self, is_wait: bool) -> bool {
        if self.is_pulled() {
            let (accesses, waits) = self.late.get();
            let late = (accesses + u32::from(!is_wait), waits + u32::from(is_wait));
            assert!(late.0 < LATE_ACCESSES, "the driver goes on with a card that is not there");
            assert!(late.1 < LATE_WAITS, "the driver waits for a card that is not there");
            self.late.set(late);
            return false;
        }
        self.patience.set(self.patience.get() - 1);
        !self.is_pulled()
    }

    /// The lie to be told on this occasion; what it does besides is done here.
    fn lie_on(&self, occasion: Occasion) -> Option<Lie> {
        let lie = self.lies.borrow_mut().on(occasion)?;
        match lie.twist {
            Twist::Scribble => {
                let at = u32::from(lie.offset) * 8;
                self.memory.scribble(at, &lie.word.to_le_bytes());
            }
            Twist::Babble => self.babble.set(lie.offset),
            Twist::Hang => self.hung.set(true),
            _ => {}
        }
        Some(lie)
    }

    fn read(&self, offset: u16) -> u32 {
        assert!(!self.noticed.get(), "a register is read of a card that is known to be gone");
        let word = self.read_word(offset);
        if word == u32::MAX && matches!(offset, 0x00 | 0x08 | 0x30) {
            self.noticed.set(true);
        }
        word
    }

    fn read_word(&self, offset: u16) -> u32 {
        if !self.is_there(false) {
            return u32::MAX;
        }
        if self.babble.get() > 0 {
            self.babble.set(self.babble.get() - 1);
            return self.input.u32();
        }
        let truth = self.model.borrow_mut().read32(offset.into());
        if self.eager {
            self.work(STEPS);
        }
        let occasion = match offset {
            0x00 => Some(Occasion::Doorbell),
            0x08 => Some(Occasion::Diagnostic),
            0x30 => Some(Occasion::InterruptStatus),
            0x44 => Some(Occasion::ReplyFifo),
            _ => None,
        };
        let general = self.lie_on(Occasion::Read);
        let lie = occasion.and_then(|occasion| self.lie_on(occasion)).or(general);
        lie.map_or(truth, |lie| lie.on_word(truth))
    }

    fn write(&self, apply: impl Fn(&mut Model)) {
        let allowed = !self.noticed.get() || self.by_queue.get();
        assert!(allowed, "a register is written of a card that is known to be gone");
        if !self.is_there(false) {
            return;
        }
        let lie = self.lie_on(Occasion::Write);
        let times = match lie.map(|lie| lie.twist) {
            Some(Twist::Lose) => 0,
            Some(Twist::Double) => 2,
            _ => 1,
        };
        for _ in 0..times {
            apply(&mut self.model.borrow_mut());
        }
        if self.eager {
            self.work(STEPS);
        }
    }
}

/// The driver's side of the card.
#[derive(Debug, Clone, Copy)]
pub struct Window<'c>(pub &'c Card<'c>);

impl Registers for Window<'_> {
    fn read32(&self, offset: u16) -> u32 {
        self.0.read(offset)
    }

    fn write32(&self, offset: u16, value: u32) {
        self.0.write(|model| model.write32(offset.into(), value));
    }

    fn write64(&self, offset: u16, value: u64) {
        self.0.write(|model| model.write64(offset.into(), value));
    }

    fn cut_off(&self) {
        self.0.memory.cut_off();
    }
}

/// Time that passes only while the driver waits.
#[derive(Debug, Clone, Copy)]
pub struct Wait<'c>(pub &'c Card<'c>);

impl DelayNs for Wait<'_> {
    fn delay_ns(&mut self, ns: u32) {
        let card = self.0;
        card.clock_ns.set(card.clock_ns.get() + u64::from(ns));
        if card.is_there(true) {
            card.lie_on(Occasion::Wait);
            card.work(STEPS);
        }
    }

    fn delay_us(&mut self, us: u32) {
        let card = self.0;
        card.clock_ns.set(card.clock_ns.get() + u64::from(us) * 1_000);
        self.delay_ns(0);
    }

    fn delay_ms(&mut self, ms: u32) {
        let card = self.0;
        card.clock_ns.set(card.clock_ns.get() + u64::from(ms) * 1_000_000);
        self.delay_ns(0);
    }
}

/// The device's side: what it writes passes the liar.
struct Wire<'c>(&'c Card<'c>);

impl DeviceMemory for Wire<'_> {
    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), DmaFault> {
        self.0.memory.read(at, bytes)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        let occasion =
            if bytes.len() > 128 { Occasion::LongTransfer } else { Occasion::ShortTransfer };
        self.transfer(occasion, at, bytes)
    }

    fn publish(&self, at: u64, value: u64) -> Result<(), DmaFault> {
        self.transfer(Occasion::Descriptor, at, &value.to_le_bytes())
    }
}

impl Wire<'_> {
    fn transfer(&self, occasion: Occasion, at: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        let memory = &self.0.memory;
        let Some(lie) = self.0.lie_on(occasion) else { return memory.write(at, bytes) };
        let mut twisted = bytes.to_vec();
        lie.on_bytes(&mut twisted);
        // Where there is no room for more than the truth, that much of it is written.
        memory.write(at, &twisted).or_else(|_| memory.write(at, bytes))
    }
}
