//! A controller that stops, hangs, goes away or loses its power.

use std::{fmt, io};

use super::super::devices::Device;
use super::super::{Model, Transport};

/// A core dump was asked of a chip that knows no such state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoCoreDump {
    chip: &'static str,
}

impl fmt::Display for NoCoreDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} knows no core dump, which is MPI 2's; stop it with a fault", self.chip)
    }
}

impl std::error::Error for NoCoreDump {}

impl Model {
    /// Stops the IOC with a fault.
    pub fn fault(&mut self, code: u16) {
        self.front.fault(code);
    }

    /// Stops the IOC with a code in the state COREDUMP (mpi2.h, `MPI2_IOC_STATE_COREDUMP`), in
    /// which it writes down why; `ns` nanoseconds later it is in FAULT. Only a diagnostic reset
    /// ends either.
    ///
    /// # Errors
    ///
    /// [`NoCoreDump`] for an MPI1 chip.
    pub fn core_dump(&mut self, code: u16, ns: u64) -> Result<(), NoCoreDump> {
        if self.chip.is_mpi1() {
            return Err(NoCoreDump { chip: self.chip.name });
        }
        self.front.core_dump(code, ns);
        Ok(())
    }

    /// Stops or resumes the firmware: registers answer, nothing else happens.
    pub fn stop_answering(&mut self, stopped: bool) {
        self.knobs.stopped = stopped;
    }

    /// Whether the firmware is stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.knobs.stopped
    }

    /// Yanks the card, or puts it back: every register reads as all ones.
    pub fn all_ones(&mut self, gone: bool) {
        self.knobs.all_ones = gone;
    }

    /// Whether the card is yanked.
    #[must_use]
    pub fn is_yanked(&self) -> bool {
        self.knobs.all_ones
    }

    /// Keeps the IOC in RESET for ever.
    pub fn never_ready(&mut self) {
        self.front.never_ready();
    }

    /// Cuts the power of the controller and of all its disks and volumes, and turns it on again. What the disks
    /// had in volatile write caches is lost ([`Disk::power_cut`](crate::disk::Disk::power_cut)),
    /// but for the blocks that `survivor`, told slot and byte offset, says a drive had written by
    /// itself. Commands are gone without a reply, the firmware boots to READY, hung or not, and
    /// every disk meets its initiator with POWER ON (29/00). A yanked card stays yanked, and all
    /// other knobs stay as they are.
    ///
    /// # Errors
    ///
    /// The slot of a disk whose file did not take the old bytes back, and why; the others have lost
    /// theirs, and cutting again tries that one again.
    pub fn power_cut(
        &mut self,
        survivor: &mut dyn FnMut(u8, u64) -> bool,
    ) -> Result<(), (u8, io::Error)> {
        let mut failed = None;
        let mut cut = |device: &mut Device| {
            let slot = device.slot;
            if let Err(error) = device.target.power_cut(&mut |offset| survivor(slot, offset)) {
                failed.get_or_insert((slot, error));
            }
        };
        self.devices.iter_mut().for_each(&mut cut);
        self.devices.volumes_mut().iter_mut().for_each(|volume| cut(&mut volume.device));
        self.drop_queues();
        let chip = self.chip;
        self.transport = Transport::of(&chip);
        self.front.power_on(chip.is_mpi1());
        self.settings.reset();
        self.turn_phys();
        self.max_devices = self.most_devices();
        self.knobs.raw.clear();
        self.knobs.stopped = false;
        failed.map_or(Ok(()), Err)
    }

    /// Has every disk put its write cache on the medium.
    ///
    /// # Errors
    ///
    /// The slots of the disks that could not, and why.
    pub fn flush_disks(&mut self) -> Result<(), Vec<(u8, io::Error)>> {
        let mut failed = Vec::new();
        let mut flush = |device: &mut Device| {
            if let Err(error) = device.target.disk_mut().flush() {
                failed.push((device.slot, error));
            }
        };
        self.devices.iter_mut().for_each(&mut flush);
        self.devices.volumes_mut().iter_mut().for_each(|volume| flush(&mut volume.device));
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }
}
