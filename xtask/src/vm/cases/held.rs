//! Controllers whose disks somebody uses.

use crate::vm::subject::Subject;

/// Who holds a disk: how it comes about, how it ends, and what has to be said of it.
const HOLDERS: &[(&str, &str, &[&str])] = &[
    (
        "mkfs.ext4 -q -F $disk && mkdir -p /mnt/held && mount -t ext4 $disk /mnt/held",
        "umount /mnt/held",
        &["/mnt/held", "mounted"],
    ),
    ("mkswap $disk && swapon $disk", "swapoff $disk && wipefs -q --all $disk", &["swap"]),
    (
        "modprobe dm_mod && echo \"0 2048 linear $disk 0\" | dmsetup create held",
        "dmsetup remove held",
        &["held"],
    ),
    (
        "modprobe raid1 && mdadm --create /dev/md7 --run --force --level=1 --raid-devices=1 $disk",
        "mdadm --stop /dev/md7 && mdadm --zero-superblock $disk",
        &["md7"],
    ),
    (
        "sgdisk --new=1:0:+16M $disk >/dev/null && sleep 1 && \
         mkfs.ext4 -q -F ${disk}1 && mount -t ext4 ${disk}1 /mnt/held",
        "umount /mnt/held && sgdisk --zap-all $disk >/dev/null",
        &["/mnt/held"],
    ),
];

pub(super) fn the_holder_is_named(subject: &mut Subject) -> Result<(), String> {
    subject.give_to_kernel()?;
    let module = subject.rig.controller.modules[0];
    let words = format!("bind {}", subject.address);
    for (hold, release, told) in HOLDERS {
        let disk = subject.kernels(0)?;
        subject.check(&format!("disk={disk}; {{ {hold}; }} 2>&1"))?;
        let mut all = vec![disk.trim_start_matches("/dev/")];
        all.extend(told.iter());
        let refused = subject.refused(&words, &all);
        let bound = subject.expect_driver(Some(module));
        subject.check(&format!("disk={disk}; {{ {release}; }} 2>&1"))?;
        refused.and(bound)?;
    }
    subject.bind().map(drop)
}
