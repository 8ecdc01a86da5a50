//! A disk as it is typed: `FILE[,OPTION]...` or `SIZE[,OPTION]...`.

use std::path::{Path, PathBuf};

use fusion_mpt_linux::error::Error;
use fusion_mpt_mock::control::{DiskSpec, Medium};

/// What can follow a file or a size.
pub(crate) const OPTIONS: &str = "\
Options of a disk, after its file or size, each after a comma (a comma in a path is typed twice):
  slot=N          the slot, from 0; the first free one otherwise
  size=SIZE       make a sparse file of this size if there is none
  block=512|4096  bytes of a logical block
  wwn=HEX         the world wide name; one made from the path otherwise
  rotation=RPM    a rotating disk; 1, as it is otherwise, for none
  sata            a SATA disk
  read-only       refuse writes
  cache=on|off    the volatile write cache; on otherwise";

/// Reads a disk on a file.
pub(crate) fn file(text: &Path) -> Result<DiskSpec, Error> {
    let typed = text.to_str().ok_or_else(|| {
        Error::usage(format!(
            "the disk {} has a name that is not UTF-8; rename the file",
            text.display()
        ))
    })?;
    parse(typed, |path| Ok(Medium::File { path: PathBuf::from(path), create: None }))
}

/// Reads a disk in memory.
pub(crate) fn memory(text: &str) -> Result<DiskSpec, Error> {
    parse(text, |bytes| Ok(Medium::Memory { bytes: size(bytes)? }))
}

fn parse(
    typed: &str,
    medium: impl FnOnce(&str) -> Result<Medium, String>,
) -> Result<DiskSpec, Error> {
    let wrong = |why: String| Error::usage(format!("the disk {typed:?} cannot be had: {why}"));
    let mut parts = split(typed).into_iter();
    let first = parts.next().unwrap_or_default();
    if first.is_empty() {
        return Err(wrong("a file or a size comes first".into()));
    }
    let mut disk = DiskSpec::new(medium(&first).map_err(wrong)?);
    for part in parts {
        set(&mut disk, &part).map_err(wrong)?;
    }
    Ok(disk)
}

/// Splits at commas; two of them are one in a part.
fn split(typed: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = typed.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == ',' && letters.next_if_eq(&',').is_none() {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    parts
}

fn set(disk: &mut DiskSpec, option: &str) -> Result<(), String> {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    let number = |what: &str| match value.map(str::parse::<u64>) {
        Some(Ok(number)) => Ok(number),
        _ => Err(format!("{name} wants {what}, as in {name}=1")),
    };
    match (name, value) {
        ("slot", _) => {
            let slot = number("a number from 0")?;
            disk.slot = Some(u8::try_from(slot).map_err(|_| format!("there is no slot {slot}"))?);
        }
        ("size", Some(value)) => match &mut disk.medium {
            Medium::File { create, .. } => *create = Some(size(value)?),
            Medium::Memory { .. } => return Err("it has its size already".into()),
        },
        ("block", Some("512")) => disk.block_bytes = 512,
        ("block", Some("4096" | "4k")) => disk.block_bytes = 4096,
        ("block", _) => return Err("block is 512 or 4096".into()),
        ("wwn", Some(value)) => {
            let digits = value.strip_prefix("0x").unwrap_or(value);
            let wwn = u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16);
            disk.wwn = Some(wwn.ok_or("wwn wants 16 hex digits, as in wwn=5000c50012345678")?);
        }
        ("rotation", _) => {
            let rpm = number("rotations per minute")?;
            disk.rotation = u16::try_from(rpm).map_err(|_| format!("{rpm} rpm is too fast"))?;
        }
        ("sata", None) => disk.sata = true,
        ("read-only", None) => disk.read_only = true,
        ("cache", Some("on")) => disk.cache = true,
        ("cache", Some("off")) => disk.cache = false,
        ("cache", _) => return Err("cache is on or off".into()),
        _ => {
            return Err(format!(
                "{option:?} is no option; there are slot=, size=, block=, wwn=, rotation=, sata, read-only and cache="
            ));
        }
    }
    Ok(())
}

/// A number of bytes, with K, M, G, T, P or E for powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size, like 64M or 3T");
    let units = ["", "k", "m", "g", "t", "p", "e"];
    let (digits, unit) = match text.char_indices().last() {
        Some((at, letter)) if letter.is_ascii_alphabetic() => text.split_at(at),
        _ => (text, ""),
    };
    let power =
        units.iter().position(|known| known.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?;
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number
        .checked_mul(1 << (10 * power))
        .filter(|bytes| *bytes > 0 && *bytes <= i64::MAX as u64)
        .ok_or_else(|| {
            format!("{text:?} is out of range: a size is at least 1 byte and less than 8 EiB (8E)")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_read_with_all_its_options() {
        let typed = "d,,x.img,slot=3,wwn=5000c50012345678,block=4096,rotation=7200,sata,read-only,cache=off,size=3T";
        let disk = file(Path::new(typed)).expect("good");
        let path = PathBuf::from("d,x.img");
        assert_eq!(disk.medium, Medium::File { path, create: Some(3 << 40) });
        assert_eq!((disk.slot, disk.wwn), (Some(3), Some(0x5000_c500_1234_5678)));
        assert_eq!((disk.block_bytes, disk.rotation), (4096, 7200));
        assert!(disk.sata && disk.read_only && !disk.cache);
        let usual = DiskSpec::new(Medium::Memory { bytes: 64 << 20 });
        assert_eq!(memory("64m"), Ok(usual));
        assert_eq!((size("7E"), size("8191P")), (Ok(7 << 60), Ok(8191 << 50)));
        assert!(size("8E").is_err_and(|sentence| sentence.contains("less than 8 EiB")));
    }

    #[test]
    fn what_is_no_option_is_answered_with_those_that_there_are() {
        for wrong in [
            "",
            ",slot=1",
            "d,",
            "d,slot",
            "d,slot=x",
            "d,slot=256",
            "d,block=513",
            "d,wwn=1",
            "d,wwn=zzzzzzzzzzzzzzzz",
            "d,rotation=99999",
            "d,sata=yes",
            "d,cache=maybe",
            "d,size=0",
            "d,size=9E",
            "d,colour=red",
        ] {
            assert!(matches!(file(Path::new(wrong)), Err(Error::Usage(_))), "{wrong}");
        }
        for wrong in ["x", "0", "-1", "9999999P", "1M,size=2M", "é", "1é"] {
            assert!(matches!(memory(wrong), Err(Error::Usage(_))), "{wrong}");
        }
    }
}
