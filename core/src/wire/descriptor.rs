//! Request and reply descriptors of MPI 2.x (mpi2.h, "Request Descriptors", "Reply Descriptors").

use bitfield::bitfield;

bitfield! {
    /// A request descriptor, 8 bytes: what to do with which frame.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct RequestDescriptor(u64);
    impl Debug;
    /// Type and flags (`MPI2_REQ_DESCRIPT_FLAGS_*`).
    pub u8, request_flags, set_request_flags: 7, 0;
    /// The reply queue to answer on.
    pub u8, msix_index, set_msix_index: 15, 8;
    /// The request frame's number.
    pub u16, smid, set_smid: 31, 16;
    /// LMID, 0.
    pub u16, lmid, set_lmid: 47, 32;
    /// DevHandle, for SCSI IO.
    pub u16, dev_handle, set_dev_handle: 63, 48;
}

impl RequestDescriptor {
    /// Type: SCSI IO.
    pub const SCSI_IO: u8 = 0x00;
    /// Type: high priority, task management.
    pub const HIGH_PRIORITY: u8 = 0x06;
    /// Type: everything else.
    pub const DEFAULT_TYPE: u8 = 0x08;
    /// Type: SCSI IO by the fast path (2.5).
    pub const FAST_PATH_SCSI_IO: u8 = 0x0c;
    /// The bits of `request_flags` that are the type.
    pub const TYPE_MASK: u8 = 0x1e;

    /// SCSI IO in frame `smid` for `dev_handle`, to be answered on queue `msix_index`.
    #[must_use]
    #[inline]
    pub const fn scsi_io(smid: u16, msix_index: u8, dev_handle: u16) -> Self {
        Self((dev_handle as u64) << 48 | (smid as u64) << 16 | (msix_index as u64) << 8)
    }

    /// Task management in frame `smid`.
    #[must_use]
    pub const fn high_priority(smid: u16, msix_index: u8) -> Self {
        Self((smid as u64) << 16 | (msix_index as u64) << 8 | Self::HIGH_PRIORITY as u64)
    }

    /// Any other request in frame `smid`.
    #[must_use]
    pub const fn default_type(smid: u16, msix_index: u8) -> Self {
        Self((smid as u64) << 16 | (msix_index as u64) << 8 | Self::DEFAULT_TYPE as u64)
    }
}

bitfield! {
    /// A reply descriptor, 8 bytes.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct ReplyDescriptor(u64);
    impl Debug;
    /// Type (`MPI2_RPY_DESCRIPT_FLAGS_*`).
    pub u8, kind, set_kind: 3, 0;
    /// The reply queue it was written to.
    pub u8, msix_index, set_msix_index: 15, 8;
    /// The request that it answers; 0 for an event.
    pub u16, smid, set_smid: 31, 16;
    /// Address reply: the low 32 bits of the reply frame's address.
    pub u32, reply_frame_address, set_reply_frame_address: 63, 32;
}

impl ReplyDescriptor {
    /// The request succeeded; there is no frame.
    pub const SCSI_IO_SUCCESS: u8 = 0x0;
    /// There is a reply frame.
    pub const ADDRESS_REPLY: u8 = 0x1;
    /// As SCSI IO success, by the fast path.
    pub const FAST_PATH_SCSI_IO_SUCCESS: u8 = 0x6;
    /// Not written since the host last read it; then all 64 bits are ones.
    pub const UNUSED: u8 = 0xf;
}
