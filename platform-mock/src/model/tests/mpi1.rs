//! What mptbase, mptscsih and mptsas ask of a SAS1068 and QEMU's device does not answer.

use super::*;

const IO_UNIT: u8 = 0x10;
const DEVICE: u8 = 0x12;
const PHY: u8 = 0x13;
const ENCLOSURE: u8 = 0x15;

impl Host {
    /// Asks for events and enables the port; what came of it is taken.
    fn listening(count: u16) -> Self {
        let mut host = Host::operational(Chip::SAS1068, count);
        host.handshake(&[0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]);
        host.handshake(&[1, 0, 0, 7, 0, 0, 0, 0, 7, 0, 0, 0]);
        assert!(host.reply().is_none(), "the port was enabled before events were asked for");
        host
    }

    /// Gives reply frames back that were taken.
    fn give_all(&self) {
        self.give_frames(8);
    }

    /// The next reply frame, which is given back.
    fn frame(&mut self) -> Option<Vec<u8>> {
        let (word, frame) = self.reply()?;
        self.registers.write32(0x44, (word as u32) << 1);
        self.run();
        Some(frame)
    }

    /// Lets the time pass in which the host walks through the pages after a piece of news.
    fn walk(&self) {
        self.bus.advance(Duration::from_secs(1));
    }

    /// The events that have come: code and data.
    fn events(&mut self) -> Vec<(u8, Vec<u8>)> {
        std::iter::from_fn(|| self.frame())
            .map(|frame| {
                assert_eq!((frame[3], frame[7], le32(&frame, 8)), (7, 0x80, 7));
                (frame[0x14], frame[0x1c..usize::from(frame[2]) * 4].to_vec())
            })
            .collect()
    }

    /// Posts a message of these bytes and takes its reply.
    fn message(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.put_frame(1, bytes);
        self.post(1, 0, 0);
        self.frame().expect("a reply")
    }

    fn unit_control(&mut self, operation: u8, handle: u8, phy: u8) -> u16 {
        let mut request = [0u8; 0x20];
        request[0] = operation;
        request[3] = 0x1b;
        request[4] = handle;
        request[8] = 7;
        request[0x0e] = phy;
        let reply = self.message(&request);
        assert_eq!((reply[0], reply[2], reply[3]), (operation, 5, 0x1b));
        assert_eq!((reply[4], le32(&reply, 8)), (handle, 7));
        le16(&reply, 0x0e)
    }
}

#[test]
fn a_disk_is_found_below_a_phy_that_is_a_device_of_its_own() {
    let mut host = Host::listening(2);
    for phy in 0..8u8 {
        let own = u16::from(phy) + 1;
        let attached = if phy < 2 { 9 + u16::from(phy) } else { 0 };
        let (status, unit) = host.config(1, IO_UNIT, 0, 0);
        let at = 0x10 + usize::from(phy) * 16;
        assert_eq!((status, le16(&unit, at + 8), le16(&unit, at + 10)), (0, attached, own));
        let (status, page) = host.config(1, PHY, 0, phy.into());
        assert_eq!((status, le16(&page, 8), le16(&page, 0x14)), (0, own, attached));
        let (status, page) = host.config(1, DEVICE, 0, 2 << 28 | u32::from(own));
        assert_eq!((status, le16(&page, 0x18), le32(&page, 0x1c)), (0, own, 0x71));
        assert_eq!((page[0x16], le16(&page, 0x20)), (phy, 1), "there, and no target");
        if attached != 0 {
            let (status, page) = host.config(1, DEVICE, 0, 2 << 28 | u32::from(attached));
            assert_eq!((status, le16(&page, 0x14), page[0x1a]), (0, own, phy));
            assert_eq!((le32(&page, 0x1c), le16(&page, 0x20)), (0x401, 7));
        }
        host.give_all();
    }
    // The walk from handle to handle finds disks only.
    assert_eq!(host.config(1, DEVICE, 0, 0xffff).1[0x18], 9);
    host.give_all();
    let (status, page) = host.config(1, ENCLOSURE, 0, 1 << 28 | 1);
    assert_eq!((status, page.len(), le16(&page, 0x16), le16(&page, 0x18)), (0, 0x28, 1, 8));
    assert_eq!(host.config(0, ENCLOSURE, 0, 1 << 28 | 2).0, 0x22);
}

#[test]
fn a_sata_disk_says_so() {
    let mut host = Host::listening(0);
    let mut target = crate::model::disk(5, 1 << 20);
    let config = crate::target::TargetConfig { sata: true, ..target.config().clone() };
    target = crate::target::Target::new(config, crate::disk::Disk::memory(1 << 20));
    host.bus.with_model(|model| model.add_disk(3, target)).expect("an empty slot");
    host.walk();
    host.walk();
    let events = host.events();
    let (_, data) = events.iter().find(|(code, _)| *code == 0x0f).expect("of the device");
    assert_eq!(le32(data, 8), 0x81);
    let (status, page) = host.config(1, DEVICE, 0, 1 << 28 | 3);
    assert_eq!((status, le32(&page, 0x1c), le16(&page, 0x20)), (0, 0x81, 0xf7));
    let (status, page) = host.config(1, DEVICE, 1, 1 << 28 | 3);
    assert_eq!((status, page[0x1c], page.len()), (0, 0x34, 48));
}

#[test]
fn an_expander_is_walked_as_mptsas_walks_it() {
    const EXPANDER: u8 = 0x11;
    let mut host = Host::new(Chip::SAS1068, 0);
    host.bus
        .with_model(|model| {
            let expander = model.attach_expander(6)?;
            model.add_disk(10, crate::model::disk(3, 1 << 20)).expect("an empty bay");
            Ok::<_, &str>(expander)
        })
        .expect("free phys");
    host.give_frames(8);
    let port = host.handshake(&[0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((le16(&port, 0x16), le16(&port, 0x18)), (14, 14), "target ids");
    // The driver takes the port's figure over.
    let high = ((host.at(0) >> 32) as u32).to_le_bytes();
    let mut init = vec![4, 0, 0, 2, 0, 14, 1, 0, 0, 0, 0, 0, 80, 0, 0, 0];
    init.extend(high);
    init.extend(high);
    assert_eq!(host.handshake(&init)[5], 14);
    host.handshake(&[1, 0, 0, 7, 0, 0, 0, 0, 7, 0, 0, 0]);

    let (status, page) = host.config(1, EXPANDER, 0, 0xffff);
    let (handle, parent, phys) = (le16(&page, 0x18), le16(&page, 0x1a), page[0x20]);
    assert_eq!((status, page.len(), parent, phys), (0, 0x24, 5, 10));
    assert_eq!(host.config(0, EXPANDER, 0, handle.into()).0, 0x22, "the last");
    let own = host.config(1, IO_UNIT, 0, 0).1;
    for phy in 4..8 {
        assert_eq!(le16(&own, 0x10 + phy * 16 + 8), handle, "all phys of the wide port");
    }
    let (status, page) = host.config(1, DEVICE, 0, 2 << 28 | u32::from(handle));
    assert_eq!((status, le32(&page, 0x1c), le16(&page, 0x14)), (0, 0x102, 5));
    let mut disks = Vec::new();
    for phy in 0..10 {
        host.give_all();
        let address = 1 << 28 | phy << 16 | u32::from(handle);
        let (status, page) = host.config(1, EXPANDER, 1, address);
        assert_eq!((status, page.len(), page[0x0d], page[0x20]), (0, 0x28, phy as u8, phy as u8));
        assert_eq!(le16(&page, 0x1c), handle, "the phy's owner");
        disks.push(le16(&page, 0x12));
    }
    assert_eq!(disks[..2], [0; 2]);
    assert_eq!(disks[6..], [5, 6, 7, 8], "the way back");
    assert_eq!(host.config(0, EXPANDER, 1, 1 << 28 | 10 << 16 | u32::from(handle)).0, 0x22);
    let (status, page) = host.config(1, DEVICE, 0, 2 << 28 | u32::from(disks[2]));
    assert_eq!((status, le16(&page, 0x14), page[0x16], page[0x1a]), (0, handle, 2, 10));
    assert_eq!((le16(&page, 8), le16(&page, 0x0a)), (2, 2), "bay and enclosure");
    host.give_all();
    assert_eq!(host.scsi(10, &TEST_UNIT_READY, false, 0)[0x0c], 2, "it is spoken to by that id");

    // REPORT MANUFACTURER INFORMATION, as mptsas_exp_repmanufacture_info sends it.
    host.memory.write(DATA, &[0x40, 1, 0, 0]);
    let mut request = [0u8; 0x38];
    request[1] = 0xff;
    request[3] = 0x1a;
    request[4] = 4;
    request[8] = 9;
    let (_, expander) = host.config(1, EXPANDER, 0, 0xffff);
    host.memory.write(DATA, &[0x40, 1, 0, 0]);
    request[0x10..0x18].copy_from_slice(&expander[0x0c..0x14]);
    for (at, flags, length, place) in [(0x20, 0x56u32, 4u32, DATA), (0x2c, 0x52, 60, DATA + 4)] {
        request[at..at + 4].copy_from_slice(&(flags << 24 | length).to_le_bytes());
        request[at + 4..at + 12].copy_from_slice(&host.at(place).to_le_bytes());
    }
    let reply = host.message(&request);
    assert_eq!((le16(&reply, 0x0e), le16(&reply, 4)), (0, 60));
    assert_eq!(host.get(DATA + 4, 3), [0x41, 1, 0]);

    // A disk that is plugged into a bay is told of by the expander's phy.
    host.handshake(&[0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]);
    host.run();
    host.events();
    host.bus.with_model(|model| model.add_disk(8, crate::model::disk(4, 1 << 20))).expect("empty");
    host.walk();
    host.walk();
    let events = host.events();
    assert_eq!((events[0].0, events[0].1[0], le16(&events[0].1, 2)), (0x12, 0, handle));
    assert_eq!(events[0].1[4..12], expander[0x0c..0x14]);
    assert_eq!((events[2].1[0], le16(&events[2].1, 0x0c)), (8, handle));
}

#[test]
fn plugging_is_told_by_the_link_and_then_by_the_device() {
    let mut host = Host::listening(1);
    let new = crate::model::disk(7, 1 << 20);
    let address = new.config().sas_address;
    host.bus.with_model(|model| model.add_disk(4, new)).expect("an empty slot");
    host.run();
    assert_eq!(host.events(), [], "the host still walks after its start");
    host.walk();
    let mut events = host.events();
    assert_eq!(events.len(), 1, "the link, after which the host walks again");
    host.walk();
    events.extend(host.events());
    assert_eq!(events.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [0x12, 0x16, 0x0f, 0x16]);
    assert_eq!(events[0].1[..4], [4, 0x90, 5, 0], "phy 4 is up");
    assert_eq!((le32(&events[1].1, 0), le32(&events[3].1, 0)), (1, 0));
    let device = &events[2].1;
    assert_eq!((device.len(), device[0], device[1], device[2]), (36, 4, 0, 3));
    assert_eq!((le16(device, 0x0c), le64(device, 0x10)), (5, address));

    host.bus.with_model(|model| model.remove_disk(4)).expect("the disk");
    host.run();
    let events = host.events();
    assert_eq!(events.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [0x12, 0x0f]);
    assert_eq!((events[0].1[1], events[1].1[2]), (0x09, 4), "down, and gone");

    // The driver's answer: a target reset by the only way that it has.
    let mut task = [0u8; 0x34];
    task[0] = 4;
    task[3] = 1;
    task[5] = 3;
    task[7] = 2;
    task[8] = 6;
    host.put_frame(2, &task);
    host.registers.write32(0x48, host.at(2 * 128) as u32);
    host.run();
    let reply = host.frame().expect("its reply");
    assert_eq!((reply[0], reply[3], reply[4], le16(&reply, 0x0e)), (4, 1, 0, 0));
}

#[test]
fn a_swapped_disk_comes_when_the_host_has_let_go_of_the_old_one() {
    let mut host = Host::listening(1);
    host.bus.with_model(|model| model.swap_disk(0, crate::model::disk(9, 1 << 20)));
    host.run();
    assert_eq!(host.events().len(), 2, "the old one has gone");
    // What happens meanwhile is told meanwhile.
    host.bus.with_model(|model| model.raise_event(0x0e, vec![0; 4], false));
    host.run();
    assert_eq!(host.events(), [(0x0e, vec![0; 4])]);
    host.walk();
    assert_eq!(host.events(), []);
    host.walk();
    host.walk();
    assert_eq!(host.events().len(), 4, "the new one is there");
}

#[test]
fn no_two_pieces_of_news_set_the_host_on_walks_at_once() {
    let mut host = Host::listening(0);
    host.walk();
    for slot in 0..3 {
        let new = crate::model::disk(slot.into(), 1 << 20);
        host.bus.with_model(|model| model.add_disk(slot, new)).expect("an empty slot");
    }
    host.bus.with_model(|model| model.remove_disk(1)).expect("the disk");
    let mut told = Vec::new();
    for _ in 0..6 {
        host.run();
        let events = host.events();
        // Links that come up and disks that come: not links that go down, nor disks that go.
        let walks = events.iter().filter(|(code, data)| match code {
            0x12 => data[1] >> 4 >= 8,
            0x0f => data[2] == 3,
            _ => false,
        });
        assert_eq!(walks.count(), 1, "{events:x?}");
        told.extend(events);
        host.walk();
    }
    let of_1: Vec<_> = told.iter().filter(|(code, data)| *code == 0x0f && data[0] == 1).collect();
    assert_eq!(
        of_1.iter().map(|(_, data)| data[2]).collect::<Vec<_>>(),
        [3, 4],
        "it came and went"
    );
}

#[test]
fn sas_io_unit_control_does_what_mptsas_asks_for() {
    let mut host = Host::listening(1);
    for operation in [1, 2, 9] {
        assert_eq!(host.unit_control(operation, 0, 0), 0, "operation {operation}");
    }
    assert_eq!(host.unit_control(8, 0, 7), 0);
    for (operation, handle, phy) in [(6, 0, 8), (7, 0, 9), (8, 0, 8), (0, 0, 0), (0x0d, 77, 0)] {
        assert_eq!(host.unit_control(operation, handle, phy), 7, "operation {operation}");
    }
    assert!(host.events().is_empty());
    assert_eq!(host.unit_control(6, 0, 0), 0);
    host.walk();
    let rates: Vec<_> = host.events().iter().map(|(code, data)| (*code, data[1])).collect();
    assert_eq!(rates, [(0x12, 0x09), (0x12, 0x90)], "down and up");
    assert_eq!(host.unit_control(7, 0, 0), 0);
    host.walk();
    let events = host.events();
    assert_eq!((events.len(), events[2].0, events[2].1[2]), (3, 0x0f, 8), "an internal reset");
    assert_eq!(host.unit_control(0x0b, 0, 0), 0);
    host.run();
    assert_eq!(host.events(), [(0x16, vec![1, 0, 0, 0]), (0x16, vec![0; 4])]);
}

#[test]
fn what_the_firmware_has_not_is_refused_and_does_not_stop_it() {
    let mut host = Host::listening(0);
    for function in [0x09, 0x12, 0x15, 0x17, 0x18, 0x19, 0x1c, 0x1d, 0x1e] {
        let reply = host.message(&[1, 0, 0, function, 0, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!((reply[3], le16(&reply, 0x0e), le32(&reply, 8)), (function, 1, 9));
        assert_eq!(host.state(), State::Operational);
    }
    let mut request = [0u8; 0x38];
    request[3] = 0x1a;
    request[4] = 4;
    request[8] = 9;
    let reply = host.message(&request);
    assert_eq!((reply[2], reply[3], reply[0x0d], le16(&reply, 0x0e)), (7, 0x1a, 1, 0x90));
}

#[test]
fn an_ioc_without_reply_frames_waits_for_one() {
    let mut host = Host::listening(0);
    for _ in 0..10 {
        host.bus.with_model(|model| model.raise_event(0x0e, vec![0; 4], false));
    }
    host.run();
    assert_eq!(host.state(), State::Operational);
    assert!(host.bus.with_model(|model| model.outbox.len()) > 0);
    assert_eq!(host.events().len(), 10);
    assert_eq!(host.bus.with_model(|model| model.outbox.len()), 0);
}

#[test]
fn the_line_is_up_as_long_as_an_unmasked_reply_waits() {
    let host = Host::listening(0);
    let pending = || host.bus.with_model(|model| crate::model::Ioc::interrupt_pending(model));
    host.registers.write32(0x30, 0);
    assert_eq!((host.registers.read32(0x34), pending()), (9, false));
    for _ in 0..2 {
        host.bus.with_model(|model| model.raise_event(0x0e, vec![0; 4], false));
    }
    host.run();
    assert_eq!((host.registers.read32(0x30), pending()), (8, false), "masked");
    host.registers.write32(0x34, 1);
    assert!(pending());
    host.registers.write32(0x30, 0);
    assert!(pending(), "only reading the FIFO takes a reply");
    assert_ne!(host.registers.read32(0x44), u32::MAX);
    assert!(pending(), "another waits");
    assert_ne!(host.registers.read32(0x44), u32::MAX);
    assert!(!pending());
    assert_eq!((host.registers.read32(0x30), host.registers.read32(0x44)), (0, u32::MAX));
    // A doorbell interrupt is masked by its own bit.
    host.registers.write32(0, 0x42 << 24 | 3 << 16);
    host.run();
    assert_eq!((host.registers.read32(0x30), pending()), (1, false));
    host.registers.write32(0x34, 8);
    assert!(pending());
    host.registers.write32(0x30, 0);
    assert!(!pending());
}

#[test]
fn an_io_unit_reset_and_the_end_of_a_host_page_buffer_are_understood() {
    let host = Host::listening(0);
    host.registers.write32(0, 0x44 << 24 | 3 << 12);
    host.run();
    assert_eq!((host.state(), host.registers.read32(0x30) >> 31), (State::Operational, 0));
    host.registers.write32(0, 0x41 << 24);
    host.run();
    assert_eq!(host.state(), State::Ready);
    assert_eq!(host.complaints(), 0);
}

#[test]
fn task_management_finds_the_commands_that_it_overtook() {
    let mut host = Host::listening(2);
    let io = host.scsi_io(4, 1, &TEST_UNIT_READY, false, 0);
    host.put_frame(4, &io);
    let other = host.scsi_io(5, 0, &TEST_UNIT_READY, false, 0);
    host.put_frame(5, &other);
    let mut task = vec![0u8; 0x34];
    task[0] = 1;
    task[3] = 1;
    task[5] = 3;
    host.put_frame(2, &task);
    // All are there before the firmware looks.
    for (smid, fifo) in [(4, 0x40), (5, 0x40), (2, 0x48)] {
        host.registers.write32(fifo, host.at(smid * 128) as u32);
    }
    host.run();
    let ended = host.frame().expect("the command's");
    assert_eq!((ended[3], ended[0], le16(&ended, 0x0e)), (0, 1, 0x48));
    let reply = host.frame().expect("the reset's");
    assert_eq!((reply[3], le32(&reply, 0x14)), (1, 1));
    let done = host.frame().expect("the other's, which went on");
    assert_eq!((done[3], done[0], done[0x0c]), (0, 0, 2));
}
