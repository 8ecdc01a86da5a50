//! The chip's front: states, doorbell handshake, resets, interrupt status and mask.
//!
//! All generations share it (mpi.h and mpi2.h, "System Interface Register Set"). Unlike QEMU's
//! device, and like a real chip, it takes a doorbell word only when the firmware gets round to it:
//! until then the status register says so, and a word written over another is lost.

use super::message::Message;
use super::tap::ResetPhase;

/// What the IOC is doing: bits 31:28 of its doorbell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Coming up after a reset.
    Reset,
    /// Takes handshakes.
    Ready,
    /// Takes requests.
    Operational,
    /// Stopped, with this code.
    Fault(u16),
    /// Stopped with this code and still writing down why (MPI2's `MPI2_IOC_STATE_COREDUMP`).
    CoreDump(u16),
}

impl State {
    fn word(self) -> u32 {
        match self {
            State::Reset => 0,
            State::Ready => 1 << 28,
            State::Operational => 2 << 28,
            State::Fault(code) => 4 << 28 | u32::from(code),
            State::CoreDump(code) => 5 << 28 | u32::from(code),
        }
    }
}

/// Where the handshake stands.
#[derive(Debug, Clone, Copy)]
enum Handshake {
    Idle,
    /// So many words of the request are missing.
    Receiving {
        missing: usize,
    },
    /// The request is complete, the firmware thinks.
    Thinking,
    /// Half-word `next` of the reply is in the doorbell.
    Replying {
        reply: Message,
        next: usize,
    },
}

/// How far the firmware is from running. Times are in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Up,
    /// The host has set the reset bit.
    ResetAsked {
        since: u64,
    },
    /// The reset bit is held.
    Resetting {
        since: u64,
    },
    /// READY comes then.
    Booting {
        until: u64,
    },
}

/// What a step of the front asks of the rest of the firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing happened.
    Nothing,
    /// Something happened, in here.
    Progress,
    /// A request is complete: [`Front::request`].
    Request,
    /// The queues are to be dropped: a message unit reset.
    MessageUnitReset,
    /// Everything is to be forgotten: the adapter begins to reset.
    AdapterReset,
}

/// How long the adapter holds its reset bit.
const ADAPTER_RESET_NS: u64 = 60_000_000;
/// From there to READY.
const BOOT_NS: u64 = 40_000_000;
/// From a message unit reset to READY.
const MESSAGE_UNIT_RESET_NS: u64 = 1_000_000;
/// No register may be touched for so long after the reset bit was set: mpt3sas waits as long.
/// mptbase reads the doorbell at once, and MPI1's cards have always borne it.
const HANDS_OFF_MPI2_NS: u64 = 50_000_000;

const HIS_DOORBELL: u32 = 1;
const HIS_REPLY: u32 = 1 << 3;
const HIS_SYSTEM_TO_IOC: u32 = 1 << 31;
const DIAGNOSTIC_RESET_ADAPTER: u32 = 1 << 2;
const DIAGNOSTIC_HISTORY: u32 = 1 << 5;
const DIAGNOSTIC_WRITE_ENABLED: u32 = 1 << 7;
/// Bits of the diagnostic register that keep what was written.
const DIAGNOSTIC_KEPT: u32 = 0x0000_0302;

/// The front.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) state: State,
    pub(crate) who_init: u8,
    keys: &'static [u8],
    mask_bits: u32,
    hands_off_ns: u64,
    mask: u32,
    /// The IOC has written its doorbell.
    doorbell_interrupt: bool,
    /// A word that the firmware has not taken.
    word: Option<u32>,
    handshake: Handshake,
    request: [u8; 128],
    request_words: usize,
    /// The host has taken a half-word.
    acknowledged: bool,
    /// The host has read the half-word that is in the doorbell.
    seen: bool,
    key: usize,
    unlocked: bool,
    diagnostic: u32,
    phase: Phase,
    /// When the IOC has written down why it stopped, and FAULT follows.
    dumped: u64,
    now: u64,
    /// Never leave RESET again.
    never_ready: bool,
    /// What the driver did that a real chip would not forgive.
    pub(crate) complaints: Vec<String>,
}

impl Front {
    pub(crate) fn new(mpi1: bool) -> Self {
        Self {
            state: State::Ready,
            who_init: 0,
            keys: if mpi1 { &[0x4, 0xb, 0x2, 0x7, 0xd] } else { &[0xf, 0x4, 0xb, 0x2, 0x7, 0xd] },
            mask_bits: if mpi1 { 0x9 } else { 0x4000_0009 },
            hands_off_ns: if mpi1 { 0 } else { HANDS_OFF_MPI2_NS },
            mask: if mpi1 { 0x9 } else { 0x4000_0009 },
            doorbell_interrupt: false,
            word: None,
            handshake: Handshake::Idle,
            request: [0; 128],
            request_words: 0,
            acknowledged: false,
            seen: false,
            key: 0,
            unlocked: false,
            diagnostic: 0,
            phase: Phase::Up,
            dumped: 0,
            now: 0,
            never_ready: false,
            complaints: Vec::new(),
        }
    }

    /// Notes what the driver did wrong; the first hundred things.
    pub(crate) fn complain(&mut self, what: String) {
        if self.complaints.len() < 100 {
            self.complaints.push(what);
        }
    }

    /// Stops the IOC; the first code stays.
    pub(crate) fn fault(&mut self, code: u16) {
        if !matches!(self.state, State::Fault(_) | State::CoreDump(_)) {
            self.state = State::Fault(code);
        }
    }

    /// Stops the IOC, which writes down why for `ns` nanoseconds before it is in FAULT.
    pub(crate) fn core_dump(&mut self, code: u16, ns: u64) {
        if !matches!(self.state, State::Fault(_) | State::CoreDump(_)) {
            self.state = State::CoreDump(code);
            self.dumped = self.now.saturating_add(ns);
        }
    }

    /// The front as the power finds it when it comes back. Complaints are not the chip's to forget.
    pub(crate) fn power_on(&mut self, mpi1: bool) {
        let (now, complaints) = (self.now, std::mem::take(&mut self.complaints));
        *self = Self {
            state: State::Reset,
            phase: Phase::Booting { until: now.saturating_add(BOOT_NS) },
            now,
            complaints,
            ..Self::new(mpi1)
        };
    }

    pub(crate) fn set_now(&mut self, now: u64) {
        self.now = now;
    }

    /// The complete request.
    pub(crate) fn request(&self) -> &[u8] {
        &self.request[..(self.request_words * 4).min(self.request.len())]
    }

    /// Whether a request came by handshake and waits for its reply.
    #[cfg(test)]
    fn is_thinking(&self) -> bool {
        matches!(self.handshake, Handshake::Thinking)
    }

    /// Answers the request by handshake.
    pub(crate) fn reply(&mut self, reply: Message) {
        self.handshake = Handshake::Replying { reply, next: 0 };
        self.acknowledged = false;
        self.seen = false;
        self.doorbell_interrupt = true;
    }

    /// Ends the handshake without a reply: it comes through the reply queue.
    pub(crate) fn reply_elsewhere(&mut self) {
        self.handshake = Handshake::Idle;
        self.doorbell_interrupt = true;
    }

    /// The interrupt status register; `reply` says whether a reply waits.
    fn status(&self, reply: bool) -> u32 {
        (u32::from(self.doorbell_interrupt) * HIS_DOORBELL)
            | (u32::from(reply) * HIS_REPLY)
            | (u32::from(self.word.is_some()) * HIS_SYSTEM_TO_IOC)
    }

    /// Whether the interrupt line is up.
    pub(crate) fn interrupt(&self, reply: bool) -> bool {
        self.status(reply) & !self.mask & (HIS_DOORBELL | HIS_REPLY) != 0
    }

    fn hands_off(&mut self, access: &str, offset: u32) {
        if let Phase::ResetAsked { since } | Phase::Resetting { since } = self.phase
            && self.now < since + self.hands_off_ns
        {
            let after = (self.now - since) / 1000;
            self.complain(format!(
                "register {offset:#x} was {access} {after} us into a diagnostic reset, when the chip must be left alone for {} us",
                self.hands_off_ns / 1000
            ));
        }
    }

    /// Notes that the doorbell is about to be read through the chip's I/O ports. Whoever reads a
    /// half-word of a reply a second time there gets the next: SeaBIOS's driver, written for QEMU's
    /// device, reads them all in a row and acknowledges once at the end.
    pub(crate) fn before_port_read(&mut self) {
        if let Handshake::Replying { reply, next } = &mut self.handshake
            && self.seen
            && !self.acknowledged
            && (*next + 1) * 2 < reply.bytes().len()
        {
            *next += 1;
        }
    }

    /// Reads a register of the front; `None` if it is none.
    pub(crate) fn read(&mut self, offset: u32, reply: bool) -> Option<u32> {
        self.hands_off("read", offset);
        let value = match offset {
            0x00 => {
                let mut word = self.state.word() | u32::from(self.who_init & 7) << 24;
                match &self.handshake {
                    Handshake::Idle => {}
                    Handshake::Receiving { .. } | Handshake::Thinking => word |= 1 << 27,
                    Handshake::Replying { reply, next } => {
                        let bytes = reply.bytes();
                        let half = super::message::le16(bytes, next * 2);
                        self.seen = true;
                        word = word & !0xffff | 1 << 27 | u32::from(half);
                    }
                }
                word
            }
            0x04 => 0,
            0x08 => {
                self.diagnostic
                    | (u32::from(self.unlocked) * DIAGNOSTIC_WRITE_ENABLED)
                    | (u32::from(matches!(
                        self.phase,
                        Phase::ResetAsked { .. } | Phase::Resetting { .. }
                    )) * DIAGNOSTIC_RESET_ADAPTER)
            }
            0x30 => self.status(reply),
            0x34 => self.mask,
            _ => return None,
        };
        Some(value)
    }

    /// Writes a register of the front; `false` if it is none.
    pub(crate) fn write(&mut self, offset: u32, value: u32) -> bool {
        self.hands_off("written", offset);
        match offset {
            0x00 => {
                if let Some(lost) = self.word {
                    self.complain(format!("the doorbell was written ({value:#010x}) before its last word ({lost:#010x}) was taken"));
                }
                self.word = Some(value);
            }
            0x04 => self.write_key((value & 0xf) as u8),
            0x08 => self.write_diagnostic(value),
            0x30 => {
                self.doorbell_interrupt = false;
                self.acknowledged = true;
            }
            0x34 => self.mask = value & self.mask_bits,
            _ => return false,
        }
        true
    }

    fn write_key(&mut self, key: u8) {
        if self.unlocked {
            self.unlocked = false;
            self.key = 0;
        } else if self.keys.get(self.key) == Some(&key) {
            self.key += 1;
            self.unlocked = self.key == self.keys.len();
        } else {
            self.key = usize::from(self.keys.first() == Some(&key));
        }
    }

    fn write_diagnostic(&mut self, value: u32) {
        if !self.unlocked {
            self.complain(format!(
                "the diagnostic register was written ({value:#x}) without its key sequence"
            ));
            return;
        }
        // The history bit is cleared by writing it as 0; the kept bits are as written.
        self.diagnostic = value & (self.diagnostic | DIAGNOSTIC_KEPT);
        if value & DIAGNOSTIC_RESET_ADAPTER != 0 {
            self.phase = Phase::ResetAsked { since: self.now };
            self.state = State::Reset;
        }
    }

    /// Forgets everything but the diagnostic side: what an adapter reset does.
    fn reset(&mut self) {
        self.state = State::Reset;
        self.who_init = 0;
        self.mask = self.mask_bits;
        self.doorbell_interrupt = false;
        self.word = None;
        self.handshake = Handshake::Idle;
        self.diagnostic |= DIAGNOSTIC_HISTORY;
    }

    /// What the bus's reset does, or power: the firmware boots at once. What was complained of
    /// stays.
    pub(crate) fn bus_reset(&mut self, mpi1: bool) {
        let complaints = std::mem::take(&mut self.complaints);
        let never_ready = self.never_ready;
        *self = Self { complaints, now: self.now, ..Self::new(mpi1) };
        if never_ready {
            self.never_ready();
        }
    }

    /// Keeps the IOC from becoming READY, from now on.
    pub(crate) fn never_ready(&mut self) {
        self.never_ready = true;
        self.state = State::Reset;
        self.phase = Phase::Booting { until: 0 };
    }

    /// How far a reset has got.
    pub(crate) fn reset_phase(&self) -> ResetPhase {
        match self.phase {
            Phase::Up => ResetPhase::None,
            Phase::ResetAsked { .. } | Phase::Resetting { .. } => ResetPhase::Adapter,
            Phase::Booting { .. } => ResetPhase::Booting,
        }
    }

    /// When the front will have something to do without being asked, if ever.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Up if matches!(self.state, State::CoreDump(_)) => Some(self.dumped),
            Phase::Up | Phase::ResetAsked { .. } => None,
            Phase::Resetting { since } => Some(since + ADAPTER_RESET_NS),
            Phase::Booting { until } => (!self.never_ready).then_some(until),
        }
    }

    /// Does the front's next piece of work.
    pub(crate) fn step(&mut self) -> Asked {
        match self.phase {
            Phase::ResetAsked { since } => {
                self.reset();
                self.phase = Phase::Resetting { since };
                return Asked::AdapterReset;
            }
            Phase::Resetting { since } if self.now >= since + ADAPTER_RESET_NS => {
                self.diagnostic &= !DIAGNOSTIC_RESET_ADAPTER;
                self.phase = Phase::Booting { until: self.now + BOOT_NS };
                return Asked::Progress;
            }
            Phase::Booting { until } if self.now >= until && !self.never_ready => {
                self.phase = Phase::Up;
                self.state = State::Ready;
                return Asked::Progress;
            }
            Phase::Resetting { .. } | Phase::Booting { .. } => return Asked::Nothing,
            Phase::Up => {}
        }
        // A stopped IOC takes nothing from its doorbell any more.
        match self.state {
            State::CoreDump(code) if self.now >= self.dumped => {
                self.state = State::Fault(code);
                return Asked::Progress;
            }
            State::Fault(_) | State::CoreDump(_) => return Asked::Nothing,
            _ => {}
        }
        if let Some(word) = self.word.take() {
            return self.take(word);
        }
        if self.acknowledged
            && let Handshake::Replying { reply, next } = &mut self.handshake
        {
            self.acknowledged = false;
            self.seen = false;
            self.doorbell_interrupt = true;
            *next += 1;
            if *next * 2 >= reply.bytes().len() {
                self.handshake = Handshake::Idle;
            }
            return Asked::Progress;
        }
        Asked::Nothing
    }

    /// The firmware takes a word from the doorbell.
    fn take(&mut self, word: u32) -> Asked {
        match &mut self.handshake {
            Handshake::Idle => match word >> 24 {
                // Message unit reset, and MPI1's IO unit reset, which does as much here.
                0x40 | 0x41 => {
                    self.state = State::Reset;
                    self.who_init = 0;
                    self.doorbell_interrupt = false;
                    self.phase = Phase::Booting { until: self.now + MESSAGE_UNIT_RESET_NS };
                    return Asked::MessageUnitReset;
                }
                0x42 => {
                    let missing = (word >> 16 & 0xff) as usize;
                    self.request_words = 0;
                    self.handshake = Handshake::Receiving { missing };
                    self.doorbell_interrupt = true;
                    if missing == 0 {
                        self.complain("a handshake of no words was begun".into());
                        self.handshake = Handshake::Idle;
                    }
                }
                // Host page buffer access: no buffer was asked for, so there is nothing to stop.
                0x44 => {}
                _ => self.complain(format!(
                    "the doorbell was written with {word:#010x}, which is no function"
                )),
            },
            Handshake::Receiving { missing } => {
                let at = self.request_words * 4;
                for (to, from) in self.request.iter_mut().skip(at).zip(word.to_le_bytes()) {
                    *to = from;
                }
                self.request_words += 1;
                *missing -= 1;
                if *missing == 0 {
                    self.handshake = Handshake::Thinking;
                    return Asked::Request;
                }
            }
            Handshake::Thinking | Handshake::Replying { .. } => {
                self.complain(format!(
                    "the doorbell was written with {word:#010x} while the reply to a handshake waits"
                ));
            }
        }
        Asked::Progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(front: &mut Front) -> Vec<Asked> {
        std::iter::from_fn(|| Some(front.step()).filter(|asked| *asked != Asked::Nothing)).collect()
    }

    fn handshake(front: &mut Front, words: &[u32]) {
        front.write(0, 0x42 << 24 | (words.len() as u32) << 16);
        assert_eq!(front.read(0x30, false).unwrap_or(0) >> 31, 1, "not taken yet");
        run(front);
        assert_eq!(front.read(0x30, false), Some(1));
        front.write(0x30, 0);
        for word in words {
            front.write(0, *word);
            run(front);
        }
    }

    #[test]
    fn a_handshake_goes_over_word_by_word_and_half_by_half() {
        let mut front = Front::new(false);
        handshake(&mut front, &[0x0300_0000, 0x0102_0304]);
        assert!(front.is_thinking());
        assert_eq!(front.request(), [0, 0, 0, 3, 4, 3, 2, 1]);
        front.reply(Message::new(8, 3).with16(4, 0xbeef));
        for half in [0, 0x0302, 0xbeef, 0] {
            assert_eq!(front.read(0x30, false), Some(1));
            assert_eq!(front.read(0, false), Some(1 << 28 | 1 << 27 | half));
            assert_eq!(front.read(0, false).map(|word| word & 0xffff), Some(half), "it waits");
            front.write(0x30, 0);
            run(&mut front);
        }
        assert_eq!(front.read(0, false), Some(1 << 28), "no longer in use");
        assert_eq!(front.read(0x30, false), Some(1), "the end is announced");
        front.write(0x30, 0);
        assert_eq!(front.read(0x30, false), Some(0));
        assert!(front.complaints.is_empty());
    }

    #[test]
    fn a_reply_read_in_a_row_through_the_ports_goes_over_with_one_acknowledgement() {
        let mut front = Front::new(true);
        handshake(&mut front, &[0x0300_0000]);
        front.reply(Message::new(8, 3).with16(4, 0xbeef));
        let mut read = || {
            front.before_port_read();
            front.read(0, false).map(|word| word & 0xffff)
        };
        for half in [0, 0x0302, 0xbeef, 0] {
            assert_eq!(read(), Some(half));
        }
        front.write(0x30, 0);
        run(&mut front);
        assert_eq!(front.read(0, false), Some(1 << 28), "no longer in use");
        // Who acknowledges each half-word misses none.
        handshake(&mut front, &[0x0300_0000]);
        front.reply(Message::new(8, 3).with16(4, 0xbeef));
        for half in [0, 0x0302, 0xbeef, 0] {
            front.before_port_read();
            assert_eq!(front.read(0, false).map(|word| word & 0xffff), Some(half));
            front.write(0x30, 0);
            run(&mut front);
        }
        assert_eq!(front.read(0, false), Some(1 << 28));
    }

    #[test]
    fn a_word_written_before_the_last_was_taken_is_lost_and_noted() {
        let mut front = Front::new(true);
        handshake(&mut front, &[]);
        front.complaints.clear();
        front.write(0, 0x42 << 24 | 2 << 16);
        run(&mut front);
        front.write(0, 1);
        front.write(0, 2);
        run(&mut front);
        assert!(!front.is_thinking());
        assert_eq!(front.complaints.len(), 1);
    }

    #[test]
    fn the_adapter_resets_only_when_unlocked_and_takes_its_time() {
        for mpi1 in [false, true] {
            let mut front = Front::new(mpi1);
            front.state = State::Fault(0x1234);
            front.write(8, 4);
            assert_eq!(run(&mut front), [], "locked");
            assert_eq!(front.complaints.len(), 1);
            for key in [0u32, 0xf, 4, 0xb, 2, 7, 0xd] {
                assert_eq!(front.read(8, false), Some(0));
                front.write(4, key);
            }
            assert_eq!(front.read(8, false), Some(0x80));
            front.write(8, 0x84);
            assert_eq!(run(&mut front), [Asked::AdapterReset]);
            front.set_now(55_000_000);
            assert_eq!(run(&mut front), []);
            assert_eq!(front.read(8, false), Some(0x80 | 0x20 | 4));
            front.set_now(60_000_000);
            assert_eq!(run(&mut front), [Asked::Progress]);
            assert_eq!(front.read(8, false), Some(0x80 | 0x20));
            assert_eq!(front.read(0, false), Some(0), "RESET");
            front.set_now(100_000_000);
            assert_eq!(run(&mut front), [Asked::Progress]);
            assert_eq!(front.read(0, false), Some(1 << 28), "READY");
            assert_eq!(front.complaints.len(), 1);
        }
    }

    #[test]
    fn a_register_touched_right_after_the_reset_bit_is_noted() {
        let mut front = Front::new(false);
        for key in [0u32, 0xf, 4, 0xb, 2, 7, 0xd] {
            front.write(4, key);
        }
        front.write(8, 0x84);
        front.set_now(1_000_000);
        front.read(8, false);
        assert_eq!(front.complaints.len(), 1);
    }

    #[test]
    fn a_stopped_ioc_takes_no_message_unit_reset() {
        let mut front = Front::new(false);
        front.fault(0x2622);
        front.fault(0x1111);
        front.write(0, 0x40 << 24);
        assert_eq!(run(&mut front), []);
        assert_eq!(front.read(0, false), Some(4 << 28 | 0x2622));
        assert_eq!(front.read(0x30, false), Some(1 << 31));
    }
}
