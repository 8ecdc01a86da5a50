//! What a logical unit says of itself that a block layer wants to know.
//!
//! Everything here comes from the device, and a device may say anything: what is absent, cut off or
//! cannot be is taken for not said.

mod pages;

use fusion_mpt::scsi::Cdb;
use fusion_mpt::targets::TargetId;

use crate::disk::{self, Disk};
use crate::error::Error;
use crate::host::{Buffer, Host};
use pages::{
    Limits, MODE_BYTES, Operation, Provisioning, discard, does_not_rotate, mode, name,
    report_operation, supported, write_zeroes,
};

/// Bytes of buffer that [`Unit::read`] wants.
pub const BUFFER_BYTES: usize = 4096;

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
