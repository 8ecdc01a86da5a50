//! Reservations: RESERVE(6) of SPC-2, and the persistent ones of SPC-4 5.13, 6.15 and 6.16.
//!
//! There is one target port, and nothing of them outlives a loss of power (PTPL_C is 0).

use super::data::Task;
use super::operations::Operation;
use super::sense::SenseData;
use super::{Injected, Target, status};

/// Bytes of the PERSISTENT RESERVE OUT parameter list without TransportIDs.
const PARAMETERS: u64 = 24;
const RESERVATIONS_PREEMPTED: u8 = 0x03;
const RESERVATIONS_RELEASED: u8 = 0x04;
const REGISTRATIONS_PREEMPTED: u8 = 0x05;

/// The types of SPC-4 table 61 that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind(u8);

impl Kind {
    /// From the SCOPE and TYPE byte of a CDB; the scope can only be the logical unit.
    fn from_cdb(byte: u8) -> Result<Kind, SenseData> {
        match byte {
            1 | 3 | 5 | 6 | 7 | 8 => Ok(Kind(byte)),
            _ => Err(SenseData::invalid_field(2, None)),
        }
    }

    /// Whether it keeps others from reading, too.
    fn is_exclusive(self) -> bool {
        matches!(self.0, 3 | 6 | 8)
    }

    fn lets_registrants_in(self) -> bool {
        self.0 >= 5
    }

    fn is_held_by_all_registrants(self) -> bool {
        self.0 >= 7
    }
}

#[derive(Debug, Clone, Copy)]
struct Registrant {
    initiator: u64,
    key: u64,
}

/// Who has reserved the logical unit, and how.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    /// The initiator that holds the reservation of RESERVE(6).
    simple: Option<u64>,
    generation: u32,
    registrants: Vec<Registrant>,
    /// The persistent reservation and the initiator that made it.
    persistent: Option<(u64, Kind)>,
}

/// What a command does, as far as a persistent reservation cares (SPC-4 table 62, SBC-3 table 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Free,
    Reads,
    Changes,
}

fn access(operation: &Operation) -> Access {
    match (operation.opcode, operation.service_action) {
        (0x00 | 0x25 | 0x4D | 0x5E | 0x5F | 0xA3, _) | (0x9E, Some(0x10)) => Access::Free,
        (0x08 | 0x1A | 0x28 | 0x2F | 0x5A | 0x88 | 0x8F | 0xA8 | 0xAF | 0x9E, _)
        | (0x7F, Some(0x09)) => Access::Reads,
        _ => Access::Changes,
    }
}

impl Reservations {
    /// Whether a reservation keeps a command of this initiator out.
    pub(super) fn conflict(&self, operation: &Operation, initiator: u64) -> bool {
        if operation.always {
            return false;
        }
        if matches!(operation.opcode, 0x16 | 0x17) && !self.registrants.is_empty() {
            // The two kinds do not mix (SPC-4 5.13.1).
            return true;
        }
        let simply = self.simple.is_some_and(|holder| holder != initiator);
        if simply && (!operation.past_reservation || operation.opcode == 0x5F) {
            return true;
        }
        let Some((_, kind)) = self.persistent else {
            return false;
        };
        let inside =
            self.holds(initiator) || kind.lets_registrants_in() && self.key_of(initiator).is_some();
        match access(operation) {
            Access::Free => false,
            Access::Reads => !inside && kind.is_exclusive(),
            Access::Changes => !inside,
        }
    }

    /// A reset of the logical unit: persistent reservations stay.
    pub(super) fn reset(&mut self) {
        self.simple = None;
    }

    fn key_of(&self, initiator: u64) -> Option<u64> {
        let found = self.registrants.iter().find(|registrant| registrant.initiator == initiator);
        found.map(|registrant| registrant.key)
    }

    fn holds(&self, initiator: u64) -> bool {
        match self.persistent {
            Some((_, kind)) if kind.is_held_by_all_registrants() => {
                self.key_of(initiator).is_some()
            }
            Some((holder, _)) => holder == initiator,
            None => false,
        }
    }

    /// The key that a reservation is reported under.
    fn holders_key(&self) -> Option<(u64, Kind)> {
        let (holder, kind) = self.persistent?;
        if kind.is_held_by_all_registrants() {
            return Some((0, kind));
        }
        Some((self.key_of(holder).unwrap_or(0), kind))
    }

    fn others(&self, than: u64) -> Vec<u64> {
        let initiators = self.registrants.iter().map(|registrant| registrant.initiator);
        initiators.filter(|initiator| *initiator != than).collect()
    }

    fn set_key(&mut self, initiator: u64, key: u64) {
        match self.registrants.iter_mut().find(|registrant| registrant.initiator == initiator) {
            Some(registrant) => registrant.key = key,
            None => self.registrants.push(Registrant { initiator, key }),
        }
    }
}

/// RESERVE(6) (SPC-2 7.21): the whole logical unit.
pub(super) fn reserve_6(
    target: &mut Target,
    task: &mut Task<'_>,
    _: &Operation,
) -> Result<(), SenseData> {
    target.reservations.simple = Some(task.initiator);
    Ok(())
}

/// RELEASE(6) (SPC-2 7.16): of another initiator's reservation it does nothing, and says GOOD.
pub(super) fn release_6(
    target: &mut Target,
    task: &mut Task<'_>,
    _: &Operation,
) -> Result<(), SenseData> {
    if target.reservations.simple == Some(task.initiator) {
        target.reservations.simple = None;
    }
    Ok(())
}

/// PERSISTENT RESERVE IN's answer: the generation, the length of what follows, and that.
fn report(
    target: &Target,
    task: &mut Task<'_>,
    operation: &Operation,
    body: &[u8],
) -> Result<(), SenseData> {
    let mut data = target.reservations.generation.to_be_bytes().to_vec();
    data.extend_from_slice(&(body.len() as u32).to_be_bytes());
    data.extend_from_slice(body);
    task.reply(&data, operation.length(task.cdb))
}

/// READ KEYS (SPC-4 6.15.2).
pub(super) fn read_keys(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let registrants = target.reservations.registrants.iter();
    let keys: Vec<u8> = registrants.flat_map(|registrant| registrant.key.to_be_bytes()).collect();
    report(target, task, operation, &keys)
}

/// READ RESERVATION (SPC-4 6.15.3).
pub(super) fn read_reservation(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let mut body = Vec::new();
    if let Some((key, Kind(kind))) = target.reservations.holders_key() {
        body.extend_from_slice(&key.to_be_bytes());
        body.extend_from_slice(&[0, 0, 0, 0, 0, kind, 0, 0]);
    }
    report(target, task, operation, &body)
}

/// REPORT CAPABILITIES (SPC-4 6.15.4): ALL_TG_PT is taken, as there is one port; TMV, and all six
/// types.
pub(super) fn report_capabilities(
    _: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    task.reply(&[0, 8, 0x04, 0x80, 0xEA, 0x01, 0, 0], operation.length(task.cdb))
}

/// READ FULL STATUS (SPC-4 6.15.5), with the TransportIDs of SAS (SPC-4 7.6.4.8).
pub(super) fn read_full_status(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let reservations = &target.reservations;
    let mut body = Vec::new();
    for Registrant { initiator, key } in &reservations.registrants {
        let kind = match reservations.persistent {
            Some((_, Kind(kind))) if reservations.holds(*initiator) => kind,
            _ => 0,
        };
        body.extend_from_slice(&key.to_be_bytes());
        body.extend_from_slice(&[0, 0, 0, 0, u8::from(kind != 0), kind, 0, 0, 0, 0]);
        // Relative target port 1, and 24 bytes of TransportID.
        body.extend_from_slice(&[0, 1, 0, 0, 0, 24, 0x06, 0, 0, 0]);
        body.extend_from_slice(&initiator.to_be_bytes());
        body.extend_from_slice(&[0; 12]);
    }
    report(target, task, operation, &body)
}

/// How PERSISTENT RESERVE OUT ends where it does not simply fail.
type Outcome = Result<(), Injected>;

fn conflict() -> Injected {
    Injected::Status(status::RESERVATION_CONFLICT)
}

/// The parameter list's keys: the reservation key and the service action's.
fn keys(task: &mut Task<'_>, operation: &Operation) -> Result<(u64, u64), SenseData> {
    if operation.length(task.cdb) != PARAMETERS {
        return Err(SenseData::PARAMETER_LIST_LENGTH_ERROR);
    }
    let list = task.parameters(PARAMETERS)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    // SPEC_I_PT and APTPL are not supported; REGISTER alone looks at them.
    if matches!(operation.service_action, Some(0 | 6)) && list[20] & 0x09 != 0 {
        return Err(SenseData::invalid_parameter(20));
    }
    Ok((number(&list[..8]), number(&list[8..16])))
}

/// REGISTER (SPC-4 5.13.7).
pub(super) fn register(target: &mut Target, task: &mut Task<'_>, operation: &Operation) -> Outcome {
    let (key, new) = keys(task, operation)?;
    if target.reservations.key_of(task.initiator).unwrap_or(0) != key {
        return Err(conflict());
    }
    target.register(task.initiator, new);
    Ok(())
}

/// REGISTER AND IGNORE EXISTING KEY (SPC-4 5.13.7).
pub(super) fn register_and_ignore(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Outcome {
    let (_, new) = keys(task, operation)?;
    target.register(task.initiator, new);
    Ok(())
}

/// The service action's key of an initiator that is registered with the reservation key.
fn registered(
    target: &Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<u64, Injected> {
    let (key, action_key) = keys(task, operation)?;
    match target.reservations.key_of(task.initiator) {
        Some(known) if known == key => Ok(action_key),
        _ => Err(conflict()),
    }
}

/// RESERVE (SPC-4 5.13.9).
pub(super) fn reserve(target: &mut Target, task: &mut Task<'_>, operation: &Operation) -> Outcome {
    let kind = Kind::from_cdb(task.byte(2))?;
    registered(target, task, operation)?;
    let reservations = &mut target.reservations;
    match reservations.persistent {
        None => reservations.persistent = Some((task.initiator, kind)),
        Some((_, held)) if held == kind && reservations.holds(task.initiator) => {}
        Some(_) => return Err(conflict()),
    }
    Ok(())
}

/// RELEASE (SPC-4 5.13.11.2): GOOD, too, for an initiator that holds nothing.
pub(super) fn release(target: &mut Target, task: &mut Task<'_>, operation: &Operation) -> Outcome {
    let kind = Kind::from_cdb(task.byte(2))?;
    registered(target, task, operation)?;
    let Some((_, held)) = target.reservations.persistent else {
        return Ok(());
    };
    if !target.reservations.holds(task.initiator) {
        return Ok(());
    }
    if held != kind {
        return Err(SenseData::INVALID_RELEASE.into());
    }
    target.end_reservation(task.initiator);
    Ok(())
}

/// CLEAR (SPC-4 5.13.11.6).
pub(super) fn clear(target: &mut Target, task: &mut Task<'_>, operation: &Operation) -> Outcome {
    registered(target, task, operation)?;
    target.tell(&target.reservations.others(task.initiator), RESERVATIONS_PREEMPTED);
    target.reservations.registrants.clear();
    target.reservations.persistent = None;
    target.reservations.next_generation();
    Ok(())
}

/// PREEMPT and PREEMPT AND ABORT (SPC-4 5.13.11.4, 5.13.11.5): no command is ever under way here
/// to be aborted.
pub(super) fn preempt(target: &mut Target, task: &mut Task<'_>, operation: &Operation) -> Outcome {
    let kind = Kind::from_cdb(task.byte(2))?;
    let victim = registered(target, task, operation)?;
    let preemptor = task.initiator;
    let reservations = &mut target.reservations;
    let held = reservations.holders_key();
    let takes_over = held.is_some_and(|(key, _)| key == victim);
    if victim == 0 && !takes_over {
        return Err(SenseData::invalid_parameter(8).into());
    }
    // Of a reservation of all registrants key 0 names everybody.
    let named = |registrant: &Registrant| victim == 0 || registrant.key == victim;
    if !takes_over && !reservations.registrants.iter().any(named) {
        return Err(conflict());
    }
    let removed: Vec<u64> = reservations
        .registrants
        .iter()
        .copied()
        .filter(named)
        .map(|registrant| registrant.initiator)
        .filter(|initiator| *initiator != preemptor)
        .collect();
    reservations.registrants.retain(|registrant| !removed.contains(&registrant.initiator));
    reservations.next_generation();
    let mut released = Vec::new();
    if takes_over {
        reservations.persistent = Some((preemptor, kind));
        if held.is_some_and(|(_, held)| held != kind) {
            released = reservations.others(preemptor);
        }
    }
    target.tell(&removed, REGISTRATIONS_PREEMPTED);
    target.tell(&released, RESERVATIONS_RELEASED);
    Ok(())
}

impl Reservations {
    fn next_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }
}

impl Target {
    fn register(&mut self, initiator: u64, key: u64) {
        let known = self.reservations.key_of(initiator).is_some();
        if key != 0 {
            self.reservations.set_key(initiator, key);
        } else if known {
            let last = self.reservations.others(initiator).is_empty();
            let shared = self
                .reservations
                .persistent
                .is_some_and(|(_, kind)| kind.is_held_by_all_registrants());
            if self.reservations.holds(initiator) && (last || !shared) {
                self.end_reservation(initiator);
            }
            self.reservations.registrants.retain(|registrant| registrant.initiator != initiator);
        }
        self.reservations.next_generation();
    }

    /// Releases the persistent reservation; those whom it let in are told (SPC-4 5.13.11.2.2).
    fn end_reservation(&mut self, by: u64) {
        if let Some((_, kind)) = self.reservations.persistent.take()
            && kind.lets_registrants_in()
        {
            self.tell(&self.reservations.others(by), RESERVATIONS_RELEASED);
        }
    }

    fn tell(&mut self, initiators: &[u64], qualifier: u8) {
        for initiator in initiators {
            self.attentions.raise_for(*initiator, 0x2A, qualifier);
        }
    }
}
