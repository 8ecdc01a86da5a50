//! The host's side of a guest's agent (`init.sh` is the other): commands out, outputs back, over
//! one stream. Commands can overlap; what ends first answers first.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long one look at the stream waits.
const LOOK: Duration = Duration::from_millis(50);

/// How a command in the guest ended, and all that it printed, both streams in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Output {
    /// Its exit status; 137 if the guest killed it because its time was up.
    pub(crate) status: u32,
    pub(crate) text: String,
}

/// A command that has been started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a job has to be waited for"]
pub(crate) struct Job {
    id: u64,
    /// When the guest itself ends it.
    ends: Instant,
}

impl Job {
    pub(crate) const fn ends(self) -> Instant {
        self.ends
    }
}

/// The stream to an agent.
pub(crate) struct Agent {
    stream: UnixStream,
    received: Vec<u8>,
    next: u64,
    outputs: BTreeMap<u64, Output>,
}

impl Agent {
    pub(crate) fn new(stream: UnixStream) -> Result<Self, String> {
        stream
            .set_read_timeout(Some(LOOK))
            .map_err(|error| format!("preparing the agent's socket: {error}"))?;
        Ok(Self { stream, received: Vec::new(), next: 1, outputs: BTreeMap::new() })
    }

    /// The agent's first line, without "ready", once it has come.
    pub(crate) fn greeting(&mut self) -> Result<Option<String>, String> {
        self.receive()?;
        let Some(line) = self.line() else {
            return Ok(None);
        };
        match line.strip_prefix("ready ") {
            Some(greeting) => Ok(Some(greeting.to_owned())),
            None => Err(format!("the agent said {line:?} instead of being ready")),
        }
    }

    /// Starts `script` in a shell, to be killed after `limit`.
    pub(crate) fn start(&mut self, script: &str, limit: Duration) -> Result<Job, String> {
        let id = self.next;
        self.next += 1;
        let seconds = limit.as_secs().max(1);
        let line = format!("{id} {seconds} {}\n", base64(script.as_bytes()));
        self.stream
            .write_all(line.as_bytes())
            .map_err(|error| format!("sending a command to the guest: {error}"))?;
        Ok(Job { id, ends: Instant::now() + limit })
    }

    /// The output of `job` if it has ended; looks for a moment.
    pub(crate) fn look(&mut self, job: Job) -> Result<Option<Output>, String> {
        if let Some(output) = self.outputs.remove(&job.id) {
            return Ok(Some(output));
        }
        self.receive()?;
        while let Some((id, output)) = take_output(&mut self.received)? {
            self.outputs.insert(id, output);
        }
        Ok(self.outputs.remove(&job.id))
    }

    fn receive(&mut self) -> Result<(), String> {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err("the guest is gone: its agent's socket was closed".to_owned()),
            Ok(length) => {
                self.received.extend_from_slice(&buffer[..length]);
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(format!("the guest is gone: its agent's socket: {error}")),
        }
    }

    fn line(&mut self) -> Option<String> {
        let end = self.received.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.received.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

/// Takes one whole answer from the front of what has been received.
fn take_output(received: &mut Vec<u8>) -> Result<Option<(u64, Output)>, String> {
    let Some(end) = received.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let fields: Option<Vec<u64>> = head.split(' ').map(|field| field.trim().parse().ok()).collect();
    let Some(&[id, status, length]) = fields.as_deref() else {
        return Err(format!("the agent sent {head:?}, which starts no answer"));
    };
    let (Ok(length), Ok(status)) = (usize::try_from(length), u32::try_from(status)) else {
        return Err(format!("the agent sent {head:?}, which no answer is as long as"));
    };
    let whole = end + 1 + length;
    if received.len() < whole {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&received[end + 1..whole]).into_owned();
    received.drain(..whole);
    Ok(Some((id, Output { status, text })))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4_usize {
            let index = (bits >> (18 - 6 * digit)) & 0x3f;
            text.push(if digit <= chunk.len() { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Agent, UnixStream) {
        let (host, guest) = UnixStream::pair().expect("a pair of sockets");
        (Agent::new(host).expect("an agent"), guest)
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in pairs {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn an_answer_is_taken_only_when_it_is_whole() {
        let mut received = b"7 0 5\nab".to_vec();
        assert_eq!(take_output(&mut received), Ok(None));
        received.extend_from_slice(b"\nd\n8 1 0\n");
        let expected = Output { status: 0, text: "ab\nd\n".to_owned() };
        assert_eq!(take_output(&mut received), Ok(Some((7, expected))));
        let expected = Output { status: 1, text: String::new() };
        assert_eq!(take_output(&mut received), Ok(Some((8, expected))));
        assert_eq!(take_output(&mut received), Ok(None));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        assert!(take_output(&mut b"hello there\n".to_vec()).is_err());
        assert!(take_output(&mut b"1 0 -5\n".to_vec()).is_err());
    }

    #[test]
    fn a_later_command_may_end_first() {
        let (mut agent, mut guest) = pair();
        guest.write_all(b"ready 6.1.0 2.50\n").unwrap();
        assert_eq!(agent.greeting().unwrap().unwrap(), "6.1.0 2.50");
        let limit = Duration::from_secs(5);
        let slow = agent.start("sleep 1", limit).unwrap();
        let quick = agent.start("true", limit).unwrap();
        guest.write_all(b"2 0 0\n1 3 2\nno").unwrap();
        let second = agent.look(quick).unwrap().unwrap();
        assert_eq!(second, Output { status: 0, text: String::new() });
        let first = agent.look(slow).unwrap().unwrap();
        assert_eq!(first, Output { status: 3, text: "no".to_owned() });
    }

    #[test]
    fn a_guest_that_is_gone_is_an_error() {
        let (mut agent, guest) = pair();
        let job = agent.start("true", Duration::from_secs(5)).unwrap();
        drop(guest);
        assert!(agent.look(job).unwrap_err().starts_with("the guest is gone"));
    }
}
