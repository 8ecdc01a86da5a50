//! An expander with disks of several kinds.

use std::time::Duration;

use crate::guests::disk::{Disk, Kind};
use crate::guests::rig::Rig;

const LIMIT: Duration = Duration::from_secs(60);

/// Slots of the controller's own phys; an expander's bays come after them.
const OWN_SLOTS: u32 = 8;

/// The transport's name of the end device that a disk hangs under, as a script: `$at`.
fn end_device(name: &str) -> String {
    format!(
        "path=$(cd /sys/block/{name}/device && pwd -P) && at=${{path#*/end_device}} && \
         at=end_device${{at%%/*}}"
    )
}

pub(super) fn it_is_found(rig: &mut Rig) -> Result<(), String> {
    let bays = rig.controller.bays.ok_or("the controller has no expander")?;
    let script = "cd /sys/class/sas_expander && ls | wc -l && cd expander* && \
         cat vendor_id product_id level && \
         cat /sys/class/sas_device/${PWD##*/}/device_type && \
         ls -d device/phy-* | wc -l";
    let said = rig.machine.check(script, LIMIT)?;
    let said: Vec<&str> = said.lines().map(str::trim).collect();
    let &[count, vendor, product, level, kind, phys] = said.as_slice() else {
        return Err(format!("sysfs tells something else of the expander: {said:?}"));
    };
    if count != "1" || level != "1" || kind != "edge expander" {
        return Err(format!("{count} expanders, the first of level {level} is an {kind:?}"));
    }
    if vendor.is_empty() || product.is_empty() {
        return Err("the expander's maker is not known: it does not answer SMP".to_owned());
    }
    // The bays, and the wide port of at least two phys to the controller.
    if !phys.parse::<u32>().is_ok_and(|phys| phys >= bays + 2) {
        return Err(format!("the expander has {phys} phys, which is too few for {bays} bays"));
    }
    Ok(())
}

pub(super) fn disks_hang_where_they_are(rig: &mut Rig) -> Result<(), String> {
    for disk in rig.running.disks.clone() {
        let name = rig.wait_for(&disk, LIMIT)?;
        let script = format!(
            "{} && cd /sys/class/sas_device/$at && cat bay_identifier enclosure_identifier && \
             case $path in */expander-*) echo expander;; *) echo controller;; esac && \
             cat /sys/block/{name}/size /sys/block/{name}/queue/logical_block_size && \
             cat /sys/block/{name}/queue/rotational && \
             cat /sys/block/{name}/device/scsi_disk/*/cache_type && \
             cat ${{path%%/end_device*}}/phy*/sas_phy/*/negotiated_linkrate",
            end_device(&name)
        );
        let said = rig.machine.check(&script, LIMIT)?;
        let said: Vec<&str> = said.lines().map(str::trim).collect();
        let &[bay, enclosure, parent, sectors, block, rotational, cache, ref rates @ ..] =
            said.as_slice()
        else {
            return Err(format!("sysfs tells something else of {name}: {said:?}"));
        };
        let in_bay = disk.slot >= OWN_SLOTS;
        let facts = [
            ("slot", bay, if in_bay { disk.slot - OWN_SLOTS } else { disk.slot }.to_string()),
            ("parent", parent, if in_bay { "expander" } else { "controller" }.to_owned()),
            ("number of sectors", sectors, (disk.bytes / 512).to_string()),
            ("block", block, if disk.kind == Kind::Big { "4096" } else { "512" }.to_owned()),
            ("rotation", rotational, if disk.kind == Kind::Big { "1" } else { "0" }.to_owned()),
            ("cache", cache, cache_of(&disk).to_owned()),
        ];
        for (what, found, expected) in facts {
            if found != expected {
                return Err(format!(
                    "the {what} of {name} in slot {} is {found:?} and not {expected:?}",
                    disk.slot
                ));
            }
        }
        if enclosure.trim_start_matches("0x").trim_start_matches('0').is_empty() {
            return Err(format!("{name} is in no enclosure"));
        }
        if !rates.iter().any(|rate| rate.contains("Gbit")) {
            return Err(format!("{name} has no link that is up: {rates:?}"));
        }
    }
    Ok(())
}

const fn cache_of(disk: &Disk) -> &'static str {
    match disk.kind {
        Kind::WriteThrough => "write through",
        _ => "write back",
    }
}

pub(super) fn a_sata_disk_is_translated(rig: &mut Rig) -> Result<(), String> {
    let (index, _) = of_kind(rig, Kind::Sata)?;
    let (disk, device) = rig.disk(index)?;
    let name = device.trim_start_matches("/dev/").to_owned();
    let script = format!(
        "sg_inq {device} && sg_vpd --page=ai {device} && sg_sat_identify {device} && {} && \
         cat /sys/class/sas_device/$at/target_port_protocols",
        end_device(&name)
    );
    let said = rig.machine.check(&script, LIMIT)?;
    let wwn = format!("{:x}", disk.wwn);
    for expected in
        ["Vendor identification: ATA", "ATA information", "Response for IDENTIFY", "sata"]
    {
        if !said.contains(expected) {
            return Err(format!(
                "of {name}, a SATA disk with the name {wwn}, {expected:?} is not said:\n{said}"
            ));
        }
    }
    Ok(())
}

fn of_kind(rig: &Rig, kind: Kind) -> Result<(usize, Disk), String> {
    let mut disks = rig.running.disks.iter().cloned().enumerate();
    disks.find(|(_, disk)| disk.kind == kind).ok_or_else(|| format!("there is no {kind:?} disk"))
}

pub(super) fn every_kind_holds_data(rig: &mut Rig) -> Result<(), String> {
    // At once, so that the expander's port is shared.
    let mut jobs = Vec::new();
    for index in 0..rig.running.disks.len() {
        let (disk, device) = rig.disk(index)?;
        let script = format!(
            "fio --name=kind --filename={device} --ioengine=libaio --direct=1 --iodepth=32 \
             --rw=randwrite --bssplit=4k/60:64k/30:256k/10 --size=16m --io_size=6m --verify=crc32c \
             --do_verify=1 --verify_fatal=1 --minimal && sg_sync {device}"
        );
        jobs.push((disk.slot, rig.machine.start(&script, LIMIT)?));
    }
    for (slot, job) in jobs {
        let output = rig.machine.finish(job)?;
        if output.status != 0 {
            return Err(format!("fio on the disk in slot {slot} ended so:\n{}", output.text));
        }
    }
    Ok(())
}
