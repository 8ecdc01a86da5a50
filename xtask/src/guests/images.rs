//! What a guest boots: a stock kernel, and an initramfs with programs, modules and our agent.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::guests::cpio::Archive;
use crate::guests::libraries;
use crate::guests::modules::{self, ModuleInfo, canonical};
use crate::guests::packages::{KERNELS, Packages};
use crate::own_apt;
use crate::run::Runner;

/// The guest's first program.
const INIT: &str = include_str!("init.sh");

/// The programs that guests can run beside busybox's, by the packages' paths. Of those in `BIN`
/// all are taken whose name starts so.
const PROGRAMS: &[&str] = &[
    "bin/dash",
    "bin/fio",
    "bin/flock",
    "bin/lsblk",
    "bin/lsscsi",
    "bin/dmesg",
    "bin/rescan-scsi-bus.sh",
    "bin/scsi_",
    "bin/sg_",
    "bin/lspci",
    "bin/setpci",
    "bin/setpriv",
    "sbin/blkdiscard",
    "sbin/blockdev",
    "sbin/dmsetup",
    "sbin/fsck.ext4",
    "sbin/e2fsck",
    "sbin/mdadm",
    "sbin/mke2fs",
    "sbin/mkfs.ext4",
    "sbin/nbd-client",
    "sbin/resize2fs",
    "sbin/sgdisk",
    "sbin/smartctl",
    "sbin/wipefs",
];

/// Libraries that a program of Rust needs, if it comes in later.
const RUSTS: &[&str] = &["libc.so.6", "libgcc_s.so.1", "libm.so.6"];

/// Data that programs read.
const DATA: &[&str] = &["usr/share/misc/pci.ids", "etc/mke2fs.conf"];

/// Modules that guests can load, and what these need comes with them.
const MODULES: &[&str] = &[
    // The way to the agent.
    "virtio_pci",
    "virtio_console",
    // The drivers under test, and all of SCSI that sits on them.
    "mptsas",
    "mpt3sas",
    "sd_mod",
    "sg",
    "ses",
    "st",
    // What they ask the kernel for by other names than symbols.
    "crc32c_generic",
    "crct10dif_generic",
    "crct10dif_pclmul",
    "crc64_rocksoft_generic",
    "crc32_pclmul",
    "ext4",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    // For drivers outside the kernel.
    "uio",
    "uio_pci_generic",
    "vfio_pci",
    "vfio_iommu_type1",
    // What those make block devices with; not every kernel has the first.
    "ublk_drv",
    "nbd",
    // What can hold a disk.
    "dm_mod",
    "loop",
    "md_mod",
    "raid1",
];

/// A kernel with its initramfs.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// As `uname -r` says it.
    pub(crate) release: String,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
}

/// The images kept in `folder`, one for each of [`KERNELS`], made first if they are not there.
pub(crate) fn provide(
    runner: &Runner,
    folder: &Path,
    packages: &Packages,
) -> Result<Vec<Image>, String> {
    let kept = folder.join(format!("images-{:016x}", key(packages)));
    if !kept.is_dir() {
        remove_others(folder);
        let partial = folder.join("images.partial");
        let _ = fs::remove_dir_all(&partial);
        make(runner, &partial, packages)?;
        fs::rename(&partial, &kept).map_err(|error| {
            format!("renaming {} to {}: {error}", partial.display(), kept.display())
        })?;
    }
    (0..KERNELS.len())
        .map(|index| {
            let path = |name: &str| kept.join(format!("{name}-{index}"));
            let release = fs::read_to_string(path("release"))
                .map_err(|error| format!("reading {}: {error}", path("release").display()))?;
            Ok(Image { release, kernel: path("vmlinuz"), initramfs: path("initramfs") })
        })
        .collect()
}

/// Tells images of other content apart: the packages' names hold their versions, and all else that
/// goes in is part of this program's source.
fn key(packages: &Packages) -> u64 {
    let mut hasher = DefaultHasher::new();
    for package in packages.kernels.iter().flatten().chain(&packages.programs) {
        package.file_name().hash(&mut hasher);
    }
    (INIT, PROGRAMS, RUSTS, DATA, MODULES).hash(&mut hasher);
    (include_str!("images.rs"), include_str!("modules.rs")).hash(&mut hasher);
    (include_str!("cpio.rs"), include_str!("libraries.rs")).hash(&mut hasher);
    hasher.finish()
}

/// Images with another key are of no use any more.
fn remove_others(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("images-") {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn make(runner: &Runner, partial: &Path, packages: &Packages) -> Result<(), String> {
    let programs = partial.join("programs");
    make_folder(&programs)?;
    runner.progress.line("making the guests' initramfs");
    own_apt::extract(runner, &packages.programs, &programs)?;
    let userland = userland(&programs)?;
    let busybox = programs.join("usr/bin/busybox");
    for (index, kernel) in packages.kernels.iter().enumerate() {
        let unpacked = partial.join("kernel");
        make_folder(&unpacked)?;
        own_apt::extract(runner, kernel, &unpacked)?;
        let (release, kernel) = release(&unpacked)?;
        let modules = kernel_modules(&unpacked, &release, &busybox)?;
        let path = |name: &str| partial.join(format!("{name}-{index}"));
        write(&path("initramfs"), &[&userland, &modules])?;
        fs::rename(&kernel, path("vmlinuz"))
            .map_err(|error| format!("moving {}: {error}", kernel.display()))?;
        write(&path("release"), &[release.as_bytes()])?;
        remove_folder(&unpacked)?;
    }
    remove_folder(&programs)
}

fn make_folder(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("making {}: {error}", folder.display()))
}

fn remove_folder(folder: &Path) -> Result<(), String> {
    fs::remove_dir_all(folder).map_err(|error| format!("removing {}: {error}", folder.display()))
}

fn write(path: &Path, parts: &[&[u8]]) -> Result<(), String> {
    let written = fs::File::create(path)
        .and_then(|mut file| parts.iter().try_for_each(|part| file.write_all(part)));
    written.map_err(|error| format!("writing {}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("reading {}: {error}", path.display()))
}

/// Programs with their libraries and data, and our agent.
fn userland(root: &Path) -> Result<Vec<u8>, String> {
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "run", "sys", "tmp", "lib64"] {
        archive.folder(folder);
    }
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("bin/busybox", 0o755, &read(&root.join("usr/bin/busybox"))?);
    // Where the kernel looks for it when it needs a module.
    archive.link("sbin/modprobe", "../bin/busybox");
    let mut programs = Vec::new();
    for folder in ["bin", "sbin"] {
        for path in files_in(&root.join("usr").join(folder))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let at = format!("{folder}/{name}");
            let wanted = |program: &str| {
                at == program || (program.ends_with('_') && at.starts_with(program))
            };
            if PROGRAMS.iter().any(|program| wanted(program)) {
                archive.file(&format!("usr/{at}"), 0o755, &read(&path)?);
                programs.push(path);
            }
        }
    }
    let found = |program: &&&str| {
        programs.iter().any(|path| path.to_string_lossy().contains(&format!("usr/{program}")))
    };
    if let Some(missing) = PROGRAMS.iter().find(|program| !found(program)) {
        return Err(format!("no package brought the program usr/{missing}"));
    }
    for (name, path) in libraries::closure(root, &programs, RUSTS)? {
        let folder = if name.starts_with("ld-linux") { "lib64" } else { "lib/x86_64-linux-gnu" };
        archive.file(&format!("{folder}/{name}"), 0o755, &read(&path)?);
    }
    for path in DATA {
        archive.file(path, 0o644, &read(&root.join(path))?);
    }
    Ok(archive.finish())
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("reading {}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    Ok(files)
}

/// The one kernel in its packages: as `uname -r` calls it, and its file, which is in `/boot` or
/// with the modules.
fn release(unpacked: &Path) -> Result<(String, PathBuf), String> {
    for path in files_in(&unpacked.join("boot")).unwrap_or_default() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(release) = name.strip_prefix("vmlinuz-") {
            return Ok((release.to_owned(), path.clone()));
        }
    }
    let modules = fs::read_dir(unpacked.join("usr/lib/modules"));
    for folder in modules.into_iter().flatten().flatten() {
        let kernel = folder.path().join("vmlinuz");
        if kernel.is_file() {
            return Ok((folder.file_name().to_string_lossy().into_owned(), kernel));
        }
    }
    Err(format!("{} holds no vmlinuz", unpacked.display()))
}

/// The modules with their indexes.
fn kernel_modules(unpacked: &Path, release: &str, busybox: &Path) -> Result<Vec<u8>, String> {
    let roots = ["lib/modules", "usr/lib/modules"].map(|at| unpacked.join(at).join(release));
    let mut paths = std::collections::BTreeMap::new();
    let mut folders: Vec<PathBuf> = roots.into_iter().filter(|root| root.is_dir()).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if let Some((module, _)) = name.split_once(".ko") {
                paths.insert(canonical(module), entry.path());
            }
        }
    }
    if paths.is_empty() {
        return Err(format!("{} holds no modules", unpacked.display()));
    }
    let mut archive = Archive::default();
    let folder = format!("lib/modules/{release}");
    let modules = modules::closure(MODULES, |name| {
        let Some(path) = paths.get(name) else {
            return Ok(None);
        };
        let module = uncompressed(path, busybox)?;
        let info = ModuleInfo::parse(&module)
            .map_err(|error| format!("reading {}: {error}", path.display()))?;
        archive.file(&format!("{folder}/{name}.ko"), 0o644, &module);
        Ok(Some(info))
    })?;
    archive.file(
        &format!("{folder}/modules.dep"),
        0o644,
        modules::dependency_index(&modules).as_bytes(),
    );
    archive.file(
        &format!("{folder}/modules.alias"),
        0o644,
        modules::alias_index(&modules).as_bytes(),
    );
    Ok(archive.finish())
}

/// A module's content. The guest's own busybox can run here and knows how to unpack.
fn uncompressed(path: &Path, busybox: &Path) -> Result<Vec<u8>, String> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => read(path),
        Some("xz") => {
            let output = Command::new(busybox)
                .args(["xz", "-dc"])
                .arg(path)
                .output()
                .map_err(|error| format!("starting {}: {error}", busybox.display()))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(format!("unpacking {}: {}", path.display(), said.trim()));
            }
            Ok(output.stdout)
        }
        _ => Err(format!("{} is compressed in a way that is not known here", path.display())),
    }
}
