//! Metrics as a file for node_exporter's textfile collector.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::Error;

/// Who may read the file: everybody, since the collector is another user.
const MODE: u32 = 0o644;

/// Writes a file so that a reader sees the old one or the new one, whole: it is made beside it and
/// renamed.
///
/// # Errors
///
/// [`Error::Failed`] with what the system says.
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    let cannot = |error: &std::io::Error| Error::file("write", path, error);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // The collector reads names that end in .prom, which this one does not.
    let mut file = tempfile::Builder::new()
        .prefix(".mptctl-metrics-")
        .suffix(".new")
        .tempfile_in(folder)
        .map_err(|error| cannot(&error))?;
    file.write_all(text.as_bytes()).map_err(|error| cannot(&error))?;
    let permissions = Permissions::from_mode(MODE);
    file.as_file().set_permissions(permissions).map_err(|error| cannot(&error))?;
    file.persist(path).map(|_| ()).map_err(|error| cannot(&error.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_whole_and_can_be_read_by_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fusion.prom");
        write(&path, "a 1\n").expect("written");
        write(&path, "b 2\n").expect("written again");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "b 2\n");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_sentence() {
        let refused = write(Path::new("/nonexistent/x.prom"), "").expect_err("refused").to_string();
        assert!(refused.contains("/nonexistent/x.prom") && refused.contains("check the path"));
    }
}
