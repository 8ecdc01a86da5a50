//! The server: who is connected, what is served, and one turn of it all.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;

use super::address::{Address, Listener};
use super::connection::{Connection, Phase, ReadData};
use super::exports::Exports;
use super::haggling::Haggling;
use super::served::{Pending, Served};
use super::transfer::{Moved, Pieces};
use super::wire::{NbdError, ReplyHead};
use super::{HANDSHAKE_LIMIT, MOST_BYTES, MOST_CONNECTIONS, STALL_LIMIT, export_of};
use crate::error::Error;
use crate::export::block::{Errno, Operation};
use crate::export::engine::{DeviceIndex, Engine, Front};
use crate::host::CommandQueue;

/// Turns between looks at the clock for stalled clients.
const TURNS_BETWEEN_LOOKS: u32 = 512;
/// The listener among what is polled; connections have their places.
const LISTENER: u64 = u64::MAX;

/// An NBD server, for one engine and one thread.
#[derive(Debug)]
pub struct Server {
    listener: Option<Listener>,
    address: Option<Address>,
    epoll: OwnedFd,
    /// Under the numbers of their devices.
    pub(super) exports: Exports,
    pub(super) served: Vec<Option<Served>>,
    pub(super) connections: Vec<Option<Connection>>,
    pieces: Pieces,
    pub(super) shutting_down: bool,
    turns: u32,
    pub(super) now: Instant,
}

impl Server {
    /// A server that listens at the address; without one it has only clients that are
    /// [adopted](Server::adopt).
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the address is taken by another server, or by what is no socket, and
    /// when the system refuses.
    pub fn listen(address: Option<&Address>) -> Result<Self, Error> {
        let failed = |error| {
            Error::failed(format!(
                "cannot wait for NBD clients: {error}; raise the limit of open files with `ulimit -n`"
            ))
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let listener = address.map(Listener::open).transpose()?;
        if let Some(listener) = &listener {
            epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)
                .map_err(failed)?;
        }
        Ok(Self {
            address: listener.as_ref().map(|listener| listener.address().clone()),
            listener,
            epoll,
            exports: Exports::default(),
            served: Vec::new(),
            connections: Vec::new(),
            pieces: Pieces::default(),
            shutting_down: false,
            turns: 0,
            now: Instant::now(),
        })
    }

    /// Where it listens, with the port that the system chose where 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// Serves a device of the engine, under the names of its unit. The one with the
    /// lowest number is the default.
    pub fn add_unit(&mut self, engine: &Engine, device: DeviceIndex) {
        let Some(unit) = engine.unit(device) else { return };
        let tags = (0..u16::MAX).take_while(|tag| engine.buffer(device, *tag).is_some()).count();
        let bytes = engine.buffer(device, 0).map_or(0, |buffer| buffer.bytes());
        let piece_bytes = bytes.min(MOST_BYTES as usize) as u32 & !(unit.block_bytes - 1);
        if tags == 0 || piece_bytes == 0 {
            return;
        }
        // Two such requests can be under way at once.
        let pieces = (tags as u32 / 2).max(1);
        let most_bytes = piece_bytes.saturating_mul(pieces).min(MOST_BYTES);
        self.exports.put(usize::from(device.0), export_of(unit, most_bytes));
        let at = usize::from(device.0);
        if self.served.len() <= at {
            self.served.resize_with(at + 1, || None);
        }
        if let Some(place) = self.served.get_mut(at) {
            *place = Some(Served::new(device, tags as u16, piece_bytes));
        }
    }

    /// The engine's device is another now: its capacity has grown. Clients that are connected go on
    /// with the size they know, as the protocol has no way to tell them, but may use the new one.
    pub fn unit_changed(&mut self, engine: &Engine, device: DeviceIndex) {
        let at = usize::from(device.0);
        if let (Some(unit), Some(export)) = (engine.unit(device), self.exports.get(at)) {
            let most_bytes = export.most_bytes;
            self.exports.put(at, export_of(unit, most_bytes));
        }
    }

    /// The device is gone: it can be chosen no longer, and requests for it fail. Its clients are
    /// let go when they have been told how what was under way ended.
    pub fn end_unit(&mut self, device: DeviceIndex) {
        self.exports.remove(usize::from(device.0));
        if let Some(Some(served)) = self.served.get_mut(usize::from(device.0)) {
            served.gone = true;
        }
    }

    /// Stops serving a device that has [ended](Server::end_unit), once nothing of it is under way
    /// and all its data is sent. Until it returns `true`, its buffers are in use.
    pub fn remove_unit(&mut self, device: DeviceIndex) -> bool {
        let Some(place) = self.served.get_mut(usize::from(device.0)) else { return true };
        let idle = place.as_ref().is_none_or(|served| served.gone && served.is_idle());
        let connected = self.connections.iter().flatten().any(|c| c.device == Some(device));
        if idle && !connected {
            *place = None;
        }
        idle && !connected
    }

    /// Takes the other end of a connection that needs no handshake: the kernel's, say.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the system cannot watch one more.
    pub fn adopt(&mut self, device: DeviceIndex, socket: OwnedFd) -> Result<(), Error> {
        let mut connection = Connection::new(socket, Phase::Transmission { device }, self.now);
        connection.device = Some(device);
        connection.adopted = true;
        self.insert(connection)
    }

    /// Whether an [adopted](Server::adopt) client of the device is connected, or has requests under
    /// way that must end before another is adopted in its place.
    #[must_use]
    pub fn has_adopted(&self, device: DeviceIndex) -> bool {
        self.connections.iter().flatten().any(|c| c.adopted && c.device == Some(device))
    }

    /// Whether the [adopted](Server::adopt) client of the device has said that it goes, as it does
    /// when somebody disconnects it, and not when its connection is lost. Tells once.
    pub fn take_farewell(&mut self, device: DeviceIndex) -> bool {
        let served = self.served.get_mut(usize::from(device.0)).and_then(Option::as_mut);
        served.is_some_and(|served| std::mem::take(&mut served.farewell))
    }

    /// No more clients, and no more requests: what is under way is answered, all else is refused.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
        self.listener = None;
        for connection in self.connections.iter_mut().flatten() {
            if let Phase::Haggling(haggling) = &mut connection.phase {
                haggling.shutting_down = true;
            }
        }
    }

    /// Whether everything that was begun has been answered, and the answers sent.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.connections.iter().flatten().all(|connection| {
            connection.is_quiet() && connection.pending == u32::from(connection.receiving.is_some())
        })
    }

    /// Clients that are connected.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.connections.iter().flatten().filter(|c| c.socket.is_some()).count()
    }

    /// Takes what clients have sent, polls the engine, and sends what has ended. Whether anything
    /// moved: if nothing did, the caller may sleep on the server's and the queue's descriptors.
    ///
    /// # Errors
    ///
    /// As [`Engine::poll`]; the clients have been told, as far as their sockets took it.
    pub fn turn(
        &mut self,
        engine: &mut Engine,
        queue: &mut dyn CommandQueue,
    ) -> Result<bool, Error> {
        let received = self.receive(engine, queue);
        let polled = engine.poll(queue, self);
        let answered = self.answer(engine, queue);
        Ok(polled? > 0 || received || answered)
    }

    /// The first third of a [turn](Server::turn): whether anything came.
    pub fn receive(&mut self, engine: &mut Engine, queue: &mut dyn CommandQueue) -> bool {
        self.look();
        let mut moved = false;
        for at in 0..self.connections.len() {
            let Some(Some(connection)) = self.connections.get(at) else { continue };
            let has_work = connection.readable
                || connection.waiting.is_some()
                || !connection.input().is_empty();
            if has_work && connection.socket.is_some() {
                moved |= self.serve(at, engine, queue);
            }
        }
        moved
    }

    /// The last third of a [turn](Server::turn), after the engine has told how requests ended:
    /// whether anything went.
    pub fn answer(&mut self, engine: &mut Engine, queue: &mut dyn CommandQueue) -> bool {
        self.settle(engine, queue);
        let mut moved = false;
        for at in 0..self.connections.len() {
            moved |= self.send(at, engine);
        }
        self.turns += 1;
        if self.turns >= TURNS_BETWEEN_LOOKS || !moved {
            self.turns = 0;
            self.now = Instant::now();
            self.drop_stalled();
        }
        moved
    }

    /// Asks the system which sockets have something.
    fn look(&mut self) {
        let mut events = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
            MOST_CONNECTIONS + 1];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let count = epoll::wait(&self.epoll, &mut events[..], Some(&now)).unwrap_or(0);
        let mut knocked = false;
        for event in events.iter().take(count) {
            let (flags, at) = (event.flags, event.data.u64());
            if at == LISTENER {
                knocked = true;
                continue;
            }
            let Some(Some(connection)) = self.connections.get_mut(at as usize) else { continue };
            let ended = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            connection.readable |= ended || flags.contains(EventFlags::IN);
            connection.choked &= !(ended || flags.contains(EventFlags::OUT));
            if ended && matches!(connection.phase, Phase::Draining) {
                self.lose(at as usize);
            }
        }
        while let (true, Some(listener)) = (knocked, &self.listener) {
            let Some(socket) = listener.accept() else { break };
            let mut connection =
                Connection::new(socket, Phase::Haggling(Haggling::default()), Instant::now());
            connection.say(Haggling::greeting());
            // One that cannot be watched is closed, which its client sees.
            let _ = self.insert(connection);
        }
    }

    fn insert(&mut self, connection: Connection) -> Result<(), Error> {
        let refused = |why: String| {
            Err(Error::failed(format!("no more NBD clients: {why}; let others disconnect first")))
        };
        let free = self.connections.iter().position(Option::is_none);
        let at = free.unwrap_or(self.connections.len());
        // Those who came by themselves must not keep the kernel from coming back.
        if at >= MOST_CONNECTIONS && !connection.adopted {
            return refused(format!("{MOST_CONNECTIONS} are connected"));
        }
        let Some(socket) = &connection.socket else { return Ok(()) };
        let data = EventData::new_u64(at as u64);
        if let Err(error) = epoll::add(&self.epoll, socket, data, EventFlags::IN) {
            return refused(error.to_string());
        }
        match self.connections.get_mut(at) {
            Some(place) => *place = Some(connection),
            None => self.connections.push(Some(connection)),
        }
        Ok(())
    }

    /// Answers requests that have ended, and begins the flushes that are to follow some.
    fn settle(&mut self, engine: &mut Engine, queue: &mut dyn CommandQueue) {
        let Self { served, connections, .. } = self;
        for served in served.iter_mut().flatten() {
            while let Some(lead) = served.ended.pop() {
                let device = served.device;
                let Some(pending) = served.request_mut(lead) else { continue };
                if pending.then_flush && pending.error.is_none() {
                    pending.then_flush = false;
                    pending.left = 1;
                    engine.start(queue, device, lead, Operation::Flush, 0, 0);
                    continue;
                }
                if let Some(pending) = served.remove(lead) {
                    answer(pending, served, connections);
                }
            }
        }
    }

    /// Sends one client what it is owed, and lets it go if that was all.
    fn send(&mut self, at: usize, engine: &Engine) -> bool {
        let Self { connections, served, pieces, now, .. } = self;
        let Some(Some(connection)) = connections.get_mut(at) else { return false };
        if connection.socket.is_none() {
            if connection.pending == 0 {
                self.forget(at);
            }
            return false;
        }
        let mut moved = false;
        if !connection.is_quiet() && !connection.choked {
            match connection.send(engine, pieces, |data| give_back(served, &data)) {
                Moved::Bytes(_) => {
                    connection.has_moved(*now);
                    moved = true;
                }
                Moved::NotNow => {}
                Moved::Closed => {
                    self.lose(at);
                    return true;
                }
            }
        }
        let ended = matches!(connection.phase, Phase::Draining);
        if ended && connection.pending == 0 && connection.is_quiet() {
            self.lose(at);
            return true;
        }
        self.watch(at);
        moved
    }

    /// Says what the server sleeps for on behalf of this client.
    fn watch(&mut self, at: usize) {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return };
        let device = connection.device.map_or(usize::MAX, |device| usize::from(device.0));
        let served = self.served.get(device).and_then(Option::as_ref);
        let held_up = served.is_some_and(|served| served.orphans > 0) || connection.is_clogged();
        let reads = match connection.phase {
            Phase::Draining => false,
            Phase::Haggling(_) => !connection.is_clogged(),
            Phase::Transmission { .. } => connection.waiting.is_none() && !held_up,
        };
        let interest = (reads, connection.choked);
        if interest == connection.interest {
            return;
        }
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, interest.0);
        flags.set(EventFlags::OUT, interest.1);
        let data = EventData::new_u64(at as u64);
        let Some(socket) = &connection.socket else { return };
        if epoll::modify(&self.epoll, socket, data, flags).is_ok() {
            connection.interest = interest;
        }
    }

    /// The client is gone, or is to be. What it has under way goes on, and nobody is told.
    pub(super) fn lose(&mut self, at: usize) {
        let Self { connections, served, .. } = self;
        let Some(Some(connection)) = connections.get_mut(at) else { return };
        if connection.socket.take().is_none() {
            return;
        }
        connection.phase = Phase::Draining;
        connection.waiting = None;
        connection.forget_outputs(|data| give_back(served, &data));
        let device = connection.device.map_or(usize::MAX, |device| usize::from(device.0));
        if let Some(Some(served)) = served.get_mut(device) {
            served.waiters.retain(|waiter| *waiter != at);
            served.orphans += connection.pending;
            if let Some(receiving) = connection.receiving.take() {
                let all = served.pieces_of(Operation::Write { fua: false }, receiving.length);
                let begun = (receiving.received / served.piece_bytes) as u16;
                served.part_ended(receiving.lead, all - begun, Some(NbdError::InputOutput));
            }
        }
        if connection.pending == 0 {
            self.forget(at);
        }
    }

    fn forget(&mut self, at: usize) {
        if let Some(place) = self.connections.get_mut(at) {
            *place = None;
        }
    }

    fn drop_stalled(&mut self) {
        for at in 0..self.connections.len() {
            let Some(Some(connection)) = self.connections.get_mut(at) else { continue };
            let gone = connection.device.is_some_and(|device| {
                let served = self.served.get(usize::from(device.0)).and_then(Option::as_ref);
                served.is_none_or(|served| served.gone)
            });
            if gone && connection.pending == 0 && connection.waiting.is_none() {
                // It has been told everything that it will be.
                connection.phase = Phase::Draining;
            }
            let idle = self.now.saturating_duration_since(connection.moved_at);
            let stalled = match connection.phase {
                Phase::Haggling(_) => idle > HANDSHAKE_LIMIT,
                Phase::Transmission { .. } | Phase::Draining => {
                    let owes = connection.receiving.is_some() || connection.skip > 0;
                    idle > STALL_LIMIT && (owes || !connection.is_quiet())
                }
            };
            if stalled {
                self.lose(at);
            }
        }
    }
}

impl AsFd for Server {
    /// Becomes readable when a client wants something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Front for Server {
    fn complete(&mut self, device: DeviceIndex, tag: u16, result: Result<u32, Errno>) {
        if let Some(Some(served)) = self.served.get_mut(usize::from(device.0)) {
            served.complete(tag, result);
        }
    }
}

fn give_back(served: &mut [Option<Served>], data: &ReadData) {
    if let Some(Some(served)) = served.get_mut(usize::from(data.device.0)) {
        served.give_back(&data.tags);
    }
}

/// Puts the answer to a request that has ended behind what its client is to be sent.
fn answer(pending: Pending, served: &mut Served, connections: &mut [Option<Connection>]) {
    let Pending { connection, cookie, operation, offset, length, tags, error, .. } = pending;
    let Some(Some(connection)) = connections.get_mut(connection) else {
        served.give_back(&tags);
        return;
    };
    connection.pending -= 1;
    let structured = connection.structured;
    let reads = operation == Operation::Read && error.is_none();
    if connection.socket.is_none() || !reads {
        connection.held = connection.held.saturating_sub(tags.len() as u32);
        served.give_back(&tags);
    }
    if connection.socket.is_none() {
        served.orphans = served.orphans.saturating_sub(1);
        return;
    }
    let result = match error {
        Some(error) => Err(error),
        None => Ok(reads.then_some((offset, length))),
    };
    let data = reads.then_some(ReadData { device: served.device, tags, length });
    connection.reply(ReplyHead::new(structured, cookie, result), data);
}
