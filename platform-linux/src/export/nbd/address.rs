//! Where a server listens, and listening there.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{FlockOperation, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::error::Error;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// Where an NBD server listens: `unix:PATH`, or `HOST:PORT` of this machine's loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket, which only its owner may open.
    Unix(PathBuf),
    /// A port of the loopback interface, which every user of this machine may connect to.
    Tcp(SocketAddr),
}

impl Address {
    /// What to type for the kernel's client to attach the export with that name as `device`.
    #[must_use]
    pub fn client_line(&self, name: &str, device: &str) -> String {
        match self {
            Self::Unix(path) => format!("nbd-client -unix {} -N {name} {device}", path.display()),
            Self::Tcp(address) => {
                format!("nbd-client {} {} -N {name} {device}", address.ip(), address.port())
            }
        }
    }

    /// The address of an export for programs that take NBD URIs.
    #[must_use]
    pub fn uri(&self, name: &str) -> String {
        match self {
            Self::Unix(path) => format!("nbd+unix:///{name}?socket={}", path.display()),
            Self::Tcp(address) => format!("nbd://{address}/{name}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("unix: wants a path, as in unix:/run/mptctl/nbd.sock".into());
            }
            return Ok(Self::Unix(path.into()));
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let found = text.to_socket_addrs().map_err(|error| {
            format!("{text:?} is neither unix:PATH nor HOST:PORT ({error}); the usual port is 10809, as in localhost:10809")
        })?;
        let found: Vec<_> = found.collect();
        match found.as_slice() {
            [first, ..] if found.iter().all(|address| address.ip().is_loopback()) => {
                Ok(Self::Tcp(*first))
            }
            _ => Err(format!(
                "{text} is not this machine's loopback, and NBD has neither passwords nor encryption; serve a Unix socket, and take it to the other machine by `ssh -L {text}:PATH`"
            )),
        }
    }
}

/// A socket that clients connect to. A Unix socket's path goes when this goes.
#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    address: Address,
    /// Device and inode of the path that is ours.
    path: Option<(PathBuf, (u64, u64))>,
}

impl Listener {
    /// Listens at the address.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`]: another server is there, something that is no socket has the path, or the
    /// system refuses.
    pub(super) fn open(address: &Address) -> Result<Self, Error> {
        match address {
            Address::Unix(path) => Self::unix(path),
            Address::Tcp(socket_address) => {
                let failed = |error: io::Error| match error.kind() {
                    io::ErrorKind::AddrInUse => Error::failed(format!(
                        "cannot listen on {address}: another program does; stop it, or choose another port with --nbd"
                    )),
                    _ => Error::failed(format!(
                        "cannot listen on {address}: {error}; choose another port with --nbd"
                    )),
                };
                let listener = TcpListener::bind(socket_address).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                Ok(Self { socket: listener.into(), address: Address::Tcp(bound), path: None })
            }
        }
    }

    fn unix(path: &Path) -> Result<Self, Error> {
        let failed = |what: &str, error: Errno| {
            Error::failed(format!(
                "cannot {what} the socket {}: {error}; choose another path with --nbd unix:PATH",
                path.display()
            ))
        };
        let name = SocketAddrUnix::new(path).map_err(|error| failed("name", error))?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // Two that start at the same moment must not each take the other's socket for a stale one.
        let lock = fs::File::open(folder).map_err(|error| Error::file("open", folder, &error))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| failed("lock the folder of", error))?;
        remove_stale(path)?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|error| failed("make", error))?;
        // Before it has a name, so that it never is open to others.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed("protect", error))?;
        rustix::net::bind(&socket, &name).map_err(|error| failed("bind", error))?;
        let made = fs::symlink_metadata(path).map_err(|error| Error::file("see", path, &error))?;
        let listener = Self {
            socket,
            address: Address::Unix(path.into()),
            path: Some((path.into(), (made.dev(), made.ino()))),
        };
        rustix::net::listen(&listener.socket, BACKLOG)
            .map_err(|error| failed("listen on", error))?;
        Ok(listener)
    }

    /// Where it listens; the port is the one that was given out where 0 was asked for.
    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// The next client, if one waits.
    pub(super) fn accept(&self) -> Option<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = loop {
            match rustix::net::accept_with(&self.socket, flags) {
                Ok(socket) => break socket,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                // None is there, or the process has no room: the client stays in the backlog.
                Err(_) => return None,
            }
        };
        if matches!(self.address, Address::Tcp(_)) {
            // Only slower without.
            let _ = sockopt::set_tcp_nodelay(&socket, true);
        }
        Some(socket)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some((path, identity)) = &self.path else { return };
        let still_ours =
            fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == *identity);
        if still_ours {
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), Error> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("see", path, &error)),
    };
    if !found.file_type().is_socket() {
        return Err(Error::failed(format!(
            "{} exists and is no socket; it was left alone, choose another path with --nbd unix:PATH",
            path.display()
        )));
    }
    match knock(path) {
        Err(Errno::CONNREFUSED) => {
            fs::remove_file(path).map_err(|error| Error::file("remove the stale", path, &error))
        }
        Err(Errno::NOENT) => Ok(()),
        // It is there, and too busy to answer.
        Ok(()) | Err(Errno::AGAIN) => Err(Error::failed(format!(
            "a server listens on {} already; stop it, or choose another path with --nbd unix:PATH",
            path.display()
        ))),
        Err(error) => Err(Error::file("take over", path, &error.into())),
    }
}

/// Whether somebody listens there.
fn knock(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn addresses_are_a_path_or_this_machine() {
        assert_eq!("unix:/run/a".parse(), Ok(Address::Unix("/run/a".into())));
        assert_eq!("/run/a".parse(), Ok(Address::Unix("/run/a".into())));
        let local: Address = "127.0.0.1:10809".parse().expect("loopback");
        assert_eq!(
            local.client_line("n", "/dev/nbd0"),
            "nbd-client 127.0.0.1 10809 -N n /dev/nbd0"
        );
        assert!("[::1]:1".parse::<Address>().is_ok());
        for (text, says) in
            [("0.0.0.0:10809", "ssh -L"), ("unix:", "wants a path"), ("nonsense", "10809")]
        {
            let error = text.parse::<Address>().expect_err(text);
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_socket_is_its_owners_and_goes_with_its_server() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("nbd.sock");
        let listener = Listener::open(&Address::Unix(path.clone())).expect("to listen");
        let mode = fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let client = UnixStream::connect(&path).expect("a server");
        assert!(listener.accept().is_some());
        drop((listener, client));
        assert!(!path.exists());
    }

    #[test]
    fn a_live_server_keeps_its_path_and_a_dead_one_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("nbd.sock");
        let other = UnixListener::bind(&path).expect("another server");
        let address = Address::Unix(path.clone());
        let error = Listener::open(&address).expect_err("taken").to_string();
        assert!(error.contains("listens on") && error.contains("--nbd"), "{error}");
        drop(other);
        let ours = Listener::open(&address).expect("a stale path");
        fs::remove_file(&path).expect("to remove");
        let theirs = UnixListener::bind(&path).expect("to bind");
        drop(ours);
        assert!(path.exists(), "what is not ours stays");
        drop(theirs);
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("precious");
        fs::write(&path, "data").expect("a file");
        let error = Listener::open(&Address::Unix(path.clone())).expect_err("no socket");
        assert!(error.to_string().contains("is no socket"), "{error}");
        assert_eq!(fs::read(&path).expect("still there"), b"data");
    }
}
