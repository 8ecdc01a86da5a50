//! What a guest finds out about its disks.

use std::time::Duration;

use crate::guests::rig::Rig;

const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn each_disk_is_what_it_is(rig: &mut Rig) -> Result<(), String> {
    let count = rig.machine.check("ls -d /sys/block/sd* | wc -l", LIMIT)?;
    let expected = rig.running.disks.len();
    if count.trim() != expected.to_string() {
        return Err(format!("the guest has {} disks instead of {expected}", count.trim()));
    }
    for disk in rig.running.disks.clone() {
        let name = rig.wait_for(&disk, LIMIT)?;
        let sectors = rig.machine.check(&format!("cat /sys/block/{name}/size"), LIMIT)?;
        if sectors.trim() != (disk.bytes / 512).to_string() {
            return Err(format!("{name} has {} sectors of {} bytes", sectors.trim(), disk.bytes));
        }
        let cache = rig
            .machine
            .check(&format!("cat /sys/block/{name}/device/scsi_disk/*/cache_type"), LIMIT)?;
        if cache.trim() != "write back" {
            return Err(format!("the cache of {name} is {:?} and not write back", cache.trim()));
        }
        // The transport's own view: the end device that the disk hangs under.
        let script = format!(
            "at=$(cd /sys/block/{name}/device && pwd -P) && at=${{at#*/end_device}} && \
             cat /sys/class/sas_device/end_device${{at%%/*}}/sas_address"
        );
        let address = rig.machine.check(&script, LIMIT)?;
        if u64::from_str_radix(address.trim().trim_start_matches("0x"), 16) != Ok(disk.address) {
            return Err(format!(
                "{name} has the SAS address {} and not {:#018x}",
                address.trim(),
                disk.address
            ));
        }
    }
    let tools = rig.machine.check("lsscsi --size --transport && lspci -nn", LIMIT)?;
    let listed =
        tools.lines().filter(|line| line.contains("disk") && line.contains("sas:")).count();
    if listed != expected {
        return Err(format!("lsscsi lists {listed} SAS disks instead of {expected}:\n{tools}"));
    }
    Ok(())
}
