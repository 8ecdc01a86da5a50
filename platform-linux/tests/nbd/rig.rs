//! A software controller whose disks are served.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use fusion_mpt_linux::bus_name::{BusName, MockChip};
use fusion_mpt_linux::disk;
use fusion_mpt_linux::export::engine::{DeviceIndex, Engine, EngineCounters};
use fusion_mpt_linux::export::nbd::{Address, Server};
use fusion_mpt_linux::export::unit::{self, Unit};
use fusion_mpt_linux::host::Host;
use fusion_mpt_linux::open::with_host;
use fusion_mpt_linux::session::Options;
use tempfile::TempDir;

/// Bytes of a tag's buffer: small, so that requests are spread over several.
pub(crate) const PIECE: usize = 64 << 10;
const TAGS: usize = 32;

/// What the server's thread holds.
pub(crate) struct Inside<'i> {
    pub(crate) server: &'i mut Server,
    pub(crate) engine: &'i mut Engine,
}

type Job = Box<dyn FnOnce(&mut Inside<'_>) + Send>;

/// A server in a thread of its own.
pub(crate) struct Rig {
    pub(crate) socket: PathBuf,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<EngineCounters>>,
    _folder: TempDir,
}

impl Rig {
    /// Two disks of 64 MiB, `target0` with blocks of 512 bytes and `target1` with blocks of 4096.
    pub(crate) fn new() -> Self {
        Self::with(MockChip::Sas2008, |unit| unit)
    }

    /// The same, with units that say something else of themselves.
    pub(crate) fn with(chip: MockChip, change: impl Fn(Unit) -> Unit + Send + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("nbd.sock");
        let address = Address::Unix(socket.clone());
        Self::at(chip, change, address, socket, folder)
    }

    /// A server on a port; the path stays without a socket.
    pub(crate) fn on_loopback() -> (Self, std::net::SocketAddr) {
        let folder = tempfile::tempdir().expect("a folder");
        let address = "127.0.0.1:0".parse().expect("an address");
        let socket = folder.path().join("none");
        let rig = Self::at(MockChip::Sas2008, |unit| unit, address, socket, folder);
        let bound = rig.inside(|inside| inside.server.address().cloned());
        let Some(Address::Tcp(bound)) = bound else { panic!("a port") };
        (rig, bound)
    }

    fn at(
        chip: MockChip,
        change: impl Fn(Unit) -> Unit + Send + 'static,
        address: Address,
        socket: PathBuf,
        folder: TempDir,
    ) -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            with_host(Options::new(BusName::Mock(chip)), |host| {
                let (mut server, mut engine) =
                    (Server::listen(Some(&address)).expect("to listen"), Engine::new());
                for number in [0, 1] {
                    let device = attach(host, &mut engine, number, &change);
                    server.add_unit(&engine, device);
                }
                ready.send(()).expect("somebody waits");
                loop {
                    match inbox.try_recv() {
                        Ok(job) => job(&mut Inside { server: &mut server, engine: &mut engine }),
                        Err(mpsc::TryRecvError::Empty) => {}
                        Err(mpsc::TryRecvError::Disconnected) => break,
                    }
                    if !server.turn(&mut engine, host).expect("a controller") {
                        host.pause();
                    }
                }
                server.shut_down();
                while engine.started() > 0 {
                    server.turn(&mut engine, host).expect("a controller");
                }
                Ok(engine.counters())
            })
            .expect("a session")
        });
        is_ready.recv().expect("a server");
        Self { socket, jobs: Some(jobs), thread: Some(thread), _folder: folder }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.socket
    }

    /// Does something in the server's thread, between turns.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Inside<'_>) -> T + Send + 'static,
    ) -> T {
        let (done, result) = mpsc::channel();
        let job: Job = Box::new(move |inside| done.send(job(inside)).expect("somebody waits"));
        self.jobs.as_ref().expect("a server").send(job).expect("a server");
        result.recv().expect("a result")
    }

    /// What the engine has done so far.
    pub(crate) fn counters(&self) -> EngineCounters {
        self.inside(|inside| inside.engine.counters())
    }

    /// Ends the server as a user would, and the session with it.
    pub(crate) fn finish(mut self) -> EngineCounters {
        self.jobs = None;
        self.thread.take().expect("a thread").join().expect("a server that did not panic")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            assert!(joined.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}

fn attach(
    host: &mut dyn Host,
    engine: &mut Engine,
    number: u16,
    change: &impl Fn(Unit) -> Unit,
) -> DeviceIndex {
    let scratch = host.allocate(unit::BUFFER_BYTES).expect("memory");
    let target = disk::find_target(host, number).expect("a disk").id;
    let unit = change(Unit::read(host, &scratch, target, 0).expect("a unit"));
    let buffers = (0..TAGS).map(|_| host.allocate(PIECE).expect("memory")).collect();
    engine.attach(Arc::new(unit), buffers)
}
