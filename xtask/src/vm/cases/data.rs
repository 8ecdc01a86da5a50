//! Data that goes to a disk by one way and comes back by another.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::guests::disk::Disk;
use crate::vm::subject::Subject;

/// Bytes of one command, from a page to what many controllers take at most.
const SIZES: &[u64] = &[4 << 10, 8 << 10, 64 << 10, 256 << 10, 1 << 20];

/// Where four bytes no longer number the blocks, in bytes.
const BORDER: u64 = (1 << 32) * 512;

/// Random data of 4 MiB, made once.
const RANDOM: &str = "[ -e /run/random ] || dd if=/dev/urandom of=/run/random bs=1M count=4 2>&1";

pub(super) fn every_size_reaches_the_file(subject: &mut Subject) -> Result<(), String> {
    subject.give_to_user()?;
    let address = subject.address.clone();
    for (index, place) in [(0, 0), (1, BORDER - (1 << 20)), (1, BORDER)] {
        let disk = subject.disk(index)?;
        let target = subject.target(index)?;
        let mut script = "set -e\n".to_owned();
        // One after the other, and the largest up to the end of the disk.
        let mut at = place;
        let mut places = Vec::new();
        for size in SIZES {
            let last = *size == 1 << 20 && place != BORDER - (1 << 20);
            let offset = if last { disk.bytes - size } else { at };
            at += size;
            places.push((offset, *size));
            let (lba, blocks) = (offset / 512, size / 512);
            let bus = format!("--bus {address} --target {target} --lba {lba}");
            script.push_str(&format!(
                "yes {offset} | head -c {size} >/run/data
                 mptctl -q write {bus} --in /run/data --yes
                 mptctl -q read {bus} --blocks {blocks} --out /run/back
                 cmp /run/data /run/back\n"
            ));
        }
        script.push_str(&format!("mptctl -q flush --bus {address} --target {target}\n"));
        subject.check(&script)?;
        for (offset, size) in places {
            expect_in_file(&disk, offset, size)?;
        }
    }
    // A flush that reached the disk has left nothing in its cache.
    if subject.rig.controller.is_ours() {
        let status = subject.rig.running.knob(&["status", "--json"])?;
        let status: serde_json::Value =
            serde_json::from_str(&status).map_err(|error| error.to_string())?;
        let disks = status["status"]["disks"].as_array().cloned().unwrap_or_default();
        if disks.len() != 2 || disks.iter().any(|disk| disk["dirty_bytes"] != 0) {
            return Err(format!("something has not been flushed: {disks:?}"));
        }
    }
    Ok(())
}

/// Looks on the host for what says where it is.
fn expect_in_file(disk: &Disk, offset: u64, size: u64) -> Result<(), String> {
    let mut found = vec![0; usize::try_from(size).map_err(|error| error.to_string())?];
    File::open(&disk.file)
        .and_then(|file| file.read_exact_at(&mut found, offset))
        .map_err(|error| format!("reading {} at {offset}: {error}", disk.file.display()))?;
    let line = format!("{offset}\n");
    if found.iter().eq(line.as_bytes().iter().cycle().take(found.len())) {
        Ok(())
    } else {
        Err(format!("{} does not hold at {offset} what was written", disk.file.display()))
    }
}

pub(super) fn raw_across(subject: &mut Subject) -> Result<(), String> {
    subject.check(RANDOM)?;
    subject.give_to_user()?;
    let target = subject.target(0)?;
    subject.ours(&format!("write --target {target} --lba 8192 --in /run/random --yes"))?;
    subject.give_to_kernel()?;
    let device = subject.kernels(0)?;
    same_as_random(subject, &device, 4)?;
    // And the reverse, elsewhere.
    subject.check(&format!("dd if=/run/random of={device} bs=1M seek=12 oflag=direct 2>&1"))?;
    subject.bind()?;
    let target = subject.target(0)?;
    let read = format!("read --target {target} --lba {} --blocks 8192 --out /run/back", 12 << 11);
    subject.ours(&read)?;
    subject.check("cmp /run/random /run/back").map(drop)
}

pub(super) fn buffered_across(subject: &mut Subject) -> Result<(), String> {
    subject.check(RANDOM)?;
    let export = subject.export("")?;
    let write = |device: &str, at: u32| {
        format!(
            "dd if=/run/random of={device} bs=1000 seek={at} oflag=seek_bytes conv=notrunc 2>&1"
        )
    };
    let device = export.devices[0].clone();
    subject.check(&format!("{} && sync {device}", write(&device, 20 << 20)))?;
    subject.stop(export)?;
    subject.give_to_kernel()?;
    let device = subject.kernels(0)?;
    same_as_random(subject, &device, 20)?;
    subject.check(&format!("{} && sync {device}", write(&device, 28 << 20)))?;
    let export = subject.export("")?;
    let device = export.devices[0].clone();
    same_as_random(subject, &device, 28)?;
    subject.stop(export)
}

pub(super) fn flushed_before_a_kill(subject: &mut Subject) -> Result<(), String> {
    subject.check(RANDOM)?;
    let export = subject.export("")?;
    let device = export.devices[0].clone();
    // It returns when the flush was acknowledged. What follows is not flushed and may be lost.
    subject.check(&format!(
        "dd if=/run/random of={device} bs=1M seek=36 conv=fsync,notrunc 2>&1
         dd if=/dev/zero of={device} bs=1M seek=44 count=2 oflag=direct 2>&1"
    ))?;
    subject.kill(export)?;
    subject.give_to_kernel()?;
    let device = subject.kernels(0)?;
    same_as_random(subject, &device, 36)?;
    // The next export takes over what the killed one has left, and its end removes it.
    let export = subject.export("")?;
    let device = export.devices[0].clone();
    same_as_random(subject, &device, 36)?;
    subject.stop(export)
}

/// An error unless the device holds the random data at so many MiB, read past every cache.
fn same_as_random(subject: &mut Subject, device: &str, mib: u32) -> Result<(), String> {
    let script = format!(
        "dd if={device} of=/run/back bs=1M skip={mib} count=4 iflag=direct 2>/dev/null && \
         cmp /run/random /run/back"
    );
    subject.check(&script).map(drop)
}
