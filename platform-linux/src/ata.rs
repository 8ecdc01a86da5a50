//! ATA commands through a SCSI/ATA translation layer: ATA PASS-THROUGH (16) (SAT-3 12.2), and the
//! registers that come back as sense data.

use fusion_mpt::scsi::Sense;
use fusion_mpt::sgl::Direction;
use fusion_mpt::targets::TargetId;
use serde::Serialize;

use crate::disk::run_once;
use crate::ended::Ended;
use crate::error::Error;
use crate::host::{Buffer, Host, Request};
use crate::tries::Tries;

/// Bytes of the blocks that ATA commands count.
pub const BLOCK_BYTES: u32 = 512;
/// The command SMART (ACS-3 7.48).
pub const SMART: u8 = 0xb0;
/// What goes into LBA bits 8 to 23 with [`SMART`], so that no other command passes for it.
pub const SMART_SIGNATURE: u64 = 0x00c2_4f00;

/// How an ATA command moves its data (SAT-3 table 137, PROTOCOL).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// No data.
    NonData,
    /// Data in, by programmed I/O.
    PioIn,
    /// Data out, by programmed I/O.
    PioOut,
    /// Data in, by DMA.
    DmaIn,
    /// Data out, by DMA.
    DmaOut,
}

impl Protocol {
    /// Every protocol, by its name on a command line.
    pub const ALL: [(&'static str, Self); 5] = [
        ("none", Self::NonData),
        ("pio-in", Self::PioIn),
        ("pio-out", Self::PioOut),
        ("dma-in", Self::DmaIn),
        ("dma-out", Self::DmaOut),
    ];

    /// Which way the data goes.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::NonData => Direction::None,
            Self::PioIn | Self::DmaIn => Direction::Read,
            Self::PioOut | Self::DmaOut => Direction::Write,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::NonData => 3,
            Self::PioIn => 4,
            Self::PioOut => 5,
            Self::DmaIn | Self::DmaOut => 6,
        }
    }
}

/// An ATA command as its registers have it (ACS-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtaCommand {
    /// COMMAND.
    pub command: u8,
    /// FEATURE: 8 bits, 16 with `extended`.
    pub features: u16,
    /// COUNT: 8 bits, 16 with `extended`. Of a command with data, how many blocks of
    /// [`BLOCK_BYTES`] it moves.
    pub count: u16,
    /// LBA: 28 bits, 48 with `extended`.
    pub lba: u64,
    /// DEVICE; of a 28-bit command its low nibble is bits 27:24 of the LBA, which are put there.
    pub device: u8,
    /// Whether it has 48-bit registers.
    pub extended: bool,
    /// How it moves data.
    pub protocol: Protocol,
    /// Whether its registers are to come back even when it succeeds (CK_COND).
    pub check_condition: bool,
}

impl AtaCommand {
    /// A 28-bit command without data.
    #[must_use]
    pub const fn new(command: u8) -> Self {
        Self {
            command,
            features: 0,
            count: 0,
            lba: 0,
            device: 0,
            extended: false,
            protocol: Protocol::NonData,
            check_condition: false,
        }
    }

    /// The same with `blocks` blocks of data in by programmed I/O.
    #[must_use]
    pub const fn reading(self, blocks: u16) -> Self {
        Self { protocol: Protocol::PioIn, count: blocks, ..self }
    }

    /// Whether it is known to change nothing on the medium and nothing that lasts: it identifies,
    /// reads, asks, or begins a self-test.
    #[must_use]
    pub const fn is_harmless(&self) -> bool {
        match self.command {
            // READ SECTOR(S) [EXT], READ DMA [EXT], READ VERIFY [EXT], READ LOG [DMA] EXT, READ
            // NATIVE MAX ADDRESS EXT, CHECK POWER MODE, IDENTIFY [PACKET] DEVICE.
            0x20 | 0x24 | 0xc8 | 0x25 | 0x40 | 0x42 | 0x2f | 0x47 | 0x27 | 0xe5 | 0xec | 0xa1 => {
                !matches!(self.protocol, Protocol::PioOut | Protocol::DmaOut)
            }
            // SMART: data, thresholds, logs, status.
            0xb0 if matches!(self.features, 0xd0 | 0xd1 | 0xd5 | 0xda) => true,
            // Self-tests, but for captive ones: the disk does nothing else until their end.
            0xb0 => self.features == 0xd4 && self.lba & 0x80 == 0,
            // FLUSH CACHE [EXT].
            0xe7 | 0xea => true,
            _ => false,
        }
    }

    /// Bytes of data that it moves: a count of 0 is the most that COUNT can say.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        match (self.protocol, self.count, self.extended) {
            (Protocol::NonData, ..) => 0,
            (_, 0, true) => 0x1_0000 * BLOCK_BYTES,
            (_, 0, false) => 0x100 * BLOCK_BYTES,
            (_, count, _) => count as u32 * BLOCK_BYTES,
        }
    }

    /// The CDB of ATA PASS-THROUGH (16).
    #[must_use]
    pub fn cdb(&self) -> [u8; 16] {
        let [feature_high, feature] = self.features.to_be_bytes();
        let [count_high, count] = self.count.to_be_bytes();
        let [low, mid, high, low_2, mid_2, high_2, ..] = self.lba.to_le_bytes();
        let ext = self.extended;
        let upper = |byte: u8| if ext { byte } else { 0 };
        // The length stands in COUNT, in blocks of 512 bytes.
        let transfer = match self.protocol.direction() {
            Direction::None => 0,
            Direction::Read => 0x08 | 0x04 | 0x02,
            Direction::Write => 0x04 | 0x02,
        };
        let device = if ext { self.device } else { self.device | low_2 & 0x0f };
        [
            0x85,
            self.protocol.code() << 1 | u8::from(ext),
            transfer | if self.check_condition { 0x20 } else { 0 },
            upper(feature_high),
            feature,
            upper(count_high),
            count,
            upper(low_2),
            low,
            upper(mid_2),
            mid,
            upper(high_2),
            high,
            device,
            self.command,
            0,
        ]
    }
}

/// The registers that an ATA command has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Registers {
    /// Whether COUNT and LBA are the 48-bit ones.
    pub extended: bool,
    /// ERROR.
    pub error: u8,
    /// COUNT.
    pub count: u16,
    /// LBA.
    pub lba: u64,
    /// DEVICE.
    pub device: u8,
    /// STATUS.
    pub status: u8,
}

impl Registers {
    /// Reads them from sense data: the ATA Status Return descriptor, or the fixed format's
    /// INFORMATION and COMMAND-SPECIFIC INFORMATION fields (SAT-3 12.2.6). `None` if there are none.
    #[must_use]
    pub fn parse(sense: &[u8]) -> Option<Self> {
        match sense.first()? & 0x7f {
            0x72 | 0x73 => descriptor(sense),
            0x70 | 0x71 => fixed(sense),
            _ => None,
        }
    }

    /// LBA bits 15:8 and 23:16, where SMART puts its signature.
    #[must_use]
    pub const fn mid_and_high(&self) -> (u8, u8) {
        let [_, mid, high, ..] = self.lba.to_le_bytes();
        (mid, high)
    }

    /// STATUS and ERROR in words (ACS-3 6.2 and 6.3; older names where the bits had others).
    #[must_use]
    pub fn describe(&self) -> String {
        let bits = |register: u8, names: [&'static str; 8]| {
            let set = (0..8).filter(move |bit| register >> bit & 1 != 0);
            set.zip(std::iter::repeat(names))
                .filter_map(|(bit, names)| names.get(bit).copied())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let status =
            bits(self.status, ["ERR", "SENSE", "ALIGN", "DRQ", "DSC", "DF", "DRDY", "BSY"]);
        let error = bits(self.error, ["ILI", "EOM", "ABRT", "MCR", "IDNF", "MC", "UNC", "ICRC"]);
        let lba_digits = if self.extended { 12 } else { 7 };
        let mut text = format!("status {:#04x} ({status})", self.status);
        if self.status & 1 != 0 {
            text.push_str(&format!(", error {:#04x} ({error})", self.error));
        }
        text.push_str(&format!(
            ", count {:#x}, lba 0x{:0lba_digits$x}, device {:#04x}",
            self.count, self.lba, self.device
        ));
        text
    }
}

fn descriptor(sense: &[u8]) -> Option<Registers> {
    let length = usize::from(*sense.get(7)?);
    let mut rest = sense.get(8..)?;
    rest = rest.get(..length).unwrap_or(rest);
    loop {
        match rest {
            [
                0x09,
                12,
                flags,
                error,
                count_high,
                count,
                low_2,
                low,
                mid_2,
                mid,
                high_2,
                high,
                device,
                status,
                ..,
            ] => {
                let lba = [*low, *mid, *high, *low_2, *mid_2, *high_2, 0, 0];
                return Some(Registers {
                    extended: flags & 1 != 0,
                    error: *error,
                    count: u16::from_be_bytes([*count_high, *count]),
                    lba: u64::from_le_bytes(lba),
                    device: *device,
                    status: *status,
                });
            }
            [_, length, after @ ..] => rest = after.get(usize::from(*length)..)?,
            _ => return None,
        }
    }
}

/// Only where the additional sense code says that there are registers: otherwise the fields hold
/// what they hold for any command.
fn fixed(sense: &[u8]) -> Option<Registers> {
    let byte = |at: usize| sense.get(at).copied();
    (byte(12)? == 0x00 && byte(13)? == 0x1d).then_some(())?;
    Some(Registers {
        extended: byte(8)? & 0x80 != 0,
        error: byte(3)?,
        count: byte(6)?.into(),
        lba: u64::from_le_bytes([byte(9)?, byte(10)?, byte(11)?, 0, 0, 0, 0, 0]),
        device: byte(5)?,
        status: byte(4)?,
    })
}

/// How an ATA command ended.
#[derive(Clone, Debug)]
pub struct AtaEnded {
    /// How the SCSI command ended.
    pub ended: Ended,
    /// The registers, if they came.
    pub registers: Option<Registers>,
}

impl AtaEnded {
    /// Whether the disk did what it was asked: GOOD, or registers that say so.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let told = Sense::parse(&self.ended.sense)
            .is_some_and(|sense| (sense.asc, sense.ascq) == (0x00, 0x1d));
        match self.registers {
            // ERR and DF.
            Some(registers) => told && registers.status & 0x21 == 0,
            None => self.ended.outcome.is_good(),
        }
    }

    /// How it ended, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self.registers {
            Some(registers) => format!("{}; {}", self.ended.describe(), registers.describe()),
            None => self.ended.describe(),
        }
    }
}

/// Sends an ATA command; its data is at the beginning of `buffer`. It is sent again only while the
/// device says that it has not run it.
///
/// # Errors
///
/// As [`run_once`]. How the disk ended the command is no error here.
pub fn send(
    host: &mut dyn Host,
    buffer: &Buffer,
    target: TargetId,
    command: &AtaCommand,
) -> Result<AtaEnded, Error> {
    let request = Request {
        target,
        lun: 0,
        cdb: &command.cdb(),
        direction: command.protocol.direction(),
        buffer: Some(buffer),
        offset: 0,
        bytes: command.bytes(),
        cookie: 0,
    };
    let mut tries = Tries::new();
    loop {
        let ended = run_once(host, &request)?;
        if ended.wants_another_try() && tries.again(&ended) {
            continue;
        }
        let registers = Registers::parse(&ended.sense);
        return Ok(AtaEnded { ended, registers });
    }
}

/// Sends an ATA command that answers with data, and returns the data; `None` if the disk or the
/// translation layer refused it.
///
/// # Errors
///
/// As [`send`].
pub fn read(
    host: &mut dyn Host,
    buffer: &Buffer,
    target: TargetId,
    command: &AtaCommand,
) -> Result<Option<Vec<u8>>, Error> {
    let ended = send(host, buffer, target, command)?;
    let bytes = match ended.is_good() {
        true => ended.ended.transferred().min(command.bytes()) as usize,
        false => return Ok(None),
    };
    let mut data = vec![0; bytes.min(buffer.bytes())];
    buffer.read(0, &mut data);
    Ok(Some(data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identify_is_laid_out_as_sat_has_it() {
        let command = AtaCommand { check_condition: true, ..AtaCommand::new(0xec).reading(1) };
        let cdb = [0x85, 0x08, 0x2e, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xec, 0];
        assert_eq!((command.cdb(), command.bytes()), (cdb, 512));
    }

    #[test]
    fn registers_of_48_bits_stand_apart() {
        let command = AtaCommand {
            features: 0x0102,
            count: 0x0304,
            lba: 0x0605_0403_0201,
            extended: true,
            protocol: Protocol::DmaOut,
            device: 0x40,
            ..AtaCommand::new(0x35)
        };
        let cdb = [0x85, 0x0d, 0x06, 1, 2, 3, 4, 4, 1, 5, 2, 6, 3, 0x40, 0x35, 0];
        assert_eq!(command.cdb(), cdb);
        let short = AtaCommand { extended: false, ..command }.cdb();
        assert_eq!(short[3..14], [0, 2, 0, 4, 0, 1, 0, 2, 0, 3, 0x44]);
    }

    #[test]
    fn only_what_is_known_to_be_harmless_is() {
        assert!(AtaCommand::new(0xec).reading(1).is_harmless());
        assert!(!AtaCommand::new(0x06).is_harmless(), "DATA SET MANAGEMENT");
        let smart = |features, lba| AtaCommand { features, lba, ..AtaCommand::new(0xb0) };
        assert!(smart(0xda, 0xc24f00).is_harmless() && smart(0xd4, 0xc24f01).is_harmless());
        assert!(!smart(0xd6, 0xc24f00).is_harmless(), "WRITE LOG");
        assert!(!smart(0xd4, 0xc24f82).is_harmless(), "it takes hours, and no command meanwhile");
        assert!(!smart(0xd8, 0xc24f00).is_harmless(), "SMART ENABLE OPERATIONS lasts");
        assert!(!AtaCommand { protocol: Protocol::DmaOut, ..AtaCommand::new(0x25) }.is_harmless());
    }

    #[test]
    fn registers_are_found_behind_other_descriptors() {
        let mut sense = vec![0x72, 1, 0, 0x1d, 0, 0, 0, 26];
        sense.extend([0x00, 0x0a, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        sense.extend([0x09, 0x0c, 0, 0, 0, 0xff, 0, 1, 0, 0x4f, 0, 0xc2, 0xa0, 0x50]);
        let registers = Registers::parse(&sense).expect("there");
        assert_eq!(registers.mid_and_high(), (0x4f, 0xc2));
        assert_eq!((registers.count, registers.device, registers.status), (0xff, 0xa0, 0x50));
        assert_eq!(
            registers.describe(),
            "status 0x50 (DSC DRDY), count 0xff, lba 0x0c24f01, device 0xa0"
        );
        sense.truncate(sense.len() - 1);
        assert_eq!(Registers::parse(&sense), None);
    }

    #[test]
    fn fixed_sense_has_registers_only_when_it_says_so() {
        let mut sense = [0; 18];
        sense[0] = 0x70;
        (sense[4], sense[10], sense[11]) = (0x50, 0x4f, 0xc2);
        assert_eq!(Registers::parse(&sense), None);
        sense[13] = 0x1d;
        assert_eq!(Registers::parse(&sense).map(|found| found.mid_and_high()), Some((0x4f, 0xc2)));
    }

    proptest! {
        #[test]
        fn sense_of_any_bytes_is_read(sense in proptest::collection::vec(any::<u8>(), 0..64), first in 0x70u8..0x74) {
            let mut sense = sense;
            if let Some(code) = sense.first_mut() {
                *code = first;
            }
            if let Some(registers) = Registers::parse(&sense) {
                prop_assert!(registers.describe().starts_with("status"));
            }
        }
    }
}
