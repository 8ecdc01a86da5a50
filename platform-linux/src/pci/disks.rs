//! What a kernel driver has made of a controller: SCSI hosts, disks and other devices.

use std::path::Path;

use serde::Serialize;

use super::system::{System, names, number, text};

/// A block device behind a controller.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Disk {
    /// Its name below /dev and /sys/block: `sda`.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// Vendor and model as INQUIRY told them.
    pub model: String,
    /// Its name in the world, where it has one: `naa.5000c500...` or a T10 name.
    pub wwid: Option<String>,
}

/// The SCSI hosts below a device's folder.
pub(crate) fn hosts(system: &System, folder: &Path) -> Vec<String> {
    below(system, "sys/class/scsi_host", folder)
}

/// The disks below a device's folder. Device mapper, MD and loop devices have no hardware above
/// them, so they are never among these.
pub(crate) fn behind(system: &System, folder: &Path) -> Vec<Disk> {
    let disks = below(system, "sys/block", folder);
    disks.into_iter().map(|name| disk(system, name)).collect()
}

/// The nodes below /dev by which a program can reach the disks, tapes and enclosures behind a
/// device other than as a block device: `sg0`, `st0`, `bsg/0:0:0:0`.
pub(crate) fn other_nodes(system: &System, folder: &Path) -> Vec<String> {
    let prefix = |class: &str| if class == "bsg" { "bsg/" } else { "" };
    let classes = ["scsi_generic", "scsi_tape", "scsi_changer", "bsg"];
    let nodes = classes.into_iter().flat_map(|class| {
        let found = below(system, &format!("sys/class/{class}"), folder);
        found.into_iter().map(move |name| format!("{}{name}", prefix(class)))
    });
    nodes.collect()
}

/// The members of a class whose devices are below `folder`, by following the symbolic links.
fn below(system: &System, class: &str, folder: &Path) -> Vec<String> {
    let Ok(device) = folder.canonicalize() else { return Vec::new() };
    let class = system.path(class);
    let inside = |name: &String| {
        class.join(name).canonicalize().is_ok_and(|target| target.starts_with(&device))
    };
    let mut found: Vec<String> = names(&class).into_iter().filter(inside).collect();
    // sda, sdb, ..., sdz, sdaa: by age, not by alphabet.
    found.sort_by_key(|name| (name.len(), name.clone()));
    found
}

fn disk(system: &System, name: String) -> Disk {
    let folder = system.path("sys/block").join(&name);
    let words = ["device/vendor", "device/model"];
    let words: Vec<String> =
        words.iter().filter_map(|word| Some(text(&folder.join(word))?.trim().to_owned())).collect();
    Disk {
        // `size` counts 512 bytes, whatever the blocks of the disk.
        bytes: number(&folder.join("size")).unwrap_or(0).saturating_mul(512),
        model: words.join(" ").trim().to_owned(),
        wwid: text(&folder.join("device/wwid")).filter(|wwid| !wwid.is_empty()),
        name,
    }
}
