//! MPI 2.x registers beyond the common ones (mpi2.h, "System Interface Register Set").

use bitfield::bitfield;
use volatile_register::{RW, WO};

use super::{Reg, registers};

/// The memory BAR of an MPI 2.x controller as far as this driver uses it, 0x410 bytes.
#[allow(missing_debug_implementations, reason = "a layout, never a value")]
#[repr(C)]
pub struct Block {
    /// The common registers and reserved space up to 0x48.
    _system: [u32; 18],
    reply_free_host_index: RW<u32>,
    _reserved_4c: [u32; 8],
    reply_post_host_index: RW<u32>,
    _reserved_70: u32,
    hcb_size: RW<u32>,
    hcb_address_low: RW<u32>,
    hcb_address_high: RW<u32>,
    _reserved_80: [u32; 16],
    request_descriptor_post_low: WO<u32>,
    request_descriptor_post_high: WO<u32>,
    atomic_request_descriptor_post: WO<u32>,
    _reserved_cc: [u32; 144],
    supplemental_reply_post_host_index: [SupplementalIndex; 16],
    _reserved_40c: u32,
}

/// One supplemental host index register; 16 bytes apart from the next.
#[allow(missing_debug_implementations, reason = "a layout, never a value")]
#[repr(C)]
pub struct SupplementalIndex {
    index: RW<u32>,
    _reserved: [u32; 3],
}

const _: () = assert!(size_of::<super::SystemBlock>() <= 0x48);
const _: () = assert!(core::mem::offset_of!(Block, supplemental_reply_post_host_index) == 0x30c);
const _: () = assert!(size_of::<SupplementalIndex>() == 0x10);

registers!(Block {
    /// The reply free queue: the entry that the host wrote last.
    REPLY_FREE_HOST_INDEX = reply_free_host_index: RW<u32> @ 0x48;
    /// The next reply descriptor this host will read, and of which queue.
    REPLY_POST_HOST_INDEX = reply_post_host_index: RW<ReplyPostHostIndex> @ 0x6c;
    /// Host code buffer size; bit 0 enables it.
    HCB_SIZE = hcb_size: RW<u32> @ 0x74;
    /// Host code buffer address, low half.
    HCB_ADDRESS_LOW = hcb_address_low: RW<u32> @ 0x78;
    /// Host code buffer address, high half.
    HCB_ADDRESS_HIGH = hcb_address_high: RW<u32> @ 0x7c;
    /// Takes a 64-bit request descriptor, or its low half.
    REQUEST_DESCRIPTOR_POST = request_descriptor_post_low: WO<u32> @ 0xc0;
    /// Takes a request descriptor's high half, which commits it.
    REQUEST_DESCRIPTOR_POST_HIGH = request_descriptor_post_high: WO<u32> @ 0xc4;
    /// Takes a 32-bit request descriptor (MPI 2.6 with the atomic capability).
    ATOMIC_REQUEST_DESCRIPTOR_POST = atomic_request_descriptor_post: WO<u32> @ 0xc8;
});

bitfield! {
    /// The reply post host index register.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct ReplyPostHostIndex(pub u32);
    impl Debug;
    /// The next entry to read.
    pub u32, index, set_index: 23, 0;
    /// The queue, or with supplemental registers the queue's number modulo 8.
    pub u8, msix_index, set_msix_index: 31, 24;
}

impl From<u32> for ReplyPostHostIndex {
    #[inline]
    fn from(value: u32) -> Self {
        Self(value)
    }
}
impl From<ReplyPostHostIndex> for u32 {
    #[inline]
    fn from(word: ReplyPostHostIndex) -> u32 {
        word.0
    }
}

/// The host index register of reply queue `queue` and what its queue field must say.
///
/// Controllers with more than 8 reply queues have 12 or 16 supplemental registers, each for 8
/// queues, and do not look at the first one (mpt3sas, "combined reply queue").
#[must_use]
pub fn host_index_of(
    queue: u8,
    supplemental: bool,
) -> (Reg<RW<u32>, ReplyPostHostIndex>, ReplyPostHostIndex) {
    let mut word = ReplyPostHostIndex(0);
    if supplemental {
        word.set_msix_index(queue % 8);
        let offset = 0x30c + 0x10 * usize::from(queue / 8 % 16);
        let register =
            Reg::new(offset, |block: &Block| &block.supplemental_reply_post_host_index[0].index);
        (register, word)
    } else {
        word.set_msix_index(queue);
        (REPLY_POST_HOST_INDEX, word)
    }
}
