//! What a block device says of itself.

use crate::vm::subject::Subject;

/// What both have to say alike, under `/sys/block/NAME`.
const SAME: &[&str] = &["size", "ro", "queue/logical_block_size", "queue/write_cache"];

/// Likewise, where the block device is one of ublk: older kernels' NBD asks nobody.
const SAME_IN_UBLK: &[&str] = &["queue/rotational", "queue/fua"];

/// What both have to do or both not, however much at once.
const BOTH: &[&str] = &["queue/discard_max_bytes"];

pub(super) fn claims_are_the_kernels(subject: &mut Subject) -> Result<(), String> {
    subject.give_to_kernel()?;
    let devices = [subject.kernels(0)?, subject.kernels(1)?];
    let kernels = claims(subject, &devices)?;
    let export = subject.export("")?;
    let ours = claims(subject, &export.devices.clone())?;
    subject.stop(export)?;
    if kernels == ours {
        return Ok(());
    }
    Err(format!("of the kernel's driver:\n{kernels}\nof ours:\n{ours}"))
}

fn claims(subject: &mut Subject, devices: &[String]) -> Result<String, String> {
    let mut same = SAME.to_vec();
    if subject.ublk {
        same.extend(SAME_IN_UBLK);
    }
    let (same, both) = (same.join(" "), BOTH.join(" "));
    let mut all = String::new();
    for device in devices {
        let name = device.trim_start_matches("/dev/");
        let script = format!(
            "cd /sys/block/{name} && for claim in {same}; do echo \"$claim $(cat $claim)\"; done
             for claim in {both}; do [ $(cat $claim) -gt 0 ] && echo \"$claim yes\" || echo \"$claim no\"; done"
        );
        all.push_str(&subject.check(&script)?);
    }
    Ok(all)
}
