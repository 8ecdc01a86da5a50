//! The loop of one thread: requests out of its ring, commands to its queue of the controller,
//! results back into the ring, and sleep when neither side has anything.
//!
//! A turn makes one system call at most, which hands over the results of everything that has ended
//! since the last one and brings every request that has come.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::abi::IoDescriptor;
use super::inbox::Inbox;
use super::ring::{Event, Ring};
use crate::error::Error;
use crate::export::block::{Errno, Operation};
use crate::export::engine::{DeviceIndex, Engine, EngineCounters, Front};
use crate::export::unit::Unit;
use crate::host::{Buffer, CommandQueue};
use crate::waiting::{Pace, Waiting};

/// Bytes of a sector of the block layer.
const SECTOR_BYTES: u64 = 512;
/// The longest sleep while the controller has something: it must be told the time.
const BUSY_SLEEP: Duration = Duration::from_millis(20);
/// Turns after which the controller is looked at though its interrupt has not come: it must be told
/// the time.
const TURNS_BETWEEN_LOOKS: u32 = 64;
/// Commands that are few.
const FEW: u32 = 2;
/// Looks in vain between looks at the clock, which is slow on some machines.
const LOOKS_BETWEEN_TIMES: u32 = 8;
/// Turns between looks at what is rare.
const TURNS_BETWEEN_RARE: u32 = 1024;

/// What a server is told.
#[derive(Debug)]
pub enum ToServer {
    /// Serve a queue of a device.
    Serve {
        /// The device.
        device: u32,
        /// Its queue.
        queue: u16,
        /// `/dev/ublkcN`.
        file: Arc<File>,
        /// What is behind it.
        unit: Arc<Unit>,
        /// A buffer for each tag.
        buffers: Vec<Buffer>,
    },
    /// The unit behind a device is gone: everything of it ends with an error.
    End {
        /// The device.
        device: u32,
    },
    /// The unit behind a device has changed: it has grown.
    Changed {
        /// The device.
        device: u32,
        /// What it is now.
        unit: Arc<Unit>,
    },
    /// Nothing more will come.
    Stop,
}

/// What a server tells.
#[derive(Debug)]
pub enum FromServer {
    /// Requests of this queue are being fetched, or cannot be.
    Fetching {
        /// The device.
        device: u32,
        /// Its queue.
        queue: u16,
        /// Why not.
        refused: Option<Error>,
    },
    /// No request of this queue will come any more; its buffers are free.
    Released {
        /// The device.
        device: u32,
        /// Its queue.
        queue: u16,
        /// Its buffers.
        buffers: Vec<Buffer>,
    },
    /// The unit behind a device said that its capacity has changed.
    CapacityChanged {
        /// The device.
        device: u32,
    },
    /// The controller is lost, or the ring is.
    Lost(Error),
    /// A request could not be sent.
    Complaint {
        /// The device.
        device: u32,
        /// Why not.
        error: Error,
    },
}

#[derive(Debug)]
struct Place {
    index: DeviceIndex,
    device: u32,
    queue: u16,
    /// That it is being fetched is still to be told.
    untold: bool,
    ended: bool,
}

/// One thread's side of the export.
#[derive(Debug)]
pub struct Server<M> {
    engine: Engine,
    ring: Ring,
    inbox: Arc<Inbox<ToServer>>,
    tell: Sender<M>,
    places: Vec<Place>,
    waiting: Waiting,
    /// Whether the queue has an interrupt to sleep on; not known before it was asked.
    has_interrupt: Option<bool>,
    /// A look at the controller is a register read, and costs.
    looks_cost: bool,
    /// The interrupt is let pass, and tells of everything that comes.
    is_told: bool,
    /// How long to look before sleep, while commands are under way and while none is.
    busy: Pace,
    idle: Pace,
    /// Looks that have found nothing.
    looks: u32,
    /// The last turn has slept, or nothing has been looked at yet.
    slept: bool,
    /// The controller is lost: there is nothing to poll or to wait for.
    lost: bool,
    stopped: bool,
    /// Some place is untold.
    untold: bool,
    turns: u32,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It went on with requests.
    Worked,
    /// It found nothing to do, and looks again.
    Looked,
    /// It found nothing to do, and slept.
    Slept,
    /// It was told to stop, and serves nothing any more.
    Stopped,
}

impl<M: From<FromServer>> Server<M> {
    /// A server of this thread. `looks_cost`: the controller's replies are in a register (MPI 1.x),
    /// so that it is better to be told of them than to look.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when there can be no ring.
    pub fn new(
        inbox: Arc<Inbox<ToServer>>,
        tell: Sender<M>,
        waiting: Waiting,
        looks_cost: bool,
    ) -> Result<Self, Error> {
        let mut ring = Ring::new()?;
        ring.watch_inbox(inbox.fd().as_raw_fd());
        Ok(Self {
            engine: Engine::new(),
            ring,
            inbox,
            tell,
            places: Vec::new(),
            waiting,
            has_interrupt: None,
            looks_cost,
            is_told: false,
            busy: Pace::new(),
            idle: Pace::new(),
            looks: 0,
            slept: true,
            lost: false,
            stopped: false,
            untold: false,
            turns: 0,
        })
    }

    /// What its engine has done.
    #[must_use]
    pub const fn counters(&self) -> EngineCounters {
        self.engine.counters()
    }

    /// Has a unit put its cache on the medium, when nothing else of it is under way.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when it does not, or not within `limit`.
    pub fn flush(
        &mut self,
        queue: &mut dyn CommandQueue,
        unit: &Arc<Unit>,
        scratch: &Buffer,
        limit: Duration,
    ) -> Result<(), Error> {
        struct Told(Option<Result<u32, Errno>>);
        impl Front for Told {
            fn complete(&mut self, _: DeviceIndex, _: u16, result: Result<u32, Errno>) {
                self.0 = Some(result);
            }
        }
        let lost = |why: &str| {
            Error::failed(format!(
                "target {} did not flush its cache at the end ({why}): what was written last may be lost, compare it",
                unit.target.0
            ))
        };
        let mut told = Told(None);
        let index = self.engine.attach(Arc::clone(unit), vec![scratch.clone()]);
        self.engine.start(queue, index, 0, Operation::Flush, 0, 0);
        let deadline = queue.now() + limit;
        while told.0.is_none() && queue.now() < deadline {
            if self.engine.poll(queue, &mut told)? == 0 {
                queue.pause();
            }
        }
        self.engine.detach(index);
        match told.0 {
            Some(Ok(_)) => Ok(()),
            Some(Err(errno)) => Err(lost(&format!("errno {}", errno.0))),
            None => Err(lost("it did not answer")),
        }
    }

    /// Goes round once; waits for `longest` at most.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the ring does not work any more. That the controller is lost is told
    /// ([`FromServer::Lost`]), and every request ends in errors from then on.
    pub fn turn(&mut self, queue: &mut dyn CommandQueue, longest: Duration) -> Result<Turn, Error> {
        let (mut worked, mut inbox, mut interrupt, mut ended) = (false, false, false, false);
        let mut unwatched = false;
        let Self { engine, ring, places, .. } = self;
        ring.reap(&mut |event| match event {
            Event::Request { device, tag, descriptor } => {
                worked = true;
                start(engine, queue, device, tag, &descriptor);
            }
            Event::Ended { device, .. } => {
                ended = true;
                if let Some(place) = places.iter_mut().find(|place| place.index == device) {
                    place.ended = true;
                }
            }
            Event::Inbox { unwatched: again } => {
                inbox = true;
                unwatched |= again;
            }
            Event::Interrupt => interrupt = true,
        });
        let before = self.engine.started();
        self.turns = self.turns.wrapping_add(1);
        let in_vain = std::mem::take(&mut self.slept) && !worked;
        let look = interrupt
            || in_vain
            || !self.looks_cost
            || (self.engine.started() > 0 && (!self.is_told || self.is_worth_looking()))
            || self.turns.is_multiple_of(TURNS_BETWEEN_LOOKS);
        if let Err(error) = self.engine.poll_if(look, queue, &mut self.ring)
            && !std::mem::replace(&mut self.lost, true)
        {
            self.say(FromServer::Lost(error));
        }
        let ended_some = self.engine.started() != before;
        if interrupt || self.engine.has_found() {
            // The queue holds interrupts back from then on.
            self.is_told = false;
        }
        if ended_some {
            self.busy.found(|| queue.now());
        }
        if worked {
            self.idle.found(|| queue.now());
        }
        worked |= ended_some;
        if interrupt && !self.engine.has_found() {
            queue.wake();
        }
        if unwatched {
            self.ring.watch_inbox(self.inbox.fd().as_raw_fd());
        }
        worked |= self.ring.flush()?;
        if inbox || ended || self.untold || self.turns.is_multiple_of(TURNS_BETWEEN_RARE) {
            worked |= self.look_around()?;
        }
        if worked {
            return Ok(Turn::Worked);
        }
        if self.stopped && self.places.is_empty() {
            return Ok(Turn::Stopped);
        }
        self.rest(queue, longest)
    }

    /// Nothing has come: looks again, or sleeps.
    fn rest(&mut self, queue: &mut dyn CommandQueue, longest: Duration) -> Result<Turn, Error> {
        let is_busy = self.engine.started() > 0 && !self.lost;
        if is_busy && self.has_interrupt == Some(false) {
            // Only looking helps, so its own way to wait is taken.
            queue.pause();
            return Ok(Turn::Looked);
        }
        let may_tell = self.looks_cost && is_busy && self.has_interrupt != Some(false);
        if may_tell
            && !self.is_told
            && self.waiting == Waiting::Adaptive
            && !self.is_worth_looking()
        {
            // From now on the ring tells of the controller, too: to look there costs nothing.
            self.let_tell(queue)?;
            return Ok(Turn::Looked);
        }
        self.looks = self.looks.wrapping_add(1);
        if self.waiting == Waiting::Adaptive && !self.looks.is_multiple_of(LOOKS_BETWEEN_TIMES) {
            std::hint::spin_loop();
            return Ok(Turn::Looked);
        }
        let looks_again = match self.waiting {
            Waiting::Poll => is_busy,
            Waiting::Interrupt => false,
            Waiting::Adaptive if is_busy => self.busy.look_again(queue.now()),
            Waiting::Adaptive => self.idle.look_again(queue.now()),
        };
        if looks_again {
            std::hint::spin_loop();
            return Ok(Turn::Looked);
        }
        let due = self.engine.next_due().map(|due| due.saturating_sub(queue.now()));
        let limit = if is_busy { longest.min(BUSY_SLEEP) } else { longest };
        self.sleep(queue, limit.min(due.unwrap_or(limit)))
    }

    /// Whether to look is better than to be told though it costs: so few commands are under way that
    /// each is waited for.
    fn is_worth_looking(&self) -> bool {
        self.waiting == Waiting::Adaptive && self.engine.started() <= FEW
    }

    /// Lets the controller's interrupt pass, and has the ring tell of it. Whether it has one.
    fn let_tell(&mut self, queue: &mut dyn CommandQueue) -> Result<bool, Error> {
        let fd = queue.sleep_on().map(|fd| fd.as_raw_fd());
        self.has_interrupt = Some(fd.is_some());
        if let Some(fd) = fd {
            self.ring.watch_interrupt(fd);
            self.ring.flush()?;
            self.is_told = true;
        }
        Ok(fd.is_some())
    }

    /// Sleeps until a request, a message or the controller's interrupt comes.
    fn sleep(&mut self, queue: &mut dyn CommandQueue, limit: Duration) -> Result<Turn, Error> {
        // With nothing under way the controller has only news of disks, which can wait so long.
        let is_busy = self.engine.started() > 0 && !self.lost;
        if is_busy && self.waiting != Waiting::Poll && !self.is_told {
            let has_interrupt = self.let_tell(queue)?;
            if !has_interrupt {
                return Ok(Turn::Looked);
            }
            if has_interrupt && !self.looks_cost {
                // What came until now wakes nobody.
                let _ = self.engine.poll(queue, &mut self.ring);
                if self.engine.has_found() {
                    self.is_told = false;
                    self.ring.flush()?;
                    return Ok(Turn::Looked);
                }
            }
        }
        self.ring.sleep(limit)?;
        self.slept = true;
        Ok(Turn::Slept)
    }

    /// Messages, queues that have ended, and what is rare. Whether there was anything.
    #[inline(never)]
    fn look_around(&mut self) -> Result<bool, Error> {
        let mut found = false;
        self.untold = false;
        if let Some((index, error)) = self.engine.take_complaint()
            && let Some(place) = self.places.iter().find(|place| place.index == index)
        {
            self.say(FromServer::Complaint { device: place.device, error });
        }
        let mut at = 0;
        while let Some(place) = self.places.get_mut(at) {
            let (index, device, queue) = (place.index, place.device, place.queue);
            if std::mem::take(&mut place.untold) {
                // The kernel says at once what it does not take.
                let refused = self.ring.refused(index).map(|result| {
                    Error::failed(format!(
                        "the kernel does not let queue {queue} of /dev/ublkb{device} be served: {}; see `dmesg`",
                        std::io::Error::from_raw_os_error(-result)
                    ))
                });
                self.say(FromServer::Fetching { device, queue, refused });
            }
            if self.engine.take_capacity_changed(index) {
                self.say(FromServer::CapacityChanged { device });
            }
            let ended = self.places.get(at).is_some_and(|place| place.ended);
            match ended.then(|| self.engine.detach(index)).flatten() {
                Some(buffers) => {
                    self.ring.release(index);
                    self.places.swap_remove(at);
                    self.say(FromServer::Released { device, queue, buffers });
                    found = true;
                }
                None => at += 1,
            }
        }
        for message in self.inbox.take() {
            found = true;
            match message {
                ToServer::Serve { device, queue, file, unit, buffers } => {
                    self.serve(device, queue, file, unit, buffers);
                }
                ToServer::End { device } => {
                    let engine = &mut self.engine;
                    let its = self.places.iter().filter(|place| place.device == device);
                    its.for_each(|place| engine.end_device(place.index));
                }
                ToServer::Changed { device, unit } => {
                    let engine = &mut self.engine;
                    let its = self.places.iter().filter(|place| place.device == device);
                    its.for_each(|place| engine.set_unit(place.index, Arc::clone(&unit)));
                }
                ToServer::Stop => self.stopped = true,
            }
        }
        Ok(found)
    }

    fn serve(
        &mut self,
        device: u32,
        queue: u16,
        file: Arc<File>,
        unit: Arc<Unit>,
        buffers: Vec<Buffer>,
    ) {
        let addresses = buffers.iter().map(|buffer| buffer.pointer().as_ptr() as u64).collect();
        let index = self.engine.attach(unit, buffers);
        if self.lost {
            self.engine.end_device(index);
        }
        match self.ring.serve(index, queue, file, addresses) {
            Ok(()) => {
                self.places.push(Place { index, device, queue, untold: true, ended: false });
                self.untold = true;
            }
            Err(error) => {
                self.ring.release(index);
                let buffers = self.engine.detach(index).unwrap_or_default();
                self.say(FromServer::Fetching { device, queue, refused: Some(error) });
                self.say(FromServer::Released { device, queue, buffers });
            }
        }
    }

    fn say(&self, what: FromServer) {
        // When nobody listens any more, everything is at its end.
        let _ = self.tell.send(what.into());
    }
}

/// Stands in for a server that cannot work: whatever it is to serve is refused, until it is told to
/// stop.
pub fn refuse_all<M: From<FromServer>>(inbox: &Inbox<ToServer>, tell: &Sender<M>, why: &Error) {
    let say = |what: FromServer| {
        let _ = tell.send(what.into());
    };
    say(FromServer::Lost(why.clone()));
    loop {
        for message in inbox.take() {
            match message {
                ToServer::Serve { device, queue, buffers, .. } => {
                    say(FromServer::Fetching { device, queue, refused: Some(why.clone()) });
                    say(FromServer::Released { device, queue, buffers });
                }
                ToServer::Stop => return,
                ToServer::End { .. } | ToServer::Changed { .. } => {}
            }
        }
        std::thread::sleep(BUSY_SLEEP);
    }
}

/// Starts what the kernel asks for.
#[inline]
fn start(
    engine: &mut Engine,
    queue: &mut dyn CommandQueue,
    device: DeviceIndex,
    tag: u16,
    descriptor: &IoDescriptor,
) {
    let flags = descriptor.operation;
    let operation = match flags & 0xff {
        IoDescriptor::READ => Operation::Read,
        IoDescriptor::WRITE => Operation::Write { fua: flags & IoDescriptor::FUA != 0 },
        IoDescriptor::FLUSH => Operation::Flush,
        IoDescriptor::DISCARD => Operation::Discard,
        IoDescriptor::WRITE_ZEROES => {
            Operation::WriteZeroes { may_unmap: flags & IoDescriptor::NO_UNMAP == 0 }
        }
        _ => return engine.refuse(device, tag, Errno::NOT_SUPPORTED),
    };
    let offset = descriptor.first.wrapping_mul(SECTOR_BYTES);
    let bytes = u64::from(descriptor.sectors) * SECTOR_BYTES;
    engine.start(queue, device, tag, operation, offset, bytes);
}
