//! The kernel's own NBD client on our server: `/dev/nbdN` without any other program.
//!
//! The kernel gets one end of a socket pair by netlink (`linux/nbd-netlink.h`), the server
//! [adopts](Server::adopt) the other; there is no handshake. Each device carries our name for its
//! unit (`/sys/block/nbdN/backend`), so that a server that is started again after it was killed
//! finds its devices, with the file systems on them still mounted, and gives them a new connection.
//! Until then the kernel holds their requests back, for [`DEAD_CONNECTION_LIMIT`] at most; those that
//! had been sent it sends again [`REQUEST_LIMIT`] after it first sent them.
//!
//! What is asked of the kernel waits for its locks, which may wait for answers of the server. It is
//! therefore asked in a thread of its own.

mod asking;

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::Server;
use super::netlink::Family;
use crate::error::Error;
use crate::export::engine::{DeviceIndex, Engine};
use asking::{Job, Settings, Told, Worker, backend_of, node};

/// How long the kernel waits for an answer before it takes the connection for dead, and sends the
/// request again on the next one. Recovery of a controller may take that long.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// How long the kernel waits for a new connection before requests fail.
pub const DEAD_CONNECTION_LIMIT: Duration = Duration::from_secs(180);
/// How often in a row a connection may end at once.
const ATTEMPTS: u32 = 5;
/// A connection that lasts this long was a good one.
const GOOD: Duration = Duration::from_secs(5);
/// Between such attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// What became of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is there.
    Attached {
        /// Of the engine.
        device: DeviceIndex,
        /// `/dev/nbdN`.
        path: PathBuf,
        /// It was there before, and goes on.
        again: bool,
    },
    /// Somebody has disconnected it.
    Detached {
        /// Of the engine.
        device: DeviceIndex,
        /// `/dev/nbdN`.
        path: PathBuf,
    },
    /// It could not be attached, or could not be kept.
    Failed {
        /// Of the engine.
        device: DeviceIndex,
        /// Why.
        error: Error,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The kernel is being asked.
    Asked,
    /// It has the device.
    Attached,
    /// It is to be asked again from then on.
    Later(Instant),
}

#[derive(Debug)]
struct Attachment {
    device: DeviceIndex,
    settings: Settings,
    index: Option<u32>,
    state: State,
    /// When the kernel was last given a connection.
    since: Instant,
    attempts: u32,
}

/// Whether the kernel has an NBD client.
///
/// # Errors
///
/// [`Error::Failed`] with what to do when it has none, or none for this user.
pub fn check() -> Result<(), Error> {
    client().map(drop)
}

fn client() -> Result<Family, Error> {
    Family::open("nbd").map_err(|error| match error {
        Errno::NOENT => Error::failed(
            "the kernel's NBD client is not loaded; load it with `modprobe nbd`, or leave out --attach",
        ),
        error => Error::failed(format!(
            "cannot talk to the kernel's NBD client: {error}; run as root, or leave out --attach"
        )),
    })
}

/// The devices of the kernel's NBD client that are ours.
#[derive(Debug)]
pub struct Attachments {
    all: Vec<Attachment>,
    jobs: Option<Sender<Job>>,
    told: Receiver<Told>,
    thread: Option<JoinHandle<()>>,
    root: PathBuf,
}

impl Attachments {
    /// Finds the kernel's client. To be called by the thread that runs the server: writing back
    /// dirty memory must not wait for memory that only writing back can free.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the kernel has no NBD client, or none for this user.
    pub fn new() -> Result<Self, Error> {
        let family = client()?;
        // Without it everything works until memory is short.
        let _ = rustix::process::configure_io_flusher_behavior(true);
        let root = PathBuf::from("/");
        let (jobs, inbox) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let worker = Worker { family, root: root.clone(), tell };
        let thread = std::thread::Builder::new()
            .name("nbd-attach".into())
            .spawn(move || worker.run(&inbox))
            .map_err(|error| {
                Error::failed(format!("cannot start a thread: {error}; raise `ulimit -u`"))
            })?;
        Ok(Self { all: Vec::new(), jobs: Some(jobs), told, thread: Some(thread), root })
    }

    /// Has the kernel attach a device that the server serves: one of its own that was left behind by
    /// a server before us, or else a free one. A later [`Attachments::turn`] tells how it went.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the system has no sockets left.
    pub fn attach(
        &mut self,
        server: &mut Server,
        engine: &Engine,
        device: DeviceIndex,
    ) -> Result<(), Error> {
        let Some(unit) = engine.unit(device) else { return Ok(()) };
        let settings = Settings::of(unit);
        self.connect(server, device, &settings)?;
        self.all.push(Attachment {
            device,
            settings,
            index: None,
            state: State::Asked,
            since: Instant::now(),
            attempts: 0,
        });
        Ok(())
    }

    fn connect(
        &self,
        server: &mut Server,
        device: DeviceIndex,
        settings: &Settings,
    ) -> Result<(), Error> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, kernels) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| {
                Error::failed(format!(
                    "cannot make a socket for the kernel: {error}; raise the limit of open files with `ulimit -n`"
                ))
            })?;
        server.adopt(device, ours)?;
        self.send(Job::Attach { device, settings: settings.clone(), socket: kernels });
        Ok(())
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread lives until the channel is closed.
            let _ = jobs.send(job);
        }
    }

    /// What happened since the last call, and what is to be done about it: a connection that the
    /// kernel has given up is replaced once its requests have ended. To be called often.
    pub fn turn(&mut self, server: &mut Server) -> Vec<Event> {
        let mut events = Vec::new();
        while let Ok(told) = self.told.try_recv() {
            events.extend(self.take(told));
        }
        for at in 0..self.all.len() {
            events.extend(self.look_after(at, server));
        }
        events
    }

    fn take(&mut self, told: Told) -> Option<Event> {
        let Told { device, result } = told;
        let at = self.all.iter().position(|a| a.device == device && a.state == State::Asked)?;
        match result {
            Ok((index, again)) => {
                let attachment = self.all.get_mut(at)?;
                let known = attachment.index == Some(index);
                attachment.index = Some(index);
                attachment.state = State::Attached;
                attachment.since = Instant::now();
                (!known).then(|| Event::Attached { device, path: node(index), again })
            }
            Err(error) => {
                self.all.remove(at);
                Some(Event::Failed { device, error })
            }
        }
    }

    fn look_after(&mut self, at: usize, server: &mut Server) -> Option<Event> {
        let now = Instant::now();
        let attachment = self.all.get_mut(at)?;
        let (device, index) = (attachment.device, attachment.index?);
        match attachment.state {
            State::Attached if !server.has_adopted(device) => {
                let path = node(index);
                let backend = backend_of(&self.root, index);
                if server.take_farewell(device)
                    || backend.as_ref() != Some(&attachment.settings.backend)
                {
                    self.all.remove(at);
                    return Some(Event::Detached { device, path });
                }
                if now.saturating_duration_since(attachment.since) > GOOD {
                    attachment.attempts = 0;
                }
                attachment.attempts += 1;
                if attachment.attempts > ATTEMPTS {
                    self.all.remove(at);
                    let error = Error::failed(format!(
                        "{} takes no connection of ours; another server may have it, see `cat /sys/block/nbd{index}/pid`, and `nbd-client -d {}` frees it",
                        path.display(),
                        path.display()
                    ));
                    return Some(Event::Failed { device, error });
                }
                let pause = if attachment.attempts > 1 { PAUSE } else { Duration::ZERO };
                attachment.state = State::Later(now + pause);
            }
            State::Later(due) if due <= now => {
                attachment.state = State::Asked;
                let settings = attachment.settings.clone();
                if let Err(error) = self.connect(server, device, &settings) {
                    self.all.remove(at);
                    return Some(Event::Failed { device, error });
                }
            }
            _ => {}
        }
        None
    }

    /// The unit has another size now, and the kernel is told.
    pub fn resize(&mut self, engine: &Engine, device: DeviceIndex) {
        let Some(unit) = engine.unit(device) else { return };
        let settings = Settings::of(unit);
        let found = self.all.iter_mut().find(|attachment| attachment.device == device);
        let Some(attachment) = found else { return };
        attachment.settings = settings.clone();
        if let Some(index) = attachment.index {
            self.send(Job::Resize { index, settings });
        }
    }

    /// Has the kernel let go of a device. What it still held in memory for it is written first, if
    /// `sync` says so; where the unit is gone, that could only fail.
    pub fn detach(&mut self, device: DeviceIndex, sync: bool) {
        let Some(at) = self.all.iter().position(|attachment| attachment.device == device) else {
            return;
        };
        let Settings { backend, .. } = self.all.remove(at).settings;
        self.send(Job::Detach { backend, sync });
    }

    /// Whether there is none, nor one on its way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether the kernel has said of each of them that it has it, or that it has not.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.all.iter().all(|attachment| attachment.index.is_some())
    }

    /// Where a device is attached.
    #[must_use]
    pub fn path(&self, device: DeviceIndex) -> Option<PathBuf> {
        self.all.iter().find(|attachment| attachment.device == device)?.index.map(node)
    }

    /// Has the kernel let go of every device. The server must go on until
    /// [it is done](Attachments::is_done): what the kernel held in memory is written first.
    pub fn shut_down(&mut self) {
        for attachment in std::mem::take(&mut self.all) {
            self.send(Job::Detach { backend: attachment.settings.backend, sync: true });
        }
        self.jobs = None;
    }

    /// Whether the kernel has let go of everything, after [`Attachments::shut_down`].
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}
