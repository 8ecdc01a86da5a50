//! SAS IO unit control and the enclosure processor (mpi2_sas.h, mpi2_init.h).

use super::super::message::{Message, byte, le16};
use super::super::{Later, Model, events, ioc_status};
use crate::model::chip::Family;

/// `Operation` (`MPI2_SAS_OP_*`, `MPI26_CTRL_OP_*`).
const CLEAR_ALL_PERSISTENT: u8 = 0x02;
const PHY_LINK_RESET: u8 = 0x06;
const PHY_HARD_RESET: u8 = 0x07;
const PHY_CLEAR_ERROR_LOG: u8 = 0x08;
const SEND_PRIMITIVE: u8 = 0x0a;
const FORCE_FULL_DISCOVERY: u8 = 0x0b;
const REMOVE_DEVICE: u8 = 0x0d;
const SET_IOC_PARAMETER: u8 = 0x0f;
const ENABLE_FAST_PATH: u8 = 0x10;
const DISABLE_FAST_PATH: u8 = 0x11;
const ENABLE_FAST_PATH_ALL: u8 = 0x12;
const DISABLE_FAST_PATH_ALL: u8 = 0x13;
const ENABLE_NCQ: u8 = 0x14;
const DISABLE_NCQ: u8 = 0x15;
/// `IOCParameter`: the time of day (`MPI26_SET_IOC_PARAMETER_SYNC_TIMESTAMP`).
const PARAMETER_TIMESTAMP: u8 = 0x81;

impl Model {
    /// Answers a SAS IO unit control request, in 0x14 bytes.
    pub(super) fn unit_control(&mut self, frame: &[u8]) -> Message {
        let (operation, handle, phy) = (byte(frame, 0), le16(frame, 4), byte(frame, 0x0e));
        let message = Message::new(0x14, byte(frame, 3))
            .with8(0, operation)
            .with(4, frame.get(4..7).unwrap_or_default());
        let ieee = self.chip.ieee();
        let is_device = self.devices.by_handle(handle).is_ok();
        let known = match operation {
            REMOVE_DEVICE => self.devices.give_back(handle),
            PHY_LINK_RESET | PHY_HARD_RESET | PHY_CLEAR_ERROR_LOG | SEND_PRIMITIVE => {
                let is_phy = phy < self.chip.phys;
                if is_phy
                    && operation == PHY_HARD_RESET
                    && let Some(device) = self.devices.at_slot(phy)
                {
                    // A failed flush leaves the disk as it was; there is nobody to tell.
                    let _ = device.target.reset();
                }
                is_phy
            }
            CLEAR_ALL_PERSISTENT => true,
            FORCE_FULL_DISCOVERY => {
                self.tell_of_discovery();
                true
            }
            SET_IOC_PARAMETER => {
                byte(frame, 6) == PARAMETER_TIMESTAMP && self.chip.family == Family::Mpi26
            }
            ENABLE_FAST_PATH | DISABLE_FAST_PATH => ieee && is_device,
            ENABLE_FAST_PATH_ALL | DISABLE_FAST_PATH_ALL => ieee,
            ENABLE_NCQ | DISABLE_NCQ => is_device,
            _ => false,
        };
        if known { message } else { message.with16(0x0e, ioc_status::INVALID_FIELD) }
    }

    /// A discovery that finds nothing new.
    fn tell_of_discovery(&mut self) {
        for begun in [true, false] {
            let (code, data) = events::discovery(false, begun);
            self.later.push_back((self.now, Later::Event { code, data, acknowledge: false }));
        }
    }

    /// Answers a request for a slot's lamps, by enclosure and slot or by device, in 0x20 bytes. What
    /// was written is not kept: nobody sees the lamps.
    pub(super) fn enclosure_processor(&mut self, frame: &[u8]) -> Message {
        let by_slot = byte(frame, 5) & 1 != 0;
        let (handle, slot, enclosure) = (le16(frame, 0), le16(frame, 0x1c), le16(frame, 0x1e));
        let known = if by_slot {
            self.devices.enclosures().any(|one| one.handle == enclosure && slot < one.slots)
        } else {
            self.devices.by_handle(handle).is_ok()
        };
        Message::new(0x20, byte(frame, 3))
            .with(0, frame.get(..2).unwrap_or_default())
            .with(4, frame.get(4..6).unwrap_or_default())
            .with16(0x0e, if known { 0 } else { ioc_status::INVALID_FIELD })
            .with(0x1c, frame.get(0x1c..0x20).unwrap_or_default())
    }
}
