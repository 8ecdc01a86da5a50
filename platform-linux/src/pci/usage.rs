//! A picture of what a machine's block devices are used for, taken once and asked about many.

use std::collections::HashMap;
use std::fs;

use super::processes::{self, OpenFiles, Process};
use super::system::{System, link_name, names, text};

/// Mounts, swap, loop devices, pools and open files.
#[derive(Debug)]
pub(crate) struct Usage {
    mounts: Vec<Mount>,
    /// Paths in /proc/swaps.
    swaps: Vec<String>,
    /// Backing file to the names of loop devices.
    loops: HashMap<String, Vec<String>>,
    /// Block device names to what file system of several devices they are part of.
    pools: HashMap<String, String>,
    pub(crate) open: OpenFiles,
}

/// A line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// Major and minor number; those of a file system of several devices are nobody's.
    number: String,
    /// What it says it was mounted from: `/dev/sda1`.
    source: String,
    point: String,
    /// In whose eyes, where it is not mounted in ours.
    seen_by: Option<Process>,
}

impl Usage {
    /// Takes the picture.
    pub(crate) fn read(system: &System) -> Self {
        Self {
            mounts: mounts(system),
            swaps: swaps(&system.text("proc/swaps").unwrap_or_default()),
            loops: loops(system),
            pools: pools(system),
            open: OpenFiles::read(system),
        }
    }

    /// Where the block device with this number, or one of these paths, is mounted.
    pub(crate) fn mount_points(&self, number: &str, paths: &[String]) -> Vec<String> {
        let here = |mount: &&Mount| mount.number == number || paths.contains(&mount.source);
        let (ours, others): (Vec<&Mount>, Vec<&Mount>) =
            self.mounts.iter().filter(here).partition(|mount| mount.seen_by.is_none());
        let told = |mount: &Mount| match &mount.seen_by {
            None => mount.point.clone(),
            Some(process) => format!("{} as {process} sees it", mount.point),
        };
        // What is mounted in our eyes is mounted in most containers' too: once is enough.
        let mut points: Vec<String> =
            if ours.is_empty() { &others } else { &ours }.iter().map(|mount| told(mount)).collect();
        points.dedup();
        points
    }

    /// Whether one of these paths is swap.
    pub(crate) fn is_swap(&self, paths: &[String]) -> bool {
        paths.iter().any(|path| self.swaps.contains(path))
    }

    /// The loop devices on one of these paths.
    pub(crate) fn loops_on<'a>(
        &'a self,
        paths: &'a [String],
    ) -> impl Iterator<Item = &'a String> + 'a {
        paths.iter().filter_map(|path| self.loops.get(path)).flatten()
    }

    /// The pool that the block device of this name is part of: a Btrfs or bcachefs file system.
    pub(crate) fn pool_of(&self, name: &str) -> Option<&String> {
        self.pools.get(name)
    }
}

/// The mounts that this process sees, and those of other mount namespaces, as containers have.
fn mounts(system: &System) -> Vec<Mount> {
    let of = |whose: &str, seen_by: Option<&Process>| -> Vec<Mount> {
        let text = system.text(format!("proc/{whose}/mountinfo")).unwrap_or_default();
        text.lines().filter_map(|line| mount(line, seen_by)).collect()
    };
    let namespace = |whose: &str| fs::read_link(system.path(format!("proc/{whose}/ns/mnt"))).ok();
    let mut seen = vec![namespace("self")];
    let mut mounts = of("self", None);
    for pid in processes::pids(system) {
        let theirs = namespace(&pid.to_string());
        if theirs.is_none() || seen.contains(&theirs) {
            continue;
        }
        seen.push(theirs);
        let process = Process { pid, name: processes::name(system, pid) };
        mounts.extend(of(&pid.to_string(), Some(&process)));
    }
    mounts
}

/// A line of mountinfo (proc_pid_mountinfo(5)): id, parent, number, root, mount point, options, any
/// further fields, a hyphen, type, source, options.
fn mount(line: &str, seen_by: Option<&Process>) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(2);
    let number = before.next()?.to_owned();
    let point = unescape(before.nth(1)?);
    let source = unescape(after.split(' ').nth(1)?);
    Some(Mount { number, source, point, seen_by: seen_by.cloned() })
}

/// The paths of /proc/swaps: a heading, then a path at the start of each line.
fn swaps(text: &str) -> Vec<String> {
    let lines = text.lines().skip(1);
    lines.filter_map(|line| Some(unescape(line.split_ascii_whitespace().next()?))).collect()
}

fn loops(system: &System) -> HashMap<String, Vec<String>> {
    let mut loops: HashMap<String, Vec<String>> = HashMap::new();
    for name in names(&system.path("sys/block")) {
        if let Some(file) = system.text(format!("sys/block/{name}/loop/backing_file")) {
            loops.entry(file).or_default().push(name);
        }
    }
    loops
}

/// File systems that take several devices tell of them in /sys/fs.
fn pools(system: &System) -> HashMap<String, String> {
    let mut pools = HashMap::new();
    for id in names(&system.path("sys/fs/btrfs")) {
        let folder = system.path("sys/fs/btrfs").join(&id);
        let label = text(&folder.join("label")).filter(|label| !label.is_empty());
        for device in names(&folder.join("devices")) {
            pools.insert(device, format!("Btrfs file system {}", label.as_ref().unwrap_or(&id)));
        }
    }
    for id in names(&system.path("sys/fs/bcachefs")) {
        let folder = system.path("sys/fs/bcachefs").join(&id);
        for device in names(&folder) {
            if let Some(device) = link_name(&folder.join(device).join("block")) {
                pools.insert(device, format!("bcachefs file system {id}"));
            }
        }
    }
    pools
}

/// Paths in these files have space, tab, newline and backslash as a backslash and three octal
/// digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, escaped) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_may_have_spaces_and_further_fields() {
        let line = r"36 35 8:1 / /mnt/my\040disk rw,noatime shared:1 master:2 - ext4 /dev/sda1 rw";
        let mount = mount(line, None).expect("a mount");
        assert_eq!((mount.number.as_str(), mount.point.as_str()), ("8:1", "/mnt/my disk"));
        assert_eq!(mount.source, "/dev/sda1");
    }

    #[test]
    fn swap_begins_below_its_heading() {
        let text =
            "Filename\t\t\t\tType\t\tSize\n/dev/sda2                               partition\t8\n";
        assert_eq!(swaps(text), ["/dev/sda2"]);
        assert_eq!(swaps(""), [""; 0]);
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescape(r"a\134b\x\04"), r"a\b\x\04");
    }

    proptest::proptest! {
        #[test]
        fn no_line_of_mountinfo_breaks_the_reader(line: String) {
            let _ = mount(&line, None);
            let _ = swaps(&line);
        }
    }
}
