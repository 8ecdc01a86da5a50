//! What a controller answers, once its generation's form is off.

use crate::log_info::LogInfo;
use crate::wire::config::pages::DeviceInfo;
use crate::wire::task::ResponseCode;
use crate::wire::{Function, IocStatus};

/// One thing found in a reply queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The request succeeded; nothing more to say.
    Success {
        /// Which.
        smid: u16,
    },
    /// There is a reply frame.
    Frame {
        /// Which request, if the descriptor says (MPI2); 0 for an event. On MPI1 the frame says.
        smid: Option<u16>,
        /// The low 32 bits of the frame's bus address, as the device wrote it.
        address: u32,
    },
    /// A descriptor of a kind that this driver never asked for.
    Unknown,
}

/// What every reply frame says, whatever its generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyHeader {
    /// The function answered.
    pub function: Function,
    /// Bytes of the reply (`MsgLength` x 4).
    pub length: u16,
    /// MPI1: the request's `MsgContext`.
    pub context: u32,
    /// How it went.
    pub status: IocStatus,
    /// More about it.
    pub log_info: LogInfo,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskReply {
    /// The target's answer.
    pub response: ResponseCode,
    /// Commands that it ended.
    pub terminated: u32,
    /// How the IOC saw it.
    pub status: IocStatus,
    /// More about it.
    pub log_info: LogInfo,
}

/// An event, as far as handling it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Which (`MPI2_EVENT_*`).
    pub code: u32,
    /// To be quoted in the acknowledgement.
    pub context: u32,
    /// Whether the IOC waits for an acknowledgement.
    pub wants_acknowledge: bool,
}

/// What a SAS device page 0 says, the same for all generations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DevicePage {
    /// SAS address (WWN of the port); 0 where the firmware gives none.
    pub sas_address: u64,
    /// DevHandle.
    pub handle: u16,
    /// How commands reach it: the DevHandle again (MPI2), or bus and target id (MPI1).
    pub address: u16,
    /// DevHandle of the expander or controller it hangs on.
    pub parent_handle: u16,
    /// Enclosure handle.
    pub enclosure_handle: u16,
    /// Slot in the enclosure.
    pub slot: u16,
    /// Phy of the parent.
    pub phy: u8,
    /// Physical port of the controller.
    pub port: u8,
    /// `AccessStatus`: 0 is no error.
    pub access_status: u8,
    /// `DeviceInfo`: what kind of device (`MPI2_SAS_DEVICE_INFO_*`).
    pub device_info: u32,
}

impl DevicePage {
    /// Whether it takes SCSI commands: an end device with an SSP target, STP target or SATA port.
    #[must_use]
    pub const fn is_target(&self) -> bool {
        DeviceInfo::from_bits_retain(self.device_info).is_scsi_target()
    }

    /// Whether it is a SATA disk behind the firmware's translation.
    #[must_use]
    pub const fn is_sata(&self) -> bool {
        DeviceInfo::from_bits_retain(self.device_info).is_sata()
    }
}

/// News of a device in an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// A device answers under this handle: its page tells who it is.
    Added {
        /// DevHandle.
        handle: u16,
    },
    /// The device under this handle no longer answers.
    Gone {
        /// DevHandle.
        handle: u16,
    },
    /// Something changed that only a new scan tells.
    Rescan,
}
