//! Names, numbers and layouts of `include/uapi/linux/ublk_cmd.h`, as of Linux 6.18. What older
//! kernels do not know, they say so ([`Features`]) or refuse.

use bitflags::bitflags;

/// Bytes of [`ControlCommand`].
const CONTROL_BYTES: u32 = size_of::<ControlCommand>() as u32;

/// An `_IOR` or `_IOWR` number of type `u` about `bytes` bytes (`include/uapi/asm-generic/ioctl.h`).
const fn ioctl(writes: bool, number: u32, bytes: u32) -> u32 {
    let direction = if writes { 3 } else { 2 };
    direction << 30 | bytes << 16 | (b'u' as u32) << 8 | number
}

/// What is sent to `/dev/ublk-control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ControlOperation {
    /// `UBLK_U_CMD_GET_DEV_INFO`: into a [`DeviceInfo`].
    GetInfo = ioctl(false, 0x02, CONTROL_BYTES),
    /// `UBLK_U_CMD_ADD_DEV`: from a [`DeviceInfo`] and into it.
    Add = ioctl(true, 0x04, CONTROL_BYTES),
    /// `UBLK_U_CMD_DEL_DEV`: waits until nobody has its files open.
    Delete = ioctl(true, 0x05, CONTROL_BYTES),
    /// `UBLK_U_CMD_START_DEV` with the server's process id: waits until every tag is fetched.
    Start = ioctl(true, 0x06, CONTROL_BYTES),
    /// `UBLK_U_CMD_STOP_DEV`: waits until what is under way has ended.
    Stop = ioctl(true, 0x07, CONTROL_BYTES),
    /// `UBLK_U_CMD_SET_PARAMS`: from [`Parameters`].
    SetParameters = ioctl(true, 0x08, CONTROL_BYTES),
    /// `UBLK_U_CMD_START_USER_RECOVERY`.
    StartRecovery = ioctl(true, 0x10, CONTROL_BYTES),
    /// `UBLK_U_CMD_END_USER_RECOVERY` with the server's process id: waits as `Start`.
    EndRecovery = ioctl(true, 0x11, CONTROL_BYTES),
    /// `UBLK_U_CMD_GET_FEATURES`: into 8 bytes (Linux 6.5).
    GetFeatures = ioctl(false, 0x13, CONTROL_BYTES),
    /// `UBLK_U_CMD_DEL_DEV_ASYNC`: the same without waiting (Linux 6.9).
    DeleteLater = ioctl(false, 0x14, CONTROL_BYTES),
    /// `UBLK_U_CMD_UPDATE_SIZE` with the sectors (Linux 6.16).
    UpdateSize = ioctl(true, 0x15, CONTROL_BYTES),
}

/// `UBLK_U_IO_FETCH_REQ`, sent to `/dev/ublkcN`: take this tag's next request.
pub const IO_FETCH: u32 = ioctl(true, 0x20, IO_COMMAND_BYTES as u32);
/// `UBLK_U_IO_COMMIT_AND_FETCH_REQ`: this tag's request has ended so; take its next one.
pub const IO_COMMIT_AND_FETCH: u32 = ioctl(true, 0x21, IO_COMMAND_BYTES as u32);

/// `UBLK_IO_RES_ABORT`, a negative `ENODEV`: no request will come under this tag any more.
pub const RESULT_ABORT: i32 = -19;

/// `UBLK_MAX_QUEUE_DEPTH`: tags of a queue, which bound where its descriptors lie, too.
pub const MOST_TAGS: u16 = 4096;

/// Bytes of `struct ublksrv_io_cmd`.
pub const IO_COMMAND_BYTES: usize = 16;

/// `struct ublksrv_io_cmd`: queue, tag, result and the address of the tag's buffer, for its next
/// request.
#[must_use]
pub fn io_command(queue: u16, tag: u16, result: i32, address: u64) -> [u8; IO_COMMAND_BYTES] {
    let [q0, q1] = queue.to_ne_bytes();
    let [t0, t1] = tag.to_ne_bytes();
    let [r0, r1, r2, r3] = result.to_ne_bytes();
    let [a0, a1, a2, a3, a4, a5, a6, a7] = address.to_ne_bytes();
    [q0, q1, t0, t1, r0, r1, r2, r3, a0, a1, a2, a3, a4, a5, a6, a7]
}

/// `struct ublksrv_ctrl_cmd`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ControlCommand {
    /// The device, or all ones.
    pub device: u32,
    /// The queue, or all ones.
    pub queue: u16,
    /// Bytes at `address`.
    pub length: u16,
    /// Of a buffer of this process.
    pub address: u64,
    /// What goes with the command itself.
    pub data: u64,
    /// For unprivileged devices.
    pub path_length: u16,
    /// 0.
    pub pad: u16,
    /// 0.
    pub reserved: u32,
}

/// `struct ublksrv_ctrl_dev_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DeviceInfo {
    /// Hardware queues.
    pub queues: u16,
    /// Tags of each.
    pub depth: u16,
    /// [`DeviceState`].
    pub state: u16,
    /// 0.
    pub pad0: u16,
    /// Bytes of each tag's buffer.
    pub buffer_bytes: u32,
    /// The device; all ones for whichever is free.
    pub device: u32,
    /// The process that serves it.
    pub server: i32,
    /// 0.
    pub pad1: u32,
    /// [`Features`].
    pub features: u64,
    /// The server's own, which the kernel keeps and never looks at.
    pub server_flags: u64,
    /// Who made it.
    pub owner_uid: u32,
    /// Their group.
    pub owner_gid: u32,
    /// 0.
    pub reserved1: u64,
    /// 0.
    pub reserved2: u64,
}

/// A device's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceState(pub u16);

impl DeviceState {
    /// `UBLK_S_DEV_DEAD`: made and not started, or stopped.
    pub const DEAD: Self = Self(0);
    /// `UBLK_S_DEV_LIVE`: served.
    pub const LIVE: Self = Self(1);
    /// `UBLK_S_DEV_QUIESCED`: its server is gone, and requests wait for another one.
    pub const QUIESCED: Self = Self(2);
}

bitflags! {
    /// What a device is to be able to do, and what a kernel can (`UBLK_F_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// `UBLK_F_USER_RECOVERY`: it outlives its server.
        const USER_RECOVERY = 1 << 3;
        /// `UBLK_F_USER_RECOVERY_REISSUE`: what the old server had is given to the new one.
        const USER_RECOVERY_REISSUE = 1 << 4;
        /// `UBLK_F_CMD_IOCTL_ENCODE`: the numbers above.
        const IOCTL_ENCODE = 1 << 6;
        /// `UBLK_F_UPDATE_SIZE`: its capacity can change.
        const UPDATE_SIZE = 1 << 10;
        const _ = !0;
    }

    /// `UBLK_ATTR_*` of [`Parameters`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Attributes: u32 {
        /// `UBLK_ATTR_READ_ONLY`.
        const READ_ONLY = 1;
        /// `UBLK_ATTR_ROTATIONAL`.
        const ROTATIONAL = 1 << 1;
        /// `UBLK_ATTR_VOLATILE_CACHE`: writes want flushes.
        const VOLATILE_CACHE = 1 << 2;
        /// `UBLK_ATTR_FUA`: writes may carry it.
        const FUA = 1 << 3;
    }
}

/// `UBLK_PARAM_TYPE_BASIC`.
pub const PARAMETERS_BASIC: u32 = 1;
/// `UBLK_PARAM_TYPE_DISCARD`.
pub const PARAMETERS_DISCARD: u32 = 1 << 1;

/// The beginning of `struct ublk_params`, as far as the two kinds go that are set here. A sector is
/// 512 bytes, whatever a block is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Parameters {
    /// Bytes of this.
    pub length: u32,
    /// Which kinds are set.
    pub kinds: u32,
    /// [`Attributes`].
    pub attributes: u32,
    /// Power of two of a logical block's bytes.
    pub logical_block_shift: u8,
    /// Of a physical block's.
    pub physical_block_shift: u8,
    /// Of what it likes best at once.
    pub optimal_shift: u8,
    /// Of the least that it likes.
    pub minimal_shift: u8,
    /// Most sectors of a request.
    pub max_sectors: u32,
    /// Sectors that no request may cross a multiple of; 0 for none.
    pub chunk_sectors: u32,
    /// Sectors of the device.
    pub device_sectors: u64,
    /// 0.
    pub virtual_boundary: u64,
    /// Bytes to the first sector of a group that is given back together.
    pub discard_alignment: u32,
    /// Bytes of such a group, at least 1.
    pub discard_granularity: u32,
    /// Most sectors of a discard; 0 for none at all.
    pub max_discard_sectors: u32,
    /// Most sectors of a write-zeroes; 0 for none at all.
    pub max_write_zeroes_sectors: u32,
    /// Most ranges of a discard: 1.
    pub max_discard_segments: u16,
    /// 0.
    pub reserved: u16,
    /// What fills up to the structure's alignment.
    pub padding: u32,
}

/// `struct ublksrv_io_desc`: what a tag's request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct IoDescriptor {
    /// The operation in the low 8 bits, flags above.
    pub operation: u32,
    /// Sectors.
    pub sectors: u32,
    /// The first of them.
    pub first: u64,
    /// The tag's buffer.
    pub address: u64,
}

impl IoDescriptor {
    /// `UBLK_IO_OP_READ`.
    pub const READ: u32 = 0;
    /// `UBLK_IO_OP_WRITE`.
    pub const WRITE: u32 = 1;
    /// `UBLK_IO_OP_FLUSH`.
    pub const FLUSH: u32 = 2;
    /// `UBLK_IO_OP_DISCARD`.
    pub const DISCARD: u32 = 3;
    /// `UBLK_IO_OP_WRITE_ZEROES`.
    pub const WRITE_ZEROES: u32 = 5;
    /// `UBLK_IO_F_FUA`.
    pub const FUA: u32 = 1 << 13;
    /// `UBLK_IO_F_NOUNMAP`: zeros, and nothing given back.
    pub const NO_UNMAP: u32 = 1 << 15;
}

const _: () = {
    assert!(size_of::<ControlCommand>() == 32);
    assert!(size_of::<DeviceInfo>() == 64);
    assert!(size_of::<IoDescriptor>() == 24);
    assert!(size_of::<Parameters>() == 64);
    assert!(std::mem::offset_of!(DeviceInfo, features) == 24);
    assert!(std::mem::offset_of!(DeviceInfo, server_flags) == 32);
    assert!(std::mem::offset_of!(Parameters, max_sectors) == 16);
    assert!(std::mem::offset_of!(Parameters, device_sectors) == 24);
    assert!(std::mem::offset_of!(Parameters, discard_alignment) == 40);
    assert!(std::mem::offset_of!(Parameters, max_discard_segments) == 56);
    // As `_IOWR('u', 0x04, struct ublksrv_ctrl_cmd)` and its like come out in C.
    assert!(ControlOperation::Add as u32 == 0xc020_7504);
    assert!(ControlOperation::GetInfo as u32 == 0x8020_7502);
    assert!(ControlOperation::GetFeatures as u32 == 0x8020_7513);
    assert!(IO_FETCH == 0xc010_7520);
    assert!(IO_COMMIT_AND_FETCH == 0xc010_7521);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_command_has_its_fields_where_the_kernel_looks() {
        let bytes = io_command(0x0102, 0x0304, -5, 0x1122_3344_5566_7788);
        assert_eq!(bytes[0..2], 0x0102u16.to_ne_bytes());
        assert_eq!(bytes[2..4], 0x0304u16.to_ne_bytes());
        assert_eq!(bytes[4..8], (-5i32).to_ne_bytes());
        assert_eq!(bytes[8..16], 0x1122_3344_5566_7788u64.to_ne_bytes());
    }
}
