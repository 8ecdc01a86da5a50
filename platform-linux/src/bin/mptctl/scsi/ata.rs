//! `scsi ata`: one ATA command, and the registers that come back.

use fusion_mpt::sgl::Direction;
use fusion_mpt_linux::ata::{self, AtaCommand, Registers};
use fusion_mpt_linux::disk::settle;
use fusion_mpt_linux::error::Error;
use serde::Serialize;

use super::{MOST_BYTES, find, hex, read_all};
use crate::cli::Global;
use crate::cli::health::Ata;
use crate::recovered::Recovered;
use crate::{ask_before_writing, open_unit, output};

#[derive(Serialize)]
struct Answer {
    bus: String,
    target: u16,
    cdb_hex: String,
    outcome: String,
    good: bool,
    registers: Option<Registers>,
    sense_hex: String,
    data_hex: String,
    recovery: Recovered,
}

/// Sends the command.
pub(super) fn run(global: &Global, arguments: &Ata) -> Result<(), Error> {
    let command = AtaCommand {
        command: arguments.command,
        features: arguments.features,
        count: arguments.count,
        lba: arguments.lba,
        device: arguments.device,
        extended: arguments.extended,
        protocol: arguments.protocol,
        check_condition: true,
    };
    if arguments.unit.lun != 0 {
        return Err(Error::usage("a SATA disk has no logical unit but 0; leave out --lun"));
    }
    let out = data_out(&command, arguments)?;
    if !command.is_harmless() {
        let what = format!(
            "ATA command {:#04x} may change target {}",
            command.command, arguments.unit.target
        );
        ask_before_writing(global, arguments.yes, &what)?;
    }
    let (ended, data, recovery) = open_unit(global, &arguments.unit, 0, |host| {
        let (target, buffer) = find(host, &arguments.unit)?;
        settle(host, (target, 0))?;
        if let Some(out) = &out {
            buffer.write(0, out);
        }
        let ended = ata::send(host, &buffer, target, &command)?;
        let mut data = Vec::new();
        if command.protocol.direction() == Direction::Read && ended.is_good() {
            data.resize(
                (ended.ended.transferred().min(command.bytes()) as usize).min(MOST_BYTES),
                0,
            );
            buffer.read(0, &mut data);
        }
        Ok((ended, data, Recovered::of(host)))
    })?;
    let answer = Answer {
        bus: global.bus.to_string(),
        target: arguments.unit.target,
        cdb_hex: hex(&command.cdb()),
        outcome: ended.ended.describe(),
        good: ended.is_good(),
        registers: ended.registers,
        sense_hex: hex(&ended.ended.sense),
        data_hex: hex(&data),
        recovery,
    };
    if !answer.good && !global.json {
        let hint = match ended.registers {
            Some(_) => "",
            None => "; it may be no SATA disk, or its controller passes no ATA commands",
        };
        return Err(Error::failed(format!(
            "target {} did not do ATA command {:#04x}: {}{hint}",
            arguments.unit.target,
            command.command,
            ended.describe()
        )));
    }
    output::print(global.json, "scsi ata", &answer, || {
        let mut text = format!("ATA command {:#04x}: done\n", command.command);
        match answer.registers {
            Some(registers) => text.push_str(&format!("{}\n", registers.describe())),
            None => text.push_str("no registers came back\n"),
        }
        text.push_str(&output::hex_dump(&data));
        text.push_str(&recovery.text());
        text
    })?;
    if answer.good { Ok(()) } else { Err(Error::Reported) }
}

/// The data to send, which must be as long as the command says.
fn data_out(command: &AtaCommand, arguments: &Ata) -> Result<Option<Vec<u8>>, Error> {
    let bytes = command.bytes() as usize;
    if bytes > MOST_BYTES {
        return Err(Error::usage(format!(
            "count {} is {}, and one command moves at most {}; a count of 0 is the most there is",
            command.count,
            output::size(bytes as u64),
            output::size(MOST_BYTES as u64)
        )));
    }
    match (command.protocol.direction(), &arguments.out_file) {
        (Direction::Write, Some(path)) => {
            let data = read_all(path)?;
            if data.len() != bytes {
                return Err(Error::usage(format!(
                    "{} has {} bytes, and a count of {} is {bytes}",
                    path.display(),
                    data.len(),
                    command.count
                )));
            }
            Ok(Some(data))
        }
        (Direction::Write, None) => {
            Err(Error::usage("a command that sends data wants --out-file FILE"))
        }
        (_, Some(_)) => {
            Err(Error::usage("--out-file goes with --protocol pio-out or dma-out, which send data"))
        }
        (_, None) => Ok(None),
    }
}
