//! Events: codes, and the data that follows the head of an event notification reply
//! (mpi_ioc.h, mpi2_ioc.h).
//!
//! Lists in event data carry their own count; [`mpi2::SasTopology`] believes it only as
//! far as the bytes at hand reach.

pub mod mpi1;
pub mod mpi2;

use super::{U16, U32, layout, valid_part};
use crate::codes::codes;

codes! {
    /// Event of an event notification reply, both generations (32 bits on MPI 1.x).
    pub struct EventCode(u16) {
        NONE = 0x00, "none";
        LOG_DATA = 0x01, "log data";
        STATE_CHANGE = 0x02, "IOC state change";
        UNIT_ATTENTION = 0x03, "unit attention (MPI 1.x)";
        IOC_BUS_RESET = 0x04, "bus reset by the IOC (MPI 1.x)";
        HARD_RESET_RECEIVED = 0x05, "reset received from outside";
        RESCAN = 0x06, "rescan (MPI 1.x)";
        LINK_STATUS_CHANGE = 0x07, "link status change (MPI 1.x)";
        LOOP_STATE_CHANGE = 0x08, "loop state change (MPI 1.x)";
        LOGOUT = 0x09, "logout (MPI 1.x)";
        EVENT_CHANGE = 0x0a, "event notification changed";
        INTEGRATED_RAID = 0x0b, "integrated RAID (MPI 1.x)";
        SCSI_DEVICE_STATUS_CHANGE = 0x0c, "SCSI device status change (MPI 1.x)";
        ON_BUS_TIMER_EXPIRED = 0x0d, "on-bus timer expired (MPI 1.x)";
        QUEUE_FULL = 0x0e, "queue full";
        SAS_DEVICE_STATUS_CHANGE = 0x0f, "SAS device status change";
        SAS_SES = 0x10, "SAS SES (MPI 1.x)";
        PERSISTENT_TABLE_FULL = 0x11, "persistent table full (MPI 1.x)";
        SAS_PHY_LINK_STATUS = 0x12, "SAS phy link status (MPI 1.x)";
        SAS_DISCOVERY_ERROR = 0x13, "SAS discovery error (MPI 1.x)";
        IR_OPERATION_STATUS = 0x14, "RAID operation status";
        IR2 = 0x15, "integrated RAID 2 (MPI 1.x)";
        SAS_DISCOVERY = 0x16, "SAS discovery";
        SAS_BROADCAST_PRIMITIVE = 0x17, "SAS broadcast primitive";
        SAS_INIT_DEVICE_STATUS_CHANGE = 0x18, "SAS initiator status change";
        SAS_INIT_TABLE_OVERFLOW = 0x19, "SAS initiator table overflow";
        SAS_SMP_ERROR = 0x1a, "SAS SMP error (MPI 1.x)";
        SAS_EXPANDER_STATUS_CHANGE = 0x1b, "SAS expander status change (MPI 1.x)";
        SAS_TOPOLOGY_CHANGE_LIST = 0x1c, "SAS topology change list";
        ENCLOSURE_DEVICE_STATUS_CHANGE = 0x1d, "enclosure status change";
        IR_VOLUME = 0x1e, "RAID volume";
        IR_PHYSICAL_DISK = 0x1f, "RAID physical disk";
        IR_CONFIGURATION_CHANGE_LIST = 0x20, "RAID configuration change list";
        LOG_ENTRY_ADDED = 0x21, "log entry added";
        SAS_PHY_COUNTER = 0x22, "SAS phy counter";
        GPIO_INTERRUPT = 0x23, "GPIO interrupt";
        HOST_BASED_DISCOVERY_PHY = 0x24, "host based discovery";
        SAS_QUIESCE = 0x25, "SAS quiesce";
        SAS_NOTIFY_PRIMITIVE = 0x26, "SAS notify primitive";
        TEMPERATURE_THRESHOLD = 0x27, "temperature threshold";
        HOST_MESSAGE = 0x28, "host message";
        POWER_PERFORMANCE_CHANGE = 0x29, "power performance change";
        PCIE_DEVICE_STATUS_CHANGE = 0x30, "PCIe device status change";
        PCIE_ENUMERATION = 0x31, "PCIe enumeration";
        PCIE_TOPOLOGY_CHANGE_LIST = 0x32, "PCIe topology change list";
        PCIE_LINK_COUNTER = 0x33, "PCIe link counter";
        ACTIVE_CABLE_EXCEPTION = 0x34, "active cable exception";
        SAS_DEVICE_DISCOVERY_ERROR = 0x35, "SAS device discovery error";
    }
}

impl From<U16> for EventCode {
    fn from(field: U16) -> Self {
        Self(field.get())
    }
}

impl From<U32> for EventCode {
    /// MPI 1.x's 32-bit field. What does not fit becomes 0xFFFF, which names no event.
    fn from(field: U32) -> Self {
        Self(u16::try_from(field.get()).unwrap_or(u16::MAX))
    }
}

/// Bytes of the head of an event notification reply; the data starts here (0x1C).
pub const EVENT_DATA_OFFSET: usize = 0x1c;

/// The event data of an event notification reply: EventDataLength dwords from 0x1C on, as far as
/// MsgLength and the frame reach.
#[must_use]
pub fn event_data(frame: &[u8]) -> &[u8] {
    let data = valid_part(frame).get(EVENT_DATA_OFFSET..).unwrap_or(&[]);
    let length = match frame {
        [low, high, ..] => usize::from(u16::from_le_bytes([*low, *high])) * 4,
        _ => 0,
    };
    data.get(..length).unwrap_or(data)
}

layout! {
    /// Data of [`EventCode::EVENT_CHANGE`]: the first reply to an event notification request.
    pub struct EventChange: 0x04 {
        0x00 event_state: u8 = "1: event notification is on",
        0x01 reserved_01: [u8; 3] = "reserved",
    }
}

codes! {
    /// ReasonCode of a SAS device status change, both generations.
    pub struct DeviceStatusReason(u8) {
        ADDED = 0x03, "device added (MPI 1.x)";
        NOT_RESPONDING = 0x04, "device not responding (MPI 1.x)";
        SMART_DATA = 0x05, "failure predicted";
        NO_PERSIST_ADDED = 0x06, "device added without persistent mapping (MPI 1.x)";
        UNSUPPORTED = 0x07, "device unsupported";
        INTERNAL_DEVICE_RESET = 0x08, "reset by the IOC begun";
        TASK_ABORT_INTERNAL = 0x09, "task abort by the IOC begun";
        ABORT_TASK_SET_INTERNAL = 0x0a, "abort task set by the IOC begun";
        CLEAR_TASK_SET_INTERNAL = 0x0b, "clear task set by the IOC begun";
        QUERY_TASK_INTERNAL = 0x0c, "query task by the IOC begun";
        ASYNC_NOTIFICATION = 0x0d, "asynchronous notification";
        COMPLETE_INTERNAL_DEVICE_RESET = 0x0e, "reset by the IOC complete";
        COMPLETE_TASK_ABORT_INTERNAL = 0x0f, "task abort by the IOC complete";
        SATA_INIT_FAILURE = 0x10, "SATA initialisation failed";
        EXPANDER_REDUCED_FUNCTIONALITY = 0x11, "expander reduced begun";
        COMPLETE_EXPANDER_REDUCED_FUNCTIONALITY = 0x12, "expander reduced complete";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_event_of_qemu_is_an_event_change() {
        // EventDataLength 1, MsgLength 8, data 1: controllers.md 3a, seen live.
        let mut frame = [0xee_u8; 128];
        frame[..32].fill(0);
        frame[0] = 1;
        frame[2] = 8;
        frame[0x14] = 0x0a;
        frame[0x1c] = 1;
        let head: super::super::ioc::mpi1::EventNotificationReply =
            super::super::read_reply(&frame);
        assert_eq!(EventCode::from(head.event), EventCode::EVENT_CHANGE);
        assert_eq!(event_data(&frame), &[1, 0, 0, 0]);
        let change: EventChange = super::super::read_padded(event_data(&frame));
        assert_eq!(change.event_state, 1);
    }

    #[test]
    fn a_wide_event_code_is_not_mistaken_for_a_known_one() {
        assert_eq!(EventCode::from(U32::new(0x0001_000a)).name(), "unknown");
    }

    proptest! {
        #[test]
        fn event_data_never_leaves_the_frame(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
            let data = event_data(&frame);
            prop_assert!(data.len() <= frame.len().saturating_sub(EVENT_DATA_OFFSET));
            let _ = mpi2::SasTopology::parse(data).map(|list| list.entries().count());
        }
    }
}
