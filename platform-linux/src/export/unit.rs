//! What a logical unit says of itself that a block layer wants to know.
//!
//! Everything here comes from the device, and a device may say anything: what is absent, cut off or
//! cannot be is taken for not said.

use fusion_mpt::scsi::{Cdb, Sense, SenseKey};
use fusion_mpt::targets::TargetId;

use crate::disk::{self, Disk};
use crate::ended::Ended;
use crate::error::Error;
use crate::host::{Buffer, Host};

/// Bytes of buffer that [`Unit::read`] wants.
pub const BUFFER_BYTES: usize = 4096;

/// Bytes of a caching page that are asked for, with what comes before it.
const MODE_BYTES: u8 = 192;
/// The most blocks that one WRITE SAME of ours writes, whatever the unit offers: a disk does that
/// many in a moment, and (10) forms have no room for more.
const MOST_WRITE_SAME_BLOCKS: u32 = 0xffff;
/// The most blocks that one UNMAP of ours names where the unit sets no bound.
const MOST_UNMAP_BLOCKS: u32 = 1 << 22;

/// A world wide name of a logical unit: a designator of VPD page 83h (SPC-4 7.8.6).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// NAA (type 3), 8 or 16 bytes.
    Naa(Vec<u8>),
    /// EUI-64 (type 2), 8, 12 or 16 bytes.
    Eui64(Vec<u8>),
}

impl Name {
    /// Its hex digits, without a prefix.
    #[must_use]
    pub fn hex(&self) -> String {
        let (Self::Naa(bytes) | Self::Eui64(bytes)) = self;
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What udev calls a disk of this name: `wwn-0x...`, as in `/dev/disk/by-id`.
    #[must_use]
    pub fn wwn_link(&self) -> String {
        format!("wwn-0x{}", self.hex())
    }

    /// The other name that udev has for it: `scsi-3...`, the digit being the designator's type.
    #[must_use]
    pub fn scsi_link(&self) -> String {
        let kind = if matches!(self, Self::Naa(_)) { 3 } else { 2 };
        format!("scsi-{kind}{}", self.hex())
    }
}

/// How blocks are given back to a thin unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardBy {
    /// UNMAP.
    Unmap,
    /// WRITE SAME (16) with its UNMAP bit.
    WriteSame16,
    /// WRITE SAME (10) with its UNMAP bit.
    WriteSame10,
}

/// That and how a unit takes blocks back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard {
    /// By which command.
    pub by: DiscardBy,
    /// Most blocks of one command, at least 1.
    pub max_blocks: u32,
    /// Blocks that are given back together, at least 1.
    pub granularity: u32,
    /// The first block that begins such a group.
    pub alignment: u32,
}

/// That and how a unit writes zeros of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteZeroes {
    /// WRITE SAME (16); otherwise (10), which reaches 32 bits of blocks.
    pub sixteen: bool,
    /// NDOB: the command needs no block of zeros with it.
    pub without_data: bool,
    /// Its UNMAP bit may be set: what is given back so reads as zeros.
    pub may_unmap: bool,
    /// Most blocks of one command, at least 1.
    pub max_blocks: u32,
}

/// What a logical unit tells a block layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its target.
    pub target: TargetId,
    /// Its number there.
    pub lun: u8,
    /// Its world wide name, if it says one.
    pub name: Option<Name>,
    /// Its serial number, empty if it says none.
    pub serial: String,
    /// T10 vendor identification.
    pub vendor: String,
    /// Product identification.
    pub product: String,
    /// Product revision level.
    pub revision: String,
    /// Logical blocks.
    pub blocks: u64,
    /// Bytes of a logical block, a power of two from 512 to 4096.
    pub block_bytes: u32,
    /// Bytes of a physical block, a power of two and at least a logical one.
    pub physical_block_bytes: u32,
    /// It has a volatile write cache that is on: writes want flushes.
    pub write_cache: bool,
    /// Writes may carry FUA (DPOFUA of MODE SENSE).
    pub fua: bool,
    /// It is write protected (WP of MODE SENSE).
    pub read_only: bool,
    /// It does not say that nothing in it rotates (VPD page B1h).
    pub rotational: bool,
    /// Whether it takes blocks back.
    pub discard: Option<Discard>,
    /// Whether it writes zeros of its own.
    pub write_zeroes: Option<WriteZeroes>,
    /// Most blocks of one READ or WRITE, if it sets a bound.
    pub max_transfer_blocks: Option<u32>,
    /// Blocks that it likes best in one READ or WRITE, if it says so.
    pub optimal_blocks: Option<u32>,
}

impl Unit {
    /// Asks the logical unit. `buffer` has [`BUFFER_BYTES`] at least, and is not in use.
    ///
    /// # Errors
    ///
    /// What the commands met with; [`Error::Failed`] for what is no disk, and for blocks that no
    /// block layer takes.
    pub fn read(
        host: &mut dyn Host,
        buffer: &Buffer,
        target: TargetId,
        lun: u8,
    ) -> Result<Self, Error> {
        let which = (target, lun);
        disk::settle(host, which)?;
        let Disk { vendor, product, revision, serial, device_type, blocks, block_bytes, .. } =
            Disk::identify(host, buffer, target, lun)?;
        if device_type != 0 {
            return Err(Error::failed(format!(
                "target {} unit {lun} is of device type {device_type:#04x}, and only disks (00) can be block devices",
                target.0
            )));
        }
        if !matches!(block_bytes, 512 | 1024 | 2048 | 4096) {
            return Err(Error::failed(format!(
                "target {} unit {lun} has blocks of {block_bytes} bytes, and the kernel takes 512, 1024, 2048 or 4096; reformat it with FORMAT UNIT (sg_format)",
                target.0
            )));
        }
        // What is optional may be refused, and then is taken for not said.
        let mut optional = |cdb, bytes| disk::ask(host, buffer, which, cdb, bytes).ok();
        let pages = optional(Cdb::inquiry_vpd(0, 252), 252).map_or(Vec::new(), |p| supported(&p));
        let mut page = |code: u8| {
            let cdb = Cdb::inquiry_vpd(code, 1024);
            pages.contains(&code).then(|| optional(cdb, 1024)).flatten()
        };
        let designators = page(0x83).unwrap_or_default();
        let limits = page(0xb0).map_or(Limits::default(), |page| Limits::parse(&page));
        let characteristics = page(0xb1).unwrap_or_default();
        let provisioning = page(0xb2).map_or(Provisioning::default(), |p| Provisioning::parse(&p));
        let capacity = optional(Cdb::read_capacity_16(32), 32).unwrap_or_default();
        let same_16 = optional(report_operation(0x93), 64).map(|a| Operation::parse(&a));
        let same_10 = optional(report_operation(0x41), 64).map(|a| Operation::parse(&a));
        let mode = mode(|cdb| disk::try_ask(host, buffer, which, cdb, MODE_BYTES.into()))?;

        let thin = capacity.get(14).is_some_and(|byte| byte & 0x80 != 0);
        let zeros = provisioning.reads_zeros || capacity.get(14).is_some_and(|b| b & 0x40 != 0);
        let exponent = u32::from(capacity.get(13).map_or(0, |byte| byte & 0x0f));
        let physical = block_bytes.checked_shl(exponent).filter(|bytes| *bytes <= 1 << 20);
        Ok(Self {
            target,
            lun,
            name: name(&designators),
            serial,
            vendor,
            product,
            revision,
            blocks,
            block_bytes,
            physical_block_bytes: physical.unwrap_or(block_bytes),
            write_cache: mode.write_cache,
            fua: mode.fua,
            read_only: mode.write_protected,
            rotational: !does_not_rotate(&characteristics),
            discard: if thin { discard(&limits, &provisioning) } else { None },
            write_zeroes: write_zeroes(&limits, &provisioning, thin && zeros, same_16, same_10),
            max_transfer_blocks: limits.max_transfer,
            optimal_blocks: limits.optimal,
        })
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_bytes as u64)
    }

    /// Asks for its capacity alone: how many blocks there are now.
    ///
    /// # Errors
    ///
    /// What the commands met with; [`Error::Failed`] also when its blocks have another size now,
    /// which no block device in use survives.
    pub fn read_blocks(&self, host: &mut dyn Host, buffer: &Buffer) -> Result<u64, Error> {
        let (blocks, block_bytes) = disk::capacity(host, buffer, (self.target, self.lun))?;
        if block_bytes != self.block_bytes {
            return Err(Error::failed(format!(
                "target {} unit {} was formatted anew: its blocks have {block_bytes} bytes now and had {}; export it again",
                self.target.0, self.lun, self.block_bytes
            )));
        }
        Ok(blocks)
    }

    /// What identifies it for ever: its name, or else what vendor, product and serial number make
    /// up. `None` for a unit that says nothing that another could not say too.
    #[must_use]
    pub fn identity(&self) -> Option<String> {
        match &self.name {
            Some(name) => Some(format!("{}.{}", name.wwn_link(), self.lun)),
            None if self.serial.is_empty() => None,
            None => Some(format!("{}.{}.{}.{}", self.vendor, self.product, self.serial, self.lun)),
        }
    }
}

/// REPORT SUPPORTED OPERATION CODES of one operation code (SPC-4 6.35, reporting options 001b), 64
/// bytes of answer.
fn report_operation(operation: u8) -> Cdb {
    let cdb = [0xa3, 0x0c, 1, operation, 0, 0, 0, 0, 0, 64, 0, 0];
    Cdb::from_bytes(&cdb).unwrap_or_else(Cdb::test_unit_ready)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A VPD page as far as its own length says, header included.
fn within(page: &[u8]) -> &[u8] {
    let length = be16(page, 2).map_or(0, |length| 4 + usize::from(length));
    page.get(..length).unwrap_or(page)
}

/// The pages that VPD page 00h names (SPC-4 7.8.10).
fn supported(page: &[u8]) -> Vec<u8> {
    within(page).get(4..).unwrap_or_default().to_vec()
}

/// The best name of VPD page 83h: the longest NAA of the logical unit, else its EUI-64.
fn name(page: &[u8]) -> Option<Name> {
    let mut rest = within(page).get(4..)?;
    let mut best: Option<Name> = None;
    while let [_, kind, _, length, after @ ..] = rest {
        let Some(value) = after.get(..usize::from(*length)) else { break };
        rest = after.get(usize::from(*length)..).unwrap_or_default();
        // Of the logical unit (association 00b), not of its port or device.
        if kind & 0x30 != 0 {
            continue;
        }
        let found = match (kind & 0x0f, value.len()) {
            (3, 8 | 16) => Name::Naa(value.to_vec()),
            (2, 8 | 12 | 16) => Name::Eui64(value.to_vec()),
            _ => continue,
        };
        let rank = |name: &Name| match name {
            Name::Naa(bytes) => bytes.len() + 100,
            Name::Eui64(bytes) => bytes.len(),
        };
        if best.as_ref().is_none_or(|best| rank(&found) > rank(best)) {
            best = Some(found);
        }
    }
    best
}

/// Whether VPD page B1h says so (SBC-3 6.6.2: medium rotation rate 1).
fn does_not_rotate(page: &[u8]) -> bool {
    be16(within(page), 4) == Some(1)
}

/// VPD page B0h (SBC-3 6.6.3), in blocks; what is 0 there sets no bound or says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Limits {
    max_transfer: Option<u32>,
    optimal: Option<u32>,
    max_unmap: Option<u32>,
    max_unmap_descriptors: Option<u32>,
    unmap_granularity: Option<u32>,
    unmap_alignment: Option<u32>,
    max_write_same: Option<u64>,
}

impl Limits {
    fn parse(page: &[u8]) -> Self {
        let page = within(page);
        let said = |at| be32(page, at).filter(|value| *value != 0);
        Self {
            max_transfer: said(8),
            optimal: said(12),
            max_unmap: said(20),
            max_unmap_descriptors: said(24),
            unmap_granularity: said(28),
            unmap_alignment: be32(page, 32)
                .filter(|value| value & 1 << 31 != 0)
                .map(|value| value & !(1 << 31)),
            max_write_same: be64(page, 36).filter(|value| *value != 0),
        }
    }
}

/// VPD page B2h (SBC-3 6.6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Provisioning {
    unmap: bool,
    write_same_16: bool,
    write_same_10: bool,
    reads_zeros: bool,
}

impl Provisioning {
    fn parse(page: &[u8]) -> Self {
        let flags = within(page).get(5).copied().unwrap_or(0);
        Self {
            unmap: flags & 0x80 != 0,
            write_same_16: flags & 0x40 != 0,
            write_same_10: flags & 0x20 != 0,
            // LBPRZ is three bits: 001b says zeros.
            reads_zeros: flags & 0x1c == 0x04,
        }
    }
}

/// What MODE SENSE of the caching page says (SPC-4 7.5, SBC-3 6.5.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mode {
    write_protected: bool,
    fua: bool,
    write_cache: bool,
}

impl Mode {
    fn parse_6(answer: &[u8]) -> Self {
        let descriptors = usize::from(answer.get(3).copied().unwrap_or(0));
        Self::parse(answer.get(2), answer.get(4 + descriptors..))
    }

    fn parse_10(answer: &[u8]) -> Self {
        let descriptors = usize::from(be16(answer, 6).unwrap_or(0));
        Self::parse(answer.get(3), answer.get(8 + descriptors..))
    }

    fn parse(device_specific: Option<&u8>, page: Option<&[u8]>) -> Self {
        let device_specific = device_specific.copied().unwrap_or(0);
        let caching = page.filter(|page| page.first().is_some_and(|code| code & 0x3f == 8));
        Self {
            write_protected: device_specific & 0x80 != 0,
            fua: device_specific & 0x10 != 0,
            write_cache: caching.and_then(|page| page.get(2)).is_some_and(|byte| byte & 4 != 0),
        }
    }
}

/// Asks for the caching page in the form that the unit knows. One that refuses both says that it has
/// no cache to tell of; of one that was asked in vain nothing is known, and to flush a cache that is
/// not there loses nothing.
fn mode(mut ask: impl FnMut(Cdb) -> Result<Result<Vec<u8>, Ended>, Error>) -> Result<Mode, Error> {
    type Parse = fn(&[u8]) -> Mode;
    let forms: [(Cdb, Parse); 2] = [
        (Cdb::mode_sense_6(8, MODE_BYTES), Mode::parse_6),
        (Cdb::mode_sense_10(8, MODE_BYTES.into()), Mode::parse_10),
    ];
    let mut in_vain = false;
    for (cdb, parse) in forms {
        match ask(cdb)? {
            Ok(answer) => return Ok(parse(&answer)),
            Err(ended) => in_vain |= !is_refusal(&ended),
        }
    }
    Ok(Mode { write_cache: in_vain, ..Mode::default() })
}

/// Whether the unit does not know the command, or a field of it (ILLEGAL REQUEST).
fn is_refusal(ended: &Ended) -> bool {
    Sense::parse(&ended.sense).is_some_and(|sense| sense.key == SenseKey::ILLEGAL_REQUEST)
}

/// What REPORT SUPPORTED OPERATION CODES says of one WRITE SAME.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Operation {
    supported: bool,
    /// NDOB may be set.
    without_data: bool,
}

impl Operation {
    fn parse(answer: &[u8]) -> Self {
        // 011b: as in the standard.
        let supported = answer.get(1).is_some_and(|byte| byte & 7 == 3);
        let bits = answer.get(5).copied().unwrap_or(0);
        let is_16 = answer.get(4) == Some(&0x93);
        Self { supported, without_data: supported && is_16 && bits & 1 != 0 }
    }
}

fn discard(limits: &Limits, provisioning: &Provisioning) -> Option<Discard> {
    let by = match provisioning {
        // One that takes no block by it does not have it, whatever this page says (SBC-3 6.6.3).
        Provisioning { unmap: true, .. } if limits.max_unmap.is_some() => DiscardBy::Unmap,
        Provisioning { write_same_16: true, .. } => DiscardBy::WriteSame16,
        Provisioning { write_same_10: true, .. } => DiscardBy::WriteSame10,
        // A thin unit without the page takes UNMAP if it says how much.
        _ if limits.max_unmap.is_some() && limits.max_unmap_descriptors.is_some() => {
            DiscardBy::Unmap
        }
        _ => return None,
    };
    let max_blocks = match by {
        DiscardBy::Unmap => limits.max_unmap.unwrap_or(MOST_UNMAP_BLOCKS).min(MOST_UNMAP_BLOCKS),
        _ => max_same(limits),
    };
    let granularity = limits.unmap_granularity.unwrap_or(1);
    let alignment = limits.unmap_alignment.unwrap_or(0).checked_rem(granularity).unwrap_or(0);
    Some(Discard { by, max_blocks, granularity, alignment })
}

fn max_same(limits: &Limits) -> u32 {
    let most = u64::from(MOST_WRITE_SAME_BLOCKS);
    // The least of the two fits.
    limits.max_write_same.unwrap_or(most).min(most) as u32
}

fn write_zeroes(
    limits: &Limits,
    provisioning: &Provisioning,
    zeros: bool,
    same_16: Option<Operation>,
    same_10: Option<Operation>,
) -> Option<WriteZeroes> {
    let supported = |operation: Option<Operation>, otherwise: bool| {
        operation.map_or(otherwise, |operation| operation.supported)
    };
    let sixteen = supported(same_16, provisioning.write_same_16 || limits.max_write_same.is_some());
    if !sixteen && !supported(same_10, provisioning.write_same_10) {
        return None;
    }
    Some(WriteZeroes {
        sixteen,
        without_data: sixteen && same_16.is_some_and(|operation| operation.without_data),
        may_unmap: zeros
            && if sixteen { provisioning.write_same_16 } else { provisioning.write_same_10 },
        max_blocks: max_same(limits),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fusion_mpt::outcome::{Failure, Outcome};
    use fusion_mpt::scsi::ScsiStatus;
    use proptest::prelude::*;

    fn page(code: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&[0, code, length[0], length[1]], body].concat()
    }

    #[test]
    fn the_longest_naa_of_the_unit_itself_is_its_name() {
        let mut body = vec![2, 0x01, 0, 4, b'A', b'B', b'C', b'D'];
        body.extend([1, 0x02, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        body.extend([1, 0x03, 0, 8, 0x50, 0, 0xc5, 0, 1, 2, 3, 4]);
        body.extend([1, 0x13, 0, 16]);
        body.extend([0x60; 16]);
        let name = name(&page(0x83, &body)).expect("a name");
        assert_eq!(name.wwn_link(), "wwn-0x5000c50001020304");
        assert_eq!(name.scsi_link(), "scsi-35000c50001020304");
    }

    #[test]
    fn a_designator_that_is_cut_off_names_nothing() {
        assert_eq!(name(&page(0x83, &[1, 3, 0, 8, 0x50, 0])), None);
        assert_eq!(name(&page(0x83, &[1, 3, 0, 0])), None);
        assert_eq!(name(&[]), None);
    }

    #[test]
    fn limits_of_nought_are_none() {
        assert_eq!(Limits::parse(&page(0xb0, &[0; 60])), Limits::default());
        let mut body = [0; 60];
        body[4..8].copy_from_slice(&128u32.to_be_bytes());
        body[16..20].copy_from_slice(&77u32.to_be_bytes());
        body[28..32].copy_from_slice(&(1u32 << 31 | 5).to_be_bytes());
        body[32..40].copy_from_slice(&9u64.to_be_bytes());
        let limits = Limits::parse(&page(0xb0, &body));
        assert_eq!((limits.max_transfer, limits.max_unmap), (Some(128), Some(77)));
        assert_eq!((limits.unmap_alignment, limits.max_write_same), (Some(5), Some(9)));
    }

    #[test]
    fn a_thin_unit_is_given_blocks_back_in_the_way_that_it_says() {
        let limits = Limits { max_unmap: Some(100), ..Limits::default() };
        let by = |flags| {
            discard(&limits, &Provisioning::parse(&page(0xb2, &[0, flags, 2, 0]))).map(|d| d.by)
        };
        assert_eq!(by(0xe4), Some(DiscardBy::Unmap));
        assert_eq!(by(0x60), Some(DiscardBy::WriteSame16));
        assert_eq!(by(0x20), Some(DiscardBy::WriteSame10));
        assert_eq!(by(0), None);
        // It has the bit, and takes no block.
        let none = Limits::default();
        let says = |flags| Provisioning::parse(&page(0xb2, &[0, flags, 2, 0]));
        assert_eq!(discard(&none, &says(0x80)), None);
        assert_eq!(discard(&none, &says(0xc0)).map(|d| d.by), Some(DiscardBy::WriteSame16));
    }

    #[test]
    fn zeros_are_written_by_the_unit_where_it_knows_how() {
        let (limits, none) = (Limits::default(), Provisioning::default());
        assert_eq!(write_zeroes(&limits, &none, true, None, None), None);
        let can = |code| Operation::parse(&[0, 3, 0, 16, code, 0x0b]);
        let zeroes = write_zeroes(&limits, &none, true, Some(can(0x93)), None).expect("can");
        assert!(zeroes.sixteen && zeroes.without_data && !zeroes.may_unmap);
        let refused = Some(Operation::parse(&[0, 1]));
        let zeroes = write_zeroes(&limits, &none, true, refused, Some(can(0x41))).expect("can");
        assert!(!zeroes.sixteen && !zeroes.without_data);
        let thin = Provisioning { write_same_16: true, ..none };
        assert!(write_zeroes(&limits, &thin, true, None, None).expect("can").may_unmap);
        assert!(!write_zeroes(&limits, &thin, false, None, None).expect("can").may_unmap);
        assert_eq!(write_zeroes(&limits, &thin, true, refused, refused), None);
    }

    #[test]
    fn caching_and_protection_are_found_in_both_forms_of_mode_sense() {
        let all = Mode { write_protected: true, fua: true, write_cache: true };
        assert_eq!(Mode::parse_6(&[23, 0, 0x90, 0, 8, 18, 4]), all);
        assert_eq!(Mode::parse_10(&[0, 30, 0, 0x90, 0, 0, 0, 2, 9, 9, 8, 18, 4]), all);
        assert_eq!(Mode::parse_6(&[3, 0, 0, 0]), Mode::default());
        assert!(!Mode::parse_6(&[3, 0, 0, 200, 8, 18, 4]).write_cache);
    }

    #[test]
    fn a_cache_that_was_asked_for_in_vain_is_flushed_and_one_that_is_denied_is_not() {
        let ended = |key: u8| {
            let mut sense = vec![0; 18];
            (sense[0], sense[2], sense[7], sense[12]) = (0x70, key, 10, 0x24);
            let outcome = Outcome::Complete {
                status: ScsiStatus::CHECK_CONDITION,
                transferred: 0,
                sense_length: 18,
            };
            Ended { outcome, sense }
        };
        let lost = || Ended { outcome: Outcome::Failed(Failure::TimedOut), sense: Vec::new() };
        let cache = |first: Ended, then: Ended| {
            let mut answers = vec![then, first];
            let mode = mode(|_| Ok(Err(answers.pop().expect("two forms"))));
            mode.expect("an answer").write_cache
        };
        assert!(!cache(ended(5), ended(5)), "ILLEGAL REQUEST");
        assert!(cache(lost(), lost()));
        assert!(cache(ended(0xb), ended(5)), "ABORTED COMMAND");
        let answered = mode(|cdb| match cdb.as_bytes()[0] {
            0x1a => Ok(Err(lost())),
            _ => Ok(Ok(vec![0, 30, 0, 0, 0, 0, 0, 0, 8, 18, 0])),
        });
        assert!(!answered.expect("an answer").write_cache, "the other form says so");
    }

    proptest! {
        #[test]
        fn nothing_that_a_device_answers_trips_a_parser(
            bytes in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let limits = Limits::parse(&bytes);
            let provisioning = Provisioning::parse(&bytes);
            if let Some(discard) = discard(&limits, &provisioning) {
                prop_assert!(discard.max_blocks >= 1 && discard.granularity >= 1);
                prop_assert!(discard.alignment < discard.granularity);
            }
            let same = Some(Operation::parse(&bytes));
            if let Some(zeroes) = write_zeroes(&limits, &provisioning, true, same, same) {
                prop_assert!(zeroes.max_blocks >= 1);
            }
            prop_assert!(supported(&bytes).len() <= bytes.len());
            if let Some(name) = name(&bytes) {
                prop_assert!(name.hex().len() >= 16);
            }
            let _ = (Mode::parse_6(&bytes), Mode::parse_10(&bytes), does_not_rotate(&bytes));
        }
    }
}
