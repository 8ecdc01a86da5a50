//! Which processes have a device open.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;

use super::system::{System, names, text};

/// A process.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name, as `ps -o comm` has it.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// What processes have open below /dev.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenFiles {
    /// By the node's name below /dev.
    users: HashMap<String, Vec<Process>>,
    /// Whether some processes did not show their files, as those of other users do not.
    pub(crate) hidden: bool,
}

impl OpenFiles {
    /// Looks through /proc/*/fd.
    pub(crate) fn read(system: &System) -> Self {
        let mut found = Self::default();
        for pid in pids(system) {
            found.add(system, pid);
        }
        found
    }

    fn add(&mut self, system: &System, pid: u32) {
        let folder = system.path(format!("proc/{pid}/fd"));
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                // One that has ended meanwhile has nothing open.
                self.hidden |= error.kind() == ErrorKind::PermissionDenied;
                return;
            }
        };
        for entry in entries.flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let Some(node) = node_name(&target) else { continue };
            let users = self.users.entry(node).or_default();
            if users.iter().all(|user| user.pid != pid) {
                users.push(Process { pid, name: name(system, pid) });
            }
        }
    }

    /// Who has the node of this name below /dev open.
    pub(crate) fn of(&self, node: &str) -> &[Process] {
        self.users.get(node).map_or(&[], Vec::as_slice)
    }
}

/// The process ids in /proc, in their order.
pub(crate) fn pids(system: &System) -> Vec<u32> {
    let mut pids: Vec<u32> =
        names(&system.path("proc")).into_iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// A process's name.
pub(crate) fn name(system: &System, pid: u32) -> String {
    text(&system.path(format!("proc/{pid}/comm"))).unwrap_or_else(|| "a process".into())
}

/// The name below /dev of what a descriptor points to. The link is the path by which the file was
/// opened with symbolic links followed, so it ends at the node that the kernel named. The node of a
/// container's own /dev has the same name.
fn node_name(target: &Path) -> Option<String> {
    let name = target.strip_prefix("/dev").ok()?.to_str()?;
    // A node that was removed while it was open keeps its user.
    let name = name.strip_suffix(" (deleted)").unwrap_or(name);
    (!name.is_empty()).then(|| name.to_owned())
}
