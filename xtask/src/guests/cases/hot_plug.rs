//! Disks that come and go while the driver runs.

use std::time::Duration;

use crate::guests::disk::{Disk, Kind};
use crate::guests::rig::Rig;

const LIMIT: Duration = Duration::from_secs(60);

/// A slot that no other case uses.
const SLOT: &str = "5";

/// Likewise, of an expander.
const BAY: &str = "20";

const MIB: u64 = 1 << 20;

pub(super) fn a_disk_comes_and_goes(rig: &mut Rig) -> Result<(), String> {
    comes_and_goes(rig, SLOT)
}

pub(super) fn a_disk_comes_and_goes_in_a_bay(rig: &mut Rig) -> Result<(), String> {
    comes_and_goes(rig, BAY)
}

fn comes_and_goes(rig: &mut Rig, slot: &str) -> Result<(), String> {
    let first = spare(rig, "spare-1", 0x5000_c500_15ea_7200, 32 * MIB);
    let second = spare(rig, "spare-2", 0x5000_c500_15ea_7204, 48 * MIB);

    rig.running.knob(&["add-disk", &typed(&first, &format!(",slot={slot}"))])?;
    expect(rig, &first)?;

    rig.running.knob(&["swap-disk", slot, &typed(&second, "")])?;
    rig.wait_for_loss(first.wwn, LIMIT)?;
    expect(rig, &second)?;

    rig.running.knob(&["remove-disk", slot])?;
    rig.wait_for_loss(second.wwn, LIMIT)?;

    // The others have not noticed.
    for disk in rig.running.disks.clone() {
        expect(rig, &disk)?;
    }
    Ok(())
}

fn spare(rig: &Rig, name: &str, wwn: u64, bytes: u64) -> Disk {
    let file = rig.spare_file(name);
    // One that an earlier guest has used would have another size.
    let _ = std::fs::remove_file(&file);
    Disk { wwn, address: wwn + 1, bytes, slot: 0, kind: Kind::Plain, file }
}

pub(super) fn typed(disk: &Disk, more: &str) -> String {
    let file = disk.file.display().to_string().replace(',', ",,");
    format!("{file},size={},wwn={:016x}{more}", disk.bytes, disk.wwn)
}

/// Waits for a disk and uses it.
pub(super) fn expect(rig: &mut Rig, disk: &Disk) -> Result<(), String> {
    let name = rig.wait_for(disk, LIMIT)?;
    let script = format!(
        "cat /sys/block/{name}/size && \
         dd if=/dev/zero of=/dev/{name} bs=1M seek=1 count=2 oflag=direct 2>/dev/null && \
         dd if=/dev/{name} of=/dev/null bs=1M count=4 iflag=direct 2>/dev/null"
    );
    let size = rig.machine.check(&script, LIMIT)?;
    if size.trim() == (disk.bytes / 512).to_string() {
        Ok(())
    } else {
        Err(format!("{name} has {} blocks and not {}", size.trim(), disk.bytes / 512))
    }
}
