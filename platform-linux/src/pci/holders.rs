//! Who holds the disks behind a controller.
//!
//! A disk is followed upwards through its partitions and everything that the kernel stacked on them
//! (`holders/` in sysfs: device mapper, MD, bcache; loop devices by their backing file) to what
//! uses the top: mounts, swap, pools, processes. Where nothing of that is found, the kernel is
//! asked whether anybody at all has claimed the disk.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use serde::Serialize;

use super::controller::Controller;
use super::disks;
use super::processes::Process;
use super::system::{System, names, text};
use super::usage::Usage;

/// Layers above a disk that are followed; more than anybody has, and an end for a loop.
const LAYERS: usize = 16;

/// Somebody who holds a disk.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Holder {
    /// The disk behind the controller: `sda`, or another node such as `sg0`.
    pub disk: String,
    /// From the disk to what is used, each in words: `sda1`, `MD array md0`, `LVM volume vg/data`.
    pub layers: Vec<String>,
    /// What uses the last of the layers.
    pub by: By,
}

/// What uses a block device.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// File systems are mounted at these points.
    Mounted(Vec<String>),
    /// It is swap.
    Swap,
    /// It is part of a file system of several devices, or of a ZFS pool.
    Pool(String),
    /// A volume or array is active on it, and unused itself.
    Active,
    /// Processes have it open.
    Open(Vec<Process>),
    /// The kernel says that it is claimed, but not by whom.
    Claimed,
}

impl Holder {
    /// Whether only processes hold it, which can be asked to let go.
    #[must_use]
    pub const fn is_process(&self) -> bool {
        matches!(self.by, By::Open(_))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut layers = self.layers.iter();
        f.write_str(layers.next().unwrap_or(&self.disk))?;
        let mut layered = false;
        for layer in layers {
            write!(f, "{} {layer}", if layered { " below" } else { " is part of" })?;
            layered = true;
        }
        let which = if layered { ", which is" } else { " is" };
        match &self.by {
            By::Mounted(points) => write!(f, "{which} mounted on {}", list(points)),
            By::Swap => write!(f, "{which} swap"),
            By::Pool(pool) => write!(f, "{which} part of {pool}"),
            By::Active if layered => write!(f, ", which is active"),
            By::Active => write!(f, " is active"),
            By::Open(processes) => write!(f, "{which} opened by {}", list(processes)),
            By::Claimed => write!(
                f,
                "{which} claimed by the kernel for somebody it does not name (ZFS, a target, ...)"
            ),
        }
    }
}

/// A few by name, the others by number.
fn list<T: fmt::Display>(things: &[T]) -> String {
    const NAMED: usize = 4;
    let named: Vec<String> = things.iter().take(NAMED).map(T::to_string).collect();
    match things.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// All holders of a controller.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Holders {
    /// Those that are known.
    #[serde(rename = "holders")]
    pub known: Vec<Holder>,
    /// Why there may be more, as a sentence; `None` when there are no more.
    #[serde(rename = "holders_unknown")]
    pub unknown: Option<String>,
}

impl Holders {
    /// The known ones as one text.
    #[must_use]
    pub fn text(&self) -> String {
        let known: Vec<String> = self.known.iter().map(Holder::to_string).collect();
        known.join("; ")
    }
}

impl System {
    /// Who holds the disks behind `controller`.
    #[must_use]
    pub fn holders(&self, controller: &Controller) -> Holders {
        holders(self, &Usage::read(self), controller)
    }
}

impl System {
    /// Who uses the block device of this name (`ublkb0`), whatever is behind it.
    pub(crate) fn users_of(&self, name: &str) -> Vec<Holder> {
        let usage = Usage::read(self);
        let mut found = Vec::new();
        let mut search = Search { system: self, usage: &usage, disk: name, found: &mut found };
        search.device(name, &mut vec![name.to_owned()]);
        found
    }
}

/// The same with a picture that was taken before.
pub(crate) fn holders(system: &System, usage: &Usage, controller: &Controller) -> Holders {
    let mut found = Holders::default();
    let mut unclaimable = Vec::new();
    for disk in &controller.disks {
        let before = found.known.len();
        let mut search = Search { system, usage, disk: &disk.name, found: &mut found.known };
        search.device(&disk.name, &mut vec![disk.name.clone()]);
        if found.known.len() == before {
            match system.kernel().claimed(&system.node(&disk.name)) {
                Ok(false) => {}
                Ok(true) => found.known.push(Holder {
                    disk: disk.name.clone(),
                    layers: vec![disk.name.clone()],
                    by: By::Claimed,
                }),
                Err(error) => unclaimable.push((disk.name.as_str(), error)),
            }
        }
    }
    for node in disks::other_nodes(system, &system.device(controller.address)) {
        let users = usage.open.of(&node);
        if !users.is_empty() {
            let by = By::Open(users.to_vec());
            found.known.push(Holder { disk: node.clone(), layers: vec![node], by });
        }
    }
    found.unknown = unknown(usage, controller, &unclaimable);
    found
}

/// Why there may be holders that are not known, if there may.
fn unknown(
    usage: &Usage,
    controller: &Controller,
    unclaimable: &[(&str, io::Error)],
) -> Option<String> {
    let denied = |error: &io::Error| error.kind() == ErrorKind::PermissionDenied;
    let mut why = Vec::new();
    let hidden = usage.open.hidden && !(controller.hosts.is_empty() && controller.disks.is_empty());
    if hidden || unclaimable.iter().any(|(_, error)| denied(error)) {
        why.push(
            "a normal user cannot see what others have open or claimed; run as root to know".into(),
        );
    }
    for (disk, error) in unclaimable.iter().filter(|(_, error)| !denied(error)) {
        why.push(format!("whether {disk} is claimed cannot be known: {error}"));
    }
    (!why.is_empty()).then(|| why.join("; "))
}

/// The way upwards from one disk.
struct Search<'s> {
    system: &'s System,
    usage: &'s Usage,
    disk: &'s str,
    found: &'s mut Vec<Holder>,
}

impl Search<'_> {
    /// Looks at a block device and at everything above it; `layers` ends with it.
    fn device(&mut self, name: &str, layers: &mut Vec<String>) {
        if layers.len() > LAYERS {
            return;
        }
        // Partitions are in /sys/class/block only, beside the whole devices.
        let folder = self.system.path("sys/class/block").join(name);
        let number = text(&folder.join("dev")).unwrap_or_default();
        let paths = self.paths(name);

        let points = self.usage.mount_points(&number, &paths);
        if !points.is_empty() {
            self.add(layers, By::Mounted(points));
        } else if let Some(pool) = self.usage.pool_of(name) {
            self.add(layers, By::Pool(pool.clone()));
        } else if let Some(pool) = self.zfs_pool(&number) {
            self.add(layers, By::Pool(pool));
        }
        if self.usage.is_swap(&paths) {
            self.add(layers, By::Swap);
        }
        let users = self.usage.open.of(name);
        if !users.is_empty() {
            self.add(layers, By::Open(users.to_vec()));
        }
        let mut above = names(&folder.join("holders"));
        above.extend(self.usage.loops_on(&paths).cloned());
        if above.is_empty() && folder.join("bcache").exists() {
            self.add(layers, By::Pool("bcache".into()));
        }
        for holder in above {
            let before = self.found.len();
            layers.push(self.in_words(&holder));
            self.device(&holder, layers);
            if self.found.len() == before {
                self.add(layers, By::Active);
            }
            layers.pop();
        }
        for partition in names(&folder) {
            if folder.join(&partition).join("partition").exists() {
                // A partition of the disk stands for the disk; one of a layer is a layer.
                let last = layers.last_mut().map(|last| std::mem::replace(last, partition.clone()));
                self.device(&partition, layers);
                if let (Some(slot), Some(last)) = (layers.last_mut(), last) {
                    *slot = last;
                }
            }
        }
    }

    fn add(&mut self, layers: &[String], by: By) {
        let holder = Holder { disk: self.disk.to_owned(), layers: layers.to_vec(), by };
        self.found.push(holder);
    }

    /// The paths by which mounts, swap and loop devices may call a block device.
    fn paths(&self, name: &str) -> Vec<String> {
        // In names, sysfs has an exclamation mark for a slash (cciss!c0d0).
        let mut paths = vec![format!("/dev/{}", name.replace('!', "/"))];
        if let Some(mapped) = self.system.text(format!("sys/class/block/{name}/dm/name")) {
            paths.push(format!("/dev/mapper/{mapped}"));
        }
        paths
    }

    /// A block device that the kernel stacked on another, in its users' words.
    fn in_words(&self, name: &str) -> String {
        let attribute = |file: &str| self.system.text(format!("sys/class/block/{name}/{file}"));
        if let Some(mapped) = attribute("dm/name") {
            let uuid = attribute("dm/uuid").unwrap_or_default();
            return match uuid.split('-').next().unwrap_or_default() {
                "LVM" => format!("LVM volume {}", logical_volume(&mapped)),
                "CRYPT" => format!("encrypted volume {mapped}"),
                "mpath" => format!("multipath map {mapped}"),
                _ => format!("device-mapper volume {mapped}"),
            };
        }
        match name.trim_end_matches(|digit: char| digit.is_ascii_digit()) {
            "md" | "md_d" => format!("MD array {name}"),
            "loop" => format!("loop device {name}"),
            _ => name.to_owned(),
        }
    }

    /// The imported ZFS pool that a device is part of. ZFS tells sysfs nothing; udev has looked at
    /// the label, and the pools of this machine are in procfs.
    fn zfs_pool(&self, number: &str) -> Option<String> {
        let record: PathBuf = self.system.path(format!("run/udev/data/b{number}"));
        let record = text(&record)?;
        let property = |key: &str| record.lines().find_map(|line| line.strip_prefix(key));
        if property("E:ID_FS_TYPE=") != Some("zfs_member") {
            return None;
        }
        let pool = property("E:ID_FS_LABEL=")?;
        let imported = self.system.path("proc/spl/kstat/zfs").join(pool).exists();
        imported.then(|| format!("ZFS pool {pool}"))
    }
}

/// `vg-my--data` is the volume `my-data` of the group `vg`: LVM doubles the hyphens of names.
fn logical_volume(mapped: &str) -> String {
    mapped.replace("--", "\0").replacen('-', "/", 1).replace('\0', "-")
}
