//! Command descriptor blocks: the commands this project sends itself (SPC-4, SBC-3).

use core::fmt;

use super::Opcode;

/// A CDB of up to 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cdb {
    bytes: [u8; 32],
    length: u8,
}

/// READ CAPACITY (16) among the service actions of SERVICE ACTION IN (16).
const READ_CAPACITY_16: u8 = 0x10;
/// Service actions of the 32-byte commands under 0x7F.
const READ_32: u16 = 0x0009;
const WRITE_32: u16 = 0x000b;

impl Cdb {
    /// Bytes of the longest CDB there is.
    pub const LONGEST: u8 = 32;

    /// A CDB as somebody else built it; `None` if it is empty or longer than 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let length = u8::try_from(bytes.len()).ok().filter(|length| (1..=32).contains(length))?;
        let mut cdb = Self { bytes: [0; 32], length };
        cdb.put(0, bytes);
        Some(cdb)
    }

    fn new(opcode: Opcode, length: u8) -> Self {
        let mut cdb = Self { bytes: [0; 32], length };
        cdb.put(0, &[opcode.0]);
        cdb
    }

    fn put(&mut self, offset: usize, value: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(offset).zip(value) {
            *to = *from;
        }
    }

    fn with(mut self, offset: usize, value: &[u8]) -> Self {
        self.put(offset, value);
        self
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&self.bytes)
    }

    /// Its bytes, padded with zeros to the 32 of an MPI 2.x request.
    #[must_use]
    pub const fn padded(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Its bytes, padded to the 16 of an MPI 1.x request; `None` if it is longer.
    #[must_use]
    pub fn padded_16(&self) -> Option<[u8; 16]> {
        if self.length > 16 { None } else { self.bytes.first_chunk().copied() }
    }

    /// Its length in bytes, 1 to 32.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Its operation code.
    #[must_use]
    pub const fn opcode(&self) -> Opcode {
        Opcode(self.bytes[0])
    }

    /// TEST UNIT READY.
    #[must_use]
    pub fn test_unit_ready() -> Self {
        Self::new(Opcode::TEST_UNIT_READY, 6)
    }

    /// REQUEST SENSE, fixed format, for `allocation` bytes.
    #[must_use]
    pub fn request_sense(allocation: u8) -> Self {
        Self::new(Opcode::REQUEST_SENSE, 6).with(4, &[allocation])
    }

    /// INQUIRY, standard data, for `allocation` bytes.
    #[must_use]
    pub fn inquiry(allocation: u16) -> Self {
        Self::new(Opcode::INQUIRY, 6).with(3, &allocation.to_be_bytes())
    }

    /// INQUIRY of the vital product data page `page`, for `allocation` bytes.
    #[must_use]
    pub fn inquiry_vpd(page: u8, allocation: u16) -> Self {
        Self::inquiry(allocation).with(1, &[1, page])
    }

    /// MODE SENSE (6) of the current values of `page`, without block descriptors.
    #[must_use]
    pub fn mode_sense_6(page: u8, allocation: u8) -> Self {
        Self::new(Opcode::MODE_SENSE_6, 6).with(1, &[0x08, page, 0, allocation])
    }

    /// MODE SENSE (10) of the current values of `page`, without block descriptors.
    #[must_use]
    pub fn mode_sense_10(page: u8, allocation: u16) -> Self {
        Self::new(Opcode::MODE_SENSE_10, 10)
            .with(1, &[0x08, page])
            .with(7, &allocation.to_be_bytes())
    }

    /// START STOP UNIT: spins up (`true`) or down; answers when done.
    #[must_use]
    pub fn start_stop_unit(start: bool) -> Self {
        Self::new(Opcode::START_STOP_UNIT, 6).with(4, &[u8::from(start)])
    }

    /// READ CAPACITY (10): 8 bytes of data.
    #[must_use]
    pub fn read_capacity_10() -> Self {
        Self::new(Opcode::READ_CAPACITY_10, 10)
    }

    /// READ CAPACITY (16), for `allocation` bytes, 32 being all of it.
    #[must_use]
    pub fn read_capacity_16(allocation: u32) -> Self {
        Self::new(Opcode::SERVICE_ACTION_IN_16, 16)
            .with(1, &[READ_CAPACITY_16])
            .with(10, &allocation.to_be_bytes())
    }

    /// REPORT LUNS of all but the well-known logical units, for `allocation` bytes, 16 at least.
    #[must_use]
    pub fn report_luns(allocation: u32) -> Self {
        Self::new(Opcode::REPORT_LUNS, 12).with(6, &allocation.to_be_bytes())
    }

    /// SYNCHRONIZE CACHE (10): `blocks` from `lba` on; 0 blocks are all to the end.
    #[must_use]
    pub fn synchronize_cache_10(lba: u32, blocks: u16) -> Self {
        Self::new(Opcode::SYNCHRONIZE_CACHE_10, 10)
            .with(2, &lba.to_be_bytes())
            .with(7, &blocks.to_be_bytes())
    }

    /// SYNCHRONIZE CACHE (16): `blocks` from `lba` on; 0 blocks are all to the end.
    #[must_use]
    pub fn synchronize_cache_16(lba: u64, blocks: u32) -> Self {
        Self::new(Opcode::SYNCHRONIZE_CACHE_16, 16)
            .with(2, &lba.to_be_bytes())
            .with(10, &blocks.to_be_bytes())
    }

    fn transfer_6(opcode: Opcode, lba: u32, blocks: u16) -> Option<Self> {
        if lba >= 1 << 21 || blocks == 0 || blocks > 256 {
            return None;
        }
        let [_, high, middle, low] = lba.to_be_bytes();
        // 256 blocks are written as 0.
        let [_, count] = blocks.to_be_bytes();
        Some(Self::new(opcode, 6).with(1, &[high, middle, low, count]))
    }

    /// In one piece, since it is built for each I/O.
    #[inline]
    fn transfer_10(opcode: Opcode, lba: u32, blocks: u16) -> Self {
        let [high, low] = blocks.to_be_bytes();
        let first = u64::from(opcode.0) | u64::from(lba.swap_bytes()) << 16 | u64::from(high) << 56;
        let words = [first, u64::from(low), 0, 0];
        Self { bytes: zerocopy::transmute!(words.map(u64::to_le)), length: 10 }
    }

    fn transfer_12(opcode: Opcode, lba: u32, blocks: u32) -> Self {
        Self::new(opcode, 12).with(2, &lba.to_be_bytes()).with(6, &blocks.to_be_bytes())
    }

    fn transfer_16(opcode: Opcode, lba: u64, blocks: u32) -> Self {
        Self::new(opcode, 16).with(2, &lba.to_be_bytes()).with(10, &blocks.to_be_bytes())
    }

    fn transfer_32(service_action: u16, lba: u64, blocks: u32) -> Self {
        // Byte 7: the additional length, 24 after the first 8.
        Self::new(Opcode::VARIABLE_LENGTH, 32)
            .with(7, &[0x18])
            .with(8, &service_action.to_be_bytes())
            .with(12, &lba.to_be_bytes())
            .with(28, &blocks.to_be_bytes())
    }

    #[inline]
    fn transfer(short: Opcode, long: Opcode, lba: u64, blocks: u32) -> Self {
        match (u32::try_from(lba), u16::try_from(blocks)) {
            (Ok(lba), Ok(blocks)) => Self::transfer_10(short, lba, blocks),
            _ => Self::transfer_16(long, lba, blocks),
        }
    }

    fn service_action_32(&self) -> u16 {
        u16::from_be_bytes([self.bytes[8], self.bytes[9]])
    }

    /// READ of `blocks` from `lba` on: the (10) form where it fits, else (16).
    #[must_use]
    #[inline]
    pub fn read(lba: u64, blocks: u32) -> Self {
        Self::transfer(Opcode::READ_10, Opcode::READ_16, lba, blocks)
    }

    /// WRITE of `blocks` from `lba` on: the (10) form where it fits, else (16).
    #[must_use]
    #[inline]
    pub fn write(lba: u64, blocks: u32) -> Self {
        Self::transfer(Opcode::WRITE_10, Opcode::WRITE_16, lba, blocks)
    }

    /// READ (6): 21 bits of address, 1 to 256 blocks; `None` for what does not fit.
    #[must_use]
    pub fn read_6(lba: u32, blocks: u16) -> Option<Self> {
        Self::transfer_6(Opcode::READ_6, lba, blocks)
    }

    /// WRITE (6): 21 bits of address, 1 to 256 blocks; `None` for what does not fit.
    #[must_use]
    pub fn write_6(lba: u32, blocks: u16) -> Option<Self> {
        Self::transfer_6(Opcode::WRITE_6, lba, blocks)
    }

    /// READ (10).
    #[must_use]
    #[inline]
    pub fn read_10(lba: u32, blocks: u16) -> Self {
        Self::transfer_10(Opcode::READ_10, lba, blocks)
    }

    /// WRITE (10).
    #[must_use]
    #[inline]
    pub fn write_10(lba: u32, blocks: u16) -> Self {
        Self::transfer_10(Opcode::WRITE_10, lba, blocks)
    }

    /// READ (12).
    #[must_use]
    pub fn read_12(lba: u32, blocks: u32) -> Self {
        Self::transfer_12(Opcode::READ_12, lba, blocks)
    }

    /// WRITE (12).
    #[must_use]
    pub fn write_12(lba: u32, blocks: u32) -> Self {
        Self::transfer_12(Opcode::WRITE_12, lba, blocks)
    }

    /// READ (16).
    #[must_use]
    pub fn read_16(lba: u64, blocks: u32) -> Self {
        Self::transfer_16(Opcode::READ_16, lba, blocks)
    }

    /// WRITE (16).
    #[must_use]
    pub fn write_16(lba: u64, blocks: u32) -> Self {
        Self::transfer_16(Opcode::WRITE_16, lba, blocks)
    }

    /// READ (32), protection fields zero.
    #[must_use]
    pub fn read_32(lba: u64, blocks: u32) -> Self {
        Self::transfer_32(READ_32, lba, blocks)
    }

    /// WRITE (32), protection fields zero.
    #[must_use]
    pub fn write_32(lba: u64, blocks: u32) -> Self {
        Self::transfer_32(WRITE_32, lba, blocks)
    }

    /// The same READ or WRITE with forced unit access: on the medium before it is answered.
    ///
    /// The (6) forms have no such bit and, like all other commands, are left as they are.
    #[must_use]
    pub fn forced_unit_access(mut self) -> Self {
        let at = match self.opcode() {
            Opcode::READ_10
            | Opcode::WRITE_10
            | Opcode::READ_12
            | Opcode::WRITE_12
            | Opcode::READ_16
            | Opcode::WRITE_16 => 1,
            Opcode::VARIABLE_LENGTH if matches!(self.service_action_32(), READ_32 | WRITE_32) => 10,
            _ => return self,
        };
        if let Some(flags) = self.bytes.get_mut(at) {
            *flags |= 0x08;
        }
        self
    }
}

impl fmt::Debug for Cdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cdb({self})")
    }
}

impl fmt::Display for Cdb {
    /// The command's name and its bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.opcode().name())?;
        for byte in self.as_bytes() {
            write!(f, " {byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_have_the_bytes_of_the_standard() {
        let read = Cdb::read_6(0x1f_abcd, 256).expect("fits");
        assert_eq!(read.as_bytes(), [0x08, 0x1f, 0xab, 0xcd, 0, 0]);
        assert_eq!(Cdb::read_6(0x20_0000, 1), None);
        assert_eq!(Cdb::write_6(0, 0), None, "0 would mean 256");
        assert_eq!(
            Cdb::write_10(0x0102_0304, 0x0506).as_bytes(),
            [0x2a, 0, 1, 2, 3, 4, 0, 5, 6, 0]
        );
        assert_eq!(
            Cdb::read_12(0x0102_0304, 0x0506_0708).as_bytes(),
            [0xa8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0]
        );
        assert_eq!(
            Cdb::write_16(0x0102_0304_0506_0708, 0x090a_0b0c).as_bytes(),
            [0x8a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0]
        );
        let long = Cdb::write_32(0x0102_0304_0506_0708, 0x090a_0b0c);
        assert_eq!(
            long.as_bytes()[..20],
            [0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x0b, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
        );
        assert_eq!(long.as_bytes()[20..], [0, 0, 0, 0, 0, 0, 0, 0, 9, 10, 11, 12]);
    }

    #[test]
    fn the_short_form_is_taken_where_it_fits() {
        assert_eq!(Cdb::read(0xffff_ffff, 0xffff).opcode(), Opcode::READ_10);
        assert_eq!(Cdb::read(0x1_0000_0000, 1).opcode(), Opcode::READ_16);
        assert_eq!(Cdb::write(0, 0x1_0000).opcode(), Opcode::WRITE_16);
    }

    #[test]
    fn other_commands_have_the_bytes_of_the_standard() {
        assert_eq!(Cdb::inquiry_vpd(0x83, 0x0102).as_bytes(), [0x12, 1, 0x83, 1, 2, 0]);
        assert_eq!(Cdb::inquiry(36).as_bytes(), [0x12, 0, 0, 0, 36, 0]);
        assert_eq!(Cdb::report_luns(0x1000).as_bytes(), [0xa0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0]);
        assert_eq!(
            Cdb::read_capacity_16(32).as_bytes(),
            [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]
        );
        assert_eq!(Cdb::synchronize_cache_10(0, 0).as_bytes(), [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Cdb::mode_sense_6(8, 192).as_bytes(), [0x1a, 8, 8, 0, 192, 0]);
        assert_eq!(Cdb::mode_sense_10(8, 192).as_bytes(), [0x5a, 8, 8, 0, 0, 0, 0, 0, 192, 0]);
        assert_eq!(Cdb::start_stop_unit(true).as_bytes(), [0x1b, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn every_command_is_as_long_as_its_group_says() {
        for cdb in [
            Cdb::test_unit_ready(),
            Cdb::request_sense(18),
            Cdb::inquiry(36),
            Cdb::mode_sense_6(8, 4),
            Cdb::mode_sense_10(8, 4),
            Cdb::start_stop_unit(false),
            Cdb::read_capacity_10(),
            Cdb::read_capacity_16(32),
            Cdb::report_luns(16),
            Cdb::synchronize_cache_10(0, 0),
            Cdb::synchronize_cache_16(0, 0),
            Cdb::read_10(0, 1),
            Cdb::write_12(0, 1),
            Cdb::write_16(0, 1),
        ] {
            assert_eq!(Some(cdb.length()), cdb.opcode().cdb_length(), "{cdb}");
        }
    }

    #[test]
    fn forced_unit_access_sets_the_bit_of_the_form() {
        assert_eq!(Cdb::write_10(0, 1).forced_unit_access().as_bytes()[1], 0x08);
        assert_eq!(Cdb::write_32(0, 1).forced_unit_access().as_bytes()[10], 0x08);
        assert_eq!(Cdb::inquiry(36).forced_unit_access(), Cdb::inquiry(36));
        let mut write_same = [0_u8; 32];
        write_same[0] = 0x7f;
        write_same[9] = 0x0d;
        let write_same = Cdb::from_bytes(&write_same).expect("32 bytes");
        assert_eq!(write_same.forced_unit_access(), write_same);
    }

    #[test]
    fn foreign_bytes_are_kept_or_refused_by_length() {
        assert_eq!(Cdb::from_bytes(&[]), None);
        assert_eq!(Cdb::from_bytes(&[0; 33]), None);
        let cdb = Cdb::from_bytes(&[0x28; 10]).expect("10 bytes");
        assert_eq!(cdb.as_bytes(), [0x28; 10]);
        assert_eq!(cdb.padded()[10..], [0; 22]);
        assert_eq!(cdb.padded_16().map(|bytes| bytes[9]), Some(0x28));
        assert_eq!(Cdb::read_32(0, 1).padded_16(), None);
        assert_eq!(
            std::format!("{}", Cdb::test_unit_ready()),
            "TEST UNIT READY: 00 00 00 00 00 00"
        );
    }
}
