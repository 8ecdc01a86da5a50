//! MPI 1.x registers beyond the common ones (mpi.h, "System Interface Register Set").

use volatile_register::{RW, WO};

use super::registers;

/// The memory BAR of an MPI 1.x controller as far as this driver uses it, 0x4C bytes.
#[allow(missing_debug_implementations, reason = "a layout, never a value")]
#[repr(C)]
pub struct Block {
    /// Doorbell, write sequence, host diagnostic.
    _system: [u32; 16],
    request_queue: WO<u32>,
    reply_queue: RW<u32>,
    high_priority_request_queue: WO<u32>,
}

const _: () = assert!(size_of::<Block>() == 0x4c);
const _: () = assert!(size_of::<super::SystemBlock>() <= 0x40);

registers!(Block {
    /// Takes the low 32 bits of a request frame's bus address.
    REQUEST_QUEUE = request_queue: WO<u32> @ 0x40;
    /// Read: the next reply, all ones when there is none. Written: gives a reply frame to the IOC.
    REPLY_QUEUE = reply_queue: RW<u32> @ 0x44;
    /// Like [`REQUEST_QUEUE`], for task management, where the facts' capability bit says so.
    HIGH_PRIORITY_REQUEST_QUEUE = high_priority_request_queue: WO<u32> @ 0x48;
});
