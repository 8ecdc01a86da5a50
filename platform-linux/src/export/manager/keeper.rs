//! The control thread: makes, starts, stops and deletes block devices, while the other threads
//! serve them. Every command to the kernel here may wait for those.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use rustix::fs::syncfs;

use super::{Exported, Note, ToMain};
use crate::error::Error;
use crate::export::state::{Entry, State};
use crate::export::ublk::abi::{DeviceInfo, DeviceState, Features};
use crate::export::ublk::control::Control;
use crate::export::ublk::inbox::Inbox;
use crate::export::ublk::parameters::parameters;
use crate::export::ublk::server::{FromServer, ToServer};
use crate::export::unit::Unit;
use crate::host::Buffer;
use crate::pci::{By, System};

/// How long the kernel may take to be done with a server that was killed.
const QUIESCE_LIMIT: Duration = Duration::from_secs(30);

/// A unit that is to be exported.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) unit: Arc<Unit>,
    pub(super) identity: Option<String>,
    /// For each queue a buffer for each tag.
    pub(super) buffers: Vec<Vec<Buffer>>,
    pub(super) buffer_bytes: u32,
    /// The device of a server that is gone, to go on with.
    pub(super) recover: Option<u32>,
}

/// What the control thread is told.
#[derive(Debug)]
pub(super) enum ToKeeper {
    Export(Box<Wanted>),
    /// The unit behind a device is gone.
    Gone(u32),
    /// It has grown.
    Grown(u32, Arc<Unit>),
    /// A device that is nobody's any more.
    Forget(u32, String),
    /// Everything is to end in order.
    Shutdown,
    Server(FromServer),
}

impl From<FromServer> for ToKeeper {
    fn from(message: FromServer) -> Self {
        Self::Server(message)
    }
}

#[derive(Debug)]
struct Device {
    id: u32,
    unit: Arc<Unit>,
    queues: u16,
    /// Queues whose requests are being fetched.
    fetching: u16,
    refused: Option<Error>,
    /// Buffers of the queues that have ended.
    released: Vec<Vec<Buffer>>,
}

pub(super) struct Keeper {
    pub(super) control: Control,
    pub(super) state: State,
    pub(super) servers: Vec<Arc<Inbox<ToServer>>>,
    pub(super) receive: Receiver<ToKeeper>,
    pub(super) tell: Sender<ToMain>,
    devices: Vec<Device>,
    /// Messages that came while something else was waited for.
    put_off: VecDeque<ToKeeper>,
}

impl Keeper {
    pub(super) fn new(
        control: Control,
        state: State,
        servers: Vec<Arc<Inbox<ToServer>>>,
        receive: Receiver<ToKeeper>,
        tell: Sender<ToMain>,
    ) -> Self {
        let (devices, put_off) = (Vec::new(), VecDeque::new());
        Self { control, state, servers, receive, tell, devices, put_off }
    }

    /// Does what it is told until everything has ended.
    pub(super) fn run(mut self) {
        loop {
            let message = match self.put_off.pop_front() {
                Some(message) => message,
                None => match self.receive.recv() {
                    Ok(message) => message,
                    Err(_) => return,
                },
            };
            match message {
                ToKeeper::Export(wanted) => self.export(*wanted),
                ToKeeper::Gone(id) => self.gone(id),
                ToKeeper::Grown(id, unit) => self.grown(id, unit),
                ToKeeper::Forget(id, why) => {
                    self.discard(id);
                    self.note(Note::Said(why));
                }
                ToKeeper::Server(message) => self.heard(message),
                ToKeeper::Shutdown => {
                    self.shutdown();
                    return;
                }
            }
        }
    }

    fn say(&self, message: ToMain) {
        let _ = self.tell.send(message);
        if let Some(main) = self.servers.first() {
            main.wake();
        }
    }

    fn note(&self, note: Note) {
        self.say(ToMain::Note(note));
    }

    fn heard(&mut self, message: FromServer) {
        let find =
            |devices: &mut Vec<Device>, id: u32| devices.iter().position(|device| device.id == id);
        match message {
            FromServer::Fetching { device, refused, .. } => {
                if let Some(at) = find(&mut self.devices, device)
                    && let Some(device) = self.devices.get_mut(at)
                {
                    device.fetching += 1;
                    device.refused = device.refused.take().or(refused);
                }
            }
            FromServer::Released { device, buffers, .. } => {
                if let Some(at) = find(&mut self.devices, device)
                    && let Some(device) = self.devices.get_mut(at)
                {
                    device.released.push(buffers);
                }
            }
            FromServer::CapacityChanged { device } => self.say(ToMain::CapacityChanged(device)),
            FromServer::Lost(error) => self.say(ToMain::Lost(error)),
            FromServer::Complaint { device, error } => self.say(ToMain::Complaint(device, error)),
        }
    }

    /// Listens to servers alone until that is so of a device.
    fn wait_for(&mut self, id: u32, so: impl Fn(&Device) -> bool) {
        while let Some(device) = self.devices.iter().find(|device| device.id == id) {
            if so(device) {
                return;
            }
            match self.receive.recv() {
                Ok(ToKeeper::Server(message)) => self.heard(message),
                Ok(other) => self.put_off.push_back(other),
                Err(_) => return,
            }
        }
    }

    fn export(&mut self, wanted: Wanted) {
        let (unit, identity) = (Arc::clone(&wanted.unit), wanted.identity.clone());
        if let Err(error) = self.try_export(wanted) {
            self.say(ToMain::NotExported { unit, identity, error });
        }
    }

    fn try_export(&mut self, wanted: Wanted) -> Result<(), Error> {
        let Wanted { unit, identity, buffers, buffer_bytes, recover } = wanted;
        let queues = buffers.len() as u16;
        let depth = buffers.first().map_or(0, Vec::len) as u16;
        let id = match recover {
            Some(id) => {
                self.take_over(id)?;
                id
            }
            None => {
                let recovery = Features::USER_RECOVERY | Features::USER_RECOVERY_REISSUE;
                // Without a name that lasts, the next export could not tell whose it is.
                let lasts = identity.is_some();
                let features =
                    if lasts { recovery & self.control.features() } else { Features::empty() };
                let fingerprint = identity.as_deref().map_or(0, Entry::fingerprint);
                let resizable = self.control.features() & Features::UPDATE_SIZE;
                let info = self.control.add(&DeviceInfo {
                    queues,
                    depth,
                    buffer_bytes,
                    device: u32::MAX,
                    server: -1,
                    features: (features | resizable | Features::IOCTL_ENCODE).bits(),
                    server_flags: fingerprint,
                    ..DeviceInfo::default()
                })?;
                let told = parameters(&unit, info.buffer_bytes);
                if let Err(error) = self.control.set_parameters(info.device, &told) {
                    let _ = self.control.delete(info.device);
                    return Err(error);
                }
                info.device
            }
        };
        // udev asks for it while the device is started.
        let known = identity.as_deref().unwrap_or_default();
        if let Err(error) = self.state.note(Entry::new(id, known, &unit)) {
            self.note(Note::Said(format!("{error}; after a kill the device cannot be recovered")));
        }
        let granted = self.control.info(id).map_or(queues, |info| info.queues).min(queues);
        self.devices.push(Device {
            id,
            unit: Arc::clone(&unit),
            queues: granted,
            fetching: 0,
            refused: None,
            released: Vec::new(),
        });
        let started = self.start(id, granted, &unit, buffers, recover.is_some());
        if let Err(error) = started {
            // Whoever fetches is told that nothing will come.
            self.discard(id);
            return Err(error);
        }
        let path = PathBuf::from(format!("/dev/ublkb{id}"));
        self.say(ToMain::Exported(Box::new(Exported {
            device: id,
            path,
            unit: Arc::clone(&unit),
            identity,
            queues: granted,
            depth,
            buffer_bytes,
            recovered: recover.is_some(),
        })));
        // The kernel knows the size that it had for the export before, and it may have grown since.
        if recover.is_some() && kernels_sectors(id).is_some_and(|its| its < unit.bytes() / 512) {
            self.grown(id, unit);
        }
        Ok(())
    }

    fn start(
        &mut self,
        id: u32,
        queues: u16,
        unit: &Arc<Unit>,
        buffers: Vec<Vec<Buffer>>,
        recovers: bool,
    ) -> Result<(), Error> {
        let file = Arc::new(Control::open_device(id)?);
        let servers = self.servers.iter().cycle();
        let mut buffers = buffers.into_iter();
        for (queue, server) in (0..queues).zip(servers) {
            let buffers = buffers.next().unwrap_or_default();
            let (unit, file) = (Arc::clone(unit), Arc::clone(&file));
            server.send(ToServer::Serve { device: id, queue, file, unit, buffers });
        }
        drop(file);
        // Those of queues that were not granted.
        for buffers in buffers {
            self.say(ToMain::Buffers(buffers));
        }
        self.wait_for(id, |device| device.fetching == device.queues);
        let device = self.devices.iter_mut().find(|device| device.id == id);
        if let Some(refused) = device.and_then(|device| device.refused.take()) {
            return Err(refused);
        }
        if recovers { self.control.end_recovery(id) } else { self.control.start(id) }
    }

    /// Takes over a device whose server has been killed, as soon as the kernel is done with that.
    fn take_over(&mut self, id: u32) -> Result<(), Error> {
        let begun = Instant::now();
        while !self.control.start_recovery(id)? {
            if begun.elapsed() > QUIESCE_LIMIT {
                return Err(Error::failed(format!(
                    "the kernel has not let go of /dev/ublkb{id} for {} s after its server was killed; see `dmesg`",
                    QUIESCE_LIMIT.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends a device: what is under way, its queues, itself.
    fn end(&mut self, id: u32) {
        if let Err(error) = self.control.stop(id) {
            self.note(Note::Said(error.to_string()));
        }
        self.discard(id);
    }

    /// Deletes a device; its buffers are free then.
    fn discard(&mut self, id: u32) {
        let is_served = self.devices.iter().any(|device| device.id == id);
        // To delete it is to stop it first, if it has been started.
        if let Err(error) = self.control.delete(id) {
            self.note(Note::Said(error.to_string()));
        }
        if is_served {
            self.wait_for(id, |device| device.released.len() >= usize::from(device.fetching));
        }
        if let Err(error) = self.state.forget(id) {
            self.note(Note::Said(error.to_string()));
        }
        if let Some(at) = self.devices.iter().position(|device| device.id == id) {
            let device = self.devices.swap_remove(at);
            for buffers in device.released {
                self.say(ToMain::Buffers(buffers));
            }
        }
    }

    fn gone(&mut self, id: u32) {
        if !self.devices.iter().any(|device| device.id == id) {
            return;
        }
        let users = users(id);
        for server in &self.servers {
            server.send(ToServer::End { device: id });
        }
        self.end(id);
        self.note(Note::Ended { device: id, users, why: "its disk is gone".into() });
        self.say(ToMain::Removed(id));
    }

    fn grown(&mut self, id: u32, unit: Arc<Unit>) {
        let Some(device) = self.devices.iter_mut().find(|device| device.id == id) else { return };
        device.unit = Arc::clone(&unit);
        for server in &self.servers {
            server.send(ToServer::Changed { device: id, unit: Arc::clone(&unit) });
        }
        let bytes = unit.bytes();
        let told = if self.control.features().contains(Features::UPDATE_SIZE) {
            self.control.update_size(id, bytes / 512).err()
        } else {
            Some(Error::failed(format!(
                "this kernel's ublk cannot tell (Linux 6.16 and later can): unmount what is on /dev/ublkb{id}, end this export and start it again to use the rest"
            )))
        };
        self.note(Note::Grown { device: id, bytes, but: told.map(|error| error.to_string()) });
    }

    /// Everything ends in order: what file systems hold back is written, devices are stopped, which
    /// drains them, and deleted; then the servers are free.
    fn shutdown(&mut self) {
        let ids: Vec<u32> = self.devices.iter().map(|device| device.id).collect();
        for id in &ids {
            let users = users(*id);
            if !users.is_empty() {
                self.note(Note::Said(format!(
                    "/dev/ublkb{id} is in use ({}); what was written is put on the disk now, and what is done after that fails",
                    users.join("; ")
                )));
            }
            sync(*id);
        }
        for id in ids {
            self.end(id);
            self.say(ToMain::Removed(id));
        }
        for server in &self.servers {
            server.send(ToServer::Stop);
        }
        self.say(ToMain::Stopped);
    }
}

/// The size that the kernel gives a device, in sectors of 512 bytes.
fn kernels_sectors(id: u32) -> Option<u64> {
    std::fs::read_to_string(format!("/sys/block/ublkb{id}/size")).ok()?.trim().parse().ok()
}

/// Who uses a device, each in words; not whoever only has it open for a moment, as this process.
fn users(id: u32) -> Vec<String> {
    let found = System::real().users_of(&format!("ublkb{id}"));
    found.iter().map(ToString::to_string).collect()
}

/// Has the kernel write what it holds back of a device: of the file systems on it, then of itself.
fn sync(id: u32) {
    let name = format!("ublkb{id}");
    for holder in System::real().users_of(&name) {
        let By::Mounted(points) = holder.by else { continue };
        for point in points {
            // Where it cannot, the device's own end says more.
            if let Ok(folder) = OpenOptions::new().read(true).open(&point) {
                let _ = syncfs(&folder);
            }
        }
    }
    if let Ok(device) = OpenOptions::new().read(true).write(true).open(format!("/dev/{name}")) {
        let _ = device.sync_all();
    }
}

/// Whether the process still is.
fn lives(process: i32) -> bool {
    rustix::process::Pid::from_raw(process).is_some_and(|pid| {
        !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
    })
}

/// A device that an earlier export left, as it can be gone on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) identity: String,
    pub(super) info: DeviceInfo,
}

/// Looks at what an earlier export left: what can be gone on with comes back, what cannot and is
/// ours is deleted, and what is somebody else's is forgotten.
///
/// # Errors
///
/// [`Error::Failed`] when another process serves one of the devices.
pub(super) fn left_behind(
    control: &mut Control,
    state: &mut State,
    notes: &mut Vec<Note>,
) -> Result<Vec<Left>, Error> {
    let mut left = Vec::new();
    for entry in state.entries().to_vec() {
        let begun = Instant::now();
        loop {
            let info = control.info(entry.device);
            let ours = info.filter(|info| info.server_flags == Entry::fingerprint(&entry.identity));
            let Some(info) = ours.filter(|_| !entry.identity.is_empty()) else {
                // A number that was given to another device since then.
                state.forget(entry.device)?;
                break;
            };
            let recovers =
                Features::from_bits_retain(info.features).contains(Features::USER_RECOVERY);
            match DeviceState(info.state) {
                DeviceState::QUIESCED if recovers => {
                    left.push(Left { identity: entry.identity.clone(), info });
                    break;
                }
                DeviceState::LIVE if lives(info.server) => {
                    return Err(Error::failed(format!(
                        "/dev/ublkb{} is served by process {}; end that one first",
                        entry.device, info.server
                    )));
                }
                // The kernel is not done yet with the server that was killed.
                DeviceState::LIVE if begun.elapsed() < QUIESCE_LIMIT => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                _ => {
                    control.delete(entry.device)?;
                    state.forget(entry.device)?;
                    notes.push(Note::Said(format!(
                        "/dev/ublkb{} of an export that was killed could not be gone on with (this kernel's ublk has no user recovery, or it had not been started) and was deleted; its disk is exported anew",
                        entry.device
                    )));
                    break;
                }
            }
        }
    }
    Ok(left)
}
