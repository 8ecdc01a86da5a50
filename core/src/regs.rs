//! Typed registers.
//!
//! The `volatile-register` blocks in [`mpi1`] and [`mpi2`] are the single source of each
//! register's offset and direction; a [`Reg`] is an offset into one of them that remembers both,
//! so that writing a read-only register does not compile. Every back end, a mapped BAR, a
//! DriverKit call or a socket to an emulator, uses the same constants through
//! [`Registers`].
//!
//! ```compile_fail,E0277
//! use fusion_mpt::regs::{Bus, mpi1::REQUEST_QUEUE};
//! fn reads_a_write_only_register<R: fusion_mpt::platform::Registers>(bus: &Bus<R>) -> u32 {
//!     bus.get(REQUEST_QUEUE)
//! }
//! ```

use core::cell::Cell;
use core::marker::PhantomData;

use bitfield::bitfield;
use embedded_hal::delay::DelayNs;
use volatile_register::{RO, RW, WO};

use crate::error::{Error, Waited};
use crate::platform::Registers;

#[cfg(feature = "mpi1")]
pub mod mpi1;
#[cfg(feature = "mpi2")]
pub mod mpi2;

/// A `volatile-register` cell that may be read.
pub trait Readable {}
/// A `volatile-register` cell that may be written.
pub trait Writable {}
impl Readable for RO<u32> {}
impl Readable for RW<u32> {}
impl Writable for WO<u32> {}
impl Writable for RW<u32> {}

/// The offset of a 32-bit register, with its direction `A` (`RO`, `RW` or `WO`) and the type `W`
/// of the word in it.
pub struct Reg<A, W = u32> {
    offset: u16,
    kind: PhantomData<fn() -> (A, W)>,
}

impl<A, W> Clone for Reg<A, W> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<A, W> Copy for Reg<A, W> {}
impl<A, W> core::fmt::Debug for Reg<A, W> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Reg({:#x})", self.offset)
    }
}

impl<A, W> Reg<A, W> {
    /// A register at `offset` bytes; `_field` ties its direction to the block's field.
    pub(crate) const fn new<B>(offset: usize, _field: fn(&B) -> &A) -> Self {
        Self { offset: offset as u16, kind: PhantomData }
    }

    /// Bytes from the start of the register window.
    #[must_use]
    pub const fn offset(self) -> u16 {
        self.offset
    }
}

/// Names registers of a block: each line asserts the field's offset against the header's number
/// and takes the direction from the field itself.
macro_rules! registers {
    ($block:ty { $($(#[$doc:meta])* $name:ident = $field:ident: $access:ident<$word:ty> @ $offset:literal;)* }) => {
        $(
            $(#[$doc])*
            pub const $name: $crate::regs::Reg<volatile_register::$access<u32>, $word> = {
                assert!(core::mem::offset_of!($block, $field) == $offset);
                $crate::regs::Reg::new($offset, |block: &$block| &block.$field)
            };
        )*
    };
}
pub(crate) use registers;

/// The six registers that all generations have at the same offsets, the doorbell side of the
/// chip (mpi.h and mpi2.h, "System Interface Register Set").
#[allow(missing_debug_implementations, reason = "a layout, never a value")]
#[repr(C)]
pub struct SystemBlock {
    doorbell: RW<u32>,
    write_sequence: WO<u32>,
    host_diagnostic: RW<u32>,
    _reserved: [u32; 9],
    host_interrupt_status: RW<u32>,
    host_interrupt_mask: RW<u32>,
}

registers!(SystemBlock {
    /// The IOC's state when read; handshake data and reset functions when written.
    DOORBELL = doorbell: RW<Doorbell> @ 0x00;
    /// Takes the key sequence that unlocks [`HOST_DIAGNOSTIC`].
    WRITE_SEQUENCE = write_sequence: WO<u32> @ 0x04;
    /// Resets the adapter, once unlocked.
    HOST_DIAGNOSTIC = host_diagnostic: RW<HostDiagnostic> @ 0x08;
    /// What the IOC wants; writing anything clears the doorbell bit.
    HOST_INTERRUPT_STATUS = host_interrupt_status: RW<HostInterruptStatus> @ 0x30;
    /// Which interrupts are held back; a set bit masks.
    HOST_INTERRUPT_MASK = host_interrupt_mask: RW<HostInterruptMask> @ 0x34;
});

/// What the IOC says it is (doorbell bits 31:28; mpi.h and mpi2.h, "IOC states").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IocState {
    /// Coming out of a reset; not to be talked to.
    Reset,
    /// Takes handshakes, waits for IOC init.
    Ready,
    /// Takes requests.
    Operational,
    /// Stopped by an error; the doorbell's low 16 bits say which.
    Fault,
    /// Writing a core dump after a fault (MPI 2.6).
    Coredump,
    /// Anything else, 0xF (a device that is gone) included.
    Other(u8),
}

bitfield! {
    /// The doorbell register as read.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Doorbell(pub u32);
    impl Debug;
    /// Fault code, or one half-word of a handshake's reply.
    pub u16, data, set_data: 15, 0;
    /// Who initialised the IOC last (`MPI2_WHOINIT_*`).
    pub u8, who_init, set_who_init: 26, 24;
    /// A handshake is under way.
    pub used, set_used: 27;
    /// The state, as [`Doorbell::state`] decodes it.
    pub u8, raw_state, set_raw_state: 31, 28;
}

impl Doorbell {
    /// Function: message unit reset (`MPI2_FUNCTION_IOC_MESSAGE_UNIT_RESET`).
    pub const MESSAGE_UNIT_RESET: Self = Self(0x40 << 24);

    /// The doorbell write that begins a handshake of `dwords` 32-bit words
    /// (`MPI2_FUNCTION_HANDSHAKE`).
    #[must_use]
    pub const fn handshake(dwords: u8) -> Self {
        Self(0x42 << 24 | (dwords as u32) << 16)
    }

    /// The IOC's state.
    #[must_use]
    pub fn state(self) -> IocState {
        match self.raw_state() {
            0 => IocState::Reset,
            1 => IocState::Ready,
            2 => IocState::Operational,
            4 => IocState::Fault,
            5 => IocState::Coredump,
            other => IocState::Other(other),
        }
    }
}

bitfield! {
    /// The host diagnostic register (mpi.h, mpi2.h "HostDiagnostic").
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct HostDiagnostic(pub u32);
    impl Debug;
    /// MPI2: hold the IOC's processor in reset; MPI1: disable the ARM.
    pub hold_ioc_reset, set_hold_ioc_reset: 1;
    /// Resets the adapter while set.
    pub reset_adapter, set_reset_adapter: 2;
    /// A reset has happened since this was last cleared.
    pub reset_history, set_reset_history: 5;
    /// The key sequence was accepted: this register may be written.
    pub write_enabled, set_write_enabled: 7;
}

bitfield! {
    /// The host interrupt status register.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct HostInterruptStatus(pub u32);
    impl Debug;
    /// The IOC wrote its doorbell.
    pub ioc_to_system, set_ioc_to_system: 0;
    /// A reply waits.
    pub reply, set_reply: 3;
    /// MPI2: the reset interrupt.
    pub reset, set_reset: 30;
    /// The IOC has not consumed our last doorbell write.
    pub system_to_ioc, set_system_to_ioc: 31;
}

bitfield! {
    /// The host interrupt mask register; a set bit holds the interrupt back.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct HostInterruptMask(pub u32);
    impl Debug;
    /// Doorbell interrupts.
    pub doorbell, set_doorbell: 0;
    /// Reply interrupts.
    pub reply, set_reply: 3;
    /// MPI2: the reset interrupt.
    pub reset, set_reset: 30;
}

impl HostInterruptMask {
    /// Everything held back.
    pub const ALL: Self = Self(1 << 30 | 1 << 3 | 1);
    /// Only reply interrupts pass.
    pub const REPLIES_PASS: Self = Self(1 << 30 | 1);
}

macro_rules! word {
    ($($name:ident),*) => { $(
        impl From<u32> for $name {
            #[inline]
            fn from(value: u32) -> Self {
                Self(value)
            }
        }
        impl From<$name> for u32 {
            #[inline]
            fn from(word: $name) -> u32 {
                word.0
            }
        }
    )* };
}
word!(Doorbell, HostDiagnostic, HostInterruptStatus, HostInterruptMask);

/// The register window as the core uses it: typed, counted, and closed for good once a status
/// register read as all ones (trap T36).
#[derive(Debug)]
pub struct Bus<R> {
    registers: R,
    reads: Cell<u64>,
    writes: Cell<u64>,
    gone: Cell<bool>,
    /// Gone, or somebody wants to see what is posted: one flag, so that a post looks once.
    attention: Cell<bool>,
    zero_reads: bool,
}

/// How often a status register is read again while it reads as zero (mpt3sas, for Aero and Sea).
const ZERO_READS: u32 = 30;

impl<R: Clone> Bus<R> {
    /// Another handle to the same window, with its own counts, for a queue of its own.
    pub(crate) fn another(&self) -> Self {
        Self {
            registers: self.registers.clone(),
            reads: Cell::new(0),
            writes: Cell::new(0),
            gone: self.gone.clone(),
            attention: self.gone.clone(),
            zero_reads: self.zero_reads,
        }
    }
}

impl<R: Registers> Bus<R> {
    /// Wraps a register window.
    pub const fn new(registers: R) -> Self {
        Self {
            registers,
            reads: Cell::new(0),
            writes: Cell::new(0),
            gone: Cell::new(false),
            attention: Cell::new(false),
            zero_reads: false,
        }
    }

    /// The same, for a chip whose status registers may spuriously read as zero.
    #[must_use]
    pub const fn with_zero_reads(mut self, zero_reads: bool) -> Self {
        self.zero_reads = zero_reads;
        self
    }

    /// Closes the window for good: another handle to it found that the controller is gone.
    pub(crate) fn close(&self) {
        self.gone.set(true);
        self.attention.set(true);
    }

    /// Reads a register; all ones once the controller is gone.
    #[inline]
    pub fn get<A: Readable, W: From<u32>>(&self, register: Reg<A, W>) -> W {
        W::from(self.get_at(register.offset))
    }

    /// Reads a status register, in which all ones means that the controller is gone.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`], now and for ever after.
    pub fn status<A: Readable, W: From<u32> + Into<u32> + Copy>(
        &self,
        register: Reg<A, W>,
    ) -> Result<W, Error> {
        self.status_at(register.offset).map(W::from).ok_or(Error::Gone)
    }

    /// The status register itself, once for all; `None` if the controller is gone.
    #[inline(never)]
    fn status_at(&self, offset: u16) -> Option<u32> {
        let mut word = self.get_once(offset);
        if self.zero_reads {
            // In a handshake, a zero would pass for data, or for a word that was taken.
            for _ in 0..ZERO_READS {
                if word != 0 {
                    break;
                }
                word = self.get_once(offset);
            }
        }
        if word == u32::MAX {
            self.gone.set(true);
            self.attention.set(true);
            return None;
        }
        Some(word)
    }

    #[inline(never)]
    fn get_once(&self, offset: u16) -> u32 {
        self.get_at(offset)
    }

    #[inline]
    fn get_at(&self, offset: u16) -> u32 {
        if self.gone.get() {
            return u32::MAX;
        }
        self.reads.set(self.reads.get() + 1);
        self.registers.read32(offset)
    }

    /// Writes a register; nothing happens once the controller is gone.
    pub fn put<A: Writable, W: Into<u32>>(&self, register: Reg<A, W>, word: W) {
        self.put_at(register.offset, word.into());
    }

    #[inline(never)]
    fn put_at(&self, offset: u16, word: u32) {
        self.put_inline(Reg::<WO<u32>> { offset, kind: PhantomData }, word);
    }

    /// As [`Bus::put`], where a call would cost too much.
    #[inline]
    pub(crate) fn put_inline<A: Writable, W: Into<u32>>(&self, register: Reg<A, W>, word: W) {
        if !self.gone.get() {
            self.writes.set(self.writes.get() + 1);
            self.registers.write32(register.offset, word.into());
        }
    }

    /// Whether a post must go another way than straight to the register: the controller is gone, or
    /// posts are traced.
    #[inline]
    pub(crate) fn needs_attention(&self) -> bool {
        self.attention.get()
    }

    /// From now on posts are traced.
    pub(crate) fn attend(&self, needed: bool) {
        self.attention.set(needed || self.gone.get());
    }

    /// Writes a register without asking whether the controller is gone: the caller has.
    #[inline]
    pub(crate) fn post<A: Writable>(&self, register: Reg<A, u32>, value: u32) {
        self.writes.set(self.writes.get() + 1);
        self.registers.write32(register.offset, value);
    }

    /// As [`Bus::post`], 64 bits from `register` on as one bus write.
    #[cfg(feature = "mpi2")]
    #[inline]
    pub(crate) fn post64<A: Writable>(&self, register: Reg<A, u32>, value: u64) {
        self.writes.set(self.writes.get() + 1);
        self.registers.write64(register.offset, value);
    }

    /// Reads `register` until `done` likes it, at most `limit_ms` milliseconds.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] on all ones; [`Error::Timeout`] with `what` was waited for.
    pub fn wait<A: Readable, W: From<u32> + Into<u32> + Copy>(
        &self,
        delay: &mut dyn DelayNs,
        register: Reg<A, W>,
        what: &'static str,
        limit_ms: u32,
        done: impl Fn(W) -> bool,
    ) -> Result<W, Error> {
        let waited = Waited { what, limit_ms, last: 0 };
        let mut last = 0;
        let done = |word| done(W::from(word));
        self.wait_for_word(delay, register.offset, waited, &mut last, &done)?;
        Ok(W::from(last))
    }

    /// As [`Bus::wait`], where what the register read at last does not matter.
    pub(crate) fn wait_until<A: Readable, W: From<u32>>(
        &self,
        delay: &mut dyn DelayNs,
        register: Reg<A, W>,
        what: &'static str,
        limit_ms: u32,
        done: impl Fn(W) -> bool,
    ) -> Result<(), Error> {
        let waited = Waited { what, limit_ms, last: 0 };
        let done = |word| done(W::from(word));
        self.wait_for_word(delay, register.offset, waited, &mut 0, &done)
    }

    /// The wait itself, once for all registers; `last` is what was read last.
    #[inline(never)]
    fn wait_for_word(
        &self,
        delay: &mut dyn DelayNs,
        offset: u16,
        waited: Waited,
        last: &mut u32,
        done: &dyn Fn(u32) -> bool,
    ) -> Result<(), Error> {
        let mut patience = Patience::new();
        loop {
            let word = self.status_at(offset).ok_or(Error::Gone)?;
            *last = word;
            if done(word) {
                return Ok(());
            }
            if !patience.wait(delay, waited.limit_ms) {
                return Err(Error::Timeout(Waited { last: word, ..waited }));
            }
        }
    }

    /// Cuts the device's access to memory ([`Registers::cut_off`]).
    pub(crate) fn cut_off(&self) {
        self.registers.cut_off();
    }

    /// Whether the controller was found gone.
    #[must_use]
    #[inline]
    pub fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Register reads and writes so far, through this handle. A 64-bit write counts once.
    #[must_use]
    pub fn accesses(&self) -> (u64, u64) {
        (self.reads.get(), self.writes.get())
    }
}

/// Waits for one thing in steps: the first answers come within microseconds, later a millisecond
/// does.
#[derive(Debug)]
pub(crate) struct Patience {
    waited_us: u64,
    polls: u32,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        Self { waited_us: 0, polls: 0 }
    }

    /// Waits a step; `false`, without waiting, once `limit_ms` milliseconds have been waited.
    #[inline(never)]
    pub(crate) fn wait(&mut self, delay: &mut dyn DelayNs, limit_ms: u32) -> bool {
        const QUICK_POLLS: u32 = 100;
        const QUICK_STEP_US: u32 = 10;
        if self.waited_us >= u64::from(limit_ms) * 1000 {
            return false;
        }
        let step = if self.polls < QUICK_POLLS { QUICK_STEP_US } else { 1000 };
        delay.delay_us(step);
        self.waited_us += u64::from(step);
        self.polls = self.polls.saturating_add(1);
        true
    }

    /// What has been waited so far, in milliseconds.
    pub(crate) const fn waited_ms(&self) -> u64 {
        self.waited_us / 1000
    }
}
