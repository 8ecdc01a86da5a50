//! The other end of a control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
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
}

impl Client {
    /// Connects to the control socket at `path`.
    ///
    /// # Errors
    ///
    /// If nobody listens there, or this user may not connect.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let shown = path.display();
        let stream = UnixStream::connect(path).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => {
                    "check the path that the emulator was given as --control"
                }
                io::ErrorKind::ConnectionRefused => {
                    "the emulator that made it is gone: start it again"
                }
                io::ErrorKind::PermissionDenied => "it is for the user who runs the emulator",
                _ => "check the path",
            };
            ClientError(format!("cannot reach a control socket at {shown}: {error}; {hint}"))
        })?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(no_answer)?;
        Ok(Self { stream: BufReader::new(stream) })
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
        self.stream.get_mut().write_all(&line).map_err(no_answer)?;
        let mut reply = Vec::new();
        if self.stream.read_until(b'\n', &mut reply).map_err(no_answer)? == 0 {
            return Err(ClientError(
                "the emulator ended the connection without an answer; see what it says itself"
                    .into(),
            ));
        }
        serde_json::from_slice(&reply).map_err(|error| {
            ClientError(format!(
                "the answer is not one of ours: {error}; is that an emulator's control socket, of the same version?"
            ))
        })
    }
}

fn no_answer(error: io::Error) -> ClientError {
    ClientError(format!("no answer from the emulator: {error}; see whether it still runs"))
}
