//! Exports that end: asked to, or killed.

use std::time::Duration;

use crate::vm::subject::Subject;

pub(super) fn an_end_under_load(subject: &mut Subject) -> Result<(), String> {
    subject.give_to_kernel()?;
    let module = subject.rig.controller.modules[0];
    subject.bind()?;
    let export = subject.export("--restore")?;
    let device = export.devices[0].clone();
    let load = format!(
        "fio --name=load --filename={device} --ioengine=libaio --direct=1 --iodepth=16 \
         --rw=randwrite --bs=64k --size=32m --time_based --runtime=60 --minimal"
    );
    subject.check("dd if=/dev/urandom of=/run/last bs=1M count=4 2>&1")?;
    // Written and not flushed: that is the export's part.
    subject.check(&format!("dd if=/run/last of={device} bs=1M seek=56 oflag=direct 2>&1"))?;
    let load = subject.rig.machine.start(&load, Duration::from_secs(90))?;
    std::thread::sleep(Duration::from_secs(2));
    subject.stop(export)?;
    // It has lost its device, and says so.
    let loaded = subject.rig.machine.finish(load)?;
    if loaded.status == 0 {
        return Err(format!("the load did not notice that its device went:\n{}", loaded.text));
    }
    subject.expect_driver(Some(module))?;
    subject.give_to_kernel()?;
    let device = subject.kernels(0)?;
    let script = format!(
        "dd if={device} of=/run/back bs=1M skip=56 count=4 iflag=direct 2>/dev/null && \
         cmp /run/last /run/back"
    );
    subject.check(&script).map(drop)
}

pub(super) fn a_mounted_file_system_survives_a_kill(subject: &mut Subject) -> Result<(), String> {
    let export = subject.export("")?;
    let device = export.devices[0].clone();
    subject.check(&format!(
        "set -e
         mkfs.ext4 -q -F {device}
         mkdir -p /mnt/disk
         mount -t ext4 {device} /mnt/disk
         dd if=/dev/urandom of=/mnt/disk/before bs=1M count=4 conv=fsync 2>&1
         md5sum /mnt/disk/before >/run/sums"
    ))?;
    subject.kill(export)?;
    // A write that nobody serves yet: it has to wait for the next export and then be done.
    let waiting = "dd if=/dev/urandom of=/mnt/disk/between bs=1M count=4 conv=fsync 2>&1 && \
                   md5sum /mnt/disk/between >>/run/sums";
    let waiting = subject.rig.machine.start(waiting, Duration::from_secs(60))?;
    let export = subject.export("")?;
    if export.devices[0] != device {
        return Err(format!("the disk was {device} and is {} now", export.devices[0]));
    }
    let waited = subject.rig.machine.finish(waiting)?;
    if waited.status != 0 {
        return Err(format!("what waited for the next export has failed:\n{}", waited.text));
    }
    subject.check(&format!(
        "set -e
         dd if=/dev/urandom of=/mnt/disk/after bs=1M count=4 conv=fsync 2>&1
         md5sum /mnt/disk/after >>/run/sums
         echo 3 >/proc/sys/vm/drop_caches
         md5sum -c -s /run/sums
         umount /mnt/disk
         fsck.ext4 -f -n {device}"
    ))?;
    subject.stop(export)
}
