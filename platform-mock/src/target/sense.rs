//! Sense data in fixed and in descriptor format (SPC-4 4.5) and the SCSI status codes (SAM-5 5.3.1).

use super::ata::Registers;

/// Status codes of SAM-5 5.3.1.
pub mod status {
    /// The command completed.
    pub const GOOD: u8 = 0x00;
    /// The command ended with sense data.
    pub const CHECK_CONDITION: u8 = 0x02;
    /// The logical unit cannot take the command now.
    pub const BUSY: u8 = 0x08;
    /// Another initiator has reserved the logical unit.
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    /// The task set has no room for the command.
    pub const TASK_SET_FULL: u8 = 0x28;
}

/// Sense keys of SPC-4 table 48.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SenseKey {
    /// Nothing to report.
    NoSense = 0x0,
    /// The command succeeded after some recovery.
    RecoveredError = 0x1,
    /// The medium cannot be accessed now.
    NotReady = 0x2,
    /// A defect of the medium.
    MediumError = 0x3,
    /// A failure of the device that is not the medium's.
    HardwareError = 0x4,
    /// The command, or its parameters, asked for something that does not exist.
    IllegalRequest = 0x5,
    /// Something changed that the initiator has not been told of.
    UnitAttention = 0x6,
    /// The medium is protected against what was asked.
    DataProtect = 0x7,
    /// The device gave the command up.
    AbortedCommand = 0xB,
    /// The data did not equal the medium's.
    Miscompare = 0xE,
}

/// Sense data; [`SenseData::to_bytes`] gives its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenseData {
    /// The sense key.
    pub key: SenseKey,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
    /// The INFORMATION field and its VALID bit: an LBA, or a byte offset for MISCOMPARE.
    /// Fixed format has 32 bits for it; a value that does not fit leaves it invalid there (SPC-4
    /// 4.5.3.2).
    pub information: Option<u64>,
    /// The SENSE KEY SPECIFIC bytes 15..18, with SKSV (bit 7 of the first) set.
    pub specific: Option<[u8; 3]>,
    /// Whether the bytes are in descriptor format. The logical unit sets it as D_SENSE of its
    /// control mode page says.
    pub descriptor: bool,
    /// What an ATA command left in the disk's registers; always in descriptor format (SAT-3 12.2.6).
    pub registers: Option<Registers>,
}

impl SenseData {
    /// Bytes of fixed-format sense data.
    pub const FIXED_BYTES: usize = 18;

    /// Sense data of a key, an additional sense code and its qualifier.
    pub const fn new(key: SenseKey, asc: u8, ascq: u8) -> SenseData {
        SenseData {
            key,
            asc,
            ascq,
            information: None,
            specific: None,
            descriptor: false,
            registers: None,
        }
    }

    /// The same with an INFORMATION field.
    pub fn with_information(mut self, value: u64) -> SenseData {
        self.information = Some(value);
        self
    }

    /// The same with the registers that an ATA command left.
    pub(super) fn with_registers(mut self, registers: Registers) -> SenseData {
        self.registers = Some(registers);
        self
    }

    /// The bytes, of which fixed format has 18 and descriptor format 8 to 42; response code 70h or
    /// 72h (current).
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.descriptor || self.registers.is_some() {
            self.in_descriptors()
        } else {
            self.in_fixed_format().to_vec()
        }
    }

    fn in_fixed_format(&self) -> [u8; SenseData::FIXED_BYTES] {
        let mut bytes = [0; SenseData::FIXED_BYTES];
        bytes[0] = 0x70;
        if let Some(information) = self.information.and_then(|value| u32::try_from(value).ok()) {
            bytes[0] |= 0x80;
            bytes[3..7].copy_from_slice(&information.to_be_bytes());
        }
        bytes[2] = self.key as u8;
        bytes[7] = (SenseData::FIXED_BYTES - 8) as u8;
        bytes[12] = self.asc;
        bytes[13] = self.ascq;
        if let Some(specific) = self.specific {
            bytes[15..18].copy_from_slice(&specific);
        }
        bytes
    }

    fn in_descriptors(&self) -> Vec<u8> {
        let mut bytes = vec![0x72, self.key as u8, self.asc, self.ascq, 0, 0, 0, 0];
        if let Some(information) = self.information {
            bytes.extend_from_slice(&[0x00, 0x0A, 0x80, 0]);
            bytes.extend_from_slice(&information.to_be_bytes());
        }
        if let Some([first, high, low]) = self.specific {
            bytes.extend_from_slice(&[0x02, 0x06, 0, 0, first, high, low, 0]);
        }
        if let Some(registers) = &self.registers {
            bytes.extend_from_slice(&registers.descriptor());
        }
        bytes[7] = (bytes.len() - 8) as u8;
        bytes
    }

    const fn illegal(asc: u8, ascq: u8) -> SenseData {
        SenseData::new(SenseKey::IllegalRequest, asc, ascq)
    }

    /// The field pointer of SPC-4 4.5.2.4.2: which byte, and which bit is the field's leftmost.
    fn pointing(mut self, in_cdb: bool, byte: usize, bit: Option<u8>) -> SenseData {
        let [high, low] = u16::try_from(byte).unwrap_or(u16::MAX).to_be_bytes();
        let first = 0x80 | if in_cdb { 0x40 } else { 0 } | bit.map_or(0, |bit| 0x08 | bit);
        self.specific = Some([first, high, low]);
        self
    }

    pub(super) const INVALID_OPERATION_CODE: SenseData = SenseData::illegal(0x20, 0x00);
    pub(super) const LBA_OUT_OF_RANGE: SenseData = SenseData::illegal(0x21, 0x00);
    pub(super) const LOGICAL_UNIT_NOT_SUPPORTED: SenseData = SenseData::illegal(0x25, 0x00);
    pub(super) const PARAMETER_LIST_LENGTH_ERROR: SenseData = SenseData::illegal(0x1A, 0x00);
    pub(super) const BECOMING_READY: SenseData = SenseData::new(SenseKey::NotReady, 0x04, 0x01);
    pub(super) const INITIALIZING_COMMAND_REQUIRED: SenseData =
        SenseData::new(SenseKey::NotReady, 0x04, 0x02);
    pub(super) const MEDIUM_NOT_PRESENT: SenseData = SenseData::new(SenseKey::NotReady, 0x3A, 0x00);
    pub(super) const WRITE_PROTECTED: SenseData = SenseData::new(SenseKey::DataProtect, 0x27, 0x00);
    pub(super) const FORMAT_FAILED: SenseData = SenseData::new(SenseKey::MediumError, 0x31, 0x01);
    pub(super) const INVALID_RELEASE: SenseData = SenseData::illegal(0x26, 0x04);
    pub(super) const WRITE_ERROR: SenseData = SenseData::new(SenseKey::MediumError, 0x0C, 0x00);
    pub(super) const SPACE_ALLOCATION_FAILED: SenseData =
        SenseData::new(SenseKey::DataProtect, 0x27, 0x07);
    pub(super) const DATA_PHASE_ERROR: SenseData =
        SenseData::new(SenseKey::AbortedCommand, 0x4B, 0x00);

    /// INVALID FIELD IN CDB at a byte, and at a bit where the field does not start the byte.
    pub(super) fn invalid_field(byte: usize, bit: Option<u8>) -> SenseData {
        SenseData::illegal(0x24, 0x00).pointing(true, byte, bit)
    }

    /// INVALID FIELD IN PARAMETER LIST at a byte.
    pub(super) fn invalid_parameter(byte: usize) -> SenseData {
        SenseData::illegal(0x26, 0x00).pointing(false, byte, None)
    }

    pub(super) fn unrecovered_read(lba: u64) -> SenseData {
        SenseData::new(SenseKey::MediumError, 0x11, 0x00).with_information(lba)
    }

    pub(super) fn write_error(lba: u64) -> SenseData {
        SenseData::WRITE_ERROR.with_information(lba)
    }

    /// MISCOMPARE DURING VERIFY OPERATION at a byte of the data-out buffer.
    pub(super) fn miscompare(offset: u64) -> SenseData {
        SenseData::new(SenseKey::Miscompare, 0x1D, 0x00).with_information(offset)
    }
}
