//! Folders for the sockets of guests and of emulators.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// How the names of all of them start; the number of the process that made it comes next.
const PREFIX: &str = "fusion-mpt-xtask-";

/// A folder with a short name, since a socket's path may be no longer than 107 bytes.
pub(crate) struct SocketFolder(PathBuf);

impl SocketFolder {
    pub(crate) fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("{PREFIX}{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)
            .map_err(|error| format!("making {}: {error}", folder.display()))?;
        Ok(Self(folder))
    }

    /// Where a socket of that name belongs.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn remove(&self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes what an xtask that was killed has left behind, and says how many folders those were.
pub(crate) fn remove_orphans() -> usize {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = owner(&name);
            // A process that still runs uses its own.
            owner.is_some_and(|owner| !Path::new("/proc").join(owner.to_string()).exists())
                && fs::remove_dir_all(entry.path()).is_ok()
        })
        .count()
}

/// The process that made the folder of that name, if it is one of these.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_the_process_that_made_it() {
        let folder = SocketFolder::new().expect("a folder");
        let name = folder.0.file_name().expect("a name").to_string_lossy().into_owned();
        assert_eq!(owner(&name), Some(std::process::id()));
        assert_eq!(owner("fusion-mpt-xtask-1"), None);
        assert_eq!(owner("something-1-2"), None);
    }

    #[test]
    fn only_folders_without_a_process_are_orphans() {
        let ours = SocketFolder::new().expect("a folder");
        // No process has a number beyond what the kernel gives out.
        let orphan = std::env::temp_dir().join(format!("{PREFIX}4194305-0"));
        fs::create_dir_all(&orphan).expect("a folder");
        assert!(remove_orphans() >= 1);
        assert!(!orphan.exists());
        assert!(ours.0.exists());
    }
}
