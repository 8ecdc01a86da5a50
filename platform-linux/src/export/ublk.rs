//! Block devices by the kernel's `ublk_drv`: a block device whose requests a process takes from an
//! io_uring and answers there.
//!
//! Our own binding over the crate `io-uring`, because the crate for it, `libublk`, gives each queue
//! of each device a thread, a ring and a loop of its own, where here one thread serves queue `q` of
//! every device and queue `q` of the controller from one ring; and because it wants libclang where
//! it is built. Names and numbers are those of `include/uapi/linux/ublk_cmd.h`.
//!
//! | module | its one idea |
//! |---|---|
//! | [`abi`] | names, numbers and layouts |
//! | [`control`] | making, starting, stopping, resizing and recovering devices |
//! | [`descriptors`] | what the kernel says of each tag's request |
//! | [`parameters`] | a unit as the block layer is told of it |
//! | [`ring`] | requests fetched and results handed back |
//! | [`server`] | the loop of one thread: ring, engine, queue of the controller |
//! | [`inbox`] | what other threads tell it |

pub mod abi;
pub mod control;
pub mod descriptors;
pub mod inbox;
pub mod parameters;
pub mod ring;
pub mod server;
