//! What sg3-utils and sysfs say of a disk on our SAS1068, beside what they say of one on QEMU's.
//!
//! Both controllers carry disks of the same size and world wide name, under the same kernel and
//! driver. Every line that both answer has to be the same, but for those named here with a reason.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::guests::rig::Rig;
use crate::guests::workshop::Workshop;

const LIMIT: Duration = Duration::from_secs(60);

/// The controllers that are compared.
const OURS: &str = "our sas1068";
const PEER: &str = "QEMU's sas1068";

/// What is asked; `DISK` stands for the disk, `NAME` for its kernel name.
const QUESTIONS: &[&str] = &[
    "sg_inq DISK",
    "sg_vpd --page=sv DISK",
    "sg_vpd --page=di DISK",
    "sg_vpd --page=bl DISK",
    "sg_vpd --page=bdc DISK",
    "sg_vpd --page=lbpv DISK",
    "sg_readcap DISK",
    "sg_readcap --16 DISK",
    "sg_modes --page=8 DISK",
    "sg_luns DISK",
    "sg_turs --verbose DISK",
    "sg_requests DISK",
    "cat /sys/class/scsi_host/host*/proc_name /sys/block/NAME/device/type",
    "cat /sys/block/NAME/device/queue_depth /sys/block/NAME/queue/max_hw_sectors_kb",
    "cat /sys/block/NAME/device/queue_type /sys/block/NAME/device/state",
    "lspci -n -d 1000: | cut -d ' ' -f 2-",
    "cat /proc/mpt/ioc0/summary | cut -d , -f 1 | cut -d : -f 2",
];

/// A line that may differ.
struct Difference {
    /// What it is asked by starts so.
    question: &'static str,
    /// What it says of, which it starts with.
    line: &'static str,
    /// Why.
    #[allow(dead_code, reason = "the list is read by people, who must find a reason in it")]
    reason: &'static str,
}

/// All that may differ.
const DIFFERENCES: &[Difference] = &[
    differs("sg_inq", "PQual=0  PDT=0", "ours claims SPC-4, QEMU's SPC-3"),
    differs(
        "sg_inq",
        "[RelAdr=0]  WBus16=0",
        "SYNC is a bit of parallel SCSI, which a SAS disk leaves clear",
    ),
    differs("sg_inq", "length=", "ours returns the version descriptors too"),
    differs(
        "sg_inq",
        "[SPI: Clocking",
        "bytes of parallel SCSI that only a longer answer reaches, all zero",
    ),
    differs("sg_inq", "Vendor identification", "another disk names itself otherwise"),
    differs("sg_inq", "Product identification", "another disk names itself otherwise"),
    differs("sg_inq", "Product revision level", "another disk names itself otherwise"),
    differs("sg_vpd --page=sv", "Extended inquiry data", "a page that QEMU's disk does not have"),
    differs("sg_vpd --page=sv", "Mode page policy", "a page that QEMU's disk does not have"),
    differs(
        "sg_vpd --page=di",
        "designator type: Relative target port",
        "QEMU's disk names no port",
    ),
    differs("sg_vpd --page=di", "vendor specific: DISK1", "QEMU's disk names its drive of QEMU's"),
    differs("sg_vpd --page=di", "Target port:", "QEMU's disk names no port"),
    differs("sg_vpd --page=di", "transport: Serial Attached SCSI", "QEMU's disk names no port"),
    differs("sg_vpd --page=di", "0x5000c50015ea71b1", "QEMU's disk names no port"),
    differs("sg_vpd --page=di", "Relative target port: 0x1", "QEMU's disk names no port"),
    differs(
        "sg_vpd --page=bl",
        "Write same non-zero",
        "ours takes 0 blocks as all, as SBC lets it",
    ),
    differs("sg_vpd --page=bl", "Maximum compare and write length", "ours has the command"),
    differs(
        "sg_vpd --page=bl",
        "Optimal transfer length granularity",
        "ours has blocks of 4096 bytes inside",
    ),
    differs("sg_vpd --page=bl", "Maximum transfer length", "ours has no limit"),
    differs("sg_vpd --page=bl", "Maximum unmap LBA count", "a limit of the disk's own"),
    differs(
        "sg_vpd --page=bl",
        "Maximum unmap block descriptor count",
        "a limit of the disk's own",
    ),
    differs(
        "sg_vpd --page=bl",
        "Unmap granularity alignment",
        "ours says that it is 0, QEMU's nothing",
    ),
    differs("sg_vpd --page=bl", "Maximum write same length", "a limit of the disk's own"),
    differs("sg_vpd --page=bdc", "Non-rotating medium", "ours is of flash, QEMU's does not say"),
    differs(
        "sg_vpd --page=bdc",
        "Medium rotation rate is not reported",
        "ours is of flash, QEMU's does not say",
    ),
    differs("sg_vpd --page=bdc", "Nominal form factor", "QEMU's does not say"),
    differs("sg_vpd --page=lbpv", "LBPRZ", "unmapped blocks of ours read as zeros"),
    differs(
        "sg_readcap",
        "Logical block provisioning: lbpme=1",
        "unmapped blocks of ours read as zeros",
    ),
    differs(
        "sg_readcap",
        "Logical blocks per physical block",
        "ours has blocks of 4096 bytes inside",
    ),
    differs("sg_modes", "FUSION ", "another disk names itself otherwise"),
    differs("sg_modes", "QEMU ", "another disk names itself otherwise"),
    differs(
        "sg_modes",
        "00     ff ff ff ff 00 00 02 00",
        "more blocks than four bytes count: SPC wants all ones",
    ),
    differs(
        "sg_modes",
        "00     00 00 00 00 00 00 02 00",
        "more blocks than four bytes count: QEMU's says 0",
    ),
    differs("sg_modes", "00     88 12 04", "PS: ours can save the page"),
    differs("sg_modes", "00     08 12 04", "PS: QEMU's cannot save the page"),
    differs(
        "lspci",
        "0100: 1000:0054",
        "ours is of revision 1, as cards are that were sold, QEMU's 0",
    ),
    differs("cat /proc/mpt", "LSISAS1068", "the driver's name for the revision"),
];

const fn differs(question: &'static str, line: &'static str, reason: &'static str) -> Difference {
    Difference { question, line, reason }
}

/// Boots both guests and asks both; an error names every line that differs without a reason.
pub(crate) fn compare(workshop: &Workshop) -> Result<(), String> {
    let ours = answers(workshop, OURS)?;
    let peer = answers(workshop, PEER)?;
    let mut compared = 0;
    let mut wrong = Vec::new();
    for question in QUESTIONS {
        let (Some(ours), Some(peer)) = (ours.get(question), peer.get(question)) else {
            continue;
        };
        compared += 1;
        for (ours, peer) in differing_lines(ours, peer) {
            let allowed = DIFFERENCES.iter().any(|difference| {
                question.starts_with(difference.question)
                    && (ours.starts_with(difference.line) || peer.starts_with(difference.line))
            });
            if !allowed {
                wrong.push(format!("{question}: ours {ours:?}, QEMU's {peer:?}"));
            }
        }
    }
    // Answers that fail on both sides would compare nothing.
    if compared < QUESTIONS.len() / 2 {
        return Err(format!(
            "only {compared} of {} questions were answered by both",
            QUESTIONS.len()
        ));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Lines that differ. Lines about one thing start with the same words, so that a line that only
/// one side has does not shift all that follow.
fn differing_lines<'a>(ours: &'a str, peer: &'a str) -> Vec<(&'a str, &'a str)> {
    let subject = |line: &'a str| line.split([':', '=']).next().unwrap_or(line);
    let left = |text: &'a str, other: &'a str| -> Vec<&'a str> {
        let others: Vec<&str> = other.lines().map(str::trim).collect();
        text.lines().map(str::trim).filter(|line| !others.contains(line)).collect()
    };
    let (mut mine, theirs) = (left(ours, peer), left(peer, ours));
    let mut pairs = Vec::new();
    for their in theirs {
        let at = mine.iter().position(|line| subject(line) == subject(their));
        let line = at.map_or("", |at| mine.remove(at));
        pairs.push((line, their));
    }
    pairs.extend(mine.into_iter().map(|line| (line, "")));
    pairs
}

/// What a controller's second disk answers, for each question that it does answer.
fn answers(workshop: &Workshop, name: &str) -> Result<BTreeMap<&'static str, String>, String> {
    let mut rig = Rig::alone(workshop, name, "answers", 1)?;
    let (_, device) = rig.disk(1)?;
    let kernel_name = device.trim_start_matches("/dev/").to_owned();
    let mut answers = BTreeMap::new();
    for question in QUESTIONS {
        let script = question.replace("DISK", &device).replace("NAME", &kernel_name);
        let output = rig.machine.run(&script, LIMIT)?;
        if output.status == 0 {
            answers.insert(*question, output.text.replace(&device, "DISK"));
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_differ_are_paired() {
        let ours = "a: 1\nb: 2\nd: 4\n";
        let peer = "a: 1\nb: 3\nc: 5\n";
        assert_eq!(differing_lines(ours, peer), [("b: 2", "b: 3"), ("", "c: 5"), ("d: 4", "")]);
        assert_eq!(differing_lines(ours, ours), []);
    }

    #[test]
    fn every_difference_is_of_a_question_that_is_asked() {
        for difference in DIFFERENCES {
            assert!(QUESTIONS.iter().any(|question| question.starts_with(difference.question)));
        }
    }
}
