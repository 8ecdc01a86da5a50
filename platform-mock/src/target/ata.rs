//! The ATA disk behind the translation layer: IDENTIFY DEVICE (ACS-3 7.12), the ATA Information
//! page (SAT-3 12.4.2), and ATA PASS-THROUGH (SAT-3 12.2).

use super::Target;
use super::data::Task;
use super::health;
use super::operations::{Direction, Operation};
use super::sense::{SenseData, SenseKey};

/// Bytes of IDENTIFY DEVICE data.
const IDENTIFY_BYTES: usize = 512;
/// SMART: what it does, the feature register says.
const SMART: u8 = 0xB0;
/// STATUS: DRDY and the bit above it.
const READY: u8 = 0x50;
/// STATUS: as [`READY`], with ERR.
const FAILED: u8 = 0x51;
/// ERROR: the command was aborted.
const ABORTED: u8 = 0x04;

/// The registers that an ATA command left, as its return descriptor gives them (SAT-3 12.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// Whether the command had 48-bit registers.
    pub extended: bool,
    /// ERROR.
    pub error: u8,
    /// COUNT.
    pub count: u16,
    /// LBA, 48 bits.
    pub lba: u64,
    /// DEVICE.
    pub device: u8,
    /// STATUS.
    pub status: u8,
}

impl Registers {
    /// The ATA Status Return sense data descriptor.
    pub(super) fn descriptor(&self) -> [u8; 14] {
        let lba = self.lba.to_le_bytes();
        let [count_high, count_low] = self.count.to_be_bytes();
        [
            0x09,
            0x0C,
            u8::from(self.extended),
            self.error,
            count_high,
            count_low,
            lba[3],
            lba[0],
            lba[4],
            lba[1],
            lba[5],
            lba[2],
            self.device,
            self.status,
        ]
    }
}

/// The fields of an ATA PASS-THROUGH CDB, (12) or (16).
struct PassThrough {
    protocol: u8,
    /// EXTEND: the fields are 48-bit ones.
    extended: bool,
    check_condition: bool,
    /// T_TYPE, BYT_BLOK and T_LENGTH, as they are.
    in_logical_blocks: bool,
    to_initiator: bool,
    in_blocks: bool,
    length_in: u8,
    features: u16,
    count: u16,
    lba: u64,
    device: u8,
    command: u8,
}

impl PassThrough {
    fn parse(cdb: &[u8]) -> PassThrough {
        let byte = |at: usize| cdb.get(at).copied().unwrap_or(0);
        let long = byte(0) == 0x85;
        let extended = long && byte(1) & 0x01 != 0;
        let high = |at: usize| if extended { u16::from(byte(at)) << 8 } else { 0 };
        let (features, count, lba, device, command) = if long {
            let low = [byte(8), byte(10), byte(12)];
            let upper = if extended { [byte(7), byte(9), byte(11)] } else { [0; 3] };
            let lba = [low[0], low[1], low[2], upper[0], upper[1], upper[2], 0, 0];
            let features = high(3) | u16::from(byte(4));
            (features, high(5) | u16::from(byte(6)), lba, byte(13), byte(14))
        } else {
            let lba = [byte(5), byte(6), byte(7), 0, 0, 0, 0, 0];
            (byte(3).into(), byte(4).into(), lba, byte(8), byte(9))
        };
        PassThrough {
            protocol: byte(1) >> 1 & 0x0F,
            extended,
            check_condition: byte(2) & 0x20 != 0,
            in_logical_blocks: byte(2) & 0x10 != 0,
            to_initiator: byte(2) & 0x08 != 0,
            in_blocks: byte(2) & 0x04 != 0,
            length_in: byte(2) & 0x03,
            features,
            count,
            lba: u64::from_le_bytes(lba),
            device,
            command,
        }
    }
}

/// What an ATA PASS-THROUGH moves: as much as the field that T_LENGTH names says.
pub(super) fn data_phase(cdb: &[u8], block_size: u32) -> (Direction, u64) {
    let pass = PassThrough::parse(cdb);
    let direction = match (pass.protocol, pass.to_initiator) {
        // PIO in, PIO out; DMA either way.
        (4, true) | (6, true) => Direction::In,
        (5, false) | (6, false) => Direction::Out,
        _ => return (Direction::None, 0),
    };
    let unit = match (pass.in_blocks, pass.in_logical_blocks) {
        (false, _) => 1,
        (true, false) => 512,
        (true, true) => u64::from(block_size),
    };
    match pass.length_in {
        1 => (direction, u64::from(pass.features) * unit),
        2 => (direction, u64::from(pass.count) * unit),
        _ => (Direction::None, 0),
    }
}

/// ATA PASS-THROUGH(12) and (16): what smartctl and hdparm ask first. Any other command is aborted
/// as the disk would abort it.
pub(super) fn pass_through(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let pass = PassThrough::parse(task.cdb);
    let (direction, bytes) = operation.data_phase(task.cdb, target.config.block_size);
    let mut registers = Registers {
        extended: pass.extended,
        error: 0,
        count: 0,
        lba: 0,
        device: pass.device,
        status: READY,
    };
    const NON_DATA: u8 = 3;
    const PIO_IN: u8 = 4;
    match (pass.command, pass.protocol) {
        // IDENTIFY DEVICE
        (0xEC, PIO_IN) if direction == Direction::In => {
            let data = target.identify_device();
            task.reply(&data, bytes)?;
        }
        // CHECK POWER MODE: active or idle, or standby.
        (0xE5, NON_DATA) => registers.count = if target.started { 0xFF } else { 0x00 },
        // FLUSH CACHE, FLUSH CACHE EXT
        (0xE7 | 0xEA, NON_DATA) => {
            target.disk.flush().map_err(|_| SenseData::WRITE_ERROR)?;
        }
        (SMART, protocol) if pass.lba & !0xFF == health::SIGNATURE => {
            let reads = protocol == PIO_IN && direction == Direction::In;
            match target.smart(&pass, reads) {
                Some(Smart::Data(data)) => task.reply(data.as_slice(), bytes)?,
                Some(Smart::Lba(lba)) => registers.lba = lba,
                None => return Err(aborted(registers)),
            }
        }
        // SET FEATURES: write cache on and off.
        (0xEF, NON_DATA) if matches!(pass.features, 0x02 | 0x82) => {
            let on = pass.features == 0x02;
            target.disk.set_write_cache(on).map_err(|_| SenseData::WRITE_ERROR)?;
        }
        _ => return Err(aborted(registers)),
    }
    if pass.check_condition {
        // ATA PASS THROUGH INFORMATION AVAILABLE
        let told = SenseData::new(SenseKey::RecoveredError, 0x00, 0x1D);
        return Err(told.with_registers(registers));
    }
    Ok(())
}

/// The disk has aborted the command.
fn aborted(registers: Registers) -> SenseData {
    let registers = Registers { status: FAILED, error: ABORTED, ..registers };
    SenseData::new(SenseKey::AbortedCommand, 0x00, 0x00).with_registers(registers)
}

/// What a SMART command gives back.
enum Smart {
    Data(Box<[u8; health::STRUCTURE_BYTES]>),
    Lba(u64),
}

/// Puts text into ATA words: the first character of each pair in the high byte, padded with spaces.
fn ata_text(words: &mut [u16], text: &[u8]) {
    let mut characters = text.iter().copied().chain(std::iter::repeat(b' '));
    for word in words {
        let mut next = || characters.next().unwrap_or(b' ');
        *word = u16::from_be_bytes([next(), next()]);
    }
}

impl Target {
    /// SMART (ACS-3 7.48): READ DATA, READ THRESHOLDS, EXECUTE OFF-LINE IMMEDIATE, READ LOG, ENABLE
    /// and DISABLE OPERATIONS, RETURN STATUS. `reads` says whether the command moves data in; `None`
    /// aborts it. Enabling is all that it takes while it is off.
    fn smart(&mut self, pass: &PassThrough, reads: bool) -> Option<Smart> {
        let low = pass.lba as u8;
        if !self.smart_is_on() && pass.features != 0xD8 {
            return None;
        }
        match (pass.features, reads) {
            (0xD0, true) => Some(Smart::Data(Box::new(self.smart_data()))),
            (0xD1, true) => Some(Smart::Data(Box::new(self.smart_thresholds()))),
            (0xD5, true) => self.smart_log(low).map(|log| Smart::Data(Box::new(log))),
            (0xD4, false) => {
                match low {
                    // Off-line collection, of which nothing comes; aborting, when nothing runs.
                    0x00 | 0x7F => {}
                    // Short and extended, in the background and waited for.
                    0x01 | 0x02 | 0x81 | 0x82 => {
                        self.check_ready().ok()?;
                        let waited = if low & 0x80 != 0 { 4 } else { 0 };
                        self.self_test((low & 0x7F) + waited).ok()?;
                    }
                    _ => return None,
                }
                Some(Smart::Lba(0))
            }
            (0xD8 | 0xD9, false) => {
                self.turn_smart(pass.features == 0xD8);
                Some(Smart::Lba(0))
            }
            (0xDA, false) => Some(Smart::Lba(self.smart_status())),
            _ => None,
        }
    }

    /// The ATA Information page without its four header bytes: who translates, the signature of an
    /// ATA disk, and what IDENTIFY DEVICE gives.
    pub(super) fn ata_information(&self) -> Vec<u8> {
        let mut page = vec![0; 4];
        page.extend_from_slice(b"LSI     LSI SATL        0008");
        let mut signature = [0; 20];
        // Device to host register FIS: DRDY, and the LBA and count of an ATA disk.
        signature[..5].copy_from_slice(&[0x34, 0x00, READY, 0x01, 0x01]);
        signature[12] = 0x01;
        page.extend_from_slice(&signature);
        page.extend_from_slice(&[0xEC, 0, 0, 0]);
        page.extend_from_slice(&self.identify_device());
        page
    }

    fn identify_device(&self) -> [u8; IDENTIFY_BYTES] {
        let config = &self.config;
        let mut words = [0_u16; IDENTIFY_BYTES / 2];
        let blocks = self.blocks();
        let write_cache = self.disk.write_cache();
        words[0] = 0x0040; // an ATA disk, fixed
        ata_text(&mut words[10..20], &self.ascii_serial());
        ata_text(&mut words[23..27], config.revision.as_bytes());
        ata_text(&mut words[27..47], config.product.as_bytes());
        words[47] = 0x8001;
        words[49] = 0x2F00; // standby timer, IORDY, LBA, DMA
        words[50] = 0x4000;
        words[53] = 0x0006; // words 64 to 70 and 88 are valid
        let short = blocks.min(0x0FFF_FFFF) as u32;
        [words[60], words[61]] = [short as u16, (short >> 16) as u16];
        words[63] = 0x0007; // multiword DMA 0 to 2
        words[64] = 0x0003; // PIO 3 and 4
        words[65..69].fill(120);
        if config.thin {
            words[69] = 0x4020; // trimmed blocks read as zeros, always
            words[105] = 8; // blocks of ranges that one TRIM takes
            words[169] = 0x0001; // TRIM
        }
        words[75] = 31;
        words[76] = 0x010E; // NCQ; 1.5, 3 and 6 Gbit/s
        words[77] = 0x0006; // speaks 6 Gbit/s now
        words[80] = 0x03F0; // up to ACS-2
        let cache = u16::from(write_cache) << 5;
        words[82] = 0x4069; // NOP, look-ahead, write cache, power management, SMART
        words[83] = 0x7400; // FLUSH CACHE and its EXT, 48-bit addresses
        words[84] = 0x4142; // a world wide name, WRITE DMA FUA EXT, SMART self-tests
        words[85] = 0x4048 | cache | u16::from(self.smart_is_on());
        words[86] = 0x3400;
        words[87] = 0x4142;
        words[88] = 0x407F; // Ultra DMA 6
        for (at, word) in words[100..104].iter_mut().enumerate() {
            *word = (blocks >> (16 * at)) as u16;
        }
        words[106] = 0x4000;
        let exponent = u16::from(config.physical_block_exponent.min(15));
        if exponent > 0 {
            words[106] |= 0x2000 | exponent;
        }
        if config.block_size > 512 {
            words[106] |= 0x1000;
            let size = config.block_size / 2;
            [words[117], words[118]] = [size as u16, (size >> 16) as u16];
        }
        for (at, word) in words[108..112].iter_mut().enumerate() {
            *word = (config.wwn >> (48 - 16 * at)) as u16;
        }
        words[168] = u16::from(config.form_factor & 0x0F);
        words[209] = 0x4000; // logical block 0 begins a physical one
        words[217] = config.rotation_rate;
        words[222] = 0x103F; // serial, up to SATA 3.0
        words[255] = 0x00A5;
        let mut bytes = [0; IDENTIFY_BYTES];
        for (bytes, word) in bytes.chunks_exact_mut(2).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[IDENTIFY_BYTES - 1] = sum.wrapping_neg();
        bytes
    }
}
