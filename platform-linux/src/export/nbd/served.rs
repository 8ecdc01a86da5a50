//! A logical unit that is served: the tags its engine has, and whose requests they are.

use std::collections::VecDeque;

use super::wire::NbdError;
use crate::export::block::{Errno, Operation};
use crate::export::engine::DeviceIndex;

/// What a request will be answered with, and what it still waits for.
#[derive(Debug)]
pub(super) struct Pending {
    /// The connection, by its place in the server.
    pub(super) connection: usize,
    /// The client's name for it.
    pub(super) cookie: u64,
    pub(super) operation: Operation,
    pub(super) then_flush: bool,
    /// Its range, in bytes.
    pub(super) offset: u64,
    pub(super) length: u32,
    /// Those whose buffers its data lies in, in order; the first names the request.
    pub(super) tags: Vec<u16>,
    /// Tags whose part has not ended.
    pub(super) left: u16,
    /// The first thing that went wrong.
    pub(super) error: Option<NbdError>,
}

/// A logical unit that is served.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) device: DeviceIndex,
    /// Bytes that one tag's buffer holds.
    pub(super) piece_bytes: u32,
    free: Vec<u16>,
    tags: u16,
    /// By tag: the first tag of the request it belongs to.
    leads: Vec<u16>,
    /// By first tag.
    requests: Vec<Option<Pending>>,
    /// First tags of requests all of whose parts have ended.
    pub(super) ended: Vec<u16>,
    /// Connections that wait for tags, the one to be served next first.
    pub(super) waiters: VecDeque<usize>,
    /// Requests under way whose clients have gone away. What comes later waits for them: it may be
    /// the same client, who writes the same blocks again.
    pub(super) orphans: u32,
    /// It ends everything with an error.
    pub(super) gone: bool,
    /// A client that was adopted has said that it goes.
    pub(super) farewell: bool,
}

impl Served {
    pub(super) fn new(device: DeviceIndex, tags: u16, piece_bytes: u32) -> Self {
        let count = usize::from(tags);
        Self {
            device,
            piece_bytes,
            free: (0..tags).rev().collect(),
            tags,
            leads: vec![0; count],
            requests: (0..count).map(|_| None).collect(),
            ended: Vec::with_capacity(count),
            waiters: VecDeque::new(),
            orphans: 0,
            gone: false,
            farewell: false,
        }
    }

    /// Tags that it has.
    pub(super) const fn tags(&self) -> u16 {
        self.tags
    }

    /// Whether no request is under way, and no data waits to be sent.
    pub(super) fn is_idle(&self) -> bool {
        self.free.len() == usize::from(self.tags)
    }

    /// Tags that a request with this much data takes.
    pub(super) const fn pieces_of(&self, operation: Operation, length: u32) -> u16 {
        if operation.moves_data() { length.div_ceil(self.piece_bytes) as u16 } else { 1 }
    }

    /// How much of a request's data lies in its tag number `piece`.
    pub(super) const fn bytes_of(&self, length: u32, piece: usize) -> u32 {
        let before = (piece as u32).saturating_mul(self.piece_bytes);
        let left = length.saturating_sub(before);
        if left < self.piece_bytes { left } else { self.piece_bytes }
    }

    /// Takes tags for the connection, all or none, in its turn. When none are taken it waits.
    pub(super) fn take(&mut self, connection: usize, count: u16) -> Option<Vec<u16>> {
        let its_turn = self.waiters.front().is_none_or(|first| *first == connection);
        let left = self.free.len().checked_sub(usize::from(count));
        match left {
            Some(left) if its_turn => {
                self.waiters.retain(|waiter| *waiter != connection);
                Some(self.free.split_off(left))
            }
            _ => {
                if !self.waiters.contains(&connection) {
                    self.waiters.push_back(connection);
                }
                None
            }
        }
    }

    /// Notes a request under its tags; returns its name.
    pub(super) fn insert(&mut self, pending: Pending) -> u16 {
        let lead = pending.tags.first().copied().unwrap_or_default();
        for tag in &pending.tags {
            if let Some(of) = self.leads.get_mut(usize::from(*tag)) {
                *of = lead;
            }
        }
        if let Some(place) = self.requests.get_mut(usize::from(lead)) {
            *place = Some(pending);
        }
        lead
    }

    pub(super) fn request(&self, lead: u16) -> Option<&Pending> {
        self.requests.get(usize::from(lead))?.as_ref()
    }

    pub(super) fn request_mut(&mut self, lead: u16) -> Option<&mut Pending> {
        self.requests.get_mut(usize::from(lead))?.as_mut()
    }

    /// Takes a request that has ended. Its tags are still the caller's, to give back.
    pub(super) fn remove(&mut self, lead: u16) -> Option<Pending> {
        self.requests.get_mut(usize::from(lead))?.take()
    }

    /// Gives tags back.
    pub(super) fn give_back(&mut self, tags: &[u16]) {
        self.free.extend_from_slice(tags);
    }

    /// What was started under the tag has ended.
    pub(super) fn complete(&mut self, tag: u16, result: Result<u32, Errno>) {
        let Some(lead) = self.leads.get(usize::from(tag)).copied() else { return };
        self.part_ended(lead, 1, result.err().map(NbdError::from));
    }

    /// So many of the request's parts have ended, or will never begin.
    pub(super) fn part_ended(&mut self, lead: u16, parts: u16, error: Option<NbdError>) {
        let Some(pending) = self.request_mut(lead) else { return };
        pending.error = pending.error.or(error);
        pending.left = pending.left.saturating_sub(parts);
        if pending.left == 0 {
            self.ended.push(lead);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> Served {
        Served::new(DeviceIndex(0), 4, 1024)
    }

    #[test]
    fn who_waits_for_many_tags_is_not_overtaken() {
        let mut served = served();
        let three = served.take(1, 3).expect("free");
        assert_eq!(served.take(2, 2), None);
        assert_eq!(served.take(3, 1), None, "one is free, but another waits");
        served.give_back(&three);
        assert_eq!(served.take(3, 1), None);
        assert!(served.take(2, 2).is_some() && served.take(3, 1).is_some());
    }

    #[test]
    fn a_request_ends_with_its_last_part_and_its_first_error() {
        let mut served = served();
        let tags = served.take(1, 3).expect("free");
        let (first, second, third) = (tags[0], tags[1], tags[2]);
        let lead = served.insert(Pending {
            connection: 1,
            cookie: 9,
            operation: Operation::Read,
            then_flush: false,
            offset: 0,
            length: 2500,
            tags,
            left: 3,
            error: None,
        });
        assert_eq!((lead, served.bytes_of(2500, 2)), (first, 452));
        served.complete(second, Err(Errno::MEDIUM));
        served.complete(first, Err(Errno::NO_SPACE));
        assert!(served.ended.is_empty());
        served.complete(third, Ok(452));
        assert_eq!(served.ended, [lead]);
        assert_eq!(served.remove(lead).and_then(|ended| ended.error), Some(NbdError::InputOutput));
    }
}
