//! The control socket: a thread that takes clients, and one for each of them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Controlled;
use super::message::{Reply, Request};
use super::panel::Panel;
use crate::own_socket::{OwnSocket, SocketError};

/// The longest line that is taken.
const LONGEST_LINE: u64 = 64 << 10;
/// Clients at a time.
const MOST_CLIENTS: usize = 32;
/// How long a client may leave its answer unread.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// A listening control socket. Dropping it ends all connections and removes the socket.
#[derive(Debug)]
pub struct Server {
    socket: OwnSocket,
    stop: Arc<AtomicBool>,
    clients: Clients,
    thread: Option<JoinHandle<()>>,
}

type Clients = Arc<Mutex<Vec<(UnixStream, JoinHandle<()>)>>>;

impl Server {
    /// Listens at `path` ([`OwnSocket::listen`]) and answers for `panel` in threads of its own.
    ///
    /// # Errors
    ///
    /// As [`OwnSocket::listen`].
    ///
    /// # Panics
    ///
    /// If the system gives no thread.
    pub fn start<C: Controlled>(path: &Path, panel: Arc<Panel<C>>) -> Result<Self, SocketError> {
        let (listener, socket) = OwnSocket::listen(path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let clients = Clients::default();
        let thread = thread::Builder::new()
            .name("control".into())
            .spawn({
                let (stop, clients) = (Arc::clone(&stop), Arc::clone(&clients));
                move || accept(&listener, &stop, &clients, &panel)
            })
            .expect("the system gives a thread to the control socket");
        Ok(Self { socket, stop, clients, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.socket.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread; if somebody has removed the socket, it ends with the process instead.
        if self.socket.is_there()
            && UnixStream::connect(self.socket.path()).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
        let clients = std::mem::take(&mut *lock(&self.clients));
        for (stream, _) in &clients {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for (_, thread) in clients {
            // One that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept<C: Controlled>(
    listener: &UnixListener,
    stop: &AtomicBool,
    clients: &Clients,
    panel: &Arc<Panel<C>>,
) {
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        // Out of descriptors, mostly: others may end meanwhile.
        let Ok(stream) = stream else {
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        let mut clients = lock(clients);
        clients.retain(|(_, thread)| !thread.is_finished());
        if clients.len() >= MOST_CLIENTS {
            let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
            let _ = answer(
                &stream,
                &Reply::Refused(format!(
                    "{MOST_CLIENTS} clients are connected, which is as many as there may be; end one first"
                )),
            );
            continue;
        }
        let Ok(own) = stream.try_clone() else { continue };
        let panel = Arc::clone(panel);
        let started = thread::Builder::new().name("control client".into()).spawn(move || {
            // A client that goes away ends its own connection only.
            let _ = serve(&own, &panel);
            let _ = own.shutdown(Shutdown::Both);
        });
        if let Ok(thread) = started {
            clients.push((stream, thread));
        }
    }
}

/// Answers one client until it goes.
fn serve<C: Controlled>(stream: &UnixStream, panel: &Panel<C>) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let bytes = reader.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut line)?;
        if bytes == 0 {
            return Ok(());
        }
        if bytes as u64 > LONGEST_LINE {
            // Where the next request begins is not known, so this client is done.
            return answer(
                stream,
                &Reply::Refused(format!(
                    "the request is longer than {LONGEST_LINE} bytes; send one JSON object to a line"
                )),
            );
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let reply = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => panel.apply(&request),
            Err(error) => Reply::Refused(format!(
                "that is no request: {error}; send one like {{\"knob\":\"status\"}}"
            )),
        };
        answer(stream, &reply)?;
    }
}

fn answer(mut stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}
