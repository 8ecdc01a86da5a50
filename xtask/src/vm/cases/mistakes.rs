//! What people get wrong.

use std::time::Duration;

use crate::guests::rig::fio_field;
use crate::vm::subject::LIMIT;
use crate::vm::subject::Subject;

pub(super) fn no_controller_there(subject: &mut Subject) -> Result<(), String> {
    let before = bound(subject)?;
    subject.refused("bind 0000:77:00.0", &["0000:77:00.0"])?;
    // QEMU's machine has a SATA controller there.
    let there = subject.address.clone();
    subject.refused("bind 0000:00:1f.2", &["0000:00:1f.2", &there])?;
    subject.refused("bind somewhere", &["somewhere"])?;
    subject.refused("list --bus 0000:77:00.0", &["0000:77:00.0"])?;
    subject.refused("list --bus 0000:00:1f.2", &["0000:00:1f.2"])?;
    subject.refused("unbind 0000:00:1f.2", &["0000:00:1f.2"])?;
    let after = bound(subject)?;
    if before == after { Ok(()) } else { Err(format!("{before} has become {after}")) }
}

/// Which driver has which device, for all that are on PCI; and what was asked for.
fn bound(subject: &mut Subject) -> Result<String, String> {
    let script = "cd /sys/bus/pci/devices && for device in *; do
        echo $device $(readlink $device/driver) $(cat $device/driver_override)
    done";
    subject.check(script)
}

pub(super) fn bound_elsewhere(subject: &mut Subject) -> Result<(), String> {
    subject.give_to_kernel()?;
    let module = subject.rig.controller.modules[0];
    let address = subject.address.clone();
    let remedy = format!("mptctl bind {address}");
    for command in ["list", "export"] {
        subject.refused(&format!("{command} --bus {address}"), &[module, &remedy])?;
    }
    subject.expect_driver(Some(module))
}

pub(super) fn in_use(subject: &mut Subject) -> Result<(), String> {
    let export = subject.export("")?;
    let address = subject.address.clone();
    let second = subject
        .refused(&format!("list --bus {address}"), &[&address, "another program"])
        .and_then(|()| subject.refused(&format!("unbind {address}"), &[&address, "mptctl"]));
    // The first has not noticed.
    let read = format!("dd if={} of=/dev/null bs=1M count=4 iflag=direct 2>&1", export.devices[0]);
    subject.check(&read)?;
    subject.stop(export)?;
    second
}

pub(super) fn no_permission(subject: &mut Subject) -> Result<(), String> {
    subject.give_to_user()?;
    let address = subject.address.clone();
    let user = "setpriv --reuid=1000 --regid=1000 --clear-groups";
    let list = format!("{user} mptctl -q list --bus {address}");
    let group = subject.check(&format!(
        "group=$(readlink /sys/bus/pci/devices/{address}/iommu_group) && echo /dev/vfio/${{group##*/}}"
    ))?;
    let group = group.trim();
    let output = subject.rig.machine.run(&list, LIMIT)?;
    if output.status != 1 || !output.text.contains(group) {
        return Err(format!(
            "a stranger's list ended with {} and does not name {group}:\n{}",
            output.status, output.text
        ));
    }
    subject.check(&format!("chown 1000 {group}"))?;
    let allowed = subject.rig.machine.run(&format!("ulimit -l unlimited; {list}"), LIMIT)?;
    // What may be locked counts where a driver maps memory, and then the limit has to be named.
    let limited = subject.rig.machine.run(&format!("ulimit -l 64; {list}"), LIMIT)?;
    let bind = format!("{user} mptctl -q unbind {address}");
    let stranger = subject.rig.machine.run(&bind, LIMIT)?;
    subject.check(&format!("chown 0 {group}"))?;
    if allowed.status != 0 {
        return Err(format!("the group's owner is refused:\n{}", allowed.text));
    }
    if limited.status != 1 || !limited.text.contains("ulimit -l") {
        return Err(format!(
            "with 64 KiB to lock, list ended with {}:\n{}",
            limited.status, limited.text
        ));
    }
    if stranger.status != 1 || !stranger.text.contains("root") {
        return Err(format!(
            "a stranger's unbind ended with {}:\n{}",
            stranger.status, stranger.text
        ));
    }
    subject.expect_driver(Some(subject.way.driver()))
}

pub(super) fn a_full_queue(subject: &mut Subject) -> Result<(), String> {
    let export = subject.export("")?;
    // More than any controller takes at once.
    let script = format!(
        "fio --name=full --filename={} --ioengine=libaio --direct=1 --iodepth=512 --numjobs=4 \
         --group_reporting --rw=randwrite --bs=4k --size=8m --offset_increment=8m \
         --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_dump=0 --minimal",
        export.devices[0]
    );
    let said = subject.check(&script)?;
    if fio_field(&said, 5) != Some("0") {
        return Err(format!("fio reports errors:\n{said}"));
    }
    subject.stop(export)?;
    let perf = "perf --depth 100000 --time 1";
    let output = subject.mptctl(&format!("{perf} --bus {}", subject.address))?;
    // It is a sentence or it is done.
    if output.status > 2 {
        return Err(format!("mptctl {perf} ended with {}:\n{}", output.status, output.text));
    }
    Ok(())
}

pub(super) fn the_path_is_taken(subject: &mut Subject) -> Result<(), String> {
    subject.give_to_user()?;
    let words = |bus: &str| format!("export --bus {bus} --nbd unix:/run/taken");
    let ours = words(&subject.address);
    subject.check("echo mine >/run/taken")?;
    subject.refused(&ours, &["/run/taken"])?;
    subject.check("[ \"$(cat /run/taken)\" = mine ] && rm /run/taken")?;
    // And by another export, of a controller in software.
    let serving = format!("mptctl -q {} >/run/first 2>&1", words("mock:sas3008"));
    let first = subject.rig.machine.start(&serving, Duration::from_secs(90))?;
    subject.rig.machine.wait_until("[ -e /run/taken ]", LIMIT)?;
    let refused = subject.refused(&ours, &["/run/taken"]);
    subject.check("kill $(pidof mptctl)")?;
    subject.rig.machine.finish(first)?;
    refused?;
    subject.check("[ ! -e /run/taken ]").map(drop)
}
