//! `scsi`: single commands.

mod ata;

use std::io::Read as _;
use std::path::Path;

use fusion_mpt::scsi::{Cdb, Sense};
use fusion_mpt::sgl::Direction;
use fusion_mpt::targets::TargetId;
use fusion_mpt_linux::cdb;
use fusion_mpt_linux::disk::{Disk, ask, find_target, refused, run_once, settle};
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::{Buffer, Host, Request};
use serde::Serialize;

use crate::cli::{Global, Scsi, Unit};
use crate::recovered::Recovered;
use crate::table::pairs;
use crate::{ask_before_writing, open_unit, output};

/// The most data that a command of this kind moves.
const MOST_BYTES: usize = 1 << 20;
/// The longest INQUIRY data that is asked for; older disks take one byte of length.
const INQUIRY_BYTES: u16 = 252;

/// Runs one of the commands.
pub(crate) fn run(global: &Global, command: &Scsi) -> Result<(), Error> {
    match command {
        Scsi::Inq { unit } => inquiry(global, unit),
        Scsi::Vpd { page, unit } => product_data(global, unit, *page),
        Scsi::Capacity { unit } => capacity(global, unit),
        Scsi::Luns { unit } => luns(global, unit),
        Scsi::Ata(arguments) => ata::run(global, arguments),
        Scsi::Raw { cdb, unit, in_bytes, out_file, yes } => {
            let cdb = parse_cdb(cdb)?;
            let data = out_file.as_deref().map(read_all).transpose()?;
            let changes = data.is_some() || cdb::may_destroy(&cdb);
            if changes {
                let what = format!("{} may change target {}", cdb::describe(&cdb), unit.target);
                ask_before_writing(global, *yes, &what)?;
            }
            raw(global, unit, &cdb, *in_bytes, data.as_deref())
        }
    }
}

fn find(host: &mut dyn Host, unit: &Unit) -> Result<(TargetId, Buffer), Error> {
    let target = find_target(host, unit.target)?;
    Ok((target.id, host.allocate(MOST_BYTES)?))
}

#[derive(Serialize)]
struct Inquiry {
    bus: String,
    target: u16,
    device_type: u8,
    device_type_name: &'static str,
    vendor: String,
    product: String,
    revision: String,
    serial: String,
    version: u8,
    data_hex: String,
    recovery: Recovered,
}

fn inquiry(global: &Global, unit: &Unit) -> Result<(), Error> {
    let (inquiry, data) = open_unit(global, unit, 0, |host| {
        let (target, buffer) = find(host, unit)?;
        let disk = Disk::identify(host, &buffer, target, unit.lun)?;
        let cdb = Cdb::inquiry(INQUIRY_BYTES);
        let data = ask(host, &buffer, (target, unit.lun), cdb, INQUIRY_BYTES.into())?;
        let inquiry = Inquiry {
            bus: global.bus.to_string(),
            target: unit.target,
            device_type: disk.device_type,
            device_type_name: disk.type_name(),
            vendor: disk.vendor,
            product: disk.product,
            revision: disk.revision,
            serial: disk.serial,
            version: data.get(2).copied().unwrap_or(0),
            data_hex: hex(&data),
            recovery: Recovered::of(host),
        };
        Ok((inquiry, data))
    })?;
    output::print(global.json, "scsi inq", &inquiry, || {
        let mut text = pairs(&[
            ("type", format!("{} ({})", inquiry.device_type_name, inquiry.device_type)),
            ("vendor", inquiry.vendor.clone()),
            ("product", inquiry.product.clone()),
            ("revision", inquiry.revision.clone()),
            ("serial", inquiry.serial.clone()),
            ("SPC version", inquiry.version.to_string()),
        ]);
        text.push_str(&output::hex_dump(&data));
        text.push_str(&inquiry.recovery.text());
        text
    })
}

#[derive(Serialize)]
struct ProductData {
    bus: String,
    target: u16,
    page: u8,
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<Vec<u8>>,
    data_hex: String,
    recovery: Recovered,
}

fn product_data(global: &Global, unit: &Unit, page: u8) -> Result<(), Error> {
    let (data, recovery) = open_unit(global, unit, 0, |host| {
        let (target, buffer) = find(host, unit)?;
        let cdb = Cdb::inquiry_vpd(page, INQUIRY_BYTES);
        let data = ask(host, &buffer, (target, unit.lun), cdb, INQUIRY_BYTES.into())?;
        Ok((data, Recovered::of(host)))
    })?;
    let length = match data.as_slice() {
        [_, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])) + 4,
        _ => 0,
    };
    let data = data.get(..length).unwrap_or(&data);
    let found = ProductData {
        bus: global.bus.to_string(),
        target: unit.target,
        page,
        name: page_name(page),
        pages: (page == 0).then(|| data.get(4..).unwrap_or_default().to_vec()),
        data_hex: hex(data),
        recovery,
    };
    output::print(global.json, "scsi vpd", &found, || {
        let mut text = format!("page {page:#04x}, {}\n", found.name);
        match &found.pages {
            Some(pages) => {
                for page in pages {
                    text.push_str(&format!("  {page:#04x}  {}\n", page_name(*page)));
                }
            }
            None => text.push_str(&output::hex_dump(data)),
        }
        text.push_str(&recovery.text());
        text
    })
}

/// The pages that disks have (SPC-5 7.7, SBC-4 6.6).
const fn page_name(page: u8) -> &'static str {
    match page {
        0x00 => "supported pages",
        0x80 => "unit serial number",
        0x83 => "device identification",
        0x84 => "software interface identification",
        0x85 => "management network addresses",
        0x86 => "extended INQUIRY data",
        0x87 => "mode page policy",
        0x88 => "SCSI ports",
        0x89 => "ATA information",
        0x8a => "power condition",
        0x8f => "third-party copy",
        0xb0 => "block limits",
        0xb1 => "block device characteristics",
        0xb2 => "logical block provisioning",
        0xb3 => "referrals",
        0xb6 => "zoned block device characteristics",
        _ => "other",
    }
}

#[derive(Serialize)]
struct Capacity {
    bus: String,
    target: u16,
    blocks: u64,
    block_bytes: u32,
    bytes: u64,
    last_lba: u64,
    physical_block_bytes: Option<u64>,
    thin: Option<bool>,
    protection: Option<bool>,
    recovery: Recovered,
}

fn capacity(global: &Global, unit: &Unit) -> Result<(), Error> {
    let found = open_unit(global, unit, 0, |host| {
        let (target, buffer) = find(host, unit)?;
        let disk = Disk::identify(host, &buffer, target, unit.lun)?;
        disk.check_range(0, 1)?;
        // What (16) says beyond (10); a disk that does not know it has said enough.
        let cdb = Cdb::read_capacity_16(32);
        let long = ask(host, &buffer, (target, unit.lun), cdb, 32).unwrap_or_default();
        let exponent = long.get(13).map(|byte| byte & 0x0f);
        Ok(Capacity {
            bus: global.bus.to_string(),
            target: unit.target,
            blocks: disk.blocks,
            block_bytes: disk.block_bytes,
            bytes: disk.bytes(),
            last_lba: disk.blocks - 1,
            physical_block_bytes: exponent.map(|power| u64::from(disk.block_bytes) << power),
            thin: long.get(14).map(|byte| byte & 0x80 != 0),
            protection: long.get(12).map(|byte| byte & 1 != 0),
            recovery: Recovered::of(host),
        })
    })?;
    output::print(global.json, "scsi capacity", &found, || {
        let told = |flag: Option<bool>| match flag {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not told",
        };
        let mut text = pairs(&[
            ("blocks", format!("{}, the last one is {}", found.blocks, found.last_lba)),
            ("bytes of a block", found.block_bytes.to_string()),
            (
                "bytes of a physical block",
                found.physical_block_bytes.map_or("not told".into(), |bytes| bytes.to_string()),
            ),
            ("size", format!("{} ({} bytes)", output::size(found.bytes), found.bytes)),
            ("thin", told(found.thin).into()),
            ("protection information", told(found.protection).into()),
        ]);
        text.push_str(&found.recovery.text());
        text
    })
}

#[derive(Serialize)]
struct Luns {
    bus: String,
    target: u16,
    luns: Vec<String>,
    recovery: Recovered,
}

fn luns(global: &Global, unit: &Unit) -> Result<(), Error> {
    const ALLOCATION: u32 = 4096;
    let (data, recovery) = open_unit(global, unit, 0, |host| {
        let (target, buffer) = find(host, unit)?;
        let cdb = Cdb::report_luns(ALLOCATION);
        let data = ask(host, &buffer, (target, unit.lun), cdb, ALLOCATION)?;
        Ok((data, Recovered::of(host)))
    })?;
    let length = match data.as_slice() {
        [a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        _ => 0,
    };
    let list = data.get(8..).unwrap_or_default();
    let list = list.get(..length).unwrap_or(list);
    let found = Luns {
        bus: global.bus.to_string(),
        target: unit.target,
        luns: list.chunks_exact(8).map(hex).collect(),
        recovery,
    };
    output::print(global.json, "scsi luns", &found, || {
        let luns: String = found.luns.iter().map(|lun| format!("{lun}\n")).collect();
        luns + &recovery.text()
    })
}

#[derive(Serialize)]
struct Raw {
    bus: String,
    target: u16,
    command: String,
    outcome: String,
    good: bool,
    transferred: u32,
    sense_key: Option<u8>,
    sense_hex: String,
    data_hex: String,
    recovery: Recovered,
}

fn raw(
    global: &Global,
    unit: &Unit,
    cdb: &[u8],
    in_bytes: Option<u32>,
    out_data: Option<&[u8]>,
) -> Result<(), Error> {
    let (ended, data, target, recovery) = open_unit(global, unit, 0, |host| {
        let (target, buffer) = find(host, unit)?;
        let (direction, bytes) = match (in_bytes, out_data) {
            (_, Some(data)) => {
                buffer.write(0, data);
                (Direction::Write, data.len() as u32)
            }
            (Some(bytes), None) => (Direction::Read, bytes),
            (None, None) => (Direction::None, 0),
        };
        let request = Request {
            target,
            lun: unit.lun,
            cdb,
            direction,
            buffer: Some(&buffer),
            offset: 0,
            bytes,
            cookie: 0,
        };
        // The attentions of a disk just found are not this command's answer.
        settle(host, (target, unit.lun))?;
        let ended = run_once(host, &request)?;
        let mut data = vec![0; (ended.transferred() as usize).min(MOST_BYTES)];
        if direction == Direction::Read {
            buffer.read(0, &mut data);
        } else {
            data.clear();
        }
        Ok((ended, data, target, Recovered::of(host)))
    })?;
    let answer = Raw {
        bus: global.bus.to_string(),
        target: unit.target,
        command: cdb::describe(cdb),
        outcome: ended.describe(),
        good: ended.outcome.is_good(),
        transferred: ended.transferred(),
        sense_key: Sense::parse(&ended.sense).map(|sense| sense.key.0),
        sense_hex: hex(&ended.sense),
        data_hex: hex(&data),
        recovery,
    };
    if !answer.good && !global.json {
        let refusal = refused(target, cdb, &ended);
        return Err(match ended.was_ended_by_recovery() {
            // Nobody here knows what the command does when it is done twice.
            true => Error::failed(format!(
                "{refusal}; it was not sent again, send it yourself if it may run twice"
            )),
            false => refusal,
        });
    }
    output::print(global.json, "scsi raw", &answer, || {
        format!(
            "{}: {}, {} bytes\n{}{}",
            answer.command,
            answer.outcome,
            answer.transferred,
            output::hex_dump(&data),
            recovery.text()
        )
    })?;
    if answer.good { Ok(()) } else { Err(Error::Reported) }
}

/// Hex bytes, apart or together: `12 00 00`, `120000`, `0x12 0x00`.
fn parse_cdb(words: &[String]) -> Result<Vec<u8>, Error> {
    let mut digits = String::new();
    for word in words {
        let word = word.strip_prefix("0x").unwrap_or(word);
        if word.len() % 2 != 0 || !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::usage(format!(
                "\"{word}\" is no row of hex bytes, like 12 00 00 00 24 00"
            )));
        }
        digits.push_str(word);
    }
    let bytes: Vec<u8> = digits
        .as_bytes()
        .chunks_exact(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let expected = bytes.first().and_then(|operation| cdb::length_of(*operation));
    match expected {
        Some(expected) if bytes.len() != expected => Err(Error::usage(format!(
            "this CDB has {} bytes, and commands with operation code {:#04x} have {expected}",
            bytes.len(),
            bytes.first().copied().unwrap_or_default()
        ))),
        _ if bytes.is_empty() || bytes.len() > 16 => {
            Err(Error::usage(format!("this CDB has {} bytes; 1 to 16 can be sent", bytes.len())))
        }
        _ => Ok(bytes),
    }
}

fn read_all(path: &Path) -> Result<Vec<u8>, Error> {
    let mut data = Vec::new();
    let limit = MOST_BYTES as u64 + 1;
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut data)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut data))
    };
    read.map_err(|error| Error::file("read", path, &error))?;
    match data.len() {
        0 => Err(Error::failed(format!("{} is empty; leave --out-file away", path.display()))),
        length if length > MOST_BYTES => Err(Error::failed(format!(
            "{} has more than the {} that one command moves",
            path.display(),
            output::size(MOST_BYTES as u64)
        ))),
        _ => Ok(data),
    }
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Vec<u8>, Error> {
        parse_cdb(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_cdb_is_read_apart_and_together() {
        let inquiry = vec![0x12, 0, 0, 0, 0x24, 0];
        assert_eq!(parse(&["12", "00", "00", "00", "24", "00"]), Ok(inquiry.clone()));
        assert_eq!(parse(&["0x12", "0000", "002400"]), Ok(inquiry));
    }

    #[test]
    fn a_cdb_of_the_wrong_length_or_no_hex_is_refused() {
        for wrong in [&["1"][..], &["zz"], &["12", "00"], &[""], &["é0"], &["+1"], &["c0"; 17]] {
            assert!(matches!(parse(wrong), Err(Error::Usage(_))), "{wrong:?}");
        }
    }
}
