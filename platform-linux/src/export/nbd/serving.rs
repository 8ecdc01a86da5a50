//! What is done about that which a client has sent.

use std::time::Instant;

use super::MOST_BYTES;
use super::connection::{Connection, Phase, Receiving};
use super::haggling::Next;
use super::request::{self, Wish};
use super::served::{Pending, Served};
use super::server::Server;
use super::transfer::{self, Moved};
use super::wire::{NbdError, NotARequest, ReplyHead, RequestHeader, command};
use crate::export::block::Operation;
use crate::export::engine::{DeviceIndex, Engine};
use crate::host::CommandQueue;

/// Data that is worth a system call of its own, straight into its place.
const WORTH_A_CALL: usize = 8 << 10;
/// Times that one client is received from before others have their turn.
const RECEIVES_IN_TURN: u32 = 16;

impl Server {
    /// Does what one client has asked for, as far as it has come and there is room.
    pub(super) fn serve(
        &mut self,
        at: usize,
        engine: &mut Engine,
        queue: &mut dyn CommandQueue,
    ) -> bool {
        let mut moved = false;
        let mut receives = 0;
        loop {
            match self.step(at, engine, queue) {
                Step::Again => moved = true,
                Step::Blocked => return moved,
                Step::Receive => {
                    let Some(Some(connection)) = self.connections.get_mut(at) else { return moved };
                    if !connection.readable || receives == RECEIVES_IN_TURN {
                        return moved;
                    }
                    receives += 1;
                    match connection.receive() {
                        Moved::Bytes(_) => {
                            connection.has_moved(self.now);
                            moved = true;
                        }
                        Moved::NotNow => return moved,
                        Moved::Closed => {
                            self.lose(at);
                            return true;
                        }
                    }
                }
            }
        }
    }

    /// One step for one client.
    fn step(&mut self, at: usize, engine: &mut Engine, queue: &mut dyn CommandQueue) -> Step {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return Step::Blocked };
        let device = match connection.phase {
            Phase::Draining => return Step::Blocked,
            Phase::Haggling(_) => return self.haggle(at),
            Phase::Transmission { device } => device,
        };
        let structured = connection.structured;
        if connection.skip > 0 {
            let here = connection.input().len().min(connection.skip as usize);
            connection.take(here);
            connection.skip -= here as u32;
            return if connection.skip > 0 { Step::Receive } else { Step::Again };
        }
        let Some(Some(served)) = self.served.get_mut(usize::from(device.0)) else {
            connection.phase = Phase::Draining;
            return Step::Blocked;
        };
        if let Some(receiving) = connection.receiving {
            return feed(connection, receiving, served, engine, queue);
        }
        if connection.is_clogged() || served.orphans > 0 {
            return Step::Blocked;
        }
        if let Some((header, wish)) = connection.waiting.take() {
            return start(at, connection, served, (header, wish), engine, queue);
        }
        let header = match RequestHeader::parse(connection.input()) {
            Ok(Some(header)) => header,
            Ok(None) => return Step::Receive,
            Err(NotARequest) => {
                self.lose(at);
                return Step::Blocked;
            }
        };
        connection.take(RequestHeader::BYTES);
        let wish = match self.exports.get(usize::from(device.0)) {
            _ if self.shutting_down => refusal(&header, NbdError::ShuttingDown),
            None => refusal(&header, NbdError::InputOutput),
            Some(export) => request::check(&header, export, structured),
        };
        match wish {
            Ok(Wish::Disconnect) => {
                connection.phase = Phase::Draining;
                if connection.adopted {
                    served.farewell = true;
                }
                Step::Blocked
            }
            Ok(wish) => start(at, connection, served, (header, wish), engine, queue),
            Err(error) => {
                if header.command == command::WRITE {
                    if header.length > MOST_BYTES {
                        // Not to be read past in any sensible time.
                        self.lose(at);
                        return Step::Blocked;
                    }
                    connection.skip = header.length;
                }
                connection.reply(ReplyHead::new(structured, header.cookie, Err(error)), None);
                Step::Again
            }
        }
    }

    fn haggle(&mut self, at: usize) -> Step {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return Step::Blocked };
        let Phase::Haggling(mut haggling) = connection.phase else { return Step::Blocked };
        let mut output = Vec::new();
        let (taken, next) = haggling.advance(connection.input(), &self.exports, &mut output);
        connection.take(taken);
        connection.say(output);
        connection.phase = match next {
            Next::More => Phase::Haggling(haggling),
            Next::Close => Phase::Draining,
            Next::Transmission { export, structured } => {
                let device = DeviceIndex(export as u16);
                connection.device = Some(device);
                connection.structured = structured;
                Phase::Transmission { device }
            }
        };
        match next {
            Next::More if connection.is_clogged() => Step::Blocked,
            Next::More => Step::Receive,
            Next::Close => Step::Blocked,
            Next::Transmission { .. } => Step::Again,
        }
    }
}

/// What a step of a client came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// There may be more to do.
    Again,
    /// More must come first.
    Receive,
    /// Something else must happen first.
    Blocked,
}

/// Refuses everything but the wish to go.
fn refusal(header: &RequestHeader, error: NbdError) -> Result<Wish, NbdError> {
    if header.command == command::DISC { Ok(Wish::Disconnect) } else { Err(error) }
}

/// Begins a request, if there are tags for it; else it waits for them.
fn start(
    at: usize,
    connection: &mut Connection,
    served: &mut Served,
    (header, wish): (RequestHeader, Wish),
    engine: &mut Engine,
    queue: &mut dyn CommandQueue,
) -> Step {
    let Wish::Run { operation, then_flush } = wish else { return Step::Blocked };
    let count = served.pieces_of(operation, header.length);
    // A client that does not take its data leaves others a quarter.
    let share = u32::from(served.tags() - served.tags() / 4);
    let within = connection.held == 0 || connection.held + u32::from(count) <= share;
    let taken = if within || connection.adopted { served.take(at, count) } else { None };
    let Some(tags) = taken else {
        connection.waiting = Some((header, wish));
        return Step::Blocked;
    };
    connection.held += u32::from(count);
    connection.pending += 1;
    let RequestHeader { cookie, offset, length, .. } = header;
    let lead = served.insert(Pending {
        connection: at,
        cookie,
        operation,
        then_flush,
        offset,
        length,
        tags,
        left: count,
        error: None,
    });
    if matches!(operation, Operation::Write { .. }) {
        connection.receiving = Some(Receiving { lead, received: 0, length });
    } else {
        for piece in 0..usize::from(count) {
            begin(served, lead, piece, engine, queue);
        }
    }
    Step::Again
}

/// Gives one part of a request to the engine.
fn begin(
    served: &Served,
    lead: u16,
    piece: usize,
    engine: &mut Engine,
    queue: &mut dyn CommandQueue,
) {
    let Some(pending) = served.request(lead) else { return };
    let Some(tag) = pending.tags.get(piece).copied() else { return };
    let Pending { operation, offset, length, .. } = *pending;
    let (from, bytes) = if operation.moves_data() {
        let from = offset + piece as u64 * u64::from(served.piece_bytes);
        (from, served.bytes_of(length, piece))
    } else {
        (offset, length)
    };
    engine.start(queue, served.device, tag, operation, from, u64::from(bytes));
}

/// Takes more of a write's data, and begins each part of it that is complete.
fn feed(
    connection: &mut Connection,
    mut receiving: Receiving,
    served: &mut Served,
    engine: &mut Engine,
    queue: &mut dyn CommandQueue,
) -> Step {
    let piece = (receiving.received / served.piece_bytes) as usize;
    let offset = (receiving.received % served.piece_bytes) as usize;
    let want = served.bytes_of(receiving.length, piece) as usize - offset;
    let tag = served.request(receiving.lead).and_then(|pending| pending.tags.get(piece)).copied();
    let buffer = tag.and_then(|tag| engine.buffer(served.device, tag));
    let Some(buffer) = buffer else { return Step::Blocked };
    let input = connection.input();
    let come = if input.is_empty() {
        if want < WORTH_A_CALL {
            return Step::Receive;
        }
        if !connection.readable {
            return Step::Blocked;
        }
        let Some(socket) = &connection.socket else { return Step::Blocked };
        match transfer::receive_into(socket, buffer, offset, want) {
            Moved::Bytes(bytes) => {
                connection.has_moved(Instant::now());
                connection.readable = bytes == want;
                bytes
            }
            Moved::NotNow => {
                connection.readable = false;
                return Step::Blocked;
            }
            // Seen again, and dealt with, by whoever receives next.
            Moved::Closed => return Step::Receive,
        }
    } else {
        let here = input.get(..want.min(input.len())).unwrap_or_default();
        buffer.write(offset, here);
        let bytes = here.len();
        connection.take(bytes);
        bytes
    };
    receiving.received += come as u32;
    connection.receiving = (receiving.received < receiving.length).then_some(receiving);
    if come == want {
        begin(served, receiving.lead, piece, engine, queue);
    }
    Step::Again
}
