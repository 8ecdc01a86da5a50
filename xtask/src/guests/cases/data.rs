//! Data that goes to a disk and has to come back.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::guests::disk::Disk;
use crate::guests::rig::{Rig, fio_field};

const LIMIT: Duration = Duration::from_secs(60);

/// One of every size of a request that drivers split differently: less than a page, a page, more
/// than one segment list, more than one chain.
const SIZES: &str = "512/20:4k/30:16k/20:64k/15:256k/10:1m/5";

pub(super) fn depth_32_verifies(rig: &mut Rig) -> Result<(), String> {
    verify(rig, 32)
}

pub(super) fn depth_64_verifies(rig: &mut Rig) -> Result<(), String> {
    verify(rig, 64)
}

/// Writes at random and reads all of it back, each block with a checksum.
fn verify(rig: &mut Rig, depth: u32) -> Result<(), String> {
    let (_, device) = rig.disk(0)?;
    let script = format!(
        "fio --name=verify --filename={device} --ioengine=libaio --direct=1 --iodepth={depth} \
         --rw=randwrite --bssplit={SIZES} --size=48m --io_size=24m --randseed={depth} \
         --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_dump=0 --minimal"
    );
    let said = rig.machine.check(&script, LIMIT)?;
    // The number of errors.
    match fio_field(&said, 5) {
        Some("0") => Ok(()),
        _ => Err(format!("fio reports errors:\n{said}")),
    }
}

pub(super) fn high_addresses_reach_the_file(rig: &mut Rig) -> Result<(), String> {
    let (disk, device) = rig.disk(1)?;
    // The last blocks below and the first above what four bytes can number, and the disk's last.
    let border = (1_u64 << 32) * 512;
    for offset in [border - 4096, border, disk.bytes - 4096] {
        write_pattern(rig, &device, offset, 1)?;
        let read = rig.machine.check(
            &format!(
                "dd if={device} bs=4096 skip={} count=1 iflag=direct 2>/dev/null | md5sum; \
                 yes {offset} | head -c 4096 | md5sum",
                offset / 4096
            ),
            LIMIT,
        )?;
        let sums: Vec<&str> = read.lines().collect();
        if sums.len() != 2 || sums[0] != sums[1] {
            return Err(format!("4096 bytes at {offset} read back as something else: {read}"));
        }
    }
    rig.machine.check(&format!("sg_sync {device}"), LIMIT)?;
    for offset in [border - 4096, border, disk.bytes - 4096] {
        expect_pattern(&disk, offset, 1)?;
    }
    Ok(())
}

pub(super) fn synchronised_data_is_in_the_file(rig: &mut Rig) -> Result<(), String> {
    let (disk, device) = rig.disk(0)?;
    let offset = 40 << 20;
    write_pattern(rig, &device, offset, 256)?;
    rig.machine.check(&format!("sg_sync --count=0 {device}"), LIMIT)?;
    expect_pattern(&disk, offset, 256)
}

pub(super) fn a_power_cut_loses_only_what_was_not_flushed(rig: &mut Rig) -> Result<(), String> {
    let (disk, device) = rig.disk(0)?;
    let (flushed, lost) = (8 << 20, 16 << 20);
    write_pattern(rig, &device, flushed, 64)?;
    rig.machine.check(&format!("sg_sync {device}"), LIMIT)?;
    write_pattern(rig, &device, lost, 64)?;
    // Not a byte of what is in the cache survives.
    rig.running.knob(&["power-cut", "--keep", "0"])?;
    expect_pattern(&disk, flushed, 64)?;
    match expect_pattern(&disk, lost, 64) {
        Err(_) => Ok(()),
        Ok(()) => Err("what was never flushed has survived: is there no volatile cache?".into()),
    }
}

pub(super) fn a_file_system_holds(rig: &mut Rig) -> Result<(), String> {
    let (_, device) = rig.disk(0)?;
    let script = format!(
        "set -e
         mkfs.ext4 -q -F {device}
         mkdir -p /mnt/disk
         mount -t ext4 {device} /mnt/disk
         cp -r /usr/bin /mnt/disk/
         (cd /usr/bin && md5sum *) >/run/sums
         umount /mnt/disk
         fsck.ext4 -f -n {device}
         mount -t ext4 {device} /mnt/disk
         (cd /mnt/disk/bin && md5sum -c -s /run/sums)
         umount /mnt/disk"
    );
    rig.machine.check(&script, LIMIT).map(drop)
}

/// Writes pages that say where they are.
pub(super) fn write_pattern(
    rig: &mut Rig,
    device: &str,
    offset: u64,
    pages: u64,
) -> Result<(), String> {
    let script = format!(
        "yes {offset} | head -c {} | dd of={device} bs=4096 seek={} iflag=fullblock oflag=direct",
        pages * 4096,
        offset / 4096
    );
    rig.machine.check(&script, LIMIT).map(drop)
}

/// Looks for them in the disk's file, on the host.
pub(super) fn expect_pattern(disk: &Disk, offset: u64, pages: usize) -> Result<(), String> {
    let mut found = vec![0; pages * 4096];
    File::open(&disk.file)
        .and_then(|file| file.read_exact_at(&mut found, offset))
        .map_err(|error| format!("reading {} at {offset}: {error}", disk.file.display()))?;
    let line = format!("{offset}\n");
    let expected = line.as_bytes().iter().cycle();
    match found.iter().zip(expected).position(|(found, expected)| found != expected) {
        None => Ok(()),
        Some(at) => Err(format!(
            "{} does not hold at {} what the guest wrote there",
            disk.file.display(),
            offset + at as u64
        )),
    }
}
