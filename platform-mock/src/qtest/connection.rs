//! The qtest protocol: one line per command, one line per answer, interrupt lines in between.
//!
//! An access is one `write` and one `read` system call, and allocates nothing.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::bus::BusError;

/// The longest answer QEMU gives is a failure's sentence; interrupt lines are short.
const ANSWER_BYTES: usize = 512;

/// The longest command: a name, an address and a value.
const COMMAND_BYTES: usize = 64;

/// A connection to QEMU's qtest server. After the first failure every access is over at once:
/// reads give all ones, writes go nowhere.
pub(super) struct Connection {
    state: Mutex<State>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

struct State {
    stream: UnixStream,
    timeout: Duration,
    received: [u8; ANSWER_BYTES],
    length: usize,
    interrupt_levels: u32,
    failure: Option<BusError>,
}

impl Connection {
    /// Talks over `stream`; an answer may take `timeout`.
    pub(super) fn new(stream: UnixStream, timeout: Duration) -> Result<Self, BusError> {
        stream.set_read_timeout(Some(timeout)).map_err(|error| {
            BusError(format!("cannot limit the wait for QEMU to {timeout:?}: {error}"))
        })?;
        Ok(Self {
            state: Mutex::new(State {
                stream,
                timeout,
                received: [0; ANSWER_BYTES],
                length: 0,
                interrupt_levels: 0,
                failure: None,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements: a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads 32 bits of the machine's physical address space; all ones after a failure.
    pub(super) fn read_memory(&self, address: u32) -> u32 {
        self.state().command(Line::new("readl").number(u64::from(address))) as u32
    }

    /// Writes 32 bits of the machine's physical address space.
    pub(super) fn write_memory(&self, address: u32, value: u32) {
        let line = Line::new("writel").number(u64::from(address)).number(u64::from(value));
        self.state().command(line);
    }

    /// Writes 64 bits as two writes, low half first, with nothing between them.
    pub(super) fn write_memory64(&self, address: u32, value: u64) {
        let mut state = self.state();
        for (offset, half) in [(0, value & 0xffff_ffff), (4, value >> 32)] {
            let address = u64::from(address.wrapping_add(offset));
            state.command(Line::new("writel").number(address).number(half));
        }
    }

    /// Writes 64 bits of memory at an address that may lie above 4 GiB.
    pub(super) fn store(&self, address: u64, value: u64) {
        self.state().command(Line::new("writeq").number(address).number(value));
    }

    /// Reads 32 bits of the I/O port space; all ones after a failure.
    pub(super) fn read_port(&self, port: u16) -> u32 {
        self.state().command(Line::new("inl").number(u64::from(port))) as u32
    }

    /// Writes 32 bits of the I/O port space.
    pub(super) fn write_port(&self, port: u16, value: u32) {
        self.state().command(Line::new("outl").number(u64::from(port)).number(u64::from(value)));
    }

    /// Has the level of every interrupt line of the I/O APIC reported from now on.
    pub(super) fn watch_interrupts(&self) {
        self.state().command(Line::new("irq_intercept_in ioapic"));
    }

    /// Whether any line that is watched is raised.
    pub(super) fn interrupt_pending(&self) -> bool {
        let mut state = self.state();
        state.take_in_what_arrived();
        state.interrupt_levels != 0
    }

    /// Why the connection is of no use any more.
    pub(super) fn failure(&self) -> Option<BusError> {
        let mut state = self.state();
        state.take_in_what_arrived();
        state.failure.clone()
    }
}

impl State {
    /// Sends a command and waits for its answer; gives the number in it, zero where it has none,
    /// or all ones when there was no answer.
    fn command(&mut self, line: Line) -> u64 {
        if self.failure.is_some() {
            return u64::MAX;
        }
        let mut line = line;
        let sent = self.stream.write_all(line.finish());
        if let Err(error) = sent {
            self.fail(&line, &format!("the connection broke: {error}"));
            return u64::MAX;
        }
        loop {
            while let Some(end) = self.received[..self.length].iter().position(|b| *b == b'\n') {
                let answer = parse(&self.received[..end]);
                if let Answer::Unexpected = answer {
                    let said = String::from_utf8_lossy(&self.received[..end]).into_owned();
                    self.fail(&line, &format!("it answered '{said}'"));
                    return u64::MAX;
                }
                self.received.copy_within(end + 1..self.length, 0);
                self.length -= end + 1;
                match answer {
                    Answer::Done(value) => return value,
                    Answer::Interrupt { line, level } => self.interrupt(line, level),
                    Answer::Unexpected => {}
                }
            }
            if !self.receive(&line) {
                return u64::MAX;
            }
        }
    }

    /// Waits for more to arrive.
    fn receive(&mut self, line: &Line) -> bool {
        loop {
            let reason = match self.stream.read(&mut self.received[self.length..]) {
                Ok(0) if self.length == ANSWER_BYTES => "its answer never ended".to_owned(),
                Ok(0) => "it closed the connection".to_owned(),
                Ok(bytes) => {
                    self.length += bytes;
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    format!("it did not answer within {:?}", self.timeout)
                }
                Err(error) => format!("the connection broke: {error}"),
            };
            self.fail(line, &reason);
            return false;
        }
    }

    /// Looks at interrupt lines that arrived between commands, without waiting.
    fn take_in_what_arrived(&mut self) {
        if self.failure.is_some() {
            return;
        }
        let arrived = self
            .stream
            .set_nonblocking(true)
            .and_then(|()| self.stream.read(&mut self.received[self.length..]));
        if let Err(error) = self.stream.set_nonblocking(false) {
            self.fail(&Line::new("wait"), &format!("the connection broke: {error}"));
            return;
        }
        match arrived {
            Ok(0) if self.length < ANSWER_BYTES => {
                self.fail(&Line::new("wait"), "it closed the connection");
            }
            Ok(bytes) => self.length += bytes,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => {
                self.fail(&Line::new("wait"), &format!("the connection broke: {error}"));
            }
        }
        while let Some(end) = self.received[..self.length].iter().position(|b| *b == b'\n') {
            let Answer::Interrupt { line, level } = parse(&self.received[..end]) else {
                // Nothing was asked: whatever it is, the next command will trip over it.
                return;
            };
            self.received.copy_within(end + 1..self.length, 0);
            self.length -= end + 1;
            self.interrupt(line, level);
        }
    }

    fn interrupt(&mut self, line: u32, level: bool) {
        let bit = 1_u32.checked_shl(line).unwrap_or(0);
        if level {
            self.interrupt_levels |= bit;
        } else {
            self.interrupt_levels &= !bit;
        }
    }

    fn fail(&mut self, line: &Line, reason: &str) {
        let asked = String::from_utf8_lossy(line.text()).into_owned();
        self.interrupt_levels = 0;
        self.failure = Some(BusError(format!(
            "QEMU was asked '{asked}' over its qtest connection, but {reason}; start it again"
        )));
    }
}

/// What a line from QEMU says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Done(u64),
    Interrupt { line: u32, level: bool },
    Unexpected,
}

fn parse(line: &[u8]) -> Answer {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line == b"OK" {
        return Answer::Done(0);
    }
    if let Some(number) = line.strip_prefix(b"OK ") {
        // `in` answers are zero-padded to four digits, `read` answers to sixteen.
        return number
            .strip_prefix(b"0x")
            .and_then(|digits| parse_digits(digits, 16))
            .map_or(Answer::Unexpected, Answer::Done);
    }
    for (prefix, level) in [(&b"IRQ raise "[..], true), (&b"IRQ lower "[..], false)] {
        if let Some(number) = line.strip_prefix(prefix) {
            return match parse_digits(number, 10).and_then(|number| u32::try_from(number).ok()) {
                Some(line) => Answer::Interrupt { line, level },
                None => Answer::Unexpected,
            };
        }
    }
    Answer::Unexpected
}

fn parse_digits(digits: &[u8], radix: u32) -> Option<u64> {
    let mut value = None;
    for digit in digits {
        let digit = char::from(*digit).to_digit(radix)?;
        let so_far = value.unwrap_or(0_u64).checked_mul(u64::from(radix))?;
        value = Some(so_far.checked_add(u64::from(digit))?);
    }
    value
}

/// A command being put together on the stack.
struct Line {
    bytes: [u8; COMMAND_BYTES],
    length: usize,
}

impl Line {
    fn new(name: &str) -> Self {
        let mut line = Self { bytes: [0; COMMAND_BYTES], length: 0 };
        for byte in name.bytes() {
            line.push(byte);
        }
        line
    }

    /// Adds an argument, in hexadecimal without leading zeroes.
    fn number(mut self, value: u64) -> Self {
        for byte in *b" 0x" {
            self.push(byte);
        }
        let digits = (64 - value.leading_zeros()).div_ceil(4).max(1);
        for digit in (0..digits).rev() {
            let nibble = (value >> (digit * 4)) & 0xf;
            self.push(b"0123456789abcdef"[nibble as usize]);
        }
        self
    }

    /// The command with the line feed that ends it.
    fn finish(&mut self) -> &[u8] {
        self.push(b'\n');
        &self.bytes[..self.length]
    }

    /// The command without its line feed, for error sentences.
    fn text(&self) -> &[u8] {
        self.bytes[..self.length].trim_ascii_end()
    }

    fn push(&mut self, byte: u8) {
        // The longest name and two 64-bit numbers fit: see the test.
        if let Some(to) = self.bytes.get_mut(self.length) {
            *to = byte;
            self.length += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    /// A server that answers each command it gets with the next of `answers`.
    fn served(answers: &'static [&'static str]) -> (Connection, thread::JoinHandle<Vec<String>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || {
            let mut commands = Vec::new();
            let mut reader = std::io::BufReader::new(theirs);
            for answer in answers {
                let mut command = String::new();
                reader.read_line(&mut command).unwrap();
                commands.push(command);
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            }
            commands
        });
        (Connection::new(ours, Duration::from_millis(200)).unwrap(), server)
    }

    #[test]
    fn commands_are_lines_of_hexadecimal_numbers() {
        let (connection, server) = served(&["OK 0x00000000deadbeef\n", "OK\n", "OK\n", "OK\n"]);
        assert_eq!(connection.read_memory(0xe000_0030), 0xdead_beef);
        connection.write_memory(0xe000_0000, 0);
        connection.write_memory64(0xe000_0010, 0x1_0000_0002);
        assert_eq!(
            server.join().unwrap(),
            [
                "readl 0xe0000030\n",
                "writel 0xe0000000 0x0\n",
                "writel 0xe0000010 0x2\n",
                "writel 0xe0000014 0x1\n"
            ]
        );
        assert_eq!(
            connection.failure().unwrap().to_string(),
            "QEMU was asked 'wait' over its qtest connection, but it closed the connection; start it again"
        );
    }

    #[test]
    fn interrupt_lines_before_an_answer_and_between_commands_are_taken_in() {
        let (connection, server) = served(&["IRQ raise 11\nOK 0x1\nIRQ low", "er 11\nOK 0x2\n"]);
        assert!(!connection.interrupt_pending());
        assert_eq!(connection.read_memory(0), 1);
        assert!(connection.interrupt_pending());
        assert_eq!(connection.read_memory(0), 2);
        server.join().unwrap();
        assert!(!connection.interrupt_pending());
    }

    #[test]
    fn silence_ends_in_all_ones_and_a_sentence() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let connection = Connection::new(ours, Duration::from_millis(20)).unwrap();
        assert_eq!(connection.read_memory(0x10), u32::MAX);
        assert_eq!(connection.read_memory(0x10), u32::MAX);
        let failure = connection.failure().unwrap().to_string();
        assert!(failure.contains("'readl 0x10'"), "{failure}");
        assert!(failure.contains("did not answer within 20ms"), "{failure}");
    }

    #[test]
    fn a_refusal_and_an_endless_answer_are_failures() {
        let (connection, server) = served(&["FAIL Unknown command\n"]);
        assert_eq!(connection.read_port(0xcfc), u32::MAX);
        server.join().unwrap();
        assert!(connection.failure().unwrap().0.contains("'FAIL Unknown command'"));

        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let connection = Connection::new(ours, Duration::from_millis(200)).unwrap();
        theirs.write_all(&[b'x'; 2 * ANSWER_BYTES]).unwrap();
        assert_eq!(connection.read_port(0xcfc), u32::MAX);
        assert!(connection.failure().unwrap().0.contains("never ended"));
    }

    #[test]
    fn the_longest_command_fits() {
        let mut line = Line::new("writeq").number(u64::MAX).number(u64::MAX);
        assert_eq!(line.finish(), b"writeq 0xffffffffffffffff 0xffffffffffffffff\n");
    }

    proptest! {
        #[test]
        fn numbers_survive_the_way_there_and_back(value: u64) {
            let line = Line::new("OK").number(value);
            prop_assert_eq!(parse(line.text()), Answer::Done(value));
        }

        #[test]
        fn no_answer_is_too_strange_to_parse(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&bytes);
        }
    }
}
