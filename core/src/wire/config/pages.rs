//! The configuration pages a driver reads, in the layouts of both generations.
//!
//! Read them with [`read_padded`](crate::wire::read_padded): older firmware has shorter pages.
//! Entries that follow a page's fixed part come from [`entries`].

pub mod mpi1;
pub mod mpi2;

use core::marker::PhantomData;
use core::mem::size_of;

use zerocopy::FromBytes;

use super::super::{U16, U32, layout};
use super::PageHeader;
use crate::codes::codes;

layout! {
    /// Manufacturing page 0: names of chip and board, ASCII, padded with zeros or spaces.
    pub struct Manufacturing0: 0x4c {
        0x00 header: PageHeader = "header",
        0x04 chip_name: [u8; 16] = "chip",
        0x14 chip_revision: [u8; 8] = "its revision",
        0x1c board_name: [u8; 16] = "board",
        0x2c board_assembly: [u8; 16] = "its assembly number",
        0x3c board_tracer_number: [u8; 16] = "its serial number",
    }

    /// IO unit page 1: behaviour flags, each generation's own.
    pub struct IoUnit1: 0x08 {
        0x00 header: PageHeader = "header",
        0x04 flags: U32 = "flags",
    }

    /// IOC page 0: what the chip is on PCI. The two dwords after the header are MPI 1.x's store.
    pub struct Ioc0: 0x1c {
        0x00 header: PageHeader = "header",
        0x04 total_nv_store: U32 = "bytes of non-volatile store (reserved on MPI 2.x)",
        0x08 free_nv_store: U32 = "free bytes of it (reserved on MPI 2.x)",
        0x0c vendor_id: U16 = "PCI vendor id",
        0x0e device_id: U16 = "PCI device id",
        0x10 revision_id: u8 = "PCI revision",
        0x11 reserved_11: [u8; 3] = "reserved",
        0x14 class_code: U32 = "PCI class code",
        0x18 subsystem_vendor_id: U16 = "PCI subsystem vendor id",
        0x1a subsystem_id: U16 = "PCI subsystem id",
    }
}

/// IOC page 1 flag: the IOC gathers replies before it interrupts.
pub const IOC1_REPLY_COALESCING: u32 = 0x0000_0001;

codes! {
    /// A negotiated link rate, low nibble of the fields that carry one.
    pub struct LinkRate(u8 & 0x0f) {
        UNKNOWN = 0x00, "unknown";
        PHY_DISABLED = 0x01, "phy disabled";
        NEGOTIATION_FAILED = 0x02, "speed negotiation failed";
        SATA_OOB_COMPLETE = 0x03, "SATA spin-up hold";
        PORT_SELECTOR = 0x04, "port selector";
        SMP_RESET_IN_PROGRESS = 0x05, "reset in progress";
        UNSUPPORTED_PHY = 0x06, "unsupported phy";
        RATE_1_5 = 0x08, "1.5 Gbit/s";
        RATE_3_0 = 0x09, "3 Gbit/s";
        RATE_6_0 = 0x0a, "6 Gbit/s";
        RATE_12_0 = 0x0b, "12 Gbit/s";
        RATE_22_5 = 0x0c, "22.5 Gbit/s";
    }
}

impl LinkRate {
    /// Whether a device can be reached over the link: a rate was negotiated.
    #[must_use]
    pub const fn is_up(self) -> bool {
        self.0 & 0x0f >= 0x08
    }
}

codes! {
    /// AccessStatus of SAS device page 0: whether commands may be sent to the device.
    pub struct AccessStatus(u8) {
        NO_ERRORS = 0x00, "no errors";
        SATA_INIT_FAILED = 0x01, "SATA initialisation failed";
        SATA_CAPABILITY_FAILED = 0x02, "SATA capability failed";
        SATA_AFFILIATION_CONFLICT = 0x03, "SATA affiliation conflict";
        SATA_NEEDS_INITIALIZATION = 0x04, "SATA device needs initialisation";
        ROUTE_NOT_ADDRESSABLE = 0x05, "route not addressable";
        SMP_ERROR_NOT_ADDRESSABLE = 0x06, "not addressable after an SMP error";
        DEVICE_BLOCKED = 0x07, "device blocked";
        SATA_INIT_UNKNOWN = 0x10, "SATA initialisation failed: unknown";
        SATA_INIT_AFFILIATION = 0x11, "SATA initialisation failed: affiliation conflict";
        SATA_INIT_DIAG = 0x12, "SATA initialisation failed: diagnostic";
        SATA_INIT_IDENTIFICATION = 0x13, "SATA initialisation failed: identification";
        SATA_INIT_CHECK_POWER = 0x14, "SATA initialisation failed: check power mode";
        SATA_INIT_PIO = 0x15, "SATA initialisation failed: PIO";
        SATA_INIT_MDMA = 0x16, "SATA initialisation failed: multiword DMA";
        SATA_INIT_UDMA = 0x17, "SATA initialisation failed: ultra DMA";
        SATA_INIT_ZONING = 0x18, "SATA initialisation failed: zoning violation";
        SATA_INIT_NOT_ADDRESSABLE = 0x19, "SATA initialisation failed: not addressable";
    }
}

bitflags::bitflags! {
    /// SAS device info: what a device, or a phy's neighbour, is (mpi_sas.h, mpi2_sas.h).
    ///
    /// Bits 2:0 are a number, the device type: see [`DeviceInfo::device_type`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DeviceInfo: u32 {
        /// SATA host.
        const SATA_HOST = 0x0008;
        /// SMP initiator.
        const SMP_INITIATOR = 0x0010;
        /// STP initiator.
        const STP_INITIATOR = 0x0020;
        /// SSP initiator.
        const SSP_INITIATOR = 0x0040;
        /// A SATA disk, attached directly.
        const SATA_DEVICE = 0x0080;
        /// SMP target.
        const SMP_TARGET = 0x0100;
        /// A SATA disk behind an expander.
        const STP_TARGET = 0x0200;
        /// A SAS target.
        const SSP_TARGET = 0x0400;
        /// Directly attached.
        const DIRECT_ATTACH = 0x0800;
        /// The vendor's own device.
        const LSI_DEVICE = 0x1000;
        /// SATA ATAPI device.
        const ATAPI_DEVICE = 0x2000;
        /// Enclosure processor.
        const SEP = 0x4000;
    }

    /// Flags of SAS device page 0 that both generations share.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DeviceFlags: u16 {
        /// The device is there.
        const PRESENT = 0x0001;
        /// Attached through a SATA port selector.
        const PORT_SELECTOR = 0x0008;
        /// SATA: forced unit access.
        const SATA_FUA = 0x0010;
        /// SATA: native command queuing.
        const SATA_NCQ = 0x0020;
        /// SATA: SMART.
        const SATA_SMART = 0x0040;
        /// SATA: 48-bit addresses.
        const SATA_48BIT = 0x0080;
        /// The controller does not support the device.
        const UNSUPPORTED = 0x0100;
    }
}

impl DeviceInfo {
    /// Bits 2:0: 0 none, 1 end device, 2 edge expander, 3 fanout expander.
    #[must_use]
    pub const fn device_type(self) -> u8 {
        (self.bits() & 7) as u8
    }

    /// Whether SCSI commands can be sent to it: an end device that is an SSP, STP or SATA target.
    #[must_use]
    pub const fn is_scsi_target(self) -> bool {
        self.device_type() == 1
            && self.intersects(Self::SSP_TARGET.union(Self::STP_TARGET).union(Self::SATA_DEVICE))
    }

    /// Whether it is a SATA device.
    #[must_use]
    pub const fn is_sata(self) -> bool {
        self.intersects(Self::STP_TARGET.union(Self::SATA_DEVICE))
    }

    /// Whether it is an expander.
    #[must_use]
    pub const fn is_expander(self) -> bool {
        matches!(self.device_type(), 2 | 3)
    }
}

/// Iterator over entries that follow each other in a buffer; see [`entries`].
#[derive(Clone, Debug)]
pub struct Entries<'a, T> {
    bytes: &'a [u8],
    left: usize,
    entry: PhantomData<T>,
}

impl<T: FromBytes> Iterator for Entries<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        let (entry, rest) = T::read_from_prefix(self.bytes).ok()?;
        self.bytes = rest;
        Some(entry)
    }
}

/// The `count` entries that start `offset` bytes into `bytes`; fewer if `bytes` ends before.
///
/// The count comes from the device: it is believed only as far as the buffer reaches.
#[must_use]
pub fn entries<T: FromBytes>(bytes: &[u8], offset: usize, count: u8) -> Entries<'_, T> {
    const { assert!(size_of::<T>() > 0) };
    Entries { bytes: bytes.get(offset..).unwrap_or(&[]), left: count.into(), entry: PhantomData }
}

/// The text of a fixed ASCII field: up to the first zero, without trailing spaces.
///
/// Bytes that are not ASCII end the text: the field is for people and comes from a device.
#[must_use]
pub fn text(field: &[u8]) -> &str {
    let end = field.iter().position(|byte| !matches!(byte, b' '..=b'~')).unwrap_or(field.len());
    core::str::from_utf8(field.get(..end).unwrap_or(&[])).unwrap_or("").trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_with_the_buffer_whatever_the_count_says() {
        let bytes = [0_u8; 0x10 + 2 * 0x14 + 7];
        let found = entries::<mpi2::SasIoUnit0Phy>(&bytes, 0x10, 255);
        assert_eq!(found.count(), 2);
        assert_eq!(entries::<mpi2::SasIoUnit0Phy>(&bytes, 0x10, 1).count(), 1);
        assert_eq!(entries::<mpi2::SasIoUnit0Phy>(&bytes, 4096, 8).count(), 0);
    }

    #[test]
    fn text_fields_lose_padding_and_stop_at_rubbish() {
        assert_eq!(text(b"SAS2008   \0\0\0"), "SAS2008");
        assert_eq!(text(b"LSI Logic\xff x"), "LSI Logic");
        assert_eq!(text(b"\0\0"), "");
    }

    #[test]
    fn device_info_tells_disks_from_expanders_and_initiators() {
        let sas_disk = DeviceInfo::from_bits_retain(0x0401);
        let sata_disk = DeviceInfo::from_bits_retain(0x0081);
        let expander = DeviceInfo::from_bits_retain(0x0102);
        let initiator = DeviceInfo::from_bits_retain(0x0071);
        assert!(sas_disk.is_scsi_target() && !sas_disk.is_sata());
        assert!(sata_disk.is_scsi_target() && sata_disk.is_sata());
        assert!(expander.is_expander() && !expander.is_scsi_target());
        assert!(!initiator.is_scsi_target());
    }

    #[test]
    fn a_link_is_up_from_the_first_rate_on() {
        assert!(!LinkRate::UNSUPPORTED_PHY.is_up());
        assert!(LinkRate::RATE_1_5.is_up());
        assert_eq!(LinkRate(0xbb).name(), "12 Gbit/s", "the high nibble is the logical rate");
    }
}
