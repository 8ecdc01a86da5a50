//! The driver's own comings and goings.

use std::time::Duration;

use crate::guests::group::Rig;

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
