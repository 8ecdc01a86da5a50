//! Tools that touch the start, the middle and the end of a disk.

use crate::vm::subject::Subject;

pub(super) fn tools_reach_every_end(subject: &mut Subject) -> Result<(), String> {
    let export = subject.export("")?;
    let device = export.devices[1].clone();
    let bytes = subject.disk(1)?.bytes;
    let (middle, last) = ((1_u64 << 41) + (1 << 30), bytes - (1 << 30));
    let script = format!(
        "set -e
         sgdisk --zap-all {device}
         sgdisk --new=1:0:+1G --new=2:0:+2T --new=3:-2G:0 {device}
         sgdisk --verify {device} | grep 'No problems found'
         sgdisk --print {device} | grep -c '^ *[123] ' | grep -x 3
         wipefs {device} | grep gpt
         wipefs --all {device}
         [ -z \"$(wipefs {device})\" ]
         for at in 1048576 {middle} {last}; do
             yes $at | head -c 1048576 | dd of={device} bs=1M seek=$at oflag=seek_bytes,direct iflag=fullblock conv=notrunc 2>/dev/null
             dd if={device} bs=1M skip=$at count=1 iflag=skip_bytes,direct 2>/dev/null | od -An -c -N1 | grep -qv '\\\\0'
             blkdiscard --zeroout --offset $at --length 67108864 {device}
             dd if={device} bs=1M skip=$at count=1 iflag=skip_bytes,direct 2>/dev/null | cmp -n 1048576 - /dev/zero
         done
         blkdiscard --force {device}"
    );
    subject.check(&script)?;
    subject.stop(export)
}
