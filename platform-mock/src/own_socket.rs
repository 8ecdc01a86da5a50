//! A Unix socket's file: made without disturbing anybody, and removed at the end.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{error, fmt, fs};

use rustix::fs::Mode;
use rustix::process::umask;

/// Why a socket cannot be had, and what to do, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketError(String);

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for SocketError {}

/// The file of a listening socket. Dropping it removes the file, if it still is that socket's.
#[derive(Debug)]
pub struct OwnSocket {
    path: PathBuf,
    identity: (u64, u64),
}

impl OwnSocket {
    /// Listens at `path`, for this user only (mode 0600). A socket there that nobody listens to is
    /// left from a program that was killed, and is replaced.
    ///
    /// Changes the process's file mode mask for the moment of making the socket, so that no other
    /// user can connect before its mode is set.
    ///
    /// # Errors
    ///
    /// A socket that somebody listens to, any other file there, a path too long for a socket
    /// (about 100 bytes), and what the system says of the folder.
    pub fn listen(path: &Path) -> Result<(UnixListener, Self), SocketError> {
        let shown = path.display();
        clear(path)?;
        let mask = umask(Mode::from_bits_retain(0o177));
        let bound = UnixListener::bind(path);
        umask(mask);
        let cannot = |error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "make its folder first",
                io::ErrorKind::PermissionDenied => "name a folder that you may write to",
                io::ErrorKind::InvalidInput => "choose a shorter path, of less than 100 bytes",
                _ => "choose another path",
            };
            SocketError(format!("cannot listen at {shown}: {error}; {hint}"))
        };
        let listener = bound.map_err(cannot)?;
        let found = fs::symlink_metadata(path).map_err(cannot)?;
        Ok((listener, Self { path: path.into(), identity: (found.dev(), found.ino()) }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is still there, and no other in its place.
    #[must_use]
    pub fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }
}

impl Drop for OwnSocket {
    fn drop(&mut self) {
        if self.is_there() {
            // If it cannot be removed, the next one to listen there replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes sure that nothing is at `path`, without taking it from anybody.
fn clear(path: &Path) -> Result<(), SocketError> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(SocketError(format!(
                "cannot look at {shown}: {error}; choose another path"
            )));
        }
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError(format!(
                "{shown} exists and is not a socket, so it was left alone; choose another path, or remove it"
            )));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| {
                SocketError(format!(
                    "the socket {shown} is left over, and cannot be removed: {error}; remove it, or choose another path"
                ))
            }),
        Ok(_) => Err(SocketError(format!(
            "another program listens at {shown}; end that first, or choose another path"
        ))),
        Err(error) => Err(SocketError(format!(
            "cannot tell whether somebody listens at {shown}: {error}; choose another path, or remove it"
        ))),
    }
}
