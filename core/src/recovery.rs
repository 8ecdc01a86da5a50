//! Resets, and the task management request that comes before them.
//!
//! Two resets, of different reach (controllers.md 2.4). A *message unit reset* drops both queues
//! and leaves the links alone, but loses discovery's events on firmware that does not replay
//! them; a *diagnostic reset* restarts the adapter. `make_ready` chooses by what the doorbell
//! and the facts say.

use embedded_hal::delay::DelayNs;

use crate::doorbell::read_out;
use crate::error::Error;
use crate::generation::chips::Chip;
use crate::generation::{Facts, Generation};
use crate::platform::Registers;
use crate::regs::{
    Bus, DOORBELL, Doorbell, HOST_DIAGNOSTIC, HOST_INTERRUPT_MASK, HOST_INTERRUPT_STATUS,
    HostDiagnostic, HostInterruptMask, HostInterruptStatus, IocState, WRITE_SEQUENCE,
};

mod ladder;
mod policy;

pub(crate) use ladder::{Climb, Step, Subject};
pub use policy::{InFlight, Policy, RecoveryCounters, ResetReason};

pub use crate::reply::TaskReply;
pub use crate::request::TaskRequest;
pub use crate::wire::task::TaskType;

/// How long the IOC has to come to READY after a message unit reset (Linux: 15 s for each step).
const READY_AFTER_MESSAGE_UNIT_RESET_MS: u32 = 15_000;
/// How long an IOC may take from RESET to READY (Linux: 20 s).
const READY_LIMIT_MS: u32 = 20_000;
/// How long the adapter may hold its reset bit (Linux: 300 s).
const DIAGNOSTIC_RESET_LIMIT_MS: u32 = 300_000;
/// No register may be touched for this long after the reset bit was set (OpenBSD waits longest).
const DIAGNOSTIC_RESET_SETTLE_MS: u32 = 240;
/// How often the reset bit is looked at afterwards.
const DIAGNOSTIC_RESET_STEP_MS: u32 = 256;
/// Key sequences to try before the diagnostic register counts as locked for good.
const UNLOCK_ATTEMPTS: u32 = 20;

/// Which reset brought the IOC to READY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetKind {
    /// None: it was READY already.
    None,
    /// A message unit reset.
    MessageUnit,
    /// A diagnostic reset.
    Diagnostic,
}

/// Brings the IOC to READY, whatever state it was left in, by the mildest reset that serves.
///
/// # Errors
///
/// [`Error::Gone`], [`Error::DiagnosticLocked`], or a [`Error::Timeout`] or [`Error::Fault`] that
/// remained after a diagnostic reset.
pub(crate) fn make_ready<G: Generation, R: Registers>(
    bus: &Bus<R>,
    delay: &mut dyn DelayNs,
    chip: &Chip,
) -> Result<ResetKind, Error> {
    bus.put(HOST_INTERRUPT_MASK, HostInterruptMask::ALL);
    let doorbell: Doorbell = bus.status(DOORBELL)?;
    let state = if doorbell.state() == IocState::Reset {
        match wait_ready(bus, delay, READY_LIMIT_MS) {
            Ok(()) => IocState::Ready,
            Err(Error::Gone) => return Err(Error::Gone),
            Err(_) => IocState::Reset,
        }
    } else {
        doorbell.state()
    };
    // A request that somebody left half sent makes the doorbell useless until a hard reset.
    if !doorbell.used() || read_out(bus, delay)? {
        // What was left unread may have been the answer to IOC init: the IOC is up since then.
        let state = if doorbell.used() { bus.status(DOORBELL)?.state() } else { state };
        match state {
            IocState::Ready => return Ok(ResetKind::None),
            IocState::Operational if may_reset_message_unit::<G, R>(bus, delay, chip)? => {
                match message_unit_reset(bus, delay) {
                    Ok(()) => return Ok(ResetKind::MessageUnit),
                    Err(Error::Gone) => return Err(Error::Gone),
                    Err(_) => {}
                }
            }
            _ => {}
        }
    }
    diagnostic_reset(bus, delay)?;
    Ok(ResetKind::Diagnostic)
}

/// The capability rule: a message unit reset is only worth something if the firmware replays
/// discovery's events afterwards, which the facts of an operational IOC tell.
fn may_reset_message_unit<G: Generation, R: Registers>(
    bus: &Bus<R>,
    delay: &mut dyn DelayNs,
    chip: &Chip,
) -> Result<bool, Error> {
    if chip.is_mpi1() {
        // MPI1 discovers anew at port enable; every driver resets its message unit first.
        return Ok(true);
    }
    match G::facts(bus, delay, chip) {
        Ok(Facts { event_replay, .. }) => Ok(event_replay),
        Err(Error::Gone) => Err(Error::Gone),
        Err(_) => Ok(false),
    }
}

/// Drops both queues: nothing outstanding will be answered.
///
/// # Errors
///
/// [`Error::Timeout`] or [`Error::Fault`] if the IOC does not come to READY; [`Error::Gone`].
#[cold]
#[inline(never)]
pub(crate) fn message_unit_reset<R: Registers>(
    bus: &Bus<R>,
    delay: &mut dyn DelayNs,
) -> Result<(), Error> {
    bus.put(DOORBELL, Doorbell::MESSAGE_UNIT_RESET);
    bus.wait_until(
        delay,
        HOST_INTERRUPT_STATUS,
        "the IOC to take the message unit reset",
        READY_AFTER_MESSAGE_UNIT_RESET_MS,
        |status: HostInterruptStatus| !status.system_to_ioc(),
    )?;
    wait_ready(bus, delay, READY_AFTER_MESSAGE_UNIT_RESET_MS)
}

/// Restarts the adapter.
///
/// # Errors
///
/// [`Error::DiagnosticLocked`], [`Error::Timeout`], [`Error::Fault`] or [`Error::Gone`].
#[cold]
#[inline(never)]
pub(crate) fn diagnostic_reset<R: Registers>(
    bus: &Bus<R>,
    delay: &mut dyn DelayNs,
) -> Result<(), Error> {
    debug!("diagnostic reset");
    unlock(bus, delay)?;
    let mut diagnostic: HostDiagnostic = bus.status(HOST_DIAGNOSTIC)?;
    diagnostic.set_reset_adapter(true);
    bus.put(HOST_DIAGNOSTIC, diagnostic);
    delay.delay_ms(DIAGNOSTIC_RESET_SETTLE_MS);
    let mut waited = DIAGNOSTIC_RESET_SETTLE_MS;
    loop {
        diagnostic = bus.status(HOST_DIAGNOSTIC)?;
        if !diagnostic.reset_adapter() {
            break;
        }
        if waited >= DIAGNOSTIC_RESET_LIMIT_MS {
            return Err(Error::Timeout(crate::error::Waited {
                what: "the adapter to come out of its diagnostic reset",
                limit_ms: DIAGNOSTIC_RESET_LIMIT_MS,
                last: diagnostic.0,
            }));
        }
        delay.delay_ms(DIAGNOSTIC_RESET_STEP_MS);
        waited += DIAGNOSTIC_RESET_STEP_MS;
    }
    diagnostic.set_hold_ioc_reset(false);
    bus.put(HOST_DIAGNOSTIC, diagnostic);
    // Any write that is not the next key locks the register again.
    bus.put(WRITE_SEQUENCE, 0);
    bus.put(HOST_INTERRUPT_MASK, HostInterruptMask::ALL);
    wait_ready(bus, delay, READY_LIMIT_MS)
}

/// Writes the key sequence until the diagnostic register says that it may be written. The flush
/// word before the keys is 0xF on MPI1 headers' account and 0 on MPI2's; 0 flushes both.
#[cold]
fn unlock<R: Registers>(bus: &Bus<R>, delay: &mut dyn DelayNs) -> Result<(), Error> {
    const KEYS_MPI1: [u32; 6] = [0xff, 0x4, 0xb, 0x2, 0x7, 0xd];
    const KEYS_MPI2: [u32; 7] = [0x0, 0xf, 0x4, 0xb, 0x2, 0x7, 0xd];
    for attempt in 0..UNLOCK_ATTEMPTS {
        // The two generations differ only in the flush word, which cannot hurt the other.
        let keys: &[u32] = if attempt % 2 == 0 { &KEYS_MPI2 } else { &KEYS_MPI1 };
        for key in keys {
            bus.put(WRITE_SEQUENCE, *key);
        }
        delay.delay_ms(100);
        let diagnostic: HostDiagnostic = bus.status(HOST_DIAGNOSTIC)?;
        if diagnostic.write_enabled() {
            return Ok(());
        }
    }
    Err(Error::DiagnosticLocked)
}

#[cold]
#[inline(never)]
fn wait_ready<R: Registers>(
    bus: &Bus<R>,
    delay: &mut dyn DelayNs,
    limit_ms: u32,
) -> Result<(), Error> {
    let doorbell: Doorbell =
        bus.wait(delay, DOORBELL, "the IOC to become READY", limit_ms, |doorbell: Doorbell| {
            matches!(doorbell.state(), IocState::Ready | IocState::Fault | IocState::Coredump)
        })?;
    match doorbell.state() {
        IocState::Ready => Ok(()),
        _ => Err(Error::Fault(doorbell.data())),
    }
}
