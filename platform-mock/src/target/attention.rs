//! Unit attentions: what each initiator has yet to be told (SAM-5 5.14).

use super::sense::{SenseData, SenseKey};

const POWER_ON_OR_RESET: u8 = 0x29;

/// The unit attentions of every initiator that has spoken to the logical unit.
#[derive(Debug)]
pub(super) struct Attentions {
    nexuses: Vec<Nexus>,
    /// The qualifier of the power-on or reset attention that a new initiator meets.
    at_first: Option<u8>,
}

#[derive(Debug)]
struct Nexus {
    initiator: u64,
    /// Oldest first.
    pending: Vec<(u8, u8)>,
}

impl Attentions {
    pub(super) fn new(power_on: bool) -> Attentions {
        Attentions { nexuses: Vec::new(), at_first: power_on.then_some(0x00) }
    }

    /// The oldest pending attention of an initiator, which is thereby told.
    pub(super) fn take(&mut self, initiator: u64) -> Option<SenseData> {
        let pending = &mut self.nexus(initiator).pending;
        if pending.is_empty() {
            return None;
        }
        let (asc, ascq) = pending.remove(0);
        Some(SenseData::new(SenseKey::UnitAttention, asc, ascq))
    }

    /// Something changed that every initiator but the one that did it must be told.
    pub(super) fn raise(&mut self, by: Option<u64>, asc: u8, ascq: u8) {
        for nexus in &mut self.nexuses {
            if Some(nexus.initiator) != by && !nexus.pending.contains(&(asc, ascq)) {
                nexus.pending.push((asc, ascq));
            }
        }
    }

    /// Something that one initiator must be told.
    pub(super) fn raise_for(&mut self, initiator: u64, asc: u8, ascq: u8) {
        let pending = &mut self.nexus(initiator).pending;
        if !pending.contains(&(asc, ascq)) {
            pending.push((asc, ascq));
        }
    }

    /// A reset, which is all that an initiator must know: it takes the place of what was pending.
    /// One that has not spoken yet meets it too.
    pub(super) fn reset(&mut self, qualifier: u8) {
        self.at_first = Some(qualifier);
        for nexus in &mut self.nexuses {
            nexus.pending = vec![(POWER_ON_OR_RESET, qualifier)];
        }
    }

    fn nexus(&mut self, initiator: u64) -> &mut Nexus {
        let known = self.nexuses.iter().position(|nexus| nexus.initiator == initiator);
        let at = known.unwrap_or_else(|| {
            let pending = self.at_first.map(|ascq| (POWER_ON_OR_RESET, ascq));
            self.nexuses.push(Nexus { initiator, pending: pending.into_iter().collect() });
            self.nexuses.len() - 1
        });
        &mut self.nexuses[at]
    }
}
