//! What people do with a block device.

use crate::guests::rig::fio_field;
use crate::vm::subject::Subject;

/// One of every size of a request that drivers split differently.
const SIZES: &str = "512/20:4k/30:16k/20:64k/15:256k/10:1m/5";

pub(super) fn a_file_system_holds(subject: &mut Subject) -> Result<(), String> {
    let export = subject.export("")?;
    let device = &export.devices[0];
    let script = format!(
        "set -e
         mkfs.ext4 -q -F {device}
         mkdir -p /mnt/disk
         mount -t ext4 {device} /mnt/disk
         tar -C /usr -cf /run/tree.tar bin sbin
         tar -C /mnt/disk -xf /run/tree.tar
         rm /run/tree.tar
         (cd /usr && md5sum bin/* sbin/*) >/run/sums
         umount /mnt/disk
         fsck.ext4 -f -n {device}
         mount -t ext4 {device} /mnt/disk
         (cd /mnt/disk && md5sum -c -s /run/sums)
         umount /mnt/disk"
    );
    subject.check(&script)?;
    subject.stop(export)
}

pub(super) fn fio_verifies(subject: &mut Subject) -> Result<(), String> {
    let export = subject.export("")?;
    let script = format!(
        "fio --name=verify --filename={} --ioengine=libaio --direct=1 --iodepth=32 --rw=randrw \
         --bssplit={SIZES} --size=48m --io_size=32m --verify=crc32c --do_verify=1 \
         --verify_fatal=1 --verify_dump=0 --minimal",
        export.devices[0]
    );
    let said = subject.check(&script)?;
    // The number of errors.
    if fio_field(&said, 5) != Some("0") {
        return Err(format!("fio reports errors:\n{said}"));
    }
    subject.stop(export)
}
