//! From READY to OPERATIONAL: what bring-up and a reset at run time have in common.

use embedded_hal::delay::DelayNs;

use crate::error::Error;
use crate::generation::chips::Chip;
use crate::generation::{Facts, Generation, HostMemory, ask};
use crate::mem::Memory;
use crate::memory_plan::MemoryPlan;
use crate::platform::{DmaRegion, Registers};
use crate::recovery;
use crate::regs::{Bus, DOORBELL, Doorbell, IocState};
use crate::wire::Function;

/// How long IOC init may take from its reply to OPERATIONAL (Linux: 10 s).
const OPERATIONAL_LIMIT_MS: u32 = 10_000;
/// How long port enable may take: firmware waits for slow disks (Linux: 300 s).
pub(crate) const PORT_ENABLE_LIMIT_MS: u32 = 300_000;
/// How often facts are asked for; the first answer after a reset may be cut short (FreeBSD: 5).
const FACTS_ATTEMPTS: u32 = 5;
/// After so many of them the adapter is restarted before the next.
const MILD_ATTEMPTS: u32 = 3;

/// Asks an IOC in READY what it is.
///
/// # Errors
///
/// [`Error::Gone`], [`Error::Fault`], [`Error::BadFacts`]; what the last of several handshakes met
/// with.
#[inline(never)]
pub(crate) fn ask_facts<G: Generation, R: Registers>(
    bus: &Bus<R>,
    delay: &mut dyn DelayNs,
    chip: &Chip,
) -> Result<Facts, Error> {
    let mut attempt = 1;
    loop {
        match G::facts(bus, delay, chip) {
            Ok(facts) => return Ok(facts),
            Err(error @ (Error::Gone | Error::Fault(_) | Error::BadFacts { .. })) => {
                return Err(error);
            }
            Err(error) if attempt == FACTS_ATTEMPTS => return Err(error),
            // A handshake cut short leaves the doorbell in use.
            Err(_) if attempt < MILD_ATTEMPTS => {
                recovery::make_ready::<G, R>(bus, delay, chip)?;
            }
            // Firmware that hangs says READY for ever.
            Err(_) => recovery::diagnostic_reset(bus, delay)?,
        }
        attempt += 1;
    }
}

/// Lays the memory out and takes an IOC in READY to OPERATIONAL, with its port enabled where that
/// goes through the doorbell. The memory has been checked against the plan.
///
/// # Errors
///
/// What IOC init or port enable met with.
#[inline(never)]
pub(crate) fn start_ioc<G: Generation, R: Registers, D: DmaRegion>(
    bus: &Bus<R>,
    delay: &mut dyn DelayNs,
    facts: &Facts,
    plan: &MemoryPlan,
    memory: &Memory<D>,
    now_ms: u64,
) -> Result<(), Error> {
    memory.fill(0, plan.bytes, 0);
    G::prepare(memory, plan);
    let host = HostMemory { plan, bus: memory.bus(0) };
    G::init(bus, delay, facts, host, now_ms)?;
    bus.wait_until(
        delay,
        DOORBELL,
        "the IOC to become OPERATIONAL after IOC init",
        OPERATIONAL_LIMIT_MS,
        |doorbell: Doorbell| doorbell.state() == IocState::Operational,
    )?;
    if G::PORT_ENABLE_BY_DOORBELL {
        let message = G::port_enable(0, 0);
        let mut reply = [0u8; 64];
        let (function, limit_ms) = (Function::PORT_ENABLE, PORT_ENABLE_LIMIT_MS);
        ask::<G, R>(bus, delay, function, message.bytes(), &mut reply, limit_ms)?;
    }
    Ok(())
}
