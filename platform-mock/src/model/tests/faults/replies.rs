//! Faults of answers on their way.

use super::*;

#[test]
fn a_dropped_reply_never_comes_and_the_next_does() {
    for chip in CHIPS {
        let mut host = Host::with_fault(chip, Fault::DropReply, When::reply(2));
        let disk = host.disk(0);
        for smid in 3..6 {
            host.ask(smid, disk);
        }
        host.wait(1000);
        assert_eq!(host.answered(), [3, 5]);
        assert_eq!(host.done(), ["the reply for 0x4 (SCSI command) was lost"]);
        assert_eq!(host.bus.fault_counts().replies, 3);
        assert_eq!(host.bus.fault_counts().messages, 3);
    }
}

#[test]
fn a_duplicate_is_the_same_word_or_the_same_message_in_two_frames() {
    for chip in CHIPS {
        let mut seen = [false; 2];
        for seed in 0..16 {
            let plan = Plan::of(seed, Fault::DuplicateReply, When::AT_ONCE);
            let mut host = Host::with_plan(chip, &plan);
            host.ask_nobody(3);
            let (first, frame) = host.reply().expect("a reply");
            let (second, again) = host.reply().expect("once more");
            assert_eq!(frame, again, "{}", chip.name);
            assert_eq!(le16(&frame, 0x0e), 0x42);
            assert!(host.reply().is_none());
            seen[usize::from(first == second)] = true;
        }
        assert_eq!(seen, [true; 2], "{}", chip.name);
        let mut host = Host::with_fault(chip, Fault::DuplicateReply, When::AT_ONCE);
        host.ask(3, host.disk(0));
        host.ask(4, host.disk(0));
        assert_eq!(host.answered(), [3, 3, 4], "plain success, too");
    }
}

#[test]
fn a_delayed_reply_is_overtaken() {
    for chip in CHIPS {
        let mut host = Host::with_fault(chip, Fault::DelayReply { ms: 20 }, When::AT_ONCE);
        host.ask(3, host.disk(0));
        host.ask(4, host.disk(0));
        assert_eq!(host.answered(), [4]);
        host.wait(19);
        assert_eq!(host.answered(), [0; 0]);
        host.wait(1);
        assert_eq!(host.answered(), [3]);
    }
}

#[test]
fn replies_change_places_in_groups_and_a_group_that_does_not_fill_is_let_go() {
    for chip in CHIPS {
        let fault = Fault::ReorderReplies { window: 3 };
        let mut host = Host::with_fault(chip, fault, When::AT_ONCE.times(2));
        for smid in 3..8 {
            host.ask(smid, host.disk(0));
        }
        assert_eq!(host.answered(), [5, 4, 3]);
        host.wait(1);
        assert_eq!(host.answered(), [7, 6], "after a millisecond");
        host.ask(8, host.disk(0));
        assert_eq!(host.answered(), [8]);
    }
}

#[test]
fn a_corrupt_word_differs_in_the_bits_that_the_log_names() {
    for chip in CHIPS {
        for seed in 0..16 {
            let plan = Plan::of(seed, Fault::CorruptReplyWord, When::AT_ONCE);
            let host = Host::with_plan(chip, &plan);
            host.ask(3, host.disk(0));
            let seen = if host.mpi1() {
                host.registers.read32(0x44).into()
            } else {
                // The second and third entry: two disks were met before.
                le64(&host.get(RINGS + 16, 8), 0)
            };
            let right = if host.mpi1() { 3 } else { 3 << 16 };
            let named = format!("bits {:#x} of", seen ^ right);
            assert!(host.done()[0].starts_with(&named), "{named}: {:?}", host.done());
            assert_ne!(seen, right);
        }
    }
}

#[test]
fn a_corrupt_frame_is_a_frame_with_other_bytes() {
    for chip in CHIPS {
        let mut different = 0;
        for seed in 0..16 {
            let plan = Plan::of(seed, Fault::CorruptReplyFrame, When::AT_ONCE);
            let mut host = Host::with_plan(chip, &plan);
            host.ask(3, host.disk(0));
            let (_, bad) = host.reply().expect("a frame for a success");
            host.bus.clear_faults();
            host.ask_nobody(4);
            let (_, good) = host.reply().expect("a frame");
            assert_eq!((bad.len(), good.len()), (128, 128));
            // Of a success: function 0, status 0, IOCStatus 0, where nobody changed it.
            different += usize::from(bad[..4] != [0, 0, good[2], 0] || bad[0x0c..] != [0; 0x74]);
            assert_eq!(host.done().len(), 1);
        }
        assert!(different >= 12, "{different} of 16 on {}", chip.name);
    }
}

#[test]
fn corrupt_sense_is_garbage_and_often_too_much_of_it() {
    for chip in CHIPS {
        let mut too_much = 0;
        for seed in 0..16 {
            let plan = Plan::of(seed, Fault::CorruptSense, When::AT_ONCE);
            let mut host = Host::with_plan(chip, &plan);
            host.memory.write(SENSE, &[0; 128]);
            host.ask(3, host.disk(0));
            let (_, frame) = host.reply().expect("a frame");
            assert_eq!((frame[0x0c], frame[0x0d]), (2, 1));
            assert_ne!(host.get(SENSE, 64), [0; 64]);
            assert_eq!(host.get(SENSE + 64, 64), [0; 64], "the buffer is all that is written");
            too_much += usize::from(le32(&frame, 0x18) > 64);
        }
        assert!(too_much > 0 && too_much < 16, "{too_much}");
    }
}

#[test]
fn replies_come_for_slots_that_are_free_or_no_commands() {
    for chip in CHIPS {
        let mut host = Host::with_fault(chip, Fault::ReplyForFreeSlot, When::AT_ONCE);
        host.ask(3, host.disk(0));
        assert_eq!(host.answered(), [3, 3]);
        let mut foreign = [false; 2];
        for seed in 0..16 {
            let plan = Plan::of(seed, Fault::ReplyForForeignSmid, When::message(2));
            let mut host = Host::with_plan(chip, &plan);
            host.config(0, 9, 0, 0);
            host.ask(3, host.disk(0));
            let answered = host.answered();
            assert_eq!((answered.len(), answered[0]), (2, 3));
            assert!(answered[1] == 5 || answered[1] >= 0xfff0, "{answered:?}");
            foreign[usize::from(answered[1] == 5)] = true;
        }
        assert_eq!(foreign, [true; 2]);
    }
}

/// The descriptor of the first command after two disks were met.
fn descriptor(host: &Host) -> Vec<u8> {
    host.get(RINGS + 16, 8)
}

#[test]
fn a_torn_descriptor_has_one_half_and_then_the_other() {
    for chip in [Chip::SAS2008, Chip::SAS3816] {
        let mut halves = [false; 2];
        for seed in 0..16 {
            let plan = Plan::of(seed, Fault::TornDescriptor { us: 200 }, When::AT_ONCE);
            let host = Host::with_plan(chip, &plan);
            host.ask(3, host.disk(0));
            let torn = descriptor(&host);
            let lower = torn == [0, 0, 3, 0, 0xff, 0xff, 0xff, 0xff];
            assert!(lower || torn == [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], "{torn:x?}");
            halves[usize::from(lower)] = true;
            host.bus.advance(Duration::from_micros(200));
            assert_eq!(descriptor(&host), [0, 0, 3, 0, 0, 0, 0, 0]);
        }
        assert_eq!(halves, [true; 2]);
        let host = Host::with_fault(chip, Fault::TornForever, When::AT_ONCE);
        host.ask(3, host.disk(0));
        host.wait(10_000);
        assert!(descriptor(&host).contains(&0xff));
        host.ask(4, host.disk(0));
        assert_eq!(le64(&host.get(RINGS + 24, 8), 0), 4 << 16, "the next is whole");
    }
}

#[test]
fn mpi1_tears_the_reply_frame() {
    for forever in [false, true] {
        let fault = if forever { Fault::TornForever } else { Fault::TornDescriptor { us: 200 } };
        let mut host = Host::with_fault(Chip::SAS1068, fault, When::AT_ONCE);
        host.memory.write(REPLIES, &[0xee; 8 * 128]);
        host.ask(3, host.disk(0));
        let (word, torn) = host.reply().expect("a word");
        let missing = |frame: &[u8]| frame[..0x24].iter().filter(|byte| **byte == 0xee).count();
        assert_eq!(missing(&torn), 0x12, "half a frame");
        host.bus.advance(Duration::from_micros(200));
        let offset = (word as u32).wrapping_shl(1).wrapping_sub(host.at(0) as u32);
        let whole = host.get(offset as usize, 128);
        assert_eq!(missing(&whole), if forever { 0x12 } else { 0 });
    }
}

#[test]
fn without_reply_frames_nothing_goes_out_for_a_while() {
    for chip in CHIPS {
        let fault = Fault::ReplyFramesExhausted { ms: 50 };
        let mut host = Host::with_fault(chip, fault, When::reply(2));
        for smid in 3..6 {
            host.ask(smid, host.disk(0));
        }
        host.wait(49);
        assert_eq!(host.answered(), [3]);
        host.wait(1);
        assert_eq!(host.answered(), [4, 5]);
    }
}

#[test]
fn a_lost_interrupt_comes_with_the_next_reply() {
    for chip in CHIPS {
        let mut host = Host::with_fault(chip, Fault::LostInterrupt, When::AT_ONCE);
        let drain = |host: &mut Host| {
            let answered = host.answered();
            let next = host.next[0] as u32;
            if chip.is_mpi1() {
                return answered;
            }
            let register = if chip.supplemental() { 0x30c } else { 0x6c };
            host.registers.write32(register, next);
            answered
        };
        drain(&mut host);
        host.registers.write32(0x34, 0);
        assert!(!host.bus.interrupt_pending());
        host.ask(3, host.disk(0));
        assert!(!host.bus.interrupt_pending(), "lost");
        assert_eq!(host.registers.read32(0x30) & 8, 8, "the reply is there");
        host.ask(4, host.disk(0));
        assert!(host.bus.interrupt_pending());
        assert_eq!(drain(&mut host), [3, 4]);
        assert!(!host.bus.interrupt_pending());
    }
}

#[test]
fn what_was_kept_back_goes_out_when_the_faults_are_taken_away() {
    for chip in CHIPS {
        let fault = Fault::DelayReply { ms: 1_000_000 };
        let mut host = Host::with_fault(chip, fault, When::AT_ONCE.forever());
        host.ask(3, host.disk(0));
        host.ask(4, host.disk(0));
        assert_eq!(host.answered(), [0; 0]);
        host.bus.clear_faults();
        host.ask(5, host.disk(0));
        assert_eq!(host.answered(), [3, 4, 5]);
        assert_eq!(host.done().len(), 2, "the log stays");
        assert_eq!(host.bus.fault_counts(), crate::faults::Counts::default());
    }
}
