//! One row per IOCStatus, SCSI status and SCSI state that mean something together.

use super::*;
use proptest::prelude::*;
use std::string::ToString;

const GOOD: u8 = 0x00;
const CHECK: u8 = 0x02;
const BUSY: u8 = 0x08;
const CONFLICT: u8 = 0x18;
const SET_FULL: u8 = 0x28;
const ACA: u8 = 0x30;
const ABORTED: u8 = 0x40;

const VALID: u8 = 0x01;
const SENSE_FAILED: u8 = 0x02;
const NO_STATUS: u8 = 0x04;
const TERMINATED: u8 = 0x08;
const RESPONSE: u8 = 0x10;

const fn done(status: u8, transferred: u32, sense_length: u8) -> Outcome {
    Outcome::Complete { status: ScsiStatus(status), transferred, sense_length }
}

const fn failed(failure: Failure) -> Outcome {
    Outcome::Failed(failure)
}

const fn refused(code: u16) -> Outcome {
    failed(Failure::RequestRefused(IocStatus(code)))
}

const fn unknown(code: u16) -> Outcome {
    failed(Failure::UnknownStatus(IocStatus(code)))
}

/// IOCStatus, SCSIStatus, SCSIState, TransferCount of 4096, SenseCount for a buffer of 96.
type Row = (u16, u8, u8, u32, u32, Outcome);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // Success, with a frame because there is something to say.
    (0x00, GOOD,     0,                    4096, 0,    done(GOOD, 4096, 0)),
    (0x00, GOOD,     RESPONSE,             4096, 0,    done(GOOD, 4096, 0)),
    (0x00, GOOD,     0,                    9999, 0,    done(GOOD, 4096, 0)),
    (0x00, GOOD,     VALID,                4096, 18,   done(GOOD, 4096, 18)),
    (0x00, CHECK,    VALID,                0,    18,   done(CHECK, 0, 18)),
    (0x00, CHECK,    VALID,                512,  252,  done(CHECK, 512, 96)),
    (0x00, CHECK,    VALID,                0,    9999, done(CHECK, 0, 96)),
    (0x00, CHECK,    VALID,                0,    0,    failed(Failure::SenseLost)),
    (0x00, CHECK,    0,                    0,    18,   failed(Failure::SenseLost)),
    (0x00, CHECK,    SENSE_FAILED,         0,    0,    failed(Failure::SenseLost)),
    (0x00, CHECK,    VALID | SENSE_FAILED, 0,    18,   failed(Failure::SenseLost)),
    (0x00, BUSY,     0,                    0,    0,    done(BUSY, 0, 0)),
    (0x00, CONFLICT, 0,                    0,    0,    done(CONFLICT, 0, 0)),
    (0x00, SET_FULL, 0,                    0,    0,    done(SET_FULL, 0, 0)),
    (0x00, ACA,      0,                    0,    0,    done(ACA, 0, 0)),
    (0x00, ABORTED,  0,                    0,    0,    done(ABORTED, 0, 0)),
    (0x00, GOOD,     NO_STATUS,            0,    0,    failed(Failure::NoStatus)),
    (0x00, GOOD,     TERMINATED,           0,    0,    failed(Failure::Terminated)),
    (0x00, CHECK,    TERMINATED | VALID,   0,    18,   failed(Failure::Terminated)),
    (0x00, GOOD,     TERMINATED | NO_STATUS, 0,  0,    failed(Failure::Terminated)),
    // The log info bit changes nothing.
    (0x8000, GOOD,   0,                    4096, 0,    done(GOOD, 4096, 0)),
    (0x8043, GOOD,   0,                    0,    0,    failed(Failure::NoDevice)),
    // Recovered error.
    (0x40, GOOD,     0,                    4096, 0,    done(GOOD, 4096, 0)),
    (0x40, CHECK,    VALID,                4096, 18,   done(CHECK, 4096, 18)),
    (0x40, CHECK,    0,                    4096, 0,    failed(Failure::SenseLost)),
    (0x40, GOOD,     NO_STATUS,            4096, 0,    failed(Failure::NoStatus)),
    // Underrun: the usual companion of CHECK CONDITION, and of short INQUIRY data.
    (0x45, GOOD,     0,                    36,   0,    done(GOOD, 36, 0)),
    (0x45, GOOD,     0,                    0,    0,    done(GOOD, 0, 0)),
    (0x45, CHECK,    VALID,                0,    18,   done(CHECK, 0, 18)),
    (0x45, CHECK,    0,                    0,    0,    failed(Failure::SenseLost)),
    (0x45, CHECK,    SENSE_FAILED,         0,    0,    failed(Failure::SenseLost)),
    (0x45, BUSY,     0,                    0,    0,    done(BUSY, 0, 0)),
    (0x45, CONFLICT, 0,                    0,    0,    done(CONFLICT, 0, 0)),
    (0x45, SET_FULL, 0,                    0,    0,    done(SET_FULL, 0, 0)),
    (0x45, GOOD,     NO_STATUS,            0,    0,    failed(Failure::NoStatus)),
    (0x45, GOOD,     TERMINATED,           512,  0,    failed(Failure::Terminated)),
    // Overrun: all that was asked for has arrived, whatever TransferCount says.
    (0x44, GOOD,     0,                    0,    0,    done(GOOD, 4096, 0)),
    (0x44, GOOD,     0,                    8192, 0,    done(GOOD, 4096, 0)),
    (0x44, CHECK,    VALID,                4096, 18,   done(CHECK, 4096, 18)),
    (0x44, CHECK,    0,                    4096, 0,    failed(Failure::SenseLost)),
    (0x44, GOOD,     NO_STATUS,            0,    0,    failed(Failure::DataOverrun)),
    (0x44, GOOD,     TERMINATED,           0,    0,    failed(Failure::DataOverrun)),
    // Residual mismatch: the device's own error explains it, GOOD does not.
    (0x49, GOOD,     0,                    4096, 0,    failed(Failure::ResidualMismatch)),
    (0x49, GOOD,     NO_STATUS,            0,    0,    failed(Failure::ResidualMismatch)),
    (0x49, CHECK,    VALID,                512,  18,   done(CHECK, 512, 18)),
    (0x49, CHECK,    0,                    512,  0,    failed(Failure::SenseLost)),
    (0x49, CHECK,    VALID | TERMINATED,   512,  18,   failed(Failure::ResidualMismatch)),
    (0x49, BUSY,     0,                    0,    0,    done(BUSY, 0, 0)),
    // The controller's own troubles.
    (0x02, GOOD,     0,                    0,    0,    failed(Failure::ControllerBusy)),
    (0x06, GOOD,     0,                    0,    0,    failed(Failure::ControllerBusy)),
    (0x01, GOOD,     0,                    0,    0,    refused(0x01)),
    (0x03, GOOD,     0,                    0,    0,    refused(0x03)),
    (0x04, GOOD,     0,                    0,    0,    refused(0x04)),
    (0x05, GOOD,     0,                    0,    0,    refused(0x05)),
    (0x07, GOOD,     0,                    0,    0,    refused(0x07)),
    (0x08, GOOD,     0,                    0,    0,    refused(0x08)),
    (0x09, GOOD,     0,                    0,    0,    refused(0x09)),
    (0x8003, GOOD,   0,                    0,    0,    refused(0x03)),
    // Nobody there.
    (0x41, GOOD,     NO_STATUS,            0,    0,    failed(Failure::NoDevice)),
    (0x42, GOOD,     NO_STATUS,            0,    0,    failed(Failure::NoDevice)),
    (0x43, GOOD,     NO_STATUS,            0,    0,    failed(Failure::NoDevice)),
    // Ended on the way. The SCSI status says GOOD in all of them: it is the frame's zero.
    (0x46, GOOD,     0,                    4096, 0,    failed(Failure::DataError)),
    (0x47, GOOD,     0,                    4096, 0,    failed(Failure::ProtocolError)),
    (0x48, GOOD,     TERMINATED,           0,    0,    failed(Failure::TaskTerminated)),
    (0x48, CHECK,    VALID,                0,    18,   failed(Failure::TaskTerminated)),
    (0x4a, GOOD,     0,                    0,    0,    failed(Failure::TaskManagementFailed)),
    (0x4b, GOOD,     TERMINATED,           0,    0,    failed(Failure::IocTerminated)),
    (0x4b, GOOD,     TERMINATED | NO_STATUS, 0,  0,    failed(Failure::IocTerminated)),
    (0x4c, GOOD,     TERMINATED,           0,    0,    failed(Failure::ExtTerminated)),
    // End-to-end protection.
    (0x4d, GOOD,     0,                    4096, 0,    failed(Failure::Protection(Protection::Guard))),
    (0x4e, GOOD,     0,                    4096, 0,    failed(Failure::Protection(Protection::Reference))),
    (0x4f, GOOD,     0,                    4096, 0,    failed(Failure::Protection(Protection::Application))),
    // Statuses of other messages have no business in a SCSI IO reply.
    (0x0a, GOOD,     0,                    4096, 0,    unknown(0x0a)),
    (0x0f, GOOD,     0,                    4096, 0,    unknown(0x0f)),
    (0x20, GOOD,     0,                    4096, 0,    unknown(0x20)),
    (0x21, GOOD,     0,                    4096, 0,    unknown(0x21)),
    (0x22, GOOD,     0,                    4096, 0,    unknown(0x22)),
    (0x23, GOOD,     0,                    4096, 0,    unknown(0x23)),
    (0x24, GOOD,     0,                    4096, 0,    unknown(0x24)),
    (0x25, GOOD,     0,                    4096, 0,    unknown(0x25)),
    (0x90, GOOD,     0,                    4096, 0,    unknown(0x90)),
    (0x91, GOOD,     0,                    4096, 0,    unknown(0x91)),
    (0xa0, GOOD,     0,                    4096, 0,    unknown(0xa0)),
    (0x7fff, GOOD,   0,                    4096, 0,    unknown(0x7fff)),
    (0xffff, 0xff,   0xff,                 u32::MAX, u32::MAX, unknown(0x7fff)),
];

fn facts(ioc_status: u16, scsi_status: u8, scsi_state: u8) -> ReplyFacts {
    ReplyFacts {
        ioc_status: IocStatus(ioc_status),
        scsi_status: ScsiStatus(scsi_status),
        scsi_state,
        transfer_count: 0,
        sense_count: 0,
        log_info: 0,
        requested: 4096,
        sense_capacity: 96,
    }
}

#[test]
fn every_row_of_the_table_is_judged_as_written() {
    for (ioc_status, scsi_status, state, transfer_count, sense_count, expected) in TABLE {
        let facts = ReplyFacts {
            transfer_count: *transfer_count,
            sense_count: *sense_count,
            ..facts(*ioc_status, *scsi_status, *state)
        };
        assert_eq!(judge(&facts), *expected, "{facts:?}");
    }
}

#[test]
fn commands_flushed_after_an_ncq_error_may_go_again_at_once() {
    let flushed = ReplyFacts { log_info: 0x3108_0000, ..facts(0x804b, GOOD, TERMINATED) };
    assert_eq!(judge(&flushed), failed(Failure::NcqFlushed));
    assert_eq!(Failure::NcqFlushed.advice(), Retry::Now);
    assert_eq!(Failure::IocTerminated.advice(), Retry::AfterDelay);
}

#[test]
fn the_fast_path_agrees_with_the_table() {
    let plain = ReplyFacts { transfer_count: 4096, ..facts(0, GOOD, 0) };
    assert_eq!(judge(&plain), Outcome::success(4096));
    assert!(Outcome::success(0).is_good());
}

#[test]
fn both_generations_replies_give_the_same_facts() {
    let (mut old, mut new) = (mpi1::ScsiIoReply::default(), mpi2::ScsiIoReply::default());
    for (status, state, ioc_status, log_info, transfer_count, sense_count) in [
        (
            &mut old.scsi_status,
            &mut old.scsi_state,
            &mut old.ioc_status,
            &mut old.ioc_log_info,
            &mut old.transfer_count,
            &mut old.sense_count,
        ),
        (
            &mut new.scsi_status,
            &mut new.scsi_state,
            &mut new.ioc_status,
            &mut new.ioc_log_info,
            &mut new.transfer_count,
            &mut new.sense_count,
        ),
    ] {
        *status = ScsiStatus::CHECK_CONDITION;
        *state = VALID;
        ioc_status.set(0x8045);
        log_info.set(0x3112_0303);
        transfer_count.set(512);
        sense_count.set(18);
    }
    let facts = ReplyFacts::from_mpi1(&old, 4096, 96);
    assert_eq!(facts, ReplyFacts::from_mpi2(&new, 4096, 96));
    assert_eq!(facts.log_info, 0x3112_0303);
    assert_eq!(judge(&facts), done(CHECK, 512, 18));
}

#[test]
fn failures_are_sentences_with_the_numbers_in_them() {
    assert_eq!(
        Failure::RequestRefused(IocStatus::INVALID_SGL).to_string(),
        "the controller refused the request: invalid scatter-gather list (0x03)"
    );
    assert_eq!(
        Failure::ControllerFault(0x2665).to_string(),
        "the controller's firmware stopped with fault 0x2665"
    );
}

proptest! {
    #[test]
    fn no_reply_makes_a_command_longer_than_it_was(
        ioc_status in prop_oneof![0_u16..0x100, any::<u16>()],
        (scsi_status, scsi_state) in any::<(u8, u8)>(),
        (transfer_count, sense_count, log_info, requested) in any::<(u32, u32, u32, u32)>(),
        sense_capacity in any::<u8>(),
    ) {
        let facts = ReplyFacts {
            ioc_status: IocStatus(ioc_status),
            scsi_status: ScsiStatus(scsi_status),
            scsi_state,
            transfer_count,
            sense_count,
            log_info,
            requested,
            sense_capacity,
        };
        match judge(&facts) {
            Outcome::Complete { status, transferred, sense_length } => {
                prop_assert_eq!(status, facts.scsi_status);
                prop_assert!(transferred <= requested);
                prop_assert!(sense_length <= sense_capacity);
                prop_assert!(u32::from(sense_length) <= sense_count);
                prop_assert!(status != ScsiStatus::CHECK_CONDITION || sense_length > 0);
                prop_assert_eq!(scsi_state & (NO_STATUS | TERMINATED), 0);
            }
            Outcome::Failed(failure) => {
                let _ = (failure.advice(), failure.to_string());
            }
        }
    }
}
