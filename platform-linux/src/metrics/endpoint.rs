//! Metrics over HTTP, on loopback or a Unix socket.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use fusion_mpt_mock::own_socket::OwnSocket;
use tiny_http::{Header, Method, Request, Response, Server};

use crate::error::Error;

/// What Prometheus' text format is called.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address and port of this machine; port 0 for any.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = String;

    /// `127.0.0.1:9633`, `[::1]:9633` or `unix:PATH`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!("\"{text}\" is no place to listen; say 127.0.0.1:PORT or unix:PATH")
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Answers `GET /metrics` with what was published last, in a thread of its own, until it is dropped.
pub struct Endpoint {
    server: Arc<Server>,
    published: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
    address: ListenAddress,
    /// Goes after the server, which still listens there.
    _socket: Option<OwnSocket>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Listens. Until something is published, the answer is that nothing is there yet (503).
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for an address that others can reach; [`Error::Failed`] when the place is
    /// taken or cannot be had.
    pub fn listen(address: &ListenAddress) -> Result<Self, Error> {
        let cannot = |error: &dyn fmt::Display| {
            Error::failed(format!(
                "cannot listen at {address}: {error}; choose another port, or 0 for any"
            ))
        };
        let (server, socket, address) = match address {
            ListenAddress::Tcp(wanted) if !wanted.ip().is_loopback() => {
                return Err(Error::usage(format!(
                    "{wanted} can be reached by others, and metrics are told without asking who wants them; listen at 127.0.0.1 and put a server with authentication before it, or have a file written instead"
                )));
            }
            ListenAddress::Tcp(wanted) => {
                let listener = TcpListener::bind(wanted).map_err(|error| cannot(&error))?;
                let found = listener.local_addr().map_err(|error| cannot(&error))?;
                let server = Server::from_listener(listener, None);
                (server.map_err(|error| cannot(&error))?, None, ListenAddress::Tcp(found))
            }
            ListenAddress::Unix(path) => {
                let listening = OwnSocket::listen(path);
                let (listener, socket) =
                    listening.map_err(|error| Error::failed(error.to_string()))?;
                let server = Server::from_listener(listener, None);
                let address = ListenAddress::Unix(path.clone());
                (server.map_err(|error| cannot(&error))?, Some(socket), address)
            }
        };
        let server = Arc::new(server);
        let published = Arc::new(Mutex::new(String::new()));
        let (serving, text) = (Arc::clone(&server), Arc::clone(&published));
        let thread = std::thread::Builder::new()
            .name("metrics".into())
            .spawn(move || {
                for request in serving.incoming_requests() {
                    answer(request, &text);
                }
            })
            .map_err(|error| {
                Error::failed(format!("cannot start a thread for metrics: {error}"))
            })?;
        Ok(Self { server, published, thread: Some(thread), address, _socket: socket })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub const fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Answers with this text from now on.
    pub fn publish(&self, text: String) {
        // A thread that has panicked left a whole text behind: it only ever copies it.
        *self.published.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = text;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

fn answer(request: Request, published: &Mutex<String>) {
    let path = request.url().split('?').next().unwrap_or_default();
    let (status, text) = match (request.method(), path) {
        (Method::Get | Method::Head, "/metrics") => {
            let text = published.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            match text.is_empty() {
                true => (503, "nothing is known yet; ask again\n".to_owned()),
                false => (200, text),
            }
        }
        (Method::Get | Method::Head, _) => (404, "there is /metrics\n".to_owned()),
        _ => (405, "there is GET /metrics\n".to_owned()),
    };
    let mut response = Response::from_string(text).with_status_code(status);
    if let Ok(header) = Header::from_bytes("Content-Type", CONTENT_TYPE) {
        response.add_header(header);
    }
    // Whoever asked may have gone.
    let _ = request.respond(response);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn ask(stream: &mut (impl Read + Write), request: &str) -> String {
        write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    fn loopback() -> (Endpoint, SocketAddr) {
        let any = "127.0.0.1:0".parse().expect("an address");
        let endpoint = Endpoint::listen(&any).expect("a free port");
        let ListenAddress::Tcp(address) = *endpoint.address() else { panic!("TCP was asked for") };
        (endpoint, address)
    }

    #[test]
    fn what_was_published_last_is_told() {
        let (endpoint, address) = loopback();
        let get = |what: &str| ask(&mut TcpStream::connect(address).expect("listening"), what);
        assert!(get("GET /metrics").starts_with("HTTP/1.1 503"));
        endpoint.publish("a 1\n".into());
        endpoint.publish("b 2\n".into());
        let answer = get("GET /metrics?x");
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nb 2\n"),
            "{answer}"
        );
        assert!(answer.contains("version=0.0.4"), "{answer}");
        assert!(get("GET /").starts_with("HTTP/1.1 404"));
        assert!(get("POST /metrics").starts_with("HTTP/1.1 405"));
        drop(endpoint);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while TcpStream::connect(address).is_ok() {
            assert!(std::time::Instant::now() < until, "somebody still listens");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    #[test]
    fn a_unix_socket_is_made_and_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics");
        let address = ListenAddress::Unix(path.clone());
        let endpoint = Endpoint::listen(&address).expect("listens");
        endpoint.publish("a 1\n".into());
        let answer = ask(&mut UnixStream::connect(&path).expect("listening"), "GET /metrics");
        assert!(answer.ends_with("a 1\n"), "{answer}");
        let taken = Endpoint::listen(&address).expect_err("taken").to_string();
        assert!(taken.contains("another program listens"), "{taken}");
        drop(endpoint);
        assert!(!path.exists());
    }

    #[test]
    fn a_port_that_is_taken_and_an_address_of_others_are_refused() {
        let (_endpoint, address) = loopback();
        let taken = Endpoint::listen(&ListenAddress::Tcp(address)).expect_err("taken").to_string();
        assert!(taken.contains(&address.to_string()) && taken.contains("another port"), "{taken}");
        let open = "0.0.0.0:0".parse().expect("an address");
        assert!(matches!(Endpoint::listen(&open), Err(Error::Usage(_))));
    }

    #[test]
    fn places_are_read_as_they_are_typed() {
        assert_eq!("unix:/run/m".parse(), Ok(ListenAddress::Unix("/run/m".into())));
        assert!(matches!("[::1]:9633".parse(), Ok(ListenAddress::Tcp(_))));
        for wrong in ["", "unix:", "9633", "localhost", "127.0.0.1"] {
            assert!(wrong.parse::<ListenAddress>().is_err(), "{wrong}");
        }
    }
}
