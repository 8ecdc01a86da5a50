//! What only a controller can show whose knobs can be turned.

use std::time::Duration;

use crate::guests::disk::{Disk, Kind};
use crate::vm::subject::LIMIT;
use crate::vm::subject::{Export, Subject};

/// A slot that no other disk has.
const SLOT: &str = "5";

const MIB: u64 = 1 << 20;

/// A file system on the small disk, mounted, with a file of 8 MiB in it.
const MOUNTED: &str = "mkfs.ext4 -q -F $device && mkdir -p /mnt/disk && \
     mount -t ext4 $device /mnt/disk && \
     dd if=/dev/urandom of=/mnt/disk/file bs=1M count=8 conv=fsync 2>/dev/null && \
     md5sum /mnt/disk/file >/run/sums";

fn mount(subject: &mut Subject, device: &str) -> Result<(), String> {
    subject.check(&format!("device={device}; {MOUNTED}")).map(drop)
}

/// A load of writes into the mounted file system, verified at its end.
const LOAD: &str = "fio --name=load --filename=/mnt/disk/load --ioengine=libaio --direct=1 \
     --iodepth=32 --rw=randwrite --bs=4k --size=16m --time_based --runtime=6 \
     --verify=crc32c --verify_fatal=1 --verify_dump=0 --minimal";

pub(super) fn queues_have_their_vectors(subject: &mut Subject) -> Result<(), String> {
    let export = subject.export("")?;
    let interrupts = "grep -i vfio /proc/interrupts";
    let before = subject.check(interrupts)?;
    let load = format!(
        "fio --name=load --filename={} --ioengine=libaio --direct=1 --iodepth=8 --numjobs=4 \
         --cpus_allowed=0,1 --cpus_allowed_policy=split --rw=randread --bs=4k --size=32m \
         --time_based --runtime=3 --minimal",
        export.devices[0]
    );
    subject.check(&load)?;
    let after = subject.check(interrupts)?;
    subject.stop(export)?;
    let (before, after) = (counts(&before), counts(&after));
    let busy = after.iter().filter(|(name, count)| {
        let earlier = before.iter().find(|(known, _)| known == name);
        *count > earlier.map_or(0, |(_, earlier)| *earlier)
    });
    let busy: Vec<&str> = busy.map(|(name, _)| name.as_str()).collect();
    // The SAS2008 has one reply queue.
    let least = if subject.rig.controller.name == "our sas2008" { 1 } else { 2 };
    if busy.len() >= least && busy.iter().all(|name| name.contains("msix")) {
        Ok(())
    } else {
        Err(format!("the interrupts that counted are {busy:?}, of {after:?}"))
    }
}

/// The name and the sum over all processors of each line of `/proc/interrupts`.
fn counts(lines: &str) -> Vec<(String, u64)> {
    let count = |line: &str| {
        let words = line.split_whitespace().skip(1);
        words.map_while(|word| word.parse::<u64>().ok()).sum::<u64>()
    };
    let name = |line: &str| line.split("vfio").last().unwrap_or_default().to_owned();
    lines.lines().map(|line| (name(line), count(line))).collect()
}

/// A disk that is not plugged in.
fn spare(subject: &Subject, name: &str, wwn: u64, bytes: u64) -> Disk {
    let file = subject.rig.spare_file(name);
    // One that an earlier guest has used would have another size.
    let _ = std::fs::remove_file(&file);
    Disk { wwn, address: wwn + 1, bytes, slot: 5, kind: Kind::Plain, file }
}

fn plug_in(subject: &mut Subject, disk: &Disk) -> Result<(), String> {
    let file = disk.file.display().to_string().replace(',', ",,");
    let words = format!("{file},size={},wwn={:016x},slot={SLOT}", disk.bytes, disk.wwn);
    subject.rig.running.knob(&["add-disk", &words]).map(drop)
}

/// Waits until a block device is gone.
fn wait_for_loss(subject: &mut Subject, device: &str) -> Result<(), String> {
    let name = device.trim_start_matches("/dev/");
    // The kernel's nbd devices stay, empty.
    let script = format!("[ \"$(cat /sys/block/{name}/size 2>/dev/null || echo 0)\" = 0 ]");
    subject.rig.machine.wait_until(&script, LIMIT).map(drop)
}

pub(super) fn a_disk_comes(subject: &mut Subject) -> Result<(), String> {
    let export = subject.export("")?;
    let disk = spare(subject, "spare-1", 0x5000_c500_15ea_7200, 32 * MIB);
    plug_in(subject, &disk)?;
    let device = subject.exported(&disk)?;
    let pattern = format!(
        "yes here | head -c 1048576 | dd of={device} bs=1M seek=24 iflag=fullblock oflag=direct conv=fsync 2>&1"
    );
    subject.check(&pattern)?;
    subject.rig.running.knob(&["remove-disk", SLOT])?;
    wait_for_loss(subject, &device)?;
    answers(subject, &export)?;
    subject.stop(export)
}

pub(super) fn a_disk_grows(subject: &mut Subject) -> Result<(), String> {
    let export = subject.export("")?;
    let disk = spare(subject, "spare-4", 0x5000_c500_15ea_720c, 32 * MIB);
    plug_in(subject, &disk)?;
    let device = subject.exported(&disk)?;
    mount(subject, &device)?;
    subject.rig.running.knob(&["grow-disk", SLOT, "48M"])?;
    let name = device.trim_start_matches("/dev/").to_owned();
    let grown = format!("[ \"$(cat /sys/block/{name}/size)\" = {} ]", 48 * MIB / 512);
    subject.rig.machine.wait_until(&grown, LIMIT)?;
    // Into what is new, with what is mounted unharmed.
    subject.check(&format!(
        "set -e
         resize2fs {device}
         [ $(df -m /mnt/disk | awk 'END {{print $2}}') -gt 36 ]
         dd if=/dev/urandom of=/mnt/disk/more bs=1M count=30 conv=fsync 2>&1
         md5sum /mnt/disk/more >>/run/sums
         echo 3 >/proc/sys/vm/drop_caches
         md5sum -c -s /run/sums
         umount /mnt/disk
         fsck.ext4 -f -n {device}"
    ))?;
    subject.rig.running.knob(&["remove-disk", SLOT])?;
    wait_for_loss(subject, &device)?;
    subject.stop(export)
}

/// An error unless the small disk can be read through the export.
fn answers(subject: &mut Subject, export: &Export) -> Result<(), String> {
    let device = &export.devices[0];
    subject.check(&format!("dd if={device} of=/dev/null bs=1M count=4 iflag=direct 2>&1")).map(drop)
}

pub(super) fn a_mounted_disk_goes(subject: &mut Subject) -> Result<(), String> {
    let export = subject.export("")?;
    let disk = spare(subject, "spare-2", 0x5000_c500_15ea_7204, 40 * MIB);
    plug_in(subject, &disk)?;
    let device = subject.exported(&disk)?;
    mount(subject, &device)?;
    let load = subject.rig.machine.start(LOAD, LIMIT)?;
    std::thread::sleep(Duration::from_secs(1));
    subject.rig.running.knob(&["remove-disk", SLOT])?;
    let output = subject.rig.machine.finish(load)?;
    // 137 would be a program that hung.
    if output.status == 0 || output.status == 137 {
        return Err(format!("the load ended with status {}:\n{}", output.status, output.text));
    }
    subject.check("umount /mnt/disk")?;
    wait_for_loss(subject, &device)?;
    answers(subject, &export)?;
    // What was in the disk's cache is lost, and its end may say so.
    subject.signal("TERM")?;
    subject.ended(export, &[0, 1])
}

pub(super) fn a_fault_under_a_file_system(subject: &mut Subject) -> Result<(), String> {
    let export = subject.export("")?;
    let device = export.devices[0].clone();
    mount(subject, &device)?;
    let load = subject.rig.machine.start(LOAD, LIMIT)?;
    std::thread::sleep(Duration::from_secs(2));
    subject.rig.running.knob(&["fault", "0x2622"])?;
    let output = subject.rig.machine.finish(load)?;
    if output.status != 0 {
        return Err(format!("the load ended with status {}:\n{}", output.status, output.text));
    }
    let status = subject.rig.running.knob(&["status", "--json"])?;
    if !status.contains("\"operational\"") {
        return Err(format!("the controller has not been reset: {status}"));
    }
    subject.check(&format!(
        "set -e
         echo 3 >/proc/sys/vm/drop_caches
         md5sum -c -s /run/sums
         umount /mnt/disk
         fsck.ext4 -f -n {device}"
    ))?;
    subject.stop(export)
}

pub(super) fn a_disk_vanishes_in_a_copy(subject: &mut Subject) -> Result<(), String> {
    subject.give_to_user()?;
    let disk = spare(subject, "spare-3", 0x5000_c500_15ea_7208, 512 * MIB);
    plug_in(subject, &disk)?;
    subject.rig.running.disks.push(disk.clone());
    let target = subject.target(subject.rig.running.disks.len() - 1);
    subject.rig.running.disks.pop();
    let target = target?;
    // Slow enough that it is in the middle of it.
    subject.rig.running.knob(&["slow-down", "20ms", "--slot", SLOT])?;
    let copy = format!(
        "mptctl -q read --bus {} --target {target} --blocks {} --out /dev/null",
        subject.address,
        disk.bytes / 512
    );
    let copy = subject.rig.machine.start(&copy, LIMIT)?;
    std::thread::sleep(Duration::from_secs(2));
    subject.rig.running.knob(&["remove-disk", SLOT])?;
    let output = subject.rig.machine.finish(copy)?;
    if output.status != 1 || !output.text.contains(&format!("target {target}")) {
        return Err(format!("the copy ended with {}, saying:\n{}", output.status, output.text));
    }
    Ok(())
}

pub(super) fn a_card_is_yanked(subject: &mut Subject) -> Result<(), String> {
    let export = subject.export("")?;
    let device = export.devices[0].clone();
    mount(subject, &device)?;
    let load = subject.rig.machine.start(LOAD, LIMIT)?;
    std::thread::sleep(Duration::from_secs(1));
    subject.rig.running.knob(&["yank"])?;
    let output = subject.rig.machine.finish(load)?;
    if output.status == 0 || output.status == 137 {
        return Err(format!("the load ended with status {}:\n{}", output.status, output.text));
    }
    subject.check("umount /mnt/disk")?;
    // With its last controller gone an export has nothing left to do.
    subject.ended(export, &[1])?;
    let said = subject.said_by_export();
    if !said.contains("the controller is gone") {
        return Err(format!("the export does not say why it ended, only:\n{said}"));
    }
    subject.rig.running.knob(&["put-back"])?;
    let export = subject.export("")?;
    let device = export.devices[0].clone();
    subject.check(&format!(
        "set -e
         fsck.ext4 -p {device} || [ $? = 1 ]
         mount -t ext4 {device} /mnt/disk
         md5sum -c -s /run/sums
         umount /mnt/disk"
    ))?;
    subject.stop(export)
}
