//! Errors that a case makes, and how a stock driver gets over them.

use std::time::{Duration, Instant};

use crate::guests::rig::Rig;

const LIMIT: Duration = Duration::from_secs(90);

/// The first 4 MiB of a disk as a checksum.
pub(super) fn checksum(rig: &mut Rig, device: &str) -> Result<String, String> {
    let script = format!("dd if={device} bs=64k count=64 iflag=direct 2>/dev/null | md5sum");
    rig.machine.check(&script, LIMIT)
}

/// Makes Linux lose patience with a command after 4 seconds instead of 30.
pub(super) fn shorten_timeout(rig: &mut Rig, device: &str) -> Result<(), String> {
    let name = device.trim_start_matches("/dev/");
    rig.machine.check(&format!("echo 4 >/sys/block/{name}/device/timeout"), LIMIT).map(drop)
}

pub(super) fn a_sense_reaches_the_program(rig: &mut Rig) -> Result<(), String> {
    let (_, device) = rig.disk(0)?;
    // A page before the bad block and one with it.
    rig.running.knob(&["medium-error", "0", "4096"])?;
    let read =
        |page: u32| format!("dd if={device} of=/dev/null bs=4096 skip={page} count=1 iflag=direct");
    rig.machine.check(&read(511), LIMIT)?;
    let output = rig.machine.run(&read(512), LIMIT)?;
    let log = rig.log()?;
    if output.status == 0 || !log.contains("critical medium error") {
        return Err(format!(
            "a bad block was read with status {}: {}\n{log}",
            output.status, output.text
        ));
    }
    // Writing makes it whole.
    let write = format!("dd if=/dev/zero of={device} bs=4096 seek=512 count=1 oflag=direct");
    rig.machine.check(&write, LIMIT)?;
    rig.machine.check(&read(512), LIMIT).map(drop)
}

pub(super) fn resets_leave_the_data_alone(rig: &mut Rig) -> Result<(), String> {
    let (_, device) = rig.disk(0)?;
    let before = checksum(rig, &device)?;
    let mut resets = 0;
    for what in ["--device", "--bus", "--host"] {
        rig.machine.check(&format!("sg_reset {what} {device}"), LIMIT)?;
        // A program's success is worth nothing if no driver has done anything.
        let done = rig.log()?.matches("reset: SUCCESS").count();
        if done <= resets {
            return Err(format!("sg_reset {what} has reset nothing:\n{}", rig.log()?));
        }
        resets = done;
        let after = checksum(rig, &device)?;
        if after != before {
            return Err(format!("after sg_reset {what} the disk holds something else"));
        }
    }
    wait_for_scans(rig)
}

/// mpt3sas looks for its devices after a reset in a thread of its own, whose lines are not to be the
/// next case's.
fn wait_for_scans(rig: &mut Rig) -> Result<(), String> {
    if !rig.controller.is_mpi2() {
        return Ok(());
    }
    let ends = Instant::now() + LIMIT;
    loop {
        let log = rig.log()?;
        // Of resets that follow each other quickly only the last is followed by a look.
        if log.rfind("scan devices: complete") >= log.rfind("diag reset: SUCCESS") {
            return Ok(());
        }
        if Instant::now() > ends {
            return Err(format!("the driver has not looked for its devices again:\n{log}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(super) fn a_lost_reply_is_recovered(rig: &mut Rig) -> Result<(), String> {
    let (_, device) = rig.disk(0)?;
    shorten_timeout(rig, &device)?;
    rig.running.knob(&["drop-replies", "1"])?;
    rig.machine
        .check(&format!("dd if={device} of=/dev/null bs=4096 count=1 iflag=direct"), LIMIT)?;
    // Only a reply that was truly lost makes a driver lose its patience.
    rig.expect_in_log("task abort: SUCCESS")?;
    // As long as any other.
    let name = device.trim_start_matches("/dev/");
    rig.machine.check(&format!("echo 30 >/sys/block/{name}/device/timeout"), LIMIT).map(drop)
}

pub(super) fn a_fault_is_recovered(rig: &mut Rig) -> Result<(), String> {
    under_load(rig, &["fault", "0x2622"])?;
    if rig.controller.is_mpi2() {
        rig.expect_in_log("fault_state(0x2622)")?;
        rig.expect_in_log("_base_fault_reset_work: hard reset: success")
    } else {
        rig.expect_in_log("FAULT code = 2622h")?;
        rig.expect_in_log("mpt_fault_reset_work: HardReset: success")
    }
}

/// Turns a knob while a program writes and verifies what it wrote.
pub(super) fn under_load(rig: &mut Rig, knob: &[&str]) -> Result<(), String> {
    let (_, device) = rig.disk(0)?;
    let script = format!(
        "fio --name=load --filename={device} --ioengine=libaio --direct=1 --iodepth=16 --rw=randwrite \
         --bs=4k --size=32m --time_based --runtime=6 --verify=crc32c --verify_backlog=256 --verify_fatal=1 \
         --minimal"
    );
    let load = rig.machine.start(&script, LIMIT)?;
    std::thread::sleep(Duration::from_secs(2));
    rig.running.knob(knob)?;
    let output = rig.machine.finish(load)?;
    if output.status == 0 {
        Ok(())
    } else {
        Err(format!("fio ended with {}:\n{}", output.status, output.text))
    }
}
