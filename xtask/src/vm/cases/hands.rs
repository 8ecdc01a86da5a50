//! Who has the controller: ours, the kernel's driver, nobody.

use std::time::Duration;

use crate::vm::subject::LIMIT;
use crate::vm::subject::Subject;

/// How often the controller changes hands.
const TURNS: u32 = 10;

pub(super) fn bring_up_finds_both_disks(subject: &mut Subject) -> Result<(), String> {
    subject.give_to_user()?;
    expect_disks(subject)
}

/// An error unless `mptctl list` shows every disk that is there.
fn expect_disks(subject: &mut Subject) -> Result<(), String> {
    let list = subject.json("list")?;
    let targets = list["targets"].as_array().cloned().unwrap_or_default();
    for disk in &subject.rig.running.disks {
        let names = [disk.wwn, disk.address].map(|wwn| format!("{wwn:016x}"));
        let shown = targets.iter().any(|target| {
            target["bytes"] == disk.bytes && names.iter().any(|name| target["wwn"] == name.as_str())
        });
        if !shown {
            let (wwn, bytes) = (disk.wwn, disk.bytes);
            return Err(format!("{wwn:016x} of {bytes} bytes is not among {list:#}"));
        }
    }
    let (found, expected) = (targets.len(), subject.rig.running.disks.len());
    if found == expected { Ok(()) } else { Err(format!("{found} targets and not {expected}")) }
}

pub(super) fn status_and_bind_say_what_is(subject: &mut Subject) -> Result<(), String> {
    subject.give_to_user()?;
    let (address, driver) = (subject.address.clone(), subject.way.driver());
    let status = subject.check("mptctl -q status")?;
    for told in [address.as_str(), driver] {
        if !status.contains(told) {
            return Err(format!("mptctl status does not say {told}:\n{status}"));
        }
    }
    subject.give_to_kernel()?;
    let status = subject.check("mptctl -q status")?;
    let module = subject.rig.controller.modules[0];
    if !status.contains(module) {
        return Err(format!("mptctl status does not say {module}:\n{status}"));
    }
    // Quiet is for progress: what to type is no progress.
    let said = subject.bind()?;
    if said.contains("driverctl") {
        Ok(())
    } else {
        Err(format!("mptctl bind does not say how to make it last:\n{said}"))
    }
}

pub(super) fn a_killed_driver_leaves_no_trace(subject: &mut Subject) -> Result<(), String> {
    subject.give_to_user()?;
    let perf = format!(
        "mptctl -q perf --bus {} --time 60 --depth 32 >/run/perf 2>&1 & perf=$!
         sleep 3; kill -9 $perf; wait $perf; [ $? = 137 ]",
        subject.address
    );
    subject.check(&perf)?;
    expect_disks(subject)?;
    let list = subject.json("list")?;
    // It was at work: without a reset it would have answered somebody who is gone.
    subject.ours("read --blocks 8 --out /run/block")?;
    match list["controller"]["bring_up_ms"].as_u64() {
        Some(_) => Ok(()),
        None => Err(format!("list says nothing of bring-up: {list:#}")),
    }
}

pub(super) fn ten_times_there_and_back(subject: &mut Subject) -> Result<(), String> {
    subject.give_to_user()?;
    let small = subject.target(0)?;
    let write = format!("write --target {small} --lba 2048 --blocks 2048 --pattern 7 --yes");
    subject.ours(&write)?;
    let before = ours_sum(subject, small)?;
    for turn in 1..=TURNS {
        let at = |error| format!("turn {turn}: {error}");
        subject.give_to_kernel().map_err(at)?;
        let device = subject.kernels(0).map_err(at)?;
        let sum = format!("dd if={device} bs=1M skip=1 count=1 iflag=direct 2>/dev/null | md5sum");
        let kernels = subject.check(&sum).map_err(at)?;
        subject.bind().map_err(at)?;
        let disks = subject.rig.running.disks.clone();
        for disk in disks {
            subject.rig.wait_for_loss(disk.wwn, Duration::from_secs(30)).map_err(at)?;
        }
        let ours = ours_sum(subject, small).map_err(at)?;
        if [&kernels, &ours] != [&before, &before] {
            return Err(at(format!("{before} was written, {kernels} and {ours} read")));
        }
    }
    expect_disks(subject)
}

/// The checksum of the second MiB of the small disk, as ours reads it.
fn ours_sum(subject: &mut Subject, small: u64) -> Result<String, String> {
    let address = subject.address.clone();
    let script = format!(
        "mptctl -q read --bus {address} --target {small} --lba 2048 --blocks 2048 --out - | md5sum"
    );
    subject.rig.machine.check(&script, LIMIT)
}
