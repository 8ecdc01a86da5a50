//! What a hostile controller does instead of the truth, and when.
//!
//! A lie is told at the first, or at some later, occasion of its kind. With none it is an honest
//! controller, so an input reaches as deep into the driver as it likes before it lies.

use crate::input::Input;

/// What a lie waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The driver reads the doorbell: states, and the half-words of the handshake's replies.
    Doorbell,
    /// It reads the diagnostic register.
    Diagnostic,
    /// It reads the interrupt status register.
    InterruptStatus,
    /// It reads the reply FIFO (MPI1).
    ReplyFifo,
    /// It reads any register.
    Read,
    /// It writes any register.
    Write,
    /// The device publishes a reply descriptor (MPI2).
    Descriptor,
    /// The device writes at most 128 bytes: a reply frame, sense data.
    ShortTransfer,
    /// The device writes more: a configuration page, a command's data.
    LongTransfer,
    /// The driver waits.
    Wait,
}

impl Occasion {
    const ALL: [Self; 10] = [
        Self::Doorbell,
        Self::Diagnostic,
        Self::InterruptStatus,
        Self::ReplyFifo,
        Self::Read,
        Self::Write,
        Self::Descriptor,
        Self::ShortTransfer,
        Self::LongTransfer,
        Self::Wait,
    ];
}

/// What is done to the word or the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twist {
    /// Something else stands there.
    Replace,
    /// Some bits are turned over.
    Flip,
    /// It does not arrive; a read gives zero.
    Lose,
    /// Only its first half arrives.
    Halve,
    /// It arrives a second time right behind the first.
    Double,
    /// It arrives, and other memory of the driver's is overwritten.
    Scribble,
    /// It arrives, and from then on the driver reads arbitrary words from its registers.
    Babble,
    /// It arrives, and from then on the device does nothing any more.
    Hang,
}

impl Twist {
    const ALL: [Self; 8] = [
        Self::Replace,
        Self::Flip,
        Self::Lose,
        Self::Halve,
        Self::Double,
        Self::Scribble,
        Self::Babble,
        Self::Hang,
    ];
}

/// One lie.
#[derive(Debug, Clone, Copy)]
pub struct Lie {
    occasion: Occasion,
    /// Occasions to let pass first.
    skip: u16,
    /// How often it is told.
    times: u16,
    /// What it does.
    pub twist: Twist,
    /// Where in the bytes, or in the driver's memory.
    pub offset: u16,
    /// What goes there.
    pub word: u64,
}

impl Lie {
    /// Reads a lie.
    #[must_use]
    pub fn take(input: &Input<'_>) -> Self {
        let pick = input.u8();
        let (occasion, twist) = (usize::from(pick >> 4), usize::from(pick & 15));
        Self {
            occasion: Occasion::ALL[occasion % Occasion::ALL.len()],
            twist: Twist::ALL[twist % Twist::ALL.len()],
            skip: input.count(),
            times: input.count().saturating_add(1),
            offset: input.u16(),
            word: input.u64(),
        }
    }

    /// A word with this lie in it.
    #[must_use]
    pub fn on_word(&self, truth: u32) -> u32 {
        match self.twist {
            Twist::Replace => self.word as u32,
            Twist::Flip => truth ^ self.word as u32,
            Twist::Lose => 0,
            Twist::Halve => truth & 0xffff,
            Twist::Double => truth.wrapping_mul(0x1_0001),
            Twist::Scribble | Twist::Babble | Twist::Hang => truth,
        }
    }

    /// Bytes with this lie in them.
    pub fn on_bytes(&self, bytes: &mut Vec<u8>) {
        let offset = if bytes.is_empty() { 0 } else { usize::from(self.offset) % bytes.len() };
        let pairs = bytes[offset..].iter_mut().zip(self.word.to_le_bytes());
        match self.twist {
            Twist::Replace => pairs.for_each(|(byte, lie)| *byte = lie),
            Twist::Flip => pairs.for_each(|(byte, lie)| *byte ^= lie),
            Twist::Lose => bytes.clear(),
            Twist::Halve => bytes.truncate(bytes.len() / 2),
            Twist::Double => bytes.extend_from_within(..),
            Twist::Scribble | Twist::Babble | Twist::Hang => {}
        }
    }
}

/// Lies that wait for their occasion.
#[derive(Debug, Default)]
pub struct Lies(Vec<Lie>);

/// More than this are not kept at a time.
const MOST_LIES: usize = 32;

impl Lies {
    /// Adds one.
    pub fn add(&mut self, lie: Lie) {
        if self.0.len() < MOST_LIES {
            self.0.push(lie);
        }
    }

    /// Tells the truth from now on.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The lie to be told on this occasion, if any: the first whose turn it is.
    pub fn on(&mut self, occasion: Occasion) -> Option<Lie> {
        let mut told = None;
        for lie in self.0.iter_mut().filter(|lie| lie.occasion == occasion) {
            if lie.skip > 0 {
                lie.skip -= 1;
            } else if told.is_none() && lie.times > 0 {
                lie.times -= 1;
                told = Some(*lie);
            }
        }
        if told.is_some() {
            self.0.retain(|lie| lie.times > 0);
        }
        told
    }
}
