//! QEMU's command line.

use std::ffi::OsString;
use std::path::Path;

use super::{Backend, QtestDisk, QtestOptions};
use crate::bus::BusError;

/// The most DMA memory there is: BARs sit at 3.5 GiB, and a `pc` machine splits its memory there.
const MAX_MEMORY: u64 = 2 << 30;
const MIN_MEMORY: u64 = 4 << 20;

/// Refuses options that contradict themselves or that QEMU would take without a word.
pub(super) fn check(options: &QtestOptions) -> Result<(), BusError> {
    let refuse = |sentence: String| Err(BusError(sentence));
    if !(MIN_MEMORY..=MAX_MEMORY).contains(&options.memory_bytes) {
        return refuse(format!(
            "QEMU cannot be given {} bytes of DMA memory; give it between 4 MiB and 2 GiB",
            options.memory_bytes
        ));
    }
    for (index, disk) in options.disks.iter().enumerate() {
        let id = disk.scsi_id;
        if usize::from(id) >= QtestOptions::MAX_DISKS {
            return refuse(format!(
                "disk {index} cannot be target {id}; the controller has 0 to 7"
            ));
        }
        if options.disks.iter().take(index).any(|other| other.scsi_id == id) {
            return refuse(format!("two disks cannot both be target {id}; give each its own"));
        }
        if !matches!(disk.block_size, 512 | 4096) {
            return refuse(format!(
                "target {id} cannot have blocks of {} bytes; give it 512 or 4096",
                disk.block_size
            ));
        }
        // QEMU would cut them off without a word.
        for (what, text, most) in
            [("serial number", &disk.serial, 36), ("product identification", &disk.product, 16)]
        {
            if text.as_ref().is_some_and(|text| text.len() > most || !text.is_ascii()) {
                return refuse(format!(
                    "the {what} of target {id} is not ASCII or is longer than {most} characters; \
                     shorten it"
                ));
            }
        }
        match &disk.backend {
            Backend::Slow { bytes, .. }
                if *bytes == 0 || bytes % u64::from(disk.block_size) != 0 =>
            {
                return refuse(format!(
                    "target {id} cannot have {bytes} bytes; give it a multiple of its block size"
                ));
            }
            Backend::File(path) | Backend::Throttled { path, .. } => {
                // QEMU would say the same, but among other things and about its own names.
                let opened =
                    std::fs::OpenOptions::new().read(true).write(!disk.read_only).open(path);
                if let Err(error) = opened {
                    return refuse(format!(
                        "cannot open the image {} of target {id}: {error}; give an existing raw image",
                        path.display()
                    ));
                }
            }
            Backend::Slow { .. } => {}
        }
    }
    Ok(())
}

/// The arguments: `memory` is the path of the shared memory, `socket` the inherited descriptor
/// that the qtest protocol runs over.
pub(super) fn arguments(
    options: &QtestOptions,
    memory: &Path,
    memory_bytes: u64,
    socket: i32,
) -> Vec<OsString> {
    let mut line = Line::default();
    // No guest runs: virtual CPUs stay stopped (-S), and no default devices or settings join in.
    for argument in ["-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-S"] {
        line.plain(argument);
    }
    line.option("-machine", "pc,memory-backend=memory");
    line.option("-m", &format!("size={}k", memory_bytes >> 10));
    line.with_path(
        "-object",
        &format!("memory-backend-file,id=memory,share=on,size={memory_bytes},mem-path="),
        memory,
    );
    line.option("-chardev", &format!("socket,id=qtest,fd={socket}"));
    // Its log would repeat every access on the error output that is kept for errors.
    line.option("-qtest", "chardev:qtest");
    line.option("-qtest-log", "/dev/null");
    line.option(
        "-device",
        &format!("mptsas1068,id=hba,addr=4,sas_address={:#x}", options.sas_address),
    );
    for (index, disk) in options.disks.iter().enumerate() {
        line.disk(index, disk);
    }
    line.0.extend(options.extra_arguments.iter().cloned());
    line.0
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn plain(&mut self, argument: &str) {
        self.0.push(argument.into());
    }

    fn option(&mut self, name: &str, value: &str) {
        self.plain(name);
        self.plain(value);
    }

    fn with_path(&mut self, name: &str, value: &str, path: &Path) {
        self.plain(name);
        let mut value = OsString::from(value);
        value.push(escaped(path));
        self.0.push(value);
    }

    fn disk(&mut self, index: usize, disk: &QtestDisk) {
        let read_only = if disk.read_only { "on" } else { "off" };
        // Guessing a geometry would read block 0 before QEMU answers at all: it is given instead.
        let mut geometry = "";
        match &disk.backend {
            Backend::File(path) => self.image(&format!("disk{index}"), path, read_only),
            Backend::Slow { bytes, latency } => {
                geometry = ",cyls=1024,heads=16,secs=63";
                let nanoseconds = latency.as_nanos();
                self.option(
                    "-blockdev",
                    &format!(
                        "driver=null-co,node-name=disk{index},size={bytes},\
                         latency-ns={nanoseconds},read-zeroes=on,read-only={read_only}"
                    ),
                );
            }
            Backend::Throttled { path, operations_per_second } => {
                geometry = ",cyls=1024,heads=16,secs=63";
                self.image(&format!("unlimited{index}"), path, read_only);
                self.option(
                    "-object",
                    &format!(
                        r#"{{"qom-type":"throttle-group","id":"limit{index}","limits":{{"iops-total":{operations_per_second}}}}}"#
                    ),
                );
                self.option(
                    "-blockdev",
                    &format!(
                        "driver=throttle,node-name=disk{index},file=unlimited{index},\
                         throttle-group=limit{index},read-only={read_only}"
                    ),
                );
            }
        }
        let mut device = format!(
            "scsi-hd,drive=disk{index},bus=hba.0,channel=0,scsi-id={},lun=0,\
             logical_block_size={block},physical_block_size={block}{geometry}",
            disk.scsi_id,
            block = disk.block_size
        );
        if disk.wwn != 0 {
            device += &format!(",wwn={:#x}", disk.wwn);
        }
        for (name, value) in [("serial", &disk.serial), ("product", &disk.product)] {
            if let Some(value) = value {
                device += &format!(",{name}={}", value.replace(',', ",,"));
            }
        }
        self.option("-device", &device);
    }

    fn image(&mut self, node: &str, path: &Path, read_only: &str) {
        let direct = if opens_directly(path) { "on" } else { "off" };
        self.with_path(
            "-blockdev",
            &format!(
                "driver=file,node-name={node}-file,read-only={read_only},cache.direct={direct},filename="
            ),
            path,
        );
        self.option(
            "-blockdev",
            &format!(
                "driver=raw,node-name={node},file={node}-file,read-only={read_only},cache.direct={direct}"
            ),
        );
    }
}

/// A path as the last value of a comma-separated option, where a comma is written twice.
fn escaped(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(*byte);
        }
    }
    OsString::from_vec(bytes)
}

/// Whether the image's file system can go past the page cache; tmpfs, for one, often cannot.
#[cfg(target_os = "linux")]
fn opens_directly(path: &Path) -> bool {
    use rustix::fs::{Mode, OFlags, open};
    open(path, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()).is_ok()
}

/// Elsewhere the page cache stays: flushes reach the disk through it.
#[cfg(not(target_os = "linux"))]
fn opens_directly(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    fn refusal(options: &QtestOptions) -> String {
        check(options).unwrap_err().to_string()
    }

    fn slow(scsi_id: u8) -> QtestDisk {
        QtestDisk::new(scsi_id, Backend::Slow { bytes: 1 << 20, latency: Duration::from_secs(1) })
    }

    #[test]
    fn contradictions_are_refused_before_qemu_starts() {
        let with = |disks| QtestOptions { disks, ..QtestOptions::default() };
        assert_eq!(check(&with(vec![slow(0), slow(7)])), Ok(()));
        assert!(refusal(&with(vec![slow(8)])).contains("cannot be target 8"));
        assert!(refusal(&with(vec![slow(3), slow(3)])).contains("both be target 3"));
        let odd = QtestDisk { block_size: 520, ..slow(0) };
        assert!(refusal(&with(vec![odd])).contains("blocks of 520 bytes"));
        let long = QtestDisk { serial: Some("x".repeat(37)), ..slow(0) };
        assert!(refusal(&with(vec![long])).contains("longer than 36 characters"));
        let missing = QtestDisk::new(1, Backend::File(PathBuf::from("/nonexistent/image")));
        assert!(refusal(&with(vec![missing])).contains("/nonexistent/image of target 1"));
        let little = QtestOptions { memory_bytes: 0, ..QtestOptions::default() };
        assert!(refusal(&little).contains("between 4 MiB and 2 GiB"));
    }

    #[test]
    fn commas_in_names_do_not_end_them() {
        assert_eq!(escaped(Path::new("/a,b/c")), "/a,,b/c");
        let disk = QtestDisk { serial: Some("a,b".into()), ..slow(0) };
        let options = QtestOptions { disks: vec![disk], ..QtestOptions::default() };
        let line = arguments(&options, Path::new("/m"), 4 << 20, 3);
        assert!(line.iter().any(|a| a.to_string_lossy().contains(",serial=a,,b")), "{line:?}");
    }
}
