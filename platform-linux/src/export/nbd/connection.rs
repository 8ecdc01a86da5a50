//! One client: what has come and was not yet looked at, and what is still to be sent.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::haggling::Haggling;
use super::request::Wish;
use super::transfer::{self, Moved, Pieces};
use super::wire::{ReplyHead, RequestHeader};
use crate::export::engine::{DeviceIndex, Engine};

/// Bytes that are received at once: a dozen requests with a page each.
const INPUT_BYTES: usize = 64 << 10;
/// Replies that may wait to be sent before the client is no longer read from.
const MOST_OUTPUTS: usize = 1024;

/// How far a client has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Choosing an export.
    Haggling(Haggling),
    /// Sending requests.
    Transmission {
        /// The export's device.
        device: DeviceIndex,
    },
    /// Nothing more is read; it is closed when everything has been answered.
    Draining,
}

/// Something to be sent.
#[derive(Debug)]
enum Output {
    /// Of the handshake.
    Bytes(Vec<u8>),
    /// To a request, with the data that lies in the buffers of the device's tags.
    Reply { head: ReplyHead, data: Option<ReadData> },
}

/// Data of a read.
#[derive(Debug)]
pub(super) struct ReadData {
    pub(super) device: DeviceIndex,
    pub(super) tags: Vec<u16>,
    pub(super) length: u32,
}

/// A write whose data is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiving {
    /// The request's name.
    pub(super) lead: u16,
    /// Bytes of its data that have come.
    pub(super) received: u32,
    pub(super) length: u32,
}

/// One client.
#[derive(Debug)]
pub(super) struct Connection {
    /// `None` once it is gone while requests of it are under way.
    pub(super) socket: Option<OwnedFd>,
    pub(super) phase: Phase,
    /// The device whose requests it has under way, whatever the phase.
    pub(super) device: Option<DeviceIndex>,
    /// Its replies are structured.
    pub(super) structured: bool,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    outputs: VecDeque<Output>,
    /// Bytes of the first output that have been sent.
    sent: usize,
    /// Its requests that have not ended.
    pub(super) pending: u32,
    /// Tags it holds: of those, and of what is to be sent.
    pub(super) held: u32,
    pub(super) receiving: Option<Receiving>,
    /// A request that may run and waits for tags.
    pub(super) waiting: Option<(RequestHeader, Wish)>,
    /// Bytes of the data of a refused write that are still to come.
    pub(super) skip: u32,
    /// Something may be there to be read.
    pub(super) readable: bool,
    /// The socket took less than there was to send.
    pub(super) choked: bool,
    /// What the server sleeps for: that it can be read from, or written to.
    pub(super) interest: (bool, bool),
    /// When something last came or went.
    pub(super) moved_at: Instant,
    /// It is the kernel's, and not a client that came by itself.
    pub(super) adopted: bool,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, phase: Phase, now: Instant) -> Self {
        Self {
            socket: Some(socket),
            phase,
            device: None,
            structured: false,
            input: vec![0; INPUT_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            outputs: VecDeque::new(),
            sent: 0,
            pending: 0,
            held: 0,
            receiving: None,
            waiting: None,
            skip: 0,
            readable: true,
            choked: false,
            interest: (true, false),
            moved_at: now,
            adopted: false,
        }
    }

    /// Something came or went. While an export is chosen that counts for nothing: the whole of it
    /// has a limit.
    pub(super) const fn has_moved(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Haggling(_)) {
            self.moved_at = now;
        }
    }

    /// What has come and was not yet taken.
    pub(super) fn input(&self) -> &[u8] {
        self.input.get(self.start..self.end).unwrap_or_default()
    }

    /// The first `bytes` of it are done with.
    pub(super) fn take(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Receives more of it. [`Moved::NotNow`] also when there is no room.
    pub(super) fn receive(&mut self) -> Moved {
        let Some(socket) = &self.socket else { return Moved::Closed };
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let Some(room) = self.input.get_mut(self.end..).filter(|room| !room.is_empty()) else {
            return Moved::NotNow;
        };
        let asked = room.len();
        let moved = transfer::receive(socket, room);
        if let Moved::Bytes(bytes) = moved {
            self.end += bytes;
            // What came later is told of by the next look.
            self.readable = bytes == asked;
        } else {
            self.readable = false;
        }
        moved
    }

    /// Whether it is to be read from no more until something has been sent.
    pub(super) fn is_clogged(&self) -> bool {
        self.outputs.len() >= MOST_OUTPUTS
    }

    /// Puts bytes of the handshake behind what is to be sent.
    pub(super) fn say(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.outputs.push_back(Output::Bytes(bytes));
        }
    }

    /// Puts a reply behind what is to be sent.
    pub(super) fn reply(&mut self, head: ReplyHead, data: Option<ReadData>) {
        self.outputs.push_back(Output::Reply { head, data });
    }

    /// Whether everything has been sent.
    pub(super) fn is_quiet(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Sends what the socket takes. Tags whose data has been sent go to `done`.
    pub(super) fn send(
        &mut self,
        engine: &Engine,
        pieces: &mut Pieces,
        mut done: impl FnMut(ReadData),
    ) -> Moved {
        let mut all = 0;
        while !self.outputs.is_empty() {
            let asked = self.gather(engine, pieces);
            let Some(socket) = &self.socket else { return Moved::Closed };
            // SAFETY: what was gathered lies in the outputs, which have not changed since, and in
            // buffers of the engine, whose memory stays for as long as it has the device.
            match unsafe { pieces.send(socket) } {
                Moved::Bytes(bytes) => {
                    all += bytes;
                    self.advance(bytes, &mut done);
                    if bytes < asked {
                        self.choked = true;
                        return Moved::Bytes(all);
                    }
                }
                Moved::NotNow => {
                    self.choked = true;
                    return if all > 0 { Moved::Bytes(all) } else { Moved::NotNow };
                }
                Moved::Closed => return Moved::Closed,
            }
        }
        if all > 0 { Moved::Bytes(all) } else { Moved::NotNow }
    }

    /// Gathers the front of what is to be sent; returns how many bytes that is.
    fn gather(&self, engine: &Engine, pieces: &mut Pieces) -> usize {
        pieces.clear();
        let (mut skip, mut bytes) = (self.sent, 0);
        for output in &self.outputs {
            let (head, data) = output.parts();
            if let Some(head) = head.get(skip..).filter(|head| !head.is_empty()) {
                pieces.add(head);
                bytes += head.len();
            }
            skip = skip.saturating_sub(head.len());
            let mut left = data.map_or(0, |data| data.length as usize);
            for tag in data.map_or(&[][..], |data| &data.tags) {
                let device = data.map_or(DeviceIndex(0), |data| data.device);
                let Some(buffer) = engine.buffer(device, *tag) else { break };
                let here = left.min(buffer.bytes());
                left -= here;
                let from = skip.min(here);
                skip -= from;
                if from < here {
                    if pieces.is_full() {
                        return bytes;
                    }
                    pieces.add_buffer(buffer, from, here - from);
                    bytes += here - from;
                }
            }
            if pieces.is_full() {
                break;
            }
        }
        bytes
    }

    /// So many bytes have been sent.
    fn advance(&mut self, bytes: usize, done: &mut impl FnMut(ReadData)) {
        self.sent += bytes;
        while let Some(first) = self.outputs.front() {
            let (head, data) = first.parts();
            let length = head.len() + data.map_or(0, |data| data.length as usize);
            if self.sent < length {
                break;
            }
            self.sent -= length;
            if let Some(Output::Reply { data: Some(data), .. }) = self.outputs.pop_front() {
                self.held = self.held.saturating_sub(data.tags.len() as u32);
                done(data);
            }
        }
    }

    /// Forgets what is to be sent, since nobody is there to take it.
    pub(super) fn forget_outputs(&mut self, mut done: impl FnMut(ReadData)) {
        self.sent = 0;
        for output in self.outputs.drain(..) {
            if let Output::Reply { data: Some(data), .. } = output {
                self.held = self.held.saturating_sub(data.tags.len() as u32);
                done(data);
            }
        }
    }
}

impl Output {
    fn parts(&self) -> (&[u8], Option<&ReadData>) {
        match self {
            Self::Bytes(bytes) => (bytes, None),
            Self::Reply { head, data } => (head.as_bytes(), data.as_ref()),
        }
    }
}
