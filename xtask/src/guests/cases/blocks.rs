//! Commands to a disk that are neither read nor write.

use std::time::Duration;

use crate::guests::cases::data::write_pattern;
use crate::guests::rig::Rig;

const LIMIT: Duration = Duration::from_secs(60);

/// Beyond what four bytes can number, so that the long forms of commands are used.
const OFFSET: u64 = 5 << 39;

pub(super) fn unmapped_blocks_are_zeros(rig: &mut Rig) -> Result<(), String> {
    let (_, device) = rig.disk(1)?;
    let lba = OFFSET / 512;
    let ways = [
        format!("sg_unmap --force --lba={lba} --num=256 {device}"),
        format!("sg_write_same --16 --unmap --lba={lba} --num=256 {device}"),
        format!("sg_write_same --16 --in=/dev/zero --xferlen=512 --lba={lba} --num=256 {device}"),
        format!("blkdiscard --offset {OFFSET} --length 131072 {device}"),
    ];
    for way in ways {
        write_pattern(rig, &device, OFFSET, 32)?;
        rig.machine.check(&way, LIMIT)?;
        let script = format!(
            "dd if={device} bs=4096 skip={} count=32 iflag=direct 2>/dev/null | cmp -n 131072 - /dev/zero",
            OFFSET / 4096
        );
        let output = rig.machine.run(&script, LIMIT)?;
        if output.status != 0 {
            return Err(format!("the blocks are not zeros after `{way}`: {}", output.text));
        }
    }
    Ok(())
}

pub(super) fn every_tool_reads_what_is_claimed(rig: &mut Rig) -> Result<(), String> {
    let (disk, device) = rig.disk(1)?;
    let wwn = format!("{:016x}", disk.wwn);
    let last = (disk.bytes / 512 - 1).to_string();
    let tools: [(&str, &[&str]); 12] = [
        ("sg_inq", &["Peripheral device type: disk", "Product identification"]),
        ("sg_vpd --page=sv", &["Device identification", "Block limits"]),
        ("sg_vpd --page=di", &[&wwn]),
        ("sg_vpd --page=sn", &["Unit serial number"]),
        ("sg_vpd --page=bl", &["Maximum unmap LBA count"]),
        ("sg_vpd --page=bdc", &["otating medium"]),
        ("sg_vpd --page=lbpv", &["LBPU=1"]),
        ("sg_readcap --16", &[&last, "lbpme=1"]),
        ("sg_modes --all", &["Caching", "Control"]),
        ("sg_luns", &["Lun list length = 8"]),
        ("sg_opcodes", &["Read(10)", "Write(16)", "Synchronize cache"]),
        ("sg_logs --all", &["Supported log pages"]),
    ];
    for (tool, expected) in tools {
        let said = rig.machine.check(&format!("{tool} {device}"), LIMIT)?;
        if let Some(missing) = expected.iter().find(|part| !said.contains(**part)) {
            return Err(format!("{tool} does not say {missing:?}:\n{said}"));
        }
    }
    rig.machine.check(&format!("sg_verify --lba=0 --count=64 {device}"), LIMIT).map(drop)
}
