//! Faults of registers, resets and the firmware.

use super::*;

/// The FAULT code that these tests use.
const CODE: u16 = 0x2100;

#[test]
fn status_registers_read_as_zero_so_many_times() {
    for chip in CHIPS {
        let host = Host::with_fault(chip, Fault::SpuriousZero, When::access(2));
        let right = host.doorbell();
        assert_ne!(right, 0);
        assert_eq!((host.doorbell(), host.doorbell()), (0, right));
        let burst = Fault::ZeroReadsBurst { reads: 3 };
        let host = Host::with_fault(chip, burst, When::AT_ONCE.times(2));
        assert_eq!([(); 7].map(|()| host.doorbell()), [0, 0, 0, 0, 0, 0, right]);
        assert_eq!(host.done().len(), 2);
    }
}

#[test]
fn a_card_is_gone_from_the_nth_access_on() {
    for chip in CHIPS {
        let mut host = Host::with_fault(chip, Fault::AllOnes, When::access(3));
        assert_ne!(host.doorbell(), u32::MAX);
        assert_ne!(host.doorbell(), u32::MAX);
        assert_eq!([(); 4].map(|()| host.doorbell()), [u32::MAX; 4]);
        host.ask(3, host.disk(0));
        host.wait(1000);
        host.registers.write32(0x34, 0);
        assert!(!host.bus.interrupt_pending());
        if !host.mpi1() {
            assert_eq!(host.answered(), [0; 0]);
        }
    }
}

#[test]
fn a_card_that_was_away_has_gone_on_without_its_host() {
    for chip in CHIPS {
        let away = Fault::AllOnesForAWhile { ms: 5 };
        let mut host = Host::with_fault(chip, away, When::access(2));
        let right = host.doorbell();
        assert_eq!(host.doorbell(), u32::MAX);
        host.ask(3, host.disk(0));
        host.wait(4);
        assert_eq!(host.doorbell(), u32::MAX);
        host.wait(1);
        assert_eq!(host.doorbell(), right);
        assert_eq!(host.answered(), [0; 0], "the write was lost");
        host.ask(4, host.disk(0));
        assert_eq!(host.answered(), [4]);
    }
}

#[test]
fn a_stuck_doorbell_takes_nothing_until_a_diagnostic_reset() {
    for chip in CHIPS {
        let host = Host::with_fault(chip, Fault::StuckDoorbell, When::access(1));
        assert_eq!(host.doorbell() >> 27 & 1, 1);
        host.registers.write32(0, 0x40 << 24);
        host.wait(1000);
        assert_eq!(host.doorbell() >> 27, 2 << 1 | 1, "operational, in use: nothing was taken");
        assert_eq!(host.registers.read32(0x30) >> 31, 1);
        host.ask_for_reset();
        host.wait(200);
        assert_eq!(host.doorbell() >> 27, 1 << 1, "{}", chip.name);
        let facts = host.handshake(&[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(facts.get(3), Some(&3), "the doorbell works again");
    }
}

#[test]
fn a_doorbell_that_is_stuck_for_ever_is_stuck_again_after_a_reset() {
    let host = Host::with_fault(Chip::SAS3008, Fault::StuckDoorbell, When::access(1).forever());
    for _ in 0..3 {
        host.ask_for_reset();
        host.wait(200);
        assert_eq!(host.doorbell() >> 27 & 1, 1);
    }
}

#[test]
fn a_reset_does_not_end_and_the_one_after_it_does() {
    for chip in CHIPS {
        let host = Host::with_fault(chip, Fault::ResetNeverEnds, When::AT_ONCE);
        host.ask_for_reset();
        host.wait(60_000);
        assert_eq!(host.registers.read32(8) & 4, 4, "{}", chip.name);
        assert_eq!(host.doorbell() >> 28, 0);
        host.ask_for_reset();
        host.wait(200);
        assert_eq!(host.registers.read32(8) & 4, 0);
        assert_eq!(host.doorbell() >> 28, 1);
        assert_eq!(host.done().len(), 1);
        let host = Host::with_fault(chip, Fault::ResetNeverEnds, When::AT_ONCE.forever());
        for _ in 0..4 {
            host.ask_for_reset();
            host.wait(1_000);
            assert_eq!(host.registers.read32(8) & 4, 4);
        }
    }
}

#[test]
fn an_ioc_does_not_become_ready_after_either_reset() {
    for chip in CHIPS {
        let host = Host::with_fault(chip, Fault::NeverReady, When::AT_ONCE.times(2));
        host.registers.write32(0, 0x40 << 24);
        host.wait(60_000);
        assert_eq!(host.doorbell() >> 28, 0);
        host.ask_for_reset();
        host.wait(60_000);
        assert_eq!((host.doorbell() >> 28, host.registers.read32(8) & 4), (0, 0));
        host.ask_for_reset();
        host.wait(200);
        assert_eq!(host.doorbell() >> 28, 1, "the third goes well");
    }
}

#[test]
fn resets_fail_so_many_times() {
    for chip in CHIPS {
        let host = Host::with_fault(chip, Fault::ResetFails { code: CODE }, When::AT_ONCE.times(2));
        for state in [4, 4, 1] {
            host.ask_for_reset();
            host.wait(200);
            assert_eq!(host.doorbell() >> 28, state);
        }
    }
}

#[test]
fn the_ioc_stops_over_the_nth_message_which_is_not_answered() {
    for chip in CHIPS {
        for fault in [Fault::FaultState { code: CODE }, Fault::CoreDump { code: CODE, ms: 300 }] {
            let mut host = Host::with_fault(chip, fault, When::message(2));
            for smid in 3..6 {
                host.ask(smid, host.disk(0));
            }
            let dumps = matches!(fault, Fault::CoreDump { .. }) && !host.mpi1();
            let state = if dumps { 5 } else { 4 };
            assert_eq!(host.doorbell(), state << 28 | 4 << 24 | u32::from(CODE));
            assert_eq!(host.answered(), [3]);
            host.wait(300);
            assert_eq!(host.doorbell() >> 28, 4);
            assert_eq!(host.answered(), [0; 0]);
        }
        // A moment of another kind, between two messages.
        let host = Host::with_fault(chip, Fault::FaultState { code: CODE }, When::access(1));
        assert_eq!(host.doorbell() >> 28, 4);
    }
}

#[test]
fn slow_firmware_does_a_piece_of_work_at_a_time() {
    for chip in CHIPS {
        let slow = Fault::SlowFirmware { us: 500 };
        let mut host = Host::with_fault(chip, slow, When::AT_ONCE.times(2));
        for smid in 3..7 {
            host.ask(smid, host.disk(0));
        }
        assert_eq!(host.answered(), [3]);
        host.bus.advance(Duration::from_micros(499));
        assert_eq!(host.answered(), [0; 0]);
        host.bus.advance(Duration::from_micros(1));
        assert_eq!(host.answered(), [4]);
        host.bus.advance(Duration::from_micros(500));
        assert_eq!(host.answered(), [5, 6], "as fast as ever");
    }
}

#[test]
fn hung_firmware_answers_nothing_until_a_diagnostic_reset() {
    for chip in CHIPS {
        let mut host = Host::with_fault(chip, Fault::StoppedFirmware, When::message(2));
        host.ask(3, host.disk(0));
        host.ask(4, host.disk(0));
        host.ask(5, host.disk(0));
        host.registers.write32(0, 0x40 << 24);
        host.wait(10_000);
        let answered = host.answered();
        assert!(answered.starts_with(&[3]) && !answered.contains(&5), "{answered:?}");
        assert_eq!(host.doorbell() >> 28, 2, "registers answer");
        host.ask_for_reset();
        host.wait(200);
        assert_eq!(host.doorbell() >> 28, 1);
        host.init_again();
        host.ask(6, host.disk(0));
        assert_eq!(host.answered(), [6]);
    }
}

#[test]
fn registers_read_with_their_bytes_swapped() {
    for chip in CHIPS {
        let host = Host::with_fault(chip, Fault::WrongEndianness, When::access(2).times(2));
        let right = host.doorbell();
        let swapped = right.swap_bytes();
        assert_eq!([(); 3].map(|()| host.doorbell()), [swapped, swapped, right]);
    }
}

#[test]
fn somebody_elses_reset_leaves_the_ioc_ready_and_without_queues() {
    for chip in CHIPS {
        let mut host = Host::with_fault(chip, Fault::SilentBusReset, When::message(2));
        host.ask(3, host.disk(0));
        host.ask(4, host.disk(0));
        assert_eq!(host.doorbell() >> 28, 1);
        host.wait(1000);
        assert_eq!(host.answered().len(), usize::from(!host.mpi1()), "a FIFO is emptied");
        host.init_again();
        host.ask(5, host.disk(0));
        assert_eq!(host.answered(), [5]);
    }
}

#[test]
fn a_command_of_before_the_reset_is_answered_after_it() {
    for chip in CHIPS {
        let plan = Plan::of(1, Fault::StaleReplyAfterReset, When::AT_ONCE);
        let mut host = Host::with_plan(chip, &plan);
        host.bus.with_model(|model| model.hold_commands(true));
        host.ask(3, host.disk(0));
        host.registers.write32(0, 0x40 << 24);
        host.wait(10);
        host.bus.with_model(|model| model.hold_commands(false));
        host.init_again();
        host.ask(5, host.disk(0));
        assert_eq!(host.answered(), [5, 3], "{}", chip.name);
        assert_eq!(host.done(), ["the success of command 0x3 of before the reset came"]);
    }
}

#[test]
fn a_controller_that_is_cut_off_reaches_no_memory_and_is_counted() {
    for chip in CHIPS {
        let mut host = Host::operational(chip, 1);
        host.registers.cut_off();
        assert!(host.bus.is_cut_off());
        host.ask(3, host.disk(0));
        assert!(host.bus.dma_after_cut_off() > 0);
        assert!(matches!(host.state(), State::Fault(_)), "its fetch has failed");
        assert_eq!(host.answered(), [0; 0]);
        host.bus.restore_dma();
        host.ask_for_reset();
        host.wait(200);
        host.init_again();
        host.greet(host.disk(0));
    }
}
