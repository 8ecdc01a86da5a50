//! RAID volumes of the controller's own.

use std::time::Duration;

use crate::guests::cases::hot_plug::{expect, typed};
use crate::guests::disk::{Disk, Kind};
use crate::guests::rig::Rig;

const LIMIT: Duration = Duration::from_secs(60);

/// Slots that no other case uses.
const MEMBERS: [&str; 2] = ["1", "2"];

const MIB: u64 = 1 << 20;

/// The disks that become members; their files are made anew when they are plugged in.
fn members(rig: &Rig) -> [Disk; 2] {
    let member = |name, wwn| Disk {
        wwn,
        address: wwn + 1,
        bytes: 64 * MIB,
        slot: 0,
        kind: Kind::Plain,
        file: rig.spare_file(name),
    };
    [member("member-1", 0x5000_c500_15ea_7300), member("member-2", 0x5000_c500_15ea_7304)]
}

/// Plugs members in and makes a volume of them; the guest's name of its disk.
fn create(rig: &mut Rig) -> Result<String, String> {
    let members = members(rig);
    for (member, slot) in members.iter().zip(MEMBERS) {
        let _ = std::fs::remove_file(&member.file);
        rig.running.knob(&["add-disk", &typed(member, &format!(",slot={slot}"))])?;
    }
    for member in &members {
        expect(rig, member)?;
    }
    let names = "ls /sys/block | grep '^sd' | sort";
    let before = rig.machine.check(names, LIMIT)?;
    let file = rig.spare_file("volume");
    let _ = std::fs::remove_file(&file);
    let file = format!("{},size=60M", file.display().to_string().replace(',', ",,"));
    rig.running.knob(&["create-volume", "raid1", &MEMBERS.join(","), &file])?;
    // A driver hides members by taking their disks away.
    for member in &members {
        rig.wait_for_loss(member.wwn, LIMIT)?;
    }
    volume(rig).map_err(|error| format!("{error}\nbefore there were: {before}"))
}

/// The guest's name of a volume's disk: it hangs under no end device.
fn volume(rig: &mut Rig) -> Result<String, String> {
    let script = "for disk in /sys/block/sd*; do \
         case $(cd $disk/device && pwd -P) in */end_device-*) ;; *) found=${disk##*/};; esac; \
         done; test -n \"$found\" && echo $found";
    Ok(rig.machine.wait_until(script, LIMIT)?.trim().to_owned())
}

/// Undoes what [`create`] has made.
fn remove(rig: &mut Rig) -> Result<(), String> {
    let said = rig.running.knob(&["status", "--json"])?;
    let parsed: serde_json::Value =
        serde_json::from_str(&said).map_err(|error| error.to_string())?;
    let handle = parsed.pointer("/status/volumes/0/handle").and_then(serde_json::Value::as_u64);
    let handle = handle.ok_or_else(|| format!("no volume has a handle in {said}"))?;
    rig.running.knob(&["delete-volume", &handle.to_string()])?;
    // Members are seen again, as disks of their own.
    let members = members(rig);
    for member in &members {
        rig.wait_for(member, LIMIT)?;
    }
    rig.machine.check("sleep 2", LIMIT)?;
    for (member, slot) in members.iter().zip(MEMBERS) {
        rig.running.knob(&["remove-disk", slot])?;
        rig.wait_for_loss(member.wwn, LIMIT)?;
    }
    Ok(())
}

pub(super) fn a_volume_is_one_disk(rig: &mut Rig) -> Result<(), String> {
    let name = create(rig)?;
    let script = format!(
        "sg_inq /dev/{name} && \
         dd if=/dev/urandom of=/run/data bs=1M count=4 2>/dev/null && \
         dd if=/run/data of=/dev/{name} bs=1M oflag=direct 2>/dev/null && \
         dd if=/dev/{name} bs=1M count=4 iflag=direct 2>/dev/null | cmp - /run/data"
    );
    rig.machine.check(&script, LIMIT)?;
    let state = "cat /sys/class/raid_devices/*/state";
    let found = rig.machine.check(state, LIMIT)?;
    if found.trim() != "active" && found.trim() != "optimal" {
        return Err(format!("the volume's state is {:?}", found.trim()));
    }
    rig.running.knob(&["member", MEMBERS[1], "failed"])?;
    rig.machine.wait_until(&format!("{state} | grep degraded"), LIMIT)?;
    // It still reads.
    rig.machine.check(
        &format!("dd if=/dev/{name} bs=1M count=4 iflag=direct 2>/dev/null | cmp - /run/data"),
        LIMIT,
    )?;
    rig.running.knob(&["member", MEMBERS[1], "optimal"])?;
    remove(rig)
}

pub(super) fn a_volume_survives_the_driver(rig: &mut Rig) -> Result<(), String> {
    create(rig)?;
    // A driver that finds volumes when it is loaded tells the firmware when it leaves.
    rig.detach()?;
    rig.attach()?;
    volume(rig)?;
    rig.detach()?;
    rig.expect_in_log("IR shutdown (complete): ioc_status(0x0000)")?;
    rig.attach()?;
    volume(rig)?;
    remove(rig)
}
