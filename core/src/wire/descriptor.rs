//! The 64-bit descriptors of MPI 2.x: how a request is posted, how a reply is announced (mpi2.h).
//!
//! Both are one little-endian word: the value here is the word in CPU order, byte 0 its low byte.

use bitfield::bitfield;

/// Types of a request descriptor: byte 0, bits 4:1, as the whole byte.
pub mod request_type {
    /// SCSI IO and RAID SCSI IO passthrough through the firmware.
    pub const SCSI_IO: u8 = 0x00;
    /// SCSI target mode.
    pub const SCSI_TARGET: u8 = 0x02;
    /// Task management: goes ahead of everything.
    pub const HIGH_PRIORITY: u8 = 0x06;
    /// All other messages.
    pub const DEFAULT: u8 = 0x08;
    /// RAID accelerator.
    pub const RAID_ACCELERATOR: u8 = 0x0a;
    /// SCSI IO past the firmware, straight to the hardware (2.5).
    pub const FAST_PATH_SCSI_IO: u8 = 0x0c;
    /// NVMe encapsulated commands (2.6).
    pub const PCIE_ENCAPSULATED: u8 = 0x10;
}

bitfield! {
    /// A request descriptor (MPI2_REQUEST_DESCRIPTOR_UNION): posted to 0xC0/0xC4, or its low half
    /// to 0xC8 where the IOC takes atomic ones.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct RequestDescriptor(pub u64);
    impl Debug;
    u8;
    /// Byte 0: see [`request_type`]. Bit 0 is the IOC's own FIFO marker.
    pub request_flags, set_request_flags: 7, 0;
    /// The reply post queue (MSI-X index) to answer on.
    pub msix_index, set_msix_index: 15, 8;
    u16;
    /// The request frame's number; 0 is invalid.
    pub smid, set_smid: 31, 16;
    /// LMID, 0 in an HBA.
    pub lmid, set_lmid: 47, 32;
    /// DevHandle of a SCSI IO, 0 elsewhere.
    pub dev_handle, set_dev_handle: 63, 48;
}

impl RequestDescriptor {
    const fn build(kind: u8, smid: u16, queue: u8, dev_handle: u16) -> Self {
        Self(kind as u64 | (queue as u64) << 8 | (smid as u64) << 16 | (dev_handle as u64) << 48)
    }

    /// What all descriptors that name reply queue `queue` have in common.
    #[must_use]
    pub const fn on_queue(queue: u8) -> Self {
        Self::build(0, 0, queue, 0)
    }

    /// On that queue, SCSI IO in frame `smid` for `dev_handle`.
    #[must_use]
    #[inline]
    pub const fn with_scsi_io(self, smid: u16, dev_handle: u16) -> Self {
        Self(self.0 | Self::scsi_io(smid, 0, dev_handle).0)
    }

    /// On that queue, task management in frame `smid`.
    #[must_use]
    pub const fn with_high_priority(self, smid: u16) -> Self {
        Self(self.0 | Self::high_priority(smid, 0).0)
    }

    /// On that queue, anything else in frame `smid`.
    #[must_use]
    pub const fn with_default_type(self, smid: u16) -> Self {
        Self(self.0 | Self::default_type(smid, 0).0)
    }

    /// SCSI IO `smid` for the device `dev_handle`, to be answered on reply post queue `queue`.
    #[must_use]
    pub const fn scsi_io(smid: u16, queue: u8, dev_handle: u16) -> Self {
        Self::build(request_type::SCSI_IO, smid, queue, dev_handle)
    }

    /// The same, past the firmware (2.5 on, devices that allow it).
    #[must_use]
    pub const fn fast_path_scsi_io(smid: u16, queue: u8, dev_handle: u16) -> Self {
        Self::build(request_type::FAST_PATH_SCSI_IO, smid, queue, dev_handle)
    }

    /// Task management `smid`, from the high-priority part of the frames.
    #[must_use]
    pub const fn high_priority(smid: u16, queue: u8) -> Self {
        Self::build(request_type::HIGH_PRIORITY, smid, queue, 0)
    }

    /// Any other message.
    #[must_use]
    pub const fn default_type(smid: u16, queue: u8) -> Self {
        Self::build(request_type::DEFAULT, smid, queue, 0)
    }

    /// The type, without the IOC's marker bit; see [`request_type`].
    #[must_use]
    pub fn kind(self) -> u8 {
        self.request_flags() & 0x1e
    }

    /// The atomic form (2.6): flags, queue and SMID alone.
    #[must_use]
    pub const fn atomic(self) -> u32 {
        self.0 as u32
    }
}

/// What a reply descriptor announces: byte 0, bits 3:0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ReplyKind {
    /// A SCSI IO succeeded in full; there is no reply frame.
    ScsiIoSuccess,
    /// A reply frame was written; its address is in the upper half. SMID 0: an event.
    AddressReply,
    /// Target mode: a target assist succeeded.
    TargetAssistSuccess,
    /// Target mode: a command buffer was filled.
    TargetCommandBuffer,
    /// A RAID accelerator request succeeded.
    RaidAcceleratorSuccess,
    /// A fast path SCSI IO succeeded in full (2.5).
    FastPathScsiIoSuccess,
    /// An NVMe encapsulated command succeeded (2.6).
    PcieEncapsulatedSuccess,
    /// The slot holds nothing.
    Unused,
    /// A type this crate does not know.
    Unknown(u8),
}

bitfield! {
    /// A reply descriptor (MPI2_REPLY_DESCRIPTORS_UNION): one slot of a reply post queue.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct ReplyDescriptor(pub u64);
    impl Debug;
    u8;
    /// Byte 0: the type in its low nibble.
    pub reply_flags, set_reply_flags: 7, 0;
    /// The reply post queue it was posted to.
    pub msix_index, set_msix_index: 15, 8;
    u16;
    /// The request that is complete; 0 in an address reply means an event.
    pub smid, set_smid: 31, 16;
    /// SCSI IO success: the task tag.
    pub task_tag, set_task_tag: 47, 32;
    u32;
    /// Address reply: lower half of the reply frame's bus address, to be range-checked.
    pub reply_frame_address, set_reply_frame_address: 63, 32;
}

impl ReplyDescriptor {
    /// An empty slot: all ones, as the host fills the queue and refills each consumed slot.
    pub const UNUSED: Self = Self(u64::MAX);

    /// A SCSI IO success.
    #[must_use]
    pub const fn scsi_io_success(smid: u16, queue: u8) -> Self {
        Self((queue as u64) << 8 | (smid as u64) << 16)
    }

    /// A fast path SCSI IO success.
    #[must_use]
    pub const fn fast_path_success(smid: u16, queue: u8) -> Self {
        Self(6 | (queue as u64) << 8 | (smid as u64) << 16)
    }

    /// An address reply for `smid` (0: an event) with the frame at `address`.
    #[must_use]
    pub const fn address_reply(smid: u16, queue: u8, address: u32) -> Self {
        Self(1 | (queue as u64) << 8 | (smid as u64) << 16 | (address as u64) << 32)
    }

    /// Whether the slot is not, or not yet wholly, written.
    ///
    /// A 64-bit write of the IOC may be seen in two halves: as long as either half is all ones,
    /// or the type says unused, the slot is left for the next look.
    #[must_use]
    #[inline]
    pub const fn is_unused(self) -> bool {
        self.0 as u32 == u32::MAX || (self.0 >> 32) as u32 == u32::MAX || self.0 & 0xf == 0xf
    }

    /// What it announces.
    #[must_use]
    #[inline]
    pub const fn kind(self) -> ReplyKind {
        match self.0 & 0xf {
            0x0 => ReplyKind::ScsiIoSuccess,
            0x1 => ReplyKind::AddressReply,
            0x2 => ReplyKind::TargetAssistSuccess,
            0x3 => ReplyKind::TargetCommandBuffer,
            0x5 => ReplyKind::RaidAcceleratorSuccess,
            0x6 => ReplyKind::FastPathScsiIoSuccess,
            0x8 => ReplyKind::PcieEncapsulatedSuccess,
            0xf => ReplyKind::Unused,
            other => ReplyKind::Unknown(other as u8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_descriptors_have_the_bytes_of_the_header() {
        let descriptor = RequestDescriptor::scsi_io(0x1234, 5, 0xabcd);
        assert_eq!(descriptor.0.to_le_bytes(), [0, 5, 0x34, 0x12, 0, 0, 0xcd, 0xab]);
        assert_eq!(descriptor.atomic(), 0x1234_0500);
        let descriptor = RequestDescriptor::high_priority(7, 0);
        assert_eq!(descriptor.0.to_le_bytes(), [6, 0, 7, 0, 0, 0, 0, 0]);
        assert_eq!(RequestDescriptor::default_type(9, 1).0, 0x0009_0108);
        let queue = RequestDescriptor::on_queue(5);
        assert_eq!(queue.with_scsi_io(0x1234, 0xabcd).0, 0xabcd_0000_1234_0500);
        assert_eq!(queue.with_high_priority(7), RequestDescriptor::high_priority(7, 5));
        assert_eq!(queue.with_default_type(7), RequestDescriptor::default_type(7, 5));
        let fast = RequestDescriptor::fast_path_scsi_io(1, 2, 3);
        assert_eq!((fast.kind(), fast.smid(), fast.dev_handle()), (0x0c, 1, 3));
    }

    #[test]
    fn setters_and_constructors_agree() {
        let mut descriptor = RequestDescriptor::default();
        descriptor.set_smid(0x1234);
        descriptor.set_msix_index(5);
        descriptor.set_dev_handle(0xabcd);
        assert_eq!(descriptor, RequestDescriptor::scsi_io(0x1234, 5, 0xabcd));
    }

    #[test]
    fn reply_descriptors_have_the_bytes_of_the_header() {
        let reply = ReplyDescriptor::address_reply(0x0102, 3, 0xdead_bee0);
        assert_eq!(reply.0.to_le_bytes(), [1, 3, 2, 1, 0xe0, 0xbe, 0xad, 0xde]);
        assert_eq!(reply.kind(), ReplyKind::AddressReply);
        assert_eq!((reply.smid(), reply.msix_index()), (0x0102, 3));
        assert_eq!(reply.reply_frame_address(), 0xdead_bee0);
        assert_eq!(ReplyDescriptor::scsi_io_success(4, 0).kind(), ReplyKind::ScsiIoSuccess);
        assert_eq!(
            ReplyDescriptor::fast_path_success(4, 0).kind(),
            ReplyKind::FastPathScsiIoSuccess
        );
    }

    #[test]
    fn a_half_written_slot_counts_as_unused() {
        assert!(ReplyDescriptor::UNUSED.is_unused());
        assert!(ReplyDescriptor(0xffff_ffff_0001_0000).is_unused());
        assert!(ReplyDescriptor(0x0000_0000_ffff_ffff).is_unused());
        assert!(!ReplyDescriptor::scsi_io_success(1, 0).is_unused());
        assert!(!ReplyDescriptor::address_reply(1, 0, 0xffff_ff80).is_unused());
    }

    #[test]
    fn an_unknown_reply_type_keeps_its_number() {
        assert_eq!(ReplyDescriptor(0x7).kind(), ReplyKind::Unknown(7));
        assert_eq!(ReplyDescriptor::UNUSED.kind(), ReplyKind::Unused);
    }
}
