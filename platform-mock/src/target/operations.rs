//! The table of operation codes: what is dispatched, what moves data, and what REPORT SUPPORTED
//! OPERATION CODES says, from one place so that they cannot disagree.

use super::data::Task;
use super::sense::SenseData;
use super::{Injected, Target, TargetConfig};
use super::{
    ata, blocks, format, inquiry, log, maintenance, mode, power, provisioning, reservations,
};

/// Which way a command moves data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// No data.
    None,
    /// To the initiator.
    In,
    /// From the initiator.
    Out,
}

/// A big-endian field of a CDB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    at: usize,
    bytes: usize,
}

impl Field {
    const fn new(at: usize, bytes: usize) -> Field {
        Field { at, bytes }
    }

    pub(super) fn get(self, cdb: &[u8]) -> u64 {
        cdb.iter()
            .skip(self.at)
            .take(self.bytes)
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}

/// Where a CDB keeps its LBA and its number of blocks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent {
    /// 21 bits of LBA, and 0 blocks stand for 256.
    Six,
    At {
        lba: Field,
        blocks: Field,
    },
}

impl Extent {
    const TEN: Extent = Extent::at(2, 4, 7, 2);
    const TWELVE: Extent = Extent::at(2, 4, 6, 4);
    const SIXTEEN: Extent = Extent::at(2, 8, 10, 4);
    const THIRTY_TWO: Extent = Extent::at(12, 8, 28, 4);
    const COMPARE_AND_WRITE: Extent = Extent::at(2, 8, 13, 1);

    const fn at(lba: usize, lba_bytes: usize, blocks: usize, blocks_bytes: usize) -> Extent {
        Extent::At { lba: Field::new(lba, lba_bytes), blocks: Field::new(blocks, blocks_bytes) }
    }

    /// The first LBA and the number of blocks.
    pub(super) fn get(self, cdb: &[u8]) -> (u64, u64) {
        match self {
            Extent::Six => {
                let lba = Field::new(1, 3).get(cdb) & 0x1F_FFFF;
                let blocks = match Field::new(4, 1).get(cdb) {
                    0 => 256,
                    blocks => blocks,
                };
                (lba, blocks)
            }
            Extent::At { lba, blocks } => (lba.get(cdb), blocks.get(cdb)),
        }
    }

    /// The byte of the CDB at which the number of blocks starts.
    pub(super) fn blocks_at(self) -> usize {
        match self {
            Extent::Six => 4,
            Extent::At { blocks, .. } => blocks.at,
        }
    }
}

/// How much data a CDB asks to move.
#[derive(Debug, Clone, Copy)]
enum Phase {
    None,
    /// Always so many bytes to the initiator.
    Fixed(u64),
    /// Up to an allocation length.
    In(Field),
    /// A parameter list.
    Out(Field),
    BlocksIn,
    BlocksOut,
    /// By BYTCHK (byte 1 bits 1 and 2): nothing, all blocks, or one for all of them.
    BlocksOutIfCompared,
    /// The header of a FORMAT UNIT parameter list, when FMTDATA (byte 1 bit 4) is set.
    FormatHeader,
    /// As the CDB of an ATA PASS-THROUGH says.
    Ata,
    /// One block, or nothing when NDOB (byte 1 bit 0 where the command has it) is set.
    OneBlockOut,
    /// The blocks to compare, then the blocks to write.
    BlocksOutTwice,
}

/// On which disks a command exists.
#[derive(Debug, Clone, Copy)]
enum Exists {
    Always,
    /// Where blocks can be unmapped.
    IfThin,
    /// Behind a SCSI/ATA translation layer.
    IfSata,
    /// Where nothing is translated.
    IfSas,
}

/// What carries a command out: most fail with sense data only, some with a status, too.
#[derive(Clone, Copy)]
pub(super) enum Run {
    Sense(fn(&mut Target, &mut Task<'_>, &Operation) -> Result<(), SenseData>),
    Status(fn(&mut Target, &mut Task<'_>, &Operation) -> Result<(), Injected>),
}

impl Run {
    pub(super) fn call(
        self,
        target: &mut Target,
        task: &mut Task<'_>,
        operation: &Operation,
    ) -> Result<(), Injected> {
        match self {
            Run::Sense(run) => Ok(run(target, task, operation)?),
            Run::Status(run) => run(target, task, operation),
        }
    }
}

/// One command: its operation code, its shape, and what carries it out.
pub(super) struct Operation {
    pub(super) opcode: u8,
    pub(super) service_action: Option<u16>,
    /// The CDB usage data of SPC-4 6.35.3: as long as the CDB, the operation code and service
    /// action as they are, then a one for every bit that is looked at. Any other bit is refused.
    pub(super) usage: &'static [u8],
    phase: Phase,
    extent: Option<Extent>,
    /// Carried out whatever unit attention or reservation there is (SPC-4 5.9, SPC-2 5.5.1).
    pub(super) always: bool,
    /// Carried out although another initiator holds the reservation.
    pub(super) past_reservation: bool,
    /// Needs the medium.
    pub(super) medium: bool,
    /// Changes the medium's data.
    pub(super) writes: bool,
    /// On which disks it exists.
    exists: Exists,
    pub(super) run: Run,
}

impl Operation {
    const fn new(
        usage: &'static [u8],
        phase: Phase,
        run: fn(&mut Target, &mut Task<'_>, &Operation) -> Result<(), SenseData>,
    ) -> Operation {
        Operation::run(usage, phase, Run::Sense(run))
    }

    /// PERSISTENT RESERVE OUT: 24 bytes of parameters, and its own way past reservations.
    const fn reserves(
        usage: &'static [u8],
        run: fn(&mut Target, &mut Task<'_>, &Operation) -> Result<(), Injected>,
    ) -> Operation {
        let operation = Operation::run(usage, Phase::Out(Field::new(5, 4)), Run::Status(run));
        operation.action(usage[1] as u16).past_reservation().if_sas()
    }

    /// PERSISTENT RESERVE IN.
    const fn reports_reservations(
        usage: &'static [u8],
        run: fn(&mut Target, &mut Task<'_>, &Operation) -> Result<(), SenseData>,
    ) -> Operation {
        let operation = Operation::new(usage, Phase::In(Field::new(7, 2)), run);
        operation.action(usage[1] as u16).past_reservation().if_sas()
    }

    const fn run(usage: &'static [u8], phase: Phase, run: Run) -> Operation {
        Operation {
            opcode: usage[0],
            service_action: None,
            usage,
            phase,
            extent: None,
            always: false,
            past_reservation: false,
            medium: false,
            writes: false,
            exists: Exists::Always,
            run,
        }
    }

    const fn action(mut self, service_action: u16) -> Operation {
        self.service_action = Some(service_action);
        self
    }

    const fn always(mut self) -> Operation {
        self.always = true;
        self.past_reservation = true;
        self
    }

    const fn past_reservation(mut self) -> Operation {
        self.past_reservation = true;
        self
    }

    const fn medium(mut self) -> Operation {
        self.medium = true;
        self
    }

    const fn reads(mut self, extent: Extent) -> Operation {
        self.medium = true;
        self.extent = Some(extent);
        self
    }

    const fn writes(mut self, extent: Extent) -> Operation {
        self.writes = true;
        self.reads(extent)
    }

    const fn formats(mut self) -> Operation {
        self.medium = true;
        self.writes = true;
        self
    }

    const fn unmaps(mut self) -> Operation {
        self.medium = true;
        self.writes = true;
        self.exists = Exists::IfThin;
        self
    }

    const fn if_thin(mut self) -> Operation {
        self.exists = Exists::IfThin;
        self
    }

    const fn if_sata(mut self) -> Operation {
        self.exists = Exists::IfSata;
        self
    }

    const fn if_sas(mut self) -> Operation {
        self.exists = Exists::IfSas;
        self
    }

    /// Whether such a disk has the command.
    pub(super) fn exists_on(&self, config: &TargetConfig) -> bool {
        match self.exists {
            Exists::Always => true,
            Exists::IfThin => config.thin,
            Exists::IfSata => config.sata,
            Exists::IfSas => !config.sata,
        }
    }

    /// The first LBA and the number of blocks; (0, 0) for a command that has none.
    pub(super) fn extent(&self, cdb: &[u8]) -> (u64, u64) {
        self.extent.map_or((0, 0), |extent| extent.get(cdb))
    }

    /// Points at the number of blocks.
    pub(super) fn invalid_block_count(&self) -> SenseData {
        SenseData::invalid_field(self.extent.map_or(0, Extent::blocks_at), None)
    }

    /// The allocation length or the parameter list length.
    pub(super) fn length(&self, cdb: &[u8]) -> u64 {
        match self.phase {
            Phase::Fixed(bytes) => bytes,
            Phase::In(field) | Phase::Out(field) => field.get(cdb),
            _ => 0,
        }
    }

    /// What the CDB asks to move, in bytes.
    pub(super) fn data_phase(&self, cdb: &[u8], block_size: u32) -> (Direction, u64) {
        let block = u64::from(block_size);
        let blocks = self.extent(cdb).1 * block;
        let flags = cdb.get(1).copied().unwrap_or(0) & self.usage.get(1).copied().unwrap_or(0);
        let (direction, bytes) = match self.phase {
            Phase::None => (Direction::None, 0),
            Phase::Fixed(bytes) => (Direction::In, bytes),
            Phase::In(field) => (Direction::In, field.get(cdb)),
            Phase::Out(field) => (Direction::Out, field.get(cdb)),
            Phase::BlocksIn => (Direction::In, blocks),
            Phase::BlocksOut => (Direction::Out, blocks),
            Phase::BlocksOutIfCompared => match flags >> 1 & 0x03 {
                1 => (Direction::Out, blocks),
                3 if blocks > 0 => (Direction::Out, block),
                _ => (Direction::None, 0),
            },
            Phase::FormatHeader if flags & 0x10 == 0 => (Direction::None, 0),
            // LONGLIST
            Phase::FormatHeader => (Direction::Out, if flags & 0x20 == 0 { 4 } else { 8 }),
            Phase::Ata => ata::data_phase(cdb, block_size),
            Phase::OneBlockOut if flags & 0x01 != 0 => (Direction::None, 0),
            Phase::OneBlockOut => (Direction::Out, block),
            Phase::BlocksOutTwice => (Direction::Out, 2 * blocks),
        };
        if bytes == 0 {
            return (Direction::None, 0);
        }
        (direction, bytes)
    }

    /// That the CDB is whole and sets no bit that means nothing here.
    pub(super) fn check(&self, cdb: &[u8]) -> Result<(), SenseData> {
        if cdb.len() < self.usage.len() {
            return Err(SenseData::invalid_field(cdb.len(), None));
        }
        if self.opcode == VARIABLE_LENGTH && cdb[7] != ADDITIONAL_CDB_LENGTH {
            return Err(SenseData::invalid_field(7, None));
        }
        for (at, (byte, used)) in cdb.iter().zip(self.usage).enumerate().skip(1) {
            let unused = byte & !used;
            if unused != 0 {
                return Err(SenseData::invalid_field(at, Some(7 - unused.leading_zeros() as u8)));
            }
        }
        Ok(())
    }
}

const VARIABLE_LENGTH: u8 = 0x7F;
/// Bytes of a 32-byte CDB after its first eight.
const ADDITIONAL_CDB_LENGTH: u8 = 0x18;

/// The service action of a CDB whose operation code has them, and where its field is.
fn service_action(cdb: &[u8]) -> (u16, SenseData) {
    if cdb.first() == Some(&VARIABLE_LENGTH) {
        let action = Field::new(8, 2).get(cdb) as u16;
        return (action, SenseData::invalid_field(8, None));
    }
    let action = Field::new(1, 1).get(cdb) as u16 & 0x1F;
    (action, SenseData::invalid_field(1, Some(4)))
}

/// The table's entries for an operation code: one, or one for each service action.
pub(super) fn with_opcode(opcode: u8) -> &'static [Operation] {
    let first = usize::from(FIRST[usize::from(opcode)]);
    let entries = OPERATIONS.get(first..).unwrap_or(&[]);
    let count = entries.iter().take_while(|operation| operation.opcode == opcode).count();
    &entries[..count]
}

/// The entry for a CDB.
pub(super) fn find(cdb: &[u8], config: &TargetConfig) -> Result<&'static Operation, SenseData> {
    let opcode = *cdb.first().ok_or(SenseData::INVALID_OPERATION_CODE)?;
    let entries = with_opcode(opcode);
    let operation = match entries {
        [] => return Err(SenseData::INVALID_OPERATION_CODE),
        [only] if only.service_action.is_none() => only,
        _ => {
            let (action, unknown) = service_action(cdb);
            entries
                .iter()
                .find(|operation| operation.service_action == Some(action))
                .ok_or(unknown)?
        }
    };
    if !operation.exists_on(config) {
        return Err(SenseData::INVALID_OPERATION_CODE);
    }
    Ok(operation)
}

/// For each operation code its first entry in [`OPERATIONS`], or past the end.
static FIRST: [u8; 256] = {
    let mut first = [u8::MAX; 256];
    let mut at = OPERATIONS.len();
    while at > 0 {
        at -= 1;
        first[OPERATIONS[at].opcode as usize] = at as u8;
    }
    first
};

use Phase::{BlocksIn, BlocksOut, BlocksOutIfCompared, BlocksOutTwice, In, OneBlockOut, Out};

const F: u8 = 0xFF;
/// GROUP NUMBER: read and ignored, as there is no grouping function.
const G: u8 = 0x1F;

/// Every command, in the order of operation codes. A comment gives the name; SPC-4, SBC-3.
#[rustfmt::skip]
pub(super) static OPERATIONS: [Operation; 56] = [
    // TEST UNIT READY
    Operation::new(&[0x00, 0, 0, 0, 0, 0], Phase::None, power::test_unit_ready).medium(),
    // REQUEST SENSE
    Operation::new(&[0x03, 0x01, 0, 0, F, 0], In(Field::new(4, 1)), power::request_sense).always(),
    // FORMAT UNIT: LONGLIST, FMTDATA, CMPLST
    Operation::new(&[0x04, 0x38, 0, 0, 0, 0], Phase::FormatHeader, format::format_unit).formats(),
    // READ(6), WRITE(6)
    Operation::new(&[0x08, 0x1F, F, F, F, 0], BlocksIn, blocks::read).reads(Extent::Six),
    Operation::new(&[0x0A, 0x1F, F, F, F, 0], BlocksOut, blocks::write).writes(Extent::Six),
    // INQUIRY
    Operation::new(&[0x12, 0x01, F, F, F, 0], In(Field::new(3, 2)), inquiry::inquiry).always(),
    // MODE SELECT(6)
    Operation::new(&[0x15, 0x11, 0, 0, F, 0], Out(Field::new(4, 1)), mode::mode_select),
    // RESERVE(6), RELEASE(6) (SPC-2)
    Operation::new(&[0x16, 0, 0, 0, 0, 0], Phase::None, reservations::reserve_6),
    Operation::new(&[0x17, 0, 0, 0, 0, 0], Phase::None, reservations::release_6).past_reservation(),
    // MODE SENSE(6)
    Operation::new(&[0x1A, 0x08, F, F, F, 0], In(Field::new(4, 1)), mode::mode_sense),
    // START STOP UNIT: IMMED; NO_FLUSH, START
    Operation::new(&[0x1B, 0x01, 0, 0, 0x05, 0], Phase::None, power::start_stop_unit),
    // SEND DIAGNOSTIC: SELF-TEST CODE, PF, SELFTEST
    Operation::new(&[0x1D, 0xF4, 0, 0, 0, 0], Phase::None, power::send_diagnostic),
    // PREVENT ALLOW MEDIUM REMOVAL
    Operation::new(&[0x1E, 0, 0, 0, 0x03, 0], Phase::None, power::prevent_allow),
    // READ CAPACITY(10)
    Operation::new(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], Phase::Fixed(8), maintenance::read_capacity_10).medium(),
    // READ(10), WRITE(10): DPO, FUA
    Operation::new(&[0x28, 0x18, F, F, F, F, G, F, F, 0], BlocksIn, blocks::read).reads(Extent::TEN),
    Operation::new(&[0x2A, 0x18, F, F, F, F, G, F, F, 0], BlocksOut, blocks::write).writes(Extent::TEN),
    // WRITE AND VERIFY(10): DPO, BYTCHK 0 and 1
    Operation::new(&[0x2E, 0x12, F, F, F, F, G, F, F, 0], BlocksOut, blocks::write_and_verify).writes(Extent::TEN),
    // VERIFY(10): DPO, BYTCHK 0, 1 and 3
    Operation::new(&[0x2F, 0x16, F, F, F, F, G, F, F, 0], BlocksOutIfCompared, blocks::verify).reads(Extent::TEN),
    // SYNCHRONIZE CACHE(10): IMMED
    Operation::new(&[0x35, 0x02, F, F, F, F, G, F, F, 0], Phase::None, blocks::synchronize_cache).reads(Extent::TEN),
    // WRITE SAME(10): UNMAP
    Operation::new(&[0x41, 0x08, F, F, F, F, G, F, F, 0], OneBlockOut, provisioning::write_same).writes(Extent::TEN),
    // UNMAP
    Operation::new(&[0x42, 0, 0, 0, 0, 0, G, F, F, 0], Out(Field::new(7, 2)), provisioning::unmap).unmaps(),
    // LOG SELECT: PCR; PC
    Operation::new(&[0x4C, 0x02, 0xC0, 0, 0, 0, 0, F, F, 0], Out(Field::new(7, 2)), log::log_select),
    // LOG SENSE
    Operation::new(&[0x4D, 0, F, F, 0, F, F, F, F, 0], In(Field::new(7, 2)), log::log_sense),
    // MODE SELECT(10), MODE SENSE(10)
    Operation::new(&[0x55, 0x11, 0, 0, 0, 0, 0, F, F, 0], Out(Field::new(7, 2)), mode::mode_select),
    Operation::new(&[0x5A, 0x18, F, F, 0, 0, 0, F, F, 0], In(Field::new(7, 2)), mode::mode_sense),
    // PERSISTENT RESERVE IN
    Operation::reports_reservations(&[0x5E, 0x00, 0, 0, 0, 0, 0, F, F, 0], reservations::read_keys),
    Operation::reports_reservations(&[0x5E, 0x01, 0, 0, 0, 0, 0, F, F, 0], reservations::read_reservation),
    Operation::reports_reservations(&[0x5E, 0x02, 0, 0, 0, 0, 0, F, F, 0], reservations::report_capabilities),
    Operation::reports_reservations(&[0x5E, 0x03, 0, 0, 0, 0, 0, F, F, 0], reservations::read_full_status),
    // PERSISTENT RESERVE OUT: REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT AND ABORT,
    // REGISTER AND IGNORE EXISTING KEY
    Operation::reserves(&[0x5F, 0x00, 0, 0, 0, F, F, F, F, 0], reservations::register),
    Operation::reserves(&[0x5F, 0x01, F, 0, 0, F, F, F, F, 0], reservations::reserve),
    Operation::reserves(&[0x5F, 0x02, F, 0, 0, F, F, F, F, 0], reservations::release),
    Operation::reserves(&[0x5F, 0x03, 0, 0, 0, F, F, F, F, 0], reservations::clear),
    Operation::reserves(&[0x5F, 0x04, F, 0, 0, F, F, F, F, 0], reservations::preempt),
    Operation::reserves(&[0x5F, 0x05, F, 0, 0, F, F, F, F, 0], reservations::preempt),
    Operation::reserves(&[0x5F, 0x06, 0, 0, 0, F, F, F, F, 0], reservations::register_and_ignore),
    // READ(32), WRITE(32)
    Operation::new(&[0x7F, 0, 0, 0, 0, 0, G, 0x18, 0x00, 0x09, 0x18, 0, F, F, F, F, F, F, F, F,
        0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F], BlocksIn, blocks::read).action(0x09).reads(Extent::THIRTY_TWO),
    Operation::new(&[0x7F, 0, 0, 0, 0, 0, G, 0x18, 0x00, 0x0B, 0x18, 0, F, F, F, F, F, F, F, F,
        0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F], BlocksOut, blocks::write).action(0x0B).writes(Extent::THIRTY_TWO),
    // ATA PASS-THROUGH(16)
    Operation::new(&[0x85, 0x1F, 0x3F, F, F, F, F, F, F, F, F, F, F, F, F, 0], Phase::Ata, ata::pass_through).if_sata(),
    // READ(16), COMPARE AND WRITE, WRITE(16)
    Operation::new(&[0x88, 0x18, F, F, F, F, F, F, F, F, F, F, F, F, G, 0], BlocksIn, blocks::read).reads(Extent::SIXTEEN),
    Operation::new(&[0x89, 0x18, F, F, F, F, F, F, F, F, 0, 0, 0, F, G, 0], BlocksOutTwice, provisioning::compare_and_write).writes(Extent::COMPARE_AND_WRITE),
    Operation::new(&[0x8A, 0x18, F, F, F, F, F, F, F, F, F, F, F, F, G, 0], BlocksOut, blocks::write).writes(Extent::SIXTEEN),
    // WRITE AND VERIFY(16), VERIFY(16)
    Operation::new(&[0x8E, 0x12, F, F, F, F, F, F, F, F, F, F, F, F, G, 0], BlocksOut, blocks::write_and_verify).writes(Extent::SIXTEEN),
    Operation::new(&[0x8F, 0x16, F, F, F, F, F, F, F, F, F, F, F, F, G, 0], BlocksOutIfCompared, blocks::verify).reads(Extent::SIXTEEN),
    // SYNCHRONIZE CACHE(16)
    Operation::new(&[0x91, 0x02, F, F, F, F, F, F, F, F, F, F, F, F, G, 0], Phase::None, blocks::synchronize_cache).reads(Extent::SIXTEEN),
    // WRITE SAME(16): UNMAP, NDOB
    Operation::new(&[0x93, 0x09, F, F, F, F, F, F, F, F, F, F, F, F, G, 0], OneBlockOut, provisioning::write_same).writes(Extent::SIXTEEN),
    // READ CAPACITY(16)
    Operation::new(&[0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, 0], In(Field::new(10, 4)), maintenance::read_capacity_16).action(0x10).medium(),
    // GET LBA STATUS
    Operation::new(&[0x9E, 0x12, F, F, F, F, F, F, F, F, F, F, F, F, 0, 0], In(Field::new(10, 4)), provisioning::get_lba_status).action(0x12).medium().if_thin(),
    // REPORT LUNS
    Operation::new(&[0xA0, 0, F, 0, 0, 0, F, F, F, F, 0, 0], In(Field::new(6, 4)), maintenance::report_luns).always(),
    // ATA PASS-THROUGH(12)
    Operation::new(&[0xA1, 0x1F, 0x3F, F, F, F, F, F, F, F, 0, 0], Phase::Ata, ata::pass_through).if_sata(),
    // REPORT SUPPORTED OPERATION CODES, REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS
    Operation::new(&[0xA3, 0x0C, 0x87, F, F, F, F, F, F, F, 0, 0], In(Field::new(6, 4)), maintenance::report_operation_codes).action(0x0C),
    Operation::new(&[0xA3, 0x0D, 0x80, 0, 0, 0, F, F, F, F, 0, 0], In(Field::new(6, 4)), maintenance::report_task_management).action(0x0D),
    // READ(12), WRITE(12), WRITE AND VERIFY(12), VERIFY(12)
    Operation::new(&[0xA8, 0x18, F, F, F, F, F, F, F, F, G, 0], BlocksIn, blocks::read).reads(Extent::TWELVE),
    Operation::new(&[0xAA, 0x18, F, F, F, F, F, F, F, F, G, 0], BlocksOut, blocks::write).writes(Extent::TWELVE),
    Operation::new(&[0xAE, 0x12, F, F, F, F, F, F, F, F, G, 0], BlocksOut, blocks::write_and_verify).writes(Extent::TWELVE),
    Operation::new(&[0xAF, 0x16, F, F, F, F, F, F, F, F, G, 0], BlocksOutIfCompared, blocks::verify).reads(Extent::TWELVE),
];
