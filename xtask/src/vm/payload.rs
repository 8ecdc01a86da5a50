//! `mptctl` in a guest: a second archive behind the image's, which the kernel unpacks after it.
//!
//! Images are kept, and `mptctl` is new with every change of it, so the two are put together for
//! each run.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::guests::cpio::Archive;
use crate::guests::images::Image;

/// Where a guest has it.
const MPTCTL: &str = "usr/bin/mptctl";

/// The image with `mptctl` in it, made in `folder`.
pub(crate) fn add_mptctl(image: &Image, mptctl: &Path, folder: &Path) -> Result<Image, String> {
    fs::create_dir_all(folder).map_err(|error| format!("making {}: {error}", folder.display()))?;
    let mut archive = Archive::default();
    archive.file(MPTCTL, 0o755, &stripped(mptctl, folder)?);
    let mut whole = read(&image.initramfs)?;
    whole.extend_from_slice(&archive.finish());
    let initramfs = folder.join(format!("initramfs-{}", image.release));
    fs::write(&initramfs, whole)
        .map_err(|error| format!("writing {}: {error}", initramfs.display()))?;
    Ok(Image { initramfs, ..image.clone() })
}

/// A program without what only a debugger reads, since a guest keeps it in memory.
fn stripped(program: &Path, folder: &Path) -> Result<Vec<u8>, String> {
    let to = folder.join("mptctl");
    let done = Command::new("strip").arg("-o").arg(&to).arg(program).output();
    // It comes with the linker; without it the program is larger and no worse.
    match done {
        Ok(output) if output.status.success() => read(&to),
        _ => read(program),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("reading {}: {error}", path.display()))
}
