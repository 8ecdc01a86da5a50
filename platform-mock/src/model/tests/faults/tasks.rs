//! Faults of task management, of messages of one function, and of disks.

use super::*;

const ABORT_TASK: u8 = 1;
const QUERY_TASK: u8 = 7;
const WRITE_ONE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const SYNCHRONIZE: [u8; 10] = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl Host {
    /// Has the disk in slot 0 hold this command.
    fn hold(&self, smid: u16) {
        self.bus.with_model(|model| model.hold_commands(true));
        self.ask(smid, self.disk(0));
    }

    /// Sends a task management request and takes nothing.
    fn send_task(&self, kind: u8, task: u16) {
        let mut frame = vec![0u8; 0x34];
        frame[..2].copy_from_slice(&self.disk(0).to_le_bytes());
        frame[3] = 1;
        frame[5] = kind;
        if self.mpi1() {
            frame[8] = 2;
        }
        frame[0x30..0x32].copy_from_slice(&task.to_le_bytes());
        self.put_frame(2, &frame);
        if self.mpi1() {
            self.registers.write32(0x48, self.at(2 * 128) as u32);
        } else {
            self.registers.write64(0xc0, 6 | 2 << 16);
        }
        self.bus.run_until_idle();
    }
}

#[test]
fn a_lost_task_management_reply_was_for_something_that_was_done() {
    for chip in CHIPS {
        let fault = Fault::TaskManagementReplyLost;
        let mut host = Host::with_fault(chip, fault, When::AT_ONCE);
        host.hold(3);
        host.send_task(ABORT_TASK, 3);
        host.wait(100);
        assert_eq!(host.answered(), [3], "the command was ended, its own reply came");
        host.send_task(ABORT_TASK, 3);
        assert_eq!(host.answered(), [2]);
    }
}

#[test]
fn task_managements_reply_comes_before_that_of_the_command_it_ended() {
    for chip in CHIPS {
        let fault = Fault::TaskManagementReplyEarly { us: 200 };
        let mut host = Host::with_fault(chip, fault, When::AT_ONCE);
        host.hold(3);
        host.send_task(ABORT_TASK, 3);
        assert_eq!(host.answered(), [2]);
        host.bus.advance(Duration::from_micros(200));
        assert_eq!(host.answered(), [3]);
        host.hold(4);
        host.send_task(ABORT_TASK, 4);
        assert_eq!(host.answered(), [4, 2], "once only");
    }
}

#[test]
fn refused_task_management_has_done_nothing() {
    for chip in CHIPS {
        let mut host = Host::with_fault(chip, Fault::TaskManagementRefused, When::AT_ONCE);
        host.hold(3);
        let (refused, ended) = host.task(ABORT_TASK, host.disk(0), 3);
        assert_eq!((refused[4], refused[5], ended.len()), (5, ABORT_TASK, 0));
        let (found, _) = host.task(QUERY_TASK, host.disk(0), 3);
        assert_eq!(found[4], 8, "the command is still there");
        let (done, ended) = host.task(ABORT_TASK, host.disk(0), 3);
        assert_eq!((done[4], ended.len()), (0, 1));
        assert_eq!(host.complaints(), 0);
    }
}

#[test]
fn refused_task_management_through_the_doorbell_ends_the_handshake() {
    let mut host = Host::with_fault(Chip::SAS1068, Fault::TaskManagementRefused, When::AT_ONCE);
    host.hold(3);
    let mut request = vec![0u8; 0x34];
    request[3] = 1;
    request[5] = ABORT_TASK;
    request[8] = 2;
    request[0x30] = 3;
    host.handshake(&request);
    assert_eq!(host.doorbell() >> 27 & 1, 0);
    let (_, refused) = host.reply().expect("through the FIFO");
    assert_eq!((refused[3], refused[4]), (1, 5));
}

#[test]
fn a_disk_is_full_or_busy_so_many_times() {
    for chip in CHIPS {
        for (fault, status) in [(Fault::TaskSetFull, 0x28), (Fault::BusyStatus, 0x08)] {
            let mut host = Host::with_fault(chip, fault, When::AT_ONCE.times(2));
            for _ in 0..2 {
                let refused = host.scsi(host.disk(0), &READ_ONE, true, 512);
                assert_eq!((refused[0x0c], le32(&refused, 0x14)), (status, 0));
                assert_eq!(le16(&refused, 0x0e), 0x45);
            }
            assert!(host.scsi(host.disk(0), &READ_ONE, true, 512).is_empty());
            assert_eq!(host.bus.with_model(|model| model.commands()), 3, "two disks met, one read");
            assert_eq!(host.complaints(), 0);
        }
    }
}

#[test]
fn the_reply_to_a_configuration_request_is_lost_and_no_other() {
    for chip in CHIPS {
        let mut host = Host::with_fault(chip, Fault::ConfigReplyLost, When::AT_ONCE);
        host.ask(3, host.disk(0));
        host.put_frame(5, &[0, 0, 0, 4, 0, 0, 0, 0, 5, 0, 0, 0]);
        host.post(5, 8, 0);
        assert_eq!(host.answered(), [3]);
        host.post(5, 8, 0);
        assert_eq!(host.answered(), [5]);
    }
}

#[test]
fn the_reply_to_a_port_enable_never_comes_through_queue_or_doorbell() {
    for chip in CHIPS {
        let mut host = Host::with_fault(chip, Fault::PortEnableReplyLost, When::AT_ONCE);
        if host.mpi1() {
            let reply = host.handshake(&[0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(reply[..2], [0, 0], "the doorbell holds no reply");
            assert_eq!(host.doorbell() >> 27 & 1, 1, "the handshake does not go on");
        } else {
            host.put_frame(5, &[0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]);
            host.post(5, 8, 0);
            host.wait(1000);
            assert_eq!(host.answered(), [0; 0]);
            host.post(5, 8, 0);
            assert_eq!(host.answered(), [5]);
        }
        assert_eq!(host.done().len(), 1);
    }
}

#[test]
fn a_storm_brings_as_many_events_as_it_says() {
    for chip in CHIPS {
        let mut host = Host::with_fault(chip, Fault::EventStorm { events: 5 }, When::AT_ONCE);
        host.want_events();
        assert_eq!(host.done().len(), 0, "no port is enabled");
        host.enable_port();
        host.wait(100);
        assert_eq!(host.done(), ["5 events were raised"], "{}", chip.name);
    }
}

#[test]
fn another_disk_has_the_handle_of_the_one_before() {
    for chip in CHIPS {
        let mut host = Host::with_fault(chip, Fault::HandleReuse { slot: 0 }, When::AT_ONCE);
        let wwn = |host: &Host| {
            host.bus.with_model(|model| model.device(0).map(|disk| disk.target.config().wwn))
        };
        let (handle, before) = (host.disk(0), wwn(&host));
        host.want_events();
        host.enable_port();
        host.doorbell();
        assert_eq!(host.done().len(), 1, "{}", chip.name);
        assert_eq!(host.disk(0), handle);
        assert_ne!(wwn(&host), before);
        for _ in 0..4 {
            while host.reply().is_some() {}
            host.give_back();
            host.wait(3_000);
        }
        host.greet(handle);
    }
}

#[test]
fn a_pulled_disk_is_not_there_until_it_is_back() {
    for chip in CHIPS {
        let fault = Fault::DevicePulled { slot: 0, back_ms: 100 };
        let mut host = Host::with_fault(chip, fault, When::message(2));
        let disk = host.disk(0);
        host.scsi(disk, &WRITE_ONE, false, 512);
        let gone = host.scsi(disk, &READ_ONE, true, 512);
        assert_eq!(le16(&gone, 0x0e), 0x43);
        host.wait(100);
        assert!(host.bus.with_model(|model| model.device(0).is_some()));
        assert_eq!(host.done().len(), 2);
        let never = Fault::DevicePulled { slot: 0, back_ms: 0 };
        let host = Host::with_fault(chip, never, When::AT_ONCE);
        host.doorbell();
        host.wait(10_000);
        assert!(host.bus.with_model(|model| model.device(0).is_none()));
    }
}

/// Writes a block of `byte`.
fn write(host: &mut Host, byte: u8) {
    host.memory.write(DATA, &[byte; 512]);
    let disk = host.disk(0);
    let frame = host.scsi_io(9, disk, &WRITE_ONE, false, 512);
    host.put_frame(9, &frame);
    host.post(9, 0, 0);
}

#[test]
fn the_power_is_cut_after_the_nth_write_and_before_its_reply() {
    for chip in CHIPS {
        let mut survived = [false; 2];
        for seed in 0..24 {
            let plan = Plan::of(seed, Fault::PowerCut, When::disk_write(3));
            let mut host = Host::with_plan(chip, &plan);
            write(&mut host, 1);
            assert_eq!(host.answered(), [9]);
            assert!(host.scsi(host.disk(0), &SYNCHRONIZE, false, 0).is_empty());
            assert_eq!(host.bus.fault_counts().disk_writes, 2);
            write(&mut host, 2);
            assert_eq!(host.done().len(), 1);
            assert_eq!(host.answered(), [0; 0], "no reply");
            host.wait(200);
            assert_eq!(host.doorbell() >> 28, 1, "the firmware has booted");
            let mut block = [0; 512];
            host.bus.with_model(|model| {
                let device = model.device(0).expect("a disk");
                device.target.disk().read(0, &mut block).expect("memory");
            });
            assert!(block == [1; 512] || block == [2; 512]);
            survived[usize::from(block[0] == 2)] = true;
        }
        assert_eq!(survived, [true; 2], "what was not flushed survives or not");
    }
}
