//! Disks behind software controllers, asked how they do.

use fusion_mpt_mock::model::Chip;
use fusion_mpt_mock::target::Exception;

use super::*;
use crate::rig::{CHIPS, disk, on};

/// Plugs a disk in and asks it, after `before` has had its turn.
fn ask_one(
    chip: Chip,
    sata: bool,
    before: impl Fn(&mut dyn Host, &Buffer, &Target) -> Result<(), Error>,
    prepare: impl FnOnce(&mut fusion_mpt_mock::target::Target),
) -> Report {
    on(
        chip,
        |model| {
            let mut disk = disk(0, sata);
            prepare(&mut disk);
            model.add_disk(0, disk).expect("free");
        },
        |host, _| {
            let buffer = host.allocate(ANSWER_BYTES)?;
            let target = host.targets()[0];
            before(host, &buffer, &target)?;
            examine(host, &buffer, &target)
        },
    )
}

#[test]
fn a_healthy_disk_passes_on_every_generation() {
    for chip in CHIPS {
        for sata in [false, true] {
            let report = ask_one(chip, sata, |_, _, _| Ok(()), |_| {});
            assert_eq!(report.health, Verdict::Passed, "{} {report:?}", chip.name);
            assert_eq!((report.temperature, report.reasons.len()), (Some(30), 0));
            assert_eq!((report.sas.is_some(), report.sata.is_some()), (!sata, sata));
            assert_eq!(report.serial, "TESTDISK0");
        }
    }
}

#[test]
fn a_disk_that_predicts_its_failure_fails_by_log_page_and_by_smart() {
    let exception = Exception { asc: 0x5d, ascq: 0x10 };
    for chip in CHIPS {
        for sata in [false, true] {
            let prepare = |disk: &mut fusion_mpt_mock::target::Target| {
                disk.predict_failure(Some(exception));
            };
            let report = ask_one(chip, sata, |_, _, _| Ok(()), prepare);
            assert_eq!(report.health, Verdict::Failing, "{} {report:?}", chip.name);
            let reasons = report.reasons.join("; ");
            match sata {
                true => {
                    assert!(reasons.contains("a threshold is exceeded"), "{reasons}");
                    assert!(reasons.contains("attribute 5 reallocated sectors is 1"), "{reasons}");
                }
                false => assert!(reasons.contains("5d/10"), "{reasons}"),
            }
        }
    }
}

#[test]
fn a_warning_is_no_failure() {
    let prepare = |disk: &mut fusion_mpt_mock::target::Target| {
        disk.predict_failure(Some(Exception { asc: 0x0b, ascq: 0x01 }));
    };
    let report = ask_one(Chip::SAS3008, false, |_, _, _| Ok(()), prepare);
    assert_eq!((report.health, report.health.is_bad()), (Verdict::Warning, true));
}

#[test]
fn self_tests_are_begun_and_told_of() {
    for chip in [Chip::SAS1068, Chip::SAS3816] {
        for sata in [false, true] {
            let run = |host: &mut dyn Host, buffer: &Buffer, target: &Target| {
                start(host, buffer, target, SelfTestKind::Short)?;
                start(host, buffer, target, SelfTestKind::Long)?;
                start(host, buffer, target, SelfTestKind::Abort)
            };
            let report = ask_one(chip, sata, run, |disk| disk.inject_medium_error(100, 1));
            let tests: Vec<_> =
                report.self_tests.iter().map(|test| (test.kind, test.failed, test.lba)).collect();
            assert_eq!(tests, [("long", true, Some(100)), ("short", true, Some(100))], "{sata}");
        }
    }
}

#[test]
fn counters_tell_what_was_read_and_what_could_not_be() {
    let read = |host: &mut dyn Host, buffer: &Buffer, target: &Target| {
        let disk = Disk::identify(host, buffer, target.id, 0)?;
        let direction = fusion_mpt::sgl::Direction::Read;
        disk.transfer(host, direction, 0, 16, buffer, 0)?;
        let failed = disk.transfer(host, direction, 500, 1, buffer, 0);
        assert!(failed.is_err());
        Ok(())
    };
    let report = ask_one(Chip::SAS2008, false, read, |disk| disk.inject_medium_error(500, 1));
    let reads = report.sas.and_then(|sas| sas.reads).expect("told");
    assert_eq!((reads.bytes, reads.uncorrected), (Some(16 * 512), Some(1)));
}

#[test]
fn smart_that_is_off_says_nothing() {
    use crate::ata::{self, AtaCommand};
    let off = |host: &mut dyn Host, buffer: &Buffer, target: &Target| {
        settle(host, (target.id, 0))?;
        let command = AtaCommand { features: 0xd9, lba: 0x00c2_4f00, ..AtaCommand::new(0xb0) };
        assert!(ata::send(host, buffer, target.id, &command)?.is_good());
        Ok(())
    };
    let report = ask_one(Chip::SAS3008, true, off, |_| {});
    let sata = report.sata.expect("identified");
    assert!(sata.smart_supported && !sata.smart_enabled && sata.attributes.is_empty());
    assert_eq!(report.health, Verdict::Unknown);
}

#[test]
fn an_ata_command_that_is_aborted_is_told_with_its_registers() {
    use crate::ata::{self, AtaCommand};
    on(
        Chip::SAS2008,
        |model| {
            model.add_disk(0, disk(0, true)).expect("free");
        },
        |host, _| {
            let buffer = host.allocate(ANSWER_BYTES)?;
            let target = host.targets()[0].id;
            settle(host, (target, 0))?;
            let ended = ata::send(host, &buffer, target, &AtaCommand::new(0xff))?;
            assert!(!ended.is_good());
            assert!(ended.describe().contains("error 0x04 (ABRT)"), "{}", ended.describe());
            let power = AtaCommand { check_condition: true, ..AtaCommand::new(0xe5) };
            let ended = ata::send(host, &buffer, target, &power)?;
            assert!(ended.is_good());
            assert_eq!(ended.registers.map(|registers| registers.count), Some(0xff));
            let identify = AtaCommand { check_condition: true, ..AtaCommand::new(0xec).reading(1) };
            assert_eq!(
                ata::read(host, &buffer, target, &identify)?.map(|data| data.len()),
                Some(512)
            );
            Ok(())
        },
    );
}

#[test]
fn the_temperature_alone_is_quick_to_ask() {
    for sata in [false, true] {
        let temperature = on(
            Chip::SAS3008,
            |model| {
                model.add_disk(0, disk(0, sata)).expect("free");
            },
            |host, _| {
                let buffer = host.allocate(4096)?;
                let target = host.targets()[0];
                temperature(host, &buffer, &target)
            },
        );
        assert_eq!(temperature, Some(30));
    }
}

#[test]
fn a_disk_that_is_not_ready_is_warned_of_and_asked_all_the_same() {
    let report = ask_one(Chip::SAS3008, false, |_, _, _| Ok(()), |disk| disk.set_ready(false));
    assert_eq!(report.health, Verdict::Warning);
    assert!(report.reasons.join("").contains("READ CAPACITY"), "{:?}", report.reasons);
    assert_eq!(report.temperature, Some(30));
}
