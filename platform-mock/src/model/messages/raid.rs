//! RAID actions (mpi2_raid.h). Volumes are made and unmade from outside, not by the host.

use super::super::message::{Message, byte, le16, le32};
use super::super::{Model, ioc_status};
use crate::model::devices::MemberState;

const INDICATOR: u8 = 0x01;
const DISABLE_ALL_VOLUMES: u8 = 0x04;
const ENABLE_ALL_VOLUMES: u8 = 0x05;
const DISK_OFFLINE: u8 = 0x0a;
const DISK_ONLINE: u8 = 0x0b;
const FAIL_DISK: u8 = 0x0f;
const CHANGE_WRITE_CACHE: u8 = 0x17;
const SYSTEM_SHUTDOWN_INITIATED: u8 = 0x20;
const DISK_HIDDEN: u8 = 0x24;

impl Model {
    /// Answers a RAID action, in 0x2c bytes.
    pub(super) fn raid_action(&mut self, frame: &[u8]) -> Message {
        let action = byte(frame, 0);
        let message = Message::new(0x2c, byte(frame, 3))
            .with8(0, action)
            .with(4, frame.get(4..7).unwrap_or_default());
        let handle = le16(frame, 4);
        let state = match action {
            DISK_OFFLINE | FAIL_DISK => MemberState::Failed,
            _ => MemberState::Optimal,
        };
        let slot = self
            .devices
            .members()
            .find(|(_, member)| member.number == byte(frame, 6))
            .map(|(_, member)| member.slot);
        let known = match action {
            SYSTEM_SHUTDOWN_INITIATED => {
                for volume in self.devices.volumes_mut() {
                    // A failed flush leaves the data as it was; there is nobody to tell.
                    let _ = volume.device.target.disk_mut().flush();
                }
                true
            }
            DISABLE_ALL_VOLUMES | ENABLE_ALL_VOLUMES => true,
            DISK_HIDDEN => slot.is_some(),
            DISK_OFFLINE | DISK_ONLINE | FAIL_DISK => {
                slot.is_some_and(|slot| self.set_member_state(slot, state).is_some())
            }
            INDICATOR => self.devices.volumes().iter().any(|volume| volume.device.handle == handle),
            CHANGE_WRITE_CACHE => {
                let settings = (le32(frame, 0x10) & 0x3) as u16;
                let volume =
                    self.devices.volumes_mut().iter_mut().find(|one| one.device.handle == handle);
                match volume {
                    Some(volume) if settings != 3 => {
                        let disk = volume.device.target.disk_mut();
                        // 0 changes nothing, 1 is off, 2 on.
                        settings == 0 || disk.set_write_cache(settings == 2).is_ok()
                    }
                    _ => false,
                }
            }
            _ => false,
        };
        if known { message } else { message.with16(0x0e, ioc_status::INVALID_FIELD) }
    }
}
