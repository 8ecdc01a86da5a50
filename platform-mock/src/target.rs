//! A SCSI direct-access device: one logical unit, as SPC-4 and SBC-3 describe it, on a [`Disk`].
//!
//! It holds what an operating system looks for: unit attentions for each initiator, mode and log
//! pages, vital product data, thin provisioning, and one table of operation codes
//! (`target/operations.rs`) behind dispatch, data phases and what it reports of itself. Any bit of
//! a CDB that means nothing to it is refused with a pointer at that bit.
//!
//! A command is carried out at once and whole, so task attributes, queueing and task management
//! are the controller's business.

mod ata;
mod attention;
mod blocks;
mod data;
mod format;
mod health;
mod inquiry;
mod log;
mod maintenance;
mod mode;
mod operations;
mod power;
mod provisioning;
mod reservations;
mod sense;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

pub use crate::buffer::{DataBuffer, DataError};
pub use ata::Registers;
pub use health::Exception;
pub use operations::Direction;
pub use sense::{SenseData, SenseKey, status};

use crate::disk::Disk;
use attention::Attentions;
use data::Task;
use health::Health;
use log::Counters;
use mode::Settings;
use reservations::Reservations;

/// What a logical unit says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetConfig {
    /// The logical unit's name, NAA format (SPC-4 7.8.6.6).
    pub wwn: u64,
    /// The SAS address of the target port.
    pub sas_address: u64,
    /// T10 vendor identification, up to 8 ASCII characters.
    pub vendor: String,
    /// Product identification, up to 16 ASCII characters.
    pub product: String,
    /// Product revision level, up to 4 ASCII characters.
    pub revision: String,
    /// Unit serial number, ASCII.
    pub serial: String,
    /// Bytes of a logical block: 512 or 4096.
    pub block_size: u32,
    /// Logical blocks per physical block, as a power of two (0 to 15).
    pub physical_block_exponent: u8,
    /// Whether this is an ATA disk behind a SCSI/ATA translation layer (SAT-3), as an IOC's
    /// firmware has one for each SATA end device. The vendor is then reported as "ATA", there is
    /// ATA PASS-THROUGH and no persistent reservation, and controllers say so in their SAS device
    /// pages.
    pub sata: bool,
    /// Rotations per minute; 1 says that nothing rotates, 0 that it is not reported (SBC-3 6.6.2).
    pub rotation_rate: u16,
    /// Nominal form factor (SBC-3 6.6.2): 2 for 3.5 inch, 3 for 2.5 inch, 0 for not reported.
    pub form_factor: u8,
    /// Whether blocks can be unmapped.
    pub thin: bool,
    /// Most blocks that one UNMAP may name.
    pub maximum_unmap_blocks: u32,
    /// Most descriptors that one UNMAP may hold.
    pub maximum_unmap_descriptors: u32,
    /// Most blocks that one WRITE SAME may write.
    pub maximum_write_same_blocks: u64,
    /// What the temperature log page reports, in degrees Celsius.
    pub temperature: u8,
    /// Whether the first command of each initiator meets POWER ON, RESET, OR BUS DEVICE RESET
    /// OCCURRED (29/00), as it does on a real disk.
    pub power_on_attention: bool,
}

impl Default for TargetConfig {
    fn default() -> Self {
        TargetConfig {
            wwn: 0x5525_4000_0000_0010,
            sas_address: 0x5525_4000_0000_0011,
            vendor: "FUSION".into(),
            product: "SOFTWARE DISK".into(),
            revision: "0001".into(),
            serial: "FM00000000000010".into(),
            block_size: 512,
            physical_block_exponent: 3,
            sata: false,
            rotation_rate: 1,
            form_factor: 3,
            thin: true,
            maximum_unmap_blocks: 1 << 22,
            maximum_unmap_descriptors: 256,
            maximum_write_same_blocks: 1 << 16,
            temperature: 30,
            power_on_attention: true,
        }
    }
}

impl TargetConfig {
    /// That a disk suits what is said of it: blocks of 512 or 4096 bytes, at least one, and a whole
    /// number of them. [`Target::new`] takes a disk with a rest, too, and leaves that unused.
    ///
    /// # Errors
    ///
    /// A sentence that says what does not fit and what to do.
    pub fn check(&self, disk: &Disk) -> Result<(), String> {
        let (block, bytes) = (u64::from(self.block_size), disk.bytes());
        if !matches!(block, 512 | 4096) {
            return Err(format!(
                "a disk of {block}-byte blocks cannot be made: choose blocks of 512 or 4096 bytes"
            ));
        }
        if bytes < block || !bytes.is_multiple_of(block) {
            return Err(format!(
                "a disk of {bytes} bytes cannot be cut into blocks of {block}: enlarge it to {}, or choose other blocks",
                bytes.max(1).next_multiple_of(block)
            ));
        }
        Ok(())
    }
}

/// One command as the transport delivers it.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// The logical unit number, SAM-5 4.7.
    pub lun: [u8; 8],
    /// The CDB; bytes past the command's own length are ignored.
    pub cdb: &'a [u8],
    /// Who sends it: the SAS address of the initiator port, or any number that stays the same.
    pub initiator: u64,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// The SCSI status ([`status`]).
    pub status: u8,
    /// Sense data, with CHECK CONDITION only.
    pub sense: Option<SenseData>,
    /// Bytes that were moved to or from the initiator's buffer.
    pub transferred: u64,
}

/// How the next commands end instead of being carried out.
#[derive(Debug, Clone, Copy)]
enum Injected {
    Sense(SenseData),
    Status(u8),
}

/// A SCSI direct-access logical unit on a disk.
#[derive(Debug)]
pub struct Target {
    config: TargetConfig,
    disk: Disk,
    attentions: Attentions,
    reservations: Reservations,
    ready: bool,
    started: bool,
    start_stop_cycles: u32,
    /// What the mode pages hold that can be changed: by default, and saved.
    default_settings: Settings,
    saved_settings: Settings,
    /// D_SENSE of the control mode page.
    descriptor_sense: bool,
    injected: VecDeque<(Injected, usize)>,
    /// LBAs that cannot be read until they are written.
    unreadable: Vec<Range<u64>>,
    counters: Counters,
    health: Health,
    scratch: Vec<u8>,
}

impl Target {
    /// A logical unit that stores its blocks on `disk`. The disk's write cache, on or off, is the
    /// default and saved value of WCE; its bytes past the last whole block are not used.
    ///
    /// # Panics
    ///
    /// When [`TargetConfig::block_size`] is neither 512 nor 4096.
    pub fn new(config: TargetConfig, mut disk: Disk) -> Target {
        assert!(
            matches!(config.block_size, 512 | 4096),
            "a target of {}-byte blocks cannot be made: set block_size to 512 or 4096",
            config.block_size
        );
        disk.set_atomic_bytes(config.block_size as usize);
        let settings = Settings { write_cache: disk.write_cache(), descriptor_sense: false };
        Target {
            attentions: Attentions::new(config.power_on_attention),
            config,
            disk,
            reservations: Reservations::default(),
            ready: true,
            started: true,
            start_stop_cycles: 0,
            default_settings: settings,
            saved_settings: settings,
            descriptor_sense: false,
            injected: VecDeque::new(),
            unreadable: Vec::new(),
            counters: Counters::default(),
            health: Health::default(),
            scratch: Vec::new(),
        }
    }

    /// What the logical unit says of itself.
    pub fn config(&self) -> &TargetConfig {
        &self.config
    }

    /// The disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The disk, to change behind the initiator's back.
    pub fn disk_mut(&mut self) -> &mut Disk {
        &mut self.disk
    }

    /// Logical blocks.
    pub fn blocks(&self) -> u64 {
        self.disk.bytes() / u64::from(self.config.block_size)
    }

    /// Which way, and how many bytes, a CDB asks to move: an allocation length, a parameter list
    /// length, or blocks. Nothing for a CDB of an unknown command, and nothing for zero bytes.
    pub fn data_phase(&self, cdb: &[u8]) -> (Direction, u64) {
        match operations::find(cdb, &self.config) {
            Ok(operation) => operation.data_phase(cdb, self.config.block_size),
            Err(_) => (Direction::None, 0),
        }
    }

    /// Carries a command out. Data in is cut to the initiator's buffer; a command whose data out is
    /// longer than the buffer ends as ABORTED COMMAND 4B/00 and changes nothing.
    pub fn execute(&mut self, command: &Command<'_>, data: &mut dyn DataBuffer) -> Response {
        let mut task =
            Task { cdb: command.cdb, initiator: command.initiator, data, transferred: 0 };
        let (status, sense) = match self.carry_out(command.lun, &mut task) {
            Ok(()) => (status::GOOD, None),
            Err(Injected::Status(status)) => (status, None),
            Err(Injected::Sense(mut sense)) => {
                sense.descriptor |= self.descriptor_sense;
                (status::CHECK_CONDITION, Some(sense))
            }
        };
        Response { status, sense, transferred: task.transferred }
    }

    fn carry_out(&mut self, lun: [u8; 8], task: &mut Task<'_>) -> Result<(), Injected> {
        if !is_lun_zero(lun) {
            return Ok(self.absent_unit(task)?);
        }
        if let Some(injected) = self.next_injected() {
            return Err(injected);
        }
        let found = operations::find(task.cdb, &self.config);
        if !matches!(found, Ok(operation) if operation.always)
            && let Some(attention) = self.attentions.take(task.initiator)
        {
            return Err(attention.into());
        }
        let operation = found?;
        if self.reservations.conflict(operation, task.initiator) {
            return Err(Injected::Status(status::RESERVATION_CONFLICT));
        }
        operation.check(task.cdb)?;
        if operation.medium {
            self.check_ready()?;
        }
        if operation.writes && self.disk.is_write_protected() {
            return Err(SenseData::WRITE_PROTECTED.into());
        }
        operation.run.call(self, task, operation)
    }

    /// A command for a logical unit that does not exist (SPC-4 6.4.2, 6.39; SAM-5 4.7).
    fn absent_unit(&mut self, task: &mut Task<'_>) -> Result<(), SenseData> {
        let operation = operations::find(task.cdb, &self.config).ok();
        match operation.map(|operation| (operation, operation.opcode)) {
            Some((operation, 0x12)) => {
                operation.check(task.cdb)?;
                self.inquiry_of_absent_unit(task, operation)
            }
            Some((operation, 0x03)) => {
                operation.check(task.cdb)?;
                let sense = SenseData::LOGICAL_UNIT_NOT_SUPPORTED.to_bytes();
                task.reply(&sense, operation.length(task.cdb))
            }
            _ => Err(SenseData::LOGICAL_UNIT_NOT_SUPPORTED),
        }
    }

    fn next_injected(&mut self) -> Option<Injected> {
        let (injected, count) = self.injected.front_mut()?;
        let injected = *injected;
        *count -= 1;
        if *count == 0 {
            self.injected.pop_front();
        }
        Some(injected)
    }

    fn check_ready(&self) -> Result<(), SenseData> {
        if !self.ready {
            return Err(SenseData::BECOMING_READY);
        }
        if !self.started {
            return Err(SenseData::INITIALIZING_COMMAND_REQUIRED);
        }
        if self.blocks() == 0 {
            return Err(SenseData::MEDIUM_NOT_PRESENT);
        }
        Ok(())
    }

    /// Ends the next `count` commands, whatever they are, with CHECK CONDITION and `sense`, after
    /// those injected before.
    pub fn inject_sense(&mut self, sense: SenseData, count: usize) {
        if count > 0 {
            self.injected.push_back((Injected::Sense(sense), count));
        }
    }

    /// Ends the next `count` commands, whatever they are, with `status` and no sense data
    /// ([`status::BUSY`], [`status::TASK_SET_FULL`], [`status::RESERVATION_CONFLICT`]).
    pub fn set_status(&mut self, status: u8, count: usize) {
        if count > 0 {
            self.injected.push_back((Injected::Status(status), count));
        }
    }

    /// Sets whether the medium can be accessed; if not, commands that need it end as NOT READY
    /// 04/01 (in process of becoming ready).
    pub fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
    }

    /// Makes `blocks` blocks from `lba` on unreadable (MEDIUM ERROR 11/00) until they are written.
    pub fn inject_medium_error(&mut self, lba: u64, blocks: u64) {
        self.unreadable.push(lba..lba.saturating_add(blocks));
    }

    /// Enlarges the disk and reports CAPACITY DATA HAS CHANGED (2A/09) to every initiator.
    ///
    /// # Errors
    ///
    /// As [`Disk::grow`].
    pub fn grow(&mut self, new_bytes: u64) -> io::Result<()> {
        self.disk.grow(new_bytes)?;
        self.attentions.raise(None, 0x2A, 0x09);
        Ok(())
    }

    /// A logical unit reset (SAM-5 6.3.3): saved mode pages, no reservation of RESERVE(6), and BUS DEVICE RESET
    /// FUNCTION OCCURRED (29/03) to every initiator. Cached data stays cached.
    ///
    /// # Errors
    ///
    /// What flushing failed with, where the saved caching page turns the write cache off.
    pub fn reset(&mut self) -> io::Result<()> {
        self.restart(0x03)
    }

    /// Cuts the power ([`Disk::power_cut`]) and turns it on again: POWER ON (29/00) to every
    /// initiator.
    ///
    /// # Errors
    ///
    /// As [`Disk::power_cut`].
    pub fn power_cut(&mut self, survivor: &mut dyn FnMut(u64) -> bool) -> io::Result<()> {
        self.disk.power_cut(survivor)?;
        self.started = true;
        self.reservations = Reservations::default();
        self.restart(0x00)
    }

    fn restart(&mut self, qualifier: u8) -> io::Result<()> {
        self.reservations.reset();
        self.attentions.reset(qualifier);
        self.descriptor_sense = self.saved_settings.descriptor_sense;
        self.disk.set_write_cache(self.saved_settings.write_cache)
    }
}

impl From<SenseData> for Injected {
    fn from(sense: SenseData) -> Self {
        Injected::Sense(sense)
    }
}

/// LUN 0 in peripheral device or in flat space addressing (SAM-5 4.7.7).
fn is_lun_zero(lun: [u8; 8]) -> bool {
    matches!(lun, [0 | 0x40, 0, 0, 0, 0, 0, 0, 0])
}
