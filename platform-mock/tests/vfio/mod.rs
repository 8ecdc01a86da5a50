//! A card behind a real socket, for tests: the server on its thread, and clients of two kinds,
//! one that behaves ([`guest::Guest`]) and one that sends whatever bytes it likes ([`raw::Raw`]).

#![allow(dead_code, unreachable_pub, reason = "each test file is a crate that uses its part of it")]

pub mod guest;
pub mod raw;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fusion_mpt_mock::model::{Chip, Model, State};
use fusion_mpt_mock::target::Target;
use fusion_mpt_mock::vfio_user::{Card, Event, Server, Stop};

/// Nothing that a server does takes longer, on the slowest machine.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LIMIT, "{what}: it does not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A card that is served. The server must still be there when the test ends.
pub struct Served {
    pub card: Arc<Card>,
    path: PathBuf,
    events: Arc<Mutex<Vec<Event>>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Served {
    pub fn new(chip: Chip, disks: Vec<Target>) -> Self {
        let mut model = Model::new(chip);
        for (slot, disk) in disks.into_iter().enumerate() {
            assert!(model.add_disk(slot as u8, disk).is_ok());
        }
        let card = Card::new(model).expect("a thread");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("card");
        let server = Server::bind(&path, Arc::clone(&card)).expect("bound");
        let events = Arc::new(Mutex::new(Vec::new()));
        let stop = Stop::default();
        let thread = std::thread::spawn({
            let (stop, events) = (stop.clone(), Arc::clone(&events));
            move || {
                let mut tell = |event| events.lock().expect("whole").push(event);
                server.serve(&stop, &mut tell).expect("it serves");
            }
        });
        Self { card, path, events, stop, thread: Some(thread), _folder: folder }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What has happened since the last time.
    pub fn events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().expect("whole"))
    }

    /// Waits until the present client is gone; what was said at its end.
    #[track_caller]
    pub fn farewell(&self) -> Option<String> {
        let mut farewell = None;
        until("the client's end", || {
            for event in self.events() {
                if let Event::Disconnected(why) = event {
                    farewell = Some(why);
                }
            }
            farewell.is_some()
        });
        farewell.flatten()
    }

    pub fn state(&self) -> State {
        self.card.with_model(|model| model.state())
    }

    pub fn complaints(&self) -> Vec<String> {
        self.card.with_model(|model| model.complaints().to_vec())
    }

    /// Asks the server to end, and waits for it.
    #[track_caller]
    pub fn end(&mut self) {
        self.stop.stop();
        let Some(thread) = self.thread.take() else { return };
        until("the server's end", || thread.is_finished());
        assert!(thread.join().is_ok(), "the server panicked");
        assert!(!self.path.exists(), "its socket is still there");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
        self.stop.stop();
    }
}
