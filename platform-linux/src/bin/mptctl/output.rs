//! Printing: text for people, one JSON document for programs.

use std::io::{ErrorKind, Write};

use fusion_mpt_linux::error::Error;
use serde::Serialize;

/// The number of the JSON documents' shape; it changes when a field changes its meaning or goes.
pub(crate) const SCHEMA: u32 = 1;

/// A document: the schema and the command stand before the command's own fields.
#[derive(Serialize)]
struct Document<'d, T: Serialize> {
    schema: u32,
    command: &'d str,
    #[serde(flatten)]
    fields: &'d T,
}

#[derive(Serialize)]
struct Failure<'f> {
    schema: u32,
    error: &'f str,
    exit_code: u8,
}

/// Prints `text()`, or `fields` as JSON.
pub(crate) fn print<T: Serialize>(
    json: bool,
    command: &str,
    fields: &T,
    text: impl FnOnce() -> String,
) -> Result<(), Error> {
    if json {
        let document = Document { schema: SCHEMA, command, fields };
        let mut line = serde_json::to_string_pretty(&document)
            .map_err(|error| Error::failed(format!("cannot make JSON of the result: {error}")))?;
        line.push('\n');
        raw(line.as_bytes())
    } else {
        raw(text().as_bytes())
    }
}

/// Prints bytes as they are. A reader that has seen enough is no failure.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Whether nobody reads standard output any more, for commands that would go on printing for ever.
pub(crate) fn reader_is_gone() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = std::io::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let found = poll(&mut watched, Some(&at_once));
    found.is_ok() && watched.iter().any(|one| one.revents().contains(PollFlags::ERR))
}

/// Reports a failure: the sentence on standard error, and a JSON document where one is expected.
pub(crate) fn failure(json: bool, error: &Error) {
    let sentence = error.to_string();
    eprintln!("mptctl: {sentence}");
    if json {
        document_of_failure(&sentence, error.exit_code());
    }
}

/// Prints the JSON document of a failure.
pub(crate) fn document_of_failure(sentence: &str, exit_code: u8) {
    let failure = Failure { schema: SCHEMA, error: sentence.trim(), exit_code };
    if let Ok(mut line) = serde_json::to_string_pretty(&failure) {
        line.push('\n');
        // There is nobody left to tell.
        let _ = raw(line.as_bytes());
    }
}

/// 16 bytes a line, with their offset and as text.
pub(crate) fn hex_dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, offset) in bytes.chunks(16).zip((0usize..).step_by(16)) {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let printable: String = line
            .iter()
            .map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' })
            .collect();
        text.push_str(&format!("{offset:08x}  {:<47}  {printable}\n", hex.join(" ")));
    }
    text
}

/// Bytes in the unit that fits: 67,108,864 is 64 MiB.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value.fract() < 0.05 { 0 } else { 1 };
    format!("{value:.digits$} {}", units.get(unit).unwrap_or(&"PiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        assert_eq!(size(512), "512 B");
        assert_eq!(size(64 << 20), "64 MiB");
        assert_eq!(size(3 << 29), "1.5 GiB");
        assert_eq!(size(u64::MAX), "16384 PiB");
    }

    #[test]
    fn a_dump_has_offset_bytes_and_text() {
        assert_eq!(
            hex_dump(b"A\x00"),
            "00000000  41 00                                            A.\n"
        );
    }
}
