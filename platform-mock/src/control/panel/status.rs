//! What the controller is doing, for who asks.

use crate::model::{State, VolumeState};

use super::super::Controlled;
use super::super::message::{DiskStatus, IocState, Reply, Status, VolumeStatus};
use super::Panel;

impl<C: Controlled> Panel<C> {
    /// The complaints so far.
    pub(super) fn complaints(&self, clear: bool) -> Reply {
        let mut sources = self.sources();
        self.controlled.with_model(|model| {
            let complaints = model.complaints().to_vec();
            if clear {
                model.clear_complaints();
                sources.complaints = 0;
            }
            Reply::Complaints(complaints)
        })
    }

    /// What the controller is doing.
    pub(super) fn status(&self) -> Status {
        let sources = self.sources();
        self.controlled.with_model(|model| {
            let (state, code) = match model.state() {
                State::Reset => (IocState::Reset, None),
                State::Ready => (IocState::Ready, None),
                State::Operational => (IocState::Operational, None),
                State::Fault(code) => (IocState::Fault, Some(code)),
                State::CoreDump(code) => (IocState::CoreDump, Some(code)),
            };
            let (delay_ns, of_slots) = model.delays();
            let disks = model
                .devices()
                .map(|device| {
                    let (config, disk) = (device.target.config(), device.target.disk());
                    DiskStatus {
                        slot: device.slot,
                        handle: device.handle,
                        medium: sources.name(device.slot),
                        bytes: disk.bytes(),
                        block_bytes: config.block_size,
                        wwn: format!("{:016x}", config.wwn),
                        serial: config.serial.clone(),
                        sata: config.sata,
                        write_cache: disk.write_cache(),
                        dirty_bytes: disk.dirty_bytes(),
                        write_protected: disk.is_write_protected(),
                        delay_ns: of_slots.get(&device.slot).copied(),
                    }
                })
                .collect();
            let volumes = model
                .volumes()
                .map(|(device, state)| VolumeStatus {
                    handle: device.handle,
                    medium: sources.volume_name(device.handle),
                    bytes: device.target.disk().bytes(),
                    state: match state {
                        VolumeState::Optimal => "optimal",
                        VolumeState::Degraded => "degraded",
                        VolumeState::Failed => "failed",
                    }
                    .into(),
                })
                .collect();
            Status {
                chip: model.chip().name.into(),
                state,
                code,
                yanked: model.is_yanked(),
                stopped: model.is_stopped(),
                holding: model.holds_commands(),
                delay_ns,
                commands: model.commands(),
                waiting: model.held(),
                unacknowledged: model.unacknowledged(),
                complaints: model.complaints().len(),
                slots: model.slots(),
                disks,
                volumes,
            }
        })
    }
}
