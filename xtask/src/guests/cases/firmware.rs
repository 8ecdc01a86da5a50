//! Firmware that is slow, noisy, broken, or gone with its card.

use std::time::Duration;

use crate::guests::cases::errors::{checksum, shorten_timeout, under_load};
use crate::guests::rig::Rig;

/// The drivers' own patience is 30 s for each step of recovery.
const LIMIT: Duration = Duration::from_secs(150);

pub(super) fn slow_answers_trip_nobody(rig: &mut Rig) -> Result<(), String> {
    let (_, device) = rig.disk(0)?;
    let read = |count: u32| {
        format!(
            "begin=$(cut -d ' ' -f 1 /proc/uptime | tr -d .) && \
             dd if={device} of=/dev/null bs=4096 count={count} iflag=direct 2>/dev/null && \
             end=$(cut -d ' ' -f 1 /proc/uptime | tr -d .) && echo $((end - begin))"
        )
    };
    rig.running.knob(&["slow-down", "500ms"])?;
    let slow = rig.machine.check(&read(4), LIMIT);
    rig.running.knob(&["slow-down", "0"])?;
    let hundredths = slow?.trim().parse::<u32>().map_err(|error| error.to_string())?;
    // Otherwise nothing was slow.
    if hundredths < 200 {
        return Err(format!("four reads of 500 ms each took {hundredths} hundredths of a second"));
    }
    rig.machine.check(&read(4), LIMIT).map(drop)
}

pub(super) fn a_storm_of_log_entries(rig: &mut Rig) -> Result<(), String> {
    let (_, device) = rig.disk(0)?;
    let before = checksum(rig, &device)?;
    for _ in 0..5 {
        rig.running.knob(&["fill-log", "100"])?;
    }
    rig.running.knob(&["fill-log", "10", "--acknowledge"])?;
    if checksum(rig, &device)? != before {
        return Err("the disk holds something else after the storm".to_owned());
    }
    // Each entry that asks for it was acknowledged.
    let ends = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let said = rig.running.knob(&["status", "--json"])?;
        let parsed: serde_json::Value =
            serde_json::from_str(&said).map_err(|error| error.to_string())?;
        let waiting = parsed.pointer("/status/unacknowledged").and_then(serde_json::Value::as_u64);
        match waiting {
            Some(0) => return Ok(()),
            _ if std::time::Instant::now() > ends => {
                return Err(format!("events wait to be acknowledged: {waiting:?}"));
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

pub(super) fn a_core_dump_is_recovered(rig: &mut Rig) -> Result<(), String> {
    under_load(rig, &["coredump", "0x2667", "--for", "1s"])?;
    rig.expect_in_log("_state(0x2667)")?;
    rig.expect_in_log("_base_fault_reset_work: hard reset: success")
}

pub(super) fn stopped_firmware_is_waited_for(rig: &mut Rig) -> Result<(), String> {
    let (_, device) = rig.disk(0)?;
    let before = checksum(rig, &device)?;
    shorten_timeout(rig, &device)?;
    rig.running.knob(&["stop-answering"])?;
    let script = format!("dd if={device} bs=64k count=64 iflag=direct 2>/dev/null | md5sum");
    let read = rig.machine.start(&script, LIMIT)?;
    // Until the command has timed out: from then on the driver tries to recover.
    rig.machine.wait_until("dmesg | grep -q 'attempting task abort!'", LIMIT)?;
    rig.running.knob(&["resume"])?;
    let output = rig.machine.finish(read)?;
    if output.status != 0 || output.text != before {
        return Err(format!("what was read is not {before} but {}", output.text));
    }
    rig.expect_in_log("task abort: SUCCESS")
}

pub(super) fn a_card_comes_and_goes(rig: &mut Rig) -> Result<(), String> {
    let (_, device) = rig.disk(0)?;
    let before = checksum(rig, &device)?;
    // Linux would try for minutes to flush the cache of each disk of a dead card.
    let script = "for cache in /sys/block/sd*/device/scsi_disk/*/cache_type; do \
         echo temporary write through >$cache; done";
    rig.machine.check(script, LIMIT)?;
    rig.running.knob(&["yank"])?;
    if !rig.controller.is_mpi2() {
        // mptsas has no way to drop a dead card's commands: that it has seen it must do.
        return rig
            .machine
            .wait_until("dmesg | grep 'IOC is non-operational !!!!'", LIMIT)
            .map(drop);
    }
    // The driver's watchdog sees it and removes the card's disks, and the card.
    for disk in rig.running.disks.clone() {
        rig.wait_for_loss(disk.wwn, LIMIT)?;
    }
    rig.expect_in_log("non-operational !!!!")?;
    rig.detach()?;
    rig.running.knob(&["put-back"])?;
    rig.machine.check("echo 1 >/sys/bus/pci/rescan", LIMIT)?;
    rig.attach()?;
    let (_, device) = rig.disk(0)?;
    if checksum(rig, &device)? == before {
        Ok(())
    } else {
        Err("the disk holds something else when the card is back".to_owned())
    }
}
