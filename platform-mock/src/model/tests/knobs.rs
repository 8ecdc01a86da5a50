//! The knobs, each seen from the host.

use super::super::LogEntry;
use super::*;

pub(super) const ALL_KEYS: [u32; 7] = [0, 0xf, 4, 0xb, 2, 7, 0xd];
/// CHECK CONDITION.
const CHECK: u8 = 2;

impl Host {
    /// Lets `ms` milliseconds pass.
    pub(super) fn wait(&self, ms: u64) {
        self.bus.advance(Duration::from_millis(ms));
    }

    /// Posts TEST UNIT READY without letting time pass.
    pub(super) fn ask(&self, smid: u16, address: u16) {
        let frame = self.scsi_io(smid, address, &TEST_UNIT_READY, false, 0);
        self.put_frame(smid, &frame);
        if self.mpi1() {
            self.registers.write32(0x40, self.at(usize::from(smid) * 128) as u32);
        } else {
            self.registers.write64(0xc0, u64::from(smid) << 16);
        }
        self.bus.run_until_idle();
    }

    /// The SMIDs of the replies that came, in order.
    pub(super) fn answered(&mut self) -> Vec<u16> {
        let mpi1 = self.mpi1();
        std::iter::from_fn(|| {
            let (word, frame) = self.reply()?;
            Some(match (mpi1, frame.is_empty()) {
                (false, _) => (word >> 16) as u16,
                (true, true) => word as u16,
                (true, false) => le16(&frame, 8),
            })
        })
        .collect()
    }

    /// Meets the disk's power-on attention.
    pub(super) fn greet(&mut self, address: u16) {
        assert_eq!(self.scsi(address, &TEST_UNIT_READY, false, 0)[0x0c], CHECK);
    }

    /// Sends a task management request; its reply, and those of the commands that it ended.
    pub(super) fn task(&mut self, kind: u8, address: u16, task: u16) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut frame = vec![0u8; 0x34];
        frame[..2].copy_from_slice(&address.to_le_bytes());
        frame[3] = 1;
        frame[5] = kind;
        if self.mpi1() {
            frame[8] = 2;
        }
        frame[0x30..0x32].copy_from_slice(&task.to_le_bytes());
        self.put_frame(2, &frame);
        self.post(2, 6, 0);
        let frames = std::iter::from_fn(|| self.reply()).map(|(_, frame)| frame);
        let (mut own, ended): (Vec<_>, Vec<_>) = frames.partition(|frame| frame[3] == 1);
        (own.pop().expect("task management is answered"), ended)
    }

    /// Asks for all events, and takes the reply.
    pub(super) fn want_events(&mut self) {
        let mut frame = vec![0u8; 0x28];
        frame[0] = 1;
        frame[3] = 7;
        if self.mpi1() {
            frame[8] = 7;
        }
        self.put_frame(7, &frame);
        self.post(7, 8, 0);
        assert!(self.reply().is_some());
    }
}

#[test]
fn a_slowed_disk_takes_its_time_and_the_others_overtake_it() {
    for chip in Chip::ALL {
        let mut host = Host::operational(chip, 2);
        let (slow, fast) = (host.disk(0), host.disk(1));
        host.greet(slow);
        host.greet(fast);
        host.bus.with_model(|model| model.slow_down(Some(0), 50_000_000));
        for (smid, disk) in [(3, slow), (4, fast), (5, slow)] {
            host.ask(smid, disk);
        }
        assert_eq!(host.answered(), [4]);
        assert_eq!(host.bus.with_model(|model| model.held()), 2);
        host.wait(49);
        assert_eq!(host.answered(), [0u16; 0]);
        host.wait(1);
        assert_eq!(host.answered(), [3, 5]);
        host.bus.with_model(|model| model.slow_down(None, 0));
        host.ask(6, slow);
        assert_eq!(host.answered(), [6], "as fast as ever");
        assert!(host.bus.with_model(|model| model.delays().1.is_empty()));
    }
}

#[test]
fn commands_that_wait_in_a_slow_controller_keep_their_order_when_it_is_fast_again() {
    let mut host = Host::operational(Chip::SAS3008, 1);
    let disk = host.disk(0);
    host.greet(disk);
    host.bus.with_model(|model| model.slow_down(None, 1_000_000_000));
    host.ask(3, disk);
    host.ask(4, disk);
    host.bus.with_model(|model| model.slow_down(None, 20_000_000));
    host.ask(5, disk);
    host.wait(19);
    assert_eq!(host.answered(), [0u16; 0]);
    host.wait(1);
    assert_eq!(host.answered(), [3, 4, 5]);
    host.ask(3, disk);
    host.bus.with_model(|model| model.slow_down(None, 0));
    host.ask(4, disk);
    assert_eq!(host.answered(), [3, 4]);
}

#[test]
fn a_slow_command_can_be_aborted() {
    for chip in Chip::ALL {
        let mut host = Host::operational(chip, 1);
        let disk = host.disk(0);
        host.greet(disk);
        host.bus.with_model(|model| model.slow_down(None, 10_000_000_000));
        host.ask(3, disk);
        let (reply, ended) = host.task(1, disk, 3);
        assert_eq!(le32(&reply, 0x14), 1, "terminated");
        assert_eq!(ended.iter().map(|frame| le16(frame, 0x0e)).collect::<Vec<_>>(), [0x48]);
        host.wait(20_000);
        assert_eq!(host.answered(), [0u16; 0], "once only");
    }
}

#[test]
fn a_lost_scsi_reply_leaves_its_command_outstanding_until_it_is_aborted() {
    for chip in Chip::ALL {
        let mut host = Host::operational(chip, 1);
        let disk = host.disk(0);
        host.greet(disk);
        host.want_events();
        host.bus.with_model(|model| {
            model.lose_scsi_replies(1);
            model.raise_event(0x0f, vec![0; 4], false);
        });
        host.run();
        assert!(host.reply().is_some(), "an event is not lost");
        host.ask(3, disk);
        host.ask(4, disk);
        assert_eq!(host.answered(), [4]);
        host.wait(60_000);
        assert_eq!(host.answered(), [0u16; 0]);
        let (reply, ended) = host.task(1, disk, 3);
        assert_eq!((le32(&reply, 0x14), ended.len()), (1, 1));
        assert_eq!(host.bus.with_model(|model| model.held()), 0);
    }
}

#[test]
fn a_core_dump_ends_in_a_fault_and_a_diagnostic_reset_ends_either() {
    for early in [true, false] {
        let host = Host::operational(Chip::SAS3816, 0);
        host.bus.with_model(|model| model.core_dump(0x2667, 5_000_000_000)).expect("MPI2");
        assert_eq!(host.registers.read32(0) & 0xf000_ffff, 0x5000_2667);
        host.bus.with_model(|model| model.fault(1));
        host.wait(4_999);
        assert_eq!(host.state(), State::CoreDump(0x2667));
        if !early {
            host.wait(1);
            assert_eq!(host.registers.read32(0) & 0xf000_ffff, 0x4000_2667);
        }
        for key in ALL_KEYS {
            host.registers.write32(4, key);
        }
        host.registers.write32(8, 0x84);
        host.wait(200);
        assert_eq!(host.state(), State::Ready);
    }
}

#[test]
fn an_mpi1_chip_refuses_a_core_dump_in_a_sentence() {
    let host = Host::operational(Chip::SAS1068, 0);
    let refused = host.bus.with_model(|model| model.core_dump(1, 0)).expect_err("MPI1");
    assert!(refused.to_string().contains("sas1068"));
    assert_eq!(host.state(), State::Operational);
}

#[test]
fn log_entries_come_as_events_with_sequence_numbers_and_wait_to_be_acknowledged() {
    for chip in Chip::ALL {
        let mut host = Host::operational(chip, 0);
        host.want_events();
        let mut entry = LogEntry { qualifier: 0x8001, ..LogEntry::default() };
        entry.data[0] = 0xa5;
        host.bus.with_model(|model| model.fill_log(2, &entry, true));
        host.run();
        let places = if chip.is_mpi1() { (0x08, 0x0a, 0x14) } else { (0x0c, 0x0e, 0x14) };
        // The entry follows a sequence number of its own on MPI1.
        let base = 0x1c + if chip.is_mpi1() { 8 } else { 0 };
        let data_at = if chip.is_mpi1() { 0x0c } else { places.2 };
        for sequence in [1, 2] {
            let (_, event) = host.reply().expect("an event");
            assert_eq!((event[3], le16(&event, 0), le32(&event, 0x14)), (7, 12, 0x21));
            assert_eq!(le16(&event, base + places.0), sequence);
            assert_eq!(le16(&event, base + places.1), 0x8001);
            assert_eq!(event[base + data_at], 0xa5);
            assert_eq!(event[6], 1);
        }
        assert_eq!(host.bus.with_model(|model| model.unacknowledged()), 2);
    }
}

#[test]
fn a_power_cut_takes_unflushed_writes_and_the_controllers_state() {
    const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    const SYNCHRONIZE: [u8; 10] = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for chip in Chip::ALL {
        let mut host = Host::operational(chip, 1);
        let disk = host.disk(0);
        host.greet(disk);
        for (byte, flush) in [(0x11u8, true), (0x22, false)] {
            host.memory.write(DATA, &[byte; 512]);
            assert!(host.scsi(disk, &WRITE, false, 512).is_empty());
            if flush {
                assert!(host.scsi(disk, &SYNCHRONIZE, false, 0).is_empty());
            }
        }
        host.bus.with_model(|model| {
            model.stop_answering(true);
            model.fault(7);
            model.power_cut(&mut |_, _| false).expect("memory");
            assert_eq!(model.state(), State::Reset);
        });
        host.wait(100);
        assert_eq!(host.state(), State::Ready);
        host.bus.with_model(|model| {
            let mut bytes = [0; 512];
            let target = &mut model.device(0).expect("still there").target;
            target.disk().read(0, &mut bytes).expect("read");
            assert_eq!(bytes, [0x11; 512], "what was flushed, and only that");
            assert_eq!(target.disk().dirty_bytes(), 0);
        });
    }
}

#[test]
fn a_survivor_of_a_power_cut_is_asked_for_by_slot() {
    let mut model = Model::new(Chip::SAS2008);
    for (slot, disk) in (0u8..).zip(disks(2, 1 << 20)) {
        model.add_disk(slot, disk).expect("free");
    }
    for slot in [0, 1] {
        let disk = model.device(slot).expect("there").target.disk_mut();
        disk.write(4096, &[9; 512]).expect("written");
    }
    model.power_cut(&mut |slot, offset| (slot, offset) == (1, 4096)).expect("memory");
    let left: Vec<u8> = model
        .devices()
        .map(|device| {
            let mut byte = [0];
            device.target.disk().read(4096, &mut byte).expect("read");
            byte[0]
        })
        .collect();
    assert_eq!(left, [0, 9]);
}

#[test]
fn a_grown_disk_says_so_to_who_knows_it() {
    let mut host = Host::operational(Chip::SAS2008, 1);
    let disk = host.disk(0);
    host.greet(disk);
    host.bus.with_model(|model| {
        assert!(model.grow_disk(7, 1).is_none());
        assert!(model.grow_disk(0, 1).expect("there").is_err(), "never smaller");
        model.grow_disk(0, 2 << 20).expect("there").expect("larger");
    });
    let reply = host.scsi(disk, &TEST_UNIT_READY, false, 0);
    assert_eq!(reply[0x0c], CHECK);
    assert_eq!(host.get(SENSE + 12, 2), [0x2a, 0x09]);
}

#[test]
fn a_hung_firmware_and_a_stopped_one_have_no_deadline() {
    use super::super::Ioc;
    let host = Host::operational(Chip::SAS3008, 1);
    host.bus.with_model(|model| {
        model.raise_event(0x0f, Vec::new(), false);
        assert!(model.deadline().is_some());
        model.stop_answering(true);
        assert_eq!(model.deadline(), None);
        model.stop_answering(false);
        model.fault(2);
        assert_eq!(model.deadline(), None);
    });
}

#[test]
fn a_disk_whose_file_is_cut_short_ends_commands_with_a_medium_error_and_goes_on() {
    use crate::disk::Disk;
    use crate::target::{Target, TargetConfig};

    const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk");
    for chip in Chip::ALL {
        let _ = std::fs::remove_file(&path);
        let on_file = Disk::create(&path, 1 << 20).expect("made");
        let mut host = Host::operational(chip, 0);
        host.bus.with_model(|model| {
            model.add_disk(0, Target::new(TargetConfig::default(), on_file)).expect("free");
        });
        host.run();
        while host.reply().is_some() {}
        let disk = host.disk(0);
        host.greet(disk);
        let cut = std::fs::OpenOptions::new().write(true).open(&path).expect("there");
        cut.set_len(0).expect("cut");
        let reply = host.scsi(disk, &READ_ONE, true, 512);
        assert_eq!(reply[0x0c], CHECK);
        let sense = host.get(SENSE, 14);
        assert_eq!((sense[2], sense[12]), (3, 0x11), "MEDIUM ERROR");
        assert_eq!(host.scsi(disk, &WRITE, false, 512)[0x0c], CHECK);
        cut.set_len(1 << 20).expect("restored");
        assert!(host.scsi(disk, &WRITE, false, 512).is_empty(), "as if nothing had been");
        assert!(host.scsi(disk, &READ_ONE, true, 512).is_empty());
    }
}
