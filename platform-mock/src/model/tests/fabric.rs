//! Expander, SATA disks and RAID volumes, walked through their pages as a driver walks them.

use super::*;
use crate::disk::Disk;
use crate::model::{DeviceStatus, MemberState, RaidLevel, VolumeState, disk};
use crate::target::{Target, TargetConfig};

const MPI2: [Chip; 3] = [Chip::SAS2008, Chip::SAS3008, Chip::SAS3816];
const CONTROLLER: u64 = 0x5006_05b0_0123_4560;
const RAID: u64 = 0x0600_508e_0000_0001;

fn sata(number: u16) -> Target {
    let config = TargetConfig {
        sata: true,
        wwn: 0x5000_0000_0000_0100 + u64::from(number),
        ..disk(number, 1 << 20).config().clone()
    };
    Target::new(config, Disk::memory(1 << 20))
}

/// A host whose controller has a SAS disk in slot 0, a SATA one in slot 1; behind an expander of 24
/// bays SAS disks in bays 0 to 3 and a SATA one in bay 5; a mirror of bays 2 and 3. And its handle.
fn host(chip: Chip) -> (Host, u16) {
    let host = Host::operational(chip, 1);
    host.give_frames(15);
    host.memory.write(FREE + 15 * 4, &(host.at(REPLIES + 15 * 128) as u32).to_le_bytes());
    let volume = host.bus.with_model(|model| {
        let first = chip.phys;
        model.attach_expander(24).expect("nothing is on the last phys");
        model.add_disk(1, sata(50)).expect("room");
        for bay in 0..4 {
            model.add_disk(first + bay, disk(10 + u16::from(bay), 1 << 20)).expect("room");
        }
        model.add_disk(first + 5, sata(51)).expect("room");
        let config = TargetConfig { wwn: RAID, ..TargetConfig::default() };
        let target = Target::new(config, Disk::memory(1 << 20));
        model.create_volume(RaidLevel::Raid1, &[first + 2, first + 3], target).expect("a mirror")
    });
    (host, volume)
}

impl Host {
    /// Reads a page as mpt3sas does: its header without an address, then the page.
    fn page(&mut self, kind: u8, number: u8, address: u32) -> Option<Vec<u8>> {
        let (status, _) = self.config(0, kind, number, 0);
        assert_eq!(status, 0, "the header of page {number} of type {kind:#x}");
        let (status, page) = self.config(1, kind, number, address);
        self.refill();
        assert!(matches!(status, 0 | 0x22), "{status:#x}");
        (status == 0).then_some(page)
    }

    /// Gives the frames and entries of the replies so far back.
    fn refill(&mut self) {
        let next = self.next[0] as u32;
        let chip = self.bus.with_model(|model| *model.chip());
        let register = if chip.supplemental() { 0x30c } else { 0x6c };
        self.registers.write32(register, next);
        self.registers.write32(0x48, (self.taken + 15) % DEPTH as u32);
    }

    /// Each page of a list that is asked for by "the next after".
    fn list(&mut self, kind: u8, number: u8, none: u32, at: usize) -> Vec<Vec<u8>> {
        let mut address = none;
        let mut pages = Vec::new();
        while let Some(page) = self.page(kind, number, address) {
            let next = le16(&page, at).into();
            assert!(address == none || next > address, "handles rise");
            address = next;
            pages.push(page);
            assert!(pages.len() < 64, "a list without end");
        }
        pages
    }
}

#[test]
fn every_page_of_the_fabric_agrees_with_the_others() {
    for chip in MPI2 {
        let (mut host, _) = host(chip);
        let wide = chip.phys - 4;
        let unit = host.page(0x10, 0, 0).expect("SAS IO unit 0");
        assert_eq!(unit.len(), 0x10 + 0x14 * usize::from(chip.phys));
        let devices = host.list(0x12, 0, 0xffff, 0x18);
        // Two direct ones, five in bays, and the expander.
        assert_eq!(devices.len(), 8, "{}", chip.name);
        let expander = host.page(0x11, 0, 0xffff).expect("an expander");
        let expander_handle = le16(&expander, 0x18);
        assert_eq!((expander.len(), expander[0x20], expander[0x21]), (0x3c, 28, 1));
        for page in &devices {
            let handle = le16(page, 0x18);
            let (parent, phy, port) = (le16(page, 0x14), page[0x16], page[0x22]);
            let again = host.page(0x12, 0, 2 << 28 | u32::from(handle));
            assert_eq!(again.as_ref(), Some(page), "by handle as by the list");
            let enclosure = host.page(0x15, 0, 1 << 28 | u32::from(le16(page, 0x0a)));
            let enclosure = enclosure.expect("its enclosure");
            assert!(le16(page, 8) < le16(&enclosure, 0x18), "a slot that the enclosure has");
            let parent_page = host.page(0x12, 0, 2 << 28 | u32::from(parent)).expect("its parent");
            if parent == expander_handle {
                let address = 1 << 28 | u32::from(phy) << 16 | u32::from(parent);
                let link = host.page(0x11, 1, address).expect("the expander's phy");
                assert_eq!((link.len(), le16(&link, 0x12)), (0x2c, handle));
                assert_eq!(le32(&link, 0x18), le32(page, 0x1c), "what is attached");
                assert_eq!((port, le64(&parent_page, 0x0c)), (wide, le64(&expander, 0x0c)));
                assert_eq!(page[0x0a], 2);
            } else {
                assert_eq!(le64(&parent_page, 0x0c), CONTROLLER);
                let link = host.page(0x13, 0, phy.into()).expect("the controller's phy");
                assert_eq!((link.len(), le16(&link, 0x0c), le16(&link, 8)), (0x20, handle, parent));
                let entry = &unit[0x10 + 0x14 * usize::from(phy)..];
                assert_eq!((entry[0], le16(entry, 8), le16(entry, 0x0a)), (port, handle, parent));
                assert_eq!(entry[3], link[0x1c], "one rate");
            }
        }
        // All four phys of the wide port lead to the expander, and it leads back over all four.
        for phy in wide..chip.phys {
            let entry = &unit[0x10 + 0x14 * usize::from(phy)..];
            assert_eq!((entry[0], le16(entry, 8)), (wide, expander_handle));
            let address = 1 << 28 | u32::from(24 + phy - wide) << 16 | u32::from(expander_handle);
            let link = host.page(0x11, 1, address).expect("an uplink");
            assert_eq!((le16(&link, 0x12), link[0x21]), (u16::from(phy) + 1, phy));
        }
        assert_eq!(host.page(0x11, 1, 1 << 28 | 28 << 16 | u32::from(expander_handle)), None);
        let enclosures = host.list(0x15, 0, 0xffff, 0x16);
        let slots: Vec<_> = enclosures.iter().map(|page| le16(page, 0x18)).collect();
        assert_eq!(slots, [u16::from(wide), 24]);
        assert_eq!(host.complaints(), 0);
    }
}

#[test]
fn sata_disks_are_told_by_their_place() {
    let (mut host, _) = host(Chip::SAS3008);
    let handle = u32::from(host.disk(1));
    let page = host.page(0x12, 0, 2 << 28 | handle).expect("there is one");
    assert_eq!(le64(&page, 0x0c), 0x4433_2211_0100_0000);
    assert_eq!((le32(&page, 0x1c), le64(&page, 0x24)), (0x81, 0x5000_0000_0000_0132));
    let handle = u32::from(host.disk(8 + 5));
    let page = host.page(0x12, 0, 2 << 28 | handle).expect("there is one");
    assert_eq!((le16(&page, 8), page[0x16], le32(&page, 0x1c)), (5, 5, 0x81));
    let fis = host.page(0x12, 1, 2 << 28 | handle).expect("its register FIS");
    assert_eq!((fis.len(), fis[0x1c]), (0x30, 0x34));
}

#[test]
fn a_volume_hides_its_members_and_answers_under_its_own_handle() {
    for chip in MPI2 {
        let (mut host, volume) = host(chip);
        let page = host.page(0x08, 0, 0xffff).expect("a volume");
        assert_eq!((le16(&page, 4), page[6], page[7], page[0x24]), (volume, 5, 2, 2));
        assert_eq!(page.len(), 0x28 + 2 * 4);
        let name = host.page(0x08, 1, 1 << 28 | u32::from(volume)).expect("its name");
        assert_eq!((name.len(), le64(&name, 0x30)), (0x40, RAID));
        let config = host.page(0x16, 0, 0xff).expect("a configuration");
        assert_eq!((config[0x2c], le16(&config, 0x30 + 2)), (3, volume));
        assert_eq!(host.page(0x16, 0, 0), None, "one only");
        for number in 0..2u8 {
            assert_eq!(page[0x28 + usize::from(number) * 4 + 2], number);
            let member = host.page(0x0a, 0, 1 << 28 | u32::from(number)).expect("a member");
            assert_eq!((member.len(), member[0x50]), (0x78, 7));
            let handle = le16(&member, 4);
            assert_eq!(handle, host.disk(chip.phys + 2 + number));
            assert_eq!(le16(&config, 0x38 + usize::from(number) * 8 + 6), handle);
            assert!(host.page(0x12, 0, 2 << 28 | u32::from(handle)).is_some(), "by handle, yes");
        }
        assert_eq!(host.page(0x0a, 0, 1), None, "the end of the list");
        assert_eq!(host.scsi(volume, &TEST_UNIT_READY, false, 0)[0x0c], 2, "power on");
        assert!(host.scsi(volume, &READ_ONE, true, 512).is_empty());
        let slot = chip.phys + 3;
        let state = |host: &Host| host.bus.with_model(|model| model.volume_state(volume));
        host.bus.with_model(|model| model.remove_disk(slot)).expect("there is one");
        assert_eq!(state(&host), Some(VolumeState::Degraded));
        assert!(host.scsi(volume, &READ_ONE, true, 512).is_empty(), "half of it is enough");
        host.bus.with_model(|model| model.set_member_state(slot - 1, MemberState::Failed));
        assert_eq!(state(&host), Some(VolumeState::Failed));
        assert_eq!(le16(&host.scsi(volume, &READ_ONE, true, 512), 0x0e), 0x43);
    }
}

#[test]
fn written_pages_stay_until_a_reset_and_in_nvram_longer() {
    let mut host = Host::operational(Chip::SAS3008, 1);
    let write = |host: &mut Host, action, flags: u8| {
        host.memory.write(DATA, &[4, 2, 1, 0, flags, 0, 0, 0]);
        host.config(action, 0x00, 1, 0).0
    };
    let read = |host: &mut Host, action| host.config(action, 0x00, 1, 0).1[4];
    assert_eq!(read(&mut host, 1), 0x40);
    assert_eq!(write(&mut host, 2, 0x20), 0);
    assert_eq!((read(&mut host, 1), read(&mut host, 5)), (0x20, 0x40), "current and default");
    assert_eq!(write(&mut host, 4, 0x04), 0);
    assert_eq!((read(&mut host, 1), read(&mut host, 6)), (0x20, 0x04), "current and NVRAM");
    host.memory.write(DATA, &[4, 2, 3, 0, 0, 0, 0, 0]);
    assert_eq!(host.config(2, 0x00, 1, 0).0, 0x23, "another page's bytes");
}

#[test]
fn smp_reaches_the_expander_and_nobody_else() {
    for chip in MPI2 {
        let (mut host, _) = host(chip);
        let expander = le64(&host.page(0x11, 0, 0xffff).expect("an expander"), 0x0c);
        for (to, status, bytes) in [(expander, 0, 60), (CONTROLLER, 0x90, 0)] {
            let mut frame = vec![0u8; 128];
            frame[1] = chip.phys - 4;
            frame[3] = 0x1a;
            frame[4] = 4;
            frame[0x10..0x18].copy_from_slice(&to.to_le_bytes());
            let (request, response) = (host.at(DATA), host.at(DATA + 16));
            host.memory.write(DATA, &[0x40, 1, 0, 0]);
            let mut at = 0x20;
            for (address, bytes, flags) in [(request, 4u32, 0x56), (response, 60, 0xd3)] {
                if chip.ieee() {
                    frame[at..at + 8].copy_from_slice(&address.to_le_bytes());
                    frame[at + 8..at + 12].copy_from_slice(&bytes.to_le_bytes());
                    at += 16;
                } else {
                    frame[at..at + 4].copy_from_slice(&(bytes | flags << 24).to_le_bytes());
                    frame[at + 4..at + 12].copy_from_slice(&address.to_le_bytes());
                    at += 12;
                }
            }
            host.put_frame(6, &frame);
            host.post(6, 8, 0);
            let (_, reply) = host.reply().expect("a reply");
            assert_eq!((le16(&reply, 0x0e), le16(&reply, 4), reply[2]), (status, bytes, 7));
            if status == 0 {
                let answer = host.get(DATA + 16, 60);
                assert_eq!(answer[..3], [0x41, 1, 0]);
                assert_eq!(&answer[12..20], b"FUSION  ");
            }
        }
    }
}

#[test]
fn discovery_tells_of_enclosures_disks_expander_and_volumes_in_that_order() {
    for chip in MPI2 {
        let (mut host, volume) = host(chip);
        let mut frame = vec![0u8; 128];
        frame[3] = 7;
        host.put_frame(1, &frame);
        host.post(1, 8, 0);
        assert_eq!(host.reply().map(|(_, reply)| le16(&reply, 0x0e)), Some(0));
        frame[3] = 6;
        host.put_frame(1, &frame);
        host.post(1, 8, 0);
        let mut seen = Vec::new();
        while let Some((word, reply)) = host.reply() {
            assert!(usize::from(reply[2]) * 4 <= 128);
            if reply[3] == 6 {
                assert_eq!((word >> 16) as u16, 1);
                seen.push((6, 0));
            } else {
                let code = le16(&reply, 0x14);
                seen.push((code, if code == 0x1c { u16::from(reply[0x1c + 0x0a]) } else { 0 }));
            }
        }
        let expected = [
            (0x16, 0),
            (0x1d, 0),
            (0x1d, 0),
            (0x1c, 0),
            (0x1c, 0),
            (0x1c, 0),
            (0x1c, 1),
            (0x1c, 3),
            (0x20, 0),
            (0x16, 0),
            (6, 0),
        ];
        assert_eq!(seen, expected, "{}", chip.name);
        host.bus.with_model(|model| {
            model.raise_device_status(0, DeviceStatus::Smart { asc: 0x5d, ascq: 0 });
            model.delete_volume(volume).expect("there is one");
        });
    }
}

#[test]
fn the_firmware_image_says_the_package_version() {
    for chip in [Chip::SAS3008, Chip::SAS3816] {
        let mut host = Host::operational(chip, 0);
        let mut frame = vec![0u8; 128];
        frame[0] = 1;
        frame[3] = 0x12;
        frame[0x1c..0x20].copy_from_slice(&256u32.to_le_bytes());
        frame[0x20..0x28].copy_from_slice(&host.at(DATA).to_le_bytes());
        frame[0x28..0x2c].copy_from_slice(&256u32.to_le_bytes());
        frame[0x2f] = 0x40;
        host.put_frame(6, &frame);
        host.post(6, 8, 0);
        let (_, reply) = host.reply().expect("a reply");
        assert_eq!((le16(&reply, 0x0e), le32(&reply, 0x14)), (0, 256));
        let image = host.get(DATA, 256);
        let new = le32(&image, 0) == 0xeb00_0042;
        let version = le32(&image, if new { 0x2c } else { 0x1c });
        assert_eq!((new, version.to_be_bytes()), (chip == Chip::SAS3816, chip.firmware));
    }
}

#[test]
fn a_command_that_waits_in_the_queue_can_be_aborted() {
    let mut host = Host::operational(Chip::SAS3008, 1);
    let disk = host.disk(0);
    let io = host.scsi_io(4, disk, &TEST_UNIT_READY, false, 0);
    host.put_frame(4, &io);
    let mut task = vec![0u8; 0x34];
    task[..2].copy_from_slice(&disk.to_le_bytes());
    task[3] = 1;
    task[5] = 1;
    task[0x30] = 4;
    host.put_frame(2, &task);
    // Both are there before the firmware looks.
    host.registers.write64(0xc0, 4 << 16 | u64::from(disk) << 48);
    host.registers.write64(0xc0, 6 | 2 << 16);
    host.run();
    let (word, ended) = host.reply().expect("the command's");
    assert_eq!((word >> 16 & 0xffff, ended[3], le16(&ended, 0x0e)), (4, 0, 0x48));
    let (_, reply) = host.reply().expect("the abort's");
    assert_eq!((reply[3], reply[4], le32(&reply, 0x14)), (1, 0, 1));
}

#[test]
fn a_phy_that_is_turned_off_takes_its_disk_along_and_brings_it_back() {
    let mut host = Host::operational(Chip::SAS2008, 2);
    host.give_frames(15);
    host.memory.write(FREE + 15 * 4, &(host.at(REPLIES + 15 * 128) as u32).to_le_bytes());
    for function in [7, 6] {
        let mut frame = vec![0u8; 128];
        frame[3] = function;
        host.put_frame(1, &frame);
        host.post(1, 8, 0);
        while host.reply().is_some() {}
        host.refill();
    }
    let disk = host.disk(1);
    let mut page = host.page(0x10, 1, 0).expect("SAS IO unit 1");
    let mut turn = |host: &mut Host, flags: u8| {
        page[0x14 + 12 + 2] = flags;
        host.memory.write(DATA, &page);
        assert_eq!(host.config(2, 0x10, 1, 0).0, 0);
        let (_, event) = host.reply().expect("an event");
        host.refill();
        assert_eq!((event[3], le16(&event, 0x14)), (7, 0x1c));
        // Handle, rates and what happened to the first phy.
        (le16(&event, 0x1c + 0x0c), event[0x1c + 0x0e], event[0x1c + 0x0f])
    };
    assert_eq!(turn(&mut host, 0x08), (disk, 0x0a, 2), "it does not respond");
    assert_eq!(le16(&host.scsi(disk, &TEST_UNIT_READY, false, 0), 0x0e), 0x43);
    assert_eq!(host.page(0x12, 0, 2 << 28 | u32::from(disk)), None);
    assert_eq!(host.list(0x12, 0, 0xffff, 0x18).len(), 1);
    let (again, rates, reason) = turn(&mut host, 0);
    assert_eq!((again != disk, rates, reason), (true, 0xa0, 1), "it has come");
    assert!(host.page(0x12, 0, 2 << 28 | u32::from(again)).is_some());
    assert_eq!(host.complaints(), 0);
}
