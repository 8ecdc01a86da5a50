//! The other end of a control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{error, fmt};

use super::message::{Reply, Request};

/// How long an answer may take: every request is answered at once, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there was no answer, in a sentence. A refusal is an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientError(String);

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for ClientError {}

/// A connection to a control socket.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Connects to the control socket at `path`.
    ///
    /// # Errors
    ///
    /// If nothing is there, or no socket, if nobody listens, or this user may not connect.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let unreachable = |error| ClientError(unreachable(path, &error));
        let stream = UnixStream::connect(path).map_err(unreachable)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(unreachable)?;
        Ok(Self { stream: BufReader::new(stream), path: path.to_owned() })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// If the connection breaks, nothing comes for 30 seconds, or what comes is no [`Reply`].
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let mut line = serde_json::to_vec(request).map_err(|error| {
            ClientError(format!("the request cannot be written as JSON: {error}; rename the file"))
        })?;
        line.push(b'\n');
        let mut reply = Vec::new();
        let answered = match self.stream.get_mut().write_all(&line) {
            Ok(()) => self.stream.read_until(b'\n', &mut reply),
            Err(error) => Err(error),
        };
        match answered {
            Ok(0) => return Err(self.no_answer("it ended the connection")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(self.no_answer(&format!("nothing came for {} s", PATIENCE.as_secs())));
            }
            Err(error) => return Err(self.no_answer(&error.to_string())),
        }
        serde_json::from_slice(&reply).map_err(|error| {
            ClientError(format!(
                "what the program that listens at {} answers is no reply: {error}; give the path that an emulator of the same version was given as --control",
                self.path.display()
            ))
        })
    }

    /// QEMU's socket takes connections too, and hangs up on what is not vfio-user, or leaves it
    /// waiting while it has a virtual machine.
    fn no_answer(&self, what: &str) -> ClientError {
        ClientError(format!(
            "the program that listens at {} did not answer the request: {what}; if that is the path that the emulator was given as --socket, which is QEMU's, give the one of its --control instead, and otherwise see whether the emulator is busy, or what it says itself",
            self.path.display()
        ))
    }
}

/// Why nobody can be reached at `path`, and what to do.
fn unreachable(path: &Path, error: &io::Error) -> String {
    let shown = path.display();
    // Connecting to a file that is no socket is refused as if nobody listened.
    let other = std::fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket());
    let (what, hint) = match error.kind() {
        io::ErrorKind::NotFound => (
            "there is no such file".into(),
            "check the path: it is the one that the emulator was given as --control",
        ),
        _ if other => (
            "it is no socket".into(),
            "check the path: it is the one that the emulator was given as --control",
        ),
        io::ErrorKind::ConnectionRefused => (
            "nobody listens there any more, so the emulator that made it is gone".into(),
            "start it again",
        ),
        io::ErrorKind::PermissionDenied => (
            error.to_string(),
            "the socket is for the user who runs the emulator: turn knobs as that user",
        ),
        io::ErrorKind::InvalidInput => {
            (error.to_string(), "choose a shorter path, of less than 100 bytes")
        }
        _ => (error.to_string(), "check the path, and whether the emulator still runs"),
    };
    format!("cannot reach an emulator's control socket at {shown}: {what}; {hint}")
}
