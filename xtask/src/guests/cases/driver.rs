//! The driver's own comings and goings.

use std::time::Duration;

use crate::guests::cases::data::{expect_pattern, write_pattern};
use crate::guests::rig::Rig;

const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn unloads_and_loads_again(rig: &mut Rig) -> Result<(), String> {
    let (_, device) = rig.disk(0)?;
    let sum = format!("dd if={device} bs=64k count=16 iflag=direct 2>/dev/null | md5sum");
    let before = rig.machine.check(&sum, LIMIT)?;
    for _ in 0..2 {
        rig.detach()?;
        for disk in rig.running.disks.clone() {
            rig.wait_for_loss(disk.wwn, LIMIT)?;
        }
        rig.attach()?;
    }
    let (_, device) = rig.disk(0)?;
    let sum = format!("dd if={device} bs=64k count=16 iflag=direct 2>/dev/null | md5sum");
    let after = rig.machine.check(&sum, LIMIT)?;
    if before == after {
        Ok(())
    } else {
        Err(format!("the first MiB has changed: {before} is now {after}"))
    }
}

pub(super) fn survives_a_reboot(rig: &mut Rig) -> Result<(), String> {
    rig.reboot()?;
    rig.attach()?;
    let (_, device) = rig.disk(0)?;
    rig.machine
        .check(&format!("dd if={device} of=/dev/null bs=1M count=16 iflag=direct"), LIMIT)
        .map(drop)
}

pub(super) fn a_second_guest_takes_over(rig: &mut Rig) -> Result<(), String> {
    let (disk, device) = rig.disk(0)?;
    let offset = 40 << 20;
    write_pattern(rig, &device, offset, 64)?;
    let script = format!(
        "fio --name=load --filename={device} --ioengine=libaio --direct=1 --iodepth=32 --bs=64k \
         --rw=randwrite --size=32m --time_based --runtime=30 --minimal"
    );
    let _abandoned = rig.machine.start(&script, LIMIT)?;
    std::thread::sleep(Duration::from_secs(2));
    rig.replace_guest()?;
    rig.attach()?;
    let (_, device) = rig.disk(0)?;
    let script = format!(
        "dd if={device} bs=4096 skip={} count=64 iflag=direct 2>/dev/null | md5sum; \
         yes {offset} | head -c 262144 | md5sum",
        offset / 4096
    );
    let sums = rig.machine.check(&script, LIMIT)?;
    let sums: Vec<&str> = sums.lines().collect();
    if sums.len() != 2 || sums[0] != sums[1] {
        return Err(format!("the second guest does not read what the first one wrote: {sums:?}"));
    }
    rig.machine.check(&format!("sg_sync {device}"), LIMIT)?;
    expect_pattern(&disk, offset, 64)
}
