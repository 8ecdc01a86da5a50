//! What control requests end at: the controller and the files of its disks.

mod status;
mod turns;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{Model, RaidLevel};
use crate::target::Target;

use super::Controlled;
use super::disk_spec::{DiskSpec, Source};
use super::message::{Level, Reply, Request};

/// The knobs of one controller, with the files that its disks are on.
#[derive(Debug)]
pub struct Panel<C> {
    controlled: C,
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    by_slot: BTreeMap<u8, Source>,
    /// Of RAID volumes, by DevHandle.
    by_handle: BTreeMap<u16, Source>,
    /// Disks that were plugged in so far.
    count: u64,
    /// Complaints that were passed on.
    complaints: usize,
}

/// `Err` is a refusal.
type Answer = Result<String, String>;

impl<C: Controlled> Panel<C> {
    /// The knobs of a controller.
    #[must_use]
    pub fn new(controlled: C) -> Self {
        Self { controlled, sources: Mutex::default() }
    }

    /// The controller.
    #[must_use]
    pub fn controlled(&self) -> &C {
        &self.controlled
    }

    /// Plugs a disk in, and returns its slot.
    ///
    /// # Errors
    ///
    /// A sentence: no such slot or a disk in it, no free one, and whatever is wrong with the file.
    pub fn add_disk(&self, disk: &DiskSpec) -> Result<u8, String> {
        let mut sources = self.sources();
        let slot = self.slot_for(&sources, disk.slot)?;
        let (target, source) = self.open(&mut sources, disk, None)?;
        let added = self.controlled.with_model(|model| model.add_disk(slot, target).is_ok());
        if !added {
            return Err(format!("slot {slot} does not take the disk; choose another"));
        }
        sources.by_slot.insert(slot, source);
        Ok(slot)
    }

    /// Does what a client asks.
    pub fn apply(&self, request: &Request) -> Reply {
        let answer = match request {
            Request::Status {} => return Reply::Status(Box::new(self.status())),
            Request::Complaints { clear } => return self.complaints(*clear),
            Request::AddDisk { disk } => {
                self.add_disk(disk).map(|slot| format!("the disk is in slot {slot}"))
            }
            Request::RemoveDisk { slot } => self.remove(*slot),
            Request::SwapDisk { slot, disk } => self.swap(*slot, disk),
            Request::CreateVolume { level, slots, disk } => self.create_volume(*level, slots, disk),
            Request::DeleteVolume { handle } => self.delete_volume(*handle),
            Request::GrowDisk { slot, bytes } => self.grow(*slot, *bytes),
            Request::Flush {} => self.flush().map(|()| "all write caches are flushed".into()),
            Request::PowerCut { keep_percent, seed } => self.power_cut(*keep_percent, *seed),
            others => self.controlled.with_model(|model| turns::turn(model, others)),
        };
        answer.map_or_else(Reply::Refused, Reply::Done)
    }

    /// Has every disk put its write cache on its medium.
    ///
    /// # Errors
    ///
    /// Which disks could not, and why, in a sentence.
    pub fn flush(&self) -> Result<(), String> {
        let sources = self.sources();
        self.controlled.with_model(Model::flush_disks).map_err(|failed| {
            let disks: Vec<_> = failed
                .iter()
                .map(|(slot, error)| format!("{} in slot {slot}: {error}", sources.name(*slot)))
                .collect();
            format!(
                "cannot flush {}; what was written last may not be on the medium",
                disks.join(", ")
            )
        })
    }

    /// What has happened since this was last asked that the user should know: complaints of the
    /// model, and files that were deleted, replaced or cut behind their disks' backs.
    pub fn news(&self) -> Vec<String> {
        let mut sources = self.sources();
        let seen = sources.complaints;
        let (mut news, total, bytes) = self.controlled.with_model(|model| {
            let all = model.complaints();
            let new = all.get(seen..).unwrap_or(all).to_vec();
            let bytes: Vec<_> =
                model.devices().map(|d| (d.slot, d.target.disk().bytes())).collect();
            (new, all.len(), bytes)
        });
        sources.complaints = total;
        for (slot, bytes) in bytes {
            news.extend(sources.by_slot.get_mut(&slot).and_then(|source| source.news(bytes)));
        }
        news
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot_for(&self, sources: &Sources, wanted: Option<u8>) -> Result<u8, String> {
        let (chip, slots, taken) = self.controlled.with_model(|model| {
            let taken: Vec<u8> = model.devices().map(|device| device.slot).collect();
            (model.chip().name, model.slots(), taken)
        });
        match wanted {
            Some(slot) if !slots.contains(&slot) => Err(format!(
                "there is no slot {slot}: this {chip} has {}; choose one of these",
                ranges(&slots)
            )),
            Some(slot) if taken.contains(&slot) => Err(format!(
                "slot {slot} is taken by {}; remove that first, swap it, or choose another slot",
                sources.name(slot)
            )),
            Some(slot) => Ok(slot),
            None => {
                let free = slots.iter().find(|slot| !taken.contains(slot));
                free.copied().ok_or_else(|| {
                    format!(
                        "all {} slots of this {chip} are taken; leave a disk out, or remove one",
                        slots.len()
                    )
                })
            }
        }
    }

    /// Opens a disk, unless it, or one of its name, is plugged in already; `instead` is the slot
    /// that it will take.
    fn open(
        &self,
        sources: &mut Sources,
        disk: &DiskSpec,
        instead: Option<u8>,
    ) -> Result<(Target, Source), String> {
        if let Some((slot, source)) = sources.by_slot.iter().find(|(_, source)| source.is(disk)) {
            let hint = if instead == Some(*slot) {
                "name another"
            } else {
                "leave it out, or take a copy"
            };
            return Err(format!("the disk {} is in slot {slot} already; {hint}", source.name()));
        }
        if let Some((handle, source)) = sources.by_handle.iter().find(|(_, source)| source.is(disk))
        {
            let name = source.name();
            return Err(format!("the disk {name} is volume {handle:#06x}'s already; take a copy"));
        }
        // Before a file is made, if the name is known.
        if let Some(wwn) = disk.wwn {
            self.check_name(sources, wwn, instead)?;
        }
        sources.count += 1;
        let (target, source) = disk.open(sources.count)?;
        self.check_name(sources, target.config().wwn, instead)?;
        Ok((target, source))
    }

    /// That no other disk has this world wide name: a driver would take both for one disk with
    /// two paths, and its system would mix up their data.
    fn check_name(&self, sources: &Sources, wwn: u64, instead: Option<u8>) -> Result<(), String> {
        let bearer = self.controlled.with_model(|model| {
            let disks = model
                .devices()
                .filter(|disk| Some(disk.slot) != instead)
                .map(|disk| (disk, format!("{} in slot {}", sources.name(disk.slot), disk.slot)));
            let volumes = model.volumes().map(|(disk, _)| {
                let name = sources.volume_name(disk.handle);
                (disk, format!("{name} of volume {:#06x}", disk.handle))
            });
            let mut all = disks.chain(volumes);
            all.find(|(disk, _)| disk.target.config().wwn == wwn).map(|(_, name)| name)
        });
        bearer.map_or(Ok(()), |bearer| {
            Err(format!(
                "two disks cannot have the world wide name {wwn:016x}, which the disk {bearer} has already; give this one another with wwn=, or leave wwn= out"
            ))
        })
    }

    fn remove(&self, slot: u8) -> Answer {
        let mut sources = self.sources();
        let removed = self.controlled.with_model(|model| model.remove_disk(slot));
        let target = removed.ok_or_else(|| no_disk(slot))?;
        let name = sources.name(slot);
        sources.by_slot.remove(&slot);
        let lost = lose_power(target).map_err(|error| {
            format!("the disk {name} was removed from slot {slot}, and its file did not take back what its cache lost: {error}; take the file for damaged")
        })?;
        Ok(format!("the disk {name} was removed from slot {slot}{}", unflushed(lost)))
    }

    fn swap(&self, slot: u8, disk: &DiskSpec) -> Answer {
        let mut sources = self.sources();
        if disk.slot.is_some_and(|other| other != slot) {
            return Err(format!(
                "the new disk is for another slot than {slot}; leave its slot out, or add it there"
            ));
        }
        if self.controlled.with_model(|model| model.device(slot).is_none()) {
            return Err(no_disk(slot));
        }
        let (target, source) = self.open(&mut sources, disk, Some(slot))?;
        let old = self.controlled.with_model(|model| model.swap_disk(slot, target));
        let lost = old.map(lose_power).transpose();
        sources.by_slot.insert(slot, source);
        let name = sources.name(slot);
        match lost {
            Ok(lost) => {
                Ok(format!("the disk in slot {slot} is now {name}{}", unflushed(lost.unwrap_or(0))))
            }
            Err(error) => Err(format!(
                "the disk in slot {slot} is now {name}, but the old one's file did not take back what its cache lost: {error}; take that file for damaged"
            )),
        }
    }

    fn create_volume(&self, level: Level, slots: &[u8], disk: &DiskSpec) -> Answer {
        let mut sources = self.sources();
        let (target, source) = self.open(&mut sources, disk, None)?;
        let level = match level {
            Level::Raid0 => RaidLevel::Raid0,
            Level::Raid1 => RaidLevel::Raid1,
            Level::Raid1e => RaidLevel::Raid1E,
            Level::Raid10 => RaidLevel::Raid10,
        };
        let handle = self
            .controlled
            .with_model(|model| model.create_volume(level, slots, target))
            .map_err(|error| error.to_string())?;
        sources.by_handle.insert(handle, source);
        Ok(format!("the volume has the handle {handle:#06x}"))
    }

    fn delete_volume(&self, handle: u16) -> Answer {
        let mut sources = self.sources();
        let target =
            self.controlled.with_model(|model| model.delete_volume(handle)).ok_or_else(|| {
                format!("there is no volume {handle:#06x}; the knob status lists them")
            })?;
        sources.by_handle.remove(&handle);
        let mut target = target;
        target.disk_mut().flush().map_err(|error| {
            format!("the volume {handle:#06x} is unmade, but its file cannot be flushed: {error}")
        })?;
        Ok(format!("the volume {handle:#06x} is unmade"))
    }

    fn grow(&self, slot: u8, bytes: u64) -> Answer {
        match self.controlled.with_model(|model| model.grow_disk(slot, bytes)) {
            None => Err(no_disk(slot)),
            Some(Ok(())) => Ok(format!("the disk in slot {slot} has {bytes} bytes")),
            Some(Err(error)) => Err(format!("the disk in slot {slot} was not enlarged: {error}")),
        }
    }

    fn power_cut(&self, keep_percent: u8, seed: u64) -> Answer {
        if keep_percent > 100 {
            return Err(format!("{keep_percent} per cent cannot be kept; say 0 to 100"));
        }
        let sources = self.sources();
        let (cut, kept, dirty) = self.controlled.with_model(|model| {
            let dirty: u64 = model.devices().map(|d| d.target.disk().dirty_bytes()).sum();
            let mut state = seed;
            let mut kept = 0u64;
            let cut = model.power_cut(&mut |_, _| {
                let keep = random(&mut state) % 100 < keep_percent.into();
                kept += u64::from(keep);
                keep
            });
            (cut, kept, dirty)
        });
        match cut {
            Ok(()) => Ok(format!(
                "the power was cut and is back: {dirty} bytes had not been flushed, and {kept} blocks of them stayed"
            )),
            Err((slot, error)) => Err(format!(
                "the power was cut, but the disk {} in slot {slot} did not take back what its cache lost: {error}; see to its file and cut again",
                sources.name(slot)
            )),
        }
    }
}

impl Sources {
    /// What to call the disk in a slot.
    fn name(&self, slot: u8) -> String {
        self.by_slot.get(&slot).map_or_else(|| "memory".into(), Source::name)
    }

    /// What to call the disk of a volume.
    fn volume_name(&self, handle: u16) -> String {
        self.by_handle.get(&handle).map_or_else(|| "memory".into(), Source::name)
    }
}

/// Takes the power from a disk that was pulled out; how many bytes of its cache that lost.
fn lose_power(mut target: Target) -> io::Result<u64> {
    let lost = target.disk().dirty_bytes();
    target.power_cut(&mut |_| false)?;
    Ok(lost)
}

fn unflushed(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        bytes => format!("; {bytes} unflushed bytes were lost with its power"),
    }
}

/// Slots in few words: `0 to 3, 8 to 31`.
fn ranges(slots: &[u8]) -> String {
    let runs = slots.chunk_by(|slot, next| u16::from(*slot) + 1 == u16::from(*next));
    let texts: Vec<String> = runs
        .map(|run| match run {
            [first, .., last] => format!("{first} to {last}"),
            run => run.iter().map(u8::to_string).collect(),
        })
        .collect();
    texts.join(", ")
}

fn no_disk(slot: u8) -> String {
    format!("there is no disk in slot {slot}; the knob status lists those that there are")
}

/// A pseudo-random number (splitmix64).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_told_in_few_words() {
        assert_eq!(ranges(&[0, 1, 2, 3, 8, 10, 11, 255]), "0 to 3, 8, 10 to 11, 255");
        assert_eq!(ranges(&[]), "");
    }
}
